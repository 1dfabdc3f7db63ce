"""Power cuts at the boundaries of writing and flushing, under the real store: nothing acknowledged may be lost.

Clusters of the simulator whose replicas keep their records and checkpoints in `replog.storage`, on SQLite, on a disk
that is in our hand (`compare.crash_disk`). Under load the power of one replica, or of the whole house, is cut at a
boundary that is drawn: before, in the midst of or after a write, a flush, a truncation or a removal of a file, also
while a replica starts. A process is killed, or the machine loses what was not flushed, all of it or some sectors. Then
everything starts from what is left. The judges of the comparison are asked, and a ledger of all that ever left a
replica: none says one thing and then another, whatever was cut between.

    python -m compare.crash_points --points 1000 --workers 2 [pbft raft]

`--broken no-flush` makes the disk keep nothing until the end, `--broken no-barrier` lets a replica speak before its
promise is on the disk: both have to be found out, else this proves nothing.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from compare import judging
from compare.arguments import WORKERS, whole
from compare.crash_disk import LOSSES, Boundary, Loss, Platter
from compare.environment import Delay, Disk
from compare.results import Verdict
from compare.scenario import Scenario, Side, Workload
from compare.sim import Trial
from compare.stored_disk import Listing, StoredDisk
from pbft.statements import place_of, what_of
from raft.messages import AppendEntries, RequestVote, VoteReply
from replog import protocols
from replog.core import Effect
from replog.node import Plug
from replog.outbox import Outbox
from replog.replica import Replica
from replog.sim.disk import DiskModel
from replog.sim.world import World
from replog.trace import TOLD_LATE
from replog.types import Message, NodeId, Principal, Submit

PROTOCOLS: Final = ("pbft", "raft")
BROKEN: Final = ("", "no-flush", "no-barrier")
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "pbft": {"checkpoint_interval": 8, "log_window": 32},
    "raft": {"snapshot_entries": 12, "log_tail": 4},
}
"""So that checkpoints are written, and logs cut, all the time."""
WAL_BYTES: Final = 60_000
"""And the write-ahead files copied."""
POINTS_A_RUN: Final = 25
POINT_US: Final = 200_000
"""About what one takes: until the boundary comes, until all are up again, and some work in between."""
PATIENCE_US: Final = 80_000
"""A boundary that has not come by then is given up for another."""
DOWN_US: Final = (1_000, 120_000)
CALM_US: Final = 20_000
"""Between a start and the next cut, at the most."""
PAUSE_MS: Final = 20.0
SYNC_US: Final = 3_000
"""A slow disk: much is under way when the power goes, and who does not wait for it is found out."""
HOUSE_SHARE: Final = 0.4
START_SHARE: Final = 0.25
"""Of the starts, in whose midst the power goes again."""


@dataclass
class Points:
    """What some runs have shown. `violations`: seeds and sentences. `unsafe`: runs in which something was lost, done
    twice, or said in two ways; in others a replica did not come back."""

    runs: int = 0
    unsafe: int = 0
    points: int = 0
    house: int = 0
    starting: int = 0
    acknowledged: int = 0
    said: int = 0
    boundaries: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Points) -> None:
        for name in ("runs", "unsafe", "points", "house", "starting", "acknowledged", "said"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.boundaries += other.boundaries
        self.losses += other.losses
        self.violations += other.violations


class Ledger:
    """All that replicas have said, over all their lives: of one place one thing."""

    def __init__(self) -> None:
        self.contradictions: list[str] = []
        self._said: dict[tuple[Any, ...], Any] = {}

    def told(self, sender: Principal, target: Principal, message: Message) -> bool:
        """A message leaves. As a filter of the network: it goes on."""
        if isinstance(sender, int):
            for place, what in _statements(sender, target, message):
                if self._said.setdefault(place, what) != what:
                    self.contradictions.append(f"node {sender} says two things at {place}")
        return True

    @property
    def places(self) -> int:
        return len(self._said)


def _statements(sender: NodeId, target: Principal, message: Message) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What nobody may say otherwise later: a vote in PBFT; in Raft a vote, and an entry of a term."""
    if isinstance(message, Submit):
        return
    if isinstance(message, VoteReply):
        if message.vote_granted:
            yield (sender, "vote", message.term), target
    elif isinstance(message, RequestVote):
        yield (sender, "vote", message.term), sender
    elif isinstance(message, AppendEntries):
        for offset, entry in enumerate(message.entries, 1):
            yield ("entry", message.prev_log_index + offset, entry.term), msgspec.msgpack.encode(entry)
    elif (place := place_of(message)) is not None:
        yield (sender, *place), what_of(message)


