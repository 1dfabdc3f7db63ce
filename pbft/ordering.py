"""Slots: what this replica has seen, promised and decided for each sequence number in its window.

Here: the three phases and their certificates [CL99 4.2]. Not here: which proposals are acceptable and when a decided
batch is executed (`pbft.core`), how a new view chooses (`pbft.view_change`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pbft.messages import (
    HAS_BODY,
    HAS_COMMITTED,
    HAS_PREPARED,
    NULL,
    Batch,
    BatchData,
    Commit,
    CommitProof,
    Committed,
    FetchBatch,
    Placed,
    Prepare,
    PreparedProof,
    PrePrepare,
    Proposal,
)
from pbft.notary import Notary
from pbft.slots import BODIES_MAX, Slot, Tally
from replog.core import Effect, Persist, Send
from replog.types import Digest, Message, NodeId

FETCHES: Final = 16
"""Bodies asked for at one time."""


class Ordering:
    """The window of slots, and the view in which votes count.

    Invariants:
      `active`: this replica votes in `view`; not active: it has asked for `view` and votes in none
      `window` is the seqs between `bottom` and `high`, which are voted on
      low < seq <= high for every slot but those beyond the boundary, which nobody goes on with [CL99 4.2]
      `next_seq`, at the primary, is above every seq that this replica has proposed in this view
    """

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self.view = 0
        self.active = True
        self.boundary: int | None = None
        """The last seq of this configuration, once its end is decided: nothing beyond is proposed or voted on."""
        self.low = 0
        self.floor = 0
        """min-s of the NEW-VIEW that began this view: what lies at or below it is decided, whoever proposes there."""
        self.high = notary.log_window
        self.next_seq = 1
        self._complete = True
        self.latest = 0
        """The highest seq that has a proposal in this view."""
        self.slots: dict[int, Slot] = {}
        self.promised = 0
        """The highest seq for which this replica has sent COMMIT, in whatever view."""
        self._unsaved: list[Message] = []
        self._moved()

    @property
    def primary(self) -> NodeId:
        """Of the present view, or of the one that is asked for."""
        return self._notary.primary(self.view)

    @property
    def proves(self) -> bool:
        """Whether a certificate tells a peer enough. Under MACs every replica has to repeat its own words."""
        return self._notary.transferable

    @property
    def leads(self) -> bool:
        return self.active and self.primary == self._notary.me

    # ----------------------------------------------------------------------------------------------------- the window

    def slot(self, seq: int) -> Slot:
        """The slot of a seq within the window."""
        slot = self.slots.get(seq)
        if slot is None:
            slot = self.slots[seq] = Slot(seq)
        return slot

    def in_window(self, seq: int) -> bool:
        """low < seq <= high: a faulty primary cannot exhaust the numbers (P20). [CL99 4.2]"""
        return seq in self.window

    def _moved(self) -> None:
        self.window = range(self.bottom + 1, self.high + 1)

    @property
    def bottom(self) -> int:
        """Nothing at or below is voted on: it is stable here, decided before this view, or a whole window below what is
        proved, where only the state helps. So slots are at most two windows, however far this replica is behind."""
        return max(self.low, self.floor, self.useless)

    @property
    def useless(self) -> int:
        """Slots up to here are kept no more."""
        return self.high - 2 * self._notary.log_window

    def above(self, seq: int) -> Iterator[Slot]:
        """Slots beyond `seq` in order."""
        return (self.slots[number] for number in sorted(self.slots) if number > seq)

    def discard(self, upto: int) -> None:
        """A stable checkpoint covers everything up to `upto`, and this replica has the state. [CL99 4.3]"""
        for seq in [seq for seq in self.slots if seq <= upto]:
            del self.slots[seq]
        self._unsaved = [record for record in self._unsaved if _seq(record) > upto]
        self.low = max(self.low, upto)
        self.raise_high(upto)
        self.next_seq = max(self.next_seq, upto + 1)

    def raise_high(self, stable: int) -> bool:
        """A checkpoint at `stable` is proved, whether this replica has reached it or not. Whether that moves the
        window."""
        before, self.high = self.high, self._capped(max(self.high, self._end(stable)))
        for seq in [seq for seq in self.slots if seq <= self.useless]:
            del self.slots[seq]
        self._moved()
        return self.high > before

    def _end(self, stable: int) -> int:
        return stable + self._notary.log_window

    def _capped(self, high: int) -> int:
        return high if self.boundary is None else min(high, self.boundary)

    def end_at(self, boundary: int) -> None:
        """A change of the members is decided: nobody votes for anything beyond any more, nor executes it. What was
        voted for there stays, and is shown in VIEW-CHANGEs: more than f liars can have brought it about (P16)."""
        self.boundary = boundary
        self.high = self._capped(self.high)
        self._moved()
        self.latest, self.promised = self._capped(self.latest), self._capped(self.promised)

    def reopen(self) -> None:
        """Another state has taken the place of the one that said where the epoch ends."""
        self.boundary = None
        self.high = max(self.high, max(self.slots, default=0))
        self._moved()

    def due(self, seq: int) -> Slot | None:
        """The slot of `seq`, if it is for this epoch to execute."""
        return self.slots.get(seq) if self.boundary is None or seq <= self.boundary else None

    # --------------------------------------------------------------------------------------------------- normal case

    def propose(self, batch: Batch) -> list[Effect]:
        """The primary gives `batch` the next number: on disk first, since it must never say another. [CL99 4.2]"""
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        signature = self._notary.sign("pre-prepare", (self.view, seq, batch.digest))
        message = PrePrepare(self.view, seq, batch.digest, signature, batch.time, batch.raws)
        slot = self.slot(seq)
        self._give(slot, batch.digest, signature)
        slot.keep(batch)
        slot.vote(batch.digest, self.view)
        shown = self._notary.witness.proposed(message)
        return [*self.save(), Persist(message, seq), Send(self._notary.others, message), *self._advance(slot), *shown]

    def accept(self, message: PrePrepare, batch: Batch) -> list[Effect]:
        """A backup takes a checked pre-prepare: the first for its (view, seq), the only one. [CL99 4.2] (P16, P17)"""
        slot = self.slot(message.seq)
        self._give(slot, message.digest, message.signature)
        slot.keep(batch)
        return [*self.save(), Persist(message, message.seq), *self._send_prepare(slot), *self._advance(slot)]

    def _give(self, slot: Slot, digest: Digest, signature: bytes) -> None:
        slot.digest, slot.signature = digest, signature
        self.latest = max(self.latest, slot.seq)

    def _send_prepare(self, slot: Slot) -> list[Effect]:
        if slot.digest is None:
            return []
        slot.vote(slot.digest, self.view)
        if self._notary.me == self.primary:
            return []
        signature = self._notary.sign("prepare", (self.view, slot.seq, slot.digest, self._notary.me))
        slot.prepares.good.add(self._notary.me, slot.digest, signature)
        return [Send(self._notary.others, Prepare(self.view, slot.seq, slot.digest, self._notary.me, signature))]

    def on_prepare(self, message: Prepare) -> list[Effect]:
        """A backup's vote in this view and window. The primary's counts for nothing: it has its pre-prepare (P19)."""
        if message.replica == self._notary.primary(message.view):
            return self._notary.refuse(message.replica, "the primary sends no PREPARE")
        slot = self.slots.get(message.seq) or self.slot(message.seq)
        self._hear(slot.prepares, message)
        if slot.prepared is not None and slot.prepared.view == self.view:
            return []
        return self._advance(slot)

    def on_commit(self, message: Commit) -> list[Effect]:
        slot = self.slots.get(message.seq) or self.slot(message.seq)
        self._hear(slot.commits, message)
        if slot.committed is not None:
            return []
        effects: list[Effect] = []
        if message.digest != slot.digest and self.may_be_decided(slot, message.digest):
            effects += self._settle(slot, slot.commits, "commit", message.digest, self._notary.quorum)
            self._decide(slot, message.digest)
        return effects + self._advance(slot)

    def may_be_decided(self, slot: Slot, digest: Digest) -> bool:
        """A quorum of others commits what this replica has not accepted: their votes are worth checking."""
        return slot.committed is None and slot.commits.possible(digest) >= self._notary.quorum

    def is_prepared(self, slot: Slot) -> bool:
        """prepared(m, v, n, i): body, pre-prepare, and `quorum - 1` prepares of distinct backups. [CL99 4.2]"""
        return slot.body is not None and slot.prepares.good.count(slot.body.digest) >= self._notary.quorum - 1

    def has_prepared(self, slot: Slot) -> bool:
        """Whether this replica has prepared in this view what it has accepted in it."""
        return slot.prepared is not None and slot.prepared.view == self.view and self.active

    def is_committed(self, slot: Slot, digest: Digest) -> bool:
        """A quorum of commits for `digest`. [CL99 4.2] (P25)"""
        return slot.commits.good.count(digest) >= self._notary.quorum

    def is_decided(self, seq: int) -> bool:
        """Whether it is known what is to be executed at `seq`, with or without its body."""
        slot = self.slots.get(seq)
        return slot is not None and slot.committed is not None

    def _advance(self, slot: Slot) -> list[Effect]:
        """Whatever follows from what is known of this slot in this view."""
        if slot.digest is None or not self.active:
            return []
        effects: list[Effect] = []
        if slot.prepared is None or slot.prepared.view < self.view:
            if slot.prepares.held:
                effects = self._settle(slot, slot.prepares, "prepare", slot.digest, self._notary.quorum - 1)
            if self.is_prepared(slot):
                effects += self._send_commit(slot)
        if slot.committed is None:
            if slot.commits.held:
                effects += self._settle(slot, slot.commits, "commit", slot.digest, self._notary.quorum)
            self._decide(slot, slot.digest)
        return effects

    def _send_commit(self, slot: Slot) -> list[Effect]:
        """Prepared: the certificate is on disk before COMMIT leaves, for the next view's sake. [CL99 4.2] (P16)"""
        digest = slot.digest or b""
        votes = slot.prepares.votes(digest, self._notary.quorum - 1)
        slot.prepared = PreparedProof(self.view, slot.seq, digest, slot.signature, votes)
        slot.vote(digest, self.view)  # its body may have come decided, without a vote for it
        self.promised = max(self.promised, slot.seq)
        signature = self._notary.sign("commit", (self.view, slot.seq, digest, self._notary.me))
        slot.commits.good.add(self._notary.me, digest, signature)
        message = Commit(self.view, slot.seq, digest, self._notary.me, signature)
        return [Persist(slot.prepared, slot.seq), Send(self._notary.others, message)]

    def _decide(self, slot: Slot, digest: Digest) -> None:
        if slot.committed is None and self.is_committed(slot, digest):
            votes = slot.commits.votes(digest, self._notary.quorum)
            slot.committed = CommitProof(self.view, slot.seq, digest, votes)
            self._unsaved.append(slot.committed)

    def decide_by(self, message: Committed, batch: Batch) -> None:
        """A checked certificate with its body, whatever was accepted here. [deviates: see CommitProof] (P27)"""
        slot = self.slot(message.proof.seq)
        if slot.committed is None:
            slot.committed = message.proof
        if slot.committed.digest != message.proof.digest:
            return  # a fork: on disk, it would be what counts after a restart, and this replica would contradict itself
        slot.keep(batch)
        self._unsaved.append(message)

    def save(self) -> list[Effect]:
        """Commit certificates not yet on disk. They are kept for laggards and archives and are no promise: they ride
        with the next record that somebody waits for, or with the status tick."""
        records, self._unsaved = self._unsaved, []
        return [Persist(record, _seq(record)) for record in records]

    # --------------------------------------------------------------------------------------------------------- bodies

    def fetch_bodies(self) -> list[Effect]:
        """Ask for bodies known by digest only: f+1 of those that said they have it, others the next time (P15)."""
        effects: list[Effect] = []
        for slot in self.above(self.low):
            for digest, holders in slot.lacking():
                peers = [node for node in holders if node != self._notary.me] or list(self._notary.others)
                count = min(self._notary.weak_quorum, len(peers))
                to = tuple(peers[(slot.asked + turn) % len(peers)] for turn in range(count))
                slot.asked += count
                effects.append(Send(to, FetchBatch(slot.seq, digest)))
            if len(effects) >= FETCHES:
                break
        return effects

    def supply(self, seq: int, batch: Batch) -> list[Effect]:
        """A body that was asked for by digest. It is on disk before any vote on it leaves (P15, P18)."""
        slot = self.slots.get(seq)
        if slot is None or batch.digest not in [digest for digest, _ in slot.lacking()]:
            return []
        slot.keep(batch)
        effects: list[Effect] = [Persist(BatchData(seq, batch.time, batch.raws), seq)]
        if self.active and batch.digest == slot.digest and seq <= self.high:
            effects += self._send_prepare(slot) + self._advance(slot)
        return effects

    def complete(self) -> bool:
        """Whether the body of everything that this view began with is here; what came later came with its body."""
        if not self._complete:
            accepted = [slot for slot in self.slots.values() if slot.digest is not None and slot.seq <= self.high]
            self._complete = all(slot.body is not None for slot in accepted)
        return self._complete

    # ---------------------------------------------------------------------------------------------------------- views

    def leave(self, view: int) -> None:
        """Ask for `view`: from now on no vote of an older one. [CL99 4.4]"""
        self.view = view
        self.active = False

    def enter(self, view: int, low: int, proposals: list[Proposal], holders: dict[int, list[NodeId]]) -> list[Effect]:
        """Begin `view` with O, whose seqs follow `low`; a backup votes for each whose body it has. [CL99 4.4]

        `holders`: by seq, the replicas whose votes are in the certificate that chose it: they have the body.
        """
        self.view = view
        self.active = True
        self.floor = low
        self.raise_high(low)
        self.latest = 0
        self._complete = False
        for slot in self.slots.values():
            slot.begin_view()
        effects: list[Effect] = []
        for proposal in proposals:
            if self.in_window(proposal.seq):
                slot = self.slot(proposal.seq)
                self._give(slot, proposal.digest, proposal.signature)
                slot.holders = holders.get(proposal.seq, [])
                if proposal.digest == NULL.digest:
                    slot.keep(NULL)
                if slot.body is not None:
                    effects += self._send_prepare(slot)
        self.next_seq = max([low, self.low] + [proposal.seq for proposal in proposals]) + 1
        # What lies beyond O was committed nowhere, whoever sent COMMIT for it.
        self.promised = min(self.promised, self.next_seq - 1)
        return effects

    # ----------------------------------------------------------------------------------------------------- votes held

    def _hear(self, tally: Tally, message: Prepare | Commit) -> None:
        """Hold a vote: the first of each replica stays (P7). What contradicts it is for the witness (P17)."""
        voter = message.replica
        if voter in tally.good.by_voter:
            return
        earlier = tally.held.get(voter)
        if earlier is None or earlier[0] == message.digest:
            tally.held[voter] = (message.digest, message.signature)

    def _settle(self, slot: Slot, tally: Tally, kind: str, digest: Digest, needed: int) -> list[Effect]:
        def check(voter: NodeId, signature: bytes) -> bool:
            return self._notary.check(voter, kind, (self.view, slot.seq, digest, voter), signature)

        bad = tally.settle(digest, needed, check)
        return [note for voter in bad for note in self._notary.refuse(voter, f"bad signature of {kind}")] if bad else []

    # ----------------------------------------------------------------------------------------------------------- status

    def flags(self, executed: int) -> bytes:
        """A byte a slot from `executed + 1` to the last that is not empty, within two windows: what there is."""
        last = min(self._capped(max(self.slots, default=executed)), executed + 2 * self._notary.log_window)
        return bytes(self._flag(self.slots.get(seq)) for seq in range(executed + 1, last + 1))

    def _flag(self, slot: Slot | None) -> int:
        if slot is None:
            return 0
        prepared = slot.prepared is not None and slot.prepared.view == self.view
        body, committed = slot.body is not None, slot.decided is not None
        return HAS_BODY * body | HAS_PREPARED * prepared | HAS_COMMITTED * committed

    def own_words(self, slot: Slot, flag: int) -> list[Message]:
        """What this replica has said about `slot` in this view and a peer with `flag` lacks."""
        me, view, seq, digest = self._notary.me, self.view, slot.seq, slot.digest
        if digest is None or slot.body is None:
            return []
        words: list[Message] = []
        if me == self._notary.primary(view):
            if not flag & HAS_BODY:
                body = slot.body
                words.append(PrePrepare(view, seq, digest, slot.signature, body.time, body.raws))
        elif not flag & HAS_PREPARED and (vote := slot.prepares.good.get(me)) is not None:
            words.append(Prepare(view, seq, digest, me, vote[1]))
        if not flag & HAS_COMMITTED and (vote := slot.commits.good.get(me)) is not None:
            words.append(Commit(view, seq, digest, me, vote[1]))
        return words

    # --------------------------------------------------------------------------------------------------------- restart

    def recall_view(self, view: int, low: int, proposals: list[Proposal], holders: dict[int, list[NodeId]]) -> None:
        """The view that this replica was in. What it had accepted of O may lie beyond the window that is known by
        now: none of it is forgotten (P16)."""
        self.high = max([self.high, *(proposal.seq for proposal in proposals)])
        self.enter(view, low, proposals, holders)

    def recalled(self, seq: int) -> Slot:
        self.high = max(self.high, seq)
        self._moved()
        return self.slot(seq)

    def recall(self, record: Message) -> None:
        """One record from this replica's own disk, in the order of writing (P16)."""
        self._notary.witness.recalled(record)
        if type(record) is PrePrepare:
            slot = self.recalled(record.seq)
            if record.view == self.view and self.active:
                self._give(slot, record.digest, record.signature)
                self.next_seq = max(self.next_seq, record.seq + 1)
            slot.keep(Batch.read(record.time, record.requests))
            slot.vote(record.digest, record.view)
        elif type(record) is BatchData:
            self.recalled(record.seq).keep(Batch.read(record.time, record.requests))
        elif type(record) is PreparedProof:
            slot = self.recalled(record.seq)
            slot.prepared = record
            self.promised = max(self.promised, record.seq)
            slot.vote(record.digest, record.view)
        elif type(record) is CommitProof:
            self.recalled(record.seq).committed = record
        elif type(record) is Committed:
            slot = self.recalled(record.proof.seq)
            slot.committed = record.proof
            slot.keep(Batch.read(record.time, record.requests))

    def places(self) -> list[Placed]:
        """Q: for each seq and digest above h the highest view in which this replica voted for it. [CL02]"""
        return [
            Placed(slot.seq, digest, slot.voted[digest])
            for slot in self.above(self.low)
            for digest in sorted(slot.voted)
        ]

    def hard_state(self) -> list[Message]:
        """What a cut of the log would take along, beside the records of seqs above it."""
        return []

    def revote(self, executed: int) -> list[Effect]:
        """After a restart: say again what was said about everything beyond `executed`, so that a cluster which was
        killed as a whole goes on. Also makes the own votes again, which are not on disk as such."""
        effects: list[Effect] = []
        for slot in self.above(self.low):
            if slot.digest is None or slot.body is None:
                continue
            prepared = slot.prepared if slot.prepared is not None and slot.prepared.view == self.view else None
            said = self._send_prepare(slot)
            if self._notary.me == self._notary.primary(self.view):
                body = slot.body
                message = PrePrepare(self.view, slot.seq, slot.digest, slot.signature, body.time, body.raws)
                said.append(Send(self._notary.others, message))
            if prepared is not None:
                for vote in prepared.votes:
                    slot.prepares.good.add(vote.replica, slot.digest, vote.signature)
                said += [effect for effect in self._send_commit(slot) if type(effect) is Send]
            if slot.seq > executed:
                effects += said
        return effects

    # ------------------------------------------------------------------------------------- recovery [CL02 estimation]

    def distrust(self, low: int, limit: int, executed: int) -> int:
        """Forget what no correct replica holds: slots beyond `limit`, what nobody has signed, and under MACs what is
        said to be decided and was not executed yet: the others say it again. `low`: the stable checkpoint. How many
        slots held such."""
        gone = [seq for seq in self.slots if not low < seq <= limit]
        for seq in gone:
            del self.slots[seq]
        wrong = [slot.seq for slot in self.slots.values() if self._distrust_slot(slot, executed)]
        self._unsaved.clear()
        self.low, self.floor = low, min(self.floor, limit)
        self.high = self._capped(max(low + self._notary.log_window, min(self.high, limit)))
        self._moved()
        self.promised, self.latest = min(self.promised, limit), min(self.latest, limit)
        self.next_seq = min(self.next_seq, limit + 1)
        return len(gone) + len(wrong)

    def _distrust_slot(self, slot: Slot, executed: int) -> bool:
        if not self._notary.transferable:
            slot.committed = slot.committed if slot.seq <= executed else None
            return False
        decided = slot.committed is None or not self._notary.flaw_in_commit(slot.committed)
        prepared = slot.prepared is None or not self._notary.flaw_in_prepared(slot.prepared)
        proposed = (
            slot.digest is None
            or not self.active
            or self._notary.check_pre_prepare(self.view, slot.seq, slot.digest, slot.signature)
        )
        slot.committed = slot.committed if decided else None
        slot.prepared = slot.prepared if prepared else None
        if not prepared or not proposed:
            slot.begin_view()
        return not (decided and prepared and proposed)

    def rejoin(self, view: int, *, begun: bool, asked: bool) -> int:
        """Wait for the NEW-VIEW of `view`, or a later one, unless the present view can be accounted for: it was begun,
        or asked for, and is not beyond what a correct replica can ask for. 1 if it cannot."""
        if self.view <= view + 1 and (not self.view or (begun if self.active else asked)):
            return 0
        self.view = min(self.view, view)
        self.active = self.view == 0
        for slot in self.slots.values():
            slot.begin_view()
            if slot.prepared is not None and slot.prepared.view > self.view:
                slot.prepared = None
        return 1

    # ------------------------------------------------------------------------------------------------------ invariants

    def check_invariants(self) -> None:
        assert self.boundary is None or self.high <= self.boundary, "nothing beyond the boundary is voted on"
        assert self.window == range(self.bottom + 1, self.high + 1), "the window is what lies between its ends"
        for seq, slot in self.slots.items():
            beyond = self.boundary is not None and seq > self.boundary
            assert self.low < seq, f"slot {seq} lies above {self.low}"
            assert seq <= self.high or beyond, f"slot {seq} lies below {self.high}, or beyond the boundary"
            assert seq > self.useless, f"slot {seq} lies beyond what is kept no more, {self.useless}"
            if slot.prepared is not None:
                assert slot.prepared.view <= self.view, f"slot {seq} prepared in a view to come"
                assert slot.voted.get(slot.prepared.digest, -1) >= slot.prepared.view, f"slot {seq} prepared unvoted"
            if slot.prepared is not None and slot.committed is not None and slot.prepared.view >= slot.committed.view:
                assert slot.prepared.digest == slot.committed.digest, f"slot {seq} prepared against what is decided"
            if self.active and self._notary.me in slot.commits.good:
                assert slot.prepared is not None, f"own COMMIT at {seq} without being prepared"
                assert slot.prepared.view == self.view, f"own COMMIT at {seq} without being prepared in this view"
            assert len(slot.bodies) <= BODIES_MAX, f"slot {seq} keeps {len(slot.bodies)} bodies"


def _seq(record: Any) -> int:
    return int(record.proof.seq if type(record) is Committed else record.seq)
