"""Functions that are broken on purpose: each row of the map in `pbft/README.md` has at least one, and a test of that
row fails with it.

Here: what a mutant is, how it is put in place and how a test is called. The mutants themselves are in the other files,
by section of the rules. A mutant is written as the function that takes the place of the broken one; its first argument
is the right one, so that it can lie about one thing and leave the rest as it is.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import itertools
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[2]
FILES = {
    "nc": "pbft/test_normal_case",
    "vc": "pbft/test_view_change",
    "li": "pbft/test_liveness",
    "cp": "pbft/test_checkpoint",
    "du": "pbft/test_durability",
    "st": "pbft/test_state_transfer",
    "rq": "pbft/test_requests",
    "rd": "pbft/test_reads",
    "te": "pbft/test_tentative",
    "ma": "pbft/test_macs",
    "re": "pbft/test_recovery",
    "ev": "pbft/test_evidence",
    "bl": "pbft/test_blame",
    "go": "pbft/test_golden",
    "mv": "pbft/test_mac_view_change",
    "at": "pbft/test_mac_attacks",
    "de": "pbft/test_demands",
    "cf": "pbft/test_config",
    "ho": "pbft/test_hostile",
    "ch": "pbft/test_chance",
    "mb": "pbft/test_membership",
    "mm": "replog/test_membership",
    "cn": "replog/test_chain",
    "cl": "replog/test_client",
    "ex": "replog/test_executor",
    "sm": "replog/test_statemachine",
    "me": "replog/test_merkle",
    "co": "replog/test_codec",
    "ke": "replog/test_keys",
    "so": "replog/test_storage",
    "rs": "replog/test_request",
    "qu": "replog/test_quorum",
}
"""What the map calls a file of tests."""

CAUGHT = (AssertionError, pytest.fail.Exception)
"""How a test fails. Whatever else a mutant brings about is a crash, and no proof that anybody looks."""


@dataclass(frozen=True)
class Mutant:
    """`target`: the function that it stands in for, as the map names it. `test`: a file and a part of a name, as in the
    map. `case`: a part of what pytest puts in brackets. `stopped`: what the core or the executor says when it notices
    by itself that something is wrong with it, which stops a replica and so the test."""

    name: str
    target: str
    test: str
    case: str
    stopped: str
    change: Callable[..., Any]

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        owner, name = owner_of(self.target)
        with pytest.MonkeyPatch.context() as patch:
            right = inspect.getattr_static(owner, name)
            broken = self._instead_of(right)
            patch.setattr(owner, name, broken)
            if isinstance(owner, ModuleType):  # whoever has imported it by its name has it under that
                for module in [
                    found for key, found in sys.modules.items() if key.startswith(("pbft", "replog", "tests"))
                ]:
                    if module is not owner and getattr(module, name, None) is right:
                        patch.setattr(module, name, broken)
            yield

    def _instead_of(self, right: Any) -> Any:
        if isinstance(right, property):
            return property(functools.partial(_call, self.change, right.fget))
        if isinstance(right, classmethod):
            return classmethod(functools.partial(_call, self.change, right.__func__))
        if isinstance(right, staticmethod):
            return staticmethod(functools.partial(self.change, right.__func__))
        change = self.change

        @functools.wraps(right)
        def broken(*args: Any, **kwargs: Any) -> Any:
            return change(right, *args, **kwargs)

        return broken


def _call(change: Callable[..., Any], right: Callable[..., Any], *args: Any) -> Any:
    return change(right, *args)


MUTANTS: dict[str, Mutant] = {}


def mutant(target: str, test: str, case: str = "", stopped: str = "") -> Callable[[Callable[..., Any]], None]:
    """Put the decorated function into the table. A row of the map names it."""

    def add(change: Callable[..., Any]) -> None:
        name = change.__name__
        if name in MUTANTS:
            raise ValueError(f"two mutants are called {name}")
        MUTANTS[name] = Mutant(name, target, test, case, stopped, change)

    return add


def returns(name: str, value: Any, target: str, test: str, case: str = "") -> None:
    """A mutant that says the same whatever it is asked."""

    def change(right: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return list(value) if isinstance(value, list) else value

    change.__name__ = name
    mutant(target, test, case)(change)


# ------------------------------------------------------------------------------------------------------- what is named


@functools.cache
def _owners() -> dict[str, Any]:
    """All classes of `pbft` and `replog` by name, and their modules by the last part of theirs."""
    found: dict[str, Any] = {}
    for package in ("replog", "pbft"):
        root = importlib.import_module(package)
        names = [info.name for info in pkgutil.iter_modules(root.__path__) if not info.ispkg]
        for module in [importlib.import_module(f"{package}.{name}") for name in names]:
            found[module.__name__.rpartition(".")[2]] = module
            for name, kind in vars(module).items():
                if inspect.isclass(kind) and kind.__module__ == module.__name__:
                    found[name] = kind
    return found


def owner_of(target: str) -> tuple[Any, str]:
    """The class or module that has `target`, as the map writes it, and its name there. Raises LookupError."""
    owner, _, name = target.partition(".")
    kind = _owners().get(owner)
    if kind is None or not name.isidentifier() or name not in vars(kind):
        raise LookupError(f"no function {target}")
    return kind, name


@functools.cache
def functions_of(test: str) -> list[tuple[str, Callable[..., Any]]]:
    """The tests that the map calls `test`: name and function, bound to its class if it has one."""
    file, _, part = test.partition(" ")
    module = importlib.import_module(f"tests.{FILES[file].replace('/', '.')}")
    found = [(name, function) for name, function in vars(module).items() if name.startswith("test_")]
    for kind in [kind for name, kind in vars(module).items() if name.startswith("Test") and inspect.isclass(kind)]:
        found += [(name, getattr(kind(), name)) for name in vars(kind) if name.startswith("test_")]
    return [(name, function) for name, function in found if part in name]


def arguments(function: Callable[..., Any], case: str) -> list[dict[str, Any]]:
    """What pytest calls it with, of that whose name has `case` in it."""
    marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
    choices = []
    for mark in marks:
        names, values = mark.args[0], [value for value in mark.args[1] if not isinstance(value, type(pytest.param(0)))]
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
        choices.append([dict(zip(names, value if len(names) > 1 else (value,), strict=True)) for value in values])
    every = [functools.reduce(lambda one, other: one | other, choice, {}) for choice in itertools.product(*choices)]
    return [chosen for chosen in every if case in "-".join(map(_named, chosen.values()))]


def _named(value: Any) -> str:
    return value.__name__ if hasattr(value, "__name__") else str(value)


def play(test: str, case: str) -> None:
    """Call one test, as pytest would."""
    ((_, function),) = functions_of(test)
    chosen = arguments(function, case)
    if not chosen:
        raise LookupError(f"{test} has no case {case}")
    for values in chosen:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
            known = {"monkeypatch": patch, "tmp_path": Path(folder)}
            function(**values, **_fixtures(function, known, vars(sys.modules[function.__module__])))


def _fixtures(function: Callable[..., Any], known: dict[str, Any], of: dict[str, Any]) -> dict[str, Any]:
    """What `function` asks for by name: of pytest's own, or made by a fixture of its file."""
    names = [
        name for name in inspect.signature(function).parameters if name in known or hasattr(of.get(name), "__wrapped__")
    ]
    return {name: known[name] if name in known else _made(of[name].__wrapped__, known, of) for name in names}


def _made(fixture: Callable[..., Any], known: dict[str, Any], of: dict[str, Any]) -> Any:
    return fixture(**_fixtures(fixture, known, of))


def load() -> dict[str, Mutant]:
    """All mutants, in the order of the rules."""
    for part in (
        "normal_case",
        "checkpoints",
        "view_changes",
        "state",
        "clients",
        "macs",
        "recovery",
        "demands",
        "ground",
        "accountability",
        "membership",
    ):
        importlib.import_module(f"tests.pbft.mutants.{part}")
    return MUTANTS
