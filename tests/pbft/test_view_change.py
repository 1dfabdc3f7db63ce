"""[CL99 4.4] View changes, rule by rule; each refusal beside a core that does not refuse."""

from __future__ import annotations

from typing import Any

import pytest

from pbft import PbftCore
from pbft import messages as m
from pbft.notary import Notary
from pbft.view_change import ViewChanges
from replog.core import Persist, Received, Send, SetTimer, Timeout
from replog.types import Submit
from tests.pbft import forge
from tests.pbft.harness import EPOCH_US, PHASES, SECOND, SMALL, Cluster, replace

NULL = m.NULL.digest
D, E = b"d" * 32, b"e" * 32


def hear(cluster: Cluster, node: int, sender: int | str, message: Any) -> list[Any]:
    return cluster.step(node, Received(sender, message))


def quorum_asks(
    cluster: Cluster, view: int, proofs: dict[int, list[m.PreparedProof]] | None = None
) -> list[m.ViewChange]:
    """View-changes of nodes 1, 2, 3 for `view`."""
    return [forge.view_change(cluster, node, view, (proofs or {}).get(node)) for node in (1, 2, 3)]


# ------------------------------------------------------------------------------------------------------------- choosing


def choice(core: type[PbftCore], proofs: dict[int, list[m.PreparedProof]], low: m.CheckpointProof = m.GENESIS) -> Any:
    cluster = Cluster(core=core)
    parts = [
        forge.view_change(cluster, node, 5, proofs.get(node), low if node == 2 else m.GENESIS) for node in (1, 2, 3)
    ]
    chosen = cluster.core(0).view_changes.choose(parts)[1]
    return [(item, NULL) if isinstance(item, int) else (item.seq, item.digest) for item in chosen]


class TakesTheLowestView(PbftCore):
    class view_changes_type(ViewChanges):  # noqa: N801
        def choose(self, view_changes: Any) -> Any:
            low, chosen = super().choose(view_changes)
            proofs = [proof for part in view_changes for proof in part.prepared]
            lowest = {proof.seq: proof for proof in sorted(proofs, key=lambda proof: -proof.view)}
            return low, [lowest.get(item if isinstance(item, int) else item.seq, item) for item in chosen]


class ForgetsThePrepared(PbftCore):
    class view_changes_type(ViewChanges):  # noqa: N801
        def choose(self, view_changes: Any) -> Any:
            low, chosen = super().choose(view_changes)
            return low, [item if isinstance(item, int) else item.seq for item in chosen]


def test_4_4_the_highest_view_decides_each_seq_and_gaps_are_null() -> None:
    """P3, P8."""
    cluster = Cluster()
    proofs = {
        1: [forge.prepared(cluster, 0, 1, D, [1, 2]), forge.prepared(cluster, 0, 4, D, [1, 2])],
        3: [forge.prepared(cluster, 2, 1, E, [1, 3])],
    }
    assert choice(PbftCore, proofs) == [(1, E), (2, NULL), (3, NULL), (4, D)]
    assert choice(TakesTheLowestView, proofs)[0] == (1, D), "the broken core is told apart"


def test_4_4_min_s_is_the_latest_stable_checkpoint() -> None:
    """P9: what lies below it is not proposed again."""
    cluster = Cluster()
    proofs = {1: [forge.prepared(cluster, 0, 128, D, [1, 2]), forge.prepared(cluster, 0, 130, D, [1, 2])]}
    low = forge.checkpoint_proof(cluster, 128, D, [0, 1, 2])
    assert choice(PbftCore, proofs, low) == [(129, NULL), (130, D)]
    assert choice(PbftCore, {}, low) == []
    assert choice(PbftCore, {}) == []


# ----------------------------------------------------------------------------------------------- what VIEW-CHANGE holds


