"""A simulated process: an address, one thread, timers, and a share of the machine's cores.

Here: what replicas and clients have in common. Not here: what they do in a turn (`replog.sim.node`, `client`).

A process works in turns. A turn takes what waits in the inbox (bounded), does the work at once and is charged for it;
what it sends leaves when the charge is paid, and until then the process takes nothing new.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from replog.codec import BadMessage, Codec
from replog.meters import Meter
from replog.sim.costs import CostModel
from replog.sim.network import Frame, Link, Network
from replog.sim.world import Clock, World
from replog.types import Message, Micros, Principal

TURN_FRAMES = 64
"""The most frames of one turn: a busy process still lets others have the core."""
INBOX_FRAMES = 20_000
INBOX_BYTES = 128 * 1024 * 1024
"""What waits for a process; the answer when full is to drop the newest, as a receiving socket would."""

LINK_GROUPS = 4_096
"""Groups of addresses whose links a process remembers; it looks up those of any further group each time."""


class Cores:
    """The machine's cores, given in the order of asking. 0 cores: every process has one of its own."""

    def __init__(self, number: int) -> None:
        self._shared = number > 0
        self._free = number
        self._queue: deque[Process] = deque()

    def want(self, process: Process) -> None:
        """Let `process` run, now or when a core is free."""
        if not self._shared:
            process.run()
        elif self._free:
            self._free -= 1
            process.run()
        else:
            self._queue.append(process)

    def forget(self, process: Process) -> None:
        """It wants no core any more."""
        if process in self._queue:
            self._queue.remove(process)

    def release(self, _: Any = None) -> None:
        if not self._shared:
            return
        self._free += 1
        while self._free and self._queue:
            self._free -= 1
            self._queue.popleft().run()


class Timer:
    """One name. Setting and cancelling cost nothing in the heap as long as the planned event is not too late.

    Invariant: `ripe` only between running out and being handled, and never after it was set again or cancelled (X13).
    """

    __slots__ = ("deadline", "name", "planned", "ripe")

    def __init__(self, name: str) -> None:
        self.name = name
        self.deadline: Micros | None = None
        self.planned: Micros | None = None
        self.ripe = False


