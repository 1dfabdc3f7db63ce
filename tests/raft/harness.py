"""Servers of Raft driven by hand (`tests.plug`): clients whose keys nobody checks, election time-outs that a test
draws, and what the paper's figure 3 promises, checked after every step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from raft import SPEC, RaftCore
from raft.configuration import Configuration
from raft.election import Role
from raft.messages import MESSAGES, RECORDS, Entries, Entry, HardState, LogStart
from replog.apps.counter import Counter
from replog.apps.kv import KeyValue
from replog.core import Apply, Command, Effect, Members, Note, Persist, Received, Setup, Stored
from replog.keys import HashSigner, HashVerifier
from replog.statemachine import StateMachine
from replog.types import Answer, Message, Request, Submit, decode_results
from replog.types import Reply as ClientReply
from tests import plug
from tests.plug import DOMAIN, EPOCH_US, MS, SECOND, Disk, Packet, Sent, named

SIGNER = HashSigner(b"nobody checks")


class Draws:
    """The times that a test wants to be drawn, then the middle of the range for ever."""

    def __init__(self, times: Iterable[int]) -> None:
        self.times = list(times)

    def randint(self, a: int, b: int, /) -> int:
        return self.times.pop(0) if self.times else (a + b) // 2


class Cluster(plug.Cluster):
    """`draws`: election time-outs in ms by server. `logs`: terms of the entries a server begins with. With `seed` disks
    are synced and states saved only when told to, and draws come from chance. Nobody asks what it had promised when it
    starts, unless `options` say so: each server is there at once."""

    nothing = "no-op"

    def __init__(
        self,
        n: int = 3,
        options: dict[str, Any] | None = None,
        core: type[RaftCore] = RaftCore,
        draws: dict[int, list[int]] | None = None,
        logs: dict[int, list[int]] | None = None,
        seed: int | None = None,
        machine: Callable[[], StateMachine] = Counter,
    ) -> None:
        super().__init__(SPEC, n, {"witness": False} | (options or {}))
        self.core_class = core
        self.machine = machine
        self.by_hand = seed is not None
        self.rngs: list[Any] = [
            random.Random(f"{seed}/{node}")
            if seed is not None
            else Draws(ms * MS for ms in (draws or {}).get(node, []))
            for node in range(n)
        ]
        self.replies: dict[tuple[str, int], list[ClientReply]] = {}
        self.leaders: dict[int, int] = {}
        self.applied: dict[int, tuple[Any, ...]] = {}
        self.terms: dict[int, int] = {}
        self.unsynced: set[int] = set()
        self.unwitnessed: dict[int, list[tuple[int, tuple[Any, ...], int | None]]] = {}
        """Applied entries that nobody can have heard of before the server's next sync."""
        for node, terms in (logs or {}).items():
            self.disks[node].records = [(i, RECORDS.encode(record)) for i, record in disk_with(terms)]
        for node in range(n):
            self.start(node)

    # -------------------------------------------------------------------------------------------------------- servers

    @property
    def by_hand(self) -> bool:
        """Whether disks are synced and states saved only when told to."""
        return not self.autosync

    @by_hand.setter
    def by_hand(self, by_hand: bool) -> None:
        self.autosync = self.autosave = not by_hand

    def setup(self, node: int, **common: Any) -> Setup:
        return Setup(
            **common,
            signer=SIGNER,
            verifier=HashVerifier({}),
            rng=self.rngs[node],
            wall=lambda: EPOCH_US + self.now,
        )

    def make(self, node: int, setup: Setup) -> RaftCore:
        self.unsynced.discard(node)
        self.unwitnessed[node] = []
        return self.core_class(setup)

    def core(self, node: int) -> RaftCore:
        core = self.servers[node].core
        assert isinstance(core, RaftCore)
        return core

    # ------------------------------------------------------------------------------------------------ network and time

    def deliver_to(self, *nodes: int) -> None:
        """Deliver what is under way to these servers now, nothing that follows from it."""
        due = [packet for packet in self.network if packet.to in nodes]
        self.network = [packet for packet in self.network if packet.to not in nodes]
        for packet in due:
            self.receive(packet)

    def drop(self, *nodes: int) -> int:
        """Lose what is under way to these servers; how much it was."""
        before = len(self.network)
        self.network = [packet for packet in self.network if packet.to not in nodes]
        return before - len(self.network)

    def fire(self, node: int, name: str = "election") -> None:
        super().fire(node, name)

    def only(self, *nodes: int) -> None:
        """Nothing passes but between these servers."""
        self.blocked = lambda packet: packet.sender not in nodes or packet.to not in nodes

    def elect(self, node: int) -> None:
        """Let `node` time out, after everyone's patience, and all that follows happen."""
        self.now += self.options.election_timeout_max_us
        self.servers[node].timers["election"] = self.now
        self.fire(node)
        self.settle()
        assert self.core(node).role is Role.LEADER, f"node {node} did not win: {self.core(node).role}"

    def elect_silently(self, node: int) -> None:
        """The same, up to the moment in which it leads: what it says then is under way."""
        self.now += self.options.election_timeout_max_us
        self.servers[node].timers["election"] = self.now
        self.fire(node)
        while self.core(node).role is not Role.LEADER:
            self.deliver()

    def inject(self, sender: int | str, to: int, message: Message) -> list[Effect]:
        """A message as if `sender` had sent it, through the codec."""
        return self.step(to, Received(sender, MESSAGES.decode(MESSAGES.encode(message))))

    def command(self, node: int, name: str, **arguments: Any) -> None:
        self.step(node, Command(name, arguments))

    # -------------------------------------------------------------------------------------------------------- clients

    def submit(self, to: int, client: str, timestamp: int, amount: int = 1, low: int = 0) -> list[Effect]:
        return self.inject(client, to, Submit(request(client, timestamp, amount, low).raw))

    def put(self, to: int, timestamp: int, pairs: dict[str, str]) -> None:
        """For a cluster of KeyValue."""
        operations = [KeyValue.operation("put", key, value) for key, value in pairs.items()]
        raw = Request.make(SIGNER.sign, DOMAIN, "ann", timestamp, max(0, timestamp - 32), operations).raw
        self.inject("ann", to, Submit(raw))

    def replied(self, node: int, client: str, message: ClientReply) -> None:
        self.replies.setdefault((client, message.timestamp), []).append(message)

    def done(self, client: str, timestamp: int) -> list[Any]:
        """What the client was told, when it was told that it is done: index and outcomes."""
        replies = self.replies.get((client, timestamp), [])
        return [decode_results(reply.results) for reply in replies if reply.answer == Answer.DONE]

    # ------------------------------------------------------------------------------------------------------- judgement

    def watch(self, node: int, effects: Iterable[Effect]) -> None:
        """Election Safety, State Machine Safety, Leader Completeness. [Raft fig. 3]"""
        log = self.core(node).log
        for effect in effects:
            if isinstance(effect, Persist):
                self.unsynced.add(node)
            elif isinstance(effect, Apply):
                what = effect.time, effect.next_seed, *(request.raw for request in effect.requests)
                term = log.term(effect.index) if log.holds(effect.index) else None
                self.unwitnessed[node].append((effect.index, what, term))
            elif isinstance(effect, Note) and effect.kind == "term" and effect.detail["role"] == "leader":
                self._watch_leader(node, effect.detail["term"])
        if node not in self.unsynced:
            self._witness(node)

    def synced(self, node: int) -> None:
        self.unsynced.discard(node)
        self._witness(node)

    def _witness(self, node: int) -> None:
        """A leader counts itself before its disk has the entry, and applies it: should it crash then, nobody knows of
        it, since all that it says waits for the disk."""
        for index, what, term in self.unwitnessed[node]:
            assert self.applied.setdefault(index, what) == what, (
                f"State Machine Safety: node {node} applied something else at {index}"
            )
            if term is not None:
                self.terms[index] = term
        self.unwitnessed[node].clear()

    def _watch_leader(self, node: int, term: int) -> None:
        assert self.leaders.setdefault(term, node) == node, f"Election Safety: {node} leads term {term} too"
        log = self.core(node).log
        for index, at in self.terms.items():
            if index > log.start_index and at < term:
                assert log.matches(index, at), f"Leader Completeness: {node} leads without the committed entry {index}"

    def check_logs(self) -> int:
        """Log Matching. [Raft 5.3] How many pairs of entries were compared."""
        compared = 0
        logs = [(node, self.core(node).log) for node in sorted(self.servers)]
        for at, (a, one) in enumerate(logs):
            for b, other in logs[at + 1 :]:
                first, last = max(one.start_index, other.start_index) + 1, min(one.last_index, other.last_index)
                same = [index for index in range(first, last + 1) if one.term(index) == other.term(index)]
                for index in range(first, max(same, default=0) + 1):
                    compared += 1
                    assert one.entry(index) == other.entry(index), f"Log Matching: {a} and {b} differ at {index}"
        return compared

    def terms_of(self, node: int) -> list[int]:
        log = self.core(node).log
        return [log.term(index) for index in range(log.start_index + 1, log.last_index + 1)]

    def sent_kinds(self, kind: type[Message]) -> list[Sent]:
        return [sent for sent in self.sent if type(sent.message) is kind]

    # ------------------------------------------------------------------------------------------------------ transcript

    def brief(self, message: Any) -> str:
        """Without digests, which say nothing to a reader and change with the application, and epochs: members say
        enough."""
        if isinstance(message, Members):
            return "linked with " + " and then ".join(f"{_short(list(one.ids))}" for one in message.configurations)
        names = [name for name in type(message).__struct_fields__ if name not in ("digest", "epoch")]
        return " ".join([type(message).__name__, *(f"{name}={_short(getattr(message, name))}" for name in names)])

    def short(self, value: Any) -> str:
        return _short(value)


