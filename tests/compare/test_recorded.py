"""Histories of other tools are read, ours are written for them, and what is wrong with a line is said."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from compare import edn, history, recorded
from compare.checkers.linearizability import check
from compare.history import Call, Refusal
from compare.models import MODELS
from compare.runner import run as run_scenarios
from replog.cli import run
from replog.errors import ConfigError
from tests.compare.small_histories import small

GOOD = [
    {"process": 0, "type": "invoke", "f": "write", "value": 1, "time": 10},
    {"process": 1, "type": "invoke", "f": "read", "value": None, "time": 12},
    {"process": 0, "type": "ok", "f": "write", "value": 1, "time": 15},
    {"process": "nemesis", "type": "info", "f": "start", "value": "cut", "time": 16},
    {"process": 1, "type": "ok", "f": "read", "value": 1, "time": 18, "node": "n1"},
    {"process": 2, "type": "invoke", "f": "cas", "value": [1, 2], "time": 20},
    {"process": 2, "type": "info", "f": "cas", "value": [1, 2], "time": 30},
    {"process": 3, "type": "invoke", "f": "cas", "value": [7, 8], "time": 31},
    {"process": 3, "type": "fail", "f": "cas", "value": [7, 8], "time": 32},
    {"process": 4, "type": "invoke", "f": "read", "time": 40},
    {"process": 4, "type": "ok", "value": 2, "time": 41},
]


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_history_of_another_tool_is_read(tmp_path: Path) -> None:
    calls = recorded.load(written(tmp_path / "h.jsonl", GOOD), "register")
    assert [(call.method, call.args, call.invoke, call.returned, call.outcome) for call in calls] == [
        ("write", (None, 1), 10, 15, None),
        ("read", (None,), 12, 18, 1),
        ("cas", (None, 1, 2), 20, None, None),
        ("read", (None,), 40, 41, 2),
    ]


def test_without_times_the_lines_are_the_times(tmp_path: Path) -> None:
    lines = [{name: value for name, value in line.items() if name != "time"} for line in GOOD]
    calls = recorded.load(written(tmp_path / "h.jsonl", lines), "register")
    assert [(call.invoke, call.returned) for call in calls] == [(1, 3), (2, 5), (6, None), (10, 11)]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("nonsense", "line: must be one JSON object"),
        ("[" * 100_000, "line: must be one JSON object"),
        ("[]", "line: must be one JSON object"),
        ({"process": 9, "type": "begin", "f": "read", "time": 50}, 'type = "begin": must be one of invoke, ok, fail'),
        ({"process": 1.5, "type": "invoke", "f": "read", "time": 50}, "process = 1.5: must be an integer or a string"),
        ({"process": 9, "type": "invoke", "f": "put", "time": 50}, 'f = "put": must be one of read, write, cas'),
        ({"process": 9, "type": "invoke", "f": "write", "value": [1], "time": 50}, "value = [1]: must be null, an int"),
        ({"process": 9, "type": "invoke", "f": "cas", "value": 3, "time": 50}, "value = 3: must be a list of two"),
        ({"process": 9, "type": "invoke", "f": "read", "time": 39}, "time = 39: must not be before the line above"),
        ({"process": 9, "type": "invoke", "f": "read"}, "time: must be in all lines or in none"),
        ({"process": 9, "type": "invoke", "f": "read", "time": -1}, "time = -1: must be an integer from 0 on"),
        (
            {"process": 9, "type": "ok", "f": "read", "time": 50},
            "process = 9: must invoke before its call ends with ok",
        ),
        ({"process": 9, "type": "invoke", "f": "read", "key": 1.5, "time": 50}, "key = 1.5: must be an integer or a s"),
    ],
)
def test_a_wrong_line_is_named_with_field_and_rule(tmp_path: Path, line: Any, rule: str) -> None:
    path = written(tmp_path / "h.jsonl", GOOD)
    with path.open("a") as file:
        file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    with pytest.raises(ConfigError, match=rf"h\.jsonl:{len(GOOD) + 1}: {re.escape(rule)}"):
        recorded.load(path, "register")


def test_a_process_ends_its_call_before_the_next_and_says_which(tmp_path: Path) -> None:
    twice = [GOOD[0], {**GOOD[0], "time": 11}]
    with pytest.raises(ConfigError, match="h:2: process = 0: must end its call of write first"):
        recorded.load(written(tmp_path / "h", twice), "register")
    with pytest.raises(ConfigError, match='h:2: f = "read": must be write, which process 0 invoked'):
        recorded.load(written(tmp_path / "h", [GOOD[0], {**GOOD[2], "f": "read"}]), "register")


def test_a_line_and_a_file_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "LINE_MAX", 200)
    path = written(tmp_path / "h", [*GOOD, {"process": 9, "type": "invoke", "f": "write", "value": "x" * 300}])
    with pytest.raises(ConfigError, match="line: must be at most 200 bytes"):
        recorded.load(path, "register")
    monkeypatch.setattr(recorded, "CALLS_MAX", 3)
    with pytest.raises(ConfigError, match="h:8: line: must be among the first 3 calls"):
        recorded.load(written(tmp_path / "h", GOOD), "register")


# ---------------------------------------------------------------------------------------------------------- our own


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The history of a simulated run with a crash."""
    folder = tmp_path_factory.mktemp("ours")
    run_scenarios("leader-crash", "raft", seeds=[3], traces=folder, workers=1)
    return folder / "raft-leader-crash-sim-3-history.jsonl"


