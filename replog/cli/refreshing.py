"""Refreshing replicas from the process behind `replog up`: on the word of `replog refresh`, and in turn by the clock.

This process, its clock and the code on disk are what a refresh trusts: the replica itself is not asked whether it may
be refreshed, and is stopped whatever it says. Words come over a socket in a folder that only this user can enter: one
line of JSON asks, lines of JSON answer, the last one has "done" or "error".

Not here: what a refreshed replica does (`pbft.recovery`), the command (`replog.cli.refresh`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from replog.cli import output
from replog.config import ClusterConfig
from replog.errors import ReplogError
from replog.live.processes import LocalProcesses, RefreshFailed
from replog.live.report import quorum_of
from replog.membership import Configuration
from replog.roster import Roster

SPACING_MIN_S = 1.0
"""Between two refreshes by the clock."""
ANSWER_S = 5.0
LINE_BYTES_MAX = 4096
NOT_SUPPORTED = "has no refresh: it takes no replica for a liar, and so none has to prove its state to the others"
WORDS = (
    'a word is a line {"refresh": NODE}, {"move": NODE, "leader": NODE}, {"pause": true}, {"give-up": LEADER}, '
    '{"snapshot": [NODE...]}, {"start": [NODE...]}, {"stop": [NODE...]} or {"lab": {"do": ...}}'
)

Say = Callable[[str], None]
Answer = Callable[[Any], Awaitable[dict[str, Any]]]
"""To the value of a word; what the answer says is done."""


class Refused(ReplogError):
    """A refresh that is not begun; the text says why, and what to do."""


def support(config: ClusterConfig) -> str:
    """Why no replica of this cluster can be refreshed; "" if they can."""
    enabled = getattr(config.protocol_options(), "refresh", None)
    if enabled is None:
        return f"protocol = {config.protocol}: {NOT_SUPPORTED}"
    if not enabled:
        return "refresh = false: the options of this cluster forbid it"
    return "f = 0: there is no replica to spare" if config.f == 0 else ""


class Refresher:
    """Invariant: at most f replicas are refreshed at once; each is started by this process alone."""

    def __init__(
        self,
        config: ClusterConfig,
        processes: LocalProcesses,
        gateway: str,
        changed: Callable[[], None],
        others: Mapping[str, Answer],
    ) -> None:
        """`gateway`: its address, to be asked how the others are. `changed` is called when a process was replaced.
        `others`: words that are for somebody else."""
        self._others_answer = others
        self._config = config
        self._processes = processes
        self._gateway = gateway
        self._changed = changed
        self._under_way: set[int] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def refresh(self, node: int, say: Say) -> dict[str, Any]:
        """To its end. Raises Refused before anything is touched, RefreshFailed or NodeDied later."""
        await self._check(node)
        self._under_way.add(node)
        try:
            return await self._processes.refresh(node, say)
        finally:
            self._under_way.discard(node)
            self._changed()

    async def _check(self, node: int) -> None:
        if flaw := support(self._config):
            raise Refused(flaw)
        members = self._members
        if node not in members.ids:
            raise Refused(f"node = {node}: is no member; members are {', '.join(map(str, members.ids))}")
        if node in self._under_way or len(self._under_way) >= members.f:
            busy = ", ".join(map(str, sorted(self._under_way)))
            raise Refused(f"node {busy} is being refreshed; at most f = {members.f} may be at once, try again later")
        others = await self._others(node)
        behind = [other for other, in_sync in others.items() if not in_sync and other in members.ids]
        quorum = quorum_of(self._config, members)
        if members.n - 1 - len(behind) < quorum:
            rule = f"{quorum} others must be in sync, node {', '.join(map(str, behind))} is not"
            raise Refused(f"node {node} is not refreshed: {rule}; see replog status")

    @property
    def _members(self) -> Configuration:
        return Roster(self._config).known

    async def _others(self, node: int) -> dict[int, bool]:
        """Whether each other replica is in sync, in its own words."""
        try:
            timeout = aiohttp.ClientTimeout(total=ANSWER_S)
            asking = f"http://{self._gateway}/status"
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(asking) as response:
                words = (await response.json())["replicas"]
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            raise Refused(
                f"the gateway does not tell how the others are: {type(error).__name__}; see replog logs gateway"
            ) from None
        return {word["node"]: bool(word.get("in_sync")) for word in words if word["node"] != node}

    # ---------------------------------------------------------------------------------------------------- by the clock

    async def in_turn(self, every_s: float) -> None:
        """For ever: each replica once in `every_s` seconds, evenly apart. One that is refused has to wait for the next
        turn."""
        node = -1
        while True:
            await asyncio.sleep(max(SPACING_MIN_S, every_s / self._members.n))
            node = min((other for other in self._members.ids if other > node), default=self._members.ids[0])
            try:
                told = await self.refresh(node, lambda _text: None)
                output.remark(f"refreshed: {in_words(told)}")
            except ReplogError as error:
                output.remark(f"not refreshed: {error}")

    # ------------------------------------------------------------------------------------------------------- by a word

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str | None]:
        """Take words as long as the block lasts; where: None where the system has no such sockets."""
        if not hasattr(asyncio, "start_unix_server"):
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="replog-", ignore_cleanup_errors=True) as folder:
            place = str(Path(folder) / "word")
            server = await asyncio.start_unix_server(self._serve, place, limit=LINE_BYTES_MAX)
            try:
                yield place
            finally:
                server.close()
                for task in tuple(self._tasks):
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One word. A refresh that was begun goes on when whoever asked has gone: half of it is of no use."""

        def say(**line: Any) -> None:
            with contextlib.suppress(OSError, RuntimeError):
                writer.write(json.dumps(line).encode() + b"\n")

        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            async with asyncio.timeout(ANSWER_S):
                asked = json.loads(await reader.readline())
            other = next((name for name in self._others_answer if name in asked), None)
            if other is not None:
                say(done=await self._others_answer[other](asked[other]))
            elif "pause" in asked:
                self._processes.pause(paused=bool(asked["pause"]))
                say(done={"paused": bool(asked["pause"])})
            elif "give-up" in asked:
                say(done=await self._processes.give_up_change(int(asked["give-up"])))
            elif "snapshot" in asked:
                say(done={"nodes": self._processes.snapshot([int(node) for node in asked["snapshot"]])})
            elif "move" in asked:
                say(done=await self._processes.move_leader(int(asked["leader"]), int(asked["move"])))
            else:
                say(done=await self.refresh(int(asked["refresh"]), lambda text: say(progress=text)))
        except (ReplogError, RefreshFailed) as error:
            say(error=str(error))
        except (ValueError, TypeError, KeyError, TimeoutError):
            say(error=WORDS)
        finally:
            if task is not None:
                self._tasks.discard(task)
            writer.close()


def in_words(told: dict[str, Any]) -> str:
    """`node 2: 14 parts of its state checked, 1 fetched from others, nothing dropped; 0.8 s, stable at 256`."""
    fetched = f"{told['fetched']} fetched from others" if told["fetched"] else "none fetched from others"
    dropped = f"{told['dropped']} things dropped" if told["dropped"] else "nothing dropped"
    parts = f"{told['parts']} part{'' if told['parts'] == 1 else 's'} of its state checked"
    return f"node {told['node']}: {parts}, {fetched}, {dropped}; {told['us'] / 1e6:.1f} s, stable at {told['index']}"
