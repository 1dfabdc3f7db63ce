"""[CL99 4.2] The normal case, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from pbft import PbftCore
from pbft.messages import Batch, Commit, Committed, Prepare, PreparedProof, PrePrepare
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.slots import BODIES_MAX, Slot
from replog.codec import Domain
from replog.core import Persist, Received, Reply, Send
from replog.types import Request, Submit
from tests.pbft import forge
from tests.pbft.harness import EPOCH_US, SECOND, SMALL, Cluster, phase_messages, replace


def kinds(effects: list[Any]) -> list[str]:
    """Effects that have a place in the order of durability, with the kind of what they carry."""
    carried = {Persist: "record", Send: "message", Reply: "message"}
    return [
        f"{type(effect).__name__} {type(getattr(effect, carried[type(effect)])).__name__}"
        for effect in effects
        if type(effect) in carried
    ]


def hear(cluster: Cluster, node: int, sender: int | str, message: Any) -> list[Any]:
    return cluster.step(node, Received(sender, message))


# --------------------------------------------------------------------------------------------------------- all together


@pytest.mark.parametrize(("n", "wanted"), [(4, 24), (7, 84), (10, 180)])
def test_4_2_phase_messages_of_one_operation_match_the_closed_form(n: int, wanted: int) -> None:
    cluster = Cluster(n)
    cluster.submit("ann", 1)
    cluster.settle()
    assert cluster.done("ann", 1)
    assert phase_messages(cluster) == (n - 1) + (n - 1) ** 2 + n * (n - 1) == wanted


@pytest.mark.parametrize("signatures", ["hash", "ed25519"])
def test_4_2_a_request_is_executed_everywhere_and_answered_alike(signatures: str) -> None:
    cluster = Cluster(signatures=signatures)
    cluster.submit("ann", 1, amount=5, count=3)
    cluster.settle()
    results = cluster.results("ann", 1)[0]
    assert (results.index, len(results.outcomes)) == (1, 3)
    assert cluster.executed() == [1, 1, 1, 1]
    assert cluster.check_agreement() == 3


@pytest.mark.parametrize("n", range(1, 14))
def test_4_any_number_of_replicas_from_3f_plus_1_on(n: int) -> None:
    """P28: quorums for n that is not 3f + 1."""
    cluster = Cluster(n)
    cluster.submit("ann", 1)
    cluster.settle()
    assert cluster.done("ann", 1)
    assert set(cluster.executed()) == {1}


def test_4_2_one_wave_of_signature_checks_and_none_beyond_the_quorum() -> None:
    """A backup: the request, the pre-prepare, one PREPARE beside its own, two COMMITs. The primary: the request, two
    PREPAREs, two COMMITs."""
    cluster = Cluster()
    cluster.submit("ann", 1)
    cluster.settle()
    assert cluster.verified == 3 * (1 + 1 + 1 + 2) + (1 + 2 + 2)


def test_what_was_found_good_is_checked_once_and_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbft.notary.MEMORY", 8)
    cluster = Cluster()
    notary = cluster.core(1).notary

    def checked(seq: int) -> int:
        before, fields = cluster.verified, (0, seq, bytes(32), 2)
        assert notary.check(2, "prepare", fields, forge.sign(cluster, 2, "prepare", fields))
        assert not notary.check(3, "prepare", fields, forge.sign(cluster, 2, "prepare", fields)), "of another"
        return cluster.verified - before - 1

    assert [checked(seq) for seq in (1, 2, 3, 4, 5, 1, 2)] == [1, 1, 1, 1, 1, 0, 0]
    assert [checked(seq) for seq in range(6, 100)] == [1] * 94
    assert len(notary._good) + len(notary._older) <= 8
    assert [checked(seq) for seq in (99, 96, 1)] == [0, 0, 1]


# -------------------------------------------------------------------------------------------------- what a backup takes


def offer(cluster: Cluster, message: PrePrepare, sender: int = 0) -> list[str]:
    return kinds(hear(cluster, 1, sender, message))


def test_4_2_a_backup_accepts_a_proper_pre_prepare_on_disk_before_prepare() -> None:
    cluster = Cluster()
    message = forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)])
    assert offer(cluster, message) == ["Persist PrePrepare", "Send Prepare"]


def bad_pre_prepares(cluster: Cluster) -> dict[str, tuple[PrePrepare, str]]:
    ann = cluster.request("ann", 1)
    good = forge.pre_prepare(cluster, 0, 1, [ann])
    other = forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 2)])
    foreign = Request.make(cluster.signers["bob"].sign, cluster.domain, "ann", 1, 0, [b"x"])
    stranger = Request.make(cluster.signers["bob"].sign, cluster.domain, "zoe", 1, 0, [b"x"])
    signed_prepare = forge.sign(cluster, 0, "prepare", (0, 1, good.digest))
    elsewhere = Domain("elsewhere").statement("pre-prepare", (0, 1, good.digest))
    later = Domain("test", 1).statement("pre-prepare", (0, 1, good.digest))
    second = 1_000_000
    return {
        "body of another digest": (replace(good, requests=other.requests), "the digest is not the body's"),
        "time beside the digest": (replace(good, time=good.time + 1), "the digest is not the body's"),
        "bytes that are no request": (replace(good, requests=[b"\x93"]), "the digest is not the body's"),
        "signature of another seq": (replace(good, seq=2), "bad signature"),
        "signature of another type": (replace(good, signature=signed_prepare), "bad signature"),
        "signature of another cluster": (replace(good, signature=cluster.signers[0].sign(elsewhere)), "bad signature"),
        "signature of another epoch": (replace(good, signature=cluster.signers[0].sign(later)), "bad signature"),
        "signature of a backup": (
            replace(good, signature=forge.sign(cluster, 2, "pre-prepare", (0, 1, good.digest))),
            "bad",
        ),
        "no requests": (forge.pre_prepare(cluster, 0, 1, []), "no requests"),
        "a request its client did not sign": (forge.pre_prepare(cluster, 0, 1, [foreign]), "did not sign"),
        "a request of nobody": (forge.pre_prepare(cluster, 0, 1, [stranger]), "unknown client"),
        "a time far ahead": (forge.pre_prepare(cluster, 0, 1, [ann], EPOCH_US + 11 * second), "time is off"),
        "a time long ago": (forge.pre_prepare(cluster, 0, 1, [ann], EPOCH_US - 11 * second), "time is off"),
        "too many requests": (
            forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1 + i) for i in range(5)]),
            "more requests",
        ),
        "too many operations": (forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1, count=99)]), "operations"),
    }


LIMITS = {"batch_requests_max": 4, "batch_operations_max": 50}


@pytest.mark.parametrize("what", bad_pre_prepares(Cluster()).keys())
def test_4_2_a_backup_refuses_a_pre_prepare_with(what: str) -> None:
    """P18, P22, P24, P29."""
    cluster = Cluster(options=LIMITS)
    message, rule = bad_pre_prepares(cluster)[what]
    assert offer(cluster, message) == []
    assert rule in cluster.rules(1)[-1]
    assert cluster.core(1).notary.refused == 1


def test_4_2_only_the_primary_proposes() -> None:
    cluster = Cluster()
    message = forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)])
    assert offer(cluster, message, sender=2) == []
    assert "only the primary" in cluster.rules(1)[-1]


@pytest.mark.parametrize("seq", [0, 9, 17, 2**61])
def test_4_2_nothing_outside_the_watermarks(seq: int) -> None:
    """P20: low < seq <= high."""
    cluster = Cluster(options=SMALL)
    assert offer(cluster, forge.pre_prepare(cluster, 0, seq, [cluster.request("ann", 1)])) == []
    assert not cluster.core(1).ordering.slots


def test_4_2_a_second_digest_for_a_place_is_refused_and_proves_a_lie() -> None:
    """P17."""
    cluster = Cluster()
    first = forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)])
    second = forge.pre_prepare(cluster, 0, 1, [cluster.request("bob", 1)])
    assert offer(cluster, first) == ["Persist PrePrepare", "Send Prepare"]
    assert offer(cluster, first) == []
    assert cluster.accusations == []
    assert offer(cluster, replace(second, signature=b"x" * 16)) == []
    assert cluster.accusations == []
    assert offer(cluster, second) == ["Send Testimony"]
    assert len(cluster.accusations) == 1
    ((accuser, accusation),) = cluster.accusations
    assert (accuser, accusation.culprit, accusation.kind) == (1, 0, "two-pre-prepares")
    for statement in (accusation.first, accusation.second):
        assert isinstance(statement, PrePrepare)
        assert cluster.core(1).notary.check_pre_prepare(0, 1, statement.digest, statement.signature)
    assert accusation.first.digest != accusation.second.digest  # type: ignore[attr-defined]
    offer(cluster, second)
    assert len(cluster.accusations) == 1, "one is enough"


def test_4_2_a_batch_of_what_was_executed_changes_nothing_and_is_no_progress() -> None:
    """P33: a primary that replays gains no patience by it. How far a backup has executed is its own affair, so it does
    not refuse the batch: a client could else make backups that are ahead refuse an honest primary (P35)."""
    cluster = Cluster()
    request = cluster.submit("ann", 1)
    cluster.settle()
    before = cluster.core(1).setup.sessions.results("ann", 1)
    cluster.step(1, Received("bob", Submit(cluster.request("bob", 1).raw)))
    replay = forge.pre_prepare(cluster, 0, 2, [request])
    for node in (1, 2, 3):
        cluster.step(node, Received(0, replay))
    cluster.blocked = lambda packet: type(packet.message) is Submit
    commit = forge.commit(cluster, 0, 0, 2, replay.digest)
    for node in (1, 2, 3):
        cluster.step(node, Received(0, commit))
    cluster.settle()
    assert cluster.core(1).executed == 2
    assert cluster.core(1).setup.sessions.results("ann", 1) == before is not None
    assert cluster.core(1).patience.target == ("bob", 1)


# -------------------------------------------------------------------------------------------------- prepared, committed


def accepted(core: type[PbftCore] = PbftCore, n: int = 4) -> tuple[Cluster, bytes]:
    """Node 1 has accepted seq 1 of view 0."""
    cluster = Cluster(n, core=core)
    message = forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)])
    hear(cluster, 1, 0, message)
    return cluster, message.digest


def prepared_after(core: type[PbftCore], voters: list[int], n: int = 4) -> bool:
    cluster, digest = accepted(core, n)
    for voter in voters:
        hear(cluster, 1, voter, forge.prepare(cluster, voter, 0, 1, digest))
    return any(isinstance(message, Commit) for _, _, message in cluster.sent)


class PreparesTooSoon(PbftCore):
    class ordering_type(Ordering):  # noqa: N801
        def is_prepared(self, slot: Any) -> bool:
            return slot.body is not None and slot.prepares.good.count(slot.digest) >= self._notary.quorum - 2


class CountsThePrimary(PbftCore):
    class ordering_type(Ordering):  # noqa: N801
        def on_prepare(self, message: Prepare) -> list[Any]:
            slot = self.slot(message.seq)
            self._hear(slot.prepares, message)
            return self._advance(slot)


def test_4_2_prepared_takes_quorum_less_one_prepares_of_distinct_backups() -> None:
    """P7, P19, P28: n = 4 takes one PREPARE beside the own, n = 7 three, n = 6 with f = 1 three."""
    assert prepared_after(PbftCore, [2])
    assert not prepared_after(PbftCore, [])
    assert not prepared_after(PbftCore, [0, 0])
    assert not prepared_after(PbftCore, [2, 3], n=7)
    assert not prepared_after(PbftCore, [2, 2, 2], n=7)
    assert prepared_after(PbftCore, [2, 3, 4], n=7)
    assert not prepared_after(PbftCore, [2], n=6)
    assert prepared_after(PbftCore, [2, 3], n=6)
    assert prepared_after(PreparesTooSoon, [2, 3], n=7), "the broken core is told apart"
    assert prepared_after(CountsThePrimary, [0]), "the broken core is told apart"


def test_4_2_the_prepared_certificate_is_on_disk_before_commit() -> None:
    """P16."""
    cluster, digest = accepted()
    effects = hear(cluster, 1, 2, forge.prepare(cluster, 2, 0, 1, digest))
    assert kinds(effects) == ["Persist PreparedProof", "Send Commit"]
    (record,) = [effect.record for effect in effects if isinstance(effect, Persist)]
    assert isinstance(record, PreparedProof)
    assert cluster.core(3).notary.flaw_in_prepared(record) == "", "anybody can check it"


def test_4_2_a_bad_signature_is_no_vote() -> None:
    cluster, digest = accepted()
    vote = forge.prepare(cluster, 2, 0, 1, digest)
    assert kinds(hear(cluster, 1, 2, replace(vote, signature=forge.commit(cluster, 2, 0, 1, digest).signature))) == []
    assert "bad signature of prepare" in cluster.rules(1)[-1]
    assert kinds(hear(cluster, 1, 2, vote)) == ["Persist PreparedProof", "Send Commit"]


def test_4_2_a_vote_in_anothers_name_is_refused() -> None:
    cluster, digest = accepted()
    assert kinds(hear(cluster, 1, 3, forge.prepare(cluster, 2, 0, 1, digest))) == []
    assert "another's name" in cluster.rules(1)[-1]


def test_4_2_votes_for_another_digest_count_for_nothing_here() -> None:
    cluster, _ = accepted()
    for voter in (2, 3):
        hear(cluster, 1, voter, forge.prepare(cluster, voter, 0, 1, b"d" * 32))
    assert not any(isinstance(message, Commit) for _, _, message in cluster.sent)


def test_4_2_votes_of_another_view_count_for_nothing_here() -> None:
    """P22."""
    cluster, digest = accepted()
    for voter in (2, 3):
        hear(cluster, 1, voter, forge.prepare(cluster, voter, 4, 1, digest))
    assert not any(isinstance(message, Commit) for _, _, message in cluster.sent)


@pytest.mark.parametrize("vote", [forge.prepare, forge.commit])
def test_4_2_two_votes_for_one_place_prove_a_lie(vote: Any) -> None:
    cluster, digest = accepted()
    hear(cluster, 1, 2, vote(cluster, 2, 0, 1, digest))
    hear(cluster, 1, 2, replace(vote(cluster, 2, 0, 1, b"d" * 32), signature=b"bad"))
    assert cluster.accusations == []
    hear(cluster, 1, 2, vote(cluster, 2, 0, 1, b"d" * 32))
    assert len(cluster.accusations) == 1
    ((_, accusation),) = cluster.accusations
    assert accusation.culprit == 2
    assert {accusation.first.digest, accusation.second.digest} == {digest, b"d" * 32}  # type: ignore[attr-defined]
    cluster, digest = accepted()
    for said in (b"d" * 32, digest):
        hear(cluster, 1, 2, vote(cluster, 2, 0, 1, said))
    slot = cluster.core(1).ordering.slots[1]
    assert not any(tally.good.count(digest) > (tally is slot.prepares) for tally in (slot.prepares, slot.commits))
    assert len(cluster.accusations) == 1, "the first stands"


def test_4_2_a_vote_beyond_the_quorum_is_still_held_against_its_sender() -> None:
    cluster, digest = accepted()
    hear(cluster, 1, 2, forge.prepare(cluster, 2, 0, 1, digest))
    before = cluster.verified
    hear(cluster, 1, 3, forge.prepare(cluster, 3, 0, 1, digest))
    assert cluster.verified == before, "not checked: not needed"
    hear(cluster, 1, 3, forge.prepare(cluster, 3, 0, 1, b"d" * 32))
    assert [accusation.culprit for _, accusation in cluster.accusations] == [3]


def test_4_2_messages_may_come_in_any_order() -> None:
    """Prepares and commits before the pre-prepare wait for it."""
    cluster = Cluster()
    message = forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)])
    for voter in (0, 2):
        hear(cluster, 1, voter, forge.commit(cluster, voter, 0, 1, message.digest))
    for voter in (2, 3):
        hear(cluster, 1, voter, forge.prepare(cluster, voter, 0, 1, message.digest))
    assert not any(isinstance(said, (Commit, Prepare)) for node, _, said in cluster.sent if node == 1)
    assert kinds(hear(cluster, 1, 0, message))[:4] == [
        "Persist PrePrepare",
        "Send Prepare",
        "Persist PreparedProof",
        "Send Commit",
    ]
    assert cluster.core(1).executed == 1


def executed_after(core: type[PbftCore], voters: list[int]) -> bool:
    cluster, digest = accepted(core)
    hear(cluster, 1, 2, forge.prepare(cluster, 2, 0, 1, digest))
    for voter in voters:
        hear(cluster, 1, voter, forge.commit(cluster, voter, 0, 1, digest))
    return cluster.core(1).executed == 1


class QuorumOfTwo(PbftCore):
    class notary_type(Notary):  # noqa: N801
        def __init__(self, setup: Any) -> None:
            super().__init__(setup)
            self.quorum = 2


def test_4_2_committed_takes_a_quorum_of_commits() -> None:
    """P25, P7."""
    assert not executed_after(PbftCore, [2])
    assert not executed_after(PbftCore, [2, 2, 2])
    assert executed_after(PbftCore, [0, 2])
    assert executed_after(QuorumOfTwo, [2]), "the broken core is told apart"


# ------------------------------------------------------------------------------------------------------------ execution


def test_4_2_execution_is_strictly_in_order_of_seq() -> None:
    """P26: what commits first waits for what comes before it."""
    cluster = Cluster(options=SMALL)
    cluster.holds = lambda packet: getattr(packet.message, "seq", 0) == 1
    cluster.submit("ann", 1)
    cluster.submit("ann", 2)
    cluster.settle()
    assert cluster.executed() == [0, 0, 0, 0]
    assert all(cluster.core(node).ordering.slots[2].committed for node in range(4))
    cluster.release()
    cluster.settle()
    assert cluster.executed() == [2, 2, 2, 2]
    assert list(cluster.applied[1]) == [1, 2]


def test_4_2_replies_are_not_behind_a_record_of_their_own() -> None:
    """The commit certificate is no promise: it rides with the next record that is."""
    cluster, digest = accepted()
    hear(cluster, 1, 2, forge.prepare(cluster, 2, 0, 1, digest))
    hear(cluster, 1, 2, forge.commit(cluster, 2, 0, 1, digest))
    assert kinds(hear(cluster, 1, 0, forge.commit(cluster, 0, 0, 1, digest))) == ["Reply Reply"]
    message = forge.pre_prepare(cluster, 0, 2, [cluster.request("ann", 2)])
    assert kinds(hear(cluster, 1, 0, message)) == ["Persist CommitProof", "Persist PrePrepare", "Send Prepare"]


def test_4_2_with_too_many_in_flight_the_primary_groups_what_waits() -> None:
    cluster = Cluster(options={**SMALL, "in_flight_max": 2})
    for timestamp in range(1, 8):
        hear(cluster, 0, "ann", Submit(cluster.request("ann", timestamp).raw))
    sent = [message for _, _, message in cluster.sent if isinstance(message, PrePrepare)]
    assert [len(message.requests) for message in sent] == [1, 1]
    cluster.settle()
    sent = [message for _, _, message in cluster.sent if isinstance(message, PrePrepare)]
    assert [len(message.requests) for message in sent] == [1, 1, 5]
    assert all(cluster.done("ann", timestamp) for timestamp in range(1, 8))


def test_4_2_a_batch_is_bounded_by_requests_operations_and_bytes() -> None:
    size = Cluster().request("ann", 1).size
    for limit, wanted in (
        ({"batch_requests_max": 2}, [1, 2, 2, 1]),
        ({"batch_operations_max": 3}, [1, 3, 2]),
        ({"batch_bytes_max": 4 * size + 20}, [1, 4, 1]),
    ):
        cluster = Cluster(options={"in_flight_max": 1, "request_bytes_max": 100, **limit})
        for timestamp in range(1, 7):
            cluster.inject("ann", 0, Submit(cluster.request("ann", timestamp).raw))
        cluster.settle()
        sent = [message for _, _, message in cluster.sent if isinstance(message, PrePrepare)]
        assert [len(message.requests) for message in sent] == wanted, limit


def test_4_2_a_batch_that_is_not_full_waits_for_company_while_others_are_in_flight() -> None:
    cluster = Cluster(options={"batch_delay_us": 2_000})
    for timestamp in range(1, 5):
        hear(cluster, 0, "ann", Submit(cluster.request("ann", timestamp).raw))
    sent = [message for _, _, message in cluster.sent if isinstance(message, PrePrepare)]
    assert [len(message.requests) for message in sent] == [1]
    cluster.fire(0, "batch")
    sent = [message for _, _, message in cluster.sent if isinstance(message, PrePrepare)]
    assert [len(message.requests) for message in sent] == [1, 3]


def test_4_2_the_primary_stays_below_the_high_watermark() -> None:
    """Without checkpoints of the others there is no number beyond high."""
    cluster = Cluster(options=SMALL)
    cluster.blocked = lambda packet: type(packet.message).__name__ == "Checkpoint"
    for timestamp in range(1, 20):
        cluster.submit("ann", timestamp)
        cluster.settle()
    assert cluster.executed() == [8, 8, 8, 8]


# --------------------------------------------------------------------------------------------- certificates [deviates]


def test_a_commit_certificate_executes_against_another_accepted_pre_prepare() -> None:
    """An equivocating primary gave node 1 something else; the others' commits alone decide. [deviates]"""
    cluster, digest = accepted()
    other = forge.pre_prepare(cluster, 0, 1, [cluster.request("bob", 1)])
    batch = Batch.read(other.time, other.requests)
    proof = forge.committed(cluster, 0, 1, batch.digest, [0, 2, 3])
    assert kinds(hear(cluster, 1, 2, Committed(proof, batch.time, batch.raws))) == ["Send Testimony", "Reply Reply"]
    assert cluster.core(1).executed == 1
    assert cluster.applied[1][1][0] == (batch.raws[0],)
    assert batch.digest != digest


