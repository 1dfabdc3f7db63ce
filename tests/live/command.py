"""Helpers to run the real `replog` in a folder of its own, with the toy protocol installed beside the real ones."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
DEADLINE_S = 30.0


def free_port(count: int) -> int:
    """P such that P .. P + count - 1 and the gateway's P + 100 are free just now: below the ports that the system gives
    to links, and runs side by side look in places of their own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    low = 20_000 + worker % 2 * 6_000
    for first in (low + (os.getpid() + 211 * turn) % 5_800 for turn in range(100)):
        try:
            for port in (*range(first, first + count), first + 100):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`, polled; AssertionError at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)
    return value


def alive(pid: int) -> bool:
    """Whether a process runs; a dead child that nobody waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Shell:
    """A folder in which `replog` is run as a user would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = [sys.executable, "-m", "replog.cli"]
        install_toy(folder / ".toy")
        path = os.pathsep.join([str(folder / ".toy"), str(ROOT)])
        self.environment = {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"}
        self.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._begun: list[subprocess.Popen[str]] = []
        self.environment.pop("REPLOG_CLUSTER", None)

    def begin(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [*self.program, *arguments]
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        process: subprocess.Popen[str] = subprocess.Popen(command, cwd=self.folder, env=self.environment, **given)
        self._begun.append(process)
        return process

    def close(self) -> None:
        """End what a failed test left behind."""
        for process in self._begun:
            if process.poll() is None:
                process.terminate()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            process.wait(timeout=DEADLINE_S)

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end; AssertionError unless it ends with `code`."""
        process = self.begin(*arguments, stdin=subprocess.DEVNULL)
        output, errors = process.communicate(timeout=DEADLINE_S + 10)
        assert process.returncode == code, (
            f"replog {' '.join(arguments)}: code {process.returncode}\n{output}\n{errors}"
        )
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def said(self, *arguments: str, code: int = 0) -> str:
        return self.run(*arguments, code=code).stdout.strip()

    def complaint(self, *arguments: str, code: int = 2) -> str:
        """The one line on stderr of a command that fails."""
        (line,) = self.run(*arguments, code=code).stderr.strip().splitlines()
        assert line.startswith("replog: ")
        return line

    def json(self, *arguments: str) -> Any:
        return json.loads(self.said(*arguments, "--json"))

    @contextmanager
    def cluster(self, protocol: str, *options: str, count: int = 4) -> Iterator[dict[str, Any]]:
        """A running cluster; what `up --json` told of it."""
        port = free_port(count)
        known = self.json("up", protocol, "--detach", "--port", str(port), *options)
        try:
            yield known
        finally:
            self.begin("down", "--cluster", known["cluster"]).communicate(timeout=DEADLINE_S)


def install_toy(folder: Path) -> None:
    """An entry point as an installed distribution would bring it."""
    info = folder / "toy-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[replog.protocols]\ntoy = tests.toy:SPEC\n")
