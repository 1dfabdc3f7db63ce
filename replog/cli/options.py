"""Options that mean the same on every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ClusterOption = Annotated[
    Path | None,
    typer.Option(
        "--cluster",
        metavar="DIR",
        envvar="REPLOG_CLUSTER",
        help="Folder of the cluster.",
        show_default="./replog-PROTOCOL",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more, with tracebacks of errors.")]

RUN = "Run"
COMPARE = "Compare"
LEARN = "Learn"
OPERATE = "Operate"
MEASURE = "Measure"
PANELS = (RUN, COMPARE, LEARN, OPERATE, MEASURE)
"""The panels of `replog --help`, in order; a joined command names one of them as its `rich_help_panel`."""
