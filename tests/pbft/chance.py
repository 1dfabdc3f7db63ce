"""Random schedules: loss, duplication, reordering, cuts, crashes that take what is not durable, and a replica that lies
at random.

One seed gives one schedule. At the end everything is healed and clients ask again; then all must be live and agree.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from pbft import PbftCore
from pbft import messages as m
from pbft.messages import MESSAGES
from pbft.notary import Notary
from replog.core import Command
from tests.pbft.harness import SECOND, SMALL, Cluster, Packet


class NotLive(AssertionError):
    """Everything works, and yet requests are not executed."""


class Unsafe(AssertionError):
    """Correct replicas came to different states, or one of them is accused."""


class Liar:
    """Says what its correct core says, changed at random and signed again with its own key."""

    def __init__(self, cluster: Cluster, node: int, rng: random.Random, rate: float = 0.3) -> None:
        self.cluster, self.node, self.rng, self.rate = cluster, node, rng, rate
        self.notary: Notary = cluster.core(node).notary
        self.old: list[Any] = []
        self.acts = 0

    def speak(self, packet: Packet) -> list[Packet]:
        """What leaves in place of `packet`."""
        if self.rng.random() > self.rate:
            return [packet]
        self.acts += 1
        message = packet.message
        self.old.append(message)
        act = self.rng.randrange(5)
        if act == 0:
            return []
        if act == 1:
            return [packet, packet]
        if act == 2:
            return [self._packet(packet.to, self.rng.choice(self.old)), packet]
        lie = self.sign(self.change(message))
        return [self._packet(packet.to, lie)] if act == 3 else [self._packet(packet.to, lie), packet]

    def _packet(self, to: int, message: Any) -> Packet:
        return Packet(self.node, to, MESSAGES.encode(message))

    def change(self, message: Any) -> Any:
        """One field of another value of its kind; what would not be a message any more stays as it was."""
        name = self.rng.choice(type(message).__struct_fields__)
        changed = msgspec.structs.replace(message, **{name: self.other(getattr(message, name), name)})
        try:
            return MESSAGES.decode(MESSAGES.encode(changed))
        except ValueError:
            return message

    def other(self, value: Any, name: str) -> Any:
        rng = self.rng
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return max(0, rng.choice([value + 1, value - 1, value + 4, 0, 2**61, value + 8, rng.randrange(12)]))
        if isinstance(value, bytes):
            known = [request.digest for request in self.cluster.requests.values()]
            return rng.choice([bytes(32), m.NULL.digest, bytes(len(value)), *known, value[::-1]])
        if isinstance(value, list):
            kept = [item for item in value if rng.random() < 0.7]
            if name == "requests":
                kept += [rng.choice(list(self.cluster.requests.values())).raw] if self.cluster.requests else []
            rng.shuffle(kept)
            return kept + kept[: rng.randrange(2)]
        if isinstance(value, msgspec.Struct):
            return self.change(value) if isinstance(value, MESSAGES.kinds) else value
        return value

    def sign(self, message: Any) -> Any:
        """Its own signature where one belongs; as itself, whatever the message says."""
        notary, me = self.notary, self.node
        put = msgspec.structs.replace
        if isinstance(message, m.PrePrepare):
            try:
                digest = m.Batch.read(message.time, message.requests).digest
            except ValueError:
                digest = message.digest
            signature = notary.sign("pre-prepare", (message.view, message.seq, digest))
            return put(message, digest=digest, signature=signature)
        if isinstance(message, (m.Prepare, m.Commit)):
            kind = "prepare" if isinstance(message, m.Prepare) else "commit"
            return put(
                message, replica=me, signature=notary.sign(kind, (message.view, message.seq, message.digest, me))
            )
        if isinstance(message, m.Checkpoint):
            return put(message, replica=me, signature=notary.sign("checkpoint", (message.seq, message.digest, me)))
        if isinstance(message, m.ViewChange):
            message = put(message, replica=me)
            return put(message, signature=notary.sign_view_change(message))
        if isinstance(message, m.MacViewChange):
            return put(message, replica=me)
        if isinstance(message, m.NewView):
            return put(message, signature=notary.sign_new_view(message))
        return message


class Chance:
    """A cluster under one random schedule."""

    def __init__(
        self,
        seed: int,
        n: int = 4,
        liars: int = 0,
        crashes: bool = True,
        cores: dict[int, type[PbftCore]] | None = None,
        core: type[PbftCore] | None = None,
        options: dict[str, Any] | None = None,
        refreshes: bool = False,
        signatures: str = "hash",
    ) -> None:
        self.rng = random.Random(seed)
        self.cluster = Cluster(n, options if options is not None else SMALL, cores, signatures, core)
        nodes = list(range(n))
        self.rng.shuffle(nodes)
        self.liars = {node: Liar(self.cluster, node, self.rng) for node in nodes[:liars]}
        self.crashes = crashes
        self.refreshes = refreshes
        self.lost = 0
        """Crashes that took something with them."""
        self.correct = [node for node in range(n) if node not in self.liars]
        self.timestamp = dict.fromkeys(("ann", "bob"), 0)
        self.asked: list[tuple[str, int]] = []
        self._plain_send = self.cluster.send
        self.cluster.send = self._send  # type: ignore[method-assign]

    def _send(self, packet: Packet) -> None:
        liar = self.liars.get(packet.sender) if isinstance(packet.sender, int) else None
        for said in liar.speak(packet) if liar is not None else [packet]:
            self._plain_send(said)

    # ----------------------------------------------------------------------------------------------------- the bad time

    def trouble(self, steps: int) -> None:
        acts: list[tuple[Callable[[], None], float]] = [
            (self.deliver, 60),
            (self.drop, 3),
            (self.duplicate, 3),
            (self.submit, 4),
            (self.tick, 3),
            (self.cut, 0.5),
            (self.cluster.heal, 0.7),
            (self.restart, 0.5 if self.crashes else 0),
            (self.hold_disks, 0.3 if self.crashes else 0),
            (self.sync, 3 if self.crashes else 0),
            (self.refresh, 0.5 if self.refreshes else 0),
        ]
        weights = [weight for _, weight in acts]
        for _ in range(steps):
            self.rng.choices(acts, weights)[0][0]()
        self.disks_are(sync=True, save=True)
        for node in range(self.cluster.n):
            if node not in self.cluster.servers:
                self.cluster.start(node)

    def _pick(self) -> Packet | None:
        network = self.cluster.network
        if not network:
            return None
        return network.pop(self.rng.randrange(min(len(network), 12)))

    def deliver(self) -> None:
        packet = self._pick()
        if packet is not None:
            self.cluster.receive(packet)

    def drop(self) -> None:
        self._pick()

    def duplicate(self) -> None:
        if self.cluster.network:
            self.cluster.network.append(self.rng.choice(self.cluster.network))

    def submit(self) -> None:
        if len(self.asked) >= 60:
            return
        client = self.rng.choice(("ann", "bob"))
        self.timestamp[client] += 1
        to = self.rng.choice([range(self.cluster.n), [self.rng.randrange(self.cluster.n)]])
        self.cluster.submit(client, self.timestamp[client], to)
        self.asked.append((client, self.timestamp[client]))

    def tick(self) -> None:
        """The next timer of somebody, or of anybody: clocks run unevenly."""
        due = self.cluster.due()
        if due:
            _, node, name = min(due) if self.rng.random() < 0.8 else self.rng.choice(due)
            self.cluster.fire(node, name)

    def cut(self) -> None:
        nodes = self.rng.sample(range(self.cluster.n), self.rng.randint(1, self.cluster.n // 2))
        self.cluster.isolate(*nodes)

    def restart(self) -> None:
        gone = [node for node in range(self.cluster.n) if node not in self.cluster.servers]
        if gone and self.rng.random() < 0.7:
            self.cluster.start(gone[0])
        else:
            node = self.rng.choice(self.correct)
            if node in self.cluster.servers:
                server = self.cluster.servers[node]
                self.lost += bool(server.outbox.write() or server.saves)
                self.cluster.crash(node)

    def hold_disks(self) -> None:
        """Records and states become durable at once, or some time later: until then a crash takes them."""
        self.disks_are(sync=self.rng.random() < 0.5, save=self.rng.random() < 0.5)

    def disks_are(self, sync: bool, save: bool) -> None:
        self.cluster.autosync, self.cluster.autosave = sync, save
        for node in self.cluster.servers:
            if sync:
                self.cluster.sync(node)
            if save:
                self.cluster.save(node)

    def sync(self) -> None:
        """One disk has written what it was given; now and then also the states."""
        if not self.cluster.servers:
            return
        node = self.rng.choice(sorted(self.cluster.servers))
        self.cluster.sync(node)
        if self.rng.random() < 0.2:
            self.cluster.save(node)

    def refresh(self) -> None:
        node = self.rng.choice(self.correct)
        if node in self.cluster.servers:
            self.cluster.step(node, Command("refresh", {}))

    @property
    def refreshed(self) -> int:
        """Refreshes that came to their end."""
        return sum(note.kind == "refreshed" for _, note in self.cluster.notes)

    # ---------------------------------------------------------------------------------------------------- the good time

    def calm(self, seconds: int = 60) -> None:
        """Everything works, clients ask again until they have their answers. Raises NotLive if not in time."""
        self.cluster.heal()
        for _ in range(seconds * 4):
            if self.finished():
                return
            for client, timestamp in self.asked:
                if not self.cluster.done(client, timestamp):
                    self.cluster.submit(client, timestamp, range(self.cluster.n))
            self.cluster.run(SECOND // 4)
        raise NotLive(f"executed {self.cluster.executed()}, views {self.cluster.views()}")

    def finished(self) -> bool:
        executed = [self.cluster.core(node).executed for node in self.correct]
        done = all(self.cluster.done(client, timestamp) for client, timestamp in self.asked)
        return done and len(set(executed)) == 1

    def judge(self) -> int:
        """Correct replicas executed the same and have one state after one seq. Gives how many seqs were compared."""
        compared = self.cluster.check_agreement(self.liars)
        states: dict[int, set[bytes]] = {}
        for node in self.correct:
            if node in self.cluster.servers:
                executor = self.cluster.servers[node].replica.executor
                states.setdefault(executor.index, set()).add(executor.digest())
        if any(len(digests) > 1 for digests in states.values()):
            raise Unsafe("correct replicas have different states after one seq")
        for accuser, accusation in self.cluster.accusations:
            if accuser not in self.liars and accusation.culprit not in self.liars:
                raise Unsafe(f"a correct replica is accused: {accusation}")
        return compared
