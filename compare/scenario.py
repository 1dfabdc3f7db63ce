"""Scenarios: one named fault or lie, one workload, one network, and what is expected of each protocol.

Here: the model and reading it from TOML. Not here: what faults and attacks do (`compare.faults`, `compare.attacks`),
nor running one (`compare.runner`, `compare.live`). The same file runs on both engines.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from compare.attacks import ATTACKS, AttackKind, attack_of
from compare.faults import FAULTS, Engine, Fault
from compare.results import Expectation
from replog.config import first_fault, rule_of
from replog.errors import ConfigError

KEBAB: Final = r"^[a-z0-9]+(-[a-z0-9]+)*$"
Seconds = Annotated[float, Field(ge=0, le=3600)]
Chance = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Side(Part):
    """How one protocol takes part, and what is expected of it."""

    expect: Expectation = "all ok"
    n: int | None = Field(
        default=None, ge=1, le=100, description="replicas; the least that stands f faults if left out"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="the protocol's own configuration")


class Workload(Part):
    """A closed loop: each of `clients` keeps `outstanding` calls under way and pauses between them."""

    kind: Literal["kv"] = "kv"
    clients: int = Field(default=4, ge=1, le=1000)
    outstanding: int = Field(default=2, ge=1, le=64, description="calls each client keeps waiting")
    pause_ms: float = Field(
        default=40.0, ge=0, le=60_000, description="mean of the pause between two calls of a process"
    )
    keys: int = Field(default=6, ge=1, le=1_000_000)
    value_bytes: int = Field(default=8, ge=1, le=1_000_000)
    operations: int = Field(default=1, ge=1, le=1000, description="operations that a client packs into one request")
    byzantine: int = Field(
        default=0, ge=0, le=100, description="clients beside them that lie, until faults or work end"
    )
    byzantine_as: Literal[
        "random",
        "big-mac",
        "wrong-for-primary",
        "framing",
        "garbage-signatures",
        "retransmission-storm",
        "read-storm",
        "large-reads",
        "large-requests",
        "two-operations",
        "backups-only",
    ] = "random"
    byzantine_per_s: float | None = Field(
        default=None, gt=0, le=1_000_000, description="acts of each of them; left out: by pause_ms"
    )


class Delay(Part):
    """Microseconds from one end of a link to the other."""

    kind: Literal["constant", "uniform", "exponential", "normal", "pareto"] = "uniform"
    low_us: int = Field(default=60, ge=0)
    high_us: int = Field(default=140, ge=0, description="uniform: the upper end")
    mean_us: int = Field(default=100, ge=0, description="normal: the mean; exponential: the mean above low_us")
    deviation_us: int = Field(default=20, ge=0, description="normal")
    shape: float = Field(default=2.0, gt=0, description="pareto, times low_us")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.kind == "uniform" and self.low_us > self.high_us:
            raise ValueError(f"low_us = {self.low_us}: must not be above high_us = {self.high_us}")
        return self


class Disk(Part):
    """Of the simulated engine: a transaction, until it is durable, and the chance that a crash finds it so."""

    sync: Delay = Delay(kind="constant", mean_us=55)
    survives: Chance = 0.0


class Network(Part):
    """Of the simulated engine; real links are what they are."""

    delay: Delay = Delay()
    loss: Chance = 0.0
    duplicate: Chance = 0.0
    reorder: Chance = 0.0


def _target(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, str, list, tuple)):
        raise ValueError(NO_TARGET)
    return value


_Number = Annotated[int, Field(ge=0, le=99, strict=True)]
Words = Literal["leader", "backup", "random", "f backups", "all"]
WORDS: Final = f"literal[{','.join(map(repr, get_args(Words)))}]"
"""How pydantic names this branch of the union."""
NO_TARGET: Final = f"must be a replica's number, a list of them, or one of {', '.join(get_args(Words))}"
Target = Annotated[
    Words | _Number | Annotated[tuple[_Number, ...], Field(min_length=1, max_length=100)],
    BeforeValidator(_target),
]
"""Whom it strikes, found when it begins."""


class Happening(Part):
    """A fault or an attack, from `start_s` to `end_s` after the clients began."""

    fault: str | None = None
    attack: str | None = None
    target: Target = "leader"
    start_s: Seconds
    end_s: Seconds | None = Field(default=None, description="left out: it lasts, and its target counts as faulty")
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_and_known(self) -> Self:
        if (self.fault is None) == (self.attack is None):
            raise ValueError("must have one of fault and attack")
        known: Mapping[str, Fault | AttackKind] = FAULTS if self.fault is not None else ATTACKS
        if self.name not in known and (self.attack is None or ":" not in self.attack):
            raise ValueError(f"{self.name!r} is unknown; known: {', '.join(sorted(known))}")
        try:
            self.kind.options.model_validate(self.options)
        except ValidationError as error:
            raise ValueError(f"options of {self.name}: {first_fault(error)}") from None
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"end_s = {self.end_s}: must be after start_s = {self.start_s}")
        return self

    @property
    def numbers(self) -> tuple[int, ...]:
        """The replicas that it names by number."""
        return (self.target,) if isinstance(self.target, int) else self.target if isinstance(self.target, tuple) else ()

    @property
    def name(self) -> str:
        return self.fault if self.fault is not None else str(self.attack)

    @property
    def kind(self) -> Fault | AttackKind:
        """Raises ConfigError for an attack of one's own that does not load."""
        return FAULTS[self.name] if self.fault is not None else attack_of(self.name)

    @property
    def protocols(self) -> tuple[str, ...] | None:
        """Which it can strike; None: any."""
        return self.kind.protocols

    @property
    def engines(self) -> tuple[Engine, ...]:
        return self.kind.engines


