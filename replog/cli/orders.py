"""Words to the process behind `replog up` about single replicas: start one, stop one, and what a laboratory does.

Here: carrying them out and what is told of it. Not here: the commands (`replog.cli.lab`), the socket over which words
come (`replog.cli.refreshing`), what faults are (`replog.live.laboratory`).
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from replog.cli.refreshing import Answer
from replog.config import ClusterConfig
from replog.errors import ConfigError
from replog.live.laboratory import Laboratory, check, served
from replog.live.processes import LocalProcesses, Wraps

FOLDER: Final = "lab"
"""Where liars take their orders, in the cluster's folder."""
LIAR: Final = "compare.liar"
"""The laboratory stands on this package, which knows it by name alone."""
SAID: Final = ("pid", "role", "resumed", "index", "view")
"""What is told of a replica, in its own words."""
DOWN: Final[dict[str, Any]] = {"role": "down", "resumed": False, "index": 0, "view": None}
"""What is told of one that has ended."""


class Orders:
    """Invariant: only replicas that are told of here are started and stopped."""

    def __init__(
        self,
        config: ClusterConfig,
        processes: LocalProcesses,
        told: dict[int, dict[str, Any]],
        changed: Callable[[], None],
    ) -> None:
        """`told`: what other commands are told of each replica. `changed` is called when that is to be told anew."""
        self._config = config
        self._processes = processes
        self._told = told
        self._changed = changed
        self._lab = _laboratory(config, processes) if config.lab else None

    @property
    def words(self) -> dict[str, Answer]:
        return {"start": self._start, "stop": self._stop, "lab": self._disturb}

    @property
    def done(self) -> dict[str, Any]:
        """What a laboratory has done to the replicas."""
        return {} if self._lab is None else {"done": self._lab.done, "in_force": self._lab.in_force()}

    def wraps(self, nodes: Iterable[int]) -> Wraps:
        """With which replicas are to be started."""
        return {} if self._lab is None else self._lab.wraps(nodes)

    async def _start(self, nodes: Any) -> dict[str, Any]:
        """Some that have ended; what each says of itself, if it serves before long."""
        chosen, pids = self._chosen(nodes), self._processes.pids()
        if runs := [node for node in chosen if node in pids]:
            raise ConfigError(f"node = {runs[0]}: runs already, pid {pids[runs[0]]}")
        if self._lab is not None:
            await self._lab.start(chosen)
        else:
            await self._processes.start(chosen)
        self._changed()
        for node, word in (await served(self._processes, chosen)).items():
            self._told[node].update({name: word[name] for name in SAID})
        self._changed()
        return {"nodes": [self._told[node] for node in chosen]}

    async def _stop(self, nodes: Any) -> dict[str, Any]:
        """They are asked to end, and stay down until they are started."""
        chosen = self._chosen(nodes)
        await self._processes.stop(chosen)
        return {"nodes": self._ended(chosen)}

    async def _disturb(self, word: dict[str, Any]) -> dict[str, Any]:
        """Let a fault into the replicas, or end one."""
        check(self._config.lab)
        nodes = self._chosen(word["nodes"])
        if word["do"] == "start":
            return {**await self._start(nodes), **self.done}
        if self._lab is not None:
            await self._lab.carry_out(word)
        return {"nodes": self._ended(nodes), **self.done}

    def _ended(self, nodes: Iterable[int]) -> list[dict[str, Any]]:
        """What is told of these from now on, some of which may have ended."""
        running = self._processes.pids()
        for node in set(nodes) - running.keys():
            self._told[node].update(DOWN)
        self._changed()
        return [self._told[node] for node in nodes]

    def _chosen(self, nodes: Any) -> list[int]:
        """Raises ConfigError for one that is not for this process to start or stop."""
        chosen = sorted({int(node) for node in nodes})
        if strange := [node for node in chosen if node not in self._told]:
            known = ", ".join(map(str, sorted(self._told)))
            raise ConfigError(f"node = {strange[0]}: must be a member on this machine: {known}")
        return chosen


def _laboratory(config: ClusterConfig, processes: LocalProcesses) -> Laboratory:
    """Every replica may have to lie."""
    liar, control = importlib.import_module(LIAR), _emptied(config.folder / FOLDER)
    return Laboratory(processes, control, (liar.WRAP, liar.arguments(config, control, 1)))


def _emptied(folder: Path) -> Path:
    """What is left of an earlier run is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder
