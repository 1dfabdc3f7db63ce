"""Exactly once, in order; a state that is counted, rolled back, saved, moved and never half replaced."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.apps.bank import Bank
from replog.apps.counter import Counter
from replog.apps.kv import KeyValue
from replog.core import Checkpointed, Wanted
from replog.executor import CHECKPOINTS_MAX, Executor, StateCorrupt
from replog.runtime import StateUnreadable
from replog.sessions import SESSION_BYTES_MAX, WINDOW
from replog.statemachine import StateMachine, command, query
from replog.types import READ_ONLY, Request, RequestBody, decode_results
from tests.replog.helpers import SEED, apply, request, values_of

quick = settings(deadline=None, max_examples=50)
ADD = Counter.operation("add")
READ = Counter.operation("value")


def put(key: str, value: str) -> bytes:
    return KeyValue.operation("put", key, value)


class Whole(StateMachine):
    """A state that is one value, read and written by the application itself."""

    name = "whole"

    def __init__(self) -> None:
        self._text = ""

    @command
    def write(self, at: int, text: str) -> None:
        self._text = self._text[:at] + text + self._text[at + len(text) :]

    @query
    def read(self, at: int, count: int) -> str:
        return self._text[at : at + count]

    def snapshot(self) -> bytes:
        return self._text.encode()

    def restore(self, data: bytes) -> None:
        self._text = data.decode()


def store(keys: int = 0, seed: int = 0, client: str = "c") -> Executor:
    """A key-value store that has executed one request."""
    executor = Executor(KeyValue())
    rng = random.Random(seed)
    writes = [put(f"key{key:05}", f"{rng.random()}") for key in range(keys)]
    apply(executor, request(1, *writes, put("last", "1"), client=client), time=1_000)
    return executor


def transfer(source: Executor, target: Executor, index: int, digest: bytes) -> int:
    """Bring `target` to the source's checkpoint; the bytes moved."""
    moved, answer = 0, target.restore(index, digest)
    while type(answer) is Wanted:
        for part in answer.parts:
            hint = answer.hints.get(part, b"")
            data, _ = source.read_part(index, part, hint)
            assert data is not None
            moved += len(hint) + len(data)
            answer = target.write_part(index, part, data)
    assert answer == Checkpointed(index, digest)
    return moved


