"""The load generator behind `replog bench`: a fresh cluster of real processes, loaded in a closed loop.

C clients in this one process, each with its own key and its own links to every replica. A client keeps K operations
waiting: whatever one frame of replies completed is replaced at once, packed into one signed request. The load shares
the machine with the replicas, so it drives the sans-IO client straight from the links, without a task, future or lock
for an operation. One second of warm-up is not counted. Latency is from handing an operation to the client until its
result rests on as many replicas as the client's rules ask. Replicas are asked for their counters when the measured time
begins and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import os
import socket
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, cycle, islice
from pathlib import Path
from typing import Any, Final, Literal

from replog.apps.kv import KeyValue
from replog.certificates import load_signer
from replog.client import ClientCore, Done, Failed, ToReplica, Wake
from replog.config import ClusterConfig, create_cluster, size_of
from replog.live.client import PACK_OPERATIONS_MAX, LogClient
from replog.live.counters import TOLD
from replog.live.dialing import Links
from replog.live.folders import temporary_folder
from replog.live.processes import LocalProcesses
from replog.live.report import counters_of
from replog.meters import Meter, MeteredSigner
from replog.types import Message, Micros, NodeId

WARM_UP_US = 1_000_000
CONNECT_S = 30.0
CONNECT_AT_ONCE = 16
KEYS = 1000
"""Distinct 8-byte keys that are written or read, round robin."""
OBSERVER = "observer"
"""A client that asks for status and nothing else."""


@dataclass(frozen=True)
class Plan:
    """One measurement. `outstanding`: operations that each client keeps waiting."""

    protocol: str
    f: int = 1
    clients: int = 1
    outstanding: int = 1000
    seconds: float = 5.0
    durability: Literal["always", "periodic", "memory"] = "always"
    reads: float = 0.0
    """Share of the requests that read the keys instead of writing them."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The protocol's own."""


@dataclass
class Tally:
    """What was answered inside the measured time. Invariant: a sample is (latency in us, operations that had it)."""

    begin: Micros
    end: Micros
    samples: list[tuple[Micros, int]] = field(default_factory=list)
    failed: int = 0

    def done(self, now: Micros, since: Micros, count: int) -> None:
        if self.begin <= now <= self.end:
            self.samples.append((now - since, count))

    @property
    def acknowledged(self) -> int:
        return sum(count for _, count in self.samples)


def percentiles(samples: Sequence[tuple[Micros, int]], ranks: Sequence[float]) -> list[float | None]:
    """Milliseconds below which the given shares (0 .. 1) of all operations were answered; None without a sample."""
    ordered = sorted(samples)
    counts = list(accumulate(count for _, count in ordered))
    if not counts:
        return [None] * len(ranks)
    places = (min(bisect_left(counts, rank * counts[-1]), len(counts) - 1) for rank in ranks)
    return [round(ordered[place][0] / 1000, 3) for place in places]


def cpu_seconds(pids: Sequence[int]) -> float | None:
    """User and system time of these processes so far; None where /proc does not tell."""
    try:
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    except OSError:
        return None
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cpu:
    """CPU seconds during the measured time: of all replicas together, and of this process, which is the load."""

    replicas: float
    load: float


Work = Mapping[str, int]
"""Counted by all replicas and clients together in the measured time, by the names of `replog.live.counters.TOLD`."""


def figures(plan: Plan, n: int, auth: str, tally: Tally, cpu: Cpu | None, work: Work | None) -> dict[str, Any]:
    """The result, as it is printed and written. `cpu` and `work` are None where they cannot be told."""
    seconds = (tally.end - tally.begin) / 1e6
    done = tally.acknowledged
    p50, p99, longest = percentiles(tally.samples, (0.5, 0.99, 1.0))
    return {
        "protocol": plan.protocol,
        "engine": "live",
        "n": n,
        "f": plan.f,
        "clients": plan.clients,
        "outstanding": plan.outstanding,
        "auth": auth,
        "robust": plan.options.get("robust"),
        "durability": plan.durability,
        "reads": plan.reads,
        "seconds": round(seconds, 3),
        "acknowledged": done,
        "failed": tally.failed,
        "throughput_ops_s": round(done / seconds),
        "latency_ms": {"p50": p50, "p99": p99, "max": longest},
        "replica_cpu_s_per_1000_ops": None if cpu is None or not done else round(cpu.replicas / done * 1000, 5),
        "load_cpu_s_per_1000_ops": None if cpu is None or not done else round(cpu.load / done * 1000, 5),
        "signatures_per_op": None if work is None or not done else round(work["signatures_made"] / done, 5),
        "macs_per_op": None if work is None or not done else round(work["macs"] / done, 5),
        "turns_per_op": None if work is None or not done else round(work["turns"] / done, 5),
    }


