"""Start and stop single replicas: `start`, `stop`. Let faults and lies into a laboratory: `lab`.

Here: the commands, and refusing what makes no sense before anything is done. Not here: doing it
(`replog.cli.orders`, in the process behind `replog up`).
"""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import importlib
import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replog.cli import clusters, options, output
from replog.cli.exits import WrongUsage
from replog.cli.options import ClusterOption, JsonOption, VerboseOption

if TYPE_CHECKING:
    from replog.config import ClusterConfig

HELP = """Let faults and lies into a running cluster that was started with --lab, and end them.

replog status tells what is in force. All of it ends with replog down.

Example: replog lab crash 2, then replog lab start 2
"""

Nodes = Annotated[list[int], typer.Argument(metavar="NODE...", parser=options.NODE, help="Numbers of replicas.")]
To = Annotated[
    list[int] | None,
    typer.Option("--to", metavar="NODE", parser=options.NODE, help="Only what is sent to this one."),
]
From = Annotated[
    list[int] | None,
    typer.Option("--from", metavar="NODE", parser=options.NODE, help="Only what this one sends."),
]


def add_to(app: typer.Typer) -> None:
    app.command("start", rich_help_panel=options.RUN)(start)
    app.command("stop", rich_help_panel=options.RUN)(stop)
    lab = typer.Typer(help=HELP, no_args_is_help=True)
    for command in (crash, pause, resume, cut, heal, slow, lie):
        lab.command()(command)
    lab.command("start")(lab_start)
    app.add_typer(lab, name="lab", rich_help_panel=options.OPERATE)


# ----------------------------------------------------------------------------------------------- of every cluster


