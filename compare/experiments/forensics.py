"""After more than f replicas have lied: who can be proved to have, by one correct replica's archive. [Sheng21]

Coalitions of f + 1 to 2f replicas, drawn from the seed, live in two worlds (`compare.experiments.two_worlds`), with no
link between the correct replicas of the one and of the other, until the judge of agreement sees that these have
committed different things. Then `blame` is asked from each side: it gets the archive of one correct replica and what
`replog evidence certificate` takes from one of the other side, a commit certificate and its NEW-VIEWs.

[Sheng21]: Sheng, Wang, Nayak, Kannan, Viswanath, BFT Protocol Forensics, CCS'21.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from compare.decisions import collect
from compare.experiments.base import Axis, Cell, Comparison, Experiment, Findings, Line, Picture, Table
from compare.judging import Observed, conclude
from compare.scenario import Happening, Scenario
from compare.sim import Trial
from pbft import SPEC
from pbft.blame import Blame, Transcript
from pbft.messages import CommitProof, NewView
from replog.core import Effect, Event, Persist
from replog.node import Plug
from replog.replica import Replica
from replog.types import Message, Micros, NodeId, Principal, Status

FAULTS: Final = (1, 2, 3)
REAL: Final = 5
"""Of so many seeds the first signs with Ed25519."""
OPTIONS: Final = {
    "view_timeout_us": 80_000,
    "status_interval_us": 10_000,
    "checkpoint_interval": 8,
    "log_window": 16,
}
CLIENTS: Final = (("c0", "c2"), ("c1", "c3"))
"""Of each world."""
WORKLOAD: Final = {"clients": 4, "outstanding": 1, "pause_ms": 30.0}
BAR: Final = 0.3


@dataclass(frozen=True)
class Job:
    """`liars`: how many."""

    f: int
    liars: int
    auth: str
    seed: int

    @property
    def n(self) -> int:
        return 3 * self.f + 1


@dataclass(frozen=True)
class Coalition:
    """Who lies, and who is correct on either side."""

    liars: tuple[NodeId, ...]
    first: tuple[NodeId, ...]
    second: tuple[NodeId, ...]

    @classmethod
    def of(cls, job: Job) -> Coalition:
        """Each side has a quorum with the liars."""
        chance = random.Random(f"{job.seed}/forensics/{job.n}/{job.liars}")
        nodes = chance.sample(range(job.n), job.n)
        liars, correct = nodes[: job.liars], nodes[job.liars :]
        least = 2 * job.f + 1 - job.liars
        cut = chance.randint(least, len(correct) - least)
        return cls(tuple(sorted(liars)), tuple(sorted(correct[cut:])), tuple(sorted(correct[:cut])))


@dataclass(frozen=True)
class Sample:
    """`named`: by each inquiry how many; `alone`: without the NEW-VIEWs of the other side. `wrong`: correct replicas
    that were named, or accused while it ran; `caught`: liars that were accused then. `window`: seqs in the archives,
    the fewest of one; `views`: between the two certificates, at most."""

    forked: bool
    acts: int
    named: tuple[int, ...] = ()
    alone: tuple[int, ...] = ()
    wrong: int = 0
    caught: int = 0
    window: int = 0
    views: int = 0


# ------------------------------------------------------------------------------------------------------------ one fork


class Archiving:
    """One replica's plug, and what it writes: a live one puts what is worth keeping of that into its archive."""

    def __init__(self, inner: Plug, kept: list[Message]) -> None:
        self._inner = inner
        self._kept = kept

    def step(self, now: Micros, event: Event) -> list[Effect]:
        effects = self._inner.step(now, event)
        self._kept += [effect.record for effect in effects if isinstance(effect, Persist)]
        return effects

    def status(self) -> Status:
        return self._inner.status()


class Fork(Trial):
    """Invariant: from when the attack begins on no frame passes between the two worlds but through liars."""

    def __init__(self, job: Job) -> None:
        self.coalition = Coalition.of(job)
        self._kept: dict[NodeId, list[Message]] = {}
        super().__init__(scenario(job, self.coalition), SPEC, job.seed, real_signatures=job.seed % REAL == 1)

    def _wrap(self, node: NodeId, replica: Replica) -> Plug:
        return Archiving(super()._wrap(node, replica), self._kept.setdefault(node, []))

    def _attack(self, nodes: tuple[NodeId, ...], happening: Happening) -> None:
        super()._attack(nodes, happening)
        first: tuple[Principal, ...] = (*self.coalition.first, *CLIENTS[0])
        second: tuple[Principal, ...] = (*self.coalition.second, *CLIENTS[1])
        for one, other in product(first, second):
            self.cluster.cut(one, other)

    def archive(self, node: NodeId) -> list[Message]:
        """What an inquiry finds: nothing where nothing is signed."""
        return [found for record in self._kept[node] if (found := SPEC.archived(record)) is not None]


