"""Runs on the workers of a real Dask scheduler: nothing is lost and nothing counts twice, whoever dies."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import compare
from compare import farm
from compare.results import Results, Run
from compare.runner import Broken
from replog.cli import run
from replog.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent.parent
SWEEP = {"network.loss": [0, 0.02], "duration_s": [0.3, 0.4]}
SEEDS = 3
TOTAL = 2 * 2 * 2 * SEEDS


@contextmanager
def started(module: str, *arguments: str, says: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of Dask's, and what it said where `says` has a group."""
    command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = next((match for line in process.stderr if (match := re.search(says, line))), None)
            assert found is not None, f"{module} ended with {process.wait()}"
            yield process, found[1]
        finally:
            process.kill()
            process.communicate()


@contextmanager
def scheduler() -> Iterator[tuple[subprocess.Popen[str], str]]:
    with started("dask_scheduler", "--host", "127.0.0.1", "--port", "0", says=r"Scheduler at:\s+(tcp://\S+)") as found:
        yield found


@contextmanager
def workers(address: str, number: int) -> Iterator[list[subprocess.Popen[str]]]:
    """One process each, that nobody starts anew."""
    flags = ("--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
    with ExitStack() as stack:
        yield [
            stack.enter_context(started("dask_worker", address, *flags, says=r"Registered to:\s+(\S+)"))[0]
            for _ in range(number)
        ]


def keys(found: Results) -> Counter[tuple[str, str, int]]:
    return Counter((made.protocol, made.scenario, made.seed) for made in found.runs)


@pytest.mark.slow
@pytest.mark.live
def test_a_worker_is_killed_during_a_sweep_and_nothing_is_lost_or_counted_twice() -> None:
    seen: list[int] = []
    with scheduler() as (_, address), workers(address, 2) as crew:

        def kill_one(made: Run, done: int, total: int) -> None:
            assert total == TOTAL
            seen.append(done)
            if done == 3:
                crew[0].kill()

        found = compare.run("no-fault", seeds=SEEDS, set=SWEEP, on=address, on_run=kill_one)
        assert crew[0].wait() != 0
        assert crew[1].poll() is None
    assert seen == list(range(1, TOTAL + 1))
    assert len(found.rows()) == len(keys(found)) == TOTAL
    assert set(keys(found).values()) == {1}
    pooled = compare.run("no-fault", seeds=SEEDS, set=SWEEP)
    assert found.runs == pooled.runs
    assert found.cells == pooled.cells
    assert found.met


@pytest.mark.slow
@pytest.mark.live
def test_without_workers_it_says_so_and_with_one_the_command_runs_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["no-fault", "--protocol", "raft", "--set", "duration_s=0.3", "--seeds", "2", "--json"]
    with scheduler() as (_, address):
        monkeypatch.setattr(farm, "PATIENCE_S", 1)
        assert run(["compare", *flags, "--on", address, "--out", str(tmp_path / "none")]) == 2
        assert f"on = {address}: its scheduler has no workers" in capsys.readouterr().err
        with workers(address, 1):
            assert run(["compare", *flags, "--on", address, "--out", str(tmp_path / "out")]) == 0
    assert [made["seed"] for made in json.loads(capsys.readouterr().out)["runs"]] == [1, 2]


@pytest.mark.slow
@pytest.mark.live
def test_when_the_scheduler_is_gone_what_was_done_is_kept_as_incomplete(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scheduler() as (process, address), workers(address, 1):

        def end_it(made: Run, done: int, total: int) -> None:
            if done == 2:
                process.kill()

        with pytest.raises(Broken, match=r"the scheduler is gone; \d+ of 60 runs were done") as broken:
            compare.run("no-fault", "raft", seeds=60, set={"duration_s": 0.3}, on=address, on_run=end_it)
    kept = broken.value.results
    assert not kept.complete
    assert not kept.met
    assert 2 <= len(kept.runs) < 60
    assert all(made.verdict == "ok" for made in kept.runs)
    assert "Traceback" not in capfd.readouterr().err


def test_where_nobody_listens_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(farm, "PATIENCE_S", 0.5)
    assert run(["compare", "no-fault", "--on", "tcp://127.0.0.1:1"]) == 2
    said = capsys.readouterr().err
    assert "on = tcp://127.0.0.1:1: no scheduler answers there" in said
    assert len(said.splitlines()) == 1


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run(["compare", "no-fault", "--on", "tcp://127.0.0.1:8786"]) == 2
    assert capsys.readouterr().err == "replog: on: needs Dask, which is not installed: pip install 'replog[dask]'\n"


def test_what_cannot_be_made_elsewhere_is_refused(tmp_path: Path) -> None:
    address = "tcp://127.0.0.1:1"
    with pytest.raises(ConfigError, match="runs on real processes must be made on this machine"):
        compare.run("no-fault", engine="live", on=address)
    with pytest.raises(ConfigError, match="traces and evidence must be left on this machine"):
        compare.run("no-fault", traces=tmp_path, on=address)


def test_a_worker_of_another_release_makes_no_runs() -> None:
    assert farm._made(len, "four", farm.edition()) == 4
    with pytest.raises(ConfigError, match=r"a worker has replog .*, and here is 0\.0\.7: both must be the same"):
        farm._made(len, "four", "0.0.7")


def test_a_byte_of_any_module_makes_another_edition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "oneofours"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "inner" / "core.py").write_text("QUORUM = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(farm, "PACKAGES", ("oneofours",))
    before = farm.edition.__wrapped__()
    assert farm.edition.__wrapped__() == before
    (package / "inner" / "core.py").write_text("QUORUM = 2\n")
    assert farm.edition.__wrapped__() != before


@pytest.mark.parametrize("address", ["", "tcp://", "tcp://host", "host:1", "http://host:1", "tcp://a b:1", "tcp://h:x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="must be the address of a Dask scheduler"):
        farm.check(address)
