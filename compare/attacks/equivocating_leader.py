"""equivocating-leader: different signed requests for the same place in the log, to different replicas.

The liar divides the other replicas into two sides. Side A, large enough to commit with it, gets what the replica inside
says. Side B gets, at some places of the log, other requests that clients really signed, and for these places everything
that the liar says to side B fits that story: votes, and the answers to the clients whose requests they are, computed on
a second copy of the application. Nothing is forged: each statement is valid and signed by the liar itself.

Half of the seeds keep side B's requests from side A for good (`withhold`), so that their clients hear from one side
alone, or from none; the other half let side A have them later, at another place.

Here: what both protocols share. What is rewritten is in `equivocating_pbft` and `equivocating_raft`.
"""

from __future__ import annotations

import random

from compare.attacks.base import Attack, Power, copy_of
from replog.codec import BadMessage
from replog.core import Apply, Effect, Event, Received, Reply
from replog.executor import Executor
from replog.replica import Replica
from replog.types import Answer, ClientId, Message, Micros, NodeId, Request, Submit
from replog.types import Reply as ReplyMessage

BATCH = 8
"""The most requests of one lie."""
POOL = 1024
"""Requests kept for lies; further ones go to the replica inside as usual."""


class EquivocatingLeader(Attack):
    """Invariants:
    what side B was told for a place in the log never changes
    `told` and `pool` hold requests as their clients signed them
    """

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        chance = random.Random(power.seed)
        self.withhold = bool(power.options.get("withhold", chance.random() < 0.5))
        self.side_b = self._choose_side(chance)
        self.pool: dict[tuple[ClientId, int], Request] = {}
        self.told: dict[int, list[Request]] = {}
        """Index -> what side B has there instead."""
        self._clients: dict[ClientId, bool] = {}
        self._shadow: Executor | None = None
        self._say: list[Effect] = []
        self._late: list[Event] = []
        self._reached: set[tuple[NodeId, int]] = set()

    def _choose_side(self, chance: random.Random) -> frozenset[NodeId]:
        """Side B: as many of the others as side A and the liar can do without."""
        if "side_b" in self.power.options:
            return frozenset(self.power.options["side_b"])
        others = [node for node in range(self.power.n) if node not in self.power.members]
        return frozenset(chance.sample(others, self.spare()))

    def spare(self) -> int:
        """How many replicas are not needed to commit."""
        raise NotImplementedError

    def leads(self) -> bool:
        return self.inner.status().leader == self.me

    def view(self) -> int:
        return self.inner.status().view

    # ------------------------------------------------------------------------------------------------- what clients ask

    def begin(self, now: Micros) -> list[Event]:
        self.inner.executor.checkpoint(self.inner.executor.index)
        self._shadow = copy_of(self.inner.executor, self.power.machine())
        return []

    def hear(self, now: Micros, event: Event) -> list[Event]:
        late, self._late = self._late, []
        return late + self._hear(event)

    def _hear(self, event: Event) -> list[Event]:
        if type(event) is not Received:
            return [event]
        if type(event.message) is Submit and self.leads():
            return self._on_submit(event, event.message)
        if isinstance(event.sender, int) and not self.on_message(event.sender, event.message):
            return []
        return [event]

    def _on_submit(self, event: Received, message: Submit) -> list[Event]:
        try:
            request = Request(message.request)
        except BadMessage:
            return [event]
        if not self._is_for_b(request.client) or request.read_only or len(self.pool) >= POOL:
            return [event]
        if not self.is_genuine(request):
            return [event]
        known = self._shadow.results(*request.identity) if self._shadow is not None else None
        if known is not None:
            self._answer(request.client, request.timestamp, known)
        elif request.identity not in self._told_identities():
            self.pool[request.identity] = request
        else:
            return [] if self.withhold else [event]
        return []

    def is_genuine(self, request: Request) -> bool:
        """Whether its client made it: others shall take it."""
        return self.power.verifier.verify(request.client, request.statement(self.power.domain), request.auth)

    def _is_for_b(self, client: ClientId) -> bool:
        """Clients are dealt to the sides in turn, as they come."""
        return self._clients.setdefault(client, len(self._clients) % 2 == 1)

    def _told_identities(self) -> set[tuple[ClientId, int]]:
        return {request.identity for requests in self.told.values() for request in requests}

    def take(self, index: int) -> list[Request]:
        """What side B is told at `index`: the same as before, or a new lie; [] when there is none to tell."""
        if index not in self.told and self.pool:
            chosen = list(self.pool)[:BATCH]
            self.told[index] = [self.pool.pop(identity) for identity in chosen]
            if not self.withhold:
                self._late += map(_asked, self.told[index])
        return self.told.get(index, [])

    def end(self, now: Micros) -> list[Event]:
        """Requests that were held back and served no lie are ordered as if they came now."""
        late, self._late = self._late, []
        left, self.pool = list(self.pool.values()), {}
        return late + [_asked(request) for request in left]

    # ---------------------------------------------------------------------------------------------------- what is said

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said: list[Effect] = []
        for effect in effects:
            said += self.say(effect)
            if type(effect) is Apply:
                self._apply(effect)
        said += self._say
        self._say = []
        return said

    def say(self, effect: Effect) -> list[Effect]:
        """One effect as it leaves: for side B it may be another one."""
        raise NotImplementedError

    def on_message(self, sender: NodeId, message: Message) -> bool:
        """A replica's message. Counts a lie that it shows to have arrived; whether the replica inside is to hear it."""
        raise NotImplementedError

    def tell(self, effect: Effect) -> None:
        """Say something of one's own, behind what the replica inside says at this step."""
        self._say.append(effect)

    def reached(self, node: NodeId, index: int) -> None:
        """`node` has shown that it took the lie at `index`."""
        if (node, index) not in self._reached:
            self._reached.add((node, index))
            self.actions += 1

    def _apply(self, effect: Apply) -> None:
        """Side B's history goes on beside side A's; the clients of a lie are answered from it."""
        if self._shadow is None or effect.index != self._shadow.index + 1:
            return
        lie = self.told.get(effect.index)
        requests = effect.requests if lie is None else lie
        results = self._shadow.apply(effect.index, requests, effect.time, effect.next_seed)
        for result in results if lie is not None else ():
            if result.results is not None:
                self._answer(result.client, result.timestamp, result.results)

    def _answer(self, client: ClientId, timestamp: int, results: bytes) -> None:
        self._say.append(Reply(client, ReplyMessage(timestamp, Answer.DONE, results, self.view(), self.me)))


def _asked(request: Request) -> Event:
    """The client's request as it came."""
    return Received(request.client, Submit(request.raw))
