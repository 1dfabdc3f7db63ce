"""From one configuration to the next: a replica is a core for one epoch, and another core for the next one.
[deviates: CL99 has no change of members; RULES-PBFT Epochs, `docs/membership.md`]

An epoch ends at its boundary, a checkpoint that its own members make stable. Once that state is on this replica's disk,
the replica is built anew for the next configuration from there, as after a restart: nothing of what it said in the old
epoch counts in the new one. What belongs to an epoch says so, on links and on disk (`InEpoch`).

Here: which core there is, when it is exchanged, what passes between epochs (links, proofs, parts of states). Not here:
ordering within an epoch (`pbft.core`), what a replica does that is no voting member (`pbft.outsider`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from pbft.catch_up import ANSWERS, Allowance, Early
from pbft.core import PbftCore
from pbft.lineage import Lineage, certificate_of
from pbft.messages import (
    Checkpoint,
    CheckpointProof,
    Commit,
    FetchPart,
    InEpoch,
    Links,
    PartData,
    Prepare,
    PrePrepare,
    Status,
)
from pbft.notary import Notary
from pbft.outsider import MacOutsider, Outsider, Role
from replog import types
from replog.core import (
    CancelTimer,
    Effect,
    Event,
    Members,
    Note,
    Persist,
    Received,
    Reply,
    Saved,
    Send,
    Setup,
    Started,
    Stored,
    Timeout,
    Trim,
)
from replog.membership import LINKS_MAX, Configuration, ConfigurationAnswer, ConfigurationQuestion, Link
from replog.types import ClientId, Message, Micros, NodeId

FREE: Final = (FetchPart, PartData, ConfigurationQuestion, ConfigurationAnswer)
"""Belong to no epoch: what they bring is checked by itself."""
PHASES: Final = (PrePrepare, Prepare, Commit)
TIMERS: Final = ("status", "batch", "demands", "request", "new-view", "renew-keys", "doubt")
STUCK: Final = 5
"""Ticks without an execution, while a later epoch is proved: only a state of that epoch can help."""
FORMER: Final = 4
"""Earlier configurations whose replicas are still linked: some may have to be told of the later ones."""
END: Final = 2**62
STRANGER: Final = "neither a member, nor one that was or will be"


class Epochs:
    """Invariants:
    `core` votes only if this replica is a member of the configuration that holds after the state it began with
    a turn is made from a state at or beyond the boundary that is on this disk: none is made twice, and forgotten words
    """

    lineage_type: type[Lineage] = Lineage

    def __init__(self, setup: Setup, make: Callable[[Setup], PbftCore]) -> None:
        self._setup = setup
        self._make = make
        self._now: Micros = 0
        self._early = Early()
        self._early_of = 0
        """The epoch of what came early."""
        self._lessons: Allowance[NodeId] = Allowance(ANSWERS, setup.config.status_interval_us)
        self._asks: Allowance[NodeId] = Allowance(1, setup.config.status_interval_us)
        self._questions: Allowance[ClientId] = Allowance(ANSWERS, setup.config.status_interval_us)
        self._learned: Allowance[NodeId] = Allowance(ANSWERS, setup.config.status_interval_us)
        self._last = (-1, 0)
        """What was executed at the last tick, and for how many ticks no more."""
        self._told: tuple[int, int, int | None] | None = None
        self._on_disk = setup.stored.index
        self.lineage = self.lineage_type(setup, self._links_at_hand())
        self.core: PbftCore | Outsider = self._recalled()
        self.epoch = self.core.setup.domain.epoch

    # -------------------------------------------------------------------------------------------------------- the plug

    @property
    def notary(self) -> Notary:
        return self.core.notary

    def step(self, now: Micros, event: Event) -> list[Effect]:
        self._now = now
        if isinstance(event, Received):
            return self._received(event)
        if isinstance(event, Saved):
            return self._saved(event)
        if isinstance(event, Timeout):
            return self._timeout(event)
        if isinstance(event, Started):
            return self._started()
        return self._do(event) + self._members()

    def _become(self, core: PbftCore | Outsider) -> None:
        self.core, self.epoch = core, core.setup.domain.epoch

    def _do(self, event: Event) -> list[Effect]:
        """One event for the core, and what it gives as the world is to have it."""
        return self._dressed(self.core.step(self._now, event))

    def status(self) -> types.Status:
        status = self.core.status()
        ends = self._ends
        detail: dict[str, int | str] = {
            "epoch": self.epoch,
            "members": ", ".join(map(str, self.core.setup.members)),
            "pending": "" if ends is None else f"epoch {self.epoch + 1} after seq {ends}",
        }
        role = status.role
        if isinstance(self.core, Outsider) and self.core.role is Role.REMOVED:
            role = f"removed from the cluster in epoch {self._left}"
        return msgspec.structs.replace(status, role=role, detail={**status.detail, **detail})

    def check_invariants(self) -> None:
        self.core.check_invariants()
        self._early.check_invariants()
        if isinstance(self.core, PbftCore):
            assert self._setup.me in self.core.setup.members, "only members vote"
            assert self.epoch < len(self.lineage.configurations), "the epoch is proved"

    @property
    def _ends(self) -> int | None:
        return self.core.ends if isinstance(self.core, PbftCore) else None

    @property
    def _left(self) -> int:
        """The first epoch without this replica, after those with it."""
        me = self._setup.me
        return 1 + max(one.epoch for one in self.lineage.configurations if one.member(me) is not None)

    # ----------------------------------------------------------------------------------------------------- construction

    def _links_at_hand(self) -> Sequence[Link]:
        """On this replica's disk, or as it was given them when it was enrolled: whichever lead further."""
        on_disk = [record.links for record in self._setup.stored.records if isinstance(record, Links)]
        return max([self._setup.links, *on_disk], key=len)

    def _recalled(self) -> PbftCore | Outsider:
        """The core that the disk asks for: its state says which configuration comes next, the chain proves it."""
        stored, me = self._setup.stored, self._setup.me
        configuration = self._setup.sessions.configuration_at(stored.index + 1) or self.lineage.latest
        epoch = configuration.epoch
        if epoch == len(self.lineage.configurations):
            self._append_own(epoch - 1)
        if configuration.member(me) is None or epoch >= len(self.lineage.configurations):
            return self._outsider(self._placed(stored))
        known = Stored(self._records_of(epoch), stored.index, stored.digest)
        return self._make(self.lineage.setup_of(configuration, known))

    def _records_of(self, epoch: int) -> list[Message]:
        bare = [record for record in self._setup.stored.records if not isinstance(record, (InEpoch, Links))]
        if epoch == 0:
            return bare
        worn = [record for record in self._setup.stored.records if isinstance(record, InEpoch)]
        return [record.message for record in worn if record.epoch == epoch]

    def _append_own(self, epoch: int) -> None:
        """A crash came between the state at the boundary and the link: its proof is among the records."""
        index = self._setup.stored.index
        for record in self._records_of(epoch):
            if isinstance(record, CheckpointProof) and record.seq == index:
                self._append(record)
                return

    def _append(self, proof: CheckpointProof) -> None:
        """The link that this replica can make itself: it has the state."""
        path = self._setup.sessions.membership_path(proof.seq)
        if path is not None:
            bare = CheckpointProof(proof.seq, proof.digest, proof.votes if self._signed else [])
            self.lineage.append(Link(certificate_of(bare), tuple(path)))

    def _placed(self, stored: Stored) -> CheckpointProof | None:
        return CheckpointProof(stored.index, stored.digest, []) if stored.index else None

    def _outsider(self, placed: CheckpointProof | None) -> Outsider:
        """For the latest configuration that is known."""
        latest, me = self.lineage.latest, self._setup.me
        absent = Role.REMOVED if self.lineage.knows(me) else Role.JOINING
        role = Role.BEHIND if latest.member(me) is not None else absent
        kind = Outsider if self._signed else MacOutsider
        return kind(self.lineage.setup_of(latest, Stored()), role, placed)

    @property
    def _signed(self) -> bool:
        return bool(self._setup.config.auth != "macs")

    def _started(self) -> list[Effect]:
        return (self._note_epoch() if self.epoch else []) + self._do(Started()) + self._members()

    # ------------------------------------------------------------------------------------------------------ the turn

    def _saved(self, event: Saved) -> list[Effect]:
        """A state is on this disk: if it is that of a boundary, or of a later epoch, the next core begins there."""
        core, self._on_disk = self.core, event.index
        if isinstance(core, Outsider):
            return self._come_in(core)
        proof = core.checkpoints.stable
        if core.ends is None or not core.ends == event.index == proof.seq:
            return self._do(event)
        if len(self.lineage.links) == core.setup.domain.epoch:
            self._append(proof)
        return self._turn(self.lineage.configurations[self.epoch + 1], proof, core)

    def _come_in(self, core: Outsider) -> list[Effect]:
        """Vote, if the state on the disk is one of the latest epoch and this replica is a member of it."""
        placed, latest = core.placed, self.lineage.latest
        if placed is None or core.role is not Role.BEHIND or placed.seq != self._on_disk:
            return []
        known = self._setup.sessions.configuration_at(placed.seq + 1) == latest
        return self._turn(latest, placed, None) if known else []

    def _turn(self, configuration: Configuration, placed: CheckpointProof, former: PbftCore | None) -> list[Effect]:
        """Exchange the core. `placed`: the state on disk, from which a restart would make the same turn again."""
        stop: list[Effect] = [CancelTimer(name) for name in TIMERS]
        index = placed.seq + 1
        chain: list[Effect] = [Persist(Links(self.lineage.links), index)]
        self._last = (-1, 0)
        if configuration.member(self._setup.me) is None:
            self._become(self._outsider(placed))
            return [*stop, *chain, *self._note_epoch(), *self._do(Started()), *self._members()]
        records = self._first_records(configuration, placed, former)
        core = self._make(self.lineage.setup_of(configuration, Stored(records, placed.seq, placed.digest)))
        self._become(core)
        begun = [Persist(InEpoch(configuration.epoch, record), index) for record in records]
        effects = [*stop, *chain, *begun, *self._note_epoch(), *self._dressed(core.begin(self._now, former))]
        return effects + self._members() + self._replay()

    def _first_records(
        self, configuration: Configuration, placed: CheckpointProof, former: PbftCore | None
    ) -> list[Message]:
        """What the new epoch begins with: the proof of a state that lies beyond its beginning, leave that was given to
        be refreshed. Its view is 0, whatever the last one's was: members that began in different views would be beyond
        what a refresh thinks that a correct replica can be."""
        begins = self.lineage.begins(configuration.epoch)[0]
        records: list[Message] = [placed] if placed.seq > begins else []
        return records + (former.recovery.leave.passed_on(configuration.ids) if former is not None else [])

    def _replay(self) -> list[Effect]:
        """What members said before this replica was there (P21)."""
        effects: list[Effect] = []
        for sender, message in self._early.take() if self._early_of == self.epoch else ():
            effects += self._do(Received(sender, message))
        return effects

    def _note_epoch(self) -> list[Effect]:
        setup = self.core.setup
        detail = {"epoch": setup.domain.epoch, "first": setup.begins[0] + 1, "f": setup.f, "members": [*setup.members]}
        return [Note("epoch", detail)]

    # -------------------------------------------------------------------------------------------------------- messages

    def _received(self, event: Received) -> list[Effect]:
        sender, message = event.sender, event.message
        if isinstance(message, ConfigurationQuestion):
            return self._asked(sender, message)
        if isinstance(sender, str):
            return self._do(event)
        if isinstance(message, InEpoch):
            return self._from_replica(sender, message.epoch, message.message)
        if isinstance(message, FREE):
            return self._free(sender, message)
        return self._from_replica(sender, 0, message)

    def _from_replica(self, sender: NodeId, epoch: int, message: Any) -> list[Effect]:
        """Each epoch has its own words (P22)."""
        status = type(message) is Status
        if epoch == self.epoch and sender in self.core.setup.members:
            return self._do(Received(sender, message))
        if status:
            return self._teach(sender, epoch, message) + self._ask(sender, epoch)
        if not self._knows(sender):
            return self._refuse(sender, STRANGER)
        if epoch == self.epoch + 1 and isinstance(message, PHASES):
            self._keep(sender, epoch, message)
        return []

    def _keep(self, sender: NodeId, epoch: int, message: Any) -> None:
        """For the next epoch, of one epoch at a time."""
        if epoch != self._early_of:
            self._early, self._early_of = Early(), epoch
        self._early.keep(sender, message)

    def _knows(self, node: NodeId) -> bool:
        """Present, former and, once they are decided, next members."""
        following = self._setup.sessions.configuration_at(END)
        return self.lineage.knows(node) or (following is not None and following.member(node) is not None)

    def _free(self, sender: NodeId, message: Any) -> list[Effect]:
        if isinstance(message, ConfigurationAnswer):
            return self._learn(sender, message)
        if not self._knows(sender):
            return self._refuse(sender, STRANGER)
        return self._dressed(self.core.serve(self._now, sender, message))

    def _asked(self, sender: NodeId | ClientId, message: ConfigurationQuestion) -> list[Effect]:
        """A client's question. Replicas are told when they say where they are."""
        if isinstance(sender, int) or not self._questions.take(self._now, sender):
            return []
        return [Reply(sender, ConfigurationAnswer(message.epoch, self._links(message.epoch)))]

    def _links(self, epoch: int) -> tuple[Link, ...]:
        return tuple(self.lineage.links[epoch:][:LINKS_MAX])

    def _teach(self, sender: NodeId, epoch: int, status: Status) -> list[Effect]:
        """One that is in an earlier epoch, or no member, and says where it is: links first, then proofs. Links are no
        secret: under MACs a joiner has to hear of each from those whose epoch it ends, who may be gone by then."""
        if not self._lessons.take(self._now, sender):
            return []
        effects: list[Effect] = []
        if links := self._links(epoch):
            effects.append(Send((sender,), ConfigurationAnswer(epoch, links)))
        if not self._knows(sender):
            return effects if links else self._refuse(sender, STRANGER)
        return effects + self._dressed([Send((sender,), word) for word in self.core.words(status.stable)])

    def _ask(self, sender: NodeId, epoch: int) -> list[Effect]:
        """It is in an epoch that this replica does not know of: whoever is told where this one is, teaches it."""
        if epoch <= self.lineage.latest.epoch or not self._asks.take(self._now, sender):
            return []
        reached = self._reached
        return self._dressed([Send((sender,), Status(0, False, reached, reached, False, b"", []))])

    @property
    def _reached(self) -> int:
        core = self.core
        return core.index if isinstance(core, Outsider) else core.checkpoints.stable.seq

    def _learn(self, sender: NodeId, answer: ConfigurationAnswer) -> list[Effect]:
        if not self._learned.take(self._now, sender):
            return []
        before = len(self.lineage.links)
        flaw = self.lineage.hear(sender, answer)
        effects = self._refuse(sender, flaw) if flaw else []
        if isinstance(self.core, PbftCore):
            return effects + self._tell_core(sender, answer, self.core)
        if len(self.lineage.links) > before:
            core = self._outsider(self.core.placed)
            self._become(core)
            effects += self._dressed(core.fetch()) + self._members() + self._come_in(core)
        return effects

    def _tell_core(self, sender: NodeId, answer: ConfigurationAnswer, core: PbftCore) -> list[Effect]:
        """The boundary of its own epoch, proved or, under MACs, claimed by one more of its members."""
        epoch = self.epoch
        if len(self.lineage.links) > epoch and self._signed:
            proof = self.lineage.proof(epoch)
            new = core.checkpoints.proven.seq < proof.seq
            return self._dressed(core.learn(self._now, proof)) if new else []
        said = self.lineage.claimed(answer, epoch)
        if self._signed or said is None or sender not in core.setup.members:
            return []
        return self._do(Received(sender, Checkpoint(*said, sender, b"")))

    def _refuse(self, sender: NodeId, rule: str) -> list[Effect]:
        return list(self.core.notary.refuse(sender, rule))

    # ---------------------------------------------------------------------------------------------------------- time

    def _timeout(self, event: Timeout) -> list[Effect]:
        if event.name == "status" and isinstance(self.core, PbftCore) and self._is_stuck(self.core):
            return self._step_aside()
        return self._do(event)

    def _is_stuck(self, core: PbftCore) -> bool:
        """The others are in a later epoch, and have nothing more of this one."""
        executed, ticks = self._last
        self._last = (core.executed, ticks + 1 if core.executed == executed else 0)
        later = self.lineage.latest.epoch > self.epoch
        return later and core.checkpoints.stable.seq != core.ends and self._last[1] >= STUCK

    def _step_aside(self) -> list[Effect]:
        """Vote no more in an epoch that is over: fetch a state of a later one."""
        self._become(self._outsider(None))
        stop: list[Effect] = [CancelTimer(name) for name in TIMERS]
        return [*stop, Note("left-behind", {"epoch": self.epoch}), *self._do(Started()), *self._members()]

    # --------------------------------------------------------------------------------------------------------- effects

    def _dressed(self, effects: list[Effect]) -> list[Effect]:
        """As the world is to have them: what belongs to an epoch says so, and a cut takes no link."""
        if self.epoch == 0 and not self.lineage.links:
            return effects
        return [dressed for effect in effects for dressed in self._dress(effect)]

    def _dress(self, effect: Effect) -> Iterator[Effect]:
        epoch = self.epoch
        if isinstance(effect, Send) and epoch and not isinstance(effect.message, FREE):
            yield Send(effect.to, InEpoch(epoch, effect.message))
        elif isinstance(effect, Persist) and epoch:
            yield Persist(InEpoch(epoch, effect.record), effect.index)
        elif isinstance(effect, Trim):
            yield Persist(Links(self.lineage.links), effect.upto + 1)  # what the cut must leave (P44)
            yield effect
        else:
            yield effect

    def _members(self) -> list[Effect]:
        """Whom to be linked with, when that changes."""
        known = (self.epoch, len(self.lineage.links), self._ends)
        if known == self._told:
            return []
        self._told = known
        following = self._setup.sessions.configuration_at(END) if self._ends is not None else None
        present = self.lineage.configurations[self.epoch]
        linked = _distinct([present, self.lineage.latest, *([following] if following is not None else [])])
        former = self.lineage.configurations[max(0, self.epoch - FORMER) : self.epoch]
        return [Members(linked, tuple(former), tuple(self.lineage.links))]


def _distinct(configurations: Sequence[Configuration]) -> tuple[Configuration, ...]:
    return tuple({one.epoch: one for one in configurations}.values())