class LeakyOutbox(Outbox):
    """Broken on purpose: what is listed leaves at once, on disk or not."""

    def ready(self) -> list[Effect]:
        queue, self._queue = self._queue, type(self._queue)()
        return [effect for _, effect in queue]


class CrashTrial(Trial):
    """One run with power cuts, one after the other, until its time is over."""

    def __init__(self, protocol: str, seed: int, points: int, folder: Path, broken: str = "") -> None:
        self.points = Points(runs=1)
        self._moments = random.Random(f"{seed}/{protocol}/cuts")
        self._folder = folder
        self._broken = broken
        self._wanted = points
        self._disks: dict[NodeId, StoredDisk] = {}
        self._down: set[NodeId] = set()
        self._attempt = 0
        super().__init__(_scenario(protocol, points), protocols.find(protocol), seed)
        self.ledger = Ledger()
        self.cluster.network.filter = self.ledger.told
        for node in self.cluster.nodes:
            self._disks[node.name].on_cut = lambda node=node.name: self._cut(node)  # type: ignore[misc]
            if broken == "no-barrier":
                node._new_outbox = lambda _: LeakyOutbox(TOLD_LATE)  # type: ignore[method-assign,assignment]
                node.outbox.__class__ = LeakyOutbox

    def _around(self) -> dict[str, Any]:
        return super()._around() | {"wrap": self._listed, "disks": self._new_disk}

    def _new_disk(self, world: World, node: str, model: DiskModel) -> StoredDisk:
        folder = self._folder / f"node-{node}"
        folder.mkdir()
        chance = random.Random(f"{self.seed}/{node}/platter")
        platter = Platter(folder, chance, WAL_BYTES, lies=self._broken == "no-flush")
        disk = self._disks[int(node)] = StoredDisk(world, node, model, platter)
        return disk

    def _listed(self, node: NodeId, replica: Replica) -> Plug:
        return Listing(replica, self._disks[node])

    # ------------------------------------------------------------------------------------------------------------ cuts

    def _prepare(self) -> None:
        super()._prepare()
        self._last = self.cluster.now + (self._wanted - 1) * POINT_US
        self.cluster.after(CALM_US, self._aim)

    def _aim(self) -> None:
        """At the next boundary of a kind that is drawn, in one replica's files."""
        if self.cluster.now >= self._last or self.points.points >= self._wanted or self._down:
            return
        node, loss = self._moments.randrange(self.cluster.n), self._moments.choice(LOSSES)
        self._attempt += 1
        self._arm(node, loss)
        self.cluster.after(PATIENCE_US, lambda attempt=self._attempt: self._give_up(node, attempt))  # type: ignore[misc]

    def _arm(self, node: NodeId, loss: Loss) -> None:
        disk = self._disks[node]
        disk.loss = loss
        wanted = self._moments.choice(sorted(disk.platter.seen) or [("log.db-wal", "write")])
        moment, skip = self._moments.choice(("before", "during", "after")), self._moments.randrange(4)

        def strike(boundary: Boundary) -> bool:
            nonlocal skip
            if (boundary.file, boundary.operation) != wanted or boundary.moment != moment:
                return False
            skip -= 1
            return skip < 0 and self._count(boundary, loss)

        disk.platter.strike_when(strike)

    def _count(self, boundary: Boundary, loss: Loss) -> bool:
        self.points.points += 1
        self.points.boundaries[str(boundary)] += 1
        self.points.losses[loss] += 1
        return True

    def _give_up(self, node: NodeId, attempt: int) -> None:
        if attempt == self._attempt and not self._down:
            self._disks[node].platter.strike_when(None)
            self._aim()

    def _cut(self, node: NodeId) -> None:
        """It has happened to one; maybe to the whole house."""
        struck = [node]
        if self._moments.random() < HOUSE_SHARE:
            self.points.house += 1
            struck = list(range(self.cluster.n))
            for other in struck:
                self._disks[other].loss = self._disks[node].loss
            self.cluster.crash(*(other for other in struck if other != node))
        self._attempt += 1  # whoever would give up the present one is late
        for other in sorted(set(struck) - self._down):
            self._down.add(other)
            self.cluster.after(self._moments.randrange(*DOWN_US), lambda other=other: self._start(other))  # type: ignore[misc]

    def _start(self, node: NodeId) -> None:
        """From what its files hold; the power may go again meanwhile."""
        disk = self._disks[node]
        disk.loss = self._moments.choice(LOSSES)
        self._cut_the_start(disk)
        opened = disk.open()
        disk.platter.strike_when(None)
        if opened:
            disk.loss = "nothing"
            disk.platter.seen.clear()
            self.cluster.nodes[node].start()
            self._down.discard(node)
            if not self._down:
                self.cluster.after(self._moments.randrange(CALM_US), self._aim)
        elif not disk.refused:
            disk.platter.restore(disk.loss)
            self.cluster.after(self._moments.randrange(*DOWN_US), lambda: self._start(node))

    def _cut_the_start(self, disk: StoredDisk) -> None:
        if self._moments.random() >= START_SHARE:
            return
        left = self._moments.randrange(40)

        def strike(boundary: Boundary) -> bool:
            nonlocal left
            left -= 1
            if left >= 0:
                return False
            self.points.starting += 1
            return self._count(boundary, disk.loss)

        disk.platter.strike_when(strike)

    # ---------------------------------------------------------------------------------------------------------- verdict

    def judge(self) -> Points:
        """Make the run; what it has shown."""
        where = f"{self.spec.name}, seed {self.seed}"
        try:
            run = judging.conclude(self.run())
        except (AssertionError, RuntimeError, ValueError) as error:
            self.points.violations.append(f"{where}: {type(error).__name__}: {error!s:.300}")
            return self.points
        points = self.points
        points.acknowledged, points.said = run.acknowledged or 0, self.ledger.places
        found = [f"{name}: {check.detail:.300}" for name, check in run.checks.items() if not check.ok]
        if run.verdict is not Verdict.OK and not found:
            found.append(f"verdict {run.verdict.value}: {run.error}")
        found += self.ledger.contradictions[:3]
        found += [f"node {node} refuses: {disk.refused}" for node, disk in self._disks.items() if disk.refused]
        points.violations += [f"{where}: {what}" for what in found]
        points.unsafe = int(run.verdict is Verdict.UNSAFE or bool(self.ledger.contradictions))
        return points


