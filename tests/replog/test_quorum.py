"""Enough is enough, for any n."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replog.quorum import VoteSet, byzantine_quorum, majority, weak_quorum

SIZES = [(n, f) for n in range(1, 60) for f in range((n - 1) // 3 + 1)]


@pytest.mark.parametrize(("n", "f"), SIZES)
def test_two_byzantine_quorums_share_a_correct_replica(n: int, f: int) -> None:
    """CL99 4, P28"""
    quorum = byzantine_quorum(n, f)
    assert 2 * quorum - n >= f + 1
    assert 2 * (quorum - 1) - n < f + 1, "no smaller number is enough"
    assert quorum <= n - f, "the correct ones are enough to go on"
    assert quorum == math.ceil((n + f + 1) / 2)


def test_it_is_the_papers_number_where_n_is_3f_plus_1() -> None:
    assert [byzantine_quorum(3 * f + 1, f) for f in range(20)] == [2 * f + 1 for f in range(20)]


@pytest.mark.parametrize(("n", "f"), [(3, 1), (6, 2), (0, 0), (4, -1)])
def test_too_few_replicas_are_an_error(n: int, f: int) -> None:
    with pytest.raises(ValueError, match=f"n = {n}, f = {f}: Byzantine agreement needs"):
        byzantine_quorum(n, f)


def test_a_weak_quorum_has_one_correct_replica() -> None:
    assert [weak_quorum(f) for f in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("n", range(1, 30))
def test_two_majorities_share_a_server(n: int) -> None:
    """Raft 5.2"""
    assert 2 * majority(n) > n
    assert 2 * (majority(n) - 1) <= n


def test_nobody_has_no_majority() -> None:
    with pytest.raises(ValueError, match="n = 0"):
        majority(0)


VOTES = st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abc"), st.integers()))


@given(VOTES)
def test_votes_count_by_distinct_voter(votes: list[tuple[int, str, int]]) -> None:
    """P7, P17: the first vote of each stands."""
    first: dict[int, tuple[str, int]] = {}
    box: VoteSet[str, int] = VoteSet()
    for voter, value, witness in votes:
        assert box.add(voter, value, witness) == (voter not in first)
        first.setdefault(voter, (value, witness))
    assert len(box) == len(first)
    for value in "abc":
        supporters = sorted((voter, witness) for voter, (said, witness) in first.items() if said == value)
        assert box.count(value) == len(supporters)
        assert box.witnesses(value) == supporters
    assert set(box.values()) == {value for value, _ in first.values()}
    assert all(box.get(voter) == vote and voter in box for voter, vote in first.items())
    assert box.get(7) is None
    assert 7 not in box
