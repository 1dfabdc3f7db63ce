"""The simulated network: links that delay, lose, double, reorder and are cut.

Here: frames between two addresses. Not here: what is in them, nor the work of reading them (`replog.sim.process`).

A link is directed and knows both ends: who sent a frame is what the link says, never what the frame says. Frames of
one link arrive in order, as on a stream, unless the model reorders. Loss, doubling and reordering strike whole frames.
What is wrong for a while, and on some links only, is a disturbance (`replog.sim.disturbances`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from heapq import heappush
from typing import Any, Protocol

from replog.sim.disturbances import Disturbance, flipped
from replog.sim.world import World
from replog.types import Message, Micros, Principal

Sample = Callable[[], Micros]
Frame = Sequence[bytes]
"""Encoded messages that travel together."""
Where = Callable[[Principal, Principal], bool]
"""Whether a link, from one address to another, is meant."""


class Delay(Protocol):
    """A distribution of times."""

    def sampler(self, chance: random.Random) -> Sample: ...


@dataclass(frozen=True)
class Constant:
    us: Micros

    def sampler(self, chance: random.Random) -> Sample:
        return lambda: self.us


@dataclass(frozen=True)
class Uniform:
    low_us: Micros
    high_us: Micros

    def __post_init__(self) -> None:
        if not 0 <= self.low_us <= self.high_us:
            raise ValueError(f"uniform delay {self.low_us} to {self.high_us}: must be 0 <= low <= high")

    def sampler(self, chance: random.Random) -> Sample:
        low, span, draw = self.low_us, self.high_us - self.low_us, chance.random
        return lambda: low + int(span * draw())


@dataclass(frozen=True)
class Exponential:
    """At least `least_us`, and on the average `mean_us` more."""

    mean_us: Micros
    least_us: Micros = 0

    def sampler(self, chance: random.Random) -> Sample:
        return lambda: self.least_us + int(chance.expovariate(1 / self.mean_us))


@dataclass(frozen=True)
class Normal:
    mean_us: Micros
    deviation_us: Micros
    least_us: Micros = 0

    def sampler(self, chance: random.Random) -> Sample:
        return lambda: max(self.least_us, int(chance.gauss(self.mean_us, self.deviation_us)))


@dataclass(frozen=True)
class Pareto:
    """Heavy tail: `least_us` times a Pareto variable of this shape, cut at `most_us`."""

    least_us: Micros
    shape: float = 2.0
    most_us: Micros = 10_000_000

    def sampler(self, chance: random.Random) -> Sample:
        return lambda: min(self.most_us, int(self.least_us * chance.paretovariate(self.shape)))


class Distances(Protocol):
    """Where everybody is: the delay from one address to another."""

    def delay(self, source: Principal, target: Principal) -> Delay: ...


@dataclass(frozen=True)
class NetworkModel:
    """How every link behaves unless it has a model of its own. The default is a local network."""

    delay: Delay = Uniform(60, 140)
    distances: Distances | None = None
    """In place of `delay`, where it depends on who is where."""
    byte_ns: float = 0.8
    """Per byte on the wire: 10 Gbit/s."""
    queue_bytes: int | None = None
    """One frame after another leaves, and so much may wait for the wire; what comes then is lost. None: no frame waits
    for another, as on a wire without end."""
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Chance that a frame leaves the order of its link and takes up to `reorder_us` longer."""
    reorder_us: Micros = 2_000
    corrupt: float = 0.0
    """Chance that a bit of a frame is another when it arrives."""
    checked: bool = True
    """What was changed on its way is noticed by the link, as by TLS, and lost."""

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"network model: {name} is {getattr(self, name)}; a chance is between 0 and 1")
        if self.queue_bytes is not None and (self.queue_bytes < 1 or self.byte_ns <= 0):
            raise ValueError(f"network model: queue_bytes is {self.queue_bytes}, byte_ns {self.byte_ns}: both above 0")

    @property
    def plain(self) -> bool:
        return self.queue_bytes is None and not (self.loss or self.duplicate or self.reorder or self.corrupt)


