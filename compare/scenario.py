"""Scenarios: one named fault or lie, one workload, one network, and what is expected of each protocol.

Here: the model and reading it from TOML. Not here: links, disks and places (`compare.environment`), what faults and
attacks do (`compare.faults`, `compare.attacks`), nor running one (`compare.sim`, `compare.live`). The same file runs on
both engines.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from compare.attacks import ATTACKS, AttackKind, attack_of
from compare.environment import KINDS, Disk, Network, Part, Placement
from compare.faults import FAULTS, Engine, Fault
from compare.places import At, place
from compare.results import Expectation
from replog.config import rule_of
from replog.core import ProtocolSpec
from replog.errors import ConfigError

KEBAB: Final = r"^[a-z0-9]+(-[a-z0-9]+)*$"
Seconds = Annotated[float, Field(ge=0, le=3600)]


class Side(Part):
    """How one protocol takes part, and what is expected of it."""

    expect: Expectation = "all ok"
    n: int | None = Field(
        default=None, ge=1, le=100, description="replicas; the least that stands f faults if left out"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="the protocol's own configuration")


class Workload(Part):
    """A closed loop: each of `clients` keeps `outstanding` calls under way and pauses between them. An open one: calls
    come at `rate_per_s` of all clients together, whether those before them are answered or not."""

    kind: Literal["kv", "bank"] = Field(default="kv", description="bank: accounts whose money stays constant")
    clients: int = Field(default=4, ge=1, le=1000)
    loop: Literal["closed", "open"] = "closed"
    outstanding: int = Field(default=2, ge=1, le=64, description="closed: calls each client keeps waiting")
    pause_ms: float = Field(
        default=40.0, ge=0, le=60_000, description="closed: mean of the pause between two calls of a process"
    )
    rate_per_s: float = Field(
        default=100.0, gt=0, le=1_000_000, description="open: calls of all clients, at random times"
    )
    keys: int = Field(default=6, ge=1, le=1_000_000, description="keys, or accounts")
    distribution: Literal["uniform", "zipf", "hot"] = Field(
        default="uniform", description="of keys; zipf: key K with weight 1/(K+1)**skew; hot: one of two calls at key 0"
    )
    skew: float = Field(default=0.99, gt=0, le=10, description="zipf")
    value_bytes: int = Field(default=8, ge=1, le=1_000_000)
    money: int = Field(default=100, ge=1, le=1_000_000_000, description="bank: in each account at first")
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

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "bank" and self.keys < 2:
            raise ValueError("keys = 1: must be at least 2 accounts where kind is bank: money has to go somewhere")
        return self


def _target(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, str, list, tuple)):
        raise ValueError(NO_TARGET)
    return value


_Number = Annotated[int, Field(ge=0, le=99, strict=True)]
Words = Literal["leader", "backup", "random", "f backups", "all"]
WORDS: Final = f"literal[{','.join(map(repr, get_args(Words)))}]"
"""How pydantic names this branch of the union."""
Group = Annotated[str, Field(pattern=rf"^({'|'.join(KINDS)}) [a-z0-9-]+$")]
"""`rack a`: the replicas that `[placement]` puts there."""
NO_TARGET: Final = (
    f"must be a replica's number, a list of them, one of {', '.join(get_args(Words))}, or a place as 'rack a'"
)
Target = Annotated[
    Words | Group | _Number | Annotated[tuple[_Number, ...], Field(min_length=1, max_length=100)],
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
    options: dict[str, Any] = Field(default_factory=dict, validate_default=True)

    @field_validator("fault", "attack")
    @classmethod
    def _known(cls, name: str | None, info: ValidationInfo) -> str | None:
        known: Mapping[str, Fault | AttackKind] = FAULTS if info.field_name == "fault" else ATTACKS
        own = info.field_name == "attack" and ":" in (name or "")
        if name is not None and name not in known and not own:
            raise ValueError(f"is unknown; known: {', '.join(sorted(known))}")
        return name

    @field_validator("end_s")
    @classmethod
    def _after_its_start(cls, end_s: float | None, info: ValidationInfo) -> float | None:
        start_s = info.data.get("start_s", 0.0)
        if end_s is not None and end_s <= start_s:
            raise ValueError(f"must be after start_s = {start_s}")
        return end_s

    @field_validator("options")
    @classmethod
    def _fit(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        fault, attack = info.data.get("fault"), info.data.get("attack")
        kind = FAULTS[fault] if fault is not None else attack_of(attack) if attack is not None else None
        try:
            if kind is not None:
                kind.options.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            rule = f"{rule_of(first['msg'])} (options of {kind.name if kind else ''})"
            raise At(first["loc"], first["input"], rule) from None
        return options

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.fault is None) == (self.attack is None):
            raise ValueError("must have one of fault and attack")
        return self

    @property
    def numbers(self) -> tuple[int, ...]:
        """The replicas that it names by number."""
        return (self.target,) if isinstance(self.target, int) else self.target if isinstance(self.target, tuple) else ()

    @property
    def settings(self) -> Any:
        """The options as the fault's or attack's own model."""
        return self.kind.options.model_validate(self.options)

    @property
    def group(self) -> tuple[str, str] | None:
        """Kind and name of the place whose replicas it strikes."""
        kind, _, name = self.target.partition(" ") if isinstance(self.target, str) else ("", "", "")
        return (kind, name) if kind in KINDS else None

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
    n: int | None = Field(
        default=None, ge=1, le=100, description="in place of f: replicas of each protocol, which stands what it can"
    )
    duration_s: float = Field(default=3.0, gt=0, le=3600, description="how long clients work")
    settle_s: float = Field(default=10.0, gt=0, le=600, description="the longest wait, after the faults, for probes")
    engines: tuple[Literal["sim", "live"], ...] = ("sim", "live")
    protocols: dict[str, Side] = Field(default_factory=lambda: {"pbft": Side(), "raft": Side()})
    workload: Workload = Workload()
    network: Network = Network()
    disk: Disk = Disk()
    placement: Placement = Placement()
    timeline: tuple[Happening, ...] = ()
    drawn: bool = Field(default=False, description="size, options, network and timeline are drawn from the seed")
    _file: str = PrivateAttr(default="")
    _attack: str = PrivateAttr(default="")
    """One that was put into it."""
    _base: str = PrivateAttr(default="")
    _settings: dict[str, Any] = PrivateAttr(default_factory=dict)
    """What a sweep has set in it, by dotted name, and the name of the scenario that it began with."""

    @property
    def handle(self) -> str:
        """What to give to `replog compare` for it: its file, or its name if it is one of the package's."""
        return self._file or self.name

    @property
    def added(self) -> str:
        """The attack that `replog compare` was told to put into it, if any."""
        return self._attack

    @property
    def base(self) -> str:
        """The name of the scenario that a sweep began with; its own if it is not of a sweep."""
        return self._base or self.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a sweep has set in it, by dotted name (`compare.sweep`)."""
        return self._settings

    @model_validator(mode="after")
    def _ends_in_time(self) -> Self:
        rule = f"must be before duration_s = {self.duration_s}"
        for number, happening in enumerate(self.timeline):
            for field in ("start_s", "end_s"):
                if (time_s := getattr(happening, field) or 0) >= self.duration_s:
                    raise At(("timeline", number, field), time_s, rule)
        if self._timing_s >= self.duration_s:
            raise At(("network", "timing"), self._timing_s, rule)
        return self

    @model_validator(mode="after")
    def _names_places(self) -> Self:
        for number, happening in enumerate(self.timeline):
            if happening.group is not None and happening.group[1] not in getattr(self.placement, happening.group[0]):
                raise At(("timeline", number, "target"), happening.target, "[placement] has no such place")
        return self

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.n is not None and (self.f != 1 or any(side.n for side in self.protocols.values())):
            raise At(("n",), self.n, "must not stand beside f or a protocol's own n: same n, or same f")
        return self

    @property
    def sizing(self) -> str:
        """What the protocols have in common, for reports."""
        if self.n is not None:
            return f"same n = {self.n}"
        own = ", ".join(f"{name} n = {side.n}" for name, side in self.protocols.items() if side.n is not None)
        return f"same f = {self.f}" + (f", {own}" if own else "")

    def size(self, spec: ProtocolSpec) -> tuple[int, int]:
        """n and f of a protocol. Raises ValueError if it cannot run so."""
        if self.n is not None:
            return self.n, spec.faults(self.n)
        own = self.side(spec.name).n
        return spec.replicas(self.f) if own is None else own, self.f

    def sized(self, spec: ProtocolSpec) -> Scenario:
        """As this protocol runs it: with the f that its n stands."""
        if self.n is None:
            return self
        n, f = self.size(spec)
        sides = self.protocols | {spec.name: self.side(spec.name).model_copy(update={"n": n})}
        return self.model_copy(update={"n": None, "f": f, "protocols": sides})

    def side(self, protocol: str) -> Side:
        """What is set and expected for a protocol; for one that the file does not name, the defaults."""
        return self.protocols.get(protocol, Side())

    @property
    def attacked(self) -> bool:
        return any(happening.attack is not None for happening in self.timeline)

    @property
    def faulted(self) -> bool:
        """Whether the environment is to do anything that would make a run without it prove nothing."""
        return self.late or any(happening.fault is not None for happening in self.timeline)

    @property
    def late(self) -> bool:
        """Whether there is a time without a promise about delays."""
        return self.network.timing is not None and self.network.timing.kind != "synchronous"

    @property
    def _timing_s(self) -> float:
        """When the last change of what is promised of delays comes."""
        timing = self.network.timing
        return 0.0 if timing is None or not self.late else timing.stabilises_s or timing.from_s

    @property
    def attack_names(self) -> tuple[str, ...]:
        return tuple(sorted({happening.attack for happening in self.timeline if happening.attack is not None}))

    @property
    def faults_end_s(self) -> float:
        """When the last fault or attack that ends at all has ended, and delays keep to what is promised."""
        ends = [happening.end_s or happening.start_s for happening in self.timeline]
        return max([*ends, self._timing_s], default=0.0)


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
        where, found, rule = told(error)
        line, field = place(text, where)
        value = f" = {found!r:.80}" if isinstance(found, (str, int, float)) else ""
        raise ConfigError(f"{source}:{line}: {field or 'scenario'}{value}: {rule}") from None


def told(error: ValidationError) -> tuple[tuple[int | str, ...], object, str]:
    """Of the first thing that is wrong: where, what stands there, the rule."""
    first = error.errors()[0]
    where = tuple(part for part in first["loc"] if part != WORDS)
    deeper = first.get("ctx", {}).get("error")
    if isinstance(deeper, At):
        return (*where, *deeper.where), deeper.value, deeper.rule
    return where, first["input"], NO_TARGET if WORDS in first["loc"] else rule_of(first["msg"])


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
