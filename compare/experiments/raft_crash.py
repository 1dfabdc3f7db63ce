"""One trial: five servers, a leader that crashes, and how long nobody leads. [Raft 9.3; Ongaro14 9.2]

Here: the cluster, the crash, what is measured. Not here: which settings, and what many trials say (`raft_elections`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from raft import SPEC, RaftCore
from raft.election import Role
from raft.messages import AppendEntries, Entries, Entry, HardState
from replog.core import ProtocolSpec
from replog.sim.cluster import SimCluster
from replog.sim.costs import FREE
from replog.sim.disk import DiskModel
from replog.sim.network import Constant, Exponential, NetworkModel, Uniform
from replog.types import NOBODY, Message, Micros, NodeId, Principal

RAFT: Final = cast("ProtocolSpec", SPEC)
SERVERS: Final = 5
GIVEN_UP_US: Micros = 20_000_000
"""Nobody leads for so long: the trial ends, and counts as longer than that."""
PREPARED_US: Micros = 60_000_000
WRITE_US: Micros = 7_000
"""Mean of a write, exponential. A request for votes is written down by who gets it; the last of four answers then
comes after 7 (1 + 1/2 + 1/3 + 1/4) ms and two ways of 0.1 to 0.3 ms, which is a broadcast time of 15 ms. [Raft 5.6]"""


@dataclass(frozen=True)
class Setting:
    """`latency_us`: every message takes exactly that, writes take nothing, and all logs are alike; 0: the disks make a
    broadcast time of 15 ms, and each log is shorter than the one before."""

    low_us: Micros
    high_us: Micros
    pre_vote: bool = False
    latency_us: Micros = 0

    @property
    def name(self) -> str:
        return f"{self.low_us / 1000:g}-{self.high_us / 1000:g} ms"


@dataclass(frozen=True)
class Outcome:
    """`leaderless_us`: from the crash until a server leads; None if none did in time. `terms`: how many elections that
    took; 1 is one without a split vote."""

    leaderless_us: Micros | None
    terms: int


def trial(setting: Setting, seed: int, spec: ProtocolSpec = RAFT) -> Outcome:
    """Raises Stalled if it never came to a leader that could crash."""
    crash = Crash(setting, seed, spec)
    crash.prepare()
    return crash.happen()


@dataclass
class Crash:
    setting: Setting
    seed: int
    spec: ProtocolSpec
    cluster: SimCluster = field(init=False)

    def __post_init__(self) -> None:
        setting = self.setting
        same = setting.latency_us > 0
        self.cluster = SimCluster(
            self.spec,
            SERVERS,
            SERVERS // 2,
            {
                "election_timeout_min_us": setting.low_us,
                "election_timeout_max_us": setting.high_us,
                "heartbeat_us": setting.low_us // 2,
                # PreVote needs the other two: a leader must not stay that hears nobody.
                "pre_vote": setting.pre_vote,
                "check_quorum": setting.pre_vote,
                "leader_stickiness": setting.pre_vote,
                "witness": False,  # the paper's servers asked nobody anything when they started
            },
            seed=self.seed,
            network=NetworkModel(Constant(setting.latency_us) if same else Uniform(100, 300), byte_ns=0.0),
            disk=DiskModel(Constant(0) if same else Exponential(WRITE_US), byte_ns=0.0),
            costs=FREE,
            start=False,
        )
        self._chance = self.cluster.world.stream("experiment")
        self._rounds: set[tuple[Principal, Principal, int, int]] = set()

    # ------------------------------------------------------------------------------------------------ before the crash

    def prepare(self) -> None:
        """A leader whose heartbeats all others have followed. Server 0 starts first, so that there is one even where
        time-outs do not differ."""
        if not self.setting.latency_us:
            self._cut_logs()
        self.cluster.restart(0)
        self.cluster.run_for(self.setting.low_us * 3 // 4)
        self.cluster.restart(*range(1, SERVERS))
        self.cluster.run_until(self._is_steady, PREPARED_US)

    def _cut_logs(self) -> None:
        """Server k begins with 5 - k entries, and no leader gets further than heartbeats: so it stays."""
        encode = self.spec.records.encode
        for node in self.cluster.nodes:
            entries = [Entry(1, 0, [])] * (SERVERS - node.name)
            node.disk.records = [(0, encode(HardState(1, NOBODY))), (len(entries), encode(Entries(1, 0, entries)))]
        self.cluster.network.filter = self._heartbeats_alone

    def _heartbeats_alone(self, sender: Principal, target: Principal, message: Message) -> bool:
        """Of AppendEntries, one without entries for each of the leader's rounds."""
        if type(message) is not AppendEntries:
            return True
        this = sender, target, message.term, message.round
        if message.entries or this in self._rounds:
            return False
        self._rounds.add(this)
        return True

    def _is_steady(self) -> bool:
        cores = [self._core(node) for node in range(SERVERS)]
        leader = cores[0].leader
        if leader == NOBODY or any(
            core.leader != leader or core.current_term != cores[0].current_term for core in cores
        ):
            return False
        return (lead := cores[leader].replication) is not None and lead.round >= 3

    # -------------------------------------------------------------------------------------------------------- the crash

    def happen(self) -> Outcome:
        """At any moment between two heartbeats, right after one was sent to all. [Raft 9.3]"""
        cluster = self.cluster
        leader = self._core(0).leader
        term, beat = self._core(leader).current_term, self._core(leader).replication
        if beat is None:
            raise RuntimeError(f"server {leader} does not lead")
        last = beat.round
        cluster.run_until(lambda: beat.round > last)
        cluster.run_for(self._chance.randrange(self.setting.low_us // 2))
        cluster.crash(leader)
        cluster.network.filter = None
        crashed, left = cluster.now, [node for node in range(SERVERS) if node != leader]
        led = cluster.world.run_until(crashed + GIVEN_UP_US, partial(self._is_led, left))
        terms = max(self._core(node).current_term for node in left) - term
        return Outcome(cluster.now - crashed if led else None, terms)

    def _is_led(self, nodes: list[NodeId]) -> bool:
        return any(self._core(node).role is Role.LEADER for node in nodes)

    def _core(self, node: NodeId) -> RaftCore:
        core = self.cluster.replica(node).core
        if not isinstance(core, RaftCore):
            raise TypeError(f"{type(core).__name__} is no core of Raft")
        return core
