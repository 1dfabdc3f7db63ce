"""Clients' requests as they arrive, and what clients are told. [CL99 4.1]

Here: which request is taken in, sent on, refused or answered from memory. Not here: what waits and within which bounds
(`pbft.requests`), when it is proposed (`pbft.proposing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pbft.catch_up import Allowance
from pbft.execution import Execution
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.requests import Identity, Requests
from replog import core, types
from replog.client import WINDOW
from replog.codec import DIGEST_BYTES, BadMessage, digest_of
from replog.core import Effect, Result, Send, Setup, Shun
from replog.types import Answer, ClientId, Micros, NodeId, Principal, Request, Submit

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options

FORWARDS: Final = 1024
"""Requests sent on to the primary of a new view; of the rest, clients remind us."""
REPEATED_MAX: Final = 4 * WINDOW
"""Requests that a client may send again within the time after which a correct one sends each of its WINDOW again."""
DIGEST_MIN: Final = 2 * DIGEST_BYTES
"""Results of at most so many bytes are sent in full by all. [CL99 5.1]"""


class Intake:
    """Invariant: nothing waits on the word of one replica: a client sent it here, or this replica leads (P35)."""

    def __init__(
        self, setup: Setup, notary: Notary, ordering: Ordering, requests: Requests, execution: Execution
    ) -> None:
        self.options: Options = setup.config
        self._execution = execution
        self._sessions = setup.sessions
        self._epoch = setup.domain.epoch
        self._blacklists = "blacklist" in self.options.measures
        self._looks = bool(self.options.measures)
        self._repeated: Allowance[ClientId] = Allowance(REPEATED_MAX, self.options.client_retry_us)
        self.notary = notary
        self.ordering = ordering
        self.requests = requests

    def from_client(self, now: Micros, sender: ClientId, message: Submit) -> list[Effect]:
        """A client's own send. [CL99 4.1]"""
        request = read(message)
        if request is None or request.client != sender:
            return self.notary.refuse(sender, "a request of its own is what a client sends")
        done = self._sessions.results(sender, request.timestamp)
        repeated = done is not None or request.identity in self.requests.pending
        if self._blacklists and repeated and not self._repeated.take(now, sender):
            return self.shun(sender, "a storm of repetitions")
        if done is not None:
            how = self._how(request)
            return [self.reply(request, how, done)] if how is not None else []
        if flaw := self.requests.refusal(request):
            return [self.reply(request, Answer.REFUSED, flaw.encode()), *self.notary.refuse(sender, flaw)]
        if not self.requests.admits(request):
            return self.notary.refuse(sender, "executed and forgotten, or beyond the session's window")
        return self._take(request, sender)

    def from_replica(self, sender: NodeId, message: Submit) -> list[Effect]:
        """A backup sends on what a client gave it. Only the primary has a use for it: the word of one replica starts no
        timer here (P35)."""
        request = read(message)
        if request is None or self.requests.refusal(request):
            return self.notary.refuse(sender, "a replica forwards proper requests only")
        if not self.ordering.leads or not self.requests.admits(request):
            return []
        return self._take(request, sender)

    def _take(self, request: Request, sender: Principal) -> list[Effect]:
        """Wait for a request, once its signature is verified: at the primary in the queue, at a backup with the timer,
        after sending it on. Seen again it is sent on again: the first may have been lost. [CL99 4.1, 4.4] (P35) Where
        the primary is watched, it is sent on when it is late: most clients have sent it there too."""
        leads, requests = self.ordering.leads, self.requests
        known = requests.pending.get(request.identity)
        if known is None:
            if leads and request.identity in requests.proposed:
                return []
            if requests.crowded(request):
                return [self.reply(request, Answer.OVERLOADED, b"")] if isinstance(sender, str) else []
            if not requests.vouches(request):
                return self.unvouched(request, sender)
            requests.add(request)
            if leads:
                requests.queue(request)
        elif known.digest != request.digest:
            return self.second(known, request, sender)
        return [] if leads or (known is None and self._looks) else self.forward(request)

    def unvouched(self, request: Request, sender: Principal) -> list[Effect]:
        """Its client did not sign it, whoever brings it."""
        refusal = [self.reply(request, Answer.REFUSED, b"bad signature")] if isinstance(sender, str) else []
        return [*refusal, *self.notary.refuse(sender, "request: bad signature"), *self.shun(sender, "bad signature")]

    def shun(self, sender: Principal, rule: str) -> list[Effect]:
        """What costs more to look at than to send. [Clement09 4.1] Replicas are not shunned: what they send on was
        checked by them, or counts against them alone (P36)."""
        if not self._blacklists or not isinstance(sender, str):
            return []
        return [Shun(sender, self.options.blacklist_us, rule)]

    def second(self, known: Request, request: Request, sender: Principal) -> list[Effect]:
        """Another request under the identity of one that waits. (P32)"""
        return self.notary.refuse(sender, "a second request under one timestamp")

    def forward(self, request: Request) -> list[Effect]:
        if not self.ordering.active or self.ordering.leads:
            return []
        return [Send((self.ordering.primary,), Submit(request.raw))]

    def forward_waiting(self) -> list[Effect]:
        """A new primary is told what waits here. [CL99 4.4]"""
        waiting = list(self.requests.pending.values())[:FORWARDS]
        return [effect for request in waiting for effect in self.forward(request)]

    def remind(self, target: Identity | int | None) -> list[Effect]:
        """The request that the timer waits for, once more: the primary may have been full (P35)."""
        request = self.requests.pending.get(target) if isinstance(target, tuple) else None
        return self.forward(request) if request is not None else []

    # -------------------------------------------------------------------------------------------------------- answers

    def _how(self, request: Request) -> Answer | None:
        """What is remembered of an executed request counts as much as its execution does. A tentative one counts in the
        view in which it prepared: answers of several views add up to nothing, so in another view none is given."""
        batch = self._execution.tentative
        if batch is None or all(request.identity != other.identity for other in batch.requests):
            return Answer.DONE
        slot = self.ordering.slots.get(self._execution.executed + 1)
        return Answer.TENTATIVE if slot is not None and self.ordering.has_prepared(slot) else None

    def reply(self, request: Request, answer: Answer, results: bytes, digested: bool = False) -> Effect:
        """[CL99 4.1] The view goes along, so that the client can follow the primary."""
        leader = self.ordering.primary if self.ordering.active else types.NOBODY
        reply = types.Reply(request.timestamp, int(answer), results, self.ordering.view, leader, digested, self._epoch)
        return core.Reply(request.client, reply)

    def tell(self, request: Request, answer: Answer, results: bytes) -> Effect:
        """The first answer to a request: in full if it names this replica for that, else a digest, where that is
        shorter by enough. Asked again, replicas answer in full. [CL99 5.1]"""
        full = request.replier in (types.NOBODY, self.notary.me) or len(results) <= DIGEST_MIN
        if full or not self.options.digest_replies:
            return self.reply(request, answer, results)
        return self.reply(request, answer, digest_of(results), digested=True)

    def answer(self, requests: Sequence[Request], results: Sequence[Result], answer: Answer) -> list[Effect]:
        """What became of an executed batch, to its clients; from memory where an earlier seq had executed it."""
        effects: list[Effect] = []
        for request, result in zip(requests, results, strict=True):
            told = result.results or self._sessions.results(result.client, result.timestamp)
            if told is not None:
                effects.append(self.tell(request, answer, told))
        return effects

    def answer_swept(self) -> list[Effect]:
        """The state has jumped: what waits here may have been executed on the way."""
        effects: list[Effect] = []
        for request in self.requests.sweep():
            results = self._sessions.results(*request.identity)
            if results is not None:
                effects.append(self.reply(request, Answer.DONE, results))
        return effects


def read(message: Submit) -> Request | None:
    try:
        return Request(message.request)
    except BadMessage:
        return None
