"""What may happen to frames on chosen links while a fault lasts: lost, late, held back, changed.

Here: one class a kind, each with a count of the frames that it struck. Not here: how a link is when nothing is wrong
(`replog.sim.network`), nor who begins and ends a fault (`compare.sim_faults`).

A disturbance sees frames that are about to leave and gives what becomes of them. Several on one link strike in the
order in which they came, and each ends by itself: unlike cuts, none undoes another.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from replog.sim.world import World
from replog.types import Micros, Principal

if TYPE_CHECKING:
    from replog.sim.network import Frame, Link, Sample


class Disturbance:
    """Invariant: `acts` counts the frames that it lost, held back, delayed or changed."""

    def __init__(self) -> None:
        self.acts = 0

    def strike(self, link: Link, frame: Frame, arrival: Micros) -> tuple[Frame, Micros] | None:
        """What travels in place of `frame` and when it arrives; None: nothing, now."""
        raise NotImplementedError


class Lose(Disturbance):
    """Each frame with this chance; 1 is a cut."""

    def __init__(self, chance: float, stream: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._draw = stream.random

    def strike(self, link: Link, frame: Frame, arrival: Micros) -> tuple[Frame, Micros] | None:
        if self._chance < 1 and self._draw() >= self._chance:
            return frame, arrival
        self.acts += 1
        link.lose("fault", frame)
        return None


class Delay(Disturbance):
    """Each frame takes so much longer. `until`: what would arrive later arrives then."""

    def __init__(self, sample: Sample, until: Callable[[], Micros | None] = lambda: None) -> None:
        super().__init__()
        self._sample = sample
        self._until = until

    def strike(self, link: Link, frame: Frame, arrival: Micros) -> tuple[Frame, Micros] | None:
        self.acts += 1
        latest, late = self._until(), arrival + self._sample()
        return frame, late if latest is None else min(late, max(latest, arrival))


class Bound(Disturbance):
    """No frame takes longer than this: what a synchronous network promises. It strikes nothing, and counts nothing."""

    def __init__(self, world: World, us: Micros) -> None:
        super().__init__()
        self._world = world
        self._us = us

    def strike(self, link: Link, frame: Frame, arrival: Micros) -> tuple[Frame, Micros] | None:
        return frame, min(arrival, self._world.now + self._us)


class Withhold(Disturbance):
    """Frames of those whom `whom` names wait until they are let go: an asynchronous network may, if it loses none."""

    def __init__(self, world: World, whom: Callable[[Principal], bool]) -> None:
        super().__init__()
        self._world = world
        self._whom = whom
        self._held: deque[tuple[Link, Frame]] = deque()

    def strike(self, link: Link, frame: Frame, arrival: Micros) -> tuple[Frame, Micros] | None:
        if not self._whom(link.source):
            return frame, arrival
        self.acts += 1
        self._held.append((link, frame))
        return None

    def release(self, within_us: Micros, all_of_them: bool = False) -> None:
        """Deliver what is held of those who are named no more, in order, within this time."""
        kept: deque[tuple[Link, Frame]] = deque()
        for link, frame in self._held:
            if not all_of_them and self._whom(link.source):
                kept.append((link, frame))
            else:
                link.deliver(frame, self._world.now + within_us)
        self._held = kept


class Corrupt(Disturbance):
    """With this chance one bit of a frame is another. `checked`: the link notices, as TLS does, and the frame is lost;
    else it comes as it is, and whoever reads it has to notice."""

    def __init__(self, chance: float, checked: bool, stream: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._checked = checked
        self._stream = stream

    def strike(self, link: Link, frame: Frame, arrival: Micros) -> tuple[Frame, Micros] | None:
        if self._stream.random() >= self._chance:
            return frame, arrival
        self.acts += 1
        if self._checked:
            link.lose("corrupt", frame)
            return None
        return flipped(frame, self._stream), arrival


def flipped(frame: Frame, stream: random.Random) -> Frame:
    """The frame with one bit of one message changed; an empty message has none."""
    place = stream.randrange(len(frame))
    changed = bytearray(frame[place])
    if changed:
        bit = stream.randrange(8 * len(changed))
        changed[bit // 8] ^= 1 << bit % 8
    return [bytes(changed) if at == place else raw for at, raw in enumerate(frame)]
