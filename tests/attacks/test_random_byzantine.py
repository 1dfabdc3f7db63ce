"""The campaign of random lies: what is drawn, what is said, what counts, and that PBFT stands it in both modes."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from typing import Any

import msgspec
import pytest

from compare.attacks.random_liar import CHANGED, INVENTED
from compare.attacks.random_pbft import SIGNED, RandomPbftLiar
from compare.drawing import SIZES, draw
from compare.judging import conclude
from compare.results import Run, Verdict
from compare.runner import Job, one
from compare.scenario import Scenario, find
from compare.sim import Trial
from pbft import SPEC
from pbft import messages as m
from pbft.config import Options
from pbft.macs import MacCore
from replog.core import Received, Send
from replog.types import Submit

SCENARIO = find("random-byzantine")
QUICK, MANY = range(1, 25), range(25, 61)


@cache
def made(seed: int) -> Run:
    return one(Job(SCENARIO, "pbft", "sim", seed))


def is_good(run: Run) -> bool:
    return run.verdict is Verdict.OK and bool(run.attack_actions and run.fault_actions and run.acknowledged)


# ------------------------------------------------------------------------------------------------------------ the runs


@pytest.mark.parametrize("seed", QUICK)
def test_pbft_stands_random_lies_and_faults(seed: int) -> None:
    run = made(seed)
    assert is_good(run), run


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY)
def test_pbft_stands_many_of_them(seed: int) -> None:
    run = made(seed)
    assert is_good(run), run


# ------------------------------------------------------------------------------------------------------- what is drawn


def options_of(seed: int) -> dict[str, Any]:
    return draw(SCENARIO, seed).side("pbft").options


def test_every_mode_and_option_size_and_fault_is_drawn() -> None:
    drawn = [draw(SCENARIO, seed) for seed in range(1, 201)]
    sides = [scenario.side("pbft") for scenario in drawn]
    options = [Options.model_validate(side.options) for side in sides]
    assert Counter(side.auth for side in options) == {"signatures": 100, "macs": 100}
    for name, field in Options.model_fields.items():
        if field.annotation is bool:
            assert {(side.auth, getattr(side, name)) for side in options} >= {
                (auth, flag) for auth in ("signatures", "macs") for flag in (False, True)
            }, name
    assert {(side.n, scenario.f) for side, scenario in zip(sides, drawn, strict=True)} == set(SIZES)
    for name in ("checkpoint_interval", "log_window", "in_flight_max", "batch_requests_max", "batch_delay_us"):
        assert len({getattr(side, name) for side in options}) >= 3, name
    faults = {happening.name for scenario in drawn for happening in scenario.timeline}
    assert faults == {"random-liar", "crash", "pause", "isolate", "split", "loss"}
    assert max(scenario.workload.byzantine for scenario in drawn) > max(scenario.f for scenario in drawn)
    for name in ("loss", "duplicate", "reorder"):
        assert any(getattr(scenario.network, name) > 0 for scenario in drawn), name


def test_liars_are_at_most_f_and_some_never_stop() -> None:
    attacks = [(scenario, scenario.timeline[0]) for scenario in (draw(SCENARIO, seed) for seed in range(1, 101))]
    assert all(1 <= len(attack.numbers) <= scenario.f for scenario, attack in attacks)
    assert {len(attack.numbers) for _, attack in attacks} == {1, 2}
    assert {attack.end_s is None for _, attack in attacks} == {False, True}


def test_one_seed_is_one_run() -> None:
    for seed in (1, 2):
        again = one(Job(SCENARIO, "pbft", "sim", seed))
        assert again == made(seed)
    assert made(1) != made(2)


# -------------------------------------------------------------------------------------------------------- what is said

SIGNED_ONLY: tuple[type[Any], ...] = (m.ViewChange, m.NewView, m.CheckpointProof)
MACS_ONLY: tuple[type[Any], ...] = (m.MacViewChange, m.MacNewView, m.ViewChangeAck, m.FetchViewChange, m.ViewChangeData)
REPLICAS_SAY: tuple[type[Any], ...] = (
    *(m.PrePrepare, m.Prepare, m.Commit, m.Committed, m.Checkpoint, m.Status),
    *(m.FetchBatch, m.BatchData, m.FetchPart, m.PartData, Submit),
)


def fields_of(kinds: Any) -> set[str]:
    """Of what replicas say to each other: `Kind.field`."""
    return {f"{kind.__name__}.{field.name}" for kind in kinds for field in msgspec.structs.fields(kind)}


TELLING = {1: (29, 63, 33, 23, 109, 45, 115), 2: (162, 220, 256, 16, 2, 10, 68, 302)}
"""Seeds in which, when this was written, all of it happened: they come first, and others if it does so no more."""


@pytest.mark.slow
@pytest.mark.parametrize(("first", "own"), [(1, MACS_ONLY), (2, SIGNED_ONLY)])
def test_every_kind_of_message_is_changed_in_every_field_and_made_up(first: int, own: tuple[type[Any], ...]) -> None:
    """Of what correct replicas were told in one of the modes. Of the words of a change of members only
    epochs and links are lied about, where members change: `compare.membership`."""
    lacking = {name + CHANGED for name in fields_of((*REPLICAS_SAY, *own))}
    lacking |= {kind.__name__ + INVENTED for kind in RandomPbftLiar.kinds}
    lacking |= {f"{kind.__name__} {act}" for kind in (*REPLICAS_SAY, *own) for act in ("late", "again", "withheld")}
    for seed in dict.fromkeys([*TELLING[first], *range(first, 401, 2)]):
        lacking -= {act for act, count in made(seed).acts.items() if count}
        if not lacking:
            return
    assert lacking == set()


def lying(seed: int) -> tuple[Trial, RandomPbftLiar]:
    """A run just begun, and its first liar."""
    trial = Trial(draw(SCENARIO, seed), SPEC, seed)
    trial._attack(trial.scenario.timeline[0].numbers, trial.scenario.timeline[0])
    liar = trial._wrapped[min(trial.liars)]._attack
    assert isinstance(liar, RandomPbftLiar)
    return trial, liar


def test_what_is_changed_is_signed_anew() -> None:
    """A vote with another view, seq or digest passes the check of the signature."""
    trial, liar = lying(2)
    notary: Any = trial.cluster.replica((liar.me + 1) % trial.cluster.n).core.notary  # type: ignore[attr-defined]
    kinds: tuple[type[Any], ...] = (m.Prepare, m.Commit)
    for kind in kinds:
        said: Any = kind(3, 4, bytes(32), liar.me, bytes(64))
        for name, other in (("view", 2), ("seq", 5), ("digest", b"x" * 32)):
            lie: Any = liar.signed(msgspec.structs.replace(said, **{name: other}))
            assert notary.check(liar.me, SIGNED[kind][0], SIGNED[kind][1](lie), lie.signature)


def test_what_it_cannot_sign_it_does_not() -> None:
    """In another's name the signature is its own, and wrong."""
    trial, liar = lying(2)
    other = next(node for node in range(trial.cluster.n) if node not in trial.liars)
    notary: Any = trial.cluster.replica(other).core.notary  # type: ignore[attr-defined]
    lie = liar.signed(m.Prepare(0, 1, bytes(32), other, b""))
    assert not notary.check(other, "prepare", (0, 1, bytes(32), other), lie.signature)


