"""What a mutant is: a protocol with one rule taken out, by which judges prove that they can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compare.results import Run, Verdict
from compare.runner import Job, many
from compare.scenario import find
from compare.variants import MutantSpec
from replog.core import ProtocolSpec

__all__ = ["Mutant", "MutantSpec", "found_by", "hunt"]


@dataclass(frozen=True)
class Mutant:
    """`hazard`: the row of HAZARDS whose rule is taken out. `scenario`: where it must be caught, by one of `seeds`."""

    name: str
    hazard: str
    summary: str
    scenario: str
    seeds: Sequence[int]
    spec: ProtocolSpec


def hunt(mutant: Mutant) -> Run | None:
    """The first run of its seeds that shows the mutant: a judge objects, or the core finds its own state broken."""
    scenario = find(mutant.scenario)
    for seed in mutant.seeds:
        for run in many([Job(scenario, mutant.spec.name, "sim", seed)], mutant.spec):
            if run.verdict in (Verdict.UNSAFE, Verdict.STALLED) or run.error.startswith("AssertionError"):
                return run
    return None


def found_by(run: Run) -> str:
    """Who objected."""
    judges = ", ".join(name for name, check in run.checks.items() if not check.ok)
    return judges or "its own invariants: " + run.error.removeprefix("AssertionError: ").partition(" at ")[0]
