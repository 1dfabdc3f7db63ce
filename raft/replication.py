"""A leader's term: who has what, and what to send next. [Raft 5.3; Ongaro14 10.2.1]

Here: next_index and match_index of each follower, pipelining, back-tracking, heartbeats, who was heard lately. Not
here: what is committed (`raft.core`), nor the transfer of snapshots (`raft.snapshot`). A new object for each term, so
that nothing of an older term can be taken for this one's (HAZARDS R12).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from raft.log import Log
from raft.messages import AppendEntries, AppendReply, Entry
from replog.core import Effect, Note, Send
from replog.types import Micros, NodeId

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


class Mode(StrEnum):
    PROBE = "probe"  # where the logs agree is not known: one question at a time
    REPLICATE = "replicate"  # they agree up to next_index - 1, unless something was lost on the way: stream
    SNAPSHOT = "snapshot"  # what comes next is compacted away: state first, no entries


class Progress:
    """What a leader knows of one follower.

    Invariants:
      match_index never falls                                                  (HAZARDS R12)
      match_index < next_index
      unanswered holds at most `window` numbers, ascending, all above match_index; it is empty unless replicating
    """

    __slots__ = ("heard_at", "lost", "match_index", "matched_in", "mode", "next_index", "round", "unanswered")

    def __init__(self, next_index: int, now: Micros) -> None:
        self.next_index = next_index
        self.match_index = 0
        self.matched_in = 0
        """The leader's round in which match_index got where it is."""
        self.lost = False
        """Whether the follower has denied what it had acknowledged."""
        self.mode = Mode.PROBE
        self.unanswered: deque[int] = deque()
        """Last index of each message with entries that was sent and not answered yet."""
        self.heard_at = now
        self.round = -1
        """The latest of the leader's rounds that the follower has answered; they begin with 0."""

    def advance(self, match_index: int) -> None:
        """The follower's log is the leader's up to `match_index`, at least."""
        if match_index > self.match_index:
            self.match_index = match_index
            self.next_index = max(self.next_index, match_index + 1)
            while self.unanswered and self.unanswered[0] <= match_index:
                self.unanswered.popleft()
        if self.mode is Mode.PROBE and match_index >= self.next_index - 1:
            self.mode = Mode.REPLICATE

    def back_to(self, next_index: int) -> None:
        """Ask whether the logs agree before `next_index`."""
        self.next_index = max(next_index, self.match_index + 1)
        self.mode = Mode.PROBE
        self.unanswered.clear()

    def is_late(self, rejected: AppendReply) -> bool:
        """Whether a rejection is one of an older question, or of what is known to match by now (HAZARDS R12)."""
        if self.mode is Mode.SNAPSHOT or rejected.prev_log_index <= self.match_index:
            return True
        if self.mode is Mode.PROBE:
            return rejected.prev_log_index != self.next_index - 1
        return rejected.prev_log_index >= self.next_index

    def denies(self, rejected: AppendReply) -> bool:
        """Whether the follower lacks what it said was on its disk: it was asked in a later round than it said so."""
        return rejected.prev_log_index <= self.match_index and rejected.round > self.matched_in


