"""Agreement: what one correct replica has in the log, no other correct replica has otherwise.

An index is a consensus instance, an entry is (index, position). Null requests and no-ops are left out: an instance
without entries says nothing that another could contradict, but for the state digest at the next common checkpoint,
which has a judge of its own.
What a client accepted counts as a replica's word (HAZARDS X4): a client that was told "your request is at index 7" by
a quorum, when a correct replica has something else there, was lied to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from compare.checkers.base import Check, Evidence
from compare.decisions import Decisions, Entry
from compare.history import Call
from compare.models import MODELS
from replog.types import NodeId


@dataclass(frozen=True)
class Divergence:
    """Two correct replicas, or one before and after a restart: other entries at one index; what clients accepted."""

    index: int
    first: NodeId
    first_entries: tuple[Entry, ...]
    second: NodeId
    second_entries: tuple[Entry, ...]
    accepted: tuple[Call, ...] = field(default=())

    def __str__(self) -> str:
        text = (
            f"index {self.index}: node {self.first} has {_names(self.first_entries)}, "
            f"node {self.second} has {_names(self.second_entries)}"
        )
        return "; ".join([text, *(f"client {call.client} accepted {call}" for call in self.accepted)])


def _names(entries: tuple[Entry, ...]) -> str:
    return "[" + ", ".join(map(str, entries)) + "]"


class Agreement:
    name = "agreement"
    summary = "correct replicas have equal entries at equal indices, and what clients were told fits them"
    safety = True

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: (replica, entry) pairs and accepted results that had another's word to meet."""
        checked, model = compared(evidence.decisions), MODELS[evidence.model]
        found = list(divergences(evidence.decisions, evidence.calls))
        found.sort(key=lambda problem: (-sum(not model.reads(call) for call in problem.accepted[:2]), problem.index))
        texts = [str(problem) for problem in found]
        lies, accepted = _lies(evidence)
        texts += lies
        return Check(not texts, checked + accepted, summarise(texts))


def summarise(texts: list[str], shown: int = 2) -> str:
    """The first few problems, and how many there are."""
    more = f" (and {len(texts) - shown} more)" if len(texts) > shown else ""
    return "; ".join(texts[:shown]) + more


def divergences(decisions: Mapping[NodeId, Decisions], calls: Iterable[Call] = ()) -> Iterator[Divergence]:
    """One for each index at which two replicas, or one replica before and after a restart, differ."""
    first: dict[int, tuple[NodeId, tuple[Entry, ...]]] = {}
    reported: set[int] = set()
    accepted: dict[int, list[Call]] = {}
    for call in calls:
        if call.known and call.index:
            accepted.setdefault(call.index, []).append(call)
    for node in sorted(decisions):
        for decided in decisions[node].decided:
            if not decided.entries:
                continue
            other, entries = first.setdefault(decided.index, (node, decided.entries))
            if entries != decided.entries and decided.index not in reported:
                reported.add(decided.index)
                told = _told(accepted.get(decided.index, []), entries, decided.entries)
                yield Divergence(decided.index, other, entries, node, decided.entries, told)


def _told(calls: list[Call], *sides: tuple[Entry, ...]) -> tuple[Call, ...]:
    """What clients accepted there: first one call of each side, then the others."""
    of_sides = [
        [call for call in calls if (call.client, call.timestamp) in {(entry.client, entry.timestamp) for entry in side}]
        for side in sides
    ]
    first = [calls_of[0] for calls_of in of_sides if calls_of]
    return tuple(first + [call for call in calls if call not in first])


def compared(decisions: Mapping[NodeId, Decisions]) -> int:
    """Entries of one replica that another replica has a word on too."""
    holders: dict[int, set[NodeId]] = {}
    for node, own in decisions.items():
        for decided in own.decided:
            holders.setdefault(decided.index, set()).add(node)
    return sum(
        len(decided.entries) for own in decisions.values() for decided in own.decided if len(holders[decided.index]) > 1
    )


def _lies(evidence: Evidence) -> tuple[list[str], int]:
    """Accepted results whose place holds something else at a correct replica, and how many results were looked up."""
    placed: dict[int, dict[NodeId, set[tuple[str, int]]]] = {}
    for node, own in evidence.decisions.items():
        for decided in own.decided:
            here = placed.setdefault(decided.index, {}).setdefault(node, set())
            here.update((entry.client, entry.timestamp) for entry in decided.entries)
    lies, checked = [], 0
    for call in evidence.calls:
        if not (call.known and call.index and call.timestamp):  # a read that was not ordered has index 0
            continue
        for node, identities in sorted(placed.get(call.index, {}).items()):
            checked += 1
            if (call.client, call.timestamp) not in identities:
                lies.append(f"{call} was accepted by its client, but node {node} does not have it at that index")
                break
    return lies, checked
