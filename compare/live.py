"""One run with real processes: a fresh cluster, clients, the timeline, the end of faults, probes; nothing stays behind.

Here: the run. Not here: judging it (`compare.judging`), what attacks do (`compare.attacks`), the liar inside a node's
process (`compare.liar`), processes and links (`replog.live`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from compare import liar, workloads
from compare.attacks import attack_of
from compare.history import Call
from compare.judging import Costs, Observed
from compare.live_client import LabClient
from compare.live_costs import Ledger
from compare.scenario import Happening, Scenario
from compare.sim import WAITING_MAX, choose
from replog import trace
from replog.config import ClusterConfig, create_cluster
from replog.core import ProtocolSpec
from replog.errors import ConfigError
from replog.evidence import Origin
from replog.keys import Ed25519Verifier
from replog.live import laboratory
from replog.live.engine import monotonic
from replog.live.folders import temporary_folder
from replog.live.processes import LocalProcesses, NodeExit
from replog.types import Micros, NodeId, Status

HOST: Final = "127.0.0.1"
LOOK_S: Final = 0.02
VERBS: Final = {"crash": ("kill", "start"), "pause": ("stop", "continue")}
"""What begins a fault and what ends it."""
OBSERVER: Final = "observer"
"""A client that asks for status and nothing else."""


def run(scenario: Scenario, spec: ProtocolSpec, seed: int, level: trace.Level = "decisions") -> Observed:
    """Make the run; raises ConfigError, NodeDied. The seed fixes what is asked and who is struck, not the timing."""
    with temporary_folder("replog-compare-") as folder:
        trial = _Trial(scenario, spec, seed, folder, level)
        observed = asyncio.run(trial.run())
        observed.lines = sorted(trial.lines(), key=lambda line: (line["t"], line["node"]))
    return observed


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on just now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


class _Trial:
    def __init__(self, scenario: Scenario, spec: ProtocolSpec, seed: int, folder: Path, level: trace.Level) -> None:
        self._scenario = scenario = scenario.sized(spec)
        self._machine = workloads.APPLICATIONS[scenario.workload.kind]
        self._spec = spec
        self._seed = seed
        self._control = folder / "control"
        self._control.mkdir()
        side = scenario.side(spec.name)
        count = side.n if side.n is not None else spec.replicas(scenario.f)
        names = [f"c{number}" for number in range(scenario.workload.clients)]
        self._config: ClusterConfig = create_cluster(
            folder / "cluster",
            spec.name,
            f=scenario.f,
            n=count,
            app=self._machine,
            port=free_ports(count),
            options=spec.options(dict(side.options)).model_dump(),  # what is left open is no cluster's for use
            clients=(*names, OBSERVER),
            lab=True,
            trace=level,
        )
        self._clients = [LabClient(self._config, name) for name in names]
        self._observer = LabClient(self._config, OBSERVER)
        self._processes = LocalProcesses(self._config, on_exit=self._on_exit)
        self._chance = random.Random(f"{seed}/timeline")
        self._liars: set[NodeId] = set()
        self._gone: set[NodeId] = set()
        self._deaths: list[NodeExit] = []
        self._strikes = 0
        self._met: int | None = None
        self._ledger = Ledger()
        self._costs = Costs()
        self._began: Micros = 0
        self._ended: Micros = 0

    def _wraps(self) -> dict[NodeId, tuple[str, dict[str, Any]]]:
        if not self._scenario.attacked:
            return {}
        wrap = liar.WRAP, liar.arguments(self._config, self._control, self._seed)
        return dict.fromkeys(range(self._config.n), wrap)

    # --------------------------------------------------------------------------------------------------------- the run

    async def run(self) -> Observed:
        try:
            probes = await self._run()
        except Exception as error:
            for death in self._deaths:
                error.add_note(_obituary(death))
            raise
        return self._observed(probes)

    async def _run(self) -> list[Call]:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._processes)
            await self._processes.start(wraps=self._wraps())
            await self._processes.wait_serving()
            for client in (*self._clients, self._observer):
                await stack.enter_async_context(client)
            async with asyncio.timeout(10):
                await asyncio.gather(*(client.connected() for client in (*self._clients, self._observer)))
            try:
                await self._work()
                return await self._settle()
            except asyncio.CancelledError:  # Ctrl-C: nobody reads what they would write while they end in order
                self._end_at_once()
                raise

    def _end_at_once(self) -> None:
        for node in self._processes.pids():
            self._processes.kill(node)

    def _on_exit(self, ended: NodeExit) -> None:
        """Whatever the scenario expects, a replica that ends unasked is our own bug, and no verdict hides it."""
        if not ended.expected:
            self._deaths.append(ended)

    async def _work(self) -> None:
        for plan in workloads.preparation(self._scenario.workload):
            await self._clients[0].ask(f"{self._clients[0].name}/prepare", [plan])
        self._ledger.begin(range(self._config.n), await self._observer.statuses())
        self._began = monotonic()
        self._ended = self._began + _us(self._scenario.duration_s)
        tasks = [asyncio.create_task(self._happen(happening)) for happening in self._scenario.timeline]
        callers = [asyncio.create_task(work) for client in self._clients for work in self._callers(client)]
        try:
            await _until(self._ended)
            self._ledger.end(range(self._config.n), await self._observer.statuses())
            self._costs = self._ledger.costs(client.counters for client in self._clients)
            await asyncio.gather(*tasks)
        finally:
            await end_all((*tasks, *callers))

    def _callers(self, client: LabClient) -> list[Coroutine[Any, Any, None]]:
        if self._scenario.workload.loop == "open":
            return [self._stream(client)]
        return [self._call(client, place) for place in range(self._scenario.workload.outstanding)]

    async def _stream(self, client: LabClient) -> None:
        """An open loop, as in the simulated run. What is unanswered when the workload ends stays so."""
        workload = self._scenario.workload
        chance = random.Random(f"{self._seed}/{client.name}/stream")
        load = workloads.load(workload, f"{client.name}/s", chance)
        waiting: set[asyncio.Task[list[Call]]] = set()
        try:
            while monotonic() < self._ended:
                await asyncio.sleep(chance.expovariate(workload.rate_per_s / workload.clients))
                if len(waiting) < WAITING_MAX:
                    plans = [load.following() for _ in range(workload.operations)]
                    task = asyncio.create_task(client.ask(f"{client.name}/{len(client.calls)}", plans))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
        finally:
            await end_all(waiting)

    async def _call(self, client: LabClient, place: int) -> None:
        """One sequential caller, as in the simulated run."""
        name = f"{client.name}/{place}"
        chance = random.Random(f"{self._seed}/{name}")
        load = workloads.load(self._scenario.workload, name, chance)
        while monotonic() < self._ended:
            await asyncio.sleep(chance.expovariate(1.0) * self._scenario.workload.pause_ms / 1000)
            plans = [load.following() for _ in range(self._scenario.workload.operations)]
            for call in await client.ask(name, plans):
                if call.known:
                    load.learned((call.method, call.args), call.outcome)

    async def _settle(self) -> list[Call]:
        """Probes, and the wait until all correct replicas have come to the same index."""
        before = {client.name: len(client.calls) for client in self._clients}
        kind = self._scenario.workload.kind
        probing = [
            asyncio.create_task(client.ask(f"{client.name}/probe", [workloads.probe(client.name, kind)]))
            for client in self._clients
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._scenario.settle_s):
                await asyncio.gather(*probing)
                self._met = await self._converged()
        await end_all(probing)
        return [call for client in self._clients for call in client.calls[before[client.name] :]]

    async def _converged(self) -> int:
        """Until all correct replicas that run say that they have applied the same index: this index. A request that
        its caller has given up may still be decided after that."""
        up = [node for node in range(self._config.n) if node not in self._liars | self._gone]
        while True:
            statuses = await self._observer.statuses()
            indexes = {statuses[node].index for node in up if node in statuses}
            if all(node in statuses for node in up) and len(indexes) == 1:
                return indexes.pop()
            await asyncio.sleep(LOOK_S)

    def _observed(self, probes: list[Call]) -> Observed:
        calls = sorted(
            (call for client in self._clients for call in client.calls),
            key=lambda call: (call.invoke, call.client, call.timestamp, call.position),
        )
        return Observed(
            scenario=self._scenario,
            protocol=self._spec.name,
            engine="live",
            seed=self._seed,
            n=self._config.n,
            lines=(),
            calls=calls,
            probes=probes,
            began=self._began,
            ended=self._ended,
            met=self._met,
            liars=tuple(sorted(self._liars)),
            gone=tuple(sorted(self._gone)),
            attack_actions=sum(int(path.read_text()) for path in self._control.glob("actions-*")),
            fault_actions=self._strikes,
            broken="; ".join(map(_obituary, self._deaths)),
            cluster=self._config.cluster,
            verifier=Ed25519Verifier(self._config.public_keys()),
            origin=Origin.of(self._config),
            costs=self._costs,
        )

    def lines(self) -> Iterator[dict[str, Any]]:
        """The trace of every replica. A line that a kill cut short says nothing."""
        for node in range(self._config.n):
            path = self._config.node_folder(node) / "trace.jsonl"
            if path.is_file():
                for text in path.read_text(encoding="utf-8").splitlines():
                    with contextlib.suppress(ValueError):
                        yield json.loads(text)

    # ------------------------------------------------------------------------------------------------------- timeline

    async def _happen(self, happening: Happening) -> None:
        await _until(self._began + _us(happening.start_s))
        end = self._ended if happening.end_s is None else self._began + _us(happening.end_s)
        nodes = await self._choose(happening, end)
        if happening.attack is not None:
            self._liars |= set(nodes)
            if self._spec.name in attack_of(happening.attack).makes:
                told = {"attack": happening.attack, "members": list(nodes), "options": happening.options}
                laboratory.order(self._control, nodes, told)
        else:
            self._strikes += await self._do(VERBS[happening.name][0], nodes) > 0
            if happening.end_s is None:
                self._gone |= set(nodes)
        if happening.end_s is not None:
            await _until(end)
            if happening.attack is not None:
                laboratory.order(self._control, nodes, {"attack": None})
            else:
                await self._do(VERBS[happening.name][1], nodes)

    async def _choose(self, happening: Happening, end: Micros) -> tuple[NodeId, ...]:
        """Nobody, if it needs a leader and none is found before `end`."""
        while monotonic() < end:
            leader = leader_of(await self._observer.statuses())
            if leader is not None or happening.target not in ("leader", "backup", "f backups"):
                if happening.group is not None:
                    return self._scenario.placement.members(*happening.group, self._config.n)
                return choose(happening.target, self._config.n, self._scenario.f, leader, self._chance)
            await asyncio.sleep(LOOK_S)
        return ()

    async def _do(self, verb: str, nodes: tuple[NodeId, ...]) -> int:
        """To how many of `nodes` it was done: one that has ended is not killed again, one that runs not started."""
        wraps, running = self._wraps(), self._processes.pids()
        struck = [node for node in nodes if (node in running) != (verb == "start")]
        if verb == "kill":
            await self._crash(struck)
            return len(struck)
        for node in struck:
            match verb:
                case "start":
                    await self._processes.start([node], wraps=wraps)
                    self._ledger.born(node)
                    self._observer.dial_again(node)
                case "stop":
                    self._processes.kill(node, signal.SIGSTOP)
                case "continue":
                    self._processes.kill(node, signal.SIGCONT)
                case _:
                    raise ConfigError(f"fault {verb!r}: cannot be made with live processes")
        return len(struck)

    async def _crash(self, nodes: list[NodeId]) -> None:
        """All at once."""
        self._ledger.end(nodes, await self._observer.statuses(nodes))
        for node in nodes:
            self._processes.kill(node, signal.SIGKILL)
        await asyncio.gather(*(self._processes.wait_exit(node) for node in nodes))


def leader_of(statuses: dict[NodeId, Status]) -> NodeId | None:
    """Who leads in the highest view or term that a replica knows of; None if unknown."""
    best = max(statuses.values(), key=lambda status: (status.view, status.leader), default=None)
    return None if best is None or best.leader < 0 else best.leader


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel what still runs; raise what one of them had raised by itself: cancelling must not hide a bug."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


def _obituary(ended: NodeExit) -> str:
    how = f"by signal {-ended.code}" if ended.code < 0 else f"with exit code {ended.code}"
    return f"node {ended.node} ended by itself, {how}: {ended.last_lines or 'no last words'}"


async def _until(moment: Micros) -> None:
    await asyncio.sleep(max(0.0, (moment - monotonic()) / 1e6))


def _us(seconds: float) -> Micros:
    return round(seconds * 1_000_000)
