"""The door to the slots: which pre-prepares, votes, certificates and bodies are let in. [CL99 4.2]

Here: the checks that need more than the slot, and what comes before its time. Not here: what follows from a message
that was let in (`pbft.ordering`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbft.catch_up import Early
from pbft.execution import Execution
from pbft.messages import NULL, Batch, BatchData, Commit, Committed, Prepare, PrePrepare
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.requests import Requests
from replog.codec import BadMessage
from replog.core import Effect, Setup
from replog.types import NodeId, Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options


class Acceptance:
    """Invariant: what is let in belongs to the present view and window, and its sender may say it."""

    def __init__(
        self, setup: Setup, notary: Notary, ordering: Ordering, requests: Requests, execution: Execution
    ) -> None:
        self.options: Options = setup.config
        self._wall = setup.wall
        self.notary = notary
        self.ordering = ordering
        self.requests = requests
        self._execution = execution
        self.early = Early()

    def _is_early(self, sender: NodeId, message: PrePrepare | Prepare | Commit) -> bool:
        """Keep what belongs to a view or window that this replica has not reached; it may get there (P21)."""
        ordering = self.ordering
        if message.view == ordering.view and ordering.active and message.seq in ordering.window:
            return False
        late = message.view < ordering.view or message.seq <= ordering.low
        late = late or (message.view == ordering.view and message.seq <= ordering.bottom)
        if not late and message.seq <= ordering.high + self.options.log_window:
            self.early.keep(sender, message)
        return True

    def on_pre_prepare(self, sender: NodeId, message: PrePrepare) -> list[Effect]:
        """Accepted if it is the primary's own, in this view and window, the first for its seq, and the body is one that
        this replica can vouch for. [CL99 4.2]"""
        if sender != self.notary.primary(message.view):
            return self.notary.refuse(sender, "only the primary sends a pre-prepare")
        if self._is_too_large(message):
            return self.notary.refuse(sender, "pre-prepare: more requests or bytes than a batch may hold")
        if self._is_early(sender, message):
            return []
        slot = self.ordering.slot(message.seq)
        if slot.digest is not None:
            return self._again(message)
        if slot.committed is not None and slot.committed.digest != message.digest:
            return self.notary.refuse(sender, "pre-prepare: another batch is decided there")
        batch = _batch(message)
        if batch is None or batch.digest != message.digest:
            return self.notary.refuse(sender, "pre-prepare: the digest is not the body's")
        if not self.notary.check_pre_prepare(message.view, message.seq, message.digest, message.signature):
            return self.notary.refuse(sender, "pre-prepare: bad signature")
        if flaw := self.requests.flaw_in_batch(batch, self._wall()):
            if batch.digest == NULL.digest and message.seq > self._execution.executed + 1:
                self.early.keep(sender, message)  # what is executed before it may be a change of the members
                return []
            return self.notary.refuse(sender, f"pre-prepare: {flaw}")
        doubtful = self.requests.unvouched(batch)
        if doubtful is not None:
            return self.doubt(message, batch, doubtful)
        return self.ordering.accept(message, batch) + self._two_faced(batch)

    def _two_faced(self, batch: Batch) -> list[Effect]:
        """Clients that gave this replica another request under the same timestamp: both were verified anyway, since a
        client could else make work with signatures that are none. (P32, P36)"""
        pending = self.requests.pending
        pairs = [(pending.get(request.identity), request) for request in batch.requests] if pending else []
        return [
            effect
            for known, request in pairs
            if known is not None and known.digest != request.digest and known.body != request.body
            for effect in self.notary.accuse_client(known, request)
        ]

    def doubt(self, message: PrePrepare, batch: Batch, request: Request) -> list[Effect]:
        """A batch with a request that its client did not sign: never voted for."""
        rule = f"pre-prepare: {request.client} did not sign its request {request.timestamp}"
        return self.notary.refuse(self.ordering.primary, rule)

    def _again(self, message: PrePrepare) -> list[Effect]:
        """A pre-prepare for a seq that has one: the body that a new view lacked, a repetition, or a lie, which is for
        the witness (P17)."""
        slot = self.ordering.slot(message.seq)
        batch = _batch(message) if slot.digest == message.digest and slot.body is None else None
        return self.ordering.supply(message.seq, batch) if batch is not None else []

    def on_vote(self, sender: NodeId, message: Prepare | Commit) -> list[Effect]:
        if message.replica != sender:
            return self.notary.refuse(sender, "a vote in another's name")
        ordering = self.ordering
        ready = message.view == ordering.view and message.seq in ordering.window and ordering.active
        if not ready and self._is_early(sender, message):
            return []
        if type(message) is Commit:
            return ordering.on_commit(message)
        return ordering.on_prepare(message)  # type: ignore[arg-type]

    def on_committed(self, sender: NodeId, message: Committed) -> list[Effect]:
        """A decided batch, whole, if it is of use."""
        seq = message.proof.seq
        slot = self.ordering.slots.get(seq)
        lowest = max(self._execution.executed, self.ordering.useless)
        if not lowest < seq <= self.ordering.high or (slot is not None and slot.decided is not None):
            return []
        if self._is_too_large(message):
            return self.notary.refuse(sender, "committed: more requests or bytes than a batch may hold")
        if self.notary.transferable and (flaw := self.notary.flaw_in_commit(message.proof)):
            return self.notary.refuse(sender, f"committed: {flaw}")
        batch = _batch(message)
        if batch is None or batch.digest != message.proof.digest:
            return self.notary.refuse(sender, "committed: the digest is not the body's")
        return self.decide(sender, message, batch)

    def _is_too_large(self, message: PrePrepare | Committed | BatchData) -> bool:
        """Cheap: no request is read. Every body that can be decided is small enough, on every replica. (P36, X6)"""
        options, raws = self.options, message.requests
        return len(raws) > options.batch_requests_max or sum(map(len, raws)) > options.batch_bytes_max

    def decide(self, sender: NodeId, message: Committed, batch: Batch) -> list[Effect]:
        """What its certificate, which was checked, proves is decided. [deviates: see CommitProof] (P25, P27)"""
        self.ordering.decide_by(message, batch)
        return self.notary.witness.proven(message.proof)

    def on_batch_data(self, sender: NodeId, message: BatchData) -> list[Effect]:
        slot = self.ordering.slots.get(message.seq)
        if slot is None or not slot.lacking():
            return []
        batch = None if self._is_too_large(message) else _batch(message)
        if batch is None:
            return self.notary.refuse(sender, "batch: not made of requests, or more than a batch may hold")
        return self.ordering.supply(message.seq, batch)

    def check_invariants(self) -> None:
        self.early.check_invariants()


def _batch(message: PrePrepare | Committed | BatchData) -> Batch | None:
    try:
        return Batch.read(message.time, message.requests)
    except BadMessage:
        return None
