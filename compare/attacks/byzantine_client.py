"""Clients that lie: they hold a client's key and links, and follow no client's code.

They write keys of their own (OWN), so that what correct clients may see does not depend on which of their requests
take effect. Judges are told what they signed; whether replicas made the same of it shows in logs and digests.
Simulation only.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec

from compare.attacks.random_words import Words
from replog.apps.kv import KeyValue
from replog.authenticators import MAC_BYTES, Authenticator
from replog.codec import digest_of
from replog.sim.cluster import SimCluster
from replog.types import (
    READ_ONLY,
    REQUEST_OPERATIONS_MAX,
    ClientId,
    KeyRequest,
    Message,
    Micros,
    NodeId,
    Read,
    RequestBody,
    SessionKey,
    Submit,
)

OWN: Final = "byzantine/"
"""The prefix of its keys."""
AHEAD: Final = 100
"""More than the window of a session."""
STORM: Final = 12
_encode = msgspec.msgpack.Encoder().encode


class ByzantineClient:
    """In the place of a client's core; acts at random moments until `end`.

    Invariant: `signed` has the digest of each body that it signed, or made one right MAC for.
    """

    def __init__(self, cluster: SimCluster, name: ClientId, seed: int, pause_us: Micros, end: Micros) -> None:
        self.name = name
        self.signed: set[str] = set()
        self.acts: Counter[str] = Counter()
        self._cluster = cluster
        self._chance = chance = random.Random(f"{seed}/byzantine-client/{name}")
        macs = cluster.spec.client_rules(cluster.n, cluster.f, cluster.options).macs
        self._keys = Authenticator(range(cluster.n)) if macs else None
        self._words = Words(chance, cluster.spec.messages.kinds)
        self._pause_us, self._ends = pause_us, end
        self._timestamp = self._made = 0
        self._ways: tuple[Callable[[], None], ...] = (
            self._proper,
            self._two_faces,
            self._some_only,
            self._badly_signed,
            self._storm,
            self._absurd,
            self._low,
            self._ahead,
            self._read_only,
            self._nonsense,
        )
        cluster.client(name).core = self  # type: ignore[assignment]

    # ------------------------------------------------------------------------------------------- in place of a client

    def on_message(self, now: Micros, sender: NodeId, message: Message) -> list[Any]:
        if type(message) is SessionKey and self._keys is not None:
            self._keys.become(range(self._cluster.n))
            self._keys.learn(sender, message.key)
        self._words.learn(message)
        return []

    def start(self) -> None:
        if self._keys is not None:
            self._send(self._all, KeyRequest())
        self._cluster.after(1 + int(self._chance.expovariate(1 / self._pause_us)), self._act)

    def _act(self) -> None:
        if self._cluster.now < self._ends:
            way = self._chance.choice(self._ways)
            self.acts[way.__name__.strip("_").replace("_", " ")] += 1
            way()
            self.start()

    # ----------------------------------------------------------------------------------------------------- what it does

    def _proper(self) -> None:
        self._send(self._all, Submit(self._sign(self._body())))

    def _two_faces(self) -> None:
        """One timestamp for two operations, each to replicas of its own. (P32)"""
        first, some = self._body(), self._some()
        second = self._body(timestamp=first.timestamp)
        self._send(some, Submit(self._sign(first)))
        self._send(tuple(node for node in self._all if node not in some), Submit(self._sign(second)))

    def _some_only(self) -> None:
        """Maybe no primary among them. (P35)"""
        self._send(self._some(), Submit(self._sign(self._body())))

    def _badly_signed(self) -> None:
        """A wrong signature, or MACs that are right for some replicas only. (P31)"""
        self._send(self._all, Submit(self._sign(self._body(), wrong=self._some())))

    def _storm(self) -> None:
        message = Submit(self._sign(self._body()))
        for _ in range(STORM):
            self._send(self._all, message)

    def _absurd(self) -> None:
        """A number of operations that it does not have, or bytes in place of operations."""
        operations = self._chance.choice((_encode([]), b"", self._chance.randbytes(64), _encode([b"", b"?"] * 8)))
        count = self._chance.choice((1, 2, 16, REQUEST_OPERATIONS_MAX, REQUEST_OPERATIONS_MAX + 1))
        self._send(self._some(), Submit(self._sign(self._body(count=count, operations=operations))))

    def _low(self) -> None:
        """Gives up what it has just asked for, or takes back what it gave up."""
        body = self._body()
        low = self._chance.choice((0, body.timestamp - 1, body.timestamp, self._chance.randrange(body.timestamp)))
        self._send(self._some(), Submit(self._sign(msgspec.structs.replace(body, low=low))))

    def _ahead(self) -> None:
        """Timestamps beyond the window, or of long ago."""
        ahead = self._timestamp + self._chance.choice((2, AHEAD, 2**40, 2**62 - self._timestamp))
        timestamp = self._chance.choice((1, ahead))
        self._send(self._some(), Submit(self._sign(self._body(timestamp=timestamp))))

    def _read_only(self) -> None:
        """A write that is said to read only, ordered or not."""
        raw = self._sign(self._body(flags=READ_ONLY))
        self._send(self._all, self._chance.choice((Submit, Read))(raw))

    def _nonsense(self) -> None:
        """A message of any kind, those of replicas among them, or a spoilt request."""
        raw = bytearray(self._sign(self._body()))
        raw[self._chance.randrange(len(raw))] ^= 1 << self._chance.randrange(8)
        self._send(self._some(), self._chance.choice((Submit(bytes(raw)), self._words.invent())))

    # ------------------------------------------------------------------------------------------------------------ means

    @property
    def _all(self) -> tuple[NodeId, ...]:
        return tuple(range(self._cluster.n))

    def _some(self) -> tuple[NodeId, ...]:
        return tuple(sorted(self._chance.sample(self._all, self._chance.randint(1, self._cluster.n - 1))))

    def _body(self, timestamp: int | None = None, **others: Any) -> RequestBody:
        """A write of its own, with a new timestamp unless one is given."""
        if timestamp is None:
            self._timestamp = timestamp = self._timestamp + 1
        self._made += 1
        operation = KeyValue.operation("put", f"{OWN}{self.name}/{self._made % 3}", str(self._made))
        low = max(0, min(timestamp, self._timestamp) - 1 - self._chance.randrange(8))
        fields: dict[str, Any] = {"low": low, "flags": 0, "count": 1, "operations": _encode([operation])}
        return RequestBody(self.name, timestamp, **(fields | others))

    def _sign(self, body: RequestBody, wrong: tuple[NodeId, ...] = ()) -> bytes:
        """The request. With `wrong` its signature is none, or its MACs for these replicas are."""
        raw = _encode(body)
        statement = self._cluster.domain.statement("request", raw)
        if self._keys is None:
            auth = self._cluster.signer(self.name).sign(statement)
            auth = bytes(len(auth)) if wrong else auth
        else:
            auth = self._keys.sign(statement)
            for node in wrong:
                auth = auth[: node * MAC_BYTES] + bytes(MAC_BYTES) + auth[(node + 1) * MAC_BYTES :]
        if any(auth):
            self.signed.add(digest_of(raw).hex())
        return _encode([raw, auth])

    def _send(self, to: tuple[NodeId, ...], message: Message) -> None:
        self._cluster.send_as(self.name, to, message)
