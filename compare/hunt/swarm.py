"""Swarm testing: each seed draws its own subset of the kinds of faults, and only those happen in its run.

A schedule with everything in it rarely keeps one thing up for long enough; one that lacks most kinds shows what the
others hide [Groce et al., Swarm Testing, ISSTA'12]. Nobody lies in Raft; in PBFT at most f replicas do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from compare import drawing
from compare.hunt.case import KINDS, Case, Kind

DURATION_S: Final = 4.0
"""The longest; most runs end soon after the faults."""
FROM_S, TO_S, END_S = 0.02, 0.25, 0.35
LASTS_S: Final = (0.002, 0.03, 0.1, 0.2)
PBFT_SIZES: Final = ((4, 1),) * 18 + ((5, 1), (6, 1), (7, 2))
RAFT_SIZES: Final = ((3, 1), (3, 1), (5, 2), (5, 2), (4, 1))
LATE_US: Final = (2_000, 60_000, 200_000)
"""How long what is overtaken is held back: some of it into another view or term."""
REAL: Final = 10
"""Every so many seeds one is signed for real."""
TIMED: Final[frozenset[Kind]] = frozenset({"pause", "slow", "clock"})
"""What breaks the assumption of leases [Ongaro14 6.4.1] (HAZARDS R25)."""


def draw(protocol: str, seed: int) -> Case:
    """The case of a seed."""
    chance = random.Random(f"{seed}/swarm/{protocol}")
    kinds = _subset(chance)
    return (pbft if protocol == "pbft" else crashes)(chance, protocol, seed, kinds)


def _subset(chance: random.Random) -> list[Kind]:
    some: list[Kind] = [kind for kind in KINDS if chance.random() < 0.35]
    return some or [chance.choice(KINDS)]


def pbft(chance: random.Random, protocol: str, seed: int, kinds: list[Kind]) -> Case:
    real = seed % REAL == 0
    n, f = (4, 1) if real else chance.choice(PBFT_SIZES)
    timeline = _lies(chance, n, f) if chance.random() < 0.6 else []
    liars = timeline[0]["target"] if timeline else []
    strangers = chance.choice((0, 0, 1, 2)) if timeline else 0
    others = [node for node in range(n) if node not in liars]
    return _case(
        chance,
        protocol,
        seed,
        n,
        f,
        options=drawing.options(seed),
        timeline=timeline,
        strikes=strikes(chance, kinds, others),
        byzantine=strangers,
        real=real,
    )


def _lies(chance: random.Random, n: int, f: int) -> list[dict[str, Any]]:
    ends = {"end_s": END_S} if chance.random() < 0.5 else {}
    return [{"attack": "random-liar", "target": drawing.who_lies(chance, n, f), "start_s": 0.0} | ends]


def crashes(chance: random.Random, protocol: str, seed: int, kinds: list[Kind]) -> Case:
    """Of any protocol that stands no liars."""
    n, f = chance.choice(RAFT_SIZES)
    options = raft_options(chance, kinds) if protocol == "raft" else {}
    struck = strikes(chance, kinds, list(range(n)))
    return _case(chance, protocol, seed, n, f, options=options, strikes=struck, real=seed % REAL == 0)


def raft_options(chance: random.Random, kinds: list[Kind]) -> dict[str, Any]:
    """Short times and small bounds, so that a short run has elections, snapshots and full windows."""
    low = chance.choice((25_000, 60_000, 100_000))
    careful = chance.random() < 0.8
    lease = careful and not TIMED & set(kinds) and chance.random() < 0.3
    return {
        "election_timeout_min_us": low,
        "election_timeout_max_us": 2 * low,
        "heartbeat_us": low // 5,
        "pre_vote": careful,
        "check_quorum": careful,
        "leader_stickiness": careful,
        "fast_reads": chance.random() < 0.8,
        "lease_reads": lease,
        "read_from": chance.choice(("leader", "any")),
        "batch_requests_max": chance.choice((1, 4, 1_024)),
        "append_entries_max": chance.choice((1, 4, 256)),
        "uncommitted_max": chance.choice((1, 8)),
        "window": chance.choice((1, 4, 64)),
        "snapshot_entries": chance.choice((3, 10, 4_096)),
        "log_tail": chance.choice((0, 2)),
        "snapshot_chunk_bytes": chance.choice((256, 1_048_576)),
        "snapshot_retry_us": 40_000,
        "snapshot_timeout_us": 300_000,
        "client_retry_us": 150_000,
    }


def strikes(chance: random.Random, kinds: list[Kind], nodes: list[int]) -> list[dict[str, Any]]:
    return [strike(chance, chance.choice(kinds), nodes) for _ in range(chance.randint(2, 6))]


def strike(chance: random.Random, kind: Kind, nodes: list[int]) -> dict[str, Any]:
    start = round(chance.uniform(FROM_S, TO_S), 3)
    end = round(min(start + chance.choice(LASTS_S), END_S), 3)
    amounts: dict[Kind, Callable[[], float]] = {
        "loss": lambda: chance.choice((0.05, 0.3)),
        "duplicate": lambda: chance.choice((0.1, 0.5)),
        "reorder": lambda: chance.choice((0.1, 0.5)),
        "slow": lambda: chance.choice((300, 3_000)),
        "disk": lambda: chance.choice((1_000, 20_000)),
        "clock": lambda: chance.choice((-200_000, -50_000, 50_000, 400_000)),
    }
    amount = amounts[kind]() if kind in amounts else 0
    return {"fault": kind, "nodes": _whom(chance, nodes), "start_s": start, "end_s": end, "amount": amount}


def _whom(chance: random.Random, nodes: list[int]) -> Any:
    some = sorted(chance.sample(nodes, chance.randint(1, len(nodes))))
    return chance.choice(("leader", "leader", [chance.choice(nodes)], some))


def _case(
    chance: random.Random,
    protocol: str,
    seed: int,
    n: int,
    f: int,
    *,
    options: dict[str, Any],
    strikes: list[dict[str, Any]],
    timeline: list[dict[str, Any]] | None = None,
    byzantine: int = 0,
    real: bool = False,
) -> Case:
    return Case.model_validate(
        {
            "name": f"hunt-{protocol}",
            "summary": f"seed {seed} of the search",
            "protocol": protocol,
            "seed": seed,
            "f": f,
            "duration_s": DURATION_S,
            "settle_s": 20.0,
            "engines": ["sim"],
            "protocols": {protocol: {"n": n, "options": options}},
            "network": drawing.network(chance) | {"reorder_us": LATE_US[seed % len(LATE_US)]},
            "disk": drawing.disk(chance),
            "workload": {
                "clients": 3,
                "outstanding": 2,
                "pause_ms": 60 if real or n > 5 else chance.choice((20, 40)),
                "keys": chance.choice((2, 6)),
                "operations": 3 if real or n > 4 else chance.choice((1, 1, 3)),
                "byzantine": byzantine,
            },
            "timeline": timeline or [],
            "strikes": strikes,
            "real_signatures": real,
        }
    )
