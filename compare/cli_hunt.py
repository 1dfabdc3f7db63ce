"""`replog hunt`: the search for schedules that break a protocol.

Here: flags, progress, what is printed, exit codes. Not here: the search (`compare.hunt`).
"""

# ruff: noqa: ARG001  --verbose is part of every signature and read by `replog.cli.run`

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from replog.cli import options, output
from replog.cli.exits import ExitCode, WrongUsage, leave
from replog.cli.options import JsonOption, VerboseOption

if TYPE_CHECKING:  # the laboratory is loaded when it is used
    from compare.hunt.search import Asked, Found, Progress
    from compare.hunt.trial import Outcome

BUDGET: Final = "10m"
UNITS: Final = {"s": 1, "m": 60, "h": 3600}
HOURS_MAX: Final = 1_000
TOLD_EVERY_S: Final = 10.0


class StrategyName(StrEnum):
    SWARM = "swarm"
    TWINS = "twins"
    BYZZFUZZ = "byzzfuzz"


def add_to(app: typer.Typer) -> None:
    app.command("hunt", rich_help_panel=options.COMPARE)(hunt)


def hunt(
    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", help="Only this protocol; may be given several times.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long: 30s, 10m, 2h.", show_default=BUDGET)
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=10_000_000, help="Up to this seed of each protocol, in place of a time.")
    ] = None,
    strategy: Annotated[StrategyName, typer.Option(help="How schedules are drawn.")] = StrategyName.SWARM,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Processes.")] = 1,
    failures: Annotated[int, typer.Option(min=1, max=1_000, help="Stop after so many failures.")] = 1,
    db: Annotated[Path, typer.Option(metavar="DIR", help="Where seeds that were done, and failures, are kept.")] = Path(
        "replog-hunts"
    ),
    mutant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Hunt this broken core; `list` shows them.")
    ] = None,
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Which broken cores are found, by whom and how soon.")
    ] = False,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Run a counterexample again, nothing else.")
    ] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Search for faults and lies that break a protocol, and shrink what is found.

    Example: replog hunt --protocol raft --budget 1m, or replog hunt --replay replog-hunts/NAME/counterexample.toml
    """
    if replay is not None:
        _alone("--replay", protocol, budget, seeds, mutant, mutants or None)
        _replay(replay, json)
    if mutant == "list":
        _list(json)
        return
    asked = _asked(protocol, budget, seeds, strategy, workers, failures, mutant)
    if mutants:
        _alone("--mutants", mutant)
        _score(asked, budget, seeds, json)
    _search(asked, db, json)


# ------------------------------------------------------------------------------------------------------ what was asked


def _alone(flag: str, *others: object) -> None:
    if any(other is not None for other in others):
        raise WrongUsage(f"{flag}: must stand without --protocol, --budget, --seeds, --mutant, --mutants beside it")


def seconds_of(text: str) -> float:
    """`90s`, `10m`, `1.5h`. Raises WrongUsage naming value and rule."""
    match = re.fullmatch(r"(\d{1,7}(?:\.\d{1,3})?)([smh])", text)
    seconds = float(match[1]) * UNITS[match[2]] if match is not None else 0.0
    if not 0 < seconds <= HOURS_MAX * 3600:
        raise WrongUsage(f"--budget = {text!r:.40}: must be a time above 0, as 30s, 10m or 2h, at most {HOURS_MAX}h")
    return seconds


def _asked(
    protocol: list[str] | None,
    budget: str | None,
    seeds: int | None,
    strategy: StrategyName,
    workers: int,
    failures: int,
    mutant: str | None,
) -> Asked:
    from compare.hunt.search import LIES_ONLY, Asked, check
    from replog import protocols

    known = protocols.names()
    for name in protocol or ():
        if name not in known:
            raise WrongUsage(f"--protocol = {name!r:.40}: known are {', '.join(known)}")
    names = tuple(dict.fromkeys(protocol or (("pbft",) if strategy in LIES_ONLY else ("pbft", "raft"))))
    if mutant is not None:
        from compare.mutants.catalogue import mutant_named

        names = (mutant_named(mutant).protocol,)
        if protocol and names != tuple(dict.fromkeys(protocol)):
            raise WrongUsage(f"--protocol = {protocol[0]!r:.40}: {mutant} is a broken core of {names[0]}")
    seconds = seconds_of(budget if budget is not None else BUDGET) if budget is not None or seeds is None else None
    asked = Asked(names, strategy.value, seconds, seeds, workers, failures, mutant or "")
    check(asked)
    return asked


# ---------------------------------------------------------------------------------------------------------- the search


def _search(asked: Asked, db: Path, json: bool) -> None:
    from compare.hunt.search import search
    from compare.hunt.store import Store

    with Store(db) as store:
        try:
            found = search(asked, store, _teller(json), _said(json))
        except KeyboardInterrupt:
            output.remark(f"interrupted: what was done is in {db}; the same command goes on from there")
            raise
    if json:
        output.as_json(_as_data(found))
    else:
        _show(found)
    leave(_code(found))


def _said(quiet: bool) -> Callable[[str], None]:
    return (lambda _: None) if quiet else output.remark


def _teller(quiet: bool) -> Callable[[Progress], None]:
    """A line now and then on stderr."""
    last = time.monotonic()

    def tell(now: Progress) -> None:
        nonlocal last
        if quiet or time.monotonic() - last < TOLD_EVERY_S:
            return
        last = time.monotonic()
        left = "" if now.left_s is None else f", {clock(now.left_s)} left"
        what = f"{now.done} seeds, {now.failed} failed, {now.vacuous} vacuous"
        output.remark(f"{what}, {now.per_s:.1f} a second{left}")

    return tell


def clock(seconds: float) -> str:
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )


def _show(found: Found) -> None:
    rows = [
        (
            name,
            str(one.seeds),
            str(one.failed),
            str(one.vacuous),
            str(one.real),
            f"{one.acknowledged / max(1, one.seeds):.0f}",
            f"{one.cpu_s / max(1, one.seeds):.3f}",
            str(one.over),
        )
        for name, one in found.totals.items()
    ]
    heads = ("protocol", "seeds", "failed", "vacuous", "signed for real", "acknowledged", "CPU s", "above 0.3 s")
    output.table(heads, rows)
    for path, outcome in found.counterexamples:
        output.line(f"{outcome.protocol} seed {outcome.seed}: {outcome.judge}: {outcome.detail}")
        output.line(f"  {path}")
        output.line(f"  replog hunt --replay {path}")
    output.remark(f"{found.new} seeds now, in {found.seconds:.1f} s")


def _as_data(found: Found) -> dict[str, Any]:
    return {
        "seconds": round(found.seconds, 3),
        "seeds_now": found.new,
        "protocols": {name: asdict(one) for name, one in found.totals.items()},
        "replayed": [_told(path, outcome) for path, outcome in found.replayed],
        "counterexamples": [_told(path, outcome) for path, outcome in found.counterexamples],
    }


def _told(path: Path, outcome: Outcome) -> dict[str, Any]:
    return {"file": str(path), "replay": f"replog hunt --replay {path}", **asdict(outcome)}


def _code(found: Found) -> ExitCode:
    """Safety before liveness; nothing but vacuous seeds proves nothing."""
    failed = [outcome for _, outcome in (*found.counterexamples, *found.replayed) if outcome.failed]
    if failed:
        return max(
            (code_of(outcome) for outcome in failed),
            key=(ExitCode.STALLED, ExitCode.OUR_BUG, ExitCode.SAFETY_VIOLATED).index,
        )
    lived = any(one.seeds > one.vacuous for one in found.totals.values())
    return ExitCode.AS_EXPECTED if lived else ExitCode.VACUOUS


def code_of(outcome: Outcome) -> ExitCode:
    if outcome.judge == "error":
        return ExitCode.OUR_BUG
    return ExitCode.STALLED if outcome.judge == "liveness" else ExitCode.SAFETY_VIOLATED


# -------------------------------------------------------------------------------------------------------------- replay


def _replay(path: Path, json: bool) -> None:
    from compare.hunt.search import replay

    outcome = replay(path)
    if json:
        output.as_json(_told(path, outcome))
    elif outcome.failed:
        output.line(f"{outcome.protocol} seed {outcome.seed}: {outcome.verdict}: {outcome.judge}: {outcome.detail}")
    else:
        output.line(f"{outcome.protocol} seed {outcome.seed}: {outcome.verdict}: nobody objects")
    leave(code_of(outcome) if outcome.failed else ExitCode.AS_EXPECTED)


# ------------------------------------------------------------------------------------------------------------- mutants


def _list(json: bool) -> None:
    from compare.mutants.catalogue import catalogue

    rows = [(mutant.name, mutant.protocol, mutant.hazard, mutant.summary) for mutant in catalogue().values()]
    heads = ("name", "protocol", "hazard", "what is wrong with it")
    if json:
        output.as_json([dict(zip(("name", "protocol", "hazard", "summary"), row, strict=True)) for row in rows])
    else:
        output.table(heads, rows)


def _score(asked: Asked, budget: str | None, seeds: int | None, json: bool) -> None:
    from compare.hunt import score

    seconds = asked.seconds if budget is not None else None
    found = score.run(asked.protocols, seeds or score.SEEDS, seconds, output.remark, asked.workers)
    if json:
        output.as_json(score.as_data(found))
    else:
        output.table(*score.as_table(found))
        output.line(score.summary(found))
    leave(ExitCode.AS_EXPECTED if all(one.caught_by for one in found) else ExitCode.NOT_AS_EXPECTED)
