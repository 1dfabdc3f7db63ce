"""What the simulator counts and charges for authentication, exactly where the protocol says how much there must be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pbft import SPEC
from replog.sim import SimCluster
from replog.sim.cluster import Counters
from replog.sim.costs import FREE, CostModel
from tests.cluster.story import put

REQUESTS = 20
LATE = {"view_timeout_us": 60_000_000, "status_interval_us": 7_000_000}
"""Nothing is sent twice."""


def work(auth: str, costs: CostModel) -> Counters:
    """Of all processes, for one request after the other."""
    cluster = SimCluster(SPEC, options={"auth": auth, **LATE}, costs=costs)
    client = cluster.client()
    client.load(iter([[put(f"k{number}", "v")] for number in range(REQUESTS)]))
    cluster.run_until(lambda: client.acknowledged == REQUESTS)
    cluster.run_for(100_000)
    return cluster.counters


def test_under_macs_a_client_makes_one_for_each_replica_which_checks_its_own() -> None:
    """n = 4: 4 made and 4 checked. [CL99 5.2]"""
    counted = work("macs", FREE)
    assert (counted.signed, counted.verified) == (0, 0)
    assert counted.macs == 8 * REQUESTS


def test_with_signatures_no_mac_is_counted() -> None:
    """The client signs its request, 8 phase messages are signed."""
    counted = work("signatures", FREE)
    assert (counted.signed, counted.macs) == (9 * REQUESTS, 0)
    assert counted.verified > 0


@pytest.mark.parametrize(("auth", "name"), [("macs", "mac_us"), ("signatures", "sign_us"), ("signatures", "verify_us")])
def test_each_is_charged_its_own_price(auth: str, name: str) -> None:
    counted = work(auth, replace(FREE, **{name: 1}))
    many = {"mac_us": counted.macs, "sign_us": counted.signed, "verify_us": counted.verified}
    assert counted.busy_us == many[name] > 0
    assert work("signatures" if auth == "macs" else "macs", replace(FREE, **{name: 1})).busy_us == 0
