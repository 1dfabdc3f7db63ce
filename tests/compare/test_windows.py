"""Windows of unavailability: while somebody waited and nobody was answered."""

from types import SimpleNamespace
from typing import Any

from compare.history import Call
from compare.judging import _outage, _windows


def seen(*times: tuple[int, int | None]) -> Any:
    """A run of ten seconds; milliseconds."""
    calls = [
        Call("a", "a", "get", ("x",), 1_000 * invoke, returned=None if returned is None else 1_000 * returned)
        for invoke, returned in times
    ]
    return SimpleNamespace(calls=calls, began=0, ended=10_000_000)


def test_a_window_begins_when_somebody_waits_and_ends_with_the_next_answer() -> None:
    run = seen((10, 20), (1_000, 1_500), (1_100, 1_500), (2_000, 2_050), (3_000, 3_400))
    assert _windows(run) == [(1_000_000, 1_500_000), (3_000_000, 3_400_000)]
    assert _outage(run) == 500_000


def test_who_is_never_answered_waits_until_the_end() -> None:
    assert _windows(seen((10, 20), (9_000, None))) == [(9_000_000, 10_000_000)]


def test_where_nobody_asks_nothing_is_unavailable() -> None:
    assert _windows(seen((10, 20), (5_000, 5_001))) == []
