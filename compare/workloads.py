"""What clients ask for: streams of calls from a seed, the same on both engines.

Here: which calls. Not here: when they are made and what comes back (`compare.runner`, `compare.live`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache
from itertools import accumulate
from typing import Any, Final, Protocol

from compare.scenario import Workload
from replog.apps.bank import Bank
from replog.apps.kv import KeyValue
from replog.statemachine import StateMachine
from replog.types import ClientId

SCANNED = "s/"
"""Keys with this prefix are scanned; a scan joins them into one part of the judge's work."""

APPLICATIONS: Final[dict[str, type[StateMachine]]] = {"kv": KeyValue, "bank": Bank}
"""By kind of workload."""
_OWNERS: Final = {method.name: app for app in APPLICATIONS.values() for method in app.describe()}
"""Whose method it is: no name is used twice."""
READS = frozenset(method.name for app in APPLICATIONS.values() for method in app.describe() if method.reads)

Plan = tuple[str, tuple[Any, ...]]
"""Method and arguments."""


class Load(Protocol):
    """The calls of one process."""

    def following(self) -> Plan: ...

    def learned(self, plan: Plan, outcome: Any) -> None: ...


def load(workload: Workload, process: str, chance: random.Random) -> Load:
    kind = BankLoad if workload.kind == "bank" else KeyValueLoad
    return kind(workload, process, chance)


class Keys:
    """Which of the keys a call is about: all alike, by Zipf's law, or one of them in every other call."""

    def __init__(self, workload: Workload, chance: random.Random) -> None:
        self._workload = workload
        self._chance = chance

    def draw(self) -> int:
        match self._workload.distribution:
            case "zipf":
                weights = _zipf(self._workload.keys, self._workload.skew)
                return self._chance.choices(range(self._workload.keys), cum_weights=weights)[0]
            case "hot" if self._chance.random() < 0.5:
                return 0
        return self._chance.randrange(self._workload.keys)


@cache
def _zipf(keys: int, skew: float) -> list[float]:
    return list(accumulate((key + 1) ** -skew for key in range(keys)))


class KeyValueLoad:
    """The calls of one process: writes of values that are never written twice, reads, and swaps of what it read last.

    Few keys and several processes, so that calls meet; every method of the store is used.
    """

    def __init__(self, workload: Workload, process: str, chance: random.Random) -> None:
        self._workload = workload
        self._process = process
        self._chance = chance
        self._keys = Keys(workload, chance)
        self._written = 0
        self._seen: dict[str, Any] = {}

    def following(self) -> Plan:
        roll = self._chance.random()
        if roll < 0.04:
            return "scan", (SCANNED,)
        if roll < 0.10:
            return "put", (f"{SCANNED}{self._chance.randrange(3)}", self._value())
        key = f"k{self._keys.draw()}"
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


class BankLoad:
    """Money goes from account to account, now and then more than is there, and is looked at: one account, or all of it.
    Nothing is brought or taken away once all accounts are open, so that what is there in all never changes."""

    def __init__(self, workload: Workload, process: str, chance: random.Random) -> None:
        self._workload = workload
        self._chance = chance
        self._keys = Keys(workload, chance)

    def following(self) -> Plan:
        roll = self._chance.random()
        if roll < 0.15:
            return "total", ()
        account = f"a{self._keys.draw()}"
        if roll < 0.40:
            return "balance", (account,)
        other = f"a{self._chance.randrange(self._workload.keys)}"
        return "transfer", (account, other, self._chance.randint(1, self._workload.money))

    def learned(self, plan: Plan, outcome: Any) -> None:
        """Nothing that later calls depend on."""


def preparation(workload: Workload) -> list[Plan]:
    """What has to be done before the work begins."""
    if workload.kind != "bank":
        return []
    return [("deposit", (f"a{number}", workload.money)) for number in range(workload.keys)]


def probe(client: ClientId, kind: str = "kv") -> Plan:
    """The call that a client makes after the faults have ended: it writes, or at least it has to be ordered."""
    return ("transfer", ("a0", "a1", 1)) if kind == "bank" else ("append", (f"probe/{client}", "!"))


def only_read(plans: Iterable[Plan]) -> bool:
    """Whether a request of these may be answered without being ordered."""
    return all(method in READS for method, _ in plans)


def encode(plan: Plan) -> bytes:
    return _OWNERS[plan[0]].operation(plan[0], *plan[1])
