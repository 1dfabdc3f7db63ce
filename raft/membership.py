"""Changes of members: which configuration a leader is to append next, and when. [Raft 6; Ongaro14 4]

What is to become of the members is decided like anything else: a command in the log, signed by the administrator, makes
it the open change of the replicated state (`replog.membership`). From there on it is the present leader's to carry out,
whoever that is:

    C_old                 newcomers that are to vote follow as learners first, and catch up in rounds
    C_old,new             both majorities, from the moment the entry is in the log
    C_new                 once C_old,new is committed; applied, it concludes the change

or, if a newcomer does not catch up, C_old without it, which concludes it too. Where things stand is read from the log
and the state alone, so that a new leader goes on where the last one stopped.

Here: what is next, and what the state says of the members. Not here: what an entry of the log means for quorums
(`raft.configuration`), nor who may ask for a change (`replog.membership`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final, Literal

from raft.configuration import Configuration
from raft.log import Log
from raft.replication import Replication
from replog.core import Effect, Members, Note, Reply, Setup
from replog.membership import OPEN, ConfigurationAnswer, ConfigurationQuestion
from replog.membership import Configuration as Epoch
from replog.types import ClientId, Micros, NodeId

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


GIVEN_UP: Final = "was not waited for any longer, by an operator's command"


class Roll:
    """What the replicated state says of the members: ids, addresses, keys, and the change that is open, if one is. It
    is told to whoever asks, on this server's word: nothing is proved.

    `present` is None where members never change."""

    def __init__(self, setup: Setup) -> None:
        self._sessions = setup.sessions
        self._changes = setup.genesis is not None
        self.present: Epoch | None = None
        self.open: Epoch | None = None
        self._later: Epoch | None = None
        """What it was told when it was removed, which its own state does not know."""

    def look(self) -> list[Effect]:
        """The state has changed, or this server has just started: whom to be linked with, where that is news."""
        latest = self._configuration_at(OPEN)
        if latest is (self.open or self.present):
            return []
        present, former = self._configuration_at(OPEN - 1), self._configuration_at(0)
        if latest is None or present is None or former is None:
            return []
        begins = self.present is not None and present is not self.present
        self.present, self.open = present, latest if latest is not present else None
        linked = (present,) if self.open is None else (present, self.open)
        members = Members(linked, (former,) if former is not present else ())
        return [members, _epoch(present)] if begins else [members]

    def _configuration_at(self, index: int) -> Epoch | None:
        return self._sessions.configuration_at(index) if self._changes else None

    @property
    def epoch(self) -> int:
        return 0 if self.present is None else self.present.epoch

    @property
    def ids(self) -> set[NodeId]:
        """Of the members, and of those who are to be."""
        return {node for one in (self.present, self.open) if one is not None for node in one.ids}

    def answer(self, sender: ClientId, question: ConfigurationQuestion) -> Reply:
        latest = self.latest
        later = (latest,) if latest is not None and latest.epoch > question.epoch else ()
        return Reply(sender, ConfigurationAnswer(question.epoch, (), later))

    @property
    def latest(self) -> Epoch | None:
        """By its own state, or by what it was told when it was removed."""
        known = [one for one in (self.present, self._later) if one is not None]
        return max(known, key=lambda one: one.epoch, default=None)

    def left(self, members: Epoch) -> None:
        """This server is told that it is no member any more, and who is."""
        if self._later is None or members.epoch > self._later.epoch:
            self._later = members

    def was_member(self, me: NodeId) -> bool:
        """Whether this server was a member, or could have been one, and is none."""
        present = self.present
        return present is not None and present.member(me) is None and me < present.next_id

    def detail(self, newcomers: str) -> dict[str, int | str]:
        """For its status."""
        present = self.present
        if present is None:
            return {}
        pending = f"epoch {self.open.epoch} with {in_words(self.open)}" if self.open is not None else ""
        shown: dict[str, int | str] = {"epoch": present.epoch, "members": in_words(present), "pending": pending}
        return shown | ({"newcomers": newcomers} if newcomers else {})


def in_words(epoch: Epoch) -> str:
    """`0, 1, 4, learner 5`."""
    return ", ".join([*map(str, epoch.voters), *(f"learner {node}" for node in epoch.learners)])


def _epoch(present: Epoch) -> Note:
    detail = {"epoch": present.epoch, "first": present.first, "f": present.f, "members": [*present.ids]}
    return Note("epoch", detail)


def concludes(before: Configuration, after: Configuration) -> Literal["", "made", "given up"]:
    """What the step from one configuration in the log to the next says of the open change."""
    if before.old_voters:
        return "" if after.old_voters else "made"
    return "given up" if not after.old_voters and set(after.learners) <= set(before.learners) else ""


class Newcomer:
    """One that is to vote, on its way. A round brings what the log held when it began; who is done with one within an
    election time-out costs nobody a wait when it votes. [Ongaro14 4.2.1]"""

    def __init__(self, now: Micros, target: int) -> None:
        self.round = 1
        self.began = now
        self.target = target
        self.ready = False

    def advance(self, now: Micros, match_index: int, last_index: int, config: RaftConfig) -> bool:
        """Whether it is ready now and was not before."""
        was_ready = self.ready
        while not self.ready and match_index >= self.target and self.round <= config.catch_up_rounds:
            self.ready = now - self.began < config.election_timeout_min_us
            if not self.ready:
                self.round += 1
                self.began, self.target = now, last_index
        return self.ready and not was_ready

    def failed(self, now: Micros, config: RaftConfig) -> str:
        """Why it will never be ready, "" as long as it may be."""
        if self.ready:
            return ""
        if self.round > config.catch_up_rounds:
            return f"takes longer than an election time-out for each of {config.catch_up_rounds} rounds"
        waited = now - self.began
        return f"has not caught up after {waited / 1e6:.0f} s" if waited >= config.catch_up_us else ""


class Reconfiguration:
    """For one term. Invariant: who is in `newcomers` is a learner in the log, and to vote in the open change."""

    def __init__(self, config: RaftConfig, log: Log, replication: Replication, roll: Roll) -> None:
        self.config = config
        self.log = log
        self.replication = replication
        self.roll = roll
        self.newcomers: dict[NodeId, Newcomer] = {}
        self.abandoned = 0
        """The epoch whose newcomers an operator does not want to wait for any more."""
        self._notes: list[Effect] = []

    def next(self, now: Micros, committed: int, applied: int) -> Configuration | None:
        """The configuration to append now; None if there is nothing to do, or not yet.

        One at a time: the last one is committed, and whatever it concludes is applied. And none before an entry of the
        own term is committed, else the change of an older term could be taken for decided. (HAZARDS R17)
        """
        present = self.log.configuration
        if not self.may_append(committed, applied):
            return None
        if present.old_voters:
            return Configuration(present.voters, [], present.learners)
        if self.roll.open is None or self.roll.present is None:
            self.newcomers.clear()
            return None
        return self._towards(now, present, self.roll.open)

    def may_append(self, committed: int, applied: int) -> bool:
        settled = self.log.configuration_index <= min(committed, applied)
        return settled and self.log.term(committed) == self.replication.current_term

    def _towards(self, now: Micros, present: Configuration, following: Epoch) -> Configuration | None:
        coming = sorted(set(following.ids) - set(present.members))
        if coming:
            return Configuration(present.voters, [], sorted({*present.learners, *coming}))
        waits = self.waits_for(now, sorted(set(following.voters) - set(present.voters)))
        if not waits:
            self.newcomers.clear()
            return joint(present, following)
        why = dict.fromkeys(waits, GIVEN_UP) if self.abandoned == following.epoch else self._failed(now, waits)
        return self._give_up(present, why) if why else None

    def _failed(self, now: Micros, waits: Collection[NodeId]) -> dict[NodeId, str]:
        return {node: rule for node in waits if (rule := self.newcomers[node].failed(now, self.config))}

    def abandon(self) -> str:
        """The open change is not waited for any longer. Why it cannot be given up, "" if it will be: as soon as a
        configuration may be appended, unless those who come have caught up by then."""
        if self.roll.open is None:
            return "no change of the members is under way"
        if self.log.configuration.old_voters:
            return f"epoch {self.roll.open.epoch} is for both majorities to decide: whoever comes has caught up"
        self.abandoned = self.roll.open.epoch
        return ""

    def waits_for(self, now: Micros, newcomers: Collection[NodeId]) -> list[NodeId]:
        """Those that have not caught up."""
        last_index = self.log.last_index
        for node in newcomers:
            progress = self.replication.progress[node]
            newcomer = self.newcomers.setdefault(node, Newcomer(now, last_index))
            if newcomer.advance(now, progress.match_index, last_index, self.config):
                self._notes.append(Note("caught-up", {"node": node, "rounds": newcomer.round}))
        return [node for node in newcomers if not self.newcomers[node].ready]

    def _give_up(self, present: Configuration, why: dict[NodeId, str]) -> Configuration:
        """[Ongaro14 4.2.1] Who was a learner before stays one."""
        self._notes += [Note("change-given-up", {"node": node, "rule": rule}) for node, rule in why.items()]
        self.newcomers.clear()
        before = self.roll.present
        return Configuration(present.voters, [], list(before.learners) if before is not None else [])

    def take_notes(self) -> list[Effect]:
        notes, self._notes = self._notes, []
        return notes

    @property
    def in_words(self) -> str:
        """What a newcomer is waited for with."""
        waiting = {node: one for node, one in self.newcomers.items() if not one.ready}
        has = {node: self.replication.progress[node].match_index for node in waiting}
        said = (f"node {node} has {has[node]} of {one.target}, round {one.round}" for node, one in waiting.items())
        return "; ".join(said)


def joint(present: Configuration, following: Epoch) -> Configuration:
    """C_old,new. Who stops voting, or leaves, does so with C_new."""
    return Configuration(list(following.voters), present.voters, list(following.learners))
