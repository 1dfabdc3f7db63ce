"""What a replica keeps on its disk: two SQLite files in its folder, write-ahead, synchronous=FULL.

    log.db     what the protocol promised; a row is one barrier group of records, chained by hash to the row before it
    state.db   the application's newest checkpoint, in parts; only parts that changed are written again

Both are made once, by `Storage.create`; opening never makes them, so a lost file is an error and no empty start
(HAZARDS X3). So is a lost write-ahead file, see `_File`. With durability "memory" nothing waits for the disk, with
"periodic" it is flushed now and then: a crash of the process loses nothing, one of the machine may, and then the
replica refuses to start, since it no longer knows what it promised.

Not here: what records and parts mean (the protocol's codec, `replog.executor`), when to write (`replog.live.node`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import sqlite3
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from replog import wal
from replog.codec import DIGEST_BYTES, digest_of
from replog.errors import ReplogError
from replog.types import Digest

FORMAT = "replog-storage/1"
SLICE_BYTES = 1024 * 1024
"""Parts of a checkpoint are committed in slices of about this size."""
WAL_BYTES = 4 * 1024 * 1024
"""After about this much the write-ahead file is copied into its database and begun anew."""
PAGE_BYTES = 4096
RISKS = {
    "always": "",
    "periodic": "a machine that loses its power may take with it what was acknowledged in the last fifth of a second, "
    "and its replica does not come back",
    "memory": "a machine that loses its power may take acknowledged writes with it, and its replica does not come back",
}
"""What each kind of durability risks."""
PERIOD_S = 0.2
"""With durability "periodic" the disk is asked to keep what was written so often."""
LOST = (
    "a replica that lost its files must not start empty, for it no longer knows what it promised; put the file back, "
    "or go on without this replica"
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


class StorageFailed(ReplogError):
    """The disk failed, or the files are not this replica's. Whatever was not reported durable before is not."""


class DiskFull(StorageFailed):
    """There is no room. Nothing of it was done, all that was there before is, and it may be tried again later."""


class CorruptLog(StorageFailed):
    """What was promised is damaged: it must not be served, nor voted upon. `number`: the first record in doubt."""

    def __init__(self, path: Path, number: int, rule: str) -> None:
        super().__init__(f"{path}: record {number}: {rule}")
        self.number = number


class Snapshot(Protocol):
    """A checkpoint that can be read from another thread while execution goes on."""

    @property
    def index(self) -> int: ...

    @property
    def digest(self) -> Digest: ...

    def parts(self, since: Any = None) -> Iterator[tuple[int, bytes]]:
        """All parts, or those that are other than in `since`, a snapshot of the same kind, or not in it."""
        ...


@dataclass(frozen=True)
class Saved:
    """The checkpoint on disk. `parts` can be read once; some may be of older checkpoints and of no use any more.
    `sealed`: once they are read to the end without StorageFailed, they are those that were saved, all of them."""

    index: int
    digest: Digest
    parts: Iterator[tuple[int, bytes]]
    sealed: bool = False


class Connection(Protocol):
    """What is used of a `sqlite3.Connection`; whatever stands in its place raises sqlite3.Error too."""

    def execute(self, statement: str, /) -> Any: ...

    def executemany(self, statement: str, rows: Sequence[tuple[Any, ...]], /) -> Any: ...

    def executescript(self, statements: str, /) -> Any: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Base:
    """What stands below: SQLite on the system's files, or on a disk that a test has in its hand."""

    connect: Callable[[Path, str], Connection]
    """Path and mode, "rw" or "rwc"."""
    wal_bytes: int
    """As WAL_BYTES."""


