"""Real forks: f + 1 to 2f colluders live in two worlds at once, each with correct replicas of its own.

Both worlds run correct cores, and every replica's key is the same in both, so that each colluder signs what a correct
replica may sign in one of them: together that is what colluders do best. What they shared before, they share as disks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from pbft import SPEC
from pbft import messages as m
from pbft.blame import Blame, Transcript, blame
from replog.core import Effect, Persist
from tests.pbft.harness import SECOND, SMALL, Cluster, Packet


class World(Cluster):
    """Some of all replicas; the others are not there. `archives`: what each would have archived."""

    def __init__(self, n: int, members: Iterable[int], before: World | None = None) -> None:
        self.members = sorted(members)
        self.archives: dict[int, list[Any]] = {node: [] for node in range(n)}
        super().__init__(n, SMALL)
        for node in range(n):
            self.crash(node)
        if before is not None:
            self.disks = copy.deepcopy(before.disks)
            self.archives = {node: list(records) for node, records in before.archives.items()}
        for node in self.members:
            self.start(node)
        self.network.clear()

    def watch(self, node: int, effects: Iterable[Effect]) -> None:
        super().watch(node, effects)
        records = [effect.record for effect in effects if isinstance(effect, Persist)]
        self.archives[node] += [kept for record in records if (kept := SPEC.archived(record)) is not None]  # type: ignore[attr-defined]

    def put(self, client: str, count: int, first: int = 1) -> None:
        """So many requests, one after another; all present execute each."""
        for timestamp in range(first, first + count):
            before = max(self.executed())
            self.submit(client, timestamp, self.members)
            assert self.run(20 * SECOND, lambda before=before: min(self.executed()) > before), self.executed()
        self.run(SECOND)  # the status tick writes certificates down

    def change_view(self, view: int) -> None:
        """Whoever leads an earlier view is not heard, until `view` is begun by all."""
        self.blocked = lambda packet: isinstance(packet.sender, int) and _led(packet, self.n) < view
        self.submit("eve", 1, self.members)
        assert self.run(60 * SECOND, lambda: set(self.views()) == {view} and self._active()), self.views()
        self.blocked = lambda packet: False
        self.run(SECOND)

    def _active(self) -> bool:
        return all(self.core(node).ordering.active for node in self.members)

    def certificate(self, node: int, seq: int) -> m.CommitProof:
        return self.transcript_of(node).commits[seq][0]

    def transcript_of(self, node: int) -> Transcript:
        return Transcript.of(self.archives[node])

    def new_views(self, node: int) -> list[m.NewView]:
        return [record for record in self.archives[node] if isinstance(record, m.NewView)]


def _led(packet: Packet, n: int) -> int:
    """The view that a primary speaks of as one; others' words pass."""
    message = packet.message
    leads = isinstance(message, (m.PrePrepare, m.NewView)) and message.view % n == packet.sender
    return int(message.view) if leads else 2**62


class Fork:
    """One log with two ends. `before`: seqs that all share; `views`: in which each side goes on; `after`: seqs that
    each side commits then, the first of which is `seq`."""

    def __init__(
        self,
        n: int,
        liars: tuple[int, ...],
        side: tuple[int, ...],
        views: tuple[int, int] = (0, 0),
        before: int = 0,
        after: int = 1,
        kind: type[World] = World,
    ) -> None:
        """`side`: the correct ones of the first world; the rest are in the second. `kind`: with which keys."""
        rest = tuple(node for node in range(n) if node not in (*liars, *side))
        shared = kind(n, range(n))
        if before:
            shared.put("ann", before)
        self.n, self.liars, self.sides = n, liars, (side, rest)
        self.worlds = tuple(kind(n, (*liars, *ours), shared) for ours in self.sides)
        for world, view in zip(self.worlds, views, strict=True):
            if view:
                world.change_view(view)
        first = [max(world.executed()) for world in self.worlds]
        for world, client in zip(self.worlds, ("ann", "bob"), strict=True):
            world.put(client, after + max(first) - max(world.executed()), before + 1)
        self.seq = next(seq for seq in range(before + 1, max(first) + after + 1) if self._differs(seq))

    def _differs(self, seq: int) -> bool:
        sides = zip(self.worlds, self.sides, strict=True)
        found = [world.transcript_of(ours[0]).commits.get(seq) for world, ours in sides]
        return None not in found and found[0][0].digest != found[1][0].digest  # type: ignore[index]

    def inquiry(self, side: int, seq: int | None = None, shown: bool = True) -> Blame:
        """By the archive of the first correct replica of `side`, with what the other side's has for `seq`."""
        seq = self.seq if seq is None else seq
        world, other = self.worlds[side], self.worlds[1 - side]
        node, their = self.sides[side][0], self.sides[1 - side][0]
        new_views = other.new_views(their) if shown else []
        members, transcript = (self.n, world.f), world.transcript_of(node)
        return blame(transcript, other.certificate(their, seq), world.domain, world.verifier, members, new_views)
