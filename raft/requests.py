"""A leader's clients: what waits for a batch, and who waits for an answer. [Raft 8]

Not here: what was executed already (the executor's sessions), nor how a batch is replicated.
"""

from __future__ import annotations

from collections import deque

from raft.config import RaftConfig
from replog.types import ClientId, Request


class Requests:
    """Made anew for each term: a deposed leader forgets its clients, who ask again (HAZARDS R23).

    Invariants:
      nothing is put into a batch that nobody waits for
      what waits for a batch is within pending_requests_max and pending_bytes_max
    """

    def __init__(self, config: RaftConfig) -> None:
        self.config = config
        self._pending: deque[Request] = deque()
        self._bytes = 0
        self._awaited: set[tuple[ClientId, int]] = set()

    def awaits(self, request: Request) -> bool:
        """Whether this very request is under way: its answer will come, a second copy would only fill the log."""
        return request.identity in self._awaited

    def add(self, request: Request) -> bool:
        """False if there is no room."""
        config = self.config
        if len(self._pending) >= config.pending_requests_max or self._bytes + request.size > config.pending_bytes_max:
            return False
        self._pending.append(request)
        self._bytes += request.size
        self._awaited.add(request.identity)
        return True

    def take_batch(self) -> list[Request]:
        """The oldest requests, as many as one entry takes; [] if none waits.

        A copy that an older term left in the log may have been executed and answered meanwhile: this one is dropped.
        """
        config, pending = self.config, self._pending
        batch: list[Request] = []
        operations = size = 0
        while pending and len(batch) < config.batch_requests_max:
            request = pending[0]
            if request.identity not in self._awaited:
                self._bytes -= pending.popleft().size
                continue
            operations += request.count
            size += request.size
            if batch and (operations > config.batch_operations_max or size > config.batch_bytes_max):
                break
            batch.append(pending.popleft())
            self._bytes -= request.size
        return batch

    def answered(self, client: ClientId, timestamp: int) -> bool:
        """Whether somebody waited for this answer; nobody does any more."""
        identity = (client, timestamp)
        if identity in self._awaited:
            self._awaited.remove(identity)
            return True
        return False

    @property
    def pending(self) -> int:
        return len(self._pending)

    def check_invariants(self) -> None:
        assert len(self._pending) <= self.config.pending_requests_max, "pending requests are bounded"
        assert self._bytes == sum(request.size for request in self._pending), "pending bytes are counted"
