"""What it costs not to trust replicas: Raft, PBFT with MACs, PBFT with signatures, on the same links. [CL99 5.2, 7]

The same f, so that each stands as many faults of its kind: Raft has 2f + 1 replicas, PBFT 3f + 1. Every process has a
core of its own with the reference prices, links are a LAN, disks the default. First one client alone, for the latency;
then several at once, who ask again as soon as they are answered, so that batches form. What is counted is of the second
part and for one operation, over all processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any, Final

from compare.experiments.base import Axis, Cell, Comparison, Experiment, Findings, Line, Picture, Table
from pbft import SPEC as PBFT
from raft import SPEC as RAFT
from replog.apps.kv import KeyValue
from replog.sim.cluster import Counters, SimCluster
from replog.sim.costs import REFERENCE

FAULTS: Final = (1, 2, 5, 10)
CLIENTS: Final = 8
ALONE: Final = 5
TOGETHER: Final = 160
LEADER_US: Final = 10_000_000
LIMIT_US: Final = 60_000_000
COSTS: Final = replace(REFERENCE, cores=0)
SYSTEMS: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    "Raft": (RAFT, {}),
    "PBFT, MACs": (PBFT, {"auth": "macs"}),
    "PBFT, signatures": (PBFT, {}),
}
COUNTED: Final = ("messages", "bytes", "signed", "verified", "macs", "syncs", "busy_us")


@dataclass(frozen=True)
class Job:
    system: str
    f: int
    seed: int


@dataclass(frozen=True)
class Sample:
    """`each`: per operation, in the order of `COUNTED`."""

    n: int
    latency_ms: float
    operations_s: float
    each: tuple[float, ...]

    def of(self, name: str) -> float:
        return self.each[COUNTED.index(name)]


class CostOfTrust(Experiment[Job, Sample]):
    name = "cost-of-trust"
    summary = "Raft, PBFT with MACs, PBFT with signatures: what one operation costs of everything [CL99 5.2, 7]"
    runs = 2

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        return [Job(system, f, seed) for seed in seeds for f in FAULTS for system in SYSTEMS]

    def measure(self, job: Job) -> Sample:
        return measured(job)

    def findings(self, measured: Sequence[tuple[Job, Sample]]) -> Findings:
        cells: Cells = {}
        for job, sample in measured:
            cells.setdefault((job.system, job.f), []).append(sample)
        return Findings(
            tables=[_table(cells, f) for f in FAULTS if any(key[1] == f for key in cells)],
            pictures=[_picture(cells, *one) for one in PICTURES],
            comparisons=list(_compared(cells)),
            notes=[NOTE],
        )


Cells = dict[tuple[str, int], list[Sample]]
PICTURES: Final = (
    ("cpu", "CPU for one operation, all processes", "CPU, ms", 0.1, 100.0),
    ("latency", "Latency of one client alone", "latency, ms", 0.5, 50.0),
)
NOTE: Final = (
    f"The simulator's reference prices (an Ed25519 check 41 us, a MAC 1.5 us), one core for each process, LAN links, "
    f"`robust` off. Latency: the median of {ALONE} operations of one client alone. The rest: {CLIENTS} clients with "
    "one operation under way each, so that batches form; heartbeats and status are in the counts."
)


def measured(job: Job, together: int = TOGETHER) -> Sample:
    """Raises Stalled if operations are not answered."""
    spec, options = SYSTEMS[job.system]
    names = [f"c{number}" for number in range(CLIENTS)]
    cluster = SimCluster(spec, None, job.f, options, seed=job.seed, clients=names, costs=COSTS)
    cluster.run_until(lambda: cluster.leader() is not None, LEADER_US)
    for name in names:  # who leads, and session keys, are learned here
        _put(cluster, name)
    latency_us = median(_put(cluster, names[0]) for _ in range(ALONE))
    before, began = cluster.counters, cluster.now
    for name in names:
        cluster.client(name).load(_puts(name))
    cluster.run_until(lambda: _acknowledged(cluster) >= before.acknowledged + together, LIMIT_US)
    return _sample(cluster, latency_us, before, cluster.now - began)


def _sample(cluster: SimCluster, latency_us: float, before: Counters, took_us: int) -> Sample:
    after = cluster.counters
    done = after.acknowledged - before.acknowledged
    each = tuple((getattr(after, name) - getattr(before, name)) / done for name in COUNTED)
    return Sample(cluster.n, latency_us / 1000, done * 1_000_000 / took_us, each)


def _acknowledged(cluster: SimCluster) -> int:
    return sum(client.acknowledged for client in cluster.clients.values())


def _put(cluster: SimCluster, name: str) -> int:
    """How long it took."""
    client, began = cluster.client(name), cluster.now
    client.submit([KeyValue.operation("put", name, "v")])
    cluster.run_until(lambda: client.outstanding == 0)
    took = cluster.now - began
    cluster.run_for(20_000)
    return took


def _puts(name: str) -> Iterator[list[bytes]]:
    while True:
        yield [KeyValue.operation("put", name, "v")]


# ------------------------------------------------------------------------------------------------------------ findings


def _mean(samples: Sequence[Sample], field: str) -> float:
    return fmean(one.of(field) if field in COUNTED else getattr(one, field) for one in samples)


def _table(cells: Cells, f: int) -> Table:
    rows: list[list[Cell]] = []
    for system in SYSTEMS:
        if samples := cells.get((system, f)):
            figures = [f"{_mean(samples, name):,.1f}" for name in COUNTED[:-1]]
            cpu = f"{_mean(samples, 'busy_us') / 1000:.2f}"
            last = [cpu, f"{_mean(samples, 'latency_ms'):.2f}", f"{_mean(samples, 'operations_s'):,.0f}"]
            rows.append([f"{system}, n = {samples[0].n}", *figures, *last])
    columns = ["", "messages", "bytes", "signed", "checked", "MACs", "fsyncs", "CPU ms", "latency ms", "ops/s"]
    return Table(title=f"one operation, f = {f}", columns=columns, rows=rows)


def _picture(cells: Cells, name: str, title: str, label: str, least: float, most: float) -> Picture:
    lines = []
    for system in SYSTEMS:
        found = sorted((samples[0].n, samples) for (which, _), samples in cells.items() if which == system)
        if found:
            values = [
                (n, _mean(samples, "busy_us") / 1000 if name == "cpu" else _mean(samples, "latency_ms"))
                for n, samples in found
            ]
            lines.append(Line(name=system, points=[(float(n), value) for n, value in values]))
    return Picture(
        name=f"cost-of-trust-{name}",
        title=title,
        x=Axis(label="replicas", least=0, most=32),
        y=Axis(label=label, least=least, most=most, logarithmic=True),
        lines=lines,
    )


def _compared(cells: Cells) -> Iterator[Comparison]:
    """Nobody published these very figures; which is dearer is."""
    for f in FAULTS:
        found = [cells.get((system, f)) for system in SYSTEMS]
        for field, label, scale in (
            ("busy_us", "CPU ms", 1000),
            ("latency_ms", "latency ms", 1),
            ("messages", "messages", 1),
        ):
            values = [_mean(samples, field) / scale for samples in found if samples]
            if len(values) < len(SYSTEMS):
                continue
            rising = values[0] < values[1] and (field == "messages" or values[1] < values[2])
            yield Comparison(
                what=f"f = {f}: {label}",
                source="CL99 5.2, 7",
                published="Raft < MACs" if field == "messages" else "Raft < MACs < signatures",
                measured=" / ".join(f"{value:.2f}" for value in values),
                rule="in this order",
                holds=rising,
            )


EXPERIMENT: Final = CostOfTrust()
