"""[CL99 4.4, 4.5.2] Timers, back-off, joining, repetition; and who may not set them off."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from pbft import PbftCore, catch_up
from pbft import messages as m
from pbft.view_change import ViewChanges
from replog.core import Received, Send, SetTimer, Throttled, Timeout
from replog.types import Request, Submit
from tests import plug
from tests.pbft import forge
from tests.pbft.harness import SECOND, SMALL, Cluster, Packet

T = 1_000_000


def hear(cluster: Cluster, node: int, sender: int | str, message: Any) -> list[Any]:
    return cluster.step(node, Received(sender, message))


def all_heard(cluster: Cluster, node: int) -> None:
    """As if every other replica had just been heard."""
    cluster.now += 1
    for other in range(cluster.n):
        if other != node:
            cluster.core(node).hearing.heard_at[other] = cluster.now


def armed(effects: list[Any]) -> list[tuple[str, int]]:
    return [(effect.name, effect.delay) for effect in effects if isinstance(effect, SetTimer)]


# --------------------------------------------------------------------------------------------------------- the timer


def test_4_4_the_timer_starts_with_the_first_request_and_stops_with_the_last() -> None:
    cluster = Cluster()
    cluster.holds = lambda packet: isinstance(packet.sender, int)
    assert armed(hear(cluster, 1, "ann", Submit(cluster.request("ann", 1).raw))) == [("request", T)]
    assert armed(hear(cluster, 1, "bob", Submit(cluster.request("bob", 1).raw))) == [], "one runs already"
    cluster.release()
    cluster.settle()
    assert cluster.done("ann", 1)
    assert cluster.done("bob", 1)
    assert "request" not in cluster.servers[1].timers


def test_4_4_the_timer_starts_anew_for_the_next_request() -> None:
    cluster = Cluster()
    cluster.blocked = lambda packet: type(packet.message) is Submit and packet.message.request == bob.raw
    bob = cluster.request("bob", 1)
    hear(cluster, 1, "ann", Submit(cluster.request("ann", 1).raw))
    cluster.now += 1000
    hear(cluster, 1, "bob", Submit(bob.raw))
    cluster.settle()
    assert cluster.done("ann", 1)
    assert cluster.servers[1].timers["request"] == 1000 + T


def test_4_4_a_backup_waits_for_what_it_accepted_too() -> None:
    cluster = Cluster()
    hear(cluster, 1, 0, forge.pre_prepare(cluster, 0, 2, [cluster.request("ann", 1)]))
    assert cluster.core(1).patience.target == 1, "for the seq that is missing"


def test_4_4_the_primary_times_nobody() -> None:
    cluster = Cluster()
    cluster.blocked = lambda packet: True
    cluster.submit("ann", 1)
    cluster.settle()
    assert "request" not in cluster.servers[0].timers


# ----------------------------------------------------------------------------------------------------------- joining


class JoinsAtOne(PbftCore):
    class view_changes_type(ViewChanges):  # noqa: N801
        def wanted(self, view: int) -> int | None:
            others = [message.view for node, message in sorted(self.heard.items()) if node != self._notary.me]
            return max(others) if max(others) > view else None


def views_after(core: type[PbftCore], views: list[int], n: int = 4) -> int:
    cluster = Cluster(n, core=core)
    for node, view in enumerate(views, start=1):
        hear(cluster, 0, node, forge.view_change(cluster, node, view))
    return cluster.core(0).view


def test_4_5_2_f_plus_1_join_the_smallest_view_that_they_support() -> None:
    """P11, P12: one complaint moves nobody, not even to view 2**62."""
    assert views_after(PbftCore, [1]) == 0
    assert views_after(PbftCore, [2**62]) == 0
    assert views_after(PbftCore, [2**62, 3]) == 3
    assert views_after(PbftCore, [5, 3]) == 3
    assert views_after(PbftCore, [2, 2]) == 2
    assert views_after(PbftCore, [4, 9], n=7) == 0
    assert views_after(PbftCore, [4, 9, 6], n=7) == 4
    assert views_after(JoinsAtOne, [2**62]) == 2**62, "the broken core is told apart"


def test_4_5_2_a_view_beyond_all_bounds_is_no_message() -> None:
    cluster = Cluster()
    message = forge.view_change(cluster, 1, 2**62)
    raw = m.MESSAGES.encode(message).replace((2**62).to_bytes(8, "big"), (2**63 - 1).to_bytes(8, "big"))
    with pytest.raises(ValueError, match="<= 4611686018427387904"):
        m.MESSAGES.decode(raw)


# ---------------------------------------------------------------------------------------------------------- back-off


def test_4_5_2_the_time_doubles_up_to_its_cap_and_falls_back_on_progress() -> None:
    """P14."""
    cluster = Cluster(options={"view_timeout_cap_us": 5 * SECOND})
    cluster.submit("ann", 1, range(4))
    cluster.settle()
    core = cluster.core(3)
    seen = []
    for view in range(1, 6):
        core._ask_for(view, "test")
        seen.append(core.patience.timeout)
    assert seen == [T, 2 * T, 4 * T, 5 * T, 5 * T]
    hear(cluster, 3, 1, forge.new_view(cluster, 5, [forge.view_change(cluster, node, 5) for node in (0, 1, 2)], []))
    assert core.patience.timeout == 5 * T, "not by a new view alone"
    request = cluster.request("bob", 1)
    message = forge.pre_prepare(cluster, 5, 1, [request])
    hear(cluster, 3, 1, message)
    assert core.executed == 1
    for seq in (2,):
        message = forge.pre_prepare(cluster, 5, seq, [request])
        hear(cluster, 3, 1, message)
        hear(cluster, 3, 0, forge.prepare(cluster, 0, 5, seq, message.digest))
        for voter in (0, 1):
            hear(cluster, 3, voter, forge.commit(cluster, voter, 5, seq, message.digest))
    assert core.executed == 2
    assert core.patience.timeout == T


def test_4_5_2_without_new_view_the_next_one_is_asked_for() -> None:
    cluster = Cluster()
    for node in (0, 1):
        hear(cluster, 3, node, forge.view_change(cluster, node, 1))
    assert cluster.servers[3].timers.get("new-view") == T
    cluster.fire(3, "new-view")
    assert cluster.core(3).view == 2
    assert "node 1 sent no NEW-VIEW for view 1" in cluster.replicas[3].status().reason
    assert "new-view" not in cluster.servers[3].timers, "until a quorum asks for view 2"


@pytest.mark.parametrize(
    ("robust", "throttled", "silent_us", "wait"),
    [
        (True, 1, 0, T // 8),
        (True, 2, 0, T),
        (True, 2, T // 2, T // 8),
        (True, 2, T // 2 - 1, T),
        (False, 1, T // 2, T),
    ],
)
def test_p38_of_who_is_throttled_or_silent_no_new_view_is_awaited_for_long(
    robust: bool, throttled: int, silent_us: int, wait: int
) -> None:
    cluster = Cluster(options={"robust": ["heartbeat"] if robust else False})
    cluster.now = silent_us
    cluster.step(3, Throttled(throttled, SECOND))
    for node in (0, 2):
        hear(cluster, 3, node, forge.view_change(cluster, node, 1))
    assert cluster.servers[3].timers["new-view"] == cluster.now + wait


def test_p14_where_nobody_is_expected_to_say_anything_the_time_doubles_too() -> None:
    cluster = Cluster(options={"robust": ["heartbeat"]})
    waits = []
    for view in range(1, 9):
        cluster.now += SECOND
        cluster.step(3, Throttled(cluster.core(3).notary.primary(view), SECOND))
        for node in {0, 1, 2} - {view % 4}:
            hear(cluster, 3, node, forge.view_change(cluster, node, view))
        if view % 4 != 3:
            waits.append(cluster.servers[3].timers["new-view"] - cluster.now)
    assert waits == [T // 8 << place for place in (0, 1, 3, 4, 5, 7)]


def test_4_4_view_change_is_repeated_until_its_view_begins() -> None:
    """P10: a transient cut strands nobody."""
    cluster = Cluster()
    cluster.crash(0)
    cluster.submit("ann", 1, (1, 2, 3))
    cluster.blocked = lambda packet: type(packet.message) is m.ViewChange
    cluster.run(3 * SECOND)
    assert not any(cluster.core(node).ordering.active for node in (1, 2, 3))
    assert set(cluster.views()) == {1}
    cluster.heal()
    cluster.run(SECOND)
    assert cluster.done("ann", 1)
    assert set(cluster.views()) == {1}


# ----------------------------------------------------------------------------------- not by one replica or client alone


def test_4_5_2_one_replica_alone_forces_no_view_change() -> None:
    cluster = Cluster()
    for view in range(1, 20):
        cluster.inject(3, (0, 1, 2), forge.view_change(cluster, 3, view))
        cluster.submit("ann", view, low=view - 1)
        cluster.run(SECOND)
    assert cluster.views()[:3] == [0, 0, 0]
    assert cluster.done("ann", 19)


def test_a_replica_that_hears_nobody_keeps_its_view() -> None:
    """[deviates] Cut off with work under way, it does not lock itself out; back again it votes and is in sync."""
    cluster = Cluster()
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.isolate(3)
    cluster.submit("bob", 1, (3,))
    cluster.run(10 * SECOND)
    status = cluster.replicas[3].status()
    assert (status.view, status.in_sync) == (0, False)
    for timestamp in range(2, 6):
        cluster.submit("ann", timestamp, low=timestamp - 1)
        cluster.run(SECOND // 10)
    cluster.heal()
    cluster.run(2 * SECOND)
    assert cluster.done("bob", 1), "its own client's request was sent on at last"
    assert cluster.views() == [0, 0, 0, 0]
    assert all(replica.status().in_sync for replica in cluster.replicas.values())
    assert len(set(cluster.executed())) == 1


def test_two_halves_keep_their_view_and_go_on_when_they_meet() -> None:
    cluster = Cluster()
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.isolate(0, 1)
    cluster.submit("ann", 2, range(4), low=1)
    cluster.run(8 * SECOND)
    assert cluster.views() == [0, 0, 0, 0]
    assert not cluster.done("ann", 2)
    cluster.heal()
    cluster.run(SECOND)
    assert cluster.done("ann", 2)
    assert cluster.views() == [0, 0, 0, 0]


def test_what_was_proposed_before_a_long_cut_is_too_old_and_gets_a_new_view() -> None:
    """Beyond clock_bound_us its time is not acceptable any more, and the primary cannot propose another."""
    cluster = Cluster()
    cluster.isolate(0, 1)
    cluster.submit("ann", 1, range(4))
    cluster.run(30 * SECOND)
    cluster.heal()
    cluster.run(4 * SECOND)
    assert cluster.done("ann", 1)
    assert cluster.views() == [1, 1, 1, 1]


def test_a_replica_that_was_asleep_blames_nobody() -> None:
    """X7: its timers run out before it reads what came meanwhile."""
    cluster = Cluster()
    hear(cluster, 3, 0, forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)]))
    cluster.now += 60 * SECOND
    cluster.step(3, Timeout("request"))
    assert cluster.core(3).ordering.active


def test_p35_a_request_to_backups_only_is_verified_sent_on_and_executed() -> None:
    cluster = Cluster()
    cluster.submit("ann", 1, (1, 2, 3))
    cluster.settle()
    assert cluster.done("ann", 1)
    assert "request" not in cluster.servers[1].timers


def test_p35_a_request_that_is_not_signed_starts_no_timer_and_is_not_sent_on() -> None:
    cluster = Cluster()
    request = cluster.request("ann", 1)
    forged = Request.make(cluster.signers["bob"].sign, cluster.domain, "ann", 1, 0, [b"x"])
    hear(cluster, 1, "ann", Submit(forged.raw))
    hear(cluster, 1, 2, Submit(request.raw))
    hear(cluster, 1, "bob", Submit(request.raw))
    assert "request" not in cluster.servers[1].timers
    assert not any(isinstance(message, Submit) for _, _, message in cluster.sent)


def test_p35_the_first_forward_may_be_lost() -> None:
    cluster = Cluster()
    lost = 2

    def block(packet: Packet) -> bool:
        nonlocal lost
        lost -= type(packet.message) is Submit
        return type(packet.message) is Submit and lost >= 0

    cluster.blocked = block
    cluster.submit("ann", 1, (2,))
    cluster.run(SECOND)
    assert cluster.done("ann", 1)
    assert set(cluster.views()) == {0}


def test_4_4_a_new_primary_is_told_what_waits() -> None:
    """The client reached two backups only, and neither of them leads the next view: no tick has to remind them."""
    cluster = Cluster()
    cluster.crash(0)
    cluster.submit("ann", 1, (2, 3))
    cluster.run(2 * SECOND, until=lambda: cluster.views() == [1, 1, 1] and cluster.core(3).ordering.active)
    cluster.settle()
    assert cluster.done("ann", 1)


def test_p37_a_primary_that_ignores_one_client_is_replaced() -> None:
    """Whatever else it gets executed meanwhile: each request that waits has its own time."""
    cluster = Cluster()
    bob = cluster.request("bob", 1)
    cluster.blocked = lambda packet: (
        packet.to == 0 and type(packet.message) is Submit and packet.message.request == bob.raw
    )
    cluster.inject("bob", range(1, 4), Submit(bob.raw))
    for timestamp in range(1, 12):
        cluster.submit("ann", timestamp, range(4), low=timestamp - 1)
        cluster.run(T // 4)
    assert cluster.done("ann", 3), "others are served"
    assert cluster.done("bob", 1)
    assert set(cluster.views()) == {1}


def test_p32_two_requests_under_one_timestamp_leave_nobody_waiting() -> None:
    """The client lies: one to the primary, another to the backups. One executes, all timers end."""
    cluster = Cluster()
    one, two = cluster.request("eve", 1, 10), cluster.request("eve", 1, 20)
    cluster.holds = lambda packet: type(packet.message) is m.PrePrepare
    cluster.inject("eve", 0, Submit(one.raw))
    cluster.inject("eve", (1, 2, 3), Submit(two.raw))
    cluster.settle()
    assert "request" in cluster.servers[1].timers
    cluster.release()
    cluster.settle()
    assert cluster.applied[1][1][0] == (one.raw,)
    assert all("request" not in cluster.servers[node].timers for node in range(4))
    assert all(not cluster.core(node).requests.pending for node in range(4))
    cluster.run(10 * SECOND)
    assert set(cluster.views()) == {0}


def test_p32_a_request_that_its_client_gave_up_leaves_nobody_waiting() -> None:
    """It reached one backup only and was never proposed; a later request says that its answer is not wanted."""
    cluster = Cluster()
    cluster.blocked = lambda packet: type(packet.message) is Submit
    hear(cluster, 2, "eve", Submit(cluster.request("eve", 1).raw))
    assert "request" in cluster.servers[2].timers
    cluster.submit("eve", 2, low=1)
    cluster.settle()
    assert "request" not in cluster.servers[2].timers
    assert not cluster.core(2).requests.pending


@pytest.mark.parametrize("skipped", [1, 2])
def test_a_primary_that_skips_a_number_is_replaced(skipped: int) -> None:
    cluster = Cluster(options=SMALL)
    cluster.core(0).ordering.next_seq += skipped
    cluster.submit("ann", 1, range(4))
    cluster.run(3 * SECOND)
    assert cluster.done("ann", 1)
    assert set(cluster.views()) == {1}


# ------------------------------------------------------------------------- what one client or peer may not bring about


def test_p35_a_client_cannot_set_backups_that_are_ahead_against_the_primary() -> None:
    """(timestamp 2, low 1), then (timestamp 1, low 0) while the first is in flight: a backup that has executed the
    first must not refuse the batch of the second, or its client deposes an honest primary whenever it likes."""
    cluster = Cluster()
    most = cluster.options.batch_operations_max
    second = cluster.request("eve", 12, low=11, count=most)
    first = cluster.request("eve", 11, low=10, count=most)
    cluster.holds = lambda packet: (
        (packet.to == 0 and type(packet.message) is m.Commit)
        or (type(packet.message) is m.PrePrepare and packet.message.requests == [first.raw])
    )
    cluster.inject("eve", 0, Submit(second.raw))
    cluster.inject("eve", 0, Submit(first.raw))
    cluster.settle()
    assert cluster.executed() == [0, 1, 1, 1]
    cluster.release()
    cluster.settle()
    cluster.submit("ann", 1, range(4))
    cluster.run(3 * T)
    assert cluster.done("ann", 1)
    assert cluster.views() == [0, 0, 0, 0]


def test_p32_a_request_whose_session_is_closed_holds_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client's session was given up for others': it can never execute, which is no fault of the primary."""
    monkeypatch.setattr(plug, "Executor", functools.partial(plug.Executor, sessions_max=2))
    cluster = Cluster(options={"batch_delay_us": 0})
    cluster.submit("eve", 5, low=0)
    cluster.settle()
    cluster.holds = lambda packet: type(packet.message) is Submit and isinstance(packet.sender, int)
    cluster.inject("eve", (1, 2, 3), Submit(cluster.request("eve", 3, low=0).raw))
    for timestamp in (1, 2, 3):
        for client in ("ann", "bob"):
            cluster.submit(client, timestamp, low=timestamp - 1)
            cluster.settle()
    assert ("eve", 3) in cluster.core(1).requests.pending
    cluster.release()
    cluster.run(20 * T)
    assert cluster.views() == [0, 0, 0, 0]
    assert [len(cluster.core(node).requests.pending) for node in range(4)] == [0] * 4


