"""Validity: nothing is executed that no client asked for. Exactly-once: nothing takes effect twice.

Validity compares digests of the clients' signed bytes, so a request that a replica invented, altered or took from
another client is found whoever signed it. Exactly-once replays each correct replica's log on the model of the
application, every request once, and holds each outcome that a client accepted against the replay: a replica that
executes twice, or in another order, answers otherwise. A read that was answered without a place in the log is left to
linearizability: ordered later all the same, it may well give something else there, which nobody was told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from compare.checkers.agreement import summarise
from compare.checkers.base import Check, Evidence
from compare.decisions import Decided, Entry
from compare.history import Call
from compare.models import MODELS, Model

Requests = Mapping[tuple[str, int], list[Call]]


def requests_of(calls: list[Call]) -> Requests:
    """Calls by the request that carried them, in order of position."""
    found: dict[tuple[str, int], list[Call]] = {}
    for call in calls:
        if call.timestamp:
            found.setdefault((call.client, call.timestamp), []).append(call)
    for group in found.values():
        group.sort(key=lambda call: call.position)
    return found


class Validity:
    name = "validity"
    summary = "every executed request was submitted by its client, with as many operations as the client packed"
    safety = True

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: (replica, entry) pairs."""
        requests = requests_of(list(evidence.calls))
        texts, checked = [], 0
        digests: dict[tuple[str, int], Entry] = {}
        for node in sorted(evidence.decisions):
            for decided in evidence.decisions[node].decided:
                for entry in decided.entries:
                    checked += 1
                    problem = _invalid(entry, requests, digests, evidence.signed)
                    if problem:
                        texts.append(f"node {node} executed {entry} at index {decided.index}: {problem}")
        return Check(not texts, checked, summarise(texts))


def _invalid(
    entry: Entry, requests: Requests, digests: dict[tuple[str, int], Entry], signed: Mapping[str, Collection[str]]
) -> str:
    if entry.client in signed:
        return "" if entry.digest in signed[entry.client] else f"Byzantine client {entry.client} never signed it"
    identity = (entry.client, entry.timestamp)
    calls = requests.get(identity)
    if calls is None:
        return f"client {entry.client} never submitted it"
    if len(calls) != entry.count:
        return f"it holds {entry.count} operations, the client submitted {len(calls)}"
    known = digests.setdefault(identity, entry)
    if known.digest != entry.digest:
        return f"elsewhere the same request has digest {known.digest[:8]}"
    return ""


class ExactlyOnce:
    name = "exactly-once"
    summary = "outcomes that clients accepted are those of the log replayed with every request executed once"
    safety = True

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: (replica, accepted outcome) pairs whose place the replay of that replica's log reached."""
        requests, model = requests_of(list(evidence.calls)), MODELS[evidence.model]
        texts, checked = [], 0
        seen: list[tuple[list[Decided], list[tuple[Call, object]]]] = []
        for node in sorted(evidence.decisions):
            log = evidence.decisions[node].log
            outcomes = next((known for other, known in seen if _alike(log, other)), None)
            if outcomes is None:
                outcomes = list(replay(log, requests, model))
                seen.append((log, outcomes))
            for call, replayed in outcomes:
                if call.known and (call.index or not model.reads(call)):
                    checked += 1
                    if not model.same(call.outcome, replayed):
                        texts.append(f"{call} was accepted, the log of node {node} gives {replayed!r}")
        return Check(not texts, checked, summarise(texts))


def _alike(log: Sequence[Decided], other: Sequence[Decided]) -> bool:
    """Whether the model gives the same for both."""
    same = (one.index == two.index and one.entries == two.entries for one, two in zip(log, other, strict=False))
    return len(log) == len(other) and all(same)


def replay(log: Sequence[Decided], requests: Requests, model: Model) -> Iterator[tuple[Call, object]]:
    """Each call in a log, by growing index, with the outcome that the model gives, as far as it is without a gap."""
    state, done, following = model.whole, set[tuple[str, int]](), 1
    for decided in log:
        if decided.index < following:
            continue
        if decided.index > following:
            return
        following += 1
        for entry in decided.entries:
            identity = (entry.client, entry.timestamp)
            if identity in done:
                continue
            done.add(identity)
            for call in requests.get(identity, ()):
                state, outcome = model.apply(state, call)
                yield call, outcome
