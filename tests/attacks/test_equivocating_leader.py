"""The equivocating leader: what it must not break, what it does break, and what it cannot do at all."""

import pytest

from compare.attacks import ATTACKS
from compare.decisions import collect
from compare.judging import conclude
from compare.results import Run, Verdict
from compare.runner import Job, observe
from compare.scenario import Scenario, find
from compare.sim import Trial
from replog import protocols
from replog.quorum import weak_quorum

SCENARIO = find("equivocating-leader")
SEEDS = range(1, 5)


def made(protocol: str, seed: int, scenario: Scenario = SCENARIO) -> tuple[Trial, Run]:
    trial = Trial(scenario, protocols.find(protocol), seed)
    return trial, conclude(trial.run())


@pytest.mark.parametrize("auth", ["signatures", "macs"])
@pytest.mark.parametrize("seed", SEEDS)
def test_pbft_holds_and_goes_on(seed: int, auth: str) -> None:
    side = SCENARIO.side("pbft").model_copy(update={"options": {"auth": auth}})
    trial, run = made("pbft", seed, SCENARIO.model_copy(update={"protocols": {"pbft": side}}))
    assert run.verdict is Verdict.OK
    assert run.attack_actions
    after = [call for call in trial.calls if call.known and call.invoke > trial.began + 2_600_000]
    assert len(after) > 50


@pytest.mark.parametrize("seed", SEEDS)
def test_raft_commits_different_entries_at_one_index_and_clients_are_told(seed: int) -> None:
    trial, run = made("raft", seed)
    assert run.verdict is Verdict.UNSAFE
    assert not run.checks["agreement"].ok
    (liar,) = trial.liars
    one, other = (
        found.decided for node, found in sorted(collect(trial.recorder.lines, range(3)).items()) if node != liar
    )
    first = {decided.index: {(e.client, e.timestamp) for e in decided.entries} for decided in one}
    second = {decided.index: {(e.client, e.timestamp) for e in decided.entries} for decided in other}
    told = {call.index: {(c.client, c.timestamp) for c in trial.calls if c.index == call.index} for call in trial.calls}
    split = [
        index
        for index in first.keys() & second.keys()
        if first[index] and second[index] and not first[index] & second[index]
    ]
    assert split
    assert any(told.get(index, set()) & first[index] and told.get(index, set()) & second[index] for index in split)


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_every_entry_is_a_request_that_its_client_signed(protocol: str) -> None:
    """Both sides of the lie: the judge of validity compares the digests of the signed bytes."""
    run = conclude(observe(Job(SCENARIO, protocol, "sim", 1)))
    assert run.checks["validity"].ok
    assert run.checks["validity"].checked > 500


def test_without_the_attack_the_same_scenario_is_vacuous_and_not_ok() -> None:
    """An attack on nobody: the verdict must not be `ok` for want of a lie (HAZARDS X14)."""
    harmless = SCENARIO.timeline[0].model_copy(update={"target": "backup"})
    trial = Trial(SCENARIO.model_copy(update={"timeline": (harmless,)}), protocols.find("pbft"), 1)
    assert conclude(trial.run()).verdict is Verdict.VACUOUS


def test_the_coalition_holds_its_own_keys_alone() -> None:
    trial, _ = made("pbft", 1)
    (liar,) = trial.liars
    power = trial.powers[0]
    assert set(power.signers) == {liar}
    statement = power.domain.statement("prepare", (0, 1, b"x"))
    forged = power.signers[liar].sign(statement)
    assert power.verifier.verify(liar, statement, forged)
    assert not any(power.verifier.verify(node, statement, forged) for node in range(4) if node != liar)


def test_a_lie_needs_a_weak_quorum_to_reach_a_client_of_pbft() -> None:
    trial, _ = made("pbft", 2)
    assert all(len(call.vouchers) >= weak_quorum(1) for call in trial.calls if call.known)


def test_each_attack_names_the_protocols_it_is_written_for() -> None:
    assert all(set(kind.makes) <= set(protocols.names()) and kind.makes for kind in ATTACKS.values())
