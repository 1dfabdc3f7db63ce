"""Measure: `bench PROTOCOL` and `schema NAME`."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import enum
import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from replog.cli import options, output
from replog.cli.exits import ExitCode, WrongUsage, leave
from replog.cli.options import AuthOption, RobustOption, VerboseOption

SCHEMAS = "replog.schemas"
"""Entry point group: name of a file format -> its pydantic model."""
BENCHES = "replog.benches"
"""Entry point group: name of an engine beside `live` -> what measures a protocol on it: (protocol, f, clients,
outstanding, seconds, options) -> figures by name."""
LIVE = "live"
OUTSTANDING = 1000
OUTSTANDING_SIMULATED = 16


class Durability(enum.StrEnum):
    ALWAYS = "always"
    PERIODIC = "periodic"
    MEMORY = "memory"


JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures here.", callback=options.writable)
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
    protocol: Annotated[str, typer.Argument(help="pbft, raft, or another installed protocol.")],
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
    json_file: JsonFile = None,
    verbose: VerboseOption = False,
) -> None:
    """Load a fresh cluster of real processes: closed loop, `put` of an 8-byte key and an 8-byte value, or `get`.

    Example: replog bench pbft --clients 1 --outstanding 1000 --seconds 5 --json pbft.json
    """
    chosen = options.protocol_options(protocol, auth, robust)
    if engine == LIVE:
        from replog.live import bench as load

        plan = load.Plan(protocol, f, clients, outstanding or OUTSTANDING, seconds, durability.value, reads, chosen)
        figures = load.run(plan, progress=output.remark if verbose else None)
    else:
        beside = {"--durability": durability is not Durability.ALWAYS and durability.value, "--reads": reads}
        for flag, value in beside.items():
            if value:
                raise WrongUsage(f"{flag} = {value}: must not stand beside --engine = {engine}, which has its own load")
        figures = _engine(engine)(protocol, f, clients, outstanding or OUTSTANDING_SIMULATED, seconds, chosen)
    if json_file is not None:
        _write(json_file, json.dumps(figures, indent=2) + "\n")
    output.table(("figure", "value"), list(_rows(figures)))
    if not figures["acknowledged"]:
        leave(ExitCode.VACUOUS)


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
            yield from ((f"{name} {key}", inner) for key, inner in value.items())
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
