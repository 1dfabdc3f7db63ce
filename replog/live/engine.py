"""One replica in an asyncio loop, in turns: take all frames that have come, commit once, send one frame a peer.

Here: turns, timers, the disk barrier, checkpoints in the background. Not here: sockets (`links`), who is let in and how
a process starts and ends (`node`). The engine is handed a `Transport`; it owns the storage while it runs.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from replog.codec import FRAME_BYTES_MAX, BadMessage, pack_frame
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
    ProtocolSpec,
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
from replog.live.counters import Counters
from replog.live.inbox import Inbox, Queue
from replog.membership import ConfigurationAnswer, ConfigurationQuestion
from replog.node import Plug
from replog.outbox import Outbox
from replog.storage import PERIOD_S, DiskFull, Storage
from replog.trace import TOLD_LATE, Recorder
from replog.turns import Shunned, Turns, is_nothing, units_of
from replog.types import (
    Answer,
    LogReply,
    LogRequest,
    Message,
    Micros,
    NodeId,
    Principal,
    Request,
    StatusReply,
    StatusRequest,
    Submit,
    decode_status,
    encode_status,
)
from replog.types import Reply as ClientReply

log = logging.getLogger("replog.node")

INLINE_COMMIT_S = 0.001
"""Commits block the loop while their median stays below this; a hop to a thread and back costs about 40 us."""
MEDIAN_OF = 15
FULL_RETRY_S = 0.5
"""A write for which there was no room is tried again so often."""
ROOM_BYTES = 16 * 1024 * 1024
"""With less room than this clients' writes are refused: votes, and the checkpoint that lets the log be cut, need it."""
LOOK_S = 0.25
"""So often it is asked how much room there is, while clients write."""
_LEVELS = {
    "view": logging.INFO,
    "complaint": logging.INFO,
    "term": logging.INFO,
    "refresh": logging.INFO,
    "refreshed": logging.INFO,
    "refresh-put-off": logging.INFO,
    "refresh-refused": logging.WARNING,
    "refresh-failed": logging.WARNING,
    "lost-entries": logging.WARNING,
    "old-disk": logging.WARNING,
    "old-disk-forgiven": logging.INFO,
    "diverged": logging.WARNING,
    "flood": logging.WARNING,
    "epoch": logging.INFO,
    "configuration": logging.INFO,
    "caught-up": logging.INFO,
    "change-given-up": logging.WARNING,
    "paused": logging.INFO,
    "resumed": logging.INFO,
}
"""Notes that an operator should see."""
ANSWERS_BYTES = 1024 * 1024
"""A client's questions for this replica's own word wait while answers of more than this are on their way to it."""
MESSAGE_NS, BYTE_NS, VERIFY_NS = 4_000, 4, 41_000
"""What a message takes, and each byte of it and each signature, about (`replog.sim.costs`): clocks would count what
other processes take too."""
QUESTIONS = frozenset({LogRequest, StatusRequest, ConfigurationQuestion})
ANSWERS = frozenset({LogReply, StatusReply, ConfigurationAnswer})


class Transport(Protocol):
    def send(self, to: Principal, frame: bytes) -> None:
        """To a replica or a client, if it is connected; may be lost."""
        ...

    def room(self, client: str, within: int, call: Callable[[], None]) -> bool:
        """Whether at most `within` bytes wait on each link of a client; if not, `call` is called when they may."""
        ...

    def refuse(self, peer: Principal, rule: str) -> None:
        """The peer sent what nobody may send: end its link."""
        ...

    def members(self, members: Members) -> None:
        """Be linked with these replicas."""
        ...

    def shun(self, client: str, rule: str) -> None:
        """The client is not heard for a while: end its links, and say why. `Engine.shunned` tells for how long."""
        ...


def monotonic() -> Micros:
    return time.monotonic_ns() // 1000


