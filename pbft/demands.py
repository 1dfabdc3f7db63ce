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

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from pbft.flow import SLOWER, STEADY_US, Flow, Pace, Records
from pbft.messages import Complaint
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.requests import Identity, Requests
from replog.core import Effect, Note, Send, SetTimer, Setup
from replog.types import ClientId, Micros, NodeId, Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options

LOOKS: Final = 4
"""A heartbeat: how often a backup looks while something waits. The primary, who judges nobody, looks once."""
WATCHED: Final = 64
"""The oldest requests that wait, and the last waits remembered, ..."""
WATCHED_OF_ONE: Final = 4
"""... of one client, so that none takes the place of all others, ..."""
SEARCHED: Final = 1_024
"""... among so many of the oldest."""
BEHIND: Final = 3
"""Whose look comes so many times as late did not run itself, and cannot tell whether others did."""
FIRST: Final = 2
"""Heartbeats until the first proposal of a view: it has to be put together."""
FAIR: Final = 3
"""So many times as long as usual may a request wait, for each that its client may have before it."""
LATE: Final = 1.25
"""So many times as many batches as usual may pass a request until it is sent to the primary again, and then as many
until it counts as passed by: within FAIR, in time."""
RARE: Final = 10
"""Of those that ended, one in so many may have waited longer until others count as late, ..."""
LATEST: Final = 2
"""... but no more than so many times as long as usual."""
PASSES_MIN: Final = 2
"""Batches that any request may have to let pass: its primary hears of it later than its backups do."""
SLACK: Final = 64
"""Of a heartbeat, what no wait may be held against anybody for: clocks and machines are not that regular."""
ENOUGH: Final = 16
"""Waits that make a median."""
RISE: Final = 0.01
"""A second: the floor rises until it is what the best have done. [Clement09 4.1]"""
REPEATED: Final = 3
"""So many times the longest that a status takes to come, a complaint stands without being repeated."""
NAMED_MAX: Final = 64
"""Clients that a complaint names."""
SHORT_US: Final = 500_000
"""For so long, altogether, a primary may be too slow."""


class Wait(NamedTuple):
    """Of one request, since when. `batch`: the last one before that, or before its client owed nothing any more, and
    `due`: when that was. `turns`: how many of its client's might have to be executed, itself counted. `sent_on`: the
    last batch before it was sent to the primary again."""

    began: Micros
    due: Micros
    batch: int
    turns: int
    sent_on: int | None = None


