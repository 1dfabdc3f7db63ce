"""Recorded steps of the real servers against the executable model of figure 2, which must find broken cores.

The model knows safety and what was written, not time and progress: it has nothing to say to a core that is slow, asks
too often or believes a lease too long. Those are for the tests of their rules.
"""

from collections import Counter

import pytest

from compare.model.__main__ import main
from compare.model.raft_cluster import Cluster
from compare.model.raft_log import Deviation, Log, agreed, is_majority, recovered
from compare.model.raft_runs import RAFT, Outcome, play
from compare.model.steps import Life, Step
from compare.mutants.base import MutantSpec
from raft import RaftCore
from raft.configuration import Configuration
from raft.messages import AppendEntries, AppendReply, Entries, Entry, HardState, LogStart
from replog.core import Persist, Received, Send
from replog.types import NOBODY
from tests.raft import mutants

OF_THREE = Configuration.of(3)


def entries(*terms: int) -> list[Entry]:
    return [Entry(term, 0, []) for term in terms]


# ------------------------------------------------------------------------------------------------- the honest servers


def check(outcomes: list[Outcome]) -> Counter[str]:
    assert not [(one.seed, one.deviation) for one in outcomes if one.deviation]
    assert not [(one.seed, one.stalled) for one in outcomes if one.stalled]
    assert sum(one.vacuous for one in outcomes) <= len(outcomes) // 4
    return sum((one.kinds for one in outcomes), Counter())


def test_every_step_of_the_real_servers_may_be() -> None:
    outcomes = [play(seed) for seed in range(1, 13)]
    kinds = check(outcomes)
    assert kinds["AppendEntries"] > 1_000
    assert sum(one.crashes for one in outcomes) > 20


@pytest.mark.slow
def test_every_step_of_200_runs_may_be() -> None:
    outcomes = [play(seed) for seed in range(1, 201)]
    kinds = check(outcomes)
    assert sum(one.steps for one in outcomes) > 100_000
    assert sum(one.installed for one in outcomes) > 50
    told = ("RequestVote", "VoteReply", "AppendEntries", "AppendReply", "InstallSnapshot", "SnapshotReply")
    extensions = ("PreVote", "PreVoteReply", "TimeoutNow", "ReadIndex", "ReadIndexReply")
    assert not [kind for kind in (*told, *extensions) if kinds[kind] < 50]


def test_the_command_says_what_it_held(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--first", "3", "--runs", "2"]) == 0
    assert "2 runs: steps" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------- planted deviations

FOUND: list[tuple[type[RaftCore], str]] = [
    (mutants.ForgetsItsVote, "all servers"),
    (mutants.VotesForAnyLog, "RequestVote"),
    (mutants.CountsMessages, "followers"),
    (mutants.PreVotesForAnyLog, "9.6"),
    (mutants.PreVotesInAnyTerm, "9.6"),
    (mutants.CommitsOldTerms, "all servers"),
    (mutants.CommitsUnverified, "all servers"),
    (mutants.AppliesBeforeCommit, "all servers"),
    (mutants.AcknowledgesBeforeDisk, "AppendEntries 4"),
    (mutants.CountsReplicas, "all servers"),
    (mutants.SpeaksBeforeItsWrite, "leaders"),
    (mutants.BeginsWithoutNoOp, "8"),
    (mutants.MovesToWhoIsBehind, "3.10"),
]
SELDOM: list[tuple[type[RaftCore], str]] = [
    (mutants.VotesTwice, "RequestVote"),
    (mutants.CountsOldVotes, "leaders"),
    (mutants.CountsPreVotes, "leaders"),
    (mutants.CutsMatchingSuffix, "5.4"),
    (mutants.ReadsUnconfirmed, "8"),
    (mutants.CountsAnswersToEarlierRounds, "8"),
    (mutants.OrdersWhileItMoves, "3.10"),
    (mutants.KeepsItsMove, "persistent state"),
    (mutants.AcknowledgesUnsavedState, "7"),
    (mutants.TrimsItsVote, "persistent state"),
]


def hunted(broken: type[RaftCore], seeds: int) -> str:
    """The first deviation that runs of these seeds show."""
    found = (play(seed, MutantSpec(RAFT, broken)).deviation for seed in range(1, seeds + 1))
    return next((deviation for deviation in found if deviation), "")


@pytest.mark.parametrize(("broken", "rule"), FOUND, ids=lambda one: getattr(one, "__name__", None))
def test_the_model_finds_a_broken_core(broken: type[RaftCore], rule: str) -> None:
    assert f"[{rule}" in hunted(broken, 10)


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "rule"), SELDOM, ids=lambda one: getattr(one, "__name__", None))
def test_the_model_finds_what_shows_seldom(broken: type[RaftCore], rule: str) -> None:
    assert f"[{rule}" in hunted(broken, 40)


