"""Logs and quorums of the model: values, made anew by each change. [Raft fig. 2, 5.3, 6, 7]"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from raft.configuration import Configuration
from raft.messages import Entries, Entry, HardState, LogStart
from replog.types import NOBODY, Message, NodeId


class Deviation(Exception):
    """A step that the model does not allow. `rule`: of which part of the figure, or of which stated extension."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"[{rule}] {what}")
        self.rule = rule


def require(holds: bool, rule: str, what: str) -> None:
    if not holds:
        raise Deviation(rule, what)


@dataclass(frozen=True)
class Log:
    """Entries after `start_index`; what is before it is in a snapshot whose last entry is of `start_term`."""

    configuration: Configuration
    """Of the snapshot, or the first one."""
    start_index: int = 0
    start_term: int = 0
    entries: tuple[Entry, ...] = ()

    @property
    def last_index(self) -> int:
        return self.start_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.start_term

    def term(self, index: int) -> int | None:
        """None: not in the log."""
        if index == self.start_index:
            return self.start_term
        return self.entries[index - self.start_index - 1].term if self.holds(index) else None

    def holds(self, index: int) -> bool:
        return self.start_index < index <= self.last_index

    def entry(self, index: int) -> Entry:
        return self.entries[index - self.start_index - 1]

    def after(self, index: int, count: int) -> tuple[Entry, ...]:
        place = index - self.start_index
        return self.entries[place : place + count]

    def up_to(self, index: int) -> Log:
        return Log(self.configuration, self.start_index, self.start_term, self.entries[: index - self.start_index])

    def plus(self, entries: Sequence[Entry]) -> Log:
        return Log(self.configuration, self.start_index, self.start_term, (*self.entries, *entries))

    def first_of_term(self, term: int, upto: int) -> int | None:
        found = (index for index in range(self.start_index + 1, upto + 1) if self.term(index) == term)
        return next(found, None)

    @property
    def latest_configuration(self) -> Configuration:
        """It counts from when it is in the log, committed or not. [Raft 6]"""
        given = (entry.configuration for entry in reversed(self.entries) if entry.configuration is not None)
        return next(given, self.configuration)

    def is_behind(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as up-to-date as this one. [Raft 5.4.1]"""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def received(self, prev: int, entries: Sequence[Entry]) -> Log:
        """Rules 3 and 4 of the receiver of AppendEntries, once rule 2 is passed: a conflict deletes the entry and all
        that follow it, what is not there is appended. What the snapshot covers is committed and needs no look."""
        for place, entry in enumerate(entries):
            index = prev + 1 + place
            if index <= self.start_index or self.term(index) == entry.term:
                continue
            return self.up_to(index - 1).plus(entries[place:])
        return self

    def beginning_at(self, index: int, term: int, configuration: Configuration) -> Log:
        """Rules 6 and 7 of figure 13: what follows stays if the entry at `index` is the snapshot's, else nothing."""
        if self.start_index <= index <= self.last_index and self.term(index) == term:
            return Log(configuration, index, term, self.entries[index - self.start_index :])
        return Log(configuration, index, term)


def recovered(records: Sequence[Message], saved: int, configuration: Configuration) -> tuple[HardState, Log]:
    """What a disk holds. A beginning counts once the state up to it is there; entries that do not fit onto the log
    before them are of one that was given up."""
    hard, log = HardState(0, NOBODY), Log(configuration)
    for record in records:
        if isinstance(record, HardState):
            hard = record
        elif isinstance(record, LogStart) and log.start_index <= record.index <= saved:
            log = Log(record.configuration, record.index, record.term)
    for record in records:
        if isinstance(record, Entries):
            log = _replayed(log, record)
    return hard, log


def _replayed(log: Log, record: Entries) -> Log:
    first, entries, before = record.first, record.entries, record.prev_term
    if first <= log.start_index:
        skipped = log.start_index - first + 1
        if len(entries) < skipped:
            return log
        before, entries, first = entries[skipped - 1].term, entries[skipped:], log.start_index + 1
    if first - 1 > log.last_index or log.term(first - 1) != before:
        return log
    return log.up_to(first - 1).plus(entries)


def groups(configuration: Configuration) -> Iterator[list[NodeId]]:
    """Each has to agree by a majority of its own. [Raft 6]"""
    yield configuration.voters
    if configuration.old_voters:
        yield configuration.old_voters


def is_majority(configuration: Configuration, nodes: Collection[NodeId]) -> bool:
    return all(2 * sum(node in nodes for node in group) > len(group) for group in groups(configuration))


def agreed(configuration: Configuration, reached: Mapping[NodeId, int]) -> int:
    """The highest number that a majority has reached."""
    return min(
        sorted((reached.get(node, -1) for node in group), reverse=True)[len(group) // 2]
        for group in groups(configuration)
    )


def others(configuration: Configuration, me: NodeId) -> set[NodeId]:
    return {*configuration.voters, *configuration.old_voters, *configuration.learners} - {me}
