"""The file that `replog bench --calibrate` writes: one machine as the simulator's prices and waits.

Here: the model, reading and writing it, and what of the simulated world it means. Not here: measuring it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PrivateAttr, ValidationError

from compare.environment import Disk, Network, Part
from replog.config import first_fault
from replog.errors import ConfigError
from replog.sim.costs import CostModel
from replog.sim.disk import DiskModel
from replog.sim.network import Constant, NetworkModel, Uniform

REFERENCE: Final = "reference"
"""What a result says that was found with the model in the package."""
Price = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Prices(Part):
    """Of the machine, whatever the protocol: microseconds of one core, `byte_ns` nanoseconds."""

    cores: int = Field(ge=0, le=1024, description="shared by all processes; 0: each has one of its own")
    sign_us: Price
    verify_us: Price
    mac_us: Price
    turn_us: Price = Field(description="waking up for a turn of a replica")
    frame_us: Price = Field(description="reading or sending one frame, in a replica")
    client_frame_us: Price = Field(description="the same in a client")
    byte_ns: Price = Field(description="of each byte received, both ends together")
    commit_us: Price = Field(description="the core's part of one transaction")
    record_us: Price


class Waits(Part):
    """What passes while no core works, microseconds."""

    sync_us: Price = Field(description="for the disk, in each transaction")
    delay_us: Price = Field(description="from one end of a link to the other, waking up included")


class Handling(Part):
    """What the core of one protocol does with each thing, signatures and MACs not counted."""

    options: dict[str, Any] = Field(default_factory=dict, description="of the protocol, when it was measured")
    message_us: Price = Field(description="encoding or decoding one message")
    request_us: Price
    operation_us: Price
    client_request_us: Price
    client_operation_us: Price
    events: dict[str, Price] = Field(description="by the class of the message or event")


class Machine(Part):
    """One machine, at one time."""

    version: Literal[1] = 1
    date: str
    processor: str
    system: str
    versions: dict[str, str]
    load: float = Field(ge=0, description="others at work when it began: the system's load average")
    prices: Prices
    waits: Waits
    protocols: dict[str, Handling]
    measured_by: dict[str, str] = Field(description="how each price was found")
    raw: dict[str, Any] = Field(default_factory=dict, description="what was found before it was put together")

    _file: str = PrivateAttr("")

    @property
    def file(self) -> str:
        """Where it was read from."""
        return self._file

    def costs(self, protocol: str) -> CostModel:
        """Raises ConfigError if this protocol was not measured."""
        if protocol not in self.protocols:
            known = ", ".join(sorted(self.protocols))
            raise ConfigError(f"cost model of {self.date}: protocols: {protocol} was not measured, only {known}")
        prices, own = self.prices.model_dump(), self.protocols[protocol].model_dump(exclude={"options"})
        frame, events = prices.pop("frame_us"), own.pop("events")
        return CostModel(**prices, **own, frame_in_us=frame, frame_out_us=frame, handling=MappingProxyType(events))

    @property
    def disk(self) -> DiskModel:
        return DiskModel(sync=Constant(round(self.waits.sync_us)))

    @property
    def network(self) -> NetworkModel:
        """Wake-ups vary: half as long to half as long again."""
        delay = self.waits.delay_us
        return NetworkModel(delay=Uniform(round(delay / 2), round(delay * 1.5)))

    def around(self, protocol: str, network: Network, disk: Disk) -> dict[str, Any]:
        """What a simulated cluster is made with: this machine, and of its links and disks what a scenario leaves open.
        Raises ConfigError if this protocol was not measured."""
        return {
            "costs": self.costs(protocol),
            "network": self.network if network == Network() else network.model,
            "disk": self.disk if disk == Disk() else disk.model,
        }

    def told(self) -> dict[str, Any]:
        """For results that rest on it."""
        return self.model_dump(mode="json", exclude={"raw", "measured_by"})


def read(path: Path) -> Machine:
    """Raises ConfigError naming file, field, value and rule."""
    try:
        machine = Machine.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_fault(error)}") from None
    machine._file = str(path)
    return machine


def write(machine: Machine, path: Path) -> None:
    path.write_text(machine.model_dump_json(indent=1) + "\n", encoding="utf-8")


def described(machine: Machine | None) -> str | Mapping[str, Any]:
    """What a result says of its cost model."""
    return REFERENCE if machine is None else machine.told()
