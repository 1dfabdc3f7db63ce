"""`replog experiment byzantine-raft`: each lie on Raft, and the smallest run in which a judge of safety objects."""

import json
from pathlib import Path

import pytest

from compare import experiments
from compare.attacks import ATTACKS
from compare.experiments.byzantine_raft import (
    BY_CLIENTS,
    RARELY,
    REASONS,
    Job,
    Sample,
    Witness,
    attacks,
    case_of,
    drawn_case,
    measured,
    sentence,
)
from compare.experiments.run import run
from compare.hunt.case import load
from compare.hunt.trial import hunt
from compare.results import SAFETY, Verdict
from replog.cli import run as command

FOUND = Witness("agreement", "node 0 has a, node 1 has b; more", 2, False, 3, 1, 1, 9, 0, 14, 'name = "x"\n')


def test_every_attack_on_raft_is_asked_once() -> None:
    asked = [job.attack for job in experiments.find("byzantine-raft").jobs([1, 2])]
    assert sorted(asked) == sorted([name for name, kind in ATTACKS.items() if "raft" in kind.makes] + [*BY_CLIENTS])
    assert set(REASONS) | RARELY <= set(asked)


@pytest.mark.parametrize("attack", attacks())
def test_each_has_a_case_of_its_own_and_one_among_drawn_faults(attack: str) -> None:
    for case in (case_of(attack, 3), drawn_case(attack, 3)):
        assert case.seed == 3
        assert list(case.protocols) == ["raft"]
        assert case.workload.byzantine if attack in BY_CLIENTS else attack in case.attack_names


def test_the_witness_is_small_and_fails_again_for_the_same_judge(tmp_path: Path) -> None:
    found = measured(Job("rewrite-committed", (1, 2))).witness
    assert found is not None
    assert found.judge in SAFETY
    assert (found.seed, found.n, found.liars, found.clients, found.faults) == (1, 3, 1, 1, 0)
    assert found.operations < 20
    path = tmp_path / "witness.toml"
    path.write_text(found.case)
    assert hunt(load(path)).judge == found.judge


@pytest.mark.parametrize("attack", ["delay", "replay-old"])
def test_a_lie_that_ends_leaves_no_timer_that_the_server_does_not_know(attack: str) -> None:
    assert hunt(case_of(attack, 1)).verdict in (Verdict.OK, Verdict.VACUOUS)


def test_a_lie_that_breaks_nothing_is_told_with_its_runs() -> None:
    found = measured(Job("duplicate", (1,)))
    assert found.witness is None
    assert found.verdicts == {Verdict.OK: 2}
    assert found.acts == 2


def test_a_judge_is_told_in_one_sentence() -> None:
    assert sentence("node 0 has a, node 1 has b; more of it") == "node 0 has a, node 1 has b"
    assert sentence("no order:\n   from   to  process\n   1   2  c0   put") == "no order: | 1 2 c0 put"
    assert len(sentence("a" * 500)) == 200


class Known(type(experiments.find("byzantine-raft"))):  # type: ignore[misc]
    """As everybody knows, without a run."""

    def measure(self, job: Job) -> Sample:
        if job.attack in REASONS:
            return Sample({Verdict.OK: 2 * len(job.seeds)}, 2 * len(job.seeds), None)
        return Sample({Verdict.OK: 1, Verdict.UNSAFE: 1}, 1, FOUND)


def test_the_command_leaves_every_witness_as_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compare.experiments.byzantine_raft.EXPERIMENT", Known())
    out = tmp_path / "out"
    code = command(["experiment", "byzantine-raft", "--runs", "3", "--workers", "1", "--json", "--out", str(out)])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    unsafe = [row[0] for row in report["tables"][0]["rows"]]
    assert sorted(path.stem for path in out.glob("*.toml")) == sorted(unsafe)
    assert {"twins", "vote-twice", "garbage-signatures"} <= set(unsafe)
    assert "# agreement:\n# node 0 has a, node 1 has b; more\n" in (out / "twins.toml").read_text()
    safe = {row[0]: row[1:] for row in report["tables"][2]["rows"]}
    assert safe["silent"] == [6, "6 ok", REASONS["silent"]]
    assert len(report["comparisons"]) == len(attacks()) - len(RARELY)


class Blind(Known):
    """As if no judge ever objected."""

    def measure(self, job: Job) -> Sample:
        return Sample({Verdict.OK: 6}, 6, None)


class Nothing(Known):
    """As if no lie had reached anybody."""

    def measure(self, job: Job) -> Sample:
        return Sample({Verdict.VACUOUS: 6}, 0, None)


class Wrong(Known):
    """As if what breaks nothing broke Raft, and what breaks it took two liars."""

    def measure(self, job: Job) -> Sample:
        liars = 1 if job.attack in REASONS else 2
        return Sample({Verdict.UNSAFE: 1}, 0, Witness("agreement", "", 1, False, 3, liars, 1, 9, 0, 1, ""))


@pytest.mark.parametrize(("made", "holding"), [(Blind, len(REASONS)), (Nothing, 0), (Wrong, 0)])
def test_what_is_not_as_expected_differs(made: type[Known], holding: int) -> None:
    report = run(made(), [1], workers=1)
    assert sum(one.holds for one in report.comparisons) == holding
