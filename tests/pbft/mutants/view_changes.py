"""[CL99 4.4, 4.5] Timers, view changes, new views."""

from __future__ import annotations

from typing import Any

from pbft.messages import PreparedProof
from replog.core import Send, SetTimer
from tests.pbft.mutants import mutant, returns

# -------------------------------------------------------------------------------------------------------- 4.4 the timer

returns("waits_for_nothing", None, "PbftCore._oldest", "li a_backup_waits_for_what_it_accepted_too")
returns("never_stops_its_timer", [], "Patience.rest", "li the_timer_starts_with_the_first_request")


@mutant("PbftCore._watch", "li the_timer_starts_anew_for_the_next_request")
def one_timer_for_all_requests(right: Any, self: Any) -> list[Any]:
    before = self.patience.target
    effects = list(right(self))
    return [] if before is not None and self.patience.target is not None else effects


@mutant("PbftCore._watch", "li p37_a_primary_that_ignores_one_client_is_replaced")
def anything_executed_is_progress(right: Any, self: Any) -> list[Any]:
    moved, self.watched = self.executed > getattr(self, "watched", 0), self.executed
    effects = list(right(self))
    if moved and not effects and self.patience.target is not None:
        effects += self.patience.wait_for(self._now, self.patience.target)
    return effects


@mutant("PbftCore._watch", "li the_primary_times_nobody")
def the_primary_blames_itself(right: Any, self: Any) -> list[Any]:
    if not self.ordering.leads:
        return list(right(self))
    wanted = self._oldest()
    return [] if wanted is None else list(self.patience.wait_for(self._now, wanted))


