"""When the primary gives waiting requests a number. [CL99 4.2]

Here: batches by operations, bytes and age, and whether there is room for one. Not here: what waits (`pbft.requests`),
the number and the signature (`pbft.ordering`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbft.checkpoint import Checkpoints
from pbft.execution import Execution
from pbft.messages import NULL, Batch
from pbft.ordering import Ordering
from pbft.requests import Requests
from pbft.state_transfer import StateTransfer
from replog.core import Effect, SetTimer, Setup

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options

NULLS: Final = 64
"""Null requests in flight: each costs little, and less where many share a frame and a write. Not a whole window, since
requests that come meanwhile wait behind them."""


class Proposing:
    """Invariant: nothing is proposed before the bodies of all that the view began with are here, and counted as
    proposed: else one of their requests could get a second number."""

    TIMER = "batch"

    def __init__(
        self,
        setup: Setup,
        ordering: Ordering,
        requests: Requests,
        checkpoints: Checkpoints,
        execution: Execution,
        transfer: StateTransfer,
    ) -> None:
        self._options: Options = setup.config
        self._wall = setup.wall
        self._ordering = ordering
        self._requests = requests
        self._checkpoints = checkpoints
        self._execution = execution
        self._transfer = transfer
        self._waiting = False
        self._counted = True
        self._fill_to = 0

    def begin_view(self) -> None:
        """What the view begins with has its numbers; its primary queues all else that waits."""
        bodies = [slot.body for slot in self._ordering.above(self._execution.executed) if slot.body is not None]
        self._requests.begin_view(bodies, self._ordering.leads)
        self._counted = self._ordering.complete()

    def propose(self) -> list[Effect]:
        """As many batches as there is room for. While others are in flight a batch that is not full waits for company,
        no longer than batch_delay_us. [CL99 4.2]"""
        effects: list[Effect] = []
        while self._requests.queued and self._has_room():
            in_flight = self._ordering.next_seq - 1 - self._execution.executed
            if in_flight and not self._requests.full() and self._options.batch_delay_us:
                return effects + self._delay()
            effects += self._propose_one()
        return effects + self._fill()

    def fill(self, upto: int) -> list[Effect]:
        """While nobody asks for anything: null requests up to `upto`, for one that is refreshed [CL02 recovery], or to
        the end of an epoch."""
        self._fill_to = upto
        return self._fill()

    def _fill(self) -> list[Effect]:
        effects: list[Effect] = []
        while not self._requests.queued and self._ordering.next_seq <= self._fill_to and self._has_room(NULLS):
            effects += self._ordering.propose(NULL) + self._execution.next()
        return effects

    def on_timeout(self) -> list[Effect]:
        """Whatever waits has waited long enough."""
        self._waiting = False
        return self._propose_one() + self.propose() if self._requests.queued and self._has_room() else []

    def _propose_one(self) -> list[Effect]:
        chosen = self._requests.next_batch()
        if not chosen:
            return []
        # A single replica has decided at once.
        return self._ordering.propose(Batch(self._wall(), chosen)) + self._execution.next()

    def _delay(self) -> list[Effect]:
        if self._waiting:
            return []
        self._waiting = True
        return [SetTimer(self.TIMER, self._options.batch_delay_us)]

    def _has_room(self, in_flight: int = 0) -> bool:
        """The primary proposes within its own window, knows all that its view began with, and has the state that says
        which requests were executed (P33). `in_flight`: if it is to be more than of requests."""
        seq, executed = self._ordering.next_seq, self._execution.executed
        return (
            self._ordering.leads
            and seq <= self._checkpoints.stable.seq + self._options.log_window
            and (self._ordering.boundary is None or seq <= self._ordering.boundary)
            and seq - executed <= max(in_flight, self._options.in_flight_max)
            and executed >= self._checkpoints.proven.seq
            and not self._transfer.running
            and self._is_counted()
        )

    def _is_counted(self) -> bool:
        if not self._counted and self._ordering.complete():
            self.begin_view()
        return self._counted
