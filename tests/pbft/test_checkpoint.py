"""[CL99 4.3, 4.4] Checkpoints, cutting the log, fetching state; and coming back after a cut or a crash."""

from __future__ import annotations

from typing import Any

import pytest

from pbft import PbftCore
from pbft import messages as m
from pbft.notary import Notary
from pbft.state_transfer import StateTransfer
from replog.apps.counter import Counter
from replog.core import Part, Persist, Received, Send, Started, Trim
from replog.types import Request, Submit
from tests.pbft import forge
from tests.pbft.harness import SECOND, SMALL, Cluster, Packet, replace

D, E = b"d" * 32, b"e" * 32


def hear(cluster: Cluster, node: int, sender: int | str, message: Any) -> list[Any]:
    return cluster.step(node, Received(sender, message))


def load(cluster: Cluster, count: int, first: int = 1, client: str = "ann") -> None:
    """`count` operations, one after another."""
    for timestamp in range(first, first + count):
        cluster.submit(client, timestamp, low=timestamp - 1)
        cluster.settle()


# ------------------------------------------------------------------------------------------------------------ stability


def test_4_3_a_checkpoint_of_a_quorum_is_stable_and_the_log_is_cut() -> None:
    cluster = Cluster(options=SMALL)
    load(cluster, 5)
    for node in range(4):
        core = cluster.core(node)
        assert (core.checkpoints.stable.seq, core.ordering.low, core.ordering.high) == (4, 4, 12)
        assert sorted(core.ordering.slots) == [5]
        assert cluster.core(0).notary.flaw_in_checkpoint(core.checkpoints.stable) == ""
        assert all(index >= 5 for index, _ in cluster.disks[node].records)


def test_4_3_hard_state_is_written_anew_before_the_cut() -> None:
    """P44: behind the cut nothing is missing; Trim comes last."""
    cluster = Cluster(options=SMALL)
    cluster.crash(0)
    cluster.submit("ann", 1, range(4))
    cluster.run(2 * SECOND)
    assert set(cluster.views()) == {1}
    for timestamp in range(2, 6):
        cluster.submit("ann", timestamp, 1, low=timestamp - 1)
        cluster.settle()
    kept = [type(m.RECORDS.decode(raw)) for _, raw in cluster.disks[2].records]
    assert m.NewView in kept
    assert m.CheckpointProof in kept
    cluster.crash(2)
    cluster.start(2)
    assert (cluster.core(2).view, cluster.core(2).ordering.active, cluster.core(2).checkpoints.stable.seq) == (
        1,
        True,
        4,
    )


class NoQuorumForCheckpoints(PbftCore):
    class notary_type(Notary):  # noqa: N801
        def flaw_in_checkpoint(self, proof: m.CheckpointProof) -> str:
            return ""


def learned(core: type[PbftCore], message: m.CheckpointProof) -> int:
    cluster = Cluster(options=SMALL, core=core)
    hear(cluster, 1, 2, message)
    return cluster.core(1).checkpoints.proven.seq


def test_4_3_no_checkpoint_without_proof() -> None:
    """P9, P42, P43."""
    cluster = Cluster()
    good = forge.checkpoint_proof(cluster, 400, D, [0, 2, 3])
    assert learned(PbftCore, good) == 400
    assert learned(PbftCore, forge.checkpoint_proof(cluster, 400, D, [0, 2])) == 0
    assert learned(PbftCore, forge.checkpoint_proof(cluster, 402, D, [0, 2, 3])) == 0
    assert learned(PbftCore, replace(good, digest=E)) == 0
    assert learned(PbftCore, replace(good, votes=[good.votes[0]] * 3)) == 0
    assert learned(NoQuorumForCheckpoints, replace(good, digest=E)) == 400, "the broken core is told apart"


