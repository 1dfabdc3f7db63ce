"""Replicas driven by hand, whatever their protocol: encoded bytes between them, a virtual clock, disks that lose what
was not synced.

Real cores, real executors, real codecs, real outboxes; the network, the clock and the disk are lists. A test says what
is delivered, dropped, held or reordered, and when what was written and saved is durable: a crash takes what is not.
Nothing here is random: a test that wants chance draws it itself.

Here: what stands on the one plug that all cores have, `step(now, event) -> effects`. Not here: what clients ask, what a
protocol promises, and how its messages look to a reader (`tests.pbft.harness`, `tests.raft.harness`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from replog.apps.counter import Counter
from replog.codec import Codec, Domain
from replog.core import (
    Accuse,
    Apply,
    CancelTimer,
    Confirm,
    Effect,
    Event,
    Note,
    Persist,
    ProtocolSpec,
    Query,
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
from replog.membership import MembershipRules
from replog.outbox import Outbox
from replog.replica import Replica
from replog.statemachine import StateMachine
from replog.types import Reply as ClientReply
from replog.types import SessionKey

EPOCH_US = 1_700_000_000_000_000
MS = 1_000
SECOND = 1_000_000
DOMAIN = Domain("test")


class Packet(NamedTuple):
    sender: int | str
    to: int
    raw: bytes


class Sent(NamedTuple):
    node: int
    to: tuple[int, ...]
    message: Any


@dataclass
class Disk:
    """What survives a crash: records that were synced, and the last saved checkpoint."""

    records: list[tuple[int, bytes]] = field(default_factory=list)
    saved: Any = None
    upto: int = 0
    """What the latest Trim said."""

    def save(self, snapshot: Any) -> None:
        self.saved = snapshot
        self.cut()

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

    @property
    def core(self) -> Any:
        return self.replica.core


class Mute:
    """A replica that hears everything and says nothing to the others."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def step(self, now: int, event: Any) -> list[Any]:
        return [effect for effect in self.inner.step(now, event) if type(effect) is not Send]

    def status(self) -> Any:
        return self.inner.status()


