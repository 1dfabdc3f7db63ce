"""`python -m compare.calibration FILE [PROTOCOL] [--check | --check-only] [--json FILE]`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from compare.calibration import command, machine
from replog.cli import output
from replog.cli.exits import ExitCode, leave


def main(
    file: Annotated[Path, typer.Argument(help="The cost model: written, or with --check-only read.")],
    protocol: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Then compare it with real processes.")] = False,
    check_only: Annotated[bool, typer.Option("--check-only", help="Compare a model that is there.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what the comparison found here.")] = None,
) -> None:
    """Measure this machine as a cost model of the simulator."""
    found: dict[str, Any] | None
    if check_only:
        known = machine.read(file)
        names = [protocol] if protocol is not None else list(known.protocols)
        found = command.compared(known, names, 1, {}, output.remark)
    else:
        found = command.calibrate(protocol, 1, {}, file, check, output.remark)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n")
    if found is not None and not found["met"]:
        leave(ExitCode.NOT_AS_EXPECTED)


if __name__ == "__main__":
    typer.run(main)
