"""Attacks that both protocols are open to and that say nothing untrue: nothing, late, again, or what was said long ago.

[silent, mute-to-some, withheld-state, delay, duplicate, replay-old]
"""

from __future__ import annotations

from collections import deque
from typing import Final

from compare.attacks.base import Power
from compare.attacks.lies import Chosen, Liar
from compare.options import Copies, Delaying, Replaying
from replog.core import Effect, Event, Received, Reply, Send, SetTimer, Timeout
from replog.replica import Replica
from replog.types import Message, Micros, NodeId

KEPT: Final = 256
"""Messages that may be said again."""


class Silent(Chosen):
    """Says nothing, or nothing of some kinds."""

    engines = ("sim", "live")

    def instead(self, now: Micros, effect: Send) -> list[Effect]:
        return self.omitted(len(effect.to))

    def reply(self, now: Micros, effect: Reply) -> list[Effect]:
        return self.omitted() if self.strikes(effect.message) and self.options.to is None else [effect]


class MuteToSome(Silent):
    """Says nothing to one replica, drawn unless options name some; all others hear everything."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        if self.options.to is None:
            self.options = self.options.model_copy(update={"to": [self.chance.choice(self.correct)]})


class WithheldState(Silent):
    """Keeps to itself what others need to catch up."""

    KINDS: Final = ("PartData", "BatchData", "Committed", "CheckpointProof", "InstallSnapshot")

    def strikes(self, message: Message) -> bool:
        return type(message).__name__ in (self.options.kinds or self.KINDS)


class Delay(Chosen):
    """Says everything, but later. Invariant: what is held leaves in the order in which it was said."""

    options_model = Delaying
    LATE: Final = "late"

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._delay: Micros = int(self.options.delay_ms * 1000)
        self._held: deque[tuple[Micros, Effect]] = deque()

    def instead(self, now: Micros, effect: Send) -> list[Effect]:
        self._held.append((now + self._delay, effect))
        return []

    def reply(self, now: Micros, effect: Reply) -> list[Effect]:
        self._held.append((now + self._delay, effect))
        return []

    def hear(self, now: Micros, event: Event) -> list[Event]:
        return [] if event == Timeout(self.LATE) else super().hear(now, event)

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said = super().speak(now, effects)
        while self._held and self._held[0][0] <= now:
            effect = self._held.popleft()[1]
            said.append(self.lie(effect.to, effect.message) if isinstance(effect, Send) else effect)
        return [*said, SetTimer(self.LATE, max(1, self._held[0][0] - now))] if self._held else said


class Duplicate(Chosen):
    """Says everything several times."""

    options_model = Copies

    def instead(self, now: Micros, effect: Send) -> list[Effect]:
        return [effect, *(self.lie(effect.to, effect.message) for _ in range(self.options.copies - 1))]

    def reply(self, now: Micros, effect: Reply) -> list[Effect]:
        return [effect] * self.options.copies


class ReplayOld(Liar):
    """Says again what it or another has said long ago, to whom it was not said."""

    options_model = Replaying

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self.period_us = int(self.options.period_ms * 1000)
        self._old: list[Message] = power.shared.setdefault("old", [])

    def _keep(self, message: Message) -> None:
        """Any of the old ones makes room, so that some stay for long."""
        if len(self._old) >= KEPT:
            del self._old[self.chance.randrange(KEPT)]
        self._old.append(message)

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        self._keep(effect.message)
        return [effect]

    def receive(self, now: Micros, event: Received) -> list[Event]:
        if self.options.of_others and isinstance(event.sender, int):
            self._keep(event.message)
        return [event]

    def act(self, now: Micros) -> list[Effect]:
        return [self.lie(self.others, self.chance.choice(self._old))] if self._old else []
