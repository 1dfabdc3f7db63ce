"""Random faults from a seed, one after another, and the end at which all must be well again.

Every fault of the environment that the simulated world knows, none of them a lie. Any number of replicas may be down,
cut off or paused at once: safety must hold in all of it, progress only after it.

    python -m tests.cluster.chaos pbft 17
"""

import random
import sys
from collections.abc import Callable

from replog import protocols
from replog.core import ProtocolSpec
from replog.sim import Constant, DiskModel, Exponential, NetworkModel, SimCluster
from replog.trace import Recorder
from tests.cluster.story import Load, check_agreement, settle

ROUNDS = 12
SMALL = {
    "pbft": {"checkpoint_interval": 8, "log_window": 16, "view_timeout_us": 200_000, "status_interval_us": 25_000},
    "raft": {"snapshot_entries": 12, "log_tail": 4, "client_retry_us": 200_000},
}
"""Small windows, so that short runs reach checkpoints, transfer of state and changes of leader."""


class Chaos:
    """One run. Invariant: what it does depends on the seed alone."""

    def __init__(self, spec: ProtocolSpec, seed: int, f: int = 1) -> None:
        self.chance = random.Random(f"chaos/{seed}")
        delay = self.chance.choice([NetworkModel().delay, Exponential(400, 50), Constant(1_000)])
        disk = DiskModel(sync=self.chance.choice([Constant(55), Exponential(2_000, 50)]), survives=0.5)
        self.recorder = Recorder()
        self.cluster = SimCluster(
            spec,
            f=f,
            seed=seed,
            options=SMALL.get(spec.name),
            network=NetworkModel(delay=delay),
            disk=disk,
            clients=["c0", "c1", "c2"],
            recorder=self.recorder,
        )
        self.faults: list[str] = []

    def run(self, least: int = 50) -> int:
        """Raises AssertionError if something does not hold. The number of indices compared between replicas."""
        cluster = self.cluster
        load = Load(cluster, outstanding=2, pause_us=3_000)
        load.more(30)
        for _ in range(ROUNDS):
            fault = self.chance.choice(FAULTS)
            self.faults.append(fault.__name__)
            fault(self)
            cluster.run_for(self.chance.choice([5_000, 50_000, 300_000, 1_000_000]))
            if self.chance.random() < 0.4:
                self.mend()
        self.mend()
        load.more(20, 120_000_000)
        load.stop(120_000_000)
        assert load.check_kept() >= least, f"vacuous: {len(load.acknowledged)} writes acknowledged"
        settle(cluster, 60_000_000)
        cluster.check_invariants()
        return check_agreement(self.recorder, range(cluster.n))

    def some(self) -> list[int]:
        return self.chance.sample(range(self.cluster.n), self.chance.randint(1, self.cluster.n))

    def mend(self) -> None:
        cluster = self.cluster
        cluster.heal()
        cluster.network.change(loss=0.0, duplicate=0.0, reorder=0.0)
        for node in range(cluster.n):
            cluster.resume(node)
            cluster.slow(node, 0)
            cluster.slow_disk(node, 0)
            if not cluster.nodes[node].up:
                cluster.restart(node)


def crash(chaos: Chaos) -> None:
    chaos.cluster.crash(*chaos.some())


def restart(chaos: Chaos) -> None:
    chaos.cluster.restart(*chaos.some())


def crash_the_leader(chaos: Chaos) -> None:
    leader = chaos.cluster.leader()
    chaos.cluster.crash(0 if leader is None else leader)


def pause(chaos: Chaos) -> None:
    chaos.cluster.pause(*chaos.some())


def partition(chaos: Chaos) -> None:
    group = set(chaos.some())
    chaos.cluster.partition(group, set(range(chaos.cluster.n)) - group)


def cut(chaos: Chaos) -> None:
    a, b = chaos.chance.sample(range(chaos.cluster.n), 2)
    chaos.cluster.cut(a, b, one_way=chaos.chance.random() < 0.5)


def cut_a_client(chaos: Chaos) -> None:
    chaos.cluster.cut("c0", chaos.chance.randrange(chaos.cluster.n), one_way=chaos.chance.random() < 0.5)


def bad_links(chaos: Chaos) -> None:
    chance = chaos.chance
    chaos.cluster.network.change(loss=chance.choice([0, 0.02, 0.2]), duplicate=0.05, reorder=0.1)


def slow(chaos: Chaos) -> None:
    chaos.cluster.slow(chaos.chance.randrange(chaos.cluster.n), 5_000)


def slow_disk(chaos: Chaos) -> None:
    chaos.cluster.slow_disk(chaos.chance.randrange(chaos.cluster.n), 30_000)


def drift(chaos: Chaos) -> None:
    node = chaos.chance.randrange(chaos.cluster.n)
    chaos.cluster.drift(node, chaos.chance.randint(-50_000, 50_000), chaos.chance.randint(-100_000, 100_000))


FAULTS: list[Callable[[Chaos], None]] = [
    crash,
    restart,
    crash_the_leader,
    pause,
    partition,
    cut,
    cut_a_client,
    bad_links,
    slow,
    slow_disk,
    drift,
]


if __name__ == "__main__":
    for number in sys.argv[2:]:
        chaos = Chaos(protocols.find(sys.argv[1]), int(number))
        try:
            compared = chaos.run()
        finally:
            print(number, *chaos.faults)
        print(number, "ok:", compared, "indices compared,", chaos.cluster.counters.acknowledged, "acknowledged")
