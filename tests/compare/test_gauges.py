"""What replicas and clients hold is measured, and a table that only grows is found by one judge and no other."""

from typing import Any, cast

import pytest

from compare import gauges
from compare.checkers.base import Evidence
from compare.checkers.memory import Memory
from compare.gauges import BOUNDS, Gauges, Held
from compare.judging import conclude
from compare.mutants.base import MutantSpec
from compare.mutants.pbft_by_chance import broken
from compare.results import Verdict
from compare.scenario import find
from compare.sim import Trial
from pbft import SPEC as PBFT
from pbft.core import PbftCore
from pbft.requests import Requests
from raft import SPEC as RAFT
from raft.core import RaftCore
from replog.core import Effect, Event, ProtocolSpec
from replog.types import Micros, Request


class HoardingPbft(PbftCore):
    """Keeps what it was ever told, in a table that nobody knows."""

    def step(self, now: Micros, event: Event) -> list[Effect]:
        self.__dict__.setdefault("hoard", []).extend([event] * 16)
        return super().step(now, event)


class HoardingRaft(RaftCore):
    def step(self, now: Micros, event: Event) -> list[Effect]:
        self.__dict__.setdefault("hoard", []).extend([event] * 16)
        return super().step(now, event)


class _NeverCrowded(Requests):
    """P36: takes in whatever comes."""

    def crowded(self, request: Request) -> bool:
        return False


@pytest.mark.parametrize(
    ("honest", "core"),
    [(PBFT, HoardingPbft), (cast("ProtocolSpec", RAFT), HoardingRaft)],
    ids=["pbft", "raft"],
)
def test_a_replica_that_keeps_all_is_found_by_this_judge_alone(honest: ProtocolSpec, core: Any) -> None:
    spec = MutantSpec(honest, core)
    run = conclude(Trial(find("no-fault"), spec, 1).run())
    assert [name for name, check in run.checks.items() if not check.ok] == ["bounded-memory"]
    assert f"{core.__name__}.hoard held" in run.checks["bounded-memory"].detail
    assert "it may hold 4,096" in run.checks["bounded-memory"].detail
    assert run.verdict is Verdict.UNSAFE


@pytest.mark.parametrize("protocol", [PBFT, RAFT], ids=["pbft", "raft"])
def test_every_table_of_replicas_and_clients_is_measured_and_holds_little(protocol: Any) -> None:
    trial = Trial(find("leader-crash"), protocol, 1)
    run = conclude(trial.run())
    assert run.verdict is Verdict.OK
    assert run.checks["bounded-memory"].checked > 50
    held = trial.gauges.held
    assert {name.split()[0] for name in held} == {"node", "client"}
    names = {name.split()[-1] for name in held}
    assert "ClientCore._sent" in names
    assert ("Ordering.slots" in names) == (protocol is PBFT)
    assert held["client c0 ClientCore._sent"].most > 0


def test_a_bound_of_a_core_s_own_is_held_against_a_part_that_stands_in_for_it() -> None:
    trial = Trial(find("no-fault"), MutantSpec(PBFT, broken(_NeverCrowded)), 1)
    trial.run()
    held = trial.gauges.held["node 0 Requests.pending"]
    assert held.bound == trial.cluster.options.pending_requests_max


def test_what_is_over_its_bound_is_named_with_holder_table_and_number() -> None:
    gauge = Gauges(None, 4)

    class Part:
        __module__ = "pbft.part"

        def __init__(self) -> None:
            self.table = dict.fromkeys(range(5_000))
            self.again = self

    class Whole:
        __slots__ = ("part", "queue")

        def __init__(self) -> None:
            self.part, self.queue = Part(), [1, 2]

    whole = Whole()
    gauge.look("node 2", whole)
    whole.part.table.clear()
    gauge.look("node 2", whole)
    assert gauge.held == {"node 2 Part.table": Held(5_000, 4_096), "node 2 Whole.queue": Held(2, 4_096)}
    empty = Evidence({}, [], [], [], 0, held=gauge.held)
    assert Memory().judge(empty).detail == "node 2 Part.table held 5,000, it may hold 4,096"


def test_every_stated_bound_is_of_a_table_that_there_is() -> None:
    names = set()
    for protocol in (PBFT, cast("ProtocolSpec", RAFT)):
        for options in ({}, {"auth": "macs"} if protocol is PBFT else {}):
            scenario = find("no-fault").model_copy(deep=True)
            scenario.protocols[protocol.name].options.update(options)
            trial = Trial(scenario, protocol, 1)
            trial.cluster.run_for(1_000_000)
            trial._gauge()
            names |= {name.split()[-1] for name in trial.gauges.held}
    assert set(BOUNDS) <= names
    assert min(bound for bound in (gauges.LOG_ENTRIES_MAX, gauges.TOLD_MAX)) > gauges.UNSTATED
