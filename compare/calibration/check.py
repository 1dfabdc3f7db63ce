"""Whether a cost model is true: the same loads simulated and live, in turn, and the ratio of what they give.

The loads are others than those that the model was made from (`compare.calibration.live.LOADS`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from compare.calibration import simulated
from compare.calibration.machine import Machine
from replog.config import for_use
from replog.live import bench

CLIENTS: Final = (1, 16, 256)
"""One operation outstanding each."""
PAIRS: Final = 5
SECONDS: Final = 2.0
SIMULATED_S: Final = 1.0
"""A simulated second is like any other, but for the seed."""
LOW, HIGH = 0.75, 1.33
FIGURES: Final = ("throughput", "p50")
"""What is judged; beside them what tells where a wrong one comes from."""
BESIDE: Final = ("cpu", "turns")
Figures = tuple[float, float, float, float]
"""Operations a second; milliseconds; of all replicas CPU seconds for a thousand operations, and turns for one;
0 where a replica did not tell."""


@dataclass
class Point:
    """One protocol under one load, simulated and live in turn."""

    protocol: str
    clients: int
    simulated: list[Figures] = field(default_factory=list)
    live: list[Figures] = field(default_factory=list)

    def ratios(self, figure: str) -> list[float]:
        """Simulated over live, pair by pair, where both are known."""
        place = (*FIGURES, *BESIDE).index(figure)
        pairs = zip(self.simulated, self.live, strict=True)
        return [ours[place] / theirs[place] for ours, theirs in pairs if theirs[place]] or [0.0]

    def ratio(self, figure: str) -> float:
        return statistics.median(self.ratios(figure))

    @property
    def met(self) -> bool:
        return all(LOW <= self.ratio(figure) <= HIGH for figure in FIGURES)

    def told(self) -> dict[str, Any]:
        ratios = {f"{figure}_ratio": round(self.ratio(figure), 3) for figure in (*FIGURES, *BESIDE)}
        named = {"protocol": self.protocol, "clients": self.clients, "met": self.met, **ratios}
        return named | {"simulated": self.simulated, "live": self.live}


def alternate(
    machine: Machine,
    protocols: Sequence[str],
    f: int,
    options: Mapping[str, Any],
    say: Callable[[str], None],
) -> list[Point]:
    """All points in each round, so that a slow moment of the machine strikes all of them. Raises RuntimeError if
    nothing was acknowledged somewhere: then there is no ratio."""
    points = [Point(protocol, number) for protocol in protocols for number in CLIENTS]
    for turn in range(1, PAIRS + 1):
        for point in points:
            chosen = for_use(point.protocol, dict(options))
            point.simulated.append(_simulated(machine, point, f, chosen, turn))
            point.live.append(_live(point, f, chosen))
            ours, theirs = point.simulated[-1][0], point.live[-1][0]
            say(f"{turn} of {PAIRS}: {point.protocol}, {point.clients} clients: {ours:g} and {theirs:g} ops/s")
    return points


def _simulated(machine: Machine, point: Point, f: int, options: Mapping[str, Any], seed: int) -> Figures:
    found = simulated.load(machine, point.protocol, f, point.clients, 1, SIMULATED_S, options, seed)
    return _figures(found)


def _live(point: Point, f: int, options: Mapping[str, Any]) -> Figures:
    found = bench.run(bench.Plan(point.protocol, f, point.clients, 1, SECONDS, options=options))
    if not found["acknowledged"]:
        raise RuntimeError(f"{point.protocol}, {point.clients} clients: nothing was acknowledged by real replicas")
    return _figures(found)


def _figures(found: Mapping[str, Any]) -> Figures:
    told = found["throughput_ops_s"], found["latency_ms"]["p50"]
    return *told, found["replica_cpu_s_per_1000_ops"] or 0.0, found["turns_per_op"] or 0.0


def rows(points: Sequence[Point]) -> list[tuple[Any, ...]]:
    """For a table: HEADS."""
    return [
        (
            point.protocol,
            point.clients,
            *(_middle(found, place) for place in (0, 1) for found in (point.simulated, point.live)),
            *(_spread(point, figure) for figure in (*FIGURES, *BESIDE)),
            "yes" if point.met else "no",
        )
        for point in points
    ]


HEADS: Final = (
    "protocol",
    "clients",
    "ops/s, simulated",
    "live",
    "p50 ms, simulated",
    "live",
    "ratio of ops/s",
    "of p50",
    "of CPU",
    "of turns",
    f"within {LOW} .. {HIGH}",
)


def _middle(found: Sequence[Figures], place: int) -> str:
    return f"{statistics.median(pair[place] for pair in found):.4g}"


def _spread(point: Point, figure: str) -> str:
    ratios = point.ratios(figure)
    return f"{point.ratio(figure):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
