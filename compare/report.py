"""Results for a person: the table, what was not as expected, and what a violation looked like.

Here: text made from `results.json` alone, so that an old file can be shown too. Not here: files and flags
(`compare.cli`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from compare import rows
from compare.results import Cell, Results, Run, Verdict
from replog.cli.exits import ExitCode

WIDTH: Final = 112
INTERVALS: Final = f"medians, with intervals at 95 % where there are {rows.RUNS_MIN} runs or more"
WORST: Final = (Verdict.ERROR, Verdict.UNSAFE, Verdict.VACUOUS, Verdict.STALLED, Verdict.OK)
_STYLES: Final = {
    Verdict.OK: "green",
    Verdict.UNSAFE: "bold red",
    Verdict.STALLED: "yellow",
    Verdict.VACUOUS: "magenta",
    Verdict.ERROR: "reverse red",
}
_CODES: Final = {
    Verdict.ERROR: ExitCode.OUR_BUG,
    Verdict.UNSAFE: ExitCode.SAFETY_VIOLATED,
    Verdict.VACUOUS: ExitCode.VACUOUS,
    Verdict.STALLED: ExitCode.STALLED,
}


def show(results: Results, costs: bool = False, console: Console | None = None) -> None:
    """The table, the costs if wanted, and a few lines for each cell that is not as expected."""
    console = console if console is not None else Console(width=WIDTH, highlight=False, markup=False)
    console.print(_table(results))
    for line in _sizing(results):
        console.print(line, soft_wrap=True)
    if costs:
        console.print(_costs(results))
    for line in surprises(results):
        console.print(line, soft_wrap=True)


def show_matrix(results: Results, console: Console | None = None) -> None:
    """A line a scenario: what each protocol did, and what was expected of it; then what was not as expected."""
    console = console if console is not None else Console(width=WIDTH, highlight=False, markup=False)
    console.print(_matrix(results))
    cells, met = len(results.cells), sum(cell.met for cell in results.cells)
    scenarios = len({cell.scenario for cell in results.cells})
    console.print(f"{scenarios} scenarios, {len(results.runs):,} runs: {met} of {cells} cells as expected")
    for line in surprises(results):
        console.print(line, soft_wrap=True)


def show_sweep(results: Results, costs: bool = False, console: Console | None = None) -> None:
    """A line a point and protocol: what was set, the verdict, throughput and latency with their intervals."""
    table = _sweep(results)
    console = (
        console if console is not None else Console(width=max(WIDTH, _width(table)), highlight=False, markup=False)
    )
    console.print(table)
    console.print(INTERVALS)
    if costs:
        console.print(_costs(results))
    for line in surprises(results):
        console.print(line, soft_wrap=True)


def _sweep(results: Results) -> Table:
    settings = [rows.settings_of(results, cell.scenario) for cell in results.cells]
    several = len({name for name, _ in settings}) > 1
    paths = [
        path for path in dict.fromkeys(path for _, chosen in settings for path in chosen) if path not in ("n", "f")
    ]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in (*(["scenario"] if several else []), *paths):
        table.add_column(column, no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("f", justify="right", no_wrap=True)
    for column in ("protocol", "verdict"):
        table.add_column(column, no_wrap=True)
    for column in ("ops/s", "p50 ms", "p99 ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for cell, (name, chosen) in zip(results.cells, settings, strict=True):
        runs = runs_of(results, cell)
        table.add_row(
            *([name] if several else []),
            *(str(chosen.get(path, "-")) for path in paths),
            _figure([run.n for run in runs], ".0f"),
            _figure([run.f for run in runs], ".0f"),
            cell.protocol,
            verdict_text(cell),
            _around(runs, "throughput_ops_s", ",.0f"),
            _around(runs, "latency_p50_ms", ",.2f"),
            _around(runs, "latency_p99_ms", ",.2f"),
        )
    return table


def _around(runs: list[Run], name: str, form: str) -> str:
    """`198 (177 .. 204)`: the median and its interval."""
    middle, interval = rows.estimate(map(rows.FIGURES[name], runs))
    if middle is None:
        return "-"
    around = "" if interval is None else f" ({interval.low:{form}} .. {interval.high:{form}})"
    return f"{middle:{form}}{around}"


def _width(table: Table) -> int:
    """What it takes to show every column as it is."""
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum


def _matrix(results: Results) -> Table:
    cells = {(cell.scenario, cell.protocol): cell for cell in results.cells}
    protocols = sorted({cell.protocol for cell in results.cells})
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("scenario", *(name for protocol in protocols for name in (protocol, "expected"))):
        table.add_column(column, no_wrap=True)
    for scenario in dict.fromkeys(cell.scenario for cell in results.cells):
        row: list[Text | str] = [scenario]
        for protocol in protocols:
            cell = cells.get((scenario, protocol))
            row += ["-", ""] if cell is None else [verdict_text(cell), cell.expected]
        table.add_row(*row)
    return table


def _table(results: Results) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("protocol", "scenario", "verdict"):
        table.add_column(column, no_wrap=True)
    for column in ("n", "f", "checked", "outage", "worst", "ops/s", "p50"):
        table.add_column(column, justify="right", no_wrap=True)
    for cell in results.cells:
        runs = runs_of(results, cell)
        table.add_row(
            cell.protocol,
            cell.scenario,
            verdict_text(cell),
            _figure([run.n for run in runs], ".0f"),
            _figure([run.f for run in runs], ".0f"),
            f"{sum(check.checked for run in runs for check in run.checks.values()):,}",
            _figure([run.unavailable_s for run in runs], ".2f") + " s",
            _figure([run.unavailable_s for run in runs], ".2f", max) + " s",
            _figure([run.throughput_ops_s for run in runs], ",.0f") + (" (sim)" if cell.engine == "sim" else ""),
            _figure([run.latency_ms.p50 if run.latency_ms else None for run in runs], ".2f") + " ms",
        )
    return table


def _sizing(results: Results) -> Iterator[str]:
    """What the protocols have in common, f or n, and in which scenarios if not in all alike."""
    found: dict[str, list[str]] = {}
    for name, sizing in results.meta.get("sizing", {}).items():
        found.setdefault(sizing, []).append(name)
    for sizing, names in found.items():
        yield sizing + (f": {', '.join(names)}" if len(found) > 1 else "")


def _costs(results: Results) -> Table:
    table = Table(
        box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0), title="per operation", title_justify="left"
    )
    for column in ("protocol", "scenario", "engine"):
        table.add_column(column, no_wrap=True)
    for column in ("messages", "bytes", "signatures", "macs", "fsyncs"):
        table.add_column(column, justify="right", no_wrap=True)
    for cell in results.cells:
        runs = runs_of(results, cell)
        table.add_row(
            cell.protocol,
            cell.scenario,
            cell.engine,
            _figure([run.messages_per_op for run in runs], ",.1f"),
            _figure([run.bytes_per_op for run in runs], ",.0f"),
            _figure([run.signatures_per_op for run in runs], ",.1f"),
            _figure([run.macs_per_op for run in runs], ",.1f"),
            _figure([run.fsyncs_per_op for run in runs], ",.1f"),
        )
    return table


def _figure(values: Iterable[float | None], form: str, of: Callable[[list[float]], float] = median) -> str:
    """One figure for many: the median, or another one, of what is known."""
    known = [value for value in values if value is not None]
    return format(of(known), form) if known else "-"


def runs_of(results: Results, cell: Cell) -> list[Run]:
    key = (cell.protocol, cell.scenario, cell.engine)
    return [run for run in results.runs if (run.protocol, run.scenario, run.engine) == key]


def verdict_text(cell: Cell) -> Text:
    """The gravest verdict and how many of the runs have it; an exclamation mark where it is not as expected."""
    worst = next((verdict for verdict in WORST if cell.counts.get(verdict)), None)
    total = sum(cell.counts.values())
    if worst is None:
        return Text("no run !")
    return Text(f"{worst} {cell.counts[worst]}/{total}{'' if cell.met else ' !'}", style=_STYLES[worst])


def surprises(results: Results) -> Iterator[str]:
    """For each cell that is not as expected: what was, what its first bad run says, and how to repeat it."""
    for cell in results.cells:
        if cell.met:
            continue
        counts = ", ".join(f"{verdict} {number}" for verdict, number in cell.counts.items()) or "no run"
        yield f"not as expected: {cell.protocol} {cell.scenario} on {cell.engine}: {counts}, {cell.expected} expected"
        wanted = Verdict(cell.expected.partition(" ")[2])
        odd = next((run for run in runs_of(results, cell) if run.verdict is not wanted), None)
        if odd is not None:
            yield f"  seed {odd.seed}: {why(odd)}"
            yield f"  replay: {odd.replay}"


def why(run: Run) -> str:
    """What a run's verdict rests on."""
    if run.verdict is Verdict.ERROR:
        return run.error
    if run.verdict is Verdict.VACUOUS:
        return _why_vacuous(run)
    failed = [f"{name}: {check.detail}" for name, check in run.checks.items() if not check.ok]
    return "; ".join(failed) or "every judge was content"


def _why_vacuous(run: Run) -> str:
    if not run.acknowledged:
        return "nothing was acknowledged"
    if run.attack_actions:
        return "nothing was acknowledged while the attack lasted" if run.fault_actions else "no fault struck"
    return "no attack reached a correct replica" + ("" if run.fault_actions else ", and no fault struck")


def exit_code(results: Results) -> ExitCode:
    """0 if every cell is as expected; else by the gravest verdict that was not expected."""
    if results.met:
        return ExitCode.AS_EXPECTED
    unexpected = {
        verdict
        for cell in results.cells
        if not cell.met
        for verdict in cell.counts
        if verdict is not Verdict(cell.expected.partition(" ")[2])
    }
    return next((_CODES[verdict] for verdict in WORST if verdict in unexpected & set(_CODES)), ExitCode.NOT_AS_EXPECTED)
