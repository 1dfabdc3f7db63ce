"""censor against PBFT: the primary keeps one client's requests back, for good or for a time. [HAZARDS P37]

Kept back for less than the time-out of PBFT, nobody may depose it; and all other clients are served as ever.
"""

from __future__ import annotations

from collections import deque

from compare.attacks.base import Attack, Power
from compare.options import Censorship
from replog.codec import BadMessage
from replog.core import Effect, Event, Received, SetTimer, Timeout
from replog.replica import Replica
from replog.types import Message, Micros, NodeId, Request, Submit


class Censor(Attack):
    """Invariant: what is kept back is heard in order, each `delay_ms` after it came, or never."""

    TIMER = "censor"

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        options = Censorship.model_validate(power.options)
        self._client = options.client
        self._delay: Micros = int(options.delay_ms * 1000)
        self._kept: deque[tuple[Micros, Event]] = deque()

    def hear(self, now: Micros, event: Event) -> list[Event]:
        events: list[Event] = [] if event == Timeout(self.TIMER) else [event]
        if type(event) is Received and self._is_theirs(event.message):
            self.actions += 1
            events = []
            if self._delay:
                self._kept.append((now + self._delay, event))
        while self._kept and self._kept[0][0] <= now:
            events.append(self._kept.popleft()[1])
        return events

    def _is_theirs(self, message: Message) -> bool:
        if type(message) is not Submit or self.inner.status().leader != self.me:
            return False
        try:
            return Request(message.request).client == self._client
        except BadMessage:
            return False

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        return [*effects, SetTimer(self.TIMER, max(1, self._kept[0][0] - now))] if self._kept else effects
