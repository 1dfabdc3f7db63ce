"""Random runs of Raft in which the members change: `python -m compare.membership --protocol raft`.

One to seven servers are members at a time, sixteen ever come to be; several come and go at once, all of them too,
learners come and are promoted, voters are made learners. Meanwhile servers crash, are paused, lose each other, wholly,
in one direction, some from some, old voters from new ones; messages are lost, doubled and out of order, disks lose what
was not synced. It ends before the run does; then the members of the last configuration are to be live, and alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from compare import drawing
from compare.changing import ADMIN_CLIENT, ChangingTrial, Outcome, Wanted, conclude
from compare.scenario import Scenario
from raft import SPEC
from replog.membership import Configuration
from replog.types import Micros, NodeId

IDS: Final = 16
"""Servers that ever come to be."""
SIZE_MAX: Final = 7
DURATION_S, ENDS_S, SETTLE_S = 4.0, 3.4, 30.0
TROUBLE_US: Final = 150_000
"""Between one trouble and the next, on average."""
TOLD: Final = ("fault crash", "fault pause", "fault one-way", "fault partial", "fault split", "fault voters")


class RaftTrial(ChangingTrial):
    def plan(self) -> None:
        super().plan()
        self._troubles = random.Random(f"{self.seed}/troubles")
        self.cluster.after(TROUBLE_US, self._trouble)

    # ----------------------------------------------------------------------------------------------------- the changes

    def draw(self, present: Configuration) -> Wanted | None:
        """Any voters may go and any number come: joint consensus asks for nothing else."""
        chance, room = self.chance, IDS - self.cluster.n
        add = min(room, chance.choice((0, 0, 1, 1, 2, 3)))
        remove = self._some(present.ids, chance.choice((0, 0, 1, 1, 2, 7)))
        stay = [node for node in present.ids if node not in remove]
        learners = [node for node in stay if chance.random() < (0.4 if node in present.learners else 0.1)]
        learning = chance.choice((0, 0, 0, 1)) if add else 0
        voters = len(stay) + add - len(learners) - learning
        same = not add and not remove and tuple(learners) == present.learners
        if same or voters < 1 or len(stay) + add > SIZE_MAX:
            return None
        kind = "promote" if set(present.learners) & set(stay) - set(learners) else "replace" if add and remove else ""
        kind = kind or ("add" if add else "remove" if remove else "demote")
        return Wanted(kind, add, remove, SPEC.faults(voters), learners, learning)

    def _some(self, nodes: tuple[NodeId, ...], count: int) -> list[NodeId]:
        return sorted(self.chance.sample(nodes, min(count, len(nodes))))

    # -------------------------------------------------------------------------------------------------------- troubles

    def _trouble(self) -> None:
        """Whoever is there, members, newcomers and those who went: one more, until it is time to recover."""
        ends = self.began + int(ENDS_S * 1e6) if self.ended else self.cluster.now + 1
        if self.cluster.now >= ends:
            self._recover()
            return
        chance = self._troubles
        if self.ended:
            lasts = min(chance.choice((1_000, 60_000, 400_000, 900_000)), ends - self.cluster.now)
            self._strike_one(chance, lasts)
        self.cluster.after(chance.randrange(1, 2 * TROUBLE_US), self._trouble)

    def _strike_one(self, chance: random.Random, lasts: Micros) -> None:
        cluster, nodes = self.cluster, list(range(self.cluster.n))
        leader, node = cluster.leader(), chance.choice(nodes)
        node = leader if leader is not None and chance.random() < 0.4 else node
        some = chance.sample(nodes, chance.randrange(1, len(nodes) + 1))
        strikes: dict[str, Callable[[], object]] = {
            "crash": lambda: cluster.crash(*chance.choice(([node], [node], some))),
            "pause": lambda: cluster.pause(node),
            "split": lambda: cluster.partition(some, [one for one in nodes if one not in some]),
            "voters": lambda: self._split_by_voters(chance),
            "one-way": lambda: self._cut(node, some, one_way=True),
            "partial": lambda: self._cut(node, some[: len(some) // 2], one_way=False),
        }
        kind = chance.choice(list(strikes))
        strikes[kind]()
        self.strikes[kind] += 1
        cluster.after(lasts, lambda: self._mend(kind))

    def _split_by_voters(self, chance: random.Random) -> None:
        """The old voters, or the new ones, from all others: as somebody has them in its log."""
        core: Any = self.cluster.replica(chance.randrange(self.cluster.n)).core
        known = core.log.configuration
        side = chance.choice((known.voters, known.old_voters or known.voters))
        self.cluster.partition(side, [node for node in range(self.cluster.n) if node not in side])

    def _cut(self, node: NodeId, others: list[NodeId], one_way: bool) -> None:
        for other in others:
            if other != node:
                self.cluster.cut(node, other, one_way)

    def _mend(self, kind: str) -> None:
        if kind == "crash":
            self.cluster.restart(*(node.name for node in self.cluster.nodes if not node.up))
        elif kind == "pause":
            self.cluster.resume(*(node.name for node in self.cluster.nodes if node.paused))
        else:
            self.cluster.heal()

    def _recover(self) -> None:
        for kind in ("crash", "pause", "split"):
            self._mend(kind)

    # ------------------------------------------------------------------------------------------------------ judgement

    def _settled(self) -> bool:
        """What was asked for is decided, too."""
        return self.cluster.client(ADMIN_CLIENT).outstanding == 0 and super()._settled()

    def has_joined(self, node: NodeId) -> bool:
        status = self.cluster.status(node)
        return super().has_joined(node) and status is not None and not status.detail["pending"]


def scenario_of(seed: int) -> Scenario:
    """What happens by the timeline is loss alone: it says when faults have ended."""
    chance = random.Random(f"{seed}/scenario")
    n = chance.choice((1, 2, 3, 3, 3, 4, 5))
    lossy = {"fault": "loss", "start_s": 0.1, "end_s": ENDS_S, "target": "all", "options": {"loss": 0.05}}
    given: dict[str, Any] = {
        "name": "membership",
        "summary": "members of Raft change under faults of all kinds",
        "f": SPEC.faults(n),
        "duration_s": DURATION_S,
        "settle_s": SETTLE_S,
        "engines": ["sim"],
        "protocols": {"raft": {"expect": "all ok", "n": n, "options": _options(chance)}},
        "workload": {"clients": 3, "outstanding": 2, "pause_ms": 25.0, "operations": chance.choice((1, 1, 3))},
        "network": drawing.network(chance),
        "disk": drawing.disk(chance),
        "timeline": [lossy],
    }
    return Scenario.model_validate(given)


def _options(chance: random.Random) -> dict[str, Any]:
    """Short times and small snapshots, so that newcomers are given states, and some are given up."""
    entries = chance.choice((4, 20, 200))
    plain = chance.random() < 0.2
    return {
        "election_timeout_min_us": 60_000,
        "election_timeout_max_us": 120_000,
        "heartbeat_us": 15_000,
        "snapshot_entries": entries,
        "log_tail": chance.choice((0, entries - 1)),
        "uncommitted_max": chance.choice((1, 4, 8)),
        "append_entries_max": chance.choice((1, 4, 256)),
        "snapshot_chunk_bytes": chance.choice((512, 1_048_576)),
        "catch_up_us": chance.choice((300_000, 1_000_000, 20_000_000)),
        "catch_up_rounds": chance.choice((2, 10)),
        "client_retry_us": 150_000,
        "lease_reads": not plain and chance.random() < 0.5,
        "read_from": chance.choice(("leader", "any")),
        "pre_vote": not plain,
        "leader_stickiness": not plain,
        "check_quorum": not plain,
    }


def play(seed: int, spec: Any = SPEC) -> Outcome:
    """One run, judged."""
    replay = f"python -m compare.membership --protocol raft --first {seed} --runs 1"
    return conclude(RaftTrial(scenario_of(seed), spec, seed), replay)
