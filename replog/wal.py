"""Telling a torn tail of SQLite's write-ahead file from damage in the middle, before SQLite opens it.

SQLite recovers a write-ahead file up to its first frame that does not check, and drops the rest without a word; a bit
flipped in the middle looks to it like the end. But each frame holds the running checksum after it, so a frame checks
against its predecessor's stored checksum even when an earlier one is damaged. A commit is synced before the next frame
is written: a sound frame behind a commit that is itself behind the damage proves that promised data is lost
(HAZARDS X2, X12). Inside the very last commit one flipped bit is told by its frame: there is one bit that, set right,
makes the checksum right, and the end of a write has no such bit but by a chance of about 2^-48. Not told apart: more
damage than that inside the very last commit, and a file cut where a commit ends.
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
    salts, size, first_bad = data[16:24], FRAME_HEADER_BYTES + page_bytes, True
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
        flipped = first_bad and not sound and _is_flipped(order, summed, found, stored, _bits(salt, salts))
        first_bad = first_bad and sound
        yield _Frame(ours, ours and data[start + 4 : start + 8] != bytes(4), sound, flipped)
        total = stored


def _bits(one: bytes, other: bytes) -> int:
    """In how many bits they differ."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


def _is_flipped(order: str, summed: bytes, found: tuple[int, int], stored: tuple[int, int], salt_bits: int) -> bool:
    """Whether one bit, of what is summed, of the sum or of the salts, makes the difference to a sound frame of ours."""
    if found == stored:
        return salt_bits == 1
    if salt_bits:
        return False
    if (found[0] ^ stored[0]).bit_count() + (found[1] ^ stored[1]).bit_count() == 1:
        return True
    return _one_bit_apart(struct.unpack(f"{order}{len(summed) // 4}I", summed), found, stored)


def _one_bit_apart(words: tuple[int, ...], found: tuple[int, int], stored: tuple[int, int]) -> bool:
    """The sum is linear: a bit that is set in word i adds the same to it whatever stands beside, from the last pair of
    words to the first."""
    wanted = (stored[0] - found[0]) & MASK, (stored[1] - found[1]) & MASK
    adds = ((0, 1), (1, 1))  # what 1 more in the second and in the first word of a pair adds to the two sums
    for place in range(len(words) - 1, -1, -1):
        low, high = adds[(len(words) - 1 - place) % 2]
        for bit in range(32):
            step = -(1 << bit) if words[place] >> bit & 1 else 1 << bit
            if (step * low & MASK, step * high & MASK) == wanted:
                return True
        if place % 2 == 0:
            adds = tuple(((one + other) & MASK, (one + 2 * other) & MASK) for one, other in adds)  # type: ignore[assignment]
    return False


def _judge(frames: list[_Frame]) -> Tail:
    bad = next((place for place, frame in enumerate(frames) if not frame.sound), len(frames))
    commit_behind = False
    if bad < len(frames) and frames[bad].flipped:
        return Tail.DAMAGED
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