@mutant("Patience.wait_for", "li the_timer_starts_anew_for_the_next_request")
def gives_the_next_one_half_the_time(right: Any, self: Any, now: int, target: Any) -> list[Any]:
    (timer,) = right(self, now, target)
    return [type(timer)(timer.name, timer.delay // 2)]


@mutant("Patience.timeout", "li the_time_doubles_up_to_its_cap")
def never_gets_more_patient(right: Any, self: Any) -> int:
    return int(self._options.view_timeout_us)


@mutant("Patience.timeout", "li the_time_doubles_up_to_its_cap")
def patience_has_no_cap(right: Any, self: Any) -> int:
    return int(self._options.view_timeout_us << min(self.failures, 40))


@mutant("Patience.progress", "li the_time_doubles_up_to_its_cap")
def progress_is_not_noticed(right: Any, self: Any) -> None: ...


@mutant("Patience.leave_view", "vc request_timers_stop_during_a_view_change")
def request_timers_run_on(right: Any, self: Any) -> list[Any]:
    target = self.target
    effects = right(self)
    self.target = None
    return [*effects, *self.wait_for(0, target or 0)]


@mutant("PbftCore._on_request_timeout", "li a_replica_that_hears_nobody_keeps_its_view")
def leaves_its_view_alone(right: Any, self: Any) -> list[Any]:
    self.patience.target = None
    return list(self._ask_for(self.view + 1, "test"))


returns("thinks_it_hears_all", True, "Hearing.connected", "li two_halves_keep_their_view")

# ---------------------------------------------------------------------------------------------------------- 4.4 leaving


@mutant("Ordering.leave", "vc after_view_change_no_vote_in_the_old_view")
def votes_on_in_the_old_view(right: Any, self: Any, view: int) -> None: ...


@mutant("PbftCore._ask_for", "vc what_a_replica_says_on_leaving")
def asks_before_it_is_written(right: Any, self: Any, view: int, reason: str) -> list[Any]:
    return sorted(right(self, view, reason), key=lambda effect: type(effect) is not Send)


@mutant("ViewChanges.ask", "vc what_a_replica_says_on_leaving")
def hides_what_it_prepared(right: Any, self: Any, view: int, checkpoints: Any, ordering: Any) -> Any:
    for slot in ordering.slots.values():
        slot.prepared = None
    return right(self, view, checkpoints, ordering)


@mutant("ViewChanges.ask", "vc what_a_replica_says_on_leaving")
def shows_an_old_checkpoint(right: Any, self: Any, view: int, checkpoints: Any, ordering: Any) -> Any:
    from pbft.messages import GENESIS

    checkpoints.proven = checkpoints.stable = checkpoints.certified = GENESIS
    return right(self, view, checkpoints, ordering)


# ------------------------------------------------------------------------------------------------- 4.4 VIEW-CHANGE

returns("checks_no_certificate", "", "Notary.flaw_in_prepared", "vc a_view_change_is_refused_with", "too few votes")
returns("checks_no_view_change", "", "Notary.flaw_in_view_change", "vc a_view_change_is_refused_with", "seq twice")
returns("refuses_every_view_change", "no", "Notary.flaw_in_view_change", "vc a_good_view_change_is_kept")
returns("asks_for_no_signature", True, "Notary.check_view_change", "vc a_view_change_is_refused_with", "no signature")


@mutant("messages.prepared_digest", "vc a_view_change_is_refused_with", "a list changed after signing")
def signs_no_certificate(right: Any, message: Any) -> bytes:
    return bytes(32)


@mutant("ViewChanges.on_view_change", "vc a_view_change_is_refused_with", "a vote that was not cast")
def one_bad_one_hides_the_others(right: Any, self: Any, message: Any) -> list[Any]:
    effects = [] if getattr(self, "spoilt", False) else right(self, message)
    self.spoilt = bool(effects)
    return list(effects)


@mutant("ViewChanges.on_view_change", "vc one_view_change_a_sender_a_view_and_another_proves_a_lie")
def takes_the_latest_version(right: Any, self: Any, message: Any) -> list[Any]:
    self.heard.pop(message.replica, None)
    return list(right(self, message))


@mutant("PbftCore._on_view_change", "vc a_view_change_in_anothers_name_is_refused")
def anybody_leaves_for_anybody(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    return list(right(self, message.replica, message))


# ----------------------------------------------------------------------------------------------------- 4.4 the choice


@mutant("ViewChanges.choose", "vc the_highest_view_decides_each_seq_and_gaps_are_null")
def takes_the_lowest_view(right: Any, self: Any, view_changes: Any) -> Any:
    low, chosen = right(self, view_changes)
    proofs = [proof for part in view_changes for proof in part.prepared]
    lowest = {proof.seq: proof for proof in sorted(proofs, key=lambda proof: -proof.view)}
    return low, [lowest.get(item if isinstance(item, int) else item.seq, item) for item in chosen]


@mutant("ViewChanges.choose", "vc the_highest_view_decides_each_seq_and_gaps_are_null")
def leaves_gaps(right: Any, self: Any, view_changes: Any) -> Any:
    low, chosen = right(self, view_changes)
    return low, [item for item in chosen if not isinstance(item, int)]


@mutant("ViewChanges.choose", "vc what_committed_anywhere_keeps_its_number")
def forgets_the_prepared(right: Any, self: Any, view_changes: Any) -> Any:
    low, chosen = right(self, view_changes)
    return low, [item if isinstance(item, int) else item.seq for item in chosen]


@mutant("ViewChanges.choose", "vc min_s_is_the_latest_stable_checkpoint")
def begins_at_the_beginning(right: Any, self: Any, view_changes: Any) -> Any:
    from pbft.messages import GENESIS

    return GENESIS, [PreparedProof(0, seq, bytes(32), b"", []) for seq in range(1, 3)]


@mutant("Executor.apply", "ex a_null_request_changes_no_state")
def null_requests_take_time(right: Any, self: Any, index: int, requests: Any, time: int, next_seed: bytes) -> Any:
    results = right(self, index, requests, time, next_seed)
    self._agreed = type(self._agreed)(self._agreed.time + 1, self._agreed.seed)
    return results


# --------------------------------------------------------------------------------------------------------- 4.4 NEW-VIEW


@mutant("ViewChanges.make", "vc the_primary_of_the_next_view_begins_it_with_a_quorum")
def begins_without_a_quorum(right: Any, self: Any, view: int) -> Any:
    self._notary.quorum -= 1
    return right(self, view)


@mutant("Asking.asking", "vc p6_view_changes_of_different_views_do_not_add_up")
def adds_up_unlike_views(right: Any, self: Any, view: int) -> list[Any]:
    return [self.heard[node] for node in sorted(self.heard) if self.heard[node].view >= view]


@mutant("PbftCore._gather", "vc the_primary_of_the_next_view_begins_it_with_a_quorum")
def begins_before_it_is_written(right: Any, self: Any) -> list[Any]:
    return sorted(right(self), key=lambda effect: type(effect) is not Send)


returns("checks_no_new_view", "", "ViewChanges.flaw_in_new_view", "vc a_new_view_is_refused_with", "")
returns("does_not_recompute_o", "", "ViewChanges.flaw_in_choice", "vc a_new_view_is_refused_with", "O empty")
returns("asks_for_no_signature_of_v", True, "Notary.check_new_view", "vc a_new_view_is_refused_with", "")
returns("checks_no_part_of_v", "", "ViewChanges.flaw", "vc a_new_view_is_refused_with", "")


@mutant("ViewChanges.on_second", "vc the_first_new_view_for_a_view_stands")
def the_second_new_view_stands(right: Any, self: Any, message: Any) -> list[Any]:
    self.new_view = message
    return []


@mutant("PbftCore._begin", "vc a_backup_accepts_a_proper_new_view")
def votes_before_the_view_is_written(right: Any, self: Any) -> list[Any]:
    return sorted(right(self), key=lambda effect: type(effect) is not Send)


@mutant("Ordering.enter", "vc a_backup_accepts_a_proper_new_view")
def votes_for_nothing_of_o(right: Any, self: Any, view: int, low: int, proposals: Any, holders: Any) -> list[Any]:
    right(self, view, low, proposals, holders)
    return []


@mutant("Ordering.enter", "vc new_pre_prepares_follow_max_s")
def forgets_o(right: Any, self: Any, view: int, low: int, proposals: Any, holders: Any) -> list[Any]:
    return list(right(self, view, low, [], holders))


@mutant("Ordering.bottom", "vc nothing_at_or_below_min_s_is_voted_on")
def votes_below_the_new_view(right: Any, self: Any) -> int:
    return int(max(self.low, self.high - 2 * self._notary.log_window))


@mutant("Ordering.bottom", "li a_laggard_is_bounded_whatever_a_peer_tells")
def slots_are_without_number(right: Any, self: Any) -> int:
    return int(max(self.low, self.floor))


@mutant("PbftCore._harvest", "vc requests_that_lost_their_number_wait_again")
def forgets_what_lost_its_number(right: Any, self: Any, message: Any) -> None: ...


@mutant("PbftCore._enter", "cp what_a_new_view_proved_is_known_after_a_restart")
def learns_no_checkpoint_of_v(right: Any, self: Any, message: Any) -> list[Any]:
    learn, self.checkpoints.learn = self.checkpoints.learn, lambda proof: None
    try:
        return list(right(self, message))
    finally:
        self.checkpoints.learn = learn


returns("tells_no_new_primary", [], "Intake.forward_waiting", "li a_new_primary_is_told_what_waits")

# -------------------------------------------------------------------------------------------------- 4.4 what is missing

returns("lacks_nothing", [], "Slot.lacking", "vc a_missing_body_is_fetched_by_its_digest")
returns("asks_for_no_body", [], "Ordering.fetch_bodies", "vc a_missing_body_is_fetched_by_its_digest")
returns("gives_no_body", [], "Giving.batch", "vc a_missing_body_is_fetched_by_its_digest")


@mutant("Ordering.supply", "vc a_wrong_body_is_no_answer")
def takes_any_body(right: Any, self: Any, seq: int, batch: Any) -> list[Any]:
    slot = self.slots[seq]
    batch.digest = slot.digest
    return list(right(self, seq, batch))


# --------------------------------------------------------------------------------------------------------- 4.5 liveness


@mutant("Asking.wanted", "li f_plus_1_join_the_smallest_view_that_they_support")
def joins_at_one(right: Any, self: Any, view: int) -> int | None:
    others = [message.view for node, message in self.heard.items() if node != self._notary.me]
    return max(others) if max(others, default=0) > view else None


@mutant("Asking.wanted", "li f_plus_1_join_the_smallest_view_that_they_support")
def joins_the_highest(right: Any, self: Any, view: int) -> int | None:
    smallest = right(self, view)
    return None if smallest is None else max(message.view for message in self.heard.values())


@mutant("Patience.await_new_view", "li p14_where_nobody_is_expected")
def hurries_for_ever(right: Any, self: Any, now: int, view: int, hopeless: bool) -> list[Any]:
    effects = list(right(self, now, view, hopeless))
    return [SetTimer(self.NEW_VIEW, self._options.heartbeat)] if hopeless else effects


@mutant("Asking.wanted", "li one_replica_alone_forces_no_view_change")
def follows_one_replica(right: Any, self: Any, view: int) -> int | None:
    return max((message.view for message in self.heard.values() if message.view > view), default=None)


@mutant("Asking.enough", "vc request_timers_stop_during_a_view_change")
def waits_for_new_view_alone(right: Any, self: Any, view: int) -> bool:
    return bool(self.heard)


returns("waits_for_no_new_view", [], "Patience.await_new_view", "li without_new_view_the_next_one_is_asked_for")
returns("expects_a_new_view_of_anybody", False, "Hearing.misses", "li p38_of_who_is_throttled_or_silent")
returns("says_it_once", [], "PbftCore._repeat_view_change", "li view_change_is_repeated_until_its_view_begins")
