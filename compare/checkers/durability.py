"""Durability: every write that a client was told is done is in every correct replica at the end.

A replica has a request when it applied it in its present life, or when it began this life with, or took over, a state
that holds it: then it shares a checkpoint (index and digest) with replicas that applied everything below, one of them
or several in turn, maybe with itself before its restart. Reads are left out: they leave nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final

from compare.checkers.agreement import summarise
from compare.checkers.base import Check, Evidence
from compare.decisions import Decisions
from compare.history import Call
from compare.models import MODELS
from replog.types import NodeId

Identity = tuple[str, int]
Point = tuple[int, str]
"""Index and digest of a checkpoint."""
NOTHING: Final[Point] = (0, "")
"""The state that everybody begins with."""


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


def _below_checkpoints(decisions: Mapping[NodeId, Decisions]) -> dict[Point, set[Identity]]:
    """The requests below each checkpoint that some replica took over, as far as replicas came to it step by step: one
    applied what lies between it and the checkpoint before, another, or the same one, what lies below that."""
    steps: dict[Point, tuple[Point, set[Identity]]] = {}
    for before, after, entries in sorted(_steps(decisions), key=lambda step: step[1][0]):
        if before == NOTHING or before in steps:
            steps.setdefault(after, (before, entries))
    return {point: _all_below(point, steps) for point in _fetched(decisions)}


def _all_below(point: Point, steps: Mapping[Point, tuple[Point, set[Identity]]]) -> set[Identity]:
    found: set[Identity] = set()
    while point in steps:
        point, entries = steps[point]
        found |= entries
    return found


def _steps(decisions: Mapping[NodeId, Decisions]) -> Iterator[tuple[Point, Point, set[Identity]]]:
    """From one checkpoint of a replica to its next in the same life, where it applied all that lies between."""
    for own in decisions.values():
        ends = [(life.decided, life.digests) for life in own.lives[1:]] + [(len(own.decided), len(own.digests))]
        for life, (decided_end, digests_end) in zip(own.lives, ends, strict=True):
            applied = {decided.index: decided for decided in own.decided[life.decided : decided_end]}
            points = [(life.index, life.digest)]
            points += [(digested.index, digested.digest) for digested in own.digests[life.digests : digests_end]]
            for before, after in pairwise(points):
                between = range(before[0] + 1, after[0] + 1)
                if between and all(index in applied for index in between):
                    yield (
                        before,
                        after,
                        {(entry.client, entry.timestamp) for index in between for entry in applied[index].entries},
                    )


def _fetched(decisions: Mapping[NodeId, Decisions]) -> set[Point]:
    """Checkpoints that some replica has without having applied everything below in its present life."""
    points = set()
    for own in decisions.values():
        applied = {decided.index for decided in own.applied}
        for index, digest in own.states:
            if not all(below in applied for below in range(1, index + 1)):
                points.add((index, digest))
    return points
