"""[CL99 5.1] Read-only requests that are answered at once, and digest replies."""

from __future__ import annotations

from typing import Any

import pytest

from pbft import PbftCore
from pbft import messages as m
from pbft.reads import OPERATIONS, REPEATED_MAX, Reads
from replog.apps.counter import Counter
from replog.codec import digest_of
from replog.core import Received, Shun
from replog.statemachine import decode_outcome
from replog.types import READ_ONLY, Answer, Read, Request, Submit, decode_results
from tests.pbft.harness import PHASES, SECOND, SMALL, Cluster
from tests.plug import DOMAIN


def read_of(cluster: Cluster, client: str, timestamp: int, flags: int = READ_ONLY) -> Request:
    operations = [Counter.operation("value")]
    return Request.make(cluster.signers[client].sign, DOMAIN, client, timestamp, 0, operations, flags)


def ask(cluster: Cluster, request: Request, to: Any = range(4)) -> None:
    cluster.inject(request.client, to, Read(request.raw))


def values(cluster: Cluster, client: str, timestamp: int) -> dict[int, int]:
    """What each replica has answered to a read."""
    replies = cluster.replies.get((client, timestamp), {})
    return {
        node: decode_outcome(decode_results(reply.results).outcomes[0])
        for node, reply in replies.items()
        if reply.answer == Answer.READ
    }


def test_5_1_a_read_is_answered_by_all_without_being_ordered() -> None:
    cluster = Cluster()
    cluster.submit("ann", 1, amount=5)
    cluster.settle()
    ask(cluster, read_of(cluster, "bob", 1))
    cluster.settle()
    assert values(cluster, "bob", 1) == dict.fromkeys(range(4), 5)
    assert cluster.executed() == [1] * 4, "nothing was ordered"
    assert decode_results(cluster.replies["bob", 1][2].results).index == 0, "a read has no place in the log"


class AnswersAtOnce(PbftCore):
    class reads_type(Reads):  # noqa: N801
        def needed(self) -> int:
            return 0


def stale(core: type[PbftCore], options: dict[str, Any] | None = None) -> dict[int, int]:
    """A write is accepted on the word of node 0, which executed it, and of the liar, node 3. Nodes 1 and 2 have sent
    COMMIT and lag behind. What do they answer to a read that node 0 never sees?"""
    cluster = Cluster(core=core, options=options)
    cluster.holds = lambda packet: packet.to in (1, 2) and type(packet.message) is m.Commit
    cluster.submit("ann", 1, amount=7)
    cluster.settle()
    assert cluster.executed() == [1, 0, 0, 1]
    assert cluster.done("ann", 1), "accepted"
    ask(cluster, read_of(cluster, "bob", 1), to=(1, 2))
    cluster.settle()
    early = values(cluster, "bob", 1)
    cluster.release()
    cluster.settle()
    assert values(cluster, "bob", 1).keys() == {1, 2}, "answered in the end"
    return early


def test_p40_no_read_is_older_than_an_accepted_write() -> None:
    """The stale-read schedule of RULES-PBFT. With the liar's word two old answers would be a quorum."""
    assert stale(PbftCore) == {}
    assert stale(AnswersAtOnce) == {1: 0, 2: 0}, "the schedule does harm to a core that does not wait"


def test_p40_what_was_promised_before_a_restart_still_has_to_be_executed() -> None:
    for leaves in (False, True):  # it votes again at once, or waits for the next view and says nothing again
        cluster = Cluster()
        cluster.holds = lambda packet: packet.to in (1, 2) and type(packet.message) is m.Commit
        cluster.submit("ann", 1, amount=7)
        cluster.settle()
        if leaves:
            cluster.carry_out(1, cluster.core(1)._ask_for(1, "test"))
        cluster.crash(1)
        cluster.start(1)
        assert cluster.core(1).ordering.promised == 1
        ask(cluster, read_of(cluster, "bob", 1), to=(1,))
        cluster.settle()
        assert values(cluster, "bob", 1) == {}
        cluster.release()
        cluster.run(SECOND)
        assert values(cluster, "bob", 1) == {1: 7}


def test_p40_nothing_is_answered_while_a_state_is_fetched() -> None:
    cluster = Cluster(options=SMALL)
    cluster.isolate(3)
    for timestamp in range(1, 14):
        cluster.submit("ann", timestamp)
        cluster.settle()
    cluster.heal()
    cluster.holds = lambda packet: type(packet.message) is m.PartData
    cluster.run(2 * SECOND, until=lambda: cluster.core(3).transfer.running)
    assert cluster.core(3).transfer.running
    ask(cluster, read_of(cluster, "bob", 1), to=(3,))
    cluster.settle()
    assert values(cluster, "bob", 1) == {}
    cluster.release()
    cluster.run(2 * SECOND)
    assert values(cluster, "bob", 1)[3] >= 12, "what it was given, or later"


def test_5_1_what_a_view_change_took_back_needs_no_waiting_for() -> None:
    """A COMMIT for a seq that the new view does not have: it was committed nowhere. There both requests are one seq."""
    cluster = Cluster(options={"batch_delay_us": 0})
    cluster.blocked = lambda packet: packet.to != 1 and type(packet.message) in (m.Prepare, m.Commit)
    cluster.submit("ann", 1)
    cluster.submit("ann", 2)
    cluster.settle()
    assert cluster.core(1).ordering.promised == 2
    cluster.blocked = lambda packet: (
        1 in (packet.sender, packet.to) or (type(packet.message) in PHASES and packet.message.view == 0)
    )
    for client in ("ann", "bob"):
        cluster.submit(client, 3, to=(0, 2, 3), low=2)
    assert cluster.run(9 * SECOND, until=lambda: cluster.core(2).view > 0 and cluster.core(2).executed > 0)
    cluster.blocked = lambda packet: False
    cluster.run(5 * SECOND)
    assert cluster.executed() == [1] * 4
    ask(cluster, read_of(cluster, "bob", 1), to=(1,))
    cluster.run(SECOND)
    assert 1 in values(cluster, "bob", 1)


