"""Identities: who can sign, who can check. Pure; files and certificates are in `replog.certificates`.

One Ed25519 verifier (libsodium) is used everywhere, offline tools included, since libraries differ on edge cases:
non-canonical S and small-order keys are refused (HAZARDS X11).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Protocol

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError, CryptoError

from replog.types import Principal

SIGNATURE_BYTES = 64
PUBLIC_KEY_BYTES = 32


class Signer(Protocol):
    def sign(self, statement: bytes) -> bytes: ...


class Verifier(Protocol):
    def verify(self, signer: Principal, statement: bytes, signature: bytes) -> bool:
        """Whether `signer` signed exactly `statement`. False for an unknown signer; never raises."""
        ...

    def knows(self, signer: Principal) -> bool:
        """Whether there is a key for this identity: the cheap filter before a signature check."""
        ...

    def extended(self, keys: Mapping[Principal, bytes]) -> Verifier:
        """One that knows these public keys too: of members that came later, whose ids no other has had."""
        ...


class Ed25519Signer:
    """A private key in memory. `seed` is 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        self.public, self._secret = crypto_sign_seed_keypair(seed)

    def sign(self, statement: bytes) -> bytes:
        return crypto_sign(statement, self._secret)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.public.hex()[:8]})"


class Ed25519Verifier:
    """Public keys (32 bytes each) of nodes and clients. Raises ValueError for one of another length."""

    def __init__(self, keys: Mapping[Principal, bytes]) -> None:
        self.keys: dict[Principal, bytes] = dict(keys)
        for signer, key in self.keys.items():
            if len(key) != PUBLIC_KEY_BYTES:  # libsodium reads that many, whatever it is given
                raise ValueError(f"public key of {signer!r}: {len(key)} bytes, must be {PUBLIC_KEY_BYTES}")

    def extended(self, keys: Mapping[Principal, bytes]) -> Ed25519Verifier:
        return Ed25519Verifier({**self.keys, **keys})

    def knows(self, signer: Principal) -> bool:
        return signer in self.keys

    def verify(self, signer: Principal, statement: bytes, signature: bytes) -> bool:
        key = self.keys.get(signer)
        if key is None or len(signature) != SIGNATURE_BYTES:
            return False
        try:
            crypto_sign_open(signature + statement, key)
        except (BadSignatureError, CryptoError):
            return False
        return True


class HashSigner:
    """A signature for the simulator: a keyed hash under a secret that only its owner and the judges' verifier hold.

    As unforgeable as Ed25519 for an attacker who is handed the coalition's secrets alone, at a fiftieth of the cost;
    worthless between real parties, since who can check it can also make it.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, statement: bytes) -> bytes:
        return hashlib.blake2b(statement, digest_size=16, key=self._secret).digest()


class HashVerifier:
    """Holds every secret; handed to cores as a pure function, out of the attackers' reach."""

    def __init__(self, secrets: Mapping[Principal, bytes]) -> None:
        self._secrets = secrets

    def extended(self, keys: Mapping[Principal, bytes]) -> HashVerifier:
        """A public key is of no use here: whoever holds the secrets adds those of new members to them."""
        return self

    def knows(self, signer: Principal) -> bool:
        return signer in self._secrets

    def verify(self, signer: Principal, statement: bytes, signature: bytes) -> bool:
        secret = self._secrets.get(signer)
        if secret is None:
            return False
        return hmac.compare_digest(hashlib.blake2b(statement, digest_size=16, key=secret).digest(), signature)
