"""Random schedules: loss, doubling, reordering, cuts, crashes that lose what was not synced, slow disks and saves.

One seed gives one schedule, with a mixture of acts of its own. The cluster itself checks figure 3 after every step;
at the end all is healed, clients ask again, and everything asked must be done once, the same everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from raft import RaftCore
from raft.configuration import Configuration
from raft.election import Role
from replog.apps.counter import Counter
from replog.statemachine import decode_outcome
from replog.types import READ_ONLY, Answer, Read, Request, decode_results
from tests.plug import DOMAIN, Disk
from tests.raft.changing import Changing
from tests.raft.harness import MS, SECOND, SIGNER, Cluster, Packet
from tests.raft.test_figure2 import PLAIN

SMALL = {
    "snapshot_entries": 6,
    "log_tail": 2,
    "window": 2,
    "uncommitted_max": 3,
    "batch_requests_max": 2,
    "append_entries_max": 2,
    "apply_entries_max": 3,
    "snapshot_chunk_bytes": 64,
    "snapshot_window": 2,
}
"""Options under which a few requests reach every bound."""
ROOM = 16
"""Servers that ever come to be."""


@dataclass
class Outcome:
    cluster: Cluster
    asked: int
    leaders: int
    crashes: int
    installs: int
    compared: int
    read: int


class Schedule:
    damages = False
    """Whether disks may lose what they had."""

    def __init__(self, seed: int, n: int, core: type[RaftCore] = RaftCore, options: dict[str, Any] | None = None):
        self.chance = random.Random(seed)
        thesis = PLAIN if self.chance.random() < 0.5 else {"lease_reads": self.chance.random() < 0.5}
        self.cluster = self.built(n, {**SMALL, **thesis, **(options or {})}, core, seed)
        self.asked: dict[str, int] = {}
        self.low: dict[str, int] = {}
        self.lows: dict[tuple[str, int], int] = {}
        self.floors: list[int] = []
        """For each read what it may not be below: the most that anybody had been told when it was asked."""
        self.crashes = 0
        self.compared = 0
        self.early = self.chance.choice((0.05, 0.2, 0.5))
        usual = [
            (self.deliver, 160), (self.pass_time, 12), (self.sync, 80), (self.ask, 16), (self.double, 4),
            (self.lose, 4), (self.save, 6), (self.crash, 2), (self.start, 4), (self.cut, 2), (self.heal, 3),
            (self.take_snapshot, 1), (self.read, 10), (self.move, 1),
        ]  # fmt: skip
        steady = (self.deliver, self.sync)
        self.acts = [
            (act, weight if act in steady else weight * self.chance.choice((0.2, 1, 3))) for act, weight in usual
        ]

    def built(self, n: int, options: dict[str, Any], core: type[RaftCore], seed: int) -> Cluster:
        return Cluster(n, options, core, seed=seed)

    def run(self, steps: int) -> Outcome:
        acts, weights = zip(*self.acts, strict=True)
        for count in range(steps):
            self.chance.choices(acts, weights)[0]()
            if count % 50 == 0:
                self.compared += self.cluster.check_logs()
        self.end()
        installs = sum(note.kind == "state-installed" for _, note in self.cluster.notes)
        asked = sum(self.asked.values())
        leaders, read = len(self.cluster.leaders), self.check_reads()
        return Outcome(self.cluster, asked, leaders, self.crashes, installs, self.compared, read)

    # ------------------------------------------------------------------------------------------------------------ acts

    def deliver(self) -> None:
        """Mostly in order, now and then from the middle."""
        network = self.cluster.network
        if network:
            late = self.chance.random() < 0.2
            self.cluster.deliver(self.chance.randrange(len(network)) if late else 0)

    def double(self) -> None:
        if self.cluster.network:
            self.cluster.deliver(self.chance.randrange(len(self.cluster.network)), keep=True)

    def lose(self) -> None:
        if self.cluster.network:
            self.cluster.network.pop(self.chance.randrange(len(self.cluster.network)))

    def pass_time(self) -> None:
        cluster = self.cluster
        due = cluster.due()
        if due:
            _, node, name = min(due) if self.chance.random() > self.early else self.chance.choice(sorted(due))
            cluster.fire(node, name)

    def sync(self) -> None:
        self.cluster.sync(self.node())

    def save(self) -> None:
        self.cluster.save(self.node())

    def ask(self) -> None:
        client = self.chance.choice(("ann", "bob"))
        timestamp = self.asked.get(client, 0) + 1
        if self.chance.random() < 0.3 and timestamp > 1:
            timestamp -= 1
        low = self.low.get(client, 0)
        while self.cluster.done(client, low + 1):
            low += 1
        self.low[client] = low
        if timestamp - low <= 20:
            self.asked[client] = max(timestamp, self.asked.get(client, 0))
            self.lows.setdefault((client, timestamp), min(low, timestamp - 1))
            self.send(self.node(), client, timestamp)

    def send(self, node: int, client: str, timestamp: int) -> None:
        """The same bytes each time."""
        self.cluster.submit(node, client, timestamp, low=self.lows[client, timestamp])

    def read(self) -> None:
        """Anybody may be asked, leader or not, deposed or not."""
        self.floors.append(max((value for values in self.told().values() for value in values), default=0))
        timestamp = len(self.floors)
        raw = Request.make(SIGNER.sign, DOMAIN, "eve", timestamp, 0, [Counter.operation("value")], READ_ONLY).raw
        self.cluster.inject("eve", self.node(), Read(raw))

    def told(self) -> dict[tuple[str, int], list[int]]:
        """The counter, as each answer says it was."""
        results = (Answer.DONE, Answer.READ)
        return {
            key: [decode_outcome(decode_results(r.results).outcomes[0]) for r in replies if r.answer in results]
            for key, replies in self.cluster.replies.items()
            if key[0] != "boss"
        }

    def ask_all(self) -> None:
        self.ask()
        for client, timestamp in sorted(self.asked.items()):
            for node in sorted(self.cluster.servers):
                self.send(node, client, timestamp)

    def move(self) -> None:
        self.cluster.command(self.node(), "move-leader", to=self.node())

    def check_reads(self) -> int:
        """Linearizable: the counter only grows, and no read is below what was known when it was asked. How many."""
        told = self.told()
        read = [(at, value) for at in range(len(self.floors)) for value in told.get(("eve", at + 1), [])]
        for at, value in read:
            assert value >= self.floors[at], f"stale read {at}: {value}"
        return len(read)

    def take_snapshot(self) -> None:
        self.cluster.command(self.node(), "snapshot")

    def crash(self) -> None:
        if len(self.cluster.servers) > 1:
            self.crashes += 1
            self.cluster.crash(self.node())

    def restart(self) -> None:
        self.crashes += 1
        self.cluster.restart(self.node())

    def start(self) -> None:
        down = [node for node in range(self.cluster.n) if node not in self.cluster.servers]
        if down:
            self.cluster.start(self.chance.choice(down))

    def cut(self) -> None:
        side = {node for node in range(self.cluster.n) if self.chance.random() < 0.5}
        one_way = self.chance.random() < 0.3
        self.cluster.blocked = lambda packet: (
            (packet[0] in side and packet[1] not in side)
            or (not one_way and packet[1] in side and packet[0] not in side)
        )

    def heal(self) -> None:
        self.cluster.heal()

    def node(self) -> int:
        return self.chance.choice(sorted(self.cluster.servers))

    # ------------------------------------------------------------------------------------------------------------- end

    def end(self) -> None:
        """Everything is up, connected and on disk: everything asked is answered, and all are the same."""
        cluster = self.cluster
        cluster.heal()
        cluster.by_hand = False
        for node in range(cluster.n):
            if node not in cluster.servers:
                cluster.start(node)
            cluster.sync(node)
            cluster.save(node)
        for _ in range(60):
            cluster.run(SECOND // 2)
            open_ = self.unanswered()
            if not open_ and self.settled():
                break
            for node in [node for node in range(cluster.n) if cluster.core(node).role is Role.LEADER]:
                for client, timestamp in open_:
                    self.send(node, client, timestamp)
        assert not self.unanswered(), f"never answered: {self.unanswered()}"
        assert self.settled(), "servers are not the same in the end"
        found = [note for _, note in cluster.notes if note.kind in ("lost-entries", "old-disk")]
        assert not found or self.damages, "no disk has lost anything"
        self.compared += cluster.check_logs()
        for client, last in self.asked.items():
            for timestamp in range(1, last + 1):
                answers = cluster.done(client, timestamp)
                assert all(answer == answers[0] for answer in answers), f"two outcomes of {client}#{timestamp}"

    def unanswered(self) -> list[tuple[str, int]]:
        cluster = self.cluster
        asked = [(client, ts) for client, last in sorted(self.asked.items()) for ts in range(1, last + 1)]
        left = [key for key in asked if not cluster.done(*key)]
        refused = [key for key in left if any(reply.answer == Answer.REFUSED for reply in cluster.replies.get(key, []))]
        assert not refused, f"refused, and never executed: {refused}"
        return left

    def settled(self) -> bool:
        servers = self.cluster.servers.values()
        states = {(server.core.last_applied, server.replica.executor.digest()) for server in servers}
        return len(states) == 1 and len({server.core.current_term for server in servers}) == 1


def run(seed: int, n: int = 3, steps: int = 1_500, core: type[RaftCore] = RaftCore, **options: Any) -> Outcome:
    return Schedule(seed, n, core, options).run(steps)


class Changes(Schedule):
    """The members change all the while, by one or by several; servers that went stay up for a time, and ask."""

    cluster: Changing

    def __init__(self, seed: int, n: int, core: type[RaftCore] = RaftCore, options: dict[str, Any] | None = None):
        patient = {"catch_up_us": (2, 20)[seed % 2] * SECOND, **(options or {})}
        super().__init__(seed, n, core, patient)
        self.acts.append((self.change, 6))
        self.changes: list[int] = []

    def built(self, n: int, options: dict[str, Any], core: type[RaftCore], seed: int) -> Cluster:
        return Changing(n, options, core, seed=seed)

    def change(self) -> None:
        """As whoever is asked knows the members."""
        cluster, chance = self.cluster, self.chance
        leaders = [node for node in sorted(cluster.servers) if cluster.core(node).role is Role.LEADER]
        node = chance.choice(leaders or sorted(cluster.servers))
        present = cluster.epoch(node)
        coming = list(range(present.next_id, min(present.next_id + chance.choice((0, 0, 1, 1, 2, 3)), ROOM)))
        going = chance.sample(present.ids, min(len(present.ids), chance.choice((0, 0, 1, 1, 2, 3))))
        after = sorted({*present.ids, *coming} - {*going})
        if len(after) < 2 or len(after) > 7 or (not coming and not going and chance.random() < 0.5):
            return
        learners = [one for one in after if chance.random() < (0.5 if one in present.learners else 0.1)]
        for new in range(cluster.n, max(coming, default=-1) + 1):
            cluster.add(new)
        self.changes.append(cluster.change(node, coming, going, learners[: len(after) - 1]))

    def made(self) -> int:
        return max(self.cluster.epoch(node).epoch for node in self.cluster.servers)

    def settled(self) -> bool:
        """Of those who are members in the end; who left may have got no further."""
        cluster = self.cluster
        latest = max((cluster.epoch(node) for node in cluster.servers), key=lambda one: one.epoch)
        servers = [cluster.servers[node] for node in latest.ids]
        states = {(server.core.last_applied, server.replica.executor.digest()) for server in servers}
        settled = {str(cluster.configuration(node)) for node in latest.ids}
        wanted = Configuration(list(latest.voters), [], list(latest.learners))
        return len(states) == 1 and settled == {str(wanted)}


class Reading(Schedule):
    """Leaders are cut off for about as long as an election takes, while everybody is asked to write and to read: one
    that is deposed, or soon will be, has much time to say what is old."""

    def run(self, steps: int) -> Outcome:
        self.cluster.by_hand = False
        for _ in range(steps):
            self.chance.choice((self.cut_leader, self.cut_leader, self.cut, self.heal, self.restart, self.move))()
            for _ in range(self.chance.randrange(10)):
                self.cluster.run(self.chance.randrange(150) * MS)
                self.ask_all()
                for _ in range(3):
                    self.read()
                    self.deliver()
        self.end()
        asked, leaders = sum(self.asked.values()), len(self.cluster.leaders)
        return Outcome(self.cluster, asked, leaders, self.crashes, 0, self.compared, self.check_reads())

    def cut_leader(self) -> None:
        leaders = [node for node in sorted(self.cluster.servers) if self.cluster.core(node).role is Role.LEADER]
        if leaders:
            self.cluster.isolate(self.chance.choice(leaders))


class Slow(Reading):
    """Some words between servers take up to 0.9 s, longer than elections do: what was said in one term is heard in the
    next, by a server that leads again."""

    def __init__(self, seed: int, n: int, core: type[RaftCore] = RaftCore, options: dict[str, Any] | None = None):
        super().__init__(seed, n, core, options)
        self.late: list[tuple[int, Packet]] = []
        self.share = self.chance.choice((0.05, 0.2, 0.4))
        self._send, self._run = self.cluster.send, self.cluster.run
        self.cluster.send, self.cluster.run = self.hold, self.pass_slowly  # type: ignore[method-assign]

    def hold(self, packet: Packet) -> None:
        slow = isinstance(packet.sender, int) and self.chance.random() < self.share
        if slow and not self.cluster.blocked(packet):
            self.late.append((self.cluster.now + self.chance.randrange(900) * MS, packet))
        elif not slow:
            self._send(packet)

    def pass_slowly(self, us: int, until: Callable[[], bool] = lambda: False) -> bool:
        end = self.cluster.now + us
        while self.cluster.now < end and not until():
            due = [packet for at, packet in self.late if at <= self.cluster.now]
            self.late = [(at, packet) for at, packet in self.late if at > self.cluster.now]
            self.cluster.network += due
            self._run(min(10 * MS, end - self.cluster.now), until)
        return until()

    def end(self) -> None:
        self.share = 0
        super().end()


class Splits(Changes):
    """In the midst of a change the old voters, or the new ones, are cut off from all others, while everybody is asked
    to write: were a majority of one of them enough, there would be two leaders, or one without what was written."""

    def run(self, steps: int) -> Outcome:
        self.cluster.by_hand = False
        for _ in range(steps):
            self.heal()
            self.cluster.run(self.chance.choice((200, 2_000)) * MS)
            self.change_most()
            for _ in range(self.chance.randrange(60)):
                self.deliver()
            self.chance.choice((self.split, self.split, self.cut))()
            for _ in range(self.chance.randrange(4)):
                self.cluster.run(self.chance.randrange(1_500) * MS)
                self.ask_all()
                self.chance.choice((self.restart, self.split, self.heal, lambda: None, lambda: None))()
        self.end()
        asked, leaders = sum(self.asked.values()), len(self.cluster.leaders)
        return Outcome(self.cluster, asked, leaders, self.crashes, 0, self.compared, 0)

    def change_most(self) -> None:
        """Often all at once."""
        leaders = [node for node in sorted(self.cluster.servers) if self.cluster.core(node).role is Role.LEADER]
        present = self.cluster.epoch(leaders[0]) if leaders else None
        if present is None or present.next_id + 3 > ROOM or self.chance.random() < 0.4:
            self.change()
            return
        coming = [present.next_id + step for step in range(3)]
        going = [node for node in present.ids if self.chance.random() < 0.8]
        self.cluster.add(*range(self.cluster.n, coming[-1] + 1))
        self.changes.append(self.cluster.change(leaders[0], coming, going))

    def split(self) -> None:
        """By a configuration that somebody has in its log; now and then one server is on the other side."""
        configurations = [self.cluster.configuration(node) for node in sorted(self.cluster.servers)]
        chosen = self.chance.choice(configurations)
        side = {*self.chance.choice((chosen.voters, chosen.old_voters or chosen.voters))}
        if self.chance.random() < 0.3:
            side ^= {self.node()}
        self.cluster.blocked = lambda packet: (packet[0] in side) != (packet[1] in side) and isinstance(packet[0], int)


class Restoring(Schedule):
    """A server comes back with an old copy of its disk, or none, while two that lack what came since, and were cut off,
    are there again, and the leader is gone. The copy is from before the last that was told of it."""

    damages = True

    def __init__(self, seed: int, core: type[RaftCore] = RaftCore):
        super().__init__(seed, 5, core, {"witness": True, "witness_us": 100_000})
        self.refused = False

    def run(self, steps: int) -> Outcome:
        cluster, chance = self.cluster, self.chance
        cluster.by_hand = False
        cluster.run(3 * SECOND)
        self.commit()
        leader = next(node for node in range(5) if cluster.core(node).role is Role.LEADER)
        victim, other, *_ = chance.sample([node for node in range(5) if node != leader], 4)
        archive = deepcopy(cluster.disks[victim]) if chance.random() < 0.8 else Disk()
        cluster.only(leader, victim, other)
        self.commit()
        cluster.crash(leader)
        cluster.crash(victim)
        cluster.disks[victim] = archive
        cluster.heal()
        cluster.start(victim)
        self.wander(steps)
        self.refused = cluster.core(victim).witness.lost is not None
        self.end()
        return Outcome(cluster, sum(self.asked.values()), len(cluster.leaders), 0, 0, self.compared, 0)

    def commit(self) -> None:
        before = len(self.cluster.terms)
        for _ in range(20):
            self.ask_for_all()
            self.cluster.run(SECOND // 2)
            if len(self.cluster.terms) > before:
                return
        raise AssertionError("nothing is committed")

    def ask_for_all(self) -> None:
        self.ask()
        for client, timestamp in self.unanswered():
            for node in sorted(self.cluster.servers):
                self.send(node, client, timestamp)

    def wander(self, steps: int) -> None:
        """Elections, late messages included, and clients that ask: whoever leads commits."""
        for _ in range(steps):
            for _ in range(self.chance.randrange(30)):
                self.deliver()
            self.cluster.run(self.chance.randrange(300) * MS)
            self.ask_for_all()
