"""What liars told correct replicas under their signature, and where that does not fit: conflicts that were to be seen.

Stands where the simulated world hands a message to a correct replica. Only statements that their signer brought itself
count, and of one replica those of its present life: what it heard before a crash it need not remember. What came in the
last moment before the end does not count: the evidence may still be on its way to the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Final

from compare.checkers.base import Conflict
from pbft.messages import NewView, PrePrepare
from pbft.statements import Place, place_of, signed_part, statement, what_of
from replog.codec import Domain
from replog.keys import Verifier
from replog.types import Message, Micros, NodeId, Principal, Submit

LAST_US: Final = 20_000
Key = tuple[NodeId, Principal, Place]


class Hearsay:
    """Invariant: of each hearer, signer and place the last statement of each kind for each thing said there, with the
    hearer's life and when it was said first."""

    def __init__(
        self, n: int, domain: Domain, verifier: Verifier, life: Callable[[NodeId], int], now: Callable[[], Micros]
    ) -> None:
        self._n = n
        self._domain = domain
        self._verifier = verifier
        self._life = life
        self._now = now
        self._said: dict[Key, dict[tuple[str, bytes], tuple[int, Message, Micros]]] = {}

    def told(self, hearer: NodeId, sender: Principal, message: Message) -> None:
        place = None if isinstance(message, Submit) else place_of(message)
        if isinstance(message, (NewView, PrePrepare)) and sender != message.view % self._n:
            return  # nobody takes it for one
        if place is not None and signed_part(message, sender) is not None:
            said = self._said.setdefault((hearer, sender, place), {})
            what, life = (type(message).__name__, what_of(message)), self._life(hearer)
            known = said.get(what)
            if known is None or known[:2] != (life, message):
                said[what] = (life, message, self._now())

    def conflicts(self, present: Container[NodeId]) -> list[Conflict]:
        """What one replica has heard twice in its present life, and what one has heard so and another otherwise.
        `present`: those that run at the end."""
        return [*self._twice(present), *self._split(present)]

    def _counts(self, hearer: NodeId, life: int, said_at: Micros) -> bool:
        return life == self._life(hearer) and said_at <= self._now() - LAST_US

    def _twice(self, present: Container[NodeId]) -> Iterator[Conflict]:
        for (hearer, signer, place), said in sorted(self._said.items(), key=repr):
            known = [message for life, message, at in said.values() if self._counts(hearer, life, at)]
            doubtful = hearer in present and len({what_of(message) for message in known}) > 1
            if doubtful and len({what_of(message) for message in self._signed(signer, known)}) > 1:
                yield Conflict((hearer,), signer, f"{place[1]}.{place[2]}", place[0], self._domain.epoch)

    def _split(self, present: Container[NodeId]) -> Iterator[Conflict]:
        faces: dict[tuple[Principal, Place], dict[bytes, set[NodeId]]] = {}
        for (hearer, signer, place), said in sorted(self._said.items(), key=repr):
            for (_, what), (life, message, at) in said.items():
                mine = self._counts(hearer, life, at) and hearer in present
                if mine and list(self._signed(signer, [message])):
                    faces.setdefault((signer, place), {}).setdefault(what, set()).add(hearer)
        for (signer, place), hearers in faces.items():
            told = tuple(sorted(set().union(*hearers.values())))
            if len(hearers) > 1 and len(told) > 1:
                yield Conflict(told, signer, f"{place[1]}.{place[2]}", place[0], self._domain.epoch)

    def _signed(self, signer: Principal, messages: list[Message]) -> Iterator[Message]:
        for message in messages:
            part = signed_part(message, signer)
            if part is not None and self._verifier.verify(signer, statement(self._domain, part[0]), part[1]):
                yield message
