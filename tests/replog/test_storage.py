"""What a replica's disk gives back: everything that was promised, or an error that says so."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from replog import storage as module
from replog import wal
from replog.storage import CorruptLog, Storage, StorageFailed

OWNER = "cluster c node 0"


@dataclass
class Snapshot:
    index: int
    content: dict[int, bytes]
    digest: bytes = field(default=b"d" * 32)

    def parts(self, since: "Snapshot | None" = None) -> Iterator[tuple[int, bytes]]:
        old = since.content if since is not None else {}
        yield from ((part, data) for part, data in self.content.items() if old.get(part) != data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Storage.create(tmp_path, OWNER)
    return tmp_path


def fill(folder: Path, rows: int = 12, size: int = 3000) -> None:
    store = Storage(folder, OWNER)
    for row in range(rows):
        store.append([(row + 1, bytes([row]) * size), (row + 1, b"second")])
    store.close()


def crashed_copy(folder: Path, target: Path) -> Path:
    """The files as a killed process leaves them: copied while they are open, write-ahead file and all."""
    store = Storage(folder, OWNER)
    for row in range(12):
        store.append([(row + 1, bytes([65 + row]) * 5000)])
    shutil.copytree(folder, target)
    store.close()
    return target


def test_records_come_back_in_order(folder: Path) -> None:
    store = Storage(folder, OWNER)
    store.append([(1, b"a"), (2, b"b")])
    store.append([])
    store.append([(0, b"c")])
    assert store.appended == 3
    store.close()
    assert Storage(folder, OWNER).load() == [b"a", b"b", b"c"]


def test_trim_drops_the_longest_prefix_and_keeps_the_chain(folder: Path) -> None:
    store = Storage(folder, OWNER)
    for index in (1, 2, 5, 3):
        store.append([(index, b"%d" % index)])
    store.save(Snapshot(4, {0: b"state"}))
    store.trim(4, store.appended)
    store.append([(6, b"6")])
    store.close()
    store = Storage(folder, OWNER)
    assert store.load() == [b"5", b"3", b"6"]
    assert store.appended == 5


def test_trim_spares_what_was_promised_after_it(folder: Path) -> None:
    store = Storage(folder, OWNER)
    store.append([(1, b"entry")])
    listed = store.appended
    store.append([(0, b"vote")])
    store.save(Snapshot(9, {}))
    store.trim(9, listed)
    store.close()
    assert Storage(folder, OWNER).load() == [b"vote"]


def test_trim_without_a_checkpoint_is_refused(folder: Path) -> None:
    store = Storage(folder, OWNER)
    store.append([(1, b"entry")])
    with pytest.raises(StorageFailed, match="saved checkpoint is at -1"):
        store.trim(1, 1)


def test_an_older_state_file_under_a_cut_log_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "state.db", tmp_path / "older")
    store = Storage(folder, OWNER)
    store.append([(1, b"entry")])
    store.save(Snapshot(1, {0: b"state"}))
    store.trim(1, 1)
    store.close()
    shutil.copy(tmp_path / "older", folder / "state.db")
    with pytest.raises(StorageFailed, match="cut at a checkpoint of index 1"):
        Storage(folder, OWNER)


# --------------------------------------------------------------------------------------------- damage (HAZARDS X2, X12)


def change(folder: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "log.db")) as base, base:
        base.execute(statement)
    base.close()


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("UPDATE log SET records = x'91c40161' WHERE number = 8", 7),
        ("UPDATE log SET upto = 1 WHERE number = 8", 7),
        ("DELETE FROM log WHERE number = 8", 7),
        ("DELETE FROM log WHERE number = 24", 23),
        ("DELETE FROM log WHERE number = 2", 1),
    ],
)
def test_a_changed_or_missing_row_is_noticed(folder: Path, statement: str, number: int) -> None:
    fill(folder)
    change(folder, statement)
    with pytest.raises(CorruptLog) as caught:
        Storage(folder, OWNER)
    assert caught.value.number == number


def flip(path: Path, position: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= bit
    path.write_bytes(data)


def test_no_flipped_bit_of_the_write_ahead_file_loses_an_acknowledged_commit_unseen(
    folder: Path, tmp_path: Path
) -> None:
    """Damage before the last two commits: found, or harmless. SQLite alone would cut the log without a word."""
    crashed = crashed_copy(folder, tmp_path / "crashed")
    whole = Storage(shutil.copytree(crashed, tmp_path / "whole"), OWNER).load()
    size = (crashed / "log.db-wal").stat().st_size
    found = 0
    for place, position in enumerate(range(0, size - 9 * 4120, 1571)):
        copy = shutil.copytree(crashed, tmp_path / f"flipped-{place}")
        flip(copy / "log.db-wal", position)
        try:
            assert Storage(copy, OWNER).load() == whole
        except StorageFailed:
            found += 1
    assert found > 20


def test_sqlite_alone_cuts_the_log_at_a_flipped_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above would miss without the look at the write-ahead file: the mark falls with the rows."""
    crashed = crashed_copy(folder, tmp_path / "crashed")
    flip(crashed / "log.db-wal", 20 * 4120)
    with pytest.raises(CorruptLog, match="write-ahead file is damaged"):
        Storage(crashed, OWNER)
    monkeypatch.setattr(wal, "inspect", lambda path: wal.Tail.WHOLE)
    assert len(Storage(crashed, OWNER).load()) < 12


