"""What a correct replica signs convicts it nowhere: over epochs, refreshes, forks and laggards, one story each.
The same by chance: `test_evidence.py`."""

from __future__ import annotations

from typing import Any

import pytest

from pbft import messages as m
from replog.core import Command
from tests.pbft import forge
from tests.pbft.changing import Changing, inner
from tests.pbft.forks import World
from tests.pbft.harness import EPOCH_US, MS, PHASES, SECOND, SMALL, Cluster, Packet
from tests.pbft.proofs import convictions


def proposal(cluster: Changing, leader: int, view: int, seq: int, client_timestamp: int) -> m.Message:
    """Of the present epoch."""
    core = cluster.core(leader)
    batch = m.Batch(EPOCH_US + cluster.now, [cluster.request("ann", client_timestamp)])
    signature = core.notary.sign("pre-prepare", (view, seq, batch.digest))
    return m.InEpoch(
        cluster.plug(leader).epoch, m.PrePrepare(view, seq, batch.digest, signature, batch.time, batch.raws)
    )


def said(cluster: Cluster, node: int, kind: type[Any]) -> list[Any]:
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


# ------------------------------------------------------------------------------------- laggards at the end of an epoch


def change_behind() -> Changing:
    """0 and 1 lie, 3 has heard nothing. The change at seq 1 ends the epoch after 12, and 8 is proved."""
    cluster = Changing(4)
    cluster.add(4)
    cluster.blocked = lambda packet: 3 in (packet.to, packet.sender) or beyond(cluster, packet, 8)
    cluster.change(add=[4])
    cluster.run(3 * SECOND)
    assert (cluster.core(2).checkpoints.proven.seq, cluster.core(2).ends) == (8, 12)
    return cluster


def beyond(cluster: Cluster, packet: Packet, seq: int) -> bool:
    message = inner(cluster.decode(packet)) if isinstance(packet.sender, int) else None
    return isinstance(message, PHASES) and message.seq > seq


def leaves_its_view(cluster: Cluster, node: int) -> m.ViewChange:
    """Two liars ask for the next view, so it does."""
    for liar in (0, 1):
        cluster.inject(liar, node, forge.view_change(cluster, liar, cluster.core(node).view + 1))
    cluster.settle()
    return said(cluster, node, m.ViewChange)[-1]  # type: ignore[no-any-return]


def test_p16_a_laggard_that_is_shown_a_proof_and_a_proposal_beyond_the_boundary_hides_nothing() -> None:
    """More than f liars: the proof is true and opens its window beyond an end of the epoch that it has still to see."""
    cluster = change_behind()
    proof = cluster.core(2).checkpoints.proven
    cluster.inject(0, 3, proof)
    prepare(cluster, 3, 13)
    assert [vote.seq for vote in said(cluster, 3, m.Commit)] == [13], "vacuous"
    cluster.blocked = lambda packet: beyond(cluster, packet, 8)
    cluster.run(3 * SECOND)
    assert cluster.core(3).ends == 12
    assert [shown.seq for shown in leaves_its_view(cluster, 3).prepared] == [13]
    other = forge.pre_prepare(cluster, 0, 13, [cluster.request("ann", 2)])
    cluster.inject(0, 3, other)
    cluster.run(SECOND)
    assert not convictions(cluster, [3])[0]


def test_p16_what_was_prepared_is_shown_though_the_other_side_s_state_ends_the_epoch_before() -> None:
    """A fork: 2 has committed 14, and is then given a state of the other side, in which the epoch ends at 12."""
    cluster, other = Changing(4), Changing(4)
    for side, absent in ((cluster, 3), (other, 2)):
        side.add(4)
        side.crash(absent)
    other.change(add=[4])
    other.run(3 * SECOND)
    proof = other.plug(3).lineage.proof(0)
    assert proof.seq == 12
    cluster.work(8)
    prepare(cluster, 2, 14)
    assert said(cluster, 2, m.Commit)[-1].seq == 14, "vacuous"
    take_over(cluster, other)
    cluster.autosave = False
    cluster.inject(0, 2, proof)
    cluster.run(3 * SECOND)
    assert (cluster.core(2).executed, cluster.core(2).ends) == (12, 12)
    assert [shown.seq for shown in leaves_its_view(cluster, 2).prepared] == [14]
    assert not convictions(cluster, [2])[0]


def test_nobody_executes_beyond_the_boundary_what_f_plus_1_liars_have_decided_there() -> None:
    cluster = change_behind()
    cluster.inject(0, 3, cluster.core(2).checkpoints.proven)
    for seq in range(9, 15):
        prepare(cluster, 3, seq)
        cluster.inject(0, 3, forge.commit(cluster, 0, 0, seq, said(cluster, 3, m.Commit)[-1].digest))
        cluster.inject(1, 3, forge.commit(cluster, 1, 0, seq, said(cluster, 3, m.Commit)[-1].digest))
    cluster.autosave = False
    cluster.blocked = lambda packet: beyond(cluster, packet, 8)
    cluster.run(3 * SECOND)
    assert cluster.core(3).ordering.slots[13].decided is not None, "vacuous"
    assert (cluster.core(3).executed, cluster.core(3).ends) == (12, 12)


