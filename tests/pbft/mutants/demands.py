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
returns("shuns_nobody", [], "Intake.shun", "de p36_a_client_that_signs_badly_is_shunned", "PbftCore")


@mutant("Demands.wake", "de an_idle_cluster_looks_at_nothing")
def looks_for_ever(right: Any, self: Any) -> list[Any]:
    self._operations += 1
    return list(right(self))


@mutant("Demands.on_complaint", "de clement09_no_f_replicas_depose_a_primary", "PbftCore")
def complains_with_anybody(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    effects = right(self, sender, message)
    if message.view == self._ordering.view and not self.complaint:
        self.complaint = "so does another"
        return [*effects, *self._complain()]
    return list(effects)


@mutant("Demands.on_complaint", "de clement09_where_one_correct_replica_leaves_all_do")
def complains_for_itself_alone(right: Any, self: Any, sender: int, message: Any) -> list[Any]:
    complaint, self.complaint = self.complaint, self.complaint or "none of mine"
    right(self, sender, message)
    self.complaint = complaint
    return []


@mutant("Requests.queue", "de p37_clients_take_turns_in_a_batch")
def queues_all_as_one(right: Any, self: Any, request: Any) -> None:
    turns, self._turns = self._turns, False
    right(self, request)
    self._turns = turns


@mutant("Throughput.add", "de throughput_comes_near_what_is_shown")
def believes_the_last_moment(right: Any, self: Any, operations: int, time: int) -> None:
    self.rate = operations * 1e6 / time


@mutant("MacRequests.queue", "ma p31_one_client_costs_one_view_change", "1")
def proposes_what_suspects_ask_for(right: Any, self: Any, request: Any) -> None:
    super(type(self), self).queue(request)


returns("asks_nobody_when_careful", [], "MacRequests.to_back", "ma p31_a_careful_primary_asks", "MacCore")


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
