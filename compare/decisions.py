"""What correct replicas decided: the decision lines of a trace, replica by replica.

Here: reading them. Not here: what is right (`compare.checkers`), nor any other line of a trace: judges have no god's
view. Decision lines are those that `replog.trace` keeps at level "decisions".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from replog.types import ClientId, Micros, NodeId, Principal


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
class Charge:
    """An accusation as it was made: `raw` are the statements as their bytes, in hex."""

    culprit: Principal
    kind: str
    place: str
    raw: tuple[str, ...]
    time: Micros = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Life:
    """From a start to the next: the saved state that it began with (index 0: none), and the places at which its own
    decisions and digests begin."""

    index: int = 0
    digest: str = ""
    decided: int = 0
    digests: int = 0


@dataclass
class Decisions:
    """Of one replica, in its own order. After a restart an index may be applied again: both count.

    What a former life applied is in the replica's state only as far as the present one began with it, applied it
    again, or fetched it: `applied`, `states` and `height` are of the present life.
    """

    node: NodeId
    decided: list[Decided] = field(default_factory=list)
    digests: list[Digested] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    lives: list[Life] = field(default_factory=lambda: [Life()])

    @property
    def log(self) -> list[Decided]:
        """Of all lives, by growing index; an index that was applied again stands there again."""
        return sorted(self.decided, key=lambda decided: decided.index)

    @property
    def applied(self) -> list[Decided]:
        """In the present life. An index at or below the last one begins anew too, whether or not a start was told."""
        own = self.decided[self.lives[-1].decided :]
        again = [place for place in range(1, len(own)) if own[place].index <= own[place - 1].index]
        return own[again[-1] :] if again else own

    @property
    def states(self) -> list[tuple[int, str]]:
        """(index, digest) of the checkpoints that the present life began with, made or fetched."""
        life, applied = self.lives[-1], self.applied
        first = applied[0] if applied else None
        begun = [(life.index, life.digest)] if life.index else []
        return begun + [
            (digested.index, digested.digest)
            for digested in self.digests[life.digests :]
            if first is None or digested.index < first.index or digested.time >= first.time
        ]

    @property
    def height(self) -> int:
        """The highest index whose effect is in this replica's state, applied or fetched."""
        return max([decided.index for decided in self.applied[-1:]] + [index for index, _ in self.states], default=0)

    def take(self, line: dict[str, Any]) -> None:
        """One line of the trace; lines that are no decisions pass by."""
        world = line.get("world", {})
        if world.get("kind") == "start":
            self.lives.append(Life(world["index"], world["digest"], len(self.decided), len(self.digests)))
        effect = line.get("effect", {})
        if effect.get("kind") == "Apply" and not effect.get("tentative"):
            self.decided.append(Decided(line["t"], effect["index"], tuple(map(_entry, effect["requests"]))))
        elif effect.get("kind") == "Accuse":
            which = (effect["culprit"], effect["rule"], effect["place"])
            self.charges.append(Charge(*which, tuple(effect["raw"]), line["t"], effect.get("epoch", 0)))
        elif effect.get("note") == "checkpoint":
            self.digests.append(Digested(line["t"], effect["detail"]["index"], effect["detail"]["digest"]))


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
