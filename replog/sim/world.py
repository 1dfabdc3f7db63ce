"""Virtual time: one heap of events, one seed.

Here: the order in which things happen, the streams of chance, and clocks that drift. Not here: what happens
(`replog.sim.process`, `network`, `disk`).

Two events at one time happen in the order in which they were planned, so that a seed fixes the run: nothing depends on
hashes, addresses or the machine.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from itertools import count
from typing import Any

from replog.runtime import Uninterrupted
from replog.types import Micros

Action = Callable[[Any], None]

EPOCH_US = 1_700_000_000_000_000
"""Time of day at virtual time 0, in microseconds since 1970. A literal, so that a seed means the same every day."""


class World:
    """Invariant: `now` never goes back."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now: Micros = 0
        self.heap: list[tuple[Micros, int, Action, Any]] = []
        self.number = count(1).__next__
        """The tie-break. Hot paths push (time, number(), action, argument) on `heap` themselves."""

    def secret(self, name: str) -> bytes:
        """32 bytes that depend on the seed and the name alone."""
        return hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=32).digest()

    def stream(self, name: str) -> random.Random:
        """A stream of chance of its own for each component: what one draws never shifts what another one gets."""
        return random.Random(int.from_bytes(self.secret(f"stream/{name}")))

    def at(self, time: Micros, action: Action, argument: Any = None) -> None:
        """Plan `action(argument)` for `time`; a time that is past means now."""
        heapq.heappush(self.heap, (max(time, self.now), self.number(), action, argument))

    def run_until(self, time: Micros, stop: Callable[[], bool] | None = None) -> bool:
        """Everything planned up to and including `time`, or until `stop()` holds after an event. Whether it stopped.
        A Ctrl-C takes effect between two events."""
        heap, pop = self.heap, heapq.heappop
        with Uninterrupted() as ctrl_c:
            while heap and heap[0][0] <= time and not ctrl_c.came:
                self.now, _, action, argument = pop(heap)
                action(argument)
                if stop is not None and stop():
                    return True
        self.now = max(self.now, time)
        return False


class Clock:
    """A process's own clocks: a monotonic one that may run fast or slow, and a time of day that may be wrong or jump.

    Invariant: `monotonic` never goes back.
    """

    def __init__(self, world: World, wall_offset_us: Micros = 0) -> None:
        self._world = world
        self._rate_ppm = 0
        self._since: Micros = 0  # the world's time at which this rate began
        self._shown: Micros = 0  # what the clock showed then
        self.wall_offset_us = wall_offset_us

    @property
    def rate_ppm(self) -> int:
        return self._rate_ppm

    def monotonic(self) -> Micros:
        if not self._rate_ppm and self._since == self._shown:
            return self._world.now
        elapsed = self._world.now - self._since
        return self._shown + elapsed + elapsed * self._rate_ppm // 1_000_000

    def wall(self) -> Micros:
        """Time of day, microseconds since 1970."""
        return EPOCH_US + self.monotonic() + self.wall_offset_us

    def drift(self, rate_ppm: int) -> None:
        """From now on the clock gains `rate_ppm` microseconds a second (loses them if negative)."""
        if rate_ppm <= -1_000_000:
            raise ValueError(f"rate_ppm {rate_ppm}: a clock that stands still or runs back is no clock (> -1000000)")
        self._since, self._shown, self._rate_ppm = self._world.now, self.monotonic(), rate_ppm

    def due(self, delay: Micros) -> Micros:
        """The world's time at which this clock will have advanced by `delay`."""
        if not self._rate_ppm:
            return self._world.now + delay
        return self._world.now + -(-delay * 1_000_000 // (1_000_000 + self._rate_ppm))
