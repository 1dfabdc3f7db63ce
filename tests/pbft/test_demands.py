"""[Clement09] What a backup demands of its primary: it complains, and leaves with a quorum (P14, P36, P37, P38)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pbft import PbftCore, demands
from pbft import messages as m
from pbft.demands import Demands, Waits
from pbft.intake import Intake
from pbft.requests import Requests
from replog.core import Shun
from replog.types import Request, Submit
from tests.pbft.harness import CLIENTS, SECOND, SMALL, Cluster
from tests.plug import DOMAIN, MS, Packet

TIMEOUT = SECOND
ROBUST = {**SMALL, "robust": True, "view_timeout_us": TIMEOUT}

BODIES = (m.PrePrepare, m.Committed, m.BatchData)


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
            return len(self._standing(self._now)) >= 1


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
    cluster.blocked = lambda packet: packet.to == 1 and isinstance(packet.message, BODIES)
    cluster.submit("ann", 1, to=range(4))
    cluster.run(TIMEOUT // 2)
    cluster.crash(3)
    cluster.blocked = lambda _: False
    cluster.run(TIMEOUT // 2)
    cluster.submit("ann", 2)
    cluster.run(TIMEOUT // 8)
    assert list(complaints(cluster)) == [1]
    assert (cluster.views() == [0] * 3 and cluster.done("ann", 2)) is stays


class JudgesAlways(PbftCore):
    def _is_excused(self) -> bool:
        return False


@pytest.mark.parametrize(("core", "silent"), [(PbftCore, True), (JudgesAlways, False)])
def test_clement09_who_hears_nobody_complains_of_nobody(core: type[PbftCore], silent: bool) -> None:
    cluster = Cluster(options=ROBUST, core=core)
    cluster.isolate(1)
    cluster.submit("ann", 1, to=range(4))
    cluster.run(TIMEOUT // 2)
    assert (complaints(cluster) == {}) is silent
    cluster.heal()
    assert cluster.run(TIMEOUT, until=lambda: cluster.core(1).executed > 0)
    assert cluster.views() == [0] * 4


@pytest.mark.parametrize(("behind", "silent"), [(demands.BEHIND, True), (1_000, False)])
def test_clement09_who_did_not_run_itself_complains_of_nobody(
    behind: int, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine stood still for longer than a primary may be silent: as likely, so did the primary's."""
    monkeypatch.setattr(demands, "BEHIND", behind)
    cluster = Cluster(options=ROBUST)
    cluster.blocked = is_proposal
    cluster.submit("ann", 1, to=(0, 1))
    cluster.settle()
    cluster.servers[1].timers[Demands.TIMER] += TIMEOUT // 4
    cluster.run(TIMEOUT // 4 + TIMEOUT // 16)
    assert (complaints(cluster) == {}) is silent
    cluster.run(TIMEOUT // 2)
    assert complaints(cluster) != {}, "vacuous"


def test_clement09_where_one_correct_replica_leaves_all_do() -> None:
    """Nodes 1 and 3 complain, 3 to node 1 alone: a weak quorum makes the others complain, a quorum makes them leave."""
    cluster = Cluster(options=ROBUST)
    cluster.inject(3, 1, m.Complaint(0))
    cluster.inject(2, (0, 1), m.Complaint(0))
    cluster.run(TIMEOUT // 8)
    assert cluster.views() == [1] * 4


@pytest.mark.parametrize(("options", "all_leave"), [(ROBUST, True), (without(*without()["robust"]), False)])
def test_clement09_whoever_leaves_complains_even_if_the_complaint_is_lost(
    options: dict[str, Any], all_leave: bool
) -> None:
    """Node 1 has heard enough complaints to leave, and its own is lost: it must not be left alone in the next view."""
    cluster = Cluster(options=options)
    cluster.blocked = lambda packet: packet.sender == 1 and isinstance(packet.message, m.Complaint)
    cluster.inject(3, 1, m.Complaint(0))
    cluster.inject(2, (0, 1), m.Complaint(0))
    cluster.run(TIMEOUT // 8)
    assert cluster.core(1).view == 1
    assert (cluster.views() == [1] * 4) is all_leave


def test_clement09_a_complaint_is_withdrawn_when_its_reason_has_gone() -> None:
    cluster = Cluster(options=ROBUST)
    cluster.blocked = lambda packet: packet.to == 1 and isinstance(packet.message, BODIES)
    cluster.submit("ann", 1, to=range(4))
    cluster.run(TIMEOUT // 2)
    assert list(complaints(cluster)) == [1]
    cluster.blocked = lambda _: False
    busy(cluster, "ann", 2, 40, 50 * MS)
    assert cluster.core(1).demands.complaint == ""
    cluster.inject(2, (0, 3), m.Complaint(0))
    cluster.run(TIMEOUT // 8)
    assert cluster.views() == [0] * 4


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
    """Sixteen at once, each in turn with another: the last one waits far longer than usual, and that is fair."""
    cluster = Cluster(options=ROBUST)
    _, requests, step = waiting(cluster, "bob", range(1, 17), 10 * MS)
    unfair = []
    for timestamp in range(1, 17):
        requests.add(cluster.request("ann", 20 + timestamp))
        unfair += [step(20 + timestamp, "ann"), step(timestamp)]
    assert not any(unfair)
    assert not requests.pending


def test_p37_who_has_none_before_is_soon_passed_by() -> None:
    """By 2.5 times as many batches as usual, which took as much longer; no other measure has to be that patient."""
    _, _, step = waiting(Cluster(options=ROBUST), "bob", range(1, 2), SECOND)
    assert [step(0) for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("overtaken", [False, True])
def test_p37_where_many_come_at_once_the_last_of_them_waits_fairly(overtaken: bool) -> None:
    """Far longer than the first ones, and than was usual before; not so who lets later ones pass."""
    cluster = Cluster(options=ROBUST)
    waits, requests, clock = Waits(), Requests(cluster.core(1).setup), 0
    unfair = []

    def serve(request: Request) -> None:
        nonlocal clock
        clock += 10 * MS
        requests.remove(*request.identity)
        waits.pass_by(clock, requests)
        waits.learn()
        waits.late(clock, SECOND)
        unfair.append(waits.unfair(clock, 10 * MS))

    def come(client: str, timestamp: int) -> Request:
        request = cluster.request(client, timestamp, low=timestamp - 1)
        requests.add(request)
        waits.look(clock, requests)
        return request

    for timestamp in range(1, 21):
        serve(come("ann", timestamp))
    if overtaken:
        come("bob", 1)
        for timestamp in range(21, 33):
            serve(come("ann", timestamp))
    else:
        for request in [come(client, timestamp) for timestamp in range(21, 24) for client in CLIENTS]:
            serve(request)
    assert len(unfair) >= 29
    assert any(unfair) is overtaken


LARGE: dict[str, Any] = {**ROBUST, "request_operations_max": 16_384, "client_operations_max": 65_536}


def asking(cluster: Cluster, first: int, last: int, pause: int) -> None:
    """Ann asks again and again, so that something is under way at any time: commits take as long as the next one."""
    cluster.holds = lambda packet: isinstance(packet.message, m.Commit)
    for timestamp in range(first, last + 1):
        cluster.submit("ann", timestamp, to=range(4), low=max(0, timestamp - 2))
        cluster.run(pause)
        held, cluster.held = cluster.held, []
        cluster.network += held


def owing(options: dict[str, Any], pause: int) -> Cluster:
    """Bob has had 16,384 operations at once: for more than 255 batches others go first."""
    cluster = Cluster(options=options)
    asking(cluster, 1, 20, pause)
    cluster.submit("bob", 1, to=range(4), count=16_384)
    asking(cluster, 21, 24, pause)
    assert cluster.done("bob", 1)
    return cluster


def test_p37_who_owes_is_kept_waiting_and_nobody_is_blamed_for_it() -> None:
    cluster = owing({**LARGE, "view_timeout_us": 40 * SECOND}, 50 * MS)
    cluster.submit("bob", 2, to=range(4), low=1)
    asking(cluster, 25, 80, 50 * MS)
    assert not cluster.done("bob", 2), "its primary lets others go first"
    assert complaints(cluster) == {}


def test_p37_who_owes_no_more_is_passed_by_like_anybody() -> None:
    """By a primary that does not know when to stop."""
    cluster = owing({**LARGE, "view_timeout_us": 8 * SECOND}, 50 * MS)
    for node in (1, 2, 3):
        cluster.core(node).requests._settle(65_536)
    cluster.submit("bob", 2, to=range(4), low=1)
    asking(cluster, 25, 50, 50 * MS)
    assert cluster.done("bob", 2)
    assert set(cluster.views()) == {1}


def test_p37_what_its_client_owes_is_held_against_nobody_by_the_timer_either() -> None:
    """It waits for longer than the time-out; others are executed meanwhile."""
    cluster = owing({**LARGE, "robust": ["turns"]}, 10 * MS)
    cluster.submit("bob", 2, to=range(4), low=1)
    asking(cluster, 25, 150, 10 * MS)
    assert not cluster.done("bob", 2)
    asking(cluster, 151, 340, 10 * MS)
    assert cluster.done("bob", 2)
    assert set(cluster.views()) == {0}


def test_p37_where_only_who_owes_waits_a_mute_primary_is_given_up_all_the_same() -> None:
    cluster = owing({**LARGE, "robust": ["turns"]}, 10 * MS)
    cluster.release()
    cluster.settle()
    cluster.blocked = is_proposal
    cluster.submit("bob", 2, to=range(4), low=1)
    assert cluster.run(2 * TIMEOUT, until=lambda: cluster.done("bob", 2))
    assert set(cluster.views()) == {1}


def test_p37_where_nobody_else_wants_anything_time_pays_debts_off_before_anybody_complains() -> None:
    cluster = owing(LARGE, 10 * MS)
    cluster.release()
    cluster.settle()
    cluster.submit("bob", 2, to=range(4), low=1)
    assert cluster.run(TIMEOUT // 16, until=lambda: cluster.done("bob", 2))
    assert complaints(cluster) == {}


def test_p37_a_client_with_much_before_it_keeps_nobody_from_being_watched() -> None:
    cluster = Cluster(options={**ROBUST, "client_requests_max": 128})
    waits, requests = Waits(), Requests(cluster.core(1).setup)
    for timestamp in range(1, 65):
        requests.add(cluster.request("eve", timestamp))
    requests.add(cluster.request("bob", 1))
    waits.look(0, requests)
    assert ("bob", 1) in waits._since
    assert ("eve", 1) in waits._since
    assert len(waits._since) == 1 + 4


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


# ----------------------------------------------------------------------------------------------------------- blacklist


def unsigned(cluster: Cluster) -> Submit:
    good = cluster.request("ann", 1)
    return Submit(Request.make(lambda _: bytes(len(good.auth)), DOMAIN, "ann", 1, 0, good.operations() or []).raw)


class Forgives(PbftCore):
    class intake_type(Intake):  # noqa: N801
        def shun(self, sender: Any, rule: str) -> list[Any]:
            return []


def shunned(cluster: Cluster, sender: int | str, messages: list[Any], at: int = 0) -> list[str]:
    found: list[str] = []
    carry_out = cluster.carry_out
    cluster.carry_out = lambda node, effects: (  # type: ignore[method-assign]
        found.extend(effect.client for effect in effects if isinstance(effect, Shun)),
        carry_out(node, effects),
    )[1]
    for message in messages:
        cluster.inject(sender, at, message)
    cluster.settle()
    cluster.carry_out = carry_out  # type: ignore[method-assign]
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


class CountsWhatCameLate(PbftCore):
    class requests_type(Requests):  # noqa: N801
        def outran(self, now: int, request: Request) -> bool:
            return False


@pytest.mark.parametrize(("core", "heard_no_more"), [(PbftCore, set()), (CountsWhatCameLate, {"ann"})])
def test_p36_a_backup_that_executes_before_it_hears_the_client_blames_no_client(
    core: type[PbftCore], heard_no_more: set[str]
) -> None:
    """On a slow link a request may come after the batch that it is in."""
    cluster = Cluster(options=ROBUST, core=core)
    found: set[str] = set()
    for timestamp in range(1, 301):
        request = cluster.submit("ann", timestamp, to=[0], low=timestamp - 1)
        cluster.settle()
        found |= set(shunned(cluster, "ann", [Submit(request.raw)], at=1))
    assert cluster.done("ann", 300)
    assert found == heard_no_more


def test_4_1_what_a_backup_hears_of_long_after_it_was_executed_it_answers() -> None:
    """The first answers may have been lost; a backup that was not in the sample has not been asked before."""
    cluster = Cluster(options=ROBUST)
    request = cluster.submit("ann", 1, to=[0])
    cluster.settle()
    cluster.replies.clear()
    cluster.inject("ann", 1, Submit(request.raw))
    cluster.settle()
    assert not cluster.done_by("ann", 1, [1]), "its answer is on the way"
    cluster.run(TIMEOUT // 4)
    cluster.inject("ann", (1, 2), Submit(request.raw))
    cluster.settle()
    assert cluster.done_by("ann", 1, [1, 2])
