"""Evidence of a later epoch: it names the epoch, and where it rests on who votes there the chain in it proves that."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pbft.lineage import certificate_of
from pbft.messages import (
    CheckpointProof,
    CommitProof,
    InEpoch,
    NewView,
    Prepare,
    ViewChange,
    Vote,
    new_view_digest,
    prepared_digest,
)
from replog import create_cluster, evidence, merkle
from replog.archive import Archive
from replog.certificates import load_signer
from replog.codec import Domain
from replog.config import ClusterConfig
from replog.core import Accuse
from replog.enrolment import enroll
from replog.evidence import NotProven, Origin, Pin, parse, verify
from replog.membership import RECORD_KEY, Configuration, Link, Membership, encode_membership
from replog.quorum import byzantine_quorum
from tests.live.test_roster import changed as changed  # the fixture: a folder in epoch 2, members 0, 2, 3, 4

pytestmark = pytest.mark.live
ONE, TWO = b"1" * 32, b"2" * 32


def sign(config: ClusterConfig, node: int, kind: str, fields: Any, epoch: int = 2) -> bytes:
    return load_signer(config.node_folder(node)).sign(Domain(config.cluster, epoch).statement(kind, fields))


def two_prepares(config: ClusterConfig) -> Accuse:
    """By a replica that joined."""
    said = [Prepare(0, 99, digest, 4, sign(config, 4, "prepare", (0, 99, digest, 4))) for digest in (ONE, TWO)]
    return Accuse(4, "two-prepares", *said, "0.99", 2)


def bad_new_view(config: ClusterConfig) -> Accuse:
    """By the primary of view 3, which is 4 in epoch 2 and would be 3 among the first members."""
    digest = new_view_digest(NewView(3, [], [], b""))
    return Accuse(4, "flawed-new-view", NewView(3, [], [], sign(config, 4, "new-view", (3, digest))), None, "3.0", 2)


def made(config: ClusterConfig, accusation: Accuse) -> bytes:
    return evidence.encode(Origin.of(config).make(accusation, 2, 1, 1))


def without(data: bytes, **values: Any) -> bytes:
    return json.dumps(json.loads(data) | values).encode()


def test_two_statements_take_the_culprits_certificate_and_the_epoch(changed: Path) -> None:
    config = ClusterConfig.load(changed)
    data = made(config, two_prepares(config))
    assert json.loads(data)["epoch"] == 2
    assert json.loads(data)["links"] == []
    assert verify(parse(data)).culprit == 4
    assert verify(parse(data), Pin(config=config)).culprit == 4
    for epoch in (0, 1, 3):
        with pytest.raises(NotProven, match="did not sign"):
            verify(parse(without(data, epoch=epoch)))


def test_what_rests_on_the_members_takes_the_chain(changed: Path) -> None:
    config = ClusterConfig.load(changed)
    data = made(config, bad_new_view(config))
    assert len(json.loads(data)["links"]) == 2
    assert "V must be view-changes of 3 distinct replicas" in verify(parse(data)).text
    assert verify(parse(without(data, links=[], genesis=None)), Pin(config=config)).culprit == 4
    with pytest.raises(NotProven, match="takes the keys of all members"):
        verify(parse(without(data, links=json.loads(data)["links"][:1])))
    with pytest.raises(NotProven, match="takes the keys of all members"):
        verify(parse(without(data, genesis=None)))


def test_a_forged_chain_convicts_nobody(changed: Path) -> None:
    config = ClusterConfig.load(changed)
    data = made(config, bad_new_view(config))
    first, second = json.loads(data)["links"]
    with pytest.raises(NotProven, match="links in the file do not lead to epoch 2"):
        verify(parse(without(data, links=[first, [second[0], first[1]]])))
    genesis = json.loads(data)["genesis"]
    genesis[3][0], genesis[3][1] = ([0, *genesis[3][1][1:]], [1, *genesis[3][0][1:]])  # two keys exchanged
    with pytest.raises(NotProven, match="are not those of its certificates"):
        verify(parse(without(data, genesis=genesis)))


def test_blame_looks_at_the_records_of_the_epoch(changed: Path, tmp_path: Path) -> None:
    """A commit certificate of epoch 2 in one archive, and one of another digest: two quorums of four share two."""
    config = ClusterConfig.load(changed)

    def certificate(digest: bytes, *nodes: int) -> InEpoch:
        votes = [Vote(node, sign(config, node, "commit", (0, 99, digest, node))) for node in nodes]
        return InEpoch(2, CommitProof(0, 99, digest, votes))

    about = {"cluster": config.cluster, "node": 0, "protocol": "pbft"}
    for name, record in (("mine", certificate(ONE, 0, 2, 4)), ("theirs", certificate(TWO, 2, 3, 4))):
        archive = Archive(tmp_path / name, about, 2**20)
        archive.add(config.spec.records.encode(record), flush=True)
        archive.close()
    shown = evidence.certificate_of(Origin.of(config), tmp_path / "theirs", 99)
    assert (shown.epoch, len(shown.links)) == (2, 2)
    blame = evidence.blame(tmp_path / "mine", shown)
    assert sorted(blame.culprits) == [2, 4]
    for accusation, _ in blame.culprits.values():
        assert verify(parse(made(config, accusation))).culprit == accusation.culprit, "each stands for itself"


def test_the_first_members_are_those_of_epoch_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the first members are back together, the configuration of that epoch begins no chain: it would have what is
    right in epoch 1 judged by the members of epoch 3."""
    config = create_cluster(tmp_path / "c", "pbft", f=1)
    joined = [enroll(config, node, "127.0.0.1", 9000 + node).member for node in (4, 5)]
    first = config.genesis.members
    present = [
        config.genesis,
        Configuration(1, 385, 1, (*first, joined[0]), 5),
        Configuration(2, 769, 1, first, 5),
        Configuration(3, 1153, 1, (*first, joined[1]), 6),
    ]
    ends = [end_of(config, known, following) for known, following in itertools.pairwise(present)]
    begins = CheckpointProof(384, ends[0][0], [])
    digest = prepared_digest(ViewChange(1, begins, [], 1, b""))
    said = ViewChange(1, begins, [], 1, sign(config, 1, "view-change", (1, 1, digest), 1))
    links = [link for _, link in ends]
    origin = replace(Origin.of(config), links=links, config=None)
    honest = origin.make(Accuse(1, "flawed-view-change", said, None, "1", 1), 0, 1, 1)
    with pytest.raises(NotProven, match="nothing is wrong with this message"):
        verify(honest)
    framed = msgspec.structs.replace(honest, genesis=present[2], links=[links[2]])
    with pytest.raises(NotProven, match="the first members in the file are not those"):
        verify(framed)
    with pytest.raises(NotProven, match="the first members in the file are not those"):
        verify(
            msgspec.structs.replace(honest, genesis=msgspec.structs.replace(config.genesis, members=present[3].members))
        )


def end_of(config: ClusterConfig, known: Configuration, following: Configuration) -> tuple[bytes, Link]:
    """Digest of the state at the boundary, and the link that a quorum has signed there."""
    state = merkle.build({RECORD_KEY: encode_membership(Membership(known, following))})
    seq = following.first - 1
    votes = [
        Vote(node, sign(config, node, "checkpoint", (seq, state.digest, node), known.epoch))
        for node in known.ids[: byzantine_quorum(known.n, known.f)]
    ]
    proof = CheckpointProof(seq, state.digest, votes)
    return state.digest, Link(certificate_of(proof), tuple(merkle.path(state, RECORD_KEY)))
