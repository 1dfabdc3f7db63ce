"""Talk to the service: `kv`, `call`, and the replicated log itself."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from replog.cli import clusters, options, output
from replog.cli.exits import ExitCode, WrongUsage, leave
from replog.cli.options import ClusterOption, JsonOption, VerboseOption
from replog.errors import Compacted, ConfigError, NoCluster, NotLetIn, OutcomeUnknown

if TYPE_CHECKING:
    from replog.config import ClusterConfig
    from replog.interface import Entry, Result
    from replog.live.client import LogClient
    from replog.statemachine import Method

GATEWAY = "gateway"  # replog.host.GATEWAY
AS = "REPLOG_CLIENT"
"""The environment's word for the client that commands speak as."""
CLIENTS = "cli"
"""Names of clients that begin so are the command's own: one process at a time uses a name, several commands may run."""
KV_HELP = """Use the key-value service.

Example: replog kv put x 1
"""
KEY_VALUE = ("get", "put", "delete", "cas", "scan")

StaleOption = Annotated[
    bool, typer.Option("--stale", help="An old state will do: any one replica of Raft answers. PBFT reads as ever.")
]
T = TypeVar("T")
Key = Annotated[str, typer.Argument(metavar="KEY", callback=options.utf8)]
Value = Annotated[str, typer.Argument(metavar="VALUE", callback=options.utf8)]


def add_to(app: typer.Typer) -> None:
    kv = typer.Typer(help=KV_HELP, no_args_is_help=True)
    for name, command in (("put", put), ("get", get), ("delete", delete), ("cas", cas), ("scan", scan)):
        kv.command(name)(command)
    app.add_typer(kv, name="kv", rich_help_panel=options.RUN)
    negative_numbers = {"ignore_unknown_options": True}
    app.command("call", rich_help_panel=options.RUN, context_settings=negative_numbers)(call)
    app.command("log", rich_help_panel=options.RUN)(log)


# --------------------------------------------------------------------------------------------------- key-value service


