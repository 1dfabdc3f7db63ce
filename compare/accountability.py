"""Whether every conflict that correct replicas were told yields evidence, and none names a correct node: many runs.

Whole scenarios under signatures, each seed once. A conflict is two different statements that a liar signed for one
place, both told to one correct replica, or one to one and one to another. Each accusation is checked anew by public
keys alone. The first runs of each scenario sign with Ed25519 and write their accusations as files, which are verified
as `replog evidence verify --ca` does.

    python -m compare.accountability --runs 500 --workers 2 [SCENARIO ...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from compare.checkers.accountability import unknown
from compare.judging import Observed, conclude, evidence_of
from compare.results import Verdict
from compare.runner import Job, observe
from compare.scenario import catalogue, find
from replog import evidence
from replog.evidence import NotProven, Pin

SCENARIOS: Final = ("equivocating-leader", "equivocation-view-change", "random-byzantine")


@dataclass
class Tally:
    """Of some runs. `not_ok`: of any judge. `unseen`: conflicts that nobody has evidence of."""

    runs: int = 0
    vacuous: int = 0
    twice: int = 0
    apart: int = 0
    unseen: list[str] = field(default_factory=list)
    accusations: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    not_ok: list[str] = field(default_factory=list)
    files: int = 0

    def add(self, other: Tally) -> None:
        self.runs += other.runs
        self.vacuous += other.vacuous
        self.twice += other.twice
        self.apart += other.apart
        self.unseen += other.unseen
        self.accusations += other.accusations
        self.wrong += other.wrong
        self.not_ok += other.not_ok
        self.files += other.files


def seeds(name: str, runs: int) -> list[int]:
    """Of what is drawn from the seed, those that sign."""
    scenario = find(name)
    found: list[int] = []
    seed = 0
    while len(found) < runs:
        seed += 1
        if Job(scenario, "pbft", "sim", seed).exact.side("pbft").options.get("auth", "signatures") == "signatures":
            found.append(seed)
    return found


def run(name: str, seed: int, real: bool = False) -> Tally:
    """One run: what was told, what was noticed, what it proves."""
    which = f"{name} seed {seed}"
    with tempfile.TemporaryDirectory() as folder:
        observed = observe(Job(find(name), "pbft", "sim", seed, evidence=Path(folder) if real else None))
        files = sorted(Path(folder).glob("*/node-*/*.json"))
        unproven = [f"{which}: {text}" for text in _unproven(files, observed)]
    judged, seen = conclude(observed), evidence_of(observed)
    check, missed = judged.checks["accountability"], [f"{which}: {conflict}" for conflict in unknown(seen)]
    return Tally(
        runs=1,
        vacuous=int(not seen.conflicts),
        twice=sum(len(conflict.hearers) == 1 for conflict in seen.conflicts),
        apart=sum(len(conflict.hearers) > 1 for conflict in seen.conflicts),
        unseen=missed,
        accusations=Counter(charge.kind for own in seen.decisions.values() for charge in own.charges),
        wrong=unproven + ([] if check.ok or missed else [f"{which}: {check.detail}"]),
        not_ok=[f"{which}: {judged.verdict}"] if judged.verdict is not Verdict.OK else [],
        files=len(files),
    )


def _unproven(files: Sequence[Path], observed: Observed) -> Iterator[str]:
    """Files that prove nothing, or something about a correct node, to somebody who has the authority's certificate."""
    liars = {*observed.liars, *observed.signed}
    for path in files:
        try:
            found = evidence.verify(evidence.read(path), Pin((path.parents[1] / "ca.pem").read_text()))
        except NotProven as reason:
            yield f"{path.name} proves nothing: {reason}"
            continue
        if found.culprit not in liars:
            yield f"{path.name} convicts {found.culprit}, which is correct"


# -------------------------------------------------------------------------------------------------------------- table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m compare.accountability", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"default: {' '.join(SCENARIOS)}")
    parser.add_argument("--runs", type=int, default=500, help="of each scenario")
    parser.add_argument("--real", type=int, default=10, help="of them, how many sign with Ed25519 and leave files")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    names = given.scenarios or list(SCENARIOS)
    for name in names:
        if name not in catalogue():
            parser.error(f"{name}: no such scenario")
    return _show(_all(names, given.runs, given.real, given.workers))


def _all(names: Sequence[str], runs: int, real: int, workers: int) -> dict[str, Tally]:
    """In turn, so that all scenarios are as far; after Ctrl-C what was done until then."""
    chosen = {name: seeds(name, runs) for name in names}
    jobs = [(name, chosen[name][place], place < real) for place in range(runs) for name in names]
    tallies = {name: Tally() for name in names}
    with ProcessPoolExecutor(workers) as pool:
        try:
            for done, (job, found) in enumerate(zip(jobs, pool.map(run, *zip(*jobs, strict=True)), strict=True), 1):
                tallies[job[0]].add(found)
                if done % 50 == 0:
                    unseen = sum(len(tally.unseen) for tally in tallies.values())
                    wrong = sum(len(tally.wrong) for tally in tallies.values())
                    _say(f"{done} of {len(jobs)} runs: {unseen} conflicts unseen, {wrong} accusations wrong")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            _say("interrupted: what was done until then")
    return tallies


def _show(tallies: dict[str, Tally]) -> int:
    """The table; 1 if a conflict went unseen, an accusation is wrong, a run is not ok or nothing was told."""
    _say(
        f"{'scenario':26} {'runs':>5} {'twice':>7} {'apart':>7} {'unseen':>7} {'accused':>8} {'wrong':>6} {'files':>6}"
    )
    for name, tally in tallies.items():
        accused = tally.accusations.total()
        _say(
            f"{name:25} {tally.runs:5} {tally.twice:7} {tally.apart:7} {len(tally.unseen):7} {accused:8} "
            f"{len(tally.wrong):6} {tally.files:6}"
        )
        _say(f"    runs without a conflict: {tally.vacuous}; {dict(sorted(tally.accusations.items()))}")
        for line in (*tally.unseen, *tally.wrong, *tally.not_ok):
            _say(f"    {line}")
    return int(any(t.unseen or t.wrong or t.not_ok or not t.twice + t.apart for t in tallies.values()))


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
