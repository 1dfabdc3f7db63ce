"""The client table: what each client has executed, and the results it may still ask for.

Part of the replicated state, its digest and its transfer (HAZARDS P34, R22). Everything here is a function of what has
been applied. Not here: executing (`replog.executor`), who a client is (its signature is the core's business).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from replog.types import ClientId, Request

WINDOW: Final = 64
"""W: a session takes any timestamp in (low, low + W] that it has not executed."""
SESSION_BYTES_MAX: Final = 4 * 1024 * 1024
"""Results remembered for one client; beyond it its own oldest are forgotten."""

_PREFIX: Final = b"\x00"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, list[tuple[int, bytes]]]).decode
_decode_client = msgspec.msgpack.Decoder(str).decode
_FORGOTTEN: Final = b""


class Session:
    """Invariants:
    every timestamp in `results` is in (low, low + WINDOW] and has been executed, once       (HAZARDS P32, P33)
    size is the number of bytes in `results`, at most SESSION_BYTES_MAX after each request
    """

    __slots__ = ("low", "active", "results", "size")

    def __init__(self, low: int, active: int = 0) -> None:
        """`active`: the log index of its last request."""
        self.low = low
        self.active = active
        self.results: dict[int, bytes] = {}
        self.size = 0

    def raise_low(self, low: int) -> None:
        """The client has its answers up to `low`: forget them."""
        for timestamp in range(self.low + 1, min(low, self.low + WINDOW) + 1):
            self.size -= len(self.results.pop(timestamp, b""))
        self.low = low

    def remember(self, timestamp: int, results: bytes) -> None:
        self.results[timestamp] = results
        self.size += len(results)
        if self.size > SESSION_BYTES_MAX:
            for oldest in sorted(self.results):
                if self.size <= SESSION_BYTES_MAX:
                    break
                self.size -= len(self.results[oldest])
                self.results[oldest] = _FORGOTTEN

    def close(self) -> None:
        """Forget all results; what was executed stays executed."""
        self.low = max(self.results, default=self.low)
        self.results = {}
        self.size = 0


class SessionTable:
    """Sessions by client.

    Invariants:
      at most `clients_max` clients are known; a further one is not admitted
      at most `open_max` of them have results; the least recently active is closed first, ties by name
    """

    def __init__(self, open_max: int, clients_max: int) -> None:
        self._open_max = open_max
        self._clients_max = clients_max
        self._sessions: dict[ClientId, Session] = {}
        self._open: set[ClientId] = set()
        self._dirty: set[ClientId] = set()

    def results(self, client: ClientId, timestamp: int) -> bytes | None:
        session = self._sessions.get(client)
        return (session.results.get(timestamp) or None) if session is not None else None

    def admits(self, client: ClientId, timestamp: int, low: int | None = None) -> bool:
        """Whether a request with this `low` could execute now; without `low`, whether one with some `low` could."""
        session = self._sessions.get(client)
        if session is None:
            return len(self._sessions) < self._clients_max and (low is None or low < timestamp <= low + WINDOW)
        if timestamp <= session.low or timestamp in session.results:
            return False
        return low is None or max(low, session.low) < timestamp <= max(low, session.low) + WINDOW

    def enter(self, request: Request, index: int) -> Session | None:
        """The session in which `request` is to execute now; None if it has executed or is not admitted, and then
        nothing has changed."""
        client, timestamp, low = request.client, request.timestamp, request.low
        if not self.admits(client, timestamp, low):
            return None
        session = self._sessions.get(client)
        if session is None:
            session = self._sessions[client] = Session(low)
        elif low > session.low:
            session.raise_low(low)
        session.active = index
        self._open.add(client)
        self._dirty.add(client)
        return session

    def close_oldest(self) -> None:
        """After each index: close sessions until the bound holds, and an eighth more, so that it is seldom."""
        if len(self._open) <= self._open_max:
            return
        keep = self._open_max * 7 // 8
        oldest = sorted(self._open, key=lambda client: (self._sessions[client].active, client))
        for client in oldest[: len(oldest) - keep]:
            self._sessions[client].close()
            self._dirty.add(client)
            self._open.discard(client)

    # -------------------------------------------------------------------------------------------------------- records

    def take_changes(self) -> dict[bytes, bytes | None]:
        """The records written since the last call."""
        dirty, self._dirty = self._dirty, set()
        return {_PREFIX + _encode(client): self._dump(self._sessions[client]) for client in dirty}

    def take_all(self) -> dict[bytes, bytes]:
        """Every record, whatever was taken before."""
        self._dirty.clear()
        return {_PREFIX + _encode(client): self._dump(session) for client, session in self._sessions.items()}

    @staticmethod
    def _dump(session: Session) -> bytes:
        return _encode((session.low, session.active, sorted(session.results.items())))

    @staticmethod
    def owns(record: bytes) -> bool:
        return record[:1] == _PREFIX

    def prepare(self, records: Iterable[tuple[bytes, bytes | None]]) -> list[tuple[ClientId, Session | None]]:
        """Read records, changing nothing. Raises msgspec.MsgspecError."""
        return [(_decode_client(key[1:]), None if value is None else _session(value)) for key, value in records]

    def install(self, prepared: Iterable[tuple[ClientId, Session | None]]) -> None:
        for client, session in prepared:
            self._open.discard(client)
            if session is None:
                self._sessions.pop(client, None)
                continue
            self._sessions[client] = session
            if session.results:
                self._open.add(client)

    def check_invariants(self) -> None:
        assert len(self._sessions) <= self._clients_max, "at most clients_max clients are known"
        assert len(self._open) <= self._open_max, "at most open_max sessions are open"
        for client, session in self._sessions.items():
            assert all(session.low < t <= session.low + WINDOW for t in session.results), f"{client}: in the window"
            assert session.size == sum(map(len, session.results.values())), f"{client}: size of the results"
            assert (client in self._open) == bool(session.results), f"{client}: open while it has results"


def _session(value: bytes) -> Session:
    low, active, results = _decode(value)
    session = Session(low, active)
    session.results = dict(results)
    session.size = sum(len(data) for _, data in results)
    return session
