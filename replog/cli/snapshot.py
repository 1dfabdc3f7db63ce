"""`replog snapshot`: have servers of Raft take a snapshot now, as they do by themselves by size and by age.

Here: saying so to the process behind `replog up`, and waiting until it is on their disks. Not here: what a snapshot
holds and what it lets the log forget (`raft.machine`).
"""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from replog.cli import clusters, options, output
from replog.cli.exits import WrongUsage
from replog.cli.options import ClusterOption, JsonOption, VerboseOption

if TYPE_CHECKING:
    from replog.config import ClusterConfig

WAIT_S: Final = 30.0
EVERY_S: Final = 0.1


def add_to(app: typer.Typer) -> None:
    app.command("snapshot", rich_help_panel=options.OPERATE)(snapshot)


def snapshot(
    nodes: Annotated[
        list[int] | None,
        typer.Argument(metavar="NODE...", parser=options.NODE, help="Numbers of servers.", show_default="all"),
    ] = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Have servers take a snapshot now, and wait until it is on their disks (Raft).

    What it holds their logs need not keep, but for log_tail entries. Each takes its own, while writes go on.

    Example: replog snapshot 0 1
    """
    from replog.cli import words
    from replog.config import ClusterConfig

    folder = clusters.running(cluster)
    config = ClusterConfig.load(folder)
    if config.spec.name != "raft":
        raise WrongUsage(f"protocol = {config.protocol}: its checkpoints are agreed upon, and nobody asks for one")
    least = _applied(config, nodes or [])
    words.asked(words.place(folder), {"snapshot": sorted(least)}, output.remark)
    held = _until(config, least)
    if json:
        output.as_json({"cluster": str(folder), "snapshots": [{"node": n, "index": held[n]} for n in sorted(held)]})
    else:
        output.table(("node", "snapshot at index"), [(node, held[node]) for node in sorted(held)])


def _applied(config: ClusterConfig, nodes: list[int]) -> dict[int, int]:
    """Which servers are to take one, and how far each has got. Raises WrongUsage for one that does not run here."""
    from replog.cli.state import current, listed

    replicas = current(config)["replicas"]
    here = {one["node"]: one["last_index"] or 0 for one in replicas if one.get("pid") is not None}
    if strange := sorted(set(nodes) - here.keys()):
        raise WrongUsage(f"node = {strange[0]}: must be one that runs here, {listed(sorted(here))}")
    return {node: here[node] for node in nodes or here}


def _until(config: ClusterConfig, least: dict[int, int]) -> dict[int, int]:
    """The index of each one's snapshot, once it is what was asked for. Raises NotDone after WAIT_S."""
    from replog.cli.state import current
    from replog.cli.words import NotDone

    end = time.monotonic() + WAIT_S
    while True:
        told = {one["node"]: one["stable_index"] or 0 for one in current(config)["replicas"] if one["node"] in least}
        late = [node for node, index in sorted(least.items()) if told.get(node, 0) < index]
        if not late:
            return told
        if time.monotonic() > end:
            raise NotDone(f"node {', '.join(map(str, late))} has no new snapshot after {WAIT_S:g} s; see replog logs")
        time.sleep(EVERY_S)
