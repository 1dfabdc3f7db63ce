"""The client: what it believes, when it tries again, and what a liar cannot make it do."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.client import (
    BACK_OFF_MAX,
    HEAD_BYTES,
    LAGGARD_SHARE,
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
from replog.codec import Domain, digest_of
from replog.core import ClientRules
from replog.errors import Overloaded, RequestTooLarge
from replog.keys import HashSigner, HashVerifier
from replog.replies import Counts, Proof, Replies, Word
from replog.types import (
    NOBODY,
    Answer,
    Message,
    Read,
    Reply,
    Request,
    Results,
    SessionKey,
    StatusReply,
    Submit,
    encode_results,
)

PBFT = ClientRules(reply_quorum=2, retry_all=True, retry_us=1_000)
DIGESTS = replace(PBFT, digest_replies=True)
TENTATIVE = replace(PBFT, tentative_quorum=3)
READS = replace(PBFT, read_quorum=3)
ALL = replace(PBFT, digest_replies=True, tentative_quorum=3, read_quorum=3)
SEVEN = ClientRules(3, True, 500, read_quorum=5, tentative_quorum=5, digest_replies=True)
SAMPLES = replace(PBFT, sample=0.25, retry_us=64_000)
RAFT = ClientRules(reply_quorum=1, retry_all=False, retry_us=1_000)
KINDS = [(PBFT, 4, 1), (ALL, 4, 1), (SEVEN, 7, 2), (replace(SEVEN, sample=0.5), 7, 2), (RAFT, 3, 0)]
DOMAIN = Domain("test")
SECRET = b"c" * 32
quick = settings(deadline=None, max_examples=30)


def pbft(n: int = 4, **limits: int) -> ClientCore:
    return ClientCore("c", n, PBFT, HashSigner(SECRET), DOMAIN, ClientLimits(**limits) if limits else None)


def raft(n: int = 3, **limits: int) -> ClientCore:
    return ClientCore("c", n, RAFT, HashSigner(SECRET), DOMAIN, ClientLimits(**limits) if limits else None)


def client_of(rules: ClientRules, n: int = 4) -> ClientCore:
    return ClientCore("c", n, rules, HashSigner(SECRET), DOMAIN)


def done(timestamp: int, value: bytes = b"ok", view: int = 0, leader: int = 0, index: int = 1) -> Reply:
    return Reply(timestamp, Answer.DONE, encode_results(Results(index, [value])), view, leader)


def said(timestamp: int, answer: Answer, text: str = "", view: int = 0, leader: int = 0) -> Reply:
    return Reply(timestamp, answer, text.encode(), view, leader)


def read(timestamp: int, value: bytes = b"ok") -> Reply:
    return Reply(timestamp, Answer.READ, encode_results(Results(0, [value])), 0, 0)


def tentative(timestamp: int, value: bytes = b"ok", view: int = 0) -> Reply:
    return Reply(timestamp, Answer.TENTATIVE, encode_results(Results(1, [value])), view, 0)


def digested(reply: Reply) -> Reply:
    return Reply(reply.timestamp, reply.answer, digest_of(reply.results), reply.view, reply.leader, True)


def sends(effects: list[ClientEffect]) -> list[tuple[tuple[int, ...], Request]]:
    return [
        (effect.to, Request(effect.message.request))
        for effect in effects
        if isinstance(effect, ToReplica) and isinstance(effect.message, Submit)
    ]


def reads(effects: list[ClientEffect]) -> list[tuple[tuple[int, ...], Request]]:
    return [
        (effect.to, Request(effect.message.request))
        for effect in effects
        if isinstance(effect, ToReplica) and isinstance(effect.message, Read)
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
        assert ends(effects) == [Failed(1, "unknown", "no answer in time (2500 us)")]
        assert (client.low, client.outstanding) == (1, 0)
        assert client.on_message(9_000, 0, done(1)) == []

    def test_results_that_differ_more_than_replicas_may_lie_ask_about_the_application(self) -> None:
        client = pbft()
        client.submit(0, [b"op"])
        assert client.standing(1) == "no answer in time"
        client.on_message(1, 0, done(1, b"a"))
        client.on_message(1, 1, done(1, b"b"))
        assert client.standing(1) == "2 of 4 replicas answered in time, no 2 of them alike"
        client.on_message(1, 2, done(1, b"c"))
        told = "3 of 4 replicas answered in time, no 2 of them alike; is the application deterministic?"
        assert client.standing(1) == told

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


class TestDigests:
    """One replica sends the results, the others their digest. [CL99 5.1]"""

    def test_digests_make_a_result_together_with_what_they_are_of(self) -> None:
        client = client_of(DIGESTS)
        client.submit(0, [b"op"])
        assert not ends(client.on_message(1, 1, digested(done(1))))
        assert not ends(client.on_message(1, 2, digested(done(1))))
        assert ends(client.on_message(2, 0, done(1))) == [Done(1, 1, [b"ok"], (0, 1, 2))]

    def test_the_results_may_come_first(self) -> None:
        client = client_of(DIGESTS)
        client.submit(0, [b"op"])
        assert not ends(client.on_message(1, 0, done(1)))
        assert ends(client.on_message(1, 3, digested(done(1)))) == [Done(1, 1, [b"ok"], (0, 3))]

    def test_results_whose_digest_nobody_else_names_never_count(self) -> None:
        """P39: the replier lies. A client that takes whatever results came would believe it."""

        def results_of(replies_type: type[Replies]) -> list[bytes]:
            replies = replies_type(Counts.of(DIGESTS, 4))
            said = {0: done(1, b"lie"), 1: digested(done(1)), 2: digested(done(1)), 3: digested(done(1))}
            proofs = [replies.hear(sender, reply) for sender, reply in said.items()]
            assert replies.lacks_results is not any(proofs)
            return [proof.results for proof in proofs if proof is not None]

        assert results_of(Replies) == []
        assert done(1, b"lie").results in results_of(TakesAnyResults)

    def test_a_liar_that_repeats_the_digest_of_others_has_one_vote(self) -> None:
        client = client_of(DIGESTS)
        client.submit(0, [b"op"])
        for reply in (done(1, b"lie"), digested(done(1, b"lie")), done(1, b"lie")):
            assert not ends(client.on_message(1, 3, reply))

    def test_results_in_place_of_a_digest_are_no_digest(self) -> None:
        """Whether it is a digest is a part of the reply: 32 bytes of results are not the digest of others."""
        client = client_of(DIGESTS)
        client.submit(0, [b"op"])
        client.on_message(1, 0, done(1))
        assert not ends(client.on_message(1, 1, Reply(1, Answer.DONE, digest_of(done(1).results), 0, 0)))
        assert not ends(client.on_message(1, 1, Reply(1, Answer.DONE, done(1).results, 0, 0, True)))

    def test_without_the_rule_everybody_answers_in_full(self) -> None:
        for rules in (PBFT, READS, TENTATIVE):
            ((_, request),) = sends(client_of(rules).submit(0, [b"op"])[1])
            assert request.replier == NOBODY

    def test_the_repliers_take_turns_beginning_with_the_leader(self) -> None:
        client = client_of(DIGESTS)
        named = [sends(client.submit(0, [b"op"])[1])[0][1].replier for _ in range(9)]
        assert named == [0, 1, 2, 3, 0, 1, 2, 3, 0]

    def test_a_silent_replier_is_not_waited_for_as_long_as_a_silent_leader(self) -> None:
        client = client_of(DIGESTS)
        client.submit(0, [b"op"])
        assert wakes(client.on_message(10, 1, digested(done(1)))) == []
        (at,) = wakes(client.on_message(20, 2, digested(done(1))))
        assert at == 20 + DIGESTS.retry_us // LAGGARD_SHARE
        effects = client.on_timeout(at)
        assert [to for to, _ in sends(effects)] == [(0, 1, 2, 3)], "asked again, all answer in full"
        assert wakes(client.on_message(at + 1, 3, digested(done(1)))) == [], "once: from then on it backs off"
        assert ends(client.on_message(at + 2, 1, done(1))) == [Done(1, 1, [b"ok"], (1, 2, 3))]

    @pytest.mark.parametrize("lie", [None, b"lie"])
    def test_a_bad_replier_costs_one_request_and_not_every_fourth(self, lie: bytes | None) -> None:
        def retries(client: ClientCore) -> int:
            return sum(self._runs_late(client, bad=2, lie=lie) for _ in range(40))

        assert retries(client_of(DIGESTS)) == 1
        assert retries(NamesInTurn("c", 4, DIGESTS, HashSigner(SECRET), DOMAIN)) == 10

    @staticmethod
    def _runs_late(client: ClientCore, bad: int, lie: bytes | None) -> bool:
        """One request in a cluster in which `bad` does not send results; whether it had to be sent again."""
        timestamp, effects = client.submit(0, [b"op"])
        ((_, request),) = sends(effects)
        ended: list[Done | Failed] = []
        for node in range(4):
            reply = done(timestamp) if node == request.replier else digested(done(timestamp))
            if node != bad or node != request.replier:
                ended += ends(client.on_message(1, node, reply))
            elif lie is not None:
                ended += ends(client.on_message(1, node, done(timestamp, lie)))
        if ended:
            return False
        client.on_timeout(DIGESTS.retry_us)
        ended += ends(client.on_message(DIGESTS.retry_us, (bad + 1) % 4, done(timestamp)))
        assert [end.timestamp for end in ended] == [timestamp]
        return True

    def test_a_silent_cluster_is_not_the_repliers_fault(self) -> None:
        client = client_of(DIGESTS)
        client.submit(0, [b"op"])
        client.on_timeout(1_000)
        for node in (1, 2):
            client.on_message(1_001, node, done(1))
        assert [sends(client.submit(0, [b"op"])[1])[0][1].replier for _ in range(4)] == [1, 2, 3, 0]

    def test_who_cannot_be_reached_is_not_named_while_others_can(self) -> None:
        client = client_of(DIGESTS)
        for _ in range(5):
            client.on_unreachable(0, 0)
        assert [sends(client.submit(0, [b"op"])[1])[0][1].replier for _ in range(4)] == [1, 2, 3, 1]
        for node in (1, 2, 3):
            client.on_unreachable(0, node)
        assert [sends(client.submit(0, [b"op"])[1])[0][1].replier for _ in range(3)] == [2, 3, 0]


class TakesAnyResults(Replies):
    """Broken: does not compare results with the digests that vouch for them."""

    def _proof(self, word: Word, vouchers: tuple[int, ...]) -> Proof | None:
        results = [full for _, full in self._said.values() if full is not None]
        return Proof(word, results[0], vouchers) if results else None


class NamesInTurn(ClientCore):
    """Broken: remembers nobody's lapses."""

    def _note_lapses(self, due: Iterable[object]) -> None:
        pass


