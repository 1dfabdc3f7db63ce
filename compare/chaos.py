"""Random kills, stops, cuts and slow links under load, on real processes, judged: `python -m compare.chaos`.

A round lets in one to three faults that may overlap: kill -9 of some replicas or all of them at once, SIGSTOP, links
cut whole or one way, slow and lossy links; killed ones are started again one by one. Then every client has to get
writes through. The rounds are played in sessions, each a cluster of its own that is drawn from its own seed; at its end
all judges of `compare` are asked about every call and every decision. The seed fixes what is done, not the timing.

With `--out DIR` what a session came to is kept there, and sessions that are there are not played again, so that a run
that was interrupted goes on; what a judge objects to is kept with its traces.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from compare import history
from compare.arguments import whole
from compare.chaos_broken import BROKEN
from compare.chaos_session import SIZES, Session, Told
from compare.results import Verdict
from replog.live.folders import temporary_folder

FILE: Final = "chaos.jsonl"
ROUNDS, EACH, EACH_MAX = 200, 20, 200
JUDGED: Final = {
    "lost": ("durability",),
    "duplicates": ("exactly-once", "validity"),
    "divergences": ("agreement", "state-digest", "linearizability"),
    "accused": ("accountability",),
}
"""What the report counts, and the judges that find it."""


@dataclass(frozen=True)
class Outcome:
    """One session. `checked`: by judge; `objections`: by judge, what it said."""

    protocol: str
    seed: int
    broken: str
    asked: int
    rounds: int
    verdict: str
    acknowledged: int
    checked: dict[str, int]
    objections: dict[str, str]
    struck: dict[str, int]
    slowest_s: float
    seconds: float
    error: str = ""
    kept: str = field(default="", compare=False)


def play(protocol: str, seed: int, rounds: int, broken: str = "", out: Path | None = None) -> Outcome:
    """One session, judged. What is objected to is kept in `out`."""
    began = time.monotonic()
    with temporary_folder("replog-chaos-") as folder:
        session = Session(folder, protocol, seed, wrap=(BROKEN[broken], {}) if broken else None)
        told = asyncio.run(session.run(rounds, _remark))
        bad = out is not None and told.run.verdict is not Verdict.OK
        kept = _keep(session, out / f"{protocol}-{seed}") if out is not None and bad else ""
    return _outcome(told, rounds, broken, time.monotonic() - began, kept)


def _outcome(told: Told, asked: int, broken: str, seconds: float, kept: str) -> Outcome:
    run = told.run
    stalled = run.verdict is Verdict.OK and told.rounds < asked
    return Outcome(
        protocol=run.protocol,
        seed=run.seed,
        broken=broken,
        asked=asked,
        rounds=told.rounds,
        verdict=(Verdict.STALLED if stalled else run.verdict).value,
        acknowledged=run.acknowledged or 0,
        checked={name: check.checked for name, check in run.checks.items()},
        objections={name: check.detail for name, check in run.checks.items() if not check.ok},
        struck=dict(told.struck),
        slowest_s=round(max(told.recoveries, default=0.0), 2),
        seconds=round(seconds, 1),
        error=run.error,
        kept=kept,
    )


def _keep(session: Session, folder: Path) -> str:
    """Traces and diagnostics of all replicas, and what clients saw."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for node in range(session.config.n):
        for name in ("trace.jsonl", "node.log", "stderr.log"):
            shutil.copy(session.config.node_folder(node) / name, folder / f"node-{node}-{name}")
    history.write(folder / "history.jsonl", session.calls)
    return str(folder)


# ---------------------------------------------------------------------------------------------------------- the report


def report(protocol: str, outcomes: Sequence[Outcome]) -> str:
    """`raft: 200 rounds in 10 sessions, 31,204 acknowledged operations checked: 0 lost, 0 duplicates, ...`"""
    found = {
        name: sum(any(judge in one.objections for judge in judges) for one in outcomes)
        for name, judges in JUDGED.items()
    }
    done = f"{sum(one.rounds for one in outcomes)} rounds in {len(outcomes)} sessions"
    checked = sum(one.checked.get("linearizability", 0) for one in outcomes)
    said = ", ".join(f"{name} in {count} sessions" if count else f"0 {name}" for name, count in found.items())
    struck = sum((Counter(one.struck) for one in outcomes), Counter[str]())
    faults = ", ".join(f"{name} {count}" for name, count in sorted(struck.items()))
    slowest = max((one.slowest_s for one in outcomes), default=0.0)
    return (
        f"{protocol}: {done}, {checked:,} acknowledged operations checked: {said}; "
        f"stalled {sum(one.verdict == 'stalled' for one in outcomes)}, slowest recovery {slowest:g} s; struck: {faults}"
    )


def line_of(one: Outcome) -> str:
    head = f"{one.protocol} seed {one.seed}: {one.verdict}, {one.rounds} of {one.asked} rounds, {one.acknowledged}"
    told = [f"  {name}: {text}" for name, text in one.objections.items()] + ([f"  {one.error}"] if one.error else [])
    return "\n".join([f"{head} acknowledged, {one.seconds:g} s", *told, *([f"  kept: {one.kept}"] if one.kept else [])])


# ------------------------------------------------------------------------------------------------------------- resumed


def read(path: Path) -> list[Outcome]:
    if not path.is_file():
        return []
    return [Outcome(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, outcome: Outcome) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")


def sessions(rounds: int, each: int, first: int) -> Iterable[tuple[int, int]]:
    """Seed and rounds of each."""
    for number, begun in enumerate(range(0, rounds, each)):
        yield first + number, min(each, rounds - begun)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing objected to; 1: something was, or a session came to nothing."""
    parser = argparse.ArgumentParser(prog="python -m compare.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--protocol", choices=sorted(SIZES), action="append", help="both")
    parser.add_argument("--rounds", type=whole(1, 100_000), default=ROUNDS, help=f"of each protocol: {ROUNDS}")
    parser.add_argument("--each", type=whole(1, EACH_MAX), default=EACH, help=f"rounds of one session: {EACH}")
    parser.add_argument("--first", type=whole(0), default=1, help="seed of the first session: 1; each third under MACs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep outcomes there, and go on from those that are")
    parser.add_argument("--broken", choices=sorted(BROKEN), default="", help="replicas broken on purpose")
    given = parser.parse_args(arguments)
    found = {protocol: _all(protocol, given) for protocol in given.protocol or sorted(SIZES)}
    for protocol, outcomes in found.items():
        print(report(protocol, outcomes), flush=True)  # noqa: T201
    return int(any(one.verdict != Verdict.OK for outcomes in found.values() for one in outcomes))


def _all(protocol: str, given: argparse.Namespace) -> list[Outcome]:
    before = read(given.out / FILE) if given.out else []
    outcomes = []
    for seed, rounds in sessions(given.rounds, given.each, given.first):
        asked = (protocol, seed, rounds, given.broken)
        known = [one for one in before if (one.protocol, one.seed, one.asked, one.broken) == asked]
        if not known:
            known = [play(*asked, given.out)]
            if given.out:
                write(given.out / FILE, known[0])
        print(line_of(known[0]), flush=True)  # noqa: T201
        outcomes.append(known[0])
    return outcomes


def _remark(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