def test_commits_of_a_quorum_decide_what_this_replica_never_saw_proposed() -> None:
    """The same by single COMMITs: then the body is fetched by its digest from those that committed."""
    cluster, _ = accepted()
    other = forge.pre_prepare(cluster, 0, 1, [cluster.request("bob", 1)])
    for voter in (0, 2, 3):
        hear(cluster, 1, voter, forge.commit(cluster, voter, 0, 1, other.digest))
    assert cluster.core(1).executed == 0
    cluster.run(SECOND // 10)
    asked = [to for node, to, message in cluster.sent if type(message).__name__ == "FetchBatch"]
    assert asked
    assert all(len(to) == 2 for to in asked), "f + 1 of those that have it"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda proof: replace(proof, votes=proof.votes[:2]),
        lambda proof: replace(proof, votes=[proof.votes[0], proof.votes[0], proof.votes[1]]),
        lambda proof: replace(proof, votes=[replace(proof.votes[0], signature=b"x"), *proof.votes[1:]]),
        lambda proof: replace(proof, votes=[replace(vote, replica=vote.replica + 4) for vote in proof.votes]),
        lambda proof: replace(proof, seq=2),
        lambda proof: replace(proof, view=1),
    ],
)
def test_nobody_decides_without_a_certificate(spoil: Any) -> None:
    """P27: the same message with a spoilt certificate does nothing."""
    cluster, digest = accepted()
    slot = cluster.core(1).ordering.slots[1]
    body = slot.bodies[digest]
    proof = spoil(forge.committed(cluster, 0, 1, digest, [0, 2, 3]))
    assert kinds(hear(cluster, 1, 2, Committed(proof, body.time, body.raws))) == []
    assert cluster.core(1).executed == 0
    assert cluster.rules(1)