def test_4_3_votes_for_different_digests_prove_nothing() -> None:
    """P43: the SAME value."""
    cluster = Cluster(options=SMALL)
    hear(cluster, 1, 0, forge.checkpoint(cluster, 0, 4, D))
    hear(cluster, 1, 2, forge.checkpoint(cluster, 2, 4, E))
    hear(cluster, 1, 3, forge.checkpoint(cluster, 3, 4, D))
    assert cluster.core(1).checkpoints.proven.seq == 0
    hear(cluster, 1, 2, forge.checkpoint(cluster, 2, 4, D))
    assert cluster.core(1).checkpoints.proven.seq == 0, "a second word of node 2 counts for nothing"
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(2, "two-checkpoints")]


def test_4_3_a_vote_with_a_bad_signature_or_in_anothers_name_is_none() -> None:
    cluster = Cluster(options=SMALL)
    hear(cluster, 1, 0, replace(forge.checkpoint(cluster, 0, 4, D), signature=b"x"))
    hear(cluster, 1, 0, forge.checkpoint(cluster, 2, 4, D))
    assert "a vote in another's name" in cluster.rules(1)
    hear(cluster, 1, 2, forge.checkpoint(cluster, 2, 4, D))
    hear(cluster, 1, 3, forge.checkpoint(cluster, 3, 4, D))
    assert cluster.core(1).checkpoints.proven.seq == 0
    assert "bad signature of checkpoint" in cluster.rules(1)
    hear(cluster, 1, 0, forge.checkpoint(cluster, 0, 4, D))
    assert cluster.core(1).checkpoints.proven.seq == 4


@pytest.mark.parametrize("seq", [3, 12, 2**60])
def test_4_3_votes_outside_the_window_are_not_kept(seq: int) -> None:
    cluster = Cluster(options=SMALL)
    hear(cluster, 1, 0, forge.checkpoint(cluster, 0, seq, D))
    assert cluster.core(1).checkpoints.votes == {}


def test_4_3_a_proof_just_ahead_of_execution_starts_no_transfer() -> None:
    """The commits are under way: the window opens, execution goes on, then the replica stands on it."""
    cluster = Cluster(options=SMALL)
    cluster.holds = lambda packet: packet.to == 3 and type(packet.message) is m.Commit
    load(cluster, 5)
    core = cluster.core(3)
    assert (core.executed, core.checkpoints.proven.seq, core.checkpoints.stable.seq, core.ordering.high) == (
        0,
        4,
        0,
        12,
    )
    cluster.release()
    cluster.settle()
    assert (core.executed, core.checkpoints.stable.seq) == (5, 4)
    assert not any(type(message) is m.FetchPart for _, _, message in cluster.sent)


# ------------------------------------------------------------------------------------------------------------- transfer


def left_behind(cluster: Cluster, node: int = 3, count: int = 10) -> None:
    """`node` misses everything and its peers have discarded what it lacks."""
    load(cluster, 2)
    cluster.isolate(node)
    load(cluster, count, first=3)


def test_4_4_a_laggard_fetches_the_proved_state_and_goes_on() -> None:
    """P44."""
    cluster = Cluster(options=SMALL)
    left_behind(cluster)
    assert cluster.core(3).executed == 2
    cluster.heal()
    cluster.run(2 * SECOND)
    assert cluster.executed() == [12, 12, 12, 12]
    assert len(cluster.digests()) == 1
    assert any(type(message) is m.FetchPart for node, _, message in cluster.sent if node == 3)
    load(cluster, 3, first=13)
    assert cluster.executed() == [15, 15, 15, 15]
    assert cluster.check_agreement() > 0
    assert all(replica.status().in_sync for replica in cluster.replicas.values())


def test_4_4_who_waits_here_is_answered_when_the_state_has_jumped() -> None:
    """What they wait for was executed on the way; nobody executes it here any more."""
    cluster = Cluster(options=SMALL)
    load(cluster, 2)
    cluster.isolate(3)
    cluster.submit("bob", 1, range(4))
    cluster.settle()
    load(cluster, 9, first=3)
    assert ("bob", 1) in cluster.core(3).requests.pending
    cluster.replies.clear()
    cluster.heal()
    cluster.run(2 * SECOND)
    assert cluster.core(3).executed == 12
    assert not cluster.core(3).requests.pending
    assert cluster.replies.get(("bob", 1), {}).keys() == {3}


