"""Every attack by name: its scenario, that it acted, that PBFT stands f liars, and where it works what breaks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from compare.attacks import ATTACKS, told
from compare.attacks.storms import CLIENT_ATTACKS
from compare.mutants.base import MutantSpec
from compare.results import Run, Verdict
from compare.runner import Job, many
from compare.runner import run as compare
from compare.scenario import Scenario, catalogue, find, under_attack
from compare.sim import Trial
from replog import protocols
from replog.cli import run as command
from replog.errors import ConfigError
from tests.attacks.broken import DEFENCES

BEYOND = "-beyond-f"
SCENARIOS: Mapping[str, Scenario] = {
    name: scenario
    for name, scenario in catalogue().items()
    if not scenario.drawn and (scenario.attacked or scenario.workload.byzantine) and scenario.duration_s <= 2.0
}
"""The small ones; the others have tests of their own."""
CELLS = [(name, protocol) for name, scenario in SCENARIOS.items() for protocol in scenario.protocols]
QUICK = {"silent-beyond-f", "twins", "invent-request", "lie-in-reply", "equivocate-votes-beyond-f", "wrong-checkpoint"}


def made(scenario: Scenario, protocol: str, seed: int = 1, spec: MutantSpec | None = None) -> Run:
    (run,) = many([Job(scenario, protocol, "sim", seed)], spec or protocols.find(protocol))
    return run


def acted(run: Run) -> bool:
    """Whether a lie of a replica arrived, or one of a client was told."""
    return bool(run.attack_actions) or bool(sum(run.acts.values()))


def is_expected(run: Run, expected: str) -> bool:
    """`some`: of one seed alone nothing more can be asked than that it came to a verdict."""
    amount, _, verdict = expected.partition(" ")
    if run.verdict in (Verdict.VACUOUS, Verdict.ERROR):
        return False
    return run.verdict == verdict or amount == "some"


@pytest.mark.parametrize(("name", "protocol"), [cell for cell in CELLS if cell[0] in QUICK])
def test_some_of_them_on_both_protocols(name: str, protocol: str) -> None:
    check(name, protocol)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "protocol"), [cell for cell in CELLS if cell[0] not in QUICK])
def test_all_others_on_both_protocols(name: str, protocol: str) -> None:
    check(name, protocol)


def check(name: str, protocol: str) -> None:
    run = made(SCENARIOS[name], protocol)
    assert acted(run), "vacuous"
    assert is_expected(run, SCENARIOS[name].side(protocol).expect), (run.verdict, run.error, run.checks)


@pytest.mark.parametrize(
    "name", ["corrupt-payload", "poisoned-snapshot", "ack-without-storing", "vote-twice", "lie-in-replies"]
)
def test_what_works_on_some_seeds_works_on_one(name: str) -> None:
    assert any(made(SCENARIOS[name], "raft", seed).verdict is Verdict.UNSAFE for seed in (2, 1, 3))


@pytest.mark.slow
@pytest.mark.live
@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if "live" in scenario.engines])
def test_real_processes_come_to_the_same_verdict(name: str) -> None:
    for run in compare(name, engine="live", seeds=1).runs:
        assert is_expected(run, SCENARIOS[name].side(run.protocol).expect), (run.verdict, run.error, run.checks)
        assert run.attack_actions


@pytest.mark.parametrize("name", DEFENCES)
def test_without_the_defence_it_breaks_what_it_is_to_break(name: str) -> None:
    lacking, spec = DEFENCES[name]
    run = made(SCENARIOS[name], "pbft", spec=spec)
    broken = "violated" in (run.safety, run.liveness) or run.error.startswith("AssertionError")
    assert broken, lacking


def test_every_small_scenario_of_pbft_with_f_liars_expects_that_all_is_well() -> None:
    for name, scenario in SCENARIOS.items():
        if "pbft" in scenario.protocols and not name.endswith(BEYOND):
            assert scenario.side("pbft").expect == "all ok", name


def test_every_attack_has_a_scenario() -> None:
    """But for what robustness measures over minutes and the campaign draws."""
    used = {attack for scenario in catalogue().values() for attack in scenario.attack_names}
    assert set(ATTACKS) - used == {"watched-only", "bursts", "framing", "random-liar"}
    clients = {scenario.workload.byzantine_as for scenario in catalogue().values() if scenario.workload.byzantine}
    assert clients >= {"big-mac", "two-operations", "backups-only", "retransmission-storm", "garbage-signatures"}


def test_there_are_as_many_as_are_told() -> None:
    assert len(ATTACKS) + len(CLIENT_ATTACKS) >= 50
    assert all(kind.summary and "\n" not in kind.summary for kind in ATTACKS.values())


# ------------------------------------------------------------------------------------------- what no judge can see


def test_f_plus_one_late_replicas_make_all_late() -> None:
    late, usual = (made(find(name), "pbft").latency_ms for name in ("delay-beyond-f", "wrong-checkpoint"))
    assert late is not None
    assert usual is not None
    assert late.max > 600 > 10 * usual.p50


@pytest.mark.parametrize(("protocol", "believed"), [("pbft", False), ("raft", True)])
def test_whose_time_is_believed(protocol: str, believed: bool) -> None:
    """A leader's of Raft by a whole day, a primary's of PBFT within the bounds of its backups' clocks."""
    trial = Trial(find("wrong-time"), protocols.find(protocol), 1)
    trial.run()
    (honest, *_) = (node for node in range(trial.cluster.n) if node not in trial.liars)
    journal = trial.cluster.replica(honest).journal
    times = [entry.time for entry in journal.read(journal.first, 10_000) if entry.requests]
    assert len(times) > 30
    assert (max(times) - min(times) > 80_000_000_000) is believed


