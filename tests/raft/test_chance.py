"""Anything may arrive at any time: random schedules, and any message at any step. [Raft fig. 3]"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raft import messages as m
from raft.configuration import Configuration
from replog import core as contract
from replog.membership import Configuration as Epoch
from replog.membership import ConfigurationAnswer, ConfigurationQuestion
from replog.types import LogRequest, Read, Reply, StatusRequest, Submit
from tests.raft import chance
from tests.raft.changing import Changing, member
from tests.raft.harness import MS, request
from tests.raft.test_reads import read_of


@pytest.mark.parametrize("seed", range(60))
def test_random_schedules_keep_every_promise_and_end_well(seed: int) -> None:
    """Election Safety, Log Matching, Leader Completeness, State Machine Safety after each step; all done in the end."""
    outcome = chance.run(seed, n=(3, 4, 5, 1, 2)[seed % 5])
    assert outcome.asked > 0
    assert len(outcome.cluster.applied) > 1


@pytest.mark.parametrize("seed", range(200, 240))
def test_random_schedules_take_no_honest_disk_for_an_old_one(seed: int) -> None:
    """(HAZARDS R28) Crashes lose what was not synced, and messages of former lives come late."""
    outcome = chance.run(seed, n=(3, 4, 5, 2)[seed % 4], witness=True, witness_us=100_000)
    assert any(core.witness.known for core in map(outcome.cluster.core, range(outcome.cluster.n)))


def test_random_schedules_reach_what_they_are_for() -> None:
    """Not vacuous: together they crash servers, change leaders, install snapshots and compare logs."""
    outcomes = [chance.run(seed, n=(3, 5)[seed % 2]) for seed in range(100, 120)]
    assert sum(outcome.asked for outcome in outcomes) > 300
    assert sum(outcome.crashes for outcome in outcomes) > 50
    assert sum(outcome.leaders for outcome in outcomes) > 40
    assert sum(outcome.installs for outcome in outcomes) >= 2
    assert sum(outcome.compared for outcome in outcomes) > 1_000
    assert sum(outcome.read for outcome in outcomes) > 300


@pytest.mark.parametrize("seed", range(8))
def test_reads_are_linearizable_while_leaders_are_cut_off(seed: int) -> None:
    """[Raft 8; Ongaro14 6.4] (HAZARDS R24) Leader and followers are asked, with leases and without."""
    outcome = chance.Reading(seed, n=(3, 5)[seed % 2]).run(20)
    assert outcome.read > 40
    assert outcome.leaders > 1


@pytest.mark.parametrize("seed", range(10, 18))
def test_reads_are_linearizable_though_words_of_older_terms_come_late(seed: int) -> None:
    """(HAZARDS R12, R24) Nor is a server said to have lost what it has."""
    outcome = chance.Slow(seed, n=(3, 5)[seed % 2], options={"check_quorum": True}).run(15)
    assert outcome.read > 30
    assert outcome.leaders > 1


@pytest.mark.parametrize("seed", range(30))
def test_an_old_copy_of_a_disk_elects_nobody_who_lacks_what_was_committed(seed: int) -> None:
    """(HAZARDS R28) And all go on without its vote."""
    schedule = chance.Restoring(seed)
    outcome = schedule.run(20)
    assert schedule.refused
    assert outcome.leaders > 1


@pytest.mark.parametrize("seed", range(30))
def test_members_change_all_the_while(seed: int) -> None:
    """[Raft 6] Under everything else that may happen."""
    chance.Changes(seed, n=(3, 4, 5, 1, 2)[seed % 5]).run(1_500)


@pytest.mark.parametrize("seed", range(12))
def test_old_and_new_voters_are_cut_apart_in_the_midst_of_changes(seed: int) -> None:
    chance.Splits(seed, n=(3, 4, 5, 1, 2)[seed % 5]).run(6)


def test_changes_are_made_and_given_up() -> None:
    """Not vacuous."""
    drawn = [chance.Changes(seed, n=(3, 5)[seed % 2]) for seed in range(100, 112)]
    drawn += [chance.Splits(seed, n=3) for seed in range(100, 112)]
    outcomes = [schedule.run(6 if isinstance(schedule, chance.Splits) else 1_500) for schedule in drawn]
    assert sum(schedule.made() for schedule in drawn) > 40
    assert sum(outcome.leaders for outcome in outcomes) > 60
    given_up = [note for schedule in drawn for _, note in schedule.cluster.notes if note.kind == "change-given-up"]
    assert len(given_up) > 5


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(1_000, 1_000_000), n=st.integers(1, 6), steps=st.integers(10, 1_500))
def test_schedules_that_hypothesis_draws(seed: int, n: int, steps: int) -> None:
    chance.run(seed, n, steps)


# ------------------------------------------------------------------------------------------------- any message at all

SMALL_NUMBERS = st.integers(0, 6)
NUMBERS = st.one_of(SMALL_NUMBERS, st.integers(0, 2**62))
NODES = st.integers(-1, 3)
SERVERS = st.lists(st.integers(0, 4), max_size=3)
EPOCHS = st.builds(
    lambda epoch, first, ids, next_id: Epoch(epoch, first, 1, tuple(map(member, sorted(ids))), next_id),
    SMALL_NUMBERS, st.integers(1, 2**62), st.sets(st.integers(0, 4), min_size=1), SMALL_NUMBERS,
)  # fmt: skip
CONFIGURATIONS = st.builds(Configuration, st.lists(st.integers(0, 4), min_size=1, max_size=3), SERVERS, SERVERS)
RAW = st.sampled_from([request("ann", 1).raw, request("ann", 2).raw, request("bob", 1).raw, b"", b"\x91\xc0"])
READS = st.sampled_from([read_of("ann", 3).raw, read_of("bob", 3).raw, request("bob", 1).raw, b""])
ENTRIES = st.lists(st.builds(m.Entry, SMALL_NUMBERS, NUMBERS, st.lists(RAW, max_size=2)), max_size=4)
DIGESTS = st.sampled_from([bytes(32), b"d" * 32])
MESSAGES = st.one_of(
    st.builds(m.RequestVote, NUMBERS, NODES, NUMBERS, NUMBERS, st.booleans()),
    st.builds(m.VoteReply, NUMBERS, st.booleans()),
    st.builds(m.PreVote, NUMBERS, NODES, NUMBERS, NUMBERS),
    st.builds(m.PreVoteReply, NUMBERS, NUMBERS, st.booleans()),
    st.builds(m.AppendEntries, NUMBERS, NODES, NUMBERS, NUMBERS, ENTRIES, NUMBERS, NUMBERS),
    st.builds(m.AppendReply, NUMBERS, st.booleans(), NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    st.builds(
        m.InstallSnapshot,
        NUMBERS, NODES, NUMBERS, NUMBERS, CONFIGURATIONS, DIGESTS, NUMBERS, NUMBERS, st.binary(max_size=9),
        st.booleans(),
    ),
    st.builds(m.SnapshotReply, NUMBERS, NUMBERS, st.lists(NUMBERS, max_size=3), st.booleans()),
    st.builds(m.TimeoutNow, NUMBERS, NODES),
    st.builds(m.Removed, EPOCHS),
    st.builds(ConfigurationQuestion, NUMBERS),
    st.builds(ConfigurationAnswer, NUMBERS),
    st.builds(m.ReadIndex, NUMBERS, NUMBERS),
    st.builds(m.ReadIndexReply, NUMBERS, NUMBERS, NUMBERS),
    st.builds(Read, READS, st.booleans()),
    st.builds(Submit, RAW),
    st.builds(Reply, NUMBERS, st.integers(0, 3), st.just(b""), NUMBERS, NODES),
    st.builds(LogRequest, NUMBERS, NUMBERS, st.integers(1, 9)),
    st.builds(StatusRequest, NUMBERS),
)  # fmt: skip
HAPPENINGS = st.one_of(
    st.tuples(st.sampled_from([0, 1, 2, 3, "ann", "bob"]), MESSAGES),
    st.sampled_from(["election", "heartbeat", "vote-retry", "apply", "read-retry", "read-on", "move", "snapshot"]),
    st.tuples(st.just("saved"), NUMBERS),
    st.tuples(st.just("snapshot"), NUMBERS),
    st.tuples(st.just("move-leader"), NUMBERS),
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    happenings=st.lists(HAPPENINGS, max_size=25),
    begin=st.sampled_from(["fresh", "leader", "old", "snapshot", "changing"]),
)
def test_no_message_raises_whatever_the_state(happenings: list[Any], begin: str) -> None:
    """Peer nonsense yields a note, never an exception; the server's own invariants hold after each step."""
    options = {"snapshot_entries": 3, "log_tail": 1, "apply_entries_max": 2}
    cluster = Changing(3, options, logs={0: [1, 1, 3, 3]} if begin == "old" else None)
    if begin in ("leader", "snapshot", "changing"):
        cluster.elect(0)
    if begin == "changing":
        cluster.change(0, add=[3], remove=[0, 1])
        cluster.settle()
    if begin == "snapshot":
        for timestamp in range(1, 9):
            cluster.submit(0, "carol", timestamp)
            cluster.settle()
    cluster.blocked = lambda packet: True
    cluster.applied.clear()
    for happening in happenings:
        cluster.now += 40 * MS
        cluster.applied.clear()
        cluster.leaders.clear()
        cluster.terms.clear()
        if isinstance(happening, str):
            if happening in cluster.servers[0].timers:
                cluster.fire(0, happening)
        elif happening[0] == "saved":
            cluster.step(0, contract.Saved(happening[1]))
        elif happening[0] == "snapshot":
            cluster.step(0, contract.Command("snapshot", {}))
        elif happening[0] == "move-leader":
            cluster.step(0, contract.Command("move-leader", {"to": happening[1]}))
        else:
            cluster.step(0, contract.Received(*happening))


def test_the_schedule_is_a_function_of_its_seed() -> None:
    assert chance.run(5).cluster.text() == chance.run(5).cluster.text()
    assert random.Random("5/0").random() == random.Random("5/0").random()
