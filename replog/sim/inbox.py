"""The inbox of a simulated replica that serves its senders in turn, in place of one queue for all.

What is beyond a sender's bound is lost at no cost: its link is not read, so it fills up where the sender is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from replog.sim.network import Frame
from replog.turns import Shares, Turns
from replog.types import Micros, Principal

SHARES: Final = Shares(replica=32, clients=32, client=2, throttled=1)
REPLICA_FRAMES: Final = 2_048
CLIENTS_FRAMES: Final = 8_192
CLIENT_FRAMES: Final = 16
"""Frames that may wait of one replica, of all clients together, and of one client however many they are."""

Item = tuple[Principal | None, Any]


class FairInbox:
    """Taken from like the deque in whose place it stands: first the process's own, then the senders in turn.

    Invariant: `turns` knows of each sender how many messages of it wait.
    """

    def __init__(self, turns: Turns, now: Callable[[], Micros]) -> None:
        self.turns = turns
        self._now = now
        self._own: deque[Item] = deque()
        self._queues: dict[Principal, deque[Frame]] = {}
        self._messages: dict[Principal, int] = {}
        self._clients = 0
        self._round: deque[tuple[Principal, int]] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

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

    def popleft(self) -> Item:
        if self._own:
            self._size -= 1
            return self._own.popleft()
        while True:
            if not self._round:
                self._round.extend(self.turns.round(self._now()))
            sender, share = self._round[0]
            if share <= 0 or sender not in self._queues:
                self._round.popleft()
                continue
            frame = self._take(sender)
            self._round[0] = (sender, share - _weight(frame))
            return sender, frame

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
        self.turns.waits(sender, left)

    def clear(self) -> None:
        for part in (self._own, self._queues, self._messages, self._round):
            part.clear()
        self.turns.clear()
        self._size = self._clients = 0


def _weight(frame: Frame) -> int:
    return max(1, len(frame))
