"""`replog bench --calibrate FILE`: measure this machine and put the parts together.

What micro-benchmarks and timed steps find holds for a process that has a core to itself. Beside other busy processes
the same work takes longer (caches, switches, cores that share units), so all of it is multiplied by a factor: CPU
seconds that live replicas spent inside their cores, over what the prices say that it should have been; one for what
protocols share, and one for what each does itself. What a live process used outside its core goes to turns and frames,
by least squares over their counts.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from compare.calibration import live, micro, probe, steps
from compare.calibration.fit import cost, prices
from compare.calibration.live import Samples
from compare.calibration.machine import Handling, Machine, Prices, Waits
from compare.runner import cores
from replog import protocols
from replog.config import for_use

Say = Callable[[str], None]
CLIENT: Final = ("client_request_us", "client_operation_us")
ORDERING: Final = ("request_us", "operation_us")
MEASURED_BY: Final = {
    "cores": "what this process may use",
    "sign_us": "micro-benchmark of the real signer, times factor",
    "verify_us": "micro-benchmark of the real verifier, times factor",
    "mac_us": "micro-benchmark of the MAC of a request, times factor",
    "commit_us": "CPU of a transaction of one record in the real store, times factor",
    "record_us": "CPU of each further record in a transaction, times factor",
    "sync_us": "time of a transaction beside its CPU, median",
    "byte_ns": "CPU of both ends of a real link, frames of 32 KiB against 128 B",
    "delay_us": "time beside CPU of a frame through a real link to another process and back, half",
    "message_us": "micro-benchmark of the codec on the messages of a run, times factor",
    "events": "CPU of each step of the real core in virtual time, by kind, least squares, times factor",
    "request_us": "the same, for each request that a step executes",
    "operation_us": "the same, for each operation that a step executes",
    "client_request_us": "CPU of each submission in the client's core, times factor",
    "client_operation_us": "the same, for each operation",
    "turn_us": "CPU of live replicas outside their cores, for each turn, least squares with frame_us",
    "frame_us": "the same, for each frame read or sent",
    "client_frame_us": "CPU of a live load generator beside its clients' cores, for each frame",
    "factor": "CPU inside the cores of live replicas over what the prices above say, all runs together; raw.factors: "
    "what one protocol does itself",
}


@dataclass
class Found:
    """Of one protocol. Prices are those of a process that has a core to itself."""

    options: dict[str, Any]
    message_us: float
    replica: dict[str, float]
    client: dict[str, float]
    samples: Samples


def machine(names: Sequence[str], f: int, options: Mapping[str, Any], say: Say) -> Machine:
    """Measure for these protocols. `options`: of a protocol, where only one is measured."""
    load = os.getloadavg()[0]
    say("signatures, MACs, the store, a link")
    signing, store, link = micro.signing(), micro.storing(), micro.linking()
    found = {name: _of(name, f, options, signing, say) for name in names}
    common = {**signing, "commit_us": store["commit_us"], "record_us": store["record_us"]}
    factor = _factor([step for one in found.values() for step in _steps_of(one, signing)])
    factors = {name: _own_factor(one, signing, factor) for name, one in found.items()}
    outside = _outside(found, common, factor, factors)
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        processor=_processor(),
        system=f"{platform.system()} {platform.release()}",
        versions=_versions(),
        load=round(load, 2),
        prices=Prices(
            cores=cores(),
            byte_ns=_rounded(link["byte_ns"]),
            **{name: _rounded(price * factor) for name, price in common.items()},
            **{name: _rounded(price) for name, price in outside.items()},
        ),
        waits=Waits(sync_us=_rounded(store["sync_us"]), delay_us=_rounded(link["delay_us"])),
        protocols={name: _handling(one, factors[name]) for name, one in found.items()},
        measured_by=dict(MEASURED_BY),
        raw={
            "factor": _rounded(factor),
            "factors": {name: _rounded(own) for name, own in factors.items()},
            "signing": signing,
            "store": store,
            "link": link,
            "live": {name: _told(one, signing) for name, one in found.items()},
        },
    )


def _of(name: str, f: int, options: Mapping[str, Any], signing: Mapping[str, float], say: Say) -> Found:
    chosen = for_use(name, dict(options))
    say(f"{name}: what its core does with each message")
    timed = steps.timed(name, f, chosen, signing)
    heard = [message for messages in timed.messages.values() for message in messages]
    replica, client = steps.divided(timed.replicas), steps.divided(timed.clients)
    say(f"{name}: real replicas under {len(live.LOADS)} loads")
    samples = live.sampled(name, f, chosen)
    return Found(chosen, micro.coding(protocols.find(name).messages, heard), replica, client, samples)


Step = tuple[float, float, float]
"""Of one live replica: CPU inside its core, and what the prices say of signatures and MACs, and of the rest."""


def _steps_of(one: Found, signing: Mapping[str, float]) -> list[Step]:
    return [
        (sample.steps_us, cost(sample.counts, signing), cost(sample.counts, one.replica))
        for sample in one.samples.replicas
    ]


def _factor(spent: Sequence[Step]) -> float:
    """How much longer the work of the cores takes in live replicas. Never less than 1: nothing speeds a core up."""
    return max(1.0, sum(step[0] for step in spent) / sum(step[1] + step[2] for step in spent))


def _own_factor(one: Found, signing: Mapping[str, float], factor: float) -> float:
    """Of what one protocol does itself, if signatures take `factor` times as long as alone."""
    spent = _steps_of(one, signing)
    return max(1.0, sum(step[0] - factor * step[1] for step in spent) / sum(step[2] for step in spent))


def _told(one: Found, signing: Mapping[str, float]) -> list[dict[str, Any]]:
    """For whoever doubts the rest: each live replica, as it was counted."""
    return [
        {"cpu_us": _rounded(sample.cpu_us), "steps_us": _rounded(step[0]), "expected_us": _rounded(step[1] + step[2])}
        | {name: sample.counts[name] for name in ("turn_us", "frame_us", "commit_us", "request_us", "operation_us")}
        for sample, step in zip(one.samples.replicas, _steps_of(one, signing), strict=True)
    ]


def _outside(
    found: Mapping[str, Found], common: Mapping[str, float], factor: float, factors: Mapping[str, float]
) -> dict[str, float]:
    """turn_us, frame_us, client_frame_us: what is left of the CPU of live processes."""
    rows, left = list[dict[str, float]](), list[float]()
    client_rows, client_left = list[dict[str, float]](), list[float]()
    for name, one in found.items():
        coding = {"message_us": one.message_us * factors[name]}
        around = coding | {price: common[price] * factor for price in ("commit_us", "record_us")}
        around["probe_us"] = probe.overhead_us()
        for sample in one.samples.replicas:
            rows.append({price: sample.counts[price] for price in ("turn_us", "frame_us")})
            left.append(sample.cpu_us - sample.steps_us - cost(sample.counts, around))
        core = coding | {"sign_us": common["sign_us"] * factor}
        core |= {price: value * factors[name] for price, value in one.client.items()}
        for sample in one.samples.loads:
            client_rows.append({"client_frame_us": sample.counts["frame_us"]})
            client_left.append(sample.cpu_us - cost(sample.counts, core))
    nothing = dict.fromkeys(("turn_us", "frame_us", "client_frame_us"), 0.0)
    return nothing | prices(rows, left) | prices(client_rows, client_left)


def _handling(one: Found, factor: float) -> Handling:
    scaled = {name: _rounded(price * factor) for name, price in {**one.client, **one.replica}.items()}
    named = {name: scaled.pop(name, 0.0) for name in (*CLIENT, *ORDERING)}
    message_us = _rounded(one.message_us * factor)
    return Handling(options=one.options, message_us=message_us, events=scaled, **named)


def _rounded(price: float) -> float:
    return round(price, 3)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "openssl": ssl.OPENSSL_VERSION}
    for name in ("replog", "uvloop", "aiohttp", "pynacl", "msgspec"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not there"
    return found
