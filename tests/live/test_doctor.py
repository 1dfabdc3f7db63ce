"""`replog doctor`: each judgement on measured figures, and the whole on a real cluster."""

import datetime
import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replog import protocols
from replog.cli import run
from replog.config import create_cluster
from replog.live import doctor
from replog.live.doctor import State, Times
from tests.live.command import Shell

DAY_US = 86_400e6


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


def states(findings: Iterator[doctor.Finding]) -> dict[str, State]:
    return {one.name: one.state for one in findings}


def timing(options: dict[str, Any], mtbf_us: float = 30 * DAY_US, **measured: float | None) -> dict[str, State]:
    chosen = protocols.find("raft").options(options)
    patience, word = doctor.patience_of(chosen)
    given: dict[str, Any] = {"broadcast": 600.0, "write": 400.0, "worst_write": 5_000.0, **measured}
    return states(doctor.timing(Times(**given, patience=patience, word=word), mtbf_us, chosen))


SHORT = {"election_timeout_min_us": 12_000, "election_timeout_max_us": 24_000, "heartbeat_us": 4_000}
TIGHT = {"heartbeat_us": 150_000}


@pytest.mark.parametrize(
    ("options", "measured", "wrong"),
    [
        ({}, {}, set()),
        (SHORT, {}, set()),
        (SHORT, {"broadcast": 15_000.0}, {"broadcast time"}),
        ({}, {"broadcast": 15_000.0}, set()),
        ({}, {"write": 40_000.0}, {"broadcast time"}),
        ({}, {"worst_write": 900_000.0}, {"disk"}),
        ({}, {"mtbf_us": 20e6}, {"time between failures"}),
        (TIGHT, {}, {"heartbeat"}),
    ],
)
def test_the_relation_of_times_is_held_against_what_is_measured(
    options: dict[str, Any], measured: dict[str, float], wrong: set[str]
) -> None:
    """[Raft 5.6, 9.3]: with a broadcast time of 15 ms, time-outs of 12-24 ms replace leaders for nothing."""
    found = timing(options, **measured)
    assert {name for name, state in found.items() if state is not State.GOOD} == wrong


def test_what_nobody_has_measured_is_not_called_good() -> None:
    assert timing({}, broadcast=None)["broadcast time"] is State.UNKNOWN


def test_pbft_has_its_view_time_out_in_that_place() -> None:
    assert doctor.patience_of(protocols.find("pbft").options({})) == (1_000_000, "view_timeout_us")


def test_elections_that_come_too_often_are_told() -> None:
    seldom = doctor.seldom_us(protocols.find("raft").options({}))
    assert seldom == 30e6
    assert doctor.elections(400, 400e6, seldom, "term").state is State.WARNING
    assert doctor.elections(400, 400 * 60e6, seldom, "term").state is State.GOOD
    assert doctor.elections(3, 1e6, seldom, "term").state is State.GOOD


def test_primaries_that_change_in_turn_are_no_trouble() -> None:
    pbft = protocols.find("pbft").options
    plain, robust = (doctor.seldom_us(pbft({"robust": robust})) for robust in (False, True))
    assert (plain, robust) == (100e6, 30e6)
    assert doctor.elections(1_000, 1_000 * 60e6, robust, "view").state is State.GOOD
    assert doctor.elections(1_000, 1_000 * 5e6, robust, "view").state is State.WARNING


@pytest.mark.parametrize(
    ("made", "size"),
    [
        ({"n": 1, "f": 0}, State.WARNING),
        ({"n": 4, "f": 1}, State.NOTE),
        ({"n": 5, "f": 1}, State.NOTE),
        ({}, State.GOOD),
    ],
)
def test_sizes_that_buy_nothing_are_told(made: dict[str, int], size: State, tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "raft", **made)  # type: ignore[arg-type]
    assert states(doctor.configuration(config, config.genesis))["size"] is size


