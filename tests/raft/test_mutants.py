"""The tests must be able to fail: each broken core fails the test of the rule that it breaks, and chance finds most.

It must fail at the promise, not before: a core that only trips the harness proves nothing. So each row says which
statement of the test must not hold, or which promise of figure 3, and nothing but an assertion counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from raft import RaftCore
from tests.raft import chance, mutants
from tests.raft import test_elections as elections
from tests.raft import test_figure2 as figure2
from tests.raft import test_membership as membership
from tests.raft import test_move as move
from tests.raft import test_partitions as partitions
from tests.raft import test_reads as reads
from tests.raft import test_replication as replication
from tests.raft import test_snapshots as snapshots
from tests.raft import test_witness as witness

Story = Callable[..., None]
FAILS: list[tuple[type[RaftCore], Story, str]] = [
    (mutants.VotesTwice, figure2.test_request_vote_2_one_vote_a_term, "assert not voted("),
    (mutants.VotesForAnyLog, elections.test_5_4_1_a_server_that_is_behind_cannot_win, "role is not Role.LEADER"),
    (
        mutants.ComparesLengthOnly,
        partial(figure2.test_request_vote_2_only_for_a_log_as_up_to_date, last=(9, 1), granted=False),
        "vote_granted is granted",
    ),
    (mutants.ForgetsItsVote, figure2.test_state_term_and_vote_are_on_disk_before_a_vote_leaves, "voted_for) == (5, 1)"),
    (mutants.CountsMessages, figure2.test_candidates_count_each_voter_once, "role is Role.CANDIDATE"),
    (mutants.CountsOldVotes, figure2.test_candidates_count_votes_of_their_term_only, "role is Role.CANDIDATE"),
    (mutants.CountsPreVotes, elections.test_a_reply_to_a_pre_vote_is_no_vote, "role is Role.CANDIDATE"),
    (
        mutants.HearsNoLeader,
        elections.test_9_6_a_pre_vote_is_refused_while_a_leader_is_heard,
        "PreVoteReply(1, 2, False)",
    ),
    (
        mutants.HearsNoLeader,
        elections.test_6_a_vote_is_ignored_while_a_leader_is_heard,
        "isinstance(effect, (Send, Persist))",
    ),
    (
        mutants.ForgetsWhomItHeard,
        partitions.test_a_later_term_told_by_the_way_does_not_end_loyalty,
        "== (7, NOBODY)",
    ),
    (
        mutants.CountsAnswersToOlderTerms,
        reads.test_8_an_answer_to_an_older_term_confirms_no_round_of_this_one,
        "values(cluster, 1) == []",
    ),
    (
        mutants.StaysLoyalInOlderTermsOnly,
        reads.test_6_4_1_a_vote_for_the_own_term_waits_for_the_end_of_loyalty_too,
        'not cluster.done("ann", 2)',
    ),
    (
        mutants.StandsAloneAtOnce,
        reads.test_6_4_1_the_only_voter_waits_after_its_restart_too,
        'not cluster.done("ann", 2)',
    ),
    (
        mutants.FollowsWhoIsGone,
        membership.test_a_learner_that_is_cut_off_knows_of_no_leader,
        '== ("learner", NOBODY, False)',
    ),
    (
        mutants.PreVotesForAnyLog,
        partial(elections.test_9_6_a_pre_vote_is_refused_for_an_old_term_or_log, term=4, last=(9, 2)),
        "PreVoteReply(3, term, False)",
    ),
    (
        mutants.PreVotesInAnyTerm,
        partial(elections.test_9_6_a_pre_vote_is_refused_for_an_old_term_or_log, term=3, last=(9, 9)),
        "PreVoteReply(3, term, False)",
    ),
    (mutants.LeadsAlone, elections.test_6_2_a_leader_that_hears_no_majority_steps_down, "role is not Role.LEADER"),
    (
        mutants.CommitsOldTerms,
        replication.test_figure_8_an_entry_of_an_older_term_is_not_committed_by_counting,
        "Leader Completeness",
    ),
    (mutants.CutsMatchingSuffix, figure2.test_append_entries_3_no_conflict_deletes_nothing, "terms_of(0) == [1, 1, 1]"),
    (mutants.CommitsUnverified, figure2.test_append_entries_5_only_what_this_message_verified, "commit_index == 2"),
    (
        mutants.AppliesBeforeCommit,
        figure2.test_all_servers_nothing_is_applied_before_it_is_committed,
        "isinstance(effect, Apply)] == [1]",
    ),
    (
        mutants.AcknowledgesBeforeDisk,
        figure2.test_state_entries_are_on_disk_before_the_acknowledgement,
        "kinds == [Persist, Persist, Send]",
    ),
    (
        mutants.CutsCommitted,
        partial(figure2.test_a_committed_entry_is_never_cut, figure2.append(2, (2, 2), [], leader=2)),
        "contradicts the committed entry",
    ),
    (mutants.CountsReplicas, figure2.test_leaders_commit_what_a_majority_has, "commit_index == 1"),
    (mutants.MatchIndexFalls, figure2.test_leaders_old_replies_move_nothing_back, "== before"),
    (mutants.BelievesLateRejections, figure2.test_leaders_old_replies_move_nothing_back, "== before"),
    (
        mutants.BelievesRejectionsOfWhatItDidNotAsk,
        replication.test_a_rejection_of_what_was_sent_before_the_leader_went_back_is_late,
        "(Mode.REPLICATE, before)",
    ),
    (
        mutants.KeepsWhatItReadOfCutEntries,
        figure2.test_append_entries_3_what_was_read_of_entries_that_are_cut_is_forgotten,
        "requests are kept for held entries only",
    ),
    (
        mutants.AsksWithoutEnd,
        partial(
            replication.test_a_follower_that_lost_what_it_acknowledged_is_told_of_and_asked_by_heartbeats_only,
            busy=True,
        ),
        "messages without end",
    ),
    (
        mutants.StepsBackOneByOne,
        partial(replication.test_figure_7_back_tracking_takes_a_question_a_term, node=6, questions=2),
        "len(rejections) == questions",
    ),
    (
        mutants.SendsWithoutWindow,
        replication.test_a_silent_follower_is_sent_a_window_and_then_heartbeats_only,
        "<= 4 + 1",
    ),
    (
        mutants.StreamsWhileItAsks,
        replication.test_flow_control_goes_from_probe_to_replicate_to_snapshot_and_back,
        "(Mode.PROBE, 0, 0)",
    ),
    (
        mutants.SpeaksBeforeItsWrite,
        figure2.test_leaders_send_before_their_own_write_but_say_committed_only_behind_it,
        'not cluster.done("ann", 1)',
    ),
    (
        mutants.WritesBeforeItSends,
        figure2.test_leaders_send_before_their_own_write_but_say_committed_only_behind_it,
        "len(cluster.network) == 2",
    ),
    (mutants.AppliesAllAtOnce, replication.test_a_long_log_is_applied_in_pieces, "last_applied == 10"),
    (mutants.CountsOldReplies, figure2.test_leaders_replies_of_an_older_term_count_for_nothing, "commit_index < last"),
    (mutants.BeginsWithoutNoOp, figure2.test_leaders_begin_their_term_with_a_no_op, "commit_index == 3"),
    (
        mutants.ReadsBeforeItsTermCommits,
        reads.test_8_a_leader_reads_nothing_before_an_entry_of_its_term_is_committed,
        "values(cluster, 1) == []",
    ),
    (mutants.ReadsUnconfirmed, partial(reads.test_8_a_deposed_leader_reads_nothing, {}), "values(cluster, 1) == []"),
    (
        mutants.CountsAnswersToEarlierRounds,
        reads.test_8_answers_to_a_round_before_the_read_do_not_count,
        "values(cluster, 1) == []",
    ),
    (mutants.BelievesOldIndexes, reads.test_an_answer_to_an_older_question_is_none, "values(cluster, 2) == []"),
    (
        mutants.LeasesTooLong,
        partial(reads.test_6_4_1_no_lease_outlasts_loyalty, 0),
        "values(cluster, 1) == []",
    ),
    (
        mutants.LeasesWithoutDrift,
        partial(reads.test_6_4_1_no_lease_outlasts_loyalty, 100_000),
        "values(cluster, 1) == []",
    ),
    (
        mutants.VotesRightAfterItsStart,
        reads.test_6_4_1_a_server_that_heard_a_leader_before_its_restart_gives_no_vote_yet,
        'not cluster.done("ann", 2)',
    ),
    (
        mutants.StaysLoyalToAMovingLeader,
        partial(move.test_3_10_the_chosen_server_leads_at_once, n=3, options={}),
        "(leaders(cluster), cluster.now) == ([1], before)",
    ),
    (
        mutants.KeepsTheLeadersWord,
        move.test_3_10_one_whose_candidacy_fails_asks_like_anybody_next_time,
        "{1: False, 2: True, 3: False}",
    ),
    (
        mutants.StandsWithoutAVote,
        partial(move.test_3_10_a_late_word_to_one_that_votes_no_more_comes_to_nothing, learner=True),
        "== ([0], 1)",
    ),
    (
        mutants.ChangesWhileItMoves,
        membership.test_3_10_no_configuration_is_appended_while_the_leadership_moves,
        "== (index, [joint])",
    ),
    (
        mutants.MovesToWhoIsBehind,
        move.test_3_10_a_server_that_is_behind_is_brought_up_to_date_first,
        "cluster.sent_kinds(TimeoutNow) == []",
    ),
    (
        mutants.OrdersWhileItMoves,
        move.test_3_10_requests_wait_meanwhile_and_none_is_lost,
        "log.last_index == 2",
    ),
    (
        mutants.ForgetsWhatWaits,
        move.test_3_10_requests_wait_meanwhile_and_none_is_lost,
        "answers_of(cluster, timestamp) == [(Answer.REDIRECT, 1)]",
    ),
    (
        mutants.NeverGivesUpAMove,
        move.test_3_10_it_is_given_up_after_an_election_time_out_and_the_leader_goes_on,
        'cluster.done("ann", 2)',
    ),
    (mutants.KeepsItsMove, move.test_r27_a_move_ends_with_the_term, 'cluster.done("ann", 2)'),
    (mutants.LeasesWhileItMoves, move.test_3_10_while_it_moves_there_is_no_lease, "values(cluster, 1) == []"),
    (mutants.TransfersWithoutEnd, snapshots.test_a_transfer_without_progress_is_given_up, "for note in abandoned[:1]]"),
    (mutants.SnapshotsBySizeOnly, snapshots.test_7_a_snapshot_is_taken_of_what_is_old_too, "== [4, 4, 4]"),
    (
        mutants.KeepsConflictingSuffix,
        snapshots.test_13_6_and_7_what_follows_the_snapshot_is_kept_only_if_its_entry_is_there,
        "terms_of(0) == kept",
    ),
    (mutants.InstallsOlderState, snapshots.test_13_5_an_older_snapshot_is_ignored, "isinstance(effect, Restore)"),
    (mutants.LeadsAlone, snapshots.test_no_snapshot_is_sent_anew_to_who_is_heard_no_more, "len(given_up) == 1"),
    (
        mutants.PutsChunksTogetherAsTheyCome,
        snapshots.test_13_chunks_that_are_lost_or_out_of_order_are_asked_for_again,
        'note.kind == "nonsense"',
    ),
    (
        mutants.AnswersOldSnapshotsAsItsOwn,
        snapshots.test_13_an_answer_to_a_snapshot_of_an_older_term_is_none_to_this_one,
        "it is asked again no later",
    ),
    (
        mutants.CountsOldSnapshotReplies,
        snapshots.test_13_a_reply_of_an_older_term_counts_for_nothing,
        "match_index < last",
    ),
    (
        mutants.AcknowledgesUnsavedState,
        snapshots.test_nothing_is_acknowledged_on_a_state_that_is_not_on_disk,
        "isinstance(message, AppendReply)] == [0]",
    ),
    (
        mutants.TrimsItsVote,
        snapshots.test_what_must_stay_is_written_anew_before_the_prefix_is_cut,
        "listed == [Persist(HardState(1, 0), 4)",
    ),
    (
        mutants.CountsFromTheCommit,
        membership.test_6_a_configuration_counts_from_when_it_is_in_the_log,
        "cluster.led() == []",
    ),
    (
        mutants.ElectsWithOneMajority,
        membership.test_6_a_candidate_of_c_old_new_needs_both_majorities,
        "cluster.led() == []",
    ),
    (
        mutants.CommitsWithTheNewMajority,
        partial(membership.test_6_an_entry_of_c_old_new_needs_both_majorities, (3, 4, 5)),
        "commit_index < JOINT",
    ),
    (
        mutants.CommitsWithTheOldMajority,
        partial(membership.test_6_an_entry_of_c_old_new_needs_both_majorities, (1, 2)),
        "commit_index < JOINT",
    ),
    (
        mutants.GoesOnBeforeTheCommit,
        membership.test_6_c_new_waits_for_the_commit_of_c_old_new,
        "configurations(0)[1:] == [ALL_NEW]",
    ),
    (
        mutants.ChangesBeforeItsTermCommits,
        membership.test_r17_no_configuration_before_an_entry_of_the_own_term_is_committed,
        "cluster.configurations(1) ==",
    ),
    (
        mutants.KeepsACutConfiguration,
        membership.test_r18_a_configuration_that_is_cut_off_counts_no_more,
        "the configurations are those of the entries",
    ),
    (
        mutants.StandsInItsLatestAlone,
        membership.test_4_2_2_a_server_that_only_its_own_last_entry_leaves_out_stands_all_the_same,
        "cluster.epoch(1).voters == (1, 2, 3)",
    ),
    (
        mutants.StaysLeader,
        partial(membership.test_r20_a_leader_that_is_not_in_c_new_manages_until_it_is_committed, {}),
        "cluster.led() != [0]",
    ),
    (
        mutants.LeavesWithTheEntry,
        partial(membership.test_r20_a_leader_that_is_not_in_c_new_manages_until_it_is_committed, {}),
        "cluster.led() == [0]",
    ),
    (
        mutants.CountsItselfOutside,
        membership.test_r20_a_leader_that_is_not_in_c_new_does_not_count_itself,
        "commit_index < NEW",
    ),
    (
        mutants.PromotesAtOnce,
        membership.test_r21_newcomers_follow_without_a_vote_until_they_have_caught_up,
        'cluster.done("ann", 6)',
    ),
    (
        mutants.WaitsForNewcomersForEver,
        partial(membership.test_4_2_1_a_newcomer_that_does_not_catch_up_is_given_up, {"catch_up_us": 2_000_000}),
        "configuration(0) == Configuration([0, 1, 2])",
    ),
    (
        mutants.WaitsThoughItIsGivenUp,
        membership.test_an_operator_gives_up_a_change_whose_newcomer_never_comes,
        "(present.epoch, present.ids, present.next_id) == (1, (0, 1, 2), 4)",
    ),
    (
        mutants.GivesUpTheNextChangeAsWell,
        membership.test_an_operator_gives_up_a_change_whose_newcomer_never_comes,
        "the next change is waited for as ever",
    ),
    (
        mutants.AsksAfterItsRemoval,
        partial(membership.test_4_2_3_a_removed_server_disrupts_nobody_and_learns_of_it, lost=False),
        'cluster.role(2) == "removed"',
    ),
    (
        mutants.ForgetsTheConfiguration,
        membership.test_a_newcomer_far_behind_is_given_the_state_and_the_configuration,
        "configuration(3) == Configuration([0, 1], [], [3])",
    ),
    (
        mutants.VotesWithAnOldDisk,
        partial(witness.test_r28_an_old_copy_gives_no_vote_to_one_that_lacks_what_it_had_acknowledged, archive="old"),
        "Leader Completeness",
    ),
    (
        mutants.VotesBeforeItIsTold,
        witness.test_r28_nobody_votes_before_it_has_been_told,
        "it voted and was told nothing yet",
    ),
    (
        mutants.ForgetsWhatItWitnessed,
        witness.test_r28_what_is_known_outlasts_restarts_of_all,
        "[False, True, False]",
    ),
    (
        mutants.ForgetsWhatItWitnessed,
        witness.test_r28_that_it_may_not_vote_outlasts_restarts,
        "assert lost(cluster, 1)",
    ),
    (
        mutants.TakesNewPromisesForLost,
        witness.test_what_was_promised_since_the_start_is_nothing_lost,
        "assert not lost(cluster, 1)",
    ),
]
"""Core, test, and what stands in the statement that must not hold."""


@pytest.mark.parametrize(("core", "story", "promise"), FAILS, ids=[core.__name__ for core, _, _ in FAILS])
def test_the_rule_it_breaks_notices(core: type[RaftCore], story: Story, promise: str) -> None:
    story(core=RaftCore)
    with pytest.raises(AssertionError) as caught:
        story(core=core)
    assert promise in str(caught.traceback[-1].statement), "it failed, but not at the promise"


FOUND_BY_CHANCE = {
    mutants.VotesTwice: "a leader has voted for itself|Election Safety",
    mutants.VotesForAnyLog: "Leader Completeness",
    mutants.CountsMessages: "Leader Completeness",
    mutants.CountsPreVotes: "Election Safety",
    mutants.CommitsUnverified: "State Machine Safety",
    mutants.AppliesBeforeCommit: "Leader Completeness|stale read",
    mutants.AcknowledgesBeforeDisk: "no disk has lost anything",
    mutants.BeginsWithoutNoOp: "never answered",
    mutants.TrimsItsVote: "no entry is of a later term",
    mutants.TakesOldForLost: "no disk has lost anything",
    mutants.ReadsBeforeItsTermCommits: "stale read",
    mutants.BelievesOldIndexes: "stale read",
}


@pytest.mark.parametrize(("core", "promise"), FOUND_BY_CHANCE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_chance_finds_it(core: type[RaftCore], promise: str) -> None:
    """Within 60 seeds, by the promises of figure 3, the invariants and the end of the schedule alone."""
    with pytest.raises(AssertionError, match=promise):
        run_many(60, core)


@pytest.mark.parametrize("core", [mutants.ReadsUnconfirmed, mutants.LeasesTooLong])
def test_chance_finds_what_a_deposed_leader_reads(core: type[RaftCore]) -> None:
    with pytest.raises(AssertionError, match="stale read"):
        read_many(30, core)


def test_chance_finds_who_votes_with_an_old_disk() -> None:
    with pytest.raises(AssertionError, match="Leader Completeness"):
        restore_many(range(20), mutants.VotesWithAnOldDisk)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("core", "first"),
    [(mutants.ElectsWithOneMajority, 100), (mutants.CommitsWithTheNewMajority, 10), (mutants.CountsFromTheCommit, 5)],
)
def test_chance_finds_what_breaks_joint_consensus(core: type[RaftCore], first: int) -> None:
    with pytest.raises(AssertionError, match=r"Safety|Leader Completeness|never answered"):
        split_many(range(first, first + 30), core)


def restore_many(seeds: range, core: type[RaftCore]) -> None:
    for seed in seeds:
        chance.Restoring(seed, core).run(20)


def split_many(seeds: range, core: type[RaftCore]) -> None:
    for seed in seeds:
        chance.Splits(seed, n=(3, 4, 5, 2)[seed % 4], core=core).run(6)


def read_many(seeds: int, core: type[RaftCore]) -> None:
    for seed in range(seeds):
        chance.Reading(seed, n=(3, 5)[seed % 2], core=core).run(20)


def run_many(seeds: int, core: type[RaftCore]) -> None:
    for seed in range(seeds):
        chance.run(seed, n=(3, 5)[seed % 2], core=core)