def bad_view_changes(cluster: Cluster) -> dict[str, m.ViewChange]:
    """All by node 2 for view 1; each is properly signed unless it says otherwise."""
    good = forge.prepared(cluster, 0, 1, D, [1, 2])
    proof = forge.checkpoint_proof(cluster, 128, D, [0, 1, 2])

    def of(*proofs: m.PreparedProof, low: m.CheckpointProof = m.GENESIS, view: int = 1) -> m.ViewChange:
        return forge.view_change(cluster, 2, view, list(proofs), low)

    def spoilt(votes: list[m.Vote]) -> m.ViewChange:
        return of(replace(good, votes=votes))

    one, two = good.votes
    return {
        "a prepared set of too few votes": spoilt([one]),
        "one vote twice": spoilt([one, one]),
        "more votes than a certificate has": of(forge.prepared(cluster, 0, 1, D, [1, 2, 3])),
        "votes out of order": spoilt([two, one]),
        "a vote of the primary": of(forge.prepared(cluster, 0, 1, D, [0, 1])),
        "a vote that was not cast": spoilt([one, replace(two, signature=b"x" * 16)]),
        "a vote for something else": spoilt([one, m.Vote(2, forge.prepare(cluster, 2, 0, 1, E).signature)]),
        "a commit for a prepare": spoilt([one, m.Vote(2, forge.commit(cluster, 2, 0, 1, D).signature)]),
        "a voter who is no member": spoilt([one, m.Vote(9, two.signature)]),
        "a pre-prepare that the primary did not sign": of(replace(good, signature=one.signature)),
        "a prepared view to come": of(forge.prepared(cluster, 1, 1, D, [2, 3])),
        "a seq beyond the window": of(forge.prepared(cluster, 0, 257, D, [1, 2])),
        "a seq below its checkpoint": of(forge.prepared(cluster, 0, 128, D, [1, 2]), low=proof),
        "one seq twice": of(good, good),
        "seqs out of order": of(forge.prepared(cluster, 0, 2, D, [1, 2]), good),
        "a checkpoint without a quorum": of(low=forge.checkpoint_proof(cluster, 128, D, [0, 1])),
        "a checkpoint that is none": of(low=forge.checkpoint_proof(cluster, 127, D, [0, 1, 2])),
        "a checkpoint with a bad vote": of(low=replace(proof, digest=E)),
        "another state at seq 0": of(low=m.CheckpointProof(0, D, [])),
        "no signature": replace(of(good), signature=b"x" * 16),
        "a list changed after signing": replace(of(good), prepared=[]),
        "a checkpoint changed after signing": replace(of(), checkpoint=proof),
    }


class ChecksNoCertificate(PbftCore):
    class notary_type(Notary):  # noqa: N801
        def flaw_in_prepared(self, proof: m.PreparedProof) -> str:
            return ""


@pytest.mark.parametrize("what", bad_view_changes(Cluster()).keys())
def test_4_4_a_view_change_is_refused_with(what: str) -> None:
    """P1, P2: that message alone; others count."""
    cluster = Cluster()
    message = bad_view_changes(cluster)[what]
    hear(cluster, 1, 2, message)
    assert 2 not in cluster.core(1).view_changes.heard
    assert cluster.rules(1), "refused with a reason"
    for node in (0, 3):
        hear(cluster, 1, node, forge.view_change(cluster, node, 1))
    assert cluster.core(1).ordering.active
    assert cluster.core(1).view == 1


def test_4_4_a_core_that_checks_no_certificate_is_told_apart() -> None:
    cluster = Cluster(core=ChecksNoCertificate)
    hear(cluster, 1, 2, bad_view_changes(cluster)["a vote that was not cast"])
    assert 2 in cluster.core(1).view_changes.heard


def test_4_4_a_good_view_change_is_kept() -> None:
    cluster = Cluster()
    proof = forge.checkpoint_proof(cluster, 128, D, [0, 1, 2])
    message = forge.view_change(cluster, 2, 1, [forge.prepared(cluster, 0, 130, D, [1, 3])], proof)
    hear(cluster, 1, 2, message)
    assert cluster.core(1).view_changes.heard.get(2) == message


def test_4_4_one_view_change_a_sender_a_view_and_another_proves_a_lie() -> None:
    """P6: versions are never mixed."""
    cluster = Cluster()
    first = forge.view_change(cluster, 2, 1)
    second = forge.view_change(cluster, 2, 1, [forge.prepared(cluster, 0, 1, D, [1, 2])])
    hear(cluster, 1, 2, first)
    hear(cluster, 1, 2, first)
    assert cluster.accusations == []
    hear(cluster, 1, 2, replace(second, signature=b"x"))
    assert cluster.accusations == []
    cluster.now += cluster.options.status_interval_us
    hear(cluster, 1, 2, second)
    assert cluster.core(1).view_changes.heard[2] == first
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(2, "two-view-changes")]


