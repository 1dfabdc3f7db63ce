"""The client of a replicated log, without I/O: what to send to whom, what an answer proves, when to try again.

Here: timestamps, the session window, retransmission, who leads, who answers in full. Not here: counting of replies
(`replog.replies`), links, tasks and clocks (`replog.live`, `replog.sim`), what operations mean. The protocols differ in
their `ClientRules` alone.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from replog.authenticators import Authenticator, Mac, mac
from replog.chain import ASK_US, Chain
from replog.codec import Domain, digest_of
from replog.core import ClientRules
from replog.errors import Overloaded, RequestTooLarge
from replog.keys import Signer
from replog.membership import Configuration, ConfigurationAnswer, Link
from replog.replies import RESULTS, Counts, Proof, Replies
from replog.types import (
    NOBODY,
    READ_ONLY,
    Answer,
    ClientId,
    KeyRequest,
    Message,
    Micros,
    NodeId,
    Read,
    Reply,
    Request,
    SessionKey,
    Submit,
    decode_results,
)

WINDOW: Final = 64
"""W: requests sent and not yet answered lie within this many timestamps above `low` (RULES-PBFT, client sessions)."""
BACK_OFF_MAX: Final = 8
"""The wait before a retransmission doubles up to this many times the first."""
ELECTION_SHARE: Final = 8
"""An unknown leader is asked for again after this part of the wait."""
LAGGARD_SHARE: Final = 8
"""A replier is waited for this part of the wait once enough others have sent a digest."""
LATE: Final = 2
"""Times as long as half of its requests take, a client waits until it tells those that its sample left out, ..."""
LATE_SHARE: Final = 32
"""... and at least this part of the wait before a retransmission."""
LEARNT: Final = 16
"""One part in so many, the time that half of the requests take is corrected by with each of them."""
HEAD_BYTES: Final = 256
"""What a client's name, its signature and the encoding add to the operations of a request, at most ..."""
_OPERATION_HEAD_BYTES: Final = 5
"""... and to each of them."""


class ToReplica(msgspec.Struct, frozen=True, gc=False):
    """Send `message` to each of `to`."""

    to: tuple[NodeId, ...]
    message: Message


class Done(msgspec.Struct, frozen=True, gc=False):
    """`vouchers`: the replicas that gave exactly these results, or their digest, in order. `index`: the place in the
    log, 0 for a read that has none. `outcomes`: one for each operation."""

    timestamp: int
    index: int
    outcomes: list[bytes]
    vouchers: tuple[NodeId, ...]


Reason = Literal["refused", "overloaded", "unsent", "unknown"]


class Failed(msgspec.Struct, frozen=True, gc=False):
    """No result. A reply quorum says `refused` or `overloaded`; `unknown`: no answer in time; `unsent`: it never left.

    Replicas may yet execute what others of them have refused. Only once a later request of this client has executed is
    it certain that this one never will: its timestamp is then below the session's window.
    """

    timestamp: int
    reason: Reason
    text: str


class Wake(msgspec.Struct, frozen=True, gc=False):
    """Call `on_timeout` at or after `at`; replaces an earlier Wake."""

    at: Micros


class Followed(msgspec.Struct, frozen=True, gc=False):
    """The members are these now, be linked with them. `links`: how this is known from what was known before."""

    configuration: Configuration
    links: tuple[Link, ...]


ClientEffect = ToReplica | Done | Failed | Wake | Followed


@dataclass(frozen=True)
class ClientLimits:
    """`queue_requests`, `queue_bytes`: what may wait for the window; beyond it `submit` raises Overloaded.

    `give_up_us`: after this long without an answer a request fails; None: never.
    """

    queue_requests: int = 4096
    queue_bytes: int = 64 * 1024 * 1024
    give_up_us: Micros | None = None


def size_of(operations: Sequence[bytes]) -> int:
    """What these operations add to a request, at most."""
    return sum(map(len, operations)) + _OPERATION_HEAD_BYTES * len(operations)