def request(client: str, timestamp: int, amount: int = 1, low: int = 0) -> Request:
    return Request.make(SIGNER.sign, DOMAIN, client, timestamp, low, [Counter.operation("add", amount)])


def disk_with(terms: list[int], current_term: int | None = None) -> list[tuple[int, Message]]:
    """Records of a server whose log has entries of these terms: each the same wherever index and term are the same."""
    entries = [Entry(term, EPOCH_US + index, []) for index, term in enumerate(terms, 1)]
    hard = HardState(current_term if current_term is not None else max(terms, default=0), -1)
    return [(0, hard), *([(len(terms), Entries(1, 0, entries))] if entries else [])]


def stored_with(terms: list[int], current_term: int | None = None) -> Stored:
    return Stored(tuple(record for _, record in disk_with(terms, current_term)))


def _short(value: Any) -> str:
    if isinstance(value, Entry):
        requests = " ".join(named(Request(raw)) for raw in value.requests)
        if value.configuration is not None:
            requests = _short(value.configuration)
        return f"<term {value.term}: {requests or 'no-op'}>"
    if isinstance(value, Configuration):
        old = f" and {value.old_voters}" if value.old_voters else ""
        return f"C{value.voters}{old}" + (f" learners {value.learners}" if value.learners else "")
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(_short, value)) + "]"
    return str(value)


__all__ = ["EPOCH_US", "MS", "SECOND", "Cluster", "Disk", "LogStart", "Packet", "request", "stored_with"]
