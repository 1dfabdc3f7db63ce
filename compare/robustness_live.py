"""`python -m compare.robustness --live`: the attacks on real processes, with TLS and signatures, `robust` off and on.

Each run is a cluster of its own: the load alone is measured, then the same load beside the attack. Replicas, clients
and attackers share the machine, so that the work of the attackers themselves counts too, and what is left is less than
on machines of their own. Faulty clients hold a key and links like any other; a faulty replica is told to lie by a file
(`compare.live`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from compare.history import Call
from compare.liar import WRAP, arguments
from compare.live import end_all, free_ports, leader_of
from compare.live_client import LabClient
from replog.apps.kv import KeyValue
from replog.authenticators import MAC_BYTES, Authenticator
from replog.certificates import load_signer
from replog.config import ClusterConfig, create_cluster
from replog.live import laboratory
from replog.live.dialing import Links
from replog.live.engine import monotonic
from replog.live.folders import temporary_folder
from replog.live.processes import LocalProcesses
from replog.types import NOBODY, ClientId, KeyRequest, Message, Micros, NodeId, Request, SessionKey, Status, Submit

CLIENTS: Final = 8
OUTSTANDING: Final = 4
LIARS: Final = 2
"""Byzantine clients, among which the rate of an attack by clients is divided."""
WARM_UP_S: Final = 2.0
TICK_S: Final = 0.005
CONNECT_S: Final = 30.0
OBSERVER: Final = "observer"


@dataclass(frozen=True)
class LiveCase:
    """One attack. `target`: "primary" or "backup" for a faulty replica. `rate`: of Byzantine clients together, a
    second."""

    name: str
    least: float
    """The bar: of throughput, what is left at least; of latency, how much longer it is at most."""
    auth: str = "signatures"
    target: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    rate: float = 0

    @property
    def label(self) -> str:
        shown = self.options | ({"rate_s": self.rate} if self.rate else {})
        return " ".join([self.name, *(f"{name}={value:g}" for name, value in shown.items() if name != "client")])

    @property
    def is_latency(self) -> bool:
        return self.name == "censor"


CASES: Final = (
    LiveCase("garbage-signatures", 0.95, rate=4_000),
    LiveCase("retransmission-storm", 0.95, rate=4_000),
    LiveCase("big-mac", 0.95, "macs", rate=20),
    LiveCase("slow-primary", 0.80, target="primary", options={"delay_ms": 100}),
    LiveCase("slow-primary", 0.80, target="primary", options={"delay_ms": 500}),
    LiveCase("flood", 0.85, target="backup", options={"rate_s": 20_000}),
    LiveCase("censor", 3, target="primary", options={"delay_ms": 800, "client": "c0"}),
)


@dataclass(frozen=True)
class LiveOutcome:
    usual_s: float
    """Operations a second before the attack."""
    attacked_s: float
    censored_ms: float
    others_ms: float
    views: int
    refused: int
    shunned: int
    floods: int

    def figure(self, case: LiveCase) -> float:
        if case.is_latency:
            return self.censored_ms / max(self.others_ms, 0.001)
        return self.attacked_s / max(self.usual_s, 0.001)


def meets(case: LiveCase, outcome: LiveOutcome) -> bool:
    value = outcome.figure(case)
    return value <= case.least if case.is_latency else value >= case.least


def run(case: LiveCase, robust: bool, seconds: float) -> LiveOutcome:
    """Raises ConfigError, NodeDied."""
    with temporary_folder("replog-robustness-") as folder:
        return asyncio.run(_Run(case, robust, folder).measure(seconds))


class _Run:
    def __init__(self, case: LiveCase, robust: bool, folder: Path) -> None:
        self._case = case
        self._control = folder / "control"
        self._control.mkdir()
        self._names = [f"c{number}" for number in range(CLIENTS)]
        self._strangers = [f"x{number}" for number in range(LIARS)] if case.rate else []
        self._config = create_cluster(
            folder / "cluster",
            "pbft",
            port=free_ports(4),
            options={"robust": robust, "auth": case.auth},
            clients=(*self._names, *self._strangers, OBSERVER),
            lab=True,
        )
        self._clients = [LabClient(self._config, name) for name in self._names]
        self._liars = [LIVE_CLIENTS[case.name](self._config, name) for name in self._strangers]
        self._observer = LabClient(self._config, OBSERVER)
        self._over = False

    async def measure(self, seconds: float) -> LiveOutcome:
        async with self._running():
            await asyncio.sleep(WARM_UP_S)
            began = monotonic()
            await asyncio.sleep(seconds)
            attacked = monotonic()
            attacks = [asyncio.create_task(attack) for attack in await self._attack()]
            await asyncio.sleep(seconds)
            ended = monotonic()
            statuses = await self._observer.statuses()
            await end_all(attacks)
        return self._outcome(began, attacked, ended, statuses)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        """All processes and links, and the load."""
        wrap = WRAP, arguments(self._config, self._control, 1)
        wraps = dict.fromkeys(range(self._config.n), wrap) if self._case.target else {}
        async with contextlib.AsyncExitStack() as stack:
            processes = await stack.enter_async_context(LocalProcesses(self._config))
            await processes.start(wraps=wraps)
            await processes.wait_serving()
            parties: list[LabClient | FaultyClient] = [*self._clients, *self._liars, self._observer]
            for party in parties:
                await stack.enter_async_context(party)
            async with asyncio.timeout(CONNECT_S):
                await asyncio.gather(*(party.connected() for party in parties))
            callers = [
                asyncio.create_task(self._call(client, f"{client.name}/{place}"))
                for client in self._clients
                for place in range(OUTSTANDING)
            ]
            try:
                yield
            finally:
                self._over = True
                await end_all(callers)

    async def _call(self, client: LabClient, name: str) -> None:
        number = 0
        while not self._over:
            number += 1
            await client.ask(name, [("put", (f"{name}/{number % 100}", "v"))])

    async def _attack(self) -> list[Any]:
        """Begin; what runs on until it is cancelled."""
        if self._case.target:
            leader = leader_of(await self._observer.statuses()) or 0
            node = leader if self._case.target == "primary" else (leader + 1) % self._config.n
            order = {"attack": self._case.name, "members": [node], "options": self._case.options}
            laboratory.order(self._control, [node], order)
        each = self._case.rate / max(1, len(self._liars))
        return [liar.go_on(each) for liar in self._liars] + ([self._tell_leader()] if self._liars else [])

    async def _tell_leader(self) -> None:
        while True:
            leader = leader_of(await self._observer.statuses())
            for liar in self._liars:
                liar.leader = NOBODY if leader is None else leader
            await asyncio.sleep(0.1)

    def _outcome(self, began: Micros, attacked: Micros, ended: Micros, statuses: dict[NodeId, Status]) -> LiveOutcome:
        calls = [call for client in self._clients for call in client.calls]
        returned = [call.returned for call in calls if call.returned is not None]
        asked = [call for call in calls if attacked <= call.invoke < ended]
        censored = [_wait(call, ended) for call in asked if call.client == self._names[0]]
        others = [_wait(call, ended) for call in asked if call.client != self._names[0]]
        details = [status.detail for status in statuses.values()]
        return LiveOutcome(
            usual_s=sum(began <= one < attacked for one in returned) * 1e6 / (attacked - began),
            attacked_s=sum(attacked <= one < ended for one in returned) * 1e6 / (ended - attacked),
            censored_ms=statistics.median(censored) / 1000 if censored else float("inf"),
            others_ms=statistics.median(others) / 1000 if others else 0,
            views=max((status.view for status in statuses.values()), default=0),
            refused=sum(int(detail.get("refused", 0)) for detail in details),
            shunned=sum(int(detail.get("shunned", 0)) for detail in details),
            floods=sum("floods" in detail for detail in details),
        )


def _wait(call: Call, end: Micros) -> Micros:
    """Of one that is not over, what it has waited so far."""
    return min(call.returned or end, end) - call.invoke


# ------------------------------------------------------------------------------------------------------ faulty clients


class FaultyClient:
    """A key, links, and messages as fast as it is told, in the rhythm of TICK_S."""

    def __init__(self, config: ClusterConfig, name: ClientId) -> None:
        self.leader: NodeId = NOBODY
        self._name = name
        self._n = config.n
        self._domain = config.domain
        self._codec = config.spec.messages
        self._links = Links(config, name, self._take)
        self._made = 0

    async def __aenter__(self) -> FaultyClient:
        self._links.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._links.close()

    async def connected(self) -> None:
        await self._links.linked(self._n)

    def _take(self, node: NodeId, messages: list[Message]) -> None:
        """What replicas say is of no interest."""

    async def go_on(self, rate: float) -> None:
        owed = 0.0
        while True:
            owed += rate * TICK_S
            for _ in range(int(owed)):
                self._send_one()
            owed -= int(owed)
            await asyncio.sleep(TICK_S)

    def _send_one(self) -> None:
        raise NotImplementedError

    def _request(self, sign: Any, timestamp: int) -> Request:
        self._made += 1
        operation = KeyValue.operation("put", f"byzantine/{self._name}", str(self._made))
        return Request.make(sign, self._domain, self._name, timestamp, timestamp - 1, [operation])

    def _send(self, to: Iterable[NodeId], message: Message) -> None:
        self._links.send(to, self._codec.encode(message))


class LiveGarbage(FaultyClient):
    """Signatures that are none: each replica has to check to know. (P36)"""

    def _send_one(self) -> None:
        self._send(range(self._n), Submit(self._request(lambda _: bytes(64), self._made + 1).raw))


class LiveStorm(FaultyClient):
    """One proper request again and again, to be answered from memory each time. (P36)"""

    def __init__(self, config: ClusterConfig, name: ClientId) -> None:
        super().__init__(config, name)
        signer = load_signer(config.client_folder(name))
        self._message = Submit(self._request(signer.sign, 1).raw)

    def _send_one(self) -> None:
        self._send(range(self._n), self._message)


class LiveBigMac(FaultyClient):
    """MACs that are right for the primary alone. (P31)"""

    def __init__(self, config: ClusterConfig, name: ClientId) -> None:
        super().__init__(config, name)
        self._keys = Authenticator(range(self._n))

    async def connected(self) -> None:
        await super().connected()
        self._send(range(self._n), KeyRequest())

    def _take(self, node: NodeId, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, SessionKey):
                self._keys.learn(node, message.key)

    def _send_one(self) -> None:
        if self.leader != NOBODY:
            self._send((self.leader,), Submit(self._request(self._sign, self._made + 1).raw))

    def _sign(self, statement: bytes) -> bytes:
        auth = self._keys.sign(statement)
        place = self.leader * MAC_BYTES
        return bytes(place) + auth[place : place + MAC_BYTES] + bytes(len(auth) - place - MAC_BYTES)


LIVE_CLIENTS: Final[dict[str, type[FaultyClient]]] = {
    "garbage-signatures": LiveGarbage,
    "retransmission-storm": LiveStorm,
    "big-mac": LiveBigMac,
}


# --------------------------------------------------------------------------------------------------------------- table


def table(names: Sequence[str], seconds: float) -> Iterator[tuple[str, bool]]:
    """Lines to print, each with whether a bar was missed in it."""
    load = f"{CLIENTS} clients with {OUTSTANDING} operations each, {seconds:g} s before and {seconds:g} s under attack"
    yield f"real processes on {os.cpu_count()} cores for all: {load}", False
    yield f"{'attack':34} {'robust':7} {'before':>8} {'left':>8} {'bar':>7}  views refused shunned floods", False
    for case in CASES:
        for robust in (False, True) if not names or case.name in names else ():
            found = run(case, robust, seconds)
            verdict = ("ok" if meets(case, found) else "MISSED") if robust else ""
            sign = "<=" if case.is_latency else ">="
            line = (
                f"{case.label:34} {'on' if robust else 'off':7} {found.usual_s:6.0f}/s {found.figure(case):8.2f} "
                f"{sign}{case.least:5.2f}  {found.views} {found.refused} {found.shunned} {found.floods} {verdict}"
            )
            yield line, verdict == "MISSED"