class Process:
    """Invariants:
    at most one turn is under way
    a process that is down or paused starts no turn
    """

    operation_us: float
    turn_frames = TURN_FRAMES

    def __init__(
        self, world: World, network: Network, cores: Cores, costs: CostModel, name: Principal, codec: Codec[Any]
    ) -> None:
        self.name = name
        self.world = world
        self.network = network
        self.clock = Clock(world, world.stream(f"clock/{name!r}").randint(-1_000, 1_000))
        self.meter = Meter()
        self.up = True
        self.paused = False
        self.slow_us: Micros = 0
        self.local_now: Micros = 0
        """What its monotonic clock showed when the turn began."""
        # What it did, since ever.
        self.delivered = 0
        self.undecodable = 0
        self.sent_frames = 0
        self.sent_bytes = 0
        self.sent_kinds: Counter[type[Message]] = Counter()
        self.turns_taken = 0
        self.busy_us = 0
        self.handling = 0
        """Bytes of the message that is being handled."""
        self.turn_us = 0.0
        self.frame_in_us = costs.frame_in_us
        self.frame_out_us = costs.frame_out_us
        self._cores = cores
        self._costs = costs
        self._decode = codec.decode
        self._encode = codec.encode
        self._inbox: deque[tuple[Principal | None, Any]] = deque()
        self._waiting = 0
        """Bytes of frames that came in and were in no turn yet."""
        self._links: dict[tuple[Principal, ...], list[Link]] = {}
        self._timers: dict[str, Timer] = {}
        self._busy = False
        self._held: list[Callable[[], None]] = []
        self.lives = 0
        self._charged = (0, 0, 0)
        # Work of the turn under way, to be charged.
        self._frames_out = 0
        self._messages_out = 0
        self._records = 0
        self._operations = 0
        self._requests = 0
        self._handled = 0.0
        self._handling = costs.handling
        network.join(self)

    # ------------------------------------------------------------------------------------------ what subclasses do

    def on_message(self, sender: Principal, message: Any) -> None:
        raise NotImplementedError

    def on_timer(self, name: str) -> None:
        raise NotImplementedError

    def on_bad_message(self, sender: Principal, why: str) -> None:
        """A message that is none ended at the codec."""

    def end_turn(self) -> None:
        """The work of the turn is paid for: what it sends leaves now."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------------- turns

    def receive(self, sender: Principal, frame: Frame) -> None:
        if not self.up:
            self.network.dropped["down"] += len(frame)
        elif self._full(sender):
            self.network.dropped["full"] += len(frame)
        else:
            self._waiting += sum(map(len, frame))
            self._inbox.append((sender, frame))
            if not self._busy:
                self.wake()

    def _full(self, sender: Principal) -> bool:
        return len(self._inbox) >= INBOX_FRAMES or self._waiting >= INBOX_BYTES

    def do(self, action: Callable[[], None]) -> None:
        """Do this in a turn, behind what waits already. A process that is down is told nothing, now or later."""
        if self.up:
            self._inbox.append((None, action))
            self.wake()

    def wake(self) -> None:
        """Start a turn unless one is under way or asked for."""
        if not self._busy and not self.paused and self.up:
            self._busy = True
            self._cores.want(self)

    def run(self) -> None:
        """A core is given: do the turn."""
        if not self.up or self.paused:
            self._busy = False
            self._cores.release()
            return
        life, self.local_now = self.lives, self.clock.monotonic()
        decode, on_message = self._decode, self.on_message
        frames = messages = size = 0
        for sender, load in self._take():
            if sender is None:
                load()
                continue
            frames += 1
            messages += len(load)
            for raw in load:
                self.handling = len(raw)
                size += self.handling
                try:
                    message = decode(raw)
                except BadMessage as error:
                    self.undecodable += 1
                    self.on_bad_message(sender, str(error))
                    continue
                on_message(sender, message)
        self.delivered += messages
        if life == self.lives:
            self._waiting -= size
        self._pay(life, frames, messages, size)

    def _take(self) -> Iterator[tuple[Principal | None, Any]]:
        """What this turn does. The rest is gone if the process is killed by what it does itself."""
        inbox, life = self._inbox, self.lives
        for _ in range(min(len(inbox), self.turn_frames)):
            if self.lives != life:
                return
            yield inbox.popleft()

    def _pay(self, life: int, frames: int, messages: int, size: int) -> None:
        costs, meter = self._costs, self.meter
        signed, verified, macs = self._charged
        self._charged = (meter.signed, meter.verified, meter.macs)
        price = int(
            self.turn_us
            + self._handled
            + self._requests * costs.request_us
            + frames * self.frame_in_us
            + self._frames_out * self.frame_out_us
            + (messages + self._messages_out) * costs.message_us
            + size * costs.byte_ns / 1000
            + (costs.commit_us if self._records else 0)
            + self._records * costs.record_us
            + self._operations * self.operation_us
            + (meter.signed - signed) * costs.sign_us
            + (meter.verified - verified) * costs.verify_us
            + (meter.macs - macs) * costs.mac_us
        )
        self._frames_out = self._messages_out = self._records = self._operations = self._requests = 0
        self._handled = 0.0
        self.turns_taken += 1
        self.busy_us += price
        end = self.world.now + price
        if self.slow_us:
            self.world.at(end, self._cores.release)
            self.world.at(end + self.slow_us, self._paid, (life, False))
        else:
            heapq.heappush(self.world.heap, (end, self.world.number(), self._paid, (life, True)))

    def _paid(self, turn: tuple[int, bool]) -> None:
        life, holds_core = turn
        if life == self.lives:
            self.unless_paused(self._end)
        if holds_core:
            self._cores.release()

    def _end(self) -> None:
        self._busy = False
        self.end_turn()
        if self._inbox:
            self.wake()

    def unless_paused(self, action: Callable[[], None]) -> None:
        """Do it now, or first thing when the process goes on."""
        if self.paused:
            self._held.append(action)
        else:
            action()

    # ------------------------------------------------------------------------------------------------------ timers

    def set_timer(self, name: str, delay: Micros) -> None:
        timer = self._timers.get(name)
        if timer is None:
            timer = self._timers[name] = Timer(name)
        timer.ripe = False
        timer.deadline = self.clock.due(delay)
        if timer.planned is None or timer.planned > timer.deadline:
            self._plan(timer, timer.deadline)

    def cancel_timer(self, name: str) -> None:
        timer = self._timers.get(name)
        if timer is not None:
            timer.ripe, timer.deadline = False, None

    def _plan(self, timer: Timer, time: Micros) -> None:
        timer.planned = time
        self.world.at(time, self._ring, timer)

    def _ring(self, timer: Timer) -> None:
        if timer.planned != self.world.now:
            return  # an earlier planning took this one's place
        timer.planned = None
        if timer.deadline is None:
            if self._timers.get(timer.name) is timer:
                del self._timers[timer.name]
        elif timer.deadline > self.world.now:
            self._plan(timer, timer.deadline)
        else:
            timer.ripe = True
            self.do(lambda: self._expire(timer))

    def _expire(self, timer: Timer) -> None:
        if timer.ripe:
            timer.ripe, timer.deadline = False, None
            self.on_timer(timer.name)

    # ----------------------------------------------------------------------------------------------------- sending

    def transmit(self, sends: Sequence[tuple[tuple[Principal, ...], Message]]) -> None:
        """Send messages; those to one address travel in one frame. Each is encoded once."""
        first = sends[0][0]
        if self.network.filter is not None or any(targets != first for targets, _ in sends):
            self._transmit_apart(sends)
            return
        frame = [self._encode(message) for _, message in sends]
        for _, message in sends:
            self.sent_kinds[type(message)] += len(first)
        self._put(first, frame)

    def _transmit_apart(self, sends: Sequence[tuple[tuple[Principal, ...], Message]]) -> None:
        frames: dict[Principal, list[bytes]] = {}
        keep = self.network.filter
        for targets, message in sends:
            raw = self._encode(message)
            self.sent_kinds[type(message)] += len(targets)
            for target in targets:
                if keep is not None and not keep(self.name, target, message):
                    self.network.dropped["filter"] += 1
                elif target in frames:
                    frames[target].append(raw)
                else:
                    frames[target] = [raw]
        for target, frame in frames.items():
            self._put((target,), frame)

    def _put(self, targets: tuple[Principal, ...], frame: list[bytes]) -> None:
        links = self._links.get(targets)
        if links is None:
            links = self._find(targets)
            if len(self._links) < LINK_GROUPS:
                self._links[targets] = links
        size = sum(map(len, frame))
        self.sent_frames += len(links)
        self.sent_bytes += size * len(links)
        for link in links:
            link.send(frame, size)
        if len(links) < len(targets):
            self.network.dropped["unknown"] += len(frame) * (len(targets) - len(links))

    def _find(self, targets: tuple[Principal, ...]) -> list[Link]:
        links = [self.network.link(self.name, target) for target in targets]
        return [link for link in links if link is not None]

    # ------------------------------------------------------------------------------------------------------ faults

    def stop(self) -> None:
        """The end of this life: memory, timers and queued frames are gone."""
        self.up = False
        self.paused = False
        self.lives += 1
        self._busy = False
        self._cores.forget(self)
        self._inbox.clear()
        self._waiting = 0
        self._held.clear()
        for timer in self._timers.values():
            timer.ripe, timer.deadline = False, None
        self._timers.clear()

    def start(self) -> None:
        self.up = True

    def pause(self) -> None:
        """As SIGSTOP does: nothing runs, frames queue, timers run out unseen."""
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        held, self._held = self._held, []
        for action in held:
            action()
        self.wake()
