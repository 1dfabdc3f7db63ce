"""One run in the simulated world: clients at work, the timeline, the end of faults, probes.

Here: the run. Not here: judging it (`compare.judging`), what attacks do (`compare.attacks`), many runs
(`compare.runner`), nor the world itself (`replog.sim`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from pydantic import ValidationError

from compare import workloads
from compare.attacks import Byzantine, Power, attack_of
from compare.attacks.byzantine_client import ByzantineClient
from compare.attacks.storms import CLIENT_ATTACKS
from compare.calibration.machine import Machine
from compare.decisions import collect
from compare.evidence import certified
from compare.gauges import Gauges
from compare.hearsay import Hearsay
from compare.history import Call, Refusal
from compare.judging import Costs, Observed
from compare.scenario import Happening, Scenario
from compare.sim_faults import Ending, SimFaults
from compare.timing import Timeliness
from compare.witness import Watched, Witness
from replog.client import Done, Failed
from replog.config import first_fault
from replog.core import ProtocolSpec
from replog.errors import ConfigError, OperationFailed
from replog.evidence import Origin
from replog.keys import Signer
from replog.node import Plug
from replog.replica import Replica
from replog.sim.cluster import Counters, SimCluster
from replog.statemachine import decode_outcome
from replog.trace import Recorder
from replog.types import ClientId, Message, Micros, NodeId, Principal

LEADER_US: Final = 5_000_000
"""How long a cluster may take to find its first leader before clients begin anyway."""
WAITING_MAX: Final = 500
"""Unanswered calls of one client in an open loop: a user who sees so many gives up asking."""
LOOK_US: Final = 20_000
"""How often the run looks whether something that it waits for is there."""
GAUGE_US: Final = 500_000
"""How often it is measured what replicas and clients hold."""


class Trial:
    """One scenario, protocol and seed in virtual time.

    Invariant: the run is a function of these three; `lines` and `calls` are the same in any process.
    """

    def __init__(
        self,
        scenario: Scenario,
        spec: ProtocolSpec,
        seed: int,
        recorder: Recorder | None = None,
        *,
        real_signatures: bool = False,
        machine: Machine | None = None,
    ) -> None:
        """`machine`: whose prices count, in place of those of the package.
        `real_signatures`: Ed25519 in place of keyed hashes, so that others can check what was signed.
        Raises ConfigError for a protocol that cannot run with the scenario's n, f or options."""
        self.scenario = scenario.sized(spec)
        self.machine = workloads.APPLICATIONS[scenario.workload.kind]
        self.spec = spec
        self.seed = seed
        self.recorder = recorder if recorder is not None else Recorder("decisions")
        self.calls: list[Call] = []
        self.probes: list[Call] = []
        self.powers: list[Power] = []
        self._measured = machine
        self._signers: dict[Principal, Signer] = {}
        self._shared: dict[str, Any] = {}
        """Keys and knowledge of all liars: whoever joins them brings its own."""
        self.liars: set[NodeId] = set()
        self.gone: set[NodeId] = set()
        self._wrapped: dict[NodeId, Byzantine] = {}
        self._all_wrapped: list[Byzantine] = []
        self.struck: dict[int, tuple[NodeId, ...]] = {}
        """Place in the timeline -> whom it struck."""
        self._chance = random.Random(f"{seed}/timeline")
        self._endings: dict[int, Ending] = {}
        self.strikes: Counter[str] = Counter()
        """Faults that struck, by name, schedules left out."""
        self.witness = Witness(self.liars, self._told)
        self.strangers: dict[ClientId, ByzantineClient] = {}
        self._told_by_strangers = 0
        self.began: Micros = 0
        self.ended: Micros = 0
        self.cluster = self._cluster(real_signatures)
        self.faults = self._faults()
        self.timing: Timeliness | None = None
        self.gauges = Gauges(self.cluster.options, self.cluster.n)
        nodes = self.cluster.nodes
        domain, verifier = self.cluster.domain, self.cluster.verifier()
        lives, world = (lambda node: nodes[node].lives), self.cluster.world
        self.hearsay = Hearsay(self.cluster.n, domain, verifier, lives, lambda: world.now)

    def _cluster(self, real_signatures: bool) -> SimCluster:
        scenario, side = self.scenario, self.scenario.side(self.spec.name)
        try:
            return SimCluster(
                self.spec,
                side.n,
                scenario.f,
                dict(side.options),
                machine=self.machine,
                seed=self.seed,
                **self._machine_model(),
                real_signatures=real_signatures,
                recorder=self.recorder,
                **self._around(),
            )
        except ValueError as error:
            raise self._refused(error) from None

    def _machine_model(self) -> dict[str, Any]:
        scenario = self.scenario
        if self._measured is None:
            return {"network": scenario.network.model, "disk": scenario.disk.model}
        return self._measured.around(self.spec.name, scenario.network, scenario.disk)

    def _refused(self, error: ValueError) -> ConfigError:
        rule = first_fault(error) if isinstance(error, ValidationError) else error
        return ConfigError(f"scenario {self.scenario.name}, protocol {self.spec.name}: {rule}")

    def _faults(self) -> SimFaults:
        """What would build a replica otherwise is tried before anything runs."""
        options = self.scenario.side(self.spec.name).options
        faults = SimFaults(self.cluster, self.spec, options, self.scenario.network.loss)
        for happening in self.scenario.timeline:
            try:
                if happening.fault == "old-version":
                    faults.older(happening.settings)
                elif happening.fault == "mutant":
                    faults.buggy(happening.settings)
            except ValueError as error:
                raise self._refused(error) from None
        return faults

    def _around(self) -> dict[str, Any]:
        """Who else there is, and what stands around each replica."""
        workload = self.scenario.workload
        clients = [f"c{number}" for number in range(workload.clients)]
        strangers = [f"x{number}" for number in range(workload.byzantine)]
        return {"clients": clients + strangers, "wrap": self._wrap if self.scenario.attacked else None}

    def _wrap(self, node: NodeId, replica: Replica) -> Plug:
        wrapper = Byzantine(replica, None, node)
        self._wrapped[node] = wrapper
        self._all_wrapped.append(wrapper)
        return Watched(wrapper, self.witness)

    def _told(self, node: NodeId, sender: Principal, message: Message) -> None:
        """A correct replica is about to hear this."""
        if sender in self.liars:
            self._wrapped[sender].arrived(node, message)
            if self._signs:
                self.hearsay.told(node, sender, message)
        elif sender in self.strangers:
            self._told_by_strangers += 1

    # --------------------------------------------------------------------------------------------------------- the run

    def run(self) -> Observed:
        cluster, scenario = self.cluster, self.scenario
        self._wait(lambda: cluster.leader() is not None, LEADER_US)
        self._prepare()
        self.began = cluster.now
        self.ended = self.began + _us(scenario.duration_s)
        before = cluster.counters
        self.strangers = {name: self._stranger(name) for name in list(cluster.clients)[scenario.workload.clients :]}
        if scenario.network.timing is not None:
            self.timing = Timeliness(cluster, scenario.network.timing, self.began)
        for client in self._clients:
            if scenario.workload.loop == "open":
                _Stream(self, client).start()
            else:
                for place in range(scenario.workload.outstanding):
                    _Process(self, client, place).start()
        for place, happening in enumerate(scenario.timeline):
            self._plan(place, happening)
        self._gauge()
        cluster.run_for(self.ended - cluster.now)
        costs = _costs(before, cluster.counters)
        for client in self._clients:
            self._probe(client)
        self._wait(self._settled, _us(scenario.settle_s))
        if self._stands_liars():
            liars = self.liars | self.faults.liars
            cluster.check_invariants(node for node in range(cluster.n) if node not in liars)
        return self._observed(costs)

    def _stands_liars(self) -> bool:
        """Whether they were no more than f: with more of them no core can keep its own promises."""
        return len(self.liars | self.faults.liars) <= self.scenario.f

    def _prepare(self) -> None:
        """What the workload needs to be there before it begins."""
        plans = workloads.preparation(self.scenario.workload)
        client = next(iter(self.cluster.clients))
        calls = [self.submit(client, f"{client}/prepare", [plan], lambda _: None)[0] for plan in plans]
        self._wait(lambda: all(call.known for call in calls), LEADER_US)

    @property
    def _clients(self) -> list[ClientId]:
        return [client for client in self.cluster.clients if client not in self.strangers]

    def _stranger(self, name: ClientId) -> ByzantineClient:
        workload, end = self.scenario.workload, self.began + _us(self.scenario.faults_end_s or self.scenario.duration_s)
        pause_us = max(1_000, _us(workload.pause_ms / 1000))
        if workload.byzantine_per_s is not None:
            pause_us = max(1, round(1_000_000 / workload.byzantine_per_s))
        stranger = CLIENT_ATTACKS[workload.byzantine_as](self.cluster, name, self.seed, pause_us, end)
        stranger.start()
        return stranger

    @property
    def _signs(self) -> bool:
        """Whether replicas sign what they say."""
        return getattr(self.cluster.options, "auth", "") == "signatures"

    @property
    def _acts(self) -> Counter[str]:
        """What liars told correct replicas, and what Byzantine clients did."""
        acts = [wrapper.acts for wrapper in self._all_wrapped] + [one.acts for one in self.strangers.values()]
        return sum(acts, Counter({"heard of Byzantine clients": self._told_by_strangers}))

    def _observed(self, costs: Costs) -> Observed:
        self.calls.sort(key=lambda call: (call.invoke, call.client, call.timestamp, call.position))
        return Observed(
            scenario=self.scenario,
            protocol=self.spec.name,
            engine="sim",
            seed=self.seed,
            n=self.cluster.n,
            lines=self.recorder.lines,
            calls=self.calls,
            probes=self.probes,
            began=self.began,
            ended=self.ended,
            liars=tuple(sorted(self.liars | self.faults.liars)),
            gone=tuple(sorted(self.gone | self.faults.lost)),
            attack_actions=sum(wrapper.actions for wrapper in self._all_wrapped),
            fault_actions=(struck := self._struck()).total(),
            acts=self._acts,
            events=self.witness.events
            | {f"fault {name}": number for name, number in struck.items()}
            | dict(self.faults.events),
            signed={name: stranger.signed for name, stranger in self.strangers.items()},
            conflicts=self.hearsay.conflicts(set(range(self.cluster.n)) - self._faulty),
            cluster=self.cluster.domain.cluster,
            verifier=self.cluster.verifier(),
            origin=self._origin(),
            costs=costs,
            held=self.gauges.held,
        )

    def _struck(self) -> Counter[str]:
        late = Counter({"delays beyond any promise": int(self.timing is not None and self.timing.acts > 0)})
        return +(self.strikes + self.faults.struck() + late)

    def _gauge(self) -> None:
        """Measure what correct replicas that are up and clients hold, now and again until the run ends."""
        for node in range(self.cluster.n):
            if node not in self.liars | self.faults.liars and self.cluster.nodes[node].up:
                self.gauges.look(f"node {node}", self.cluster.replica(node))
        for client in self._clients:
            self.gauges.look(f"client {client}", self.cluster.client(client).core)
        self.cluster.after(GAUGE_US, self._gauge)

    def _origin(self) -> Origin | None:
        cluster, keys = self.cluster, self.cluster.public_keys()
        known = keys and self._signs and hasattr(self.spec, "convict")
        return certified(self.spec.name, cluster.domain.cluster, keys, cluster.n, cluster.f) if known else None

    def _wait(self, predicate: Callable[[], bool], limit_us: Micros) -> None:
        """Until it holds or the time is over; who waited in vain shows in the verdict."""
        end = self.cluster.now + limit_us
        while not predicate() and self.cluster.now < end:
            self.cluster.run_for(LOOK_US)

    @property
    def _faulty(self) -> set[NodeId]:
        return self.liars | self.gone | self.faults.liars | self.faults.lost

    def _settled(self) -> bool:
        if not all(probe.known for probe in self.probes):
            return False
        up = [node for node in range(self.cluster.n) if node not in self._faulty]
        known = [self.cluster.status(node) for node in up]
        if len({status.index for status in known if status is not None}) != 1 or None in known:
            return False
        return len({own.height for own in collect(self.recorder.lines, up).values()}) == 1  # what disks still write

    def _probe(self, client: ClientId) -> None:
        plan = workloads.probe(client, self.scenario.workload.kind)
        self.probes += self.submit(client, f"{client}/probe", [plan], lambda _: None)

    def submit(
        self, client: ClientId, process: str, plans: list[workloads.Plan], then: Callable[[list[Call]], None]
    ) -> list[Call]:
        """One request with these operations; `then` when its outcome is known, or it is known that there is none."""
        now = self.cluster.now
        calls = [
            Call(client, process, method, args, now, position=position) for position, (method, args) in enumerate(plans)
        ]
        self.calls += calls

        def done(end: Done | Failed) -> None:
            learn(calls, end, self.cluster.now)
            then(calls)

        operations = [workloads.encode(plan) for plan in plans]
        timestamp = self.cluster.client(client).submit(operations, done, workloads.only_read(plans))
        for call in calls:
            call.timestamp = timestamp
        return calls

    # ------------------------------------------------------------------------------------------------------- timeline

    def _plan(self, place: int, happening: Happening) -> None:
        self.cluster.at(self.began + _us(happening.start_s), partial(self._begin, place, happening))
        if happening.end_s is not None:
            self.cluster.at(self.began + _us(happening.end_s), partial(self._end, place, happening))

    def _begin(self, place: int, happening: Happening) -> None:
        if self.cluster.now >= self._last_moment(happening):
            return
        nodes = self._choose(happening)
        if nodes is None:  # nobody leads just now: as soon as somebody does
            self.cluster.after(LOOK_US, partial(self._begin, place, happening))
            return
        self.struck[place] = nodes
        if happening.attack is not None:
            self._attack(nodes, happening)
        else:
            self.strikes[happening.name] += self._strike(place, happening, nodes)
            if happening.end_s is None:
                self.gone |= set(nodes)

    def _end(self, place: int, happening: Happening) -> None:
        nodes = self.struck.get(place, ())
        if happening.attack is not None:
            for node in nodes:
                self._wrapped[node].end(self.cluster.nodes[node].clock.monotonic())
        elif place in self._endings:
            self._endings.pop(place)()

    def _last_moment(self, happening: Happening) -> Micros:
        """What has not begun by then never does: nobody would end it."""
        return self.ended if happening.end_s is None else self.began + _us(happening.end_s)

    def _strike(self, place: int, happening: Happening, nodes: tuple[NodeId, ...]) -> bool:
        """Begin the fault; whether it changed anything at once. What else it does shows at the end."""
        if not nodes:
            return False
        before = self.faults.harm()
        self._endings[place] = self.faults.begin(happening.name, nodes, happening.settings)
        return self.faults.harm() != before

    def _choose(self, happening: Happening) -> tuple[NodeId, ...] | None:
        leader, target = self.cluster.leader(), happening.target
        up = [node for node in range(self.cluster.n) if self.cluster.nodes[node].up]
        if target in ("leader", "backup", "f backups") and (leader is None or leader not in up):
            return None
        if happening.group is not None:
            return self.scenario.placement.members(*happening.group, self.cluster.n)
        return choose(target, self.cluster.n, self.scenario.f, leader, self._chance)

    def _attack(self, nodes: tuple[NodeId, ...], happening: Happening) -> None:
        self.liars |= set(nodes)
        self._signers.update({node: self.cluster.signer(node) for node in nodes})
        power = Power(
            members=tuple(sorted(self.liars)),
            signers=self._signers,
            verifier=self.cluster.verifier(),
            domain=self.cluster.domain,
            n=self.cluster.n,
            f=self.scenario.f,
            machine=self.machine,
            seed=self.seed,
            options=happening.options,
            shared=self._shared,
            second=self.cluster.second,
        )
        self.powers.append(power)
        make = attack_of(happening.name).makes.get(self.spec.name)
        for node in nodes:
            self._wrapped[node].begin(self.cluster.nodes[node].clock.monotonic(), power, make)


