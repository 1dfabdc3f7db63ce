"""PBFT as the worlds, the command and the comparison know it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from pbft.core import PbftCore
from pbft.epochs import Epochs
from pbft.lineage import certified, claimed
from pbft.macs import MacCore
from pbft.messages import MESSAGES, RECORDS, CheckpointProof, CommitProof, Committed, InEpoch, NewView
from replog.authenticators import MAC_BYTES
from replog.codec import Domain
from replog.core import Accuse, ClientRules, Core, ProtocolSpec, Setup
from replog.keys import Verifier
from replog.quorum import byzantine_quorum, weak_quorum
from replog.types import Message

if TYPE_CHECKING:
    from pbft.blame import Blame
    from pbft.config import Options
    from pbft.evidence import Given

WITNESS_EVERY: Final = {"signatures": 16, "macs": 32}
"""Requests, of which one is sent to all, where backups hold demands against their primary. Under MACs there are more of
them, and each costs less, so that the same share would cost more."""


class Pbft:
    """`replog.core.ProtocolSpec`."""

    name = "pbft"
    leader_word = "primary"
    view_word = "view"
    messages = MESSAGES
    records = RECORDS

    def replicas(self, f: int) -> int:
        """n = 3f + 1. [CL99 2]"""
        return 3 * f + 1

    def faults(self, n: int) -> int:
        return max(0, (n - 1) // 3)

    def check_size(self, n: int, f: int) -> None:
        """Raise ValueError unless n >= 3f + 1 and f >= 0."""
        byzantine_quorum(n, f)

    def options(self, given: dict[str, Any]) -> Options:
        from pbft.config import Options

        return Options.model_validate(given)

    def core(self, setup: Setup) -> Core:
        make = MacCore if setup.config.auth == "macs" else PbftCore
        return make(setup) if setup.genesis is None else Epochs(setup, make)

    def boundary(self, options: Any) -> Callable[[int], int] | None:
        """The first checkpoint that lies a whole window beyond the change: before executing that, no correct replica
        can have voted for anything beyond this."""
        interval, window = options.checkpoint_interval, options.log_window
        return lambda seq: -(-(seq + window) // interval) * interval

    def client_rules(self, n: int, f: int, options: Any) -> ClientRules:
        """f + 1 matching replies; on a time-out to all, at most a quarter of the view time-out later. [CL99 4.1]"""
        macs = options.auth == "macs"
        return ClientRules(
            reply_quorum=weak_quorum(f),
            retry_all=True,
            retry_us=options.client_retry_us,
            macs=macs,
            certified=claimed if macs else certified,
            read_quorum=byzantine_quorum(n, f) if options.fast_reads else 0,
            tentative_quorum=byzantine_quorum(n, f) if options.tentative else 0,
            digest_replies=options.digest_replies,
            witness_every=WITNESS_EVERY[options.auth] if options.measures else 0,
            request_bytes_max=options.request_bytes_max - (MAC_BYTES * n if macs else 0),
            request_operations_max=options.batch_operations_max,
        )

    def convict(self, accusation: Accuse, domain: Domain, verifier: Verifier, members: Given | None = None) -> str:
        """What the culprit did, in one sentence. Raises ValueError if that is not proved: see `pbft.evidence`."""
        from pbft.evidence import convict

        return convict(accusation, domain, verifier, members)

    def archived(self, record: Message) -> Message | None:
        """What of a record on disk is worth keeping for an inquiry: certificates and NEW-VIEWs, where anything in them
        is signed."""
        if isinstance(record, InEpoch):
            inner = self.archived(record.message)
            return None if inner is None else InEpoch(record.epoch, inner)
        proof = record.proof if isinstance(record, Committed) else record
        if isinstance(proof, (CommitProof, CheckpointProof)):
            return proof if any(vote.signature for vote in proof.votes) else None
        return proof if isinstance(proof, NewView) else None

    def blame(
        self,
        archive: Iterable[Message],
        certificate: Message,
        others: Iterable[Message],
        domain: Domain,
        verifier: Verifier,
        members: Given,
    ) -> Blame:
        """Who must have lied for both sides of a fork to be there. Raises ValueError: see `pbft.blame`."""
        from pbft.blame import Transcript, blame

        if not isinstance(certificate, CommitProof):
            raise ValueError(f"{type(certificate).__name__} is no commit certificate")
        new_views = [message for message in others if isinstance(message, NewView)]
        return blame(Transcript.of(archive, domain.epoch), certificate, domain, verifier, members, new_views)


SPEC: Final[ProtocolSpec] = Pbft()
