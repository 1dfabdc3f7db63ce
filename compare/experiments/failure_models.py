"""Which class of failures each protocol survives, up to f replicas and at f + 1. [CL99 2, 3; Raft 2]

The classes contain each other: crash-stop < omission < crash-recovery < Byzantine; fail-stop is a crash-stop that
others notice. Crash-recovery is asked twice, with stable storage and with amnesia, which Raft rules out. Each cell is a
scenario of `compare.scenarios`, or what it does done to the leader and f others; f = 1.

Raft promises to be safe in all but Byzantine conditions, and to serve as long as a majority is up; PBFT promises both
for up to f replicas that do anything at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from compare.experiments.base import Axis, Cell, Comparison, Experiment, Findings, Line, Picture, Table
from compare.results import Run, Verdict, is_met
from compare.runner import Job as RunJob
from compare.runner import one
from compare.scenario import Scenario, find

FROM_S: Final = 0.6
BAR: Final = 0.2
"""Width of a bar and the gap beside it, of the distance between two classes."""
ANYTHING: Final = "anything"
"""Nothing is promised and nothing expected: the cell is shown, and not compared."""


@dataclass(frozen=True)
class Question:
    """One cell. `times`: 1 for f replicas, 2 for f + 1; `beyond`: what the scenario does is done to so many. What is
    expected of each protocol is left out where it is not asked."""

    failures: str
    times: int
    scenario: str
    pbft: str = ""
    raft: str = ""
    beyond: bool = False

    def expects(self, protocol: str) -> str:
        return self.pbft if protocol == "pbft" else self.raft

    def asked(self) -> Scenario:
        found = find(self.scenario)
        return _beyond(found) if self.beyond else found


def _beyond(scenario: Scenario) -> Scenario:
    """What it does first, done to f + 1 replicas, and every frame lost where frames are lost. It lasts, unless it is a
    crash from which they return."""
    first = scenario.timeline[0]
    update = {"start_s": FROM_S, "end_s": first.end_s if first.name == "amnesia" else None}
    options = {"chance": 1.0} if "chance" in first.options else first.options
    struck = [
        first.model_copy(update={**update, "options": options, "target": target}) for target in ("f backups", "leader")
    ]
    named = {"name": f"{scenario.name}-of-two", "timeline": tuple(struck), "duration_s": 1.6, "settle_s": 3.0}
    return scenario.model_copy(update=named)


FAIL_STOP, CRASH, OMISSION = "fail-stop", "crash-stop", "omission"
STABLE, AMNESIA, BYZANTINE = "crash-recovery", "with amnesia", "Byzantine"
CLASSES: Final = (FAIL_STOP, CRASH, OMISSION, STABLE, AMNESIA, BYZANTINE)
QUESTIONS: Final = (
    Question(FAIL_STOP, 1, "fail-stop", "all ok", "all ok"),
    Question(FAIL_STOP, 2, "fail-stop", "all stalled", "all stalled", beyond=True),
    Question(CRASH, 1, "crash-stop", "all ok", "all ok"),
    Question(CRASH, 2, "crash-beyond", "all stalled", "all stalled"),
    Question(OMISSION, 1, "send-omission", "all ok", "all ok"),
    Question(OMISSION, 1, "receive-omission", "all ok", "all ok"),
    Question(OMISSION, 2, "send-omission", "all stalled", "all stalled", beyond=True),
    Question(OMISSION, 2, "receive-omission", "all stalled", "all stalled", beyond=True),
    Question(STABLE, 1, "rolling-restarts", "all ok", "all ok"),
    Question(STABLE, 2, "power-lost", "all ok", "all ok"),
    Question(AMNESIA, 1, "amnesia", "all ok", "all ok"),
    Question(AMNESIA, 1, "amnesia-of-a-quorum", "all ok", "some unsafe"),
    Question(AMNESIA, 2, "amnesia", ANYTHING, ANYTHING, beyond=True),
    Question(BYZANTINE, 1, "silent", "all ok", "all ok"),
    Question(BYZANTINE, 1, "equivocating-leader", "all ok", "some unsafe"),
    Question(BYZANTINE, 1, "lie-in-reply", "all ok", "all unsafe"),
    Question(BYZANTINE, 2, "silent-beyond-f", "all stalled"),
    Question(BYZANTINE, 2, "twins-beyond-f", "some unsafe"),
    Question(BYZANTINE, 2, "lie-in-reply", "some unsafe", "all unsafe", beyond=True),
)
NAMES: Final = {"pbft": "PBFT", "raft": "Raft"}


@dataclass(frozen=True)
class Job:
    question: Question
    protocol: str
    seed: int


@dataclass(frozen=True)
class Sample:
    """`why`: what the first judge that objected says."""

    verdict: Verdict
    n: int
    acknowledged: int
    why: str


class FailureModels(Experiment[Job, Sample]):
    name = "failure-models"
    summary = "which class of failures each protocol survives, up to f and at f + 1 [CL99 2, 3; Raft 2]"
    runs = 5

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        return [
            Job(question, protocol, seed)
            for seed in seeds
            for question in QUESTIONS
            for protocol in NAMES
            if question.expects(protocol)
        ]

    def measure(self, job: Job) -> Sample:
        return concluded(one(RunJob(job.question.asked(), job.protocol, "sim", job.seed)))

    def findings(self, measured: Sequence[tuple[Job, Sample]]) -> Findings:
        cells: Cells = {}
        for job, sample in measured:
            cells.setdefault((job.question, job.protocol), []).append(sample)
        return Findings(
            tables=[_summary(cells), _table(cells)],
            pictures=[_picture(cells, protocol) for protocol in NAMES],
            comparisons=list(_compared(cells)),
            notes=[NOTE],
        )


Cells = dict[tuple[Question, str], list[Sample]]
NOTE: Final = (
    "f = 1: PBFT has four replicas, Raft three. ok: safe, and every call is answered in the end; stalled: safe, and "
    "clients wait in vain; unsafe: a judge of safety objects. A run in which the failure never struck, or nothing was "
    "answered before, is vacuous and counts as not as promised. Under amnesia Raft survives where others know what was "
    "forgotten, and not where the one who forgets was the only other one that knew."
)


def concluded(run: Run) -> Sample:
    why = next((f"{name}: {check.detail}" for name, check in run.checks.items() if not check.ok), run.error)
    return Sample(run.verdict, run.n, run.acknowledged or 0, why[:120])


def counts(samples: Sequence[Sample]) -> Counter[Verdict]:
    return Counter(sample.verdict for sample in samples)


def _told(samples: Sequence[Sample]) -> str:
    found = counts(samples)
    return ", ".join(f"{found[verdict]} {verdict.value}" for verdict in Verdict if found[verdict])


def _of(cells: Cells, failures: str, protocol: str, times: int) -> list[Sample]:
    return [
        sample
        for (question, name), samples in cells.items()
        if (question.failures, name, question.times) == (failures, protocol, times)
        for sample in samples
    ]


def word(samples: Sequence[Sample]) -> str:
    """The worst of them decides."""
    found = counts(samples)
    if not samples:
        return "not asked"
    if found[Verdict.UNSAFE]:
        return "NOT SAFE"
    if found[Verdict.VACUOUS] or found[Verdict.ERROR]:
        return "proves nothing"
    return "safe, not live" if found[Verdict.STALLED] else "survives"


def _survived(cells: Cells, failures: str, protocol: str, times: int) -> str:
    found = word(_of(cells, failures, protocol, times))
    promised = {one.expects(protocol) for one in QUESTIONS if (one.failures, one.times) == (failures, times)}
    return "survived, not promised" if found == "survives" and promised == {ANYTHING} else found


def _summary(cells: Cells) -> Table:
    rows: list[list[Cell]] = [
        [failures, *(_survived(cells, failures, protocol, times) for protocol in NAMES for times in (1, 2))]
        for failures in CLASSES
    ]
    columns = ["class", "PBFT, f", "PBFT, f + 1", "Raft, f", "Raft, f + 1"]
    return Table(title="what each protocol survives here (the worst of all seeds)", columns=columns, rows=rows)


def _table(cells: Cells) -> Table:
    rows: list[list[Cell]] = []
    for (question, protocol), samples in cells.items():
        faulty = "f" if question.times == 1 else "f + 1"
        why = next((sample.why for sample in samples if sample.verdict is Verdict.UNSAFE), "")
        answered = sum(sample.acknowledged for sample in samples)
        told: list[Cell] = [question.expects(protocol), _told(samples), answered, why.partition(":")[0]]
        rows.append([question.failures, question.asked().name, NAMES[protocol], faulty, *told])
    columns = ["class", "scenario", "protocol", "faulty", "promised", "verdicts", "answered", "judge"]
    return Table(title="scenario by scenario", columns=columns, rows=rows)


def _picture(cells: Cells, protocol: str) -> Picture:
    """Shares of runs as bars, the classes in their order."""
    bars = [(times, verdict) for times in (1, 2) for verdict in (Verdict.STALLED, Verdict.UNSAFE)]
    lines = []
    for number, (times, verdict) in enumerate(bars):
        points: list[tuple[float, float]] = []
        for place, failures in enumerate(CLASSES, 1):
            found = counts(_of(cells, failures, protocol, times))
            share = found[verdict] / found.total() if found.total() else 0.0
            points += _bar(place + BAR * (number - 1.5), share)
        lines.append(Line(name=f"{verdict.value}, {'f' if times == 1 else 'f + 1'} faulty", points=points))
    names = ", ".join(f"{place} {failures}" for place, failures in enumerate(CLASSES, 1))
    return Picture(
        name=f"failure-models-{protocol}",
        title=f"{NAMES[protocol]}: runs that stalled or were unsafe, by class of failures",
        x=Axis(label=names, least=0.5, most=len(CLASSES) + 0.5),
        y=Axis(label="share of runs", least=0, most=1.05),
        lines=lines,
    )


def _bar(x: float, share: float) -> list[tuple[float, float]]:
    half = BAR * 0.4
    return [(x - half, 0.0), (x - half, share), (x + half, share), (x + half, 0.0)]


def _compared(cells: Cells) -> Iterator[Comparison]:
    for (question, protocol), samples in cells.items():
        if question.expects(protocol) == ANYTHING:
            continue
        faulty = "f" if question.times == 1 else "f + 1"
        found = counts(samples)
        yield Comparison(
            what=f"{NAMES[protocol]}, {faulty}, {question.failures}: {question.asked().name}",
            source="Raft 2" if protocol == "raft" else "CL99 3",
            published={"ok": "survives", "stalled": "safe, not live", "unsafe": "promises nothing"}[
                question.expects(protocol).split()[1]
            ],
            measured=_told(samples),
            rule=question.expects(protocol),
            holds=is_met(question.expects(protocol), found),
        )


EXPERIMENT: Final = FailureModels()
