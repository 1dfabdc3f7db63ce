"""Who may say what, how many are enough, and whether it was really said: every signature and quorum is here.

Pure but for a bounded memory of signatures found good. Every place that a paper writes as 2f+1, 2f, f+1 or
"the primary" asks this class. Not here: what follows from a certificate, and requests under MACs (`pbft.requests`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final, Self

from pbft.messages import (
    CheckpointProof,
    CommitProof,
    NewView,
    PreparedProof,
    ViewChange,
    Vote,
    new_view_digest,
    prepared_digest,
)
from pbft.witness import Witness
from replog.core import Accuse, Effect, Note, Setup
from replog.quorum import byzantine_quorum, weak_quorum
from replog.types import Digest, Message, NodeId, Principal, Request, Submit

Fields = tuple[int | bytes, ...] | bytes
MEMORY: Final = 16_384
"""Signatures remembered as good: a view change shows again what the normal case has checked."""
ACCUSATIONS_MAX: Final = 256
"""Of one node by one replica: it is proved a liar by then."""


class Notary:
    """Invariants:
    what `_good` and `_older` hold was verified with the key of its signer, or signed here
    `_good` and `_older` have at most MEMORY entries together, `_accused` at most ACCUSATIONS_MAX for each node
    """

    transferable = True
    """Whether what one replica has heard of another can be shown to a third."""

    def __init__(self, setup: Setup) -> None:
        self.me = setup.me
        self.members = setup.members
        self.n = setup.n
        self._members = frozenset(setup.members)
        self.f = setup.f
        self.others = setup.others
        self.quorum = byzantine_quorum(setup.n, setup.f)
        self.weak_quorum = weak_quorum(setup.f)
        self.checkpoint_interval: int = setup.config.checkpoint_interval
        self.log_window: int = setup.config.log_window
        self.base = CheckpointProof(*setup.begins, [])
        """The state that all members of this epoch begin with: it needs no votes."""
        self._domain = setup.domain
        self._signer = setup.signer
        self._verify = setup.verifier.verify
        self._good: dict[tuple[NodeId, bytes], bytes] = {}
        self._older: dict[tuple[NodeId, bytes], bytes] = {}
        self._accused: dict[Principal, set[tuple[str, tuple[int, int]]]] = {}
        self.refused = 0
        self.witness = Witness(self)

    def primary(self, view: int) -> NodeId:
        """p = v mod n, counted among the members. [CL99 4]"""
        return self.members[view % self.n]

    def is_member(self, node: NodeId) -> bool:
        return node in self._members

    # ------------------------------------------------------------------------------------------------- signatures

    def sign(self, kind: str, fields: tuple[int | bytes, ...]) -> bytes:
        statement = self._domain.statement(kind, fields)
        signature = self._signer.sign(statement)
        self._remember(self.me, signature, statement)
        return signature

    def check(self, signer: NodeId, kind: str, fields: Fields, signature: bytes) -> bool:
        """Whether `signer` signed `fields` as a statement of this kind, in this cluster and epoch (P22, P24, X10)."""
        statement = self._domain.statement(kind, fields)
        known = (signer, signature)
        if self._good.get(known) == statement or self._older.get(known) == statement:
            return True
        if not self._verify(signer, statement, signature):
            return False
        self._remember(signer, signature, statement)
        return True

    def _remember(self, signer: NodeId, signature: bytes, statement: bytes) -> None:
        """The older half goes at once: to find the oldest of a dict again and again takes longer each time."""
        if len(self._good) >= MEMORY // 2:
            self._older, self._good = self._good, {}
        self._good[signer, signature] = statement

    def forget(self) -> None:
        """Every signature is to be checked again. [CL02 proactive recovery]"""
        self._good.clear()
        self._older.clear()

    def check_pre_prepare(self, view: int, seq: int, digest: Digest, signature: bytes) -> bool:
        return self.check(self.primary(view), "pre-prepare", (view, seq, digest), signature)

    # ------------------------------------------------------------------------------- certificates: "" or the flaw

    def flaw_in_prepared(self, proof: PreparedProof) -> str:
        """[CL99 4.4] pre-prepare of that view's primary and `quorum - 1` prepares of distinct backups (P1, P19)."""
        view, seq, digest = proof.view, proof.seq, proof.digest
        if any(vote.replica == self.primary(view) for vote in proof.votes):
            return "the primary's PREPARE counts for nothing"
        if not self.check_pre_prepare(view, seq, digest, proof.signature):
            return "prepared: bad signature of the pre-prepare"
        return self._flaw_in_votes("prepare", (view, seq, digest), proof.votes, self.quorum - 1)

    def flaw_in_commit(self, proof: CommitProof) -> str:
        """[CL99 4.2] commits of a quorum."""
        return self._flaw_in_votes("commit", (proof.view, proof.seq, proof.digest), proof.votes, self.quorum)

    def flaw_in_checkpoint(self, proof: CheckpointProof) -> str:
        """[CL99 4.3] checkpoint messages of a quorum; none for the state that everybody begins with (P9)."""
        if proof.seq <= self.base.seq:
            return "" if proof == self.base else f"checkpoint: seq {self.base.seq} needs no votes"
        if proof.seq % self.checkpoint_interval:
            return f"checkpoint: seq {proof.seq} is no multiple of checkpoint_interval"
        return self._flaw_in_votes("checkpoint", (proof.seq, proof.digest), proof.votes, self.quorum)

    def _flaw_in_votes(self, kind: str, fields: tuple[int | bytes, ...], votes: Sequence[Vote], needed: int) -> str:
        """Exactly as many as needed, by growing replica, which makes them distinct (P7); then the signatures."""
        voters = [vote.replica for vote in votes]
        if len(voters) != needed or voters != sorted(set(voters)) or not self._members.issuperset(voters):
            return f"{kind}: {needed} votes of distinct replicas are a certificate, these are of {voters}"
        for vote in votes:
            if not self.check(vote.replica, kind, (*fields, vote.replica), vote.signature):
                return f"{kind}: bad signature of node {vote.replica}"
        return ""

    def sign_view_change(self, message: ViewChange) -> bytes:
        return self.sign("view-change", (message.view, message.replica, prepared_digest(message)))

    def check_view_change(self, message: ViewChange) -> bool:
        fields = (message.view, message.replica, prepared_digest(message))
        return self.check(message.replica, "view-change", fields, message.signature)

    def flaw_in_view_change(self, message: ViewChange) -> str:
        """Shape, then its signature, then every certificate in it (P1, P2). [CL99 4.4]"""
        low = message.checkpoint.seq
        seqs = [proof.seq for proof in message.prepared]
        if not self.is_member(message.replica) or message.view < 1:
            return "view-change: no such replica or view"
        if seqs != sorted(set(seqs)) or (seqs and not low < seqs[0] <= seqs[-1] <= low + self.log_window):
            return "view-change: prepared seqs must grow within the window above its checkpoint"
        if any(proof.view >= message.view for proof in message.prepared):
            return "view-change: prepared in a view that has not been"
        if not self.check_view_change(message):
            return "view-change: bad signature"
        flaw = self.flaw_in_checkpoint(message.checkpoint)
        for proof in message.prepared:
            flaw = flaw or self.flaw_in_prepared(proof)
        return flaw

    def sign_new_view(self, message: NewView) -> bytes:
        return self.sign("new-view", (message.view, new_view_digest(message)))

    def check_new_view(self, message: NewView) -> bool:
        return self.check(
            self.primary(message.view), "new-view", (message.view, new_view_digest(message)), message.signature
        )

    # --------------------------------------------------------------------------------------------------- evidence

    def accuse(
        self, culprit: Principal, kind: str, place: tuple[int, int], first: Message, second: Message | None
    ) -> list[Effect]:
        """Two statements that no correct node signs both, or one that none signs; the signatures were checked. Once for
        each culprit, kind and place, a (view, seq) or one number and 0: nobody can make this grow."""
        if self.is_convicted(culprit, kind, place):
            return []
        self._accused.setdefault(culprit, set()).add((kind, place))
        epoch = self._domain.epoch, self._domain.begins
        return [Accuse(culprit, kind, first, second, "{}.{}".format(*place), *epoch), *self.refuse(culprit, kind)]

    def accuse_client(self, known: Request, request: Request) -> list[Effect]:
        """Two requests of one client under one timestamp, both with its signature. (P32)"""
        return self.accuse(*two_requests(request), Submit(known.raw), Submit(request.raw))

    def is_convicted(self, culprit: Principal, kind: str, place: tuple[int, int]) -> bool:
        """Whether there is nothing new in accusing it of that."""
        known = self._accused.get(culprit, ())
        return (kind, place) in known or len(known) >= ACCUSATIONS_MAX

    def unbounded(self) -> Self:
        """As somebody who knows the members and not the options: what is wrong to it is wrong to everybody."""
        other = copy.copy(self)
        other.checkpoint_interval, other.log_window = 1, 2**63
        return other

    def refuse(self, sender: Principal, rule: str) -> list[Effect]:
        """Input that breaks a rule: noted and counted, never an exception."""
        self.refused += 1
        return [Note("nonsense", {"sender": sender, "rule": rule})]


