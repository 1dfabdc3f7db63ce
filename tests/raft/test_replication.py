"""Repair of logs, and what may be committed. [Raft 5.3, 5.4.2, figures 7 and 8]"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raft import RaftCore
from raft.configuration import Configuration
from raft.election import Role
from raft.log import Log
from raft.messages import AppendEntries, AppendReply, Entry, LogStart
from raft.replication import Mode
from replog.core import Send
from tests.raft.harness import MS, SECOND, Cluster, Disk, Packet
from tests.raft.test_figure2 import PLAIN, append, entry

FIGURE_7 = {
    "leader": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


def figure_7(core: type[RaftCore] = RaftCore) -> Cluster:
    cluster = Cluster(7, PLAIN, core, logs=dict(enumerate(FIGURE_7.values())))
    cluster.inject(4, 0, AppendEntries(7, 4, 99, 7, [], 0, 0))
    cluster.network.clear()
    return cluster


def test_figure_7_all_six_followers_are_repaired() -> None:
    cluster = figure_7()
    cluster.elect(0)
    cluster.run(200 * MS)
    wanted = [*FIGURE_7["leader"], 8]
    assert {name: cluster.terms_of(node) for node, name in enumerate(FIGURE_7)} == dict.fromkeys(FIGURE_7, wanted)
    assert all(cluster.core(node).commit_index == 11 for node in range(7))
    assert cluster.check_logs() > 200


def test_figure_7_c_and_d_do_not_vote_for_this_leader() -> None:
    cluster = figure_7()
    cluster.elect(0)
    assert [cluster.core(node).voted_for for node in range(7)] == [0, 0, 0, -1, -1, 0, 0]


@pytest.mark.parametrize(("node", "questions"), [(1, 1), (2, 1), (3, 0), (4, 0), (5, 2), (6, 2)])
def test_figure_7_back_tracking_takes_a_question_a_term(node: int, questions: int, core: type[RaftCore]) -> None:
    """[Raft 5.3] Not one an entry: f has eight entries of two terms that the leader never had."""
    cluster = figure_7(core)
    cluster.elect(0)
    rejections = [send for send in cluster.sent_kinds(AppendReply) if send.node == node and not send.message.success]
    assert len(rejections) == questions


def stand(cluster: Cluster, node: int) -> None:
    """Let `node` time out, again and again, until it wins."""
    for _ in range(5):
        if cluster.core(node).role is not Role.LEADER:
            cluster.now += SECOND
            cluster.servers[node].timers["election"] = cluster.now
            cluster.fire(node)
            cluster.settle()
    assert cluster.core(node).role is Role.LEADER


def figure_8(core: type[RaftCore] = RaftCore) -> Cluster:
    """As far as (c): the entry of term 2 is on a majority under the leader of term 4."""
    cluster = Cluster(5, {**PLAIN, "append_entries_max": 1}, core=core, logs={node: [1] for node in range(5)})

    def among(nodes: set[int], stop: Callable[[int, AppendEntries], bool]) -> None:
        def lost(packet: Packet) -> bool:
            message = cluster.decode(packet)
            return not {packet[0], packet[1]} <= nodes or (
                isinstance(message, AppendEntries) and stop(packet[1], message)
            )

        cluster.blocked = lost

    cluster.title("(a) node 0 leads term 2 and gives entry 2 to node 1 only")
    among({0, 1, 2}, lambda to, message: to == 2)
    stand(cluster, 0)
    assert [cluster.terms_of(node) for node in range(5)] == [[1, 2], [1, 2], [1], [1], [1]]
    cluster.title("(b) node 0 crashes; node 4 leads term 3 by nodes 2 and 3 and has another entry 2")
    cluster.crash(0)
    among({2, 3, 4}, lambda to, message: True)
    stand(cluster, 4)
    assert cluster.terms_of(4) == [1, 3]
    cluster.title("(c) node 4 crashes; node 0 leads term 4 by nodes 1 and 2 and gives entry 2 to node 2")
    cluster.crash(4)
    cluster.start(0)
    among({0, 1, 2}, lambda to, message: any(entry.term == 4 for entry in message.entries))
    stand(cluster, 0)
    cluster.servers[1].timers.clear()
    cluster.servers[2].timers.clear()
    cluster.run(120 * MS)
    assert cluster.core(0).current_term == 4
    assert [cluster.terms_of(node) for node in range(3)] == [[1, 2, 4], [1, 2], [1, 2]]
    progress = cluster.core(0).replication.progress
    assert [progress[node].match_index for node in (1, 2)] == [2, 2], "a majority has it"
    return cluster


def test_figure_8_an_entry_of_an_older_term_is_not_committed_by_counting(core: type[RaftCore]) -> None:
    """[Raft 5.4.2] (HAZARDS R8)"""
    cluster = figure_8(core)
    cluster.title("(d) node 0 crashes; node 4 leads by nodes 2 and 3, and its entry 2 is committed")
    cluster.crash(0)
    cluster.start(4)
    cluster.only(2, 3, 4)
    stand(cluster, 4)
    cluster.run(100 * MS)
    assert cluster.core(4).commit_index == 3
    assert cluster.terms[2] == 3
    cluster.heal()
    cluster.run(100 * MS)
    assert cluster.terms_of(1) == cluster.terms_of(4)


def test_figure_8_with_an_entry_of_the_own_term_both_are_committed() -> None:
    """(e)"""
    cluster = figure_8()
    cluster.only(0, 1, 2)
    cluster.run(100 * MS)
    assert cluster.core(0).commit_index == 3
    cluster.crash(0)
    cluster.start(4)
    cluster.heal()
    with pytest.raises(AssertionError):
        stand(cluster, 4)
    stand(cluster, 1)
    cluster.run(100 * MS)
    assert cluster.terms_of(4)[:3] == [1, 2, 4]


# ------------------------------------------------------------------------------------------------------- flow control


def test_a_silent_follower_is_sent_a_window_and_then_heartbeats_only(core: type[RaftCore]) -> None:
    cluster = Cluster(3, {"window": 4}, core)
    cluster.elect(0)
    cluster.isolate(2)
    cluster.blocked = lambda packet: packet[0] == 2
    for timestamp in range(1, 30):
        cluster.submit(0, "ann", timestamp)
        cluster.settle()
    sent = bearing(cluster, 2)
    assert sent <= 4 + 1
    cluster.heal()
    cluster.run(200 * MS)
    assert cluster.terms_of(2) == cluster.terms_of(0)


def bearing(cluster: Cluster, node: int) -> int:
    """AppendEntries with entries that `node` was sent."""
    return sum(1 for send in cluster.sent_kinds(AppendEntries) if node in send.to and send.message.entries)


def test_flow_control_goes_from_probe_to_replicate_to_snapshot_and_back(core: type[RaftCore]) -> None:
    """Nothing is streamed while it is not known where the logs agree; a window once it is; a state where the entry is
    gone, and what follows it then. [Raft 5.3, 7]"""
    options = {"window": 2, "snapshot_entries": 8, "log_tail": 2, "uncommitted_max": 64}
    cluster = Cluster(3, options, core, logs={0: [1, 1, 1], 1: [1, 1, 1], 2: [1]})
    cluster.isolate(2)
    cluster.elect(0)
    progress = cluster.core(0).replication.progress

    def seen() -> tuple[Mode, int, int]:
        return progress[2].mode, progress[2].match_index, len(progress[2].unanswered)

    assert seen() == (Mode.PROBE, 0, 0)
    cluster.sent.clear()
    for timestamp in range(1, 4):
        cluster.submit(0, "ann", timestamp)
    assert bearing(cluster, 2) == 0, "asked by heartbeats only"
    cluster.heal()
    cluster.fire(0, "heartbeat")
    cluster.deliver_to(2)
    cluster.deliver_to(0)
    assert seen() == (Mode.PROBE, 0, 0), "one question more, without entries"
    assert bearing(cluster, 2) == 0
    cluster.deliver_to(2)
    cluster.deliver_to(0)
    assert seen() == (Mode.REPLICATE, 1, 1), "all that lacks, in one message"
    cluster.settle()
    assert seen() == (Mode.REPLICATE, 7, 0)
    cluster.isolate(2)
    for timestamp in range(4, 9):
        cluster.submit(0, "ann", timestamp)
    assert seen() == (Mode.REPLICATE, 7, 2), "a window under way"
    for timestamp in range(9, 25):
        cluster.submit(0, "ann", timestamp)
        cluster.settle()
    cluster.fire(0, "heartbeat")
    assert seen() == (Mode.SNAPSHOT, 7, 0)
    cluster.sent.clear()
    cluster.submit(0, "ann", 25)
    assert bearing(cluster, 2) == 0
    cluster.heal()
    cluster.run(SECOND)
    assert seen() == (Mode.REPLICATE, 29, 0)
    assert cluster.core(2).last_applied == 29


def test_a_lost_message_is_noticed_by_the_next_heartbeat() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.drop(1, 2)
    cluster.run(50 * MS)
    assert cluster.done("ann", 1)


def test_a_rejection_that_comes_late_is_ignored() -> None:
    """Several messages after a lost one are rejected; only the first rejection is news."""
    cluster = Cluster(3)
    cluster.elect(0)
    for timestamp in range(1, 5):
        cluster.submit(0, "ann", timestamp)
    position = next(i for i, packet in enumerate(cluster.network) if packet[1] == 1)
    cluster.network.pop(position)
    cluster.deliver_to(1)
    rejections = [packet for packet in cluster.network if packet[0] == 1]
    assert len(rejections) == 3
    before = len(cluster.sent)
    cluster.deliver_to(0)
    probes = [send for send in cluster.sent[before:] if send.node == 0 and 1 in send.to]
    assert len(probes) == 1
    cluster.settle()
    assert cluster.terms_of(1) == cluster.terms_of(0)


def loses_its_disk(cluster: Cluster, node: int) -> None:
    cluster.crash(node)
    cluster.disks[node] = Disk()
    cluster.start(node)


def losses(cluster: Cluster) -> list[dict[str, object]]:
    return [note.detail for _, note in cluster.notes if note.kind == "lost-entries"]


@pytest.mark.parametrize("busy", [False, True])
def test_a_follower_that_lost_what_it_acknowledged_is_told_of_and_asked_by_heartbeats_only(
    busy: bool, core: type[RaftCore]
) -> None:
    """(HAZARDS R28) The question below match_index is never asked, and the same one twice would go on without end."""
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    for timestamp in range(1, 5):
        cluster.submit(0, "ann", timestamp)
        cluster.settle()
    loses_its_disk(cluster, 2)
    if busy:
        cluster.submit(0, "ann", 5)
    cluster.sent.clear()
    cluster.run(SECOND)
    assert [(loss["node"], loss["acknowledged"], loss["rule"]) for loss in losses(cluster)] == [
        (2, 5, "node 2 lost acknowledged entries")
    ]
    asked = [send for send in cluster.sent_kinds(AppendEntries) if 2 in send.to]
    assert len(asked) <= 20 + 3, "a second of heartbeats, and the questions until it was found out"
    assert cluster.core(2).last_applied == 0
    assert bool(cluster.done("ann", 5)) is busy


def test_a_follower_that_denied_its_entries_and_has_them_again_goes_on() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.settle()
    disk = Disk(list(cluster.disks[2].records))
    loses_its_disk(cluster, 2)
    cluster.run(SECOND)
    assert len(losses(cluster)) == 1
    cluster.crash(2)
    cluster.disks[2] = disk
    cluster.start(2)
    cluster.submit(0, "ann", 2)
    cluster.run(SECOND)
    assert cluster.core(2).last_applied == cluster.core(0).last_applied == 3
    loses_its_disk(cluster, 2)
    cluster.run(SECOND)
    assert [loss["acknowledged"] for loss in losses(cluster)] == [2, 3], "a second loss is told of too"


def test_5_6_a_leader_measures_the_broadcast_time() -> None:
    """From a round of heartbeats to a majority's answers to it; the slowest follower does not count."""
    cluster = Cluster(3)
    cluster.elect(0)

    def measured() -> object:
        return cluster.servers[0].replica.status().detail["broadcast_us"]

    assert measured() == 0
    for delay in (3, 11):
        cluster.fire(0, "heartbeat")
        cluster.now += delay * MS
        cluster.deliver_to(1)
        cluster.deliver_to(0)
        cluster.now += 20 * MS
        cluster.settle()
    assert measured() == 4 * MS, "the first, and an eighth of what the second is longer"
    assert cluster.servers[1].replica.status().detail["broadcast_us"] == 0


