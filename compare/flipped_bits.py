"""Flipped bits in the files of a replica: never a wrong answer, never a vote against a promise.

Replicas of both protocols work in the simulator on the real store; then one is ended, as by kill -9 or in peace. In a
copy of its files one bit is flipped, in log.db, state.db or their write-ahead files, spread evenly over all of their
bytes. What starts from that copy must be exactly what starts from the files as they were: the same promises (records),
the same state, the same word about itself; and so it must still be after it has written more and started again. If not,
it must refuse to start and say why; then its peers go on without it, and `replog member replace` puts another in its
place, which fetches everything from them.

    python -m compare.flipped_bits --flips 5000

`--broken` opens the files as if nothing were checked: wrong answers and lost promises have to be found then.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from compare.arguments import whole
from compare.crash_disk import Platter
from compare.crash_points import OPTIONS, PROTOCOLS, memory
from compare.stored_disk import OWNER, Listing, StoredDisk
from replog import protocols, storage, wal
from replog.apps.kv import KeyValue
from replog.codec import BadMessage
from replog.executor import StateCorrupt
from replog.node import Plug
from replog.replica import Replica
from replog.runtime import StateUnreadable
from replog.sim.cluster import SimCluster
from replog.sim.disk import DiskModel
from replog.sim.world import World
from replog.storage import Storage, StorageFailed
from replog.types import NodeId

FILES: Final = ("log.db", "log.db-wal", "state.db", "state.db-wal")
ENDS: Final = ("killed", "stopped")
WAL_BYTES: Final = 150_000
"""So that both the database and its write-ahead file hold something."""
OPERATIONS: Final = 60
VICTIM: Final = 1
SOME_MORE: Final = 3
"""Records that a replica writes after the flip."""


@dataclass
class Flips:
    """`outcomes`: by file. `reasons`: what the store said. `wrong`: sentences, none of which may be."""

    flips: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Flips) -> None:
        self.flips += other.flips
        self.outcomes += other.outcomes
        self.reasons += other.reasons
        self.wrong += other.wrong


@dataclass(frozen=True)
class Word:
    """All that a replica would answer from and vote by."""

    records: tuple[bytes, ...]
    state: tuple[int, bytes]
    status: str


class Subject:
    """The files of one replica that has worked, and what starts from them."""

    def __init__(self, protocol: str, seed: int, end: str, folder: Path) -> None:
        self.name = f"{protocol}, {end}"
        self.folder = folder / "files"
        self._scratch = folder / "copy"
        self._cluster = _worked(protocol, seed, folder)
        disk: Any = self._cluster.nodes[VICTIM].disk
        if end == "stopped":
            disk.close()
        else:
            disk.crash()
        shutil.copytree(disk.platter.folder, self.folder)
        self._cluster.crash(*range(self._cluster.n))
        self.sizes = {name: _size(self.folder / name) for name in FILES if _size(self.folder / name)}
        shutil.copytree(self.folder, self._scratch)
        self.whole = self._start()

    def flip(self, name: str, bit: int) -> tuple[str, str]:
        """Outcome and reason of one flipped bit: harmless, reported or wrong."""
        shutil.rmtree(self._scratch)
        shutil.copytree(self.folder, self._scratch)
        path = self._scratch / name
        data = bytearray(path.read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            found = self._start()
            if found == self.whole:
                return self._goes_on()
        except (StorageFailed, BadMessage, StateCorrupt, StateUnreadable, ValueError) as error:
            return "reported", f"{error}".replace(str(self._scratch), "")
        return "wrong", f"{self.name}: bit {bit} of {name}: {_difference(self.whole, found)}"

    def _start(self) -> Word:
        """As `replog.live.node` starts a replica: every check is the store's, the executor's or the core's."""
        store = Storage(self._scratch, OWNER)
        try:
            return self._word(store)
        finally:
            store.close()

    def _word(self, store: Storage) -> Word:
        disk: Any = self._cluster.nodes[VICTIM].disk
        records = store.load()
        disk.records, disk.saved = [(0, raw) for raw in records], StoredDisk.found(store)
        replica = self._cluster.second(VICTIM)
        executor = replica.executor
        return Word(tuple(records), (executor.index, executor.digest()), repr(replica.status()))

    def _goes_on(self) -> tuple[str, str]:
        """A flip that nobody noticed must do no harm later either."""
        store = Storage(self._scratch, OWNER)
        more = [b"more %d" % number for number in range(SOME_MORE)]
        store.load()
        for raw in more:
            store.append([(0, raw)])
        store.close()
        store = Storage(self._scratch, OWNER)
        try:
            records = store.load()
        finally:
            store.close()
        if tuple(records) == (*self.whole.records, *more):
            return "harmless", ""
        return "wrong", f"{self.name}: {len(records)} records after {SOME_MORE} more were written"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _difference(whole: Word, found: Word) -> str:
    if whole.records != found.records:
        return f"{len(found.records)} records in place of {len(whole.records)}"
    return f"state {found.state} in place of {whole.state}" if whole.state != found.state else "another status"


