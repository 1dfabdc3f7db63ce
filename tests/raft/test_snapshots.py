"""Compaction and InstallSnapshot. [Raft 7, figure 13]"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raft import SPEC, RaftCore
from raft.configuration import Configuration
from raft.election import Role
from raft.messages import RECORDS, AppendReply, HardState, InstallSnapshot, LogStart, SnapshotReply
from raft.replication import Mode
from raft.snapshot import Receiver, Sender, Snapshot
from replog.apps.kv import KeyValue
from replog.core import Checkpoint, Persist, ReadPart, Received, Restore, Saved, Send, Timeout, Trim, Wanted
from tests.raft.harness import MS, SECOND, Cluster
from tests.raft.test_figure2 import append, entry

SMALL = {"snapshot_entries": 8, "log_tail": 2}
THREE = Configuration.of(3)


def busy(cluster: Cluster, first: int, last: int, node: int = 0) -> None:
    for timestamp in range(first, last + 1):
        cluster.submit(node, "ann", timestamp, low=timestamp - 1)
        cluster.settle()


def big(options: dict[str, int] | None = None, keys: int = 600, core: type[RaftCore] = RaftCore) -> Cluster:
    """Node 0 leads a store whose state has many parts; node 2 has missed all of it, and the log is compacted."""
    cluster = Cluster(3, {"log_tail": 0, "snapshot_window": 2, **(options or {})}, core, machine=KeyValue)
    cluster.elect(0)
    cluster.run(100 * MS)
    cluster.isolate(2)
    for timestamp in range(1, 7):
        pairs = {f"key-{timestamp}-{i}": f"value {i}" * 5 for i in range(keys // 6)}
        cluster.put(0, timestamp, pairs)
        cluster.settle()
    cluster.command(0, "snapshot")
    assert cluster.core(0).log.start_index == 7
    cluster.network.clear()
    return cluster


def begin_transfer(cluster: Cluster) -> None:
    """Until node 0 sends node 2 its snapshot."""
    for _ in range(9):
        cluster.fire(0, "heartbeat")
        cluster.deliver_to(2)
        cluster.deliver_to(0)
        if 2 in cluster.core(0).sender:
            return
    raise AssertionError("no transfer begins")


def same_state(cluster: Cluster) -> bool:
    return len({server.replica.executor.digest() for server in cluster.servers.values()}) == 1


def chunk(
    cluster: Cluster, index: int, term: int, leader: int = 1, part: int = 0, data: bytes = b"x"
) -> InstallSnapshot:
    at = max(term, cluster.core(0).current_term)
    return InstallSnapshot(at, leader, index, term, THREE, bytes(32), part, 0, data, True)


# -------------------------------------------------------------------------------------------------------- compaction


def test_7_every_server_takes_its_own_snapshots_and_keeps_a_tail() -> None:
    cluster = Cluster(3, SMALL)
    cluster.elect(0)
    busy(cluster, 1, 20)
    cluster.run(60 * MS)
    for node in range(3):
        log = cluster.core(node).log
        assert cluster.core(node).machine.snapshot_index == 16
        assert (log.start_index, log.last_index) == (14, 21)
        assert all(index > 14 for index, raw in cluster.disks[node].records)


def test_7_a_snapshot_is_taken_after_so_many_bytes_too() -> None:
    cluster = Cluster(3, {"snapshot_bytes": 1_000, "log_tail": 0})
    cluster.elect(0)
    busy(cluster, 1, 40)
    assert cluster.core(0).machine.snapshot_index > 8


def test_7_a_snapshot_is_taken_of_what_is_old_too(core: type[RaftCore]) -> None:
    """Of little, if it has waited long; of nothing new, never; and not sooner because an older one was taken."""
    cluster = Cluster(3, {"snapshot_age_us": 10 * SECOND, "log_tail": 0}, core)
    cluster.elect(0)
    busy(cluster, 1, 3)
    cluster.run(9 * SECOND)
    assert [cluster.core(node).machine.snapshot_index for node in range(3)] == [0, 0, 0]
    cluster.run(SECOND + 60 * MS)
    assert [cluster.core(node).machine.snapshot_index for node in range(3)] == [4, 4, 4]
    cluster.run(60 * SECOND)
    taken = [note for _, note in cluster.notes if note.kind == "checkpoint"]
    assert len(taken) == 3, "nothing new has come"
    busy(cluster, 4, 4)
    cluster.run(5 * SECOND)
    cluster.command(0, "snapshot")
    assert cluster.core(0).machine.snapshot_index == 5
    busy(cluster, 5, 5)
    cluster.run(9 * SECOND)
    assert cluster.core(0).machine.snapshot_index == 5
    cluster.run(2 * SECOND)
    assert cluster.core(0).machine.snapshot_index == 6


def test_a_snapshot_is_of_the_state_right_after_its_entry() -> None:
    """Several entries are applied in one step; the checkpoint ends it, and the next step goes on."""
    cluster = Cluster(3, {"snapshot_entries": 4, "log_tail": 0})
    effects = cluster.inject(1, 0, append(1, (0, 0), [entry(1, i) for i in range(1, 11)], commit=10))
    places = [
        (type(effect).__name__, effect.index) for effect in effects if type(effect).__name__ in ("Apply", "Checkpoint")
    ]
    assert places == [("Apply", 1), ("Apply", 2), ("Apply", 3), ("Apply", 4), ("Checkpoint", 4)]
    cluster.fire(0, "apply")
    assert (cluster.core(0).last_applied, cluster.core(0).machine.snapshot_index) == (8, 8)


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"snapshot_entries": 31, "apply_entries_max": 20}, 30),
        ({"snapshot_entries": 25, "apply_entries_max": 1_000}, 39),
        ({"snapshot_bytes": 1_000, "apply_entries_max": 1_000}, 31),
    ],
)
def test_a_step_takes_one_snapshot_at_most(options: dict[str, int], least: int) -> None:
    """The answer to a Checkpoint comes when the step is over: until then it counts as taken. However the limits of
    snapshots and steps fall, there are as many as the limits say, and no more."""
    cluster = Cluster(3, {"log_tail": 0, **options})
    cluster.inject(1, 0, append(1, (0, 0), [entry(1, i) for i in range(1, 1_001)]))
    effects, taken = cluster.inject(1, 0, append(1, (1_000, 1), [], commit=1_000)), []
    while cluster.core(0).last_applied < 1_000:
        taken.append([effect.index for effect in effects if isinstance(effect, Checkpoint)])
        cluster.now += 1
        effects = cluster.step(0, Timeout("apply"))
    assert max(map(len, taken)) == 1
    assert least <= sum(map(len, taken)) <= least + 2


def test_a_snapshot_that_was_asked_for_is_not_asked_for_again_in_the_same_step() -> None:
    """A leader that is its own quorum commits, and applies, several times before the answer comes."""
    cluster = Cluster(1, {"snapshot_entries": 4, "log_tail": 0})
    machine = cluster.core(0).machine
    for index in range(2, 11):
        cluster.core(0).log.append(entry(1, index))
    listed = [effect for index in range(2, 11) for effect in machine.commit_to(index)]
    assert [effect.index for effect in listed if isinstance(effect, Checkpoint)] == [4, 8]


def test_what_must_stay_is_written_anew_before_the_prefix_is_cut(core: type[RaftCore]) -> None:
    """Term and vote, and where the log begins (HAZARDS R1, R16)."""
    cluster = Cluster(3, {"snapshot_entries": 4, "log_tail": 1}, core=core)
    cluster.elect(0)
    busy(cluster, 1, 2)
    cluster.submit(0, "ann", 3)
    cluster.deliver_to(1)
    effects = cluster.step(0, _received(cluster, 0))
    listed = [effect for effect in effects if isinstance(effect, (Persist, Trim))]
    assert listed == [Persist(HardState(1, 0), 4), Persist(LogStart(3, 1, THREE), 4), Trim(3)]


def _received(cluster: Cluster, node: int) -> Received:
    packet = next(packet for packet in cluster.network if packet[1] == node)
    cluster.network.remove(packet)
    return Received(packet[0], cluster.decode(packet))


def test_a_compacted_log_comes_back_from_disk_with_its_tail() -> None:
    cluster = Cluster(3, SMALL)
    cluster.elect(0)
    busy(cluster, 1, 20)
    cluster.run(60 * MS)
    before = cluster.terms_of(1)
    cluster.restart(1)
    core = cluster.core(1)
    assert cluster.terms_of(1) == before
    assert (core.log.start_index, core.last_applied, core.commit_index) == (14, 16, 16)
    assert (core.current_term, core.voted_for) == (1, 0)
    cluster.run(100 * MS)
    assert core.last_applied == 21
    assert same_state(cluster)


def test_an_operator_can_ask_for_a_snapshot() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    busy(cluster, 1, 3)
    cluster.command(0, "snapshot")
    assert cluster.core(0).machine.snapshot_index == 4
    cluster.command(0, "snapshot")
    assert sum(" Checkpoint " in line for line in cluster.transcript) == 1


def test_a_saved_state_ahead_of_the_log_is_no_disk_of_this_protocol() -> None:
    cluster = Cluster(3, SMALL)
    cluster.elect(0)
    busy(cluster, 1, 20)
    cluster.disks[0].records = [(0, RECORDS.encode(HardState(1, 0)))]
    with pytest.raises(ValueError, match="saved state is at index 16, but the log on disk ends at 0"):
        cluster.restart(0)


# ------------------------------------------------------------------------------------------------------ installation


def test_7_a_follower_far_behind_is_given_the_state() -> None:
    cluster = big()
    cluster.heal()
    cluster.run(SECOND)
    assert same_state(cluster)
    core = cluster.core(2)
    assert (core.log.start_index, core.last_applied) == (7, 7)
    assert core.log.configuration == THREE
    progress = cluster.core(0).replication.progress[2]
    assert (progress.mode, progress.match_index) == (Mode.REPLICATE, 7)
    cluster.put(0, 7, {"k": "v"})
    cluster.run(100 * MS)
    assert core.last_applied == 8
    cluster.restart(2)
    cluster.run(SECOND)
    assert same_state(cluster)


@pytest.mark.parametrize("size", [100, 1_000, 1_048_576])
def test_13_parts_travel_in_chunks(size: int) -> None:
    cluster = big({"snapshot_chunk_bytes": size})
    cluster.heal()
    cluster.run(SECOND)
    assert same_state(cluster)
    chunks = [send.message for send in cluster.sent_kinds(InstallSnapshot)]
    assert max(len(chunk.data) for chunk in chunks) <= size
    assert any(chunk.offset for chunk in chunks) == (size < 16_000)


def test_13_chunks_that_are_lost_or_out_of_order_are_asked_for_again(core: type[RaftCore]) -> None:
    """(HAZARDS R15) Not put together wrongly: the digest would refuse the part, and an honest leader be blamed."""
    cluster = big({"snapshot_chunk_bytes": 500}, core=core)
    cluster.heal()
    cluster.fire(0, "heartbeat")
    count = 0
    while cluster.network and count < 5_000:
        count += 1
        if count % 7 == 0:
            cluster.network.pop(0)
        elif count % 5 == 0:
            cluster.deliver(len(cluster.network) - 1)
        elif count % 11 == 0:
            cluster.deliver(0, keep=True)
        else:
            cluster.deliver()
    cluster.run(20 * SECOND, until=lambda: cluster.core(2).last_applied == 7)
    cluster.run(SECOND)
    assert same_state(cluster)
    assert not [note for _, note in cluster.notes if note.kind == "nonsense"]


def test_7_what_the_follower_has_does_not_travel() -> None:
    cluster = big()
    cluster.heal()
    cluster.run(SECOND)
    whole = sum(len(send.message.data) for send in cluster.sent_kinds(InstallSnapshot))
    cluster.isolate(2)
    cluster.sent.clear()
    cluster.put(0, 7, {"key-3-7": "changed"})
    cluster.settle()
    cluster.command(0, "snapshot")
    cluster.heal()
    cluster.run(SECOND)
    assert same_state(cluster)
    again = sum(len(send.message.data) for send in cluster.sent_kinds(InstallSnapshot))
    assert 0 < again < whole / 4


def test_7_a_snapshot_is_of_its_moment_however_much_is_written_while_it_travels() -> None:
    """The store is copied on write: what is sent is what was taken."""
    cluster = big()
    cluster.heal()
    cluster.fire(0, "heartbeat")
    timestamp = 6
    while cluster.core(2).last_applied < 7:
        timestamp += 1
        cluster.put(0, timestamp, {f"key-{timestamp % 6 + 1}-{i}": f"new {timestamp}" for i in range(20)})
        for _ in range(3):
            cluster.deliver()
    assert timestamp > 10, "much was written meanwhile"
    assert [note.detail["index"] for _, note in cluster.notes if note.kind == "state-installed"] == [7]
    cluster.run(SECOND)
    assert cluster.core(2).last_applied == cluster.core(0).last_applied == timestamp + 1
    assert same_state(cluster)


def test_7_sessions_are_in_the_snapshot() -> None:
    """Who was given the state answers an old request as those do that executed it (HAZARDS R22)."""
    cluster = big()
    cluster.heal()
    cluster.run(SECOND)
    cluster.elect(2)
    executed = cluster.core(2).log.last_index
    cluster.replies.clear()
    cluster.put(2, 6, {f"key-6-{i}": f"value {i}" * 5 for i in range(100)})
    (result,) = cluster.done("ann", 6)
    assert result.index == 7
    assert cluster.core(2).log.last_index == executed


def test_7_a_transfer_goes_on_under_a_new_leader() -> None:
    """(HAZARDS R15) Both have a snapshot of the same index: no part travels twice."""
    cluster = big(keys=6_000)
    cluster.fire(0, "heartbeat")
    cluster.settle()
    cluster.command(1, "snapshot")
    assert cluster.core(1).machine.snapshot == cluster.core(0).machine.snapshot
    cluster.heal()
    cluster.fire(0, "heartbeat")
    for _ in range(40):
        cluster.deliver()
    assert cluster.core(2).receiver.snapshot is not None
    first = {send.message.part for send in cluster.sent_kinds(InstallSnapshot)}
    assert len(first) > 3
    cluster.crash(0)
    cluster.network.clear()
    cluster.sent.clear()
    cluster.elect(1)
    cluster.run(SECOND)
    assert cluster.core(2).last_applied == cluster.core(1).last_applied == 8
    assert same_state(cluster)
    second = [send.message.part for send in cluster.sent_kinds(InstallSnapshot)]
    assert len(first & set(second)) <= 1 + 2, "the root, and what was under way"


def test_13_5_an_older_snapshot_is_ignored(core: type[RaftCore]) -> None:
    """(HAZARDS R14)"""
    cluster = Cluster(3, core=core)
    cluster.inject(1, 0, append(1, (0, 0), [entry(1, i) for i in (1, 2, 3)], commit=3))
    effects = cluster.inject(1, 0, chunk(cluster, 3, 1))
    assert not [effect for effect in effects if isinstance(effect, Restore)]
    assert effects[-1] == Send((1,), SnapshotReply(1, 3, [], True))
    assert cluster.core(0).receiver.snapshot is None


def test_13_a_reply_of_an_older_term_counts_for_nothing(core: type[RaftCore]) -> None:
    """What was in place in term 1 may have been replaced since: an index says nothing of this log (HAZARDS R12)."""
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    cluster.isolate(0)
    cluster.elect(1)
    cluster.heal()
    cluster.run(100 * MS)
    cluster.elect(0)
    cluster.drop(1, 2)
    cluster.submit(0, "ann", 1)
    term, last = cluster.core(0).current_term, cluster.core(0).log.last_index
    assert term == 3
    cluster.inject(1, 0, SnapshotReply(1, last, [], True))
    assert cluster.core(0).replication.progress[1].match_index < last
    assert cluster.core(0).commit_index < last
    cluster.inject(1, 0, SnapshotReply(term, last, [], True))
    assert cluster.core(0).commit_index == last, "one of this term counts"


def test_13_1_a_snapshot_of_an_old_term_is_answered_with_the_term() -> None:
    cluster = Cluster(3, logs={0: [4]})
    message = InstallSnapshot(3, 1, 9, 3, THREE, bytes(32), 0, 0, b"", True)
    assert cluster.inject(1, 0, message) == [Send((1,), SnapshotReply(4, 0, [], False))]


def test_13_an_answer_to_a_snapshot_of_an_older_term_is_none_to_this_one(core: type[RaftCore]) -> None:
    """Its addressee may lead the later term by the time it comes, and send the same snapshot (HAZARDS R12)."""
    cluster = big(core=core)
    cluster.heal()
    begin_transfer(cluster)
    leader = cluster.core(0)
    transfer, heard = leader.sender._transfers[2], leader.replication.progress[2].heard_at
    later = Cluster(3, logs={2: [leader.current_term + 1]}, core=core)
    (told,) = later.inject(0, 2, chunk(later, transfer.snapshot.index, leader.current_term, leader=0))
    assert told.message.term == leader.current_term + 1
    begun = transfer.heard_at
    cluster.now += 100 * MS
    cluster.inject(2, 0, msgspec.structs.replace(told.message, term=leader.current_term))
    assert transfer.heard_at == begun, "it is asked again no later"
    assert cluster.core(0).replication.progress[2].heard_at == heard
    cluster.run(3 * SECOND)
    assert same_state(cluster)


@pytest.mark.parametrize(("index", "term"), [(0, 1), (5, 0), (5, 9)])
def test_13_a_snapshot_of_no_possible_entry_is_refused(index: int, term: int) -> None:
    cluster = Cluster(3)
    message = InstallSnapshot(3, 1, index, term, THREE, bytes(32), 0, 0, b"", True)
    assert not [effect for effect in cluster.inject(1, 0, message) if isinstance(effect, Send)]
    assert cluster.rules(0) == ["a snapshot of no possible entry"]


def test_13_6_and_7_what_follows_the_snapshot_is_kept_only_if_its_entry_is_there(
    core: type[RaftCore],
) -> None:
    """(HAZARDS R13) Entries behind a conflicting one are another leader's."""
    for terms, kept in (([1, 1, 1, 1, 1], [1, 1]), ([1, 1, 2, 2, 2], []), ([1, 1], [])):
        cluster = Cluster(3, core=core, logs={0: terms})
        installed(cluster, 3, 1)
        assert cluster.terms_of(0) == kept
        cluster.restart(0)
        assert cluster.terms_of(0) == kept, "on disk too"
        assert cluster.core(0).log.start_index == 3


