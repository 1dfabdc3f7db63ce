"""Random runs in which the members change while replicas lie, crash and are cut off: `python -m compare.membership`.

A run is drawn from its seed like those of the scenario `random-byzantine`; beside that an administrator changes the
members, one change after the other: replicas come with empty disks, go, are replaced, f grows and shrinks. Liars are at
most f of each configuration. All judges of `compare` are asked; who is a member at the end must be live and caught up.
A run in which no change took effect proves nothing.

Here: the changes, and what is different about a liar and a judge where there are epochs.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import msgspec

from compare import judging
from compare.attacks import Byzantine
from compare.attacks.base import Power
from compare.attacks.random_pbft import RandomPbftLiar
from compare.decisions import Charge
from compare.drawing import draw
from compare.judging import Costs, Observed
from compare.results import Run, Verdict
from compare.scenario import Scenario, Workload, find
from compare.sim import Trial, disk_model, network_model
from compare.witness import Watched
from pbft import SPEC
from pbft.epochs import FREE, Epochs
from pbft.messages import InEpoch
from replog.apps.kv import KeyValue
from replog.client import Done, Failed
from replog.codec import Domain, digest_of
from replog.core import Accuse, Effect, Event, ProtocolSpec, Received, Reply, Send
from replog.errors import OperationFailed
from replog.membership import Configuration, ConfigurationAnswer, Electorate, Link, removable
from replog.node import Plug
from replog.replica import Replica
from replog.sim.cluster import SimCluster
from replog.statemachine import decode_outcome
from replog.types import ClientId, Message, Micros, NodeId, Principal, Request, Status, Submit

IDS: Final = 14
"""Replicas that ever come to be."""
ADMIN_CLIENT: Final = "boss"
DURATION_S, SETTLE_S = 2.0, 30.0
PROGRESS: Final = 50
"""Runs, after each of which a line says how it goes."""
TOLD: Final = ("view", "restored", "left-behind", "refreshed", "complaint")
"""What correct replicas go through, as the summary counts it."""
PAUSE_US: Final = 60_000
RETRY_US: Final = 400_000


class EpochLiar(RandomPbftLiar):
    """Lies about what is in an epoch, seldom about the epoch, and about links; signs with the domain of its own."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._cluster = power.domain.cluster

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
        domain = Domain(self._cluster, self._plug.epoch)
        self.power = replace(self.power, n=max(members) + 1, domain=domain)
        plain = [Send(one.to, bare(one.message)) if isinstance(one, Send) else one for one in effects]
        return [self._dressed(one) for one in super().speak(now, plain)]

    def _say(self, now: Micros, effect: Effect) -> list[Effect]:
        if isinstance(effect, (Send, Reply)) and isinstance(effect.message, ConfigurationAnswer):
            lie = self._other_links(effect.message) if self._chance.random() < 0.5 else effect.message
            return [Send(effect.to, lie) if isinstance(effect, Send) else Reply(effect.client, lie)]
        return super()._say(now, effect)

    def _other_links(self, answer: ConfigurationAnswer) -> ConfigurationAnswer:
        """Without votes, with another path or in another order; under MACs, other configurations."""
        self.acts["ConfigurationAnswer changed"] += 1
        chance = self._chance

        def spoilt(link: Link) -> Link:
            certificate = bytearray(link.certificate)
            certificate[chance.randrange(len(certificate))] ^= 1 << chance.randrange(8)
            return chance.choice((Link(bytes(certificate), link.path), Link(link.certificate, link.path[:1])))

        links = [spoilt(link) if chance.random() < 0.7 else link for link in answer.links]
        claimed = [msgspec.structs.replace(one, members=one.members[1:] or one.members) for one in answer.claimed]
        return ConfigurationAnswer(answer.epoch, tuple(links), tuple(claimed))

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


class Administrator:
    """`signed`: digests of the bodies that its client sent."""

    def __init__(self) -> None:
        self.acts: Counter[str] = Counter()
        self.signed: set[str] = set()

    def sent(self, message: Message) -> None:
        if isinstance(message, Submit):
            self.signed.add(digest_of(Request(message.request).body).hex())


class _Overheard:
    """Around the plug of each replica, liars' too: what the administrator's client sends it."""

    def __init__(self, inner: Plug, administrator: Administrator) -> None:
        self._inner = inner
        self._administrator = administrator

    def step(self, now: Micros, event: Event) -> list[Effect]:
        if type(event) is Received and event.sender == ADMIN_CLIENT:
            self._administrator.sent(event.message)
        return self._inner.step(now, event)

    def status(self) -> Status:
        return self._inner.status()


