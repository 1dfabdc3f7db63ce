"""The replicated log as a program sees it, the same for every protocol. Errors are in `replog.errors`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from replog.types import ClientId, Micros, NodeId, Status


@dataclass(frozen=True)
class Result:
    """What became of one operation.

    `value`: what the application answered. `index`, `position`: its place in the log (consensus instance, and the
    request's operation within the request); None for a read that replicas answered at once, without ordering it.
    `vouchers`: the replicas whose matching replies it rests on.
    """

    value: Any
    index: int | None
    position: int | None
    vouchers: tuple[NodeId, ...]


@dataclass(frozen=True)
class LoggedRequest:
    """A client's request as it stands in the log: operations are encoded `[method, *arguments]`."""

    client: ClientId
    timestamp: int
    operations: tuple[bytes, ...]


@dataclass(frozen=True)
class Entry:
    """One committed index; no requests for a null request or no-op. `time`: agreed, microseconds since 1970."""

    index: int
    time: Micros
    requests: tuple[LoggedRequest, ...]


@dataclass(frozen=True)
class Said:
    """What one replica says of itself: its own word, vouched for by nobody. None: no answer in time."""

    node: NodeId
    status: Status | None


class ReplicatedLog(Protocol):
    """What both protocols, and a third one, offer to a program."""

    async def submit(self, operation: bytes) -> Any:
        """Order and execute one operation; its value.

        Raises OperationFailed (the application refused it, the same on every replica), NotCommitted, Overloaded,
        RequestTooLarge (not executed and never will be), OutcomeUnknown (no answer in time).
        """
        ...

    async def read(self, query: bytes) -> Any:
        """Execute one query on the present state; linearizable, whether it is ordered or answered at once by a quorum.
        Raises as `submit`."""
        ...

    def log(self, from_index: int = 1, *, follow: bool = False) -> AsyncIterator[Entry]:
        """Committed entries from `from_index` on, up to the present end, or for ever with `follow`.

        Raises Compacted(first) where entries are no longer kept.
        """
        ...

    async def status(self) -> Sequence[Said]:
        """Every replica's own word, in order of node."""
        ...
