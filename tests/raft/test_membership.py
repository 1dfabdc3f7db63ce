"""Changes of the members: joint consensus, learners, those who leave. [Raft 6; Ongaro14 4] (HAZARDS R16-R21)"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raft import RaftCore
from raft.configuration import Configuration
from raft.election import Role
from raft.messages import AppendReply, InstallSnapshot, PreVote, Removed, RequestVote, TimeoutNow
from replog.core import Apply, Received, Reply
from replog.errors import OperationFailed
from replog.keys import HashSigner
from replog.membership import ConfigurationAnswer, ConfigurationQuestion
from replog.types import NOBODY, Answer
from tests.plug import Packet
from tests.raft.changing import Changing, begun
from tests.raft.harness import MS, SECOND
from tests.raft.test_figure2 import PLAIN
from tests.raft.test_reads import answers, ask, values

LEARNERS, JOINT, NEW = 3, 4, 5
"""Where the entries of the first change stand, behind the no-op and the command."""
ALL_NEW = Configuration([3, 4, 5], [0, 1, 2])


def replacing(core: type[RaftCore], held_at: int, options: dict[str, bool] | None = None) -> Changing:
    """3, 4 and 5 are to take the place of 0, 1 and 2. Entries come through to all, yet the leader is told of none from
    `held_at` on, and so commits none of these."""
    cluster = begun(3, options, core)
    cluster.blocked = unanswered(cluster, held_at)
    cluster.add(3, 4, 5)
    cluster.change(0, add=[3, 4, 5], remove=[0, 1, 2])
    cluster.settle()
    return cluster


def unanswered(cluster: Changing, first: int, *nodes: int) -> Callable[[Packet], bool]:
    def lost(packet: Packet) -> bool:
        said = cluster.decode(packet)
        return isinstance(said, AppendReply) and said.match_index >= first and packet.sender not in nodes

    return lost


def refusal(cluster: Changing, timestamp: int) -> str:
    with pytest.raises(OperationFailed) as caught:
        cluster.outcome(timestamp)
    return caught.value.text


# ------------------------------------------------------------------------------------------------------ joint consensus


def test_6_a_change_goes_by_learners_and_c_old_new_to_c_new() -> None:
    cluster = begun()
    cluster.add(3, 4)
    timestamp = cluster.change(0, add=[3, 4], remove=[2])
    cluster.settle()
    cluster.beat()
    assert cluster.configurations(0) == [
        Configuration([0, 1, 2], [], [3, 4]),
        Configuration([0, 1, 3, 4], [0, 1, 2]),
        Configuration([0, 1, 3, 4]),
    ]
    assert cluster.outcome(timestamp)[0] == 1, "the epoch that is to come"
    assert {cluster.epoch(node).voters for node in (0, 1, 3, 4)} == {(0, 1, 3, 4)}
    assert {cluster.epoch(node).epoch for node in (0, 1, 3, 4)} == {1}
    assert [cluster.role(node) for node in range(5)] == ["leader", "follower", "removed", "follower", "follower"]
    cluster.submit(0, "ann", 1)
    cluster.settle()
    assert cluster.done("ann", 1)


def test_6_a_configuration_counts_from_when_it_is_in_the_log(core: type[RaftCore]) -> None:
    """Not from its commit: the old majority alone elects nobody any more."""
    cluster = replacing(core, JOINT)
    assert [cluster.configuration(node) for node in (0, 1, 2, 5)] == [ALL_NEW] * 4
    assert cluster.core(0).commit_index < JOINT
    cluster.crash(0)
    cluster.only(1, 2)
    cluster.run(4 * SECOND)
    assert cluster.led() == []


def test_6_a_candidate_of_c_old_new_needs_both_majorities(core: type[RaftCore]) -> None:
    cluster = replacing(core, JOINT)
    cluster.crash(0)
    cluster.only(3, 4, 5)
    cluster.run(4 * SECOND)
    assert cluster.led() == []
    cluster.only(1, 2, 3, 4)
    cluster.run(8 * SECOND)
    assert cluster.led()[0] in (3, 4), "and it has brought the change to its end"
    assert cluster.configuration(3) == Configuration([3, 4, 5])


@pytest.mark.parametrize("nodes", [(1, 2), (3, 4, 5), (1, 3)])
def test_6_an_entry_of_c_old_new_needs_both_majorities(nodes: tuple[int, ...], core: type[RaftCore]) -> None:
    cluster = replacing(core, JOINT)
    cluster.blocked = unanswered(cluster, JOINT, *nodes)
    cluster.beat()
    assert cluster.core(0).commit_index < JOINT
    cluster.blocked = unanswered(cluster, JOINT, 1, 4, 5)
    cluster.beat()
    assert cluster.core(0).commit_index >= JOINT


def test_6_c_new_waits_for_the_commit_of_c_old_new(core: type[RaftCore]) -> None:
    cluster = replacing(core, JOINT)
    cluster.beat(SECOND)
    assert cluster.configurations(0)[1:] == [ALL_NEW]


def test_r17_no_configuration_before_an_entry_of_the_own_term_is_committed(core: type[RaftCore]) -> None:
    """What is wrong with changes of one server at a time without it: the configuration of an older term that is not
    committed and the new one need not have a server in common."""
    cluster = begun(core=core)
    cluster.add(3)
    cluster.isolate(3)
    cluster.change(0, add=[3])
    cluster.beat()
    cluster.crash(0)
    cluster.blocked = unanswered(cluster, 1, 3)
    cluster.elect(1)
    cluster.run(200 * MS)
    assert cluster.core(1).current_term == 2
    assert cluster.configurations(1) == [Configuration([0, 1, 2], [], [3])]
    assert cluster.core(1).replication.progress[3].match_index == LEARNERS + 1  # type: ignore[union-attr]
    cluster.heal()
    cluster.beat()
    assert cluster.epoch(1).voters == (0, 1, 2, 3)


def test_r18_a_configuration_that_is_cut_off_counts_no_more(core: type[RaftCore]) -> None:
    """The earlier one is in force again, and the next leader brings the change to its end."""
    cluster = begun(core=core)
    cluster.add(3)
    cluster.change(0, add=[3])
    while cluster.configuration(0) != Configuration([0, 1, 2], [], [3]):
        cluster.deliver()
    cluster.network.clear()
    cluster.isolate(0, 3)
    cluster.elect(1)
    cluster.blocked = lambda packet: 3 in packet[:2] or packet.sender == 0
    cluster.fire(1, "heartbeat")
    cluster.settle()
    cluster.inject(1, 0, next(sent.message for sent in reversed(cluster.sent) if sent.node == 1 and 2 in sent.to))
    cluster.heal()
    cluster.core(1).step(cluster.now, Received(2, AppendReply(2, False, 0, 0, 0, 0, 0)))
    cluster.run(SECOND)
    assert cluster.configurations(0) == cluster.configurations(1)
    assert cluster.epoch(0).voters == (0, 1, 2, 3)


def test_6_one_change_at_a_time_and_the_pending_one_is_named() -> None:
    cluster = replacing(RaftCore, JOINT)
    cluster.heal()
    cluster.blocked = unanswered(cluster, NEW + 2)
    cluster.isolate(4, 5)
    second = cluster.change(0, add=[], remove=[1])
    cluster.run(20 * MS)
    cluster.heal()
    cluster.run(2 * SECOND)
    leader = cluster.led()[0]
    assert cluster.epoch(leader).voters == (3, 4, 5)
    if cluster.done("boss", second):
        assert "a change is pending: epoch 1 is to have members 3, 4, 5" in refusal(cluster, second)


def test_a_second_change_is_refused_while_one_waits() -> None:
    cluster = begun()
    cluster.change(0, add=[3])
    cluster.settle()
    second = cluster.change(0, remove=[2])
    cluster.settle()
    assert refusal(cluster, second) == "a change is pending: epoch 1 is to have members 0, 1, 2, 3; wait for it"
    assert cluster.servers[0].replica.status().detail["pending"] == "epoch 1 with 0, 1, 2, 3"


def test_the_administrator_alone_changes_the_members() -> None:
    cluster = begun()
    forged = cluster.change(0, remove=[2], signer=HashSigner(b"somebody else" * 3))
    late = cluster.change(0, remove=[2], epoch=4)
    last = cluster.change(0, remove=[0, 1, 2])
    cluster.settle()
    assert refusal(cluster, forged) == "the signature is not the administrator's"
    assert refusal(cluster, late) == "the change is for epoch 4, the present one is 0"
    assert "Raft needs f >= 0 and n >= 2f + 1" in refusal(cluster, last)
    assert cluster.configurations(0) == []


# ------------------------------------------------------------------------------------------------- who leads meanwhile


@pytest.mark.parametrize("options", [{}, PLAIN])
def test_r20_a_leader_that_is_not_in_c_new_manages_until_it_is_committed(
    options: dict[str, bool], core: type[RaftCore]
) -> None:
    cluster = replacing(core, NEW, options)
    assert cluster.configuration(0) == Configuration([3, 4, 5])
    cluster.submit(0, "ann", 1)
    cluster.run(200 * MS)
    assert cluster.led() == [0]
    assert cluster.core(0).log.last_index == NEW + 1, "it goes on ordering"
    cluster.heal()
    cluster.beat()
    assert cluster.led() != [0]
    assert len(cluster.led()) == 1, "another leads at once, no time-out passes"
    assert cluster.core(cluster.led()[0]).log.entry(NEW + 1).requests, "with all that was ordered"
    cluster.run(4 * SECOND)
    assert [cluster.role(node) for node in (0, 1, 2)] == ["removed"] * 3


def test_r20_a_leader_that_is_not_in_c_new_does_not_count_itself(core: type[RaftCore]) -> None:
    """One of two others is no majority of C_new, though two of three servers have the entry."""
    cluster = begun(2, core=core)
    cluster.blocked = unanswered(cluster, NEW)
    cluster.add(2)
    cluster.change(0, add=[2], remove=[0])
    cluster.settle()
    assert cluster.configuration(0) == Configuration([1, 2])
    cluster.blocked = unanswered(cluster, NEW, 1)
    cluster.beat()
    assert cluster.core(0).commit_index < NEW
    cluster.heal()
    cluster.beat(SECOND)
    assert cluster.epoch(1).voters == (1, 2)


def test_4_2_2_the_leader_that_leaves_says_who_is_to_lead() -> None:
    cluster = begun()
    cluster.sent.clear()
    cluster.change(0, remove=[0])
    before = cluster.now
    cluster.settle()
    assert len(cluster.sent_kinds(TimeoutNow)) == 1
    assert not cluster.sent_kinds(PreVote)
    assert (cluster.led()[0] in (1, 2), cluster.now) == (True, before)


def test_a_leader_that_is_made_a_learner_steps_down_and_follows() -> None:
    cluster = begun()
    cluster.change(0, learners=[0])
    cluster.settle()
    cluster.beat()
    assert cluster.role(0) == "learner"
    assert cluster.core(0).leader in (1, 2)
    cluster.crash(1)
    cluster.run(4 * SECOND)
    assert cluster.led() == [], "it has no vote to give that counts"


def test_4_2_2_a_server_that_only_its_own_last_entry_leaves_out_stands_all_the_same(core: type[RaftCore]) -> None:
    """It alone has C_new. The others need its vote, and do not get it, since their logs are behind its."""
    cluster = Changing(1, core=core)
    cluster.run(SECOND)
    cluster.add(1, 2, 3)
    cluster.change(0, add=[1, 2, 3], remove=[0])
    while cluster.configuration(0) != Configuration([1, 2, 3]):
        cluster.deliver()
    cluster.network.clear()
    cluster.restart(0)
    cluster.run(6 * SECOND)
    assert cluster.epoch(1).voters == (1, 2, 3)
    assert cluster.role(0) == "removed"


# ---------------------------------------------------------------------------------------------------- those who come


def test_r21_newcomers_follow_without_a_vote_until_they_have_caught_up(core: type[RaftCore]) -> None:
    cluster = begun(core=core)
    for timestamp in range(1, 6):
        cluster.submit(0, "ann", timestamp)
    cluster.settle()
    cluster.isolate(3, 4, 5)
    cluster.add(3, 4, 5)
    cluster.change(0, add=[3, 4, 5])
    cluster.run(2 * SECOND)
    cluster.submit(0, "ann", 6)
    cluster.settle()
    assert cluster.done("ann", 6), "three that are silent cost nothing"
    assert cluster.configuration(0) == Configuration([0, 1, 2], [], [3, 4, 5])
    assert "node 3 has 0 of" in str(cluster.servers[0].replica.status().detail["newcomers"])
    cluster.heal()
    cluster.beat(SECOND)
    assert cluster.epoch(3).voters == (0, 1, 2, 3, 4, 5)


def test_4_2_1_rounds_that_take_long_are_followed_by_others() -> None:
    """A round brings what there was when it began; one that takes an election time-out is not the last."""
    cluster = begun(options={"catch_up_rounds": 4})
    cluster.add(3)
    cluster.change(0, add=[3])
    cluster.isolate(3)
    cluster.run(400 * MS)
    cluster.submit(0, "ann", 1)
    cluster.settle()
    assert cluster.core(0).reconfiguration is not None
    newcomer = cluster.core(0).reconfiguration.newcomers[3]
    assert (newcomer.round, newcomer.ready) == (1, False)
    cluster.heal()
    cluster.run(60 * MS)
    assert (newcomer.round, newcomer.ready) == (2, True)
    cluster.beat()
    assert cluster.epoch(3).voters == (0, 1, 2, 3)


def test_an_operator_gives_up_a_change_whose_newcomer_never_comes(core: type[RaftCore]) -> None:
    """Or it would hold up all others for catch_up_us, ten minutes, and as long again under each new leader."""
    cluster = begun(3, core=core)
    cluster.command(0, "give-up-change")
    assert refusals(cluster) == ["no change of the members is under way"]
    cluster.add(3)
    cluster.isolate(3)
    cluster.change(0, add=[3])
    cluster.beat(SECOND)
    assert cluster.configuration(0).learners == [3]
    cluster.command(1, "give-up-change")
    assert refusals(cluster)[1:] == ["node 1 does not lead, node 0 does"]
    cluster.command(0, "give-up-change")
    cluster.beat()
    present = cluster.epoch(1)
    assert (present.epoch, present.ids, present.next_id) == (1, (0, 1, 2), 4)
    cluster.add(4)
    cluster.change(0, add=[4])
    cluster.beat(SECOND)
    assert cluster.epoch(1).voters == (0, 1, 2, 4), "the next change is waited for as ever"


def test_a_change_that_both_majorities_decide_on_is_not_given_up() -> None:
    cluster = begun(3)
    cluster.add(3)
    cluster.change(0, add=[3])
    cluster.blocked = lambda packet: cluster.configuration(0).old_voters != [] and 0 in packet[:2]
    cluster.run(100 * MS)
    assert cluster.configuration(0).old_voters == [0, 1, 2]
    cluster.command(0, "give-up-change")
    assert refusals(cluster) == ["epoch 1 is for both majorities to decide: whoever comes has caught up"]
    cluster.heal()
    cluster.beat(SECOND)
    assert cluster.epoch(1).voters == (0, 1, 2, 3)


def refusals(cluster: Changing) -> list[str]:
    return [note.detail["rule"] for _, note in cluster.notes if note.kind == "command-refused"]


@pytest.mark.parametrize("options", [{"catch_up_us": 2_000_000}, {"catch_up_rounds": 1}])
def test_4_2_1_a_newcomer_that_does_not_catch_up_is_given_up(options: dict[str, int], core: type[RaftCore]) -> None:
    """The members are as before, in an epoch of their own; the id is not used again, and changes go on."""
    cluster = begun(3, options, core)
    cluster.add(3)
    cluster.change(0, add=[3])
    cluster.blocked = lambda packet: 3 in packet[:2] and ("catch_up_us" in options or cluster.now < 1_500 * MS)
    cluster.run(2_300 * MS)
    assert cluster.configuration(0) == Configuration([0, 1, 2])
    assert [note.detail["node"] for _, note in cluster.notes if note.kind == "change-given-up"] == [3]
    present = cluster.epoch(1)
    assert (present.epoch, present.ids, present.next_id) == (1, (0, 1, 2), 4)
    assert cluster.role(3) == ("removed" if "catch_up_rounds" in options else "joining")
    cluster.heal()
    cluster.add(4)
    cluster.change(0, add=[4])
    cluster.beat(SECOND)
    assert cluster.epoch(1).voters == (0, 1, 2, 4)


def test_a_learner_for_good_stays_one_and_is_promoted_when_asked(core: type[RaftCore]) -> None:
    cluster = begun(core=core)
    cluster.add(3)
    cluster.change(0, add=[3], learners=[3])
    cluster.beat()
    assert cluster.configuration(3) == Configuration([0, 1, 2], [], [3])
    assert cluster.role(3) == "learner"
    ask(cluster, 3, 1)
    cluster.settle()
    assert values(cluster, 1) == [0], "it serves reads"
    cluster.crash(1)
    cluster.crash(2)
    cluster.run(2 * SECOND)
    assert cluster.led() == []
    cluster.start(1)
    cluster.start(2)
    cluster.run(2 * SECOND)
    cluster.change(cluster.led()[0], learners=[])
    cluster.beat()
    assert cluster.configuration(3) == Configuration([0, 1, 2, 3])
    assert cluster.role(3) == "follower"


def test_a_learner_that_is_promoted_and_does_not_answer_stays_a_learner() -> None:
    cluster = begun(options={"catch_up_us": 2_000_000})
    cluster.add(3)
    cluster.change(0, add=[3], learners=[3])
    cluster.beat()
    cluster.crash(3)
    cluster.submit(0, "ann", 1)
    cluster.settle()
    cluster.change(0, learners=[])
    cluster.run(3 * SECOND)
    assert (cluster.epoch(0).epoch, cluster.epoch(0).learners) == (2, (3,))
    assert cluster.configuration(0) == Configuration([0, 1, 2], [], [3])


def test_a_newcomer_far_behind_is_given_the_state_and_the_configuration(core: type[RaftCore]) -> None:
    """(HAZARDS R16) The one it has from the snapshot is in force, without any entry of the log."""
    cluster = begun(3, {"snapshot_entries": 3, "log_tail": 0}, core)
    cluster.change(0, remove=[2])
    cluster.settle()
    cluster.add(3)
    cluster.isolate(3)
    cluster.change(0, add=[3], learners=[3])
    for timestamp in range(1, 9):
        cluster.submit(0, "ann", timestamp)
        cluster.settle()
    cluster.heal()
    cluster.beat(SECOND)
    assert cluster.sent_kinds(InstallSnapshot)
    assert cluster.configuration(3) == Configuration([0, 1], [], [3])
    assert cluster.configurations(3) == []
    assert cluster.epoch(3) == cluster.epoch(0)
    cluster.change(0, learners=[])
    cluster.beat()
    for node in (0, 1, 3):
        cluster.command(node, "snapshot")
        cluster.restart(node)
    assert [cluster.configuration(node) for node in (0, 1, 3)] == [Configuration([0, 1, 3])] * 3
    cluster.run(2 * SECOND)
    assert len(cluster.led()) == 1


# ------------------------------------------------------------------------------------------------------ those who go


@pytest.mark.parametrize("lost", [False, True])
def test_4_2_3_a_removed_server_disrupts_nobody_and_learns_of_it(lost: bool, core: type[RaftCore]) -> None:
    """The word may be lost: then it asks, once, and is told."""
    cluster = begun(core=core)
    cluster.blocked = lambda packet: lost and isinstance(cluster.decode(packet), Removed)
    cluster.change(0, remove=[2])
    cluster.settle()
    assert cluster.configuration(2) == Configuration([0, 1], [0, 1, 2]), "it is not sent C_new"
    cluster.heal()
    cluster.run(2 * SECOND)
    assert cluster.role(2) == "removed"
    cluster.sent.clear()
    cluster.run(5 * SECOND)
    assert not [sent for sent in cluster.sent if sent.node == 2]
    assert (cluster.led(), cluster.core(0).current_term) == ([0], 1)


def test_r19_without_pre_vote_a_removed_server_is_ignored_while_a_leader_is_heard() -> None:
    cluster = begun(options={"pre_vote": False})
    cluster.blocked = lambda packet: isinstance(cluster.decode(packet), Removed)
    cluster.change(0, remove=[2])
    cluster.run(3 * SECOND)
    assert cluster.sent_kinds(RequestVote)
    assert cluster.core(2).current_term > 1
    assert (cluster.led(), cluster.core(0).current_term) == ([0], 1)


def test_a_removed_server_that_was_down_is_told_when_it_comes_back() -> None:
    cluster = begun()
    cluster.crash(2)
    cluster.change(0, remove=[2])
    cluster.run(SECOND)
    cluster.start(2)
    cluster.run(2 * SECOND)
    assert cluster.role(2) == "removed"
    assert (cluster.led(), cluster.core(0).current_term) == ([0], 1)


def test_3_10_no_configuration_is_appended_while_the_leadership_moves(core: type[RaftCore]) -> None:
    """The chosen server would have to be given it first, and perhaps leaves by it. It follows when the move is over."""
    cluster = begun(core=core)
    joint, index = Configuration([0, 1], [0, 1, 2]), 3
    cluster.blocked = unanswered(cluster, index)
    cluster.change(0, remove=[2])
    cluster.settle()
    assert (cluster.configurations(0), cluster.core(0).commit_index) == ([joint], index - 1)
    cluster.command(0, "move-leader", to=2)
    cluster.blocked = unanswered(cluster, index, 1)
    cluster.beat()
    assert (cluster.core(0).commit_index, cluster.configurations(0)) == (index, [joint])
    cluster.run(SECOND)
    assert cluster.configurations(0) == [joint, Configuration([0, 1])]
    assert cluster.core(0).commit_index == index + 1


def test_a_transfer_to_a_server_that_leaves_ends_with_its_membership() -> None:
    """Nobody answers for it any more, and the log would be held for nothing."""
    cluster = begun(options={"log_tail": 0, "snapshot_entries": 4})
    cluster.isolate(2)
    for timestamp in range(1, 8):
        cluster.submit(0, "ann", timestamp)
        cluster.beat()
    cluster.blocked = lambda packet: packet.to == 2 and type(cluster.decode(packet)) is InstallSnapshot
    cluster.beat(200 * MS)
    sender = cluster.core(0).sender
    assert 2 in sender
    cluster.change(0, remove=[2])
    cluster.beat(200 * MS)
    assert cluster.configuration(0) == Configuration([0, 1])
    assert (2 in sender, sender.oldest) == (False, None)


def test_a_learner_that_is_cut_off_knows_of_no_leader(core: type[RaftCore]) -> None:
    """It never stands, and so must notice by itself that nobody leads it: whom it was asked to read for goes on."""
    cluster = begun(core=core)
    cluster.add(3)
    cluster.change(0, add=[3], learners=[3])
    cluster.run(SECOND)
    assert cluster.servers[3].replica.status().in_sync
    cluster.isolate(3)
    ask(cluster, 3, 1)
    cluster.run(SECOND)
    status = cluster.servers[3].replica.status()
    assert (status.role, status.leader, status.in_sync) == ("learner", NOBODY, False)
    assert status.reason.startswith("no heartbeat from node 0 for ")
    assert answers(cluster, 1) == [Answer.REDIRECT]
    cluster.heal()
    cluster.run(100 * MS)
    assert cluster.servers[3].replica.status().in_sync


def test_a_removed_server_sends_away_who_asks_it_to_read() -> None:
    cluster = begun()
    ask(cluster, 2, 1)
    cluster.network.clear()
    cluster.change(0, remove=[2])
    cluster.beat()
    assert answers(cluster, 1) == [Answer.REDIRECT]
    ask(cluster, 2, 2)
    assert answers(cluster, 2) == [Answer.REDIRECT]
    status = cluster.servers[2].replica.status()
    assert (status.leader, status.in_sync, status.reason) == (NOBODY, False, "removed from the cluster")


def test_a_word_of_leaving_that_is_older_than_its_own_membership_is_none() -> None:
    """Whoever says so knows less than the server itself, which goes on."""
    cluster = begun()
    cluster.add(3)
    before = cluster.epoch(0)
    cluster.change(0, add=[3])
    cluster.run(SECOND)
    cluster.inject(1, 3, Removed(before))
    assert cluster.role(3) == "follower"
    assert cluster.core(3).may_stand()


def test_a_newcomer_is_voted_for_by_one_that_does_not_know_it_yet() -> None:
    """Whose configuration counts is the candidate's. [Raft 6] What it says of who left, the candidate knows better."""
    cluster = begun()
    cluster.add(3, 4)
    cluster.isolate(2)
    cluster.change(0, add=[3, 4], remove=[0, 1])
    cluster.run(SECOND)
    assert cluster.configuration(3) == Configuration([2, 3, 4])
    cluster.crash(4)
    cluster.crash(0)
    cluster.crash(1)
    cluster.heal()
    cluster.run(4 * SECOND)
    assert cluster.led() == [3]
    assert cluster.configuration(2) == Configuration([2, 3, 4])


