"""Run a cluster on this machine: `up`, `down`."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import enum
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replog.cli import clusters, options, output, running
from replog.cli.exits import WrongUsage
from replog.cli.options import AuthOption, ClusterOption, JsonOption, RobustOption, VerboseOption
from replog.cli.refresh import check_protocol, check_refreshes, seconds

if TYPE_CHECKING:
    from replog.config import ClusterConfig

HOST = "127.0.0.1"
PORT = 4700
OWN_FILES = (
    *(".new-*", "node-*", "client-*", "admin", "ca.*", clusters.IDENTITIES, "members.json"),
    *("running.*", running.LOCK, "up.log", "lab", clusters.FILE),
)
"""What `--fresh` removes, the file that makes it a cluster last; anything else makes the folder foreign."""


CLIENTS = ("gateway", "cli", *(f"cli-{number}" for number in range(2, 9)))
"""Who may connect to a new cluster: the gateway, and as many commands at a time."""


class Durability(enum.StrEnum):
    ALWAYS = "always"
    PERIODIC = "periodic"
    MEMORY = "memory"


def add_to(app: typer.Typer) -> None:
    app.command("up", rich_help_panel=options.RUN)(up)
    app.command("down", rich_help_panel=options.RUN)(down)


def up(
    protocol: Annotated[str, typer.Argument(help="pbft, raft, or another installed protocol.")],
    f: Annotated[int | None, typer.Option("--f", help="Faults to stand.", show_default="1")] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Number of replicas.", show_default="the least that stands f faults")
    ] = None,
    app: Annotated[
        str | None, typer.Option(metavar="FILE.py:CLASS", help="The application.", show_default="a key-value store")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="First replica's port, the next ones follow; the gateway is 100 above.", show_default="4700"),
    ] = None,
    durability: Annotated[
        Durability | None, typer.Option(help="When a promise is on disk.", show_default="always")
    ] = None,
    auth: AuthOption = None,
    robust: RobustOption = None,
    lab: Annotated[bool, typer.Option("--lab", help="Allow attacks and faults to be let in.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what the folder's cluster has stored.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it serves; end it with replog down.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Start a replica again that dies.")] = False,
    refresh_every: Annotated[
        float | None,
        typer.Option(
            metavar="TIME", parser=seconds, help="Refresh each replica once in this time, in turn (PBFT): 90s, 10m, 2h."
        ),
    ] = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Start a cluster of real processes and wait until it serves. Ctrl-C stops it.

    A folder that holds a cluster already is resumed as it was made.

    Example: replog up pbft --f 1
    """
    import asyncio

    from replog.cli import supervisor
    from replog.live.processes import local_members

    folder = clusters.folder_for(cluster, protocol)
    wanted = {
        "f": f,
        "n": replicas,
        "app": app,
        "port": port,
        "durability": durability.value if durability is not None else None,
        "auth": None,
        "robust": None,
        **options.protocol_options(protocol, auth, robust),
        "lab": lab or None,
    }
    if refresh_every is not None:
        check_protocol(protocol)
    if (folder / clusters.HOST_FILE).is_file():
        raise WrongUsage(f"{folder}: is of a cluster over several hosts; run it with {clusters.start(folder)}")
    config = prepare(folder, protocol, wanted, fresh=fresh)
    if refresh_every is not None:
        check_refreshes(config, refresh_every)
    output.remark(f"starting {counted(len(local_members(config)))} of {config.protocol} in {folder}")

    def announce(known: dict[str, Any]) -> None:
        _announce(folder, config, known, json=json, stays=detach)

    if detach:
        announce(supervisor.detached(folder, protocol, restart=restart, refresh_every=refresh_every))
    else:
        asyncio.run(supervisor.serve(config, announce, restart=restart, refresh_every=refresh_every))


