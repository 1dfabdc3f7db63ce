"""Attacks on Raft by a server that follows: on elections, terms, and the count of who has an entry. (HAZARDS R29)

[vote-twice, ack-without-storing, inflate-terms, elections-for-ever, spoofed-move]
Who leads when such an attack begins gives that up first, by a later term that nobody else has heard of.
"""

from __future__ import annotations

from typing import Any

from compare.attacks.base import Power
from compare.attacks.raft_leader import RaftLiar
from compare.options import Storm
from raft.messages import (
    AppendEntries,
    AppendReply,
    PreVote,
    PreVoteReply,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from replog.core import Effect, Event, Received, Send
from replog.replica import Replica
from replog.types import Message, Micros, NodeId


class _Follower(RaftLiar):
    """Invariant: the replica inside leads no more once the attack has begun."""

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._say: list[Effect] = []

    def begin(self, now: Micros) -> list[Event]:
        if not self.leads:
            return []
        return [Received(self.others[0], VoteReply(self.core.current_term + 1, False))]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        said, self._say = self._say, []
        return [*super().speak(now, effects), *said]

    def answer(self, node: Any, message: Message) -> list[Event]:
        """At once, and the replica inside never hears the question."""
        self._say.append(self.lie((node,), message))
        return []


class AckWithoutStoring(_Follower):
    """Says that it has every entry that it is sent, and keeps none."""

    def receive(self, now: Micros, event: Received) -> list[Event]:
        said = event.message
        if not isinstance(said, AppendEntries):
            return [event]
        reached = said.prev_log_index + len(said.entries)
        return self.answer(event.sender, AppendReply(said.term, True, said.prev_log_index, reached, 0, 0, said.round))

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        """It hears no leader and would stand for election; it does not want to lead."""
        return [] if isinstance(effect.message, (PreVote, RequestVote)) else [effect]


class VoteTwice(AckWithoutStoring):
    """Votes for every candidate of every term, and follows all of them at a time."""

    def receive(self, now: Micros, event: Received) -> list[Event]:
        said = event.message
        if isinstance(said, PreVote):
            return self.answer(event.sender, PreVoteReply(said.term - 1, said.term, True))
        if isinstance(said, RequestVote):
            return self.answer(event.sender, VoteReply(said.term, True))
        return super().receive(now, event)


class InflateTerms(RaftLiar):
    """Speaks of the last term that there can be, so that no later one can ever begin."""

    period_us = 50_000

    def act(self, now: Micros) -> list[Effect]:
        return [self.lie(self.others, VoteReply(2**62, False))]


class _Elector(_Follower):
    options_model = Storm

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self.period_us = int(self.options.period_ms * 1000)
        self._term = 0

    def later(self) -> int:
        self._term = max(self._term, self.core.current_term) + self.options.by
        return self._term

    def ask(self, *, move: bool) -> Send:
        """With a log that nobody's is ahead of."""
        return self.lie(self.others, RequestVote(self.later(), self.me, 2**61, 2**61, move))


class ElectionsForEver(_Elector):
    """Stands for election again and again, and tells who leads of the later term that this is."""

    def act(self, now: Micros) -> list[Effect]:
        asked = self.ask(move=False)
        return [asked, self.lie(self.others, AppendReply(self._term, False, 0, 0, 0, 0, 0))]


class SpoofedMove(_Elector):
    """Says that the leader itself wants it to lead next, so that nobody's loyalty to the leader counts."""

    def act(self, now: Micros) -> list[Effect]:
        spoofed = self.lie(self.others, TimeoutNow(self.core.current_term, self.me))
        return [spoofed, self.ask(move=True)]