def test_4_4_a_view_change_in_anothers_name_is_refused() -> None:
    cluster = Cluster()
    hear(cluster, 1, 3, forge.view_change(cluster, 2, 1))
    assert cluster.core(1).view_changes.heard == {}


def test_4_4_what_a_replica_says_on_leaving_can_be_checked_by_all() -> None:
    """P has what prepared above the checkpoint, and that VIEW-CHANGE is on disk before it leaves (P16)."""
    cluster = Cluster(options=SMALL)
    for timestamp in range(1, 7):
        cluster.submit("ann", timestamp)
        cluster.settle()
    cluster.submit("ann", 7, to=1)
    cluster.blocked = lambda packet: packet.sender == 0 or packet.to == 0
    cluster.run(SECOND // 2)
    effects = cluster.step(1, Timeout("request"))
    said = [effect for effect in effects if isinstance(effect, (Persist, Send))][:2]
    assert isinstance(said[0], Persist)
    assert isinstance(said[1], Send)
    message = said[1].message
    assert said[0].record is message
    assert isinstance(message, m.ViewChange)
    assert (message.view, message.checkpoint.seq, [proof.seq for proof in message.prepared]) == (1, 4, [5, 6])
    assert cluster.core(3).notary.flaw_in_view_change(message) == ""


def test_4_4_after_view_change_no_vote_in_the_old_view() -> None:
    cluster = Cluster()
    message = forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)])
    hear(cluster, 1, 0, message)
    cluster.core(1)._ask_for(1, "test")
    before = len(cluster.sent)
    hear(cluster, 1, 2, forge.prepare(cluster, 2, 0, 1, message.digest))
    hear(cluster, 1, 0, forge.pre_prepare(cluster, 0, 2, [cluster.request("ann", 2)]))
    for voter in (0, 2, 3):
        hear(cluster, 1, voter, forge.commit(cluster, voter, 0, 1, message.digest))
    assert len(cluster.sent) == before


# --------------------------------------------------------------------------------------------------------- new view


def test_4_4_the_primary_of_the_next_view_begins_it_with_a_quorum() -> None:
    """On disk, then out; O is signed as pre-prepares of the new view."""
    cluster = Cluster()
    proofs = {2: [forge.prepared(cluster, 0, 2, D, [2, 3])]}
    asks = quorum_asks(cluster, 1, proofs)
    cluster.core(1)._ask_for(1, "test")
    hear(cluster, 1, 2, asks[1])
    effects = hear(cluster, 1, 3, asks[2])
    said = [effect for effect in effects if isinstance(effect, (Persist, Send))][:2]
    assert isinstance(said[0], Persist)
    assert isinstance(said[0].record, m.NewView)
    assert isinstance(said[1], Send)
    message = said[1].message
    assert isinstance(message, m.NewView)
    assert [(item.seq, item.digest) for item in message.pre_prepares] == [(1, NULL), (2, D)]
    assert cluster.core(3).view_changes.flaw_in_new_view(message) == ""
    assert cluster.core(1).ordering.active
    assert cluster.core(1).ordering.next_seq == 3


