"""The gateway of a cluster as a process of this machine, by the conventions of a replica's (`replog.live.node`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from typing import Any

from replog.config import ClusterConfig
from replog.errors import ReplogError
from replog.host import GATEWAY as NAME
from replog.host import PORT_OFFSET, gateway_place
from replog.live.processes import environment, python

STOP_S = 5.0
ERRORS = "stderr.log"
__all__ = ["NAME", "PORT_OFFSET", "GatewayDied", "GatewayProcess", "gateway_place", "gateway_port"]


class GatewayDied(ReplogError):
    """The gateway ended that should run; the text holds its last words."""


def gateway_port(config: ClusterConfig) -> int:
    """By default 100 above the first replica's. Raises ConfigError where there is no such port."""
    return gateway_place(config)[1]


class GatewayProcess:
    """Started once, then watched. Invariant: it has ended when `stop` returns."""

    def __init__(self, config: ClusterConfig, *, on_exit: Callable[[int], None] | None = None) -> None:
        """`on_exit` is called in the loop with the exit code."""
        self._config = config
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._serving: asyncio.Future[dict[str, Any]] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        command = [*python("replog.live.gateway"), str(self._config.folder), "--with-parent"]
        with (self._config.client_folder(NAME) / ERRORS).open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for the parent
            )
        self._serving = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._watch(self._process, self._serving))]

    async def wait_serving(self) -> dict[str, Any]:
        """What it said when it began to serve: pid, host, port. Raises GatewayDied."""
        if self._serving is None:
            raise GatewayDied("the gateway was not started")
        return await asyncio.shield(self._serving)

    async def stop(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
        await asyncio.gather(*self._tasks)

    async def _watch(self, process: asyncio.subprocess.Process, serving: asyncio.Future[dict[str, Any]]) -> None:
        assert process.stdout is not None
        async for text in process.stdout:
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if line.get("event") == "serving" and not serving.done():
                    serving.set_result(line)
        code = await process.wait()
        if not serving.done():
            serving.set_exception(GatewayDied(f"the gateway ended with exit code {code}: {self._last_line()}"))
            serving.exception()  # seen: nobody may be waiting for it
        if self._on_exit is not None:
            self._on_exit(code)

    def _last_line(self) -> str:
        lines = (self._config.client_folder(NAME) / ERRORS).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
