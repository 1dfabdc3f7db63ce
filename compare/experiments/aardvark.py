"""What one attack at a time leaves of the throughput: PBFT as in the papers, PBFT with `robust`, Raft. [Clement09]

Faulty clients, floods by clients and by a replica, and a primary that holds each proposal for 1, 10, 100 ms, beside the
published figures of PBFT and Aardvark. The laboratory is that of `compare.robustness`, with machines ten times slower
than the reference, so that 1 s is also asked: it is to them what 100 ms is to those.

Raft promises nothing under liars. It takes part where the attack is one for it too: a storm of clients' repetitions,
and a leader whose entries leave late, below the time-out after which another one would stand for election.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, ClassVar, Final

from compare.attacks.byzantine_client import ByzantineClient
from compare.experiments.base import Axis, Cell, Comparison, Experiment, Findings, Line, Picture, Table
from compare.robustness import Case, Outcome, Run
from raft import SPEC as RAFT
from replog.types import Micros

CLIENTS: Final = 16
"""With one request under way each: so many wait at a time."""
STORM: Final = 9_000
"""Requests a second of all faulty clients together: what ten times as many correct ones could get done here."""
BIG_MACS: Final = 20
"""... of a kind of which each one costs a change of view."""
SECONDS: Final = 5.0
WARM_UP_US: Final = {"off": 1_000_000, "on": 3_000_000, "raft": 1_000_000}
"""Backups learn first what a primary can do; without `robust` there is nothing to learn."""
RAFT_OPTIONS: Final = {
    "election_timeout_min_us": 3_000_000,
    "election_timeout_max_us": 6_000_000,
    "heartbeat_us": 500_000,
    "client_retry_us": 7_000_000,
}
"""The defaults, ten times as long, as the machines are ten times slower."""
DELAYS_MS: Final = (1, 10, 100, 1000)
KEPT: Final = 0.30
"""What Aardvark kept of its peak in its worst case: 11,706 of 38,667 requests a second."""
LOST: Final = 0.10
"""PBFT without `robust` keeps no more than this where next to nothing is published to be left."""


@dataclass(frozen=True)
class Published:
    """Requests a second under the attack."""

    pbft: int
    aardvark: int


PEAK: Final = Published(pbft=61_710, aardvark=38_667)


@dataclass(frozen=True)
class Attack:
    """`raft`: the same done to Raft; None: it is none for it."""

    name: str
    pbft: Case
    raft: Case | None = None
    published: Published | None = None
    delay_ms: int = 0

    @property
    def auth(self) -> str:
        return self.pbft.auth


def _late(delay_ms: int, published: Published | None = None) -> Attack:
    slow = Case("slow-primary", target=0, options={"delay_ms": delay_ms}, outstanding=1)
    late = Case("delay", options={"delay_ms": float(delay_ms), "kinds": ["AppendEntries"]}, outstanding=1)
    return Attack(f"primary {delay_ms:,} ms late", slow, late, published, delay_ms)


_STORM: Final = Case("retransmission-storm", rate=1, outstanding=1)
NOTHING: Final = (
    Attack("no attack", Case("none", outstanding=1), Case("none", outstanding=1)),
    Attack("no attack, MACs", Case("none", "macs", outstanding=1)),
)
ATTACKS: Final = (
    Attack(
        "faulty clients: Big MAC", Case("big-mac", "macs", rate=BIG_MACS, outstanding=1), None, Published(0, 38_667)
    ),
    Attack("faulty clients: bad signatures", Case("garbage-signatures", rate=1, outstanding=1)),
    Attack("flood of clients: repetitions", _STORM, _STORM),
    Attack(
        "flood of a replica",
        Case("flood", target=3, options={"rate_s": 4_000}, outstanding=1),
        None,
        Published(251, 11_706),
    ),
    _late(1, Published(5_041, 38_542)),
    _late(10, Published(4_853, 37_340)),
    _late(100, Published(1_097, 37_903)),
    _late(1000),
)
SYSTEMS: Final = {"off": "PBFT", "on": "PBFT, robust", "raft": "Raft"}


@dataclass(frozen=True)
class Job:
    """`system`: `robust` off or on, or Raft."""

    system: str
    attack: Attack = field(hash=False)
    seed: int


@dataclass(frozen=True)
class Sample:
    """`views`: changes of the view or term while it was measured."""

    operations_s: float
    views: int
    acts: int


class OnRaft(Run):
    """Whoever leads when the attack begins is the liar."""

    spec: ClassVar[Any] = RAFT

    def _options(self, robust: bool | list[str]) -> dict[str, Any]:
        return RAFT_OPTIONS

    def attack(self) -> list[ByzantineClient]:
        leader = self.cluster.leader()
        if leader is not None and self._case.name == "delay":
            self._liars.add(leader)
        self._term = self._highest()
        return super().attack()

    def measure(self, seconds: float, warm_up: Micros = WARM_UP_US["raft"]) -> Outcome:
        self.cluster.run_until(lambda: self.cluster.leader() is not None, limit_us=60_000_000)
        found = super().measure(seconds, warm_up)
        return replace(found, views=self._highest() - self._term)

    def _highest(self) -> int:
        known = [self.cluster.status(node) for node in range(self.cluster.n)]
        return max(status.view for status in known if status is not None)


def measured(job: Job, seconds: float = SECONDS) -> Sample:
    warm_up = WARM_UP_US[job.system]
    if job.system != "raft":
        run = Run(job.attack.pbft, job.system == "on", usual=STORM, clients=CLIENTS, seed=job.seed)
    elif job.attack.raft is not None:
        run = OnRaft(job.attack.raft, False, usual=STORM, clients=CLIENTS, seed=job.seed)
    else:
        raise ValueError(f"{job.attack.name}: it is no attack on Raft")
    outcome = run.measure(seconds, warm_up)
    return Sample(outcome.operations_s, outcome.views, outcome.acts)


class Aardvark(Experiment[Job, Sample]):
    name = "aardvark"
    summary = "what faulty clients, floods and slow primaries leave: PBFT, PBFT with robust, Raft [Clement09]"
    runs = 1

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        return [
            Job(system, attack, seed)
            for seed in seeds
            for attack in (*NOTHING, *ATTACKS)
            for system in SYSTEMS
            if system != "raft" or attack.raft is not None
        ]

    def measure(self, job: Job) -> Sample:
        return measured(job)

    def findings(self, measured: Sequence[tuple[Job, Sample]]) -> Findings:
        cells: Cells = {}
        for job, sample in measured:
            cells.setdefault((job.system, job.attack.name), []).append(sample)
        return Findings(
            tables=[_table(cells), _throughput(cells)],
            pictures=[_picture(cells)],
            comparisons=[*_fragile(cells), *_robust(cells)],
            notes=[NOTE, SOURCE],
        )


Cells = dict[tuple[str, str], list[Sample]]
NOTE: Final = (
    f"Four replicas, three of Raft, and {CLIENTS} clients with one request under way each, every process on a machine "
    "of its own that is ten times slower than the reference. Big MACs need MACs; all else is of PBFT with signatures. "
    f"Floods of clients are of {STORM:,} requests a second; a replica floods with 4,000 bad votes a second for each "
    "other one. Each figure is of 5 s of the simulator's time, with the transient in it; "
    "`python -m compare.robustness` runs a minute. - in a cell of Raft: it makes no difference between right and wrong "
    "there, since it trusts clients and servers."
)
SOURCE: Final = (
    "Published: requests a second over the same without an attack, 61,710 of PBFT and 38,667 of Aardvark, on other "
    "machines with another number of clients."
)


def left(cells: Cells, system: str, attack: Attack) -> float | None:
    """Of the throughput without an attack."""
    usual = NOTHING[attack.auth == "macs" and system != "raft"].name
    if (system, attack.name) not in cells or (system, usual) not in cells:
        return None
    return _done(cells[system, attack.name]) / max(_done(cells[system, usual]), 0.001)


def _done(samples: Sequence[Sample]) -> float:
    return fmean(sample.operations_s for sample in samples)


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _table(cells: Cells) -> Table:
    rows: list[list[Cell]] = []
    for attack in ATTACKS:
        ours = [_share(left(cells, system, attack)) for system in SYSTEMS]
        said = attack.published
        theirs = [_share(said.pbft / PEAK.pbft), _share(said.aardvark / PEAK.aardvark)] if said else [None, None]
        rows.append([attack.name, *ours, *theirs])
    columns = ["attack", *SYSTEMS.values(), "published: PBFT", "Aardvark"]
    return Table(title="throughput under one attack, of that without", columns=columns, rows=rows)


def _throughput(cells: Cells) -> Table:
    rows: list[list[Cell]] = []
    for (system, name), samples in cells.items():
        acts, views = min(sample.acts for sample in samples), max(sample.views for sample in samples)
        rows.append([name, SYSTEMS[system], f"{_done(samples):.1f}", views, acts, len(samples)])
    columns = ["attack", "system", "operations/s", "view changes", "acts, at least", "runs"]
    return Table(title="run by run: the mean of all seeds", columns=columns, rows=rows)


def _picture(cells: Cells) -> Picture:
    late = [attack for attack in ATTACKS if attack.delay_ms]
    lines = []
    for system, name in SYSTEMS.items():
        found = [(float(attack.delay_ms), left(cells, system, attack)) for attack in late]
        points = [(ms, share) for ms, share in found if share is not None]
        lines += [Line(name=name, points=points)] if points else []
    said = [(float(attack.delay_ms), attack.published) for attack in late]
    theirs = [(ms, one.pbft / PEAK.pbft, one.aardvark / PEAK.aardvark) for ms, one in said if one is not None]
    lines.append(Line(name="PBFT, published", points=[(ms, pbft) for ms, pbft, _ in theirs], dashed=True))
    lines.append(Line(name="Aardvark, published", points=[(ms, other) for ms, _, other in theirs], dashed=True))
    return Picture(
        name="aardvark",
        title="Throughput under a primary that holds each proposal back",
        x=Axis(label="held for, ms", least=1, most=DELAYS_MS[-1], logarithmic=True),
        y=Axis(label="of the throughput without an attack", least=0, most=1.2),
        lines=lines,
    )


def _fragile(cells: Cells) -> Iterator[Comparison]:
    """PBFT as in the papers."""
    for attack in ATTACKS:
        share, said = left(cells, "off", attack), attack.published
        if share is None or said is None:
            continue
        most = CLIENTS * 1000 / attack.delay_ms if attack.delay_ms else 0
        done = _done(cells["off", attack.name])
        rule = f"less than without, at most n/T = {most:,.0f}/s" if most else f"at most {LOST:.0%} of no attack"
        yield Comparison(
            what=f"PBFT, {attack.name}",
            source="Clement09",
            published=f"{said.pbft:,} of {PEAK.pbft:,} = {said.pbft / PEAK.pbft:.2f}",
            measured=f"{done:.1f}/s = {share:.2f}",
            rule=rule,
            holds=(share < 1 and done <= most if most else share <= LOST) and _struck(cells["off", attack.name]),
        )


def _robust(cells: Cells) -> Iterator[Comparison]:
    for attack in ATTACKS:
        share, said = left(cells, "on", attack), attack.published
        if share is None:
            continue
        yield Comparison(
            what=f"PBFT with robust, {attack.name}",
            source="Clement09",
            published=f"Aardvark {said.aardvark / PEAK.aardvark:.2f}" if said else f"at least {KEPT:.2f}",
            measured=f"{share:.2f}",
            rule=f"at least {KEPT:.2f}, Aardvark's worst",
            holds=share >= KEPT and _struck(cells["on", attack.name]),
        )


def _struck(samples: Sequence[Sample]) -> bool:
    return all(sample.acts for sample in samples)


EXPERIMENT: Final = Aardvark()
