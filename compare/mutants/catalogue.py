"""All broken cores that the search is measured by: name, protocol, hazard, and in which modes it is broken.

Here: which ones. Not here: what is wrong with each (`raft_cores`, `pbft_by_chance`, `broken_pbft`). Hazards are rows of
docs/hazards.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

from compare.mutants import broken_pbft, pbft_by_chance, raft_cores
from compare.mutants.base import Mutant, MutantSpec
from compare.mutants.broken_raft import CommitsAlone
from raft import SPEC as RAFT
from replog.core import ProtocolSpec
from replog.errors import ConfigError

BOTH: Final = ("signatures", "macs")


@dataclass(frozen=True)
class Broken:
    """`modes`: of PBFT, in which of them; of Raft none."""

    name: str
    protocol: str
    hazard: str
    summary: str
    spec: ProtocolSpec
    modes: tuple[str, ...] = ()


def _raft(core: type[Any], hazard: str, summary: str) -> Broken:
    name = "raft" + "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in core.__name__)
    return Broken(name, "raft", hazard, summary, MutantSpec(cast("ProtocolSpec", RAFT), core))


_CORES: Final = raft_cores
RAFT_MUTANTS: Final = (
    _raft(_CORES.VotesTwice, "R7", "it votes for everybody who asks"),
    _raft(_CORES.VotesForAnyLog, "R8", "it votes for servers whose log is behind its own"),
    _raft(_CORES.ComparesLengthOnly, "R8", "of two logs the longer one is newer, whatever its last term"),
    _raft(_CORES.ForgetsItsVote, "R1", "the vote is not on disk"),
    _raft(_CORES.CountsMessages, "R7", "votes are counted by message, not by voter"),
    _raft(_CORES.CountsOldVotes, "R7", "votes of older terms count"),
    _raft(_CORES.CountsPreVotes, "R6", "an answer to a pre-vote counts as a vote"),
    _raft(_CORES.HearsNoLeader, "R19", "it votes although it hears a leader"),
    _raft(_CORES.ForgetsWhomItHeard, "R19", "a later term ends its loyalty"),
    _raft(_CORES.PreVotesForAnyLog, "R4", "pre-votes for servers that are behind"),
    _raft(_CORES.PreVotesInAnyTerm, "R4", "pre-votes for terms of old"),
    _raft(_CORES.LeadsAlone, "R5", "a leader that hears nobody goes on"),
    _raft(_CORES.CommitsOldTerms, "R8", "entries of older terms are committed by counting"),
    _raft(CommitsAlone, "R2", "a leader commits what it has appended without waiting for anybody"),
    _raft(_CORES.CutsMatchingSuffix, "R9", "a late message cuts off what matches"),
    _raft(_CORES.CommitsUnverified, "R10", "it commits what this message did not verify"),
    _raft(_CORES.AppliesBeforeCommit, "R10", "it commits what it has appended"),
    _raft(_CORES.AcknowledgesBeforeDisk, "R2", "it acknowledges what is not on its disk yet"),
    _raft(_CORES.CutsCommitted, "R11", "committed entries can be cut off"),
    _raft(_CORES.CountsReplicas, "R2", "two of five are enough to commit"),
    _raft(_CORES.MatchIndexFalls, "R12", "late replies move match_index back"),
    _raft(_CORES.BelievesLateRejections, "R12", "late rejections move next_index back"),
    _raft(_CORES.TakesOldForLost, "R12", "a late rejection counts as a lost disk"),
    _raft(_CORES.CountsOldReplies, "R12", "replies of older terms count"),
    _raft(_CORES.SpeaksBeforeItsWrite, "R2", "it says committed before its own entry is on its disk"),
    _raft(_CORES.BeginsWithoutNoOp, "R24", "a term begins without an entry of its own"),
    _raft(_CORES.ReadsBeforeItsTermCommits, "R24", "it reads before an entry of its term is committed"),
    _raft(_CORES.ReadsUnconfirmed, "R24", "a read is not confirmed by a round"),
    _raft(_CORES.CountsAnswersToEarlierRounds, "R24", "answers to earlier rounds confirm a read"),
    _raft(_CORES.BelievesOldIndexes, "R24", "an answer to an older question is taken for a newer one's"),
    _raft(_CORES.LeasesTooLong, "R25", "a lease lasts as long as a time-out, from the answer on"),
    _raft(_CORES.LeasesWithoutDrift, "R25", "a lease leaves no room for drifting clocks"),
    _raft(_CORES.VotesRightAfterItsStart, "R25", "after a restart it votes while another's lease may run"),
    _raft(_CORES.KeepsConflictingSuffix, "R13", "what conflicts with a snapshot is kept behind it"),
    _raft(_CORES.AcknowledgesUnsavedState, "R2", "it acknowledges on a state that is not on its disk"),
    _raft(_CORES.InstallsOlderState, "R14", "an older snapshot is installed"),
    _raft(_CORES.CountsOldSnapshotReplies, "R12", "answers to snapshots of older terms count"),
    _raft(_CORES.TrimsItsVote, "R1", "the vote is trimmed away with the log"),
    _raft(_CORES.TransfersWithoutEnd, "R15", "a transfer without progress is never given up"),
)


def _pbft(mutants: Iterable[Mutant]) -> list[Broken]:
    """One for what is broken alike in both modes."""
    found: dict[str, Broken] = {}
    for mutant in mutants:
        name, _, mode = mutant.name.rpartition("-")
        known = found.get(f"pbft-{name}")
        if known is not None and mutant.name not in APART:
            found[known.name] = Broken(
                known.name, "pbft", known.hazard, known.summary, known.spec, (*known.modes, mode)
            )
        else:
            title = f"pbft-{mutant.name}" if mutant.name in APART else f"pbft-{name}"
            found[title] = Broken(title, "pbft", mutant.hazard, mutant.summary, mutant.spec, (mode,))
    return list(found.values())


APART: Final = ("forgets-prepared-macs", "any-new-view-macs")
"""Other functions are broken there than under signatures."""
_WEAK = next(mutant for mutant in broken_pbft.MUTANTS if mutant.name == "pbft-weak-prepare")
PBFT_MUTANTS: Final = (
    *_pbft((*pbft_by_chance.MUTANTS, *pbft_by_chance.MISSED)),
    Broken(_WEAK.name, "pbft", _WEAK.hazard, _WEAK.summary, _WEAK.spec, ("signatures",)),
)


@cache
def catalogue() -> dict[str, Broken]:
    return {mutant.name: mutant for mutant in (*PBFT_MUTANTS, *RAFT_MUTANTS)}


def mutant_named(name: str) -> Broken:
    """Raises ConfigError for an unknown one."""
    if name not in catalogue():
        raise ConfigError(f"mutant {name!r:.60}: unknown; replog hunt --mutant list shows them")
    return catalogue()[name]
