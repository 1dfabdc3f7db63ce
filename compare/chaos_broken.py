"""Replicas that are broken on purpose, to see that chaos convicts them: `python -m compare.chaos --broken NAME`.

Each is a wrap for the process of a replica of a laboratory. What is broken is not the core but what it stands on, which
only real processes show when they are killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from replog.replica import Replica
from replog.storage import Storage
from replog.types import NodeId

LATE_S: Final = 0.5


def without_barrier(_: NodeId, replica: Replica) -> Replica:
    """What the store calls durable is on disk half a second later, in its order: whatever was promised meanwhile is
    forgotten by a replica that is killed."""
    append, trim, close = Storage.append, Storage.trim, Storage.close
    held: list[tuple[int, bytes]] = []
    since = time.monotonic()

    def write(store: Storage) -> None:
        records, held[:] = list(held), []
        append(store, records)

    def late_append(store: Storage, records: Sequence[tuple[int, bytes]]) -> None:
        nonlocal since
        if not held:
            since = time.monotonic()
        held.extend(records)
        if time.monotonic() - since > LATE_S:
            write(store)

    def late(then: Callable[..., None]) -> Callable[..., None]:
        def after_writing(store: Storage, *more: Any) -> None:
            write(store)
            then(store, *more)

        return after_writing

    for name, function in (("append", late_append), ("trim", late(trim)), ("close", late(close))):
        setattr(Storage, name, function)  # of this process alone
    return replica


BROKEN: Final[Mapping[str, str]] = {"without-barrier": "compare.chaos_broken:without_barrier"}
"""By name, as a wrap."""
