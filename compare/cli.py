"""`replog compare` and `replog demo`, joined to the command's tree through the entry point group `replog.commands`.

Here: flags, files, progress, exit codes. Not here: runs (`compare.runner`) and tables (`compare.report`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from replog.cli import options, output
from replog.cli.exits import ExitCode, WrongUsage, leave
from replog.cli.options import CostModelOption, JsonOption, VerboseOption
from replog.errors import ConfigError

if TYPE_CHECKING:  # the laboratory is loaded when it is used
    from compare.calibration.machine import Machine
    from compare.results import Results, Run
    from compare.scenario import Scenario

    OnRun = Callable[[Run, int, int], None]

DEFAULT: Final = ("no-fault", "leader-crash", "equivocating-leader")
SEEDS: Final = "5"
SEEDS_OF_ALL: Final = "10"
SEEDS_MAX: Final = 1_000_000


class EngineName(StrEnum):
    SIM = "sim"
    LIVE = "live"


def app_commands(app: typer.Typer) -> None:
    """Add our commands to the tree."""
    from compare import cli_experiment, cli_hunt, cli_judge

    app.command("compare", rich_help_panel=options.COMPARE)(compare)
    app.command("demo", rich_help_panel=options.RUN)(demo)
    cli_experiment.add_to(app)
    cli_judge.add_to(app)
    cli_hunt.add_to(app)


def compare(
    scenarios: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCENARIO", help="Names, or paths that end in .toml; `list WHAT` shows the names."),
    ] = None,
    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", help="Only this protocol; may be given several times.")
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Simulated world or real processes.")] = EngineName.SIM,
    seeds: Annotated[
        str | None, typer.Option(metavar="N|A-B", help="How many seeds, from 1 on, or which.", show_default=SEEDS)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Only this seed, in place of --seeds.", min=0)] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: runs/NAME-TIME. Never overwritten.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help=f"The matrix: every scenario of the package, {SEEDS_OF_ALL} seeds each.")
    ] = False,
    attack: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="This attack in each scenario; of one's own: MODULE:CLASS or FILE.py:CLASS."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE,...",
            help="A field of the scenario, as network.loss=0,0.1; given several times: every combination.",
        ),
    ] = None,
    costs: Annotated[
        bool, typer.Option("--costs", help="Messages, bytes, signatures, MACs, fsyncs per operation.")
    ] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Leave trace and history of each run in DIR/traces.")] = False,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Leave what replicas accuse others of in DIR/evidence, signed for real.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Processes for simulated runs.")] = None,
    on: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Of a Dask scheduler whose workers make the runs: tcp://HOST:8786."),
    ] = None,
    cost_model: CostModelOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Put both protocols through the same faults and lies, and judge what they did.

    Example: replog compare equivocating-leader --seeds 20, or replog compare list scenarios. replog compare diff A B
    tells what changed from one result to another.
    """
    if scenarios and scenarios[0] == "list":
        _list(scenarios[1:], json)
        return
    if scenarios and scenarios[0] == "diff":
        _diff(scenarios[1:], json)
        return
    if every and (scenarios or settings or attack is not None):
        one_of = {"SCENARIO": scenarios and scenarios[0], "--attack": attack, "--set": settings and settings[0]}
        beside = next(f"{name} = {value}" for name, value in one_of.items() if value)
        raise WrongUsage(f"{beside}: must not stand beside --all, which takes every scenario as it is")
    if on is not None and workers is not None:
        raise WrongUsage(f"--workers = {workers}: must not stand beside --on: the scheduler has its own")
    from compare import report, results, sweep
    from compare.runner import run

    chosen_values = sweep.read(settings or [])
    numbers = seeds_of(seeds, seed, SEEDS_OF_ALL if every else SEEDS)
    chosen = _all(protocol, engine) if every else _named(scenarios, attack)
    prices = None if cost_model is None else measured(cost_model, engine)
    names = ["all"] if every else [scenario.name for scenario in chosen]
    with folder_for(out, names) as folder, kept_if_interrupted(folder), progress(json, verbose) as on_run:
        traces, files = folder / "traces" if trace else None, folder / "evidence" if evidence else None
        found = run(
            chosen,
            None if every else protocol or None,
            engine.value,
            numbers,
            set=chosen_values,
            workers=workers,
            on=on,
            traces=traces,
            evidence=files,
            on_run=on_run,
            machine=prices,
        )
        results.save(found, folder / "results.json")
        if settings:
            _save_points(found, folder)
    if json:
        output.line(found.model_dump_json())
    else:
        _show(found, costs, every=every, swept=bool(settings))
        output.remark(f"results: {folder / 'results.json'}")
        if files is not None:
            output.remark(_accused(files))
    leave(report.exit_code(found))


