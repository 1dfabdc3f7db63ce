"""One case in virtual time: the run of `compare.sim`, with the strikes of a hunt and an end by what was acknowledged.

Here: what each strike does, and the verdict on one case. Not here: which strikes there are and when.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

from compare import history, judging
from compare.attacks import Attack, Byzantine, Power
from compare.hunt import byzzfuzz, twins
from compare.hunt.case import Case, Strike
from compare.judging import Costs, Observed
from compare.results import Run, Verdict
from compare.sim import LEADER_US, LOOK_US, Trial, _costs, _Process, _us
from compare.witness import Watched
from replog import protocols
from replog.core import ProtocolSpec
from replog.errors import ConfigError
from replog.node import Plug
from replog.replica import Replica
from replog.trace import Recorder
from replog.types import NodeId, Principal

ACKNOWLEDGED: Final = 50
"""Operations below which a run shows too little."""
ENOUGH: Final = 55
"""... and after which, once the faults are over, it need not go on."""
CPU_S: Final = 0.3
"""What one run may take."""


class HuntTrial(Trial):
    """Invariant: a link is cut exactly while a strike that has begun and not ended cuts it."""

    scenario: Case

    def __init__(self, case: Case, spec: ProtocolSpec, recorder: Recorder | None = None) -> None:
        self._cut: Counter[tuple[Principal, Principal]] = Counter()
        self._rounds = byzzfuzz.Cuts(case.cuts)
        super().__init__(case, spec, case.seed, recorder, real_signatures=case.real_signatures)

    def run(self) -> Observed:
        """Clients work until the faults are over and enough was acknowledged, at most `duration_s`."""
        cluster, case = self.cluster, self.scenario
        self._wait(lambda: cluster.leader() is not None, LEADER_US)
        self.began = cluster.now
        self.ended = last = self.began + _us(case.duration_s)
        before = cluster.counters
        self.strangers = {name: self._stranger(name) for name in list(cluster.clients)[case.workload.clients :]}
        for client in self._clients:
            for place in range(case.workload.outstanding):
                _Process(self, client, place).start()
        self._plan_all()
        faulty = self.began + _us(case.faults_end_s) + LOOK_US
        while cluster.now < faulty or (cluster.now < last and sum(call.known for call in self.calls) < ENOUGH):
            cluster.run_for(LOOK_US)
            self._check_invariants()
        self.ended = cluster.now
        costs = _costs(before, cluster.counters)
        for client in self._clients:
            self._probe(client)
        self._wait(self._settled, _us(case.settle_s))
        self._check_invariants()
        return self._observed(costs)

    def _check_invariants(self) -> None:
        """Of correct replicas, often: what one holds at a time may be covered by a checkpoint soon."""
        self.cluster.check_invariants(node for node in self._all if node not in self.liars)

    def _observed(self, costs: Costs) -> Observed:
        """Where frames are lost, so may be what replicas show each other of a liar with two faces (docs/limits.md):
        then only who heard both must know."""
        observed = super()._observed(costs)
        dropped = self.cluster.network.dropped
        if any(dropped[why] for why in ("loss", "cut", "down", "filter")):
            observed.conflicts = [conflict for conflict in observed.conflicts if len(conflict.hearers) == 1]
        return observed

    def _plan_all(self) -> None:
        for place, happening in enumerate(self.scenario.timeline):
            self._plan(place, happening)
        if self.scenario.cuts:
            self.cluster.network.filter = self._rounds.passes
            self.cluster.at(self.began + _us(self.scenario.faults_end_s), self._end_rounds)
        for strike in self.scenario.strikes:
            self.cluster.at(self.began + _us(strike.start_s), partial(self._hit, strike))

    def _end_rounds(self) -> None:
        self.cluster.network.filter = None
        if self._rounds.dropped:
            self.strikes["cut"] += 1

    # --------------------------------------------------------------------------------------------------------- liars

    def _wrap(self, node: NodeId, replica: Replica) -> Plug:
        """Liars of the other strategies do as their schedule says."""
        if self.scenario.strategy == "swarm":
            return super()._wrap(node, replica)
        make = self._twisting if self.scenario.strategy == "byzzfuzz" else self._two_faces
        wrapper = Byzantine(replica, make, node)
        self._wrapped[node] = wrapper
        self._all_wrapped.append(wrapper)
        return Watched(wrapper, self.witness)

    def _twisting(self, me: NodeId, inner: Replica, power: Power) -> Attack:
        liar = byzzfuzz.TwistingLiar(me, inner, power)
        liar.twists = self.scenario.twists
        return liar

    def _two_faces(self, me: NodeId, inner: Replica, power: Power) -> Attack:
        stage = twins.Stage(self._first_side, self.spec.messages.encode)
        return twins.TwoFaces(me, inner, power, stage)

    def _first_side(self) -> frozenset[NodeId]:
        """Whom the first face of each twin hears now."""
        now = self.cluster.now - self.began
        begun = [side for side in self.scenario.sides if _us(side.start_s) <= now]
        return frozenset(begun[-1].first if begun else self._all)

    # ------------------------------------------------------------------------------------------------------- strikes

    def _hit(self, strike: Strike) -> None:
        nodes = self._nodes(strike)
        end = getattr(self, f"_{strike.fault}")(nodes, strike.amount)
        self.strikes[strike.fault] += 1
        self.cluster.at(self.began + _us(strike.end_s), end)

    def _nodes(self, strike: Strike) -> tuple[NodeId, ...]:
        """Whom it strikes, now; nobody leads: the first."""
        if strike.nodes == "leader":
            leader = self.cluster.leader()
            return (0 if leader is None else leader,)
        return tuple(node for node in strike.nodes if node < self.cluster.n)

    def _crash(self, nodes: tuple[NodeId, ...], _: float) -> Callable[[], None]:
        """Who is down already is another strike's to start again."""
        struck = [node for node in nodes if self.cluster.nodes[node].up]
        self.cluster.crash(*struck)
        return lambda: self.cluster.restart(*(node for node in struck if not self.cluster.nodes[node].up))

    def _pause(self, nodes: tuple[NodeId, ...], _: float) -> Callable[[], None]:
        struck = [node for node in nodes if not self.cluster.nodes[node].paused]
        self.cluster.pause(*struck)
        return lambda: self.cluster.resume(*struck)

    def _isolate(self, nodes: tuple[NodeId, ...], _: float) -> Callable[[], None]:
        pairs = [(node, other) for node in nodes for other in self._all if other != node]
        return self._cutting([*pairs, *((b, a) for a, b in pairs)])

    def _deaf(self, nodes: tuple[NodeId, ...], _: float) -> Callable[[], None]:
        return self._cutting([(other, node) for node in nodes for other in self._all if other != node])

    def _mute(self, nodes: tuple[NodeId, ...], _: float) -> Callable[[], None]:
        return self._cutting([(node, other) for node in nodes for other in self._all if other != node])

    def _split(self, nodes: tuple[NodeId, ...], _: float) -> Callable[[], None]:
        rest = [node for node in self._all if node not in nodes]
        return self._cutting([*product(nodes, rest), *product(rest, nodes)])

    def _bridge(self, nodes: tuple[NodeId, ...], _: float) -> Callable[[], None]:
        first, second = [*nodes, *self._all][:2]
        if first == second:
            second = (first + 1) % self.cluster.n
        return self._cutting([(first, second), (second, first)])

    def _unreachable(self, nodes: tuple[NodeId, ...], _: float) -> Callable[[], None]:
        return self._cutting([*product(nodes, self._clients), *product(self._clients, nodes)])

    @property
    def _all(self) -> range:
        return range(self.cluster.n)

    def _cutting(self, pairs: list[tuple[Any, Any]]) -> Callable[[], None]:
        self._cut.update(pairs)
        self._set_links()

        def mend() -> None:
            self._cut.subtract(pairs)
            self._set_links()

        return mend

    def _set_links(self) -> None:
        self.cluster.heal()
        for (source, target), number in self._cut.items():
            if number > 0:
                self.cluster.cut(source, target, one_way=True)

    def _loss(self, _: tuple[NodeId, ...], amount: float) -> Callable[[], None]:
        self.cluster.network.change(loss=amount)
        return lambda: self.cluster.network.change(loss=self.scenario.network.loss)

    def _duplicate(self, _: tuple[NodeId, ...], amount: float) -> Callable[[], None]:
        self.cluster.network.change(duplicate=amount)
        return lambda: self.cluster.network.change(duplicate=self.scenario.network.duplicate)

    def _reorder(self, _: tuple[NodeId, ...], amount: float) -> Callable[[], None]:
        self.cluster.network.change(reorder=amount)
        return lambda: self.cluster.network.change(reorder=self.scenario.network.reorder)

    def _slow(self, nodes: tuple[NodeId, ...], amount: float) -> Callable[[], None]:
        return self._setting(self.cluster.slow, nodes, max(0, int(amount)))

    def _disk(self, nodes: tuple[NodeId, ...], amount: float) -> Callable[[], None]:
        return self._setting(self.cluster.slow_disk, nodes, max(0, int(amount)))

    @staticmethod
    def _setting(set_to: Callable[[NodeId, int], None], nodes: tuple[NodeId, ...], us: int) -> Callable[[], None]:
        def to(value: int) -> None:
            for node in nodes:
                set_to(node, value)

        to(us)
        return partial(to, 0)

    def _clock(self, nodes: tuple[NodeId, ...], amount: float) -> Callable[[], None]:
        """The rate ends with the strike, the jump of the time of day stays."""
        for node in nodes:
            self.cluster.drift(node, int(amount), int(amount))

        def steady() -> None:
            for node in nodes:
                self.cluster.drift(node)

        return steady


