"""A client and a change of the members: what it believes, whom it counts, and what becomes of requests under way."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replog import merkle
from replog.chain import ASK_US, Chain
from replog.client import ClientCore, ClientEffect, Done, Followed, ToReplica
from replog.codec import Domain, digest_of
from replog.core import ClientRules
from replog.keys import HashSigner, HashVerifier, Verifier
from replog.membership import (
    LINKS_MAX,
    RECORD_KEY,
    Configuration,
    ConfigurationAnswer,
    ConfigurationQuestion,
    Link,
    Member,
    Membership,
    encode_membership,
    genesis,
)
from replog.quorum import byzantine_quorum
from replog.types import Answer, KeyRequest, Reply, Request, Results, SessionKey, Submit, encode_results

CLUSTER = "test"
SIGNER = HashSigner(b"c" * 32)


def member(node: int) -> Member:
    return Member(node, "h", 4700 + node, digest_of(b"%d" % node))


def secret(node: int) -> bytes:
    return b"%032d" % node


def configuration(epoch: int, f: int, *nodes: int) -> Configuration:
    return Configuration(epoch, 1 + 24 * epoch, f, tuple(map(member, nodes)), 9)


EPOCHS = [
    genesis(1, map(member, range(4))),
    configuration(1, 1, 0, 1, 3, 4),
    configuration(2, 2, 1, 3, 4, 5, 6, 7, 8),
]


def verifier(known: Configuration) -> Verifier:
    return HashVerifier({node: secret(node) for node in known.ids})


def certified(domain: Domain, keys: Verifier, known: Configuration, certificate: bytes) -> tuple[int, bytes]:
    """A certificate: seq, digest, and signatures of them by a quorum."""
    try:
        seq, digest, votes = msgspec.msgpack.decode(certificate, type=tuple[int, bytes, dict[int, bytes]])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ValueError("no certificate") from None
    said = domain.statement("checkpoint", (seq, digest))
    right = [node for node, vote in votes.items() if node in known.ids and keys.verify(node, said, vote)]
    if len(right) < byzantine_quorum(known.n, known.f):
        raise ValueError("no quorum")
    return seq, digest


def rules(n: int, f: int) -> ClientRules:
    return ClientRules(f + 1, True, 1_000, read_quorum=byzantine_quorum(n, f), certified=certified)


def claimed(_: Domain, __: Verifier, ___: Configuration, certificate: bytes) -> tuple[int, bytes]:
    """Somebody's word."""
    try:
        seq, digest, _votes = msgspec.msgpack.decode(certificate, type=tuple[int, bytes, dict[int, bytes]])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ValueError("no certificate") from None
    return seq, digest


def mac_rules(n: int, f: int) -> ClientRules:
    return ClientRules(f + 1, True, 1_000, macs=True, certified=claimed)


def state_of(record: Membership) -> merkle.Node:
    return merkle.build({b"%d" % key: bytes(90) for key in range(400)} | {RECORD_KEY: encode_membership(record)})


def link(epoch: int, voters: list[int] | None = None, following: Configuration | None = None, seq: int = 0) -> Link:
    """From `epoch` to the next."""
    known = EPOCHS[epoch]
    following = following or EPOCHS[epoch + 1]
    root, seq = state_of(Membership(known, following)), seq or following.first - 1
    begins = state_of(Membership(EPOCHS[epoch - 1], known)).digest if epoch else b""
    said = Domain(CLUSTER, epoch, begins).statement("checkpoint", (seq, root.digest))
    quorum = known.ids[: byzantine_quorum(known.n, known.f)] if voters is None else voters
    votes = {node: HashSigner(secret(node)).sign(said) for node in quorum}
    return Link(msgspec.msgpack.encode((seq, root.digest, votes)), tuple(merkle.path(root, RECORD_KEY)))


LINKS = (link(0), link(1))


def chain(rules_of: Any = rules) -> Chain:
    return Chain(EPOCHS[0], CLUSTER, rules_of, verifier)


