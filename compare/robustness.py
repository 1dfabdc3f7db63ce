"""What a service of PBFT is still worth under one attack at a time, with and without `robust`. [Clement09]

Simulated: four replicas and the clients, each on a machine of its own that is ten times slower than the reference, so
that few operations saturate them; links of 10 Gbit/s. Clients put small values in closed loops. After a warm-up the
attack begins and what is acknowledged from then on is counted, relative to the same without an attack. Of censorship:
the median latency of the client that is kept back, relative to that of the others.

    python -m compare.robustness --seconds 60 --workers 2 [ATTACK ...]

`--live` does it to real processes instead: see `compare.robustness_live`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from compare import robustness_live
from compare.arguments import WORKERS, seconds
from compare.attacks import ATTACKS, Byzantine, Power
from compare.attacks.byzantine_client import ByzantineClient
from compare.attacks.storms import CLIENT_ATTACKS
from compare.witness import Watched, Witness
from pbft import SPEC
from replog.apps.kv import KeyValue
from replog.client import Done, Failed
from replog.keys import Signer
from replog.replica import Replica
from replog.sim.cluster import SimCluster
from replog.sim.costs import REFERENCE
from replog.types import ClientId, Message, Micros, NodeId, Principal

SECOND: Final = 1_000_000
SLOWER: Final = 10
COSTS: Final = REFERENCE.slower(SLOWER, cores=0)
"""Each process on a machine of its own."""
OPTIONS: Final = {"view_timeout_us": 4 * SECOND, "view_length_us": 20 * SECOND}
"""The time-out fits the slower machine; views end within the time that is measured."""
CLIENTS: Final = 24
OUTSTANDING: Final = 4
PAUSE_US: Final = 1_000
"""A client pauses so long times its place after each answer: else all of them end up asking at the same moment."""
LIARS: Final = 4
"""Byzantine clients, among which the rate of an attack by clients is divided."""
WARM_UP_US: Final = 6 * SECOND


@dataclass(frozen=True)
class Case:
    """One attack. `target`: the replica that lies. `rate`: of Byzantine clients together, as a multiple of what correct
    ones get done without them; under MACs, requests a second."""

    name: str
    auth: str = "signatures"
    target: NodeId | None = None
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    rate: float = 0
    colluders: tuple[NodeId, ...] = ()
    """More replicas that lie, in a cluster that stands as many."""
    outstanding: int = OUTSTANDING
    """Operations of each client at a time. With few of them it is the primary that sets the pace, not the machines."""
    least: float = 0
    """The bar: of throughput, what is left at least; of latency, how much longer it is at most."""

    @property
    def label(self) -> str:
        named = [self.name] if self.auth == "signatures" else [self.name, self.auth]
        named += [f"{self.outstanding} a client"] if self.outstanding != OUTSTANDING else []
        named += ["of one client"] if self.censors and self.name != "censor" else []
        named += [f"by {len(self.liars)} of {3 * self.f + 1}"] if self.colluders else []
        return " ".join([*named, *(f"{name}={value:g}" for name, value in self.options.items() if name != "client")])

    @property
    def liars(self) -> tuple[NodeId, ...]:
        return (*(() if self.target is None else (self.target,)), *self.colluders)

    @property
    def f(self) -> int:
        return max(1, len(self.liars))

    @property
    def cluster(self) -> str:
        return f"{self.auth}, {3 * self.f + 1} replicas, {self.outstanding} a client"

    @property
    def censors(self) -> bool:
        return "client" in self.options

    @property
    def by_clients(self) -> bool:
        return self.name in CLIENT_ATTACKS


def _slow(delay_ms: int, outstanding: int = OUTSTANDING, auth: str = "signatures") -> Case:
    return Case("slow-primary", auth, 0, {"delay_ms": delay_ms}, outstanding=outstanding, least=0.80)


def _flood(rate_s: int, size: int = 0) -> Case:
    """From below what was noticed by counting messages; of small ones, and of few large ones."""
    options = {"rate_s": rate_s, "size": size} if size else {"rate_s": rate_s}
    return Case("flood", target=3, options=options, least=0.85)


def _censor(delay_ms: int, auth: str = "signatures") -> Case:
    """0: for good."""
    return Case("censor", auth, target=0, options={"delay_ms": delay_ms, "client": "c0"}, least=3)


def _choosy(outstanding: int = OUTSTANDING, auth: str = "signatures", **more: Any) -> Case:
    return Case("watched-only", auth, target=0, outstanding=outstanding, **{"least": 0.80, **more})


FAULT_FREE: Final = {auth: Case("none", auth) for auth in ("signatures", "macs")}


def fault_free(case: Case) -> Case:
    """The same cluster without an attack: liars that are told nothing are honest."""
    target = case.target if case.colluders else None
    return Case("none", case.auth, colluders=case.colluders, target=target, outstanding=case.outstanding)


CASES: Final = (
    Case("garbage-signatures", rate=10, least=0.95),
    Case("retransmission-storm", rate=10, least=0.95),
    Case("big-mac", "macs", rate=20, least=0.95),
    Case("wrong-for-primary", "macs", rate=20, least=0.95),
    Case("framing", "macs", target=0, rate=4, least=0.80),
    *(_slow(delay_ms) for delay_ms in (50, 200, 500, 1000, 2000, 3500)),
    Case("read-storm", rate=1, least=0.85),
    Case("read-storm", rate=10, least=0.85),
    Case("large-reads", rate=0.002, least=0.85),
    Case("large-requests", rate=1, least=0.85),
    *(_flood(rate_s, size) for rate_s, size in ((800, 1_000_000), (45, 1_000_000), (100, 250_000), (20, 1_000_000))),
    *(_flood(rate_s) for rate_s in (500, 1_000, 2_000, 4_000)),
    *(_slow(delay_ms, outstanding) for outstanding in (1, 2) for delay_ms in (20, 40, 60, 100, 180)),
    *(_slow(delay_ms, auth="macs") for delay_ms in (20, 60)),
    *(_choosy(outstanding, auth) for auth in ("signatures", "macs") for outstanding in (4, 1)),
    *(_choosy(auth=auth, options={"tells": True}, colluders=(3,)) for auth in ("signatures", "macs")),
    *(_choosy(outstanding, options={"client": "c0"}, least=3) for outstanding in (4, 1)),
    _choosy(auth="macs", options={"client": "c0"}, least=3),
    *(Case("bursts", target=0, options={"period_ms": period_ms}, least=0.80) for period_ms in (300, 400, 470)),
    Case("flood", target=3, options={"rate_s": 4_000}, colluders=(5,), least=0.85),
    *(_censor(delay_ms) for delay_ms in (0, 150, 200, 300, 1000, 3000)),
    *(_censor(delay_ms, "macs") for delay_ms in (40, 60, 100)),
)


def puts(name: str) -> Iterator[list[bytes]]:
    number = 0
    while True:
        number += 1
        yield [KeyValue.operation("put", f"{name}/{number % 100}", "v")]


@dataclass(frozen=True)
class Outcome:
    operations_s: float
    censored_ms: float
    others_ms: float
    acts: int
    """Of liars, as far as they reached anybody."""
    views: int
    cpu_us: float
    """Of the replicas together, for one operation."""
    shunned: int
    floods: int


class Run:
    """One cluster under one attack, or none."""

    spec: ClassVar[Any] = SPEC

    def __init__(
        self, case: Case, robust: bool | Sequence[str], usual: float = 0, clients: int = CLIENTS, seed: int = 1
    ) -> None:
        """`usual`: operations a second without attack, which the rate of attacking clients is a multiple of."""
        self._case, self._usual = case, usual
        self._wrapped: dict[NodeId, Byzantine] = {}
        self._liars = set(case.liars)
        self._witness = Witness(self._liars, self._told)
        self._names = [f"c{number}" for number in range(clients)]
        self._strangers = [f"x{number}" for number in range(LIARS)] if case.by_clients else []
        names, n = self._names + self._strangers, self.spec.replicas(case.f)
        self._honest = [node for node in range(n) if node not in self._liars]
        options = self._options(robust if isinstance(robust, bool) else list(robust))
        self.cluster = SimCluster(self.spec, n, case.f, options, seed=seed, clients=names, costs=COSTS, wrap=self._wrap)
        self._waits: dict[ClientId, list[Micros]] = {name: [] for name in self._names}
        for place, name in enumerate(self._names):
            load = self.cluster.client(name).load
            load(puts(name), case.outstanding, on_done=self._timed(name), pause_us=place * PAUSE_US)

    def _options(self, robust: bool | list[str]) -> dict[str, Any]:
        return {**OPTIONS, "robust": robust, "auth": self._case.auth}

    def _wrap(self, node: NodeId, replica: Replica) -> Any:
        kind = ATTACKS.get(self._case.name)
        self._wrapped[node] = Byzantine(replica, kind.makes[self.spec.name] if kind is not None else None, node)
        return self._wrapped[node] if kind is None else Watched(self._wrapped[node], self._witness)

    def _told(self, node: NodeId, sender: Principal, message: Message) -> None:
        """A correct replica is about to hear this."""
        if isinstance(sender, int) and sender in self._liars:
            self._wrapped[sender].arrived(node, message)

    def _timed(self, name: ClientId) -> Any:
        def done(invoked: Micros, _: Sequence[bytes], end: Done | Failed) -> None:
            if isinstance(end, Done):
                self._waits[name].append(self.cluster.now - invoked)

        return done

    def attack(self) -> list[ByzantineClient]:
        case, cluster, liars = self._case, self.cluster, tuple(sorted(self._liars))
        if liars:
            signers: dict[Principal, Signer] = {node: cluster.signer(node) for node in liars}
            verifier, n = cluster.verifier(), cluster.n
            power = Power(liars, signers, verifier, cluster.domain, n, case.f, KeyValue, options=case.options)
            for node in liars:
                self._wrapped[node].begin(cluster.nodes[node].clock.monotonic(), power)
        rate = case.rate if case.auth == "macs" else case.rate * self._usual
        pause_us = max(1, int(LIARS * SECOND / rate)) if rate else 0
        make = CLIENT_ATTACKS.get(case.name, ByzantineClient)
        strangers = [make(cluster, name, 1, pause_us, 10**15) for name in self._strangers]
        for stranger in strangers:
            stranger.start()
        return strangers

    def measure(self, seconds: float, warm_up: Micros = WARM_UP_US) -> Outcome:
        cluster = self.cluster
        cluster.run_for(warm_up)
        for waits in self._waits.values():
            waits.clear()
        before = cluster.count(range(cluster.n)).busy_us
        liars = self.attack()
        cluster.run_for(int(seconds * SECOND))
        done = sum(map(len, self._waits.values()))
        censored = self._waits[self._names[0]]
        others = [wait for name in self._names[1:] for wait in self._waits[name]]
        acts = sum(wrapped.actions for wrapped in self._wrapped.values())
        return Outcome(
            operations_s=done / seconds,
            censored_ms=statistics.median(censored) / 1000 if censored else float("inf"),
            others_ms=statistics.median(others) / 1000 if others else 0,
            acts=acts + sum(sum(liar.acts.values()) for liar in liars),
            views=max(status.view for node in self._honest if (status := cluster.status(node)) is not None),
            cpu_us=(cluster.count(range(cluster.n)).busy_us - before) / max(1, done),
            shunned=sum(node.shunned.count for node in cluster.nodes),
            floods=sum(node.turns.floods.total() for node in cluster.nodes if node.turns is not None),
        )


# -------------------------------------------------------------------------------------------------------------- table


def run(case: Case, robust: bool, usual: float, seconds: float) -> Outcome:
    return Run(case, robust, usual).measure(seconds)


def figure(case: Case, outcome: Outcome, usual: float) -> float:
    """Of throughput, what is left; of censorship, how many times as long the censored client waits."""
    if case.censors:
        return outcome.censored_ms / max(outcome.others_ms, 0.001)
    return outcome.operations_s / usual


def meets(case: Case, value: float) -> bool:
    return value <= case.least if case.censors else value >= case.least


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.robustness", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"of {', '.join(sorted({c.name for c in CASES}))}")
    parser.add_argument("--seconds", type=seconds, default=None, help="measured, after the warm-up: 60, or 10 if live")
    parser.add_argument("--workers", type=WORKERS, default=1, help="simulated clusters at a time: 1")
    parser.add_argument("--live", action="store_true", help="real processes on this machine, one cluster at a time")
    given = parser.parse_args(arguments)
    known = {case.name for case in (robustness_live.CASES if given.live else CASES)}
    if unknown := sorted(set(given.attacks) - known):
        live = " with --live" if given.live else ""
        names = ", ".join(sorted(known))
        parser.error(f"argument ATTACK: {unknown[0]!r:.80}: no such attack{live}; there are {names}")
    chosen = [case for case in CASES if not given.attacks or case.name in given.attacks]
    if given.live:
        return 1 if _live(given.attacks, given.seconds or 10.0) else 0
    with ProcessPoolExecutor(given.workers) as pool:
        missed = _table(pool, chosen, given.seconds or 60.0)
    return 1 if missed else 0


def _live(names: Sequence[str], seconds: float) -> int:
    missed = 0
    for line, is_missed in robustness_live.table(names, seconds):
        _say(line)
        missed += is_missed
    return missed


def _table(pool: ProcessPoolExecutor, cases: Sequence[Case], seconds: float) -> int:
    """Print a line a case as it is known; how many bars were missed with `robust` on."""
    bases = {
        (base, robust): pool.submit(run, base, robust, 0, seconds)
        for base in dict.fromkeys(map(fault_free, cases))
        for robust in (False, True)
    }
    for (case, robust), base in bases.items():
        found = base.result()
        _say(
            f"no attack, {case.cluster}, robust {'on' if robust else 'off'}: {found.operations_s:.0f} operations/s, "
            f"{found.cpu_us:.0f} us of CPU each, {found.views} view changes"
        )
    for case in dict.fromkeys(case for case, _ in bases):
        on, off = bases[case, True].result(), bases[case, False].result()
        _say(f"cost of robust, {case.cluster}: {100 * (on.cpu_us / off.cpu_us - 1):+.1f} % of CPU an operation")
    usual = {key: base.result().operations_s for key, base in bases.items()}
    runs = [
        (case, robust, pool.submit(run, case, robust, usual[fault_free(case), robust], seconds))
        for case in cases
        for robust in (False, True)
    ]
    _say(f"{'attack':34} {'robust':7} {'left':>8} {'bar':>7}  views acts shunned floods")
    missed = 0
    for case, robust, future in runs:
        found = future.result()
        value = figure(case, found, usual[fault_free(case), robust])
        verdict = ("ok" if meets(case, value) else "MISSED") if robust else ""
        missed += verdict == "MISSED"
        sign = "<=" if case.censors else ">="
        _say(
            f"{case.label:34} {'on' if robust else 'off':7} {value:8.2f} {sign}{case.least:5.2f}  "
            f"{found.views} {found.acts} {found.shunned} {found.floods} {verdict}"
        )
    return missed


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
