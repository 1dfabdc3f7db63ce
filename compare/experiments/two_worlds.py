"""A coalition that lives in two worlds at once: how more than f liars make correct replicas disagree. [Sheng21]

Each member runs a second honest core under its own key. The first ones hear the correct replicas of one side and each
other, the second ones those of the other side and each other, and each world has clients of its own. So both sides see
n - s replicas that follow the protocol to the letter, s being the size of the other side, and each signature in one
world contradicts one of the other. Colluders know which face a word among them is for; the links do not show it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec
from pydantic import Field

from compare.attacks.base import Power
from compare.attacks.lies import Liar
from compare.options import Options
from replog.core import CancelTimer, Effect, Event, Received, Reply, Save, Saved, Send, SetTimer, Started, Timeout
from replog.replica import Replica
from replog.types import ClientId, Micros, NodeId

SECOND: Final = "second/"
"""What the names of the second face's timers begin with."""
Letter = tuple[NodeId, NodeId, bytes]
_encode = msgspec.msgpack.Encoder().encode


class Sides(Options):
    second: list[NodeId] = Field(min_length=1, description="the correct replicas of the second world")
    clients: list[ClientId] = Field(default_factory=list, description="its clients; all others are of the first")


class TwoWorlds(Liar):
    """A coalition runs twice, each time as honest replicas in touch with a side of its own.

    Invariant: the two cores of a member share its key, its clients and the disk that it began with, and nothing else.
    """

    options_model = Sides
    protocols = ("pbft",)

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._side = frozenset(self.options.second)
        self._letters: Counter[Letter] = power.shared.setdefault("letters", Counter())
        """Under way between second faces: sender, receiver, words."""
        self._second: Replica | None = None
        self._heard: list[Event] = []

    def begin(self, now: Micros) -> list[Event]:
        if self.power.second is None:
            raise ValueError("two-worlds: this world cannot start a replica twice")
        self._second = self.power.second(self.me)
        self._heard = [Started()]
        return []

    def hear(self, now: Micros, event: Event) -> list[Event]:
        if isinstance(event, Timeout) and event.name.startswith(SECOND):
            self._heard.append(Timeout(event.name.removeprefix(SECOND)))
            return []
        if type(event) is Received and self._is_for_second(event):
            self._heard.append(event)
            return []
        return [event]

    def _is_for_second(self, event: Received) -> bool:
        sender = event.sender
        if isinstance(sender, str):
            return sender in self.options.clients
        if sender not in self.power.members:
            return sender in self._side
        letter = (sender, self.me, _encode(event.message))
        if not self._letters[letter]:
            return False
        self._letters[letter] -= 1
        if not self._letters[letter]:
            del self._letters[letter]
        return True

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said = [own for effect in effects if (own := self._of_first(effect)) is not None]
        heard, self._heard = self._heard, []
        for event in heard:
            if self._second is not None:
                said += [own for effect in self._second.step(now, event) for own in self._of_second(effect)]
        return said

    def _of_first(self, effect: Effect) -> Effect | None:
        if not isinstance(effect, Send):
            return effect
        to = tuple(node for node in effect.to if node not in self._side)
        return Send(to, effect.message) if to else None

    def _of_second(self, effect: Effect) -> list[Effect]:
        """Its disk is none: what it promises it remembers as long as the run lasts."""
        match effect:
            case Send():
                return self._spread(effect)
            case Reply():
                return [effect]
            case SetTimer():
                return [SetTimer(SECOND + effect.name, effect.delay)]
            case CancelTimer():
                return [CancelTimer(SECOND + effect.name)]
            case Save():
                self._heard.append(Saved(effect.snapshot.index))
        return []

    def _spread(self, effect: Send) -> list[Effect]:
        fellows = tuple(node for node in effect.to if node in self.power.members)
        self._letters.update((self.me, node, _encode(effect.message)) for node in fellows)
        side = tuple(node for node in effect.to if node in self._side)
        said: list[Effect] = [Send(fellows, effect.message)] if fellows else []
        return [*said, self.lie(side, effect.message)] if side else said
