"""[Clement09] `robust`: what backups demand of their primary, and who is not heard."""

from __future__ import annotations

from typing import Any

from tests.pbft.mutants import mutant, returns

returns("complains_of_nothing", "", "Demands._fault", "de p38_a_primary_that_proposes_nothing_is_given_up", "True")
returns("sends_nothing_on_when_late", [], "Demands.late", "de p35_a_request_that_only_backups_have")
returns("never_gives_up_a_primary", False, "Demands.given_up", "de clement09_no_primary_leads_for_ever", "True")
returns("is_never_lenient", 0, "Demands.leniency", "de p14_where_no_primary_can_meet_the_demands", "PbftCore")
returns("thinks_all_waits_fair", None, "Waits.unfair", "de p37_who_passes_one_client_by", "True")
returns("allows_for_none_before", 1, "Requests.before", "de p37_requests_before_its_own_are_allowed_for")
returns("passes_by_without_end", False, "Waits._is_passed_by", "de p37_who_has_none_before_is_soon_passed_by")
returns("allows_for_no_debts", False, "Requests.owes", "de p37_who_owes_is_kept_waiting")
returns("times_who_owes", False, "Requests.owes", "de p37_what_its_client_owes_is_held_against_nobody_by")
returns("allows_for_no_crowd", 1, "Waits._patience", "de p37_where_many_come_at_once")
returns("shuns_nobody", [], "Intake.shun", "de p36_a_client_that_signs_badly_is_shunned", "PbftCore")


@mutant("Demands.wake", "de an_idle_cluster_looks_at_nothing")
def looks_for_ever(right: Any, self: Any, now: int) -> list[Any]:
    self._operations += 1
    return list(right(self, now))


@mutant("Demands.on_complaint", "de clement09_no_f_replicas_depose_a_primary", "PbftCore")
def complains_with_anybody(right: Any, self: Any, now: int, sender: int, view: int) -> list[Any]:
    effects = right(self, now, sender, view)
    if view == self._ordering.view:
        return [*effects, *self._find(now, "so does another")]
    return list(effects)


@mutant("Demands.on_complaint", "de clement09_where_one_correct_replica_leaves_all_do")
def complains_for_itself_alone(right: Any, self: Any, now: int, sender: int, view: int) -> list[Any]:
    complaint, self.complaint = self.complaint, self.complaint or "none of mine"
    right(self, now, sender, view)
    self.complaint = complaint
    return []


@mutant("Requests.queue", "de p37_clients_take_turns_in_a_batch")
def queues_all_as_one(right: Any, self: Any, request: Any) -> None:
    turns, self._turns = self._turns, False
    right(self, request)
    self._turns = turns


@mutant("Flow.end", "fl the_mean_wait_is_what_waits_over_what_ends")
def counts_no_end(right: Any, self: Any, requests: int, operations: int, ended: int) -> None: ...


@mutant("Flow.look", "fl p38_what_no_backup_was_sent_does_not_count")
def counts_all_that_is_done(right: Any, self: Any, now: int, sample: float = 1.0) -> Any:
    self._ended = max(self._ended, round(sample * self._requests))
    return right(self, now, sample)


@mutant("Flow.look", "fl p38_more_than_a_sample_makes_no_wait_shorter")
def takes_all_for_a_sample(right: Any, self: Any, now: int, sample: float = 1.0) -> Any:
    pace, shown = right(self, now, sample), self._averages
    return pace._replace(wait=shown[3] / shown[2] * 1e6)


@mutant("Sample.left_out", "cl p38_nobody_can_tell_whom_a_client_tells")
def samples_by_the_timestamp(right: Any, self: Any, timestamp: int, members: Any, leader: int) -> Any:
    self._secret = b"known to all"
    return right(self, timestamp, members, leader)


@mutant("Requests.pass_time", "de p37_where_nobody_else_wants_anything_time_pays")
def is_paid_slowly(right: Any, self: Any) -> None:
    self._settle(64)


@mutant("PbftCore._oldest", "de p37_where_only_who_owes_waits_a_mute_primary")
def waits_for_nobody_who_owes(right: Any, self: Any) -> Any:
    found = right(self)
    return None if isinstance(found, int) else found


returns("echoes_nothing", False, "MacRequests.echoes", "ma p31_others_vouch_for_what_one_backup", "MacCore")


@mutant("demands._oldest", "de p37_a_client_with_much_before_it")
def watches_the_oldest_whosever(right: Any, requests: Any) -> Any:
    return list(requests.counted())[:64]


returns("tells_nobody_of_what_is_late", [], "ClientCore._tell_others", "cl p38_all_are_told_of_what_is_late")


@mutant("Records.better", "fl clement09_one_view_alone_shows_nothing")
def believes_one_view(right: Any, self: Any, *what: Any) -> Any:
    self._weak_quorum = 1
    return right(self, *what)


returns(
    "judges_while_cut_off",
    False,
    "PbftCore._is_excused",
    "de clement09_who_hears_nobody_complains_of_nobody",
    "PbftCore",
)


@mutant("MacRequests.queue", "ma p31_one_client_costs_one_view_change", "1")
def proposes_what_suspects_ask_for(right: Any, self: Any, request: Any) -> None:
    super(type(self), self).queue(request)


returns("asks_nobody_when_careful", [], "MacRequests.to_back", "ma p31_a_careful_primary_asks", "MacCore")


returns("believes_no_backups", None, "MacRequests._believe", "ma p31_a_primary_takes_in_what_all", "MacCore")
returns("blames_for_what_it_alone_has", None, "MacRequests.question", "ma p31_what_too_few_vouch_for", "MacCore")


@mutant("MacRequests.back", "ma p31_a_mute_primary_is_given_up_for_a_suspects_request", "MacCore")
def hears_no_other_backup(right: Any, self: Any, request: Any, backup: int, leads: bool = True) -> None:
    if leads:
        right(self, request, backup)


@mutant("Suspects.name", "ma p31_no_f_replicas_make_a_client_suspect", "MacCore")
def one_replica_makes_a_suspect(right: Any, self: Any, now: int, sender: int, clients: Any) -> list[str]:
    return [client for client in clients if self.add(now, client)]


@mutant("Suspects.forgive", "ma p31_suspects_are_forgiven_in_time")
def forgives_nobody(right: Any, self: Any, now: int) -> None: ...


returns(
    "waits_a_whole_time_out",
    [],
    "MacCore._on_doubt",
    "ma p31_what_nobody_vouches_for_ends_the_view_after_a_moment",
    "True",
)


@mutant("Demands.repeat", "de clement09_a_complaint_is_withdrawn")
def complains_for_ever(right: Any, self: Any, now: int) -> list[Any]:
    self._found_at = now
    return list(right(self, now))


returns("counts_what_came_late", False, "Requests.outran", "de p36_a_backup_that_executes_before_it_hears", "PbftCore")


@mutant("PbftCore._on_view_change", "de clement09_whoever_leaves_complains", "True")
def hears_no_complaint_in_it(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    complain, self.demands.on_complaint = self.demands.on_complaint, lambda *_: []
    effects = right(self, sender, message)
    self.demands.on_complaint = complain
    return list(effects)
