"""The judge of linearizability: against brute force on small histories, and on planted violations."""

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from compare.checkers.linearizability import check
from compare.history import Call
from compare.models import MODELS

KV = MODELS["kv"]


def call(method: str, *args: object, at: tuple[int, int | None], outcome: object = None, client: str = "c") -> Call:
    return Call(client, client, method, args, at[0], returned=at[1], outcome=outcome)


def brute_force(calls: list[Call]) -> bool:
    """Every order of every subset that leaves out only calls of unknown outcome."""
    known = [one for one in calls if one.known]
    unknown = [one for one in calls if not one.known]
    for size in range(len(unknown) + 1):
        for taken in itertools.combinations(unknown, size):
            if any(map(explains, itertools.permutations([*known, *taken]))):
                return True
    return False


def explains(order: tuple[Call, ...]) -> bool:
    state = KV.whole
    for place, one in enumerate(order):
        if any(later.returned is not None and later.returned < one.invoke for later in order[place + 1 :]):
            return False
        state, outcome = KV.apply(state, one)
        if one.known and not KV.same(one.outcome, outcome):
            return False
    return True


SHORT = st.one_of(
    st.tuples(st.just("put"), st.just("a"), st.sampled_from(["1", "2"]), st.none()),
    st.tuples(st.just("get"), st.just("a"), st.sampled_from(["1", "2"])),
    st.tuples(st.just("delete"), st.just("a"), st.booleans()),
)
KEYS = st.sampled_from(["a", "ab"])
VALUES = st.sampled_from(["1", "2"])
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, VALUES, st.none()),
    st.tuples(st.just("get"), KEYS, st.none() | VALUES),
    st.tuples(st.just("delete"), KEYS, st.booleans()),
    st.tuples(st.just("cas"), KEYS, st.none() | VALUES, VALUES, st.booleans()),
    st.tuples(st.just("append"), KEYS, VALUES, st.sampled_from(["1", "2", "11", "12", "21", "22"])),
    st.tuples(st.just("scan"), st.sampled_from(["", "a", "ab"]), st.sampled_from([[], [["a", "1"]], [["ab", "2"]]])),
)


@st.composite
def histories(draw: st.DrawFn, operations: st.SearchStrategy[tuple[object, ...]] = OPERATIONS) -> list[Call]:
    calls = []
    for number in range(draw(st.integers(1, 5))):
        method, *args, outcome = draw(operations)
        invoke = draw(st.integers(0, 12))
        returned = draw(st.none() | st.integers(invoke + 1, 16))
        calls.append(call(method, *args, at=(invoke, returned), outcome=outcome, client=f"c{number}"))
    return calls


@settings(max_examples=600, deadline=None)
@given(histories())
def test_the_judge_agrees_with_brute_force(calls: list[Call]) -> None:
    assert check(calls, KV).ok == brute_force(calls)


@settings(max_examples=600, deadline=None)
@given(histories(SHORT))
def test_the_judge_agrees_with_brute_force_where_writes_write_what_is_there(calls: list[Call]) -> None:
    assert check(calls, KV).ok == brute_force(calls)


def test_a_write_of_what_is_there_may_come_after_another_write() -> None:
    calls = [
        call("put", "x", "1", at=(0, 5)),
        call("put", "x", "1", at=(10, 100), client="a"),
        call("put", "x", "2", at=(20, 30), client="b"),
    ]
    assert check([*calls, call("get", "x", at=(40, 50), outcome="1", client="d")], KV).ok
    assert check([*calls, call("get", "x", at=(110, 120), outcome="2", client="d")], KV).ok
    assert not check([*calls, call("get", "x", at=(110, 120), outcome=None, client="d")], KV).ok


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(OPERATIONS, st.integers(0, 10), st.integers(0, 10), st.booleans()), max_size=7))
def test_what_one_copy_did_is_linearizable(plan: list[tuple[tuple[object, ...], int, int, bool]]) -> None:
    state, calls = KV.whole, []
    for place, ((method, *args, _), before, after, known) in enumerate(plan):
        made = call(str(method), *args, at=(max(0, 10 * place - before), 10 * place + after), client=f"c{place}")
        state, made.outcome = KV.apply(state, made)
        if not known:
            made.returned = None
        calls.append(made)
    assert check(calls, KV).ok


def test_a_stale_read_is_found_and_explained() -> None:
    calls = [
        call("put", "x", "1", at=(0, 10)),
        call("put", "x", "2", at=(20, 30)),
        call("get", "x", at=(40, 50), outcome="1", client="d"),
    ]
    found = check(calls, KV)
    assert not found.ok
    assert found.checked == 3
    assert "get('x')" in found.detail
    assert "put('x', '2')" in found.detail


def test_a_lost_append_is_found() -> None:
    assert not check(
        [call("append", "x", "a", at=(0, 1), outcome="a"), call("append", "x", "b", at=(2, 3), outcome="b")], KV
    ).ok


def test_an_unknown_write_may_take_effect_late_or_never() -> None:
    late = [call("put", "x", "1", at=(0, None)), call("get", "x", at=(100, 101), outcome="1", client="d")]
    never = [call("put", "x", "1", at=(0, None)), call("get", "x", at=(100, 101), outcome=None, client="d")]
    assert check(late, KV).ok
    assert check(never, KV).ok
    back = [*late, call("get", "x", at=(200, 201), outcome=None, client="d")]
    assert not check(back, KV).ok


def test_only_a_scan_sees_that_two_keys_changed_in_another_order() -> None:
    writes = [call("put", "ka", "1", at=(0, 10)), call("put", "kb", "1", at=(20, 30))]
    scan = call("scan", "k", at=(40, 50), outcome=[["kb", "1"]], client="d")
    assert not check([*writes, scan], KV).ok
    assert "joined by a scan" in check([*writes, scan], KV).detail


def test_many_concurrent_reads_of_an_impossible_value_end_soon() -> None:
    """2^30 orders, without memory and without taking reads that fit at once."""
    calls = [call("put", "x", str(n), at=(0, 100 + n), client=f"w{n}") for n in range(8)]
    calls += [call("get", "x", at=(0, 100), outcome="0", client=f"r{n}") for n in range(20)]
    assert check(calls, KV).ok
    assert not check([*calls, call("get", "x", at=(200, 210), outcome="none", client="z")], KV).ok


def test_a_hundred_thousand_calls_are_within_reach() -> None:
    chance, states, calls = random.Random(1), {f"k{n}": KV.whole for n in range(100)}, []
    for place in range(100_000):
        key = f"k{chance.randrange(100)}"
        method, args = chance.choice([("put", (str(place),)), ("get", ()), ("cas", (None, "1")), ("delete", ())])
        made = call(method, key, *args, at=(10 * place - chance.randrange(200), 10 * place + chance.randrange(1, 200)))
        states[key], made.outcome = KV.apply(states[key], made)
        calls.append(made)
    assert check(calls, KV).ok
    reads = [one for one in calls if one.method == "get" and one.outcome is not None]
    reads[len(reads) // 2].outcome = "never written"
    found = check(calls, KV)
    assert not found.ok
    assert "never written" in found.detail
