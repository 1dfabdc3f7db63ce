"""Elections beyond figure 2: split votes, PreVote, CheckQuorum, stickiness, returning servers. [Raft 5.2; Ongaro14]"""

from __future__ import annotations

import pytest

from raft import RaftCore
from raft.election import Role
from raft.messages import AppendEntries, PreVote, PreVoteReply, RequestVote, VoteReply
from replog.core import Persist, Send, Timeout
from replog.types import NOBODY
from tests.raft.harness import MS, SECOND, Cluster
from tests.raft.test_figure2 import PLAIN, append


def leaders(cluster: Cluster) -> list[int]:
    return [node for node, server in sorted(cluster.servers.items()) if server.core.role is Role.LEADER]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7])
def test_any_number_of_servers_elects_one_leader(n: int) -> None:
    cluster = Cluster(n, draws={node: [310 + 10 * node] for node in range(n)})
    cluster.run(SECOND)
    assert leaders(cluster) == [0]
    assert {cluster.core(node).leader for node in range(n)} == {0}


@pytest.mark.parametrize("pre_vote", [True, False])
def test_5_2_a_split_vote_among_four_ends_with_the_next_draw(pre_vote: bool) -> None:
    """Two candidates, two votes each; whoever draws the shorter time next wins. (seed 002, figure 0.4)"""
    options = {} if pre_vote else PLAIN
    cluster = Cluster(4, options, draws={0: [300, 500], 1: [600], 2: [300, 400], 3: [600]})
    cluster.now = 300 * MS
    for candidate in (0, 2):
        cluster.fire(candidate)
    if pre_vote:
        cluster.deliver_to(0, 1, 2, 3)
        cluster.deliver_to(0, 2)
    votes = [packet for packet in cluster.network if packet[1] in (1, 3)]
    cluster.network = [
        packet for packet in cluster.network if (packet[0], packet[1]) in ((0, 1), (2, 3), (0, 2), (2, 0))
    ]
    assert len(votes) == 4
    cluster.settle()
    assert leaders(cluster) == []
    assert [cluster.core(node).voted_for for node in range(4)] == [0, 0, 2, 2]
    cluster.run(SECOND)
    assert leaders(cluster) in ([0], [2])


def test_5_4_1_a_server_that_is_behind_cannot_win(core: type[RaftCore]) -> None:
    cluster = Cluster(3, PLAIN, core=core, logs={0: [1, 1], 1: [1, 1], 2: [1]})
    for _ in range(5):
        cluster.now += 700 * MS
        cluster.servers[2].timers["election"] = cluster.now
        cluster.fire(2)
        cluster.settle()
        assert cluster.core(2).role is not Role.LEADER


def test_a_lost_request_for_a_vote_is_sent_again_to_who_is_silent() -> None:
    """[Raft 5.1]"""
    cluster = Cluster(3, PLAIN)
    cluster.fire(0)
    cluster.drop(1, 2)
    cluster.inject(1, 0, VoteReply(1, False))
    cluster.fire(0, "vote-retry")
    assert cluster.sent[-1] == (0, (2,), RequestVote(1, 0, 0, 0))
    cluster.settle()
    assert cluster.core(0).role is Role.LEADER
    assert cluster.core(0).current_term == 1


# ------------------------------------------------------------------------------------------------------------ PreVote


def test_9_6_a_server_that_was_cut_off_comes_back_without_a_new_term() -> None:
    """(HAZARDS R3) Without PreVote the same story ends the leader's term."""
    for options, same in (({}, True), (PLAIN, False)):
        cluster = Cluster(3, options)
        cluster.elect(0)
        cluster.isolate(2)
        cluster.run(5 * SECOND)
        cluster.heal()
        cluster.run(2 * SECOND)
        assert (cluster.core(0).current_term == 1) is same
        assert len(leaders(cluster)) == 1
        assert cluster.core(2).leader == leaders(cluster)[0]


def test_9_6_a_pre_vote_changes_nothing_on_either_side() -> None:
    cluster = Cluster(3)
    effects = cluster.inject(1, 0, PreVote(7, 1, 0, 0))
    assert effects == [Send((1,), PreVoteReply(0, 7, True))]
    assert (cluster.core(0).current_term, cluster.core(0).voted_for) == (0, NOBODY)
    effects = cluster.step(1, _election(cluster, 1))
    assert not [effect for effect in effects if isinstance(effect, Persist)]


