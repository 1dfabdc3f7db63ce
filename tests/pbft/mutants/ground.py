"""What the protocol stands on: one encoding, disks, timers, the application."""

from __future__ import annotations

from typing import Any

import pytest

from replog import membership, nesting, types
from replog.codec import BadMessage
from tests.pbft.mutants import mutant, returns


@mutant("Request.__init__", "rs one_signature_has_one_encoding")
def takes_any_encoding(right: Any, self: Any, raw: bytes) -> None:
    try:
        right(self, raw)
    except BadMessage:
        right(self, types._encode(types._open_envelope(raw)))


@mutant("merkle._placed", "me a_tree_that_shrinks_is_as_if_it_had_never_grown")
def hashes_in_the_order_of_arrival(right: Any, records: Any) -> Any:
    placed = right(records)
    order = {key: number for number, key in enumerate(records)}
    return sorted(placed, key=lambda one: (one[0] >> 250, order[one[1]]))


@mutant("Codec.decode", "co lengths_and_nesting_take_no_memory", "xdd")
def any_bytes_are_a_message(right: Any, self: Any, raw: bytes) -> Any:
    try:
        return right(self, raw)
    except BadMessage:
        return None


@mutant("_File._attempt", "so a_failed_commit_poisons_the_store_until_restart")
def believes_a_second_try(right: Any, self: Any, work: Any) -> None:
    self._failed = None
    right(self, work)


@mutant("storage._chain", "so a_changed_or_missing_row_is_noticed", "upto = 1")
def chains_numbers_alone(right: Any, before: bytes, number: int, upto: int, blob: bytes) -> bytes:
    return bytes(right(b"", number, 0, b""))


@mutant("LogFile._mark", "so a_changed_or_missing_row_is_noticed", "number = 24")
def takes_a_lost_end_for_a_torn_one(right: Any, self: Any, name: str) -> Any:
    return (self._head, self._hash) if name == "head" else right(self, name)


@mutant("_File._check", "so missing_foreign_and_doubly_opened_files_are_refused")
def opens_whatever_is_there(right: Any, self: Any, about: dict[str, str], owner: str) -> None:
    right(self, {**about, "owner": owner}, owner)


@mutant("PbftCore._on_timeout", "ho a_timer_that_was_never_armed_or_is_unknown_does_nothing")
def any_timer_will_do(right: Any, self: Any, event: Any) -> list[Any]:
    return list(self._ask_for(self.view + 1, "test")) if event.name == "new-view" else right(self, event)


returns("blames_whom_it_slept_through", True, "Hearing.connected", "li a_replica_that_was_asleep_blames_nobody")


@mutant("Runtime._undo_all", "sm a_failed_command_leaves_no_trace")
def failed_commands_leave_traces(right: Any, self: Any) -> None:
    self._undo.clear()


@mutant("runtime._text", "sm texts_hold_no_addresses")
def tells_what_differs_between_replicas(right: Any, error: BaseException) -> str:
    return str(error)


returns("follows_any_nesting", False, "runtime.is_tangled", "sm how_deep_the_stack_is", "800")


@mutant("nesting.is_tangled", "sm an_operation_of_too_many_items", "1000000")
def counts_no_items(right: Any, data: bytes) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nesting, "ITEMS_MAX", len(data))
        return bool(right(data))


@mutant("membership._verified", "mm a_change_has_one_encoding")
def passes_by_what_lies_behind(right: Any, operation: bytes, rules: Any) -> Any:
    return right(membership._encode(membership._decode_signed(operation)), rules)
