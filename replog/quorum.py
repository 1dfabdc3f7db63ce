"""How many are enough, for any n.

n replicas, at most f of them liars (PBFT) or crashed (Raft). Every place in the code that a paper writes as 2f+1 or f+1
uses these functions (HAZARDS P28).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from replog.types import NodeId


def byzantine_quorum(n: int, f: int) -> int:
    """Smallest q such that two sets of q among n share a correct replica: ceil((n + f + 1) / 2).

    2f+1 for n = 3f+1 [CL99 4]. Raises ValueError unless n >= 3f+1 and f >= 0.
    """
    if f < 0 or n < 3 * f + 1:
        raise ValueError(f"n = {n}, f = {f}: Byzantine agreement needs f >= 0 and n >= 3f + 1 = {3 * f + 1}")
    return (n + f + 2) // 2


def weak_quorum(f: int) -> int:
    """f + 1: at least one of them is correct. [CL99 4.1]"""
    return f + 1


def majority(n: int) -> int:
    """More than half: two majorities share a server. [Raft 5.2] Raises ValueError unless n >= 1."""
    if n < 1:
        raise ValueError(f"n = {n}: a cluster has at least one server")
    return n // 2 + 1


V = TypeVar("V", bound=Hashable)
S = TypeVar("S")


class VoteSet(Generic[V, S]):
    """Votes by distinct voter, each for one value with a witness (a signature, say).

    Invariants:
      a voter has at most one vote and it is never replaced            (HAZARDS P7, P17)
      count(value) is the number of distinct voters for that value
    """

    __slots__ = ("by_voter", "_count")

    def __init__(self) -> None:
        self.by_voter: dict[NodeId, tuple[V, S]] = {}
        """Each vote with its witness; `add` alone changes it."""
        self._count: dict[V, int] = {}

    def add(self, voter: NodeId, value: V, witness: S) -> bool:
        """Count the vote. False if this voter has voted before, for whatever value."""
        if voter in self.by_voter:
            return False
        self.by_voter[voter] = (value, witness)
        self._count[value] = self._count.get(value, 0) + 1
        return True

    def get(self, voter: NodeId) -> tuple[V, S] | None:
        return self.by_voter.get(voter)

    def count(self, value: V) -> int:
        return self._count.get(value, 0)

    def witnesses(self, value: V) -> list[tuple[NodeId, S]]:
        """(voter, witness) of the votes for `value`, in order of voter."""
        return [(voter, witness) for voter, (said, witness) in sorted(self.by_voter.items()) if said == value]

    def values(self) -> Iterator[V]:
        """The values voted for, in order of first vote."""
        return iter(self._count)

    def __contains__(self, voter: NodeId) -> bool:
        return voter in self.by_voter

    def __len__(self) -> int:
        return len(self.by_voter)
