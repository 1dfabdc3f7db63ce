"""`replog experiment NAME`: one experiment of the literature, repeated."""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compare.cli import folder_for, seeds_of
from replog.cli import options, output
from replog.cli.exits import WrongUsage, leave
from replog.cli.options import JsonOption, VerboseOption

if TYPE_CHECKING:
    from compare.experiments.run import OnTrial


def add_to(app: typer.Typer) -> None:
    app.command("experiment", rich_help_panel=options.COMPARE)(experiment)


def experiment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which; `list` shows them.")],
    runs: Annotated[
        int | None,
        typer.Option(
            min=1, max=1_000_000, help="Trials of each setting, seeds from 1 on.", show_default="by experiment"
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N|A-B", help="In place of --runs: which seeds.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: runs/NAME-TIME. Never overwritten.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Processes.", show_default="cores")] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Repeat what a paper measured: tables, pictures, and the published figures beside.

    Example: replog experiment raft-elections --runs 100, or replog experiment list
    """
    from compare import experiments
    from compare.experiments import show
    from compare.experiments.run import Interrupted, run

    if name == "list":
        _list(json)
        return
    if runs is not None and seeds is not None:
        raise WrongUsage(f"--runs = {runs}: must not stand beside --seeds = {seeds!r}: one or the other")
    chosen = experiments.find(name)
    numbers = seeds_of(seeds) if seeds is not None else list(range(1, (runs or chosen.runs) + 1))
    with folder_for(out, [name]) as folder, progress(json) as on_trial:
        try:
            report = run(chosen, numbers, workers, on_trial)
        except Interrupted as interrupted:
            output.remark(f"interrupted: {interrupted}")
            if interrupted.report is not None:
                show.save(interrupted.report, folder)
                output.remark(f"report, marked as incomplete: {folder}")
            raise
        files = show.save(report, folder)
    if json:
        output.line(report.model_dump_json())
    else:
        show.show(report)
        output.remark(f"written: {', '.join(str(file) for file in files)}")
    leave(show.exit_code(report))


def _list(json: bool) -> None:
    from compare import experiments

    rows = [(name, experiments.find(name).summary) for name in experiments.NAMES]
    if json:
        output.as_json([{"name": name, "summary": summary} for name, summary in rows])
    else:
        output.table(("name", "what it repeats"), rows)


@contextmanager
def progress(quiet: bool) -> Iterator[OnTrial | None]:
    """On stderr: a bar on a terminal, else a line each tenth; nothing if `quiet`."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        yield from _bar()
    else:
        yield _tenths


def _bar() -> Iterator[OnTrial]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("trials", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tenths(done: int, total: int) -> None:
    if done * 10 // total > (done - 1) * 10 // total:
        output.remark(f"{done} of {total} trials")
