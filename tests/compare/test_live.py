"""The same scenarios, attacks and judges on real processes."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from compare import live
from compare.live_client import LabClient
from compare.results import Verdict
from compare.runner import Job, many, one
from compare.scenario import Scenario, find

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
    real, sim = (one(Job(find(scenario), protocol, engine, 1)) for engine in ("live", "sim"))
    assert real.verdict is verdict, real
    assert sim.verdict is verdict
    assert real.acknowledged > 50
    if scenario == "equivocating-leader":
        assert real.attack_actions > 0
    if (protocol, scenario) == ("pbft", "equivocating-leader"):
        assert real.checks["accountability"].checked > real.n - 1, "processes have evidence against the liar"
    if scenario == "leader-crash":
        assert real.fault_actions == 1


def brief(scenario: str) -> Scenario:
    return find(scenario).model_copy(update={"settle_s": 2.0})


@pytest.mark.parametrize("scenario", ["no-fault", "equivocating-leader"])
def test_a_replica_that_dies_by_itself_is_an_error_with_its_last_words(
    scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bug of ours would end it; also where an attack on Raft is expected to be found."""
    work = live._Trial._work

    async def aborted(self: live._Trial) -> None:
        os.kill(self._processes.pids()[1], signal.SIGABRT)
        await work(self)

    monkeypatch.setattr(live._Trial, "_work", aborted)
    (found,) = many([Job(brief(scenario), "raft", "live", 1)])
    assert found.verdict is Verdict.ERROR
    assert "node 1 ended by itself, by signal 6" in found.error


def test_a_caller_that_breaks_is_an_error_and_not_less_load(monkeypatch: pytest.MonkeyPatch) -> None:
    call = live._Trial._call

    async def broken(self: live._Trial, client: LabClient, place: int) -> None:
        if (client.name, place) == ("c0", 0):
            raise ZeroDivisionError("planted")
        await call(self, client, place)

    monkeypatch.setattr(live._Trial, "_call", broken)
    (found,) = many([Job(brief("no-fault"), "raft", "live", 1)])
    assert found.verdict is Verdict.ERROR
    assert "ZeroDivisionError: planted at test_live.py" in found.error


def test_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one(Job(find("no-fault"), "raft", "live", 1))
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in processes.splitlines() if str(tmp_path) in line]
    assert not list(tmp_path.iterdir())
