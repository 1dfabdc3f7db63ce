"""How much gets done, how long it waits for that, and who has done better. [Clement09 Aardvark] (P38)

How long a request waits depends on how many there are: the more, the longer. So a primary is held against what others
had done at once: it is slow if it gets less done than another did while requests wait longer than they did there. With
less to do they wait no longer, with more to do more is done; neither is anybody's fault.

The mean wait is how many wait, on average, over how many end a second (Little's law): nothing has to be remembered of
a single request, and neither bursts nor the choice of who is served change it. A backup sees the wait of a sample, and
all that is done. Where the two do not fit each other, clients send backups more or less than their share, to make waits
look shorter or hide them: then whichever is worse is believed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from replog.types import Micros

STEADY_US: Final = 2_000_000
"""Time constant of the averages."""
SAMPLE_US: Final = 1_000_000
SAMPLES: Final = 16
"""One each SAMPLE_US, the last of a view."""
SLOWER: Final = 1.2
"""So many times as long as elsewhere, and more: then requests wait for the primary."""


CHANCE: Final = 1.5
"""So many times its share, or that part of it, may be in a sample by chance."""


class Pace(NamedTuple):
    """Requests and operations that are done a second, and how long one waits, in microseconds."""

    requests: float
    operations: float
    wait: float

    def is_better(self, other: Pace, share: float, slower: float, slack: Micros) -> bool:
        """Whether `other` gets less than `share` of this done, by any count, while requests wait that much longer."""
        less = other.requests < share * self.requests and other.operations < share * self.operations
        return less and other.wait > slower * self.wait + slack


class Flow:
    """What waits and what ends at this replica, averaged with a time constant since its first moment."""

    def __init__(self, now: Micros, constant: Micros = STEADY_US) -> None:
        self._constant = constant
        self._counted_at = self._looked_at = now
        self._waiting, self._area = 0, 0
        self._requests = self._operations = self._ended = 0
        self._averages = [0.0, 0.0, 0.0, 0.0]
        self._weight = 0.0

    def count(self, now: Micros, waiting: int) -> None:
        """So many wait from now on."""
        self._area += self._waiting * (now - self._counted_at)
        self._counted_at, self._waiting = now, waiting

    def end(self, requests: int, operations: int, ended: int) -> None:
        """So much was done; so many of those had waited here."""
        self._requests += requests
        self._operations += operations
        self._ended += ended

    def look(self, now: Micros, sample: float = 1.0) -> Pace:
        """What it comes to by now. `sample`: the share of requests that clients send here. One more is counted than has
        ended: where there are next to none, the wait for the next one says nothing."""
        self.count(now, self._waiting)
        if now > self._looked_at:
            time = now - self._looked_at
            share = -math.expm1(-time / self._constant)
            counts = (self._requests, self._operations, self._ended, self._area / 1e6)
            shown = [count * 1e6 / time for count in counts]
            self._averages = [old + (new - old) * share for old, new in zip(self._averages, shown, strict=True)]
            self._weight += (1 - self._weight) * share
            self._looked_at, self._area, self._requests, self._operations, self._ended = now, 0, 0, 0, 0
        requests, operations, ended, waiting = (value / (self._weight or 1.0) for value in self._averages)
        known = min(1.0, CHANCE * ended / (sample * requests)) if requests else 0.0
        ended = min(ended, CHANCE * sample * requests)
        return Pace(known * requests, known * operations, waiting * 1e6 / (ended + 1e6 / self._constant))


class Records:
    """What the present view and the last ones have shown. A liar among their primaries, with clients to help it, may
    have shown what no other can: so more of them must have done better than there are liars, or the present one itself
    before.

    Invariant: at most SAMPLES of each of the last n views.
    """

    def __init__(self, n: int, weak_quorum: int) -> None:
        self._weak_quorum = weak_quorum
        self._views: deque[Sequence[Pace]] = deque(maxlen=n)
        self._present: deque[Pace] = deque(maxlen=SAMPLES)
        self._sampled_at: Micros = 0

    def begin_view(self) -> None:
        if self._present:
            self._views.append(self._present)
        self._present = deque(maxlen=SAMPLES)

    def learn(self, now: Micros, pace: Pace) -> None:
        if now - self._sampled_at >= SAMPLE_US and pace.requests > 0:
            self._present.append(pace)
            self._sampled_at = now

    def better(self, pace: Pace, share: float, slower: float, slack: Micros) -> Pace | None:
        """One that shows `pace` to be too slow, if any does."""
        own = _better(self._present, pace, share, slower, slack)
        if own is not None:
            return own
        found = [_better(view, pace, share, slower, slack) for view in self._views]
        proofs = [better for better in found if better is not None]
        return proofs[0] if proofs and len(proofs) >= min(self._weak_quorum, len(self._views)) else None

    def check_invariants(self) -> None:
        assert all(len(view) <= SAMPLES for view in (self._present, *self._views)), "samples are bounded"


def _better(view: Sequence[Pace], pace: Pace, share: float, slower: float, slack: Micros) -> Pace | None:
    return next((other for other in view if other.is_better(pace, share, slower, slack)), None)
