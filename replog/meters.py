"""Signers, verifiers and MACs that count: what both worlds put around the real ones to know what signing costs."""

from __future__ import annotations

from collections.abc import Mapping

from replog.authenticators import mac
from replog.keys import Signer, Verifier
from replog.types import Principal


class Meter:
    """What one process signed and checked, since ever. `macs`: computed, to make one or to check one."""

    __slots__ = ("macs", "signed", "verified")

    def __init__(self) -> None:
        self.signed = 0
        self.verified = 0
        self.macs = 0

    def mac(self, key: bytes, statement: bytes) -> bytes:
        """`replog.authenticators.mac`, counted."""
        self.macs += 1
        return mac(key, statement)


class MeteredSigner:
    """Any signer, counted."""

    def __init__(self, signer: Signer, meter: Meter) -> None:
        self._sign = signer.sign
        self._meter = meter

    def sign(self, statement: bytes) -> bytes:
        self._meter.signed += 1
        return self._sign(statement)


class MeteredVerifier:
    """Any verifier, counted."""

    def __init__(self, verifier: Verifier, meter: Meter) -> None:
        self._verifier = verifier
        self._verify = verifier.verify
        self._meter = meter
        self.knows = verifier.knows

    def extended(self, keys: Mapping[Principal, bytes]) -> MeteredVerifier:
        return MeteredVerifier(self._verifier.extended(keys), self._meter)

    def verify(self, signer: Principal, statement: bytes, signature: bytes) -> bool:
        self._meter.verified += 1
        return self._verify(signer, statement, signature)
