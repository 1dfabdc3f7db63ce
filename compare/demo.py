"""`replog demo`: the three scenarios on both protocols, on real processes and then simulated, and what they show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console

from compare import report, results
from compare.cli import DEFAULT as SCENARIOS
from compare.results import Results, Run, Verdict
from compare.runner import run as run_many
from replog.cli import output
from replog.cli.exits import ExitCode

PROTOCOLS: Final = ("pbft", "raft")
SEEDS: Final = 5
"""Of the simulated runs; live ones are made once."""


def run(out: Path, verbose: bool = False) -> ExitCode:
    """Make the runs, print the table and a paragraph; results in `out`."""
    output.remark("live: one process a replica, real links and disks, one run each")
    live = run_many(SCENARIOS, PROTOCOLS, "live", 1, on_run=_each)
    output.remark(f"sim: virtual time, {SEEDS} seeds each")
    sim = run_many(SCENARIOS, PROTOCOLS, "sim", SEEDS, on_run=_each if verbose else None)
    both = Results(meta={"live": live.meta, "sim": sim.meta}, cells=live.cells + sim.cells, runs=live.runs + sim.runs)
    results.save(both, out / "results.json")
    console = Console(width=report.WIDTH, highlight=False, markup=False)
    report.show(both, console=console)
    console.print()
    for text in shown(both):
        console.print(text)
    output.remark(f"results: {out / 'results.json'}")
    return report.exit_code(both)


def _each(run: Run, done: int, total: int) -> None:
    output.remark(f"  {done} of {total}: {run.protocol} {run.scenario}: {run.verdict}")


# ----------------------------------------------------------------------------------------------------- what it shows


def shown(found: Results) -> Iterator[str]:
    """One paragraph, made from the results and nothing else."""
    yield " ".join([_sentence(found, "pbft"), _sentence(found, "raft"), *_lesson(found)])
    broken = _first_unsafe(found)
    if broken is not None:
        yield f"\n{broken.protocol}, {broken.scenario}, {broken.engine}, seed {broken.seed}; the judge of agreement:"
        yield from (f"  {part}" for part in _first_problem(broken.checks["agreement"].detail))


def _sentence(found: Results, protocol: str) -> str:
    """What became of one protocol: "PBFT holds three times: ..."."""
    held, broke = [], []
    for scenario in SCENARIOS:
        verdicts = [run.verdict for run in found.runs if (run.protocol, run.scenario) == (protocol, scenario)]
        good = verdicts.count(Verdict.OK)
        if verdicts and good == len(verdicts):
            held.append(scenario)
        elif verdicts:
            worst = next(verdict for verdict in report.WORST if verdict in verdicts)
            broke.append(f"{worst} in {verdicts.count(worst)} of {len(verdicts)} runs of {scenario}")
    name = {"pbft": "PBFT", "raft": "Raft"}.get(protocol, protocol)
    times = {1: "once", 2: "twice", 3: "three times"}.get(len(held), f"{len(held)} times")
    text = f"{name} holds {times} ({', '.join(held)})" if held else f"{name} holds never"
    return text + (f" and is {', '.join(broke)}." if broke else ".")


def _lesson(found: Results) -> Iterator[str]:
    outages = [run.unavailable_s for run in found.runs if run.scenario == "leader-crash"]
    known = [outage for outage in outages if outage is not None]
    if known:
        yield f"After the crash of a leader clients waited at most {max(known):.1f} s."
    broken = _first_unsafe(found)
    if broken is not None:
        liar = ", ".join(map(str, broken.faulty))
        yield (
            f"Under the equivocating leader correct replicas of {broken.protocol} disagree: node {liar} gave each side "
            f"of the cluster its own entries for the same places of the log, "
            f"{broken.attack_actions} times to replicas that believed it, and clients were told that both are done. "
            f"Nobody's signature was forged. One liar is enough against a protocol that is made for crashes alone."
        )


def _first_problem(detail: str) -> Iterator[str]:
    """The parts of the first problem: the entries, then what clients accepted."""
    for place, part in enumerate(detail.split("; ")):
        if place and part.startswith("index "):
            return
        yield part


def _first_unsafe(found: Results) -> Run | None:
    """The run that is shown: live before simulated."""
    unsafe = [run for run in found.runs if run.verdict is Verdict.UNSAFE and not run.checks["agreement"].ok]
    return next(iter(unsafe), None)