def _scenario(protocol: str, points: int) -> Scenario:
    return Scenario(
        name="crash-points",
        summary="power cuts at the boundaries of writing and flushing",
        duration_s=points * POINT_US / 1_000_000 + 1.0,
        settle_s=20.0,
        protocols={protocol: Side(options=OPTIONS[protocol])},
        disk=Disk(sync=Delay(kind="constant", mean_us=SYNC_US)),
        workload=Workload(clients=3, outstanding=2, pause_ms=PAUSE_MS, keys=6),
    )


def play(protocol: str, seed: int, points: int = POINTS_A_RUN, broken: str = "") -> Points:
    """One run with so many cuts."""
    folder = Path(tempfile.mkdtemp(prefix="replog-cuts-", dir=memory()))
    try:
        return CrashTrial(protocol, seed, points, folder, broken).judge()
    finally:
        shutil.rmtree(folder)


def memory() -> str | None:
    """Where files cost nothing: what is flushed is ours to know."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def _play(job: tuple[str, int, int, str]) -> Points:
    return play(*job)


# --------------------------------------------------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """0: no violation, or with --broken something unsafe; 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m compare.crash_points", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("protocols", nargs="*", default=list(PROTOCOLS), help="pbft raft")
    parser.add_argument("--points", type=whole(1), default=1000, help="power cuts at least, of each protocol")
    parser.add_argument("--first", type=whole(0), default=1, help="the first seed")
    parser.add_argument("--workers", type=WORKERS, default=1)
    parser.add_argument("--broken", choices=BROKEN, default="", help="break the barrier on purpose")
    given = parser.parse_args(arguments)
    if unknown := set(given.protocols) - set(PROTOCOLS):
        parser.error(f"protocols: {', '.join(sorted(unknown))}: known are {', '.join(PROTOCOLS)}")
    return max([_check(protocol, given) for protocol in given.protocols])


def _check(protocol: str, given: argparse.Namespace) -> int:
    total, seed = Points(), given.first
    with ProcessPoolExecutor(given.workers) as pool:
        while total.points < given.points:
            jobs = [(protocol, seed + more, POINTS_A_RUN, given.broken) for more in range(given.workers * 2)]
            seed += len(jobs)
            for points in pool.map(_play, jobs):
                for sentence in points.violations:
                    _say(sentence)
                total.add(points)
            _say(f"{protocol}: {total.points} of {given.points}, {len(total.violations)} violations")
    _tell(protocol, total)
    well = total.unsafe > 0 if given.broken else not total.violations
    return 0 if well and total.acknowledged else 1


def _tell(protocol: str, total: Points) -> None:
    _say(
        f"{protocol}: {total.points} power cuts in {total.runs} runs, {total.house} of the whole house, "
        f"{total.starting} while a replica started; {total.acknowledged} operations acknowledged, "
        f"{total.said} places spoken of: {len(total.violations)} violations, {total.unsafe} runs unsafe"
    )
    _say("  lost: " + ", ".join(f"{loss} {number}" for loss, number in sorted(total.losses.items())))
    for boundary, number in sorted(total.boundaries.items()):
        _say(f"  {number:5} {boundary}")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