def installed(cluster: Cluster, index: int, term: int) -> list[object]:
    """Node 0 is given a snapshot of the state as it is, under `index`: nothing needs to travel."""
    digest = cluster.servers[0].replica.executor.digest()
    at = max(term, cluster.core(0).current_term) + 1
    message = InstallSnapshot(at, 1, index, term, THREE, digest, 0, 0, b"root", True)
    effects: list[object] = list(cluster.inject(1, 0, message))
    assert [effect for effect in effects if isinstance(effect, Restore)]
    assert cluster.core(0).last_applied == index
    return effects


def test_13_a_snapshot_carries_its_configuration() -> None:
    """(HAZARDS R16)"""
    cluster = Cluster(3)
    other = Configuration([0, 1, 2, 3])
    digest = cluster.servers[0].replica.executor.digest()
    cluster.inject(1, 0, InstallSnapshot(2, 1, 5, 1, other, digest, 0, 0, b"root", True))
    assert cluster.core(0).log.configuration == other
    cluster.restart(0)
    assert cluster.core(0).log.configuration == other


# ----------------------------------------------------------------------------------------- installed, not yet on disk


def test_nothing_is_acknowledged_on_a_state_that_is_not_on_disk(core: type[RaftCore]) -> None:
    """A crash would take the state away, and the entries behind it are worth nothing without it (HAZARDS R2)."""
    cluster = Cluster(3, core=core)
    cluster.by_hand = True
    cluster.sync(0)
    installed(cluster, 5, 1)
    cluster.sync(0)
    term = cluster.core(0).current_term
    cluster.sent.clear()
    cluster.inject(1, 0, append(term, (5, 1), [entry(term, 6)], commit=6))
    cluster.inject(1, 0, InstallSnapshot(term, 1, 5, 1, THREE, bytes(32), 0, 0, b"root", True))
    cluster.sync(0)
    said = [send.message for send in cluster.sent]
    assert [message.match_index for message in said if isinstance(message, AppendReply)] == [0]
    assert [message.done for message in said if isinstance(message, SnapshotReply)] == [False]
    cluster.save(0)
    assert cluster.sent[-1] == (0, (1,), SnapshotReply(term, 5, [], True))
    cluster.inject(1, 0, append(term, (6, term), [], commit=6))
    assert cluster.sent[-1].message.match_index == 6


