"""Epochs: a change of the members."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.pbft.mutants import mutant, returns


@mutant("Pbft.boundary", "mb nothing_beyond_the_boundary_is_voted_on", "signatures")
def ends_at_the_next_checkpoint(right: Any, self: Any, options: Any) -> Any:
    """Not a whole window later."""
    interval = options.checkpoint_interval
    return lambda seq: -(-seq // interval) * interval


@mutant("Epochs._from_replica", "mb votes_of_an_old_epoch_count_for_nothing", "signatures")
def hears_words_of_any_epoch(right: Any, self: Any, sender: int, epoch: int, message: Any) -> Any:
    return right(self, sender, self.epoch, message)


@mutant("Lineage.setup_of", "mb votes_of_a_removed_replica_count_for_nothing")
def the_removed_still_vote(right: Any, self: Any, configuration: Any, stored: Any) -> Any:
    setup = right(self, configuration, stored)
    return replace(setup, members=tuple(sorted({*setup.members, *self.configurations[0].ids})))


@mutant("Lineage.setup_of", "mb several_come_at_once", "signatures")
def counts_with_the_old_f(right: Any, self: Any, configuration: Any, stored: Any) -> Any:
    return replace(right(self, configuration, stored), f=self.configurations[0].f)


@mutant("Epochs._dress", "mb a_restart_long_after_the_turn_finds")
def cuts_take_the_chain_along(right: Any, self: Any, effect: Any) -> Any:
    return (one for one in right(self, effect) if type(getattr(one, "record", None)).__name__ != "Links")


@mutant("Epochs._records_of", "mb a_new_view_of_an_old_epoch_begins_none")
def recalls_all_epochs(right: Any, self: Any, epoch: int) -> Any:
    return [record for each in range(epoch + 1) for record in right(self, each)]


@mutant("Outsider._on_proof", "mb a_joiner_believes_no_unproved_checkpoint")
def a_joiner_believes_any_proof(right: Any, self: Any, sender: int, message: Any) -> Any:
    self.checkpoints.learn(message)
    return self.fetch()


@mutant("lineage.certified", "mb forged_links_are_refused", "signatures")
def believes_any_certificate(right: Any, domain: Any, verifier: Any, configuration: Any, certificate: bytes) -> Any:
    from pbft.lineage import _said

    return _said(configuration, certificate)


returns("one_member_makes_a_link", True, "Lineage._is_believed", "mb forged_links_are_refused", "macs")
returns("reads_go_on_at_the_boundary", False, "Reads._is_over", "mb reads_end_with_the_epoch")
returns("waits_for_an_epoch_that_is_over", False, "Epochs._is_stuck", "mb a_replica_that_slept_over_two_epochs", "macs")
returns("teaches_nobody", [], "Epochs._teach", "mb a_replica_that_was_down_over_two_epochs", "signatures")
returns("asks_no_stranger_its_way", [], "Epochs._ask", "mb a_joiner_that_knows_nobody_who_is_left", "signatures")
returns("forgets_what_waits", None, "Requests.take_over", "mb nothing_beyond_the_boundary_is_voted_on", "signatures")


@mutant("PbftCore._on_applied", "mb a_change_that_is_executed_tentatively", "signatures")
def believes_what_is_tentative(right: Any, self: Any, event: Any) -> Any:
    self._look_for_the_end()
    return right(self, event)


@mutant("PbftCore._oldest", "mb a_primary_that_lets_a_change_wait")
def waits_for_no_boundary(right: Any, self: Any) -> Any:
    for identity, request in self.requests.pending.items():
        if not self.requests.is_over(request):
            return identity
    return self.executed + 1 if self.ordering.latest > self.executed else None


@mutant("PbftCore._make_room", "mb an_idle_cluster_gets_to_the_boundary")
def fills_no_epoch_up(right: Any, self: Any) -> Any:
    self.requests.expect_nulls(True)
    return self.proposing.fill(self.recovery.leave.point)


@mutant("PbftCore._on_applied", "mb null_requests_that_come_before", "signatures")
def waits_for_a_tick(right: Any, self: Any, event: Any) -> Any:
    """Before it fills an epoch up."""
    make_room, self._make_room = self._make_room, list
    try:
        return right(self, event)
    finally:
        self._make_room = make_room


@mutant("Acceptance.on_pre_prepare", "mb null_requests_that_come_before", "signatures")
def drops_null_requests_that_come_first(right: Any, self: Any, sender: int, message: Any) -> Any:
    return [] if not (message.requests or self.requests._nulls) else right(self, sender, message)


@mutant("Lineage.hear", "mb forged_links_are_refused", "signatures")
def asks_for_no_path(right: Any, self: Any, sender: int, answer: Any) -> str:
    """The configuration is taken from the path, whatever state the certificate is of."""
    from replog.membership import RECORD_KEY, decode_membership
    from replog.merkle import _decode_records

    for link in answer.links[len(self.links) - answer.epoch :]:
        records = _decode_records(link.path[-1])
        if RECORD_KEY in records:
            self.links.append(link)
            self.configurations.append(decode_membership(records[RECORD_KEY]).following)
            self._ids.update(self.latest.ids)
    return ""


# ----------------------------------------------------------------------------------------------- rules, paths, clients


@mutant("Chain._certified", "cn an_unproved_configuration_changes_nothing")
def a_client_believes_any_certificate(right: Any, self: Any, known: Any, certificate: bytes) -> Any:
    import msgspec

    try:
        return right(self, known, certificate)
    except ValueError:
        seq, digest, _ = msgspec.msgpack.decode(certificate)
        return seq, digest


@mutant("Chain._claimed", "cn a_liar_is_not_whatever_it_repeats")
def a_client_believes_one_member(right: Any, self: Any) -> Any:
    said = [answer.link(self.known.epoch) for answer in self._claims.values()]
    return next((link for link in said if link is not None and self._state(link) is not None), None)


@mutant("membership._verified", "mm the_administrator_alone_changes_members")
def anybody_changes_the_members(right: Any, operation: bytes, rules: Any) -> Any:
    from replog.membership import Refused, _decode_signed

    try:
        return right(operation, rules)
    except Refused:
        return _decode_signed(operation).change


@mutant("merkle._page_records", "mm another_record_put_beside_is_refused")
def believes_any_page(right: Any, digest: bytes, part: bytes, depth: int) -> Any:
    from replog.merkle import _decode_records

    return _decode_records(part)


@mutant("membership.removable", "mm one_that_has_the_state_stays")
def anybody_may_go(right: Any, held: Any) -> int:
    return len(held.members)


@mutant("Epochs._links_at_hand", "mb a_joiner_begins_where_it_was_enrolled")
def begins_with_the_first_members(right: Any, self: Any) -> Any:
    """Whatever it was given when it was enrolled."""
    known, self._setup = self._setup, replace(self._setup, links=())
    try:
        return right(self)
    finally:
        self._setup = known


@mutant("Ordering.executed", "mb nothing_is_committed_a_window_beyond")
def commits_whatever_is_prepared(right: Any, self: Any, seq: int) -> Any:
    self.reach = 2**62
    return []


@mutant("Ordering.executed", "mb nothing_is_committed_a_window_beyond")
def forgets_what_waits_for_the_state(right: Any, self: Any, seq: int) -> Any:
    right(self, seq)
    return []


@mutant("Epochs._do", "mb nothing_is_said_in_an_epoch_before")
def turns_before_the_state_is_saved(right: Any, self: Any, event: Any) -> Any:
    from replog.core import Saved

    effects, core = right(self, event), self.core
    over = getattr(core, "ends", None)
    return effects + (self._saved(Saved(over)) if over is not None and over == core.checkpoints.stable.seq else [])


@mutant("Epochs._turn", "mb what_was_promised_in_an_epoch_outlives_a_refresh")
def takes_its_view_along(right: Any, self: Any, configuration: Any, placed: Any, former: Any) -> Any:
    """Into the next epoch, however alone it was in it."""
    make, view = self._make, former.view if former is not None else 0

    def ahead(setup: Any) -> Any:
        core = make(setup)
        core.ordering.view = view
        return core

    self._make = ahead
    try:
        return right(self, configuration, placed, former)
    finally:
        self._make = make
