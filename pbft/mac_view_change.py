"""Changing the view without signatures. [CL02 view changes]

A view-change carries no proof, only what its sender says of itself: P, what it prepared, and Q, what it voted for. The
others acknowledge to the new primary that they have heard the very same from the sender, so that it uses none which it
alone has been told. What the new view begins with follows from what a quorum says in P and a weak quorum in Q.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeGuard

from pbft.checkpoint import Checkpoints, ClaimedCheckpoints
from pbft.claims import Claims
from pbft.messages import (
    NULL,
    CheckpointProof,
    Claim,
    FetchViewChange,
    Heard,
    MacNewView,
    MacViewChange,
    Placed,
    Proposal,
    ViewChangeAck,
    ViewChangeData,
    message_digest,
)
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.slots import BODIES_MAX
from pbft.view_change import Asking
from replog.core import Effect, Send
from replog.types import Digest, Message, NodeId

Choice = tuple[Claim, list[Claim]]
"""Where a view begins: the checkpoint, and the proposals that follow it without a gap."""


class MacViewChanges(Asking[MacViewChange, MacNewView]):
    """Invariants:
    what is in `heard` came from its own replica; one acknowledgement a replica and sender, the latest
    `_present` has of each replica its first view-change for the view that is asked for or active: whatever it says
    later, what was acknowledged stays here until this replica leaves the view, for others to be shown
    `_awaited` has of each primary the NEW-VIEW of its highest view: none of them can keep another one's out
    `_supplied` holds what a weak quorum has heard and `_awaited` rests on
    """

    def __init__(self, notary: Notary) -> None:
        super().__init__(notary)
        self._digests: dict[NodeId, Digest] = {}
        self._acks: dict[tuple[NodeId, NodeId], tuple[int, Digest]] = {}
        self._view = 0
        self._present: dict[NodeId, tuple[MacViewChange, Digest]] = {}
        self._awaited: dict[NodeId, MacNewView] = {}
        self._refused = 0
        """The last view whose primary sent a NEW-VIEW that does not follow."""
        self._supplied: dict[tuple[int, Heard], MacViewChange] = {}
        self._relayed: Claims[tuple[int, NodeId], Digest] = Claims(2 * notary.n)
        self._begun: Claims[int, Digest] = Claims(1)

    # --------------------------------------------------------------------------------------------------------- leaving

    def ask(self, view: int, checkpoints: Checkpoints, ordering: Ordering) -> MacViewChange:
        """VIEW-CHANGE for `view`: h, C, P and Q. [CL02]"""
        low = checkpoints.stable.seq
        prepared = [
            Placed(slot.seq, slot.prepared.digest, slot.prepared.view) for slot in ordering.above(low) if slot.prepared
        ]
        voted = ordering.places()
        held = checkpoints.held() if isinstance(checkpoints, ClaimedCheckpoints) else []
        self.own = MacViewChange(view, low, held, prepared, voted, self._notary.me)
        self._turn_to(view)
        self._keep(self.own)
        return self.own

    def _turn_to(self, view: int) -> None:
        if view != self._view:
            self._view = view
            heard = [(node, message) for node, message in self.heard.items() if message.view == view]
            self._present = {node: (message, self._digests[node]) for node, message in heard}

    def asking(self, view: int) -> list[MacViewChange]:
        return [self._present[node][0] for node in sorted(self._present)] if view == self._view else []

    def _keep(self, message: MacViewChange) -> None:
        node, digest = message.replica, message_digest(message)
        known = self.heard.get(node)
        if known is None or message.view >= known.view:
            self.heard[node], self._digests[node] = message, digest
        if message.view == self._view:
            self._present.setdefault(node, (message, digest))

    def flaw(self, message: MacViewChange) -> str:
        """Why no correct replica says this; "" if one might."""
        interval = self._notary.checkpoint_interval
        seqs = [claim.seq for claim in message.checkpoints]
        if not self._notary.is_member(message.replica) or message.view < 1:
            return "view-change: no such replica or view"
        if not _grow(seqs) or seqs[:1] != [message.stable] or any(seq % interval for seq in seqs):
            return "view-change: its checkpoints must grow from its stable one"
        if not _grow([(item.seq,) for item in message.prepared]) or not _grow(
            [(item.seq, item.digest) for item in message.voted]
        ):
            return "view-change: P and Q must grow"
        if any(item.view >= message.view or item.seq <= message.stable for item in message.prepared + message.voted):
            return "view-change: P and Q are of earlier views, above its stable checkpoint"
        window = 2 * self._notary.log_window
        if len(message.prepared) > window or len(message.voted) > window * BODIES_MAX:
            return "view-change: P or Q is longer than two windows"
        if any(item.seq > message.stable + window for item in message.prepared + message.voted):
            return "view-change: P or Q reaches beyond two windows"
        return ""

    def on_view_change(self, message: MacViewChange) -> list[Effect]:
        """From its own replica. Acknowledged to the primary that has to judge by it (P6). [CL02]"""
        node, view = message.replica, message.view
        known = self._present[node][0] if view == self._view and node in self._present else self.heard.get(node)
        if known is not None and view == known.view:
            return self._acknowledge(node) if message == known else self._notary.refuse(node, "two-view-changes")
        if known is not None and view < known.view and view != self._view:
            return []
        if flaw := self.flaw(message):
            return self._notary.refuse(node, flaw)
        self._keep(message)
        return [*self._acknowledge(node), *self._weigh()]

    def on_repeated(self, message: MacViewChange) -> list[Effect]:
        """Whoever says it again may have an acknowledgement lost."""
        return self._acknowledge(message.replica)

    def acknowledge(self) -> list[Effect]:
        """What was heard before this replica asked for the same view."""
        return [effect for node in sorted(self._present) for effect in self._acknowledge(node)]

    def _acknowledge(self, node: NodeId) -> list[Effect]:
        """Only of the present view: what is acknowledged is kept as long as it may be asked for."""
        primary = self._notary.primary(self._view)
        if node not in self._present or primary in (self._notary.me, node) or node == self._notary.me:
            return []
        return [Send((primary,), ViewChangeAck(self._view, node, self._present[node][1]))]

    def on_ack(self, sender: NodeId, message: ViewChangeAck) -> list[Effect]:
        if message.replica == sender or not self._notary.is_member(message.replica):
            return self._notary.refuse(sender, "an acknowledgement is of what another replica said")
        view, _ = self._acks.get((message.replica, sender), (0, b""))
        if message.view >= view:
            self._acks[message.replica, sender] = (message.view, message.digest)
        return []

    # ------------------------------------------------------------------------------------------------------- beginning

    def make(self, view: int) -> MacNewView | None:
        """NEW-VIEW of its primary, once what is acknowledged decides every seq. [CL02]"""
        chosen = [message for message in self.asking(view) if self._is_acknowledged(message)]
        if self._notary.me not in [message.replica for message in chosen]:
            return None
        choice = self.choose(chosen)
        if choice is None:
            return None
        checkpoint, claims = choice
        sources = [Heard(message.replica, self._present[message.replica][1]) for message in chosen]
        return MacNewView(view, sources, checkpoint, [Proposal(claim.seq, claim.digest, b"") for claim in claims])

    def _is_acknowledged(self, message: MacViewChange) -> bool:
        """A quorum has heard this from its replica: the replica itself, this primary, and `quorum - 2` others."""
        subject, me = message.replica, self._notary.me
        if subject == me:
            return True
        said = (message.view, self._present[subject][1])
        others = [node for node in self._notary.others if node != subject]
        return sum(self._acks.get((subject, node)) == said for node in others) >= self._notary.quorum - 2

    def choose(self, messages: Sequence[MacViewChange]) -> Choice | None:
        """What these view-changes make a new view begin with; None as long as they leave something open.

        The checkpoint is the highest that a weak quorum has and that a quorum is not beyond. For each seq above it the
        digest of the highest view that a quorum does not contradict (A1) and a weak quorum voted for (A2), else the
        null request, if a quorum prepared nothing there (B). [CL02 view changes] (P3, P8, P9)
        """
        checkpoint = self._checkpoint(messages)
        if checkpoint is None:
            return None
        prepared = [{item.seq: item for item in message.prepared} for message in messages]
        voted = [{(item.seq, item.digest): item.view for item in message.voted} for message in messages]
        lows = [message.stable for message in messages]
        digests: dict[int, Digest] = {}
        for seq in sorted({seq for places in prepared for seq in places if seq > checkpoint.seq}):
            told = [places.get(seq) for places, low in zip(prepared, lows, strict=True) if low < seq]
            digest = self._digest_at(seq, told, voted)
            if digest is not None:
                digests[seq] = digest  # it may be that of a null request, which can be decided like any other
            elif sum(item is None for item in told) < self._notary.quorum:
                return None
        places = range(checkpoint.seq + 1, max(digests, default=checkpoint.seq) + 1)
        return checkpoint, [Claim(seq, digests.get(seq, NULL.digest)) for seq in places]

    def _checkpoint(self, messages: Sequence[MacViewChange]) -> Claim | None:
        holders: dict[tuple[int, Digest], int] = {}
        for message in messages:
            for claim in message.checkpoints:
                holders[claim.seq, claim.digest] = holders.get((claim.seq, claim.digest), 0) + 1
        for (seq, digest), count in sorted(holders.items(), reverse=True):
            behind = sum(message.stable <= seq for message in messages)
            if count >= self._notary.weak_quorum and behind >= self._notary.quorum:
                return Claim(seq, digest)
        return None

    def _digest_at(
        self, seq: int, told: Sequence[Placed | None], voted: Sequence[dict[tuple[int, Digest], int]]
    ) -> Digest | None:
        """What may have been decided there, and so is proposed again; None if nothing was, or it is not known yet.
        `told`: what each that is not beyond `seq` prepared there, None for nothing."""
        if len(told) < self._notary.quorum:
            return None
        for view, digest in sorted({(item.view, item.digest) for item in told if item is not None}, reverse=True):
            if self.is_uncontradicted(view, digest, told) and self.is_voted(seq, view, digest, voted):
                return digest
        return None

    def is_uncontradicted(self, view: int, digest: Digest, told: Sequence[Placed | None]) -> bool:
        """A1: a quorum prepared nothing else there in this view, nor anything in a later one."""
        agree = [item is None or item.view < view or (item.view == view and item.digest == digest) for item in told]
        return sum(agree) >= self._notary.quorum

    def is_voted(self, seq: int, view: int, digest: Digest, voted: Sequence[dict[tuple[int, Digest], int]]) -> bool:
        """A2: a weak quorum voted for it in this view or a later one, so its requests are genuine and its body held."""
        return sum(places.get((seq, digest), -1) >= view for places in voted) >= self._notary.weak_quorum

    # -------------------------------------------------------------------------------------------------- its NEW-VIEW

    def on_new_view(self, sender: NodeId, message: MacNewView) -> list[Effect]:
        """From its own primary it is checked against the view-changes it names (P4); as others pass it on, it counts
        once a weak quorum has begun its view with it."""
        if sender != self._notary.primary(message.view):
            if len(self._begun.add(sender, message.view, message_digest(message))) >= self._notary.weak_quorum:
                self.accepted = message
            return []
        known = self._awaited.get(sender)
        if message.view <= max(self._refused, known.view if known is not None else 0):
            return []
        senders = [source.replica for source in message.view_changes]
        if len(senders) < self._notary.quorum or not _grow(senders) or not all(map(self._notary.is_member, senders)):
            return self._notary.refuse(sender, "new-view: V must be view-changes of a quorum of distinct replicas")
        self._awaited[sender] = message
        self._forget(self._view - 1)
        return [*self._weigh(), *self.tick()]

    def _forget(self, upto: int) -> None:
        """No NEW-VIEW of a view up to this one is of use any more."""
        self._awaited = {node: message for node, message in self._awaited.items() if message.view > upto}
        views = {message.view for message in self._awaited.values()}
        self._supplied = {key: message for key, message in self._supplied.items() if key[0] in views}

    def _named(self, source: Heard, view: int) -> MacViewChange | None:
        """The view-change that a NEW-VIEW of `view` names, if it is here."""
        node = source.replica
        if view == self._view and node in self._present and self._present[node][1] == source.digest:
            return self._present[node][0]
        message = self.heard.get(node)
        if message is not None and message.view == view and self._digests[node] == source.digest:
            return message
        return self._supplied.get((view, source))

    def _weigh(self) -> list[Effect]:
        """Once all that an awaited NEW-VIEW names is here: does it follow? (P4)"""
        effects: list[Effect] = []
        for primary, awaited in list(self._awaited.items()):
            named = [self._named(source, awaited.view) for source in awaited.view_changes]
            if not _all_here(named):
                continue
            del self._awaited[primary]
            if self.follows(awaited, named):
                if self.accepted is None or self.accepted.view < awaited.view:
                    self.accepted = awaited
            else:
                self._refused = max(self._refused, awaited.view)
                effects += self._notary.refuse(primary, "new-view: it does not follow from V")
        return effects

    def follows(self, message: MacNewView, named: Sequence[MacViewChange]) -> bool:
        proposals = [Claim(proposal.seq, proposal.digest) for proposal in message.pre_prepares]
        return self.choose(named) == (message.checkpoint, proposals)

    def tick(self) -> list[Effect]:
        """Ask for view-changes that the awaited NEW-VIEW names and that did not come from their replica. [CL02]"""
        asks = [
            FetchViewChange(awaited.view, source.replica, source.digest)
            for awaited in self._awaited.values()
            for source in awaited.view_changes
            if self._named(source, awaited.view) is None
        ]
        return [Send(self._notary.others, ask) for ask in asks]

    def on_fetch(self, sender: NodeId, message: FetchViewChange) -> list[Effect]:
        known = self._named(Heard(message.replica, message.digest), message.view)
        mine = known is not None and (self._is_heard(message.replica, known))
        return [Send((sender,), ViewChangeData(known))] if known is not None and mine else []

    def _is_heard(self, node: NodeId, message: MacViewChange) -> bool:
        """From that replica itself: only that is passed on."""
        return self.heard.get(node) is message or (node in self._present and self._present[node][0] is message)

    def on_data(self, sender: NodeId, message: ViewChangeData) -> list[Effect]:
        """A view-change as others have heard it; believed when a weak quorum has. [CL02]"""
        told = message.message
        source = Heard(told.replica, message_digest(told))
        if not any(told.view == new.view and source in new.view_changes for new in self._awaited.values()):
            return []
        if len(self._relayed.add(sender, (told.view, told.replica), source.digest)) >= self._notary.weak_quorum:
            self._supplied[told.view, source] = told
        return self._weigh()

    def on_second(self, message: MacNewView) -> list[Effect]:
        """A NEW-VIEW for the view that is active already: the first stands (P5)."""
        return []

    def enter(self, message: MacNewView) -> tuple[CheckpointProof, dict[int, list[NodeId]]]:
        """`message` was checked and begins its view. Gives its checkpoint; who has the bodies is not known."""
        self.new_view, self.accepted = message, None
        if message.view >= self._view:
            self._turn_to(message.view)
        self._forget(message.view)
        return CheckpointProof(message.checkpoint.seq, message.checkpoint.digest, []), {}

    def recall(self, record: MacViewChange | MacNewView) -> None:
        super().recall(record)
        if self.own is not None:
            self._digests[self._notary.me] = message_digest(self.own)
            self._turn_to(self.own.view)

    def hard_state(self, active: bool) -> list[Message]:
        """Q must outlive restarts, else what a correct replica prepared might never be chosen again (A2)."""
        return [record for record in (self.new_view, self.own) if record is not None]

    def flaw_in_own(self) -> str:
        return self.flaw(self.own) if self.own is not None else ""

    def distrust(self, highest: int) -> int:
        dropped = super().distrust(highest)
        if self.own is None:
            self._digests.pop(self._notary.me, None)
            self._present.pop(self._notary.me, None)
        return dropped

    def recall_votes(self, ordering: Ordering) -> None:
        """Q: what the last view-change said, and what this view began with, as far as its body is here. What was
        accepted since then, or prepared, has records of its own."""
        for item in self.own.voted if self.own is not None else ():
            ordering.recalled(item.seq).vote(item.digest, item.view)
        for proposal in self.new_view.pre_prepares if self.new_view is not None else ():
            slot = ordering.slots.get(proposal.seq)
            if self.new_view is not None and slot is not None and proposal.digest in slot.bodies:
                slot.vote(proposal.digest, self.new_view.view)

    def check_invariants(self) -> None:
        super().check_invariants()
        assert set(self._digests) == set(self.heard), "each view-change that was heard has its digest"
        assert all(message.view == self._view for message, _ in self._present.values()), "of the present view"
        assert len(self._supplied) <= self._notary.n**2, "one view-change a replica and NEW-VIEW is supplied"
        self._relayed.check_invariants()
        self._begun.check_invariants()


def _grow(values: Iterable[object]) -> bool:
    """Strictly."""
    kept = list(values)
    return kept == sorted(set(kept))  # type: ignore[type-var]


def _all_here(messages: list[MacViewChange | None]) -> TypeGuard[list[MacViewChange]]:
    return None not in messages
