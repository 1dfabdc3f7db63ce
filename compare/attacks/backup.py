"""Attacks of a backup of PBFT: on the votes, the checkpoints, the state and what others believe of it.

[equivocate-votes, vote-for-everything, wrong-checkpoint, poisoned-state, lie-in-status]
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from compare.attacks.corruption import spoilt
from compare.attacks.lies import Liar
from compare.attacks.pen import Pen
from compare.options import Number
from pbft.messages import Checkpoint, Commit, PartData, Prepare, PrePrepare, Status
from replog.codec import digest_of
from replog.core import Effect, Event, Received, Send
from replog.types import Micros

LIE: Final = digest_of(b"a lie")


class EquivocateVotes(Pen, Liar):
    """Votes for what was proposed before half of the others, and for something else before the other half."""

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        if not isinstance(effect.message, (Prepare, Commit)):
            return [effect]
        honest, lied = self.half(effect.to)
        told: list[Effect] = [Send(honest, effect.message)] if honest else []
        return [*told, *([self.lie(lied, self.signed(replace(effect.message, digest=LIE)))] if lied else [])]


class VoteForEverything(Pen, Liar):
    """Prepares and commits at once whatever anybody proposes or votes for, however many things that are."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._voted: dict[tuple[int, int, bytes], None] = {}
        self._say: list[Effect] = []

    def receive(self, now: Micros, event: Received) -> list[Event]:
        said = event.message
        if isinstance(said, (PrePrepare, Prepare, Commit)) and (said.view, said.seq, said.digest) not in self._voted:
            self._voted[said.view, said.seq, said.digest] = None
            for kind in (Prepare, Commit):
                vote = self.signed(kind(said.view, said.seq, said.digest, self.me, b""))
                self._say.append(self.lie(self.others, vote))
        return [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said, self._say = self._say, []
        mine = [one for one in effects if not (type(one) is Send and type(one.message) in (Prepare, Commit))]
        return [*said, *super().speak(now, mine)]


class WrongCheckpoint(Pen, Liar):
    """Signs checkpoints of a state that nobody has."""

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        if not isinstance(effect.message, Checkpoint) or effect.message.replica != self.me:
            return [effect]
        return [self.lie(effect.to, self.signed(replace(effect.message, digest=LIE)))]


class PoisonedState(Liar):
    """Sends others that catch up parts of a state that is not the one they ask for."""

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        message = effect.message
        if not isinstance(message, PartData) or not message.data:
            return [effect]
        return [self.lie(effect.to, replace(message, data=spoilt(message.data, self.chance)))]


class LieInStatus(Liar):
    """Says of itself that it is far ahead of all others in one word, and that it has nothing in the next."""

    options_model = Number

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        said = effect.message
        if not isinstance(said, Status):
            return [effect]
        if self.chance.random() < 0.5:
            far = {"executed": said.executed + self.options.by, "stable": said.stable + self.options.by}
            return [self.lie(effect.to, replace(said, slots=b"", stalled=False, **far))]
        return [self.lie(effect.to, replace(said, executed=0, stable=0, slots=b"", stalled=True))]
