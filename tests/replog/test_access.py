"""Who may do what: the rules of the record, the same on every replica, and that each of them is watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog import access
from replog.access import (
    ROLES,
    Access,
    AccessRules,
    ClientVerifier,
    Grant,
    Registered,
    Role,
    beginning,
    decode_access,
    encode_access,
    operation_of,
)
from replog.apps.kv import KeyValue
from replog.codec import digest_of
from replog.core import Checkpointed, Wanted
from replog.errors import OperationFailed
from replog.executor import Executor
from replog.keys import Ed25519Signer, Ed25519Verifier, HashSigner, HashVerifier
from replog.membership import ADMIN, VALID_MAX_US, VALID_US
from replog.runtime import StateUnreadable
from replog.statemachine import decode_outcome
from replog.types import ACCESS, MEMBERSHIP, READ_ONLY, Request, decode_results
from tests.replog.helpers import DOMAIN, SEED, values_of

CLUSTER = "c" * 32
ROOT = HashSigner(b"root")
VERIFIER = HashVerifier({ADMIN: b"root"})
NAMES = ("boss", "reader", "writer")
PUT, GET = KeyValue.operation("put", "x", "1"), KeyValue.operation("get", "x")
NOW = 1_000


def key(name: str) -> bytes:
    return digest_of(name.encode())


CLIENTS = beginning([Registered(*one) for one in zip(NAMES, map(key, NAMES), ("admin", "read", "write"), strict=True)])
RULES = AccessRules(CLIENTS, CLUSTER, VERIFIER)


def executor() -> Executor:
    return Executor(KeyValue(), access=RULES)


class Log:
    """One replica, and what each client is told."""

    def __init__(self) -> None:
        self.executor = executor()
        self.timestamp = 0

    def __call__(self, client: str, *operations: bytes, flags: int = 0, time: int = NOW) -> list[Any]:
        """The values, or the texts of the errors."""
        self.timestamp += 1
        sent = Request.make(lambda _: b"", DOMAIN, client, self.timestamp, self.timestamp - 1, [*operations], flags)
        (result,) = self.executor.apply(self.executor.index + 1, [sent], time, SEED)
        return [] if result.results is None else texts_of(result.results)

    def query(self, client: str, *operations: bytes, flags: int = READ_ONLY) -> list[Any]:
        self.timestamp += 1
        sent = Request.make(lambda _: b"", DOMAIN, client, self.timestamp, 0, [*operations], flags)
        return texts_of(self.executor.query([sent])[0])

    def grant(self, name: str, role: Role, by: str = "writer", sign: Any = ROOT.sign, **changed: Any) -> Any:
        """What comes of a change, signed by the administrator unless said otherwise."""
        held = self.executor.access
        assert held is not None
        known = held.of(name)
        own = known.public_key if known is not None else key(name)
        wish = Grant(held.serial + 1, name, own, role, NOW + VALID_US)
        (told,) = self(by, operation_of(sign, CLUSTER, msgspec.structs.replace(wish, **changed)), flags=ACCESS)
        return told

    def role(self, name: str) -> str | None:
        known = self.executor.access.of(name) if self.executor.access is not None else None
        return known.role if known is not None else None


def texts_of(results: bytes) -> list[Any]:
    told = []
    for outcome in decode_results(results).outcomes:
        try:
            told.append(decode_outcome(outcome))
        except OperationFailed as error:
            told.append(str(error))
    return told


class TestRoles:
    def test_each_does_what_its_role_says(self) -> None:
        log = Log()
        assert log("writer", PUT) == [None]
        assert log("boss", PUT) == [None]
        assert log("reader", GET, flags=READ_ONLY) == ["1"]
        (told,) = log("reader", PUT)
        assert told == "AccessRefused: client reader has role read: it may call queries, and nothing else"
        assert log("reader", GET) == [told]
        assert log("reader", b"", flags=MEMBERSHIP) == [told]
        assert log("stranger", PUT) == ["AccessRefused: client stranger is not registered"]

    def test_what_is_read_at_once_is_refused_as_well(self) -> None:
        log = Log()
        assert log.query("reader", GET) == [None]
        assert log.query("stranger", GET) == ["AccessRefused: client stranger is not registered"]
        log.grant("reader", "revoked")
        assert log.query("reader", GET) == ["AccessRefused: client reader was revoked"]
        assert log.query("reader", b"", flags=READ_ONLY | ACCESS) == ["AccessRefused: client reader was revoked"]

    def test_a_request_of_many_operations_is_refused_in_one_word(self) -> None:
        assert len(Log()("reader", *[PUT] * 100)) == 1

    def test_what_a_client_may_not_do_leaves_no_trace_in_the_application(self) -> None:
        log = Log()
        log("reader", PUT)
        assert log("writer", GET, flags=READ_ONLY) == [None]

    def test_a_revoked_client_does_nothing_for_ever(self) -> None:
        log = Log()
        assert log("writer", PUT) == [None]
        assert log.grant("writer", "revoked", by="boss")[0] == 1
        assert log("writer", PUT) == ["AccessRefused: client writer was revoked"]
        assert "was revoked and stays so" in log.grant("writer", "write", by="boss")
        assert log.role("writer") == "revoked"

    def test_whoever_is_registered_is_told_who_the_others_are(self) -> None:
        (told,) = Log().query("reader", b"", flags=READ_ONLY | ACCESS)
        assert msgspec.convert(told, Access) == CLIENTS

    def test_without_a_list_of_clients_whoever_comes_is_served(self) -> None:
        own = Executor(KeyValue())
        sent = Request.make(lambda _: b"", DOMAIN, "any", 1, 0, [PUT])
        (result,) = own.apply(1, [sent], NOW, SEED)
        assert values_of(result.results) == [None]
        change = Request.make(lambda _: b"", DOMAIN, "any", 2, 1, [b""], ACCESS)
        assert values_of(own.apply(2, [change], NOW, SEED)[0].results) == ["AccessRefused"]


class TestChanges:
    def test_the_administrator_s_signature_is_enough_whoever_brings_it(self) -> None:
        log = Log()
        assert log.grant("new", "write")[0] == 1
        assert log("new", PUT) == [None]

    def test_a_client_of_role_admin_needs_no_signature_and_no_other_does_without(self) -> None:
        log = Log()
        assert log.grant("new", "read", by="boss", sign=None)[0] == 1
        told = log.grant("other", "read", by="writer", sign=None)
        assert told == "AccessRefused: client writer has not role admin, and the administrator has not signed this"
        assert log.role("other") is None
        assert "role read" in log.grant("other", "read", by="reader")

    def test_a_signature_that_is_not_the_administrator_s_is_refused(self) -> None:
        log = Log()
        assert "not the administrator's" in log.grant("new", "admin", sign=HashSigner(b"other").sign)
        assert "not the administrator's" in log.grant("new", "admin", by="boss", sign=HashSigner(b"other").sign)

    def test_no_change_is_made_twice_or_of_an_older_record(self) -> None:
        log = Log()
        wish = operation_of(ROOT.sign, CLUSTER, Grant(1, "new", key("new"), "write", NOW + VALID_US))
        assert log("writer", wish, flags=ACCESS)[0][0] == 1
        assert log.grant("new", "read")[0] == 2
        assert "the next one is 3" in log("writer", wish, flags=ACCESS)[0]
        assert log.role("new") == "read"

    def test_no_change_is_made_after_its_time(self) -> None:
        log = Log()
        assert "expired" in log.grant("new", "read", until=NOW - 1)
        assert "at most" in log.grant("new", "read", until=NOW + 2 * VALID_MAX_US)

    def test_a_name_keeps_its_key_and_a_key_its_name(self) -> None:
        log = Log()
        assert "has another key" in log.grant("reader", "admin", public_key=key("mine"))
        assert "has the key of client writer" in log.grant("new", "read", public_key=key("writer"))
        assert "has role read already" in log.grant("reader", "read")
        assert "is not registered" in log.grant("new", "revoked")

    @pytest.mark.parametrize("name", ["@admin", "New", "a b", "-a", "a" * 64])
    def test_a_name_has_the_form_of_a_name(self, name: str) -> None:
        assert "a name has" in Log().grant(name, "read")

    def test_somebody_who_may_write_is_left(self) -> None:
        log = Log()
        assert log.grant("boss", "read")[0] == 1
        assert "nobody would be left" in log.grant("writer", "revoked")
        assert "nobody would be left" in log.grant("writer", "read")

    def test_the_record_is_bounded(self) -> None:
        log, told = Log(), None
        for count in range(700):
            told = log.grant(f"client-{count}-{'x' * 40}", "read")
            if isinstance(told, str):
                break
        assert "fit" in str(told)

    def test_a_change_is_alone(self) -> None:
        log = Log()
        wish = operation_of(ROOT.sign, CLUSTER, Grant(1, "new", key("new"), "read", NOW + VALID_US))
        assert "one operation" in log("writer", wish, wish, flags=ACCESS)[0]
        assert "one operation" in log("writer", wish, flags=ACCESS | MEMBERSHIP)[0]
        assert log.role("new") is None

    def test_a_change_has_one_encoding(self) -> None:
        wish = operation_of(ROOT.sign, CLUSTER, Grant(1, "new", key("new"), "read", NOW + VALID_US))
        assert "no change of the clients" in Log()("writer", wish + b"\x00", flags=ACCESS)[0]

    @given(st.binary(max_size=200))
    @settings(deadline=None, max_examples=100)
    def test_any_bytes_are_refused(self, data: bytes) -> None:
        log = Log()
        assert "no change of the clients" in log("writer", data, flags=ACCESS)[0]
        assert log.executor.access == CLIENTS


class TestState:
    def test_the_record_is_under_the_digest_from_the_first_change_on(self) -> None:
        plain, log = Executor(KeyValue()), Log()
        assert log.executor.digest() == plain.digest()
        log.grant("new", "write")
        with_new = log.executor.digest()
        log.grant("new", "read")
        assert log.executor.digest() != with_new

    def test_it_is_rolled_back_with_the_rest(self) -> None:
        log = Log()
        log.executor.checkpoint(0)
        log.grant("new", "write")
        log.executor.rollback(0)
        assert log.executor.access == CLIENTS

    def test_it_moves_with_the_state(self) -> None:
        log, other = Log(), executor()
        log.grant("new", "write")
        digest = log.executor.checkpoint(1)
        answer = other.restore(1, digest)
        while type(answer) is Wanted:
            for part in answer.parts:
                data, _ = log.executor.read_part(1, part, answer.hints.get(part, b""))
                assert data is not None
                answer = other.write_part(1, part, data)
        assert type(answer) is Checkpointed
        assert other.access == log.executor.access
        loaded = executor()
        loaded.load(1, digest, log.executor.snapshot(1).parts())
        assert loaded.access == log.executor.access
        with pytest.raises(StateUnreadable, match="record of clients"):
            Executor(KeyValue()).load(1, digest, log.executor.snapshot(1).parts())

    def test_an_audit_finds_it(self) -> None:
        log = Log()
        log.grant("new", "write")
        digest = log.executor.digest()
        log.executor.audit()
        assert log.executor.digest() == digest

    @given(st.binary(max_size=100))
    @settings(deadline=None, max_examples=100)
    def test_any_bytes_are_a_record_or_a_clear_error(self, data: bytes) -> None:
        with pytest.raises(msgspec.MsgspecError):
            decode_access(data)
        assert decode_access(encode_access(CLIENTS)) == CLIENTS


class TestVerifier:
    def test_a_client_that_was_registered_later_is_known_by_its_key_and_stays_so(self) -> None:
        log, signer = Log(), Ed25519Signer(b"n" * 32)
        verifier = ClientVerifier(Ed25519Verifier({0: Ed25519Signer(b"0" * 32).public}), log.executor.client_key)
        later = verifier.extended({7: Ed25519Signer(b"7" * 32).public})
        signature = signer.sign(b"said")
        assert not verifier.knows("new")
        assert not verifier.verify("new", b"said", signature)
        log.grant("new", "write", public_key=signer.public)
        for one in (verifier, later):
            assert one.knows("new")
            assert one.verify("new", b"said", signature)
            assert not one.verify("new", b"other", signature)
            assert not one.verify("new", b"said", Ed25519Signer(b"o" * 32).sign(b"said"))
        assert later.knows(7)
        assert not verifier.knows(7)
        log.grant("new", "revoked")
        assert verifier.verify("new", b"said", signature)


# ------------------------------------------------------------------------------------------- what is broken on purpose


def anybody(self: Access, request: Request) -> str:
    return ""


def no_revocation(self: Access, request: Request) -> str:
    known = self.of(request.client)
    return "" if known is None or known.role == "revoked" else access_refusal(self, request)


def unsigned(held: Access, by: str, operation: bytes, rules: AccessRules) -> Grant:
    return access._decode_signed(operation).grant


def nothing(*_: Any) -> None:
    pass


access_refusal = Access.refusal
ROLE, CHANGE = TestRoles(), TestChanges()
KNOWN = TestVerifier().test_a_client_that_was_registered_later_is_known_by_its_key_and_stays_so
BROKEN: list[tuple[Any, str, Any, Callable[[], None]]] = [
    (Access, "refusal", anybody, ROLE.test_each_does_what_its_role_says),
    (Access, "refusal", no_revocation, ROLE.test_a_revoked_client_does_nothing_for_ever),
    (Executor, "_refusal", lambda *_: "", ROLE.test_what_a_client_may_not_do_leaves_no_trace_in_the_application),
    (access, "_allowed", unsigned, CHANGE.test_a_client_of_role_admin_needs_no_signature_and_no_other_does_without),
    (access, "_allowed", unsigned, CHANGE.test_a_signature_that_is_not_the_administrator_s_is_refused),
    (access, "check_until", nothing, CHANGE.test_no_change_is_made_after_its_time),
    (access, "_check", nothing, CHANGE.test_a_name_keeps_its_key_and_a_key_its_name),
    (access, "_check", nothing, ROLE.test_a_revoked_client_does_nothing_for_ever),
    (access, "_SERVING", ("read", "write", "admin"), CHANGE.test_somebody_who_may_write_is_left),
    (access, "RECORD_BYTES_MAX", 2**40, CHANGE.test_the_record_is_bounded),
    (
        Executor,
        "client_key",
        lambda *_: None,
        TestVerifier().test_a_client_that_was_registered_later_is_known_by_its_key_and_stays_so,
    ),
]


@pytest.fixture(params=range(len(BROKEN)), ids=lambda place: BROKEN[place][3].__name__[5:45])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    owner, name, wrong, test = BROKEN[request.param]
    test()
    monkeypatch.setattr(owner, name, wrong)
    return test


def test_each_rule_is_watched(broken: Callable[[], None]) -> None:
    with pytest.raises((AssertionError, ValueError, TypeError)):
        broken()


def test_every_role_has_a_client_here() -> None:
    assert {client.role for client in CLIENTS.clients} == {*ROLES}
