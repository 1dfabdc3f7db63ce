"""How the cluster is: `status`, and each node's diagnostics with `logs`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replog.cli import clusters, lab, options, output, running
from replog.cli.data import asked
from replog.cli.exits import ExitCode, WrongUsage, leave
from replog.cli.options import ClusterOption, JsonOption, VerboseOption
from replog.errors import NoCluster

if TYPE_CHECKING:
    from replog.config import ClusterConfig
    from replog.live.client import LogClient

LINK_S = 1.0
"""How long a replica whose process runs may take to let the command in before it counts as silent."""


def add_to(app: typer.Typer) -> None:
    app.command("status", rich_help_panel=options.RUN)(status)
    app.command("logs", rich_help_panel=options.RUN)(logs)


def status(cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Show every replica, each in its own words, and the cluster in one sentence.

    Exit code 1 without a quorum.

    Example: replog status --json
    """
    from replog.config import ClusterConfig

    folder = clusters.running(cluster)
    config = ClusterConfig.load(folder)
    report, known = current(config), running.look(folder) or {}
    if json:
        told = {"lab": known["lab"]} if known.get("lab") else {}
        output.as_json({"cluster": str(folder), **report, **told})
    else:
        output.table(*rows_of(config, report, verbose))
        output.line(settings(report))
        output.line(report["sentence"])
        if known.get("lab"):
            output.line(lab.in_words(known["lab"]))
        for hint in hints(folder, report):
            output.remark(hint)
    if not report["has_quorum"]:
        leave(ExitCode.NOT_AS_EXPECTED)


def hints(folder: Path, report: dict[str, Any]) -> list[str]:
    """What to do about replicas whose processes have ended, or whose certificates are about to."""
    from replog.live.report import ending

    named = clusters.named(folder)
    where = " on its host" if clusters.on_hosts(folder) else named
    soon = [
        f"the certificate of node {node} ends in {days:.0f} days, then it has no links: replog key rotate{where}"
        for node, days in ending(report, time.time()).items()
    ]
    ended = [replica["node"] for replica in report["replicas"] if replica["role"] == "down"]
    if not ended:
        return soon
    node, named = ended[0], clusters.named(folder)
    return [*soon, f"why node {node} ended: replog logs {node}{named}; to start it again: replog start {node}{named}"]


def current(config: ClusterConfig) -> dict[str, Any]:
    """Ask every replica, now."""
    from replog.interface import Said
    from replog.live.processes import LocalProcesses
    from replog.live.report import report
    from replog.roster import Roster

    pids = LocalProcesses(config).pids()

    async def ask(client: LogClient) -> dict[str, Any]:
        with contextlib.suppress(NoCluster):
            await client.wait_connected(len(pids) or client.members.n, LINK_S)
        said = await client.status()
        return report(config, said, pids, client.members, client.places)

    try:
        return asked(config.folder, ask)
    except NoCluster:
        members = Roster(config).known
        return report(config, [Said(node, None) for node in members.ids], pids, members)


def settings(report: dict[str, Any]) -> str:
    """What the cluster was made with, as far as it says what its answers are worth."""
    from replog.storage import RISKS

    size = f"{report['protocol']}, n = {report['n']}, f = {report['f']}"
    if report["epoch"] or report["pending"]:
        then = f"; {report['pending']}" if report["pending"] else ""
        size += f", epoch {report['epoch']} of members {', '.join(map(str, report['members']))}{then}"
    made = f"{size}, authenticated by {report['auth']}{_robust(report['robust'])}, durability {report['durability']}"
    if risk := RISKS.get(report["durability"]):
        made += f" ({risk})"
    paused = [replica["node"] for replica in report["replicas"] if replica.get("detail", {}).get("paused")]
    return f"{made}; paused, replog member resume ends that" if paused else made


def _robust(robust: bool | list[str] | None) -> str:
    """None: a protocol that knows nothing of it."""
    if isinstance(robust, list) and robust:
        return f", robust by {', '.join(robust)}"
    return "" if robust is None else ", robust" if robust else ", not robust"


def rows_of(config: ClusterConfig, report: dict[str, Any], verbose: bool) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of the table of `status`."""
    word = config.spec.view_word
    names = ["node", "pid", "address", "role", word, "last_index", "stable_index", "in_sync"]
    rows = [[_cell(replica.get(name)) for name in names] for replica in report["replicas"]]
    columns = [name.replace("_", " ") for name in names]
    if verbose:
        columns.append("detail")
        for row, replica in zip(rows, report["replicas"], strict=True):
            row.append(" ".join(f"{key}={value}" for key, value in replica.get("detail", {}).items()))
    return columns, rows


def _cell(value: Any) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else value


def logs(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Number of a replica, or gateway.")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 100,
    cluster: ClusterOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Print a node's diagnostics: what its process had to say.

    Example: replog logs 0

    The whole is in a file of the node's folder.
    """
    from replog.config import ClusterConfig

    path = _diagnostics(ClusterConfig.load(clusters.known(cluster)), node)
    if verbose:
        output.remark(str(path))
    if path.is_file():
        for text in path.read_text(errors="replace").splitlines()[-lines:]:
            output.line(text)
    else:
        output.remark(f"replog: {path}: nothing was said yet")


def _diagnostics(config: ClusterConfig, node: str) -> Path:
    if node == "gateway":
        return config.client_folder("gateway") / "gateway.log"
    from replog.enrolment import enrolled

    known = enrolled(config)
    if not node.isdecimal() or int(node) not in known:
        raise WrongUsage(f"node = {node!r}: must be {listed(known)} or gateway")
    return config.node_folder(int(node)) / "node.log"


def listed(nodes: Sequence[int]) -> str:
    """`0 .. 3`, or `0, 1, 3, 4` where some are missing."""
    whole = len(nodes) > 1 and list(nodes) == list(range(nodes[0], nodes[-1] + 1))
    return f"{nodes[0]} .. {nodes[-1]}" if whole else ", ".join(map(str, nodes))