def prepare(cluster: Cluster, node: int, seq: int) -> None:
    """The liars 0 and 1 make `node` prepare something at `seq` in view 0."""
    proposed = forge.pre_prepare(cluster, 0, seq, [cluster.request("bob", seq)])
    cluster.inject(0, node, proposed)
    cluster.inject(1, node, forge.prepare(cluster, 1, 0, seq, proposed.digest))
    cluster.settle()


def take_over(cluster: Cluster, other: Cluster) -> None:
    """The liars 0 and 1 are those of the other side now."""
    for node in (0, 1):
        cluster.servers[node] = other.servers[node]
    cluster.network.clear()


# -------------------------------------------------------------------------------------------------- forks, and states


def diverged() -> Cluster:
    """A fork: 2 has executed one side up to 8, and signed its states at 4 and 8, of which it has seen no proof; then it
    is given the other side's state at 4."""
    cluster, other = World(4, (0, 1, 2)), World(4, (0, 1, 3))
    other.put("bob", 5)
    cluster.blocked = lambda packet: packet.to == 2 and isinstance(packet.message, (m.Checkpoint, m.CheckpointProof))
    cluster.put("ann", 8)
    assert {vote.seq for vote in said(cluster, 2, m.Checkpoint)} == {4, 8}, "vacuous"
    take_over(cluster, other)
    cluster.blocked = lambda packet: False
    cluster.inject(0, 2, other.core(3).checkpoints.proven)
    cluster.run(3 * SECOND)
    assert (cluster.core(2).executed, cluster.core(2).checkpoints.stable.seq) == (8, 4)
    return cluster


@pytest.mark.parametrize("restarts", [0, 1])
def test_p16_whose_state_is_replaced_signs_no_second_one(restarts: int) -> None:
    """What it had executed upon the former state is executed upon this one: that state is no one's."""
    cluster = diverged()
    for _ in range(restarts):
        cluster.restart(2)
        cluster.run(SECOND)
    assert not convictions(cluster, [2])[0]
    assert any(node == 2 and note.kind == "diverged" and note.detail["index"] == 8 for node, note in cluster.notes)


def lied_to(cluster: Cluster) -> None:
    """2 is refreshed. 0 and 1 say that they are nowhere, and so does 3, which is true."""
    cluster.blocked = lambda packet: isinstance(packet.sender, int) and packet.sender != 2
    cluster.step(2, Command("refresh", {}))
    cluster.settle()
    for node in (0, 1, 3):
        cluster.inject(node, 2, m.Standing(cluster.core(2).recovery.nonce, True, 2, True, 0, 0, 0))
    cluster.settle()
    assert cluster.core(2).recovery.checking, "vacuous"


def three_of_four() -> Cluster:
    cluster = Cluster(4, {**SMALL, "refresh": True})
    cluster.blocked = lambda packet: 3 in (packet.to, packet.sender)
    return cluster


@pytest.mark.parametrize("restarts", [0, 1])
def test_p16_a_refresh_forgets_nothing_that_a_quorum_has_signed(restarts: int) -> None:
    """More than f say that no correct replica can be far; its proof says otherwise."""
    cluster = three_of_four()
    for timestamp in range(1, 23):
        cluster.submit("ann", timestamp, range(3), low=timestamp - 1)
        cluster.run(100 * MS)
    assert cluster.core(2).executed == 22
    lied_to(cluster)
    for _ in range(restarts):
        cluster.restart(2)
    assert leaves_its_view(cluster, 2).checkpoint.seq == 20
    assert not convictions(cluster, [2])[0]


@pytest.mark.parametrize("restarts", [0, 1])
def test_p16_a_refresh_keeps_the_view_that_a_quorum_has_asked_for(restarts: int) -> None:
    cluster = three_of_four()
    for primary in (0, 1, 2, 3, 0):
        cluster.step(primary, Command("step-down", {}))
        cluster.run(3 * SECOND)
    view = cluster.core(2).view
    assert view > 3
    lied_to(cluster)
    for _ in range(restarts):
        cluster.restart(2)
    assert (cluster.core(2).view, cluster.core(2).ordering.active) == (view, True)
    leaves_its_view(cluster, 2)
    assert not convictions(cluster, [2])[0]


@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_p16_a_refresh_keeps_the_view_into_which_others_signed_it(restarts: int) -> None:
    """Liars ask for a view far away, are followed, and deny it: what 2 promised in asking for it stands."""
    cluster = Cluster(4, {**SMALL, "refresh": True})
    for node in (0, 1):
        cluster.inject(node, 2, forge.view_change(cluster, node, 41))
    cluster.settle()
    assert cluster.core(2).view == 41, "vacuous"
    for _ in range(restarts):  # before and after
        cluster.restart(2)
    lied_to(cluster)
    for _ in range(restarts // 2):
        cluster.restart(2)
    assert (cluster.core(2).view, cluster.core(2).ordering.active) == (41, False)


def test_p16_a_refresh_gives_up_the_view_that_nobody_else_has_signed() -> None:
    """Whoever was broken into may hold anything: it is not kept out of its views for ever."""
    cluster = Cluster(4, {**SMALL, "refresh": True})
    cluster.carry_out(2, cluster.core(2)._ask_for(41, "broken into"))
    cluster.inject(0, 2, forge.view_change(cluster, 0, 41))
    cluster.settle()
    lied_to(cluster)
    assert cluster.core(2).view == 0
