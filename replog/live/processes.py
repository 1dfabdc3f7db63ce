"""The replicas of a cluster as processes of this machine, one each, that end when their parent does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replog.config import ClusterConfig
from replog.enrolment import MEMBER, enrolled, own_member
from replog.errors import ConfigError, ReplogError
from replog.live import locks
from replog.live.links import is_here
from replog.membership import Member
from replog.roster import Roster
from replog.types import NOBODY, NodeId

Wraps = Mapping[NodeId, tuple[str, dict[str, Any]]]
"""node -> ("module:function", arguments): the function is called as function(node, replica, **arguments)."""
STOP_S = 5.0
"""How long a process may take to end by itself before it is killed."""
MOVE_S = 15.0
MOVE_TRIES = 3
"""A server that gets no processor for the length of one election time-out may well take over at the next try."""
"""How long a move of the leadership may take; leaders give up sooner, after an election time-out."""
STEP_DOWN_S = 2.0
"""How long a replica may take to give up its view: it is not believed, and stopped whatever it does."""
SERVE_S, SERVE_EACH_S = 20.0, 1.0
"""How long replicas may take until they serve: so long, and so long for each of them."""
LAST_LINES, LAST_LINES_LATE = 12, 3
NAMED_MAX = 5
"""So many nodes are listed by number."""
ERRORS = "stderr.log"


class RefreshFailed(ReplogError):
    """A replica that was to be refreshed is not; the text says why."""


class NotGivenUp(ReplogError):
    """The change of the members goes on, or there is none; the text says why."""


class NotMoved(ReplogError):
    """The leadership stays where it is, or went elsewhere; the text says why."""


class NodeDied(ReplogError):
    """A replica ended that should run; the text holds its last words."""


@dataclass(frozen=True)
class NodeExit:
    """A replica's process has ended. `code`: its exit code, or minus the signal. `expected`: it was told to."""

    node: NodeId
    pid: int
    code: int
    expected: bool
    last_lines: str


@dataclass
class _Running:
    node: NodeId
    process: asyncio.subprocess.Process
    wrap: tuple[str, dict[str, Any]] | None
    serving: asyncio.Future[dict[str, Any]]
    lines: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    """What it tells while it is refreshed, None at its end."""
    watched: bool = False
    expected: bool = False
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)


