"""The replicated log for a program: an asyncio client of a live cluster, under a registered client's key.

Here: packing what is ready into one signed request, futures, the log and status questions. Not here: links
(`replog.live.dialing`), time-outs of retransmission, counting of replies (`replog.client`, the same in the simulator).

One process at a time uses a client's name: its session has one window of timestamps. A caller whose task is cancelled
while it waits learns nothing, but nothing else breaks: what was not sent yet is not sent, the rest runs its course
(HAZARDS X8).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from replog.access import Access
from replog.certificates import load_signer
from replog.client import (
    HEAD_BYTES,
    ClientCore,
    ClientLimits,
    Done,
    Failed,
    Followed,
    ToReplica,
    Wake,
    check_size,
    size_of,
)
from replog.config import ClusterConfig
from replog.errors import (
    Compacted,
    ConfigError,
    NoCluster,
    NotCommitted,
    NotLetIn,
    OperationFailed,
    OutcomeUnknown,
    Overloaded,
    ReplogError,
)
from replog.interface import Entry, LoggedRequest, ReplicatedLog, Result, Said
from replog.live.dialing import Links
from replog.live.engine import monotonic
from replog.live.locks import FolderLock, Held
from replog.membership import Configuration, ConfigurationAnswer, Link
from replog.roster import Roster
from replog.statemachine import StateMachine, decode_outcome
from replog.timestamps import Timestamps
from replog.types import (
    ACCESS,
    MEMBERSHIP,
    LogEntry,
    LogReply,
    LogRequest,
    Message,
    NodeId,
    Reply,
    Request,
    SessionKey,
    StatusReply,
    StatusRequest,
    decode_status,
)

TIMEOUT_S = 10.0
CONNECT_S = 5.0
PACK_OPERATIONS_MAX = 4096
PACK_BYTES_MAX = 256 * 1024
"""One request holds at most this much of what is ready; a larger single operation goes alone."""
UNDER_WAY_MAX = 32
"""Requests under way; what comes meanwhile waits, and is packed into the next ones."""
WAITING_MAX = 100_000
"""Operations that wait to be sent. A further one is refused as overloaded."""
UNSENT_MAX = 256
"""Messages kept for a replica that is not linked yet; the oldest are dropped, retransmission mends it."""
FOLLOW_S = 0.1
"""How often a client that waits for a change of the members asks."""
LOG_COUNT = 256
LOG_WAIT_S = 0.5
LOG_POLL_S = 0.1
SETTLED_S = 1.0
"""After this long without a link a replica is not waited for."""


@dataclass(frozen=True)
class Outcomes:
    """What became of operations that were sent together: encoded outcomes in order, from `position` on at `index`, both
    None for reads that were not ordered."""

    index: int | None
    position: int | None
    outcomes: list[bytes]
    vouchers: tuple[NodeId, ...]

    def values(self) -> list[Any]:
        """Decoded. Raises OperationFailed for the first that the application refused."""
        return [decode_outcome(outcome) for outcome in self.outcomes]


@dataclass
class _Call:
    operations: Sequence[bytes]
    read_only: bool
    future: asyncio.Future[Outcomes]
    flags: int = 0
    stale: bool = False
    timestamp: int | None = None
    """Of the request it went into, once it is sent."""

    @property
    def kind(self) -> tuple[bool, bool]:
        """What is in one request is of one kind."""
        return self.read_only, self.stale


@dataclass
class _Question:
    """A question that each replica answers for itself."""

    answers: dict[NodeId, Any] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class LogClient:
    """`replog.interface.ReplicatedLog` over links to every replica.

    Invariant: every call is in `_waiting` until it is sent, then in `_under_way` until its request is answered.
    """

    def __init__(
        self,
        cluster: str | os.PathLike[str] | ClusterConfig,
        name: str = "cli",
        *,
        timeout: float = TIMEOUT_S,
        connect_timeout: float | None = CONNECT_S,
        app: type[StateMachine] | None = None,
    ) -> None:
        """`timeout`: seconds until a call gives up. `connect_timeout`: how long entering waits for the first replica;
        None: not at all. `app`: the application's class, by default the configured one."""
        self.config = cluster if isinstance(cluster, ClusterConfig) else ClusterConfig.load(cluster)
        self.name = name
        self.timeout = timeout
        registered = {client.name for client in self.config.clients}
        if name not in registered and not self.config.client_folder(name).is_dir():
            known = ", ".join(sorted(registered))
            raise ConfigError(f"client = {name!r}: is not registered with this cluster; registered are {known}")
        self._connect_timeout = connect_timeout
        self._app = app
        self._codec = self.config.spec.messages
        self._roster = Roster(self.config)
        self._rules = self._roster.rules(self.members.n, self.members.f)
        self._links = Links(self.config, name, self._take, self._linked, self._unreachable)
        self._heard = asyncio.Event()
        """Something came that may have changed what is known."""
        self._down: set[NodeId] = set()
        self._unsent: dict[NodeId, deque[bytes]] = {}
        self._waiting: deque[_Call] = deque()
        self._waiting_operations = 0
        self._under_way: dict[int, list[_Call]] = {}
        self._flush_soon = False
        self._questions: dict[int, _Question] = {}
        self._token = 0
        self._wake: asyncio.TimerHandle | None = None
        self._closed = True

    # ------------------------------------------------------------------------------------------------- begin and end

    async def __aenter__(self) -> LogClient:
        """Raises ConfigError (keys, or the name is in use) and NoCluster (no replica answers)."""
        config, folder = self.config, self.config.client_folder(self.name)
        signer = load_signer(folder)
        self._lock = await self._take_lock(folder)
        limits = ClientLimits(give_up_us=int(2e6 * self.timeout))
        try:
            self._timestamps = Timestamps(folder)
        except BaseException:
            self._lock.release()
            raise
        chain = self._roster.chain() if self._roster.changing else None
        start = self._timestamps.first
        self._core = ClientCore(self.name, config.n, self._rules, signer, config.domain, limits, start, chain=chain)
        self._closed = False
        self._opened = time.monotonic()
        try:
            self._links.open(self._roster.members)
            if self._connect_timeout is not None:
                await self.wait_connected(1, self._connect_timeout)
        except BaseException:
            await self.close()
            raise
        return self

    async def _take_lock(self, folder: Path) -> FolderLock:
        """The name is this process's own until `close`; another that uses it for a moment is waited for."""
        begin = time.monotonic()
        while True:
            try:
                return FolderLock(folder, patience_s=0)
            except Held as error:
                if time.monotonic() >= begin + (self._connect_timeout or 0):
                    raise ConfigError(
                        f"client = {self.name!r}: {error}; one process at a time uses a client's name"
                    ) from None
            await asyncio.sleep(0.02)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all links. Calls still waiting end: NotCommitted if they were not sent, else OutcomeUnknown."""
        if self._closed:
            return
        self._closed = True
        self._stop_timer()
        for call in self._waiting:
            _fail(call, NotCommitted("the client was closed before this was sent"))
        for calls in self._under_way.values():
            for call in calls:
                _fail(call, OutcomeUnknown("the client was closed before an answer came"))
        self._waiting.clear()
        self._under_way.clear()
        await self._links.close()
        self._timestamps.end()
        self._lock.release()

    @property
    def members(self) -> Configuration:
        """The newest configuration that is proved to this client."""
        return self._roster.known

    @property
    def links(self) -> Sequence[Link]:
        """What leads there from the first configuration."""
        return self._roster.links

    @property
    def places(self) -> dict[NodeId, str]:
        """Where the members listen, and those who are to come."""
        return {member.id: f"{member.host}:{member.port}" for member in self._roster.members}

    @property
    def connected(self) -> tuple[NodeId, ...]:
        """The replicas that are linked now."""
        return tuple(sorted(self._links.nodes))

    async def wait_connected(self, count: int, timeout: float = CONNECT_S) -> None:  # noqa: ASYNC109
        """Until `count` replicas are linked. Raises NoCluster, NotLetIn."""
        try:
            async with asyncio.timeout(timeout):
                await self._links.linked(count)
        except TimeoutError:
            addresses = ", ".join(f"{member.host}:{member.port}" for member in self.members.members)
            answer = f"{len(self._links.nodes)} of {self.members.n} replicas answer after {timeout:g} s"
            if said := self._links.refusals:
                raise NotLetIn(f"{answer}; node {min(said)} says: {said[min(said)]}") from None
            raise NoCluster(f"{answer}, {count} are needed; they should be at {addresses}") from None

    @property
    def app(self) -> type[StateMachine]:
        if self._app is None:
            self._app = self.config.machine()
        return self._app

    # ---------------------------------------------------------------------------------------------------- operations

    async def submit(self, operation: bytes) -> Any:
        return (await self.execute(operation)).value

    async def read(self, query: bytes, *, stale: bool = False) -> Any:
        """`stale`: as of `call`."""
        return (await self.execute(query, read_only=True, stale=stale)).value

    async def call(self, method: str, *arguments: Any, stale: bool = False) -> Any:
        """Call a command or query of the application by name; its value. `stale`: of a query, an old state will do;
        any one replica of Raft answers then, PBFT reads as ever. Raises as `submit`, TypeError for a call that does not
        fit."""
        return (await self.ask(method, *arguments, stale=stale)).value

    async def ask(self, method: str, *arguments: Any, stale: bool = False) -> Result:
        """As `call`, with index, position and vouchers."""
        operation = self.app.operation(method, *arguments)
        reads = {known.name: known.reads for known in self.app.describe()}
        if stale and not reads[method]:
            raise TypeError(f"stale = {stale}: {method} is a command, and only a query may read an old state")
        return await self.execute(operation, read_only=reads[method], stale=stale)

    async def execute(
        self,
        operation: bytes,
        *,
        read_only: bool = False,
        stale: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Result:
        """Order and execute one operation, or answer one query; what became of it. Raises as `submit`."""
        done = await self.submit_many([operation], read_only=read_only, stale=stale, timeout=timeout)
        return Result(decode_outcome(done.outcomes[0]), done.index, done.position, done.vouchers)

    async def change(self, signed_change: bytes, *, timeout: float | None = None) -> Configuration:  # noqa: ASYNC109
        """Have the members changed (`replog.membership.signed`); the configuration that comes of it at its boundary.
        Raises OperationFailed with the rule that it breaks, and as `submit`."""
        done = await self._ordered([signed_change], False, MEMBERSHIP, timeout)
        following = msgspec.convert(decode_outcome(done.outcomes[0]), Configuration)
        self._roster.announce(following)
        self._links.dial(self._roster.members)
        return following

    async def access(self) -> Access:
        """Who the clients are and what each may do. Raises as `read`, OperationFailed for a client that may nothing."""
        return self._access(await self._ordered([b""], True, ACCESS, None))

    async def grant(self, operation: bytes) -> Access:
        """Have the clients changed (`replog.access.operation_of`); what comes of it. Raises OperationFailed with the
        rule that it breaks, and as `submit`."""
        return self._access(await self._ordered([operation], False, ACCESS, None))

    @staticmethod
    def _access(done: Outcomes) -> Access:
        return msgspec.convert(decode_outcome(done.outcomes[0]), Access)

    async def learn(self, timeout: float) -> None:  # noqa: ASYNC109
        """Ask who the members are, until enough have answered or the time is over."""
        self._carry_out(self._core.ask_members(monotonic(), self.members.ids))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not self._core.up_to_date:
                    self._heard.clear()
                    await self._heard.wait()

    async def follow(self, epoch: int, timeout: float) -> bool:  # noqa: ASYNC109
        """Ask until the configuration of `epoch`, or a later one, is known; whether it is in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.members.epoch < epoch:
                    self._carry_out(self._core.ask_members(monotonic(), sorted(self._links.nodes)))
                    await asyncio.sleep(FOLLOW_S)
        return self.members.epoch >= epoch

    async def submit_many(
        self,
        operations: Sequence[bytes],
        *,
        read_only: bool = False,
        stale: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Outcomes:
        """Operations that are ordered side by side, in this order, and each answered in its own right. Queries may be
        answered without being ordered, all on one state.

        Raises NotCommitted, Overloaded, RequestTooLarge (none of them is executed), OutcomeUnknown. What the
        application refuses is an outcome.
        """
        return await self._ordered(operations, read_only, 0, timeout, stale)

    async def _ordered(
        self, operations: Sequence[bytes], read_only: bool, flags: int, limit: float | None, stale: bool = False
    ) -> Outcomes:
        if self._closed:
            raise NotCommitted("the client is closed")
        if not operations or len(operations) > PACK_OPERATIONS_MAX:
            raise ValueError(f"{len(operations)} operations: a request holds 1 .. {PACK_OPERATIONS_MAX}")
        if self._waiting_operations + len(operations) > WAITING_MAX:
            raise Overloaded(f"{self._waiting_operations} operations wait to be sent, at most {WAITING_MAX} may")
        check_size(operations, self._rules)
        call = _Call(operations, read_only, asyncio.get_running_loop().create_future(), flags, stale)
        self._waiting.append(call)
        self._waiting_operations += len(operations)
        self._flush_later()
        try:
            async with asyncio.timeout(self.timeout if limit is None else limit):
                return await call.future
        except TimeoutError:
            self._withdraw(call)
            if call.timestamp is not None:
                standing = self._core.standing(call.timestamp)
                unknown = "it may be executed, now or later, or never"
                after = "it only reads, and can be asked again" if read_only else unknown
                raise OutcomeUnknown(f"{standing}: {after}") from None
            raise NotCommitted("it could not be sent in time and will not be") from None
        except asyncio.CancelledError:
            self._withdraw(call)
            raise

    def _withdraw(self, call: _Call) -> None:
        if call in self._waiting:
            self._waiting.remove(call)
            self._waiting_operations -= len(call.operations)

    def _flush_later(self) -> None:
        """Once this turn of the loop is over, so that all that is ready goes into one request."""
        if not self._flush_soon:
            self._flush_soon = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_soon = False
        while self._waiting and len(self._under_way) < UNDER_WAY_MAX:
            calls = self._next_pack()
            operations = [operation for call in calls for operation in call.operations]
            try:
                self._timestamps.take()
            except OSError as error:
                flaw = f"{self.config.client_folder(self.name)}: {error.strerror or error}"
                for call in calls:
                    _fail(call, NotCommitted(f"not sent, its timestamp cannot be noted: {flaw}"))
                continue
            now = monotonic()
            timestamp, effects = self._core.submit(now, operations, calls[0].read_only, calls[0].flags, calls[0].stale)
            for call in calls:
                call.timestamp = timestamp
            self._under_way[timestamp] = calls
            self._carry_out(effects)

    def _next_pack(self) -> list[_Call]:
        """The oldest calls that fit into one request; a request only reads, or it does not; a change goes alone."""
        calls: list[_Call] = []
        count, size = 0, HEAD_BYTES
        count_max = min(PACK_OPERATIONS_MAX, self._rules.request_operations_max)
        size_max = min(PACK_BYTES_MAX, self._rules.request_bytes_max)
        while self._waiting and (not calls or self._waiting[0].kind == calls[0].kind):
            call = self._waiting[0]
            count += len(call.operations)
            size += size_of(call.operations)
            if calls and (count > count_max or size > size_max or call.flags or calls[0].flags):
                break
            self._waiting_operations -= len(call.operations)
            calls.append(self._waiting.popleft())
        return calls

    # -------------------------------------------------------------------------------------------------------- links

    def _linked(self, node: NodeId) -> None:
        self._down.discard(node)
        for other in sorted(self._down):
            self._unreachable(other)
        self._carry_out(self._core.ask_members(monotonic(), (node,)))
        unsent = self._unsent.pop(node, ())
        while unsent:  # in frames of their own: together they may be more than a replica takes in one
            self._links.send((node,), unsent.popleft())

    def _take(self, node: NodeId, messages: list[Message]) -> None:
        for message in messages:
            if type(message) in (Reply, SessionKey, ConfigurationAnswer):
                self._carry_out(self._core.on_message(monotonic(), node, message))
                self._heard.set()
            elif isinstance(message, LogReply | StatusReply) and message.token in self._questions:
                question = self._questions[message.token]
                question.answers.setdefault(node, message)
                question.changed.set()

    def _carry_out(self, effects: Iterable[Any]) -> None:
        for effect in effects:
            if type(effect) is ToReplica:
                self._send(effect.to, effect.message)
            elif type(effect) is Done:
                self._done(effect)
            elif type(effect) is Wake:
                self._arm(effect.at)
            elif type(effect) is Failed:
                self._failed(effect)
            elif type(effect) is Followed:
                self._followed(effect)

    def _followed(self, followed: Followed) -> None:
        """The links to former members end, those to new ones begin; the folder remembers who they are."""
        self._roster.followed(followed.configuration, followed.links)
        self._rules = self._roster.rules(self.members.n, self.members.f)
        self._links.dial(self._roster.members)
        self._unsent = {node: kept for node, kept in self._unsent.items() if self._roster.member(node) is not None}
        self._down = {node for node in self._down if self._roster.member(node) is not None}

    def _done(self, done: Done) -> None:
        position = 0
        for call in self._under_way.pop(done.timestamp, ()):
            count = len(call.operations)
            outcomes = done.outcomes[position : position + count]
            if not call.future.done():
                if len(outcomes) == count:
                    place = position if done.index else None
                    call.future.set_result(Outcomes(done.index or None, place, outcomes, done.vouchers))
                else:
                    _fail(call, _refused_whole(done.outcomes))
            position += count
        if self._waiting:
            self._flush_later()

    def _failed(self, failed: Failed) -> None:
        """Only what never left is certain not to be executed: what a reply quorum refused, others may yet order, or
        they have executed it and forgotten the result (HAZARDS X8)."""
        error = Overloaded if failed.reason == "unsent" else OutcomeUnknown
        for call in self._under_way.pop(failed.timestamp, ()):
            _fail(call, error(f"{failed.reason}: {failed.text}"))
        self._flush_later()

    def _send(self, to: Sequence[NodeId], message: Message) -> None:
        raw = self._codec.encode(message)
        for node in self._links.send(to, raw):
            self._unsent.setdefault(node, deque(maxlen=UNSENT_MAX)).append(raw)
            if node in self._down and self._links.nodes:
                asyncio.get_running_loop().call_soon(self._unreachable, node)

    def _unreachable(self, node: NodeId) -> None:
        """Nobody is there, or no more: what only that replica was asked goes elsewhere."""
        self._down.add(node)
        if self._links.nodes and not self._closed:
            self._carry_out(self._core.on_unreachable(monotonic(), node))

    def _arm(self, at: int) -> None:
        self._stop_timer()
        delay = max(0, at - monotonic()) / 1e6
        self._wake = asyncio.get_running_loop().call_later(delay, self._expire)

    def _stop_timer(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _expire(self) -> None:
        self._wake = None
        self._carry_out(self._core.on_timeout(monotonic()))

    # ----------------------------------------------------------------------------------- each replica's own word

    async def status(self, timeout: float = 1.0) -> list[Said]:  # noqa: ASYNC109
        """Every replica's own word, in order of node; None for those that do not answer in time."""
        answers = await self._gather(StatusRequest(self._next_token()), timeout, lambda _: False)
        return [_said(member.id, answers.get(member.id)) for member in self._roster.members]

    async def _gather(
        self, message: Any, wait_s: float, enough: Callable[[dict[NodeId, Any]], bool]
    ) -> dict[NodeId, Any]:
        """Ask all; their answers when they are `enough`, all are there, or the time is over."""
        nodes = self._reachable()
        question = self._questions[message.token] = _Question()
        self._send(sorted(nodes), message)
        try:
            async with asyncio.timeout(wait_s):
                while not nodes <= question.answers.keys() and not enough(question.answers):
                    await question.changed.wait()
                    question.changed.clear()
        except TimeoutError:
            pass
        finally:
            del self._questions[message.token]
        return question.answers

    def _reachable(self) -> set[NodeId]:
        """Whose answers to wait for: the linked, or all while links are still being made."""
        settled = time.monotonic() > self._opened + SETTLED_S
        return self._links.nodes if settled else {member.id for member in self._roster.members}

    def _next_token(self) -> int:
        self._token += 1
        return self._token

    # ----------------------------------------------------------------------------------------------------- the log

    async def log(self, from_index: int = 1, *, follow: bool = False) -> AsyncIterator[Entry]:
        """Entries that as many replicas show alike as a result needs. Raises Compacted, NoCluster."""
        at = max(1, from_index)
        while True:
            entries = await self._log_from(at)
            for entry in entries:
                yield _entry(entry)
            at += len(entries)
            if not entries:
                if not follow:
                    return
                await asyncio.sleep(LOG_POLL_S)

    async def _log_from(self, first: int) -> list[LogEntry]:
        """Entries from `first` on; none if it lies beyond the end."""
        need = self._rules.reply_quorum
        await self.wait_connected(need, self.timeout)
        answers = await self._gather(
            LogRequest(self._next_token(), first, LOG_COUNT),
            LOG_WAIT_S,
            lambda answers: bool(agreed_entries(self._of_members(answers), first, need)),
        )
        agreed = agreed_entries(self._of_members(answers), first, need)
        if not agreed:
            _check_kept(self._of_members(answers), first, need)
        return agreed

    def _of_members(self, answers: Mapping[NodeId, Any]) -> list[Any]:
        """Who is to join is linked too, and counts for nothing yet."""
        return [answer for node, answer in answers.items() if self.members.member(node) is not None]


def agreed_entries(answers: Iterable[LogReply], first: int, need: int) -> list[LogEntry]:
    """The entries from `first` on that at least `need` answers hold alike, without a gap. An answer whose entries are
    not consecutive from `first` on counts for nothing."""
    sound = [answer.entries for answer in answers if _consecutive(answer.entries, first)]
    agreed: list[LogEntry] = []
    while True:
        candidates = [entries[len(agreed)] for entries in sound if len(entries) > len(agreed)]
        chosen = next((entry for entry in candidates if candidates.count(entry) >= need), None)
        if chosen is None:
            return agreed
        agreed.append(chosen)


def _consecutive(entries: Sequence[LogEntry], first: int) -> bool:
    return all(entry.index == first + place for place, entry in enumerate(entries))


def _check_kept(answers: Sequence[LogReply], first: int, need: int) -> None:
    """Raise Compacted if `need` replicas, one correct one among them, no longer hold `first`; NoCluster if fewer than
    `need` answered."""
    if len(answers) < need:
        raise NoCluster(f"{len(answers)} replicas answer for their log, {need} are needed")
    begins = sorted(answer.first for answer in answers if answer.first > first)
    if len(begins) >= need and len(answers) - len(begins) < need:
        raise Compacted(begins[need - 1])


def _entry(entry: LogEntry) -> Entry:
    return Entry(entry.index, entry.time, tuple(_logged(raw) for raw in entry.requests))


def _logged(raw: bytes) -> LoggedRequest:
    request = Request(raw)
    return LoggedRequest(request.client, request.timestamp, tuple(request.operations() or ()))


def _said(node: NodeId, answer: StatusReply | None) -> Said:
    if answer is None:
        return Said(node, None)
    try:
        return Said(node, decode_status(answer.status))
    except msgspec.MsgspecError:
        return Said(node, None)


def _refused_whole(outcomes: Sequence[bytes]) -> ReplogError:
    """What stands for all operations of a request that was not executed."""
    try:
        decode_outcome(outcomes[0] if outcomes else b"")
    except OperationFailed as error:
        return error
    except ValueError:
        pass
    return NotCommitted("the request was malformed: " + repr(outcomes[:1]))


def _fail(call: _Call, error: Exception) -> None:
    if not call.future.done():
        call.future.set_exception(error)


if TYPE_CHECKING:
    _: type[ReplicatedLog] = LogClient
