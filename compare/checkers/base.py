"""What every judge gets and gives.

A judge reads the decisions of replicas that never lied and the histories of clients, nothing else (HAZARDS X4): it
knows neither the faults that were injected nor what the liars hold. It says how many items it checked, since a judge
that checked nothing proves nothing (HAZARDS X14), and a sentence for a person when something is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from compare.decisions import Charge, Decisions
from compare.gauges import Held
from compare.history import Call
from replog.types import ClientId, Micros, NodeId, Principal


@dataclass(frozen=True)
class Check:
    """What a judge found. `detail` names operations, replicas and index when not `ok`."""

    ok: bool
    checked: int
    detail: str = ""


@dataclass(frozen=True)
class Conflict:
    """`culprit` signed different things at one place, and `hearers`, correct replicas, were told both between them."""

    hearers: tuple[NodeId, ...]
    culprit: Principal
    place: str
    kind: str
    epoch: int = 0


def _unknown(_: Charge) -> str:
    return "no keys to check it with"


@dataclass(frozen=True)
class Evidence:
    """Of one run. `decisions`: replicas that never lied, those that crashed included. `up`: those of them that run at
    the end and are to have caught up. `calls`: of every client, in order of invocation. `probes`: calls made after the
    faults had ended; they are among `calls` too. `model`: the application's name. `met`: the index at which all of
    `up` were seen at once after the probes; what is decided later, while replicas are ended one by one, need not
    reach all. None if they were never seen so.
    `signed`: digests of the bodies that each Byzantine client signed; it has no other history. `conflicts`: what liars
    told correct replicas, where the engine can know it. `flaw`: why an accusation proves nothing, by public keys alone;
    "" if it does. `held`: what tables of correct replicas and clients held at most, where the engine measures it."""

    decisions: Mapping[NodeId, Decisions]
    up: Sequence[NodeId]
    calls: Sequence[Call]
    probes: Sequence[Call]
    faults_end: Micros
    model: str = "kv"
    met: int | None = None
    signed: Mapping[ClientId, Collection[str]] = field(default_factory=dict)
    conflicts: Sequence[Conflict] = ()
    flaw: Callable[[Charge], str] = _unknown
    held: Mapping[str, Held] = field(default_factory=dict)


class Judge(Protocol):
    """`safety`: a violation makes the run unsafe; otherwise it makes it stalled."""

    name: str
    summary: str
    safety: bool

    def judge(self, evidence: Evidence) -> Check: ...


class Undecided(Exception):
    """The judge gave up within its bound of work: neither right nor wrong may be claimed."""
