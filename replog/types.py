"""Words and messages that every protocol and both worlds share.

Here: identities, time, the client's request as the bytes it came in, and the messages that pass between a client and
a replica. Not here: anything that a protocol says between its replicas (`pbft.messages`, `raft.messages`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Final

import msgspec

from replog.codec import DIGEST_BYTES, BadMessage, Domain, digest_of

NodeId = int
"""A replica: 0 .. n-1, its place in the configuration."""
ClientId = str
"""A client: the name under which its key is registered."""
Principal = NodeId | ClientId
"""Whoever can hold a key."""
Micros = int
"""Time in integer microseconds: monotonic unless said otherwise."""
Digest = bytes
"""blake2b, 32 bytes."""

NOBODY: Final[NodeId] = -1
"""The leader hint of a replica that knows none."""

U63 = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""A bounded counter on the wire: nothing that a peer says can overflow or outgrow it (HAZARDS P12)."""
WireDigest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
WireNode = Annotated[int, msgspec.Meta(ge=-1, le=1023)]
WireName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]

REQUEST_BYTES_MAX: Final = 1024 * 1024
"""The largest request that a cluster takes, unless its option `request_bytes_max` says otherwise."""
REQUEST_OPERATIONS_MAX: Final = 65_536

READ_ONLY: Final = 1
"""Flag of a request in which every operation only reads. A request is read-only as a whole or not at all."""


MEMBERSHIP: Final = 2
"""Flag of a request whose one operation is a signed change of the members (`replog.membership`). Never with
READ_ONLY."""


ACCESS: Final = 4
"""Flag of a request whose one operation is a change of who the clients are (`replog.access`); with READ_ONLY it asks
who they are."""


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of whatever crosses a link. Subclasses give a short `tag`."""


# --------------------------------------------------------------------------------------------------- the request


class RequestBody(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a client signs. `operations` stays one opaque run of bytes until it is executed.

    `timestamp` is positive; identity of a request is (client, timestamp), never a hash (RULES-PBFT, client sessions).
    `low`: the client has its answers for all timestamps up to this one and will never ask for them again.
    `replier`: the replica that is to answer with the results in full, the others may send their digest; NOBODY: all
    answer in full. [CL99 5.1]
    """

    client: WireName
    timestamp: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    low: U63
    flags: Annotated[int, msgspec.Meta(ge=0, le=READ_ONLY | MEMBERSHIP | ACCESS)]
    count: Annotated[int, msgspec.Meta(ge=1, le=REQUEST_OPERATIONS_MAX)]
    operations: bytes
    replier: WireNode = NOBODY


class _Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False):
    body: bytes
    auth: bytes


_encode = msgspec.msgpack.Encoder().encode
_open_envelope = msgspec.msgpack.Decoder(_Envelope).decode
_open_body = msgspec.msgpack.Decoder(RequestBody).decode
_open_operations = msgspec.msgpack.Decoder(list[bytes]).decode


