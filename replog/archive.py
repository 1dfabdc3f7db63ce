"""A replica's archive: what it has seen proved, kept outside its log, so that a later inquiry finds it. [Sheng21]

Segments of records in a folder of the node, append-only, the oldest removed when there are too many bytes. Nothing in
the protocol rests on it: it is written without waiting for the disk, a crash may take its end, and a torn end ends the
segment. What is kept is the protocol's to say (its spec's `archived`). Format: docs/formats.md.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from replog.codec import FRAME_BYTES_MAX, digest_of
from replog.errors import ReplogError

FOLDER: Final = "archive"
FORMAT: Final = "replog-archive/1"
SEGMENTS: Final = 8
"""The bytes allowed are divided into so many files: what goes at a time is one of them."""
RECENT: Final = 4_096
"""Records remembered, so that what is written down again in the log is not archived again."""
_LENGTH: Final = 4


class BadArchive(ReplogError):
    """This is no archive that can be read; the text says why."""


class Archive:
    """Invariant: at most `bytes_max` bytes in at most SEGMENTS + 1 files, beside the last record."""

    def __init__(self, folder: Path, about: dict[str, Any], bytes_max: int) -> None:
        """`about`: protocol, cluster and node, for the head of each segment."""
        self._folder = folder
        self._head = json.dumps({"format": FORMAT, **about}, sort_keys=True).encode() + b"\n"
        self._segment_max = max(1, bytes_max // SEGMENTS)
        self._file: IO[bytes] | None = None
        self._size = 0
        self._recent: OrderedDict[bytes, None] = OrderedDict()

    def add(self, raw: bytes, *, flush: bool = False) -> None:
        """One record. Raises OSError."""
        digest = digest_of(raw)
        if digest in self._recent:
            return
        self._recent[digest] = None
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        if self._file is None or self._size >= self._segment_max:
            self._begin()
        if self._file is not None:
            self._size += self._file.write(len(raw).to_bytes(_LENGTH, "big") + raw)
            if flush:
                self._file.flush()

    def _begin(self) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        known = segments(self._folder)
        for old in known[: max(0, len(known) - SEGMENTS + 1)]:
            old.unlink()
        number = int(known[-1].stem) + 1 if known else 1
        self._file = (self._folder / f"{number:012}.log").open("xb")
        self._size = self._file.write(self._head)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def segments(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in folder.glob("*.log") if path.stem.isdecimal())


def cut_short(path: Path) -> list[Path]:
    """Segments of a folder, or one segment, whose end is torn: what stood behind it is not known. Raises OSError."""
    files = segments(path) if path.is_dir() else [path]
    return [file for file in files if not _is_whole(file.read_bytes().partition(b"\n")[2])]


def _is_whole(data: bytes) -> bool:
    return sum(_LENGTH + len(record) for record in _records(data)) == len(data)


def read(path: Path) -> tuple[dict[str, Any], list[bytes]]:
    """Head and records of a folder or of one segment. Raises BadArchive."""
    files = segments(path) if path.is_dir() else [path]
    if not files:
        raise BadArchive(f"{path}: holds no archive")
    heads, records = [], []
    for file in files:
        try:
            head, _, rest = file.read_bytes().partition(b"\n")
            about = json.loads(head)
        except (OSError, ValueError, RecursionError) as error:
            raise BadArchive(
                f"{file}: {getattr(error, 'strerror', None) or 'no archive: its first line is none'}"
            ) from None
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise BadArchive(f"{file}: no archive of format {FORMAT}")
        heads.append(about)
        records += list(_records(rest))
    if any(head != heads[0] for head in heads):
        raise BadArchive(f"{path}: its segments are of different nodes")
    return heads[0], records


def _records(data: bytes) -> Iterator[bytes]:
    """Up to the first that is cut short."""
    place = 0
    while place + _LENGTH <= len(data):
        size = int.from_bytes(data[place : place + _LENGTH], "big")
        place += _LENGTH
        if size > FRAME_BYTES_MAX or place + size > len(data):
            return
        yield data[place : place + size]
        place += size
