"""Measure: `bench PROTOCOL` and `schema NAME`."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import enum
import json
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from replog.cli import options, output
from replog.cli.exits import ExitCode, WrongUsage, leave
from replog.cli.options import AuthOption, CostModelOption, RobustOption, VerboseOption

SCHEMAS = "replog.schemas"
"""Entry point group: name of a file format -> its pydantic model."""
BENCHES = "replog.benches"
"""Entry point group: name of an engine beside `live` -> what measures a protocol on it: (protocol, f, clients,
outstanding, seconds, options) -> figures by name."""
CALIBRATIONS = "replog.calibrations"
"""Entry point group: `sim` -> what measures this machine for that engine: (protocol or None, f, options, file, whether
to check, say) -> what the check found, with `met`, or None."""
LIVE = "live"
SIM = "sim"
OUTSTANDING = 1000
OUTSTANDING_SIMULATED = 16


class Durability(enum.StrEnum):
    ALWAYS = "always"
    PERIODIC = "periodic"
    MEMORY = "memory"


JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures here.", callback=options.writable)
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        metavar="FILE",
        help="Measure this machine instead and write a cost model for the simulator here.",
        callback=options.writable,
    ),
]
Seconds = Annotated[
    float,
    typer.Option(min=0.1, max=86_400, callback=options.a_number, help="Measured time, after one second of warm-up."),
]
Share = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, callback=options.a_number, help="Share of requests that only read."),
]


def add_to(app: typer.Typer) -> None:
    app.command("bench", rich_help_panel=options.MEASURE)(bench)
    app.command("schema", rich_help_panel=options.MEASURE)(schema)


def bench(
    protocol: Annotated[
        str | None, typer.Argument(help="pbft, raft, or another installed protocol; --calibrate also takes none.")
    ] = None,
    f: Annotated[int, typer.Option("--f", min=0, help="Faults to stand.")] = 1,
    auth: AuthOption = None,
    robust: RobustOption = None,
    durability: Annotated[Durability, typer.Option(help="When a promise is on disk.")] = Durability.ALWAYS,
    clients: Annotated[int, typer.Option(min=1, max=1000, help="Clients, each with its own key and links.")] = 1,
    outstanding: Annotated[
        int | None,
        typer.Option(min=1, max=65536, help="Operations each client keeps waiting.", show_default="1000; simulated 16"),
    ] = None,
    seconds: Seconds = 5.0,
    reads: Share = 0.0,
    engine: Annotated[
        str, typer.Option(metavar="live|sim", help="sim: how fast simulated comparisons are, judges included.")
    ] = LIVE,
    cost_model: CostModelOption = None,
    calibrate: Calibrate = None,
    check: Annotated[
        bool, typer.Option("--check", help="With --calibrate: compare simulated with real load, five times in turn.")
    ] = False,
    json_file: JsonFile = None,
    verbose: VerboseOption = False,
) -> None:
    """Load a fresh cluster of real processes: closed loop, `put` of an 8-byte key and an 8-byte value, or `get`.

    Example: replog bench pbft --clients 1 --outstanding 1000 --seconds 5 --json pbft.json
    Example: replog bench --calibrate here.json --check
    """
    if calibrate is not None:
        beside: dict[str, Any] = {"--clients": clients != 1, "--outstanding": outstanding}
        beside |= {"--reads": reads, "--cost-model": cost_model}
        _refuse(beside, f"--calibrate = {calibrate}, which has loads of its own")
        _calibrate(protocol, f, auth, robust, calibrate, check, json_file)
        return
    _refuse({"--check": check}, "a load: it compares what --calibrate has measured")
    if protocol is None:
        raise WrongUsage("PROTOCOL: must be given, unless --calibrate is")
    chosen = options.protocol_options(protocol, auth, robust)
    if engine == LIVE:
        from replog.live import bench as load

        _refuse({"--cost-model": cost_model}, f"--engine = {engine}, which has costs of its own")
        plan = load.Plan(protocol, f, clients, outstanding or OUTSTANDING, seconds, durability.value, reads, chosen)
        figures = load.run(plan, progress=output.remark if verbose else None)
    else:
        beside = {"--durability": durability is not Durability.ALWAYS and durability.value, "--reads": reads}
        _refuse(beside, f"--engine = {engine}, which has its own load")
        named = {} if cost_model is None else {"cost_model": cost_model}
        figures = _engine(engine)(protocol, f, clients, outstanding or OUTSTANDING_SIMULATED, seconds, chosen, **named)
    if json_file is not None:
        _write(json_file, json.dumps(figures, indent=2) + "\n")
    output.table(("figure", "value"), list(_rows(figures)))
    if not figures["acknowledged"]:
        leave(ExitCode.VACUOUS)


def _refuse(beside: dict[str, Any], what: str) -> None:
    for flag, value in beside.items():
        if value:
            raise WrongUsage(f"{flag}{'' if value is True else f' = {value}'}: must not stand beside {what}")


def _calibrate(
    protocol: str | None,
    f: int,
    auth: options.Auth | None,
    robust: bool | None,
    file: Path,
    check: bool,
    json_file: Path | None,
) -> None:
    if protocol is None and (auth is not None or robust is not None):
        raise WrongUsage("--auth, --robust: must stand beside a PROTOCOL, not all of them have it")
    chosen = {} if protocol is None else options.protocol_options(protocol, auth, robust)
    found = _point(CALIBRATIONS, SIM).load()(protocol, f, chosen, file, check, output.remark)
    output.remark(f"cost model: {file}")
    if found is None:
        return
    if json_file is not None:
        _write(json_file, json.dumps(found, indent=2) + "\n")
    if not found["met"]:
        leave(ExitCode.NOT_AS_EXPECTED)


def _point(group: str, name: str) -> EntryPoint:
    known = {point.name: point for point in entry_points(group=group)}
    if name not in known:
        raise WrongUsage(f"{group} = {name}: is not installed")
    return known[name]


def _engine(name: str) -> Any:
    known = {point.name: point for point in entry_points(group=BENCHES)}
    if name not in known:
        raise WrongUsage(f"--engine = {name!r}: must be one of {', '.join([LIVE, *sorted(known)])}")
    return known[name].load()


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise WrongUsage(f"--json = {path}: cannot be written: {error.strerror}") from None


def _rows(figures: dict[str, Any]) -> Any:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from ((f"{name} {key}", inner) for key, inner in value.items() if not isinstance(inner, dict))
        else:
            yield name, "unknown here" if value is None else value


def schema(
    name: Annotated[str, typer.Argument(help="cluster, results, scenario, ...")],
    verbose: VerboseOption = False,
) -> None:
    """Print the JSON Schema of a file format.

    Example: replog schema cluster > cluster.schema.json
    """
    models = {point.name: point for point in entry_points(group=SCHEMAS)}
    if name not in models:
        raise WrongUsage(f"schema = {name!r}: must be one of {', '.join(sorted(models))}")
    output.as_json(models[name].load().model_json_schema())
