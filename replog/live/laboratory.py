"""Faults and lies that a person, or a run of chaos, lets into replicas that run as processes of this machine.

Here: what is done to whom, and what of it is in force. Not here: what frames are lost or late
(`replog.live.faulty_links`), what a lie is (`compare.liar`), processes as such. A liar takes its orders from a file in
the control folder, one a replica, which says what it does from now on: {"attack": NAME, "members": [...], "options":
{...}}, or {"attack": null}.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from replog.errors import ConfigError, ReplogError
from replog.live.faulty_links import LINKS, Harm
from replog.live.processes import LocalProcesses, Wraps
from replog.roster import Roster
from replog.types import NodeId

START_S: Final = 10.0
"""How long one that was started may take to serve before nobody waits for it: without enough others it never does."""
DELAY_S_MAX: Final = 60.0

Pair = tuple[NodeId, NodeId]
"""One direction of a link: from, to."""


class NotInForce(ReplogError):
    """What was asked for makes no sense as things are; the text says why."""


def order_file(control: Path, node: NodeId) -> Path:
    return control / f"order-{node}.json"


def order(control: Path, nodes: Iterable[NodeId], content: Mapping[str, Any]) -> None:
    """Have these replicas lie from now on as `content` says."""
    for node in nodes:
        path = order_file(control, node)
        path.with_suffix(".new").write_text(json.dumps(content))
        path.with_suffix(".new").replace(path)


class Laboratory:
    """Invariants: `in_force` is what was done and not undone; a replica that is started hears anew what is done to its
    links, and lies on if it was told to."""

    def __init__(
        self, processes: LocalProcesses, control: Path | None = None, wrap: tuple[str, dict[str, Any]] | None = None
    ) -> None:
        """`control`: where liars take their orders; without it nobody lies. `wrap`: what makes a liar of a replica that
        is started. Raises ConfigError outside a laboratory."""
        check(processes.config.lab)
        self._processes = processes
        self._control = control
        self._wrap = wrap
        self._since: dict[tuple[str, NodeId], str] = {}
        self._cut: dict[Pair, str] = {}
        self._slow: dict[NodeId, tuple[Harm, str]] = {}
        self._lies: dict[NodeId, str] = {}
        processes.started = self._born
        self.done = 0
        """How many orders were carried out."""

    # ------------------------------------------------------------------------------------------------------ processes

    async def crash(self, nodes: Collection[NodeId]) -> None:
        """Kill -9, all at once."""
        self._check_running(nodes)
        for node in nodes:
            self._processes.kill(node)
            self._since.pop(("pause", node), None)
            self._note("crash", node)
        self.done += 1
        await asyncio.gather(*(self._processes.wait_exit(node) for node in nodes))

    def _born(self, node: NodeId) -> None:
        """Whatever was done to its former process ended with that; what is done to its links goes on."""
        self._since.pop(("pause", node), None)
        self._tell_links(node)

    async def start(self, nodes: Collection[NodeId]) -> None:
        """From what their disks hold."""
        if runs := sorted(self._running & set(nodes)):
            raise NotInForce(f"node = {runs[0]}: runs already; see replog status")
        for node in nodes:
            await self._processes.start([node], wraps=self.wraps([node]))
            self._since.pop(("crash", node), None)
        self.done += 1

    def wraps(self, nodes: Iterable[NodeId]) -> Wraps:
        """With which they are to be started."""
        return {} if self._wrap is None else dict.fromkeys(nodes, self._wrap)

    def pause(self, nodes: Collection[NodeId]) -> None:
        """They stand still, and hold what others send them."""
        self._check_running(nodes)
        for node in nodes:
            self._processes.kill(node, signal.SIGSTOP)
            self._note("pause", node)
        self.done += 1

    def resume(self, nodes: Collection[NodeId]) -> None:
        self._check_running(nodes)
        for node in nodes:
            self._processes.kill(node, signal.SIGCONT)
            self._since.pop(("pause", node), None)
        self.done += 1

    @property
    def _running(self) -> set[NodeId]:
        return set(self._processes.pids())

    @property
    def paused(self) -> list[NodeId]:
        running = self._running
        return sorted(node for what, node in self._since if what == "pause" and node in running)

    # ---------------------------------------------------------------------------------------------------------- links

    def cut(self, pairs: Iterable[Pair]) -> None:
        self._cut |= {pair: _now() for pair in pairs if pair not in self._cut}
        self._links_changed()

    def heal(self, pairs: Iterable[Pair]) -> None:
        for pair in pairs:
            self._cut.pop(pair, None)
        self._links_changed()

    def slow(self, nodes: Iterable[NodeId], harm: Harm) -> None:
        """Each frame of them and to them. No harm at all ends it."""
        if not 0 <= harm.loss <= 1:
            raise ConfigError(f"loss = {harm.loss:g}: must be within 0 .. 1, the chance of each frame")
        if not 0 <= harm.delay_s <= DELAY_S_MAX:
            raise ConfigError(f"delay = {harm.delay_s * 1000:g}: must be within 0 .. {DELAY_S_MAX * 1000:g} ms")
        for node in nodes:
            self._slow.pop(node, None)
            if harm != Harm():
                self._slow[node] = (harm, _now())
        self._links_changed()

    def heal_all(self) -> None:
        self._cut, self._slow = {}, {}
        self._links_changed()

    def pairs(self, node: NodeId, to: Collection[NodeId] = (), of: Collection[NodeId] = ()) -> list[Pair]:
        """What it sends to some and what some send to it; by default all of both."""
        others = [member.id for member in Roster(self._processes.config).members if member.id != node]
        if strange := sorted({*to, *of} - set(others)):
            raise ConfigError(f"node = {strange[0]}: must be another member than {node}: {', '.join(map(str, others))}")
        if not to and not of:
            to = of = others
        return [(node, other) for other in to] + [(other, node) for other in of]

    def _links_changed(self) -> None:
        self.done += 1
        for node in self._running:
            self._tell_links(node)

    def _tell_links(self, node: NodeId) -> None:
        with contextlib.suppress(ConfigError):  # not a child of this process
            self._processes.tell(node, LINKS, self._harms(node))

    def _harms(self, node: NodeId) -> dict[str, dict[str, float]]:
        """To each other one that it is not to reach as usual."""
        found: dict[str, dict[str, float]] = {}
        others = {member.id for member in Roster(self._processes.config).members} - {node}
        for other in sorted(others):
            slow = [self._slow[end][0] for end in (node, other) if end in self._slow]
            kept = 0.0 if (node, other) in self._cut else 1.0
            for harm in slow:
                kept *= 1 - harm.loss
            both = Harm(1 - kept, sum(harm.delay_s for harm in slow))
            if both != Harm():
                found[str(other)] = asdict(both)
        return found

    # ----------------------------------------------------------------------------------------------------------- lies

    def lie(self, nodes: Sequence[NodeId], attack: str | None, options: Mapping[str, Any]) -> None:
        """None: they end it. Whoever lies now goes on so after a start."""
        if self._control is None:
            raise NotInForce("lie: these replicas were not started so that they could")
        self._check_running(nodes)
        if honest := sorted(set(nodes) - self._processes.wrapped):
            again = f"replog lab crash {honest[0]}, then replog lab start {honest[0]}"
            raise NotInForce(f"node = {honest[0]}: was refreshed, and cannot lie before it is started anew: {again}")
        order(self._control, nodes, {"attack": attack, "members": list(nodes), "options": dict(options)})
        for node in nodes:
            self._since.pop(("lie", node), None)
            if attack is not None:
                self._lies[node] = attack
                self._note("lie", node)
        self.done += 1

    # ------------------------------------------------------------------------------------------------------------ told

    def in_force(self) -> list[dict[str, Any]]:
        """For `replog status`: what was done and since when, the oldest first."""
        told: list[dict[str, Any]] = [
            {"what": what, "node": node, "since": since, **({"attack": self._lies[node]} if what == "lie" else {})}
            for (what, node), since in self._since.items()
        ]
        told += [{"what": "cut", "from": pair[0], "to": pair[1], "since": since} for pair, since in self._cut.items()]
        told += [
            {"what": "slow", "node": node, "since": since, "delay_ms": harm.delay_s * 1000, "loss": harm.loss}
            for node, (harm, since) in self._slow.items()
        ]
        return sorted(told, key=lambda one: str(one["since"]))

    def _note(self, what: str, node: NodeId) -> None:
        self._since.setdefault((what, node), _now())

    def _check_running(self, nodes: Collection[NodeId]) -> None:
        if gone := sorted(set(nodes) - self._running):
            raise NotInForce(f"node = {gone[0]}: does not run; start it with replog lab start {gone[0]}")

    # ----------------------------------------------------------------------------------------------------- by a word

    async def carry_out(self, word: Mapping[str, Any]) -> None:
        """{"do": "crash", "nodes": [2]} and so on. Raises ReplogError, ValueError, TypeError or KeyError."""
        nodes = [int(node) for node in word.get("nodes", ())]
        pairs = [pair for node in nodes for pair in self.pairs(node, word.get("to", ()), word.get("from", ()))]
        match word["do"]:
            case "crash":
                await self.crash(nodes)
            case "start":
                await self.start(nodes)
            case "pause":
                self.pause(nodes)
            case "resume":
                self.resume(nodes)
            case "cut":
                self.cut(pairs)
            case "heal" if nodes:
                self.heal(pairs)
                if not word.get("to") and not word.get("from"):
                    self.slow(nodes, Harm())
            case "heal":
                self.heal_all()
            case "slow":
                self.slow(nodes, Harm(float(word["loss"]), float(word["delay_s"])))
            case "lie":
                self.lie(nodes, word["attack"], word.get("options", {}))
            case _:
                raise ValueError(word["do"])


def check(lab: bool) -> None:
    """Raises ConfigError for a cluster into which no faults are let in."""
    if not lab:
        rule = "faults and lies are let only into a cluster that was made for them: replog up PROTOCOL --lab"
        raise ConfigError(f"lab = off: {rule}")


async def served(processes: LocalProcesses, nodes: Collection[NodeId]) -> dict[NodeId, dict[str, Any]]:
    """What those of `nodes` say of themselves that serve within START_S. Raises NodeDied for one that ends."""
    try:
        async with asyncio.timeout(START_S):
            return await processes.wait_serving(2 * START_S, nodes=nodes)
    except TimeoutError:
        return {}


def _now() -> str:
    return datetime.now(UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