def bad_new_views(cluster: Cluster) -> dict[str, m.NewView]:
    """For view 1; each is properly signed by its primary unless it says otherwise."""
    proofs = {2: [forge.prepared(cluster, 0, 2, D, [2, 3])], 3: [forge.prepared(cluster, 0, 1, E, [1, 3])]}
    asks = quorum_asks(cluster, 1, proofs)
    right = [(1, E), (2, D)]
    good = forge.new_view(cluster, 1, asks, right)
    by_another = forge.sign(cluster, 2, "new-view", (1, m.new_view_digest(good)))
    forged = replace(asks[1], signature=b"x" * 16)
    bad_proof = forge.view_change(cluster, 2, 1, [forge.prepared(cluster, 0, 2, D, [2])])
    return {
        "V of too few": forge.new_view(cluster, 1, asks[:2], [(1, NULL), (2, D)]),
        "one sender twice in V": forge.new_view(cluster, 1, [asks[0], asks[1], asks[1]], [(1, NULL), (2, D)]),
        "V out of order": forge.new_view(cluster, 1, asks[::-1], right),
        "V for another view": forge.new_view(
            cluster, 1, [*asks[:2], forge.view_change(cluster, 3, 2)], [(1, NULL), (2, D)]
        ),
        "a forged view-change in V": forge.new_view(cluster, 1, [asks[0], forged, asks[2]], right),
        "a bad certificate in V": forge.new_view(cluster, 1, [asks[0], bad_proof, asks[2]], right),
        "a prepared request dropped": forge.new_view(cluster, 1, asks, [(1, NULL), (2, D)]),
        "another digest for a prepared one": forge.new_view(cluster, 1, asks, [(1, D), (2, D)]),
        "a seq too many": forge.new_view(cluster, 1, asks, [*right, (3, D)]),
        "a seq too few": forge.new_view(cluster, 1, asks, right[:1]),
        "O out of order": forge.new_view(cluster, 1, asks, right[::-1]),
        "O empty": forge.new_view(cluster, 1, asks, []),
        "a pre-prepare that is not signed": replace(
            (
                unsigned := replace(
                    good, pre_prepares=[replace(good.pre_prepares[0], signature=b"x"), good.pre_prepares[1]]
                )
            ),
            signature=forge.sign(cluster, 1, "new-view", (1, m.new_view_digest(unsigned))),
        ),
        "another's signature": replace(good, signature=by_another),
        "no signature": replace(good, signature=b"x" * 16),
        "V changed after signing": replace(good, view_changes=asks[::-1]),
    }


class DoesNotRecomputeO(PbftCore):
    class view_changes_type(ViewChanges):  # noqa: N801
        def flaw_in_choice(self, message: m.NewView) -> str:
            return ""


@pytest.mark.parametrize("what", bad_new_views(Cluster()).keys())
def test_4_4_a_new_view_is_refused_with(what: str) -> None:
    """P1, P4: quorum of distinct senders, one view, its primary's signature, every certificate, O recomputed."""
    cluster = Cluster()
    hear(cluster, 3, 1, bad_new_views(cluster)[what])
    assert cluster.core(3).view == 0
    assert cluster.rules(3)


@pytest.mark.parametrize("what", ["a prepared request dropped", "another digest for a prepared one", "O empty"])
def test_4_4_a_core_that_does_not_recompute_o_is_told_apart(what: str) -> None:
    cluster = Cluster(core=DoesNotRecomputeO)
    hear(cluster, 3, 1, bad_new_views(cluster)[what])
    assert cluster.core(3).view == 1


def test_p6_view_changes_of_different_views_do_not_add_up() -> None:
    """Node 3 asks for view 2 already: that is no word for view 1. Its timer may run, though. [CL99 4.5.2]"""
    cluster = Cluster()
    cluster.core(1)._ask_for(1, "test")
    hear(cluster, 1, 2, forge.view_change(cluster, 2, 1))
    hear(cluster, 1, 3, forge.view_change(cluster, 3, 2))
    assert (cluster.core(1).view, cluster.core(1).ordering.active) == (1, False)
    assert not any(type(message) is m.NewView for _, _, message in cluster.sent)
    hear(cluster, 1, 0, forge.view_change(cluster, 0, 1))
    assert (cluster.core(1).view, cluster.core(1).ordering.active) == (1, True)


def test_4_4_a_backup_accepts_a_proper_new_view_and_prepares_what_it_can() -> None:
    """On disk before its votes; null requests need no body, a missing one is asked of those that have it (P15)."""
    cluster = Cluster()
    asks = quorum_asks(cluster, 1, {2: [forge.prepared(cluster, 0, 2, D, [2, 3])]})
    effects = hear(cluster, 0, 2, forge.new_view(cluster, 1, asks, [(1, NULL), (2, D)]))
    said = [effect for effect in effects if isinstance(effect, (Persist, Send))]
    assert isinstance(said[0], Persist)
    assert isinstance(said[0].record, m.NewView)
    votes = [effect.message for effect in said if isinstance(effect, Send)]
    assert [(type(vote).__name__, getattr(vote, "seq", 0)) for vote in votes] == [("Prepare", 1), ("FetchBatch", 2)]
    assert [effect.to for effect in said if isinstance(effect, Send)][1] == (2, 3)


