"""Broken cores, by name: each must be caught by the judges, and the honest core must not be, under the same seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from compare.mutants import broken_pbft, broken_raft
from compare.mutants.base import Mutant, MutantSpec

MUTANTS: Final[Mapping[str, Mutant]] = {mutant.name: mutant for mutant in (*broken_pbft.MUTANTS, *broken_raft.MUTANTS)}

__all__ = ["MUTANTS", "Mutant", "MutantSpec"]
