"""What a replica says of a folder that it cannot start from: a named error, and everything is let go."""

import asyncio
import errno
import logging
import shutil
from pathlib import Path

import pytest

from replog import create_cluster
from replog.apps.kv import KeyValue
from replog.config import ClusterConfig, storage_owner
from replog.errors import ConfigError, NotCommitted, OutcomeUnknown
from replog.executor import Executor
from replog.live.client import LogClient
from replog.live.locks import FolderLock
from replog.live.node import Node
from replog.storage import Storage, StorageFailed
from replog.timestamps import Timestamps
from tests.live.test_crash import free_ports

pytestmark = pytest.mark.live


def make(tmp_path: Path, trace: str = "off") -> ClusterConfig:
    return create_cluster(tmp_path / "c", "raft", n=1, f=0, port=free_ports(1), trace=trace)  # type: ignore[arg-type]


def open_storage(config: ClusterConfig) -> Storage:
    return Storage(config.node_folder(0), storage_owner(config.cluster, 0))


def assert_let_go(config: ClusterConfig) -> None:
    FolderLock(config.node_folder(0)).release()
    open_storage(config).close()


async def test_a_state_ahead_of_the_log_is_an_error_of_the_disk(tmp_path: Path) -> None:
    config = make(tmp_path)
    executor = Executor(KeyValue())
    for index in (1, 2, 3):
        executor.apply(index, [], 0, b"")
    executor.checkpoint(3)
    storage = open_storage(config)
    storage.save(executor.snapshot(3))
    storage.close()
    with pytest.raises(StorageFailed, match=r"do not fit together: the saved state is at index 3"):
        await Node(config, 0).start()
    assert_let_go(config)


async def test_a_trace_that_cannot_be_written_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    config = make(tmp_path, "all")
    (config.node_folder(0) / "trace.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"trace = 'all': .*trace\.jsonl: Is a directory"):
        await Node(config, 0).start()
    assert_let_go(config)


async def test_a_write_ahead_file_that_cannot_be_read_is_an_error_of_the_disk(tmp_path: Path) -> None:
    config = make(tmp_path)
    path = config.node_folder(0) / "log.db-wal"
    path.mkdir()
    with pytest.raises(StorageFailed, match=r"log\.db-wal: Is a directory"):
        await Node(config, 0).start()
    path.rmdir()
    assert_let_go(config)


async def test_another_replica_s_link_certificate_is_named(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "raft", n=2, f=0, port=free_ports(2))
    for name in ("tls.pem", "tls.key"):
        shutil.copy(config.node_folder(1) / name, config.node_folder(0))
    rule = rf"node-0/tls\.pem: is the certificate of replog:{config.cluster}:node:1, must be that of .*:node:0"
    with pytest.raises(ConfigError, match=rule):
        await Node(config, 0).start()
    assert_let_go(config)


@pytest.mark.parametrize("name", ["log.db", "state.db"])
async def test_an_empty_file_is_no_empty_storage(tmp_path: Path, name: str) -> None:
    config = make(tmp_path)
    path = config.node_folder(0) / name
    kept = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(StorageFailed, match=rf"{name}: is empty; .* must not start empty, .*; put the file back, or"):
        await Node(config, 0).start()
    path.write_bytes(kept)
    assert_let_go(config)


@pytest.mark.parametrize("text", ["9" * 19, "9" * 5000, "12x", "-1", "\u0663"])
async def test_a_noted_timestamp_that_none_can_be_is_named(tmp_path: Path, text: str) -> None:
    config = make(tmp_path)
    path = config.client_folder("cli") / "timestamp"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"client-cli/timestamp: '.*': must be a number of at most 17 digits"):
        await LogClient(config).__aenter__()
    FolderLock(path.parent).release()


async def test_a_client_whose_clock_is_set_back_uses_no_timestamp_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody runs: what the first life has sent and nobody has answered counts as used."""
    config, used = make(tmp_path), []
    for second in (1_700_000_000, 1_699_999_000):
        monkeypatch.setattr("time.time_ns", lambda second=second: second * 10**9)
        async with LogClient(config, connect_timeout=None) as client:
            calls = [asyncio.create_task(client.call("put", key, "1")) for key in "abc"]
            for _ in range(10):
                await asyncio.sleep(0)
            used.append(set(client._under_way))
        assert all(isinstance(end, OutcomeUnknown) for end in await asyncio.gather(*calls, return_exceptions=True))
    assert len(used[0]) > 0
    assert min(used[1]) > max(used[0])


async def test_what_cannot_be_noted_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Timestamps) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with LogClient(make(tmp_path), connect_timeout=None) as client:
        monkeypatch.setattr(Timestamps, "take", full)
        with pytest.raises(NotCommitted, match=r"its timestamp cannot be noted: .*client-cli: No space left"):
            await client.call("put", "k", "1")
        assert not client._under_way


async def test_a_torn_end_of_the_log_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = make(tmp_path)
    path = config.node_folder(0) / "log.db-wal"
    storage = open_storage(config)
    storage.append([])
    kept = shutil.copytree(config.node_folder(0), tmp_path / "kept")
    storage.close()
    shutil.copytree(kept, config.node_folder(0), dirs_exist_ok=True)
    path.write_bytes(path.read_bytes() + path.read_bytes()[32 : 32 + 100])  # the beginning of one more write
    node = Node(config, 0)
    with caplog.at_level(logging.WARNING):
        await node.start()
    assert "log.db: the end of a write" in caplog.text
    running = asyncio.create_task(node.run())
    async with LogClient(config) as client:
        (said,) = await client.status()
        assert said.status is not None
        assert said.status.detail["log"] == "torn at the start"
    node.stop()
    await running
