"""Changing the view: what to say on leaving one, when to follow others, and what the next one must begin with.

Here: the view-changes heard, the choice that follows from a quorum of them, and the checks of both messages
[CL99 4.4, 4.5.2]. Not here: the timers (`pbft.requests`), what entering means for slots (`pbft.ordering`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from pbft.checkpoint import Checkpoints
from pbft.messages import (
    NULL,
    CheckpointProof,
    MacNewView,
    MacViewChange,
    NewView,
    PreparedProof,
    Proposal,
    ViewChange,
    new_view_digest,
    prepared_digest,
)
from pbft.notary import Notary
from pbft.ordering import Ordering
from replog.core import Effect
from replog.types import Message, NodeId

VIEW_RECORDS: Final = (ViewChange, NewView, MacViewChange, MacNewView)
"""What is on disk of views: a replica asks for one, or begins one."""

Asks = TypeVar("Asks", ViewChange, MacViewChange)
Begins = TypeVar("Begins", NewView, MacNewView)


class Asking(Generic[Asks, Begins]):
    """Who asks for which view, whatever the view-changes rest on.

    Invariants:
      `heard` has at most one view-change a replica, valid, of the highest view it asked for       (HAZARDS P6)
      `own` is the last view-change this replica sent; `new_view` began the view that is active    (HAZARDS P16)
      `accepted` was checked in full and may begin its view
    """

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self.heard: dict[NodeId, Asks] = {}
        self.own: Asks | None = None
        self.new_view: Begins | None = None
        self.accepted: Begins | None = None

    def wanted(self, view: int) -> int | None:
        """The view to join, if more than f others ask for one above `view`: of these the smallest, which at least one
        correct replica stands behind (P11, P12). [CL99 4.5.2]"""
        backers = self._backers(self.heard)
        return backers[-1].view if backers and backers[-1].view > view else None

    def _backers(self, heard: Mapping[NodeId, Asks]) -> list[Asks]:
        """The f+1 others that ask for the highest views, the lowest last; none while fewer ask."""
        others = [message for node, message in sorted(heard.items()) if node != self._notary.me]
        enough = self._notary.weak_quorum
        return sorted(others, key=lambda message: -message.view)[:enough] if len(others) >= enough else []

    def reasons(self) -> list[Asks]:
        """Whom this replica followed, to be on its disk: none where they prove nothing."""
        return []

    def asking(self, view: int) -> list[Asks]:
        """The view-changes for exactly `view`, by replica."""
        return [self.heard[node] for node in sorted(self.heard) if self.heard[node].view == view]

    def enough(self, view: int) -> bool:
        """2f+1 replicas want `view` or a later one: now its NEW-VIEW is due. [CL99 4.5.2]"""
        return sum(1 for message in self.heard.values() if message.view >= view) >= self._notary.quorum

    def recall(self, record: Any) -> None:
        """From this replica's own disk, the highest of each (P16)."""
        if type(record) in (NewView, MacNewView):
            if self.new_view is None or record.view > self.new_view.view:
                self.new_view = record
        elif record.replica != self._notary.me:
            known = self.heard.get(record.replica)
            self.heard[record.replica] = record if known is None or record.view > known.view else known
        elif self.own is None or record.view > self.own.view:
            self.own = record
            self.heard[self._notary.me] = record

    def hard_state(self, active: bool) -> list[Message]:
        """What must outlive a cut of the log: the view, and, unless it has begun, the wish for it, and whom that
        followed (P16)."""
        records = [self.new_view, *([] if active else [self.own, *self.reasons()])]
        return [record for record in records if record is not None]

    def flaw_in_own(self) -> str:
        """Why the own view-change is none that this replica can have made; "" if it may be."""
        return ""

    def flaw_in_begun(self) -> str:
        """Why the NEW-VIEW at hand cannot have begun a view."""
        return ""

    def signed(self) -> int:
        """The highest view that signatures speak for, checked anew; 0 where nothing is proved. [CL02 estimation]"""
        return 0

    def distrust(self, highest: int) -> int:
        """Forget the own view-change, or the NEW-VIEW, if it is for a view beyond `highest` or has a flaw. How many.
        [CL02 proactive recovery]"""
        dropped = 0
        if self.own is not None and (self.own.view > highest or self.flaw_in_own()):
            self.own = None
            self.heard.pop(self._notary.me, None)
            dropped += 1
        if self.new_view is not None and (self.new_view.view > highest or self.flaw_in_begun()):
            self.new_view = None
            dropped += 1
        self.accepted = None
        return dropped

    def recall_votes(self, ordering: Ordering) -> None:
        """After all records: certificates prove what was voted for."""

    def check_invariants(self) -> None:
        for node, message in self.heard.items():
            assert message.replica == node, f"the view-change kept for {node} is of {message.replica}"
        assert len(self.heard) <= self._notary.n, "one view-change a replica"