def facts(calls: list[Call]) -> list[Any]:
    return sorted(
        ((c.method, c.args, c.invoke, c.returned, json.dumps(c.outcome)) for c in calls if not refused(c)), key=repr
    )


def refused(call: Call) -> bool:
    return isinstance(call.outcome, Refusal)


def test_ours_go_out_and_come_back(ours: Path, tmp_path: Path) -> None:
    calls = recorded.load(ours, "kv")
    assert len(calls) > 300
    recorded.write(tmp_path / "out.jsonl", calls)
    back = recorded.load(tmp_path / "out.jsonl", "kv")
    assert facts(back) == facts(calls)
    assert check(back, MODELS["kv"]).ok


@pytest.mark.parametrize("seed", range(200))
def test_so_do_small_ones_with_their_verdict(seed: int, tmp_path: Path) -> None:
    calls = [call for call in small(seed) if not (call.known and call.method == "append")]
    recorded.write(tmp_path / "out.jsonl", calls)
    back = recorded.load(tmp_path / "out.jsonl", "kv")
    assert facts(back) == facts(calls)
    assert check(back, MODELS["kv"]).ok == check(calls, MODELS["kv"]).ok


def test_a_process_does_one_thing_at_a_time_and_nothing_after_an_unknown_outcome() -> None:
    calls = [Call("a", "a", "get", ("x",), 10, returned=20), Call("a", "a", "get", ("x",), 10, returned=20)]
    calls += [Call("a", "a", "put", ("x", "1"), 30), Call("a", "a", "get", ("x",), 40, returned=50)]
    busy: dict[int, bool] = {}
    for event in recorded.events(calls):
        assert busy.get(event.process, False) == (event.type != "invoke")
        busy[event.process] = event.type in ("invoke", "info")
    assert len(busy) == 2 or len(busy) == 3


# -------------------------------------------------------------------------------------------------------------- EDN


