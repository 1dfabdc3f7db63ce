"""Raft's options: what may be chosen, its defaults, and the relations that must hold between them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from replog.codec import FRAME_BYTES_MAX
from replog.types import REQUEST_BYTES_MAX

MESSAGE_BYTES_MAX: Final = FRAME_BYTES_MAX // 2
"""What may be put into one message. No link takes a larger frame, and one that is never sent is sent again for ever:
the other half is for what encoding adds, at most 2 bytes to a request of 14 and 32 to an entry, which are counted."""
PART_BYTES_MAX: Final = 1_048_576
"""The largest part into which a state is cut (`replog.merkle`, which no protocol imports; a test compares the two). A
receiver that cannot hold one part never gets the state."""

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=1, le=65_536)]
Bytes = Annotated[int, Field(ge=1, le=MESSAGE_BYTES_MAX)]
Period = Annotated[int, Field(ge=1_000, le=600_000_000)]


class RaftConfig(BaseModel):
    """broadcastTime << election timeout << time between failures [Raft 5.6]: the first relation is checked here as far
    as a configuration can know it, by the heartbeat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    election_timeout_min_us: Period = 300_000
    """A follower that hears nothing stands for election after a time drawn from [min, max]. The paper's 150-300 ms are
    doubled: replicas of a laboratory share one machine, and a pause of its scheduler must not look like a crash."""
    election_timeout_max_us: Period = 600_000
    heartbeat_us: Period = 50_000

    pre_vote: bool = True
    """Ask before raising the term: a server that was cut off disturbs nobody when it returns. [Ongaro14 9.6]"""
    check_quorum: bool = True
    """A leader that hears no majority for an election timeout steps down. [Ongaro14 6.2]"""
    leader_stickiness: bool = True
    """Whoever hears a leader gives no votes. [Raft 6, Ongaro14 4.2.3]"""
    witness: bool = True
    """Servers remember each other's promises, and one that comes back with less than it had promised gives no votes.
    Without it such a server is not found out, and what was found out before is forgotten."""
    witness_us: Period = 1_000_000
    """How often a leader tells what each has acknowledged. Copies of disks that are younger may pass."""

    batch_requests_max: Count = 1_024
    """Most requests in one entry."""
    batch_operations_max: Annotated[int, Field(ge=1, le=1_048_576)] = 16_384
    """Most operations in one entry, a single larger request excepted."""
    batch_bytes_max: Bytes = 1_048_576
    """Most bytes in one entry, and in one AppendEntries; a single larger request or entry excepted."""
    batch_delay_us: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """While other entries are under way, a batch that is not full waits this long for company; 0: not at all."""
    append_entries_max: Count = 256
    """Most entries in one AppendEntries."""
    uncommitted_max: Count = 8
    """Entries that a leader has under way; while there are so many, requests wait and fill the next batch."""
    window: Count = 64
    """AppendEntries with entries under way to one follower, unanswered."""

    pending_requests_max: Annotated[int, Field(ge=1, le=1_000_000)] = 16_384
    """Requests that wait for a batch; beyond it the answer is OVERLOADED."""
    pending_bytes_max: Annotated[int, Field(ge=1, le=512 * 1_048_576)] = 64 * 1_048_576
    """What waits may become one record of several entries, and the disk takes records of up to 10^9 bytes."""
    fast_reads: bool = True
    """Reads are answered without being ordered: by ReadIndex, or by a lease. [Raft 8; Ongaro14 6.4]"""
    read_from: Literal["leader", "any"] = "leader"
    """Whom clients ask to read. A follower asks the leader for an index: a message delay more, and less for the leader
    to do."""
    lease_reads: bool = False
    """A leader that a quorum has heard reads without asking again, for election_timeout_min_us less what clocks may
    drift. Safe only as long as clocks keep to clock_drift_ppm, also while a process or its machine is paused; without
    it no read rests on any clock. [Ongaro14 6.4.1]"""
    clock_drift_ppm: Annotated[int, Field(ge=0, le=900_000)] = 100_000
    """While the clock of one server goes on by a second, no other's goes on by less than a second without so many
    microseconds. For lease_reads alone."""
    request_bytes_max: Bytes = REQUEST_BYTES_MAX
    """A larger request is refused."""

    apply_entries_max: Count = 1_024
    """Most entries applied in one step: a long log does not keep a server from its heartbeats."""

    snapshot_entries: Positive = 4_096
    """A snapshot is taken after this many applied entries, or ..."""
    snapshot_bytes: Positive = 16 * 1_048_576
    """... after this many bytes of them, or ..."""
    snapshot_age_us: Period = 600_000_000
    """... this long after the first that the newest snapshot does not hold: a quiet cluster starts quickly, too."""
    log_tail: Annotated[int, Field(ge=0)] = 1_024
    """Entries before the snapshot that are kept for followers a little behind."""
    log_bytes_max: Positive = 256 * 1_048_576
    """A log longer than this is cut at the newest snapshot, even if that ends a transfer to a slow follower."""
    snapshot_chunk_bytes: Bytes = 1_048_576
    snapshot_window: Annotated[int, Field(ge=1, le=64)] = 32
    """Parts of a snapshot under way to one follower, unanswered."""
    snapshot_part_bytes_max: Annotated[int, Field(ge=PART_BYTES_MAX)] = 16 * 1_048_576
    """Bytes of unfinished parts that a receiver keeps; a larger part is refused."""
    snapshot_retry_us: Period = 500_000
    """Ask again if a transfer has heard nothing for so long ..."""
    snapshot_timeout_us: Period = 10_000_000
    """... and give it up after this long without progress: the log need not be held for it any more."""

    catch_up_rounds: Count = 10
    """A server that is to vote first brings its log up to date, in rounds of what the leader's log held when each
    began. It votes after one that took less than election_timeout_min_us; when so many took longer the change is given
    up. [Ongaro14 4.2.1]"""
    catch_up_us: Period = 600_000_000
    """The change is given up, too, when a round takes so long: the server may not be there at all."""

    client_retry_us: Period = 700_000
    """Before a client asks the next server: a little longer than it takes to notice a crash and elect, so that the
    first retry meets a leader."""

    @model_validator(mode="after")
    def _relations(self) -> RaftConfig:
        low, high, beat = self.election_timeout_min_us, self.election_timeout_max_us, self.heartbeat_us
        if high < low:
            raise ValueError(f"election_timeout_max_us = {high} is below election_timeout_min_us = {low}")
        if 2 * beat > low:
            raise ValueError(
                f"heartbeat_us = {beat} is more than half of election_timeout_min_us = {low}: "
                "one lost heartbeat would depose a working leader"
            )
        if (self.pre_vote or self.leader_stickiness) and not self.check_quorum:
            raise ValueError(
                "check_quorum = false: pre_vote and leader_stickiness need it, or a leader that is heard and hears "
                "nobody stays for ever"
            )
        if 2 * self.batch_delay_us > low:
            raise ValueError(
                f"batch_delay_us = {self.batch_delay_us} is more than half of election_timeout_min_us = {low}"
            )
        if self.lease_reads and not self.leader_stickiness:
            raise ValueError("lease_reads = true needs leader_stickiness = true: while a lease runs nobody votes")
        if self.log_tail >= self.snapshot_entries:
            raise ValueError(f"log_tail = {self.log_tail} is not below snapshot_entries = {self.snapshot_entries}")
        if self.pending_bytes_max < self.request_bytes_max:
            raise ValueError(
                f"pending_bytes_max = {self.pending_bytes_max} is below request_bytes_max = {self.request_bytes_max}"
            )
        if self.log_bytes_max < self.snapshot_bytes:
            raise ValueError(f"log_bytes_max = {self.log_bytes_max} is below snapshot_bytes = {self.snapshot_bytes}")
        if self.catch_up_us < low:
            raise ValueError(f"catch_up_us = {self.catch_up_us} is below election_timeout_min_us = {low}")
        if self.snapshot_timeout_us < self.snapshot_retry_us:
            raise ValueError(
                f"snapshot_timeout_us = {self.snapshot_timeout_us} is below "
                f"snapshot_retry_us = {self.snapshot_retry_us}"
            )
        return self

    @property
    def lease_us(self) -> int:
        """How long a leader may count on it that nobody who heard it votes for another, by its own clock."""
        return self.election_timeout_min_us * (1_000_000 - self.clock_drift_ppm) // 1_000_000