class TrustsParts(PbftCore):
    class transfer_type(StateTransfer):  # noqa: N801
        def on_wanted(self, event: Any) -> list[Any]:
            return super().on_wanted(replace(event, refused=False))


def test_4_4_a_poisoned_part_is_refused_and_another_peer_asked() -> None:
    """P41: whoever sends it is noted and asked no more."""
    cluster = Cluster(options=SMALL)
    left_behind(cluster)
    poison = 0
    send = cluster.send

    def lie(packet: Packet) -> None:
        nonlocal poison
        message = packet.message
        if packet.sender == 1 and type(message) is m.PartData and message.data:
            poison += 1
            packet = Packet(1, packet.to, m.MESSAGES.encode(replace(message, data=message.data[:-1] + b"\x00")))
        send(packet)

    cluster.send = lie  # type: ignore[method-assign]
    cluster.heal()
    cluster.run(3 * SECOND)
    assert poison >= 1
    assert any("does not match its digest" in rule for rule in cluster.rules(3))
    assert cluster.executed() == [12, 12, 12, 12]
    assert len(cluster.digests()) == 1


def test_4_4_a_peer_that_gives_nothing_is_passed_by() -> None:
    cluster = Cluster(options=SMALL)
    left_behind(cluster)
    cluster.blocked = lambda packet: packet.sender in (0, 1) and type(packet.message) is m.PartData
    cluster.run(4 * SECOND)
    assert cluster.executed() == [12, 12, 12, 12]


def test_4_4_if_the_state_has_moved_on_the_later_one_is_fetched() -> None:
    """P45: what was asked for is held no more."""
    cluster = Cluster(options=SMALL)
    left_behind(cluster)
    cluster.heal()
    cluster.blocked = lambda packet: type(packet.message) is m.PartData
    cluster.run(SECOND)
    assert cluster.core(3).transfer.running
    load(cluster, 12, first=13)
    cluster.heal()
    cluster.run(4 * SECOND)
    assert cluster.executed() == [24, 24, 24, 24]
    assert len(cluster.digests()) == 1


def test_4_4_a_transfer_during_a_view_change() -> None:
    """P45: the laggard's NEW-VIEW has a min-s beyond what it has executed; meanwhile it votes."""
    cluster = Cluster(7, options=SMALL)
    left_behind(cluster, node=6)
    cluster.heal()
    cluster.crash(0)
    cluster.submit("bob", 1, range(7))
    cluster.run(6 * SECOND)
    assert cluster.done("bob", 1)
    assert set(cluster.views()) == {1}
    assert len(set(cluster.executed())) == 1
    assert len(cluster.digests()) == 1


def test_a_replica_whose_own_state_is_wrong_takes_the_proved_one() -> None:
    """Its digest at a proved checkpoint is another: a fault here; the state is replaced and executed on."""
    cluster = Cluster(options=SMALL)
    load(cluster, 3)
    cluster.replicas[3].executor._runtime.run([Counter.operation("add", 1000)], False, (0, 0))
    load(cluster, 3, first=4)
    assert any(note.kind == "diverged" for node, note in cluster.notes if node == 3)
    cluster.run(3 * SECOND)
    assert cluster.executed() == [6, 6, 6, 6]
    assert len(cluster.digests()) == 1


# --------------------------------------------------------------------------------------------------------------- rejoin


