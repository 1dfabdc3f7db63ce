"""Interactive consistency, judged from outside: what loyal generals decided, and nothing of how they came to it.

IC1: all loyal lieutenants obey the same order. IC2: if the commander is loyal, every loyal lieutenant obeys the order
that it sends. [LSP82 1]
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from compare.generals.rounds import COMMANDER, Order


@dataclass(frozen=True)
class Verdict:
    """`checked`: decisions that were held against another, or against the order. 0 proves nothing."""

    ic1: bool
    ic2: bool
    checked: int

    @property
    def holds(self) -> bool:
        return self.ic1 and self.ic2


def judge(order: Order, decisions: Sequence[Order], traitors: Collection[int]) -> Verdict:
    """`order`: what the commander was to send; `decisions`: of all generals, those of traitors are not looked at."""
    loyal = [decision for node, decision in enumerate(decisions) if node != COMMANDER and node not in traitors]
    bound = COMMANDER not in traitors
    return Verdict(
        ic1=len(set(loyal)) <= 1,
        ic2=not bound or all(decision == order for decision in loyal),
        checked=max(0, len(loyal) - 1) + (len(loyal) if bound else 0),
    )
