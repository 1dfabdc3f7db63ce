"""The simulated world: virtual time, a seeded network, disks and processes, around the same replicas as the live one.

Read `cluster` first, then `process` (how work takes time) and `node` (how effects are carried out).
"""

from replog.sim.client import SimClient
from replog.sim.cluster import Counters, SimCluster, Stalled
from replog.sim.costs import FREE, REFERENCE, CostModel
from replog.sim.disk import DiskModel
from replog.sim.network import LAN, Constant, Exponential, NetworkModel, Normal, Pareto, Uniform

__all__ = [
    "SimCluster",
    "SimClient",
    "Counters",
    "Stalled",
    "NetworkModel",
    "LAN",
    "Constant",
    "Uniform",
    "Exponential",
    "Normal",
    "Pareto",
    "DiskModel",
    "CostModel",
    "REFERENCE",
    "FREE",
]
