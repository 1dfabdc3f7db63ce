"""The patience of a backup with a primary that gets nothing executed. [CL99 4.4, 4.5.2]

Not here: what it waits for (`pbft.core`), what follows when its patience ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbft.requests import Identity
from replog.core import CancelTimer, Effect, SetTimer
from replog.types import Micros

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options


class Patience:
    """The timer of a backup: it waits for one thing at a time, a request or a seq, and gives each the same time.

    Starts when there is something to wait for and none runs; stops when nothing is left; starts anew when what it
    waited for is done and something else waits. [CL99 4.4] Between VIEW-CHANGE and NEW-VIEW it waits for the latter,
    once a quorum has asked for it. [CL99 4.5.2] (P13)

    Invariants:
      the time-out is view_timeout_us doubled for each view change since the last progress, at most the cap; that for
      the NEW-VIEW of who is not expected to say anything is a heartbeat, doubled in the same way  (P14)
      at most one of the two timers is armed
    """

    REQUEST, NEW_VIEW = "request", "new-view"

    def __init__(self, options: Options) -> None:
        self._options = options
        self.target: Identity | int | None = None
        """What the request timer waits for: the identity of a request, or a seq."""
        self.awaited = 0
        """The view whose NEW-VIEW is due, 0 if none."""
        self.armed_at: Micros = 0
        self.armed_for: Micros = 0
        self.failures = 0
        """View changes in a row without progress."""
        self.progressed = True

    @property
    def timeout(self) -> Micros:
        return self._doubled(self._options.view_timeout_us)

    def _doubled(self, time: Micros) -> Micros:
        return min(time << min(self.failures, 40), self._options.view_timeout_cap_us)

    def wait_for(self, now: Micros, target: Identity | int) -> list[Effect]:
        self.target, self.armed_at, self.armed_for = target, now, self.timeout
        return [SetTimer(self.REQUEST, self.armed_for)]

    def rest(self) -> list[Effect]:
        """Nothing to wait for, or nobody to blame."""
        if self.target is None:
            return []
        self.target = None
        return [CancelTimer(self.REQUEST)]

    def leave_view(self) -> list[Effect]:
        """A view is given up: the next one gets twice the time, unless this one had made progress. [CL99 4.5.2]"""
        self.failures = 0 if self.progressed else self.failures + 1
        self.progressed = False
        return [*self.rest(), *self.stop_awaiting()]

    def await_new_view(self, now: Micros, view: int, hopeless: bool) -> list[Effect]:
        """`hopeless`: nothing is to be expected of who leads it, and others need not wait as long as for any other."""
        if self.awaited == view:
            return []
        self.awaited, self.armed_at = view, now
        self.armed_for = self._doubled(self._options.heartbeat) if hopeless else self.timeout
        return [SetTimer(self.NEW_VIEW, self.armed_for)]

    def stop_awaiting(self) -> list[Effect]:
        if not self.awaited:
            return []
        self.awaited = 0
        return [CancelTimer(self.NEW_VIEW)]

    def progress(self) -> None:
        """Something new was executed in this view."""
        self.failures = 0
        self.progressed = True

    def check_invariants(self) -> None:
        assert self.target is None or not self.awaited, "at most one timer runs"
        assert self.timeout <= self._options.view_timeout_cap_us, "the back-off is capped"
