"""Changes of the members: their rules, the record in the state, and the chain that proves each configuration."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog import merkle
from replog.apps.counter import Counter
from replog.apps.kv import KeyValue
from replog.codec import digest_of
from replog.core import Checkpointed, Wanted
from replog.errors import OperationFailed
from replog.executor import Executor
from replog.keys import HashSigner, HashVerifier
from replog.membership import (
    ADMIN,
    EPOCHS_MAX,
    IDS_MAX,
    OPEN,
    RECORD_KEY,
    VALID_MAX_US,
    VALID_US,
    Change,
    Configuration,
    Link,
    Member,
    Membership,
    MembershipRules,
    Refused,
    SignedChange,
    changed,
    concluded,
    decode_membership,
    encode_membership,
    follow,
    genesis,
    removable,
    signed,
)
from replog.runtime import StateUnreadable
from replog.statemachine import decode_outcome
from replog.types import MEMBERSHIP, READ_ONLY, Request, decode_results
from tests.replog.helpers import DOMAIN, SEED, apply, request

CLUSTER = "c" * 32
SECRET = b"the administrator's secret"
SIGNER = HashSigner(SECRET)
INTERVAL, WINDOW = 8, 16
NOW = 1
ADD = Counter.operation("add")


def boundary(seq: int) -> int:
    return -(-(seq + WINDOW) // INTERVAL) * INTERVAL


def member(node: int) -> Member:
    return Member(node, f"host-{node}", 4700, digest_of(b"key %d" % node))


RULES = MembershipRules(genesis(1, map(member, range(4))), CLUSTER, HashVerifier({ADMIN: SECRET}), boundary)


def of(change: Change, secret: bytes = SECRET, cluster: str = CLUSTER, until: int = NOW + VALID_US) -> bytes:
    return signed(HashSigner(secret).sign, cluster, msgspec.structs.replace(change, until=until))


REPLACE = Change(0, 1, (2,), (member(4),))


class TestRules:
    @pytest.mark.parametrize("deep", [0, 1, 960])
    def test_a_change_has_one_encoding(self, deep: int) -> None:
        """Whoever adds something to it changes who can read it: some do not get through what is nested deep."""
        operation = of(REPLACE)
        longer = b"\x93" + operation[1:] + b"\x91" * deep + b"\xc0"
        assert changed(RULES.beginning, 5, NOW, operation, RULES).following is not None
        with pytest.raises(Refused, match="no signed change"):
            changed(RULES.beginning, 5, NOW, longer, RULES)

    def test_a_change_makes_the_next_configuration_after_the_boundary(self) -> None:
        after = changed(RULES.beginning, 5, NOW, of(REPLACE), RULES)
        assert after.held == RULES.genesis
        assert after.following == Configuration(1, 25, 1, tuple(map(member, (0, 1, 3, 4))), 5)

    def test_which_configuration_holds_is_said_by_the_record(self) -> None:
        after = changed(RULES.beginning, 5, NOW, of(REPLACE), RULES)
        assert [after.at(seq).epoch for seq in (1, 24, 25, 1000)] == [0, 0, 1, 1]
        assert [after.boundary(epoch) for epoch in (0, 1, 2)] == [24, None, None]

    def test_the_record_moves_on_with_the_next_change(self) -> None:
        first = changed(RULES.beginning, 5, NOW, of(REPLACE), RULES)
        grow = Change(1, 2, (), tuple(map(member, (5, 6, 7))))
        second = changed(first, 25, NOW, of(grow), RULES)
        assert second.held == first.following
        assert second.following is not None
        assert (second.following.epoch, second.following.first, second.following.f) == (2, 49, 2)
        assert second.following.ids == (0, 1, 3, 4, 5, 6, 7)
        assert [second.boundary(epoch) for epoch in (0, 1, 2)] == [24, 48, None]

    @pytest.mark.parametrize(
        ("change", "rule"),
        [
            (Change(0, 1), "changes nothing"),
            (Change(1, 1, (2,), (member(4),)), "is for epoch 1, the present one is 0"),
            (Change(0, 1, (2,)), r"n = 3, f = 1: .* n >= 3f \+ 1 = 4"),
            (Change(0, 2), r"n = 4, f = 2: .* n >= 3f \+ 1 = 7"),
            (Change(0, 1, (4,), (member(4),)), r"remove = \[4\]: must be members, each once; they are \[0, 1, 2, 3\]"),
            (Change(0, 1, (2, 2), (member(4),)), "each once"),
            (Change(0, 1, (2,), (member(5),)), r"new ids = \[5\]: must be 4 and up"),
            (Change(0, 1, (2,), (member(2),)), r"new ids = \[2\]: must be 4 and up"),
            (Change(0, 1, (), (member(4), member(4))), r"new ids = \[4, 4\]"),
            (Change(0, 1, (2, 3), (member(4), member(5))), "removes at most 1,"),
            (
                Change(0, 1, (2,), (Member(4, "other", 1, member(2).public_key),)),
                "member 4 has the key of member 2",
            ),
            (
                Change(0, 1, (), (Member(4, "host-1", 4700, bytes(32)),)),
                "member 4 has the address of member 1, host-1:4700",
            ),
            (
                Change(0, 1, (), tuple(Member(n, "h", n, bytes(32)) for n in (4, 5))),
                "member 5 has the key of member 4",
            ),
        ],
    )
    def test_what_is_refused(self, change: Change, rule: str) -> None:
        with pytest.raises(Refused, match=rule):
            changed(RULES.beginning, 5, NOW, of(change), RULES)

    def test_a_change_waits_for_the_one_before(self) -> None:
        after = changed(RULES.beginning, 5, NOW, of(REPLACE), RULES)
        for seq in (6, 24):
            with pytest.raises(Refused, match="pending: epoch 1 begins after index 24"):
                changed(after, seq, NOW, of(Change(0, 1, (), (member(5),))), RULES)
        with pytest.raises(Refused, match="is for epoch 0, the present one is 1"):
            changed(after, 25, NOW, of(REPLACE), RULES)

    @pytest.mark.parametrize("bad", [of(REPLACE, b"a client's"), of(REPLACE, cluster="d" * 32)])
    def test_the_administrator_alone_changes_members(self, bad: bytes) -> None:
        with pytest.raises(Refused, match="signature is not the administrator's"):
            changed(RULES.beginning, 5, NOW, bad, RULES)
        with pytest.raises(Refused, match="no administrator's key"):
            changed(RULES.beginning, 5, NOW, of(REPLACE), replace(RULES, verifier=HashVerifier({})))

    def test_a_change_expires(self) -> None:
        """Whoever heard one that came to nothing can bring it again, as long as the epoch lasts."""
        at = 1_700_000_000_000_000
        for until in (at, at + VALID_US, at + VALID_MAX_US):
            assert changed(RULES.beginning, 5, at, of(REPLACE, until=until), RULES).following is not None
        for until, rule in (
            (at - 1, "expired 1 s ago by the cluster's clock; make it anew"),
            (at - 90_000_000, "expired 90 s ago"),
            (0, "expired 1700000000 s ago"),
            (at + VALID_MAX_US + 1, "valid for 86401 s from now by the cluster's clock, at most 86400 s are"),
            (2**62, "compare the clock where it was signed"),
        ):
            with pytest.raises(Refused, match=rule):
                changed(RULES.beginning, 5, at, of(REPLACE, until=until), RULES)

    def test_how_long_a_change_is_valid_is_signed(self) -> None:
        signed_change = msgspec.msgpack.decode(of(REPLACE, until=NOW), type=SignedChange)
        longer = msgspec.structs.replace(signed_change.change, until=NOW + VALID_US)
        raw = msgspec.msgpack.encode(SignedChange(longer, signed_change.signature))
        with pytest.raises(Refused, match="signature is not the administrator's"):
            changed(RULES.beginning, 5, NOW, raw, RULES)

    @given(st.binary(max_size=60))
    def test_nonsense_is_refused(self, data: bytes) -> None:
        with pytest.raises(Refused, match="no signed change"):
            changed(RULES.beginning, 5, NOW, data, RULES)

    def test_epochs_and_ids_end(self) -> None:
        held = msgspec.structs.replace(RULES.genesis, epoch=EPOCHS_MAX)
        with pytest.raises(Refused, match="epoch 256 is the last"):
            changed(Membership(held, None), 5, NOW, of(Change(EPOCHS_MAX, 1, (2,), (member(4),))), RULES)
        record = Membership(msgspec.structs.replace(RULES.genesis, next_id=IDS_MAX - 1), None)
        changed(record, 5, NOW, of(Change(0, 1, (), (member(IDS_MAX - 1),))), RULES)
        with pytest.raises(Refused, match="1 ids are left"):
            changed(record, 5, NOW, of(Change(0, 1, (), (member(IDS_MAX - 1), member(5)))), RULES)

    def test_the_record_stays_of_one_piece(self) -> None:
        many = tuple(Member(n, "h" * 255, n, digest_of(b"%d" % n)) for n in range(4, 250))
        with pytest.raises(Refused, match="bytes in the replicated state"):
            changed(RULES.beginning, 5, NOW, of(Change(0, 1, (), many)), RULES)

    def test_one_that_has_the_state_stays(self) -> None:
        """Of the quorum at the boundary, without its liars and those that leave, one is left."""
        sizes = [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1), (7, 2), (10, 3)]
        found = [removable(genesis(f, map(member, range(n))), f) for n, f in sizes]
        assert found == [0, 1, 1, 1, 2, 2, 2, 3]

    def test_as_many_may_fail_as_the_next_epoch_stands(self) -> None:
        """Of the three that certify the boundary: the next epoch's f may be among them."""
        joining = tuple(member(node) for node in range(4, 10))
        grown = changed(RULES.beginning, 5, NOW, of(Change(0, 2, (), joining[:3])), RULES)
        assert (grown.at(25).n, grown.at(25).f) == (7, 2)
        with pytest.raises(Refused, match=r"remove = \[0\]: one change of n = 4, f = 1 to f = 2 removes at most 0,"):
            changed(RULES.beginning, 5, NOW, of(Change(0, 2, (0,), joining[:4])), RULES)
        with pytest.raises(Refused, match="f = 3: of n = 4, f = 1 one change goes to f = 2 at most"):
            changed(RULES.beginning, 5, NOW, of(Change(0, 3, (), joining)), RULES)


