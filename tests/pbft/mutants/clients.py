"""[CL99 4.1, 5.1] Clients: requests, replies, sessions, reads, tentative answers."""

from __future__ import annotations

import dataclasses
from typing import Any

from replog.core import Checkpoint, Received
from replog.replies import Proof
from replog.types import NOBODY, Answer, Request
from tests.pbft.harness import replace
from tests.pbft.mutants import mutant, returns

# ------------------------------------------------------------------------------------------------------- 4.1 the client


@mutant("ClientCore.submit", "cl timestamps_grow_from_the_start")
def stamps_stand_still(right: Any, self: Any, now: int, operations: Any, read_only: bool = False) -> Any:
    stamp, effects = right(self, now, operations, read_only)
    self._next = stamp
    return stamp, effects


@mutant("ClientCore._hear", "cl one_liar_leads_pbft_nowhere")
def believes_one_replica_about_the_leader(
    right: Any, self: Any, sender: int, term: tuple[int, int], leader: int
) -> None:
    if term > self._term:
        self._term, self.leader = term, leader


@mutant("Counts.of", "cl a_result_needs_a_quorum_of_equal_replies")
def one_reply_is_a_result(right: Any, cls: Any, rules: Any, n: int) -> Any:
    return right(cls, dataclasses.replace(rules, reply_quorum=1), n)


@mutant("Pbft.client_rules", "cf p39_clients_want_a_weak_quorum_and_a_quorum")
def a_weak_quorum_is_enough_for_all(right: Any, self: Any, n: int, f: int, options: Any) -> Any:
    rules = right(self, n, f, options)
    return dataclasses.replace(rules, read_quorum=rules.reply_quorum, tentative_quorum=rules.reply_quorum)


@mutant("Word.backs", "cl a_result_needs_a_quorum_of_equal_replies")
def any_word_backs_any_other(right: Any, self: Any, word: Any) -> bool:
    return True


@mutant("Replies.hear", "cl one_replica_has_one_vote")
def counts_messages(right: Any, self: Any, sender: int, reply: Any) -> Any:
    return right(self, (sender + len(self._said)) % self._counts.n, reply)


@mutant("ClientCore.on_timeout", "cl tries_again_with_the_same_bytes_and_backs_off")
def asks_the_primary_alone_again(right: Any, self: Any, now: int) -> list[Any]:
    effects = right(self, now)
    return [type(e)((self.leader,), e.message) if type(e).__name__ == "ToReplica" else e for e in effects]


@mutant("ClientCore._fill", "cl the_window_is_kept_and_filled_again")
def sends_beyond_the_window(right: Any, self: Any, now: int) -> list[Any]:
    return [self._first(now, self._queue.popleft()) for _ in list(self._queue)]


# -------------------------------------------------------------------------------------------- 4.1 requests at a replica


@mutant("PbftCore._on_received", "rq a_client_speaks_for_itself_only")
def takes_a_client_for_a_replica(right: Any, self: Any, event: Any) -> list[Any]:
    sender = 1 if isinstance(event.sender, str) and type(event.message) not in self._from_clients else event.sender
    return list(right(self, Received(sender, event.message)))


@mutant("Intake.from_client", "rq a_client_speaks_for_itself_only")
def a_client_speaks_for_another(right: Any, self: Any, now: int, sender: str, message: Any) -> list[Any]:
    return list(right(self, now, Request(message.request).client, message))


returns("takes_unsigned_requests", True, "Requests.verify", "rq what_can_never_be_ordered_is_refused", "signature")
returns("refuses_nothing", "", "Requests.refusal", "rq what_can_never_be_ordered_is_refused", "bytes")
returns("remembers_no_results", None, "SessionTable.results", "rq a_request_that_was_executed_is_answered_from_memory")
returns("sends_nothing_on", [], "Intake.forward", "li p35_a_request_to_backups_only_is_verified_sent_on")
returns("reminds_nobody", [], "Intake.remind", "li p35_the_first_forward_may_be_lost")
returns("vouches_for_all", True, "Requests.vouches", "li p35_a_request_that_is_not_signed_starts_no_timer")


@mutant("Intake.from_replica", "li p35_a_request_that_is_not_signed_starts_no_timer")
def waits_on_the_word_of_one_replica(right: Any, self: Any, now: Any, sender: int, message: Any) -> list[Any]:
    return list(self._take(Request(message.request), sender))


