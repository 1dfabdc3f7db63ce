"""Proactive recovery: a replica that may have been broken into, without anybody's knowing, comes back clean.
[CL02 proactive recovery]

It asks the others for leave, learns from their answers how far a correct replica can possibly be, drops what it holds
beyond that and what nobody has signed, computes the digests of its whole state anew, and is recovered once a checkpoint
beyond all that it still holds is stable and its own state is the proved one: parts that differ are fetched as in any
state transfer. What it promised and can still account for stays promised.

Here: leave, the estimate, what is dropped, when it is over. Not here: the messages' way and the view that a primary
gives up (`pbft.core`), the digests and the parts (the executor), stopping and starting a process with code that can be
trusted (`replog.live`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from pbft.catch_up import Allowance
from pbft.checkpoint import Checkpoints
from pbft.execution import Execution
from pbft.messages import CheckpointProof, Committed, Holder, Leaves, Refreshing, Standing, Verdict
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.state_transfer import StateTransfer
from pbft.view_change import VIEW_RECORDS
from replog.core import Audit, Audited, Effect, Note, Persist, Send, Setup
from replog.types import NOBODY, Message, Micros, NodeId

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from pbft.config import Options

LIFETIMES: Final = 2
"""Leave counts for so many refresh_timeout_us at those that gave it: longer than the refresh itself may take."""
WORDS: Final = 8
"""Of each kind, of one peer, in one status interval: what goes beyond is dropped, it says it again."""
SEQ_MAX: Final = 2**62
FAREWELLS: Final = 4
"""At so many ticks after the end the others are told again that it is over."""


@dataclass
class Given:
    """Leave that was given: to whom, for which attempt, since when; the checkpoint that is to become stable."""

    node: NodeId
    nonce: int
    since: Micros
    point: int = 0


class Leave:
    """For whom this replica makes room: one node in each of f lanes.

    A refresh begins with the leave of a quorum, and two quorums share a correct replica, which gives a lane to one node
    at a time: so never more than f are refreshed at once, whatever f others say.

    Invariants:
      a lane is given to one of its own nodes at a time; it is on disk before it is said
      leave ends by its holder's word, or after its lifetime, and then that node waits as long for the next one
    """

    def __init__(self, notary: Notary, options: Options) -> None:
        self._notary = notary
        self._lifetime = LIFETIMES * options.refresh_timeout_us
        self._given: dict[int, Given] = {}
        self._overdue: dict[NodeId, Micros] = {}
        """When leave ran out that was not given back."""

    def lane(self, node: NodeId) -> int:
        return node % max(1, self._notary.f)

    def holder(self, now: Micros, node: NodeId) -> NodeId:
        """Who has the lane of `node` now."""
        given = self._given.get(self.lane(node))
        if given is not None and given.node != self._notary.me and now - given.since > self._lifetime:
            self._overdue[given.node] = now
            del self._given[self.lane(node)]
            given = None
        return NOBODY if given is None else given.node

    def is_overdue(self, now: Micros, node: NodeId) -> bool:
        return node in self._overdue and now - self._overdue[node] <= self._lifetime

    def give(self, now: Micros, node: NodeId, nonce: int) -> list[Effect]:
        """The lane of `node` is its own now, until it says so or its time is over."""
        given = self._given.get(self.lane(node))
        if given is not None and (given.node, given.nonce) == (node, nonce):
            return []
        self._given[self.lane(node)] = Given(node, nonce, now)
        return self._save()

    def end(self, node: NodeId, nonce: int) -> list[Effect]:
        """Its holder is done."""
        given = self._given.get(self.lane(node))
        if given is None or (given.node, given.nonce) != (node, nonce):
            return []
        del self._given[self.lane(node)]
        return self._save()

    def note_point(self, node: NodeId, point: int, highest: int) -> None:
        """Its holder needs the checkpoint at `point`: the first one it names, so that nobody is kept busy for long."""
        given = self._given.get(self.lane(node))
        if given is not None and given.node == node and given.point == 0:
            given.point = min(point, highest)

    @property
    def point(self) -> int:
        """Up to where the log has to get for those that are refreshed."""
        return max((given.point for given in self._given.values()), default=0)

    def any(self, now: Micros) -> bool:
        """Whether anybody is refreshed, as far as this replica knows."""
        return any(self.holder(now, lane) != NOBODY for lane in sorted(self._given))

    def others(self, now: Micros) -> list[Given]:
        """Leave that others have."""
        lanes = [lane for lane in sorted(self._given) if self.holder(now, lane) not in (NOBODY, self._notary.me)]
        return [self._given[lane] for lane in lanes]

    def nonce_of(self, node: NodeId) -> int | None:
        given = self._given.get(self.lane(node))
        return given.nonce if given is not None and given.node == node else None

    def _save(self) -> list[Effect]:
        return [Persist(self.record(), 0)]

    def record(self) -> Leaves:
        return Leaves([Holder(given.node, given.nonce) for _, given in sorted(self._given.items())])

    def recall(self, record: Leaves) -> None:
        """From this replica's own disk, the last one counts."""
        self._given = {self.lane(item.node): Given(item.node, item.nonce, 0) for item in record.holders}

    def passed_on(self, members: Sequence[NodeId]) -> list[Message]:
        """To the next epoch, whose lanes may be fewer: one holder each."""
        kept = [Holder(given.node, given.nonce) for given in self._given.values() if given.node in members]
        return [Leaves(kept)] if kept else []

    def begin(self, now: Micros) -> None:
        """A new life: how old the leave was is not known."""
        for given in self._given.values():
            given.since = now

    def hard_state(self) -> list[Message]:
        return [self.record()] if self._given else []

    def check_invariants(self) -> None:
        assert len(self._given) <= max(1, self._notary.f), "never more than f have leave"
        assert all(self.lane(given.node) == lane for lane, given in self._given.items()), "each in its own lane"