def change_request(timestamp: int, *operations: bytes, flags: int = MEMBERSHIP) -> Request:
    return Request.make(lambda _: b"", DOMAIN, "admin", timestamp, 0, list(operations), flags)


def outcome(executor: Executor, sent: Request) -> Any:
    (result,) = executor.apply(executor.index + 1, [sent], 1, SEED)
    assert result.results is not None
    (found,) = decode_results(result.results).outcomes
    return decode_outcome(found)


JOINT = replace(RULES, boundary=lambda _: OPEN - 1, check_size=lambda n, f: None)


class TestJointConsensus:
    """Where a change is made when the protocol says so (Raft)."""

    def test_a_change_is_open_until_it_is_concluded(self) -> None:
        opened = changed(JOINT.beginning, 5, NOW, of(REPLACE), JOINT)
        assert opened.open is not None
        assert (opened.at(6), opened.at(OPEN)) == (JOINT.genesis, opened.open)
        assert opened.open.ids == (0, 1, 3, 4)
        with pytest.raises(Refused, match="a change is pending: epoch 1 is to have members 0, 1, 3, 4; wait for it"):
            changed(opened, 7, NOW, of(Change(0, 1, (3,))), JOINT)

    def test_made_it_holds_from_the_next_index_on(self) -> None:
        made = concluded(changed(JOINT.beginning, 5, NOW, of(REPLACE), JOINT), 9, True)
        assert (made.open, made.at(9), made.at(10).ids) == (None, JOINT.genesis, (0, 1, 3, 4))
        assert (made.at(10).epoch, made.at(10).first, made.at(10).next_id) == (1, 10, 5)
        assert decode_membership(encode_membership(made)) == made
        assert changed(made, 10, NOW, of(Change(1, 1, (0,), (member(5),))), JOINT).at(OPEN).ids == (1, 3, 4, 5)

    def test_given_up_the_members_are_as_before_and_no_id_is_used_again(self) -> None:
        left = concluded(changed(JOINT.beginning, 5, NOW, of(REPLACE), JOINT), 9, False)
        assert left.at(10).members == JOINT.genesis.members
        assert (left.at(10).epoch, left.at(10).next_id) == (1, 5)
        with pytest.raises(Refused, match=r"new ids = \[4\]: must be 5 and up, none is used twice"):
            changed(left, 11, NOW, of(Change(1, 1, (), (member(4),))), JOINT)

    def test_what_is_not_open_is_not_concluded(self) -> None:
        assert concluded(JOINT.beginning, 9, True) == JOINT.beginning
        pending = changed(RULES.beginning, 5, NOW, of(REPLACE), RULES)
        assert concluded(pending, 9, True) == pending

    def test_any_number_may_go_at_once(self) -> None:
        all_new = Change(0, 1, (0, 1, 2, 3), (member(4), member(5), member(6)))
        assert changed(JOINT.beginning, 5, NOW, of(all_new), JOINT).at(OPEN).ids == (4, 5, 6)

    def test_learners_are_members_that_do_not_vote(self) -> None:
        one = concluded(changed(JOINT.beginning, 5, NOW, of(Change(0, 1, (), (member(4),), (4,))), JOINT), 6, True).at(
            7
        )
        assert (one.n, one.voters, one.ids) == (4, (0, 1, 2, 3), (0, 1, 2, 3, 4))

    @pytest.mark.parametrize("learners", [(7,), (1, 0), (1, 1)])
    def test_learners_are_members_in_order(self, learners: tuple[int, ...]) -> None:
        with pytest.raises(Refused, match="must be members, each once and in order; they are"):
            changed(JOINT.beginning, 5, NOW, of(Change(0, 1, (), (), learners)), JOINT)

    def test_where_all_vote_there_are_no_learners(self) -> None:
        with pytest.raises(Refused, match=r"learners = \[4\]: every member of this protocol votes"):
            changed(RULES.beginning, 5, NOW, of(Change(0, 1, (), (member(4),), (4,))), RULES)

    def test_there_is_room_for_so_many(self) -> None:
        many = Change(0, 1, (), tuple(map(member, range(4, 130))))
        with pytest.raises(Refused, match="130 members: there are at most 128"):
            changed(JOINT.beginning, 5, NOW, of(many), JOINT)

    def test_the_executor_concludes_it_at_an_index(self) -> None:
        executor = Executor(Counter(), rules=JOINT)
        outcome(executor, change_request(1, of(REPLACE)))
        assert executor.configuration_at(2) == JOINT.genesis
        executor.apply(2, [], 0, SEED, "made")
        assert executor.configuration_at(3) == executor.members.at(OPEN)
        assert executor.configuration_at(3).ids == (0, 1, 3, 4)


