"""Attacks that spoil what they say: a payload, a signature, the name below it.

[corrupt-payload, corrupt-signature, impersonate]
"""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec
from msgspec.structs import fields, replace

from compare.attacks.base import Power
from compare.attacks.lies import Chosen
from compare.attacks.pen import SAYS_WHO, Pen
from compare.options import Corruption
from pbft.messages import Commit, Prepare, PrePrepare
from replog.codec import digest_of
from replog.core import Effect, Event, Received, Send
from replog.replica import Replica
from replog.types import Micros, NodeId

SIGNATURES: Final = ("signature", "auth")
NAMES: Final = ("replica", "leader_id", "candidate_id")
"""Fields that say who speaks."""


def spoilt(value: Any, chance: random.Random) -> Any:
    """Nearly the same: one bit, one more, one part of it."""
    match value:
        case bool():
            return not value
        case int():
            return value + chance.choice((1, 2)) if value < 2**61 else value - 1
        case bytes() if value:
            place = chance.randrange(len(value))
            return value[:place] + bytes([value[place] ^ 1 << chance.randrange(8)]) + value[place + 1 :]
        case list() if value:
            place = chance.randrange(len(value))
            return [*value[:place], spoilt(value[place], chance), *value[place + 1 :]]
        case msgspec.Struct():
            return spoilt_in(value, [field.name for field in fields(value)], chance)
    return value


def spoilt_in(message: Any, names: list[str], chance: random.Random) -> Any:
    """With one of these fields spoilt; the same if none of them can be."""
    for name in chance.sample(names, len(names)):
        value = getattr(message, name)
        other = spoilt(value, chance)
        if other != value:
            return replace(message, **{name: other})
    return message


class CorruptPayload(Chosen):
    """Changes a bit or a number in what it says, and signs nothing anew."""

    options_model = Corruption

    def instead(self, now: Micros, effect: Send) -> list[Effect]:
        if self.chance.random() >= self.options.share:
            return [effect]
        known = [field.name for field in fields(effect.message)]
        names = [name for name in known if name in self.options.fields or not self.options.fields]
        lie = spoilt_in(effect.message, [name for name in names if name not in SIGNATURES], self.chance)
        return [effect] if lie == effect.message else [self.lie(effect.to, lie)]


class CorruptSignature(Chosen):
    """Spoils each of its signatures, and those that it only passes on."""

    options_model = Corruption

    def instead(self, now: Micros, effect: Send) -> list[Effect]:
        lie = self._unsigned(effect.message)
        return [effect] if lie == effect.message else [self.lie(effect.to, lie)]

    def _unsigned(self, value: Any) -> Any:
        if isinstance(value, list):
            return list(map(self._unsigned, value))
        if not isinstance(value, msgspec.Struct):
            return value
        changes = {field.name: self._unsigned(getattr(value, field.name)) for field in fields(value)}
        for name in SIGNATURES:
            if name in changes:
                changes[name] = spoilt(changes[name], self.chance)
        return replace(value, **changes)


class Impersonate(Pen, Chosen):
    """Speaks in the names of all others too, and in theirs votes for what nobody proposed.

    Each such message goes over its own link and is signed as far as its own key goes.
    """

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._say: list[Effect] = []

    def receive(self, now: Micros, event: Received) -> list[Event]:
        """Before anybody votes on a proposal, everybody has."""
        said = event.message
        if isinstance(said, PrePrepare):
            vote = Commit(said.view, said.seq, said.digest, self.me, b"")
            self._say += [lie for node in self.correct for lie in self._as(node, Send(self.others, vote))]
        return [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said, self._say = self._say, []
        return [*said, *super().speak(now, effects)]

    def instead(self, now: Micros, effect: Send) -> list[Effect]:
        forged = (self._as(node, effect) for node in self.correct)
        return [*(lie for lies in forged for lie in lies), effect]

    def _as(self, node: NodeId, effect: Send) -> list[Effect]:
        to = tuple(other for other in effect.to if other != node)
        lie = self._forged(node, effect.message)
        return [self.lie(to, lie)] if to and lie != effect.message else []

    def _forged(self, node: NodeId, message: Any) -> Any:
        named: dict[str, Any] = {field.name: node for field in fields(message) if field.name in NAMES}
        if not named:
            return message
        if isinstance(message, (Prepare, Commit)):
            named["digest"] = digest_of(b"nobody's")
        lie = replace(message, **named)
        return self.signed(lie) if isinstance(message, SAYS_WHO) else lie
