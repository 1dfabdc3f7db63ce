"""Raft's figure 2 as a machine that says of a step whether it may be. [Raft fig. 2, fig. 13]

A `Server` is one of the figure's servers. It hears the event of a recorded step, computes what the figure makes of it,
and holds every effect against that, in the order of the list, which is the order of durability: a change of
current_term, voted_for or log[] is the record that writes it, and words are held against what is listed before them
(`raft_words`). What holds across servers is in `raft_cluster`.

What a model cannot ask is progress: a message may be lost, so saying nothing is always allowed, and ignoring a message
is, where the core notes that it did. What it does ask: a later term is taken over, a vote is given as the rules say, a
log becomes exactly what the receiver's rules make of it, a candidate with a majority begins its term.

Extensions, allowed as their sources have them and no further:
    [5.3]    a refusal names the term in the way and its first index
    [6]      who hears a leader ignores requests for votes: nothing changes, not even the term
    [7]      snapshots: of one's own up to last_applied, and installed by figure 13; nothing is acknowledged on a state
             that is not on disk
    [8]      a term begins with a no-op; reads by a round of heartbeats
    [3.10]   a leader tells a server that has its whole log to stand at once
    [6.2]    CheckQuorum: a leader steps down at a heartbeat
    [9.6]    PreVote: a question that binds nobody; who asks is no candidate
    R28      a server asks what it had promised before it started, and gives no vote meanwhile; here no disk is old, so
             that nobody may be told of more than it has
    [10.2.1] a leader sends entries before they are on its own disk, and counts itself when the record is listed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from compare.model.raft_log import Log, agreed, is_majority, others, recovered, require
from compare.model.raft_words import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, WORDS
from compare.model.steps import Life
from raft.configuration import Configuration
from raft.messages import (
    AppendEntries,
    AppendReply,
    Entries,
    HardState,
    InstallSnapshot,
    Known,
    LogStart,
    PreVote,
    PreVoteReply,
    ReadIndex,
    RequestVote,
    Returned,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
)
from replog.core import (
    Apply,
    Checkpoint,
    Checkpointed,
    Effect,
    Event,
    Note,
    Persist,
    Received,
    Reply,
    Saved,
    Send,
    Timeout,
    Trim,
)
from replog.types import NOBODY, Answer, ClientId, Message, NodeId, Request
from replog.types import Reply as ClientReply

IGNORED: Final = frozenset({"nonsense", "vote-ignored"})
"""Notes by which a core says that it passed a message by."""
BINDING: Final = (RequestVote, VoteReply, AppendEntries, AppendReply, InstallSnapshot, SnapshotReply, PreVoteReply)
"""A later term in one of these is taken over. [Raft fig. 2, all servers] A pre-vote is for a term that nobody is in."""


@dataclass
class Told:
    """What others have heard from a server, which no crash may undo."""

    records: int = 0
    """How many records were listed before the last of it."""
    term: int = 0
    votes: dict[int, NodeId] = field(default_factory=dict)

    def hear(self, to: NodeId, message: Message, listed: int) -> None:
        self.records = max(self.records, listed)
        if isinstance(message, BINDING):
            self.term = max(self.term, message.term)
        if isinstance(message, VoteReply) and message.vote_granted:
            self.votes[message.term] = to


@dataclass
class Server:
    me: NodeId
    first: Configuration
    leases: bool
    current_term: int = 0
    voted_for: NodeId = NOBODY
    log: Log = field(init=False)
    role: str = FOLLOWER
    commit_index: int = 0
    last_applied: int = 0
    votes: set[NodeId] = field(default_factory=set)
    pre_votes: set[NodeId] = field(default_factory=set)
    match_index: dict[NodeId, int] = field(default_factory=dict)
    records: list[Message] = field(default_factory=list)
    """All that was ever listed for this disk and did not get lost."""
    done: dict[tuple[ClientId, int], int] = field(default_factory=dict)
    """Requests applied in this life, and where."""
    offered: dict[int, InstallSnapshot] = field(default_factory=dict)
    unsaved: int = 0
    """An installed state up to here is not on disk yet; 0: none is."""
    answered: dict[NodeId, int] = field(default_factory=dict)
    """The latest of this leader's rounds that each follower has answered."""
    round: int = -1
    asked: dict[tuple[NodeId, int], tuple[int, int]] = field(default_factory=dict)
    """Questions for an index to read at: the round and commit_index when they came."""
    began: int = 0
    """Index of the entry with which this leader began its term."""
    # Of the step under way.
    event: Event | None = None
    expected: Log | None = None
    """The log that the receiver's rules make of this AppendEntries; None if it is none or is refused."""
    unwritten: list[Entries] = field(default_factory=list)
    """What the rest of the step writes."""

    def __post_init__(self) -> None:
        self.log = Log(self.first)

    @property
    def ahead(self) -> Log:
        """A leader's log with what this step is still to append."""
        log = self.log
        for record in self.unwritten if self.role == LEADER else ():
            log = log.plus(record.entries)
        return log

    # ------------------------------------------------------------------------------------------------------- a life

    def begin(self, life: Life, told: Told) -> None:
        kept = self._kept(life.records)
        require(kept >= told.records, "persistent state", f"{kept} records are left, others rely on {told.records}")
        hard, log = recovered(life.records, life.saved, self.first)
        require(hard.current_term >= told.term, "persistent state", f"begins in {hard.current_term} after {told.term}")
        vote = told.votes.get(hard.current_term, hard.voted_for)
        require(vote == hard.voted_for, "persistent state", f"has given {vote} a vote that it does not know of")
        fresh = Server(self.me, self.first, self.leases, hard.current_term, hard.voted_for)
        fresh.log = log
        fresh.records = self.records[:kept]
        fresh.commit_index = fresh.last_applied = life.saved
        self.__dict__.update(fresh.__dict__)

    def _kept(self, records: Sequence[Message]) -> int:
        """How many of the records listed are on the disk, whose oldest may have been cut off, never all."""
        length, found = len(records), list(records)
        if not found:
            return 0
        for end in range(len(self.records), length - 1, -1):
            if self.records[end - length : end] == found:
                return end
        require(not self.records, "persistent state", "the disk holds what was never listed for it")
        self.records = found
        return length

    # -------------------------------------------------------------------------------------------------------- a step

    def hear(self, event: Event, effects: Sequence[Effect]) -> bool:
        """What the figure makes of the event before anything is written. Whether it makes a leader."""
        self.event, self.expected, was = event, None, self.role
        if isinstance(event, Saved) and event.index >= self.unsaved:
            self.unsaved = 0
        passed_by = any(isinstance(one, Note) and one.kind in IGNORED for one in effects)
        message = event.message if isinstance(event, Received) else None
        if isinstance(event, Received) and isinstance(event.sender, int) and not passed_by:
            self._hear(event.sender, message)
        written = (one.record for one in effects if isinstance(one, Persist))
        self.unwritten = [record for record in written if isinstance(record, Entries)]
        return was != LEADER == self.role

    def _hear(self, sender: NodeId, message: Any) -> None:
        later = isinstance(message, BINDING) and message.term > self.current_term
        if isinstance(message, AppendEntries | InstallSnapshot) and message.term >= self.current_term:
            self.role = FOLLOWER
            if isinstance(message, AppendEntries):
                self._receive(message)
            else:
                self.offered[message.last_included_index] = message
        elif later:
            self.role = FOLLOWER
        elif isinstance(message, VoteReply) and message.term == self.current_term and self.role == CANDIDATE:
            if message.vote_granted:
                self.votes.add(sender)
            self._count()
        elif isinstance(message, PreVoteReply) and message.vote_granted and message.asked == self.current_term + 1:
            self.pre_votes.add(sender)
        elif self.role == LEADER:
            self._hear_follower(sender, message)

    def _receive(self, message: AppendEntries) -> None:
        """[Raft fig. 2, AppendEntries receiver] Rules 2 to 5."""
        prev, entries, log = message.prev_log_index, message.entries, self.log
        if prev >= log.start_index and log.term(prev) != message.prev_log_term:
            return
        self.expected = log.received(prev, entries)
        self.commit_index = max(self.commit_index, min(message.leader_commit, prev + len(entries)))

    def _hear_follower(self, sender: NodeId, message: Any) -> None:
        if isinstance(message, ReadIndex):
            # The same question may come again: it counts from when it came first.
            self.asked.setdefault((sender, message.token), (self.round, self.commit_index))
        elif isinstance(message, AppendReply) and message.term == self.current_term:
            if message.success or message.conflict_index:  # else it answers a question of an older term
                self.answered[sender] = max(self.answered.get(sender, -1), message.round)
            if message.success:
                self._matches(sender, message.match_index)
        elif isinstance(message, SnapshotReply) and message.term == self.current_term and message.done:
            self._matches(sender, message.last_included_index)

    def _matches(self, node: NodeId, index: int) -> None:
        self.match_index[node] = max(self.match_index.get(node, 0), min(index, self.log.last_index))
        self._advance()

    def _count(self) -> None:
        if is_majority(self.log.latest_configuration, self.votes):
            self.role, self.match_index, self.answered, self.asked, self.round = LEADER, {}, {}, {}, -1
            self.began = self.log.last_index + 1

    def _advance(self) -> None:
        """[Raft fig. 2, leaders] The highest N on a majority, if it is of the current term (5.4.2)."""
        reached = {**self.match_index, self.me: self.log.last_index}
        index = agreed(self.log.latest_configuration, reached)
        if index > self.commit_index and self.log.term(index) == self.current_term:
            self.commit_index = index

    # ------------------------------------------------------------------------------------------------------- effects

    def do(self, effect: Effect) -> None:
        if isinstance(effect, Persist):
            self._persist(effect.record)
        elif isinstance(effect, Send):
            for node in effect.to:
                self._send(node, effect.message)
        elif isinstance(effect, Apply):
            self._apply(effect)
        elif isinstance(effect, Reply) and isinstance(effect.message, ClientReply):
            self._reply(effect.client, effect.message)
        elif isinstance(effect, Checkpoint):
            require(
                effect.index == self.last_applied, "7", f"a snapshot of {effect.index}, applied {self.last_applied}"
            )
        elif isinstance(effect, Trim):
            require(
                effect.upto <= self.log.start_index, "7", f"cut up to {effect.upto}, snapshot {self.log.start_index}"
            )
        elif isinstance(effect, Note):
            require(effect.kind != "old-disk", "persistent state", "takes its disk for an old copy")
            if effect.kind == "term":
                self._noted(effect.detail)

    def _persist(self, record: Message) -> None:
        if isinstance(record, HardState):
            self._promise(record.current_term, record.voted_for)
        elif isinstance(record, Entries):
            self._write(record)
            self.unwritten.remove(record)
        elif isinstance(record, LogStart):
            self._compact(record)
        self.records.append(record)

    def _promise(self, term: int, vote: NodeId) -> None:
        require(term >= self.current_term, "all servers", f"term {self.current_term} falls to {term}")
        if term == self.current_term:
            fits = vote == self.voted_for or (self.voted_for == NOBODY and self.may_vote(vote, term))
            require(fits, "RequestVote 2", f"in term {term} the vote for {self.voted_for} becomes one for {vote}")
        elif vote == self.me:
            self._stand(term)
        else:
            told = self._told_term()
            require(term == told, "all servers", f"term {term}, but it was told of {told}")
            require(vote == NOBODY or self.may_vote(vote, term), "RequestVote 2", f"a vote for {vote} in term {term}")
            self.role = FOLLOWER
        self.current_term, self.voted_for = term, vote
        if self.role == CANDIDATE and vote == self.me:
            self._count()

    def _stand(self, term: int) -> None:
        event = self.event
        message = event.message if isinstance(event, Received) else None
        asked = isinstance(message, PreVoteReply) and is_majority(self.log.latest_configuration, self.pre_votes)
        told = isinstance(message, TimeoutNow) and message.term == self.current_term
        timeout = isinstance(event, Timeout) and event.name == "election"
        alone = is_majority(self.log.latest_configuration, {self.me})
        require(timeout or asked or told or alone, "followers", f"stands for election at {event}")
        require(term == self.current_term + 1, "candidates", f"from term {self.current_term} to {term}")
        require(self.role != LEADER, "candidates", "a leader stands for election")
        self.role, self.votes = CANDIDATE, {self.me}

    def _told_term(self) -> int:
        message = self.event.message if isinstance(self.event, Received) else None
        return getattr(message, "term", 0)

    def may_vote(self, candidate: NodeId, term: int) -> bool:
        """[Raft fig. 2, RequestVote receiver]"""
        event = self.event
        if not isinstance(event, Received) or not isinstance(event.message, RequestVote) or event.sender != candidate:
            return False
        asked = event.message
        return asked.term == term and self.log.is_behind(asked.last_log_index, asked.last_log_term)

    def _write(self, record: Entries) -> None:
        before = self.log.term(record.first - 1)
        require(
            before == record.prev_term, "log matching", f"entry {record.first} on term {before}, not {record.prev_term}"
        )
        if self.role == LEADER:
            require(record.first == self.log.last_index + 1, "leader append-only", f"a leader writes {record.first}")
            own = all(entry.term == self.current_term for entry in record.entries)
            require(own, "leaders", f"entries that are not of term {self.current_term}")
            self.log = self.log.plus(record.entries)
            self._advance()
            return
        require(self.expected is not None, "AppendEntries 2-4", f"entries at {record.first} that no leader has sent")
        self.log = self.log.up_to(record.first - 1).plus(record.entries)
        require(self.log == self.expected, "AppendEntries 3, 4", f"the log after entry {record.first - 1}")
        require(record.first > self.commit_index or record.first > self.last_applied, "5.4", "a committed entry is cut")

    def _compact(self, record: LogStart) -> None:
        if record.index <= self.last_applied:
            term = self.log.term(record.index)
            require(term == record.term, "7", f"the log begins after {record.index} of term {record.term}, not {term}")
        else:
            offer = self.offered.get(record.index)
            here = isinstance(self.event, Checkpointed) and self.event.index == record.index
            fits = offer is not None and here and offer.last_included_term == record.term
            require(fits, "13", f"a state of {record.index} that no leader has sent")
            self.commit_index = max(self.commit_index, record.index)
            self.last_applied = self.unsaved = record.index
        self.log = self.log.beginning_at(record.index, record.term, record.configuration)

    def _apply(self, effect: Apply) -> None:
        log, index = self.expected or self.ahead, effect.index
        require(index == self.last_applied + 1, "all servers", f"applies {index} after {self.last_applied}")
        require(index <= self.commit_index, "all servers", f"applies {index}, committed is {self.commit_index}")
        requests = [request.raw for request in effect.requests]
        held = log.holds(index) and log.entry(index).requests == requests
        require(held, "all servers", f"applies at {index} what its log does not hold there")
        self.last_applied = index
        self.done.update(((request.client, request.timestamp), index) for request in effect.requests)

    def _reply(self, client: ClientId, reply: ClientReply) -> None:
        """Who was told of an entry may rely on it: it is applied, and on this disk. What another life or a snapshot
        brought is no entry here."""
        if reply.answer is not Answer.DONE:
            return
        index = self.done.get((client, reply.timestamp))
        waiting = any(raw for raw in self._unapplied(client, reply.timestamp))
        require(
            index is not None or not waiting, "leaders", f"answers {client}'s {reply.timestamp} before it is applied"
        )
        require((index or 0) <= self.log.last_index, "leaders", f"answers for entry {index}, which is not on disk")

    def _unapplied(self, client: ClientId, timestamp: int) -> list[bytes]:
        later = [self.ahead.entry(index) for index in range(self.last_applied + 1, self.ahead.last_index + 1)]
        raws = [raw for entry in later for raw in entry.requests]
        return [raw for raw in raws if (one := Request(raw)).client == client and one.timestamp == timestamp]

    def _noted(self, detail: dict[str, Any]) -> None:
        term, role = detail["term"], detail["role"]
        require(term == self.current_term, "persistent state", f"is in term {term}, has written {self.current_term}")
        quits = isinstance(self.event, Timeout) and self.event.name == "heartbeat"
        if role == FOLLOWER and self.role == LEADER and quits:
            self.role = FOLLOWER  # [Ongaro14 6.2]
        mine = FOLLOWER if self.role == PRE_CANDIDATE and role == FOLLOWER else self.role
        require(role == mine, "roles", f"is a {role}, and by the figure a {self.role}")

    # --------------------------------------------------------------------------------------------------------- words

    def _send(self, to: NodeId, message: Message) -> None:
        said = getattr(message, "term", self.current_term)
        if not isinstance(message, (PreVote, Returned, Known)):
            require(said == self.current_term, "persistent state", f"says term {said}, has written {self.current_term}")
        check = WORDS.get(type(message))
        if check is not None:
            check(self, to, message)

    # ------------------------------------------------------------------------------------------------- after the step

    def end(self, effects: Sequence[Effect], *, began: bool) -> None:
        passed_by = any(isinstance(one, Note) and one.kind in IGNORED for one in effects)
        message = self.event.message if isinstance(self.event, Received) else None
        if isinstance(message, BINDING) and not passed_by:
            require(
                message.term <= self.current_term, "all servers", f"stays in {self.current_term}, told {message.term}"
            )
        if self.expected is not None and not passed_by and not self.unsaved:
            require(
                self.log == self.expected, "AppendEntries 3, 4", "the log is not what the leader's message makes of it"
            )
        if began:
            self._begins(effects)

    def _begins(self, effects: Sequence[Effect]) -> None:
        own = self.log.term(self.began) == self.current_term
        require(own and not self.log.entry(self.began).requests, "8", "a term begins without a no-op")
        heard = {
            to for one in effects if isinstance(one, Send) and isinstance(one.message, AppendEntries) for to in one.to
        }
        missing = others(self.log.latest_configuration, self.me) - heard
        require(not missing, "leaders", f"its term begins unheard by {sorted(missing)}")