def test_votes_stand_by_what_was_proposed() -> None:
    trial, liar = lying(2)
    others = tuple(node for node in range(trial.cluster.n) if node != liar.me)
    truth = m.PrePrepare(liar.me, 1, m.Batch(5, []).digest, b"", 5, [])
    liar._chance = random.Random(3)
    while not liar._proposed:
        liar._change(0, Send(others, truth))
    (node, _), digest = next(iter(liar._proposed.items()))
    votes = liar._stand_by(Send(others, m.Commit(liar.me, 1, truth.digest, liar.me, b"")))
    told = {to: send.message.digest for send in votes if isinstance(send, Send) for to in send.to}  # type: ignore[attr-defined]
    assert told.keys() == set(others)
    assert told[node] == digest


def test_it_proposes_in_others_places_and_votes_for_it_in_others_names() -> None:
    """Only if it was to propose, or may sign for those, would that be right: nobody takes it."""
    trial, liar = lying(2)
    liar._chance, liar._names = random.Random(3), 1.0
    leader = next(node for node in range(trial.cluster.n) if node not in trial.liars)
    liar.hear(0, Received(leader, m.PrePrepare(leader, 4, bytes(32), b"", 5, [])))
    _, told, *votes = liar._usurp(0, Send((leader,), m.Status(0, True, 0, 0, False, b"", [])))
    lie: Any = told.message  # type: ignore[attr-defined]
    assert isinstance(lie, m.PrePrepare)
    assert lie.seq > 4
    names = {vote.message.replica for vote in votes}  # type: ignore[attr-defined]
    assert names >= {node for node in range(trial.cluster.n) if node not in trial.liars}
    notary: Any = trial.cluster.replica(leader).core.notary  # type: ignore[attr-defined]
    vote: Any = next(vote.message for vote in votes if vote.message.replica == leader)  # type: ignore[attr-defined]
    assert not notary.check(leader, "commit", (vote.view, vote.seq, vote.digest, leader), vote.signature)


