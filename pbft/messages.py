"""Everything that replicas say to each other and write down, and what of it is signed.

A certificate states view, seq and digest once and then lists who signed exactly that: votes for different things cannot
be put into one. Lists are sorted by replica or seq, so that one meaning has one encoding (HAZARDS P30). Every integer,
name and list is bounded by its type (HAZARDS P12, X6). Not here: who checks what (`pbft.notary`).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec

from replog.codec import Codec, digest_of
from replog.membership import EPOCHS_MAX, MEMBERSHIP_MESSAGES, Link
from replog.types import COMMON_MESSAGES, U63, Digest, Message, Request, Submit, WireDigest, WireName, WireNode

Signature = Annotated[bytes, msgspec.Meta(max_length=64)]
Replica = Annotated[int, msgspec.Meta(ge=0, le=1023)]
Raws = Annotated[list[bytes], msgspec.Meta(max_length=65_536)]
Flags = Annotated[bytes, msgspec.Meta(max_length=8_192)]
Names = Annotated[list[WireName], msgspec.Meta(max_length=64)]
Hint = Annotated[bytes, msgspec.Meta(max_length=33)]

_encode = msgspec.msgpack.Encoder().encode


class Vote(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One replica's signature under what the certificate around it states."""

    replica: Replica
    signature: Signature