def _election(cluster: Cluster, node: int) -> Timeout:
    cluster.now = cluster.servers[node].timers.pop("election")
    return Timeout("election")


@pytest.mark.parametrize(("term", "last"), [(3, (9, 9)), (4, (1, 3)), (4, (9, 2))])
def test_9_6_a_pre_vote_is_refused_for_an_old_term_or_log(
    term: int, last: tuple[int, int], core: type[RaftCore]
) -> None:
    cluster = Cluster(3, core=core, logs={0: [3, 3]})
    assert cluster.inject(1, 0, PreVote(term, 1, *last)) == [Send((1,), PreVoteReply(3, term, False))]


def test_9_6_a_pre_vote_is_refused_while_a_leader_is_heard(core: type[RaftCore]) -> None:
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    for node in (0, 1):
        effects = cluster.inject(2, node, PreVote(2, 2, 9, 9))
        assert effects == [Send((2,), PreVoteReply(1, 2, False))]
    cluster.isolate(1)
    cluster.now += 299 * MS
    assert not cluster.inject(2, 1, PreVote(2, 2, 9, 9))[0].message.vote_granted
    cluster.now += 1 * MS
    assert cluster.inject(2, 1, PreVote(2, 2, 9, 9))[0].message.vote_granted


def test_a_reply_to_a_pre_vote_is_no_vote(core: type[RaftCore]) -> None:
    """(HAZARDS R6)"""
    cluster = Cluster(5, core=core)
    cluster.fire(0)
    cluster.inject(1, 0, PreVoteReply(0, 1, True))
    cluster.inject(2, 0, PreVoteReply(0, 1, True))
    assert cluster.core(0).role is Role.CANDIDATE
    for voter in (3, 4):
        cluster.inject(voter, 0, PreVoteReply(0, 1, True))
        cluster.inject(voter, 0, PreVoteReply(1, 2, True))
    assert cluster.core(0).role is Role.CANDIDATE


def test_a_vote_is_no_reply_to_a_pre_vote() -> None:
    cluster = Cluster(3)
    cluster.fire(0)
    cluster.inject(1, 0, VoteReply(0, True))
    cluster.inject(1, 0, PreVoteReply(0, 7, True))
    assert cluster.core(0).role is Role.PRE_CANDIDATE


@pytest.mark.parametrize("better_log_in_older_term", [True, False])
def test_pre_vote_does_not_deadlock_with_mixed_terms_and_logs(better_log_in_older_term: bool) -> None:
    """One survivor knows the higher term, the other has the longer log; the third is gone (HAZARDS R4)."""
    cluster = Cluster(3, logs={0: [1, 1], 1: [1]})
    higher = 1 if better_log_in_older_term else 0
    cluster.inject(2, higher, AppendEntries(6, 2, 9, 6, [], 0, 0))
    cluster.crash(2)
    assert cluster.run(10 * SECOND, until=lambda: leaders(cluster) == [0])
    assert cluster.core(0).current_term > 6


# --------------------------------------------------------------------------------------- CheckQuorum and stickiness


def test_6_2_a_leader_that_hears_no_majority_steps_down(core: type[RaftCore]) -> None:
    cluster = Cluster(5, core=core)
    cluster.elect(0)
    cluster.only(0, 1)
    cluster.run(2 * SECOND)
    assert cluster.core(0).role is not Role.LEADER
    assert cluster.core(0).current_term == 1
    assert "heartbeat" not in cluster.servers[0].timers


def test_6_2_a_leader_that_hears_a_majority_stays() -> None:
    cluster = Cluster(5)
    cluster.elect(0)
    cluster.only(0, 1, 2)
    cluster.run(5 * SECOND)
    assert leaders(cluster) == [0]
    assert cluster.core(0).current_term == 1


def test_6_2_a_leader_that_is_heard_but_hears_nobody_steps_down() -> None:
    """A one-way cut must not leave a cluster with a leader that can commit nothing."""
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.blocked = lambda packet: packet[1] == 0
    cluster.run(3 * SECOND)
    assert 0 not in leaders(cluster)
    assert len(leaders(cluster)) == 1