class Waits:
    """How long the oldest requests wait, and how long others have waited until they were executed: in time, and in
    batches that were executed meanwhile. Batches say who is passed by, whatever keeps all of them waiting.

    Invariant: `_since` has at most WATCHED requests that count, and as many that do not; each waited at the last look.
    """

    def __init__(self) -> None:
        self._since: dict[Identity, Wait] = {}
        self._counts: Callable[[Identity], bool] = bool
        self._ended: deque[tuple[Micros, int]] = deque(maxlen=WATCHED)
        self._batches = 0
        self._newest = self._last = -1
        """Of those that ended: since when the one that came last had waited, and when the last of them ended."""
        self._forget()

    def _forget(self) -> None:
        # Without enough waits to say how many batches are usual, it takes more of them than there ever are.
        self._usual, self._passes = 0, sys.maxsize
        self._late_us, self._late_batches = 0.0, float(sys.maxsize)

    def begin_view(self, now: Micros) -> None:
        """Nobody is blamed for what another let wait."""
        self._forget()
        self._since = {one: Wait(now, now, self._batches, wait.turns) for one, wait in self._since.items()}
        self._ended.clear()

    def pass_by(self, now: Micros, requests: Requests) -> None:
        """A batch was executed, with or without those that wait."""
        self._batches += 1
        self.look(now, requests)

    def look(self, now: Micros, requests: Requests) -> None:
        pending = requests.pending
        ended = [wait for identity, wait in self._since.items() if identity not in pending]
        self._ended.extend((now - wait.due, self._batches - wait.batch) for wait in ended)
        if ended:
            self._newest, self._last = max(self._newest, *(wait.began for wait in ended)), now
        doubtful = [one for one in self._since if one in pending and not requests.counts(one)][:WATCHED]
        told = {one: self._since[one]._replace(sent_on=self._batches) for one in doubtful}  # not before it counts
        self._since = told | {
            identity: self._seen(now, identity, request, requests) for identity, request in _oldest(requests)
        }
        self._counts = requests.counts

    def _seen(self, now: Micros, identity: Identity, request: Request, requests: Requests) -> Wait:
        """Whoever owes has had more than others: until that is paid off its primary rightly keeps it waiting."""
        wait = self._since.get(identity) or Wait(now, now, self._batches, requests.before(request))
        return wait._replace(due=now, batch=self._batches) if requests.owes(request.client) else wait

    def learn(self) -> None:
        """What is usual by now: at each look of the timer, since medians cost more than a batch is worth."""
        if not self._ended:
            return
        self._usual, rare = _usual(sorted(wait for wait, _ in self._ended))
        self._late_us = max(LATE * self._usual, min(rare, LATEST * self._usual))
        if self.enough:
            passes, rare = _usual(sorted(batches for _, batches in self._ended))
            self._passes = max(PASSES_MIN, passes)
            self._late_batches = max(LATE * self._passes, min(rare + 1, LATEST * self._passes))

    def late(self, now: Micros, limit: Micros) -> list[Identity]:
        """Those that begin to be late, each once a view."""
        before, passed = now - max(limit, int(self._late_us)), self._batches - self._late_batches
        late = [
            one
            for one, wait in self._since.items()
            if wait.sent_on is None and (wait.began <= before or wait.batch <= passed)
        ]
        self._since |= {one: self._since[one]._replace(sent_on=self._batches) for one in late}
        return late

    @property
    def any(self) -> bool:
        return bool(self._since)

    def oldest(self, now: Micros) -> tuple[Identity, Micros] | None:
        """The one that waits longest, and how long."""
        first = next(filter(self._counts, self._since), None)
        return None if first is None else (first, now - self._since[first].began)

    def usual(self) -> Micros:
        """The median of those that have ended in this view; 0 while there are none."""
        return self._usual

    @property
    def enough(self) -> bool:
        return len(self._ended) >= ENOUGH

    def _patience(self, now: Micros, wait: Wait) -> int:
        """How many times as long it may wait. Where all come at once the last of them waits far longer than the first
        did, and fairly: nobody who came long after it was served before it."""
        in_order = self._last > wait.began and self._newest - wait.began < now - self._newest
        return wait.turns * (FAIR if in_order else 1)

    def _is_passed_by(self, wait: Wait, waited: Micros, patience: int) -> bool:
        """Also after it was sent to the primary again, there was time for it (P35)."""
        if wait.sent_on is None or self._batches - wait.sent_on < LATE * self._passes:
            return False
        passed, times = self._batches - wait.batch, 2 * LATE * patience
        return passed >= times * self._passes and waited > times * self._usual

    def unfair(self, now: Micros, least: Micros) -> tuple[Identity, Micros] | None:
        """One that waits far longer than others do, its client's own requests before it allowed for (P37)."""
        limit = FAIR * max(self._usual, least // FAIR)
        for identity, wait in self._since.items():
            waited, patience = now - wait.due, self._patience(now, wait)
            unfair = waited > limit * patience or self._is_passed_by(wait, waited, patience)
            if unfair and self._counts(identity):
                return identity, waited
        return None


def _oldest(requests: Requests) -> Iterator[tuple[Identity, Request]]:
    watched: Counter[ClientId] = Counter()
    for identity, request in islice(requests.counted(), SEARCHED):
        if watched[identity[0]] < WATCHED_OF_ONE:
            watched[identity[0]] += 1
            yield identity, request
            if watched.total() >= WATCHED:
                return


def _usual(ended: Sequence[int]) -> tuple[int, int]:
    """The median of these, in order, and what one in RARE of them goes beyond."""
    return ended[(len(ended) - 1) // 2], ended[len(ended) - 1 - len(ended) // RARE]


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
        self._records = Records(notary.n, notary.weak_quorum)
        self._operations = 0
        self._hasty = 0
        """Views in a row, up to the present one, that ended within the time that a new primary is left alone."""
        self._running = self._urgent = False
        self._looked_at = self._now = 0
        self._begin(0)

    def _begin(self, now: Micros) -> None:
        self._began = self._proposed_at = now
        self._latest = 0
        self._executed = 0
        self._slow_us: Micros = 0
        """How long it has been too slow, less how long it has not."""
        self._better: Pace | None = None
        self._measure_anew(now)
        self._complaints: dict[NodeId, Micros] = {}
        """Who complains, and when it last said so."""
        self._found_at: Micros = 0
        """When there last was a reason of its own, or others' complaints."""
        self.complaint = ""
        """Why this replica complains of the present view, "" while it does not."""
        self._clients: list[ClientId] = []

    # --------------------------------------------------------------------------------------------------------- events

    def begin_view(self, now: Micros) -> None:
        self._records.begin_view()
        self._hasty = self._hasty + 1 if now - self._began < self._options.grace_us else 0
        self._waits.begin_view(now)
        self._begin(now)
        self._urgent = self._running  # the last look may have been that of a primary

    def _measure_anew(self, now: Micros) -> None:
        """What was measured while this replica itself was behind says nothing of others."""
        self._flow, self._measured_from = Flow(now), now
        self._flow.count(now, self._requests.waiting)
        self._pace = Pace(0, 0, 0)

    @property
    def leniency(self) -> int:
        """How often all times are doubled. Of f + 1 primaries in a row one is correct: where none of them can meet the
        demands, the machines or links cannot."""
        return self._hasty // self._notary.weak_quorum

    def executed(self, now: Micros, done: Sequence[int], ended: int) -> None:
        """A batch. `done`: how many operations each of its requests has that was executed for the first time. `ended`:
        requests whose wait here it has ended."""
        operations = sum(done)
        self._operations += operations
        self._flow.end(len(done), operations, ended)
        if "fairness" not in self._measures or self._ordering.leads:
            return
        self._waits.pass_by(now, self._requests)
        self._urgent = not self.complaint and self._waits.unfair(now, self._least) is not None

    @property
    def _least(self) -> Micros:
        """No wait below it is held against anybody who lets few batches pass."""
        return self._options.heartbeat // 2 << min(self.leniency, 20)

    def wake(self, now: Micros) -> list[Effect]:
        """After every step that brings anything about: count what waits, begin to look when there is something to look
        at, and look again when that is urgent."""
        self._now = now
        self._flow.count(now, self._requests.waiting)
        if self._urgent and self._running:
            self._urgent = False
            return [SetTimer(self.TIMER, 1)]
        if self._running or not self._measures or not (self._requests.pending or self._operations):
            return []
        self._running, self._looked_at = True, now
        if not self._ordering.leads:
            self._waits.look(now, self._requests)
        return [SetTimer(self.TIMER, self._look_us)]

    def on_timeout(self, now: Micros, patience: int, excused: bool) -> list[Effect]:
        """Look. `patience`: view changes in a row without progress, each of which doubles all times. `excused`: this
        replica itself is behind, and judges nobody, no more than one that did not run in time."""
        since, self._looked_at, self._now = max(1, now - self._looked_at), now, now
        operations, self._operations = self._operations, 0
        self._executed += operations
        if self._ordering.leads:
            return self._look_at_itself(now, operations, excused)
        self._waits.look(now, self._requests)
        self._waits.learn()
        if not self._waits.any and not operations:
            self._running = False
            return []
        effects: list[Effect] = [SetTimer(self.TIMER, self._look_us)]
        if behind := since > BEHIND * self._look_us:
            self._proposed_at = now
        if behind or excused or not self._ordering.active:
            self._measure_anew(now)
            return effects
        self._measure(min(since, 2 * self._look_us), now)
        fault = self._fault(now, patience, moves=operations > 0)
        return effects + self._find(now, fault) if fault else effects

    def _look_at_itself(self, now: Micros, operations: int, excused: bool) -> list[Effect]:
        """A primary learns what can be done."""
        if not operations and not self._requests.pending:
            self._running = False
            return []
        if excused:
            self._measure_anew(now)
        else:
            self._measure(0, now)
        return [SetTimer(self.TIMER, LOOKS * self._look_us)]

    def _find(self, now: Micros, reason: str) -> list[Effect]:
        """There is a reason to complain, still or anew."""
        self._found_at = now
        if self.complaint:
            return []
        self.complaint = reason
        return self._complain(now)

    def on_complaint(self, now: Micros, sender: NodeId, view: int) -> list[Effect]:
        """Another's, or its VIEW-CHANGE for a later view, in case the complaint was lost. Those of a weak quorum have a
        correct one among them: then this replica complains too."""
        if view != self._ordering.view or not self._ordering.active:
            return []
        self._complaints[sender] = self._now = now
        others = self._standing(now) - {self._notary.me}
        if len(others) < self._notary.weak_quorum:
            return []
        return self._find(now, f"{len(others)} replicas complain of it")

    def _standing(self, now: Micros) -> set[NodeId]:
        """Whose complaints stand: they are repeated with every status, as long as there is a reason."""
        since = now - REPEATED * self._options.idle_interval_us
        return {node for node, said_at in self._complaints.items() if said_at >= since}

    def complain(self, now: Micros, reason: str, clients: Sequence[ClientId]) -> list[Effect]:
        """For a reason that shows elsewhere, in requests of these clients. Said of the view, not of who leads it."""
        if not self._ordering.active or self._ordering.leads:
            return []
        self._found_at, self._now, self.complaint = now, now, self.complaint or reason
        self._clients = sorted({*self._clients, *clients})[:NAMED_MAX]
        return self._complain(now)

    def _complain(self, now: Micros) -> list[Effect]:
        view = self._ordering.view
        return [
            Note("complaint", {"view": view, "primary": self._ordering.primary, "reason": self.complaint}),
            *self.repeat(now),
        ]

    def repeat(self, now: Micros) -> list[Effect]:
        """Said again with every status: the first may have been lost. Without a reason for a whole time-out it is said
        no more."""
        if not self.complaint or not self._ordering.active:
            return []
        if now - self._found_at > self._options.view_timeout_us:
            self.complaint = ""
            self._complaints.pop(self._notary.me, None)
            return []
        self._complaints[self._notary.me] = now
        return [Send(self._notary.others, Complaint(self._ordering.view, self._clients))]

    @property
    def given_up(self) -> bool:
        """Whether a quorum complains of the present primary."""
        return len(self._standing(self._now)) >= self._notary.quorum

    def late(self, now: Micros) -> list[Request]:
        """What has waited for a look or far longer than usual: its client may have sent it to backups only (P35)."""
        pending = self._requests.pending
        return [pending[one] for one in self._waits.late(now, self._look_us) if one in pending]

    # ------------------------------------------------------------------------------------------------------- measures

    def _measure(self, time: Micros, now: Micros) -> None:
        """Is the primary slower than others were, by now? A moment in which it is not takes away no more than a moment
        in which it is adds."""
        sample = 1.0 if self._ordering.leads else self._options.sample_share
        self._pace = pace = self._flow.look(now, sample)
        if now - self._measured_from >= STEADY_US:
            self._records.learn(now, pace)
        if self._ordering.latest > self._latest:
            self._latest, self._proposed_at = self._ordering.latest, now
        slower = SLOWER * (1 << min(self.leniency, 20))
        self._better = self._records.better(pace, self._share(now), slower, self._options.heartbeat // SLACK)
        self._slow_us = max(0, self._slow_us + (time if self._better else -time))

    def _share(self, now: Micros) -> float:
        """Of what was done before, what has to be done now. [Clement09 4.1]"""
        seconds = max(0, now - self._began - self._options.grace_us) / 1e6
        return float(min(1.0, self._options.floor_share * (1 + RISE) ** min(seconds, 1_000.0)))

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
        if "floor" in self._measures and self._slow_us >= SHORT_US and led >= self._options.grace_us and self._better:
            return f"{_told(self._pace)}; it was {_told(self._better)}"
        fair = not moves or "fairness" not in self._measures
        if not fair and (passed := self._waits.unfair(now, self._least)):
            return f"{_name(passed[0])} waits for {passed[1] / 1e6:.2f} s, others for {self._waits.usual() / 1e6:.2f} s"
        return ""

    def check_invariants(self) -> None:
        self._records.check_invariants()
        assert len(self._complaints) <= self._notary.n, "one complaint a replica"


def _told(pace: Pace) -> str:
    return f"{pace.requests:.0f} requests a second after {pace.wait / 1000:.0f} ms each"


def _name(identity: Identity) -> str:
    return f"{identity[0]}#{identity[1]}"
