"""An old copy of a disk is put back under the same id: it is found out, and gives no vote. (HAZARDS R28)

A test that takes `core` is run on deliberately broken cores too (test_mutants.py), and must fail there.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from raft import RaftCore
from raft.election import Role
from raft.messages import Acknowledged, Known, PreVote, RequestVote, Returned, VoteReply
from raft.witness import TERMS_MAX
from tests.plug import Disk
from tests.raft.changing import begun
from tests.raft.harness import MS, SECOND, Cluster

WATCHFUL = {"witness": True}


def watchful(n: int = 5, core: type[RaftCore] = RaftCore, **options: Any) -> Cluster:
    """Server 0 leads, all have answered each other, and an entry is everywhere."""
    cluster = Cluster(n, WATCHFUL | options, core)
    cluster.run(600 * MS)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.run(2 * SECOND)
    return cluster


def put_back(cluster: Cluster, node: int, archive: Disk) -> None:
    """`node` starts with a disk of former times."""
    cluster.crash(node)
    cluster.disks[node] = copy.deepcopy(archive)
    cluster.start(node)


def lost(cluster: Cluster, node: int) -> bool:
    return cluster.core(node).witness.lost is not None


def notes(cluster: Cluster, kind: str) -> list[int]:
    return [node for node, note in cluster.notes if note.kind == kind]


# ------------------------------------------------------------------------------------------------------------- safety


def forgetful(core: type[RaftCore], archive: str = "old") -> Cluster:
    """0, 1 and 2 of five commit an entry while 3 and 4 are cut off; then 0 is gone for good, and the disk of 1 is an
    old copy, or empty. 3, which lacks the entry, stands first: with the votes of 1 and 4 it would lead."""
    cluster = watchful(5, core)
    old = copy.deepcopy(cluster.disks[1]) if archive == "old" else Disk()
    cluster.only(0, 1, 2)
    cluster.submit(0, "ann", 2, amount=7)
    cluster.run(1500 * MS)
    assert cluster.done("ann", 2)
    cluster.crash(0)
    cluster.heal()
    put_back(cluster, 1, old)
    cluster.settle()
    return cluster


@pytest.mark.parametrize("archive", ["old", "empty"])
def test_r28_an_old_copy_gives_no_vote_to_one_that_lacks_what_it_had_acknowledged(
    core: type[RaftCore], archive: str
) -> None:
    cluster = forgetful(core, archive)
    cluster.now += 700 * MS
    cluster.fire(3)
    cluster.settle()
    assert cluster.core(3).role is not Role.LEADER
    cluster.run(5 * SECOND)
    leader = next(node for node in (2, 3, 4) if cluster.core(node).role is Role.LEADER)
    assert leader == 2, "it alone of those that may vote has all that is committed"
    assert lost(cluster, 1)
    cluster.check_logs()


def test_r28_who_is_found_out_says_so_and_never_votes_or_stands() -> None:
    cluster = forgetful(RaftCore)
    status = cluster.core(1).status()
    assert status.role == "no vote"
    assert "an old copy of the disk: this server had promised up to index 3 in term 1" in status.reason
    assert notes(cluster, "old-disk") == [1]
    for message in (RequestVote(9, 3, 99, 9), PreVote(9, 3, 99, 9)):
        before = len(cluster.sent)
        cluster.inject(3, 1, message)
        assert len(cluster.sent) == before, "as if it had not come"
    cluster.isolate(1)
    cluster.run(5 * SECOND)
    assert cluster.core(1).role is Role.FOLLOWER
    assert cluster.core(1).current_term == 1


def test_r28_that_it_may_not_vote_outlasts_restarts(core: type[RaftCore]) -> None:
    cluster = forgetful(core)
    cluster.isolate(1)
    cluster.restart(1)
    cluster.run(SECOND)
    assert lost(cluster, 1)


def test_r28_nobody_votes_before_it_has_been_told(core: type[RaftCore]) -> None:
    """A request for its vote comes first; the answers come after."""
    cluster = watchful(3, core)
    put_back(cluster, 1, Disk())
    cluster.drop(0, 2)
    before = len(cluster.sent_kinds(VoteReply))
    cluster.inject(2, 1, RequestVote(9, 2, 99, 9))
    assert len(cluster.sent_kinds(VoteReply)) == before, "it voted and was told nothing yet"
    cluster.run(700 * MS)
    assert lost(cluster, 1)


def test_r28_what_is_known_outlasts_restarts_of_all(core: type[RaftCore]) -> None:
    """All stop, an old copy is put in place of one disk, all start."""
    cluster = watchful(3, core)
    archive = copy.deepcopy(cluster.disks[1])
    cluster.submit(0, "ann", 2)
    cluster.run(1500 * MS)
    for node in range(3):
        cluster.crash(node)
    cluster.disks[1] = archive
    for node in range(3):
        cluster.start(node)
    cluster.run(2 * SECOND)
    assert [lost(cluster, node) for node in range(3)] == [False, True, False]
    assert {cluster.core(node).role for node in (0, 2)} == {Role.LEADER, Role.FOLLOWER}


def test_r28_what_is_known_outlasts_the_cut_of_the_log() -> None:
    cluster = watchful(3, snapshot_entries=4, log_tail=1)
    archive = copy.deepcopy(cluster.disks[1])
    for timestamp in range(2, 12):
        cluster.submit(0, "ann", timestamp)
        cluster.run(1100 * MS)
    before = cluster.core(2).witness.known
    assert before[1][1] > 8
    cluster.restart(2)
    assert cluster.core(2).witness.known == before
    put_back(cluster, 1, archive)
    cluster.settle()
    assert lost(cluster, 1)
    cluster.restart(1)
    assert lost(cluster, 1)


def test_r28_a_vote_that_is_forgotten_is_found_out_by_the_candidate() -> None:
    """The disk is of a term before: it would give the vote of that term twice."""
    cluster = Cluster(3, WATCHFUL)
    cluster.settle()
    archive = copy.deepcopy(cluster.disks[1])
    cluster.elect_silently(0)
    cluster.settle()
    cluster.core(0).witness.known.pop(2, None)
    assert cluster.core(0).witness.known == {1: (1, 0)}
    put_back(cluster, 1, archive)
    cluster.settle()
    assert lost(cluster, 1)


# --------------------------------------------------------------------------------------------------- honest disks


def test_an_honest_disk_is_never_taken_for_an_old_one() -> None:
    """Each restarts many times, under load, and answers are late: what it promised since it started does not count."""
    cluster = watchful(3, snapshot_entries=5, log_tail=2)
    for timestamp in range(2, 40):
        node = timestamp % 3
        cluster.restart(node)
        held, cluster.network = cluster.network, []
        cluster.run(900 * MS)
        leader = next(node for node in range(3) if cluster.core(node).role is Role.LEADER)
        cluster.submit(leader, "ann", timestamp)
        cluster.run(1200 * MS)
        cluster.network += held
        cluster.settle()
    assert not notes(cluster, "old-disk")


def test_what_was_promised_since_the_start_is_nothing_lost(core: type[RaftCore]) -> None:
    cluster = watchful(3, core)
    cluster.restart(1)
    cluster.drop(0, 2)
    began = cluster.core(1).witness.present
    cluster.submit(0, "ann", 2)
    cluster.settle()
    assert cluster.core(1).witness.present > began
    cluster.run(700 * MS)
    assert not lost(cluster, 1)


def test_votes_wait_no_longer_than_an_election_time_out_for_who_does_not_answer() -> None:
    cluster = watchful(3)
    cluster.crash(2)
    cluster.restart(1)
    cluster.settle()
    assert not cluster.core(1).witness.may_vote(cluster.now)
    cluster.run(600 * MS)
    assert cluster.core(1).witness.may_vote(cluster.now)
    cluster.crash(0)
    cluster.start(2)
    cluster.run(5 * SECOND)
    assert {cluster.core(node).role for node in (1, 2)} == {Role.LEADER, Role.FOLLOWER}


def test_who_does_not_answer_for_long_is_asked_on_and_answers_when_it_is_back() -> None:
    cluster = watchful(3)
    archive = copy.deepcopy(cluster.disks[1])
    cluster.submit(0, "ann", 2)
    cluster.run(1500 * MS)
    cluster.crash(0)
    cluster.crash(2)
    put_back(cluster, 1, archive)
    cluster.run(10 * SECOND)
    assert not lost(cluster, 1)
    cluster.start(2)
    cluster.run(700 * MS)
    assert lost(cluster, 1)


def test_what_is_remembered_of_one_s_own_promises_is_bounded() -> None:
    cluster = watchful(3)
    cluster.isolate(1)
    cluster.restart(1)
    witness = cluster.core(1).witness
    for term in range(2, TERMS_MAX + 10):
        witness.promised(term, 0)
    assert witness.on_known(0, Known(10**6, 1)) == []


def test_a_leader_tells_only_what_has_changed_and_only_its_followers_believe_it() -> None:
    cluster = watchful(3)
    before = len(cluster.sent_kinds(Acknowledged))
    cluster.run(5 * SECOND)
    assert len(cluster.sent_kinds(Acknowledged)) == before
    cluster.inject(2, 1, Acknowledged(cluster.core(1).current_term, {0: 10**6}))
    assert cluster.core(1).witness.known[0][1] < 10**6


def test_without_a_witness_nobody_asks_and_what_was_found_out_is_forgotten() -> None:
    cluster = forgetful(RaftCore)
    cluster.options = cluster.options.model_copy(update={"witness": False})
    before = len(cluster.sent_kinds(Returned))
    cluster.restart(1)
    assert not lost(cluster, 1)
    assert len(cluster.sent_kinds(Returned)) == before


# ------------------------------------------------------------------------------------------------------- afterwards


def test_what_it_lost_is_sent_again_and_its_acknowledgements_count() -> None:
    """They are true: it has what it says. With its disk two of three are a majority for entries, never for votes."""
    cluster = watchful(3)
    archive = copy.deepcopy(cluster.disks[1])
    cluster.submit(0, "ann", 2)
    cluster.run(1500 * MS)
    put_back(cluster, 1, archive)
    cluster.isolate(2)
    cluster.run(200 * MS)
    cluster.submit(0, "ann", 3)
    cluster.run(200 * MS)
    assert cluster.done("ann", 3)
    assert lost(cluster, 1)
    assert cluster.terms_of(1) == cluster.terms_of(0)


def test_r28_made_a_learner_and_promoted_it_votes_again() -> None:
    cluster = begun(options=WATCHFUL | {"heartbeat_us": 50_000})
    cluster.run(2 * SECOND)
    archive = copy.deepcopy(cluster.disks[1])
    cluster.change(0, add=[], remove=[], learners=[2])
    cluster.run(3 * SECOND)
    put_back(cluster, 1, archive)
    cluster.run(2 * SECOND)
    assert lost(cluster, 1)
    cluster.change(0, add=[], remove=[], learners=[1, 2])
    cluster.run(2 * SECOND)
    assert not lost(cluster, 1)
    assert notes(cluster, "old-disk-forgiven") == [1]