def test_a_reply_about_entries_that_do_not_exist_is_refused() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.inject(1, 0, AppendReply(1, True, 9, 10, 0, 0, 0))
    assert cluster.rules(0) == ["match_index = 10 is beyond the leader's log"]
    assert cluster.core(0).commit_index == 1


def test_a_rejection_of_what_was_sent_before_the_leader_went_back_is_late(core: type[RaftCore]) -> None:
    """It streams again, and has not come as far since: the answer is one to an older question (HAZARDS R12)."""
    cluster = Cluster(3, {"window": 1, "append_entries_max": 1}, core)
    cluster.elect(0)
    cluster.run(100 * MS)
    cluster.isolate(1)
    for timestamp in range(1, 6):
        cluster.submit(0, "ann", timestamp, low=timestamp - 1)
        cluster.settle()
    leader = cluster.core(0)
    progress, last = leader.replication.progress[1], leader.log.last_index
    before = progress.next_index
    assert (progress.mode, before < last) == (Mode.REPLICATE, True)
    cluster.inject(1, 0, AppendReply(leader.current_term, False, last, 0, 0, last, 0))
    assert (progress.mode, progress.next_index) == (Mode.REPLICATE, before)


@pytest.mark.parametrize("conflict", [(0, 2**62), (1, 2**62), (9, 2**62)])
def test_5_3_each_question_is_before_the_one_that_it_follows(conflict: tuple[int, int]) -> None:
    """Whatever a follower says is in the way: so they end."""
    cluster = Cluster(3, logs={0: [1, 1, 1, 1], 1: [1], 2: [1]})
    cluster.only(0, 2)
    cluster.elect(0)
    progress = cluster.core(0).replication.progress[1]
    for following in (4, 3, 2, 1):
        cluster.inject(1, 0, AppendReply(2, False, progress.next_index - 1, 0, *conflict, 0))
        assert progress.next_index == following
    cluster.heal()
    cluster.run(SECOND)
    assert cluster.terms_of(1) == cluster.terms_of(0)


