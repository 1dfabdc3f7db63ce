"""What servers remember of each other's promises, so that an old copy of a disk is found out. (HAZARDS R28)

A server that comes back with less than it had promised could vote for a leader that lacks what was committed with it.
One that never votes can do no such harm, whatever else it has forgotten: the majority of any election then meets that
of any entry in somebody who has it still.

A promise has a *place*: the term in which it was made, and how far the server's log was that of the leader of this
term, or 0 if all it did was to vote. Of an honest disk the place never falls: terms do not, and while a term lasts
nobody cuts what was acknowledged to its leader. Leaders tell all others the places of all, now and then; that is
written down. Whoever starts says with what it starts, and is told of what it had promised. Until all have answered, or
for the longest election time-out, it gives no vote; if anybody knows of more than it has, it gives none any more. That
is written down, too, and ends when a later configuration makes it a learner: from there on it has what its leader has.

Here: places, the question at the start, and whether this server may vote. Not here: votes (`raft.election`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from raft.election import Election
from raft.log import Log
from raft.messages import Acknowledged, Known, Place, Returned, Witnessed
from replog.core import CancelTimer, Effect, Note, Persist, Send, SetTimer, Stored
from replog.types import Micros, NodeId

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


WITNESS: Final = "witness"
TERMS_MAX: Final = 1_024
"""Terms of which a server remembers, while it asks, what it has promised since it started. Whoever has not answered by
then is not asked any more."""


class Witness:
    """Invariants: the place that is known of a server never falls; `lost` is on disk before anybody is told."""

    def __init__(self, me: NodeId, config: RaftConfig, log: Log, election: Election, stored: Stored) -> None:
        self.me = me
        self.config = config
        self.log = log
        self.election = election
        self.known: dict[NodeId, Place] = {}
        self.lost: Place | None = None
        """What this server is known to have promised, and does not have."""
        for record in stored.records:
            if isinstance(record, Witnessed):
                self.known, self.lost = dict(record.places), record.lost if config.witness else None
        self._began = self.present
        self._promised: dict[int, int] = {}
        """By term, since the start: what others may know of by now, although the disk held less when it began."""
        self._asks: set[NodeId] = set()
        self._until: Micros = 0
        self._told_at: Micros = 0
        self._told: dict[NodeId, Place] = {}

    @property
    def present(self) -> Place:
        return self.election.current_term, self.log.last_index

    # -------------------------------------------------------------------------------------------------- who comes back

    def start(self, now: Micros) -> list[Effect]:
        if not self.config.witness:
            return []
        self._asks = {node for node in self.log.configuration.members if node != self.me}
        self._until = now + self.config.election_timeout_max_us
        return self.on_retry(now)

    def on_retry(self, now: Micros) -> list[Effect]:
        """Ask those who have not answered: often while votes wait for it."""
        self._asks &= set(self.log.configuration.members)
        if not self._asks:
            return []
        again = self.config.heartbeat_us if now < self._until else self.config.election_timeout_max_us
        question = Returned(*self._began, self.lost is not None)
        return [Send(tuple(sorted(self._asks)), question), SetTimer(WITNESS, again)]

    def may_vote(self, now: Micros) -> bool:
        return self.lost is None and (not self._asks or now >= self._until)

    def promised(self, term: int, index: int) -> None:
        """This server has voted in `term`, or its log is that of the term's leader up to `index`, and says so."""
        if not self._asks:
            return
        self._promised[term] = max(index, self._promised.get(term, 0))
        if len(self._promised) > TERMS_MAX:
            self._asks.clear()

    def on_known(self, sender: NodeId, message: Known) -> list[Effect]:
        if sender not in self._asks:
            return []
        self._asks.discard(sender)
        done: list[Effect] = [] if self._asks else [CancelTimer(WITNESS)]
        since = self._promised.get(message.term, -1)
        if not self._asks:
            self._promised.clear()
        place = message.term, message.index
        return done if place <= self._began or since >= message.index else [*done, *self._lose(sender, place)]

    def _lose(self, sender: NodeId, place: Place) -> list[Effect]:
        """Found out. Everybody is told, behind the disk, so that what is lost is sent again."""
        if self.lost is not None:
            return []
        self.lost, self._asks = place, {node for node in self.log.configuration.members if node != self.me}
        told = Send(tuple(sorted(self._asks)), Returned(*self._began, True))
        again = SetTimer(WITNESS, self.config.election_timeout_max_us)
        note = {"known_to": sender, "promised": list(place), "here": list(self._began), "rule": self.in_words}
        return [Note("old-disk", note), self.record(0), told, again]

    def forgive(self, committed: int) -> list[Effect]:
        """A learner of a later configuration has no vote, and gets one only once it has what its leader has."""
        if self.lost is None or committed <= self.lost[1]:
            return []
        index, configuration = self.log.committed_configuration(committed)
        if index <= self.lost[1] or configuration.votes(self.me) or self.me not in configuration.members:
            return []
        self.lost = None
        self._asks.clear()
        return [CancelTimer(WITNESS), self.record(0), Note("old-disk-forgiven", {"index": index})]

    @property
    def in_words(self) -> str:
        if self.lost is None:
            return ""
        (term, index), (began_term, began_index) = self.lost, self._began
        return (
            f"an old copy of the disk: this server had promised up to index {index} in term {term}, and started with "
            f"index {began_index} in term {began_term}; it gives no vote until it is replaced or made a learner"
        )

    # ------------------------------------------------------------------------------------------- who remembers others

    @property
    def least(self) -> int:
        """Up to where each voter is known to have acknowledged in its latest term, 0 if nothing is known of one."""
        voters = self.log.configuration.voters
        return min((self.known.get(node, (0, 0))[1] for node in voters), default=0)

    def saw(self, node: NodeId, place: Place) -> None:
        if self.config.witness:
            self.known[node] = max(place, self.known.get(node, (0, 0)))

    def on_returned(self, sender: NodeId) -> list[Effect]:
        return [Send((sender,), Known(*self.known.get(sender, (0, 0))))]

    def on_acknowledged(self, message: Acknowledged) -> list[Effect]:
        """By the leader of the present term."""
        self._note(message.term, message.indexes)
        return [self.record(0)]

    def _note(self, term: int, indexes: Mapping[NodeId, int]) -> None:
        for node, index in indexes.items():
            self.saw(node, (term, index))
        members = self.log.configuration.members
        self.known = {node: place for node, place in self.known.items() if node in members}

    def tell(self, now: Micros, reached: dict[NodeId, int]) -> list[Effect]:
        """Of a leader, by a heartbeat: what each has acknowledged, itself what it has said is committed."""
        if not self.config.witness or now - self._told_at < self.config.witness_us:
            return []
        self._told_at, term = now, self.election.current_term
        self._note(term, reached)
        if self.known == self._told:
            return []
        self._told = dict(self.known)
        others = tuple(node for node in self.log.configuration.members if node != self.me)
        said: list[Effect] = [Send(others, Acknowledged(term, reached))] if others else []
        return [self.record(0), *said]

    def record(self, index: int) -> Persist:
        return Persist(Witnessed(dict(sorted(self.known.items())), self.lost), index)

    def kept(self, index: int) -> list[Effect]:
        """What is to be written anew when the log is cut before `index`."""
        return [self.record(index)] if self.known or self.lost is not None else []
