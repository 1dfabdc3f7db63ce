"""Mixed load with faults for half an hour on real processes, and what each replica takes of the machine meanwhile:
`python -m compare.soak`.

The load and the judges are those of chaos. Kills strike one replica alone, so that all others show what they gather
with age; stops, cuts and slow links strike any. Memory, open files and what is on disk are looked at every few seconds.
After `--settle` (five minutes of thirty) they have to be level: of a replica's figures since then, the middle one of
the second half is at most LEVEL times that of the first half, and SLACK.

What the laboratory itself writes is not counted: traces, diagnostics. The archive has its own bound, which is set low
here so that it is soon reached. A process that has only just begun does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from compare.arguments import seconds, whole
from compare.chaos_faults import KINDS, Strike, draw
from compare.chaos_session import SIZES, Session, Stalled
from compare.history import Call
from compare.judging import conclude
from compare.live import end_all
from compare.results import Run, Verdict
from replog.config import FILE
from replog.live.folders import temporary_folder
from replog.types import NodeId

SECONDS: Final = 1_800.0
SETTLED: Final = 6
"""One part in so many of the time is for settling."""
PAUSE_S: Final = 0.04
LOOK_S: Final = 2.0
WINDOWS, WINDOW_S = 20, 60.0
"""Keys are others after so long, and so often at least."""
BETWEEN_S: Final = 5.0
"""Between two rounds of faults, at most."""
FAULTS: Final = {kind: often for kind, often in KINDS.items() if kind != "crash-all"}
LEVEL: Final = 1.15
SLACK: Final = {"memory": 8 * 2**20, "files": 6, "disk": 2 * 2**20}
YOUNG_S: Final = 3.0
"""A process counts from so long after it was first seen."""
ARCHIVE_BYTES: Final = 2**20
NOT_COUNTED: Final = ("trace.jsonl", ".log")


@dataclass(frozen=True)
class Look:
    """At one replica's process. `at_s`: since the load began; memory and disk in bytes."""

    at_s: float
    node: NodeId
    pid: int
    memory: int
    files: int
    disk: int


class Soak(Session):
    def __init__(self, folder: Path, protocol: str, seed: int) -> None:
        super().__init__(folder, protocol, seed, pause_s=PAUSE_S)
        file = self.config.folder / FILE
        file.write_text(f"archive_bytes = {ARCHIVE_BYTES}\n" + file.read_text())
        self.looks: list[Look] = []
        self.rounds = 0

    def drawn(self, chance: random.Random) -> list[Strike]:
        return draw(chance, self.config.n, FAULTS, mortal=[self.config.n - 1])

    async def soak(self, length_s: float) -> Run:
        chance, probes = random.Random(f"{self.seed}/soak"), list[Call]()
        async with self.working():
            began = time.monotonic()
            looking = asyncio.create_task(self._look(began))
            try:
                while (now_s := time.monotonic() - began) < length_s:
                    self.window = f"{int(now_s / min(WINDOW_S, length_s / WINDOWS))}/"
                    await self.round(chance)
                    self.rounds += 1
                    await asyncio.sleep(chance.uniform(0, BETWEEN_S))
                probes = await self.settle()
            except Stalled:
                pass
            finally:
                await end_all([looking])
        return conclude(self.observed(probes))

    async def _look(self, began: float) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for node, pid in self.processes.pids().items():
                found = look(pid, self.config.node_folder(node))
                if found is not None:
                    self.looks.append(Look(round(time.monotonic() - began, 2), node, pid, *found))


