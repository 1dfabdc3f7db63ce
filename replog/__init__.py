"""The replicated-log interface and the ground both protocols stand on.

The names below are all that a program needs. They are loaded when they are first used: a protocol stands on this
package and must not bring sockets or files with it. Type checkers read them in `__init__.pyi`: an import written here,
even for them alone, would tie every module of the package to the live world.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "replog.config": ("ClusterConfig", "create_cluster"),
    "replog.errors": (
        "Compacted",
        "ConfigError",
        "NoCluster",
        "NotCommitted",
        "OperationFailed",
        "OutcomeUnknown",
        "Overloaded",
        "ReplogError",
        "RequestTooLarge",
    ),
    "replog.interface": ("Entry", "ReplicatedLog", "Result"),
    "replog.live.client": ("LogClient",),
    "replog.live.cluster": ("LocalCluster",),
    "replog.live.processes": ("LocalProcesses",),
    "replog.statemachine": ("StateMachine", "Table", "command", "query"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'replog' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
