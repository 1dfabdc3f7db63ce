"""Verdicts, cells, exit codes, files."""

import json
from pathlib import Path

import pytest

from compare import results
from compare.checkers import Check
from compare.mutants import MutantSpec
from compare.report import exit_code, verdict_text
from compare.results import Asked, CellKey, Results, Verdict, cells_of, is_met, verdict_of
from compare.runner import run
from compare.scenario import find, parse
from replog import protocols
from replog.core import Core, Setup
from replog.errors import ConfigError
from tests.toy import SPEC

GOOD, BAD = Check(True, 3), Check(False, 3, "why")
FIELDS = """
protocol scenario engine seed n f faulty verdict safety liveness attack_actions fault_actions checks submitted
acknowledged throughput_ops_s latency_ms unavailable_s messages_per_op bytes_per_op signatures_per_op macs_per_op
fsyncs_per_op replay"""


@pytest.fixture(scope="module")
def found() -> Results:
    """Of the toy: one server, no fault."""
    return run(find("no-fault").model_copy(update={"f": 0}), SPEC, seeds=2)


@pytest.mark.parametrize(
    ("checks", "acknowledged", "acts", "verdict"),
    [
        ({"agreement": GOOD, "liveness": GOOD}, 5, [], "ok"),
        ({"agreement": GOOD, "liveness": BAD}, 5, [], "stalled"),
        ({"agreement": BAD, "liveness": BAD}, 5, [0], "unsafe"),
        ({"agreement": GOOD, "liveness": GOOD}, 5, [0], "vacuous"),
        ({"agreement": GOOD, "liveness": GOOD}, 5, [1], "ok"),
        ({"agreement": GOOD, "liveness": GOOD}, 5, [1, 0], "vacuous"),
        ({"agreement": GOOD, "liveness": BAD}, 0, [], "vacuous"),
    ],
)
def test_verdict(checks: dict[str, Check], acknowledged: int, acts: list[int], verdict: str) -> None:
    assert verdict_of(checks, acknowledged, acts) == verdict


@pytest.mark.parametrize(
    ("expected", "counts", "met"),
    [
        ("all ok", {"ok": 3}, True),
        ("all ok", {"ok": 3, "stalled": 1}, False),
        ("some unsafe", {"ok": 3, "unsafe": 1}, True),
        ("some unsafe", {"ok": 3}, False),
        ("some unsafe", {"unsafe": 3, "vacuous": 1}, False),
        ("all unsafe", {"unsafe": 3, "error": 1}, False),
        ("all ok", {}, False),
    ],
)
def test_a_vacuous_run_or_an_error_is_never_as_expected(expected: str, counts: dict[str, int], met: bool) -> None:
    assert is_met(expected, {Verdict(verdict): number for verdict, number in counts.items()}) == met


def test_a_third_protocol_joins_by_its_spec(found: Results) -> None:
    assert [one.verdict for one in found.runs] == ["ok", "ok"]
    assert found.runs[0].acknowledged > 200
    unheld = {name for name, check in found.runs[0].checks.items() if not check.checked}
    assert unheld <= {"state-digest"}, "one server has nobody to compare its state with"


def test_the_file_has_the_promised_shape(found: Results, tmp_path: Path) -> None:
    results.save(found, tmp_path / "results.json")
    data = json.loads((tmp_path / "results.json").read_text())
    assert data["version"] == 1
    assert set(data["cells"][0]) == {"protocol", "scenario", "engine", "expected", "met", "counts"}
    assert set(FIELDS.split()) <= set(data["runs"][0])
    assert set(data["runs"][0]["latency_ms"]) == {"p50", "p99", "max"}
    assert set(data["runs"][0]["checks"]["agreement"]) == {"ok", "checked", "detail"}
    assert data["runs"][0]["replay"] == "replog compare no-fault --protocol toy --engine sim --seed 1"
    assert results.load(tmp_path / "results.json") == found


def test_a_broken_file_is_named_with_its_field(found: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(found.model_dump_json().replace('"seed":2', '"seed":"two"'))
    with pytest.raises(ConfigError, match=r"results\.json: runs\.1\.seed"):
        results.load(path)


def counted(found: Results, expected: str, **counts: int) -> Results:
    cell = found.cells[0].model_copy(update={"expected": expected, "counts": counts, "met": is_met(expected, counts)})
    return found.model_copy(update={"cells": [cell]})


@pytest.mark.parametrize(
    ("expected", "counts", "code"),
    [
        ("all ok", {"ok": 2}, 0),
        ("some unsafe", {"unsafe": 2}, 0),
        ("all ok", {"ok": 1, "unsafe": 1}, 4),
        ("all ok", {"ok": 1, "stalled": 1}, 5),
        ("some unsafe", {"unsafe": 1, "vacuous": 1}, 6),
        ("all ok", {"unsafe": 1, "error": 1}, 70),
        ("some unsafe", {"ok": 2}, 1),
    ],
)
def test_exit_code(found: Results, expected: str, counts: dict[str, int], code: int) -> None:
    made = counted(found, expected, **{Verdict(name): number for name, number in counts.items()})
    assert exit_code(made) == code


def test_the_table_shows_the_gravest_verdict(found: Results) -> None:
    assert verdict_text(counted(found, "some unsafe", ok=14, unsafe=6).cells[0]).plain == "unsafe 6/20"
    assert verdict_text(counted(found, "all ok", ok=14, unsafe=6).cells[0]).plain == "unsafe 6/20 !"


def test_a_cell_is_not_met_before_all_its_runs_are_there(found: Results) -> None:
    key = CellKey("toy", "no-fault", "sim")
    other = CellKey("toy", "leader-crash", "sim")
    whole, part = (cells_of(found.runs, {key: Asked(number, "all ok"), other: Asked(1, "all ok")}) for number in (2, 3))
    assert [cell.met for cell in whole] == [True, False]
    assert [cell.met for cell in part] == [False, False]
    assert part[1].counts == {}
    assert verdict_text(part[1]).plain == "no run !"


def test_an_incomplete_comparison_is_never_as_expected(found: Results) -> None:
    assert found.met
    assert exit_code(found.model_copy(update={"complete": False})) == 1


class Bug(Exception):
    pass


def test_a_run_that_breaks_is_an_error_with_its_place_and_no_other_run_suffers() -> None:
    honest = protocols.find("raft")

    def broken(setup: Setup) -> Core:
        if setup.domain.cluster == "sim-2":
            raise Bug("planted")
        return honest.core(setup)

    found = run("no-fault", MutantSpec(honest, broken), seeds=2)
    assert [one.verdict for one in found.runs] == ["ok", "error"]
    assert found.runs[1].n == 3
    assert "Bug: planted at test_results.py" in found.runs[1].error
    unknown = set(FIELDS.split()) & {name for name, value in found.runs[1].model_dump().items() if value is None}
    assert {"safety", "liveness", "acknowledged", "unavailable_s"} <= unknown
    assert not {name for name, value in found.runs[1].model_dump().items() if value == "held"}
    assert not found.met
    assert exit_code(found) == 70


def test_options_that_a_protocol_does_not_take_are_one_line() -> None:
    scenario = parse('name = "x"\nsummary = "x"\n[protocols.raft]\noptions = { heartbeat_us = "often" }\n', "x.toml")
    with pytest.raises(ConfigError, match=r"scenario x, protocol raft: .*heartbeat_us") as error:
        run(scenario, seeds=1)
    assert "\n" not in str(error.value)
