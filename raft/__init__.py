"""Raft: the protocol, nothing else. [Raft: Ongaro and Ousterhout, extended version; Ongaro14: the thesis]

`raft.SPEC` is what the rest of the house needs; `RaftCore` is one server without any I/O, driven by `step`.
"""

from __future__ import annotations

from raft.core import RaftCore
from raft.spec import SPEC, RaftSpec

__all__ = ["SPEC", "RaftCore", "RaftSpec"]
