"""Sweeps: what `--set` may say, what comes of it, and the rows, tables and files of a sweep."""

import csv
import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import compare
from compare import farm, rows, runner, sweep
from compare.experiments.intervals import wilson
from compare.results import Results, Run
from compare.scenario import find
from replog.cli import run
from replog.errors import ConfigError, ReplogError

SHORT = {"duration_s": 0.3}


@pytest.fixture(scope="module")
def found() -> Results:
    return compare.run("no-fault", "raft", seeds=5, set={"network.loss": [0, 0.05], "n": [3, 5], **SHORT})


# ---------------------------------------------------------------------------------------------------- what may be said


def test_values_are_as_in_toml_and_words_need_no_quotes() -> None:
    read = sweep.read(["network.loss=0, 0.01", 'timeline.0.target=leader,[0,1],"f backups"', "x={a=1,b=2},true,-5"])
    assert read == {
        "network.loss": [0, 0.01],
        "timeline.0.target": ["leader", [0, 1], "f backups"],
        "x": [{"a": 1, "b": 2}, True, -5],
    }


@pytest.mark.parametrize(
    "value", ["a", "1", "true", "a,b", 'x"y', "it's", "", [1, "a"], {"a": [1, {"b": "c"}]}, -1.5, 1e-9, True]
)
def test_the_flags_of_a_replay_say_the_same_again(value: Any) -> None:
    flag, text = shlex.split(sweep.flags({"x.y": value}))
    assert flag == "--set"
    assert sweep.read([text]) == {"x.y": [value]}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["network.loss"], "set 'network.loss': must be FIELD=VALUE"),
        (["n=4,,7"], "set 'n=4,,7': must be FIELD=VALUE"),
        (["n=4", "n=7"], "set n: must be given once, with all its values"),
        (["n=4,7,4.0"], "set n = 4.0: must be there once"),
        (["network.loss=0.1,2"], "set network.loss = 2: must be less than or equal to 1"),
        (["network.loss=nan"], "set network.loss = nan: must be"),
        (["network.los=0"], "set network.los = 0: there is no such field"),
        (["network.loss.x=0"], "set network.loss.x: network.loss = 0.0: has no fields"),
        (
            ["workload.kind=bank", "workload.keys=1"],
            "set workload.kind = 'bank', workload.keys = 1: workload: keys",
        ),
        (["f=2", "n=4"], "set n = 4: must not stand beside f"),
        (["timeline.1.start_s=1"], "set timeline.1.start_s: timeline.1: there is no such entry, but 0 .. 0"),
        (["timeline.0.target=nobody"], "set timeline.0.target = 'nobody': must be a replica's number"),
        (["duration_s=0.5"], "set duration_s = 0.5: timeline.0.start_s = 0.8: must be before duration_s = 0.5"),
        (["name=x"], "set name = 'x': must be left as it is"),
        (["workload.keys=" + ",".join(map(str, range(1, 1002)))], "must make no more than 1,000 points, not 1,001"),
    ],
)
def test_a_wrong_setting_is_one_line_with_field_value_and_rule(texts: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        sweep.points(find("leader-crash"), sweep.read(texts))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"protocols.pbft.options.robusT": True}, "protocol pbft: robusT = True: there is no such field"),
        ({"protocols.pbft.n": [4, 3]}, "protocol pbft: n = 3, f = 1: Byzantine agreement needs"),
        ({"protocols.paxos.n": 3}, "protocol 'paxos': known are"),
    ],
)
def test_what_a_protocol_does_not_take_is_found_before_anything_runs(settings: dict[str, Any], said: str) -> None:
    seen: list[Run] = []
    with pytest.raises(ConfigError, match=said):
        compare.run("no-fault", seeds=1, set=settings | SHORT, on_run=lambda run, done, total: seen.append(run))
    assert not seen


def test_a_drawn_scenario_takes_no_settings() -> None:
    drawn = find("no-fault").model_copy(update={"drawn": True})
    with pytest.raises(ConfigError, match="set f: nothing can be set in no-fault, which is drawn"):
        sweep.points(drawn, {"f": [1]})


def test_points_differ_in_name_and_know_what_they_are_made_from() -> None:
    points = sweep.points(find("no-fault"), {"network.loss": [0, 0.01], "n": [4, 7]})
    assert [point.name for point in points] == [
        "no-fault-with-network-loss-0-n-4",
        "no-fault-with-network-loss-0-n-7",
        "no-fault-with-network-loss-0-01-n-4",
        "no-fault-with-network-loss-0-01-n-7",
    ]
    assert [(point.network.loss, point.n) for point in points] == [(0, 4), (0, 7), (0.01, 4), (0.01, 7)]
    assert points[2].base == points[2].handle == "no-fault"
    assert points[2].settings == {"network.loss": 0.01, "n": 4}
    long = sweep.at(find("no-fault"), {"summary": "x" * 200})
    assert len(long.name) <= sweep.NAME_MAX


# ------------------------------------------------------------------------------------------------- rows and intervals