def client(rules_of: Any = rules) -> ClientCore:
    return ClientCore("c", 4, rules_of(4, 1), SIGNER, Domain(CLUSTER), chain=chain(rules_of))


def done(timestamp: int, value: bytes = b"ok") -> Reply:
    return Reply(timestamp, Answer.DONE, encode_results(Results(1, [value])), 0, 0)


def of(effects: list[ClientEffect], kind: type) -> list[Any]:
    return [effect for effect in effects if type(effect) is kind]


def questions(effects: list[ClientEffect]) -> list[ToReplica]:
    return [one for one in of(effects, ToReplica) if type(one.message) is ConfigurationQuestion]


def sent(to: ToReplica) -> Request:
    assert isinstance(to.message, Submit)
    return Request(to.message.request)


def submits(effects: list[ClientEffect]) -> list[ToReplica]:
    return [one for one in of(effects, ToReplica) if type(one.message) is Submit]


class TestProof:
    def test_links_lead_from_what_is_known_to_the_newest(self) -> None:
        known = chain()
        known.ask(0, (2,))
        assert known.hear(2, ConfigurationAnswer(0, LINKS)) == list(LINKS)
        assert known.known == EPOCHS[2]

    def test_an_answer_may_begin_earlier_than_what_is_known(self) -> None:
        known = chain()
        known.ask(0, (2, 3))
        known.hear(2, ConfigurationAnswer(0, LINKS[:1]))
        assert known.hear(3, ConfigurationAnswer(0, LINKS)) == [LINKS[1]]
        known.ask(0, (2, 3))
        assert known.hear(2, ConfigurationAnswer(0, LINKS)) is None
        assert known.hear(3, ConfigurationAnswer(3, LINKS)) is None
        assert known.known == EPOCHS[2]
        assert known.flaws == 0

    def test_a_question_is_answered_once(self) -> None:
        known = chain()
        assert known.hear(0, ConfigurationAnswer(0, LINKS)) is None, "nobody asked"
        known.ask(0, (0,))
        assert known.hear(0, ConfigurationAnswer(0)) is None
        assert known.hear(0, ConfigurationAnswer(0, LINKS)) is None
        assert known.known == EPOCHS[0]

    @pytest.mark.parametrize(
        "forged",
        [
            link(0, [0, 1]),  # too few
            link(0, [0, 1, 7]),  # one that is no member
            link(0, [0, 1, 3], configuration(2, 1, 0, 1, 3, 4)),  # an epoch too far
            link(0, [0, 1, 3], seq=23),  # no boundary
            Link(LINKS[0].certificate, LINKS[1].path),
            Link(LINKS[1].certificate, LINKS[1].path),
            Link(LINKS[0].certificate, LINKS[0].path[:1]),
        ],
    )
    def test_a_forged_link_leads_nowhere(self, forged: Link) -> None:
        known = chain()
        known.ask(0, (0,))
        assert known.hear(0, ConfigurationAnswer(0, (forged, LINKS[1]))) is None
        assert known.known == EPOCHS[0]
        assert known.flaws == 1

    @given(st.data())
    def test_a_link_changed_in_any_byte_leads_nowhere(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(LINKS[0].path)))
        parts = [LINKS[0].certificate, *LINKS[0].path]
        at, bit = data.draw(st.integers(0, len(parts[place]) - 1)), data.draw(st.integers(0, 7))
        parts[place] = parts[place][:at] + bytes([parts[place][at] ^ 1 << bit]) + parts[place][at + 1 :]
        known = chain()
        known.ask(0, (0,))
        assert known.hear(0, ConfigurationAnswer(0, (Link(parts[0], tuple(parts[1:])),))) is None
        assert known.known == EPOCHS[0]


