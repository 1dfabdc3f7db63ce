"""[CL99 4.3] Checkpoints and the end of the log; what outlives a restart or a power cut."""

from __future__ import annotations

from typing import Any

from replog.core import Persist, SaveState
from replog.executor import Snapshot
from tests.pbft.mutants import mutant, returns

# --------------------------------------------------------------------------------------------------- proof, stability


@mutant("Execution.applied", "cp a_checkpoint_of_a_quorum_is_stable_and_the_log_is_cut")
def makes_no_checkpoint(right: Any, self: Any, seq: int, tentative: bool) -> Any:
    slot = right(self, seq, tentative)
    self._checkpoint_due = False
    return slot


returns("nobody_hears_of_it", [], "Checkpoints.on_own", "cp a_checkpoint_of_a_quorum_is_stable")
returns("takes_any_checkpoint", "", "Notary.flaw_in_checkpoint", "cp no_checkpoint_without_proof")


@mutant("Notary._flaw_in_votes", "cp no_checkpoint_without_proof")
def counts_votes_not_voters(right: Any, self: Any, kind: str, fields: Any, votes: Any, needed: int) -> str:
    if len(votes) != needed:
        return "too few"
    return "" if all(self.check(vote.replica, kind, fields, vote.signature) for vote in votes) else "bad signature"


@mutant("Checkpoints.on_vote", "cp votes_outside_the_window_are_not_kept", "12")
def keeps_votes_of_any_seq(right: Any, self: Any, message: Any) -> list[Any]:
    window, self._notary.log_window = self._notary.log_window, 2**62
    try:
        return list(right(self, message))
    finally:
        self._notary.log_window = window


@mutant("Checkpoints.on_vote", "cp votes_for_different_digests_prove_nothing")
def believes_the_latest_word(right: Any, self: Any, message: Any) -> list[Any]:
    if message.seq in self.votes:
        self.votes[message.seq].held[message.replica] = (message.digest, message.signature)
        return list(self._prove(message.seq, message.digest))
    return list(right(self, message))


@mutant("Checkpoints._prove", "cp votes_for_different_digests_prove_nothing")
def adds_up_unlike_votes(right: Any, self: Any, seq: int, digest: bytes) -> list[Any]:
    tally = self.votes[seq]
    tally.held = {voter: (digest, signature) for voter, (_, signature) in tally.held.items()}
    self._check = lambda *said: True
    return list(right(self, seq, digest))


returns("takes_unsigned_votes", True, "Checkpoints._check", "cp a_vote_with_a_bad_signature_or_in_anothers_name")


@mutant("PbftCore._on_checkpoint", "cp a_vote_with_a_bad_signature_or_in_anothers_name")
def hears_votes_in_anothers_name(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    return list(right(self, message.replica, message))


@mutant("Checkpoints.reached", "cp a_replica_whose_own_state_is_wrong")
def stands_on_a_state_of_its_own(right: Any, self: Any, executed: int) -> Any:
    return self.certified if self.stable.seq < self.certified.seq <= executed else None


returns("never_looks_at_its_own_digest", False, "Checkpoints.diverged", "cp a_replica_whose_own_state_is_wrong")


@mutant("PbftCore._cut", "cp hard_state_is_written_anew_before_the_cut")
def cuts_what_it_still_needs(right: Any, self: Any, proof: Any) -> list[Any]:
    return [effect for effect in right(self, proof) if type(effect) is not Persist]


@mutant("PbftCore._cut", "cp a_checkpoint_of_a_quorum_is_stable_and_the_log_is_cut")
def never_cuts(right: Any, self: Any, proof: Any) -> list[Any]:
    return []


@mutant("Ordering.discard", "cp a_checkpoint_of_a_quorum_is_stable_and_the_log_is_cut")
def keeps_old_slots(right: Any, self: Any, upto: int) -> None:
    kept = dict(self.slots)
    right(self, upto)
    self.slots = kept


@mutant("Ordering.raise_high", "cp a_proof_just_ahead_of_execution_starts_no_transfer")
def the_window_stays_shut(right: Any, self: Any, stable: int) -> None:
    if stable <= self.low:
        right(self, stable)


@mutant("PbftCore._stand", "cp a_proof_just_ahead_of_execution_starts_no_transfer")
def fetches_at_once(right: Any, self: Any) -> list[Any]:
    effects = list(right(self))
    return effects + (self._fetch_state() if self.executed < self.checkpoints.proven.seq else [])


@mutant("Executor.snapshot", "ex a_checkpoint_stays_as_it_is_while_execution_goes_on")
def a_checkpoint_moves_along(right: Any, self: Any, index: int) -> Any:
    snapshot = right(self, index)

    class Moving(Snapshot):
        def parts(moving, since: Any = None) -> Any:  # noqa: N805
            return Snapshot(index, self._flush()).parts(since)

    return Moving(index, snapshot._root)


@mutant("Executor.drop_below", "ex checkpoints_are_dropped_and_bounded")
def drops_no_checkpoint(right: Any, self: Any, index: int) -> None: ...


@mutant("merkle.update", "me a_change_makes_few_nodes")
def builds_the_tree_anew(right: Any, root: Any, changes: Any) -> Any:
    from replog import merkle

    records = {**merkle.records_of(root), **changes}
    return merkle.build({key: value for key, value in records.items() if value is not None})


# -------------------------------------------------------------------------------------------------- restart, power cut


@mutant("PbftCore._recall", "cp p16_an_accepted_pre_prepare_survives_a_restart")
def starts_empty(right: Any, self: Any) -> None: ...


@mutant("PbftCore._recall_view", "cp p16_a_view_change_survives_a_restart")
def forgets_its_view(right: Any, self: Any, records: Any) -> list[Any]:
    return []


@mutant("Ordering.recall", "cp p16_a_prepared_certificate_survives_a_restart")
def forgets_its_certificates(right: Any, self: Any, record: Any) -> None:
    if type(record).__name__ != "PreparedProof":
        right(self, record)


@mutant("Asking.hard_state", "cp hard_state_is_written_anew_before_the_cut")
def cuts_its_view_away(right: Any, self: Any, active: bool) -> list[Any]:
    return []


@mutant("PbftCore._on_checkpointed", "du a_power_cut_between_proof_and_saved_state")
def votes_before_it_is_durable(right: Any, self: Any, event: Any) -> list[Any]:
    kept, self.ordering.save = self.ordering.save, list
    try:
        return list(right(self, event))
    finally:
        self.ordering.save = kept


@mutant("PbftCore._on_checkpointed", "du a_restart_keeps_the_state_that_a_laggard_can_be_shown")
def saves_the_latest(right: Any, self: Any, event: Any) -> list[Any]:
    effects, early = right(self, event), SaveState(event.index)
    return effects if early in effects else [*effects, early]


@mutant("PbftCore._stand", "cp what_a_proof_let_in_is_known_after_a_restart")
def writes_no_proof_down(right: Any, self: Any) -> list[Any]:
    return [effect for effect in right(self) if type(effect) is not Persist]


@mutant("Outbox.ready", "du what_is_not_durable_is_not_said")
def lets_out_what_waits_for_the_disk(right: Any, self: Any) -> list[Any]:
    ready = [effect for _, effect in self._queue]
    self._queue.clear()
    return ready


@mutant("_File._check", "so memory_durability_survives_the_process_but_not_the_machine")
def starts_on_what_may_be_lost(right: Any, self: Any, about: dict[str, str], owner: str) -> None:
    right(self, {**about, "unsynced": ""}, owner)
