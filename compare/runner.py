"""Many runs: which, on how many processes, and what becomes of them together.

Here: the plan, the pool, the results. Not here: one run (`compare.sim`, `compare.live`) and its judgement
(`compare.judging`).
"""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from compare import judging
from compare.faults import FAULTS
from compare.judging import Observed
from compare.results import Results, Run, cells_of
from compare.scenario import Scenario, find
from compare.sim import Trial
from replog import protocols
from replog.core import ProtocolSpec
from replog.errors import ConfigError
from replog.trace import Recorder, to_text

Engine = Literal["sim", "live"]
OnRun = Callable[[Run, int, int], None]
"""Called for each finished run with how many are done, of how many."""


@dataclass(frozen=True)
class Job:
    """One run to make. `traces`: a folder that its whole trace goes to."""

    scenario: Scenario
    protocol: str
    engine: Engine
    seed: int
    traces: Path | None = None

    @property
    def trace_file(self) -> Path | None:
        name = f"{self.protocol}-{self.scenario.name}-{self.engine}-{self.seed}.jsonl"
        return None if self.traces is None else self.traces / name


def check(scenario: Scenario, engine: Engine) -> None:
    """Raises ConfigError for a scenario that the engine cannot make."""
    if engine not in scenario.engines:
        raise ConfigError(f"scenario {scenario.name}: runs on {', '.join(scenario.engines)}, not on {engine}")
    for happening in scenario.timeline:
        if happening.fault is not None and engine not in FAULTS[happening.fault].engines:
            raise ConfigError(f"scenario {scenario.name}: the fault {happening.fault} cannot be made on {engine}")


def observe(job: Job, spec: ProtocolSpec | None = None) -> Observed:
    """Make the run, without judging it."""
    spec = spec if spec is not None else protocols.find(job.protocol)
    if job.engine == "live":
        from compare.live import run as run_live

        return run_live(job.scenario, spec, job.seed, job.trace_file)
    recorder = Recorder("all" if job.trace_file is not None else "decisions")
    observed = Trial(job.scenario, spec, job.seed, recorder).run()
    if job.trace_file is not None:
        with job.trace_file.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(to_text(line) + "\n" for line in recorder.lines)
    return observed


def one(job: Job, spec: ProtocolSpec | None = None) -> Run:
    """Make the run and judge it. Raises whatever our own code raises: see `many`."""
    return judging.conclude(observe(job, spec))


def many(jobs: Sequence[Job], spec: ProtocolSpec | None = None, workers: int | None = None) -> Iterator[Run]:
    """The runs as they finish. An exception in a run is its verdict `error`, with the place in our code.

    Live runs are made one after another: they share the machine with nobody. A protocol given as `spec` runs in this
    process, since it may not be found by name in another.
    """
    alone = [job for job in jobs if job.engine == "live" or spec is not None]
    pooled = [job for job in jobs if job not in alone] if alone else list(jobs)
    if pooled:
        number = min(workers or _cores(), len(pooled))
        with ProcessPoolExecutor(number) as pool:
            futures = {pool.submit(one, job): job for job in pooled}
            for future in as_completed(futures):
                yield _result(future, futures[future], spec)
    for job in alone:
        here: Future[Run] = Future()
        _fulfil(here, job, spec)
        yield _result(here, job, spec)


def _fulfil(future: Future[Run], job: Job, spec: ProtocolSpec | None) -> None:
    try:
        future.set_result(one(job, spec))
    except Exception as error:  # noqa: BLE001  as a pool does: whatever a run raises is its verdict
        future.set_exception(error)


def _result(future: Future[Run], job: Job, spec: ProtocolSpec | None) -> Run:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, ConfigError) or not isinstance(error, Exception):
        raise error
    size = job.scenario.side(job.protocol).n
    if size is None:
        size = (spec if spec is not None else protocols.find(job.protocol)).replicas(job.scenario.f)
    return judging.failed(job.scenario, job.protocol, job.engine, job.seed, size, _why(error))


def _why(error: Exception) -> str:
    """One line: what, where, and the notes of the world it happened in."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    notes = "; ".join(getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}{place}{' (' + notes + ')' if notes else ''}"[:1000]


def run(
    scenario: str | Scenario | Iterable[str | Scenario],
    protocol: str | ProtocolSpec | Iterable[str] | None = None,
    engine: Engine | Iterable[Engine] = "sim",
    seeds: int | Iterable[int] = 5,
    *,
    workers: int | None = None,
    traces: Path | None = None,
    on_run: OnRun | None = None,
) -> Results:
    """Make all runs of these scenarios and judge them.

    `protocol`: a name, names, a ProtocolSpec of one's own, or None for all that the scenarios name. `seeds`: how many,
    from 1 on, or which. Raises ConfigError for what cannot be run; what goes wrong in a run is in its verdict.
    """
    chosen = [find(item) if isinstance(item, str) else item for item in _several(scenario)]
    engines: list[Engine] = [engine] if isinstance(engine, str) else list(engine)
    numbers = list(range(1, seeds + 1)) if isinstance(seeds, int) else list(seeds)
    spec = protocol if protocol is not None and not isinstance(protocol, str) and hasattr(protocol, "core") else None
    jobs = [
        Job(item, name, where, seed, traces)
        for where in engines
        for item in chosen
        for name in _protocols(item, protocol)
        for seed in numbers
    ]
    for job in jobs:
        check(job.scenario, job.engine)
    started = datetime.now(UTC)
    runs = []
    for found in many(jobs, spec, workers):  # type: ignore[arg-type]
        runs.append(found)
        if on_run is not None:
            on_run(found, len(runs), len(jobs))
    order = {(job.engine, job.scenario.name, job.protocol, job.seed): place for place, job in enumerate(jobs)}
    runs.sort(key=lambda run: order[run.engine, run.scenario, run.protocol, run.seed])
    expected = {(item.name, name): item.side(name).expect for item in chosen for name in _protocols(item, protocol)}
    return Results(meta=_meta(started, numbers, chosen), cells=cells_of(runs, expected), runs=runs)


def _several(scenario: str | Scenario | Iterable[str | Scenario]) -> list[str | Scenario]:
    return [scenario] if isinstance(scenario, (str, Scenario)) else list(scenario)


def _protocols(scenario: Scenario, wanted: Any) -> list[str]:
    """Names; checked here so that a wrong one is found before anything runs."""
    if wanted is not None and hasattr(wanted, "core"):
        return [wanted.name]
    names = list(scenario.protocols) if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in protocols.names():
            raise ConfigError(f"protocol {name!r}: known are {', '.join(protocols.names())}")
    return names


def _meta(started: datetime, seeds: list[int], scenarios: list[Scenario]) -> dict[str, Any]:
    try:
        release = version("replog")
    except PackageNotFoundError:
        release = "unknown"
    return {
        "replog": release,
        "python": platform.python_version(),
        "platform": platform.system(),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - started).total_seconds(), 3),
        "seeds": seeds,
        "cost_model": "reference",
        "scenarios": {scenario.name: scenario.model_dump(mode="json") for scenario in scenarios},
    }


def _cores() -> int:
    """Cores that this process may use; where the system does not say, those that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
