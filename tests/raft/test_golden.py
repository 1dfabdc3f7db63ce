"""Short scripts and their full transcripts: every effect of every server, in order, to be read as a diff.

The transcripts are in tests/golden/raft; `pytest --rewrite` writes them anew.
"""

from __future__ import annotations

from collections.abc import Callable

from replog.apps.kv import KeyValue
from tests.raft.changing import begun
from tests.raft.harness import MS, Cluster
from tests.raft.test_figure2 import PLAIN
from tests.raft.test_reads import ask
from tests.raft.test_replication import figure_7, figure_8, stand

Golden = Callable[[str, str], None]


def test_election(golden: Golden) -> None:
    """Three servers; 0 times out first, asks, asks for votes, leads, and is heard."""
    cluster = Cluster(3, draws={0: [310]})
    cluster.title("0 times out, with PreVote")
    cluster.run(400 * MS)
    cluster.title("0 crashes; 2 times out first")
    cluster.crash(0)
    cluster.servers[1].timers["election"] += 200 * MS
    cluster.run(600 * MS)
    golden("raft/election", cluster.text())


def test_election_as_in_the_paper(golden: Golden) -> None:
    """Without PreVote, CheckQuorum and stickiness. [Raft 5.2]"""
    cluster = Cluster(3, PLAIN, draws={0: [310]})
    cluster.run(320 * MS)
    golden("raft/election-as-in-the-paper", cluster.text())


def test_split_vote(golden: Golden) -> None:
    """Four servers, two candidates at once, two votes each; the next draw decides. (seed 002, figure 0.4)"""
    cluster = Cluster(4, PLAIN, draws={0: [300, 500], 1: [600], 2: [300, 400], 3: [600]})
    cluster.title("0 and 2 stand at the same time")
    cluster.now = 300 * MS
    cluster.fire(0)
    cluster.fire(2)
    order = [(0, 1), (2, 3), (0, 2), (2, 0), (0, 3), (2, 1)]
    cluster.network.sort(key=lambda packet: order.index(packet[:2]))
    cluster.settle()
    cluster.title("nobody has three votes; 2 draws the shorter time")
    cluster.servers[0].timers.pop("vote-retry", None)
    cluster.servers[2].timers.pop("vote-retry", None)
    cluster.run(420 * MS)
    golden("raft/split-vote", cluster.text())


def test_pre_vote(golden: Golden) -> None:
    """A server that was cut off comes back and disturbs nobody. [Ongaro14 9.6]"""
    cluster = Cluster(3, {"heartbeat_us": 150_000}, draws={0: [310]})
    cluster.elect(0)
    cluster.run(200 * MS)
    cluster.transcript.clear()
    cluster.title("2 is cut off")
    cluster.isolate(2)
    cluster.run(700 * MS)
    cluster.title("2 is back")
    cluster.heal()
    cluster.run(500 * MS)
    golden("raft/pre-vote", cluster.text())


def test_partial_partition(golden: Golden) -> None:
    """0 leads and reaches 1, 1 reaches 2, 0 and 2 do not reach each other: 2 asks, and 1, who hears a leader, says no;
    nobody's term grows. [Ongaro14 6.2] (HAZARDS R5)"""
    cluster = Cluster(3, {"heartbeat_us": 150_000}, draws={0: [310]})
    cluster.elect(0)
    cluster.run(200 * MS)
    cluster.transcript.clear()
    cluster.title("0 and 2 lose each other")
    cluster.blocked = lambda packet: {packet.sender, packet.to} == {0, 2}
    cluster.run(700 * MS)
    cluster.title("ann is served meanwhile")
    cluster.submit(0, "ann", 1)
    cluster.settle()
    golden("raft/partial-partition", cluster.text())


def test_check_quorum(golden: Golden) -> None:
    """A leader that hears nobody steps down. [Ongaro14 6.2]"""
    cluster = Cluster(3, {"heartbeat_us": 150_000})
    cluster.elect(0)
    cluster.transcript.clear()
    cluster.isolate(0)
    cluster.run(900 * MS)
    golden("raft/check-quorum", "\n".join(line for line in cluster.transcript if "  node 0  " in line))


def test_log_replication(golden: Golden) -> None:
    """Two requests at once, a batch behind them, the commit by the next heartbeat, a retransmission, a redirection."""
    cluster = Cluster(3, {"uncommitted_max": 2}, draws={0: [310]})
    cluster.elect(0)
    cluster.run(50 * MS)
    cluster.transcript.clear()
    cluster.title("ann asks four times at once: two entries go, the others wait and share one")
    for timestamp in range(1, 5):
        cluster.submit(0, "ann", timestamp)
    cluster.settle()
    cluster.title("the heartbeat tells the followers what is committed")
    cluster.fire(0, "heartbeat")
    cluster.settle()
    cluster.title("ann asks again for the second, and asks a follower for a fifth")
    cluster.submit(0, "ann", 2)
    cluster.submit(1, "ann", 5)
    golden("raft/log-replication", cluster.text())


def test_log_repair(golden: Golden) -> None:
    """The six followers of figure 7, each by itself. [Raft 5.3]"""
    cluster = figure_7()
    cluster.transcript.clear()
    cluster.elect(0)
    cluster.run(60 * MS)
    lines = [line for line in cluster.transcript if "vote" not in line.lower()]
    golden("raft/log-repair", "\n".join(lines))


