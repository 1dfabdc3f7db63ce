"""The judges catch each broken core within its number of seeds, and not the honest one under the same seeds."""

import pytest

from compare.mutants import MUTANTS, Mutant, pbft_by_chance
from compare.mutants.base import found_by, hunt
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
    for seed in mutant.seeds:
        seeds.append(seed)
        if verdict(mutant, mutant.spec, seed) is Verdict.UNSAFE:
            break
    else:
        pytest.fail(f"{mutant.name} ({mutant.hazard}) was not caught in {mutant.scenario} by any of {mutant.seeds}")
    honest = protocols.find(mutant.spec.name)
    assert {verdict(mutant, honest, seed) for seed in seeds} == {Verdict.OK}


QUICK = ("quorum-of-two-signatures", "quorum-of-two-macs", "trusts-requests-macs", "one-reply-signatures")


def is_found_by_random_lies(mutant: Mutant) -> bool:
    run = hunt(mutant)
    return run is not None and bool(found_by(run))


@pytest.mark.parametrize("name", QUICK)
def test_random_lies_find_a_broken_core(name: str) -> None:
    """That they do not accuse the honest one: `attacks/test_random_byzantine.py` runs the same seeds."""
    (mutant,) = (mutant for mutant in pbft_by_chance.MUTANTS if mutant.name == name)
    assert is_found_by_random_lies(mutant)


SOON = (
    "one-is-enough-macs",
    "trusts-requests-signatures",
    "any-checkpoint-proof-signatures",
    "prepares-too-soon-signatures",
    "forgets-prepared-signatures",
    "forgets-prepared-macs",
)
"""Found within a few seeds; `python -m compare.mutants` takes its time for all."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SOON)
def test_random_lies_find_more_broken_cores(name: str) -> None:
    (mutant,) = (mutant for mutant in pbft_by_chance.MUTANTS if mutant.name == name)
    assert is_found_by_random_lies(mutant)
