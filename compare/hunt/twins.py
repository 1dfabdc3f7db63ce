"""Twins: one identity, two honest replicas. Each hears a part of the others, and who hears whom changes now and then.

Both faces follow the protocol to the letter and sign with one key, so whatever goes wrong is the fault of having two of
them: votes for two things at one place, a primary that proposes twice, promises that one face never made. [Bano et al.,
Twins: BFT Systems Made Robust, OPODIS'21] (HAZARDS X9)
The second face begins from the same disk and keeps nothing on it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from compare import drawing
from compare.attacks.base import Attack, Power
from compare.hunt import swarm
from compare.hunt.case import Case, changed
from replog.core import CancelTimer, Effect, Event, Received, Reply, Send, SetTimer, Started, Timeout
from replog.replica import Replica
from replog.types import Message, Micros, NodeId

SECOND: Final = "second/"
"""What the names of the second face's timers begin with."""


@dataclass(frozen=True)
class Stage:
    """What the world lends: whom the first face hears now, and the bytes of a message."""

    first: Callable[[], frozenset[NodeId]]
    encode: Callable[[Message], bytes]


class TwoFaces(Attack):
    """Invariant: at any time each other replica hears one face and is heard by that one."""

    def __init__(self, me: NodeId, inner: Replica, power: Power, stage: Stage) -> None:
        super().__init__(me, inner, power)
        self._stage = stage
        if power.second is None:
            raise ValueError("a second face needs a world that can start one: the simulated one")
        self._second = power.second(me)
        self._said: set[tuple[NodeId, bytes]] = set()
        self._waiting: list[Effect] = []

    def begin(self, now: Micros) -> list[Event]:
        self._waiting = self._of_second(self._second.step(now, Started()))
        return []

    def hear(self, now: Micros, event: Event) -> list[Event]:
        if type(event) is Timeout and event.name.startswith(SECOND):
            return self._tell_second(now, Timeout(event.name.removeprefix(SECOND)))
        if type(event) is not Received:
            return [event]
        if isinstance(event.sender, int):
            return [event] if event.sender in self._stage.first() else self._tell_second(now, event)
        self._tell_second(now, event)
        return [event]

    def _tell_second(self, now: Micros, event: Event) -> list[Event]:
        self._waiting += self._of_second(self._second.step(now, event))
        return []

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        waiting, self._waiting = self._waiting, []
        first = self._stage.first()
        return [said for effect in effects if (said := _to_some(effect, first)) is not None] + waiting

    def _of_second(self, effects: list[Effect]) -> list[Effect]:
        """What of it leaves this process: words to its side, answers to clients, and its timers under other names."""
        side = frozenset(range(self.power.n)) - self._stage.first() - {self.me}
        said: list[Effect] = []
        for effect in effects:
            if isinstance(effect, (SetTimer, CancelTimer)):
                said.append(replace(effect, name=SECOND + effect.name))
            elif isinstance(effect, Reply):
                said.append(effect)
            elif isinstance(effect, Send) and (sent := _to_some(effect, side)) is not None:
                said.append(sent)
                self._said |= {(node, self._stage.encode(effect.message)) for node in effect.to if node in side}
        return said

    def arrived(self, node: NodeId, message: Message) -> None:
        """Only what the second face said is an act: the first one is honest for itself."""
        if (node, self._stage.encode(message)) in self._said:
            self.actions += 1


def _to_some(effect: Effect, nodes: frozenset[NodeId]) -> Effect | None:
    """A message to those of `nodes` alone; None if it is for none of them. All else as it is."""
    if not isinstance(effect, Send):
        return effect
    some = tuple(node for node in effect.to if node in nodes)
    return Send(some, effect.message) if some else None


def draw(protocol: str, seed: int) -> Case:
    """The case of a seed: at most f replicas with two faces, two to five times of who hears which, and few strikes."""
    chance = random.Random(f"{seed}/twins/{protocol}")
    base = swarm.draw(protocol, seed)
    n = base.side(protocol).n or 1
    twins = drawing.who_lies(chance, n, base.f)
    times = [0.0, *sorted(round(chance.uniform(0.02, swarm.TO_S), 3) for _ in range(chance.randint(1, 4)))]
    sides = [{"start_s": start, "first": _some(chance, n)} for start in times]
    lies = [{"attack": "random-liar", "target": twins, "start_s": 0.0, "end_s": swarm.END_S}]
    strikes = [strike.model_dump() for strike in base.strikes[: chance.randint(0, 2)]]
    return changed(base, strategy="twins", twins=twins, sides=sides, timeline=lies, strikes=strikes, network={})


def _some(chance: random.Random, n: int) -> list[Any]:
    return sorted(chance.sample(range(n), chance.randint(0, n)))
