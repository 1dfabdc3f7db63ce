"""`replog experiment message-cost`: what one operation costs, against the laws of the papers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from compare import experiments
from compare.experiments.message_cost import SYSTEMS, Job, Sample, counted
from compare.experiments.run import run
from replog.cli import run as command


@pytest.mark.parametrize(("f", "phases"), [(1, 24), (2, 84), (3, 180)])
def test_the_laws_are_those_of_the_papers(f: int, phases: int) -> None:
    for name in ("PBFT, signatures", "PBFT, MACs"):
        assert SYSTEMS[name].phases(3 * f + 1) == phases
    assert SYSTEMS["Raft"].phases(2 * f + 1) == 4 * f


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("PBFT, signatures", {"PrePrepare": 3, "Prepare": 9, "Commit": 12, "Submit": 1, "Reply": 4}),
        ("PBFT, MACs", {"PrePrepare": 3, "Prepare": 9, "Commit": 12, "Submit": 1, "Reply": 4}),
        ("Raft", {"AppendEntries": 3, "AppendReply": 3, "Submit": 1, "Reply": 1}),
    ],
)
def test_four_replicas_send_what_figure_1_shows_and_nothing_else(name: str, kinds: dict[str, int]) -> None:
    found = counted(SYSTEMS[name], 4, 1, operations=3)
    assert dict(found.kinds) == {kind: 3 * number for kind, number in kinds.items()}
    assert found.other == 0


class Small(type(experiments.find("message-cost"))):  # type: ignore[misc]
    def jobs(self, seeds: list[int]) -> list[Job]:
        return [job for job in super().jobs(seeds) if job.n <= 4]


def test_the_command_compares_with_the_laws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compare.experiments.message_cost.EXPERIMENT", Small())
    out = tmp_path / "out"
    code = command(["experiment", "message-cost", "--runs", "1", "--workers", "1", "--json", "--out", str(out)])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert len(report["comparisons"]) == 9
    assert {path.name for path in out.glob("*.svg")} == {"messages.svg", "bytes.svg"}


class Chatty(Small):
    """As if each operation had one message more."""

    def measure(self, job: Job) -> Sample:
        sample: Sample = super().measure(job)
        return replace(sample, phases=sample.phases + sample.operations)


def test_one_message_more_differs_from_the_law() -> None:
    report = run(Chatty(), [1], workers=1)
    assert sum(not one.holds for one in report.comparisons) == 7
