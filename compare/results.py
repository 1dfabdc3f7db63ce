"""`results.json`: what a comparison found, run by run and cell by cell. `replog schema results` prints its JSON Schema.

Here: the model, the verdict of a run, and whether a cell is as expected. Not here: how it is shown (`compare.report`).
What was not found out is null, never 0 and never "held".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from compare.checkers import JUDGES, OWN, Check
from replog.config import rule_of
from replog.errors import ConfigError

if TYPE_CHECKING:
    from compare.rows import Row

VERSION: Literal[1] = 1


class Verdict(StrEnum):
    OK = "ok"
    STALLED = "stalled"
    UNSAFE = "unsafe"
    VACUOUS = "vacuous"
    ERROR = "error"


def _is_expectation(text: str) -> str:
    amount, _, verdict = text.partition(" ")
    if amount not in ("all", "some") or verdict not in ("ok", "stalled", "unsafe"):
        raise ValueError("must be 'all' or 'some', a space, and 'ok', 'stalled' or 'unsafe'")
    return text


Expectation = Annotated[str, AfterValidator(_is_expectation)]
"""`all ok`, `some unsafe`, `all stalled`, ...: what a scenario expects of all its seeds together."""


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CheckResult(Record):
    """What one judge found in one run."""

    ok: bool
    checked: int = Field(description="items that were held against something")
    detail: str = Field(default="", description="for a person: operations, replicas, index")


class Latency(Record):
    """Of acknowledged operations, milliseconds of the engine's own time."""

    p50: float
    p99: float
    max: float


Finding = Literal["held", "violated"] | None
"""None: no judge objects, but the run came to no verdict."""


class Run(Record):
    """One scenario, protocol, engine and seed. What a run that broke off would have told is None."""

    protocol: str
    scenario: str
    engine: Literal["sim", "live"]
    seed: int
    n: int
    f: int
    faulty: list[int] = Field(description="replicas that lied, or had crashed for good: no promise is made for them")
    verdict: Verdict
    safety: Finding = Field(description="null: an error, and no judge of safety had objected")
    liveness: Finding = Field(description="null: an error, and the judge of liveness had not objected")
    attack_actions: int | None = Field(default=None, description="acts of attackers that reached a correct replica")
    fault_actions: int | None = Field(
        default=None, description="faults of the environment that struck; of a schedule: the phases after its first"
    )
    acts: dict[str, int] = Field(default_factory=dict, description="what liars did, by name, where an attack tells")
    events: dict[str, int] = Field(default_factory=dict, description="what correct replicas went through meanwhile")
    checks: dict[str, CheckResult]
    submitted: int | None = Field(default=None, description="operations")
    acknowledged: int | None = Field(default=None, description="operations whose outcome a client learned")
    throughput_ops_s: float | None = None
    latency_ms: Latency | None = None
    unavailable_s: float | None = Field(
        default=None, description="the longest time without any acknowledgement while clients waited"
    )
    unavailable_windows_s: list[tuple[float, float]] | None = Field(
        default=None, description="such times of a tenth of a second or more: from, to, since the workload began"
    )
    messages_per_op: float | None = None
    bytes_per_op: float | None = None
    signatures_per_op: float | None = Field(default=None, description="made")
    macs_per_op: float | None = Field(default=None, description="of requests, made or checked")
    fsyncs_per_op: float | None = None
    replay: str = Field(description="the one command that repeats this run")
    error: str = Field(default="", description="why there is no verdict")


class Cell(Record):
    """All seeds of one scenario, protocol and engine."""

    protocol: str
    scenario: str
    engine: Literal["sim", "live"]
    expected: Expectation
    met: bool = Field(description="false as long as a run of it is missing")
    counts: dict[Verdict, int]


