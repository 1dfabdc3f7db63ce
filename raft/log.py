"""The log of one server, and how it comes back from disk. [Raft 5.3, 7]

Here: entries by index, what matches what, cutting at either end, the configurations among them. Not here: who may do
which of it and when (`raft.core`), nor what has been committed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from raft.configuration import Configuration
from raft.messages import Entries, Entry, HardState, LogStart
from replog.core import Stored
from replog.types import NOBODY, NodeId, Request

ENTRY_OVERHEAD: Final = 32
"""Bytes counted for an entry beside its requests."""


class Log:
    """Entries start_index + 1 .. last_index; of the one at start_index only the term is known.

    Invariants:
      terms never fall from one entry to the next, start_term included          [Raft 5.3]
      configuration is that of the last entry that has one, else the start's    [Raft 6]
    """

    def __init__(self, start: LogStart) -> None:
        self.restart(start)

    def restart(self, start: LogStart) -> None:
        """Forget every entry: the log begins after `start`. [Raft fig. 13, rule 7]"""
        self.start_index = start.index
        self.start_term = start.term
        self._entries: list[Entry] = []
        self._ends: list[int] = []  # running total of bytes, to and with each entry
        self._bytes_before = 0
        self._configurations: list[tuple[int, Configuration]] = [(start.index, start.configuration)]
        self._parsed: dict[int, Sequence[Request]] = {}

    # ----------------------------------------------------------------------------------------------------- looking

    @property
    def last_index(self) -> int:
        return self.start_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.start_term

    @property
    def size(self) -> int:
        """Bytes of all entries held."""
        return self._ends[-1] - self._bytes_before if self._ends else 0

    @property
    def configuration(self) -> Configuration:
        """The latest, committed or not. [Raft 6]"""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        """Where the latest configuration is, or the log's start that stands for it."""
        return self._configurations[-1][0]

    def configuration_at(self, index: int) -> Configuration:
        """The one in force after `index`, which is at or beyond start_index."""
        return next(configuration for at, configuration in reversed(self._configurations) if at <= index)

    def committed_configuration(self, committed: int) -> tuple[int, Configuration]:
        """The latest at or before `committed`, which is at or beyond start_index, and where it is."""
        return next(one for one in reversed(self._configurations) if one[0] <= committed)

    def votes_since(self, index: int, node: NodeId) -> bool:
        """Whether `node` votes in the configuration in force after `index`, or in one of those that follow."""
        latest = (configuration for at, configuration in self._configurations if at > index)
        return self.configuration_at(index).votes(node) or any(configuration.votes(node) for configuration in latest)

    def entry(self, index: int) -> Entry:
        """start_index < index <= last_index."""
        return self._entries[index - self.start_index - 1]

    def term(self, index: int) -> int:
        """start_index <= index <= last_index."""
        return self.start_term if index == self.start_index else self.entry(index).term

    def holds(self, index: int) -> bool:
        """Whether the term at `index` is known."""
        return self.start_index <= index <= self.last_index

    def matches(self, index: int, term: int) -> bool:
        """Whether the entry at `index` is there and of this term. [Raft fig. 2, AppendEntries 2]"""
        return self.holds(index) and self.term(index) == term

    def up_to_date(self, last_log_index: int, last_log_term: int) -> bool:
        """Whether a log that ends so is at least as up-to-date as this one. [Raft 5.4.1]"""
        return (last_log_term, last_log_index) >= (self.last_term, self.last_index)

    def bytes_between(self, after: int, upto: int) -> int:
        """Bytes of the held entries with after < index <= upto."""
        return self._end(upto) - self._end(after)

    def _end(self, index: int) -> int:
        return self._bytes_before if index <= self.start_index else self._ends[index - self.start_index - 1]

    def slice(self, first: int, count_max: int, bytes_max: int) -> list[Entry]:
        """Entries from `first` (> start_index) on: within both limits, yet at least one if there is one."""
        begin = first - self.start_index - 1
        end = bisect_right(self._ends, self._end(first - 1) + bytes_max, begin)
        return self._entries[begin : min(max(end, begin + 1), begin + count_max)]

    def first_index_of_term_at(self, index: int) -> int:
        """The first held index with the term that `index` has; beyond the start if possible. [Raft 5.3]"""
        term = self.term(index)
        return self.start_index + 1 + bisect_left(self._entries, term, key=_term_of)

    def last_index_of_term(self, term: int, upto: int) -> int | None:
        """The last index <= `upto` whose entry has this term, None if there is none."""
        upto = min(upto, self.last_index)
        index = self.start_index + bisect_right(self._entries, term, 0, max(upto - self.start_index, 0), key=_term_of)
        return index if index <= upto and self.matches(index, term) else None

    def first_new(self, prev_log_index: int, entries: Sequence[Entry]) -> int | None:
        """Position of the first of `entries` that this log lacks or contradicts, None if it has them all.

        Only from there on may anything be deleted: what an older message repeats is left alone (HAZARDS R9).
        """
        for position, entry in enumerate(entries):
            if not self.matches(prev_log_index + 1 + position, entry.term):
                return position
        return None

    def requests(self, index: int) -> Sequence[Request]:
        """The requests of an entry, read once: the caller applies them."""
        parsed = self._parsed.pop(index, None)
        return parsed if parsed is not None else [Request(raw) for raw in self.entry(index).requests]

    # ---------------------------------------------------------------------------------------------------- changing

    def append(self, entry: Entry, requests: Sequence[Request] | None = None) -> int:
        """Put `entry` (and its requests, if they have been read already) at the end; its index."""
        size = sum(map(len, entry.requests)) + ENTRY_OVERHEAD
        self._entries.append(entry)
        self._ends.append((self._ends[-1] if self._ends else self._bytes_before) + size)
        index = self.last_index
        if requests is not None:
            self._parsed[index] = requests
        if entry.configuration is not None:
            self._configurations.append((index, entry.configuration))
        return index

    def cut(self, first: int) -> None:
        """Delete the entry at `first` (> start_index) and all that follow it. [Raft fig. 2, AppendEntries 3]"""
        for index in range(first, self.last_index + 1):
            self._parsed.pop(index, None)
        del self._entries[first - self.start_index - 1 :]
        del self._ends[first - self.start_index - 1 :]
        # What remains is in force again, however often it was replaced (HAZARDS R18).
        while self._configurations[-1][0] >= first:
            self._configurations.pop()

    def discard_before(self, upto: int) -> LogStart:
        """Forget entries up to and with `upto`, which is held; what the log begins after now."""
        start = LogStart(upto, self.term(upto), self.configuration_at(upto))
        count = upto - self.start_index
        self._bytes_before = self._end(upto)
        del self._entries[:count]
        del self._ends[:count]
        self.start_index, self.start_term = upto, start.term
        self._parsed = {index: parsed for index, parsed in self._parsed.items() if index > upto}
        later = [(index, configuration) for index, configuration in self._configurations if index > upto]
        self._configurations = [(upto, start.configuration), *later]
        return start

    def install(self, start: LogStart) -> None:
        """The state is now that of a snapshot: keep what follows it only if this log has its last entry. [Raft 7]"""
        if self.matches(start.index, start.term):
            self.discard_before(start.index)
        else:
            self.restart(start)

    def replay(self, record: Entries) -> None:
        """What a record did when it was written: the log up to its first entry, then its entries, then nothing.

        A record without its place in this log (a gap, or another term before it) followed on entries that a snapshot
        has replaced, or on a snapshot that never reached the disk: nobody was told of it.
        """
        first, entries = record.first, record.entries
        skipped = self.start_index - first + 1
        if skipped > 0:
            first, entries = self.start_index + 1, entries[skipped:]
            fits = len(record.entries) < skipped or record.entries[skipped - 1].term == self.start_term
        else:
            fits = self.matches(first - 1, record.prev_term)
        if fits:
            self.cut(first)
            for entry in entries:
                self.append(entry)

    def check_invariants(self) -> None:
        terms = [self.start_term, *map(_term_of, self._entries)]
        assert terms == sorted(terms), f"terms never fall: {terms}"
        assert len(self._entries) == len(self._ends), "every entry has its size"
        places = [(self.start_index + 1 + at, entry) for at, entry in enumerate(self._entries)]
        listed = [(index, entry.configuration) for index, entry in places if entry.configuration is not None]
        assert self._configurations[1:] == listed, "the configurations are those of the entries"
        assert all(self.holds(index) for index in self._parsed), "requests are kept for held entries only"


def _term_of(entry: Entry) -> int:
    return entry.term


def recover(stored: Stored, genesis: Configuration, log_class: type[Log] = Log) -> tuple[HardState, Log]:
    """Term, vote and log from the records of a disk. `genesis` is in force before index 1.

    Raises ValueError if the saved application state is ahead of the log: such a disk is not one that this protocol
    leaves behind, and it cannot be told what the state holds.
    """
    hard, start = HardState(0, NOBODY), LogStart(0, 0, genesis)
    for record in stored.records:
        if isinstance(record, LogStart) and start.index <= record.index <= stored.index:
            start = record
        elif isinstance(record, HardState):
            hard = record
    log = log_class(start)
    for record in stored.records:
        if isinstance(record, Entries):
            log.replay(record)
    if log.last_index < stored.index:
        raise ValueError(f"the saved state is at index {stored.index}, but the log on disk ends at {log.last_index}")
    return hard, log