class Proposal(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A pre-prepare inside a NEW-VIEW, which states the view."""

    seq: U63
    digest: WireDigest
    signature: Signature


Votes = Annotated[list[Vote], msgspec.Meta(max_length=1024)]

# -------------------------------------------------------------------------------------------------- normal case


class PrePrepare(Message, tag="pp", frozen=True):
    """The primary gives `digest` the place (view, seq). `time` and `requests` travel beside the signed part: their
    digest is signed. Without them it is still a signed statement, as evidence needs it. [CL99 4.2]"""

    view: U63
    seq: U63
    digest: WireDigest
    signature: Signature
    time: U63
    requests: Raws


class Prepare(Message, tag="pr", frozen=True):
    """A backup has accepted the pre-prepare, and the body is on its disk. [CL99 4.2]"""

    view: U63
    seq: U63
    digest: WireDigest
    replica: Replica
    signature: Signature


class Commit(Message, tag="pc", frozen=True):
    """A replica has prepared, and the certificate of that is on its disk. [CL99 4.2]"""

    view: U63
    seq: U63
    digest: WireDigest
    replica: Replica
    signature: Signature


class PreparedProof(Message, tag="pP", frozen=True):
    """The primary's signature under the pre-prepare, and `quorum - 1` of distinct backups under PREPARE. [CL99 4.4]"""

    view: U63
    seq: U63
    digest: WireDigest
    signature: Signature
    votes: Votes


class CommitProof(Message, tag="pC", frozen=True):
    """A quorum's signatures under COMMIT. Whoever holds it and the body executes. [deviates: CL99 would wait for a
    checkpoint when an equivocating primary made this replica accept something else]"""

    view: U63
    seq: U63
    digest: WireDigest
    votes: Votes


class Committed(Message, tag="pD", frozen=True):
    """A decided batch, whole: for whoever missed it. The digest of the body is the one in the proof."""

    proof: CommitProof
    time: U63
    requests: Raws


# ----------------------------------------------------------------------------------------- checkpoints, view change


class Checkpoint(Message, tag="pk", frozen=True):
    """The state after `seq` has this digest. [CL99 4.3]"""

    seq: U63
    digest: WireDigest
    replica: Replica
    signature: Signature


class CheckpointProof(Message, tag="pK", frozen=True):
    """A quorum's signatures under CHECKPOINT. Seq 0 needs none: it is the state everybody begins with."""

    seq: U63
    digest: WireDigest
    votes: Votes


GENESIS: Final = CheckpointProof(0, bytes(32), [])


class ViewChange(Message, tag="pv", frozen=True):
    """`replica` takes no part in views below `view` any more. `checkpoint` is the latest proof it knows, `prepared` has
    for each later seq the certificate of the highest view in which it prepared, by growing seq. [CL99 4.4]"""

    view: U63
    checkpoint: CheckpointProof
    prepared: Annotated[list[PreparedProof], msgspec.Meta(max_length=8_192)]
    replica: Replica
    signature: Signature


class NewView(Message, tag="pn", frozen=True):
    """`view` begins: V, a quorum of view-changes by growing replica, and O, what follows from them. [CL99 4.4]"""

    view: U63
    view_changes: Annotated[list[ViewChange], msgspec.Meta(max_length=1024)]
    pre_prepares: Annotated[list[Proposal], msgspec.Meta(max_length=8_192)]
    signature: Signature


# ------------------------------------------------------------------------------------------------- accountability


class Testimony(Message, tag="pT", frozen=True):
    """Signed statements of others that do not fit what the sender has accepted, and what it has: whoever heard another
    face of the same node has evidence then. Pre-prepares come without requests. Also a view-change that the new view
    does not rest on."""

    statements: Annotated[list[PrePrepare | Prepare | Commit | Checkpoint | ViewChange], msgspec.Meta(max_length=64)]


# ------------------------------------------------------------- view change without signatures [CL02 view changes]


class Claim(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """(seq, digest): of a state, or of a proposal."""

    seq: U63
    digest: WireDigest


class Placed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`digest` had the place `seq` in `view`."""

    seq: U63
    digest: WireDigest
    view: U63


class Voted(Message, tag="pQ", frozen=True):
    """On disk only: Q at a cut of the log, as in a MacViewChange. What was voted for in an earlier view may stand
    nowhere else. [CL02]"""

    places: Annotated[list[Placed], msgspec.Meta(max_length=16_384)]


class MacViewChange(Message, tag="pm", frozen=True):
    """VIEW-CHANGE under MACs: what the sender says of itself, proved by nothing. [CL02 view changes]

    `stable` is its last stable checkpoint (h), `checkpoints` (C) those that it holds from there on, by growing seq.
    `prepared` (P): for each seq above h the digest of the highest view in which it prepared. `voted` (Q): for each seq
    and digest the highest view in which it sent PREPARE for it, or proposed it; by growing (seq, digest).
    """

    view: U63
    stable: U63
    checkpoints: Annotated[list[Claim], msgspec.Meta(max_length=1024)]
    prepared: Annotated[list[Placed], msgspec.Meta(max_length=2_048)]
    voted: Annotated[list[Placed], msgspec.Meta(max_length=16_384)]
    replica: Replica


class ViewChangeAck(Message, tag="pa", frozen=True):
    """To the primary of `view`: the sender has heard from `replica` itself a view-change with this digest. [CL02]"""

    view: U63
    replica: Replica
    digest: WireDigest


class Heard(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The view-change of `replica` that has this digest."""

    replica: Replica
    digest: WireDigest


class MacNewView(Message, tag="pM", frozen=True):
    """NEW-VIEW under MACs: V names view-changes by sender and digest; checkpoint and proposals follow from them.
    [CL02 view changes]"""

    view: U63
    view_changes: Annotated[list[Heard], msgspec.Meta(max_length=1024)]
    checkpoint: Claim
    pre_prepares: Annotated[list[Proposal], msgspec.Meta(max_length=2_048)]


class FetchViewChange(Message, tag="pF", frozen=True):
    """The sender lacks a view-change that a NEW-VIEW of `view` rests on. [CL02]"""

    view: U63
    replica: Replica
    digest: WireDigest


class ViewChangeData(Message, tag="pV", frozen=True):
    """The sender has heard this view-change from its replica itself. Counts for a weak quorum of such words. [CL02]"""

    message: MacViewChange


# -------------------------------------------------------------------------------------------- catching up, recovery


class Begun(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A NEW-VIEW that somebody has: its view, and the first bytes of its digest."""

    view: U63
    mark: Annotated[bytes, msgspec.Meta(max_length=16)]


class Status(Message, tag="ps", frozen=True):
    """Where the sender stands, so that others send what it lacks. Unsigned: it asks and proves nothing. [CL02 status]

    `slots` has a byte for each seq from `executed + 1` on: HAS_BODY, HAS_PREPARED, HAS_COMMITTED (with its body).
    `stalled`: nothing was executed for a while, so what is missing was lost rather than under way.
    `begun`: NEW-VIEWs that the sender has, so that whoever has another one for such a view shows it.
    """

    view: U63
    active: bool
    stable: U63
    executed: U63
    stalled: bool
    slots: Flags
    begun: Annotated[list[Begun], msgspec.Meta(max_length=8)]


HAS_BODY, HAS_PREPARED, HAS_COMMITTED = 1, 2, 4


class FetchBatch(Message, tag="pf", frozen=True):
    """The sender lacks the body with this digest. [CL99 4.4]"""

    seq: U63
    digest: WireDigest


class BatchData(Message, tag="pb", frozen=True):
    """A body; its digest is what it hashes to."""

    seq: U63
    time: U63
    requests: Raws


class FetchPart(Message, tag="pg", frozen=True):
    """The sender wants one part of the state after `seq`. `hint`: what it has of it, if that helps. [CL99 4.4, CL02
    partition tree]"""

    seq: U63
    part: U63
    hint: Hint = b""


class PartData(Message, tag="ph", frozen=True):
    """That part, or what differs from the hint, or None: not held here. What the part must hash to is known to whoever
    asked."""

    seq: U63
    part: U63
    data: bytes | None


class Complaint(Message, tag="po", frozen=True):
    """The sender is not content with the primary of this view. [Clement09] `clients`: under MACs, those whose requests
    it could not vouch for."""

    view: U63
    clients: Names = msgspec.field(default_factory=list)


# ----------------------------------------------------------------------------------- proactive recovery [CL02]


class Refreshing(Message, tag="pR", frozen=True):
    """The sender asks for leave to be refreshed and how far the others are; later, which checkpoint it needs (`point`);
    in the end that it is `over`. Answers repeat the `nonce`. [CL02 QUERY-STABLE, recovery request]"""

    nonce: U63
    point: U63
    over: bool


class Standing(Message, tag="pA", frozen=True):
    """Whether the sender gives leave, or to whom it has; where it stands itself: the last checkpoint that it took and
    the highest seq that it prepared. [CL02 REPLY-STABLE]"""

    nonce: U63
    granted: bool
    holder: WireNode
    in_sync: bool
    view: U63
    taken: U63
    reached: U63


class Holder(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`node` was given leave for the refresh with this nonce."""

    node: Replica
    nonce: U63


class Leaves(Message, tag="pL", frozen=True):
    """On disk only: all leave that is given; the last one counts."""

    holders: Annotated[list[Holder], msgspec.Meta(max_length=1024)]


class Verdict(Message, tag="pX", frozen=True):
    """On disk only: of the records before this one those count that lie within what a correct replica could hold then:
    seqs up to `limit`, proofs up to `base`, views up to `view`. It is cut no sooner than they are."""

    limit: U63
    base: U63
    view: U63


# ------------------------------------------------------------------------------------------------------ membership


class Links(Message, tag="pN", frozen=True):
    """On disk only: the links from the first configuration on; the last record counts."""

    links: Annotated[list[Link], msgspec.Meta(max_length=EPOCHS_MAX)]


_ORDERING: Final = (
    PrePrepare,
    Prepare,
    Commit,
    Committed,
    Checkpoint,
    CheckpointProof,
    ViewChange,
    NewView,
    MacViewChange,
    ViewChangeAck,
    MacNewView,
    FetchViewChange,
    ViewChangeData,
    Status,
    FetchBatch,
    BatchData,
)
_BESIDE: Final = (Complaint, Refreshing, Standing, Testimony)
_ON_DISK: Final = (PreparedProof, CommitProof, Voted, Leaves, Verdict)
Inner: Any = functools.reduce(operator.or_, (Submit, *_ORDERING, *_BESIDE, *_ON_DISK))


class InEpoch(Message, tag="pE", frozen=True):
    """Between replicas and on disk: a message or record of the configuration of `epoch`. Those of epoch 0 travel bare,
    so nothing that was said in one epoch counts in another, signed or not (P22)."""

    epoch: Annotated[int, msgspec.Meta(ge=1, le=EPOCHS_MAX)]
    message: Inner


MESSAGES: Final[Codec[Any]] = Codec(
    *COMMON_MESSAGES, *_ORDERING, FetchPart, PartData, *_BESIDE, InEpoch, *MEMBERSHIP_MESSAGES
)
RECORDS: Final[Codec[Any]] = Codec(
    PrePrepare,
    PreparedProof,
    CommitProof,
    Committed,
    BatchData,
    Checkpoint,
    CheckpointProof,
    ViewChange,
    NewView,
    MacViewChange,
    MacNewView,
    Voted,
    Leaves,
    Verdict,
    Links,
    InEpoch,
)

# ------------------------------------------------------------------------------------------------ what is hashed


class Batch:
    """Requests in order under one agreed time: what a digest in the protocol stands for.

    The digest covers the time and each request's own digest, so that proofs need no bodies. [CL99 4.2]
    """

    __slots__ = ("digest", "time", "requests", "raws", "size")

    def __init__(self, time: int, requests: list[Request]) -> None:
        self.time = time
        self.requests = requests
        self.raws = [request.raw for request in requests]
        self.size = sum(map(len, self.raws))
        self.digest: Digest = digest_of(_encode(("batch", time, b"".join([request.digest for request in requests]))))

    @classmethod
    def read(cls, time: int, raws: Iterable[bytes]) -> Batch:
        """From the wire. Raises BadMessage if any of `raws` is no request."""
        return cls(time, [Request(raw) for raw in raws])

    @property
    def operations(self) -> int:
        return sum(request.count for request in self.requests)


NULL: Final = Batch(0, [])
"""The null request: goes through the protocol and does nothing. [CL99 4.4]"""


def prepared_digest(message: ViewChange) -> Digest:
    """What a view-change's signature stands for beside view and sender: both lists, signatures in them included."""
    return digest_of(_encode((message.checkpoint, message.prepared)))


def new_view_digest(message: NewView) -> Digest:
    return digest_of(_encode((message.view_changes, message.pre_prepares)))


def message_digest(message: MacViewChange | MacNewView) -> Digest:
    """What others say of a message that carries no signature."""
    return digest_of(_encode(message))