def read_edn(text: str) -> Any:
    """The little of EDN that is written: maps, vectors, keywords, integers, strings, nil."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|[^\s,{}\[\]]+', text)

    def value() -> Any:
        token = tokens.pop(0)
        if token in "[{":
            items = []
            while tokens[0] not in "]}":
                items.append(value())
            tokens.pop(0)
            return items if token == "[" else dict(zip(items[::2], items[1::2], strict=True))
        return None if token == "nil" else json.loads(token) if token[0] != ":" else token

    found = value()
    assert not tokens
    return found


def test_edn_is_what_jepsen_writes(tmp_path: Path) -> None:
    calls = [
        Call("a", "a", "put", ("x", 'say "hi"\n'), 1, returned=5),
        Call("b", "b", "get", ("x",), 2, returned=6, outcome='say "hi"\n'),
        Call("a", "a", "cas", ("x", None, "1"), 7, returned=8, outcome=False),
        Call("a", "a", "cas", ("x", "1", "2"), 9),
        Call("b", "b", "delete", ("x",), 10, returned=11, outcome=True),
        Call("b", "b", "delete", ("x",), 12, returned=13, outcome=False),
        Call("b", "b", "scan", ("",), 14, returned=15, outcome=[]),
        Call("b", "b", "append", ("y", "1"), 16, returned=17, outcome="1"),
        Call("b", "b", "get", ("y",), 18, returned=19, outcome="1"),
    ]
    assert edn.write(tmp_path / "out.edn", calls) == 3
    found = [read_edn(line) for line in (tmp_path / "out.edn").read_text().splitlines()]
    assert [(one[":type"], one[":f"], one[":value"], one[":time"]) for one in found] == [
        (":invoke", ":write", ["x", 'say "hi"\n'], 1_000),
        (":invoke", ":read", ["x", None], 2_000),
        (":ok", ":write", ["x", 'say "hi"\n'], 5_000),
        (":ok", ":read", ["x", 'say "hi"\n'], 6_000),
        (":invoke", ":cas", ["x", [None, "1"]], 7_000),
        (":fail", ":cas", ["x", [None, "1"]], 8_000),
        (":invoke", ":cas", ["x", ["1", "2"]], 9_000),
        (":invoke", ":write", ["x", None], 10_000),
        (":ok", ":write", ["x", None], 11_000),
        (":invoke", ":read", ["x", None], 12_000),
        (":ok", ":read", ["x", None], 13_000),
        (":info", ":cas", ["x", ["1", "2"]], 13_000),
    ]
    assert [one[":index"] for one in found] == list(range(12))


def test_the_edn_of_a_run_is_judged_as_the_run_is(ours: Path, tmp_path: Path) -> None:
    """By our judge of registers, from what a second tool would read."""
    edn.write(tmp_path / "out.edn", recorded.load(ours, "kv"))
    lines = [read_edn(line) for line in (tmp_path / "out.edn").read_text().splitlines()]
    plain = [
        {
            "process": one[":process"],
            "type": one[":type"][1:],
            "f": one[":f"][1:],
            "key": one[":value"][0],
            "value": one[":value"][1],
            "time": one[":time"],
        }
        for one in lines
    ]
    calls = recorded.load(written(tmp_path / "h.jsonl", plain), "register")
    assert len(calls) > 200
    assert check(calls, recorded.MODELS["register"]).ok
    read = next(call for call in reversed(calls) if call.method == "read" and call.outcome is not None)
    read.outcome = "never written"
    assert not check(calls, recorded.MODELS["register"]).ok


# ---------------------------------------------------------------------------------------------------------- command


def test_the_command_says_what_it_found_by_its_code(
    tmp_path: Path, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "h.jsonl", GOOD)
    assert run(["judge", str(path), "--model", "register"]) == 0
    assert "linearizable: 4 calls, 1 of unknown outcome" in capsys.readouterr().out
    assert run(["judge", str(ours), "--model", "kv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "linearizable"
    stale = [*GOOD, {**GOOD[9], "time": 50}, {**GOOD[10], "time": 51, "value": 1}]
    assert run(["judge", str(written(path, stale)), "--model", "register"]) == 4
    said = capsys.readouterr().out
    assert "not linearizable" in said
    assert "no order explains these 2 calls on the register, whatever the other 3 did" in said
    assert "read() -> 2" in said
    assert "read() -> 1" in said


def test_an_empty_history_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lines in ([], GOOD[5:7]):
        assert run(["judge", str(written(tmp_path / "h", lines)), "--model", "register"]) == 6
        assert "vacuous" in capsys.readouterr().out


def test_wrong_usage_is_said(tmp_path: Path, ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["judge", str(tmp_path / "none"), "--model", "register"]) == 2
    assert "No such file" in capsys.readouterr().err
    assert run(["judge", str(ours), "--model", "register"]) == 2
    assert "must be one of read, write, cas for model register" in capsys.readouterr().err
    assert run(["judge", str(ours), "--model", "kv", "--export", str(tmp_path / "h.csv")]) == 2
    assert "must end in .jsonl or .edn" in capsys.readouterr().err
    assert run(["judge", str(ours), "--model", "kv", "--export", str(tmp_path / "h.edn")]) == 0
    assert "calls of a register, and are left out" in capsys.readouterr().err
    assert run(["judge", str(ours), "--model", "kv", "--export", str(tmp_path / "h.edn")]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_our_own_history_with_a_wrong_method_is_refused(tmp_path: Path) -> None:
    history.write(tmp_path / "h", [Call("a", "a", "multiply", ("x",), 1, returned=2)])
    with pytest.raises(ConfigError, match="h:1: method = 'multiply': must be one of get, put"):
        recorded.load(tmp_path / "h", "kv")
