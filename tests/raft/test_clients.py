"""Clients of a Raft cluster: who answers, what, and how often. [Raft 8; Ongaro14 6.3]"""

from __future__ import annotations

import pytest

from raft.config import RaftConfig
from raft.messages import AppendEntries
from raft.requests import Requests
from replog.apps.counter import Counter
from replog.core import Reply, Send
from replog.executor import Executor
from replog.types import NOBODY, Answer, Submit
from replog.types import Reply as ClientReply
from tests.raft.harness import MS, SECOND, Cluster, request


def answers(effects: list[object]) -> list[tuple[str, int, Answer, int]]:
    replies = [(effect.client, effect.message) for effect in effects if isinstance(effect, Reply)]
    assert all(isinstance(message, ClientReply) for _, message in replies)
    return [(client, message.timestamp, Answer(message.answer), message.leader) for client, message in replies]


def test_a_follower_names_the_leader() -> None:
    cluster = Cluster(3)
    assert answers(cluster.submit(1, "ann", 1)) == [("ann", 1, Answer.REDIRECT, NOBODY)]
    cluster.elect(0)
    assert answers(cluster.submit(1, "ann", 1)) == [("ann", 1, Answer.REDIRECT, 0)]


def test_a_retransmission_of_an_executed_request_gets_the_same_answer_at_once() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.settle()
    last = cluster.core(0).log.last_index
    again = cluster.submit(0, "ann", 1)
    assert answers(again) == [("ann", 1, Answer.DONE, 0)]
    assert cluster.core(0).log.last_index == last
    first, second = cluster.done("ann", 1)
    assert first == second


def test_a_retransmission_of_a_request_under_way_is_not_ordered_twice() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    assert cluster.submit(0, "ann", 1) == []
    cluster.settle()
    assert cluster.core(0).log.last_index == 2
    assert len(cluster.done("ann", 1)) == 1


def test_a_request_that_a_deposed_leader_left_behind_is_executed_once() -> None:
    """The new leader has it in its log already and is asked again before it knows what is committed (HAZARDS R22)."""
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.deliver_to(1, 2)
    cluster.crash(0)
    cluster.network.clear()
    cluster.elect_silently(1)
    cluster.submit(1, "ann", 1)
    cluster.settle()
    assert [result.index for result in cluster.done("ann", 1)] == [2]
    assert cluster.core(1).log.last_index == 4, "no-op, the request, no-op, the request again"
    assert cluster.servers[1].replica.executor.results("ann", 1) is not None
    cluster.run(100 * MS)
    cluster.submit(1, "ann", 2)
    cluster.settle()
    assert cluster.done("ann", 2)[0].outcomes == cluster_value(2)


def test_a_request_that_waits_while_an_older_copy_is_executed_is_not_ordered_again() -> None:
    cluster = Cluster(3, {"uncommitted_max": 1, "batch_requests_max": 1})
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.deliver_to(1, 2)
    cluster.crash(0)
    cluster.network.clear()
    cluster.elect_silently(1)
    cluster.submit(1, "bob", 1)
    cluster.submit(1, "ann", 1)
    assert cluster.core(1).requests.pending == 2
    cluster.settle()
    assert [result.index for result in cluster.done("ann", 1)] == [2]
    assert cluster.core(1).requests.pending == 0
    assert cluster.core(1).log.last_index == 4, "no-op, ann, no-op, bob"
    cluster.core(1).check_invariants()


def cluster_value(value: int) -> list[bytes]:
    return [b"\x92\x00" + bytes([value])]


def test_a_deposed_leader_answers_nothing_for_what_it_had_under_way() -> None:
    """Another entry may be at that index now: the outcome is the next leader's to tell (HAZARDS R23)."""
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.isolate(0)
    cluster.submit(0, "ann", 1)
    cluster.elect(1)
    cluster.submit(1, "bob", 1)
    cluster.settle()
    assert cluster.done("bob", 1)[0].index == 3
    cluster.heal()
    cluster.run(SECOND)
    assert cluster.core(0).last_applied == 3
    assert not cluster.replies.get(("ann", 1))
    assert cluster.core(0).requests is None


def test_the_sender_must_be_the_client_that_the_request_names() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    raw = request("ann", 1).raw
    assert answers(cluster.inject("eve", 0, Submit(raw))) == []
    assert answers(cluster.inject(1, 0, Submit(raw))) == [], "nobody forwards"
    assert cluster.rules(0) == ["a request of ann", "a request of ann"]
    assert cluster.core(0).log.last_index == 1


def test_bytes_that_are_no_request_are_noted() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    assert answers(cluster.inject("ann", 0, Submit(b"\x00"))) == []
    assert cluster.rules(0)[0].startswith("request:")


def test_a_client_that_speaks_as_a_server_is_noted() -> None:
    cluster = Cluster(3)
    cluster.inject("ann", 0, AppendEntries(9, 1, 0, 0, [], 0, 0))
    cluster.inject(0, 0, AppendEntries(9, 0, 0, 0, [], 0, 0))
    cluster.inject(1, 0, ClientReply(1, 0, b"", 0, 0))
    assert cluster.rules(0) == ["AppendEntries from 'ann'", "AppendEntries from 0", "Reply from 1"]
    assert cluster.core(0).current_term == 0


def test_beyond_what_may_wait_the_answer_is_overloaded() -> None:
    cluster = Cluster(3, {"pending_requests_max": 3, "uncommitted_max": 1})
    cluster.elect(0)
    effects = [effect for timestamp in range(1, 7) for effect in cluster.submit(0, "ann", timestamp)]
    said = answers(effects)
    assert said == [("ann", 5, Answer.OVERLOADED, 0), ("ann", 6, Answer.OVERLOADED, 0)]
    cluster.settle()
    assert all(cluster.done("ann", timestamp) for timestamp in (1, 2, 3, 4))
    cluster.submit(0, "ann", 5)
    cluster.settle()
    assert cluster.done("ann", 5)


