"""A case: everything that one hunt is. It is a scenario with strikes, and the file `counterexample.toml` holds one.

Here: the model, reading and writing it. Not here: what a strike does (`compare.hunt.trial`), who draws cases
(`compare.hunt.swarm`).
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from compare.environment import Part
from compare.scenario import Scenario, Seconds
from replog.config import first_fault
from replog.errors import ConfigError

Strategy = Literal["swarm", "twins", "byzzfuzz"]

Kind = Literal[
    "crash",
    "pause",
    "isolate",
    "deaf",
    "mute",
    "split",
    "bridge",
    "unreachable",
    "loss",
    "duplicate",
    "reorder",
    "slow",
    "clock",
    "disk",
]
"""crash: with restart. isolate, deaf, mute: no replica hears it or is heard by it, or one of the two. split: two sides.
bridge: the first two of `nodes` lose each other and reach all others. unreachable: for clients. loss, duplicate,
reorder: with chance `amount` on every link. slow: each turn takes `amount` us longer; disk: each write does. clock: it
gains `amount` us a second, and the time of day jumps by as much."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_Node = Annotated[int, Field(ge=0, le=99, strict=True)]


class Strike(Part):
    """A fault of the environment, from `start_s` to `end_s` after the clients began."""

    fault: Kind
    nodes: Literal["leader"] | Annotated[tuple[_Node, ...], Field(max_length=100)] = "leader"
    start_s: Seconds
    end_s: Seconds
    amount: float = Field(default=0, ge=-1_000_000, le=1_000_000)

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.end_s <= self.start_s:
            raise ValueError(f"end_s = {self.end_s}: must be after start_s = {self.start_s}")
        if self.fault in ("loss", "duplicate", "reorder") and not 0 <= self.amount <= 1:
            raise ValueError(f"amount = {self.amount}: {self.fault} is a chance, between 0 and 1")
        return self


class Cut(Part):
    """In this round only messages between the given replicas arrive: of a drop-and-mutate schedule."""

    round: int = Field(ge=0, le=10_000)
    group: tuple[_Node, ...]


class Twist(Part):
    """In this round a liar tells these replicas something else, or nothing."""

    round: int = Field(ge=0, le=10_000)
    liar: _Node
    to: tuple[_Node, ...]
    withhold: bool = False


class Sides(Part):
    """From `start_s` on the first face of each twin is heard by `first` alone, the second by all others."""

    start_s: Seconds
    first: tuple[_Node, ...]


class Case(Scenario):
    """Invariant: a run is a function of its case, in any process."""

    protocol: str
    seed: int = Field(ge=0)
    strategy: Strategy = "swarm"
    mutant: str = Field(default="", description="the broken core that it was run with; empty: the honest one")
    judge: str = Field(default="", description="who objected")
    real_signatures: bool = False
    strikes: tuple[Strike, ...] = ()
    cuts: tuple[Cut, ...] = ()
    twists: tuple[Twist, ...] = ()
    cuts_end_s: Seconds = 0.0
    twins: tuple[_Node, ...] = Field(default=(), description="replicas with two faces")
    sides: tuple[Sides, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        late = next((strike for strike in self.strikes if strike.end_s >= self.duration_s), None)
        if late is not None:
            raise ValueError(f"strikes: {late.fault} must end before duration_s = {self.duration_s}")
        return self

    @property
    def attacked(self) -> bool:
        return super().attacked or bool(self.twins or self.twists)

    @property
    def faulted(self) -> bool:
        """Where a liar twists rounds, cuts beside it need not have met any message."""
        return super().faulted or bool(self.strikes or (self.cuts and not self.attacked))

    @property
    def faults_end_s(self) -> float:
        cuts_end_s = self.cuts_end_s if self.cuts else 0.0
        return max([super().faults_end_s, cuts_end_s, *(strike.end_s for strike in self.strikes)])

    @property
    def events(self) -> int:
        """How many things happen in it."""
        return sum(map(len, (self.timeline, self.strikes, self.cuts, self.twists, self.sides)))


def changed(case: Case, **fields: Any) -> Case:
    """The same with other fields, checked anew."""
    return Case.model_validate(case.model_dump() | fields)


# --------------------------------------------------------------------------------------------------------------- files


def load(path: Path) -> Case:
    """Raises ConfigError naming file, field and rule."""
    try:
        return Case.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8: {error.reason} at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_fault(error)}") from None


def to_toml(case: Case) -> str:
    """What `load` reads back as the same case; what is as by default is left out."""
    data = case.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    plain = [f"{name} = {_value(value)}" for name, value in data.items() if not _is_table(value)]
    tables = [line for name, value in data.items() if _is_table(value) for line in _table(name, value)]
    return "\n".join([*plain, *tables]) + "\n"


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _table(name: str, value: Any) -> list[str]:
    header = f"[{name}]" if isinstance(value, dict) else f"[[{name}]]"
    lines = []
    for item in [value] if isinstance(value, dict) else value:
        lines += ["", header, *(f"{key} = {_value(part)}" for key, part in item.items())]
    return lines


def _value(value: Any) -> str:
    """Strings and numbers of JSON are strings and numbers of TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(part)}" for key, part in value.items() if part is not None) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
