"""The simulator's disk with the real store in it: records and checkpoints go through `replog.storage` to real files.

Here: when the store is asked for what, as `replog.live.engine` asks it, and what a replica finds when it starts. Not
here: the files and the power (`compare.crash_disk`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from compare.crash_disk import Loss, Platter, PowerCut
from replog.core import Effect, Event, Persist, Trim
from replog.replica import Replica
from replog.sim.disk import Disk, DiskModel, Record
from replog.sim.world import World
from replog.storage import Storage, StorageFailed
from replog.types import Digest, Micros, Status

OWNER: Final = "crash points"


@dataclass(frozen=True)
class Found:
    """A checkpoint that was on the disk."""

    index: int
    digest: Digest
    content: tuple[tuple[int, bytes], ...]

    def parts(self) -> Iterator[tuple[int, bytes]]:
        return iter(self.content)


class StoredDisk(Disk):
    """Invariant: what is reported written is committed in the store; a Trim drops what was listed before it alone."""

    def __init__(self, world: World, name: str, model: DiskModel, platter: Platter) -> None:
        super().__init__(world, name, model)
        self.platter = platter
        self.loss: Loss = "nothing"
        """Of the next crash."""
        self.refused = ""
        """Why the store did not open, or failed while the power was there: neither may be."""
        self.on_cut: Callable[[], None] = lambda: None
        """The power went at a boundary."""
        self.listed = 0
        self.listed_at_trims: deque[int] = deque()
        self._trims: list[tuple[int, int]] = []
        self._store: Storage | None = None
        Storage.create(platter.folder, OWNER)
        self.open()

    def open(self) -> bool:
        """Start from what the files hold. False if the power went once more, or if the store refuses them."""
        try:
            self._store = store = Storage(self.platter.folder, OWNER, base=self.platter.base)
            self.records = [(0, raw) for raw in store.load()]
            self.saved = self.found(store)
        except PowerCut:
            self._store = None
            return False
        except StorageFailed as error:
            self.refused = self.refused or str(error)
            return False
        self.listed = store.appended
        self.listed_at_trims.clear()
        self._trims.clear()
        return True

    @staticmethod
    def found(store: Storage) -> Found | None:
        """The checkpoint that it holds."""
        saved = store.load_state()
        return None if saved is None else Found(saved.index, saved.digest, tuple(saved.parts))

    def close(self) -> None:
        """As a replica that is stopped in peace."""
        if self._store is not None:
            self._store.close()

    # ------------------------------------------------------------------------------------------- what a replica asks

    def _written(self, plugged: int) -> None:
        if plugged != self._plugged or self._writing is None:
            return
        records, done = self._writing
        self._writing = None
        if self._survives(lambda store: self._append(store, records)):
            self.syncs += 1
            done(len(records))

    def _append(self, store: Storage, records: list[Record]) -> None:
        store.append(records)
        self._trim_due(store)

    def _is_saved(self, plugged: int) -> None:
        if plugged != self._plugged:
            return
        snapshot, self._saving = self._saving, None
        if not self._survives(lambda store: store.save(snapshot)):
            return
        self.saves += 1
        if self._survives(self._trim_due):
            self._on_saved(snapshot.index)
            if self._next_save is not None:
                following, self._next_save = self._next_save, None
                self.save(following, self._on_saved)

    def trim(self, upto: int) -> None:
        self._trims.append((upto, self.listed_at_trims.popleft()))

    def _trim_due(self, store: Storage) -> None:
        due = [trim for trim in self._trims if trim[0] <= store.saved_index]
        self._trims = [trim for trim in self._trims if trim not in due]
        if due:
            store.trim(*max(due))

    def _survives(self, work: Callable[[Storage], None]) -> bool:
        """Do it; a power cut in its midst kills the replica."""
        if self._store is None:
            return False
        try:
            work(self._store)
        except PowerCut:
            self.failures += 1
            self.on_failed()
            self.on_cut()
            return False
        except StorageFailed as error:
            self.refused = self.refused or str(error)
            self.on_failed()
            return False
        return True

    def crash(self) -> None:
        super().crash()
        self._store = None
        self.platter.restore(self.loss)


class Listing:
    """A replica's plug; notes for its disk what was listed before each Trim, as the engine's own disk does."""

    def __init__(self, inner: Replica, disk: StoredDisk) -> None:
        self._inner = inner
        self._disk = disk

    def step(self, now: Micros, event: Event) -> list[Effect]:
        effects = self._inner.step(now, event)
        for effect in effects:
            if type(effect) is Persist:
                self._disk.listed += 1
            elif type(effect) is Trim:
                self._disk.listed_at_trims.append(self._disk.listed)
        return effects

    def status(self) -> Status:
        return self._inner.status()
