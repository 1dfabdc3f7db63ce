"""After a fork: who must have lied, by one correct replica's archive and the other side's commit certificate. [Sheng21]

Two commit certificates for one seq and different digests prove that more than f replicas lied. In one view both quorums
signed COMMIT there, and share f+1 that signed both. In different views every NEW-VIEW in between rests on a quorum of
VIEW-CHANGEs that shares f+1 replicas with the lower certificate's quorum: those that do not show what they had
committed to have lied, or those lied that prepared something else before. So all that is signed about this seq is put
side by side; what no correct node says both of is evidence, one piece for each culprit, checked like any other.

[Sheng21]: Sheng, Wang, Nayak, Kannan, Viswanath, BFT Protocol Forensics, CCS'21.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pbft.evidence import Given, NotProven, convict, examiner
from pbft.messages import Checkpoint, CheckpointProof, Commit, CommitProof, InEpoch, NewView, ViewChange
from pbft.notary import Notary
from pbft.statements import PHASES, bare, contradiction, parts_of, place_of, signed_part
from replog.codec import Domain
from replog.core import Accuse
from replog.keys import Verifier
from replog.types import Message, NodeId

RANGES_MAX: Final = 16
"""Named one by one; a replica that fetches states has gaps."""


@dataclass
class Transcript:
    """What one replica has archived. `window`: the seqs and views that it covers."""

    commits: dict[int, list[CommitProof]] = field(default_factory=dict)
    new_views: dict[int, list[NewView]] = field(default_factory=dict)
    checkpoints: list[CheckpointProof] = field(default_factory=list)
    elsewhere: dict[int, int] = field(default_factory=dict)
    """Commit certificates of other epochs: seq and epoch."""

    @classmethod
    def of(cls, records: Iterable[Message], epoch: int = 0) -> Transcript:
        """What of it belongs to this epoch."""
        transcript = cls()
        for record in records:
            worn = record.epoch if isinstance(record, InEpoch) else 0
            record = record.message if isinstance(record, InEpoch) else record
            if worn != epoch:
                if isinstance(record, CommitProof):
                    transcript.elsewhere[record.seq] = worn
                continue
            if isinstance(record, CommitProof):
                transcript.commits.setdefault(record.seq, []).append(record)
            elif isinstance(record, NewView):
                transcript.new_views.setdefault(record.view, []).append(record)
            elif isinstance(record, CheckpointProof):
                transcript.checkpoints.append(record)
        return transcript

    def lack(self, seq: int, epoch: int) -> str:
        """Why there is nothing to be said about `seq` of this epoch."""
        if seq in self.elsewhere:
            return (
                f"the archive has seq {seq} in epoch {self.elsewhere[seq]}, the certificate is of epoch {epoch}: the "
                "sides parted before; name a seq of the epoch in which they did, up to its last one"
            )
        return f"the archive has no commit certificate for seq {seq}; it covers {self.window}"

    @property
    def window(self) -> str:
        if not self.commits:
            return "no seq"
        views = f", NEW-VIEWs of views {sorted(self.new_views)}" if self.new_views else ", no NEW-VIEW"
        runs = _runs(sorted(self.commits))
        told = [f"{first} .. {last}" for first, last in runs[:RANGES_MAX]]
        rest = f" and {len(runs) - RANGES_MAX} ranges more" if len(runs) > RANGES_MAX else ""
        return f"seqs {', '.join(told)}{rest}{views}"


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Growing numbers as ranges without gaps."""
    starts = [place for place, seq in enumerate(numbers) if place == 0 or numbers[place - 1] != seq - 1]
    return [(numbers[start], numbers[end - 1]) for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True)]


@dataclass(frozen=True)
class Blame:
    """`culprits`: for each its evidence and what it did. `enough`: at least f+1, as a fork of two certificates must
    leave where the archive covers the views between them. `passed_by`: what is not signed and
    counts for nothing."""

    seq: int
    views: tuple[int, int]
    culprits: dict[NodeId, tuple[Accuse, str]]
    enough: bool
    window: str
    passed_by: int = 0


def blame(
    transcript: Transcript,
    certificate: CommitProof,
    domain: Domain,
    verifier: Verifier,
    members: Given,
    others: Sequence[NewView] = (),
) -> Blame:
    """`others`: NEW-VIEWs that the other side has shown. Raises NotProven if there is no fork to be seen."""
    if not any(vote.signature for vote in certificate.votes):
        raise NotProven("nothing in it is signed (auth = macs): nobody can be proved to have lied")
    notary = examiner(members, domain, verifier)
    own, flawed = _other_side(transcript, certificate, notary, domain.epoch)
    lower, higher = sorted((own, certificate), key=lambda proof: proof.view)
    views = [
        message
        for view in sorted(transcript.new_views)
        for message in transcript.new_views[view]
        if lower.view < view <= higher.view
    ]
    views += [message for message in others if lower.view < message.view <= higher.view]
    shown = [*views, own, certificate, *transcript.checkpoints]
    said = _about(certificate.seq, shown, notary)
    signed = {node: _signed(node, said[node], notary) for node in sorted(said) if notary.is_member(node)}
    unsigned = sum(map(len, said.values())) - sum(map(len, signed.values()))
    culprits = dict(_culprits(certificate.seq, signed, domain, verifier, members))
    enough = len(culprits) >= notary.weak_quorum
    views_between = lower.view, higher.view
    return Blame(certificate.seq, views_between, culprits, enough, transcript.window, flawed + unsigned)


