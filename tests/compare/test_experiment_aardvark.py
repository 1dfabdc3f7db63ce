"""`replog experiment aardvark`: one attack at a time on PBFT, on PBFT with `robust`, and on Raft."""

import json
from pathlib import Path

import pytest

from compare import experiments
from compare.experiments.aardvark import ATTACKS, NOTHING, SYSTEMS, Attack, Job, Sample, measured
from compare.experiments.run import run
from replog.cli import run as command

LATE = next(attack for attack in ATTACKS if attack.delay_ms == 1000)
STORM = next(attack for attack in ATTACKS if attack.name.startswith("flood of clients"))


def test_each_attack_is_asked_of_pbft_twice_and_of_raft_where_it_is_one() -> None:
    jobs = experiments.find("aardvark").jobs([7])
    assert {job.seed for job in jobs} == {7}
    asked = {system: {job.attack.name for job in jobs if job.system == system} for system in SYSTEMS}
    assert asked["off"] == asked["on"] == {attack.name for attack in (*NOTHING, *ATTACKS)}
    assert asked["raft"] == {"no attack", STORM.name, *(attack.name for attack in ATTACKS if attack.delay_ms)}


@pytest.mark.parametrize("system", ["off", "raft"])
def test_a_leader_that_holds_back_for_a_second_leaves_a_tenth_and_keeps_its_place(system: str) -> None:
    usual, found = measured(Job(system, NOTHING[0], 1), seconds=1), measured(Job(system, LATE, 1), seconds=3)
    assert 0 < found.operations_s < usual.operations_s / 10
    assert found.acts
    assert found.views == 0


def test_a_storm_of_clients_stops_raft_too() -> None:
    usual, storm = (measured(Job("raft", attack, 1), seconds=1) for attack in (NOTHING[0], STORM))
    assert storm.acts > 5_000
    assert storm.operations_s < usual.operations_s / 20


def test_what_is_none_for_raft_is_not_asked_of_it() -> None:
    with pytest.raises(ValueError, match="Big MAC: it is no attack on Raft"):
        measured(Job("raft", ATTACKS[0], 1))


class Known(type(experiments.find("aardvark"))):  # type: ignore[misc]
    """As published, without a run."""

    def measure(self, job: Job) -> Sample:
        if job.attack in NOTHING:
            return Sample(1000, 0, 0)
        return Sample(1000 * self.left(job.system, job.attack), 0, 5)

    def left(self, system: str, attack: Attack) -> float:
        if system == "on":
            return 0.9
        return min(0.9, 8 / attack.delay_ms) if attack.delay_ms else 0.01


def test_the_command_puts_the_published_figures_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compare.experiments.aardvark.EXPERIMENT", Known())
    out = tmp_path / "out"
    code = command(["experiment", "aardvark", "--seeds", "3-4", "--workers", "1", "--json", "--out", str(out)])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["meta"]["seeds"] == [3, 4]
    assert [path.name for path in out.glob("*.svg")] == ["aardvark.svg"]
    rows = {row[0]: row[1:] for row in report["tables"][0]["rows"]}
    assert rows["faulty clients: Big MAC"] == ["0.01", "0.90", None, "0.00", "1.00"]
    assert rows["flood of a replica"] == ["0.01", "0.90", None, "0.00", "0.30"]
    assert rows["primary 100 ms late"] == ["0.08", "0.90", "0.08", "0.02", "0.98"]
    assert rows["primary 1,000 ms late"][3:] == [None, None]


class Useless(Known):
    """As if `robust` did nothing, and the papers' protocol stood everything."""

    def left(self, system: str, attack: Attack) -> float:
        return float(super().left("off" if system == "on" else "on", attack)) + (system == "off")


def test_what_is_not_as_published_differs() -> None:
    report = run(Useless(), [1], workers=1)
    differing = {one.what for one in report.comparisons if not one.holds}
    assert all(one.what in differing for one in report.comparisons if not one.what.startswith("PBFT with robust"))
    assert {"PBFT with robust, flood of a replica", "PBFT with robust, primary 100 ms late"} <= differing


class Idle(Known):
    """As if nobody had attacked."""

    def measure(self, job: Job) -> Sample:
        found: Sample = super().measure(job)
        return Sample(found.operations_s, found.views, 0)


def test_an_attack_that_never_struck_proves_nothing() -> None:
    assert not any(one.holds for one in run(Idle(), [1], workers=1).comparisons)
