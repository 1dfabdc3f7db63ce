"""flood against PBFT: a replica sends to all others as fast as it can what costs them most to refuse. [Clement09 2]

COMMITs with signatures that are none: each is small, fits the present view and window, and has to be verified before it
is known to be worth nothing. With MACs between replicas it costs only its frame. Or, with `size_kb`, bodies that nobody
asked for: few, and what they cost is their bytes. Several liars flood whoever is none of them.
"""

from __future__ import annotations

from typing import Final

from compare.attacks.base import Attack, Power, voting
from compare.options import Flood
from pbft.core import PbftCore
from pbft.messages import BatchData, Commit
from replog.codec import DIGEST_BYTES
from replog.core import Effect, Event, Send, SetTimer, Timeout
from replog.replica import Replica
from replog.types import Message, Micros, NodeId

TICK_US: Final = 5_000


class Flooding(Attack):
    """Invariant: `rate_s` messages a second leave for each other replica, in the rhythm of TICK_US."""

    TIMER = "flood"

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        options = Flood.model_validate(power.options)
        self._each = options.rate_s * TICK_US // 1_000_000
        self._junk = bytes(1024 * options.size_kb)
        self._others = tuple(node for node in range(power.n) if node not in power.members)
        self._next: Micros = 0

    def hear(self, now: Micros, event: Event) -> list[Event]:
        return [] if event == Timeout(self.TIMER) else [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        if now < self._next:
            return effects
        self._next = now + TICK_US
        core = voting(self.inner)
        assert isinstance(core, PbftCore)
        lies = [Send(self._others, message) for message in self._lies(core)]
        said = [lies[number % len(lies)] for number in range(self._each)]
        return [*effects, *said, SetTimer(self.TIMER, TICK_US)]

    def _lies(self, core: PbftCore) -> list[Message]:
        seq, digest = core.ordering.low + 1, bytes(DIGEST_BYTES)
        if self._junk:
            return [BatchData(seq, 0, [self._junk])]
        return [Commit(core.view, seq + place, digest, self.me, bytes(64)) for place in range(64)]

    def arrived(self, node: NodeId, message: Message) -> None:
        self.actions += type(message) is BatchData or (type(message) is Commit and not any(message.signature))