def _other_side(
    transcript: Transcript, certificate: CommitProof, notary: Notary, epoch: int
) -> tuple[CommitProof, int]:
    """The archive's certificate for another digest, and how many of that seq are none."""
    known = transcript.commits.get(certificate.seq)
    if not known:
        raise NotProven(transcript.lack(certificate.seq, epoch))
    if flaw := notary.flaw_in_commit(certificate):
        raise NotProven(f"no commit certificate for seq {certificate.seq}: {flaw}")
    flaws = [notary.flaw_in_commit(proof) for proof in known]
    if all(flaws):
        raise NotProven(f"the archive has no commit certificate for seq {certificate.seq}: {flaws[0]}")
    right = [proof for proof, flaw in zip(known, flaws, strict=True) if not flaw]
    other = [proof for proof in right if proof.digest != certificate.digest]
    if not other:
        raise NotProven(f"both sides have committed the same at seq {certificate.seq}: nobody needs to have lied")
    return other[0], len(known) - len(right)


def _about(seq: int, shown: Iterable[Any], notary: Notary) -> dict[NodeId, list[Message]]:
    """By signer, what is said about `seq`: its phases, view-changes, states."""
    found: dict[NodeId, list[Message]] = {}
    for message in shown:
        for signer, part in _with_itself(message, notary):
            about = part.seq == seq if isinstance(part, PHASES) else isinstance(part, (ViewChange, NewView, Checkpoint))
            if about:
                found.setdefault(signer, []).append(part)
    return found


def _with_itself(message: Message, notary: Notary) -> Iterator[tuple[NodeId, Message]]:
    if isinstance(message, NewView):
        yield notary.primary(message.view), message
    yield from ((signer, bare(part)) for signer, part in parts_of(message, notary.primary))


def _signed(node: NodeId, said: Sequence[Message], notary: Notary) -> list[Message]:
    """Those of them that `node` signed, each checked by itself."""
    parts = [(message, signed_part(message, node)) for message in said]
    return [message for message, part in parts if part and notary.check(node, part[0][0], part[0][1], part[1])]


def _culprits(
    seq: int, statements: dict[NodeId, list[Message]], domain: Domain, verifier: Verifier, members: Given
) -> Iterator[tuple[NodeId, tuple[Accuse, str]]]:
    for node in sorted(statements):
        for kind, first, second in _charges(seq, statements[node]):
            charge = Accuse(node, kind, first, second, _place(second), domain.epoch, domain.begins)
            try:
                text = convict(charge, domain, verifier, members)
            except NotProven:
                continue
            yield node, (charge, text)
            break


Pair = tuple[str, Message, Message]
"""Of which kind, and the two statements."""


def _charges(seq: int, said: Sequence[Message]) -> Iterator[Pair]:
    """Pairs of one node's statements that do not fit, in one pass: each beside the first at its place, and each
    view-change beside the latest certificate for `seq` that came before."""
    first: dict[Any, Message] = {}
    for message in said:
        known = first.setdefault(place_of(message), message)
        if kind := contradiction(known, message):
            yield kind, known, message
    yield from _hidings(seq, said)


def _hidings(seq: int, said: Sequence[Message]) -> Iterator[Pair]:
    """In the order in which a correct replica says them: COMMIT comes after the view-change to its view. What fits the
    one with the certificate of the latest view fits all before it."""
    asked = [message for message in said if isinstance(message, (Commit, ViewChange))]
    latest: tuple[int, Message | None] = (-1, None)
    for message in sorted(asked, key=lambda each: (each.view, isinstance(each, Commit))):
        if latest[1] is not None and (kind := contradiction(latest[1], message)):
            yield kind, latest[1], message
        view = _prepared_in(message, seq)
        latest = (view, message) if view > latest[0] else latest


def _prepared_in(message: Commit | ViewChange, seq: int) -> int:
    """The view of its certificate for `seq`; -1: it shows none."""
    if isinstance(message, Commit):
        return message.view
    return next((proof.view for proof in message.prepared if proof.seq == seq), -1)


def _place(message: Any) -> str:
    return (
        f"{message.view}.{message.seq}"
        if isinstance(message, (*PHASES, Commit))
        else f"{getattr(message, 'view', 0)}.0"
    )