def test_a_server_whose_state_is_not_on_disk_does_not_stand() -> None:
    cluster = Cluster(3)
    cluster.by_hand = True
    installed(cluster, 5, 1)
    cluster.sync(0)
    for _ in range(3):
        cluster.now += SECOND
        cluster.fire(0)
    assert cluster.core(0).role is Role.FOLLOWER
    cluster.save(0)
    cluster.now += SECOND
    cluster.fire(0)
    assert cluster.core(0).role is Role.PRE_CANDIDATE


def test_a_crash_before_the_state_is_on_disk_leaves_the_server_as_it_was() -> None:
    cluster = Cluster(3, logs={0: [1, 1, 2, 2, 2, 2]})
    cluster.by_hand = True
    installed(cluster, 4, 1)
    term = cluster.core(0).current_term
    cluster.inject(1, 0, append(term, (4, 1), [entry(term, 5)]))
    cluster.sync(0)
    cluster.crash(0)
    cluster.start(0)
    assert cluster.terms_of(0) == [1, 1, 2, 2, 2, 2], "all that it has acknowledged"
    assert (cluster.core(0).current_term, cluster.core(0).last_applied) == (term, 0)


def test_a_saved_state_that_a_newer_one_passed_by_counts_when_the_newer_is_saved() -> None:
    cluster = Cluster(3)
    cluster.by_hand = True
    installed(cluster, 5, 1)
    cluster.step(0, Saved(4))
    assert cluster.core(0).machine.installing == 5
    cluster.step(0, Saved(6))
    assert cluster.core(0).machine.installing == 0


