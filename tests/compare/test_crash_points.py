"""The power goes at boundaries of writing and flushing, under the real store. The long form: compare.crash_points."""

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from compare import crash_points
from compare.crash_disk import LOSSES, Boundary, Platter, PowerCut
from replog.storage import Storage

OWNER = "test"


@pytest.mark.parametrize("protocol", crash_points.PROTOCOLS)
def test_nothing_is_lost_done_twice_or_said_in_two_ways(protocol: str) -> None:
    points = crash_points.play(protocol, seed=1, points=12)
    assert points.violations == []
    assert points.points >= 12
    assert points.house
    assert points.starting
    assert points.acknowledged > 100, "vacuous"


@pytest.mark.parametrize("protocol", crash_points.PROTOCOLS)
def test_a_replica_that_speaks_before_its_disk_is_found_out(protocol: str) -> None:
    """A core, or an outbox, without the barrier: the judges see what is lost, the ledger who contradicts himself."""
    assert crash_points.play(protocol, seed=1, points=12, broken="no-barrier").unsafe


@pytest.mark.parametrize("protocol", crash_points.PROTOCOLS)
def test_a_store_that_does_not_flush_is_found_out(protocol: str) -> None:
    assert crash_points.play(protocol, seed=1, points=12, broken="no-flush").violations


def test_the_command_says_how_much_was_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert crash_points.main(["raft", "--points", "3"]) == 0
    told = capsys.readouterr().out
    assert "raft: " in told
    assert " 0 violations, 0 runs unsafe" in told


# ------------------------------------------------------------------------------------------------------ the disk itself


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, where it can be: creating the stores flushes."""
    with tempfile.TemporaryDirectory(dir=crash_points.memory()) as name:
        yield Path(name)


@pytest.fixture
def platter(folder: Path) -> Iterator[Platter]:
    Storage.create(folder, OWNER)
    platter = Platter(folder, Random(1), wal_bytes=40_000)
    yield platter
    platter.restore("nothing")


def test_every_boundary_of_a_store_leaves_all_that_was_acknowledged(folder: Path) -> None:
    """One life to each boundary that it meets, in order, each loss in turn."""
    boundaries: set[Boundary] = set()
    number, cut = 0, True
    while cut:
        own = folder / str(number)
        own.mkdir()
        Storage.create(own, OWNER)
        platter = Platter(own, Random(number), wal_bytes=20_000)
        cut, acknowledged = live(platter, number, boundaries)
        platter.restore(LOSSES[number % len(LOSSES)])
        store = Storage(own, OWNER, base=platter.base)
        records = store.load()
        assert records[: len(acknowledged)] == acknowledged
        assert len(records) <= len(acknowledged) + 1
        store.close()
        platter.restore("nothing")
        number += 11
    assert {(one.file, one.operation) for one in boundaries} >= {
        ("log.db", "write"),
        ("log.db", "sync"),
        ("log.db-wal", "write"),
        ("log.db-wal", "sync"),
        ("state.db-wal", "sync"),
    }


def live(platter: Platter, number: int, met: set[Boundary]) -> tuple[bool, list[bytes]]:
    """Twelve appends and a trim; the power goes at boundary `number`. Whether it came so far; what was acknowledged."""
    left = number

    def strike(boundary: Boundary) -> bool:
        nonlocal left
        met.add(boundary)
        left -= 1
        return left < 0

    platter.strike_when(strike)
    acknowledged: list[bytes] = []
    try:
        store = Storage(platter.folder, OWNER, base=platter.base)
        for row in range(12):
            store.append([(row, bytes([row]) * 3000)])
            acknowledged.append(bytes([row]) * 3000)
        store.close()
    except PowerCut:
        return True, acknowledged
    return platter.down, acknowledged


def test_what_was_not_flushed_is_lost_with_the_machine_and_kept_with_the_process(platter: Platter) -> None:
    base = platter.base.connect(platter.folder / "log.db", "rw")
    base.execute("PRAGMA locking_mode=EXCLUSIVE")
    base.execute("PRAGMA synchronous=OFF")
    for loss, left in (("nothing", 1), ("unsynced", 0)):
        base.execute("INSERT OR REPLACE INTO about VALUES ('note', 'here')")
        platter.down = True
        platter.restore(loss)  # type: ignore[arg-type]
        base = platter.base.connect(platter.folder / "log.db", "rw")
        base.execute("PRAGMA locking_mode=EXCLUSIVE")
        base.execute("PRAGMA synchronous=OFF")
        assert len(base.execute("SELECT value FROM about WHERE name = 'note'").fetchall()) == left


def test_a_connection_tells_of_errors_as_the_standard_one_does(platter: Platter) -> None:
    base = platter.base.connect(platter.folder / "log.db", "rw")
    base.execute("PRAGMA locking_mode=EXCLUSIVE")
    with pytest.raises(sqlite3.Error, match="no such table"):
        base.execute("SELECT * FROM absent")
