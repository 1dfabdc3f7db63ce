"""The client: what it believes, when it tries again, and what a liar cannot make it do."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.client import (
    BACK_OFF_MAX,
    HEAD_BYTES,
    WINDOW,
    ClientCore,
    ClientEffect,
    ClientLimits,
    Done,
    Failed,
    ToReplica,
    Wake,
    size_of,
)
from replog.codec import Domain
from replog.core import ClientRules
from replog.errors import Overloaded, RequestTooLarge
from replog.keys import HashSigner, HashVerifier
from replog.types import NOBODY, Answer, Message, Reply, Request, Results, StatusReply, Submit, encode_results

PBFT = ClientRules(reply_quorum=2, retry_all=True, retry_us=1_000)
RAFT = ClientRules(reply_quorum=1, retry_all=False, retry_us=1_000)
DOMAIN = Domain("test")
SECRET = b"c" * 32
quick = settings(deadline=None, max_examples=30)


def pbft(n: int = 4, **limits: int) -> ClientCore:
    return ClientCore("c", n, PBFT, HashSigner(SECRET), DOMAIN, ClientLimits(**limits) if limits else None)


def raft(n: int = 3, **limits: int) -> ClientCore:
    return ClientCore("c", n, RAFT, HashSigner(SECRET), DOMAIN, ClientLimits(**limits) if limits else None)


def done(timestamp: int, value: bytes = b"ok", view: int = 0, leader: int = 0, index: int = 1) -> Reply:
    return Reply(timestamp, Answer.DONE, encode_results(Results(index, [value])), view, leader)


def said(timestamp: int, answer: Answer, text: str = "", view: int = 0, leader: int = 0) -> Reply:
    return Reply(timestamp, answer, text.encode(), view, leader)


def sends(effects: list[ClientEffect]) -> list[tuple[tuple[int, ...], Request]]:
    return [
        (effect.to, Request(effect.message.request))
        for effect in effects
        if isinstance(effect, ToReplica) and isinstance(effect.message, Submit)
    ]


def ends(effects: list[ClientEffect]) -> list[Done | Failed]:
    return [effect for effect in effects if isinstance(effect, (Done, Failed))]


def wakes(effects: list[ClientEffect]) -> list[int]:
    return [effect.at for effect in effects if isinstance(effect, Wake)]


class TestSize:
    @given(st.lists(st.binary(max_size=70_000), min_size=1, max_size=50), st.integers(1, 2**62))
    @quick
    def test_what_is_within_the_limit_makes_no_larger_request(self, operations: list[bytes], timestamp: int) -> None:
        signer = HashSigner(SECRET)
        made = Request.make(signer.sign, DOMAIN, "c" * 63, timestamp, timestamp - 1, operations)
        assert made.size + 64 <= HEAD_BYTES + size_of(operations), "an Ed25519 signature has 64 bytes, this one fewer"

    @pytest.mark.parametrize("rules", [PBFT, RAFT])
    def test_a_larger_request_is_refused_before_it_is_sent(self, rules: ClientRules) -> None:
        limited = replace(rules, request_bytes_max=1_000, request_operations_max=10)
        client = ClientCore("c", 4, limited, HashSigner(SECRET), DOMAIN)
        with pytest.raises(RequestTooLarge, match=r"1001 bytes: .* at most request_bytes_max = 1000"):
            client.submit(0, [b"x" * (1_000 - HEAD_BYTES - 4)])
        with pytest.raises(RequestTooLarge, match=r"11 operations: .* at most 10"):
            client.submit(0, [b"x"] * 11)
        assert client.outstanding == 0
        ((_, request),) = sends(client.submit(0, [b"x" * (1_000 - HEAD_BYTES - 5)])[1])
        assert (request.timestamp, request.size <= 1_000) == (1, True)


class TestResults:
    def test_a_result_needs_a_quorum_of_equal_replies(self) -> None:
        """P39"""
        client = pbft()
        client.submit(0, [b"op"])
        assert client.on_message(1, 3, done(1)) == []
        assert client.on_message(1, 1, done(1, b"other")) == []
        assert client.on_message(1, 2, done(1, index=2)) == []
        assert client.on_message(2, 0, done(1)) == [Done(1, 1, [b"ok"], (0, 3))]
        assert client.outstanding == 0

    def test_one_replica_has_one_vote(self) -> None:
        """P39, P43"""
        client = pbft()
        client.submit(0, [b"op"])
        for _ in range(5):
            assert client.on_message(1, 3, done(1, b"lie")) == []
        client.check_invariants()

    def test_a_vote_may_change_from_refusal_to_result(self) -> None:
        client = pbft()
        client.submit(0, [b"op"])
        client.on_message(1, 0, said(1, Answer.OVERLOADED))
        client.on_message(1, 0, done(1))
        assert ends(client.on_message(1, 1, done(1))) == [Done(1, 1, [b"ok"], (0, 1))]

    def test_view_and_leader_are_no_part_of_a_result(self) -> None:
        client = pbft()
        client.submit(0, [b"op"])
        client.on_message(1, 0, done(1, view=3, leader=3))
        assert ends(client.on_message(1, 1, done(1, view=4, leader=0))) == [Done(1, 1, [b"ok"], (0, 1))]

    def test_what_answers_nothing_is_passed_over(self) -> None:
        client = pbft()
        client.submit(0, [b"op"])
        for sender, message in ((0, done(2)), (4, done(1)), (-1, done(1)), (0, StatusReply(1, b""))):
            assert client.on_message(1, sender, message) == []
        client.on_message(1, 0, done(1))
        assert len(ends(client.on_message(1, 1, done(1)))) == 1
        assert client.on_message(1, 2, done(1)) == []

    def test_one_reply_is_enough_where_nobody_lies(self) -> None:
        client = raft()
        client.submit(0, [b"op"])
        assert ends(client.on_message(1, 2, done(1))) == [Done(1, 1, [b"ok"], (2,))]

    @pytest.mark.parametrize("results", [b"", b"\xc1", b"\x92\x01\x01", b"\x91\x01"])
    def test_results_that_are_none_are_no_vote(self, results: bytes) -> None:
        client = raft()
        client.submit(0, [b"op"])
        assert client.on_message(1, 0, Reply(1, Answer.DONE, results, 0, 0)) == []
        assert len(ends(client.on_message(1, 1, done(1)))) == 1

    @pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.OVERLOADED])
    def test_one_liar_cannot_make_it_give_up(self, answer: Answer) -> None:
        client = pbft()
        client.submit(0, [b"op"])
        for _ in range(9):
            assert client.on_message(1, 2, said(1, answer, "go away")) == []
        assert len(client.on_message(1, 3, said(1, answer, "in other words"))) == 1
        assert client.outstanding == 0

    def test_a_refusal_names_its_reason(self) -> None:
        for answer, reason in ((Answer.REFUSED, "refused"), (Answer.OVERLOADED, "overloaded")):
            client = raft()
            client.submit(0, [b"op"])
            assert ends(client.on_message(1, 0, said(1, answer, "why\xe4"))) == [Failed(1, reason, "why\xe4")]

    def test_refusals_of_different_kinds_do_not_add_up(self) -> None:
        client = pbft()
        client.submit(0, [b"op"])
        assert client.on_message(1, 0, said(1, Answer.REFUSED)) == []
        assert client.on_message(1, 1, said(1, Answer.OVERLOADED)) == []


class TestRequests:
    def test_they_are_signed_and_say_what_was_given(self) -> None:
        client = pbft()
        timestamp, effects = client.submit(0, [b"a", b"b"], read_only=True)
        ((to, request),) = sends(effects)
        assert (timestamp, to, request.identity, request.low) == (1, (0,), ("c", 1), 0)
        assert (request.operations(), request.read_only) == ([b"a", b"b"], True)
        assert HashVerifier({"c": SECRET}).verify("c", request.statement(DOMAIN), request.auth)

    def test_timestamps_grow_from_the_start(self) -> None:
        client = ClientCore("c", 4, PBFT, HashSigner(SECRET), DOMAIN, start=1_000)
        stamps = [client.submit(0, [b"op"]) for _ in range(3)]
        assert [timestamp for timestamp, _ in stamps] == [1_000, 1_001, 1_002]
        assert sends(stamps[0][1])[0][1].low == 999
        with pytest.raises(ValueError, match="start = 0: timestamps are positive"):
            ClientCore("c", 4, PBFT, HashSigner(SECRET), DOMAIN, start=0)

    def test_a_request_has_operations(self) -> None:
        with pytest.raises(ValueError, match="at least one operation"):
            pbft().submit(0, [])

    def test_low_passes_only_what_has_ended_without_a_gap(self) -> None:
        client = raft()
        for _ in range(4):
            client.submit(0, [b"op"])
        for timestamp in (2, 4):
            client.on_message(1, 0, done(timestamp))
        assert client.low == 0
        client.on_message(1, 0, done(1))
        assert client.low == 2
        assert sends(client.submit(1, [b"op"])[1])[0][1].low == 2

    def test_the_window_is_kept_and_filled_again(self) -> None:
        client = raft()
        sent = [len(sends(client.submit(0, [b"op"])[1])) for _ in range(WINDOW + 3)]
        assert sent == [1] * WINDOW + [0] * 3
        client.on_message(1, 0, done(2))
        assert client.low == 0
        ((_, request),) = sends(client.on_message(1, 0, done(1))[1:])[:1]
        assert (request.timestamp, request.low) == (WINDOW + 1, 2)
        client.check_invariants()

    def test_what_waits_is_bounded(self) -> None:
        client = raft(queue_requests=2, queue_bytes=100)
        for _ in range(WINDOW + 1):
            client.submit(0, [b"op"])
        with pytest.raises(Overloaded, match="1 requests of 2 bytes wait"):
            client.submit(0, [b"x" * 99])
        timestamp, _ = client.submit(0, [b"op"])
        assert timestamp == WINDOW + 2, "a refused submission uses no timestamp up"
        with pytest.raises(Overloaded):
            client.submit(0, [b"op"])
        assert client.outstanding == WINDOW + 2


class TestTime:
    def test_it_tries_again_with_the_same_bytes_and_backs_off(self) -> None:
        client = pbft()
        _, effects = client.submit(0, [b"op"])
        ((_, first),) = sends(effects)
        waits, now = [], 0
        for _ in range(6):
            (at,) = wakes(effects)
            waits.append(at - now)
            now = at
            effects = client.on_timeout(now)
            assert [(to, request.raw) for to, request in sends(effects)] == [((0, 1, 2, 3), first.raw)]
        assert waits == [PBFT.retry_us * factor for factor in (1, 2, 4, 8, BACK_OFF_MAX, BACK_OFF_MAX)]

    def test_what_is_not_due_is_not_sent(self) -> None:
        client = pbft()
        client.submit(0, [b"early"])
        assert wakes(client.submit(600, [b"late"])[1]) == []
        effects = client.on_timeout(1_000)
        assert [request.timestamp for _, request in sends(effects)] == [1]
        assert wakes(effects) == [1_600]

    def test_a_timeout_for_nothing_does_nothing(self) -> None:
        client = pbft()
        client.submit(0, [b"op"])
        for node in (0, 1):
            client.on_message(1, node, done(1))
        assert client.on_timeout(1_000) == []
        assert wakes(client.submit(2_000, [b"op"])[1]) == [3_000]

    def test_raft_asks_the_next_one(self) -> None:
        client = raft()
        client.submit(0, [b"op"])
        client.submit(0, [b"op"])
        first = client.on_timeout(1_000)
        assert [to for to, _ in sends(first)] == [(1,), (1,)]
        assert [to for to, _ in sends(client.on_timeout(9_000))] == [(2,), (2,)]
        assert [to for to, _ in sends(client.on_timeout(99_000))] == [(0,), (0,)]

    def test_raft_does_not_leave_a_leader_that_it_found_while_older_requests_waited(self) -> None:
        client = raft()
        client.submit(0, [b"early"])
        client.submit(10, [b"late"])
        client.on_timeout(1_000)
        assert [to for to, _ in sends(client.on_message(1_001, 1, said(1, Answer.REDIRECT, leader=2)))] == [(2,)]
        assert [to for to, _ in sends(client.on_timeout(1_010))] == [(2,)]
        assert [to for to, _ in sends(client.submit(1_011, [b"new"])[1])] == [(2,)]

    def test_it_gives_up_when_told_to(self) -> None:
        client = pbft(give_up_us=2_500)
        _, effects = client.submit(0, [b"op"])
        while not ends(effects):
            effects = client.on_timeout(min(wakes(effects)))
        assert ends(effects) == [Failed(1, "unknown", "no answer in 2500 us")]
        assert (client.low, client.outstanding) == (1, 0)
        assert client.on_message(9_000, 0, done(1)) == []

    def test_what_waited_too_long_was_never_sent(self) -> None:
        client = raft(give_up_us=500)
        effects: list[ClientEffect] = []
        for number in range(WINDOW + 2):
            effects += client.submit(number, [b"op"])[1]
        assert 500 in wakes(effects)
        late = client.on_timeout(500 + WINDOW + 2)
        assert [end.reason for end in ends(late) if isinstance(end, Failed)] == ["unknown"] * WINDOW + ["unsent"] * 2
        assert client.low == WINDOW + 2

    def test_without_a_limit_it_never_gives_up(self) -> None:
        client = pbft()
        client.submit(0, [b"op"])
        for now in range(10**6, 10**8, 10**6):
            assert not ends(client.on_timeout(now))


class TestLeader:
    def test_raft_follows_a_redirection(self) -> None:
        """Raft 8"""
        client = raft()
        ((_, sent),) = sends(client.submit(0, [b"op"])[1])
        ((to, again),) = sends(client.on_message(1, 0, said(1, Answer.REDIRECT, view=4, leader=2)))
        assert (to, again.raw) == ((2,), sent.raw)
        assert sends(client.submit(1, [b"op"])[1])[0][0] == (2,)

    def test_raft_asks_again_soon_where_no_leader_is_known(self) -> None:
        """An election ends long before the wait for a silent leader does."""
        client = raft()
        client.submit(0, [b"op"])
        assert client.on_message(1, 0, said(1, Answer.REDIRECT, leader=0)) == []
        for leader in (NOBODY, 3):
            effects = client.on_message(1, 0, said(1, Answer.REDIRECT, leader=leader))
            assert sends(effects) == []
        assert [to for to, _ in sends(client.on_timeout(200))] == [(1,)]

    def test_an_election_does_not_make_the_client_back_off(self) -> None:
        client = raft()
        client.submit(0, [b"op"])
        now = 0
        for turn in range(10):
            (due,) = wakes(client.on_message(now, turn % 3, said(1, Answer.REDIRECT, leader=NOBODY)))
            assert due == now + 125
            now = due
            assert sends(client.on_timeout(now))

    def test_what_cannot_be_reached_is_passed_by_at_once(self) -> None:
        """A stopped leader costs no wait where the world sees that its link is gone."""
        client = raft()
        ((_, sent),) = sends(client.submit(0, [b"op"])[1])
        assert client.on_unreachable(1, 2) == []
        ((to, again),) = sends(client.on_unreachable(1, 0))
        assert (to, again.raw) == ((1,), sent.raw)
        assert sum(len(sends(client.on_unreachable(1, client.leader))) for _ in range(50)) == 2
        client = pbft()
        client.submit(0, [b"op"])
        ((to, _),) = sends(client.on_unreachable(1, 0))
        assert to == (0, 1, 2, 3)
        assert client.on_unreachable(1, 0) == []

    def test_two_that_name_each_other_make_no_storm(self) -> None:
        client = raft()
        client.submit(0, [b"op"])
        sent = 0
        for turn in range(100):
            sender = turn % 2
            sent += len(sends(client.on_message(1, sender, said(1, Answer.REDIRECT, leader=1 - sender))))
        assert sent == 3
        client.on_timeout(1_000)
        assert sends(client.on_message(1_001, 1, said(1, Answer.REDIRECT, leader=2)))

    def test_raft_does_not_go_back_to_an_older_term(self) -> None:
        client = raft()
        client.submit(0, [b"op"])
        client.on_message(1, 1, done(1, view=5, leader=1))
        client.on_message(1, 2, done(1, view=4, leader=2))
        assert client.leader == 1

    def test_pbft_follows_the_view_that_a_weak_quorum_claims(self) -> None:
        """CL99 4.1: the client tracks the view by the replies, of which one is from a correct replica."""
        client = pbft()
        client.submit(0, [b"op"])
        client.on_message(1, 2, done(1, view=1, leader=1))
        assert client.leader == 0
        client.on_message(1, 3, done(1, view=1, leader=1))
        assert (client.view, client.leader) == (1, 1)

    def test_one_liar_leads_pbft_nowhere(self) -> None:
        client = pbft()
        for view in range(1, 50):
            client.submit(0, [b"op"])
            client.on_message(1, 3, said(view, Answer.REDIRECT, view=view, leader=3))
            client.on_message(1, 3, done(view, view=2**60 + view, leader=3))
        assert (client.view, client.leader) == (0, 0)
        client.on_message(1, 1, done(1, view=2, leader=2))
        client.on_message(1, 2, done(2, view=2, leader=2))
        assert (client.view, client.leader) == (2, 2)

    def test_a_leader_that_does_not_exist_is_not_followed(self) -> None:
        client = pbft()
        for node in (1, 2):
            client.on_message(1, node, done(1, view=7, leader=9))
        assert (client.view, client.leader) == (0, 0)


@quick
@given(st.integers(0, 2**32), st.sampled_from([(PBFT, 4, 1), (ClientRules(3, True, 500), 7, 2), (RAFT, 3, 0)]))
def test_liars_neither_forge_nor_stop_a_result(seed: int, kind: tuple[ClientRules, int, int]) -> None:
    """Correct replicas answer every request they get; `f` others say anything to anything, at any time."""
    rules, n, f = kind
    rng = random.Random(seed)
    client = ClientCore("c", n, rules, HashSigner(SECRET), DOMAIN)
    liars = set(rng.sample(range(n), f))
    network: list[tuple[int, Message]] = []
    ended: dict[int, Done | Failed] = {}
    now, wake, submitted = 0, 0, 0

    def carry_out(effects: list[ClientEffect]) -> None:
        nonlocal wake
        for end in ends(effects):
            assert end.timestamp not in ended
            ended[end.timestamp] = end
        wake = next(iter(reversed(wakes(effects))), wake)
        for to, request in sends(effects):
            network.extend((node, lie(request.timestamp) if node in liars else truth(request)) for node in to)

    def truth(request: Request) -> Reply:
        return done(request.timestamp, b"%d" % request.timestamp)

    def lie(timestamp: int) -> Reply:
        answer = rng.choice(list(Answer))
        results = rng.choice([b"", rng.randbytes(3), done(timestamp, b"lie").results, done(timestamp + 1).results])
        return Reply(max(0, timestamp + rng.randint(-2, 2)), answer, results, rng.randrange(2**60), rng.randint(-1, n))

    while len(ended) < 60 and now < 10**8:
        if submitted < 60 and rng.random() < 0.6:
            submitted += 1
            carry_out(client.submit(now, [b"op"])[1])
        elif network and rng.random() < 0.8:
            sender, message = network.pop(rng.randrange(len(network)))
            if rng.random() < 0.8:
                carry_out(client.on_message(now, sender, message))
        else:
            now = max(now + 1, wake)
            carry_out(client.on_timeout(now))
        client.check_invariants()
    assert len(ended) == 60
    for timestamp, end in ended.items():
        assert isinstance(end, Done)
        assert end.outcomes == [b"%d" % timestamp]
        assert len(end.vouchers) >= rules.reply_quorum
