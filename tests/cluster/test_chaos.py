"""Random faults: safe in all of it, live after it, nothing acknowledged lost."""

import pytest

from replog.core import ProtocolSpec
from tests.cluster.chaos import Chaos


@pytest.mark.parametrize("seed", range(1, 9))
def test_random_faults(spec: ProtocolSpec, seed: int) -> None:
    assert Chaos(spec, seed).run() > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_many_random_faults(spec: ProtocolSpec, seed: int) -> None:
    assert Chaos(spec, seed).run() > 20


@pytest.mark.parametrize("seed", range(1, 4))
def test_random_faults_in_a_larger_cluster(spec: ProtocolSpec, seed: int) -> None:
    assert Chaos(spec, seed, f=2).run() > 20
