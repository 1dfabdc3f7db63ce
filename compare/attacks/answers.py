"""Attacks on clients: wrong answers, and answers from a state of long ago.

[lie-in-reply, stale-read]
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from compare.attacks.base import Power, copy_of
from compare.attacks.lies import Liar
from replog.codec import BadMessage
from replog.core import Effect, Event, Received, Reply
from replog.errors import OperationFailed
from replog.executor import Executor
from replog.replica import Replica
from replog.statemachine import decode_outcome
from replog.types import Answer, Micros, NodeId, Read, Request, Results, decode_results, encode_results
from replog.types import Reply as ReplyMessage

KNOWN: Final = 64
GIVEN: Final = (Answer.DONE, Answer.READ, Answer.TENTATIVE)


class LieInReply(Liar):
    """Gives clients the outcomes of other operations, at the right places of the log."""

    engines = ("sim", "live")

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._known: list[bytes] = []

    def reply(self, now: Micros, effect: Reply) -> list[Effect]:
        message = effect.message
        if not isinstance(message, ReplyMessage) or message.answer not in GIVEN:
            return [effect]
        results = bytes(len(message.results)) if message.digested else self._other(message.results)
        self.actions += results != message.results
        return [Reply(effect.client, replace(message, results=results))]

    def _other(self, results: bytes) -> bytes:
        try:
            told = decode_results(results)
        except msgspec.MsgspecError:
            return results
        self._known = [*self._known, *told.outcomes][-KNOWN:]
        lies = [[other for other in self._known if _alike(other, outcome)] for outcome in told.outcomes]
        if not all(lies):
            return results
        outcomes = [self.chance.choice(lie) for lie in lies]
        return encode_results(Results(told.index, outcomes))


def _alike(other: bytes, outcome: bytes) -> bool:
    """Whether it could stand there: another value of the same type, or of none."""
    try:
        types = [type(decode_outcome(one)) for one in (other, outcome)]
    except (OperationFailed, ValueError):
        return False
    return other != outcome and (types[0] is types[1] or set(types) == {str, type(None)})


class StaleRead(Liar):
    """Answers reads at once, from the state in which the attack found it."""

    engines = ("sim", "live")

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._old: Executor | None = None
        self._say: list[Effect] = []

    def begin(self, now: Micros) -> list[Event]:
        self.inner.executor.checkpoint(self.inner.executor.index)
        self._old = copy_of(self.inner.executor, self.power.machine())
        return []

    def receive(self, now: Micros, event: Received) -> list[Event]:
        if not isinstance(event.message, Read) or self._old is None or not isinstance(event.sender, str):
            return [event]
        try:
            request = Request(event.message.request)
        except BadMessage:
            return [event]
        status = self.inner.status()
        answer = ReplyMessage(request.timestamp, Answer.READ, self._old.query([request])[0], status.view, status.leader)
        self._say.append(Reply(event.sender, answer))
        self.actions += 1
        return []

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said, self._say = self._say, []
        return [*super().speak(now, effects), *said]
