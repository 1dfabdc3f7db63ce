"""What each lie does to Raft, with the smallest run in which it does it. [Raft 2: safe in all non-Byzantine conditions]

One liar among three servers, or one client that lies. Each attack is run in its own scenario, seed by seed, until a
judge of safety objects; where none does, once more under faults drawn from the seed (`compare.hunt.swarm`). The first
run that fails is shrunk (`compare.hunt.shrink`) for as long as the same judge objects: fewer faults, clients and
operations. What is left can be replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from compare.attacks import ATTACKS, told
from compare.attacks.storms import CLIENT_ATTACKS
from compare.experiments.base import Axis, Cell, Comparison, Experiment, Findings, Line, Picture, Table
from compare.hunt import swarm
from compare.hunt.case import Case, changed, to_toml
from compare.hunt.shrink import Shrinker
from compare.hunt.trial import Outcome, hunt, judged
from compare.results import SAFETY, Verdict
from compare.scenario import Happening, Scenario, find

SHRINK_RUNS: Final = 60
"""For each witness, half of them for what happens in it and the rest for how long it takes."""
BY_CLIENTS: Final = {
    "garbage-signatures": "unsigned-requests",
    "two-operations": "two-operations",
    "backups-only": "backups-only",
}
"""Attacks by clients -> the scenario of each."""
SCENARIOS: Final = {"poisoned-state": "poisoned-snapshot"}
"""Where it has another name than the attack."""
REASONS: Final = {
    "silent": "omission alone: two of three are a majority",
    "mute-to-some": "omission alone: the other one commits with the liar, and the server left out only stalls",
    "delay": "what is late is old: terms and indices tell",
    "duplicate": "requests between servers change nothing the second time [Raft 5.1]",
    "replay-old": "old terms are refused, and what was true of a log stays true of it",
    "impersonate": "links know who speaks: a server that uses another's name is not heard",
    "withheld-state": "liveness only: the server that is behind stays so",
    "inflate-terms": "liveness only: after the last term there is no other, and nobody leads",
    "elections-for-ever": "liveness only: whoever stands for election needs an up-to-date log to win it",
    "spoofed-move": "liveness only: leadership is taken by an election, rightly won",
    "two-operations": "a client harms nobody but itself: one of its two is executed, by all servers",
    "backups-only": "followers do not order what they are sent",
}
"""Why no judge of safety objects, where none does."""
RARELY: Final = frozenset({"wrong-time"})
"""It takes a server that is sent a snapshot of the liar, which has the times that it told nobody: not compared."""


@dataclass(frozen=True)
class Job:
    """All seeds of one attack: the search ends with the first that fails."""

    attack: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Witness:
    """The smallest run, and how it was found. `drawn`: it took faults drawn from the seed."""

    judge: str
    detail: str
    seed: int
    drawn: bool
    n: int
    liars: int
    clients: int
    operations: int
    faults: int
    runs: int
    case: str


@dataclass(frozen=True)
class Sample:
    """`verdicts`: of all runs up to and with the first that failed."""

    verdicts: dict[Verdict, int]
    acts: int
    witness: Witness | None


# ---------------------------------------------------------------------------------------------------------- the search


def case_of(attack: str, seed: int) -> Case:
    """The attack's own scenario, of Raft alone. The lie lasts as long as the clients work."""
    scenario = find(SCENARIOS.get(attack, BY_CLIENTS.get(attack, attack)))
    return Case.model_validate(
        scenario.model_dump()
        | {
            "protocol": "raft",
            "seed": seed,
            "engines": ["sim"],
            "protocols": {"raft": scenario.side("raft").model_dump() | {"expect": "all ok"}},
            "timeline": [_lasting(happening, scenario) for happening in scenario.timeline],
        }
    )


def _lasting(happening: Happening, scenario: Scenario) -> dict[str, Any]:
    lasts = happening.attack is not None and happening.end_s is None
    return happening.model_dump() | ({"end_s": round(scenario.duration_s - 0.05, 3)} if lasts else {})


