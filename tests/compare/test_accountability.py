"""Accountability in whole runs: every conflict that was told is found and proved, and nobody correct is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from compare import accountability
from compare.checkers import Conflict, Evidence
from compare.checkers.accountability import Accountability
from compare.decisions import Charge, Decisions
from compare.drawing import draw
from compare.evidence import keep
from compare.judging import conclude, evidence_of
from compare.results import Verdict
from compare.scenario import Scenario, find
from compare.sim import Trial
from pbft.memory import Memory
from pbft.witness import Witness
from replog import cli, evidence, protocols


def shorter(name: str) -> Scenario:
    """The attack from soon after the start, and little else."""
    scenario = find(name)
    (attack,) = scenario.timeline
    quick = attack.model_copy(update={"start_s": 0.2, "end_s": 0.8})
    return scenario.model_copy(update={"timeline": (quick,), "duration_s": 1.2})


def judged(scenario: Scenario, seed: int) -> tuple[Trial, Any, Evidence]:
    trial = Trial(scenario, protocols.find("pbft"), seed)
    observed = trial.run()
    return trial, conclude(observed), evidence_of(observed)


MANY = [*range(1, 21), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(21, 201))]


@pytest.mark.parametrize("seed", MANY)
def test_every_equivocation_that_reached_correct_replicas_is_proved(seed: int) -> None:
    """`replog compare equivocating-leader --protocol pbft --seeds 500` does the same with whole runs."""
    trial, run, evidence = judged(shorter("equivocating-leader"), seed)
    check = run.checks["accountability"]
    assert check.ok, check.detail
    charges = [charge for own in evidence.decisions.values() for charge in own.charges]
    assert evidence.conflicts, "vacuous"
    assert {charge.culprit for charge in charges} == trial.liars
    assert check.checked == len(charges) + len(evidence.conflicts) + len(evidence.decisions)


@pytest.mark.slow
def test_random_lies_are_proved() -> None:
    conflicts: Counter[str] = Counter()
    for seed in range(300, 330, 2):
        _, run, evidence = judged(draw(find("random-byzantine"), seed), seed)
        check = run.checks["accountability"]
        assert check.ok, (seed, check.detail)
        conflicts.update(conflict.kind for conflict in evidence.conflicts)
    assert conflicts.total() > 50, "vacuous"
    assert conflicts["new-view"] > 0, "vacuous"


def test_p17_junk_between_two_faces_hides_no_liar(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = find("junk-votes")
    _, run, evidence = judged(scenario, 1)
    assert run.verdict is Verdict.OK, run.checks["accountability"].detail
    assert {len(conflict.hearers) for conflict in evidence.conflicts} >= {1, 2}, "vacuous"
    monkeypatch.setattr(Memory, "is_near", lambda *_: True)
    check = judged(scenario, 1)[1].checks["accountability"]
    assert "nobody has evidence" in check.detail, "a core that remembers whatever it hears is caught"


def test_a_core_that_looks_away_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Witness, "_compare", lambda *_: [])
    _, run, _ = judged(shorter("equivocating-leader"), 1)
    assert run.verdict is Verdict.UNSAFE
    assert "nobody has evidence" in run.checks["accountability"].detail


def test_a_core_that_keeps_it_to_itself_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing but the showing brings the two halves together."""
    monkeypatch.setattr(Witness, "_show", lambda *_: [])
    monkeypatch.setattr(Witness, "proven", lambda *_: [])
    caught = [judged(shorter("equivocating-leader"), seed)[1].checks["accountability"].ok for seed in (1, 2, 3)]
    assert not all(caught)


# ------------------------------------------------------------------------------------------------------- as files

