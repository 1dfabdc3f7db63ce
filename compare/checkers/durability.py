"""Durability: every write that a client was told is done is in every correct replica at the end.

A replica has a request when it applied it in its present life, or when it began this life with, or took over, a state
that holds it: then it shares a checkpoint (index and digest) with a replica that applied everything below, maybe with
itself before its restart. Reads are left out: they leave nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compare.checkers.agreement import summarise
from compare.checkers.base import Check, Evidence
from compare.decisions import Decisions
from compare.history import Call
from compare.models import MODELS
from replog.types import NodeId

Identity = tuple[str, int]


class Durability:
    name = "durability"
    summary = "every acknowledged write is in every correct replica that runs at the end"
    safety = True

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: (replica, acknowledged write) pairs."""
        model = MODELS[evidence.model]
        writes = [call for call in evidence.calls if call.known and not model.reads(call) and call.timestamp]
        held = holdings(evidence.decisions)
        texts, checked = [], 0
        for node in evidence.up:
            lost = [call for call in writes if (call.client, call.timestamp) not in held[node]]
            checked += len(writes)
            texts += [f"node {node} has lost {call}" for call in settled(lost, evidence, node)]
        return Check(not texts, checked, summarise(texts))


def settled(lost: Iterable[Call], evidence: Evidence, node: NodeId) -> list[Call]:
    """Those of the missing writes whose place this replica has passed. One that has not come so far is late, not wrong:
    that is for liveness to judge (HAZARDS X5)."""
    height = evidence.decisions[node].height
    return [call for call in lost if not call.index or call.index <= height]


def holdings(decisions: Mapping[NodeId, Decisions]) -> dict[NodeId, set[Identity]]:
    """For each replica the requests in its state: applied itself, or below a checkpoint that it shares with one that
    applied them."""
    below = _below_checkpoints(decisions)
    held = {}
    for node, own in decisions.items():
        mine = {(entry.client, entry.timestamp) for decided in own.applied for entry in decided.entries}
        for point in own.states:
            mine |= below.get(point, set())
        held[node] = mine
    return held


def _below_checkpoints(decisions: Mapping[NodeId, Decisions]) -> dict[tuple[int, str], set[Identity]]:
    """(index, digest) of a checkpoint -> the requests below it, from replicas that applied all of 1 .. index."""
    found: dict[tuple[int, str], set[Identity]] = {}
    wanted = _fetched(decisions)
    for own in decisions.values():
        applied = {decided.index: decided for decided in own.decided}
        for digested in own.digests:
            point = (digested.index, digested.digest)
            if point in wanted and all(index in applied for index in range(1, digested.index + 1)):
                found.setdefault(point, set()).update(
                    (entry.client, entry.timestamp)
                    for index in range(1, digested.index + 1)
                    for entry in applied[index].entries
                )
    return found


def _fetched(decisions: Mapping[NodeId, Decisions]) -> set[tuple[int, str]]:
    """Checkpoints that some replica has without having applied everything below in its present life."""
    points = set()
    for own in decisions.values():
        applied = {decided.index for decided in own.applied}
        for index, digest in own.states:
            if not all(below in applied for below in range(1, index + 1)):
                points.add((index, digest))
    return points