class TestTentative:
    """Results before they are decided need a quorum of one view. [CL99 5.1]"""

    def test_a_quorum_of_tentative_results_is_one(self) -> None:
        """P39: f + 1 of them are not, as of the decided ones; a client with that rule takes them."""

        def vouchers(rules: ClientRules) -> tuple[int, ...]:
            client = client_of(rules)
            client.submit(0, [b"op"])
            (end,) = [end for node in (3, 1, 0) for end in ends(client.on_message(1, node, tentative(1)))]
            assert isinstance(end, Done)
            return end.vouchers

        assert vouchers(TENTATIVE) == (0, 1, 3)
        assert vouchers(replace(TENTATIVE, tentative_quorum=2)) == (1, 3)

    def test_decided_and_tentative_ones_add_up(self) -> None:
        client = client_of(TENTATIVE)
        client.submit(0, [b"op"])
        assert not ends(client.on_message(1, 0, tentative(1)))
        assert not ends(client.on_message(1, 1, done(1)))
        assert ends(client.on_message(1, 2, tentative(1))) == [Done(1, 1, [b"ok"], (0, 1, 2))]

    def test_decided_ones_need_no_tentative_ones(self) -> None:
        client = client_of(TENTATIVE)
        client.submit(0, [b"op"])
        client.on_message(1, 3, tentative(1, b"old"))
        client.on_message(1, 0, done(1))
        assert ends(client.on_message(1, 1, done(1))) == [Done(1, 1, [b"ok"], (0, 1))]

    def test_those_of_different_views_do_not_add_up(self) -> None:
        """P39. Replica 0 prepared it in view 0, replica 1 another one in view 1 and replica 2 the first in view 2; the
        next view may hear of the other one only: nothing is decided."""
        client = client_of(TENTATIVE)
        client.submit(0, [b"op"])
        for node, view in ((0, 0), (2, 2), (3, 2), (3, 0)):
            assert not ends(client.on_message(1, node, tentative(1, view=view)))
        assert not ends(client.on_message(1, 3, tentative(1, view=2)))
        assert ends(client.on_message(1, 0, tentative(1, view=2))) == [Done(1, 1, [b"ok"], (0, 2, 3))]

    def test_a_rollback_takes_a_word_back(self) -> None:
        """P39"""
        client = client_of(TENTATIVE)
        client.submit(0, [b"op"])
        client.on_message(1, 0, tentative(1))
        client.on_message(1, 1, tentative(1))
        client.on_message(1, 0, tentative(1, b"other"))
        assert not ends(client.on_message(1, 2, tentative(1)))
        client.on_message(1, 0, done(1, b"other"))
        assert ends(client.on_message(1, 1, done(1, b"other"))) == [Done(1, 1, [b"other"], (0, 1))]

    def test_where_nobody_answers_tentatively_such_an_answer_is_none(self) -> None:
        client = pbft()
        client.submit(0, [b"op"])
        assert not any(ends(client.on_message(1, node, tentative(1))) for node in range(4))
        client.on_message(1, 0, done(1))
        assert ends(client.on_message(1, 1, done(1))) == [Done(1, 1, [b"ok"], (0, 1))]


