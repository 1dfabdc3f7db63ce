"""What may stand in `options` of a fault, of each fault its own model, so that a wrong word is refused."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from compare.options import Loss, Options

__all__ = [
    "Amnesia", "Bug", "Cut", "Drift", "Flapping", "Jump", "Lateness", "Loss", "Noise", "Older", "Omission", "Rot",
    "Slowness",
]  # fmt: skip


class Omission(Options):
    chance: float = Field(default=0.5, gt=0, le=1, description="of each frame; 1: all of them")
    clients: bool = Field(default=True, description="frames of and to clients, too")


class Cut(Options):
    way: Literal["out", "in"] = Field(default="out", description="what is lost: what the target sends, or is sent")


class Flapping(Options):
    period_ms: float = Field(default=200, ge=1, le=600_000, description="cut for one half of it, whole for the other")


class Lateness(Options):
    delay_ms: float = Field(default=50, gt=0, le=60_000, description="added to each frame of and to the targets")


class Noise(Options):
    chance: float = Field(default=0.05, gt=0, le=1, description="that one bit of a frame is another")
    checked: bool = Field(default=True, description="the link notices, as TLS does, and the frame is lost")


class Jump(Options):
    jump_ms: float = Field(ge=-86_400_000, le=86_400_000, description="of the time of day, ahead or back")


class Drift(Options):
    rate_ppm: int = Field(gt=-1_000_000, le=10_000_000, description="microseconds that the clock gains in a second")


class Slowness(Options):
    extra_ms: float = Field(default=20, gt=0, le=60_000, description="that each turn, or each write, takes longer")


class Rot(Options):
    bits: int = Field(default=1, ge=1, le=1_000, description="that are another, of what was durable")
    checked: bool = Field(default=True, description="the store notices when it is opened, and does not serve it")


class Amnesia(Options):
    down_ms: float = Field(default=50, gt=0, le=60_000, description="until it starts again, with nothing")


class Older(Options):
    """Of each protocol what an older version did otherwise, in its own options."""

    pbft: dict[str, Any] = Field(default_factory=dict)
    raft: dict[str, Any] = Field(default_factory=dict)


class Bug(Options):
    """Of each protocol the broken core, as module:Class."""

    pbft: str = Field(default="", pattern=r"^([\w.]+:\w+)?$")
    raft: str = Field(default="", pattern=r"^([\w.]+:\w+)?$")
