"""Clients that attack the service's time, not its safety: each does one thing, again and again. Simulation only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from compare.attacks.byzantine_client import ByzantineClient
from replog.apps.kv import KeyValue
from replog.client import WINDOW
from replog.types import (
    READ_ONLY,
    Answer,
    Message,
    Micros,
    NodeId,
    Read,
    Reply,
    Submit,
)

GET: Final = KeyValue.operation("get", "k")
PUT: Final = KeyValue.operation("put", "byzantine/k", "v")
MUCH: Final = 16_384
"""Operations of a large request, unless fewer are allowed: as many as a batch may hold."""
_encode = msgspec.msgpack.Encoder().encode


class BigMac(ByzantineClient):
    """Requests whose MAC is right for the primary alone, sent to it alone: no backup can vouch for the batch that they
    get into. With signatures there is no such request. (P31) [Clement09 2]"""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ways = (self._for_the_primary_alone,)

    def _for_the_primary_alone(self) -> None:
        primary = self._cluster.leader()
        if primary is not None:
            others = tuple(node for node in self._all if node != primary)
            self._send((primary,), Submit(self._sign(self._body(), wrong=others)))


class WrongForThePrimary(ByzantineClient):
    """Requests whose MAC is wrong for the primary alone, sent to the others alone. (P31)"""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ways = (self._for_the_others,)

    def _for_the_others(self) -> None:
        primary = self._cluster.leader()
        if primary is not None:
            others = tuple(node for node in self._all if node != primary)
            self._send(others, Submit(self._sign(self._body(), wrong=(primary,))))


class GarbageSignatures(ByzantineClient):
    """Requests in good form whose signature is none: each replica has to check it to know. (P36)"""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ways = (self._badly_signed_for_all,)

    def _badly_signed_for_all(self) -> None:
        self._send(self._all, Submit(self._sign(self._body(), wrong=self._all)))


class RetransmissionStorm(ByzantineClient):
    """One proper request, and for ever the same again: each time it is remembered, and answered. (P36)"""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ways = (self._again,)
        self._message: Submit | None = None

    def _again(self) -> None:
        if self._message is None:
            self._message = Submit(self._sign(self._body()))
        self._send(self._all, self._message)


class ReadStorm(ByzantineClient):
    """One proper read, and for ever the same again. Reads are not ordered, so no session remembers them. (P36)"""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ways = (self._again,)
        self._message: Read | None = None

    def _again(self) -> None:
        if self._message is None:
            self._message = Read(self._sign(self._body(flags=READ_ONLY, operations=_encode([GET]))))
        self._send(self._all, self._message)


class LargeReads(ByzantineClient):
    """Reads of as many operations as a request may have, each new: nothing takes turns with them. (P36)"""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ways = (self._much,)
        self._operations = _encode([GET] * MUCH)

    def _much(self) -> None:
        self._send(self._all, Read(self._sign(self._body(flags=READ_ONLY, count=MUCH, operations=self._operations))))


class LargeRequests(ByzantineClient):
    """As many operations outstanding as a client may have, in requests as large as they may be. (P36, P37)"""

    OUTSTANDING: Final = 4

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        cluster = self._cluster
        rules = cluster.spec.client_rules(cluster.n, cluster.f, cluster.options)
        self._much = min(MUCH, rules.request_operations_max)
        self._ways = (self._top_up,)
        self._operations = _encode([PUT] * self._much)
        self._done = 0

    def _top_up(self) -> None:
        while self._timestamp < self._done + min(WINDOW, self.OUTSTANDING * MUCH // self._much):
            body = self._body(count=self._much, operations=self._operations)
            self._send(self._all, Submit(self._sign(msgspec.structs.replace(body, low=self._done))))

    def on_message(self, now: Micros, sender: NodeId, message: Message) -> list[Any]:
        """Executed, by the word of one: it hurts nobody but itself by believing it."""
        if type(message) is Reply and message.answer == Answer.DONE:
            self._done = max(self._done, message.timestamp)
        return []


class TwoOperations(ByzantineClient):
    """One timestamp for two operations, each to replicas of its own. (P32)"""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ways = (self._two_faces,)


class BackupsOnly(ByzantineClient):
    """Proper requests and others that nobody signed, to backups alone, so that they suspect the primary. (P35)"""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ways = (self._to_backups,)

    def _to_backups(self) -> None:
        primary = self._cluster.leader()
        backups = tuple(node for node in self._all if node != primary)
        self._send(backups, Submit(self._sign(self._body())))
        self._send(backups, Submit(self._sign(self._body(), wrong=self._all)))


CLIENT_ATTACKS: Final[Mapping[str, type[ByzantineClient]]] = {
    "random": ByzantineClient,
    "big-mac": BigMac,
    "wrong-for-primary": WrongForThePrimary,
    "framing": WrongForThePrimary,
    "garbage-signatures": GarbageSignatures,
    "retransmission-storm": RetransmissionStorm,
    "read-storm": ReadStorm,
    "large-reads": LargeReads,
    "large-requests": LargeRequests,
    "two-operations": TwoOperations,
    "backups-only": BackupsOnly,
}
"""What `byzantine_as` of a workload may name."""