def test_6_a_vote_is_ignored_while_a_leader_is_heard(core: type[RaftCore]) -> None:
    """Not even its term is taken over: a removed server cannot disrupt (HAZARDS R19)."""
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    for node in (0, 1):
        effects = cluster.inject(2, node, RequestVote(9, 2, 9, 9))
        assert not [effect for effect in effects if isinstance(effect, (Send, Persist))]
        assert cluster.core(node).current_term == 1
    cluster.now += 300 * MS
    cluster.inject(2, 1, RequestVote(9, 2, 9, 9))
    assert cluster.core(1).current_term == 9


def test_a_partial_partition_does_not_make_leaders_flap() -> None:
    """0 leads and reaches 1; 1 reaches 2; 0 and 2 do not reach each other (HAZARDS R5)."""
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.blocked = lambda packet: {packet[0], packet[1]} == {0, 2}
    cluster.run(10 * SECOND)
    assert leaders(cluster) == [0]
    assert cluster.core(0).current_term == 1
    cluster.submit(0, "ann", 1)
    cluster.settle()
    assert cluster.done("ann", 1)


def test_a_server_in_a_later_term_is_not_locked_out() -> None:
    """A leader whose follower is already beyond its term learns of it by the follower's reply."""
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.isolate(2)
    cluster.inject(1, 2, append(5, (9, 5), []))
    cluster.heal()
    cluster.run(3 * SECOND)
    assert len(leaders(cluster)) == 1
    leader = leaders(cluster)[0]
    assert cluster.core(leader).current_term > 5
    assert cluster.core(2).leader == leader


def test_a_single_server_leads_at_once_and_answers_behind_its_disk() -> None:
    cluster = Cluster(1)
    assert leaders(cluster) == [0]
    cluster.by_hand = True
    cluster.submit(0, "ann", 1)
    assert cluster.core(0).commit_index == 2
    assert not cluster.done("ann", 1)
    cluster.sync(0)
    assert cluster.done("ann", 1)


def test_a_vote_under_another_name_is_refused() -> None:
    cluster = Cluster(3)
    for message in (RequestVote(5, 1, 0, 0), PreVote(5, 1, 0, 0), append(5, (0, 0), [], leader=1)):
        cluster.inject(2, 0, message)
    assert cluster.core(0).current_term == 0
    assert len(cluster.rules(0)) == 3
    assert all("is not the sender" in rule for rule in cluster.rules(0))


def test_status_says_who_leads_and_why() -> None:
    cluster = Cluster(3, draws={1: [310]})
    cluster.elect(0)
    cluster.run(100 * MS)
    cluster.crash(0)
    cluster.run(2 * SECOND)
    leader = leaders(cluster)[0]
    status = cluster.servers[leader].replica.status()
    assert (status.role, status.view, status.leader, status.in_sync) == ("leader", 2, leader, True)
    assert status.reason.startswith("no heartbeat from node 0 for 0.")
    other = cluster.servers[3 - leader].replica.status()
    assert (other.role, other.leader, other.in_sync) == ("follower", leader, True)
    noted = [note.detail for node, note in cluster.notes if node == leader and note.kind == "term"]
    assert noted[-1]["role"] == "leader"


def test_the_reason_tells_how_long_nobody_was_heard_however_often_it_took() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.run(100 * MS)
    cluster.crash(0)
    cluster.only()
    cluster.run(2 * SECOND)
    cluster.heal()
    cluster.run(2 * SECOND)
    reason = cluster.servers[leaders(cluster)[0]].replica.status().reason
    told = float(reason.removeprefix("no heartbeat from node 0 for ").removesuffix(" s"))
    assert 1.5 <= told <= 2.5, "not only since the last attempt"


def test_a_leader_whose_disk_hangs_is_replaced_and_steps_down() -> None:
    """Its heartbeats wait behind its own writes (HAZARDS R26)."""
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.hanging = {0}
    cluster.submit(0, "ann", 1)
    cluster.run(3 * SECOND)
    assert cluster.core(0).role is not Role.LEADER
    assert [node for node in leaders(cluster) if node] == leaders(cluster) != []
    assert not cluster.done("ann", 1)
    cluster.hanging = set()
    cluster.sync(0)
    cluster.run(SECOND)
    assert cluster.core(0).leader == leaders(cluster)[0]
    cluster.check_logs()