def drawn_case(attack: str, seed: int) -> Case:
    """The attack by whoever leads, among faults drawn from the seed."""
    own, drawn = case_of(attack, seed), swarm.draw("raft", seed)
    if attack in BY_CLIENTS:
        workload = {"byzantine": own.workload.byzantine, "byzantine_as": own.workload.byzantine_as}
        return changed(drawn, workload=drawn.workload.model_dump() | workload)
    lie = next(happening for happening in own.timeline if happening.attack is not None)
    target = lie.target if isinstance(lie.target, str) else "leader"
    told = lie.model_dump() | {"target": target, "start_s": swarm.FROM_S, "end_s": swarm.END_S}
    return changed(drawn, timeline=[told])


def measured(job: Job) -> Sample:
    verdicts: Counter[Verdict] = Counter()
    acts = 0
    for make in (case_of, drawn_case):
        for seed in job.seeds:
            case = make(job.attack, seed)
            outcome = hunt(case)
            verdicts[outcome.verdict] += 1
            if outcome.judge in SAFETY:
                return Sample(dict(verdicts), acts, _witness(case, outcome, verdicts.total(), make is drawn_case))
            acts += outcome.verdict is not Verdict.VACUOUS
    return Sample(dict(verdicts), acts, None)


class Smallest(Shrinker):
    """Shrinks what happens, and then for how long."""

    def shrink(self, runs_max: int) -> Case:
        super().shrink(runs_max // 2)
        self._left, before = runs_max - self.runs, None
        while before != self.case and self._left > 0:
            before = self.case
            self._simplify(_shorter)
        return self.case


def _shorter(case: Case) -> Iterator[dict[str, Any]]:
    """A client less; each lie begins earlier, all ends earlier, clients pause for longer."""
    if case.workload.clients > 1:
        yield {"workload": case.workload.model_dump() | {"clients": case.workload.clients - 1}}
    for place, happening in enumerate(case.timeline):
        if happening.start_s >= 0.02:
            told = [one.model_dump() for one in case.timeline]
            told[place]["start_s"] = round(happening.start_s / 2, 3)
            yield {"timeline": told}
    for share in (0.5, 0.75, 0.9):
        yield _ending(case, share)
    for longer in (3, 1.5):
        yield {"workload": case.workload.model_dump() | {"pause_ms": round(case.workload.pause_ms * longer, 1)}}


def _ending(case: Case, share: float) -> dict[str, Any]:
    duration_s = round(case.duration_s * share, 3)
    told = [one.model_dump() for one in case.timeline]
    for one in told:
        if one["end_s"] is not None and one["end_s"] >= duration_s:
            one["end_s"] = round(duration_s * 0.95, 3)
    return {"duration_s": duration_s, "timeline": told}


def _witness(case: Case, outcome: Outcome, tried: int, drawn: bool) -> Witness:
    smallest = Smallest(case, outcome.judge)
    small = changed(smallest.shrink(SHRINK_RUNS), judge=outcome.judge)
    run = judged(small)
    lies = [happening for happening in small.timeline if happening.attack is not None]
    return Witness(
        judge=outcome.judge,
        detail=run.checks[outcome.judge].detail,
        seed=tried,
        drawn=drawn,
        n=run.n,
        liars=len(run.faulty) if lies else 0,
        clients=small.workload.clients,
        operations=run.submitted or 0,
        faults=small.events - len(lies),
        runs=smallest.runs,
        case=to_toml(small),
    )


# --------------------------------------------------------------------------------------------------------- experiment


def attacks() -> list[str]:
    return [name for name, kind in ATTACKS.items() if "raft" in kind.protocols] + list(BY_CLIENTS)


def summary(attack: str) -> str:
    return told(CLIENT_ATTACKS[attack]) if attack in BY_CLIENTS else ATTACKS[attack].summary


class ByzantineRaft(Experiment[Job, Sample]):
    name = "byzantine-raft"
    summary = "what each lie does to Raft, with the smallest run in which it does it [Raft 2]"
    runs = 10

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        return [Job(attack, tuple(seeds)) for attack in attacks()]

    def measure(self, job: Job) -> Sample:
        return measured(job)

    def findings(self, measured: Sequence[tuple[Job, Sample]]) -> Findings:
        unsafe = [(job, sample.witness) for job, sample in measured if sample.witness is not None]
        return Findings(
            tables=[_witnesses(unsafe), _sentences(unsafe), _safe(measured)],
            pictures=[_picture(unsafe)] if unsafe else [],
            comparisons=[_compared(job, sample) for job, sample in measured if job.attack not in RARELY],
            notes=[NOTE],
            files={f"{job.attack}.toml": _file(job, witness) for job, witness in unsafe},
        )


Found = Sequence[tuple[Job, Witness]]
NOTE: Final = (
    "seeds: runs until the first that failed, in the attack's own scenario and then under drawn faults. faults: what "
    "else happens in the smallest run. operations: of clients, with a probe of each at the end. "
    "`replog hunt --replay DIR/ATTACK.toml` runs a witness again. Lies end before the clients do, so that what only "
    "stalls may end well; a run in which the lie reached no correct server, or less than 50 operations were "
    "acknowledged, is vacuous."
)


def sentence(detail: str, longest: int = 200) -> str:
    """The first thing that a judge says, on one line."""
    lines = [" ".join(line.split()) for line in detail.partition("; ")[0].splitlines()]
    text = " | ".join(line for line in lines if line and not line.startswith("from to"))
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _witnesses(unsafe: Found) -> Table:
    rows: list[list[Cell]] = [
        [job.attack, one.judge, one.seed, one.n, one.liars, one.clients, one.operations, one.faults, one.runs]
        for job, one in unsafe
    ]
    columns = ["attack", "judge", "seeds", "servers", "liars", "clients", "operations", "faults", "runs to shrink"]
    return Table(title="lies that break safety, each with its smallest run", columns=columns, rows=rows)


def _sentences(unsafe: Found) -> Table:
    rows: list[list[Cell]] = [[job.attack, f"{summary(job.attack)}: {sentence(one.detail)}"] for job, one in unsafe]
    return Table(title="what happened in it", columns=["attack", "what is done, and what the judge says"], rows=rows)


def _safe(measured: Sequence[tuple[Job, Sample]]) -> Table:
    rows: list[list[Cell]] = [
        [job.attack, sum(sample.verdicts.values()), _counts(sample), REASONS.get(job.attack, "not within these seeds")]
        for job, sample in measured
        if sample.witness is None
    ]
    columns = ["attack", "runs", "verdicts", "why no judge of safety objects"]
    return Table(title="lies that do not", columns=columns, rows=rows)


def _counts(sample: Sample) -> str:
    return ", ".join(f"{sample.verdicts[one]} {one.value}" for one in Verdict if sample.verdicts.get(one))


def _picture(unsafe: Found) -> Picture:
    def below(name: str, values: Sequence[int]) -> Line:
        ordered = sorted(max(1, value) for value in values)
        points = [(float(value), float(place)) for place, value in enumerate(ordered, 1)]
        return Line(name=name, points=[(points[0][0], 0.0), *points, (1000.0, points[-1][1])], steps=True)

    return Picture(
        name="byzantine-raft",
        title="Lies that break Raft: how small, and how soon found",
        x=Axis(label="operations, or seeds", least=1, most=1000, logarithmic=True),
        y=Axis(label="attacks with at most so many", least=0, most=len(unsafe) + 1),
        lines=[
            below("operations in the smallest run", [one.operations for _, one in unsafe]),
            below("seeds until found", [one.seed for _, one in unsafe]),
        ],
    )


def _compared(job: Job, sample: Sample) -> Comparison:
    safe, found = job.attack in REASONS, sample.witness
    told = f"{found.judge}, {found.liars or 'no'} liar of {found.n}" if found else _counts(sample)
    return Comparison(
        what=job.attack,
        source="Raft 2",
        published="promises nothing" if not safe else "not ruled out",
        measured=told,
        rule="safe in all runs" if safe else "unsafe by at most one liar of three",
        holds=_is_safe(sample) if safe else found is not None and found.liars <= 1 and found.n == 3,
    )


def _is_safe(sample: Sample) -> bool:
    """In runs of which one at least says something."""
    return sample.witness is None and bool(sample.acts) and not sample.verdicts.get(Verdict.ERROR)


def _file(job: Job, witness: Witness) -> str:
    said = (summary(job.attack), f"{witness.judge}:", *witness.detail.splitlines())
    return "\n".join([*(f"# {line}".rstrip() for line in said), witness.case])


EXPERIMENT: Final = ByzantineRaft()
