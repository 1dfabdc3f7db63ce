"""Reads of Raft that are not ordered, before the judge of linearizability. [Ongaro14 6.4] (HAZARDS R24, R25)

Clients read wherever it is their turn, while the leader is cut off from the others and not from them.
"""

import pytest

from compare.judging import conclude
from compare.mutants.base import MutantSpec
from compare.results import Run, Verdict
from compare.scenario import parse
from compare.sim import Trial
from raft import SPEC, RaftCore
from tests.raft import mutants

SCENARIO = """
name = "reads-of-a-deposed-leader"
summary = "the leader loses its links to the others, and clients go on reading from everybody"
duration_s = 4.0
[protocols.raft]
expect = "all ok"
[protocols.raft.options]
read_from = "{whom}"
lease_reads = {leases}
election_timeout_min_us = 150_000
client_retry_us = 60_000
[workload]
clients = 12
outstanding = 1
pause_ms = 40.0
keys = 2
[[timeline]]
fault = "isolate"
target = "leader"
start_s = 0.8
end_s = 2.6
"""


def judged(core: type[RaftCore], seed: int, whom: str = "any", leases: str = "false") -> Run:
    scenario = parse(SCENARIO.format(whom=whom, leases=leases), "x.toml")
    return conclude(Trial(scenario, MutantSpec(SPEC, core), seed).run())


@pytest.mark.parametrize("leases", ["false", "true"])
@pytest.mark.parametrize("whom", ["leader", "any"])
def test_reads_are_linearizable_while_a_leader_is_cut_off(whom: str, leases: str) -> None:
    for seed in (1, 2):
        assert judged(RaftCore, seed, whom, leases).verdict is Verdict.OK


@pytest.mark.parametrize(("core", "leases"), [(mutants.ReadsUnconfirmed, "false"), (mutants.LeasesTooLong, "true")])
def test_the_judge_sees_what_a_deposed_leader_reads(core: type[RaftCore], leases: str) -> None:
    run = judged(core, 1, leases=leases)
    assert run.verdict is Verdict.UNSAFE
    assert [name for name, check in run.checks.items() if not check.ok] == ["linearizability"]


@pytest.mark.parametrize(("rate_ppm", "verdict"), [(-80_000, Verdict.OK), (-800_000, Verdict.UNSAFE)])
def test_r25_leases_hold_as_long_as_clocks_keep_to_what_was_assumed(rate_ppm: int, verdict: Verdict) -> None:
    """The leader's clock loses 80 ms a second, within clock_drift_ppm; or 800 ms, and then leases lie, and nothing that
    does not rest on clocks does."""
    assert drifting(rate_ppm, "true").verdict is verdict
    assert drifting(rate_ppm, "false").verdict is Verdict.OK


def drifting(rate_ppm: int, leases: str) -> Run:
    trial = Trial(parse(SCENARIO.format(whom="any", leases=leases), "x.toml"), MutantSpec(SPEC, RaftCore), 1)
    cluster = trial.cluster
    cluster.after(700_000, lambda: cluster.drift(cluster.leader() or 0, rate_ppm))
    return conclude(trial.run())
