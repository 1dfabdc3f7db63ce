"""State digest: what correct replicas hold after the same index is the same, to the last byte.

The log may be equal and the state not: an application that is not deterministic, a snapshot that was spoiled, an entry
that was executed twice. Checkpoints tell the digest of all replicated state, sessions of clients included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compare.checkers.agreement import summarise
from compare.checkers.base import Check, Evidence
from compare.decisions import Decisions
from replog.types import NodeId


class StateDigest:
    name = "state-digest"
    summary = "correct replicas have equal states at common checkpoints"
    safety = True

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: (replica, checkpoint) pairs that had another replica's word to meet."""
        points: dict[int, set[NodeId]] = {}
        for node, own in evidence.decisions.items():
            for digested in own.digests:
                points.setdefault(digested.index, set()).add(node)
        texts = list(digest_differences(evidence.decisions))
        return Check(not texts, sum(len(nodes) for nodes in points.values() if len(nodes) > 1), summarise(texts))


def digest_differences(decisions: Mapping[NodeId, Decisions]) -> Iterator[str]:
    """State digests that differ at a common checkpoint, one text an index."""
    first: dict[int, tuple[NodeId, str]] = {}
    reported: set[int] = set()
    for node in sorted(decisions):
        for digested in decisions[node].digests:
            other, digest = first.setdefault(digested.index, (node, digested.digest))
            if digest != digested.digest and digested.index not in reported:
                reported.add(digested.index)
                yield (
                    f"state after index {digested.index}: node {other} has digest {digest[:8]}, "
                    f"node {node} has {digested.digest[:8]}"
                )
