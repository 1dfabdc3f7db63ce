"""What correct replicas decided: the decision lines of a trace, replica by replica.

Here: reading them. Not here: what is right (`compare.checkers`), nor any other line of a trace: judges have no god's
view. Decision lines are those that `replog.trace` keeps at level "decisions".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from replog.types import ClientId, Micros, NodeId


@dataclass(frozen=True, slots=True)
class Entry:
    """One request in the log. `digest` is that of the bytes the client signed; `count` its number of operations."""

    client: ClientId
    timestamp: int
    digest: str
    count: int

    def __str__(self) -> str:
        return f"{self.client}#{self.timestamp} ({self.digest[:8]})"


@dataclass(frozen=True, slots=True)
class Decided:
    """One consensus instance as one replica applied it. `entries` is () for a null request or a no-op."""

    time: Micros
    index: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Digested:
    """A checkpoint: the digest of the whole replicated state after `index`."""

    time: Micros
    index: int
    digest: str


@dataclass(frozen=True, slots=True)
class Change:
    """A replica entered a view or term, or changed its role in it."""

    time: Micros
    kind: str
    detail: dict[str, Any]


@dataclass
class Decisions:
    """Of one replica, in its own order. After a restart an index may be applied again: both count."""

    node: NodeId
    decided: list[Decided] = field(default_factory=list)
    digests: list[Digested] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    accusations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def height(self) -> int:
        """The highest index whose effect is in this replica's state, applied or fetched."""
        return max(
            max((decided.index for decided in self.decided), default=0),
            max((digested.index for digested in self.digests), default=0),
        )

    def take(self, line: dict[str, Any]) -> None:
        """One line of the trace; lines that are no decisions pass by."""
        effect = line.get("effect")
        if effect is None:
            return
        kind = effect["kind"]
        if kind == "Apply":
            self.decided.append(Decided(line["t"], effect["index"], tuple(map(_entry, effect["requests"]))))
        elif kind == "Note":
            self._note(line["t"], effect["note"], effect["detail"])
        elif kind == "Accuse":
            self.accusations.append(effect)

    def _note(self, time: Micros, kind: str, detail: dict[str, Any]) -> None:
        if kind == "checkpoint":
            self.digests.append(Digested(time, detail["index"], detail["digest"]))
        elif kind in ("view", "term"):
            self.changes.append(Change(time, kind, detail))


def _entry(request: dict[str, Any]) -> Entry:
    return Entry(request["client"], request["timestamp"], request["digest"], request["count"])


def collect(lines: Iterable[dict[str, Any]], nodes: Iterable[NodeId]) -> dict[NodeId, Decisions]:
    """The decisions of `nodes`; lines of other nodes are left out (HAZARDS X4)."""
    found = {node: Decisions(node) for node in sorted(nodes)}
    for line in lines:
        decisions = found.get(line["node"])
        if decisions is not None:
            decisions.take(line)
    return found