def highest_possible(lows: Sequence[int], highs: Sequence[int], quorum: int, weak_quorum: int) -> int | None:
    """Of what replicas say, one value each: one that no correct replica can be beyond, and that one has reached.

    A quorum says no more than that; so whatever a quorum had reached before is not above it. And a weak quorum has got
    there, so that no liar can lift it. None while too few have answered. [CL02 estimation]
    """
    if len(lows) < quorum:
        return None
    chosen = sorted(lows)[quorum - 1]
    return chosen if sum(high >= chosen for high in highs) >= weak_quorum else None


def sound(records: Iterable[Message]) -> list[Message]:
    """The records of a disk that count: what a refresh found to be beyond a correct replica's reach does not return."""
    kept: list[Message] = []
    for record in records:
        if type(record) is Verdict:
            kept = [earlier for earlier in kept if _within(earlier, record)]
        else:
            kept.append(record)
    return kept


def _within(record: Any, verdict: Verdict) -> bool:
    if isinstance(record, VIEW_RECORDS):
        return bool(record.view <= verdict.view)
    if type(record) is CheckpointProof:
        return record.seq <= verdict.base
    seq = record.proof.seq if type(record) is Committed else getattr(record, "seq", 0)
    return bool(seq <= verdict.limit)


@dataclass(frozen=True)
class Held:
    """How far this replica was, in its own eyes, when it asked the others."""

    view: int
    taken: int
    reached: int
    proof: int
    slot: int
    executed: int

    def is_within(self, limit: int, base: int, view: int) -> bool:
        """Whether a correct replica can have been there."""
        return max(self.slot, self.executed) <= limit and self.proof <= base and self.view <= view


class Phase(Enum):
    NONE = "not refreshing"
    ASKING = "asking for leave"
    CHECKING = "checking"


