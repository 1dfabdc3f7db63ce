"""Faults, attacks, workloads, checkers and reports: the laboratory that compares the protocols.

`compare.run("equivocating-leader", seeds=20)` makes and judges runs; see `compare.runner.run`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compare.results import Results
    from compare.runner import run
    from compare.scenario import Scenario

__all__ = ["Results", "Scenario", "run"]

_HOMES = {"run": "compare.runner", "Results": "compare.results", "Scenario": "compare.scenario"}


def __getattr__(name: str) -> Any:
    """Loaded when asked for: the command's help must not wait for the laboratory."""
    if name not in _HOMES:
        raise AttributeError(f"module 'compare' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
