"""What has come in and waits for its turn: one queue of frames a sender, each turn taking a bounded share of it; with
`Turns`, one that depends on who else waits.

A frame is small, what it asks for need not be: a few bytes ask for megabytes of log. Whoever sends more than a turn
holds waits for later turns, alone; and since a frame is `handled` only when all of it is done, its link stops reading.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from replog.codec import messages_in, unpack_frame
from replog.turns import Shares, Turns, weight
from replog.types import Micros, Principal

MESSAGES_A_TURN = 512
"""Of one sender; the rest waits for later turns."""
SHARES = Shares(replica=MESSAGES_A_TURN, clients=128, client=8, throttled=16)

REPLICA_BYTES_MAX = 128 * 1024 * 1024
CLIENT_BYTES_MAX = 32 * 1024 * 1024
"""Frames that wait of one sender, over all its links, those that ended too; a further one is dropped, but one alone
never is. A link stops reading long before."""


class Queue:
    """Frames of one sender. Invariants: `size` is the bytes of those in it; `_raws` are messages of the first one, None
    before it is taken apart, and those below `_place` are done; `messages` is about how many are left."""

    def __init__(self, bytes_max: int) -> None:
        self.size = 0
        self.messages = 0
        self._bytes_max = bytes_max
        self._frames: deque[tuple[bytes, Callable[[int], None]]] = deque()
        self._raws: list[bytes] | None = None
        self._place = 0

    def __bool__(self) -> bool:
        return bool(self._frames)

    @property
    def first(self) -> int:
        """What the oldest frame counts as."""
        return _weight(self._frames[0][0]) if self._frames else 0

    def put(self, frame: bytes, handled: Callable[[int], None]) -> bool:
        if self._frames and self.size + len(frame) > self._bytes_max:
            return False
        self._frames.append((frame, handled))
        self.size += len(frame)
        self.messages += _weight(frame)
        return True

    def some(self, count: int) -> list[bytes]:
        """Up to `count` of the oldest messages, all of one frame; they stay until `done`. Raises BadMessage."""
        if self._raws is None:
            self._raws, self._place = unpack_frame(self._frames[0][0]), 0
        if not self._place and len(self._raws) <= count:
            return self._raws
        return self._raws[self._place : self._place + count]

    def done(self, count: int) -> int:
        """So many of the messages that `some` gave are handled; what that counts as."""
        assert self._raws is not None
        self._place += count
        self.messages -= count
        return count + (self.drop() if self._place >= len(self._raws) else 0)

    def drop(self) -> int:
        """The oldest frame is handled, or nonsense; what it counts as, beyond its messages that are done."""
        frame, handled = self._frames.popleft()
        left = _weight(frame) - (self._place if self._raws is not None else 0)
        self.messages -= left
        self._raws, self._place = None, 0
        self.size -= len(frame)
        handled(len(frame))
        return max(0, left)


def _weight(frame: bytes) -> int:
    return weight(messages_in(frame), len(frame))


class Inbox:
    """Queues by sender; one that is empty is forgotten."""

    def __init__(self, turns: Turns | None = None) -> None:
        """Without `turns` every sender has the same share of every turn, replica or client."""
        self._queues: dict[Principal, Queue] = {}
        self._turns = turns
        self._turned_at: Micros = 0

    def put(self, sender: Principal, frame: bytes, handled: Callable[[int], None]) -> bool:
        """False if too much of this sender waits: the frame is not taken, and not `handled` either."""
        queue = self._queues.get(sender)
        if queue is None:
            queue = Queue(REPLICA_BYTES_MAX if isinstance(sender, int) else CLIENT_BYTES_MAX)
            self._queues[sender] = queue
        taken = queue.put(frame, handled)
        if self._turns is not None:
            self._turns.waits(sender, queue.messages, queue.first)
        return taken

    def turn(self, now: Micros) -> Iterator[tuple[Principal, Queue, int]]:
        """Who is served, each with the most messages; those that were emptied meanwhile are forgotten."""
        if self._turns is None:
            yield from [(sender, queue, MESSAGES_A_TURN) for sender, queue in self._queues.items()]
            self._queues = {sender: queue for sender, queue in self._queues.items() if queue}
            return
        self._turned_at = now
        for sender, share in self._turns.round(now):
            queue = self._queues[sender]
            yield sender, queue, share
            self._turns.waits(sender, max(1, queue.messages) if queue else 0, queue.first)
            if not queue:
                del self._queues[sender]

    def forget(self, sender: Principal) -> None:
        """Nothing of this sender counts any more. Not within a turn."""
        queue = self._queues.pop(sender, None)
        while queue:
            queue.drop()
        if self._turns is not None:
            self._turns.waits(sender, 0)

    def waiting(self) -> Iterator[Principal]:
        """Of whom there is something left after a turn, that may be done now."""
        if self._turns is None or not self._turns.rests(self._turned_at):
            yield from self._queues
