"""A replica in the simulated world: the plug, its outbox and its disk, as one process.

Here: carrying out effects in virtual time. Not here: what the effects mean (`replog.core`), nor how a replica is built
(`replog.node`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from replog.core import (
    Accuse,
    Apply,
    CancelTimer,
    Command,
    Effect,
    Event,
    Members,
    Note,
    Persist,
    Query,
    Received,
    Reply,
    Save,
    Saved,
    Send,
    SetTimer,
    Shun,
    Started,
    Timeout,
    Trim,
)
from replog.node import Plug
from replog.outbox import Outbox
from replog.sim.disk import Disk
from replog.sim.inbox import FairInbox
from replog.sim.network import Frame
from replog.sim.process import Process
from replog.trace import TOLD_LATE, Recorder
from replog.turns import Shunned, Turns, is_nothing
from replog.types import Message, Micros, NodeId, Principal

Build = Callable[["SimNode"], Plug]


class SimNode(Process):
    """Invariant: nothing visible leaves before what was listed ahead of it is on the simulated disk (the outbox)."""

    name: NodeId

    def __init__(
        self,
        *process: Any,
        disk: Disk,
        build: Build,
        recorder: Recorder | None,
        records: Any,
        turns: Turns | None = None,
    ) -> None:
        """`build(node)` makes the plug from `node.disk`, at every start. `turns`: senders are served in turn."""
        super().__init__(*process)
        self.turns = turns
        self.shunned = Shunned()
        self._fair = None if turns is None else FairInbox(turns, self._time)
        if self._fair is not None:
            self._inbox = self._fair  # type: ignore[assignment]
        self.operation_us, self.turn_us = self._costs.operation_us, self._costs.turn_us
        self.disk = disk
        self.disk.on_failed = self.crash
        self.plug: Plug | None = None
        self.outbox = self._new_outbox(recorder)
        self.accusations: list[Accuse] = []
        self._build = build
        self._recorder = recorder
        self._tracer = recorder if recorder is not None and recorder.level == "all" else None
        self._encode_record = records.encode
        self._effects: list[Effect] = []  # of the turn under way: they enter the outbox when it is paid for
        self._targets: set[Principal] = set()
        self._last_to: tuple[NodeId, ...] = ()
        self._carry_out: dict[type[Any], Callable[[Any], None]] = {
            SetTimer: self._set_timer,
            CancelTimer: self._cancel_timer,
            Persist: self._persist,
            Send: self._send,
            Reply: self._reply,
            Apply: self._apply,
            Query: self._query,
            Shun: self._shun,
            Members: self._members,
        }

    @staticmethod
    def _new_outbox(recorder: Recorder | None) -> Outbox:
        return Outbox() if recorder is None else Outbox(TOLD_LATE)

    def _time(self) -> Micros:
        return self.world.now

    # ----------------------------------------------------------------------------------------------------- arrivals

    def receive(self, sender: Principal, frame: Frame) -> None:
        """Who is shunned has no link; what a sender's own queue cannot hold is lost. Neither costs anything."""
        if self.shunned and self.shunned.rule(self.world.now, sender) is not None:
            self.network.dropped["shunned"] += len(frame)
        else:
            super().receive(sender, frame)

    def _full(self, sender: Principal) -> bool:
        return super()._full(sender) if self._fair is None else self._fair.full(sender)

    def _take(self) -> Iterator[tuple[Principal | None, Any]]:
        if self._fair is None:
            yield from super()._take()
            return
        life = self.lives
        for item in self._fair.turn():
            yield item
            if self.lives != life:
                return
        if self._fair.resting:
            self.world.at(self.world.now + self._fair.resting, self._rouse)
        for news in self.turns.take_news() if self.turns is not None else ():
            self._note("flood", {"sender": news.node})
            self.step(news)

    def _rouse(self, _: Any = None) -> None:
        if self._fair is not None:
            self._fair.rouse()
            if len(self._fair):
                self.wake()

    def _shun(self, effect: Shun) -> None:
        if self.shunned.add(self.world.now, effect.client, effect.for_us, effect.rule):
            self._note("shunned", {"client": effect.client, "rule": effect.rule})
        if self._fair is not None:
            self._fair.forget(effect.client)

    def _members(self, effect: Members) -> None:
        """Links to all of them are there already; they take turns."""
        if self.turns is not None:
            known = {node for one in (*effect.configurations, *effect.former) for node in one.ids}
            self.turns.become(sorted(known - {self.name}))

    def _note(self, kind: str, detail: dict[str, Any]) -> None:
        """What the process itself did, among the effects of the replica."""
        if self._tracer is not None:
            self._tracer.effects(self.world.now, self.name, [Note(kind, detail)])

    # ------------------------------------------------------------------------------------------------------- steps

    def step(self, event: Event) -> None:
        """One event through the plug, inside a turn."""
        plug = self.plug
        if plug is None:
            return
        try:
            effects = plug.step(self.local_now, event)
        except Exception as error:
            error.add_note(f"node {self.name} at {self.world.now} us, seed {self.world.seed}, on {event!r:.500}")
            raise
        if self.plug is not plug:
            return  # it was killed by what it did itself
        if self._handling:
            what = event.message if type(event) is Received else event
            self._handled += self._handling.get(type(what).__name__, 0.0)
        if self._tracer is not None:
            self._tracer.event(self.world.now, self.name, event)
            self._tracer.effects(self.world.now, self.name, effects)
        if effects:
            carry_out = self._carry_out
            for effect in effects:
                action = carry_out.get(type(effect))
                if action is not None:
                    action(effect)
            self._effects += effects

    def on_message(self, sender: Principal, message: Message) -> None:
        turns = self.turns
        if turns is None or isinstance(sender, str):
            self.step(Received(sender, message))
            return
        done, verified = len(self._effects), self.meter.verified
        self.step(Received(sender, message))
        if len(self._effects) == done or is_nothing(self._effects[done:]):
            turns.wasted(sender, self._price(self.meter.verified - verified))

    def _price(self, verified: int) -> Micros:
        """About what the message in hand takes of a core."""
        costs = self._costs
        return round(costs.message_us + verified * costs.verify_us + self.handling * costs.byte_ns // 1000)

    def on_timer(self, name: str) -> None:
        self.step(Timeout(name))

    def on_bad_message(self, sender: Principal, why: str) -> None:
        if self._recorder is not None:
            self._recorder.world(self.world.now, self.name, "undecodable", sender=sender, why=why)

    def command(self, command: Command) -> None:
        """An operator's word to this replica."""
        self.do(lambda: self.step(command))

    # -------------------------------------------------------------------------- effects: at once, or into the charge

    def _set_timer(self, effect: SetTimer) -> None:
        self.set_timer(effect.name, effect.delay)

    def _cancel_timer(self, effect: CancelTimer) -> None:
        self.cancel_timer(effect.name)

    def _persist(self, effect: Persist) -> None:
        self._records += 1

    def _send(self, effect: Send) -> None:
        self._messages_out += 1
        if effect.to is not self._last_to:
            self._last_to = effect.to
            self._targets.update(effect.to)
            self._frames_out = len(self._targets)

    def _reply(self, effect: Reply) -> None:
        self._messages_out += 1
        self._targets.add(effect.client)
        self._frames_out = len(self._targets)

    def _apply(self, effect: Apply) -> None:
        self._requests += len(effect.requests)
        for request in effect.requests:
            self._operations += request.count

    def _query(self, effect: Query) -> None:
        self._requests += len(effect.requests)
        for request in effect.requests:
            self._operations += request.count

    def _saved(self, index: int) -> None:
        self.do(lambda: self.step(Saved(index)))

    # ----------------------------------------------------------------------------------- effects: behind the barrier

    def end_turn(self) -> None:
        if self._effects:
            self.outbox.add(self._effects)
            self._effects = []
        if self._targets:
            self._targets.clear()
            self._last_to = ()
        self._release()
        self._write()

    def _release(self) -> None:
        ready = self.outbox.ready()
        if not ready:
            return
        sends: list[tuple[tuple[Principal, ...], Message]] = []
        if self._recorder is not None:
            for effect in ready:
                self._recorder.decision(self.world.now, self.name, effect)
        for effect in ready:
            if type(effect) is Send:
                sends.append((effect.to, effect.message))
            elif type(effect) is Reply:
                sends.append(((effect.client,), effect.message))
            elif type(effect) is Accuse:
                self.accusations.append(effect)
            elif type(effect) is Save:
                self.disk.save(effect.snapshot, self._saved)
            elif type(effect) is Trim:
                self.disk.trim(effect.upto)
        if sends:
            self.transmit(sends)

    def _write(self) -> None:
        """Everything that waits goes into one transaction; the next one begins when this one is durable."""
        if self.disk.writing:
            return
        persists = self.outbox.write()
        if persists:
            encode = self._encode_record
            self.disk.write([(persist.index, encode(persist.record)) for persist in persists], self._durable)

    def _durable(self, count: int) -> None:
        self.unless_paused(lambda: self._written(count))

    def _written(self, count: int) -> None:
        self.outbox.written(count)
        self._release()
        self._write()

    # ------------------------------------------------------------------------------------------------ life and death

    def start(self) -> None:
        """Build the replica from its disk and tell it that it started."""
        super().start()
        self.shunned = Shunned()
        self.outbox = self._new_outbox(self._recorder)
        self.plug = self._build(self)
        if self._recorder is not None:
            saved = self.disk.saved
            index, digest = (saved.index, saved.digest) if saved is not None else (0, b"")
            self._recorder.start(self.world.now, self.name, index, digest)
        self.do(lambda: self.step(Started()))

    def crash(self) -> None:
        """As kill -9, or a power cut: what is not on the disk is gone."""
        self._tell("crash")
        self.stop()
        self.disk.crash()
        self.plug = None
        self._targets.clear()
        self._effects = []
        self._frames_out = self._messages_out = self._records = self._operations = self._requests = 0
        self._handled = 0.0

    def pause(self) -> None:
        self._tell("pause")
        super().pause()

    def resume(self) -> None:
        self._tell("resume")
        super().resume()

    def _tell(self, kind: str, **detail: Any) -> None:
        if self._recorder is not None:
            self._recorder.world(self.world.now, self.name, kind, **detail)