def test_a_replica_that_was_cut_off_gets_exactly_what_it_missed() -> None:
    """Within the window: certificates and bodies, no state. [CL02 status]"""
    cluster = Cluster()
    load(cluster, 2)
    cluster.isolate(3)
    load(cluster, 20, first=3)
    cluster.heal()
    cluster.run(2 * SECOND)
    assert cluster.executed() == [22] * 4
    assert not any(type(message) is m.FetchPart for _, _, message in cluster.sent)
    assert cluster.views() == [0] * 4
    assert cluster.check_agreement() > 0


def test_an_idle_laggard_catches_up_without_any_request() -> None:
    cluster = Cluster()
    cluster.isolate(3)
    load(cluster, 3)
    cluster.heal()
    cluster.run(SECOND)
    assert cluster.executed() == [3] * 4


def test_a_replica_that_missed_a_view_change_gets_the_new_view() -> None:
    cluster = Cluster()
    load(cluster, 1)
    cluster.isolate(3)
    cluster.core(0).ordering.leave(0)  # it stops proposing
    cluster.submit("ann", 2, (1, 2), low=1)
    for node in (0, 1, 2):
        cluster.carry_out(node, cluster.core(node)._ask_for(1, "test"))
    cluster.run(SECOND)
    assert cluster.views() == [1, 1, 1, 0]
    cluster.heal()
    cluster.run(2 * SECOND)
    assert cluster.views() == [1] * 4
    assert cluster.executed() == [2] * 4


@pytest.mark.parametrize("auth", ["signatures", "macs"])
@pytest.mark.parametrize("lost", [m.PrePrepare, m.Prepare, m.Commit, m.Checkpoint])
def test_what_is_lost_once_is_sent_again_without_a_view_change(lost: type[Any], auth: str) -> None:
    cluster = Cluster(options={**SMALL, "auth": auth})
    cluster.blocked = lambda packet: type(packet.message) is lost
    for timestamp in range(1, 6):
        cluster.submit("ann", timestamp)
    cluster.settle()
    cluster.heal()
    cluster.run(SECOND)
    assert set(cluster.views()) == {0}
    assert set(cluster.executed()) == {5}
    assert {cluster.core(node).checkpoints.stable.seq for node in range(4)} == {4}


def test_a_status_is_answered_within_a_budget() -> None:
    """No peer makes a correct replica send without end."""
    cluster = Cluster()
    load(cluster, 60)
    status = m.Status(0, True, 0, 0, True, b"", [])
    answers = [hear(cluster, 1, 3, status) for _ in range(10)]
    assert [sum(isinstance(effect, Send) for effect in effects) for effects in answers] == [32] * 2 + [0] * 8
    cluster.now += cluster.options.status_interval_us
    assert hear(cluster, 1, 3, status)


def test_bodies_and_parts_are_given_within_a_budget() -> None:
    cluster = Cluster(options={"request_bytes_max": 1024 * 1024})
    big = Request.make(cluster.signers["ann"].sign, cluster.domain, "ann", 1, 0, [b"x" * 1_000_000])
    cluster.inject("ann", 0, Submit(big.raw))
    cluster.settle()
    (digest,) = cluster.core(1).ordering.slots[1].bodies
    given = [len(hear(cluster, 1, 3, m.FetchBatch(1, digest))) for _ in range(8)]
    assert given == [1] * 5 + [0] * 3, "4 MiB"
    assert hear(cluster, 1, 2, m.FetchBatch(1, digest)), "to each peer its own"
    asked = [hear(cluster, 1, 2, m.FetchPart(0, 0)) for _ in range(300)]
    assert sum(bool(effects) for effects in asked) == 256
    read = [Part(0, 0, b"x" * 1_000_000, -1, 0) for _ in range(8)]
    assert [len(cluster.core(1).giving.part(cluster.now, part)) for part in read] == [1] * 5 + [0] * 3, "4 MiB"


def test_a_status_that_claims_the_moon_moves_nobody() -> None:
    """P42."""
    cluster = Cluster()
    load(cluster, 1)
    hear(cluster, 1, 3, m.Status(2**62, True, 2**62, 2**62, True, b"", []))
    assert cluster.replicas[1].status().in_sync
    cluster.run(SECOND)
    assert cluster.views() == [0] * 4


