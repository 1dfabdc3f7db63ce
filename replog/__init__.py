"""The replicated-log interface and the ground both protocols stand on.

The names below are all that a program needs. They are loaded when they are first used: a protocol stands on this
package and must not bring sockets or files with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replog.config import ClusterConfig as ClusterConfig
    from replog.config import create_cluster as create_cluster
    from replog.errors import Compacted as Compacted
    from replog.errors import ConfigError as ConfigError
    from replog.errors import NoCluster as NoCluster
    from replog.errors import NotCommitted as NotCommitted
    from replog.errors import OperationFailed as OperationFailed
    from replog.errors import OutcomeUnknown as OutcomeUnknown
    from replog.errors import Overloaded as Overloaded
    from replog.errors import ReplogError as ReplogError
    from replog.interface import Entry as Entry
    from replog.interface import ReplicatedLog as ReplicatedLog
    from replog.interface import Result as Result
    from replog.live.client import LogClient as LogClient
    from replog.live.cluster import LocalCluster as LocalCluster
    from replog.live.processes import LocalProcesses as LocalProcesses
    from replog.statemachine import StateMachine as StateMachine
    from replog.statemachine import Table as Table
    from replog.statemachine import command as command
    from replog.statemachine import query as query

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