def test_a_torn_tail_is_cut(folder: Path, tmp_path: Path) -> None:
    crashed = crashed_copy(folder, tmp_path / "crashed")
    path = crashed / "log.db-wal"
    path.write_bytes(path.read_bytes()[:-2000])
    store = Storage(crashed, OWNER)
    assert len(store.load()) == 11
    store.close()


@pytest.mark.parametrize("cut", [1, 2000, 4096 + 24, 4096 + 25])
def test_a_last_commit_cut_short_is_told(folder: Path, tmp_path: Path, cut: int) -> None:
    """A row of 5,000 bytes takes some frames; only the last of them says that they are a commit."""
    crashed = crashed_copy(folder, tmp_path / "crashed")
    path = crashed / "log.db-wal"
    whole = path.read_bytes()
    assert wal.inspect(path) is wal.Tail.WHOLE
    path.write_bytes(whole[:-cut])
    store = Storage(crashed, OWNER)
    assert store.torn
    assert len(store.load()) == 11
    store.close()
    again = Storage(crashed, OWNER)
    assert not again.torn
    again.close()


def test_a_torn_page_in_the_last_commit_is_cut_and_told(folder: Path, tmp_path: Path) -> None:
    crashed = crashed_copy(folder, tmp_path / "crashed")
    path = crashed / "log.db-wal"
    data = path.read_bytes()
    path.write_bytes(data[:-1000] + bytes(512) + data[-488:])
    store = Storage(crashed, OWNER)
    assert store.torn
    assert len(store.load()) == 11


@pytest.mark.parametrize("back", [1, 100, 3000, 4096, 4100, 4105, 4110, 4115, 4119, 4121, 9000])
@pytest.mark.parametrize("bit", [1, 128])
def test_a_flipped_bit_in_the_last_commit_is_no_torn_end(folder: Path, tmp_path: Path, back: int, bit: int) -> None:
    """In a page, in the head of a frame, in its checksum and its salts: what it held was acknowledged. (HAZARDS X12)"""
    crashed = crashed_copy(folder, tmp_path / "crashed")
    path = crashed / "log.db-wal"
    flip(path, path.stat().st_size - back, bit)
    with pytest.raises(CorruptLog, match="write-ahead file is damaged"):
        Storage(crashed, OWNER)


def test_a_damaged_part_of_a_checkpoint_is_never_handed_out(folder: Path) -> None:
    store = Storage(folder, OWNER)
    store.save(Snapshot(3, {0: b"root", 1: b"leaf"}))
    store.close()
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as base, base:
        base.execute("UPDATE part SET data = x'00' WHERE part = 1")
    base.close()
    saved = Storage(folder, OWNER).load_state()
    assert saved is not None
    with pytest.raises(StorageFailed, match="part 1"):
        list(saved.parts)


