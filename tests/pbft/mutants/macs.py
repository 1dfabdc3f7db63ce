"""[CL99 5.2, CL02] `auth = "macs"`: authenticators, claims, the view change without signatures."""

from __future__ import annotations

from typing import Any

import pytest

from pbft.messages import NULL, ViewChangeAck
from replog.core import Accuse, Send
from tests.pbft.mutants import mutant, returns

# ------------------------------------------------------------------------------------------------------ authenticators

returns("no_mac_is_right", False, "MacRequests.verify", "ma requests_are_ordered_under_macs_and_nothing_is_signed")


@mutant("MacRequests.renew_keys", "ma keys_are_renewed_and_the_last_ones_count_as_long_again")
def keys_live_for_ever(right: Any, self: Any) -> None: ...


@mutant("SessionKeys.renew", "ma keys_are_renewed_and_the_last_ones_count_as_long_again")
def the_last_keys_die_at_once(right: Any, self: Any) -> None:
    right(self)
    self._secrets = self._secrets[:1]


@mutant("SessionKeys.check", "ma what_the_primary_alone_vouches_for_is_not_voted_for")
def any_entry_will_do(right: Any, self: Any, client: str, statement: bytes, authenticator: bytes) -> tuple[bool, bool]:
    return True, True


returns(
    "tells_nobody_the_next_key",
    [],
    "MacRequests.take_untold",
    "ma keys_are_renewed_and_the_last_ones_count_as_long_again",
)


@mutant("LinkNotary.accuse", "ma two_faces_are_noted_and_nobody_is_accused")
def accuses_without_proof(right: Any, self: Any, culprit: int, kind: str, place: int, first: Any, second: Any) -> Any:
    return [Accuse(culprit, kind, first, second), *right(self, culprit, kind, place, first, second)]


# ---------------------------------------------------------------------------------------------------------- weak quorum


@mutant("MacAcceptance.retry", "ma p31_a_weak_quorum_vouches_for_what_ones_own_entry_does_not")
def hears_no_vouching(right: Any, self: Any, seq: int) -> list[Any]:
    return []


@mutant("MacAcceptance.doubt", "ma p31_what_the_primary_alone_vouches_for_is_not_voted_for")
def the_primary_vouches_for_all(right: Any, self: Any, message: Any, batch: Any, request: Any) -> list[Any]:
    return list(self.ordering.accept(message, batch))


@mutant("MacRequests.forget_unasked", "ma requests_that_nobody_else_vouches_for_keep_no_later_primary", "True")
def waits_for_ever(right: Any, self: Any) -> None: ...


@mutant("Claims.add", "ma p43_one_replica_alone_decides_nothing")
def counts_words_not_replicas(right: Any, self: Any, sender: int, key: Any, value: Any) -> tuple[int, ...]:
    told = self.__dict__.setdefault("told", {})
    told[key, value] = told.get((key, value), 0) + 1
    return tuple(range(told[key, value]))


@mutant("MacAcceptance.decide", "ma p43_one_replica_alone_decides_nothing")
def one_word_decides(right: Any, self: Any, sender: int, message: Any, batch: Any) -> list[Any]:
    right(self, sender, message, batch)
    return list(right(self, (sender + 1) % 4, message, batch))


@mutant("Checkpoints.is_certain", "ma p42_a_weak_quorum_proves_a_state")
def a_weak_quorum_cuts_the_log(right: Any, self: Any, proof: Any) -> bool:
    return bool(proof.votes)


@mutant("ClaimedCheckpoints._claim", "ma p42_a_weak_quorum_proves_a_state")
def one_replica_proves_a_state(right: Any, self: Any, sender: int, seq: int, digest: bytes) -> None:
    right(self, sender, seq, digest)
    right(self, (sender + 1) % 4, seq, digest)


# ---------------------------------------------------------------------------------------------------------- view change

returns("skips_a1", True, "MacViewChanges.is_uncontradicted", "ma cl02_a1_nothing_is_chosen_against_what_may_have")
returns("skips_a2", True, "MacViewChanges.is_voted", "ma cl02_a2_one_replica_alone_puts_nothing_into_a_view")
returns("takes_any_view_change", "", "MacViewChanges.flaw", "ma cl02_a_view_change_that_no_correct_replica_says")
returns("fetches_no_view_change", [], "MacViewChanges.tick", "ma cl02_a_view_change_that_did_not_come_is_fetched")
returns("shows_no_view_change", [], "MacViewChanges.on_fetch", "mv what_it_was_not_sent_is_fetched_from_those_who_were")
returns(
    "needs_no_acknowledgement", True, "MacViewChanges._is_acknowledged", "ma cl02_a_new_view_rests_on_what_a_quorum"
)


@mutant("MacViewChanges.choose", "ma cl02_what_a_quorum_does_not_contradict")
def chooses_null_alone(right: Any, self: Any, messages: Any) -> Any:
    chosen = right(self, messages)
    return None if chosen is None else (chosen[0], [])


