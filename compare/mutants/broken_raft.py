"""Raft with one rule taken out each time. Overrides of the real core: what is not named here is the honest code."""

from __future__ import annotations

from typing import cast

from compare.mutants.base import Mutant, MutantSpec
from raft import SPEC
from raft.core import RaftCore
from replog.core import ProtocolSpec


class CommitsOldTerms(RaftCore):
    """R8: counts replicas of any entry, whatever its term."""

    def may_commit(self, index: int) -> bool:
        return True


MUTANTS = (
    Mutant(
        "raft-commits-old-terms",
        "R8",
        "entries of older terms are committed by counting",
        "figure-eight",
        20,
        MutantSpec(cast("ProtocolSpec", SPEC), CommitsOldTerms),
    ),
)