class TestReads:
    """What only reads is asked of all, and ordered if they do not agree. [CL99 5.1]"""

    def test_it_goes_to_all_and_takes_a_quorum(self) -> None:
        """P39, P40: a write may be known to one correct replica of the two that f + 1 would ask."""

        def read_by(rules: ClientRules) -> tuple[int, ...]:
            client = client_of(rules)
            ((to, request),) = reads(client.submit(0, [b"get"], read_only=True)[1])
            assert (to, request.read_only, request.operations()) == ((0, 1, 2, 3), True, [b"get"])
            (end,) = [end for node in (3, 1, 0) for end in ends(client.on_message(1, node, read(1)))]
            assert isinstance(end, Done)
            assert (end.index, end.outcomes, client.outstanding) == (0, [b"ok"], 0)
            return end.vouchers

        assert read_by(READS) == (0, 1, 3)
        assert read_by(replace(READS, read_quorum=2)) == (1, 3)

    def test_what_writes_is_ordered(self) -> None:
        client = client_of(READS)
        _, effects = client.submit(0, [b"put"])
        assert [to for to, _ in sends(effects)] == [(0,)]
        assert reads(effects) == []
        assert reads(pbft().submit(0, [b"get"], read_only=True)[1]) == [], "nor is a read sent where nobody answers it"

    def test_without_a_quorum_in_time_the_same_bytes_are_ordered(self) -> None:
        """P40: it never waits for ever."""
        client = client_of(READS)
        _, effects = client.submit(0, [b"get"], read_only=True)
        ((_, request),) = reads(effects)
        for node in (0, 1):
            client.on_message(1, node, read(1))
        effects = client.on_timeout(min(wakes(effects)))
        assert [(to, again.raw) for to, again in sends(effects)] == [((0, 1, 2, 3), request.raw)]
        assert reads(effects) == []
        assert not ends(client.on_message(2_000, 0, done(1, b"later", index=9)))
        assert ends(client.on_message(2_000, 1, done(1, b"later", index=9))) == [Done(1, 9, [b"later"], (0, 1))]

    def test_a_late_answer_still_counts(self) -> None:
        client = client_of(READS)
        client.submit(0, [b"get"], read_only=True)
        client.on_message(1, 0, read(1))
        client.on_timeout(1_000)
        client.on_message(1_001, 1, read(1))
        assert ends(client.on_message(1_001, 2, read(1))) == [Done(1, 0, [b"ok"], (0, 1, 2))]

    def test_it_is_ordered_as_soon_as_no_quorum_can_come(self) -> None:
        client = client_of(READS)
        ((_, request),) = reads(client.submit(0, [b"get"], read_only=True)[1])
        assert client.on_message(10, 0, read(1, b"new")) == []
        assert client.on_message(10, 1, read(1)) == []
        effects = client.on_message(10, 2, read(1, b"lie"))
        assert [(to, again.raw) for to, again in sends(effects)] == [((0,), request.raw)]
        assert not sends(client.on_message(11, 3, read(1))), "once"
        ((to, _),) = sends(client.on_timeout(1_010))
        assert to == (0, 1, 2, 3)

    def test_one_that_differs_is_no_hindrance(self) -> None:
        client = client_of(READS)
        client.submit(0, [b"get"], read_only=True)
        client.on_message(1, 1, read(1, b"lie"))
        for node in (0, 3):
            assert client.on_message(1, node, read(1)) == []
        assert ends(client.on_message(1, 2, read(1))) == [Done(1, 0, [b"ok"], (0, 2, 3))]

    def test_a_lying_replier_has_it_ordered(self) -> None:
        client = client_of(ALL)
        client.submit(0, [b"get"], read_only=True)
        for node in (1, 2):
            client.on_message(1, node, digested(read(1)))
        assert wakes(client.on_message(1, 3, digested(read(1)))) == [1 + ALL.retry_us // LAGGARD_SHARE]
        assert [to for to, _ in sends(client.on_message(2, 0, read(1, b"lie")))] == [(0,)]
        assert [reads(client.submit(2, [b"get"], read_only=True)[1])[0][1].replier for _ in range(4)] == [1, 2, 3, 1]

    def test_where_one_is_enough_one_is_asked(self) -> None:
        """Raft: the leader, or one after the other, each client beginning elsewhere."""

        def asked(rules: ClientRules, stale: bool = False) -> list[tuple[int, ...]]:
            client = client_of(rules, n=3)
            return [reads(client.submit(0, [b"get"], read_only=True, stale=stale)[1])[0][0] for _ in range(3)]

        one = replace(RAFT, read_quorum=1, read_from="leader")
        assert asked(one) == [(0,)] * 3
        assert sorted(asked(replace(one, read_from="any"))) == sorted(asked(one, stale=True)) == [(0,), (1,), (2,)]

    def test_where_one_is_enough_its_word_is_the_result(self) -> None:
        client = client_of(replace(RAFT, read_quorum=1, read_from="leader"), n=3)
        client.submit(0, [b"get"], read_only=True)
        assert ends(client.on_message(1, 0, read(1))) == [Done(1, 0, [b"ok"], (0,))]

    def test_a_read_goes_on_where_it_is_sent_and_is_ordered_if_nobody_answers(self) -> None:
        client = client_of(replace(RAFT, read_quorum=1, read_from="any"), n=3)
        ((to, request),) = reads(client.submit(0, [b"get"], read_only=True)[1])
        elsewhere = (to[0] + 1) % 3
        effects = client.on_message(1, to[0], Reply(1, Answer.REDIRECT, b"", 4, elsewhere))
        assert [(at, again.raw) for at, again in reads(effects)] == [((elsewhere,), request.raw)]
        effects = client.on_timeout(RAFT.retry_us)
        assert reads(effects) == []
        assert [again.raw for _, again in sends(effects)] == [request.raw]

    def test_a_read_whose_server_is_gone_goes_to_the_leader(self) -> None:
        client = client_of(replace(RAFT, read_quorum=1, read_from="any"), n=3)
        asked = [reads(client.submit(0, [b"get"], read_only=True)[1])[0] for _ in range(3)]
        (request,) = [request for to, request in asked if to == (2,)]
        assert [(at, again.raw) for at, again in reads(client.on_unreachable(1, 2))] == [((0,), request.raw)]
        assert client.on_unreachable(1, 2) == [], "once"

    def test_that_an_old_state_will_do_is_said(self) -> None:
        client = client_of(replace(RAFT, read_quorum=1, read_from="leader"), n=3)
        for stale in (True, False):
            _, effects = client.submit(0, [b"get"], read_only=True, stale=stale)
            messages = [effect.message for effect in effects if isinstance(effect, ToReplica)]
            assert [message.stale for message in messages if isinstance(message, Read)] == [stale]

    def test_a_stale_read_goes_round_and_is_never_ordered(self) -> None:
        """[Ongaro14 6.4] One server that answers is enough, whoever leads; a leader need not be there."""
        client = client_of(replace(RAFT, read_quorum=1, read_from="leader"), n=3)
        ((first, request),) = reads(client.submit(0, [b"get"], read_only=True, stale=True)[1])
        asked, now = [*first], 0
        for _ in range(5):
            now += 10 * RAFT.retry_us
            ((to, again),) = reads(client.on_timeout(now))
            assert again.raw == request.raw
            asked += to
        assert [(node - asked[0]) % 3 for node in asked] == [0, 1, 2, 0, 1, 2]
        assert ends(client.on_message(now + 1, asked[-1], read(1))) == [Done(1, 0, [b"ok"], (asked[-1],))]

    def test_what_was_ordered_and_what_was_read_do_not_add_up(self) -> None:
        """P39: they say different things, even in the same bytes."""
        client = client_of(READS)
        client.submit(0, [b"get"], read_only=True)
        bytes_alike = read(1).results
        client.on_message(1, 0, read(1))
        client.on_message(1, 1, read(1))
        assert not ends(client.on_message(1, 2, Reply(1, Answer.DONE, bytes_alike, 0, 0)))
        assert not ends(client.on_message(1, 3, Reply(1, Answer.TENTATIVE, bytes_alike, 0, 0)))

    @pytest.mark.parametrize("rules", [PBFT, TENTATIVE])
    def test_where_nobody_reads_at_once_such_an_answer_is_none(self, rules: ClientRules) -> None:
        client = client_of(rules)
        client.submit(0, [b"get"], read_only=True)
        assert not any(ends(client.on_message(1, node, read(1))) for node in range(4))

    @pytest.mark.parametrize("answer", [Answer.OVERLOADED, Answer.REFUSED])
    def test_it_is_refused_as_anything_else(self, answer: Answer) -> None:
        client = client_of(READS)
        client.submit(0, [b"get"], read_only=True)
        assert client.on_message(1, 0, said(1, answer)) == []
        assert [type(end) for end in ends(client.on_message(1, 1, said(1, answer)))] == [Failed]

    def test_an_unreachable_leader_is_nothing_to_it(self) -> None:
        client = client_of(READS)
        client.submit(0, [b"get"], read_only=True)
        assert client.on_unreachable(1, 0) == []
        assert client.on_unreachable(1, 0) == []

    def test_reads_alone_move_the_window(self) -> None:
        """A timestamp that was never executed is over all the same: `low` says so to whoever orders the next one."""
        client = client_of(READS)
        for number in range(1, 3 * WINDOW):
            ((_, request),) = reads(client.submit(number, [b"get"], read_only=True)[1])
            assert (request.timestamp, request.low) == (number, number - 1)
            for node in range(3):
                client.on_message(number, node, read(number))
        ((_, request),) = sends(client.submit(0, [b"put"])[1])
        assert (request.timestamp, request.low, client.low) == (3 * WINDOW, 3 * WINDOW - 1, 3 * WINDOW - 1)

    def test_under_macs_a_read_is_sent_anew_as_what_it_is(self) -> None:
        client = client_of(replace(READS, macs=True))
        client.submit(0, [b"get"], read_only=True)
        effects = [effect for node in range(4) for effect in client.on_message(1, node, SessionKey(b"%d" % node * 32))]
        ((_, first),) = reads(effects)
        ((to, anew),) = reads(client.on_message(2, 2, SessionKey(b"x" * 32)))
        assert (to, anew.body, anew.auth != first.auth) == ((2,), first.body, True)
        ((_, ordered),) = sends(client.on_timeout(1_001))
        assert ordered.raw == anew.raw
        ((to, again),) = sends(client.on_message(2_000, 1, SessionKey(b"y" * 32)))
        assert (to, again.body) == ((1,), first.body)


REPLIES = st.builds(
    lambda answer, value, view, short: (digested if short else lambda reply: reply)(
        Reply(1, answer, encode_results(Results(int(answer != Answer.READ), [value])), view, 0)
    ),
    st.sampled_from(list(Answer)),
    st.sampled_from([b"truth", b"lie"]),
    st.integers(0, 1),
    st.booleans(),
)


class Seen:
    """What replicas have said, and what of it may be believed: written down without a thought for speed."""

    def __init__(self, rules: ClientRules) -> None:
        self._rules = rules
        self._last: dict[int, Reply] = {}

    def say(self, sender: int, reply: Reply) -> None:
        self._last[sender] = reply

    def believable(self, end: Done) -> bool:
        """Whether its vouchers are those who last said just this, and enough of them for the way they said it."""
        results = encode_results(Results(end.index, end.outcomes))
        same = {node: reply for node, reply in self._last.items() if self._is_of(reply, results)}
        by: Callable[[Answer], set[int]] = lambda answer: {n for n, r in same.items() if r.answer == answer}  # noqa: E731
        decided, at_once, given = by(Answer.DONE), by(Answer.READ), set(end.vouchers)
        for view in (0, 1):
            in_view = decided | {node for node in by(Answer.TENTATIVE) if same[node].view == view}
            if given == in_view and len(given) >= self._rules.tentative_quorum > 0:
                return True
        return (given == decided and len(given) >= self._rules.reply_quorum) or (
            given == at_once and len(given) >= self._rules.read_quorum > 0
        )

    @staticmethod
    def _is_of(reply: Reply, results: bytes) -> bool:
        return reply.results == (digest_of(results) if reply.digested else results)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([PBFT, DIGESTS, TENTATIVE, READS, ALL]),
    st.lists(st.tuples(st.integers(0, 3), REPLIES), max_size=30),
    st.booleans(),
)
def test_whatever_is_said_a_result_is_what_enough_have_said(
    rules: ClientRules, words: list[tuple[int, Reply]], read_only: bool
) -> None:
    """P39, P40"""
    client, seen = client_of(rules), Seen(rules)
    client.submit(0, [b"op"], read_only=read_only)
    for now, (sender, reply) in enumerate(words):
        if reply.answer != Answer.REDIRECT:
            seen.say(sender, reply)
        for end in ends(client.on_message(now, sender, reply)):
            assert isinstance(end, Failed) or seen.believable(end)
            return
        client.check_invariants()


