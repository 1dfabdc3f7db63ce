"""[Clement09] What a backup demands of its primary: it complains, and leaves with a quorum (P14, P36, P37, P38)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pbft import PbftCore
from pbft import messages as m
from pbft.demands import Demands, Throughput, Waits
from pbft.intake import Intake
from pbft.requests import Requests
from replog.core import Shun
from replog.types import Request, Submit
from tests.pbft.harness import SECOND, SMALL, Cluster
from tests.plug import DOMAIN, MS, Packet

TIMEOUT = SECOND
ROBUST = {**SMALL, "robust": True, "view_timeout_us": TIMEOUT}


def without(*measures: str) -> dict[str, Any]:
    every = ["heartbeat", "floor", "fairness", "rotation", "turns", "blacklist"]
    return {**ROBUST, "robust": [name for name in every if name not in measures]}


def complaints(cluster: Cluster) -> dict[int, str]:
    """Who complains for a reason of its own or another's, the last time."""
    return {node: note.detail["reason"] for node, note in cluster.notes if note.kind == "complaint"}


def is_proposal(packet: Packet) -> bool:
    return packet.sender == 0 and isinstance(packet.message, m.PrePrepare)  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------------------- heartbeat


@pytest.mark.parametrize(("options", "soon"), [(ROBUST, True), (without("heartbeat", "fairness"), False)])
def test_p38_a_primary_that_proposes_nothing_is_given_up_after_a_heartbeat(options: dict[str, Any], soon: bool) -> None:
    cluster = Cluster(options=options)
    cluster.blocked = is_proposal
    cluster.submit("ann", 1, to=range(4))
    assert cluster.run(TIMEOUT // 2, until=lambda: cluster.done("ann", 1)) is soon
    assert cluster.run(2 * TIMEOUT, until=lambda: cluster.done("ann", 1))


def test_p35_a_request_that_only_backups_have_is_sent_on_before_anybody_is_blamed() -> None:
    cluster = Cluster(options=ROBUST)
    cluster.submit("ann", 1, to=(1, 2, 3))
    assert cluster.run(TIMEOUT, until=lambda: cluster.done("ann", 1))
    assert cluster.views() == [0] * 4
    assert complaints(cluster) == {}


def test_an_idle_cluster_looks_at_nothing() -> None:
    cluster = Cluster(options=ROBUST)
    cluster.submit("ann", 1)
    cluster.run(SECOND)
    assert Demands.TIMER not in {name for _, _, name in cluster.due()}


class KnowsNoLeniency(PbftCore):
    class demands_type(Demands):  # noqa: N801
        leniency = 0


@pytest.mark.parametrize(("core", "ends"), [(PbftCore, True), (KnowsNoLeniency, False)])
def test_p14_where_no_primary_can_meet_the_demands_they_are_lowered(core: type[PbftCore], ends: bool) -> None:
    """Every proposal takes longer than a heartbeat, whoever leads: so it is nobody's fault."""
    cluster = Cluster(options={**ROBUST, "view_timeout_us": 4 * SECOND}, core=core)
    cluster.holds = lambda packet: isinstance(packet.message, m.PrePrepare)
    done = 0
    for _ in range(12):
        cluster.submit("ann", done + 1, to=range(4), low=done)
        cluster.run(700 * MS)
        held, cluster.held = cluster.held, []
        cluster.network += held
        cluster.settle()
        done += cluster.done("ann", done + 1)
    assert (max(cluster.views()) <= 4) is ends
    assert done >= 6, "vacuous"


# ---------------------------------------------------------------------------------------------------------- complaints


class LeavesAtOnce(PbftCore):
    class demands_type(Demands):  # noqa: N801
        @property
        def given_up(self) -> bool:
            return len(self._complaints) >= 1


@pytest.mark.parametrize(("core", "stays"), [(PbftCore, True), (LeavesAtOnce, False)])
def test_clement09_no_f_replicas_depose_a_primary(core: type[PbftCore], stays: bool) -> None:
    cluster = Cluster(options=ROBUST, core=core)
    for _ in range(3):
        cluster.inject(3, (0, 1, 2), m.Complaint(0))
    cluster.submit("ann", 1)
    cluster.run(SECOND)
    assert (cluster.views() == [0] * 4) is stays
    assert complaints(cluster) == {}, "nobody has a reason of its own"


@pytest.mark.parametrize(("core", "stays"), [(PbftCore, True), (LeavesAtOnce, False)])
def test_clement09_a_replica_that_alone_is_kept_waiting_stays_in_its_view(core: type[PbftCore], stays: bool) -> None:
    """It complains; had it left, the others could not have gone on without node 3."""
    cluster = Cluster(options=ROBUST, core=core)
    cluster.isolate(1)
    cluster.submit("ann", 1, to=range(4))
    cluster.run(TIMEOUT // 4)
    cluster.crash(3)
    cluster.heal()
    cluster.run(TIMEOUT // 2)
    cluster.submit("ann", 2)
    cluster.run(TIMEOUT // 8)
    assert list(complaints(cluster)) == [1]
    assert (cluster.views() == [0] * 3 and cluster.done("ann", 2)) is stays


def test_clement09_where_one_correct_replica_leaves_all_do() -> None:
    """Nodes 1 and 3 complain, 3 to node 1 alone: a weak quorum makes the others complain, a quorum makes them leave."""
    cluster = Cluster(options=ROBUST)
    cluster.inject(3, 1, m.Complaint(0))
    cluster.inject(2, (0, 1), m.Complaint(0))
    cluster.run(TIMEOUT // 8)
    assert cluster.views() == [1] * 4


def test_complaints_of_another_view_count_for_nothing() -> None:
    cluster = Cluster(options=ROBUST)
    for sender in (1, 2, 3):
        cluster.inject(sender, 0, m.Complaint(1))
    cluster.run(TIMEOUT // 8)
    assert cluster.views() == [0] * 4


# ------------------------------------------------------------------------------------------------------------ fairness


def names(packet: Any, client: str) -> bool:
    return isinstance(packet.message, Submit) and f"{client}".encode() in packet.raw


def busy(cluster: Cluster, client: str, first: int, count: int, pause: int) -> None:
    """A client that asks again and again, of the present primary."""
    for timestamp in range(first, first + count):
        cluster.submit(client, timestamp, to=range(4), low=timestamp - 1)
        cluster.run(pause)


@pytest.mark.parametrize(("options", "moved"), [(ROBUST, True), (without("fairness"), False)])
def test_p37_who_passes_one_client_by_is_given_up(options: dict[str, Any], moved: bool) -> None:
    cluster = Cluster(options={**options, "view_timeout_us": 8 * SECOND})
    busy(cluster, "ann", 1, 20, 50 * MS)
    cluster.blocked = lambda packet: packet.to == 0 and names(packet, "bob")
    cluster.submit("bob", 1, to=(1, 2, 3))
    busy(cluster, "ann", 21, 80, 50 * MS)
    assert cluster.done("bob", 1) is moved
    assert (set(cluster.views()) == {1}) is moved


def test_p37_a_client_waits_for_its_own_requests_without_complaint() -> None:
    """Sixteen at once, executed one after the other between another's: none of them waits unfairly."""
    cluster = Cluster(options={**ROBUST, "view_timeout_us": 8 * SECOND, "batch_requests_max": 1, "in_flight_max": 1})
    busy(cluster, "ann", 1, 10, 50 * MS)
    cluster.holds = lambda packet: isinstance(packet.message, m.Commit)
    for timestamp in range(1, 17):
        cluster.submit("bob", timestamp, to=range(4))
    for step in range(40):
        cluster.submit("ann", 11 + step, to=range(4), low=10 + step)
        cluster.run(100 * MS)
        held, cluster.held = cluster.held, []
        cluster.network += held
    assert cluster.done("bob", 16)
    assert complaints(cluster) == {}


def waiting(
    cluster: Cluster, client: str, timestamps: range, least: int
) -> tuple[Waits, Requests, Callable[[int], bool]]:
    """A backup where 20 others' requests have waited for 50 ms and two batches each, and then these come. The last:
    a step of as much later, that ends the request of this timestamp; whether anybody waits unfairly then."""
    waits, requests, clock = Waits(), Requests(cluster.core(1).setup), [0]

    def step(timestamp: int, name: str = client) -> bool:
        for _ in range(2):
            clock[0] += 25 * MS
            waits.pass_by(clock[0], requests)
        requests.remove(name, timestamp)
        waits.look(clock[0], requests)
        waits.learn()
        waits.late(clock[0], SECOND)
        return waits.unfair(clock[0], least) is not None

    for timestamp in range(1, 21):
        requests.add(cluster.request("ann", timestamp))
        waits.look(clock[0], requests)
        assert not step(timestamp, "ann")
    for timestamp in timestamps:
        requests.add(cluster.request(client, timestamp))
    waits.look(clock[0], requests)
    return waits, requests, step


def test_p37_requests_before_its_own_are_allowed_for() -> None:
    """Sixteen at once, each in its turn: the last one waits sixteen times as long as usual, and that is fair."""
    _, requests, step = waiting(Cluster(options=ROBUST), "bob", range(1, 17), 10 * MS)
    assert [timestamp for timestamp in range(1, 17) if step(timestamp)] == []
    assert not requests.pending


def test_p37_who_has_none_before_is_soon_passed_by() -> None:
    """By 2.5 times as many batches as usual, which took as much longer; no other measure has to be that patient."""
    _, _, step = waiting(Cluster(options=ROBUST), "bob", range(1, 2), SECOND)
    assert [step(0) for _ in range(4)] == [False, False, False, True]


class BlamesAStandstill(PbftCore):
    class demands_type(Demands):  # noqa: N801
        def _fault(self, now: int, patience: int, moves: bool) -> str:
            return super()._fault(now, patience, True)


@pytest.mark.parametrize(("core", "blamed"), [(PbftCore, False), (BlamesAStandstill, True)])
def test_p37_where_nothing_is_executed_nobody_is_passed_by(core: type[PbftCore], blamed: bool) -> None:
    """For less than a heartbeat, the patience of another measure."""
    cluster = Cluster(options={**ROBUST, "view_timeout_us": 8 * SECOND}, core=core)
    busy(cluster, "ann", 1, 20, 50 * MS)
    cluster.holds = lambda packet: isinstance(packet.message, m.Commit)
    cluster.submit("bob", 1, to=range(4))
    cluster.run(850 * MS)
    assert bool(complaints(cluster)) is blamed


def test_p37_clients_take_turns_in_a_batch() -> None:
    order = {}
    for options in (ROBUST, without("turns")):
        cluster = Cluster(options={**options, "batch_requests_max": 4, "in_flight_max": 1})
        requests = Requests(cluster.core(0).setup)
        waiting = [cluster.request("ann", timestamp) for timestamp in range(1, 7)] + [cluster.request("bob", 1)]
        for request in waiting:
            requests.add(request)
            requests.queue(request)
        order[len(cluster.options.measures)] = [request.client for request in requests.next_batch()]
        requests.check_invariants()
    assert list(order.values()) == [["ann", "bob", "ann", "ann"], ["ann"] * 4]


# ---------------------------------------------------------------------------------------------------- rotation, floor


@pytest.mark.parametrize(("options", "moved"), [(ROBUST, True), (without("rotation"), False)])
def test_clement09_no_primary_leads_for_ever(options: dict[str, Any], moved: bool) -> None:
    cluster = Cluster(options={**options, "view_length_us": 2 * SECOND})
    busy(cluster, "ann", 1, 60, 50 * MS)
    assert (min(cluster.views()) > 0) is moved
    assert len(set(cluster.views())) == 1


def test_throughput_comes_near_what_is_shown_within_its_time_constant() -> None:
    shown = Throughput(500 * MS)
    for _ in range(100):
        shown.add(10, 10 * MS)
    assert 850 < shown.rate < 1000
    for _ in range(100):
        shown.add(1, 10 * MS)
    assert 100 < shown.rate < 250


# ----------------------------------------------------------------------------------------------------------- blacklist


def unsigned(cluster: Cluster) -> Submit:
    good = cluster.request("ann", 1)
    return Submit(Request.make(lambda _: bytes(len(good.auth)), DOMAIN, "ann", 1, 0, good.operations() or []).raw)


class Forgives(PbftCore):
    class intake_type(Intake):  # noqa: N801
        def shun(self, sender: Any, rule: str) -> list[Any]:
            return []


def shunned(cluster: Cluster, sender: int | str, messages: list[Any]) -> list[str]:
    found: list[str] = []
    carry_out = cluster.carry_out
    cluster.carry_out = lambda node, effects: (  # type: ignore[method-assign]
        found.extend(effect.client for effect in effects if isinstance(effect, Shun)),
        carry_out(node, effects),
    )[1]
    for message in messages:
        cluster.inject(sender, 0, message)
    cluster.settle()
    return found


@pytest.mark.parametrize(("core", "heard_no_more"), [(PbftCore, ["ann"]), (Forgives, [])])
def test_p36_a_client_that_signs_badly_is_shunned(core: type[PbftCore], heard_no_more: list[str]) -> None:
    cluster = Cluster(options=ROBUST, core=core)
    assert shunned(cluster, "ann", [unsigned(cluster)]) == heard_no_more


def test_p36_what_a_replica_sends_on_is_held_against_no_client() -> None:
    cluster = Cluster(options=ROBUST)
    assert shunned(cluster, 2, [unsigned(cluster)]) == []


def test_p36_a_storm_of_repetitions_is_shunned_and_a_patient_client_is_not() -> None:
    cluster = Cluster(options=ROBUST)
    request = cluster.submit("ann", 1)
    cluster.settle()
    again = [Submit(request.raw)] * 64
    assert shunned(cluster, "ann", again) == []
    assert set(shunned(cluster, "ann", again * 10)) == {"ann"}