def test_a_follower_that_catches_up_streams_in_batches() -> None:
    cluster = Cluster(3, {"append_entries_max": 4, "window": 2})
    cluster.elect(0)
    cluster.isolate(2)
    for timestamp in range(1, 31):
        cluster.submit(0, "ann", timestamp)
        cluster.settle()
    cluster.heal()
    cluster.run(60 * MS)
    progress = cluster.core(0).replication.progress[2]
    assert (progress.mode, progress.match_index) == (Mode.REPLICATE, 31)
    sizes = [len(send.message.entries) for send in cluster.sent_kinds(AppendEntries) if send.to == (2,)]
    assert max(sizes) == 4


@pytest.mark.parametrize(
    "message",
    [
        append(3, (0, 0), [entry(2, 1), entry(1, 2)]),
        append(3, (0, 0), [entry(4, 1)]),
        append(3, (0, 0), [entry(0, 1)]),
        append(3, (2, 3), [entry(2, 3)]),
        append(3, (0, 2), []),
        append(3, (2, 0), []),
        append(3, (2, 4), []),
    ],
)
def test_entries_that_no_leader_sends_are_refused(message: AppendEntries) -> None:
    cluster = Cluster(3)
    effects = cluster.inject(1, 0, message)
    assert not [effect for effect in effects if isinstance(effect, Send)]
    assert len(cluster.rules(0)) == 1
    assert cluster.core(0).current_term == 0