@mutant("Intake.reply", "rq replies_tell_the_view")
def tells_an_old_view(right: Any, self: Any, *told: Any) -> Any:
    effect = right(self, *told)
    return type(effect)(effect.client, replace(effect.message, view=0))


@mutant("Intake._take", "rq p36_refusal_is_cheap")
def verifies_before_it_refuses(right: Any, self: Any, request: Any, sender: Any) -> list[Any]:
    self.requests.verify(request)
    return list(right(self, request, sender))


returns("has_room_for_all", False, "Requests.crowded", "rq p36_one_client_cannot_take_the_others_place")


@mutant("Requests.crowded", "rq all_that_waits_is_bounded", "bytes")
def counts_requests_alone(right: Any, self: Any, request: Any) -> bool:
    return len(self.pending) >= self._options.pending_requests_max


@mutant("Requests.remove", "rq after_overload_there_is_room_again")
def never_makes_room(right: Any, self: Any, client: str, timestamp: int) -> None:
    known = self.pending.get((client, timestamp))
    right(self, client, timestamp)
    self.operations += known.count if known is not None else 0


returns("lets_clients_fill_the_pool", False, "Requests._takes_others_room", "rq p36_clients_that_fill_the_pool_leave")
returns("holds_nobody_to_its_turns", None, "Requests._owe", "rq p36_a_large_request_waits_until_others_had")
returns("compares_no_debts", None, "Requests._release", "rq p36_who_is_alone_waits_for_nobody")
returns("has_seen_no_read", True, "Seen.add", "rd p36_the_same_read_again_is_not_answered")
returns("reads_as_much_as_is_asked", False, "Reads._is_much", "rd p36_what_much_is_read_of_while_others_order")
returns("takes_bodies_of_any_size", False, "Acceptance._is_too_large", "nc p36_a_body_is_read_only_after_its_size")
returns("reads_never_crowd", False, "Reads._crowded", "rd p36_reads_that_wait_are_bounded")


@mutant("Requests.executed", "li p32_two_requests_under_one_timestamp_leave_nobody_waiting")
def waits_for_the_very_bytes(right: Any, self: Any, now: Any, batch: Any, results: Any) -> None:
    done = {request.identity: request.digest for request in batch.requests}
    waits = {identity: request.digest for identity, request in self.pending.items()}
    kept = [r for r in results if waits.get(key := (r.client, r.timestamp), done.get(key)) == done.get(key)]
    right(self, now, batch, kept)


@mutant("Requests.executed", "li p32_a_request_that_its_client_gave_up_leaves_nobody_waiting")
def waits_for_what_was_given_up(right: Any, self: Any, now: Any, batch: Any, results: Any) -> None:
    """What was executed is removed, and nothing else."""
    remove, done = self.remove, {(result.client, result.timestamp) for result in results}
    self.remove = lambda *identity: remove(*identity) if identity in done else None
    try:
        right(self, now, batch, results)
    finally:
        del self.remove


@mutant("Intake.second", "rq a_second_request_under_one_timestamp_changes_nothing")
def the_second_takes_the_first_ones_place(right: Any, self: Any, known: Any, request: Any, sender: Any) -> list[Any]:
    self.requests.pending[request.identity] = request
    return []


@mutant("PbftCore._oldest", "li p32_a_request_whose_session_is_closed_holds_no_timer")
def waits_for_what_cannot_be(right: Any, self: Any) -> Any:
    return next(iter(self.requests.pending), None)


@mutant("Requests.is_over", "li p32_a_request_whose_session_is_closed_holds_no_timer")
def nothing_is_ever_over(right: Any, self: Any, request: Any) -> bool:
    return False


@mutant("Requests.flaw_in_batch", "li p35_a_client_cannot_set_backups_that_are_ahead_against_the_primary")
def refuses_what_it_has_executed(right: Any, self: Any, batch: Any, wall: int) -> str:
    return right(self, batch, wall) or ("executed" if any(map(self.is_over, batch.requests)) else "")


# --------------------------------------------------------------------------------------------------------- sessions


