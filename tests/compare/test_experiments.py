"""`replog experiment`: the registry, the report and its files, intervals, and elections as they are published."""

import json
import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from compare import experiments
from compare.experiments import intervals, raft_crash
from compare.experiments.base import Axis, Findings, Line, Mark, Picture
from compare.experiments.picture import svg, ticks
from compare.experiments.raft_crash import RAFT, Outcome, Setting, trial
from compare.experiments.raft_elections import LATENCIES, Job, is_split, split_chance, split_setting
from compare.experiments.run import Interrupted, run
from compare.mutants.base import MutantSpec
from raft import RaftCore
from raft.election import Election
from replog.cli import run as command
from replog.errors import ConfigError
from replog.types import Micros

# ---------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)],
)
def test_wilson_is_as_in_the_tables(hits: int, trials: int, low: float, high: float) -> None:
    found = intervals.wilson(hits, trials)
    assert found == pytest.approx((low, high), abs=5e-4)


def test_intervals_hold_what_they_are_of_as_often_as_they_say() -> None:
    chance = random.Random(1)
    shares = means = medians = 0
    for _ in range(1_000):
        values = sorted(chance.random() for _ in range(100))
        shares += intervals.wilson(sum(value < 0.2 for value in values), 100).holds(0.2)
        means += intervals.of_mean(values).holds(0.5)
        medians += intervals.of_quantile(values, 0.5).holds(0.5)
    assert all(930 <= hits <= 980 for hits in (shares, means, medians)), (shares, means, medians)


def test_what_a_chance_makes_likely_is_exact() -> None:
    assert intervals.likelihood(1, 20, 0.0006) == pytest.approx(2 * (1 - 0.9994**20))
    assert intervals.likelihood(5, 10, 0.5) == 1
    assert intervals.likelihood(0, 10, 0.5) == pytest.approx(2 / 1024)
    assert intervals.likelihood(900, 4_000, 0.18) < 1e-9
    assert intervals.likelihood(717, 4_000, 0.1808) > 0.5


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="hits = 3, trials = 2"):
        intervals.wilson(3, 2)
    with pytest.raises(ValueError, match="at least one"):
        intervals.of_quantile([], 0.5)


# ----------------------------------------------------------------------------------------------------------- pictures


def test_a_picture_is_well_formed_and_says_everything() -> None:
    axis = Axis(label="x < y", least=1, most=1000, logarithmic=True)
    lines = [Line(name="a & b", points=[(1, 0), (10, 0.5), (2000, 1)], steps=True)]
    marks = [Mark(name="published", x=10, y=0.5), Mark(name="measured", x=20, y=0.4, low=0.3, high=0.5)]
    picture = Picture(name="p", title="t", x=axis, y=Axis(label="share", least=0, most=1), lines=lines, marks=marks)
    root = ET.fromstring(svg(picture))
    said = "".join(root.itertext())
    assert all(word in said for word in ("a & b", "x < y", "published", "measured", "share"))
    assert root.tag.endswith("svg")


def test_ticks_are_round_and_within_the_axis() -> None:
    assert ticks(Axis(label="", least=0, most=0.25)) == [0, 0.05, 0.1, 0.15, 0.2, 0.25]
    assert ticks(Axis(label="", least=50, most=1000, logarithmic=True)) == [50, 100, 200, 500, 1000]


# ---------------------------------------------------------------------------------------------------------- elections


def share_of_splits(share: float, trials: int, spec: MutantSpec | None = None) -> tuple[int, intervals.Interval]:
    outcomes = [trial(split_setting(share), seed, spec or RAFT) for seed in range(1, trials + 1)]
    split = sum(map(is_split, outcomes))
    return split, intervals.wilson(split, trials)


@pytest.mark.parametrize(("share", "percent"), [(0.01, 0.06), (0.1, 5.23), (0.2, 18.08)])
def test_the_law_gives_the_published_chances(share: float, percent: float) -> None:
    assert split_chance(share) * 100 == pytest.approx(percent, abs=0.005)


def test_split_votes_follow_the_law() -> None:
    _, interval = share_of_splits(0.2, 150)
    assert interval.holds(split_chance(0.2))


@pytest.mark.slow
@pytest.mark.parametrize("share", LATENCIES)
def test_split_votes_follow_the_law_in_many_trials(share: float) -> None:
    _, interval = share_of_splits(share, 1_500)
    assert interval.holds(split_chance(share))


class _DrawsNothing(Election):
    def _draw(self) -> Micros:
        return self.config.election_timeout_min_us


