"""framing against PBFT under MACs: a primary makes correct clients suspect, then serves none of them. [HAZARDS P31]

In the first view that it leads under attack it spoils the MACs of every request that it proposes, so that those seem to
be at fault who made them. In each later one it is mute. Clients that collude push the view on, back to it.
"""

from __future__ import annotations

import msgspec

from compare.attacks.base import Attack, Power, voting
from pbft.messages import Batch, PrePrepare
from replog.core import Effect, Event, Received, Send
from replog.replica import Replica
from replog.types import Micros, NodeId, Submit

_encode = msgspec.msgpack.Encoder().encode


class FramingPrimary(Attack):
    """Invariant: in one view alone something is spoilt."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._view = -1

    def hear(self, now: Micros, event: Event) -> list[Event]:
        core = voting(self.inner)
        mute = core.ordering.leads and core.view > self._view >= 0
        return [] if mute and type(event) is Received and type(event.message) is Submit else [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        core = voting(self.inner)
        if self._view < 0 and core.ordering.leads:
            self._view = core.view
        return [self._spoilt(effect) if core.view == self._view else effect for effect in effects]

    def _spoilt(self, effect: Effect) -> Effect:
        if type(effect) is not Send or type(effect.message) is not PrePrepare:
            return effect
        said = effect.message
        self.actions += 1
        raws = [_encode([body, bytes(len(auth))]) for body, auth in map(msgspec.msgpack.decode, said.requests)]
        batch = Batch.read(said.time, raws)
        return Send(effect.to, PrePrepare(said.view, said.seq, batch.digest, said.signature, said.time, batch.raws))