class TestWord:
    """Where nothing is signed."""

    def test_a_weak_quorum_is_believed(self) -> None:
        known = chain(mac_rules)
        known.ask(0, EPOCHS[0].ids)
        assert known.hear(3, ConfigurationAnswer(0, LINKS[:1])) is None
        assert known.hear(1, ConfigurationAnswer(0, (link(0, []),))) is not None, "whatever votes it shows"
        assert known.known == EPOCHS[1]

    def test_a_liar_is_not_whatever_it_repeats(self) -> None:
        lie = configuration(1, 1, 0, 1, 2, 9)
        known = chain(mac_rules)
        for _ in range(3):
            known.ask(0, EPOCHS[0].ids)
            assert known.hear(3, ConfigurationAnswer(0, (link(0, following=lie), *LINKS))) is None
        assert known.hear(1, ConfigurationAnswer(0, LINKS[:1])) is None
        assert known.known == EPOCHS[0]

    def test_who_is_no_member_is_not_counted(self) -> None:
        known = chain(mac_rules)
        known.ask(0, (*EPOCHS[0].ids, 4, 5))
        for node in (4, 5):
            assert known.hear(node, ConfigurationAnswer(0, LINKS[:1])) is None

    def test_each_step_takes_a_weak_quorum_of_its_own(self) -> None:
        known = chain(mac_rules)
        known.ask(0, EPOCHS[0].ids)
        both = ConfigurationAnswer(0, LINKS)
        known.hear(2, both)  # leaves with epoch 1
        assert known.hear(1, both) == [LINKS[0]]
        assert known.known == EPOCHS[1]
        assert known.hear(3, both) == [LINKS[1]]
        assert known.known == EPOCHS[2]


def raft_rules(n: int, f: int) -> ClientRules:
    return ClientRules(reply_quorum=1, retry_all=False, retry_us=1_000, read_quorum=1)


class TestTrust:
    """Where nobody lies (Raft)."""

    def test_one_word_is_enough_about_any_later_configuration(self) -> None:
        known = chain(raft_rules)
        known.ask(0, EPOCHS[0].ids)
        assert known.hear(2, ConfigurationAnswer(0, (), (EPOCHS[2],))) == []
        assert known.known == EPOCHS[2]

    def test_an_earlier_one_is_passed_over(self) -> None:
        known = chain(raft_rules)
        known.ask(0, EPOCHS[0].ids)
        known.hear(1, ConfigurationAnswer(0, (), (EPOCHS[1],)))
        known.ask(0, EPOCHS[1].ids)
        assert known.hear(3, ConfigurationAnswer(0, (), (EPOCHS[1],))) is None
        assert known.known == EPOCHS[1]

    def test_what_is_read_counts_whatever_epoch_it_is_of(self) -> None:
        """One answer needs to meet no other."""
        core = ClientCore("c", 4, raft_rules(4, 1), SIGNER, Domain(CLUSTER), chain=chain(raft_rules))
        core.submit(0, [b"op"], read_only=True)
        told = encode_results(Results(0, [b"x"]))
        effects = core.on_message(0, 0, Reply(1, Answer.READ, told, 1, 0, False, 1))
        assert any(isinstance(effect, Done) for effect in effects)

    def test_a_client_that_begins_late_begins_with_a_member(self) -> None:
        known = Chain(EPOCHS[2], CLUSTER, raft_rules, verifier)
        core = ClientCore("c", 4, raft_rules(4, 1), SIGNER, Domain(CLUSTER), chain=known)
        core.submit(0, [b"op"])
        assert core.leader == 1
        core.on_timeout(1_000)
        assert core.leader == 3


