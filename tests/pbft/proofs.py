"""All that replicas of a random run have signed and said, and what can be proved with it against each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from pbft.evidence import NotProven, convict
from pbft.messages import Commit, NewView, ViewChange
from pbft.statements import (
    FLAWED_NEW_VIEW,
    FLAWED_VIEW_CHANGE,
    bare,
    contradiction,
    parts_of,
    place_of,
    signed_part,
)
from replog.core import Accuse
from tests.pbft.harness import DOMAIN, Cluster


class Statements:
    """Of one node: each once, wherever it appeared."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.kept: dict[bytes, Any] = {}

    def add(self, message: Any) -> None:
        part = signed_part(message, self.node)
        if part is not None and place_of(message) is not None:
            self.kept[repr((type(message).__name__, part)).encode()] = bare(message)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """All pairs that could mean anything: of one place, or a view-change with what it may hide."""
        places = defaultdict(list)
        for message in self.kept.values():
            places[place_of(message)].append(message)
        for said in places.values():
            yield from combinations(said, 2)
        views = [message for message in self.kept.values() if type(message) is ViewChange]
        promises = [message for message in self.kept.values() if type(message) in (Commit, ViewChange)]
        yield from ((first, second) for second in views for first in promises)


def statements(cluster: Cluster, nodes: Iterable[int]) -> dict[int, Statements]:
    """All that left `nodes`, in all their lives, that inside of what anybody sent included."""
    found = {node: Statements(node) for node in nodes}
    for sent in cluster.sent:
        if sent.node in found:
            found[sent.node].add(sent.message)
        for signer, part in parts_of(getattr(sent.message, "proof", sent.message), lambda view: view % cluster.n):
            if signer in found:
                found[signer].add(part)
    return found


def verdict(cluster: Cluster, accusation: Accuse) -> str:
    """What it proves; "" if nothing."""
    try:
        return convict(accusation, DOMAIN, cluster.verifier, (cluster.n, cluster.f))
    except NotProven:
        return ""


def charges(said: Statements) -> Iterator[Accuse]:
    """Every accusation that could be made of what a node has said."""
    for first, second in said.pairs():
        yield Accuse(said.node, contradiction(first, second), first, second)
    for message in said.kept.values():
        if isinstance(message, (ViewChange, NewView)):
            kind = FLAWED_VIEW_CHANGE if isinstance(message, ViewChange) else FLAWED_NEW_VIEW
            yield Accuse(said.node, kind, message)


def convictions(cluster: Cluster, nodes: Iterable[int]) -> tuple[list[str], int]:
    """What can be proved against `nodes`, and how many charges were tried."""
    tried, proved = 0, []
    for said in statements(cluster, nodes).values():
        for charge in charges(said):
            tried += 1
            text = verdict(cluster, charge) if charge.kind else ""
            if text:
                proved.append(text)
    return proved, tried
