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