class _DrawsFromHalf(Election):
    def _draw(self) -> Micros:
        low, high = self.config.election_timeout_min_us, self.config.election_timeout_max_us
        return self._rng.randint(low, (low + high) // 2)


class DrawsNothing(RaftCore):
    election_class = _DrawsNothing


class DrawsFromHalf(RaftCore):
    election_class = _DrawsFromHalf


@pytest.mark.parametrize(("broken", "trials"), [(DrawsNothing, 6), (DrawsFromHalf, 100)])
def test_a_core_that_draws_otherwise_is_outside(
    broken: type[RaftCore], trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raft_crash, "GIVEN_UP_US", 1_000_000)
    _, interval = share_of_splits(0.2, trials, MutantSpec(RAFT, broken))
    assert not interval.holds(split_chance(0.2))


def test_the_broadcast_time_is_15_ms() -> None:
    """From the request until the last of four has written it down and answered, as the trial's disks and links are."""
    chance = random.Random(1)
    writes, ways = (
        raft_crash.Exponential(raft_crash.WRITE_US).sampler(chance),
        raft_crash.Uniform(100, 300).sampler(chance),
    )
    rounds = [max(ways() + writes() + ways() for _ in range(4)) for _ in range(20_000)]
    assert fmean(rounds) == pytest.approx(15_000, rel=0.02)


def test_without_randomness_nobody_leads_and_a_little_of_it_helps() -> None:
    lockstep = trial(Setting(150_000, 150_000), 1)
    assert lockstep.leaderless_us is None
    assert lockstep.terms > 100
    assert all(trial(Setting(150_000, 155_000), seed).leaderless_us for seed in range(1, 6))


def test_nobody_leads_sooner_than_half_the_least_time_out() -> None:
    """[Raft 9.3]: a leader that crashes right before its next heartbeat is missed soonest."""
    found = [trial(Setting(150_000, 300_000), seed).leaderless_us for seed in range(1, 21)]
    assert all(time is not None and time >= 75_000 for time in found)


def test_a_trial_is_the_same_wherever_it_is_made() -> None:
    setting = Setting(150_000, 155_000, pre_vote=True)
    assert trial(setting, 7) == trial(setting, 7)
    assert trial(setting, 7) != trial(replace(setting, pre_vote=False), 7)


# --------------------------------------------------------------------------------------------------------- the command


class Small(type(experiments.find("raft-elections"))):  # type: ignore[misc]
    """Elections without what takes long."""

    def jobs(self, seeds: list[int]) -> list[Job]:
        return [job for job in super().jobs(seeds) if job.setting.low_us != job.setting.high_us]

    def measure(self, job: Job) -> Outcome:
        return trial(job.setting, job.seed)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compare.experiments.raft_elections.EXPERIMENT", Small())


@pytest.mark.usefixtures("small")
def test_the_command_leaves_table_pictures_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code = command(["experiment", "raft-elections", "--runs", "2", "--workers", "1", "--json", "--out", str(out)])
    report = json.loads(capsys.readouterr().out)
    assert code in (0, 1)
    assert report["trials"] == 2 * 2 * (9 + 12)
    assert json.loads((out / "experiment.json").read_text()) == report
    assert {path.name for path in out.glob("*.svg")} == {f"{picture['name']}.svg" for picture in report["pictures"]}
    assert len(report["pictures"]) == 6
    text = (out / "report.txt").read_text()
    assert "median 287 ms" in text
    assert "18.08%" in text
    assert command(["experiment", "raft-elections", "--runs", "1", "--out", str(out)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


class Tiny(Small):
    """What takes least."""

    def jobs(self, seeds: list[int]) -> list[Job]:
        return [job for job in super().jobs(seeds) if job.setting.low_us == 100_000 or job.setting.latency_us]


def test_workers_change_nothing() -> None:
    one, two = (run(Tiny(), [1], workers=workers) for workers in (1, 2))
    assert one.trials == 2 * (1 + 12)
    assert one.model_dump(exclude={"meta"}) == two.model_dump(exclude={"meta"})


class Ends(Small):
    """Ctrl-C in the fifth trial."""

    made = 0

    def measure(self, job: Job) -> Outcome:
        self.made += 1
        if self.made == 5:
            raise KeyboardInterrupt
        return super().measure(job)


def test_what_was_measured_before_ctrl_c_is_kept_and_marked() -> None:
    with pytest.raises(Interrupted) as ended:
        run(Ends(), [1], workers=1)
    report = ended.value.report
    assert report is not None
    assert report.trials == 4
    assert not report.complete
    assert not report.met


class Empty(Small):
    def findings(self, measured: object) -> Findings:
        return Findings(tables=[], pictures=[], comparisons=[])


def test_an_experiment_that_compares_nothing_is_vacuous(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compare.experiments.raft_elections.EXPERIMENT", Empty())
    arguments = ["experiment", "raft-elections", "--runs", "1", "--workers", "1", "--out", str(tmp_path / "out")]
    assert command(arguments) == 6


def test_what_is_unknown_or_contradicts_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="'gone': must be one of raft-elections"):
        experiments.find("gone")
    assert command(["experiment", "raft-elections", "--runs", "3", "--seeds", "1-3"]) == 2
    assert "--runs = 3: must not stand beside --seeds = '1-3'" in capsys.readouterr().err
    assert command(["experiment", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "raft-elections"
