"""A liar's pen: which messages of PBFT are signed, what stands under a signature, and where it is the coalition's own.

Under MACs nothing is signed: whatever it says on its own link is its word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from compare.attacks.base import Power, voting
from pbft import messages as m
from replog.codec import BadMessage
from replog.replica import Replica
from replog.types import NodeId

Fields = tuple[int | bytes, ...]
SIGNED: Final[Mapping[type[Any], tuple[str, Callable[[Any], Fields]]]] = {
    m.PrePrepare: ("pre-prepare", lambda said: (said.view, said.seq, said.digest)),
    m.PreparedProof: ("pre-prepare", lambda said: (said.view, said.seq, said.digest)),
    m.Prepare: ("prepare", lambda said: (said.view, said.seq, said.digest, said.replica)),
    m.Commit: ("commit", lambda said: (said.view, said.seq, said.digest, said.replica)),
    m.Checkpoint: ("checkpoint", lambda said: (said.seq, said.digest, said.replica)),
    m.ViewChange: ("view-change", lambda said: (said.view, said.replica, m.prepared_digest(said))),
    m.NewView: ("new-view", lambda said: (said.view, m.new_view_digest(said))),
}
SAYS_WHO: Final = (m.Prepare, m.Commit, m.Checkpoint, m.ViewChange, m.MacViewChange)
"""Whose word it is stands in the message. In an acknowledgement `replica` is another one."""
CERTIFICATES: Final[Mapping[type[Any], str]] = {
    m.PreparedProof: "prepare",
    m.CommitProof: "commit",
    m.CheckpointProof: "checkpoint",
}


class Pen:
    """Beside an `Attack`: signs for every member of the coalition, and for nobody else."""

    me: NodeId
    inner: Replica
    power: Power

    def signed(self, message: Any) -> Any:
        """Every signature in it that is a member's, made anew: the innermost first, since outer ones cover them."""
        if not voting(self.inner).notary.transferable:
            return message
        message = self._signed_inside(message)
        if type(message) not in SIGNED:
            return message
        kind, fields = SIGNED[type(message)]
        return replace(message, signature=self._by(self._author(message), kind, fields(message), message.signature))

    def _signed_inside(self, message: Any) -> Any:
        match message:
            case m.NewView():
                proposals = [self._proposal(message.view, item) for item in message.pre_prepares]
                return replace(
                    message, view_changes=list(map(self.signed, message.view_changes)), pre_prepares=proposals
                )
            case m.ViewChange():
                prepared = list(map(self.signed, message.prepared))
                return replace(message, checkpoint=self.signed(message.checkpoint), prepared=prepared)
            case m.Committed():
                return replace(message, proof=self.signed(message.proof))
        return self._with_votes(message)

    def _proposal(self, view: int, item: m.Proposal) -> m.Proposal:
        fields = (view, item.seq, item.digest)
        return replace(item, signature=self._by(self.primary(view), "pre-prepare", fields, item.signature))

    def primary(self, view: int) -> NodeId:
        return view % self.power.n

    def _with_votes(self, proof: Any) -> Any:
        kind = CERTIFICATES.get(type(proof))
        if kind is None:
            return proof
        said = (proof.seq, proof.digest) if kind == "checkpoint" else (proof.view, proof.seq, proof.digest)
        votes = [
            m.Vote(vote.replica, self._by(vote.replica, kind, (*said, vote.replica), vote.signature))
            for vote in proof.votes
        ]
        return replace(proof, votes=votes)

    def _author(self, message: Any) -> NodeId:
        if isinstance(message, (m.PreparedProof, m.PrePrepare, m.NewView)):
            primary = self.primary(message.view)
            return primary if isinstance(message, m.PreparedProof) or primary in self.power.members else self.me
        return message.replica if message.replica in self.power.members else self.me

    def _by(self, author: NodeId, kind: str, fields: Fields, signature: bytes) -> bytes:
        signer = self.power.signers.get(author)
        return signature if signer is None else signer.sign(self.power.domain.statement(kind, fields))


def with_digest(message: Any) -> Any:
    """With the digest of the body that it holds."""
    try:
        digest = m.Batch.read(message.time, message.requests).digest
    except BadMessage:
        return message
    if isinstance(message, m.Committed):
        return replace(message, proof=replace(message.proof, digest=digest))
    return replace(message, digest=digest)
