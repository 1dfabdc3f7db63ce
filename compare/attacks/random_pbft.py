"""random-liar against PBFT: what it proposes and votes for otherwise. What it signs is up to `compare.attacks.pen`."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from compare.attacks.pen import SAYS_WHO, SIGNED, Pen, with_digest
from compare.attacks.random_liar import Place, RandomLiar
from compare.attacks.random_words import MOST
from pbft import messages as m
from replog.membership import MEMBERSHIP_MESSAGES
from replog.types import Message, NodeId

__all__ = ["SIGNED", "RandomPbftLiar"]


def with_past(message: Any, past: list[m.Placed]) -> Any:
    """This view-change as of one that prepared these: by its word under MACs, else by certificates of votes as there
    are, which other places have."""
    if isinstance(message, m.MacViewChange):
        voted = {(item.seq, item.digest): item.view for item in (*message.voted, *past)}
        return replace(message, prepared=past, voted=[m.Placed(*place, voted[place]) for place in sorted(voted)])
    shown = {proof.seq: proof for proof in message.prepared}
    some = next(iter(message.prepared), m.PreparedProof(0, 1, b"", b"", []))
    proofs = [shown.get(item.seq, some) for item in past]
    made = [
        replace(proof, view=item.view, seq=item.seq, digest=item.digest)
        for proof, item in zip(proofs, past, strict=True)
    ]
    return replace(message, prepared=made)


class RandomPbftLiar(Pen, RandomLiar):
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
            lie = self.signed(with_digest(lie))
        return lie

    def votes_for(self, proposal: m.PrePrepare, voter: NodeId) -> list[Any]:
        kinds: tuple[Any, ...] = (m.Commit,) if voter == self.primary(proposal.view) else (m.Prepare, m.Commit)
        return [self.signed(kind(proposal.view, proposal.seq, proposal.digest, voter, b"")) for kind in kinds]

    def following(self, proposal: m.PrePrepare) -> m.PrePrepare:
        seq = min(proposal.seq + self._chance.choice((1, 2, 3, 5)), MOST)
        moved: m.PrePrepare = replace(proposal, seq=seq)
        return moved

    def lead(self, proposal: m.PrePrepare) -> m.PrePrepare:
        """In the same view, or in the next one that is this liar's."""
        own = proposal.view + (self.me - proposal.view) % self.power.n
        led: m.PrePrepare = replace(proposal, view=self._chance.choice((proposal.view, own)))
        return led

    def claim(self, message: Any) -> Any:
        """It prepared at some places what somebody was told to be there, what was said there, or nothing; in the same
        view, or in the last one before."""
        if not isinstance(message, (m.ViewChange, m.MacViewChange)):
            return None
        low = message.stable if isinstance(message, m.MacViewChange) else message.checkpoint.seq
        true = {item.seq: (item.digest, item.view) for item in message.prepared}
        lies = {
            seq: (digest, view)
            for (_, (view, seq)), digest in self._proposed.items()
            if view < message.view and seq > low
        }
        past = true | {
            seq: self._otherwise(message.view, seq, lies.get(seq, true.get(seq)))
            for seq in sorted({*true, *lies, max(true, default=low) + 1})
            if self._chance.random() < 0.5
        }
        return with_past(message, [m.Placed(seq, digest, view) for seq, (digest, view) in sorted(past.items())])

    def _otherwise(self, asked: int, seq: int, known: tuple[bytes, int] | None) -> tuple[bytes, int]:
        """Mostly what is known; else something that was said there, that nobody said, or nothing."""
        if known is not None and self._chance.random() < 0.6:
            return known[0], self._chance.choice((known[1], known[1], asked - 1))
        heard = self._words.heard_at("digest", seq)[-2:]
        return self._chance.choice((m.NULL.digest, self._chance.randbytes(32), *heard)), asked - 1

    def sign(self, message: Any) -> Any:
        """Seldom it speaks in another's name, or leaves a digest as it is: who listens must notice."""
        if isinstance(message, SAYS_WHO) and self._chance.random() < 0.95:
            message = replace(message, replica=self.me)
        if isinstance(message, (m.PrePrepare, m.Committed)) and self._chance.random() < 0.9:
            message = with_digest(message)
        return self.signed(message)