def test_beyond_the_bytes_that_may_wait_too() -> None:
    size = request("ann", 2).size
    limits = {"pending_bytes_max": 2 * size, "request_bytes_max": size, "uncommitted_max": 1}
    cluster = Cluster(3, limits)
    cluster.elect(0)
    effects = [effect for timestamp in range(1, 6) for effect in cluster.submit(0, "ann", timestamp)]
    assert [answer for _, _, answer, _ in answers(effects)] == [Answer.OVERLOADED] * 2


def test_a_request_that_is_too_large_is_refused() -> None:
    cluster = Cluster(3, {"request_bytes_max": 20})
    cluster.elect(0)
    effects = cluster.submit(0, "ann", 1)
    assert [answer for _, _, answer, _ in answers(effects)] == [Answer.REFUSED]
    assert effects[0].message.results == f"request of {request('ann', 1).size} bytes: request_bytes_max = 20".encode()


@pytest.mark.parametrize(("timestamp", "low"), [(200, 0), (1, 0)])
def test_a_request_that_the_session_admits_no_more_is_refused(timestamp: int, low: int) -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.submit(0, "ann", 2, low=1)
    cluster.settle()
    effects = cluster.submit(0, "ann", timestamp, low=low)
    assert [answer for _, _, answer, _ in answers(effects)] == [Answer.REFUSED]


def test_what_no_session_admits_any_more_when_it_is_executed_is_refused_then() -> None:
    cluster = Cluster(3, {"uncommitted_max": 1})
    cluster.elect(0)
    cluster.submit(0, "bob", 1)
    cluster.submit(0, "ann", 70, low=60)
    cluster.submit(0, "ann", 5)
    cluster.settle()
    assert cluster.done("ann", 70)
    assert [reply.answer for reply in cluster.replies[("ann", 5)]] == [Answer.REFUSED]


def test_a_leader_cut_off_takes_no_more_than_its_bounds() -> None:
    cluster = Cluster(3, {"pending_requests_max": 10, "uncommitted_max": 2})
    cluster.elect(0)
    cluster.isolate(0)
    for timestamp in range(1, 41):
        cluster.submit(0, "ann", timestamp)
    assert cluster.core(0).log.last_index == 3
    assert cluster.core(0).requests.pending == 10
    sent = [send for send in cluster.sent_kinds(AppendEntries) if send.message.entries]
    assert len(sent) == 3


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({"batch_requests_max": 3}, [3, 3, 1]),
        ({"batch_operations_max": 2}, [2, 2, 2, 1]),
        ({"batch_bytes_max": 2 * request("ann", 1).size}, [2, 2, 2, 1]),
        ({"batch_bytes_max": 1}, [1] * 7),
    ],
)
def test_a_batch_is_within_requests_operations_and_bytes(limits: dict[str, int], sizes: list[int]) -> None:
    requests = Requests(RaftConfig(**limits), Executor(Counter()))
    for timestamp in range(1, 8):
        assert requests.offer(request("ann", timestamp)) is None
    assert [len(requests.take_batch()) for _ in sizes] == sizes
    assert requests.take_batch() == []
    requests.check_invariants()


def entries_of(cluster: Cluster, node: int = 0) -> list[int]:
    """How many requests each entry of the log has, but for the no-op."""
    log = cluster.core(node).log
    return [len(log.entry(index).requests) for index in range(2, log.last_index + 1)]


def test_a_batch_waits_for_company_while_others_are_under_way_and_no_longer_than_it_may() -> None:
    cluster = Cluster(3, {"batch_delay_us": 2 * MS})
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    assert entries_of(cluster) == [1], "nothing was under way"
    cluster.submit(0, "ann", 2)
    cluster.now += MS
    cluster.submit(0, "ann", 3)
    assert entries_of(cluster) == [1]
    began, cluster.blocked = cluster.now - MS, lambda packet: True
    cluster.network.clear()
    cluster.fire(0, "batch")
    assert cluster.now == began + 2 * MS, "since the first of them came"
    assert entries_of(cluster) == [1, 2]


def test_a_batch_waits_no_longer_than_what_was_under_way() -> None:
    cluster = Cluster(3, {"batch_delay_us": 2 * MS})
    cluster.elect(0)
    for timestamp in range(1, 4):
        cluster.submit(0, "ann", timestamp)
    cluster.settle()
    assert entries_of(cluster) == [1, 2]
    assert cluster.done("ann", 3)
    cluster.run(10 * MS)
    cluster.submit(0, "ann", 4)
    cluster.submit(0, "ann", 5)
    assert entries_of(cluster) == [1, 2, 1], "the timer that ran out with nobody waiting hurries nobody"


@pytest.mark.parametrize(
    "limit",
    [{"batch_requests_max": 2}, {"batch_operations_max": 2}, {"batch_bytes_max": 2 * request("ann", 1).size}],
)
def test_a_full_batch_waits_for_nothing(limit: dict[str, int]) -> None:
    cluster = Cluster(3, {"batch_delay_us": 2 * MS, **limit})
    cluster.elect(0)
    for timestamp in range(1, 5):
        cluster.submit(0, "ann", timestamp)
    assert entries_of(cluster) == [1, 2]
    cluster.settle()
    assert entries_of(cluster) == [1, 2, 1]


def test_replies_leave_only_behind_the_disk() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    effects = cluster.submit(0, "ann", 1)
    assert [type(effect).__name__ for effect in effects] == ["Send", "Persist"]
    assert isinstance(effects[0], Send)
