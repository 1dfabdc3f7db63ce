"""slow-primary against PBFT: proposals leave late, each by the same time. [Clement09 2, 3.2; HAZARDS P38]

With a delay below the time-out of PBFT nobody may depose it, and the service does about as many requests a second as
wait at a time over that delay.
"""

from __future__ import annotations

from collections import deque

from compare.attacks.base import Attack, Power
from compare.options import Slowness
from pbft.messages import PrePrepare
from replog.core import Effect, Event, Send, SetTimer, Timeout
from replog.replica import Replica
from replog.types import Message, Micros, NodeId


class SlowPrimary(Attack):
    """Invariant: what is held leaves in order, each proposal `delay_ms` after the honest one would have."""

    TIMER = "slow-primary"

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._delay: Micros = int(Slowness.model_validate(power.options).delay_ms * 1000)
        self._held: deque[tuple[Micros, Effect]] = deque()

    def hear(self, now: Micros, event: Event) -> list[Event]:
        return [] if event == Timeout(self.TIMER) else [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        late = [effect for effect in effects if type(effect) is Send and type(effect.message) is PrePrepare]
        self._held.extend((now + self._delay, effect) for effect in late)
        said = [effect for effect in effects if effect not in late] if late else effects
        while self._held and self._held[0][0] <= now:
            said.append(self._held.popleft()[1])
        return [*said, SetTimer(self.TIMER, max(1, self._held[0][0] - now))] if self._held else said

    def arrived(self, node: NodeId, message: Message) -> None:
        self.actions += type(message) is PrePrepare
