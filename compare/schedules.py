"""Adversarial schedules: an environment that loses, delays and crashes with intent. Nobody lies.

A schedule sees the whole simulated cluster, as an adversary of an asynchronous network may, and does only what such a
network may do: lose messages, and crash and restart replicas. Simulation only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from raft.messages import AppendEntries, PreVote, RequestVote
from replog.sim.cluster import SimCluster
from replog.types import Message, Micros, NodeId, Principal

LOOK_US: Final = 1_000


class FigureEight:
    """The schedule of figure 8, for five servers. [Raft 5.4.2] (HAZARDS R8)

    (a) The leader's last entries reach one follower only. (b) Another server leads in a later term, appends, and
    crashes with what it has. (c) A server with the old entries leads again and brings them to a majority, but none of
    its own term. (d) It crashes; the one of (b), whose last term is higher, leads and replaces them. A leader that
    counted replicas of the old entries in (c) has committed what (d) takes away.
    """

    def __init__(self, cluster: SimCluster, leader: NodeId) -> None:
        self._cluster = cluster
        self._first = {leader, (leader + 1) % cluster.n}
        self._rest = set(range(cluster.n)) - self._first
        self._base = self._core(leader).commit_index
        self._second: NodeId | None = None
        self._crashed: set[NodeId] = set()
        self._over = False
        self.phases = 0
        """Phases that were reached after (a): 1 is (c), 2 is (d), 3 the end of (d)."""
        self._phase: Callable[[], None] = self._a_and_b
        self._patience: Micros = 0
        cluster.network.filter = self._passes_a
        self._look()

    def release(self) -> None:
        """The environment behaves from here on. Once is enough: who crashes later was not crashed by this schedule."""
        if self._over:
            return
        self._over = True
        self._cluster.network.filter = None
        self._cluster.restart(*(node for node in sorted(self._crashed) if not self._cluster.nodes[node].up))
        self._crashed.clear()

    def _look(self) -> None:
        if not self._over:
            self._phase()
            self._cluster.after(LOOK_US, self._look)

    def _go_on(self, phase: Callable[[], None]) -> None:
        self._phase = phase
        self.phases += 1

    def _core(self, node: NodeId) -> Any:
        return self._cluster.replica(node).core

    def _leader_among(self, nodes: set[NodeId]) -> NodeId | None:
        """Who leads, by its own word, in the highest term; of `nodes` that are up."""
        up = [node for node in sorted(nodes) if self._cluster.nodes[node].up]
        leading = [node for node in up if self._core(node).leader == node]
        return max(leading, key=lambda node: self._core(node).current_term, default=None)

    def _crash(self, node: NodeId) -> None:
        self._crashed.add(node)
        self._cluster.crash(node)

    # ------------------------------------------------------------------------------------------------------- (a), (b)

    def _passes_a(self, source: Principal, target: Principal, message: Message) -> bool:
        if not isinstance(source, int) or not isinstance(target, int):
            return True
        if (source in self._first) != (target in self._first):
            return False
        return not (source in self._rest and type(message) is AppendEntries and message.entries)

    def _a_and_b(self) -> None:
        second = self._leader_among(self._rest)
        shared = min(self._core(node).log.last_index for node in self._first)
        if second is None or shared <= self._base or self._core(second).log.last_term < self._core(second).current_term:
            return
        if not self._patience:  # its last entry is on its disk a few milliseconds later
            self._patience = self._cluster.now + 5 * LOOK_US
        elif self._cluster.now >= self._patience:
            self._second = second
            self._crash(second)
            self._patience = 0
            self._cluster.network.filter = self._passes_c
            self._go_on(self._c)

    # ------------------------------------------------------------------------------------------------------------ (c)

    def _passes_c(self, source: Principal, target: Principal, message: Message) -> bool:
        """Old entries pass; entries of the new term, and the word that anything is committed, are lost."""
        if type(message) is not AppendEntries:
            return True
        new = any(entry.term == message.term for entry in message.entries)
        return not new and message.leader_commit <= self._base

    def _c(self) -> None:
        third = self._leader_among(self._first | self._rest)
        if third is None or third not in self._first:
            return
        holders = [node for node in self._rest if self._cluster.nodes[node].up and self._has_old(node)]
        if holders and not self._patience:  # for their acknowledgements, and for answers to clients if there are any
            self._patience = self._cluster.now + 100 * LOOK_US
        elif holders and self._cluster.now >= self._patience:
            self._d(third)

    def _has_old(self, node: NodeId) -> bool:
        return bool(self._core(node).log.last_index > self._base)

    # ------------------------------------------------------------------------------------------------------------ (d)

    def _d(self, third: NodeId) -> None:
        self._crash(third)
        if self._second is not None:
            self._cluster.restart(self._second)
            self._crashed.discard(self._second)
        self._cluster.network.filter = self._passes_d
        self._go_on(self._until_replaced)

    def _passes_d(self, source: Principal, target: Principal, message: Message) -> bool:
        return source == self._second or type(message) not in (RequestVote, PreVote)

    def _until_replaced(self) -> None:
        if self._second is not None and self._core(self._second).commit_index > self._base:
            self.phases += 1
            self.release()