def test_what_it_claims_to_have_prepared_stands_by_what_it_has_told() -> None:
    _, liar = lying(2)
    liar._chance = random.Random(3)
    liar._proposed = {(1, (0, 7)): b"x" * 32}
    truth = m.MacViewChange(2, 4, [m.Claim(4, bytes(32))], [m.Placed(6, b"y" * 32, 0)], [], liar.me)
    claims = [liar.claim(truth) for _ in range(50)]
    assert any(m.Placed(7, b"x" * 32, 0) in claim.prepared and claim.voted for claim in claims)
    assert all(
        [item.seq for item in claim.prepared] == sorted({item.seq for item in claim.prepared}) for claim in claims
    )
    assert liar.claim(m.Commit(0, 1, bytes(32), liar.me, b"")) is None


# --------------------------------------------------------------------------------------------------------- what counts


def exact(**changes: Any) -> Scenario:
    """Seed 2, otherwise."""
    return draw(SCENARIO, 2).model_copy(update=changes)


def test_a_run_in_which_no_lie_arrived_is_vacuous() -> None:
    """The liar is cut off from the first moment on; clients that lie are no replicas."""
    base = draw(SCENARIO, 2)
    attack, *_ = base.timeline
    silent = base.timeline[1].model_validate(
        {"fault": "isolate", "target": list(attack.numbers), "start_s": 0.0, "end_s": 1.49}
    )
    run = conclude(Trial(exact(timeline=(silent, attack)), SPEC, 2).run())
    assert (run.attack_actions, run.verdict) == (0, Verdict.VACUOUS)
    assert run.acknowledged


def test_a_run_in_which_nothing_was_acknowledged_meanwhile_is_vacuous() -> None:
    """Clients ask nothing before the lies are over."""
    base = draw(SCENARIO, 2)
    ends = base.timeline[0].model_copy(update={"end_s": 0.2})
    lazy = base.workload.model_copy(update={"pause_ms": 60_000.0})
    run = conclude(Trial(exact(timeline=(ends, *base.timeline[1:]), workload=lazy), SPEC, 2).run())
    assert run.acknowledged, "the probes"
    assert run.verdict is Verdict.VACUOUS


def test_both_modes_run_their_own_core() -> None:
    for seed in (1, 2):
        trial = Trial(draw(SCENARIO, seed), SPEC, seed)
        assert isinstance(trial.cluster.replica(0).core, MacCore) is (options_of(seed)["auth"] == "macs")
