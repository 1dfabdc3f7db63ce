"""Attacks of a backup of PBFT: on the votes, the checkpoints, the state and what others believe of it.

[equivocate-votes, vote-for-everything, wrong-checkpoint, poisoned-state, lie-in-status]
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from compare.attacks.base import Power
from compare.attacks.corruption import spoilt
from compare.attacks.lies import Liar
from compare.attacks.pen import Pen
from compare.options import Number
from pbft.messages import Checkpoint, CheckpointProof, Commit, PartData, Prepare, PrePrepare, Status
from replog.codec import digest_of
from replog.core import Effect, Event, Received, Send
from replog.replica import Replica
from replog.types import Micros, NodeId

LIE: Final = digest_of(b"a lie")


class EquivocateVotes(Pen, Liar):
    """Votes for one thing before half of the others, and for another before the other half.

    That is what a primary of the coalition has proposed to them; else what nobody has.
    """

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        vote = effect.message
        if not isinstance(vote, (Prepare, Commit)):
            return [effect]
        proposed, told = self.power.shared.get("proposed", {}), []
        _, lied = self.half(effect.to)
        for node in effect.to:
            digest = proposed.get((node, (vote.view, vote.seq)), LIE if node in lied else vote.digest)
            lie = self.signed(replace(vote, digest=digest))
            told.append(Send((node,), vote) if digest == vote.digest else self.lie((node,), lie))
        return [*told]


class VoteForEverything(Pen, Liar):
    """Agrees with each replica on whatever that one votes for, and tells it so before anybody else can."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._say: list[Effect] = []

    def receive(self, now: Micros, event: Received) -> list[Event]:
        said = event.message
        if isinstance(said, (PrePrepare, Prepare)) and isinstance(event.sender, int):
            for kind in (Prepare, Commit):
                vote = self.signed(kind(said.view, said.seq, said.digest, self.me, b""))
                self._say.append(self.lie((event.sender,), vote))
        return [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said, self._say = self._say, []
        mine = [one for one in effects if not (type(one) is Send and type(one.message) in (Prepare, Commit))]
        return [*said, *super().speak(now, mine)]


class WrongCheckpoint(Pen, Liar):
    """Signs checkpoints of a state that nobody has, and is deaf to those of the state that all others have."""

    def receive(self, now: Micros, event: Received) -> list[Event]:
        return [] if isinstance(event.message, (Checkpoint, CheckpointProof)) else [event]

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        if isinstance(effect.message, CheckpointProof):
            return self.omitted(len(effect.to))
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