def test_certificates_that_end_are_told_in_time(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "raft", clients=("cli",))
    now = datetime.datetime.now(datetime.UTC)
    in_years = {0: State.GOOD, 3640: State.WARNING, 3700: State.WRONG}
    for days, state in in_years.items():
        (found,) = doctor.certificates(config.folder, now + datetime.timedelta(days=days))
        assert found.state is state
    (config.folder / "node-1" / "tls.pem").write_text("nothing")
    assert State.WRONG in [one.state for one in doctor.certificates(config.folder, now)]


def test_a_key_that_others_can_read_is_told(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "raft", clients=("cli",))
    assert doctor.secrets(config.folder).state is State.GOOD
    (config.folder / "node-0" / "key.pem").chmod(0o644)
    found = doctor.secrets(config.folder)
    assert found.state is State.WRONG
    assert "node-0/key.pem" in found.measured


def test_too_few_files_and_too_little_room_are_told(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "raft", clients=("cli",))
    assert states(doctor.files(config, {"node 0": (20, 1024)})) == {"open files": State.GOOD}
    assert states(doctor.files(config, {"node 0": (20, 32)})) == {"open files": State.WARNING}
    assert states(doctor.files(config, {"node 0": (1000, 1024)})) == {"open files": State.WARNING}
    assert doctor.room(10_000).state is State.WARNING


def test_a_machine_that_slept_breaks_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    leases = protocols.find("raft").options({"lease_reads": True})
    monkeypatch.setattr(doctor, "_slept_s", lambda: 0.0)
    assert states(doctor.clock(leases))["leases"] is State.GOOD
    monkeypatch.setattr(doctor, "_slept_s", lambda: 60.0)
    assert states(doctor.clock(leases))["leases"] is State.WARNING
    assert "leases" not in states(doctor.clock(protocols.find("raft").options({})))


def test_replicas_that_are_missing_or_told_nonsense_are_told(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "raft", clients=("cli",))
    replicas = [{"node": node, "term": 1, "detail": {"nonsense": 0}} for node in range(3)]
    report: dict[str, Any] = {"sentence": "x; y", "n": 3, "in_sync": 3, "has_quorum": True, "replicas": replicas}
    assert doctor.is_well(list(doctor.running(config, report, 1e6)))
    assert states(doctor.running(config, {**report, "in_sync": 2}, 1e6))["replicas"] is State.WARNING
    assert states(doctor.running(config, {**report, "has_quorum": False}, 1e6))["replicas"] is State.WRONG
    replicas[1]["detail"] = {"nonsense": 4}
    assert states(doctor.running(config, report, 1e6))["nonsense"] is State.WARNING


def test_a_cluster_that_does_not_run_is_examined_as_far_as_that_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "writes", lambda _: [100.0] * 3)
    create_cluster(tmp_path / "c", "raft", durability="memory", clients=("cli",))
    assert run(["doctor", "--cluster", str(tmp_path / "c"), "--json"]) == 1
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["durability"]["state"] == "warning"
    assert (found["replicas"]["state"], found["broadcast time"]["state"]) == ("note", "unknown")
    assert run(["doctor", "--cluster", str(tmp_path / "gone")]) == 3


def test_a_disk_that_cannot_be_written_is_found_and_is_no_bug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> list[float]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(doctor, "writes", full)
    create_cluster(tmp_path / "c", "raft", clients=("cli",))
    assert run(["doctor", "--cluster", str(tmp_path / "c"), "--json"]) == 1
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["disk"]["state"] == "wrong"
    assert found["disk"]["measured"] == "cannot be written: No space left on device"
    monkeypatch.setattr(doctor, "examine", full)
    assert run(["doctor", "--cluster", str(tmp_path / "c")]) == 1
    assert capsys.readouterr().err == "replog: a file: No space left on device; see replog doctor\n"


@pytest.mark.live
def test_on_a_running_cluster_the_leader_s_own_measure_is_taken(shell: Shell) -> None:
    with shell.cluster("raft", count=3):
        told = json.loads(shell.begin("doctor", "--json").communicate(timeout=60)[0])
        found = {one["name"]: one for one in told["findings"]}
        assert found["broadcast time"]["state"] != "unknown"
        assert "there and back" in found["broadcast time"]["measured"]
        assert found["replicas"]["state"] == "good"
