"""PBFT with one rule taken out each time. Overrides of the real core: what is not named here is the honest code."""

from __future__ import annotations

from collections.abc import Sequence

from compare.mutants.base import Mutant, MutantSpec
from pbft import SPEC
from pbft.core import PbftCore
from pbft.messages import CheckpointProof, PreparedProof, ViewChange
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.slots import Slot
from pbft.view_change import ViewChanges
from replog.core import Setup


class _TwoAreEnough(Notary):
    """P28: two of four do not share a correct replica with every other two."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.quorum = 2


class QuorumOfTwo(PbftCore):
    notary_type = _TwoAreEnough


class _OnePrepare(Notary):
    """P1, P25: the certificate of one backup alone, its own, counts as prepared."""

    def flaw_in_prepared(self, proof: PreparedProof) -> str:
        if not proof.votes:
            return "prepared: no votes"
        if not self.check_pre_prepare(proof.view, proof.seq, proof.digest, proof.signature):
            return "prepared: bad signature of the pre-prepare"
        return self._flaw_in_votes("prepare", (proof.view, proof.seq, proof.digest), proof.votes, len(proof.votes))


class _PreparedByOne(Ordering):
    def is_prepared(self, slot: Slot) -> bool:
        return slot.body is not None and slot.prepares.good.count(slot.body.digest) >= 1


class WeakPrepare(PbftCore):
    notary_type = _OnePrepare
    ordering_type = _PreparedByOne


class _Forgetful(ViewChanges):
    """P3: a new view begins with null requests where something was prepared."""

    def choose(self, view_changes: Sequence[ViewChange]) -> tuple[CheckpointProof, list[PreparedProof | int]]:
        low, chosen = super().choose(view_changes)
        return low, [item if isinstance(item, int) else item.seq for item in chosen]


class ForgetfulNewView(PbftCore):
    view_changes_type = _Forgetful


MUTANTS = (
    Mutant(
        "pbft-quorum-two",
        "P28",
        "two replicas are a quorum everywhere",
        "equivocating-leader",
        range(1, 21),
        MutantSpec(SPEC, QuorumOfTwo),
    ),
    Mutant(
        "pbft-weak-prepare",
        "P1",
        "one PREPARE makes a batch prepared; commits still need a quorum",
        "equivocation-view-change",
        range(1, 21),
        MutantSpec(SPEC, WeakPrepare),
    ),
    Mutant(
        "pbft-new-view-forgets",
        "P3",
        "a new view puts null requests where the old one had prepared something",
        "equivocation-view-change",
        range(1, 21),
        MutantSpec(SPEC, ForgetfulNewView),
    ),
)
