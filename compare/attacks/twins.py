"""twins: two honest cores under one identity, each in touch with its own half of the others. [Bano et al. 2020; X9]

Neither core lies. Together they are a replica that says two things, as when an old backup of it is started beside it.
"""

from __future__ import annotations

from typing import Final

from compare.attacks.base import Power
from compare.attacks.lies import Liar
from replog.core import CancelTimer, Effect, Event, Received, Reply, Save, Saved, Send, SetTimer, Started, Timeout
from replog.replica import Replica
from replog.types import Micros, NodeId

MINE: Final = "twin/"
"""Before the names of the twin's timers."""


class Twins(Liar):
    """Runs twice: one core in touch with half of the others, one with the other half; clients hear both.

    The twin starts from the disk of the first as it was when the attack began, and has none of its own.
    """

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._twin: Replica | None = None
        self._saved: list[Event] = []
        self._steps: list[Event] = []

    def begin(self, now: Micros) -> list[Event]:
        if self.power.second is None:
            raise ValueError("twins: this world cannot start a replica twice")
        self._twin = self.power.second(self.me)
        self._steps = [Started()]
        return []

    def hear(self, now: Micros, event: Event) -> list[Event]:
        if isinstance(event, Timeout) and event.name.startswith(MINE):
            self._steps.append(Timeout(event.name.removeprefix(MINE)))
            return []
        if type(event) is not Received:
            return [event]
        if isinstance(event.sender, str):
            self._steps.append(event)
            return [event]
        first, second = self.half((event.sender,))
        self._steps += [event] if second else []
        return [event] if first else []

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send):
                first, _ = self.half(effect.to)
                said += [Send(first, effect.message)] if first else []
            else:
                said.append(effect)
        steps, self._steps = [*self._saved, *self._steps], []
        self._saved = []
        for event in steps:
            if self._twin is not None:
                said += [own for effect in self._twin.step(now, event) for own in self._of_twin(effect)]
        return said

    def _of_twin(self, effect: Effect) -> list[Effect]:
        """Its disk is none: what it promises it remembers as long as the attack lasts."""
        match effect:
            case Send():
                _, second = self.half(effect.to)
                return [self.lie(second, effect.message)] if second else []
            case Reply():
                return [effect]
            case SetTimer():
                return [SetTimer(MINE + effect.name, effect.delay)]
            case CancelTimer():
                return [CancelTimer(MINE + effect.name)]
            case Save():
                self._saved.append(Saved(effect.snapshot.index))
        return []
