"""`replog experiment failure-models`: the questions, how many replicas they strike, and what is made of verdicts."""

import json
from pathlib import Path

import pytest

from compare import experiments
from compare.experiments.failure_models import ANYTHING, CLASSES, QUESTIONS, Job, Question, Sample, counts, word
from compare.experiments.run import run
from compare.results import Verdict
from compare.sim import Trial
from replog import protocols
from replog.cli import run as command


def test_each_class_is_asked_up_to_f_and_at_f_plus_one() -> None:
    asked = {(question.failures, question.times) for question in QUESTIONS if question.pbft}
    assert asked == {(failures, times) for failures in CLASSES for times in (1, 2)}


@pytest.mark.parametrize("question", [one for one in QUESTIONS if one.beyond], ids=lambda one: one.scenario)
def test_what_is_asked_beyond_strikes_f_and_the_leader(question: Question) -> None:
    scenario = question.asked()
    assert [happening.target for happening in scenario.timeline] == ["f backups", "leader"]
    assert scenario.name == f"{question.scenario}-of-two"
    type(scenario).model_validate(scenario.model_dump())


def test_beyond_f_two_different_replicas_are_struck() -> None:
    scenario = next(one for one in QUESTIONS if one.beyond and one.scenario == "fail-stop").asked()
    trial = Trial(scenario, protocols.find("raft"), 1)
    trial.run()
    assert len({node for nodes in trial.struck.values() for node in nodes}) == 2


def sample(*verdicts: Verdict) -> list[Sample]:
    return [Sample(verdict, 4, 1, "") for verdict in verdicts]


def test_the_worst_verdict_is_the_word_for_all() -> None:
    assert word([]) == "not asked"
    assert word(sample(Verdict.OK, Verdict.OK)) == "survives"
    assert word(sample(Verdict.OK, Verdict.STALLED)) == "safe, not live"
    assert word(sample(Verdict.STALLED, Verdict.UNSAFE)) == "NOT SAFE"
    assert word(sample(Verdict.OK, Verdict.VACUOUS)) == "proves nothing"
    assert counts(sample(Verdict.OK, Verdict.OK))[Verdict.OK] == 2


class Small(type(experiments.find("failure-models"))):  # type: ignore[misc]
    """What is quickest to ask, of Raft."""

    def jobs(self, seeds: list[int]) -> list[Job]:
        quick = ("silent", "lie-in-reply")
        return [job for job in super().jobs(seeds) if job.protocol == "raft" and job.question.scenario in quick]


def test_the_command_says_what_is_survived(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compare.experiments.failure_models.EXPERIMENT", Small())
    out = tmp_path / "out"
    code = command(["experiment", "failure-models", "--runs", "1", "--workers", "1", "--json", "--out", str(out)])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    rows = {row[0]: row[1:] for row in report["tables"][0]["rows"]}
    assert rows["crash-stop"] == ["not asked"] * 4
    assert rows["Byzantine"] == ["not asked", "not asked", "NOT SAFE", "NOT SAFE"]
    assert {path.name for path in out.glob("*.svg")} == {"failure-models-pbft.svg", "failure-models-raft.svg"}


class Lost(Small):
    """As if no failure had struck."""

    def measure(self, job: Job) -> Sample:
        return Sample(Verdict.VACUOUS, 3, 0, "")


def test_runs_that_prove_nothing_are_not_as_promised() -> None:
    report = run(Lost(), [1], workers=1)
    assert report.comparisons
    assert not any(one.holds for one in report.comparisons)


def test_what_nobody_promises_is_shown_and_not_compared() -> None:
    question = next(one for one in QUESTIONS if one.raft == ANYTHING)
    found = Small().findings([(Job(question, "raft", 1), sample(Verdict.OK)[0])])
    assert not found.comparisons
    assert any(ANYTHING in row for row in found.tables[1].rows)
