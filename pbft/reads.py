"""Read-only requests, answered at once instead of being ordered. [CL99 5.1]

[deviates: stricter] A replica notes, when a read arrives, the highest seq for which it has sent COMMIT, and answers
only from a state that has executed up to there. Without that a read could miss a write that was accepted: of the quorum
that it gathers one correct replica has sent COMMIT for each accepted write, but may not have executed it yet (P40).

Here: which reads wait for what. Not here: what a read finds (the executor).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pbft.execution import Execution
from pbft.intake import Intake
from pbft.ordering import Ordering
from pbft.requests import Requests
from replog.codec import BadMessage
from replog.core import Effect, Queried, Query, Setup
from replog.types import Answer, ClientId, Read, Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options


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

    def from_client(self, sender: ClientId, message: Read) -> list[Effect]:
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
        if self._crowded(sender):
            return [self._intake.reply(request, Answer.OVERLOADED, b"")]
        if not self._requests.vouches(request):
            return self._intake.unvouched(request, sender)
        self._waiting.append((self.needed(), request))
        self._share[sender] = self._share.get(sender, 0) + 1
        return self.serve()

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
