"""Messages to canonical bytes and back; what is signed; caps on what a peer may send.

Sizes are capped before memory is taken (HAZARDS X6): a frame by the transport's limit, which is `FRAME_BYTES_MAX`, and
every integer, digest, name and list by its type. What is signed is encoded again from the decoded fields, so that one
meaning has one encoding (HAZARDS P23, P30).
"""

from __future__ import annotations

import functools
import hashlib
import operator
from typing import Any, Final, Generic, TypeVar

import msgspec

DIGEST_BYTES: Final = 32
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
"""The largest frame a link takes. Each message in it is bounded by it too."""


class BadMessage(ValueError):
    """Bytes from outside that are no valid message. Never an error of ours: note it, count it, go on."""


def digest_of(data: bytes) -> bytes:
    """blake2b with 32 bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


_encode = msgspec.msgpack.Encoder().encode
M = TypeVar("M")


class Codec(Generic[M]):
    """Encoder and decoder for a closed set of tagged message structs."""

    def __init__(self, *kinds: type[M]) -> None:
        self.kinds: tuple[type[M], ...] = kinds
        self._decode = msgspec.msgpack.Decoder(functools.reduce(operator.or_, kinds)).decode
        self.encode = _encode

    def decode(self, raw: bytes | memoryview) -> M:
        """One message. Raises BadMessage, whatever the bytes."""
        try:
            return self._decode(raw)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BadMessage(str(error)) from None


pack_frame = _encode
"""list of encoded messages -> one frame of a link."""
_unpack = msgspec.msgpack.Decoder(list[bytes]).decode


def unpack_frame(frame: bytes) -> list[bytes]:
    """One frame of a link -> the encoded messages in it. Raises BadMessage."""
    try:
        return _unpack(frame)
    except msgspec.MsgspecError as error:
        raise BadMessage(f"frame: {error}") from None


def messages_in(frame: bytes) -> int:
    """How many messages a frame says that it holds: a look at its head, no more. At most what fits."""
    head = frame[0] if frame else 0
    claimed = head & 0x0F
    if head in (0xDC, 0xDD):  # a list whose length stands in two bytes, or four
        claimed = int.from_bytes(frame[1 : 3 if head == 0xDC else 5], "big")
    return max(1, min(claimed, len(frame)))


class Domain:
    """What every signature is bound to: the cluster, the configuration epoch, and the type of what is said.

    A signature for one type, epoch or cluster is none for another (HAZARDS P22, P24). A later epoch is named by its
    number and by the digest of the state that it begins with: where more than f have lied, the log may fork at the end
    of an epoch, and what a correct replica says on one side must mean nothing on the other.
    """

    UNBOUND: Final = frozenset({"request"})
    """Types that carry no epoch: a client's request must survive a change of members."""

    def __init__(self, cluster: str, epoch: int = 0, begins: bytes = b"") -> None:
        """`begins`: the digest of the state that a later epoch begins with; the first one begins with nothing."""
        self.cluster = cluster
        self.epoch = epoch
        self.begins = begins if epoch else b""
        self._prefixes: dict[str, bytes] = {}

    def statement(self, kind: str, fields: Any) -> bytes:
        """The bytes to sign for `fields` (a tuple of plain values, or bytes) said as `kind`."""
        prefix = self._prefixes.get(kind)
        if prefix is None:
            epoch = (self.epoch, self.begins) if self.begins else self.epoch
            prefix = self._prefixes[kind] = _encode(
                ("replog/1", self.cluster, None if kind in self.UNBOUND else epoch, kind)
            )
        return prefix + _encode(fields)
