"""PBFT with one rule taken out each time, for random lies and faults to find: see the scenario `random-byzantine`.

A mutant replaces methods of parts of the core; `broken` puts them in front of the parts of either core, so that most
rules are taken out under signatures and under MACs alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from compare.mutants.base import Mutant, MutantSpec
from pbft import SPEC
from pbft.acceptance import Acceptance
from pbft.checkpoint import Checkpoints, ClaimedCheckpoints
from pbft.core import PbftCore
from pbft.execution import Execution
from pbft.mac_view_change import MacViewChanges
from pbft.macs import MacAcceptance, MacCore
from pbft.messages import NULL, Batch, CheckpointProof, Claim, Committed, PrePrepare
from pbft.notary import Notary
from pbft.ordering import Ordering
from pbft.patience import Patience
from pbft.reads import Reads
from pbft.requests import Requests
from pbft.slots import Slot
from pbft.view_change import Asking, ViewChanges
from replog.codec import BadMessage
from replog.core import ClientRules, Core, Effect, Setup
from replog.types import Message, NodeId, Request

PARTS: Final[dict[type[Any], str]] = {
    Notary: "notary_type",
    Ordering: "ordering_type",
    Checkpoints: "checkpoints_type",
    Asking: "view_changes_type",
    Requests: "requests_type",
    Patience: "patience_type",
    Execution: "execution_type",
    Acceptance: "acceptance_type",
    Reads: "reads_type",
}


def broken(*changes: type[Any]) -> Callable[[Setup], Core]:
    """A core with these in front of what they change: a part, or the core itself."""

    def make(setup: Setup) -> Core:
        base: type[PbftCore] = MacCore if setup.config.auth == "macs" else PbftCore
        bases = [change for change in changes if issubclass(change, PbftCore)]
        parts = {}
        for change in changes:
            for kind, name in PARTS.items():
                if issubclass(change, kind):
                    parts[name] = type(change.__name__, (change, getattr(base, name)), {})
        core: Core = type("Broken", (*bases, base), parts)(setup)
        return core

    make.changes = changes  # type: ignore[attr-defined]
    return make


# -------------------------------------------------------------------------------------------------- quorums, signatures


class _QuorumOfTwo(Notary):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.quorum = 2


class _OneIsEnough(Notary):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.weak_quorum = 1


class _ChecksNoSignature(Notary):
    def check(self, *_: Any) -> bool:
        return True


class _TakesAnyCommitProof(Notary):
    def flaw_in_commit(self, *_: Any) -> str:
        return ""


class _TakesAnyCheckpointProof(Notary):
    def flaw_in_checkpoint(self, *_: Any) -> str:
        return ""


class _TakesAnyViewChange(Notary):
    def flaw_in_view_change(self, *_: Any) -> str:
        return ""


# ------------------------------------------------------------------------------------------------------- normal case


class _TrustsRequests(Requests):
    def verify(self, request: Request) -> bool:
        return True


def _batch(message: PrePrepare) -> Batch | None:
    try:
        return Batch.read(message.time, message.requests)
    except BadMessage:
        return None


class _TrustsDigests(Acceptance):
    def on_pre_prepare(self, sender: NodeId, message: PrePrepare) -> list[Effect]:
        if sender != self.notary.primary(message.view) or self._is_early(sender, message):
            return []
        slot = self.ordering.slot(message.seq)
        if slot.digest is not None or not self.notary.check_pre_prepare(
            message.view, message.seq, message.digest, message.signature
        ):
            return []
        batch = _batch(message)
        if batch is None or not batch.requests:
            return []
        batch.digest = message.digest
        return self.ordering.accept(message, batch)


class _TakesTheSecond(Acceptance):
    def _again(self, message: PrePrepare) -> list[Effect]:
        batch = _batch(message)
        return self.ordering.accept(message, batch) if batch is not None and batch.digest == message.digest else []


class _TakesAnyProposer(Acceptance):
    def on_pre_prepare(self, sender: NodeId, message: PrePrepare) -> list[Effect]:
        return super().on_pre_prepare(self.notary.primary(message.view), message)


class _TakesAnyVoter(Acceptance):
    def on_vote(self, sender: NodeId, message: Any) -> list[Effect]:
        return super().on_vote(message.replica, message)


class _TakesAnyView(Acceptance):
    def _is_early(self, sender: NodeId, message: Any) -> bool:
        return not self.ordering.in_window(message.seq) or not self.ordering.active


class _BelievesOne(MacAcceptance):
    def decide(self, sender: NodeId, message: Committed, batch: Batch) -> list[Effect]:
        self.ordering.decide_by(message, batch)
        return []


class _DoubtsNothing(Acceptance):
    def doubt(self, message: PrePrepare, batch: Batch, request: Request) -> list[Effect]:
        return self.ordering.accept(message, batch)


class _CountsThePrimary(Ordering):
    def on_prepare(self, message: Any) -> list[Effect]:
        slot = self.slot(message.seq)
        self._hear(slot.prepares, message)
        return self._advance(slot)


class _PreparesTooSoon(Ordering):
    def is_prepared(self, slot: Slot) -> bool:
        return slot.body is not None and slot.prepares.good.count(slot.body.digest) >= 1


class _CommitsTooSoon(Ordering):
    def is_committed(self, slot: Slot, digest: bytes) -> bool:
        return slot.commits.good.count(digest) >= self._notary.quorum - 1


class _ExecutesThePrepared(Ordering):
    def is_committed(self, slot: Slot, digest: bytes) -> bool:
        return slot.prepared is not None and slot.prepared.digest == digest


class _FetchesNoBodies(Ordering):
    def fetch_bodies(self) -> list[Effect]:
        return []


class _KeepsWhatWasTentative(Execution):
    def _stands(self, slot: Slot | None) -> bool:
        return slot is not None


class _ReadsAtOnce(Reads):
    def needed(self) -> int:
        return 0


# ---------------------------------------------------------------------------------------------- checkpoints, restarts


class _OneWordProves(ClaimedCheckpoints):
    def _claim(self, sender: NodeId, seq: int, digest: bytes) -> None:
        super()._claim(sender, seq, digest)
        self.learn(CheckpointProof(seq, digest, []))


class _OwnIsStable(Checkpoints):
    def on_own(self, seq: int, digest: bytes) -> list[Effect]:
        effects = super().on_own(seq, digest)
        self.learn(CheckpointProof(seq, digest, []))
        return effects

    def is_certain(self, proof: CheckpointProof) -> bool:
        return True


class _Amnesiac(PbftCore):
    def _recall(self) -> None: ...


# -------------------------------------------------------------------------------------------------------- view changes


class _ForgetsThePrepared(ViewChanges):
    def choose(self, view_changes: Any) -> Any:
        low, chosen = super().choose(view_changes)
        return low, [item if isinstance(item, int) else item.seq for item in chosen]


class _ForgetsThePlaced(MacViewChanges):
    def choose(self, messages: Any) -> Any:
        choice = super().choose(messages)
        return choice and (choice[0], [Claim(claim.seq, NULL.digest) for claim in choice[1]])


class _TakesTheLowestView(ViewChanges):
    def choose(self, view_changes: Any) -> Any:
        low, chosen = super().choose(view_changes)
        proofs = [proof for part in view_changes for proof in part.prepared]
        lowest = {proof.seq: proof for proof in sorted(proofs, key=lambda proof: -proof.view)}
        return low, [lowest.get(item if isinstance(item, int) else item.seq, item) for item in chosen]


class _TakesAnyNewView(ViewChanges):
    def flaw_in_new_view(self, message: Any) -> str:
        return ""

    def flaw_in_choice(self, message: Any) -> str:
        return ""


class _FollowsAny(MacViewChanges):
    def follows(self, *_: Any) -> bool:
        return True


class _SkipsA1(MacViewChanges):
    def is_uncontradicted(self, *_: Any) -> bool:
        return True


class _SkipsA2(MacViewChanges):
    def is_voted(self, *_: Any) -> bool:
        return True


class _NeedsNoAcknowledgement(MacViewChanges):
    def _is_acknowledged(self, message: Any) -> bool:
        return True


class _JoinsAtOne(Asking[Any, Any]):
    def wanted(self, view: int) -> int | None:
        return max((message.view for message in self.heard.values() if message.view > view), default=None)


class _RepeatsNothing(PbftCore):
    def _repeat_view_change(self) -> list[Effect]:
        return []


class _NeverGivesUp(Patience):
    def wait_for(self, now: int, target: Any) -> list[Effect]:
        return []


class _ForgetsItsView(Asking[Any, Any]):
    def hard_state(self, active: bool) -> list[Message]:
        return []

    def recall(self, record: Any) -> None: ...


# ------------------------------------------------------------------------------------------------------------- clients


def _one_reply(rules: ClientRules) -> ClientRules:
    return replace(rules, reply_quorum=1)


def _weak_reads(rules: ClientRules) -> ClientRules:
    return replace(rules, read_quorum=min(rules.read_quorum, rules.reply_quorum))


def _weak_tentative(rules: ClientRules) -> ClientRules:
    return replace(rules, tentative_quorum=min(rules.tentative_quorum, rules.reply_quorum))


# --------------------------------------------------------------------------------------------------------------- table

BOTH: Final = ("signatures", "macs")
SIGNATURES: Final = ("signatures",)
MACS: Final = ("macs",)
SEEDS: Final = 30
"""How many seeds of its mode each mutant gets."""

Rules = Callable[[ClientRules], ClientRules]


def seeds_of(auth: str, number: int = SEEDS) -> range:
    """The first seeds that `random-byzantine` runs in this mode."""
    return range(1, 2 * number, 2) if auth == "macs" else range(2, 2 * number + 1, 2)


def _in(
    auths: Sequence[str], name: str, hazard: str, summary: str, *changes: type[Any], rules: Rules | None = None
) -> list[Mutant]:
    """One for each mode."""
    spec = MutantSpec(SPEC, broken(*changes), rules=rules)
    return [Mutant(f"{name}-{auth}", hazard, summary, "random-byzantine", seeds_of(auth), spec) for auth in auths]


MUTANTS: Final = (
    *_in(BOTH, "quorum-of-two", "P28", "two replicas are a quorum everywhere", _QuorumOfTwo),
    *_in(MACS, "one-is-enough", "P43", "one replica is a weak quorum", _OneIsEnough),
    *_in(SIGNATURES, "no-signature", "P23", "any signature is good", _ChecksNoSignature),
    *_in(SIGNATURES, "any-checkpoint-proof", "P9", "any proof of a checkpoint is good", _TakesAnyCheckpointProof),
    *_in(BOTH, "trusts-requests", "P35", "nobody asks whether the client signed a request", _TrustsRequests),
    *_in(BOTH, "trusts-digests", "P18", "the body is not hashed", _TrustsDigests),
    *_in(MACS, "believes-one", "P43", "one replica's word decides a batch", _BelievesOne),
    *_in(BOTH, "prepares-too-soon", "P25", "one PREPARE makes a batch prepared", _PreparesTooSoon),
    *_in(MACS, "one-word-proves", "P42", "one replica's word proves a checkpoint", _OneWordProves),
    *_in(SIGNATURES, "own-is-stable", "P44", "the own checkpoint is stable at once", _OwnIsStable),
    *_in(MACS, "amnesiac", "P16", "a restart forgets what was promised", _Amnesiac),
    *_in(SIGNATURES, "forgets-prepared", "P3", "a new view begins with null requests", _ForgetsThePrepared),
    *_in(MACS, "forgets-prepared", "P3", "a new view begins with null requests", _ForgetsThePlaced),
    *_in(SIGNATURES, "any-new-view", "P4", "any NEW-VIEW is good", _TakesAnyNewView),
    *_in(BOTH, "never-gives-up", "P37", "backups wait for the primary for ever", _NeverGivesUp),
    *_in(BOTH, "one-reply", "P39", "a client takes the first answer", rules=_one_reply),
)

MISSED: Final = (
    *_in(SIGNATURES, "one-is-enough", "P11", "one replica is a weak quorum", _OneIsEnough),
    *_in(SIGNATURES, "any-commit-proof", "P27", "any commit certificate is good", _TakesAnyCommitProof),
    *_in(SIGNATURES, "any-view-change", "P1", "any VIEW-CHANGE is good", _TakesAnyViewChange),
    *_in(BOTH, "takes-the-second", "P17", "a second pre-prepare replaces the first", _TakesTheSecond),
    *_in(MACS, "any-proposer", "P23", "anybody's pre-prepare counts as the primary's", _TakesAnyProposer),
    *_in(MACS, "any-voter", "P7", "a vote counts for whomever it names", _TakesAnyVoter),
    *_in(BOTH, "any-view", "P22", "votes of other views count", _TakesAnyView),
    *_in(BOTH, "doubts-nothing", "P31", "what its MAC does not vouch for is voted for", _DoubtsNothing),
    *_in(BOTH, "counts-the-primary", "P19", "the primary's PREPARE counts", _CountsThePrimary),
    *_in(BOTH, "commits-too-soon", "P25", "one COMMIT less than a quorum decides", _CommitsTooSoon),
    *_in(BOTH, "executes-prepared", "P25", "what is prepared is decided", _ExecutesThePrepared),
    *_in(BOTH, "no-bodies", "P15", "bodies are not fetched", _FetchesNoBodies),
    *_in(BOTH, "keeps-tentative", "P26", "what a new view replaced stays executed", _KeepsWhatWasTentative),
    *_in(BOTH, "reads-at-once", "P40", "a read does not wait for what may be accepted", _ReadsAtOnce),
    *_in(MACS, "own-is-stable", "P44", "the own checkpoint is stable at once", _OwnIsStable),
    *_in(SIGNATURES, "amnesiac", "P16", "a restart forgets what was promised", _Amnesiac),
    *_in(SIGNATURES, "lowest-view", "P3", "a new view takes what the lowest view prepared", _TakesTheLowestView),
    *_in(MACS, "any-new-view", "P4", "any NEW-VIEW is good", _FollowsAny),
    *_in(MACS, "skips-a1", "P3", "a new view's choice may be contradicted", _SkipsA1),
    *_in(MACS, "skips-a2", "P3", "one replica's P is enough for a choice", _SkipsA2),
    *_in(MACS, "no-acknowledgement", "P6", "a view-change counts unacknowledged", _NeedsNoAcknowledgement),
    *_in(BOTH, "joins-at-one", "P11", "one complaint changes the view", _JoinsAtOne),
    *_in(BOTH, "repeats-nothing", "P10", "VIEW-CHANGE is said once", _RepeatsNothing),
    *_in(BOTH, "forgets-its-view", "P16", "a restart forgets the view", _ForgetsItsView),
    *_in(BOTH, "weak-reads", "P39", "f + 1 answers to a read are enough", rules=_weak_reads),
    *_in(BOTH, "weak-tentative", "P39", "f + 1 tentative answers are enough", rules=_weak_tentative),
)
"""Not found when they were last tried: what is wrong with them takes an aim, or does no harm that a judge can see."""
