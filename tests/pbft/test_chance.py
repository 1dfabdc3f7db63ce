"""Random schedules over real cores: safe in all, live afterwards; and broken cores are found out.

Each seed prints as one line that replays it: `Chance(seed, n, liars)`.
"""

from __future__ import annotations

from typing import Any

import pytest

from pbft import PbftCore
from pbft.notary import Notary
from pbft.ordering import Ordering
from tests.pbft.chance import Chance, NotLive, Unsafe
from tests.pbft.harness import Disagreement
from tests.pbft.test_checkpoint import Amnesiac
from tests.pbft.test_view_change import ForgetsThePrepared


def play(seed: int, n: int, liars: int, steps: int, core: type[PbftCore] = PbftCore) -> tuple[Chance, int]:
    chance = Chance(seed, n, liars, core=core)
    chance.trouble(steps)
    chance.calm()
    return chance, chance.judge()


@pytest.mark.parametrize("seed", range(15))
def test_loss_reordering_cuts_and_crashes(seed: int) -> None:
    chance, compared = play(seed, 4, 0, 3000)
    assert compared > 0, "vacuous"
    assert chance.asked


@pytest.mark.parametrize("seed", range(100, 115))
def test_one_replica_lies_at_random(seed: int) -> None:
    chance, compared = play(seed, 4, 1, 3000)
    assert compared > 0, "vacuous"
    assert all(liar.acts for liar in chance.liars.values()), "vacuous"


@pytest.mark.parametrize("seed", range(200, 203))
def test_two_of_seven_lie_at_random(seed: int) -> None:
    chance, compared = play(seed, 7, 2, 5000)
    assert compared > 0, "vacuous"
    assert all(liar.acts for liar in chance.liars.values()), "vacuous"


class QuorumOfTwo(PbftCore):
    class notary_type(Notary):  # noqa: N801
        def __init__(self, setup: Any) -> None:
            super().__init__(setup)
            self.quorum = 2


class CommitsTooSoon(PbftCore):
    """Others refuse its certificates, so that it is found as not live: lies at random do not reach a fork in 150 runs
    even if they take them. `test_normal_case` and `compare/mutants` aim at the fork."""

    class ordering_type(Ordering):  # noqa: N801
        def is_committed(self, slot: Any, digest: bytes) -> bool:
            return slot.commits.good.count(digest) >= self._notary.quorum - 1


class PreparesTooSoon(PbftCore):
    """Like `CommitsTooSoon`: its VIEW-CHANGEs are refused."""

    class ordering_type(Ordering):  # noqa: N801
        def is_prepared(self, slot: Any) -> bool:
            return slot.body is not None and slot.prepares.good.count(slot.digest) >= self._notary.quorum - 2


def broken_promises(seed: int, liars: int, core: type[PbftCore]) -> set[str]:
    """What this core does not keep in one random run: "safe", "live", or "sound", its own invariants."""
    chance, broken = Chance(seed, 4, liars, core=core), set()
    try:
        chance.trouble(3000)
        chance.calm()
    except NotLive:
        broken.add("live")
    except AssertionError:  # an invariant of the core itself stops the run before others see the harm
        broken.add("sound")
    try:
        chance.judge()
    except (Disagreement, Unsafe):
        broken.add("safe")
    return broken


@pytest.mark.parametrize(
    ("core", "liars", "promise"),
    [
        (QuorumOfTwo, 1, "safe"),
        (CommitsTooSoon, 1, "live"),
        (PreparesTooSoon, 1, "live"),
        (ForgetsThePrepared, 0, "sound"),
        (Amnesiac, 0, "safe"),
    ],
)
def test_a_broken_core_is_found_out(core: type[PbftCore], liars: int, promise: str) -> None:
    assert any(promise in broken_promises(seed, liars, core) for seed in range(100))


def test_one_seed_is_one_run() -> None:
    texts = [play(seed, 4, liars, 1500)[0].cluster.text() for seed, liars in ((7, 0), (7, 0), (7, 1), (7, 1))]
    assert texts[0] == texts[1]
    assert texts[2] == texts[3]
    assert texts[0] != texts[2]
