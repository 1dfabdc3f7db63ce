"""What waits for its turn is bounded in memory, not in messages (P36, X6)."""

from __future__ import annotations

import asyncio

import pytest

from replog import protocols
from replog.codec import pack_frame
from replog.live import inbox
from replog.live.engine import Engine
from replog.live.inbox import FRAME_OVERHEAD, SHARES, Inbox, Queue
from replog.turns import UNIT_BYTES, Turns
from replog.types import Submit
from tests.live.test_engine import Alone, Gated, Listening, storage

__all__ = ["storage"]
MIB = 1024 * 1024


def nothing(_: int) -> None:
    pass


def filled(box: Inbox, sender: str | int, frame: bytes, most: int) -> int:
    """How many frames were put in until no more are to be read."""
    return next((number for number in range(1, most) if box.put(sender, frame, nothing) and box.full(sender)), most)


@pytest.mark.parametrize("frame", [b"", pack_frame([]), pack_frame([b"x"])])
def test_x6_small_frames_count_for_the_memory_that_they_take(monkeypatch: pytest.MonkeyPatch, frame: bytes) -> None:
    monkeypatch.setattr(inbox, "CLIENT_BYTES_MAX", 100 * FRAME_OVERHEAD)
    assert filled(Inbox(), "eve", frame, 1_000) <= 101


def test_p36_of_a_client_beyond_its_bound_no_more_is_read_and_at_twice_as_much_it_is_dropped() -> None:
    box, frame, handled = Inbox(), bytes(MIB), list[int]()
    assert filled(box, "eve", frame, 100) == 32
    taken = [box.put("eve", frame, handled.append) for _ in range(100)]
    assert 30 <= sum(taken) <= 32
    assert not box.full("ann")
    assert not handled
    box.forget("eve")
    assert not box.full("eve")


def test_p36_all_clients_together_have_a_bound() -> None:
    """Of whoever has anything waiting no more is read; one of whom nothing waits may speak."""
    box, frame = Inbox(), bytes(8 * MIB)
    for number in range(16):
        assert not box.full(f"c{number}")
        box.put(f"c{number}", frame, nothing)
    assert all(box.full(f"c{number}") for number in range(16))
    assert not box.full("ann")
    assert not box.full(1)
    box.forget("c0")
    assert not box.full("c1")


def test_p36_a_turn_takes_bytes_as_well_as_messages() -> None:
    queue = Queue(2**40)
    queue.put(pack_frame([bytes(UNIT_BYTES)] * 20), nothing)
    assert queue.units >= 40
    assert [len(queue.some(count)) for count in (1, 3, 16)] == [1, 3, 16]
    queue.done(18)
    assert len(queue.some(16)) == 2


def test_p36_a_client_with_large_frames_waits_while_others_are_served() -> None:
    box = Inbox(Turns((1, 2, 3), SHARES))
    box.put("eve", pack_frame([bytes(16 * MIB)]), nothing)
    box.put("eve", pack_frame([b"x"]), nothing)
    assert served(box) == ["eve"]
    box.put("ann", pack_frame([b"x"] * 1_000), nothing)
    assert [served(box) for _ in range(3)] == [["ann"]] * 3
    box.forget("ann")
    assert served(box) == ["eve"]


def served(box: Inbox) -> list[str]:
    senders = []
    for sender, queue, _ in box.turn(0):
        senders.append(str(sender))
        queue.done(len(queue.some(1)))
    return senders


async def test_p36_who_waits_for_room_goes_on_when_what_waited_was_handled(
    storage: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "CLIENT_BYTES_MAX", 10 * FRAME_OVERHEAD)
    spec = protocols.find("raft")
    engine = Engine(0, spec, Listening(), storage, Alone(), turns=Turns((1, 2, 3), SHARES))
    frame = pack_frame([spec.messages.encode(Submit(b"x"))])
    while not engine.full("eve"):
        engine.receive("eve", frame, nothing)
    waiting = asyncio.create_task(engine.room("eve"))
    await asyncio.sleep(0)
    assert not waiting.done()
    engine._turn()
    await asyncio.wait_for(waiting, 20)
    assert not engine.full("eve")
    assert engine.counts["frames not taken"] == 0
    await engine.close()
