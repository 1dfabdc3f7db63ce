"""A client of a live cluster for the laboratory: one request a call, its timestamp known, every answer written down.

Here: bookkeeping. Not here: what makes a result (`replog.client`, as everywhere), nor what is asked
(`compare.workloads`). Programs use `replog.live.client`, which packs calls into requests and so hides which call is
which request from a judge.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from compare.history import Call
from compare.sim import learn
from compare.workloads import Plan, encode, only_read
from replog.certificates import load_signer
from replog.client import ClientCore, Done, Failed, ToReplica, Wake
from replog.config import ClusterConfig
from replog.live.counters import Counters
from replog.live.dialing import Links
from replog.live.engine import monotonic
from replog.meters import MeteredSigner
from replog.types import Message, NodeId, Reply, SessionKey, Status, StatusReply, StatusRequest, decode_status

STATUS_S = 0.5


class LabClient:
    """Invariant: every call is in `calls` from the moment it is made, whatever becomes of it."""

    def __init__(self, config: ClusterConfig, name: str) -> None:
        spec = config.spec
        rules = spec.client_rules(config.n, config.f, config.protocol_options())
        folder = config.client_folder(name)
        self.name = name
        self.calls: list[Call] = []
        self.counters = Counters()
        self._config = config
        signer = MeteredSigner(load_signer(folder), self.counters.meter)
        self._core = ClientCore(name, config.n, rules, signer, config.domain, mac=self.counters.meter.mac)
        self._codec = spec.messages
        self._links = Links(config, name, self._take)
        self._waiting: dict[int, tuple[list[Call], asyncio.Future[None]]] = {}
        self._statuses: dict[NodeId, Status] = {}
        self._asking = asyncio.Lock()
        self._asked: frozenset[NodeId] = frozenset()
        self._token = 0
        self._told = asyncio.Event()
        self._wake: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> LabClient:
        self._links.open()
        return self

    def dial_again(self, node: NodeId) -> None:
        self._links.dial_again(node)

    async def __aexit__(self, *_: object) -> None:
        if self._wake is not None:
            self._wake.cancel()
        await self._links.close()

    async def connected(self) -> None:
        """Until every replica is linked."""
        await self._links.linked(self._config.n)

    async def ask(self, process: str, plans: Sequence[Plan]) -> list[Call]:
        """One request with these operations; ends when its outcome is known, or it is known that there is none."""
        now = monotonic()
        calls = [
            Call(self.name, process, method, args, now, position=place) for place, (method, args) in enumerate(plans)
        ]
        self.calls += calls
        timestamp, effects = self._core.submit(now, [encode(plan) for plan in plans], only_read(plans))
        for call in calls:
            call.timestamp = timestamp
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[timestamp] = (calls, done)
        self._carry_out(effects)
        await done
        return calls

    async def statuses(self, nodes: Iterable[NodeId] | None = None) -> dict[NodeId, Status]:
        """Own word of each of these replicas, or of all, if it answers in time. One question at a time."""
        async with self._asking:
            self._token += 1
            self._statuses = {}
            self._told.clear()
            self._asked = frozenset(range(self._config.n) if nodes is None else nodes)
            self._send(sorted(self._asked & self._links.nodes), StatusRequest(self._token))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_S):
                    await self._told.wait()
            return dict(self._statuses)

    # ----------------------------------------------------------------------------------------------------- messages

    def _take(self, node: NodeId, messages: list[Message]) -> None:
        for message in messages:
            if type(message) in (Reply, SessionKey):
                self._carry_out(self._core.on_message(monotonic(), node, message))
            elif type(message) is StatusReply and message.token == self._token:
                self._statuses[node] = decode_status(message.status)
                if self._asked & self._links.nodes <= self._statuses.keys():
                    self._told.set()

    def _carry_out(self, effects: Iterable[Any]) -> None:
        for effect in effects:
            if type(effect) is ToReplica:
                self._send(effect.to, effect.message)
            elif type(effect) is Wake:
                self._arm(effect.at)
            elif isinstance(effect, (Done, Failed)):
                calls, done = self._waiting.pop(effect.timestamp)
                learn(calls, effect, monotonic())
                if not done.done():
                    done.set_result(None)

    def _send(self, to: Iterable[NodeId], message: Message) -> None:
        raw = self._codec.encode(message)
        nodes = tuple(to)
        self.counters.sent.add(message, len(raw), len(nodes))
        self._links.send(nodes, raw)

    def _arm(self, at: int) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wake = asyncio.get_running_loop().call_later(max(0, at - monotonic()) / 1e6, self._expire)

    def _expire(self) -> None:
        self._wake = None
        self._carry_out(self._core.on_timeout(monotonic()))
