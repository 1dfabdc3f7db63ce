"""Protocols by name: whatever an installed distribution offers under the entry point group `replog.protocols`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from replog.core import ProtocolSpec

GROUP = "replog.protocols"


def names() -> list[str]:
    return sorted({point.name for point in entry_points(group=GROUP)})


@cache
def find(name: str) -> ProtocolSpec:
    """The protocol of this name. Raises LookupError naming the known ones."""
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point.load()  # type: ignore[no-any-return]
    raise LookupError(f"no protocol {name!r}; known: {', '.join(names())}")
