"""The durability barrier: nothing visible leaves before what was listed ahead of it is on disk."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import replog.outbox as outbox_module
from replog.core import Accuse, CancelTimer, Effect, Note, Persist, Reply, Send, SetTimer, Trim
from replog.outbox import Outbox
from replog.types import StatusRequest


def record(number: int) -> Persist:
    return Persist(StatusRequest(number), number)


def visible(number: int) -> Effect:
    word = StatusRequest(number)
    kinds: list[Effect] = [Send((0,), word), Reply("c", word), Accuse(1, "rule", word, StatusRequest(0)), Trim(number)]
    return kinds[number % len(kinds)]


INVISIBLE: list[Effect] = [SetTimer("a", 1), CancelTimer("a"), Note("n", {})]


class TestOrder:
    def test_what_waits_for_nothing_leaves_at_once(self) -> None:
        outbox = Outbox()
        outbox.add([visible(1), *INVISIBLE, visible(2)])
        assert outbox.ready() == [visible(1), visible(2)]
        assert (outbox.ready(), outbox.write(), outbox.waiting) == ([], [], 0)

    def test_what_was_listed_before_a_record_does_not_wait_for_it(self) -> None:
        """A leader that sends before its own write lists the Send first."""
        outbox = Outbox()
        outbox.add([visible(1), record(1), visible(2)])
        assert outbox.ready() == [visible(1)]
        assert outbox.waiting == 1

    def test_a_later_step_does_not_overtake(self) -> None:
        outbox = Outbox()
        outbox.add([record(1), visible(1)])
        outbox.add([visible(2)])
        assert outbox.ready() == []
        assert outbox.write() == [record(1)]
        assert outbox.ready() == []
        outbox.written(1)
        assert outbox.ready() == [visible(1), visible(2)]

    def test_behind_a_write_that_hangs_messages_are_lost_in_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Twenty heartbeats are answered in a second. What is no message is kept, and what waits for nothing leaves."""
        monkeypatch.setattr(outbox_module, "WAITING_MAX", 4)
        outbox = Outbox()
        outbox.add([visible(0)] * 9)
        assert len(outbox.ready()) == 9
        outbox.add([record(1), *(visible(number) for number in range(4))])
        outbox.add([visible(4), visible(5), Trim(1)] * 3)
        assert outbox.waiting == 4 + 3
        outbox.write()
        outbox.written(1)
        assert outbox.ready() == [*(visible(number) for number in range(4)), *[Trim(1)] * 3]
        outbox.add([visible(4)])
        assert outbox.ready() == [visible(4)]

    def test_records_join_one_write_and_come_out_in_order(self) -> None:
        outbox = Outbox()
        outbox.add([record(1), visible(1), record(2)])
        outbox.add([record(3), visible(2)])
        assert outbox.write() == [record(1), record(2), record(3)]
        outbox.written(2)
        assert outbox.ready() == [visible(1)]
        outbox.written(1)
        assert outbox.ready() == [visible(2)]

    def test_more_written_than_was_taken_is_an_error(self) -> None:
        outbox = Outbox()
        outbox.add([record(1), record(2)])
        with pytest.raises(ValueError, match="1 records reported durable, 0 were being written"):
            outbox.written(1)
        outbox.write()
        outbox.written(2)
        with pytest.raises(ValueError, match="reported durable"):
            outbox.written(1)

    def test_its_invariants_are_watched(self) -> None:
        outbox = Outbox()
        outbox.add([record(1)])
        outbox._durable = 1
        with pytest.raises(AssertionError, match="durable <= started"):
            outbox.check_invariants()


SCRIPT = st.lists(st.sampled_from(["persist", "say", "note", "write", "written", "ready"]), max_size=60)


@settings(deadline=None, max_examples=200)
@given(SCRIPT, st.randoms(use_true_random=False))
def test_a_crash_at_any_point_shows_only_what_the_disk_keeps(script: list[str], rng: object) -> None:
    """Whatever has left at the moment of a crash stands on records that are durable then."""
    outbox = Outbox()
    listed: list[tuple[Effect, int]] = []
    added = taken = durable = 0
    left: list[Effect] = []
    for number, word in enumerate(script, 1):
        if word == "persist":
            added += 1
            outbox.add([record(added)])
        elif word == "say":
            listed.append((visible(number), added))
            outbox.add([visible(number)])
        elif word == "note":
            outbox.add(INVISIBLE)
        elif word == "write":
            records = outbox.write()
            assert [entry.index for entry in records] == list(range(taken + 1, added + 1))
            taken = added
        elif word == "written" and taken > durable:
            count = rng.randint(1, taken - durable)  # type: ignore[attr-defined]
            outbox.written(count)
            durable += count
        elif word == "ready":
            left += outbox.ready()
        outbox.check_invariants()
        assert left == [effect for effect, _ in listed[: len(left)]]
        assert all(needs <= durable for _, needs in listed[: len(left)])
    left += outbox.ready()
    held = [(effect, needs) for effect, needs in listed[len(left) :]]
    assert outbox.waiting == len(held)
    assert all(needs > durable for _, needs in held)
