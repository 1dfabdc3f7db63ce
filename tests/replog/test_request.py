"""A client's request: the bytes that came, read once, and no two of them for one signature."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.codec import BadMessage, Domain, digest_of
from replog.keys import Ed25519Signer, Ed25519Verifier
from replog.types import READ_ONLY, Request, RequestBody

SIGNER = Ed25519Signer(b"k" * 32)
VERIFIER = Ed25519Verifier({"c": SIGNER.public})
DOMAIN = Domain("cluster")
quick = settings(deadline=None, max_examples=200)
encode = msgspec.msgpack.encode


def made(timestamp: int = 5, low: int = 2, operations: tuple[bytes, ...] = (b"a", b"b"), flags: int = 0) -> Request:
    return Request.make(SIGNER.sign, DOMAIN, "c", timestamp, low, list(operations), flags)


def raw(*body: object, auth: bytes = b"") -> bytes:
    return encode([encode(list(body)), auth])


def test_it_is_read_as_it_was_made() -> None:
    request = Request(made(flags=READ_ONLY).raw)
    assert (request.client, request.timestamp, request.low, request.count) == ("c", 5, 2, 2)
    assert (request.operations(), request.read_only, request.identity) == ([b"a", b"b"], True, ("c", 5))
    assert (request.digest, request.size) == (digest_of(request.raw), len(request.raw))
    assert repr(request).startswith("Request(c#5, 2 operations, ")


def test_its_signature_covers_cluster_and_body() -> None:
    request = made()
    assert VERIFIER.verify("c", request.statement(DOMAIN), request.auth)
    assert VERIFIER.verify("c", request.statement(Domain("cluster", 7)), request.auth), "it survives a new epoch"
    assert not VERIFIER.verify("c", request.statement(Domain("other")), request.auth)
    changed = Request(encode([made(timestamp=6).body, request.auth]))
    assert not VERIFIER.verify("c", changed.statement(DOMAIN), changed.auth)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (("", 1, 0, 0, 1, b""), "length >= 1"),
        (("c" * 65, 1, 0, 0, 1, b""), "length <= 64"),
        (("c", 0, 0, 0, 1, b""), ">= 1"),
        (("c", 2**62 + 1, 0, 0, 1, b""), "<= 4611686018427387904"),
        (("c", 1, -1, 0, 1, b""), ">= 0"),
        (("c", 1, 1, 0, 1, b"", -1), "low 1 is not below timestamp 1"),
        (("c", 1, 0, 8, 1, b""), "<= 7"),
        (("c", 1, 0, 0, 0, b""), ">= 1"),
        (("c", 1, 0, 0, 65_537, b""), "<= 65536"),
        (("c", 1, 0, 0, 1, "text"), "bytes"),
        (("c", 1, 0, 0, 1), "at least length 6"),
        (("c", 1, 0, 0, 1, b"", 1024), "<= 1023"),
        (("c", 1, 0, 0, 1, b""), "canonical"),
        (("c", 1, 0, 0, 1, b"", -1, b"more"), "canonical"),
    ],
)
def test_what_is_out_of_bounds_is_refused(body: tuple[object, ...], rule: str) -> None:
    with pytest.raises(BadMessage, match=f"request: .*{rule}"):
        Request(raw(*body))


@quick
@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_a_bad_message(data: bytes) -> None:
    for bytes_ in (data, encode([data, b""])):
        with pytest.raises(BadMessage):
            Request(bytes_)


@quick
@given(st.integers(0, 400), st.integers(0, 255))
def test_damage_is_a_bad_message_or_shows(at: int, byte: int) -> None:
    """P22, P23: whatever one byte does, the signature no longer fits, or it is no request."""
    request = made()
    data = bytearray(request.raw)
    data[at % len(data)] ^= byte
    try:
        damaged = Request(bytes(data))
    except BadMessage:
        return
    assert (byte == 0) == VERIFIER.verify("c", damaged.statement(DOMAIN), damaged.auth)


def test_one_signature_has_one_encoding() -> None:
    """P30: whoever passes a request on cannot give it a second digest."""
    request = made()
    longer = [
        encode([request.body, request.auth, b"more"]),
        b"\xdc\x00\x02" + request.raw[1:],
        b"\x92\xc5" + len(request.body).to_bytes(2, "big") + request.raw[3:],
        request.raw + b"\x00",
    ]
    for variant in longer:
        with pytest.raises(BadMessage):
            Request(variant)


@pytest.mark.parametrize(
    "operations", [b"", b"\x90", b"\x80", b"\xc4\x01a", b"\x91\xa1a", b"\x91\xc4\x01", b"\xdd\xff\xff\xff\xff"]
)
def test_operations_that_are_none_are_none(operations: bytes) -> None:
    request = Request(raw("c", 1, 0, 0, 1, operations, -1))
    assert request.operations() is None


def test_operations_are_as_many_as_announced() -> None:
    body = encode(RequestBody("c", 1, 0, 0, 3, encode([b"a", b"b"])))
    assert Request(encode([body, b""])).operations() is None