class TestOnce:
    def test_indices_come_in_order(self) -> None:
        """P26"""
        executor = Executor(Counter())
        for wrong in (0, 2, -1):
            with pytest.raises(ValueError, match=f"index {wrong} cannot be applied after 0"):
                executor.apply(wrong, [], 0, SEED)
        executor.apply(1, [], 0, SEED)
        with pytest.raises(ValueError, match="index 1 cannot be applied after 1"):
            executor.apply(1, [], 0, SEED)
        assert executor.index == 1

    def test_a_request_executes_once_and_keeps_its_results(self) -> None:
        executor = Executor(Counter())
        once = request(1, ADD, ADD)
        (result,) = executor.apply(1, [once], 0, SEED)
        assert values_of(result.results) == [1, 2]
        assert apply(executor, once, once) == [None, None]
        assert executor.results("c", 1) == result.results
        assert decode_results(result.results or b"").index == 1
        assert apply(executor, request(2, READ)) == [[2]]

    def test_one_timestamp_is_one_request(self) -> None:
        """P32: the first that executes is it, whatever the other one says."""
        executor = Executor(Counter())
        assert apply(executor, request(1, ADD), request(1, ADD, ADD)) == [[1], None]

    def test_clients_do_not_share_timestamps(self) -> None:
        executor = Executor(Counter())
        assert apply(executor, request(1, ADD), request(1, ADD, client="d")) == [[1], [2]]

    def test_a_session_takes_timestamps_in_any_order_within_its_window(self) -> None:
        executor = Executor(Counter())
        assert apply(executor, *[request(t, ADD) for t in (3, 1, WINDOW, 2)]) == [[1], [2], [3], [4]]
        assert apply(executor, request(WINDOW + 1, ADD)) == [None]
        assert apply(executor, request(WINDOW + 1, ADD, low=1)) == [[5]]
        assert executor.results("c", 1) is None
        assert executor.results("c", 2) is not None

    def test_what_the_client_has_is_forgotten_and_stays_executed(self) -> None:
        executor = Executor(Counter())
        early = request(1, ADD)
        apply(executor, early, request(2, ADD, low=1))
        assert executor.results("c", 1) is None
        assert not executor.admits("c", 1)
        assert apply(executor, early) == [None]
        assert apply(executor, request(3, READ)) == [[2]]

    def test_low_never_goes_back(self) -> None:
        executor = Executor(Counter())
        apply(executor, request(10, ADD, low=9), request(12, ADD, low=2))
        assert apply(executor, request(5, ADD, low=2)) == [None]
        assert not executor.admits("c", 9, 0)

    def test_a_request_that_is_not_admitted_changes_nothing(self) -> None:
        executor = Executor(Counter())
        apply(executor, request(1, ADD))
        before = executor.digest()
        sessions = executor._sessions
        dirty = set(sessions._dirty)
        assert sessions.enter(request(WINDOW + 5, ADD, low=3), 2) is None
        assert sessions.enter(request(1, ADD), 2) is None
        assert (sessions._dirty, executor.digest()) == (dirty, before)

    @quick
    @given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 90), st.integers(0, 89)), max_size=60))
    def test_whatever_is_applied_nothing_executes_twice(self, sent: list[tuple[str, int, int]]) -> None:
        executor = Executor(Counter())
        executed: set[tuple[str, int]] = set()
        for client, timestamp, low in sent:
            one = request(timestamp, ADD, client=client, low=min(low, timestamp - 1))
            admitted = executor.admits(client, timestamp, one.low)
            (values,) = apply(executor, one)
            assert (values is not None) == admitted
            if values is not None:
                assert (client, timestamp) not in executed
                executed.add((client, timestamp))
                assert values == [len(executed)]
            executor.check_invariants()

    @quick
    @given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 6)), max_size=40), st.data())
    def test_batches_and_restores_change_nothing(self, sent: list[tuple[str, int]], data: Any) -> None:
        """One replica applies them as they come, the other is moved to the first one's state now and then."""
        one, other = Executor(Counter(), 2), Executor(Counter(), 2)
        for client, timestamp in sent:
            batch = [request(timestamp, ADD, client=client)]
            results = one.apply(one.index + 1, batch, 0, SEED)
            if data.draw(st.booleans()):
                transfer(one, other, one.index, one.checkpoint(one.index))
            else:
                assert other.apply(one.index, batch, 0, SEED) == results
            assert other.digest() == one.digest()
            assert other.results(client, timestamp) == one.results(client, timestamp)


class TestRequests:
    def test_a_read_only_request_executes_queries_only(self) -> None:
        executor = Executor(Counter())
        assert apply(executor, request(1, READ, ADD, READ, read_only=True)) == [[0, "NotAQuery", 0]]

    def test_a_malformed_operation_is_an_error_at_its_place(self) -> None:
        executor = Executor(Counter())
        assert apply(executor, request(1, ADD, b"\xff", ADD)) == [[1, "MalformedOperation", 2]]

    @pytest.mark.parametrize("operations", [b"", b"\x90", b"\xc0", b"\x91\xc4\x01", b"\x92\xc4\x00\xc4\x00"])
    def test_a_malformed_request_is_one_error(self, operations: bytes) -> None:
        """However many operations it claims to hold."""
        import msgspec

        body = msgspec.msgpack.encode(RequestBody("c", 1, 0, 0, 65_536, operations))
        executor = Executor(Counter())
        malformed = Request(msgspec.msgpack.encode([body, b""]))
        assert malformed.operations() is None
        assert apply(executor, malformed) == [["MalformedRequest"]]
        assert [values_of(results) for results in executor.query([malformed])] == [["MalformedRequest"]]

    def test_queries_change_nothing(self) -> None:
        executor = Executor(Counter())
        apply(executor, request(1, ADD))
        before = executor.digest()
        asked = [request(2, READ), request(1, ADD, READ, read_only=True)]
        assert [values_of(results) for results in executor.query(asked)] == [[1], ["NotAQuery", 1]]
        assert executor.digest() == before
        assert executor.admits("c", 2)
        assert asked[1].flags == READ_ONLY

    def test_reads_at_different_indices_can_agree(self) -> None:
        one, other = Executor(Counter()), Executor(Counter())
        apply(one, request(1, ADD))
        apply(other, request(1, ADD))
        apply(other)
        assert one.query([request(2, READ)]) == other.query([request(2, READ)])