# ------------------------------------------------------------------------------------------ failing disk (HAZARDS X1)


class FailingOnce:
    """A connection whose next COMMIT fails, as on a disk that reports an error once."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self.base = base
        self.failures = 1

    def execute(self, statement: str) -> sqlite3.Cursor:
        if statement == "COMMIT" and self.failures:
            self.failures -= 1
            self.base.execute("ROLLBACK")
            raise sqlite3.OperationalError("disk I/O error")
        return self.base.execute(statement)

    def executemany(self, statement: str, rows: list[tuple[object, ...]]) -> sqlite3.Cursor:
        return self.base.executemany(statement, rows)

    def close(self) -> None:
        self.base.close()


def test_a_failed_commit_poisons_the_store_until_restart(folder: Path) -> None:
    store = Storage(folder, OWNER)
    store.append([(1, b"before")])
    store._log._file._base = FailingOnce(store._log._file._base)  # type: ignore[assignment]
    with pytest.raises(StorageFailed, match="disk I/O error"):
        store.append([(2, b"lost")])
    with pytest.raises(StorageFailed, match="refused after an earlier failure"):
        store.append([(2, b"retry")])
    assert store.appended == 1
    store.close()
    assert Storage(folder, OWNER).load() == [b"before"]


# --------------------------------------------------------------------------------------------- whose files (HAZARDS X3)


def test_missing_foreign_and_doubly_opened_files_are_refused(folder: Path) -> None:
    with pytest.raises(StorageFailed, match="belongs to cluster c node 0, not to cluster c node 1"):
        Storage(folder, "cluster c node 1")
    with pytest.raises(StorageFailed, match="exists already"):
        Storage.create(folder, OWNER)
    store = Storage(folder, OWNER)
    with pytest.raises(StorageFailed, match="another process has it open"):
        Storage(folder, OWNER)
    store.close()
    (folder / "state.db").unlink()
    with pytest.raises(StorageFailed, match="is missing"):
        Storage(folder, OWNER)


def copies_at_every_step(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int]]:
    """A life with many commits and some checkpoints of the write-ahead file: (the files, rows acknowledged) as a kill
    would leave them before and after each."""
    copies: list[tuple[Path, int]] = []
    acknowledged = 0

    def copy() -> None:
        copies.append((shutil.copytree(folder, target / str(len(copies))), acknowledged))

    attempt = module._File._attempt

    def copying(file: module._File, work: Callable[[], object]) -> None:
        copy()
        attempt(file, work)
        copy()

    with monkeypatch.context() as patch:
        patch.setattr(module._File, "_attempt", copying)
        patch.setattr(module, "WAL_BYTES", 100_000)
        store = Storage(folder, OWNER)
        for row in range(12):
            store.append([(row + 1, bytes(9000))])
            acknowledged = row + 1
            copy()
        store.close()
        copy()
    return copies


def test_a_kill_at_any_moment_loses_nothing_and_raises_no_alarm(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for copy, acknowledged in copies_at_every_step(folder, tmp_path_factory.mktemp("copies"), monkeypatch):
        for _ in range(2):
            store = Storage(copy, OWNER)
            assert len(store.load()) in (acknowledged, acknowledged + 1)
            assert not store.torn
            store.close()


@pytest.mark.parametrize("left", [None, 0, 32, 4000])
def test_a_lost_write_ahead_file_is_no_empty_one(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, left: int | None
) -> None:
    """Without it the log opens only if it holds all that was acknowledged."""
    found = 0
    for copy, acknowledged in copies_at_every_step(folder, tmp_path_factory.mktemp("copies"), monkeypatch):
        path = copy / "log.db-wal"
        if left is None or not path.exists():
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(path.read_bytes()[:left])
        try:
            store = Storage(copy, OWNER)
        except CorruptLog:
            with pytest.raises(CorruptLog, match=r"log\.db-wal is lost"):
                Storage(copy, OWNER)
            found += 1
            continue
        assert len(store.load()) == acknowledged
        store.close()
    assert found > 12


def test_a_write_ahead_file_that_sqlite_s_own_tools_took_in_is_not_lost(folder: Path, tmp_path: Path) -> None:
    crashed = crashed_copy(folder, tmp_path / "crashed")
    with contextlib.closing(sqlite3.connect(crashed / "log.db")) as base:
        assert base.execute("SELECT count(*) FROM log").fetchone() == (12,)
    assert not (crashed / "log.db-wal").exists()
    store = Storage(crashed, OWNER)
    assert len(store.load()) == 12
    store.close()


def test_the_write_ahead_file_stays_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAL_BYTES", 200_000)
    store = Storage(folder, OWNER)
    for row in range(300):
        store.append([(row + 1, bytes(5000))])
    assert (folder / "log.db-wal").stat().st_size < 400_000
    store.close()


def test_a_write_ahead_file_that_cannot_be_read_is_a_failure_of_the_disk(folder: Path) -> None:
    (folder / "log.db-wal").mkdir()
    with pytest.raises(StorageFailed, match=r"log\.db-wal: Is a directory"):
        Storage(folder, OWNER)


def test_that_nothing_is_synced_is_on_the_disk_before_it_is_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark stands in the database itself, put there while every commit still waited for the disk."""
    waits: list[int] = []
    attempt = module._File._attempt

    def watched(file: module._File, work: Callable[[], object]) -> None:
        waits.extend(level for (level,) in file.rows("PRAGMA synchronous"))
        attempt(file, work)

    monkeypatch.setattr(module._File, "_attempt", watched)
    log = module.LogFile(folder / "log.db", OWNER, "memory")
    assert waits == [2, 2, 2]
    log.append([(1, b"record")])
    assert waits[3:] == [0]
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'log.db'}?immutable=1", uri=True)) as base:
        assert base.execute("SELECT value FROM about WHERE name = 'unsynced'").fetchone() == (module.boot_id(),)
    log.close()


