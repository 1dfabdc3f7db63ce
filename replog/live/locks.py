"""One process at a time per folder: a locked file that tells who holds it, and is free when that process has ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

FILE = "pid"
PATIENCE_S = 0.3
"""A look at the lock holds it for an instant; whoever wants it tries this long."""


class Held(Exception):
    """Another process holds the lock. `pid`: which, 0 if it has not said so yet."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"{path.parent}: is in use by process {pid}")
        self.pid = pid


class FolderLock:
    """Held from construction to `release`."""

    def __init__(self, folder: Path, patience_s: float = PATIENCE_S, file: str = FILE) -> None:
        """Raises Held if another holds it all of `patience_s`."""
        path = folder / file
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        begin = time.monotonic()
        while not _try(self._descriptor):
            if time.monotonic() >= begin + patience_s:
                pid = _pid(self._descriptor)
                os.close(self._descriptor)
                raise Held(path, pid)
            time.sleep(0.01)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)


def holder(folder: Path) -> int | None:
    """The process that holds this folder's lock, None if nobody does. Raises PermissionError for another user's."""
    try:
        descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return None
    try:
        return None if _try(descriptor) else _pid(descriptor)
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _pid(descriptor: int) -> int:
    text = os.pread(descriptor, 20, 0)
    return int(text) if text.isdigit() else 0
