"""Random schedules: loss, doubling, reordering, cuts, crashes that lose what was not synced, slow disks and saves.

One seed gives one schedule, with a mixture of acts of its own. The cluster itself checks figure 3 after every step;
at the end all is healed, clients ask again, and everything asked must be done once, the same everywhere.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from raft import RaftCore
from raft.election import Role
from replog.apps.counter import Counter
from replog.statemachine import decode_outcome
from replog.types import READ_ONLY, Answer, Read, Request, decode_results
from tests.plug import DOMAIN
from tests.raft.harness import MS, SECOND, SIGNER, Cluster
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
    def __init__(self, seed: int, n: int, core: type[RaftCore] = RaftCore, options: dict[str, Any] | None = None):
        self.chance = random.Random(seed)
        thesis = PLAIN if self.chance.random() < 0.5 else {"lease_reads": self.chance.random() < 0.5}
        self.cluster = Cluster(n, {**SMALL, **thesis, **(options or {})}, core, seed=seed)
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
        }

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
        assert not [note for _, note in cluster.notes if note.kind == "lost-entries"], "no disk has lost anything"
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

    def ask_all(self) -> None:
        self.ask()
        for client, timestamp in sorted(self.asked.items()):
            for node in sorted(self.cluster.servers):
                self.send(node, client, timestamp)

    def cut_leader(self) -> None:
        leaders = [node for node in sorted(self.cluster.servers) if self.cluster.core(node).role is Role.LEADER]
        if leaders:
            self.cluster.isolate(self.chance.choice(leaders))

    def restart(self) -> None:
        self.crashes += 1
        self.cluster.restart(self.node())
