"""What is left under each attack (P31, P36, P37, P38), in short; without the one measure against it, far less.

`python -m compare.robustness` measures the same for longer, against the bars.
"""

from __future__ import annotations

from functools import cache
from typing import get_args

import pytest

from compare.attacks import ATTACKS
from compare.attacks.storms import CLIENT_ATTACKS
from compare.robustness import CASES, FAULT_FREE, SECOND, Case, Outcome, Run, figure
from compare.scenario import Workload
from pbft.config import MEASURES

SECONDS = 6.0
WARM_UP = 2 * SECOND


@cache
def usual(auth: str) -> float:
    return Run(FAULT_FREE[auth], robust=True).measure(SECONDS, WARM_UP).operations_s


def named(label: str) -> Case:
    """As the table of `compare.robustness` names it; of those that differ in their rate alone, the fiercest."""
    return max((case for case in CASES if case.label == label), key=lambda case: case.rate)


def under(label: str, *without: str) -> tuple[float, Outcome]:
    """What is left of the throughput under the attack, or how many times as long the censored client waits."""
    case = named(label)
    found = Run(case, [measure for measure in MEASURES if measure not in without], usual(case.auth))
    outcome = found.measure(2 * SECONDS if case.censors else SECONDS, WARM_UP)
    assert outcome.acts > 0, "vacuous"
    return figure(case, outcome, usual(case.auth)), outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "measures", "least", "most"),
    [
        ("garbage-signatures", ["blacklist"], 0.9, 0.5),
        ("retransmission-storm", ["blacklist"], 0.7, 0.6),
        ("big-mac macs", ["vouching"], 0.75, 0.2),
        ("flood rate_s=4000", ["throttle"], 0.8, 0.7),
        ("flood rate_s=20 size=1e+06", ["throttle"], 0.75, 0.6),
        ("read-storm", ["turns"], 0.85, 0.5),
        ("large-reads", ["turns"], 0.85, 0.7),
        ("watched-only macs", ["floor", "heartbeat", "fairness"], 0.7, 0.4),
        ("bursts period_ms=470", ["floor"], 0.7, 0.6),
    ],
)
def test_p36_what_is_left_of_the_throughput(label: str, measures: list[str], least: float, most: float) -> None:
    left, _ = under(label)
    assert left >= least
    left, _ = under(label, *measures)
    assert left < most


@pytest.mark.slow
def test_p37_a_censored_client_waits_no_longer_than_others() -> None:
    times, outcome = under("censor delay_ms=3000")
    assert times <= 3
    assert outcome.views > 0
    times, outcome = under("censor delay_ms=3000", "fairness", "heartbeat", "floor")
    assert times > 3


@pytest.mark.slow
def test_p36_a_flood_of_huge_frames_is_throttled_too() -> None:
    """800 a second of a megabyte for each other replica: each keeps a replica of that speed from all else for 42 ms."""
    case = named("flood rate_s=800 size=1e+06")
    found = Run(case, robust=True).measure(SECONDS, WARM_UP)
    assert found.acts > 0, "vacuous"
    assert found.floods >= 3
    assert figure(case, found, usual(case.auth)) >= 0.65


@pytest.mark.slow
def test_p36_two_that_flood_together_are_throttled_both() -> None:
    """Of seven, which stand two: the median of what waits of the others is still that of a correct one."""
    case = named("flood by 2 of 7 rate_s=4000")
    found = Run(case, robust=True).measure(3.0, WARM_UP)
    assert found.acts > 0, "vacuous"
    assert found.floods >= 2 * 5
    assert found.operations_s > 0


@pytest.mark.slow
def test_p36_the_flooding_replica_is_reported_by_each_other() -> None:
    _, outcome = under("flood rate_s=4000")
    assert outcome.floods >= 3
    _, outcome = under("slow-primary delay_ms=3500")
    assert outcome.floods == 0


def test_every_attack_of_clients_can_be_named_in_a_scenario() -> None:
    assert set(get_args(Workload.model_fields["byzantine_as"].annotation)) == set(CLIENT_ATTACKS)
    assert {case.name for case in CASES} <= set(CLIENT_ATTACKS) | set(ATTACKS)


def test_a_case_says_what_it_is() -> None:
    assert Case("flood", target=3, options={"rate_s": 4_000}).label == "flood rate_s=4000"