def test_who_asks_is_told_the_present_members() -> None:
    cluster = begun()
    cluster.change(0, remove=[2])
    cluster.beat()
    effects = cluster.inject("bob", 1, ConfigurationQuestion(0))
    assert isinstance(effects[0], Reply)
    answer = effects[0].message
    assert isinstance(answer, ConfigurationAnswer)
    assert [one.ids for one in answer.claimed] == [(0, 1)]
    assert cluster.inject("bob", 1, ConfigurationQuestion(1)) == [Reply("bob", ConfigurationAnswer(1))]


# ------------------------------------------------------------------------------------------- pause, change and resume


def test_what_is_asked_while_all_are_paused_waits_and_the_members_change_meanwhile() -> None:
    """What was ordered is finished; whoever leads then has what clients ask again."""
    cluster = begun()
    cluster.isolate(0)
    cluster.submit(0, "ann", 1)
    for node in range(3):
        cluster.command(node, "pause")
    cluster.heal()
    cluster.submit(0, "ann", 2)
    cluster.run(SECOND)
    assert cluster.done("ann", 1)
    assert not cluster.done("ann", 2)
    assert cluster.servers[0].replica.status().detail["paused"] == 1
    cluster.add(3)
    cluster.change(0, add=[3], remove=[0])
    cluster.beat()
    (leader,) = cluster.led()
    assert cluster.epoch(leader).voters == (1, 2, 3)
    cluster.submit(leader, "ann", 2)
    cluster.submit(leader, "ann", 3)
    cluster.run(SECOND)
    assert not cluster.done("ann", 2)
    for node in (1, 2, 3):
        cluster.command(node, "resume")
    cluster.settle()
    assert [len(cluster.done("ann", timestamp)) for timestamp in (2, 3)] == [1, 1]


