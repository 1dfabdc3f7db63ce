"""Who hears what from whom: how far the others are, what a peer lacks, and how much of it one peer may ask for.

Retransmission is by the receiver: its Status says what it has, the answer is exactly what is missing, within a budget
[CL99 6, CL02 status]. Not here: acting on what comes (`pbft.core`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

from pbft.checkpoint import Checkpoints
from pbft.messages import (
    HAS_COMMITTED,
    BatchData,
    Commit,
    Committed,
    FetchBatch,
    FetchPart,
    PartData,
    Prepare,
    PrePrepare,
    Status,
)
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.view_change import ViewChanges
from replog.core import Effect, Part, ReadPart, Send
from replog.types import Message, Micros, NodeId

ANSWERS: Final = 2
PARTS: Final = 256
BYTES: Final = 4 * 1024 * 1024
"""What one peer may have of each in one status interval; bytes are those of bodies and parts that it asked for."""

HINTED_PART: Final = 4
"""Finding what differs from a hint takes as long as reading so many parts."""

ANSWER_SLOTS_MAX: Final = 32
ANSWER_BYTES_MAX: Final = 1024 * 1024
"""One answer to a Status holds at most so many slots, and stops after so many bytes of bodies."""

EARLY_MESSAGES_MAX: Final = 512
EARLY_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one sender, kept for a view or window that this replica has not reached."""


Who = TypeVar("Who", bound=Hashable)


class Allowance(Generic[Who]):
    """How much of something each peer, or client, gets: `most` in each `period`. What would go beyond is dropped, it
    asks again."""

    def __init__(self, most: int, period: Micros) -> None:
        self._most = most
        self._period = period
        self._used: dict[Who, tuple[Micros, int]] = {}

    def take(self, now: Micros, sender: Who, cost: int = 1) -> bool:
        """Whether something is left for it; the last one may go beyond by less than itself."""
        since, used = self._used.get(sender, (now, 0))
        if now - since >= self._period:
            since, used = now, 0
        if used >= self._most:
            return False
        self._used[sender] = (since, used + cost)
        return True


class Giving:
    """What peers get when they ask: never more than their budget, so that none can make this replica work for it alone.

    Invariant: each peer has its own ANSWERS, PARTS and BYTES a status interval.
    """

    def __init__(self, period: Micros) -> None:
        self._answers: Allowance[NodeId] = Allowance(ANSWERS, period)
        self._parts: Allowance[NodeId] = Allowance(PARTS, period)
        self._bytes: Allowance[NodeId] = Allowance(BYTES, period)

    def answer(
        self,
        now: Micros,
        sender: NodeId,
        status: Status,
        ordering: Ordering,
        checkpoints: Checkpoints,
        view_changes: ViewChanges,
        unlike: Sequence[Message],
    ) -> list[Effect]:
        """`unlike`: what does not fit the NEW-VIEWs that the peer names."""
        if not self._answers.take(now, sender):
            return []
        lacking = answer(status, ordering, checkpoints, view_changes)
        return [Send((sender,), message) for message in (*lacking, *unlike)]

    def batch(self, now: Micros, sender: NodeId, message: FetchBatch, ordering: Ordering) -> list[Effect]:
        slot = ordering.slots.get(message.seq)
        body = slot.bodies.get(message.digest) if slot is not None else None
        if body is None or not self._bytes.take(now, sender, body.size):
            return []
        return [Send((sender,), BatchData(message.seq, body.time, body.raws))]

    def read_part(self, now: Micros, sender: NodeId, message: FetchPart) -> list[Effect]:
        cost = HINTED_PART if message.hint else 1
        read = ReadPart(message.seq, message.part, sender, message.hint)
        return [read] if self._parts.take(now, sender, cost) else []

    def part(self, now: Micros, event: Part) -> list[Effect]:
        """What was read for the peer that the token names."""
        if not self._bytes.take(now, event.token, len(event.data or b"")):
            return []
        return [Send((event.token,), PartData(event.index, event.part, event.data))]


