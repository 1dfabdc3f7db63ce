"""One PBFT replica: events in, effects out. What it does with each message, timer and answer is here in one place.

The parts own their state and take what is theirs: `ordering` has the view and the slots, `acceptance` is the door to
them, `execution` knows how far this replica is, `checkpoints` what is proved, `view_changes` who wants which view,
`transfer` fetches a state, `requests` holds what waits, `intake` takes it in, `proposing` gives it a number, `patience`
has the timers. This class alone knows them all, and what follows in one from what happened in another.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from pbft.acceptance import Acceptance
from pbft.catch_up import Allowance, Giving, Hearing
from pbft.checkpoint import Checkpoints
from pbft.demands import SEARCHED, Demands
from pbft.execution import Execution
from pbft.intake import Intake
from pbft.messages import (
    BatchData,
    Checkpoint,
    CheckpointProof,
    Commit,
    Committed,
    Complaint,
    FetchBatch,
    FetchPart,
    Leaves,
    NewView,
    PartData,
    Prepare,
    PrePrepare,
    Refreshing,
    Standing,
    Status,
    Testimony,
    ViewChange,
)
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.patience import Patience
from pbft.proposing import Proposing
from pbft.reads import Reads
from pbft.recovery import Phase, Recovery, sound
from pbft.requests import Identity, Requests
from pbft.state_transfer import StateTransfer
from pbft.view_change import VIEW_RECORDS, ViewChanges
from replog import types
from replog.core import (
    Applied,
    Audited,
    Checkpointed,
    Command,
    Effect,
    Event,
    Note,
    Part,
    Persist,
    Queried,
    Received,
    Saved,
    SaveState,
    Send,
    SetTimer,
    Setup,
    Started,
    Throttled,
    Timeout,
    Trim,
    Wanted,
)
from replog.types import Answer, ClientId, Message, Micros, NodeId, Read, Submit

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options

VIEW_CHANGES: Final = 2
NEW_VIEWS: Final = 2
TESTIFIED: Final = 128
"""What of one peer is checked in one status interval: of testimonies, statements."""
REPEATS: Final = 4
"""So many times VIEW-CHANGE is repeated at every tick, then at every so manyth, like a request that still waits."""


class PbftCore:
    """Invariant, beside those of the parts: the low watermark is the stable checkpoint, what lies below is executed."""

    notary_type: type[Notary] = Notary
    ordering_type: type[Ordering] = Ordering
    checkpoints_type: type[Checkpoints] = Checkpoints
    view_changes_type: type[ViewChanges] = ViewChanges
    transfer_type: type[StateTransfer] = StateTransfer
    requests_type: type[Requests] = Requests
    patience_type: type[Patience] = Patience
    demands_type: type[Demands] = Demands
    execution_type: type[Execution] = Execution
    acceptance_type: type[Acceptance] = Acceptance
    intake_type: type[Intake] = Intake
    reads_type: type[Reads] = Reads
    proposing_type: type[Proposing] = Proposing
    recovery_type: type[Recovery] = Recovery
    """The parts: a core that is broken on purpose, in a test, has one of its own."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.options: Options = setup.config
        self.me = setup.me
        self.notary = self.notary_type(setup)
        self.ordering = self.ordering_type(self.notary)
        self.checkpoints = self.checkpoints_type(self.notary)
        self.view_changes = self.view_changes_type(self.notary)
        self.transfer = self.transfer_type(self.notary)
        self.requests = self.requests_type(setup)
        self.patience = self.patience_type(self.options)
        self.execution = self.execution_type(setup, self.ordering, self.transfer, self.checkpoints)
        self.acceptance = self.acceptance_type(setup, self.notary, self.ordering, self.requests, self.execution)
        self.intake = self.intake_type(setup, self.notary, self.ordering, self.requests, self.execution)
        self.reads = self.reads_type(setup, self.ordering, self.requests, self.intake, self.execution)
        self.proposing = self.proposing_type(
            setup, self.ordering, self.requests, self.checkpoints, self.execution, self.transfer
        )
        self.demands = self.demands_type(setup, self.notary, self.ordering, self.requests)
        self.recovery = self.recovery_type(
            setup, self.notary, self.ordering, self.checkpoints, self.view_changes, self.execution, self.transfer
        )
        self.hearing = Hearing(self.notary)
        self._now: Micros = 0
        self._cut_off = False
        self._connected = True
        self._ticked_at = -1
        self._repeats = 0
        self._ticks = 0
        self._reason = "start" if setup.stored.empty else "restart"
        self._epoch = setup.domain.epoch
        period = self.options.status_interval_us
        self.giving = Giving(period)
        self._view_changes: Allowance[NodeId] = Allowance(VIEW_CHANGES, period)
        self._new_views: Allowance[NodeId] = Allowance(NEW_VIEWS, period)
        self._testimonies: Allowance[NodeId] = Allowance(TESTIFIED, period)
        self._events: dict[type[Any], Callable[[Any], list[Effect]]] = {
            Started: self._on_started,
            Received: self._on_received,
            Timeout: self._on_timeout,
            Applied: self._on_applied,
            Checkpointed: self._on_checkpointed,
            Wanted: self.transfer.on_wanted,
            Part: self._on_part_read,
            Queried: self._on_queried,
            Saved: _ignore,
            Command: self._on_command,
            Throttled: self._on_throttled,
            Audited: self._on_audited,
        }
        self._messages: dict[type[Any], Callable[[NodeId, Any], list[Effect]]] = {
            Submit: self._on_submit,
            PrePrepare: self._on_pre_prepare,
            Prepare: self._on_vote,
            Commit: self._on_vote,
            Committed: self._on_committed,
            Checkpoint: self._on_checkpoint,
            CheckpointProof: self._on_checkpoint_proof,
            ViewChange: self._on_view_change,
            NewView: self._on_new_view,
            Status: self._on_status,
            FetchBatch: self._on_fetch_batch,
            BatchData: self._on_batch_data,
            FetchPart: self._on_fetch_part,
            PartData: self.transfer.on_part,
            Complaint: self._on_complaint,
            Refreshing: self._on_refreshing,
            Standing: self._on_standing,
            Testimony: self._on_testimony,
        }
        self._from_clients: dict[type[Any], Callable[[ClientId, Any], list[Effect]]] = {
            Submit: self._on_client_submit,
            Read: lambda sender, message: self.reads.from_client(self._now, sender, message),
        }
        self._recall()

    # -------------------------------------------------------------------------------------------------------- the plug

    def step(self, now: Micros, event: Event) -> list[Effect]:
        self._now = now
        effects = self._events[type(event)](event)
        if self.recovery.checking:
            effects += self._recover()
        effects += self._watch()
        return effects + self.demands.wake(self._now)

    @property
    def view(self) -> int:
        return self.ordering.view

    @property
    def primary(self) -> NodeId:
        return self.ordering.primary

    @property
    def executed(self) -> int:
        return self.execution.executed

    def status(self) -> types.Status:
        role = "primary" if self.ordering.leads else "backup"
        if not self.ordering.active:
            role += ", changing view"
        if self.transfer.running:
            role += ", fetching state"
        if self.recovery.checking:
            role += ", refreshing"
        if differing := self.checkpoints.differing():
            role += f", state differs from node {', '.join(map(str, differing))}"
        return types.Status(
            node=self.me,
            protocol="pbft",
            role=role,
            view=self.view,
            leader=self.primary if self.ordering.active else types.NOBODY,
            index=self.executed,
            stable=self.checkpoints.stable.seq,
            in_sync=self._in_sync(),
            reason=self._reason,
            detail={
                "proposed": self.ordering.next_seq - 1 if self.ordering.leads else 0,
                "waiting": len(self.requests.pending),
                "refused": self.notary.refused,
                "auth": self.options.auth,
            },
        )

    def _in_sync(self) -> bool:
        behind = max(self.hearing.reached(), self.checkpoints.proven.seq) - self.executed
        calm = self.ordering.active and not self.transfer.running and self._connected and not self.recovery.checking
        return calm and not self.checkpoints.differing() and behind <= self.options.in_flight_max

    def check_invariants(self) -> None:
        self.ordering.check_invariants()
        self.checkpoints.check_invariants()
        self.view_changes.check_invariants()
        self.transfer.check_invariants()
        self.requests.check_invariants()
        self.reads.check_invariants()
        self.execution.check_invariants()
        self.patience.check_invariants()
        self.demands.check_invariants()
        self.acceptance.check_invariants()
        self.recovery.check_invariants()
        self.notary.witness.check_invariants()
        assert self.checkpoints.stable.seq == self.ordering.low, "the low watermark is the stable checkpoint"
        assert self.executed >= self.ordering.low, "everything up to the low watermark was executed"

    # ----------------------------------------------------------------------------------------------- start and restart

    def _recall(self) -> None:
        """Recovery is construction: what was promised is on this replica's disk (P16).

        Views first, then slots: hard state is written anew now and then, so a NEW-VIEW may stand behind pre-prepares
        of its view.
        """
        stored = self.setup.stored
        records = sound(stored.records)
        self.ordering.discard(self.notary.base.seq)
        proofs = [record for record in records if type(record) is CheckpointProof]
        proofs += self._recall_view([record for record in records if isinstance(record, VIEW_RECORDS)])
        for record in records:
            if type(record) is Leaves:
                self.recovery.leave.recall(record)
            if type(record) is Checkpoint:
                self.checkpoints.recall(record)
            self.ordering.recall(record)
        self.view_changes.recall_votes(self.ordering)
        for proof in sorted(proofs, key=lambda proof: proof.seq):
            if proof.seq <= stored.index:
                self.checkpoints.adopt(proof)
            self.checkpoints.learn(proof)
        self.ordering.discard(self.checkpoints.stable.seq)
        self.ordering.raise_high(self.checkpoints.proven.seq)
        self._look_for_the_end()

    def _recall_view(self, records: list[Any]) -> list[CheckpointProof]:
        """The last view that was asked for or begun: a NEW-VIEW ends the wait for its view. Gives its min-s, if any."""
        for record in records:
            self.view_changes.recall(record)
        begun, asked = self.view_changes.new_view, self.view_changes.own
        proofs = []
        if begun is not None:
            low, holders = self.view_changes.enter(begun)
            self.ordering.recall_view(begun.view, low.seq, begun.pre_prepares, holders)
            proofs.append(low)
        if asked is not None and asked.view > self.ordering.view:
            self.ordering.leave(asked.view)
        return proofs

    def _on_started(self, event: Started) -> list[Effect]:
        self.hearing.begin(self._now)
        effects: list[Effect] = [SetTimer("status", self.options.status_interval_us)]
        effects += self.recovery.on_started(self._now)
        if self.ordering.active:
            effects.append(self._note_view())
            self.demands.begin_view(self._now)
            self.proposing.begin_view()
            effects += self.ordering.revote(self.executed)
        elif self.view_changes.own is not None:
            effects.append(Send(self.notary.others, self.view_changes.own))
        return effects + self.execution.next()

    def begin(self, now: Micros, former: PbftCore | None) -> list[Effect]:
        """The first step in a new epoch: what waited in the last one waits here, and its primary is told. A refresh
        begins anew, since its estimates were of what counts no more."""
        self._reason = f"epoch {self._epoch} began"
        if former is not None:
            self.requests.take_over(former.requests)
        effects = self.step(now, Started()) + self.intake.forward_waiting() + self.proposing.propose()
        if former is not None and former.recovery.phase is not Phase.NONE:
            effects += self.step(now, Command("refresh", {}))
        return effects

    def _note_view(self) -> Note:
        return Note("view", {"view": self.view, "leader": self.primary, "reason": self._reason})

    # -------------------------------------------------------------------------------------------------------- messages

    def _on_received(self, event: Received) -> list[Effect]:
        sender, message = event.sender, event.message
        if isinstance(sender, str):
            take = self._from_clients.get(type(message))
            if take is None:
                return self.notary.refuse(sender, "a client sends requests only")
            return take(sender, message)
        if sender == self.me or not self.notary.is_member(sender):
            return self.notary.refuse(sender, "not a member, or this replica itself")
        handler = self._messages.get(type(message))
        if handler is None:
            return self.notary.refuse(sender, f"a replica sends no {type(message).__name__}")
        self.hearing.heard_at[sender] = self._now
        return handler(sender, message) + self.notary.witness.heard(sender, message)

    # -------------------------------------------------------------------------------------------------------- requests

    def _on_client_submit(self, sender: ClientId, message: Submit) -> list[Effect]:
        return self.intake.from_client(self._now, sender, message) + self.proposing.propose()

    def _on_submit(self, sender: NodeId, message: Submit) -> list[Effect]:
        return self.intake.from_replica(self._now, sender, message) + self.proposing.propose()

    def _on_pre_prepare(self, sender: NodeId, message: PrePrepare) -> list[Effect]:
        return self._go_on(self.acceptance.on_pre_prepare(sender, message))

    def _on_vote(self, sender: NodeId, message: Prepare | Commit) -> list[Effect]:
        return self.acceptance.on_vote(sender, message) + self.execution.next()

    def _on_committed(self, sender: NodeId, message: Committed) -> list[Effect]:
        return self._go_on(self.acceptance.on_committed(sender, message))

    def _on_batch_data(self, sender: NodeId, message: BatchData) -> list[Effect]:
        return self._go_on(self.acceptance.on_batch_data(sender, message))

    def _go_on(self, effects: list[Effect]) -> list[Effect]:
        """After whatever may have decided something or made room: execute it, propose more."""
        effects += self.reads.serve()  # before what comes next makes the state tentative again
        return effects + self.execution.next() + self.proposing.propose()

    def _on_applied(self, event: Applied) -> list[Effect]:
        """Replies leave as they are; what this replica still has to write is listed behind them. [CL99 4.1]"""
        tentative = self.execution.tentative
        slot = self.execution.applied(event.index, event.tentative)
        if event.tentative and tentative is not None:
            return self._go_on(self.intake.answer(tentative.requests, event.results, Answer.TENTATIVE))
        if slot is None or slot.decided is None or slot.committed is None:
            return self._go_on([])
        effects: list[Effect] = []
        if not self.execution.was_tentative:
            effects = self.intake.answer(slot.decided.requests, event.results, Answer.DONE)
        found = self._look_for_the_end()
        batch, waiting = slot.decided, len(self.requests.pending)
        self.requests.executed(self._now, batch, event.results)
        done = [
            request.count
            for request, result in zip(batch.requests, event.results, strict=True)
            if result.results is not None
        ]
        self.demands.executed(self._now, done, waiting - len(self.requests.pending))
        effects += self._send_on()
        if done and slot.committed.view == self.view and self.ordering.active:
            self.patience.progress()
        if found:
            effects += self._make_room() + self._replay()
        return self._go_on(effects)

    def _look_for_the_end(self) -> bool:
        """Has a change of the members been decided? Asked only when nothing tentative is in the state."""
        boundary = self.setup.sessions.boundary(self._epoch)
        if boundary is None or boundary == self.ordering.boundary:
            return False
        self.ordering.end_at(boundary)
        self.requests.expect_nulls(True)
        return True

    @property
    def ends(self) -> int | None:
        """The boundary of this epoch, once it is decided."""
        return self.ordering.boundary

    @property
    def is_over(self) -> bool:
        """Whether all that this epoch may order is executed: what waits, waits for the next one, and blames nobody."""
        return self.ends is not None and self.executed >= self.ends

    def _on_queried(self, event: Queried) -> list[Effect]:
        return self._go_on(self.reads.on_queried(event))

    # ----------------------------------------------------------------------------------------------------- checkpoints

    def _on_checkpointed(self, event: Checkpointed) -> list[Effect]:
        """The digest of the own state after a multiple of checkpoint_interval, or the end of a transfer. [CL99 4.3]"""
        target = self.transfer.target
        if target is not None and (event.index, event.digest) == (target.seq, target.digest):
            return self._on_restored(target)
        self.execution.checkpointed()
        # What the vote says must outlive a power cut: the state may not be saved yet; the way to it is on disk first.
        effects = [*self.ordering.save(), *self.checkpoints.on_own(event.index, event.digest)]
        return self._go_on(effects + self._stand())

    def _on_checkpoint(self, sender: NodeId, message: Checkpoint) -> list[Effect]:
        if message.replica != sender:
            return self.notary.refuse(sender, "a vote in another's name")
        return self.checkpoints.on_vote(message) + self._stand()

    def _on_checkpoint_proof(self, sender: NodeId, message: CheckpointProof) -> list[Effect]:
        if message.seq <= self.checkpoints.proven.seq:
            return []
        if flaw := self.notary.flaw_in_checkpoint(message):
            return self.notary.refuse(sender, flaw)
        self.checkpoints.learn(message)
        return self._stand()

    def _stand(self) -> list[Effect]:
        """After a proof: raise the high watermark; if this replica has that state, the low one too. [CL99 4.3]

        A proof beyond the own state is written down, since slots are accepted on its strength.
        """
        proof = self.checkpoints.reached(self.executed)
        if proof is not None:
            return self._cut(proof)
        proven = self.checkpoints.proven
        effects: list[Effect] = []
        if self.ordering.raise_high(proven.seq):
            effects.append(Persist(proven, 0))
        if self.checkpoints.diverged() and not self.transfer.running:
            effects += [Note("diverged", {"index": proven.seq}), *self._fetch_state()]
        return effects + self._replay() if effects else []

    def _cut(self, proof: CheckpointProof) -> list[Effect]:
        """Stable: discard what lies below. Hard state is written anew first, beyond the cut, since the cut takes the
        old copy with it (P44). Then the window is open for what came early.

        What is saved is the stable state: started from a later one, a replica could not show it to whom its own
        restart has made the only source.
        """
        self.checkpoints.adopt(proof)
        self.ordering.discard(proof.seq)
        records: list[Message] = [self.checkpoints.proven]
        if proof != self.checkpoints.proven:
            records.insert(0, proof)
        records += self.view_changes.hard_state(self.ordering.active) + self.ordering.hard_state()
        records += self.recovery.leave.hard_state()
        anew = [Persist(record, proof.seq + 1) for record in records]
        saved: list[Effect] = [SaveState(proof.seq)] if proof.seq > self.setup.stored.index else []
        return [*anew, *saved, Trim(proof.seq), *self._replay(), *self.proposing.propose()]

    def _replay(self) -> list[Effect]:
        effects: list[Effect] = []
        for sender, message in self.acceptance.early.take():
            effects += self._messages[type(message)](sender, message)
        return effects

    # ---------------------------------------------------------------------------------------------------- view changes

    def _ask_for(self, view: int, reason: str) -> list[Effect]:
        """VIEW-CHANGE: on disk, then to all; from here on no vote in an older view. [CL99 4.4] (P16)"""
        self._reason = reason
        effects = self.patience.leave_view()
        self.ordering.leave(view)
        message = self.view_changes.ask(view, self.checkpoints, self.ordering)
        effects += [Persist(followed, 0) for followed in self.view_changes.reasons()]
        return [*effects, Persist(message, 0), Send(self.notary.others, message), *self._gather()]

    def _on_view_change(self, sender: NodeId, message: ViewChange) -> list[Effect]:
        """[CL99 4.4, 4.5.2] Join at f+1 (P11); with a quorum the next NEW-VIEW is due."""
        if message.replica != sender:
            return self.notary.refuse(sender, "a view-change in another's name")
        if message.view < self.view or (message.view == self.view and self.ordering.active):
            return []
        if message == self.view_changes.heard.get(sender):
            return self.view_changes.on_repeated(message)
        if not self._view_changes.take(self._now, sender):
            return []
        effects: list[Effect] = []
        if self.options.measures and self.ordering.active:
            effects = self.demands.on_complaint(self._now, sender, self.view) + self._give_up()
        effects += self.view_changes.on_view_change(message)
        view = self.view_changes.wanted(self.view)
        if view is not None:
            return effects + self._ask_for(
                view, self._blame(f"{self.notary.weak_quorum} replicas asked for view {view}")
            )
        if self._is_given_up(sender, message):
            return effects + self._ask_for(message.view, f"node {sender} gave its view up")
        return effects + self._gather()

    def _is_given_up(self, sender: NodeId, message: ViewChange) -> bool:
        """The primary itself asks for the next view: it is followed at once. A faulty one can do no more with it than
        lose its view, and whoever comes next is another. [CL02 proactive recovery]"""
        leaves = sender == self.primary and self.ordering.active and message.view == self.view + 1
        return leaves and self.view_changes.heard.get(sender) == message

    def _give_up_view(self) -> list[Effect]:
        """A primary that is to be refreshed lets the next one begin before anybody has to wait for it. [CL02]"""
        if not self.ordering.leads:
            return []
        return self._ask_for(self.view + 1, f"node {self.me} gave its view up")

    def _gather(self) -> list[Effect]:
        """A quorum asks for the view that this replica asks for: its primary begins it, the others wait for that."""
        if self.ordering.active or not self.view_changes.enough(self.view):
            return []
        if self.primary == self.me:
            message = self.view_changes.make(self.view)
            if message is not None:
                return [Persist(message, 0), Send(self.notary.others, message), *self._enter(message)]
        silent_us = self.options.view_timeout_us // 2
        hopeless = "heartbeat" in self.options.measures and self.hearing.misses(self.primary, self._now, silent_us)
        return self.patience.await_new_view(self._now, self.view, hopeless)

    def _on_new_view(self, sender: NodeId, message: NewView) -> list[Effect]:
        """[CL99 4.4] The first for its view that proves right (P4, P5)."""
        if message.view == self.view and self.ordering.active:
            return self.view_changes.on_second(message)
        if message.view < max(self.view, 1) or not self._new_views.take(self._now, sender):
            return []
        return self.view_changes.on_new_view(sender, message) + self._begin()

    def _begin(self) -> list[Effect]:
        """Enter the view whose NEW-VIEW proved right, if it is still to come."""
        message = self.view_changes.accepted
        if message is None or message.view < self.view or (message.view == self.view and self.ordering.active):
            return []
        leaving: list[Effect] = []
        if self.ordering.active:
            self._reason = self._blame(f"a quorum asked for view {message.view}")
            leaving = self.patience.leave_view()
        return [*leaving, Persist(message, 0), *self._enter(message)]

    def _enter(self, message: NewView) -> list[Effect]:
        """Begin the view that a checked NEW-VIEW describes: take its checkpoint, vote for what it proposes again, ask
        for bodies and state that are missing, send waiting requests to its primary. [CL99 4.4]"""
        low, holders = self.view_changes.enter(message)
        self.checkpoints.learn(low)
        self._harvest(message)
        effects = self.patience.stop_awaiting()
        effects += self.ordering.enter(message.view, low.seq, message.pre_prepares, holders)
        effects.append(self._note_view())
        self.demands.begin_view(self._now)
        self.proposing.begin_view()
        effects += self._stand() + self.intake.forward_waiting()
        if self.executed < self.checkpoints.proven.seq:
            effects += self._fetch_state()
        return self._go_on(effects + self.ordering.fetch_bodies() + self._replay())

    def _harvest(self, message: NewView) -> None:
        """Requests that the old view had given a number and the new one has not: they wait again."""
        kept = {proposal.digest for proposal in message.pre_prepares}
        for slot in self.ordering.above(self.executed):
            batch = slot.body
            if batch is None or batch.digest in kept or slot.committed is not None:
                continue
            for request in batch.requests:
                waits = request.identity in self.requests.pending or self.requests.is_over(request)
                if not waits and not self.requests.crowded(request):
                    self.requests.add(request)

    def _blame(self, otherwise: str) -> str:
        """Why the present view ends, for a person."""
        silence = self.hearing.silence(self.primary, self._now)
        if self.primary != self.me and 2 * silence >= self.options.view_timeout_us:
            return f"node {self.primary} was silent for {silence / 1e6:.1f} s"
        return otherwise

    # ---------------------------------------------------------------------------------------------------------- timers

    def _watch(self) -> list[Effect]:
        """After every step: is what the timer waits for done, and does something else wait? [CL99 4.4]

        The primary times nobody, nor does a replica that lacks a proved state or hears too few to change anything.
        """
        behind = self.executed < self.checkpoints.proven.seq or self.execution.is_void or self.is_over
        if not self.ordering.active or self.ordering.leads or self._cut_off or behind:
            return self.patience.rest()
        target = self.patience.target
        if isinstance(target, int) and target > self.executed:
            return []
        if isinstance(target, tuple) and target in self.requests.pending and not self.requests.owes(target[0]):
            return []
        wanted = self._oldest()
        return self.patience.rest() if wanted is None else self.patience.wait_for(self._now, wanted)

    def _oldest(self) -> tuple[str, int] | int | None:
        """What a backup waits for: the oldest request, else the next seq if a later one has a proposal, or if a change
        of the members waits for the boundary.

        A request may be past its time without an execution of its own: its client's session is closed. Of a client
        that owes, the primary rightly lets others' pass: then anything has to be executed in time.
        """
        gone: list[Identity] = []
        oldest: Identity | int | None = None
        for identity, request in islice(self.requests.counted(), SEARCHED):
            if self.requests.is_over(request):
                gone.append(identity)
            elif self.requests.owes(request.client):
                oldest = self.executed + 1
            else:
                oldest = identity
                break
        for over in gone:
            self.requests.remove(*over)
        if oldest is not None:
            return oldest
        due = self.ordering.latest if self.ends is None else self.ends
        return self.executed + 1 if due > self.executed else None

    def _on_timeout(self, event: Timeout) -> list[Effect]:
        if event.name == "status":
            return self._on_tick()
        if event.name == Proposing.TIMER:
            return self.proposing.on_timeout()
        if event.name == Demands.TIMER:
            return self._on_look()
        if event.name == Patience.REQUEST and self.patience.target is not None:
            return self._on_request_timeout()
        if event.name == Patience.NEW_VIEW and self.patience.awaited:
            waited = self.patience.armed_for / 1e6
            return self._ask_for(
                self.view + 1, f"node {self.primary} sent no NEW-VIEW for view {self.view} in {waited:.1f} s"
            )
        return []

    def _on_request_timeout(self) -> list[Effect]:
        """[CL99 4.4] The primary is given up. [deviates: a replica that heard fewer than a quorum meanwhile stays: its
        VIEW-CHANGE could not succeed, and would keep it out of its view when it can hear again]"""
        target, since, waited = self.patience.target, self.patience.armed_at, self.patience.armed_for / 1e6
        self.patience.target = None
        if isinstance(target, tuple) and self.requests.is_over(self.requests.pending[target]):
            return []
        if not self.hearing.connected(since):
            self._cut_off = True
            return [Note("cut-off", {"view": self.view})]
        what = f"seq {target}" if isinstance(target, int) else "request {}#{}".format(*(target or ("?", 0)))
        return self._ask_for(
            self.view + 1, self._blame(f"node {self.primary} did not get {what} executed in {waited:.1f} s")
        )

    def _on_look(self) -> list[Effect]:
        """What the primary keeps waiting is sent to it again, and then held against it. [Clement09]"""
        effects = self.demands.on_timeout(self._now, self.patience.failures, self._is_excused())
        return effects + self._send_on() + self._give_up()

    def _send_on(self) -> list[Effect]:
        effects: list[Effect] = []
        for request in self.demands.late(self._now) if not self.ordering.leads else ():
            self.requests.question(self._now, request.identity)
            effects += self.intake.forward(request)
        return effects

    def _is_excused(self) -> bool:
        """Whether this replica itself is behind, or hears too few to say anything of others."""
        if self.transfer.running or self._cut_off or self.executed < self.checkpoints.proven.seq or self.is_over:
            return True
        since = self._now - max(self.options.heartbeat, 2 * self.options.status_interval_us)
        behind = self.hearing.reached() - self.executed
        return behind > self.options.in_flight_max or not self.hearing.connected(since)

    def _on_complaint(self, sender: NodeId, message: Complaint) -> list[Effect]:
        return self.demands.on_complaint(self._now, sender, message.view) + self._give_up()

    def _give_up(self) -> list[Effect]:
        """Leave a primary of which a quorum complains."""
        if not self.ordering.active or not self.demands.given_up:
            return []
        return self._ask_for(self.view + 1, f"node {self.primary}: {self.demands.complaint}")

    def _on_tick(self) -> list[Effect]:
        """Tell the others what this replica has, repeat what they may have missed, ask again for what it lacks.
        [CL02 status] (P10)"""
        stalled = (
            self.executed == self._ticked_at or self.hearing.reached() > self.executed + self.options.in_flight_max
        )
        stuck = self.executed == self._ticked_at
        self._ticked_at = self.executed
        self._connected = self.hearing.connected(self._now - 2 * self.options.idle_interval_us)
        self._cut_off = self._cut_off and not self._connected
        flags = self.ordering.flags(self.executed)
        proven = self.checkpoints.proven
        where = (self.view, self.ordering.active, self.checkpoints.stable.seq, self.executed, stalled, flags)
        status = Status(*where, self.notary.witness.begun.named())
        waits = bool(flags or self.requests.pending) or not self.ordering.active or proven != self.checkpoints.stable
        waits = waits or self.recovery.phase is not Phase.NONE or self.ends is not None or self.notary.witness.waits
        interval = self.options.status_interval_us if waits else self.options.idle_interval_us
        effects: list[Effect] = [SetTimer("status", interval), Send(self.notary.others, status), *self.ordering.save()]
        effects += self._repeat_view_change() + self.view_changes.tick() + self.demands.repeat(self._now)
        effects += self.notary.witness.tick(self.view, proven.seq)
        if self.transfer.running:
            effects += self._push_transfer()
        elif stuck and (self.executed < proven.seq or (self.execution.is_void and proven.seq)):
            effects += self._fetch_state()
        effects += self.recovery.on_tick(self._now, self._in_sync()) + self._make_room()
        return effects + self.ordering.fetch_bodies() + self._remind()

    def _repeat_view_change(self) -> list[Effect]:
        """VIEW-CHANGE is sent again until its view or a later one begins, less often after a while. [CL99 6] (P10)"""
        if self.ordering.active or self.view_changes.own is None:
            self._repeats = 0
            return []
        self._repeats += 1
        if self._repeats > REPEATS and self._repeats % REPEATS:
            return []
        return [Send(self.notary.others, self.view_changes.own)]

    def _remind(self) -> list[Effect]:
        """The request that the timer waits for is sent to the primary again: it may have been full (P35)."""
        self._ticks += 1
        return self.intake.remind(self.patience.target) if self._ticks % REPEATS == 0 else []

    # ---------------------------------------------------------------------------------------------- proactive recovery

    def _on_command(self, event: Command) -> list[Effect]:
        """`refresh`: see `pbft.recovery`. `step-down`: a primary gives up its view."""
        if event.name == "refresh":
            return self.recovery.on_command(self._now) + self._make_room()
        if event.name == "step-down":
            return self._give_up_view() or [Note("stepped-down", {})]
        return [Note("command-refused", {"command": event.name, "rule": "pbft knows refresh and step-down"})]

    def _on_throttled(self, event: Throttled) -> list[Effect]:
        self.hearing.throttle(event.node, self._now + event.for_us)
        return []

    def _on_refreshing(self, sender: NodeId, message: Refreshing) -> list[Effect]:
        if not self.options.refresh:
            return self.notary.refuse(sender, "refresh is off in the options")
        in_sync = self._in_sync()
        return self.recovery.on_refreshing(self._now, sender, message, in_sync) + self._make_room()

    def _on_standing(self, sender: NodeId, message: Standing) -> list[Effect]:
        before = self.recovery.checking
        effects = self.recovery.on_standing(self._now, sender, message)
        if self.recovery.checking and not before:
            self.renew_keys()
        return effects

    def renew_keys(self) -> None:
        """Keys that an intruder may have learned count no more. With signatures there are none that this replica could
        renew: the links make new ones when they are made."""

    def _make_room(self) -> list[Effect]:
        """Null requests while one that is refreshed needs the next checkpoint, or a change of the members the boundary,
        and not any longer."""
        self.requests.expect_nulls(self.recovery.leave.any(self._now) or self.ends is not None)
        return self.proposing.fill(max(self.recovery.leave.point, self.ends or 0))

    def _on_audited(self, event: Audited) -> list[Effect]:
        return self._go_on(self.recovery.on_audited(event) + self._stand())

    def _recover(self) -> list[Effect]:
        """While this replica does not believe itself it leads nobody. Is it over?"""
        return self._give_up_view() + self.recovery.settle(self._now)

    # ----------------------------------------------------------------------------------------------------- catching up

    def _on_testimony(self, sender: NodeId, message: Testimony) -> list[Effect]:
        """Another replica shows what it has heard of a third one: see `pbft.witness`."""
        return self.notary.witness.told(sender, message, lambda: self._testimonies.take(self._now, sender))

    def _on_status(self, sender: NodeId, message: Status) -> list[Effect]:
        self.hearing.claim(sender, message.executed)
        unlike = self.notary.witness.begun.unlike(message.begun)
        parts = self.ordering, self.checkpoints, self.view_changes
        return self.giving.answer(self._now, sender, message, *parts, unlike)

    def _on_fetch_batch(self, sender: NodeId, message: FetchBatch) -> list[Effect]:
        return self.giving.batch(self._now, sender, message, self.ordering)

    def serve(self, now: Micros, sender: NodeId, message: FetchPart | PartData) -> list[Effect]:
        """Parts of states rest on their digests: they are for former and future members too."""
        self._now = now
        if isinstance(message, PartData):
            return self.transfer.on_part(sender, message)
        return self.giving.read_part(now, sender, message)

    def learn(self, now: Micros, proof: CheckpointProof) -> list[Effect]:
        """A proof that was verified elsewhere."""
        self._now = now
        self.checkpoints.learn(proof)
        return self._stand() + self._watch()

    def words(self, stable: int) -> list[Message]:
        """What there is to be told of checkpoints to one that has the state of `stable`."""
        return self.checkpoints.words(stable)

    def _on_fetch_part(self, sender: NodeId, message: FetchPart) -> list[Effect]:
        return self.giving.read_part(self._now, sender, message)

    def _on_part_read(self, event: Part) -> list[Effect]:
        return self.giving.part(self._now, event)

    # -------------------------------------------------------------------------------------------------- state transfer

    def _fetch_state(self) -> list[Effect]:
        """Get the state of the highest proved checkpoint from those that have it. [CL99 4.4] (P41, P45)"""
        proof = self.checkpoints.proven
        begin = Note("fetch-state", {"index": proof.seq, "executed": self.executed})
        return [begin, *self.transfer.start(proof)]

    def _push_transfer(self) -> list[Effect]:
        """At each tick: ask others for what is late; if nobody has it any more, go for a later checkpoint."""
        if self.transfer.outlived and self.checkpoints.proven != self.transfer.target:
            return self._fetch_state()
        if self.transfer.hopeless:
            self.transfer.retry()
        return self.transfer.tick()

    def _on_restored(self, proof: CheckpointProof) -> list[Effect]:
        """The proved state is in place, whole. Go on from there."""
        self.transfer.stop()
        self.execution.jump(proof.seq)
        self.checkpoints.restored(proof)
        self.ordering.reopen()
        self._look_for_the_end()
        effects = self._cut(proof) if self.checkpoints.is_certain(proof) else self._stand()
        return self._go_on(effects + self.intake.answer_swept())


def _ignore(_event: Event) -> list[Effect]:
    return []