# ------------------------------------------------------------------------------------------ keeping on, giving up


def test_the_log_is_kept_for_a_follower_that_is_being_sent_an_older_snapshot() -> None:
    """Else it would be too old again on arrival, for ever."""
    cluster = big({"snapshot_entries": 8})
    cluster.heal()
    cluster.fire(0, "heartbeat")
    for _ in range(10):
        cluster.deliver()
    assert 2 in cluster.core(0).sender
    for timestamp in range(7, 30):
        cluster.put(0, timestamp, {"k": str(timestamp)})
        cluster.network = [packet for packet in cluster.network if 2 not in packet[:2]] + [
            packet for packet in cluster.network if 2 in packet[:2]
        ]
        while cluster.network and 2 not in cluster.network[0][:2]:
            cluster.deliver()
            cluster.network.sort(key=lambda packet: 2 in packet[:2])
    core = cluster.core(0)
    assert core.machine.snapshot_index > 20
    assert core.log.start_index == 7, "what follows the snapshot under way is held"
    cluster.run(SECOND)
    assert same_state(cluster)
    installs = [note for node, note in cluster.notes if node == 2 and note.kind == "state-installed"]
    assert [note.detail["index"] for note in installs] == [7]


def test_a_transfer_without_progress_is_given_up(core: type[RaftCore]) -> None:
    cluster = big({"snapshot_timeout_us": 2 * SECOND, "snapshot_retry_us": SECOND}, core=core)
    cluster.heal()
    cluster.blocked = lambda packet: packet[1] == 2 and isinstance(cluster.decode(packet), InstallSnapshot)
    cluster.run(1_900 * MS)
    assert 2 in cluster.core(0).sender
    cluster.run(300 * MS)
    abandoned = [note for node, note in cluster.notes if note.kind == "snapshot-abandoned"]
    assert [note.detail for note in abandoned[:1]] == [{"node": 2, "index": 7}]
    cluster.heal()
    cluster.run(3 * SECOND)
    assert same_state(cluster)