class Recovery:
    """The refresh of this replica itself, and its part in those of others.

    Invariants:
      CHECKING only with the leave of a quorum of others, and its own
      while CHECKING nothing is held beyond `limit`, if anything was, and it is over no sooner than `point` is stable
    """

    leave_type: type[Leave] = Leave
    """A part that a test can replace."""

    def __init__(
        self,
        setup: Setup,
        notary: Notary,
        ordering: Ordering,
        checkpoints: Checkpoints,
        view_changes: Any,
        execution: Execution,
        transfer: StateTransfer,
    ) -> None:
        self._options: Options = setup.config
        self._rng = setup.rng
        self._notary = notary
        self._ordering = ordering
        self._checkpoints = checkpoints
        self._view_changes = view_changes
        self._execution = execution
        self._transfer = transfer
        self.leave = self.leave_type(notary, self._options)
        self.phase = Phase.NONE
        self.point = 0
        self.limit = 0
        self.nonce = 0
        self.done = 0
        """Refreshes that came to their end."""
        self._asked: Allowance[NodeId] = Allowance(WORDS, self._options.status_interval_us)
        self._answered: Allowance[NodeId] = Allowance(WORDS, self._options.status_interval_us)
        self._answers: dict[NodeId, Standing] = {}
        self._before = Held(0, 0, 0, 0, 0, 0)
        self._began: Micros = 0
        self._reached = 0
        self._parts = 0
        self._dropped = 0
        self._received = 0
        self._reason = ""
        self._farewells = 0
        self._last_nonce = 0

    @property
    def checking(self) -> bool:
        return self.phase is Phase.CHECKING

    # ---------------------------------------------------------------------------------------------------- asking leave

    def on_command(self, now: Micros) -> list[Effect]:
        """An operator, or a timer that he trusts, wants this replica refreshed."""
        if flaw := self._flaw():
            return [Note("refresh-refused", {"rule": flaw})]
        self.phase, self._began, self._reason = Phase.ASKING, now, ""
        self._renew_nonce()
        return self._ask(now)

    def _flaw(self) -> str:
        if not self._options.refresh:
            return "refresh = false in the options"
        if self._notary.f == 0:
            return "f = 0: no replica can be spared"
        return "" if self.phase is Phase.NONE else "it runs already"

    def _renew_nonce(self) -> None:
        """What the others answer from now on bounds what a correct replica holds now; it may get further meanwhile."""
        self.nonce = self._rng.randint(1, 2**62)
        self._answers.clear()
        proofs = (self._checkpoints.proven, self._checkpoints.certified, self._checkpoints.stable)
        view, taken, reached = self._standing()
        slots = max(self._ordering.slots, default=0)
        self._before = Held(view, taken, reached, max(proof.seq for proof in proofs), slots, self._execution.executed)

    def _ask(self, now: Micros) -> list[Effect]:
        """For leave, again at each tick: unless another has this replica's lane."""
        holder = self.leave.holder(now, self._notary.me)
        if holder not in (NOBODY, self._notary.me):
            return self._put_off(f"node {holder} is being refreshed")
        given = self.leave.give(now, self._notary.me, self.nonce)
        return [*given, Send(self._notary.others, Refreshing(self.nonce, 0, False))]

    def _put_off(self, reason: str) -> list[Effect]:
        if reason == self._reason:
            return []
        self._reason = reason
        return [Note("refresh-put-off", {"reason": reason})]

    def _withdraw(self) -> list[Effect]:
        """Another one that asks goes first: what was given to this replica is given back."""
        effects = self._say_over(self.nonce)
        self._renew_nonce()
        return [*effects, *self._put_off("another node goes first")]

    def _say_over(self, nonce: int) -> list[Effect]:
        self._farewells, self._last_nonce = FAREWELLS, nonce
        return [*self.leave.end(self._notary.me, nonce), Send(self._notary.others, Refreshing(nonce, 0, True))]

    # ------------------------------------------------------------------------------------------------ as one of others

    def on_refreshing(self, now: Micros, sender: NodeId, message: Refreshing, in_sync: bool) -> list[Effect]:
        """Another replica asks for leave, or says where it is, or that it is over."""
        if not self._asked.take(now, sender):
            return []
        if message.over:
            return self.leave.end(sender, message.nonce)
        effects = self._give(now, sender, message.nonce) if in_sync else []
        holder = self.leave.holder(now, sender)
        granted = holder == sender and self.leave.nonce_of(sender) == message.nonce
        if granted and message.point:
            highest = self._checkpoints.proven.seq + 2 * self._notary.log_window
            self.leave.note_point(sender, message.point, highest)
        answer = Standing(message.nonce, granted, holder, in_sync, *self._standing())
        return [*effects, Send((sender,), answer)]

    def _give(self, now: Micros, sender: NodeId, nonce: int) -> list[Effect]:
        """Of two that ask at once the lower goes first: else each would wait for the other."""
        holder = self.leave.holder(now, sender)
        if self.leave.is_overdue(now, sender):
            return []
        if holder in (NOBODY, sender):
            return self.leave.give(now, sender, nonce)
        if holder == self._notary.me and self.phase is Phase.ASKING and sender < holder:
            return [*self._withdraw(), *self.leave.give(now, sender, nonce)]
        return []

    def _standing(self) -> tuple[int, int, int]:
        """(view, last checkpoint taken, highest seq prepared) of this replica. [CL02 estimation]"""
        executed = self._execution.executed
        taken = executed - executed % self._notary.checkpoint_interval
        prepared = [slot.seq for slot in self._ordering.above(executed) if slot.prepared is not None]
        return self._ordering.view, taken, max([executed, *prepared])

    # --------------------------------------------------------------------------------------------------- the estimate

    def on_standing(self, now: Micros, sender: NodeId, message: Standing) -> list[Effect]:
        """An answer: of all that one replica says, the lowest checkpoint and the highest prepared seq count. [CL02]"""
        if not self._answered.take(now, sender):
            return []
        if self.phase is Phase.NONE or message.nonce != self.nonce:
            stale = [Send((sender,), Refreshing(message.nonce, 0, True))]
            return list(stale) if message.granted else []
        known = self._answers.get(sender, message)
        low, high = min(known.taken, message.taken), max(known.reached, message.reached)
        self._answers[sender] = Standing(
            message.nonce, message.granted, message.holder, message.in_sync, message.view, low, high
        )
        return self._begin() if self.phase is Phase.ASKING else []

    def _begin(self) -> list[Effect]:
        """With a quorum's leave, and an estimate: from here on this replica does not believe itself."""
        answers = [self._answers[node] for node in sorted(self._answers)]
        lows = [answer.taken for answer in answers]
        highs = [answer.reached for answer in answers]
        quorum, weak = self._notary.quorum, self._notary.weak_quorum
        if sum(answer.granted for answer in answers) < quorum:
            return self._put_off(self._why(answers)) if len(answers) >= quorum else []
        base = highest_possible([*lows, self._before.taken], [*highs, self._before.reached], quorum, weak)
        views = [answer.view for answer in answers] + [self._before.view]
        highest_view = highest_possible(views, views, quorum, weak)
        if base is None or highest_view is None:
            return self._put_off("the others' words do not tell how far they are")
        self._reached = sorted(highs)[-weak]
        return self._distrust(base, highest_view)

    def _why(self, answers: Sequence[Standing]) -> str:
        behind = [node for node in sorted(self._answers) if not self._answers[node].in_sync]
        holders = sorted({answer.holder for answer in answers} - {NOBODY, self._notary.me})
        if holders:
            return f"node {holders[0]} is being refreshed"
        if behind:
            return f"node {behind[0]} is not in sync; a quorum of others must be"
        return "too few others gave leave"

    # --------------------------------------------------------------------------------------------------- distrusting

    def _distrust(self, base: int, view: int) -> list[Effect]:
        """Drop what no correct replica can hold, then look at the state itself. A correct replica asks for a view that
        is one above a quorum's at most, since only a quorum's wish lets it go on. [CL02 estimation]

        One that held nothing of the kind when it asked keeps all that nobody's signature speaks against: what came
        since may lie beyond the estimate, and promises rest on it.
        """
        self.phase, self.limit = Phase.CHECKING, base + self._notary.log_window
        note = {"limit": self.limit, "dropped": 0}
        verdict: list[Effect] = [Persist(Verdict(self.limit, base, view + 1), 0)]
        if self._before.is_within(self.limit, base, view + 1):
            self.limit, base, view, verdict = SEQ_MAX, SEQ_MAX, SEQ_MAX, []
        self._notary.forget()
        self._dropped = self._checkpoints.distrust(base)
        if self._checkpoints.stable.seq < self._ordering.low or self._execution.executed > self.limit:
            self._execution.void(self._checkpoints.stable.seq)
        self._dropped += self._ordering.distrust(self._checkpoints.stable.seq, self.limit, self._execution.executed)
        self._dropped += self._view_changes.distrust(view + 1)
        self._dropped += self._ordering.rejoin(
            view, begun=self._view_changes.new_view is not None, asked=self._view_changes.own is not None
        )
        self._execution.doubt(True)
        self._received = self._transfer.received
        return [*verdict, Note("refresh", {**note, "dropped": self._dropped}), Audit()]

    def on_audited(self, event: Audited) -> list[Effect]:
        """The digest of the state as it is. What is still to be proved: a checkpoint beyond all that is held."""
        if not self.checking:
            return []
        interval, stable = self._notary.checkpoint_interval, self._checkpoints.stable.seq
        self._parts = event.parts
        held = max(self._ordering.slots, default=0)
        reached = min(max(self._execution.executed, self._reached, held, 1), self.limit)
        self.point = -(-reached // interval) * interval
        if self.point <= stable and event.index != stable:
            self.point = stable + interval
        self._checkpoints.corrected(event.index, event.digest)
        return [Send(self._notary.others, Refreshing(self.nonce, self.point, False))]

    # -------------------------------------------------------------------------------------------------------- the end

    def settle(self, now: Micros) -> list[Effect]:
        """Is it recovered? [CL02 recovery point]"""
        checkpoints = self._checkpoints
        calm = not self._transfer.running and not self._execution.is_void and not checkpoints.diverged()
        if not self.checking or not self.point or checkpoints.stable.seq < self.point or not calm:
            return []
        self.done += 1
        told = {
            "index": checkpoints.stable.seq,
            "parts": self._parts,
            "fetched": self._transfer.received - self._received,
            "dropped": self._dropped,
            "us": now - self._began,
        }
        return [Note("refreshed", told), *self._end()]

    def _end(self) -> list[Effect]:
        self.phase, self.point = Phase.NONE, 0
        self._execution.doubt(False)
        return self._say_over(self.nonce)

    def on_tick(self, now: Micros, in_sync: bool) -> list[Effect]:
        """Ask again; tell where it stands; tell again that it is over. And ask those that have leave whether they still
        need it: their word that it is over may be lost."""
        return self._on_tick(now) + [
            Send((given.node,), Standing(given.nonce, True, given.node, in_sync, *self._standing()))
            for given in self.leave.others(now)
        ]

    def _on_tick(self, now: Micros) -> list[Effect]:
        me, others = self._notary.me, self._notary.others
        if self.phase is Phase.NONE:
            if not self._farewells:
                return []
            self._farewells -= 1
            return [Send(others, Refreshing(self._last_nonce, 0, True))]
        if now - self._began > self._options.refresh_timeout_us:
            rule = f"{self.phase.value} for {(now - self._began) / 1e6:.1f} s" + (self._reason and f": {self._reason}")
            return [Note("refresh-failed", {"rule": rule}), *self._end()]
        if self.phase is Phase.ASKING:
            return self._ask(now)
        return [*self.leave.give(now, me, self.nonce), Send(others, Refreshing(self.nonce, self.point, False))]

    def on_started(self, now: Micros) -> list[Effect]:
        """Leave that this replica had in its last life is given back."""
        self.leave.begin(now)
        nonce = self.leave.nonce_of(self._notary.me)
        return self._say_over(nonce) if nonce is not None else []

    def check_invariants(self) -> None:
        self.leave.check_invariants()
        if self.checking:
            assert self.leave.nonce_of(self._notary.me) == self.nonce, "a refresh has its own lane"
