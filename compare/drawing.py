"""Scenarios drawn from a seed: size, options, network, disks, who lies, and which faults strike whom and when.

What comes out is a scenario like one from a file. Faults of the environment may strike any number of replicas at once:
safety must hold in all of it. Liars are at most f; in half of the runs they never stop.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from compare.scenario import Scenario
from pbft.config import Options

SIZES: Final = ((4, 1), (4, 1), (4, 1), (7, 2), (7, 2), (5, 1), (6, 1), (8, 2))
FAULTS_FROM_S, FAULTS_TO_S, ENDS_S = 0.1, 1.0, 1.2


def draw(scenario: Scenario, seed: int) -> Scenario:
    """`scenario` with all that a seed decides; the same one for the same seed."""
    chance = random.Random(f"{seed}/scenario")
    n, f = chance.choice(SIZES)
    drawn = {
        "drawn": False,
        "f": f,
        "protocols": {
            name: side.model_dump() | {"n": n, "options": options(seed) | side.options}
            for name, side in scenario.protocols.items()
        },
        "network": network(chance),
        "disk": disk(chance),
        "workload": scenario.workload.model_dump()
        | {"byzantine": chance.choice((0, 1, 1, 2, 5)), "operations": chance.choice((1, 1, 3))},
        "timeline": _timeline(chance, n, f),
    }
    exact = Scenario.model_validate(scenario.model_dump() | drawn)
    exact._file = scenario._file
    return exact


def options(seed: int) -> dict[str, Any]:
    """Small windows and short times, so that a short run has checkpoints, transfers of state and changes of view. Odd
    seeds run under MACs, even ones under signatures."""
    chance = random.Random(f"{seed}/options")
    interval = chance.choice((2, 4, 8))
    window = interval * chance.choice((2, 4))
    flags = {name: _flag(seed, name) for name, field in Options.model_fields.items() if field.annotation is bool}
    return flags | {
        "auth": "macs" if seed % 2 else "signatures",
        "key_lifetime_us": chance.choice((1_000_000, 300_000_000)),
        "checkpoint_interval": interval,
        "log_window": window,
        "in_flight_max": min(window, chance.choice((1, 2, 4, 8))),
        "batch_delay_us": chance.choice((0, 500, 5_000)),
        "batch_requests_max": chance.choice((1, 4, 512)),
        "view_timeout_us": chance.choice((120_000, 200_000)),
        "view_timeout_cap_us": 1_000_000,
        "status_interval_us": 15_000,
    }


def _flag(seed: int, name: str) -> bool:
    """Each from chance of its own: an option that is added later shifts no other."""
    return random.Random(f"{seed}/options/{name}").random() < 0.5


def network(chance: random.Random) -> dict[str, Any]:
    delays = ({"kind": "uniform"}, {"kind": "exponential", "mean_us": 400}, {"kind": "pareto", "low_us": 200})
    return {
        "delay": chance.choice(delays),
        "loss": chance.choice((0.0, 0.01)),
        "duplicate": chance.choice((0.0, 0.05)),
        "reorder": chance.choice((0.0, 0.1)),
    }


def disk(chance: random.Random) -> dict[str, Any]:
    """A slow disk has much to lose at a crash."""
    slow = {"kind": "exponential", "mean_us": 2_000, "low_us": 50}
    return {"sync": chance.choice(({"kind": "constant", "mean_us": 55}, slow)), "survives": chance.choice((0.0, 0.5))}


def _timeline(chance: random.Random, n: int, f: int) -> list[dict[str, Any]]:
    liars = who_lies(chance, n, f)
    ends = {"end_s": ENDS_S} if chance.random() < 0.5 else {}
    others = [node for node in range(n) if node not in liars]
    faults = [fault(chance, others) for _ in range(chance.randint(3, 7))]
    return [{"attack": "random-liar", "target": liars, "start_s": 0.0} | ends, *faults]


def who_lies(chance: random.Random, n: int, f: int) -> list[int]:
    """Often one that leads an early view: most views end before many others have led."""
    first = chance.choice((0, 0, 1, None))
    others = chance.sample([node for node in range(n) if node != first], chance.randint(1, f))
    return sorted(others if first is None else [first, *others[1:]])


def fault(chance: random.Random, nodes: list[int]) -> dict[str, Any]:
    start = chance.uniform(FAULTS_FROM_S, FAULTS_TO_S)
    lasts = chance.choice((0.001, 0.05, 0.2, 0.5))
    strikes: dict[str, Callable[[], dict[str, Any]]] = {
        "crash": lambda: {"target": _some(chance, nodes)},
        "pause": lambda: {"target": _some(chance, nodes)},
        "isolate": lambda: {"target": _some(chance, nodes)},
        "split": lambda: {"target": _some(chance, nodes)},
        "loss": lambda: {"target": "all", "options": {"loss": chance.choice((0.05, 0.3))}},
    }
    name = chance.choice(("crash", "crash", *strikes))
    return {"fault": name, "start_s": start, "end_s": min(start + lasts, ENDS_S)} | strikes[name]()


def _some(chance: random.Random, nodes: list[int]) -> Any:
    """Whoever leads, liar or not; else one, some or all of these."""
    some = sorted(chance.sample(nodes, chance.randint(1, len(nodes))))
    return chance.choice(("leader", chance.choice(nodes), some))
