"""Chaos on real processes: what is drawn, what is reported and resumed, a short run, and a broken store convicted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from compare import chaos
from compare.chaos import FILE, Outcome, main, play, report, sessions
from compare.chaos_faults import KINDS, draw


def outcome(protocol: str = "raft", seed: int = 1, rounds: int = 2, **changed: object) -> Outcome:
    told = {
        "broken": "",
        "asked": rounds,
        "rounds": rounds,
        "verdict": "ok",
        "acknowledged": 300,
        "checked": {"linearizability": 300, "durability": 600},
        "objections": {},
        "struck": {"crash": 3},
        "slowest_s": 1.5,
        "seconds": 9.0,
    }
    return Outcome(protocol, seed, **{**told, **changed})  # type: ignore[arg-type]


def test_faults_are_drawn_from_the_seed_and_of_every_kind() -> None:
    first, again = random.Random("1/chaos"), random.Random("1/chaos")
    drawn = [strike for _ in range(200) for strike in draw(first, 4)]
    assert drawn == [strike for _ in range(200) for strike in draw(again, 4)]
    assert {strike.kind for strike in drawn} == {*KINDS}
    assert all(len(strike.nodes) == 4 for strike in drawn if strike.kind == "crash-all")
    assert {len(strike.nodes) for strike in drawn if strike.kind == "crash"} == {1, 2, 3, 4}


def test_rounds_are_played_in_sessions_each_with_its_seed() -> None:
    assert list(sessions(50, 20, 7)) == [(7, 20), (8, 20), (9, 10)]


def test_what_was_played_is_not_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played: list[tuple[str, int]] = []

    def once(protocol: str, seed: int, rounds: int, broken: str, out: Path) -> Outcome:
        if len(played) == 3:
            raise KeyboardInterrupt
        played.append((protocol, seed))
        return outcome(protocol, seed, rounds)

    monkeypatch.setattr(chaos, "play", once)
    asked = ["--rounds", "4", "--each", "2", "--out", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        main(asked)
    assert len((tmp_path / FILE).read_text().splitlines()) == 3
    played.clear()
    assert main(asked) == 0
    assert played == [("raft", 2)]
    assert "pbft: 4 rounds in 2 sessions, 600 acknowledged operations checked: 0 lost" in capsys.readouterr().out


def test_the_report_says_what_was_objected_to(capsys: pytest.CaptureFixture[str]) -> None:
    told = report(
        "raft", [outcome(), outcome(seed=2, verdict="unsafe", objections={"durability": "node 1 has lost x"})]
    )
    assert "lost in 1 sessions, 0 duplicates, 0 divergences, 0 accused" in told
    assert "struck: crash 6" in told


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_nothing_is_lost_or_done_twice_in_four_rounds(protocol: str) -> None:
    found = play(protocol, 1, 4)
    assert (found.verdict, found.rounds, found.objections) == ("ok", 4, {})
    assert found.checked["linearizability"] > 400, "vacuous"
    assert sum(found.struck.values()) > 10


@pytest.mark.live
@pytest.mark.slow
def test_a_store_without_barrier_is_convicted(tmp_path: Path) -> None:
    for seed in range(1, 6):  # which kill comes between a promise and its write is chance
        found = play("raft", seed, 4, "without-barrier", tmp_path)
        if found.objections:
            break
    assert found.objections.keys() & {"durability", "agreement", "linearizability", "exactly-once"}
    assert found.verdict != "ok"
    assert (Path(found.kept) / "history.jsonl").is_file()