class ChangingTrial(Trial):
    """Invariant: liars are at most f of the members of every configuration."""

    cluster: SimCluster

    def __init__(self, scenario: Scenario, spec: ProtocolSpec, seed: int) -> None:
        self._administrator = Administrator()
        super().__init__(scenario, spec, seed)
        self._admin = random.Random(f"{seed}/admin")
        self._lying = {node for happening in scenario.timeline if happening.attack for node in happening.numbers}
        self.changes: Counter[str] = Counter()
        """Changes that were decided, by kind; refused and unanswered ones too."""

    def _cluster(self, real_signatures: bool) -> SimCluster:
        scenario, side = self.scenario, self.scenario.side(self.spec.name)
        clients = [f"c{number}" for number in range(scenario.workload.clients)]
        strangers = [f"x{number}" for number in range(scenario.workload.byzantine)]
        return SimCluster(
            self.spec,
            side.n,
            scenario.f,
            dict(side.options),
            machine=KeyValue,
            seed=self.seed,
            network=network_model(scenario.network),
            disk=disk_model(scenario.disk),
            clients=[*clients, *strangers, ADMIN_CLIENT],
            wrap=self._wrap,
            real_signatures=real_signatures,
            recorder=self.recorder,
            membership=True,
        )

    def _wrap(self, node: NodeId, replica: Replica) -> Plug:
        wrapper = Byzantine(replica, EpochLiar, node)
        self._wrapped[node] = wrapper
        self._all_wrapped.append(wrapper)
        return _Overheard(Watched(wrapper, self.witness), self._administrator)

    def _stranger(self, name: ClientId) -> Any:
        """The administrator's client has no history of calls: judges are told what it signed."""
        return self._administrator if name == ADMIN_CLIENT else super()._stranger(name)

    def _told(self, node: NodeId, sender: Principal, message: Message) -> None:
        """What is conflicting over a change of epoch may go unseen: no hearsay is held against witnesses here."""
        if sender in self.liars:
            self._wrapped[sender].arrived(node, message)
        elif sender in self.strangers:
            self._told_by_strangers += 1

    def run(self) -> Observed:
        self.cluster.after(PAUSE_US, self._change)
        self.cluster.after(self._admin.randrange(10 * PAUSE_US), self._refresh)
        return super().run()

    def _refresh(self) -> None:
        """Where the options have it: now and then somebody is refreshed, maybe just when an epoch ends."""
        if self.cluster.options.refresh and (not self.ended or self.cluster.now < self.ended):
            node = self._admin.choice(sorted(set(self.cluster.members) - self._lying))
            self.cluster.command(node, "refresh")
            self.cluster.after(self._admin.randrange(PAUSE_US, 10 * PAUSE_US), self._refresh)

    # ----------------------------------------------------------------------------------------------------- the changes

    def _change(self) -> None:
        """One more, if there is time: when the last one has taken effect."""
        if self.ended and self.cluster.now >= self.ended:
            return
        present = self.cluster.configuration
        drawn = self._draw(present)
        if drawn is None or not self.ended:
            self.cluster.after(RETRY_US, self._change)
            return
        kind, add, remove, f = drawn
        nodes = [self.cluster.add() for _ in range(add)]
        self.cluster.change(nodes, remove, f, ADMIN_CLIENT, partial(self._decided, kind, present.epoch))

    def _decided(self, kind: str, epoch: int, end: Done | Failed) -> None:
        try:
            told = decode_outcome(end.outcomes[0]) if isinstance(end, Done) else None
        except OperationFailed as refused:
            told = None
            self.changes[f"refused: {refused.text[:40]}"] += 1
        self.changes[kind if told is not None else "without effect"] += 1
        self._await(epoch if told is not None else -1, self.cluster.now + 3 * RETRY_US)

    def _await(self, epoch: int, until: Micros) -> None:
        """The next change comes some time after this one is in force."""
        if self.cluster.configuration.epoch > epoch or self.cluster.now > until:
            self.cluster.after(self._admin.randrange(1, 2 * PAUSE_US), self._change)
        else:
            self.cluster.after(PAUSE_US // 4, partial(self._await, epoch, until))

    def _draw(self, present: Configuration) -> tuple[str, int, list[NodeId], int] | None:
        """(kind, how many come, who goes, f)."""
        chance, f, n, room = self._admin, present.f, present.n, IDS - self.cluster.n
        ids = list(present.ids)
        going = chance.sample(ids, min(chance.choice((1, 1, 2)), removable(present), n))
        kinds: dict[str, tuple[int, list[NodeId], int]] = {
            "add": (1, [], f),
            "replace": (len(going), going, f),
            "remove": (0, going, f),
            "grow": (max(0, 3 * f + 4 - n), [], f + 1),
            "shrink": (0, going if n - len(going) >= 3 * f - 2 else [], f - 1),
        }
        fit = [
            kind for kind, (add, remove, to) in kinds.items() if add <= room and self._fits(present, add, remove, to)
        ]
        if not fit:
            return None
        kind = chance.choice(fit)
        return kind, *kinds[kind]

    def _fits(self, present: Configuration, add: int, remove: Sequence[NodeId], f: int) -> bool:
        left = set(present.ids) - set(remove)
        n = len(left) + add
        return 1 <= f <= 2 and n >= 3 * f + 1 and len(left & self._lying) <= f and n <= 10

    # ------------------------------------------------------------------------------------------------------ judgement

    def _settled(self) -> bool:
        """Members of the last configuration are to be there; who went is not."""
        members = set(self.cluster.configuration.ids)
        self.gone = set(range(self.cluster.n)) - members
        ready = [node for node in members - self.liars if self._votes(node)]
        return len(ready) == len(members - self.liars) and super()._settled()

    def _votes(self, node: NodeId) -> bool:
        status = self.cluster.status(node)
        return status is not None and status.detail["epoch"] == self.cluster.configuration.epoch

    def _observed(self, costs: Costs) -> Observed:
        self.gone = set(range(self.cluster.n)) - set(self.cluster.configuration.ids)
        observed = super()._observed(costs)
        observed.flaw = self._flaw
        return observed

    def _flaw(self, charge: Charge) -> str:
        """An accusation convicts if it does in one epoch: the signatures name it."""
        first, *rest = (self.spec.messages.decode(bytes.fromhex(raw)) for raw in charge.raw)
        accusation, flaw = Accuse(charge.culprit, charge.kind, first, *rest[:1]), ""
        for domain, electorate in self._electorates():
            try:
                SPEC.convict(accusation, domain, self.cluster.verifier(), electorate)  # type: ignore[attr-defined]
            except ValueError as reason:
                flaw = str(reason)
            else:
                return ""
        return flaw

    def _electorates(self) -> Iterator[tuple[Domain, Electorate]]:
        plugs = [self.cluster.replica(node).core for node in range(self.cluster.n) if node not in self.liars]
        lineage = max((plug.lineage for plug in plugs if isinstance(plug, Epochs)), key=lambda one: len(one.links))
        for one in lineage.configurations:
            domain = Domain(self.cluster.domain.cluster, one.epoch)
            yield domain, Electorate(one.ids, one.f, lineage.begins(one.epoch))


@dataclass(frozen=True)
class Outcome:
    run: Run
    epochs: int
    changes: Counter[str]

    @property
    def verdict(self) -> Verdict:
        """Vacuous, too, if no change took effect."""
        held = self.run.verdict is Verdict.OK
        return Verdict.VACUOUS if held and not self.epochs else self.run.verdict


def scenario_of(seed: int) -> Scenario:
    base = find("random-byzantine")
    workload = Workload(clients=3, outstanding=2, pause_ms=25.0)
    given: dict[str, Any] = base.model_dump() | {"name": "membership", "duration_s": DURATION_S, "settle_s": SETTLE_S}
    protocols = {"pbft": {"expect": "all ok", "options": {"robust": seed % 3 == 0}}}
    given |= {"workload": workload.model_dump(), "protocols": protocols}
    return draw(Scenario.model_validate(given), seed)


def play(seed: int, spec: ProtocolSpec = SPEC) -> Outcome:
    """One run, judged."""
    trial = ChangingTrial(scenario_of(seed), spec, seed)
    run = judging.conclude(trial.run())
    told = run.model_copy(update={"replay": f"python -m compare.membership --first {seed} --runs 1"})
    return Outcome(told, trial.cluster.configuration.epoch, trial.changes)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.membership", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--first", type=int, default=1, help="the first seed; odd ones run under MACs")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.runs)
    verdicts: Counter[str] = Counter()
    changes: Counter[str] = Counter()
    events: Counter[str] = Counter()
    for seed, outcome in _played(seeds, given.workers):
        verdicts[str(outcome.verdict.value)] += 1
        changes.update(outcome.changes)
        changes["epochs"] += outcome.epochs
        events.update({name: outcome.run.events.get(name, 0) for name in TOLD})
        if outcome.verdict is not Verdict.OK:
            _say(f"seed {seed}: {outcome.verdict.value} {_objections(outcome.run)} {dict(outcome.changes)}")
        if verdicts.total() % PROGRESS == 0:
            _say(f"{verdicts.total()} of {given.runs}: {dict(verdicts)}, {changes['epochs']} epochs")
    _say(f"{given.runs} runs: {dict(verdicts)}; changes {dict(sorted(changes.items()))}; events {dict(events)}")
    return 0 if verdicts == {Verdict.OK.value: given.runs} else 1


def _played(seeds: Sequence[int], workers: int) -> Iterator[tuple[int, Outcome]]:
    if workers == 1:
        yield from zip(seeds, map(play, seeds), strict=True)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from zip(seeds, pool.map(play, seeds), strict=True)


def _objections(run: Run) -> str:
    return "; ".join(f"{name}: {check.detail}" for name, check in run.checks.items() if not check.ok) + run.error


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
