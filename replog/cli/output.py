"""How commands speak: tables for a person, JSON for a program, plain tab-separated lines into a pipe.

Colour only on a terminal and never with NO_COLOR (rich sees to both). Errors and progress go to stderr, one line each.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from replog.errors import ReplogError

if TYPE_CHECKING:
    from rich.console import Console

ROLE_STYLES = {"primary": "bold green", "leader": "bold green", "down": "bold red"}
GAP = 2
"""Blanks between columns."""
UNBROKEN = "\N{NO-BREAK SPACE}"


class Unwritable(ReplogError):
    """What the command has to say cannot be written."""


def line(text: str = "") -> None:
    """One line on stdout. A reader that has gone away ends the command quietly. Raises Unwritable."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has no reader either
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(0) from None
        raise Unwritable(f"standard output cannot be written: {error.strerror}") from None


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
    """Aligned columns on a terminal; tab-separated lines, header first, into a pipe.

    Text is broken between its words where it must be; an address or a pid never is. A terminal too narrow for that
    gets each row as pairs of name and value.
    """
    told = [[str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (list(columns), *told):
            line("\t".join(row))
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if _least_width(columns, told) <= console.width:
        _draw(console, columns, told)
    else:
        _list_pairs(console, columns, told)


def _draw(console: Console, columns: Sequence[str], rows: list[list[str]]) -> None:
    from rich.table import Column, Table

    texts = [_is_text(column) for column in zip(*rows, strict=True)] or [False] * len(columns)
    heads = [Column(name, no_wrap=not text, overflow="fold") for name, text in zip(columns, texts, strict=True)]
    drawn = Table(*heads, box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for row in rows:
        drawn.add_row(*row, style=_style(row))
    console.print(drawn)


def _list_pairs(console: Console, columns: Sequence[str], rows: list[list[str]]) -> None:
    """`node 0  pid 71  address 127.0.0.1:4700 ...`, in lines that end between pairs."""
    for row in rows:
        pairs = (f"{name} {cell}".replace(" ", UNBROKEN) for name, cell in zip(columns, row, strict=True) if cell)
        lines = textwrap.wrap(
            "  ".join(pairs),
            console.width,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        console.print("\n".join(lines).replace(UNBROKEN, " "), style=_style(row), soft_wrap=True)


def _least_width(columns: Sequence[str], rows: list[list[str]]) -> int:
    """How narrow the table may be before something would be cut."""
    widths = []
    for name, *cells in zip(columns, *rows, strict=True):
        parts = [word for cell in (name, *cells) for word in cell.split()] if _is_text(cells) else [name, *cells]
        widths.append(max(map(len, parts), default=0) + GAP)
    return sum(widths) - GAP


def _is_text(cells: Sequence[str]) -> bool:
    return any(" " in cell for cell in cells)


def _style(row: list[str]) -> str | None:
    return next((ROLE_STYLES[cell] for cell in row if cell in ROLE_STYLES), None)


def remark(text: str) -> None:
    """One line on stderr: progress, warnings, what a person may want to know but no program reads. Nothing depends on
    it: where nobody can read it the command goes on."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def visible(text: str, keep: str = "") -> str:
    r"""`text` with what does not print as itself as \n, \x1b, \u202e and so on: whoever wrote it does not get hold of
    the terminal that shows it."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def named(text: str, length_max: int = 80) -> str:
    """A key or another word of the user's in a sentence: visible, and no longer than a person reads."""
    return visible(text if len(text) <= length_max else f"{text[:length_max]}... ({len(text)} characters)")
