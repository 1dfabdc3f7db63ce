"""random-liar against PBFT: what it proposes and votes for otherwise. What it signs is up to `compare.attacks.pen`."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from compare.attacks.pen import SAYS_WHO, SIGNED, Pen, with_digest
from compare.attacks.random_liar import Place, RandomLiar
from pbft import messages as m
from replog.membership import MEMBERSHIP_MESSAGES
from replog.types import Message

__all__ = ["SIGNED", "RandomPbftLiar"]


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

    def second(self, proposal: m.PrePrepare) -> m.Commit:
        commit: m.Commit = self.signed(m.Commit(proposal.view, proposal.seq, proposal.digest, self.me, b""))
        return commit

    def sign(self, message: Any) -> Any:
        """Seldom it speaks in another's name, or leaves a digest as it is: who listens must notice."""
        if isinstance(message, SAYS_WHO) and self._chance.random() < 0.95:
            message = replace(message, replica=self.me)
        if isinstance(message, (m.PrePrepare, m.Committed)) and self._chance.random() < 0.9:
            message = with_digest(message)
        return self.signed(message)