def asked(secret: bytes = SECRET, count: int = 2_000, leader: int = 0) -> list[set[int]]:
    """Which backups each of so many requests went to at once. They are answered at once."""
    client, found = ClientCore("c", 4, SAMPLES, HashSigner(secret), DOMAIN), list[set[int]]()
    client.leader = leader
    for now in range(count):
        timestamp, effects = client.submit(now, [b"op"])
        (to, _), *_ = sends(effects)
        assert leader in to
        found.append(set(to) - {leader})
        client.on_message(now, 2, done(timestamp, leader=leader))
        assert ends(client.on_message(now, 3, done(timestamp, leader=leader)))
    return found


def test_p38_each_backup_sees_its_share_whatever_the_others_see() -> None:
    found = asked()
    for node in (1, 2, 3):
        seen = [to for to in found if node in to]
        assert 400 < len(seen) < 600
        for other in {1, 2, 3} - {node}:
            assert 70 < sum(other in to for to in seen) < 180, "what one backup sees says nothing of another"
    assert all(0 not in to for to in found)
    assert {1, 3} & set().union(*asked(count=50, leader=2)), "whoever leads"


def test_p38_nobody_can_tell_whom_a_client_tells() -> None:
    """It is the same each time, which makes runs repeatable, and another for each client's key."""
    assert asked(count=50) == asked(count=50)
    assert asked(count=50) != asked(b"d" * 32, count=50)


