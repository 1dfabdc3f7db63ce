"""What may stand in `options` of a happening: of each fault and attack its own model, so that a wrong word is refused.

Attacks and faults get the words as they stand in the file; here is what they may be.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from replog.types import NodeId


class Options(BaseModel):
    """None at all."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Anything(BaseModel):
    """Of an attack of the user's own that does not say which options it has: it gets them as they stand."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Loss(Options):
    loss: float = Field(default=0.1, ge=0, le=1, description="chance of each frame")


class Equivocation(Options):
    """What is left out is drawn, or everybody."""

    withhold: bool | None = Field(default=None, description="keep the requests of side B from side A for good")
    side_b: list[NodeId] | None = None
    favoured: list[NodeId] | None = Field(default=None, description="of side A, who hears the liar's COMMIT; of PBFT")


class Slowness(Options):
    delay_ms: float = Field(gt=0, le=60_000, description="how much later each proposal leaves")


class Bursts(Options):
    period_ms: float = Field(gt=0, le=60_000, description="between bursts, in the end")


class Watching(Options):
    client: str = Field(default="", description="whose requests alone are held back; empty: everybody's")
    tells: bool = Field(default=False, description="liars that are backups send on at once what they were sent")


class Flood(Options):
    rate_s: int = Field(default=20_000, ge=1, le=1_000_000, description="messages a second to each other replica")
    size: int = Field(default=0, ge=0, le=16_777_216, description="bytes of each; 0: small ones, to be verified")


class Junk(Options):
    junk: int = Field(default=5_200, ge=1, le=100_000, description="votes that nobody signed, beside each lie")


class Censorship(Options):
    client: str = Field(default="c0", description="whose requests the liar, when it is primary, keeps back")
    delay_ms: float = Field(default=0, ge=0, le=60_000, description="for how long; 0: for good")


class Selection(Options):
    """About which messages is lied, and to whom."""

    kinds: list[str] = Field(default_factory=list, description="names of messages; empty: every kind")
    to: list[NodeId] | None = Field(default=None, description="only to these; left out: to all")


class Delaying(Selection):
    delay_ms: float = Field(default=300.0, gt=0, le=3_600_000, description="how much later each message leaves")


class Copies(Selection):
    copies: int = Field(default=5, ge=2, le=1_000, description="how often each message leaves")


class Replaying(Options):
    period_ms: float = Field(default=20.0, gt=0, le=60_000, description="between two repetitions")
    of_others: bool = Field(default=True, description="also what others have said to the liar")


class Corruption(Selection):
    fields: list[str] = Field(default_factory=list, description="names of fields; empty: any but signatures")
    share: float = Field(default=1.0, gt=0, le=1, description="of the messages of these kinds")


class Number(Options):
    by: int = Field(default=2**40, ge=1, le=2**61, description="how far beyond the truth")


class Time(Options):
    skew_s: float = Field(default=86_400.0, ge=-1e9, le=1e9, description="added to each proposed time")


class Forgery(Options):
    view: int | None = Field(default=None, ge=0, le=2**61, description="of the forged certificates; None: the last")


class Storm(Options):
    period_ms: float = Field(default=20.0, gt=0, le=60_000, description="between two of them")
    by: int = Field(default=1, ge=1, le=2**61, description="how many views or terms further each time")


class Misstatement(Options):
    """A field of the messages of one kind has another value; of none if no kind is named."""

    kind: str = ""
    field: str = ""
    value: int = Field(default=0, ge=0, le=2**62)
