"""`python -m compare.model --runs 200`: every step of the real servers against figure 2."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing

from compare.model.raft_runs import Outcome, play
from compare.runner import pool

PROGRESS = 50
"""Runs, after each of which a line says how it goes."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.model", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    if given.runs < 1 or given.workers < 1 or given.first < 0:
        parser.error("--runs and --workers must be at least 1, --first at least 0")
    totals: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with closing(_played(range(given.first, given.first + given.runs), given.workers)) as outcomes:
        for number, outcome in enumerate(outcomes, 1):
            _add(totals, outcome)
            kinds += outcome.kinds
            if number % PROGRESS == 0:
                _say(f"{number} of {given.runs}: {totals['steps']:,} steps, {totals['deviations']} deviations")
    _say(f"{given.runs} runs: " + ", ".join(f"{name} {number:,}" for name, number in totals.items()))
    _say("told: " + ", ".join(f"{name} {number:,}" for name, number in kinds.most_common()))
    return 1 if totals["deviations"] or totals["stalled"] or totals["vacuous"] * 4 > given.runs else 0


def _add(totals: Counter[str], outcome: Outcome) -> None:
    for name in ("steps", "terms", "committed", "crashes", "installed"):
        totals[name] += getattr(outcome, name)
    totals["vacuous"] += outcome.vacuous
    totals["stalled"] += bool(outcome.stalled)
    totals["deviations"] += bool(outcome.deviation)
    for what in (outcome.deviation, outcome.stalled):
        if what:
            _say(f"seed {outcome.seed}, n = {outcome.n}: {what}")


def _played(seeds: Sequence[int], workers: int) -> Generator[Outcome]:
    if workers == 1:
        yield from map(play, seeds)
        return
    with pool(workers) as workshop:
        yield from workshop.map(play, seeds)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
