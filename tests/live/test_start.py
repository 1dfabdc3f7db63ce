"""What a replica says of a folder that it cannot start from: a named error, and everything is let go."""

import asyncio
import logging
import shutil
import time
from pathlib import Path

import pytest

from replog import create_cluster
from replog.apps.kv import KeyValue
from replog.config import ClusterConfig, storage_owner
from replog.errors import ConfigError
from replog.executor import Executor
from replog.live.client import LogClient, first_timestamp
from replog.live.locks import FolderLock
from replog.live.node import Node
from replog.storage import Storage, StorageFailed
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


@pytest.mark.parametrize("noted", ["", "7\n", "99999999999999999"])
def test_a_life_begins_beyond_what_was_noted(tmp_path: Path, noted: str) -> None:
    (tmp_path / "timestamp").write_text(noted)
    now = time.time_ns() // 1000
    start = first_timestamp(tmp_path)
    assert start >= max(now, int(noted or 0) + 1)
    assert (tmp_path / "timestamp").read_text() == str(start)


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