def test_a_log_that_grows_too_long_is_cut_even_so() -> None:
    cluster = big({"snapshot_entries": 4, "snapshot_bytes": 8_000, "log_bytes_max": 8_000, "request_bytes_max": 50_000})
    cluster.heal()
    cluster.fire(0, "heartbeat")
    for _ in range(6):
        cluster.deliver()
    assert 2 in cluster.core(0).sender
    cluster.isolate(2)
    for timestamp in range(7, 30):
        cluster.put(0, timestamp, {f"k{timestamp}": "v" * 1_000})
        cluster.settle()
    assert 2 not in cluster.core(0).sender
    assert cluster.core(0).log.size < 8_000 + 4 * 1_200
    cluster.heal()
    cluster.run(3 * SECOND)
    assert same_state(cluster)


def test_a_transfer_that_makes_progress_holds_a_log_that_grows_too_long() -> None:
    """A state larger than log_bytes_max, under load: given up at each snapshot, the follower would never catch up."""
    small = {"snapshot_entries": 4, "snapshot_bytes": 4_000, "log_bytes_max": 4_000, "request_bytes_max": 500_000}
    cluster = big({**small, "snapshot_window": 1}, keys=3_000)
    cluster.heal()
    cluster.fire(0, "heartbeat")
    most, begun = 0, cluster.core(0).machine.snapshot_index
    for timestamp in range(7, 200):
        cluster.put(0, timestamp, {"k": "v" * 600})
        for _ in range(6):
            cluster.deliver_to(1)
            cluster.deliver_to(0)
        cluster.deliver_to(2)
        most = max(most, cluster.core(0).log.size)
        if cluster.core(2).last_applied >= begun:
            break
        assert 2 in cluster.core(0).sender or not cluster.core(0).replication.needs_snapshot(2), "given up"
    installs = [note.detail["index"] for node, note in cluster.notes if node == 2 and note.kind == "state-installed"]
    assert installs == [begun]
    assert cluster.core(0).machine.snapshot_index >= begun + 16, "and others were taken meanwhile"
    assert 8_000 < most < 250_000
    cluster.run(3 * SECOND)
    assert same_state(cluster)
    for later in range(timestamp + 1, timestamp + 9):
        cluster.put(0, later, {"k": "v" * 600})
        cluster.settle()
    assert cluster.core(0).log.size < 8_000, "held no longer than the transfer"


