"""What has come in and waits for its turn: one queue of frames a sender, each turn taking a bounded share of it; with
`Turns`, one that depends on who else waits.

A frame is small, what it asks for need not be: a few bytes ask for megabytes of log. Whoever sends more than a turn
holds waits for later turns, alone; and since a frame is `handled` only when all of it is done, its link stops reading.
A small frame takes far more memory than its bytes: each counts for FRAME_OVERHEAD more (X6).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from replog.codec import messages_in, unpack_frame
from replog.turns import UNIT_BYTES, Shares, Turns
from replog.types import Micros, Principal

MESSAGES_A_TURN = 512
"""Of one sender; the rest waits for later turns."""
SHARES = Shares(replica=MESSAGES_A_TURN, clients=128, client=8, throttled=16)

FRAME_OVERHEAD = 256
"""Bytes that a frame takes beside its own, about."""
REPLICA_BYTES_MAX = 128 * 1024 * 1024
CLIENT_BYTES_MAX = 32 * 1024 * 1024
CLIENTS_BYTES_MAX = 128 * 1024 * 1024
"""Frames that wait of one sender, over all its links, those that ended too, and of all clients together. Beyond it no
link is read of whoever has anything waiting; what comes all the same, by new links, is dropped at twice as much."""


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

    def put(self, frame: bytes, handled: Callable[[int], None]) -> bool:
        if self.size >= self._bytes_max:
            return False
        self._frames.append((frame, handled))
        self.size += len(frame) + FRAME_OVERHEAD
        self.messages += messages_in(frame)
        return True

    @property
    def units(self) -> int:
        """What waits, as shares are counted."""
        return self.messages + self.size // UNIT_BYTES

    def some(self, count: int) -> list[bytes]:
        """The oldest messages of one frame, about `count` units; they stay until `done`. Raises BadMessage."""
        if self._raws is None:
            self._raws, self._place = unpack_frame(self._frames[0][0]), 0
        if len(self._frames[0][0]) > count * UNIT_BYTES:
            return self._within(count * UNIT_BYTES)[:count]
        if not self._place and len(self._raws) <= count:
            return self._raws
        return self._raws[self._place : self._place + count]

    def _within(self, size: int) -> list[bytes]:
        """The next messages, the first in any case."""
        some: list[bytes] = []
        for raw in islice(self._raws, self._place, None) if self._raws else ():
            if some and len(raw) > size:
                break
            some.append(raw)
            size -= len(raw)
        return some

    def done(self, count: int) -> None:
        """So many of the messages that `some` gave are handled."""
        assert self._raws is not None
        self._place += count
        self.messages -= count
        if self._place >= len(self._raws):
            self.drop()

    def drop(self) -> None:
        """The oldest frame is handled, or nonsense."""
        frame, handled = self._frames.popleft()
        self.messages -= messages_in(frame) - (self._place if self._raws is not None else 0)
        self._raws, self._place = None, 0
        self.size -= len(frame) + FRAME_OVERHEAD
        handled(len(frame))


class Inbox:
    """Queues by sender; one that is empty is forgotten."""

    def __init__(self, turns: Turns | None = None) -> None:
        """Without `turns` every sender has the same share of every turn, replica or client."""
        self._queues: dict[Principal, Queue] = {}
        self._turns = turns
        self._of_clients = 0
        """Bytes that wait of all clients."""
        self.resting: Micros = 0
        """How long nothing of what waits may be taken, if the last turn was empty."""

    def put(self, sender: Principal, frame: bytes, handled: Callable[[int], None]) -> bool:
        """False if too much of this sender waits: the frame is not taken, and not `handled` either."""
        queue = self._queues.get(sender)
        if queue is None:
            queue = Queue(2 * (REPLICA_BYTES_MAX if isinstance(sender, int) else CLIENT_BYTES_MAX))
            self._queues[sender] = queue
        before = queue.size
        taken = queue.put(frame, handled)
        self._count(sender, queue.size - before)
        if self._turns is not None:
            self._turns.waits(sender, queue.units)
        return taken

    def full(self, sender: Principal) -> bool:
        """Whether no more is to be read of this sender now. Of whom nothing waits one frame always is."""
        queue = self._queues.get(sender)
        if not queue:
            return False
        if isinstance(sender, int):
            return queue.size > REPLICA_BYTES_MAX
        return queue.size > CLIENT_BYTES_MAX or self._of_clients > CLIENTS_BYTES_MAX

    def _count(self, sender: Principal, size: int) -> None:
        if isinstance(sender, str):
            self._of_clients += size

    def turn(self, now: Micros) -> Iterator[tuple[Principal, Queue, int]]:
        """Who is served, each with the most messages; those that were emptied meanwhile are forgotten."""
        turns = self._turns
        plan = [(one, MESSAGES_A_TURN) for one in self._queues] if turns is None else turns.round(now)
        self.resting = turns.rest() if turns is not None and self._queues and not plan else 0
        for sender, share in plan:
            queue = self._queues[sender]
            size, units = queue.size, queue.units
            yield sender, queue, share
            self._count(sender, queue.size - size)
            if turns is not None:
                turns.waits(sender, max(1, queue.units) if queue else 0)
                turns.owes(sender, units - queue.units - share)
            if not queue:
                del self._queues[sender]

    def forget(self, sender: Principal) -> None:
        """Nothing of this sender counts any more. Not within a turn."""
        queue = self._queues.pop(sender, None)
        self._count(sender, -queue.size if queue else 0)
        while queue:
            queue.drop()
        if self._turns is not None:
            self._turns.waits(sender, 0)

    def waiting(self) -> Iterator[Principal]:
        """Of whom there is something left after a turn."""
        yield from self._queues
