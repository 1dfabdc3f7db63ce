"""The process behind `replog up`: starts replicas and gateway, watches them, stops them.

Every child holds the other end of a pipe from here and ends when it does, so that nothing stays behind even after
SIGKILL. What other commands need to know is in `running`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp

from replog.cli import output, running
from replog.cli.exits import WrongUsage
from replog.cli.orders import DOWN, SAID, Orders
from replog.cli.refreshing import Refresher
from replog.config import ClusterConfig
from replog.errors import ConfigError, NoCluster, ReplogError
from replog.live.gateway_process import NAME as GATEWAY
from replog.live.gateway_process import GatewayProcess, gateway_port
from replog.live.links import bind
from replog.live.processes import LocalProcesses, NodeExit, environment, local_members, python, runs_here, some
from replog.live.report import quorum_of
from replog.roster import Roster

STOP_S = 20.0
SETTLE_S = 2.0
RESTART_MIN_S, RESTART_MAX_S = 0.2, 10.0
JOIN_S = 86_400.0
LOOK_S = 0.2
"""How often the file of the members is looked at."""
STAMP = re.compile(r"\S+ \S+ [A-Z]+ replog\.\w+ ")
"""How a line of diagnostics begins."""
ENDING_S = 4.0
"""How long children of a killed supervisor may still hold their ports."""

Announce = Callable[[dict[str, Any]], None]


class NotServing(ReplogError):
    """The cluster did not come up; the text says which replica and its last words."""


def check_idle(folder: Path) -> None:
    """Raise WrongUsage if a `replog up` runs the cluster of this folder."""
    if running.look(folder) is not None:
        raise WrongUsage(f"{folder}: this cluster runs already; see replog status, or stop it with replog down")


def check_ports(folder: Path, host: str, ports: Iterable[int]) -> None:
    """Raise WrongUsage naming the first port that something else listens on."""
    deadline = time.monotonic() + (ENDING_S if (folder / running.FILE).exists() else 0)
    for port in ports:
        while True:
            try:
                bind(host, port).close()
                break
            except ConfigError as error:
                if time.monotonic() > deadline:
                    raise WrongUsage(f"{error}; choose another with --port (and --cluster)") from None
                time.sleep(0.05)


class Supervisor:
    """Invariants: `nodes` and `gateway` are what other commands are told; a pid in it is of a running child. The
    replicas that run are the present members of this machine, and those of a change under way, unless they died."""

    def __init__(
        self, config: ClusterConfig, claim: running.Claim, *, restart: bool, refresh_every: float | None = None
    ) -> None:
        """`refresh_every`: each replica is refreshed once in so many seconds."""
        self.config = config
        self._roster = Roster(config)
        self._told = {node: self._place(node) for node in local_members(config)}
        self.gateway: dict[str, Any] = {"pid": None, "address": f"{config.nodes[0].host}:{gateway_port(config)}"}
        self._claim = claim
        self._restart = restart
        self._processes = LocalProcesses(config, on_exit=self._exited)
        self._gateway_process = GatewayProcess(config, on_exit=self._gateway_exited)
        self._orders = Orders(config, self._processes, self._told, self._replaced)
        words = self._orders.words
        self._refresher = Refresher(config, self._processes, self.gateway["address"], self._replaced, words)
        self._refresh_every = refresh_every
        self._words: str | None = None
        self._delays: dict[int, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._ready = False

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return [self._told[node] for node in sorted(self._told)]

    def _place(self, node: int) -> dict[str, Any]:
        member = self._roster.member(node)
        return {"node": node, "pid": None, "address": f"{member.host}:{member.port}" if member is not None else ""}

    async def run(self, announce: Announce) -> None:
        """Until asked to stop. Every child has ended when this returns or raises."""
        self._tell()
        try:
            async with self._refresher.listening() as self._words:
                await self._run(announce)
        finally:
            self._stopping.set()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(self._gateway_process.stop(), self._processes.stop())

    async def _run(self, announce: Announce) -> None:
        await self._start()
        if self._roster.changing:
            self._begin(self._follow_members())
        if await self._serving():
            await self._settle()
            self._check_quorum()
            self._ready = True
            if self._refresh_every is not None:
                self._begin(self._refresher.in_turn(self._refresh_every))
            announce(self._tell())
            await self._stopping.wait()

    def stop(self) -> None:
        self._stopping.set()

    async def _start(self) -> None:
        gone = self._check_folders()
        await self._processes.start(
            [node for node in self._told if node not in gone], wraps=self._orders.wraps(self._told)
        )
        for node, pid in self._processes.pids().items():
            if node in self._told:
                self._told[node]["pid"] = pid
        await self._gateway_process.start()
        self._tell()

    def _check_folders(self) -> list[int]:
        """The members whose folders are gone, if the others can do without. Raises ConfigError if they cannot."""
        gone = [node for node in self._told if not self.config.node_folder(node).is_dir()]
        folders = [*map(self.config.node_folder, gone), self.config.client_folder(GATEWAY)]
        if not folders[-1].is_dir() or len(gone) > self._spare:
            lacking = next(folder for folder in folders if not folder.is_dir())
            raise ConfigError(f"{lacking}: is missing; put it back, or make a new cluster with --fresh")
        for node in gone:
            self._told[node].update(DOWN)
            after = f"the others go on without it, and replog member replace {node} puts another in its place"
            output.remark(f"{self.config.node_folder(node)}: is missing; {after}")
        return gone

    @property
    def _spare(self) -> int:
        """How many members may be down."""
        members = self._roster.known
        return members.n - quorum_of(self.config, members)

    async def _serving(self) -> bool:
        """Wait until all serve that do not end. False if asked to stop before; raises NodeDied if too many end."""
        replicas = self._processes.wait_serving(spare=self._spare)
        both = asyncio.gather(replicas, self._gateway_process.wait_serving())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((both, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not both.done():
            both.cancel()
            await asyncio.gather(both, return_exceptions=True)
            return False
        words, gateway = both.result()
        pids = self._processes.pids()
        for node, word in words.items():
            if pids.get(node) == word["pid"]:  # one may have died since it said so
                self._take(node, word)
        self.gateway["pid"] = gateway["pid"]
        return True

    def _check_quorum(self) -> None:
        """Raise NotServing if too many have died since they served."""
        ended = [node["node"] for node in self.nodes if node["pid"] is None]
        members = self._roster.known
        need = quorum_of(self.config, members)
        if members.n - len({*ended} & {*members.voters}) < need:
            rule = f"{need} of {members.n} are needed; why: replog logs {ended[0]}"
            raise NotServing(f"node {some(ended)} ended during the start, {rule}")

    async def _settle(self) -> None:
        """Ask the gateway until every resumed replica has an index: in Raft only the leader tells what is committed."""
        deadline = time.monotonic() + SETTLE_S
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://{self.gateway['address']}/status") as response:
                        for word in (await response.json())["replicas"]:
                            self._take_index(word)
                if all(node.get("index") or not node.get("resumed") for node in self.nodes):
                    return
                await asyncio.sleep(0.02)

    def _take_index(self, word: dict[str, Any]) -> None:
        if word["last_index"] is not None and word["node"] in self._told:
            self._told[word["node"]].update(role=word["role"], index=word["last_index"])

    def _take(self, node: int, word: dict[str, Any]) -> None:
        """Unless it has left meanwhile: without members.json the first members are started, whoever has left since."""
        if node in self._told:
            self._told[node].update({name: word[name] for name in SAID})

    def _tell(self) -> dict[str, Any]:
        known: dict[str, Any] = {
            "pid": os.getpid(),
            "protocol": self.config.protocol,
            "serving": self._ready,
            "nodes": self.nodes,
            "gateway": self.gateway,
            "words": self._words,
        }
        if self.config.lab:
            known["lab"] = self._orders.done
        self._claim.tell(known)
        return known

    def _replaced(self) -> None:
        """A replica was refreshed: it has another process now."""
        for node, pid in self._processes.pids().items():
            if node in self._told:
                self._told[node]["pid"] = pid
        self._tell()

    # ----------------------------------------------------------------------------------------------------- members

    async def _follow_members(self) -> None:
        """For ever: start the replicas that are to join, stop those that have left."""
        while True:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(ConfigError):
                self._roster.look()
            members = {member.id: member for member in self._roster.members}
            for node in sorted(members.keys() - self._told.keys()):
                if runs_here(self.config, members[node]):
                    await self._join(node)
            for node in sorted(self._told.keys() - set(self._roster.needed)):
                await self._leave(node)

    async def _join(self, node: int) -> None:
        self._told[node] = self._place(node)
        await self._processes.start([node], wraps=self._orders.wraps([node]))
        self._told[node].update(pid=self._processes.pids().get(node), role="joining", resumed=False, index=0, view=None)
        output.remark(f"node {node} joins, pid {self._told[node]['pid']}, at {self._told[node]['address']}")
        self._tell()
        self._begin(self._joined(node))

    async def _joined(self, node: int) -> None:
        """It serves once it is a member and has the state."""
        with contextlib.suppress(ReplogError):
            words = await self._processes.wait_serving(JOIN_S)
            if node in self._told and node in words:
                self._take(node, words[node])
                self._tell()

    async def _leave(self, node: int) -> None:
        del self._told[node]
        await self._processes.stop([node])
        epoch = self._roster.known.epoch
        output.remark(f"node {node} is no member any more since epoch {epoch}; it is stopped, its folder stays")
        self._tell()

    # ------------------------------------------------------------------------------------------------------ deaths

    def _exited(self, ended: NodeExit) -> None:
        if ended.node not in self._told:
            return
        self._told[ended.node]["pid"] = None
        if ended.expected or self._stopping.is_set():
            return
        self._told[ended.node].update(DOWN)
        how = f"was killed by signal {-ended.code}" if ended.code < 0 else f"ended with exit code {ended.code}"
        after = "it is started again" if self._restart else "start with --restart to have it started again"
        output.remark(f"node {ended.node} (pid {ended.pid}) {how}; {after}; see replog logs {ended.node}")
        self._tell()
        if self._restart:
            self._begin(self._again(ended.node))

    async def _again(self, node: int) -> None:
        """Start a dead replica after a delay that doubles with each death."""
        delay = self._delays.get(node, RESTART_MIN_S)
        self._delays[node] = min(2 * delay, RESTART_MAX_S)
        await asyncio.sleep(delay)
        if node not in self._told or node in self._processes.pids():
            return
        await self._processes.restart(node)
        with contextlib.suppress(ReplogError):
            words = await self._processes.wait_serving()
            if node in self._told and node in words:
                self._take(node, words[node])
                output.remark(f"node {node} serves again, pid {words[node]['pid']}, index {words[node]['index']}")
        self._tell()

    def _gateway_exited(self, code: int) -> None:
        self.gateway["pid"] = None
        if not self._stopping.is_set():
            output.remark(
                f"the gateway ended with code {code}; replicas and the command go on; see replog logs gateway"
            )
            self._tell()

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def serve(
    config: ClusterConfig, announce: Announce, *, restart: bool, refresh_every: float | None = None
) -> None:
    """Run the cluster until Ctrl-C, SIGTERM or the end of the terminal."""
    with running.claim(config.folder) as claim:
        supervisor = Supervisor(config, claim, restart=restart, refresh_every=refresh_every)
        _on_signals(supervisor.stop)
        await supervisor.run(announce)
    output.remark(f"stopped; what it has stored stays in {config.folder}")


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


# ------------------------------------------------------------------------------------------------- from outside


def detached(folder: Path, protocol: str, *, restart: bool, refresh_every: float | None = None) -> dict[str, Any]:
    """Run the cluster of `folder` in a process of its own; what it tells once it serves. Raises NotServing.

    Ctrl-C before that stops it.
    """
    said = folder / "up.log"
    command = [*python("replog.cli"), "up", protocol, "--cluster", str(folder)]
    if refresh_every is not None:
        command += ["--refresh-every", f"{refresh_every}s"]
    process = _begun(command, said, restart=restart)
    try:
        while process.poll() is None:
            known = running.look(folder)
            if known is not None and known.get("serving"):
                return known
            time.sleep(0.02)
    except KeyboardInterrupt:
        output.remark("replog: interrupted before it served; stopping it")
        _end(process)
        raise
    if process.returncode == 0:
        raise NotServing(f"{folder}: the cluster was stopped before it served")
    raise NotServing(f"the cluster did not come up: {_reason(said.read_text())} (all of it: {said})")


def _reason(said: str) -> str:
    """Of what a `replog up` had to say, why it ended: its error, and of a replica that ended the last of its words."""
    lines = said.strip().splitlines() or ["it said nothing"]
    places = [place for place, line in enumerate(lines) if line.startswith("replog: ")]
    first, *more = lines[places[-1] :] if places else lines[-1:]
    first = first.removeprefix("replog: ").partition("; the last lines")[0]
    return f"{first} {STAMP.sub('', more[-1])}" if more and first.endswith(":") else first


def _begun(command: list[str], said: Path, *, restart: bool) -> subprocess.Popen[bytes]:
    with said.open("w") as sink:
        return subprocess.Popen(  # noqa: S603  our own module with arguments that were checked
            [*command, *(["--restart"] if restart else [])],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stop(folder: Path) -> dict[str, Any]:
    """Ask the process that runs this cluster to stop, and wait until it has; what it told last."""
    known: dict[str, Any] = {}
    asked = 0
    deadline = time.monotonic() + STOP_S
    while (told := running.look(folder)) is not None:
        known = told if told["nodes"] or not known else known
        asked = asked or _ask_to_stop(told["pid"])
        if time.monotonic() > deadline:
            raise NotServing(f"{folder}: process {told['pid']} still runs {STOP_S:g} s after it was asked to stop")
        time.sleep(0.02)
    if not known:
        raise NoCluster(f"{folder}: its replicas run inside another program, not under replog up; end that program")
    return known


def _ask_to_stop(pid: int) -> int:
    """0 for one that has not yet said who it is: as a pid it would mean ourselves."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return pid
