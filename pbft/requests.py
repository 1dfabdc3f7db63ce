"""Clients' requests from arrival to execution: what waits, in order of arrival and within bounds. [CL99 4.1, 4.2]

Not here: what is answered (`pbft.intake`), when a batch is proposed (`pbft.proposing`), what has been executed
(`Sessions`, the executor's).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pbft.messages import NULL, Batch
from replog.client import WINDOW
from replog.core import Result, Setup
from replog.types import ClientId, Micros, Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options

Identity = tuple[ClientId, int]


class Share:
    """What one client has waiting."""

    __slots__ = ("timestamps", "operations")

    def __init__(self) -> None:
        self.timestamps: set[int] = set()
        self.operations = 0


_NOTHING = Share()


class Requests:
    """Verified requests that this replica waits for, by (client, timestamp).

    A second request under the identity of one that waits is dropped: whichever is executed ends the wait for both,
    since an identity executes once (HAZARDS P32).

    Invariants:
      every request in `pending` was verified; none of them is known to be executed
      the totals and each client's share are what `pending` holds, and within their limits
      `proposed` holds the identities that this view has given a number and that are not executed
    """

    def __init__(self, setup: Setup) -> None:
        self._options: Options = setup.config
        self._domain = setup.domain
        self._verifier = setup.verifier
        self._sessions = setup.sessions
        self.pending: dict[Identity, Request] = {}
        self.proposed: set[Identity] = set()
        self.operations = 0
        self.size = 0
        self._shares: dict[ClientId, Share] = {}
        self._turns = "turns" in self._options.measures
        self._queues: OrderedDict[ClientId, deque[Request]] = OrderedDict()
        self.queued = 0
        """Requests in the queues."""
        self._queued_operations = 0
        self._queued_size = 0
        self._nulls = False

    # -------------------------------------------------------------------------------------------------------- arrival

    def refusal(self, request: Request) -> str:
        """Why this request can never be ordered here; "" if it can. Cheap: no signature is checked."""
        options = self._options
        if request.size > options.request_bytes_max:
            return f"request of {request.size} bytes, request_bytes_max is {options.request_bytes_max}"
        if request.count > options.batch_operations_max:
            return f"request of {request.count} operations, batch_operations_max is {options.batch_operations_max}"
        if not self._verifier.knows(request.client):
            return f"unknown client {request.client}"
        return ""

    def admits(self, request: Request) -> bool:
        """Whether it could execute now, by this replica's state and the request's own word about `low`."""
        return self._sessions.admits(request.client, request.timestamp, request.low)

    def is_over(self, request: Request) -> bool:
        """Whether its identity was executed or given up: it can never execute again (P33)."""
        return not self._sessions.admits(request.client, request.timestamp)

    def before(self, request: Request) -> int:
        """How many of its client's requests may have to be executed first, itself counted."""
        client, first = request.client, max(request.low, request.timestamp - WINDOW) + 1
        return 1 + sum(self._sessions.admits(client, timestamp) for timestamp in range(first, request.timestamp))

    def crowded(self, request: Request) -> bool:
        """Whether its client, or all together, have as much waiting as is allowed (P36)."""
        options = self._options
        share = self._shares.get(request.client, _NOTHING)
        return (
            len(self.pending) >= options.pending_requests_max
            or self.operations + request.count > options.pending_operations_max
            or self.size + request.size > options.pending_bytes_max
            or len(share.timestamps) >= options.client_requests_max
            or share.operations + request.count > options.client_operations_max
        )

    def vouches(self, request: Request) -> bool:
        """Whether its client signed it. What waits here was checked when it came: same bytes, same answer."""
        known = self.pending.get(request.identity)
        if known is not None and known.digest == request.digest:
            return True
        return self.verify(request)

    def verify(self, request: Request) -> bool:
        return self._verifier.verify(request.client, request.statement(self._domain), request.auth)

    def unvouched(self, batch: Batch) -> Request | None:
        """The first request of `batch` that its client did not sign."""
        return next((request for request in batch.requests if not self.vouches(request)), None)

    def add(self, request: Request) -> None:
        """Wait for a verified request."""
        self.pending[request.identity] = request
        share = self._shares.get(request.client)
        if share is None:
            share = self._shares[request.client] = Share()
        share.timestamps.add(request.timestamp)
        share.operations += request.count
        self.operations += request.count
        self.size += request.size

    def take_over(self, former: Requests) -> None:
        """What waits goes along to the next epoch; its requests were verified there."""
        for request in former.pending.values():
            if not self.is_over(request):
                self.add(request)

    def expect_nulls(self, expected: bool) -> None:
        """Whether a primary may propose null requests now."""
        self._nulls = expected

    def flaw_in_batch(self, batch: Batch, wall: Micros) -> str:
        """Why a backup cannot vote for this body, whoever signed what; "" if it can. `wall`: its own time of day.

        Not asked: whether its requests were executed. How far this backup has come is its own affair, so a client could
        make it refuse an honest primary; what was executed is passed by when its turn comes, on every replica (P33).
        """
        options = self._options
        if not batch.requests:
            null = self._nulls and batch.digest == NULL.digest
            return "" if null else "no requests: null ones are for new views, for one that is refreshed, for a boundary"
        if len(batch.requests) > options.batch_requests_max or batch.size > options.batch_bytes_max:
            return "more requests or bytes than a batch may hold"
        if batch.operations > options.batch_operations_max:
            return "more operations than a batch may hold"
        if abs(batch.time - wall) > options.clock_bound_us:
            return f"its time is off by more than clock_bound_us = {options.clock_bound_us}"
        for request in batch.requests:
            if flaw := self.refusal(request):
                return flaw
        return ""

    # -------------------------------------------------------------------------------------------------------- the end

    def executed(self, batch: Batch, results: Iterable[Result]) -> None:
        """A batch was executed. Whatever became of a request, the wait for its identity is over, and for those that its
        client has given up by its word about `low` (P32)."""
        for result in results:
            self.proposed.discard((result.client, result.timestamp))
            if self.pending:
                self.remove(result.client, result.timestamp)
        for request in batch.requests if self._shares else ():
            share = self._shares.get(request.client)
            if share is not None and min(share.timestamps) <= request.low:
                for timestamp in sorted(share.timestamps):
                    if timestamp <= request.low:
                        self.remove(request.client, timestamp)

    def remove(self, client: ClientId, timestamp: int) -> None:
        request = self.pending.pop((client, timestamp), None)
        if request is None:
            return
        self.operations -= request.count
        self.size -= request.size
        share = self._shares[client]
        share.operations -= request.count
        share.timestamps.discard(timestamp)
        if not share.timestamps:
            del self._shares[client]

    def sweep(self) -> list[Request]:
        """The state has jumped: take out what can never execute any more."""
        gone = [request for request in self.pending.values() if self.is_over(request)]
        for request in gone:
            self.remove(*request.identity)
        return gone

    # ------------------------------------------------------------------------------------------------------ the primary

    def begin_view(self, bodies: Iterable[Batch], leads: bool) -> None:
        """`bodies` have their numbers in the new view; its primary queues all else that waits, in order of arrival."""
        self.proposed = {request.identity for batch in bodies for request in batch.requests}
        self._queues.clear()
        self.queued = self._queued_operations = self._queued_size = 0
        for request in self.pending.values() if leads else ():
            self.queue(request)

    def queue(self, request: Request) -> None:
        """To be proposed when there is room [CL99 4.2], each client in its turn, or all in one queue (P37)."""
        if request.identity not in self.proposed:
            self._queues.setdefault(request.client if self._turns else "", deque()).append(request)
            self._count(request, 1)

    def _count(self, request: Request, sign: int) -> None:
        self.queued += sign
        self._queued_operations += sign * request.count
        self._queued_size += sign * request.size

    def full(self) -> bool:
        """Whether what is queued makes a full batch by requests, operations or bytes."""
        options = self._options
        return (
            self.queued >= options.batch_requests_max
            or self._queued_operations >= options.batch_operations_max
            or self._queued_size >= options.batch_bytes_max
        )

    def next_batch(self) -> list[Request]:
        """The oldest that fit into one batch. Those that ended their wait while queued, or can never execute any more,
        are passed by (P33)."""
        options, operations, size = self._options, 0, 0
        chosen: list[Request] = []
        while self._queues and len(chosen) < options.batch_requests_max:
            client, queue = next(iter(self._queues.items()))
            request = queue[0]
            if operations + request.count > options.batch_operations_max:
                break
            if size + request.size > options.batch_bytes_max:
                break
            queue.popleft()
            self._count(request, -1)
            self._queues.move_to_end(client)
            if not queue:
                del self._queues[client]
            waiting = self.pending.get(request.identity)
            if self.is_over(request):
                self.remove(*request.identity)
            elif waiting is not None and request.identity not in self.proposed:
                self.proposed.add(request.identity)
                chosen.append(waiting)
                operations += request.count
                size += request.size
        return chosen

    def check_invariants(self) -> None:
        options = self._options
        assert self.operations == sum(request.count for request in self.pending.values()), "operations that wait"
        assert self.size == sum(request.size for request in self.pending.values()), "bytes that wait"
        assert len(self.pending) == sum(len(share.timestamps) for share in self._shares.values()), (
            "each request is in its client's share"
        )
        assert self.queued == sum(map(len, self._queues.values())), "requests in the queues"
        assert len(self.pending) <= options.pending_requests_max, "requests that wait are bounded"