def _show(found: Results, costs: bool, *, every: bool, swept: bool) -> None:
    from compare import report

    if every:
        report.show_matrix(found)
    elif swept:
        report.show_sweep(found, costs)
    else:
        report.show(found, costs)


def _save_points(found: Results, folder: Path) -> None:
    """A row a point and protocol, for other programs."""
    import json

    (folder / "sweep.csv").write_text(found.csv(summary=True), encoding="utf-8")
    (folder / "sweep.json").write_text(json.dumps(found.summary(), indent=1) + "\n", encoding="utf-8")


def _diff(names: list[str], json: bool) -> None:
    """Leaves with 1 if a verdict got worse."""
    if len(names) != 2:
        raise WrongUsage(f"compare diff {' '.join(names)}: must be two results.json, or the folders that they are in")
    from compare import diff, results

    paths = [path / "results.json" if path.is_dir() else path for path in map(Path, names)]
    found = diff.difference(*map(results.load, paths))
    if json:
        output.line(found.model_dump_json())
    else:
        for line in diff.lines(found):
            output.line(line)
    leave(ExitCode.NOT_AS_EXPECTED if found.worse else ExitCode.AS_EXPECTED)


def _named(names: list[str] | None, attack: str | None) -> list[Scenario]:
    from compare.scenario import find, under_attack

    chosen = [find(name) for name in names or (DEFAULT if attack is None else ("no-fault",))]
    return chosen if attack is None else [under_attack(scenario, attack) for scenario in chosen]


def measured(file: Path, engine: EngineName) -> Machine:
    """The machine in a file. Raises ConfigError, also for an engine that is no model of one."""
    from compare.calibration.machine import read

    if engine is not EngineName.SIM:
        raise WrongUsage(
            f"--cost-model = {file}: must not stand beside --engine = {engine}, which has costs of its own"
        )
    return read(file)


def _all(wanted: list[str] | None, engine: EngineName) -> list[Scenario]:
    """Of the package's scenarios those that this engine can play, for the protocols that they are for. Raises
    WrongUsage if there is none."""
    from compare.scenario import catalogue

    chosen = []
    for scenario in catalogue().values():
        sides = {name: side for name, side in scenario.protocols.items() if not wanted or name in wanted}
        if sides and engine.value in scenario.engines:
            chosen.append(scenario.model_copy(update={"protocols": sides}))
    if not chosen:
        raise WrongUsage(f"--protocol = {', '.join(wanted or [])}: no scenario on {engine} is for it")
    return chosen


def _accused(folder: Path) -> str:
    found = sorted(folder.glob("*/node-*/*.json"))
    if not found:
        return "evidence: none, nobody is accused of anything that can be shown"
    return f"evidence: {len(found)} files in {folder}; check one with replog evidence verify {found[0]}"


def demo(
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: runs/demo-TIME. Never overwritten.")] = None,
    verbose: VerboseOption = False,
) -> None:
    """Both protocols without a fault, with a crash, with a lying leader: on real processes, then simulated.

    Example: replog demo
    """
    from compare import demo as show

    with folder_for(out, ["demo"]) as folder, kept_if_interrupted(folder):
        code = show.run(folder, verbose=verbose)
    leave(code)


