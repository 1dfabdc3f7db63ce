"""Terms, votes and roles: who may lead, and when to try. [Raft 5.2, 5.4.1; Ongaro14 4.2.3, 6.2, 9.6]

Here: current_term, voted_for, role, the known leader, the election timer and the tally. Not here: what a leader does
with its term (`raft.replication`), nor the log (`raft.log`), which is only looked at.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from raft.log import Log
from raft.messages import HardState, PreVote, PreVoteReply, RequestVote, VoteReply
from replog.core import CancelTimer, Effect, Note, Persist, Rng, Send, SetTimer
from replog.types import NOBODY, Message, Micros, NodeId

if TYPE_CHECKING:  # pydantic takes longer to load than all the rest
    from raft.config import RaftConfig


ELECTION: Final = "election"
VOTE_RETRY: Final = "vote-retry"
REMOVED: Final = "removed from the cluster"


class Role(StrEnum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Election:
    """Invariants:
    current_term never falls; voted_for changes only from nobody to somebody within a term     [Raft 5.2]
    both are listed for the disk before anything that rests on them is sent                     (HAZARDS R1)
    a leader was elected by a quorum of votes of its own term, its own vote among them
    """

    def __init__(self, me: NodeId, config: RaftConfig, rng: Rng, hard: HardState, log: Log) -> None:
        self.me = me
        self.config = config
        self.log = log
        self.current_term = hard.current_term
        self.voted_for = hard.voted_for
        self.role = Role.FOLLOWER
        self.leader: NodeId = NOBODY
        self.reason = "just started"
        self._rng = rng
        self._granted: set[NodeId] = set()
        self._answered: set[NodeId] = set()
        self._moves = False
        """Whether the leader itself has asked for this candidacy."""
        self._timeout_us = self._draw()
        self._quiet_since: Micros = 0  # the last event that speaks against an election
        self._last_leader: NodeId = NOBODY
        self._heard_leader_at: Micros = 0  # or since when there has been none to hear
        self._loyal_until: Micros = 0
        self._armed_until: Micros = 0
        self._removed_at = 0
        """The index of a committed configuration without this server, of which it was told."""

    # ------------------------------------------------------------------------------------------------- the timer

    def _draw(self) -> Micros:
        return self._rng.randint(self.config.election_timeout_min_us, self.config.election_timeout_max_us)

    def start(self, now: Micros) -> list[Effect]:
        """Arm the timer. The only voter of a cluster need not wait for anybody, except where leases are: whom it heard
        before a restart it does not know, and a leader that is no voter may count on it."""
        self._quiet_since = self._heard_leader_at = now
        if self.config.lease_reads:
            self._loyal_until = now + self.config.election_timeout_min_us
        elif self.log.configuration.has_quorum((self.me,)):
            return self._stand(now, "the only voter")
        return self._arm(now)

    def _arm(self, now: Micros) -> list[Effect]:
        """Wait until the present deadline. An armed timer that comes too early is armed again then, not on every
        heartbeat."""
        self._armed_until = self._quiet_since + self._timeout_us
        return [SetTimer(ELECTION, max(self._armed_until - now, 1))]

    def _wait_anew(self, now: Micros) -> list[Effect]:
        """A new time-out, drawn by chance. [Raft 5.2]"""
        self._timeout_us = self._draw()
        self._quiet_since = now
        return self._arm(now) if now + self._timeout_us < self._armed_until or self._armed_until <= now else []

    def on_election_timeout(self, now: Micros, eligible: bool) -> list[Effect]:
        """`eligible` is false while this server could not lead: then it keeps waiting, and has no leader either."""
        if self.role is Role.LEADER:
            return []
        if now < self._quiet_since + self._timeout_us:
            return self._arm(now)
        known = self._last_leader != NOBODY
        what = f"no heartbeat from node {self._last_leader}" if known else "no leader"
        reason = f"{what} for {(now - self._heard_leader_at) / 1e6:.1f} s"
        if eligible:
            return self._stand(now, reason)
        self._quiet_since = now
        if self.is_removed:
            reason = REMOVED
        return [*self.step_down(now, reason), *self._arm(now)]

    def on_removed(self, now: Micros, index: int) -> list[Effect]:
        """It is in none any more, and asks nobody for votes."""
        if index < self.log.configuration_index or self.role is Role.LEADER:
            return []
        self._removed_at = max(self._removed_at, index)
        return self.step_down(now, REMOVED)

    @property
    def is_removed(self) -> bool:
        return self._removed_at > 0 and self._removed_at >= self.log.configuration_index

    # ------------------------------------------------------------------------------------------------- candidates

    def _stand(self, now: Micros, reason: str) -> list[Effect]:
        self.reason = reason
        self.leader = NOBODY
        self._moves = False
        if self.config.pre_vote:
            return self._ask(now, Role.PRE_CANDIDATE)
        return self._campaign(now)

    def stand_for(self, now: Micros, leader: NodeId) -> list[Effect]:
        """At once, since the leader wants it: nobody need be asked before. [Ongaro14 3.10]"""
        self.reason = f"node {leader} moves the leadership here"
        self.leader = NOBODY
        self._moves = True
        return self._campaign(now)

    def _campaign(self, now: Micros) -> list[Effect]:
        """Begin a term of one's own. [Raft fig. 2, candidates]"""
        self.current_term += 1
        self.voted_for = self.me
        return [self._promise(), *self._ask(now, Role.CANDIDATE)]

    def _ask(self, now: Micros, role: Role) -> list[Effect]:
        self.role = role
        self._granted, self._answered = {self.me}, {self.me}
        if self.log.configuration.has_quorum(self._granted):
            return self._won(now)
        return [*self._wait_anew(now), *self.on_vote_retry()]

    def on_vote_retry(self) -> list[Effect]:
        """Ask those who have not answered; a lost request must not cost a whole election. [Raft 5.1]"""
        if self.role is not Role.PRE_CANDIDATE and self.role is not Role.CANDIDATE:
            return []
        voters = (node for node in self.log.configuration.members if self.log.configuration.votes(node))
        silent = tuple(node for node in voters if node not in self._answered)
        if not silent:
            return []
        last = self.log.last_index, self.log.last_term
        ask: Message
        if self.role is Role.PRE_CANDIDATE:
            ask = PreVote(self.current_term + 1, self.me, *last)
        else:
            ask = RequestVote(self.current_term, self.me, *last, self._moves)
        return [Send(silent, ask), SetTimer(VOTE_RETRY, self.config.heartbeat_us)]

    def _won(self, now: Micros) -> list[Effect]:
        if self.role is Role.PRE_CANDIDATE:
            return self._campaign(now)
        self.role = Role.LEADER
        self.leader = self.me
        self._last_leader = NOBODY
        self._armed_until = 0
        return [CancelTimer(ELECTION), CancelTimer(VOTE_RETRY)]

    def on_pre_vote_reply(self, now: Micros, sender: NodeId, message: PreVoteReply) -> list[Effect]:
        if message.term > self.current_term:
            return self.observe(now, message.term, f"node {sender} is in term {message.term}")
        if self.role is not Role.PRE_CANDIDATE or message.asked != self.current_term + 1:
            return []
        return self._count(now, sender, message.vote_granted)

    def on_vote_reply(self, now: Micros, sender: NodeId, message: VoteReply) -> list[Effect]:
        if message.term > self.current_term:
            return self.observe(now, message.term, f"node {sender} is in term {message.term}")
        if self.role is not Role.CANDIDATE or message.term != self.current_term:
            return []
        return self._count(now, sender, message.vote_granted)

    def _count(self, now: Micros, sender: NodeId, granted: bool) -> list[Effect]:
        """Votes are counted by who gave them (HAZARDS R7)."""
        self._answered.add(sender)
        if not granted:
            return []
        self._granted.add(sender)
        return self._won(now) if self.log.configuration.has_quorum(self._granted) else []

    # ------------------------------------------------------------------------------------------------------ voters

    def hears_leader(self, now: Micros) -> bool:
        """Whether a leader was heard within the least election time-out; a leader hears itself. That somebody knows of
        a later term meanwhile ends it no sooner: a lease rests on it. [Ongaro14 6.4.1]"""
        return self.role is Role.LEADER or now < self._loyal_until

    def on_pre_vote(self, now: Micros, sender: NodeId, message: PreVote) -> list[Effect]:
        """A promise of nothing: neither term nor vote nor timer changes. [Ongaro14 9.6]"""
        granted = (
            message.term > self.current_term
            and not self.hears_leader(now)
            and self.log.up_to_date(message.last_log_index, message.last_log_term)
        )
        return [Send((sender,), PreVoteReply(self.current_term, message.term, granted))]

    def on_request_vote(self, now: Micros, sender: NodeId, message: RequestVote) -> list[Effect]:
        """[Raft fig. 2, RequestVote receiver]"""
        if self._stays_loyal(now, message):
            # Not even the term is taken over: a removed or returning server cannot depose a leader (HAZARDS R5, R19).
            return [Note("vote-ignored", {"candidate": sender, "term": message.term, "leader": self.leader})]
        changed, timer = False, list[Effect]()
        if message.term > self.current_term:
            changed, timer = True, self._adopt(now, message.term, f"node {sender} stands for election")
        granted = self.grants(message)
        if granted:
            changed = changed or self.voted_for == NOBODY
            self.voted_for = sender
            self._quiet_since = now
        promise = [self._promise()] if changed else []
        return [*promise, *timer, Send((sender,), VoteReply(self.current_term, granted))]

    def _stays_loyal(self, now: Micros, message: RequestVote) -> bool:
        """For the own term as well: it may be one that was told by the way, which nobody led yet."""
        stale = message.term < self.current_term
        return self.config.leader_stickiness and not stale and not message.move and self.hears_leader(now)

    def grants(self, message: RequestVote) -> bool:
        """One vote a term, first come, and only for a log that is not behind. [Raft 5.2, 5.4.1]"""
        return (
            message.term == self.current_term
            and self.voted_for in (NOBODY, message.candidate_id)
            and self.log.up_to_date(message.last_log_index, message.last_log_term)
        )

    # ------------------------------------------------------------------------------------------------ terms and roles

    def observe(self, now: Micros, term: int, reason: str) -> list[Effect]:
        """A higher term makes a follower of anybody. [Raft fig. 2, all servers]"""
        if term <= self.current_term:
            return []
        timer = self._adopt(now, term, reason)
        return [self._promise(), *timer]

    def follow(self, now: Micros, term: int, leader: NodeId) -> list[Effect]:
        """A leader of `term` (not below the own one) was heard."""
        effects = self.observe(now, term, f"node {leader} leads")
        if self.role is not Role.FOLLOWER:
            effects = [*effects, *self.step_down(now, f"node {leader} leads")]
        if self.leader != leader:
            self.leader = self._last_leader = leader
            effects = [*effects, *self._wait_anew(now)]
        self._heard_leader_at = self._quiet_since = now
        self._loyal_until = now + self.config.election_timeout_min_us
        return effects

    def step_down(self, now: Micros, reason: str) -> list[Effect]:
        """A follower again, in the same term. A leader's timer did not run; the others' goes on."""
        timer: list[Effect] = []
        if self.role is Role.LEADER:
            self._heard_leader_at = now
            timer = self._wait_anew(now)
        self.role = Role.FOLLOWER
        self.leader = NOBODY
        self.reason = reason
        return timer

    def _adopt(self, now: Micros, term: int, reason: str) -> list[Effect]:
        self.current_term = term
        self.voted_for = NOBODY
        return self.step_down(now, reason)

    def _promise(self) -> Persist:
        return Persist(HardState(self.current_term, self.voted_for), 0)

    def check_invariants(self) -> None:
        assert self.role is not Role.LEADER or self.leader == self.me, "a leader knows itself"
        assert self.role is not Role.LEADER or self.voted_for == self.me, "a leader has voted for itself"
        assert self.role is not Role.LEADER or self.me in self._granted, "its own vote is among its votes"
        assert self.current_term >= self.log.last_term, "no entry is of a later term"
