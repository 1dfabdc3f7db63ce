"""What the tests of the live world share."""

import pytest

from replog import protocols
from replog.core import ProtocolSpec
from tests import toy


@pytest.fixture
def with_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the unreplicated single server known as protocol "toy" within this process."""
    real = protocols.find

    def find(name: str) -> ProtocolSpec:
        return toy.SPEC if name == "toy" else real(name)

    monkeypatch.setattr(protocols, "find", find)