class ViewChanges(Asking[ViewChange, NewView]):
    """With signatures: a view-change carries its certificates, a NEW-VIEW its view-changes. [CL99 4.4]"""

    # ------------------------------------------------------------------------------------------------------- leaving

    def ask(self, view: int, checkpoints: Checkpoints, ordering: Ordering) -> ViewChange:
        """VIEW-CHANGE for `view`: the checkpoint proof, and P, the certificates above it. [CL99 4.4]"""
        checkpoint = checkpoints.proven
        prepared = [slot.prepared for slot in ordering.above(checkpoint.seq) if slot.prepared is not None]
        unsigned = ViewChange(view, checkpoint, prepared, self._notary.me, b"")
        signature = self._notary.sign_view_change(unsigned)
        self.own = ViewChange(view, checkpoint, prepared, self._notary.me, signature)
        self.heard[self._notary.me] = self.own
        return self.own

    def flaw(self, message: ViewChange) -> str:
        """Why a view-change must be refused; "" if it is valid. What was found valid before is not checked again."""
        known = self.heard.get(message.replica)
        return "" if known == message else self._notary.flaw_in_view_change(message)

    def on_view_change(self, message: ViewChange) -> list[Effect]:
        """Keep it if it is valid and of a higher view than the sender's last. Another one for the same view is refused,
        and proves a lie: a correct replica's is on its disk before it leaves (P6, P16)."""
        known = self.heard.get(message.replica)
        if known is not None and (message.view < known.view or message == known):
            return []
        if known is not None and message.view == known.view:
            if not self._notary.check_view_change(message):
                return self._notary.refuse(message.replica, "view-change: bad signature")
            if prepared_digest(message) == prepared_digest(known):
                return []
            return self._notary.accuse(message.replica, "two-view-changes", (message.view, 0), known, message)
        flaw = self.flaw(message)
        if flaw:
            beyond_doubt = self._notary.unbounded().flaw_in_view_change(message)
            return self._notary.witness.flawed(message, beyond_doubt) + self._notary.refuse(message.replica, flaw)
        self.heard[message.replica] = message
        return self._notary.witness.proven(message)

    def flaw_in_own(self) -> str:
        return self._notary.flaw_in_view_change(self.own) if self.own is not None else ""

    def flaw_in_begun(self) -> str:
        return self.flaw_in_new_view(self.new_view) if self.new_view is not None else ""

    def reasons(self) -> list[ViewChange]:
        """Whom this replica followed, if it asks for a view that it did not come to by itself: what it promised since
        then is justified by their signatures, in a refresh after a restart too (P16)."""
        begun = self.new_view.view if self.new_view is not None else 0
        followed = self.own is not None and self.own.view > begun + 1
        return self._backers(self.heard) if followed else []

    def signed(self) -> int:
        """The view that a quorum has asked for with its signatures, or more than f others do: whoever is correct may
        have followed them."""
        begun = self.new_view.view if self.new_view is not None and not self.flaw_in_begun() else 0
        sound = {node: said for node, said in self.heard.items() if not self._notary.flaw_in_view_change(said)}
        backers = self._backers(sound)
        return max(begun, backers[-1].view if backers else 0)

    def on_repeated(self, message: ViewChange) -> list[Effect]:
        """Nothing new."""
        return []

    def tick(self) -> list[Effect]:
        """A NEW-VIEW is complete in itself: nothing has to be asked for."""
        return []

    # ------------------------------------------------------------------------------------------------------ beginning

    def choose(self, view_changes: Sequence[ViewChange]) -> tuple[CheckpointProof, list[PreparedProof | int]]:
        """What a view must begin with: min-s with its proof, and for each seq from there to max-s the certificate of
        the highest view, or the bare seq where none is prepared: a null request (P3, P8, P9). [CL99 4.4]"""
        low = max((message.checkpoint for message in view_changes), key=lambda proof: (proof.seq, proof.digest))
        best: dict[int, PreparedProof] = {}
        for message in view_changes:
            for proof in message.prepared:
                known = best.get(proof.seq)
                if known is None or (proof.view, proof.digest) > (known.view, known.digest):
                    best[proof.seq] = proof
        last = max(best, default=low.seq)
        return low, [best.get(seq, seq) for seq in range(low.seq + 1, last + 1)]

    def make(self, view: int) -> NewView | None:
        """NEW-VIEW of its primary, once a quorum asks for `view`, its own among them. [CL99 4.4]"""
        asking = self.asking(view)
        own = [message for message in asking if message.replica == self._notary.me]
        if not own or len(asking) < self._notary.quorum:
            return None
        others = [message for message in asking if message.replica != self._notary.me]
        chosen = sorted(own + others[: self._notary.quorum - 1], key=lambda message: message.replica)
        proposals = [
            Proposal(seq, digest, self._notary.sign("pre-prepare", (view, seq, digest)))
            for seq, digest in map(_place, self.choose(chosen)[1])
        ]
        unsigned = NewView(view, chosen, proposals, b"")
        message = NewView(view, chosen, proposals, self._notary.sign_new_view(unsigned))
        self._notary.witness.proven(message)  # these view-changes were heard: nothing new but the own proposals
        return message

    def on_new_view(self, sender: NodeId, message: NewView) -> list[Effect]:
        """Signed by its primary, whoever brings it; checked in full (P4)."""
        if flaw := self.flaw_in_new_view(message):
            beyond_doubt = ViewChanges(self._notary.unbounded()).flaw_in_new_view(message)
            return self._notary.witness.flawed(message, beyond_doubt) + self._notary.refuse(sender, flaw)
        self.accepted = message
        return self._notary.witness.proven(message)

    def flaw_in_new_view(self, message: NewView) -> str:
        """Why a NEW-VIEW must be refused: signature, V (a quorum of distinct senders, one view, each valid in all its
        certificates), O recomputed from V and equal, each pre-prepare signed (P1, P4). [CL99 4.4]"""
        view, senders = message.view, [part.replica for part in message.view_changes]
        if len(senders) != self._notary.quorum or senders != sorted(set(senders)):
            return (
                f"new-view: V must be view-changes of {self._notary.quorum} distinct replicas, these are of {senders}"
            )
        if any(part.view != view for part in message.view_changes):
            return "new-view: V is for another view"
        if not self._notary.check_new_view(message):
            return "new-view: bad signature"
        for part in message.view_changes:
            if flaw := self.flaw(part):
                return f"new-view: {flaw}"
        return self.flaw_in_choice(message)

    def flaw_in_choice(self, message: NewView) -> str:
        wanted = [_place(item) for item in self.choose(message.view_changes)[1]]
        if [(proposal.seq, proposal.digest) for proposal in message.pre_prepares] != wanted:
            return "new-view: O is not what follows from V"
        for proposal in message.pre_prepares:
            if not self._notary.check_pre_prepare(message.view, proposal.seq, proposal.digest, proposal.signature):
                return "new-view: bad signature of a pre-prepare"
        return ""

    def on_second(self, message: NewView) -> list[Effect]:
        """A NEW-VIEW for the view that is active already: the first stands, another one proves a lie (P5)."""
        first = self.new_view
        if first is None or message == first or message.view != first.view:
            return []
        primary = self._notary.primary(message.view)
        if not self._notary.check_new_view(message):
            return self._notary.refuse(primary, "new-view: bad signature")
        if new_view_digest(message) == new_view_digest(first):
            return []
        return self._notary.accuse(primary, "two-new-views", (message.view, 0), first, message)

    def enter(self, message: NewView) -> tuple[CheckpointProof, dict[int, list[NodeId]]]:
        """`message` was checked and begins its view. Gives min-s, and by seq who has the body, if it is not null."""
        self.new_view, self.accepted = message, None
        low, chosen = self.choose(message.view_changes)
        proofs = [item for item in chosen if isinstance(item, PreparedProof)]
        return low, {proof.seq: [vote.replica for vote in proof.votes] for proof in proofs}


def _place(item: PreparedProof | int) -> tuple[int, bytes]:
    """(seq, digest) to be proposed again."""
    return (item, NULL.digest) if isinstance(item, int) else (item.seq, item.digest)
