"""Replicas of PBFT driven by hand (`tests.plug`): every principal's keys, what each replica executed in all its lives,
and whom it accuses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from pbft import SPEC, PbftCore
from pbft.messages import MESSAGES, Batch, Commit, Prepare, PrePrepare
from replog.apps.counter import Counter
from replog.authenticators import Authenticator
from replog.core import Accuse, Apply, CancelTimer, Confirm, Effect, Rollback, Send, SetTimer, Setup
from replog.keys import Ed25519Signer, Ed25519Verifier, HashSigner, HashVerifier
from replog.replica import Replica
from replog.types import Answer, KeyRequest, Request, Results, SessionKey, Submit, decode_results
from replog.types import Reply as ClientReply
from tests import plug
from tests.plug import DOMAIN, EPOCH_US, MS, SECOND, named

CLIENTS = ("ann", "bob", "eve")
SMALL = {"checkpoint_interval": 4, "log_window": 8, "in_flight_max": 4, "batch_delay_us": 0}
"""Options under which a few requests reach a checkpoint."""
PHASES = (PrePrepare, Prepare, Commit)


def secret(name: object) -> bytes:
    return blake2b(repr(name).encode(), digest_size=32).digest()


class Packet(plug.Packet):
    @property
    def message(self) -> Any:
        return MESSAGES.decode(self.raw)


class Disagreement(AssertionError):
    """Two correct replicas, or one of them in two lives, executed different things at one seq."""


class Cluster(plug.Cluster):
    """`core` of each replica, but for those in `cores`."""

    packet = Packet
    nothing = "null"

    def __init__(
        self,
        n: int = 4,
        options: dict[str, Any] | None = None,
        cores: dict[int, type[PbftCore]] | None = None,
        signatures: str = "hash",
        core: type[PbftCore] | None = None,
    ) -> None:
        super().__init__(SPEC, n, options)
        self._cores = cores or {}
        self._core: Any = core or SPEC.core
        self._lives = [0] * n
        self._make_keys([*range(n), *CLIENTS], signatures)
        if self.options.auth == "macs":
            self.signers |= {client: Authenticator(range(n)) for client in CLIENTS}
        self.domain = DOMAIN
        self.clock_off: dict[int, int] = {}
        self.held: list[plug.Packet] = []
        self.holds: Callable[[plug.Packet], bool] = lambda packet: False
        self.applied: list[dict[int, tuple[Any, ...]]] = [{} for _ in range(n)]
        self.history: list[list[tuple[int, tuple[Any, ...]]]] = [[] for _ in range(n)]
        """All that each one applied, over all its lives."""
        self.replies: dict[tuple[str, int], dict[int, ClientReply]] = {}
        self.accusations: list[tuple[int, Accuse]] = []
        self.requests: dict[bytes, Request] = {}
        """All that clients signed, by digest: what a liar may have heard."""
        self.verified = 0
        self.tentative: dict[int, tuple[Any, ...]] = {}
        self.confirmed = self.undone = 0
        for node in range(n):
            self.start(node)
        if self.options.auth == "macs":
            self.ask_keys()

    # ------------------------------------------------------------------------------------------------------- replicas

    def _make_keys(self, names: list[int | str], signatures: str) -> None:
        if signatures == "hash":
            self.signers: dict[Any, Any] = {name: HashSigner(secret(name)) for name in names}
            self.verifier: Any = HashVerifier({name: secret(name) for name in names})
        else:
            self.signers = {name: Ed25519Signer(secret(name)) for name in names}
            self.verifier = Ed25519Verifier({name: self.signers[name].public for name in names})

    def setup(self, node: int, **common: Any) -> Setup:
        self._lives[node] += 1
        return Setup(
            **common,
            signer=self.signers[node],
            verifier=self,
            rng=random.Random(f"{node}/{self._lives[node]}"),
            wall=lambda: EPOCH_US + self.now + self.clock_off.get(node, 0),
        )

    def make(self, node: int, setup: Setup) -> PbftCore:
        core: PbftCore = self._cores.get(node, self._core)(setup)
        return core

    def core(self, node: int) -> PbftCore:
        core = self.servers[node].core
        assert isinstance(core, PbftCore)
        return core

    @property
    def replicas(self) -> dict[int, Replica]:
        return {node: server.replica for node, server in self.servers.items()}

    def knows(self, signer: int | str) -> bool:
        return bool(self.verifier.knows(signer))

    def verify(self, signer: int | str, statement: bytes, signature: bytes) -> bool:
        """Every replica's verifier: counts."""
        self.verified += 1
        return bool(self.verifier.verify(signer, statement, signature))

    def watch(self, node: int, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, (Confirm, Rollback)) or (isinstance(effect, Apply) and effect.tentative):
                self.doubtful(node, effect)
            elif isinstance(effect, Apply):
                batch = tuple(request.raw for request in effect.requests)
                what = self.applied[node][effect.index] = (batch, effect.time, effect.next_seed)
                self.history[node].append((effect.index, what))

    def doubtful(self, node: int, effect: Apply | Confirm | Rollback) -> None:
        """What is executed tentatively counts when it is confirmed."""
        if isinstance(effect, Apply):
            self.tentative[node] = (tuple(request.raw for request in effect.requests), effect.time, effect.next_seed)
        elif isinstance(effect, Confirm):
            what = self.applied[node][effect.index] = self.tentative[node]
            self.history[node].append((effect.index, what))
            self.confirmed += 1
        else:
            self.undone += 1

    def accused(self, node: int, accusation: Accuse) -> None:
        self.accusations.append((node, accusation))

    # -------------------------------------------------------------------------------------------------------- network

    def send(self, packet: plug.Packet) -> None:
        if self.holds(packet) and not self.blocked(packet):
            self.held.append(packet)
        else:
            super().send(packet)

    def release(self) -> None:
        """Let through what was held, and hold no more."""
        self.holds = lambda packet: False
        self.network += self.held
        self.held = []

    def inject(self, sender: int | str, to: int | Iterable[int], message: Any) -> None:
        """A message as if `sender` had sent it, behind all filters."""
        for node in (to,) if isinstance(to, int) else to:
            self.network.append(Packet(sender, node, MESSAGES.encode(message)))

    # -------------------------------------------------------------------------------------------------------- clients

    def request(self, client: str, timestamp: int, amount: int = 1, low: int = 0, count: int = 1) -> Request:
        operations = [Counter.operation("add", amount)] * count
        request = Request.make(self.signers[client].sign, DOMAIN, client, timestamp, low, operations)
        self.requests[request.digest] = request
        return request

    def submit(
        self, client: str, timestamp: int, to: int | Iterable[int] = 0, amount: int = 1, low: int = 0, count: int = 1
    ) -> Request:
        request = self.request(client, timestamp, amount, low, count)
        self.inject(client, to, Submit(request.raw))
        return request

    def ask_keys(self) -> None:
        """Under MACs: each client learns its present key for each replica."""
        for client in CLIENTS:
            for node in range(self.n):
                self.receive(Packet(client, node, MESSAGES.encode(KeyRequest())))

    def told(self, node: int, client: str, message: SessionKey) -> None:
        self.signers[client].learn(node, message.key)

    def replied(self, node: int, client: str, message: ClientReply) -> None:
        self.replies.setdefault((client, message.timestamp), {})[node] = message

    def results(self, client: str, timestamp: int) -> list[Results]:
        """The results that f+1 replicas agree on: none or one."""
        replies = self.replies.get((client, timestamp), {})
        said = [reply.results for reply in replies.values() if reply.answer == Answer.DONE]
        return [decode_results(raw) for raw in dict.fromkeys(said) if said.count(raw) > self.f]

    def done(self, client: str, timestamp: int) -> bool:
        return bool(self.results(client, timestamp))

    def done_by(self, client: str, timestamp: int, nodes: Iterable[int]) -> bool:
        """Whether each of `nodes` has answered."""
        return set(nodes) <= self.replies.get((client, timestamp), {}).keys()

    # ------------------------------------------------------------------------------------------------------- judgement

    def check_agreement(self, faulty: Iterable[int] = ()) -> int:
        """Correct replicas executed the same at each seq, in all their lives. Gives how many seqs were compared between
        different replicas."""
        seen: dict[int, tuple[int, tuple[Any, ...]]] = {}
        compared = set()
        for node in (node for node in range(self.n) if node not in faulty):
            for seq, what in self.history[node]:
                first, known = seen.setdefault(seq, (node, what))
                if known != what:
                    raise Disagreement(f"node {node} executed at {seq} what node {first} did not")
                if first != node:
                    compared.add((node, seq))
        return len(compared)

    def digests(self) -> set[bytes]:
        return {replica.executor.digest() for replica in self.replicas.values()}

    def executed(self) -> list[int]:
        return [self.core(node).executed for node in sorted(self.servers)]

    def views(self) -> list[int]:
        return [self.core(node).view for node in sorted(self.servers)]

    # ------------------------------------------------------------------------------------------------------- transcript

    def say(self, node: int, effect: Effect) -> None:
        """All but the chatter of Status, which is always the same."""
        timer = isinstance(effect, (SetTimer, CancelTimer)) and effect.name == "status"
        if not timer and not (isinstance(effect, Send) and type(effect.message).__name__ == "Status"):
            super().say(node, effect)

    def brief(self, message: Any) -> str:
        return brief(message)

    def short(self, value: Any) -> str:
        return _short(value)