# ------------------------------------------------------------------------------------------------------------- verdict


@dataclass(frozen=True)
class Outcome:
    """What one hunt found. `judge`: who objected, "" if nobody did."""

    protocol: str
    strategy: str
    seed: int
    verdict: Verdict
    judge: str
    detail: str
    acknowledged: int
    real: bool
    cpu_s: float

    @property
    def failed(self) -> bool:
        return bool(self.judge)


def hunt(case: Case, spec: ProtocolSpec | None = None) -> Outcome:
    """Run the case and judge it."""
    began = time.process_time()
    run = judged(case, spec)
    judge, detail = objection(run)
    known = run.acknowledged or 0
    few = not judge and known < ACKNOWLEDGED
    verdict = Verdict.VACUOUS if few else run.verdict
    cpu_s = time.process_time() - began
    return Outcome(case.protocol, case.strategy, case.seed, verdict, judge, detail, known, case.real_signatures, cpu_s)


def judged(case: Case, spec: ProtocolSpec | None = None, recorder: Recorder | None = None) -> Run:
    """An exception of ours is a verdict, too, with its place. Raises ConfigError for a case that cannot be run."""
    spec = spec if spec is not None else spec_of(case)
    try:
        return judging.conclude(HuntTrial(case, spec, recorder).run())
    except ConfigError:
        raise
    except (AssertionError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        from compare.runner import _why

        n = case.side(case.protocol).n or spec.replicas(case.f)
        return judging.failed(case, case.protocol, "sim", case.seed, (n, case.f), _why(error))


def objection(run: Run) -> tuple[str, str]:
    """Which judge objects first and what it says; ("", "") if none does. Safety goes before liveness."""
    from compare.results import SAFETY

    objecting = [name for name, check in run.checks.items() if not check.ok]
    objecting.sort(key=lambda name: name not in SAFETY)
    if objecting and run.verdict in (Verdict.UNSAFE, Verdict.STALLED):
        return objecting[0], run.checks[objecting[0]].detail
    if run.verdict is Verdict.ERROR:
        broken = run.error.startswith(("AssertionError", "RuntimeError"))
        return ("invariants" if broken else "error"), run.error
    return "", ""


def spec_of(case: Case) -> ProtocolSpec:
    """The protocol's own, or that of the broken core that the case names. Raises ConfigError for an unknown one."""
    if not case.mutant:
        return protocols.find(case.protocol)
    from compare.mutants.catalogue import mutant_named

    return mutant_named(case.mutant).spec


def record(case: Case, folder: Path) -> Outcome:
    """Run it once more and keep the whole trace and the history in `folder`."""
    recorder = Recorder("all")
    trial = HuntTrial(case, spec_of(case), recorder)
    with suppress(AssertionError, RuntimeError):  # the trace up to there is what is wanted
        trial.run()
    recorder.write(folder / "trace.jsonl")
    history.write(folder / "history.jsonl", trial.calls)
    return hunt(case)
