"""Synchronous rounds: all generals speak, then all hear. [LSP82 3]

What is sent arrives in its round (A1), who hears a word knows who said it (A2), and a round that ends without a word
shows that none was sent (A3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, Protocol, TypeVar

Order = Literal["attack", "retreat"]
ORDERS: Final[tuple[Order, Order]] = ("attack", "retreat")
DEFAULT: Final[Order] = "retreat"
"""Of who heard nothing, or as much for the one as for the other. [LSP82 3]"""
COMMANDER: Final = 0

Word = TypeVar("Word")


class General(Protocol[Word]):
    def speak(self, number: int) -> Iterable[tuple[int, Word]]:
        """To whom it says what in this round; rounds count from 1."""
        ...

    def hear(self, number: int, sender: int, word: Word) -> None: ...

    def decide(self) -> Order: ...


def march(generals: Sequence[General[Word]], rounds: int) -> list[int]:
    """Let them speak so many rounds. Gives how many messages each of them had."""
    sent = []
    for number in range(1, rounds + 1):
        said = [(sender, *word) for sender, general in enumerate(generals) for word in general.speak(number)]
        for sender, to, word in said:
            generals[to].hear(number, sender, word)
        sent.append(len(said))
    return sent


def opposite(order: Order) -> Order:
    return "retreat" if order == "attack" else "attack"
