"""Executing what is decided: strictly in order of seq, each once, with a checkpoint at every multiple of the interval.

Here: how far this replica has executed, and what comes next [CL99 4.2, 4.3]; one batch ahead of that, tentatively
[CL99 5.1]. Not here: what is decided (`pbft.ordering`), the state (the executor's), answers to clients (`pbft.intake`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbft.checkpoint import Checkpoints
from pbft.messages import Batch
from pbft.ordering import Ordering
from pbft.slots import Slot
from pbft.state_transfer import StateTransfer
from replog.codec import digest_of
from replog.core import Apply, Checkpoint, Confirm, Effect, Rollback, Setup

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options


class Execution:
    """Invariants:
    everything up to `executed` was executed once, in order, and rests on a commit certificate or a proved checkpoint
    `tentative` is None, or the batch after `executed`, prepared in its view: executed, decided or undone later
    the executor is at `_applied`: `executed`, one beyond it with a tentative batch, or below it after a rollback, and
    then what was decided is applied again before anything else
    one Apply, Confirm or Checkpoint is under way at a time: a checkpoint is of the state right after its own seq
    nothing is executed while a state is being fetched                                            (HAZARDS P26, P45)
    """

    def __init__(self, setup: Setup, ordering: Ordering, transfer: StateTransfer, checkpoints: Checkpoints) -> None:
        self._options: Options = setup.config
        self._domain = setup.domain
        self._ordering = ordering
        self._transfer = transfer
        self._checkpoints = checkpoints
        self.executed = setup.stored.index
        self.tentative: Batch | None = None
        self.was_tentative = False
        """Whether what was executed last had been answered before it was decided, in the view that decided it: only
        tentative answers of one view make a result."""
        self._told_in = 0
        self._applied = self.executed
        self._busy = False
        self._checkpoint_due = False
        self._doubted = False
        self.is_void = False
        """Whether the state is of no seq at all: nothing is executed before a proved one has taken its place."""

    @property
    def settled(self) -> bool:
        """Whether the state is that of `executed`, no less and nothing tentative, and this replica believes in it."""
        return self._applied == self.executed and not self._transfer.running and not self._doubted

    def doubt(self, doubted: bool) -> None:
        """While this replica is refreshed nothing is read from its state. [CL02 proactive recovery]"""
        self._doubted = doubted

    def void(self, seq: int) -> None:
        """The state claims a seq that it cannot be of; `seq` is the last that is proved."""
        self.is_void = True
        self.executed = self._applied = seq
        self.tentative = None
        self._busy = self._checkpoint_due = False

    def next(self) -> list[Effect]:
        """What is to be carried out now. [CL99 4.2] (P26)"""
        if self._busy or self._transfer.running or self.is_void:
            return []
        slot = self._ordering.due(self.executed + 1)
        undone: list[Effect] = []
        if self.tentative is not None:
            if self._stands(slot):
                return self._confirm(slot)
            undone = [self._undo()]
        if self._checkpoint_due and not undone:
            self._checkpoint_due, self._busy = False, True
            return [Checkpoint(self.executed)]
        if self._applied < self.executed:
            # It may be cut by now: with a proof a whole window later, only the state helps.
            slot = self._ordering.slots.get(self._applied + 1)
        return undone + self._apply(slot)

    def _apply(self, slot: Slot | None) -> list[Effect]:
        """What is decided, or may be executed before it is."""
        if slot is None:
            return []
        if slot.decided is not None:
            return [self._effect(slot.seq, slot.decided)]
        if not self._options.tentative or slot.body is None or slot.committed is not None:
            return []
        if not self._ordering.has_prepared(slot):
            return []
        self.tentative, self._told_in = slot.body, self._ordering.view
        return [self._effect(slot.seq, slot.body, tentative=True)]

    def _effect(self, seq: int, batch: Batch, tentative: bool = False) -> Apply:
        self._busy, self.was_tentative = True, False
        return Apply(seq, batch.requests, batch.time, self.next_seed(seq, batch), tentative)

    def next_seed(self, seq: int, batch: Batch) -> bytes:
        """The same everywhere, and who knows this batch knows it beforehand: no lottery. (P29)"""
        return digest_of(b"seed" + self._domain.statement("seed", (seq, batch.digest)))

    # ------------------------------------------------------------------------------------------------------ tentative

    def _stands(self, slot: Slot | None) -> bool:
        """Whether nothing speaks against the tentative batch: no other one is decided, nor begun in a later view."""
        if self.tentative is None or slot is None:
            return False
        if slot.committed is not None:
            return slot.committed.digest == self.tentative.digest
        return slot.digest == self.tentative.digest or not self._ordering.active

    def _confirm(self, slot: Slot | None) -> list[Effect]:
        batch = slot.decided if slot is not None else None
        if slot is None or batch is None or slot.committed is None:
            return []
        self.tentative = None
        self._busy, self.was_tentative = True, slot.committed.view == self._told_in
        return [Confirm(slot.seq, batch.requests, batch.time)]

    def _undo(self) -> Effect:
        """Back to the last checkpoint; what was decided since then is applied again. [CL99 5.1]"""
        self.tentative = None
        held = [seq for seq in self._checkpoints.own if seq <= self.executed]
        self._applied = max([self._checkpoints.stable.seq, *held])
        return Rollback(self._applied)

    # -------------------------------------------------------------------------------------------------------- answers

    def applied(self, seq: int, tentative: bool) -> Slot | None:
        """The executor has applied or confirmed `seq`. Its slot if that is new and decided: else nobody has to know."""
        self._busy = False
        self._applied = seq
        if tentative or seq <= self.executed:
            return None
        slot = self._ordering.slots[seq]
        if slot.decided is None:
            raise RuntimeError(f"seq {seq} was applied without being decided")
        self.executed = seq
        self._checkpoint_due = seq % self._options.checkpoint_interval == 0
        return slot

    def checkpointed(self) -> None:
        """The checkpoint that was due is taken."""
        self._busy = False

    def jump(self, seq: int) -> None:
        """The state has become the proved one after `seq`."""
        self.executed = self._applied = seq
        self.tentative = None
        self._busy = self._checkpoint_due = self.is_void = False

    def check_invariants(self) -> None:
        ahead = 1 if self.tentative is not None else 0
        assert self._busy or self._applied <= self.executed + ahead, "one batch ahead of what is decided at most"
