"""`replog refresh`: have a replica start anew and prove its state, while the others serve."""

from __future__ import annotations

import json as json_
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from replog.cli import clusters, options, output, running
from replog.cli.exits import WrongUsage
from replog.cli.options import ClusterOption, JsonOption, VerboseOption
from replog.errors import NoCluster, ReplogError


class NotRefreshed(ReplogError):
    """The replica is not refreshed; the text says why."""


def add_to(app: typer.Typer) -> None:
    app.command("refresh", rich_help_panel=options.OPERATE)(refresh)


def refresh(
    node: Annotated[int, typer.Argument(metavar="NODE", help="Number of a replica.")],
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
        told = asked(_place(folder), node, output.remark)
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
    from replog.roster import Roster

    members = Roster(config).known.ids
    if node not in members:
        raise WrongUsage(f"node = {node}: must be {listed(members)}")
    if flaw := support(config):
        raise WrongUsage(flaw)


def _place(folder: Path) -> str:
    """Where the process behind `replog up` takes words. Raises NoCluster if there is none that does."""
    known = running.look(folder)
    if known is None:
        raise NoCluster(f"{folder}: its replicas run inside another program, which has to refresh them itself")
    if not known.get("serving"):
        raise NotRefreshed(f"{folder}: the cluster is still starting; try again when replog status shows it in sync")
    place = known.get("words")
    if not place:
        raise NotRefreshed(f"{folder}: replog up takes no words on this system; start it with --refresh-every instead")
    return str(place)


def asked(place: str, node: int, progress: Any) -> dict[str, Any]:
    """Ask for the refresh of `node` and wait for its end. Raises NotRefreshed."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.connect(place)
            link.sendall(json_.dumps({"refresh": node}).encode() + b"\n")
            with link.makefile("rb") as answers:
                for answer in answers:
                    line = json_.loads(answer)
                    if "done" in line:
                        return dict(line["done"])
                    if "error" in line:
                        raise NotRefreshed(line["error"])
                    progress(line["progress"])
    except OSError as error:
        raise NotRefreshed(f"the process behind replog up does not answer: {error.strerror or error}") from None
    raise NotRefreshed("the cluster was stopped meanwhile")


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
