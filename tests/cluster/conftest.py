"""The protocols under test, found the way the command finds them."""

import pytest

from replog import protocols
from replog.core import ProtocolSpec


@pytest.fixture(params=["pbft", "raft"])
def spec(request: pytest.FixtureRequest) -> ProtocolSpec:
    return protocols.find(request.param)
