"""The same verdicts on both engines: all twelve by `python -m compare.engines`, three of them here."""

import pytest

from compare import engines
from compare.results import Verdict
from compare.scenario import find
from replog.errors import ConfigError


def test_the_twelve_are_distinct_and_can_be_played_on_both() -> None:
    assert len(set(engines.TWELVE)) == 12
    assert all({"sim", "live"} <= set(find(name).engines) for name in engines.TWELVE)
    assert {find(name).protocols["raft"].expect.split()[1] for name in engines.TWELVE} == {"ok", "stalled", "unsafe"}


def test_one_that_cannot_be_played_on_both_is_refused() -> None:
    with pytest.raises(ConfigError, match="scenario wide-area: runs on sim, not on live"):
        engines.played(["wide-area"])


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "pbft", "raft"),
    [
        ("stale-read", Verdict.OK, Verdict.UNSAFE),
        ("mute-to-some", Verdict.OK, Verdict.STALLED),
        ("crash-beyond", Verdict.STALLED, Verdict.STALLED),
    ],
)
def test_the_verdicts_are_the_same(scenario: str, pbft: Verdict, raft: Verdict) -> None:
    _, rows = engines.played([scenario])
    assert [(row.protocol, row.sim.verdict, row.live.verdict) for row in rows] == [
        ("pbft", pbft, pbft),
        ("raft", raft, raft),
    ], [row.why for row in rows]
