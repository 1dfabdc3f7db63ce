"""The same scenarios, attacks and judges on real processes."""

import subprocess
from pathlib import Path

import pytest

from compare.results import Verdict
from compare.runner import Job, one
from compare.scenario import find

pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.mark.parametrize(
    ("protocol", "scenario", "verdict"),
    [
        ("pbft", "equivocating-leader", Verdict.OK),
        ("raft", "equivocating-leader", Verdict.UNSAFE),
        ("pbft", "leader-crash", Verdict.OK),
        ("raft", "leader-crash", Verdict.OK),
    ],
)
def test_the_verdict_is_that_of_the_simulation(protocol: str, scenario: str, verdict: Verdict) -> None:
    live, sim = (one(Job(find(scenario), protocol, engine, 1)) for engine in ("live", "sim"))
    assert live.verdict is verdict, live
    assert sim.verdict is verdict
    assert live.acknowledged > 50
    if scenario == "equivocating-leader":
        assert live.attack_actions > 0


def test_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one(Job(find("no-fault"), "raft", "live", 1))
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in processes.splitlines() if str(tmp_path) in line]
    assert not list(tmp_path.iterdir())
