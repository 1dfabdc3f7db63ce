"""[CL99 4.2] The normal case, rule by rule."""

from __future__ import annotations

import pytest

from tests.pbft.harness import Cluster, phase_messages


@pytest.mark.parametrize(("n", "wanted"), [(4, 24), (7, 84), (10, 180)])
def test_4_2_phase_messages_of_one_operation_match_the_closed_form(n: int, wanted: int) -> None:
    cluster = Cluster(n)
    cluster.submit("ann", 1)
    cluster.settle()
    assert cluster.done("ann", 1)
    assert phase_messages(cluster) == (n - 1) + (n - 1) ** 2 + n * (n - 1) == wanted


@pytest.mark.parametrize("signatures", ["hash", "ed25519"])
def test_4_2_a_request_is_executed_everywhere_and_answered_alike(signatures: str) -> None:
    cluster = Cluster(signatures=signatures)
    cluster.submit("ann", 1, amount=5)
    cluster.settle()
    assert [Counter.outcomes for Counter in cluster.results("ann", 1)]
    assert cluster.executed() == [1, 1, 1, 1]
    assert cluster.check_agreement() == 3
