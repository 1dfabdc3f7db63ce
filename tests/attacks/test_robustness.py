"""What is left under each attack (P31, P36, P37, P38), in short; without the one measure against it, far less.

`python -m compare.robustness` measures the same for longer, against the bars.
"""

from __future__ import annotations

from functools import cache
from typing import get_args

import pytest

from compare.attacks import ATTACKS
from compare.attacks.storms import CLIENT_ATTACKS
from compare.robustness import CASES, FAULT_FREE, OUTSTANDING, SECOND, Case, Outcome, Run, figure
from compare.scenario import Workload
from pbft.config import MEASURES

SECONDS = 6.0
WARM_UP = 2 * SECOND


@cache
def usual(auth: str) -> float:
    return Run(FAULT_FREE[auth], robust=True).measure(SECONDS, WARM_UP).operations_s


def under(name: str, *without: str) -> tuple[float, Outcome]:
    """What is left of the throughput under the attack, or how many times as long the censored client waits."""
    named = [case for case in reversed(CASES) if name in (case.name, case.label) and not case.colluders]
    cases = [case for case in named if case.censors is (name == "censor") and case.outstanding == OUTSTANDING]
    case = max(cases, key=lambda case: float(case.options.get("delay_ms", 0)))
    found = Run(case, [measure for measure in MEASURES if measure not in without], usual(case.auth))
    outcome = found.measure(2 * SECONDS if name == "censor" else SECONDS, WARM_UP)
    assert outcome.acts > 0, "vacuous"
    return figure(case, outcome, usual(case.auth)), outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "measures", "least", "most"),
    [
        ("garbage-signatures", ["blacklist"], 0.9, 0.5),
        ("retransmission-storm", ["blacklist"], 0.7, 0.6),
        ("big-mac", ["vouching"], 0.75, 0.2),
        ("flood", ["throttle"], 0.8, 0.7),
        ("flood rate_s=20 size=1e+06", ["throttle"], 0.75, 0.6),
        ("read-storm", ["turns"], 0.85, 0.5),
        ("large-reads", ["turns"], 0.85, 0.7),
        ("watched-only", ["floor", "heartbeat", "fairness"], 0.7, 0.4),
        ("bursts", ["floor"], 0.7, 0.6),
    ],
)
def test_p36_what_is_left_of_the_throughput(name: str, measures: list[str], least: float, most: float) -> None:
    left, _ = under(name)
    assert left >= least
    left, _ = under(name, *measures)
    assert left < most


@pytest.mark.slow
def test_p37_a_censored_client_waits_no_longer_than_others() -> None:
    times, outcome = under("censor")
    assert times <= 3
    assert outcome.views > 0
    times, outcome = under("censor", "fairness", "heartbeat", "floor")
    assert times > 3


@pytest.mark.slow
def test_p36_a_flood_of_huge_frames_is_throttled_too() -> None:
    """800 a second of a megabyte for each other replica: each keeps a replica of that speed from all else for 42 ms."""
    case = next(case for case in CASES if case.options.get("rate_s") == 800)
    found = Run(case, robust=True).measure(SECONDS, WARM_UP)
    assert found.acts > 0, "vacuous"
    assert found.floods >= 3
    assert figure(case, found, usual(case.auth)) >= 0.65


@pytest.mark.slow
def test_p36_two_that_flood_together_are_throttled_both() -> None:
    """Of seven, which stand two: the median of what waits of the others is still that of a correct one."""
    case = next(case for case in CASES if case.colluders and case.name == "flood")
    found = Run(case, robust=True).measure(3.0, WARM_UP)
    assert found.acts > 0, "vacuous"
    assert found.floods >= 2 * 5
    assert found.operations_s > 0


@pytest.mark.slow
def test_p36_the_flooding_replica_is_reported_by_each_other() -> None:
    _, outcome = under("flood")
    assert outcome.floods >= 3
    _, outcome = under("slow-primary")
    assert outcome.floods == 0


def test_every_attack_of_clients_can_be_named_in_a_scenario() -> None:
    assert set(get_args(Workload.model_fields["byzantine_as"].annotation)) == set(CLIENT_ATTACKS)
    assert {case.name for case in CASES} <= set(CLIENT_ATTACKS) | set(ATTACKS)


def test_a_case_says_what_it_is() -> None:
    assert Case("flood", target=3, options={"rate_s": 4_000}).label == "flood rate_s=4000"