def check_size(operations: Sequence[bytes], rules: ClientRules) -> None:
    """Raises RequestTooLarge for a request that replicas would refuse."""
    size, most = HEAD_BYTES + size_of(operations), rules.request_bytes_max
    if size > most:
        raise RequestTooLarge(f"a request of {size} bytes: the cluster takes at most request_bytes_max = {most}")
    if len(operations) > rules.request_operations_max:
        rule = f"the cluster takes at most {rules.request_operations_max}"
        raise RequestTooLarge(f"a request of {len(operations)} operations: {rule}")


class _Pending:
    """A request between submission and its end. `message`: what is sent; a Read becomes the Submit of the same bytes.
    `asked`: the one it went to last, where it goes to one at a time. `began`: when it was first sent. `others`: those
    that were left out then, and `tell_at`: when they are told."""

    __slots__ = (
        "timestamp",
        "operations",
        "flags",
        "size",
        "deadline",
        "message",
        "replies",
        "replier",
        "tries",
        "due",
        "follows",
        "asked",
        "began",
        "others",
        "tell_at",
        "stale",
    )

    def __init__(
        self, timestamp: int, operations: list[bytes], flags: int, deadline: Micros | None, counts: Counts
    ) -> None:
        self.timestamp = timestamp
        self.operations = operations
        self.flags = flags
        self.size = sum(map(len, operations))
        self.deadline = deadline
        self.message: Submit | Read | None = None
        self.replies = Replies(counts)
        self.replier: NodeId = NOBODY
        self.tries = 0
        self.due: Micros = 0
        self.follows = 0
        self.asked: NodeId = NOBODY
        self.began: Micros = 0
        self.others: tuple[NodeId, ...] = ()
        self.tell_at: Micros = 0
        self.stale = False


class Sample:
    """Which replicas see which request at once: independent of each other, and known to this client alone. A replica
    knows whether it was sent a request itself, and nothing of the others, so that none can tell the leader."""

    def __init__(self, signer: Signer, domain: Domain, share: float) -> None:
        """The secret comes of a signature that nobody else ever sees."""
        self._secret = hashlib.blake2b(signer.sign(domain.statement("sample", ()))).digest()
        self._below = round(256 * share)

    def left_out(self, timestamp: int, members: Sequence[NodeId], leader: NodeId) -> tuple[NodeId, ...]:
        """Of the members but the leader, those that this request does not go to at once."""
        chance = hashlib.blake2b(timestamp.to_bytes(8, "big"), key=self._secret).digest()
        return tuple(
            node for place, node in enumerate(members) if node != leader and chance[place % len(chance)] >= self._below
        )


