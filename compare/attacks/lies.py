"""The common ground of attacks that change what a replica hears and says, message by message.

Here: going through events and effects, acting now and then, counting which lies arrived. Not here: what is said.
"""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec

from compare.attacks.base import Attack, Power
from compare.options import Options, Selection
from replog.core import Effect, Event, Received, Reply, Send, SetTimer, Timeout
from replog.replica import Replica
from replog.types import Message, Micros, NodeId

TOLD_MAX: Final = 20_000
"""Lies under way that are waited for; beyond it the oldest is taken for lost."""
_encode = msgspec.msgpack.Encoder().encode


class Liar(Attack):
    """Subclasses override `receive`, `send`, `reply` and `act`, and mark with `lie` what is to be counted.

    Invariants:
      what is no lie leaves as the replica inside says it, in its order
      `actions` counts lies that a correct replica was handed, and omissions, which cannot be lost on the way
    """

    TIMER: Final = "lies"
    options_model: type[Options] = Options
    period_us: Micros = 0
    """How often `act` is asked, 0: never."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self.chance = random.Random(f"{power.seed}/{type(self).__name__}/{me}")
        self.options: Any = self.options_model.model_validate(dict(power.options))
        self.others = tuple(node for node in range(power.n) if node != me)
        self.correct = tuple(node for node in self.others if node not in power.members)
        self._told: dict[tuple[NodeId, bytes], None] = {}
        self._next: Micros = 0

    # ------------------------------------------------------------------------------------------------- for subclasses

    def receive(self, now: Micros, event: Received) -> list[Event]:
        """What the replica inside hears in place of a message."""
        return [event]

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        """What other replicas are told in place of it."""
        return [effect]

    def reply(self, now: Micros, effect: Reply) -> list[Effect]:
        """What a client is told in place of it."""
        return [effect]

    def act(self, now: Micros) -> list[Effect]:
        """Something of one's own, every `period_us`."""
        return []

    def lie(self, to: tuple[NodeId, ...], message: Message) -> Send:
        """Say it, and count each correct replica that comes to hear it."""
        raw = _encode(message)
        for node in to:
            if node in self.correct:
                self._told[node, raw] = None
        while len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]
        return Send(to, message)

    def omitted(self, number: int = 1) -> list[Effect]:
        """Nothing is said: that acts by itself."""
        self.actions += number
        return []

    def half(self, nodes: tuple[NodeId, ...]) -> tuple[tuple[NodeId, ...], tuple[NodeId, ...]]:
        """Those that hear the truth, and those that hear the lie: always the same, the latter correct ones alone."""
        lied = self.correct[(len(self.correct) + 1) // 2 :]
        return tuple(node for node in nodes if node not in lied), tuple(node for node in nodes if node in lied)

    # ---------------------------------------------------------------------------------------------------- the wrapper

    def hear(self, now: Micros, event: Event) -> list[Event]:
        if event == Timeout(self.TIMER):
            return []
        return self.receive(now, event) if type(event) is Received else [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said: list[Effect] = []
        for effect in effects:
            if type(effect) is Send:
                said += self.send(now, effect)
            elif type(effect) is Reply:
                said += self.reply(now, effect)
            else:
                said.append(effect)
        if self.period_us and now >= self._next:
            self._next = now + self.period_us
            said += [*self.act(now), SetTimer(self.TIMER, self.period_us)]
        return said

    def arrived(self, node: NodeId, message: Message) -> None:
        if self._told and self._told.pop((node, _encode(message)), False) is None:
            self.actions += 1
            self.acts[type(message).__name__] += 1


class Chosen(Liar):
    """A lie about messages of some kinds, to some replicas: both are options (`compare.options.Selection`)."""

    options_model = Selection

    def strikes(self, message: Message) -> bool:
        return not self.options.kinds or type(message).__name__ in self.options.kinds

    def victims(self, nodes: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
        return nodes if self.options.to is None else tuple(node for node in nodes if node in self.options.to)

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        struck = self.victims(effect.to) if self.strikes(effect.message) else ()
        if not struck:
            return [effect]
        rest = tuple(node for node in effect.to if node not in struck)
        return [*([Send(rest, effect.message)] if rest else []), *self.instead(now, Send(struck, effect.message))]

    def instead(self, now: Micros, effect: Send) -> list[Effect]:
        """What those that are struck are told."""
        raise NotImplementedError