def test_p36_a_body_is_read_only_after_its_size_and_its_certificate() -> None:
    """Else a few large messages without any signature take all of a replica's time (X6)."""
    cluster, digest = accepted()
    nonsense, short = [b"nonsense"], cluster.options.batch_bytes_max // 8
    proof = forge.committed(cluster, 0, 1, digest, [0, 2, 3])
    spoilt = replace(proof, votes=[replace(vote, signature=bytes(16)) for vote in proof.votes])
    hear(cluster, 1, 2, Committed(spoilt, 0, nonsense))
    assert "bad signature" in cluster.rules(1)[-1]
    verified = cluster.verified
    hear(cluster, 1, 2, Committed(proof, 0, [bytes(short)] * 9))
    assert "more requests or bytes" in cluster.rules(1)[-1]
    hear(cluster, 1, 0, PrePrepare(0, 2, digest, 0, bytes(64), [bytes(short)] * 9))
    assert "more requests or bytes" in cluster.rules(1)[-1]
    assert cluster.verified == verified
    hear(cluster, 1, 2, Committed(proof, 0, nonsense))
    assert "not the body's" in cluster.rules(1)[-1]


def test_4_4_the_bodies_of_a_slot_are_bounded_and_what_is_needed_stays() -> None:
    """Those of the last views: a later one may choose any of them again."""
    cluster = Cluster()
    batches = [Batch(EPOCH_US + number, [cluster.request("ann", 1)]) for number in range(20)]
    slot = Slot(1)
    slot.digest = batches[0].digest
    slot.committed = forge.committed(cluster, 0, 1, batches[1].digest, [0, 2, 3])
    slot.prepared = forge.prepared(cluster, 0, 1, batches[2].digest, [2, 3])
    for batch in batches:
        slot.keep(batch)
    kept = [batches.index(batch) for batch in slot.bodies.values()]
    assert kept == [0, 1, 2, 15, 16, 17, 18, 19]
    assert len(kept) == BODIES_MAX