def unseen(client: ClientCore, now: int) -> int:
    """A request that went to the leader alone."""
    while True:
        timestamp, effects = client.submit(now, [b"op"])
        (to, _), *_ = sends(effects)
        if to == (0,):
            return timestamp
        client.on_message(now, 2, done(timestamp))
        client.on_message(now, 3, done(timestamp))


def test_p38_all_are_told_of_what_is_late() -> None:
    """Those that were not yet: for each it is the first time. What is sent again goes to all."""
    client = client_of(SAMPLES)
    for now in range(100):
        timestamp, _ = client.submit(now * 10_000, [b"op"])
        client.on_message(now * 10_000 + 8_000, 2, done(timestamp))
        client.on_message(now * 10_000 + 8_000, 3, done(timestamp))
        client.on_timeout(now * 10_000 + 8_000)
    start = 2_000_000
    client.on_timeout(start)
    timestamp = unseen(client, start)
    told = {}
    for now in range(start, start + 70_000, 500):
        for to, request in sends(client.on_timeout(now)):
            assert request.timestamp == timestamp
            told[to] = now - start
    assert list(told) == [(1, 2, 3), (0, 1, 2, 3)]
    assert 15_000 < told[1, 2, 3] < 18_000, "twice as long as usual"
    assert told[0, 1, 2, 3] == 64_000