class ClientCore:
    """Invariants:
    a request's body never changes once sent, nor do its bytes but for MACs; its timestamp belongs to no other request
    low is the largest timestamp up to which all requests have ended
    what is late has gone to all, once and before it is sent again: to whom it did not go at first
    requests that were sent and have not ended are at most WINDOW, all in (low, low + WINDOW]
    a change of leader rests on reply_quorum distinct replicas, a result or refusal on those that `replies` asks for
                                                                                                (HAZARDS P39, P43)
    a read is answered at once or ordered in the end: it never waits for replicas to be of one mind    (HAZARDS P40)
    only members of the newest configuration that is known count; what they said under an older one does not
    """

    def __init__(
        self,
        client: ClientId,
        n: int,
        rules: ClientRules,
        signer: Signer,
        domain: Domain,
        limits: ClientLimits | None = None,
        start: int = 1,
        mac: Mac = mac,
        chain: Chain | None = None,
    ) -> None:
        """`start`: the first timestamp; beyond any that this client has used in an earlier life, for example the time
        of day in microseconds. `mac`: how MACs are computed, where the rules ask for them. `chain`: what is known of
        the members, and how more is; without it they are 0 .. n-1 and never change."""
        if start < 1:
            raise ValueError(f"start = {start}: timestamps are positive")
        self.client = client
        self._term = (0, 0)
        """Epoch and view in which the leader orders."""
        self.low = start - 1
        self._chain = chain
        self._members: tuple[NodeId, ...] = tuple(range(n)) if chain is None else chain.known.ids
        self.leader: NodeId = self._members[0]
        """Who is believed to order."""
        self._rules = rules
        self._counts = Counts.of(rules, n)
        self._authenticator = Authenticator(self._members, mac) if rules.macs else None
        self._signer = self._authenticator or signer
        self._keys_asked: Micros | None = None
        self._keys_due: Micros = 0
        """When to go on with the keys that are here."""
        self._domain = domain
        self._sample = Sample(signer, domain, rules.sample) if rules.sample else None
        self._usual: Micros = rules.retry_us // (2 * LATE)
        """Half of the requests take no longer, about."""
        self._limits = limits or ClientLimits()
        self._next = start
        self._queue: deque[_Pending] = deque()
        self._queued_bytes = 0
        self._sent: dict[int, _Pending] = {}
        self._ended: set[int] = set()
        self._claims: dict[NodeId, tuple[tuple[int, int], NodeId]] = {}
        self._place = -1
        """Among the members, of the last replier."""
        self._lapses = dict.fromkeys(self._members, 0)
        """How often each replica was named the replier and others had to be asked for the results."""
        self._wake: Micros | None = None
        self._reads = digest_of(client.encode())[0]
        """Counts those that go to one replica, each to the next member."""

    # ------------------------------------------------------------------------------------------------------- submitting

    def submit(
        self,
        now: Micros,
        operations: Sequence[bytes],
        read_only: bool = False,
        flags: int = 0,
        stale: bool = False,
    ) -> tuple[int, list[ClientEffect]]:
        """One request of these operations. Ends in one Done or Failed of this timestamp. `flags`: MEMBERSHIP, for a
        change of the members. `stale`: of what only reads, an old state will do, if the protocol reads any faster then.

        Raises, and has done nothing, Overloaded when too much waits already, RequestTooLarge for more than replicas
        take, ValueError for no operations.
        """
        if not operations:
            raise ValueError("a request has at least one operation")
        check_size(operations, self._rules)
        deadline = None if self._limits.give_up_us is None else now + self._limits.give_up_us
        flags |= READ_ONLY if read_only else 0
        pending = _Pending(self._next, list(operations), flags, deadline, self._counts)
        pending.stale = stale
        if self._queue and (
            len(self._queue) >= self._limits.queue_requests
            or self._queued_bytes + pending.size > self._limits.queue_bytes
        ):
            raise Overloaded(f"{len(self._queue)} requests of {self._queued_bytes} bytes wait to be sent")
        self._next += 1
        self._queue.append(pending)
        self._queued_bytes += pending.size
        return pending.timestamp, [*self._ask_members(now, ASK_US), *self._fill(now)]

    @property
    def outstanding(self) -> int:
        """Requests that have not ended, sent or not."""
        return len(self._sent) + len(self._queue)

    def standing(self, timestamp: int) -> str:
        """Who has answered a request that has not ended, for a person. More results that differ than replicas may lie
        come of an application that is not deterministic."""
        pending, need = self._sent.get(timestamp), self._rules.reply_quorum
        answered, alike = pending.replies.alike if pending is not None else (0, 0)
        if not answered:
            return "no answer in time"
        said = f"{answered} of {len(self._members)} replicas answered in time"
        if alike >= need:
            return f"{said}, not all that are needed"
        said += f", no {need} of them alike"
        return f"{said}; is the application deterministic?" if answered - alike >= need else said

    def _fill(self, now: Micros) -> list[ClientEffect]:
        """Send what the window allows."""
        effects = self._ask_keys(now)
        while self._has_keys(now) and self._queue and self._queue[0].timestamp <= self.low + WINDOW:
            pending = self._queue.popleft()
            self._queued_bytes -= pending.size
            effects.append(self._first(now, pending))
        times = [now + self._late] if effects or not self._has_keys(now) else []
        for at in times + self._first_deadline():
            effects += self._wake_at(at)
        return effects

    # ------------------------------------------------------------------------------------------------------------ keys

    def _ask_keys(self, now: Micros) -> list[ClientEffect]:
        """Under MACs: those that lack are asked for, at most once a wait. [CL99 5.2]"""
        missing = self._authenticator.missing() if self._authenticator is not None and self._queue else ()
        if not missing or (self._keys_asked is not None and now < self._keys_asked + self._rules.retry_us):
            return []
        if self._keys_asked is None:
            self._keys_due = now + self._rules.retry_us
        self._keys_asked = now
        return [ToReplica(missing, KeyRequest())]

    def _has_keys(self, now: Micros) -> bool:
        """All of them, or after a wait those of as many replicas as are sure to answer (n - f)."""
        if self._authenticator is None or not self._authenticator.missing():
            return True
        return now >= self._keys_due and self._authenticator.known > len(self._members) - self._rules.reply_quorum

    def _take_key(self, now: Micros, sender: NodeId, key: bytes) -> list[ClientEffect]:
        """A replica's new key: what was sent under an old one goes to it again, under this one."""
        if self._authenticator is None or not self._authenticator.learn(sender, key):
            return []
        effects: list[ClientEffect] = []
        for pending in self._sent.values():
            if pending.message is not None:
                request = Request(pending.message.request).signed_anew(self._authenticator.sign, self._domain)
                pending.message = msgspec.structs.replace(pending.message, request=request.raw)
                pending.others = tuple(node for node in pending.others if node != sender)
                effects += self._send((sender,), pending)
        return effects + self._fill(now)

    def _first(self, now: Micros, pending: _Pending) -> ToReplica:
        pending.replier = self._next_replier()
        request = self._sign(pending)
        reads = bool(pending.flags & READ_ONLY and self._rules.read_quorum)
        pending.message = message = Read(request.raw, pending.stale) if reads else Submit(request.raw)
        pending.operations = []
        pending.asked = self._next_reader(pending.stale) if reads else self.leader
        pending.due = now + self._rules.retry_us
        self._sent[pending.timestamp] = pending
        if reads and not self._reads_at_all:
            return ToReplica((pending.asked,), message)
        return ToReplica(self._members if reads else self._some(now, pending), message)

    @property
    def _reads_at_all(self) -> bool:
        return self._rules.read_from == "all"

    def _next_reader(self, stale: bool) -> NodeId:
        """Whom a read goes to where one is enough; any will do for a stale one."""
        if self._rules.read_from != "any" and not stale:
            return self.leader
        self._reads += 1
        return self._members[self._reads % len(self._members)]

    def _some(self, now: Micros, pending: _Pending) -> tuple[NodeId, ...]:
        """Whom a request to be ordered goes to at first: the leader, and a sample of the others."""
        if self._sample is None:
            return (self.leader,)
        pending.began, pending.tell_at = now, now + self._late
        pending.others = self._sample.left_out(pending.timestamp, self._members, self.leader)
        return tuple(node for node in self._members if node not in pending.others)

    @property
    def _late(self) -> Micros:
        """How long a request may take until all others are told of it; without a sample, until it is sent again."""
        retry_us = self._rules.retry_us
        return min(retry_us, max(retry_us // LATE_SHARE, LATE * self._usual)) if self._sample is not None else retry_us

    def _tell_others(self, now: Micros) -> list[ClientEffect]:
        """Of what is late: no repetition, for each of them it is the first time."""
        effects: list[ClientEffect] = []
        for pending in self._sent.values():
            if pending.others and pending.tell_at <= now < pending.due:
                effects += self._send(pending.others, pending)
                pending.others = ()
        return effects

    def _learn(self, took: Micros) -> None:
        step = max(1, self._usual // LEARNT)
        self._usual = min(self._rules.retry_us, max(1, self._usual + (step if took > self._usual else -step)))

    def _sign(self, pending: _Pending) -> Request:
        return Request.make(
            self._signer.sign,
            self._domain,
            self.client,
            pending.timestamp,
            self.low,
            pending.operations,
            pending.flags,
            pending.replier,
        )

    def _next_replier(self) -> NodeId:
        """In turn over those that failed in it least, so that a silent or lying one costs one request a short wait, and
        not every n-th. The first is the one believed to lead: without it there is no result either. [CL99 5.1]"""
        if not self._rules.digest_replies:
            return NOBODY
        n = len(self._members)
        places = ((self._place + step) % n for step in range(1, n + 1))
        self._place = min(places, key=lambda place: self._lapses[self._members[place]])
        return self._members[self._place]

    def _wake_at(self, at: Micros) -> list[ClientEffect]:
        if self._wake is not None and self._wake <= at:
            return []
        self._wake = at
        return [Wake(at)]

    # --------------------------------------------------------------------------------------------------------- members

    @property
    def view(self) -> int:
        return self._term[1]

    @property
    def epoch(self) -> int:
        """Of the configuration whose members count."""
        return 0 if self._chain is None else self._chain.known.epoch

    @property
    def _views_begin_anew(self) -> bool:
        """Whether each epoch is proved and has views of its own. The terms of Raft go on over epochs."""
        return self._rules.certified is not None

    @property
    def up_to_date(self) -> bool:
        """Whether enough of those that were asked for the members have answered."""
        return self._chain is None or self._chain.certain

    def ask_members(self, now: Micros, nodes: Sequence[NodeId]) -> list[ClientEffect]:
        """Ask these whether the members have changed: whoever has just been linked knows."""
        return [] if self._chain is None else [ToReplica(tuple(nodes), self._chain.ask(now, nodes))]

    def _ask_members(self, now: Micros, every: Micros) -> list[ClientEffect]:
        due = self._chain is not None and self._chain.due(now, every)
        return self.ask_members(now, self._members) if due else []

    def _take_configuration(self, now: Micros, sender: NodeId, answer: ConfigurationAnswer) -> list[ClientEffect]:
        links = self._chain.hear(sender, answer) if self._chain is not None else None
        if self._chain is None or links is None:
            return []
        self._become(self._chain.known)
        effects: list[ClientEffect] = [Followed(self._chain.known, tuple(links))]
        effects += self.ask_members(now, self._members)  # there may be more than one answer holds
        if self._authenticator is not None and self._authenticator.missing():
            effects.append(ToReplica(self._authenticator.missing(), KeyRequest()))
        for pending in self._sent.values():
            pending.replies = Replies(self._counts)
            pending.asked, pending.others = self.leader, ()
            pending.due = now + self._rules.retry_us
            effects += self._send(self._members, pending)
        return effects + self._fill(now)

    def _become(self, configuration: Configuration) -> None:
        """Nothing counts any more that former members have said. An epoch begins in view 0."""
        assert self._chain is not None
        self._rules = self._chain.rules
        self._members = configuration.ids
        self._counts = Counts.of(self._rules, len(self._members))
        self._lapses = {node: self._lapses.get(node, 0) for node in self._members}
        self._claims = {node: claim for node, claim in self._claims.items() if node in self._lapses}
        self._place = -1
        if self._authenticator is not None:
            self._authenticator.become(self._members)
            self._keys_asked = None
        if self._views_begin_anew and self._term < (configuration.epoch, 0):
            self._term, self.leader = (configuration.epoch, 0), self._members[0]
        elif self.leader not in self._lapses:
            self.leader = self._members[self.view % len(self._members)]

    # ------------------------------------------------------------------------------------------------------------ time

    def on_timeout(self, now: Micros) -> list[ClientEffect]:
        """Send again what has waited long enough: the same bytes, to all or to the next replica. [CL99 4.1]"""
        self._wake = None
        effects = [*self._give_up(now), *self._tell_others(now)]
        due = [pending for pending in self._sent.values() if pending.due <= now]
        if not self._rules.retry_all and any(pending.asked == self.leader for pending in due):
            # Silence says something about the one that was asked, not about one that was found meanwhile.
            self.leader = self._after_leader()
        to = self._members if self._rules.retry_all else (self.leader,)
        self._note_lapses(due)
        if due:
            effects += self._ask_members(now, self._rules.retry_us)
        for pending in due:
            goes_round = self._goes_round(pending)
            if not goes_round:
                _order(pending)
            pending.tries += not pending.follows  # it backs off from silence, not from an election
            pending.follows = 0
            pending.asked = self._next_reader(stale=True) if goes_round else self.leader
            pending.others = ()
            pending.due = now + self._rules.retry_us * min(2**pending.tries, BACK_OFF_MAX)
            effects += self._send((pending.asked,) if goes_round else to, pending)
        effects += self._fill(now)
        times = [pending.due for pending in self._sent.values()] + self._first_deadline()
        times += [pending.tell_at for pending in self._sent.values() if pending.others]
        return effects + (self._wake_at(max(now + 1, min(times))) if times else [])

    def on_unreachable(self, now: Micros, node: NodeId) -> list[ClientEffect]:
        """There is no link to `node`: what went to it alone is sent elsewhere at once. Each request moves at most n
        times a wait, so that a client without any link does not spin."""
        if node not in self._lapses:
            return []
        self._lapses[node] = self._lapses[node] or 1
        if node != self.leader:
            return self._read_elsewhere(node)
        moved = [p for p in self._sent.values() if p.follows < len(self._members) and not self._went_to_all(p)]
        if not moved:
            return []
        effects: list[ClientEffect] = []
        if not self._rules.retry_all:
            self.leader = self._after_leader()
        to = self._members if self._rules.retry_all else (self.leader,)
        for pending in moved:
            pending.follows = len(self._members) if self._rules.retry_all else pending.follows + 1
            pending.others = ()
            pending.asked = self.leader
            effects += self._send(to, pending)
        return effects

    def _after_leader(self) -> NodeId:
        return self._members[(self._members.index(self.leader) + 1) % len(self._members)]

    def _goes_round(self, pending: _Pending) -> bool:
        """A stale read goes from one replica to the next until one answers: it needs no leader, and no order."""
        return pending.stale and type(pending.message) is Read and not self._reads_at_all

    def _went_to_all(self, pending: _Pending) -> bool:
        told = self._sample is not None and not pending.others
        read_by_all = type(pending.message) is Read and self._reads_at_all
        return read_by_all or told or bool(self._rules.retry_all and pending.tries)

    def _read_elsewhere(self, node: NodeId) -> list[ClientEffect]:
        """Reads that went to `node` alone go to the leader, stale ones to the next."""
        if self._reads_at_all:
            return []
        lost = [p for p in self._sent.values() if type(p.message) is Read and p.asked == node]
        for pending in lost:
            pending.asked = self._next_reader(stale=True) if self._goes_round(pending) else self.leader
        return [effect for pending in lost for effect in self._send((pending.asked,), pending)]

    def _note_lapses(self, due: Sequence[_Pending]) -> None:
        """Whom the results were waited for in vain: once, however many requests had named it."""
        for node in {pending.replier for pending in due if pending.replies.lacks_results} & self._lapses.keys():
            self._lapses[node] += 1

    @staticmethod
    def _send(to: tuple[NodeId, ...], pending: _Pending) -> list[ClientEffect]:
        return [ToReplica(to, pending.message)] if pending.message is not None else []

    def _first_deadline(self) -> list[Micros]:
        """Deadlines come in the order of submission."""
        first = next(iter(self._sent.values()), self._queue[0] if self._queue else None)
        return [first.deadline] if first is not None and first.deadline is not None else []

    def _give_up(self, now: Micros) -> list[ClientEffect]:
        late = [p for p in self._sent.values() if p.deadline is not None and p.deadline <= now]
        effects: list[ClientEffect] = []
        for pending in late:
            standing = self.standing(pending.timestamp)
            self._end(pending.timestamp)
            effects.append(Failed(pending.timestamp, "unknown", f"{standing} ({self._limits.give_up_us} us)"))
        while self._queue and (deadline := self._queue[0].deadline) is not None and deadline <= now:
            pending = self._queue.popleft()
            self._queued_bytes -= pending.size
            self._end(pending.timestamp)
            effects.append(Failed(pending.timestamp, "unsent", f"not sent within {self._limits.give_up_us} us"))
        return effects

    def _end(self, timestamp: int) -> None:
        self._sent.pop(timestamp, None)
        self._ended.add(timestamp)
        while self.low + 1 in self._ended:
            self.low += 1
            self._ended.discard(self.low)

    # --------------------------------------------------------------------------------------------------------- answers

    def on_message(self, now: Micros, sender: NodeId, message: Message) -> list[ClientEffect]:
        """One message from a replica, as the link names it. What is no answer to anything is passed over."""
        if type(message) is ConfigurationAnswer:
            return self._take_configuration(now, sender, message)
        if sender not in self._lapses:
            return []
        if type(message) is SessionKey:
            return self._take_key(now, sender, message.key)
        if type(message) is not Reply:
            return []
        epoch = message.epoch if self._views_begin_anew else 0
        self._hear(sender, (epoch, message.view), message.leader)
        pending = self._sent.get(message.timestamp)
        if message.epoch > self.epoch and self._chain is not None and not self._chain.asks(sender):
            return self.ask_members(now, (sender,)) + self._answered(now, sender, message, pending)
        return self._answered(now, sender, message, pending)

    def _answered(self, now: Micros, sender: NodeId, message: Reply, pending: _Pending | None) -> list[ClientEffect]:
        undecided = message.answer in (Answer.READ, Answer.TENTATIVE)
        if pending is None or (undecided and message.epoch != self.epoch and self._views_begin_anew):
            return []  # a quorum of one configuration need not meet one of another
        if message.answer == Answer.REDIRECT:
            return self._redirected(now, sender, message.leader, pending)
        proof = pending.replies.hear(sender, message)
        if proof is None:
            return self._without_result(now, pending)
        end = _end_of(message.timestamp, proof)
        if end is None:
            pending.replies.forget(sender)
            return []
        self._end(message.timestamp)
        if pending.began:
            self._learn(now - pending.began)
        return [end, *self._fill(now)]

    def _without_result(self, now: Micros, pending: _Pending) -> list[ClientEffect]:
        """A read on which there can be no agreement any more is ordered at once; a replier that is later than the
        digests of others is not waited for much longer. [CL99 5.1]"""
        if type(pending.message) is Read and not pending.replies.may_read:
            self._note_lapses([pending])
            _order(pending)
            pending.asked = self.leader
            pending.due = now + self._rules.retry_us
            return self._send(self._some(now, pending), pending) + self._wake_at(now + self._late)
        if pending.replier == NOBODY or pending.tries or not pending.replies.lacks_results:
            return []
        pending.due = min(pending.due, now + self._rules.retry_us // LAGGARD_SHARE)
        return self._wake_at(pending.due)

    def _redirected(self, now: Micros, sender: NodeId, leader: NodeId, pending: _Pending) -> list[ClientEffect]:
        """Follow one replica's word about the leader only where one reply is a result too, and at most n times a
        wait: two that name each other must not make this client a storm. A server that knows no leader is in an
        election, which ends sooner than the wait does. [Raft 8]"""
        if self._rules.reply_quorum > 1 or leader == sender or pending.follows >= len(self._members):
            return []
        pending.follows += 1
        if leader not in self._lapses:
            pending.due = min(pending.due, now + self._rules.retry_us // ELECTION_SHARE)
            return self._wake_at(pending.due)
        self.leader = pending.asked = leader
        return self._send((leader,), pending)

    def _hear(self, sender: NodeId, term: tuple[int, int], leader: NodeId) -> None:
        """A claim about who leads: believed when a reply quorum makes it, so one of them is correct. [CL99 4.1]
        `term`: epoch and view; each epoch has views of its own."""
        if sender in self._claims and term < self._claims[sender][0]:
            return
        self._claims[sender] = claim = (term, leader)
        if term <= self._term and not (term == self._term and self._rules.reply_quorum == 1):
            return
        supporters = sum(said == claim for said in self._claims.values())
        if supporters >= self._rules.reply_quorum and leader in self._lapses:
            self._term, self.leader = term, leader

    def check_invariants(self) -> None:
        timestamps = list(self._sent)
        assert all(self.low < t <= self.low + WINDOW for t in timestamps), "what was sent is in the window"
        assert not self._ended & set(timestamps), "what has ended waits no more"
        assert self._queued_bytes == sum(pending.size for pending in self._queue), "bytes in the queue"
        assert all(type(p.message) is Submit or p.flags & READ_ONLY for p in self._sent.values()), "only reads are Read"
        for pending in self._sent.values():
            pending.replies.check_invariants()


def _order(pending: _Pending) -> None:
    """What cannot be read at once goes into the log: the very same bytes, so that whichever comes first answers it, and
    the other changes nothing. [CL99 5.1] (HAZARDS P40)"""
    if type(pending.message) is Read:
        pending.message = Submit(pending.message.request)


def _end_of(timestamp: int, proof: Proof) -> Done | Failed | None:
    """What is proved; None if it is no result at all (where one reply is enough, one liar is too)."""
    if proof.word.answer in RESULTS:
        try:
            results = decode_results(proof.results)
        except msgspec.MsgspecError:
            return None
        return Done(timestamp, results.index, results.outcomes, proof.vouchers)
    reason: Reason = "overloaded" if proof.word.answer == Answer.OVERLOADED else "refused"
    return Failed(timestamp, reason, proof.results[:500].decode("utf-8", "replace"))