class TestClient:
    def test_it_asks_when_it_begins_and_now_and_then(self) -> None:
        core = client()
        (asked,) = questions(core.submit(0, [b"op"])[1])
        assert (asked.to, asked.message) == ((0, 1, 2, 3), ConfigurationQuestion(0))
        assert not questions(core.submit(ASK_US - 1, [b"op"])[1])
        assert questions(core.submit(ASK_US, [b"op"])[1])

    def test_it_asks_when_it_must_try_again(self) -> None:
        core = client()
        core.submit(0, [b"op"])
        assert questions(core.on_timeout(1_000))

    def test_without_a_chain_nobody_is_asked(self) -> None:
        core = ClientCore("c", 4, rules(4, 1), SIGNER, Domain(CLUSTER))
        assert not questions(core.submit(0, [b"op"])[1])
        assert core.ask_members(0, (0,)) == []

    def test_it_is_up_to_date_when_all_but_f_have_answered(self) -> None:
        core = client()
        core.ask_members(0, EPOCHS[0].ids)
        found = [(core.on_message(1, node, ConfigurationAnswer(0)), core.up_to_date)[1] for node in (3, 1, 1, 0)]
        assert found == [False, False, False, True]

    def test_requests_that_wait_go_to_the_new_members(self) -> None:
        core = client()
        timestamp, effects = core.submit(0, [b"op"])
        (first,) = submits(effects)
        effects = core.on_message(5, 2, ConfigurationAnswer(0, LINKS))
        assert effects[0] == Followed(EPOCHS[2], LINKS)
        (again,) = submits(effects)
        assert again.to == EPOCHS[2].ids
        assert again.message == first.message, "the very same bytes"
        (asked,) = questions(effects)
        assert (asked.to, asked.message) == (EPOCHS[2].ids, ConfigurationQuestion(2))
        for node in (8, 7):
            assert not of(core.on_message(6, node, done(timestamp)), Done)
        (end,) = of(core.on_message(6, 6, done(timestamp)), Done)
        assert end.vouchers == (6, 7, 8)

    def test_former_members_count_for_nothing(self) -> None:
        core = client()
        timestamp, _ = core.submit(0, [b"op"])
        core.on_message(1, 2, done(timestamp, b"lie"))  # said while it was a member
        core.on_message(1, 0, ConfigurationAnswer(0, LINKS[:1]))
        for node in (2, 9, 2):
            assert not of(core.on_message(2, node, done(timestamp, b"lie")), Done)
        assert not of(core.on_message(3, 4, done(timestamp, b"lie")), Done), "one liar among the members"
        assert not of(core.on_message(3, 0, done(timestamp)), Done)
        (end,) = of(core.on_message(3, 1, done(timestamp)), Done)
        assert (end.outcomes, end.vouchers) == ([b"ok"], (0, 1))

    def test_an_unproved_configuration_changes_nothing(self) -> None:
        core = client()
        timestamp, _ = core.submit(0, [b"op"])
        lie = link(0, [2], configuration(1, 1, 2, 7, 8, 9))
        assert core.on_message(1, 2, ConfigurationAnswer(0, (lie,))) == []
        for node in (7, 8, 9):
            assert core.on_message(2, node, done(timestamp)) == []

    def test_what_is_not_decided_counts_in_one_configuration_alone(self) -> None:
        """Three of the seven of a later epoch may all be behind: an old quorum of them proves nothing."""
        core = client()
        timestamp, _ = core.submit(0, [b"op"], read_only=True)

        def read(epoch: int) -> Reply:
            return Reply(timestamp, Answer.READ, encode_results(Results(0, [b"x"])), 0, 0, epoch=epoch)

        core.on_message(1, 0, ConfigurationAnswer(0))
        for node in (0, 1, 3):
            assert not of(core.on_message(1, node, read(1)), Done)
        core.on_message(2, 0, ConfigurationAnswer(0, LINKS[:1]))
        for node in (0, 1):
            assert not of(core.on_message(3, node, read(0)), Done)
            assert not of(core.on_message(3, node, read(1)), Done)
        (end,) = of(core.on_message(3, 4, read(1)), Done)
        assert end.vouchers == (0, 1, 4)

    def test_a_reply_of_a_later_epoch_makes_it_ask(self) -> None:
        core = client()
        timestamp, _ = core.submit(0, [b"op"])
        core.on_message(1, 3, ConfigurationAnswer(0))
        later = Reply(timestamp, Answer.DONE, encode_results(Results(1, [b"x"])), 0, 0, epoch=1)
        (asked,) = questions(core.on_message(2, 3, later))
        assert asked.to == (3,)
        assert not questions(core.on_message(2, 3, later)), "it is asked already"

    def test_each_epoch_has_views_of_its_own(self) -> None:
        core = client()
        core.submit(0, [b"op"])
        for node in (0, 1):
            core.on_message(1, node, Reply(9, Answer.DONE, b"", 6, 2))
        assert (core.view, core.leader) == (6, 2)
        core.on_message(1, 0, ConfigurationAnswer(0, LINKS[:1]))
        assert (core.view, core.leader) == (0, 0), "2 has left; the members are 0 1 3 4"
        for node in (0, 1):
            core.on_message(1, node, Reply(9, Answer.DONE, b"", 7, 1))
        assert core.leader == 0, "said in the old epoch"
        for node in (0, 1):
            core.on_message(1, node, Reply(9, Answer.DONE, b"", 1, 1, epoch=1))
        assert (core.view, core.leader) == (1, 1)

    def test_later_requests_name_members_as_repliers(self) -> None:
        def digests(n: int, f: int) -> ClientRules:
            return ClientRules(f + 1, True, 1_000, digest_replies=True, certified=certified)

        core = ClientCore("c", 4, digests(4, 1), SIGNER, Domain(CLUSTER), chain=chain(digests))
        core.submit(0, [b"op"])
        core.on_message(1, 0, ConfigurationAnswer(0, LINKS))
        named = [sent(submits(core.submit(2, [b"op"])[1])[0]).replier for _ in range(8)]
        assert named == [1, 3, 4, 5, 6, 7, 8, 1]

    def test_unreachable_strangers_are_passed_over(self) -> None:
        core = client()
        core.submit(0, [b"op"])
        core.on_message(1, 0, ConfigurationAnswer(0, LINKS))
        assert core.on_unreachable(2, 0) == []


