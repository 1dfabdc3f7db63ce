"""What one live replica did and used so far, told from inside its process whenever a client asks for its status.

A laboratory's wrap: it counts steps by kind, what they ordered and the CPU in them, and writes that to a file. The rest
of what the process used is links, turns and its store.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

from compare.calibration.micro import own_us, thread_us
from compare.calibration.steps import kind_of, ordered
from replog.core import Effect, Event, Persist, Received, Timeout
from replog.replica import Replica
from replog.types import NodeId, Status, StatusRequest


def probe(node: NodeId, replica: Replica, folder: str) -> Probe:
    """The wrap of node `node`; it tells in `folder`/node-K.json."""
    return Probe(replica, Path(folder) / f"node-{node}.json")


class _Nothing:
    def step(self, now: int, event: Event) -> list[Effect]:
        return []


def overhead_us() -> float:
    """What counting one step takes itself: it is in what the process used, and not in its steps."""
    counting = Probe(_Nothing(), Path())  # type: ignore[arg-type]
    event = Timeout("none")
    return thread_us(lambda: counting.step(0, event))


class Probe:
    def __init__(self, replica: Replica, file: Path) -> None:
        self._inner = replica
        self._file = file
        self._counts: Counter[str] = Counter()
        self._step_ns = 0

    def step(self, now: int, event: Event) -> list[Effect]:
        begin = time.thread_time_ns()
        effects = self._inner.step(now, event)
        self._step_ns += time.thread_time_ns() - begin
        self._counts["probe_us"] += 1
        self._counts[kind_of(event)] += 1
        if effects:
            self._counts["record_us"] += sum(type(effect) is Persist for effect in effects)
            for name, number in ordered(effects).items():
                self._counts[name] += int(number)
        if type(event) is Received and type(event.message) is StatusRequest:
            self._tell()
        return effects

    def status(self) -> Status:
        return self._inner.status()

    def _tell(self) -> None:
        told = {"cpu_us": own_us(), "steps_us": self._step_ns / 1000, **self._counts}
        self._file.with_suffix(".new").write_text(json.dumps(told))
        self._file.with_suffix(".new").replace(self._file)
