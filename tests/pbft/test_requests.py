"""[CL99 4.1] Clients' requests at a replica: who is answered what, and how much one client may have waiting."""

from __future__ import annotations

from typing import Any

import pytest

from pbft import messages as m
from pbft.requests import QUANTUM
from replog.core import Received
from replog.types import Answer, LogRequest, Request, Submit
from replog.types import Reply as ReplyMessage
from tests.pbft.harness import SECOND, SMALL, Cluster

BOUNDS = {"batch_delay_us": 0, "in_flight_max": 1}


def hear(cluster: Cluster, node: int, sender: int | str, message: Any) -> list[Any]:
    return cluster.step(node, Received(sender, message))


def answers(effects: list[Any]) -> list[tuple[str, str]]:
    return [
        (Answer(effect.message.answer).name, effect.client)
        for effect in effects
        if type(effect).__name__ == "Reply" and isinstance(effect.message, ReplyMessage)
    ]


def test_4_1_a_request_that_was_executed_is_answered_from_memory() -> None:
    """The same bytes as before, from every replica, without any ordering."""
    cluster = Cluster()
    request = cluster.submit("ann", 1, amount=7)
    cluster.settle()
    first = {node: reply.results for node, reply in cluster.replies["ann", 1].items()}
    before = len(cluster.sent)
    for node in range(4):
        assert answers(hear(cluster, node, "ann", Submit(request.raw))) == [("DONE", "ann")]
    assert {node: reply.results for node, reply in cluster.replies["ann", 1].items()} == first
    assert len(cluster.sent) == before


def test_4_1_a_retransmission_is_executed_once() -> None:
    cluster = Cluster()
    request = cluster.submit("ann", 1)
    for _ in range(3):
        cluster.inject("ann", range(4), Submit(request.raw))
    cluster.settle()
    assert cluster.executed() == [1] * 4
    assert {replica.executor._runtime.machine.total for replica in cluster.replicas.values()} == {1}


def test_4_1_replies_tell_the_view() -> None:
    cluster = Cluster()
    cluster.crash(0)
    cluster.submit("ann", 1, range(4))
    cluster.run(3 * SECOND)
    assert {(reply.view, reply.leader) for reply in cluster.replies["ann", 1].values()} == {(1, 1)}


def test_a_client_speaks_for_itself_only() -> None:
    cluster = Cluster()
    request = cluster.request("ann", 1)
    assert answers(hear(cluster, 0, "bob", Submit(request.raw))) == []
    assert "of its own" in " ".join(cluster.rules(0))
    assert answers(hear(cluster, 0, "ann", Submit(b"\x93\x01"))) == []
    hear(cluster, 0, "ann", m.FetchPart(0, 0))
    assert "requests only" in " ".join(cluster.rules(0))
    assert cluster.executed() == [0] * 4


@pytest.mark.parametrize(
    ("what", "text"),
    [("signature", b"bad signature"), ("bytes", b"request_bytes_max"), ("operations", b"request_operations_max is 20")],
)
def test_what_can_never_be_ordered_is_refused_with_a_reason(what: str, text: bytes) -> None:
    cluster = Cluster(options={"request_bytes_max": 400, "batch_operations_max": 20})
    sign = cluster.signers["bob" if what == "signature" else "ann"].sign
    operations = {"signature": [b"x"], "bytes": [b"x" * 400], "operations": [b""] * 21}[what]
    request = Request.make(sign, cluster.domain, "ann", 1, 0, operations)
    effects = hear(cluster, 0, "ann", Submit(request.raw))
    assert answers(effects) == [("REFUSED", "ann")]
    assert text in cluster.replies["ann", 1][0].results
    assert not cluster.core(0).requests.pending


def test_p32_a_second_request_under_one_timestamp_changes_nothing() -> None:
    """The first that came is the one that waits, is sent on and is executed."""
    cluster = Cluster()
    cluster.blocked = lambda packet: isinstance(packet.sender, int)
    first, second = cluster.request("eve", 1, amount=1), cluster.request("eve", 1, amount=2)
    hear(cluster, 2, "eve", Submit(first.raw))
    assert hear(cluster, 2, "eve", Submit(second.raw))
    assert "two-requests" in cluster.rules(2)
    assert hear(cluster, 2, "eve", Submit(second.raw))
    assert "a second request under one timestamp" in cluster.rules(2)
    assert cluster.core(2).requests.pending["eve", 1].raw == first.raw
    assert [message.request for _, _, message in cluster.sent if isinstance(message, Submit)] == [first.raw]


