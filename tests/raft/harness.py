"""Servers of Raft driven by hand: encoded bytes between them, a virtual clock, disks that lose what was not synced.

Real cores, real executors, real codecs, the real outbox; the network, the clock and the disk are lists. A test says
what is delivered, dropped, held or reordered. What the paper's figure 3 promises is checked after every step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from raft import SPEC, RaftCore
from raft.configuration import Configuration
from raft.election import Role
from raft.messages import MESSAGES, RECORDS, Entries, Entry, HardState, LogStart
from replog.apps.counter import Counter
from replog.apps.kv import KeyValue
from replog.codec import Domain
from replog.core import (
    Apply,
    CancelTimer,
    Command,
    Effect,
    Event,
    Note,
    Persist,
    Received,
    Reply,
    Save,
    Saved,
    Send,
    SetTimer,
    Setup,
    Started,
    Stored,
    Timeout,
    Trim,
)
from replog.executor import Executor
from replog.keys import HashSigner, HashVerifier
from replog.outbox import Outbox
from replog.replica import Replica
from replog.statemachine import StateMachine
from replog.types import Answer, Message, Request, Submit, decode_results
from replog.types import Reply as ClientReply

CLUSTER = "test"
EPOCH_US = 1_700_000_000_000_000
MS = 1_000
SECOND = 1_000_000
SIGNER = HashSigner(b"nobody checks")
DOMAIN = Domain(CLUSTER)

Packet = tuple[int, int, bytes]
"""Sender, receiver, encoded message."""


class Draws:
    """The times that a test wants to be drawn, then the middle of the range for ever."""

    def __init__(self, times: Iterable[int]) -> None:
        self.times = list(times)

    def randint(self, a: int, b: int, /) -> int:
        return self.times.pop(0) if self.times else (a + b) // 2


@dataclass
class Disk:
    """What survives a crash."""

    records: list[tuple[int, bytes]] = field(default_factory=list)
    saved: Any = None
    upto: int = 0

    def trim(self, upto: int) -> None:
        self.upto = max(self.upto, upto)
        self.cut()

    def cut(self) -> None:
        """The longest run of oldest records up to `upto`, once the state is saved there."""
        if self.upto and self.saved is not None and self.saved.index >= self.upto:
            while self.records and self.records[0][0] <= self.upto:
                self.records.pop(0)


class Server:
    """One process: what a crash takes away."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.outbox = Outbox()
        self.timers: dict[str, int] = {}
        self.saves: list[Any] = []
        self.unsynced = False
        self.unwitnessed: list[tuple[int, tuple[Any, ...], int | None]] = []
        """Applied entries that nobody can have heard of before the next sync."""

    @property
    def core(self) -> RaftCore:
        core = self.replica.core
        assert isinstance(core, RaftCore)
        return core


