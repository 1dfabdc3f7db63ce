"""The same on real processes, in short: what `robust` does there is seen, and without it nothing of it is.

How much is left is for `python -m compare.robustness --live` to say, on a machine that does nothing else.
"""

from __future__ import annotations

import pytest

from compare.robustness import CASES as SIMULATED
from compare.robustness_live import CASES, LIVE_CLIENTS, LiveOutcome, meets, run

pytestmark = pytest.mark.live

SECONDS = 3.0


def off_and_on(name: str) -> tuple[LiveOutcome, LiveOutcome]:
    case = next(case for case in reversed(CASES) if case.name == name)
    off, on = run(case, False, SECONDS), run(case, True, SECONDS)
    print(f"{case.label}: {off.figure(case):.2f} without robust, {on.figure(case):.2f} with it")
    assert off.usual_s > 0, "vacuous"
    assert on.usual_s > 0, "vacuous"
    return off, on


@pytest.mark.slow
def test_p38_a_slow_primary_is_deposed() -> None:
    """Well before its time-out, which never comes."""
    off, on = off_and_on("slow-primary")
    assert (off.views, on.views > 0) == (0, True)
    assert on.attacked_s / on.usual_s > off.attacked_s / off.usual_s


@pytest.mark.slow
def test_p36_clients_that_sign_badly_lose_their_links() -> None:
    """Each at each of four replicas, which then check no more of their signatures."""
    off, on = off_and_on("garbage-signatures")
    assert (off.shunned, on.shunned) == (0, 8)
    assert on.refused < 100 < off.refused


def test_each_attack_runs_in_both_worlds_and_has_a_bar() -> None:
    assert {case.name for case in CASES} == {case.name for case in SIMULATED}
    assert {case.name for case in CASES if case.rate} == set(LIVE_CLIENTS)


def test_the_figure_of_censorship_is_how_much_longer_it_takes() -> None:
    found = LiveOutcome(100, 90, 250, 100, 1, 0, 0, 0)
    censor, *_ = (case for case in CASES if case.name == "censor")
    flood, *_ = (case for case in CASES if case.name == "flood")
    assert (found.figure(censor), found.figure(flood)) == (2.5, 0.9)
    assert meets(censor, found)
    assert meets(flood, found)
