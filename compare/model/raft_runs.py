"""Runs of Raft drawn from seeds, with all that it stands, each of whose steps is held against the model.

A seed gives the number of servers, options small enough that every bound is reached, a network that loses, doubles and
reorders, and a timeline of crashes, pauses, cuts, slow disks, snapshots and moves. Then all heals, and everybody has to
come to the same entry. A run in which nothing was committed, or no leader was lost, proves nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, cast

from compare.model.raft_cluster import Cluster
from compare.model.raft_log import Deviation
from compare.model.steps import Life, Step, recording
from raft import SPEC
from replog.apps.kv import KeyValue
from replog.core import Note, ProtocolSpec
from replog.sim.cluster import SimCluster, Stalled
from replog.sim.costs import FREE
from replog.sim.disk import DiskModel
from replog.sim.network import Exponential, NetworkModel
from replog.types import NodeId

RAFT: Final = cast("ProtocolSpec", SPEC)
SMALL: Final = {
    "snapshot_entries": 12,
    "log_tail": 3,
    "window": 3,
    "uncommitted_max": 4,
    "batch_requests_max": 2,
    "append_entries_max": 2,
    "apply_entries_max": 4,
    "snapshot_chunk_bytes": 256,
    "snapshot_window": 2,
    "snapshot_retry_us": 100_000,
}
PLAIN: Final = {"pre_vote": False, "check_quorum": False, "leader_stickiness": False}
"""The paper's figure without the thesis's additions."""
CLIENTS: Final = ("c0", "c1", "c2")
TROUBLE_US, STEP_US, SETTLE_US = 4_000_000, 120_000, 30_000_000


@dataclass
class Outcome:
    """`deviation`: "" if every step may be."""

    seed: int
    n: int
    steps: int = 0
    terms: int = 0
    committed: int = 0
    crashes: int = 0
    installed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """Events and messages that servers were told."""
    deviation: str = ""
    stalled: str = ""

    @property
    def vacuous(self) -> bool:
        return not self.committed or self.terms < 2


def play(seed: int, spec: ProtocolSpec = RAFT) -> Outcome:
    """One run, held against the model. A core that breaks off has deviated."""
    run = Trouble(seed, spec)
    outcome = Outcome(seed, run.cluster.n, crashes=0)
    try:
        run.go()
    except Stalled as stalled:
        outcome.stalled = str(stalled).partition("\n")[0]
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        outcome.deviation = f"[its own word] {type(error).__name__}: {error}"
    outcome.crashes, outcome.committed = run.crashes, run.cluster.counters.acknowledged
    _hold(run.steps, outcome, leases=run.cluster.options.lease_reads)
    return outcome


def _hold(steps: list[Life | Step], outcome: Outcome, *, leases: bool) -> None:
    model = Cluster(outcome.n, leases=leases)
    for number, one in enumerate(steps):
        try:
            model.take(one)
        except Deviation as deviation:
            what = f"{type(one.event).__name__}" if isinstance(one, Step) else "its start"
            outcome.deviation = f"step {number}, server {one.node}, {what}: {deviation}"
            break
        if isinstance(one, Step):
            outcome.kinds[type(getattr(one.event, "message", one.event)).__name__] += 1
            outcome.installed += sum(isinstance(e, Note) and e.kind == "state-installed" for e in one.effects)
    outcome.steps, outcome.terms = model.steps, len(model.leaders)
    if not outcome.deviation:
        try:
            model.end()
        except Deviation as deviation:
            outcome.deviation = f"after the last step: {deviation}"


class Trouble:
    """The run itself."""

    def __init__(self, seed: int, spec: ProtocolSpec) -> None:
        self.chance = random.Random(seed)
        self.steps: list[Life | Step] = []
        self.crashes = 0
        n = self.chance.choice((1, 2, 3, 3, 4, 5, 5))
        self.cluster = SimCluster(
            recording(spec, self.steps),
            n,
            (n - 1) // 2,
            {**SMALL, **self._options()},
            seed=seed,
            network=self._network(),
            disk=DiskModel(Exponential(self.chance.choice((100, 2_000))), survives=0.5),
            costs=FREE,
            clients=CLIENTS,
        )
        self._values = count()

    def _options(self) -> dict[str, Any]:
        if self.chance.random() < 0.4:
            return dict(PLAIN)
        leases = self.chance.random() < 0.3
        return {"read_from": self.chance.choice(("leader", "any")), "lease_reads": leases}

    def _network(self) -> NetworkModel:
        worse = self.chance.choice((0.0, 0.02, 0.1))
        return NetworkModel(Exponential(1_000), loss=worse, duplicate=worse, reorder=worse, reorder_us=20_000)

    # ---------------------------------------------------------------------------------------------------- from outside

    def go(self) -> None:
        """Raises Stalled if they do not come together in the end."""
        for place, name in enumerate(CLIENTS):
            reads = place == len(CLIENTS) - 1
            self.cluster.client(name).load(self._operations(reads), pause_us=15_000, read_only=reads)
        while self.cluster.now < TROUBLE_US:
            self.chance.choices(self._acts, self._weights)[0](self)
            self.cluster.run_for(self.chance.randrange(1, STEP_US))
        self._heal()
        self.cluster.run_until(self._settled, SETTLE_US)

    def _operations(self, reads: bool) -> Iterator[list[bytes]]:
        while self.cluster.now < TROUBLE_US + SETTLE_US // 10:
            key = str(self.chance.randrange(5))
            value = [key] if reads else [key, str(next(self._values))]
            yield [KeyValue.operation("get" if reads else "put", *value)]

    def _settled(self) -> bool:
        cluster = self.cluster
        if any(client.outstanding for client in cluster.clients.values()):
            return False
        known = [cluster.status(node) for node in range(cluster.n)]
        return len({status and (status.index, status.view, status.leader) for status in known}) == 1

    # ------------------------------------------------------------------------------------------------------------ acts

    def _any(self) -> NodeId:
        return self.chance.randrange(self.cluster.n)

    def _crash(self) -> None:
        leader = self.cluster.leader()
        node = leader if leader is not None and self.chance.random() < 0.4 else self._any()
        self.crashes += self.cluster.nodes[node].up
        self.cluster.crash(node)

    def _restart(self) -> None:
        self.cluster.restart(*(node.name for node in self.cluster.nodes if not node.up))

    def _pause(self) -> None:
        node = self._any()
        self.cluster.pause(node)
        self.cluster.after(self.chance.randrange(1, 1_000_000), lambda: self.cluster.resume(node))

    def _cut(self) -> None:
        a, b = self._any(), self._any()
        if a != b:
            self.cluster.cut(a, b, one_way=self.chance.random() < 0.5)

    def _part(self) -> None:
        nodes = list(range(self.cluster.n))
        self.chance.shuffle(nodes)
        place = self.chance.randrange(len(nodes) + 1)
        self.cluster.partition(nodes[:place], nodes[place:])

    def _mend(self) -> None:
        self.cluster.heal()

    def _slow_disk(self) -> None:
        self.cluster.slow_disk(self._any(), self.chance.choice((0, 5_000, 100_000)))

    def _command(self) -> None:
        node = self.cluster.leader()
        if node is not None and self.cluster.nodes[node].up:
            if self.chance.random() < 0.7:
                self.cluster.command(node, "move-leader", to=self._any())
            else:
                self.cluster.command(node, "snapshot")

    def _wait(self) -> None:
        """Let it work."""

    _acts: Final[list[Callable[[Trouble], None]]] = [
        _crash, _restart, _pause, _cut, _part, _mend, _slow_disk, _command, _wait,
    ]  # fmt: skip
    _weights: Final = [3, 4, 1, 2, 1, 4, 1, 2, 4]

    def _heal(self) -> None:
        cluster = self.cluster
        cluster.heal()
        cluster.network.change(loss=0.0, duplicate=0.0, reorder=0.0)
        for node in range(cluster.n):
            cluster.slow_disk(node, 0)
            cluster.resume(node)
        self._restart()
