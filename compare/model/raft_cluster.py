"""All servers of a run, and what figure 3 says across them. [Raft fig. 3]"""

from __future__ import annotations

from typing import Any

from compare.model.raft import Server, Told
from compare.model.raft_log import require
from compare.model.raft_words import LEADER
from compare.model.steps import Life, Step
from raft.configuration import Configuration
from raft.messages import MESSAGES, Entries
from replog.core import Apply, Effect, Persist, Received, Send
from replog.types import Message, NodeId

Fact = tuple[str, int, int]
"""What must be the same wherever it is true: a property of figure 3, an index and a term."""


class Cluster:
    """All servers, and what figure 3 says across them."""

    def __init__(self, n: int, *, leases: bool = False) -> None:
        first = Configuration.of(n)
        self.servers = {node: Server(node, first, leases) for node in range(n)}
        self.leaders: dict[int, NodeId] = {}
        self.steps = 0
        self._first = first
        self._leases = leases
        self._facts: dict[Fact, Any] = {}
        self._unsure: dict[NodeId, list[tuple[int, Fact, Any]]] = {}
        """What each server wrote and applied in this life, behind how many records. It never was if they are lost in a
        crash: nobody has heard of it. [10.2.1]"""
        self._said: dict[tuple[NodeId, NodeId, bytes], int] = {}
        self._told: dict[NodeId, Told] = {}

    def take(self, one: Life | Step) -> None:
        """Raises Deviation for a step that may not be."""
        server = self.servers.setdefault(one.node, Server(one.node, self._first, self._leases))
        if isinstance(one, Life):
            server.begin(one, self._told.setdefault(one.node, Told()))
            self._decide(one.node, len(server.records))
            return
        self.steps += 1
        if isinstance(one.event, Received) and isinstance(one.event.sender, int):
            self._heard(one.event.sender, one.node, one.event.message)
        began = server.hear(one.event, one.effects)
        for effect in one.effects:
            was = server.role
            server.do(effect)
            began = began or was != LEADER == server.role
            self._watch(server, effect)
        server.end(one.effects, began=began)
        if began:
            holder = self.leaders.setdefault(server.current_term, one.node)
            require(holder == one.node, "election safety", f"{holder} and {one.node} lead term {server.current_term}")

    def end(self) -> None:
        """After the last step: everything that is still applied is decided."""
        for node, server in self.servers.items():
            self._decide(node, len(server.records))

    def _decide(self, node: NodeId, kept: int) -> None:
        for records, fact, value in self._unsure.pop(node, ()):
            if records <= kept:
                same = self._facts.setdefault(fact, value) == value
                require(same, fact[0], f"{node} has something else at {fact[1]}")

    def _heard(self, sender: NodeId, to: NodeId, message: Message) -> None:
        """What was listed before a word that was heard must outlive a crash."""
        listed = self._said.get((sender, to, MESSAGES.encode(message)), 0)
        self._told.setdefault(sender, Told()).hear(to, message, listed)

    def _watch(self, server: Server, effect: Effect) -> None:
        if isinstance(effect, Send):
            raw = MESSAGES.encode(effect.message)
            for node in effect.to:
                self._said.setdefault((server.me, node, raw), len(server.records))
        elif isinstance(effect, Apply):
            requests = [request.raw for request in effect.requests]
            self._note(server, ("state machine safety", effect.index, 0), requests)
        elif isinstance(effect, Persist) and isinstance(effect.record, Entries):
            before = effect.record.prev_term
            for index, entry in enumerate(effect.record.entries, effect.record.first):
                self._note(server, ("log matching", index, entry.term), (before, entry))
                before = entry.term

    def _note(self, server: Server, fact: Fact, value: Any) -> None:
        self._unsure.setdefault(server.me, []).append((len(server.records), fact, value))
