"""States that differ, where no replica need lie: an application that is not deterministic. Replicas say so."""

from __future__ import annotations

from typing import Any

import pytest

from pbft.messages import Checkpoint
from replog.apps.counter import Counter
from tests.pbft.harness import SECOND, SMALL, Cluster


def disturb(cluster: Cluster, node: int, amount: int) -> None:
    """As if an operation had done on this replica what it did on no other."""
    cluster.replicas[node].executor._runtime.run([Counter.operation("add", amount)], False, (0, 0))


def load(cluster: Cluster) -> None:
    """Up to the first checkpoint."""
    for timestamp in range(1, 5):
        cluster.submit("ann", timestamp, low=timestamp - 1)
        cluster.run(SECOND // 10)


def made(options: dict[str, Any], *disturbed: int) -> Cluster:
    cluster = Cluster(options={**SMALL, **options})
    for node in disturbed:
        disturb(cluster, node, 1000 * node)
    load(cluster)
    return cluster


@pytest.mark.parametrize("options", [{}, {"auth": "macs"}])
def test_where_no_two_states_are_alike_every_replica_says_so(options: dict[str, Any]) -> None:
    cluster = made(options, 1, 2, 3)
    assert set(cluster.executed()) == {4}
    for node in range(4):
        status = cluster.core(node).status()
        others = ", ".join(str(other) for other in range(4) if other != node)
        assert status.role.endswith(f"state differs from node {others}")
        assert not status.in_sync


@pytest.mark.parametrize("options", [{}, {"auth": "macs"}])
def test_one_that_differs_makes_no_other_replica_doubt_itself(options: dict[str, Any]) -> None:
    """A liar's word about its state is one word: those that are alike stay in sync."""
    cluster = made(options, 3)
    for node in range(3):
        status = cluster.core(node).status()
        assert "differs" not in status.role
        assert status.in_sync


@pytest.mark.parametrize("options", [{}, {"auth": "macs"}])
def test_the_word_of_f_others_is_no_reason_to_doubt(options: dict[str, Any]) -> None:
    cluster = Cluster(options={**SMALL, **options})
    disturb(cluster, 3, 1000)
    cluster.blocked = lambda packet: type(packet.message) is Checkpoint and packet.sender in (1, 2)
    load(cluster)
    assert cluster.core(0).executed == 4
    assert cluster.core(0).checkpoints.stable.seq == 0
    assert "differs" not in cluster.core(0).status().role
    assert cluster.core(0).status().in_sync


def test_one_whose_state_is_wrong_says_so_until_it_is_mended() -> None:
    cluster = Cluster(options=SMALL)
    disturb(cluster, 3, 1000)
    cluster.blocked = lambda packet: packet.to == 3 and type(packet.message).__name__ in ("PartData", "StateParts")
    load(cluster)
    status = cluster.core(3).status()
    assert "state differs from node 0, 1, 2" in status.role
    assert not status.in_sync
    cluster.heal()
    cluster.run(3 * SECOND)
    assert "differs" not in cluster.core(3).status().role
    assert cluster.core(3).status().in_sync
    assert len(cluster.digests()) == 1
