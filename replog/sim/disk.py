"""The simulated disk of one replica: what is durable survives a crash, all else does not.

Here: encoded records in order, one saved checkpoint, how long writing takes, and how a disk may fail. Not here: who
waits for a write (`replog.outbox`, `replog.sim.node`), nor what a replica does whose disk has failed: it stops (X1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from replog.sim.network import Constant, Delay
from replog.sim.world import World

Record = tuple[int, bytes]
"""Log index and encoded record."""


Failure = Literal["", "full", "failing", "torn"]
"""Of every write from now on. full: nothing of it is written. failing: it is reported failed, and may be there all the
same. torn: the power goes while it is being written, and a part of it is there."""

_SYNC = Constant(55)
_SAVE = Constant(5_000)


@dataclass(frozen=True)
class DiskModel:
    """Times of one disk; the core's part of a write is in the cost model."""

    sync: Delay = _SYNC
    """A transaction, until it is durable."""
    byte_ns: float = 1.0
    save: Delay = _SAVE
    """Writing a checkpoint in the background."""
    survives: float = 0.0
    """Chance that a transaction under way at a crash reached the disk after all; never a part of it."""

    def __post_init__(self) -> None:
        if not 0 <= self.survives <= 1:
            raise ValueError(f"disk model: survives is {self.survives}; a chance is between 0 and 1")


class Disk:
    """Invariants:
    records are in the order in which they were written, and only a prefix is ever dropped
    nothing is dropped by `trim(upto)` before a checkpoint at or beyond `upto` is saved
    """

    def __init__(self, world: World, name: str, model: DiskModel) -> None:
        self._world = world
        self._model = model
        self._chance = world.stream(f"disk/{name}")
        self._sync = model.sync.sampler(world.stream(f"disk/{name}/sync"))
        self._save = model.save.sampler(world.stream(f"disk/{name}/save"))
        self.records: list[Record] = []
        self.saved: Any = None  # replog.executor.Snapshot: a copy-on-write handle, read when it is loaded
        self.syncs = 0
        self.saves = 0
        self.bytes = 0
        self.slow_us = 0
        """Every write takes this much longer."""
        self.failure: Failure = ""
        self.on_failed: Callable[[], None] = lambda: None
        """Told when a write has failed."""
        self.failures = 0
        self._whole: dict[int, Record] = {}  # place -> the record as it was before a bit of it was changed
        self._writing: tuple[list[Record], Callable[[int], None]] | None = None
        self._saving: Any = None
        self._next_save: Any = None
        self._on_saved: Callable[[int], None] = lambda _: None
        self._trim = 0
        self._plugged = 0

    # ---------------------------------------------------------------------------------------------------- records

    @property
    def writing(self) -> bool:
        return self._writing is not None

    def write(self, records: list[Record], done: Callable[[int], None]) -> None:
        """One transaction; `done(number of records)` when it is durable. One at a time."""
        size = sum(len(raw) for _, raw in records)
        self.bytes += size
        self._writing = (records, done)
        delay = self._sync() + self.slow_us + int(size * self._model.byte_ns / 1000)
        self._world.at(self._world.now + delay, self._written, self._plugged)

    def _written(self, plugged: int) -> None:
        if plugged != self._plugged or self._writing is None:
            return
        records, done = self._writing
        self._writing = None
        if self.failure:
            self._fail(records)
            return
        self.records += records
        self.syncs += 1
        done(len(records))

    def _fail(self, records: list[Record]) -> None:
        """A failed write is never reported as done, and never tried again (HAZARDS X1)."""
        if self.failure == "torn":
            self.records += records[: self._chance.randrange(len(records))]
        elif self.failure == "failing" and self._chance.random() < 0.5:
            self.records += records
        self.failures += 1
        self.on_failed()

    # ------------------------------------------------------------------------------------------------- checkpoints

    def save(self, snapshot: Any, done: Callable[[int], None]) -> None:
        """Write a checkpoint in the background; `done(index)` when it is durable.

        While one is being written the newest waits; one that a newer one passed by is never reported.
        """
        self._on_saved = done
        if self._saving is not None:
            self._next_save = snapshot
            return
        self._saving = snapshot
        self._world.at(self._world.now + self._save() + self.slow_us, self._is_saved, self._plugged)

    def _is_saved(self, plugged: int) -> None:
        if plugged != self._plugged:
            return
        self.saved, self._saving = self._saving, None
        self.saves += 1
        self._cut_prefix()
        self._on_saved(self.saved.index)
        if self._next_save is not None:
            following, self._next_save = self._next_save, None
            self.save(following, self._on_saved)

    def trim(self, upto: int) -> None:
        """Drop the longest run of oldest records with index <= upto, once a checkpoint covers them."""
        self._trim = max(self._trim, upto)
        self._cut_prefix()

    def _cut_prefix(self) -> None:
        if self._trim and self.saved is not None and self.saved.index >= self._trim:
            upto, self._trim = self._trim, 0
            gone = sum(1 for _ in takewhile(lambda record: record[0] <= upto, self.records))
            del self.records[:gone]
            self._whole = {place - gone: record for place, record in self._whole.items() if place >= gone}

    # ------------------------------------------------------------------------------------------------------ faults

    def crash(self) -> None:
        """What is not durable is gone; `survives` decides about a transaction under way."""
        if self._writing is not None and self._model.survives and self._chance.random() < self._model.survives:
            self.records += self._writing[0]
        self._plugged += 1
        self._writing = self._saving = self._next_save = None
        self._trim = 0

    def wipe(self) -> None:
        """Amnesia: the disk is replaced by an empty one."""
        self.crash()
        self.records, self.saved, self._whole = [], None, {}

    def flip(self) -> bool:
        """Change one bit of a record that is durable. Whether there was one."""
        if not self.records:
            return False
        place = self._chance.randrange(len(self.records))
        index, raw = self._whole.setdefault(place, self.records[place])
        changed, bit = bytearray(raw), self._chance.randrange(8 * len(raw))
        changed[bit // 8] ^= 1 << bit % 8
        self.records[place] = (index, bytes(changed))
        return True

    @property
    def damaged(self) -> bool:
        """What the hashes of the real store tell when it is opened (HAZARDS X2, X12)."""
        return bool(self._whole)

    def mend(self) -> None:
        """What was changed is as it was."""
        for place, record in self._whole.items():
            self.records[place] = record
        self._whole = {}
