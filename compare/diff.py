"""What differs between two results: verdicts that changed, and figures that moved by more than chance explains.

Here: the comparison of two `results.json`, and its text. Not here: flags and files (`compare.cli`).

Runs of one seed are held against each other; where the two have no seed in common, the gravest verdicts of the cells
are. A figure has moved if the intervals of its medians (`compare.rows`) do not touch: cells of fewer than five runs
have none, and nothing is said of their figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from compare import rows
from compare.results import Cell, Results, Run, Verdict
from replog.errors import ConfigError

GRAVITY: Final = (Verdict.OK, Verdict.STALLED, Verdict.VACUOUS, Verdict.UNSAFE, Verdict.ERROR)


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Place(_Told):
    """A cell that both have, or one of them."""

    protocol: str
    scenario: str
    engine: str

    def __str__(self) -> str:
        return f"{self.protocol} {self.scenario} on {self.engine}"


class Change(_Told):
    """The verdict of one run, or of a whole cell."""

    place: Place
    seed: int | None = Field(
        description="null: of the cell, which is as its scenario expects it, or has no common seed"
    )
    before: str
    after: str
    worse: bool


class Move(_Told):
    """The median of a figure over all runs of a cell."""

    place: Place
    figure: str
    before: float
    before_interval: tuple[float, float]
    after: float
    after_interval: tuple[float, float]


class Difference(_Told):
    """Of B from A."""

    cells: int = Field(description="that both have")
    changes: list[Change]
    moves: list[Move]
    untold: int = Field(description="cells of fewer than five runs in one of the two: nothing is said of their figures")
    altered: list[str] = Field(description="scenarios that are not the same in both")
    only_in_a: list[Place]
    only_in_b: list[Place]

    @property
    def worse(self) -> bool:
        return any(change.worse for change in self.changes)


def difference(a: Results, b: Results) -> Difference:
    """Raises ConfigError if they have nothing in common."""
    before, after = ({rows.key(cell): cell for cell in results.cells} for results in (a, b))
    common = [key for key in before if key in after]
    if not common:
        raise ConfigError("the two have no scenario, protocol and engine in common")
    runs_a, runs_b = rows.runs_by_cell(a), rows.runs_by_cell(b)
    pairs = [(before[key], after[key], runs_a.get(key, []), runs_b.get(key, [])) for key in common]
    return Difference(
        cells=len(common),
        changes=[change for pair in pairs for change in _changes(*pair)],
        moves=[move for cell, _, old, new in pairs for move in _moves(_place(cell), old, new)],
        untold=sum(min(len(old), len(new)) < rows.RUNS_MIN for _, _, old, new in pairs),
        altered=sorted({cell.scenario for cell, *_ in pairs if _written(a, cell) != _written(b, cell)}),
        only_in_a=[_place(cell) for key, cell in before.items() if key not in after],
        only_in_b=[_place(cell) for key, cell in after.items() if key not in before],
    )


def _written(results: Results, cell: Cell) -> Any:
    """The scenario as it was run."""
    return results.meta.get("scenarios", {}).get(cell.scenario)


def _place(cell: Cell) -> Place:
    return Place(protocol=cell.protocol, scenario=cell.scenario, engine=cell.engine)


def _changes(before: Cell, after: Cell, old: Iterable[Run], new: Iterable[Run]) -> Iterator[Change]:
    place = _place(before)
    seeds_a, seeds_b = ({run.seed: run.verdict for run in runs} for runs in (old, new))
    common = sorted(seeds_a.keys() & seeds_b.keys())
    for seed in common:
        if seeds_a[seed] is not seeds_b[seed]:
            yield _change(place, seed, seeds_a[seed], seeds_b[seed])
    first, last = _gravest(before.counts), _gravest(after.counts)
    if not common and first is not None and last is not None and first is not last:
        yield _change(place, None, first, last)
    if before.met is not after.met:
        said = {True: "as expected", False: "not as expected"}
        yield Change(place=place, seed=None, before=said[before.met], after=said[after.met], worse=before.met)


def _change(place: Place, seed: int | None, before: Verdict, after: Verdict) -> Change:
    worse = GRAVITY.index(after) > GRAVITY.index(before)
    return Change(place=place, seed=seed, before=str(before), after=str(after), worse=worse)


def _gravest(counts: Mapping[Verdict, int]) -> Verdict | None:
    return next((verdict for verdict in reversed(GRAVITY) if counts.get(verdict)), None)


def _moves(place: Place, old: list[Run], new: list[Run]) -> Iterator[Move]:
    for name, figure in rows.FIGURES.items():
        (a, around_a), (b, around_b) = rows.estimate(map(figure, old)), rows.estimate(map(figure, new))
        if a is None or b is None or around_a is None or around_b is None:
            continue
        if around_a.high < around_b.low or around_b.high < around_a.low:
            yield Move(place=place, figure=name, before=a, before_interval=around_a, after=b, after_interval=around_b)


# ---------------------------------------------------------------------------------------------------------------- text


def lines(found: Difference) -> Iterator[str]:
    """For a person: what got worse first."""
    for change in sorted(found.changes, key=lambda change: not change.worse):
        seed = "" if change.seed is None else f", seed {change.seed}"
        yield f"{'worse' if change.worse else 'better'}: {change.place}{seed}: {change.before} -> {change.after}"
    for move in found.moves:
        yield f"moved: {move.place}: {move.figure} {_shown(move.before, move.before_interval)} -> " + _shown(
            move.after, move.after_interval
        )
    for name, places in (("A", found.only_in_a), ("B", found.only_in_b)):
        for place in places:
            yield f"only in {name}: {place}"
    for scenario in found.altered:
        yield f"not the same in both: scenario {scenario}"
    untold = f" ({found.untold} of too few runs to tell of figures)" if found.untold else ""
    worse = sum(change.worse for change in found.changes)
    yield (
        f"cells in both: {found.cells}{untold}; verdicts changed: {len(found.changes)}, for the worse: {worse}; "
        f"figures moved: {len(found.moves)}"
    )


def _shown(value: float, interval: tuple[float, float]) -> str:
    return f"{value:,.6g} ({interval[0]:,.6g} .. {interval[1]:,.6g})"
