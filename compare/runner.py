"""Many runs: which, on how many processes, and what becomes of them together.

Here: the plan, the pool, the results. Not here: one run (`compare.sim`, `compare.live`) and its judgement
(`compare.judging`).
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compare import farm, history, judging, sweep
from compare.calibration.machine import Machine, described
from compare.drawing import draw
from compare.evidence import keep as keep_evidence
from compare.faults import Engine
from compare.judging import Observed
from compare.results import Asked, CellKey, Results, Run, cells_of
from compare.scenario import Scenario, find
from compare.sim import Trial
from replog import protocols
from replog.config import first_fault
from replog.core import ProtocolSpec
from replog.errors import ConfigError, ReplogError
from replog.trace import Recorder, to_text

OnRun = Callable[[Run, int, int], None]
"""Called for each finished run with how many are done, of how many."""


@dataclass(frozen=True)
class Job:
    """One run to make. `traces`: a folder that its whole trace and its history go to. `evidence`: one for what its
    replicas accuse others of; a simulated run then signs for real, which takes longer and more bytes."""

    scenario: Scenario
    protocol: str
    engine: Engine
    seed: int
    traces: Path | None = None
    evidence: Path | None = None
    machine: Machine | None = None

    @property
    def exact(self) -> Scenario:
        """What this very run is."""
        return draw(self.scenario, self.seed) if self.scenario.drawn else self.scenario

    def size(self, spec: ProtocolSpec | None = None) -> tuple[int, int]:
        """How many replicas the run has, and how many faults it is built for."""
        return self.exact.size(spec if spec is not None else protocols.find(self.protocol))

    @property
    def cell(self) -> CellKey:
        return CellKey(self.protocol, self.scenario.name, self.engine)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. `results`: what was finished until then, not complete."""

    def __init__(self, results: Results, total: int) -> None:
        super().__init__(f"{len(results.runs)} of {total} runs were done")
        self.results = results


class Broken(ReplogError):
    """The comparison could not go on. `results`: what was finished until then, not complete."""

    def __init__(self, why: ReplogError, results: Results, total: int) -> None:
        super().__init__(f"{why}; {len(results.runs)} of {total} runs were done")
        self.results = results


# ------------------------------------------------------------------------------------------------------------- one run


def observe(job: Job, spec: ProtocolSpec | None = None) -> Observed:
    """Make the run, without judging it."""
    observed = _observe(job, spec if spec is not None else protocols.find(job.protocol))
    name = f"{job.protocol}-{job.scenario.name}-{job.engine}-{job.seed}"
    if job.traces is not None:
        _keep(observed, job.traces / name)
    if job.evidence is not None:
        keep_evidence(observed, job.evidence / name)
    return observed


def _observe(job: Job, spec: ProtocolSpec) -> Observed:
    recorder = Recorder("all" if job.traces is not None else "decisions")
    if job.engine == "live":
        from compare.live import run as run_live

        return run_live(job.scenario, spec, job.seed, recorder.level)
    return Trial(
        job.exact, spec, job.seed, recorder, real_signatures=job.evidence is not None, machine=job.machine
    ).run()


def _keep(observed: Observed, stem: Path) -> None:
    """A file that is there is whole, whenever the run was interrupted."""
    unfinished = stem.with_name(f"{stem.name}.part")
    with unfinished.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(to_text(line) + "\n" for line in observed.lines)
    unfinished.replace(stem.with_name(f"{stem.name}.jsonl"))
    history.write(unfinished, observed.calls)
    unfinished.replace(stem.with_name(f"{stem.name}-history.jsonl"))


def one(job: Job, spec: ProtocolSpec | None = None) -> Run:
    """Make the run and judge it. Raises whatever our own code raises: see `many`."""
    found = judging.conclude(observe(job, spec))
    if job.machine is None:
        return found
    return found.model_copy(update={"replay": f"{found.replay} --cost-model {job.machine.file}"})


# ----------------------------------------------------------------------------------------------------------- many runs


def many(
    jobs: Sequence[Job], spec: ProtocolSpec | None = None, workers: int | None = None, on: str | None = None
) -> Generator[Run]:
    """The runs as they finish. An exception in a run is its verdict `error`, with the place in our code.

    Simulated runs are made by a pool of `workers` processes, or by the scheduler at the address `on`. Live runs are
    made one after another: they share the machine with nobody. A protocol given as `spec` runs in this process, since
    it may not be found by name in another.
    """
    alone = [job for job in jobs if job.engine == "live" or spec is not None]
    pooled = [job for job in jobs if job.engine == "sim" and spec is None]
    if pooled:
        with closing(farm.finished(pooled, one, on) if on is not None else _by_pool(pooled, workers)) as done:
            for job, future in done:
                yield _result(future, job, spec)
    for job in alone:
        yield _result(_made_here(job, spec), job, spec)