def test_figure_8(golden: Golden) -> None:
    """(a) to (d): an entry on a majority is overwritten, since its term was over when it got there. [Raft 5.4.2]"""
    cluster = figure_8()
    cluster.title("(d) 0 crashes; 4 leads by 2 and 3; its entry 2 replaces the one of term 2")
    cluster.crash(0)
    cluster.start(4)
    cluster.only(2, 3, 4)
    stand(cluster, 4)
    cluster.run(60 * MS)
    golden("raft/figure-8", cluster.text())


def test_read_index(golden: Golden) -> None:
    """A leader reads after a round of heartbeats, a follower asks it for an index. [Ongaro14 6.4]"""
    cluster = Cluster(3, draws={0: [310]})
    cluster.elect(0)
    cluster.submit(0, "ann", 1, amount=5)
    cluster.run(60 * MS)
    cluster.transcript.clear()
    cluster.title("bob reads at the leader; a second read comes while the round is under way, and shares the next")
    ask(cluster, 0, 1)
    ask(cluster, 0, 2)
    cluster.settle()
    cluster.title("bob reads at follower 2")
    ask(cluster, 2, 3)
    cluster.settle()
    cluster.title("a leader that is cut off asks in vain, and sends its reader away when it steps down")
    cluster.isolate(0)
    ask(cluster, 0, 4)
    cluster.run(50 * MS)
    cluster.transcript.append("...")
    length = len(cluster.transcript)
    cluster.run(700 * MS)
    cluster.transcript[length:] = [line for line in cluster.transcript[length:] if "node 0" in line][-5:]
    golden("raft/read-index", cluster.text())


def test_leader_move(golden: Golden) -> None:
    """From 0 to 2, which lacks an entry; what comes meanwhile waits, and is sent on. [Ongaro14 3.10]"""
    cluster = Cluster(3, draws={0: [310]})
    cluster.elect(0)
    cluster.run(60 * MS)
    cluster.transcript.clear()
    cluster.title("an entry is under way to 2 when the move begins")
    cluster.submit(0, "ann", 1)
    cluster.command(0, "move-leader", to=2)
    cluster.title("ann asks again meanwhile")
    cluster.submit(0, "ann", 2)
    cluster.settle()
    cluster.title("and asks whom she is told to")
    cluster.submit(2, "ann", 2)
    cluster.settle()
    golden("raft/leader-move", cluster.text())


def test_joint_consensus(golden: Golden) -> None:
    """The leader is removed with one change, and two come: it manages until C_new is committed, does not count itself,
    and says who is to lead. [Raft 6]"""
    cluster = begun()
    cluster.add(3, 4)
    cluster.transcript.clear()
    cluster.title("3 and 4 are to come, 0 is to go")
    cluster.change(0, add=[3, 4], remove=[0])
    cluster.settle()
    cluster.title("a heartbeat of the next leader")
    cluster.fire(cluster.led()[0], "heartbeat")
    cluster.settle()
    golden("raft/joint-consensus", cluster.text())


def test_promotion(golden: Golden) -> None:
    """A newcomer is cut off for longer than a round may take, comes back, and votes after the next. [Ongaro14 4.2.1]"""
    cluster = begun(options={"heartbeat_us": 150_000})
    cluster.add(3)
    cluster.isolate(3)
    cluster.transcript.clear()
    cluster.title("3 is to come, and is not heard of")
    cluster.change(0, add=[3])
    cluster.run(400 * MS)
    cluster.title("3 is there")
    cluster.heal()
    cluster.run(200 * MS)
    golden("raft/promotion", cluster.text())


def test_snapshot_install(golden: Golden) -> None:
    """A follower far behind is given the state, and nothing is counted on before it is on its disk. [Raft 7]"""
    cluster = Cluster(3, {"snapshot_entries": 4, "log_tail": 1, "snapshot_window": 2}, machine=KeyValue)
    cluster.elect(0)
    cluster.run(50 * MS)
    cluster.isolate(2)
    for timestamp in range(1, 6):
        cluster.put(0, timestamp, {f"{timestamp}-{i}": "value" * 20 for i in range(60)})
        cluster.settle()
    cluster.transcript.clear()
    cluster.title("2 is back, and the log begins beyond what it has")
    cluster.heal()
    cluster.fire(0, "heartbeat")
    cluster.settle()
    cluster.fire(0, "heartbeat")
    cluster.settle()
    golden("raft/snapshot-install", cluster.text())


def test_restart(golden: Golden) -> None:
    """A server comes back from its disk: snapshot, log, term and vote; what was not on disk is gone."""
    cluster = Cluster(3, {"snapshot_entries": 3, "log_tail": 1}, draws={0: [310]})
    cluster.elect(0)
    for timestamp in range(1, 5):
        cluster.submit(0, "ann", timestamp)
        cluster.settle()
    cluster.run(50 * MS)
    cluster.transcript.clear()
    cluster.title("an entry that reaches 1 but not its disk")
    cluster.by_hand = True
    cluster.submit(0, "ann", 5)
    cluster.deliver_to(1)
    cluster.title("1 crashes and comes back")
    cluster.crash(1)
    cluster.by_hand = False
    cluster.start(1)
    status = cluster.servers[1].replica.status()
    cluster.title(f"1 has {cluster.terms_of(1)} behind index {cluster.core(1).log.start_index}, applied {status.index}")
    cluster.sync(0)
    cluster.settle()
    cluster.fire(0, "heartbeat")
    cluster.settle()
    golden("raft/restart", cluster.text())
