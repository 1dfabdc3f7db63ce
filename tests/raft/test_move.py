"""Leadership handed over. [Ongaro14 3.10] (HAZARDS R25, R27)"""

from __future__ import annotations

import pytest

from raft import RaftCore
from raft.election import Role
from raft.messages import PreVote, PreVoteReply, RequestVote, TimeoutNow
from replog.types import NOBODY, Answer
from tests.raft.changing import begun as changing
from tests.raft.harness import MS, SECOND, Cluster
from tests.raft.test_figure2 import PLAIN
from tests.raft.test_partitions import leaders
from tests.raft.test_reads import LEASES, ask, begun, values


def answers_of(cluster: Cluster, timestamp: int) -> list[tuple[int, int]]:
    """What ann was told, and of which leader."""
    return [(reply.answer, reply.leader) for reply in cluster.replies.get(("ann", timestamp), [])]


def refusals(cluster: Cluster) -> list[str]:
    return [note.detail["rule"] for _, note in cluster.notes if note.kind == "command-refused"]


def notes(cluster: Cluster, kind: str) -> list[dict[str, object]]:
    return [note.detail for _, note in cluster.notes if note.kind == kind]


@pytest.mark.parametrize("options", [{}, PLAIN, LEASES])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_3_10_the_chosen_server_leads_at_once(n: int, options: dict[str, bool], core: type[RaftCore]) -> None:
    """No time-out passes, no pre-vote is asked for, and loyalty to the leader that wants it counts for nothing."""
    cluster = Cluster(n, options, core)
    cluster.elect(0)
    cluster.run(60 * MS)
    cluster.sent.clear()
    before = cluster.now
    cluster.command(0, "move-leader", to=1)
    cluster.settle()
    assert (leaders(cluster), cluster.now) == ([1], before)
    assert cluster.core(1).current_term == 2
    assert not cluster.sent_kinds(PreVote)
    assert {cluster.core(node).leader for node in range(n)} == {1}
    assert cluster.servers[1].replica.status().reason == "node 0 moves the leadership here"


def test_3_10_a_server_that_is_behind_is_brought_up_to_date_first(core: type[RaftCore]) -> None:
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    cluster.isolate(2)
    for timestamp in range(1, 5):
        cluster.submit(0, "ann", timestamp)
        cluster.settle()
    cluster.command(0, "move-leader", to=2)
    assert cluster.sent_kinds(TimeoutNow) == [], "nobody would vote for it"
    cluster.heal()
    cluster.run(100 * MS)
    assert leaders(cluster) == [2]
    assert cluster.terms_of(2) == [1, 1, 1, 1, 1, 2]


def test_3_10_requests_wait_meanwhile_and_none_is_lost(core: type[RaftCore]) -> None:
    """They are not ordered here: the new leader's log would never be long enough. What waits is sent on."""
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    cluster.run(60 * MS)
    cluster.submit(0, "ann", 1)
    cluster.command(0, "move-leader", to=1)
    for timestamp in range(2, 6):
        cluster.submit(0, "ann", timestamp)
    assert cluster.core(0).log.last_index == 2
    cluster.settle()
    assert leaders(cluster) == [1]
    assert cluster.done("ann", 1), "what was ordered before"
    for timestamp in range(2, 6):
        assert answers_of(cluster, timestamp) == [(Answer.REDIRECT, 1)]
        cluster.submit(1, "ann", timestamp)
    cluster.settle()
    assert all(len(cluster.done("ann", timestamp)) == 1 for timestamp in range(1, 6))


def test_3_10_it_is_given_up_after_an_election_time_out_and_the_leader_goes_on(core: type[RaftCore]) -> None:
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    cluster.isolate(2)
    cluster.submit(0, "ann", 1)
    cluster.settle()
    cluster.command(0, "move-leader", to=2)
    cluster.submit(0, "ann", 2)
    cluster.run(599 * MS)
    assert not cluster.done("ann", 2)
    cluster.run(10 * MS)
    assert cluster.done("ann", 2)
    assert leaders(cluster) == [0]
    assert notes(cluster, "leader-move-abandoned") == [{"to": 2, "told": False}]
    cluster.heal()
    cluster.run(SECOND)
    assert (leaders(cluster), cluster.core(0).current_term) == ([0], 1)


def test_3_10_a_lost_word_is_said_again() -> None:
    cluster = begun()
    cluster.command(0, "move-leader", to=1)
    assert cluster.drop(1) == 1
    cluster.run(60 * MS)
    assert leaders(cluster) == [1]


def test_r27_a_move_ends_with_the_term(core: type[RaftCore]) -> None:
    """Elected again, the leader orders what it is asked."""
    cluster = Cluster(3, PLAIN, core)
    cluster.elect(0)
    cluster.isolate(2)
    cluster.submit(0, "ann", 1)
    cluster.settle()
    cluster.command(0, "move-leader", to=2)
    cluster.elect(1)
    cluster.elect(0)
    cluster.submit(0, "ann", 2)
    cluster.settle()
    assert cluster.done("ann", 2)
    assert "move" not in cluster.servers[0].timers