def two_requests(request: Request) -> tuple[Principal, str, tuple[int, int]]:
    """What its client is accused of if it signed another request under that timestamp: culprit, kind and place."""
    return request.client, "two-requests", (request.timestamp, 0)


class LinkNotary(Notary):
    """`auth = "macs"`: a replica's word rests on the link that it came by, nothing is signed. [CL99 5.2, CL02]

    Whoever hands a statement to `check` has compared its author with the link's other end. What another replica tells
    of a third proves nothing, so every certificate is refused here: what a weak quorum tells is believed instead
    (`pbft.claims`), and nobody can be convicted.
    """

    transferable = False
    _NO_PROOF: Final = "under MACs no certificate proves anything"

    def sign(self, kind: str, fields: tuple[int | bytes, ...]) -> bytes:
        return b""

    def check(self, signer: NodeId, kind: str, fields: Fields, signature: bytes) -> bool:
        return not signature

    def flaw_in_prepared(self, proof: PreparedProof) -> str:
        return self._NO_PROOF

    def flaw_in_commit(self, proof: CommitProof) -> str:
        return self._NO_PROOF

    def flaw_in_checkpoint(self, proof: CheckpointProof) -> str:
        return self._NO_PROOF

    def flaw_in_view_change(self, message: ViewChange) -> str:
        return self._NO_PROOF

    def accuse(
        self, culprit: Principal, kind: str, place: tuple[int, int], first: Message, second: Message | None
    ) -> list[Effect]:
        """Two faces, seen by this replica alone."""
        return self.refuse(culprit, kind)
