"""Raft's figure 2 as a machine that says of a step whether it may be. [Raft fig. 2, fig. 13]

A `Server` is one of the figure's servers. It hears the event of a recorded step, computes what the figure makes of it,
and holds every effect against that, in the order of the list, which is the order of durability: a change of
current_term, voted_for or log[] is the record that writes it, and words are held against what is listed before them.
`Cluster` holds the servers and what the figure's properties say across them (figure 3).

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
    [10.2.1] a leader sends entries before they are on its own disk, and counts itself when the record is listed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from compare.model.raft_log import Log, agreed, is_majority, others, recovered, require
from compare.model.steps import Life, Step
from raft.configuration import Configuration
from raft.messages import (
    MESSAGES,
    AppendEntries,
    AppendReply,
    Entries,
    HardState,
    InstallSnapshot,
    LogStart,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
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

FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER = "follower", "pre-candidate", "candidate", "leader"
IGNORED: Final = frozenset({"nonsense", "vote-ignored"})
"""Notes by which a core says that it passed a message by."""
BINDING: Final = (RequestVote, VoteReply, AppendEntries, AppendReply, InstallSnapshot, SnapshotReply, PreVoteReply)
"""A later term in one of these is taken over. [Raft fig. 2, all servers] A pre-vote is for a term that nobody is in."""


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

    def begin(self, life: Life, told: int) -> None:
        """`told`: how many records were listed before the last word of this server that anybody heard."""
        kept = self._kept(life.records)
        require(
            kept >= told, "persistent state", f"of {len(self.records)} records {kept} are left, {told} were relied on"
        )
        hard, log = recovered(life.records, life.saved, self.first)
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
        elif isinstance(effect, Note) and effect.kind == "term":
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
            fits = vote == self.voted_for or (self.voted_for == NOBODY and self._may_vote(vote, term))
            require(fits, "RequestVote 2", f"in term {term} the vote for {self.voted_for} becomes one for {vote}")
        elif vote == self.me:
            self._stand(term)
        else:
            told = self._told_term()
            require(term == told, "all servers", f"term {term}, but it was told of {told}")
            require(vote == NOBODY or self._may_vote(vote, term), "RequestVote 2", f"a vote for {vote} in term {term}")
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

    def _may_vote(self, candidate: NodeId, term: int) -> bool:
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
        if not isinstance(message, PreVote):
            require(said == self.current_term, "persistent state", f"says term {said}, has written {self.current_term}")
        check = _WORDS.get(type(message))
        if check is not None:
            check(self, to, message)

    def _says_request_vote(self, to: NodeId, message: RequestVote) -> None:
        require(
            self.role == CANDIDATE and self.voted_for == self.me, "candidates", "asks for votes and is no candidate"
        )
        last = message.last_log_index, message.last_log_term
        require(last == (self.log.last_index, self.log.last_term), "candidates", f"says that its log ends with {last}")

    def _says_vote(self, to: NodeId, message: VoteReply) -> None:
        asked = self.event.message if isinstance(self.event, Received) else None
        fits = isinstance(asked, RequestVote) and isinstance(self.event, Received) and self.event.sender == to
        require(fits, "RequestVote", f"a vote for {to}, who did not ask")
        right = self._may_vote(to, self.current_term) and self.voted_for in (NOBODY, to)
        require(
            message.vote_granted == right, "RequestVote 1, 2", f"vote for {to}: {message.vote_granted}, not {right}"
        )
        written = not message.vote_granted or self.voted_for == to
        require(written, "persistent state", f"gives {to} a vote that is not written")

    def _says_pre_vote(self, to: NodeId, message: PreVote) -> None:
        require(self.role != LEADER, "9.6", "a leader asks for pre-votes")
        require(message.term == self.current_term + 1, "9.6", f"asks for term {message.term} in {self.current_term}")
        last = message.last_log_index, message.last_log_term
        require(last == (self.log.last_index, self.log.last_term), "9.6", f"says that its log ends with {last}")
        if self.role != PRE_CANDIDATE or (isinstance(self.event, Timeout) and self.event.name == "election"):
            self.role, self.pre_votes = PRE_CANDIDATE, {self.me}

    def _says_pre_vote_reply(self, to: NodeId, message: PreVoteReply) -> None:
        asked = self.event.message if isinstance(self.event, Received) else None
        if not message.vote_granted:
            return
        fits = isinstance(asked, PreVote) and asked.term == message.asked > self.current_term
        fits = fits and self.log.is_behind(asked.last_log_index, asked.last_log_term)  # type: ignore[union-attr]
        require(fits, "9.6", f"a pre-vote for {to} that has no right to it")

    def _says_entries(self, to: NodeId, message: AppendEntries) -> None:
        require(self.role == LEADER, "leaders", "sends entries and leads nobody")
        prev, log = message.prev_log_index, self.ahead
        require(
            log.term(prev) == message.prev_log_term, "leaders", f"entry {prev} is not of term {message.prev_log_term}"
        )
        same = tuple(message.entries) == log.after(prev, len(message.entries))
        require(same, "leaders", f"sends after {prev} what its log does not hold")
        told = message.leader_commit
        require(told <= self.commit_index, "leaders", f"says that {told} is committed, {self.commit_index} is")
        self.round = max(self.round, message.round)

    def _says_appended(self, to: NodeId, message: AppendReply) -> None:
        asked = self.event.message if isinstance(self.event, Received) else None
        require(isinstance(asked, AppendEntries), "AppendEntries", f"answers {to}, who sent nothing")
        if not isinstance(asked, AppendEntries):
            return
        right = asked.term == self.current_term and self.expected is not None
        require(message.success == right, "AppendEntries 1, 2", f"success = {message.success}, not {right}")
        if not message.success:
            self._says_conflict(asked, message)
            return
        most = asked.prev_log_index + len(asked.entries)
        require(message.match_index <= most, "AppendEntries 5", f"{message.match_index} verified, {most} were sent")
        require(self.log == self.expected, "AppendEntries 4", "acknowledges what is not written")
        bare = bool(self.unsaved and message.match_index)
        require(not bare, "7", f"acknowledges on the state of {self.unsaved}, which is not on disk")

    def _says_conflict(self, asked: AppendEntries, message: AppendReply) -> None:
        if asked.term < self.current_term:
            return
        term, index = message.conflict_term, message.conflict_index
        if term:
            fits = self.log.term(asked.prev_log_index) == term and self.log.first_of_term(term, index) == index
        else:
            fits = index == self.log.last_index + 1 <= asked.prev_log_index
        require(fits, "5.3", f"names {index} of term {term} as what is in the way")

    def _says_snapshot(self, to: NodeId, message: InstallSnapshot) -> None:
        require(self.role == LEADER, "13", "sends a snapshot and leads nobody")
        index = message.last_included_index
        fits = index <= self.last_applied and self.log.term(index) == message.last_included_term
        require(fits, "7", f"a snapshot of {index}, of term {message.last_included_term}")

    def _says_installed(self, to: NodeId, message: SnapshotReply) -> None:
        if message.done:
            index = message.last_included_index
            require(index <= self.commit_index and not self.unsaved, "13", f"says that the state of {index} is on disk")

    def _says_stand(self, to: NodeId, message: TimeoutNow) -> None:
        require(self.role == LEADER, "3.10", "moves a leadership that it has not")
        has = self.match_index.get(to, 0)
        require(has == self.log.last_index, "3.10", f"moves it to {to}, who has {has} of {self.log.last_index}")

    def _says_index(self, to: NodeId, message: ReadIndexReply) -> None:
        require(self.role == LEADER and (to, message.token) in self.asked, "8", "an index that nobody asked for")
        round_, committed = self.asked[to, message.token]
        index = message.read_index
        require(max(committed, self.began) <= index <= self.commit_index, "8", f"reads at {index}")
        confirmed = agreed(self.log.latest_configuration, {**self.answered, self.me: self.round})
        require(self.leases or confirmed > round_, "8", f"round {confirmed} is confirmed, {round_} was under way")

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


_WORDS: Final[dict[type[Any], Any]] = {
    RequestVote: Server._says_request_vote,
    VoteReply: Server._says_vote,
    PreVote: Server._says_pre_vote,
    PreVoteReply: Server._says_pre_vote_reply,
    AppendEntries: Server._says_entries,
    AppendReply: Server._says_appended,
    InstallSnapshot: Server._says_snapshot,
    SnapshotReply: Server._says_installed,
    TimeoutNow: Server._says_stand,
    ReadIndexReply: Server._says_index,
}


Fact = tuple[str, int, int]
"""What must be the same wherever it is true: a property of figure 3, an index and a term."""


class Cluster:
    """All servers, and what figure 3 says across them."""

    def __init__(self, n: int, *, leases: bool = False) -> None:
        first = Configuration.of(n)
        self.servers = {node: Server(node, first, leases) for node in range(n)}
        self.leaders: dict[int, NodeId] = {}
        self.steps = 0
        self._first = first
        self._leases = leases
        self._facts: dict[Fact, Any] = {}
        self._unsure: dict[NodeId, list[tuple[int, Fact, Any]]] = {}
        """What each server wrote and applied in this life, behind how many records. It never was if they are lost in a
        crash: nobody has heard of it. [10.2.1]"""
        self._said: dict[tuple[NodeId, NodeId, bytes], int] = {}
        self._told: dict[NodeId, int] = {}

    def take(self, one: Life | Step) -> None:
        """Raises Deviation for a step that may not be."""
        server = self.servers.setdefault(one.node, Server(one.node, self._first, self._leases))
        if isinstance(one, Life):
            server.begin(one, self._told.get(one.node, 0))
            self._decide(one.node, len(server.records))
            return
        self.steps += 1
        if isinstance(one.event, Received) and isinstance(one.event.sender, int):
            self._heard(one.event.sender, one.node, one.event.message)
        began = server.hear(one.event, one.effects)
        for effect in one.effects:
            was = server.role
            server.do(effect)
            began = began or was != LEADER == server.role
            self._watch(server, effect)
        server.end(one.effects, began=began)
        if began:
            holder = self.leaders.setdefault(server.current_term, one.node)
            require(holder == one.node, "election safety", f"{holder} and {one.node} lead term {server.current_term}")

    def end(self) -> None:
        """After the last step: everything that is still applied is decided."""
        for node, server in self.servers.items():
            self._decide(node, len(server.records))

    def _decide(self, node: NodeId, kept: int) -> None:
        for records, fact, value in self._unsure.pop(node, ()):
            if records <= kept:
                same = self._facts.setdefault(fact, value) == value
                require(same, fact[0], f"{node} has something else at {fact[1]}")

    def _heard(self, sender: NodeId, to: NodeId, message: Message) -> None:
        """What was listed before a word that was heard must outlive a crash."""
        listed = self._said.get((sender, to, MESSAGES.encode(message)), 0)
        self._told[sender] = max(self._told.get(sender, 0), listed)

    def _watch(self, server: Server, effect: Effect) -> None:
        if isinstance(effect, Send):
            raw = MESSAGES.encode(effect.message)
            for node in effect.to:
                self._said.setdefault((server.me, node, raw), len(server.records))
        elif isinstance(effect, Apply):
            requests = [request.raw for request in effect.requests]
            self._note(server, ("state machine safety", effect.index, 0), requests)
        elif isinstance(effect, Persist) and isinstance(effect.record, Entries):
            before = effect.record.prev_term
            for index, entry in enumerate(effect.record.entries, effect.record.first):
                self._note(server, ("log matching", index, entry.term), (before, entry))
                before = entry.term

    def _note(self, server: Server, fact: Fact, value: Any) -> None:
        self._unsure.setdefault(server.me, []).append((len(server.records), fact, value))
