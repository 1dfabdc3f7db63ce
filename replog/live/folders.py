"""Folders for a while, with clusters and their keys in them."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Removed at the end, whenever Ctrl-C comes: also while it is made, when `tempfile` does not know of it yet, and
    while it is removed."""
    path = Path(tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(16)}"
    try:
        path.mkdir(mode=0o700)
        yield path
    finally:
        try:
            _remove(path)
        except KeyboardInterrupt:
            _remove(path)
            raise


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