def test_early_messages_wait_for_their_view_within_bounds() -> None:
    """P21."""
    cluster = Cluster()
    message = forge.pre_prepare(cluster, 1, 1, [cluster.request("ann", 1)])
    hear(cluster, 3, 1, message)
    hear(cluster, 3, 2, forge.prepare(cluster, 2, 1, 1, message.digest))
    for seq in range(2, 2000):
        hear(cluster, 3, 0, forge.prepare(cluster, 0, 1, seq, D))
    cluster.core(3).acceptance.early.check_invariants()
    asks = [forge.view_change(cluster, node, 1) for node in (0, 1, 2)]
    effects = hear(cluster, 3, 2, forge.new_view(cluster, 1, asks, []))
    assert any(isinstance(effect, Send) and isinstance(effect.message, m.Commit) for effect in effects)


# -------------------------------------------------------------------------------------------------------------- restart


def restart(cluster: Cluster, *nodes: int) -> None:
    for node in nodes:
        cluster.crash(node)
    for node in nodes:
        cluster.start(node)


class Amnesiac(PbftCore):
    def _recall(self) -> None:
        """Starts empty, whatever is on its disk."""


def second_answer(core: type[PbftCore]) -> list[str]:
    """Node 1 accepts a pre-prepare, restarts, and is offered another one for the same place."""
    cluster = Cluster(core=core)
    hear(cluster, 1, 0, forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)]))
    restart(cluster, 1)
    before = len(cluster.sent)
    hear(cluster, 1, 0, forge.pre_prepare(cluster, 0, 1, [cluster.request("bob", 1)]))
    return [type(message).__name__ for _, _, message in cluster.sent[before:]]


def test_p16_an_accepted_pre_prepare_survives_a_restart() -> None:
    assert second_answer(PbftCore) == ["Testimony"], "both are shown to all"
    assert second_answer(Amnesiac) == ["Prepare"], "the broken core is told apart"


def test_p16_a_primary_proposes_no_number_twice() -> None:
    cluster = Cluster(options=SMALL)
    cluster.blocked = lambda packet: True
    hear(cluster, 0, "ann", Submit(cluster.request("ann", 1).raw))
    restart(cluster, 0)
    hear(cluster, 0, "bob", Submit(cluster.request("bob", 1).raw))
    places = [(message.seq, message.digest) for _, _, message in cluster.sent if type(message) is m.PrePrepare]
    assert [seq for seq, _ in places] == [1, 1, 2]
    assert len(set(places)) == 2


def test_p16_a_view_change_survives_a_restart() -> None:
    cluster = Cluster()
    cluster.carry_out(1, cluster.core(1)._ask_for(1, "test"))
    restart(cluster, 1)
    assert (cluster.core(1).view, cluster.core(1).ordering.active) == (1, False)
    sent = [message for node, _, message in cluster.sent if node == 1 and type(message) is m.ViewChange]
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert hear(cluster, 1, 0, forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)])) == []


def test_p16_a_prepared_certificate_survives_a_restart() -> None:
    cluster = Cluster()
    cluster.blocked = lambda packet: type(packet.message) is m.Commit
    load(cluster, 1)
    restart(cluster, 2)
    message = cluster.core(2).view_changes.ask(1, cluster.core(2).checkpoints, cluster.core(2).ordering)
    assert [proof.seq for proof in message.prepared] == [1]
    assert cluster.core(1).notary.flaw_in_view_change(message) == ""


def test_a_cluster_killed_as_a_whole_goes_on_by_itself() -> None:
    """Votes above what was executed are sent again; nobody asks for anything. [deviates]"""
    for phase in (m.Prepare, m.Commit):
        cluster = Cluster(options=SMALL)
        load(cluster, 5)
        cluster.blocked = lambda packet, phase=phase: type(packet.message) is phase  # type: ignore[misc]
        cluster.submit("ann", 6)
        cluster.submit("bob", 1)
        cluster.settle()
        cluster.heal()
        restart(cluster, 0, 1, 2, 3)
        cluster.settle()
        assert cluster.executed() == [7, 7, 7, 7], phase
        assert len(cluster.digests()) == 1


