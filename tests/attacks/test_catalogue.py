"""Every attack by name: its scenario, that it acted, that PBFT stands f liars, and where it works what breaks."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from compare.attacks import ATTACKS
from compare.attacks.storms import CLIENT_ATTACKS
from compare.mutants.base import MutantSpec
from compare.results import Run, Verdict
from compare.runner import Job, many
from compare.scenario import Scenario, catalogue, find
from compare.sim import Trial
from replog import protocols
from tests.attacks.broken import DEFENCES

BEYOND = "-beyond-f"
SCENARIOS: Mapping[str, Scenario] = {
    name: scenario
    for name, scenario in catalogue().items()
    if scenario.engines == ("sim",)
    and not scenario.drawn
    and (scenario.attacked or scenario.workload.byzantine)
    and scenario.duration_s <= 2.0
}
"""The small ones; the others have tests of their own."""
CELLS = [(name, protocol) for name, scenario in SCENARIOS.items() for protocol in scenario.protocols]
QUICK = {"silent-beyond-f", "twins", "invent-request", "lie-in-reply", "equivocate-votes-beyond-f", "wrong-checkpoint"}


def made(scenario: Scenario, protocol: str, seed: int = 1, spec: MutantSpec | None = None) -> Run:
    (run,) = many([Job(scenario, protocol, "sim", seed)], spec or protocols.find(protocol))
    return run


def acted(run: Run) -> bool:
    """Whether a lie of a replica arrived, or one of a client was told."""
    return bool(run.attack_actions) or bool(sum(run.acts.values()))


def is_expected(run: Run, expected: str) -> bool:
    """`some`: of one seed alone nothing more can be asked than that it came to a verdict."""
    amount, _, verdict = expected.partition(" ")
    if run.verdict in (Verdict.VACUOUS, Verdict.ERROR):
        return False
    return run.verdict == verdict or amount == "some"


@pytest.mark.parametrize(("name", "protocol"), [cell for cell in CELLS if cell[0] in QUICK])
def test_some_of_them_on_both_protocols(name: str, protocol: str) -> None:
    check(name, protocol)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "protocol"), [cell for cell in CELLS if cell[0] not in QUICK])
def test_all_others_on_both_protocols(name: str, protocol: str) -> None:
    check(name, protocol)


def check(name: str, protocol: str) -> None:
    run = made(SCENARIOS[name], protocol)
    assert acted(run), "vacuous"
    assert is_expected(run, SCENARIOS[name].side(protocol).expect), (run.verdict, run.error, run.checks)


@pytest.mark.parametrize("name", ["corrupt-payload", "poisoned-snapshot", "ack-without-storing", "vote-twice"])
def test_what_works_on_some_seeds_works_on_one(name: str) -> None:
    assert any(made(SCENARIOS[name], "raft", seed).verdict is Verdict.UNSAFE for seed in (2, 1, 3))


@pytest.mark.parametrize("name", DEFENCES)
def test_without_the_defence_it_breaks_what_it_is_to_break(name: str) -> None:
    lacking, spec = DEFENCES[name]
    run = made(SCENARIOS[name], "pbft", spec=spec)
    broken = "violated" in (run.safety, run.liveness) or run.error.startswith("AssertionError")
    assert broken, lacking


def test_every_small_scenario_of_pbft_with_f_liars_expects_that_all_is_well() -> None:
    for name, scenario in SCENARIOS.items():
        if "pbft" in scenario.protocols and not name.endswith(BEYOND):
            assert scenario.side("pbft").expect == "all ok", name


def test_every_attack_has_a_scenario() -> None:
    """But for what robustness measures over minutes and the campaign draws."""
    used = {attack for scenario in catalogue().values() for attack in scenario.attack_names}
    assert set(ATTACKS) - used == {"watched-only", "bursts", "framing", "random-liar", "lie-in-replies"}
    clients = {scenario.workload.byzantine_as for scenario in catalogue().values() if scenario.workload.byzantine}
    assert clients >= {"big-mac", "two-operations", "backups-only", "retransmission-storm", "garbage-signatures"}


def test_there_are_as_many_as_are_told() -> None:
    assert len(ATTACKS) + len(CLIENT_ATTACKS) >= 50
    assert all(kind.summary and "\n" not in kind.summary for kind in ATTACKS.values())


# ------------------------------------------------------------------------------------------- what no judge can see


def test_f_plus_one_late_replicas_make_all_late() -> None:
    late, usual = (made(find(name), "pbft").latency_ms for name in ("delay-beyond-f", "wrong-checkpoint"))
    assert late is not None
    assert usual is not None
    assert late.max > 600 > 10 * usual.p50


@pytest.mark.parametrize(("protocol", "believed"), [("pbft", False), ("raft", True)])
def test_whose_time_is_believed(protocol: str, believed: bool) -> None:
    """A leader's of Raft by a whole day, a primary's of PBFT within the bounds of its backups' clocks."""
    trial = Trial(find("wrong-time"), protocols.find(protocol), 1)
    trial.run()
    (honest, *_) = (node for node in range(trial.cluster.n) if node not in trial.liars)
    journal = trial.cluster.replica(honest).journal
    times = [entry.time for entry in journal.read(journal.first, 10_000) if entry.requests]
    assert len(times) > 30
    assert (max(times) - min(times) > 80_000_000_000) is believed


# -------------------------------------------------------------------------------------------------------- coalitions


def test_a_coalition_shares_keys_and_memory_and_has_no_key_of_others() -> None:
    trial = Trial(find("equivocate-votes-beyond-f"), protocols.find("pbft"), 1)
    trial.run()
    first, second = trial.powers
    assert first.shared is second.shared
    assert set(first.signers) == set(second.signers) == {0, 1} == trial.liars
    assert second.members == (0, 1)
    assert second.shared["proposed"]