@mutant("SessionTable.admits", "ex a_session_takes_timestamps_in_any_order_within_its_window")
def sessions_have_no_window(right: Any, self: Any, client: str, timestamp: int, low: int | None = None) -> bool:
    return bool(right(self, client, timestamp))


@mutant("SessionTable.enter", "ex a_request_executes_once_and_keeps_its_results")
def enters_again(right: Any, self: Any, request: Any, index: int) -> Any:
    return right(self, request, index) or self._sessions.get(request.client)


@mutant("Session.close", "ex what_a_closed_session_has_executed_stays_executed")
def a_closed_session_forgets_all(right: Any, self: Any) -> None:
    low = self.low
    right(self)
    self.low = low


@mutant("Session.remember", "ex the_bytes_of_one_client_are_bounded")
def remembers_without_end(right: Any, self: Any, timestamp: int, results: bytes) -> None:
    self.results[timestamp] = results
    self.size += len(results)


@mutant("SessionTable.close_oldest", "ex the_least_recently_active_are_closed")
def closes_by_name(right: Any, self: Any) -> None:
    if len(self._open) > self._open_max:
        for client in sorted(self._open)[: len(self._open) - self._open_max * 7 // 8]:
            self._sessions[client].close()
            self._open.discard(client)


@mutant("SessionTable.take_changes", "ex sessions_are_part_of_the_state")
def sessions_are_no_part_of_the_state(right: Any, self: Any) -> dict[bytes, bytes | None]:
    self._dirty = set()
    return {}


@mutant("Executor._run", "ex a_malformed_operation_is_an_error_at_its_place")
def one_bad_operation_ends_the_request(right: Any, self: Any, request: Any, place: Any) -> list[bytes]:
    return list(right(self, request, place)[:1])


# -------------------------------------------------------------------------------------------------- 5.1 digest replies


@mutant("Intake.tell", "rd one_replica_answers_in_full_and_the_others_with_a_digest")
def all_answer_in_full(right: Any, self: Any, request: Any, answer: Any, results: bytes) -> Any:
    return self.reply(request, answer, results)


@mutant("Intake.tell", "rd short_results_are_no_longer_than_a_digest")
def digests_even_short_results(right: Any, self: Any, request: Any, answer: Any, results: bytes) -> Any:
    return right(self, request, answer, results + bytes(100))


@mutant("Intake.from_client", "rd one_replica_answers_in_full_and_the_others_with_a_digest")
def asked_again_it_digests_again(right: Any, self: Any, now: int, sender: str, message: Any) -> list[Any]:
    request = Request(message.request)
    done = self._sessions.results(sender, request.timestamp)
    return right(self, now, sender, message) if done is None else [self.tell(request, Answer.DONE, done)]


@mutant("Replies._proof", "cl results_whose_digest_nobody_else_names_never_count")
def takes_any_results(right: Any, self: Any, word: Any, vouchers: Any) -> Any:
    full = next((results for _, results in self._said.values() if results is not None), None)
    proof = right(self, word, vouchers)
    return proof if proof is not None or full is None else Proof(word, full, vouchers)


@mutant("ClientCore._next_replier", "cl a_bad_replier_costs_one_request_and_not_every_fourth")
def names_in_turn(right: Any, self: Any) -> int:
    self._place = (self._place + 1) % len(self._members)
    return self._members[self._place] if self._rules.digest_replies else NOBODY


# ------------------------------------------------------------------------------------------------------------ 5.1 reads

returns("reads_at_once", 0, "Reads.needed", "rd p40_no_read_is_older_than_an_accepted_write")


@mutant("Ordering.recall", "rd p40_what_was_promised_before_a_restart")
def forgets_what_it_promised(right: Any, self: Any, record: Any) -> None:
    right(self, record)
    self.promised = 0


@mutant("Ordering.enter", "rd what_a_view_change_took_back_needs_no_waiting_for")
def waits_for_what_was_taken_back(right: Any, self: Any, *view: Any) -> list[Any]:
    promised = self.promised
    effects = list(right(self, *view))
    self.promised = promised
    return effects


@mutant("Reads.serve", "rd p40_nothing_is_answered_while_a_state_is_fetched")
def reads_from_half_a_state(right: Any, self: Any) -> list[Any]:
    running, self._execution._transfer = self._execution._transfer, type("Idle", (), {"running": False})()
    try:
        return list(right(self))
    finally:
        self._execution._transfer = running


@mutant("Reads.from_client", "rd a_read_must_be_read_only_and_its_clients_own")
def reads_what_writes(right: Any, self: Any, now: int, sender: str, message: Any) -> list[Any]:
    self._waiting.append((0, Request(message.request)))
    client = Request(message.request).client
    self._share[client] = self._share.get(client, 0) + 1
    return list(self.serve())


@mutant("Executor.query", "ex queries_change_nothing")
def reading_leaves_a_trace(right: Any, self: Any, requests: Any) -> list[bytes]:
    found = list(right(self, requests))
    self._agreed = type(self._agreed)(self._agreed.time + 1, self._agreed.seed)
    return found


@mutant("Counts.of", "cl it_goes_to_all_and_takes_a_quorum")
def a_weak_quorum_may_read(right: Any, cls: Any, rules: Any, n: int) -> Any:
    return right(cls, dataclasses.replace(rules, read_quorum=min(rules.read_quorum, 1)), n)


@mutant("client._order", "cl without_a_quorum_in_time_the_same_bytes_are_ordered")
def reads_for_ever(right: Any, pending: Any) -> None: ...


@mutant("ClientCore._without_result", "cl it_is_ordered_as_soon_as_no_quorum_can_come")
def waits_for_agreement_that_cannot_come(right: Any, self: Any, now: int, pending: Any) -> list[Any]:
    return []


# -------------------------------------------------------------------------------------------------------- 5.1 tentative


@mutant("Execution._apply", "te what_is_prepared_is_executed_and_answered_before_it_is_committed")
def waits_for_the_commits(right: Any, self: Any, slot: Any) -> list[Any]:
    return [] if slot is None or slot.decided is None else [self._effect(slot.seq, slot.decided)]


@mutant("Ordering.has_prepared", "te what_prepared_in_an_older_view_is_nothing_for_what_this_one")
def goes_by_an_older_view(right: Any, self: Any, slot: Any) -> bool:
    return slot.prepared is not None


@mutant("Execution._stands", "te what_a_new_view_replaces_is_taken_back", stopped="zip() argument 2 is shorter")
def takes_nothing_back(right: Any, self: Any, slot: Any) -> bool:
    return slot is not None


@mutant("Execution._undo", "te what_a_new_view_replaces_is_taken_back", stopped="cannot be applied after")
def takes_it_back_in_name_only(right: Any, self: Any) -> Any:
    from replog.core import Note

    right(self)
    self._applied = self.executed
    return Note("undone", {})


@mutant("Execution.next", "te a_checkpoint_is_of_what_is_decided")
def makes_checkpoints_of_what_is_not_decided(right: Any, self: Any) -> list[Any]:
    seq = self.executed + 1
    if self.tentative is None or self._busy or seq % self._options.checkpoint_interval or seq in self._checkpoints.own:
        return list(right(self))
    self._busy = True
    return [Checkpoint(seq)]


@mutant("Intake._how", "te asked_again_meanwhile_the_answer_is_still_tentative")
def says_done_too_soon(right: Any, self: Any, request: Any) -> Any:
    return Answer.DONE


@mutant("replies._word", "cl those_of_different_views_do_not_add_up")
def adds_up_what_several_views_say(right: Any, reply: Any) -> Any:
    return right(reply)._replace(view=0)


@mutant("Executor.rollback", "ex rolling_back_undoes_everything")
def rolls_back_by_halves(right: Any, self: Any, index: int) -> None:
    later = {held: root for held, root in self._held.items() if held > index}
    right(self, index)
    self._held |= later


@mutant("Timestamps.end", "ti no_life_uses_what_an_earlier_one")
def notes_where_it_began(right: Any, self: Any) -> None:
    self._note(self.first)


@mutant("Timestamps.take", "ti a_long_life_notes_anew")
def notes_once(right: Any, self: Any) -> None:
    self._last += 1


@mutant("Timestamps.take", "ti what_cannot_be_noted_is_not_used")
def uses_what_it_could_not_note(right: Any, self: Any) -> None:
    import contextlib

    with contextlib.suppress(OSError):
        right(self)


returns("believes_the_clock", 0, "Timestamps._noted", "ti no_life_uses_what_an_earlier_one")
