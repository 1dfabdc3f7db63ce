"""Every name that a user can give to `compare`, with one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from compare import scenario
from compare.attacks import ATTACKS, told
from compare.attacks.storms import CLIENT_ATTACKS
from compare.checkers import JUDGES, OWN
from compare.faults import FAULTS

Rows = Iterator[tuple[str, str]]


def _scenarios() -> Rows:
    for name, found in scenario.catalogue().items():
        expected = ", ".join(f"{protocol} {side.expect}" for protocol, side in found.protocols.items())
        yield name, f"{found.summary} ({expected})"


def _attacks() -> Rows:
    for kind in ATTACKS.values():
        yield kind.name, f"{kind.summary} ({', '.join(kind.makes)})"
    for name, attack in CLIENT_ATTACKS.items():
        yield name, f"{told(attack)} (a client)"


def _faults() -> Rows:
    for fault in FAULTS.values():
        yield fault.name, f"{fault.summary} ({fault.model}; {', '.join(fault.engines)})"


def _judges() -> Rows:
    for judge in JUDGES:
        yield judge.name, judge.summary
    for kind, judges in OWN.items():
        for judge in judges:
            yield judge.name, f"{judge.summary} (workload {kind})"


LISTS: Final[Mapping[str, Callable[[], Rows]]] = {
    "scenarios": _scenarios,
    "attacks": _attacks,
    "faults": _faults,
    "judges": _judges,
}
