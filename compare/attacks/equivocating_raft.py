"""equivocating-leader against Raft: a follower believes whatever the leader of its term sends. [Raft 5.3]

Two followers get different entries with the same index and term. The log matching property, on which everything rests,
assumes that this never happens; nobody notices, and both are committed, applied and acknowledged (HAZARDS R29).
"""

from __future__ import annotations

from compare.attacks.base import Power
from compare.attacks.equivocating_leader import EquivocatingLeader
from raft.messages import AppendEntries, AppendReply, Entry
from replog.core import Effect, Send
from replog.quorum import majority
from replog.replica import Replica
from replog.types import Message, NodeId


class EquivocatingRaftLeader(EquivocatingLeader):
    """Invariant: an index that side B was sent unchanged is never lied about later."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._first = inner.executor.index + 1
        self._sent = 0

    def spare(self) -> int:
        return self.power.n - majority(self.power.n)

    def say(self, effect: Effect) -> list[Effect]:
        if type(effect) is not Send or type(effect.message) is not AppendEntries or not effect.message.entries:
            return [effect]
        message, side_b = effect.message, tuple(node for node in effect.to if node in self.side_b)
        if not side_b:
            return [effect]
        lied = self._rewrite(message)
        side_a = tuple(node for node in effect.to if node not in self.side_b)
        return [*([Send(side_a, message)] if side_a else []), Send(side_b, lied)]

    def _rewrite(self, message: AppendEntries) -> AppendEntries:
        entries = [
            self._entry(message.prev_log_index + 1 + place, entry) for place, entry in enumerate(message.entries)
        ]
        self._sent = max(self._sent, message.prev_log_index + len(entries))
        return AppendEntries(
            message.term,
            message.leader_id,
            message.prev_log_index,
            message.prev_log_term,
            entries,
            message.leader_commit,
            message.round,
        )

    def _entry(self, index: int, entry: Entry) -> Entry:
        """The same term and time, other requests. No-ops, configurations and what side B has already stay."""
        fresh = index > self._sent and index >= self._first and entry.requests and entry.configuration is None
        lie = self.take(index) if fresh else self.told.get(index, [])
        return Entry(entry.term, entry.time, [request.raw for request in lie]) if lie else entry

    def on_message(self, sender: NodeId, message: Message) -> bool:
        if sender in self.side_b and type(message) is AppendReply and message.success:
            for index in sorted(self.told):
                if index <= message.match_index:
                    self.reached(sender, index)
        return True