def test_an_entry_that_holds_no_request_is_refused_before_it_is_stored() -> None:
    cluster = Cluster(3)
    cluster.inject(1, 0, append(1, (0, 0), [Entry(1, 0, [b"nonsense"])]))
    assert cluster.terms_of(0) == []
    assert cluster.rules(0)[0].startswith("entry: request:")


def test_a_long_log_is_applied_in_pieces(core: type[RaftCore]) -> None:
    """A server is never kept from its heartbeats for longer than a piece takes."""
    cluster = Cluster(3, {"apply_entries_max": 10}, core)
    cluster.inject(1, 0, append(1, (0, 0), [entry(1, i) for i in range(1, 36)], commit=35))
    assert cluster.core(0).last_applied == 10
    assert cluster.core(0).commit_index == 35
    assert not cluster.servers[0].replica.status().in_sync
    cluster.run(10)
    assert cluster.core(0).last_applied == 35


# --------------------------------------------------------------------------------------------------------- the log


def log_of(terms: list[int], start: LogStart | None = None) -> Log:
    log = Log(start or LogStart(0, 0, Configuration.of(3)))
    for term in terms:
        log.append(Entry(term, 0, []))
    return log


def test_a_configuration_counts_as_soon_as_it_is_in_the_log_and_no_longer() -> None:
    """[Raft 6] (HAZARDS R17, R18)"""
    log = log_of([1, 1])
    joint = Configuration([0, 1, 3], [0, 1, 2])
    log.append(Entry(1, 0, [], joint))
    log.append(Entry(2, 0, []))
    log.append(Entry(2, 0, [], Configuration([0, 1, 3])))
    assert log.configuration == Configuration([0, 1, 3])
    assert log.configuration_at(4) == joint
    log.cut(5)
    assert log.configuration == joint
    log.discard_before(4)
    assert log.configuration == joint
    log.check_invariants()
    log = log_of([1, 1])
    log.append(Entry(1, 0, [], joint))
    log.cut(3)
    assert log.configuration == Configuration.of(3)


