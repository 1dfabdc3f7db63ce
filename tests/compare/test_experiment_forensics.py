"""`replog experiment forensics`: coalitions of f + 1 to 2f fork the log, and an archive proves who they were."""

import json
from pathlib import Path

import pytest

from compare import experiments
from compare.experiments.forensics import Coalition, Job, Sample, forks, measured, named
from compare.experiments.run import run
from pbft import blame
from replog.cli import run as command

ONE_VIEW, OVER_VIEWS = Job(1, 2, "signatures", 3), Job(1, 2, "signatures", 2)


@pytest.mark.parametrize("f", [1, 2, 3])
def test_each_world_of_a_coalition_has_a_quorum(f: int) -> None:
    for liars in range(f + 1, 2 * f + 1):
        for seed in range(20):
            drawn = Coalition.of(Job(f, liars, "signatures", seed))
            assert sorted([*drawn.liars, *drawn.first, *drawn.second]) == list(range(3 * f + 1))
            assert min(len(drawn.first), len(drawn.second)) + liars >= 2 * f + 1


def test_a_fork_in_one_view_names_f_plus_1_and_nobody_else() -> None:
    found = measured(ONE_VIEW)
    assert found.forked
    assert found.views == 0
    assert min(found.named) == min(found.alone) == 2
    assert found.wrong == 0
    assert found.window > 10


def test_a_fork_over_views_needs_the_new_views_of_the_higher_side() -> None:
    found = measured(OVER_VIEWS)
    assert found.forked
    assert found.views == 1
    assert min(found.named) == 2
    assert min(found.alone) == 0
    assert found.wrong == 0


def test_who_does_not_look_for_what_is_hidden_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blame, "_hidings", lambda seq, said: iter(()))
    found = measured(OVER_VIEWS)
    assert found.forked
    assert min(found.named) == 0
    report = Told(found).findings([(OVER_VIEWS, found)])
    assert not any(one.holds for one in report.comparisons)


def test_under_macs_the_same_coalition_forks_the_log_and_nobody_is_proved_to_have_lied() -> None:
    found = measured(Job(1, 2, "macs", 3))
    assert found.forked
    assert named([found]) == [0]


def test_f_liars_fork_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the worlds has no quorum: the run is vacuous."""
    monkeypatch.setattr(Coalition, "of", classmethod(lambda cls, job: cls((0,), (1,), (2, 3))))
    found = measured(ONE_VIEW)
    assert found.acts
    assert not found.forked
    assert not forks([found])


class Told(type(experiments.find("forensics"))):  # type: ignore[misc]
    """Without a run."""

    def __init__(self, signed: Sample, macs: Sample | None = None) -> None:
        self._told = {"signatures": signed, "macs": macs or signed}

    def measure(self, job: Job) -> Sample:
        names = tuple(range(job.f + 1, job.liars + 1)) if self._told[job.auth].named else ()
        found = self._told[job.auth]
        return Sample(found.forked, found.acts, names, names, found.wrong, found.caught, found.window, found.views)


PUBLISHED = Told(Sample(True, 9, (2,), (2,), window=20), Sample(True, 9))


def test_the_command_compares_with_what_is_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compare.experiments.forensics.EXPERIMENT", PUBLISHED)
    out = tmp_path / "out"
    code = command(["experiment", "forensics", "--runs", "2", "--workers", "1", "--json", "--out", str(out)])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["meta"]["seeds"] == [1, 2]
    assert len(report["comparisons"]) == 12
    assert [path.name for path in out.glob("*.svg")] == ["forensics.svg"]
    rows = report["tables"][0]["rows"]
    assert rows[0] == [4, 2, "signatures", 2, 2, 0, 2, 2, 2, 2, 0, 20, 0]
    assert rows[6] == [4, 2, "macs", 2, 2, 0, 2, 0, 0, None, 0, None, None]


@pytest.mark.parametrize(
    ("signed", "macs", "holding"),
    [
        (Sample(True, 9, (2,), wrong=1), Sample(True, 9), 6),
        (Sample(False, 9), Sample(True, 9), 6),
        (Sample(True, 0, (2,)), Sample(True, 9), 6),
        (Sample(True, 9, (2,)), Sample(True, 9, caught=1), 6),
        (Sample(True, 9), Sample(False, 9), 0),
    ],
    ids=["a correct one named", "no violation", "no act", "caught under MACs", "nothing"],
)
def test_what_is_not_as_published_differs(signed: Sample, macs: Sample, holding: int) -> None:
    report = run(Told(signed, macs), [1], workers=1)
    assert sum(one.holds for one in report.comparisons) == holding
