"""The search: failures of old first, then seed after seed until the budget is spent or something is found.

Here: which seeds, on how many processes, what is kept of a failure. Not here: one run (`compare.hunt.trial`), what is
printed (`compare.cli_hunt`).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from compare.hunt import byzzfuzz, swarm, twins
from compare.hunt.case import Case, changed, load, to_toml
from compare.hunt.shrink import shrink
from compare.hunt.store import Store, Totals, Which
from compare.hunt.trial import Outcome, hunt, record, spec_of
from compare.runner import pool
from replog.errors import ConfigError

DRAWS: Final[dict[str, Callable[[str, int], Case]]] = {
    "swarm": swarm.draw,
    "twins": twins.draw,
    "byzzfuzz": byzzfuzz.draw,
}
LIES_ONLY: Final = ("twins",)
"""Strategies that are nothing without liars."""


@dataclass(frozen=True)
class Asked:
    """`seconds`, `seeds`: the budget, whichever is spent first; of `seeds` those done before count. None: no bound."""

    protocols: tuple[str, ...]
    strategy: str = "swarm"
    seconds: float | None = 600.0
    seeds: int | None = None
    workers: int = 1
    failures: int = 1
    mutant: str = ""

    @property
    def series(self) -> list[Which]:
        return [Which(self.strategy, protocol, self.mutant) for protocol in self.protocols]


@dataclass
class Found:
    """`replayed`: old failures and who objects to them now. `counterexamples`: new ones, with their judges."""

    totals: dict[str, Totals] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    counterexamples: list[tuple[Path, Outcome]] = field(default_factory=list)
    replayed: list[tuple[Path, Outcome]] = field(default_factory=list)
    seconds: float = 0.0
    new: int = 0


@dataclass(frozen=True)
class Progress:
    """`left_s`, `left`: of the budget; None where it is not bounded so."""

    done: int
    failed: int
    vacuous: int
    per_s: float
    left_s: float | None


OnProgress = Callable[[Progress], None]
OnText = Callable[[str], None]


def check(asked: Asked) -> None:
    """Raises ConfigError for what cannot be hunted."""
    for protocol in asked.protocols:
        if asked.strategy in LIES_ONLY and protocol != "pbft":
            raise ConfigError(
                f"--strategy = {asked.strategy}: has liars, and {protocol} is not built to stand any; it is for pbft"
            )


def search(asked: Asked, store: Store, on_progress: OnProgress, on_text: OnText) -> Found:
    """Everything that was asked for, or until Ctrl-C: what was done is in the store by then."""
    check(asked)
    found, began = Found(), time.monotonic()
    _replay_old(asked, store, found, on_text)
    found.outcomes += [one for which in asked.series for one in store.open_failures(which)][: asked.failures]
    counts = Counts(began, asked)
    with closing(outcomes(asked, store, began)) as stream:
        for outcome in stream if not found.outcomes else ():
            store.add(Which(asked.strategy, outcome.protocol, asked.mutant), outcome)
            found.new += 1
            on_progress(counts.after(outcome))
            if outcome.failed:
                found.outcomes.append(outcome)
                if len(found.outcomes) >= asked.failures:
                    break
    for outcome in found.outcomes:
        found.counterexamples.append((keep(asked, store, outcome, on_text), outcome))
    found.totals = {which.protocol: store.totals(which) for which in asked.series}
    found.seconds = time.monotonic() - began
    return found


@dataclass
class Counts:
    began: float
    asked: Asked
    done: int = 0
    failed: int = 0
    vacuous: int = 0

    def after(self, outcome: Outcome) -> Progress:
        self.done += 1
        self.failed += outcome.failed
        self.vacuous += outcome.verdict == "vacuous"
        spent = max(time.monotonic() - self.began, 1e-6)
        per_s = self.done / spent
        bounds = [] if self.asked.seconds is None else [self.asked.seconds - spent]
        if self.asked.seeds is not None:
            bounds.append((self.asked.seeds * len(self.asked.protocols) - self.done) / per_s)
        return Progress(self.done, self.failed, self.vacuous, per_s, max(0.0, min(bounds)) if bounds else None)


# --------------------------------------------------------------------------------------------------------------- seeds


def outcomes(asked: Asked, store: Store, began: float) -> Generator[Outcome]:
    """Of seeds that were not done, in their order for each protocol, until the budget is spent."""
    cases = _cases(asked, store)
    if asked.workers == 1:
        for case in cases:
            if _is_over(asked, began):
                return
            yield hunt(case)
        return
    with pool(asked.workers) as workshop:
        yield from _pooled(asked, cases, workshop, began)


def _is_over(asked: Asked, began: float) -> bool:
    return asked.seconds is not None and time.monotonic() - began >= asked.seconds


def _pooled(asked: Asked, cases: Iterator[Case], workshop: ProcessPoolExecutor, began: float) -> Generator[Outcome]:
    """A few wait for each process, so that none is idle and little is thrown away at the end."""
    running: set[Future[Outcome]] = {
        workshop.submit(hunt, case) for case in islice(cases, 2 * asked.workers) if not _is_over(asked, began)
    }
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        if not _is_over(asked, began):
            running |= {workshop.submit(hunt, case) for case in islice(cases, len(done))}
        yield from sorted((future.result() for future in done), key=lambda outcome: (outcome.seed, outcome.protocol))


def _cases(asked: Asked, store: Store) -> Iterator[Case]:
    """Turn by turn of each protocol."""
    series = [_series(which, store, asked.seeds) for which in asked.series]
    while series:
        for one in list(series):
            case = next(one, None)
            if case is None:
                series.remove(one)
            else:
                yield case


def _series(which: Which, store: Store, last: int | None) -> Iterator[Case]:
    done, seed = store.done(which), 0
    while last is None or seed < last:
        seed += 1
        if seed not in done:
            yield draw(which, seed)


def draw(which: Which, seed: int) -> Case:
    """The case of one seed of a series."""
    case = DRAWS[which.strategy](which.protocol, seed)
    return changed(case, mutant=which.mutant) if which.mutant else case


# ------------------------------------------------------------------------------------------------------------ failures


def keep(asked: Asked, store: Store, outcome: Outcome, on_text: OnText) -> Path:
    """Shrink a failure and write it down, with trace, history and the command that replays it."""
    which = Which(asked.strategy, outcome.protocol, asked.mutant)
    case = draw(which, outcome.seed)
    on_text(f"{outcome.protocol} seed {outcome.seed}: {outcome.judge}: {outcome.detail}")
    on_text(f"shrinking {case.events} events ...")
    small = shrink(case, outcome, spec_of(case), _events_told(on_text))
    folder = store.folder / which.folder(outcome.seed)
    folder.mkdir(exist_ok=True)
    path = folder / "counterexample.toml"
    path.write_text(heading(path, case, outcome) + to_toml(small), encoding="utf-8")
    record(small, folder)
    store.failed(folder.relative_to(store.folder), outcome.judge)
    return path


def _events_told(on_text: OnText) -> Callable[[Case, int], None]:
    """A line whenever fewer things happen."""
    least: list[int] = []

    def tell(step: Case, runs: int) -> None:
        if not least or step.events < least[-1]:
            least.append(step.events)
            on_text(f"  {step.events} events after {runs} runs")

    return tell


def heading(path: Path, case: Case, outcome: Outcome) -> str:
    lines = [
        f"{outcome.judge}: {outcome.detail}".replace("\n", " "),
        f"shrunk from seed {case.seed} of {case.strategy}, {case.events} events; trace and history are beside it",
        f"replay: {replay_command(path)}",
    ]
    return "".join(f"# {line}\n" for line in lines)


def replay_command(path: Path) -> str:
    return f"replog hunt --replay {shlex.quote(str(path))}"


def replay(path: Path) -> Outcome:
    """Run a counterexample again. Raises ConfigError for a file that is none."""
    case = load(path)
    return hunt(case, spec_of(case))


def _replay_old(asked: Asked, store: Store, found: Found, on_text: OnText) -> None:
    """Failures of these protocols by the same core; one that is gone is said so."""
    for path in store.failures():
        case = load(path)
        if case.protocol not in asked.protocols or case.mutant != asked.mutant:
            continue
        outcome = hunt(case, spec_of(case))
        found.replayed.append((path, outcome))
        on_text(f"{path}: " + (f"fails again: {outcome.judge}" if outcome.failed else "fails no more"))
