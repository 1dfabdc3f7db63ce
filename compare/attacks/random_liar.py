"""random-liar: says what its honest replica says, but left out, late, again, otherwise, to some and not to others, and
what was never said at all; every kind of message, in its own name and validly signed as far as its own key goes.

How much it lies, and in which ways mostly, differs from seed to seed. A coalition shares what it has heard, and the
digests that its members told for a place in the log, so that votes can follow the pre-prepares they lied with.

Here: what is done to messages. Not here: values (`random_words`), signatures of a protocol (`random_pbft`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from compare.attacks.base import Attack, Power
from compare.attacks.random_words import Words
from replog.core import Effect, Event, Received, Reply, Send
from replog.replica import Replica
from replog.types import Message, Micros, NodeId

LISTENS: Final = 0.2
"""The share of what it hears that it learns words from."""
LATE_US: Final = 200_000
OLD: Final = 128
"""Messages of its own that it may say again."""


class RandomLiar(Attack):
    """Invariants:
    `acts` counts what a correct replica was told, by kind and act, and what nobody was told
    `actions` counts of them what the honest replica inside would not have said
    """

    kinds: tuple[type[Message], ...]

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._chance = chance = random.Random(f"{power.seed}/random-liar/{me}")
        self._words: Words = power.shared.setdefault(
            "words", Words(random.Random(f"{power.seed}/words/{power.members}"), self.kinds)
        )
        self._rate = chance.choice((0.1, 0.2, 0.5, 0.8))
        self._deaf = chance.choice((0.0, 0.0, 0.05, 0.3))
        ways = (self._withhold, self._delay, self._repeat, self._change, self._change, self._invent)
        self._ways: dict[Callable[[Micros, Send], list[Effect]], float] = {}
        for way in ways:
            self._ways[way] = self._ways.get(way, 0.1) + chance.random()
        self._old: list[Message] = []
        self._late: list[tuple[Micros, Send]] = []
        self._said: dict[tuple[NodeId, bytes], str] = {}

    def sign(self, message: Any) -> Any:
        """The same in this liar's own name, with signatures of the coalition's where they belong."""
        raise NotImplementedError

    def encode(self, message: Message) -> bytes:
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- what it hears

    def hear(self, now: Micros, event: Event) -> list[Event]:
        if type(event) is not Received:
            return [event]
        if self._chance.random() < LISTENS:
            self._words.learn(event.message)
        return [] if self._chance.random() < self._deaf else [event]

    def arrived(self, node: NodeId, message: Message) -> None:
        act = self._said.pop((node, self.encode(message)), None) if self._said else None
        if act is not None:
            self._count(message, act)
            self.actions += act in ("changed", "invented")

    def _count(self, message: Message, act: str) -> None:
        self.acts[f"{type(message).__name__} {act}"] += 1

    # ----------------------------------------------------------------------------------------------------- what it says

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said: list[Effect] = []
        for effect in effects:
            said += self._say(now, effect)
        due = [send for at, send in self._late if at <= now]
        if due:
            self._late = [(at, send) for at, send in self._late if at > now]
        return said + due

    def _say(self, now: Micros, effect: Effect) -> list[Effect]:
        lies = self._chance.random() < self._rate
        if type(effect) is Reply and lies:
            return self._reply(effect)
        if type(effect) is not Send:
            return [effect]
        self._remember(effect.message)
        if not lies:
            return [effect]
        (way,) = self._chance.choices(list(self._ways), list(self._ways.values()))
        return way(now, effect)

    def _remember(self, message: Message) -> None:
        if self._chance.random() < LISTENS:
            self._words.learn(message)
            self._old.append(message)
            del self._old[:-OLD]

    def _split(self, send: Send) -> tuple[tuple[NodeId, ...], list[Effect]]:
        """Some of those it is for, at least one, and the effect for the others."""
        some = self._some(send.to)
        rest = tuple(node for node in send.to if node not in some)
        return some, [Send(rest, send.message)] if rest else []

    def _some(self, nodes: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
        return tuple(sorted(self._chance.sample(nodes, self._chance.randint(1, len(nodes)))))

    def _tell(self, to: tuple[NodeId, ...], message: Message, act: str) -> Send:
        raw = self.encode(message)
        for node in to:
            self._said[node, raw] = act
        return Send(to, message)

    def _withhold(self, now: Micros, send: Send) -> list[Effect]:
        _, rest = self._split(send)
        self._count(send.message, "withheld")
        return rest

    def _delay(self, now: Micros, send: Send) -> list[Effect]:
        some, rest = self._split(send)
        self._late.append((now + self._chance.randrange(LATE_US), self._tell(some, send.message, "late")))
        return rest

    def _repeat(self, now: Micros, send: Send) -> list[Effect]:
        old = self._chance.choice(self._old) if self._old else send.message
        return [send, self._tell(self._some(send.to), old, "again")]

    def _change(self, now: Micros, send: Send) -> list[Effect]:
        """Something else for some of them, for each the same or for each another; they may hear the truth too."""
        some, effects = self._split(send)
        if self._chance.random() < 0.2:
            effects = [send]
        for group in [some] if self._chance.random() < 0.6 else [(node,) for node in some]:
            lie = self.sign(self._words.change(send.message))
            self._words.learn(lie)
            effects.append(self._tell(group, lie, "changed"))
        return effects

    def _invent(self, now: Micros, send: Send) -> list[Effect]:
        others = tuple(node for node in range(self.power.n) if node != self.me)
        return [send, self._tell(self._some(others), self.sign(self._words.invent()), "invented")]

    def _reply(self, effect: Reply) -> list[Effect]:
        """To a client: nothing, or another answer."""
        act = self._chance.choice(("withheld", "changed"))
        self._count(effect.message, act)
        return [Reply(effect.client, self._words.change(effect.message))] if act == "changed" else []