# ------------------------------------------------------------------------------------------------------- the load


def monotonic() -> Micros:
    return time.monotonic_ns() // 1000


class LoadClient:
    """One client in a closed loop over `links`.

    Invariant: operations that wait for an answer, plus `_free`, are `outstanding`.
    """

    def __init__(self, config: ClusterConfig, name: str, outstanding: int, tally: Tally, reads: float = 0.0) -> None:
        spec, options = config.spec, config.protocol_options()
        folder = config.client_folder(name)
        rules = spec.client_rules(config.n, config.f, options)
        self.meter = Meter()
        signer = MeteredSigner(load_signer(folder), self.meter)
        self._core = ClientCore(name, config.n, rules, signer, config.domain, mac=self.meter.mac)
        self._pack = min(PACK_OPERATIONS_MAX, rules.request_operations_max)
        self._codec = spec.messages
        self.links = Links(config, name, self._take)
        self._tally = tally
        self._reads = reads
        self._due = 0.0
        self._writing = cycle([KeyValue.operation("put", key, f"val{n:05}") for n, key in enumerate(_KEYS)])
        self._reading = cycle([KeyValue.operation("get", key) for key in _KEYS])
        self._free = outstanding
        self._sent: dict[int, tuple[Micros, int]] = {}
        self._wake: asyncio.TimerHandle | None = None

    def refill(self) -> None:
        """Pack all that may be sent into one request, or into as many as it takes."""
        now = monotonic()
        while self._free and now <= self._tally.end:
            count = min(self._free, self._pack)
            read = self._reads_next()
            operations = list(islice(self._reading if read else self._writing, count))
            timestamp, effects = self._core.submit(now, operations, read)
            self._sent[timestamp] = (now, count)
            self._free -= count
            self._carry_out(now, effects)

    def _reads_next(self) -> bool:
        """Whether the next request reads: the share of those that do is kept at every moment."""
        self._due += self._reads
        if self._due < 1.0:
            return False
        self._due -= 1.0
        return True

    def _take(self, node: NodeId, messages: list[Message]) -> None:
        now = monotonic()
        for message in messages:
            self._carry_out(now, self._core.on_message(now, node, message))
        self.refill()

    def _carry_out(self, now: Micros, effects: Sequence[Any]) -> None:
        for effect in effects:
            if type(effect) is ToReplica:
                self._send(effect.to, effect.message)
            elif type(effect) is Wake:
                self._arm(now, effect.at)
            elif type(effect) is Done:
                since, count = self._sent.pop(effect.timestamp)
                self._free += count
                self._tally.done(now, since, count)
            elif type(effect) is Failed:
                _, count = self._sent.pop(effect.timestamp)
                self._free += count
                self._tally.failed += count

    def _send(self, to: Sequence[NodeId], message: Message) -> None:
        self.links.send(to, self._codec.encode(message))

    def _arm(self, now: Micros, at: Micros) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wake = asyncio.get_running_loop().call_later(max(0, at - now) / 1e6, self._expire)

    def _expire(self) -> None:
        self._wake = None
        now = monotonic()
        self._carry_out(now, self._core.on_timeout(now))
        self.refill()


_KEYS: Final = [f"key{number:05}" for number in range(KEYS)]


@dataclass(frozen=True)
class Reading:
    """Of one moment."""

    replicas_cpu: float | None
    load_cpu: float | None
    work: Counter[str] | None


