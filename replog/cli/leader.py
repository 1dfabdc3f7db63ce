"""Who leads, and having another lead: `leader show` and `leader move NODE`."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replog.cli import clusters, options, output
from replog.cli.exits import ExitCode, WrongUsage, leave
from replog.cli.options import ClusterOption, JsonOption, VerboseOption

if TYPE_CHECKING:
    from replog.config import ClusterConfig

HELP = """Show who leads, and have another server lead (Raft).

Requests wait while the leadership moves, and none is lost. [Ongaro14 3.10]

Example: replog leader move 2
"""


def add_to(app: typer.Typer) -> None:
    leader = typer.Typer(help=HELP, no_args_is_help=True)
    leader.command("show")(show)
    leader.command("move")(move)
    app.add_typer(leader, name="leader", rich_help_panel=options.OPERATE)


def show(cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Name the leader, or PBFT's primary, and its term or view. Exit code 1 if there is none.

    Example: replog leader show --json
    """
    from replog.config import ClusterConfig

    folder = clusters.running(cluster)
    config = ClusterConfig.load(folder)
    known = present(config)
    if json:
        output.as_json({"cluster": str(folder), "protocol": config.protocol, **known})
    else:
        output.line(in_words(config, known))
        if verbose:
            output.line(f"so say nodes {', '.join(map(str, known['said_by']))}")
    if known["leader"] is None:
        leave(ExitCode.NOT_AS_EXPECTED)


def present(config: ClusterConfig) -> dict[str, Any]:
    """Who leads, in which term or view, by whose word."""
    from replog.cli.state import current

    return leader_of(current(config)["replicas"], config.spec.view_word)


def leader_of(replicas: list[dict[str, Any]], view_word: str) -> dict[str, Any]:
    """As the replicas say that are in the highest term or view: of each their own word. `leader`: None if those know of
    none, or do not agree."""
    said = [one for one in replicas if one.get(view_word) is not None]
    latest = max((one[view_word] for one in said), default=None)
    words = [one for one in said if one[view_word] == latest and one.get("leader") is not None]
    named = {one["leader"] for one in words}
    leader = named.pop() if len(named) == 1 else None
    return {"leader": leader, view_word: latest, "said_by": [one["node"] for one in words if one["leader"] == leader]}


def in_words(config: ClusterConfig, known: dict[str, Any]) -> str:
    leader, view = known["leader"], known[config.spec.view_word]
    word = config.spec.leader_word
    if leader is None:
        return f"no {word}" + (f" in {config.spec.view_word} {view}" if view is not None else ": no replica answers")
    return f"node {leader} is {word} in {config.spec.view_word} {view}"


def move(
    node: Annotated[int, typer.Argument(metavar="NODE", help="Number of the server that is to lead.")],
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Have the leader hand over to another server (Raft only).

    It comes to nothing if that server does not catch up and stand within the longest election time-out, three times.

    Example: replog leader move 2
    """
    from replog.config import ClusterConfig

    folder = clusters.running(cluster)
    config = ClusterConfig.load(folder)
    check(config, node)
    known = present(config)
    if known["leader"] is None:
        output.remark(f"replog: {in_words(config, known)}: there is nothing to move; see replog status")
        leave(ExitCode.NOT_AS_EXPECTED)
    if known["leader"] != node:
        known = _moved(folder, known["leader"], node)
    if json:
        output.as_json({"cluster": str(folder), "leader": known["leader"], "term": known["term"]})
    else:
        output.line(in_words(config, known))


def check(config: ClusterConfig, node: int) -> None:
    """Raises WrongUsage for a server that does not vote, and where nobody can choose who leads."""
    from replog.cli.state import listed
    from replog.roster import Roster

    if config.spec.leader_word != "leader":
        word, view = config.spec.leader_word, config.spec.view_word
        raise WrongUsage(f"protocol = {config.protocol}: the {word} follows from the {view}, and nobody can choose it")
    voters = Roster(config).known.voters
    if node not in voters:
        raise WrongUsage(f"node = {node}: must be {listed(voters)}")


def _moved(folder: Path, leader: int, node: int) -> dict[str, Any]:
    """Through the process behind `replog up`, to which the leader listens."""
    from replog.cli import words

    return words.asked(words.place(folder), {"move": node, "leader": leader}, output.remark)