LAN = NetworkModel()


class Endpoint(Protocol):
    """Whoever has an address."""

    name: Principal

    def receive(self, sender: Principal, frame: Frame) -> None: ...


class Link:
    """One direction between two addresses.

    Invariant: without reordering, frames arrive in the order in which they were sent.
    """

    __slots__ = (
        "cut",
        "disturbances",
        "model",
        "own",
        "source",
        "target",
        "_byte_us",
        "_chance",
        "_draw",
        "_free",
        "_last",
        "_network",
        "_plain",
        "_sample",
        "_world",
    )

    def __init__(self, network: Network, source: Principal, target: Endpoint) -> None:
        self.source = source
        self.target = target
        self.cut = False
        self.own = False
        self._network = network
        self._world = network.world
        self._chance = network.world.stream(f"link/{source!r}/{target.name!r}")
        self._draw = self._chance.random
        self._last: Micros = 0
        self._free: Micros = 0
        self.disturbances: list[Disturbance] = []
        self.use(network.model)

    def use(self, model: NetworkModel) -> None:
        self.model = model
        self._byte_us = model.byte_ns / 1000
        name = f"delay/{self.source!r}/{self.target.name!r}"
        far = model.distances if not self.own else None
        delay = model.delay if far is None else far.delay(self.source, self.target.name)
        self._sample = delay.sampler(self._world.stream(name))
        self.refresh()

    def refresh(self) -> None:
        """After a change of the model or of the disturbances."""
        self._plain = self.model.plain and not self.disturbances

    def send(self, frame: Frame, size: int) -> None:
        if self.cut:
            self._network.dropped["cut"] += len(frame)
        elif self._plain:
            world = self._world
            arrival = world.now + self._sample() + int(size * self._byte_us)
            if arrival < self._last:
                arrival = self._last
            self._last = arrival
            heappush(world.heap, (arrival, world.number(), self._arrive, frame))
        else:
            self._send_badly(frame, size)

    def _send_badly(self, frame: Frame, size: int) -> None:
        model, draw = self.model, self._draw
        if draw() < model.loss:
            self.lose("loss", frame)
            return
        for _ in range(1 + (draw() < model.duplicate)):
            leaves = self._leaves(frame, size)
            if leaves is None:
                continue
            late = int(draw() * model.reorder_us) if draw() < model.reorder else None
            changed = self._changed(frame) if model.corrupt and draw() < model.corrupt else frame
            if changed is not None:
                self._strike(changed, leaves + self._sample() + (late or 0), in_order=late is None)

    def _leaves(self, frame: Frame, size: int) -> Micros | None:
        """When the last byte is on the wire; None if there is no room for it to wait."""
        now, takes, room = self._world.now, int(size * self._byte_us), self.model.queue_bytes
        if room is None:
            return now + takes
        begins = max(now, self._free)
        if (begins - now) / self._byte_us > room:
            self.lose("queue", frame)
            return None
        self._free = begins + takes
        return self._free

    def _changed(self, frame: Frame) -> Frame | None:
        if self.model.checked:
            self.lose("corrupt", frame)
            return None
        return flipped(frame, self._chance)

    def _strike(self, frame: Frame, arrival: Micros, in_order: bool) -> None:
        """Past the disturbances, and off."""
        for disturbance in self.disturbances:
            left = disturbance.strike(self, frame, arrival)
            if left is None:
                return
            frame, arrival = left
        if in_order:
            self._last = arrival = max(arrival, self._last)
        self._world.at(arrival, self._arrive, frame)

    def deliver(self, frame: Frame, arrival: Micros) -> None:
        """A frame that was held back is let go."""
        self._last = arrival = max(arrival, self._last)
        self._world.at(arrival, self._arrive, frame)

    def lose(self, why: str, frame: Frame) -> None:
        self._network.dropped[why] += len(frame)

    def _arrive(self, frame: Frame) -> None:
        if self.cut:
            self._network.dropped["cut"] += len(frame)
        else:
            self.target.receive(self.source, frame)