async def _read(observer: LogClient, pids: Sequence[int], clients: Sequence[LoadClient]) -> Reading:
    """CPU first: nobody has to be asked for it."""
    spent = cpu_seconds(pids), cpu_seconds([os.getpid()])
    told = [counters_of(said.status) for said in await observer.status() if said.status is not None]
    if len(told) < observer.config.n or not all(one.keys() == TOLD.keys() for one in told):
        return Reading(*spent, None)
    work = sum(map(Counter, told), Counter[str]())
    for client in clients:
        work.update(signatures_made=client.meter.signed, macs=client.meter.macs)
    return Reading(*spent, work)


def _between(before: Reading, after: Reading) -> tuple[Cpu | None, Work | None]:
    cpu = work = None
    if None not in (before.replicas_cpu, after.replicas_cpu, before.load_cpu, after.load_cpu):
        cpu = Cpu(after.replicas_cpu - before.replicas_cpu, after.load_cpu - before.load_cpu)  # type: ignore[operator]
    if before.work is not None and after.work is not None:
        work = {name: after.work[name] - before.work[name] for name in TOLD}
    return cpu, work


async def connect(clients: Sequence[LoadClient], n: int) -> None:
    """Link them with all replicas, a few at a time: of hundreds at once most would wait beyond the time that a
    handshake may take, and begin again. Raises TimeoutError."""
    for first in range(0, len(clients), CONNECT_AT_ONCE):
        group = clients[first : first + CONNECT_AT_ONCE]
        for client in group:
            client.links.open()
        async with asyncio.timeout(CONNECT_S + n):
            await asyncio.gather(*(client.links.linked(n) for client in group))


async def _load(config: ClusterConfig, plan: Plan, pids: Sequence[int]) -> tuple[Tally, Cpu | None, Work | None]:
    """Connect all clients, load for warm-up and measured time. `pids`: of the replicas."""
    tally = Tally(begin=0, end=0)
    names = [client.name for client in config.clients if client.name != OBSERVER]
    clients = [LoadClient(config, name, plan.outstanding, tally, plan.reads) for name in names]
    try:
        await connect(clients, config.n)
        async with LogClient(config, OBSERVER) as observer:
            await observer.wait_connected(config.n, CONNECT_S + config.n)
            tally.begin = monotonic() + WARM_UP_US
            tally.end = tally.begin + round(plan.seconds * 1e6)
            for client in clients:
                client.refill()
            await _until(tally.begin)
            before = await _read(observer, pids, clients)
            await _until(tally.end)
            after = await _read(observer, pids, clients)
    finally:
        await asyncio.gather(*(client.links.close() for client in clients))
    return tally, *_between(before, after)


async def _until(moment: Micros) -> None:
    await asyncio.sleep(max(0.0, (moment - monotonic()) / 1e6))


async def _measure(plan: Plan, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    names = [OBSERVER, *(f"load-{number}" for number in range(plan.clients))]
    config = create_cluster(
        folder,
        plan.protocol,
        f=plan.f,
        port=free_ports(plan),
        clients=names,
        durability=plan.durability,
        options=dict(plan.options),
    )
    say(f"starting {config.n} replicas of {config.protocol}")
    async with LocalProcesses(config) as processes:
        await processes.start()
        await processes.wait_serving()
        say(f"{plan.clients} clients, {plan.outstanding} outstanding each, {plan.seconds:g} s after a warm-up")
        tally, cpu, work = await _load(config, plan, tuple(processes.pids().values()))
    plan = dataclasses.replace(plan, options=config.options)
    return figures(plan, config.n, config.auth, tally, cpu, work)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop that replicas run in: uvloop where there is one."""
    with contextlib.suppress(ImportError):
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
        return factory
    return None


def run(plan: Plan, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Measure once, in a cluster made for it and thrown away. Raises ConfigError, NodeDied."""
    with temporary_folder("replog-bench-") as folder, asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_measure(plan, folder / "cluster", progress or (lambda _: None)))


def free_ports(plan: Plan) -> list[int]:
    """Ports that nothing listens on just now, one a replica. Raises ConfigError."""
    n, _ = size_of(plan.protocol, f=plan.f)
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