def test_no_snapshot_is_sent_to_who_is_not_heard() -> None:
    cluster = big()
    cluster.run(2 * SECOND)
    assert 2 not in cluster.core(0).sender
    sent = cluster.sent_kinds(InstallSnapshot)
    assert len(sent) <= 1


def test_no_snapshot_is_sent_anew_to_who_is_heard_no_more(core: type[RaftCore]) -> None:
    """Given up for want of progress, it begins again when the follower is heard again, and not at every heartbeat."""
    cluster = big({"snapshot_timeout_us": SECOND}, core=core)
    cluster.heal()
    begin_transfer(cluster)
    cluster.isolate(2)
    cluster.run(3 * SECOND)
    given_up = [note for _, note in cluster.notes if note.kind == "snapshot-abandoned"]
    assert len(given_up) == 1
    assert 2 not in cluster.core(0).sender
    cluster.heal()
    cluster.run(3 * SECOND)
    assert same_state(cluster)


def test_a_part_that_does_not_have_its_digest_is_refused_and_asked_for_again() -> None:
    cluster = big()
    cluster.heal()
    cluster.fire(0, "heartbeat")
    while not any(isinstance(cluster.decode(packet), InstallSnapshot) for packet in cluster.network):
        cluster.deliver()
    real = next(cluster.decode(packet) for packet in cluster.network if packet[1] == 2)
    while not isinstance(real, InstallSnapshot):
        cluster.deliver_to(2)
        real = next(cluster.decode(packet) for packet in cluster.network if packet[1] == 2)
    fields = {name: getattr(real, name) for name in real.__struct_fields__}
    cluster.inject(0, 2, InstallSnapshot(**{**fields, "data": b"\x9cpoison", "done": True}))
    assert "a part does not have its digest" in cluster.rules(2)
    cluster.run(3 * SECOND)
    assert same_state(cluster)


