"""Which clients there are and what each may do: part of the replicated state, changed by commands in the log.

Here: the record, the commands that change it, and the rule by which a request is refused: plain values, the same on
every replica. Not here: who is at the other end of a link (`replog.certificates`), where a replica asks (its executor,
when it executes; its process, when a client dials).

A client that is revoked stays in the record: its name and key are never used again, and what it had signed before is
ordered and then refused, by all replicas at the same place. So whether a request has its client's signature never
depends on how far a replica is in the log, once it has seen the client registered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal

import msgspec

from replog.codec import Domain
from replog.keys import PUBLIC_KEY_BYTES, Verifier
from replog.membership import ADMIN, RECORD_BYTES_MAX, Refused, check_until
from replog.types import U63, Micros, Principal, Request, WireName

RECORD_KEY: Final = b"\x05"
"""Of the record in the replicated state (see `replog.executor`)."""
NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
Role = Literal["read", "write", "admin", "revoked"]
"""`read`: queries; `write`: commands too, and bringing changes of the members; `admin`: registering clients too, in its
own name; `revoked`: nothing, for ever."""
ROLES: Final[tuple[Role, ...]] = ("read", "write", "admin")
_SERVING: Final = ("write", "admin")

_encode = msgspec.msgpack.Encoder().encode


class Registered(msgspec.Struct, array_like=True, frozen=True, gc=False):
    name: WireName
    public_key: Annotated[bytes, msgspec.Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
    role: Role


class Access(msgspec.Struct, array_like=True, frozen=True, dict=True):
    """The record. Invariants: clients are sorted by name, each name and key once; `serial` counts the changes."""

    serial: U63
    clients: tuple[Registered, ...]

    @cached_property
    def _by_name(self) -> dict[str, Registered]:
        return {client.name: client for client in self.clients}

    def of(self, name: str) -> Registered | None:
        return self._by_name.get(name)

    def stranger(self, name: str) -> str:
        """Why a client of this name has nothing to say here; "" if it has."""
        known = self._by_name.get(name)
        if known is None:
            return f"client {name} is not registered"
        return f"client {name} was revoked" if known.role == "revoked" else ""

    def refusal(self, request: Request) -> str:
        """Why it is not executed; "" if it is. The same on every replica."""
        known = self._by_name.get(request.client)
        if known is None or known.role == "revoked":
            return self.stranger(request.client)
        if known.role == "read" and not request.read_only:
            return f"client {known.name} has role read: it may call queries, and nothing else"
        return ""


def beginning(clients: Sequence[Registered]) -> Access:
    """The record before any change; it is not written to the state."""
    return Access(0, tuple(sorted(clients, key=lambda client: client.name)))


encode_access = _encode
_decode_access = msgspec.msgpack.Decoder(Access).decode


def decode_access(data: bytes) -> Access:
    """Raises msgspec.MsgspecError, whatever the bytes."""
    try:
        return _decode_access(data)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None


# ------------------------------------------------------------------------------------------------------------ changes


class Grant(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """From now on this client, with this key, has this role. `serial`: of the record that comes of it, so that no
    change can be brought twice; `until`: the last agreed time at which it is executed, in microseconds since 1970."""

    serial: U63
    name: WireName
    public_key: Annotated[bytes, msgspec.Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
    role: Role
    until: U63


class SignedGrant(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The operation of a request with the flag ACCESS. `signature`: the administrator's; empty where a client of role
    admin speaks in its own name."""

    grant: Grant
    signature: bytes


_decode_signed = msgspec.msgpack.Decoder(SignedGrant).decode


def statement_of(cluster: str, grant: Grant) -> bytes:
    """The bytes under the administrator's signature."""
    return Domain(cluster).statement("access", grant)


def operation_of(sign: Callable[[bytes], bytes] | None, cluster: str, grant: Grant) -> bytes:
    """The operation that makes this change. `sign`: the administrator's; None: the client's role has to be enough."""
    return _encode(SignedGrant(grant, b"" if sign is None else sign(statement_of(cluster, grant))))