class _Process:
    """One sequential caller: asks, waits for the answer, pauses, asks again until the workload ends."""

    def __init__(self, trial: Trial, client: ClientId, place: int) -> None:
        self._trial = trial
        self._client = client
        self._name = f"{client}/{place}"
        self._chance = random.Random(f"{trial.seed}/{self._name}")
        self._load = workloads.load(trial.scenario.workload, self._name, self._chance)

    def start(self) -> None:
        self._trial.cluster.after(self._pause(), self._ask)

    def _ask(self) -> None:
        if self._trial.cluster.now < self._trial.ended:
            plans = [self._load.following() for _ in range(self._trial.scenario.workload.operations)]
            self._trial.submit(self._client, self._name, plans, self._answered)

    def _answered(self, calls: list[Call]) -> None:
        for call in calls:
            if call.known:
                self._load.learned((call.method, call.args), call.outcome)
        self._trial.cluster.after(self._pause(), self._ask)

    def _pause(self) -> Micros:
        mean_us = self._trial.scenario.workload.pause_ms * 1000
        return 1 + int(self._chance.expovariate(1 / mean_us)) if mean_us else 1


class _Stream:
    """An open loop: calls at random times, each of a process of its own, until the workload ends or too many wait."""

    def __init__(self, trial: Trial, client: ClientId) -> None:
        self._trial = trial
        self._client = client
        self._chance = random.Random(f"{trial.seed}/{client}/stream")
        self._load = workloads.load(trial.scenario.workload, f"{client}/s", self._chance)
        self._number = 0
        self._waiting = 0

    def start(self) -> None:
        self._trial.cluster.after(self._gap(), self._ask)

    def _ask(self) -> None:
        if self._trial.cluster.now >= self._trial.ended:
            return
        if self._waiting < WAITING_MAX:
            plans = [self._load.following() for _ in range(self._trial.scenario.workload.operations)]
            self._number += 1
            self._waiting += 1
            self._trial.submit(self._client, f"{self._client}/{self._number}", plans, self._answered)
        self._trial.cluster.after(self._gap(), self._ask)

    def _answered(self, _: list[Call]) -> None:
        self._waiting -= 1

    def _gap(self) -> Micros:
        workload = self._trial.scenario.workload
        return 1 + int(self._chance.expovariate(workload.rate_per_s / workload.clients / 1_000_000))