def test_a_part_beyond_every_bound_is_refused() -> None:
    cluster = Cluster(3, {"snapshot_part_bytes_max": 1_048_576})
    for offset in (0, 600_000):
        message = InstallSnapshot(1, 1, 5, 1, THREE, bytes(32), 0, offset, b"x" * 600_000, False)
        cluster.inject(1, 0, message)
    assert cluster.rules(0) == ["parts under way are larger than snapshot_part_bytes_max = 1048576"]
    cluster.core(0).check_invariants()


def test_entries_that_overtake_a_snapshot_end_its_installation() -> None:
    """Another leader still has the entries: the snapshot under way is older than what is committed (HAZARDS R14)."""
    cluster = Cluster(3)
    cluster.inject(1, 0, chunk(cluster, 3, 1))
    assert cluster.core(0).receiver.snapshot is not None
    cluster.inject(2, 0, append(2, (0, 0), [entry(1, 1), entry(1, 2), entry(1, 3), entry(2, 4)], commit=4, leader=2))
    assert cluster.core(0).receiver.snapshot is None
    assert cluster.core(0).last_applied == 4
    assert cluster.step(0, Wanted(3, (0,), False)) == []


def test_entries_below_the_start_of_the_log_are_passed_over() -> None:
    cluster = Cluster(3)
    installed(cluster, 3, 1)
    term = cluster.core(0).current_term
    entries = [entry(1, 1), entry(1, 2), entry(1, 3), entry(1, 4)]
    cluster.inject(1, 0, append(term, (0, 0), entries))
    assert cluster.terms_of(0) == [1]
    assert cluster.sent[-1].message.match_index == 4
    cluster.inject(1, 0, append(term, (0, 0), entries[:2]))
    assert cluster.sent[-1].message.match_index == 2
    cluster.inject(1, 0, append(term, (0, 0), [entry(1, 1), entry(1, 2), entry(2, 3)]))
    assert cluster.rules(0) == ["contradicts the committed entry 3"]


