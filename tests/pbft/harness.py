"""Replicas of PBFT driven by hand: encoded bytes between them, a virtual clock, disks that keep what was persisted.

Real cores, real executors, real codecs, real outboxes; the network, the clock and the disk are lists. Every test says
itself what is delivered, dropped, held or reordered, and when what was written and saved is durable: a crash takes what
is not. Nothing here is random: a test that wants chance draws it itself.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from pbft import SPEC, PbftCore
from pbft.messages import MESSAGES, RECORDS, Batch, Commit, Prepare, PrePrepare
from replog.apps.counter import Counter
from replog.codec import Domain
from replog.core import (
    Accuse,
    Apply,
    CancelTimer,
    Effect,
    Event,
    Note,
    Persist,
    Received,
    Reply,
    Save,
    Send,
    SetTimer,
    Setup,
    Started,
    Stored,
    Timeout,
    Trim,
)
from replog.executor import Executor
from replog.keys import Ed25519Signer, Ed25519Verifier, HashSigner, HashVerifier
from replog.outbox import VISIBLE, Outbox
from replog.replica import Replica
from replog.types import Answer, Request, Results, Submit, decode_results
from replog.types import Reply as ReplyMessage

CLUSTER = "test"
CLIENTS = ("ann", "bob", "eve")
EPOCH_US = 1_700_000_000_000_000
MS = 1_000
SECOND = 1_000_000
SMALL = {"checkpoint_interval": 4, "log_window": 8, "in_flight_max": 4, "batch_delay_us": 0}
"""Options under which a few requests reach a checkpoint."""


def secret(name: object) -> bytes:
    return blake2b(repr(name).encode(), digest_size=32).digest()


@dataclass(frozen=True)
class Packet:
    sender: int | str
    to: int
    raw: bytes

    @property
    def message(self) -> Any:
        return MESSAGES.decode(self.raw)


class Disagreement(AssertionError):
    """Two correct replicas, or one of them in two lives, executed different things at one seq."""


@dataclass
class Disk:
    """What survives a crash: records that were persisted, and the last saved checkpoint."""

    records: list[tuple[int, bytes]] = field(default_factory=list)
    saved: Any = None
    upto: int = -1
    """What the latest Trim said; nothing is cut before one."""

    def save(self, snapshot: Any) -> None:
        self.saved = snapshot
        self.cut()

    def trim(self, upto: int) -> None:
        self.upto = max(self.upto, upto)
        self.cut()

    def cut(self) -> None:
        """The longest run of oldest records up to `upto`, once the state is saved there."""
        if self.saved is not None and self.saved.index >= self.upto:
            while self.records and self.records[0][0] <= self.upto:
                self.records.pop(0)


class Cluster:
    """n replicas, some clients, and everything between them in `network`, oldest first."""

    def __init__(
        self,
        n: int = 4,
        options: dict[str, Any] | None = None,
        cores: dict[int, type[PbftCore]] | None = None,
        signatures: str = "hash",
        core: type[PbftCore] = PbftCore,
    ) -> None:
        self.n, self.f = n, SPEC.faults(n)
        self.options = SPEC.options(options or {})
        self.domain = Domain(CLUSTER)
        self._cores = cores or {}
        self._core = core
        names: list[int | str] = [*range(n), *CLIENTS]
        if signatures == "hash":
            self.signers: dict[Any, Any] = {name: HashSigner(secret(name)) for name in names}
            self.verifier: Any = HashVerifier({name: secret(name) for name in names})
        else:
            self.signers = {name: Ed25519Signer(secret(name)) for name in names}
            self.verifier = Ed25519Verifier({name: self.signers[name].public for name in names})
        self.now = 0
        self.clock_off: dict[int, int] = {}
        self.network: deque[Packet] = deque()
        self.blocked: Callable[[Packet], bool] = lambda packet: False
        self.held: list[Packet] = []
        self.holds: Callable[[Packet], bool] = lambda packet: False
        self.disks = [Disk() for _ in range(n)]
        self.autosync = True
        """Whether each record is durable at once; if not, `sync` makes them so, and lets out what waits for them."""
        self.autosave = True
        """Whether each state is saved at once; if not, `flush` does it."""
        self.outboxes: dict[int, Outbox] = {}
        self.unsaved: dict[int, list[Save]] = {}
        self.replicas: dict[int, Replica] = {}
        self.timers: dict[int, dict[str, int]] = {}
        self.applied: list[dict[int, tuple[Any, ...]]] = [{} for _ in range(n)]
        self.history: list[list[tuple[int, tuple[Any, ...]]]] = [[] for _ in range(n)]
        """All that each one applied, over all its lives."""
        self.replies: dict[tuple[str, int], dict[int, ReplyMessage]] = {}
        self.accusations: list[tuple[int, Accuse]] = []
        self.notes: list[tuple[int, Note]] = []
        self.sent: list[tuple[int, tuple[int, ...], Any]] = []
        self.transcript: list[str] = []
        self.requests: dict[bytes, Request] = {}
        self.verified = 0
        for node in range(n):
            self.start(node)

    # ------------------------------------------------------------------------------------------------------- replicas

    def start(self, node: int) -> None:
        """Start, or start again from what is on the disk."""
        disk = self.disks[node]
        executor = Executor(Counter())
        stored = Stored(tuple(RECORDS.decode(raw) for _, raw in disk.records))
        if disk.saved is not None:
            executor.load(disk.saved.index, disk.saved.digest, disk.saved.parts())
            stored = Stored(stored.records, disk.saved.index, disk.saved.digest)
        setup = Setup(
            me=node,
            n=self.n,
            f=self.f,
            domain=self.domain,
            config=self.options,
            signer=self.signers[node],
            verifier=self,
            sessions=executor,
            rng=random.Random(node),
            wall=lambda: EPOCH_US + self.now + self.clock_off.get(node, 0),
            stored=stored,
        )
        core = self._cores.get(node, self._core)(setup)
        self.replicas[node] = Replica(core, executor)
        self.timers[node] = {}
        self.outboxes[node] = Outbox()
        self.unsaved[node] = []
        self.step(node, Started())

    def crash(self, node: int) -> None:
        """Stop it; what was under way to it is lost, and so is what is not durable, with all that waited for it."""
        del self.replicas[node], self.outboxes[node], self.unsaved[node]
        self.timers[node] = {}

    def core(self, node: int) -> PbftCore:
        core = self.replicas[node].core
        assert isinstance(core, PbftCore)
        return core

    def knows(self, signer: int | str) -> bool:
        return bool(self.verifier.knows(signer))

    def verify(self, signer: int | str, statement: bytes, signature: bytes) -> bool:
        """Every replica's verifier: counts."""
        self.verified += 1
        return bool(self.verifier.verify(signer, statement, signature))

    def step(self, node: int, event: Event) -> list[Effect]:
        effects = self.replicas[node].step(self.now, event)
        self.replicas[node].check_invariants()
        self.carry_out(node, effects)
        return effects

    def carry_out(self, node: int, effects: Iterable[Effect]) -> None:
        box = self.outboxes[node]
        for effect in effects:
            box.add((effect,))
            if isinstance(effect, Persist):
                self.say(node, effect)
            elif not isinstance(effect, VISIBLE):
                self._carry_out(node, effect)
            if self.autosync:
                self.sync(node)
            self._let_out(node)

    def sync(self, node: int) -> None:
        """All records of `node` are durable now."""
        box = self.outboxes[node]
        records = box.write()
        self.disks[node].records += [(item.index, RECORDS.encode(item.record)) for item in records]
        box.written(len(records))
        self._let_out(node)

    def flush(self, node: int) -> None:
        """All states of `node` that were to be saved are saved now."""
        saves, self.unsaved[node] = self.unsaved[node], []
        for save in saves:
            self.disks[node].save(save.snapshot)

    def _let_out(self, node: int) -> None:
        for effect in self.outboxes[node].ready():
            self._carry_out(node, effect)

    def _carry_out(self, node: int, effect: Effect) -> None:
        disk = self.disks[node]
        if isinstance(effect, Send):
            self.sent.append((node, effect.to, effect.message))
            raw = MESSAGES.encode(effect.message)
            assert node not in effect.to, "never to oneself"
            for to in effect.to:
                self.send(Packet(node, to, raw))
        elif isinstance(effect, Save):
            self.unsaved[node].append(effect)
            if self.autosave:
                self.flush(node)
        elif isinstance(effect, Trim):
            disk.trim(effect.upto)
        elif isinstance(effect, SetTimer):
            assert effect.delay > 0
            self.timers[node][effect.name] = self.now + effect.delay
        elif isinstance(effect, CancelTimer):
            self.timers[node].pop(effect.name, None)
        elif isinstance(effect, Reply):
            message = effect.message
            if isinstance(message, ReplyMessage):
                self.replies.setdefault((effect.client, message.timestamp), {})[node] = message
        elif isinstance(effect, Apply):
            batch = tuple(request.raw for request in effect.requests)
            what = self.applied[node][effect.index] = (batch, effect.time, effect.seed)
            self.history[node].append((effect.index, what))
        elif isinstance(effect, Accuse):
            self.accusations.append((node, effect))
        elif isinstance(effect, Note):
            self.notes.append((node, effect))
        self.say(node, effect)

    # -------------------------------------------------------------------------------------------------------- network

    def send(self, packet: Packet) -> None:
        if self.blocked(packet):
            return
        if self.holds(packet):
            self.held.append(packet)
        else:
            self.network.append(packet)

    def inject(self, sender: int | str, to: int | Iterable[int], message: Any) -> None:
        """A message as if `sender` had sent it, behind all filters."""
        for node in (to,) if isinstance(to, int) else to:
            self.network.append(Packet(sender, node, MESSAGES.encode(message)))

    def release(self) -> None:
        """Let through what was held, and hold no more."""
        self.holds = lambda packet: False
        self.network.extend(self.held)
        self.held = []

    def deliver(self) -> None:
        packet = self.network.popleft()
        if packet.to in self.replicas:
            self.step(packet.to, Received(packet.sender, packet.message))

    def settle(self) -> None:
        """Deliver until nothing is under way. No time passes."""
        for _ in range(100_000):
            if not self.network:
                return
            self.deliver()
        raise AssertionError("messages without end")

    def run(self, us: int) -> None:
        """Let time pass: messages at once, timers when they are due."""
        end = self.now + us
        self.settle()
        while True:
            due = [(at, node, name) for node, timers in self.timers.items() for name, at in timers.items()]
            if not due or min(due)[0] > end:
                break
            at, node, name = min(due)
            self.now = max(self.now, at)
            del self.timers[node][name]
            self.step(node, Timeout(name))
            self.settle()
        self.now = end

    def fire(self, node: int, name: str) -> None:
        """One timer runs out now."""
        del self.timers[node][name]
        self.step(node, Timeout(name))

    def isolate(self, *nodes: int) -> None:
        """Cut these replicas off from all others."""
        self.blocked = lambda packet: (
            (packet.sender in nodes) != (packet.to in nodes) and isinstance(packet.sender, int)
        )

    def heal(self) -> None:
        self.blocked = lambda packet: False

    # -------------------------------------------------------------------------------------------------------- clients

    def request(self, client: str, timestamp: int, amount: int = 1, low: int = 0, count: int = 1) -> Request:
        operations = [Counter.operation("add", amount)] * count
        request = Request.make(self.signers[client].sign, self.domain, client, timestamp, low, operations)
        self.requests[request.digest] = request
        return request

    def submit(
        self, client: str, timestamp: int, to: int | Iterable[int] = 0, amount: int = 1, low: int = 0, count: int = 1
    ) -> Request:
        request = self.request(client, timestamp, amount, low, count)
        self.inject(client, to, Submit(request.raw))
        return request

    def results(self, client: str, timestamp: int) -> list[Results]:
        """The results that f+1 replicas agree on: none or one."""
        replies = self.replies.get((client, timestamp), {})
        said = [reply.results for reply in replies.values() if reply.answer == Answer.DONE]
        return [decode_results(raw) for raw in dict.fromkeys(said) if said.count(raw) > self.f]

    def done(self, client: str, timestamp: int) -> bool:
        return bool(self.results(client, timestamp))

    # ------------------------------------------------------------------------------------------------------- judgement

    def check_agreement(self, faulty: Iterable[int] = ()) -> int:
        """Correct replicas executed the same at each seq, in all their lives. Gives how many seqs were compared between
        different replicas."""
        seen: dict[int, tuple[int, tuple[Any, ...]]] = {}
        compared = set()
        for node in (node for node in range(self.n) if node not in faulty):
            for seq, what in self.history[node]:
                first, known = seen.setdefault(seq, (node, what))
                if known != what:
                    raise Disagreement(f"node {node} executed at {seq} what node {first} did not")
                if first != node:
                    compared.add((node, seq))
        return len(compared)

    def digests(self) -> set[bytes]:
        return {replica.executor.digest() for replica in self.replicas.values()}

    def executed(self) -> list[int]:
        return [self.core(node).executed for node in sorted(self.replicas)]

    def views(self) -> list[int]:
        return [self.core(node).view for node in sorted(self.replicas)]

    def rules(self, node: int) -> list[str]:
        """What `node` refused, and why."""
        return [note.detail["rule"] for at, note in self.notes if at == node and note.kind == "nonsense"]

    # ------------------------------------------------------------------------------------------------------- transcript

    def say(self, node: int, effect: Effect) -> None:
        text = describe(effect)
        if text:
            self.transcript.append(f"{self.now / MS:9.1f} ms  node {node}  {text}")

    def title(self, text: str) -> None:
        self.transcript.append(f"-- {text}")

    def text(self) -> str:
        return "\n".join(self.transcript)


