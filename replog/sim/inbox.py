"""The inbox of a simulated replica that serves its senders in turn, in place of one queue for all.

What is beyond a sender's bound is lost at no cost: its link is not read, so it fills up where the sender is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from replog.sim.network import Frame
from replog.turns import Shares, Turns, units_of
from replog.types import Micros, Principal

SHARES: Final = Shares(replica=32, clients=64, client=2, throttled=1)
REPLICA_FRAMES: Final = 2_048
CLIENTS_FRAMES: Final = 8_192
CLIENT_FRAMES: Final = 16
"""Frames that may wait of one replica, of all clients together, and of one client however many they are."""
BYTES: Final = 128 * 1024 * 1024
"""Of one sender, in large frames."""

Item = tuple[Principal | None, Any]


class FairInbox:
    """Invariant: `turns` knows of each sender how much of it waits."""

    def __init__(self, turns: Turns, now: Callable[[], Micros]) -> None:
        self.turns = turns
        self._now = now
        self._own: deque[Item] = deque()
        self._queues: dict[Principal, deque[Frame]] = {}
        self._units: dict[Principal, int] = {}
        self._sizes: dict[Principal, int] = {}
        self._clients = 0
        self._size = 0
        self.resting: Micros = 0
        """How long nothing of what waits may be taken, if the last turn was empty."""

    def __len__(self) -> int:
        return 0 if self.resting else self._size

    def rouse(self) -> None:
        self.resting = 0

    def full(self, sender: Principal) -> bool:
        queue = self._queues.get(sender)
        if queue is None:
            return False
        if self._sizes[sender] >= BYTES:
            return True
        if isinstance(sender, int):
            return len(queue) >= REPLICA_FRAMES
        return len(queue) >= max(CLIENT_FRAMES, CLIENTS_FRAMES // self._clients)

    def append(self, item: Item) -> None:
        self._size += 1
        self.resting = 0
        sender, load = item
        if sender is None:
            self._own.append(item)
            return
        queue = self._queues.get(sender)
        if queue is None:
            queue = self._queues[sender] = deque()
            self._clients += isinstance(sender, str)
            self._units[sender] = self._sizes[sender] = 0
        queue.append(load)
        size = sum(map(len, load))
        self._count(sender, units_of(len(load), size), size)

    def turn(self) -> Iterator[Item]:
        """One round of the senders, then the process's own: requests that are there get into the batch whose time has
        come, as with real processes. A longer turn would keep back what answers the first."""
        plan = self.turns.round(self._now())
        if not plan and not self._own and self._size:
            self.resting = self.turns.rest()
        for sender, share in plan:
            left = share
            while left > 0 and sender in self._queues:
                frame, units = self._take(sender)
                left -= units
                yield sender, frame
            self.turns.owes(sender, -left)
        for _ in range(len(self._own)):
            self._size -= 1
            yield self._own.popleft()

    def _take(self, sender: Principal) -> tuple[Frame, int]:
        queue = self._queues[sender]
        frame = queue.popleft()
        size = sum(map(len, frame))
        units = units_of(len(frame), size)
        self._size -= 1
        if queue:
            self._count(sender, -units, -size)
        else:
            self._drop(sender)
        return frame, units

    def _count(self, sender: Principal, units: int, size: int) -> None:
        self._sizes[sender] += size
        left = self._units[sender] = self._units[sender] + units
        self.turns.waits(sender, left)

    def _drop(self, sender: Principal) -> None:
        """Nothing of it waits any more."""
        del self._queues[sender], self._units[sender], self._sizes[sender]
        self._clients -= isinstance(sender, str)
        self.turns.waits(sender, 0)

    def forget(self, sender: Principal) -> None:
        """Its links have ended: what waits of it is lost, at no cost."""
        queue = self._queues.get(sender)
        if queue is not None:
            self._size -= len(queue)
            self._drop(sender)

    def clear(self) -> None:
        self._own.clear()
        self._queues.clear()
        self._units.clear()
        self._sizes.clear()
        self.turns.clear()
        self._size = self._clients = self.resting = 0
