"""The load generator behind `replog bench`: a fresh cluster of real processes, loaded in a closed loop.

C clients in this one process, each with its own key and its own links to every replica. A client keeps K operations
waiting: whatever one frame of replies completed is replaced at once, packed into one signed request. The load shares
the machine with the replicas, so it drives the sans-IO client straight from the links, without a task, future or lock
for an operation. One second of warm-up is not counted. Latency is from handing an operation to the client until its
result rests on as many replicas as the client's rules ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import socket
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, cycle, islice
from pathlib import Path
from typing import Any, Literal

from replog.apps.kv import KeyValue
from replog.certificates import load_signer
from replog.client import ClientCore, Done, Failed, ToReplica, Wake
from replog.config import ClusterConfig, create_cluster, size_of
from replog.live.client import PACK_OPERATIONS_MAX
from replog.live.dialing import Links
from replog.live.processes import LocalProcesses
from replog.types import Message, Micros, NodeId

WARM_UP_US = 1_000_000
CONNECT_S = 30.0
KEYS = 1000
"""Distinct 8-byte keys that are written, round robin."""


@dataclass(frozen=True)
class Plan:
    """One measurement. `outstanding`: operations that each client keeps waiting."""

    protocol: str
    f: int = 1
    clients: int = 1
    outstanding: int = 1000
    seconds: float = 5.0
    durability: Literal["always", "memory"] = "always"
    reads: bool = False
    """Read the keys instead of writing them."""


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


def figures(plan: Plan, n: int, tally: Tally, cpu: Cpu | None) -> dict[str, Any]:
    """The result, as it is printed and written. `cpu` is None where it cannot be told."""
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
        "auth": "signatures",
        "durability": plan.durability,
        "reads": plan.reads,
        "seconds": round(seconds, 3),
        "acknowledged": done,
        "failed": tally.failed,
        "throughput_ops_s": round(done / seconds),
        "latency_ms": {"p50": p50, "p99": p99, "max": longest},
        "replica_cpu_s_per_1000_ops": None if cpu is None or not done else round(cpu.replicas / done * 1000, 5),
        "load_cpu_s_per_1000_ops": None if cpu is None or not done else round(cpu.load / done * 1000, 5),
    }


def as_json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"


# ------------------------------------------------------------------------------------------------------- the load


def monotonic() -> Micros:
    return time.monotonic_ns() // 1000


class LoadClient:
    """One client in a closed loop over `links`.

    Invariant: operations that wait for an answer, plus `_free`, are `outstanding`.
    """

    def __init__(self, config: ClusterConfig, name: str, outstanding: int, tally: Tally, reads: bool = False) -> None:
        spec, options = config.spec, config.protocol_options()
        folder = config.client_folder(name)
        rules = spec.client_rules(config.n, config.f, options)
        self._core = ClientCore(name, config.n, rules, load_signer(folder), config.domain)
        self._pack = min(PACK_OPERATIONS_MAX, rules.request_operations_max)
        self._codec = spec.messages
        self.links = Links(config, name, self._take)
        self._tally = tally
        self._reads = reads
        self._operations = cycle([_operation(n, reads) for n in range(KEYS)])
        self._free = outstanding
        self._sent: dict[int, tuple[Micros, int]] = {}
        self._wake: asyncio.TimerHandle | None = None

    def refill(self) -> None:
        """Pack all that may be sent into one request, or into as many as it takes."""
        now = monotonic()
        while self._free and now <= self._tally.end:
            count = min(self._free, self._pack)
            timestamp, effects = self._core.submit(now, list(islice(self._operations, count)), self._reads)
            self._sent[timestamp] = (now, count)
            self._free -= count
            self._carry_out(now, effects)

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


def _operation(number: int, reads: bool) -> bytes:
    key = f"key{number:05}"
    return KeyValue.operation("get", key) if reads else KeyValue.operation("put", key, f"val{number:05}")


async def _load(config: ClusterConfig, plan: Plan, pids: Sequence[int]) -> tuple[Tally, Cpu | None]:
    """Connect all clients, load for warm-up and measured time. `pids`: of the replicas."""
    tally = Tally(begin=0, end=0)
    clients = [LoadClient(config, client.name, plan.outstanding, tally, plan.reads) for client in config.clients]
    for client in clients:
        client.links.open()
    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.gather(*(client.links.linked(config.n) for client in clients))
        tally.begin = monotonic() + WARM_UP_US
        tally.end = tally.begin + round(plan.seconds * 1e6)
        for client in clients:
            client.refill()
        await _until(tally.begin)
        before = cpu_seconds(pids), cpu_seconds([os.getpid()])
        await _until(tally.end)
        after = cpu_seconds(pids), cpu_seconds([os.getpid()])
    finally:
        await asyncio.gather(*(client.links.close() for client in clients))
    spent = [None if b is None or a is None else a - b for b, a in zip(before, after, strict=True)]
    return tally, None if spent[0] is None or spent[1] is None else Cpu(spent[0], spent[1])


async def _until(moment: Micros) -> None:
    await asyncio.sleep(max(0.0, (moment - monotonic()) / 1e6))


async def _measure(plan: Plan, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    names = [f"load-{number}" for number in range(plan.clients)]
    config = create_cluster(
        folder, plan.protocol, f=plan.f, port=free_ports(plan), clients=names, durability=plan.durability
    )
    say(f"starting {config.n} replicas of {config.protocol}")
    async with LocalProcesses(config) as processes:
        await processes.start()
        await processes.wait_serving()
        say(f"{plan.clients} clients, {plan.outstanding} outstanding each, {plan.seconds:g} s after a warm-up")
        tally, cpu = await _load(config, plan, tuple(processes.pids().values()))
    return figures(plan, config.n, tally, cpu)


def run(plan: Plan, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Measure once, in a cluster made for it and thrown away. Raises ConfigError, NodeDied."""
    factory = None
    with contextlib.suppress(ImportError):
        factory = importlib.import_module("uvloop").new_event_loop
    with tempfile.TemporaryDirectory(prefix="replog-bench-") as folder, asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_measure(plan, Path(folder) / "cluster", progress or (lambda _: None)))


def free_ports(plan: Plan) -> list[int]:
    """Ports that nothing listens on just now, one a replica. Raises ConfigError."""
    n, _ = size_of(plan.protocol, f=plan.f)
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