class Results(Record):
    version: Literal[1] = VERSION
    complete: bool = Field(default=True, description="false: interrupted, runs that were asked for are missing")
    meta: dict[str, Any]
    cells: list[Cell]
    runs: list[Run]

    @property
    def met(self) -> bool:
        return self.complete and all(cell.met for cell in self.cells)

    def rows(self) -> list[Row]:
        """A flat row for each run, as a data frame takes them: scenario, what a sweep has set (`network.loss`),
        protocol, engine, seed, n, f, verdict, figures. What is not known is None."""
        from compare import rows

        return rows.of_runs(self)

    def summary(self) -> list[Row]:
        """A flat row for each point, protocol and engine: how many runs ended `ok`, `stalled`, `unsafe`, `vacuous`,
        `error`, and the median of each figure. `NAME_low` and `NAME_high` are intervals at 95 %: Wilson's of the chance
        of a verdict, of a median by order statistics, None for fewer than five runs."""
        from compare import rows

        return rows.of_cells(self)

    def frame(self, *, summary: bool = False) -> Any:
        """`rows()`, or `summary()`, as a `pandas.DataFrame`. Raises ReplogError where pandas is not installed."""
        from compare import rows

        return rows.frame(self.summary() if summary else self.rows())

    def csv(self, *, summary: bool = False) -> str:
        """`rows()`, or `summary()`, as CSV with a line of names."""
        from compare import rows

        return rows.to_csv(self.summary() if summary else self.rows())


# --------------------------------------------------------------------------------------------------------- judgement

_ALL = (*JUDGES, *(judge for judges in OWN.values() for judge in judges))
SAFETY = frozenset(judge.name for judge in _ALL if judge.safety)


def verdict_of(checks: Mapping[str, Check], acknowledged: int, acts: Iterable[int]) -> Verdict:
    """A violation of safety is one however little else happened. `acts`: of what the scenario lists, attacks and
    faults, how much was carried out. A run in which nothing was acknowledged, the attack reached no correct replica, or
    no fault struck, proves nothing (HAZARDS X14)."""
    if any(not check.ok for name, check in checks.items() if name in SAFETY):
        return Verdict.UNSAFE
    if not acknowledged or not all(acts):
        return Verdict.VACUOUS
    return Verdict.OK if all(check.ok for check in checks.values()) else Verdict.STALLED


def is_met(expected: str, counts: Mapping[Verdict, int]) -> bool:
    """Whether these verdicts are what was expected. A vacuous run or an error is never as expected."""
    amount, _, verdict = expected.partition(" ")
    total, hits = sum(counts.values()), counts.get(Verdict(verdict), 0)
    if counts.get(Verdict.VACUOUS) or counts.get(Verdict.ERROR):
        return False
    return hits == total > 0 if amount == "all" else hits > 0


class CellKey(NamedTuple):
    protocol: str
    scenario: str
    engine: Literal["sim", "live"]


class Asked(NamedTuple):
    """What was asked for in one cell: so many runs, and what is expected of them."""

    runs: int
    expected: str


def cells_of(runs: Iterable[Run], asked: Mapping[CellKey, Asked]) -> list[Cell]:
    """One for each that was asked for. It is met only when all its runs are there."""
    counts: dict[CellKey, Counter[Verdict]] = {key: Counter() for key in asked}
    for run in runs:
        counts[CellKey(run.protocol, run.scenario, run.engine)][run.verdict] += 1
    return [
        Cell(
            **key._asdict(),
            expected=expected,
            met=counts[key].total() == number and is_met(expected, counts[key]),
            counts={verdict: counts[key][verdict] for verdict in Verdict if counts[key][verdict]},
        )
        for key, (number, expected) in asked.items()
    ]


# -------------------------------------------------------------------------------------------------------------- files


def save(results: Results, path: Path) -> None:
    path.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Results:
    """Raises ConfigError naming file, field and rule."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8: {error.reason} at byte {error.start}") from None
    try:
        return Results.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_refusal(error)}") from None


def _refusal(error: ValidationError) -> str:
    """Why a file is none that we can read: another program's, another release's, or broken at a place."""
    faults = {".".join(map(str, fault["loc"])): fault for fault in error.errors()}
    foreign = [name for name in ("", "cells", "runs") if name in faults and faults[name]["type"] != "list_type"]
    if foreign:
        where = f"{foreign[0]}: " if foreign[0] else ""
        return f"must be the results.json of a comparison: {where}{rule_of(faults[foreign[0]]['msg'])}"
    if "version" in faults:
        return f"version = {faults['version']['input']!r:.80}: must be {VERSION}, which is what this release reads"
    field, fault = next(iter(faults.items()))
    return f"{field}: {rule_of(fault['msg'])}"