class Scenario(Part):
    name: str = Field(pattern=KEBAB)
    summary: str = Field(min_length=1, max_length=200)
    f: int = Field(default=1, ge=0, le=33, description="faults that each protocol is built to stand")
    duration_s: float = Field(default=3.0, gt=0, le=3600, description="how long clients work")
    settle_s: float = Field(default=10.0, gt=0, le=600, description="the longest wait, after the faults, for probes")
    engines: tuple[Literal["sim", "live"], ...] = ("sim", "live")
    protocols: dict[str, Side] = Field(default_factory=lambda: {"pbft": Side(), "raft": Side()})
    workload: Workload = Workload()
    network: Network = Network()
    disk: Disk = Disk()
    timeline: tuple[Happening, ...] = ()
    drawn: bool = Field(default=False, description="size, options, network and timeline are drawn from the seed")
    _file: str = PrivateAttr(default="")
    _attack: str = PrivateAttr(default="")
    """One that was put into it."""

    @property
    def handle(self) -> str:
        """What to give to `replog compare` for it: its file, or its name if it is one of the package's."""
        return self._file or self.name

    @property
    def added(self) -> str:
        """The attack that `replog compare` was told to put into it, if any."""
        return self._attack

    @model_validator(mode="after")
    def _ends_in_time(self) -> Self:
        for happening in self.timeline:
            if max(happening.start_s, happening.end_s or 0) >= self.duration_s:
                raise ValueError(f"timeline: {happening.name} must begin and end before duration_s = {self.duration_s}")
        return self

    def side(self, protocol: str) -> Side:
        """What is set and expected for a protocol; for one that the file does not name, the defaults."""
        return self.protocols.get(protocol, Side())

    @property
    def attacked(self) -> bool:
        return any(happening.attack is not None for happening in self.timeline)

    @property
    def faulted(self) -> bool:
        return any(happening.fault is not None for happening in self.timeline)

    @property
    def attack_names(self) -> tuple[str, ...]:
        return tuple(sorted({happening.attack for happening in self.timeline if happening.attack is not None}))

    @property
    def faults_end_s(self) -> float:
        """When the last fault or attack that ends at all has ended."""
        return max((happening.end_s or happening.start_s for happening in self.timeline), default=0.0)


