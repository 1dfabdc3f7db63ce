"""Networks, promises about delays and faults of every failure model: what each does, and that judges see it.

A safety test counts only if the same test fails on a broken core, one of liveness only if it fails on a broken judge:
both are here beside what they are about.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compare.checkers import shrink
from compare.checkers.base import Check, Evidence
from compare.checkers.liveness import Liveness
from compare.checkers.money import Money
from compare.history import Call
from compare.judging import conclude
from compare.mutants.broken_raft import CommitsAlone
from compare.results import Run, Verdict, is_met
from compare.scenario import catalogue, find, parse
from compare.sim import Trial
from compare.variants import MutantSpec
from replog import protocols
from replog.core import ProtocolSpec

BASE = """
name = "x"
summary = "x"
duration_s = 1.6
{top}
[[timeline]]
fault = "{fault}"
target = {target}
start_s = 0.4
end_s = 0.9
options = {{ {options} }}
"""


def trial(text: str, protocol: str = "raft", seed: int = 1, spec: ProtocolSpec | None = None) -> Trial:
    return Trial(parse(text, "x.toml"), spec or protocols.find(protocol), seed)


def struck(fault: str, target: str = '"leader"', options: str = "", protocol: str = "raft", top: str = "") -> Trial:
    return trial(BASE.format(fault=fault, target=target, options=options, top=top), protocol)


def catalogued(name: str, protocol: str, seed: int = 1) -> Run:
    scenario = find(name)
    if name == "all-crash":  # five times the same: two are enough here
        scenario = scenario.model_copy(update={"timeline": scenario.timeline[:2], "duration_s": 6.5})
    return conclude(Trial(scenario, protocols.find(protocol), seed).run())


# ------------------------------------------------------------------------------------------- each fault does something


@pytest.mark.parametrize(
    ("fault", "target", "options"),
    [
        ("omit-sending", '"leader"', "chance = 0.5"),
        ("omit-receiving", '"leader"', "chance = 0.5, clients = false"),
        ("one-way", '"leader"', 'way = "in"'),
        ("flap", '"leader"', "period_ms = 100"),
        ("late", '"leader"', "delay_ms = 30"),
        ("noise", '"leader"', "chance = 0.2"),
        ("clock-jump", "0", "jump_ms = -5_000"),
        ("clock-drift", "0", "rate_ppm = 200_000"),
        ("slow", "0", "extra_ms = 10"),
        ("slow-disk", '"leader"', "extra_ms = 10"),
        ("full-disk", '"leader"', ""),
        ("failing-disk", '"leader"', ""),
        ("old-version", "1", "raft = { pre_vote = false }"),
        ("halves", "0", ""),
        ("bridge", "0", ""),
    ],
)
def test_a_fault_strikes_once_and_when_it_has_ended_all_is_well(fault: str, target: str, options: str) -> None:
    top = "f = 2" if fault in ("bridge", "halves") else ""
    run = conclude(struck(fault, target, options, top=top).run())
    assert (run.verdict, run.fault_actions) == (Verdict.OK, 1), run.checks


@pytest.mark.parametrize(
    ("fault", "target", "options"),
    [
        ("omit-sending", "[]", "chance = 0.5"),
        ("late", "0", "delay_ms = 0"),
        ("mutant", "0", 'raft = "no class"'),
        ("clock-jump", "0", ""),
        ("crash", '"shelf a"', ""),
        ("crash", '"rack a"', ""),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_read(fault: str, target: str, options: str) -> None:
    with pytest.raises(ValueError, match=r"x\.toml:\d+: "):
        struck(fault, target, options)


def test_a_fault_that_changed_no_frame_proves_nothing() -> None:
    lonely = struck("bridge", "0", top="f = 0")
    run = conclude(lonely.run())
    assert (run.verdict, run.fault_actions) == (Verdict.VACUOUS, 0)


def test_two_faults_on_the_same_links_end_each_by_itself() -> None:
    again = '[[timeline]]\nfault = "late"\ntarget = 0\nstart_s = 0.5\nend_s = 1.2\noptions = { delay_ms = 5 }\n'
    this = trial(BASE.format(fault="one-way", target="0", options="", top="") + again)
    links = this.cluster.network.link(0, 1), this.cluster.network.link(0, 2)
    seen: list[int] = []
    for ms in (450, 700, 1_000, 1_400):
        this.cluster.at(ms * 1_000, lambda: None)
    found = this.run()
    assert conclude(found).fault_actions == 2
    for link in links:
        assert link is not None
        seen.append(len(link.disturbances))
    assert seen == [0, 0]


# ----------------------------------------------------------------------------------------------------- who is together


def test_a_place_means_the_replicas_that_are_there_however_many_there_are() -> None:
    placement = find("power-lost").placement
    assert placement.members("power", "a", 4) == (0, 1)
    assert placement.members("power", "a", 7) == (0, 1, 4, 5)
    assert placement.members("rack", "a", 4) == ()


def test_same_n_gives_each_protocol_the_faults_that_it_stands() -> None:
    runs = [catalogued("same-n", protocol) for protocol in ("pbft", "raft")]
    assert [(run.n, run.f, run.verdict) for run in runs] == [(7, 2, Verdict.OK), (7, 3, Verdict.OK)]
    assert find("same-n").sizing == "same n = 7"
    assert find("no-fault").sizing == "same f = 1"


# ----------------------------------------------------------------------------------------------- promises about delays


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_while_an_adversary_decides_about_delays_nothing_is_decided_and_after_that_everything(protocol: str) -> None:
    run = catalogued("stabilises", protocol)
    assert run.verdict is Verdict.OK
    assert run.unavailable_s is not None
    assert run.unavailable_s > 1.5


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_a_network_that_never_keeps_a_promise_costs_progress_and_never_safety(protocol: str) -> None:
    run = catalogued("never-stabilises", protocol)
    assert (run.verdict, run.safety, run.liveness) == (Verdict.STALLED, "held", "violated")
    assert (run.acknowledged or 0) > 50


def test_a_judge_of_liveness_that_is_always_content_does_not_pass_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def content(_: Liveness, evidence: Evidence) -> Check:
        return Check(True, len(evidence.probes))

    monkeypatch.setattr(Liveness, "judge", content)
    run = catalogued("never-stabilises", "raft")
    assert not is_met("all stalled", {run.verdict: 1})


def test_the_same_delays_show_a_core_that_does_not_wait_for_others() -> None:
    """The adversary is one that a broken core does not survive."""
    text = catalogue_text("stabilises")
    found = [
        conclude(trial(text, "raft", seed, MutantSpec(protocols.find("raft"), CommitsAlone)).run()) for seed in (1, 2)
    ]
    assert {run.verdict for run in found} == {Verdict.UNSAFE}


def catalogue_text(name: str) -> str:
    from importlib.resources import files

    return (files("compare") / "scenarios" / f"{name}.toml").read_text(encoding="utf-8")


def test_in_a_synchronous_network_no_frame_takes_longer_than_promised() -> None:
    this = trial(catalogue_text("synchronous"), "raft")
    slowest = [0]
    honest = this.cluster.world.at

    def at(time: int, action: Any, argument: Any = None) -> None:
        if getattr(action, "__name__", "") == "_arrive" and this.timing is not None:
            slowest.append(time - this.cluster.world.now)
        honest(time, action, argument)

    this.cluster.world.at = at  # type: ignore[method-assign]
    assert conclude(this.run()).verdict is Verdict.OK
    assert max(slowest) == 5_000


# ------------------------------------------------------------------------------------------ failure models, by example


def test_who_forgets_what_it_acknowledged_breaks_raft_and_not_pbft() -> None:
    assert catalogued("amnesia-of-a-quorum", "raft", 2).verdict is Verdict.UNSAFE
    assert catalogued("amnesia-of-a-quorum", "pbft").verdict is Verdict.OK


def test_with_its_memory_the_same_crash_breaks_nothing() -> None:
    text = catalogue_text("amnesia-of-a-quorum").replace('"amnesia"', '"crash"')
    assert conclude(trial(text, "raft").run()).verdict is Verdict.OK


def test_bits_that_no_link_checks_break_raft_and_not_pbft() -> None:
    assert catalogued("corruption-unnoticed", "raft").verdict is Verdict.UNSAFE
    assert catalogued("corruption-unnoticed", "pbft").verdict is Verdict.OK


def test_a_disk_that_notices_its_damage_keeps_its_replica_out() -> None:
    run = catalogued("corrupt-disk", "raft")
    assert (run.verdict, len(run.faulty)) == (Verdict.OK, 1)


def test_the_others_notice_a_fail_stop() -> None:
    run = catalogued("fail-stop", "raft")
    assert 100 < run.events["ms until a fail-stop was noticed"] < 1_500


def test_a_power_cut_in_the_middle_of_a_write_loses_nothing_that_was_acknowledged() -> None:
    this = Trial(find("torn-write"), protocols.find("raft"), 1)
    assert conclude(this.run()).verdict is Verdict.OK
    assert sum(node.disk.failures for node in this.cluster.nodes) >= 2


# ------------------------------------------------------------------------------------------------------------ the bank


@pytest.fixture
def large_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """How small the counterexample is made is not asked here."""
    monkeypatch.setattr(shrink, "STEPS_ALL", 5_000)


@pytest.mark.usefixtures("large_pictures")
def test_money_spent_twice_is_seen_although_each_story_adds_up() -> None:
    """Each side of a fork keeps its own total: it is the calls together that no one bank could have answered."""
    run = catalogued("double-spending", "raft")
    assert run.verdict is Verdict.UNSAFE
    assert not run.checks["linearizability"].ok
    assert run.checks["money"].checked > 20
    assert catalogued("double-spending", "pbft").verdict is Verdict.OK


@pytest.mark.usefixtures("large_pictures")
def test_a_bank_shows_a_leader_that_commits_alone() -> None:
    text = catalogue_text("bank").replace('"crash"', '"isolate"')
    spec = MutantSpec(protocols.find("raft"), CommitsAlone)
    assert conclude(trial(text, "raft", 1, spec).run()).verdict is Verdict.UNSAFE


def test_a_total_that_nobody_brought_is_named() -> None:
    def call(method: str, args: tuple[Any, ...], invoke: int, outcome: Any) -> Call:
        return Call("c0", "c0/0", method, args, invoke, returned=invoke + 5, outcome=outcome)

    calls = [call("deposit", ("a0", 100), 0, 100), call("total", (), 10, 100), call("total", (), 20, 150)]
    evidence = Evidence(decisions={}, up=[], calls=calls, probes=[], faults_end=0, model="bank")
    found = Money().judge(evidence)
    assert (found.ok, found.checked) == (False, 2)
    assert "total() -> 150 at 25 us: it could only be 100" in found.detail
    assert Money().judge(replace(evidence, calls=calls[:2])) == Check(True, 1)


# ------------------------------------------------------------------------------------------------------- the catalogue


WITHOUT_LIARS = sorted(
    name for name, one in catalogue().items() if not (one.attacked or one.drawn or one.workload.byzantine)
)
"""Those with liars are run where attacks are tested."""


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_LIARS)
def test_every_scenario_comes_out_as_it_expects(name: str) -> None:
    """On each protocol that it names, by one seed, or by as many as it takes to see what only some of them show."""
    scenario = find(name)
    for protocol, side in scenario.protocols.items():
        wanted = Verdict(side.expect.partition(" ")[2])
        seeds = range(1, 11) if side.expect.startswith("some") else (1,)
        found = (catalogued(name, protocol, seed) for seed in seeds)
        assert any(run.verdict is wanted for run in found), protocol