class TestExecutor:
    def test_the_outcome_is_the_next_configuration(self) -> None:
        executor = Executor(Counter(), rules=RULES)
        value = outcome(executor, change_request(1, of(REPLACE)))
        assert msgspec.convert(value, Configuration) == executor.configuration_at(25)
        assert executor.boundary(0) == 24

    def test_a_change_that_waited_too_long_is_refused_by_agreed_time(self) -> None:
        executor = Executor(Counter(), rules=RULES)
        executor.apply(1, [request(1, ADD)], NOW + VALID_US, SEED)
        with pytest.raises(OperationFailed, match="expired 1 s ago"):
            outcome(executor, change_request(1, of(REPLACE)))
        assert executor.members == RULES.beginning

    def test_a_refusal_is_an_outcome_and_changes_nothing(self) -> None:
        executor = Executor(Counter(), rules=RULES)
        with pytest.raises(OperationFailed, match="no signed change"):
            outcome(executor, change_request(1, ADD))
        assert executor.members == RULES.beginning

    @pytest.mark.parametrize("flags", [MEMBERSHIP | READ_ONLY, MEMBERSHIP])
    def test_a_change_is_alone(self, flags: int) -> None:
        executor = Executor(Counter(), rules=RULES)
        count = 1 if flags & READ_ONLY else 2
        with pytest.raises(OperationFailed, match="one operation, and not read-only"):
            outcome(executor, change_request(1, *[of(REPLACE)] * count, flags=flags))
        assert executor.boundary(0) is None

    def test_a_query_changes_nothing(self) -> None:
        executor = Executor(Counter(), rules=RULES)
        (results,) = executor.query([change_request(1, of(REPLACE), flags=MEMBERSHIP | READ_ONLY)])
        with pytest.raises(OperationFailed, match="not read-only"):
            decode_outcome(decode_results(results).outcomes[0])

    def test_an_operation_without_the_flag_is_the_applications(self) -> None:
        executor = Executor(Counter(), rules=RULES)
        apply(executor, request(1, of(REPLACE)))
        assert executor.members == RULES.beginning

    def test_where_the_protocol_knows_no_changes(self) -> None:
        with pytest.raises(OperationFailed, match="does not change its members"):
            outcome(Executor(Counter()), change_request(1, of(REPLACE)))

    def test_the_digest_is_as_ever_until_the_first_change(self) -> None:
        plain, ruled = Executor(Counter()), Executor(Counter(), rules=RULES)
        for executor in (plain, ruled):
            apply(executor, request(1, ADD), time=5)
        assert plain.digest() == ruled.digest()
        before = ruled.digest()
        outcome(ruled, change_request(1, of(REPLACE)))
        assert merkle.find(ruled._root, RECORD_KEY) is None
        assert ruled.digest() != before
        assert merkle.find(ruled._root, RECORD_KEY) == encode_membership(ruled.members)

    def test_the_record_is_rolled_back_saved_moved_and_audited(self) -> None:
        executor = Executor(Counter(), rules=RULES)
        before = executor.checkpoint(0)
        outcome(executor, change_request(1, of(REPLACE)))
        digest = executor.checkpoint(1)
        executor.audit()
        assert executor.digest() == digest
        loaded = Executor(Counter(), rules=RULES)
        loaded.load(1, digest, executor.snapshot(1).parts())
        fetched = Executor(Counter(), rules=RULES)
        answer = fetched.restore(1, digest)
        while isinstance(answer, Wanted):
            for part in answer.parts:
                answer = fetched.write_part(1, part, executor.read_part(1, part)[0] or b"")
        assert answer == Checkpointed(1, digest)
        assert loaded.members == fetched.members == executor.members != RULES.beginning
        executor.rollback(0)
        assert executor.members == RULES.beginning
        assert executor.digest() == before

    def test_a_replica_without_rules_takes_no_state_with_members(self) -> None:
        executor = Executor(Counter(), rules=RULES)
        outcome(executor, change_request(1, of(REPLACE)))
        digest = executor.checkpoint(1)
        with pytest.raises(StateUnreadable, match="record of members"):
            Executor(Counter()).load(1, digest, executor.snapshot(1).parts())


