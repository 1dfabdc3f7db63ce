"""[CL99 4, 4.2, 4.6] Quorums, the three phases, batches, execution, agreed time."""

from __future__ import annotations

from typing import Any

from pbft.messages import Prepare, PreparedProof
from replog.codec import Domain
from replog.core import Apply, Persist, Send
from tests.pbft.mutants import mutant, returns

# ----------------------------------------------------------------------------------------------------- 4 quorums, views


@mutant("quorum.byzantine_quorum", "nc prepared_takes_quorum_less_one")
def quorums_are_2f_plus_1(right: Any, n: int, f: int) -> int:
    return 2 * f + 1


@mutant("quorum.byzantine_quorum", "ch one_replica_lies_at_random", "100")
def quorums_need_not_meet(right: Any, n: int, f: int) -> int:
    return f + 1


@mutant("quorum.weak_quorum", "qu a_weak_quorum_has_one_correct_replica")
def a_weak_quorum_may_be_all_liars(right: Any, f: int) -> int:
    return max(1, f)


@mutant("Notary.primary", "vc a_silent_primary_is_replaced", "4")
def the_primary_never_changes(right: Any, self: Any, view: int) -> int:
    return 0


# ---------------------------------------------------------------------------------------------- 4.2 proposing, batching


@mutant("Ordering.propose", "nc phase_messages_of_one_operation", "4")
def proposes_twice(right: Any, self: Any, batch: Any) -> list[Any]:
    effects = right(self, batch)
    return [*effects, *[effect for effect in effects if type(effect) is Send]]


@mutant("Ordering.propose", "cp p16_a_primary_proposes_no_number_twice")
def proposes_before_it_is_written(right: Any, self: Any, batch: Any) -> list[Any]:
    return [effect for effect in right(self, batch) if type(effect) is not Persist]


@mutant("Proposing._has_room", "nc with_too_many_in_flight_the_primary_groups")
def never_waits_for_what_is_in_flight(right: Any, self: Any, *in_flight: int) -> bool:
    self._options = self._options.model_copy(update={"in_flight_max": self._options.log_window})
    return bool(right(self, *in_flight))


@mutant("Proposing._has_room", "nc the_primary_stays_below_the_high_watermark")
def proposes_beyond_the_window(right: Any, self: Any, *in_flight: int) -> bool:
    return self._ordering.leads and self._ordering.next_seq - self._execution.executed <= self._options.in_flight_max


@mutant("Proposing.propose", "nc waits_for_company_while_others_are_in_flight")
def waits_for_no_company(right: Any, self: Any) -> list[Any]:
    effects: list[Any] = []
    while self._requests.queued and self._has_room():
        effects += self._propose_one()
    return effects


returns("forgets_what_waits_for_company", [], "Proposing.on_timeout", "nc waits_for_company_while_others_are_in_flight")


@mutant("Requests.next_batch", "nc a_batch_is_bounded_by_requests_operations_and_bytes")
def batches_have_no_bound(right: Any, self: Any) -> list[Any]:
    most = {"batch_requests_max": 999, "batch_operations_max": 9_999, "batch_bytes_max": 2**20}
    self._options = self._options.model_copy(update=most)
    return list(right(self))


@mutant("Requests.next_batch", "rq p33_the_primary_passes_by_what_was_executed")
def proposes_what_was_executed(right: Any, self: Any) -> list[Any]:
    chosen = [request for queue in self._queues.values() for request in queue]
    self.proposed.update(request.identity for request in chosen)
    self._queues.clear()
    self.queued = self._queued_operations = self._queued_size = 0
    return chosen


@mutant("Proposing._is_counted", "vc no_request_gets_a_second_number_in_a_new_view")
def proposes_before_it_knows_all_bodies(right: Any, self: Any) -> bool:
    return True


# ----------------------------------------------------------------------------------------- 4.2 what a backup lets in


@mutant("acceptance._batch", "nc a_backup_refuses_a_pre_prepare_with", "body of another digest")
def believes_the_digest(right: Any, message: Any) -> Any:
    batch = right(message)
    if batch is not None:
        batch.digest = getattr(message, "digest", batch.digest)
    return batch


