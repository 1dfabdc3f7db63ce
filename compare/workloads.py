"""What clients ask for: streams of calls from a seed, the same on both engines.

Here: which calls. Not here: when they are made and what comes back (`compare.runner`, `compare.live`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from compare.scenario import Workload
from replog.apps.kv import KeyValue
from replog.types import ClientId

SCANNED = "s/"
"""Keys with this prefix are scanned; a scan joins them into one part of the judge's work."""

READS = frozenset(method.name for method in KeyValue.describe() if method.reads)

Plan = tuple[str, tuple[Any, ...]]
"""Method and arguments."""


class KeyValueLoad:
    """The calls of one process: writes of values that are never written twice, reads, and swaps of what it read last.

    Few keys and several processes, so that calls meet; every method of the store is used.
    """

    def __init__(self, workload: Workload, process: str, chance: random.Random) -> None:
        self._workload = workload
        self._process = process
        self._chance = chance
        self._written = 0
        self._seen: dict[str, Any] = {}

    def following(self) -> Plan:
        roll = self._chance.random()
        if roll < 0.04:
            return "scan", (SCANNED,)
        if roll < 0.10:
            return "put", (f"{SCANNED}{self._chance.randrange(3)}", self._value())
        key = f"k{self._chance.randrange(self._workload.keys)}"
        if roll < 0.40:
            return "get", (key,)
        if roll < 0.70:
            return "put", (key, self._value())
        if roll < 0.82:
            return "append", (f"log/{key}", self._value()[:4] + ";")
        if roll < 0.95:
            return "cas", (key, self._seen.get(key), self._value())
        return "delete", (key,)

    def learned(self, plan: Plan, outcome: Any) -> None:
        """What came back, for later swaps."""
        method, args = plan
        if method == "get":
            self._seen[args[0]] = outcome
        elif method == "put":
            self._seen[args[0]] = args[1]

    def _value(self) -> str:
        self._written += 1
        text = f"{self._process}.{self._written}"
        return text.ljust(self._workload.value_bytes, "_")


def probe(client: ClientId) -> Plan:
    """The call that a client makes after the faults have ended."""
    return "append", (f"probe/{client}", "!")


def only_read(plans: Iterable[Plan]) -> bool:
    """Whether a request of these may be answered without being ordered."""
    return all(method in READS for method, _ in plans)


def encode(plan: Plan) -> bytes:
    return KeyValue.operation(plan[0], *plan[1])