# ------------------------------------------------------------------------------------------------------- the pages

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_has_each_attack_with_its_sentence() -> None:
    page = (DOCS / "attacks.md").read_text()
    sentences = {kind.name: kind.summary for kind in ATTACKS.values()}
    for name, sentence in [*sentences.items(), *((name, told(attack)) for name, attack in CLIENT_ATTACKS.items())]:
        assert f"| `{name}` | {sentence} |" in page, name


def own_attack(folder: Path) -> str:
    """The class of docs/write-an-attack.md, as a reader saves it."""
    source = (DOCS / "write-an-attack.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    (folder / "half_told.py").write_text(source)
    return f"{folder / 'half_told.py'}:HalfTold"


def test_the_attack_on_the_page_does_what_the_page_says(tmp_path: Path) -> None:
    scenario = under_attack(SCENARIOS["twins"], own_attack(tmp_path))
    for protocol, verdict in (("pbft", Verdict.OK), ("raft", Verdict.UNSAFE)):
        run = made(scenario, protocol)
        assert run.verdict is verdict, run.checks
        assert run.attack_actions
    assert not run.checks["durability"].ok


def test_the_command_on_the_page_ends_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_attack(tmp_path)
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "write-an-attack.md").read_text()
    typed = shlex.split(page.partition("```sh\n")[2].partition("```")[0])
    assert typed[0] == "replog"
    assert command(typed[1:]) == 4
    runs = [json.loads(file.read_text())["runs"] for file in tmp_path.glob("runs/*/results.json")]
    assert [(run["protocol"], run["verdict"]) for run in runs[0]] == [("pbft", "ok"), ("raft", "unsafe")]


def test_an_attack_of_ones_own_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own_attack(tmp_path)
    monkeypatch.chdir(tmp_path)
    chosen = ["--attack", "half_told:HalfTold", "--protocol", "raft", "--seed", "1", "--json"]
    assert command(["compare", "twins", *chosen, "--out", "here"]) == 0, "unsafe, as its scenario expects"
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["scenario"] == "twins-under-half-told"
    assert "replog compare twins --attack half_told:HalfTold --protocol raft" in run["replay"]


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ("nothing-such", "attack = 'nothing-such': known are ack-without-storing, "),
        ("json:JSONDecoder", "attack = 'json:JSONDecoder': json has no Attack named JSONDecoder"),
        ("no_such_module:X", "attack = 'no_such_module:X': it does not load: ModuleNotFoundError: "),
        ("vote-twice", "attack = 'vote-twice': it is for raft, and corrupt-signature is not"),
    ],
)
def test_a_wrong_attack_is_named_with_the_rule(attack: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        under_attack(find("corrupt-signature"), attack)
    assert said in str(error.value)


# -------------------------------------------------------------------------------------------------------- coalitions


def test_a_coalition_shares_keys_and_memory_and_has_no_key_of_others() -> None:
    trial = Trial(find("equivocate-votes-beyond-f"), protocols.find("pbft"), 1)
    trial.run()
    first, second = trial.powers
    assert first.shared is second.shared
    assert set(first.signers) == set(second.signers) == {0, 1} == trial.liars
    assert second.members == (0, 1)
    assert second.shared["proposed"]