class Cluster:
    """n servers, any number of clients, and everything between them in `network`, oldest first."""

    def __init__(
        self,
        n: int = 3,
        options: dict[str, Any] | None = None,
        core: type[RaftCore] = RaftCore,
        draws: dict[int, list[int]] | None = None,
        logs: dict[int, list[int]] | None = None,
        seed: int | None = None,
        machine: Callable[[], StateMachine] = Counter,
    ) -> None:
        """`draws`: election time-outs in ms by server. `logs`: terms of the entries a server begins with. With `seed`
        disks are synced and states saved only when told to, and draws come from chance."""
        self.n, self.f = n, SPEC.faults(n)
        self.options = SPEC.options(options or {})
        self.core_class = core
        self.machine = machine
        self.now = 0
        self.network: list[Packet] = []
        self.lost: Callable[[Packet], bool] = lambda packet: False
        self.by_hand = seed is not None
        self.hanging: set[int] = set()
        """Servers whose disk finishes nothing."""
        self.disks = [Disk() for _ in range(n)]
        self.servers: dict[int, Server] = {}
        self.rngs: list[Any] = [
            random.Random(f"{seed}/{node}")
            if seed is not None
            else Draws(ms * MS for ms in (draws or {}).get(node, []))
            for node in range(n)
        ]
        self.replies: dict[tuple[str, int], list[ClientReply]] = {}
        self.notes: list[tuple[int, Note]] = []
        self.transcript: list[str] = []
        self.sent: list[tuple[int, Send]] = []
        self.leaders: dict[int, int] = {}
        self.applied: dict[int, tuple[Any, ...]] = {}
        self.terms: dict[int, int] = {}
        for node, terms in (logs or {}).items():
            self.disks[node].records = [(i, RECORDS.encode(record)) for i, record in disk_with(terms)]
        for node in range(n):
            self.start(node)

    # -------------------------------------------------------------------------------------------------------- servers

    def start(self, node: int) -> list[Effect]:
        """Start, or start again from what is on the disk."""
        disk, executor = self.disks[node], Executor(self.machine())
        records = tuple(RECORDS.decode(raw) for _, raw in disk.records)
        stored = Stored(records)
        if disk.saved is not None:
            executor.load(disk.saved.index, disk.saved.digest, disk.saved.parts())
            stored = Stored(records, disk.saved.index, disk.saved.digest)
        setup = Setup(
            me=node,
            n=self.n,
            f=self.f,
            domain=DOMAIN,
            config=self.options,
            signer=SIGNER,
            verifier=HashVerifier({}),
            sessions=executor,
            rng=self.rngs[node],
            wall=lambda: EPOCH_US + self.now,
            stored=stored,
        )
        self.servers[node] = Server(Replica(self.core_class(setup), executor))
        return self.step(node, Started())

    def crash(self, node: int) -> None:
        """Memory, and what was not synced, is gone."""
        self.servers.pop(node, None)
        self.disks[node].upto = 0

    def restart(self, node: int) -> None:
        self.crash(node)
        self.start(node)

    def core(self, node: int) -> RaftCore:
        return self.servers[node].core

    def step(self, node: int, event: Event) -> list[Effect]:
        server = self.servers[node]
        effects = server.replica.step(self.now, event)
        self._watch(node, effects)
        server.replica.check_invariants()
        for effect in effects:
            self.say(node, effect)
            if isinstance(effect, SetTimer):
                assert effect.delay > 0
                server.timers[effect.name] = self.now + effect.delay
            elif isinstance(effect, CancelTimer):
                server.timers.pop(effect.name, None)
        server.outbox.add(effects)
        if self.by_hand or node in self.hanging:
            self.release(node)
        else:
            self.sync(node)
            self.save(node)
        return effects

    def sync(self, node: int) -> None:
        """All that was listed for the disk is on it."""
        server = self.servers[node]
        persists = server.outbox.write()
        self.disks[node].records += [(persist.index, RECORDS.encode(persist.record)) for persist in persists]
        server.outbox.written(len(persists))
        server.unsynced = False
        self._witness(node)
        self.release(node)

    def release(self, node: int) -> None:
        server = self.servers[node]
        server.outbox.check_invariants()
        for effect in server.outbox.ready():
            if isinstance(effect, Send):
                assert node not in effect.to, "never to oneself"
                self.sent.append((node, effect))
                raw = MESSAGES.encode(effect.message)
                self.network += [(node, to, raw) for to in effect.to if not self.lost((node, to, raw))]
            elif isinstance(effect, Reply) and isinstance(effect.message, ClientReply):
                self.replies.setdefault((effect.client, effect.message.timestamp), []).append(effect.message)
            elif isinstance(effect, Save):
                server.saves.append(effect.snapshot)
            elif isinstance(effect, Trim):
                self.disks[node].trim(effect.upto)

    def save(self, node: int) -> None:
        """The newest state that waits for it is on disk; older ones are passed by."""
        server = self.servers[node]
        if server.saves:
            self.disks[node].saved = server.saves[-1]
            server.saves.clear()
            self.disks[node].cut()
            self.step(node, Saved(self.disks[node].saved.index))

    # ------------------------------------------------------------------------------------------------ network and time

    def decode(self, packet: Packet) -> Any:
        return MESSAGES.decode(packet[2])

    def deliver(self, position: int = 0, keep: bool = False) -> None:
        sender, to, raw = self.network[position] if keep else self.network.pop(position)
        if to in self.servers:
            self.step(to, Received(sender, MESSAGES.decode(raw)))

    def settle(self) -> None:
        """Deliver until nothing is under way. No time passes."""
        for _ in range(100_000):
            if not self.network:
                return
            self.deliver()
        raise AssertionError("messages without end")

    def deliver_to(self, *nodes: int) -> None:
        """Deliver what is under way to these servers now, nothing that follows from it."""
        due = [packet for packet in self.network if packet[1] in nodes]
        self.network = [packet for packet in self.network if packet[1] not in nodes]
        for sender, to, raw in due:
            if to in self.servers:
                self.step(to, Received(sender, MESSAGES.decode(raw)))

    def drop(self, *nodes: int) -> int:
        """Lose what is under way to these servers; how much it was."""
        before = len(self.network)
        self.network = [packet for packet in self.network if packet[1] not in nodes]
        return before - len(self.network)

    def run(self, us: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass: messages at once, timers when they are due. True if `until` came to hold."""
        end = self.now + us
        self.settle()
        while not until():
            due = [(at, node, name) for node, server in self.servers.items() for name, at in server.timers.items()]
            if not due or min(due)[0] > end:
                self.now = end
                return until()
            at, node, name = min(due)
            self.now = max(self.now, at)
            self.fire(node, name)
            self.settle()
        return True

    def fire(self, node: int, name: str = "election") -> None:
        """One timer runs out now: time jumps to it."""
        self.now = max(self.now, self.servers[node].timers.pop(name))
        self.step(node, Timeout(name))

    def isolate(self, *nodes: int) -> None:
        """Cut these servers off from all others."""
        self.lost = lambda packet: (packet[0] in nodes) != (packet[1] in nodes)

    def only(self, *nodes: int) -> None:
        """Nothing passes but between these servers."""
        self.lost = lambda packet: packet[0] not in nodes or packet[1] not in nodes

    def heal(self) -> None:
        self.lost = lambda packet: False

    def elect(self, node: int) -> None:
        """Let `node` time out, after everyone's patience, and all that follows happen."""
        self.now += self.options.election_timeout_max_us
        self.servers[node].timers["election"] = self.now
        self.fire(node)
        self.settle()
        assert self.core(node).role is Role.LEADER, f"node {node} did not win: {self.core(node).role}"

    def elect_silently(self, node: int) -> None:
        """The same, up to the moment in which it leads: what it says then is under way."""
        self.now += self.options.election_timeout_max_us
        self.servers[node].timers["election"] = self.now
        self.fire(node)
        while self.core(node).role is not Role.LEADER:
            self.deliver()

    def inject(self, sender: int | str, to: int, message: Message) -> list[Effect]:
        """A message as if `sender` had sent it, through the codec."""
        return self.step(to, Received(sender, MESSAGES.decode(MESSAGES.encode(message))))

    def command(self, node: int, name: str, **arguments: Any) -> None:
        self.step(node, Command(name, arguments))

    # -------------------------------------------------------------------------------------------------------- clients

    def submit(self, to: int, client: str, timestamp: int, amount: int = 1, low: int = 0) -> list[Effect]:
        return self.inject(client, to, Submit(request(client, timestamp, amount, low).raw))

    def put(self, to: int, timestamp: int, pairs: dict[str, str]) -> None:
        """For a cluster of KeyValue."""
        operations = [KeyValue.operation("put", key, value) for key, value in pairs.items()]
        raw = Request.make(SIGNER.sign, DOMAIN, "ann", timestamp, max(0, timestamp - 32), operations).raw
        self.inject("ann", to, Submit(raw))

    def done(self, client: str, timestamp: int) -> list[Any]:
        """What the client was told, when it was told that it is done: index and outcomes."""
        replies = self.replies.get((client, timestamp), [])
        return [decode_results(reply.results) for reply in replies if reply.answer == Answer.DONE]

    # ------------------------------------------------------------------------------------------------------- judgement

    def _watch(self, node: int, effects: list[Effect]) -> None:
        """Election Safety, State Machine Safety, Leader Completeness. [Raft fig. 3]"""
        log = self.core(node).log
        server = self.servers[node]
        for effect in effects:
            if isinstance(effect, Persist):
                server.unsynced = True
            elif isinstance(effect, Apply):
                what = effect.time, effect.seed, *(request.raw for request in effect.requests)
                term = log.term(effect.index) if log.holds(effect.index) else None
                server.unwitnessed.append((effect.index, what, term))
            elif isinstance(effect, Note):
                self.notes.append((node, effect))
                if effect.kind == "term" and effect.detail["role"] == "leader":
                    self._watch_leader(node, effect.detail["term"])

        if not server.unsynced:
            self._witness(node)

    def _witness(self, node: int) -> None:
        """A leader counts itself before its disk has the entry, and applies it: should it crash then, nobody knows of
        it, since all that it says waits for the disk."""
        for index, what, term in self.servers[node].unwitnessed:
            assert self.applied.setdefault(index, what) == what, (
                f"State Machine Safety: node {node} applied something else at {index}"
            )
            if term is not None:
                self.terms[index] = term
        self.servers[node].unwitnessed.clear()

    def _watch_leader(self, node: int, term: int) -> None:
        assert self.leaders.setdefault(term, node) == node, f"Election Safety: {node} leads term {term} too"
        log = self.core(node).log
        for index, at in self.terms.items():
            if index > log.start_index and at < term:
                assert log.matches(index, at), f"Leader Completeness: {node} leads without the committed entry {index}"

    def check_logs(self) -> int:
        """Log Matching. [Raft 5.3] How many pairs of entries were compared."""
        compared = 0
        logs = [(node, self.core(node).log) for node in sorted(self.servers)]
        for at, (a, one) in enumerate(logs):
            for b, other in logs[at + 1 :]:
                first, last = max(one.start_index, other.start_index) + 1, min(one.last_index, other.last_index)
                same = [index for index in range(first, last + 1) if one.term(index) == other.term(index)]
                for index in range(first, max(same, default=0) + 1):
                    compared += 1
                    assert one.entry(index) == other.entry(index), f"Log Matching: {a} and {b} differ at {index}"
        return compared

    def terms_of(self, node: int) -> list[int]:
        log = self.core(node).log
        return [log.term(index) for index in range(log.start_index + 1, log.last_index + 1)]

    def rules(self, node: int) -> list[str]:
        """What `node` refused, and why."""
        return [note.detail["rule"] for at, note in self.notes if at == node and note.kind == "nonsense"]

    def sent_kinds(self, kind: type[Message]) -> list[tuple[int, Send]]:
        return [(node, send) for node, send in self.sent if type(send.message) is kind]

    # ------------------------------------------------------------------------------------------------------ transcript

    def title(self, text: str) -> None:
        self.transcript.append(f"-- {text}")

    def say(self, node: int, effect: Effect) -> None:
        self.transcript.append(f"{self.now / MS:8.1f} ms  {node}  {describe(effect)}")

    def text(self) -> str:
        return "\n".join(self.transcript)


def request(client: str, timestamp: int, amount: int = 1, low: int = 0) -> Request:
    return Request.make(SIGNER.sign, DOMAIN, client, timestamp, low, [Counter.operation("add", amount)])


def disk_with(terms: list[int], current_term: int | None = None) -> list[tuple[int, Message]]:
    """Records of a server whose log has entries of these terms: each the same wherever index and term are the same."""
    entries = [Entry(term, EPOCH_US + index, []) for index, term in enumerate(terms, 1)]
    hard = HardState(current_term if current_term is not None else max(terms, default=0), -1)
    return [(0, hard), *([(len(terms), Entries(1, 0, entries))] if entries else [])]


def stored_with(terms: list[int], current_term: int | None = None) -> Stored:
    return Stored(tuple(record for _, record in disk_with(terms, current_term)))


def describe(effect: Effect) -> str:
    """One line a person can read."""
    if isinstance(effect, Send):
        return f"send to {','.join(map(str, effect.to))}  {brief(effect.message)}"
    if isinstance(effect, Persist):
        return f"persist [{effect.index}]  {brief(effect.record)}"
    if isinstance(effect, Reply):
        return f"reply to {effect.client}  {brief(effect.message)}"
    if isinstance(effect, Apply):
        return f"apply {effect.index}  {' '.join(f'{r.client}#{r.timestamp}' for r in effect.requests) or 'no-op'}"
    if isinstance(effect, Note):
        shown = {key: value for key, value in effect.detail.items() if key != "digest"}
        return f"note {effect.kind}  {' '.join(f'{key}={_short(value)}' for key, value in shown.items())}"
    if isinstance(effect, SetTimer):
        return f"timer {effect.name} in {effect.delay / MS:.1f} ms"
    if isinstance(effect, CancelTimer):
        return f"no timer {effect.name}"
    if isinstance(effect, Save):
        return f"save {effect.snapshot.index}"
    return brief(effect)


def brief(message: Any) -> str:
    """Without digests, which say nothing to a reader and change with the application."""
    names = [name for name in type(message).__struct_fields__ if name != "digest"]
    return " ".join([type(message).__name__, *(f"{name}={_short(getattr(message, name))}" for name in names)])


def _short(value: Any) -> str:
    if isinstance(value, Entry):
        requests = " ".join(f"{r.client}#{r.timestamp}" for r in map(Request, value.requests))
        return f"<term {value.term}: {requests or 'no-op'}>"
    if isinstance(value, Configuration):
        return f"C{value.voters}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(_short, value)) + "]"
    return str(value)


__all__ = ["Cluster", "LogStart", "request", "stored_with"]
