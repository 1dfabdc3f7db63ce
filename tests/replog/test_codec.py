"""Bytes from outside: a message or BadMessage, and one meaning, one encoding."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.codec import BadMessage, Codec, Domain, digest_of, pack_frame, unpack_frame
from replog.types import (
    COMMON_MESSAGES,
    LogEntry,
    LogReply,
    LogRequest,
    Message,
    Reply,
    Status,
    StatusReply,
    StatusRequest,
    Submit,
    decode_status,
    encode_status,
)

quick = settings(deadline=None, max_examples=200)
CODEC: Codec[Message] = Codec(*COMMON_MESSAGES)
U62 = st.integers(0, 2**62)
MESSAGES = st.one_of(
    st.builds(Submit, st.binary(max_size=20)),
    st.builds(Reply, U62, st.integers(0, 3), st.binary(max_size=20), U62, st.integers(-1, 1023)),
    st.builds(LogRequest, U62, U62, st.integers(1, 1024)),
    st.builds(
        LogReply, U62, U62, U62, st.lists(st.builds(LogEntry, U62, U62, st.lists(st.binary(max_size=9), max_size=3)))
    ),
    st.builds(StatusRequest, U62),
    st.builds(StatusReply, U62, st.binary(max_size=20)),
)
JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)


@quick
@given(MESSAGES)
def test_messages_come_back(message: Message) -> None:
    raw = CODEC.encode(message)
    assert CODEC.decode(raw) == message
    assert CODEC.decode(memoryview(raw)) == message


@quick
@given(st.binary(max_size=60) | JSON_LIKE.map(msgspec.msgpack.encode))
def test_any_bytes_are_a_message_or_a_bad_one(raw: bytes) -> None:
    try:
        message = CODEC.decode(raw)
    except BadMessage:
        return
    assert isinstance(message, COMMON_MESSAGES)


@quick
@given(MESSAGES, st.data())
def test_any_damage_is_a_message_or_a_bad_one(message: Message, data: st.DataObject) -> None:
    raw = bytearray(CODEC.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        CODEC.decode(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    except BadMessage:
        return


@pytest.mark.parametrize(
    "fields",
    [
        ["R", 2**62 + 1, 0, b"", 0, 0],
        ["R", -1, 0, b"", 0, 0],
        ["R", 0, 6, b"", 0, 0],
        ["R", 0, 0, b"", 0, 1024],
        ["R", 0, 0, "text", 0, 0],
        ["R", True, 0, b"", 0, 0],
        ["L", 0, 0, 0],
        ["L", 0, 0, 1025],
        ["S"],
        ["Z", 1],
        ["s", b""],
        [1, b""],
        [],
        {"R": 1},
    ],
)
def test_what_is_out_of_bounds_is_no_message(fields: object) -> None:
    """P12, X6"""
    with pytest.raises(BadMessage):
        CODEC.decode(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x92\xa1S\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x92\xa1S" + b"\x91" * 100_000,
        b"\x91" * 100_000,
        b"\x92\xa1\xff\xc4\x00",
    ],
)
def test_lengths_and_nesting_take_no_memory(raw: bytes) -> None:
    """X6"""
    with pytest.raises(BadMessage):
        CODEC.decode(raw)


class TestFrames:
    @quick
    @given(st.lists(st.binary(max_size=20), max_size=5))
    def test_they_come_back(self, messages: list[bytes]) -> None:
        assert unpack_frame(pack_frame(messages)) == messages

    @quick
    @given(st.binary(max_size=40) | JSON_LIKE.map(msgspec.msgpack.encode))
    def test_any_bytes_are_a_frame_or_a_bad_one(self, raw: bytes) -> None:
        try:
            assert all(type(message) is bytes for message in unpack_frame(raw))
        except BadMessage:
            return


class TestDomains:
    def test_a_statement_is_bound_to_cluster_epoch_and_kind(self) -> None:
        """P22, P24"""
        statements = {
            domain.statement(kind, fields)
            for domain in (Domain("a"), Domain("b"), Domain("a", 1))
            for kind in ("prepare", "commit")
            for fields in ((1, 2), (2, 1))
        }
        assert len(statements) == 12

    def test_a_request_is_bound_to_no_epoch(self) -> None:
        assert Domain("a", 0).statement("request", b"x") == Domain("a", 9).statement("request", b"x")
        assert Domain("a").statement("request", b"x") != Domain("b").statement("request", b"x")

    @quick
    @given(*[st.text(max_size=4)] * 4, *[st.binary(max_size=4)] * 2)
    def test_no_statement_is_another(self, a: str, b: str, c: str, d: str, e: bytes, g: bytes) -> None:
        same = Domain(a).statement(c, e) == Domain(b).statement(d, g)
        assert same == ((a, c == "request", c, e) == (b, d == "request", d, g))


def test_digests_are_32_bytes() -> None:
    assert len(digest_of(b"")) == 32
    assert digest_of(b"a") != digest_of(b"b")


@quick
@given(st.binary(max_size=40) | JSON_LIKE.map(msgspec.msgpack.encode))
def test_any_bytes_are_a_status_or_a_decoding_error(raw: bytes) -> None:
    try:
        decode_status(raw)
    except msgspec.MsgspecError:
        return


def test_text_that_is_none_is_no_status() -> None:
    status = encode_status(Status(1, "x", "y", 0, 0, 0, 0, True))
    with pytest.raises(msgspec.MsgspecError):
        decode_status(status.replace(b"\xa1x", b"\xa1\xff"))
