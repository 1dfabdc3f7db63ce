"""Raft with one rule taken out each time. Overrides of the real core: what is not named here is the honest code."""

from __future__ import annotations

from typing import cast

from compare.mutants.base import Mutant, MutantSpec
from raft import SPEC
from raft.core import RaftCore
from replog.core import Effect, ProtocolSpec


class CommitsOldTerms(RaftCore):
    """R8: counts replicas of any entry, whatever its term."""

    def may_commit(self, index: int) -> bool:
        return True


class CommitsAlone(RaftCore):
    """R2: what the leader has appended itself is committed, whoever else has it."""

    def _commit(self) -> list[Effect]:
        index = self.log.last_index
        return self._commit_to(index) if self.replication is not None and index > self.commit_index else []


MUTANTS = (
    Mutant(
        "raft-commits-old-terms",
        "R8",
        "entries of older terms are committed by counting",
        "figure-eight",
        range(1, 21),
        MutantSpec(cast("ProtocolSpec", SPEC), CommitsOldTerms),
    ),
    Mutant(
        "raft-commits-alone",
        "R2",
        "a leader commits what it has appended without waiting for anybody",
        "leader-isolated",
        range(1, 21),
        MutantSpec(cast("ProtocolSpec", SPEC), CommitsAlone),
    ),
)
