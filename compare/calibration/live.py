"""Short runs of real replicas under real load, for what no micro-benchmark shows: turns, frames, and how much longer
the same work takes beside other busy processes.

The loads are others than those that a model is checked with (`compare.calibration.check`).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from compare.calibration.micro import own_us
from replog.config import ClusterConfig, create_cluster
from replog.live import bench
from replog.live.bench import LoadClient, Plan, Tally, loop_factory, monotonic
from replog.live.client import LogClient
from replog.live.folders import temporary_folder
from replog.live.processes import LocalProcesses
from replog.live.report import counters_of
from replog.types import Message, NodeId

LOADS: Final = ((3, 1), (40, 1), (100, 1), (4, 16))
"""Clients, and operations that each packs into its one request."""
SECONDS: Final = 2.0
SETTLE_S: Final = 0.7
CONNECT_S: Final = 30.0
COUNTS: Final = {
    "turn_us": ("turns",),
    "frame_us": ("frames_received", "frames_sent"),
    "message_us": ("messages_received", "client_messages_received", "messages_sent", "client_messages_sent"),
    "sign_us": ("signatures_made",),
    "verify_us": ("signatures_verified",),
    "mac_us": ("macs",),
    "commit_us": ("commits",),
}
"""What a replica tells of itself, by the price of it."""


@dataclass
class Sample:
    """Of one process in the measured time: `cpu_us`, `steps_us` of it inside the core (0: not known), and counts by the
    names of prices and kinds of messages."""

    cpu_us: float
    steps_us: float
    counts: dict[str, float]


@dataclass
class Samples:
    replicas: list[Sample] = field(default_factory=list)
    loads: list[Sample] = field(default_factory=list)


def sampled(protocol: str, f: int, options: Mapping[str, Any], seconds: float = SECONDS) -> Samples:
    """Of every replica and the load generator under each of LOADS."""
    samples = Samples()
    for clients, packed in LOADS:
        plan = Plan(protocol, f, clients, packed, seconds, options=dict(options))
        with temporary_folder("replog-calibrate-") as folder, asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(plan, folder, samples))
    return samples


async def _run(plan: Plan, folder: Path, samples: Samples) -> None:
    names = [bench.OBSERVER, *(f"load-{number}" for number in range(plan.clients))]
    config = create_cluster(
        folder / "cluster",
        plan.protocol,
        f=plan.f,
        port=bench.free_ports(plan),
        clients=names,
        options=dict(plan.options),
        lab=True,
    )
    told = folder / "told"
    told.mkdir()
    wraps = {node: ("compare.calibration.probe:probe", {"folder": str(told)}) for node in range(config.n)}
    async with LocalProcesses(config) as processes:
        await processes.start(wraps=wraps)
        await processes.wait_serving()
        await _load(config, plan, told, samples)


async def _load(config: ClusterConfig, plan: Plan, told: Path, samples: Samples) -> None:
    tally = Tally(begin=0, end=monotonic() + 3_600_000_000)
    clients = [_Counted(config, f"load-{number}", plan.outstanding, tally) for number in range(plan.clients)]
    try:
        await bench.connect(clients, config.n)
        async with LogClient(config, bench.OBSERVER) as observer:
            await observer.wait_connected(config.n, CONNECT_S)
            for client in clients:
                client.refill()
            await asyncio.sleep(SETTLE_S)
            before = await _read(observer, told, clients, tally)
            await asyncio.sleep(plan.seconds)
            after = await _read(observer, told, clients, tally)
    finally:
        tally.end = 0  # whatever is answered now is not replaced
        await asyncio.gather(*(client.links.close() for client in clients))
    spent = {who: _less(after[who], before[who]) for who in before.keys() & after.keys()}
    if len(spent) < config.n + 1 or not spent[None]["client_request_us"]:
        raise RuntimeError(f"{plan.protocol}, {plan.clients} clients: a replica did not answer, or nothing was done")
    samples.loads.append(_sample(spent.pop(None)))
    samples.replicas += map(_sample, spent.values())


def _less(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    return {name: number - before.get(name, 0) for name, number in after.items()}


def _sample(spent: Mapping[str, float]) -> Sample:
    counts = {name: number for name, number in spent.items() if name not in ("cpu_us", "steps_us")}
    return Sample(spent["cpu_us"], spent.get("steps_us", 0.0), counts)


class _Counted(LoadClient):
    """Counts frames and messages by kind. Submissions are those that are answered: in a closed loop nearly all."""

    def __init__(self, config: ClusterConfig, name: str, outstanding: int, tally: Tally) -> None:
        self.counts: Counter[str] = Counter()
        super().__init__(config, name, outstanding, tally)

    def _take(self, node: NodeId, messages: list[Message]) -> None:
        self.counts["frame_us"] += 1
        self.counts["message_us"] += len(messages)
        self.counts.update(type(message).__name__ for message in messages)
        super()._take(node, messages)

    def _send(self, to: Sequence[NodeId], message: Message) -> None:
        self.counts["frame_us"] += len(to)
        self.counts["message_us"] += 1
        super()._send(to, message)


Reading = dict[NodeId | None, dict[str, float]]
"""What each replica did so far; None: the load generator."""


async def _read(observer: LogClient, told: Path, clients: Sequence[_Counted], tally: Tally) -> Reading:
    """The load's own share first: asking costs something."""
    load: Counter[str] = sum((client.counts for client in clients), Counter())
    load.update(client_request_us=len(tally.samples), client_operation_us=2 * tally.acknowledged)
    load.update(sign_us=sum(client.meter.signed for client in clients), cpu_us=round(own_us()))
    reading: Reading = {None: dict(load)}
    for said in await observer.status():
        if said.status is not None:
            own = counters_of(said.status)
            steps = json.loads((told / f"node-{said.node}.json").read_text())
            reading[said.node] = steps | {price: float(sum(own[name] for name in of)) for price, of in COUNTS.items()}
    return reading