def test_3_10_while_it_moves_there_is_no_lease(core: type[RaftCore]) -> None:
    """Nor after a move that came to nothing: the word may still be on its way (HAZARDS R25)."""
    for abandoned in (False, True):
        cluster = begun(LEASES, core)
        cluster.blocked = lambda packet, cluster=cluster: type(cluster.decode(packet)) is TimeoutNow
        cluster.command(0, "move-leader", to=1)
        if abandoned:
            cluster.run(620 * MS)
            assert len(notes(cluster, "leader-move-abandoned")) == 1
        cluster.blocked = lambda packet: packet.sender == 0 or packet.to == 0
        cluster.inject(0, 1, TimeoutNow(1, 0))
        cluster.settle()
        assert leaders(cluster) == [0, 1]
        cluster.submit(1, "ann", 2)
        cluster.settle()
        assert cluster.done("ann", 2)
        ask(cluster, 0, 1)
        assert values(cluster, 1) == [], "5 would be older than what ann was told"


def test_3_10_only_the_leader_of_the_term_is_believed() -> None:
    cluster = begun()
    cluster.inject(2, 1, TimeoutNow(1, 2))
    cluster.inject(2, 1, TimeoutNow(1, 0))
    cluster.inject(0, 1, TimeoutNow(0, 0))
    cluster.settle()
    assert (leaders(cluster), cluster.core(0).current_term) == ([0], 1)
    assert cluster.rules(1) == ["leader_id is not the sender"]


def test_3_10_one_whose_candidacy_fails_asks_like_anybody_next_time(core: type[RaftCore]) -> None:
    """Others' loyalty was set aside for the one election that the leader wanted."""
    cluster = begun(core=core, n=5)
    cluster.command(0, "move-leader", to=1)
    cluster.deliver()
    cluster.isolate(1)
    cluster.network.clear()
    cluster.run(SECOND)
    assert cluster.core(1).current_term == 2
    asked = [send.message for send in cluster.sent if send.node == 1][-1]
    assert isinstance(asked, PreVote)
    for voter in (2, 3):
        cluster.inject(voter, 1, PreVoteReply(1, asked.term, True))
    assert (cluster.core(1).role, cluster.core(1).current_term) == (Role.CANDIDATE, 3)
    moves = {send.message.term: send.message.move for send in cluster.sent_kinds(RequestVote)}
    assert moves == {1: False, 2: True, 3: False}


@pytest.mark.parametrize("learner", [False, True])
def test_3_10_a_late_word_to_one_that_votes_no_more_comes_to_nothing(learner: bool, core: type[RaftCore]) -> None:
    """The move was given up, 2 left or was made a learner since: it would ask with the leader's own word, which no
    loyalty hinders (HAZARDS R19)."""
    cluster = changing(core=core)
    cluster.command(0, "move-leader", to=2)
    late = [packet for packet in cluster.network if packet.to == 2]
    cluster.blocked = lambda packet: type(cluster.decode(packet)) is TimeoutNow
    cluster.network.clear()
    cluster.run(SECOND)
    cluster.change(0, learners=[2]) if learner else cluster.change(0, remove=[2])
    cluster.run(SECOND)
    assert cluster.role(2) == ("learner" if learner else "removed")
    cluster.heal()
    for packet in late:
        cluster.receive(packet)
    cluster.run(SECOND)
    assert [type(cluster.decode(packet)) for packet in late] == [TimeoutNow]
    assert (cluster.led(), cluster.core(0).current_term) == ([0], 1)


def test_what_cannot_be_moved_is_refused_with_the_reason() -> None:
    cluster = Cluster(3)
    cluster.command(1, "move-leader", to=2)
    cluster.elect(0)
    cluster.command(1, "move-leader", to=2)
    for node in (0, 7, "two", None):
        cluster.command(0, "move-leader", to=node)
    cluster.isolate(2)
    cluster.submit(0, "ann", 1)
    cluster.command(0, "move-leader", to=2)
    cluster.command(0, "move-leader", to=1)
    cluster.command(0, "dance")
    assert refusals(cluster) == [
        "node 1 does not lead",
        "node 1 does not lead, node 0 does",
        "node 0 leads already",
        "to = 7 is none of the voters [0, 1, 2]",
        "to = 'two' is none of the voters [0, 1, 2]",
        "to = None is none of the voters [0, 1, 2]",
        "the leadership is on its way to node 2",
        "raft knows the commands snapshot, pause, resume, give-up-change and move-leader",
    ]


def test_what_a_leader_had_not_ordered_is_sent_on_when_it_is_deposed() -> None:
    cluster = Cluster(3, {"uncommitted_max": 1})
    cluster.elect(0)
    cluster.isolate(0)
    for timestamp in range(1, 4):
        cluster.submit(0, "ann", timestamp)
    cluster.run(SECOND)
    assert cluster.core(0).role is not Role.LEADER
    assert not cluster.replies.get(("ann", 1)), "it was ordered: what became of it others will tell (HAZARDS R23)"
    assert [answers_of(cluster, timestamp) for timestamp in (2, 3)] == [[(Answer.REDIRECT, NOBODY)]] * 2
