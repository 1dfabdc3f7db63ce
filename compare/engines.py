"""Whether simulated and real replicas come to the same verdicts: `python -m compare.engines`.

Each scenario is played once by each protocol on each engine, with one seed, and judged by the same judges. The seed
fixes what is asked and who is struck on both; timing is real on one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from compare import runner
from compare.results import Results, Run, Verdict, save
from compare.runner import OnRun
from compare.scenario import find
from replog.cli import output
from replog.cli.exits import ExitCode, leave
from replog.errors import ConfigError

TWELVE: Final = (
    "no-fault",
    "bank",
    "open-loop",
    "leader-crash",
    "paused-leader",
    "rolling-restarts",
    "rack-lost",
    "crash-beyond",
    "equivocating-leader",
    "lie-in-reply",
    "mute-to-some",
    "stale-read",
)
"""Without a fault, within what the protocols stand, and beyond it: among them all verdicts."""
ENGINES: Final = ("sim", "live")


class Row(NamedTuple):
    """One scenario and protocol. A run that is vacuous or broke off agrees with nothing."""

    scenario: str
    protocol: str
    seed: int
    sim: Run
    live: Run

    @property
    def same(self) -> bool:
        return self.sim.verdict is self.live.verdict and self.sim.verdict not in (Verdict.VACUOUS, Verdict.ERROR)

    @property
    def why(self) -> str:
        """What the judges of the two engines found wrong, where they differ."""
        if self.same:
            return ""
        return "; ".join(f"{run.engine}: {_reason(run)}" for run in (self.sim, self.live) if _reason(run))


def played(scenarios: Sequence[str] = TWELVE, seed: int = 1, on_run: OnRun | None = None) -> tuple[Results, list[Row]]:
    """Every scenario with every protocol that it names, on both engines. Raises ConfigError for one that cannot be
    played on both."""
    for name in scenarios:
        if missing := set(ENGINES) - set(find(name).engines):
            raise ConfigError(f"scenario {name}: runs on {', '.join(find(name).engines)}, not on {missing.pop()}")
    results = runner.run(scenarios, None, ENGINES, [seed], on_run=on_run)
    runs = {(run.scenario, run.protocol, run.engine): run for run in results.runs}
    pairs = [(run.scenario, run.protocol) for run in results.runs if run.engine == "sim"]
    return results, [Row(*pair, seed, runs[*pair, "sim"], runs[*pair, "live"]) for pair in pairs]


def _reason(run: Run) -> str:
    wrong = [f"{name}: {check.detail}" for name, check in run.checks.items() if not check.ok]
    return (run.error or "; ".join(wrong))[:300]


def table(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    return [
        (
            row.scenario,
            row.protocol,
            row.sim.verdict,
            row.live.verdict,
            row.sim.acknowledged,
            row.live.acknowledged,
            "yes" if row.same else f"NO: {row.why}",
        )
        for row in rows
    ]


HEADS: Final = ("scenario", "protocol", "simulated", "live", "acknowledged, simulated", "live", "same")


def main(
    scenarios: Annotated[list[str] | None, typer.Argument(help="In place of the twelve.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
) -> None:
    """Play scenarios on both engines and compare their verdicts."""

    def said(run: Run, done: int, total: int) -> None:
        output.remark(f"{done} of {total}: {run.scenario}, {run.protocol} on {run.engine}: {run.verdict}")

    results, rows = played(tuple(scenarios or TWELVE), seed, said)
    output.table(HEADS, table(rows))
    if json_file is not None:
        save(results, json_file)
    if not all(row.same for row in rows):
        leave(ExitCode.NOT_AS_EXPECTED)


if __name__ == "__main__":
    typer.run(main)
