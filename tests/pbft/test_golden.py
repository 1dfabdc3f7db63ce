"""Transcripts of short scripts: what each replica says, writes and does, line by line.

`pytest --rewrite` writes them anew; they are read as a diff before they are committed.
"""

from __future__ import annotations

from collections.abc import Callable

from pbft import messages as m
from replog.types import Submit
from tests.pbft import forge
from tests.pbft.harness import SECOND, SMALL, Cluster
from tests.pbft.test_checkpoint import left_behind, load, restart

Golden = Callable[[str, str], None]


def quiet(cluster: Cluster, us: int) -> None:
    """Let time pass, then no more than what is under way."""
    cluster.run(us)


def test_normal_case(golden: Golden) -> None:
    cluster = Cluster()
    cluster.title("ann sends one request to the primary")
    cluster.submit("ann", 1)
    cluster.settle()
    golden("pbft/normal-case", cluster.text())


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


def test_view_change_without_prepared_requests(golden: Golden) -> None:
    cluster = Cluster()
    cluster.title("the primary is gone, ann sends to all")
    cluster.crash(0)
    cluster.submit("ann", 1, range(4))
    quiet(cluster, 3 * SECOND // 2)
    golden("pbft/view-change", cluster.text())


def test_view_change_with_prepared_requests(golden: Golden) -> None:
    cluster = Cluster()
    cluster.title("seq 1 prepares, no COMMIT arrives, the primary dies")
    cluster.blocked = lambda packet: type(packet.message) is m.Commit
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.crash(0)
    cluster.heal()
    cluster.blocked = lambda packet: type(packet.message) is m.Commit and packet.message.view == 0
    quiet(cluster, 3 * SECOND // 2)
    golden("pbft/view-change-prepared", cluster.text())


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


def test_request_to_one_backup(golden: Golden) -> None:
    cluster = Cluster()
    cluster.title("ann sends to node 2 only, and again after it was executed")
    request = cluster.submit("ann", 1, 2)
    cluster.settle()
    cluster.inject("ann", 2, Submit(request.raw))
    cluster.settle()
    golden("pbft/request-to-a-backup", cluster.text())
