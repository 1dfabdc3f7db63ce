"""A word to the process behind `replog up`, and its answer: how commands have its replicas do something.

The other end is `replog.cli.refreshing`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from replog.cli import running
from replog.errors import NoCluster, ReplogError


class NotDone(ReplogError):
    """What was asked for is not done; the text says why."""


def place(folder: Path) -> str:
    """Where the process behind `replog up` takes words. Raises NoCluster if there is none that does, or NotDone."""
    known = running.look(folder)
    if known is None:
        raise NoCluster(f"{folder}: its replicas run inside another program, which has to do that itself")
    if not known.get("serving"):
        raise NotDone(f"{folder}: the cluster is still starting; try again when replog status shows it in sync")
    where = known.get("words")
    if not where:
        raise NotDone(f"{folder}: replog up takes no words on this system")
    return str(where)


def asked(where: str, word: dict[str, Any], progress: Callable[[str], object]) -> dict[str, Any]:
    """Say the word and wait for its end. Raises NotDone."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.connect(where)
            link.sendall(json.dumps(word).encode() + b"\n")
            with link.makefile("rb") as answers:
                for answer in answers:
                    line = json.loads(answer)
                    if "done" in line:
                        return dict(line["done"])
                    if "error" in line:
                        raise NotDone(line["error"])
                    progress(line["progress"])
    except OSError as error:
        raise NotDone(f"the process behind replog up does not answer: {error.strerror or error}") from None
    raise NotDone("the cluster was stopped meanwhile")
