"""Round-based drop and mutate: in a few rounds the network is cut, in a few a liar says something near the truth.

A message belongs to a round of its protocol, by what stands in it and not by when it is sent: a phase at a place of the
log, or a step of a change of view or term. In a round that is cut, messages pass within one group and within the rest;
in a round with a twist a liar tells some replicas a value that was changed a little, or nothing. All else arrives.
[Winter et al., Randomized Testing of Byzantine Fault Tolerant Algorithms, OOPSLA'23]
[deviates: cuts end with the schedule, since what is sent again belongs to the same round and liveness is judged, too]
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from compare import drawing
from compare.attacks.random_pbft import RandomPbftLiar
from compare.hunt import swarm
from compare.hunt.case import Case, Cut, Twist, changed
from pbft import messages as p
from raft import messages as r
from replog.core import Effect, Event, Received, Send
from replog.types import Message, Micros, NodeId, Principal

PHASES: Final[dict[type[Any], int]] = {p.PrePrepare: 0, p.Prepare: 1, p.Commit: 2}
CHANGES: Final[dict[type[Any], int]] = {
    p.ViewChange: 0,
    p.MacViewChange: 0,
    p.NewView: 1,
    p.MacNewView: 1,
    r.PreVote: 0,
    r.RequestVote: 0,
    r.PreVoteReply: 1,
    r.VoteReply: 1,
}
CHANGE: Final = 5_000
"""Rounds from here on are of changes of view or term, those below of places of the log."""
PLACES, CHANGED_VIEWS = 16, 4
"""What the rounds of a schedule are drawn from: a short run comes to about as many."""
Round = int


def round_of(message: Any) -> Round | None:
    """The round that a message belongs to; None: it is never cut or changed."""
    kind = type(message)
    if kind in PHASES:
        return 3 * int(message.seq) + PHASES[kind]
    if kind in CHANGES:
        return CHANGE + 2 * int(message.view if hasattr(message, "view") else message.term) + CHANGES[kind]
    if kind is r.AppendEntries and message.entries:
        return 2 * (int(message.prev_log_index) + 1)
    if kind is r.AppendReply:
        return 2 * int(message.match_index) + 1
    return None


class Cuts:
    """What passes the network: a filter for the simulated one."""

    def __init__(self, cuts: Sequence[Cut]) -> None:
        self._groups = {cut.round: frozenset(cut.group) for cut in cuts}
        self.dropped = 0

    def passes(self, source: Principal, target: Principal, message: Message) -> bool:
        group = self._groups.get(round_of(message) or -1)
        if group is None or not isinstance(source, int) or not isinstance(target, int):
            return True
        kept = (source in group) == (target in group)
        self.dropped += not kept
        return kept


class TwistingLiar(RandomPbftLiar):
    """Says what its honest replica says but in the rounds of its twists; votes stand by what it proposed."""

    twists: Sequence[Twist] = ()

    def hear(self, now: Micros, event: Event) -> list[Event]:
        if type(event) is Received:
            self._words.learn(event.message)
        return [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        return [said for effect in effects for said in (self._twisted(effect) if type(effect) is Send else [effect])]

    def _twisted(self, send: Send) -> list[Effect]:
        self._words.learn(send.message)
        if self._has_lied(send):
            return self._stand_by(send)
        place = round_of(send.message)
        twist = next((one for one in self.twists if (one.round, one.liar) == (place, self.me)), None)
        to = () if twist is None else tuple(node for node in send.to if node in twist.to)
        if twist is None or not to:
            return [send]
        rest: list[Effect] = [Send(others, send.message)] if (others := _without(send.to, to)) else []
        if twist.withhold:
            self.actions += 1
            return rest
        if self.proposes(send.message):
            return rest + self._propose(to, send.message)
        return [*rest, self._lie(to, send.message, self.sign(self._words.change(send.message)))]


def _without(nodes: tuple[NodeId, ...], some: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
    return tuple(node for node in nodes if node not in some)


# -------------------------------------------------------------------------------------------------------------- drawing


def draw(protocol: str, seed: int) -> Case:
    """The case of a seed: no strikes, up to six cuts and, of PBFT, up to six twists."""
    chance = random.Random(f"{seed}/byzzfuzz/{protocol}")
    base = changed(swarm.draw(protocol, seed), strategy="byzzfuzz", strikes=[], network={}, timeline=[])
    n = base.side(protocol).n or 1
    cuts = [_cut(chance, n) for _ in range(chance.randint(0 if protocol == "pbft" else 2, 6))]
    liars = drawing.who_lies(chance, n, base.f) if protocol == "pbft" else []
    twists = [_twist(chance, n, liars) for _ in range(chance.randint(2, 6))] if liars else []
    lies = [{"attack": "random-liar", "target": liars, "start_s": 0.0, "end_s": swarm.END_S}] if liars else []
    return changed(base, cuts=cuts, cuts_end_s=swarm.END_S, twists=twists, timeline=lies)


def _round(chance: random.Random) -> Round:
    """Half of them of changes of view: they are few and matter most."""
    if chance.random() < 0.3:
        return CHANGE + chance.randrange(2, 2 * CHANGED_VIEWS)
    return chance.randrange(3, 3 * PLACES)


def _cut(chance: random.Random, n: int) -> dict[str, Any]:
    return {"round": _round(chance), "group": sorted(chance.sample(range(n), chance.randint(1, n - 1)))}


def _twist(chance: random.Random, n: int, liars: Sequence[NodeId]) -> dict[str, Any]:
    liar = chance.choice(liars)
    others = [node for node in range(n) if node != liar]
    some = sorted(chance.sample(others, chance.randint(1, len(others))))
    return {"round": _round(chance), "liar": liar, "to": some, "withhold": chance.random() < 0.3}
