"""Telling a torn tail of SQLite's write-ahead file from damage in the middle, before SQLite opens it.

SQLite recovers a write-ahead file up to its first frame that does not check, and drops the rest without a word; a bit
flipped in the middle looks to it like the end. But each frame holds the running checksum after it, so a frame checks
against its predecessor's stored checksum even when an earlier one is damaged. A commit is synced before the next frame
is written: a sound frame behind a commit that is itself behind the damage proves that promised data is lost
(HAZARDS X2, X12). Not told apart: damage inside the very last commit of the file, and a file cut where a commit ends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
MAGIC = 0x377F0682  # the lowest bit tells the byte order of the checksums: 0 little, 1 big
MASK = 0xFFFFFFFF


class Tail(Enum):
    WHOLE = "whole"  # every committed frame checks
    TORN = "torn"  # something that is no whole commit stands behind the last one
    DAMAGED = "damaged"  # acknowledged commits are lost


class _Frame(NamedTuple):
    ours: bool  # of the present round, by its salts
    commits: bool
    sound: bool  # checks against its predecessor's stored checksum


def inspect(path: Path) -> Tail:
    """What the write-ahead file at `path` holds; a missing or empty one is whole."""
    data = path.read_bytes() if path.exists() else b""
    if len(data) < HEADER_BYTES:
        return Tail.WHOLE if not data else Tail.TORN
    magic, _, page_bytes = struct.unpack_from(">III", data)
    order = ">" if magic & 1 else "<"
    header_sum = _checksum(order, (0, 0), data[:24])
    if magic & ~1 != MAGIC or header_sum != struct.unpack_from(">II", data, 24):
        return Tail.DAMAGED if _has_frames(data) else Tail.TORN
    return _judge(list(_frames(data, order, page_bytes, header_sum)))


def _has_frames(data: bytes) -> bool:
    """The header is written and synced before any frame: a bad header with anything behind it is damage."""
    return len(data) > HEADER_BYTES and any(data[HEADER_BYTES:])


def holds_frames(path: Path, page_bytes: int) -> bool:
    """Whether there is at least one frame, sound or not: once a commit was made, there always is."""
    return path.exists() and path.stat().st_size >= HEADER_BYTES + FRAME_HEADER_BYTES + page_bytes


def _frames(data: bytes, order: str, page_bytes: int, total: tuple[int, int]) -> Iterator[_Frame]:
    """Frames with their salts: those of another round were left behind by a reset of the file. The last may be cut."""
    salts, size = data[16:24], FRAME_HEADER_BYTES + page_bytes
    for start in range(HEADER_BYTES, len(data), size):
        salt = data[start + 8 : start + 16]
        ours = salt == salts[: len(salt)]
        if start + size > len(data):
            yield _Frame(ours, commits=False, sound=False)
            return
        stored = struct.unpack_from(">II", data, start + 16)
        page = data[start + FRAME_HEADER_BYTES : start + size]
        sound = ours and _checksum(order, total, data[start : start + 8] + page) == stored
        yield _Frame(ours, commits=ours and data[start + 4 : start + 8] != bytes(4), sound=sound)
        total = stored


def _judge(frames: list[_Frame]) -> Tail:
    bad = next((place for place, frame in enumerate(frames) if not frame.sound), len(frames))
    commit_behind = False
    for frame in frames[bad:]:
        if commit_behind and frame.sound:
            return Tail.DAMAGED
        commit_behind = commit_behind or frame.commits
    whole = max((place for place, frame in enumerate(frames[:bad]) if frame.commits), default=-1) + 1
    return Tail.TORN if whole < len(frames) and frames[whole].ours else Tail.WHOLE


def _checksum(order: str, start: tuple[int, int], data: bytes) -> tuple[int, int]:
    first, second = start
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for low, high in zip(words, words, strict=True):
        first = (first + low + second) & MASK
        second = (second + high + first) & MASK
    return first, second
