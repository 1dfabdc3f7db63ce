"""What a live run cost, from what replicas say of their own counters and what the clients counted themselves.

A counter begins anew with each process. So what a replica says is read when the workload begins and ends, and just
before it is killed: what it did between its last word and its end is not in the figure. If a word is missing (a killed
or paused replica did not answer in time) there is no figure at all rather than one that is too low.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from compare.judging import Costs
from replog.live.counters import Counters
from replog.live.report import counters_of
from replog.types import NodeId, Status

Told = Mapping[str, int]
COUNTED: Final = frozenset(
    ("messages_sent", "bytes_sent", "client_messages_sent", "client_bytes_sent", "signatures_made", "macs", "commits")
)
"""What a figure rests on; a replica that leaves one out has said nothing."""


class Ledger:
    """Invariant: `lives` has an entry for each replica whose process runs, what it had counted when the workload began;
    `complete` is False from the moment at which a part of the work became unknowable."""

    def __init__(self) -> None:
        self.lives: dict[NodeId, Told] = {}
        self.complete = True
        self._sum: Counter[str] = Counter()

    def begin(self, nodes: Iterable[NodeId], statuses: Mapping[NodeId, Status]) -> None:
        """The workload begins."""
        for node in nodes:
            self.lives[node] = self._told(node, statuses)

    def born(self, node: NodeId) -> None:
        """A process begins, and so do its counters."""
        self.lives[node] = {}

    def end(self, nodes: Iterable[NodeId], statuses: Mapping[NodeId, Status]) -> None:
        """The last word of these replicas that counts: they are about to be killed, or the workload is over."""
        for node in nodes:
            if node in self.lives:
                before = self.lives.pop(node)
                self._sum.update(self._told(node, statuses))
                self._sum.subtract(before)

    def _told(self, node: NodeId, statuses: Mapping[NodeId, Status]) -> Told:
        told = counters_of(statuses[node]) if node in statuses else {}
        if not told.keys() >= COUNTED:
            self.complete = False
        return told

    def costs(self, clients: Iterable[Counters]) -> Costs:
        """Of all replicas and these clients; the clients began with the workload. Nothing unless all is known."""
        if not self.complete or self.lives:
            return Costs()
        total = Counter(self._sum)
        for client in clients:
            total.update(client.told())
        return Costs(
            messages=total["messages_sent"] + total["client_messages_sent"],
            bytes=total["bytes_sent"] + total["client_bytes_sent"],
            signatures=total["signatures_made"],
            macs=total["macs"],
            fsyncs=total["commits"],
        )