def scenario(job: Job, coalition: Coalition) -> Scenario:
    attack = {"attack": "compare.experiments.two_worlds:TwoWorlds", "target": coalition.liars, "start_s": 0.05}
    return Scenario.model_validate(
        {
            "name": f"fork-by-{job.liars}-of-{job.n}",
            "summary": "a coalition lives in two worlds, each with correct replicas of its own",
            "f": job.f,
            "duration_s": 0.8,
            "settle_s": 0.1,
            "engines": ["sim"],
            "protocols": {"pbft": {"expect": "some unsafe", "options": OPTIONS | {"auth": job.auth}}},
            "workload": WORKLOAD,
            "timeline": [attack | {"options": {"second": list(coalition.second), "clients": list(CLIENTS[1])}}],
        }
    )


def measured(job: Job) -> Sample:
    fork = Fork(job)
    observed = fork.run()
    acts, accused = observed.attack_actions, _accused(observed)
    liars = accused & set(fork.coalition.liars)
    ran = Sample(False, acts, wrong=len(accused - liars), caught=len(liars))
    return ran if conclude(observed).checks["agreement"].ok else _inquired(fork, ran)


def _accused(observed: Observed) -> set[Principal]:
    """Whom correct replicas have accused in the run itself."""
    correct = [node for node in range(observed.n) if node not in observed.liars]
    return {charge.culprit for own in collect(observed.lines, correct).values() for charge in own.charges}


def _inquired(fork: Fork, ran: Sample) -> Sample:
    """Each side asks, by each of its archives, with what each of the other side can show."""
    named, alone, windows, views, wrong = [], [], [], [0], ran.wrong
    for mine, theirs in _pairs(fork.coalition):
        archive, other = fork.archive(mine), fork.archive(theirs)
        windows.append(len(Transcript.of(archive).commits))
        for certificate in _conflicting(archive, other):
            found = _blame(fork, archive, certificate, other)
            named.append(len(found.culprits))
            alone.append(len(_blame(fork, archive, certificate, []).culprits))
            wrong += len(set(found.culprits) - set(fork.coalition.liars))
            views.append(abs(found.views[1] - found.views[0]))
    return Sample(True, ran.acts, tuple(named), tuple(alone), wrong, ran.caught, min(windows), max(views))


def _pairs(coalition: Coalition) -> Iterator[tuple[NodeId, NodeId]]:
    yield from product(coalition.first, coalition.second)
    yield from product(coalition.second, coalition.first)


def _conflicting(archive: Sequence[Message], other: Sequence[Message]) -> list[CommitProof]:
    """The other side's certificates for the first and the last seq at which these two differ."""
    mine, theirs = Transcript.of(archive).commits, Transcript.of(other).commits
    differ = [seq for seq in sorted(mine.keys() & theirs.keys()) if mine[seq][0].digest != theirs[seq][0].digest]
    return [theirs[seq][0] for seq in sorted({*differ[:1], *differ[-1:]})]


def _blame(fork: Fork, archive: Sequence[Message], certificate: CommitProof, other: Sequence[Message]) -> Blame:
    cluster, shown = fork.cluster, [record for record in other if isinstance(record, NewView)]
    return SPEC.blame(archive, certificate, shown, cluster.domain, cluster.verifier(), (cluster.n, cluster.f))


# --------------------------------------------------------------------------------------------------------- experiment


class Forensics(Experiment[Job, Sample]):
    name = "forensics"
    summary = "who can be proved to have lied after f + 1 to 2f replicas have forked the log [Sheng21]"
    runs = 4

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        return [
            Job(f, liars, auth, seed)
            for seed in seeds
            for f in FAULTS
            for liars in range(f + 1, 2 * f + 1)
            for auth in ("signatures", "macs")
        ]

    def measure(self, job: Job) -> Sample:
        return measured(job)

    def findings(self, measured: Sequence[tuple[Job, Sample]]) -> Findings:
        cells: Cells = {}
        for job, sample in measured:
            cells.setdefault((job.f, job.liars, job.auth), []).append(sample)
        return Findings(
            tables=[_table(cells)], pictures=[_picture(cells)], comparisons=list(_compared(cells)), notes=[NOTE]
        )