def test_a_paused_leader_is_bounded_and_one_that_is_started_again_is_not_paused() -> None:
    cluster = begun(1, {"pending_requests_max": 2})
    cluster.command(0, "pause")
    for timestamp in range(1, 4):
        cluster.submit(0, "ann", timestamp)
    assert [reply.answer for reply in cluster.replies["ann", 3]] == [Answer.OVERLOADED]
    cluster.restart(0)
    cluster.submit(0, "ann", 1)
    assert cluster.done("ann", 1)


# ------------------------------------------------------------------------------------------------- at whatever moment


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("step", range(0, 60, 3))
def test_a_leader_that_crashes_at_any_step_leaves_a_change_that_is_brought_to_its_end(
    step: int, restarted: bool
) -> None:
    cluster = begun()
    cluster.add(3, 4)
    cluster.change(0, add=[3, 4], remove=[0])
    for _ in range(step):
        if cluster.network:
            cluster.deliver()
    crashed = [0] if not restarted else list(cluster.servers)
    for node in crashed:
        cluster.crash(node)
    cluster.network.clear()
    for node in crashed if restarted else ():
        cluster.start(node)
    cluster.run(6 * SECOND)
    leader = cluster.led()[-1]
    if step == 0 and not restarted:
        assert cluster.epoch(leader).epoch == 0, "nobody has heard of it"
        return
    assert cluster.epoch(leader).voters == (1, 2, 3, 4)
    assert cluster.configuration(leader) == Configuration([1, 2, 3, 4])
    cluster.check_logs()


def test_from_one_server_to_three_others_and_back_to_one() -> None:
    """Several at once; ids are as they come."""
    cluster = Changing(1)
    cluster.run(SECOND)
    cluster.add(1, 2, 3)
    cluster.change(0, add=[1, 2, 3], remove=[0])
    cluster.beat(SECOND)
    leader = cluster.led()[0]
    assert cluster.epoch(leader).voters == (1, 2, 3)
    cluster.change(leader, remove=[1, 2])
    cluster.beat(SECOND)
    assert cluster.epoch(3).voters == (3,)
    cluster.run(2 * SECOND)
    assert cluster.led() == [3]
    cluster.submit(3, "ann", 1)
    cluster.settle()
    assert cluster.done("ann", 1)
    cluster.restart(3)
    assert cluster.core(3).role is Role.LEADER, "from its disk: the only voter"


def test_what_concludes_a_change_is_executed_once_over_restarts() -> None:
    cluster = begun()
    cluster.change(0, remove=[2])
    cluster.beat()
    cluster.restart(1)
    cluster.submit(0, "ann", 1)
    cluster.beat()
    assert cluster.epoch(1) == cluster.epoch(0)
    assert [effect for effect in cluster.submit(0, "ann", 2) if isinstance(effect, Apply)] == []
