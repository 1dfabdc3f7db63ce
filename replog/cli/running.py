"""Which process runs the cluster of a folder, told to other commands by a file in it.

`DIR/running.json` holds what a command needs to know of the processes. Its owner, the process of `replog up`, keeps the
folder's lock, so a file left behind by a kill is known to be stale whatever its pids mean by now.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from replog.errors import ConfigError
from replog.live.locks import FILE as LOCK
from replog.live.locks import FolderLock, Held, holder

FILE = "running.json"
__all__ = ["FILE", "LOCK", "Claim", "any_process", "claim", "look"]


class Claim:
    """The right to run a cluster, held while the `with` block of `claim` lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tell(self, known: dict[str, Any]) -> None:
        """Replace what other commands are told; `pid`, of this process, is added."""
        path = self._folder / FILE
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"pid": os.getpid(), **known}) + "\n")
        new.replace(path)


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[Claim]:
    """Raises ConfigError if another process runs this cluster."""
    try:
        lock = FolderLock(folder)
    except Held as held:
        raise ConfigError(f"{folder}: this cluster runs already, pid {held.pid or 'unknown'}") from None
    try:
        yield Claim(folder)
    finally:
        (folder / FILE).unlink(missing_ok=True)
        lock.release()


def look(folder: Path) -> dict[str, Any] | None:
    """What the process that runs this cluster tells; None if none does. `serving` is false while it starts."""
    pid = holder(folder)
    if pid is None:
        return None
    known = _read(folder)
    nothing = {"pid": pid, "serving": False, "nodes": []}
    return {**nothing, **known} if known.get("pid") == pid else nothing


def any_process(folder: Path) -> bool:
    """Whether this cluster is run by a `replog up`, or any replica of it by something else on this machine."""
    places = [folder, *sorted(folder.glob("node-*"))]
    return any(holder(place) is not None for place in places)


def _read(folder: Path) -> dict[str, Any]:
    try:
        known = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
