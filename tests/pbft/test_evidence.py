"""Evidence: nothing that a correct replica signs makes any, whatever happens to it; what liars sign makes much."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from pbft import PbftCore
from tests.pbft.chance import Chance, NotLive
from tests.pbft.harness import SMALL
from tests.pbft.proofs import convictions, verdict
from tests.pbft.test_checkpoint import Amnesiac


def play(seed: int, **how: Any) -> Chance:
    chance = Chance(seed, **how)
    chance.trouble(3000)
    with contextlib.suppress(NotLive):  # of other tests' concern
        chance.calm()
    return chance


SETTINGS: dict[str, dict[str, Any]] = {
    "crashes": {},
    "one of four lies": {"liars": 1},
    "refreshes": {"refreshes": True},
    "refreshes and a liar": {"refreshes": True, "liars": 1},
    "tentative execution": {"options": {**SMALL, "tentative": True}, "liars": 1},
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("setting", SETTINGS)
def test_nothing_that_a_correct_replica_said_convicts_it(setting: str, seed: int) -> None:
    chance = play(1000 + seed, **SETTINGS[setting])
    proved, tried = convictions(chance.cluster, chance.correct)
    assert not proved
    assert tried > 30, "vacuous"


@pytest.mark.parametrize("seed", range(4))
def test_whoever_is_accused_is_a_liar_and_convicted(seed: int) -> None:
    chance = play(2000 + seed, liars=1)
    accusations = [said for accuser, said in chance.cluster.accusations if accuser in chance.correct]
    assert {said.culprit for said in accusations} <= set(chance.liars)
    assert all(verdict(chance.cluster, said) for said in accusations)
    assert accusations, "vacuous"


def test_a_core_that_forgets_its_promises_is_convicted() -> None:
    def convicted(seed: int, core: type[PbftCore]) -> bool:
        chance = Chance(seed, core=core)
        chance.trouble(3000)
        return bool(convictions(chance.cluster, chance.correct)[0])

    assert any(convicted(seed, Amnesiac) for seed in range(20))