def look(pid: int, folder: Path) -> tuple[int, int, int] | None:
    """Memory, open files and disk of a process; None if it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None
    memory = next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")), None)
    return None if memory is None else (int(memory) * 1024, files, disk_of(folder))


def disk_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.name.endswith(NOT_COUNTED):
                total += path.stat().st_blocks * 512
        except OSError:  # removed meanwhile
            continue
    return total


# -------------------------------------------------------------------------------------------------------------- judged


@dataclass(frozen=True)
class Trend:
    """Of one figure of one replica since it settled: the middle of the first half and of the second."""

    node: NodeId
    name: str
    before: float
    after: float

    @property
    def level(self) -> bool:
        return self.after <= self.before * LEVEL + SLACK[self.name]

    def __str__(self) -> str:
        unit = 1 if self.name == "files" else 2**20
        return f"{self.name} {self.before / unit:.1f} -> {self.after / unit:.1f}{'' if unit == 1 else ' MiB'}"


def trends(looks: Sequence[Look], settle_s: float, end_s: float) -> list[Trend]:
    """Of each replica that was looked at in both halves: one that is killed again and again is always young."""
    half = (settle_s + end_s) / 2
    begun: dict[int, float] = {}
    for one in looks:
        begun.setdefault(one.pid, one.at_s)
    grown = [one for one in looks if one.at_s >= settle_s and one.at_s >= begun[one.pid] + YOUNG_S]
    found = []
    for node in sorted({one.node for one in grown}):
        own = [one for one in grown if one.node == node]
        first, second = [one for one in own if one.at_s < half], [one for one in own if one.at_s >= half]
        for name in SLACK if first and second else ():
            middles = [statistics.median(getattr(one, name) for one in part) for part in (first, second)]
            found.append(Trend(node, name, *middles))
    return found


def report(protocol: str, run: Run, rounds: int, found: Sequence[Trend]) -> str:
    head = f"{protocol}: {run.verdict.value}, {run.acknowledged} operations acknowledged"
    lines = [f"{head}, {run.throughput_ops_s or 0:.0f} a second, {rounds} rounds of faults"]
    for node in sorted({trend.node for trend in found}):
        own = [trend for trend in found if trend.node == node]
        grows = [trend.name for trend in own if not trend.level]
        word = "level" if not grows else f"GROWS: {', '.join(grows)}"
        lines.append(f"  node {node}: {', '.join(map(str, own))}; {word}")
    lines += [f"  {name}: {check.detail}" for name, check in run.checks.items() if not check.ok]
    return "\n".join(lines + ([f"  {run.error}"] if run.error else []))


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing objected to and all level; 1: not so."""
    parser = argparse.ArgumentParser(prog="python -m compare.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--protocol", choices=sorted(SIZES), action="append", help="both, one after the other")
    parser.add_argument("--seconds", type=seconds, default=SECONDS, help=f"of load for each: {SECONDS:g}")
    parser.add_argument("--settle", type=seconds, metavar="SECONDS", help="a sixth of that")
    parser.add_argument("--seed", type=whole(0), default=1, help="what is asked and what goes wrong: 1")
    parser.add_argument("--out", type=Path, metavar="FILE", help="what was seen of each replica, as lines of JSON")
    given = parser.parse_args(arguments)
    settle_s = given.settle if given.settle is not None else given.seconds / SETTLED
    if settle_s >= given.seconds:
        parser.error(f"argument --settle: {settle_s:g}: must be less than --seconds = {given.seconds:g}")
    return max(_one(protocol, given, settle_s) for protocol in given.protocol or sorted(SIZES))


def _one(protocol: str, given: argparse.Namespace, settle_s: float) -> int:
    with temporary_folder("replog-soak-") as folder:
        soak = Soak(folder, protocol, given.seed)
        run = asyncio.run(soak.soak(given.seconds))
    if given.out is not None:
        with given.out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"protocol": protocol, **asdict(one)}) + "\n" for one in soak.looks)
    found = trends(soak.looks, settle_s, given.seconds)
    print(report(protocol, run, soak.rounds, found), flush=True)  # noqa: T201
    told = {trend.node for trend in found} >= set(range(soak.config.n - 1))
    return int(run.verdict is not Verdict.OK or not told or not all(trend.level for trend in found))


if __name__ == "__main__":
    sys.exit(main())
