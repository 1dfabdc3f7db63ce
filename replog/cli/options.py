"""Options that mean the same on every command."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from replog.cli.exits import WrongUsage

ClusterOption = Annotated[
    Path | None,
    typer.Option(
        "--cluster",
        metavar="DIR",
        envvar="REPLOG_CLUSTER",
        help="Folder of the cluster.",
        show_default="./replog-PROTOCOL",
    ),
]


class Auth(enum.StrEnum):
    SIGNATURES = "signatures"
    MACS = "macs"


AuthOption = Annotated[
    Auth | None,
    typer.Option(help="PBFT: how requests and votes are authenticated.", show_default="signatures"),
]
RobustOption = Annotated[
    bool | None,
    typer.Option(
        "--robust/--no-robust",
        help="PBFT: stay useful under attack, against slow primaries, floods and bad clients.",
        show_default="robust",
    ),
]
CostModelOption = Annotated[
    Path | None,
    typer.Option(
        "--cost-model",
        metavar="FILE",
        help="Simulate the machine that `replog bench --calibrate` measured.",
        show_default="that of the package",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more, with tracebacks of errors.")]


def utf8(value: str) -> str:
    """Refuses an argument whose bytes are no UTF-8: keys and values are Unicode."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"{value!r} is not UTF-8") from None
    return value


DIGITS_MAX = 19


def number(least: int) -> Callable[[str], int]:
    """Reads an argument: typer's own words for what is no number do not name it."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < DIGITS_MAX) or int(text) < least:
            raise typer.BadParameter(f"{text!r:.40}: must be a whole number, {least} or more")
        return int(text)

    return read


NODE = number(0)


def a_number(value: float) -> float:
    """Refuses what compares with nothing, and so is within every range."""
    if math.isnan(value):
        raise typer.BadParameter("must be a number")
    return value


def writable(path: Path | None) -> Path | None:
    """Refuses, before there is anything to lose, a file that cannot be written in the end."""
    try:
        if path is not None and not path.exists():
            path.touch()
            path.unlink()
        elif path is not None:
            path.open("ab").close()
    except OSError as error:
        raise typer.BadParameter(f"cannot be written: {error.strerror}") from None
    return path


NO_CHOICE = "leaves no choice, its servers trust each other over authenticated links"


def protocol_options(protocol: str, auth: Auth | None, robust: bool | None) -> dict[str, Any]:
    """The protocol's own options for what was asked. Raises WrongUsage for a protocol that leaves no choice."""
    asked = {"auth": auth.value if auth is not None else None, "robust": robust}
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked:
        return {}
    from replog import protocols

    known = protocols.find(protocol).options({})
    for name, value in asked.items():
        if not hasattr(known, name):
            flag = f"--auth = {value}" if name == "auth" else "--robust" if value else "--no-robust"
            raise WrongUsage(f"{flag}: {protocol} {NO_CHOICE}")
    return asked


RUN = "Run"
COMPARE = "Compare"
LEARN = "Learn"
OPERATE = "Operate"
MEASURE = "Measure"
PANELS = (RUN, COMPARE, LEARN, OPERATE, MEASURE)
"""The panels of `replog --help`, in order; a joined command names one of them as its `rich_help_panel`."""
