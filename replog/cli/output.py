"""How commands speak: tables for a person, JSON for a program, plain tab-separated lines into a pipe.

Colour only on a terminal and never with NO_COLOR (rich sees to both). Errors and progress go to stderr, one line each.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

ROLE_STYLES = {"primary": "bold green", "leader": "bold green", "down": "bold red"}


def line(text: str = "") -> None:
    """One line on stdout. A reader that has gone away ends the command quietly."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has no reader either
        raise typer.Exit(0) from None


def as_json(value: Any) -> None:
    """One line of JSON into a pipe, indented on a terminal. Bytes become text where they are UTF-8, else hex."""
    line(json.dumps(value, indent=2 if sys.stdout.isatty() else None, default=plain))


def text_of(value: Any) -> str:
    """A result as a person reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=plain)


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, set | frozenset | tuple):
        return sorted(value) if isinstance(value, set | frozenset) else list(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns on a terminal; tab-separated lines, header first, into a pipe."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            line("\t".join(str(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(*columns, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        style = next((ROLE_STYLES[str(cell)] for cell in row if str(cell) in ROLE_STYLES), None)
        drawn.add_row(*(str(cell) for cell in row), style=style)
    Console(highlight=False, markup=False).print(drawn)


def remark(text: str) -> None:
    """One line on stderr: progress, warnings, what a person may want to know but no program reads."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
