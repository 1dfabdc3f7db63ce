"""Read-only requests, answered at once instead of being ordered. [CL99 5.1]

[deviates: stricter] A replica notes, when a read arrives, the highest seq for which it has sent COMMIT, and answers
only from a state that has executed up to there. Without that a read could miss a write that was accepted: of the quorum
that it gathers one correct replica has sent COMMIT for each accepted write, but may not have executed it yet (P40).

Reads pass by the turns in which requests are ordered. So while anything is ordered each client may have so many
operations read this way in a time, and what goes beyond has to be ordered too; and what no correct client does, the
same read again and again, gets nobody an answer. (P36)

Here: which reads wait for what. Not here: what a read finds (the executor).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from pbft.catch_up import Allowance
from pbft.execution import Execution
from pbft.intake import Intake
from pbft.ordering import Ordering
from pbft.requests import Requests
from replog.client import WINDOW
from replog.codec import BadMessage, digest_of
from replog.core import Effect, Queried, Query, Setup
from replog.types import Answer, ClientId, Micros, Read, Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options


OPERATIONS: Final = 1_024
"""Of one client, and of one read, in the time after which clients send again, while requests are ordered."""
REPEATED_MAX: Final = 16
"""Reads that a client may send again in that time. A correct one sends none: it has them ordered."""


class Seen:
    """Which reads of one client came lately. Invariant: those beyond a session's window behind the latest are too old
    to be told apart, and count as seen."""

    __slots__ = ("_latest", "_stamps")

    def __init__(self) -> None:
        self._latest = 0
        self._stamps: set[int] = set()

    def add(self, timestamp: int) -> bool:
        """Whether it is new."""
        if timestamp in self._stamps or timestamp <= self._latest - 2 * WINDOW:
            return False
        self._stamps.add(timestamp)
        self._latest = max(self._latest, timestamp)
        if len(self._stamps) > 4 * WINDOW:
            self._stamps = {stamp for stamp in self._stamps if stamp > self._latest - 2 * WINDOW}
        return True


class Reads:
    """Invariants:
    each waiting read was verified and is answered from a state beyond the seq noted when it came
    nothing is answered while a state is fetched, or from a state that is not decided
    at most pending_requests_max wait, and client_requests_max of one client
    """

    def __init__(
        self, setup: Setup, ordering: Ordering, requests: Requests, intake: Intake, execution: Execution
    ) -> None:
        self._options: Options = setup.config
        self._ordering = ordering
        self._requests = requests
        self._intake = intake
        self._execution = execution
        self._waiting: deque[tuple[int, Request]] = deque()
        self._share: dict[ClientId, int] = {}
        self._asked: list[Request] = []
        self._token = 0
        self._measured = "turns" in self._options.measures
        self._seen: dict[ClientId, Seen] = {}
        period = self._options.client_retry_us
        self._repeated: Allowance[ClientId] = Allowance(REPEATED_MAX, period)
        self._operations: Allowance[ClientId] = Allowance(OPERATIONS, period)
        self._executed = 0
        self._moved_at: Micros = -period

    def from_client(self, now: Micros, sender: ClientId, message: Read) -> list[Effect]:
        """A client asks all replicas. What cannot be read this way is refused: it may still be ordered."""
        try:
            request = Request(message.request)
        except BadMessage:
            return self._intake.notary.refuse(sender, "a read is a request")
        if request.client != sender or not request.read_only or not self._options.fast_reads:
            return self._intake.notary.refuse(
                sender, "a read is a read-only request of the client itself, where fast_reads is on"
            )
        if flaw := self._requests.refusal(request):
            return [self._intake.reply(request, Answer.REFUSED, flaw.encode())]
        if self._measured and not self._seen.setdefault(sender, Seen()).add(request.timestamp):
            return self._again(now, sender)
        if self._measured and self._is_much(now, request):
            return [self._have_it_ordered(request)]
        if self._crowded(sender):
            return [self._intake.reply(request, Answer.OVERLOADED, b"")]
        if not self._requests.vouches(request):
            return self._intake.unvouched(request, sender)
        self._waiting.append((self.needed(), request))
        self._share[sender] = self._share.get(sender, 0) + 1
        return self.serve()

    def _again(self, now: Micros, sender: ClientId) -> list[Effect]:
        if self._repeated.take(now, sender):
            return []
        return self._intake.shun(sender, "a storm of repeated reads")

    def _is_much(self, now: Micros, request: Request) -> bool:
        """Whether it would keep waiting what is ordered, now or a moment ago."""
        if self._execution.executed != self._executed:
            self._executed, self._moved_at = self._execution.executed, now
        if not self._requests.pending and now - self._moved_at >= self._options.client_retry_us:
            return False
        return request.count > OPERATIONS or not self._operations.take(now, request.client, request.count)

    def _have_it_ordered(self, request: Request) -> Effect:
        """A word that no other replica says: there can be no agreement on it, so the client has the read ordered."""
        nothing = digest_of(self._intake.notary.me.to_bytes(2, "big") + request.digest)
        return self._intake.reply(request, Answer.READ, nothing, digested=True)

    def needed(self) -> int:
        """What a state must have executed to be fresh enough for a read that comes now (P40)."""
        return self._ordering.promised

    def _crowded(self, client: ClientId) -> bool:
        options = self._options
        full = len(self._waiting) + len(self._asked) >= options.pending_requests_max
        return full or self._share.get(client, 0) >= options.client_requests_max

    def serve(self) -> list[Effect]:
        """Ask for what can be read now. `needed` never falls, so the first that has to wait holds up no other that
        need not."""
        if self._asked or not self._waiting or not self._execution.settled or self._is_over:
            return []
        while self._waiting and self._waiting[0][0] <= self._execution.executed:
            self._asked.append(self._waiting.popleft()[1])
        if not self._asked:
            return []
        self._token += 1
        return [Query(self._token, list(self._asked))]

    @property
    def _is_over(self) -> bool:
        """At the boundary others may have begun the next epoch: what they write there cannot be read here (P40)."""
        boundary = self._ordering.boundary
        return boundary is not None and self._execution.executed >= boundary

    def on_queried(self, event: Queried) -> list[Effect]:
        asked, self._asked = self._asked, []
        effects: list[Effect] = []
        for request, results in zip(asked, event.results, strict=True):
            self._share[request.client] -= 1
            if not self._share[request.client]:
                del self._share[request.client]
            effects.append(self._intake.tell(request, Answer.READ, results))
        return effects

    def check_invariants(self) -> None:
        assert sum(self._share.values()) == len(self._waiting) + len(self._asked), "each read is in its client's share"
        assert len(self._waiting) <= self._options.pending_requests_max, "reads that wait are bounded"
