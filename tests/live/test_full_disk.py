"""A disk without room: clients' writes are refused in a clear word, nothing is promised that is not there, and it goes
on by itself. Under the real SQLite, by `compare.crash_disk`; and a flush that fails ends the store for good."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from compare import crash_points
from compare.crash_disk import Platter
from replog.core import Persist, Send
from replog.live import engine as module
from replog.live.engine import Disk
from replog.storage import DiskFull, Storage, StorageFailed
from replog.types import StatusRequest

OWNER = "test"
MESSAGE = StatusRequest(1)


class Snapshot:
    def __init__(self, index: int, size: int) -> None:
        self.index = index
        self.digest = bytes(32)
        self._size = size

    def parts(self, since: object = None) -> Iterator[tuple[int, bytes]]:
        yield from ((part, Random(part).randbytes(self._size)) for part in range(4))


@pytest.fixture
def platter() -> Iterator[Platter]:
    with tempfile.TemporaryDirectory(dir=crash_points.memory()) as name:
        Storage.create(Path(name), OWNER)
        platter = Platter(Path(name), Random(1), wal_bytes=200_000)
        yield platter
        platter.restore("nothing")


@pytest.fixture
def storage(platter: Platter) -> Storage:
    return Storage(platter.folder, OWNER, base=platter.base)


def again(platter: Platter) -> Storage:
    """After a kill."""
    platter.restore("nothing")
    return Storage(platter.folder, OWNER, base=platter.base)


def test_what_finds_no_room_is_not_done_and_may_be_tried_again(platter: Platter, storage: Storage) -> None:
    storage.append([(1, b"before")])
    platter.room = 5_000
    for _ in range(3):
        with pytest.raises(DiskFull, match="full"):
            storage.append([(2, bytes(50_000))])
    assert storage.appended == 1
    platter.room = None
    storage.append([(2, b"after")])
    assert again(platter).load() == [b"before", b"after"]


def test_whoever_is_killed_without_room_has_all_that_was_acknowledged(platter: Platter, storage: Storage) -> None:
    storage.append([(1, b"before")])
    platter.room = 5_000
    with pytest.raises(DiskFull):
        storage.append([(2, bytes(50_000))])
    platter.room = None
    assert again(platter).load() == [b"before"]


def test_a_commit_is_done_even_if_its_write_ahead_file_cannot_be_copied(platter: Platter, storage: Storage) -> None:
    """The database would have to grow; the write-ahead file has it all. Nothing is written twice."""
    rows = 0
    while rows < 60:
        platter.room = 30_000
        try:
            storage.append([(rows, bytes([rows]) * 9_000)])
        except DiskFull:
            platter.room = None
            continue
        rows += 1
    platter.room = None
    assert again(platter).load() == [bytes([row]) * 9_000 for row in range(60)]


def test_a_checkpoint_that_finds_no_room_leaves_the_old_one_and_can_be_tried_again(
    platter: Platter, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replog.storage.SLICE_BYTES", 1)
    storage.save(Snapshot(1, 1_000))
    platter.room = 60_000
    with pytest.raises(DiskFull):
        storage.save(Snapshot(2, 30_000))
    assert storage.saved_index == 1
    platter.room = None
    storage.save(Snapshot(2, 30_000))
    saved = again(platter).load_state()
    assert saved is not None
    assert saved.index == 2
    assert dict(saved.parts) == dict(Snapshot(2, 30_000).parts())


@pytest.mark.parametrize("operation", ["append", "save"])
def test_a_flush_that_fails_ends_the_store(platter: Platter, storage: Storage, operation: str) -> None:
    """The system may have dropped what it could not write: a second flush would lie. (HAZARDS X1)"""
    storage.append([(1, b"before")])
    platter.failing = True
    with pytest.raises(StorageFailed, match=r"I/O error|flush failed"):
        storage.append([(2, b"lost")]) if operation == "append" else storage.save(Snapshot(1, 10))
    platter.failing = False
    with pytest.raises(StorageFailed, match="refused after an earlier failure"):
        storage.append([(2, b"retry")]) if operation == "append" else storage.save(Snapshot(1, 10))
    assert again(platter).load()[:1] == [b"before"]


@pytest.mark.parametrize("slow", [False, True])
async def test_nothing_leaves_until_there_is_room_and_then_all_does_in_order(
    platter: Platter, storage: Storage, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FULL_RETRY_S", 0.01)
    progress = asyncio.Event()
    disk = Disk(storage, lambda _: bytes(50_000), progress.set)
    disk._durations.extend([1.0 if slow else 0.0] * module.MEDIAN_OF)
    platter.room = 5_000
    disk.add([Persist(MESSAGE, 1), Send((1,), MESSAGE)])
    disk.commit()
    for _ in range(5):
        await asyncio.wait_for(progress.wait(), 20)
        progress.clear()
        disk.commit()
        assert disk.outbox.ready() == []
    assert "full" in disk.refusal
    disk.add([Persist(MESSAGE, 2), Send((2,), MESSAGE)])
    platter.room = None
    sent = []
    while len(sent) < 2:
        disk.commit()
        sent += disk.outbox.ready()
        if len(sent) < 2:
            await asyncio.wait_for(progress.wait(), 20)
            progress.clear()
    assert sent == [Send((1,), MESSAGE), Send((2,), MESSAGE)]
    assert disk.full == ""
    await disk.close()
    assert len(again(platter).load()) == 2


async def test_little_room_is_kept_for_promises(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(storage, lambda _: b"", lambda: None)
    monkeypatch.setattr(storage, "room", lambda: module.ROOM_BYTES - 1)
    assert "16383 KiB left on the disk, 16384 wanted" in disk.refusal
    await disk.close()


async def test_periodic_flushes_what_was_written_and_stops_when_that_fails(
    platter: Platter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.01)
    progress = asyncio.Event()
    storage = Storage(platter.folder, OWNER, "periodic", platter.base)
    disk = Disk(storage, lambda _: b"record", progress.set)
    disk._durations.extend([0.0] * module.MEDIAN_OF)
    flushes = []
    flush = storage._log._file._flush
    monkeypatch.setattr(storage._log._file, "_flush", lambda: flushes.append(flush()))
    disk.add([Persist(MESSAGE, 1), Send((1,), MESSAGE)])
    disk.commit()
    assert len(disk.outbox.ready()) == 1
    await asyncio.wait_for(progress.wait(), 20)
    assert flushes == [None]

    def fails() -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(storage._log._file, "_flush", fails)
    progress.clear()
    disk.add([Persist(MESSAGE, 2)])
    disk.commit()
    await asyncio.wait_for(progress.wait(), 20)
    with pytest.raises(StorageFailed, match="Input/output error"):
        disk.commit()
    await disk.close()
