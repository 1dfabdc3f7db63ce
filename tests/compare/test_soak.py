"""What the soak holds against replicas: figures that are level, and figures that grow."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from compare.soak import Look, Trend, disk_of, look, main, trends

MIB = 2**20


def looks(memory: Callable[[float], float], pid: Callable[[int], int] = lambda _: 7) -> list[Look]:
    """Every two seconds for ten minutes."""
    return [Look(at, 0, pid(at), int(memory(at)), 20, 4 * MIB) for at in range(0, 600, 2)]


def told(found: list[Trend]) -> dict[str, bool]:
    return {trend.name: trend.level for trend in found}


def test_what_grows_while_it_settles_and_is_level_then_is_level() -> None:
    found = trends(looks(lambda at: 60 * MIB + min(at, 100) * MIB), 100, 600)
    assert told(found) == {"memory": True, "files": True, "disk": True}
    assert str(found[0]) == "memory 160.0 -> 160.0 MiB"


def test_what_grows_all_the_time_is_found() -> None:
    assert told(trends(looks(lambda at: 60 * MIB + at * MIB / 10), 100, 600))["memory"] is False


def test_a_process_that_has_just_begun_does_not_count() -> None:
    """Small while it starts, as often as it is killed."""
    found = trends(looks(lambda at: 200 * MIB if at % 20 else 0, lambda at: at // 20), 100, 600)
    assert [trend.before for trend in found if trend.name == "memory"] == [200 * MIB]
    assert not trends(looks(lambda _: 0, lambda at: at), 100, 600), "always young"


def test_a_process_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"x" * 100_000)
    (tmp_path / "trace.jsonl").write_bytes(b"x" * 1_000_000)
    (tmp_path / "node.log").write_bytes(b"x" * 1_000_000)
    found = look(os.getpid(), tmp_path)
    assert found is not None
    memory, files, disk = found
    assert memory > 10 * MIB
    assert files > 2
    assert 100_000 <= disk == disk_of(tmp_path) < 500_000
    assert look(2**22 + 1, tmp_path) is None


def test_a_time_to_settle_that_is_all_the_time_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--seconds", "10", "--settle", "10"])
    assert "argument --settle: 10: must be less than --seconds = 10" in capsys.readouterr().err


@pytest.mark.live
@pytest.mark.slow
def test_a_short_soak_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether so short a time is level says nothing; that all is looked at and judged does."""
    main(["--protocol", "raft", "--seconds", "12", "--settle", "4", "--out", str(tmp_path / "looks.jsonl")])
    said = capsys.readouterr().out
    assert said.startswith("raft: ok, ")
    assert "  node 0: memory " in said
    assert len((tmp_path / "looks.jsonl").read_text().splitlines()) >= 6
