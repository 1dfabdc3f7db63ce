"""What the simulated world promises of delays: synchronous, partially synchronous, asynchronous.

[DLS88] Dwork, Lynch, Stockmeyer, Consensus in the Presence of Partial Synchrony, JACM 35 (2), 1988: a bound on delays
holds always, from an unknown time on (GST), or never. Of the two readings of GST ours loses no frame before it; all of
them arrive within the bound after it (their remark 2 in section 4).
"""

from __future__ import annotations

from typing import Final

from compare.environment import ASYNCHRONOUS, Timing
from replog.sim.cluster import SimCluster
from replog.sim.disturbances import Bound, Delay, Disturbance, Withhold
from replog.types import Micros, Principal

LOOK_US: Final = 10_000
"""How often the adversary looks who leads no more. What it holds back of those is let go."""


class Timeliness:
    """Invariant: no frame is lost by it, and from `stable_at` on every frame arrives within the bound."""

    def __init__(self, cluster: SimCluster, timing: Timing, began: Micros) -> None:
        self._cluster = cluster
        self._timing = timing
        self._bound = round(timing.bound_ms * 1_000)
        self._stable_at = None if timing.stabilises_s is None else began + round(timing.stabilises_s * 1_000_000)
        self._late: Disturbance = Bound(cluster.world, self._bound)
        if timing.kind in ASYNCHRONOUS:
            cluster.at(began + round(timing.from_s * 1_000_000), self._begin)
        else:
            cluster.network.disturb(self._late, _everywhere)

    @property
    def acts(self) -> int:
        """Frames that were late, or held back."""
        return self._late.acts

    def _begin(self) -> None:
        if self._timing.adversary == "chance":
            stream = self._cluster.world.stream("timing")
            self._late = Delay(self._timing.late.model.sampler(stream), self._latest)
            self._cluster.network.disturb(self._late, _everywhere)
        else:
            self._late = Withhold(self._cluster.world, self._leads)
            self._cluster.network.disturb(self._late, lambda a, b: isinstance(a, int) and isinstance(b, int))
            self._cluster.after(LOOK_US, self._look)
        if self._stable_at is not None:
            self._cluster.at(self._stable_at, self._stabilise)

    def _latest(self) -> Micros | None:
        return None if self._stable_at is None else self._stable_at + self._bound

    def _leads(self, node: Principal) -> bool:
        """By its own word."""
        status = self._cluster.status(node) if isinstance(node, int) else None
        return status is not None and status.leader == node

    def _look(self) -> None:
        if isinstance(self._late, Withhold) and (self._stable_at is None or self._cluster.now < self._stable_at):
            self._late.release(self._bound)
            self._cluster.after(LOOK_US, self._look)

    def _stabilise(self) -> None:
        self._cluster.network.calm(self._late)
        if isinstance(self._late, Withhold):
            self._late.release(self._bound, all_of_them=True)
        self._cluster.network.disturb(Bound(self._cluster.world, self._bound), _everywhere)


def _everywhere(_: Principal, __: Principal) -> bool:
    return True
