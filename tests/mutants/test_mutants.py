"""The judges catch each broken core within its number of seeds, and not the honest one under the same seeds."""

import pytest

from compare.mutants import MUTANTS, Mutant
from compare.results import Verdict
from compare.runner import Job, one
from compare.scenario import find
from replog import protocols
from replog.core import ProtocolSpec


def verdict(mutant: Mutant, spec: ProtocolSpec, seed: int) -> Verdict:
    return one(Job(find(mutant.scenario), spec.name, "sim", seed), spec).verdict


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=list(MUTANTS))
def test_the_mutant_is_unsafe_and_the_honest_core_is_not(mutant: Mutant) -> None:
    seeds = []
    for seed in range(1, mutant.seeds + 1):
        seeds.append(seed)
        if verdict(mutant, mutant.spec, seed) is Verdict.UNSAFE:
            break
    else:
        pytest.fail(f"{mutant.name} ({mutant.hazard}) was not caught in {mutant.scenario} by seeds 1-{mutant.seeds}")
    honest = protocols.find(mutant.spec.name)
    assert {verdict(mutant, honest, seed) for seed in seeds} == {Verdict.OK}
