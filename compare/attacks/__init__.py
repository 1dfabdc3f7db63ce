"""The attacks, by name: each one class a protocol, wrapped around a replica from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from compare.attacks.base import Attack, Byzantine, Power
from compare.attacks.censor import Censor
from compare.attacks.choosy_primary import BurstingPrimary, WatchedOnly
from compare.attacks.equivocating_pbft import EquivocatingPrimary
from compare.attacks.equivocating_raft import EquivocatingRaftLeader
from compare.attacks.flood import Flooding
from compare.attacks.framing_primary import FramingPrimary
from compare.attacks.junk_votes import JunkVotes
from compare.attacks.random_pbft import RandomPbftLiar
from compare.attacks.slow_primary import SlowPrimary
from compare.faults import Engine
from compare.options import Bursts, Censorship, Equivocation, Flood, Junk, Options, Slowness, Watching
from replog.replica import Replica
from replog.types import NodeId

MakeAttack = Callable[[NodeId, Replica, Power], Attack]


@dataclass(frozen=True)
class AttackKind:
    """`makes`: the class for each protocol that the attack is written for."""

    name: str
    summary: str
    makes: Mapping[str, MakeAttack]
    options: type[Options] = Options
    engines: tuple[Engine, ...] = ("sim", "live")

    @property
    def protocols(self) -> tuple[str, ...]:
        return tuple(self.makes)


ATTACKS: Final[Mapping[str, AttackKind]] = {
    kind.name: kind
    for kind in (
        AttackKind(
            "equivocating-leader",
            "different signed requests at the same place of the log for different replicas, votes and answers to match",
            {"pbft": EquivocatingPrimary, "raft": EquivocatingRaftLeader},
            Equivocation,
        ),
        AttackKind(
            "slow-primary",
            "a primary whose proposals leave late, each by a delay below the time-out after which it would be deposed",
            {"pbft": SlowPrimary},
            Slowness,
        ),
        AttackKind(
            "watched-only",
            "a primary that serves only what backups have sent on or clients have sent again",
            {"pbft": WatchedOnly},
            Watching,
        ),
        AttackKind(
            "bursts",
            "a primary that serves all, but in bursts, ever farther apart",
            {"pbft": BurstingPrimary},
            Bursts,
        ),
        AttackKind(
            "framing",
            "under MACs: a primary that makes correct clients suspect by what it proposes, and serves none later",
            {"pbft": FramingPrimary},
        ),
        AttackKind(
            "flood",
            "a replica sends all others as fast as it can what has to be verified to be refused",
            {"pbft": Flooding},
            Flood,
        ),
        AttackKind(
            "junk-votes",
            "two faces of one replica, and junk between and behind them, so that the first be forgotten",
            {"pbft": JunkVotes},
            Junk,
            engines=("sim",),
        ),
        AttackKind(
            "censor",
            "a primary that keeps one client's requests back, for good or for a time, and serves all others",
            {"pbft": Censor},
            Censorship,
        ),
        AttackKind(
            "random-liar",
            "every kind of message left out, late, again, otherwise or made up, in the liar's own name",
            {"pbft": RandomPbftLiar},
            engines=("sim",),
        ),
    )
}

__all__ = ["ATTACKS", "Attack", "AttackKind", "Byzantine", "MakeAttack", "Power"]
