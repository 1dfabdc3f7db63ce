"""The attacks, by name: each one class a protocol, wrapped around a replica from outside."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from compare.attacks import answers, backup, corruption, new_views, omissions, primary, raft_follower, raft_leader
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
from compare.attacks.twins import Twins
from compare.faults import Engine
from compare.options import (
    Anything,
    Bursts,
    Censorship,
    Equivocation,
    Flood,
    Junk,
    Options,
    Slowness,
    Watching,
)
from replog.config import load_class
from replog.replica import Replica
from replog.types import NodeId

MakeAttack = Callable[[NodeId, Replica, Power], Attack]


@dataclass(frozen=True)
class AttackKind:
    """`makes`: the class for each protocol that the attack is written for."""

    name: str
    summary: str
    makes: Mapping[str, MakeAttack]
    options: type[BaseModel] = Options
    engines: tuple[Engine, ...] = ("sim", "live")

    @property
    def protocols(self) -> tuple[str, ...]:
        return tuple(self.makes)


BOTH: Final = ("pbft", "raft")
SIM: Final[tuple[Engine, ...]] = ("sim",)


def told(attack: type[Any]) -> str:
    """What it does, in one sentence: the first of its docstring."""
    words = " ".join((attack.__doc__ or "").split("\n\n")[0].split())
    return words.partition(". ")[0].rstrip(".")


def _kind(name: str, attack: type[Attack], *protocols: str) -> AttackKind:
    """An attack that is one class for all of these protocols: in the simulator, which sees what arrives, and on real
    processes, where `attack.engines` says that it knows by itself whether it acted."""
    options = getattr(attack, "options_model", Anything)
    return AttackKind(name, told(attack), dict.fromkeys(protocols, attack), options, getattr(attack, "engines", SIM))


_LIES: Final = (
    _kind("silent", omissions.Silent, *BOTH),
    _kind("mute-to-some", omissions.MuteToSome, *BOTH),
    _kind("delay", omissions.Delay, *BOTH),
    _kind("duplicate", omissions.Duplicate, *BOTH),
    _kind("replay-old", omissions.ReplayOld, *BOTH),
    _kind("corrupt-payload", corruption.CorruptPayload, *BOTH),
    _kind("corrupt-signature", corruption.CorruptSignature, "pbft"),
    _kind("lie-in-reply", answers.LieInReply, *BOTH),
    _kind("stale-read", answers.StaleRead, *BOTH),
    _kind("impersonate", corruption.Impersonate, *BOTH),
    _kind("twins", Twins, *BOTH),
    _kind("withheld-state", omissions.WithheldState, *BOTH),
    _kind("wrong-digest", primary.WrongDigest, "pbft"),
    _kind("skip-number", primary.SkipNumber, "pbft"),
    _kind("exhaust-numbers", primary.ExhaustNumbers, "pbft"),
    _kind("invent-request", primary.InventRequest, *BOTH),
    _kind("replay-batch", primary.ReplayBatch, *BOTH),
    _kind("wrong-time", primary.WrongTime, *BOTH),
    _kind("conflicting-new-view", new_views.ConflictingNewView, "pbft"),
    _kind("partial-new-view", new_views.PartialNewView, "pbft"),
    _kind("new-view-drops-prepared", new_views.NewViewDropsPrepared, "pbft"),
    _kind("false-null", new_views.FalseNull, "pbft"),
    _kind("forged-prepared", new_views.ForgedPrepared, "pbft"),
    _kind("view-change-storm", new_views.ViewChangeStorm, "pbft"),
    _kind("view-jump", new_views.ViewJump, "pbft"),
    _kind("equivocate-votes", backup.EquivocateVotes, "pbft"),
    _kind("vote-for-everything", backup.VoteForEverything, "pbft"),
    _kind("wrong-checkpoint", backup.WrongCheckpoint, "pbft"),
    replace(
        _kind("poisoned-state", backup.PoisonedState, "pbft"),
        makes={"pbft": backup.PoisonedState, "raft": raft_leader.PoisonedSnapshot},
    ),
    _kind("lie-in-status", backup.LieInStatus, "pbft"),
    _kind("rewrite-committed", raft_leader.RewriteCommitted, "raft"),
    _kind("false-commit", raft_leader.FalseCommit, "raft"),
    _kind("fake-leader", raft_leader.FakeLeader, "raft"),
    _kind("lie-in-replies", raft_leader.LieInReplies, "raft"),
    _kind("vote-twice", raft_follower.VoteTwice, "raft"),
    _kind("ack-without-storing", raft_follower.AckWithoutStoring, "raft"),
    _kind("inflate-terms", raft_follower.InflateTerms, "raft"),
    _kind("elections-for-ever", raft_follower.ElectionsForEver, "raft"),
    _kind("spoofed-move", raft_follower.SpoofedMove, "raft"),
)

ATTACKS: Final[Mapping[str, AttackKind]] = {
    kind.name: kind
    for kind in (
        *_LIES,
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
            "every kind of message left out, late, again, otherwise or made up, with votes and a past to match",
            {"pbft": RandomPbftLiar},
            engines=("sim",),
        ),
    )
}


@cache
def attack_of(name: str) -> AttackKind:
    """One of these by name, or one of the user's own: `module:Class` or `path/to/file.py:Class`. Raises ConfigError."""
    if ":" not in name:
        return ATTACKS[name]
    if "" not in sys.path and not name.rpartition(":")[0].endswith(".py"):
        sys.path.insert(0, "")  # as `python -m` does: modules of the folder that one works in
    attack = load_class("attack", name, Attack)
    return _kind(name, attack, *getattr(attack, "protocols", BOTH))


__all__ = ["ATTACKS", "Attack", "AttackKind", "Byzantine", "MakeAttack", "Power", "attack_of", "told"]
