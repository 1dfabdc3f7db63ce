"""Signatures: whose, over what, and the encodings that are none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.keys import SIGNATURE_BYTES, Ed25519Signer, Ed25519Verifier, HashSigner, HashVerifier, Signer, Verifier

ORDER = 2**252 + 27742317777372353535851937790883648493
ONE, OTHER = Ed25519Signer(b"1" * 32), Ed25519Signer(b"2" * 32)
REAL = Ed25519Verifier({0: ONE.public, "c": OTHER.public})
SIMULATED = HashVerifier({0: b"1" * 32, "c": b"2" * 32})
PAIRS: list[tuple[Signer, Signer, Verifier]] = [
    (ONE, OTHER, REAL),
    (HashSigner(b"1" * 32), HashSigner(b"2" * 32), SIMULATED),
]
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


@pytest.mark.parametrize(("one", "other", "verifier"), PAIRS)
class TestBoth:
    def test_a_signature_is_its_signers(self, one: Signer, other: Signer, verifier: Verifier) -> None:
        assert verifier.verify(0, b"said", one.sign(b"said"))
        assert verifier.verify("c", b"said", other.sign(b"said"))
        assert not verifier.verify("c", b"said", one.sign(b"said"))
        assert not verifier.verify(0, b"other", one.sign(b"said"))

    def test_nobody_else_has_a_signature(self, one: Signer, other: Signer, verifier: Verifier) -> None:
        assert [verifier.knows(who) for who in (0, "c", 1, "0")] == [True, True, False, False]
        assert not verifier.verify(1, b"said", one.sign(b"said"))

    @settings(deadline=None, max_examples=60)
    @given(st.binary(max_size=80), st.binary(max_size=20))
    def test_any_bytes_are_refused_quietly(
        self, one: Signer, other: Signer, verifier: Verifier, signature: bytes, statement: bytes
    ) -> None:
        assert not verifier.verify(0, statement, signature)

    def test_a_changed_bit_shows(self, one: Signer, other: Signer, verifier: Verifier) -> None:
        signature = one.sign(b"said")
        for bit in range(0, 8 * len(signature), 5):
            changed = bytearray(signature)
            changed[bit // 8] ^= 1 << bit % 8
            assert not verifier.verify(0, b"said", bytes(changed))


class TestEdges:
    """X11: libraries differ on these; here they are refused."""

    def test_s_beyond_the_order_is_refused(self) -> None:
        signature = ONE.sign(b"said")
        s = int.from_bytes(signature[32:], "little")
        second = signature[:32] + (s + ORDER).to_bytes(32, "little")
        assert len(second) == SIGNATURE_BYTES
        assert not REAL.verify(0, b"said", second)

    @pytest.mark.parametrize("key", SMALL_ORDER)
    def test_keys_of_small_order_sign_nothing(self, key: bytes) -> None:
        verifier = Ed25519Verifier({0: key})
        for point in SMALL_ORDER:
            assert not any(verifier.verify(0, b"%d" % n, point + bytes(32)) for n in range(16))

    @pytest.mark.parametrize("length", [0, 31, 33, 64])
    def test_a_key_of_another_length_is_an_error(self, length: int) -> None:
        with pytest.raises(ValueError, match=f"public key of 'ann': {length} bytes, must be 32"):
            Ed25519Verifier({"ann": bytes(length)})

    def test_a_longer_signature_is_none(self) -> None:
        assert not REAL.verify(0, b"id", ONE.sign(b"said")[:64] + b"sa")
        assert not REAL.verify(0, b"d", ONE.sign(b"said") + b"sai")

    def test_no_secret_is_shown(self) -> None:
        assert repr(ONE) == f"Ed25519Signer({ONE.public.hex()[:8]})"
