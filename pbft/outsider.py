"""A replica that does not vote: not yet a member, no more one, or a member that was left behind by a whole epoch.

It follows checkpoints by their proofs and fetches states like any replica that lags; it serves parts of the states that
it has. It signs nothing, says nothing about any seq, executes nothing. Here: which state is fetched. Not here: when it
becomes a voting replica, and whom it tells of links (`pbft.epochs`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from pbft.catch_up import Giving
from pbft.checkpoint import Checkpoints, ClaimedCheckpoints
from pbft.messages import Checkpoint, CheckpointProof, FetchPart, PartData, Status
from pbft.notary import LinkNotary, Notary
from pbft.state_transfer import StateTransfer
from replog import types
from replog.core import (
    Checkpointed,
    Command,
    Effect,
    Event,
    Note,
    Part,
    Persist,
    Received,
    SaveState,
    Send,
    SetTimer,
    Setup,
    Started,
    Timeout,
    Trim,
    Wanted,
)
from replog.types import Message, Micros, NodeId

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options


class Role(Enum):
    JOINING = "joining"
    BEHIND = "joining the epoch"
    REMOVED = "removed"


class Outsider:
    """Invariants:
    what it fetches is proved under the configuration in `setup`, the latest that it knows; nothing is taken unproved
    `placed` is the state that is whole and in place here, if it is one of a proved checkpoint            (P41, P45)
    """

    notary_type: type[Notary] = Notary
    checkpoints_type: type[Checkpoints] = Checkpoints

    def __init__(self, setup: Setup, role: Role, placed: CheckpointProof | None) -> None:
        self.setup = setup
        self.options: Options = setup.config
        self.role = role
        self.placed = placed
        self.notary = self.notary_type(setup)
        self.checkpoints = self.checkpoints_type(self.notary)
        self.transfer = StateTransfer(self.notary)
        self.giving = Giving(self.options.status_interval_us)
        self._events: dict[type[Any], Callable[[Any], list[Effect]]] = {
            Started: self._on_started,
            Received: self._on_received,
            Timeout: self._on_timeout,
            Checkpointed: self._on_checkpointed,
            Wanted: self.transfer.on_wanted,
            Part: self._on_part_read,
            Command: self._on_command,
        }
        self._now: Micros = 0

    def step(self, now: Micros, event: Event) -> list[Effect]:
        self._now = now
        take = self._events.get(type(event))
        return [] if take is None else take(event)

    @property
    def index(self) -> int:
        return 0 if self.placed is None else self.placed.seq

    def status(self) -> types.Status:
        role = self.role.value + (", fetching state" if self.transfer.running else "")
        return types.Status(
            node=self.setup.me,
            protocol="pbft",
            role=role,
            view=0,
            leader=types.NOBODY,
            index=self.index,
            stable=self.index,
            in_sync=False,
            reason=role,
            detail={"refused": self.notary.refused, "auth": self.options.auth},
        )

    def check_invariants(self) -> None:
        self.checkpoints.check_invariants()
        self.transfer.check_invariants()

    # -------------------------------------------------------------------------------------------------------- messages

    def _on_started(self, event: Started) -> list[Effect]:
        return [SetTimer("status", self.options.status_interval_us), *self.fetch()]

    def _on_received(self, event: Received) -> list[Effect]:
        sender, message = event.sender, event.message
        if isinstance(sender, str) or not self.notary.is_member(sender):
            return []
        if isinstance(message, CheckpointProof):
            return self._on_proof(sender, message)
        if isinstance(message, Checkpoint):
            if message.replica != sender:
                return self.notary.refuse(sender, "a vote in another's name")
            return self.checkpoints.on_vote(message) + self.fetch()
        return []

    def _on_proof(self, sender: NodeId, message: CheckpointProof) -> list[Effect]:
        if message.seq <= self.checkpoints.proven.seq:
            return []
        if flaw := self.notary.flaw_in_checkpoint(message):
            return self.notary.refuse(sender, flaw)
        self.checkpoints.learn(message)
        return self.fetch()

    def serve(self, now: Micros, sender: NodeId, message: FetchPart | PartData) -> list[Effect]:
        """Parts of states: what they must hash to is known to whoever asked."""
        self._now = now
        if isinstance(message, PartData):
            return self.transfer.on_part(sender, message)
        return self.giving.read_part(now, sender, message)

    def _on_part_read(self, event: Part) -> list[Effect]:
        return self.giving.part(self._now, event)

    def words(self, stable: int) -> list[Message]:
        """Only what others have signed: its own word is of no weight."""
        proven = self.checkpoints.proven
        return [proven] if self.notary.transferable and proven.votes and proven.seq > stable else []

    def _on_command(self, event: Command) -> list[Effect]:
        """There is nothing to be refreshed, nor to give up."""
        if event.name == "step-down":
            return [Note("stepped-down", {})]
        return [Note(f"{event.name}-refused", {"rule": f"this replica does not vote: {self.role.value}"})]

    # ----------------------------------------------------------------------------------------------------------- state

    def fetch(self) -> list[Effect]:
        """The state of the highest checkpoint that a quorum vouches for, if that helps. [CL99 4.4]"""
        proof = self.checkpoints.certified
        if self.transfer.running or not self._lacks(proof):
            return []
        begin = Note("fetch-state", {"index": proof.seq, "executed": self.index})
        return [begin, *self.transfer.start(proof)]

    def _lacks(self, proof: CheckpointProof) -> bool:
        """Whoever is a member needs a state of its epoch. Whoever is to join keeps near, a window behind at most."""
        if self.role is Role.REMOVED or proof.seq == 0:
            return False
        if self.role is Role.BEHIND:
            return self.placed is None or self.placed.seq < self.notary.base.seq
        return self.placed is None or proof.seq - self.placed.seq >= self.options.log_window

    def _on_timeout(self, event: Timeout) -> list[Effect]:
        """Say where it stands; ask again for what is late."""
        if event.name != "status" or self.role is Role.REMOVED:
            return []
        status = Status(0, False, self.index, self.index, False, b"", [])
        effects: list[Effect] = [
            SetTimer("status", self.options.status_interval_us),
            Send(self.notary.others, status),
        ]
        return effects + (self._push() if self.transfer.running else self.fetch())

    def _push(self) -> list[Effect]:
        """At each tick: others are asked for what is late; if nobody has it any more, a later checkpoint is due."""
        proof = self.checkpoints.certified
        if self.transfer.outlived and proof != self.transfer.target:
            return self.transfer.start(proof)
        if self.transfer.hopeless:
            self.transfer.retry()
        return self.transfer.tick()

    def _on_checkpointed(self, event: Checkpointed) -> list[Effect]:
        """The proved state is in place, whole: to the disk with it, behind its proof."""
        target = self.transfer.target
        if target is None or (event.index, event.digest) != (target.seq, target.digest):
            return []
        self.transfer.stop()
        self.placed = target
        return [Persist(target, target.seq + 1), Trim(target.seq), SaveState(target.seq), *self.fetch()]


class MacOutsider(Outsider):
    """Under MACs: a quorum's own word is waited for, since no proof can be passed on."""

    notary_type = LinkNotary
    checkpoints_type = ClaimedCheckpoints
