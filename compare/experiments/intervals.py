"""How far figures of a sample may be off: intervals at a stated level, nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import Final, NamedTuple

LEVEL: Final = 0.95


class Interval(NamedTuple):
    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(hits: int, trials: int, level: float = LEVEL) -> Interval:
    """Of a chance, by so many hits. Wilson's score interval: it is right for few hits too, and within [0, 1]."""
    if not 0 <= hits <= trials or trials == 0:
        raise ValueError(f"hits = {hits}, trials = {trials}: at least one trial, and no more hits than trials")
    z, share = _z(level), hits / trials
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    centre, scale = share + z * z / (2 * trials), 1 + z * z / trials
    low = 0.0 if hits == 0 else (centre - spread) / scale
    return Interval(low, 1.0 if hits == trials else (centre + spread) / scale)


def likelihood(hits: int, trials: int, chance: float) -> float:
    """How likely hits at least as far off are, on either side, if the chance of each is `chance`: exact, where Wilson's
    interval errs for a rare hit among few trials."""
    below = sum(_binomial(k, trials, chance) for k in range(hits))
    return min(1.0, 2 * min(below + _binomial(hits, trials, chance), 1 - below))


def _binomial(k: int, trials: int, chance: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
    return math.exp(ways + k * math.log(chance) + (trials - k) * math.log1p(-chance))


def of_quantile(ordered: Sequence[float], share: float, level: float = LEVEL) -> Interval:
    """Of the quantile `share` of what `ordered` was drawn from, by its order statistics: no distribution is assumed."""
    number, z = len(ordered), _z(level)
    if not number:
        raise ValueError("ordered is empty: at least one value")
    spread = z * math.sqrt(number * share * (1 - share))
    low, high = math.floor(number * share - spread) - 1, math.ceil(number * share + spread)
    return Interval(ordered[max(low, 0)], ordered[min(high, number - 1)])


def of_mean(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Of the mean, for samples large enough to be normal in the mean."""
    centre = fmean(values)
    spread = _z(level) * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Interval(centre - spread, centre + spread)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The least value that `share` of them do not exceed."""
    return ordered[max(math.ceil(len(ordered) * share) - 1, 0)]