def test_p33_the_primary_passes_by_what_was_executed() -> None:
    """Node 1 was given the state that has executed what waits in its queue: as primary it proposes none of it."""
    cluster = Cluster(options=SMALL)
    cluster.isolate(1)
    old = [cluster.submit("ann", timestamp, range(4)) for timestamp in range(1, 5)]
    cluster.settle()
    assert cluster.executed() == [4, 0, 4, 4]
    cluster.crash(0)
    given = (m.CheckpointProof, m.Checkpoint, m.Committed, m.PartData)
    cluster.blocked = lambda packet: packet.to == 1 and type(packet.message) in given
    cluster.submit("bob", 1, range(4))
    assert cluster.run(5 * SECOND, until=lambda: cluster.core(1).view == 1 and cluster.core(1).ordering.leads)
    assert cluster.core(1).executed == 0, "its queue is older than its state"
    cluster.heal()
    cluster.run(5 * SECOND)
    assert cluster.done("bob", 1)
    proposed = [message for node, _, message in cluster.sent if node == 1 and isinstance(message, m.PrePrepare)]
    assert proposed, "vacuous"
    assert not {raw for message in proposed for raw in message.requests} & {request.raw for request in old}


def test_p36_refusal_is_cheap() -> None:
    """Nothing is verified for a duplicate, an executed one, one beyond the window, one too many; of those with another
    body one, which convicts the client."""
    cluster = Cluster(options={**BOUNDS, "client_requests_max": 2})
    cluster.blocked = lambda packet: isinstance(packet.sender, int)
    first = cluster.request("ann", 1)
    hear(cluster, 0, "ann", Submit(first.raw))
    hear(cluster, 0, "ann", Submit(cluster.request("ann", 2).raw))
    before = cluster.verified
    hear(cluster, 0, "ann", Submit(first.raw))
    assert answers(hear(cluster, 0, "ann", Submit(cluster.request("ann", 3).raw))) == [("OVERLOADED", "ann")]
    hear(cluster, 0, "ann", Submit(cluster.request("ann", 200).raw))
    assert cluster.verified == before
    for amount in (9, 10, 11):
        hear(cluster, 0, "ann", Submit(cluster.request("ann", 1, amount=amount).raw))
    assert cluster.verified == before + 1


def test_p36_one_client_cannot_take_the_others_place() -> None:
    cluster = Cluster(options={**BOUNDS, "client_requests_max": 3})
    cluster.blocked = lambda packet: isinstance(packet.sender, int)
    said = [answers(hear(cluster, 0, "eve", Submit(cluster.request("eve", t).raw))) for t in range(1, 6)]
    assert said == [[], [], [], [("OVERLOADED", "eve")], [("OVERLOADED", "eve")]]
    assert answers(hear(cluster, 0, "ann", Submit(cluster.request("ann", 1).raw))) == []
    assert len(cluster.core(0).requests.pending) == 4


@pytest.mark.parametrize(
    "limit",
    [
        {"pending_requests_max": 3, "client_requests_max": 3},
        {"pending_operations_max": 30, "client_operations_max": 30, "batch_operations_max": 30},
        {"pending_bytes_max": 500, "request_bytes_max": 500},
    ],
)
def test_all_that_waits_is_bounded_by_requests_operations_and_bytes(limit: dict[str, int]) -> None:
    cluster = Cluster(options={**BOUNDS, **limit})
    cluster.blocked = lambda packet: isinstance(packet.sender, int)
    said = [answers(hear(cluster, 0, "ann", Submit(cluster.request("ann", t, count=10).raw))) for t in range(1, 8)]
    assert [("OVERLOADED", "ann")] in said
    assert said[0] == []
    cluster.replicas[0].check_invariants()


POOL = {"pending_operations_max": 120, "client_operations_max": 60, "batch_operations_max": 60}


