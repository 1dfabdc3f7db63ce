"""What an experiment is, and what every experiment finds: tables, pictures, and comparisons with published figures.

Here: the plug and the form of the report, which is also the file `experiment.json`. Not
here: how trials are run (`run`) and shown (`show`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

VERSION: Final = 1
Cell = str | int | float | None


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Table(Record):
    """Figures as they were measured; None where there is none."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


class Axis(Record):
    label: str
    least: float
    most: float
    logarithmic: bool = False


class Line(Record):
    name: str
    points: list[tuple[float, float]]
    steps: bool = Field(default=False, description="the value holds until the next point: a distribution")
    dashed: bool = Field(default=False, description="computed or published, not measured")


class Mark(Record):
    """A single published or computed point, with its interval if it is a measured one."""

    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


class Picture(Record):
    """One pair of axes with what is drawn on it; `name` becomes the name of its file."""

    name: str
    title: str
    x: Axis
    y: Axis
    lines: list[Line] = []
    marks: list[Mark] = []


class Comparison(Record):
    """One published figure or law, and what this run says to it."""

    what: str
    source: str = Field(description="paper and section")
    published: str
    measured: str
    rule: str = Field(description="what has to hold")
    holds: bool


class Findings(Record):
    tables: list[Table]
    pictures: list[Picture]
    comparisons: list[Comparison]
    notes: list[str] = Field(default=[], description="what the figures rest on, for a reader")
    files: dict[str, str] = Field(default={}, description="more that is left beside the report: name and text")


class Report(Findings):
    version: Literal[1] = VERSION
    experiment: str
    complete: bool = Field(description="false: interrupted, trials that were asked for are missing")
    trials: int
    meta: dict[str, Any]

    @property
    def met(self) -> bool:
        return self.complete and all(one.holds for one in self.comparisons)


Job = TypeVar("Job")
Sample = TypeVar("Sample")


class Experiment(ABC, Generic[Job, Sample]):
    """A plan, one trial, and what many trials say together. Jobs and samples travel between processes."""

    name: ClassVar[str]
    summary: ClassVar[str]
    runs: ClassVar[int]
    """Seeds where nobody says how many."""

    @abstractmethod
    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        """Every trial to make, those of one seed together: what is interrupted has then measured some of everything."""

    @abstractmethod
    def measure(self, job: Job) -> Sample:
        """One trial. The same job gives the same sample on every machine."""

    @abstractmethod
    def findings(self, measured: Sequence[tuple[Job, Sample]]) -> Findings:
        """What came out, of as many trials as there are. A setting without any is left out."""
