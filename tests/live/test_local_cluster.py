"""The replicated log inside a program: both protocols, real links and disks, in the test's own loop."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from replog import LocalCluster, NotCommitted, OperationFailed, OutcomeUnknown, RequestTooLarge, StateMachine, command
from replog.apps.kv import KeyValue
from replog.config import create_cluster, storage_owner
from replog.errors import Compacted, ConfigError, NoCluster, Overloaded
from replog.live import client as client_module
from replog.live.client import LogClient, agreed_entries
from replog.live.locks import holder
from replog.storage import Storage
from replog.types import LogEntry, LogReply

pytestmark = pytest.mark.live
PROTOCOLS = ["pbft", "raft"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_write_read_and_status(protocol: str) -> None:
    async with LocalCluster(protocol, f=1) as cluster:
        await cluster.call("put", "x", "1")
        assert await cluster.call("get", "x") == "1"
        assert await cluster.submit(KeyValue.operation("get", "x")) == "1"
        assert await cluster.read(KeyValue.operation("get", "x")) == "1"
        said = await cluster.status()
        assert [word.node for word in said] == list(range(cluster.config.n))
        assert all(word.status is not None and word.status.node == word.node for word in said)


async def test_a_client_that_cannot_begin_leaves_its_name_free(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "cluster", "raft", f=1)
    (config.client_folder("cli") / "tls.key").unlink()
    with pytest.raises(ConfigError, match=r"tls\.key|tls\.pem"):
        await LogClient(config, "cli").__aenter__()
    assert holder(config.client_folder("cli")) is None


class Rude(StateMachine):
    @command
    def leave(self, how: str) -> None:
        raise {"interrupt": KeyboardInterrupt, "exit": SystemExit, "generator": GeneratorExit}[how]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_application_does_not_stop_its_replicas(protocol: str) -> None:
    """X15"""
    async with LocalCluster(protocol, Rude, f=1) as cluster:
        for how, name in (("interrupt", "KeyboardInterrupt"), ("exit", "SystemExit"), ("generator", "GeneratorExit")):
            with pytest.raises(OperationFailed, match=name):
                await cluster.call("leave", how)
        assert all(word.status is not None for word in await cluster.status())


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_too_large_a_request_is_the_same_error_at_once(protocol: str) -> None:
    """Whatever it would take, 70 MB or a little too much, nothing of it is sent."""
    async with LocalCluster(protocol, f=1, options={"request_bytes_max": 100_000}) as cluster:
        for size in (100_000, 70_000_000):
            with pytest.raises(RequestTooLarge, match="request_bytes_max = 100000"):
                await cluster.call("put", "x", "v" * size)
        await asyncio.gather(*(cluster.call("put", f"k{n}", "v" * 40_000) for n in range(6)))
        requests = [request async for entry in cluster.log() for request in entry.requests]
        assert max(len(request.operations) for request in requests) <= 2, "a pack is within the limit too"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_many_calls_at_once_are_packed_and_answered_each(protocol: str) -> None:
    async with LocalCluster(protocol, f=1) as cluster:
        await asyncio.gather(*(cluster.call("put", f"k{n}", str(n)) for n in range(300)))
        requests = [request async for entry in cluster.log() for request in entry.requests]
        assert sum(len(request.operations) for request in requests) == 300
        assert len(requests) < 30
        assert await asyncio.gather(*(cluster.call("get", f"k{n}") for n in range(300))) == [str(n) for n in range(300)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_log_shows_operations_in_order_and_follows(protocol: str) -> None:
    async with LocalCluster(protocol, f=1) as cluster:
        for n in range(5):
            await cluster.call("put", "x", str(n))
        shown = [entry async for entry in cluster.log()]
        assert [entry.index for entry in shown] == list(range(1, len(shown) + 1))
        operations = [one for entry in shown for request in entry.requests for one in request.operations]
        assert operations == [KeyValue.operation("put", "x", str(n)) for n in range(5)]

        following = cluster.log(len(shown) + 1, follow=True)
        later = asyncio.create_task(anext(following))  # type: ignore[arg-type]
        await cluster.call("put", "y", "late")
        entry = await asyncio.wait_for(later, 10)
        assert entry.index == len(shown) + 1
        assert entry.requests[0].client == "cli"


async def test_what_the_application_refuses_is_a_result() -> None:
    async with LocalCluster("pbft", f=1) as cluster:
        await cluster.call("put", "x", "1")
        with pytest.raises(OperationFailed, match="UnknownMethod"):
            await cluster.submit(b"\x91\xa3fly")
        with pytest.raises(TypeError, match="no method 'fly'"):
            await cluster.call("fly")
        assert await cluster.call("get", "x") == "1"


async def test_a_command_among_reads_is_refused() -> None:
    async with LocalCluster("pbft", f=1) as cluster:
        with pytest.raises(OperationFailed, match="NotAQuery"):
            await cluster.read(KeyValue.operation("put", "x", "1"))
        assert await cluster.call("get", "x") is None


async def test_a_cluster_that_has_not_begun_says_so() -> None:
    cluster = LocalCluster("pbft", f=1)
    with pytest.raises(NoCluster, match="has not begun: use it within `async with"):
        await cluster.call("get", "x")
    with pytest.raises(NoCluster, match="has not begun"):
        cluster.client("gateway")


async def test_clusters_side_by_side_know_nothing_of_each_other() -> None:
    async with LocalCluster("pbft", f=1) as one, LocalCluster("raft", f=1) as two:
        await asyncio.gather(one.call("put", "x", "one"), two.call("put", "x", "two"))
        assert await asyncio.gather(one.call("get", "x"), two.call("get", "x")) == ["one", "two"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_cluster_goes_on_where_it_stopped(protocol: str, tmp_path: Path) -> None:
    for turn in range(3):
        async with LocalCluster(protocol, f=1, dir=tmp_path / "c") as cluster:
            assert await cluster.call("get", "turn") == (str(turn - 1) if turn else None)
            await cluster.call("put", "turn", str(turn))


OFTEN = {
    "pbft": {"checkpoint_interval": 8, "log_window": 16},
    "raft": {"snapshot_entries": 8, "log_tail": 2},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_cluster_goes_on_from_checkpoints(protocol: str, tmp_path: Path) -> None:
    """State is saved and logs are cut, again and again; then everything is still there."""
    count = 0
    for _ in range(3):
        async with LocalCluster(protocol, f=1, dir=tmp_path / "c", options=OFTEN[protocol]) as cluster:
            assert len(await cluster.call("scan", "k")) == count
            for _ in range(30):
                await cluster.call("put", f"k{count}", "v")
                count += 1
            stable = [said.status.stable for said in await cluster.status() if said.status is not None]
        logs = [Storage(node._folder, storage_owner(cluster.config.cluster, node.me)) for node in cluster.nodes]
        assert max(stable) >= count - 20
        assert all(log.saved_index > 0 and len(log.load()) < log.appended for log in logs)
        for log in logs:
            log.close()


async def test_nothing_is_left_when_it_ends() -> None:
    before = asyncio.all_tasks()
    async with LocalCluster("pbft", f=1) as cluster:
        folder = cluster.config.folder
        await cluster.call("put", "x", "1")
    assert asyncio.all_tasks() == before
    assert not folder.exists()


# -------------------------------------------------------------------------------------------------- what clients learn


async def test_a_cancelled_call_breaks_nothing() -> None:
    async with LocalCluster("pbft", f=1) as cluster:
        calls = [asyncio.create_task(cluster.call("append", "x", f"{n},")) for n in range(50)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
        said = (await cluster.call("get", "x")).split(",")[:-1]
        assert len(said) == len(set(said))
        assert {str(n) for n in range(1, 50, 2)} <= set(said)


async def test_a_call_without_a_quorum_ends_as_unknown() -> None:
    async with LocalCluster("pbft", f=1) as cluster, cluster.client("gateway") as client:
        await client.wait_connected(4)
        for node in cluster.nodes[1:]:
            node.stop()
        await asyncio.gather(*[cluster._running[node.me] for node in cluster.nodes[1:]])
        with pytest.raises(OutcomeUnknown):
            await client.execute(KeyValue.operation("put", "x", "1"), timeout=0.5)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition`, which something in this loop is about to make true."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("it never came true")


async def test_closing_tells_those_who_wait() -> None:
    async with LocalCluster("pbft", f=1) as cluster:
        client = cluster.client("gateway")
        async with client:
            for node in cluster.nodes[1:]:
                node.stop()
            await asyncio.gather(*[cluster._running[node.me] for node in cluster.nodes[1:]])
            sent = asyncio.create_task(client.submit(KeyValue.operation("put", "x", "1")))
            await until(lambda: bool(client._under_way))
            late = asyncio.create_task(client.submit(KeyValue.operation("put", "x", "2")))
            await until(lambda: bool(client._waiting))
        with pytest.raises(OutcomeUnknown):
            await sent
        with pytest.raises(NotCommitted):
            await late
        with pytest.raises(NotCommitted, match="closed"):
            await client.submit(KeyValue.operation("put", "x", "3"))


async def test_more_than_may_wait_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "WAITING_MAX", 10)
    async with LocalCluster("pbft", f=1) as cluster:
        puts = [cluster.call("put", f"k{n}", "v") for n in range(30)]
        results = await asyncio.gather(*puts, return_exceptions=True)
        refused = [result for result in results if isinstance(result, Overloaded)]
        assert 0 < len(refused) == 30 - len(await cluster.call("scan", "k"))


async def test_one_process_at_a_time_uses_a_clients_name() -> None:
    async with LocalCluster("pbft", f=1) as cluster:
        with pytest.raises(ConfigError, match="one process at a time"):
            async with cluster.client("cli"):
                pass
        with pytest.raises(ConfigError, match="client = 'ann': is not registered"):
            cluster.client("ann")


async def test_no_cluster_is_an_error_that_says_where_it_looked(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "pbft", f=1, port=1)
    with pytest.raises(NoCluster, match=r"0 of 4 replicas answer.*127\.0\.0\.1:1"):
        async with LogClient(config, connect_timeout=0.2):
            pass


async def test_a_wrap_needs_a_laboratory(tmp_path: Path) -> None:
    from replog.live.node import Node, find_wrap

    config = create_cluster(tmp_path / "c", "pbft", f=1)
    with pytest.raises(ConfigError, match="only a cluster made for the laboratory"):
        Node(config, 0, wrap=lambda node, replica: replica)
    with pytest.raises(ConfigError, match="only a cluster made for the laboratory"):
        find_wrap(config, "os:getcwd", {})


async def test_a_replica_runs_once(tmp_path: Path) -> None:
    async with LocalCluster("pbft", f=1, dir=tmp_path / "c"):
        with pytest.raises(ConfigError, match="this replica runs already"):
            async with LocalCluster("pbft", f=1, dir=tmp_path / "c"):
                pass


# ------------------------------------------------------------------------------------------------------ whose log it is


def entry(index: int, time: int = 0) -> LogEntry:
    return LogEntry(index, time, [])


def says(*entries: LogEntry, first: int = 1) -> LogReply:
    return LogReply(1, first, entries[-1].index if entries else 0, list(entries))


def test_an_entry_of_the_log_needs_as_many_replicas_as_a_result() -> None:
    lie, truth = [entry(1), entry(2, 9)], [entry(1), entry(2), entry(3)]
    assert agreed_entries([says(*lie)], 1, 2) == []
    assert agreed_entries([says(*lie), says(*truth)], 1, 2) == truth[:1]
    assert agreed_entries([says(*lie), says(*truth), says(*truth[:2])], 1, 2) == truth[:2]
    assert agreed_entries([says(entry(2)), says(entry(2))], 1, 2) == []
    assert agreed_entries([says(entry(1), entry(3))] * 2, 1, 2) == []


def test_compaction_is_believed_when_enough_say_it() -> None:
    gone, lie = says(first=50), says(first=1_000_000)
    check = client_module._check_kept
    with contextlib.suppress(NoCluster):
        check([lie], 1, 2)
        pytest.fail("one replica is not enough")
    check([lie, says(entry(1)), says(entry(1))], 1, 2)
    with pytest.raises(Compacted) as caught:
        check([lie, gone, gone], 1, 2)
    assert caught.value.first == 50
