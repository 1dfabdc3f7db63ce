"""[CL02 proactive recovery] A replica that is checked and freed of an intruder."""

from __future__ import annotations

from typing import Any

from tests.pbft.mutants import mutant


@mutant("Recovery._distrust", "re what_no_correct_replica_can_hold_is_dropped")
def distrusts_nothing(right: Any, self: Any, base: int, view: int) -> list[Any]:
    return list(right(self, 2**60, 2**60))


@mutant("Leave.lane", "re all_are_told_at_once_and_never_more_than_f_are_refreshed", "4")
def has_a_lane_for_each(right: Any, self: Any, node: int) -> int:
    return node


@mutant("Executor.audit", "re a_changed_state_is_found_and_repaired")
def believes_the_digests_at_hand(right: Any, self: Any) -> int:
    from replog import merkle

    return merkle.count_parts(self._flush())


@mutant("recovery.highest_possible", "re the_estimate_is_above_what_a_quorum_reached", "900")
def believes_the_highest_word(right: Any, lows: Any, highs: Any, quorum: int, weak_quorum: int) -> int | None:
    return max(lows)


@mutant("Held.is_within", "re p16_what_was_promised_while_the_answers_were_under_way", "macs")
def drops_what_came_since(right: Any, self: Any, limit: int, base: int, view: int) -> bool:
    return False


@mutant("recovery.sound", "re what_no_correct_replica_can_hold_is_dropped")
def believes_its_whole_disk(right: Any, records: Any) -> list[Any]:
    return [record for record in records if type(record).__name__ != "Verdict"]


@mutant("Leave.recall", "re leave_is_not_forgotten_in_a_crash")
def forgets_whom_it_gave_leave(right: Any, self: Any, record: Any) -> None:
    pass


@mutant("Recovery.on_tick", "re whoever_did_not_hear_that_a_refresh_is_over_asks")
def asks_nobody_whether_it_is_over(right: Any, self: Any, now: int, in_sync: bool) -> list[Any]:
    return list(self._on_tick(now))


@mutant("Proposing.fill", "re an_idle_cluster_ends_a_refresh", "1-signatures")
def proposes_no_null(right: Any, self: Any, upto: int) -> list[Any]:
    return []


@mutant("Leave.note_point", "re a_liar_that_asks_for_the_moon")
def any_point_will_do(right: Any, self: Any, node: int, point: int, highest: int) -> None:
    right(self, node, point, point)


@mutant("Requests.flaw_in_batch", "re null_requests_are_for_refreshes_only")
def takes_nulls_at_any_time(right: Any, self: Any, batch: Any, wall: int) -> str:
    return str(right(self, batch, wall)) if batch.requests else ""


@mutant("Recovery.settle", "re a_changed_state_is_found_and_repaired")
def is_soon_content(right: Any, self: Any, now: int) -> list[Any]:
    self.point = min(self.point, self._checkpoints.stable.seq)
    return list(right(self, now))


@mutant("PbftCore._is_given_up", "re a_primary_gives_up_its_view_and_nobody_waits")
def waits_for_complaints(right: Any, self: Any, sender: int, message: Any) -> bool:
    return False


@mutant("PbftCore._is_given_up", "re a_backup_ends_no_view")
def anybody_ends_the_view(right: Any, self: Any, sender: int, message: Any) -> bool:
    return bool(message.view == self.view + 1)


@mutant("MacCore.renew_keys", "re under_macs_the_keys_that_an_intruder_saw")
def renews_once(right: Any, self: Any) -> None:
    self.requests.renew_keys()
