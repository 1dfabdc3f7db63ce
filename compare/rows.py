"""Results as flat rows: for data frames, spreadsheets and one's own code.

Here: a row for each run, a row for each cell with counts, figures and intervals, and both as CSV. Not here: tables for
a person (`compare.report`).

Intervals are at 95 %. Of the chance of a verdict they are Wilson's, right for few runs too. Of the median of a figure
they run from one of its values to another, which assumes no distribution and draws nothing; fewer than RUNS_MIN values
have none.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from statistics import median
from typing import Any, Final, NamedTuple

from compare.experiments.intervals import Interval, of_quantile, wilson
from compare.results import Cell, Results, Run, Verdict
from replog.errors import ReplogError

Scalar = str | int | float | bool | None
Row = dict[str, Scalar]

RUNS_MIN: Final = 5
"""From the least of five values to the greatest the median is held in 94 of 100; of four, in 88."""

FIGURES: Final[Mapping[str, Callable[[Run], float | None]]] = {
    "throughput_ops_s": lambda run: run.throughput_ops_s,
    "latency_p50_ms": lambda run: None if run.latency_ms is None else run.latency_ms.p50,
    "latency_p99_ms": lambda run: None if run.latency_ms is None else run.latency_ms.p99,
    "latency_max_ms": lambda run: None if run.latency_ms is None else run.latency_ms.max,
    "unavailable_s": lambda run: run.unavailable_s,
    "messages_per_op": lambda run: run.messages_per_op,
    "bytes_per_op": lambda run: run.bytes_per_op,
    "signatures_per_op": lambda run: run.signatures_per_op,
    "macs_per_op": lambda run: run.macs_per_op,
    "fsyncs_per_op": lambda run: run.fsyncs_per_op,
}
_JUDGED: Final = (Verdict.OK, Verdict.STALLED, Verdict.UNSAFE)


class MissingPackage(ReplogError):
    """Something that is installed by choice is needed and not there."""


class Estimate(NamedTuple):
    """The median of what is known of a figure; None where nothing, or too little for an interval, is."""

    median: float | None
    interval: Interval | None


def estimate(values: Iterable[float | None]) -> Estimate:
    known = sorted(value for value in values if value is not None)
    if not known:
        return Estimate(None, None)
    return Estimate(median(known), of_quantile(known, 0.5) if len(known) >= RUNS_MIN else None)


# ---------------------------------------------------------------------------------------------------------------- rows


def of_runs(results: Results) -> list[Row]:
    """One for each run: which one, its verdict, its figures. What is not known is None."""
    return [_of_run(results, run) for run in results.runs]


def _of_run(results: Results, run: Run) -> Row:
    return {
        **point(results, run.scenario),
        "protocol": run.protocol,
        "engine": run.engine,
        "seed": run.seed,
        "n": run.n,
        "f": run.f,
        "faulty": len(run.faulty),
        "verdict": str(run.verdict),
        "safety": run.safety,
        "liveness": run.liveness,
        "attack_actions": run.attack_actions,
        "fault_actions": run.fault_actions,
        "submitted": run.submitted,
        "acknowledged": run.acknowledged,
        **{name: figure(run) for name, figure in FIGURES.items()},
        "error": run.error,
    }


def of_cells(results: Results) -> list[Row]:
    """One for each scenario or point of a sweep, protocol and engine: how many runs had which verdict, with the
    interval of its chance, and the median of each figure with its interval."""
    found = runs_by_cell(results)
    return [_of_cell(results, cell, found.get(key(cell), [])) for cell in results.cells]


def _of_cell(results: Results, cell: Cell, runs: Sequence[Run]) -> Row:
    row: Row = {
        **point(results, cell.scenario),
        "protocol": cell.protocol,
        "engine": cell.engine,
        "n": _alike([run.n for run in runs]),
        "f": _alike([run.f for run in runs]),
        "runs": len(runs),
        "expected": cell.expected,
        "met": cell.met,
    }
    for verdict in Verdict:
        row[str(verdict)] = hits = cell.counts.get(verdict, 0)
        if verdict in _JUDGED:
            row |= _bounds(str(verdict), wilson(hits, len(runs)) if runs else None)
    for name, figure in FIGURES.items():
        found = estimate(map(figure, runs))
        row |= {name: found.median} | _bounds(name, found.interval)
    return row


def _alike(values: Sequence[int]) -> int | None:
    """What they all are; None where it is drawn anew in each run."""
    return values[0] if len(set(values)) == 1 else None


def _bounds(name: str, interval: Interval | None) -> Row:
    low, high = (None, None) if interval is None else (round(interval.low, 4), round(interval.high, 4))
    return {f"{name}_low": low, f"{name}_high": high}


def point(results: Results, scenario: str) -> Row:
    """The scenario's name and what a sweep has set in it: `{"scenario": "no-fault", "network.loss": 0.01}`."""
    name, settings = settings_of(results, scenario)
    return {"scenario": name} | {path: _scalar(value) for path, value in settings.items()}


def settings_of(results: Results, scenario: str) -> tuple[str, Mapping[str, Any]]:
    """Which scenario a sweep began with to make this one, and what it has set in it."""
    found = results.meta.get("points", {}).get(scenario, {"scenario": scenario, "set": {}})
    return found["scenario"], found["set"]


def _scalar(value: object) -> Scalar:
    return value if value is None or isinstance(value, (str, int, float)) else json.dumps(value)


Key = tuple[str, str, str]


def key(item: Cell | Run) -> Key:
    return item.protocol, item.scenario, item.engine


def runs_by_cell(results: Results) -> dict[Key, list[Run]]:
    found: dict[Key, list[Run]] = {}
    for run in results.runs:
        found.setdefault(key(run), []).append(run)
    return found


# --------------------------------------------------------------------------------------------------------- other forms


def to_csv(rows: Sequence[Row]) -> str:
    """With a line of names; what is not known, or not set in a row, is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def frame(rows: Sequence[Row]) -> Any:
    """A `pandas.DataFrame`. Raises MissingPackage without pandas."""
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise MissingPackage("a data frame needs pandas, which is not installed: pip install pandas") from None
    return pandas.DataFrame(rows)
