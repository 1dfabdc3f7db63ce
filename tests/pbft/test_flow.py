"""[Clement09 4.1] What gets done and how long it waits there, and who has done better (P38)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pbft.flow import SAMPLES, Flow, Pace, Records
from tests.plug import MS

SECOND = 1000 * MS
SHARE, SLOWER, SLACK = 0.8, 1.2, 1 * MS


def closed_loop(clients: int, wait: int, seconds: float = 8, held: Callable[[int], int] = lambda now: now) -> Flow:
    """So many clients ask again as soon as they are answered; the primary answers what it got until `held` of now, and
    then each wait is `wait` longer."""
    flow, due = Flow(0), [(wait * place) // clients for place in range(clients)]
    flow.count(0, clients)
    for now in range(0, int(seconds * SECOND), MS):
        ended = [place for place in range(clients) if due[place] <= held(now)]
        for place in ended:
            due[place] = now + wait
        flow.end(len(ended), len(ended), len(ended))
        flow.count(now, clients)
        flow.look(now)
    return flow


def pace(clients: int, wait: int, seconds: float = 8, held: Callable[[int], int] = lambda now: now) -> Pace:
    return closed_loop(clients, wait, seconds, held).look(int(seconds * SECOND))


def test_the_mean_wait_is_what_waits_over_what_ends() -> None:
    found = pace(10, 50 * MS)
    assert found.requests == pytest.approx(200, rel=0.03)
    assert found.wait == pytest.approx(50 * MS, rel=0.05)


def test_what_is_shown_is_right_from_the_beginning() -> None:
    """A view's averages begin with nothing, and are not lower for that."""
    assert pace(10, 50 * MS, seconds=1).requests == pytest.approx(200, rel=0.1)


def judged(found: Pace, shown: Pace) -> bool:
    return shown.is_better(found, SHARE, SLOWER, SLACK)


def test_p38_with_less_to_do_nobody_is_slow() -> None:
    assert not judged(pace(2, 10 * MS), pace(96, 100 * MS))
    assert not judged(pace(0, 10 * MS), pace(96, 100 * MS))


def test_p38_with_more_to_do_nobody_is_slow() -> None:
    """More wait, and longer; but more are served than ever."""
    assert not judged(pace(96, 100 * MS), pace(2, 10 * MS))


@pytest.mark.parametrize("delay", [20, 40, 60, 100, 180])
def test_p38_a_delay_that_takes_a_fifth_is_slow(delay: int) -> None:
    assert judged(pace(24, (50 + delay) * MS), pace(24, 50 * MS))


@pytest.mark.parametrize("period", [300, 400, 470])
def test_p38_bursts_are_as_slow_as_they_are(period: int) -> None:
    """Also in the moment after a burst."""
    shown = pace(24, 50 * MS)
    for moment in range(0, period, 20):
        found = pace(24, 50 * MS, 6 + moment / 1000, lambda now: now - now % (period * MS))
        assert judged(found, shown)


def test_p38_heavy_requests_are_not_held_against_anybody() -> None:
    """Before them, after them, or while they are there: fewer requests are more operations."""
    light, heavy = Pace(900, 900, 100 * MS), Pace(30, 30_000, 400 * MS)
    assert not judged(heavy, light)
    assert not judged(light, heavy)


def sampled(done: int, ended: int, waiting: int, sample: float = 0.25) -> Pace:
    """So many requests are done a second, so many of those had waited at a backup, where so many wait at any time."""
    flow = Flow(0)
    flow.count(0, waiting)
    for second in range(1, 11):
        flow.end(done, done, ended)
        found = flow.look(second * SECOND, sample)
    return found


def test_p38_a_backup_sees_the_wait_of_its_sample_and_all_that_is_done() -> None:
    assert sampled(900, 225, 24) == pytest.approx((900, 900, 24 * SECOND / 225), rel=0.01)
    assert sampled(900, 180, 19) == pytest.approx((900, 900, 19 * SECOND / 180), rel=0.01), "as chance has it"


def test_p38_what_no_backup_was_sent_does_not_count_as_done() -> None:
    """Clients that collude ask the primary alone, which serves them in place of others."""
    assert sampled(900, 25, 24).requests < 200
    assert judged(sampled(900, 25, 24), sampled(900, 225, 24))


def test_p38_more_than_a_sample_makes_no_wait_shorter() -> None:
    """Clients that collude send all they ask for to all backups."""
    assert judged(sampled(300, 225, 24), sampled(900, 225, 24))
    assert not judged(sampled(900, 900, 96), sampled(900, 225, 24)), "but all are told of what is late"


def records(*views: Pace) -> Records:
    found = Records(4, 2)
    for number, view in enumerate(views, 1):
        found.begin_view()
        found.learn(number * 10 * SECOND, view)
    found.begin_view()
    return found


def better(found: Records, pace: Pace) -> bool:
    return found.better(pace, SHARE, SLOWER, SLACK) is not None


FAST, SLOW = Pace(900, 900, 50 * MS), Pace(400, 400, 100 * MS)


def test_clement09_one_view_alone_shows_nothing_that_others_have_to_match() -> None:
    """A liar and its clients may have led it."""
    assert not better(records(SLOW, FAST, SLOW), SLOW)
    assert better(records(SLOW, FAST, FAST), SLOW)


def test_clement09_a_primary_has_to_keep_what_it_has_shown_itself() -> None:
    found = records(SLOW, SLOW)
    found.learn(100 * SECOND, FAST)
    assert better(found, SLOW)
    assert not better(found, FAST)


def test_clement09_what_was_shown_long_ago_counts_no_more() -> None:
    found = records(FAST, FAST, SLOW, SLOW, SLOW)
    assert not better(found, SLOW)
    for second in range(200, 200 + 2 * SAMPLES):
        found.learn(second * SECOND, FAST)
    found.check_invariants()
