"""The state of a cluster, for a program and in one sentence that a person understands. Pure: statuses in, text out.

Every status is its replica's own word: a liar can spoil its own line, never the others'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from replog.config import ClusterConfig
from replog.interface import Said
from replog.live.counters import TOLD
from replog.quorum import byzantine_quorum, majority
from replog.types import NOBODY, Status

STARTED = "start"
"""The reason of a view that is none: it is the first."""
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def quorum_of(config: ClusterConfig) -> int:
    """How many replicas must work together to commit. Where clients take one replica's word, none is taken to lie."""
    spec = config.spec
    rules = spec.client_rules(config.n, config.f, config.protocol_options())
    return majority(config.n) if rules.reply_quorum == 1 else byzantine_quorum(config.n, config.f)


def in_sync(said: Sequence[Said]) -> int:
    return sum(word.status is not None and word.status.in_sync for word in said)


def report(config: ClusterConfig, said: Sequence[Said], pids: Mapping[int, int | None]) -> dict[str, Any]:
    """The whole of `replog status --json` and of the gateway's /status. `pids`: of replicas on this machine."""
    spec, quorum = config.spec, quorum_of(config)
    statuses = {word.node: word.status for word in said}
    working = in_sync(said)
    return {
        "protocol": config.protocol,
        "n": config.n,
        "f": config.f,
        "quorum": quorum,
        "in_sync": working,
        "has_quorum": working >= quorum,
        "durability": config.durability,
        "app": {"name": config.app_name, "version": config.app_version},
        "replicas": [_replica(config, node, status, pids.get(node)) for node, status in sorted(statuses.items())],
        "sentence": summary(statuses, quorum, spec.view_word, spec.leader_word),
    }


def _replica(config: ClusterConfig, node: int, status: Status | None, pid: int | None) -> dict[str, Any]:
    place = config.nodes[node]
    known = {"node": node, "pid": pid, "address": f"{place.host}:{place.port}"}
    if status is None:
        return {**known, "role": "down" if pid is None else "silent", config.spec.view_word: None, "last_index": None}
    return {
        **known,
        "role": printable(status.role),
        config.spec.view_word: status.view,
        "leader": None if status.leader == NOBODY else status.leader,
        "last_index": status.index,
        "stable_index": status.stable,
        "in_sync": status.in_sync,
        "reason": printable(status.reason),
        "detail": {printable(key): value for key, value in status.detail.items() if key not in TOLD},
        "counters": counters_of(status),
    }


def counters_of(status: Status) -> dict[str, int]:
    """What the replica says that its process did, by the names of TOLD; what is no count is left out."""
    told = ((name, status.detail.get(name)) for name in TOLD)
    return {name: value for name, value in told if isinstance(value, int) and value >= 0}


def summary(statuses: Mapping[int, Status | None], quorum: int, view_word: str, leader_word: str) -> str:
    """`3 of 4 in sync, quorum ok, one more failure stops writes; view 2 because node 0 was silent for 1.2 s`.

    `statuses`: one entry a replica, None for one that does not answer. `quorum`: replicas that must work together to
    commit.
    """
    working = [status for status in statuses.values() if status is not None and status.in_sync]
    head = f"{len(working)} of {len(statuses)} in sync, "
    if len(working) < quorum:
        return f"{head}no quorum ({quorum} needed), writes wait; {_absent(statuses)}"
    if all(status.leader == NOBODY for status in working):
        return f"{head}quorum ok, no {leader_word} yet, writes wait; {_view(working, view_word)}"
    return f"{head}quorum ok, {_margin(len(working) - quorum)}; {_view(working, view_word)}"


def printable(text: str, length_max: int = 120) -> str:
    """A replica's own words made safe for a terminal: one line, no control characters, bounded."""
    return "".join(character if character.isprintable() else " " for character in text[:length_max])


def _margin(spare: int) -> str:
    if spare == 0:
        return "one more failure stops writes"
    if spare == 1:
        return "one more failure is tolerated"
    return f"{NUMBERS[spare] if spare < len(NUMBERS) else spare} more failures are tolerated"


def _view(working: list[Status], view_word: str) -> str:
    """The view or term that most working replicas are in, the newer one on a tie, and why it began."""
    counts = Counter(status.view for status in working)
    view = max(counts, key=lambda view: (counts[view], view))
    reason = printable(next((status.reason for status in working if status.view == view and status.reason), ""))
    return f"{view_word} {view}" + (f" because {reason}" if reason not in ("", STARTED) else "")


def _absent(statuses: Mapping[int, Status | None]) -> str:
    """Who is missing and what is known of each."""
    silent = [node for node, status in sorted(statuses.items()) if status is None]
    parts = []
    if silent:
        parts.append(f"{_nodes(silent)} {'does' if len(silent) == 1 else 'do'} not answer")
    for node, status in sorted(statuses.items()):
        if status is not None and not status.in_sync:
            parts.append(f"node {node} is {printable(status.role)} at index {status.index}")
    return ", ".join(parts)


def _nodes(nodes: list[int]) -> str:
    if len(nodes) == 1:
        return f"node {nodes[0]}"
    return f"nodes {', '.join(map(str, nodes[:-1]))} and {nodes[-1]}"