def test_a_restarted_replica_loses_nothing_that_it_executed() -> None:
    cluster = Cluster(options=SMALL)
    load(cluster, 7)
    restart(cluster, 3)
    cluster.run(SECOND)
    assert cluster.executed() == [7, 7, 7, 7]
    assert len(cluster.digests()) == 1
    load(cluster, 3, first=8)
    assert cluster.executed() == [10] * 4


def test_a_stable_checkpoint_beyond_the_saved_state_is_fetched() -> None:
    """The disk has the proof, not the state: it was saved in the background."""
    cluster = Cluster(options=SMALL)
    cluster.isolate(3)
    load(cluster, 9)
    cluster.heal()
    cluster.run(2 * SECOND)
    assert cluster.core(3).executed == 9
    cluster.crash(3)
    cluster.disks[3].saved = None
    cluster.start(3)
    assert (cluster.core(3).executed, cluster.core(3).checkpoints.proven.seq) == (0, 8)
    cluster.run(2 * SECOND)
    assert cluster.executed() == [9] * 4
    assert len(cluster.digests()) == 1


def test_what_a_new_view_proved_is_known_after_a_restart() -> None:
    """Its min-s opens the window; slots were accepted on its strength."""
    cluster = Cluster(options=SMALL)
    low = forge.checkpoint_proof(cluster, 8, D, [0, 1, 2])
    asks = [forge.view_change(cluster, node, 1, [], low) for node in (0, 1, 2)]
    hear(cluster, 3, 1, forge.new_view(cluster, 1, asks, []))
    hear(cluster, 3, 1, forge.pre_prepare(cluster, 1, 15, [cluster.request("ann", 1)]))
    assert 15 in cluster.core(3).ordering.slots
    assert cluster.core(3).checkpoints.proven == low
    restart(cluster, 3)
    assert (cluster.core(3).view, cluster.core(3).checkpoints.proven.seq) == (1, 8)
    assert cluster.core(3).ordering.slots[15].digest is not None


def test_what_a_proof_let_in_is_known_after_a_restart() -> None:
    """The slots that it opened the window for were promised; without it they would lie beyond the window."""
    cluster = Cluster(options=SMALL)
    hear(cluster, 3, 1, forge.checkpoint_proof(cluster, 8, D, [0, 1, 2]))
    hear(cluster, 3, 0, forge.pre_prepare(cluster, 0, 15, [cluster.request("ann", 1)]))
    assert 15 in cluster.core(3).ordering.slots
    restart(cluster, 3)
    core = cluster.core(3)
    assert (core.checkpoints.proven.seq, core.ordering.high) == (8, 16)
    assert core.ordering.slots[15].digest is not None


def test_construction_changes_nothing_and_start_is_all() -> None:
    """Recovery is construction: the same disk gives the same first step."""
    cluster = Cluster(options=SMALL)
    load(cluster, 6)
    cluster.network.clear()
    first = [effect for effect in _started(cluster, 2) if isinstance(effect, (Send, Persist, Trim))]
    again = [effect for effect in _started(cluster, 2) if isinstance(effect, (Send, Persist, Trim))]
    assert first == again


def _started(cluster: Cluster, node: int) -> list[Any]:
    cluster.crash(node)
    before = list(cluster.disks[node].records)
    effects: list[Any] = []
    step = cluster.step
    cluster.step = lambda at, event: effects.extend(step(at, event)) or effects  # type: ignore[method-assign,func-returns-value]
    cluster.start(node)
    cluster.step = step  # type: ignore[method-assign]
    cluster.disks[node].records = before
    assert isinstance(Started(), Started)
    return effects
