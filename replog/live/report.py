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
from replog.live.processes import is_local
from replog.membership import Configuration
from replog.quorum import byzantine_quorum, majority, weak_quorum
from replog.types import NOBODY, Status

BEGUN = ("", "start", "just started")
"""Reasons that say nothing: the view or term is the first one."""
RESTARTED = "restart"
FOLLOWED = (" asked for ", " stands for ", " leads", " is in term ")
"""In reasons of a replica that went along with others: those know more."""
CERTIFICATE = "certificate_ends"
DAY_S = 86_400
ENDING_DAYS = 30
"""A certificate that ends sooner is told of."""
LISTED_MAX = 10
"""Of more nodes the first are listed."""
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def quorum_of(config: ClusterConfig, members: Configuration | None = None) -> int:
    """How many replicas must work together to commit. Where clients take one replica's word, none is taken to lie.
    `members`: the present ones, by default those that the cluster was made with."""
    n, f = (config.n, config.f) if members is None else (members.n, members.f)
    rules = config.spec.client_rules(n, f, config.protocol_options())
    return majority(n) if rules.reply_quorum == 1 else byzantine_quorum(n, f)


def in_sync(said: Sequence[Said]) -> int:
    return sum(word.status is not None and word.status.in_sync for word in said)


def report(
    config: ClusterConfig,
    said: Sequence[Said],
    pids: Mapping[int, int | None],
    members: Configuration | None = None,
    places: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """The whole of `replog status --json` and of the gateway's /status. `pids`: of replicas on this machine. `members`:
    the present ones; `places`: where those listen, and those who are to come."""
    spec, members = config.spec, members or config.genesis
    places = {m.id: f"{m.host}:{m.port}" for m in members.members} | dict(places or {})
    quorum = quorum_of(config, members)
    statuses = {word.node: word.status for word in said}
    counted = {node: status for node, status in statuses.items() if node in members.voters}
    working = sum(status is not None and status.in_sync for status in counted.values())
    held = held_view(counted, weak_quorum(members.f))
    return {
        "protocol": config.protocol,
        "n": members.n,
        "f": members.f,
        "epoch": members.epoch,
        "members": list(members.ids),
        "pending": pending_of(counted, weak_quorum(members.f)),
        "quorum": quorum,
        "in_sync": working,
        "has_quorum": working >= quorum,
        "auth": config.auth,
        "robust": config.robust,
        "durability": config.durability,
        "app": {"name": config.app_name, "version": config.app_version},
        "replicas": [
            _replica(config, node, status, pids.get(node), held, places.get(node, ""))
            for node, status in sorted(statuses.items())
        ],
        "sentence": summary(counted, quorum, spec.view_word, spec.leader_word),
    }


def pending_of(statuses: Mapping[int, Status | None], enough: int) -> str | None:
    """The change of the members that is under way, as `enough` of them say; None if none is."""
    said = Counter(str(status.detail.get("pending", "")) for status in statuses.values() if status is not None)
    return next((printable(text) for text, count in said.most_common() if text and count >= enough), None)


def held_view(statuses: Mapping[int, Status | None], enough: int) -> int | None:
    """The highest view or term that `enough` replicas have reached; None if fewer answer."""
    reached = sorted((status.view for status in statuses.values() if status is not None), reverse=True)
    return reached[enough - 1] if len(reached) >= enough else None


def role_of(status: Status, held: int | None, view_word: str, leader_word: str) -> str:
    """What the replica says it is. One that leads another view than the cluster is in says which: it does not know
    yet that it was replaced, or it lies."""
    role = printable(status.role)
    stray = held is not None and status.view != held and role.startswith(leader_word)
    return f"{leader_word} of {view_word} {status.view}{role.removeprefix(leader_word)}" if stray else role


def _replica(
    config: ClusterConfig, node: int, status: Status | None, pid: int | None, held: int | None, address: str
) -> dict[str, Any]:
    known = {"node": node, "pid": pid, "address": address}
    if status is None:
        ended = pid is None and is_local(config, node)
        return {**known, "role": "down" if ended else "silent", config.spec.view_word: None, "last_index": None}
    return {
        **known,
        "role": role_of(status, held, config.spec.view_word, config.spec.leader_word),
        config.spec.view_word: status.view,
        "leader": None if status.leader == NOBODY else status.leader,
        "last_index": status.index,
        "stable_index": status.stable,
        "in_sync": status.in_sync,
        "reason": printable(status.reason),
        "certificate_ends": certificate_ends(status),
        "detail": {printable(key): value for key, value in status.detail.items() if key not in TOLD},
        "counters": counters_of(status),
    }


def certificate_ends(status: Status) -> int | None:
    """When the certificate of its links ends, seconds since 1970; None if it does not say."""
    told = status.detail.get(CERTIFICATE)
    return told if isinstance(told, int) and 0 < told < 2**40 else None


def ending(report: Mapping[str, Any], now: float) -> dict[int, float]:
    """Days that are left to certificates of links which end soon, by node."""
    told = {one["node"]: (end - now) / DAY_S for one in report["replicas"] if (end := one.get("certificate_ends"))}
    return {node: days for node, days in sorted(told.items()) if days < ENDING_DAYS}


def counters_of(status: Status) -> dict[str, int]:
    """What the replica says that its process did, by the names of TOLD; what is no count is left out."""
    told = ((name, status.detail.get(name)) for name in TOLD)
    return {name: value for name, value in told if isinstance(value, int) and value >= 0}


def summary(statuses: Mapping[int, Status | None], quorum: int, view_word: str, leader_word: str) -> str:
    """`3 of 4 in sync, quorum ok, one more failure stops writes; view 2 because node 0 was silent for 1.2 s`.

    `statuses`: one entry a replica, None for one that does not answer. `quorum`: replicas that must work together to
    commit.
    """
    alive = [status for status in statuses.values() if status is not None]
    working = [status for status in alive if status.in_sync]
    if len(working) < quorum:
        return f"{_short(alive, working, len(statuses), quorum)}, writes wait; {_absent(statuses, quorum)}"
    head = f"{len(working)} of {len(statuses)} in sync, "
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


def _short(alive: Sequence[Status], working: Sequence[Status], n: int, quorum: int) -> str:
    """Where too few are alive, whether those are in sync with one another says nothing."""
    synced = f", {len(working)} of them in sync" if len(alive) >= quorum else ""
    return f"{len(alive)} of {n} alive{synced}, no quorum ({quorum} needed)"


def _view(working: list[Status], view_word: str) -> str:
    """The view or term that most working replicas are in, the newer one on a tie, and why it began."""
    counts = Counter(status.view for status in working)
    view = max(counts, key=lambda view: (counts[view], view))
    reasons = [printable(status.reason) for status in working if status.view == view]
    return f"{view_word} {view}{_why([reason for reason in reasons if reason not in BEGUN])}"


def _why(reasons: Sequence[str]) -> str:
    """Most reasons are sentences; a replica that was started again has not seen its view begin."""
    seen = [reason for reason in reasons if reason != RESTARTED]
    if not seen:
        return ", as before the restart" if reasons else ""
    reason = min(seen, key=lambda reason: any(words in reason for words in FOLLOWED))
    if reason.startswith("the only "):
        return f", elected by {reason}"
    return f" because {_subject(reason)}{reason}"


def _subject(reason: str) -> str:
    """Some reasons have none of their own."""
    if reason.startswith("no "):
        return "there was "
    return "its leader " if reason.startswith("heard ") else ""


def _absent(statuses: Mapping[int, Status | None], quorum: int) -> str:
    """Who is missing, and of those that answer, if they are enough, what holds them."""
    silent = [node for node, status in sorted(statuses.items()) if status is None]
    parts = [f"{_nodes(silent)} {'does' if len(silent) == 1 else 'do'} not answer"] if silent else []
    if len(statuses) - len(silent) < quorum:
        return ", ".join(parts)
    for node, status in sorted(statuses.items()):
        if status is not None and not status.in_sync:
            parts.append(f"node {node} is {printable(status.role)} at index {status.index}")
    return ", ".join(parts)


def _nodes(nodes: list[int]) -> str:
    if len(nodes) == 1:
        return f"node {nodes[0]}"
    if len(nodes) > LISTED_MAX:
        return f"nodes {', '.join(map(str, nodes[:LISTED_MAX]))} and {len(nodes) - LISTED_MAX} others"
    return f"nodes {', '.join(map(str, nodes[:-1]))} and {nodes[-1]}"
