"""A live replica's counters: exact where the protocol says how much there must be, and told in its status."""

import asyncio
from collections.abc import Callable

import pytest

from pbft.messages import Commit, Prepare, PrePrepare
from raft.messages import AppendEntries, AppendReply
from replog import LocalCluster
from replog.live.counters import TOLD, Counters
from replog.live.report import counters_of
from replog.types import Reply, Status, StatusReply, StatusRequest, Submit, decode_status, encode_status

OPERATIONS = 10
CALM = {"view_timeout_us": 60_000_000, "status_interval_us": 7_000_000, "robust": False}
"""Nobody waits so long that anything is sent twice, however slow this machine is just now; and no request goes to all
at once, so that they see how it fares."""


async def until(cluster: LocalCluster, holds: Callable[[], bool]) -> None:
    turned = asyncio.Event()
    for node in cluster.nodes:
        node.engine.after_turns(turned.set)
    async with asyncio.timeout(30):
        while not holds():
            turned.clear()
            await turned.wait()


def sent(cluster: LocalCluster, *kinds: type) -> int:
    return sum(node.engine.counters.sent.kinds[kind] for node in cluster.nodes for kind in kinds)


@pytest.mark.live
async def test_pbft_without_batching_sends_and_signs_exactly_what_the_paper_says() -> None:
    """One client, one operation at a time: an instance each. n = 4: 3 + 9 + 12 = 24 phase messages, of which the
    primary signs the PRE-PREPARE, 3 backups a PREPARE and all 4 a COMMIT. [CL99 4.2]"""
    async with LocalCluster("pbft", f=1, options=CALM) as cluster:
        for number in range(OPERATIONS):
            await cluster.call("put", "x", str(number))
        phases = (PrePrepare, Prepare, Commit)
        await until(cluster, lambda: sent(cluster, *phases) >= 24 * OPERATIONS)
        counters = [node.engine.counters for node in cluster.nodes]
        assert [sent(cluster, kind) for kind in phases] == [3 * OPERATIONS, 9 * OPERATIONS, 12 * OPERATIONS]
        await until(cluster, lambda: sum(one.client_sent.kinds[Reply] for one in counters) == 4 * OPERATIONS)
        assert sum(one.meter.signed for one in counters) == 8 * OPERATIONS
        assert sum(one.client_received.kinds[Submit] for one in counters) == OPERATIONS


@pytest.mark.live
async def test_raft_sends_an_entry_to_each_follower_once_and_signs_nothing() -> None:
    async with LocalCluster("raft", f=1) as cluster:
        before = sent(cluster, AppendEntries, AppendReply)
        for number in range(OPERATIONS):
            await cluster.call("put", "x", str(number))
        await until(cluster, lambda: sent(cluster, AppendEntries, AppendReply) >= before + 4 * OPERATIONS)
        assert sum(node.engine.counters.meter.signed for node in cluster.nodes) == 0


@pytest.mark.live
@pytest.mark.parametrize("protocol", ["pbft", "raft"])
async def test_what_one_sends_others_receive(protocol: str) -> None:
    async with LocalCluster(protocol, f=1) as cluster:
        await asyncio.gather(*(cluster.call("put", f"k{n}", str(n)) for n in range(50)))
        counters = [node.engine.counters for node in cluster.nodes]
        # Equal in a moment in which nothing is on its way; what was lost while links were made was sent all the same.
        lost = sum(one.sent.messages for one in counters) - sum(one.received.messages for one in counters)
        assert lost >= 0
        assert sum(one.sent.bytes for one in counters) >= sum(one.received.bytes for one in counters) > 0


@pytest.mark.live
@pytest.mark.parametrize("protocol", ["pbft", "raft"])
async def test_each_replica_tells_its_counters_and_looking_changes_none(protocol: str) -> None:
    async with LocalCluster(protocol, f=1) as cluster:
        await cluster.call("put", "x", "1")
        for word in await cluster.status():
            assert word.status is not None
            told = counters_of(word.status)
            assert told.keys() == TOLD.keys()
            assert told["messages_sent"] > 0
            assert told["commits"] > 0
            assert word.status.detail.keys() > TOLD.keys(), "the protocol's own detail stays"
        for node in cluster.nodes:
            counters = node.engine.counters
            assert not {StatusRequest, StatusReply} & (
                counters.client_sent.kinds.keys() | counters.client_received.kinds
            )


def test_counters_are_told_by_the_names_that_are_documented() -> None:
    counters = Counters()
    assert counters.told().keys() == TOLD.keys()
    counters.sent.add(Submit(b"r"), size=5, receivers=3)
    counters.client_received.add(Submit(b"r"), size=7)
    told = counters.told()
    assert (told["messages_sent"], told["bytes_sent"], told["client_bytes_received"]) == (3, 15, 7)


def test_a_word_goes_on_with_the_counters_in_it() -> None:
    counters = Counters()
    counters.meter.signed = 9
    status = Status(1, "pbft", "backup", 0, 0, 5, 0, True, detail={"waiting": 2})
    reply = counters.told_in(StatusReply(8, encode_status(status)))
    detail = decode_status(reply.status).detail
    assert (reply.token, detail["waiting"], detail["signatures_made"]) == (8, 2, 9)


def test_what_is_no_count_is_not_read_as_one() -> None:
    told = {"messages_sent": 3, "bytes_sent": -1, "commits": "many", "waiting": 4}
    assert counters_of(Status(1, "pbft", "backup", 0, 0, 5, 0, True, detail=told)) == {"messages_sent": 3}
