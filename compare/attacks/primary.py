"""Attacks of a leader on the order itself: what it proposes, where, when, and whose it is. Against both protocols.

[wrong-digest, skip-number, exhaust-numbers, invent-request, replay-batch, wrong-time]
A proposal is a PRE-PREPARE of PBFT or an entry of Raft; `Proposer` takes both apart and puts them together again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from compare.attacks.base import Power
from compare.attacks.lies import Liar
from compare.attacks.pen import Pen, with_digest
from compare.options import Number, Time
from pbft.messages import BatchData, Committed, PrePrepare
from raft.messages import AppendEntries, Entry
from replog.apps.kv import KeyValue
from replog.core import Effect, Send
from replog.replica import Replica
from replog.types import Message, Micros, NodeId, Request, RequestBody

KEPT: Final = 64
AHEAD: Final = 7
"""So far beyond a client's last timestamp is what it never asked for."""
_encode = msgspec.msgpack.Encoder().encode
_body = msgspec.msgpack.Decoder(RequestBody).decode


class Proposer(Pen, Liar):
    """Proposes something else at a place of the log, to everybody the same, in its own name.

    Invariant: a place that was lied about keeps its lie, a place that was not keeps the truth.
    """

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._placed: dict[tuple[int, int], Any] = {}

    def otherwise(self, index: int, time: int, requests: list[bytes]) -> tuple[int, list[bytes]]:
        """Another time and other requests for this place; the same ones for no lie."""
        raise NotImplementedError

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        lie = self._lie(effect.message)
        return [effect] if lie == effect.message else [self.lie(effect.to, lie)]

    def _lie(self, message: Message) -> Any:
        match message:
            case PrePrepare():
                return self._at((message.view, message.seq), message)
            case AppendEntries() if message.entries and message.leader_id == self.me:
                first = message.prev_log_index + 1
                entries = [self._at((entry.term, first + place), entry) for place, entry in enumerate(message.entries)]
                return replace(message, entries=entries)
        return message

    def _at(self, place: tuple[int, int], said: Any) -> Any:
        if place not in self._placed:
            self._placed[place] = self._changed(place[1], said)
            while len(self._placed) > 16 * KEPT:
                del self._placed[next(iter(self._placed))]
        return self._placed[place]

    def _changed(self, index: int, said: PrePrepare | Entry) -> Any:
        if not said.requests:
            return said
        time, requests = self.otherwise(index, said.time, list(said.requests))
        if (time, requests) == (said.time, said.requests):
            return said
        lie = replace(said, time=time, requests=requests)
        return self.signed(with_digest(lie)) if isinstance(lie, PrePrepare) else lie


class InventRequest(Proposer):
    """Orders a request that its client never made: the name is the client's, the signature is not."""

    def otherwise(self, index: int, time: int, requests: list[bytes]) -> tuple[int, list[bytes]]:
        model = Request(requests[0])
        operation = KeyValue.operation("put", "k0", f"invented at {index}")
        body = replace(
            _body(model.body), timestamp=model.timestamp + AHEAD, flags=0, count=1, operations=_encode([operation])
        )
        return time, [*requests, _encode([_encode(body), model.auth])]


class ReplayBatch(Proposer):
    """Orders again what was ordered long ago, in place of what clients ask for."""

    OLD: Final = 3

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._old: list[list[bytes]] = []

    def otherwise(self, index: int, time: int, requests: list[bytes]) -> tuple[int, list[bytes]]:
        self._old = [*self._old, requests][-KEPT:]
        return (time, self._old[0]) if len(self._old) > self.OLD else (time, requests)


class WrongTime(Proposer):
    """Proposes times of another day."""

    options_model = Time

    def otherwise(self, index: int, time: int, requests: list[bytes]) -> tuple[int, list[bytes]]:
        return max(0, time + int(self.options.skew_s * 1_000_000)), requests


class WrongDigest(Pen, Liar):
    """Signs one digest and sends, to every second replica, a body that is not the digest's."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._old: list[list[bytes]] = []

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        message = effect.message
        if not isinstance(message, PrePrepare) or not message.requests:
            return [effect]
        self._old = [*self._old, message.requests][-KEPT:]
        honest, lied = self.half(effect.to)
        lie = replace(message, requests=self._old[0] if len(self._old) > 1 else message.requests[::-1])
        if lie == message or not lied:
            return [effect]
        return [*([Send(honest, message)] if honest else []), self.lie(lied, lie)]


class _Numbers(Pen, Liar):
    """Puts proposals elsewhere, in each view that it leads."""

    options_model = Number

    def elsewhere(self, message: PrePrepare) -> Iterator[PrePrepare]:
        raise NotImplementedError

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        if isinstance(effect.message, PrePrepare) and effect.message.view % self.power.n == self.me:
            return [self.lie(effect.to, lie) for lie in self.elsewhere(effect.message)]
        return [effect]


class SkipNumber(_Numbers):
    """Leaves one number out in each view, so that nothing after it can be executed."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._skipped: dict[int, int] = {}

    def elsewhere(self, message: PrePrepare) -> Iterator[PrePrepare]:
        if self._skipped.setdefault(message.view, message.seq) != message.seq:
            yield message

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        seq = {BatchData: lambda said: said.seq, Committed: lambda said: said.proof.seq}.get(type(effect.message))
        hidden = seq is not None and seq(effect.message) in self._skipped.values()
        return self.omitted() if hidden else super().send(now, effect)


class ExhaustNumbers(_Numbers):
    """Gives its proposals numbers far beyond, as if all between were used up."""

    def elsewhere(self, message: PrePrepare) -> Iterator[PrePrepare]:
        yield self.signed(replace(message, seq=message.seq + self.options.by))