def _worked(protocol: str, seed: int, folder: Path) -> SimCluster:
    """A cluster after some load."""

    disks: dict[NodeId, StoredDisk] = {}

    def disk(world: World, node: str, model: DiskModel) -> StoredDisk:
        own = folder / f"node-{node}"
        own.mkdir()
        platter = Platter(own, random.Random(seed), WAL_BYTES)
        disks[int(node)] = made = StoredDisk(world, node, model, platter)
        return made

    def wrap(node: NodeId, replica: Replica) -> Plug:
        return Listing(replica, disks[node])

    spec, options = protocols.find(protocol), OPTIONS[protocol]
    cluster = SimCluster(spec, options=options, seed=seed, disks=disk, wrap=wrap)
    client = cluster.client()
    for number in range(OPERATIONS):
        client.submit([KeyValue.operation("put", f"key {number % 40}", f"{number} " * 20)])
        cluster.run_until(lambda: client.outstanding == 0)
    cluster.run_for(100_000)
    return cluster


# --------------------------------------------------------------------------------------------------------------- many


def spread(sizes: dict[str, int], flips: int, chance: random.Random) -> Iterator[tuple[str, int]]:
    """(file, bit), as many in each file, one in each stretch of it."""
    share = -(-flips // len(sizes))
    for name, size in sizes.items():
        for number in range(share):
            low, high = 8 * size * number // share, 8 * size * (number + 1) // share
            yield name, chance.randrange(low, max(high, low + 1))


def play(protocol: str, flips: int, seed: int = 1, broken: bool = False) -> Flips:
    """So many flips in the files of one replica that was killed, and of one that was stopped."""
    total = Flips()
    for end in ENDS:
        with tempfile.TemporaryDirectory(prefix="replog-flips-", dir=memory()) as folder, unchecked(broken):
            subject = Subject(protocol, seed, end, Path(folder))
            for name, bit in spread(subject.sizes, -(-flips // len(ENDS)), random.Random(f"{seed}/{protocol}/{end}")):
                total.flips += 1
                outcome, reason = subject.flip(name, bit)
                total.outcomes[name, outcome] += 1
                if outcome == "wrong":
                    total.wrong.append(reason)
                elif reason:
                    total.reasons[_kind(reason)] += 1
    return total


def _kind(reason: str) -> str:
    """Without numbers and names of its own."""
    words = reason.split(": ", 1)[-1]
    return "".join("#" if letter.isdigit() else letter for letter in words)[:60]


@contextmanager
def unchecked(broken: bool) -> Iterator[None]:
    """A store that believes what it reads."""
    with ExitStack() as stack:
        if broken:
            stack.enter_context(patch.object(wal, "inspect", lambda _: wal.Tail.WHOLE))
            stack.enter_context(patch.object(storage, "_seal", lambda *_: b""))
            stack.enter_context(patch.object(storage._File, "_look_through", lambda _: None))
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing was wrong, or with --broken something was; 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m compare.flipped_bits", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("protocols", nargs="*", default=list(PROTOCOLS), help="pbft raft")
    parser.add_argument("--flips", type=whole(1), default=5000, help="of all protocols together")
    parser.add_argument("--seed", type=whole(0), default=1)
    parser.add_argument("--broken", action="store_true", help="check nothing, on purpose")
    given = parser.parse_args(arguments)
    if unknown := set(given.protocols) - set(PROTOCOLS):
        parser.error(f"protocols: {', '.join(sorted(unknown))}: known are {', '.join(PROTOCOLS)}")
    total = Flips()
    for protocol in given.protocols:
        total.add(play(protocol, -(-given.flips // len(given.protocols)), given.seed, given.broken))
    _tell(total)
    return int(bool(total.wrong) != given.broken)


def _tell(total: Flips) -> None:
    for sentence in total.wrong[:20]:
        _say(sentence)
    _say(f"{total.flips} flipped bits: {len(total.wrong)} wrong answers or lost promises")
    for (name, outcome), number in sorted(total.outcomes.items()):
        _say(f"  {number:5} {name}: {outcome}")
    for reason, number in total.reasons.most_common():
        _say(f"  {number:5} {reason}")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
