"""The command: flags, folders, output, codes."""

import json
from pathlib import Path

import pytest

from compare import scenario
from compare.cli import new_folder, seeds_of
from replog.cli import run
from replog.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "single", "seeds"),
    [("3", None, [1, 2, 3]), ("100-102", None, [100, 101, 102]), (None, 17, [17]), ("7-7", None, [7])],
)
def test_seeds(text: str | None, single: int | None, seeds: list[int]) -> None:
    assert seeds_of(text, single) == seeds


@pytest.mark.parametrize("text", ["0", "5-3", "many", "-1", "1-9999999", "1.5"])
def test_wrong_seeds_are_refused_with_value_and_rule(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        seeds_of(text)


def test_seeds_and_one_seed_are_not_both_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "no-fault", "--seeds", "3", "--seed", "1"]) == 2
    assert "--seed = 1: must not stand beside --seeds = '3'" in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = new_folder(None, ["no-fault"]), new_folder(None, ["no-fault"])
    assert first != second
    assert first.name.startswith("no-fault-")
    (first / "results.json").write_text("{}")
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        new_folder(first, ["no-fault"])


def test_one_run_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code = run(["compare", "no-fault", "--protocol", "raft", "--seed", "17", "--trace", "--costs", "--out", str(out)])
    shown = capsys.readouterr().out
    assert code == 0
    assert "ok 1/1" in shown
    assert "(sim)" in shown
    assert "fsyncs" in shown
    assert all(len(line) <= 100 for line in shown.splitlines())
    assert json.loads((out / "results.json").read_text())["runs"][0]["seed"] == 17
    traces = {path.name: path.stat().st_size for path in (out / "traces").iterdir()}
    assert traces.keys() == {"raft-no-fault-sim-17.jsonl", "raft-no-fault-sim-17-history.jsonl"}
    assert min(traces.values()) > 10_000


def test_what_is_named_twice_is_run_once_and_the_order_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["leader-crash", "no-fault", "leader-crash"]
    chosen = ["--protocol", "raft", "--protocol", "raft", "--seed", "2", "--json"]
    assert run(["compare", *names, *chosen, "--out", str(tmp_path)]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [made["scenario"] for made in runs] == ["leader-crash", "no-fault"]


def test_json_is_the_results_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "no-fault", "--protocol", "raft", "--seed", "3", "--json", "--out", str(tmp_path)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "results.json").read_text())


def test_a_wrong_name_ends_with_wrong_usage_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["compare", "nope"]) == 2
    assert "known are" in capsys.readouterr().err
    assert run(["compare", "no-fault", "--protocol", "paxos"]) == 2
    assert run(["compare", "list", "everything"]) == 2
    assert run(["compare", "figure-eight", "--engine", "live"]) == 2
    assert run(["compare", "figure-eight", "--protocol", "pbft"]) == 2
    assert "figure-eight is for raft, not pbft" in capsys.readouterr().err
    assert not any(tmp_path.glob("runs/*"))


def test_all_is_a_matrix_with_the_expectations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("figure-eight", "no-fault", "wrong-digest")
    few = {name: scenario.find(name) for name in names}
    few["no-fault"] = few["no-fault"].model_copy(update={"duration_s": 0.3})
    monkeypatch.setattr(scenario, "catalogue", lambda: few)
    assert run(["compare", "--all", "--seeds", "1", "--out", str(tmp_path / "all")]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:4] == [
        "scenario pbft expected raft expected",
        "figure-eight - ok 1/1 all ok",
        "no-fault ok 1/1 all ok ok 1/1 all ok",
        "wrong-digest ok 1/1 all ok -",
    ]
    assert lines[4] == "3 scenarios, 4 runs: 4 of 4 cells as expected"
    only = ["--protocol", "raft", "--seed", "2", "--json"]
    assert run(["compare", "--all", *only, "--out", str(tmp_path / "raft")]) == 0
    assert {made["protocol"] for made in json.loads(capsys.readouterr().out)["runs"]} == {"raft"}


def test_all_takes_no_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "no-fault", "--all"]) == 2
    assert "SCENARIO = no-fault: must not stand beside --all" in capsys.readouterr().err
    assert run(["compare", "--all", "--attack", "silent"]) == 2
    assert "--attack = silent: must not stand beside --all" in capsys.readouterr().err
    assert run(["compare", "--all", "--protocol", "paxos"]) == 2
    assert "--protocol = paxos: no scenario on sim is for it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "name"),
    [("scenarios", "leader-crash"), ("attacks", "equivocating-leader"), ("faults", "crash"), ("judges", "agreement")],
)
def test_lists(what: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "list", what]) == 0
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("name", ["results", "scenario"])
def test_schemas(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "object"
