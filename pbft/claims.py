"""What more than f replicas tell is true: at least one of them is correct. [CL02, MACs] (HAZARDS P43)

Under MACs nothing can be shown to a third party, so this stands in for certificates wherever one replica passes on what
it has heard or found out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from replog.types import NodeId

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value", bound=Hashable)


class Claims(Generic[Key, Value]):
    """What each replica claims about some keys, in its own name.

    Invariant: of each replica at most `keep` claims, one a key; the oldest give way.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._of: dict[NodeId, OrderedDict[Key, Value]] = {}

    def add(self, sender: NodeId, key: Key, value: Value) -> tuple[NodeId, ...]:
        """Note the claim; all replicas that claim the same, in order."""
        of = self._of.setdefault(sender, OrderedDict())
        of.pop(key, None)
        of[key] = value
        if len(of) > self._keep:
            of.popitem(last=False)
        return tuple(node for node in sorted(self._of) if self._of[node].get(key) == value)

    def of(self, key: Key) -> list[tuple[NodeId, Value]]:
        """What each replica claims about `key`, in order."""
        return [(node, of[key]) for node, of in sorted(self._of.items()) if key in of]

    def drop(self, key: Key) -> None:
        """It is settled."""
        for of in self._of.values():
            of.pop(key, None)

    def check_invariants(self) -> None:
        for node, of in self._of.items():
            assert len(of) <= self._keep, f"claims of node {node} are bounded"
