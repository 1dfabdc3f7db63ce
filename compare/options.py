"""What may stand in `options` of a happening: of each fault and attack its own model, so that a wrong word is refused.

Attacks and faults get the words as they stand in the file; here is what they may be.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from replog.types import NodeId


class Options(BaseModel):
    """None at all."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Loss(Options):
    loss: float = Field(default=0.1, ge=0, le=1, description="chance of each frame")


class Equivocation(Options):
    """What is left out is drawn, or everybody."""

    withhold: bool | None = Field(default=None, description="keep the requests of side B from side A for good")
    side_b: list[NodeId] | None = None
    favoured: list[NodeId] | None = Field(default=None, description="of side A, who hears the liar's COMMIT; of PBFT")


class Slowness(Options):
    delay_ms: float = Field(gt=0, le=60_000, description="how much later each proposal leaves")


class Flood(Options):
    rate_s: int = Field(default=20_000, ge=200, le=1_000_000, description="messages a second to each other replica")
    size_kb: int = Field(default=0, ge=0, le=32_768, description="of each, of no use to anybody; 0: small bad votes")


class Censorship(Options):
    client: str = Field(default="c0", description="whose requests the liar, when it is primary, keeps back")
    delay_ms: float = Field(default=0, ge=0, le=60_000, description="for how long; 0: for good")
