"""The turns of a live replica: timers that were replaced never fire, nothing leaves before its record is on disk."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from replog import LocalCluster, protocols
from replog.codec import FRAME_BYTES_MAX, pack_frame, unpack_frame
from replog.core import Effect, Event, Members, Persist, Received, Send, Trim
from replog.live import engine as module
from replog.live import inbox
from replog.live.engine import Disk, Engine, Timers, frames_of
from replog.storage import Storage, StorageFailed
from replog.types import Principal, Status, StatusRequest, Submit

OWNER = "cluster c node 0"
MESSAGE = StatusRequest(1)


class Gated(Storage):
    """A disk that writes when the test lets it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, OWNER)
        self.gate = threading.Event()
        self.written: list[list[int]] = []

    def append(self, records: Sequence[tuple[int, bytes]]) -> None:
        self.gate.wait(20)
        super().append(records)
        self.written.append([index for index, _ in records])


@pytest.fixture
def storage(tmp_path: Path) -> Gated:
    Storage.create(tmp_path, OWNER)
    return Gated(tmp_path)


def record(index: int) -> Persist:
    return Persist(MESSAGE, index)


def send() -> Send:
    return Send((1,), MESSAGE)


def encode(message: object) -> bytes:
    return b"record"


async def test_a_fast_disk_is_written_within_the_turn(storage: Gated) -> None:
    storage.gate.set()
    disk = Disk(storage, encode, lambda: None)
    disk.add([record(1), send()])
    assert disk.outbox.ready() == []
    disk.commit()
    assert disk.outbox.ready() == [send()]
    await disk.close()


async def test_a_slow_disk_is_written_beside_the_loop_in_order(storage: Gated) -> None:
    """One write at a time; what comes meanwhile goes into the next one; nothing leaves before its record is durable."""
    progress = asyncio.Event()
    disk = Disk(storage, encode, progress.set)
    disk._durations.extend([1.0] * module.MEDIAN_OF)
    first: list[Effect] = [record(1), send()]
    disk.add(first)
    disk.commit()
    for index in (2, 3):
        disk.add([record(index), send()])
        disk.commit()
    assert disk.outbox.ready() == []
    storage.gate.set()
    await progress.wait()
    assert disk.outbox.ready() == [send()]
    progress.clear()
    disk.commit()
    await progress.wait()
    assert disk.outbox.ready() == [send(), send()]
    assert storage.written == [[1], [2, 3]]
    await disk.close()


async def test_a_trim_waits_for_its_checkpoint_and_spares_what_came_after_it(storage: Gated, tmp_path: Path) -> None:
    class Snapshot:
        index, digest = 5, b"d" * 32

        def parts(self, since: object = None) -> list[tuple[int, bytes]]:
            return [(0, b"state")]

    storage.gate.set()
    progress = asyncio.Event()
    disk = Disk(storage, encode, progress.set)

    def turn(*effects: Effect) -> None:
        disk.add(list(effects))
        disk._durations.clear()  # however slow this machine is just now: write within the turn
        disk.commit()
        for effect in disk.outbox.ready():
            if type(effect) is Trim:
                disk.trim(effect.upto)

    turn(record(4))
    turn(record(5), Trim(5), record(0))
    turn(record(0))
    assert storage._log.floor == -1, "no checkpoint is saved yet"
    disk.save(Snapshot())
    await progress.wait()
    assert disk.take_saved() == 5
    turn()
    assert storage._log.floor == 5
    await disk.close()
    again = Storage(tmp_path, OWNER)
    assert len(again.load()) == 3, "the first row is gone; the second holds a record that was listed behind the Trim"
    again.close()


async def test_a_replaced_or_cancelled_timer_never_fires() -> None:
    fired = asyncio.Event()
    timers = Timers(fired.set)
    timers.set("view", 1)
    timers.set("other", 1)
    timers.cancel("other")
    await fired.wait()
    (due,) = timers.take()
    timers.set("view", 3_600_000_000)
    assert not timers.claim(*due), "set again by an earlier event of the same turn"
    timers.cancel("view")
    assert not timers.claim(*due)
    fired.clear()
    timers.set("view", 1)
    await fired.wait()
    (due,) = timers.take()
    assert timers.claim(*due)
    assert not timers.claim(*due)


def test_messages_share_frames_up_to_the_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(frames_of([b"m"] * 1000))) == 1
    monkeypatch.setattr(module, "FRAME_BYTES_MAX", 100)
    messages = [b"%d" % n * 10 for n in range(10)] + [b"too long" * 20] + [b"last"]
    frames = list(frames_of(messages))
    assert all(len(frame) <= 100 for frame in frames)
    assert [raw for frame in frames for raw in unpack_frame(frame)] == [*messages[:10], b"last"]
    assert FRAME_BYTES_MAX > 100


class Alone:
    """A transport without links."""

    def send(self, to: Principal, frame: bytes) -> None:
        pass

    def room(self, client: str, within: int, call: Callable[[], None]) -> bool:
        return True

    def refuse(self, peer: Principal, rule: str) -> None:
        pass

    def members(self, members: Members) -> None:
        pass

    def shun(self, client: str, rule: str) -> None:
        pass


class Listening:
    """A replica that only counts."""

    heard = 0

    def step(self, now: int, event: Event) -> list[Effect]:
        self.heard += isinstance(event, Received)
        return []

    def status(self) -> Status:
        return Status(0, "script", "leader", 0, 0, 1, 0, True)


@pytest.mark.parametrize("sender", [1, "ann"])
async def test_a_turn_takes_a_bounded_share_and_a_frame_is_handled_when_it_is_done(
    storage: Gated, sender: Principal
) -> None:
    replica, spec = Listening(), protocols.find("raft")
    engine = Engine(0, spec, replica, storage, Alone())
    handled: list[int] = []
    share = inbox.MESSAGES_A_TURN
    frame = pack_frame([spec.messages.encode(Submit(b"x"))] * (2 * share + 7))
    engine.receive(sender, frame, handled.append)
    engine.receive("bob", pack_frame([spec.messages.encode(Submit(b"x"))]), handled.append)
    heard = []
    for _ in range(3):
        assert engine._awake.is_set(), "what is left brings the next turn about"
        engine._awake.clear()
        engine._turn()
        heard.append(replica.heard)
    assert heard == [share + 1, 2 * share + 1, 2 * share + 8]
    assert len(handled) == 2
    assert handled[1] == len(frame)
    assert not engine._awake.is_set()
    await engine.close()


@pytest.mark.live
async def test_a_replica_whose_disk_fails_stops_and_the_others_go_on() -> None:
    """The failed write is never tried again, and what rested on it was never said (HAZARDS X1)."""

    def fail(records: Sequence[tuple[int, bytes]]) -> None:
        raise StorageFailed("disk I/O error")

    cluster = LocalCluster("pbft", f=1)
    await cluster.__aenter__()
    cluster.nodes[2].engine.disk._storage.append = fail  # type: ignore[method-assign]
    await cluster.call("put", "x", "1")
    with pytest.raises(StorageFailed):
        await cluster._running[2]
    assert await cluster.call("get", "x") == "1"
    with pytest.raises(StorageFailed, match="disk I/O error"):
        await cluster.__aexit__(None, None, None)
