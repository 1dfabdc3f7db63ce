"""`replog bench --calibrate FILE`, joined to the command through the entry point group `replog.calibrations`; from a
checkout also `python -m compare.calibration`, which takes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compare.calibration import check, measure
from compare.calibration.machine import Machine, read, write
from replog import protocols
from replog.cli import output

Say = Callable[[str], None]
PROTOCOLS = ("pbft", "raft")


def calibrate(
    protocol: str | None, f: int, options: Mapping[str, Any], file: Path, checked: bool, say: Say
) -> dict[str, Any] | None:
    """Measure this machine and write `file`. With `checked`, also compare the model with real processes: the points,
    and whether all are met."""
    names = [protocol] if protocol is not None else [name for name in PROTOCOLS if name in protocols.names()]
    for name in names:
        protocols.find(name)
    write(measure.machine(names, f, options, say), file)
    machine = read(file)
    show(machine)
    return compared(machine, names, f, options, say) if checked else None


def compared(machine: Machine, names: list[str], f: int, options: Mapping[str, Any], say: Say) -> dict[str, Any]:
    points = check.alternate(machine, names, f, options, say)
    output.table(check.HEADS, check.rows(points))
    met = all(point.met for point in points)
    return {"cost_model": machine.told(), "points": [point.told() for point in points], "met": met}


def show(machine: Machine) -> None:
    """Every price with what it was measured by."""
    common = {**machine.prices.model_dump(), **machine.waits.model_dump()}
    rows = [(name, value, machine.measured_by[name]) for name, value in common.items()]
    for protocol, own in machine.protocols.items():
        prices = own.model_dump(exclude={"options", "events"})
        rows += [(f"{protocol} {name}", value, machine.measured_by[name]) for name, value in prices.items()]
        rows += [(f"{protocol} {name}", value, machine.measured_by["events"]) for name, value in own.events.items()]
    output.table(("price", "value", "measured by"), [(name, f"{value:g}", by) for name, value, by in rows])
    if machine.load > 1:
        output.remark(f"others were at work (load {machine.load:g}): measure again when the machine is idle")
