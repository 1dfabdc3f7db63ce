"""The judges, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from compare.checkers.accountability import Accountability
from compare.checkers.agreement import Agreement
from compare.checkers.base import Check, Conflict, Evidence, Judge, Undecided
from compare.checkers.durability import Durability
from compare.checkers.linearizability import Linearizability
from compare.checkers.liveness import Liveness
from compare.checkers.memory import Memory
from compare.checkers.money import Money
from compare.checkers.state_digest import StateDigest
from compare.checkers.validity import ExactlyOnce, Validity

JUDGES: Final[tuple[Judge, ...]] = (
    Agreement(),
    StateDigest(),
    Validity(),
    ExactlyOnce(),
    Linearizability(),
    Durability(),
    Accountability(),
    Liveness(),
    Memory(),
)

OWN: Final[Mapping[str, tuple[Judge, ...]]] = {"bank": (Money(),)}
"""Judges of one application alone, beside JUDGES."""

__all__ = ["JUDGES", "OWN", "Check", "Conflict", "Evidence", "Judge", "Undecided"]