# ------------------------------------------------------------------------------------------------------ what was asked


def seeds_of(text: str | None, single: int | None = None, default: str = SEEDS) -> list[int]:
    """`20` -> 1 .. 20, `100-119` -> these; or `single`. Raises WrongUsage naming value and rule."""
    if single is not None:
        if text is not None:
            raise WrongUsage(f"--seed = {single}: must not stand beside --seeds = {text!r}: one or the other")
        return [single]
    text = default if text is None else text
    match = re.fullmatch(r"(\d{1,12})(?:-(\d{1,12}))?", text)
    if match is None:
        raise WrongUsage(f"--seeds = {text!r}: must be a number, as 20, or a range, as 100-119")
    first, last = (1, int(match[1])) if match[2] is None else (int(match[1]), int(match[2]))
    if not 0 < last - first + 1 <= SEEDS_MAX:
        raise WrongUsage(f"--seeds = {text!r}: must be between 1 and {SEEDS_MAX:,} seeds")
    return list(range(first, last + 1))


def new_folder(out: Path | None, names: list[str]) -> Path:
    """A folder that was not there, or is empty. Raises ConfigError for one that holds something."""
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            if any(out.iterdir()):
                raise ConfigError(f"--out = {out}: holds something already, and nothing is overwritten")
        except OSError as error:
            raise ConfigError(f"--out = {out}: {error.strerror}") from None
        return out
    stem = f"{Path(names[0]).stem if len(names) == 1 else 'compare'}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    for number in range(1, 1000):
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}; choose another place with --out") from None
        return folder
    raise ConfigError(f"runs/{stem}: there are a thousand of it; choose another place with --out")


@contextmanager
def folder_for(out: Path | None, names: list[str]) -> Iterator[Path]:
    """A new folder, which is not left behind if nothing came to be in it; one that was asked for stays."""
    folder = new_folder(out, names)
    try:
        yield folder
    finally:
        if out is None and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def kept_if_interrupted(folder: Path) -> Iterator[None]:
    """Ctrl-C, or a scheduler that is gone: say how far it came, and keep that, marked as incomplete."""
    from compare import results
    from compare.runner import Broken, Interrupted

    try:
        yield
    except (Interrupted, Broken) as ended:
        if isinstance(ended, Interrupted):
            output.remark(f"interrupted: {ended}")
        if ended.results.runs:
            results.save(ended.results, folder / "results.json")
            output.remark(f"results, marked as incomplete: {folder / 'results.json'}")
        raise


@contextmanager
def progress(quiet: bool, verbose: bool = False) -> Iterator[OnRun | None]:
    """On stderr: a bar on a terminal, else a line a quarter, or a line a run if `verbose`; nothing if `quiet`."""
    if quiet:
        yield None
    elif verbose:
        yield _each
    elif sys.stderr.isatty():
        yield from _bar()
    else:
        yield _quarters


def _bar() -> Iterator[OnRun]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("runs", total=None)
        yield lambda _, done, total: bar.update(task, completed=done, total=total)


def _quarters(_: Run, done: int, total: int) -> None:
    if done * 4 // total > (done - 1) * 4 // total:
        output.remark(f"{done} of {total} runs")


def _each(run: Run, done: int, total: int) -> None:
    output.remark(f"{done} of {total}: {run.protocol} {run.scenario} on {run.engine}, seed {run.seed}: {run.verdict}")


# ------------------------------------------------------------------------------------------------------------ the lists


def _list(what: list[str], json: bool) -> None:
    from compare.catalogue import LISTS

    if len(what) != 1 or what[0] not in LISTS:
        raise WrongUsage(f"compare list {' '.join(what)}: must be one of {', '.join(LISTS)}")
    rows = list(LISTS[what[0]]())
    if json:
        output.as_json([{"name": name, "summary": summary} for name, summary in rows])
    else:
        output.table(("name", "what it is"), rows)