Cells = dict[tuple[int, int, str], list[Sample]]
NOTE: Final = (
    "A run counts as a violation if the judge of agreement finds that two correct replicas have committed different "
    "things; one without is vacuous and says nothing. named: the fewest that any one archive names with what any one "
    "replica of the other side shows, at the first and the last seq that differ; alone: with the bare certificate, "
    "without that side's NEW-VIEWs. correct accused: by these inquiries, and by correct replicas while it ran. window: "
    "the fewest seqs in one of the archives; views: at most between the two certificates. Under MACs a replica has no "
    "certificate to show and nothing to archive; named are then all that any correct replica has accused in its run. "
    "One seed of five, the first among them, signs with Ed25519."
)


def forks(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.forked and sample.acts]


def named(samples: Sequence[Sample]) -> list[int]:
    """By each inquiry after a violation. Where no certificate was there to begin with: by all correct replicas."""
    return [number for sample in forks(samples) for number in sample.named or (sample.caught,)]


def _table(cells: Cells) -> Table:
    rows: list[list[Cell]] = []
    for (f, liars, auth), samples in sorted(cells.items(), key=lambda item: (item[0][2] == "macs", item[0])):
        found, numbers = forks(samples), named(samples)
        alone = min((number for one in found for number in one.alone), default=None)
        least, most = min(numbers, default=None), max(numbers, default=None)
        wrong, signed = sum(one.wrong for one in samples), [one for one in found if one.named]
        views = max((one.views for one in signed), default=None)
        window = min((one.window for one in signed), default=None)
        counts: list[Cell] = [len(samples), len(found), len(samples) - len(found)]
        rows.append([3 * f + 1, liars, auth, *counts, f + 1, least, most, alone, wrong, window, views])
    columns = ["n", "liars", "auth", "runs", "violations", "vacuous", "f + 1", "named", "most", "alone"]
    return Table(
        title="after a fork: culprits named by one archive and one certificate of the other side",
        columns=[*columns, "correct accused", "window", "views"],
        rows=rows,
    )


def _picture(cells: Cells) -> Picture:
    places = sorted({(f, liars) for f, liars, _ in cells})
    bars = []
    for number, auth in enumerate(("signatures", "macs")):
        points: list[tuple[float, float]] = []
        for place, (f, liars) in enumerate(places, 1):
            points += _bar(place + BAR * (number - 0.5), min(named(cells.get((f, liars, auth), [])), default=0))
        bars.append(Line(name=f"named at least, {auth}", points=points))
    whole = [(place - 0.5, place + 0.5, f, liars) for place, (f, liars) in enumerate(places, 1)]
    law = [point for low, high, f, _ in whole for point in ((low, f + 1.0), (high, f + 1.0))]
    size = [point for low, high, _, liars in whole for point in ((low, float(liars)), (high, float(liars)))]
    names = ", ".join(f"{place}: {liars} of {3 * f + 1}" for place, (f, liars) in enumerate(places, 1))
    return Picture(
        name="forensics",
        title="Culprits that one correct replica's archive proves after a fork",
        x=Axis(label=names, least=0.5, most=len(places) + 0.5),
        y=Axis(label="replicas", least=0, most=7),
        lines=[
            *bars,
            Line(name="f + 1, published", points=law, dashed=True),
            Line(name="liars", points=size, dashed=True),
        ],
    )


def _dashed(name: str, points: list[tuple[float, float]]) -> Line:
    return Line(name=name, points=points, dashed=True)


def _bar(x: float, height: float) -> list[tuple[float, float]]:
    half = BAR * 0.4
    return [(x - half, 0.0), (x - half, height), (x + half, height), (x + half, 0.0)]


def _compared(cells: Cells) -> Iterator[Comparison]:
    for (f, liars, auth), samples in sorted(cells.items(), key=lambda item: (item[0][2] == "macs", item[0])):
        found, numbers = forks(samples), named(samples)
        told = f"{min(numbers)} at least in {len(found)} violations" if numbers else "no violation"
        wrong = sum(one.wrong for one in samples)
        signed = auth == "signatures"
        right = min(numbers, default=-1) > f if signed else max(numbers, default=1) == 0
        yield Comparison(
            what=f"{liars} of {3 * f + 1} lie, {auth}",
            source="Sheng21",
            published=f"at least t + 1 = {f + 1}, by one transcript" if signed else "none, by all transcripts",
            measured=f"{told}, {wrong} correct",
            rule=f"at least {f + 1}, no correct one" if signed else "none",
            holds=bool(found) and right and not wrong,
        )


EXPERIMENT: Final = Forensics()
