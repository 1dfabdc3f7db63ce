"""Which faults a round of chaos lets in: drawn from a seed, each for a time of its own, all over in the end.

Here: what is drawn and how it is done to running processes. Not here: the load and the judges
(`compare.chaos_session`), what a fault does (`replog.live.laboratory`).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from replog.live.faulty_links import Harm
from replog.live.laboratory import Laboratory
from replog.live.processes import LocalProcesses
from replog.types import NodeId

KINDS: Final = {"crash": 5, "crash-all": 2, "pause": 3, "isolate": 2, "split": 2, "one-way": 2, "slow": 2}
"""How often each is drawn, in proportion."""
TOGETHER_MAX: Final = 3
BEGIN_S, LAST_S = 0.4, 1.2
"""A fault begins and lasts at most so long after the round has begun."""


@dataclass(frozen=True)
class Strike:
    """One fault: to whom, when in its round, for how long. `harm`: of slow links."""

    kind: str
    nodes: tuple[NodeId, ...]
    begin_s: float
    last_s: float
    harm: Harm


def draw(
    chance: random.Random, n: int, kinds: Mapping[str, int] = KINDS, mortal: Sequence[NodeId] | None = None
) -> list[Strike]:
    """The faults of one round; they may strike the same replicas at the same time. `mortal`: whom a crash strikes if
    not any."""
    return [_strike(chance, n, kinds, mortal) for _ in range(chance.randint(1, TOGETHER_MAX))]


def _strike(chance: random.Random, n: int, kinds: Mapping[str, int], mortal: Sequence[NodeId] | None) -> Strike:
    kind = chance.choices(list(kinds), list(kinds.values()))[0]
    some = n if kind == "crash-all" else chance.randint(1, n - (kind in ("isolate", "split", "one-way")))
    nodes = tuple(chance.sample(range(n), some))
    if kind == "crash" and mortal is not None:
        nodes = tuple(mortal)
    harm = Harm(chance.uniform(0, 0.3), chance.uniform(0, 0.05)) if kind == "slow" else Harm()
    return Strike(kind, nodes, chance.uniform(0, BEGIN_S), chance.uniform(0.02, LAST_S), harm)


class Chaos:
    """Does what was drawn. Invariant: when `round` has returned every replica runs, none stands still, and no link is
    harmed."""

    def __init__(
        self, processes: LocalProcesses, laboratory: Laboratory, n: int, started: Callable[[NodeId], None]
    ) -> None:
        """`started` is told of each replica that was started again."""
        self.struck: Counter[str] = Counter()
        """Processes that were killed or stopped, and links that were harmed, by kind."""
        self._processes = processes
        self._lab = laboratory
        self._n = n
        self._started = started
        self._starting = asyncio.Lock()

    async def round(self, strikes: list[Strike]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for strike in strikes:
                    group.create_task(self._strike(strike))
        finally:
            self._lab.heal_all()
        self._lab.resume(self._lab.paused)

    async def _strike(self, strike: Strike) -> None:
        await asyncio.sleep(strike.begin_s)
        match strike.kind:
            case "crash" | "crash-all":
                await self._crash(strike)
            case "pause":
                await self._pause(strike)
            case "slow":
                self._lab.slow(strike.nodes, strike.harm)
                self.struck["slow"] += len(strike.nodes)
                await asyncio.sleep(strike.last_s)
                self._lab.slow(strike.nodes, Harm())
            case _:
                pairs = self._pairs(strike)
                self._lab.cut(pairs)
                self.struck[strike.kind] += len(pairs)
                await asyncio.sleep(strike.last_s)
                self._lab.heal(pairs)

    async def _crash(self, strike: Strike) -> None:
        """All at once; they come back one by one, within the time that it lasts."""
        nodes = [node for node in strike.nodes if node in self._processes.pids()]
        self.struck[strike.kind] += len(nodes)
        await self._lab.crash(nodes)
        for node in nodes:
            await asyncio.sleep(strike.last_s / len(strike.nodes))
            await self._start(node)

    async def _start(self, node: NodeId) -> None:
        """Unless another fault that struck it too has started it."""
        async with self._starting:
            if node not in self._processes.pids():
                await self._lab.start([node])
                self._started(node)

    async def _pause(self, strike: Strike) -> None:
        nodes = [node for node in strike.nodes if node in self._processes.pids()]
        self.struck["pause"] += len(nodes)
        self._lab.pause(nodes)
        await asyncio.sleep(strike.last_s)
        self._lab.resume([node for node in nodes if node in self._lab.paused])

    def _pairs(self, strike: Strike) -> list[tuple[NodeId, NodeId]]:
        others = [node for node in range(self._n) if node not in strike.nodes]
        match strike.kind:
            case "isolate":
                out = [(a, b) for a in strike.nodes for b in range(self._n) if a != b]
                return out + [(b, a) for a, b in out if (b, a) not in out]
            case "split":
                return [pair for a in strike.nodes for b in others for pair in ((a, b), (b, a))]
            case _:
                return [(a, b) for a in strike.nodes for b in others]


__all__ = ["KINDS", "Chaos", "Strike", "draw"]