def test_4_3_a_laggard_is_bounded_whatever_a_peer_tells_of_a_proved_distance() -> None:
    """P20: slots lie within two windows, and the laggard's own Status is one that its peers can read."""
    cluster = Cluster(options=SMALL)
    core, far = cluster.core(3), 8_400
    hear(cluster, 3, 1, forge.checkpoint_proof(cluster, far, b"d" * 32, [0, 1, 2]))
    for seq in range(1, far + 8):
        hear(cluster, 3, 1, m.Prepare(0, seq, b"e" * 32, 1, b"x" * 64))
    assert 0 < len(core.ordering.slots) <= 2 * cluster.options.log_window
    cluster.network.clear()
    effects = cluster.step(3, Timeout("status"))
    (status,) = [one.message for one in effects if isinstance(one, Send) and type(one.message) is m.Status]
    assert m.MESSAGES.decode(m.MESSAGES.encode(status)) == status


def test_p45_a_state_that_nobody_holds_any_more_is_given_up_for_a_later_one() -> None:
    """One silent peer, here a crashed one, must not keep the transfer waiting for the old one."""
    cluster = Cluster(7, options=SMALL)

    def load(first: int, end: int) -> None:
        for timestamp in range(first, end):
            cluster.submit("ann", timestamp, low=timestamp - 1)
            cluster.settle()

    load(1, 3)
    cluster.crash(5)
    cluster.isolate(6)
    load(3, 13)
    cluster.heal()
    cluster.blocked = lambda packet: packet.to == 6 and type(packet.message) is m.PartData
    cluster.run(SECOND)
    assert cluster.core(6).transfer.running
    cluster.isolate(6)
    load(13, 25)
    cluster.heal()
    for timestamp in range(25, 60):
        cluster.submit("ann", timestamp, low=timestamp - 1)
        cluster.run(SECOND // 4)
    assert cluster.core(6).executed >= 50


def test_p21_early_messages_are_counted_at_what_they_take() -> None:
    tiny = m.PrePrepare(1, 1, bytes(32), b"", 0, [b"x"] * 1_000)
    assert catch_up._size(tiny) >= 64 * 1_000
