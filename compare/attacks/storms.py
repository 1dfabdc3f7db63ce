"""Clients that attack the service's time, not its safety: each does one thing, again and again. Simulation only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from compare.attacks.byzantine_client import ByzantineClient
from replog.types import Submit


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


CLIENT_ATTACKS: Final[Mapping[str, type[ByzantineClient]]] = {
    "random": ByzantineClient,
    "big-mac": BigMac,
    "wrong-for-primary": WrongForThePrimary,
    "framing": WrongForThePrimary,
    "garbage-signatures": GarbageSignatures,
    "retransmission-storm": RetransmissionStorm,
}
"""What `byzantine_as` of a workload may name."""