def under_attack(scenario: Scenario, attack: str) -> Scenario:
    """The scenario with this attack in place of its own, or on its leader where it has none; for the protocols that
    both are for. Raises ConfigError for an attack that is not known or does not load."""
    if ":" not in attack and attack not in ATTACKS:
        raise ConfigError(f"attack = {attack!r}: known are {', '.join(sorted(ATTACKS))}; or give MODULE:CLASS")
    kind = attack_of(attack)
    own = [happening for happening in scenario.timeline if happening.attack is not None]
    rest = [happening for happening in scenario.timeline if happening.attack is None]
    struck = own or [Happening(attack=attack, start_s=scenario.duration_s / 4)]
    timeline = [happening.model_copy(update={"attack": attack, "options": {}}) for happening in struck]
    sides = {name: side for name, side in scenario.protocols.items() if name in kind.protocols}
    if not sides:
        raise ConfigError(f"attack = {attack!r}: it is for {', '.join(kind.protocols)}, and {scenario.name} is not")
    words = re.sub("(?<=[a-z])(?=[A-Z])", "-", attack.rpartition(":")[2]).lower()
    name = f"{scenario.name}-under-{re.sub('[^a-z0-9]+', '-', words).strip('-')}"
    engines = tuple(engine for engine in scenario.engines if engine in kind.engines)
    update = {"name": name, "timeline": (*timeline, *rest), "protocols": sides, "engines": engines}
    found = scenario.model_copy(update=update)
    found._file, found._attack = scenario.handle, attack
    return found


# --------------------------------------------------------------------------------------------------------------- TOML


def load(path: Path) -> Scenario:
    """Raises ConfigError naming file, line, field and rule."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8: {error.reason} at byte {error.start}") from None
    scenario = parse(text, str(path))
    scenario._file = str(path)
    return scenario


def parse(text: str, source: str) -> Scenario:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: {error}") from None
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        line, field = _place(text, tuple(part for part in first["loc"] if part != WORDS))
        rule = NO_TARGET if WORDS in first["loc"] else rule_of(first["msg"])
        value = f" = {first['input']!r:.80}" if isinstance(first["input"], (str, int, float)) else ""
        raise ConfigError(f"{source}:{line}: {field or 'scenario'}{value}: {rule}") from None


def _place(text: str, loc: tuple[int | str, ...]) -> tuple[int, str]:
    """The line on which the longest known beginning of `loc` is set, and `loc` as a path."""
    lines = dict(_lines(text))
    known = next((loc[:size] for size in range(len(loc), 0, -1) if loc[:size] in lines), ())
    return lines.get(known, 1), ".".join(str(part) for part in loc)


def _lines(text: str) -> Iterator[tuple[tuple[int | str, ...], int]]:
    """(path, line number) of each table and key, for files in the usual form: one key a line."""
    table: tuple[int | str, ...] = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", line)
        if header:
            name = header[2]
            table = tuple(part.strip(" \"'") for part in name.split("."))
            if header[1] == "[[":
                table = (*table, counts.setdefault(name, 0))
                counts[name] += 1
            yield table, number
        elif key := re.match(r"\s*([\w\"'.-]+)\s*=", line):
            yield (*table, *(part.strip("\"'") for part in key[1].split("."))), number


@cache
def catalogue() -> dict[str, Scenario]:
    """The scenarios of the package, by name."""
    folder = files("compare") / "scenarios"
    found = [
        parse(item.read_text(encoding="utf-8"), item.name)
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".toml")
    ]
    return {scenario.name: scenario for scenario in found}


def find(name: str) -> Scenario:
    """A scenario by name, or by path if it ends in .toml. Raises ConfigError naming the known ones."""
    if name.endswith(".toml"):
        return load(Path(name))
    known = catalogue()
    if name not in known:
        raise ConfigError(f"scenario {name!r}: known are {', '.join(sorted(known))}; or give a path that ends in .toml")
    return known[name]
