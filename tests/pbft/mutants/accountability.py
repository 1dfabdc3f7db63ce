"""Broken functions of accountability: see the map in `pbft/README.md`."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import Any

import msgspec
import pytest
from cryptography import x509

from pbft import messages as m
from pbft.beginnings import VIEWS_MAX
from pbft.evidence import electorate
from pbft.memory import ODD_MAX
from pbft.statements import TWO
from replog import certificates
from replog.codec import Domain
from replog.core import Accuse
from replog.types import Message
from tests.pbft.mutants import mutant, returns


@mutant("statements.contradiction", "ev what_a_correct_node_may_say_is_no_evidence")
def any_two_statements_convict(right: Any, first: Message, second: Message) -> str:
    return TWO[type(first)]


returns("believes_what_others_tell", True, "Witness._is_signed", "ev what_others_tell_counts_only_with_its_signature")


@mutant("Witness.told", "ev a_testimony_with_a_bad_signature_is_refused")
def hears_on_after_a_bad_signature(right: Any, self: Any, sender: int, message: m.Testimony, may_check: Any) -> Any:
    parts = [m.Testimony([part]) for part in message.statements]
    return [effect for part in parts for effect in right(self, sender, part, may_check)]


@mutant("Witness.told", "ev a_testimony_costs_few_signatures")
def checks_whatever_it_is_shown(right: Any, self: Any, sender: int, message: m.Testimony, may_check: Any) -> Any:
    return right(self, sender, message, lambda: True)


returns("shows_what_it_was_told", True, "Witness._may_show", "ev nobody_makes_a_correct_replica_show")
returns("keeps_it_to_itself", [], "Witness._show", "ev two_pre_prepares_at_different_replicas_come_together")
returns("tells_nobody_of_states", [], "Witness.stated", "ev two_states_at_different_replicas")
returns("tells_nobody_of_strays", [], "Witness.tick", "ev two_votes_at_a_place_that_nobody_gets_to")
returns("tells_nobody_who_is_left_out", [], "Witness._left_out", "ev two_view_changes_of_which_no_new_view_tells")
returns("forgets_what_its_disk_says_of_others", None, "Witness.recalled", "ev what_a_replica_has_accepted_counts")
returns("sees_nothing_hidden", None, "statements.hidden", "ev a_view_change_that_hides_a_commit")


@mutant("statements.hidden", "ev what_lies_below_a_proved_checkpoint")
def checkpoints_excuse_nothing(right: Any, first: Any, later: m.ViewChange) -> Any:
    return right(first, m.ViewChange(later.view, m.GENESIS, later.prepared, later.replica, b""))


returns("lets_forgers_go", [], "Witness.flawed", "ev with_a_forged_certificate")


@mutant("Notary.unbounded", "ev a_rule_that_rests_on_options_convicts_nobody")
def convicts_by_its_own_options(right: Any, self: Any) -> Any:
    return copy.copy(self)


@mutant("Domain.statement", "fr a_word_of_one_side_of_a_fork")
def signs_the_number_of_an_epoch_alone(right: Any, self: Any, kind: str, fields: Any) -> bytes:
    return bytes(right(Domain(self.cluster, self.epoch), kind, fields))


@mutant("Lineage._domain", "mb what_is_signed_names_the_state")
def says_nothing_of_the_beginning(right: Any, self: Any, epoch: int) -> Domain:
    return Domain(right(self, epoch).cluster, epoch)


returns("judges_by_the_other_side", True, "Portable.is_of", "fr a_word_of_one_side_of_a_fork")
returns("begins_with_any_epoch", True, "membership.is_first", "fr a_later_configuration_does_not_pass")
returns("believes_any_authority", None, "Pin.check", "ef who_joined_later_is_known_by_no_authority")


returns("begins_with_members_of_its_own", None, "Pin.check_first", "fr links_begin_with_the_first_members")


@mutant("Pin.keys", "ef a_certificate_of_another_key_than_the_cluster_has")
def overlooks_certificates_of_other_keys(right: Any, self: Any, config: Any, certified: Any) -> Any:
    return right(self, config, {})


@mutant("certificates._identity_of", "ce a_certificate_of_another_use_is_none")
def takes_keys_of_any_use(right: Any, certificate: Any, root: Any, cluster: str) -> Any:
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "EVIDENCE", next(iter(uses)))
        return right(certificate, root, cluster)


@mutant("Pin.keys", "ef who_joined_later_is_known_by_no_authority")
def believes_certificates_of_later_members(right: Any, self: Any, config: Any, certified: Any) -> Any:
    return certified | right(self, config, certified)


@mutant("Identity.is_first", "ef who_joined_later_is_known_by_no_authority")
def anybody_was_there_at_first(right: Any, self: Any) -> bool:
    return True


@mutant("Identity.is_first", "ef who_joined_later_is_known_by_no_certificate")
def anybody_was_there_without_links(right: Any, self: Any) -> bool:
    return True


returns("rests_on_what_it_was_started_with", None, "EvidenceFolder.follow", "fr a_file_against_who_joined")


@mutant("Origin.make", "fr a_file_against_who_joined")
def files_prove_no_members(right: Any, self: Any, *args: Any) -> Any:
    return msgspec.structs.replace(right(self, *args), genesis=None, links=[])


returns("takes_a_fork_of_what_it_knows", None, "Roster._check_known", "fr a_process_that_runs_takes_no_fork")


@mutant("EvidenceFolder._has_enough", "ef clients_fill_their_own_share")
def clients_count_like_replicas(right: Any, self: Any, culprit: Any, known: Any) -> bool:
    return len(known) >= 8 or right(self, culprit, known)


@mutant("EvidenceFolder._file_name", "ef a_place_of_a_later_epoch")
def names_no_epoch(right: Any, self: Any, accusation: Any) -> str:
    return str(right(self, msgspec.structs.replace(accusation, epoch=0, begins=b"")))


@mutant("certificates.identity_of", "ef a_certificate_of_a_strange_kind")
def believes_that_it_knows_all_kinds(right: Any, pem: str, authority: str, cluster: str) -> Any:
    certificate, root = (certificates._load_certificate(each) for each in (pem, authority))
    return certificates._identity_of(certificate, root, cluster)


returns("lets_clients_go", [], "Notary.accuse_client", "ev a_client_with_two_requests")
returns("shrugs_at_the_second", [], "Intake.second", "ev a_client_that_gives_one_replica_two_requests", "[2]")


@mutant("Intake.second", "ev what_a_client_did_not_sign_convicts")
def takes_the_second_for_signed(right: Any, self: Any, known: Any, request: Any, sender: Any) -> Any:
    return self.notary.accuse_client(known, request)


returns("remembers_all_places", None, "memory._make_room", "ev what_is_remembered_is_bounded")
returns("remembers_all_that_is_odd", None, "Memory._bound", "ev what_is_remembered_is_bounded")
returns("takes_all_for_near", True, "Memory.is_near", "ev junk_between_two_faces")


@mutant("Memory._bound", "ev junk_between_two_faces", "far away and signed")
def forgets_the_oldest_of_all(right: Any, self: Any, signer: int, odd: Any) -> None:
    if len(odd) > ODD_MAX:
        for kept in (odd, self.said[signer], self.commits[signer]):
            del kept[next(iter(kept))]


@mutant("Strays._thinned", "ev junk_hides_no_stray")
def forgets_the_oldest_stray(right: Any, self: Any, signer: int, waiting: Any) -> Any:
    del waiting[next(iter(waiting))]
    return waiting


returns("names_no_new_view", [], "Beginnings.named", "ev two_new_views_at_different_replicas", "False")
returns("shows_no_other_new_view", [], "Beginnings.unlike", "ev two_new_views_at_different_replicas", "False")
returns("names_the_convicted_too", True, "Beginnings._is_open", "ev new_views_are_named_in_turn")


@mutant("Witness.heard", "ev two_new_views_at_different_replicas", "True")
def takes_new_views_of_their_primary_alone(right: Any, self: Any, sender: int, message: Any) -> Any:
    passed_on = isinstance(message, m.NewView) and sender != self._notary.primary(message.view)
    return [] if passed_on else right(self, sender, message)


@mutant("Witness.heard", "ev a_pre_prepare_of_another_than_the_primary")
def takes_pre_prepares_of_anybody(right: Any, self: Any, sender: int, message: Any) -> Any:
    return self._stated(sender, message) if isinstance(message, m.PrePrepare) else right(self, sender, message)


@mutant("Witness.recalled", "ev the_new_view_on_the_disk_is_named")
def forgets_which_view_it_began(right: Any, self: Any, record: Message) -> None:
    if not isinstance(record, m.NewView):
        right(self, record)


@mutant("Witness.proposed", "ev a_vote_before_the_proposal_is_shown")
def shows_nothing_when_it_proposes(right: Any, self: Any, message: Any) -> Any:
    right(self, message)
    return []


@mutant("Strays.wait", "ev words_that_are_signed_hide_no_stray")
def has_little_room_for_strays(right: Any, self: Any, signer: int, place: Any, message: Any) -> None:
    right(self, signer, place, message)
    self._waiting[signer] = dict(list(self._waiting[signer].items())[-128:])


returns("is_in_no_hurry", False, "Strays.any", "ev where_words_stand_alone_the_ticks_are_near")


@mutant("Strays._in_turn", "ev no_liar_hides_another")
def shows_one_after_the_other(right: Any, self: Any) -> Any:
    return sorted(right(self))


@mutant("Strays._in_turn", "ev strays_that_are_shown_are_bounded")
def shows_a_stray_once(right: Any, self: Any) -> Any:
    return ((signer, place, said, True) for signer, place, said, _ in right(self))


@mutant("beginnings.forget_far", "ev other_view_changes_hide_no_second_one")
def remembers_the_latest_views(right: Any, views: Any, present: int) -> Any:
    gone = sorted(views)[: max(0, len(views) - VIEWS_MAX)]
    return [view for view in gone if views.pop(view)]


@mutant("evidence._flaw_in_new_view", "ev a_new_view_by_another_than_its_primary")
def anybody_begins_a_view(right: Any, culprit: Any, message: Any, notary: Any) -> str:
    return str(right(notary.primary(message.view), message, notary))


@mutant("Notary.accuse", "mb an_accusation_names_the_epoch")
def accuses_in_no_epoch(right: Any, self: Any, *args: Any) -> Any:
    return [
        msgspec.structs.replace(effect, epoch=0, begins=b"") if isinstance(effect, Accuse) else effect
        for effect in right(self, *args)
    ]


returns("keeps_to_itself_what_is_decided", [], "Witness._decide", "ev what_a_quorum_has_committed_to_is_held_against")


@mutant("Witness._may_show", "ev a_word_is_shown_so_often_and_no_more")
def repeats_itself_for_ever(right: Any, self: Any, message: Any, place: Any, signer: int) -> bool:
    self._shown.clear()
    return bool(right(self, message, place, signer))


@mutant("Witness.recalled", "ev a_pre_prepare_of_an_earlier_view_counts_after")
def forgets_what_earlier_primaries_said(right: Any, self: Any, record: Message) -> None:
    if not isinstance(record, m.PrePrepare):
        right(self, record)


@mutant("evidence.convict", "ev the_key_of_a_member_under_another_id")
def asks_for_the_key_alone(right: Any, charge: Any, domain: Domain, verifier: Any, members: Any = None) -> Any:
    known = electorate(members)
    return right(charge, domain, verifier, dataclasses.replace(known, ids=(*known.ids, charge.culprit)))


@mutant("blame._about", "bl a_fork_over_views_names")
def looks_at_commits_alone(right: Any, seq: int, shown: Any, n: int) -> Any:
    found = right(seq, shown, n)
    return {node: [said for said in parts if type(said) is m.Commit] for node, parts in found.items()}


# -------------------------------------------------------------------------------------- what a correct replica promised


@mutant("Ordering.end_at", "pr a_laggard_that_is_shown_a_proof")
def drops_what_lies_beyond(right: Any, self: Any, boundary: int) -> None:
    right(self, boundary)
    for seq in [seq for seq in self.slots if seq > boundary]:
        del self.slots[seq]


@mutant("Ordering.due", "pr nobody_executes_beyond_the_boundary")
def executes_what_lies_beyond(right: Any, self: Any, seq: int) -> Any:
    return self.slots.get(seq)


@mutant("Checkpoints.on_own", "pr whose_state_is_replaced_signs_no_second_one", "0")
def says_whatever_its_state_is(right: Any, self: Any, seq: int, digest: bytes) -> Any:
    self.said.pop(seq, None)
    return right(self, seq, digest)


returns("forgets_what_states_it_signed", None, "Checkpoints.recall", "pr whose_state_is_replaced_signs_no", "1")
returns("believes_words_against_views", 0, "ViewChanges.signed", "pr a_refresh_keeps_the_view_that", "0")
returns("forgets_whom_it_followed", [], "ViewChanges.reasons", "pr a_refresh_keeps_the_view_into", "1")
returns("believes_words_against_signatures", 0, "Checkpoints.signed", "pr a_refresh_forgets_nothing_that_a_quorum", "0")


# ------------------------------------------------------------------------------------------------------- after a fork


@mutant("blame._signed", "bl what_proves_nothing_is_passed_by")
def takes_all_for_signed(right: Any, node: int, said: Any, notary: Any) -> Any:
    return said


@mutant("blame._charges", "bl each_statement_is_looked_at_once")
def tries_each_pair(right: Any, seq: int, said: Any) -> Any:
    for first, second in itertools.combinations(said, 2):
        yield from right(seq, [first, second])


@mutant("blame._hidings", "bl a_hidden_certificate_is_found_behind_any")
def looks_at_the_last_one_alone(right: Any, seq: int, said: Any) -> Any:
    ordered = sorted(said, key=lambda each: each.view)
    for pair in itertools.pairwise(ordered):
        yield from right(seq, pair)


@mutant("blame._runs", "bl the_window_has_gaps")
def knows_no_gaps(right: Any, numbers: Any) -> Any:
    return [(numbers[0], numbers[-1])]


@mutant("blame.blame", "bl a_fork_that_names_f_liars_alone")
def f_liars_are_enough(right: Any, *args: Any) -> Any:
    found = right(*args)
    return dataclasses.replace(found, enough=bool(found.culprits))