class LocalProcesses:
    """Invariant: at most one process a node; every process started here has ended when `stop` returns."""

    def __init__(
        self, cluster: str | os.PathLike[str] | ClusterConfig, *, on_exit: Callable[[NodeExit], None] | None = None
    ) -> None:
        """`on_exit` is called in the loop for each process that ends, asked to or not."""
        self.config = cluster if isinstance(cluster, ClusterConfig) else ClusterConfig.load(cluster)
        self._on_exit = on_exit
        self._running: dict[NodeId, _Running] = {}
        self._paused = False

    async def __aenter__(self) -> LocalProcesses:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def pids(self) -> dict[NodeId, int]:
        """Replicas that run on this machine, started here or by another process."""
        found = {node: locks.holder(self.config.node_folder(node)) for node in enrolled(self.config)}
        own = {node: running.process.pid for node, running in self._running.items()}
        return {node: pid for node, pid in sorted({**found, **own}.items()) if pid is not None}

    async def start(self, nodes: Iterable[NodeId] | None = None, *, wraps: Wraps | None = None) -> None:
        """Start these replicas, by default all members of this machine. Raises ConfigError for a wrap outside a
        laboratory."""
        wraps = wraps or {}
        if wraps and not self.config.lab:
            raise ConfigError(f"lab = {self.config.lab}: only a cluster made for the laboratory takes a wrap")
        for node in local_members(self.config) if nodes is None else nodes:
            await self._start(node, wraps.get(node))

    async def _start(self, node: NodeId, wrap: tuple[str, dict[str, Any]] | None, refresh: bool = False) -> None:
        if node in self._running:
            raise ConfigError(f"node = {node}: runs already, pid {self._running[node].process.pid}")
        own_member(self.config, node)
        folder = self.config.node_folder(node)
        command = [*python("replog.live.node"), str(folder), "--with-parent"]
        if refresh:
            command.append("--refresh")
        if wrap is not None:
            command += ["--wrap", wrap[0], "--wrap-arguments", json.dumps(wrap[1])]
        with (folder / ERRORS).open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then stops them in order
            )
        running = _Running(node, process, wrap, asyncio.get_running_loop().create_future())
        running.watched = refresh
        running.tasks = [asyncio.create_task(self._listen(running)), asyncio.create_task(self._await(running))]
        self._running[node] = running

    async def _listen(self, running: _Running) -> None:
        assert running.process.stdout is not None
        async for text in running.process.stdout:
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if line.get("event") == "serving" and not running.serving.done():
                    running.serving.set_result(line)
                    if self._paused:
                        self.tell(running.node, "pause")
                elif running.watched:
                    running.lines.put_nowait(line)

    async def _await(self, running: _Running) -> None:
        code = await running.process.wait()
        if self._running.get(running.node) is running:
            del self._running[running.node]
        ended = NodeExit(running.node, running.process.pid, code, running.expected, self._last_lines(running.node))
        if not running.serving.done():
            if running.expected:
                running.serving.cancel()
            else:
                running.serving.set_exception(NodeDied(_obituary(ended)))
                running.serving.exception()  # seen: nobody may be waiting for it
        running.done.set()
        running.lines.put_nowait(None)
        if self._on_exit is not None:
            self._on_exit(ended)

    def _last_lines(self, node: NodeId) -> str:
        """What the process said last: its standard error, else its diagnostics."""
        folder = self.config.node_folder(node)
        for name in (ERRORS, "node.log"):
            path = folder / name
            lines = _tail(path).splitlines() if path.is_file() else []
            if lines:
                return "\n".join(lines[-LAST_LINES:])
        return ""

    async def wait_serving(
        self,
        timeout: float | None = None,  # noqa: ASYNC109
        spare: int = 0,
    ) -> dict[NodeId, dict[str, Any]]:
        """Until every running replica serves; what each said of itself then, but for those that were stopped meanwhile.
        `timeout`: seconds, by default SERVE_S and SERVE_EACH_S more for each replica, since they share this machine.
        `spare`: so many may end before, in a cluster that goes on from what it has stored: a damaged disk is one of the
        faults that it stands. In a new one all have to come.

        Raises NodeDied with the last words of one that ended before, or naming those that do not serve in time.
        """
        timeout = SERVE_S + SERVE_EACH_S * len(self._running) if timeout is None else timeout
        waiting = {node: running.serving for node, running in sorted(self._running.items())}
        ended, pending = await _most(waiting.values(), timeout, spare)
        words = {node: one.result() for node, one in waiting.items() if one not in pending and _came(one)}
        if len(ended) > spare or (ended and not pending and not any(word["resumed"] for word in words.values())):
            raise ended[0]
        if pending:
            late = [node for node, future in waiting.items() if future in pending]
            hint = "\n".join(self._last_lines(late[0]).splitlines()[-LAST_LINES_LATE:])
            which = f"{some(late)} of {len(waiting)} nodes"
            raise NodeDied(f"not serving after {timeout:g} s: {which}; the last lines of node {late[0]}:\n{hint}")
        return words

    def kill(self, node: NodeId, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a replica's process; one that ends it is expected to."""
        running = self._get(node)
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            running.expected = True
        running.process.send_signal(number)

    def _get(self, node: NodeId) -> _Running:
        if node not in self._running:
            raise ConfigError(f"node = {node}: does not run; running are {sorted(self._running)}")
        return self._running[node]

    async def wait_exit(self, node: NodeId) -> None:
        """Until this replica's process has ended."""
        running = self._running.get(node)
        if running is not None:
            await running.done.wait()

    async def restart(self, node: NodeId) -> None:
        """Start a replica again, with the wrap it had; one that still runs is stopped first."""
        running = self._running.get(node)
        if running is not None:
            await self._stop(running)
        await self._start(node, running.wrap if running is not None else None)

    async def refresh(self, node: NodeId, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
        """Stop a replica and start it anew from the code on disk, without the wrap it had, told to believe nothing of
        its own (PBFT); what it tells once it is recovered. One that leads hands its view over before. `progress` is
        told what happens, in a few words.

        Raises RefreshFailed if it gives up, NodeDied if it ends.
        """
        say = progress if progress is not None else _silent
        running = self._running.get(node)
        if running is not None:
            await self._step_down(running)
            await self._stop(running)
        await self._start(node, None, refresh=True)
        running = self._get(node)
        say(f"node {node} is started anew, pid {running.process.pid}")
        while (line := await running.lines.get()) is not None:
            match line.get("event"):
                case "refreshed":
                    running.watched = False
                    return line
                case "refresh-put-off":
                    say(f"put off: {line.get('reason')}")
                case "refresh":
                    say("it has leave, and checks its state")
                case "refresh-failed" | "refresh-refused":
                    running.watched = False
                    raise RefreshFailed(f"node {node} is not refreshed: {line.get('rule')}")
        await running.done.wait()
        raise NodeDied(
            f"node {node} (pid {running.process.pid}) ended while it was refreshed:\n{self._last_lines(node)}"
        )

    def tell(self, node: NodeId, command: str, arguments: dict[str, Any] | None = None) -> None:
        """An operator's word to a replica that was started here."""
        stdin = self._get(node).process.stdin
        if stdin is not None:
            word = {"command": command, **({"arguments": arguments} if arguments else {})}
            stdin.write(json.dumps(word).encode() + b"\n")

    def pause(self, *, paused: bool) -> None:
        """What clients ask waits from here on (Raft), or is ordered again; who is started meanwhile hears it, too."""
        self._paused = paused
        for node in self._running:
            self.tell(node, "pause" if paused else "resume")

    def snapshot(self, nodes: Sequence[NodeId]) -> list[NodeId]:
        """Have these replicas, by default all that run here, take a snapshot (Raft); who was told. Raises ConfigError
        for one that does not run here."""
        told = sorted(nodes or self._running)
        for node in told:
            self.tell(node, "snapshot")
        return told

    async def _step_down(self, running: _Running) -> None:
        """So that clients need not wait for the others' patience with a primary that is gone."""
        if running.process.stdin is None:
            return
        running.watched = True
        with contextlib.suppress(ConnectionError, TimeoutError):
            running.process.stdin.write(b'{"command": "step-down"}\n')
            async with asyncio.timeout(STEP_DOWN_S):
                while (line := await running.lines.get()) is not None:
                    if line.get("event") == "stepped-down":
                        return
                    if line.get("event") == "view" and line.get("leader") != running.node:
                        return

    async def move_leader(self, leader: NodeId, to: NodeId) -> dict[str, Any]:
        """Have `leader` hand over to `to` (Raft); who leads then, in which term. Raises NotMoved."""
        with self._watched(leader, NotMoved) as running:
            try:
                async with asyncio.timeout(MOVE_S):
                    for _ in range(MOVE_TRIES):
                        self.tell(leader, "move-leader", {"to": to})
                        if led := await self._led(running, to):
                            return led
                raise NotMoved(f"node {to} did not take over in time; node {leader} goes on leading")
            except (ConnectionError, TimeoutError):
                raise NotMoved(f"node {leader} has not handed over after {MOVE_S:g} s; see replog status") from None

    @contextlib.contextmanager
    def _watched(self, leader: NodeId, refused: type[ReplogError]) -> Iterator[_Running]:
        """Hear what this leader tells. Raises `refused` if it cannot be told anything from here."""
        running = self._running.get(leader)
        if running is None or running.process.stdin is None:
            raise refused(f"node {leader} leads, and does not run here: this process cannot tell it")
        if running.watched:
            raise refused(f"node {leader} is told something else just now; try again")
        running.watched = True
        try:
            yield running
        finally:
            running.watched = False
            running.lines = asyncio.Queue()

    @staticmethod
    async def _led(running: _Running, to: NodeId) -> dict[str, Any]:
        """What the old leader tells of the end of its leadership; nothing if it has given the move up."""
        while (line := await running.lines.get()) is not None:
            match line.get("event"):
                case "command-refused":
                    raise NotMoved(str(line.get("rule")))
                case "leader-move-abandoned":
                    return {}
                case "term" if line.get("leader") == to:
                    return {"leader": to, "term": line.get("term")}
                case "term" if line.get("leader") not in (NOBODY, running.node):
                    raise NotMoved(f"node {line.get('leader')} was elected meanwhile; see replog status")
        raise NotMoved(f"node {running.node} ended meanwhile")

    async def give_up_change(self, leader: NodeId) -> dict[str, Any]:
        """Have `leader` wait no longer for those who are to join (Raft): whom it has given up, and the epoch that
        begins, with the members as they were. Raises NotGivenUp."""
        with self._watched(leader, NotGivenUp) as running:
            try:
                self.tell(leader, "give-up-change")
                async with asyncio.timeout(MOVE_S):
                    return await self._given_up(running)
            except (ConnectionError, TimeoutError):
                late = f"node {leader} has not given the change up after {MOVE_S:g} s"
                raise NotGivenUp(f"{late}; see replog member list") from None

    @staticmethod
    async def _given_up(running: _Running) -> dict[str, Any]:
        nodes: list[NodeId] = []
        while (line := await running.lines.get()) is not None:
            match line.get("event"):
                case "command-refused":
                    raise NotGivenUp(str(line.get("rule")))
                case "change-given-up":
                    nodes.append(int(line["node"]))
                case "epoch" if nodes:
                    return {"nodes": nodes, "epoch": line["epoch"], "members": line["members"]}
                case "configuration" if line.get("old_voters"):
                    raise NotGivenUp("whoever comes has caught up meanwhile; see replog member list")
                case "term" if line.get("leader") != running.node:
                    raise NotGivenUp(f"node {running.node} leads no more; try again")
        raise NotGivenUp(f"node {running.node} ended meanwhile")

    async def stop(self, nodes: Iterable[NodeId] | None = None) -> None:
        """Stop these replicas, by default all: ask, then kill what does not end in time."""
        chosen = list(self._running) if nodes is None else [node for node in nodes if node in self._running]
        await asyncio.gather(*(self._stop(self._running[node]) for node in chosen))

    async def _stop(self, running: _Running) -> None:
        running.expected = True
        with contextlib.suppress(ProcessLookupError):
            running.process.send_signal(signal.SIGTERM)
            running.process.send_signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(STOP_S):
                await running.done.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                running.process.kill()
            await running.done.wait()
        await asyncio.gather(*running.tasks)


async def _most(
    waiting: Iterable[asyncio.Future[Any]],
    timeout: float,  # noqa: ASYNC109
    spare: int,
) -> tuple[list[BaseException], set[asyncio.Future[Any]]]:
    """Until all are done, more than `spare` have failed, or time is up: why they failed, and who is not done."""
    now = asyncio.get_running_loop().time
    until, pending = now() + timeout, set(waiting)
    failed: list[BaseException] = []
    done = pending
    while pending and done and len(failed) <= spare:
        left = max(0.0, until - now())
        done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_EXCEPTION)
        failed += [error for one in done if not one.cancelled() and (error := one.exception()) is not None]
    return failed, pending


def _came(future: asyncio.Future[Any]) -> bool:
    return not future.cancelled() and future.exception() is None


def local_members(config: ClusterConfig) -> list[NodeId]:
    """The members that run on this machine: of the first ones all, of later ones those that have folder and address
    here."""
    return [member.id for member in Roster(config).known.members if member.id < config.n or runs_here(config, member)]


def is_local(config: ClusterConfig, node: NodeId) -> bool:
    """Whether it is for this machine to run a replica: one of the first, or one with folder and address here."""
    try:
        return node < config.n or is_here(own_member(config, node).host)
    except ConfigError:
        return False


def runs_here(config: ClusterConfig, member: Member) -> bool:
    return (config.node_folder(member.id) / MEMBER).is_file() and is_here(member.host)


def some(nodes: Sequence[NodeId]) -> str:
    """`0, 1, 2, 3, 4 and 95 others`."""
    named = ", ".join(map(str, nodes[:NAMED_MAX]))
    more = len(nodes) - NAMED_MAX
    return named if more <= 0 else f"{named} and {more} other{'s' if more > 1 else ''}"


def _silent(_text: str) -> None:
    pass


def python(module: str) -> list[str]:
    """The command that runs a module of ours. What lies in the working directory is not found before the library: a
    user's own `types.py` there is none of our business."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """What this process can import, its children can: scripts and tests add to the path."""
    places = [Path(place).absolute() for place in sys.path]  # an empty one stands for the working directory
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(place) for place in places if place.is_dir())}


def _tail(path: Path, size: int = 8192) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode("utf-8", "replace")


def _obituary(ended: NodeExit) -> str:
    how = f"by signal {-ended.code}" if ended.code < 0 else f"with exit code {ended.code}"
    return f"node {ended.node} (pid {ended.pid}) ended {how}:\n{ended.last_lines}".rstrip().rstrip(":")