class Timers:
    """Named timers; a cancelled or replaced arming never fires (HAZARDS X13)."""

    def __init__(self, fire: Callable[[], None]) -> None:
        self._fire = fire
        self._armed: dict[str, tuple[int, asyncio.TimerHandle]] = {}
        self._generation = 0
        self._due: list[tuple[str, int]] = []

    def set(self, name: str, delay: Micros) -> None:
        self.cancel(name)
        self._generation += 1
        handle = asyncio.get_running_loop().call_later(delay / 1e6, self._expire, name, self._generation)
        self._armed[name] = (self._generation, handle)

    def cancel(self, name: str) -> None:
        armed = self._armed.pop(name, None)
        if armed is not None:
            armed[1].cancel()

    def _expire(self, name: str, generation: int) -> None:
        self._due.append((name, generation))
        self._fire()

    def take(self) -> list[tuple[str, int]]:
        """What has run out since the last call; ask `claim` for each before it counts."""
        due, self._due = self._due, []
        return due

    def claim(self, name: str, generation: int) -> bool:
        """Whether this arming still stands: an earlier event of the same turn may have set or cancelled it."""
        armed = self._armed.get(name)
        if armed is None or armed[0] != generation:
            return False
        del self._armed[name]
        return True

    def clear(self) -> None:
        for name in list(self._armed):
            self.cancel(name)


