"""What a laboratory does to the links of one replica to others: frames that it sends are lost, or late.

Here: the frames. Not here: who says so (`replog.live.laboratory`). A frame is lost above the connection, which stays:
as on a link that was broken and dialled anew, nobody sends it again but the protocol itself. Links of clients are left
alone.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from replog.live.links import OUT_BYTES_MAX
from replog.types import NodeId

LINKS = "links"
"""The parent's word about what is done to the links of a replica."""


@dataclass(frozen=True)
class Harm:
    """To one direction of one link. `loss`: the chance of each frame, 1 for all of them."""

    loss: float = 0.0
    delay_s: float = 0.0


class FaultyLinks:
    """Invariants: where no harm is done a frame leaves at once; what is late to one replica leaves in its order, and at
    most OUT_BYTES_MAX of it are held: more is lost, as it is on a link that is too slow."""

    def __init__(self, deliver: Callable[[NodeId, bytes], None], chance: random.Random | None = None) -> None:
        self._deliver = deliver
        self._chance = chance or random.Random()
        self._harms: dict[NodeId, Harm] = {}
        self._held: dict[NodeId, deque[bytes]] = {}
        self._bytes: Counter[NodeId] = Counter()

    def order(self, harms: Mapping[str, Mapping[str, Any]]) -> None:
        """From now on this and nothing else: {"2": {"loss": 1.0}, "3": {"delay_s": 0.05}}."""
        self._harms = {int(node): Harm(**harm) for node, harm in harms.items()}

    def send(self, to: NodeId, frame: bytes) -> None:
        harm = self._harms.get(to)
        if harm is not None and self._chance.random() < harm.loss:
            return
        held = self._held.get(to)
        if not held and (harm is None or not harm.delay_s):
            self._deliver(to, frame)
        else:
            self._hold(to, frame, harm.delay_s if harm is not None else 0.0)

    def _hold(self, to: NodeId, frame: bytes, delay_s: float) -> None:
        if self._bytes[to] + len(frame) <= OUT_BYTES_MAX:
            self._bytes[to] += len(frame)
            self._held.setdefault(to, deque()).append(frame)
            asyncio.get_running_loop().call_later(delay_s, self._release, to)

    def _release(self, to: NodeId) -> None:
        """One for each that is held, and always the oldest: a shorter delay overtakes nothing."""
        frame = self._held[to].popleft()
        self._bytes[to] -= len(frame)
        self._deliver(to, frame)
