"""Signed statements: who said what at which place, and which two of them no correct node says both of.

A place is where a correct node says one thing only. Of a (view, seq) that is one digest, in pre-prepare, prepare and
commit alike: it accepts one pre-prepare there, writes it down before it votes, and commits to what it has prepared
[CL99 4.2] (HAZARDS P16, P17). Here: plain comparison. Not here: signatures, and who remembers what (`pbft.witness`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pbft.messages import (
    Checkpoint,
    CheckpointProof,
    Commit,
    CommitProof,
    NewView,
    Prepare,
    PreparedProof,
    PrePrepare,
    ViewChange,
    Vote,
    new_view_digest,
    prepared_digest,
)
from replog.codec import BadMessage, Domain, digest_of
from replog.types import Digest, Message, NodeId, Principal, Request, Submit

PHASES: Final = (PrePrepare, Prepare, Commit)
HIDES: Final = "hides-prepared"
FLAWED_VIEW_CHANGE: Final = "flawed-view-change"
FLAWED_NEW_VIEW: Final = "flawed-new-view"
MIXED: Final = "two-digests"
TWO: Final[dict[type[Message], str]] = {
    PrePrepare: "two-pre-prepares",
    Prepare: "two-prepares",
    Commit: "two-commits",
    Checkpoint: "two-checkpoints",
    ViewChange: "two-view-changes",
    NewView: "two-new-views",
    Submit: "two-requests",
}
KINDS: Final = (*TWO.values(), MIXED, HIDES, FLAWED_VIEW_CHANGE, FLAWED_NEW_VIEW)
"""All kinds of evidence."""

Place = tuple[str, int, int]
Signed = tuple[str, tuple[int | bytes, ...] | bytes]
"""Kind and fields of what is under a signature."""


def place_of(message: Message) -> Place | None:
    """Where a correct node says only one thing; None: this is no signed statement."""
    if isinstance(message, PHASES):
        return ("phases", message.view, message.seq)
    if isinstance(message, Checkpoint):
        return ("checkpoint", message.seq, 0)
    if isinstance(message, ViewChange):
        return ("view-change", message.view, 0)
    if isinstance(message, NewView):
        return ("new-view", message.view, 0)
    request = _request(message)
    return None if request is None else ("request", request.timestamp, 0)


def what_of(message: Message) -> Digest:
    """What is said at that place."""
    if isinstance(message, (*PHASES, Checkpoint)):
        return message.digest
    if isinstance(message, ViewChange):
        return prepared_digest(message)
    if isinstance(message, NewView):
        return new_view_digest(message)
    request = _request(message)
    return b"" if request is None else digest_of(request.body)


def signed_part(message: Message, signer: Principal) -> tuple[Signed, bytes] | None:
    """What is under the signature of `signer`, and that signature; None: `message` is no statement of that node."""
    if isinstance(message, PrePrepare):
        return ("pre-prepare", (message.view, message.seq, message.digest)), message.signature
    if isinstance(message, NewView):
        return ("new-view", (message.view, new_view_digest(message))), message.signature
    request = _request(message)
    if request is not None:
        return (("request", request.body), request.auth) if request.client == signer else None
    if not isinstance(message, (Prepare, Commit, Checkpoint, ViewChange)) or message.replica != signer:
        return None
    if isinstance(message, Checkpoint):
        return ("checkpoint", (message.seq, message.digest, message.replica)), message.signature
    if isinstance(message, ViewChange):
        return ("view-change", (message.view, message.replica, prepared_digest(message))), message.signature
    kind = "prepare" if isinstance(message, Prepare) else "commit"
    return (kind, (message.view, message.seq, message.digest, message.replica)), message.signature


def statement(domain: Domain, signed: Signed) -> bytes:
    """The bytes under a signature."""
    kind, fields = signed
    return domain.statement(kind, fields)


def contradiction(first: Message, second: Message) -> str:
    """The kind of evidence that two statements of one node are; "" if a correct node may say both."""
    place = place_of(first)
    if place is not None and place == place_of(second) and what_of(first) != what_of(second):
        return TWO[type(first)] if type(first) is type(second) else MIXED
    if isinstance(second, ViewChange) and isinstance(first, (Commit, ViewChange)) and hidden(first, second):
        return HIDES
    return ""


def hidden(first: Commit | ViewChange, later: ViewChange) -> tuple[int, int] | None:
    """(view, seq) that the sender of both had prepared, by `first`, and does not show in `later`.

    A correct replica writes the certificate down before its COMMIT leaves, lets it go only for one of a later view or
    below a proved checkpoint, and shows all that it has. Another digest of that view it never shows, of a later view
    rightly. Votes in older views end with VIEW-CHANGE, so it does not matter which of the two came first. [CL99 4.4]
    """
    if first.view >= later.view:
        return None
    shown = {proof.seq: proof for proof in later.prepared}
    for view, seq, digest in _prepared_by(first):
        proof = shown.get(seq)
        better = proof is not None and (proof.view > view or (proof.view == view and proof.digest == digest))
        if seq > later.checkpoint.seq and not better:
            return view, seq
    return None


def _prepared_by(message: Commit | ViewChange) -> Iterator[tuple[int, int, Digest]]:
    if isinstance(message, Commit):
        yield message.view, message.seq, message.digest
    else:
        yield from ((proof.view, proof.seq, proof.digest) for proof in message.prepared)


def bare(message: Message) -> Message:
    """Without what is not signed: the requests beside a pre-prepare."""
    if isinstance(message, PrePrepare):
        return PrePrepare(message.view, message.seq, message.digest, message.signature, 0, [])
    return message


def parts_of(message: Message, primary: Callable[[int], NodeId]) -> Iterator[tuple[NodeId, Message]]:
    """The statements of others inside a certificate, a view-change or a new-view, each with its signer. `primary`: of
    a view."""
    if isinstance(message, PreparedProof):
        view, seq, digest = message.view, message.seq, message.digest
        yield primary(view), PrePrepare(view, seq, digest, message.signature, 0, [])
        yield from ((vote.replica, Prepare(view, seq, digest, *_of(vote))) for vote in message.votes)
    elif isinstance(message, CommitProof):
        view, seq, digest = message.view, message.seq, message.digest
        yield from ((vote.replica, Commit(view, seq, digest, *_of(vote))) for vote in message.votes)
    elif isinstance(message, CheckpointProof):
        yield from ((vote.replica, Checkpoint(message.seq, message.digest, *_of(vote))) for vote in message.votes)
    elif isinstance(message, ViewChange):
        for proof in (message.checkpoint, *message.prepared):
            yield from parts_of(proof, primary)
    elif isinstance(message, NewView):
        for part in message.view_changes:
            yield part.replica, part
            yield from parts_of(part, primary)
        for item in message.pre_prepares:
            yield primary(message.view), PrePrepare(message.view, item.seq, item.digest, item.signature, 0, [])


def _of(vote: Vote) -> tuple[NodeId, bytes]:
    return vote.replica, vote.signature


def _request(message: Message) -> Request | None:
    if not isinstance(message, Submit):
        return None
    try:
        return Request(message.request)
    except BadMessage:
        return None
