"""All that replicas of a random run have signed and said, and what can be proved with it against each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from pbft.evidence import Given, NotProven, convict
from pbft.messages import Commit, InEpoch, NewView, ViewChange
from pbft.statements import (
    FLAWED_NEW_VIEW,
    FLAWED_VIEW_CHANGE,
    bare,
    contradiction,
    parts_of,
    place_of,
    signed_part,
)
from replog.codec import Domain
from replog.core import Accuse
from replog.membership import Electorate
from tests.pbft.changing import Changing
from tests.pbft.harness import DOMAIN, Cluster


class Statements:
    """Of one node in one epoch: each once, wherever it appeared."""

    def __init__(self, node: int, epoch: int = 0) -> None:
        self.node = node
        self.epoch = epoch
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


def statements(cluster: Cluster, nodes: Iterable[int]) -> dict[tuple[int, int], Statements]:
    """By node and epoch all that left `nodes`, in all their lives, that inside of what anybody sent included."""
    chosen = set(nodes)
    found: dict[tuple[int, int], Statements] = {}
    for sent in cluster.sent:
        worn = isinstance(sent.message, InEpoch)
        epoch, message = (sent.message.epoch, sent.message.message) if worn else (0, sent.message)
        ids = voters(cluster, epoch, sent.node)
        parts = parts_of(getattr(message, "proof", message), lambda view: ids[view % len(ids)])  # noqa: B023
        for signer, part in [(sent.node, message), *parts]:
            if signer in chosen:
                found.setdefault((signer, epoch), Statements(signer, epoch)).add(part)
    return found


def voters(cluster: Cluster, epoch: int, node: int) -> tuple[int, ...]:
    """Who votes in an epoch, as `node` knows it: after a fork others may know others."""
    given = members(cluster, epoch, node)
    return tuple(given.ids) if isinstance(given, Electorate) else tuple(range(given[0]))


def members(cluster: Cluster, epoch: int, node: int) -> Given:
    if not isinstance(cluster, Changing):
        return cluster.n, cluster.f
    lineages = [cluster.plug(other).lineage for other in (node, *cluster.servers) if other in cluster.servers]
    for lineage in lineages:
        if len(lineage.configurations) > epoch:
            configuration = lineage.configurations[epoch]
            return Electorate(configuration.ids, configuration.f, lineage.begins(epoch))
    return Electorate(cluster.genesis.ids, cluster.genesis.f)


def verdict(cluster: Cluster, accusation: Accuse) -> str:
    """What it proves; "" if nothing."""
    epoch, culprit = accusation.epoch, accusation.culprit
    known = members(cluster, epoch, culprit if isinstance(culprit, int) else 0)
    begins = known.begins[1] if isinstance(known, Electorate) and epoch else b""
    try:
        return convict(accusation, Domain(DOMAIN.cluster, epoch, begins), cluster.verifier, known)
    except NotProven:
        return ""


def charges(said: Statements) -> Iterator[Accuse]:
    """Every accusation that could be made of what a node has said."""
    for first, second in said.pairs():
        yield Accuse(said.node, contradiction(first, second), first, second, epoch=said.epoch)
    for message in said.kept.values():
        if isinstance(message, (ViewChange, NewView)):
            kind = FLAWED_VIEW_CHANGE if isinstance(message, ViewChange) else FLAWED_NEW_VIEW
            yield Accuse(said.node, kind, message, epoch=said.epoch)


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
