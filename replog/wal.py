"""Telling a torn tail of SQLite's write-ahead file from damage in the middle, before SQLite opens it.

SQLite recovers a write-ahead file up to its first frame that does not check, and drops the rest without a word; a bit
flipped in the middle looks to it like the end. But each frame holds the running checksum after it, so a frame checks
against its predecessor's stored checksum even when an earlier one is damaged. A commit is synced before the next frame
is written: a sound frame behind a commit that is itself behind the damage proves that promised data is lost
(HAZARDS X2, X12). Inside the very last commit one flipped bit is told by its frame: there is one bit that, set right,
makes the checksum right, while all the rest of the commit is there. Not told apart: more
damage than that inside the very last commit, and a file cut where a commit ends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
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
    DAMAGED = "damaged"  # commits are lost that were acknowledged, or may have been


class _Frame(NamedTuple):
    ours: bool  # of the present round, by its salts
    commits: bool
    sound: bool  # checks against its predecessor's stored checksum
    flipped: bool = False  # one bit of it set right would make it sound, and ours


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
    salts, size, whole = data[16:24], FRAME_HEADER_BYTES + page_bytes, True
    for start in range(HEADER_BYTES, len(data), size):
        salt = data[start + 8 : start + 16]
        ours = salt == salts[: len(salt)]
        if start + size > len(data):
            yield _Frame(ours, commits=False, sound=False)
            return
        stored = struct.unpack_from(">II", data, start + 16)
        summed = data[start : start + 8] + data[start + FRAME_HEADER_BYTES : start + size]
        found = _checksum(order, total, summed)
        sound = ours and found == stored
        mended = _mended(order, summed, found, stored, _bits(salt, salts)) if whole and not sound else None
        whole = whole and sound
        commits = (mended or summed)[4:8] != bytes(4)
        flipped = mended is not None
        yield _Frame(ours or flipped, (ours or flipped) and commits, sound, flipped)
        total = stored


def _bits(one: bytes, other: bytes) -> int:
    """In how many bits they differ."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


def _mended(order: str, summed: bytes, found: tuple[int, int], stored: tuple[int, int], salt_bits: int) -> bytes | None:
    """What is summed, if one bit, of it, of the sum or of the salts, makes the difference to a sound frame of ours."""
    if salt_bits:
        return summed if salt_bits == 1 and found == stored else None
    if (found[0] ^ stored[0]).bit_count() + (found[1] ^ stored[1]).bit_count() == 1:
        return summed
    form = f"{order}{len(summed) // 4}I"
    words = list(struct.unpack(form, summed))
    place, bit = _odd_bit(words, found, stored)
    words[place] ^= bit
    return struct.pack(form, *words) if bit else None


def _odd_bit(words: Sequence[int], found: tuple[int, int], stored: tuple[int, int]) -> tuple[int, int]:
    """The word, and the bit in it, that was flipped; bit 0 if it is none. The sum is linear: what a bit adds to it
    depends on its place alone, and is found from the last pair of words to the first."""
    wanted = (stored[0] - found[0]) & MASK, (stored[1] - found[1]) & MASK
    first, second = (1, 1), (0, 1)  # what 1 more in the first and in the second word of a pair adds to the two sums
    for pair in range(len(words) - 2, -1, -2):
        for place, (low, high) in ((pair, first), (pair + 1, second)):
            for bit in (1 << number for number in range(32)):
                step = -bit if words[place] & bit else bit
                if (step * low & MASK, step * high & MASK) == wanted:
                    return place, bit
        first, second = _one_pair_on(first), _one_pair_on(second)
    return 0, 0


def _one_pair_on(adds: tuple[int, int]) -> tuple[int, int]:
    return (adds[0] + adds[1]) & MASK, (adds[0] + 2 * adds[1]) & MASK


def _judge(frames: list[_Frame]) -> Tail:
    bad = next((place for place, frame in enumerate(frames) if not frame.sound), len(frames))
    commit_behind = False
    if bad < len(frames) and frames[bad].flipped and _ends(frames[bad:]):
        return Tail.DAMAGED
    for frame in frames[bad:]:
        if commit_behind and frame.sound:
            return Tail.DAMAGED
        commit_behind = commit_behind or frame.commits
    whole = max((place for place, frame in enumerate(frames[:bad]) if frame.commits), default=-1) + 1
    return Tail.TORN if whole < len(frames) and frames[whole].ours else Tail.WHOLE


def _ends(frames: list[_Frame]) -> bool:
    """Whether the commit that the first of these belongs to is there up to its end. The head of a frame is written
    before its page: of a write that did not end, an older version of the page may be one bit apart."""
    for place, frame in enumerate(frames):
        if place and not frame.sound:
            return False
        if frame.commits:
            return True
    return False


def _checksum(order: str, start: tuple[int, int], data: bytes) -> tuple[int, int]:
    first, second = start
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for low, high in zip(words, words, strict=True):
        first = (first + low + second) & MASK
        second = (second + high + first) & MASK
    return first, second
