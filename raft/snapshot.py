"""Snapshots on the way: a leader's transfers to followers far behind, and a follower that receives one. [Raft 7]

Here: which part goes next, what was lost, when to give up. Not here: when a snapshot is taken and what it lets the log
forget (`raft.core`), nor what is in a part (the executor).

A snapshot is known by index and digest, so that a transfer goes on under a new leader that holds the same one, and
starts over, keeping every part that is the same, under one that does not (HAZARDS R15).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raft.configuration import Configuration
from raft.messages import InstallSnapshot, LogStart, SnapshotReply
from replog.core import Effect, Note, Part, ReadPart, Restore, Send, Wanted, WritePart
from replog.types import Digest, Micros, NodeId

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint of the application that this server holds, and what the log was there (HAZARDS R16)."""

    index: int
    term: int
    configuration: Configuration
    digest: Digest

    @property
    def log_start(self) -> LogStart:
        return LogStart(self.index, self.term, self.configuration)


class Transfer:
    """One follower's. `under_way`: parts with their sizes, 0 until they were read; at most `snapshot_window`."""

    def __init__(self, snapshot: Snapshot, now: Micros) -> None:
        self.snapshot = snapshot
        self.under_way: dict[int, int] = {}
        self.arrived_bytes = 0
        """Of parts that the follower asked for and does not want any more; the root, sent to ask, is not one."""
        self.heard_at = now
        self.progress_at = now
        self.wanted: list[int] = []
        self.hints: dict[int, bytes] = {}
        """What the follower has of parts that it wants."""


class Sender:
    """A leader's transfers, for one term."""

    def __init__(self, me: NodeId, current_term: int, config: RaftConfig) -> None:
        self.me = me
        self.current_term = current_term
        self.config = config
        self._transfers: dict[NodeId, Transfer] = {}

    def __contains__(self, node: NodeId) -> bool:
        return node in self._transfers

    @property
    def oldest(self) -> int | None:
        """The least index of a snapshot under way: the log after it is needed until its follower has it."""
        return min((transfer.snapshot.index for transfer in self._transfers.values()), default=None)

    @property
    def arrived_bytes(self) -> int:
        """What the furthest transfer under way has brought to its follower."""
        return max((transfer.arrived_bytes for transfer in self._transfers.values()), default=0)

    def start(self, now: Micros, node: NodeId, snapshot: Snapshot) -> list[Effect]:
        """Begin with the root; what else is wanted the follower will say."""
        self._transfers[node] = Transfer(snapshot, now)
        return self._read(node, [0])

    def stop(self, node: NodeId) -> None:
        self._transfers.pop(node, None)

    def stop_before(self, index: int) -> None:
        """Give up what is older than the snapshot at `index`."""
        for node in [node for node, transfer in self._transfers.items() if transfer.snapshot.index < index]:
            self.stop(node)

    def _read(self, node: NodeId, parts: list[int]) -> list[Effect]:
        transfer = self._transfers[node]
        transfer.under_way.update(dict.fromkeys(parts, 0))
        return [ReadPart(transfer.snapshot.index, part, node, transfer.hints.get(part, b"")) for part in parts]

    def on_part(self, part: Part) -> list[Effect]:
        """A part was read for node `part.token`: send it, in chunks. One that is not held ends the transfer."""
        transfer = self._transfers.get(part.token)
        if transfer is None or transfer.snapshot.index != part.index:
            return []
        if part.data is None:
            self.stop(part.token)
            return []
        if part.part in transfer.under_way:
            transfer.under_way[part.part] = len(part.data)
        return [Send((part.token,), chunk) for chunk in self._chunks(transfer.snapshot, part.part, part.data)]

    def _chunks(self, snapshot: Snapshot, part: int, data: bytes) -> list[InstallSnapshot]:
        size = self.config.snapshot_chunk_bytes
        of = self.current_term, self.me, snapshot.index, snapshot.term, snapshot.configuration, snapshot.digest, part
        return [
            InstallSnapshot(*of, offset, data[offset : offset + size], offset + size >= len(data))
            for offset in range(0, max(len(data), 1), size)
        ]

    def on_reply(self, now: Micros, node: NodeId, message: SnapshotReply) -> list[Effect]:
        """Send what is wanted and not under way, within the window."""
        transfer = self._transfers.get(node)
        if transfer is None or transfer.snapshot.index != message.last_included_index:
            return []
        transfer.heard_at = now
        if message.wanted != transfer.wanted or not message.wanted:
            transfer.progress_at = now
            transfer.wanted = list(message.wanted)
        for part in transfer.under_way.keys() - set(message.wanted):
            size = transfer.under_way.pop(part)
            transfer.arrived_bytes += size if part else 0
        for part in message.hints:
            transfer.under_way.pop(part, None)
        hints = transfer.hints | message.hints
        transfer.hints = {part: hints[part] for part in message.wanted if part in hints}
        room = self.config.snapshot_window - len(transfer.under_way)
        return self._read(node, [part for part in message.wanted if part not in transfer.under_way][:room])

    def tick(self, now: Micros) -> list[Effect]:
        """Ask again where nothing was heard for a while; give up where nothing was gained for long."""
        effects: list[Effect] = []
        for node, transfer in list(self._transfers.items()):
            if now - transfer.progress_at >= self.config.snapshot_timeout_us:
                self.stop(node)
                effects.append(Note("snapshot-abandoned", {"node": node, "index": transfer.snapshot.index}))
            elif now - transfer.heard_at >= self.config.snapshot_retry_us:
                transfer.heard_at = now
                transfer.under_way.clear()
                effects += self._read(node, [0])
        return effects

    def check_invariants(self) -> None:
        for node, transfer in self._transfers.items():
            assert len(transfer.under_way) <= self.config.snapshot_window, f"parts under way to {node}"


