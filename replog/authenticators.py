"""MACs instead of signatures: authenticators, and the session keys they are made with. [CL99 5.2, CL02]

An authenticator has one MAC for each replica, at the place of its id; each replica checks its own, and can prove
nothing by it to anybody else. A session key belongs to one client and one replica, which makes it and tells it over
their authenticated and encrypted link. Not here: when keys are renewed and what a replica does with a request that it
cannot check.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Final

from replog.types import ClientId, NodeId

MAC_BYTES: Final = 16
KEY_BYTES: Final = 32

Mac = Callable[[bytes, bytes], bytes]
"""(key, statement) -> MAC_BYTES: `mac`, or one that counts (`replog.meters`)."""


def mac(key: bytes, statement: bytes) -> bytes:
    """blake2b keyed with a session key: 16 bytes."""
    return hashlib.blake2b(statement, digest_size=MAC_BYTES, key=key).digest()


class Authenticator:
    """The client's side: is a `replog.keys.Signer` whose signature is an authenticator.

    Invariant: one key a member, the last that it told; the MAC for a member without one, and at a place that is no
    member's, is all zeros.
    """

    def __init__(self, members: Sequence[NodeId], mac: Mac = mac) -> None:
        self._keys: dict[NodeId, bytes | None] = dict.fromkeys(members)
        self._mac = mac

    def become(self, members: Sequence[NodeId]) -> None:
        """The members are these now; the keys of those that stay count on."""
        self._keys = {node: self._keys.get(node) for node in members}

    def learn(self, node: NodeId, key: bytes) -> bool:
        """Take the key that `node`, a member, told. Whether it is another than before."""
        changed = self._keys[node] != key
        self._keys[node] = key
        return changed

    @property
    def known(self) -> int:
        """Replicas whose key is known."""
        return sum(key is not None for key in self._keys.values())

    def missing(self) -> tuple[NodeId, ...]:
        return tuple(node for node, key in self._keys.items() if key is None)

    def sign(self, statement: bytes) -> bytes:
        keys = (self._keys.get(node) for node in range(max(self._keys) + 1))
        return b"".join([bytes(MAC_BYTES) if key is None else self._mac(key, statement) for key in keys])


class SessionKeys:
    """A replica's side: the keys of all its clients, as functions of a secret that is renewed and never stored.

    Invariant: a key counts as long as the secret that it comes from is the present or the previous one.
    """

    def __init__(self, me: NodeId, secret: Callable[[], bytes], mac: Mac = mac) -> None:
        """`secret()` gives 32 bytes that nobody can guess."""
        self._me = me
        self._mac = mac
        self._secret = secret
        self._secrets: tuple[bytes, ...] = (secret(),)

    def renew(self) -> None:
        """From now on keys are new ones; the last ones count until the next renewal. [CL02 key refreshment]"""
        self._secrets = (self._secret(), self._secrets[0])

    def key(self, client: ClientId) -> bytes:
        """What `client` is to be told."""
        return _key(self._secrets[0], client)

    def check(self, client: ClientId, statement: bytes, authenticator: bytes) -> tuple[bool, bool]:
        """(this replica's entry is right, under the present secret)."""
        entry = authenticator[self._me * MAC_BYTES : (self._me + 1) * MAC_BYTES]
        for age, secret in enumerate(self._secrets):
            if hmac.compare_digest(self._mac(_key(secret, client), statement), entry):
                return True, age == 0
        return False, False


def _key(secret: bytes, client: ClientId) -> bytes:
    return hashlib.blake2b(client.encode(), digest_size=KEY_BYTES, key=secret, person=b"replog session").digest()
