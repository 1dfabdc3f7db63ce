"""Networks that are cut in part: in one direction, or between some. [Raft 5.2; Ongaro14 6.2, 9.6]

What is asked of each: a leader that a majority hears is not deposed, leaders do not take turns, and a majority that can
speak with each other through one server gets a leader and commits.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from raft import RaftCore
from raft.election import Role
from raft.messages import RequestVote, VoteReply
from replog.types import NOBODY
from tests.raft.harness import MS, SECOND, Cluster

Way = tuple[int, int]


def cut(cluster: Cluster, ways: Iterable[Way]) -> None:
    """Nothing passes from the first to the second of each."""
    lost = set(ways)
    cluster.blocked = lambda packet: (packet.sender, packet.to) in lost


def both(*pairs: Way) -> list[Way]:
    return [way for a, b in pairs for way in ((a, b), (b, a))]


def only(cluster: Cluster, *pairs: Way) -> None:
    """Nothing passes but between these, both ways."""
    links = set(both(*pairs))
    cluster.blocked = lambda packet: (packet.sender, packet.to) not in links


def leaders(cluster: Cluster) -> list[int]:
    return [node for node, server in sorted(cluster.servers.items()) if server.core.role is Role.LEADER]


def commits(cluster: Cluster, node: int, timestamp: int = 1) -> bool:
    cluster.submit(node, "ann", timestamp)
    cluster.run(SECOND)
    return bool(cluster.done("ann", timestamp))


@pytest.mark.parametrize(
    ("n", "lost"),
    [
        (3, [(0, 2)]),
        (3, [(2, 0)]),
        (3, both((0, 2))),
        (5, both((0, 3), (0, 4))),
        (5, [(0, 3), (0, 4), (3, 0)]),
        (5, both((0, 1), (0, 2), (1, 2))),
        (5, [*both((1, 3), (2, 4), (1, 4)), (0, 2)]),
    ],
)
def test_a_leader_with_a_majority_is_not_deposed_whatever_else_is_cut(n: int, lost: list[Way]) -> None:
    """Those that do not hear it find no majority without somebody who does (HAZARDS R5)."""
    cluster = Cluster(n)
    cluster.elect(0)
    cut(cluster, lost)
    cluster.run(20 * SECOND)
    assert (leaders(cluster), cluster.core(0).current_term) == ([0], 1)
    assert commits(cluster, 0)
    cluster.heal()
    cluster.run(5 * SECOND)
    assert (leaders(cluster), cluster.core(0).current_term) == ([0], 1), "nor when the network is whole again"
    assert {cluster.core(node).leader for node in range(n)} == {0}


@pytest.mark.parametrize("draws", [{}, {1: [600] * 9, 2: [300] * 9}, {1: [300] * 9, 2: [600] * 9}])
def test_a_bridge_gets_one_leader_and_keeps_it(draws: dict[int, list[int]]) -> None:
    """0 and 1 on one side, 3 and 4 on the other, 2 hears all; the leader was 0, which has two others left."""
    cluster = Cluster(5, draws=draws)
    cluster.elect(0)
    only(cluster, (0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4))
    cluster.run(30 * SECOND)
    assert (leaders(cluster), cluster.core(0).current_term) == ([0], 1), "0, 1 and 2 are a majority"
    assert commits(cluster, 0)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_whoever_led_before_a_star_is_left_its_centre_leads_and_stays(first: int) -> None:
    """Only 2 is heard by all others, and hears them; a leader elsewhere has no majority and gives up."""
    cluster = Cluster(5)
    cluster.elect(first)
    cluster.run(100 * MS)
    only(cluster, *[(2, other) for other in (0, 1, 3, 4)])
    assert cluster.run(30 * SECOND, until=lambda: leaders(cluster) == [2])
    term = cluster.core(2).current_term
    cluster.run(30 * SECOND)
    assert (leaders(cluster), cluster.core(2).current_term) == ([2], term)
    assert len(cluster.leaders) <= 2, "nobody led between"
    assert commits(cluster, 2)


def test_a_star_whose_centre_is_behind_elects_nobody_and_loses_nothing() -> None:
    """The leader is gone, and the centre's log lacks what a majority has: the others may not vote for it, and none of
    them reaches a majority. Raft gives up liveness here, not safety."""
    cluster = Cluster(5)
    cluster.elect(0)
    cluster.isolate(2, 4)
    cluster.submit(0, "ann", 1)
    cluster.settle()
    assert cluster.done("ann", 1)
    cluster.crash(0)
    only(cluster, *[(2, other) for other in (1, 3, 4)])
    cluster.run(20 * SECOND)
    assert (leaders(cluster), len(cluster.leaders)) == ([], 1)
    cluster.heal()
    assert cluster.run(5 * SECOND, until=lambda: leaders(cluster) != [])
    assert leaders(cluster)[0] in (1, 3)
    cluster.run(SECOND)
    assert cluster.core(4).last_applied == 3, "two no-ops and ann's"


def test_a_leader_that_is_not_heard_is_replaced_once() -> None:
    """It hears all and none hears it: one election, and the new leader's word comes through to it."""
    cluster = Cluster(5)
    cluster.elect(0)
    cut(cluster, [(0, other) for other in range(1, 5)])
    cluster.run(20 * SECOND)
    (leader,) = leaders(cluster)
    assert leader != 0
    assert len(cluster.leaders) == 2
    assert cluster.core(0).leader == leader
    assert commits(cluster, leader)


