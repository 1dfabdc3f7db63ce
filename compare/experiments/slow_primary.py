"""Throughput under a primary that is slow but never late enough to be deposed, robust off and on. [Clement09 2, 3.2]

The primary holds each proposal for T, below the time-out of the backups. With n requests waiting at a time the service
then does about n/T of them a second, however fast its machines are. The laboratory is that of `compare.robustness`:
four replicas, machines ten times slower than the reference, a time-out of 4 s; each client has one request under way.

With `robust` the backups complain of such a primary and the next one serves; short runs hold the view change in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from compare.experiments.base import Axis, Cell, Comparison, Experiment, Findings, Line, Picture, Table
from compare.robustness import WARM_UP_US, Case, Run

WAITING: Final = (2, 8)
DELAYS_MS: Final = (20, 50, 100, 200, 400)
ROBUST_DELAYS_MS: Final = (50, 200, 400)
SECONDS: Final = 5.0
WARM_UP_OFF_US: Final = 1_000_000
"""Without `robust` there is nothing to get warm; with it, backups learn first what a primary can do."""
LONG_MS: Final = 200
"""From here on what machines and disks take hardly matters beside T."""
NEAR: Final = 0.15
LEFT: Final = 0.5
"""Of what is done without attack, at least, with `robust`: a run of 5 s in which the view changes once."""


@dataclass(frozen=True)
class Job:
    """`delay_ms` 0: nobody is slow."""

    robust: bool
    waiting: int
    delay_ms: int
    seed: int


@dataclass(frozen=True)
class Sample:
    operations_s: float
    views: int
    acts: int


class SlowPrimary(Experiment[Job, Sample]):
    name = "slow-primary"
    summary = "what a primary that is slow on purpose leaves of the throughput: n/T, robust off and on [Clement09 3.2]"
    runs = 2

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        off = [(False, waiting, delay_ms) for waiting in WAITING for delay_ms in (0, *DELAYS_MS)]
        on = [(True, WAITING[-1], delay_ms) for delay_ms in (0, *ROBUST_DELAYS_MS)]
        return [Job(*setting, seed) for seed in seeds for setting in off + on]

    def measure(self, job: Job) -> Sample:
        return measured(job)

    def findings(self, measured: Sequence[tuple[Job, Sample]]) -> Findings:
        cells: Cells = {}
        for job, sample in measured:
            cells.setdefault((job.robust, job.waiting, job.delay_ms), []).append(sample)
        return Findings(
            tables=[_table(cells)],
            pictures=[_picture(cells)],
            comparisons=[*_near_the_law(cells), *_robust(cells)],
            notes=[NOTE],
        )


Cells = dict[tuple[bool, int, int], list[Sample]]
NOTE: Final = (
    "Four replicas and the clients, each on a machine of its own that is ten times slower than the reference; a client "
    "asks again as soon as it is answered. Each figure is of 5 s of the simulator's time; the time-out is 4 s. "
    "`python -m compare.robustness` runs a minute and more attacks, with more clients."
)


def measured(job: Job, seconds: float = SECONDS) -> Sample:
    slow = Case("slow-primary", target=0, options={"delay_ms": job.delay_ms}, outstanding=1)
    case = slow if job.delay_ms else Case("none", outstanding=1)
    warm_up = WARM_UP_US if job.robust else WARM_UP_OFF_US
    outcome = Run(case, job.robust, clients=job.waiting, seed=job.seed).measure(seconds, warm_up)
    return Sample(outcome.operations_s, outcome.views, outcome.acts)


def _done(cells: Cells, key: tuple[bool, int, int]) -> float | None:
    """Operations a second, the mean of the seeds."""
    return fmean(sample.operations_s for sample in cells[key]) if key in cells else None


def _table(cells: Cells) -> Table:
    rows: list[list[Cell]] = []
    for (robust, waiting, delay_ms), samples in sorted(cells.items()):
        done, usual = fmean(one.operations_s for one in samples), _done(cells, (robust, waiting, 0))
        law = waiting * 1000 / delay_ms if delay_ms else None
        left = f"{done / usual:.2f}" if usual and delay_ms else None
        delay = f"{delay_ms} ms" if delay_ms else "no attack"
        views = max(one.views for one in samples)
        rows.append(["on" if robust else "off", waiting, delay, f"{done:.1f}", law, left, views])
    columns = ["robust", "n waiting", "T", "operations/s", "n/T", "of no attack", "views"]
    return Table(title="throughput under a slow primary", columns=columns, rows=rows)


def _picture(cells: Cells) -> Picture:
    lines = []
    for waiting in WAITING:
        law = [(float(ms), waiting * 1000 / ms) for ms in (15, 20, 30, 50, 70, 100, 150, 200, 300, 400, 500)]
        lines.append(Line(name=f"n/T, n = {waiting} requests waiting", points=law, dashed=True))
    for robust, waiting in ((False, WAITING[0]), (False, WAITING[-1]), (True, WAITING[-1])):
        found = sorted(key for key in cells if key[:2] == (robust, waiting) and key[2])
        points = [(float(key[2]), fmean(one.operations_s for one in cells[key])) for key in found]
        if points:
            lines.append(Line(name=f"measured, n = {waiting}, robust {'on' if robust else 'off'}", points=points))
    return Picture(
        name="slow-primary",
        title="Throughput under a primary that holds each proposal for T",
        x=Axis(label="T, ms", least=15, most=500, logarithmic=True),
        y=Axis(label="operations/s", least=2, most=1_000, logarithmic=True),
        lines=lines,
    )


def _near_the_law(cells: Cells) -> Iterator[Comparison]:
    for (robust, waiting, delay_ms), samples in sorted(cells.items()):
        if robust or delay_ms < LONG_MS:
            continue
        law, done = waiting * 1000 / delay_ms, fmean(one.operations_s for one in samples)
        yield Comparison(
            what=f"robust off, n = {waiting}, T = {delay_ms} ms",
            source="Clement09 3.2",
            published=f"n/T = {law:.0f}/s",
            measured=f"{done:.1f}/s, {max(one.views for one in samples)} view changes",
            rule=f"within {NEAR:.0%} of it, and nobody deposes the primary",
            holds=abs(done / law - 1) <= NEAR and not any(one.views for one in samples) and _struck(samples),
        )


def _struck(samples: Sequence[Sample]) -> bool:
    return all(one.acts for one in samples)


def _robust(cells: Cells) -> Iterator[Comparison]:
    usual = _done(cells, (True, WAITING[-1], 0))
    for (robust, waiting, delay_ms), samples in sorted(cells.items()):
        if not robust or not delay_ms or not usual:
            continue
        done = fmean(one.operations_s for one in samples)
        yield Comparison(
            what=f"robust on, n = {waiting}, T = {delay_ms} ms",
            source="Clement09 4",
            published="the slow primary is replaced",
            measured=f"{done / usual:.2f} of no attack, {min(one.views for one in samples)} view changes",
            rule=f"at least {LEFT:g} of it, and at least one change",
            holds=done >= LEFT * usual and all(one.views and one.acts for one in samples),
        )


EXPERIMENT: Final = SlowPrimary()
