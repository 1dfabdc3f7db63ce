"""Options of the protocol: what an operator may set, within which bounds, and which values belong together.

Not here: members, addresses, keys (`replog.config`), sessions (the executor's).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from replog.types import REQUEST_BYTES_MAX

Micros = Annotated[int, Field(ge=1, le=86_400_000_000)]
Count = Annotated[int, Field(ge=1, le=65_536)]
Bytes = Annotated[int, Field(ge=1, le=32 * 1024 * 1024)]


Measure = Literal["heartbeat", "floor", "fairness", "rotation", "turns", "blacklist", "queues", "throttle", "vouching"]
MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)
"""heartbeat, floor, fairness, rotation: what backups demand of the primary (`pbft.demands`). turns: each client's
requests in turn (`pbft.requests`). blacklist: who sends bad signatures is not heard for a while (`pbft.intake`).
queues: what comes in waits in one queue a sender, replicas before clients, each in its turn; throttle: of a replica
that floods, little is taken (both `replog.turns`). vouching: under MACs, requests of a client whose MACs were good for
some replicas only are proposed when f + 1 replicas vouch for them (`pbft.macs`)."""


class Options(BaseModel):
    """Every replica of a cluster runs with the same options. Times in microseconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    auth: Literal["signatures", "macs"] = "signatures"
    """How replicas and clients prove what they say: signatures can be shown to a third party; MACs [CL99 5.2] cost less
    and prove nothing, and a client whose MACs are good for some replicas only can force view changes."""
    key_lifetime_us: Annotated[int, Field(ge=1_000_000, le=86_400_000_000)] = 300_000_000
    """Under MACs: how often a replica renews its clients' session keys. The last ones count as long again. [CL02]"""

    batch_requests_max: Count = 512
    batch_operations_max: Count = 16_384
    batch_bytes_max: Bytes = 1024 * 1024
    batch_delay_us: Annotated[int, Field(ge=0, le=1_000_000)] = 2_000
    """While other batches are in flight, a batch that is not full waits this long for company. [CL99 4.2]"""
    in_flight_max: Count = 8
    """Sequence numbers that a primary has proposed and not yet executed."""

    fast_reads: bool = True
    """Read-only requests are answered at once, to a quorum's agreement, instead of being ordered. [CL99 5.1]"""
    digest_replies: bool = True
    """One replica answers a request in full, the others with a digest of the results. [CL99 5.1]"""
    tentative: bool = False
    """Execute what is prepared before it is committed: one message delay less, and the work is undone if a view change
    puts something else there. [CL99 5.1]"""

    checkpoint_interval: Annotated[int, Field(ge=1, le=4_096)] = 128
    """K: every so many sequence numbers the state is a checkpoint. [CL99 4.3]"""
    log_window: Annotated[int, Field(ge=2, le=1_024)] = 256
    """L: high watermark less low watermark. [CL99 4.3] At most as much as a NEW-VIEW of 31 replicas can hold in one
    frame when all of it is prepared."""

    view_timeout_us: Micros = 1_000_000
    """T: how long a backup waits for one request before it asks for the next view. [CL99 4.4]"""
    view_timeout_cap_us: Micros = 60_000_000
    """Where the doubling of T ends. Delays beyond it for ever would stop progress: it is the deployment's assumption
    of synchrony. [CL99 3, 4.5.2]"""
    status_interval_us: Micros = 100_000
    """How often a replica that waits for something tells the others what it has; four times as long when idle."""
    robust: bool | list[Measure] = False
    """What keeps the service useful under attack [Clement09]: all of it, nothing, or these measures."""
    heartbeat_us: Annotated[int, Field(ge=0, le=86_400_000_000)] = 0
    """Measure "heartbeat": how long a primary may propose nothing while a request waits; 0: view_timeout_us / 8."""
    floor_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Measure "floor": the share of the throughput of the last views that a primary must keep while requests wait. It
    rises by 1 % a second; what ends every view is "rotation"."""
    grace_us: Micros = 2_000_000
    """Measure "floor": how long a new primary is left alone."""
    blacklist_us: Micros = 60_000_000
    """Measure "blacklist": how long a client is not heard that sent a bad signature or a storm of repetitions."""
    view_length_us: Micros = 60_000_000
    """Measure "rotation": the longest that one primary leads while anything is executed."""

    clock_bound_us: Annotated[int, Field(ge=10_000, le=3_600_000_000)] = 10_000_000
    """How far a proposed time may lie from a backup's own time of day. [CL99 4.6] A proposal is some milliseconds old
    when it comes."""

    refresh: bool = True
    """Whether a replica may be refreshed while the others serve. [CL02 proactive recovery]"""
    refresh_timeout_us: Annotated[int, Field(ge=1_000_000, le=86_400_000_000)] = 300_000_000
    """How long a refresh may take, the wait for leave and the fetching of state included."""

    request_bytes_max: Bytes = REQUEST_BYTES_MAX
    pending_requests_max: Annotated[int, Field(ge=1, le=1_000_000)] = 16_384
    pending_operations_max: Annotated[int, Field(ge=1, le=10_000_000)] = 262_144
    pending_bytes_max: Annotated[int, Field(ge=1, le=1024 * 1024 * 1024)] = 64 * 1024 * 1024
    client_requests_max: Count = 128
    client_operations_max: Count = 65_536
    """What one client, and all together, may have waiting; beyond it OVERLOADED is the answer."""

    @model_validator(mode="after")
    def _relations(self) -> Options:
        for holds, rule in (
            (self.log_window % self.checkpoint_interval == 0, "log_window must be a multiple of checkpoint_interval"),
            (self.log_window >= 2 * self.checkpoint_interval, "log_window must be at least 2 * checkpoint_interval"),
            (self.in_flight_max <= self.log_window, "in_flight_max must not exceed log_window"),
            (self.request_bytes_max <= self.batch_bytes_max, "request_bytes_max must not exceed batch_bytes_max"),
            (self.request_bytes_max <= self.pending_bytes_max, "request_bytes_max must not exceed pending_bytes_max"),
            (
                self.client_requests_max <= self.pending_requests_max,
                "client_requests_max must not exceed pending_requests_max",
            ),
            (
                self.client_operations_max <= self.pending_operations_max,
                "client_operations_max must not exceed pending_operations_max",
            ),
            (
                self.batch_operations_max <= self.client_operations_max,
                "batch_operations_max must not exceed client_operations_max",
            ),
            (self.view_timeout_us <= self.view_timeout_cap_us, "view_timeout_us must not exceed view_timeout_cap_us"),
            (
                "throttle" not in self.measures or "queues" in self.measures,
                'robust must name "queues" where it names "throttle"',
            ),
            (4 * self.heartbeat_us <= self.view_timeout_us, "heartbeat_us must be at most view_timeout_us / 4"),
            (8 * self.batch_delay_us <= self.view_timeout_us, "batch_delay_us must be at most view_timeout_us / 8"),
            (
                8 * self.status_interval_us <= self.view_timeout_us,
                "status_interval_us must be at most view_timeout_us / 8",
            ),
        ):
            if not holds:
                names = [word for word in rule.replace(",", "").split() if hasattr(self, word)]
                values = ", ".join(f"{name} = {getattr(self, name)}" for name in dict.fromkeys(names))
                raise ValueError(f"{rule} ({values})")
        return self

    @property
    def heartbeat(self) -> int:
        return self.heartbeat_us or self.view_timeout_us // 8

    @property
    def measures(self) -> frozenset[Measure]:
        """Those of `robust`."""
        if isinstance(self.robust, bool):
            return frozenset(MEASURES) if self.robust else frozenset()
        return frozenset(self.robust)

    @property
    def fair_queues(self) -> bool:
        """For the worlds: see `replog.turns`."""
        return "queues" in self.measures

    @property
    def throttles_floods(self) -> bool:
        return "throttle" in self.measures

    @property
    def client_retry_us(self) -> int:
        """A client sends to all replicas well before their patience with the primary can end. [CL99 4.1]"""
        return self.view_timeout_us // 4

    @property
    def idle_interval_us(self) -> int:
        return 4 * self.status_interval_us