def cluster_state(keys: int) -> Executor:
    """A state of some size with a change in it, held at index 25, beyond its boundary."""
    executor = Executor(KeyValue(), rules=RULES)
    outcome(executor, change_request(1, of(REPLACE)))
    writes = [KeyValue.operation("put", f"key{number}", f"{number}" * 9) for number in range(keys)]
    apply(executor, request(1, *writes)) if writes else apply(executor)
    while executor.index < 25:
        apply(executor)
    executor.checkpoint(25)
    return executor


STATES = {keys: cluster_state(keys) for keys in (0, 1_000, 30_000)}
CERTIFICATES: dict[bytes, tuple[int, bytes, int]] = {}


def follow_all(known: Configuration, links: Iterable[Link], certified: Any) -> Configuration:
    """The configuration at the end of these links."""
    return functools.reduce(lambda reached, link: follow(reached, link, certified), links, known)


def certified(known: Configuration, certificate: bytes) -> tuple[int, bytes]:
    """A certificate here is an entry that says what a quorum of its epoch has signed."""
    seq, digest, epoch = CERTIFICATES.get(certificate, (0, b"", -1))
    if epoch != known.epoch:
        raise ValueError("the certificate is of another epoch")
    return seq, digest


def certify(seq: int, digest: bytes, epoch: int) -> bytes:
    certificate = digest_of(b"%d %d" % (seq, epoch) + digest)
    CERTIFICATES[certificate] = seq, digest, epoch
    return certificate


