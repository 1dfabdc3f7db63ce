"""Each rule of a change of members is watched: what breaks it in one place is caught by the test that is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from replog import chain, membership, merkle
from replog.client import ClientCore
from replog.executor import Executor
from replog.membership import Configuration, Link, Membership
from tests.replog import test_chain as chains
from tests.replog import test_membership as members

RULES, PATH, CHAIN, EXECUTOR = members.TestRules(), members.TestPath(), members.TestChain(), members.TestExecutor()
PROOF, WORD, CLIENT = chains.TestProof(), chains.TestWord(), chains.TestClient()
UNDECIDED = CLIENT.test_what_is_not_decided_counts_in_one_configuration_alone


def unsigned(operation: bytes, _rules: Any) -> membership.Change:
    return membership._decode_signed(operation).change


def nothing(*_: Any) -> None:
    pass


def of_any_epoch(right: Any) -> Any:
    def next_(held: Configuration, change: membership.Change, first: int) -> Any:
        return right(held, msgspec.structs.replace(change, epoch=held.epoch), first)

    return next_


def with_any_id(held: Configuration, change: membership.Change, first: int) -> Configuration:
    members = tuple(member for member in held.members if member.id not in change.remove) + change.add
    return Configuration(held.epoch + 1, first, change.f, members, held.next_id + len(change.add))


def beyond_the_last(self: Membership, _seq: int) -> Configuration:
    """Which configuration holds is what was ordered last, not what began last."""
    return self.held if self.following is None else self.following


def any_record(known: Configuration, link: Link, certified: membership.Certified) -> Configuration:
    _, digest = certified(known, link.certificate)
    data = merkle.proved(digest, membership.RECORD_KEY, link.path)
    following = membership.decode_membership(data or b"").following
    assert following is not None
    return following


def any_certificate(known: Configuration, link: Link, _certified: Any) -> Configuration:
    seq, digest, _ = msgspec.msgpack.decode(link.certificate)
    return membership.follow(known, link, lambda *_: (seq, digest))


def unhashed_children(_digest: bytes, part: bytes, child: int) -> bytes:
    _, digests = merkle._decode_children(part)
    return digests[32 * child : 32 * (child + 1)]


def unhashed_page(_digest: bytes, part: bytes, _depth: int) -> dict[bytes, bytes]:
    return merkle._decode_records(part)


def keeps_words(self: ClientCore, configuration: Configuration) -> None:
    """What was said under the old configuration goes on to count, and who said it."""
    self._members = tuple(sorted({*self._members, *configuration.ids}))
    self._lapses = dict.fromkeys(self._members, 0)


def counts_all(self: ClientCore, now: int, sender: int, message: Any, pending: Any) -> Any:
    return (
        []
        if pending is None
        else _answered(self, now, sender, msgspec.structs.replace(message, epoch=self.epoch), pending)
    )


_answered = ClientCore._answered


def one_is_enough(_f: int) -> int:
    return 1


class Broken(msgspec.Struct):
    """`owner.name` is replaced by `by`; the tests that must then fail."""

    owner: Any
    name: str
    by: Any
    tests: list[Callable[[], Any]]


def broken() -> Iterator[Broken]:
    yield Broken(
        membership,
        "_verified",
        unsigned,
        [lambda: RULES.test_the_administrator_alone_changes_members(members.of(members.REPLACE, b"a client's"))],
    )
    yield Broken(
        membership,
        "statement_of",
        lambda _cluster, change: msgspec.msgpack.encode(change),
        [lambda: RULES.test_the_administrator_alone_changes_members(members.of(members.REPLACE, cluster="d" * 32))],
    )
    yield Broken(
        membership,
        "_check_distinct",
        nothing,
        [
            lambda: RULES.test_what_is_refused(
                membership.Change(0, 1, (2,), (membership.Member(4, "o", 1, members.member(2).public_key),)),
                "has the key",
            )
        ],
    )
    yield Broken(
        membership,
        "_check_size",
        nothing,
        [
            lambda: RULES.test_what_is_refused(membership.Change(0, 1, (2,)), "n = 3, f = 1"),
            lambda: RULES.test_what_is_refused(
                membership.Change(0, 1, (2, 3), (members.member(4), members.member(5))), "removes at most 1"
            ),
        ],
    )
    yield Broken(
        membership,
        "_next",
        with_any_id,
        [lambda: RULES.test_what_is_refused(membership.Change(0, 1, (2,), (members.member(2),)), "must be 4 and up")],
    )
    yield Broken(
        membership,
        "removable",
        lambda held: held.f + 1,
        [
            lambda: RULES.test_what_is_refused(
                membership.Change(0, 1, (2, 3), (members.member(4), members.member(5))), "removes at most 1"
            )
        ],
    )
    yield Broken(
        Membership,
        "at",
        beyond_the_last,
        [RULES.test_which_configuration_holds_is_said_by_the_record, RULES.test_a_change_waits_for_the_one_before],
    )
    yield Broken(membership, "RECORD_BYTES_MAX", 2**30, [RULES.test_the_record_stays_of_one_piece])
    yield Broken(
        Executor,
        "_read_members",
        lambda self, _told: self._members,
        [EXECUTOR.test_the_record_is_rolled_back_saved_moved_and_audited],
    )
    yield Broken(merkle, "_child_digest", unhashed_children, [lambda: flipped(0)])
    yield Broken(merkle, "_page_records", unhashed_page, [lambda: flipped(-1)])
    yield Broken(members, "follow", any_record, [CHAIN.test_only_the_boundary_of_the_known_epoch_counts])
    yield Broken(chain, "follow", any_record, [lambda: PROOF.test_a_forged_link_leads_nowhere(chains.link(0, seq=23))])
    yield Broken(
        chain,
        "follow",
        any_certificate,
        [
            lambda: PROOF.test_a_forged_link_leads_nowhere(chains.link(0, [0, 1])),
            CLIENT.test_an_unproved_configuration_changes_nothing,
        ],
    )
    yield Broken(
        chain,
        "weak_quorum",
        one_is_enough,
        [WORD.test_a_weak_quorum_is_believed, WORD.test_a_liar_is_not_whatever_it_repeats],
    )
    yield Broken(
        ClientCore,
        "_become",
        keeps_words,
        [CLIENT.test_former_members_count_for_nothing, CLIENT.test_requests_that_wait_go_to_the_new_members],
    )
    yield Broken(ClientCore, "_answered", counts_all, [UNDECIDED])


def flipped(place: int) -> None:
    """A bit of one part of a path, the last of it: nothing but the digest can tell."""
    executor = members.STATES[30_000]
    path = list(members.path_of(executor))
    path[place] = path[place][:-1] + bytes([path[place][-1] ^ 1])
    with pytest.raises(ValueError, match="digest"):
        merkle.proved(executor.digest(), membership.RECORD_KEY, path)


@pytest.mark.parametrize("each", list(broken()), ids=lambda each: each.name)
def test_what_is_broken_is_caught(each: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    for test in each.tests:
        test()
    monkeypatch.setattr(each.owner, each.name, each.by)
    for test in each.tests:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            test()