def describe(effect: Effect) -> str:
    """One line a person can read, without times of day, signatures and the status chatter."""
    kind = type(effect).__name__
    if isinstance(effect, Send):
        if type(effect.message).__name__ == "Status":
            return ""
        return f"send to {','.join(map(str, effect.to))}  {brief(effect.message)}"
    if isinstance(effect, Persist):
        return f"persist [{effect.index}]  {brief(effect.record)}"
    if isinstance(effect, Reply):
        return f"reply to {effect.client}  {brief(effect.message)}"
    if isinstance(effect, Apply):
        return f"apply {effect.index}  {[f'{request.client}#{request.timestamp}' for request in effect.requests]}"
    if isinstance(effect, Accuse):
        return f"accuse {effect.culprit} of {effect.kind}  {brief(effect.first)} / {brief(effect.second)}"
    if isinstance(effect, Note):
        detail = " ".join(f"{key}={value}" for key, value in effect.detail.items() if key != "digest")
        return f"note {effect.kind}  {detail}"
    if isinstance(effect, (SetTimer, CancelTimer)):
        if effect.name == "status":
            return ""
        return f"{kind} {effect.name}" + (f" {effect.delay / MS:.0f} ms" if isinstance(effect, SetTimer) else "")
    if isinstance(effect, Save):
        return f"save {effect.snapshot.index}"
    fields = [f"{name}={_short(getattr(effect, name))}" for name in type(effect).__struct_fields__]
    return f"{kind} {' '.join(fields)}"


