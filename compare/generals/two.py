"""Two generals over a link that loses messengers: no number of them makes an attack certain. [Gray78]

A chain: the first general sends the hour, the second confirms it, the first confirms that, and so on, k messengers in
all; each attacks if it heard all that it was to hear. With chance p of a loss both attack with chance (1 - p)^k, and
one alone with p (1 - p)^(k - 1): if the last messenger is lost. So of all attacks a share p is made alone, whatever k.

A crowd: k messengers at once with the same word; the first attacks in any case, the second if one of them arrives. One
attacks alone with chance p^k.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Literal

Plan = Literal["chain", "crowd"]
Ending = Literal["both", "one", "none"]


def arrivals(messengers: int, loss: float, chance: random.Random) -> int:
    """How many of a chain arrive before the first is lost: nobody confirms what did not come."""
    return next((number for number in range(messengers) if chance.random() < loss), messengers)


def heard(arrived: int) -> tuple[int, int]:
    """Of so many in turn, how many came to the first general, how many to the second, which hears the first."""
    return arrived // 2, (arrived + 1) // 2


def chain(messengers: int, loss: float, chance: random.Random) -> Ending:
    found, wanted = heard(arrivals(messengers, loss, chance)), heard(messengers)
    return _ending(found[0] == wanted[0], found[1] == wanted[1])


def crowd(messengers: int, loss: float, chance: random.Random) -> Ending:
    arrived = [chance.random() >= loss for _ in range(messengers)]
    return _ending(True, any(arrived))


def _ending(first: bool, second: bool) -> Ending:
    return "both" if first and second else "one" if first or second else "none"


def law(plan: Plan, messengers: int, loss: float) -> tuple[float, float]:
    """Chance that both attack, and that one attacks alone."""
    if plan == "chain":
        return (1 - loss) ** messengers, loss * (1 - loss) ** (messengers - 1)
    return 1 - loss**messengers, loss**messengers


def attempts(plan: Plan, messengers: int, loss: float, number: int, chance: random.Random) -> Counter[Ending]:
    attempt = chain if plan == "chain" else crowd
    return Counter(attempt(messengers, loss, chance) for _ in range(number))


# -------------------------------------------------------------------------------------------------- no rule is certain

Rule = tuple[bool, ...]
"""Whether a general attacks that heard so many messengers: 0, 1, ..."""


def rules(messengers: int) -> Iterator[tuple[Rule, Rule]]:
    """Every pair of rules for a chain."""
    first, second = heard(messengers)
    yield from product(product((False, True), repeat=first + 1), product((False, True), repeat=second + 1))


def certain(messengers: int, first: Rule, second: Rule) -> bool:
    """Whether both attack if all messengers arrive, neither does if none arrives, and never one alone."""
    ends = []
    for arrived in range(messengers + 1):
        one, other = heard(arrived)
        ends.append(_ending(first[one], second[other]))
    return ends[-1] == "both" and ends[0] == "none" and "one" not in ends


def certain_rules(messengers: int) -> tuple[int, int]:
    """How many pairs of rules there are, and how many of them are certain."""
    found = [certain(messengers, first, second) for first, second in rules(messengers)]
    return len(found), sum(found)