def test_rows_are_flat_and_name_the_point(found: Results) -> None:
    table = found.rows()
    assert len(table) == 20
    assert {(row["network.loss"], row["n"], row["seed"]) for row in table} == {
        (loss, n, seed) for loss in (0, 0.05) for n in (3, 5) for seed in range(1, 6)
    }
    assert {row["scenario"] for row in table} == {"no-fault"}
    assert all(row["verdict"] == "ok" and row["acknowledged"] for row in table)
    assert all(value is None or isinstance(value, (str, int, float)) for row in table for value in row.values())


def test_a_point_has_counts_medians_and_intervals(found: Results) -> None:
    row = found.summary()[0]
    assert (row["scenario"], row["network.loss"], row["n"], row["runs"], row["met"]) == ("no-fault", 0, 3, 5, True)
    low, high = wilson(5, 5)
    assert (row["ok"], row["ok_low"], row["ok_high"]) == (5, round(low, 4), high)
    figures = sorted(run.throughput_ops_s or 0 for run in found.runs[:5])
    told = [row[f"throughput_ops_s{suffix}"] for suffix in ("_low", "", "_high")]
    assert told == [figures[0], figures[2], figures[4]]


def test_too_few_runs_have_no_interval_and_what_is_not_known_is_none() -> None:
    assert rows.estimate([1.0, 2.0, 3.0, None]) == (2.0, None)
    assert rows.estimate([None]) == (None, None)
    assert rows.estimate(map(float, range(1, 101))).interval == pytest.approx((40, 61), abs=1)


def test_csv_holds_what_the_rows_hold(found: Results) -> None:
    for summary, table in ((False, found.rows()), (True, found.summary())):
        read = list(csv.DictReader(io.StringIO(found.csv(summary=summary))))
        assert [list(row) for row in read] == [list(row) for row in table]
        assert [row["throughput_ops_s"] for row in read] == [str(row["throughput_ops_s"]) for row in table]


def test_a_frame_is_made_by_pandas_or_says_what_to_install(found: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pandas:
        DataFrame = staticmethod(lambda table: ("frame", table))

    monkeypatch.setitem(sys.modules, "pandas", Pandas)
    assert found.frame() == ("frame", found.rows())
    assert found.frame(summary=True) == ("frame", found.summary())
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ReplogError, match="pip install pandas"):
        found.frame()


def test_results_keep_their_points_in_a_file(found: Results) -> None:
    again = Results.model_validate_json(found.model_dump_json())
    assert again.rows() == found.rows()
    assert again.summary() == found.summary()


# ---------------------------------------------------------------------------------------------------------- the runner


def test_a_point_is_what_the_same_file_would_be_and_its_replay_repeats_it(
    found: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = find("no-fault")
    by_hand = scenario.model_copy(
        update={"network": scenario.network.model_copy(update={"loss": 0.05}), "n": 5, "duration_s": 0.3}
    )
    (plain,) = compare.run(by_hand, "raft", seeds=[3]).runs
    (point,) = [made for made in found.runs if (made.seed, made.n) == (3, 5) and "0-05" in made.scenario]
    same = {"scenario", "replay"}
    assert plain.model_dump(exclude=same) == point.model_dump(exclude=same)
    assert run([*shlex.split(point.replay)[1:], "--json", "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == [point.model_dump(mode="json")]


def test_what_comes_twice_counts_once_and_what_does_not_come_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(jobs: list[runner.Job], make: Any, address: str) -> Any:
        for job in [*jobs[:2], *jobs[:2]]:
            yield job, runner._made_here(job, None)

    monkeypatch.setattr(farm, "check", lambda address: None)
    monkeypatch.setattr(farm, "finished", doubled)
    found = compare.run("no-fault", "raft", seeds=3, set=SHORT, on="tcp://nowhere:1")
    assert [made.seed for made in found.runs] == [1, 2]
    assert not found.complete
    assert not found.met


def test_a_table_and_files_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--set", "network.loss=0,0.01", "--set", "duration_s=0.3", "--seeds", "1", "--out", str(tmp_path)]
    assert run(["compare", "no-fault", *flags]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "network.loss duration_s n f protocol verdict ops/s p50 ms p99 ms"
    assert [line.split(" ok ")[0] for line in lines[1:5]] == [
        "0 0.3 4 1 pbft",
        "0 0.3 3 1 raft",
        "0.01 0.3 4 1 pbft",
        "0.01 0.3 3 1 raft",
    ]
    table = json.loads((tmp_path / "sweep.json").read_text())
    assert [(row["network.loss"], row["protocol"], row["ok"]) for row in table] == [
        (0, "pbft", 1),
        (0, "raft", 1),
        (0.01, "pbft", 1),
        (0.01, "raft", 1),
    ]
    assert len((tmp_path / "sweep.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["no-fault", "--set", "network.loss=2"], "set network.loss = 2: must be less than or equal to 1"),
        (["--all", "--set", "n=4"], "--set = n=4: must not stand beside --all"),
        (["no-fault", "--on", "here"], "on = 'here': must be the address of a Dask scheduler"),
        (["no-fault", "--on", "tcp://h:1", "--workers", "2"], "--workers = 2: must not stand beside --on"),
    ],
)
def test_wrong_flags(
    flags: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["compare", *flags]) == 2
    assert said in capsys.readouterr().err
    assert not any(tmp_path.glob("runs/*"))