def learn(calls: list[Call], end: Done | Failed, now: Micros) -> None:
    """Write down what the client was told. After `Failed` the outcome stays unknown: it may still take effect."""
    if isinstance(end, Failed):
        return
    for call, outcome in zip(calls, end.outcomes, strict=True):
        call.returned, call.index, call.vouchers = now, end.index, tuple(end.vouchers)
        try:
            call.outcome = decode_outcome(outcome)
        except OperationFailed as refused:
            call.outcome = Refusal(refused.type, refused.text)
        except ValueError as garbled:  # accepted all the same: of one replica's unsigned word a bit may be another
            call.outcome = Refusal("ValueError", str(garbled))


def choose(
    target: str | int | tuple[int, ...], n: int, f: int, leader: NodeId | None, chance: random.Random
) -> tuple[NodeId, ...]:
    """Whom a target means, now. `leader` is known where the target depends on it."""
    backups = [node for node in range(n) if node != leader]
    match target:
        case "leader":
            return () if leader is None else (leader,)
        case "backup":
            return (chance.choice(backups),)
        case "f backups":
            return tuple(sorted(chance.sample(backups, min(f, len(backups)))))
        case "random":
            return (chance.randrange(n),)
        case "all":
            return tuple(range(n))
    nodes = (target,) if isinstance(target, int) else target
    if isinstance(nodes, str) or max(nodes) >= n:
        raise ConfigError(f"target = {target!r}: the cluster has nodes 0 .. {n - 1}")
    return nodes


def _us(seconds: float) -> Micros:
    return round(seconds * 1_000_000)


def _costs(before: Counters, after: Counters) -> Costs:
    return Costs(
        messages=after.messages - before.messages,
        bytes=after.bytes - before.bytes,
        signatures=after.signed - before.signed,
        macs=after.macs - before.macs,
        fsyncs=after.syncs - before.syncs,
    )