QUICK = """
name = "quick"
summary = "the primary lies"
duration_s = 0.8
timeline = [{ attack = "equivocating-leader", start_s = 0.1, end_s = 0.5 }]
"""


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_a_run_leaves_its_evidence_as_files_that_a_stranger_can_verify(
    protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "quick.toml").write_text(QUICK)
    asked = [
        "compare",
        str(tmp_path / "quick.toml"),
        "--protocol",
        protocol,
        "--seed",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    cli.run([*asked, "--out", str(tmp_path / "out"), "--evidence"])
    folder = tmp_path / "out" / "evidence"
    files = sorted(folder.glob("*/node-*/*.json"))
    told = capsys.readouterr().err.splitlines()[-1]
    if protocol == "raft":
        assert list(folder.iterdir()) == []
        assert told == "evidence: none, nobody is accused of anything that can be shown"
        return
    assert told == f"evidence: {len(files)} files in {folder}; check one with replog evidence verify {files[0]}"
    assert {path.parent.name for path in files} == {"node-1", "node-2", "node-3"}
    assert {path.parents[1].name for path in files} == {"pbft-quick-sim-1"}
    for path in files:
        pinned = str(path.parents[1] / "ca.pem")
        assert cli.run(["evidence", "verify", str(path), "--ca", pinned]) == 0
    assert evidence.verify(evidence.read(files[0])).culprit == 0


def test_keyed_hashes_leave_no_files(tmp_path: Path) -> None:
    """Whoever can check a keyed hash can make one: it would prove nothing to anybody."""
    observed = Trial(shorter("equivocating-leader"), protocols.find("pbft"), 1).run()
    assert evidence_of(observed).decisions[1].charges
    assert keep(observed, tmp_path / "files") == []
    assert not (tmp_path / "files").exists()


def test_the_campaign_tells_what_was_told_noticed_and_proved(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accountability, "find", shorter)
    tally = accountability.run("equivocating-leader", 1, real=True)
    assert tally.apart > 0
    assert tally.files > 0
    assert (tally.unseen, tally.wrong, tally.not_ok) == ([], [], [])
    assert accountability._show({"equivocating-leader": tally}) == 0
    monkeypatch.setattr(Witness, "_compare", lambda *_: [])
    blind = accountability.run("equivocating-leader", 1)
    assert len(blind.unseen) == blind.apart + blind.twice > 0
    assert accountability._show({"equivocating-leader": blind}) == 1
    assert "Conflict(hearers=" in capsys.readouterr().out


def test_seeds_that_draw_macs_sign_nothing_and_are_left_out() -> None:
    assert accountability.seeds("random-byzantine", 3) == [2, 4, 6]
    assert accountability.seeds("equivocating-leader", 3) == [1, 2, 3]


# ------------------------------------------------------------------------------------------------------- the judge


def told(charges: list[Charge], conflicts: list[Conflict] | None = None, flaw: str = "") -> tuple[bool, str]:
    decisions = {node: Decisions(node) for node in (1, 2, 3)}
    decisions[1].charges += charges
    evidence = Evidence(decisions, [1, 2, 3], [], [], 0, conflicts=conflicts or [], flaw=lambda charge: flaw)
    check = Accountability().judge(evidence)
    return check.ok, check.detail


LIE = Charge(0, "two-commits", "0.7", ())


def test_the_judge_wants_proof_of_what_is_said_against_a_liar() -> None:
    assert told([LIE])[0]
    assert told([LIE], flaw="node 0 did not sign this") == (
        False,
        "node 1 cannot prove two-commits of 0: node 0 did not sign this",
    )


def test_the_judge_lets_nobody_accuse_the_correct() -> None:
    ok, detail = told([Charge(2, "two-commits", "0.7", ())])
    assert not ok
    assert "accuses 2, which is correct" in detail


def test_the_judge_wants_each_conflict_found_at_its_place() -> None:
    """By who was told both things himself; what two were told, by anybody: one of them passed it on."""
    assert told([LIE], [Conflict((1,), 0, "0.7", "phases"), Conflict((1, 2), 0, "0.7", "phases")])[0]
    assert told([LIE], [Conflict((2, 3), 0, "0.7", "phases")])[0]
    assert not told([LIE], [Conflict((2, 3), 0, "0.8", "phases")])[0]
    for conflict in (Conflict((1,), 0, "0.8", "phases"), Conflict((2,), 0, "0.7", "phases")):
        assert not told([LIE], [conflict])[0]


def test_the_judge_takes_no_other_kind_or_epoch_for_it() -> None:
    """View 8 and the checkpoint at 8 are both 8.0, and views begin anew."""
    conflict = Conflict((1, 2), 0, "8.0", "view-change", 1)
    assert told([Charge(0, "two-view-changes", "8.0", (), 0, 1)], [conflict])[0]
    assert told([Charge(0, "flawed-view-change", "8.0", (), 0, 1)], [conflict])[0]
    for kind, epoch in (("two-checkpoints", 1), ("two-new-views", 1), ("two-view-changes", 0)):
        ok, detail = told([Charge(0, kind, "8.0", (), 0, epoch)], [conflict])
        assert not ok
        assert "nobody has evidence" in detail
