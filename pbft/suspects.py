"""Clients whose MACs were right for some replicas and wrong for others, as far as this replica knows. (P31) [Clement09]

It knows of a client by itself, or by a weak quorum that names it: no f liars can make a client suspect. What follows is
mild and ends by itself: the primary proposes such a client's requests once a quorum vouches for them, which costs a
round trip, and backups do not wait for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from replog.types import ClientId, Micros, NodeId

SUSPECTS_MAX: Final = 4_096
"""Beyond it the one that is forgiven first is forgiven now."""


class Suspects:
    """Invariant: at most SUSPECTS_MAX are suspect, and as many named."""

    def __init__(self, weak_quorum: int, for_us: Micros) -> None:
        self._weak_quorum = weak_quorum
        self._for_us = for_us
        self._until: dict[ClientId, Micros] = {}
        self._named: dict[ClientId, set[NodeId]] = {}

    def __contains__(self, client: ClientId) -> bool:
        return client in self._until

    def take_over(self, former: Suspects) -> None:
        """From the last epoch; what its replicas named for is forgotten."""
        self._until = dict(former._until)

    def add(self, now: Micros, client: ClientId) -> bool:
        """Whether this is news."""
        news = client not in self._until
        self._until.pop(client, None)
        self._until[client] = now + self._for_us
        if len(self._until) > SUSPECTS_MAX:
            del self._until[next(iter(self._until))]
        return news

    def name(self, now: Micros, sender: NodeId, clients: Iterable[ClientId]) -> list[ClientId]:
        """Another replica could not vouch for requests of these: those that a weak quorum names, if that is news."""
        found = []
        for client in clients:
            if client not in self._named and len(self._named) >= SUSPECTS_MAX:
                continue
            senders = self._named.setdefault(client, set())
            senders.add(sender)
            if len(senders) >= self._weak_quorum:
                del self._named[client]
                found += [client] if self.add(now, client) else []
        return found

    def forgive(self, now: Micros) -> None:
        while self._until and next(iter(self._until.values())) <= now:
            del self._until[next(iter(self._until))]

    def forget_names(self) -> None:
        """What few replicas said long ago does not add up with what others say now."""
        self._named.clear()
