"""Processes that are killed under load, and the judges of the comparison afterwards: what was acknowledged is there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from compare.checkers import JUDGES, Check, Evidence
from compare.decisions import collect
from compare.history import Call
from compare.live import end_all, free_ports, leader_of
from compare.live_client import LabClient
from compare.scenario import Workload
from compare.workloads import READS, KeyValueLoad, probe
from replog import LocalProcesses, create_cluster
from replog.live.engine import monotonic
from replog.types import Micros, NodeId

CLIENTS = ("c0", "c1", "c2")
WORKLOAD = Workload()
PAUSE_S = 0.005
LOOK_S = 0.02
LIMIT_S = 60


class Lab:
    """A cluster of processes and clients that call it, two calls at a time each, until `judge`."""

    def __init__(self, folder: Path, protocol: str, options: dict[str, Any], seed: int) -> None:
        n = {"pbft": 4, "raft": 3}[protocol]
        self.config = create_cluster(
            folder / "cluster",
            protocol,
            port=free_ports(n),
            options=options,
            clients=CLIENTS,
            lab=True,
            trace="decisions",
        )
        self.processes = LocalProcesses(self.config)
        self.chance = random.Random(f"{seed}/moments")
        self._seed = seed
        self._clients = [LabClient(self.config, name) for name in CLIENTS]
        self._callers: list[asyncio.Task[None]] = []
        self._over = False
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Lab]:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.processes)
            await self.processes.start()
            await self.processes.wait_serving()
            for client in self._clients:
                await stack.enter_async_context(client)
            self._callers = [
                asyncio.create_task(self._call(client, f"{client.name}/{place}"))
                for client in self._clients
                for place in range(2)
            ]
            try:
                yield self
            finally:
                await end_all(self._callers)

    async def _call(self, client: LabClient, name: str) -> None:
        chance = random.Random(f"{self._seed}/{name}")
        load = KeyValueLoad(WORKLOAD, name, chance)
        while not self._over:
            for call in await client.ask(name, [load.following()]):
                if call.known:
                    load.learned((call.method, call.args), call.outcome)
            self._news.set()
            await asyncio.sleep(PAUSE_S)

    @property
    def calls(self) -> list[Call]:
        return sorted((call for client in self._clients for call in client.calls), key=lambda call: call.invoke)

    def writes(self, since: Micros) -> list[Micros]:
        """When writes were acknowledged after `since`: reads need no primary."""
        known = [call for call in self.calls if call.known and call.method not in READS]
        return sorted(call.returned for call in known if call.returned is not None and call.returned > since)

    async def acknowledge(self, more: int) -> None:
        """Until `more` further writes are acknowledged."""
        since = monotonic()
        async with asyncio.timeout(LIMIT_S):
            while len(self.writes(since)) < more:
                self._news.clear()
                await self._news.wait()

    async def leader(self) -> NodeId:
        async with asyncio.timeout(LIMIT_S):
            while True:
                leader = leader_of(await self._clients[0].statuses())
                if leader is not None:
                    return leader
                await asyncio.sleep(LOOK_S)

    async def view(self, least: int) -> int:
        """Until a replica has come to this view or a later one."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                statuses = await self._clients[0].statuses()
                view = max((status.view for status in statuses.values()), default=-1)
                if view >= least:
                    return view
                await asyncio.sleep(LOOK_S)

    async def kill(self, *nodes: NodeId) -> None:
        """Kill -9, all at once."""
        for node in nodes:
            self.processes.kill(node)
        await asyncio.gather(*(self.processes.wait_exit(node) for node in nodes))

    async def start(self, *nodes: NodeId) -> None:
        """From what their disks hold."""
        await self.processes.start(nodes)
        serving = await self.processes.wait_serving()
        assert all(serving[node]["resumed"] for node in nodes)

    async def level(self) -> None:
        """Until all replicas have applied the same index, whatever is still written."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                statuses = await self._clients[0].statuses()
                if len(statuses) == self.config.n and len({status.index for status in statuses.values()}) == 1:
                    return
                await asyncio.sleep(LOOK_S)

    async def judge(self) -> dict[str, Check]:
        """No more calls but a probe of each client; then every judge of the comparison. AssertionError if one objects;
        what each has looked at."""
        self._over = True
        end = monotonic()
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*self._callers)
            probes = await asyncio.gather(
                *(client.ask(f"{client.name}/probe", [probe(client.name)]) for client in self._clients)
            )
        await self.level()
        await self.processes.stop()
        evidence = Evidence(
            decisions=collect(self._lines(), range(self.config.n)),
            up=range(self.config.n),
            calls=self.calls,
            probes=[call for calls in probes for call in calls],
            faults_end=end,
        )
        checks = {judge.name: judge.judge(evidence) for judge in JUDGES}
        assert all(check.ok for check in checks.values()), checks
        return checks

    def _lines(self) -> list[dict[str, Any]]:
        """The trace of every replica; a line that a kill cut short says nothing."""
        lines = []
        for node in range(self.config.n):
            for text in (self.config.node_folder(node) / "trace.jsonl").read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    lines.append(json.loads(text))
        return sorted(lines, key=lambda line: (line["t"], line["node"]))
