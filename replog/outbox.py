"""The durability barrier: one first-in first-out queue over all steps of a replica.

`add` takes the effects of a step in order. A Persist joins the next write; every Send, Reply, Accuse, Trim and Save
behind it waits until that write is durable. Both worlds use this class; they differ in how long a write takes.

A Save waits since a state may hold what this replica has ordered and nobody else has yet: on disk before its log, it
would remember after a crash what the cluster never agreed on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from replog.core import Accuse, Effect, Persist, Reply, Save, Send, Trim

VISIBLE = (Send, Reply, Accuse, Trim, Save)
LOSABLE = (Send, Reply)
"""A link may lose these, and whoever waits for one asks again."""
WAITING_MAX: Final = 65_536
"""So many effects wait behind a write. Of what comes beyond, messages are lost, as on a link that is full: a disk that
hangs stops its replica, and does not fill the memory of its machine."""


class Outbox:
    """Invariants:
    durable <= started <= added
    at most WAITING_MAX messages wait
    an effect leaves `ready` only when every Persist listed before it is durable, and in the order of listing
    """

    def __init__(self, also: tuple[type, ...] = ()) -> None:
        """`also`: further kinds of effects that are to come out of `ready` in their place."""
        self._let_out = VISIBLE + also
        self._added = 0
        self._started = 0
        self._durable = 0
        self._unwritten: list[Persist] = []
        self._queue: deque[tuple[int, Effect]] = deque()

    def add(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if type(effect) is Persist:
                self._added += 1
                self._unwritten.append(effect)
            elif type(effect) in self._let_out and not self._is_lost(effect):
                self._queue.append((self._added, effect))

    def _is_lost(self, effect: Effect) -> bool:
        return len(self._queue) >= WAITING_MAX and self._durable < self._added and type(effect) in LOSABLE

    def write(self) -> list[Persist]:
        """The records to write now, in order; the caller calls `written` when they are durable. Writes may overlap
        only if they become durable in the order in which they were taken."""
        records, self._unwritten = self._unwritten, []
        self._started += len(records)
        return records

    def written(self, count: int) -> None:
        """The `count` oldest records that were taken and not yet reported are durable."""
        if count > self._started - self._durable:
            raise ValueError(f"{count} records reported durable, {self._started - self._durable} were being written")
        self._durable += count

    def ready(self) -> list[Effect]:
        """Take the visible effects that wait for nothing any more."""
        queue, ready = self._queue, []
        while queue and queue[0][0] <= self._durable:
            ready.append(queue.popleft()[1])
        return ready

    @property
    def waiting(self) -> int:
        """Visible effects held back by a write."""
        return len(self._queue)

    def check_invariants(self) -> None:
        assert self._durable <= self._started <= self._added, "durable <= started <= added"
        assert self._added - self._started == len(self._unwritten), (
            "every record is unwritten, being written or durable"
        )
