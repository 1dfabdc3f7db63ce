"""From what a run left behind to its line in the results: the same for both engines.

Here: choosing what judges may see, calling them, and the figures. Not here: making the run (`compare.runner`,
`compare.live`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from compare.checkers import JUDGES, OWN, Check, Conflict, Evidence, Undecided
from compare.decisions import Charge, collect
from compare.faults import Engine
from compare.gauges import Held
from compare.history import Call
from compare.results import SAFETY, CheckResult, Finding, Latency, Run, Verdict, verdict_of
from compare.scenario import Scenario
from compare.sweep import flags
from replog import protocols
from replog.codec import Domain
from replog.core import Accuse
from replog.evidence import Origin
from replog.keys import Verifier
from replog.types import ClientId, Micros, NodeId

LISTED_US: Final = 100_000
"""How long a window of unavailability is at least that is listed."""


@dataclass(frozen=True)
class Costs:
    """What all processes together did while the workload ran; None where the engine cannot know."""

    messages: int | None = None
    bytes: int | None = None
    signatures: int | None = None
    macs: int | None = None
    fsyncs: int | None = None


@dataclass
class Observed:
    """One run as it was. Times are of the engine's clock, in microseconds.

    `began`, `ended`: of the workload. `liars`: replicas an attack was wrapped around. `gone`: replicas that crashed
    for good. `signed`: by Byzantine clients, as judges get it. `acts`, `events`: see `Run`. `lines`: decision lines
    of all replicas; what liars say in them is left out (HAZARDS X4). `met`, `conflicts`: as judges get them. `broken`:
    which of our own processes ended unasked; then judges are heard but there is no verdict, whatever they say.
    `cluster`, `verifier`: its name and public keys, to check accusations with. `origin`: their certificates, if its
    replicas signed what a stranger can check.
    """

    scenario: Scenario
    protocol: str
    engine: Engine
    seed: int
    n: int
    lines: Iterable[dict[str, Any]]
    calls: Sequence[Call]
    probes: Sequence[Call]
    began: Micros
    ended: Micros
    met: int | None = None
    liars: tuple[NodeId, ...] = ()
    gone: tuple[NodeId, ...] = ()
    attack_actions: int = 0
    fault_actions: int = 0
    acts: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    signed: Mapping[ClientId, Collection[str]] = field(default_factory=dict)
    broken: str = ""
    conflicts: Sequence[Conflict] = ()
    cluster: str = ""
    verifier: Verifier | None = None
    origin: Origin | None = None
    costs: Costs = field(default_factory=Costs)
    flaw: Callable[[Charge], str] | None = None
    """How accusations are checked, where it takes more than `cluster`, n and f."""
    held: Mapping[str, Held] = field(default_factory=dict)
    """What tables held at most, where it is measured."""


def evidence_of(observed: Observed) -> Evidence:
    correct = [node for node in range(observed.n) if node not in observed.liars]
    return Evidence(
        decisions=collect(observed.lines, correct),
        up=[node for node in correct if node not in observed.gone],
        calls=observed.calls,
        probes=observed.probes,
        faults_end=observed.began + _us(observed.scenario.faults_end_s),
        model=observed.scenario.workload.kind,
        met=observed.met,
        signed=observed.signed,
        conflicts=observed.conflicts,
        flaw=observed.flaw or partial(_flaw, observed),
        held=observed.held,
    )


def _flaw(observed: Observed, charge: Charge) -> str:
    """Why this accusation convicts nobody; "" if it does."""
    spec = protocols.find(observed.protocol)
    if observed.verifier is None or not hasattr(spec, "convict"):
        return "there are no keys to check it with"
    try:
        accusation = accusation_of(observed.protocol, charge)
        spec.convict(accusation, Domain(observed.cluster), observed.verifier, (observed.n, observed.scenario.f))
    except ValueError as reason:
        return str(reason)
    return ""


def accusation_of(protocol: str, charge: Charge) -> Accuse:
    """As the replica made it. Raises ValueError for bytes that are no messages."""
    messages = protocols.find(protocol).messages
    first, *rest = (messages.decode(bytes.fromhex(raw)) for raw in charge.raw)
    return Accuse(charge.culprit, charge.kind, first, rest[0] if rest else None, charge.place)


def conclude(observed: Observed) -> Run:
    """Judge the run."""
    checks, undecided = _heard(evidence_of(observed))
    acknowledged = sum(call.known for call in observed.calls)
    verdict, error = verdict_of(checks, _lived(observed), _acts(observed)), ""
    if observed.broken or (undecided and verdict is not Verdict.UNSAFE):
        verdict, error = Verdict.ERROR, observed.broken or undecided
    return Run(
        **_which(observed.scenario, observed.protocol, observed.engine, observed.seed, observed.n),
        faulty=sorted({*observed.liars, *observed.gone}),
        verdict=verdict,
        safety=_finding(verdict, [check for name, check in checks.items() if name in SAFETY]),
        liveness=_finding(verdict, [check for name, check in checks.items() if name not in SAFETY]),
        attack_actions=observed.attack_actions,
        fault_actions=observed.fault_actions,
        acts=dict(sorted(observed.acts.items())),
        events=dict(sorted(observed.events.items())),
        checks={name: _told(check) for name, check in checks.items()},
        submitted=len(observed.calls),
        acknowledged=acknowledged,
        **_figures(observed),
        error=error,
    )


def failed(scenario: Scenario, protocol: str, engine: Engine, seed: int, size: tuple[int, int], why: str) -> Run:
    """A run that broke off: nothing is known of what it would have shown."""
    which = {**_which(scenario, protocol, engine, seed, size[0]), "f": size[1]}
    return Run(**which, faulty=[], verdict=Verdict.ERROR, safety=None, liveness=None, checks={}, error=why)


def _which(scenario: Scenario, protocol: str, engine: Engine, seed: int, n: int) -> dict[str, Any]:
    """Which run it is, and how to repeat it."""
    handle = shlex.quote(scenario.handle)
    added = f" --attack {shlex.quote(scenario.added)}" if scenario.added else ""
    added += flags(scenario.settings)
    return {
        "protocol": protocol,
        "scenario": scenario.name,
        "engine": engine,
        "seed": seed,
        "n": n,
        "f": scenario.f,
        "replay": f"replog compare {handle}{added} --protocol {protocol} --engine {engine} --seed {seed}",
    }


def _heard(evidence: Evidence) -> tuple[dict[str, Check], str]:
    """What each judge found, and why one could not decide."""
    checks, undecided = {}, ""
    for judge in (*JUDGES, *OWN.get(evidence.model, ())):
        try:
            checks[judge.name] = judge.judge(evidence)
        except Undecided as reason:
            undecided = str(reason)
    return checks, undecided


def _lived(observed: Observed) -> int:
    """Operations that were acknowledged; of a run with an attack, while it lasted: what nobody needed was not tried."""
    known = [call.returned for call in observed.calls if call.returned is not None]
    if not observed.scenario.attacked:
        return len(known)
    attacks = [happening for happening in observed.scenario.timeline if happening.attack is not None]
    start = observed.began + _us(min(attack.start_s for attack in attacks))
    ends = [observed.ended if attack.end_s is None else observed.began + _us(attack.end_s) for attack in attacks]
    return sum(start <= returned <= max(ends) for returned in known)


def _us(seconds: float) -> Micros:
    return round(seconds * 1_000_000)


def _acts(observed: Observed) -> list[int]:
    """How much was carried out of each kind of thing that the scenario lists."""
    scenario = observed.scenario
    attacks = [observed.attack_actions] if scenario.attacked else []
    return attacks + ([observed.fault_actions] if scenario.faulted else [])


def _finding(verdict: Verdict, checks: Sequence[Check]) -> Finding:
    """An objection stands however the run ended; that nobody objected means something only with a verdict."""
    if not all(check.ok for check in checks):
        return "violated"
    return None if verdict is Verdict.ERROR else "held"


def _told(check: Check) -> CheckResult:
    return CheckResult(ok=check.ok, checked=check.checked, detail=check.detail)


def _figures(observed: Observed) -> dict[str, Any]:
    """How well it went while the workload ran, and what that cost."""
    worked = [call for call in observed.calls if call.known and (call.returned or 0) <= observed.ended]
    costs = observed.costs
    return {
        "throughput_ops_s": _round(len(worked) * 1_000_000 / max(1, observed.ended - observed.began)),
        "latency_ms": _latency(worked),
        "unavailable_s": _round(_outage(observed) / 1_000_000),
        "unavailable_windows_s": [
            (_round((start - observed.began) / 1_000_000), _round((end - observed.began) / 1_000_000))
            for start, end in _windows(observed)
        ],
        "messages_per_op": _per(costs.messages, len(worked)),
        "bytes_per_op": _per(costs.bytes, len(worked)),
        "signatures_per_op": _per(costs.signatures, len(worked)),
        "macs_per_op": _per(costs.macs, len(worked)),
        "fsyncs_per_op": _per(costs.fsyncs, len(worked)),
    }


def _per(total: int | None, operations: int) -> float | None:
    return None if total is None or not operations else _round(total / operations)


def _round(value: float) -> float:
    return round(value, 3)


def _latency(calls: Iterable[Call]) -> Latency | None:
    times = sorted(call.returned - call.invoke for call in calls if call.returned is not None)
    if not times:
        return None
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    return Latency(p50=_round(p50 / 1000), p99=_round(p99 / 1000), max=_round(times[-1] / 1000))


def _windows(observed: Observed) -> list[tuple[Micros, Micros]]:
    """Times in which at least one client waited and none was answered, of LISTED_US or more."""
    answers = sorted(call.returned for call in observed.calls if call.returned is not None)
    asked = [(call.invoke, call.returned) for call in observed.calls if call.invoke <= observed.ended]
    windows, last = [], observed.began
    for answer in [*answers, max([observed.ended, *answers])]:
        if answer - last >= LISTED_US:
            start = _waiting_from(asked, last, answer)
            if answer - start >= LISTED_US:
                windows.append((start, answer))
        last = answer
    return windows


def _waiting_from(asked: Sequence[tuple[Micros, Micros | None]], last: Micros, answer: Micros) -> Micros:
    """From when on, between two answers, a client waited; the second answer if none did."""
    waiting = [invoke for invoke, returned in asked if invoke < answer and (returned is None or returned > last)]
    return max(last, min(waiting, default=answer))


def _outage(observed: Observed) -> Micros:
    """The longest time in which at least one client waited and none was answered."""
    answers = sorted(call.returned for call in observed.calls if call.returned is not None)
    asked = [(call.invoke, call.returned) for call in observed.calls if call.invoke <= observed.ended]
    longest, last = 0, observed.began
    for answer in [*answers, max([observed.ended, *answers])]:
        if answer - last > longest:
            longest = max(longest, answer - _waiting_from(asked, last, answer))
        last = answer
    return longest
