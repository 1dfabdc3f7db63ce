"""What a hunt remembers: which seeds were done, and what failed. One SQLite file in a folder of the user's.

A seed counts for the code that it ran with: `build` names all sources of the four packages, so that a change of any
makes every seed new. Failures stay, and are replayed first.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Self

from compare.hunt.trial import CPU_S, Outcome
from compare.results import Verdict
from replog.errors import ConfigError

NAME: Final = "hunts.sqlite"
TABLES: Final = """
create table if not exists seeds (
    build text, strategy text, protocol text, mutant text, seed integer, verdict text, judge text, detail text,
    acknowledged integer, real integer, cpu_s real, primary key (build, strategy, protocol, mutant, seed)
);
create table if not exists failures (folder text primary key, judge text, build text);
"""


@dataclass(frozen=True)
class Which:
    """One series of seeds."""

    strategy: str
    protocol: str
    mutant: str = ""

    def folder(self, seed: int) -> str:
        """Where a failure of it is kept."""
        return "-".join(filter(None, (self.protocol, self.strategy, self.mutant, str(seed))))


@dataclass(frozen=True)
class Totals:
    """Of one series, by this build. `over`: seeds that took more than the CPU time of one."""

    seeds: int
    vacuous: int
    failed: int
    real: int
    acknowledged: int
    cpu_s: float
    over: int


class Store:
    """Invariant: each seed of a series and build is counted once, and what is told as done is on disk."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError for a folder that cannot be made or a file that is no database."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / NAME, timeout=10)
            self._db.executescript(TABLES)
        except OSError as error:
            raise ConfigError(f"--db = {folder}: {error.strerror}") from None
        except sqlite3.Error as error:
            raise ConfigError(f"--db = {folder}: {NAME}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, which: Which, outcome: Outcome) -> None:
        row = (
            *self._key(which),
            outcome.seed,
            outcome.verdict.value,
            outcome.judge,
            outcome.detail,
            outcome.acknowledged,
            outcome.real,
            outcome.cpu_s,
        )
        with self._db:
            self._db.execute(f"insert or ignore into seeds values ({','.join('?' * len(row))})", row)  # noqa: S608

    def _key(self, which: Which) -> tuple[str, str, str, str]:
        return build(), which.strategy, which.protocol, which.mutant

    def done(self, which: Which) -> set[int]:
        where = "build = ? and strategy = ? and protocol = ? and mutant = ?"
        return {seed for (seed,) in self._db.execute(f"select seed from seeds where {where}", self._key(which))}  # noqa: S608

    def totals(self, which: Which) -> Totals:
        found: tuple[Any, ...] = self._db.execute(
            "select count(*), total(verdict = 'vacuous'), total(judge != ''), total(real), total(acknowledged),"
            " total(cpu_s), total(cpu_s > ?) from seeds"
            " where build = ? and strategy = ? and protocol = ? and mutant = ?",
            (CPU_S, *self._key(which)),
        ).fetchone()
        seeds, vacuous, failed, real, acknowledged, cpu_s, over = found
        return Totals(seeds, int(vacuous), int(failed), int(real), int(acknowledged), cpu_s, int(over))

    # ------------------------------------------------------------------------------------------------------ failures

    def open_failures(self, which: Which) -> list[Outcome]:
        """Those that were found and not written down: the hunt was ended in between."""
        rows = self._db.execute(
            "select seed, verdict, judge, detail, acknowledged, real, cpu_s from seeds where judge != ''"
            " and build = ? and strategy = ? and protocol = ? and mutant = ? order by seed",
            self._key(which),
        ).fetchall()
        known = {folder for (folder,) in self._db.execute("select folder from failures")}
        return [
            Outcome(which.protocol, which.strategy, seed, Verdict(verdict), judge, detail, number, bool(real), cpu_s)
            for seed, verdict, judge, detail, number, real, cpu_s in rows
            if which.folder(seed) not in known
        ]

    def failed(self, folder: Path, judge: str) -> None:
        with self._db:
            self._db.execute("insert or replace into failures values (?, ?, ?)", (str(folder), judge, build()))

    def failures(self) -> Iterator[Path]:
        """Cases that failed, oldest first; those whose files are gone are passed by."""
        for (folder,) in self._db.execute("select folder from failures order by rowid").fetchall():
            path = self.folder / folder / "counterexample.toml"
            if path.exists():
                yield path


@cache
def build() -> str:
    """Of all sources of the four packages, in their order."""
    total = hashlib.blake2b(digest_size=8)
    for package in ("replog", "pbft", "raft", "compare"):
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()