def test_memory_durability_survives_the_process_but_not_the_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Storage(folder, OWNER, "memory")
    store.append([(1, b"a")])
    store.close()
    store = Storage(folder, OWNER, "memory")
    assert store.load() == [b"a"]
    store.close()
    monkeypatch.setattr(module, "boot_id", lambda: "another boot")
    with pytest.raises(StorageFailed, match="must not vote"):
        Storage(folder, OWNER, "memory")
    with pytest.raises(StorageFailed, match="must not vote"):
        Storage(folder, OWNER)


# ------------------------------------------------------------------------------------------------------- checkpoints


def parts_on_disk(folder: Path) -> dict[int, int]:
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as base, base:
        found = dict(base.execute("SELECT part, save FROM part"))
    base.close()
    return found


def test_a_checkpoint_writes_only_what_changed(folder: Path) -> None:
    store = Storage(folder, OWNER)
    store.save(Snapshot(5, {0: b"root", 1: b"one", 2: b"two"}))
    store.save(Snapshot(9, {0: b"root2", 1: b"one", 3: b"three"}, b"e" * 32))
    assert store.saved_index == 9
    store.close()
    assert parts_on_disk(folder) == {0: 2, 1: 1, 2: 1, 3: 2}
    saved = Storage(folder, OWNER).load_state()
    assert saved is not None
    assert (saved.index, saved.digest) == (9, b"e" * 32)
    assert {0: b"root2", 1: b"one", 3: b"three"}.items() <= dict(saved.parts).items()


def test_the_first_checkpoint_after_a_start_drops_parts_that_are_no_more(folder: Path) -> None:
    store = Storage(folder, OWNER)
    store.save(Snapshot(5, {0: b"root", 1: b"one", 2: b"two"}))
    store.close()
    store = Storage(folder, OWNER)
    store.save(Snapshot(9, {0: b"root2", 1: b"one"}))
    store.close()
    assert parts_on_disk(folder) == {0: 2, 1: 1}


def test_parts_that_are_no_more_stay_bounded(folder: Path) -> None:
    store = Storage(folder, OWNER)
    for turn in range(50):
        store.save(Snapshot(turn, {turn * 10 + part: b"%d" % turn for part in range(10)}))
    store.close()
    assert len(parts_on_disk(folder)) <= 2 * 10 + 64 + 10


