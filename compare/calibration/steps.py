"""What the core of a replica and of a client do with one message: the real cores with real signatures, each step timed.

They run in the simulated world, where nothing else is in the time of a step: no link, no disk, no other process. What
signatures and MACs take is subtracted by count; the rest is divided among the kinds of messages, the requests and the
operations by least squares.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from compare.calibration.fit import cost, prices
from replog import protocols
from replog.apps.kv import KeyValue
from replog.core import Apply, Effect, Event, Query, Received
from replog.meters import Meter
from replog.node import Plug
from replog.replica import Replica
from replog.sim.client import SimClient
from replog.sim.cluster import SimCluster
from replog.types import Message, NodeId, Status

LOADS: Final = ((2, 1), (40, 1), (2, 32))
"""Clients, and operations that each packs into its one request."""
CPU_S: Final = 1.5
"""Of real time that each load takes, about."""
SLICE_US: Final = 20_000
KEYS: Final = 1000


@dataclass
class Row:
    """One step. `counts`: one of its kind, and what it ordered; `us`: without signatures and MACs."""

    counts: dict[str, float]
    us: float


@dataclass
class Steps:
    """Of one protocol: every step of its replicas and clients, and some of the messages that they heard."""

    replicas: list[Row] = field(default_factory=list)
    clients: list[Row] = field(default_factory=list)
    messages: dict[type[Message], list[Message]] = field(default_factory=lambda: defaultdict(list))


def kind_of(event: Event) -> str:
    return type(event.message if type(event) is Received else event).__name__


def ordered(effects: Sequence[Effect]) -> dict[str, float]:
    """Requests and operations that these effects execute."""
    executed = [request for effect in effects if isinstance(effect, Apply | Query) for request in effect.requests]
    return {"request_us": len(executed), "operation_us": sum(request.count for request in executed)}


class _Timed:
    """A replica whose steps are timed."""

    def __init__(self, replica: Replica, meter: Callable[[], Meter], signing: Mapping[str, float], into: Steps) -> None:
        self._inner = replica
        self._meter = meter
        self._signing = signing
        self._into = into

    def step(self, now: int, event: Event) -> list[Effect]:
        meter = self._meter()
        before = told(meter)
        begin = time.thread_time_ns()
        effects = self._inner.step(now, event)
        us = (time.thread_time_ns() - begin) / 1000
        spent = {name: number - before[name] for name, number in told(meter).items()}
        self._into.replicas.append(Row({kind_of(event): 1, **ordered(effects)}, us - cost(spent, self._signing)))
        if type(event) is Received and len(self._into.messages[type(event.message)]) < 200:
            self._into.messages[type(event.message)].append(event.message)
        return effects

    def status(self) -> Status:
        return self._inner.status()


def told(meter: Meter) -> dict[str, float]:
    return {"sign_us": meter.signed, "verify_us": meter.verified, "mac_us": meter.macs}


def timed(protocol: str, f: int, options: Mapping[str, Any], signing: Mapping[str, float]) -> Steps:
    """Every step under LOADS. `signing`: prices of one signature, check and MAC. Raises RuntimeError if nothing was
    acknowledged: then the times are of nothing."""
    steps = Steps()
    for clients, packed in LOADS:
        cluster = _cluster(protocol, f, options, clients, signing, steps)
        cluster.run_until(lambda cluster=cluster: cluster.leader() is not None)  # type: ignore[misc]
        for name in cluster.clients:
            _time_client(cluster.client(name), signing, steps)
            cluster.client(name).load(requests(packed))
        until = time.process_time() + CPU_S
        while time.process_time() < until:
            cluster.run_for(SLICE_US)
        if not cluster.counters.acknowledged:
            raise RuntimeError(f"{protocol}: {clients} clients, and nothing was acknowledged")
    return steps


def _cluster(
    protocol: str, f: int, options: Mapping[str, Any], clients: int, signing: Mapping[str, float], steps: Steps
) -> SimCluster:
    def wrap(node: NodeId, replica: Replica) -> Plug:
        return _Timed(replica, lambda: cluster.nodes[node].meter, signing, steps)

    names = [f"c{number}" for number in range(clients)]
    spec = protocols.find(protocol)
    cluster = SimCluster(spec, None, f, dict(options), clients=names, real_signatures=True, wrap=wrap, start=False)
    cluster.restart(*range(cluster.n))
    return cluster


def requests(packed: int) -> Iterator[list[bytes]]:
    """As `replog bench` writes: keys round robin, values of 8 bytes."""
    one = ([f"key{n % KEYS:05}", f"val{n % KEYS:05}"] for n in count())
    while True:
        yield [KeyValue.operation("put", *next(one)) for _ in range(packed)]


def _time_client(client: SimClient, signing: Mapping[str, float], steps: Steps) -> None:
    """What its core takes, in place of what the simulator would charge."""
    core, submit, hear = client.core, client.core.submit, client.core.on_message

    def row(counts: dict[str, float], call: Callable[[], Any]) -> Any:
        before, begin = told(client.meter), time.thread_time_ns()
        result = call()
        us = (time.thread_time_ns() - begin) / 1000
        spent = {name: number - before[name] for name, number in told(client.meter).items()}
        steps.clients.append(Row(counts, us - cost(spent, signing)))
        return result

    def timed_submit(now: int, operations: Any, *rest: Any) -> Any:
        counts = {"client_request_us": 1.0, "client_operation_us": float(len(operations))}
        return row(counts, lambda: submit(now, operations, *rest))

    def timed_hear(now: int, sender: Any, message: Message) -> Any:
        result = row({type(message).__name__: 1.0}, lambda: hear(now, sender, message))
        done = sum(len(effect.outcomes) for effect in result if hasattr(effect, "outcomes"))
        steps.clients[-1].counts["client_operation_us"] = float(done)
        return result

    core.submit, core.on_message = timed_submit, timed_hear  # type: ignore[method-assign, assignment]


def divided(rows: Sequence[Row]) -> dict[str, float]:
    """The price of each kind of step, request and operation."""
    merged: dict[tuple[tuple[str, float], ...], list[float]] = defaultdict(list)
    for row in rows:
        merged[tuple(sorted(row.counts.items()))].append(row.us)
    counts, totals = [], []
    for key, us in merged.items():  # the mean of equal rows, weighted by their number: the same least squares
        weight = len(us) ** 0.5
        counts.append({name: number * weight for name, number in key})
        totals.append(sum(us) / len(us) * weight)
    return prices(counts, totals)
