"""One cluster of real processes under load and chaos for some rounds, or for a while; then every judge of `compare`.

Here: the run and what it told. Not here: the faults (`compare.chaos_faults`), the command (`compare.chaos`).

A round is over when its faults have ended and every client has got writes through again; one that never gets there is a
stall. Nothing is forgotten: every call that was ever made is judged, against the decisions of every life of every
replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from compare.chaos_faults import Chaos, Strike, draw
from compare.history import Call
from compare.judging import Observed, conclude
from compare.live import OBSERVER, end_all, free_ports
from compare.live_client import LabClient
from compare.results import Run
from compare.scenario import Scenario, Side, Workload
from compare.workloads import READS, SCANNED, KeyValueLoad, Plan, probe
from replog import protocols
from replog.config import create_cluster
from replog.evidence import Origin
from replog.keys import Ed25519Verifier
from replog.live.engine import monotonic
from replog.live.laboratory import Laboratory
from replog.live.processes import LocalProcesses, NodeExit
from replog.types import Micros

SIZES: Final = {"pbft": 4, "raft": 3}
OFTEN: Final[Mapping[str, dict[str, Any]]] = {
    "pbft": {"checkpoint_interval": 16, "log_window": 64},
    "raft": {"snapshot_entries": 16, "log_tail": 4},
}
"""So that faults meet checkpoints being written and logs being cut."""
CLIENTS, OUTSTANDING = 3, 2
PAUSE_S: Final = 0.005
CALLS_BEFORE, WRITES_AFTER = 20, 15
"""Calls that are acknowledged before the faults of a round, and writes after them."""
RECOVERY_S: Final = 60.0
LOOK_S: Final = 0.02

KEYS: Final = (
    *(f"{kind}k{number}" for kind in ("", "log/") for number in range(Workload().keys)),
    *(f"{SCANNED}{number}" for number in range(3)),
)
"""All that the load is about."""

Wrap = tuple[str, dict[str, Any]]


class Stalled(Exception):
    """The cluster did not go on after the faults of a round had ended; the text says in which round."""


@dataclass(frozen=True)
class Told:
    """What one session came to. `recoveries`: of each round, seconds from the end of its faults until writes of every
    client were acknowledged."""

    run: Run
    rounds: int
    struck: Mapping[str, int]
    recoveries: list[float] = field(default_factory=list)


class Session:
    """Invariant: after `run` no process of it is left."""

    def __init__(
        self,
        folder: Path,
        protocol: str,
        seed: int,
        *,
        options: Mapping[str, Any] | None = None,
        wrap: Wrap | None = None,
        pause_s: float = PAUSE_S,
    ) -> None:
        """`wrap`: around every replica. `pause_s`: of each caller between two calls."""
        self.spec = protocols.find(protocol)
        self.seed = seed
        n = SIZES[protocol]
        names = [f"c{number}" for number in range(CLIENTS)]
        given = {**OFTEN[protocol], **options_of(protocol, seed), **(options or {})}
        self.config = create_cluster(
            folder / "cluster",
            protocol,
            n=n,
            port=free_ports(n),
            options=given,
            clients=(*names, OBSERVER),
            lab=True,
            trace="decisions",
        )
        self.processes = LocalProcesses(self.config, on_exit=self._on_exit)
        self.laboratory = Laboratory(self.processes, wrap=wrap)
        self.clients = [LabClient(self.config, name) for name in names]
        self.chaos = Chaos(self.processes, self.laboratory, n, self._born)
        self._observer = LabClient(self.config, OBSERVER)
        self._pause_s = pause_s
        self._deaths: list[str] = []
        self._recoveries: list[float] = []
        self.window = ""
        """Calls are about keys that begin so."""
        self._over = False
        self._news = asyncio.Event()
        self._began: Micros = 0
        self._ended: Micros = 0
        self._met: int | None = None

    # --------------------------------------------------------------------------------------------------------- the run

    async def run(self, rounds: int, say: Callable[[str], None] = lambda _: None) -> Told:
        """Never longer than a stall lasts; that is judged like all else."""
        chance = random.Random(f"{self.seed}/chaos")
        probes: list[Call] = []
        async with self.working():
            with contextlib.suppress(Stalled):
                for number in range(1, rounds + 1):
                    self.window = f"{(number - 1) // 5}/"
                    await self.round(chance)
                    done = f"round {number} of {rounds}, {self.acknowledged} acknowledged"
                    say(f"{self.spec.name} seed {self.seed}: {done}")
                probes = await self.settle()
        return Told(conclude(self.observed(probes)), len(self._recoveries), dict(self.chaos.struck), self._recoveries)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """All processes, links and callers."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.processes)
            await self.processes.start(wraps=self.laboratory.wraps(range(self.config.n)))
            await self.processes.wait_serving()
            for client in (*self.clients, self._observer):
                await stack.enter_async_context(client)
            self._began = monotonic()
            callers = [
                asyncio.create_task(self._call(client, f"{client.name}/{place}"))
                for client in self.clients
                for place in range(OUTSTANDING)
            ]
            try:
                yield
            finally:
                self._ended = monotonic()
                await end_all(callers)

    async def round(self, chance: random.Random) -> None:
        """Faults, and until every client has got writes through afterwards. Raises Stalled."""
        await self._acknowledge(CALLS_BEFORE)
        await self.chaos.round(self.drawn(chance))
        over = monotonic()
        await self._acknowledge(WRITES_AFTER, READS)
        self._recoveries.append((monotonic() - over) / 1e6)

    def drawn(self, chance: random.Random) -> list[Strike]:
        return draw(chance, self.config.n)

    async def _call(self, client: LabClient, name: str) -> None:
        chance = random.Random(f"{self.seed}/{name}")
        load, window = KeyValueLoad(Workload(), name, chance), self.window
        while not self._over:
            if window != self.window:
                load, before, window = KeyValueLoad(Workload(), f"{name}/{self.window}", chance), window, self.window
                if client is self.clients[0]:
                    await self._clear(client, name, before)
            plan = load.following()
            for call in await client.ask(name, [_within(window, plan)]):
                if call.known:
                    load.learned(plan, call.outcome)
            self._news.set()
            await asyncio.sleep(self._pause_s)

    async def _clear(self, client: LabClient, name: str, window: str) -> None:
        """What is not used any more: the state does not grow with time."""
        for key in KEYS:
            await client.ask(name, [("delete", (window + key,))])

    async def _acknowledge(self, more: int, but: frozenset[str] = frozenset()) -> None:
        """Until every client has so many more acknowledged calls that were made from now on. Raises Stalled."""
        since, places = monotonic(), {client.name: len(client.calls) for client in self.clients}
        try:
            async with asyncio.timeout(RECOVERY_S):
                while any(self._new(client, places[client.name], since, but) < more for client in self.clients):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise Stalled from None

    @staticmethod
    def _new(client: LabClient, place: int, since: Micros, but: frozenset[str]) -> int:
        known = [call for call in client.calls[place:] if call.known and call.method not in but]
        return sum(call.invoke >= since for call in known)

    async def settle(self) -> list[Call]:
        """No more calls but a probe of each client, and until all replicas have come to the same index."""
        self._over = True
        probing = [asyncio.create_task(one.ask(f"{one.name}/probe", [probe(one.name)])) for one in self.clients]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECOVERY_S):
                await asyncio.gather(*probing)
                self._met = await self._level()
        await end_all(probing)
        return [call for client in self.clients for call in client.calls if call.process.endswith("/probe")]

    async def _level(self) -> int:
        while True:
            statuses = await self._observer.statuses()
            indexes = {status.index for status in statuses.values()}
            if len(statuses) == self.config.n and len(indexes) == 1:
                return indexes.pop()
            await asyncio.sleep(LOOK_S)

    def _born(self, node: int) -> None:
        for client in (*self.clients, self._observer):
            client.dial_again(node)

    def _on_exit(self, ended: NodeExit) -> None:
        if not ended.expected:
            self._deaths.append(f"node {ended.node} ended by itself, code {ended.code}: {ended.last_lines}")

    # ---------------------------------------------------------------------------------------------------------- judged

    @property
    def acknowledged(self) -> int:
        return sum(call.known for client in self.clients for call in client.calls)

    @property
    def calls(self) -> list[Call]:
        found = (call for client in self.clients for call in client.calls)
        return sorted(found, key=lambda call: (call.invoke, call.client, call.timestamp, call.position))

    def observed(self, probes: list[Call]) -> Observed:
        summary = "random kills, stops, cuts and slow links under load"
        return Observed(
            scenario=Scenario(name="chaos", summary=summary, f=self.config.f, protocols={self.spec.name: Side()}),
            protocol=self.spec.name,
            engine="live",
            seed=self.seed,
            n=self.config.n,
            lines=sorted(self._lines(), key=lambda line: (line["t"], line["node"])),
            calls=self.calls,
            probes=probes,
            began=self._began,
            ended=self._ended,
            met=self._met,
            fault_actions=self.chaos.struck.total(),
            broken="; ".join(self._deaths),
            cluster=self.config.cluster,
            verifier=Ed25519Verifier(self.config.public_keys()),
            origin=Origin.of(self.config),
        )

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The trace of every replica. A line that a kill cut short says nothing."""
        for node in range(self.config.n):
            path = self.config.node_folder(node) / "trace.jsonl"
            for text in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    yield json.loads(text)


def options_of(protocol: str, seed: int) -> dict[str, Any]:
    """Every third session of PBFT runs under MACs."""
    return {"auth": "macs"} if protocol == "pbft" and seed % 3 == 0 else {}


def _within(window: str, plan: Plan) -> Plan:
    """The same call on keys of their own: a history is judged key by key, and short ones are judged soon."""
    method, (key, *rest) = plan
    return method, (window + key, *rest)
