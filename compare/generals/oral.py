"""OM(m): agreement by oral messages, whose bearer can be known and nothing else. [LSP82 3]

The recursion of the paper, unrolled: in round r everybody says on to everybody else what came in round r - 1, under the
path of those that it went through. After m + 1 rounds each takes majorities from the longest paths up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from math import perm

from compare.generals.rounds import COMMANDER, DEFAULT, Order

Path = tuple[int, ...]


@dataclass(frozen=True)
class Oral:
    """`path`: the commander, and who said it on; the last of them says it now."""

    path: Path
    order: Order


Strategy = Callable[[int, Oral], Order | None]
"""What a traitor says to somebody in place of the word that the algorithm asks for; None: nothing."""


class OralGeneral:
    """A loyal one. Invariant: for each path it holds what it heard first."""

    def __init__(self, me: int, n: int, m: int, order: Order = DEFAULT) -> None:
        """`order`: the commander's."""
        self.me = me
        self.n = n
        self.m = m
        self._order = order
        self._heard: dict[Path, Order] = {}

    def speak(self, number: int) -> Iterator[tuple[int, Oral]]:
        for path in self._to_say_on(number):
            word = Oral((*path, self.me), self._told(path) if path else self._order)
            yield from ((to, word) for to in range(self.n) if to not in word.path)

    def hear(self, number: int, sender: int, word: Oral) -> None:
        path = word.path
        if len(path) == number and path[0] == COMMANDER and path[-1] == sender and self.me not in path:
            self._heard.setdefault(path, word.order)

    def decide(self) -> Order:
        return self._order if self.me == COMMANDER else self._resolve((COMMANDER,))

    def _to_say_on(self, number: int) -> Iterator[Path]:
        """The paths of what came in the round before; of the commander's own order the empty one."""
        if self.me == COMMANDER:
            yield from [()] if number == 1 else []
        elif number > 1:
            others = [node for node in range(self.n) if node not in (COMMANDER, self.me)]
            yield from ((COMMANDER, *rest) for rest in permutations(others, number - 2))

    def _told(self, path: Path) -> Order:
        return self._heard.get(path, DEFAULT)

    def _resolve(self, path: Path) -> Order:
        """OM(m + 1 - len(path)) with the last of the path as the commander: its outcome for this lieutenant."""
        if len(path) == self.m + 1:
            return self._told(path)
        others = (node for node in range(self.n) if node not in path and node != self.me)
        return majority([self._told(path), *(self._resolve((*path, node)) for node in others)])


class OralTraitor(OralGeneral):
    """Speaks when a loyal one would, and may say anything else. To be silent is all that is left besides: words out of
    turn or under a false path are not heard."""

    def __init__(self, me: int, n: int, m: int, strategy: Strategy, order: Order = DEFAULT) -> None:
        super().__init__(me, n, m, order)
        self._strategy = strategy

    def speak(self, number: int) -> Iterator[tuple[int, Oral]]:
        for to, word in super().speak(number):
            order = self._strategy(to, word)
            if order is not None:
                yield to, Oral(word.path, order)


def majority(orders: list[Order]) -> Order:
    """[LSP82 3]: of a tie, the default."""
    return "attack" if 2 * Counter(orders)["attack"] > len(orders) else DEFAULT


def messages(n: int, m: int) -> int:
    """(n - 1)(n - 2) ... (n - m - 1), as published: those of the last round. [LSP82 7]"""
    return perm(n - 1, m + 1)


def messages_in_all(n: int, m: int) -> int:
    """With those of the rounds before, which the paper leaves out."""
    return sum(messages(n, depth) for depth in range(m + 1))
