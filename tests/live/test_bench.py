"""The load generator: its arithmetic, and one short measurement of each protocol."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from replog.cli import run
from replog.cli.options import writable
from replog.config import create_cluster
from replog.live import bench
from replog.live.bench import Cpu, LoadClient, Plan, Tally, cpu_seconds, figures, percentiles

Capsys = pytest.CaptureFixture[str]


def test_percentiles_count_operations_not_requests() -> None:
    assert percentiles([(1000, 98), (5000, 1), (9000, 1)], (0.5, 0.98, 0.99, 1.0)) == [1.0, 1.0, 5.0, 9.0]


def test_percentiles_of_one_and_of_none() -> None:
    assert percentiles([(1234, 1)], (0.0, 0.5, 1.0)) == [1.234] * 3
    assert percentiles([], (0.5, 0.99)) == [None, None]


def test_warm_up_and_what_comes_late_do_not_count() -> None:
    tally = Tally(begin=1_000_000, end=3_000_000)
    tally.done(999_999, 900_000, 7)
    tally.done(1_000_000, 900_000, 10)
    tally.done(3_000_000, 2_000_000, 20)
    tally.done(3_000_001, 2_000_000, 40)
    work = {"signatures_made": 60, "macs": 15, "turns": 90}
    told = figures(Plan("raft", clients=2, outstanding=5), 3, "links", tally, Cpu(replicas=0.06, load=0.03), work)
    assert told["acknowledged"] == 30
    assert told["throughput_ops_s"] == 15
    assert told["latency_ms"] == {"p50": 1000.0, "p99": 1000.0, "max": 1000.0}
    assert told["replica_cpu_s_per_1000_ops"] == 2.0
    assert told["load_cpu_s_per_1000_ops"] == 1.0
    assert (told["protocol"], told["n"], told["f"], told["clients"], told["outstanding"]) == ("raft", 3, 1, 2, 5)
    assert (told["auth"], told["reads"]) == ("links", 0.0)
    assert (told["signatures_per_op"], told["macs_per_op"], told["turns_per_op"]) == (2.0, 0.5, 3.0)


def test_nothing_answered_gives_no_invented_figures() -> None:
    told = figures(Plan("raft"), 3, "links", Tally(begin=0, end=1_000_000), Cpu(0.5, 0.5), None)
    assert told["throughput_ops_s"] == 0
    assert told["latency_ms"] == {"p50": None, "p99": None, "max": None}
    assert told["replica_cpu_s_per_1000_ops"] is None
    assert told["signatures_per_op"] is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
def test_cpu_of_a_process_grows_with_its_work() -> None:
    before = cpu_seconds([os.getpid()])
    assert before is not None
    spent = before
    while spent <= before:
        sum(range(100_000))
        now = cpu_seconds([os.getpid()])
        assert now is not None
        spent = now


def test_cpu_of_a_process_that_is_gone_is_unknown() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert cpu_seconds([gone.pid]) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("paxos",), "protocol = 'paxos': no protocol 'paxos'; known: pbft, raft"),
        (("raft", "--seconds", "nan"), "--seconds = nan: "),
        (("raft", "--seconds", "inf"), "--seconds = inf: "),
        (("raft", "--json", "nowhere/figures.json"), "--json = nowhere/figures.json: cannot be written: No such file"),
        (("raft", "--json", "."), "--json = .: cannot be written: Is a directory"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_run(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "LocalProcesses", None)
    assert run(["bench", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"replog: {words}")
    assert not list(tmp_path.iterdir())


def test_a_file_that_may_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text("{}")
    assert [writable(old), writable(new), writable(None)] == [old, new, None]
    assert old.read_text() == "{}"
    assert not new.exists()


@pytest.mark.live
async def test_more_operations_than_a_request_takes_go_into_several(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "cluster", "raft", f=1, clients=["load"])
    client = LoadClient(config, "load", 10_000, Tally(begin=0, end=2**62))
    client.refill()
    assert client._core.outstanding == 3
    client._core.check_invariants()


@pytest.mark.live
@pytest.mark.parametrize(
    ("protocol", "n", "auth", "more"),
    [
        ("pbft", 4, "signatures", []),
        ("pbft", 4, "macs", ["--auth", "macs", "--reads", "0.5"]),
        ("raft", 3, "links", ["--reads", "1"]),
    ],
)
def test_a_measurement(
    protocol: str, n: int, auth: str, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    load = ["--clients", "3", "--outstanding", "7", "--seconds", "0.5", "--durability", "memory"]
    assert run(["bench", protocol, *load, *more, "--json", str(file)]) == 0
    told = json.loads(file.read_text())
    assert told["acknowledged"] > 0
    assert told["failed"] == 0
    assert (told["n"], told["auth"]) == (n, auth)
    assert (told["macs_per_op"] > 0, told["signatures_per_op"] > 0) == (auth == "macs", auth != "macs")
    assert told["latency_ms"]["p50"] <= told["latency_ms"]["p99"] <= told["latency_ms"]["max"]
    assert f"acknowledged\t{told['acknowledged']}" in capsys.readouterr().out


@pytest.mark.live
def test_a_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "replog.cli", "bench", "raft", "--seconds", "600", "--verbose"]
    place = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=place) as process:
        assert process.stderr is not None
        assert "starting" in process.stderr.readline()
        assert "outstanding" in process.stderr.readline()
        assert list(tmp_path.iterdir())
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 130
    assert not list(tmp_path.iterdir())


async def test_the_share_of_reads_is_kept_at_every_moment(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "cluster", "raft", f=1, clients=["load"])
    client = LoadClient(config, "load", 1, Tally(begin=0, end=2**62), reads=0.25)
    chosen = [client._reads_next() for _ in range(400)]
    assert all(abs(4 * sum(chosen[:many]) - many) <= 4 for many in range(400))