class TestLongSleep:
    def test_what_one_answer_does_not_hold_is_asked_for_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """20 epochs, each with one replica more; an answer holds LINKS_MAX links."""
        epochs = [configuration(epoch, 1, *range(4 + epoch)) for epoch in range(21)]
        monkeypatch.setitem(globals(), "EPOCHS", epochs)
        links = tuple(link(epoch) for epoch in range(20))
        core = ClientCore("c", 4, rules(4, 1), SIGNER, Domain(CLUSTER), chain=chain())
        (asked,) = questions(core.submit(0, [b"op"])[1])
        rounds = 0
        while asked.message != ConfigurationQuestion(20):
            effects = core.on_message(1, 0, ConfigurationAnswer(core.epoch, links[core.epoch :][:LINKS_MAX]))
            (asked,) = questions(effects)
            rounds += 1
        assert rounds == 2
        assert core.epoch == 20


class TestMacs:
    def test_keys_of_new_members_are_asked_for_and_requests_made_anew(self) -> None:
        core = client(mac_rules)
        core.submit(0, [b"op"])
        (first,) = submits([one for node in range(4) for one in core.on_message(0, node, SessionKey(secret(node)))])
        core.on_message(1, 0, ConfigurationAnswer(0, LINKS[:1]))
        effects = core.on_message(1, 1, ConfigurationAnswer(0, LINKS[:1]))
        (asked,) = [one for one in of(effects, ToReplica) if type(one.message) is KeyRequest]
        assert asked.to == (4,)
        (again,) = submits(core.on_message(2, 4, SessionKey(secret(4))))
        assert again.to == (4,)
        before, after = sent(first), sent(again)
        assert before.body == after.body
        assert len(after.auth) == 5 * 16, "a place for each id"
        assert after.auth[:32] == before.auth[:32]
        assert after.auth[32:48] == bytes(16), "2 is no member any more"
