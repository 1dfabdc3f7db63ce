"""Who the replicas are: configurations, the signed commands that change them, and the chain that proves each.

Here: plain values and rules, the same on every replica and client. Not here: when a replica turns from one epoch to
the next (`pbft.epochs`), where members listen and how they are dialled (`replog.live`).

A configuration holds from its seq `first` on. A change that is executed at seq c makes the next configuration, which
holds from the seq after the boundary; until then no further change is taken. The record of all this is one record of
the replicated state, so whoever is shown a certified checkpoint at the boundary, and the Merkle path to the record in
it, knows the next configuration. From the first configuration, which is given, such links lead to the present one.

Where members change by joint consensus (Raft) no boundary can be known before: the next configuration is OPEN until the
entry that makes it, or gives it up, is applied. Nothing is proved there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from replog import merkle
from replog.codec import DIGEST_BYTES, Domain
from replog.keys import PUBLIC_KEY_BYTES, Verifier
from replog.quorum import byzantine_quorum
from replog.types import U63, Digest, Message, Micros, NodeId, Principal

ADMIN: Final[Principal] = "@admin"
"""Whose key signs changes. No client can have this name: clients' names begin with a letter."""
RECORD_KEY: Final = b"\x04"
"""Of the record in the replicated state (see `replog.executor`)."""
EPOCHS_MAX: Final = 256
"""The last epoch that a cluster reaches. Links are kept for ever, so there must be an end."""
IDS_MAX: Final = 1024
"""Ids are never used twice, and lie below this."""
RECORD_BYTES_MAX: Final = 60 * 1024
"""Below `merkle.CHUNK_BYTES`: the record is always of one piece. Room for some 500 members."""
LINK_BYTES_MAX: Final = 4 * 1024 * 1024
OPEN: Final = 2**62
"""`first` of a configuration of which it is not decided when it begins, or whether it does."""
JOINT_MAX: Final = 128
"""Members at once, where they change by joint consensus."""
LINKS_MAX: Final = 16
"""Links in one message; who needs more asks again."""

VALID_US: Final = 3_600_000_000
"""For how long after it was signed a change may be executed, if nothing else is said: an hour."""
VALID_MAX_US: Final = 24 * VALID_US

_encode = msgspec.msgpack.Encoder().encode
_Id = Annotated[int, msgspec.Meta(ge=0, lt=IDS_MAX)]


class Refused(ValueError):
    """A change that is not made, and the rule that it breaks."""


