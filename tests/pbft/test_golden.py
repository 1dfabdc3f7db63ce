"""Transcripts of short scripts: what each replica says, writes and does, line by line.

`pytest --rewrite` writes them anew; they are read as a diff before they are committed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pbft
from pbft import messages as m
from replog.core import Command, Effect
from replog.types import Submit
from tests import plug
from tests.conftest import GOLDEN
from tests.pbft import forge
from tests.pbft.harness import MS, SECOND, SMALL, Cluster, Packet
from tests.pbft.test_checkpoint import left_behind, load, restart
from tests.pbft.test_macs import spoiled
from tests.pbft.test_reads import ask, read_of
from tests.pbft.test_state_transfer import behind, lying
from tests.pbft.test_tentative import OPTIONS as TENTATIVE

Golden = Callable[[str, str], None]


BOTH = pytest.mark.parametrize(("auth", "suffix"), [("signatures", ""), ("macs", "-macs")])
"""The same story with signatures and with MACs."""


class Chatty(Cluster):
    """Shows Status and its timer, too."""

    def say(self, node: int, effect: Effect) -> None:
        plug.Cluster.say(self, node, effect)


def quiet(cluster: Cluster, us: int) -> None:
    """Let time pass, then no more than what is under way."""
    cluster.run(us)


def votes(packet: Packet, view: int = 0) -> bool:
    return type(packet.message) in (m.PrePrepare, m.Prepare, m.Commit) and packet.message.view == view


# ---------------------------------------------------------------------------------------------------------- normal case


@BOTH
def test_normal_case(golden: Golden, auth: str, suffix: str) -> None:
    cluster = Cluster(options={"auth": auth})
    cluster.title("ann sends one request to the primary")
    cluster.submit("ann", 1)
    cluster.settle()
    golden(f"pbft/normal-case{suffix}", cluster.text())


def test_batch(golden: Golden) -> None:
    cluster = Cluster(options={"in_flight_max": 1, "batch_delay_us": 0})
    cluster.title("four requests, one sequence number at a time: the last three share one")
    for timestamp in range(1, 5):
        cluster.submit("ann", timestamp)
    cluster.settle()
    golden("pbft/batch", cluster.text())


def test_several_in_flight(golden: Golden) -> None:
    cluster = Cluster(options=SMALL)
    cluster.title("three requests, the commits of the first are slow: execution waits for it")
    cluster.holds = lambda packet: type(packet.message) is m.Commit and packet.message.seq == 1
    for timestamp in range(1, 4):
        cluster.submit("ann", timestamp)
    cluster.settle()
    cluster.title("they arrive")
    cluster.release()
    cluster.settle()
    golden("pbft/several-in-flight", cluster.text())


def test_request_to_one_backup(golden: Golden) -> None:
    cluster = Cluster()
    cluster.title("ann sends to node 2 only, and again after it was executed")
    request = cluster.submit("ann", 1, 2)
    cluster.settle()
    cluster.inject("ann", 2, Submit(request.raw))
    cluster.settle()
    golden("pbft/request-to-a-backup", cluster.text())


def test_a_read_by_the_stricter_rule(golden: Golden) -> None:
    cluster = Cluster()
    cluster.title("ann's write is executed by nodes 0 and 3; nodes 1 and 2 have sent COMMIT and hear none yet")
    cluster.holds = lambda packet: packet.to in (1, 2) and type(packet.message) is m.Commit
    cluster.submit("ann", 1, amount=7)
    cluster.settle()
    cluster.title("bob reads: nodes 0 and 3 answer at once, the others wait for what they sent COMMIT for")
    ask(cluster, read_of(cluster, "bob", 1))
    cluster.settle()
    cluster.title("the commits arrive")
    cluster.release()
    cluster.settle()
    golden("pbft/read", cluster.text())


def test_tentative_execution(golden: Golden) -> None:
    cluster = Cluster(options=TENTATIVE)
    cluster.title("seq 1 is executed once it has prepared; its commits are slow, seq 2 is not executed ahead of them")
    cluster.holds = lambda packet: type(packet.message) is m.Commit
    cluster.submit("ann", 1)
    cluster.submit("ann", 2)
    cluster.settle()
    cluster.title("they arrive: confirmed, without a second answer")
    cluster.release()
    cluster.settle()
    golden("pbft/tentative", cluster.text())


def test_tentative_execution_is_taken_back(golden: Golden) -> None:
    cluster = Cluster(options=TENTATIVE)
    load(cluster, 5)
    cluster.transcript.clear()
    cluster.title("seqs 1 to 5 are decided, 4 is a checkpoint; node 1 alone prepares ann#6 and executes it tentatively")
    cluster.blocked = lambda packet: packet.to != 1 and type(packet.message) in (m.Prepare, m.Commit)
    cluster.submit("ann", 6)
    cluster.settle()
    cluster.title("node 1 is cut off, and nodes 0, 2 and 3, which have prepared nothing, change to view 2")
    cluster.blocked = lambda packet: 1 in (packet.sender, packet.to) or votes(packet)
    cluster.submit("bob", 1, to=(0, 2, 3))
    cluster.run(30 * SECOND, until=lambda: cluster.done_by("bob", 1, (0, 2, 3)))
    cluster.title("node 1 is back: back to its checkpoint, seq 5 again, then what view 2 has at 6")
    cluster.heal()
    cluster.run(30 * SECOND, until=lambda: len(set(cluster.executed())) == 1)
    golden("pbft/tentative-rollback", cluster.text())


# --------------------------------------------------------------------------------------------------------------- timers


def test_batch_timer(golden: Golden) -> None:
    cluster = Cluster(options={"batch_delay_us": 2 * MS})
    cluster.title("seq 1 is under way, its commits are slow: what comes meanwhile waits 2 ms for company")
    cluster.holds = lambda packet: type(packet.message) is m.Commit and packet.message.seq == 1
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.submit("ann", 2)
    cluster.submit("bob", 1)
    cluster.settle()
    cluster.title("2 ms are over")
    quiet(cluster, 2 * MS)
    golden("pbft/timer-batch", cluster.text())


def test_request_timer(golden: Golden) -> None:
    cluster = Cluster(options=SMALL)
    cluster.title("ann and bob send to all, one timer runs: for ann's request. The commits of bob's are slow")
    cluster.holds = lambda packet: type(packet.message) is m.Commit and packet.message.seq == 2
    cluster.submit("ann", 1, range(4))
    cluster.submit("bob", 1, range(4))
    cluster.settle()
    cluster.title("ann's was executed: the timer has begun anew, for bob's. His commits arrive: it stops")
    cluster.release()
    cluster.settle()
    assert not any(name == "request" for _, _, name in cluster.due())
    golden("pbft/timer-request", cluster.text())


def test_request_timer_of_a_replica_that_hears_nobody(golden: Golden) -> None:
    cluster = Cluster()
    cluster.title("node 3 is cut off with a request of ann's: its time is over, and it stays in its view")
    cluster.isolate(3)
    cluster.submit("ann", 1, 3)
    quiet(cluster, 3 * SECOND // 2)
    cluster.title("it hears the others again: the request goes to the primary")
    cluster.heal()
    cluster.run(SECOND, until=lambda: cluster.done_by("ann", 1, range(4)))
    golden("pbft/timer-request-cut-off", cluster.text())


def test_new_view_timer(golden: Golden) -> None:
    cluster = Cluster()
    cluster.title("node 0 is gone; node 1 begins view 1, and its NEW-VIEW reaches nobody")
    cluster.blocked = lambda packet: type(packet.message) is m.NewView and packet.message.view == 1
    cluster.crash(0)
    cluster.submit("ann", 1, range(4))
    quiet(cluster, 3 * SECOND // 2)
    cluster.title("nodes 2 and 3 wait no longer: view 2, with twice the time; node 1 joins them, being two")
    cluster.run(SECOND, until=lambda: cluster.done_by("ann", 1, (1, 2, 3)))
    golden("pbft/timer-new-view", cluster.text())


def test_status_timer(golden: Golden) -> None:
    cluster = Chatty()
    cluster.title("nothing to do: after the first tick the long interval")
    quiet(cluster, 500 * MS)
    cluster.title("seq 1 is decided, node 3 heard no COMMIT: its next tick says that it is stalled, and what it has")
    cluster.blocked = lambda packet: packet.to == 3 and type(packet.message) is m.Commit
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.heal()
    quiet(cluster, 500 * MS)
    golden("pbft/timer-status", cluster.text())


def test_key_renewal_timer(golden: Golden) -> None:
    cluster = Cluster(options={"auth": "macs", "key_lifetime_us": 2 * SECOND})
    first = cluster.request("ann", 1)
    second = cluster.request("ann", 2)
    cluster.transcript.clear()
    cluster.title("every replica renews its keys, and sets the timer anew")
    quiet(cluster, 2 * SECOND)
    cluster.title("ann's MACs are of the last keys: they count, and she is told the new ones, once")
    cluster.inject("ann", 0, Submit(first.raw))
    cluster.settle()
    cluster.title("a lifetime later they count no more: refused with the key")
    quiet(cluster, 2 * SECOND)
    cluster.inject("ann", 0, Submit(second.raw))
    cluster.settle()
    cluster.title("with that key node 0 proposes it; the backups, whose entries are of her older keys, tell her theirs")
    cluster.submit("ann", 3)
    cluster.settle()
    golden("pbft/timer-renew-keys", cluster.text())


TIMERS = {
    '"status"': "timer-status",
    "self.REQUEST": "timer-request",
    "self.NEW_VIEW": "timer-new-view",
    "self.TIMER": "timer-batch",
    "self.RENEW": "timer-renew-keys",
}
"""What a timer is called where it is armed -> its transcript."""


def test_every_timer_has_its_transcript() -> None:
    source = "".join(path.read_text() for path in sorted(Path(pbft.__file__).parent.glob("*.py")))
    assert set(re.findall(r"\bSetTimer\(([^,)]+),", source)) == set(TIMERS)
    for name in TIMERS.values():
        assert (GOLDEN / "pbft" / f"{name}.txt").is_file()


# --------------------------------------------------------------------------------------------------------- view changes


def test_view_change_without_prepared_requests(golden: Golden) -> None:
    cluster = Cluster()
    cluster.title("the primary is gone, ann sends to all")
    cluster.crash(0)
    cluster.submit("ann", 1, range(4))
    quiet(cluster, 3 * SECOND // 2)
    golden("pbft/view-change", cluster.text())


@BOTH
def test_view_change_with_prepared_requests(golden: Golden, auth: str, suffix: str) -> None:
    cluster = Cluster(options={"auth": auth})
    cluster.title("seq 1 prepares, no COMMIT arrives, the primary dies")
    cluster.blocked = lambda packet: type(packet.message) is m.Commit
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.crash(0)
    cluster.blocked = lambda packet: type(packet.message) is m.Commit and packet.message.view == 0
    quiet(cluster, 3 * SECOND // 2)
    golden(f"pbft/view-change-prepared{suffix}", cluster.text())


def test_null_requests(golden: Golden) -> None:
    cluster = Cluster(options=SMALL)
    cluster.title("seq 1 reaches nobody, seq 2 prepares, the primary dies: a null request fills the gap")
    cluster.blocked = lambda packet: (
        type(packet.message) is m.Commit or (type(packet.message) is m.PrePrepare and packet.message.seq == 1)
    )
    cluster.submit("ann", 1)
    cluster.submit("bob", 1)
    cluster.settle()
    cluster.crash(0)
    cluster.blocked = lambda packet: type(packet.message) is m.Commit and packet.message.view == 0
    quiet(cluster, 3 * SECOND // 2)
    golden("pbft/null-request", cluster.text())


def test_two_view_changes_in_a_row(golden: Golden) -> None:
    cluster = Cluster(7)
    cluster.title("the primaries of views 0 and 1 are gone")
    cluster.crash(0)
    cluster.crash(1)
    cluster.submit("ann", 1, range(7))
    quiet(cluster, 7 * SECOND // 2)
    golden("pbft/two-view-changes", cluster.text())


def test_equivocation_resolved_by_a_commit_certificate(golden: Golden) -> None:
    cluster = Cluster()
    one, two = (forge.pre_prepare(cluster, 0, 1, [cluster.request(client, 1)]) for client in ("ann", "bob"))
    cluster.title("node 0 gives node 1 one batch and nodes 2 and 3 another, and votes with the latter")
    cluster.crash(0)
    cluster.inject(0, 1, one)
    cluster.inject(0, (2, 3), two)
    cluster.inject(0, (2, 3), forge.commit(cluster, 0, 0, 1, two.digest))
    cluster.settle()
    cluster.title("node 1 tells what it has, the others give it the certificate")
    quiet(cluster, SECOND // 2)
    golden("pbft/equivocation", cluster.text())


# ----------------------------------------------------------------------------------------------------------------- MACs


def test_a_request_that_a_weak_quorum_vouches_for(golden: Golden) -> None:
    cluster = Cluster(options={"auth": "macs"})
    cluster.transcript.clear()
    cluster.title("ann's MAC for node 3 is wrong: it votes once the primary and one backup have vouched for the digest")
    cluster.inject("ann", 0, Submit(spoiled(cluster.request("ann", 1), 3).raw))
    cluster.settle()
    golden("pbft/weak-quorum-macs", cluster.text())


def test_a_request_that_no_weak_quorum_vouches_for(golden: Golden) -> None:
    cluster = Cluster(options={"auth": "macs"})
    cluster.transcript.clear()
    cluster.title("ann's MAC is right for the primary alone: no backup votes, each tells her its key")
    cluster.inject("ann", 0, Submit(spoiled(cluster.request("ann", 1), 1, 2, 3).raw))
    cluster.settle()
    cluster.title("she sends it anew, with right MACs, to all: her word is enough")
    cluster.submit("ann", 1, range(4))
    cluster.run(SECOND, until=lambda: cluster.done_by("ann", 1, range(4)))
    golden("pbft/no-weak-quorum-macs", cluster.text())


def test_a_view_change_that_is_fetched(golden: Golden) -> None:
    cluster = Cluster(options={"auth": "macs"})
    cluster.transcript.clear()
    cluster.title("node 0 proposes nothing, and node 3 does not hear node 2's VIEW-CHANGE, which the NEW-VIEW rests on")
    cluster.blocked = lambda packet: (
        (packet.sender == 0 and type(packet.message) is m.PrePrepare)
        or (type(packet.message) is m.MacViewChange and (packet.sender, packet.to) == (2, 3))
    )
    cluster.submit("ann", 1, range(4))
    cluster.run(2 * SECOND, until=lambda: cluster.done_by("ann", 1, range(4)))
    golden("pbft/view-change-fetched-macs", cluster.text())


# ------------------------------------------------------------------------------------------- checkpoints, catching up


def test_checkpoint(golden: Golden) -> None:
    cluster = Cluster(options=SMALL)
    load(cluster, 3)
    cluster.title("seq 4 is a multiple of checkpoint_interval")
    del cluster.transcript[:-1]
    load(cluster, 1, first=4)
    golden("pbft/checkpoint", cluster.text())


def test_state_transfer(golden: Golden) -> None:
    cluster = Cluster(options=SMALL)
    left_behind(cluster)
    cluster.transcript.clear()
    cluster.title("node 3 has executed 2, the others have discarded everything up to 12")
    cluster.heal()
    quiet(cluster, SECOND)
    golden("pbft/state-transfer", cluster.text())


def test_state_transfer_of_what_differs(golden: Golden) -> None:
    cluster = behind()
    cluster.transcript.clear()
    cluster.title("node 3 lacks 10 of 3,000 keys in a state of 17 parts; node 1 gives wrong parts")
    lying(cluster, 1, lambda data: True)
    cluster.run(2 * SECOND, until=lambda: cluster.agrees())
    golden("pbft/state-transfer-of-what-differs", cluster.text())


def test_refresh(golden: Golden) -> None:
    cluster = Cluster(options=SMALL)
    load(cluster, 3)
    cluster.transcript.clear()
    cluster.title("nobody asks for anything; node 2's state was changed behind its back; then the primary is refreshed")
    machine: Any = cluster.servers[2].replica.executor._runtime.machine
    vars(machine)["total"] = 1000
    for node in (2, 0):
        cluster.title(f"refresh of node {node}")
        cluster.step(node, Command("refresh", {}))
        cluster.settle()
    golden("pbft/refresh", cluster.text())


def test_rejoin(golden: Golden) -> None:
    cluster = Cluster()
    load(cluster, 1)
    cluster.isolate(3)
    load(cluster, 2, first=2)
    cluster.transcript.clear()
    cluster.title("node 3 was cut off and missed seqs 2 and 3")
    cluster.heal()
    quiet(cluster, SECOND)
    golden("pbft/rejoin", cluster.text())


def test_restart_of_all(golden: Golden) -> None:
    cluster = Cluster()
    cluster.title("seq 1 prepares, no COMMIT arrives, then all are killed and started again")
    cluster.blocked = lambda packet: type(packet.message) is m.Commit
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.heal()
    cluster.title("restart")
    restart(cluster, 0, 1, 2, 3)
    cluster.settle()
    golden("pbft/restart-of-all", cluster.text())
