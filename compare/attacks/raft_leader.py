"""Attacks on Raft by a server that leads, or says that it does. One liar is enough. (HAZARDS R29)

[rewrite-committed, false-commit, fake-leader, poisoned-state, lie-in-replies]
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from compare.attacks.base import Power, copy_of
from compare.attacks.lies import Liar
from compare.options import Misstatement
from raft.core import RaftCore
from raft.messages import AppendEntries, Entry, InstallSnapshot, ReadIndex, ReadIndexReply, SnapshotReply
from replog.core import Apply, Checkpoint, Effect, Event, Received, Send
from replog.executor import Executor
from replog.replica import Replica
from replog.types import Message, Micros, NodeId

POOL: Final = 32


class RaftLiar(Liar):
    """`pool`: requests that clients have really made, by the entry in which they came."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self.pool: list[list[bytes]] = []

    @property
    def core(self) -> RaftCore:
        core = self.inner.core
        if not isinstance(core, RaftCore):
            raise TypeError(f"an attack on Raft around {type(core).__name__}")
        return core

    @property
    def leads(self) -> bool:
        return self.core.leader == self.me

    def learn(self, message: Message) -> None:
        if isinstance(message, AppendEntries):
            self.pool = [*self.pool, *(entry.requests for entry in message.entries if entry.requests)][-POOL:]

    def receive(self, now: Micros, event: Received) -> list[Event]:
        self.learn(event.message)
        return [event]

    def append(self, term: int, prev: int, entries: list[Entry], commit: int) -> AppendEntries:
        """As a leader of `term` would say it."""
        return AppendEntries(term, self.me, prev, self.core.log.term(prev), entries, commit, 0)


class RewriteCommitted(RaftLiar):
    """Keeps from followers what is committed, answers clients all the same, and later replaces those entries."""

    ENOUGH: Final = 4

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._base: int | None = None
        self._others: list[Effect] = []

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        message = effect.message
        if not isinstance(message, AppendEntries) or not self.leads:
            return [effect]
        self.learn(message)
        core = self.core
        self._base = core.commit_index if self._base is None else self._base
        if core.commit_index < self._base + self.ENOUGH or not self.pool:
            return [Send(effect.to, replace(message, leader_commit=min(message.leader_commit, self._base)))]
        entries = [Entry(core.current_term + 1, 1, self.pool[0])]
        lie = self.lie(effect.to, self.append(core.current_term + 1, self._base, entries, self._base))
        return [lie]


class FalseCommit(RaftLiar):
    """Tells one follower that an entry which it alone has is committed."""

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        message = effect.message
        if not isinstance(message, AppendEntries) or not self.leads or not message.entries:
            return [effect]
        self.learn(message)
        victim = self.correct[0]
        rest = tuple(node for node in effect.to if node != victim)
        if victim not in effect.to or len(self.pool) < 3:
            return [effect]
        entries = [*message.entries, Entry(message.term, message.entries[-1].time, self.pool[0])]
        lie = replace(message, entries=entries, leader_commit=message.prev_log_index + len(entries))
        return [*([Send(rest, message)] if rest else []), self.lie((victim,), lie)]


class FakeLeader(RaftLiar):
    """Leads later terms for which nobody has voted, and has each of the others commit something else."""

    period_us = 100_000

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._term = 0

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        self.learn(effect.message)
        return [effect]

    def act(self, now: Micros) -> list[Effect]:
        prev, told = self.core.log.last_index, []
        self._term = max(self._term, self.core.current_term) + 1
        for place, node in enumerate(self.correct if len(self.pool) > len(self.correct) else ()):
            entry = Entry(self._term, 1, self.pool[place])
            told.append(self.lie((node,), self.append(self._term, prev, [entry], prev + 1)))
        return [*told]


class PoisonedSnapshot(Liar):
    """Sends a follower that is far behind a state in which some of the requests were never executed."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._shadow: Executor | None = None
        self._hints: dict[tuple[NodeId, int], bytes] = {}
        self._digests: dict[int, bytes] = {}

    def begin(self, now: Micros) -> list[Event]:
        self.inner.executor.checkpoint(self.inner.executor.index)
        self._shadow = copy_of(self.inner.executor, self.power.machine())
        return []

    def receive(self, now: Micros, event: Received) -> list[Event]:
        if isinstance(event.message, SnapshotReply) and isinstance(event.sender, int):
            self._hints.update({(event.sender, part): hint for part, hint in event.message.hints.items()})
        return [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if type(effect) is Apply:
                self._apply(effect)
            elif type(effect) is Checkpoint and self._shadow is not None and self._shadow.index == effect.index:
                self._digests[effect.index] = self._shadow.checkpoint(effect.index)
        return super().speak(now, effects)

    def _apply(self, effect: Apply) -> None:
        """The same history, without the requests of every second index."""
        if self._shadow is not None and effect.index == self._shadow.index + 1:
            told = effect.requests if effect.index % 2 else []
            self._shadow.apply(effect.index, told, effect.time, effect.next_seed)

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        message = effect.message
        if not isinstance(message, InstallSnapshot) or self._shadow is None or message.offset:
            return [effect]
        digest = self._digests.get(message.last_included_index)
        return [effect] if digest is None else [self._part(node, message, digest) for node in effect.to]

    def _part(self, node: NodeId, message: InstallSnapshot, digest: bytes) -> Effect:
        hint = self._hints.get((node, message.part), b"")
        data, _ = self._shadow.read_part(message.last_included_index, message.part, hint) if self._shadow else (None, 0)
        return self.lie((node,), replace(message, digest=digest, data=data or b"", done=True))


class LieInReplies(RaftLiar):
    """Answers other servers at once, and not as it is: any state is fresh enough to read from."""

    options_model = Misstatement

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._say: list[Effect] = []

    def receive(self, now: Micros, event: Received) -> list[Event]:
        said, sender = event.message, event.sender
        if not isinstance(said, ReadIndex) or not isinstance(sender, int):
            return [event]
        self._say.append(self.lie((sender,), ReadIndexReply(said.term, said.token, 0)))
        return []

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        """What options name has the value that they give."""
        message: Any = effect.message
        if type(message).__name__ != self.options.kind or not hasattr(message, self.options.field):
            return [effect]
        lie = replace(message, **{self.options.field: self.options.value})
        return [effect] if lie == message else [self.lie(effect.to, lie)]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said, self._say = self._say, []
        return [*super().speak(now, effects), *said]