def test_a_save_that_did_not_end_leaves_the_old_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Snapshot):
        def parts(self, since: Snapshot | None = None) -> Iterator[tuple[int, bytes]]:
            yield 0, b"new root"
            yield 1, b"new leaf"
            raise InterruptedError

    monkeypatch.setattr(module, "SLICE_BYTES", 1)
    store = Storage(folder, OWNER)
    store.save(Snapshot(5, {0: b"root", 1: b"leaf"}))
    with pytest.raises(InterruptedError):
        store.save(Interrupted(9, {}))
    store.close()
    saved = Storage(folder, OWNER).load_state()
    assert saved is not None
    assert saved.index == 5
    assert list(saved.parts) == [(0, b"root"), (1, b"leaf")]


WRITER = """
import sys
from pathlib import Path
from replog.storage import Storage
store = Storage(Path(sys.argv[1]), "cluster c node 0")
number = len(store.load())
while True:
    store.append([(number, b"%d" % number)])
    print(number, flush=True)
    number += 1
"""


def test_what_was_reported_durable_survives_a_kill(folder: Path) -> None:
    reported = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(100):
            reported = int(process.stdout.readline())
        process.kill()
        process.communicate()
        store = Storage(folder, OWNER)
        records = store.load()
        assert records == [b"%d" % number for number in range(len(records))]
        assert len(records) > reported
        store.close()


# ------------------------------------------------------------------------------------------------------------ seals


def in_state(folder: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as base, base:
        base.execute(statement)
    base.close()


@pytest.fixture
def sealed(folder: Path) -> Path:
    store = Storage(folder, OWNER)
    store.save(Snapshot(3, {0: b"root", 1: b"leaf"}))
    store.close()
    return folder


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE mark SET at = 4 WHERE name = 'newest'",
        "UPDATE mark SET digest = zeroblob(32) WHERE name = 'newest'",
        "UPDATE mark SET at = 'three' WHERE name = 'newest'",
        "DELETE FROM mark WHERE name = 'newest'",
    ],
)
def test_a_mark_that_is_not_what_was_sealed_is_refused(sealed: Path, statement: str) -> None:
    """The index of a state is under no other hash: one more, and an entry would be passed over for ever."""
    in_state(sealed, statement)
    with pytest.raises(StorageFailed, match="mark of the newest checkpoint is missing or damaged"):
        Storage(sealed, OWNER)


def test_parts_that_are_missing_are_noticed_without_a_look_at_any_record(sealed: Path) -> None:
    in_state(sealed, "DELETE FROM part WHERE part = 1")
    saved = Storage(sealed, OWNER).load_state()
    assert saved is not None
    assert saved.sealed
    with pytest.raises(StorageFailed, match="parts of the checkpoint at 3 are missing"):
        list(saved.parts)


def test_files_of_an_earlier_version_have_no_seal_and_are_read(sealed: Path) -> None:
    in_state(sealed, "DELETE FROM mark WHERE name <> 'newest'")
    store = Storage(sealed, OWNER)
    saved = store.load_state()
    assert saved is not None
    assert not saved.sealed
    assert list(saved.parts) == [(0, b"root"), (1, b"leaf")]
    store.save(Snapshot(5, {0: b"new root", 1: b"leaf"}))
    store.close()
    saved = Storage(sealed, OWNER).load_state()
    assert saved is not None
    assert saved.sealed


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET hash = 'text' WHERE number = 8",
        "UPDATE log SET upto = 'one' WHERE number = 8",
        "UPDATE mark SET hash = 5 WHERE name = 'head'",
        "UPDATE mark SET hash = zeroblob(32) WHERE name = 'floor'",
        "UPDATE about SET value = x'00' WHERE name = 'begun'",
    ],
)
def test_what_is_of_another_type_is_damage(folder: Path, statement: str) -> None:
    fill(folder)
    change(folder, statement)
    with pytest.raises(StorageFailed):
        Storage(folder, OWNER)
