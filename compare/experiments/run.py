"""All trials of one experiment, on as many cores as wanted, and the report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from compare.experiments.base import Experiment, Report
from compare.runner import cores, pool

OnTrial = Callable[[int, int], None]
"""Called after each trial with how many are done, of how many."""
CHUNK = 8
"""Trials that a worker is handed at once: one may take a few milliseconds."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. `report`: of what was finished until then, not complete; None if that is nothing."""

    def __init__(self, report: Report | None, done: int, total: int) -> None:
        super().__init__(f"{done} of {total} trials were done")
        self.report = report


def run(
    experiment: Experiment[Any, Any],
    seeds: Sequence[int],
    workers: int | None = None,
    on_trial: OnTrial | None = None,
) -> Report:
    """Raises Interrupted after Ctrl-C, and whatever a trial raises: that is our own bug."""
    started, jobs = datetime.now(UTC), experiment.jobs(seeds)
    measured: list[tuple[Any, Any]] = []
    try:
        with closing(_samples(experiment, jobs, workers)) as samples:
            for job, sample in zip(jobs, samples, strict=True):
                measured.append((job, sample))
                if on_trial is not None:
                    on_trial(len(measured), len(jobs))
    except KeyboardInterrupt:
        report = _report(experiment, measured, seeds, started, complete=False) if measured else None
        raise Interrupted(report, len(measured), len(jobs)) from None
    return _report(experiment, measured, seeds, started, complete=True)


def _samples(experiment: Experiment[Any, Any], jobs: Sequence[Any], workers: int | None) -> Generator[Any]:
    number = min(workers or cores(), -(-len(jobs) // CHUNK))
    if number <= 1:
        yield from map(experiment.measure, jobs)
        return
    with pool(number) as workshop:
        yield from workshop.map(experiment.measure, jobs, chunksize=CHUNK)


def _report(
    experiment: Experiment[Any, Any],
    measured: Sequence[tuple[Any, Any]],
    seeds: Sequence[int],
    started: datetime,
    *,
    complete: bool,
) -> Report:
    return Report(
        **dict(experiment.findings(measured)),
        experiment=experiment.name,
        complete=complete,
        trials=len(measured),
        meta=_meta(seeds, started),
    )


def _meta(seeds: Sequence[int], started: datetime) -> dict[str, Any]:
    try:
        release = version("replog")
    except PackageNotFoundError:
        release = "unknown"
    return {
        "replog": release,
        "python": platform.python_version(),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - started).total_seconds(), 3),
        "seeds": [seeds[0], seeds[-1]] if seeds else [],
    }
