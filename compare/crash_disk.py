"""A disk in our hand below the real SQLite: what is written and what is flushed, and what is left when the power goes.

SQLite reaches its files through a layer of our own (a VFS, by apsw). Each write, flush, truncation and removal is a
boundary at which the power can be cut. What was flushed stays; of the rest all stays (a process was killed), none, or
some sectors of it in any order (the machine lost its power). A file that was made is there for sure once it was
flushed, one that was removed comes back unless its folder was. Sectors of 512 bytes are whole, as disks promise.

Here: the files. Not here: who writes them (`replog.storage`) and which boundary is tried when (`compare.crash_points`).
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import apsw

from replog.storage import Base

SECTOR: Final = 512
VFS_NAME: Final = "replog-platter"
Operation = Literal["write", "sync", "truncate", "delete"]
Moment = Literal["before", "during", "after"]
"""During: of a write a part is done, of anything else nothing."""
Loss = Literal["nothing", "unsynced", "some"]
"""What a cut takes of that which was not flushed."""
LOSSES: Final[tuple[Loss, ...]] = ("nothing", "unsynced", "some")


class PowerCut(Exception):
    """The disk is gone until it is `restored`."""


@dataclass(frozen=True)
class Boundary:
    """Of one file, by its name."""

    file: str
    operation: Operation
    moment: Moment

    def __str__(self) -> str:
        return f"{self.moment} {self.operation} of {self.file}"


@dataclass
class _Content:
    """`flushed` None: as far as the disk is concerned, the file does not exist. `pending`: what was done since."""

    flushed: bytes | None
    pending: list[Callable[[bytearray], None]]
    removed: bool = False


class Platter:
    """The files of one replica in one folder.

    Invariant: what SQLite reads is what the system would show it; `restore` alone takes anything away.
    """

    def __init__(self, folder: Path, chance: random.Random, wal_bytes: int, lies: bool = False) -> None:
        """`wal_bytes`: see `replog.storage`. `lies`: nothing is ever flushed, whatever SQLite asks for."""
        self.folder = folder
        self.base = Base(self._connect, wal_bytes)
        self.down = False
        self.room: int | None = None
        """Bytes that may yet be added to files; None: no end."""
        self.failing = False
        """Whether a flush fails from now on, as a disk that tells of it once."""
        self.seen: Counter[tuple[str, Operation]] = Counter()
        self._chance = chance
        self._lies = lies
        self._files: dict[str, _Content] = {}
        self._strike: Callable[[Boundary], bool] | None = None
        self._connections: list[_Connection] = []
        _vfs().platters[str(folder.resolve())] = self

    def strike_when(self, strike: Callable[[Boundary], bool] | None) -> None:
        """Cut the power at the first boundary of which `strike` says so."""
        self._strike = strike

    def _connect(self, path: Path, mode: str) -> _Connection:
        if self.down:
            raise PowerCut(str(path))
        self._connections.append(connection := _Connection(path, mode))
        return connection

    # ---------------------------------------------------------------------------------------- what SQLite does to files

    def opened(self, path: str) -> None:
        if path not in self._files:
            there = Path(path)
            self._files[path] = _Content(there.read_bytes() if there.exists() else None, [])
        self._files[path].removed = False

    def reach(self, path: str, operation: Operation, do: Callable[[], None], part: Callable[[], None]) -> None:
        """One operation, if the power lasts."""
        if self.down:
            raise PowerCut(path)
        name = Path(path).name
        self.seen[name, operation] += 1
        self._meet(Boundary(name, operation, "before"))
        try:
            self._meet(Boundary(name, operation, "during"))
        except PowerCut:
            part()
            raise
        do()
        self._meet(Boundary(name, operation, "after"))

    def _meet(self, boundary: Boundary) -> None:
        if self._strike is not None and self._strike(boundary):
            self.down, self._strike = True, None
            raise PowerCut(str(boundary))

    def changed(self, path: str, change: Callable[[bytearray], None]) -> None:
        self._files[path].pending.append(change)

    def take_room(self, path: str, end: int) -> None:
        """Raises apsw.FullError where a file would grow into room that is not there."""
        if self.room is None:
            return
        more = end - (Path(path).stat().st_size if Path(path).exists() else 0)
        if more > self.room:
            raise apsw.FullError("database or disk is full")
        self.room -= max(0, more)

    def flush(self, path: str) -> None:
        if self.failing:
            raise apsw.IOError("the flush failed")
        content = self._files[path]
        if not self._lies:
            content.flushed, content.pending = _after(content.flushed, content.pending), []

    def delete(self, path: str, for_sure: bool) -> None:
        content = self._files.get(path)
        if content is None:
            return
        if for_sure:
            del self._files[path]
        else:
            content.removed = True

    # ------------------------------------------------------------------------------------------------------- afterwards

    def restore(self, loss: Loss) -> None:
        """Power again: the files are what is left of them, and whoever had them open is gone."""
        self.down = True
        while self._connections:
            with contextlib.suppress(PowerCut, sqlite3.Error):
                self._connections.pop().close()
        if loss != "nothing":
            for path, content in self._files.items():
                self._leave(Path(path), self._left(content, loss))
            self._files.clear()
        self.down, self._strike = False, None

    def _left(self, content: _Content, loss: Loss) -> bytes | None:
        if content.removed and (loss == "unsynced" or self._chance.random() < 0.5):
            return None if content.flushed is None else _after(content.flushed, content.pending)
        if content.removed:
            return None
        if loss == "unsynced":
            return content.flushed
        if content.flushed is None and self._chance.random() < 0.5:
            return None
        return self._some(content)

    def _some(self, content: _Content) -> bytes:
        """Each sector of what was not flushed is old or new, whatever the order in which they were written."""
        old, new = content.flushed or b"", _after(content.flushed, content.pending)
        left = bytearray(old)
        share = self._chance.choice((0.1, 0.5, 0.9))
        if len(new) < len(old) and self._chance.random() < 0.5:
            del left[len(new) :]
        for start in range(0, len(new), SECTOR):
            sector = new[start : start + SECTOR]
            if sector != old[start : start + SECTOR] and self._chance.random() < share:
                left.extend(bytes(max(0, start + len(sector) - len(left))))
                left[start : start + len(sector)] = sector
        return bytes(left)

    @staticmethod
    def _leave(path: Path, data: bytes | None) -> None:
        if data is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(data)

    def part_of(self, data: bytes) -> bytes:
        """What of one write is done when the power goes in its midst: the first sectors."""
        return data[: SECTOR * self._chance.randrange(len(data) // SECTOR + 1)]


def _after(before: bytes | None, pending: Sequence[Callable[[bytearray], None]]) -> bytes:
    data = bytearray(before or b"")
    for change in pending:
        change(data)
    return bytes(data)


# ----------------------------------------------------------------------------------------------- SQLite's two layers


class _Vfs(apsw.VFS):
    """The system's own files, by way of the platter that their folder is on."""

    def __init__(self) -> None:
        super().__init__(VFS_NAME, "")
        self.platters: dict[str, Platter] = {}

    def xOpen(self, name: Any, flags: list[int]) -> _OpenFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        platter = self.platters[str(Path(path).parent.resolve())]
        platter.opened(path)
        return _OpenFile(platter, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        platter = self.platters[str(Path(filename).parent.resolve())]

        def do() -> None:
            super(_Vfs, self).xDelete(filename, syncdir)
            platter.delete(filename, bool(syncdir))

        platter.reach(filename, "delete", do, lambda: None)

    def excepthook(self, kind: Any, error: Any, where: Any) -> bool:
        """As of an open file."""
        return True


class _OpenFile(apsw.VFSFile):
    def __init__(self, platter: Platter, path: str, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._platter = platter
        self._path = path

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._platter.reach(
            self._path,
            "write",
            lambda: self._write(data, offset),
            lambda: self._write(self._platter.part_of(data), offset),
        )

    def _write(self, data: bytes, offset: int) -> None:
        self._platter.take_room(self._path, offset + len(data))
        super().xWrite(data, offset)

        def change(content: bytearray) -> None:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data

        self._platter.changed(self._path, change)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._platter.reach(self._path, "truncate", lambda: self._truncate(newsize), lambda: None)

    def _truncate(self, size: int) -> None:
        super().xTruncate(size)

        def change(content: bytearray) -> None:
            del content[size:]

        self._platter.changed(self._path, change)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._platter.reach(self._path, "sync", lambda: self._platter.flush(self._path), lambda: None)

    def excepthook(self, kind: Any, error: Any, where: Any) -> bool:
        """What SQLite passes over at a close is no news where the power is cut."""
        return True


_VFS: list[_Vfs] = []


def _vfs() -> _Vfs:
    """There is one a process, since SQLite knows it by name."""
    if not _VFS:
        _VFS.append(_Vfs())
    return _VFS[0]


class _Rows(list[Any]):
    def fetchall(self) -> list[Any]:
        return self


class _Connection:
    """apsw's connection with the words and errors of the standard library's. A power cut comes out as it is."""

    def __init__(self, path: Path, mode: str) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        address = f"{path.absolute().as_uri()}?mode={mode}"
        self._base = self._told(lambda: apsw.Connection(address, flags=flags, vfs=VFS_NAME))

    def execute(self, statement: str) -> _Rows:
        rows: _Rows = self._told(lambda: _Rows(self._base.execute(statement)))
        return rows

    def executemany(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._told(lambda: _Rows(self._base.executemany(statement, rows)))

    def executescript(self, statements: str) -> None:
        self.execute(statements)

    def close(self) -> None:
        self._told(lambda: self._base.close(True))

    @staticmethod
    def _told(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except apsw.Error as error:
            told = sqlite3.OperationalError(str(error))
            told.sqlite_errorcode = sqlite3.SQLITE_FULL if isinstance(error, apsw.FullError) else sqlite3.SQLITE_ERROR
            raise told from None
