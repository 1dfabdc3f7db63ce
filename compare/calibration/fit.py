"""Prices from counts: least squares in which no price is negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

SWEEPS: Final = 5_000
ENOUGH: Final = 1e-9


def prices(rows: Sequence[Mapping[str, float]], totals: Sequence[float]) -> dict[str, float]:
    """For each name the price, at least 0, with which the counts of every row come closest to its total.

    Coordinate descent on the normal equations, which ends at the least squares for any start since the problem is
    convex. A name without a count has price 0.
    """
    names = sorted({name for row in rows for name, count in row.items() if count})
    gram = {a: {b: sum(row.get(a, 0) * row.get(b, 0) for row in rows) for b in names} for a in names}
    aim = {a: sum(row.get(a, 0) * total for row, total in zip(rows, totals, strict=True)) for a in names}
    found = dict.fromkeys(names, 0.0)
    for _ in range(SWEEPS):
        moved = 0.0
        for a in names:
            miss = aim[a] - sum(gram[a][b] * found[b] for b in names)
            better = max(0.0, found[a] + miss / gram[a][a])
            moved = max(moved, abs(better - found[a]) / (1.0 + found[a]))
            found[a] = better
        if moved < ENOUGH:
            break
    return found


def cost(counts: Mapping[str, float], known: Mapping[str, float]) -> float:
    """What the counts come to; a name without a price costs nothing."""
    return sum(count * known.get(name, 0.0) for name, count in counts.items())