def start(
    nodes: Nodes, cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Start replicas of a running cluster that have ended, from what they have stored.

    Example: replog start 2
    """
    _tell(_asked(clusters.running(cluster), {"start": nodes}), json)


def stop(nodes: Nodes, cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """Stop replicas of a running cluster, in order; they stay down until they are started.

    Example: replog stop 2
    """
    _tell(_asked(clusters.running(cluster), {"stop": nodes}), json)


# ------------------------------------------------------------------------------------------------- of a laboratory


def crash(
    nodes: Nodes, cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Kill replicas at once, as by kill -9. They stay down until replog lab start.

    Example: replog lab crash 0 1 2 3
    """
    _do(cluster, "crash", nodes, json)


def lab_start(
    nodes: Nodes, cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Start replicas again that were killed, from what they have stored. What is done to their links goes on.

    Example: replog lab start 2
    """
    _do(cluster, "start", nodes, json)


def pause(
    nodes: Nodes, cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Have the processes of replicas stand still, as by SIGSTOP.

    Example: replog lab pause 1
    """
    _do(cluster, "pause", nodes, json)


def resume(
    nodes: Nodes, cluster: ClusterOption = None, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Have the processes of replicas go on.

    Example: replog lab resume 1
    """
    _do(cluster, "resume", nodes, json)


def cut(
    nodes: Nodes,
    to: To = None,
    of: From = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Cut the links of replicas with other replicas: what is sent on them is lost. Clients still reach them.

    Without --to and --from all of them, both ways; with one of them that way alone.

    Example: replog lab cut 2, or one way: replog lab cut 2 --to 0 --to 1
    """
    _do(cluster, "cut", nodes, json, to=to or [], of=of or [])


def heal(
    nodes: Annotated[
        list[int] | None,
        typer.Argument(metavar="NODE...", parser=options.NODE, help="Numbers of replicas.", show_default="all"),
    ] = None,
    to: To = None,
    of: From = None,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """End what was done to the links of replicas: cuts, delay and loss.

    Example: replog lab heal 2, or one way: replog lab heal 2 --to 0
    """
    if not nodes and (to or of):
        raise WrongUsage(f"--{'to' if to else 'from'} = {(to or of or [0])[0]}: needs a NODE whose links are healed")
    _do(cluster, "heal", nodes or [], json, to=to or [], of=of or [])


def slow(
    nodes: Nodes,
    delay: Annotated[float, typer.Option(metavar="MS", min=0, help="Added to each frame.")] = 0.0,
    loss: Annotated[float, typer.Option(metavar="CHANCE", min=0, max=1, help="Of each frame to be lost.")] = 0.0,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Have the links of replicas with other replicas be slow or lossy, both ways; neither ends it.

    Example: replog lab slow 2 --delay 50 --loss 0.1
    """
    _do(cluster, "slow", nodes, json, delay_s=options.a_number(delay) / 1000, loss=options.a_number(loss))


def lie(
    node: Annotated[int, typer.Argument(metavar="NODE", parser=options.NODE, help="Number of a replica.")],
    attack: Annotated[str | None, typer.Argument(help="Its name; replog compare list attacks shows them.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Of the attack; may be given several times."),
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="No lies from here on.")] = False,
    cluster: ClusterOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Have a replica lie, in a way that has a name, until it is told to stop.

    Example: replog lab lie 0 equivocating-leader, then replog lab lie 0 --stop
    """
    if stop == (attack is not None):
        raise WrongUsage("ATTACK: must be given, or --stop, and not both")
    given = _options(option or [])
    if attack is not None:
        config = _laboratory(cluster)[1]
        importlib.import_module("compare.liar").check(config.protocol, attack, given)
    _do(cluster, "lie", [node], json, attack=attack, options=given)


def _options(given: Sequence[str]) -> dict[str, Any]:
    """JSON where it parses, else text."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise WrongUsage(f"--option = {text:.80}: must be NAME=VALUE")
        try:
            found[name] = json_module.loads(value)
        except ValueError:
            found[name] = value
    return found


def _do(cluster: Path | None, what: str, nodes: Sequence[int], json: bool, **more: Any) -> None:
    folder, _ = _laboratory(cluster)
    word = {"do": what, "nodes": list(nodes), **{{"of": "from"}.get(name, name): value for name, value in more.items()}}
    _tell(_asked(folder, {"lab": word}), json)


def _laboratory(cluster: Path | None) -> tuple[Path, ClusterConfig]:
    """Raises WrongUsage for a cluster that is none."""
    from replog.config import ClusterConfig
    from replog.live.laboratory import check

    folder = clusters.running(cluster)
    config = ClusterConfig.load(folder)
    check(config.lab)
    return folder, config


def _asked(folder: Path, word: dict[str, Any]) -> dict[str, Any]:
    from replog.cli import words

    return {"cluster": str(folder), **words.asked(words.place(folder), word, output.remark)}


def _tell(done: dict[str, Any], json: bool) -> None:
    if json:
        output.as_json(done)
        return
    if done["nodes"]:
        rows = [
            (one["node"], one["pid"] or "-", one["address"], "up" if one["pid"] else "down") for one in done["nodes"]
        ]
        output.table(("node", "pid", "address", "process"), rows)
    if "in_force" in done:
        output.line(in_words(done))


def in_words(lab: dict[str, Any]) -> str:
    """`laboratory: node 2 crashed at 12:03:07; 0 -> 2, 2 -> 0 cut at 12:03:09`."""
    said = [_one(one) for one in lab["in_force"] if one["what"] != "cut"]
    by_time: dict[str, list[str]] = {}
    for one in lab["in_force"]:
        if one["what"] == "cut":
            by_time.setdefault(one["since"], []).append(f"{one['from']} -> {one['to']}")
    said += [f"{', '.join(links)} cut at {since[:8]}" for since, links in by_time.items()]
    return f"laboratory: {'; '.join(said) or 'nothing is in force'} (orders so far: {lab['done']})"


def _one(one: dict[str, Any]) -> str:
    since = f"since {one['since'][:8]}"
    match one["what"]:
        case "crash":
            return f"node {one['node']} was killed at {one['since'][:8]}"
        case "pause":
            return f"node {one['node']} stands still {since}"
        case "lie":
            return f"node {one['node']} lies ({one['attack']}) {since}"
        case _:
            return f"links of node {one['node']} are slow (delay {one['delay_ms']:g} ms, loss {one['loss']:g}) {since}"