class Replication:
    """Volatile state on leaders, made anew after each election. [Raft fig. 2]"""

    progress_class: ClassVar[type[Progress]] = Progress

    def __init__(self, me: NodeId, current_term: int, config: RaftConfig, log: Log, now: Micros) -> None:
        self.me = me
        self.current_term = current_term
        self.config = config
        self.log = log
        self.round = 0
        self.lease_over = False
        """Whether somebody was told to stand at once, whom nobody's loyalty hinders."""
        self.broadcast_us: Micros = 0
        """The broadcast time, smoothed: from the beginning of a round to a majority's answers, their disks included.
        [Raft 5.6]"""
        self._measured = 0
        self._round_began = now
        self._begun: deque[tuple[int, Micros]] = deque(((0, now),))
        """When rounds began: the latest that a quorum has answered, and those after it. Kept for leases alone; without
        a quorum's answers there are few, since a leader steps down then."""
        followers = (node for node in log.configuration.members if node != me)
        self.progress = {node: self.progress_class(log.last_index + 1, now) for node in followers}

    def become(self, now: Micros) -> list[NodeId]:
        """Another configuration is in the log: who is new is asked where the logs agree, who left is forgotten."""
        followers = [node for node in self.log.configuration.members if node != self.me]
        known, next_index = self.progress, self.log.last_index + 1
        self.progress = {node: known.get(node) or self.progress_class(next_index, now) for node in followers}
        return [node for node in followers if node not in known]

    def forget(self, node: NodeId, now: Micros) -> None:
        """Its disk is an old copy, as it says itself: what it had acknowledged is not there any more (HAZARDS R28)."""
        if node in self.progress:
            self.progress[node] = self.progress_class(self.log.last_index + 1, now)

    # ---------------------------------------------------------------------------------------------------- sending

    def announce(self, leader_commit: int) -> list[Effect]:
        """The first message of a term carries its first entry: where the logs already agree it costs no question."""
        first = self.log.last_index
        return self._send(list(self.progress), first, self._entries_from(first), leader_commit)

    def send_entries(self, leader_commit: int) -> list[Effect]:
        """What the followers that keep up lack, as far as their windows allow; the same goes to several at once."""
        effects: list[Effect] = []
        while groups := self._by_next_index(self._hungry()):
            for next_index, nodes in groups.items():
                entries = self._entries_from(next_index)
                effects += self._send(nodes, next_index, entries, leader_commit)
                for node in nodes:
                    progress = self.progress[node]
                    progress.next_index += len(entries)
                    progress.unanswered.append(progress.next_index - 1)
        return effects

    def heartbeat(self, now: Micros, leader_commit: int) -> list[Effect]:
        """To all, without entries: a new round. It asks at the same time whether what was sent has come through: a
        follower that lacks the entry before next_index says so, whatever was lost."""
        self.round += 1
        self._round_began = now
        if self.config.lease_reads:
            self._forget_rounds_before(self.confirmed_round())
            self._begun.append((self.round, now))
        effects: list[Effect] = []
        for next_index, nodes in self._by_next_index(list(self.progress)).items():
            effects += self._send(nodes, next_index, [], leader_commit)
        return effects

    def probe(self, node: NodeId, leader_commit: int) -> list[Effect]:
        """Ask now."""
        return self._send([node], self.progress[node].next_index, [], leader_commit)

    def _hungry(self) -> list[NodeId]:
        last_index, window = self.log.last_index, self.config.window
        return [
            node
            for node, progress in self.progress.items()
            if progress.next_index <= last_index
            and progress.mode is Mode.REPLICATE
            and len(progress.unanswered) < window
            and not self._compacted(progress)
        ]

    def _by_next_index(self, nodes: list[NodeId]) -> dict[int, list[NodeId]]:
        """Those that are sent the same, together. One whose next entry is compacted is asked about the earliest place
        that is left: should it have got there another way, it needs no snapshot."""
        groups: dict[int, list[NodeId]] = {}
        for node in nodes:
            progress = self.progress[node]
            first = self.log.start_index + 1
            groups.setdefault(first if self._compacted(progress) else progress.next_index, []).append(node)
        return groups

    def _entries_from(self, index: int) -> list[Entry]:
        return self.log.slice(index, self.config.append_entries_max, self.config.batch_bytes_max)

    def _send(self, nodes: list[NodeId], next_index: int, entries: list[Entry], leader_commit: int) -> list[Effect]:
        if not nodes:
            return []
        prev = next_index - 1
        of = self.current_term, self.me, prev, self.log.term(prev)
        message = AppendEntries(*of, entries, leader_commit, self.round)
        return [Send(tuple(nodes), message)]

    def _compacted(self, progress: Progress) -> bool:
        """Whether the entry before the next one is gone, and with it the question whether the logs agree there."""
        if progress.next_index > self.log.start_index:
            return False
        progress.mode = Mode.SNAPSHOT
        progress.unanswered.clear()
        return True

    # ---------------------------------------------------------------------------------------------------- answers

    def heard(self, node: NodeId, now: Micros, round_: int = -1) -> None:
        """`node` follows, and did so after the round that it answers had begun."""
        progress = self.progress[node]
        progress.heard_at = now
        progress.round = max(progress.round, min(round_, self.round))
        if round_ == self.round > self._measured and self.confirmed_round() == round_:
            self._measured = round_
            self.broadcast_us = _smoothed(self.broadcast_us, now - self._round_began)

    def confirmed_round(self) -> int:
        """The latest that a quorum has answered, whether it had the entries asked about or not, -1 if none is: all of
        them followed then, so that no later leader had been elected when it began. [Ongaro14 6.4]"""
        answered = {node: progress.round + 1 for node, progress in self.progress.items()}
        answered[self.me] = self.round + 1
        return self.log.configuration.agreed(answered) - 1

    def has_lease(self, now: Micros) -> bool:
        """Whether those who answered are still bound not to vote for another: by when the round began, since nobody
        has heard of it before. [Ongaro14 6.4.1] (HAZARDS R25)"""
        confirmed = self.confirmed_round()
        self._forget_rounds_before(confirmed)
        round_, began = self._begun[0]
        # Another configuration may have confirmed less than the one before.
        return round_ <= confirmed and not self.lease_over and now - began < self.config.lease_us

    def _forget_rounds_before(self, round_: int) -> None:
        while len(self._begun) > 1 and self._begun[1][0] <= round_:
            self._begun.popleft()

    def accepted(self, node: NodeId, match_index: int) -> bool:
        """The follower has everything up to `match_index` on disk. False if no log of this term can say so."""
        if match_index > self.log.last_index:
            return False
        progress = self.progress[node]
        if match_index > progress.match_index:
            progress.matched_in, progress.lost = self.round, False
        progress.advance(match_index)
        if progress.mode is Mode.SNAPSHOT and progress.match_index >= self.log.start_index:
            progress.mode = Mode.REPLICATE
            progress.next_index = progress.match_index + 1
        return True

    def rejected(self, node: NodeId, message: AppendReply) -> bool:
        """The follower lacks or contradicts the entry before. Whether a new question is to be asked. [Raft 5.3]

        If the leader has entries of the conflicting term the logs may agree at the last of them; otherwise the whole
        term goes. Each question is before the one it follows, so that one question a term is enough, and they end at
        match_index: whoever denies that is asked by heartbeats alone.
        """
        progress = self.progress[node]
        if progress.is_late(message):
            return False
        following = message.conflict_index
        if message.conflict_term:
            last = self.log.last_index_of_term(message.conflict_term, message.prev_log_index)
            following = last + 1 if last is not None else following
        progress.back_to(max(min(following, message.prev_log_index), 1))
        return not self._compacted(progress)

    def loss(self, node: NodeId, message: AppendReply) -> list[Effect]:
        """Say, once, that a follower denies what it had acknowledged: its disk was lost or is an old copy, and what was
        committed may be on fewer disks than it takes (HAZARDS R28)."""
        progress = self.progress[node]
        if progress.lost or not progress.denies(message):
            return []
        progress.lost = True
        if progress.mode is Mode.REPLICATE:
            progress.back_to(progress.match_index + 1)
        rule = f"node {node} lost acknowledged entries"
        detail = {"node": node, "acknowledged": progress.match_index, "denied": message.prev_log_index, "rule": rule}
        return [Note("lost-entries", detail)]

    def match_index(self) -> dict[NodeId, int]:
        """Of everyone. The leader counts its own log as soon as it is listed for the disk: whatever would tell others
        that an entry is committed is listed behind it, and waits (HAZARDS R2)."""
        reached = {node: progress.match_index for node, progress in self.progress.items()}
        reached[self.me] = self.log.last_index
        return reached

    def agreed(self) -> int:
        """What a quorum has, of both configurations while one takes the other's place."""
        return self.log.configuration.agreed(self.match_index())

    def heard_since(self, since: Micros) -> list[NodeId]:
        """Followers that answered in this term at or after `since`, and the leader itself."""
        return [self.me, *(node for node, progress in self.progress.items() if progress.heard_at >= since)]

    def needs_snapshot(self, node: NodeId) -> bool:
        return self.progress[node].mode is Mode.SNAPSHOT

    def lagging(self) -> Iterator[NodeId]:
        """Followers that need a snapshot, in order."""
        return (node for node in self.progress if self.needs_snapshot(node))

    def check_invariants(self) -> None:
        for node, progress in self.progress.items():
            assert progress.match_index < progress.next_index, f"match_index[{node}] < next_index[{node}]"
            assert progress.match_index <= self.log.last_index, f"match_index[{node}] <= last_log_index"
            assert progress.next_index <= self.log.last_index + 1, f"next_index[{node}] <= last_log_index + 1"
            assert len(progress.unanswered) <= self.config.window, f"unanswered of {node} within the window"
            assert list(progress.unanswered) == sorted(progress.unanswered), f"unanswered of {node} in order"
            assert not progress.unanswered or progress.unanswered[0] > progress.match_index, f"unanswered of {node}"
            assert progress.mode is Mode.REPLICATE or not progress.unanswered, f"{node} is not replicating"


def _smoothed(average: Micros, sample: Micros) -> Micros:
    """Over about the last eight."""
    return average + (sample - average) // 8 if average else sample
