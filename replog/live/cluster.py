"""A whole cluster inside a program: real links and real storage, in tasks of the caller's loop or in processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

from replog.apps.kv import KeyValue
from replog.config import FILE, ClusterConfig, Durability, TraceLevel, create_cluster, size_of
from replog.errors import ConfigError, NoCluster
from replog.interface import Entry, Said
from replog.live.administration import Administrator, ChangeGivenUp, Wish
from replog.live.client import LogClient
from replog.live.links import bind
from replog.live.node import Node
from replog.live.processes import LocalProcesses, local_members
from replog.membership import Configuration
from replog.roster import Roster
from replog.statemachine import StateMachine
from replog.types import NodeId

HOST = "127.0.0.1"
SERVING_S = 20.0
CLIENT = "cli"

T = TypeVar("T")


class LocalCluster:
    """`async with LocalCluster("pbft", Counter, f=1) as cluster:` n replicas that serve until the block ends.

    Invariant: after the block no task, process, socket or temporary folder of it is left.
    """

    def __init__(
        self,
        protocol: str,
        app: type[StateMachine] = KeyValue,
        *,
        f: int | None = None,
        n: int | None = None,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002
        processes: bool = False,
        port: int = 0,
        options: dict[str, Any] | None = None,
        clients: tuple[str, ...] = ("gateway", CLIENT),
        durability: Durability = "always",
        lab: bool = False,
        trace: TraceLevel = "off",
    ) -> None:
        """`dir`: a cluster folder to go on with, or to make; a temporary one by default. `port`: replica K listens on
        port + K; 0: on free ports. `processes`: one process a replica; the class must then be importable, or stand in
        a script whose running part is under `if __name__ == "__main__"`."""
        self._protocol = protocol
        self._app = app
        self._dir = dir
        self._as_processes = processes
        self._port = port
        self._made: dict[str, Any] = {
            "f": f,
            "n": n,
            "options": options,
            "clients": clients,
            "durability": durability,
            "lab": lab,
            "trace": trace,
        }
        self._stack = contextlib.AsyncExitStack()
        self._config: ClusterConfig | None = None
        self._own_client: LogClient | None = None
        self.nodes: list[Node] = []
        self.processes: LocalProcesses | None = None
        self._running: dict[NodeId, asyncio.Task[None]] = {}
        self._paused = False

    async def __aenter__(self) -> LocalCluster:
        async with contextlib.AsyncExitStack() as stack:
            folder = self._dir or stack.enter_context(tempfile.TemporaryDirectory(prefix="replog-"))
            self._config, listeners = self._configure(Path(folder))
            if self._as_processes:
                await self._start_processes(stack)
            else:
                await self._start_tasks(stack, listeners)
            self._own_client = await stack.enter_async_context(self.client(CLIENT))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *details: Any) -> None:
        await self._stack.__aexit__(*details)

    def _configure(self, folder: Path) -> tuple[ClusterConfig, list[socket.socket | None]]:
        if (folder / FILE).exists():
            config = ClusterConfig.load(folder)
            if config.protocol != self._protocol:
                raise ConfigError(f"protocol = {self._protocol!r}: {folder} holds a cluster of {config.protocol}")
            return config, [None] * len(local_members(config))
        count, _ = size_of(self._protocol, self._made["n"], self._made["f"])
        listeners = [bind(HOST, self._port + node if self._port else 0) for node in range(count)]
        try:
            ports = [listener.getsockname()[1] for listener in listeners]
            config = create_cluster(folder, self._protocol, app=self._app, port=ports, **self._made)
        except BaseException:
            _close(listeners)
            raise
        if self._as_processes:
            _close(listeners)
            return config, [None] * count
        return config, list(listeners)

    async def _start_processes(self, stack: contextlib.AsyncExitStack) -> None:
        self.processes = await stack.enter_async_context(LocalProcesses(self.config))
        await self.processes.start()
        await self.processes.wait_serving(SERVING_S)

    async def _start_tasks(self, stack: contextlib.AsyncExitStack, listeners: list[socket.socket | None]) -> None:
        stack.callback(_close, [listener for listener in listeners if listener is not None])
        stack.push_async_callback(self._stop_tasks)
        members = local_members(self.config)
        self.nodes = [
            Node(self.config, node, machine=self._app, listener=listener)
            for node, listener in zip(members, listeners, strict=True)
        ]
        for node in self.nodes:
            await self._run(node)
        await self._wait_serving()

    async def _run(self, node: Node) -> None:
        await node.start()
        self._running[node.me] = asyncio.create_task(node.run(), name=f"replica {node.me}")

    async def _wait_serving(self) -> None:
        serving = asyncio.Event()

        def look() -> None:
            if all(node.serving() is not None for node in self.nodes):
                serving.set()

        for node in self.nodes:
            node.engine.after_turns(look)
        waiting = asyncio.create_task(serving.wait())
        try:
            await asyncio.wait(
                (waiting, *self._running.values()), timeout=SERVING_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in self._running.values():
                if task.done():
                    task.result()
            if not serving.is_set():
                raise NoCluster(f"the replicas do not serve after {SERVING_S:g} s")
        finally:
            waiting.cancel()
            for node in self.nodes:
                node.engine.forget(look)

    async def _stop_tasks(self) -> None:
        """Raises what ended a replica that should run: a bug of ours must not pass unseen."""
        for node in self.nodes:
            node.stop()
        ended = await asyncio.gather(*self._running.values(), return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    # ------------------------------------------------------------------------------------------------ the log, by name

    @property
    def config(self) -> ClusterConfig:
        """Raises NoCluster before the `async with` block has begun."""
        return self._begun(self._config)

    @property
    def _client(self) -> LogClient:
        return self._begun(self._own_client)

    def _begun(self, part: T | None) -> T:
        if part is None:
            raise NoCluster("this LocalCluster has not begun: use it within `async with LocalCluster(...) as cluster:`")
        return part

    async def submit(self, operation: bytes) -> Any:
        return await self._client.submit(operation)

    async def read(self, query: bytes, *, stale: bool = False) -> Any:
        return await self._client.read(query, stale=stale)

    async def call(self, method: str, *arguments: Any, stale: bool = False) -> Any:
        """Call a command or query of the application by name. `stale`: of a query, an old state will do (Raft)."""
        return await self._client.call(method, *arguments, stale=stale)

    def log(self, from_index: int = 1, *, follow: bool = False) -> AsyncIterator[Entry]:
        return self._client.log(from_index, follow=follow)

    async def status(self) -> list[Said]:
        return await self._client.status()

    # ------------------------------------------------------------------------------------------------------- members

    @property
    def members(self) -> Configuration:
        """The newest configuration that this cluster's own client knows to be proved."""
        return self._client.members

    async def change(
        self,
        *,
        add: int = 0,
        remove: tuple[NodeId, ...] = (),
        f: int | None = None,
        learners: bool = False,
        promote: tuple[NodeId, ...] = (),
    ) -> Configuration:
        """Change the members: make and start `add` new ones, have the change ordered, wait until the next epoch has
        begun, and stop those that were removed (under MACs one change later). Raft: the new ones are `learners`, those
        to `promote` are so no more. Raises OperationFailed with the rule that a change breaks, ConfigError for one that
        present members could not go on with alone (PBFT), ChangePending if the epoch does not begin in time, and
        ChangeGivenUp if it begins with the members as they were."""
        administrator = Administrator(self.config)
        held = self.members
        wish = Wish(remove, [(HOST, 0)] * add, f, learners, promote)
        following = await administrator.change(self._client, wish)
        coming = sorted({*following.ids} - {*held.ids})
        for node in coming:
            await self._join(node)
        try:
            present = await administrator.settled(self._client, following)
        except ChangeGivenUp:
            for node in coming:
                await self._leave(node)
            raise
        for node in sorted(self._run_here - {*Roster(self.config).needed}):
            await self._leave(node)
        return present

    def pause(self) -> None:
        """What clients ask waits from here on (Raft), as far as there is room and their own time-outs allow; what is
        ordered is finished, and the members may change."""
        self._pause(paused=True)

    def resume(self) -> None:
        """What has waited is ordered."""
        self._pause(paused=False)

    def snapshot(self) -> None:
        """Each server takes a snapshot (Raft), as it does by itself by size and by age."""
        if self.processes is not None:
            self.processes.snapshot([])
        for node in self.nodes:
            node.command("snapshot")

    def _pause(self, *, paused: bool) -> None:
        self._paused = paused
        if self.processes is not None:
            self._begun(self.processes).pause(paused=paused)
        for node in self.nodes:
            node.command("pause" if paused else "resume")

    @property
    def _run_here(self) -> set[NodeId]:
        return set(self.processes.pids()) if self.processes is not None else {node.me for node in self.nodes}

    async def _join(self, node: NodeId) -> None:
        if self.processes is not None:
            await self.processes.start([node])
        else:
            self.nodes.append(Node(self.config, node, machine=self._app))
            await self._run(self.nodes[-1])
            if self._paused:
                self.nodes[-1].command("pause")

    async def _leave(self, node: NodeId) -> None:
        if self.processes is not None:
            await self.processes.stop([node])
            return
        for left in [one for one in self.nodes if one.me == node]:
            self.nodes.remove(left)
            left.stop()
            await self._running.pop(node)

    def kill(self, node: NodeId) -> None:
        """End a replica's process at once, as a crash would. Only with `processes`."""
        if self.processes is None:
            raise ConfigError("processes = False: only a replica in a process of its own can be killed")
        self.processes.kill(node)

    async def refresh(self, node: NodeId) -> dict[str, Any]:
        """Start a replica's process anew and let it prove its state (PBFT); what was checked and repaired. Only with
        `processes`. Raises RefreshFailed if it gives up."""
        if self.processes is None:
            raise ConfigError("processes = False: only a replica in a process of its own can be refreshed")
        return await self.processes.refresh(node)

    def client(self, name: str) -> LogClient:
        """Another client of this cluster; enter it with `async with`."""
        return LogClient(self.config, name, app=self._app)


def _close(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()
