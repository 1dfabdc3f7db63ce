"""Cores of Raft that are broken in one way each: methods of the real one replaced, all else is the honest code."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import msgspec

from raft import RaftCore
from raft.configuration import Configuration
from raft.election import Election, Role
from raft.log import Log
from raft.membership import Reconfiguration
from raft.messages import (
    AppendEntries,
    AppendReply,
    Entry,
    HardState,
    InstallSnapshot,
    LogStart,
    Place,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    Witnessed,
)
from raft.reads import ReadIndexes
from raft.replication import Mode, Progress, Replication
from raft.snapshot import Receiver, Sender, Snapshot
from raft.witness import Witness
from replog.core import Effect, Event, Persist, Reply, Send, Setup, Timeout
from replog.types import NOBODY, Micros, NodeId

# ---------------------------------------------------------------------------------------------------------- elections


class _VotesTwice(Election):
    def grants(self, message: RequestVote) -> bool:
        return message.term == self.current_term and self.log.up_to_date(message.last_log_index, message.last_log_term)


class VotesTwice(RaftCore):
    election_class = _VotesTwice


class _VotesForAnyLog(Election):
    def grants(self, message: RequestVote) -> bool:
        return message.term == self.current_term and self.voted_for in (NOBODY, message.candidate_id)


class VotesForAnyLog(RaftCore):
    election_class = _VotesForAnyLog


class _ComparesLengthOnly(Log):
    def up_to_date(self, last_log_index: int, last_log_term: int) -> bool:
        return last_log_index >= self.last_index


class ComparesLengthOnly(RaftCore):
    log_class = _ComparesLengthOnly


class _ForgetsItsVote(Election):
    def _promise(self) -> Persist:
        return Persist(HardState(self.current_term, NOBODY), 0)


class ForgetsItsVote(RaftCore):
    election_class = _ForgetsItsVote


class _CountsMessages(Election):
    received = 1

    def _ask(self, now: Micros, role: Role) -> list[Effect]:
        self.received = 1
        return super()._ask(now, role)

    def _count(self, now: Micros, sender: NodeId, granted: bool) -> list[Effect]:
        self.received += granted
        return self._won(now) if self.received > len(self.log.configuration.voters) // 2 else []


class CountsMessages(RaftCore):
    election_class = _CountsMessages


class _CountsOldVotes(Election):
    def on_vote_reply(self, now: Micros, sender: NodeId, message: VoteReply) -> list[Effect]:
        if self.role is not Role.CANDIDATE:
            return super().on_vote_reply(now, sender, message)
        return self._count(now, sender, message.vote_granted)


class CountsOldVotes(RaftCore):
    election_class = _CountsOldVotes


class _CountsPreVotes(Election):
    def on_pre_vote_reply(self, now: Micros, sender: NodeId, message: PreVoteReply) -> list[Effect]:
        if self.role is Role.CANDIDATE and message.term <= self.current_term:
            return self._count(now, sender, message.vote_granted)
        return super().on_pre_vote_reply(now, sender, message)


class CountsPreVotes(RaftCore):
    election_class = _CountsPreVotes


class _HearsNoLeader(Election):
    def hears_leader(self, now: Micros) -> bool:
        return False


class HearsNoLeader(RaftCore):
    election_class = _HearsNoLeader


class _ForgetsWhomItHeard(Election):
    def hears_leader(self, now: Micros) -> bool:
        return self.leader != NOBODY and super().hears_leader(now)


class ForgetsWhomItHeard(RaftCore):
    election_class = _ForgetsWhomItHeard


class _StaysLoyalInOlderTermsOnly(Election):
    def _stays_loyal(self, now: Micros, message: RequestVote) -> bool:
        return message.term > self.current_term and super()._stays_loyal(now, message)


class StaysLoyalInOlderTermsOnly(RaftCore):
    election_class = _StaysLoyalInOlderTermsOnly


class _FollowsWhoIsGone(Election):
    def on_election_timeout(self, now: Micros, eligible: bool) -> list[Effect]:
        return super().on_election_timeout(now, eligible) if eligible else self._arm(now)


class FollowsWhoIsGone(RaftCore):
    election_class = _FollowsWhoIsGone


class _PreVotesForAnyLog(Election):
    def on_pre_vote(self, now: Micros, sender: NodeId, message: PreVote) -> list[Effect]:
        granted = message.term > self.current_term and not self.hears_leader(now)
        return [Send((sender,), PreVoteReply(self.current_term, message.term, granted))]


class PreVotesForAnyLog(RaftCore):
    election_class = _PreVotesForAnyLog


class _PreVotesInAnyTerm(Election):
    def on_pre_vote(self, now: Micros, sender: NodeId, message: PreVote) -> list[Effect]:
        granted = self.log.up_to_date(message.last_log_index, message.last_log_term) and not self.hears_leader(now)
        return [Send((sender,), PreVoteReply(self.current_term, message.term, granted))]


class PreVotesInAnyTerm(RaftCore):
    election_class = _PreVotesInAnyTerm


class _HearsEverybody(Replication):
    def heard_since(self, since: Micros) -> list[NodeId]:
        return [self.me, *self.progress]


class LeadsAlone(RaftCore):
    replication_class = _HearsEverybody


# -------------------------------------------------------------------------------------------------------- replication


class CommitsOldTerms(RaftCore):
    def may_commit(self, index: int) -> bool:
        return True


class _CutsAlways(Log):
    def first_new(self, prev_log_index: int, entries: Sequence[Entry]) -> int | None:
        return 0 if entries else None


class CutsMatchingSuffix(RaftCore):
    log_class = _CutsAlways

    def _accept(self, sender: NodeId, message: AppendEntries) -> list[Effect]:
        commit_index, self.machine.commit_index = self.commit_index, 0
        effects = super()._accept(sender, message)
        self.machine.commit_index = max(commit_index, self.commit_index)
        return effects


class CommitsUnverified(RaftCore):
    def _follow_commit(self, leader_commit: int, verified: int) -> list[Effect]:
        index = min(leader_commit, self.log.last_index)
        return self._commit_to(index) if index > self.commit_index else []


class AppliesBeforeCommit(RaftCore):
    def _follow_commit(self, leader_commit: int, verified: int) -> list[Effect]:
        return super()._follow_commit(verified, verified)


class AcknowledgesBeforeDisk(RaftCore):
    def _accept(self, sender: NodeId, message: AppendEntries) -> list[Effect]:
        effects = super()._accept(sender, message)
        return sorted(effects, key=lambda effect: isinstance(effect, Persist))


class CutsCommitted(RaftCore):
    def _accept(self, sender: NodeId, message: AppendEntries) -> list[Effect]:
        commit_index, self.machine.commit_index = self.commit_index, 0
        effects = super()._accept(sender, message)
        self.machine.commit_index = max(commit_index, self.commit_index)
        return effects


class CountsReplicas(RaftCore):
    """Two of five are enough for it."""

    def _commit(self) -> list[Effect]:
        if self.replication is None:
            return []
        reached = sorted(self.replication.match_index().values(), reverse=True)
        index = reached[1]
        return self._commit_to(index) if index > self.commit_index and self.may_commit(index) else []


class _Falls(Progress):
    __slots__ = ()

    def advance(self, match_index: int) -> None:
        super().advance(match_index)
        self.match_index = match_index


class _ProgressFalls(Replication):
    progress_class = _Falls


class MatchIndexFalls(RaftCore):
    replication_class = _ProgressFalls


class _BelievesLateRejections(Progress):
    __slots__ = ()

    def is_late(self, rejected: AppendReply) -> bool:
        return False


class _ProgressBelieves(Replication):
    progress_class = _BelievesLateRejections


class BelievesLateRejections(RaftCore):
    replication_class = _ProgressBelieves


class _BelievesWhatItDidNotAsk(Progress):
    __slots__ = ()

    def is_late(self, rejected: AppendReply) -> bool:
        return rejected.prev_log_index < self.next_index and super().is_late(rejected)


class _ProgressBelievesMore(Replication):
    progress_class = _BelievesWhatItDidNotAsk


class BelievesRejectionsOfWhatItDidNotAsk(RaftCore):
    replication_class = _ProgressBelievesMore


class _AsksTheSameAgain(Progress):
    __slots__ = ()

    def is_late(self, rejected: AppendReply) -> bool:
        if self.mode is Mode.PROBE:
            return rejected.prev_log_index != self.next_index - 1
        return super().is_late(rejected)


class _ProgressAsksTheSame(Replication):
    progress_class = _AsksTheSameAgain


class AsksWithoutEnd(RaftCore):
    replication_class = _ProgressAsksTheSame


class _TakesOldForLost(Progress):
    __slots__ = ()

    def denies(self, rejected: AppendReply) -> bool:
        return rejected.prev_log_index <= self.match_index


class _ProgressTakesOld(Replication):
    progress_class = _TakesOldForLost


class TakesOldForLost(RaftCore):
    replication_class = _ProgressTakesOld


class _StepsBackOneByOne(Replication):
    """[Raft fig. 2] as it stands, without what 5.3 adds: safe, and slow."""

    def rejected(self, node: NodeId, message: AppendReply) -> bool:
        progress = self.progress[node]
        if progress.is_late(message):
            return False
        progress.back_to(message.prev_log_index)
        return not self._compacted(progress)


class StepsBackOneByOne(RaftCore):
    replication_class = _StepsBackOneByOne


class _SendsWithoutWindow(Replication):
    def _hungry(self) -> list[NodeId]:
        for progress in self.progress.values():
            progress.unanswered.clear()
        return super()._hungry()


class SendsWithoutWindow(RaftCore):
    replication_class = _SendsWithoutWindow


class _StreamsAtOnce(Progress):
    __slots__ = ()

    def back_to(self, next_index: int) -> None:
        super().back_to(next_index)
        self.mode = Mode.REPLICATE


class _ProgressStreams(Replication):
    progress_class = _StreamsAtOnce


class StreamsWhileItAsks(RaftCore):
    replication_class = _ProgressStreams


class SpeaksBeforeItsWrite(RaftCore):
    """Its own record comes last: what tells of a commit does not wait for it."""

    def step(self, now: Micros, event: Event) -> list[Effect]:
        effects = super().step(now, event)
        if self.role is not Role.LEADER:
            return effects
        self.held, effects = [e for e in effects if type(e) is Persist], [e for e in effects if type(e) is not Persist]
        return effects


class WritesBeforeItSends(RaftCore):
    def _propose(self) -> list[Effect]:
        return sorted(super()._propose(), key=lambda effect: not isinstance(effect, Persist))


class AppliesAllAtOnce(RaftCore):
    def _commit_to(self, index: int) -> list[Effect]:
        effects = super()._commit_to(index)
        while self.last_applied < self.commit_index:
            effects = [*effects, *self.machine.apply()]
        return effects


class CountsOldReplies(RaftCore):
    def _on_append_reply(self, now: Micros, sender: NodeId, message: AppendReply) -> list[Effect]:
        if self.replication is None or not message.success:
            return super()._on_append_reply(now, sender, message)
        return self._accepted(now, sender, message.match_index)


class CountsAnswersToOlderTerms(RaftCore):
    def _on_append_reply(self, now: Micros, sender: NodeId, message: AppendReply) -> list[Effect]:
        if self.replication is not None and message.term == self.current_term:
            self.replication.heard(sender, now, message.round)
        return super()._on_append_reply(now, sender, message)


class BeginsWithoutNoOp(RaftCore):
    def _append(self, entries: list[Entry], requests: Sequence[Sequence[object]]) -> Persist:
        if entries and not entries[0].requests and self.role is Role.LEADER and self.log.last_index:
            return Persist(HardState(self.current_term, self.voted_for), 0)
        return super()._append(entries, requests)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------------- reads


class _KnowsTooEarly(ReadIndexes):
    def knows_commit(self) -> bool:
        return True


class ReadsBeforeItsTermCommits(RaftCore):
    read_indexes_class = _KnowsTooEarly


class _ConfirmsItself(ReadIndexes):
    def confirmed_round(self) -> int:
        return self.replication.round


class ReadsUnconfirmed(RaftCore):
    read_indexes_class = _ConfirmsItself


class _BelievesEarlierRounds(ReadIndexes):
    """Any answer in the term will do, whenever the question it answers was put."""

    heard = False

    def confirmed_round(self) -> int:
        heard_at = [progress.heard_at for progress in self.replication.progress.values()]
        now = self.now
        return self.replication.round if sum(at >= now for at in heard_at) >= len(heard_at) // 2 else -1

    now = 0

    def advance(self, now: Micros) -> list[Effect]:
        self.now = now
        return super().advance(now)


class CountsAnswersToEarlierRounds(RaftCore):
    read_indexes_class = _BelievesEarlierRounds


class _LeasesTooLong(Replication):
    """From when the answer came, not from when it was asked for; and as long as its own patience."""

    def has_lease(self, now: Micros) -> bool:
        heard = self.heard_since(now - self.config.election_timeout_max_us)
        return self.log.configuration.has_quorum(heard)


class LeasesTooLong(RaftCore):
    replication_class = _LeasesTooLong


class _LeasesWithoutDrift(Replication):
    def has_lease(self, now: Micros) -> bool:
        confirmed = self.confirmed_round()
        self._forget_rounds_before(confirmed)
        return confirmed >= 0 and now - self._begun[0][1] < self.config.election_timeout_min_us


class LeasesWithoutDrift(RaftCore):
    replication_class = _LeasesWithoutDrift


class _VotesRightAfterItsStart(Election):
    def start(self, now: Micros) -> list[Effect]:
        effects = super().start(now)
        self._loyal_until = 0
        return effects


class VotesRightAfterItsStart(RaftCore):
    election_class = _VotesRightAfterItsStart


class _StandsAloneAtOnce(Election):
    def start(self, now: Micros) -> list[Effect]:
        effects = super().start(now)
        return self._stand(now, "alone") if self.log.configuration.has_quorum((self.me,)) else effects


class StandsAloneAtOnce(RaftCore):
    election_class = _StandsAloneAtOnce


class BelievesOldIndexes(RaftCore):
    def _on_read_index_reply(self, now: Micros, sender: NodeId, message: ReadIndexReply) -> list[Effect]:
        self.reads.on_index(self.reads.question, message.read_index)
        return []


# ------------------------------------------------------------------------------------------------------ leadership move


class _KeepsTheLeadersWord(Election):
    def _stand(self, now: Micros, reason: str) -> list[Effect]:
        moves = self._moves
        effects = super()._stand(now, reason)
        self._moves = moves
        return effects


class KeepsTheLeadersWord(RaftCore):
    election_class = _KeepsTheLeadersWord


class StandsWithoutAVote(RaftCore):
    def _on_timeout_now(self, now: Micros, sender: NodeId, message: TimeoutNow) -> list[Effect]:
        believed = message.term == self.current_term and sender == self.leader
        return self.election.stand_for(now, sender) if believed else super()._on_timeout_now(now, sender, message)


class ChangesWhileItMoves(RaftCore):
    def _change_members(self, now: Micros) -> list[Effect]:
        move, self.move = self.move, None
        effects = super()._change_members(now)
        if move is not None:
            self.move = move
        return effects


class _StaysLoyal(Election):
    def _stays_loyal(self, now: Micros, message: RequestVote) -> bool:
        return super()._stays_loyal(now, RequestVote(message.term, message.candidate_id, 0, 0))


class StaysLoyalToAMovingLeader(RaftCore):
    election_class = _StaysLoyal


class MovesToWhoIsBehind(RaftCore):
    def _move_to(self, node: NodeId) -> list[Effect]:
        effects = super()._move_to(node)
        if self.move is not None:
            self.move.told = True
        return [*effects, *(self.move.tell() if self.move is not None else [])]


class OrdersWhileItMoves(RaftCore):
    def _propose(self) -> list[Effect]:
        move, self.move = self.move, None
        effects = super()._propose()
        self.move = move
        return effects


class ForgetsWhatWaits(RaftCore):
    def _end_term(self) -> list[Effect]:
        return [effect for effect in super()._end_term() if not isinstance(effect, Reply)]


class NeverGivesUpAMove(RaftCore):
    def _on_move_timeout(self) -> list[Effect]:
        return []


class KeepsItsMove(RaftCore):
    def _end_term(self) -> list[Effect]:
        move = self.move
        effects = super()._end_term()
        self.move = move
        return effects

    def check_invariants(self) -> None:
        """It would say so itself."""


class LeasesWhileItMoves(RaftCore):
    def _move_to(self, node: NodeId) -> list[Effect]:
        effects = super()._move_to(node)
        if self.replication is not None:
            self.replication.lease_over = False
        return effects


# ---------------------------------------------------------------------------------------------------------- snapshots


class _NeverGivesUp(Sender):
    def tick(self, now: Micros) -> list[Effect]:
        for transfer in self._transfers.values():
            transfer.progress_at = now
        return super().tick(now)


class TransfersWithoutEnd(RaftCore):
    sender_class = _NeverGivesUp


class SnapshotsBySizeOnly(RaftCore):
    def _on_timeout(self, now: Micros, event: Timeout) -> list[Effect]:
        return [] if event.name == "snapshot" else super()._on_timeout(now, event)


class _KeepsWhatItRead(Log):
    def cut(self, first: int) -> None:
        kept = dict(self._parsed)
        super().cut(first)
        self._parsed = kept


class KeepsWhatItReadOfCutEntries(RaftCore):
    log_class = _KeepsWhatItRead


class _KeepsSuffix(Log):
    def install(self, start: LogStart) -> None:
        if self.holds(start.index):
            self.discard_before(start.index)
        else:
            self.restart(start)


class KeepsConflictingSuffix(RaftCore):
    log_class = _KeepsSuffix


class AcknowledgesUnsavedState(RaftCore):
    def _install(self, snapshot: Snapshot) -> list[Effect]:
        effects = super()._install(snapshot)
        self.machine.installing = 0
        return effects


class InstallsOlderState(RaftCore):
    def _on_install_snapshot(self, now: Micros, sender: NodeId, message: InstallSnapshot) -> list[Effect]:
        commit_index, self.machine.commit_index = self.commit_index, 0
        effects = super()._on_install_snapshot(now, sender, message)
        self.machine.commit_index = max(commit_index, self.commit_index)
        return effects


class _TakesAnyOffset(Receiver):
    def _collect(self, message: InstallSnapshot) -> str:
        held = len(self._unfinished.get(message.part, b""))
        return super()._collect(msgspec.structs.replace(message, offset=held))


class PutsChunksTogetherAsTheyCome(RaftCore):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.receiver = _TakesAnyOffset(self.config)


class AnswersOldSnapshotsAsItsOwn(RaftCore):
    def _on_install_snapshot(self, now: Micros, sender: NodeId, message: InstallSnapshot) -> list[Effect]:
        if message.term >= self.current_term:
            return super()._on_install_snapshot(now, sender, message)
        return [Send((sender,), SnapshotReply(self.current_term, message.last_included_index, [], False))]


class CountsOldSnapshotReplies(RaftCore):
    def _on_snapshot_reply(self, now: Micros, sender: NodeId, message: SnapshotReply) -> list[Effect]:
        of_this_term = SnapshotReply(max(message.term, self.current_term), *_but_term(message))
        return super()._on_snapshot_reply(now, sender, of_this_term)


def _but_term(message: SnapshotReply) -> tuple[int, list[int], bool]:
    return message.last_included_index, message.wanted, message.done


class TrimsItsVote(RaftCore):
    def _forget(self, start: LogStart) -> list[Effect]:
        return [effect for effect in super()._forget(start) if not _is_hard_state(effect)]


def _is_hard_state(effect: Effect) -> bool:
    return isinstance(effect, Persist) and isinstance(effect.record, HardState)


# ----------------------------------------------------------------------------------------------------------- membership


class _ElectsWithOneMajority(Election):
    def _count(self, now: Micros, sender: NodeId, granted: bool) -> list[Effect]:
        self._answered.add(sender)
        if granted:
            self._granted.add(sender)
        return self._won(now) if Configuration(self.log.configuration.voters).has_quorum(self._granted) else []


class ElectsWithOneMajority(RaftCore):
    election_class = _ElectsWithOneMajority


class _CommitsWithTheNewMajority(Replication):
    def agreed(self) -> int:
        return Configuration(self.log.configuration.voters).agreed(self.match_index())


class CommitsWithTheNewMajority(RaftCore):
    replication_class = _CommitsWithTheNewMajority


class _CommitsWithTheOldMajority(Replication):
    def agreed(self) -> int:
        configuration = self.log.configuration
        return Configuration(configuration.old_voters or configuration.voters).agreed(self.match_index())


class CommitsWithTheOldMajority(RaftCore):
    replication_class = _CommitsWithTheOldMajority


class _CountsByWhatIsCommitted(Election):
    committed = 0

    def _count(self, now: Micros, sender: NodeId, granted: bool) -> list[Effect]:
        self._answered.add(sender)
        if granted:
            self._granted.add(sender)
        return self._won(now) if self.log.configuration_at(self.committed).has_quorum(self._granted) else []


class CountsFromTheCommit(RaftCore):
    """A configuration is in force when it is committed."""

    election_class = _CountsByWhatIsCommitted

    def step(self, now: Micros, event: Event) -> list[Effect]:
        self.election.committed = self.commit_index  # type: ignore[attr-defined]
        return super().step(now, event)


class _GoesOnBeforeTheCommit(Reconfiguration):
    def may_append(self, committed: int, applied: int) -> bool:
        return True


class GoesOnBeforeTheCommit(RaftCore):
    reconfiguration_class = _GoesOnBeforeTheCommit


class _ChangesInAnyTerm(Reconfiguration):
    def may_append(self, committed: int, applied: int) -> bool:
        return self.log.configuration_index <= min(committed, applied)


class ChangesBeforeItsTermCommits(RaftCore):
    reconfiguration_class = _ChangesInAnyTerm


class _KeepsWhatIsCut(Log):
    def cut(self, first: int) -> None:
        kept = list(self._configurations)
        super().cut(first)
        self._configurations = kept


class KeepsACutConfiguration(RaftCore):
    log_class = _KeepsWhatIsCut


class StandsInItsLatestAlone(RaftCore):
    def may_stand(self) -> bool:
        return super().may_stand() and self.log.configuration.votes(self.me)


class StaysLeader(RaftCore):
    """Outside of C_new."""

    def _resign(self, now: Micros) -> list[Effect]:
        return []


class LeavesWithTheEntry(RaftCore):
    """Steps down as soon as C_new is in its log."""

    def _append_configuration(self, now: Micros, following: Configuration) -> list[Effect]:
        effects = super()._append_configuration(now, following)
        return effects if following.votes(self.me) else [*effects, *self._resign(now)]


class _CountsItself(Replication):
    def agreed(self) -> int:
        configuration = self.log.configuration
        outside = [] if configuration.votes(self.me) else [self.me]
        return Configuration([*configuration.voters, *outside], configuration.old_voters).agreed(self.match_index())


class CountsItselfOutside(RaftCore):
    replication_class = _CountsItself


class _PromotesAtOnce(Reconfiguration):
    def waits_for(self, now: Micros, newcomers: Collection[NodeId]) -> list[NodeId]:
        return []


class PromotesAtOnce(RaftCore):
    reconfiguration_class = _PromotesAtOnce


class _WaitsForEver(Reconfiguration):
    def _give_up(self, present: Configuration, why: dict[NodeId, str]) -> Configuration | None:  # type: ignore[override]
        return None


class WaitsForNewcomersForEver(RaftCore):
    reconfiguration_class = _WaitsForEver


class _WaitsAllTheSame(Reconfiguration):
    def abandon(self) -> str:
        flaw = super().abandon()
        self.abandoned = 0
        return flaw


class WaitsThoughItIsGivenUp(RaftCore):
    reconfiguration_class = _WaitsAllTheSame


class _GivesUpTheNextAsWell(Reconfiguration):
    def _failed(self, now: Micros, waits: Collection[NodeId]) -> dict[NodeId, str]:
        return dict.fromkeys(waits, "") if self.abandoned else super()._failed(now, waits)


class GivesUpTheNextChangeAsWell(RaftCore):
    reconfiguration_class = _GivesUpTheNextAsWell


class _AsksOnAndOn(Election):
    def on_removed(self, now: Micros, index: int) -> list[Effect]:
        return []


class AsksAfterItsRemoval(RaftCore):
    election_class = _AsksOnAndOn


class ForgetsTheConfiguration(RaftCore):
    """A snapshot that is received says nothing of it: the first one is in force."""

    def _install(self, snapshot: Snapshot) -> list[Effect]:
        return super()._install(replace(snapshot, configuration=Configuration([0, 1, 2])))


class _BelievesNobody(Witness):
    def may_vote(self, now: Micros) -> bool:
        return True

    def _lose(self, sender: NodeId, place: Place) -> list[Effect]:
        return []


class VotesWithAnOldDisk(RaftCore):
    """Before it is told anything, and whatever it is told."""

    witness_class = _BelievesNobody


class _WaitsForNobody(Witness):
    def may_vote(self, now: Micros) -> bool:
        return self.lost is None


class VotesBeforeItIsTold(RaftCore):
    witness_class = _WaitsForNobody


class _WritesNothing(Witness):
    def record(self, index: int) -> Persist:
        return Persist(Witnessed({}, None), index)


class ForgetsWhatItWitnessed(RaftCore):
    witness_class = _WritesNothing


class _CountsWhatIsNew(Witness):
    def promised(self, term: int, index: int) -> None:
        pass


class TakesNewPromisesForLost(RaftCore):
    """What it has promised since it started it takes for what it had before."""

    witness_class = _CountsWhatIsNew