# ---------------------------------------------------------------------------------------------------- the model itself


def test_a_conflict_deletes_what_follows_and_nothing_else_does() -> None:
    log = Log(OF_THREE, entries=tuple(entries(1, 1, 2, 2)))
    assert log.received(1, entries(1)) is log
    assert [entry.term for entry in log.received(2, entries(3)).entries] == [1, 1, 3]
    assert [entry.term for entry in log.received(4, entries(3)).entries] == [1, 1, 2, 2, 3]


def test_quorums_of_a_joint_configuration_need_both_sides() -> None:
    joint = Configuration([3, 4, 5], [0, 1, 2])
    assert not is_majority(joint, {0, 1, 2, 3})
    assert is_majority(joint, {0, 1, 3, 4})
    assert agreed(joint, {0: 9, 1: 9, 2: 9, 3: 4, 4: 3, 5: 1}) == 3


def test_a_disk_is_read_as_the_records_say() -> None:
    records = [
        HardState(2, 1),
        Entries(3, 1, entries(1, 1)),
        Entries(5, 2, entries(2)),
        LogStart(4, 1, OF_THREE),
        Entries(5, 1, entries(3, 3)),
    ]
    hard, log = recovered(records, 4, OF_THREE)
    assert hard == HardState(2, 1)
    assert (log.start_index, [entry.term for entry in log.entries]) == (4, [3, 3])


def told(message: AppendEntries, *effects: Persist | Send) -> Step:
    return Step(1, 0, Received(0, message), effects)


def test_a_step_is_held_against_the_figure() -> None:
    """One message, answered rightly and in three wrong ways."""
    message = AppendEntries(1, 0, 0, 0, entries(1, 1), 0, 0)
    written = [Persist(HardState(1, NOBODY), 0), Persist(Entries(1, 0, entries(1, 1)), 1)]
    reply = Send((0,), AppendReply(1, True, 0, 2, 0, 0, 0))
    start = Life(1, (), 0)
    right = Cluster(3)
    right.take(start)
    right.take(told(message, *written, reply))
    wrong = {
        "AppendEntries 4": (written[0], reply, written[1]),
        "persistent state": (reply, *written),
        "AppendEntries 3, 4": (written[0], Persist(Entries(1, 0, entries(1)), 1), reply),
    }
    for rule, effects in wrong.items():
        model = Cluster(3)
        model.take(start)
        with pytest.raises(Deviation) as deviation:
            model.take(told(message, *effects))
        assert deviation.value.rule == rule


def test_what_others_rely_on_must_outlive_a_crash() -> None:
    message = AppendEntries(1, 0, 0, 0, entries(1), 0, 0)
    records = HardState(1, NOBODY), Entries(1, 0, entries(1))
    reply = AppendReply(1, True, 0, 1, 0, 0, 0)
    model = Cluster(3)
    model.take(Life(1, (), 0))
    model.take(told(message, Persist(records[0], 0), Persist(records[1], 1), Send((0,), reply)))
    model.take(Life(1, records[:1], 0))
    model.take(told(message, Persist(records[1], 1), Send((0,), reply)))
    model.take(Life(0, (HardState(1, 0),), 0))
    model.take(Step(0, 0, Received(1, reply), ()))
    with pytest.raises(Deviation, match="others rely on 2"):
        model.take(Life(1, records[:1], 0))