def test_5_1_a_read_must_be_read_only_and_its_clients_own() -> None:
    cluster = Cluster()
    for sender, request, rule in (
        ("ann", read_of(cluster, "ann", 1, flags=0), "read-only request of the client itself"),
        ("bob", read_of(cluster, "ann", 1), "read-only request of the client itself"),
    ):
        cluster.step(1, Received(sender, Read(request.raw)))
        assert rule in " ".join(cluster.rules(1)[-1:])
    forged = Request(read_of(cluster, "ann", 1).raw[:-1] + b"\x00")
    cluster.step(1, Received("ann", Read(forged.raw)))
    cluster.step(1, Received(2, Read(forged.raw)))
    assert "a replica sends no Read" in " ".join(cluster.rules(1)[-1:])
    assert values(cluster, "ann", 1) == {}


def test_p36_reads_that_wait_are_bounded() -> None:
    cluster = Cluster(options={"client_requests_max": 2, "pending_requests_max": 3})
    cluster.holds = lambda packet: packet.to == 1 and type(packet.message) is m.Commit
    cluster.submit("ann", 1)
    cluster.settle()
    for client in ("ann", "bob"):
        for timestamp in (11, 12, 13):
            ask(cluster, read_of(cluster, client, timestamp), to=(1,))
            cluster.settle()
    said = {key: replies[1].answer for key, replies in cluster.replies.items() if key[1] > 10}
    assert said == dict.fromkeys([("ann", 13), ("bob", 12), ("bob", 13)], Answer.OVERLOADED)


def many(cluster: Cluster, client: str, timestamp: int, count: int) -> Request:
    operations = [Counter.operation("value")] * count
    return Request.make(cluster.signers[client].sign, DOMAIN, client, timestamp, 0, operations, READ_ONLY)


def test_p36_the_same_read_again_is_not_answered_and_a_storm_of_it_is_shunned() -> None:
    """No correct client sends a read twice: it has it ordered."""
    cluster = Cluster(options={"robust": True})
    read = read_of(cluster, "eve", 7)
    said = [cluster.step(1, Received("eve", Read(read.raw))) for _ in range(REPEATED_MAX + 2)]
    assert [type(effect).__name__ for effect in said[0]][-1:] == ["Reply"]
    verified = cluster.verified
    assert said[1:-1] == [[]] * REPEATED_MAX
    assert [type(effect) for effect in said[-1]] == [Shun]
    cluster.now += SECOND
    assert cluster.step(1, Received("eve", Read(read_of(cluster, "eve", 500).raw)))
    assert cluster.step(1, Received("eve", Read(read.raw))) == [], "too old to be told apart"
    assert cluster.verified == verified + 1


@pytest.mark.parametrize("counts", [(OPERATIONS + 1,), (600, 600, 600)])
def test_p36_what_much_is_read_of_while_others_order_is_ordered_too(counts: tuple[int, ...]) -> None:
    """The last read is not answered at once: replicas say what no two of them can agree on."""
    cluster = Cluster(options={"robust": True, "request_operations_max": 4_096})
    for timestamp, count in enumerate(counts, 1):
        ask(cluster, many(cluster, "bob", timestamp, count))
    cluster.settle()
    assert values(cluster, "bob", len(counts)) == dict.fromkeys(range(4), 0), "nothing is ordered: nobody waits"
    cluster.submit("ann", 1)
    cluster.settle()
    for timestamp, count in enumerate(counts, 11):
        ask(cluster, many(cluster, "bob", timestamp, count))
    cluster.settle()
    replies = cluster.replies["bob", 10 + len(counts)]
    assert all(reply.digested for reply in replies.values())
    assert len({reply.results for reply in replies.values()}) == 4
    cluster.inject("bob", 0, Submit(many(cluster, "bob", 10 + len(counts), counts[-1]).raw))
    cluster.settle()
    assert cluster.done("bob", 10 + len(counts))


# ------------------------------------------------------------------------------------------------------- digest replies


def test_5_1_one_replica_answers_in_full_and_the_others_with_a_digest() -> None:
    cluster = Cluster()
    operations = [Counter.operation("add", 1)] * 50
    request = Request.make(cluster.signers["ann"].sign, DOMAIN, "ann", 1, 0, operations, 0, 2)
    cluster.inject("ann", 0, Submit(request.raw))
    cluster.settle()
    replies = cluster.replies["ann", 1]
    assert {node: reply.digested for node, reply in replies.items()} == {0: True, 1: True, 2: False, 3: True}
    assert {reply.results for node, reply in replies.items() if node != 2} == {digest_of(replies[2].results)}
    cluster.inject("ann", 3, Submit(request.raw))
    cluster.settle()
    assert cluster.replies["ann", 1][3].results == replies[2].results, "asked again, it answers in full"


def test_5_1_short_results_are_no_longer_than_a_digest() -> None:
    cluster = Cluster()
    request = Request.make(cluster.signers["ann"].sign, DOMAIN, "ann", 1, 0, [Counter.operation("add", 1)], 0, 2)
    cluster.inject("ann", 0, Submit(request.raw))
    cluster.settle()
    assert not any(reply.digested for reply in cluster.replies["ann", 1].values())