@pytest.mark.parametrize("client_first", [("ann", "bob")])
def test_p36_clients_that_fill_the_pool_leave_room_for_another(client_first: tuple[str, ...]) -> None:
    """Two of them, each within its own bound, could take all of it; the third has as much as they."""
    cluster = Cluster(options={**BOUNDS, **POOL, "robust": True})
    cluster.blocked = lambda packet: isinstance(packet.sender, int)
    taken = dict.fromkeys(("ann", "bob", "eve"), 0)
    for timestamp in range(1, 13):
        for client in client_first:
            said = answers(hear(cluster, 1, client, Submit(cluster.request(client, timestamp, count=5).raw)))
            taken[client] += 0 if said else 5
    for timestamp in range(1, 9):
        said = answers(hear(cluster, 1, "eve", Submit(cluster.request("eve", timestamp, count=5).raw)))
        taken["eve"] += 0 if said else 5
    assert taken["ann"] == taken["bob"] == 40
    assert taken["eve"] >= 20
    cluster.replicas[1].check_invariants()


LARGE: dict[str, Any] = {"batch_delay_us": 0, "robust": True, "request_operations_max": 16_384}


def large_and_small(**options: Any) -> tuple[Cluster, list[list[tuple[str, int]]]]:
    """ann's four large requests come between bob's small ones, which come one at a time; what is in each batch."""
    cluster = Cluster(options={**LARGE, "in_flight_max": 1, **options})
    cluster.submit("bob", 1, range(4))
    cluster.settle()
    for timestamp in range(1, 5):
        cluster.submit("ann", timestamp, range(4), count=1_000)
    for timestamp in range(2, 31):
        cluster.submit("bob", timestamp, range(4))
        while not cluster.done("bob", timestamp):
            cluster.deliver()
            cluster.replicas[0].check_invariants()
    cluster.run(SECOND)
    proposed = [message for node, _, message in cluster.sent if node == 0 and isinstance(message, m.PrePrepare)]
    batches = {message.seq: [Request(raw).identity for raw in message.requests] for message in proposed}
    return cluster, [batches[seq] for seq in sorted(batches)]


def test_p36_a_large_request_waits_until_others_had_as_many_turns() -> None:
    """Turns are of operations: after each large one its client is passed by, and nobody is blamed for it."""
    cluster, batches = large_and_small()
    at = [place for place, batch in enumerate(batches) if ("ann", 1) in batch or ("ann", 2) in batch]
    assert at[1] - at[0] >= 1_000 // QUANTUM
    assert all(cluster.done("ann", timestamp) for timestamp in range(1, 5)), "when nobody else waits, at once"
    assert set(cluster.views()) == {0}


def test_p36_who_is_alone_waits_for_nobody() -> None:
    cluster = Cluster(options=LARGE)
    for timestamp in range(1, 7):
        cluster.submit("ann", timestamp, range(4), count=9_000)
    cluster.settle()
    assert all(cluster.done("ann", timestamp) for timestamp in range(1, 7)), "no time has passed"


def test_after_overload_there_is_room_again() -> None:
    cluster = Cluster(options={**BOUNDS, "client_requests_max": 2})
    for timestamp in range(1, 20):
        cluster.submit("ann", timestamp, range(4))
    cluster.settle()
    for _ in range(20):
        for timestamp in range(1, 20):
            if not cluster.done("ann", timestamp):
                cluster.submit("ann", timestamp, range(4))
        cluster.settle()
    assert all(cluster.done("ann", timestamp) for timestamp in range(1, 20))
    assert set(cluster.views()) == {0}


def test_a_clients_own_question_to_a_replica_is_answered_by_it() -> None:
    cluster = Cluster()
    cluster.submit("ann", 1)
    cluster.settle()
    (reply,) = hear(cluster, 2, "ann", LogRequest(5, 1, 10))
    assert [entry.index for entry in reply.message.entries] == [1]


def test_a_malformed_operation_is_an_error_at_its_place() -> None:
    cluster = Cluster()
    request = Request.make(cluster.signers["ann"].sign, cluster.domain, "ann", 1, 0, [b"\xc1", b"", b"add"])
    cluster.inject("ann", 0, Submit(request.raw))
    cluster.settle()
    (results,) = cluster.results("ann", 1)
    assert len(results.outcomes) == 3
