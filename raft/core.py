"""One Raft server: events in, effects out. [Raft fig. 2, fig. 13]

Here: dispatch, what a leader appends and commits, clients and operators; what a leader's messages do is in
`raft.follower`. The parts with a state of their own are objects that nobody else changes:

    log.Log                    entries                     machine.Machine    commit_index, last_applied, snapshot
    election.Election          term, vote, role, leader    snapshot.Receiver  a snapshot on its way here
    replication.Replication    next_index, match_index     snapshot.Sender    snapshots on their way to followers
    requests.Requests          a leader's clients          reads.Reads        reads that are not ordered
    reads.ReadIndexes          who asks a leader for an index
    move.Move                  whom a leader hands over to
    membership.Roll            who the members are         membership.Reconfiguration  how a leader changes them
    witness.Witness            what others have promised

Replication, Sender, Requests, ReadIndexes, Reconfiguration and Move live for one term of leadership. Raft trusts its
servers: what a leader says is believed after checks of form. Clients are vouched for by their links, so that no
signature is made or checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from raft import report
from raft.configuration import Configuration
from raft.election import ELECTION, VOTE_RETRY, Role
from raft.follower import Follower
from raft.machine import APPLY, SNAPSHOT
from raft.membership import Reconfiguration
from raft.messages import (
    Acknowledged,
    AppendEntries,
    AppendReply,
    Entry,
    InstallSnapshot,
    Known,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    Removed,
    RequestVote,
    Returned,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
)
from raft.move import MOVE, Move
from raft.reads import READ_ON, READ_RETRY, ReadIndexes, Reads
from raft.replication import Replication
from raft.requests import BATCH, Requests
from raft.snapshot import Sender
from raft.witness import WITNESS
from replog.codec import BadMessage
from replog.core import (
    Applied,
    CancelTimer,
    Checkpointed,
    Command,
    Effect,
    Event,
    Note,
    Part,
    Queried,
    Received,
    Reply,
    Saved,
    SaveState,
    Send,
    SetTimer,
    Setup,
    Started,
    Timeout,
    Wanted,
)
from replog.membership import ConfigurationQuestion
from replog.types import NOBODY, Answer, ClientId, Micros, NodeId, Principal, Read, Request, Status, Submit
from replog.types import Reply as ClientReply

HEARTBEAT: Final = "heartbeat"


class RaftCore(Follower):
    """Invariants:
    commit_index <= last_log_index                                                            [Raft fig. 2]
    a leader's objects exist exactly while this server leads, and are of its current term     (HAZARDS R12)
    """

    replication_class: ClassVar[type[Replication]] = Replication
    sender_class: ClassVar[type[Sender]] = Sender
    read_indexes_class: ClassVar[type[ReadIndexes]] = ReadIndexes
    reconfiguration_class: ClassVar[type[Reconfiguration]] = Reconfiguration

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._sessions = setup.sessions
        self._wall = setup.wall
        self.replication: Replication | None = None
        self.sender: Sender | None = None
        self.requests: Requests | None = None
        self.reads = Reads(self.config, setup.rng, self.election)
        self.read_indexes: ReadIndexes | None = None
        self.reconfiguration: Reconfiguration | None = None
        self.move: Move | None = None
        self.paused = False
        """Whether an operator wants what clients ask to wait. Of this server alone, and until it ends."""
        self._noted: tuple[int, Role, NodeId] = (-1, Role.FOLLOWER, NOBODY)
        self._handlers: dict[type[Any], Any] = {
            Started: self._on_started,
            Received: self._on_received,
            Timeout: self._on_timeout,
            Applied: self._on_applied,
            Checkpointed: self._on_checkpointed,
            Saved: self._on_saved,
            Part: self._on_part,
            Wanted: self._on_wanted,
            Queried: self._on_queried,
            Command: self._on_command,
        }
        self._timers: dict[str, Callable[[], list[Effect]]] = {
            VOTE_RETRY: self.election.on_vote_retry,
            APPLY: self.machine.apply,
            SNAPSHOT: self.machine.on_age,
            MOVE: self._on_move_timeout,
            READ_RETRY: self.reads.on_retry,
            READ_ON: self.reads.on_rested,
            BATCH: self._on_batch_timeout,
        }
        self._receivers: dict[type[Any], Any] = {
            AppendEntries: self._on_append_entries,
            AppendReply: self._on_append_reply,
            RequestVote: self._on_request_vote,
            VoteReply: self._on_vote_reply,
            PreVote: self._on_pre_vote,
            PreVoteReply: self._on_pre_vote_reply,
            InstallSnapshot: self._on_install_snapshot,
            SnapshotReply: self._on_snapshot_reply,
            TimeoutNow: self._on_timeout_now,
            Removed: self._on_removed,
            ReadIndex: self._on_read_index,
            ReadIndexReply: self._on_read_index_reply,
            Returned: self._on_returned,
            Known: self._on_known,
            Acknowledged: self._on_acknowledged,
        }

    @property
    def last_applied(self) -> int:
        return self.machine.last_applied

    @property
    def role(self) -> Role:
        return self.election.role

    # ------------------------------------------------------------------------------------------------------- dispatch

    def step(self, now: Micros, event: Event) -> list[Effect]:
        effects: list[Effect] = self._handlers[type(event)](now, event)
        election = self.election
        if self.reconfiguration is not None and election.role is Role.LEADER and self._is_changing:
            effects = [*effects, *self._change_members(now)]
        if (election.current_term, election.role, election.leader) != self._noted:
            effects = [*effects, *self._enter(now)]
        if self.reads.busy or (self.read_indexes is not None and self.read_indexes.busy):
            effects = [*effects, *self.reads.advance(now, self.read_indexes, self.last_applied)]
        return effects

    def _enter(self, now: Micros) -> list[Effect]:
        """Term, role or leader have changed."""
        election = self.election
        leads = election.role is Role.LEADER
        effects: list[Effect] = []
        if self.replication is not None and (not leads or self.replication.current_term != election.current_term):
            effects += self._end_term()
        if leads and self.replication is None:
            effects += self._begin_term(now)
        if (election.current_term, election.role, election.leader) == self._noted:
            return effects
        if (election.current_term, election.leader) != (self._noted[0], self._noted[2]):
            effects += self.reads.on_leader_lost()
        self._noted = election.current_term, election.role, election.leader
        detail = {
            "term": election.current_term,
            "role": election.role.value,
            "leader": election.leader,
            "reason": election.reason,
        }
        return [*effects, Note("term", detail)]

    def _on_started(self, now: Micros, event: Started) -> list[Effect]:
        return [*self.roll.look(), *self.witness.start(now), *self.election.start(now)]

    def _on_timeout(self, now: Micros, event: Timeout) -> list[Effect]:
        if event.name == ELECTION:
            return self.election.on_election_timeout(now, eligible=self.may_stand() and self.witness.may_vote(now))
        if event.name == HEARTBEAT:
            return self._on_heartbeat(now)
        if event.name == WITNESS:
            return self.witness.on_retry(now)
        if event.name not in self._timers:
            raise ValueError(f"timer {event.name!r} was never set")
        return self._timers[event.name]()

    def _on_received(self, now: Micros, event: Received) -> list[Effect]:
        sender, message = event.sender, event.message
        if type(message) is Submit:
            return self._on_submit(sender, message)
        if type(message) is Read:
            return self._on_read(sender, message)
        if type(message) is ConfigurationQuestion and isinstance(sender, str):
            return [self.roll.answer(sender, message)]
        handler = self._receivers.get(type(message))
        if handler is None or not isinstance(sender, int) or sender == self.me:
            return self._nonsense(sender, f"{type(message).__name__} from {sender!r}")
        effects: list[Effect] = handler(now, sender, message)
        return effects

    # ------------------------------------------------------------------------------------------------------ elections

    def _on_request_vote(self, now: Micros, sender: NodeId, message: RequestVote) -> list[Effect]:
        if message.candidate_id != sender:
            return self._nonsense(sender, "candidate_id is not the sender")
        if not self.witness.may_vote(now):
            return self._withhold(sender, message)
        effects = self.election.on_request_vote(now, sender, message)
        if self.voted_for == sender and self.current_term == message.term:
            self.witness.promised(message.term, 0)
        return [*effects, *self._take_leave(sender)]

    def _withhold(self, candidate: NodeId, message: RequestVote | PreVote) -> list[Effect]:
        """As if it had not come: whoever may have promised something else may not even answer (HAZARDS R28)."""
        detail = {"candidate": candidate, "term": message.term, "leader": self.leader}
        return [Note("vote-ignored", detail), *self._take_leave(candidate)]

    def _on_vote_reply(self, now: Micros, sender: NodeId, message: VoteReply) -> list[Effect]:
        if message.vote_granted:
            self.witness.saw(sender, (message.term, 0))
        return self.election.on_vote_reply(now, sender, message)

    def _on_pre_vote(self, now: Micros, sender: NodeId, message: PreVote) -> list[Effect]:
        if message.candidate_id != sender:
            return self._nonsense(sender, "candidate_id is not the sender")
        if not self.witness.may_vote(now):
            return self._withhold(sender, message)
        return [*self.election.on_pre_vote(now, sender, message), *self._take_leave(sender)]

    def _on_pre_vote_reply(self, now: Micros, sender: NodeId, message: PreVoteReply) -> list[Effect]:
        return self.election.on_pre_vote_reply(now, sender, message)

    def may_stand(self) -> bool:
        """One that only an entry that is not committed leaves out stands all the same: perhaps nobody else has that
        entry, and nobody with less gets its vote, which the others may need. [Ongaro14 4.2.2]"""
        if self.machine.installing or self.election.is_removed:
            return False
        return self.log.votes_since(self.commit_index, self.me)

    def _on_returned(self, now: Micros, sender: NodeId, message: Returned) -> list[Effect]:
        """What a leader knows of a follower it need not have told yet."""
        replication = self.replication
        if replication is not None and sender in replication.progress:
            if message.lost:
                replication.forget(sender, now)
            elif replication.progress[sender].match_index:
                self.witness.saw(sender, (self.current_term, replication.progress[sender].match_index))
        return self.witness.on_returned(sender)

    def _on_known(self, now: Micros, sender: NodeId, message: Known) -> list[Effect]:
        """Whoever is found out leads and stands no more."""
        found = self.witness.on_known(sender, message)
        if self.witness.lost is None or self.role is Role.FOLLOWER:
            return found
        return [*found, *self.election.step_down(now, self.witness.in_words)]

    def _on_acknowledged(self, now: Micros, sender: NodeId, message: Acknowledged) -> list[Effect]:
        if message.term != self.current_term or sender != self.leader:
            return []
        return self.witness.on_acknowledged(message)

    def _begin_term(self, now: Micros) -> list[Effect]:
        """Leadership begins with a no-op: only an entry of its own term tells a leader what is committed. [Raft 8]"""
        term = self.current_term
        self.receiver.stop()
        self.replication = self.replication_class(self.me, term, self.config, self.log, now)
        self.sender = self.sender_class(self.me, term, self.config)
        self.requests = Requests(self.config, self._sessions)
        self.read_indexes = self.read_indexes_class(self.config, self.log, self.machine, self.replication)
        self.reconfiguration = self.reconfiguration_class(self.config, self.log, self.replication, self.roll)
        record = self._append([Entry(term, self._wall(), [])], [()])
        announced = self.replication.announce(self.commit_index)
        return [SetTimer(HEARTBEAT, self.config.heartbeat_us), *announced, record, *self._commit()]

    def _end_term(self) -> list[Effect]:
        """Clients whose requests are under way learn from the next leader what became of them (HAZARDS R23); what was
        not ordered yet it may order at once. A move ends with the term that it is of (HAZARDS R27)."""
        waiting = self.requests.give_up() if self.requests is not None else []
        heir = self.move.node if self.move is not None and self.leader == NOBODY else self.leader
        timers: list[Effect] = [CancelTimer(HEARTBEAT)]
        if self.move is not None:
            timers.append(CancelTimer(MOVE))
        self.replication = self.sender = self.requests = self.read_indexes = None
        self.reconfiguration = self.move = None
        redirect = Answer.REDIRECT, b"", self.current_term, heir
        return [*timers, *(Reply(r.client, ClientReply(r.timestamp, *redirect)) for r in waiting)]

    def _on_heartbeat(self, now: Micros) -> list[Effect]:
        replication, sender, indexes = self.replication, self.sender, self.read_indexes
        if replication is None or sender is None or indexes is None:
            return []
        patience = self.config.election_timeout_max_us
        heard = replication.heard_since(now - patience)
        if self.config.check_quorum and not self.log.configuration.has_quorum(heard):
            return self.election.step_down(now, f"heard no majority for {patience / 1e6:.1f} s")
        return [
            SetTimer(HEARTBEAT, self.config.heartbeat_us),
            *indexes.begin_round(now),
            *(self.move.tell() if self.move is not None else []),
            *sender.tick(now),
            *self._start_transfers(now),
            *self.witness.tell(now, self._acknowledged(replication)),
        ]

    def _acknowledged(self, replication: Replication) -> dict[NodeId, int]:
        reached = {node: one.match_index for node, one in replication.progress.items() if one.match_index}
        if self.may_commit(self.commit_index):
            reached[self.me] = self.commit_index
            self.witness.promised(self.current_term, self.commit_index)
        return reached

    # ------------------------------------------------------------------------------------- leader: append and commit

    def _on_append_reply(self, now: Micros, sender: NodeId, message: AppendReply) -> list[Effect]:
        if message.term > self.current_term:
            return self.election.observe(now, message.term, f"node {sender} is in term {message.term}")
        replication = self.replication
        if replication is None or message.term < self.current_term or sender not in replication.progress:
            return []
        if not answers_this_term(message):
            return []
        replication.heard(sender, now, message.round)
        if message.success:
            return self._accepted(now, sender, message.match_index)
        if replication.rejected(sender, message):
            return replication.probe(sender, self.commit_index)
        return [*replication.loss(sender, message), *self._start_transfers(now)]

    def _accepted(self, now: Micros, sender: NodeId, match_index: int) -> list[Effect]:
        replication = self.replication
        if replication is None or not replication.accepted(sender, match_index):
            return self._nonsense(sender, f"match_index = {match_index} is beyond the leader's log")
        if self.sender is not None and sender in self.sender and not replication.needs_snapshot(sender):
            self.sender.stop(sender)
        return self._pump()

    def _pump(self) -> list[Effect]:
        """Commit what a quorum has, order what waits, send what followers lack."""
        if self.replication is None:
            return []
        moved = self.move.advance() if self.move is not None else []
        return [*self._commit(), *self._order(), *self.replication.send_entries(self.commit_index), *moved]

    def _order(self) -> list[Effect]:
        """Entries for waiting requests, as many as may be under way; a leader that is its own quorum commits each."""
        effects: list[Effect] = []
        while proposed := self._propose():
            effects += proposed
            effects += self._commit()
        return effects

    def _propose(self) -> list[Effect]:
        """New entries for waiting requests. Sent before the own disk write: behind it, the next ones wait, and with
        them every word that these are committed (HAZARDS R2, [Ongaro14 10.2.1])."""
        requests, replication = self.requests, self.replication
        if requests is None or replication is None or not requests.pending or self.move is not None:
            return []
        under_way = self.log.last_index - self.commit_index
        if under_way and not requests.is_ripe():
            return requests.wait()
        room = self.config.uncommitted_max - under_way
        batches: list[Sequence[Request]] = []
        take = requests.take_changes if self.paused else requests.take_batch
        while len(batches) < room and (batch := take()):
            batches.append(batch)
        if not batches:
            return []
        term, time = self.current_term, self._wall()
        record = self._append([Entry(term, time, [request.raw for request in batch]) for batch in batches], batches)
        return [*replication.send_entries(self.commit_index), record]

    def _on_batch_timeout(self) -> list[Effect]:
        if self.requests is not None:
            self.requests.on_batch_timeout()
        return self._order()

    def _commit(self) -> list[Effect]:
        """[Raft fig. 2, leaders, last rule]"""
        if self.replication is None:
            return []
        index = self.replication.agreed()
        return self._commit_to(index) if index > self.commit_index and self.may_commit(index) else []

    def may_commit(self, index: int) -> bool:
        """Counting replicas commits entries of the own term only; older ones are committed below them.
        [Raft 5.4.2, fig. 8] (HAZARDS R8)"""
        return self.log.term(index) == self.current_term

    # -------------------------------------------------------------------------------------------------------- members

    @property
    def _is_changing(self) -> bool:
        present = self.log.configuration
        return self.roll.open is not None or bool(present.old_voters) or not present.votes(self.me)

    def _change_members(self, now: Micros) -> list[Effect]:
        """One step, if it is time for one: see `raft.membership`. A leader that is in C_new no more is one until that
        is committed. [Raft 6] (HAZARDS R20)"""
        change, log = self.reconfiguration, self.log
        if change is None or self.move is not None:
            return []
        if log.configuration_index <= self.machine.executed and not log.configuration.votes(self.me):
            return self._resign(now)
        following = change.next(now, self.commit_index, self.machine.executed)
        notes = change.take_notes()
        return notes if following is None else [*notes, *self._append_configuration(now, following)]

    def _append_configuration(self, now: Micros, following: Configuration) -> list[Effect]:
        """In force here and now. [Raft 6] (HAZARDS R17)"""
        replication, sender = self.replication, self.sender
        if replication is None or sender is None:
            return []
        record = self._append([Entry(self.current_term, self._wall(), [], following)], [()])
        for node in replication.progress.keys() - set(following.members):
            sender.stop(node)
        probes = [probe for node in replication.become(now) for probe in replication.probe(node, self.commit_index)]
        what = {"index": self.log.last_index, "voters": following.voters, "old_voters": following.old_voters}
        noted = Note("configuration", {**what, "learners": following.learners})
        return [noted, *probes, *replication.send_entries(self.commit_index), record, *self._commit()]

    def _resign(self, now: Micros) -> list[Effect]:
        """C_new is committed without this leader: one of those who have it leads next, at once. [Ongaro14 4.2.2]"""
        replication, reason = self.replication, "no voter of the new configuration"
        if replication is None:
            return []
        reached = replication.match_index()
        heir = max(self.log.configuration.voters, key=lambda node: reached.get(node, 0))
        self.move = Move(heir, self.log, replication)
        said = [*replication.heartbeat(now, self.commit_index), *self.move.tell_now()]
        return [*said, *self.election.step_down(now, reason)]

    def _look_at_members(self) -> list[Effect]:
        """The state has changed. Who is no member from here on, or was to be one and is none, hears so from the leader,
        and nothing else any more: it would ask for votes sooner or later."""
        before, known = self.roll.present, self.roll.ids
        news, present = self.roll.look(), self.roll.present
        if self.replication is None or before is None or present is None or before is present:
            return news
        gone = sorted(known - {*present.ids, self.me})
        return [*news, Send(tuple(gone), Removed(present))] if gone else news

    def _take_leave(self, candidate: NodeId) -> list[Effect]:
        """It may not have heard; who left itself knows of it, too. One that came later knows better."""
        latest = self.roll.latest
        if latest is None or candidate >= latest.next_id or latest.member(candidate) is not None:
            return []
        return [Send((candidate,), Removed(latest))]

    def _on_removed(self, now: Micros, sender: NodeId, message: Removed) -> list[Effect]:
        if message.members.member(self.me) is not None:
            return self._nonsense(sender, "removed, and among the members")
        self.roll.left(message.members)
        return self.election.on_removed(now, message.members.first - 1)

    # ------------------------------------------------------------------------------------------------------ snapshots

    def _on_checkpointed(self, now: Micros, event: Checkpointed) -> list[Effect]:
        """A snapshot of one's own was taken, or the one received is in place."""
        received = self.receiver.snapshot
        if received is not None and received.index == event.index:
            return self._install(received)
        start = self.machine.keep(event, self.sender)
        return [SaveState(event.index), *(self._forget(start) if start is not None else [])]

    def _start_transfers(self, now: Micros) -> list[Effect]:
        """To followers that need one and can be heard."""
        replication, sender, snapshot = self.replication, self.sender, self.machine.snapshot
        if replication is None or sender is None or snapshot is None:
            return []
        heard = replication.heard_since(now - self.config.election_timeout_max_us)
        needing = [node for node in replication.lagging() if node not in sender and node in heard]
        return [effect for node in needing for effect in sender.start(now, node, snapshot)]

    def _on_part(self, now: Micros, event: Part) -> list[Effect]:
        if self.sender is None:
            return []
        missing = event.data is None and event.token in self.sender and event.index == self.machine.snapshot_index
        return [*self.sender.on_part(event), *(self.machine.take_snapshot() if missing else [])]

    def _on_snapshot_reply(self, now: Micros, sender: NodeId, message: SnapshotReply) -> list[Effect]:
        if message.term > self.current_term:
            return self.election.observe(now, message.term, f"node {sender} is in term {message.term}")
        replication, transfers = self.replication, self.sender
        if replication is None or transfers is None or message.term < self.current_term:
            return []
        if sender not in replication.progress or not message.last_included_index:
            return []  # without an index: refused for its older term alone, no question of this one (HAZARDS R12)
        replication.heard(sender, now)
        if not message.done:
            return transfers.on_reply(now, sender, message)
        transfers.stop(sender)
        return self._accepted(now, sender, message.last_included_index)

    # -------------------------------------------------------------------------------------------------------- clients

    def _on_submit(self, sender: Principal, message: Submit) -> list[Effect]:
        """A request, from the client that it names: the link has proved who that is. Nobody forwards."""
        request = self._request_of(sender, message)
        if not isinstance(request, Request):
            return request
        if self.requests is None:
            return [self._answer(request.client, request.timestamp, Answer.REDIRECT)]
        verdict = self.requests.offer(request)
        return self._order() if verdict is None else [self._answer(request.client, request.timestamp, *verdict)]

    def _request_of(self, sender: Principal, message: Submit | Read) -> Request | list[Effect]:
        """The request, or what is done about one that is none."""
        try:
            request = Request(message.request)
        except BadMessage as error:
            return self._nonsense(sender, str(error))
        return request if request.client == sender else self._nonsense(sender, f"a request of {request.client}")

    def _on_applied(self, now: Micros, event: Applied) -> list[Effect]:
        self.machine.executed, requests, news = event.index, self.requests, self._look_at_members()
        if self.witness.lost is not None:
            news = [*news, *self.witness.forgive(event.index)]
        if requests is None:
            return news
        outcomes = [(result, requests.outcome(result)) for result in event.results]
        said = [(result, verdict) for result, verdict in outcomes if verdict is not None]
        return [*news, *(self._answer(result.client, result.timestamp, *verdict) for result, verdict in said)]

    def _answer(self, client: ClientId, timestamp: int, answer: Answer, results: bytes = b"") -> Reply:
        of = self.current_term, self.leader, False, self.roll.epoch
        return Reply(client, ClientReply(timestamp, answer, results, *of))

    # ---------------------------------------------------------------------------------------------------------- reads

    def _on_read(self, sender: Principal, message: Read) -> list[Effect]:
        """A read that is not to be ordered. Who asks for a stale one is answered at once by any server; every other
        waits until the state here is certainly fresh enough. [Ongaro14 6.4]"""
        request = self._request_of(sender, message)
        if not isinstance(request, Request):
            return request
        if not request.read_only or not self.config.fast_reads:
            return self._nonsense(sender, "a read is a read-only request, where fast_reads is on")
        return self.reads.from_client(request, message.stale)

    def _on_queried(self, now: Micros, event: Queried) -> list[Effect]:
        return self.reads.on_queried(event)

    def _on_read_index(self, now: Micros, sender: NodeId, message: ReadIndex) -> list[Effect]:
        if message.term > self.current_term:
            return self.election.observe(now, message.term, f"node {sender} is in term {message.term}")
        replication, indexes = self.replication, self.read_indexes
        if replication is not None and indexes is not None and sender in replication.progress:
            indexes.ask(sender, message.token)
        return []

    def _on_read_index_reply(self, now: Micros, sender: NodeId, message: ReadIndexReply) -> list[Effect]:
        if message.term > self.current_term:
            return self.election.observe(now, message.term, f"node {sender} is in term {message.term}")
        self.reads.on_index(message.token, message.read_index)
        return []

    # ------------------------------------------------------------------------------------------------------- commands

    def _on_command(self, now: Micros, event: Command) -> list[Effect]:
        if event.name == "snapshot":
            return self.machine.take_snapshot()
        if event.name in ("pause", "resume"):
            return self._pause(paused=event.name == "pause")
        if event.name == "give-up-change":
            flaw = self._not_leading if self.reconfiguration is None else self.reconfiguration.abandon()
            return self._refuse_command(event.name, flaw) if flaw else []
        if event.name != "move-leader":
            known = "snapshot, pause, resume, give-up-change and move-leader"
            return self._refuse_command(event.name, f"raft knows the commands {known}")
        node = event.arguments.get("to")
        if flaw := self._move_flaw(node):
            return self._refuse_command(event.name, flaw)
        return self._move_to(node)  # type: ignore[arg-type]

    @staticmethod
    def _refuse_command(name: str, rule: str) -> list[Effect]:
        return [Note("command-refused", {"command": name, "rule": rule})]

    def _move_flaw(self, node: object) -> str:
        """Why the leadership cannot be moved to `node`, "" if it can."""
        if self.replication is None:
            return self._not_leading
        if self.move is not None:
            return f"the leadership is on its way to node {self.move.node}"
        if node == self.me:
            return f"node {self.me} leads already"
        if not isinstance(node, int) or not self.log.configuration.votes(node):
            return f"to = {node!r} is none of the voters {self.log.configuration.voters}"
        return ""

    @property
    def _not_leading(self) -> str:
        return f"node {self.me} does not lead" + (f", node {self.leader} does" if self.leader != NOBODY else "")

    def _pause(self, *, paused: bool) -> list[Effect]:
        """What is under way goes on, what comes waits within the bounds of what may wait, changes of members excepted:
        they are what one pauses for."""
        self.paused = paused
        return [Note("paused" if paused else "resumed", {}), *self._order()]

    def _move_to(self, node: NodeId) -> list[Effect]:
        """Requests wait meanwhile: with the next leader, or here when it comes to nothing. [Ongaro14 3.10]"""
        if self.replication is None:
            return []
        self.move = Move(node, self.log, self.replication)
        begun = Note("leader-move", {"to": node, "term": self.current_term})
        return [begun, SetTimer(MOVE, self.config.election_timeout_max_us), *self.move.advance()]

    def _on_move_timeout(self) -> list[Effect]:
        """It has come to nothing: this leader goes on. Should the other one stand yet, that is an election."""
        if self.move is None:
            return []
        abandoned = Note("leader-move-abandoned", {"to": self.move.node, "told": self.move.told})
        self.move = None
        return [abandoned, *self._order()]

    def _on_timeout_now(self, now: Micros, sender: NodeId, message: TimeoutNow) -> list[Effect]:
        if message.leader_id != sender:
            return self._nonsense(sender, "leader_id is not the sender")
        if message.term > self.current_term:
            return self.election.observe(now, message.term, f"node {sender} is in term {message.term}")
        may_lead = self.may_stand() and self.log.configuration.votes(self.me) and self.witness.may_vote(now)
        if message.term < self.current_term or sender != self.leader or not may_lead:
            return []
        return self.election.stand_for(now, sender)

    # -------------------------------------------------------------------------------------------------- its own word

    def status(self) -> Status:
        return report.status(self)

    def check_invariants(self) -> None:
        election = self.election
        for part in (self.log, election, self.machine, self.receiver, self.reads):
            part.check_invariants()
        leads = election.role is Role.LEADER
        assert leads == (self.replication is not None), "a leader's objects exist while it leads"
        assert leads or self.move is None, "a move ends with the term"
        assert leads == (self.reconfiguration is not None), "changes are a leader's"
        if self.replication is not None and self.requests is not None and self.sender is not None:
            assert self.replication.current_term == election.current_term, "a leader's objects are of its term"
            assert not self.machine.installing, "a leader's own log is on disk"
            self.replication.check_invariants()
            self.requests.check_invariants()
            self.sender.check_invariants()


def answers_this_term(reply: AppendReply) -> bool:
    """Whether a reply of the present term answers a question of it. One of an older term is refused for that alone,
    with nothing in the way; its round is one of that term, and confirms none of this one (HAZARDS R12, R24)."""
    return reply.success or reply.conflict_index > 0
