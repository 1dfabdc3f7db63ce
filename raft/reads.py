"""Reads that are not ordered. [Raft 8; Ongaro14 6.4]

A linearizable read needs an index: the leader's commit_index at a moment after the read came at which it knew what is
committed (an entry of its own term was) and still led, as a round of heartbeats shows that began after the read came,
or a lease. Any server that has applied so much answers. Stale reads need nothing and are answered at once.

Here: which reads wait for what, and whose question waits for which round. Not here: rounds and leases
(`raft.replication`), nor what a read finds (the executor).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from raft.election import Election
from raft.log import Log
from raft.machine import Machine
from raft.messages import ReadIndex, ReadIndexReply
from raft.replication import Replication
from replog.core import Effect, Queried, Query, Reply, Rng, Send, SetTimer
from replog.types import NOBODY, Answer, Micros, NodeId, Request
from replog.types import Reply as ClientReply

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


READ_RETRY: Final = "read-retry"
READ_ON: Final = "read-on"


class Reads:
    """A server's own: what its clients ask.

    Invariants:
      a read is served from a state at or beyond an index that a leader gave to a question put after the read had come
                                                                                                        (HAZARDS R24)
      one question is under way; reads that come meanwhile are in the next
      what waits is within pending_requests_max and pending_bytes_max
    """

    def __init__(self, config: RaftConfig, rng: Rng, election: Election) -> None:
        self.config = config
        self._rng = rng
        self._election = election
        self._token = 0
        self._waiting: list[Request] = []
        self._asked: list[Request] = []
        self._ready: deque[tuple[int, list[Request]]] = deque()
        self._rests = False
        self._queries = 0
        self._queried: dict[int, list[Request]] = {}
        self._count = self._bytes = 0

    @property
    def busy(self) -> bool:
        return self._count > 0

    @property
    def waiting(self) -> int:
        return self._count

    def from_client(self, request: Request, stale: bool) -> list[Effect]:
        """Who asks for a stale read is answered at once by any server; every other read waits until the state here is
        certainly fresh enough, and its answer comes with a later step or at the end of this one."""
        if request.size > self.config.request_bytes_max:
            return [self._reply(request, Answer.REFUSED, b"larger than request_bytes_max")]
        if stale:
            return [self._query([request])]
        if self._election.leader == NOBODY:
            return [self._reply(request, Answer.REDIRECT)]
        return [] if self._add(request) else [self._reply(request, Answer.OVERLOADED)]

    def _reply(self, request: Request, answer: Answer, results: bytes = b"") -> Reply:
        who = self._election.current_term, self._election.leader
        return Reply(request.client, ClientReply(request.timestamp, answer, results, *who))

    def _add(self, request: Request) -> bool:
        """Whether there is room for one more."""
        config = self.config
        if self._count >= config.pending_requests_max or self._bytes + request.size > config.pending_bytes_max:
            return False
        self._waiting.append(request)
        self._count += 1
        self._bytes += request.size
        return True

    def _leave(self, requests: list[Request]) -> list[Request]:
        self._count -= len(requests)
        self._bytes -= sum(request.size for request in requests)
        return requests

    def advance(self, now: Micros, indexes: ReadIndexes | None, last_applied: int) -> list[Effect]:
        """Put the next question, hear what is decided (`indexes`: if this server leads), read what can be read."""
        effects: list[Effect] = []
        asked = True
        while asked:
            if indexes is not None:
                effects += indexes.advance(now)
                if (own := indexes.take_own()) is not None:
                    self.on_index(own.token, own.read_index)
            asked = self._ask()
            if asked:
                effects += self._put(indexes)
        return [*effects, *self._serve(last_applied)]

    # ---------------------------------------------------------------------------------------------------- the question

    def _ask(self) -> bool:
        """Whether there is another question to put: for all reads that wait, and for none that comes later. Numbers
        begin by chance, so that no answer to an earlier life of this server is taken for one to this."""
        if self._asked or not self._waiting or self._election.leader == NOBODY:
            return False
        self._token = (self._token or self._rng.randint(1, 2**61)) + 1
        self._asked, self._waiting = self._waiting, []
        return True

    def _put(self, indexes: ReadIndexes | None) -> list[Effect]:
        """To the leader, which may be this server itself; again until it answers."""
        election = self._election
        if indexes is not None:
            indexes.ask(election.me, self._token)
            return []
        question = ReadIndex(election.current_term, self._token)
        return [Send((election.leader,), question), SetTimer(READ_RETRY, self.config.heartbeat_us)]

    def on_retry(self) -> list[Effect]:
        asks = self._asked and self._election.leader not in (NOBODY, self._election.me)
        return self._put(None) if asks else []

    @property
    def question(self) -> int:
        """The one under way, 0 if none is."""
        return self._token if self._asked else 0

    def on_index(self, token: int, index: int) -> None:
        if self._asked and token == self._token:
            latest = self._ready[-1][0] if self._ready else 0
            self._ready.append((max(index, latest), self._asked))
            self._asked = []

    def on_leader_lost(self) -> list[Effect]:
        """Who was asked leads no more, or leads anew and has forgotten it: the next leader is asked, as another
        question. Without one clients are sent away."""
        self._waiting, self._asked = self._asked + self._waiting, []
        if self._election.leader != NOBODY:
            return []
        left, self._waiting = self._waiting, []
        return [self._reply(request, Answer.REDIRECT) for request in self._leave(left)]

    # ------------------------------------------------------------------------------------------------------- the state

    def _serve(self, last_applied: int) -> list[Effect]:
        """What the present state is fresh enough for, a few at a time: the timer comes after what has arrived
        meanwhile. Indices never fall from one question to the next."""
        requests: list[Request] = []
        while not self._rests and self._ready and self._ready[0][0] <= last_applied:
            index, batch = self._ready.popleft()
            room = self.config.batch_requests_max - len(requests)
            requests += batch[:room]
            if len(batch) > room:
                self._ready.appendleft((index, batch[room:]))
                self._rests = True
        if not requests:
            return []
        rest: list[Effect] = [SetTimer(READ_ON, 1)] if self._rests else []
        return [self._query(self._leave(requests)), *rest]

    def on_rested(self) -> list[Effect]:
        """What is left goes on at the end of this step."""
        self._rests = False
        return []

    def _query(self, requests: list[Request]) -> Query:
        self._queries += 1
        self._queried[self._queries] = requests
        return Query(self._queries, requests)

    def on_queried(self, event: Queried) -> list[Effect]:
        """What was read leaves behind all records listed before, as everything does that rests on a commit."""
        requests = self._queried.pop(event.token)
        pairs = zip(requests, event.results, strict=True)
        return [self._reply(request, Answer.READ, results) for request, results in pairs]

    def check_invariants(self) -> None:
        held = [*self._waiting, *self._asked, *(request for _, requests in self._ready for request in requests)]
        assert self._count == len(held) <= self.config.pending_requests_max, "reads that wait are counted and bounded"
        assert self._bytes == sum(request.size for request in held), "their bytes are counted"
        indices = [index for index, _ in self._ready]
        assert indices == sorted(indices), "indices never fall"


class Question(NamedTuple):
    token: int
    at_round: int
    read_index: int


class ReadIndexes:
    """A leader's: who waits for an index, for one term.

    Invariants:
      each server has at most one question waiting and one under way, its newest
      the round of a question began after the question came, and its index was committed by then    (HAZARDS R24)
    """

    def __init__(self, config: RaftConfig, log: Log, machine: Machine, replication: Replication) -> None:
        self.config = config
        self.log = log
        self.machine = machine
        self.replication = replication
        self._waiting: dict[NodeId, int] = {}
        self._under_way: dict[NodeId, Question] = {}
        self._own: Question | None = None

    def ask(self, node: NodeId, token: int) -> None:
        """Asked again, a question that is under way is not put anew."""
        under_way = self._under_way.get(node)
        if under_way is None or under_way.token != token:
            self._waiting[node] = token

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._under_way)

    def knows_commit(self) -> bool:
        """Whether this leader knows all that is committed: since an entry of its own term is. [Raft 8]"""
        return self.log.term(self.machine.commit_index) == self.replication.current_term

    def has_lease(self, now: Micros) -> bool:
        return self.config.lease_reads and self.replication.has_lease(now)

    def confirmed_round(self) -> int:
        return self.replication.confirmed_round()

    def advance(self, now: Micros) -> list[Effect]:
        """Answer what is decided, and let those that wait be decided: by the lease, or by a round that begins now. What
        comes while one is under way shares the next. [Ongaro14 6.4, 6.4.1]"""
        answers = self._answers(self.confirmed_round())
        if not self._waiting or not self.knows_commit():
            return answers
        if self.has_lease(now):
            self._take_up(-1)
            return [*answers, *self._answers(-1)]
        if self._under_way:
            return answers
        return [*answers, *self.begin_round(now), *self._answers(self.confirmed_round())]

    def begin_round(self, now: Micros) -> list[Effect]:
        """Heartbeats, which are a round for all questions that wait."""
        heartbeats = self.replication.heartbeat(now, self.machine.commit_index)
        if self.knows_commit():
            self._take_up(self.replication.round)
        return heartbeats

    def _take_up(self, round_: int) -> None:
        for node, token in self._waiting.items():
            self._under_way[node] = Question(token, round_, self.machine.commit_index)
        self._waiting.clear()

    def _answers(self, round_: int) -> list[Effect]:
        """To all whose round is at most `round_`, in order."""
        effects: list[Effect] = []
        for node, question in sorted(self._under_way.items()):
            if question.at_round > round_:
                continue
            del self._under_way[node]
            if node == self.replication.me:
                self._own = question
            else:
                reply = ReadIndexReply(self.replication.current_term, question.token, question.read_index)
                effects.append(Send((node,), reply))
        return effects

    def take_own(self) -> Question | None:
        """The answer to this server's own question."""
        own, self._own = self._own, None
        return own