def path_of(executor: Executor, index: int = 25) -> tuple[bytes, ...]:
    path = executor.membership_path(index)
    assert path is not None
    return tuple(path)


class TestPath:
    @pytest.mark.parametrize("keys", list(STATES))
    def test_a_path_proves_the_record(self, keys: int) -> None:
        executor = STATES[keys]
        path = path_of(executor)
        assert len(path) == {0: 1, 1_000: 2, 30_000: 3}[keys]
        assert merkle.proved(executor.digest(), RECORD_KEY, path) == encode_membership(executor.members)

    def test_a_checkpoint_that_is_not_held_has_none(self) -> None:
        assert STATES[0].membership_path(7) is None

    def test_a_path_proves_that_there_is_no_record(self) -> None:
        root = merkle.build({b"%d" % number: bytes(100) for number in range(500)})
        assert merkle.proved(root.digest, RECORD_KEY, merkle.path(root, RECORD_KEY)) is None

    @pytest.mark.parametrize("keys", list(STATES))
    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_a_forged_path_is_refused(self, keys: int, data: st.DataObject) -> None:
        executor = STATES[keys]
        path = list(path_of(executor))
        at = data.draw(st.integers(0, len(path) - 1))
        byte = data.draw(st.integers(0, len(path[at]) - 1))
        bit = data.draw(st.integers(0, 7))
        forged = bytearray(path[at])
        forged[byte] ^= 1 << bit
        with pytest.raises(ValueError, match=r"(part|path) .*(has|does not have|holds)|a path of"):
            merkle.proved(executor.digest(), RECORD_KEY, [*path[:at], bytes(forged), *path[at + 1 :]])

    @pytest.mark.parametrize("keys", list(STATES))
    def test_a_path_is_whole_and_in_order(self, keys: int) -> None:
        executor = STATES[keys]
        path = path_of(executor)
        for forged in ((), path[:-1], path[1:], (*path, path[-1]), path * 16, path[::-1]):
            if forged != path:
                with pytest.raises(ValueError, match=r"(part|path) .*(has|does not have|holds)|a path of"):
                    merkle.proved(executor.digest(), RECORD_KEY, forged)

    def test_another_record_put_beside_is_refused(self) -> None:
        """A page that an attacker builds has another digest; one of another key's branch does not have the record."""
        executor = STATES[30_000]
        path = path_of(executor)
        other = merkle.path(executor._held[25], next(k for k in executor._runtime.take_all() if len(k) > 4))
        with pytest.raises(ValueError, match="does not have its digest"):
            merkle.proved(executor.digest(), RECORD_KEY, [*path[:-1], other[-1]])