class Request:
    """A client's signed send of one or more operations: the unit of ordering, kept as the bytes that came.

    `raw` is what is hashed, logged, sent on and stored; everything else is read from it once. Nothing here is
    verified: see `statement` and the verifier that a core is handed.
    """

    __slots__ = (
        "auth",
        "body",
        "client",
        "count",
        "digest",
        "flags",
        "low",
        "raw",
        "replier",
        "size",
        "timestamp",
        "_operations",
    )

    def __init__(self, raw: bytes) -> None:
        """Read `raw`. Raises BadMessage if it is not an encoded request."""
        try:
            envelope = _open_envelope(raw)
            body = _open_body(envelope.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadMessage(f"request: {error}") from None
        if _encode(envelope) != raw or _encode(body) != envelope.body:
            # Else whoever passes it on could give one signed request many digests (HAZARDS P23, P30).
            raise BadMessage("request: not in its canonical encoding")
        if body.low >= body.timestamp:
            raise BadMessage(f"request: low {body.low} is not below timestamp {body.timestamp}")
        self.raw: bytes = raw
        self.body: bytes = envelope.body
        self.auth: bytes = envelope.auth
        self.digest: Digest = digest_of(raw)
        self.client: ClientId = body.client
        self.timestamp: int = body.timestamp
        self.low: int = body.low
        self.flags: int = body.flags
        self.replier: NodeId = body.replier
        self.count: int = body.count
        self.size: int = len(raw)
        self._operations: bytes = body.operations

    @classmethod
    def make(
        cls,
        sign: Any,
        domain: Domain,
        client: ClientId,
        timestamp: int,
        low: int,
        operations: list[bytes],
        flags: int = 0,
        replier: NodeId = NOBODY,
    ) -> Request:
        """Build and sign a request. `sign(statement) -> bytes` is a `replog.keys.Signer.sign`."""
        count = len(operations)
        body = _encode(RequestBody(client, timestamp, low, flags, count, _encode(operations), replier))
        return cls(_encode(_Envelope(body, sign(domain.statement("request", body)))))

    def signed_anew(self, sign: Any, domain: Domain) -> Request:
        """The same request under other keys (MACs)."""
        return Request(_encode(_Envelope(self.body, sign(self.statement(domain)))))

    def statement(self, domain: Domain) -> bytes:
        """The bytes under the client's signature: cluster, type, body; no epoch, to survive a membership change."""
        return domain.statement("request", self.body)

    @property
    def read_only(self) -> bool:
        return bool(self.flags & READ_ONLY)

    @property
    def changes_members(self) -> bool:
        return bool(self.flags & MEMBERSHIP)

    @property
    def is_about_access(self) -> bool:
        return bool(self.flags & ACCESS)

    @property
    def identity(self) -> tuple[ClientId, int]:
        return (self.client, self.timestamp)

    def operations(self) -> list[bytes] | None:
        """The operations, decoded now; None if they are not `count` byte strings (the whole request is malformed)."""
        try:
            operations = _open_operations(self._operations)
        except msgspec.MsgspecError:
            return None
        return operations if len(operations) == self.count else None

    def __repr__(self) -> str:
        return f"Request({self.client}#{self.timestamp}, {self.count} operations, {self.digest.hex()[:8]})"


# ----------------------------------------------------------------------------------- between a client and a replica


class Submit(Message, frozen=True, tag="S"):
    """Client to replica, and replica to replica when one forwards: the request as it was signed."""

    request: bytes


class Read(Message, frozen=True, tag="Z"):
    """Client to replica: a read-only request to be answered at once, by the stricter rule, without being ordered.
    [CL99 5.1]

    `stale`: an old state will do, as far as the protocol offers that; where it does not, the read is like any other."""

    request: bytes
    stale: bool = False


class Answer(IntEnum):
    """What a Reply says about the request."""

    DONE = 0  # executed: `results` holds index and results
    REDIRECT = 1  # not the leader: ask `leader`
    OVERLOADED = 2  # refused before it was ordered: try later
    REFUSED = 3  # will never be ordered here (bad signature, unknown client, session closed): `results` is UTF-8 text
    TENTATIVE = 4  # executed before it is decided: final if a quorum says so [CL99 5.1]
    READ = 5  # read at once, without a place in the log: a result if a quorum says so [CL99 5.1]


class Reply(Message, frozen=True, tag="R"):
    """Replica to client. Two replies agree when timestamp and results are the same bytes. [CL99 4.1]

    `digested`: `results` is the digest of the results; the request's `replier` sends them in full. [CL99 5.1]
    `epoch`: of the configuration that the replica works in. What is answered without being decided rests on a quorum of
    one configuration.
    """

    timestamp: U63
    answer: Annotated[int, msgspec.Meta(ge=0, le=5)]
    results: bytes
    view: U63
    leader: WireNode
    digested: bool = False
    epoch: U63 = 0


class KeyRequest(Message, frozen=True, tag="Q"):
    """Client to replica: tell me the session key for requests to you. The link says who asks. [CL99 5.2]"""


class SessionKey(Message, frozen=True, tag="K"):
    """Replica to client: MACs for me are made with this key from now on. Only ever sent over an encrypted link."""

    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class LogRequest(Message, frozen=True, tag="L"):
    """Client to replica: committed entries from `first` on, at most `count`."""

    token: U63
    first: U63
    count: Annotated[int, msgspec.Meta(ge=1, le=1024)]


class LogEntry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One consensus instance: index, agreed time (us since 1970), requests in order ([] is a null one)."""

    index: U63
    time: U63
    requests: list[bytes]


class LogReply(Message, frozen=True, tag="M"):
    """Replica to client: its own word about its log. `first` and `last` bound what it still holds."""

    token: U63
    first: U63
    last: U63
    entries: list[LogEntry]


class StatusRequest(Message, frozen=True, tag="U"):
    token: U63


class Status(msgspec.Struct, frozen=True):
    """What one replica says of itself.

    `index`: last applied; `stable`: last index covered by a checkpoint that is stable (PBFT) or a snapshot (Raft);
    `reason`: why the current view or term began, for a person; `detail`: protocol-specific counters.
    """

    node: int
    protocol: str
    role: (
        str  # primary | backup (PBFT), leader | follower | candidate (Raft), with "changing view", "fetching state" ...
    )
    view: int  # view or term
    leader: int
    index: int
    stable: int
    in_sync: bool
    reason: str = ""
    detail: dict[str, int | str] = {}


class StatusReply(Message, frozen=True, tag="V"):
    token: U63
    status: bytes  # msgpack of Status: a map, so that fields may be added


COMMON_MESSAGES: Final = (Submit, Read, Reply, KeyRequest, SessionKey, LogRequest, LogReply, StatusRequest, StatusReply)


# ---------------------------------------------------------------------------------------------- results of a request


class Results(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What `Reply.results` encodes when DONE: the log index of the request, and one encoded Outcome an operation.

    These exact bytes are what clients compare and what sessions cache: they hold no view, replica or mark.
    """

    index: U63
    outcomes: list[bytes]


encode_results = _encode
decode_results = msgspec.msgpack.Decoder(Results).decode
encode_status = _encode
_decode_status = msgspec.msgpack.Decoder(Status).decode


def decode_status(data: bytes) -> Status:
    """What a replica says of itself. Raises msgspec.MsgspecError, whatever the bytes."""
    try:
        return _decode_status(data)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None
