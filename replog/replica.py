"""A core and an application behind the same plug as the core alone.

Carries out what a core asks of the application (Apply, Query, Checkpoint, parts of state) and feeds the answers back;
answers clients' questions about this replica's own log and status. What it returns is for the world outside. Effects
that were carried out here are returned too, for traces; the worlds pass them by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from replog.core import (
    Applied,
    Apply,
    Audit,
    Audited,
    Checkpoint,
    Checkpointed,
    Confirm,
    Core,
    Effect,
    Event,
    Note,
    Part,
    Queried,
    Query,
    ReadPart,
    Received,
    Reply,
    Restore,
    Rollback,
    Save,
    SaveState,
    Trim,
    Wanted,
    WritePart,
)
from replog.executor import Executor
from replog.types import LogEntry, LogReply, LogRequest, Micros, Status, StatusReply, StatusRequest, encode_status

LOG_REPLY_BYTES_MAX = 4 * 1024 * 1024
LOG_KEEP_BYTES = 64 * 1024 * 1024
"""Requests that a journal keeps, whatever their number."""


class Journal:
    """Committed entries that this replica can still show: consecutive, the newest last, bounded in number and bytes.

    Invariant: entries are those of indices first .. last without a gap; at most `keep`, and of `keep_bytes` of requests
    or one alone.
    """

    def __init__(self, index: int, keep: int, keep_bytes: int = LOG_KEEP_BYTES) -> None:
        self._entries: deque[LogEntry] = deque()
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._bytes = 0
        self.last = index

    @property
    def first(self) -> int:
        return self.last - len(self._entries) + 1

    def append(self, entry: LogEntry) -> None:
        self._entries.append(entry)
        self.last = entry.index
        self._bytes += _size(entry)
        while len(self._entries) > self._keep or (self._bytes > self._keep_bytes and len(self._entries) > 1):
            self._bytes -= _size(self._entries.popleft())

    def reset(self, index: int) -> None:
        """The state jumped to `index` (fetched, or rolled back): entries up to it that are still held stay only when
        the journal reaches back from exactly there."""
        while self._entries and self.last > index:
            self._bytes -= _size(self._entries.pop())
            self.last -= 1
        if self.last != index:
            self._entries.clear()
            self._bytes = 0
            self.last = index

    def read(self, first: int, count: int) -> list[LogEntry]:
        """Up to `count` entries from `first` on, within the size of one reply; [] if `first` is not held."""
        if not self.first <= first <= self.last:
            return []
        start = first - self.first
        entries: list[LogEntry] = []
        size = 0
        for offset in range(start, min(start + count, len(self._entries))):
            entry = self._entries[offset]
            size += _size(entry)
            if entries and size > LOG_REPLY_BYTES_MAX:
                break
            entries.append(entry)
        return entries


def _size(entry: LogEntry) -> int:
    return sum(map(len, entry.requests))


class Replica:
    """Invariant: the executor has applied exactly what the core's Apply effects (or a restored state) say."""

    def __init__(self, core: Core, executor: Executor, log_keep: int = 10_000) -> None:
        """`log_keep`: number of newest log entries that clients can read back."""
        self.core = core
        self.executor = executor
        self.journal = Journal(executor.index, log_keep)
        self._tentative: Applied | None = None
        self._carry_out: dict[type[Any], Callable[[Any], list[Any]]] = {
            Apply: self._apply,
            Confirm: self._confirm,
            Query: self._query,
            Checkpoint: self._checkpoint,
            Audit: self._audit,
            SaveState: self._save,
            ReadPart: self._read_part,
            Restore: self._restore,
            WritePart: self._write_part,
            Rollback: self._rollback,
            Trim: self._trim,
        }

    def step(self, now: Micros, event: Event) -> list[Effect]:
        """One event, and all that follows from it at once. New effects go behind the old ones: splicing them in would
        let a reply pass an older Persist."""
        if type(event) is Received and type(event.message) in _QUESTIONS:
            return self._own_word(event)
        effects = self.core.step(now, event)
        for effect in effects:  # and for those that are added meanwhile
            carry_out = self._carry_out.get(type(effect))
            if carry_out is not None:
                for answer in carry_out(effect):
                    if type(answer) in _OUTWARD:
                        effects.append(answer)
                    else:
                        effects.extend(self.core.step(now, answer))
        return effects

    def status(self) -> Status:
        return self.core.status()

    def check_invariants(self) -> None:
        self.core.check_invariants()
        self.executor.check_invariants()

    # ------------------------------------------------------------------------------------------- for the application

    def _apply(self, effect: Apply) -> list[Any]:
        of = effect.index, effect.requests, effect.time, effect.next_seed
        results = self.executor.apply(*of, effect.concludes)
        if effect.tentative:
            self._tentative = Applied(effect.index, results)
            return [Applied(effect.index, results, True)]
        self._note(effect)
        return [Applied(effect.index, results)]

    def _confirm(self, effect: Confirm) -> list[Any]:
        applied, self._tentative = self._tentative, None
        if applied is None or applied.index != effect.index:
            raise RuntimeError(f"index {effect.index} was not applied tentatively")
        self._note(effect)
        return [applied]

    def _note(self, effect: Apply | Confirm) -> None:
        """It is in the log now, for whoever asks."""
        self.journal.append(LogEntry(effect.index, effect.time, [request.raw for request in effect.requests]))

    def _query(self, effect: Query) -> list[Any]:
        return [Queried(effect.token, self.executor.query(effect.requests))]

    def _checkpoint(self, effect: Checkpoint) -> list[Any]:
        digest = self.executor.checkpoint(effect.index)
        return [self._saved(effect.index, digest), Checkpointed(effect.index, digest)]

    def _audit(self, effect: Audit) -> list[Any]:
        parts = self.executor.audit()
        return [Audited(self.executor.index, self.executor.digest(), parts)]

    def _read_part(self, effect: ReadPart) -> list[Any]:
        data, following = self.executor.read_part(effect.index, effect.part, effect.hint)
        return [Part(effect.index, effect.part, data, following, effect.token)]

    def _restore(self, effect: Restore) -> list[Any]:
        return self._restored(self.executor.restore(effect.index, effect.digest))

    def _write_part(self, effect: WritePart) -> list[Any]:
        return self._restored(self.executor.write_part(effect.index, effect.part, effect.data))

    def _restored(self, answer: Wanted | Checkpointed) -> list[Any]:
        if isinstance(answer, Wanted):
            return [answer]
        self._tentative = None
        self.journal.reset(answer.index)
        return [self._saved(answer.index, answer.digest), answer]

    def _rollback(self, effect: Rollback) -> list[Any]:
        self._tentative = None
        self.executor.rollback(effect.index)
        self.journal.reset(effect.index)
        return []

    def _trim(self, effect: Trim) -> list[Any]:
        self.executor.drop_below(effect.upto)
        return []

    def _save(self, effect: SaveState) -> list[Any]:
        return [Save(self.executor.snapshot(effect.index))]

    @staticmethod
    def _saved(index: int, digest: bytes) -> Note:
        return Note("checkpoint", {"index": index, "digest": digest.hex()})

    # ----------------------------------------------------------------------------------------------- its own word

    def _own_word(self, event: Received) -> list[Effect]:
        message = event.message
        if isinstance(event.sender, int):
            return [Note("nonsense", {"sender": event.sender, "rule": "only clients ask for log and status"})]
        if type(message) is StatusRequest:
            return [Reply(event.sender, StatusReply(message.token, encode_status(self.status())))]
        assert type(message) is LogRequest
        entries = self.journal.read(message.first, message.count)
        return [Reply(event.sender, LogReply(message.token, self.journal.first, self.journal.last, entries))]


_QUESTIONS: Final = frozenset({LogRequest, StatusRequest})
_OUTWARD: Final = frozenset({Note, Save})