class Cluster:
    """n replicas, some clients, and everything between them in `network`, oldest first.

    A protocol's own cluster says which `core` a replica has, and with which keys and chance; then it calls `start`.
    """

    messages: Codec[Any]
    records: Codec[Any]
    packet: type[Packet] = Packet
    machine: Callable[[], StateMachine] = Counter
    membership: MembershipRules | None = None
    nothing: str
    """What an entry without requests is called."""

    def __init__(self, spec: ProtocolSpec, n: int, options: dict[str, Any] | None) -> None:
        self.n, self.f = n, spec.faults(n)
        self.first = tuple(range(n))
        """The members that it begins with."""
        self.options = spec.options(options or {})
        self.messages, self.records = spec.messages, spec.records
        self.now = 0
        self.network: list[Packet] = []
        self.blocked: Callable[[Packet], bool] = lambda packet: False
        self.autosync = True
        """Whether each record is durable at once; if not, `sync` makes them so, and lets out what waits for them."""
        self.autosave = True
        """Whether each state is saved at once; if not, `save` does it."""
        self.hanging: set[int] = set()
        """Replicas whose disk finishes nothing by itself."""
        self.disks = [Disk() for _ in range(n)]
        self.servers: dict[int, Server] = {}
        self.notes: list[tuple[int, Note]] = []
        self.sent: list[Sent] = []
        self.transcript: list[str] = []

    # ----------------------------------------------------------------------------------- what a protocol says of itself

    def setup(self, node: int, **common: Any) -> Setup:
        """What `node` is built with: `common`, and its keys and chance."""
        raise NotImplementedError

    def make(self, node: int, setup: Setup) -> Any:
        """The core of `node`."""
        raise NotImplementedError

    def watch(self, node: int, effects: Iterable[Effect]) -> None:
        """What a step gave, before anything of it is carried out."""

    def synced(self, node: int) -> None:
        """All that was to be written is durable, and nothing that waited for it has left yet."""

    def replied(self, node: int, client: str, message: ClientReply) -> None:
        """A word to a client."""

    def told(self, node: int, client: str, message: SessionKey) -> None:
        """A client is told a key (under MACs)."""

    def accused(self, node: int, accusation: Accuse) -> None:
        """A word against a replica."""

    def brief(self, message: Any) -> str:
        """A message, a record or a rare effect, as far as it matters to a reader."""
        raise NotImplementedError

    def short(self, value: Any) -> str:
        """A value in a note."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------------- replicas

    def start(self, node: int) -> list[Effect]:
        """Start, or start again from what is on the disk."""
        disk, executor = self.disks[node], Executor(self.machine(), rules=self.membership)
        stored = Stored(tuple(self.records.decode(raw) for _, raw in disk.records))
        if disk.saved is not None:
            executor.load(disk.saved.index, disk.saved.digest, disk.saved.parts())
            stored = Stored(stored.records, disk.saved.index, disk.saved.digest)
        setup = self.setup(
            node,
            me=node,
            members=self.first,
            f=self.f,
            domain=DOMAIN,
            config=self.options,
            sessions=executor,
            stored=stored,
        )
        self.servers[node] = Server(Replica(self.make(node, setup), executor))
        return self.step(node, Started())

    def crash(self, node: int) -> None:
        """Memory is gone, and what was not durable with all that waited for it; what comes meanwhile is lost."""
        self.servers.pop(node, None)
        self.disks[node].upto = 0

    def restart(self, node: int) -> None:
        self.crash(node)
        self.start(node)

    def step(self, node: int, event: Event) -> list[Effect]:
        replica = self.servers[node].replica
        effects = replica.step(self.now, event)
        self.watch(node, effects)
        replica.check_invariants()
        self.carry_out(node, effects)
        return effects

    def carry_out(self, node: int, effects: Iterable[Effect]) -> None:
        server, effects = self.servers[node], list(effects)
        for effect in effects:
            self.say(node, effect)
            if isinstance(effect, SetTimer):
                assert effect.delay > 0
                server.timers[effect.name] = self.now + effect.delay
            elif isinstance(effect, CancelTimer):
                server.timers.pop(effect.name, None)
            elif isinstance(effect, Note):
                self.notes.append((node, effect))
        server.outbox.add(effects)
        if self.autosync and node not in self.hanging:
            self.sync(node)
        else:
            self.let_out(node)

    def sync(self, node: int) -> None:
        """All records of `node` are durable now."""
        server = self.servers[node]
        records = server.outbox.write()
        self.disks[node].records += [(item.index, self.records.encode(item.record)) for item in records]
        server.outbox.written(len(records))
        self.synced(node)
        self.let_out(node)

    def let_out(self, node: int) -> None:
        """What waits for no record any more."""
        server = self.servers[node]
        server.outbox.check_invariants()
        for effect in server.outbox.ready():
            if isinstance(effect, Send):
                self._send(node, effect)
            elif isinstance(effect, Reply) and isinstance(effect.message, ClientReply):
                self.replied(node, effect.client, effect.message)
            elif isinstance(effect, Reply) and isinstance(effect.message, SessionKey):
                self.told(node, effect.client, effect.message)
            elif isinstance(effect, Save):
                server.saves.append(effect.snapshot)
            elif isinstance(effect, Trim):
                self.disks[node].trim(effect.upto)
            elif isinstance(effect, Accuse):
                self.accused(node, effect)
        if self.autosave and node not in self.hanging:
            self.save(node)

    def save(self, node: int) -> None:
        """The newest state of `node` that waits for it is saved; older ones are passed by."""
        saves = self.servers[node].saves
        if saves:
            newest = saves[-1]
            saves.clear()
            self.disks[node].save(newest)
            self.step(node, Saved(newest.index))

    # ------------------------------------------------------------------------------------------------ network and time

    def _send(self, node: int, effect: Send) -> None:
        assert node not in effect.to, "never to oneself"
        self.sent.append(Sent(node, effect.to, effect.message))
        raw = self.messages.encode(effect.message)
        for to in effect.to:
            self.send(self.packet(node, to, raw))

    def send(self, packet: Packet) -> None:
        if not self.blocked(packet):
            self.network.append(packet)

    def decode(self, packet: Packet) -> Any:
        return self.messages.decode(packet.raw)

    def deliver(self, position: int = 0, keep: bool = False) -> None:
        self.receive(self.network[position] if keep else self.network.pop(position))

    def receive(self, packet: Packet) -> None:
        if packet.to in self.servers:
            self.step(packet.to, Received(packet.sender, self.decode(packet)))

    def settle(self) -> None:
        """Deliver until nothing is under way. No time passes."""
        for _ in range(100_000):
            if not self.network:
                return
            self.deliver()
        raise AssertionError("messages without end")

    def due(self) -> list[tuple[int, int, str]]:
        """When, whose, which: the timers that run."""
        return [(at, node, name) for node, server in self.servers.items() for name, at in server.timers.items()]

    def run(self, us: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass: messages at once, timers when they are due. True if `until` came to hold."""
        end = self.now + us
        self.settle()
        while not until():
            at, node, name = min(self.due(), default=(end + 1, 0, ""))
            if at > end:
                self.now = end
                return until()
            self.fire(node, name)
            self.settle()
        return True

    def fire(self, node: int, name: str) -> None:
        """One timer runs out: time jumps to it."""
        self.now = max(self.now, self.servers[node].timers.pop(name))
        self.step(node, Timeout(name))

    def isolate(self, *nodes: int) -> None:
        """Cut these replicas off from all others."""
        self.blocked = lambda packet: (
            isinstance(packet.sender, int) and (packet.sender in nodes) != (packet.to in nodes)
        )

    def heal(self) -> None:
        self.blocked = lambda packet: False

    # ------------------------------------------------------------------------------------------------- notes and words

    def rules(self, node: int) -> list[str]:
        """What `node` refused, and why."""
        return [note.detail["rule"] for at, note in self.notes if at == node and note.kind == "nonsense"]

    def title(self, text: str) -> None:
        self.transcript.append(f"-- {text}")

    def say(self, node: int, effect: Effect) -> None:
        self.transcript.append(f"{self.now / MS:9.1f} ms  node {node}  {self.describe(effect)}")

    def text(self) -> str:
        return "\n".join(self.transcript)

    def describe(self, effect: Effect) -> str:
        """One line a person can read."""
        match effect:
            case Send():
                return f"send to {','.join(map(str, effect.to))}  {self.brief(effect.message)}"
            case Persist():
                return f"persist [{effect.index}]  {self.brief(effect.record)}"
            case Reply():
                return f"reply to {effect.client}  {self.brief(effect.message)}"
            case Apply():
                how = "tentatively " if effect.tentative else ""
                return f"apply {how}{effect.index}  {' '.join(map(named, effect.requests)) or self.nothing}"
            case Confirm():
                return f"confirm {effect.index}"
            case Query():
                return f"query  {' '.join(map(named, effect.requests))}"
            case Note():
                shown = [f"{key}={self.short(value)}" for key, value in effect.detail.items() if key != "digest"]
                return f"note {effect.kind}  {' '.join(shown)}"
            case Accuse():
                said = [self.brief(message) for message in (effect.first, effect.second) if message is not None]
                return f"accuse {effect.culprit} of {effect.kind}  {' / '.join(said)}"
            case SetTimer():
                return f"timer {effect.name} in {effect.delay / MS:.1f} ms"
            case CancelTimer():
                return f"no timer {effect.name}"
            case Save():
                return f"save {effect.snapshot.index}"
        return self.brief(effect)


def named(request: Any) -> str:
    return f"{request.client}#{request.timestamp}"
