"""Ctrl-C in `replog compare`, as a terminal sends it: to every process of the group. Nothing is left but what was done,
and nobody can take it for all.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_S = 60
"""Only so that a test which fails ends: all the runs that are asked for take much longer."""
REPLOG = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from replog.cli import main; main()"
"""A shell that starts a test in the background may have told it to ignore Ctrl-C."""


@contextmanager
def compare(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`replog compare --verbose`, a process group of its own, with `folder` for its files."""
    (folder / "temporary").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", REPLOG, "compare", *arguments, "--verbose", "--out", str(folder / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(folder / "temporary")},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def interrupted(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> str:
    """What it says after Ctrl-C, or another signal to itself alone, which comes when a first run is done."""
    assert process.stderr is not None
    assert "1 of " in process.stderr.readline()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    shown, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    assert not shown
    assert "Traceback" not in said
    return said


def check_results(folder: Path, said: str, total: int) -> None:
    """The file holds the runs that were counted, and says of itself that some are missing."""
    counted = re.search(rf"interrupted: (\d+) of {total} runs were done", said)
    assert counted is not None, said
    found = json.loads((folder / "out" / "results.json").read_text())
    assert found["complete"] is False
    assert len(found["runs"]) == int(counted[1]) < total
    assert not any(cell["met"] for cell in found["cells"])


def test_workers_end_at_once_and_what_was_done_is_kept_as_incomplete(tmp_path: Path) -> None:
    with compare(tmp_path, "no-fault", "--protocol", "raft", "--seeds", "5000", "--workers", "2", "--trace") as process:
        said = interrupted(process)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    check_results(tmp_path, said, 5000)
    assert all(path.read_text().endswith("\n") for path in (tmp_path / "out" / "traces").glob("*.jsonl"))


def test_a_sigterm_ends_the_workers_too(tmp_path: Path) -> None:
    with compare(tmp_path, "no-fault", "--protocol", "raft", "--seeds", "5000", "--workers", "2") as process:
        said = interrupted(process, signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    check_results(tmp_path, said, 5000)


def test_workers_do_not_outlive_a_killed_comparison(tmp_path: Path) -> None:
    with compare(tmp_path, "no-fault", "--protocol", "raft", "--seeds", "5000", "--workers", "2") as process:
        assert process.stderr is not None
        assert process.stderr.readline()
        process.kill()
        process.communicate(timeout=PATIENCE_S)  # comes to its end when nobody holds the other end of the pipes
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_replicas_end_at_once_and_what_was_done_is_kept_as_incomplete(tmp_path: Path, number: signal.Signals) -> None:
    with compare(tmp_path, "no-fault", "--protocol", "raft", "--engine", "live", "--seeds", "500") as process:
        said = interrupted(process, number)
    check_results(tmp_path, said, 500)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in running.splitlines() if str(tmp_path) in line]
    assert not list((tmp_path / "temporary").iterdir())