@dataclass(frozen=True)
class AccessRules:
    """What the execution of changes rests on: the same on every replica. `verifier` knows ADMIN, if there is one."""

    beginning: Access
    cluster: str
    verifier: Verifier


def changed(access: Access, now: Micros, by: str, operation: bytes, rules: AccessRules) -> Access:
    """The record after this operation of the client `by`, executed at the agreed time `now`. Raises Refused, in words
    that are the same everywhere."""
    grant = _allowed(access, by, operation, rules)
    check_until(grant.until, now)
    if grant.serial != access.serial + 1:
        raise Refused(f"this is change {grant.serial} of the clients, the next one is {access.serial + 1}; ask again")
    _check(access, grant)
    others = [client for client in access.clients if client.name != grant.name]
    clients = sorted([*others, Registered(grant.name, grant.public_key, grant.role)], key=lambda client: client.name)
    after = Access(grant.serial, tuple(clients))
    if not any(client.role in _SERVING for client in clients):
        raise Refused("nobody would be left who may write: give another client role write or admin first")
    if (size := len(_encode(after))) > RECORD_BYTES_MAX:
        raise Refused(f"the clients take {size} bytes in the replicated state, at most {RECORD_BYTES_MAX} fit")
    return after


def _allowed(access: Access, by: str, operation: bytes, rules: AccessRules) -> Grant:
    """What is asked for, if whoever asks may. In its one encoding, as changes of the members."""
    try:
        signed = _decode_signed(operation)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        signed = None
    if signed is None or _encode(signed) != operation:
        raise Refused("this is no change of the clients")
    if signed.signature:
        if not rules.verifier.verify(ADMIN, statement_of(rules.cluster, signed.grant), signed.signature):
            raise Refused("the signature is not the administrator's")
        return signed.grant
    known = access.of(by)
    if known is None or known.role != "admin":
        raise Refused(f"client {by} has not role admin, and the administrator has not signed this")
    return signed.grant


def _check(access: Access, grant: Grant) -> None:
    known = access.of(grant.name)
    if not NAME.fullmatch(grant.name):
        raise Refused("a name has lower-case letters, digits and hyphens, a letter first, at most 63")
    if known is None:
        if grant.role == "revoked":
            raise Refused(f"client {grant.name} is not registered")
        if twin := [client.name for client in access.clients if client.public_key == grant.public_key]:
            raise Refused(f"client {grant.name} has the key of client {twin[0]}")
    elif known.role == "revoked":
        raise Refused(f"client {grant.name} was revoked and stays so; register another name, with a key of its own")
    elif known.public_key != grant.public_key:
        raise Refused(f"client {grant.name} has another key: revoke it, and register another name with the new one")
    elif known.role == grant.role:
        raise Refused(f"client {grant.name} has role {grant.role} already")


# -------------------------------------------------------------------------------------------------------- verification


class ClientVerifier:
    """A verifier that also knows the clients that were registered later, from the state as it is."""

    def __init__(self, inner: Verifier, key_of: Callable[[str], bytes | None]) -> None:
        self._inner = inner
        self._key_of = key_of
        self._later: dict[str, tuple[bytes, Verifier]] = {}
        """By client: its key, and a verifier that knows it. As many as are registered."""

    def extended(self, keys: Mapping[Principal, bytes]) -> ClientVerifier:
        return ClientVerifier(self._inner.extended(keys), self._key_of)

    def knows(self, signer: Principal) -> bool:
        return self._inner.knows(signer) or (isinstance(signer, str) and self._key_of(signer) is not None)

    def verify(self, signer: Principal, statement: bytes, signature: bytes) -> bool:
        if isinstance(signer, int) or self._inner.knows(signer):
            return self._inner.verify(signer, statement, signature)
        key = self._key_of(signer)
        if key is None:
            return False
        known = self._later.get(signer)
        if known is None or known[0] != key:
            known = self._later[signer] = key, self._inner.extended({signer: key})
        return known[1].verify(signer, statement, signature)