def test_4_4_the_first_new_view_for_a_view_stands_and_a_second_proves_a_lie() -> None:
    """P5."""
    cluster = Cluster()
    asks = quorum_asks(cluster, 1)
    others = [forge.view_change(cluster, 0, 1), *asks[1:]]
    first, second = forge.new_view(cluster, 1, asks, []), forge.new_view(cluster, 1, others, [])
    hear(cluster, 3, 1, first)
    hear(cluster, 3, 1, first)
    assert cluster.accusations == []
    hear(cluster, 3, 1, second)
    assert cluster.core(3).view_changes.new_view == first
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(1, "two-new-views")]


def test_4_4_nothing_at_or_below_min_s_is_voted_on() -> None:
    """What lies there was decided, by whomever: no new digest for it, though this replica has not executed it."""
    cluster = Cluster(options=SMALL)
    low = forge.checkpoint_proof(cluster, 8, D, [0, 1, 2])
    asks = [forge.view_change(cluster, node, 1, [], low) for node in (0, 1, 2)]
    hear(cluster, 3, 1, forge.new_view(cluster, 1, asks, []))
    for seq in (1, 8):
        hear(cluster, 3, 1, forge.pre_prepare(cluster, 1, seq, [cluster.request("ann", seq)]))
    assert not cluster.core(3).ordering.slots
    hear(cluster, 3, 1, forge.pre_prepare(cluster, 1, 9, [cluster.request("ann", 9)]))
    assert sorted(cluster.core(3).ordering.slots) == [9]


def test_4_4_no_request_gets_a_second_number_in_a_new_view() -> None:
    """O has a digest whose body the primary lacks: until it knows what is in it, it proposes nothing."""
    cluster = Cluster(options={"batch_delay_us": 0})
    request = cluster.request("ann", 1)
    batch = m.Batch(EPOCH_US, [request])
    hear(cluster, 1, "ann", Submit(request.raw))
    cluster.carry_out(1, cluster.core(1)._ask_for(1, "test"))
    proofs = [forge.prepared(cluster, 0, 1, batch.digest, [2, 3])]
    for node in (2, 3):
        hear(cluster, 1, node, forge.view_change(cluster, node, 1, proofs))
    core = cluster.core(1)
    assert (core.ordering.leads, core.ordering.slots[1].digest, core.ordering.slots[1].body) == (
        True,
        batch.digest,
        None,
    )
    assert core.ordering.next_seq == 2
    hear(cluster, 1, 2, m.BatchData(1, batch.time, batch.raws))
    assert core.ordering.slots[1].body is not None
    assert core.ordering.next_seq == 2
    hear(cluster, 1, "bob", Submit(cluster.request("bob", 1).raw))
    assert core.ordering.next_seq == 3, "others get theirs"


def test_4_4_new_pre_prepares_follow_max_s() -> None:
    """And a pre-prepare of the new view for a seq in O is what O says, or a lie."""
    cluster = Cluster()
    asks = quorum_asks(cluster, 1)
    hear(cluster, 3, 1, forge.new_view(cluster, 1, asks, []))
    hear(cluster, 3, 1, forge.pre_prepare(cluster, 1, 1, [cluster.request("ann", 1)]))
    assert cluster.core(3).ordering.slots[1].digest is not None

    cluster = Cluster()
    asks = quorum_asks(cluster, 1, {2: [forge.prepared(cluster, 0, 1, D, [2, 3])]})
    hear(cluster, 3, 1, forge.new_view(cluster, 1, asks, [(1, D)]))
    hear(cluster, 3, 1, forge.pre_prepare(cluster, 1, 1, [cluster.request("ann", 1)]))
    assert cluster.core(3).ordering.slots[1].digest == D
    assert [said.kind for _, said in cluster.accusations] == ["two-pre-prepares"]


# ----------------------------------------------------------------------------------------------------------- as a whole


def crash_primary(cluster: Cluster) -> None:
    cluster.crash(cluster.core(1).primary)


@pytest.mark.parametrize("n", [4, 6, 7])
def test_4_4_a_silent_primary_is_replaced_and_the_request_executed(n: int) -> None:
    cluster = Cluster(n)
    cluster.submit("ann", 1, range(n))
    cluster.settle()
    crash_primary(cluster)
    cluster.submit("ann", 2, range(n), low=1)
    cluster.run(3 * SECOND)
    assert cluster.done("ann", 2)
    assert set(cluster.views()) == {1}
    assert cluster.check_agreement() > 0
    assert "node 0 was silent for" in cluster.replicas[2].status().reason


