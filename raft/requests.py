"""A leader's clients: what waits for a batch, and who waits for an answer. [Raft 8]

Here: what to say to a request, and when. Not here: what was executed already (the executor's sessions, which are
asked), nor how a batch is replicated.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from replog.core import Effect, Result, Sessions, SetTimer
from replog.types import Answer, ClientId, Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


BATCH: Final = "batch"

Verdict = tuple[Answer, bytes]
CLOSED: Final = b"the session admits this timestamp no more"


class Requests:
    """Made anew for each term: a deposed leader forgets its clients, who ask again (HAZARDS R23).

    Invariants:
      nothing is put into a batch that nobody waits for
      what waits for a batch is within pending_requests_max and pending_bytes_max
    """

    def __init__(self, config: RaftConfig, sessions: Sessions) -> None:
        self.config = config
        self._sessions = sessions
        self._pending: deque[Request] = deque()
        self._bytes = self._operations = 0
        self._ripe = self._waits = False
        self._awaited: set[tuple[ClientId, int]] = set()

    def offer(self, request: Request) -> Verdict | None:
        """What to answer now; None if the answer will come when the request is executed. A second copy of one that is
        under way would only fill the log."""
        if request.identity in self._awaited:
            return None
        results = self._sessions.results(request.client, request.timestamp)
        if results is not None:
            return Answer.DONE, results
        if request.size > self.config.request_bytes_max:
            text = f"request of {request.size} bytes: request_bytes_max = {self.config.request_bytes_max}"
            return Answer.REFUSED, text.encode()
        if not self._sessions.admits(request.client, request.timestamp, request.low):
            return Answer.REFUSED, CLOSED
        return None if self._add(request) else (Answer.OVERLOADED, b"")

    def _add(self, request: Request) -> bool:
        config = self.config
        if len(self._pending) >= config.pending_requests_max or self._bytes + request.size > config.pending_bytes_max:
            return False
        self._pending.append(request)
        self._bytes += request.size
        self._operations += request.count
        self._awaited.add(request.identity)
        return True

    def is_full(self) -> bool:
        """Whether what waits is as much as one entry takes."""
        config = self.config
        return (
            len(self._pending) >= config.batch_requests_max
            or self._operations >= config.batch_operations_max
            or self._bytes >= config.batch_bytes_max
        )

    def is_ripe(self) -> bool:
        """Whether it need not wait for company, or has done so."""
        return self._ripe or self.config.batch_delay_us == 0 or self.is_full()

    def wait(self) -> list[Effect]:
        """For company, from the first request on."""
        if self._waits:
            return []
        self._waits = True
        return [SetTimer(BATCH, self.config.batch_delay_us)]

    def on_batch_timeout(self) -> None:
        self._waits, self._ripe = False, bool(self._pending)

    def give_up(self) -> list[Request]:
        """What waits for a batch, which nobody has ordered: another leader may at once."""
        waiting, self._pending = list(self._pending), deque()
        self._bytes = self._operations = 0
        return waiting

    def take_batch(self) -> list[Request]:
        """The oldest requests, as many as one entry takes; [] if none waits.

        A copy that an older term left in the log may have been executed and answered meanwhile: this one is dropped.
        """
        config, pending = self.config, self._pending
        batch: list[Request] = []
        operations = size = 0
        self._ripe = False
        while pending and len(batch) < config.batch_requests_max:
            request = pending[0]
            if request.identity not in self._awaited:
                self._drop_first()
                continue
            operations += request.count
            size += request.size
            if batch and (operations > config.batch_operations_max or size > config.batch_bytes_max):
                break
            batch.append(self._drop_first())
        return batch

    def _drop_first(self) -> Request:
        return self._taken(self._pending.popleft())

    def _taken(self, request: Request) -> Request:
        self._bytes -= request.size
        self._operations -= request.count
        return request

    def take_changes(self) -> list[Request]:
        """Changes of members alone, while all else waits; [] if none is asked for."""
        changes = [request for request in self._pending if request.changes_members]
        if changes:
            self._pending = deque(request for request in self._pending if not request.changes_members)
        return [self._taken(request) for request in changes]

    def outcome(self, result: Result) -> Verdict | None:
        """What to tell the client of an executed request, None if it did not ask in this term.

        By client and timestamp: whatever index a request got, and however often it was appended, this is its one
        outcome (HAZARDS R22, R23).
        """
        identity = (result.client, result.timestamp)
        if identity not in self._awaited:
            return None
        self._awaited.remove(identity)
        results = result.results or self._sessions.results(result.client, result.timestamp)
        return (Answer.DONE, results) if results is not None else (Answer.REFUSED, CLOSED)

    @property
    def pending(self) -> int:
        """Requests that wait for a batch."""
        return len(self._pending)

    @property
    def operations(self) -> int:
        """Operations in them: a client may pack what several of its users asked for at once into one request."""
        return self._operations

    def check_invariants(self) -> None:
        assert len(self._pending) <= self.config.pending_requests_max, "pending requests are bounded"
        assert self._bytes == sum(request.size for request in self._pending), "pending bytes are counted"
        assert self._operations == sum(request.count for request in self._pending), "pending operations are counted"
