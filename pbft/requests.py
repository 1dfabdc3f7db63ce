"""Clients' requests from arrival to execution: what waits, in order of arrival and within bounds. [CL99 4.1, 4.2]

Not here: what is answered (`pbft.intake`), when a batch is proposed (`pbft.proposing`), what has been executed
(`Sessions`, the executor's).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pbft.messages import NULL, Batch
from replog.client import WINDOW
from replog.core import Result, Setup
from replog.types import ClientId, Micros, Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options

Identity = tuple[ClientId, int]

QUANTUM: Final = 64
"""Operations of one client in one batch, while others wait who have had less; what goes beyond is owed."""
AWAY: Final = 64
"""Batches: who was in debt within so many owes often."""
OPERATION_BYTES: Final = 64
"""Bytes of a request that count as one operation: as many as make a batch full by either."""
OUTRAN_MAX: Final = 4_096
"""Executed requests of which the client's own word is still to come, remembered; at most."""


def cost_of(request: Request) -> int:
    return request.count + request.size // OPERATION_BYTES


class Share:
    """What one client has waiting."""

    __slots__ = ("timestamps", "operations", "size")

    def __init__(self) -> None:
        self.timestamps: set[int] = set()
        self.operations = 0
        self.size = 0


_NOTHING = Share()


class Requests:
    """Verified requests that this replica waits for, by (client, timestamp).

    A second request under the identity of one that waits is dropped: whichever is executed ends the wait for both,
    since an identity executes once (HAZARDS P32).

    Invariants:
      every request in `pending` was verified; none of them is known to be executed
      the totals and each client's share are what `pending` holds, and within their limits
      `proposed` holds the identities that this view has given a number and that are not executed
      requests of clients in debt are in `_held`, those of all others in `_queues`
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
        self._operations_max = self._options.request_operations
        self._queues: OrderedDict[ClientId, deque[Request]] = OrderedDict()
        self._held: dict[ClientId, deque[Request]] = {}
        self._debts: dict[ClientId, int] = {}
        self._owed_at: dict[ClientId, int] = {}
        self._paid = QUANTUM
        """What each client in debt pays off the next time that nothing is in flight."""
        self._leads = False
        self._batches = 0
        self._others_at = -AWAY
        """The last executed batch with a request of somebody who does not often owe."""
        self.queued = 0
        """Requests in the queues, not those that are held."""
        self._queued_operations = 0
        self._queued_size = 0
        self._nulls = False
        self._samples = bool(self._options.measures)
        self._outran: dict[Identity, Micros] = {}

    # -------------------------------------------------------------------------------------------------------- arrival

    def refusal(self, request: Request) -> str:
        """Why this request can never be ordered here; "" if it can. Cheap: no signature is checked."""
        options = self._options
        if request.size > options.request_bytes_max:
            return f"request of {request.size} bytes, request_bytes_max is {options.request_bytes_max}"
        if request.count > self._operations_max:
            return f"request of {request.count} operations, request_operations_max is {self._operations_max}"
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
        """How many turns of its client may come first, its own counted: a large request takes several."""
        client, first = request.client, max(request.low, request.timestamp - WINDOW) + 1
        turns = 1 + cost_of(request) // QUANTUM
        for timestamp in range(first, request.timestamp):
            known = self.pending.get((client, timestamp))
            if known is not None:
                turns += 1 + cost_of(known) // QUANTUM
            else:
                turns += self._sessions.admits(client, timestamp)
        return turns

    def crowded(self, request: Request) -> bool:
        """Whether its client, or all together, have as much waiting as is allowed (P36)."""
        options = self._options
        share = self._shares.get(request.client, _NOTHING)
        if self._turns and share.timestamps and self._takes_others_room(request, share):
            return True
        return (
            len(self.pending) >= options.pending_requests_max
            or self.operations + request.count > options.pending_operations_max
            or self.size + request.size > options.pending_bytes_max
            or len(share.timestamps) >= options.client_requests_max
            or share.operations + request.count > options.client_operations_max
        )

    def _takes_others_room(self, request: Request, share: Share) -> bool:
        """A client may have as much waiting as is still free, so that k of them leave one part in k + 1 to others."""
        options = self._options
        return (
            len(share.timestamps) >= options.pending_requests_max - len(self.pending)
            or share.operations + request.count > options.pending_operations_max - self.operations
            or share.size + request.size > options.pending_bytes_max - self.size
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
        share.size += request.size
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

    def executed(self, now: Micros, batch: Batch, results: Iterable[Result]) -> None:
        """A batch was executed. Whatever became of a request, the wait for its identity is over, and for those that its
        client has given up by its word about `low` (P32)."""
        for result in results:
            identity = result.client, result.timestamp
            self.proposed.discard(identity)
            if identity in self.pending:
                self.remove(*identity)
            elif self._samples:
                self._outran[identity] = now
                if len(self._outran) > OUTRAN_MAX:
                    del self._outran[next(iter(self._outran))]
        for request in batch.requests if self._shares else ():
            share = self._shares.get(request.client)
            if share is not None and min(share.timestamps) <= request.low:
                for timestamp in sorted(share.timestamps):
                    if timestamp <= request.low:
                        self.remove(request.client, timestamp)
        self._batches += 1
        if not all(self._owes_often(request.client) for request in batch.requests):
            self._others_at = self._batches
        if not self._leads:
            self._learn_debts(batch)
        if self._debts:
            self._settle(QUANTUM)
            self._release()

    def _learn_debts(self, batch: Batch) -> None:
        """What the primary counts when it proposes: who leads next goes on from there."""
        if not self._turns or sum(map(cost_of, batch.requests)) <= QUANTUM:
            return
        spent: Counter[ClientId] = Counter()
        for request in batch.requests:
            spent[request.client] += cost_of(request)
        for client, cost in spent.items():
            if cost > QUANTUM:
                self._owe(client, self._debts.get(client, 0) + cost - QUANTUM)

    def remove(self, client: ClientId, timestamp: int) -> None:
        request = self.pending.pop((client, timestamp), None)
        if request is None:
            return
        self.operations -= request.count
        self.size -= request.size
        share = self._shares[client]
        share.operations -= request.count
        share.size -= request.size
        share.timestamps.discard(timestamp)
        if not share.timestamps:
            del self._shares[client]

    def outran(self, now: Micros, request: Request) -> bool:
        """Whether it was executed, and answered, just before its client's own word came here, which this is: no
        repetition. Asked once. Whoever lacks the answer asks again, after a while."""
        executed_at = self._outran.pop(request.identity, None)
        return executed_at is not None and now - executed_at < self._options.client_retry_us // 2

    def counted(self) -> Iterable[tuple[Identity, Request]]:
        """What the primary has to get executed, in order of arrival."""
        return self.pending.items()

    def counts(self, identity: Identity) -> bool:
        """Whether one that waits is counted."""
        return True

    def question(self, now: Micros, identity: Identity) -> None:
        """It begins to be late."""

    @property
    def waiting(self) -> int:
        """How many wait and are counted."""
        return len(self.pending)

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
        self._held.clear()
        self._leads = leads
        self.queued = self._queued_operations = self._queued_size = 0
        for request in self.pending.values() if leads else ():
            self.queue(request)

    def queue(self, request: Request) -> None:
        """To be proposed when there is room [CL99 4.2], each client in its turn, or all in one queue (P37)."""
        if request.identity in self.proposed:
            return
        client = request.client if self._turns else ""
        if client in self._debts:
            self._held.setdefault(client, deque()).append(request)
            self._release()
        else:
            self._queues.setdefault(client, deque()).append(request)
            self._count(request, 1)

    # What a client gets beyond its QUANTUM in a batch it owes, and what it has waiting is held while it does. Each
    # batch that is executed pays a QUANTUM off, as does time when nothing is in flight.

    def _owe(self, client: ClientId, operations: int) -> None:
        self._debts[client] = operations
        self._owed_at[client] = self._batches
        queue = self._queues.pop(client, None)
        for request in queue or ():
            self._count(request, -1)
        if queue:
            self._held[client] = queue

    def _owes_often(self, client: ClientId) -> bool:
        return self._batches - self._owed_at.get(client, -AWAY) < AWAY

    def _release(self) -> None:
        """Whoever owes least is next, if all that lately had anything waiting owe as often."""
        alone = self._held and self._batches - self._others_at >= AWAY
        if alone and not self._queues and all(self._owes_often(client) for client in self._shares):
            self._settle(min(self._debts[client] for client in self._held))

    def pass_time(self) -> None:
        """Nothing is in flight, nor waits but what is held: time pays debts off then, twice as much each time in a row,
        so that the largest ones are gone long before anybody complains that nothing is proposed."""
        self._settle(self._paid)
        self._paid *= 2

    def owes(self, client: ClientId) -> bool:
        """Whether it has had more than its share, as far as was executed here."""
        return client in self._debts

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def _settle(self, operations: int) -> None:
        paid = [client for client, debt in self._debts.items() if debt <= operations]
        self._debts = {client: debt - operations for client, debt in self._debts.items() if debt > operations}
        for client in paid:
            for request in self._held.pop(client, ()):
                self._queues.setdefault(client, deque()).append(request)
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
        self._paid = QUANTUM
        chosen: list[Request] = []
        spent: Counter[ClientId] = Counter()
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
                spent[client] += cost_of(request)
                if self._turns and spent[client] > QUANTUM:
                    self._owe(client, spent[client] - QUANTUM)
                    spent[client] = QUANTUM
                    self._release()
        return chosen

    def check_invariants(self) -> None:
        options = self._options
        assert self.operations == sum(request.count for request in self.pending.values()), "operations that wait"
        assert self.size == sum(request.size for request in self.pending.values()), "bytes that wait"
        assert len(self.pending) == sum(len(share.timestamps) for share in self._shares.values()), (
            "each request is in its client's share"
        )
        assert self.queued == sum(map(len, self._queues.values())), "requests in the queues"
        assert self._held.keys() <= self._debts.keys(), "what is held is of clients in debt"
        assert not self._queues.keys() & self._debts.keys(), "what clients in debt have waiting is held"
        assert len(self.pending) <= options.pending_requests_max, "requests that wait are bounded"
        assert len(self._outran) <= OUTRAN_MAX, "requests whose clients are still to be heard are bounded"
