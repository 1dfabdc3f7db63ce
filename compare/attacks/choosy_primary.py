"""watched-only and bursts against PBFT: primaries that know what their backups measure. [Clement09; HAZARDS P38]

One serves what it knows to be watched: what a backup has sent on, or its client has sent again; backups that lie too
tell it what they were sent. The other serves all, but in bursts, so that a moment comes again and again in which
nothing waits.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from compare.attacks.base import Attack, Power, voting
from compare.options import Bursts, Watching
from replog.codec import BadMessage
from replog.core import Effect, Event, Received, Send, SetTimer, Timeout
from replog.replica import Replica
from replog.types import Micros, NodeId, Request, Submit

FIRST_US: Final = 150_000
GROWTH: Final = 1.25
"""The first pause between bursts, and what makes the next of it: no look finds a jump."""


class WatchedOnly(Attack):
    """Invariant: `_held` has what came from clients once, while this replica leads."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        options = Watching.model_validate(power.options)
        self._client, self._tells = options.client, options.tells
        self._liars = set(power.members)
        self._held: set[tuple[str, int]] = set()
        self._told: list[Effect] = []

    def hear(self, now: Micros, event: Event) -> list[Event]:
        request, ordering = _request(event, from_clients=True), voting(self.inner).ordering
        if not ordering.leads:
            self._held.clear()
            if request is not None and self._tells and ordering.primary in self._liars:
                self._told.append(Send((ordering.primary,), Submit(request.raw)))
            return [event]
        if request is None or request.identity in self._held or self._client not in ("", request.client):
            return [event]
        self._held.add(request.identity)
        self.actions += 1
        return []

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        told, self._told = self._told, []
        return [*effects, *told]


class BurstingPrimary(Attack):
    """Invariant: what clients ask for is held in order, for `period_ms` at most."""

    TIMER = "bursts"

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._most: Micros = int(Bursts.model_validate(power.options).period_ms * 1000)
        self._held: deque[Event] = deque()
        self._pause = min(self._most, FIRST_US)
        self._next: Micros = 0

    def hear(self, now: Micros, event: Event) -> list[Event]:
        leads = voting(self.inner).ordering.leads
        events = [] if event == Timeout(self.TIMER) else [event]
        if leads and _request(event) is not None:
            self._held.append(event)
            self.actions += 1
            events = []
        if leads and now < self._next:
            return events
        if self._held:
            self._pause = min(self._most, int(GROWTH * self._pause))
        elif not leads:
            self._pause = min(self._most, FIRST_US)
        events = [*self._held, *events]
        self._held.clear()
        self._next = now + self._pause
        return events

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        return [*effects, SetTimer(self.TIMER, max(1, self._next - now))] if self._held else effects


def _request(event: Event, from_clients: bool = False) -> Request | None:
    if type(event) is not Received or type(event.message) is not Submit:
        return None
    if from_clients and not isinstance(event.sender, str):
        return None
    try:
        return Request(event.message.request)
    except BadMessage:
        return None
