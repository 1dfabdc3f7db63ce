"""twins: two honest cores under one identity, each in touch with its own half of the others. [Bano et al. 2020; X9]

Neither lies. Together they are a replica that says two things, as when an old backup of it is started beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

from compare.attacks.base import Power
from compare.attacks.lies import Liar
from raft.core import HEARTBEAT
from replog.core import CancelTimer, Effect, Event, Received, Reply, Save, Saved, Send, SetTimer, Started, Timeout
from replog.replica import Replica
from replog.types import Micros, NodeId

MINE: Final = "twin/"
"""Before the names of the twin's timers."""
WORLD: Final = ("replog.sim.", "replog.live.", "replog.keys", "replog.meters")
"""Modules of what a copy shares."""


class Twins(Liar):
    """Invariant: the replica inside speaks with the first half of the others and hears nobody else; the twin, a copy
    of it as it was when the attack began, with the second half. Clients hear both."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._twin: Replica | None = None
        self._saved: list[Event] = []
        self._armed: list[Effect] = []
        self._steps: list[Event] = []

    def begin(self, now: Micros) -> list[Event]:
        self._twin = _copy(self.inner)
        self._steps = [Started()]  # which arms timers: a copy has none in the world
        leads = self.inner.status().leader == self.me and self.inner.status().protocol == "raft"
        self._armed = [SetTimer(MINE + HEARTBEAT, 1)] if leads else []
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
        said, self._armed = self._armed, []
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


def _copy(replica: Replica) -> Replica:
    """As it is; clocks, keys and whatever else belongs to the world around it are shared."""
    return copy.deepcopy(replica, {id(one): one for one in _surroundings(replica, set())})


def _surroundings(thing: Any, seen: set[int]) -> Iterator[Any]:
    """What is reached from `thing` and belongs to the world."""
    thing = getattr(thing, "__self__", thing)
    if id(thing) in seen:
        return
    seen.add(id(thing))
    module = type(thing).__module__
    if module.startswith(WORLD):
        yield thing
    elif isinstance(thing, (dict, list, tuple, set)):
        for item in thing.values() if isinstance(thing, dict) else thing:
            yield from _surroundings(item, seen)
    elif module.startswith(("pbft.", "raft.", "replog.")):
        names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        for name in {*names, *getattr(thing, "__dict__", ())}:
            yield from _surroundings(getattr(thing, name, None), seen)
