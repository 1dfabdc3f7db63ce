"""How much the tables and queues of correct replicas and clients hold while a run lasts, beside what they may hold.

Every container that hangs on a replica's parts or on a client's core is found by itself, so that a table that somebody
adds is measured without a word here. Here: finding and measuring. Not here: the verdict (`compare.checkers.memory`).
Not measured: the application's own state, what stands inside the items of a table, bytes. Simulation only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

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
        kind: Any = type(thing)
        for name, value in _attributes(thing):
            if isinstance(value, (dict, list, set, deque, bytearray)):
                where, bound = _known_as(kind, name)
                yield where, len(value), UNSTATED if bound is None else bound(self._options, self._n)
            elif id(value) not in seen and _is_part(cast("Any", type(value))):
                yield from self._tables(value, seen)


def _attributes(thing: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(thing, "__dict__", {}).items()
    for name in _slots(cast("Any", type(thing))):
        yield name, getattr(thing, name, None)


# What is known of a class is asked for each part of each replica, again and again.


@cache
def _slots(kind: type[Any]) -> tuple[str, ...]:
    slots = [getattr(base, "__slots__", ()) for base in kind.__mro__]
    return tuple(name for names in slots for name in ((names,) if isinstance(names, str) else names))


@cache
def _known_as(kind: type[Any], name: str) -> tuple[str, Bound | None]:
    """What this table is called, and how it is bounded if that is stated."""
    names = [f"{base.__name__}.{name}" for base in kind.__mro__]
    known = next((known for known in names if known in BOUNDS), None)
    return (names[0], None) if known is None else (known, BOUNDS[known])


@cache
def _is_part(kind: type[Any]) -> bool:
    """Whether a replica's own tables may hang on one of this class; of broken cores too, which live elsewhere."""
    if issubclass(kind, type):
        return False
    modules = [base.__module__ for base in kind.__mro__]
    ours = any(module.partition(".")[0] in OWN for module in modules)
    module = modules[0]
    return ours and not module.startswith((*PASSED, *GIVEN)) and module.rpartition(".")[2] not in WORDS