def test_x10_ones_own_vote_is_checked_like_any_other() -> None:
    """A certificate with a vote of node 1 that node 1 never cast, shown to node 1 itself."""
    cluster, digest = accepted()
    body = cluster.core(1).ordering.slots[1].bodies[digest]
    proof = forge.committed(cluster, 0, 1, digest, [0, 1, 2])
    forged = replace(
        proof, votes=[replace(vote, signature=b"x") if vote.replica == 1 else vote for vote in proof.votes]
    )
    hear(cluster, 1, 2, Committed(forged, body.time, body.raws))
    assert cluster.core(1).executed == 0
    hear(cluster, 1, 2, Committed(proof, body.time, body.raws))
    assert cluster.core(1).executed == 1


def test_agreed_time_and_seed_are_the_same_everywhere() -> None:
    """P29: what the primary proposed, and for the next batch a seed by cluster, seq and batch."""
    cluster = Cluster()
    cluster.clock_off = {1: 3 * SECOND, 2: -3 * SECOND}
    cluster.submit("ann", 1)
    cluster.submit("bob", 1)
    cluster.run(SECOND)
    assert cluster.check_agreement() == 6
    times = [time for _, time, _ in cluster.applied[1].values()]
    assert times == [EPOCH_US, EPOCH_US]
    assert len({seed for _, _, seed in cluster.applied[1].values()}) == 2


def test_a_primary_with_a_wrong_clock_is_replaced() -> None:
    cluster = Cluster()
    cluster.clock_off = {0: 60 * SECOND}
    cluster.submit("ann", 1, range(4))
    cluster.run(3 * SECOND)
    assert cluster.done("ann", 1)
    assert set(cluster.views()) == {1}
