"""How far the state machine is: committed, applied, kept as a snapshot, on disk. [Raft fig. 2, 7]

Here: what is applied when, when a snapshot is taken, how much of the log it lets go. Not here: what makes an entry
committed (`raft.core`), nor how a snapshot travels (`raft.snapshot`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from raft.log import Log
from raft.membership import concludes
from raft.messages import LogStart
from raft.snapshot import Sender, Snapshot
from replog.codec import digest_of
from replog.core import Apply, Checkpoint, Checkpointed, Effect, SetTimer, Stored
from replog.types import Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


APPLY: Final = "apply"
SNAPSHOT: Final = "snapshot"

_encode = msgspec.msgpack.Encoder().encode


class Machine:
    """Invariants:
    last_applied <= commit_index, and neither ever falls                                  [Raft fig. 2]
    the log begins at or before the newest snapshot: there is no gap between them          [Raft 7]
    `installing` is the index of an installed state that is not on disk yet, else 0        (HAZARDS R2)
    """

    def __init__(self, config: RaftConfig, cluster: str, log: Log, stored: Stored) -> None:
        self.config = config
        self.log = log
        self._cluster = cluster
        self.commit_index = stored.index
        """What the saved state holds was committed; how much more is, a leader will tell."""
        self.last_applied = stored.index
        self.saved_index = stored.index
        self.executed = stored.index
        """What the application has executed: all that is applied, once this step is over."""
        self.installing = 0
        self._asked_index = stored.index
        """Up to where snapshots were asked for: the answer to one comes after all that the step lists."""
        self._ages = False
        """Whether the timer runs that will take the next snapshot, should nothing else do it before."""
        self.snapshot: Snapshot | None = None
        if stored.index:
            at = log.term(stored.index), log.configuration_at(stored.index)
            self.snapshot = Snapshot(stored.index, *at, stored.digest)

    @property
    def snapshot_index(self) -> int:
        return self.snapshot.index if self.snapshot is not None else 0

    @property
    def _kept_index(self) -> int:
        """The newest snapshot, there already or asked for."""
        return max(self.snapshot_index, self._asked_index)

    # ----------------------------------------------------------------------------------------------------- applying

    def commit_to(self, index: int) -> list[Effect]:
        """Everything up to `index`, which is beyond commit_index, is committed."""
        self.commit_index = index
        return self.apply()

    def apply(self) -> list[Effect]:
        """[Raft fig. 2, all servers] A few entries at a time, and one snapshot: the timer comes after what has arrived
        meanwhile."""
        effects: list[Effect] = []
        upto = min(self.commit_index, self.last_applied + self.config.apply_entries_max)
        while self.last_applied < upto:
            index = self.last_applied + 1
            entry, requests = self.log.entry(index), self.log.requests(index)
            place = _encode((self._cluster, index, entry.term, entry.time))
            concluded = self._concludes(index) if entry.configuration is not None else ""
            effects.append(Apply(index, requests, entry.time, _next_seed(place, requests), concludes=concluded))
            self.last_applied = index
            if self._snapshot_due():
                effects += self.take_snapshot()
                break
        if self.last_applied > self._kept_index and not self._ages:
            self._ages = True
            effects.append(SetTimer(SNAPSHOT, self.config.snapshot_age_us))
        if self.last_applied < self.commit_index:
            effects.append(SetTimer(APPLY, 1))
        return effects

    def _concludes(self, index: int) -> Literal["", "made", "given up"]:
        return concludes(self.log.configuration_at(index - 1), self.log.configuration_at(index))

    # ---------------------------------------------------------------------------------------------------- snapshots

    def _snapshot_due(self) -> bool:
        since = self._kept_index
        if self.last_applied - since >= self.config.snapshot_entries:
            return True
        return self.log.bytes_between(since, self.last_applied) >= self.config.snapshot_bytes

    def take_snapshot(self) -> list[Effect]:
        """Now, if there is anything new to keep."""
        if self.last_applied <= self._kept_index:
            return []
        self._asked_index = self.last_applied
        self._ages = False
        return [Checkpoint(self.last_applied)]

    def on_age(self) -> list[Effect]:
        """What the newest snapshot does not hold is old."""
        self._ages = False
        return self.take_snapshot()

    def keep(self, taken: Checkpointed, sender: Sender | None) -> LogStart | None:
        """A snapshot was taken: forget what it holds, except a tail for followers that are a little behind, and what
        a follower needs behind an older snapshot that it is being sent. [Raft 7] Where the log begins now, if it does
        so later than before.

        A transfer holds as many bytes of the log, beyond log_bytes_max, as have come through it: one that is faster
        than the load ends, and the log is bounded by the state that it brings.
        """
        index, log = taken.index, self.log
        self.snapshot = Snapshot(index, log.term(index), log.configuration_at(index), taken.digest)
        upto = index - self.config.log_tail
        if sender is not None and sender.oldest is not None:
            upto = min(upto, sender.oldest)
        held = sender.arrived_bytes if sender is not None else 0
        if log.size > self.config.log_bytes_max + held:
            upto = index
            if sender is not None:
                sender.stop_before(index)
        return log.discard_before(upto) if upto > log.start_index else None

    def install(self, snapshot: Snapshot) -> None:
        """The state is that of `snapshot`, in memory. Until it is on disk a crash takes this server back to what it
        was before, and nobody may have counted on more (HAZARDS R2, R13, R16)."""
        self.log.install(snapshot.log_start)
        self.commit_index = self.last_applied = self.executed = self.installing = snapshot.index
        self.snapshot = snapshot

    def saved(self, index: int) -> int:
        """The state at `index` is on disk. The index of the installed state that is safe by that, else 0."""
        self.saved_index = max(self.saved_index, index)
        if not self.installing or index < self.installing:
            return 0
        installed, self.installing = self.installing, 0
        return installed

    def check_invariants(self) -> None:
        assert self.last_applied <= self.commit_index, "last_applied <= commit_index"
        assert self.commit_index <= self.log.last_index, "commit_index <= last_log_index"
        assert self.log.start_index <= self.last_applied, "only what is applied is compacted"
        assert self.log.start_index <= self.snapshot_index, "the log goes on where the snapshot ends"


def _next_seed(place: bytes, requests: Sequence[Request]) -> bytes:
    """The same on every server, and after no entry but this one."""
    return digest_of(place + b"".join([request.digest for request in requests]))