@pytest.mark.parametrize(
    ("voters", "old_voters", "reached", "agreed"),
    [
        ([0, 1, 2], [], {0: 5, 1: 3, 2: 1}, 3),
        ([0, 1, 2, 3], [], {0: 5, 1: 4, 2: 3, 3: 1}, 3),
        ([0, 1, 2], [2, 3, 4], {0: 9, 1: 9, 2: 9, 3: 4, 4: 2}, 4),
        ([1, 2], [], {0: 9, 1: 5}, 0),
        ([0], [], {0: 7}, 7),
    ],
)
def test_6_what_a_quorum_has(voters: list[int], old_voters: list[int], reached: dict[int, int], agreed: int) -> None:
    """Joint consensus needs both majorities. [Raft 6]"""
    assert Configuration(voters, old_voters).agreed(reached) == agreed


def test_6_a_quorum_of_votes_needs_both_majorities() -> None:
    joint = Configuration([0, 1, 2], [2, 3, 4])
    assert not joint.has_quorum({0, 1, 2})
    assert not joint.has_quorum({2, 3, 4})
    assert joint.has_quorum({0, 2, 3})


def test_the_log_finds_terms() -> None:
    log = log_of([2, 2, 5, 5, 5, 7], LogStart(10, 2, Configuration.of(3)))
    assert log.first_index_of_term_at(14) == 13
    assert log.first_index_of_term_at(16) == 16
    assert log.last_index_of_term(5, 16) == 15
    assert log.last_index_of_term(5, 14) == 14
    assert log.last_index_of_term(2, 16) == 12
    assert log.last_index_of_term(2, 10) == 10, "the start's term is known"
    assert log.last_index_of_term(3, 16) is None
    assert log.last_index_of_term(7, 15) is None
    assert log.last_index_of_term(1, 16) is None


def test_the_log_gives_slices_within_both_limits_and_at_least_one() -> None:
    log = Log(LogStart(5, 1, Configuration.of(3)))
    for size in (100, 200, 300, 50):
        log.append(Entry(1, 0, [b"x" * size]))
    assert len(log.slice(6, 10, 1)) == 1
    assert len(log.slice(6, 10, 132 + 232)) == 2
    assert len(log.slice(6, 10, 132 + 232 - 1)) == 1
    assert len(log.slice(6, 3, 10_000)) == 3
    assert len(log.slice(9, 3, 10_000)) == 1
    assert log.size == 650 + 4 * 32
    log.discard_before(7)
    assert log.size == 350 + 2 * 32
    assert log.bytes_between(7, 8) == 332
    log.cut(9)
    assert log.size == 332
