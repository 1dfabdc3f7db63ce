"""What a process tells its parent, and what it prints: kept apart.

The parent reads lines of JSON on the standard output that it gave. An application may print whatever it likes, such a
line too: that goes into the diagnostics, line by line, under the name `replog.app`.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

LINE_MAX = 4096
"""A longer line is cut into several."""
FLUSH_S = 1.0
"""How long the end waits for what was printed last; a child of the application may hold the pipe for ever."""

log = logging.getLogger("replog.app")


class Parent:
    """The standard output that this process was started with. What the application starts does not inherit it."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")

    def tell(self, line: dict[str, Any]) -> None:
        """A parent that has gone away hears nothing."""
        with contextlib.suppress(OSError):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


@contextlib.contextmanager
def parent() -> Iterator[Parent]:
    """Whom to tell; until the end, what is printed goes to the log. For a process that has set up its logging."""
    told = Parent()
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(writing)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    reader = threading.Thread(target=_log_lines, args=(reading,), daemon=True)
    reader.start()
    try:
        yield told
    finally:
        sys.stdout.flush()
        os.dup2(2, 1)  # the last writer is gone: the reader comes to the end
        reader.join(FLUSH_S)


def _log_lines(descriptor: int) -> None:
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as lines:
        while line := lines.readline(LINE_MAX):
            log.info("%s", line.rstrip("\n"))
