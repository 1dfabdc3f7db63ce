"""Each mutant of the map in `pbft/README.md` makes the test fail that its row names, and without it the test passes."""

from __future__ import annotations

import functools

import pytest

from tests.pbft.mutants import CAUGHT, Mutant, load, play

passes = functools.cache(play)
"""Once a test: several mutants are caught by the same one."""


@pytest.mark.parametrize("mutant", [pytest.param(mutant, id=name) for name, mutant in load().items()])
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    passes(mutant.test, mutant.case)
    with mutant.planted(), pytest.raises((*CAUGHT, ValueError, RuntimeError)) as caught:
        play(mutant.test, mutant.case)
    if not isinstance(caught.value, CAUGHT):
        assert mutant.stopped, f"a crash, not a finding: {caught.value!r}"
        assert mutant.stopped in str(caught.value)