def brief(message: Any) -> str:
    """A message by its kind and the fields that matter."""
    parts = []
    for name in type(message).__struct_fields__:
        value = getattr(message, name)
        if name in ("signature", "time", "results"):
            continue
        if name == "requests":
            text = str([_request(raw) for raw in value])
        elif name == "request":
            text = _request(value)
        elif name == "votes":
            text = str([vote.replica for vote in value])
        elif name == "prepared":
            text = str([f"{proof.seq}@{proof.view}" for proof in value])
        elif name == "view_changes":
            text = str([part.replica for part in value])
        elif name == "pre_prepares":
            text = str([f"{item.seq}:{_short(item.digest)}" for item in value])
        elif name in ("checkpoint", "proof"):
            text = f"({brief(value)})"
        else:
            text = _short(value)
        parts.append(f"{name}={text}")
    return f"{type(message).__name__} {' '.join(parts)}".replace("'", "")


_NULL = Batch(0, []).digest


def _short(value: Any) -> str:
    if value == _NULL:
        return "null"
    if isinstance(value, bytes):
        return value.hex()[:6] if len(value) <= 32 else f"{len(value)} bytes"
    return str(value)


def _request(raw: bytes) -> str:
    request = Request(raw)
    return f"{request.client}#{request.timestamp}"


PHASES = (PrePrepare, Prepare, Commit)


def phase_messages(cluster: Cluster) -> int:
    """Phase messages on the wire: one for each receiver."""
    return sum(len(to) for _, to, message in cluster.sent if type(message) in PHASES)


def replace(message: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(message, **changes)
