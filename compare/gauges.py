"""How much the tables and queues of correct replicas and clients hold while a run lasts, beside what they may hold.

Every container that hangs on a replica's parts or on a client's core is found by itself, so that a table that somebody
adds is measured without a word here. Here: finding and measuring. Not here: the verdict (`compare.checkers.memory`).
Not measured: the application's own state, what stands inside the items of a table, bytes. Simulation only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pbft.memory import PLACES_MAX
from pbft.notary import MEMORY
from pbft.requests import OUTRAN_MAX
from replog.client import WINDOW

UNSTATED: Final = 4_096
"""Items of a table that nothing is stated of below."""
LOG_ENTRIES_MAX: Final = 65_536
"""Entries of Raft's log in memory; its configuration bounds them by bytes."""
TOLD_MAX: Final = 100_001
"""Clients that a replica under MACs remembers to have told; beyond 100,000 it forgets them all."""

LOG_KEEP: Final = 10_000
"""Newest entries that a replica shows to clients: `log_keep` of replog.replica."""

OWN: Final = frozenset({"pbft", "raft", "replog"})
PASSED: Final = ("replog.sim", "replog.table", "replog.statemachine", "replog.merkle", "replog.apps", "replog.runtime")
"""The simulated world, and the application's own state."""
GIVEN: Final = ("replog.core", "replog.keys", "replog.codec", "replog.trace", "replog.types", "replog.config")
"""What is handed in, or a message; not what is held."""
WORDS: Final = ("messages", "config")

Bound = Callable[[Any, int], int]
"""From the options of the protocol and the number of replicas."""

BOUNDS: Final[Mapping[str, Bound]] = {
    "Requests.pending": lambda options, _: options.pending_requests_max,
    "Requests.proposed": lambda options, _: 2 * options.log_window * options.batch_requests_max,
    "Requests._outran": lambda *_: OUTRAN_MAX,
    "Requests._pending": lambda options, _: options.pending_requests_max,
    "Ordering.slots": lambda options, _: 2 * options.log_window + 1,
    "Notary._good": lambda *_: MEMORY // 2,
    "Notary._older": lambda *_: MEMORY // 2,
    "Memory.said": lambda _, n: PLACES_MAX * n,
    "Memory.commits": lambda _, n: PLACES_MAX * n,
    "Log._entries": lambda *_: LOG_ENTRIES_MAX,
    "Log._ends": lambda *_: LOG_ENTRIES_MAX,
    "Log._parsed": lambda *_: LOG_ENTRIES_MAX,
    "MacRequests._told": lambda *_: TOLD_MAX,
    "Journal._entries": lambda *_: LOG_KEEP,
    "ClientCore._sent": lambda *_: WINDOW,
    "ClientCore._ended": lambda *_: WINDOW,
}
"""By class and attribute; a class that stands in for another one is measured by the names of its bases."""


@dataclass(frozen=True)
class Held:
    """The most that one table of one replica or client held, and what it may hold."""

    most: int
    bound: int


class Gauges:
    """Invariant: `held` has each table that was seen, by holder and name, with the most that it held."""

    def __init__(self, options: Any, n: int) -> None:
        self._options = options
        self._n = n
        self.held: dict[str, Held] = {}

    def look(self, holder: str, thing: object) -> None:
        """Measure all that hangs on `thing`."""
        for name, size, bound in self._tables(thing, set()):
            where = f"{holder} {name}"
            known = self.held.get(where)
            if known is None or size > known.most:
                self.held[where] = Held(size, bound)

    def _tables(self, thing: object, seen: set[int]) -> Iterator[tuple[str, int, int]]:
        seen.add(id(thing))
        for name in _attributes(thing):
            value = getattr(thing, name, None)
            if isinstance(value, (dict, list, set, deque, bytearray)):
                yield self._measured(type(thing), name, len(value))
            elif id(value) not in seen and _is_part(value):
                yield from self._tables(value, seen)

    def _measured(self, kind: type[Any], name: str, size: int) -> tuple[str, int, int]:
        names = [f"{base.__name__}.{name}" for base in kind.__mro__]
        known = next((known for known in names if known in BOUNDS), None)
        if known is None:
            return names[0], size, UNSTATED
        return known, size, BOUNDS[known](self._options, self._n)


def _attributes(thing: object) -> Iterator[str]:
    yield from getattr(thing, "__dict__", ())
    for base in type(thing).__mro__:
        slots = getattr(base, "__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots


def _is_part(value: object) -> bool:
    """Whether a replica's own tables may hang on it; of broken cores too, which live elsewhere."""
    if isinstance(value, type):
        return False
    modules = [base.__module__ for base in type(value).__mro__]
    ours = any(module.partition(".")[0] in OWN for module in modules)
    module = modules[0]
    return ours and not module.startswith((*PASSED, *GIVEN)) and module.rpartition(".")[2] not in WORDS
