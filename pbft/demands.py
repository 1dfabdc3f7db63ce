"""What a backup demands of its primary, beside an execution now and then. [Clement09 Aardvark] (P14, P37, P38)

A primary just below the time-out of PBFT may slow a service down a thousandfold and stay. Here each backup looks a few
times a heartbeat at the requests that clients have sent it, and complains of a primary that lets them wait: proposes
nothing, gets less done than others before it, passes one client by, or has led for long. Demand is measured only while
such requests wait, so that falling load deposes nobody.

[deviates: stricter] Aardvark's backup leaves the view at once. Measures differ between replicas, and one that leaves
alone is lost to the quorum; so they complain first: a weak quorum of complaints makes a replica complain too, a quorum
makes it leave. Where one correct replica leaves, all do; and no complaint of f liars counts for anything.

Here: the measures and the complaints. Not here: leaving the view (`pbft.core`), what waits (`pbft.requests`).
"""

from __future__ import annotations

import statistics
import sys
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from pbft.messages import Complaint
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.requests import Identity, Requests
from replog.core import Effect, Note, Send, SetTimer, Setup
from replog.types import ClientId, Micros, NodeId, Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options

LOOKS: Final = 8
"""A heartbeat."""
WATCHED: Final = 64
"""The oldest requests that wait, and the last waits remembered."""
FIRST: Final = 2
"""Heartbeats until the first proposal of a view: it has to be put together."""
FAIR: Final = 3
"""So many times as long as usual may a request wait, for each that its client may have before it."""
LATE: Final = 1.25
"""So many times as many batches as usual may pass a request until it is sent to the primary again, and then as many
until it counts as passed by: within FAIR, in time."""
PASSES_MIN: Final = 2
"""Batches that any request may have to let pass: its primary hears of it later than its backups do."""
DEMAND: Final = 1.2
"""So many times as long as usual, and more: then requests wait for the primary."""
ENOUGH: Final = 16
"""Waits that make a median."""
RISE: Final = 0.01
"""A second: the floor rises until no primary can hold it. [Clement09 4.1]"""
NAMED_MAX: Final = 64
"""Clients that a complaint names."""
STEADY_US: Final = 2_000_000
SHORT_US: Final = 500_000
"""Time constants: of the throughput that a view has shown, and of the one that is held against it."""


class Throughput:
    """Operations a second, averaged with a time constant."""

    __slots__ = ("rate", "_constant")

    def __init__(self, constant: Micros) -> None:
        self._constant = constant
        self.rate = 0.0

    def add(self, operations: int, time: Micros) -> None:
        share = min(1.0, time / self._constant)
        self.rate += (operations * 1e6 / time - self.rate) * share


class Wait(NamedTuple):
    """Of one request, since when and which batch. `turns`: how many of its client's might have to be executed, itself
    counted. `sent_on`: the last batch before it was sent to the primary again."""

    began: Micros
    batch: int
    turns: int
    sent_on: int | None = None


