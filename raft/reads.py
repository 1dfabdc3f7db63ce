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

from raft.log import Log
from raft.machine import Machine
from raft.messages import ReadIndex, ReadIndexReply
from raft.replication import Replication
from replog.core import Effect, Queried, Query, Rng, Send, SetTimer
from replog.types import Micros, NodeId, Request

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


READ_RETRY: Final = "read-retry"


class Reads:
    """A server's own: what its clients ask.

    Invariants:
      a read is served from a state at or beyond an index that a leader gave to a question put after the read had come
                                                                                                        (HAZARDS R24)
      one question is under way; reads that come meanwhile are in the next
      what waits is within pending_requests_max and pending_bytes_max
    """

    def __init__(self, config: RaftConfig, rng: Rng) -> None:
        self.config = config
        self._rng = rng
        self._token: int | None = None
        self._waiting: list[Request] = []
        self._asked: list[Request] = []
        self._ready: deque[tuple[int, list[Request]]] = deque()
        self._queries = 0
        self._queried: dict[int, list[Request]] = {}
        self._count = self._bytes = 0

    @property
    def busy(self) -> bool:
        return self._count > 0

    @property
    def waiting(self) -> int:
        return self._count

    def add(self, request: Request) -> bool:
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

    # ---------------------------------------------------------------------------------------------------- the question

    def ask(self) -> int | None:
        """The number of the next question, if there is one to put: for all reads that wait, and for none that comes
        later. It begins by chance, so that no answer to an earlier life of this server is taken for one to this."""
        if self._asked or not self._waiting:
            return None
        self._token = (self._token if self._token is not None else self._rng.randint(0, 2**61)) + 1
        self._asked, self._waiting = self._waiting, []
        return self._token

    @property
    def question(self) -> int | None:
        """The one under way."""
        return self._token if self._asked else None

    def ask_anew(self) -> None:
        """The leader that was asked leads no more: what it was asked is put to the next one, as another question."""
        self._waiting, self._asked = self._asked + self._waiting, []

    def give_up(self) -> list[Request]:
        """There is no leader to ask: what cannot be served."""
        self.ask_anew()
        given_up, self._waiting = self._waiting, []
        return self._leave(given_up)

    def on_index(self, token: int, index: int) -> None:
        if token == self.question:
            latest = self._ready[-1][0] if self._ready else 0
            self._ready.append((max(index, latest), self._asked))
            self._asked = []

    # ------------------------------------------------------------------------------------------------------- the state

    def serve(self, last_applied: int) -> list[Effect]:
        """What the present state is fresh enough for. Indices never fall from one question to the next."""
        requests: list[Request] = []
        while self._ready and self._ready[0][0] <= last_applied:
            requests += self._ready.popleft()[1]
        return [self.query(self._leave(requests))] if requests else []

    def query(self, requests: list[Request]) -> Query:
        """Now, whatever the state is."""
        self._queries += 1
        self._queried[self._queries] = requests
        return Query(self._queries, requests)

    def on_queried(self, event: Queried) -> list[tuple[Request, bytes]]:
        return list(zip(self._queried.pop(event.token), event.results, strict=True))

    def check_invariants(self) -> None:
        held = [*self._waiting, *self._asked, *(request for _, requests in self._ready for request in requests)]
        assert self._count == len(held) <= self.config.pending_requests_max, "reads that wait are counted and bounded"
        assert self._bytes == sum(request.size for request in held), "their bytes are counted"
        indices = [index for index, _ in self._ready]
        assert indices == sorted(indices), "indices never fall"


def to_leader(config: RaftConfig, current_term: int, leader: NodeId, token: int) -> list[Effect]:
    """Ask the leader for an index, again until it answers."""
    return [Send((leader,), ReadIndex(current_term, token)), SetTimer(READ_RETRY, config.heartbeat_us)]


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
