"""The tree of commands, and how those of other packages join it.

An entry point of the group `replog.commands` names a function `join(app: typer.Typer) -> None` that adds its commands
to the application it is given, each with one of `options.PANELS` as `rich_help_panel`. It is called only when a command
is asked for that is not ours, or when all are listed. Our own names cannot be taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.metadata import version as version_of
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from replog.cli import (
    client,
    data,
    doctor,
    evidence,
    found,
    gateway,
    key,
    lab,
    leader,
    measure,
    member,
    options,
    output,
    refresh,
    service,
    snapshot,
    state,
)

UsageProblem = cast("type[Exception]", typer.BadParameter.__base__)
"""What typer raises for a wrong command line; the name by which it exports it differs between its versions."""

HELP = """A replicated log on two protocols behind one interface: PBFT, which stands liars, and Raft, which stands
crashes.

Begin with: replog up pbft --f 1, then in another terminal: replog kv put x 1, replog log, replog status.
"""


class Tree(TyperGroup):
    """Our commands at once, joined ones when they are needed."""

    joined = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._join()
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            _untyped(found, ctx)
        return found

    def get_params(self, ctx: Any) -> Any:
        return _without_types(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        self._join()
        return sorted(self.commands, key=self._place)

    def _place(self, name: str) -> int:
        panel = getattr(self.commands[name], "rich_help_panel", None)
        return options.PANELS.index(panel) if panel in options.PANELS else len(options.PANELS)

    def _join(self) -> None:
        if self.joined:
            return
        self.joined = True
        app = typer.Typer()
        for point in sorted(entry_points(group="replog.commands"), key=lambda point: point.name):
            try:
                point.load()(app)
            except (ImportError, AttributeError) as error:
                output.remark(f"replog: the commands of {point.name!r} ({point.value}) do not load: {error}")
        for name, command in get_group(app).commands.items():
            self.commands.setdefault(name, command)


def _untyped(command: Any, ctx: Any) -> None:
    """A flag's help says what it does, not that it is a <bool>. Paragraphs are broken where the terminal ends."""
    _without_types(command.get_params(ctx))
    command.help = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    for inner in getattr(command, "commands", {}).values():
        _untyped(inner, ctx)


def _without_types(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


def _version(asked: bool) -> None:
    if asked:
        output.line(f"replog {version_of('replog')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Nothing of its own: every command stands for itself."""


def command() -> Any:
    """The whole tree, ready to be called with a list of arguments."""
    app = typer.Typer(
        cls=Tree,
        help=HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_root)
    running, operating = (service, lab, state, data, leader), (refresh, found, key, client, gateway, member, snapshot)
    for module in (*running, *operating, evidence, doctor, measure):
        module.add_to(app)
    return get_command(app)


def one_line(error: Exception, arguments: Sequence[str]) -> str:
    """A usage error as one line that names value and rule, and the place where help is."""
    from replog.config import rule_of

    message = " ".join(str(getattr(error, "format_message", error.__str__)()).split()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else _asked(arguments)
    given = _given(getattr(getattr(error, "param", None), "opts", ()), arguments)
    rule = rule_of(getattr(error, "message", message)).rstrip(".")
    return f"{message if given is None else f'{given}: {rule}'} (see: {path} --help)"


def _asked(arguments: Sequence[str]) -> str:
    """The command that was meant, where the error does not know: `replog kv put`."""
    place, path = command(), "replog"
    for name in arguments:
        if name not in (place.list_commands(None) if hasattr(place, "list_commands") else ()):
            break
        place, path = place.commands[name], f"{path} {name}"
    return path


def _given(options: Sequence[str], arguments: Sequence[str]) -> str | None:
    """`--f = many`, for an option that is among the arguments with its value."""
    for option, value in zip(arguments, (*arguments[1:], ""), strict=False):
        name, equals, joined = option.partition("=")
        if name in options:
            return f"{name} = {joined if equals else value}"
    return None
