"""A plug-in of pytest: tests are run with a broken core in place of the real one, `REPLOG_MUTANT` says which.

`python -m pytest -p compare.hunt.planted TESTS`. It prints a line `PLANTED name` for a test that fails by an assertion:
what fails otherwise has tripped and shown nothing.
"""

from __future__ import annotations

import os
from typing import Any

import pbft.core
import pbft.macs
from compare.mutants import pbft_by_chance
from compare.mutants.base import MutantSpec
from compare.mutants.catalogue import Broken, mutant_named


def pytest_configure() -> None:
    """Before the tests are imported, since they take the core by its name."""
    mutant = mutant_named(os.environ["REPLOG_MUTANT"])
    (_plant_raft if mutant.protocol == "raft" else _plant_pbft)(mutant)


def pytest_runtest_makereport(item: Any, call: Any) -> None:
    error = call.excinfo
    if call.when == "call" and error is not None and error.typename in ("AssertionError", "Failed"):
        print(f"\nPLANTED {item.nodeid}", flush=True)  # noqa: T201


def _plant_raft(mutant: Broken) -> None:
    import raft.spec

    assert isinstance(mutant.spec, MutantSpec)
    core: Any = mutant.spec.makes
    for module in (raft, raft.core, raft.spec):
        module.RaftCore = core  # type: ignore[attr-defined]


def _plant_pbft(mutant: Broken) -> None:
    """Its parts in front of those of both cores, and what it changes of the core itself in the core's own class."""
    assert isinstance(mutant.spec, MutantSpec)
    for change in getattr(mutant.spec.makes, "changes", ()):
        if issubclass(change, pbft.core.PbftCore):
            _replace(pbft.core.PbftCore, change)
        else:
            _in_front(change)
    if mutant.spec.rules is not None:
        _weaken(mutant.spec)


def _replace(core: type[Any], change: type[Any]) -> None:
    for name, value in vars(change).items():
        if callable(value) or name.endswith("_type"):
            setattr(core, name, value)


def _in_front(change: type[Any]) -> None:
    for core in (pbft.core.PbftCore, pbft.macs.MacCore):
        for kind, name in pbft_by_chance.PARTS.items():
            present = getattr(core, name)
            if issubclass(change, kind) and _fit(change, present):
                setattr(core, name, type(change.__name__, (change, present), {}))


def _fit(change: type[Any], present: type[Any]) -> bool:
    """Whether one class can have both: parts of the other mode cannot."""
    (base,) = change.__bases__
    return issubclass(present, base) or issubclass(base, present)


def _weaken(spec: MutantSpec) -> None:
    """What clients are told to take for an answer."""
    import pbft as package

    honest: Any = type(package.SPEC)
    right, rules = honest.client_rules, spec.rules
    assert rules is not None
    honest.client_rules = lambda self, *size: rules(right(self, *size))