class Disk:
    """The durability barrier over a Storage: at most one write at a time, inline while the disk is fast.

    Invariant: records are handed to the storage in the order in which they were listed, and a Trim drops only records
    that were listed before it.
    """

    def __init__(
        self,
        storage: Storage,
        encode: Callable[[Any], bytes],
        progress: Callable[[], None],
        also: tuple[type, ...] = (),
    ) -> None:
        """`also`: kinds of effects that the outbox lets out besides the visible ones."""
        self.outbox = Outbox(also)
        self.commits = 0
        """Transactions of records, not those that only trim."""
        self.torn = storage.torn
        """Whether the end of the log was cut off at the start."""
        self._storage = storage
        self._encode = encode
        self._progress = progress
        self._listed = storage.appended
        self._trims: deque[int] = deque()
        self._waiting_trims: list[tuple[int, int]] = []
        self._durations: deque[float] = deque(maxlen=MEDIAN_OF)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._writing: asyncio.Future[None] | None = None
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._saving: asyncio.Future[None] | None = None
        self._next_save: Any = None
        self._last_save: Any = None
        self.full = ""
        """Why the last write found no room; "" once one has."""
        self._batch: tuple[list[tuple[int, bytes]], tuple[int, int] | None] | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._flush_due: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Future[None] | None = None
        self._looked = 0.0
        self._low = ""

    def add(self, effects: list[Effect]) -> None:
        for effect in effects:
            if type(effect) is Persist:
                self._listed += 1
            elif type(effect) is Trim:
                self._trims.append(self._listed)
        self.outbox.add(effects)

    def commit(self) -> None:
        """Write what is listed and not written, unless a write is under way or waits for room. Raises StorageFailed."""
        if self._flushing is not None and self._flushing.done():
            flushing, self._flushing = self._flushing, None
            flushing.result()
        if self._writing is not None:
            if not self._writing.done():
                return
            self._settle(self._writing)
            if self._writing is not None:
                self._writing.result()
        if self._resting is not None:
            return
        while (batch := self._batch or self._next_batch()) is not None:
            self._batch = batch
            work = functools.partial(self._write, *batch)
            if self._durations and statistics.median(self._durations) >= INLINE_COMMIT_S:
                self._writing = asyncio.get_running_loop().run_in_executor(self._thread, work)
                self._writing.add_done_callback(self._written)
                return
            try:
                work()
            except DiskFull as error:
                self._rest(error)
                return
            self._done()

    def _next_batch(self) -> tuple[list[tuple[int, bytes]], tuple[int, int] | None] | None:
        records = self.outbox.write()
        trim = self._due_trim()
        if not records and trim is None:
            return None
        return [(one.index, self._encode(one.record)) for one in records], trim

    def _write(self, records: list[tuple[int, bytes]], trim: tuple[int, int] | None) -> None:
        begin = time.perf_counter()
        self._storage.append(records)
        if records:
            self._durations.append(time.perf_counter() - begin)
        if trim is None:
            return
        try:
            self._storage.trim(*trim)
        except DiskFull:
            self._waiting_trims.append(trim)  # the records are there; what they replace goes with a later write

    def _written(self, writing: asyncio.Future[None]) -> None:
        if not writing.cancelled():
            self._settle(writing)
        self._progress()

    def _settle(self, writing: asyncio.Future[None]) -> None:
        """A write has ended. What it raised, if it is not for want of room, is raised by the next `commit`."""
        error = writing.exception()
        if self._writing is not writing or not (error is None or isinstance(error, DiskFull)):
            return
        self._writing = None
        if error is None:
            self._done()
        else:
            self._rest(error)

    def _done(self) -> None:
        records, _ = self._batch or ([], None)
        self._batch = None
        self.commits += bool(records)
        self.outbox.written(len(records))
        if self._storage.flushes and self._flush_due is None:
            self._flush_due = asyncio.get_running_loop().call_later(PERIOD_S, self._flush)
        if self.full and self._next_save is None:
            log.warning("there is room on the disk again: writing goes on")
            self.full = ""

    # ------------------------------------------------------------------------------------------------------- no room

    def _rest(self, error: DiskFull) -> None:
        """Nothing of it was written, and nothing behind it is said. It is tried again, as long as it takes."""
        if not self.full:
            log.error("%s: clients' writes are refused, and nothing is promised, until there is room", error)
        self.full = str(error)
        if self._resting is None:
            self._resting = asyncio.get_running_loop().call_later(FULL_RETRY_S, self._try_again)

    def _flush(self) -> None:
        """What was written since the last time; one at a time, behind the writes."""
        self._flush_due = None
        self._flushing = asyncio.get_running_loop().run_in_executor(self._thread, self._storage.flush)
        self._flushing.add_done_callback(lambda _: self._progress())

    def _try_again(self) -> None:
        self._resting = None
        if self._saving is None and self._next_save is not None:
            self._save_next()
        self._progress()

    @property
    def refusal(self) -> str:
        """Why no client's write is to be taken: there is no room, or so little that promises will need it. Else ""."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            room = self._storage.room()
            self._low = (
                "" if room >= ROOM_BYTES else f"{room // 1024} KiB left on the disk, {ROOM_BYTES // 1024} wanted"
            )
        return self.full or self._low

    def trim(self, upto: int) -> None:
        """A Trim has come to its turn: it is done once a checkpoint at or beyond it is saved."""
        self._waiting_trims.append((upto, self._trims.popleft()))

    def _due_trim(self) -> tuple[int, int] | None:
        due = [trim for trim in self._waiting_trims if trim[0] <= self._storage.saved_index]
        if not due:
            return None
        self._waiting_trims = [trim for trim in self._waiting_trims if trim not in due]
        return max(due)

    def save(self, snapshot: Any) -> None:
        """Write a checkpoint in the background; of those that wait behind another only the newest."""
        self._next_save = snapshot
        if self._saving is None:
            self._save_next()

    def _save_next(self) -> None:
        snapshot, self._next_save = self._next_save, None
        self._last_save = snapshot
        self._saving = asyncio.get_running_loop().run_in_executor(self._saver, self._storage.save, snapshot)
        self._saving.add_done_callback(lambda _: self._progress())

    def take_saved(self) -> int | None:
        """Index of a checkpoint that has come to the disk since the last call; goes on with the next one.

        Raises StorageFailed if it could not be written.
        """
        if self._saving is None or not self._saving.done():
            return None
        saving, self._saving = self._saving, None
        try:
            saving.result()
        except DiskFull as error:
            self._next_save = self._next_save or self._last_save
            self._rest(error)
            return None
        if self._next_save is None and self._batch is None:
            self.full = ""
        if self._next_save is not None:
            self._save_next()
        return self._storage.saved_index

    async def close(self) -> None:
        """Wait for what is being written. Records listed and not yet being written were never promised."""
        for timer in (self._resting, self._flush_due):
            if timer is not None:
                timer.cancel()
        under_way = [future for future in (self._writing, self._saving, self._flushing) if future is not None]
        await asyncio.gather(*under_way, return_exceptions=True)
        self._thread.shutdown()
        self._saver.shutdown()
        self._storage.close()


class Engine:
    """Invariant: every event reaches the replica from within a turn, and turns do not overlap."""

    def __init__(
        self,
        me: NodeId,
        spec: ProtocolSpec,
        replica: Plug,
        storage: Storage,
        transport: Transport,
        recorder: Recorder | None = None,
        counters: Counters | None = None,
        turns: Turns | None = None,
        keep: Callable[[Accuse, Micros, Micros], object] | None = None,
        archive: Callable[[Message], None] | None = None,
    ) -> None:
        """`counters`: those that the replica's signer and verifier count in. `turns`: who is served when.
        `keep(accusation, own time, agreed time)` puts evidence away; it is called in a thread, one at a time. `archive`
        is shown every record."""
        self.replica = replica
        self.counters = counters if counters is not None else Counters()
        self.own: dict[str, int | str] = {}
        """What the process has it tell of itself, beside its own status."""
        self.disk = Disk(storage, spec.records.encode, self.wake, TOLD_LATE if recorder is not None else ())
        self.counts: Counter[str] = Counter()
        self._me = me
        self._spec = spec
        self._transport = transport
        self._recorder = recorder
        self._timers = Timers(self.wake)
        self.shunned = Shunned()
        """Clients that are not heard now."""
        self._turns = turns
        self._inbox = Inbox(turns)
        self._epoch = 0
        self._ended: list[str] = []  # clients whose queues are to be forgotten after the turn
        self._owed: Counter[str] = Counter()
        self._awake = asyncio.Event()
        self._on_turn: list[Callable[[], None]] = []
        self._paused: list[asyncio.Future[None]] = []
        self._keep = keep
        self._archive = archive
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="evidence")
        self._agreed: Micros = 0
        self._commands: list[Command] = []
        self._on_note: list[Callable[[Note], None]] = []

    def receive(self, sender: Principal, frame: bytes, handled: Callable[[int], None]) -> None:
        """A frame from `sender`, as the link proved it; `handled(size)` is called in the turn that is done with it."""
        self.counters.frames_received += 1
        shunned = self.shunned and self.shunned.rule(monotonic(), sender) is not None
        if shunned or not self._inbox.put(sender, frame, handled):
            self.counts["frames not taken"] += 1
            handled(len(frame))
        self._awake.set()

    def full(self, sender: Principal) -> bool:
        """Whether so much of `sender` waits that its links are to be read no further."""
        return self._inbox.full(sender)

    async def room(self, sender: Principal) -> None:
        """Until there is room for what `sender` sends."""
        while self._inbox.full(sender):
            self._paused.append(asyncio.get_running_loop().create_future())
            await self._paused[-1]

    def _resume(self) -> None:
        paused, self._paused = self._paused, []
        for future in paused:
            if not future.done():
                future.set_result(None)

    def wake(self) -> None:
        self._awake.set()

    def command(self, command: Command) -> None:
        """An operator's word to this replica, for the next turn."""
        self._commands.append(command)
        self.wake()

    def hear_notes(self, call: Callable[[Note], None]) -> None:
        """Have `call` called with every note of the replica."""
        self._on_note.append(call)

    def after_turns(self, call: Callable[[], None]) -> None:
        """Have `call` called at the end of every turn, the next one soon, until `forget`."""
        self._on_turn.append(call)
        self.wake()

    def forget(self, call: Callable[[], None]) -> None:
        if call in self._on_turn:
            self._on_turn.remove(call)

    async def run(self) -> None:
        """Turns, for ever. Ends only by what is our own bug or the disk's failure: both raise out of here."""
        self._step(Started())
        self._finish()
        while True:
            await self._awake.wait()
            self._awake.clear()
            self._turn()
            if self._awake.is_set():
                await asyncio.sleep(0)  # an event that is set does not wait, and links and timers want their turn

    def _turn(self) -> None:
        self.counters.turns += 1
        for sender, queue, share in self._inbox.turn(monotonic()):
            self._take(sender, queue, share)
        for news in self._turns.take_news() if self._turns is not None else ():
            self._note(Note("flood", {"sender": news.node, "what": "little is taken of it for some seconds"}))
            self._step(news)
        commands, self._commands = self._commands, []
        for command in commands:
            self._step(command)
        for name, generation in self._timers.take():
            if self._timers.claim(name, generation):
                self._step(Timeout(name))
        self._finish()
        while self._ended:
            self._inbox.forget(self._ended.pop())
        self._resume()
        for call in tuple(self._on_turn):
            call()
        if self._inbox.resting:
            asyncio.get_running_loop().call_later(self._inbox.resting / 1e6, self.wake)
        elif any(isinstance(sender, int) or self._may_ask(sender) for sender in self._inbox.waiting()):
            self._awake.set()

    def _take(self, sender: Principal, queue: Queue, left: int) -> None:
        """A turn's share of what waits of `sender`."""
        decode = self._spec.messages.decode
        while queue and left > 0:
            try:
                raws = queue.some(left)
                messages = [decode(raw) for raw in raws]
            except BadMessage as error:
                self.counts["bad frames"] += 1
                queue.drop()
                left -= 1
                self._transport.refuse(sender, str(error))
                continue
            handled = self._handle(sender, messages, raws)
            queue.done(handled)
            if handled < len(raws):
                return
            left -= units_of(handled, sum(map(len, raws)))

    def _handle(self, sender: Principal, messages: list[Message], raws: list[bytes]) -> int:
        """How many of them, in order: the rest waits behind a question that may not be asked yet."""
        if isinstance(sender, int):
            self._handle_of_replica(sender, messages, raws)
            return len(messages)
        for place, message in enumerate(messages):
            if self.shunned and self.shunned.rule(monotonic(), sender) is not None:
                return len(messages)
            if type(message) is Submit and (why := self.disk.refusal):
                self._refuse(sender, message, why)
                continue
            if type(message) is StatusRequest and self.disk.full:
                self._tell_status(sender, message)
                continue
            question = type(message) in QUESTIONS
            if question and not self._may_ask(sender):
                return place
            self.counters.client_received.add(message, len(raws[place]))
            effects = self._step(Received(sender, message))
            if question:
                self._owed[sender] += sum(_answer_bytes(effect) for effect in effects)
        return len(messages)

    def _refuse(self, client: str, message: Submit, why: str) -> None:
        """A clear word, past the barrier: it promises nothing, and rests on nothing that is not on the disk."""
        self.counts["writes refused: no room"] += 1
        try:
            request = Request(message.request)
        except BadMessage as error:
            self._transport.refuse(client, str(error))
            return
        status = self.replica.status()
        log.debug("a write of %s is refused: %s", client, why)
        answer = ClientReply(request.timestamp, Answer.OVERLOADED, b"", status.view, status.leader, epoch=self._epoch)
        self._transport.send(client, pack_frame([self._spec.messages.encode(answer)]))

    def _tell_status(self, client: str, message: StatusRequest) -> None:
        """What this replica says of itself while its disk lets nothing else out."""
        reply = Reply(client, StatusReply(message.token, encode_status(self.replica.status())))
        self._owed[client] += _answer_bytes(reply)
        self._transport.send(client, pack_frame([self._spec.messages.encode(self._with_counters(reply))]))

    def _handle_of_replica(self, sender: NodeId, messages: list[Message], raws: list[bytes]) -> None:
        """What each took of the processor is held against the sender if it brought nothing about."""
        received, meter, wasted = self.counters.received, self.counters.meter, 0
        for message, raw in zip(messages, raws, strict=True):
            received.add(message, len(raw))
            verified = meter.verified
            if is_nothing(self._step(Received(sender, message))):
                wasted += MESSAGE_NS + len(raw) * BYTE_NS + (meter.verified - verified) * VERIFY_NS
        if self._turns is not None:
            self._turns.wasted(sender, wasted // 1000)

    def _may_ask(self, client: str) -> bool:
        """Answers are built only while those before them are nearly gone: a few bytes ask for megabytes."""
        return self._owed[client] <= ANSWERS_BYTES and self._transport.room(client, ANSWERS_BYTES, self.wake)

    def _step(self, event: Event) -> list[Effect]:
        now = monotonic()
        effects = self.replica.step(now, event)
        if self._recorder is not None:
            self._recorder.event(now, self._me, event)
            self._recorder.effects(now, self._me, effects)
        if not effects:
            return effects
        self.disk.add(effects)
        for effect in effects:
            if type(effect) is SetTimer:
                self._timers.set(effect.name, effect.delay)
            elif type(effect) is CancelTimer:
                self._timers.cancel(effect.name)
            elif type(effect) is Note:
                self._note(effect)
            elif type(effect) is Shun:
                self._shun(now, effect)
            elif type(effect) is Members:
                self._members(effect)
            elif type(effect) is Apply:
                self._agreed = effect.time
            elif type(effect) is Persist and self._archive is not None:
                self._archive(effect.record)
        return effects

    def _members(self, effect: Members) -> None:
        peers = {node for each in effect.configurations for node in each.ids} - {self._me}
        self._epoch = effect.configurations[0].epoch
        if self._turns is not None:
            self._turns.become(sorted(peers))
        self._transport.members(effect)

    def _shun(self, now: Micros, effect: Shun) -> None:
        """Its links end now, what waits of it is dropped after the turn, and new links are refused for a while."""
        if not self.shunned.add(now, effect.client, effect.for_us, effect.rule):
            return
        rule = self.shunned.rule(now, effect.client) or effect.rule
        log.warning("%s", rule)
        self._ended.append(effect.client)
        self._transport.shun(effect.client, rule)

    def _note(self, note: Note) -> None:
        self.counts[note.kind] += 1
        level = _LEVELS.get(note.kind, logging.DEBUG)
        log.log(level, "%s %s", note.kind, note.detail)
        for call in self._on_note:
            call(note)

    def _finish(self) -> None:
        """Commit once, then let out what waits for no write any more, one frame a receiver."""
        saved = self.disk.take_saved()
        if saved is not None:
            self._step(Saved(saved))
        self.disk.commit()
        out: dict[Principal, list[bytes]] = {}
        encode, counters = self._spec.messages.encode, self.counters
        for effect in self.disk.outbox.ready():
            if self._recorder is not None:
                self._recorder.decision(monotonic(), self._me, effect)
            if type(effect) is Send:
                raw = encode(effect.message)
                counters.sent.add(effect.message, len(raw), len(effect.to))
                for node in effect.to:
                    out.setdefault(node, []).append(raw)
            elif type(effect) is Reply:
                raw = encode(self._with_counters(effect))
                counters.client_sent.add(effect.message, len(raw))
                out.setdefault(effect.client, []).append(raw)
            elif type(effect) is Trim:
                self.disk.trim(effect.upto)
            elif type(effect) is Save:
                self.disk.save(effect.snapshot)
            elif type(effect) is Accuse:
                self._accuse(effect)
        for to, messages in out.items():
            for frame in frames_of(messages):
                self.counters.frames_sent += 1
                self._transport.send(to, frame)

    def _accuse(self, accusation: Accuse) -> None:
        """Evidence is written behind everybody's back: it is a matter of record, nobody waits for it."""
        self.counts["accusations"] += 1
        log.warning("%s is a liar: %s", accusation.culprit, accusation.kind)
        if self._keep is not None:
            kept = self._keeper.submit(self._keep, accusation, time.time_ns() // 1000, self._agreed)
            kept.add_done_callback(functools.partial(_tell_of_loss, accusation))

    def _with_counters(self, effect: Reply) -> Message:
        """What to send: the replica's own word says what its process did; any other message stays as it is."""
        message = effect.message
        if type(message) in ANSWERS:
            self._owed[effect.client] -= _answer_bytes(effect)
        if type(message) is not StatusReply:
            return message
        self.counters.commits = self.disk.commits
        reply = self.counters.told_in(message)
        if not (own := self._own_word()):
            return reply
        status = decode_status(reply.status)
        status = msgspec.structs.replace(status, detail={**status.detail, **own})
        return StatusReply(reply.token, encode_status(status))

    def _own_word(self) -> dict[str, Any]:
        """What only the process knows, where it is out of the ordinary."""
        own: dict[str, Any] = {**self.own, **({"log": "torn at the start"} if self.disk.torn else {})}
        if why := self.disk.refusal:
            own["disk"] = f"no room, writes are refused: {why}"
        if self._turns is not None and self._turns.floods:
            own["floods"] = ", ".join(f"node {node} x{times}" for node, times in sorted(self._turns.floods.items()))
        return own | ({"shunned": self.shunned.count} if self.shunned.count else {})

    async def close(self) -> None:
        self._timers.clear()
        self._keeper.shutdown()
        await self.disk.close()


def _answer_bytes(effect: Effect) -> int:
    """About what an answer to a question will take on the link."""
    message = effect.message if type(effect) is Reply else None
    if type(message) is LogReply:
        return 64 + sum(len(raw) for entry in message.entries for raw in entry.requests)
    if type(message) is ConfigurationAnswer:
        return 64 + sum(len(link.certificate) + sum(map(len, link.path)) for link in message.links)
    return 1024 if type(message) is StatusReply else 0


def frames_of(messages: list[bytes]) -> Iterator[bytes]:
    """As few frames as the largest size allows, in order. A message that no frame can hold is not sent."""
    batch: list[bytes] = []
    size = 0
    for raw in messages:
        if len(raw) + _HEADS > FRAME_BYTES_MAX:
            log.error("a message of %d bytes fits no frame and is not sent", len(raw))
            continue
        if batch and size + len(raw) + _HEADS > FRAME_BYTES_MAX:
            yield pack_frame(batch)
            batch, size = [], 0
        batch.append(raw)
        size += len(raw) + _HEADS
    if batch:
        yield pack_frame(batch)


_HEADS = 10  # what msgpack puts before a frame and before a message in it, at most


def _tell_of_loss(accusation: Accuse, kept: Future[object]) -> None:
    """Whatever went wrong: nobody else would hear of it."""
    error = kept.exception()
    if error is not None:
        what = f"{type(error).__name__}: {error}"
        log.error("evidence of %s against %s is lost: %s", accusation.kind, accusation.culprit, what)
