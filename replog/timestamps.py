"""Which timestamps a client's lives have used: none is given to a second request, whatever the clock does. (P32)

Timestamps begin at the time of day, in microseconds, so that they grow over lives even where the folder is lost. The
clock alone is not enough: it may be set back. So what a life may use is noted before it is used, some ahead, and a life
begins beyond what was noted; at its end it notes what it has used. The note is on the disk before anything leaves. A
life that only asks how things are uses none and notes nothing: it does not need a disk with room on it.

Here: the file. Not here: who may use it, one life at a time (`replog.live.locks`), the window (`replog.client`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Final

from replog.errors import ConfigError

AHEAD: Final = 2**20
"""So many timestamps are noted at a time: a life that is killed leaves a gap of a second at most."""
DIGITS_MAX: Final = 17
"""Of a timestamp that was noted: the present has 16, and a message has room for 18."""


class Timestamps:
    """Those of one life, in the order of use. Invariant: what was taken is at or below what is noted on the disk."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError for a file that holds no timestamp."""
        self._path = folder / "timestamp"
        self.first = max(time.time_ns() // 1000, self._noted() + 1)
        """The first of this life."""
        self._last = self.first - 1
        self._reserved = self._last

    def take(self) -> None:
        """One more is used from now on. Raises OSError if that cannot be noted: then it must not be used."""
        if self._last + 1 > self._reserved:
            self._note(self._last + AHEAD)
        self._last += 1

    def end(self) -> None:
        """The life is over: the next one may go on from here, unless this cannot be noted."""
        if self._last < self.first:
            return
        with contextlib.suppress(OSError):
            self._note(self._last)

    def _noted(self) -> int:
        text = self._path.read_text(errors="replace").strip() if self._path.is_file() else ""
        if text and not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
            rule = f"must be a number of at most {DIGITS_MAX} digits, microseconds since 1970; remove the file"
            raise ConfigError(f"{self._path}: {text[:40]!r}: {rule}")
        return int(text or 0)

    def _note(self, timestamp: int) -> None:
        """In one step: whoever reads finds the old number or the new one."""
        new = self._path.with_name(f".timestamp-{secrets.token_hex(4)}")
        try:
            with new.open("xb") as file:
                file.write(str(timestamp).encode())
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
            _sync(self._path.parent)
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
        self._reserved = timestamp


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
