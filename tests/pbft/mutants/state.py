"""[CL99 4.4, 6, CL02 status, partition tree] What a replica lacks: retransmission, and fetching the state."""

from __future__ import annotations

from typing import Any

from tests.pbft.harness import replace
from tests.pbft.mutants import mutant, returns

# ------------------------------------------------------------------------------------------------------------- 6 status

returns("answers_no_status", [], "catch_up.answer", "cp a_replica_that_was_cut_off_gets_exactly_what_it_missed")
returns("answers_no_status_of_a_lossy_time", [], "catch_up.answer", "ch loss_reordering_cuts_and_crashes")
returns("has_no_words_of_its_own", [], "Ordering.own_words", "cp what_is_lost_once_is_sent_again", "Prepare")
returns("repeats_no_checkpoint", [], "Checkpoints.words", "cp what_is_lost_once_is_sent_again", "Checkpoint")
returns("gives_without_end", True, "Allowance.take", "cp a_status_is_answered_within_a_budget")


@mutant("PbftCore._on_tick", "cp an_idle_laggard_catches_up_without_any_request")
def tells_nobody_where_it_is(right: Any, self: Any) -> list[Any]:
    return [effect for effect in right(self) if type(getattr(effect, "message", None)).__name__ != "Status"]


@mutant("Ordering.flags", "cp what_is_lost_once_is_sent_again", "Commit")
def claims_to_have_it_all(right: Any, self: Any, executed: int) -> bytes:
    return b"\x07" * len(right(self, executed))


@mutant("Hearing.reached", "cp a_status_that_claims_the_moon_moves_nobody")
def believes_the_highest_claim(right: Any, self: Any) -> int:
    return max(self._claims.values(), default=0)


# ------------------------------------------------------------------------------------------------------- state transfer


@mutant("PbftCore._fetch_state", "cp a_laggard_fetches_the_proved_state_and_goes_on")
def fetches_no_state(right: Any, self: Any) -> list[Any]:
    return []


@mutant("PbftCore._on_restored", "cp a_laggard_fetches_the_proved_state_and_goes_on")
def does_not_go_on(right: Any, self: Any, proof: Any) -> list[Any]:
    return []


@mutant("PbftCore._push_transfer", "cp if_the_state_has_moved_on_the_later_one_is_fetched")
def waits_for_what_is_gone(right: Any, self: Any) -> list[Any]:
    return []


@mutant("StateTransfer.on_wanted", "st what_differs_comes_from_several_at_once")
def asks_blindly(right: Any, self: Any, event: Any) -> list[Any]:
    return list(right(self, replace(event, hints={})))


@mutant("StateTransfer._next", "st what_differs_comes_from_several_at_once")
def asks_one(right: Any, self: Any, part: int, peers: Any) -> int:
    return int(peers[0])


@mutant("StateTransfer.on_wanted", "st p41_a_poisoned_part_is_refused_its_sender_noted", "0")
def forgives(right: Any, self: Any, event: Any) -> list[Any]:
    return list(right(self, replace(event, refused=False)))


@mutant("Assembly._add_records", "st p41_no_lie_gets_into_the_state")
def trusts_parts(right: Any, self: Any, part: int, hole: Any, records: Any) -> bool:
    from replog import merkle

    hole.digest = merkle._build(merkle._placed(records), merkle._depth(part)).digest
    return bool(right(self, part, hole, records))


@mutant("StateTransfer.on_part", "st p41_a_part_counts_once_from_the_one_that_was_asked")
def takes_parts_from_anybody(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    return list(right(self, self._asked.get(message.part, sender), message))


@mutant("StateTransfer._judge", "st p41_who_leads_astray_is_asked_for_wholes", "StateTransfer")
def takes_it_for_granted(right: Any, self: Any, part: int, writer: int) -> None: ...


@mutant("StateTransfer.tick", "st a_sender_that_holds_back_is_passed_by")
def waits_patiently(right: Any, self: Any) -> list[Any]:
    return list(self._ask())


@mutant("StateTransfer.start", "st p45_a_transfer_that_is_started_twice_asks_once", "StateTransfer")
def starts_anew(right: Any, self: Any, proof: Any) -> list[Any]:
    self._forget()
    return list(right(self, proof))


@mutant("StateTransfer.retry", "st p45_when_nobody_holds_it_all_are_asked_again")
def asks_nobody_twice(right: Any, self: Any) -> None: ...


@mutant("StateTransfer.outlived", "li p45_a_state_that_nobody_holds_any_more_is_given_up")
def sticks_to_its_target(right: Any, self: Any) -> bool:
    return bool(self.hopeless)


@mutant("Executor.restore", "st p45_a_target_that_all_have_dropped_gives_way")
def takes_nothing_over(right: Any, self: Any, index: int, digest: bytes) -> Any:
    if self._assembly is not None and self._assembly[0] != index:
        self._assembly = None
    return right(self, index, digest)


@mutant("merkle.read_part", "me what_is_the_same_is_not_moved")
def gives_whole_parts(right: Any, root: Any, part: int, hint: bytes = b"") -> Any:
    return right(root, part)


@mutant("Executor.write_part", "ex poison_is_refused_and_the_state_stays")
def installs_in_part(right: Any, self: Any, index: int, part: int, data: bytes) -> Any:
    self.index = index
    return right(self, index, part, data)


@mutant("Execution.jump", "cp a_laggard_fetches_the_proved_state_and_goes_on", stopped="cannot be applied after")
def stays_where_it_was(right: Any, self: Any, seq: int) -> None:
    self.tentative = None
    self._busy = self._checkpoint_due = False


@mutant("Giving.read_part", "cp bodies_and_parts_are_given_within_a_budget")
def gives_parts_without_end(right: Any, self: Any, now: int, sender: int, message: Any) -> list[Any]:
    self._parts._used.clear()
    return list(right(self, now, sender, message))


returns("leaves_them_waiting", [], "Intake.answer_swept", "cp who_waits_here_is_answered_when_the_state_has_jumped")
returns("waits_for_what_the_state_has_passed", [], "Requests.sweep", "cp who_waits_here_is_answered_when_the_state_has")


@mutant("Slot.keep", "nc the_bodies_of_a_slot_are_bounded_and_what_is_needed_stays")
def drops_the_oldest_body(right: Any, self: Any, batch: Any) -> None:
    self.bodies[batch.digest] = batch
    if len(self.bodies) > 8:
        del self.bodies[next(iter(self.bodies))]


@mutant("Slot.keep", "nc the_bodies_of_a_slot_are_bounded_and_what_is_needed_stays")
def keeps_every_body(right: Any, self: Any, batch: Any) -> None:
    self.bodies[batch.digest] = batch


@mutant("Giving.part", "cp bodies_and_parts_are_given_within_a_budget")
def gives_bytes_without_end(right: Any, self: Any, now: int, event: Any) -> list[Any]:
    self._bytes._used.clear()
    return list(right(self, now, event))
