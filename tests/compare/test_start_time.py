"""A replica with much on its disk serves again soon. The full measure: compare.start_time."""

import pytest

from compare import start_time


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("protocol", start_time.PROTOCOLS)
def test_a_replica_that_was_killed_serves_from_what_its_disk_holds(protocol: str) -> None:
    taken = start_time.play(protocol, keys=20_000, entries=2_000)
    assert 0 < taken.serving <= taken.level
