"""The search for an order: against every order there is, on thousands of small histories, and with its rules broken."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from compare.checkers import search as searching
from compare.checkers.base import Undecided
from compare.checkers.linearizability import check
from compare.checkers.search import search
from compare.checkers.shrink import picture, smallest
from compare.history import Call
from compare.models import MODELS, Model
from compare.register import RegisterModel
from tests.compare.small_histories import brute_force, small

KV, REGISTER = MODELS["kv"], RegisterModel()


def differs(seeds: Iterator[int] | range, model: Model = KV) -> int | None:
    """The first seed at which the search and brute force differ."""
    for seed in seeds:
        calls = small(seed, register=model is REGISTER)
        if (search(calls, model) is None) != brute_force(calls, model):
            return seed
    return None


@pytest.mark.parametrize("model", [KV, REGISTER], ids=lambda model: model.name)
def test_the_search_agrees_with_brute_force(model: Model) -> None:
    assert differs(range(3_000), model) is None


def test_so_it_does_where_unknown_calls_are_let_happen_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "SOON", 1)
    assert differs(range(3_000)) is None


BROKEN: dict[str, tuple[str, Callable[..., Any]]] = {
    "a call has any outcome": ("_step", lambda self, state, kind: self._number(self._model.apply(state, kind.call)[0])),
    "nothing is about to be seen": ("_wanted", lambda *_: lambda _: False),
    "no call of unknown outcome": ("_able", lambda *_: iter(())),
    "all values are one": ("_all_told", lambda *_: set()),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_search_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, broken = BROKEN[name]
    monkeypatch.setattr(searching._Part, method, broken)
    found = None
    try:
        found = differs(range(3_000))
    except (IndexError, KeyError, TypeError):
        found = 0
    assert found is not None


def test_a_search_that_hides_any_blind_write_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = searching._Part._following

    def hides(self: Any, place: int, mask: int, state: int, used: int, last: int, *more: int) -> Any:
        if self._kinds[self._returns[place].kind].blind:
            yield place + 1, mask, state, used, last, more[0]
        yield from honest(self, place, mask, state, used, last, *more)

    monkeypatch.setattr(searching._Part, "_following", hides)
    assert differs(range(3_000)) is not None


def test_a_search_whose_unknown_calls_take_effect_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = searching._Part.run

    def believes(self: Any, steps_max: int, counted: int) -> Any:
        found = honest(self, steps_max, counted)
        return None if isinstance(found, int) else found

    monkeypatch.setattr(searching._Part, "run", believes)
    monkeypatch.setattr(searching, "SOON", 1)
    assert differs(range(3_000)) is not None


# --------------------------------------------------------------------------------------------------- hard histories


def hard(seed: int, size: int, processes: int = 10, unknown: float = 0.3) -> list[Call]:
    """One register of five values under many processes, by a copy that executes one call at a time. Of the calls of
    unknown outcome half took effect."""
    chance, busy, plans = random.Random(seed), [0] * processes, []
    for number in range(size):
        process = min(range(processes), key=lambda one: busy[one])
        invoke = busy[process] + chance.randint(1, 20)
        busy[process] = invoke + chance.randint(1, 200)
        plans.append((chance.randint(invoke, busy[process]), number, invoke, busy[process], chance.random() < unknown))
    state, calls = None, []
    for _, number, invoke, end, lost in sorted(plans):
        value = chance.randrange(5)
        method, args = chance.choice([("read", ()), ("write", (value,)), ("cas", (chance.randrange(5), value))])
        call = Call(f"p{number}", f"p{number}", method, ("x", *args), invoke, returned=None if lost else end)
        after, outcome = REGISTER.apply(state, call)
        call.outcome = None if lost else outcome
        state = state if lost and chance.random() < 0.5 else after
        calls.append(call)
    return calls


def planted(calls: list[Call]) -> list[Call]:
    """A value that is written once, seen, replaced, and seen again."""
    reads = [call for call in calls if call.method == "read" and call.known]
    first = reads[len(reads) // 2]
    again = next(call for call in reads if call.invoke > (first.returned or 0) + 1_000)
    write = next(c for c in reversed(calls) if c.method == "write" and c.known and (c.returned or 0) < first.invoke)
    write.args, first.outcome, again.outcome = ("x", "once"), "once", "once"
    return calls


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_calls_of_one_register_with_three_hundred_unknown_outcomes(seed: int) -> None:
    calls = hard(seed, 1_000)
    assert sum(not call.known for call in calls) > 250
    assert search(calls, REGISTER) is None


@pytest.mark.parametrize("seed", range(2))
def test_a_planted_violation_among_them_is_found(seed: int) -> None:
    calls = planted(hard(seed, 1_000, processes=5))
    dead = search(calls, REGISTER)
    assert dead is not None
    needed = smallest(calls, REGISTER, dead)
    assert any(call.outcome == "once" for call in needed)
    assert len(needed) < 12


def test_a_search_that_is_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "STEPS_MAX", 10)
    with pytest.raises(Undecided, match=r"over 10 configurations for 200 calls, register 'x'"):
        check(hard(1, 200), REGISTER)


# ------------------------------------------------------------------------------------------------ counterexamples


def test_what_is_shown_has_no_order_and_needs_each_of_its_calls() -> None:
    shown = 0
    for seed in range(400):
        calls = small(seed)
        dead = search(calls, KV)
        if dead is None:
            continue
        needed = smallest(calls, KV, dead)
        shown += 1
        assert needed
        began = [call for call in calls if call.invoke <= (dead.call.returned or 0)]
        assert not (with_free(began, needed) and with_free(calls, needed))
        for one in needed:
            rest = [call for call in needed if call is not one]
            assert with_free(began, rest) or with_free(calls, rest), seed
    assert shown > 100


def with_free(calls: list[Call], firm: list[Call]) -> bool:
    """Whether there is an order if all but these may take effect at any time, or never."""
    names = {call.process for call in firm}
    free = [call for call in calls if call.process not in names]
    free = [Call(c.client, c.process, c.method, c.args, -1) for c in free if not KV.reads(c)]
    return brute_force([*firm, *free], KV)


def test_a_picture_of_a_stale_read() -> None:
    calls = [Call("a", "a", "put", ("x", str(n)), 10 * n, timestamp=n, returned=10 * n + 5, index=n) for n in (1, 2, 3)]
    calls += [Call("b", "b", "get", ("x",), 50, timestamp=1, returned=60, outcome="2", vouchers=(0, 1))]
    dead = search(calls, KV)
    assert dead is not None
    assert dead.call is calls[-1]
    assert picture(smallest(calls, KV, dead)).splitlines() == [
        "  from  to  process  call",
        "    20  25  a        a#2 put('x', '2') -> None at index 2.0  |--|",
        "    30  35  a        a#3 put('x', '3') -> None at index 3.0        |--|",
        "    50  60  b        b#1 get('x') -> '2' by nodes 0, 1                   |--|",
    ]


def test_unknown_outcomes_are_shown_without_an_end() -> None:
    text = picture([Call("a", "a", "put", ("x", "1"), 10), Call("b", "b", "get", ("x",), 20, returned=30)])
    assert [line.split("  ")[-1].strip() for line in text.splitlines()[1:]] == ["|-----?", "|--|"]
