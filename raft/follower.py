"""What a server does of what a leader tells it: entries to keep, a state to take over. [Raft fig. 2 and 13, receivers]

Every server has this half, since whoever leads followed before. Not here: what a leader itself does with its log, and
what becomes of everything else that comes (`raft.core`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from raft.configuration import Configuration
from raft.election import Election
from raft.log import Log, recover
from raft.machine import Machine
from raft.membership import Roll
from raft.messages import (
    AppendEntries,
    AppendReply,
    Entries,
    Entry,
    HardState,
    InstallSnapshot,
    LogStart,
    SnapshotReply,
)
from raft.snapshot import Receiver, Snapshot
from raft.witness import Witness
from replog.codec import BadMessage
from replog.core import Effect, Note, Persist, Saved, SaveState, Send, Setup, Trim, Wanted
from replog.types import NOBODY, Micros, NodeId, Principal, Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


class Follower:
    """Invariants:
    nothing at or below commit_index is ever cut from the log                                 (HAZARDS R11)
    nothing is acknowledged on top of an installed state that is not on disk                  (HAZARDS R2)
    """

    log_class: ClassVar[type[Log]] = Log
    election_class: ClassVar[type[Election]] = Election
    witness_class: ClassVar[type[Witness]] = Witness

    def __init__(self, setup: Setup) -> None:
        self.me: NodeId = setup.me
        self.config: RaftConfig = setup.config
        hard, self.log = recover(setup.stored, Configuration(list(setup.members)), self.log_class)
        self.election = self.election_class(self.me, self.config, setup.rng, hard, self.log)
        self.witness = self.witness_class(self.me, self.config, self.log, self.election, setup.stored)
        self.machine = Machine(self.config, setup.domain.cluster, self.log, setup.stored)
        self.receiver = Receiver(self.config)
        self.roll = Roll(setup)
        self.nonsense = 0

    @property
    def current_term(self) -> int:
        return self.election.current_term

    @property
    def commit_index(self) -> int:
        return self.machine.commit_index

    @property
    def voted_for(self) -> NodeId:
        return self.election.voted_for

    @property
    def leader(self) -> NodeId:
        return self.election.leader

    def _nonsense(self, sender: Principal, rule: str) -> list[Effect]:
        self.nonsense += 1
        return [Note("nonsense", {"sender": sender, "rule": rule})]

    # -------------------------------------------------------------------------------------------------------- entries

    def _from_leader(self, sender: NodeId, message: AppendEntries | InstallSnapshot) -> str:
        """What is wrong with a leader's message by its form alone, "" if nothing."""
        if message.leader_id != sender:
            return "leader_id is not the sender"
        if message.term == self.current_term and self.leader not in (NOBODY, sender):
            return f"a second leader in term {message.term}"
        return ""

    def _on_append_entries(self, now: Micros, sender: NodeId, message: AppendEntries) -> list[Effect]:
        """[Raft fig. 2, AppendEntries receiver]"""
        wrong = self._from_leader(sender, message) or malformed(message)
        if wrong:
            return self._nonsense(sender, wrong)
        if message.term < self.current_term:
            return [self._append_reply(sender, message, False)]
        effects = self.election.follow(now, message.term, sender)
        return [*effects, *self._accept(sender, message)]

    def _accept(self, sender: NodeId, message: AppendEntries) -> list[Effect]:
        log, prev, entries = self.log, message.prev_log_index, message.entries
        verified = prev + len(entries)
        if prev < log.start_index:
            # What is compacted is committed, and every leader has it: only what comes after is to be looked at.
            skipped = log.start_index - prev
            if len(entries) >= skipped and entries[skipped - 1].term != log.start_term:
                return self._nonsense(sender, f"contradicts the committed entry {log.start_index}")
            prev, entries = log.start_index, entries[skipped:]
        elif not log.matches(prev, message.prev_log_term):
            return self._reject(sender, message)
        position = log.first_new(prev, entries)
        stored: list[Effect] = []
        if position is not None:
            first, new = prev + 1 + position, entries[position:]
            if first <= self.commit_index:
                return self._nonsense(sender, f"contradicts the committed entry {first}")
            try:
                requests = [[Request(raw) for raw in entry.requests] for entry in new]
            except BadMessage as error:
                return self._nonsense(sender, f"entry: {error}")
            log.cut(first)
            stored = [self._append(new, requests)]
        reply = self._append_reply(sender, message, True, verified)
        return [*stored, reply, *self._follow_commit(message.leader_commit, verified)]

    def _reject(self, sender: NodeId, message: AppendEntries) -> list[Effect]:
        """Tell the leader where the logs may agree. [Raft 5.3]"""
        log, prev = self.log, message.prev_log_index
        if prev > log.last_index:
            return [self._append_reply(sender, message, False, conflict=(0, log.last_index + 1))]
        if prev <= self.commit_index:
            return self._nonsense(sender, f"contradicts the committed entry {prev}")
        return [self._append_reply(sender, message, False, conflict=(log.term(prev), log.first_index_of_term_at(prev)))]

    def _append_reply(
        self,
        to: NodeId,
        message: AppendEntries,
        success: bool,
        match_index: int = 0,
        conflict: tuple[int, int] = (0, 0),
    ) -> Send:
        """While an installed state is not on disk nothing is: "up to 0" is true, and keeps the leader asking."""
        durable = 0 if self.machine.installing else match_index
        if success:
            self.witness.promised(self.current_term, durable)
        reply = AppendReply(self.current_term, success, message.prev_log_index, durable, *conflict, message.round)
        return Send((to,), reply)

    def _follow_commit(self, leader_commit: int, verified: int) -> list[Effect]:
        """Only as far as this message has shown that the logs agree (HAZARDS R10)."""
        index = min(leader_commit, verified)
        return self._commit_to(index) if index > self.commit_index else []

    def _append(self, entries: list[Entry], requests: Sequence[Sequence[Request]]) -> Persist:
        """Put entries behind the log, and on disk; the record replaces whatever was there."""
        log = self.log
        first, prev_term = log.last_index + 1, log.last_term
        for entry, parsed in zip(entries, requests, strict=True):
            log.append(entry, parsed)
        return Persist(Entries(first, prev_term, entries), log.last_index)

    def _commit_to(self, index: int) -> list[Effect]:
        if self.receiver.snapshot is not None and self.receiver.snapshot.index <= index:
            self.receiver.stop()
        return self.machine.commit_to(index)

    # ----------------------------------------------------------------------------------------------------- snapshots

    def _install(self, snapshot: Snapshot) -> list[Effect]:
        """The leader is told when it is on disk (`_on_saved`)."""
        self.receiver.stop()
        self.machine.install(snapshot)
        installed = Note("state-installed", {"index": snapshot.index})
        return [installed, *self.roll.look(), SaveState(snapshot.index), *self._forget(snapshot.log_start)]

    def _forget(self, start: LogStart) -> list[Effect]:
        """The new beginning is written anew, and belongs behind what is cut off. `Trim` waits for the saved state."""
        hard = HardState(self.current_term, self.voted_for)
        kept = self.witness.kept(start.index + 1)
        return [Persist(hard, start.index + 1), Persist(start, start.index + 1), *kept, Trim(start.index)]

    def _on_saved(self, now: Micros, event: Saved) -> list[Effect]:
        installed = self.machine.saved(event.index)
        return self._snapshot_in_place(self.leader, installed) if installed and self._follows else []

    def _on_install_snapshot(self, now: Micros, sender: NodeId, message: InstallSnapshot) -> list[Effect]:
        """[Raft fig. 13]"""
        wrong = self._from_leader(sender, message)
        if not 0 < message.last_included_term <= message.term or not message.last_included_index:
            wrong = wrong or "a snapshot of no possible entry"
        if wrong:
            return self._nonsense(sender, wrong)
        if message.term < self.current_term:
            return [Send((sender,), SnapshotReply(self.current_term, 0, [], False))]
        effects = self.election.follow(now, message.term, sender)
        if message.last_included_index <= self.commit_index:
            # Older than what this server has: ignored, and the leader is told why (HAZARDS R14).
            return [*effects, *self._snapshot_in_place(sender, message.last_included_index)]
        return [*effects, *self.receiver.on_chunk(message)]

    def _snapshot_in_place(self, leader: NodeId, index: int) -> list[Effect]:
        if not self.machine.installing:
            self.witness.promised(self.current_term, index)
        return [Send((leader,), SnapshotReply(self.current_term, index, [], not self.machine.installing))]

    def _on_wanted(self, now: Micros, event: Wanted) -> list[Effect]:
        return self.receiver.on_wanted(self.current_term, self.leader, event) if self._follows else []

    @property
    def _follows(self) -> bool:
        return self.leader not in (NOBODY, self.me)


def malformed(message: AppendEntries) -> str:
    """What is wrong with the entries whoever sent them, "" if nothing: terms never fall, nor pass the leader's."""
    term = message.prev_log_term
    if (message.prev_log_index == 0) != (term == 0):
        return "prev_log_index and prev_log_term: one is 0 and the other is not"
    for entry in message.entries:
        if entry.term < max(term, 1):
            return "terms of entries fall"
        term = entry.term
    return "" if term <= message.term else "an entry is of a later term than its leader"
