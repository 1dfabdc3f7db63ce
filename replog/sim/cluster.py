"""A whole cluster in one seed: replicas, clients, links, disks, and everything that can happen to them.

Here: building it and the words in which stories about it are told. Not here: attacks (they come in by `wrap`), judges,
workloads and timelines (`compare`).

    cluster = SimCluster(spec, n=4, f=1, seed=7)
    cluster.client("c0").submit([KeyValue.operation("put", "x", "1")])
    cluster.partition({0}, {1, 2, 3})
    cluster.run_until(lambda: cluster.client("c0").outstanding == 0)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from replog.apps.kv import KeyValue
from replog.chain import Chain
from replog.client import ClientCore, Done, Failed
from replog.codec import Domain, digest_of
from replog.core import Command, ProtocolSpec
from replog.keys import Ed25519Signer, Ed25519Verifier, HashSigner, Signer, Verifier
from replog.membership import ADMIN, VALID_US, Change, Configuration, Member, genesis, signed
from replog.meters import Meter, MeteredSigner, MeteredVerifier
from replog.node import Plug, SavedState, Wrap, build
from replog.replica import Replica
from replog.sim.client import SimClient
from replog.sim.costs import REFERENCE, CostModel, MeteredHashVerifier
from replog.sim.disk import Disk, DiskModel
from replog.sim.inbox import SHARES
from replog.sim.network import LAN, Network, NetworkModel
from replog.sim.node import SimNode
from replog.sim.process import Cores, Process
from replog.sim.world import EPOCH_US, World
from replog.statemachine import StateMachine
from replog.trace import Recorder
from replog.turns import Turns
from replog.types import ClientId, Message, Micros, NodeId, Principal, Status


class Stalled(AssertionError):
    """What a story waited for did not come in time; the text is a picture of the cluster."""


@dataclass
class Counters:
    """What was done, summed over the processes asked for. `kinds`: messages sent, by class name."""

    messages: int = 0
    frames: int = 0
    bytes: int = 0
    delivered: int = 0
    undecodable: int = 0
    signed: int = 0
    verified: int = 0
    macs: int = 0
    syncs: int = 0
    disk_bytes: int = 0
    busy_us: int = 0
    submitted: int = 0
    acknowledged: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Variant:
    """What one replica runs in place of what the others run: a core with a bug, or options of an older version."""

    spec: ProtocolSpec
    options: Any


class SimCluster:
    """Invariant: one construction and one series of calls give one run, byte for byte, in any process."""

    shares = SHARES

    def __init__(
        self,
        spec: ProtocolSpec,
        n: int | None = None,
        f: int = 1,
        options: dict[str, Any] | None = None,
        *,
        machine: Callable[[], StateMachine] = KeyValue,
        seed: int = 1,
        network: NetworkModel = LAN,
        disk: DiskModel | None = None,
        costs: CostModel = REFERENCE,
        clients: Sequence[ClientId] = ("c0",),
        wrap: Wrap | None = None,
        real_signatures: bool = False,
        recorder: Recorder | None = None,
        start: bool = True,
        membership: bool = False,
        disks: Callable[[World, str, DiskModel], Disk] = Disk,
    ) -> None:
        """`n` defaults to the least that stands `f` faults. Raises ValueError if the protocol cannot run so, and
        pydantic.ValidationError for wrong options. With `start=False` nothing runs before `restart(node)`.
        `membership`: the members may change, see `add` and `change`. `disks(world, name, model)`: one a replica."""
        self.spec = spec
        self.f = f
        self.n = spec.replicas(f) if n is None else n
        spec.check_size(self.n, f)
        self.options = spec.options(options or {})
        self.machine = machine
        self.world = World(seed)
        self.network = Network(self.world, network)
        self.recorder = recorder
        self.costs = costs
        self.domain = Domain(f"sim-{seed}")
        self._wrap = wrap
        self._disk_model = disk if disk is not None else DiskModel()
        self._disks = disks
        self._cores = Cores(costs.cores)
        self.variants: dict[NodeId, Variant] = {}
        """Replicas that are built otherwise from their next start on."""
        self._replicas: dict[NodeId, Replica] = {}
        administrators = [ADMIN] if membership else []
        self._keys = _Keys(self.world, [*range(self.n), *clients, *administrators], real_signatures)
        self.genesis = genesis(f, [self.member(node) for node in range(self.n)]) if membership else None
        self.nodes: list[SimNode] = [self._node(me) for me in range(self.n)]
        for node in self.nodes:
            node.up = False
        self.clients: dict[ClientId, SimClient] = {name: self._client(name) for name in clients}
        if start:
            for node in self.nodes:
                node.start()

    # ------------------------------------------------------------------------------------------------------ building

    def _process(self, name: Principal) -> tuple[Any, ...]:
        return (self.world, self.network, self._cores, self.costs, name, self.spec.messages)

    def _node(self, me: NodeId) -> SimNode:
        disk = self._disks(self.world, str(me), self._disk_model)
        process = self._process(me)
        turns = Turns.wanted(self.options, [node for node in range(self.n) if node != me], self.shares)
        return SimNode(
            *process, disk=disk, build=self._build, recorder=self.recorder, records=self.spec.records, turns=turns
        )

    def _build(self, node: SimNode) -> Plug:
        replica = self._replicas[node.name] = self.second(node.name)
        return replica if self._wrap is None else self._wrap(node.name, replica)

    def second(self, me: NodeId) -> Replica:
        """A replica from what the disk of `me` holds now, as if its process were started once more."""
        node = self.nodes[me]
        saved = node.disk.saved
        variant = self.variants.get(me, Variant(self.spec, self.options))
        return build(
            variant.spec,
            me=node.name,
            n=self.n,
            f=self.f,
            genesis=self.genesis,
            cluster_id=self.domain.cluster,
            options=variant.options,
            signer=MeteredSigner(self._keys.signer(node.name), node.meter),
            verifier=self._keys.verifier(node.meter),
            machine=self.machine(),
            rng=self.world.stream(f"core/{node.name}/{node.lives}"),
            wall=node.clock.wall,
            records=[self.spec.records.decode(raw) for _, raw in node.disk.records],
            saved=None if saved is None else SavedState(saved.index, saved.digest, saved.parts()),
            mac=node.meter.mac,
        )

    def _client(self, name: ClientId) -> SimClient:
        rules = self.spec.client_rules(self.n, self.f, self.options)
        meter = Meter()
        signer = MeteredSigner(self._keys.signer(name), meter)
        core = ClientCore(name, self.n, rules, signer, self.domain, mac=meter.mac, chain=self._chain(meter))
        client = SimClient(*self._process(name), core=core)
        client.meter = meter
        return client

    def _chain(self, meter: Meter) -> Chain | None:
        """What a client knows of the members at first."""
        if self.genesis is None:
            return None
        verifier = self._keys.verifier(meter)
        rules = partial(self.spec.client_rules, options=self.options)
        return Chain(self.genesis, self.domain.cluster, rules, lambda known: verifier.extended(known.keys()))

    # --------------------------------------------------------------------------------------------------------- members

    def member(self, node: NodeId) -> Member:
        return Member(node, "127.0.0.1", 7000 + node, self._keys.public_key(node))

    def add(self) -> NodeId:
        """Start a replica with an empty disk, which knows the first configuration alone. It becomes a member by a
        `change`; until then nobody hears it."""
        if self.genesis is None:
            raise ValueError("this cluster was made without membership: its members never change")
        node = self.n
        self.n += 1
        self._keys.add(node)
        self.nodes.append(self._node(node))
        self.nodes[node].start()
        return node

    def change(
        self,
        add: Iterable[NodeId] = (),
        remove: Iterable[NodeId] = (),
        f: int | None = None,
        client: ClientId = "c0",
        on_done: Callable[[Done | Failed], None] | None = None,
        learners: Iterable[NodeId] = (),
    ) -> int:
        """Submit a change of the present members, signed by the administrator. Gives its timestamp."""
        present = self.configuration
        added = tuple(self.member(node) for node in add)
        faults, until = present.f if f is None else f, EPOCH_US + self.now + VALID_US
        change = Change(present.epoch, faults, tuple(remove), added, tuple(sorted(learners)), until)
        return self.client(client).change(signed(self._keys.signer(ADMIN).sign, self.domain.cluster, change), on_done)

    @property
    def configuration(self) -> Configuration:
        """The latest that enough replicas have come to: more than may lie in it."""
        known = [replica.executor.configuration_at(replica.executor.index + 1) for replica in self._replicas.values()]
        found = {one.epoch: one for one in known if one is not None}
        counts = Counter(one.epoch for one in known if one is not None)
        if self.genesis is None:
            raise ValueError("this cluster was made without membership: its members never change")
        return max((found[epoch] for epoch in found if counts[epoch] > found[epoch].f), key=lambda one: one.epoch)

    @property
    def members(self) -> tuple[NodeId, ...]:
        return tuple(range(self.n)) if self.genesis is None else self.configuration.ids

    def client(self, name: ClientId = "c0") -> SimClient:
        if name not in self.clients:
            raise ValueError(f"client {name!r}: known are {', '.join(self.clients)}")
        return self.clients[name]

    def signer(self, name: Principal) -> Signer:
        """The key of this one node or client: what a coalition is handed for each of its own members."""
        return self._keys.signer(name)

    def public_keys(self) -> dict[Principal, bytes]:
        """Of everybody, with real signatures; keyed hashes have none."""
        return self._keys.public_keys()

    def verifier(self) -> Verifier:
        """Checks any signature of this cluster; makes none."""
        return self._keys.verifier(Meter())

    # ------------------------------------------------------------------------------------------------------------ time

    @property
    def now(self) -> Micros:
        return self.world.now

    def run_for(self, us: Micros) -> None:
        self.world.run_until(self.world.now + us)

    def run_until(self, predicate: Callable[[], bool], limit_us: Micros = 10_000_000) -> None:
        """Run until `predicate()` holds after an event. Raises Stalled, with a picture, after `limit_us`."""
        if predicate() or self.world.run_until(self.world.now + limit_us, predicate):
            return
        raise Stalled(f"not reached within {limit_us} us:\n{self.picture()}")

    def at(self, time: Micros, action: Callable[[], None]) -> None:
        """Plan something for a time of the world."""
        self.world.at(time, lambda _: action())

    def after(self, us: Micros, action: Callable[[], None]) -> None:
        self.at(self.now + us, action)

    # ---------------------------------------------------------------------------------------------------------- faults

    def crash(self, *nodes: NodeId) -> None:
        """Kill replicas: memory, frames in their queues and unsynced writes are gone. No effect on one that is down."""
        for node in nodes:
            if self.nodes[node].up:
                self.nodes[node].crash()

    def restart(self, *nodes: NodeId) -> None:
        """Start replicas from what their disks hold; one that is up is killed first."""
        for node in nodes:
            self.crash(node)
            self.nodes[node].start()

    def amnesia(self, *nodes: NodeId) -> None:
        """Kill replicas and empty their disks. `restart` brings them back with nothing."""
        for node in nodes:
            self.crash(node)
            self.nodes[node].disk.wipe()

    def pause(self, *nodes: Principal) -> None:
        for name in nodes:
            if self.process(name).up:
                self.process(name).pause()

    def resume(self, *nodes: Principal) -> None:
        for name in nodes:
            if self.process(name).paused:
                self.process(name).resume()

    def partition(self, *groups: Iterable[Principal]) -> None:
        """Cut all links between members of different groups. Who is named in none reaches everybody."""
        self.network.partition(*groups)

    def cut(self, a: Principal, b: Principal, one_way: bool = False) -> None:
        self.network.cut(a, b, one_way)

    def heal(self) -> None:
        """Undo every cut."""
        self.network.heal()

    def slow(self, node: Principal, us: Micros) -> None:
        """Every turn of this process takes `us` longer, without using a core; 0 ends it."""
        self.process(node).slow_us = us

    def slow_disk(self, node: NodeId, us: Micros) -> None:
        """Every write of this replica takes `us` longer; 0 ends it."""
        self.nodes[node].disk.slow_us = us

    def drift(self, node: Principal, rate_ppm: int = 0, wall_jump_us: Micros = 0) -> None:
        """Let the clock of a process gain `rate_ppm` microseconds a second, and its time of day jump."""
        clock = self.process(node).clock
        clock.drift(rate_ppm)
        clock.wall_offset_us += wall_jump_us

    def command(self, node: NodeId, name: str, **arguments: Any) -> None:
        """An operator's word to one replica."""
        self.nodes[node].command(Command(name, arguments))

    def refresh(self, *nodes: NodeId) -> None:
        """Start replicas anew from their disks, told to believe nothing of it (PBFT). One that leads had better be told
        `step-down` some time before."""
        for node in nodes:
            self.restart(node)
            self.command(node, "refresh")

    def refresh_every(self, us: Micros) -> None:
        """From now on each replica once in `us`, in turn and evenly apart."""
        node = 0

        def one() -> None:
            nonlocal node
            turn, node = node, (node + 1) % self.n
            self.command(turn, "step-down")
            self.after(us // self.n // 4, lambda: self.refresh(turn))
            self.after(us // self.n, one)

        self.after(us // self.n, one)

    def send_as(self, sender: Principal, to: Iterable[Principal], message: Message) -> None:
        """Put a message on the links of `sender`, now: for Byzantine clients, who follow no client's code."""
        self.process(sender).transmit([(tuple(to), message)])

    # -------------------------------------------------------------------------------------------------- looking at it

    def process(self, name: Principal) -> Process:
        return self.nodes[name] if isinstance(name, int) else self.client(name)

    def replica(self, node: NodeId) -> Replica:
        """The replica itself, under whatever wraps it, in its present or last life."""
        return self._replicas[node]

    def status(self, node: NodeId) -> Status | None:
        """What the replica would say of itself; None if it is down."""
        plug = self.nodes[node].plug
        return None if plug is None else plug.status()

    def leader(self) -> NodeId | None:
        """Who leads in the highest view or term in which a replica that is up knows a leader; None if none does."""
        known = [status for node in range(self.n) if (status := self.status(node)) is not None]
        led = [(status.view, status.leader) for status in known if status.leader >= 0]
        return max(led)[1] if led else None

    def check_invariants(self, nodes: Iterable[NodeId] | None = None) -> None:
        """Raise AssertionError if a replica that is up breaks an invariant of its own."""
        for node in range(self.n) if nodes is None else nodes:
            if self.nodes[node].plug is not None:
                self._replicas[node].check_invariants()
                self.nodes[node].outbox.check_invariants()

    @property
    def counters(self) -> Counters:
        """Of all replicas and clients so far."""
        return self.count([*range(self.n), *self.clients])

    def count(self, names: Iterable[Principal]) -> Counters:
        """Of these processes so far. `dropped` is always that of the whole network."""
        total = Counters(dropped=Counter(self.network.dropped))
        for name in names:
            _add(total, self.process(name))
        return total

    def picture(self) -> str:
        """The cluster as it stands, for a person."""
        lines = [f"seed {self.world.seed}, {self.now} us, {self.spec.name} n = {self.n} f = {self.f}"]
        lines += [self._line(node) for node in range(self.n)]
        for name, client in self.clients.items():
            done = f"{client.acknowledged} of {client.submitted} operations acknowledged"
            lines.append(f"  {name}: {done}, {client.outstanding} requests outstanding")
        cuts = ", ".join(f"{a} -> {b}" for a, b in self.network.cuts())
        return "\n".join([*lines, f"  cut: {cuts or 'nothing'}", f"  dropped: {dict(self.network.dropped)}"])

    def _line(self, node: NodeId) -> str:
        status = self.status(node)
        if status is None:
            return f"  {node}: down"
        paused = ", paused" if self.nodes[node].paused else ""
        word = self.spec.view_word
        text = f"  {node}: {status.role}, {word} {status.view}, leader {status.leader}, index {status.index}"
        return f"{text}, stable {status.stable}{paused} {status.detail or ''}".rstrip()


class _Keys:
    """Every key of the cluster, from the seed."""

    def __init__(self, world: World, names: Sequence[Principal], real: bool) -> None:
        self._world = world
        self._secrets: dict[Principal, bytes] = {name: world.secret(f"key/{name!r}") for name in names}
        self._real: dict[Principal, Ed25519Signer] = {}
        self._is_real = real
        if real:
            self._real = {name: Ed25519Signer(secret) for name, secret in self._secrets.items()}

    def add(self, name: Principal) -> None:
        """Verifiers made before know a hash key at once, and a real one once the chain has told them."""
        self._secrets[name] = secret = self._world.secret(f"key/{name!r}")
        if self._is_real:
            self._real[name] = Ed25519Signer(secret)

    def public_key(self, name: Principal) -> bytes:
        """Where signatures are hashes there is none: something that tells members apart."""
        return self._real[name].public if self._is_real else digest_of(self._secrets[name])

    def signer(self, name: Principal) -> Signer:
        return self._real[name] if self._real else HashSigner(self._secrets[name])

    def verifier(self, meter: Meter) -> Verifier:
        if not self._real:
            return MeteredHashVerifier(self._secrets, meter)
        return MeteredVerifier(Ed25519Verifier(self.public_keys()), meter)

    def public_keys(self) -> dict[Principal, bytes]:
        return {name: key.public for name, key in self._real.items()}


def _add(total: Counters, process: Process) -> None:
    total.messages += sum(process.sent_kinds.values())
    total.frames += process.sent_frames
    total.bytes += process.sent_bytes
    total.delivered += process.delivered
    total.undecodable += process.undecodable
    total.signed += process.meter.signed
    total.verified += process.meter.verified
    total.macs += process.meter.macs
    total.busy_us += process.busy_us
    total.kinds.update({kind.__name__: number for kind, number in process.sent_kinds.items()})
    if isinstance(process, SimNode):
        total.syncs += process.disk.syncs
        total.disk_bytes += process.disk.bytes
    elif isinstance(process, SimClient):
        total.submitted += process.submitted
        total.acknowledged += process.acknowledged
