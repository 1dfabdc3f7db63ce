"""A plug-in of pytest: tests are run with a broken core in place of the real one, `REPLOG_MUTANT` says which.

`python -m pytest -p compare.hunt.planted --named FILE.py::NAME ... FILES`: of these files the tests of these names, in
whatever class they are. It prints a line `PLANTED name` for one that fails by an assertion: what fails otherwise has
tripped and shown nothing.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

import pbft.core
import pbft.macs
from compare.mutants import pbft_by_chance
from compare.mutants.base import MutantSpec
from compare.mutants.catalogue import Broken, mutant_named


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Before the tests and their fixtures are imported, since they take the core by its name."""
    mutant = mutant_named(os.environ["REPLOG_MUTANT"])
    (_plant_raft if mutant.protocol == "raft" else _plant_pbft)(mutant)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--named", action="append", default=[], help="of the files given this test alone, FILE.py::NAME")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = set(config.getoption("--named"))
    if named:
        items[:] = [item for item in items if f"{item.path.name}::{getattr(item, 'originalname', item.name)}" in named]


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
    """In both cores, and for tests that make the part themselves. MacCore has some of its parts from PbftCore: what is
    there is looked up before any is replaced."""
    cores = (pbft.core.PbftCore, pbft.macs.MacCore)
    present = [(core, name, getattr(core, name)) for core in cores for name in _names(change)]
    for core, name, part in present:
        if _fit(change, part):
            broken = type(change.__name__, (change, part), {})
            setattr(core, name, broken)
            setattr(sys.modules[part.__module__], part.__name__, broken)


def _names(change: type[Any]) -> list[str]:
    """Which parts of a core it stands in front of."""
    return [name for kind, name in pbft_by_chance.PARTS.items() if issubclass(change, kind)]


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
