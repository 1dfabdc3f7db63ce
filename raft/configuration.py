"""Who votes, and how many are enough. [Raft 6]

Here: a configuration as a value and the arithmetic of its quorums, joint ones included. Not here: how one replaces
another (`raft.membership`), nor where servers listen (`replog.membership`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

import msgspec

from replog.quorum import majority
from replog.types import NodeId

ServerId = Annotated[int, msgspec.Meta(ge=0, le=1023)]
Servers = Annotated[list[ServerId], msgspec.Meta(max_length=128)]


class Configuration(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`voters` decide; while `old_voters` is not empty both majorities are needed (C_old,new); `learners` only listen,
    those that are old voters still from C_new on.

    Ascending and without repetition. A configuration counts from the moment it is in the log, committed or not.
    """

    voters: Annotated[list[ServerId], msgspec.Meta(min_length=1, max_length=128)]
    old_voters: Servers = []
    learners: Servers = []

    @classmethod
    def of(cls, n: int) -> Configuration:
        """Servers 0 .. n-1, all of them voters."""
        return cls(list(range(n)))

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Everyone to whom a leader replicates, in order."""
        return tuple(sorted({*self.voters, *self.old_voters, *self.learners}))

    def votes(self, node: NodeId) -> bool:
        return node in self.voters or node in self.old_voters

    def has_quorum(self, nodes: Collection[NodeId]) -> bool:
        """Whether `nodes` hold a majority of the voters, and of the old voters too while there are any."""
        return _most(self.voters, nodes) and (not self.old_voters or _most(self.old_voters, nodes))

    def agreed(self, match_index: Mapping[NodeId, int]) -> int:
        """The highest index that a quorum has reached; a voter that is not in `match_index` has reached none."""
        new = _reached(self.voters, match_index)
        return min(new, _reached(self.old_voters, match_index)) if self.old_voters else new


def _most(voters: list[NodeId], nodes: Collection[NodeId]) -> bool:
    return sum(1 for voter in voters if voter in nodes) >= majority(len(voters))


def _reached(voters: list[NodeId], match_index: Mapping[NodeId, int]) -> int:
    reached = sorted((match_index.get(voter, 0) for voter in voters), reverse=True)
    return reached[majority(len(voters)) - 1]