def lost_commit(core: type[PbftCore]) -> Cluster:
    """Seq 1 commits at node 3 alone, then the primary dies: every later view must keep it. [CL99 4.5.1]"""
    cluster = Cluster(core=core)
    cluster.blocked = lambda packet: type(packet.message) is m.Commit and packet.to != 3
    cluster.submit("ann", 1, range(4))
    cluster.settle()
    assert cluster.executed() == [0, 0, 0, 1]
    cluster.crash(0)
    cluster.heal()
    cluster.blocked = lambda packet: type(packet.message) is m.Committed
    cluster.submit("bob", 1, range(4))
    cluster.run(4 * SECOND)
    return cluster


def test_4_5_1_what_committed_anywhere_keeps_its_number() -> None:
    cluster = lost_commit(PbftCore)
    assert cluster.done("bob", 1)
    assert cluster.executed() == [2, 2, 2]
    assert cluster.check_agreement() > 0


def test_4_5_1_a_core_that_forgets_the_prepared_forks_without_any_liar() -> None:
    with pytest.raises(AssertionError):
        lost_commit(ForgetsThePrepared).check_agreement()


def test_4_4_requests_that_lost_their_number_wait_again() -> None:
    """Seq 1 was proposed to all and prepared by nobody; the new view has nothing of it, and yet it is executed."""
    cluster = Cluster()
    cluster.blocked = lambda packet: type(packet.message) is m.Prepare
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.crash(0)
    cluster.blocked = lambda packet: type(packet.message) in PHASES and packet.message.view == 0
    cluster.run(4 * SECOND)
    assert cluster.done("ann", 1)
    assert set(cluster.views()) == {1}


def test_4_4_a_missing_body_is_fetched_by_its_digest() -> None:
    """P15: node 3 never got the body; the new view proposes its digest, and nobody sends it the body unasked."""
    cluster = Cluster()
    cluster.blocked = lambda packet: (
        type(packet.message) is m.Commit or (packet.to == 3 and type(packet.message) in (m.PrePrepare, m.Prepare))
    )
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.crash(0)
    cluster.blocked = lambda packet: (
        type(packet.message) is m.Committed
        or (packet.to == 3 and type(packet.message) is m.PrePrepare and packet.message.seq == 1)
    )
    cluster.submit("bob", 1, range(4))
    cluster.run(4 * SECOND)
    assert cluster.executed() == [2, 2, 2]
    assert any(type(message) is m.FetchBatch for node, _, message in cluster.sent if node == 3)
    assert cluster.check_agreement() > 0


def test_4_4_a_wrong_body_is_no_answer() -> None:
    cluster = Cluster()
    asks = quorum_asks(cluster, 1, {2: [forge.prepared(cluster, 0, 1, D, [2, 3])]})
    hear(cluster, 0, 1, forge.new_view(cluster, 1, asks, [(1, D)]))
    hear(cluster, 0, 2, m.BatchData(1, 0, [cluster.request("ann", 1).raw]))
    assert cluster.core(0).ordering.slots[1].body is None


def test_4_4_two_view_changes_in_a_row() -> None:
    cluster = Cluster(7)
    cluster.submit("ann", 1, range(7))
    cluster.settle()
    cluster.crash(0)
    cluster.crash(1)
    cluster.submit("ann", 2, range(7), low=1)
    cluster.run(8 * SECOND)
    assert cluster.done("ann", 2)
    assert set(cluster.views()) == {2}


def test_4_4_request_timers_stop_during_a_view_change() -> None:
    """P13: and the timer for NEW-VIEW starts with a quorum of view-changes only. [CL99 4.5.2]"""
    cluster = Cluster()
    hear(cluster, 2, 0, forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)]))
    assert "request" in cluster.servers[2].timers
    for node in (0, 1, 3):
        cluster.core(2).hearing.heard_at[node] = cluster.now + 1
    effects = cluster.step(2, Timeout("request"))
    assert not any(isinstance(effect, SetTimer) for effect in effects)
    assert not cluster.core(2).ordering.active
    hear(cluster, 2, 0, forge.view_change(cluster, 0, 1))
    effects = hear(cluster, 2, 3, forge.view_change(cluster, 3, 1))
    assert [effect.name for effect in effects if isinstance(effect, SetTimer)] == ["new-view"]