def test_a_deaf_server_stands_alone_and_disturbs_nobody() -> None:
    """All hear it and it hears none: it asks without end whether it could win, in one and the same term."""
    cluster = Cluster(5)
    cluster.elect(0)
    cut(cluster, [(other, 4) for other in range(4)])
    cluster.run(20 * SECOND)
    assert (leaders(cluster), cluster.core(0).current_term, cluster.core(4).current_term) == ([0], 1, 1)
    cluster.heal()
    cluster.run(2 * SECOND)
    assert (cluster.core(4).leader, cluster.core(0).current_term) == (0, 1)


@pytest.mark.parametrize("pre_vote", [True, False])
def test_a_server_that_comes_and_goes_deposes_no_leader_that_is_heard(pre_vote: bool) -> None:
    """Without PreVote it comes back with a later term: it is not voted for, but its answer to a heartbeat ends the
    leader's term (HAZARDS R3, R5)."""
    cluster = Cluster(5, {"pre_vote": pre_vote})
    cluster.elect(0)
    for _ in range(4):
        cluster.isolate(4)
        cluster.run(3 * SECOND)
        cluster.heal()
        cluster.run(3 * SECOND)
    assert len(leaders(cluster)) == 1
    assert (len(cluster.leaders) == 1) is pre_vote
    assert cluster.core(4).leader == leaders(cluster)[0]


def test_a_server_that_restarts_among_others_asks_nobody() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    for node in (1, 2, 1):
        cluster.restart(node)
        cluster.run(2 * SECOND)
    assert (leaders(cluster), cluster.core(0).current_term) == ([0], 1)
    assert not cluster.core(1).nonsense


def test_a_later_term_told_by_the_way_does_not_end_loyalty(core: type[RaftCore]) -> None:
    """1 hears leader 0, then a late word of a term that nobody leads: for the least election time-out it still gives no
    vote, as 0 may count on (HAZARDS R25)."""
    cluster = Cluster(5, core=core)
    cluster.elect(0)
    cluster.run(100 * MS)
    cluster.isolate(1)
    cluster.inject(2, 1, VoteReply(7, False))
    assert cluster.core(1).current_term == 7
    for term in (7, 8):
        cluster.inject(2, 1, RequestVote(term, 2, 9, 9))
        assert (cluster.core(1).current_term, cluster.core(1).voted_for) == (7, NOBODY)
    cluster.now += 300 * MS
    cluster.inject(2, 1, RequestVote(8, 2, 9, 9))
    assert cluster.core(1).voted_for == 2


@pytest.mark.parametrize("seed", range(20))
def test_four_servers_with_random_time_outs_always_end_a_split_vote(seed: int) -> None:
    """Votes are split where two of four stand at once; chance ends it. [Raft 5.2]"""
    cluster = Cluster(4, {"pre_vote": seed % 2 == 0}, seed=seed)
    cluster.by_hand = False
    assert cluster.run(20 * SECOND, until=lambda: len(leaders(cluster)) == 1)
    cluster.crash(leaders(cluster)[0])
    assert cluster.run(20 * SECOND, until=lambda: len(leaders(cluster)) == 1), "three of four are a majority"
