"""One bit of a replica's files is flipped. The long form: compare.flipped_bits."""

import random

import pytest

from compare import flipped_bits


@pytest.mark.parametrize("protocol", flipped_bits.PROTOCOLS)
def test_no_flipped_bit_is_answered_from_or_voted_by(protocol: str) -> None:
    flips = flipped_bits.play(protocol, 80)
    assert flips.wrong == []
    assert flips.flips >= 80
    found = {outcome for _, outcome in flips.outcomes}
    assert found == {"harmless", "reported"}
    assert {name for name, _ in flips.outcomes} == set(flipped_bits.FILES), "vacuous"


def test_a_store_that_checks_nothing_loses_promises() -> None:
    assert flipped_bits.play("raft", 160, broken=True).wrong


def test_flips_are_spread_over_every_stretch_of_every_file() -> None:
    found = list(flipped_bits.spread({"a": 100, "b": 10}, 8, random.Random(1)))
    assert [name for name, _ in found] == ["a"] * 4 + ["b"] * 4
    assert [bit // 200 for name, bit in found if name == "a"] == [0, 1, 2, 3]
    assert [bit // 20 for name, bit in found if name == "b"] == [0, 1, 2, 3]


def test_the_command_refuses_a_protocol_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        flipped_bits.main(["paxos"])
    assert "paxos: known are pbft, raft" in capsys.readouterr().err
