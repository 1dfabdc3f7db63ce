"""How fast the simulator is: delivered messages in a second of real time, under a closed loop of writers.

Here: the one place of the simulated world that looks at a real clock. The load is the bench's own: `put` of an 8-byte
key and an 8-byte value.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from replog.apps.kv import KeyValue
from replog.core import ProtocolSpec
from replog.sim.cluster import SimCluster
from replog.sim.costs import REFERENCE, CostModel
from replog.types import Micros

SLICE_US: Micros = 20_000


@dataclass(frozen=True)
class Measured:
    """`delivered`: messages that replicas and clients were handed. `throughput_ops_s` is in simulated time."""

    n: int
    delivered: int
    acknowledged: int
    seconds: float
    simulated_us: Micros

    @property
    def delivered_messages_s(self) -> float:
        return self.delivered / self.seconds

    @property
    def throughput_ops_s(self) -> float:
        return self.acknowledged * 1_000_000 / self.simulated_us


def measure(
    spec: ProtocolSpec,
    n: int,
    f: int,
    seconds: float = 3.0,
    clients: int = 16,
    outstanding: int = 4,
    operations: int = 1,
    options: dict[str, Any] | None = None,
    seed: int = 1,
    costs: CostModel = REFERENCE,
) -> Measured:
    """Run a cluster for `seconds` of real time. Raises RuntimeError if nothing was acknowledged (HAZARDS X14)."""
    names = [f"c{number}" for number in range(clients)]
    cluster = SimCluster(spec, n, f, options, seed=seed, clients=names, costs=costs)
    for name in names:
        cluster.client(name).load(_writes(name, operations), outstanding)
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        cluster.run_for(SLICE_US)
    elapsed = time.perf_counter() - begin
    counters = cluster.counters
    if not counters.acknowledged:
        raise RuntimeError(f"nothing was acknowledged in {elapsed:.1f} s:\n{cluster.picture()}")
    return Measured(cluster.n, counters.delivered, counters.acknowledged, elapsed, cluster.now)


def _writes(name: str, operations: int) -> Iterator[list[bytes]]:
    number = 0
    while True:
        yield [KeyValue.operation("put", f"{name[:3]:3}{(number + i) % 10_000:05}", "v" * 8) for i in range(operations)]
        number += operations
