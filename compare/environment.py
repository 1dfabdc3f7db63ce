"""What a scenario file says of the world around the replicas: links, distances, timing, disks, and who shares what.

Here: the tables `[network]`, `[disk]` and `[placement]`, with their rules, and the models of the simulator that they
mean. Not here: faults (`compare.faults`), nor the scenario as a whole (`compare.scenario`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from replog.sim.disk import DiskModel
from replog.sim.network import Constant, Exponential, NetworkModel, Normal, Pareto, Uniform
from replog.sim.network import Delay as SimDelay
from replog.sim.regions import REGIONS, WideArea

Chance = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# --------------------------------------------------------------------------------------------------------------- links


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
        if self.kind == "exponential" and not self.mean_us:
            raise ValueError("mean_us = 0: must be above 0 where kind is exponential")
        return self

    @property
    def model(self) -> SimDelay:
        match self.kind:
            case "constant":
                return Constant(self.mean_us)
            case "uniform":
                return Uniform(self.low_us, self.high_us)
            case "exponential":
                return Exponential(self.mean_us, self.low_us)
            case "normal":
                return Normal(self.mean_us, self.deviation_us, self.low_us)
            case "pareto":
                return Pareto(self.low_us, self.shape)


Region = Literal[
    "dallas", "toronto", "washington", "frankfurt", "london", "madrid", "osaka", "sydney", "tokyo", "sao-paulo"
]
if get_args(Region) != REGIONS:
    raise RuntimeError("the regions that a file may name are not those of the table")


class Wan(Part):
    """Replicas and clients in regions of one provider, by its published round trips (`replog.sim.regions`)."""

    replicas: tuple[Region, ...] = Field(min_length=1, description="of replica 0, 1, ..., and around again")
    clients: tuple[Region, ...] = Field(
        default=(), description="of client c0, c1, ...; left out: those of the replicas"
    )
    outward: float = Field(
        default=0.5, ge=0.05, le=0.95, description="share of a round trip from the lower address to the higher one"
    )
    jitter: float = Field(default=0.02, ge=0, le=1, description="deviation, as a share of the delay")

    @property
    def model(self) -> WideArea:
        return WideArea(self.replicas, self.clients or self.replicas, self.outward, self.jitter)


ASYNCHRONOUS: Final = ("partially synchronous", "asynchronous")


class Timing(Part):
    """What is promised of delays. [DLS88]

    synchronous: every frame arrives within `bound_ms`. Partially synchronous: from `stabilises_s` on, and what was
    under way then arrives within `bound_ms` of it. Asynchronous: nothing ever. Where nothing is promised frames arrive
    late, but none is lost: by chance, or as an adversary wants it who holds back all that a leader tells others for as
    long as it believes that it leads.
    """

    kind: Literal["synchronous", "partially synchronous", "asynchronous"]
    bound_ms: float = Field(default=20.0, gt=0, le=60_000)
    from_s: float = Field(default=0.5, ge=0, le=3600, description="until then the network is as it is without this")
    stabilises_s: float | None = Field(default=None, gt=0, le=3600, description="partially synchronous")
    adversary: Literal["chance", "leader"] = Field(default="leader", description="who is late: anybody, or who leads")
    late: Delay = Field(
        default=Delay(kind="pareto", low_us=20_000, shape=1.1), description="adversary chance: how late"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.stabilises_s is not None) != (self.kind == "partially synchronous"):
            raise ValueError("stabilises_s: must be given where kind is partially synchronous, and nowhere else")
        if self.stabilises_s is not None and self.stabilises_s <= self.from_s:
            raise ValueError(f"stabilises_s = {self.stabilises_s}: must be after from_s = {self.from_s}")
        return self


class Network(Part):
    """Of the simulated engine; real links are what they are."""

    delay: Delay = Delay()
    wan: Wan | None = Field(default=None, description="in place of delay")
    mbit_s: float = Field(default=10_000, gt=0, le=1_000_000, description="of each link, each way")
    queue_bytes: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="what may wait for a link, one frame after another; left out: no frame waits for another",
    )
    loss: Chance = 0.0
    duplicate: Chance = 0.0
    reorder: Chance = 0.0
    reorder_us: int = Field(default=2_000, ge=0, le=60_000_000, description="how much later at most")
    corrupt: Chance = Field(default=0.0, description="a bit of a frame is another when it arrives")
    checked: bool = Field(default=True, description="links notice what was changed, as TLS does, and lose it")
    timing: Timing | None = None

    @model_validator(mode="after")
    def _keeps_its_promise(self) -> Self:
        if self.timing is not None and self.timing.kind == "synchronous" and (self.loss or self.corrupt):
            raise ValueError("loss and corrupt must be 0 where timing.kind is synchronous: every frame arrives in time")
        return self

    @property
    def model(self) -> NetworkModel:
        return NetworkModel(
            delay=self.delay.model,
            distances=None if self.wan is None else self.wan.model,
            byte_ns=8_000 / self.mbit_s,
            queue_bytes=self.queue_bytes,
            loss=self.loss,
            duplicate=self.duplicate,
            reorder=self.reorder,
            reorder_us=self.reorder_us,
            corrupt=self.corrupt,
            checked=self.checked,
        )


# --------------------------------------------------------------------------------------------------- disks and places


class Disk(Part):
    """Of the simulated engine: a transaction, until it is durable, and the chance that a crash finds it so."""

    sync: Delay = Delay(kind="constant", mean_us=55)
    survives: Chance = 0.0

    @property
    def model(self) -> DiskModel:
        return DiskModel(sync=self.sync.model, survives=self.survives)


Place = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
Places = Annotated[tuple[Place, ...], Field(max_length=100)]


class Placement(Part):
    """What replicas share and lose together. Of each kind: where replica 0, 1, ... is, and around again."""

    rack: Places = ()
    switch: Places = ()
    power: Places = ()
    datacentre: Places = ()

    def members(self, kind: str, name: str, n: int) -> tuple[int, ...]:
        """The replicas of `n` that are there."""
        places: tuple[str, ...] = getattr(self, kind)
        return tuple(node for node in range(n) if places and places[node % len(places)] == name)


KINDS: Final = tuple(Placement.model_fields)
