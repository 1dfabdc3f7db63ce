"""Recovery is construction: after a crash a server knows what its disk holds. [Raft fig. 2, persistent state]"""

from __future__ import annotations

import pytest

from raft.configuration import Configuration
from raft.log import recover
from raft.messages import Entries, Entry, HardState, LogStart
from replog.core import Stored
from replog.types import NOBODY, Message
from tests.raft.harness import MS, SECOND, Cluster

THREE = Configuration.of(3)


def entries(first: int, terms: list[int], prev_term: int) -> Entries:
    return Entries(first, prev_term, [Entry(term, 0, []) for term in terms])


def recovered(*records: Message, index: int = 0) -> tuple[int, list[int]]:
    _, log = recover(Stored(records, index, bytes(32) if index else b""), THREE)
    log.check_invariants()
    return log.start_index, [log.term(at) for at in range(log.start_index + 1, log.last_index + 1)]


def test_an_empty_disk() -> None:
    hard, log = recover(Stored(), THREE)
    assert hard == HardState(0, NOBODY)
    assert (log.last_index, log.last_term, log.configuration) == (0, 0, THREE)


def test_the_last_term_and_vote_count() -> None:
    hard, _ = recover(Stored((HardState(1, 0), HardState(1, 2), HardState(4, NOBODY))), THREE)
    assert hard == HardState(4, NOBODY)


def test_a_record_replaces_all_from_its_first_entry_on() -> None:
    """A repair of the log is a record like another."""
    assert recovered(entries(1, [1, 1, 1, 1], 0), entries(3, [2], 1)) == (0, [1, 1, 2])
    assert recovered(entries(1, [1, 1], 0), entries(3, [1], 1), entries(2, [3], 1)) == (0, [1, 3])


def test_a_record_that_begins_below_the_start_of_the_log() -> None:
    start = LogStart(2, 1, THREE)
    assert recovered(entries(1, [1, 1, 1, 2], 0), start, index=4) == (2, [1, 2])
    assert recovered(entries(1, [1, 1, 1, 1], 0), entries(1, [1, 1, 3, 3], 0), start, index=4) == (2, [3, 3])


def test_records_of_a_log_that_a_snapshot_has_replaced_are_passed_over() -> None:
    """They conflicted with the snapshot's last entry, whether it is in the same record or in the one before."""
    start = LogStart(3, 2, THREE)
    assert recovered(entries(1, [1, 1, 1, 1, 1], 0), start, index=3) == (3, [])
    assert recovered(entries(1, [1, 1, 1], 0), entries(4, [1, 1], 1), start, index=3) == (3, [])
    assert recovered(entries(1, [1], 0), start, entries(4, [5], 2), index=3) == (3, [5])


def test_entries_that_agree_with_the_snapshot_are_kept() -> None:
    start = LogStart(3, 1, THREE)
    assert recovered(entries(1, [1, 1, 1, 2], 0), start, entries(5, [2], 2), index=3) == (3, [2, 2])


def test_an_installation_that_never_reached_the_disk_is_no_part_of_the_log() -> None:
    start = LogStart(9, 2, THREE)
    assert recovered(entries(1, [1, 1], 0), start, entries(10, [2, 2], 2)) == (0, [1, 1])


def test_the_newest_start_at_or_below_the_saved_state_counts() -> None:
    records = [entries(1, [1] * 9, 0), LogStart(2, 1, THREE), LogStart(5, 1, THREE), LogStart(8, 1, THREE)]
    assert recovered(*records, index=6) == (5, [1] * 4)


def test_a_state_ahead_of_the_log_is_an_error() -> None:
    with pytest.raises(ValueError, match="saved state is at index 7, but the log on disk ends at 2"):
        recovered(entries(1, [1, 1], 0), index=7)


def test_what_was_acknowledged_survives_the_crash_of_all() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    for timestamp in range(1, 6):
        cluster.submit(0, "ann", timestamp)
        cluster.settle()
    for node in range(3):
        cluster.crash(node)
    for node in range(3):
        cluster.start(node)
    cluster.run(5 * SECOND)
    assert all(core.last_applied >= 7 for core in map(cluster.core, range(3)))
    leader = next(node for node in range(3) if cluster.core(node).role.value == "leader")
    cluster.submit(leader, "ann", 3)
    assert len(cluster.done("ann", 3)) == 2
    assert len(set(map(str, cluster.done("ann", 3)))) == 1


def test_what_was_not_synced_is_gone_and_was_never_acknowledged() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.by_hand = True
    cluster.submit(0, "ann", 1)
    cluster.deliver_to(1)
    assert cluster.core(1).log.last_index == 2
    assert not [packet for packet in cluster.network if packet[0] == 1]
    cluster.crash(1)
    cluster.start(1)
    assert cluster.core(1).log.last_index == 1


def test_commit_index_is_found_again_by_the_leader() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.settle()
    cluster.restart(1)
    assert cluster.core(1).commit_index == 0
    cluster.run(60 * MS)
    assert cluster.core(1).commit_index == 2