class TestSessions:
    def test_the_least_recently_active_are_closed(self) -> None:
        executor = Executor(Counter(), sessions_max=8)
        for number in range(8):
            apply(executor, request(1, ADD, client=f"c{number}"))
        apply(executor, request(2, ADD, client="c0"))
        apply(executor, request(1, ADD, client="c8"))
        kept = [executor.results(f"c{number}", 1) is not None for number in range(9)]
        assert kept == [True, False, False, True, True, True, True, True, True]
        executor.check_invariants()

    def test_what_a_closed_session_has_executed_stays_executed(self) -> None:
        """R22"""
        executor = Executor(Counter(), sessions_max=1)
        first, second = request(5, ADD, low=4, client="a"), request(1, ADD, client="b")
        apply(executor, first)
        apply(executor, second)
        assert executor.results("a", 5) is None
        assert not executor.admits("a", 5)
        assert apply(executor, first) == [None]
        assert apply(executor, request(6, ADD, low=5, client="a")) == [[3]]

    def test_closing_is_the_same_after_a_restart(self) -> None:
        one = Executor(Counter(), sessions_max=16)
        for number in range(16):
            apply(one, request(1, ADD, client=f"c{number * 7 % 16}"))
        other = Executor(Counter(), sessions_max=16)
        digest = one.checkpoint(one.index)
        other.load(one.index, digest, one.snapshot(one.index).parts())
        for executor in (one, other):
            apply(executor, *[request(1, ADD, client=f"new{number}") for number in range(3)])
            executor.check_invariants()
        assert one.digest() == other.digest()

    def test_clients_are_bounded(self) -> None:
        executor = Executor(Counter(), clients_max=2)
        requests = [request(1, ADD, client=name) for name in "abc"]
        assert apply(executor, *requests) == [[1], [2], None]
        assert [executor.admits(name, 2) for name in "abc"] == [True, True, False]

    def test_the_bytes_of_one_client_are_bounded(self) -> None:
        executor = Executor(KeyValue())
        apply(executor, request(1, put("k", "v" * (SESSION_BYTES_MAX // 5))))
        for timestamp in range(2, 9):
            apply(executor, request(timestamp, KeyValue.operation("get", "k")))
            executor.check_invariants()
        assert executor.results("c", 2) is None
        assert not executor.admits("c", 2)
        assert executor.results("c", 8) is not None

    def test_admission_without_low_assumes_the_best(self) -> None:
        executor = Executor(Counter())
        assert executor.admits("c", 500)
        assert not executor.admits("c", 500, 100)
        apply(executor, request(1, ADD))
        assert executor.admits("c", 2 + WINDOW)
        assert not executor.admits("c", 2 + WINDOW, 0)
        assert executor.admits("c", 2 + WINDOW, 2)

    def test_sessions_are_part_of_the_state(self) -> None:
        """P34"""
        one, other = Executor(Counter()), Executor(Counter())
        apply(one, request(1, ADD, client="a"))
        apply(other, request(1, ADD, client="b"))
        assert one.digest() != other.digest()


class TestCheckpoints:
    def test_a_null_request_changes_no_state(self) -> None:
        """P8"""
        executor = store(10)
        before = executor.digest()
        executor.apply(executor.index + 1, [], 999_999, b"")
        assert executor.digest() == before

    def test_the_digest_is_that_of_the_state_whatever_the_batches(self) -> None:
        one, other = Executor(Counter()), Executor(Counter())
        requests = [request(timestamp, ADD) for timestamp in (1, 2)]
        for executor in (one, other):
            executor.apply(1, requests if executor is one else requests[:1], 5, SEED)
        assert one.digest() != other.digest()

    def test_only_the_last_index_can_be_kept(self) -> None:
        executor = store()
        with pytest.raises(ValueError, match="a checkpoint of 0 cannot be made at 1"):
            executor.checkpoint(0)

    def test_a_checkpoint_stays_as_it_is_while_execution_goes_on(self) -> None:
        executor = store(500)
        digest = executor.checkpoint(1)
        snapshot = executor.snapshot(1)
        parts = list(snapshot.parts())
        for timestamp in range(2, 40):
            apply(executor, request(timestamp, put(f"key{timestamp:05}", "changed")))
            executor.digest()
        unchanged = list(snapshot.parts()) == parts  # not in the assertion: the difference is long
        assert unchanged
        assert (snapshot.index, snapshot.digest) == (1, digest)
        copy = Executor(KeyValue())
        copy.load(1, digest, parts)
        assert values_of(copy.query([request(1, KeyValue.operation("get", "key00005"))])[0]) != ["changed"]

    def test_a_snapshot_can_be_read_by_another_thread(self) -> None:
        executor = store(3_000)
        digest = executor.checkpoint(1)
        snapshot, found = executor.snapshot(1), []
        thread = threading.Thread(target=lambda: found.extend(snapshot.parts()))
        thread.start()
        for timestamp in range(2, 30):
            apply(executor, request(timestamp, *[put(f"key{key:05}", "x") for key in range(100)]))
            executor.digest()
        thread.join()
        Executor(KeyValue()).load(1, digest, found)

    def test_rolling_back_undoes_everything(self) -> None:
        executor = store(100)
        apply(executor, request(2, put("a", "1")), time=5_000)
        digest = executor.checkpoint(2)
        late = request(3, put("a", "2"), KeyValue.operation("delete", "key00001"), put("new", "x"))
        first = executor.apply(3, [late], 9_000, SEED)
        executor.checkpoint(3)
        executor.rollback(2)
        assert (executor.index, executor.digest()) == (2, digest)
        assert executor.results("c", 3) is None
        assert executor.read_part(3, 0) == (None, -1)
        assert executor.apply(3, [late], 9_000, SEED) == first
        with pytest.raises(KeyError):
            executor.rollback(1)

    def test_rolling_back_to_the_beginning(self) -> None:
        executor = Executor(Bank())
        genesis = executor.digest()
        apply(executor, request(1, Bank.operation("deposit", "ann", 5)))
        executor.rollback(0)
        assert (executor.index, executor.digest()) == (0, genesis)
        assert values_of(executor.query([request(1, Bank.operation("total"))])[0]) == [0]

    def test_checkpoints_are_dropped_and_bounded(self) -> None:
        executor = Executor(Counter())
        for _ in range(CHECKPOINTS_MAX + 5):
            apply(executor)
            executor.checkpoint(executor.index)
        executor.check_invariants()
        executor.drop_below(executor.index - 1)
        held = [index for index in range(executor.index + 1) if executor.read_part(index, 0)[0] is not None]
        assert held == [executor.index - 1, executor.index]
        with pytest.raises(KeyError):
            executor.snapshot(executor.index - 2)

    def test_a_failed_command_leaves_the_digest_but_for_its_session(self) -> None:
        one, other = Executor(Bank()), Executor(Bank())
        deposit = Bank.operation("deposit", "ann", 5)
        for executor in (one, other):
            apply(executor, request(1, deposit))
        fails = Bank.operation("transfer", "ann", "nobody", 5)
        assert apply(one, request(2, fails)) == [["NoSuchAccount"]]
        apply(other, request(2, Bank.operation("balance", "ann")))
        assert apply(one, request(3, Bank.operation("total"))) == [[5]]
        assert values_of(one.query([request(9, Bank.operation("balance", "ann"))])[0]) == [5]


class TestTransfer:
    def test_the_state_is_moved_whole(self) -> None:
        source, target = store(2_000), Executor(KeyValue())
        digest = source.checkpoint(1)
        transfer(source, target, 1, digest)
        assert (target.index, target.digest()) == (1, digest)
        for executor in (source, target):
            assert apply(executor, request(1, put("x", "y")), request(2, put("key00003", "z")), time=7) == [
                None,
                [None],
            ]
        assert source.digest() == target.digest()
        assert target.read_part(1, 0)[0] is not None

    def test_only_what_differs_moves(self) -> None:
        source, target = store(5_000), store(5_000)
        whole = sum(len(data) for _, data in _checkpointed(source).parts())
        changes = [put(f"key{key:05}", "changed") for key in range(0, 5_000, 500)]
        apply(source, request(2, *changes, KeyValue.operation("delete", "key00001"), put("new", "x"), low=1))
        digest = source.checkpoint(2)
        assert transfer(source, target, 2, digest) < whole * 0.1

    def test_values_of_any_size_move(self) -> None:
        source, target = store(), Executor(KeyValue())
        for timestamp, size in ((2, 300_000), (3, 1_000_000), (4, 65_536), (5, 10), (6, 500_000)):
            apply(source, request(timestamp, put("big", "v" * size), put("other", "w" * size)))
            digest = source.checkpoint(source.index)
            transfer(source, target, source.index, digest)
            (found,) = target.query([request(9, KeyValue.operation("get", "big"))])
            assert values_of(found) == ["v" * size]
        for executor in (source, target):
            apply(executor, request(7, put("big", "small"), KeyValue.operation("delete", "other")))
        assert source.digest() == target.digest() == loaded(source).digest()
        source.rollback(2)
        assert source.digest() == source.snapshot(2).digest
        apply(source, request(7, KeyValue.operation("delete", "big"), KeyValue.operation("delete", "other")))
        assert source.digest() == loaded(source).digest()

    def test_an_application_with_a_snapshot_of_its_own_moves_too(self) -> None:
        """In pieces, of which those that differ travel."""
        source, target = Executor(Whole()), Executor(Whole())
        for executor in (source, target):
            apply(executor, request(1, Whole.operation("write", 0, "x" * 300_000)))
        apply(source, request(2, Whole.operation("write", 150_000, "y"), low=1))
        moved = transfer(source, target, 2, source.checkpoint(2))
        assert source.digest() == target.digest()
        assert values_of(target.query([request(9, Whole.operation("read", 149_999, 3))])[0]) == ["xyx"]
        assert moved < 100_000

    def test_poison_is_refused_and_the_state_stays(self) -> None:
        """P41"""
        source, target = store(2_000), store(10, seed=5)
        before, digest = target.digest(), source.checkpoint(1)
        apply(source)
        answer = target.restore(9, digest)
        assert answer == Wanted(9, (0,), False)
        rng, lies = random.Random(3), 0
        while type(answer) is Wanted:
            part = rng.choice(answer.parts)
            data, _ = source.read_part(1, part)
            assert data is not None
            refused = target.write_part(9, part, data[:-1] + bytes([data[-1] ^ 1]))
            assert refused == Wanted(9, answer.parts, True)
            assert (target.index, target.digest()) == (1, before)
            lies += 1
            answer = target.write_part(9, part, data)
        assert lies > 5
        assert (target.index, target.digest()) == (9, digest)

    def test_a_restoration_can_be_begun_again(self) -> None:
        """P45"""
        source, target = store(2_000), Executor(KeyValue())
        digest = source.checkpoint(1)
        answer = target.restore(1, digest)
        for _ in range(4):
            assert type(answer) is Wanted
            answer = target.write_part(1, answer.parts[0], source.read_part(1, answer.parts[0])[0] or b"")
            assert target.restore(1, digest) == answer
        transfer(source, target, 1, digest)
        assert target.restore(1, digest) == Checkpointed(1, digest)

    def test_a_later_goal_takes_over_what_was_fetched(self) -> None:
        source, target = store(3_000), Executor(KeyValue())
        digest = source.checkpoint(1)
        answer = target.restore(1, digest)
        for _ in range(12):
            assert type(answer) is Wanted
            answer = target.write_part(1, answer.parts[0], source.read_part(1, answer.parts[0])[0] or b"")
        apply(source, request(2, put("key00001", "later")))
        later = source.checkpoint(2)
        again = transfer(source, Executor(KeyValue()), 2, later)
        assert transfer(source, target, 2, later) < again
        assert target.write_part(1, 0, b"late") == Wanted(1, (), False)

    def test_parts_for_no_restoration_are_passed_over(self) -> None:
        executor = store()
        before = executor.digest()
        assert executor.write_part(5, 0, b"\x80") == Wanted(5, (), False)
        assert executor.digest() == before

    def test_the_walk_over_parts_is_the_snapshot(self) -> None:
        executor = store(3_000)
        executor.checkpoint(1)
        part, walked = 0, []
        while part != -1:
            data, following = executor.read_part(1, part)
            assert data is not None
            walked.append((part, data))
            part = following
        assert walked == list(executor.snapshot(1).parts())

    def test_a_state_of_another_application_is_an_error_and_changes_nothing(self) -> None:
        source, target = store(5), Executor(Counter())
        before, digest = target.digest(), source.checkpoint(1)
        with pytest.raises(StateUnreadable, match="counter version 1 cannot read record"):
            transfer(source, target, 1, digest)
        assert (target.index, target.digest()) == (0, before)


def _checkpointed(executor: Executor) -> Any:
    executor.checkpoint(executor.index)
    return executor.snapshot(executor.index)


def loaded(executor: Executor) -> Executor:
    """A replica that starts from this state."""
    snapshot = _checkpointed(executor)
    copy = Executor(KeyValue())
    copy.load(snapshot.index, snapshot.digest, snapshot.parts())
    return copy


class TestLoading:
    def test_a_saved_state_comes_back(self) -> None:
        executor = store(1_000)
        snapshot = _checkpointed(executor)
        copy = Executor(KeyValue())
        copy.load(1, snapshot.digest, snapshot.parts())
        assert (copy.index, copy.digest()) == (1, snapshot.digest)
        assert copy.read_part(1, 0) == executor.read_part(1, 0)
        copy.rollback(1)
        copy.check_invariants()

    def test_saved_increments_come_back(self) -> None:
        executor = store(2_000)
        saved, last = {}, None
        for timestamp in range(2, 12):
            snapshot = _checkpointed(executor)
            saved.update(snapshot.parts(last))
            last = snapshot
            copy = Executor(KeyValue())
            copy.load(snapshot.index, snapshot.digest, saved.items())
            assert copy.digest() == snapshot.digest
            keys = range(0, 2_000, 400) if timestamp % 2 else range(timestamp * 150)
            apply(executor, request(timestamp, *[KeyValue.operation("delete", f"key{key:05}") for key in keys]))

    @quick
    @given(st.integers(0, 2**32), st.sampled_from(["flip", "lose", "digest", "none"]))
    def test_a_damaged_state_is_never_started_on(self, seed: int, damage: str) -> None:
        """X2, X3"""
        snapshot = _checkpointed(store(800))
        parts, digest, rng = dict(snapshot.parts()), snapshot.digest, random.Random(seed)
        part = rng.choice(list(parts))
        at = rng.randrange(len(parts[part]))
        if damage == "flip":
            parts[part] = parts[part][:at] + bytes([parts[part][at] ^ 1 << rng.randrange(8)]) + parts[part][at + 1 :]
        elif damage == "lose":
            del parts[part]
        elif damage == "digest":
            digest = bytes(32)
        else:
            parts = {}
        copy = Executor(KeyValue())
        before = copy.digest()
        with pytest.raises(StateCorrupt, match="saved state of index 1: part"):
            copy.load(1, digest, parts.items())
        assert (copy.index, copy.digest()) == (0, before)