def _by_pool(jobs: Sequence[Job], workers: int | None) -> Generator[tuple[Job, Future[Run]]]:
    with pool(min(workers or cores(), len(jobs))) as workshop:
        futures = {workshop.submit(one, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future


@contextmanager
def pool(number: int) -> Iterator[ProcessPoolExecutor]:
    """Whatever ends the work early, Ctrl-C above all, ends the workers at once: nobody wants what they are at."""
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(number, initializer=_begin_worker) as workshop:
        try:
            yield workshop
        except BaseException:
            workshop.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise


def _begin_worker() -> None:
    """Ctrl-C in a terminal comes to every process; here it is for the parent, which a worker does not outlive."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _made_here(job: Job, spec: ProtocolSpec | None) -> Future[Run]:
    future: Future[Run] = Future()
    try:
        future.set_result(one(job, spec))
    except Exception as error:  # noqa: BLE001  as a pool does: whatever a run raises is its verdict
        future.set_exception(error)
    return future


def _result(future: Future[Run], job: Job, spec: ProtocolSpec | None) -> Run:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, ConfigError) or not isinstance(error, Exception):
        raise error
    return judging.failed(job.exact, job.protocol, job.engine, job.seed, job.size(spec), _why(error))


def _why(error: Exception) -> str:
    """One line: what, where, and the notes of the world it happened in."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    notes = "; ".join(getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}{place}{' (' + notes + ')' if notes else ''}"[:1000]


def cores() -> int:
    """Cores that this process may use; where the system does not say, those that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --------------------------------------------------------------------------------------------------------- comparisons


def run(
    scenario: str | Scenario | Iterable[str | Scenario],
    protocol: str | ProtocolSpec | Iterable[str] | None = None,
    engine: Engine | Iterable[Engine] = "sim",
    seeds: int | Iterable[int] = 5,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002  the word of the command line
    workers: int | None = None,
    on: str | None = None,
    traces: Path | None = None,
    evidence: Path | None = None,
    on_run: OnRun | None = None,
    machine: Machine | None = None,
) -> Results:
    """Make all runs of these scenarios and judge them, each once, however often it is named.

        found = compare.run("equivocating-leader", seeds=20, set={"network.loss": [0, 0.01], "n": [4, 7]})
        found.rows(), found.summary(), found.frame(), found.csv(), found.met

    `scenario`: a name, the path of a file, a Scenario, or several. `protocol`: a name, names, a ProtocolSpec of one's
    own, or None for all that the scenarios name. `seeds`: how many, from 1 on, or which. `set`: fields of the scenario
    by dotted name, each with a value or a list of values; every combination is made (`compare.sweep`). `workers`:
    processes for simulated runs, one a core if None. `on`: the address of a Dask scheduler whose workers make them
    instead (`compare.farm`). `traces`, `evidence`: folders for what single runs leave. `on_run` is called for each
    finished run. `machine`: whose prices simulated runs have, in place of those of the package; the results say so.

    Raises ConfigError for what cannot be run, Interrupted after Ctrl-C, Broken when the scheduler went away, both with
    what was finished; what goes wrong in a run is in its verdict.
    """
    spec: Any = protocol if hasattr(protocol, "core") else None
    jobs = [
        Job(item, name, where, seed, traces, evidence, machine)
        for where in dict.fromkeys([engine] if isinstance(engine, str) else engine)
        for item in _points(scenario, set or {})
        for name in _protocols(item, protocol)
        for seed in dict.fromkeys(range(1, seeds + 1) if isinstance(seeds, int) else seeds)
    ]
    for job in {job.cell: job for job in jobs}.values():
        check(job, spec)
        _check_place(job, spec, on)
    for folder in (traces, evidence):
        if folder is not None:
            folder.mkdir(exist_ok=True)
    started, runs = datetime.now(UTC), dict[tuple[str, str, str, int], Run]()
    try:
        with closing(many(jobs, spec, workers, on)) as found:
            for this in found:
                runs[this.protocol, this.scenario, this.engine, this.seed] = this
                if on_run is not None:
                    on_run(this, len(runs), len(jobs))
    except KeyboardInterrupt:
        raise Interrupted(_results(jobs, list(runs.values()), started), len(jobs)) from None
    except farm.Lost as reason:
        raise Broken(reason, _results(jobs, list(runs.values()), started), len(jobs)) from None
    return _results(jobs, list(runs.values()), started)


def _check_place(job: Job, spec: ProtocolSpec | None, on: str | None) -> None:
    """Raises ConfigError for a run that cannot be made elsewhere."""
    if on is None:
        return
    farm.check(on)
    if job.engine != "sim" or spec is not None:
        what = "runs on real processes" if job.engine != "sim" else "a protocol that is not found by name"
        raise ConfigError(f"on = {on}: {what} must be made on this machine, not by a scheduler's workers")
    if job.traces is not None or job.evidence is not None:
        raise ConfigError(f"on = {on}: traces and evidence must be left on this machine: make these runs without it")


def check(job: Job, spec: ProtocolSpec | None = None) -> None:
    """Raises ConfigError for a run that cannot be made."""
    this, size = f"scenario {job.scenario.name}", _check_protocol(job, spec)
    if job.engine not in job.scenario.engines:
        raise ConfigError(f"{this}: runs on {', '.join(job.scenario.engines)}, not on {job.engine}")
    for happening in job.scenario.timeline:
        if happening.protocols is not None and job.protocol not in happening.protocols:
            raise ConfigError(f"{this}: {happening.name} is for {', '.join(happening.protocols)}, not {job.protocol}")
        if job.engine not in happening.engines:
            kind = "fault" if happening.fault is not None else "attack"
            raise ConfigError(f"{this}: the {kind} {happening.name} cannot be made on {job.engine}")
        if (number := max(happening.numbers, default=0)) >= size:
            raise ConfigError(f"{this}: target = {number}: with {job.protocol} the nodes are 0 .. {size - 1}")
    _check_world(job)
    if job.scenario.workload.byzantine and job.engine != "sim":
        raise ConfigError(f"{this}: workload.byzantine: clients that lie cannot be made on {job.engine}")


def _check_protocol(job: Job, spec: ProtocolSpec | None) -> int:
    """How many replicas. Raises ConfigError for a size or options that the protocol does not take."""
    spec = spec if spec is not None else protocols.find(job.protocol)
    try:
        n, f = job.size(spec)
        spec.check_size(n, f)
        spec.options(dict(job.exact.side(job.protocol).options))
    except ValueError as error:
        rule = first_fault(error) if isinstance(error, ValidationError) else error
        raise ConfigError(f"scenario {job.scenario.name}, protocol {job.protocol}: {rule}") from None
    return n


def _check_world(job: Job) -> None:
    """Raises ConfigError for what only the simulated world can be, and for a mutant of another protocol."""
    scenario = job.scenario
    if scenario.network.timing is not None and job.engine != "sim":
        raise ConfigError(f"scenario {scenario.name}: network.timing: cannot be promised of links on {job.engine}")
    for happening in scenario.timeline:
        if happening.fault == "mutant" and not getattr(happening.settings, job.protocol, ""):
            raise ConfigError(f"scenario {scenario.name}: the fault mutant names no core for {job.protocol}")


def _points(wanted: str | Scenario | Iterable[str | Scenario], settings: Mapping[str, Any]) -> list[Scenario]:
    """Each scenario with each combination of the settings."""
    values = sweep.values_of(settings)
    return _scenarios([point for scenario in _scenarios(wanted) for point in sweep.points(scenario, values)])


def _scenarios(wanted: str | Scenario | Iterable[str | Scenario]) -> list[Scenario]:
    """Each once, in their order. Raises ConfigError for two that differ under one name: nobody could tell their runs
    apart."""
    found: dict[str, Scenario] = {}
    for item in [wanted] if isinstance(wanted, (str, Scenario)) else wanted:
        scenario = find(item) if isinstance(item, str) else item
        known = found.setdefault(scenario.name, scenario)
        if known.model_dump() != scenario.model_dump():
            raise ConfigError(f"scenario {scenario.name}: {known.handle} and {scenario.handle} differ under one name")
    return list(found.values())


def _protocols(scenario: Scenario, wanted: Any) -> list[str]:
    """Names; checked here so that a wrong one is found before anything runs."""
    if wanted is not None and hasattr(wanted, "core"):
        return [wanted.name]
    names = list(scenario.protocols) if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in protocols.names():
            raise ConfigError(f"protocol {name!r}: known are {', '.join(protocols.names())}")
    return list(dict.fromkeys(names))


def _results(jobs: Sequence[Job], runs: Sequence[Run], started: datetime) -> Results:
    """In the order of the jobs, however they came."""
    places = {(*job.cell, job.seed): place for place, job in enumerate(jobs)}
    numbers = Counter(job.cell for job in jobs)
    asked = {job.cell: Asked(numbers[job.cell], job.scenario.side(job.protocol).expect) for job in jobs}
    return Results(
        complete=len(runs) == len(jobs),
        meta=_meta(started, jobs),
        cells=cells_of(runs, asked),
        runs=sorted(runs, key=lambda run: places[run.protocol, run.scenario, run.engine, run.seed]),
    )


def _meta(started: datetime, jobs: Sequence[Job]) -> dict[str, Any]:
    scenarios = {job.scenario.name: job.scenario for job in jobs}
    return {
        "replog": farm.installed(),
        "python": platform.python_version(),
        "platform": platform.system(),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - started).total_seconds(), 3),
        "seeds": list(dict.fromkeys(job.seed for job in jobs)),
        "cost_model": described(jobs[0].machine if jobs else None),
        "sizing": {name: scenario.sizing for name, scenario in scenarios.items()},
        "scenarios": {name: scenario.model_dump(mode="json") for name, scenario in scenarios.items()},
        "points": {
            name: {"scenario": scenario.base, "set": dict(scenario.settings)}
            for name, scenario in scenarios.items()
            if scenario.settings
        },
    }
