"""The load of `replog bench` in virtual time: the same closed loop, on a machine like the one that was measured.

All clients of the load generator are one process, as live: they share one thread. Its clients connect before it begins,
so links are there; a warm-up is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from compare.calibration.machine import Machine
from compare.calibration.steps import requests
from replog import protocols
from replog.client import Done, Failed
from replog.live.bench import Tally, percentiles
from replog.live.inbox import MESSAGES_A_TURN, SHARES
from replog.sim.cluster import SimCluster
from replog.sim.process import Cores, Process
from replog.types import Micros, Principal

WARM_UP_US: Final = 200_000
LEADER_US: Final = 5_000_000


class Thread(Cores):
    """One thread of the machine that several processes share, as the clients of one load generator do.

    Invariant: at most one of them wants a core or has one; the others wait in the order of asking.
    """

    def __init__(self, machine: Cores) -> None:
        super().__init__(1)
        self._machine = machine
        self._taken: Process | None = None

    def want(self, process: Process) -> None:
        if self._taken is None:
            self._taken = process
            self._machine.want(process)
        else:
            self._queue.append(process)

    def release(self, _: Any = None) -> None:
        self._taken = None
        self._machine.release()
        if self._queue and self._taken is None:
            self.want(self._queue.popleft())


class LoadedCluster(SimCluster):
    """Its clients are one process, and its replicas take as much in one turn as live ones: a scenario's small loads do
    not show the difference, that of a benchmark does."""

    shares = SHARES

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._thread: Thread | None = None
        super().__init__(*arguments, **options)
        for node in self.nodes:
            node.turn_frames = MESSAGES_A_TURN

    def _process(self, name: Principal) -> tuple[Any, ...]:
        world, network, machine, *rest = super()._process(name)
        if not isinstance(name, str):
            return world, network, machine, *rest
        if self._thread is None:
            self._thread = Thread(machine)
        return world, network, self._thread, *rest


def load(
    machine: Machine,
    protocol: str,
    f: int,
    clients: int,
    outstanding: int,
    seconds: float,
    options: Mapping[str, Any],
    seed: int = 1,
) -> dict[str, Any]:
    """Figures by the names that `replog.live.bench.figures` gives them. Raises RuntimeError if nothing was answered."""
    cluster = LoadedCluster(
        protocols.find(protocol),
        None,
        f,
        dict(options),
        seed=seed,
        costs=machine.costs(protocol),
        disk=machine.disk,
        network=machine.network,
        clients=[f"load-{number}" for number in range(clients)],
    )
    cluster.run_until(lambda: cluster.leader() is not None, LEADER_US)
    begin = cluster.now + WARM_UP_US
    tally = Tally(begin, begin + round(seconds * 1e6))

    def done(since: Micros, operations: Sequence[bytes], end: Done | Failed) -> None:
        if isinstance(end, Done):
            tally.done(cluster.now, since, len(operations))

    for name in cluster.clients:
        cluster.client(name).load(requests(outstanding), on_done=done)
    cluster.run_for(WARM_UP_US)
    busy, nodes = _busy(cluster), range(cluster.n)
    turns = sum(node.turns_taken for node in cluster.nodes)
    cluster.run_for(tally.end - cluster.now)
    if not tally.acknowledged:
        raise RuntimeError(f"{protocol}, {clients} clients: nothing was acknowledged in {seconds:g} simulated seconds")
    spent = [after - before for before, after in zip(busy, _busy(cluster), strict=True)]
    p50, p99 = percentiles(tally.samples, (0.5, 0.99))
    return {
        "throughput_ops_s": round(tally.acknowledged / seconds),
        "latency_ms": {"p50": p50, "p99": p99},
        "replica_cpu_s_per_1000_ops": round(sum(spent[node] for node in nodes) / tally.acknowledged / 1000, 5),
        "load_cpu_s_per_1000_ops": round(sum(spent[cluster.n :]) / tally.acknowledged / 1000, 5),
        "turns_per_op": round((sum(node.turns_taken for node in cluster.nodes) - turns) / tally.acknowledged, 5),
    }


def _busy(cluster: SimCluster) -> list[Micros]:
    return [cluster.process(name).busy_us for name in (*range(cluster.n), *cluster.clients)]
