"""How fast simulated comparisons are: `replog bench PROTOCOL --engine sim`.

Runs without a fault, each made and judged as any other, one after another in this process until the time is up. What
is counted is what a comparison pays for: the world, the cores, the clients and the judges. Signatures are keyed hashes,
each node with a key of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from compare import judging
from compare.calibration.machine import described, read
from compare.results import Verdict
from compare.scenario import Scenario, Side, Workload
from compare.sim import Trial
from replog import protocols
from replog.errors import ConfigError

RUN_S: Final = 1.0
"""Of simulated time a run lasts."""
OUTSTANDING_MAX: Final = 64


def measure(
    protocol: str,
    f: int,
    clients: int,
    outstanding: int,
    seconds: float,
    options: Mapping[str, Any],
    cost_model: Path | None = None,
) -> dict[str, Any]:
    """Figures by name: messages delivered in a second of real time, and operations in a second of simulated time.

    `cost_model`: a file of `replog bench --calibrate`, in place of the prices of the package.
    Raises ConfigError for a load that the simulator does not take, RuntimeError if a judge objects or nothing was
    acknowledged: then the speed says nothing (HAZARDS X14).
    """
    if outstanding > OUTSTANDING_MAX:
        raise ConfigError(f"--outstanding = {outstanding}: must be at most {OUTSTANDING_MAX} in the simulator")
    spec, scenario = protocols.find(protocol), _scenario(protocol, f, clients, outstanding, options)
    machine = None if cost_model is None else read(cost_model)
    delivered = acknowledged = seed = n = 0
    judged, begin = 0.0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        seed += 1
        trial = Trial(scenario, spec, seed, machine=machine)
        observed = trial.run()
        before = time.perf_counter()
        found = judging.conclude(observed)
        judged += time.perf_counter() - before
        if found.verdict is not Verdict.OK:
            raise RuntimeError(f"seed {seed}: {found.verdict}: {[c.detail for c in found.checks.values() if not c.ok]}")
        counters, n = trial.cluster.counters, found.n
        delivered, acknowledged = delivered + counters.delivered, acknowledged + (found.acknowledged or 0)
    return {
        "protocol": protocol,
        "engine": "sim",
        "n": n,
        "f": f,
        "clients": clients,
        "outstanding": outstanding,
        "seconds": round(elapsed, 3),
        "runs": seed,
        "delivered": delivered,
        "delivered_messages_s": round(delivered / elapsed),
        "judges_share": round(judged / elapsed, 3),
        "acknowledged": acknowledged,
        "throughput_ops_s": round(acknowledged / (seed * RUN_S), 1),
        "cost_model": described(machine),
    }


def _scenario(protocol: str, f: int, clients: int, outstanding: int, options: Mapping[str, Any]) -> Scenario:
    load = Workload(clients=clients, outstanding=outstanding, pause_ms=0, keys=1000)
    return Scenario(
        name="bench",
        summary="no fault, a closed loop without pauses",
        f=f,
        duration_s=RUN_S,
        engines=("sim",),
        protocols={protocol: Side(options=dict(options))},
        workload=load,
    )