class Storage:
    """The two files of one replica, opened by one process at a time."""

    def __init__(self, folder: Path, owner: str, durability: str = "always", base: Base | None = None) -> None:
        """Open them and check that they are whole and belong to `owner` (cluster and node). Raises StorageFailed."""
        self._folder = folder
        self.flushes = durability == "periodic"
        """Whether `flush` is wanted every PERIOD_S."""
        self._log = LogFile(folder / "log.db", owner, durability, base)
        try:
            self._state = StateFile(folder / "state.db", owner, durability, base)
            if self._state.index < self._log.floor:
                raise StorageFailed(
                    f"{folder}: the log was cut at a checkpoint of index {self._log.floor}, state.db holds an older one"
                )
        except StorageFailed:
            self._log.close()
            raise

    @staticmethod
    def create(folder: Path, owner: str) -> None:
        """Make both files in an existing folder. Raises StorageFailed if one is there."""
        for name, schema in (("log.db", LogFile.SCHEMA), ("state.db", StateFile.SCHEMA)):
            _create(folder / name, schema, owner)

    def load(self) -> list[bytes]:
        """The records found when the files were opened, in order, verified then. They are handed over once."""
        return self._log.load()

    def append(self, records: Sequence[tuple[int, bytes]]) -> None:
        """Commit (index, record) pairs; durable on return. Raises StorageFailed, and then for ever (HAZARDS X1); but
        DiskFull as long as there is no room."""
        self._log.append(records)

    @property
    def appended(self) -> int:
        """Number of the newest durable record; the first ever is 1."""
        return self._log.appended

    def trim(self, upto: int, newest: int) -> None:
        """Drop old records, see `LogFile.trim`. Raises StorageFailed if no checkpoint at or beyond `upto` is saved."""
        if self.saved_index < upto:
            raise StorageFailed(f"trim up to {upto}: the saved checkpoint is at {self.saved_index}")
        self._log.trim(upto, newest)

    def load_state(self) -> Saved | None:
        return self._state.load()

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint; durable on return. For a worker thread. Raises StorageFailed, or DiskFull, after which
        another one may be tried."""
        self._state.save(snapshot)

    @property
    def saved_index(self) -> int:
        """Index of the checkpoint on disk; -1 without one."""
        return self._state.index

    @property
    def torn(self) -> bool:
        """Whether the end of a write that was never acknowledged was cut off when the files were opened."""
        return self._log.torn

    def room(self) -> int:
        """Bytes that are free where the files are."""
        return shutil.disk_usage(self._folder).free

    def flush(self) -> None:
        """With durability "periodic": have the disk keep the records that were appended. Raises StorageFailed."""
        self._log.flush()

    def close(self) -> None:
        self._log.close()
        self._state.close()


class LogFile:
    """Records in order, in rows that were committed together.

    Row: number of its last record, greatest index in it, hash, records. Invariants:
      number(row) = number(row before) + count(records), the anchor standing before the first row
      hash(row) = H(hash(row before), number, upto, records)
      the head mark names the last row
    """

    SCHEMA = """
        CREATE TABLE log (number INTEGER PRIMARY KEY, upto INTEGER NOT NULL, hash BLOB NOT NULL, records BLOB NOT NULL);
        CREATE TABLE mark (name TEXT PRIMARY KEY, number INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
        INSERT INTO mark VALUES ('anchor', 0, zeroblob(32)), ('head', 0, zeroblob(32)), ('floor', -1, x'');
    """

    def __init__(self, path: Path, owner: str, durability: str, base: Base | None = None) -> None:
        self._path = path
        self.torn = _undamaged_tail(path) is wal.Tail.TORN
        self._file = _File(path, owner, durability, base)
        try:
            self._marks = {name: mark for name, *mark in self._file.rows("SELECT name, number, hash FROM mark")}
            self._rows: deque[tuple[int, int, bytes]] = deque()
            self._head, self._hash = self._mark("anchor")
            self._records = self._read()
        except StorageFailed:
            self._file.close()
            raise

    def _mark(self, name: str) -> tuple[int, bytes]:
        mark = self._marks.get(name, ())
        if not _are(mark, int, bytes):
            raise CorruptLog(self._path, 0, f"the {name} mark is missing or damaged")
        number, hash_ = mark
        return number, hash_

    def _read(self) -> list[bytes]:
        records: list[bytes] = []
        for row in self._file.rows("SELECT number, upto, hash, records FROM log ORDER BY number"):
            number, upto, hash_, blob = row
            if not _are(row, int, int, bytes, bytes) or _chain(self._hash, number, upto, blob) != hash_:
                raise CorruptLog(self._path, self._head + 1, "missing or damaged: the chain of hashes breaks")
            group = _decode(blob)
            if number != self._head + len(group):
                raise CorruptLog(self._path, self._head + 1, f"{len(group)} records end at number {number}")
            records += group
            self._enter(number, upto, hash_)
        if self._mark("head") != (self._head, self._hash):
            raise CorruptLog(self._path, self._head + 1, "missing: the log ends before its head mark")
        if self._mark("floor")[1] not in (b"", _seal(self.floor)):
            raise CorruptLog(self._path, 0, "the floor mark is damaged")
        return records

    def load(self) -> list[bytes]:
        records, self._records = self._records, []
        return records

    @property
    def appended(self) -> int:
        return self._head

    @property
    def floor(self) -> int:
        """The index at which the log was last cut: a checkpoint at or beyond it must be held; -1 if it never was."""
        floor, _ = self._mark("floor")
        return floor

    def append(self, records: Sequence[tuple[int, bytes]]) -> None:
        """Commit (index, record) pairs as one row."""
        if not records:
            return
        number = self._head + len(records)
        upto = max(index for index, _ in records)
        blob = _encode([record for _, record in records])
        hash_ = _chain(self._hash, number, upto, blob)
        self._file.commit(
            ("INSERT INTO log VALUES (?, ?, ?, ?)", [(number, upto, hash_, blob)]),
            ("UPDATE mark SET number = ?, hash = ? WHERE name = 'head'", [(number, hash_)]),
        )
        self._enter(number, upto, hash_)

    def _enter(self, number: int, upto: int, hash_: bytes) -> None:
        self._rows.append((number, upto, hash_))
        self._head, self._hash = number, hash_

    def trim(self, upto: int, newest: int) -> None:
        """Drop the longest run of oldest rows in which every index is <= `upto` and every record's number <= `newest`.

        `newest` is the number of the last record that was listed before the Trim: what was promised after it stays,
        whatever its index.
        """
        cut = None
        while self._rows and self._rows[0][0] <= newest and self._rows[0][1] <= upto:
            cut = self._rows.popleft()
        if cut is None:
            return
        number, _, hash_ = cut
        self._file.commit(
            ("DELETE FROM log WHERE number <= ?", [(number,)]),
            (
                "UPDATE mark SET number = ?, hash = ? WHERE name = ?",
                [(number, hash_, "anchor"), (upto, _seal(upto), "floor")],
            ),
        )
        self._marks.update(anchor=[number, hash_], floor=[upto, _seal(upto)])

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _chain(before: bytes, number: int, upto: int, blob: bytes) -> bytes:
    state = hashlib.blake2b(before, digest_size=DIGEST_BYTES)
    state.update(struct.pack(">qq", number, upto))
    state.update(blob)
    return state.digest()


def _seal(*fields: int | bytes | None) -> bytes:
    """So that a mark, of which nothing else depends, is what was written."""
    return hashlib.blake2b(_encode(fields), digest_size=DIGEST_BYTES).digest()


def _sum(parts: Iterable[tuple[int, Digest]]) -> bytes:
    """Of the numbers and digests of parts, in order."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part, digest in sorted(parts):
        state.update(part.to_bytes(8, "big") + digest)
    return state.digest()


def _are(values: Sequence[Any], *kinds: type) -> bool:
    """SQLite keeps any type in any column, and a flipped bit may make one of another."""
    return [type(value) for value in values] == list(kinds)


class StateFile:
    """The newest checkpoint. A new one is written beside it and takes its place in the last commit, sealed.

    Rows of a save that never came to its end are those above the mark; they are dropped when the file is opened. A save
    writes what differs from the one before. Parts that are no more stay until they are as many as the others; then all
    parts are looked at and these are dropped.
    """

    SCHEMA = """
        CREATE TABLE part (part INTEGER, save INTEGER, digest BLOB, data BLOB, PRIMARY KEY (part, save));
        CREATE TABLE mark (name TEXT PRIMARY KEY, save INTEGER, at INTEGER, digest BLOB) WITHOUT ROWID;
        INSERT INTO mark VALUES ('newest', 0, -1, x'');
    """

    def __init__(self, path: Path, owner: str, durability: str, base: Base | None = None) -> None:
        self._path = path
        _undamaged_tail(path)
        self._file = _File(path, owner, durability, base)
        self._newest: Snapshot | None = None
        self._all_looked_at = 0
        self._unfinished = False
        self._sealed: bytes | None = None
        try:
            self._save, self.index, self._digest = self._mark()
            self._drop_unfinished()
            self._known: dict[int, Digest] = dict(self._file.rows("SELECT part, digest FROM part"))
        except StorageFailed:
            self._file.close()
            raise

    def _mark(self) -> tuple[int, int, Digest]:
        marks = {name: mark for name, *mark in self._file.rows("SELECT name, save, at, digest FROM mark")}
        newest, seal, parts = marks.get("newest", ()), marks.get("seal"), marks.get("parts")
        self._sealed = None if parts is None else parts[-1]
        if not _are(newest, int, int, bytes) or (seal is not None and seal[-1] != _seal(*newest, self._sealed)):
            raise StorageFailed(f"{self._path}: the mark of the newest checkpoint is missing or damaged")
        save, index, digest = newest
        return save, index, digest

    def _drop_unfinished(self) -> None:
        self._file.commit(("DELETE FROM part WHERE save > ?", [(self._save,)]))
        self._unfinished = False

    def load(self) -> Saved | None:
        if self.index < 0:
            return None
        return Saved(self.index, self._digest, self._parts(), self._sealed is not None)

    def _parts(self) -> Iterator[tuple[int, bytes]]:
        found: list[tuple[int, Digest]] = []
        for row in self._file.rows("SELECT part, digest, data FROM part ORDER BY part"):
            part, digest, data = row
            if not _are(row, int, bytes, bytes) or digest_of(data) != digest:
                raise StorageFailed(f"{self._path}: part {part} of the checkpoint at {self.index} is damaged")
            found.append((part, digest))
            yield part, data
        if self._sealed not in (None, _sum(found)):
            raise StorageFailed(f"{self._path}: parts of the checkpoint at {self.index} are missing or of another one")

    def save(self, snapshot: Snapshot) -> None:
        if self._unfinished:
            self._drop_unfinished()
        self._unfinished = True
        save, newest = self._save + 1, self._newest
        if len(self._known) > 2 * self._all_looked_at + 64:
            newest = None
        written, seen = self._write(save, snapshot.parts(newest) if newest is not None else snapshot.parts())
        gone = self._known.keys() - seen if newest is None else set()
        outdated = [(part, save) for part in sorted(self._known.keys() & written.keys() | gone)]
        known = {part: digest for part, digest in {**self._known, **written}.items() if part not in gone}
        parts = _sum(known.items())
        self._file.commit(
            ("DELETE FROM part WHERE part = ? AND save < ?", outdated),
            (
                "INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?)",
                [
                    ("newest", save, snapshot.index, snapshot.digest),
                    ("parts", 0, 0, parts),
                    ("seal", 0, 0, _seal(save, snapshot.index, snapshot.digest, parts)),
                ],
            ),
        )
        self._unfinished, self._known, self._sealed = False, known, parts
        if newest is None:
            self._all_looked_at = len(self._known)
        self._save, self.index, self._digest, self._newest = save, snapshot.index, snapshot.digest, snapshot

    def _write(self, save: int, parts: Iterator[tuple[int, bytes]]) -> tuple[dict[int, Digest], set[int]]:
        """Commit, slice by slice, the parts that are not on disk as they are; (those, all)."""
        written: dict[int, Digest] = {}
        seen: set[int] = set()
        rows: list[tuple[int, int, Digest, bytes]] = []
        size = 0
        for part, data in parts:
            seen.add(part)
            digest = digest_of(data)
            if self._known.get(part) == digest:
                continue
            written[part] = digest
            rows.append((part, save, digest, data))
            size += len(data)
            if size >= SLICE_BYTES:
                self._file.commit((self._INSERT, rows))
                rows, size = [], 0
        if rows:
            self._file.commit((self._INSERT, rows))
        return written, seen

    _INSERT = "INSERT INTO part VALUES (?, ?, ?, ?)"

    def close(self) -> None:
        self._file.close()


def _undamaged_tail(path: Path) -> wal.Tail:
    """Look at the write-ahead file while it is as the crash left it: SQLite cuts it when it opens the file."""
    try:
        tail = wal.inspect(_wal_of(path))
    except OSError as error:
        raise StorageFailed(f"{error.filename or _wal_of(path)}: {error.strerror or error}") from None
    if tail is wal.Tail.DAMAGED:
        raise CorruptLog(path, 0, "the write-ahead file is damaged, not torn; what was acknowledged is lost with it")
    return tail


def _wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


class _File:
    """One SQLite file, one transaction at a time. After a failed commit every later one fails (HAZARDS X1).

    Two marks tell a lost write-ahead file from an empty one (HAZARDS X3). `begun` counts the checkpoints that were
    begun, `ended` those that ended; each checkpoint copies a `begun` that is one ahead into the database, and only then
    is `ended` committed, to the new write-ahead file. So whenever anything was committed that only the write-ahead file
    holds, the database alone says begun > ended. Whoever closes the file, or copies it with SQLite's own tools, brings
    `ended` over with the rest.
    """

    ABOUT = "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"

    def __init__(self, path: Path, owner: str, durability: str, base: Base | None = None) -> None:
        base = base or Base(_connect, WAL_BYTES)
        self._path = path
        self._wal_bytes = base.wal_bytes
        self._failed: str | None = None
        self._written = 0
        self._begun = 0
        self._lock = threading.Lock()
        if not path.is_file():
            raise StorageFailed(f"{path}: is missing; {LOST}")
        if path.stat().st_size == 0:
            raise StorageFailed(f"{path}: is empty; {LOST}")
        self._base = base.connect(path, "rw")
        try:
            without_wal = not wal.holds_frames(_wal_of(path), PAGE_BYTES)
            self._open()
            self._look_through()
            about = dict(self.rows("SELECT name, value FROM about"))
            self._check(about, owner)
            self._begun = int(about.get("begun", 0))
            if without_wal and self._begun != int(about.get("ended", 0)):
                raise CorruptLog(path, 0, f"{_wal_of(path).name} is lost, and with it what was acknowledged last")
            self._promise(durability)
        except (StorageFailed, ValueError) as error:
            self._base.close()
            raise error if isinstance(error, StorageFailed) else StorageFailed(f"{path}: {error}") from None

    def _open(self) -> None:
        try:
            self._base.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.execute("PRAGMA wal_autocheckpoint=0")
            self._base.executescript("BEGIN EXCLUSIVE; COMMIT;")
        except sqlite3.Error as error:
            hint = "; another process has it open" if "locked" in str(error) else ""
            raise StorageFailed(f"{self._path}: {error}{hint}") from None

    def _look_through(self) -> None:
        """Every page is used once, and what it says of itself is right: else a later write may land on another's."""
        for (said,) in self.rows("PRAGMA quick_check(1)"):
            if said != "ok":
                raise CorruptLog(self._path, 0, f"damaged: {' '.join(str(said).split()):.200}")
        if list(self.rows("PRAGMA journal_mode")) != [("wal",)]:
            raise CorruptLog(self._path, 0, "damaged: it is no file with a write-ahead file any more")

    def _check(self, about: dict[str, str], owner: str) -> None:
        if not all(type(value) is str for value in about.values()):
            raise CorruptLog(self._path, 0, "damaged: what it says of itself is no text")
        if about.get("format") != FORMAT:
            raise StorageFailed(f"{self._path}: format {about.get('format')!r}, this version reads {FORMAT!r}")
        if about.get("owner") != owner:
            raise StorageFailed(f"{self._path}: belongs to {about.get('owner')}, not to {owner}")
        if about.get("unsynced") not in ("", boot_id()):
            raise StorageFailed(
                f"{self._path}: durability was not always and the machine was started anew since; this replica no "
                f"longer knows what it promised and must not vote"
            )

    def _promise(self, durability: str) -> None:
        """Note whether what is held may be lost with the machine: before anything goes unsynced, and after all is."""
        if durability == "always":
            self.checkpoint(after={"unsynced": ""})
            return
        self.checkpoint(before={"unsynced": boot_id()})
        list(self.rows(f"PRAGMA synchronous={'NORMAL' if durability == 'periodic' else 'OFF'}"))

    def flush(self) -> None:
        """Have the disk keep what was committed without waiting for it. Raises StorageFailed, and then for ever."""
        self._attempt(self._flush)

    def _flush(self) -> None:
        with _wal_of(self._path).open("rb") as file:
            os.fsync(file.fileno())

    def checkpoint(self, before: dict[str, str] | None = None, after: dict[str, str] | None = None) -> None:
        """Copy the write-ahead file into the database and begin it anew, `about` being set on either side of that.

        SQLite leaves the copied file as it is until the next commit, which then begins it anew; so at no moment is
        there nothing behind a `begun` that is ahead. Raises StorageFailed.
        """
        self._written = 0
        self._begun += 1
        self._set(begun=str(self._begun), **(before or {}))
        with self._lock:
            self._attempt(lambda: self._base.execute("PRAGMA wal_checkpoint(FULL)").fetchall())
        self._set(ended=str(self._begun), **(after or {}))

    def _set(self, **about: str) -> None:
        """With something that never was there: so no two versions of the page are one bit apart (`replog.wal`)."""
        about["nonce"] = secrets.token_hex(8)
        self._commit([("INSERT OR REPLACE INTO about VALUES (?, ?)", list(about.items()))])

    def rows(self, statement: str) -> Iterator[Any]:
        """Rows of a query, read as they are asked for. Raises StorageFailed."""
        try:
            yield from self._base.execute(statement)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise StorageFailed(f"{self._path}: {error}") from None

    def commit(self, *statements: tuple[str, Sequence[tuple[Any, ...]]]) -> None:
        """One transaction of (statement, rows of values); durable on return. Raises StorageFailed."""
        self._commit(statements)
        self._written += 4 * PAGE_BYTES + sum(_size(row) for _, rows in statements for row in rows)
        if self._written > self._wal_bytes:
            with contextlib.suppress(DiskFull):  # the commit is done, and the write-ahead file has room for it
                self.checkpoint()

    def _commit(self, statements: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        with self._lock:
            self._attempt(lambda: self._transact(statements))

    def _transact(self, statements: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        self._base.execute("BEGIN IMMEDIATE")
        for statement, rows in statements:
            self._base.executemany(statement, rows)
        self._base.execute("COMMIT")

    def _attempt(self, work: Callable[[], Any]) -> None:
        if self._failed is not None:
            raise StorageFailed(f"{self._path}: refused after an earlier failure: {self._failed}")
        try:
            work()
        except (sqlite3.Error, OSError) as error:
            if _is_full(error) and self._undo():
                raise DiskFull(f"{self._path}: {error}") from None
            self._failed = str(error)
            raise StorageFailed(f"{self._path}: {error}") from None

    def _undo(self) -> bool:
        """Whether nothing is left of a transaction for which there was no room."""
        try:
            self._base.execute("ROLLBACK")
        except sqlite3.Error as error:
            return "no transaction is active" in str(error)
        return True

    def close(self) -> None:
        with self._lock:
            self._base.close()


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _size(row: tuple[Any, ...]) -> int:
    return sum(len(value) for value in row if type(value) is bytes)


def _create(path: Path, schema: str, owner: str) -> None:
    if path.exists():
        raise StorageFailed(f"{path}: exists already")
    try:
        with contextlib.closing(_connect(path, "rwc")) as base:
            base.execute(f"PRAGMA page_size={PAGE_BYTES}")
            base.execute("PRAGMA journal_mode=WAL")
            base.executescript(f"BEGIN; {_File.ABOUT} {schema} COMMIT;")
            about = [("format", FORMAT), ("owner", owner), ("unsynced", ""), ("begun", "0"), ("ended", "0")]
            base.executemany("INSERT INTO about VALUES (?, ?)", about)
    except sqlite3.Error as error:
        raise StorageFailed(f"{path}: {error}") from None


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=0.5)
    except sqlite3.Error as error:
        raise StorageFailed(f"{path}: {error}") from None


def boot_id() -> str:
    """A name of this run of the machine; "unknown" where there is none, which then never counts as the same run."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"unknown-{secrets.token_hex(8)}"
