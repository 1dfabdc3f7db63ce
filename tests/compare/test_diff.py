"""`replog compare diff`: what it tells, and that it tells nothing of what chance explains."""

import json
from pathlib import Path
from typing import Any

import pytest

import compare
from compare import results
from compare.diff import Difference, difference, lines
from compare.results import Asked, CellKey, Results, cells_of
from replog.cli import run
from replog.errors import ConfigError

SEEDS = 6


@pytest.fixture(scope="module")
def before() -> Results:
    return compare.run("no-fault", seeds=SEEDS, set={"duration_s": 0.3})


def remade(found: Results, expected: str = "all ok", seeds: int = 0, **changes: Any) -> Results:
    """With other runs of raft: `changes` of each run, by a value or a function of the old one; `seeds` later ones."""
    runs = [
        one.model_copy(
            update={"seed": one.seed + seeds}
            | {name: value(getattr(one, name)) if callable(value) else value for name, value in changes.items()}
        )
        if one.protocol == "raft"
        else one
        for one in found.runs
    ]
    keys = {CellKey(cell.protocol, cell.scenario, cell.engine) for cell in found.cells}
    cells = cells_of(runs, {key: Asked(SEEDS, expected) for key in sorted(keys)})
    return found.model_copy(update={"runs": runs, "cells": cells})


def told(found: Difference) -> str:
    return "\n".join(lines(found))


def test_two_equal_results_differ_in_nothing(before: Results) -> None:
    found = difference(before, before)
    assert told(found) == "cells in both: 2; verdicts changed: 0, for the worse: 0; figures moved: 0"
    assert not found.worse


@pytest.mark.parametrize(
    ("old", "new", "expected", "worse"),
    [
        ("ok", "unsafe", "all ok", True),
        ("unsafe", "ok", "some ok", False),
        ("ok", "unsafe", "some unsafe", True),
        ("stalled", "vacuous", "all stalled", True),
        ("error", "stalled", "some stalled", False),
    ],
)
def test_a_verdict_that_changed_is_told_by_seed(
    before: Results, old: str, new: str, expected: str, worse: bool
) -> None:
    verdicts = [results.Verdict(verdict) for verdict in (old, new)]
    found = difference(*(remade(before, expected, verdict=verdict) for verdict in verdicts))
    by_seed = [change for change in found.changes if change.seed is not None]
    assert [(change.place.protocol, change.seed) for change in by_seed] == [("raft", seed + 1) for seed in range(SEEDS)]
    assert {(change.before, change.after, change.worse) for change in by_seed} == {(old, new, worse)}
    assert found.worse == worse


def test_a_better_verdict_that_nobody_expects_is_worse(before: Results) -> None:
    found = difference(
        remade(before, "all unsafe", verdict=results.Verdict.UNSAFE),
        remade(before, "all unsafe", verdict=results.Verdict.OK),
    )
    assert "worse: raft no-fault-with-duration-s-0-3 on sim: as expected -> not as expected" in told(found)


def test_other_seeds_are_held_against_each_other_as_a_whole(before: Results) -> None:
    assert not difference(before, remade(before, seeds=100)).changes
    found = difference(before, remade(before, seeds=100, verdict=results.Verdict.STALLED))
    assert [(change.seed, change.before, change.after) for change in found.changes] == [
        (None, "ok", "stalled"),
        (None, "as expected", "not as expected"),
    ]


def test_a_figure_has_moved_if_the_intervals_do_not_touch(before: Results) -> None:
    little, much = (remade(before, throughput_ops_s=lambda value, by=by: value * by) for by in (1.02, 10.0))
    assert not difference(before, little).moves
    (move,) = difference(before, much).moves
    assert (move.place.protocol, move.figure) == ("raft", "throughput_ops_s")
    assert move.after == pytest.approx(move.before * 10)
    assert move.after_interval[0] > move.before_interval[1]
    assert not difference(before, much).worse, "figures change no exit code"


def test_of_too_few_runs_no_figure_is_told(before: Results) -> None:
    few = before.model_copy(update={"runs": [made for made in before.runs if made.seed < 5]})
    found = difference(few, remade(few, throughput_ops_s=1e9))
    assert not found.moves
    assert "cells in both: 2 (2 of too few runs to tell of figures)" in told(found)


def test_what_only_one_has_and_what_was_altered_is_told(before: Results) -> None:
    part = before.model_copy(update={"cells": before.cells[:1]})
    assert "only in A: raft no-fault" in told(difference(before, part))
    assert "only in B: raft no-fault" in told(difference(part, before))
    name = before.cells[0].scenario
    altered = before.model_copy(update={"meta": before.meta | {"scenarios": {name: {"f": 7}}}})
    assert f"not the same in both: scenario {name}" in told(difference(before, altered))
    with pytest.raises(ConfigError, match="no scenario, protocol and engine in common"):
        difference(before, before.model_copy(update={"cells": []}))


def test_by_command(before: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = remade(before, verdict=results.Verdict.UNSAFE)
    (tmp_path / "a").mkdir()
    results.save(before, tmp_path / "a" / "results.json")
    results.save(worse, tmp_path / "b.json")
    a, b = str(tmp_path / "a"), str(tmp_path / "b.json")
    assert run(["compare", "diff", a, a]) == 0
    assert run(["compare", "diff", b, a]) == 0
    assert "better: raft" in capsys.readouterr().out
    assert run(["compare", "diff", a, b]) == 1
    assert "worse: raft no-fault-with-duration-s-0-3 on sim, seed 1: ok -> unsafe" in capsys.readouterr().out
    assert run(["compare", "diff", a, b, "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["changes"]) == SEEDS + 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"version": 1', '"version": 2', 1), "version = 2: must be 1, which is what"),
        (lambda text: "{}", "must be the results.json of a comparison: cells: is missing"),
        (lambda text: '{"version": 1, "experiment": "x", "tables": []}', "cells: is missing"),
        (lambda text: "[1]", "must be the results.json of a comparison: must be an object"),
        (lambda text: text[:100], "must be the results.json of a comparison: Invalid JSON"),
        (lambda text: text.replace('"seed": 1', '"seed": "one"', 1), "runs.0.seed: must be a valid integer"),
    ],
)
def test_a_foreign_file_is_refused_in_one_line(
    before: Results, change: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    results.save(before, good)
    bad.write_text(change(good.read_text()))
    assert run(["compare", "diff", str(good), str(bad)]) == 2
    error = capsys.readouterr().err
    assert "bad.json: " in error
    assert said in error
    assert len(error.splitlines()) == 1


def test_diff_takes_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "diff", "a"]) == 2
    assert "compare diff a: must be two results.json" in capsys.readouterr().err
