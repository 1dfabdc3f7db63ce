"""What a correct replica signs convicts it nowhere: over epochs, refreshes, forks and laggards, one story each.
The same by chance: `test_evidence.py`."""

from __future__ import annotations

from typing import Any

from pbft import messages as m
from replog.core import Command
from tests.pbft.changing import Changing, inner
from tests.pbft.harness import EPOCH_US, MS
from tests.pbft.proofs import convictions


def proposal(cluster: Changing, leader: int, view: int, seq: int, client_timestamp: int) -> m.Message:
    """Of the present epoch."""
    core = cluster.core(leader)
    batch = m.Batch(EPOCH_US + cluster.now, [cluster.request("ann", client_timestamp)])
    signature = core.notary.sign("pre-prepare", (view, seq, batch.digest))
    return m.InEpoch(
        cluster.plug(leader).epoch, m.PrePrepare(view, seq, batch.digest, signature, batch.time, batch.raws)
    )


def said(cluster: Changing, node: int, kind: type[Any]) -> list[Any]:
    return [message for sent in cluster.sent if sent.node == node and isinstance(message := inner(sent.message), kind)]


# ---------------------------------------------------------------------------------------------- epochs and refreshes


def test_p16_one_that_asked_alone_in_each_epoch_votes_once_after_its_refresh() -> None:
    """Whatever it asked for in earlier epochs, the estimate of a refresh holds in this one: its votes count as its own.
    One liar, the primary of the view in which it is, tells it another digest when the others have come there."""
    cluster = Changing(4)
    for joiner in (4, 5):
        cluster.carry_out(3, cluster.core(3)._ask_for(cluster.core(3).view + 1, "a time-out of its own"))
        cluster.add(joiner)
        cluster.become(add=[joiner])
    view, seq = cluster.core(3).view, cluster.core(3).executed + 1
    liar = cluster.core(3).primary
    cluster.inject(liar, 3, proposal(cluster, liar, view, seq, 1))
    cluster.settle()
    assert said(cluster, 3, m.Prepare)[-1].seq == seq, "vacuous"
    cluster.blocked = lambda packet: isinstance(inner(cluster.decode(packet)), m.PrePrepare)
    cluster.step(3, Command("refresh", {}))
    cluster.run(300 * MS)
    while cluster.core(0).view < view:
        cluster.step(cluster.core(0).primary, Command("step-down", {}))
        cluster.run(300 * MS)
    assert cluster.core(3).recovery.checking, "vacuous"
    cluster.inject(liar, cluster.present().ids, proposal(cluster, liar, view, seq, 2))
    cluster.settle()
    assert not convictions(cluster, [3])[0]
    assert {vote.digest for vote in said(cluster, 3, m.Prepare) if (vote.view, vote.seq) == (view, seq)} != set()
