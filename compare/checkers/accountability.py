"""Accountability: nobody who is correct is accused, every accusation proves what it says to a stranger, and who was
told two things has evidence of it.

An accusation is taken from the accuser's trace as its bytes and checked anew, with public keys alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from compare.checkers.agreement import summarise
from compare.checkers.base import Check, Conflict, Evidence
from compare.decisions import Charge
from replog.types import NodeId

ENOUGH: Final = 256
"""Accusations of one culprit after which a replica makes no more."""


class Accountability:
    name = "accountability"
    summary = "no correct node is accused, every accusation can be proved to others, no conflict goes unseen"
    safety = True

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: correct replicas, which nobody accuses, accusations, and conflicts that were told."""
        charges = [(node, charge) for node, own in evidence.decisions.items() for charge in own.charges]
        texts = [text for node, charge in charges for text in _wrong(evidence, node, charge)]
        texts += [
            f"nodes {list(conflict.hearers)} were told two things by {conflict.culprit} at {conflict.kind} "
            f"{conflict.place}, and nobody has evidence"
            for conflict in unknown(evidence)
        ]
        checked = len(evidence.decisions) + len(charges) + len(evidence.conflicts)
        return Check(not texts, checked, summarise(texts))


def _wrong(evidence: Evidence, node: NodeId, charge: Charge) -> Iterator[str]:
    clients = {call.client for call in evidence.calls}
    if charge.culprit in evidence.decisions or charge.culprit in clients:
        yield f"node {node} accuses {charge.culprit}, which is correct, of {charge.kind}"
    if flaw := evidence.flaw(charge):
        yield f"node {node} cannot prove {charge.kind} of {charge.culprit}: {flaw}"


def unknown(evidence: Evidence) -> list[Conflict]:
    """Conflicts that nobody has evidence of."""
    return [conflict for conflict in evidence.conflicts if not _known(evidence, conflict)]


def _known(evidence: Evidence, conflict: Conflict) -> bool:
    """Whether the one that was told both has accused the culprit there, or has accused it often enough; where several
    were told one each, whether any correct replica has: it is passed on, and proves as much wherever it lies."""
    told = conflict.hearers if len(conflict.hearers) == 1 else tuple(evidence.decisions)
    for node in told:
        own = [charge for charge in evidence.decisions[node].charges if charge.culprit == conflict.culprit]
        if len(own) >= ENOUGH or any(charge.place == conflict.place for charge in own):
            return True
    return False
