"""Broken functions of accountability: see the map in `pbft/README.md`."""

from __future__ import annotations

import copy
from typing import Any

from pbft import messages as m
from pbft.statements import TWO
from replog.types import Message
from tests.pbft.mutants import mutant, returns


@mutant("statements.contradiction", "ev what_a_correct_node_may_say_is_no_evidence")
def any_two_statements_convict(right: Any, first: Message, second: Message) -> str:
    return TWO[type(first)]


returns("believes_what_others_tell", True, "Witness._is_signed", "ev what_others_tell_counts_only_with_its_signature")
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


returns("lets_clients_go", [], "Notary.accuse_client", "ev a_client_with_two_requests")


@mutant("witness._keep", "ev what_is_remembered_is_bounded")
def remembers_all_places(right: Any, kept: Any, place: Any, message: Any) -> None:
    kept.setdefault(place, message)


@mutant("blame._about", "bl a_fork_over_views_names")
def looks_at_commits_alone(right: Any, seq: int, shown: Any, n: int) -> Any:
    found = right(seq, shown, n)
    return {node: [said for said in parts if type(said) is m.Commit] for node, parts in found.items()}
