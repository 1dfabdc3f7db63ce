"""Some of the random runs of `compare.membership`: safe and live with the real core, and not with broken ones."""

from __future__ import annotations

from typing import Any

import pytest

from compare.membership import SPEC, play
from compare.mutants.base import MutantSpec
from compare.results import Verdict
from pbft.core import PbftCore
from pbft.epochs import Epochs
from pbft.macs import MacCore


@pytest.mark.parametrize("seed", range(1, 7))
def test_members_change_under_liars_crashes_and_cuts(seed: int) -> None:
    """Odd seeds run under MACs."""
    outcome = play(seed)
    assert outcome.verdict is Verdict.OK, outcome
    assert outcome.epochs > 1, "vacuous"
    assert outcome.run.attack_actions, "vacuous"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(7, 31))
def test_members_change_under_more_liars_crashes_and_cuts(seed: int) -> None:
    outcome = play(seed)
    assert outcome.verdict is Verdict.OK, outcome


class HearsAnyEpoch(Epochs):
    def _from_replica(self, sender: int, epoch: int, message: Any) -> Any:
        return super()._from_replica(sender, self.epoch, message)


class ForgetsWhatItPromised(Epochs):
    def _records_of(self, epoch: int) -> Any:
        return [] if epoch else super()._records_of(epoch)


def spec(kind: type[Epochs]) -> Any:
    return MutantSpec(SPEC, lambda setup: kind(setup, MacCore if setup.config.auth == "macs" else PbftCore))


@pytest.mark.parametrize(
    ("kind", "seed", "verdict"),
    [(ForgetsWhatItPromised, 2, Verdict.UNSAFE), (HearsAnyEpoch, 1, Verdict.STALLED)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_broken_core_is_found(kind: type[Epochs], seed: int, verdict: Verdict) -> None:
    """The same seeds find nothing with the real one, see above."""
    assert play(seed, spec(kind)).verdict is verdict