def link_of(executor: Executor, seq: int = 24, epoch: int = 0) -> Link:
    return Link(certify(seq, executor.digest(), epoch), path_of(executor))


class TestChain:
    @pytest.mark.parametrize("keys", list(STATES))
    def test_a_link_leads_to_the_next_configuration(self, keys: int) -> None:
        executor = STATES[keys]
        assert follow(RULES.genesis, link_of(executor), certified) == executor.configuration_at(25)

    def test_links_lead_from_the_first_to_the_last(self) -> None:
        executor = Executor(Counter(), rules=RULES)
        links = [self._turn(executor, epoch) for epoch in range(3)]
        assert follow_all(RULES.genesis, links, certified) == executor.configuration_at(executor.index + 1)
        assert follow_all(RULES.genesis, links, certified).ids == (3, 4, 5, 6)
        with pytest.raises(ValueError, match="another epoch"):
            follow_all(RULES.genesis, links[1:], certified)
        with pytest.raises(ValueError, match="another epoch"):
            follow_all(RULES.genesis, links[:1] * 2, certified)

    @staticmethod
    def _turn(executor: Executor, epoch: int) -> Link:
        """Replace the oldest replica, go on to the boundary, and give the link there."""
        held = executor.configuration_at(executor.index + 1)
        assert held is not None
        outcome(executor, change_request(epoch + 1, of(Change(epoch, 1, held.ids[:1], (member(4 + epoch),)))))
        seq = executor.boundary(epoch)
        assert seq is not None
        while executor.index < seq:
            apply(executor)
        return Link(certify(seq, executor.checkpoint(seq), epoch), path_of(executor, seq))

    def test_only_the_boundary_of_the_known_epoch_counts(self) -> None:
        executor = STATES[1_000]
        for seq in (23, 25):
            with pytest.raises(ValueError, match=f"seq {seq} is not the boundary of epoch 0"):
                follow(RULES.genesis, link_of(executor, seq), certified)
        other = genesis(1, map(member, (0, 1, 2, 3, 9)))
        with pytest.raises(ValueError, match="not the boundary"):
            follow(other, link_of(executor), certified)

    def test_a_state_without_a_change_proves_nothing(self) -> None:
        executor = Executor(Counter(), rules=RULES)
        digest = executor.checkpoint(0)
        with pytest.raises(ValueError, match="no record of members"):
            follow(RULES.genesis, Link(certify(0, digest, 0), path_of(executor, 0)), certified)

    @given(st.binary(max_size=80))
    def test_a_certificate_that_nobody_signed_proves_nothing(self, certificate: bytes) -> None:
        with pytest.raises(ValueError, match="of another epoch"):
            follow(RULES.genesis, Link(certificate, path_of(STATES[0])), certified)
