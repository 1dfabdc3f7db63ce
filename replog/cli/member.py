"""Who the replicas are, and changes of that: `member list`, `add`, `remove`, `replace`, `promote` and `faults`.
`give-up` of a change. Also `pause` and `resume` (`replog.cli.pausing`)."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replog.cli import clusters, options, output, pausing
from replog.cli.data import asked
from replog.cli.exits import WrongUsage
from replog.cli.options import ClusterOption, JsonOption, VerboseOption

if TYPE_CHECKING:
    from replog.config import ClusterConfig
    from replog.live.administration import Wish
    from replog.membership import Configuration

HELP = """Show and change the members of a cluster.

A change is a command in the log, signed with the administrator's key. It takes effect at a checkpoint (PBFT), or by
joint consensus once those who come have caught up (Raft); until then the present members go on.

Example: replog member replace 2
"""
NODES_MAX = 64
"""So many at once."""
PORT_MAX = 65535  # as replog.config has it; that module takes a tenth of a second to load

HostOption = Annotated[str, typer.Option("--host", help="Where the new replica listens.")]
PortOption = Annotated[
    int, typer.Option("--port", min=0, max=PORT_MAX, help="Its port.", show_default="one that is free")
]
FaultsOption = Annotated[
    int | None, typer.Option("--f", min=0, help="Faults to stand from then on.", show_default="as before")
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", metavar="DIR", help="Folder of the administrator's key.pem.", show_default="DIR/admin"),
]
WaitOption = Annotated[
    float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait until it is in effect.")
]
LOCAL = "127.0.0.1"
WAIT_S = 60.0


def add_to(app: typer.Typer) -> None:
    member = typer.Typer(help=HELP, no_args_is_help=True)
    member.command("list")(list_)
    for name, command in (("add", add), ("remove", remove), ("replace", replace)):
        member.command(name)(command)
    member.command("promote")(promote)
    member.command("faults")(faults)
    member.command("pause")(pausing.pause)
    member.command("resume")(pausing.resume)
    member.command("give-up")(give_up)
    app.add_typer(member, name="member", rich_help_panel=options.OPERATE)


def list_(cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Show the members, their epoch, and a change under way.

    Example: replog member list
    """
    from replog.cli.state import current
    from replog.config import ClusterConfig
    from replog.roster import Roster

    folder = clusters.running(cluster)
    config = ClusterConfig.load(folder)
    _check(config)
    report = current(config)
    known = Roster(config).known
    rows = [_row(report, member, known.ids) for member in Roster(config).members]
    if json:
        shown = {name: report[name] for name in ("epoch", "n", "f", "pending")}
        output.as_json({"cluster": str(folder), **shown, "first_index": known.first, "members": rows})
        return
    columns = ("node", "address", "role", "in_sync", *(("public_key",) if verbose else ()))
    output.table([name.replace("_", " ") for name in columns], [[_cell(row[name]) for name in columns] for row in rows])
    output.line(in_words(known))
    if report["pending"]:
        output.line(f"a change is under way: {report['pending']}")
    if waits := [replica["detail"]["newcomers"] for replica in report["replicas"] if _waits(replica)]:
        output.line(f"waits for those who come: {waits[0]}; replog member give-up{clusters.named(folder)} ends that")


def _row(report: dict[str, Any], member: Any, present: Sequence[int]) -> dict[str, Any]:
    said: dict[str, Any] = next((replica for replica in report["replicas"] if replica["node"] == member.id), {})
    role = said.get("role", "silent")
    return {
        "node": member.id,
        "address": f"{member.host}:{member.port}",
        "role": role if member.id in present else f"joins: {role}",
        "in_sync": said.get("in_sync", False),
        "public_key": member.public_key.hex(),
    }


def _waits(replica: dict[str, Any]) -> bool:
    """Whether it leads and waits for those who come."""
    return bool(replica.get("detail", {}).get("newcomers"))


