"""A primary just below the time-out [Clement09 3.2; HAZARDS P38], on a machine ten times slower than the reference: so
that a few hundred operations a second saturate it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from compare.attacks.base import Byzantine, Power
from compare.attacks.slow_primary import SlowPrimary
from pbft import SPEC
from replog.apps.kv import KeyValue
from replog.replica import Replica
from replog.sim.cluster import SimCluster
from replog.sim.costs import REFERENCE
from replog.types import NodeId

SECOND = 1_000_000
SLOW = REFERENCE.slower(10, REFERENCE.cores)
CLIENTS = [f"c{number}" for number in range(24)]


def puts(name: str) -> Iterator[list[bytes]]:
    number = 0
    while True:
        number += 1
        yield [KeyValue.operation("put", f"{name}/{number % 100}", "v")]


class Run:
    """A saturated cluster whose node 0, the first primary, becomes slow when `attack` is called."""

    def __init__(self, robust: bool | list[str], clients: int = len(CLIENTS)) -> None:
        self.liars: dict[NodeId, Byzantine] = {}
        options = {"robust": robust, "view_length_us": 20 * SECOND, "view_timeout_us": 4 * SECOND}
        self.cluster = SimCluster(SPEC, 4, 1, options, clients=CLIENTS, costs=SLOW, wrap=self._wrap)
        for name in CLIENTS[:clients]:
            self.cluster.client(name).load(puts(name), 1)

    def _wrap(self, node: NodeId, replica: Replica) -> Any:
        self.liars[node] = Byzantine(replica, SlowPrimary, node)
        return self.liars[node]

    def attack(self, delay_ms: int) -> None:
        cluster = self.cluster
        power = Power((0,), {0: cluster.signer(0)}, cluster.verifier(), cluster.domain, 4, 1, KeyValue)
        power = Power(**{**vars(power), "options": {"delay_ms": delay_ms}})
        self.liars[0].begin(cluster.nodes[0].clock.monotonic(), power)

    def operations_in(self, seconds: int) -> int:
        before = self.cluster.counters.acknowledged
        self.cluster.run_for(seconds * SECOND)
        return self.cluster.counters.acknowledged - before

    @property
    def views(self) -> set[int]:
        return {status.view for node in range(1, 4) if (status := self.cluster.status(node)) is not None}


@pytest.mark.parametrize("delay_ms", [300, 2500])
def test_p38_a_slow_primary_leads_for_a_moment_only(delay_ms: int) -> None:
    run = Run(robust=True)
    usual = run.operations_in(5) / 5
    run.attack(delay_ms)
    assert run.operations_in(15) / 15 > 0.7 * usual
    assert min(run.views) > 0


def test_p38_without_the_measures_it_stays() -> None:
    run = Run(robust=False)
    usual = run.operations_in(5) / 5
    run.attack(2500)
    assert run.operations_in(15) / 15 < 0.2 * usual
    assert run.views == {0}


def test_falling_load_deposes_nobody() -> None:
    """Nobody waits for the primary when there is less to do."""
    run = Run(robust=["heartbeat", "floor", "fairness"])
    assert run.operations_in(6) > 0
    for name in CLIENTS[2:]:
        run.cluster.client(name).stop()
    assert run.operations_in(15) > 0
    assert run.views == {0}
