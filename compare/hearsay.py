"""What liars told correct replicas under their signature, and where that does not fit: conflicts that were to be seen.

Stands where the simulated world hands a message to a correct replica. Only statements that their signer brought itself
count, and of one replica those of its present life: what it heard before a crash it need not remember.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

from compare.checkers.base import Conflict
from pbft.messages import NewView, PrePrepare
from pbft.statements import Place, place_of, signed_part, statement, what_of
from replog.codec import Domain
from replog.keys import Verifier
from replog.types import Message, NodeId, Principal, Submit

Key = tuple[NodeId, Principal, Place]


class Hearsay:
    """Invariant: of each hearer, signer and place the last statement of each kind for each thing said there."""

    def __init__(self, n: int, domain: Domain, verifier: Verifier, life: Callable[[NodeId], int]) -> None:
        self._n = n
        self._domain = domain
        self._verifier = verifier
        self._life = life
        self._said: dict[Key, dict[tuple[str, bytes], tuple[int, Message]]] = {}

    def told(self, hearer: NodeId, sender: Principal, message: Message) -> None:
        place = None if isinstance(message, Submit) else place_of(message)
        if isinstance(message, (NewView, PrePrepare)) and sender != message.view % self._n:
            return  # nobody takes it for one
        if place is not None and signed_part(message, sender) is not None:
            said = self._said.setdefault((hearer, sender, place), {})
            said[type(message).__name__, what_of(message)] = (self._life(hearer), message)

    def conflicts(self, present: Container[NodeId]) -> list[Conflict]:
        """What one replica has heard twice in its present life, and what one has heard so and another otherwise.
        `present`: those that run at the end."""
        return [*self._twice(present), *self._split(present)]

    def _twice(self, present: Container[NodeId]) -> Iterator[Conflict]:
        for (hearer, signer, place), said in sorted(self._said.items(), key=repr):
            known = [message for life, message in said.values() if life == self._life(hearer)]
            doubtful = hearer in present and len({what_of(message) for message in known}) > 1
            if doubtful and len({what_of(message) for message in self._signed(signer, known)}) > 1:
                yield Conflict((hearer,), signer, f"{place[1]}.{place[2]}", place[0], self._domain.epoch)

    def _split(self, present: Container[NodeId]) -> Iterator[Conflict]:
        faces: dict[tuple[Principal, Place], dict[bytes, set[NodeId]]] = {}
        for (hearer, signer, place), said in sorted(self._said.items(), key=repr):
            for (_, what), (life, message) in said.items():
                mine = life == self._life(hearer) and hearer in present
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
