"""Messages for one operation, n up to 31: PBFT with signatures and with MACs, and Raft. [CL99 4.2, fig. 1; Raft 5.3]

A message to k receivers counts k times. PBFT: a request to the primary; n - 1 pre-prepares, (n - 1)^2 prepares and
n(n - 1) commits, which is 2n(n - 1) in the three phases; n replies. Together 2n^2 - n + 1. Raft: a request, n - 1
appends and as many answers, one reply, together 2n. Left out, and counted by themselves: what goes by the clock
(heartbeats, status), checkpoints and snapshots, which come once for many operations.

One client asks, waits, and asks again when all is quiet: batches of one. Work and disks take no time here: that changes
no count, as long as nobody gives up waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from compare.experiments.base import Axis, Cell, Comparison, Experiment, Findings, Line, Mark, Picture, Table
from pbft import SPEC as PBFT
from raft import SPEC as RAFT
from replog.apps.kv import KeyValue
from replog.sim.cluster import Counters, SimCluster
from replog.sim.costs import FREE

WARM_UP: Final = 2
"""Operations before those that are counted: a client learns who leads, and under MACs gets its session keys."""
OPERATIONS: Final = 5
QUIET_US: Final = 20_000
IDLE_US: Final = 2_000_000
"""How long nobody asks anything, with the default timers: what goes by the clock."""
LEADER_US: Final = 300_000_000


@dataclass(frozen=True)
class System:
    """`options` keep what goes by the clock out of the time that is counted."""

    name: str
    spec: Any
    sizes: tuple[int, ...]
    options: tuple[tuple[str, Any], ...]
    idle: tuple[tuple[str, Any], ...] = ()

    def phases(self, n: int) -> int:
        """Among replicas, for one operation."""
        return 2 * (n - 1) if self.spec is RAFT else 2 * n * (n - 1)

    def whole(self, n: int) -> int:
        """With request and replies."""
        return self.phases(n) + (2 if self.spec is RAFT else n + 1)

    def signatures(self, n: int) -> int:
        """Made: that of the client, and under PBFT one a pre-prepare, prepare and commit, whoever gets it."""
        return 1 if self.spec is RAFT else 0 if self.macs(n) else 2 * n + 1

    def macs(self, n: int) -> int:
        """Of requests: n that the client makes, one that each replica checks. [CL99 5.2]"""
        return 2 * n if ("auth", "macs") in self.options else 0


_QUIET_PBFT: Final = (("status_interval_us", 5_000_000), ("view_timeout_us", 40_000_000))
_QUIET_RAFT: Final = (
    ("heartbeat_us", 10_000_000),
    ("election_timeout_min_us", 30_000_000),
    ("election_timeout_max_us", 60_000_000),
)
_MACS: Final = (("auth", "macs"),)
SYSTEMS: Final = {
    one.name: one
    for one in (
        System("PBFT, signatures", PBFT, tuple(range(4, 32, 3)), _QUIET_PBFT),
        System("PBFT, MACs", PBFT, tuple(range(4, 32, 3)), (*_MACS, *_QUIET_PBFT), _MACS),
        System("Raft", RAFT, tuple(range(3, 32, 2)), _QUIET_RAFT),
    )
}
PHASES: Final = ("PrePrepare", "Prepare", "Commit", "AppendEntries", "AppendReply")
ENDS: Final = ("Submit", "Reply")


@dataclass(frozen=True)
class Job:
    system: str
    n: int
    seed: int


@dataclass(frozen=True)
class Sample:
    """Totals of so many operations. `other`: messages that belong to none of them. `idle`: a second without any."""

    operations: int
    phases: int
    ends: int
    other: int
    kinds: tuple[tuple[str, int], ...]
    bytes: int
    signatures: int
    macs: int
    idle: float


class MessageCost(Experiment[Job, Sample]):
    name = "message-cost"
    summary = "messages, bytes and signatures for one operation, n up to 31 [CL99 4.2; Raft 5.3]"
    runs = 3

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        return [Job(one.name, n, seed) for seed in seeds for one in SYSTEMS.values() for n in one.sizes]

    def measure(self, job: Job) -> Sample:
        return counted(SYSTEMS[job.system], job.n, job.seed)

    def findings(self, measured: Sequence[tuple[Job, Sample]]) -> Findings:
        cells: Cells = {}
        for job, sample in measured:
            cells.setdefault((job.system, job.n), []).append(sample)
        return Findings(
            tables=[_table(cells, name) for name in SYSTEMS],
            pictures=[_messages(cells), _bytes(cells)],
            comparisons=[*_against_law(cells), *_one_to_one(cells)],
            notes=[NOTE],
        )


Cells = dict[tuple[str, int], list[Sample]]
NOTE: Final = (
    "One operation in a batch, nobody else asks, nothing fails, `robust` is off. A message to k receivers counts k "
    "times. Left out of an operation: heartbeats and status, which go by the clock (the last column: messages a second "
    "of an idle cluster with default timers), checkpoints and snapshots. A signature counts once, however many "
    "check it; replies and phases under MACs rest on the link. Bytes are those of messages, without TLS."
)


# ------------------------------------------------------------------------------------------------------------ measuring


def counted(system: System, n: int, seed: int, operations: int = OPERATIONS) -> Sample:
    """Raises Stalled if an operation is not answered."""
    cluster = _cluster(system, n, seed, dict(system.options))
    _put(cluster, WARM_UP)
    before = cluster.counters
    _put(cluster, operations)
    after = cluster.counters
    kinds = Counter(after.kinds)
    kinds.subtract(before.kinds)
    phases, ends = (sum(kinds[kind] for kind in which) for which in (PHASES, ENDS))
    return Sample(
        operations=operations,
        phases=phases,
        ends=ends,
        other=kinds.total() - phases - ends,
        kinds=tuple(sorted((kind, number) for kind, number in kinds.items() if number)),
        bytes=after.bytes - before.bytes,
        signatures=after.signed - before.signed,
        macs=after.macs - before.macs,
        idle=_idle(system, n, seed),
    )


def _cluster(system: System, n: int, seed: int, options: dict[str, Any]) -> SimCluster:
    cluster = SimCluster(system.spec, n, system.spec.faults(n), options, seed=seed, costs=FREE)
    cluster.run_until(lambda: cluster.leader() is not None, LEADER_US)
    cluster.run_for(QUIET_US)
    return cluster


def _put(cluster: SimCluster, number: int) -> None:
    client = cluster.client()
    for place in range(number):
        client.submit([KeyValue.operation("put", f"k{place}", "v")])
        cluster.run_until(lambda: client.outstanding == 0)
        cluster.run_for(QUIET_US)


def _idle(system: System, n: int, seed: int) -> float:
    cluster = _cluster(system, n, seed, dict(system.idle))
    before: Counters = cluster.counters
    cluster.run_for(IDLE_US)
    return (cluster.counters.messages - before.messages) * 1_000_000 / IDLE_US


# ------------------------------------------------------------------------------------------------------------ findings


def _found(cells: Cells, name: str) -> Iterator[tuple[int, list[Sample]]]:
    yield from sorted((n, samples) for (which, n), samples in cells.items() if which == name)


def _each(samples: Sequence[Sample], field: str) -> float:
    """Per operation, the mean of the seeds."""
    return fmean(getattr(one, field) / one.operations for one in samples)


def _table(cells: Cells, name: str) -> Table:
    system, rows = SYSTEMS[name], list[list[Cell]]()
    for n, samples in _found(cells, name):
        phases = _each(samples, "phases")
        whole = phases + _each(samples, "ends")
        proofs = _each(samples, "macs" if system.macs(n) else "signatures")
        idle = f"{fmean(one.idle for one in samples):,.0f}"
        measured: list[Cell] = [system.phases(n), phases, system.whole(n), whole, proofs]
        rows.append([f"n = {n}", *measured, round(_each(samples, "bytes")), idle])
    made = "MACs" if "MACs" in name else "signatures"
    columns = ["replicas", "law, phases", "measured", "law, whole", "measured", made, "bytes", "idle, a second"]
    return Table(title=f"{name}: messages for one operation", columns=columns, rows=rows)


def _messages(cells: Cells) -> Picture:
    lines, marks = [], []
    for name in ("PBFT, signatures", "Raft"):
        found = list(_found(cells, name))
        if found:
            law = [(float(n), float(SYSTEMS[name].whole(n))) for n in range(found[0][0], found[-1][0] + 1)]
            words = "2n, Raft" if name == "Raft" else "2n² - n + 1, PBFT"
            lines.append(Line(name=f"law: {words}", points=law, dashed=True))
    for name in SYSTEMS:
        for n, samples in _found(cells, name):
            values = [(one.phases + one.ends) / one.operations for one in samples]
            marks.append(Mark(name=f"{name}, n = {n}", x=n, y=fmean(values), low=min(values), high=max(values)))
    return Picture(
        name="messages",
        title="Messages for one operation, request and replies included",
        x=Axis(label="replicas", least=0, most=32),
        y=Axis(label="messages", least=5, most=2_000, logarithmic=True),
        lines=lines,
        marks=marks,
    )


def _bytes(cells: Cells) -> Picture:
    lines = []
    for name in SYSTEMS:
        points = [(float(n), _each(samples, "bytes") / 1000) for n, samples in _found(cells, name)]
        if points:
            lines.append(Line(name=name, points=points))
    return Picture(
        name="bytes",
        title="Bytes for one operation of some ten bytes",
        x=Axis(label="replicas", least=0, most=32),
        y=Axis(label="kilobytes", least=0.1, most=200, logarithmic=True),
        lines=lines,
    )


def _against_law(cells: Cells) -> Iterator[Comparison]:
    """Counts are whole numbers: nothing but the law itself is as published."""
    for name, system in SYSTEMS.items():
        found = [(n, one) for n, samples in _found(cells, name) for one in samples]
        if not found:
            continue
        source, law = ("Raft 5.3", "2(n-1)") if name == "Raft" else ("CL99 4.2, fig. 1", "2n(n-1)")
        whole = "2n" if name == "Raft" else "2n^2-n+1"
        right = sum(one.phases == system.phases(n) * one.operations and not one.other for n, one in found)
        yield _exact(f"{name}: messages among replicas", source, law, right, len(found))
        right = sum(one.phases + one.ends == system.whole(n) * one.operations for n, one in found)
        yield _exact(f"{name}: with request and replies", source, whole, right, len(found))
        if system.spec is not RAFT:
            proofs = (system.signatures, system.macs)
            right = sum(
                (one.signatures, one.macs) == tuple(law(n) * one.operations for law in proofs) for n, one in found
            )
            made = "2n MACs of requests" if "MACs" in name else "2n+1 signatures, replies have none"
            yield _exact(f"{name}: proofs made", "CL99 5.2" if "MACs" in name else "CL99 4.2", made, right, len(found))


def _exact(what: str, source: str, published: str, right: int, trials: int) -> Comparison:
    return Comparison(
        what=what,
        source=source,
        published=published,
        measured=f"as many in {right} of {trials} trials",
        rule="exactly, in each",
        holds=right == trials,
    )


def _one_to_one(cells: Cells) -> Iterator[Comparison]:
    """The same f: what it costs that replicas may lie."""
    pbft, raft = (dict(_found(cells, name)) for name in ("PBFT, signatures", "Raft"))
    for f in (1, 5, 10):
        mine, theirs = pbft.get(3 * f + 1), raft.get(2 * f + 1)
        if mine is None or theirs is None:
            continue
        law = SYSTEMS["PBFT, signatures"].whole(3 * f + 1) / SYSTEMS["Raft"].whole(2 * f + 1)
        ratio = (_each(mine, "phases") + _each(mine, "ends")) / (_each(theirs, "phases") + _each(theirs, "ends"))
        yield Comparison(
            what=f"PBFT to Raft, f = {f}: n = {3 * f + 1} to {2 * f + 1}",
            source="CL99 4.2; Raft 5.3",
            published=f"{law:.2f} times the messages",
            measured=f"{ratio:.2f} times",
            rule="the same",
            holds=abs(ratio - law) < 0.005,
        )


EXPERIMENT: Final = MessageCost()