def down(cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Stop a running cluster; what it has stored stays.

    Example: replog down
    """
    from replog.cli import supervisor

    folder = clusters.running(cluster)
    known = supervisor.stop(folder)
    if json:
        output.as_json({"cluster": str(folder), "stopped": known["nodes"]})
    else:
        ran = sum(node["pid"] is not None for node in known["nodes"])
        output.line(f"stopped {counted(ran)} of {folder}{'' if known['serving'] else ', which was starting'}")


# ----------------------------------------------------------------------------------------------------- the folder


def prepare(folder: Path, protocol: str, wanted: dict[str, Any], *, fresh: bool) -> ClusterConfig:
    """The cluster in `folder`, made now if there is none. `wanted`: None for what was not asked for.

    Nothing is made or thrown away before all that was asked for is known to be possible. Raises ConfigError for a
    folder of something else, or of a cluster that was made otherwise.
    """
    from replog.cli import supervisor
    from replog.config import ClusterConfig
    from replog.live.gateway_process import gateway_port
    from replog.live.processes import runs_here
    from replog.roster import Roster

    exists = (folder / clusters.FILE).exists()
    if not exists or fresh:
        return _new(folder, protocol, {name: value for name, value in wanted.items() if value is not None}, exists)
    config = ClusterConfig.load(folder)
    _check_same(folder, config, {"protocol": protocol, **wanted})
    supervisor.check_idle(folder)
    for member in Roster(config).members:
        if member.id < config.n or runs_here(config, member):
            supervisor.check_ports(folder, member.host, [member.port])
    supervisor.check_ports(folder, config.nodes[0].host, [gateway_port(config)])
    return config


def _new(folder: Path, protocol: str, asked: dict[str, Any], exists: bool) -> ClusterConfig:
    from replog.cli import supervisor
    from replog.config import create_cluster
    from replog.live.gateway_process import PORT_OFFSET

    if exists:
        _check_disposable(folder)
    port = asked.setdefault("port", PORT)
    n = _check_size(protocol, port, asked)
    if "app" in asked:
        _check_app(asked["app"])
    supervisor.check_ports(folder, HOST, [*range(port, port + n), port + PORT_OFFSET])
    if exists:
        _throw_away(folder)
    own: dict[str, Any] = {name: asked.pop(name) for name in ("auth", "robust") if name in asked}
    return create_cluster(folder, protocol, host=HOST, clients=CLIENTS, options=own, **asked)


def _check_size(protocol: str, port: int, asked: dict[str, Any]) -> int:
    """The number of replicas, if there is room for as many."""
    from replog import protocols
    from replog.config import PORT_MAX, size_of
    from replog.live.gateway_process import PORT_OFFSET

    above = f"the gateway listens {PORT_OFFSET} above the first replica"
    n, f = size_of(protocol, asked.get("n"), asked.get("f"))
    if n > PORT_OFFSET:
        raise WrongUsage(f"n = {n}: must be at most {PORT_OFFSET}, {above}")
    if not 1 <= port <= PORT_MAX - PORT_OFFSET:
        raise WrongUsage(f"--port = {port}: must be within 1 .. {PORT_MAX - PORT_OFFSET}, {above}")
    if f == 0 and "f" not in asked and (least := protocols.find(protocol).replicas(1)) > n:
        output.remark(f"--replicas = {n}: stands 0 faults of {protocol}; the least that stands one is {least}")
    return n


def _check_app(app: str) -> None:
    """Run the user's file once and make one of its class, where an error in it can be told from one of ours."""
    from replog.config import load_app
    from replog.errors import ConfigError

    machine = load_app(app)
    try:
        machine()
    except ConfigError:
        raise
    except Exception as error:  # the user's code, whatever it raises
        told = f"{type(error).__name__}: {output.named(str(error), 300)}"
        raise WrongUsage(f"--app = {app}: it cannot be made: {told}") from error


def _check_same(folder: Path, config: ClusterConfig, wanted: dict[str, Any]) -> None:
    from replog.config import absolute_app

    made = {
        "protocol": config.protocol,
        "f": config.f,
        "n": config.n,
        "app": config.app,
        "port": config.nodes[0].port,
        "durability": config.durability,
        "auth": config.auth,
        "robust": config.robust,
        "lab": config.lab,
    }
    if wanted["app"] is not None:
        wanted = {**wanted, "app": absolute_app(wanted["app"])}
    for name, value in wanted.items():
        if value is not None and value != made[name]:
            rule = f"was made with {_word(made[name])}; use another --cluster, or --fresh to lose it"
            raise WrongUsage(f"{name} = {_word(value)}: the cluster in {folder} {rule}")


def _word(value: object) -> object:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _check_disposable(folder: Path) -> None:
    if running.look(folder) is not None:
        raise WrongUsage(f"--fresh: the cluster in {folder} is running; stop it first with replog down")
    ours = {path for pattern in OWN_FILES for path in folder.glob(pattern)}
    if strange := sorted(path.name for path in set(folder.iterdir()) - ours):
        raise WrongUsage(
            f"--fresh: {folder} also holds {strange[0]!r}, which is not the cluster's; nothing was removed"
        )


def _throw_away(folder: Path) -> None:
    for pattern in OWN_FILES:
        for path in sorted(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


# ----------------------------------------------------------------------------------------------------------- the word


def _announce(folder: Path, config: ClusterConfig, known: dict[str, Any], *, json: bool, stays: bool) -> None:
    if json:
        output.as_json({"cluster": str(folder), **known})
        return
    nodes = known["nodes"]
    rows = [(node["node"], node["pid"] or "-", node["address"], node["role"], _history(node)) for node in nodes]
    gateway = known["gateway"]
    output.table(
        ("node", "pid", "address", "role", "state"), [*rows, ("-", gateway["pid"], gateway["address"], "gateway", "")]
    )
    output.line("\nTry next:")
    for command in _try_next(folder, config, gateway["address"].replace("127.0.0.1", "localhost")):
        output.line(f"  {command}")
    if not stays and sys.stdin.isatty():
        output.remark("\nCtrl-C stops it.")


def counted(replicas: int) -> str:
    return f"{replicas} replica{'' if replicas == 1 else 's'}"


def _history(node: dict[str, Any]) -> str:
    if node["pid"] is None:
        return f"ended, see replog logs {node['node']}"
    return f"resumed, index {node['index']}" if node["resumed"] else "new"


def _try_next(folder: Path, config: ClusterConfig, address: str) -> list[str]:
    """Three commands that work as they stand, from where the user is."""
    named = "" if folder in clusters.here() else f" --cluster {folder}"
    if config.app_name == "kv":
        return [
            f"replog kv put x 1{named}",
            f"curl {address.replace('127.0.0.1', 'localhost')}/kv/x",
            f"replog status{named}",
        ]
    reading = [method for method in config.machine().describe() if method.reads and not method.parameters]
    first = f"replog call {reading[0].name}{named}" if reading else f"replog call METHOD ARG...{named}"
    return [first, f"curl {address}/openapi.json", f"replog status{named}"]
