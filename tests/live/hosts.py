"""A cluster over several machines, on one: four hosts are four folders and four addresses of the loopback interface."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from replog import handover
from replog.founding import Place, Plan, found
from tests.live.command import Shell, free_port

ADMIN = "out/admin"


class Hosts:
    """Folders h0, h1, ... in the shell's, each with what one machine has; the administrator's is `ADMIN`."""

    def __init__(self, shell: Shell, n: int = 4) -> None:
        self.shell = shell
        self.port = free_port(1)
        self.places = [f"127.0.0.{host + 2}:{self.port}" for host in range(n)]
        self.running: list[subprocess.Popen[str]] = []

    def found_by_commands(self, protocol: str, *options: str) -> None:
        """Each host makes its keys, the administrator founds the cluster."""
        files = [
            self.shell.said("key", "new", f"h{host}", "--out", f"h{host}/keys") for host in range(len(self.places))
        ]
        self.shell.run("init", protocol, *self.places, "--peers", *files, "--out", "out", *options)
        self._bring()

    def found(self, protocol: str, **plan: Any) -> None:
        """The same, within this process."""
        folder = self.shell.folder
        hosts = range(len(self.places))
        files = [handover.make(folder / f"h{host}" / "keys", f"h{host}", handover.HOST_PURPOSES)[1] for host in hosts]
        found(folder / "out", Plan(protocol, [Place.read(place) for place in self.places], files, **plan))
        self._bring()

    def _bring(self) -> None:
        """Each folder to its host."""
        for host in range(len(self.places)):
            (self.shell.folder / "out" / f"127.0.0.{host + 2}-{self.port}").rename(self.home(host))

    def home(self, host: int) -> Path:
        return self.shell.folder / f"h{host}" / "replica"

    def begin(self, host: int, *options: str) -> subprocess.Popen[str]:
        process = self.shell.begin("node", str(self.home(host)), *options)
        self.running.append(process)
        return process

    @contextmanager
    def serving(self) -> Iterator[None]:
        """All of them, until the block ends."""
        processes = [self.begin(host, "--keys", f"h{host}/keys") for host in range(len(self.places))]
        try:
            for process in processes:
                await_event(process, "serving")
            yield
        finally:
            for process in self.running:
                process.terminate()
            for process in self.running:
                process.communicate(timeout=30)

    def said(self, *arguments: str, code: int = 0) -> str:
        """Of a command in the administrator's folder."""
        return self.shell.said(*arguments, "--cluster", ADMIN, code=code)


def await_event(process: subprocess.Popen[str], event: str) -> dict[str, object]:
    """The next line in which a replica tells of this."""
    assert process.stdout is not None
    for line in process.stdout:
        told: dict[str, object] = json.loads(line)
        if told["event"] == event:
            return told
    raise AssertionError(f"ended before {event!r}: {process.stderr.read() if process.stderr else ''}")
