"""Some of the random runs of `compare.membership_raft`: safe and live with the real core, and not with broken ones."""

from __future__ import annotations

from typing import Any

import pytest

from compare.membership_raft import SPEC, play
from compare.mutants.base import MutantSpec
from compare.results import Verdict
from raft import RaftCore
from replog.apps.kv import KeyValue
from replog.core import Effect
from replog.sim.cluster import SimCluster, Stalled
from tests.raft import mutants


@pytest.mark.parametrize("seed", range(1, 7))
def test_members_change_under_crashes_pauses_and_cuts(seed: int) -> None:
    outcome = play(seed)
    assert outcome.verdict is Verdict.OK, outcome
    assert outcome.epochs > 1, "vacuous"
    assert outcome.run.fault_actions > 10, "vacuous"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(7, 31))
def test_members_change_under_more_crashes_pauses_and_cuts(seed: int) -> None:
    outcome = play(seed)
    assert outcome.verdict is Verdict.OK, outcome


@pytest.mark.parametrize(("core", "seed", "verdict"), [(mutants.CountsFromTheCommit, 9, Verdict.UNSAFE)])
def test_a_broken_core_is_found(core: type[RaftCore], seed: int, verdict: Verdict) -> None:
    """The same seeds find nothing with the real one, see above."""
    assert play(seed, MutantSpec(SPEC, core)).verdict is verdict


def slept_through(core: type[RaftCore]) -> SimCluster:
    """A client that is paused while all the members it knows are replaced, and then these, too."""
    cluster = SimCluster(MutantSpec(SPEC, core), 3, clients=("c0", "late"), membership=True)
    cluster.pause("late")
    for first in (3, 6):
        before = cluster.configuration
        cluster.run_until(lambda: cluster.leader() is not None)
        leader = cluster.leader()
        nodes = [cluster.add() for _ in range(3)]
        cluster.change(nodes, before.ids)
        cluster.run_until(lambda before=before: cluster.configuration.epoch > before.epoch)
        assert cluster.configuration.ids == (first, first + 1, first + 2)
        cluster.crash(leader)  # it has seen the end of the change itself
    cluster.resume("late")
    cluster.client("late").submit([KeyValue.operation("put", "x", "1")])
    cluster.run_until(lambda: cluster.client("late").outstanding == 0, 30_000_000)
    return cluster


def test_a_client_that_slept_through_it_all_is_sent_on_by_those_who_left() -> None:
    cluster = slept_through(RaftCore)
    assert [one.ids for one in cluster.client("late").followed] == [(3, 4, 5), (6, 7, 8)]


class KeepsToItself(RaftCore):
    """Who is to take its place."""

    def _on_removed(self, now: int, sender: int, message: Any) -> list[Effect]:
        return self.election.on_removed(now, message.members.first - 1)


def test_without_their_word_it_is_lost() -> None:
    with pytest.raises(Stalled):
        slept_through(KeepsToItself)
