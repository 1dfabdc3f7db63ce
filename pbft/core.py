"""One PBFT replica: events in, effects out. What it does with each message, timer and answer is here in one place.

The parts own their state: `ordering` the view and the slots, `checkpoints` the proofs, `view_changes` who wants which
view, `transfer` a state that is being fetched, `requests` what waits, `patience` the timers. This class owns what has
been executed, and is the only one that knows them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pbft.catch_up import Allowance, Early, Giving, Hearing
from pbft.checkpoint import Checkpoints
from pbft.messages import (
    Batch,
    BatchData,
    Checkpoint,
    CheckpointProof,
    Commit,
    Committed,
    FetchBatch,
    FetchPart,
    NewView,
    PartData,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
)
from pbft.notary import Notary, nonsense
from pbft.ordering import Ordering
from pbft.requests import Patience, Requests
from pbft.state_transfer import StateTransfer
from pbft.view_change import ViewChanges
from replog import core, types
from replog.codec import BadMessage, digest_of
from replog.core import (
    Applied,
    Apply,
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
    Timeout,
    Trim,
    Wanted,
)
from replog.types import Answer, Message, Micros, NodeId, Principal, Request, Submit

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options

VIEW_CHANGES: Final = 2
NEW_VIEWS: Final = 2
"""What of one peer is checked in one status interval."""
FORWARDS: Final = 1024
"""Requests sent on to the primary of a new view; of the rest, clients remind us."""
REPEATS: Final = 4
"""So many times VIEW-CHANGE is repeated at every tick, then at every so manyth, like a request that still waits."""


class PbftCore:
    """Invariants (beside those of the parts):
    everything up to `executed` was executed once, in order, and rests on a commit certificate or a proved checkpoint
    one Apply or Checkpoint is under way at a time: a checkpoint is of the state right after its own seq
    nothing is executed while a state is being fetched                                            (HAZARDS P26, P45)
    """

    notary_type: type[Notary] = Notary
    ordering_type: type[Ordering] = Ordering
    checkpoints_type: type[Checkpoints] = Checkpoints
    view_changes_type: type[ViewChanges] = ViewChanges
    transfer_type: type[StateTransfer] = StateTransfer
    requests_type: type[Requests] = Requests
    patience_type: type[Patience] = Patience
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
        self.requests = self.requests_type(self.options, setup.domain, setup.verifier, setup.sessions)
        self.patience = self.patience_type(self.options)
        self.hearing = Hearing(self.notary)
        self.early = Early()
        self.executed = setup.stored.index
        self.refused = 0
        self._now: Micros = 0
        self._busy = False
        self._cut_off = False
        self._connected = True
        self._batch_timer = False
        self._ticked_at = -1
        self._repeats = 0
        self._ticks = 0
        self._reason = "start" if setup.stored.empty else "restart"
        period = self.options.status_interval_us
        self.giving = Giving(period)
        self._view_changes = Allowance(VIEW_CHANGES, period)
        self._new_views = Allowance(NEW_VIEWS, period)
        self._events: dict[type[Any], Callable[[Any], list[Effect]]] = {
            Started: self._on_started,
            Received: self._on_received,
            Timeout: self._on_timeout,
            Applied: self._on_applied,
            Checkpointed: self._on_checkpointed,
            Wanted: self.transfer.on_wanted,
            Part: self._on_part_read,
            Queried: _ignore,
            Saved: _ignore,
            Command: _ignore,
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
        }
        self._recall()

    # -------------------------------------------------------------------------------------------------------- the plug

    def step(self, now: Micros, event: Event) -> list[Effect]:
        self._now = now
        effects = self._events[type(event)](event)
        effects += self._watch()
        return effects

    @property
    def view(self) -> int:
        return self.ordering.view

    @property
    def primary(self) -> NodeId:
        return self.notary.primary(self.ordering.view)

    @property
    def leads(self) -> bool:
        return self.ordering.active and self.primary == self.me

    def status(self) -> types.Status:
        role = "primary" if self.primary == self.me and self.ordering.active else "backup"
        if not self.ordering.active:
            role += ", changing view"
        if self.transfer.running:
            role += ", fetching state"
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
                "proposed": self.ordering.next_seq - 1 if self.leads else 0,
                "waiting": len(self.requests.pending),
                "refused": self.refused,
                "auth": self.options.auth,
            },
        )

    def _in_sync(self) -> bool:
        behind = max(self.hearing.reached(), self.checkpoints.proven.seq) - self.executed
        calm = self.ordering.active and not self.transfer.running and self._connected
        return calm and behind <= self.options.in_flight_max

    def check_invariants(self) -> None:
        self.ordering.check_invariants()
        self.checkpoints.check_invariants()
        self.view_changes.check_invariants()
        self.transfer.check_invariants()
        self.requests.check_invariants()
        self.patience.check_invariants()
        self.early.check_invariants()
        assert self.checkpoints.stable.seq == self.ordering.low, "the low watermark is the stable checkpoint"
        assert self.executed >= self.ordering.low, "everything up to the low watermark was executed"

    # ----------------------------------------------------------------------------------------------- start and restart

    def _recall(self) -> None:
        """Recovery is construction: what was promised is on this replica's disk (P16).

        Views first, then slots: hard state is written anew now and then, so a NEW-VIEW may stand behind pre-prepares
        of its view.
        """
        stored = self.setup.stored
        proofs = [record for record in stored.records if type(record) is CheckpointProof]
        proofs += self._recall_view([record for record in stored.records if type(record) in (ViewChange, NewView)])
        for record in stored.records:
            self.ordering.recall(record)
        for proof in sorted(proofs, key=lambda proof: proof.seq):
            if proof.seq <= stored.index:
                self.checkpoints.adopt(proof)
            self.checkpoints.learn(proof)
        self.ordering.discard(self.checkpoints.stable.seq)
        self.ordering.raise_high(self.checkpoints.proven.seq)

    def _recall_view(self, records: list[Any]) -> list[CheckpointProof]:
        """The last view that was asked for or begun: a NEW-VIEW ends the wait for its view. Gives its min-s, if any."""
        for record in records:
            self.view_changes.recall(record)
        begun, asked = self.view_changes.new_view, self.view_changes.own
        proofs = []
        if begun is not None:
            low, holders = self.view_changes.enter(begun)
            self.ordering.enter(begun.view, low.seq, begun.pre_prepares, holders)
            proofs.append(low)
        if asked is not None and asked.view > self.ordering.view:
            self.ordering.leave(asked.view)
        return proofs

    def _on_started(self, event: Started) -> list[Effect]:
        self.hearing.begin(self._now)
        effects: list[Effect] = [SetTimer("status", self.options.status_interval_us)]
        if self.ordering.active:
            effects.append(self._note_view())
            self._begin_requests()
            effects += self.ordering.revote(self.executed)
        elif self.view_changes.own is not None:
            effects.append(Send(self.notary.others, self.view_changes.own))
        index = self.setup.stored.index
        if index > self.checkpoints.stable.seq and index % self.options.checkpoint_interval == 0:
            effects += self.checkpoints.on_own(index, self.setup.stored.digest)
        return effects + self._execute()

    def _note_view(self) -> Note:
        return Note("view", {"view": self.view, "leader": self.primary, "reason": self._reason})

    # -------------------------------------------------------------------------------------------------------- messages

    def _on_received(self, event: Received) -> list[Effect]:
        sender, message = event.sender, event.message
        if isinstance(sender, str):
            if type(message) is not Submit:
                return self._refuse(sender, "a client sends requests only")
            return self._from_client(sender, message)
        if not 0 <= sender < self.notary.n or sender == self.me:
            return self._refuse(sender, "not a member, or this replica itself")
        handler = self._messages.get(type(message))
        if handler is None:
            return self._refuse(sender, f"a replica sends no {type(message).__name__}")
        self.hearing.heard_at[sender] = self._now
        return handler(sender, message)

    def _refuse(self, sender: Principal, rule: str) -> list[Effect]:
        self.refused += 1
        return [nonsense(sender, rule)]

    # -------------------------------------------------------------------------------------------------------- requests

    def _from_client(self, sender: str, message: Submit) -> list[Effect]:
        """A client's own send. [CL99 4.1]"""
        request = self._read(message)
        if request is None or request.client != sender:
            return self._refuse(sender, "a request of its own is what a client sends")
        done = self.setup.sessions.results(sender, request.timestamp)
        if done is not None:
            return [self._reply(request, Answer.DONE, done)]
        if flaw := self.requests.refusal(request):
            return [self._reply(request, Answer.REFUSED, flaw.encode()), *self._refuse(sender, flaw)]
        if not self.requests.admits(request):
            return self._refuse(sender, "executed and forgotten, or beyond the session's window")
        return self._take(request, sender)

    def _on_submit(self, sender: NodeId, message: Submit) -> list[Effect]:
        """A backup sends on what a client gave it. Only the primary has a use for it: the word of one replica starts no
        timer here (P35)."""
        request = self._read(message)
        if request is None or self.requests.refusal(request):
            return self._refuse(sender, "a replica forwards proper requests only")
        return self._take(request, sender) if self.leads and self.requests.admits(request) else []

    def _read(self, message: Submit) -> Request | None:
        try:
            return Request(message.request)
        except BadMessage:
            return None

    def _take(self, request: Request, sender: Principal) -> list[Effect]:
        """Wait for a request, once its signature is verified: at the primary in the queue, at a backup with the timer,
        after sending it on. Seen again it is sent on again: the first may have been lost. [CL99 4.1, 4.4] (P35)"""
        known = self.requests.pending.get(request.identity)
        if known is None:
            if self.leads and request.identity in self.requests.proposed:
                return []
            if self.requests.crowded(request):
                return [self._reply(request, Answer.OVERLOADED, b"")] if isinstance(sender, str) else []
            if not self.requests.vouches(request):
                refusal = [self._reply(request, Answer.REFUSED, b"bad signature")] if isinstance(sender, str) else []
                return [*refusal, *self._refuse(sender, "request: bad signature")]
            self.requests.add(request)
        elif known.digest != request.digest:
            return self._refuse(sender, "a second request under one timestamp")
        if not self.leads:
            return self._forward(request) if self.ordering.active else []
        if known is None:
            self.requests.queue(request)
        return self._propose()

    def _forward(self, request: Request) -> list[Effect]:
        return [Send((self.primary,), Submit(request.raw))]

    def _reply(self, request: Request, answer_: Answer, results: bytes) -> Effect:
        leader = self.primary if self.ordering.active else types.NOBODY
        reply = types.Reply(request.timestamp, int(answer_), results, self.view, leader)
        return core.Reply(request.client, reply)

    # ----------------------------------------------------------------------------------------------------- normal case

    def _propose(self) -> list[Effect]:
        """As many batches as there is room for. While others are in flight a batch that is not full waits for company,
        no longer than batch_delay_us. [CL99 4.2]"""
        effects: list[Effect] = []
        while self.requests.queued and self._has_room():
            in_flight = self.ordering.next_seq - 1 - self.executed
            if in_flight and not self.requests.full() and self.options.batch_delay_us:
                return effects + self._delay_batch()
            effects += self._propose_batch()
        return effects

    def _propose_batch(self) -> list[Effect]:
        chosen = self.requests.next_batch()
        return self.ordering.propose(Batch(self.setup.wall(), chosen)) + self._execute() if chosen else []

    def _delay_batch(self) -> list[Effect]:
        if self._batch_timer:
            return []
        self._batch_timer = True
        return [SetTimer("batch", self.options.batch_delay_us)]

    def _has_room(self) -> bool:
        """The primary proposes within its own window, knows all that its view began with, and has the state that says
        which requests were executed (P33)."""
        seq = self.ordering.next_seq
        return (
            self.leads
            and seq <= self.checkpoints.stable.seq + self.options.log_window
            and seq - self.executed <= self.options.in_flight_max
            and self.executed >= self.checkpoints.proven.seq
            and not self.transfer.running
            and self.ordering.complete()
        )

    def _is_early(self, sender: NodeId, message: PrePrepare | Prepare | Commit) -> bool:
        """Keep what belongs to a view or window that this replica has not reached; it may get there (P21)."""
        ordering = self.ordering
        late = message.view < ordering.view or message.seq <= ordering.low
        late = late or (message.view == ordering.view and message.seq <= ordering.bottom)
        ready = message.view == ordering.view and ordering.active and message.seq <= ordering.high
        if not late and not ready and message.seq <= ordering.high + self.options.log_window:
            self.early.keep(sender, message)
        return not ready or late

    def _on_pre_prepare(self, sender: NodeId, message: PrePrepare) -> list[Effect]:
        """Accepted if it is the primary's own, in this view and window, the first for its seq, and the body is one that
        this replica can vouch for. [CL99 4.2]"""
        if sender != self.notary.primary(message.view):
            return self._refuse(sender, "only the primary sends a pre-prepare")
        if len(message.requests) > self.options.batch_requests_max:
            return self._refuse(sender, "pre-prepare: more requests than a batch may hold")
        if self._is_early(sender, message):
            return []
        slot = self.ordering.slot(message.seq)
        if slot.digest is not None:
            return self._again(message)
        if slot.committed is not None and slot.committed.digest != message.digest:
            return self._refuse(sender, "pre-prepare: another batch is decided there")
        batch = self._batch(message)
        if batch is None or batch.digest != message.digest:
            return self._refuse(sender, "pre-prepare: the digest is not the body's")
        if not self.notary.check_pre_prepare(message.view, message.seq, message.digest, message.signature):
            return self._refuse(sender, "pre-prepare: bad signature")
        if flaw := self.requests.flaw_in_batch(batch, self.setup.wall()):
            return self._refuse(sender, f"pre-prepare: {flaw}")
        return self.ordering.accept(message, batch) + self._execute()

    def _again(self, message: PrePrepare) -> list[Effect]:
        """A pre-prepare for a seq that has one: the body that a new view lacked, a repetition, or a lie (P17)."""
        slot = self.ordering.slot(message.seq)
        if slot.digest != message.digest:
            return self.ordering.contradict(message)
        batch = self._batch(message) if slot.body is None else None
        return self._supply(message.seq, batch) if batch is not None else []

    @staticmethod
    def _batch(message: PrePrepare | Committed | BatchData) -> Batch | None:
        try:
            return Batch.read(message.time, message.requests)
        except BadMessage:
            return None

    def _on_vote(self, sender: NodeId, message: Prepare | Commit) -> list[Effect]:
        if message.replica != sender:
            return self._refuse(sender, "a vote in another's name")
        if self._is_early(sender, message):
            return []
        if type(message) is Prepare:
            return self.ordering.on_prepare(message) + self._execute()
        effects = self.ordering.on_commit(message)  # type: ignore[arg-type]
        return effects + self._execute()

    def _on_committed(self, sender: NodeId, message: Committed) -> list[Effect]:
        """A decided batch with its certificate. [deviates: see CommitProof] (P25, P27)"""
        seq = message.proof.seq
        slot = self.ordering.slots.get(seq)
        lowest = max(self.executed, self.ordering.high - 2 * self.options.log_window)
        if not lowest < seq <= self.ordering.high or (slot is not None and slot.decided is not None):
            return []
        batch = self._batch(message)
        if batch is None or batch.digest != message.proof.digest:
            return self._refuse(sender, "committed: the digest is not the body's")
        if flaw := self.notary.flaw_in_commit(message.proof):
            return self._refuse(sender, f"committed: {flaw}")
        self.ordering.decide_by(message, batch)
        return self._execute()

    # ------------------------------------------------------------------------------------------------------- execution

    def _execute(self) -> list[Effect]:
        """Strictly in order of seq, each once. [CL99 4.2] (P26)"""
        slot = self.ordering.slots.get(self.executed + 1)
        if self._busy or self.transfer.running or slot is None:
            return []
        batch = slot.decided
        if batch is None:
            return []
        self._busy = True
        return [Apply(slot.seq, batch.requests, batch.time, self.seed(slot.seq, batch))]

    def seed(self, seq: int, batch: Batch) -> bytes:
        """The same everywhere, and known to the primary beforehand: no lottery. [deviates: the batch's own digest
        stands in for the previous batch's, which a replica that was given the state does not have] (P29)"""
        return digest_of(b"seed" + self.setup.domain.statement("seed", (seq, batch.digest)))

    def _on_applied(self, event: Applied) -> list[Effect]:
        """Replies leave as they are; what this replica still has to write is listed behind them. [CL99 4.1]"""
        seq = self.executed = event.index
        self._busy = False
        slot = self.ordering.slots[seq]
        batch = slot.decided
        if batch is None or slot.committed is None:
            raise RuntimeError(f"seq {seq} was applied without being decided")
        effects: list[Effect] = []
        for request, result in zip(batch.requests, event.results, strict=True):
            results = result.results or self.setup.sessions.results(result.client, result.timestamp)
            if results is not None:
                effects.append(self._reply(request, Answer.DONE, results))
        self.requests.executed(batch, event.results)
        new = any(result.results is not None for result in event.results)
        if new and slot.committed.view == self.view and self.ordering.active:
            self.patience.progress()
        if seq % self.options.checkpoint_interval == 0:
            self._busy = True
            return [*effects, core.Checkpoint(seq)]
        return effects + self._execute() + self._propose()

    # ----------------------------------------------------------------------------------------------------- checkpoints

    def _on_checkpointed(self, event: Checkpointed) -> list[Effect]:
        """The digest of the own state after a multiple of checkpoint_interval, or the end of a transfer. [CL99 4.3]"""
        target = self.transfer.target
        if target is not None and (event.index, event.digest) == (target.seq, target.digest):
            return self._on_restored(target)
        self._busy = False
        # What the vote says must outlive a power cut: the state may not be saved yet, the way to it is on disk first.
        effects = [*self.ordering.save(), *self.checkpoints.on_own(event.index, event.digest)]
        return effects + self._stand() + self._execute() + self._propose()

    def _on_checkpoint(self, sender: NodeId, message: Checkpoint) -> list[Effect]:
        if message.replica != sender:
            return self._refuse(sender, "a vote in another's name")
        return self.checkpoints.on_vote(message) + self._stand()

    def _on_checkpoint_proof(self, sender: NodeId, message: CheckpointProof) -> list[Effect]:
        if message.seq <= self.checkpoints.proven.seq:
            return []
        if flaw := self.notary.flaw_in_checkpoint(message):
            return self._refuse(sender, flaw)
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
        if proven.seq + self.options.log_window > self.ordering.high:
            self.ordering.raise_high(proven.seq)
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
        if self.view_changes.new_view is not None:
            records.append(self.view_changes.new_view)
        if not self.ordering.active and self.view_changes.own is not None:
            records.append(self.view_changes.own)
        anew = [Persist(record, proof.seq + 1) for record in records]
        saved: list[Effect] = [SaveState(proof.seq)] if proof.seq > self.setup.stored.index else []
        return [*anew, *saved, Trim(proof.seq), *self._replay(), *self._propose()]

    def _replay(self) -> list[Effect]:
        effects: list[Effect] = []
        for sender, message in self.early.take():
            effects += self._messages[type(message)](sender, message)
        return effects

    # ---------------------------------------------------------------------------------------------------- view changes

    def _ask_for(self, view: int, reason: str) -> list[Effect]:
        """VIEW-CHANGE: on disk, then to all; from here on no vote in an older view. [CL99 4.4] (P16)"""
        self._reason = reason
        effects = self.patience.leave_view()
        self.ordering.leave(view)
        message = self.view_changes.ask(view, self.checkpoints.proven, self.ordering)
        return [*effects, Persist(message, 0), Send(self.notary.others, message), *self._gather()]

    def _on_view_change(self, sender: NodeId, message: ViewChange) -> list[Effect]:
        """[CL99 4.4, 4.5.2] Join at f+1 (P11); with a quorum the next NEW-VIEW is due."""
        if message.replica != sender:
            return self._refuse(sender, "a view-change in another's name")
        if message.view < self.view or (message.view == self.view and self.ordering.active):
            return []
        if message == self.view_changes.heard.get(sender) or not self._view_changes.take(self._now, sender):
            return []
        effects = self.view_changes.on_view_change(message)
        view = self.view_changes.wanted(self.view)
        if view is not None:
            return effects + self._ask_for(
                view, self._blame(f"{self.notary.weak_quorum} replicas asked for view {view}")
            )
        return effects + self._gather()

    def _gather(self) -> list[Effect]:
        """A quorum asks for the view that this replica asks for: its primary begins it, the others wait for that."""
        if self.ordering.active or not self.view_changes.enough(self.view):
            return []
        if self.primary == self.me:
            message = self.view_changes.make(self.view)
            if message is not None:
                return [Persist(message, 0), Send(self.notary.others, message), *self._enter(message)]
        return self.patience.await_new_view(self._now, self.view)

    def _on_new_view(self, sender: NodeId, message: NewView) -> list[Effect]:
        """[CL99 4.4] Signed by its primary, whoever brings it; checked in full (P4); the first for its view (P5)."""
        if message.view == self.view and self.ordering.active:
            return self.view_changes.on_second(message)
        if message.view < max(self.view, 1) or not self._new_views.take(self._now, sender):
            return []
        if flaw := self.view_changes.flaw_in_new_view(message):
            return self._refuse(sender, flaw)
        if self.ordering.active:
            self._reason = self._blame(f"a quorum asked for view {message.view}")
            leaving = self.patience.leave_view()
        else:
            leaving = []
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
        self._begin_requests()
        effects += self._stand()
        if not self.leads:
            for request in list(self.requests.pending.values())[:FORWARDS]:
                effects += self._forward(request)
        if self.executed < self.checkpoints.proven.seq:
            effects += self._fetch_state()
        return effects + self.ordering.fetch_bodies(self.executed) + self._replay() + self._execute() + self._propose()

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

    def _begin_requests(self) -> None:
        bodies = [slot.body for slot in self.ordering.above(self.executed) if slot.body is not None]
        self.requests.begin_view(bodies, self.leads)

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
        if not self.ordering.active or self.leads or self._cut_off or self.executed < self.checkpoints.proven.seq:
            return self.patience.rest()
        target = self.patience.target
        if isinstance(target, int) and target > self.executed:
            return []
        if isinstance(target, tuple) and target in self.requests.pending:
            return []
        wanted = self._oldest()
        return self.patience.rest() if wanted is None else self.patience.wait_for(self._now, wanted)

    def _oldest(self) -> tuple[str, int] | int | None:
        """What a backup waits for: the oldest request, else the next seq if a later one has a proposal.

        A request may be past its time without an execution of its own: its client's session is closed.
        """
        for identity, request in list(self.requests.pending.items()):
            if not self.requests.is_over(request):
                return identity
            self.requests.remove(*identity)
        return self.executed + 1 if self.ordering.latest > self.executed else None

    def _on_timeout(self, event: Timeout) -> list[Effect]:
        if event.name == "status":
            return self._on_tick()
        if event.name == "batch":
            self._batch_timer = False
            return self._propose_batch() + self._propose() if self.requests.queued and self._has_room() else []
        if event.name == Patience.REQUEST and self.patience.target is not None:
            return self._on_request_timeout()
        if event.name == Patience.NEW_VIEW and self.patience.awaited:
            waited = self.patience.timeout / 1e6
            return self._ask_for(
                self.view + 1, f"node {self.primary} sent no NEW-VIEW for view {self.view} in {waited:.1f} s"
            )
        return []

    def _on_request_timeout(self) -> list[Effect]:
        """[CL99 4.4] The primary is given up. [deviates: a replica that heard fewer than a quorum meanwhile stays: its
        VIEW-CHANGE could not succeed, and would keep it out of its view when it can hear again]"""
        target, since, waited = self.patience.target, self.patience.armed_at, self.patience.timeout / 1e6
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
        status = Status(self.view, self.ordering.active, self.checkpoints.stable.seq, self.executed, stalled, flags)
        waits = bool(flags or self.requests.pending) or not self.ordering.active or proven != self.checkpoints.stable
        interval = self.options.status_interval_us if waits else self.options.idle_interval_us
        effects: list[Effect] = [SetTimer("status", interval), Send(self.notary.others, status), *self.ordering.save()]
        effects += self._repeat_view_change()
        if self.transfer.running:
            effects += self._push_transfer()
        elif stuck and self.executed < proven.seq:
            effects += self._fetch_state()
        return effects + self.ordering.fetch_bodies(self.executed) + self._remind()

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
        target = self.patience.target
        request = self.requests.pending.get(target) if isinstance(target, tuple) else None
        if request is None or not self.ordering.active or self._ticks % REPEATS:
            return []
        return self._forward(request)

    # ----------------------------------------------------------------------------------------------------- catching up

    def _on_status(self, sender: NodeId, message: Status) -> list[Effect]:
        self.hearing.claim(sender, message.executed)
        return self.giving.answer(self._now, sender, message, self.ordering, self.checkpoints, self.view_changes)

    def _on_fetch_batch(self, sender: NodeId, message: FetchBatch) -> list[Effect]:
        return self.giving.batch(self._now, sender, message, self.ordering)

    def _on_fetch_part(self, sender: NodeId, message: FetchPart) -> list[Effect]:
        return self.giving.read_part(self._now, sender, message)

    def _on_part_read(self, event: Part) -> list[Effect]:
        return self.giving.part(self._now, event)

    def _on_batch_data(self, sender: NodeId, message: BatchData) -> list[Effect]:
        slot = self.ordering.slots.get(message.seq)
        if slot is None or not slot.lacking():
            return []
        batch = self._batch(message)
        if batch is None:
            return self._refuse(sender, "batch: not made of requests")
        return self._supply(message.seq, batch)

    def _supply(self, seq: int, batch: Batch) -> list[Effect]:
        effects = self.ordering.supply(seq, batch)
        if not effects:
            return []
        if self.leads and self.ordering.complete():
            self._begin_requests()
        return effects + self._execute() + self._propose()

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
        self._busy = False
        self.executed = proof.seq
        self.checkpoints.restored(proof)
        effects = self._cut(proof)
        for request in self.requests.sweep():
            results = self.setup.sessions.results(*request.identity)
            if results is not None:
                effects.append(self._reply(request, Answer.DONE, results))
        return effects + self._execute() + self._propose()


def _ignore(_event: Event) -> list[Effect]:
    return []