def put(
    key: Key, value: Value, cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Set KEY to VALUE.

    Example: replog kv put x 1
    """
    _show(_kv(cluster, "put", key, value), json, lambda result: _where(result))


def get(
    key: Key,
    stale: StaleOption = False,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Print the value of KEY; exit code 1 if it has none.

    Example: replog kv get x

    On a terminal, characters that would move the cursor or not show are escaped; into a pipe the value goes as it is.
    """
    result = _kv(cluster, "get", key, stale=stale)
    if result.value is None and not json:
        output.remark(f"replog: {output.named(key)} has no value")
    else:
        _show(result, json, lambda result: _shown(result.value))
    if result.value is None:
        leave(ExitCode.NOT_AS_EXPECTED)


def delete(key: Key, cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Forget KEY; exit code 1 if it had no value.

    Example: replog kv delete x
    """
    result = _kv(cluster, "delete", key)
    _show(result, json, lambda result: _where(result) if result.value else f"{output.named(key)} had no value")
    if not result.value:
        leave(ExitCode.NOT_AS_EXPECTED)


def cas(
    key: Key,
    expected: Annotated[str, typer.Argument(metavar="EXPECTED", callback=options.utf8)],
    value: Value,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Set KEY to VALUE if it holds EXPECTED; exit code 1 if it does not.

    Example: replog kv cas x 1 2
    """
    result = _kv(cluster, "cas", key, expected, value)
    otherwise = f"{output.named(key)} does not hold {output.named(expected)}"
    _show(result, json, lambda result: _where(result) if result.value else otherwise)
    if not result.value:
        leave(ExitCode.NOT_AS_EXPECTED)


def scan(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", callback=options.utf8)] = "",
    stale: StaleOption = False,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List keys that begin with PREFIX, and their values.

    Example: replog kv scan user/

    Characters that would move the cursor, end the line or not show are escaped; --json is exact.
    """
    result = _kv(cluster, "scan", prefix, stale=stale)
    if json:
        _show(result, json, _where)
    else:
        output.table(("key", "value"), [[output.visible(text) for text in pair] for pair in _pairs(result.value)])


def _kv(cluster: Path | None, name: str, *arguments: str, stale: bool = False) -> Result:
    config, folder = _running(cluster)
    methods = [method.name for method in config.machine().describe()]
    if any(method not in methods for method in KEY_VALUE):
        known = ", ".join(methods)
        rule = f"use replog call with one of {known}"
        raise WrongUsage(f"kv: this cluster runs {config.app_name}, not a key-value store; {rule}")
    return asked(folder, lambda client: client.ask(name, *arguments, stale=stale))


def _pairs(value: Any) -> list[Any]:
    return list(value.items()) if isinstance(value, dict) else list(value)


# ------------------------------------------------------------------------------------------------- any application


def call(
    method: Annotated[str, typer.Argument(metavar="METHOD")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARG")] = None,
    stale: StaleOption = False,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Call a method of the application.

    Example: replog call transfer ann bob 5

    Arguments are JSON where they parse and the declared type takes them, else text.
    """
    from replog.live.arguments import of_texts

    config, folder = _running(cluster)
    known = _method(config, method)
    if stale and not known.reads:
        raise WrongUsage(f"--stale: {method} is a command, and only a query may read an old state")
    given = of_texts(known, arguments or [])
    result = asked(folder, lambda client: client.ask(method, *given, stale=stale))
    _show(result, json, lambda result: _shown(result.value))


def _method(config: ClusterConfig, name: str) -> Method:
    methods = {method.name: method for method in config.machine().describe()}
    if name not in methods:
        known = "; ".join(method.signature for method in methods.values())
        raise WrongUsage(f"method = {name!r}: {config.app_name} has no such method; it has {known}")
    return methods[name]


# -------------------------------------------------------------------------------------------------- the replicated log


def log(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new entries until Ctrl-C.")] = False,
    first: Annotated[
        int | None, typer.Option("--from", metavar="N", min=1, help="The first index to show; else the first one kept.")
    ] = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Print the replicated log: what was agreed, in order.

    Example: replog log --from 100 --follow

    One line an index; null requests and no-ops are left out unless -v is given.
    """
    _, folder = _running(cluster)

    async def show(client: LogClient, begin: int) -> None:
        entry = None
        async for entry in client.log(begin, follow=follow):
            for shown in _lines(entry, verbose, json):
                output.line(shown)
        if entry is None:
            output.remark("the log is empty" if first is None else f"--from = {first}: the log ends before that")

    async def read(client: LogClient) -> None:
        try:
            await show(client, first or 1)
        except Compacted as error:
            if first is not None:
                raise ConfigError(f"--from = {first}: {error}") from None
            output.remark(f"{error}; what was before it is in the state")
            await show(client, error.first)

    try:
        asked(folder, read)
    except KeyboardInterrupt:
        if not follow:
            raise


def _lines(entry: Entry, verbose: bool, json: bool) -> list[str]:
    import json as json_

    import msgspec

    calls = [
        (request.client, request.timestamp, *_operation(msgspec.msgpack.decode, operation))
        for request in entry.requests
        for operation in request.operations
    ]
    if not calls and not verbose:
        return []
    if json:
        shown = [{"client": who, "timestamp": stamp, "method": name, "args": args} for who, stamp, name, args in calls]
        value = {"index": entry.index, "time": entry.time, "operations": shown}
        return [json_.dumps(value, default=output.plain)]
    if not calls:
        return [f"{entry.index}\t-\t(nothing)"]
    return [f"{entry.index}\t{who}\t{output.visible(name)}({_arguments(args)})" for who, _, name, args in calls]


def _operation(decode: Callable[[bytes], Any], operation: bytes) -> tuple[str, list[Any]]:
    """Method and arguments of an encoded operation. A client may have ordered any bytes: those are shown as hex."""
    import msgspec

    try:
        name, *arguments = decode(operation)
    except (msgspec.MsgspecError, TypeError, ValueError):
        return "undecodable", [operation.hex()]
    return str(name), arguments


def _arguments(arguments: list[Any]) -> str:
    import json

    return ", ".join(json.dumps(argument, default=output.plain) for argument in arguments)


# --------------------------------------------------------------------------------------------------------- connection


def _running(cluster: Path | None) -> tuple[ClusterConfig, Path]:
    from replog.config import ClusterConfig

    folder = clusters.running(cluster)
    return ClusterConfig.load(folder), folder


def asked(folder: Path, ask: Callable[[LogClient], Coroutine[Any, Any, T]]) -> T:
    """One conversation with the cluster under one of the command's own keys."""
    import asyncio

    from replog.config import ClusterConfig
    from replog.live.client import LogClient

    config = ClusterConfig.load(folder)

    async def talk() -> T:
        async with LogClient(config, free_name(config)) as client:
            return await ask(client)

    try:
        return asyncio.run(talk())
    except NotLetIn:
        raise
    except (OutcomeUnknown, NoCluster) as error:
        raise type(error)(f"{error}; {advice(error, folder)}") from None


def advice(error: OutcomeUnknown | NoCluster, folder: Path) -> str:
    """What to do when too few replicas answer, or none."""
    if isinstance(error, OutcomeUnknown):
        return f"replog status{clusters.named(folder)} tells who answers"
    return f"to begin again: replog down{clusters.named(folder)}, then {clusters.start(folder)}"


def free_name(config: ClusterConfig) -> str:
    """Whom the command speaks as: the client that REPLOG_CLIENT names; else the first of its own that no other process
    uses now; else the one whose keys are here."""
    from replog.live.locks import holder

    if chosen := os.environ.get(AS):
        return chosen
    names = commands_clients(config)
    if not names:
        rule = "name the administrator's folder, or one that replog client add has made"
        raise WrongUsage(f"{config.folder}: holds the keys of no client that commands could speak as; {rule}")
    return next((name for name in names if holder(config.client_folder(name)) is None), names[0])


def commands_clients(config: ClusterConfig) -> list[str]:
    """Clients whose keys are in this folder: the command's own, or else whoever's it is. A gateway's are its own."""
    here = sorted(path.name.removeprefix("client-") for path in config.folder.glob("client-*"))
    own = [name for name in here if name.startswith(CLIENTS)]
    return own or [name for name in here if not name.startswith(GATEWAY)]


def _show(result: Result, json: bool, text: Callable[[Result], str]) -> None:
    if not json:
        output.line(text(result))
        return
    known = {"value": result.value, "index": result.index, "position": result.position}
    output.as_json({**known, "vouchers": list(result.vouchers)})


def _shown(value: Any) -> str:
    """A value for a person on a terminal, or as it is for a program."""
    text = output.text_of(value)
    return output.visible(text, keep="\n") if sys.stdout.isatty() else text


def _where(result: Result) -> str:
    return f"index {result.index}, vouched for by {', '.join(f'node {node}' for node in result.vouchers)}"
