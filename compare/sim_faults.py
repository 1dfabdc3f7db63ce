"""How faults are made in the simulated world: each one function that begins it and gives what ends it.

Here: what a fault does to processes, disks, clocks and links. Not here: when and whom (`compare.sim`), what names mean
(`compare.faults`), nor promises about delays (`compare.timing`).
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, Final

from compare import fault_options as of
from compare.schedules import FigureEight
from compare.variants import MutantSpec
from replog.core import ProtocolSpec
from replog.errors import ConfigError
from replog.sim.cluster import SimCluster, Variant
from replog.sim.disk import Failure
from replog.sim.disturbances import Corrupt, Delay, Disturbance, Lose
from replog.sim.network import Constant, Where
from replog.types import Micros, NodeId, Principal

Ending = Callable[[], object]
Nodes = tuple[NodeId, ...]
LOOK_US: Final = 5_000


class SimFaults:
    """Invariant: what one fault began is ended by its own ending, whatever else goes on; only the cuts of isolate and
    split are mended together, by whichever ends first."""

    def __init__(self, cluster: SimCluster, spec: ProtocolSpec, options: Mapping[str, Any], loss: float) -> None:
        """`options`: the protocol's, as the scenario sets them. `loss`: of every link, when nothing is wrong."""
        self.cluster = cluster
        self.events: Counter[str] = Counter()
        self.liars: set[NodeId] = set()
        """Replicas that ran a broken core, or remember what never was."""
        self.lost: set[NodeId] = set()
        """Replicas that do not start again: their disk says that it is damaged."""
        self._spec = spec
        self._options = options
        self._loss = loss
        self._acts: list[tuple[str, Callable[[], int]]] = []
        self._schedules: list[FigureEight] = []
        self._begins: dict[str, Callable[[Nodes, Any], Ending]] = {
            "crash": self._crash,
            "fail-stop": self._fail_stop,
            "omit-sending": partial(self._omit, sends=True),
            "omit-receiving": partial(self._omit, sends=False),
            "amnesia": self._amnesia,
            "pause": self._pause,
            "slow": self._slow,
            "clock-jump": self._jump,
            "clock-drift": self._drift,
            "slow-disk": self._slow_disk,
            "full-disk": partial(self._break_disk, failure="full"),
            "failing-disk": partial(self._break_disk, failure="failing"),
            "torn-write": partial(self._break_disk, failure="torn"),
            "corrupt-disk": self._rot,
            "old-version": self._older,
            "mutant": self._bug,
            "isolate": self._isolate,
            "split": self._split,
            "apart": self._apart,
            "halves": self._halves,
            "one-way": self._one_way,
            "bridge": self._bridge,
            "ring": self._ring,
            "flap": self._flap,
            "loss": self._lose,
            "late": self._late,
            "noise": self._noise,
            "figure-eight": self._figure_eight,
        }

    def begin(self, name: str, nodes: Nodes, options: Any) -> Ending:
        return self._begins[name](nodes, options)

    def harm(self) -> tuple[object, ...]:
        """All that a fault can change at once."""
        states = [
            (node.up, node.paused, node.lives, node.slow_us, node.disk.slow_us, node.clock.rate_ppm)
            for node in self.cluster.nodes
        ]
        walls = [node.clock.wall_offset_us for node in self.cluster.nodes]
        return states, walls, sorted(self.cluster.network.cuts(), key=repr), self.cluster.network.model.loss

    def struck(self) -> Counter[str]:
        """Faults that show only later, in what they did: each that did anything, and the phases of schedules."""
        found = Counter(name for name, acts in self._acts if acts())
        found["figure-eight"] = sum(schedule.phases for schedule in self._schedules)
        return +found

    # ------------------------------------------------------------------------------------------------------ processes

    def _crash(self, nodes: Nodes, _: Any) -> Ending:
        self.cluster.crash(*nodes)
        return lambda: self._start(nodes)

    def _start(self, nodes: Iterable[NodeId]) -> None:
        self.cluster.restart(*(node for node in nodes if node not in self.lost))

    def _fail_stop(self, nodes: Nodes, _: Any) -> Ending:
        led, since = self.cluster.leader() in nodes, self.cluster.now
        self.cluster.crash(*nodes)
        if led:
            self.cluster.after(LOOK_US, partial(self._notice, nodes, since))
        return lambda: self._start(nodes)

    def _notice(self, nodes: Nodes, since: Micros) -> None:
        """Until none of the others takes one of these for its leader."""
        others = [self.cluster.status(node) for node in range(self.cluster.n) if node not in nodes]
        if any(status is not None and (status.leader < 0 or status.leader in nodes) for status in others):
            self.cluster.after(LOOK_US, partial(self._notice, nodes, since))
        else:
            self.events["ms until a fail-stop was noticed"] += (self.cluster.now - since) // 1_000

    def _amnesia(self, nodes: Nodes, options: of.Amnesia) -> Ending:
        self.cluster.amnesia(*nodes)
        self.cluster.after(_us(options.down_ms), lambda: self._start(nodes))
        return lambda: None

    def _pause(self, nodes: Nodes, _: Any) -> Ending:
        self.cluster.pause(*nodes)
        return lambda: self.cluster.resume(*nodes)

    def _slow(self, nodes: Nodes, options: of.Slowness) -> Ending:
        return self._for_a_while(nodes, lambda node, on: self.cluster.slow(node, on * _us(options.extra_ms)))

    def _jump(self, nodes: Nodes, options: of.Jump) -> Ending:
        rates = {node: self.cluster.nodes[node].clock.rate_ppm for node in nodes}
        way = {True: _us(options.jump_ms), False: -_us(options.jump_ms)}
        return self._for_a_while(nodes, lambda node, on: self.cluster.drift(node, rates[node], way[on]))

    def _drift(self, nodes: Nodes, options: of.Drift) -> Ending:
        return self._for_a_while(nodes, lambda node, on: self.cluster.drift(node, on * options.rate_ppm))

    def _for_a_while(self, nodes: Nodes, do: Callable[[NodeId, bool], None]) -> Ending:
        for node in nodes:
            do(node, True)

        def end() -> None:
            for node in nodes:
                do(node, False)

        return end

    # ---------------------------------------------------------------------------------------------------------- disks

    def _slow_disk(self, nodes: Nodes, options: of.Slowness) -> Ending:
        return self._for_a_while(nodes, lambda node, on: self.cluster.slow_disk(node, on * _us(options.extra_ms)))

    def _break_disk(self, nodes: Nodes, _: Any, failure: Failure) -> Ending:
        disks = [self.cluster.nodes[node].disk for node in nodes]
        before = sum(disk.failures for disk in disks)
        self._acts.append((f"{failure} disk", lambda: sum(disk.failures for disk in disks) - before))
        for disk in disks:
            disk.failure = failure

        def end() -> None:
            for disk in disks:
                disk.failure = ""
            self._start(node for node in nodes if not self.cluster.nodes[node].up)

        return end

    def _rot(self, nodes: Nodes, options: of.Rot) -> Ending:
        self.cluster.crash(*nodes)
        disks = {node: self.cluster.nodes[node].disk for node in nodes}
        rotten = [node for node, disk in disks.items() for _ in range(options.bits) if disk.flip()]
        self._acts.append(("rotten disk", lambda: len(rotten)))
        (self.lost if options.checked else self.liars).update(rotten)
        return lambda: self._start(nodes)

    # ----------------------------------------------------------------------------------------------------------- code

    def older(self, options: of.Older) -> Variant:
        """The protocol as an older version ran it. Raises ValueError if it knows no such options."""
        changed = getattr(options, self._spec.name, {})
        return Variant(self._spec, self._spec.options({**self._options, **changed}))

    def buggy(self, options: of.Bug) -> Variant:
        """Raises ConfigError if there is no such core."""
        where = getattr(options, self._spec.name, "")
        return Variant(MutantSpec(self._spec, _core(where, self._spec.name)), self.cluster.options)

    def _older(self, nodes: Nodes, options: of.Older) -> Ending:
        return self._run_as(nodes, self.older(options))

    def _bug(self, nodes: Nodes, options: of.Bug) -> Ending:
        self.liars |= set(nodes)
        return self._run_as(nodes, self.buggy(options))

    def _run_as(self, nodes: Nodes, variant: Variant) -> Ending:
        def run(variants: dict[NodeId, Variant]) -> None:
            self.cluster.variants = {
                node: one for node, one in self.cluster.variants.items() if node not in nodes
            } | variants
            self._start(nodes)

        run(dict.fromkeys(nodes, variant))
        return lambda: run({})

    # ---------------------------------------------------------------------------------------------------------- links

    def _isolate(self, nodes: Nodes, _: Any) -> Ending:
        rest = [node for node in range(self.cluster.n) if node not in nodes]
        self.cluster.partition(*([node] for node in nodes), rest)
        return self.cluster.heal

    def _split(self, nodes: Nodes, _: Any) -> Ending:
        self.cluster.partition(nodes, [node for node in range(self.cluster.n) if node not in nodes])
        return self.cluster.heal

    def _halves(self, nodes: Nodes, _: Any) -> Ending:
        side = {(nodes[0] + place) % self.cluster.n for place in range(self.cluster.n // 2)} if nodes else set()
        return self._between(lambda a, b: bool(side) and (a in side) != (b in side))

    def _apart(self, nodes: Nodes, _: Any) -> Ending:
        return self._between(lambda a, b: a in nodes and b in nodes)

    def _one_way(self, nodes: Nodes, options: of.Cut) -> Ending:
        return self._between(lambda a, b: (a if options.way == "out" else b) in nodes)

    def _bridge(self, nodes: Nodes, _: Any) -> Ending:
        others = [node for node in range(self.cluster.n) if node not in nodes]
        side = set(others[: len(others) // 2])
        return self._between(lambda a, b: a in others and b in others and (a in side) != (b in side))

    def _ring(self, nodes: Nodes, _: Any) -> Ending:
        around = [*range(self.cluster.n), 0]
        joined = {frozenset(pair) for pair in pairwise(around)}
        return self._between(lambda a, b: frozenset((a, b)) not in joined)

    def _between(self, where: Where) -> Ending:
        """Nothing passes between replicas, from one to the other, where this holds."""
        return self._disturb("partition", self._loser(1.0), lambda a, b: _replicas(a, b) and where(a, b))

    def _flap(self, nodes: Nodes, options: of.Flapping) -> Ending:
        lose, over = self._loser(1.0), False
        self._acts.append(("flap", lambda: lose.acts))

        def turn(cut: bool) -> None:
            if over:
                return
            if cut:
                self.cluster.network.disturb(lose, lambda a, b: _replicas(a, b) and (a in nodes or b in nodes))
            else:
                self.cluster.network.calm(lose)
            self.cluster.after(_us(options.period_ms / 2), lambda: turn(not cut))

        def end() -> None:
            nonlocal over
            over = True
            self.cluster.network.calm(lose)

        turn(cut=True)
        return end

    def _omit(self, nodes: Nodes, options: of.Omission, sends: bool) -> Ending:
        def where(a: Principal, b: Principal) -> bool:
            own, other = (a, b) if sends else (b, a)
            return own in nodes and (options.clients or isinstance(other, int))

        return self._disturb("omission", self._loser(options.chance), where)

    def _late(self, nodes: Nodes, options: of.Lateness) -> Ending:
        delay = Delay(Constant(_us(options.delay_ms)).sampler(self.cluster.world.stream("late")))
        return self._disturb("late", delay, lambda a, b: a in nodes or b in nodes)

    def _noise(self, nodes: Nodes, options: of.Noise) -> Ending:
        corrupt = Corrupt(options.chance, options.checked, self.cluster.world.stream(f"noise/{len(self._acts)}"))
        return self._disturb("noise", corrupt, lambda a, _: a in nodes)

    def _loser(self, chance: float) -> Lose:
        return Lose(chance, self.cluster.world.stream(f"lose/{len(self._acts)}"))

    def _disturb(self, name: str, disturbance: Disturbance, where: Where) -> Ending:
        self._acts.append((name, lambda: disturbance.acts))
        self.cluster.network.disturb(disturbance, where)
        return lambda: self.cluster.network.calm(disturbance)

    def _lose(self, _: Nodes, options: of.Loss) -> Ending:
        self.cluster.network.change(loss=options.loss)
        return lambda: self.cluster.network.change(loss=self._loss)

    def _figure_eight(self, nodes: Nodes, _: Any) -> Ending:
        schedule = FigureEight(self.cluster, nodes[0])
        self._schedules.append(schedule)
        return schedule.release


def _replicas(a: Principal, b: Principal) -> bool:
    return isinstance(a, int) and isinstance(b, int)


def _core(where: str, protocol: str) -> Any:
    module, _, name = where.partition(":")
    if not name:
        raise ConfigError(f"fault mutant: options.{protocol} is missing: name a core as module:Class")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise ConfigError(f"fault mutant: {protocol} = {where!r}: there is no such class") from None


def _us(ms: float) -> Micros:
    return round(ms * 1_000)
