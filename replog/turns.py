"""Whose turn it is: what waits of each sender is served in rounds, and nobody's flood keeps another waiting. (P36)

In each round every replica has a share of its own; all clients together have one, which goes round among them and goes
on where it stopped. [Clement09 4.2: a queue a sender, served in turn] Shares are of work, not of messages: a client
whose message held more than its share is passed by until the others have had as much. A replica of which far more waits
than of the others, or whose messages took far more time and brought nothing about, for longer than a burst lasts, is
throttled for some seconds, and for longer if it goes on: it is served when nothing else waits, and a little every now
and then. Whoever wrongly looked like that loses little but time.

Here: the policy, the same in both worlds, and who is not heard at all for a while. Not here: the queues themselves,
what they may hold and what happens when they are full (`replog.live.inbox`, `replog.sim.inbox`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from replog.core import CancelTimer, Effect, Note, SetTimer, Throttled
from replog.types import ClientId, Micros, NodeId, Principal

UNIT_BYTES: Final = 32 * 1024
"""Reading so much takes about as long as verifying a small message or two: it counts as one message."""
FLOOD: Final = 512
"""Units that wait of one replica: more than a primary may have in flight."""
FAR: Final = 8
"""A flood is so many times as much as waits of the other replicas, by their median: f liars cannot move it."""
BURST_US: Final = 500_000
"""What lasts no longer is a burst: a part of the state, an answer to one that was behind."""
THROTTLE_US: Final = 5_000_000
THROTTLE_MAX_US: Final = 60_000_000
"""How long a replica is throttled: twice as long each time, if it floods again before as much time has passed."""
COSTLY: Final = 8
"""A flood is also what takes more than one part in so many of the time, for nothing,"""
COSTLIER: Final = 4
"""and so many times as much as that of the others, of whom the f that cost most do not count."""
REST_US: Final = 40_000
"""How long a throttled replica is not served for each unit that it was served, whatever else waits, or nothing: what
others send next would wait for it."""
EVERY: Final = 16
"""Rounds, of which a throttled replica is served in one."""
SHUNNED_MAX: Final = 4_096


@dataclass(frozen=True)
class Shares:
    """Units a round: `units_of`."""

    replica: int
    clients: int
    """Of all clients together."""
    client: int
    """Of one client, if many wait."""
    throttled: int


def units_of(messages: int, size: int) -> int:
    """What a frame of so many messages and bytes counts for."""
    return max(1, messages) + size // UNIT_BYTES


_NOTHING: Final = frozenset({Note, SetTimer, CancelTimer})


def is_nothing(effects: Iterable[Effect]) -> bool:
    """Whether a message brought nothing about that others could see or that lasts."""
    return all(type(effect) in _NOTHING for effect in effects)


class Turns:
    """Invariants:
    every replica that waits and is not throttled is in every round, a throttled one in one of EVERY or in the next
    a round is not empty while anything waits, but for throttled replicas that rest
    who is in debt owes more than nothing, and is passed by while others wait
    """

    def __init__(self, peers: Iterable[NodeId], shares: Shares, throttles: bool = True) -> None:
        """`peers`: the other replicas."""
        self.floods: Counter[NodeId] = Counter()
        """How often each replica was throttled."""
        self._peers = tuple(peers)
        self._shares = shares
        self._throttles = throttles
        self._replicas: dict[NodeId, int] = {}
        self._clients: OrderedDict[ClientId, int] = OrderedDict()
        self._debts: dict[ClientId, int] = {}
        self._wasted: Counter[NodeId] = Counter()
        """Microseconds, since `_counts_from`, that messages of each replica took that brought nothing about."""
        self._counts_from: Micros = 0
        self._costly: set[NodeId] = set()
        """Who took too much time in the last BURST_US. In the next one too, and it is no burst."""
        self._loud_since: dict[NodeId, Micros] = {}
        self._throttled: dict[NodeId, Micros] = {}
        self._rests: dict[NodeId, Micros] = {}
        self._now: Micros = 0
        self._sentences: dict[NodeId, tuple[Micros, Micros]] = {}
        """Of each replica that was ever throttled: until when the last time, and for how long."""
        self._passed_by: Counter[NodeId] = Counter()
        self._news: list[Throttled] = []

    @classmethod
    def wanted(cls, options: Any, peers: Iterable[NodeId], shares: Shares) -> Turns | None:
        """For a protocol whose options have `fair_queues`, and `throttles_floods`; None where they do not want it."""
        if not getattr(options, "fair_queues", False):
            return None
        return cls(peers, shares, bool(getattr(options, "throttles_floods", False)))

    def become(self, peers: Iterable[NodeId]) -> None:
        """The other replicas are these now."""
        self._peers = tuple(peers)

    def waits(self, sender: Principal, units: int) -> None:
        """So much of it waits now. A client that waits already keeps its place."""
        queues: dict[Any, int] = self._replicas if isinstance(sender, int) else self._clients
        if units > 0:
            queues[sender] = units
        else:
            queues.pop(sender, None)

    def owes(self, sender: Principal, units: int) -> None:
        """It was served so much beyond its share: a frame, or a message, is served whole. [Shreedhar95: deficit round
        robin] Of replicas it is held against those only that are throttled."""
        if units <= 0:
            return
        if isinstance(sender, str):
            self._debts[sender] = self._debts.get(sender, 0) + units
        elif sender in self._throttled:
            self._rests[sender] = self._rests.get(sender, self._now) + units * REST_US

    def wasted(self, node: NodeId, time: Micros) -> None:
        """Its messages took so long and brought nothing about."""
        self._wasted[node] += time

    def clear(self) -> None:
        """Nothing waits any more."""
        self._replicas.clear()
        self._clients.clear()
        self._debts.clear()
        self._wasted.clear()
        self._loud_since.clear()

    def round(self, now: Micros) -> list[tuple[Principal, int]]:
        """Who is served next, in order, each with the most messages."""
        self._now = now
        if self._throttles:
            self._watch(now)
        # What a round brings about leaves when it is over, so the order within it keeps nobody waiting; but requests
        # that are there before the votes that make room for a batch get into that batch.
        plan = self._of_clients()
        plan += [(node, self._shares.replica) for node in self._replicas if node not in self._throttled]
        for node in self._throttled:
            if node in self._replicas and self._is_due(node, not plan):
                plan.append((node, self._shares.throttled))
                self._rests[node] = now + self._shares.throttled * REST_US
        return plan

    def rest(self) -> Micros:
        """How long to wait after a round that was empty."""
        waits = [self._rests[node] - self._now for node in self._replicas if node in self._rests]
        return max(1, min(waits, default=1))

    def _of_clients(self) -> list[tuple[Principal, int]]:
        shares, plan = self._shares, list[tuple[Principal, int]]()
        if not self._clients:
            return plan
        left, share = shares.clients, max(shares.client, shares.clients // len(self._clients))
        if self._debts:
            self._settle(share)
        for client, waiting in self._clients.items():
            if left <= 0:
                break
            if client in self._debts:
                continue
            plan.append((client, min(share, left)))
            left -= min(share, waiting)
        for served, _ in plan:
            self._clients.move_to_end(str(served))
        return plan

    def _settle(self, share: int) -> None:
        """Who is in debt gives a share of each round up; where nobody else waits, as much as lets one be served."""
        if not self._replicas and all(client in self._debts for client in self._clients):
            share = min(self._debts[client] for client in self._clients)
        self._debts = {client: debt - share for client, debt in self._debts.items() if debt > share}

    def _is_due(self, node: NodeId, idle: bool) -> bool:
        if self._rests.get(node, 0) > self._now:
            return False
        self._passed_by[node] += 1
        due = idle or self._passed_by[node] >= EVERY
        if due:
            self._passed_by[node] = 0
        return due

    # -------------------------------------------------------------------------------------------------------- floods

    def _watch(self, now: Micros) -> None:
        if self._throttled:
            self._throttled = {node: until for node, until in self._throttled.items() if until > now}
        loud = [node for node, waiting in self._replicas.items() if waiting >= FLOOD and waiting > self._usual(node)]
        if loud or self._loud_since:
            self._loud_since = {node: self._loud_since.get(node, now) for node in loud}
        for node, since in self._loud_since.items():
            if now - since >= BURST_US:
                self._throttle(now, node)
        if now - self._counts_from >= BURST_US:
            costly = {node for node in self._wasted if self._is_costly(node, now - self._counts_from)}
            for node in sorted(costly & self._costly):
                self._throttle(now, node)
            self._costly = costly
            self._wasted.clear()
            self._counts_from = now

    def _throttle(self, now: Micros, node: NodeId) -> None:
        if node not in self._throttled:
            time = self._sentence(now, node)
            self._throttled[node] = now + time
            self.floods[node] += 1
            self._news.append(Throttled(node, time))

    def _is_costly(self, node: NodeId, time: Micros) -> bool:
        """With f liars, itself one of them, what the f-th of the others costs is no more than what a correct one does.
        Honest votes beyond a quorum bring nothing about either."""
        others = sorted((self._wasted[other] for other in self._peers if other != node), reverse=True)
        liars = max(1, len(self._peers) // 3)
        usual = others[liars - 1] if len(others) >= liars else 0
        return self._wasted[node] > max(time // COSTLY, COSTLIER * usual)

    def _sentence(self, now: Micros, node: NodeId) -> Micros:
        until, last = self._sentences.get(node, (0, 0))
        time = min(2 * last, THROTTLE_MAX_US) if last and now < until + last else THROTTLE_US
        self._sentences[node] = (now + time, time)
        return time

    def _usual(self, node: NodeId) -> int:
        """What may wait of it as things are: FAR times the median of the other replicas."""
        others = sorted(self._replicas.get(other, 0) for other in self._peers if other != node)
        return FAR * others[(len(others) - 1) // 2] if others else 0

    def take_news(self) -> list[Throttled]:
        """Replicas that were throttled since the last call."""
        if not self._news:
            return []
        news, self._news = self._news, []
        return news

    def check_invariants(self) -> None:
        waiting = [*self._replicas.values(), *self._clients.values()]
        assert all(waiting), "a sender of whom nothing waits is not in the table"
        assert all(debt > 0 for debt in self._debts.values()), "who is in debt owes more than nothing"
        assert all(passed < EVERY for passed in self._passed_by.values()), "a throttled replica is served now and then"


class Shunned:
    """Clients that are not heard for a while, each with the rule that it broke.

    Invariant: at most SHUNNED_MAX; when there are more, the one whose time ends first is heard again.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many were added so far; one whose time is made longer is not counted again."""
        self._until: dict[ClientId, tuple[Micros, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def add(self, now: Micros, client: ClientId, for_us: Micros, rule: str) -> bool:
        """Whether this is news."""
        news = self.rule(now, client) is None
        self.count += news
        self._until[client] = (now + for_us, rule)
        if len(self._until) > SHUNNED_MAX:
            del self._until[min(self._until, key=lambda name: self._until[name][0])]
        return news

    def rule(self, now: Micros, client: Principal) -> str | None:
        """Why this one is not heard now, and for how much longer."""
        if not isinstance(client, str) or client not in self._until:
            return None
        until, rule = self._until[client]
        if until <= now:
            del self._until[client]
            return None
        return f"client {client} is not heard for {(until - now) / 1e6:.0f} s: {rule}"
