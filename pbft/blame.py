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
from typing import Any

from pbft.evidence import Given, NotProven, convict, electorate, examiner
from pbft.messages import Checkpoint, CheckpointProof, Commit, CommitProof, InEpoch, NewView, ViewChange
from pbft.statements import PHASES, bare, contradiction, parts_of
from replog.codec import Domain
from replog.core import Accuse
from replog.keys import Verifier
from replog.quorum import weak_quorum
from replog.types import Message, NodeId


@dataclass
class Transcript:
    """What one replica has archived. `window`: the seqs and views that it covers."""

    commits: dict[int, list[CommitProof]] = field(default_factory=dict)
    new_views: dict[int, list[NewView]] = field(default_factory=dict)
    checkpoints: list[CheckpointProof] = field(default_factory=list)

    @classmethod
    def of(cls, records: Iterable[Message], epoch: int = 0) -> Transcript:
        """What of it belongs to this epoch."""
        transcript = cls()
        for record in records:
            worn = record.epoch if isinstance(record, InEpoch) else 0
            record = record.message if isinstance(record, InEpoch) else record
            if worn != epoch:
                continue
            if isinstance(record, CommitProof):
                transcript.commits.setdefault(record.seq, []).append(record)
            elif isinstance(record, NewView):
                transcript.new_views.setdefault(record.view, []).append(record)
            elif isinstance(record, CheckpointProof):
                transcript.checkpoints.append(record)
        return transcript

    @property
    def window(self) -> str:
        if not self.commits:
            return "no seq"
        views = f", NEW-VIEWs of views {sorted(self.new_views)}" if self.new_views else ", no NEW-VIEW"
        return f"seqs {min(self.commits)} .. {max(self.commits)}{views}"


@dataclass(frozen=True)
class Blame:
    """`culprits`: for each its evidence and what it did. `enough`: at least f+1, as a fork of two certificates must
    leave where the archive covers the views between them."""

    seq: int
    views: tuple[int, int]
    culprits: dict[NodeId, tuple[Accuse, str]]
    enough: bool
    window: str


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
    own = _other_side(transcript, certificate, domain, verifier, members)
    lower, higher = sorted((own, certificate), key=lambda proof: proof.view)
    views = [
        message
        for view in sorted(transcript.new_views)
        for message in transcript.new_views[view]
        if lower.view < view <= higher.view
    ]
    views += [message for message in others if lower.view < message.view <= higher.view]
    shown = [*views, own, certificate, *transcript.checkpoints]
    culprits = dict(_culprits(_about(certificate.seq, shown, electorate(members).ids), domain, verifier, members))
    enough = len(culprits) >= weak_quorum(electorate(members).f)
    return Blame(certificate.seq, (lower.view, higher.view), culprits, enough, transcript.window)


def _other_side(
    transcript: Transcript, certificate: CommitProof, domain: Domain, verifier: Verifier, members: Given
) -> CommitProof:
    known = transcript.commits.get(certificate.seq)
    if not known:
        raise NotProven(
            f"the archive has no commit certificate for seq {certificate.seq}; it covers {transcript.window}"
        )
    notary = examiner(members, domain, verifier)
    for proof in (certificate, *known):
        if flaw := notary.flaw_in_commit(proof):
            raise NotProven(f"no commit certificate for seq {proof.seq}: {flaw}")
    other = [proof for proof in known if proof.digest != certificate.digest]
    if not other:
        raise NotProven(f"both sides have committed the same at seq {certificate.seq}: nobody needs to have lied")
    return other[0]


def _about(seq: int, shown: Iterable[Any], ids: Sequence[NodeId]) -> dict[NodeId, list[Message]]:
    """By signer, what is signed about `seq`: its phases, view-changes, states."""
    found: dict[NodeId, list[Message]] = {}
    for message in shown:
        for signer, part in _with_itself(message, ids):
            about = part.seq == seq if isinstance(part, PHASES) else isinstance(part, (ViewChange, NewView, Checkpoint))
            said = found.setdefault(signer, [])
            if about and part not in said:
                said.append(part)
    return found


def _with_itself(message: Message, ids: Sequence[NodeId]) -> Iterator[tuple[NodeId, Message]]:
    if isinstance(message, NewView):
        yield ids[message.view % len(ids)], message
    yield from ((signer, bare(part)) for signer, part in parts_of(message, lambda view: ids[view % len(ids)]))


def _culprits(
    statements: dict[NodeId, list[Message]], domain: Domain, verifier: Verifier, members: Given
) -> Iterator[tuple[NodeId, tuple[Accuse, str]]]:
    for node in sorted(statements):
        for charge in _charges(node, statements[node], domain.epoch):
            try:
                text = convict(charge, domain, verifier, members)
            except NotProven:
                continue
            yield node, (charge, text)
            break


def _charges(node: NodeId, said: Sequence[Message], epoch: int) -> Iterator[Accuse]:
    for place, first in enumerate(said):
        for second in said[place + 1 :]:
            for pair in ((first, second), (second, first)):
                if kind := contradiction(*pair):
                    yield Accuse(node, kind, *pair, _place(pair[1]), epoch)
                    break


def _place(message: Any) -> str:
    return (
        f"{message.view}.{message.seq}"
        if isinstance(message, (*PHASES, Commit))
        else f"{getattr(message, 'view', 0)}.0"
    )
