"""Which configurations there have been, each proved by the one before. [deviates: CL99 has one, see RULES-PBFT Epochs]

Here: what one replica knows of that, from the first configuration on, and what others tell it. Not here: what follows
for it (`pbft.epochs`), what a link is (`replog.membership`), how clients follow (`replog.chain`).

With signatures a link carries the certificate of the boundary checkpoint, whoever brings it. Under MACs nobody can show
what others have said: a link is then its sender's own word, and counts once a weak quorum of the configuration that it
ends has said the same (P43).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pbft.evidence import examiner
from pbft.messages import CheckpointProof
from replog.codec import BadMessage, Codec, Domain
from replog.core import Setup, Stored
from replog.keys import Verifier
from replog.membership import Configuration, ConfigurationAnswer, Electorate, Link, follow
from replog.quorum import weak_quorum
from replog.types import Digest, NodeId

_CERTIFICATES: Final = Codec(CheckpointProof)


def certificate_of(proof: CheckpointProof) -> bytes:
    """As a link carries it."""
    return _CERTIFICATES.encode(proof)


def certified(
    domain: Domain, verifier: Verifier, configuration: Configuration, certificate: bytes
) -> tuple[int, Digest]:
    """Seq and digest of the state that a quorum of `configuration` has signed, in its epoch. Raises ValueError."""
    proof = _CERTIFICATES.decode(certificate)
    if proof.seq < configuration.first:
        raise ValueError(
            f"a checkpoint at seq {proof.seq}: epoch {configuration.epoch} begins at {configuration.first}"
        )
    known = Electorate(configuration.ids, configuration.f)
    flaw = examiner(known, domain, verifier).flaw_in_checkpoint(proof)
    if flaw:
        raise ValueError(flaw)
    return proof.seq, proof.digest


def _said(_: Configuration, certificate: bytes) -> tuple[int, Digest]:
    """What a certificate says, whether it proves it or not."""
    proof = _CERTIFICATES.decode(certificate)
    return proof.seq, proof.digest


def claimed(_: Domain, __: Verifier, configuration: Configuration, certificate: bytes) -> tuple[int, Digest]:
    """In the place of `certified` under MACs, where it is somebody's word and no more."""
    return _said(configuration, certificate)


class Lineage:
    """Invariants:
    each configuration but the first follows from the one before by the link at its place less one
    a link is here because it was verified, because a weak quorum says it, or because this replica was there itself
    """

    def __init__(self, setup: Setup, links: Sequence[Link] = ()) -> None:
        """`links`: from this replica's own disk, or as it was given them."""
        if setup.genesis is None:
            raise ValueError("a lineage begins with a first configuration")
        self._setup = setup
        self._signed = setup.config.auth != "macs"
        self.configurations: list[Configuration] = [setup.genesis]
        self._ids = set(setup.genesis.ids)
        self.links: list[Link] = []
        self._claims: dict[NodeId, tuple[int, Digest]] = {}
        """Under MACs: who has said what of the next link."""
        for link in links:
            self.append(link)

    @property
    def latest(self) -> Configuration:
        return self.configurations[-1]

    def begins(self, epoch: int) -> tuple[int, Digest]:
        """Seq and digest of the state with which an epoch that is known begins."""
        return self._setup.begins if epoch == 0 else _said(self.latest, self.links[epoch - 1].certificate)

    def proof(self, epoch: int) -> CheckpointProof:
        """Of the boundary of an epoch whose link is known."""
        return _CERTIFICATES.decode(self.links[epoch].certificate)

    def claimed(self, answer: ConfigurationAnswer, epoch: int) -> tuple[int, Digest] | None:
        """What an answer says of the boundary of `epoch`."""
        link = answer.link(epoch)
        try:
            return None if link is None else _said(self.latest, link.certificate)
        except BadMessage:
            return None

    def knows(self, node: NodeId) -> bool:
        """Whether it is, or was, a member."""
        return node in self._ids

    def verifier(self, configuration: Configuration) -> Verifier:
        return self._setup.verifier.extended(configuration.keys())

    def setup_of(self, configuration: Configuration, stored: Stored) -> Setup:
        """What a core of this configuration is built from."""
        epoch, given = configuration.epoch, self._setup
        return Setup(
            me=given.me,
            members=configuration.ids,
            f=configuration.f,
            domain=Domain(given.domain.cluster, epoch),
            config=given.config,
            signer=given.signer,
            verifier=self.verifier(configuration),
            sessions=given.sessions,
            rng=given.rng,
            wall=given.wall,
            stored=stored,
            mac=given.mac,
            genesis=given.genesis,
            begins=self.begins(epoch),
        )

    def append(self, link: Link) -> Configuration:
        """A link that this replica knows to be right: it was there, or has verified it. Raises ValueError if it is not
        the next one. Votes that prove nothing are not kept."""
        following = follow(self.latest, link, _said)
        if not self._signed:
            link = Link(certificate_of(CheckpointProof(*_said(self.latest, link.certificate), [])), link.path)
        self.links.append(link)
        self.configurations.append(following)
        self._ids.update(following.ids)
        self._claims.clear()
        return following

    def hear(self, sender: NodeId, answer: ConfigurationAnswer) -> str:
        """Take the links of an answer that prove right; the flaw of the first that does not, "" if there is none."""
        for epoch, link in enumerate(answer.links, answer.epoch):
            if epoch < len(self.links):
                continue
            if epoch > len(self.links):
                break
            try:
                follow(self.latest, link, self._certified if self._signed else _said)
            except ValueError as error:
                return f"link of epoch {epoch}: {error}"
            if not self._signed and not self._is_believed(sender, link):
                break
            self.append(link)
        return ""

    def _certified(self, configuration: Configuration, certificate: bytes) -> tuple[int, Digest]:
        domain = Domain(self._setup.domain.cluster, configuration.epoch)
        return certified(domain, self.verifier(configuration), configuration, certificate)

    def _is_believed(self, sender: NodeId, link: Link) -> bool:
        """Whether a weak quorum of the members whose epoch it ends has said this (P43)."""
        if self.latest.member(sender) is None:
            return False
        said = self._claims[sender] = _said(self.latest, link.certificate)
        return sum(other == said for other in self._claims.values()) >= weak_quorum(self.latest.f)
