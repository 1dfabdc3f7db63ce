"""Core and application behind one plug: answers come back in order, behind what was said before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.apps.counter import Counter
from replog.core import (
    Applied,
    Apply,
    Checkpoint,
    Checkpointed,
    Effect,
    Event,
    Note,
    Part,
    Persist,
    Queried,
    Query,
    ReadPart,
    Received,
    Reply,
    Restore,
    Rollback,
    Save,
    SaveState,
    Send,
    Started,
    Trim,
    Wanted,
    WritePart,
)
from replog.executor import Executor
from replog.replica import LOG_REPLY_BYTES_MAX, Journal, Replica
from replog.types import LogEntry, LogReply, LogRequest, Status, StatusReply, StatusRequest, Submit, decode_status
from tests.replog.helpers import SEED, request, values_of

ADD = Counter.operation("add")
READ = Counter.operation("value")


class Script:
    """A core that does what the test says at each event, and remembers what it was told."""

    def __init__(self, answers: Callable[[Event], list[Effect]]) -> None:
        self._answers = answers
        self.heard: list[Event] = []

    def step(self, now: int, event: Event) -> list[Effect]:
        self.heard.append(event)
        return self._answers(event)

    def status(self) -> Status:
        return Status(0, "script", "leader", 0, 0, 1, 0, True)

    def check_invariants(self) -> None:
        pass


def replica(first: list[Effect], then: dict[type, list[Effect]] | None = None, keep: int = 100) -> Replica:
    """`first` at the start, `then` by kind of event."""
    kinds: dict[type, list[Effect]] = {Started: first, **(then or {})}
    return Replica(Script(lambda event: list(kinds.get(type(event), []))), Executor(Counter()), keep)


def heard(replica: Replica) -> list[Any]:
    assert isinstance(replica.core, Script)
    return replica.core.heard[1:]


def batch(index: int, *requests: Any) -> Apply:
    return Apply(index, list(requests), 0, SEED)


WORD, OTHER = StatusRequest(1), StatusRequest(2)


def test_what_follows_from_an_answer_goes_behind_what_was_listed_before() -> None:
    """A reply must not pass an older record."""
    record, reply = Persist(WORD, 1), Reply("c", OTHER)
    plug = replica([batch(1, request(1, ADD)), record, Send((1,), WORD)], {Applied: [reply]})
    effects = plug.step(0, Started())
    assert [type(effect) for effect in effects] == [Apply, Persist, Send, Reply]
    assert effects.index(reply) > effects.index(record)
    plug.check_invariants()


def test_answers_of_the_application() -> None:
    plug = replica(
        [
            batch(1, request(1, ADD, ADD), request(1, ADD)),
            Query(7, [request(2, READ)]),
            Checkpoint(1),
            SaveState(1),
            ReadPart(1, 0, 9),
            ReadPart(5, 0, 10),
        ]
    )
    effects = plug.step(0, Started())
    applied, queried, kept, part, none = heard(plug)
    assert isinstance(applied, Applied)
    assert [result.results and values_of(result.results) for result in applied.results] == [[1, 2], None]
    assert isinstance(queried, Queried)
    assert (queried.token, [values_of(results) for results in queried.results]) == (7, [[2]])
    digest = plug.executor.digest()
    assert kept == Checkpointed(1, digest)
    assert isinstance(part, Part)
    assert (part.data is not None, part.following, part.token) == (True, -1, 9)
    assert none == Part(5, 0, None, -1, 10)
    assert Note("checkpoint", {"index": 1, "digest": digest.hex()}) in effects
    (save,) = [effect for effect in effects if isinstance(effect, Save)]
    assert (save.snapshot.index, save.snapshot.digest) == (1, digest)


def test_a_state_is_fetched_and_the_journal_jumps_with_it() -> None:
    source = replica([batch(1, request(1, ADD)), batch(2, request(2, ADD)), Checkpoint(2)])
    source.step(0, Started())
    digest = source.executor.digest()
    data, _ = source.executor.read_part(2, 0)
    assert data is not None
    target = replica([batch(1, request(1, ADD)), Restore(2, digest), WritePart(2, 0, b"lie"), WritePart(2, 0, data)])
    effects = target.step(0, Started())
    assert heard(target)[1:] == [Wanted(2, (0,), False), Wanted(2, (0,), True), Checkpointed(2, digest)]
    assert [type(effect) for effect in effects[4:]] == [Note]
    assert (target.journal.first, target.journal.last) == (3, 2)
    assert target.executor.index == 2


def test_rolling_back_takes_the_journal_along() -> None:
    plug = replica([batch(1, request(1, ADD)), Checkpoint(1), batch(2, request(2, ADD)), Rollback(1)])
    plug.step(0, Started())
    assert (plug.journal.first, plug.journal.last, plug.executor.index) == (1, 1, 1)


def test_trimming_drops_older_checkpoints_and_is_passed_on() -> None:
    plug = replica([batch(1), Checkpoint(1), batch(2), Checkpoint(2), Trim(2)])
    assert Trim(2) in plug.step(0, Started())
    assert plug.executor.read_part(1, 0) == (None, -1)
    assert plug.executor.read_part(2, 0)[0] is not None


def test_a_wrong_order_of_execution_is_our_own_bug() -> None:
    """P26"""
    with pytest.raises(ValueError, match="index 2 cannot be applied after 0"):
        replica([batch(2)]).step(0, Started())


class TestItsOwnWord:
    def test_clients_read_status_and_log(self) -> None:
        first = request(1, ADD)
        plug = replica([batch(1, first), batch(2)])
        plug.step(0, Started())
        (reply,) = plug.step(1, Received("c", StatusRequest(3)))
        assert isinstance(reply, Reply)
        assert isinstance(reply.message, StatusReply)
        assert (reply.client, decode_status(reply.message.status).role) == ("c", "leader")
        entries = [LogEntry(1, 0, [first.raw]), LogEntry(2, 0, [])]
        assert plug.step(1, Received("c", LogRequest(4, 1, 10))) == [Reply("c", LogReply(4, 1, 2, entries))]
        assert plug.step(1, Received("c", LogRequest(4, 3, 10))) == [Reply("c", LogReply(4, 1, 2, []))]
        assert heard(plug)[-1] != Received("c", StatusRequest(3)), "the core is not asked"

    def test_replicas_do_not(self) -> None:
        plug = replica([])
        (note,) = plug.step(0, Received(2, StatusRequest(1)))
        assert isinstance(note, Note)
        assert (note.kind, note.detail["sender"]) == ("nonsense", 2)

    def test_everything_else_is_the_cores(self) -> None:
        plug = replica([])
        plug.step(0, Received("c", Submit(b"x")))
        assert plug.core.heard == [Received("c", Submit(b"x"))]  # type: ignore[attr-defined]

    def test_one_reply_is_bounded(self) -> None:
        journal = Journal(0, 100)
        for index in range(1, 6):
            journal.append(LogEntry(index, 0, [b"x" * (LOG_REPLY_BYTES_MAX // 2 + 1)]))
        assert [entry.index for entry in journal.read(2, 5)] == [2]
        journal.append(LogEntry(6, 0, [b"x" * (LOG_REPLY_BYTES_MAX + 1)]))
        assert [entry.index for entry in journal.read(6, 5)] == [6], "one entry always fits"


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(["append", "jump"]), st.integers(0, 30)), max_size=40),
    st.integers(1, 6),
    st.integers(1, 100),
)
def test_a_journal_has_no_gap_and_no_stranger(script: list[tuple[str, int]], keep: int, keep_bytes: int) -> None:
    """What it shows for an index is what was appended there since the state last jumped below it."""
    journal, model = Journal(0, keep, keep_bytes), dict[int, LogEntry]()
    for number, (word, index) in enumerate(script):
        if word == "append":
            entry = LogEntry(journal.last + 1, number, [bytes(index)] * 2)
            journal.append(entry)
            model[entry.index] = entry
        else:
            journal.reset(index)
            model = {at: entry for at, entry in model.items() if at <= index}
            assert journal.last == index
        shown = journal.read(journal.first, 1_000)
        assert [entry.index for entry in shown] == list(range(journal.first, journal.last + 1))
        assert shown == [model[entry.index] for entry in shown]
        assert len(shown) <= keep
        assert len(shown) <= 1 or sum(len(raw) for entry in shown for raw in entry.requests) <= keep_bytes
        assert journal.read(journal.last + 1, 5) == journal.read(journal.first - 1, 5) == []


def test_a_journal_keeps_large_entries_by_their_bytes() -> None:
    journal = Journal(0, 10_000, 1_000_000)
    for index in range(1, 101):
        journal.append(LogEntry(index, 0, [bytes(90_000)]))
    assert (journal.first, journal.last) == (90, 100)
    journal.append(LogEntry(101, 0, [bytes(2_000_000)]))
    assert (journal.first, journal.last) == (101, 101), "the newest stays"