class Network:
    """All links. Loss, doubling, reordering and delay can be changed while the world runs."""

    def __init__(self, world: World, model: NetworkModel) -> None:
        self.world = world
        self.model = model
        self.dropped: Counter[str] = Counter()
        """Messages that did not arrive, by reason: cut, loss, queue, corrupt, fault, filter, down, full, unknown."""
        self.filter: Callable[[Principal, Principal, Message], bool] | None = None
        """For stories that need one message lost: called with sender, target and message; False loses it."""
        self._ends: dict[Principal, Endpoint] = {}
        self._links: dict[tuple[Principal, Principal], Link] = {}
        self._disturbed: list[tuple[Disturbance, Where]] = []

    def join(self, end: Endpoint) -> None:
        self._ends[end.name] = end

    def link(self, source: Principal, target: Principal) -> Link | None:
        """The link from `source` to `target`; None if nobody has that address."""
        link = self._links.get((source, target))
        if link is None and target in self._ends and target != source:
            link = self._links[source, target] = Link(self, source, self._ends[target])
            link.disturbances = [one for one, where in self._disturbed if where(source, target)]
            link.refresh()
        return link

    # ------------------------------------------------------------------------------------------------- how links are

    def change(self, **changes: Any) -> None:
        """Change fields of the model for every link without a model of its own: change(loss=0.1)."""
        self.model = _replaced(self.model, changes)
        for link in self._links.values():
            if not link.own:
                link.use(self.model)

    def change_link(self, source: Principal, target: Principal, **changes: Any) -> None:
        """Give one directed link a model of its own: the present one with these fields changed."""
        link = self._existing(source, target)
        link.own = True
        link.use(_replaced(link.model, changes))

    def restore(self) -> None:
        """Every link as the common model has it."""
        for link in self._links.values():
            link.own = False
            link.use(self.model)

    def disturb(self, disturbance: Disturbance, where: Where) -> None:
        """From now on on every link, from one address to another, that `where` names."""
        self._disturbed.append((disturbance, where))
        for (source, target), link in self._links.items():
            if where(source, target):
                link.disturbances = [*link.disturbances, disturbance]
                link.refresh()

    def calm(self, disturbance: Disturbance) -> None:
        """End this one, wherever it is."""
        self._disturbed = [(one, where) for one, where in self._disturbed if one is not disturbance]
        for link in self._links.values():
            if disturbance in link.disturbances:
                link.disturbances = [one for one in link.disturbances if one is not disturbance]
                link.refresh()

    # ---------------------------------------------------------------------------------------------------------- cuts

    def cut(self, a: Principal, b: Principal, one_way: bool = False) -> None:
        """Nothing passes from `a` to `b`, nor back unless `one_way`; what is on its way is lost too."""
        self._existing(a, b).cut = True
        if not one_way:
            self._existing(b, a).cut = True

    def partition(self, *groups: Iterable[Principal]) -> None:
        """Cut all links between members of different groups. Who is in no group reaches everybody."""
        members = [sorted(group, key=repr) for group in groups]
        for place, group in enumerate(members):
            for other in members[place + 1 :]:
                for a in group:
                    for b in other:
                        self.cut(a, b)

    def heal(self) -> None:
        """Undo every cut."""
        for link in self._links.values():
            link.cut = False

    def cuts(self) -> list[tuple[Principal, Principal]]:
        return [ends for ends, link in self._links.items() if link.cut]

    def _existing(self, source: Principal, target: Principal) -> Link:
        if source not in self._ends:
            raise ValueError(f"address {source!r}: known are {sorted(self._ends, key=repr)}")
        link = self.link(source, target)
        if link is None:
            raise ValueError(f"address {target!r}: known to {source!r} are {sorted(self._ends, key=repr)}")
        return link


def _replaced(model: NetworkModel, changes: dict[str, Any]) -> NetworkModel:
    unknown = set(changes) - {field.name for field in fields(NetworkModel)}
    if unknown:
        raise ValueError(f"network model: no field {sorted(unknown)[0]!r}")
    return replace(model, **changes)
