"""`replog experiment slow-primary`: n/T without `robust`, and what is left with it."""

import json
from pathlib import Path

import pytest

from compare import experiments
from compare.experiments.run import run
from compare.experiments.slow_primary import Job, Sample, measured
from replog.cli import run as command


def test_of_two_clients_a_primary_that_holds_back_for_400_ms_serves_five_requests_a_second() -> None:
    found = measured(Job(False, 2, 400, 1), seconds=4)
    assert found.operations_s == pytest.approx(5, rel=0.15)
    assert found.views == 0
    assert found.acts


class Known(type(experiments.find("slow-primary"))):  # type: ignore[misc]
    """As published, without a run."""

    def measure(self, job: Job) -> Sample:
        if not job.delay_ms:
            return Sample(300, 0, 0)
        return Sample(250, 1, 5) if job.robust else Sample(job.waiting * 1000 / job.delay_ms, 0, 5)


def test_the_command_compares_with_the_law(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compare.experiments.slow_primary.EXPERIMENT", Known())
    out = tmp_path / "out"
    code = command(["experiment", "slow-primary", "--runs", "1", "--workers", "1", "--json", "--out", str(out)])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert len(report["comparisons"]) == 4 + 3
    assert [path.name for path in out.glob("*.svg")] == ["slow-primary.svg"]
    assert "0.83" in (out / "report.txt").read_text()


class Deposed(Known):
    """As if `robust` did nothing, and an old time-out deposed the primary."""

    def measure(self, job: Job) -> Sample:
        found: Sample = super().measure(job)
        return Sample(20, 0, 5) if job.robust and job.delay_ms else Sample(found.operations_s, 1, found.acts)


def test_what_is_not_as_published_differs() -> None:
    report = run(Deposed(), [1], workers=1)
    assert len(report.comparisons) == 7
    assert not any(one.holds for one in report.comparisons)


class Idle(Known):
    """As if the primary had held nothing back."""

    def measure(self, job: Job) -> Sample:
        found: Sample = super().measure(job)
        return Sample(found.operations_s, found.views, 0)


def test_a_primary_that_was_never_slow_proves_nothing() -> None:
    assert not any(one.holds for one in run(Idle(), [1], workers=1).comparisons)
