"""SM(m): agreement by signed messages, which nobody can alter unseen. [LSP82 4]

A lieutenant that hears an order it did not know, with the signatures of the commander and of all through whom it came,
adds its own and says it on. After m + 1 rounds it obeys the only order that it knows; of none or two, the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from compare.generals.rounds import COMMANDER, DEFAULT, ORDERS, Order, opposite
from replog.keys import Signer, Verifier


@dataclass(frozen=True)
class Signed:
    """`chain`: who signed, from the commander on. Each signature covers order, chain so far and the one before it."""

    order: Order
    chain: tuple[int, ...] = ()
    signatures: tuple[bytes, ...] = ()

    def by(self, me: int, signer: Signer) -> Signed:
        chain = (*self.chain, me)
        signature = signer.sign(_statement(self.order, chain, self.signatures))
        return Signed(self.order, chain, (*self.signatures, signature))

    def genuine(self, verifier: Verifier) -> bool:
        return len(self.signatures) == len(self.chain) == len(set(self.chain)) and all(
            verifier.verify(node, _statement(self.order, self.chain[: place + 1], self.signatures[:place]), signature)
            for place, (node, signature) in enumerate(zip(self.chain, self.signatures, strict=True))
        )


def _statement(order: Order, chain: tuple[int, ...], signatures: tuple[bytes, ...]) -> bytes:
    return b"\0".join([b"generals", order.encode(), bytes(chain), *signatures[-1:]])


class SignedGeneral:
    """A loyal one. Invariant: `orders` are those that the commander has signed."""

    def __init__(self, me: int, n: int, m: int, signer: Signer, verifier: Verifier, order: Order = DEFAULT) -> None:
        """`order`: the commander's."""
        self.me = me
        self.n = n
        self.m = m
        self.orders: set[Order] = set()
        self.refused = 0
        """Words that are not as they claim to be."""
        self._signer = signer
        self._verifier = verifier
        self._to_say_on = [Signed(order)] if me == COMMANDER else []
        self._order = order

    def speak(self, number: int) -> Iterator[tuple[int, Signed]]:
        words = [word.by(self.me, self._signer) for word in self._to_say_on]
        self._to_say_on = []
        for word in words:
            yield from ((to, word) for to in range(self.n) if to not in word.chain)

    def hear(self, number: int, sender: int, word: Signed) -> None:
        if self.me == COMMANDER or word.order in self.orders:
            return
        if not self._well_formed(number, sender, word) or not word.genuine(self._verifier):
            self.refused += 1
            return
        self.orders.add(word.order)
        if number <= self.m:
            self._to_say_on.append(word)

    def _well_formed(self, number: int, sender: int, word: Signed) -> bool:
        chain = word.chain
        return len(chain) == number and chain[0] == COMMANDER and chain[-1] == sender and self.me not in chain

    def decide(self) -> Order:
        if self.me == COMMANDER:
            return self._order
        return next(iter(self.orders)) if len(self.orders) == 1 else DEFAULT


class Coalition:
    """All traitors: they share their keys, and everything that one of them has heard.

    Invariant: `at(r)` are all words of r signatures that they can make. They hold no key of a loyal one.
    """

    def __init__(self, signers: Mapping[int, Signer]) -> None:
        self.signers = signers
        self._words: dict[int, dict[Signed, None]] = {}
        """By number of signatures; a dict, since its order is the same in every run."""
        if COMMANDER in signers:
            self.learn(Signed(order).by(COMMANDER, signers[COMMANDER]) for order in ORDERS)

    def learn(self, words: Iterable[Signed]) -> None:
        for word in words:
            self._words.setdefault(len(word.chain), {})[word] = None

    def extend(self, length: int) -> None:
        """Make all words of one signature more."""
        for word in list(self._words.get(length - 1, ())):
            self.learn(word.by(node, signer) for node, signer in self.signers.items() if node not in word.chain)

    def at(self, length: int, last: int) -> list[Signed]:
        """Which they can make, with the signature of this one of them as the last."""
        return [word for word in self._words.get(length, ()) if word.chain[-1] == last]

    def forged(self, length: int, last: int) -> list[Signed]:
        """The other order under the signatures that they have, and a true one of their own."""
        words = [Signed(opposite(word.order), word.chain, word.signatures) for word in self._words.get(length - 1, ())]
        return [word.by(last, self.signers[last]) for word in words if last not in word.chain]


Strategy = Callable[[int, int, int, Coalition], list[Signed]]
"""In a round, what a traitor says to somebody: (round, traitor, to, what they can make)."""


class SignedTraitor:
    """Says any words that the coalition can make, or forges. Who is loyal is told those alone."""

    refused = 0

    def __init__(self, me: int, n: int, coalition: Coalition, strategy: Strategy) -> None:
        self.me = me
        self._loyal = [node for node in range(1, n) if node not in coalition.signers]
        self._coalition = coalition
        self._strategy = strategy

    def speak(self, number: int) -> Iterator[tuple[int, Signed]]:
        self._coalition.extend(number)
        for to in self._loyal:
            yield from ((to, word) for word in self._strategy(number, self.me, to, self._coalition))

    def hear(self, number: int, sender: int, word: Signed) -> None:
        self._coalition.learn([word])

    def decide(self) -> Order:
        return DEFAULT