def test_p38_without_a_link_to_the_leader_all_others_are_told_at_once() -> None:
    client = client_of(SAMPLES)
    timestamp = unseen(client, 0)
    effects = client.on_unreachable(0, 0)
    assert [(to, request.timestamp) for to, request in sends(effects)] == [((0, 1, 2, 3), timestamp)]
    assert sends(client.on_timeout(40_000)) == []


@quick
@given(st.integers(0, 2**32), st.sampled_from(KINDS))
def test_liars_neither_forge_nor_stop_a_result(seed: int, kind: tuple[ClientRules, int, int]) -> None:
    """Correct replicas answer every request they get; `f` others say anything to anything, at any time."""
    rules, n, f = kind
    rng = random.Random(seed)
    client = ClientCore("c", n, rules, HashSigner(SECRET), DOMAIN)
    liars = set(rng.sample(range(n), f))
    known: set[tuple[int, int]] = set()
    network: list[tuple[int, Message]] = []
    ended: dict[int, Done | Failed] = {}
    now, wake, submitted = 0, 0, 0

    def carry_out(effects: list[ClientEffect]) -> None:
        nonlocal wake
        for end in ends(effects):
            assert end.timestamp not in ended
            ended[end.timestamp] = end
        wake = next(iter(reversed(wakes(effects))), wake)
        for answers, sent in ((executed, sends(effects)), (queried, reads(effects))):
            for to, request in sent:
                network.extend((n, lie(request.timestamp) if n in liars else answers(n, request)) for n in to)

    def executed(node: int, request: Request) -> Reply:
        """In full if named, or if asked again."""
        again = (node, request.timestamp) in known
        known.add((node, request.timestamp))
        value = b"%d" % request.timestamp
        early = rules.tentative_quorum and not again and rng.random() < 0.5
        reply = tentative(request.timestamp, value) if early else done(request.timestamp, value)
        return reply if again or request.replier in (node, NOBODY) else digested(reply)

    def queried(node: int, request: Request) -> Reply:
        """Some lag, and do not know what the others know."""
        value = b"%d" % request.timestamp if rng.random() < 0.9 else b"old"
        reply = read(request.timestamp, value)
        return reply if request.replier in (node, NOBODY) else digested(reply)

    def lie(timestamp: int) -> Reply:
        answer = rng.choice(list(Answer))
        results = rng.choice([b"", rng.randbytes(3), done(timestamp, b"lie").results, done(timestamp + 1).results])
        view, leader, short = rng.choice([0, rng.randrange(2**60)]), rng.randint(-1, n), rng.random() < 0.2
        return Reply(max(0, timestamp + rng.randint(-2, 2)), answer, results, view, leader, short)

    while len(ended) < 60 and now < 10**8:
        if submitted < 60 and rng.random() < 0.6:
            submitted += 1
            carry_out(client.submit(now, [b"op"], read_only=rng.random() < 0.3)[1])
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