@mutant("Acceptance.on_pre_prepare", "nc only_the_primary_proposes")
def anybody_proposes(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    return list(right(self, self.notary.primary(message.view), message))


returns("any_batch_will_do", "", "Requests.flaw_in_batch", "nc a_backup_refuses_a_pre_prepare_with", "no requests")
returns(
    "asks_no_client", None, "Requests.unvouched", "nc a_backup_refuses_a_pre_prepare_with", "its client did not sign"
)
returns(
    "asks_for_no_primary_s_signature",
    True,
    "Notary.check_pre_prepare",
    "nc a_backup_refuses_a_pre_prepare_with",
    "signature of a backup",
)


@mutant("Notary.check", "nc a_bad_signature_is_no_vote")
def believes_every_signature(right: Any, self: Any, *statement: Any) -> bool:
    return True


def _says_as(right: Any, self: Domain, kind: str, fields: Any) -> bytes:
    """A statement of this kind, whatever was remembered of another one."""
    self._prefixes.clear()
    return bytes(right(self, kind, fields))


@mutant("Notary.check", "nc x10_ones_own_vote_is_checked_like_any_other")
def takes_its_own_word_unseen(right: Any, self: Any, signer: int, *said: Any) -> bool:
    return signer == self.me or right(self, signer, *said)


@mutant("quorum.byzantine_quorum", "ho x9_one_identity_in_two_places_is_one_liar")
def two_are_a_quorum(right: Any, n: int, f: int) -> int:
    return 2


@mutant("Ed25519Verifier.verify", "ke a_longer_signature_is_none")
def takes_signatures_of_any_length(right: Any, self: Any, signer: Any, statement: bytes, signature: bytes) -> bool:
    both = signature + statement
    return bool(right(self, signer, both[64:], both[:64]))


@mutant("Domain.statement", "nc a_backup_refuses_a_pre_prepare_with", "signature of another type")
def signs_no_type(right: Any, self: Any, kind: str, fields: Any) -> bytes:
    return _says_as(right, self, "said", fields)


@mutant("Domain.statement", "nc a_backup_refuses_a_pre_prepare_with", "signature of another cluster")
def signs_no_cluster(right: Any, self: Any, kind: str, fields: Any) -> bytes:
    return _says_as(right, Domain("any", self.epoch), kind, fields)


@mutant("Domain.statement", "nc a_backup_refuses_a_pre_prepare_with", "signature of another epoch")
def signs_no_epoch(right: Any, self: Any, kind: str, fields: Any) -> bytes:
    return _says_as(right, Domain(self.cluster), kind, fields)


@mutant("Domain.statement", "co a_request_is_bound_to_no_epoch")
def requests_die_with_their_epoch(right: Any, self: Any, kind: str, fields: Any) -> bytes:
    return b"%d" % self.epoch + right(self, kind, fields)


@mutant("Acceptance._is_early", "nc nothing_outside_the_watermarks")
def there_is_no_window(right: Any, self: Any, sender: int, message: Any) -> bool:
    return bool(message.view != self.ordering.view)


@mutant("Acceptance.on_vote", "nc a_vote_in_anothers_name_is_refused")
def votes_come_from_anybody(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    return list(right(self, message.replica, message))


# ------------------------------------------------------------------------------------------------ 4.2 phases and votes


@mutant("Ordering.accept", "nc accepts_a_proper_pre_prepare_on_disk_before_prepare")
def prepares_before_it_is_written(right: Any, self: Any, message: Any, batch: Any) -> list[Any]:
    return sorted(right(self, message, batch), key=lambda effect: type(effect) is not Send)


returns("accepts_in_silence", [], "Ordering._send_prepare", "nc phase_messages_of_one_operation", "4")


@mutant("Acceptance._again", "nc a_second_digest_for_a_place")
def takes_the_second_too(right: Any, self: Any, message: Any) -> list[Any]:
    from pbft.acceptance import _batch

    return list(self.ordering.accept(message, _batch(message)))


returns("keeps_no_proof_of_a_lie", [], "Witness._contradiction", "nc a_second_digest_for_a_place")


returns("accuses_without_end", False, "Notary.is_convicted", "nc a_second_digest_for_a_place")


@mutant("Ordering._hear", "nc two_votes_for_one_place_prove_a_lie", "commit")
def the_last_vote_counts(right: Any, self: Any, tally: Any, message: Any) -> None:
    tally.held[message.replica] = (message.digest, message.signature)


@mutant("Witness.heard", "nc a_vote_beyond_the_quorum_is_still_held")
def looks_away_beyond_the_quorum(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    return [] if isinstance(message, Prepare) and message.replica == 3 else right(self, sender, message)


@mutant("Ordering._hear", "nc one_wave_of_signature_checks")
def checks_every_vote_at_once(right: Any, self: Any, tally: Any, message: Any) -> None:
    kind = "prepare" if isinstance(message, Prepare) else "commit"
    fields = (message.view, message.seq, message.digest, message.replica)
    good = self._notary.check(message.replica, kind, fields, message.signature)
    if good:
        right(self, tally, message)


@mutant("Ordering.is_prepared", "nc prepared_takes_quorum_less_one")
def prepares_too_soon(right: Any, self: Any, slot: Any) -> bool:
    return slot.body is not None and slot.prepares.good.count(slot.body.digest) >= self._notary.quorum - 2


@mutant("Ordering.is_prepared", "nc messages_may_come_in_any_order")
def prepares_alone(right: Any, self: Any, slot: Any) -> bool:
    return slot.body is not None and len(slot.prepares.good) >= 3


@mutant("Ordering.on_prepare", "nc prepared_takes_quorum_less_one")
def counts_the_primary(right: Any, self: Any, message: Any) -> list[Any]:
    slot = self.slot(message.seq)
    return (self._hear(slot.prepares, message), self._advance(slot))[1]


@mutant("Ordering.on_prepare", "nc messages_may_come_in_any_order")
def drops_votes_that_come_first(right: Any, self: Any, message: Any) -> list[Any]:
    return right(self, message) if self.slot(message.seq).digest is not None else []


@mutant("Tally.settle", "nc votes_for_another_digest_count_for_nothing_here")
def a_vote_is_a_vote_for_any_digest(right: Any, self: Any, digest: Any, needed: int, check: Any) -> list[int]:
    self.held = {voter: (digest, signature) for voter, (_, signature) in self.held.items()}
    return list(right(self, digest, needed, lambda voter, signature: True))


@mutant("Tally.settle", "nc a_bad_signature_is_no_vote")
def takes_votes_unseen(right: Any, self: Any, digest: Any, needed: int, check: Any) -> list[int]:
    return list(right(self, digest, needed, lambda voter, signature: True))


@mutant("Ordering._advance", "nc prepared_takes_quorum_less_one")
def commits_without_being_prepared(right: Any, self: Any, slot: Any) -> list[Any]:
    if slot.digest is None or slot.prepared is not None or not self.active:
        return right(self, slot)
    return self._send_commit(slot) + right(self, slot)


@mutant("Ordering._send_commit", "nc the_prepared_certificate_is_on_disk_before_commit")
def commits_before_it_is_written(right: Any, self: Any, slot: Any) -> list[Any]:
    return list(reversed(right(self, slot)))


@mutant("Ordering._send_commit", "nc the_prepared_certificate_is_on_disk_before_commit")
def keeps_no_certificate(right: Any, self: Any, slot: Any) -> list[Any]:
    effects = right(self, slot)
    slot.prepared = PreparedProof(self.view, slot.seq, slot.digest, slot.signature, [])
    return [Persist(slot.prepared, slot.seq), *effects[1:]]


@mutant("Ordering.is_committed", "nc committed_takes_a_quorum_of_commits")
def commits_too_soon(right: Any, self: Any, slot: Any, digest: bytes) -> bool:
    return slot.commits.good.count(digest) >= self._notary.quorum - 1


@mutant("Ordering._decide", "nc committed_takes_a_quorum_of_commits")
def decides_nothing(right: Any, self: Any, slot: Any, digest: bytes) -> None: ...


@mutant("Ordering.save", "nc replies_are_not_behind_a_record_of_their_own")
def forgets_certificates(right: Any, self: Any) -> list[Any]:
    self._unsaved = []
    return []


@mutant("Early.keep", "cp early_messages_wait_for_their_view_within_bounds")
def keeps_nothing_early(right: Any, self: Any, sender: int, message: Any) -> None: ...


@mutant("Early.keep", "cp early_messages_wait_for_their_view_within_bounds")
def keeps_all_that_is_early(right: Any, self: Any, sender: int, message: Any) -> None:
    self._kept.setdefault(sender, type(self._kept.get(0, []))()).append(message)
    self._size[sender] = self._size.get(sender, 0)


@mutant("catch_up._size", "li p21_early_messages_are_counted_at_what_they_take")
def counts_bytes_alone(right: Any, message: Any) -> int:
    return sum(map(len, getattr(message, "requests", [])))


# -------------------------------------------------------------------------------------------------- 4.2 execution, 4.6


@mutant("Execution.next", "nc execution_is_strictly_in_order_of_seq", stopped="cannot be applied after")
def executes_what_is_decided_first(right: Any, self: Any) -> list[Any]:
    if self._busy:
        return []
    later = (slot for slot in self._ordering.above(self.executed) if slot.decided is not None)
    slot = next(later, None)
    return [] if slot is None else [self._effect(slot.seq, slot.decided)]


@mutant("Executor.apply", "ex indices_come_in_order")
def applies_any_index(right: Any, self: Any, index: int, *rest: Any) -> Any:
    self.index = index - 1
    return right(self, index, *rest)


@mutant("SessionTable.admits", "nc a_batch_of_what_was_executed_changes_nothing")
def executes_again(right: Any, self: Any, client: str, timestamp: int, low: int | None = None) -> bool:
    session = self._sessions.get(client)
    if session is not None and low is not None:
        session.size -= len(session.results.pop(timestamp, b""))
    return True


@mutant("Execution.next_seed", "nc agreed_time_and_seed_are_the_same_everywhere")
def draws_a_seed_of_its_own(right: Any, self: Any, seq: int, batch: Any) -> bytes:
    return bytes([self._checkpoints._notary.me]) * 32


@mutant("Executor.apply", "sm another_seed_gives_others")
def forgets_the_seed(right: Any, self: Any, index: int, requests: Any, time: int, next_seed: bytes) -> Any:
    return right(self, index, requests, time, bytes(32))


@mutant("Executor.apply", "sm time_never_stands_still_or_goes_back")
def time_is_what_was_proposed(right: Any, self: Any, index: int, requests: Any, time: int, next_seed: bytes) -> Any:
    self._agreed = type(self._agreed)(time - 1, self._agreed.seed)
    return right(self, index, requests, time, next_seed)


@mutant("Execution._effect", "nc agreed_time_and_seed_are_the_same_everywhere")
def reads_its_own_clock(right: Any, self: Any, seq: int, batch: Any, tentative: bool = False) -> Any:
    effect = right(self, seq, batch, tentative)
    return Apply(seq, effect.requests, effect.time + self._checkpoints._notary.me, effect.next_seed, tentative)


@mutant("Requests.flaw_in_batch", "nc a_backup_refuses_a_pre_prepare_with", "a time far ahead")
def any_time_will_do(right: Any, self: Any, batch: Any, wall: int) -> str:
    return str(right(self, batch, batch.time))


# --------------------------------------------------------------------------------------------- commit certificates


returns("nothing_flaws_a_certificate", "", "Notary.flaw_in_commit", "nc nobody_decides_without_a_certificate", "")
returns("believes_no_certificate", [], "Acceptance.on_committed", "nc executes_against_another_accepted_pre_prepare")
returns(
    "goes_by_what_it_accepted",
    False,
    "Ordering.may_be_decided",
    "nc commits_of_a_quorum_decide_what_this_replica_never",
)


@mutant("Ordering.decide_by", "nc executes_against_another_accepted_pre_prepare")
def decides_what_it_accepted_alone(right: Any, self: Any, message: Any, batch: Any) -> None:
    if self.slot(message.proof.seq).digest == batch.digest:
        right(self, message, batch)


@mutant("Ordering.revote", "cp a_cluster_killed_as_a_whole_goes_on_by_itself")
def says_nothing_after_a_restart(right: Any, self: Any, executed: int) -> list[Any]:
    right(self, executed)
    return []