def brief(message: Any) -> str:
    """A message by its kind and the fields that matter: no times of day, no signatures, of proofs whose they are."""
    shown = {name: getattr(message, name) for name in type(message).__struct_fields__ if name not in UNSAID}
    parts = [f"{name}={SAID.get(name, _short)(value)}" for name, value in shown.items() if (name, value) != FIRST_EPOCH]
    return f"{type(message).__name__} {' '.join(parts)}".replace("'", "")


UNSAID = ("signature", "time", "results")
FIRST_EPOCH = ("epoch", 0)
SAID: dict[str, Callable[[Any], object]] = {
    "requests": lambda raws: [named(Request(raw)) for raw in raws],
    "request": lambda raw: named(Request(raw)),
    "answer": lambda answer: Answer(answer).name,
    "votes": lambda votes: [vote.replica for vote in votes],
    "prepared": lambda proofs: [f"{proof.seq}@{proof.view}" for proof in proofs],
    "voted": lambda places: [f"{place.seq}@{place.view}" for place in places],
    "checkpoints": lambda claims: [f"{claim.seq}:{_short(claim.digest)}" for claim in claims],
    "message": lambda message: f"({brief(message)})",
    "statements": lambda parts: [f"({brief(part)})" for part in parts],
    "view_changes": lambda parts: [part.replica for part in parts],
    "pre_prepares": lambda items: [f"{item.seq}:{_short(item.digest)}" for item in items],
    "checkpoint": lambda proof: f"({brief(proof)})",
    "proof": lambda proof: f"({brief(proof)})",
}
_NULL = Batch(0, []).digest


def _short(value: Any) -> str:
    if value == _NULL:
        return "null"
    if isinstance(value, bytes):
        return value.hex()[:6] if len(value) <= 32 else f"{len(value)} bytes"
    return str(value)


def phase_messages(cluster: Cluster) -> int:
    """Phase messages on the wire: one for each receiver."""
    return sum(len(sent.to) for sent in cluster.sent if type(sent.message) in PHASES)


def replace(message: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(message, **changes)


__all__ = ["EPOCH_US", "MS", "SECOND", "SMALL", "Cluster", "Disagreement", "Packet", "phase_messages", "replace"]
