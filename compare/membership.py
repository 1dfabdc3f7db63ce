"""Random runs in which the members change while replicas lie, crash and are cut off: `python -m compare.membership`.

A run is drawn from its seed like those of the scenario `random-byzantine`; beside that an administrator changes the
members, one change after the other: replicas come with empty disks, go, are replaced, f grows and shrinks. Liars are at
most f of each configuration. All judges of `compare` are asked; who is a member at the end must be live and caught up.
A run in which no change took effect proves nothing.

`--protocol raft` draws those of Raft (`compare.membership_raft`).

Here: the changes, and what is different about a liar and a judge where there are epochs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from compare import membership_raft
from compare.arguments import WORKERS, whole
from compare.attacks import Byzantine
from compare.attacks.random_pbft import RandomPbftLiar
from compare.changing import PAUSE_US, ChangingTrial, Outcome, Overheard, Play, Wanted, conclude, run_many
from compare.decisions import Charge
from compare.drawing import draw
from compare.judging import Costs, Observed
from compare.scenario import Scenario, Workload, find
from compare.witness import Watched
from pbft import SPEC
from pbft.epochs import FREE, Epochs
from pbft.messages import InEpoch
from replog.codec import Domain
from replog.core import Accuse, Effect, Event, ProtocolSpec, Received, Reply, Send
from replog.membership import Configuration, ConfigurationAnswer, Electorate, Link, removable
from replog.node import Plug
from replog.replica import Replica
from replog.types import Message, Micros, NodeId, Principal

IDS: Final = 14
"""Replicas that ever come to be."""
DURATION_S, SETTLE_S = 2.0, 30.0
TOLD: Final = ("view", "restored", "left-behind", "refreshed", "complaint")
"""What correct replicas go through, as the summary counts it."""


class EpochLiar(RandomPbftLiar):
    """Lies about what is in an epoch, seldom about the epoch, and about links; signs with the domain of its own."""

    @property
    def _plug(self) -> Epochs:
        plug = self.inner.core
        if not isinstance(plug, Epochs):
            raise TypeError(f"{type(plug).__name__} knows no epochs")
        return plug

    def hear(self, now: Micros, event: Event) -> list[Event]:
        if type(event) is not Received or isinstance(event.message, ConfigurationAnswer):
            return [event]
        heard = super().hear(now, Received(event.sender, bare(event.message)))
        return [event] if heard else []

    def arrived(self, node: NodeId, message: Message) -> None:
        super().arrived(node, bare(message))

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        members = self._plug.core.setup.members
        self.power = replace(self.power, n=max(members) + 1, domain=self._plug.core.setup.domain)
        plain = [Send(one.to, bare(one.message)) if isinstance(one, Send) else one for one in effects]
        return [self._dressed(one) for one in super().speak(now, plain)]

    def _say(self, now: Micros, effect: Effect) -> list[Effect]:
        if isinstance(effect, (Send, Reply)) and isinstance(effect.message, ConfigurationAnswer):
            lie = self._other_links(effect.message) if self._chance.random() < 0.5 else effect.message
            return [Send(effect.to, lie) if isinstance(effect, Send) else Reply(effect.client, lie)]
        return super()._say(now, effect)

    def _other_links(self, answer: ConfigurationAnswer) -> ConfigurationAnswer:
        """Without votes, of another state, or with another path."""
        self.acts["ConfigurationAnswer changed"] += 1
        chance = self._chance

        def spoilt(link: Link) -> Link:
            certificate = bytearray(link.certificate)
            certificate[chance.randrange(len(certificate))] ^= 1 << chance.randrange(8)
            return chance.choice((Link(bytes(certificate), link.path), Link(link.certificate, link.path[:1])))

        links = [spoilt(link) if chance.random() < 0.7 else link for link in answer.links]
        return ConfigurationAnswer(answer.epoch, tuple(links))

    def _dressed(self, effect: Effect) -> Effect:
        if not isinstance(effect, Send) or isinstance(effect.message, FREE):
            return effect
        epoch = self._plug.epoch
        if self._chance.random() < 0.05:
            epoch = max(0, epoch + self._chance.choice((-1, 1)))
        return Send(effect.to, InEpoch(epoch, effect.message)) if epoch else effect

    def primary(self, view: int) -> NodeId:
        members = self._plug.core.setup.members
        return members[view % len(members)]


def bare(message: Any) -> Any:
    return message.message if isinstance(message, InEpoch) else message


# -------------------------------------------------------------------------------------------------------------- the run


class EpochTrial(ChangingTrial):
    """Invariant: liars are at most f of the members of every configuration."""

    def __init__(self, scenario: Scenario, spec: ProtocolSpec, seed: int) -> None:
        super().__init__(scenario, spec, seed)
        self._lying = {node for happening in scenario.timeline if happening.attack for node in happening.numbers}

    def _wrap(self, node: NodeId, replica: Replica) -> Plug:
        wrapper = Byzantine(replica, EpochLiar, node)
        self._wrapped[node] = wrapper
        self._all_wrapped.append(wrapper)
        return Overheard(Watched(wrapper, self.witness), self.administrator)

    def _stands_liars(self) -> bool:
        """By the invariant above, however many they are over all configurations."""
        return True

    def _told(self, node: NodeId, sender: Principal, message: Message) -> None:
        """What is conflicting over a change of epoch may go unseen: no hearsay is held against witnesses here."""
        if sender in self.liars:
            self._wrapped[sender].arrived(node, message)
        elif sender in self.strangers:
            self._told_by_strangers += 1

    def plan(self) -> None:
        super().plan()
        self.cluster.after(self.chance.randrange(10 * PAUSE_US), self._refresh)

    def _refresh(self) -> None:
        """Where the options have it: now and then somebody is refreshed, maybe just when an epoch ends."""
        if self.cluster.options.refresh and not self.over:
            node = self.chance.choice(sorted(set(self.cluster.members) - self._lying))
            self.cluster.command(node, "refresh")
            self.cluster.after(self.chance.randrange(PAUSE_US, 10 * PAUSE_US), self._refresh)

    # ----------------------------------------------------------------------------------------------------- the changes

    def draw(self, present: Configuration) -> Wanted | None:
        chance, f, n, room = self.chance, present.f, present.n, IDS - self.cluster.n
        ids = list(present.ids)
        going = chance.sample(ids, min(chance.choice((1, 1, 2)), removable(present, f), n))
        kinds = (
            Wanted("add", 1, [], f),
            Wanted("replace", len(going), going, f),
            Wanted("remove", 0, going, f),
            Wanted("grow", max(0, 3 * f + 4 - n), [], f + 1),
            Wanted("shrink", 0, going if n - len(going) >= 3 * f - 2 else [], f - 1),
        )
        fit = [one for one in kinds if one.add <= room and self._fits(present, one.add, one.remove, one.f)]
        return chance.choice(fit) if fit else None

    def _fits(self, present: Configuration, add: int, remove: Sequence[NodeId], f: int) -> bool:
        left = set(present.ids) - set(remove)
        n = len(left) + add
        return 1 <= f <= 2 and n >= 3 * f + 1 and len(left & self._lying) <= f and n <= 10

    # ------------------------------------------------------------------------------------------------------ judgement

    def _observed(self, costs: Costs) -> Observed:
        observed = super()._observed(costs)
        observed.flaw = self._flaw
        return observed

    def _flaw(self, charge: Charge) -> str:
        """An accusation has to convict in the epoch that it names: in that alone its file proves anything."""
        first, *rest = (self.spec.messages.decode(bytes.fromhex(raw)) for raw in charge.raw)
        accusation = Accuse(charge.culprit, charge.kind, first, *rest[:1])
        known = [pair for pair in self._electorates() if pair[0].epoch == charge.epoch]
        if not known:
            return f"nobody knows of epoch {charge.epoch}"
        try:
            SPEC.convict(accusation, known[0][0], self.cluster.verifier(), known[0][1])
        except ValueError as reason:
            return str(reason)
        return ""

    def _electorates(self) -> Iterator[tuple[Domain, Electorate]]:
        plugs = [self.cluster.replica(node).core for node in range(self.cluster.n) if node not in self.liars]
        lineage = max((plug.lineage for plug in plugs if isinstance(plug, Epochs)), key=lambda one: len(one.links))
        for one in lineage.configurations:
            begins = lineage.begins(one.epoch)
            yield Domain(self.cluster.domain.cluster, one.epoch, begins[1]), Electorate(one.ids, one.f, begins)


def scenario_of(seed: int) -> Scenario:
    base = find("random-byzantine")
    workload = Workload(clients=3, outstanding=2, pause_ms=25.0)
    given: dict[str, Any] = base.model_dump() | {"name": "membership", "duration_s": DURATION_S, "settle_s": SETTLE_S}
    protocols = {"pbft": {"expect": "all ok", "options": {"robust": seed % 3 == 0}}}
    given |= {"workload": workload.model_dump(), "protocols": protocols}
    return draw(Scenario.model_validate(given), seed)


def play(seed: int, spec: ProtocolSpec = SPEC) -> Outcome:
    """One run, judged."""
    return conclude(EpochTrial(scenario_of(seed), spec, seed), f"python -m compare.membership --first {seed} --runs 1")


PLAYS: Final[dict[str, tuple[Play, Sequence[str]]]] = {
    "pbft": (play, TOLD),
    "raft": (membership_raft.play, membership_raft.TOLD),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.membership", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--protocol", choices=PLAYS, default="pbft", help="pbft")
    parser.add_argument("--runs", type=whole(1), default=500, help="each from a seed of its own: 500")
    parser.add_argument("--first", type=whole(0), default=1, help="the first seed: 1; odd ones run under MACs (PBFT)")
    parser.add_argument("--workers", type=WORKERS, default=1, help="simulated runs at a time: 1")
    given = parser.parse_args(arguments)
    play, events = PLAYS[given.protocol]
    return run_many(play, given, events, _say)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
