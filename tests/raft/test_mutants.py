"""The tests must be able to fail: each broken core fails the test of the rule that it breaks, and chance finds most."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from raft import RaftCore
from tests.raft import chance, mutants
from tests.raft import test_elections as elections
from tests.raft import test_figure2 as figure2
from tests.raft import test_replication as replication
from tests.raft import test_snapshots as snapshots

Story = Callable[..., None]
FAILS: list[tuple[type[RaftCore], Story]] = [
    (mutants.VotesTwice, figure2.test_request_vote_2_one_vote_a_term),
    (mutants.VotesForAnyLog, elections.test_5_4_1_a_server_that_is_behind_cannot_win),
    (
        mutants.ComparesLengthOnly,
        partial(figure2.test_request_vote_2_only_for_a_log_as_up_to_date, last=(9, 1), granted=False),
    ),
    (mutants.ForgetsItsVote, figure2.test_state_term_and_vote_are_on_disk_before_a_vote_leaves),
    (mutants.CountsMessages, figure2.test_candidates_count_each_voter_once),
    (mutants.CountsOldVotes, figure2.test_candidates_count_votes_of_their_term_only),
    (mutants.CountsPreVotes, elections.test_a_reply_to_a_pre_vote_is_no_vote),
    (mutants.CommitsOldTerms, replication.test_figure_8_an_entry_of_an_older_term_is_not_committed_by_counting),
    (mutants.CutsMatchingSuffix, figure2.test_append_entries_3_no_conflict_deletes_nothing),
    (mutants.CommitsUnverified, figure2.test_append_entries_5_only_what_this_message_verified),
    (mutants.AppliesBeforeCommit, figure2.test_all_servers_nothing_is_applied_before_it_is_committed),
    (mutants.AcknowledgesBeforeDisk, figure2.test_state_entries_are_on_disk_before_the_acknowledgement),
    (
        mutants.CutsCommitted,
        partial(figure2.test_a_committed_entry_is_never_cut, figure2.append(2, (2, 2), [], leader=2)),
    ),
    (mutants.CountsReplicas, figure2.test_leaders_commit_what_a_majority_has),
    (mutants.MatchIndexFalls, figure2.test_leaders_old_replies_move_nothing_back),
    (mutants.BelievesLateRejections, figure2.test_leaders_old_replies_move_nothing_back),
    (mutants.CountsOldReplies, figure2.test_leaders_replies_of_an_older_term_count_for_nothing),
    (mutants.BeginsWithoutNoOp, figure2.test_leaders_begin_their_term_with_a_no_op),
    (
        mutants.KeepsConflictingSuffix,
        snapshots.test_13_6_and_7_what_follows_the_snapshot_is_kept_only_if_its_entry_is_there,
    ),
    (mutants.AcknowledgesUnsavedState, snapshots.test_nothing_is_acknowledged_on_a_state_that_is_not_on_disk),
    (mutants.TrimsItsVote, snapshots.test_what_must_stay_is_written_anew_before_the_prefix_is_cut),
]


@pytest.mark.parametrize(("core", "story"), FAILS, ids=[core.__name__ for core, _ in FAILS])
def test_the_rule_it_breaks_notices(core: type[RaftCore], story: Story) -> None:
    story(core=RaftCore)
    with pytest.raises((AssertionError, ValueError, IndexError)):
        story(core=core)


FOUND_BY_CHANCE = [
    mutants.VotesTwice,
    mutants.VotesForAnyLog,
    mutants.CountsMessages,
    mutants.CountsPreVotes,
    mutants.CommitsUnverified,
    mutants.AppliesBeforeCommit,
    mutants.AcknowledgesBeforeDisk,
    mutants.CountsReplicas,
    mutants.BeginsWithoutNoOp,
    mutants.TrimsItsVote,
]


@pytest.mark.parametrize("core", FOUND_BY_CHANCE, ids=lambda core: core.__name__)
def test_chance_finds_it(core: type[RaftCore]) -> None:
    """Within 60 seeds, by the promises of figure 3, the invariants and the end of the schedule alone."""
    with pytest.raises((AssertionError, ValueError, IndexError)):
        run_many(60, core)


def run_many(seeds: int, core: type[RaftCore]) -> None:
    for seed in range(seeds):
        chance.run(seed, n=(3, 5)[seed % 2], core=core)
