"""Executing what is decided: strictly in order of seq, each once, with a checkpoint at every multiple of the interval.

Here: how far this replica has executed, and what comes next [CL99 4.2, 4.3]. Not here: what is decided
(`pbft.ordering`), the state (the executor's), answers to clients (`pbft.intake`).
"""

from __future__ import annotations

from pbft.messages import Batch, CommitProof
from pbft.ordering import Ordering
from pbft.state_transfer import StateTransfer
from replog.codec import digest_of
from replog.core import Apply, Checkpoint, Effect, Setup


class Execution:
    """Invariants:
    everything up to `executed` was executed once, in order, and rests on a commit certificate or a proved checkpoint
    one Apply or Checkpoint is under way at a time: a checkpoint is of the state right after its own seq
    nothing is executed while a state is being fetched                                            (HAZARDS P26, P45)
    """

    def __init__(self, setup: Setup, ordering: Ordering, transfer: StateTransfer) -> None:
        self._domain = setup.domain
        self._interval: int = setup.config.checkpoint_interval
        self._ordering = ordering
        self._transfer = transfer
        self.executed = setup.stored.index
        self._busy = False
        self._checkpoint_due = False

    def next(self) -> list[Effect]:
        """The next Apply or Checkpoint, if it is its time. [CL99 4.2] (P26)"""
        if self._busy or self._transfer.running:
            return []
        if self._checkpoint_due:
            self._checkpoint_due, self._busy = False, True
            return [Checkpoint(self.executed)]
        slot = self._ordering.slots.get(self.executed + 1)
        batch = slot.decided if slot is not None else None
        if slot is None or batch is None:
            return []
        self._busy = True
        return [Apply(slot.seq, batch.requests, batch.time, self.seed(slot.seq, batch))]

    def seed(self, seq: int, batch: Batch) -> bytes:
        """The same everywhere, and known to the primary beforehand: no lottery. [deviates: the batch's own digest
        stands in for the previous batch's, which a replica that was given the state does not have] (P29)"""
        return digest_of(b"seed" + self._domain.statement("seed", (seq, batch.digest)))

    def applied(self, seq: int) -> tuple[Batch, CommitProof]:
        """`seq` was executed: what it was, and what it rests on."""
        slot = self._ordering.slots[seq]
        batch = slot.decided
        if batch is None or slot.committed is None:
            raise RuntimeError(f"seq {seq} was applied without being decided")
        self.executed = seq
        self._busy = False
        self._checkpoint_due = seq % self._interval == 0
        return batch, slot.committed

    def checkpointed(self) -> None:
        """The checkpoint that was due is taken."""
        self._busy = False

    def jump(self, seq: int) -> None:
        """The state has become the proved one after `seq`."""
        self.executed = seq
        self._busy = self._checkpoint_due = False