def test_a_checkpoint_that_is_held_no_more_is_made_anew() -> None:
    cluster = big()
    cluster.put(0, 7, {"k": "v"})
    cluster.settle()
    cluster.servers[0].replica.executor.drop_below(99)
    cluster.heal()
    cluster.run(SECOND)
    assert same_state(cluster)


def test_a_late_chunk_of_an_older_snapshot_of_the_same_leader_is_passed_over() -> None:
    cluster = Cluster(3)
    cluster.inject(1, 0, chunk(cluster, 9, 1))
    assert cluster.inject(1, 0, chunk(cluster, 5, 1)) == []
    snapshot = cluster.core(0).receiver.snapshot
    assert snapshot is not None
    assert snapshot.index == 9
    late = InstallSnapshot(2, 2, 5, 1, THREE, bytes(32), 0, 0, b"x", True)
    cluster.inject(2, 0, late)
    snapshot = cluster.core(0).receiver.snapshot
    assert snapshot is not None
    assert snapshot.index == 5, "another leader may have an older one"


def test_a_follower_that_has_the_entries_after_all_needs_no_snapshot() -> None:
    """Asked about the earliest entry that the leader still knows, it says that it has it."""
    cluster = Cluster(3, {"log_tail": 0})
    cluster.elect(0)
    busy(cluster, 1, 5)
    cluster.command(0, "snapshot")
    progress = cluster.core(0).replication.progress[2]
    progress.match_index, progress.next_index, progress.mode = 0, 1, Mode.PROBE
    cluster.run(60 * MS)
    assert (progress.mode, progress.match_index) == (Mode.REPLICATE, 6)
    busy(cluster, 6, 7)
    cluster.run(60 * MS)
    assert cluster.core(2).last_applied == 8
    assert 2 not in cluster.core(0).sender


def test_13_a_follower_tells_once_what_it_has_of_a_part_and_is_read_what_differs() -> None:
    """A hint that changes says that what was given for the last one did not help: the part is read again."""
    options = SPEC.options({})
    sender, receiver = Sender(0, 1, options), Receiver(options)
    snapshot = Snapshot(3, 1, THREE, bytes(32))
    sender.start(0, 2, snapshot)
    receiver.on_chunk(InstallSnapshot(1, 0, 3, 1, THREE, bytes(32), 0, 0, b"x", True))

    def said(hints: dict[int, bytes]) -> tuple[dict[int, bytes], list[Any]]:
        (reply,) = (one.message for one in receiver.on_wanted(1, 0, Wanted(3, (1, 2), False, hints)))
        return reply.hints, [(read.part, read.hint) for read in sender.on_reply(0, 2, reply)]

    assert said({1: b"a", 2: b"b"}) == ({1: b"a", 2: b"b"}, [(1, b"a"), (2, b"b")])
    assert said({1: b"a", 2: b"b"}) == ({}, [])
    assert said({1: b"c", 2: b"b"}) == ({1: b"c"}, [(1, b"c")])


def test_13_what_is_wanted_of_an_older_snapshot_is_not_read_of_the_newer() -> None:
    """Parts have other contents there, and what has come was not of this one (HAZARDS R15)."""
    sender = Sender(0, 1, SPEC.options({}))
    sender.start(0, 2, Snapshot(3, 1, THREE, bytes(32)))
    sender.start(0, 2, Snapshot(7, 1, THREE, b"7" * 32))
    assert sender.on_reply(0, 2, SnapshotReply(1, 3, [4, 5], False)) == []
    assert sender.on_reply(0, 2, SnapshotReply(1, 7, [4, 5], False)) == [ReadPart(7, 4, 2), ReadPart(7, 5, 2)]


def test_13_who_leads_receives_nothing_any_more() -> None:
    """What an older leader had begun to send nobody goes on with."""
    cluster = Cluster(3)
    cluster.inject(1, 0, InstallSnapshot(1, 1, 9, 1, THREE, bytes(32), 0, 0, b"x", False))
    assert cluster.servers[0].replica.status().role == "follower fetching state"
    cluster.elect(0)
    assert cluster.servers[0].replica.status().role == "leader"
    cluster.run(100 * MS)
    assert cluster.servers[0].replica.status().in_sync