def _cell(value: Any) -> object:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def add(
    count: Annotated[int, typer.Option("--count", min=1, max=NODES_MAX, help="How many.")] = 1,
    f: FaultsOption = None,
    learner: Annotated[bool, typer.Option("--learner", help="They follow and do not vote (Raft).")] = False,
    host: HostOption = LOCAL,
    port: PortOption = 0,
    key: KeyOption = None,
    wait: WaitOption = WAIT_S,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Add replicas; a running replog up starts them.

    Under PBFT those who are there already have to be enough to go on alone: to stand f = 2, which takes 7 replicas, add
    two, then one with --f 2. In Raft the new ones vote as soon as they have caught up, unless told otherwise.

    Example: replog member add --count 2
    """
    from replog.live.administration import Wish

    if port and port + count - 1 > PORT_MAX:
        raise WrongUsage(f"--port = {port}: {count} ports from there on end above {PORT_MAX}")
    places = [(host, port + step if port else 0) for step in range(count)]
    _change(cluster, Wish(add=places, f=f, learners=learner), key, wait, json=json, verbose=verbose)


def remove(
    nodes: Annotated[list[int], typer.Argument(metavar="NODE...", parser=options.NODE, help="Numbers of replicas.")],
    f: FaultsOption = None,
    key: KeyOption = None,
    wait: WaitOption = WAIT_S,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Remove replicas; a running replog up stops them, their folders stay.

    Example: replog member remove 6 --f 1

    n >= 3f + 1 must hold afterwards. One change removes few, so that the state stays: 1 of 4 replicas, 2 of 7.
    """
    from replog.live.administration import Wish

    _change(cluster, Wish(remove=nodes, f=f), key, wait, json=json, verbose=verbose)


def replace(
    node: Annotated[int, typer.Argument(metavar="NODE", parser=options.NODE, help="Number of a replica.")],
    host: HostOption = LOCAL,
    port: PortOption = 0,
    key: KeyOption = None,
    wait: WaitOption = WAIT_S,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Have a new replica take the place of another, which may be dead. The new one has a number of its own.

    Example: replog member replace 2
    """
    from replog.live.administration import Wish

    _change(cluster, Wish(remove=[node], add=[(host, port)]), key, wait, json=json, verbose=verbose)


def promote(
    nodes: Annotated[list[int], typer.Argument(metavar="NODE...", help="Numbers of learners.")],
    key: KeyOption = None,
    wait: WaitOption = WAIT_S,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Let learners vote (Raft).

    Example: replog member promote 3
    """
    from replog.live.administration import Wish

    _change(cluster, Wish(promote=nodes), key, wait, json=json, verbose=verbose)


def faults(
    f: Annotated[int, typer.Argument(metavar="F", parser=options.number(0), help="Faults to stand.")],
    key: KeyOption = None,
    wait: WaitOption = WAIT_S,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Change how many faults the members stand (PBFT).

    Example: replog member faults 2

    n >= 3f + 1 must hold: f = 2 takes 7 replicas, see replog member add.
    """
    from replog.live.administration import Wish

    _change(cluster, Wish(f=f), key, wait, json=json, verbose=verbose)


def give_up(cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Give up a change whose newcomers do not come (Raft); the members stay as they are.

    Its leader would wait for each of them for ten minutes (catch_up_us). An id that was given up is not used again. A
    change whose newcomers have caught up is decided by the majorities, and is made.

    Example: replog member give-up
    """
    from replog.cli import words
    from replog.cli.leader import present
    from replog.cli.words import NotDone
    from replog.config import ClusterConfig
    from replog.roster import joint

    folder = clusters.running(cluster)
    config = ClusterConfig.load(folder)
    _check(config)
    if not joint(config):
        raise WrongUsage(f"protocol = {config.protocol}: a change that is ordered is made at its checkpoint")
    leader = present(config)["leader"]
    if leader is None:
        raise NotDone("nobody leads, so nobody can give the change up; see replog status")
    done = words.asked(words.place(folder), {"give-up": leader}, output.remark)
    if json:
        output.as_json({"cluster": str(folder), **done})
    else:
        gone, stay = (", ".join(map(str, done[name])) for name in ("nodes", "members"))
        output.line(f"given up: node {gone} does not join; epoch {done['epoch']}: members {stay}")


# ------------------------------------------------------------------------------------------------------------- changes


def _check(config: ClusterConfig) -> None:
    from replog.roster import changes

    if flaw := changes(config):
        raise WrongUsage(flaw)


def _change(cluster: Path | None, wish: Wish, key: Path | None, wait: float, *, json: bool, verbose: bool) -> None:
    """Have it ordered, and wait until it is in effect."""
    from replog.config import ClusterConfig
    from replog.live.administration import Administrator

    folder = clusters.running(cluster)
    config = ClusterConfig.load(folder)
    _check(config)
    administrator = Administrator(config, key)
    with _said_if_interrupted("whether the change was ordered is not known; it can be for an hour from now"):
        following = asked(folder, lambda client: administrator.change(client, wish))
    with _said_if_interrupted("not waiting any longer; the change is ordered and goes on"):
        if not json:
            output.remark(ordered(following))
            for hint in hints(config, following, len(wish.add)):
                output.remark(hint)
        if wait:
            following = asked(folder, lambda client: administrator.settled(client, following, wait))
    if json:
        output.as_json({"cluster": str(folder), "in_effect": bool(wait), **told(following)})
    else:
        output.line(in_words(following))
        if verbose:
            output.line(f"links to it are in {folder / 'members.json'}")


@contextmanager
def _said_if_interrupted(what: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        output.remark(f"replog: {what}; see replog member list")
        raise


def ordered(following: Configuration) -> str:
    """What is said when the change is in the log."""
    if not following.is_open:
        return f"ordered: epoch {following.epoch} begins after index {following.first - 1}"
    return f"ordered: epoch {following.epoch} begins when those who come have caught up and both majorities have it"


def hints(config: ClusterConfig, following: Configuration, added: int) -> list[str]:
    """What is left to do for replicas that are not of this machine."""
    from replog.live.links import is_here

    rule = "beside copies of cluster.toml and ca.pem, and run it there: python -m replog.live.node"
    return [
        f"node {m.id} is not of this machine: move {config.node_folder(m.id)} to {m.host}, {rule} DIR/node-{m.id}"
        for m in following.members[len(following.members) - added :]
        if not is_here(m.host)
    ]


def told(configuration: Configuration) -> dict[str, Any]:
    """For --json."""
    return {
        "epoch": configuration.epoch,
        "first_index": None if configuration.is_open else configuration.first,
        "f": configuration.f,
        "members": [
            {
                "node": member.id,
                "address": f"{member.host}:{member.port}",
                "public_key": member.public_key.hex(),
                **({"learner": True} if member.id in configuration.learners else {}),
            }
            for member in configuration.members
        ],
    }


def in_words(configuration: Configuration) -> str:
    """`epoch 2 from index 513 on: n = 4, f = 1, members 0, 1, 3, 4`, and learners if there are any."""
    size = f"n = {configuration.n}, f = {configuration.f}"
    from_ = "" if configuration.is_open else f" from index {configuration.first} on"
    learners = f", learners {', '.join(map(str, configuration.learners))}" if configuration.learners else ""
    who = f"members {', '.join(map(str, configuration.voters))}"
    return f"epoch {configuration.epoch}{from_}: {size}, {who}{learners}"
