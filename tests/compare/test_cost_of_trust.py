"""`replog experiment cost-of-trust`: the same load on Raft and on PBFT with MACs and with signatures."""

import json
from pathlib import Path

import pytest

from compare import experiments
from compare.experiments.cost_of_trust import CLIENTS, Job, Sample, measured
from compare.experiments.run import run
from replog.cli import run as command


def test_macs_cost_no_signature_and_raft_one_a_request() -> None:
    raft, macs, signatures = (
        measured(Job(name, 1, 1), 4 * CLIENTS) for name in ("Raft", "PBFT, MACs", "PBFT, signatures")
    )
    assert (raft.n, macs.n, signatures.n) == (3, 4, 4)
    assert macs.of("signed") == macs.of("verified") == 0
    assert raft.of("macs") == signatures.of("macs") == 0
    assert raft.of("signed") < 1.5 < signatures.of("signed")
    assert raft.of("verified") == 0
    assert all(one.of("syncs") and one.operations_s for one in (raft, macs, signatures))


class Small(type(experiments.find("cost-of-trust"))):  # type: ignore[misc]
    def jobs(self, seeds: list[int]) -> list[Job]:
        return [job for job in super().jobs(seeds) if job.f == 1]

    def measure(self, job: Job) -> Sample:
        return measured(job, 4 * CLIENTS)


def test_the_command_puts_the_three_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compare.experiments.cost_of_trust.EXPERIMENT", Small())
    out = tmp_path / "out"
    code = command(["experiment", "cost-of-trust", "--runs", "1", "--workers", "1", "--json", "--out", str(out)])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [row[0] for row in report["tables"][0]["rows"]] == [
        "Raft, n = 3",
        "PBFT, MACs, n = 4",
        "PBFT, signatures, n = 4",
    ]
    assert len(report["comparisons"]) == 3
    assert len(list(out.glob("*.svg"))) == 2


class Free(Small):
    """As if trust cost nothing."""

    def measure(self, job: Job) -> Sample:
        return Sample(4, 1.0, 1.0, (1.0,) * 7)


def test_what_costs_the_same_is_not_in_order() -> None:
    report = run(Free(), [1], workers=1)
    assert report.comparisons
    assert not any(one.holds for one in report.comparisons)
