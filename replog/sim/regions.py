"""A wide-area network from published round trips between the regions of one provider.

Here: the table, and the delay between two addresses that it gives. Not here: links (`replog.sim.network`).

Source: IBM Cloud Docs, Virtual Private Cloud, "Network latency", inter-region table of 3 Feb 2024 - 3 Mar 2024 (average
over 30 days, milliseconds, both directions measured): github.com/ibm-cloud-docs/vpc, file
_include-segments/network-latency.md, commit 009bede4f2be2a4cdcbd27359cab8ecb76870fad. The page says "average latency".
We take it for round trips, since the cities allow nothing else: one way in glass from London to Frankfurt takes some 3
ms, and the table says 12.
Within a region the table of the same page gives 0.6 to 2.9 ms between zones; `LOCAL_MS` lies between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from replog.sim.network import Delay, Normal
from replog.types import Principal

REGIONS: Final = (
    "dallas", "toronto", "washington", "frankfurt", "london", "madrid", "osaka", "sydney", "tokyo", "sao-paulo",
)  # fmt: skip

ROUND_TRIPS_MS: Final = (
    (0, 34, 32, 123, 113, 118, 149, 185, 142, 144),
    (34, 0, 19, 92, 82, 107, 170, 215, 162, 130),
    (32, 19, 0, 98, 75, 87, 174, 215, 167, 119),
    (123, 92, 98, 0, 12, 29, 242, 260, 237, 196),
    (113, 82, 75, 12, 0, 26, 253, 272, 247, 186),
    (118, 107, 87, 29, 26, 0, 268, 281, 260, 205),
    (149, 170, 174, 245, 255, 268, 0, 124, 9, 293),
    (185, 215, 214, 260, 271, 285, 124, 0, 117, 329),
    (141, 164, 167, 237, 246, 259, 9, 117, 0, 286),
    (145, 128, 120, 196, 185, 206, 292, 326, 285, 0),
)
"""From the region of the row to that of the column, in the order of REGIONS."""

LOCAL_MS: Final = 1.9
"""Between two addresses in one region."""


def round_trip_ms(source: str, target: str) -> float:
    """Between two regions by name."""
    if source == target:
        return LOCAL_MS
    return ROUND_TRIPS_MS[REGIONS.index(source)][REGIONS.index(target)]


@dataclass(frozen=True)
class WideArea:
    """Replica K is in `replicas[K]`, client cK in `clients[K]`, both taken around.

    `outward`: the share of a round trip that the way from the lower address to the higher one takes, replicas below
    clients; 0.5 is the same both ways. `jitter`: the deviation, as a share of the delay; nothing arrives before the
    delay less half of it.
    """

    replicas: tuple[str, ...]
    clients: tuple[str, ...]
    outward: float = 0.5
    jitter: float = 0.02

    def delay(self, source: Principal, target: Principal) -> Delay:
        share = self.outward if _rank(source) < _rank(target) else 1 - self.outward
        us = 1_000 * round_trip_ms(self._region(source), self._region(target)) * share
        return Normal(round(us), round(us * self.jitter), round(us / 2))

    def _region(self, name: Principal) -> str:
        places = self.replicas if isinstance(name, int) else self.clients
        return places[_rank(name)[1] % len(places)]


def _rank(name: Principal) -> tuple[bool, int]:
    if isinstance(name, int):
        return False, name
    digits = "".join(letter for letter in name if letter.isdigit())
    return True, int(digits or 0)