@mutant("MacViewChanges._checkpoint", "ma cl02_the_checkpoint_is_one_that_a_weak_quorum_has")
def begins_at_any_checkpoint(right: Any, self: Any, messages: Any) -> Any:
    return max((claim for message in messages for claim in message.checkpoints), key=lambda claim: -claim.seq)


@mutant("MacViewChanges.on_ack", "ma cl02_a_new_view_rests_on_what_a_quorum")
def hears_no_acknowledgement(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    return []


@mutant("MacViewChanges.follows", "mv p4_a_new_view_that_does_not_follow_is_refused")
def any_new_view_follows(right: Any, self: Any, message: Any, named: Any) -> bool:
    return True


@mutant("MacViewChanges.on_data", "mv what_it_was_not_sent_is_fetched_from_those_who_were")
def one_replica_tells_of_a_third(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    right(self, sender, message)
    return list(right(self, (sender + 1) % 4, message))


@mutant("MacViewChanges.on_new_view", "mv p4_v_must_be_of_a_quorum_of_distinct_replicas", "(0, 1)")
def any_v_will_do(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    quorum, self._notary.quorum = self._notary.quorum, 1
    try:
        return list(right(self, sender, message))
    finally:
        self._notary.quorum = quorum


@mutant("MacViewChanges.on_second", "mv p5_the_first_new_view_stands")
def the_last_new_view_stands(right: Any, self: Any, message: Any) -> list[Any]:
    self.new_view = message
    return []


@mutant("MacViewChanges.hard_state", "mv p16_what_it_voted_for_outlives_a_restart")
def cuts_its_votes_away(right: Any, self: Any, active: bool) -> list[Any]:
    return [record for record in right(self, active) if record is not self.own or not active]


returns("cuts_away_what_it_voted_for", [], "MacOrdering.hard_state", "mv p16_what_it_voted_for_outlives_a_restart")
returns("forgets_its_votes", None, "MacViewChanges.recall_votes", "mv p16_what_it_voted_for_outlives_a_restart")


returns("repeats_no_claim", [], "ClaimedCheckpoints.words", "cp what_is_lost_once_is_sent_again", "Checkpoint-macs")


@mutant("ClaimedCheckpoints.held", "mv cl02_a_view_change_tells_every_checkpoint_that_is_held")
def tells_the_stable_one_alone(right: Any, self: Any) -> list[Any]:
    return list(right(self)[:1])


# ------------------------------------------------------------------------------------ aimed at by liars, one at a time


@mutant("MacViewChanges.choose", "at p3_a_null_request_that_was_prepared")
def chooses_no_null_at_the_end(right: Any, self: Any, messages: Any) -> Any:
    chosen = right(self, messages)
    while chosen is not None and chosen[1] and chosen[1][-1].digest == NULL.digest:
        chosen[1].pop()
    return chosen


@mutant("MacOrdering.useless", "at cl02_p_has_all_that_was_prepared_above_h")
def drops_what_is_proved_elsewhere(right: Any, self: Any) -> int:
    return max([int(self.low), *(seq - self._notary.log_window for seq in self.slots)])


@mutant("Ordering.recall_view", "at p16_what_a_new_view_put_beyond")
def recalls_its_window_alone(right: Any, self: Any, *args: Any) -> None:
    self.enter(*args)


@mutant("MacViewChanges.on_new_view", "at p12_new_views_of_far_views")
def waits_for_the_farthest_view(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    if any(awaited.view >= message.view for awaited in self._awaited.values()):
        return []
    return list(right(self, sender, message))


@mutant("MacViewChanges._acknowledge", "at cl02_what_was_acknowledged_can_be_shown")
def acknowledges_what_it_may_not_keep(right: Any, self: Any, node: int) -> list[Any]:
    heard = self.heard.get(node)
    if heard is None or self._notary.primary(heard.view) in (self._notary.me, node):
        return []
    return [Send((self._notary.primary(heard.view),), ViewChangeAck(heard.view, node, self._digests[node]))]


@mutant("PbftCore._on_restored", "at cl02_a_state_taken_on_the_word_of_a_few")
def a_few_raise_h(right: Any, self: Any, proof: Any) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self.checkpoints, "is_certain", lambda proof: True)
        return list(right(self, proof))


returns("a_claim_is_enough_for_a_peer", True, "Ordering.proves", "at cl02_status_under_macs_a_decided_replica_repeats")
returns("takes_every_request", True, "MacRequests._is_backed", "at p31_a_client_that_goes_on_spoiling", "True")


@mutant("MacAcceptance.doubt", "at p31_a_doubt_of_an_older_view")
def the_first_doubt_stays(right: Any, self: Any, message: Any, batch: Any, request: Any) -> list[Any]:
    return [] if message.seq in self._doubted else list(right(self, message, batch, request))
