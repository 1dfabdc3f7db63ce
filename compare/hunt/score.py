"""Mutation score: which broken cores the search finds, which the tests of their hazard's row do, and how soon.

A broken core is hunted over the seeds of its modes; where no judge objects, and the sources with their tests are at
hand, the tests that its row of docs/hazards.md names are run with it. One that nobody catches is listed as such.
Here: the score. Not here: which cores there are (`compare.mutants.catalogue`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final

from compare.hunt import swarm
from compare.hunt.case import Case
from compare.hunt.trial import hunt
from compare.mutants.catalogue import Broken, catalogue
from compare.runner import pool

SEEDS: Final = 100
"""The most seeds of one broken core."""
TESTS_S: Final = 300
ROOT: Final = Path(__file__).resolve().parents[2]
"""Of the sources, where the tests and docs/hazards.md lie beside the packages."""


@dataclass(frozen=True)
class Score:
    """`caught_by`: a judge, a test, or "" for nobody. `seeds`: how many it took; None where no seed showed it.
    `seconds`: of CPU time, those of the tests too, so that it does not matter what else the machine does."""

    name: str
    protocol: str
    hazard: str
    caught_by: str
    seeds: int | None
    seconds: float


def run(
    protocols: Sequence[str], seeds: int, seconds: float | None, on_text: Callable[[str], None], workers: int = 1
) -> list[Score]:
    """Of all broken cores of these protocols; `seconds`: of CPU time, a bound for each."""
    chosen = [mutant.name for mutant in catalogue().values() if mutant.protocol in protocols]
    scores = []
    for number, one in enumerate(_scored(chosen, partial(score_of, seeds=seeds, seconds=seconds), workers), 1):
        scores.append(one)
        found = "no seed" if one.seeds is None else f"{one.seeds} seeds"
        told = f"{one.caught_by or 'not caught'}, {found}"
        on_text(f"{number} of {len(chosen)}: {one.name} ({one.hazard}): {told}, {one.seconds:.1f} s")
    return scores


def _scored(names: Sequence[str], scored: Callable[[str], Score], workers: int) -> Iterator[Score]:
    """In their order."""
    if workers == 1:
        yield from map(scored, names)
        return
    with pool(workers) as workshop:
        yield from workshop.map(scored, names)


def score_of(name: str, seeds: int, seconds: float | None) -> Score:
    return score(catalogue()[name], seeds, seconds)


def score(mutant: Broken, seeds: int, seconds: float | None = None) -> Score:
    """A seed under which the honest core fails as well shows nothing."""
    began = _cpu_s()
    judge, tried = "", 0
    for case in islice(cases(mutant), seeds):
        judge = hunt(case, mutant.spec).judge
        if judge and hunt(case).failed:
            judge = ""
        tried += 1
        if judge or (seconds is not None and _cpu_s() - began > seconds):
            break
    caught = judge or caught_by_tests(mutant)
    spent = round(_cpu_s() - began, 3)
    return Score(mutant.name, mutant.protocol, mutant.hazard, caught, tried if judge else None, spent)


def _cpu_s() -> float:
    """Of this process, and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def cases(mutant: Broken) -> Iterator[Case]:
    """Of the modes in which it is broken. Random lies run odd seeds under MACs and even ones under signatures."""
    seed = 0
    while True:
        seed += 1
        if not mutant.modes or ("macs" if seed % 2 else "signatures") in mutant.modes:
            yield swarm.draw(mutant.protocol, seed)


# --------------------------------------------------------------------------------------------------------------- tests


def caught_by_tests(mutant: Broken) -> str:
    """The first test of its hazard's row that fails with it, by an assertion and nothing else; "" if none does."""
    tests = rows().get(mutant.hazard, ())
    if not tests:
        return ""
    command = [sys.executable, "-m", "pytest", "-p", "compare.hunt.planted", "-x", "-q", "--tb=line", "--no-header"]
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter and names of tests
            [*command, "-p", "no:cacheprovider", *_arguments(tests)],
            cwd=ROOT,
            env=_environment(mutant),
            capture_output=True,
            text=True,
            timeout=TESTS_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    failed = re.search(r"^PLANTED (\S+)", done.stdout, re.MULTILINE)
    return f"test {failed[1]}" if failed is not None else ""


def _arguments(tests: Sequence[str]) -> list[str]:
    """The files, and the names within them. A row may name a whole file."""
    files = {name.partition("::")[0]: str(ROOT / "tests" / name.partition("::")[0]) for name in tests}
    named = [name if "::" in name else "" for name in tests]
    chosen = [flag for name in named for flag in ("--named", name.rpartition("/")[2])] if all(named) else []
    return [*chosen, *files.values()]


def _environment(mutant: Broken) -> dict[str, str]:
    return os.environ | {"REPLOG_MUTANT": mutant.name, "PYTHONPATH": str(ROOT)}


@cache
def rows() -> dict[str, tuple[str, ...]]:
    """Hazard -> the tests that its row names; empty where the sources are not at hand."""
    page = ROOT / "docs" / "hazards.md"
    if not page.exists():
        return {}
    found = re.findall(r"^\| ([A-Z]\d+) \|.*\| (.*?) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {hazard: tuple(re.findall(r"`([\w/]+\.py(?:::\w+)?)`", tests)) for hazard, tests in found}


# -------------------------------------------------------------------------------------------------------------- report


def as_data(scores: Sequence[Score]) -> dict[str, Any]:
    return {"mutants": [asdict(one) for one in scores]}


def as_table(scores: Sequence[Score]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    lines: list[tuple[str, ...]] = [
        (one.name, one.protocol, one.hazard, one.caught_by or "NOT CAUGHT", str(one.seeds or "-"), f"{one.seconds:.1f}")
        for one in scores
    ]
    return ("mutant", "protocol", "hazard", "caught by", "seeds", "seconds"), lines


def summary(scores: Sequence[Score]) -> str:
    """The median counts those that no seed showed as beyond all others."""
    caught = sum(bool(one.caught_by) for one in scores)
    shown = [one.seeds for one in scores if one.seeds is not None]
    middle = median([one.seeds if one.seeds is not None else float("inf") for one in scores]) if scores else 0
    told = "above the bound" if middle == float("inf") else f"{middle:g}"
    return f"{caught} of {len(scores)} caught, {len(shown)} of them by seeds; the median takes {told} seeds"
