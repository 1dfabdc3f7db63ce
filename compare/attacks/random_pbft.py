"""random-liar against PBFT: which of its messages are signed, what stands under a signature, and where it is its own.

Under MACs nothing is signed: whatever it says on its own link is its word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from compare.attacks.base import voting
from compare.attacks.random_liar import Place, RandomLiar
from pbft import messages as m
from replog.codec import BadMessage
from replog.membership import MEMBERSHIP_MESSAGES
from replog.types import Message, NodeId

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


class RandomPbftLiar(RandomLiar):
    kinds = tuple(kind for kind in m.MESSAGES.kinds if kind not in (m.InEpoch, *MEMBERSHIP_MESSAGES))

    def encode(self, message: Message) -> bytes:
        return m.MESSAGES.encode(message)

    def proposes(self, message: Message) -> Place | None:
        return (message.view, message.seq) if isinstance(message, m.PrePrepare) else None

    def votes(self, message: Message) -> Place | None:
        return (message.view, message.seq) if isinstance(message, (m.Prepare, m.Commit)) else None

    def pretend(self, message: m.PrePrepare) -> m.PrePrepare:
        """At another time, without some of its requests, or with others that clients made; seldom under the digest that
        is not theirs."""
        known = self._words.heard("request") + self._words.heard("requests")
        others = self._chance.sample(known, min(len(known), self._chance.choice((1, 2))))
        some = [raw for raw in message.requests if self._chance.random() < 0.5]
        requests = self._chance.choice((message.requests, some, others))
        time = message.time + self._chance.choice((0, 1))
        lie: m.PrePrepare = replace(message, time=time, requests=requests)
        if self._chance.random() < 0.8:
            lie = self.signed(_with_digest(lie))
        return lie

    def second(self, proposal: m.PrePrepare) -> m.Commit:
        commit: m.Commit = self.signed(m.Commit(proposal.view, proposal.seq, proposal.digest, self.me, b""))
        return commit

    def sign(self, message: Any) -> Any:
        """Seldom it speaks in another's name, or leaves a digest as it is: who listens must notice."""
        if isinstance(message, SAYS_WHO) and self._chance.random() < 0.95:
            message = replace(message, replica=self.me)
        if isinstance(message, (m.PrePrepare, m.Committed)) and self._chance.random() < 0.9:
            message = _with_digest(message)
        return self.signed(message)

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


def _with_digest(message: Any) -> Any:
    """With the digest of the body that it holds."""
    try:
        digest = m.Batch.read(message.time, message.requests).digest
    except BadMessage:
        return message
    if isinstance(message, m.Committed):
        return replace(message, proof=replace(message.proof, digest=digest))
    return replace(message, digest=digest)
