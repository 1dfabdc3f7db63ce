"""A report for a person: tables, what published figures say beside it, and the files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table as RichTable

from compare.experiments.base import Cell, Comparison, Report, Table
from compare.experiments.picture import svg
from replog.cli.exits import ExitCode

WIDTH: Final = 110


def save(report: Report, folder: Path) -> list[Path]:
    """`experiment.json`, `report.txt`, a picture each as NAME.svg, and what else there is. Gives the files."""
    files = {"experiment.json": report.model_dump_json(indent=1) + "\n"}
    files |= {f"{picture.name}.svg": svg(picture) for picture in report.pictures} | report.files
    with (folder / "report.txt").open("w", encoding="utf-8") as text:
        show(report, Console(file=text, width=WIDTH, highlight=False, markup=False))
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in (*files, "report.txt")]


def show(report: Report, console: Console | None = None) -> None:
    console = console if console is not None else Console(width=WIDTH, highlight=False, markup=False)
    for table in report.tables:
        console.print(_drawn(table))
        console.print()
    console.print(_compared(report.comparisons))
    for note in report.notes:
        console.print(f"\n{note}")
    if not report.complete:
        console.print("\nincomplete: interrupted, trials are missing")


def exit_code(report: Report) -> ExitCode:
    if not report.comparisons:
        return ExitCode.VACUOUS
    return ExitCode.AS_EXPECTED if report.met else ExitCode.NOT_AS_EXPECTED


def _drawn(table: Table) -> RichTable:
    drawn = _plain(table.title)
    for column in table.columns:
        drawn.add_column(column, justify="left" if column == table.columns[0] else "right")
    for row in table.rows:
        drawn.add_row(*map(_told, row))
    return drawn


def _compared(comparisons: list[Comparison]) -> RichTable:
    drawn = _plain("against what is published")
    for column in ("what", "published", "measured", "rule", "source", ""):
        drawn.add_column(column)
    for one in comparisons:
        drawn.add_row(one.what, one.published, one.measured, one.rule, one.source, "holds" if one.holds else "DIFFERS")
    return drawn


def _plain(title: str) -> RichTable:
    return RichTable(
        box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left"
    )


def _told(cell: Cell) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int) else f"{cell:,.4g}"
