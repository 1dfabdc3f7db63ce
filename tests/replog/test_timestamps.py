"""No timestamp of a client is used twice: lives that end or are killed, clocks that stand still or go back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from replog import timestamps
from replog.errors import ConfigError
from replog.timestamps import AHEAD, Timestamps

NOW = 1_700_000_000_000_000


def at(monkeypatch: pytest.MonkeyPatch, now: int) -> None:
    monkeypatch.setattr(timestamps.time, "time_ns", lambda: now * 1000)


def live(folder: Path, count: int) -> tuple[Timestamps, list[int]]:
    """One life that uses so many."""
    life = Timestamps(folder)
    for _ in range(count):
        life.take()
    return life, list(range(life.first, life.first + count))


@pytest.mark.parametrize("seed", range(5))
def test_no_life_uses_what_an_earlier_one_has_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng, used = random.Random(seed), [0]
    for _ in range(20):
        at(monkeypatch, NOW + rng.choice((0, 1, 5, -1000, -(10**12), 10**9)))
        life, more = live(tmp_path, rng.randrange(1, 9))
        assert more[0] > used[-1]
        used += more
        if rng.random() < 0.6:  # else it is killed
            life.end()


def test_a_life_begins_at_the_time_of_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, NOW)
    assert Timestamps(tmp_path).first == NOW


@pytest.mark.parametrize("noted", ["", "7\n", "99999999999999999"])
def test_a_life_begins_beyond_what_was_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: str) -> None:
    at(monkeypatch, NOW)
    (tmp_path / "timestamp").write_text(noted)
    assert Timestamps(tmp_path).first == max(NOW, int(noted or 0) + 1)


def test_lives_that_end_leave_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, NOW)
    for begins in (NOW, NOW + 3, NOW + 6):
        life, used = live(tmp_path, 3)
        assert used[0] == begins
        life.end()


def test_a_long_life_notes_anew_before_it_goes_beyond_its_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, NOW)
    monkeypatch.setattr(timestamps, "AHEAD", 4)
    _, used = live(tmp_path, 11)  # and is killed
    assert Timestamps(tmp_path).first > used[-1]
    assert AHEAD > 1000, "a note costs a write to the disk"


def test_what_cannot_be_noted_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, NOW)
    monkeypatch.setattr(timestamps, "AHEAD", 2)
    life, used = live(tmp_path, 2)
    monkeypatch.setattr(timestamps, "_sync", fails)
    for _ in range(2):
        with pytest.raises(OSError, match="no space"):
            life.take()
    life.end()
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["timestamp"]
    at(monkeypatch, NOW)
    assert Timestamps(tmp_path).first > used[-1]


def test_a_life_that_uses_none_needs_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only asks how the replicas are: most of all when their disk is full."""
    monkeypatch.setattr(timestamps, "_sync", fails)
    Timestamps(tmp_path).end()
    assert not list(tmp_path.iterdir())


def fails(folder: Path) -> None:
    raise OSError("no space")


@pytest.mark.parametrize("text", ["9" * 19, "12x", "-1", "\u0663"])
def test_what_no_timestamp_can_be_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "timestamp").write_text(text)
    with pytest.raises(ConfigError, match=r"timestamp: '.*': must be a number of at most 17 digits"):
        Timestamps(tmp_path)
