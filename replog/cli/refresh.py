"""`replog refresh`: have a replica start anew and prove its state, while the others serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from replog.cli import clusters, options, output, words
from replog.cli.exits import WrongUsage
from replog.cli.options import ClusterOption, JsonOption, VerboseOption


def add_to(app: typer.Typer) -> None:
    app.command("refresh", rich_help_panel=options.OPERATE)(refresh)


def refresh(
    node: Annotated[int, typer.Argument(metavar="NODE", parser=options.NODE, help="Number of a replica.")],
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Start a replica anew and let it prove its state to the others' (PBFT only).

    What an intruder left in its memory, its state or its log is found and replaced; what it promised stays. Never more
    than f replicas are refreshed at once, and none while fewer than a quorum of others are in sync.

    Example: replog refresh 2
    """
    from replog.config import ClusterConfig

    folder = clusters.running(cluster)
    config = ClusterConfig.load(folder)
    _check(config, node)
    try:
        told = words.asked(_place(folder), {"refresh": node}, output.remark)
    except KeyboardInterrupt:
        output.remark(f"replog: not waiting any longer; a refresh that has begun goes on, see replog logs {node}")
        raise
    if json:
        output.as_json({"cluster": str(folder), **{name: told[name] for name in FIELDS}, "seconds": told["us"] / 1e6})
    else:
        from replog.cli.refreshing import in_words

        output.line(in_words(told))
        if verbose:
            output.line(f"pid {told['pid']}")


FIELDS = ("node", "pid", "index", "parts", "fetched", "dropped")
"""What is told with --json: `index` is the checkpoint that proves the state, `parts` are those of the state."""


def _check(config: Any, node: int) -> None:
    from replog.cli.refreshing import support
    from replog.cli.state import listed
    from replog.live.processes import is_local
    from replog.roster import Roster

    members = Roster(config).known.ids
    if node not in members:
        raise WrongUsage(f"node = {node}: must be {listed(members)}")
    if flaw := support(config):
        raise WrongUsage(flaw)
    if not is_local(config, node):
        there = f"python -m replog.live.node DIR/node-{node} --refresh"
        raise WrongUsage(f"node = {node}: is not of this machine; stop it where it runs, and start it with {there}")


def _place(folder: Path) -> str:
    return words.place(folder)


# --------------------------------------------------------------------------------------------------------- by the clock

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """`90s`, `10m`, `2h` as seconds."""
    try:
        value = float(text[:-1]) * UNITS[text[-1:]]
    except (ValueError, KeyError):
        raise typer.BadParameter(f"{text!r} is no time; write 90s, 10m or 2h") from None
    if not 1 <= value <= 365 * 86_400:
        raise typer.BadParameter(f"{text!r}: must be within 1s .. 8760h")
    return value


def check_protocol(protocol: str) -> None:
    """Raises WrongUsage, before anything is made, for a protocol whose replicas cannot be refreshed."""
    from replog import protocols
    from replog.cli.refreshing import NOT_SUPPORTED

    if protocol in protocols.names() and not hasattr(protocols.find(protocol).options({}), "refresh"):
        raise WrongUsage(f"--refresh-every: protocol = {protocol}: {NOT_SUPPORTED}")


def check_refreshes(config: Any, every_s: float) -> None:
    """Raises WrongUsage where replicas cannot be refreshed in turn so often."""
    from replog.cli.refreshing import SPACING_MIN_S, support

    if flaw := support(config):
        raise WrongUsage(f"--refresh-every: {flaw}")
    if every_s < SPACING_MIN_S * config.n:
        least = SPACING_MIN_S * config.n
        raise WrongUsage(f"--refresh-every = {every_s:g}s: {config.n} replicas in turn take {least:g}s at least")
