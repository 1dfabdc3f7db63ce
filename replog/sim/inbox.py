"""The inbox of a simulated replica that serves its senders in turn, in place of one queue for all.

What is beyond a sender's bound is lost at no cost: its link is not read, so it fills up where the sender is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from replog.sim.network import Frame
from replog.turns import Shares, Turns, weight
from replog.types import Micros, Principal

SHARES: Final = Shares(replica=32, clients=64, client=2, throttled=1)
REPLICA_FRAMES: Final = 2_048
CLIENTS_FRAMES: Final = 8_192
CLIENT_FRAMES: Final = 16
"""Frames that may wait of one replica, of all clients together, and of one client however many they are."""

Item = tuple[Principal | None, Any]


class FairInbox:
    """Invariant: `turns` knows of each sender how many messages of it wait."""

    def __init__(self, turns: Turns, now: Callable[[], Micros]) -> None:
        self.turns = turns
        self._now = now
        self._own: deque[Item] = deque()
        self._queues: dict[Principal, deque[Frame]] = {}
        self._messages: dict[Principal, int] = {}
        self._clients = 0
        self._size = 0

    def __len__(self) -> int:
        return 0 if not self._own and self.turns.rests(self._now()) else self._size

    def full(self, sender: Principal) -> bool:
        queue = self._queues.get(sender)
        if queue is None:
            return False
        if isinstance(sender, int):
            return len(queue) >= REPLICA_FRAMES
        return len(queue) >= max(CLIENT_FRAMES, CLIENTS_FRAMES // self._clients)

    def append(self, item: Item) -> None:
        self._size += 1
        sender, load = item
        if sender is None:
            self._own.append(item)
            return
        queue = self._queues.get(sender)
        if queue is None:
            queue = self._queues[sender] = deque()
            self._clients += isinstance(sender, str)
        queue.append(load)
        self._count(sender, _weight(load))

    def turn(self) -> Iterator[Item]:
        """One round of the senders, then the process's own: requests that are there get into the batch whose time has
        come, as with real processes. A longer turn would keep back what answers the first."""
        for sender, share in self.turns.round(self._now()):
            left = share
            while left > 0 and sender in self._queues:
                frame = self._take(sender)
                left -= _weight(frame)
                yield sender, frame
        for _ in range(len(self._own)):
            self._size -= 1
            yield self._own.popleft()

    def _take(self, sender: Principal) -> Frame:
        queue = self._queues[sender]
        frame = queue.popleft()
        if not queue:
            del self._queues[sender]
            self._clients -= isinstance(sender, str)
        self._size -= 1
        self._count(sender, -_weight(frame))
        return frame

    def _count(self, sender: Principal, messages: int) -> None:
        left = self._messages[sender] = self._messages.get(sender, 0) + messages
        if not left:
            del self._messages[sender]
        queue = self._queues.get(sender)
        self.turns.waits(sender, left, _weight(queue[0]) if queue else 0)

    def clear(self) -> None:
        self._own.clear()
        self._queues.clear()
        self._messages.clear()
        self.turns.clear()
        self._size = self._clients = 0


def _weight(frame: Frame) -> int:
    return weight(len(frame), sum(map(len, frame)))