class Early:
    """Phase messages that came before this replica was ready for them, by sender (HAZARDS P21).

    Invariant: of each sender at most EARLY_MESSAGES_MAX and EARLY_BYTES_MAX; the oldest give way, a Status brings
    them again.
    """

    def __init__(self) -> None:
        self._kept: dict[NodeId, deque[PrePrepare | Prepare | Commit]] = {}
        self._size: dict[NodeId, int] = {}

    def keep(self, sender: NodeId, message: PrePrepare | Prepare | Commit) -> None:
        kept = self._kept.setdefault(sender, deque())
        kept.append(message)
        self._size[sender] = self._size.get(sender, 0) + _size(message)
        while len(kept) > EARLY_MESSAGES_MAX or self._size[sender] > EARLY_BYTES_MAX:
            self._size[sender] -= _size(kept.popleft())

    def take(self) -> list[tuple[NodeId, PrePrepare | Prepare | Commit]]:
        """All, by sender: to be looked at again. What is still early is kept again."""
        taken = [(sender, message) for sender in sorted(self._kept) for message in self._kept[sender]]
        self._kept.clear()
        self._size.clear()
        return taken

    def check_invariants(self) -> None:
        for sender, kept in self._kept.items():
            assert len(kept) <= EARLY_MESSAGES_MAX, f"early messages of node {sender} are bounded"
            assert self._size[sender] == sum(map(_size, kept)) <= EARLY_BYTES_MAX, f"early bytes of node {sender}"


class Hearing:
    """When each other replica was last heard, and how far each claims to be. Claims decide nothing but `in_sync`.

    Invariant: one entry a replica in each table.
    """

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self.heard_at: dict[NodeId, Micros] = dict.fromkeys(notary.members, 0)
        self._claims: dict[NodeId, int] = {}
        self._throttled: dict[NodeId, Micros] = {}

    def begin(self, now: Micros) -> None:
        self.heard_at = dict.fromkeys(self._notary.members, now)

    def claim(self, sender: NodeId, executed: int) -> None:
        self._claims[sender] = executed

    def reached(self) -> int:
        """A seq that at least one correct replica has executed, if there is a claim by more than f (P42)."""
        claims = sorted(self._claims.values(), reverse=True)
        enough = self._notary.weak_quorum
        return claims[enough - 1] if len(claims) >= enough else 0

    def connected(self, since: Micros) -> bool:
        """Whether enough others were heard after `since` to make a quorum with this replica."""
        return sum(1 for node in self._notary.others if self.heard_at[node] > since) >= self._notary.quorum - 1

    def silence(self, node: NodeId, now: Micros) -> Micros:
        return now - self.heard_at[node]

    def throttle(self, node: NodeId, until: Micros) -> None:
        """It floods, and little is taken of it until then."""
        self._throttled[node] = until

    def misses(self, node: NodeId, now: Micros, silent_us: Micros) -> bool:
        """Whether nothing is to be expected of it for now: what it says is not taken, or it has been silent so long."""
        return self._throttled.get(node, 0) > now or self.silence(node, now) >= silent_us


def answer(status: Status, ordering: Ordering, checkpoints: Checkpoints, view_changes: ViewChanges) -> list[Message]:
    """What a peer with this status lacks and this replica has."""
    messages: list[Message] = []
    lags = status.view < ordering.view or (status.view == ordering.view and not status.active)
    if lags and ordering.active and view_changes.new_view is not None:
        messages.append(view_changes.new_view)
    messages.extend(checkpoints.words(status.stable))
    return messages + _slots(status, ordering) if status.stalled else messages


def _slots(status: Status, ordering: Ordering) -> list[Message]:
    """Decided batches whole, the oldest first; of the others this replica's own words in the peer's view."""
    messages: list[Message] = []
    same_view = ordering.active and status.active and status.view == ordering.view
    slots, size = 0, 0
    for slot in ordering.above(status.executed):
        place = slot.seq - status.executed - 1
        flag = status.slots[place] if place < len(status.slots) else 0
        body, proof = slot.decided, slot.committed
        if flag & HAS_COMMITTED:
            continue
        if body is not None and proof is not None:
            messages.append(Committed(proof, body.time, body.raws))
            size += body.size
        if same_view and (body is None or proof is None or not ordering.proves):
            words = ordering.own_words(slot, flag)
            messages.extend(words)
            size += slot.body.size if words and type(words[0]) is PrePrepare and slot.body is not None else 0
        slots += 1
        if slots >= ANSWER_SLOTS_MAX or size >= ANSWER_BYTES_MAX:
            break
    return messages


def _size(message: PrePrepare | Prepare | Commit) -> int:
    """Bytes in memory, about: an object has a head of its own, whatever is in it."""
    requests = message.requests if type(message) is PrePrepare else []
    return 256 + sum(map(len, requests)) + 64 * len(requests)