class Waits:
    """How long the oldest requests wait, and how long others have waited until they were executed: in time, and in
    batches that were executed meanwhile. Batches say who is passed by, whatever keeps all of them waiting.

    Invariant: `_since` has at most WATCHED requests, each of which waited at the last look.
    """

    def __init__(self) -> None:
        self._since: dict[Identity, Wait] = {}
        self._ended: deque[tuple[Micros, int]] = deque(maxlen=WATCHED)
        self._batches = 0
        self._usual: Micros = 0
        self._passes = sys.maxsize
        """How many batches are usually executed until a request is; without enough of them to say, more than ever."""

    def begin_view(self, now: Micros) -> None:
        """Nobody is blamed for what another let wait."""
        self._usual, self._passes = 0, sys.maxsize
        self._since = {one: Wait(now, self._batches, wait.turns) for one, wait in self._since.items()}
        self._ended.clear()

    def pass_by(self, now: Micros, requests: Requests) -> None:
        """A batch was executed, with or without those that wait."""
        self._batches += 1
        self.look(now, requests)

    def look(self, now: Micros, requests: Requests) -> None:
        pending = requests.pending
        ended = [wait for identity, wait in self._since.items() if identity not in pending]
        self._ended.extend((now - wait.began, self._batches - wait.batch) for wait in ended)
        self._since = {
            identity: self._since.get(identity) or Wait(now, self._batches, requests.before(request))
            for identity, request in islice(pending.items(), WATCHED)
        }

    def learn(self) -> None:
        """What is usual by now: at each look of the timer, since medians cost more than a batch is worth."""
        self._usual = int(statistics.median_low(self._ended)[0]) if self._ended else 0
        if self.enough:
            self._passes = max(PASSES_MIN, int(statistics.median_low(batches for _, batches in self._ended)))

    def late(self, now: Micros, limit: Micros) -> list[Identity]:
        """Those that begin to be late, each once a view."""
        limit = max(limit, int(LATE * self._usual))
        late = [one for one, wait in self._since.items() if now - wait.began >= limit or self._is_late(wait)]
        late = [one for one in late if self._since[one].sent_on is None]
        self._since |= {one: self._since[one]._replace(sent_on=self._batches) for one in late}
        return late

    @property
    def any(self) -> bool:
        return bool(self._since)

    def oldest(self, now: Micros) -> tuple[Identity, Micros] | None:
        """The one that waits longest, and how long."""
        first = next(iter(self._since), None)
        return None if first is None else (first, now - self._since[first].began)

    def usual(self) -> Micros:
        """The median of those that have ended in this view; 0 while there are none."""
        return self._usual

    @property
    def enough(self) -> bool:
        return len(self._ended) >= ENOUGH

    def at_present(self, now: Micros) -> Micros:
        """The median of the last that have ended and of all that have not."""
        last = [waited for waited, _ in list(self._ended)[-ENOUGH:]]
        last += [now - wait.began for wait in self._since.values()]
        return int(statistics.median_low(last)) if last else 0

    def _is_late(self, wait: Wait) -> bool:
        return self._batches - wait.batch >= LATE * self._passes

    def _is_passed_by(self, now: Micros, wait: Wait) -> bool:
        """Also after it was sent to the primary again, there was time for it (P35)."""
        if wait.sent_on is None or self._batches - wait.sent_on < LATE * self._passes:
            return False
        passed, waited, times = self._batches - wait.batch, now - wait.began, 2 * LATE * wait.turns
        return passed >= times * self._passes and waited > times * self._usual

    def unfair(self, now: Micros, least: Micros) -> tuple[Identity, Micros] | None:
        """One that waits far longer than others do, its client's own requests before it allowed for (P37)."""
        limit = FAIR * max(self._usual, least // FAIR)
        for identity, wait in self._since.items():
            if now - wait.began > limit * wait.turns or self._is_passed_by(now, wait):
                return identity, now - wait.began
        return None

    def is_urgent(self, now: Micros, least: Micros) -> bool:
        """Whether one is late, or passed by, before the next look comes."""
        late = any(wait.sent_on is None and self._is_late(wait) for wait in self._since.values())
        return late or self.unfair(now, least) is not None


class Demands:
    """Invariants:
    at most one complaint a replica counts, and only of the present view
    the timer runs while anything waits or was executed since the last look
    """

    TIMER = "demands"

    def __init__(self, setup: Setup, notary: Notary, ordering: Ordering, requests: Requests) -> None:
        self._options: Options = setup.config
        self._measures = self._options.measures
        self._notary = notary
        self._ordering = ordering
        self._requests = requests
        self._look_us = max(1, self._options.heartbeat // LOOKS)
        self._waits = Waits()
        self._best: deque[float] = deque(maxlen=notary.n)
        """The steady throughput of the last views that executed anything."""
        self._waited: deque[Micros] = deque(maxlen=notary.n)
        """The least usual wait in each of them."""
        self._operations = 0
        self._hasty = 0
        """Views in a row, up to the present one, that ended within the time that a new primary is left alone."""
        self._running = self._urgent = False
        self._looked_at: Micros = 0
        self._begin(0)

    def _begin(self, now: Micros) -> None:
        self._began = self._proposed_at = now
        self._latest = 0
        self._peak = 0.0
        self._usual: Micros = sys.maxsize
        self._executed = 0
        self._steady, self._lately = Throughput(STEADY_US), Throughput(SHORT_US)
        self._short_us: Micros = 0
        self._complaints: set[NodeId] = set()
        self.complaint = ""
        """Why this replica complains of the present view, "" while it does not."""
        self._clients: list[ClientId] = []

    # --------------------------------------------------------------------------------------------------------- events

    def begin_view(self, now: Micros) -> None:
        if self._peak:
            self._best.append(self._peak)
            self._waited.append(self._usual)
        self._hasty = self._hasty + 1 if now - self._began < self._options.grace_us else 0
        self._waits.begin_view(now)
        self._begin(now)

    @property
    def leniency(self) -> int:
        """How often all times are doubled. Of f + 1 primaries in a row one is correct: where none of them can meet the
        demands, the machines or links cannot."""
        return self._hasty // self._notary.weak_quorum

    def executed(self, now: Micros, operations: int) -> None:
        """A batch."""
        self._operations += operations
        if "fairness" not in self._measures or self._ordering.leads:
            return
        self._waits.pass_by(now, self._requests)
        self._urgent = not self.complaint and self._waits.is_urgent(now, self._least)

    @property
    def _least(self) -> Micros:
        """No wait below it is held against anybody who lets few batches pass."""
        return self._options.heartbeat // 2 << min(self.leniency, 20)

    def wake(self) -> list[Effect]:
        """After every step: begin to look when there is something to look at, and look again when that is urgent."""
        if self._urgent and self._running:
            self._urgent = False
            return [SetTimer(self.TIMER, 1)]
        if self._running or not self._measures or not (self._requests.pending or self._operations):
            return []
        self._running = True
        return [SetTimer(self.TIMER, self._look_us)]

    def on_timeout(self, now: Micros, patience: int, excused: bool) -> list[Effect]:
        """Look. `patience`: view changes in a row without progress, each of which doubles all times. `excused`: this
        replica itself is behind, and judges nobody."""
        since, self._looked_at = max(1, now - self._looked_at), now
        operations, self._operations = self._operations, 0
        self._executed += operations
        self._waits.look(now, self._requests)
        self._waits.learn()
        if not self._waits.any and not operations:
            self._running = False
            return []
        self._measure(operations, min(since, 2 * self._look_us), now)
        effects: list[Effect] = [SetTimer(self.TIMER, self._look_us)]
        if not self._ordering.active or self._ordering.leads or excused:
            return effects
        if not self.complaint:
            self.complaint = self._fault(now, patience, moves=operations > 0)
            return effects + (self._complain() if self.complaint else [])
        return effects

    def on_complaint(self, sender: NodeId, message: Complaint) -> list[Effect]:
        """Another's. Those of a weak quorum have a correct one among them: then this replica complains too."""
        if message.view != self._ordering.view or not self._ordering.active:
            return []
        self._complaints.add(sender)
        if not self.complaint and len(self._complaints) >= self._notary.weak_quorum:
            self.complaint = f"{len(self._complaints)} replicas complain of it"
            return self._complain()
        return []

    def complain(self, reason: str, clients: Sequence[ClientId]) -> list[Effect]:
        """For a reason that shows elsewhere, in requests of these clients. Said of the view, not of who leads it."""
        if not self._ordering.active or self._ordering.leads:
            return []
        self.complaint = self.complaint or reason
        self._clients = sorted({*self._clients, *clients})[:NAMED_MAX]
        return self._complain()

    def _complain(self) -> list[Effect]:
        self._complaints.add(self._notary.me)
        view = self._ordering.view
        return [
            Note("complaint", {"view": view, "primary": self._ordering.primary, "reason": self.complaint}),
            *self.repeat(),
        ]

    def repeat(self) -> list[Effect]:
        """Said again with every status: the first may have been lost."""
        if not self.complaint or not self._ordering.active:
            return []
        return [Send(self._notary.others, Complaint(self._ordering.view, self._clients))]

    @property
    def given_up(self) -> bool:
        """Whether a quorum complains of the present primary."""
        return len(self._complaints) >= self._notary.quorum

    def late(self) -> list[Request]:
        """What has waited for two looks: its client may have sent it to backups only (P35)."""
        pending = self._requests.pending
        return [pending[one] for one in self._waits.late(self._looked_at, 2 * self._look_us) if one in pending]

    # ------------------------------------------------------------------------------------------------------- measures

    def _measure(self, operations: int, time: Micros, now: Micros) -> None:
        self._steady.add(operations, time)
        self._lately.add(operations, time)
        if now - self._began >= STEADY_US:
            self._peak = max(self._peak, self._steady.rate)
        if self._waits.enough:
            self._usual = min(self._usual, self._waits.usual())
        if self._ordering.latest > self._latest:
            self._latest, self._proposed_at = self._ordering.latest, now
        wanting = self._in_demand(now) and self._lately.rate < self._floor(now)
        self._short_us = self._short_us + time if wanting else 0

    def _in_demand(self, now: Micros) -> bool:
        """Whether requests wait longer than they had to. With less to do they do not, however few are executed."""
        usual: Micros = min([self._usual, *self._waited])
        least: float = max(2 * self._look_us, DEMAND * usual if usual < sys.maxsize else 0)
        return self._waits.at_present(now) > least

    def _floor(self, now: Micros) -> float:
        """What the primary has to get executed a second. [Clement09 4.1]"""
        seconds = max(0, now - self._began - self._options.grace_us) / 1e6
        best = max([self._peak, *self._best])
        return float(best * min(1.0, self._options.floor_share * (1 + RISE) ** min(seconds, 1_000.0)))

    def _fault(self, now: Micros, patience: int, moves: bool) -> str:
        """What there is to complain of; "" if nothing. `moves`: something was executed since the last look. Where
        nothing is, all wait alike and nobody is passed by."""
        led = now - self._began
        if "rotation" in self._measures and self._executed and led > self._options.view_length_us:
            return f"it has led for {led / 1e6:.0f} s"
        oldest = self._waits.oldest(now)
        if oldest is None:
            return ""
        heartbeat = self._options.heartbeat << min(max(patience, self.leniency), 20)
        silence = min(oldest[1], now - self._proposed_at)
        if "heartbeat" in self._measures and silence > heartbeat * (1 if self._latest else FIRST):
            return f"no proposal for {silence / 1e6:.2f} s while {_name(oldest[0])} waits"
        if "floor" in self._measures and self._short_us >= SHORT_US and led >= self._options.grace_us:
            return f"{self._lately.rate:.0f} operations a second, {self._floor(now):.0f} are demanded"
        fair = not moves or "fairness" not in self._measures
        if not fair and (passed := self._waits.unfair(now, self._least)):
            return f"{_name(passed[0])} waits for {passed[1] / 1e6:.2f} s, others for {self._waits.usual() / 1e6:.2f} s"
        return ""

    def check_invariants(self) -> None:
        assert len(self._complaints) <= self._notary.n, "one complaint a replica"


def _name(identity: Identity) -> str:
    return f"{identity[0]}#{identity[1]}"
