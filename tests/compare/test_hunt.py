"""`replog hunt`: a planted flaw is found, shrunk and replayed; an interrupted hunt goes on; the honest cores stand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compare.checkers import shrink as pictures
from compare.hunt import byzzfuzz, score, shrink
from compare.hunt import case as cases
from compare.hunt.case import KINDS, Case, Cut, changed
from compare.hunt.search import Asked, search
from compare.hunt.search import draw as draw_by
from compare.hunt.shrink import Shrinker
from compare.hunt.store import Store, Which
from compare.hunt.swarm import draw
from compare.hunt.trial import ACKNOWLEDGED, HuntTrial, hunt, spec_of
from compare.mutants.base import MutantSpec
from compare.mutants.catalogue import Broken, catalogue
from compare.results import Verdict
from pbft.messages import Commit, Prepare
from raft import SPEC
from replog.cli import run as command
from replog.errors import ConfigError
from replog.trace import Recorder

BROKEN = "raft-commits-alone"


@pytest.fixture(autouse=True)
def _large_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """How small the judge of linearizability makes what it shows is not asked here."""
    monkeypatch.setattr(pictures, "STEPS_ALL", 1_000)


def text_of(case: Case) -> str:
    """The whole trace of a run, as bytes would be."""
    recorder = Recorder("all")
    HuntTrial(case, spec_of(case), recorder).run()
    return "\n".join(map(str, recorder.lines))


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_the_honest_core_stands_and_enough_is_acknowledged(protocol: str) -> None:
    for seed in (1, 2, 3, 10):
        outcome = hunt(draw(protocol, seed))
        assert (outcome.judge, outcome.verdict) == ("", Verdict.OK), outcome
        assert outcome.acknowledged >= ACKNOWLEDGED
        assert outcome.real is (seed == 10)


def test_seeds_draw_different_kinds_of_faults_and_all_of_them() -> None:
    drawn = [{strike.fault for strike in draw("raft", seed).strikes} for seed in range(1, 200)]
    assert set().union(*drawn) == set(KINDS)
    assert sum(len(kinds) <= 2 for kinds in drawn) > 40


def test_liars_are_at_most_f_and_raft_has_none() -> None:
    for seed in range(1, 100):
        case = draw("pbft", seed)
        liars = [happening.target for happening in case.timeline]
        assert all(isinstance(one, tuple) and len(one) <= case.f for one in liars)
        assert not draw("raft", seed).attacked


def test_a_case_is_read_back_from_its_file_and_runs_the_same(tmp_path: Path) -> None:
    case = draw("pbft", 7)
    file = tmp_path / "case.toml"
    file.write_text(cases.to_toml(case))
    again = cases.load(file)
    assert again == case
    assert text_of(again) == text_of(case)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("name =", "case.toml"),
        ('name = "x"', "summary"),
        ("\xff", "UTF-8"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, rule: str) -> None:
    file = tmp_path / "case.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=rule):
        cases.load(file)


def test_a_strike_that_does_not_end_is_refused() -> None:
    strike = {"fault": "loss", "start_s": 0.2, "end_s": 0.1}
    with pytest.raises(ValueError, match=r"end_s = 0\.1: must be after"):
        changed(draw("raft", 1), strikes=[strike])


def test_a_run_that_acknowledges_too_little_is_vacuous() -> None:
    case = draw("raft", 1)
    idle = changed(case, workload=case.workload.model_dump() | {"pause_ms": 20_000.0})
    assert hunt(idle).verdict is Verdict.VACUOUS


# -------------------------------------------------------------------------------------------------------------- search


def a_hunt(folder: Path, *flags: str) -> int:
    return command(["hunt", "--db", str(folder), *flags])


def test_a_planted_flaw_is_found_shrunk_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shrink, "RUNS_MAX", 15)
    assert a_hunt(tmp_path, "--mutant", BROKEN, "--seeds", "20", "--json") == 4
    (found,) = json.loads(capsys.readouterr().out)["counterexamples"]
    file = Path(found["file"])
    small = cases.load(file)
    assert small.judge == found["judge"] == "agreement"
    assert small.events < draw("raft", small.seed).events
    assert small.mutant == BROKEN
    assert (file.parent / "trace.jsonl").stat().st_size > 1_000
    assert (file.parent / "history.jsonl").stat().st_size > 1_000
    for _ in range(2):
        assert command(found["replay"].split()[1:]) == 4
        assert "agreement" in capsys.readouterr().out
    honest = tmp_path / "honest.toml"
    honest.write_text(cases.to_toml(changed(small, mutant="", protocols=draw("raft", small.seed).protocols)))
    assert command(["hunt", "--replay", str(honest)]) == 0
    assert a_hunt(tmp_path, "--mutant", BROKEN, "--seeds", "1") == 4, "the failure of old is replayed first"
    assert "fails again: agreement" in capsys.readouterr().err


def test_shrinking_keeps_the_judge() -> None:
    case = changed(draw("raft", 3), mutant=BROKEN)
    shrinker = Shrinker(case, "liveness", spec_of(case))
    assert shrinker.shrink(2) == case, "it fails, but for another judge"


def seeds_of(folder: Path) -> set[int]:
    with Store(folder) as store:
        return store.done(Which("swarm", "raft"))


def test_a_hunt_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    code = "from replog.cli import main; main()"
    flags = ["hunt", "--protocol", "raft", "--seeds", "100000", "--db", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code, *flags], env=environment) as process:
        while not (tmp_path / "hunts.sqlite").exists() or len(seeds_of(tmp_path)) < 3:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    before = seeds_of(tmp_path)
    assert before == set(range(1, len(before) + 1)), "none is left out"
    with Store(tmp_path) as store:
        goal = len(before) + 2
        found = search(Asked(("raft",), seconds=None, seeds=goal), store, lambda _: None, lambda _: None)
        assert found.new == 2
        assert found.totals["raft"].seeds == goal, "none is counted twice"


def test_a_failure_that_was_not_written_down_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "RUNS_MAX", 2)
    asked = Asked(("raft",), seconds=None, seeds=3, mutant=BROKEN)
    which = Which("swarm", "raft", BROKEN)
    with Store(tmp_path) as store:
        store.add(which, hunt(changed(draw("raft", 3), mutant=BROKEN)))
        found = search(asked, store, lambda _: None, lambda _: None)
    assert [path.parent.name for path, _ in found.counterexamples] == [f"raft-swarm-{BROKEN}-3"]


def test_several_processes_do_each_seed_once(tmp_path: Path) -> None:
    assert a_hunt(tmp_path, "--protocol", "raft", "--seeds", "5", "--workers", "2") == 0
    assert seeds_of(tmp_path) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--budget", "3x"], "--budget = '3x': must be a time above 0"),
        (["--budget", "0s"], "must be a time above 0"),
        (["--protocol", "paxos"], "--protocol = 'paxos': known are"),
        (["--strategy", "twins", "--protocol", "raft"], "raft is not built to stand any"),
        (["--mutant", "nobody"], "mutant 'nobody': unknown"),
        (["--mutant", BROKEN, "--protocol", "pbft"], "is a broken core of raft"),
        (["--replay", "nowhere.toml"], "nowhere.toml: No such file"),
        (["--replay", "x.toml", "--seeds", "3"], "--replay: must stand without"),
        (["--workers", "0"], "workers"),
    ],
)
def test_wrong_usage_is_told(
    flags: list[str], rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(["hunt", *flags]) == 2
    assert rule in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------------- strategies


@pytest.mark.parametrize(("strategy", "protocol"), [("twins", "pbft"), ("byzzfuzz", "pbft"), ("byzzfuzz", "raft")])
def test_a_strategy_acts_and_the_honest_core_stands(strategy: str, protocol: str) -> None:
    found = [hunt(draw_by(Which(strategy, protocol), seed)) for seed in (1, 3, 5)]
    assert all(not outcome.judge for outcome in found), found
    assert any(outcome.verdict is Verdict.OK for outcome in found), "vacuous"


@pytest.mark.parametrize(
    ("strategy", "mutant"), [("twins", "pbft-quorum-of-two"), ("byzzfuzz", "pbft-forgets-prepared")]
)
def test_a_strategy_finds_a_broken_core(strategy: str, mutant: str) -> None:
    """One identity in two places must not break the intersection of quorums (HAZARDS X9); a view change must keep what
    was prepared (P3)."""
    found = (hunt(draw_by(Which(strategy, "pbft", mutant), seed)) for seed in range(1, 31))
    assert any(outcome.judge for outcome in found)


def test_a_round_is_of_a_phase_and_a_place() -> None:
    prepare, commit = Prepare(0, 2, bytes(32), 1, b""), Commit(0, 2, bytes(32), 1, b"")
    assert (byzzfuzz.round_of(prepare), byzzfuzz.round_of(commit)) == (7, 8)
    cuts = byzzfuzz.Cuts([Cut(round=7, group=(0, 1))])
    assert cuts.passes(0, 1, prepare)
    assert cuts.passes(0, 2, commit)
    assert cuts.passes("c0", 2, prepare)
    assert not cuts.passes(0, 2, prepare)
    assert cuts.dropped == 1


# ------------------------------------------------------------------------------------------------------------- mutants


def test_there_are_thirty_broken_cores_of_each_protocol_and_each_names_its_hazard() -> None:
    known = catalogue().values()
    assert min(sum(mutant.protocol == name for mutant in known) for name in ("pbft", "raft")) >= 30
    assert {mutant.hazard for mutant in known} <= set(score.rows())


def test_each_test_that_a_row_names_is_there() -> None:
    tests = Path(__file__).resolve().parents[1]
    for file, _, name in {name.partition("::") for names in score.rows().values() for name in names}:
        assert f"def {name}" in (tests / file).read_text(), f"{file}::{name}"


@pytest.mark.parametrize(
    ("mutant", "test"),
    [
        ("pbft-skips-a2", "tests/pbft/test_macs.py::test_cl02_a2_one_replica_alone_puts_nothing_into_a_view"),
        ("raft-leads-alone", "tests/raft/test_elections.py::test_6_2_a_leader_that_hears_no_majority_steps_down"),
    ],
)
def test_a_row_s_tests_run_with_the_broken_core(mutant: str, test: str) -> None:
    """With parts of a core that tests make themselves, and where a fixture hands out the core."""
    assert score.caught_by_tests(catalogue()[mutant]) == f"test {test}"


def test_the_score_names_judge_seeds_and_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {name: catalogue()[name] for name in ("raft-commits-alone", "raft-pre-votes-for-any-log")}
    monkeypatch.setattr(score, "catalogue", lambda: some)
    assert command(["hunt", "--mutants", "--seeds", "8", "--json"]) == 0
    alone, votes = json.loads(capsys.readouterr().out)["mutants"]
    assert set(alone) == {"name", "protocol", "hazard", "caught_by", "seeds", "seconds"}
    assert (alone["caught_by"], alone["hazard"]) == ("agreement", "R2")
    assert alone["seeds"] <= 8
    assert votes["caught_by"].startswith("test "), "no seed shows it, the tests of its row do"
    assert votes["seeds"] is None


def test_a_seed_under_which_the_honest_core_fails_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = hunt(changed(draw("raft", 3), mutant=BROKEN), spec_of(changed(draw("raft", 3), mutant=BROKEN)))
    assert failed.failed
    monkeypatch.setattr(score, "hunt", lambda case, spec=None: failed)
    monkeypatch.setattr(score, "caught_by_tests", lambda mutant: "")
    found = score.score(catalogue()[BROKEN], seeds=2)
    assert (found.caught_by, found.seeds) == ("", None)


def test_one_that_nobody_catches_is_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    mutant = catalogue()["raft-commits-alone"]
    sound = Broken("raft-sound", "raft", "R99", "nothing is wrong with it", MutantSpec(mutant.spec, SPEC.core))
    monkeypatch.setattr(score, "catalogue", lambda: {sound.name: sound})
    assert command(["hunt", "--mutants", "--seeds", "1"]) == 1
    assert "raft-sound\traft\tR99\tNOT CAUGHT" in capsys.readouterr().out
