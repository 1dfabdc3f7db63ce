"""`replog experiment generals`: two generals, OM(m) and SM(m), their traitors, and the judge."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from compare import experiments
from compare.experiments.generals import Fought, Job, fought
from compare.experiments.run import run
from compare.generals import two
from compare.generals.choices import Choices, everything
from compare.generals.judge import judge
from compare.generals.oral import Oral, OralGeneral, majority, messages, messages_in_all
from compare.generals.rounds import Order
from compare.generals.signed import Coalition, Signed, SignedGeneral
from compare.generals.traitors import STRATEGIES, Battle, fight, gangs
from replog.cli import run as command
from replog.keys import HashSigner, HashVerifier

# --------------------------------------------------------------------------------------------------------- two generals


@pytest.mark.parametrize("plan", ["chain", "crowd"])
def test_two_generals_end_as_chance_has_it(plan: two.Plan) -> None:
    ended = two.attempts(plan, 3, 0.3, 4_000, random.Random(1))
    both, alone = two.law(plan, 3, 0.3)
    assert ended["both"] / 4_000 == pytest.approx(both, abs=0.02)
    assert ended["one"] / 4_000 == pytest.approx(alone, abs=0.02)


def test_of_the_attacks_over_a_chain_the_same_share_is_made_alone_however_long_it_is() -> None:
    for messengers in range(1, 20):
        both, alone = two.law("chain", messengers, 0.3)
        assert alone / (both + alone) == pytest.approx(0.3)


def test_no_rule_for_any_chain_is_certain() -> None:
    for messengers in range(1, 9):
        tried, certain = two.certain_rules(messengers)
        assert tried == 2 ** (messengers // 2 + 1 + (messengers + 1) // 2 + 1)
        assert not certain


def test_a_rule_that_may_leave_one_alone_or_never_attacks_is_what_others_are() -> None:
    assert not two.certain(2, (False, True), (False, True))  # the confirmation is lost
    assert not two.certain(2, (False, False), (False, False))


# --------------------------------------------------------------------------------------------------------------- judge


def test_the_judge_looks_at_loyal_generals_alone() -> None:
    orders: list[Order] = ["attack", "attack", "retreat", "attack"]
    assert judge("attack", orders, {2}) == judge("attack", ["attack"] * 4, {2})
    split = judge("attack", orders, {0})
    assert (split.ic1, split.ic2, split.checked) == (False, True, 2)
    disobeyed = judge("retreat", orders, {2})
    assert (disobeyed.ic1, disobeyed.ic2) == (True, False)


def test_with_one_loyal_lieutenant_of_a_traitor_there_is_nothing_to_judge() -> None:
    assert judge("attack", ["attack", "retreat", "attack"], {0, 1}).checked == 0


# ---------------------------------------------------------------------------------------------------------------- OM(m)


def broken(battle: Battle, loyal: type[OralGeneral] | type[SignedGeneral] | None = None) -> list[tuple[Order, ...]]:
    """What was decided each time that IC1 or IC2 broke, of everything that these traitors could do."""
    outcomes = [fight(battle, choices, loyal) for choices in everything()]
    return [outcome.decisions for outcome in outcomes if not outcome.verdict.holds]


def of(battle: Battle) -> list[Battle]:
    """With the commander among the traitors and without, for both orders."""
    number = len(battle.traitors)
    sides = [tuple(range(number)), tuple(range(1, number + 1))]
    return [replace(battle, traitors=side, order=order) for side in sides for order in ("attack", "retreat")]


ONE = Battle("OM", 4, 1, (0,), "anything", "attack")


@pytest.mark.parametrize("n", [4, 5])
def test_one_traitor_cannot_break_om_1_from_four_generals_on_whatever_it_says(n: int) -> None:
    assert not any(broken(battle) for battle in of(replace(ONE, n=n)))


def test_of_three_generals_one_traitor_is_enough() -> None:
    """[LSP82 2, figure 1]: a lieutenant that says the commander had said retreat."""
    found = broken(Battle("OM", 3, 1, (1,), "anything", "attack"))
    assert [decisions[2] for decisions in found] == ["retreat"]


class TooFewRounds(OralGeneral):
    """Takes the majority of one round less: what is said in the last of them is not looked at."""

    def _resolve(self, path: tuple[int, ...]) -> Order:
        return self._told(path) if len(path) == self.m else super()._resolve(path)


def test_om_with_a_round_too_few_is_broken_where_the_real_one_stands() -> None:
    """n = 4 = 3m + 1: the commander tells them different things, and nobody compares."""
    assert not any(broken(battle) for battle in of(ONE))
    assert any(broken(battle, TooFewRounds) for battle in of(ONE))


def test_om_2_of_seven_stands_two_traitors_and_not_with_a_round_too_few() -> None:
    battles = [
        Battle("OM", 7, 2, gang, strategy, order)
        for gang in ((0, 1), (0, 4), (2, 5))
        for strategy in STRATEGIES["OM"]
        for order in ("attack", "retreat")
    ]
    assert all(fight(battle).verdict.holds for battle in battles)
    assert not all(fight(battle, loyal=TooFewRounds).verdict.holds for battle in battles)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_of_three_m_generals_m_silent_lieutenants_break_it(m: int) -> None:
    n, traitors = 3 * m, tuple(range(1, m + 1))
    outcome = fight(Battle("OM", n, m, traitors, "silent", "attack"))
    assert not outcome.verdict.ic2
    assert set(outcome.decisions[m + 1 :]) == {"retreat"}
    assert fight(Battle("OM", n + 1, m, traitors, "silent", "attack")).verdict.holds


@pytest.mark.parametrize(("n", "m"), [(4, 1), (7, 2), (10, 3), (5, 3)])
def test_messages_are_as_many_as_published(n: int, m: int) -> None:
    sent = fight(Battle("OM", n, m, (), "silent", "attack")).sent
    assert sent[-1] == messages(n, m)
    assert sum(sent) == messages_in_all(n, m)


def test_words_out_of_turn_or_under_a_false_path_are_not_heard() -> None:
    general = OralGeneral(2, 4, 1)
    for number, sender, path in ((1, 1, (1,)), (2, 1, (0,)), (2, 3, (0, 1)), (2, 1, (0, 2)), (1, 0, (0, 1))):
        general.hear(number, sender, Oral(path, "attack"))
    assert general.decide() == "retreat"
    general.hear(1, 0, Oral((0,), "attack"))
    general.hear(1, 0, Oral((0,), "retreat"))
    general.hear(2, 1, Oral((0, 1), "attack"))
    assert general.decide() == "attack"


def test_a_tie_is_a_retreat() -> None:
    assert majority(["attack", "retreat"]) == "retreat"
    assert majority(["attack", "retreat", "attack"]) == "attack"


# ---------------------------------------------------------------------------------------------------------------- SM(m)


@pytest.mark.parametrize(("n", "m"), [(3, 1), (4, 1), (4, 2)])
def test_sm_stands_whatever_traitors_can_sign(n: int, m: int) -> None:
    assert not any(broken(battle) for battle in of(Battle("SM", n, m, tuple(range(m)), "anything", "attack")))


class SaysTooLittleOn(SignedGeneral):
    """Sends nothing in the last round: one too few."""

    def speak(self, number: int) -> object:  # type: ignore[override]
        return super().speak(number) if number <= self.m else []


def test_sm_with_a_round_too_few_is_broken_by_a_late_order() -> None:
    assert fight(Battle("SM", 5, 2, (0, 1), "late", "attack")).verdict.holds
    assert not fight(Battle("SM", 5, 2, (0, 1), "late", "attack"), loyal=SaysTooLittleOn).verdict.ic1
    assert any(broken(battle, SaysTooLittleOn) for battle in of(Battle("SM", 4, 1, (0,), "anything", "attack")))


class Believes(SignedGeneral):
    """Looks at no signature."""

    def hear(self, number: int, sender: int, word: Signed) -> None:
        self.orders.add(word.order)


def test_without_looking_at_signatures_a_lieutenant_breaks_it() -> None:
    battle = Battle("SM", 4, 1, (1,), "flip", "attack")
    outcome = fight(battle)
    assert outcome.verdict.holds
    assert outcome.refused == 2
    assert not fight(battle, loyal=Believes).verdict.holds


@pytest.mark.parametrize("strategy", STRATEGIES["SM"])
def test_ed25519_and_keyed_hashes_end_alike(strategy: str) -> None:
    battles = [Battle("SM", 5, 2, gang, strategy, "attack", 1) for gang in ((0, 3), (2, 4))]
    for battle in battles:
        assert fight(battle) == fight(replace(battle, ed25519=True))


def test_no_signature_holds_for_another_order_another_chain_or_another_signer() -> None:
    signers = [HashSigner(bytes([node]) * 32) for node in range(4)]
    verifier = HashVerifier({node: bytes([node]) * 32 for node in range(4)})
    word = Signed("attack").by(0, signers[0]).by(1, signers[1])
    assert word.genuine(verifier)
    others = (
        replace(word, order="retreat"),
        replace(word, chain=(0, 2)),
        replace(word, chain=(0,)),
        replace(word, signatures=word.signatures[::-1]),
        Signed("attack").by(0, signers[1]),
        word.by(1, signers[1]),
        Signed("attack").by(0, signers[0]).by(2, signers[2]).by(1, signers[1]).by(0, signers[0]),
    )
    assert not any(other.genuine(verifier) for other in others)


def test_a_coalition_makes_what_its_keys_allow_and_no_more() -> None:
    signers = {node: HashSigner(bytes([node]) * 32) for node in (0, 2)}
    own = Coalition(signers)
    own.extend(2)
    assert [(word.order, word.chain) for word in own.at(2, 2)] == [("attack", (0, 2)), ("retreat", (0, 2))]
    assert not Coalition({1: signers[2]}).at(1, 1)


# ----------------------------------------------------------------------------------------------------------- everything


def test_choices_are_all_made_once() -> None:
    def paths(choices: Choices) -> str:
        first = choices.choose("ab")
        return first + (choices.choose("xyz") if first == "a" else "")

    assert [paths(choices) for choices in everything()] == ["ax", "ay", "az", "b"]


def test_gangs_are_all_there_are_or_two_that_were_drawn() -> None:
    assert gangs(4, 1, random.Random(1), 10) == [(0,), (1,), (2,), (3,)]
    assert gangs(4, 0, random.Random(1), 10) == [()]
    first, second = gangs(10, 3, random.Random(1), 10)
    assert first[0] == 0
    assert 0 not in second
    assert len(set(first)) == len(set(second)) == 3


@pytest.mark.slow
def test_everything_that_two_of_five_can_do_to_om_2() -> None:
    found = fought(Job("everything", 1, "OM", 5, 2))
    assert found.battles == 4 * 2**12
    assert found.broken


# ---------------------------------------------------------------------------------------------------------- the command


class Small(type(experiments.find("generals"))):  # type: ignore[misc]
    """Of few generals, and without what takes long."""

    def jobs(self, seeds: list[int]) -> list[Job]:
        return [job for job in super().jobs(seeds) if job.n <= 7 and job.m <= 2 and (job.n, job.m) != (5, 2)]


def test_the_command_compares_with_the_theorems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compare.experiments.generals.EXPERIMENT", Small())
    out = tmp_path / "out"
    code = command(["experiment", "generals", "--seeds", "2-3", "--workers", "1", "--json", "--out", str(out)])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert len(report["comparisons"]) == 12
    assert {path.name for path in out.glob("*.svg")} == {f"{picture['name']}.svg" for picture in report["pictures"]}
    assert len(report["pictures"]) == 4
    text = (out / "report.txt").read_text()
    assert "OM(1), n = 3, order attack, traitors: 1 (anything): IC2 broken" in text


class Broken(Small):
    """As if one battle that OM must stand had been lost."""

    def measure(self, job: Job) -> object:
        sample = super().measure(job)
        lost = isinstance(sample, Fought) and (job.algorithm, job.n, job.m) == ("OM", 4, 1)
        return replace(sample, broken=1) if lost else sample


def test_one_lost_battle_differs_from_the_theorem() -> None:
    report = run(Broken(), [2], workers=1)
    differing = [one.what for one in report.comparisons if not one.holds]
    assert differing == ["OM(m), n >= 3m + 1", "OM(m), n >= 3m + 1, everything"]
