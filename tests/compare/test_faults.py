"""Faults that never struck prove nothing; a schedule ends once (HAZARDS X14)."""

from typing import Any

import pytest

from compare.judging import conclude
from compare.results import Verdict
from compare.scenario import Scenario, find, parse
from compare.schedules import FigureEight
from compare.sim import Trial
from replog import protocols
from replog.sim.cluster import SimCluster

BASE = """
name = "x"
summary = "x"
duration_s = 1.5
f = {f}
[[timeline]]
fault = "{fault}"
target = "{target}"
start_s = 0.3
end_s = 0.6
"""


def scenario(fault: str, target: str = "leader", f: int = 1, options: str = "", twice: str = "") -> Scenario:
    return parse(BASE.format(fault=fault, target=target, f=f) + options + twice, "x.toml")


def made(this: Scenario, protocol: str = "raft", seed: int = 1) -> tuple[int, Verdict]:
    run = conclude(Trial(this, protocols.find(protocol), seed).run())
    return run.fault_actions, run.verdict


@pytest.mark.parametrize("fault", ["crash", "pause", "isolate", "split", "loss"])
def test_a_fault_that_struck_is_counted(fault: str) -> None:
    assert made(scenario(fault)) == (1, Verdict.OK)


def test_a_fault_without_a_target_proves_nothing() -> None:
    assert made(scenario("crash", "f backups", f=0)) == (0, Verdict.VACUOUS)


def test_a_split_of_all_from_nobody_proves_nothing() -> None:
    assert made(scenario("split", "all")) == (0, Verdict.VACUOUS)


def test_losing_no_frame_proves_nothing() -> None:
    assert made(scenario("loss", options="options = { loss = 0.0 }\n")) == (0, Verdict.VACUOUS)


def test_a_fault_whose_target_never_appears_does_not_strike_and_does_not_come_when_it_should_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    this = scenario("crash")
    trial = Trial(this, protocols.find("raft"), 1)
    end = trial.cluster.now + 1_300_000
    honest = SimCluster.leader
    monkeypatch.setattr(SimCluster, "leader", lambda self: None if self.now < end else honest(self))
    monkeypatch.setattr("compare.sim.LEADER_US", 0)
    run = conclude(trial.run())
    assert (run.fault_actions, run.verdict) == (0, Verdict.VACUOUS)
    assert all(node.lives == 0 for node in trial.cluster.nodes)


def test_two_kills_of_one_replica_are_one_strike() -> None:
    again = '[[timeline]]\nfault = "crash"\ntarget = 0\nstart_s = 0.4\nend_s = 0.7\n'
    this = scenario("crash", "leader", twice=again)
    this = this.model_copy(
        update={"timeline": (this.timeline[1].model_copy(update={"start_s": 0.2}), this.timeline[1])}
    )
    assert made(this)[0] == 1


EIGHT = find("figure-eight")


def test_figure_eight_goes_through_its_phases() -> None:
    strikes, verdict = made(EIGHT)
    assert verdict is Verdict.OK
    assert strikes >= 1


def test_figure_eight_that_never_leaves_its_first_phase_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FigureEight, "_a_and_b", lambda self: None)
    assert made(EIGHT) == (0, Verdict.VACUOUS)


def test_figure_eight_ends_once() -> None:
    cluster: Any = SimCluster(protocols.find("raft"), 5, 2, seed=1)
    cluster.run_until(lambda: cluster.leader() is not None)
    schedule = FigureEight(cluster, cluster.leader())
    schedule._crash(1)
    cluster.restart(1)
    lives = cluster.nodes[1].lives
    schedule.release()
    assert cluster.nodes[1].lives == lives  # it is up: nobody has to start it
    cluster.crash(1)
    schedule.release()
    assert not cluster.nodes[1].up
