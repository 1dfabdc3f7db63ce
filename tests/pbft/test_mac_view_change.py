"""[CL02 view changes] Under MACs: what a backup makes of a NEW-VIEW, message by message."""

from __future__ import annotations

from typing import Any

import pytest

from pbft import messages as m
from replog.core import Received, Send
from tests.pbft.harness import EPOCH_US, SMALL, Cluster, replace

MACS = {**SMALL, "auth": "macs"}
A = b"a" * 32


def hear(cluster: Cluster, node: int, sender: int, message: Any) -> list[Any]:
    return cluster.step(node, Received(sender, message))


def asks(node: int) -> m.MacViewChange:
    """Of `node`, for view 1: it has prepared A at 1."""
    placed = [m.Placed(1, A, 0)]
    return m.MacViewChange(1, 0, [m.Claim(0, bytes(32))], placed, placed, node)


def begins(*, digest: bytes = A, nodes: tuple[int, ...] = (0, 1, 2)) -> m.MacNewView:
    """What the primary of view 1 makes of that."""
    sources = [m.Heard(node, m.message_digest(asks(node))) for node in nodes]
    return m.MacNewView(1, sources, m.Claim(0, bytes(32)), [m.Proposal(1, digest, b"")])


def test_p4_a_new_view_that_does_not_follow_is_refused() -> None:
    for message, view in ((begins(), 1), (begins(digest=b"b" * 32), 0), (replace(begins(), pre_prepares=[]), 0)):
        cluster = Cluster(options=MACS)
        for node in (0, 1, 2):
            hear(cluster, 3, node, asks(node))
        hear(cluster, 3, 1, message)
        assert (cluster.core(3).ordering.view, cluster.core(3).ordering.active) == (1, view == 1)
        assert ("new-view: it does not follow from V" in cluster.rules(3)) == (view == 0)


@pytest.mark.parametrize("nodes", [(0, 1), (0, 1, 1), (2, 1, 0)])
def test_p4_v_must_be_of_a_quorum_of_distinct_replicas(nodes: tuple[int, ...]) -> None:
    cluster = Cluster(options=MACS)
    for node in (0, 1, 2):
        hear(cluster, 3, node, asks(node))
    hear(cluster, 3, 1, begins(nodes=nodes))
    assert not cluster.core(3).ordering.active
    assert "quorum of distinct replicas" in " ".join(cluster.rules(3))


def test_cl02_what_it_was_not_sent_is_fetched_from_those_who_were() -> None:
    """Node 3 never hears node 0's view-change: it asks for it, and believes two who say the same."""
    cluster = Cluster(options=MACS)
    for node in (1, 2):
        hear(cluster, 3, node, asks(node))
    hear(cluster, 2, 0, asks(0))
    asked = [effect.message for effect in hear(cluster, 3, 1, begins()) if isinstance(effect, Send)]
    fetch = m.FetchViewChange(1, 0, m.message_digest(asks(0)))
    assert fetch in asked
    given = [effect.message for effect in hear(cluster, 2, 3, fetch) if isinstance(effect, Send)]
    assert given == [m.ViewChangeData(asks(0))]
    hear(cluster, 3, 2, given[0])
    hear(cluster, 3, 2, given[0])
    assert not cluster.core(3).ordering.active, "one replica's word, twice"
    hear(cluster, 3, 1, given[0])
    assert (cluster.core(3).ordering.view, cluster.core(3).ordering.active) == (1, True)


def test_p16_what_it_voted_for_outlives_a_restart() -> None:
    """Q: what a correct replica has prepared might else never be chosen again (A2). Node 3 accepts a batch in view 0
    and votes for it in view 1; view 2, which knows nothing of that, has begun when it restarts."""
    cluster = Cluster(options=MACS)
    batch = m.Batch(EPOCH_US, [cluster.request("ann", 1)])
    hear(cluster, 3, 0, m.PrePrepare(0, 1, batch.digest, b"", batch.time, batch.raws))
    placed = [m.Placed(1, batch.digest, 0)]
    for view, said in ((1, placed), (2, [])):
        told = {node: m.MacViewChange(view, 0, [m.Claim(0, bytes(32))], said, said, node) for node in (0, 1, 2)}
        for node, message in told.items():
            hear(cluster, 3, node, message)
        sources = [m.Heard(node, m.message_digest(message)) for node, message in told.items()]
        proposals = [m.Proposal(item.seq, item.digest, b"") for item in said]
        hear(cluster, 3, view, m.MacNewView(view, sources, m.Claim(0, bytes(32)), proposals))
        assert (cluster.core(3).ordering.view, cluster.core(3).ordering.active) == (view, True)
    assert cluster.core(3).ordering.slots[1].voted == {batch.digest: 1}
    cluster.restart(3)
    assert cluster.core(3).ordering.slots[1].voted == {batch.digest: 1}
    changes = cluster.core(3).view_changes
    assert changes.own in changes.hard_state(True), "nor does a cut of the log take it"
    left = cluster.core(3).ordering.hard_state()
    cluster.disks[3].records = [(5, m.RECORDS.encode(record)) for record in left]
    cluster.restart(3)
    assert cluster.core(3).ordering.slot(1).voted == {batch.digest: 1}, "nor that of a view which it did not ask for"


def test_cl02_a_view_change_tells_every_checkpoint_that_is_held() -> None:
    """C: one that is not stable here, as no CHECKPOINT of the others arrived, may be what the new view begins with."""
    cluster = Cluster(options=MACS)
    cluster.blocked = lambda packet: type(packet.message) is m.Checkpoint
    for timestamp in range(1, 6):
        cluster.submit("ann", timestamp)
        cluster.settle()
    core = cluster.core(3)
    own = core.view_changes.ask(1, core.checkpoints, core.ordering)
    assert [claim.seq for claim in own.checkpoints] == [0, 4]
    assert own.checkpoints[1].digest == core.checkpoints.own[4]
    assert [item.seq for item in own.prepared] == [1, 2, 3, 4, 5]


def test_p5_the_first_new_view_stands() -> None:
    cluster = Cluster(options=MACS)
    for node in (0, 1, 2):
        hear(cluster, 3, node, asks(node))
    hear(cluster, 3, 1, begins())
    hear(cluster, 3, 1, begins(digest=b"b" * 32))
    assert cluster.core(3).view_changes.new_view == begins()
