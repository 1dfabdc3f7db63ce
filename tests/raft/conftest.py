from __future__ import annotations

import pytest

from raft import RaftCore


@pytest.fixture
def core() -> type[RaftCore]:
    """The core under test; test_mutants.py hands in broken ones by calling the test itself."""
    return RaftCore