class Member(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One replica: its id, which no other ever has, where it listens, its public identity key."""

    id: _Id
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    public_key: Annotated[bytes, msgspec.Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]


class Configuration(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Invariants: members are sorted by id, each id, key and address once; `next_id` is larger than any id so far;
    learners are members."""

    epoch: Annotated[int, msgspec.Meta(ge=0, le=EPOCHS_MAX)]
    first: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    """The seq from which on it holds."""
    f: Annotated[int, msgspec.Meta(ge=0, lt=IDS_MAX)]
    members: tuple[Member, ...]
    next_id: Annotated[int, msgspec.Meta(ge=0, le=IDS_MAX)]
    """Of the next replica that joins: no id is ever used twice."""
    learners: tuple[_Id, ...] = ()
    """Those who follow and do not vote (Raft)."""

    @property
    def n(self) -> int:
        """Of those who vote."""
        return len(self.members) - len(self.learners)

    @property
    def is_open(self) -> bool:
        """Whether it is not decided yet when it begins, or whether it does."""
        return self.first >= OPEN

    @property
    def ids(self) -> tuple[NodeId, ...]:
        return tuple(member.id for member in self.members)

    @property
    def voters(self) -> tuple[NodeId, ...]:
        return tuple(node for node in self.ids if node not in self.learners)

    def keys(self) -> dict[Principal, bytes]:
        return {member.id: member.public_key for member in self.members}

    def member(self, node: NodeId) -> Member | None:
        return next((member for member in self.members if member.id == node), None)


def genesis(f: int, members: Iterable[Member]) -> Configuration:
    """The first configuration of a cluster."""
    ordered = tuple(sorted(members, key=lambda member: member.id))
    return Configuration(0, 1, f, ordered, ordered[-1].id + 1)


def is_first(configuration: Configuration) -> bool:
    """Whether it has the form of a first one: whoever shows links may call a later one so."""
    ids = configuration.ids
    return ids == tuple(range(len(ids))) and configuration == Configuration(
        0, 1, configuration.f, configuration.members, len(ids)
    )


@dataclass(frozen=True)
class Electorate:
    """Who votes in one epoch, and the seq and state that it begins with: what certificates of it rest on."""

    ids: Sequence[NodeId]
    f: int
    begins: tuple[int, Digest] = (0, bytes(DIGEST_BYTES))


# ------------------------------------------------------------------------------------------------------------ changes


class Change(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What becomes of the configuration of `epoch`: these replicas leave, those come, f is as said, and `learners` are
    those who do not vote from then on.

    To replace a replica is to remove one and add another. New ids are the next ones that were never used. Whoever has
    heard a change that came to nothing can bring it again while it is valid, as the present epoch lasts.
    """

    epoch: Annotated[int, msgspec.Meta(ge=0, le=EPOCHS_MAX)]
    f: Annotated[int, msgspec.Meta(ge=0, lt=IDS_MAX)]
    remove: tuple[_Id, ...] = ()
    add: tuple[Member, ...] = ()
    learners: tuple[_Id, ...] = ()
    until: Annotated[Micros, msgspec.Meta(ge=0, le=2**62)] = 0
    """The last agreed time at which it is executed, in microseconds since 1970."""


class SignedChange(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An operation of a request with the flag MEMBERSHIP."""

    change: Change
    signature: bytes


_decode_signed = msgspec.msgpack.Decoder(SignedChange).decode


def statement_of(cluster: str, change: Change) -> bytes:
    """The bytes under the administrator's signature: cluster, epoch, change."""
    return Domain(cluster, change.epoch).statement("membership", change)


def signed(sign: Callable[[bytes], bytes], cluster: str, change: Change) -> bytes:
    """The operation that makes this change. `sign`: the administrator's."""
    return _encode(SignedChange(change, sign(statement_of(cluster, change))))


@dataclass(frozen=True)
class MembershipRules:
    """What the execution of changes rests on: the same on every replica.

    `verifier` knows ADMIN. `boundary`: the last seq of a configuration that is changed at a given seq.
    `check_size(n, f)` raises ValueError where the protocol cannot run (n: of those who vote).
    """

    genesis: Configuration
    cluster: str
    verifier: Verifier
    boundary: Callable[[int], int]
    check_size: Callable[[int, int], object] = byzantine_quorum

    @property
    def joint(self) -> bool:
        """Whether any change may be made, learners are known, and a change begins when the protocol says so."""
        return self.boundary(0) + 1 >= OPEN

    @property
    def beginning(self) -> Membership:
        """The record before any change; it is not written to the state."""
        return Membership(self.genesis, None)


class Membership(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The record in the replicated state: the configuration that held when it was last written, and the next one.

    Invariant: `following`, if there is one, is of the next epoch.
    """

    held: Configuration
    following: Configuration | None

    def at(self, seq: int) -> Configuration:
        """The configuration that holds at `seq`, from `held.first` on."""
        following = self.following
        return self.held if following is None or seq < following.first else following

    def boundary(self, epoch: int) -> int | None:
        """The last seq of the configuration of `epoch`; None if its end, or that epoch, is not in this record."""
        for configuration in (self.held, self.following):
            if configuration is not None and configuration.epoch == epoch + 1:
                return configuration.first - 1
        return None

    @property
    def configurations(self) -> tuple[Configuration, ...]:
        return (self.held,) if self.following is None else (self.held, self.following)

    @property
    def open(self) -> Configuration | None:
        """The change that is pending where nobody knows when it begins."""
        return self.following if self.following is not None and self.following.is_open else None


_decode_membership = msgspec.msgpack.Decoder(Membership).decode
encode_membership = _encode


def decode_membership(data: bytes) -> Membership:
    """Raises msgspec.MsgspecError, whatever the bytes."""
    try:
        record = _decode_membership(data)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None
    if record.following is not None and record.following.epoch != record.held.epoch + 1:
        raise msgspec.ValidationError("the next configuration is not of the next epoch")
    return record


def changed(record: Membership, seq: int, now: Micros, operation: bytes, rules: MembershipRules) -> Membership:
    """The record after this operation, executed at `seq` and the agreed time `now`. Raises Refused, in words that are
    the same everywhere."""
    change = _verified(operation, rules)
    _check_valid(change, now)
    held = record.at(seq)
    if record.following is not None and held is record.held:
        raise Refused(f"a change is pending: {_pending(record.following)}; wait for it")
    if change.epoch != held.epoch:
        raise Refused(f"the change is for epoch {change.epoch}, the present one is {held.epoch}")
    following = _next(held, change, rules.boundary(seq) + 1)
    _check_size(held, following, change, rules)
    after = Membership(held, following)
    size = len(_encode(after))
    if size > RECORD_BYTES_MAX:
        raise Refused(f"the members take {size} bytes in the replicated state, at most {RECORD_BYTES_MAX} fit")
    return after


def concluded(record: Membership, index: int, made: bool) -> Membership:
    """The record after `index`, at which an open change was made or given up. Given up it is an epoch too, with the
    members as they were: so everybody learns of it, and no id is used twice."""
    following, held = record.open, record.held
    if following is None:
        return record
    after = following if made else msgspec.structs.replace(held, epoch=following.epoch, next_id=following.next_id)
    return Membership(held, msgspec.structs.replace(after, first=index + 1))


def _pending(following: Configuration) -> str:
    if not following.is_open:
        return f"epoch {following.epoch} begins after index {following.first - 1}"
    return f"epoch {following.epoch} is to have members {', '.join(map(str, following.ids))}"


def _verified(operation: bytes, rules: MembershipRules) -> Change:
    """In its one encoding: how deep a decoder gets into what lies behind depends on the stack of the replica."""
    try:
        signed_change = _decode_signed(operation)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        signed_change = None
    if signed_change is None or _encode(signed_change) != operation:
        raise Refused("this is no signed change of the members")
    change = signed_change.change
    if not rules.verifier.knows(ADMIN):
        raise Refused("this cluster has no administrator's key, so its members cannot be changed")
    if not rules.verifier.verify(ADMIN, statement_of(rules.cluster, change), signed_change.signature):
        raise Refused("the signature is not the administrator's")
    return change


def _check_valid(change: Change, now: Micros) -> None:
    check_until(change.until, now)


def check_until(until: Micros, now: Micros) -> None:
    """Raises Refused for what was signed too long ago, or for too long."""
    left = until - now
    if left < 0:
        raise Refused(f"the change expired {-(left // 1_000_000)} s ago by the cluster's clock; make it anew")
    if left > VALID_MAX_US:
        raise Refused(
            f"the change is valid for {-(-left // 1_000_000)} s from now by the cluster's clock, at most "
            f"{VALID_MAX_US // 1_000_000} s are; compare the clock where it was signed"
        )


def _next(held: Configuration, change: Change, first: int) -> Configuration:
    if held.epoch == EPOCHS_MAX:
        raise Refused(f"epoch {held.epoch} is the last: a cluster changes at most {EPOCHS_MAX} times")
    if (change.f, change.learners) == (held.f, held.learners) and not change.remove and not change.add:
        raise Refused("the change changes nothing")
    unknown = sorted(set(change.remove) - set(held.ids))
    if unknown or len(set(change.remove)) != len(change.remove):
        raise Refused(f"remove = {list(change.remove)}: must be members, each once; they are {list(held.ids)}")
    new, due = [member.id for member in change.add], range(held.next_id, held.next_id + len(change.add))
    if due.stop > IDS_MAX:
        raise Refused(f"add = {new}: {IDS_MAX - held.next_id} ids are left, none is used twice")
    if new != list(due):
        raise Refused(f"new ids = {new}: must be {held.next_id} and up, none is used twice")
    members = tuple(member for member in held.members if member.id not in change.remove) + change.add
    _check_distinct(held, change.add)
    following = Configuration(held.epoch + 1, first, change.f, members, due.stop, change.learners)
    _check_learners(following)
    return following


def _check_learners(following: Configuration) -> None:
    ids, learners = following.ids, following.learners
    if list(learners) != sorted(set(learners)) or not set(learners) <= set(ids):
        raise Refused(f"learners = {list(learners)}: must be members, each once and in order; they are {list(ids)}")
    if not following.is_open and learners:
        raise Refused(f"learners = {list(learners)}: every member of this protocol votes")
    if following.is_open and len(ids) > JOINT_MAX:
        raise Refused(f"{len(ids)} members: there are at most {JOINT_MAX}")


def _check_distinct(held: Configuration, add: Sequence[Member]) -> None:
    """No newcomer has a key or address of another member, of one that leaves neither: both run for a while."""
    known = list(held.members)
    for member in add:
        for other in known:
            if member.public_key == other.public_key:
                raise Refused(f"member {member.id} has the key of member {other.id}")
            if (member.host, member.port) == (other.host, other.port):
                raise Refused(f"member {member.id} has the address of member {other.id}, {other.host}:{other.port}")
        known.append(member)


def _check_size(held: Configuration, following: Configuration, change: Change, rules: MembershipRules) -> None:
    try:
        rules.check_size(following.n, following.f)
    except ValueError as error:
        raise Refused(str(error)) from None
    if rules.joint:
        return
    most = removable(held, following.f)
    if most < 0:
        raise Refused(
            f"f = {following.f}: of n = {held.n}, f = {held.f} one change goes to f = {most + following.f} "
            "at most, so that a correct replica has the state at the boundary"
        )
    if len(change.remove) > most:
        raise Refused(
            f"remove = {list(change.remove)}: one change of n = {held.n}, f = {held.f} to f = {following.f} removes at "
            f"most {most}, so that a correct replica that has the state at the boundary stays"
        )


def removable(held: Configuration, f: int) -> int:
    """How many may leave at once: of the quorum that certifies the boundary as many may lie as either epoch stands, and
    one more must stay. Below 0: so many faults are too many for what that quorum holds."""
    return byzantine_quorum(held.n, held.f) - max(held.f, f) - 1


# -------------------------------------------------------------------------------------------------------------- chain


class Link(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Proof of the next configuration, for whoever knows one: the protocol's certificate (encoded) of the state at the
    boundary, and the Merkle path from its digest to the record."""

    certificate: Annotated[bytes, msgspec.Meta(max_length=LINK_BYTES_MAX)]
    path: Annotated[tuple[bytes, ...], msgspec.Meta(min_length=1, max_length=merkle.DEPTH_MAX + 1)]


Certified = Callable[[Configuration, bytes], tuple[int, Digest]]
"""What a certificate proves under the keys and quorum of a configuration: a seq and the digest of the state there.
Raises ValueError (BadMessage too) if it proves nothing."""


def follow(known: Configuration, link: Link, certified: Certified) -> Configuration:
    """The configuration after `known`. Raises ValueError, naming the flaw, unless the link proves it."""
    seq, digest = certified(known, link.certificate)
    if len(digest) != DIGEST_BYTES:
        raise ValueError("a certificate without a digest")
    data = merkle.proved(digest, RECORD_KEY, link.path)
    if data is None:
        raise ValueError(f"the state at seq {seq} has no record of members")
    try:
        record = decode_membership(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the record of members at seq {seq}: {error}") from None
    following = record.following
    if record.held != known or following is None or following.first != seq + 1:
        raise ValueError(f"seq {seq} is not the boundary of epoch {known.epoch}")
    return following


class ConfigurationQuestion(Message, frozen=True, tag="A"):
    """Which configurations come after that of `epoch`?"""

    epoch: U63


class ConfigurationAnswer(Message, frozen=True, tag="B"):
    """The links after `epoch`, in order, the first LINKS_MAX of them. Where nothing is signed they are the word of
    whoever answers."""

    epoch: U63
    links: Annotated[tuple[Link, ...], msgspec.Meta(max_length=LINKS_MAX)] = ()
    claimed: Annotated[tuple[Configuration, ...], msgspec.Meta(max_length=1)] = ()
    """The present one, where the word of one replica is enough (Raft)."""

    def link(self, epoch: int) -> Link | None:
        """The one that leads on from `epoch`."""
        place = epoch - self.epoch
        return self.links[place] if 0 <= place < len(self.links) else None


MEMBERSHIP_MESSAGES: Final = (ConfigurationQuestion, ConfigurationAnswer)