class Receiver:
    """A follower's side of InstallSnapshot.

    Invariants:
      at most one snapshot is being received, the last one offered
      unfinished parts together are within snapshot_part_bytes_max
    """

    def __init__(self, config: RaftConfig) -> None:
        self.config = config
        self.snapshot: Snapshot | None = None
        self._term = 0
        self._told: dict[int, bytes] = {}
        """Hints that the leader of this term was told."""
        self._unfinished: dict[int, bytearray] = {}
        self._finished: tuple[int, bytes] | None = None
        """The part that is complete and not written yet; written within the same step."""

    def stop(self) -> None:
        self.snapshot = None
        self._told = {}
        self._unfinished.clear()
        self._finished = None

    def on_chunk(self, message: InstallSnapshot) -> list[Effect]:
        """The executor's answers, Wanted or Checkpointed, come back within the same step."""
        snapshot = Snapshot(
            message.last_included_index, message.last_included_term, message.configuration, message.digest
        )
        if self.snapshot is not None and message.term == self._term and snapshot.index < self.snapshot.index:
            return []  # late: this leader has gone over to a newer one
        begins = snapshot != self.snapshot
        if begins:
            self.stop()
            self.snapshot = snapshot
        if message.term != self._term:
            self._term, self._told = message.term, {}
        refused = self._collect(message)
        if refused:
            return [Note("nonsense", {"sender": message.leader_id, "rule": refused})]
        # Asking what is wanted comes first: the part may have come before, and the leader learns where to go on.
        return [Restore(snapshot.index, snapshot.digest)] if begins or message.done else []

    def _collect(self, message: InstallSnapshot) -> str:
        """Put the chunk behind what came before it. Chunks out of order are lost, and asked for again."""
        if message.offset == 0:
            self._unfinished.pop(message.part, None)
        held = self._unfinished.get(message.part, b"")
        if message.offset != len(held):
            return ""
        if sum(map(len, self._unfinished.values())) + len(message.data) > self.config.snapshot_part_bytes_max:
            self._unfinished.clear()
            return f"parts under way are larger than snapshot_part_bytes_max = {self.config.snapshot_part_bytes_max}"
        if message.done:
            self._unfinished.pop(message.part, None)
            self._finished = message.part, bytes(held) + message.data
        else:
            self._unfinished.setdefault(message.part, bytearray()).extend(message.data)
        return ""

    def on_wanted(self, current_term: int, leader: NodeId, wanted: Wanted) -> list[Effect]:
        """Write the part at hand if it is wanted, else tell the leader what is."""
        if self.snapshot is None or wanted.index != self.snapshot.index:
            return []
        finished, self._finished = self._finished, None
        if finished is not None and finished[0] in wanted.parts:
            return [WritePart(wanted.index, *finished)]
        effects: list[Effect] = []
        if wanted.refused:
            effects.append(Note("nonsense", {"sender": leader, "rule": "a part does not have its digest"}))
        new = {part: hint for part, hint in wanted.hints.items() if self._told.get(part) != hint}
        self._told = wanted.hints
        return [*effects, Send((leader,), SnapshotReply(current_term, wanted.index, list(wanted.parts), False, new))]

    def check_invariants(self) -> None:
        unfinished = sum(map(len, self._unfinished.values()))
        assert unfinished <= self.config.snapshot_part_bytes_max, "unfinished parts are bounded"
        assert self.snapshot is not None or not self._unfinished, "no parts of no snapshot"
