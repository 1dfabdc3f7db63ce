"""Evidence of a later epoch: it names the epoch, and where it rests on who votes there the chain in it proves that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pbft.messages import (
    CommitProof,
    InEpoch,
    NewView,
    Prepare,
    Vote,
    new_view_digest,
)
from replog import evidence
from replog.archive import Archive
from replog.certificates import load_signer
from replog.codec import Domain
from replog.config import ClusterConfig
from replog.core import Accuse
from replog.evidence import NotProven, Origin, Pin, parse, verify
from replog.roster import Roster
from tests.live.test_roster import changed as changed  # the fixture: a folder in epoch 2, members 0, 2, 3, 4

pytestmark = pytest.mark.live
ONE, TWO = b"1" * 32, b"2" * 32


def begins(config: ClusterConfig) -> bytes:
    return Roster(config).chain().begins


def sign(config: ClusterConfig, node: int, kind: str, fields: Any) -> bytes:
    domain = Domain(config.cluster, 2, begins(config))
    return load_signer(config.node_folder(node)).sign(domain.statement(kind, fields))


def two_prepares(config: ClusterConfig) -> Accuse:
    """By a replica that joined."""
    said = [Prepare(0, 99, digest, 4, sign(config, 4, "prepare", (0, 99, digest, 4))) for digest in (ONE, TWO)]
    return Accuse(4, "two-prepares", *said, "0.99", 2, begins(config))


def bad_new_view(config: ClusterConfig) -> Accuse:
    """By the primary of view 3, which is 4 in epoch 2 and would be 3 among the first members."""
    digest = new_view_digest(NewView(3, [], [], b""))
    message = NewView(3, [], [], sign(config, 4, "new-view", (3, digest)))
    return Accuse(4, "flawed-new-view", message, None, "3.0", 2, begins(config))


def made(config: ClusterConfig, accusation: Accuse) -> bytes:
    return evidence.encode(Origin.of(config).make(accusation, 2, 1, 1))


def without(data: bytes, **values: Any) -> bytes:
    return json.dumps(json.loads(data) | values).encode()


def test_two_statements_take_the_links_to_who_joined_and_the_epoch(changed: Path) -> None:
    config = ClusterConfig.load(changed)
    data = made(config, two_prepares(config))
    assert json.loads(data)["epoch"] == 2
    assert len(json.loads(data)["links"]) == 2
    assert verify(parse(data)).culprit == 4
    assert verify(parse(data), Pin(config=config)).culprit == 4
    for epoch in (0, 1, 3):
        with pytest.raises(NotProven, match="no certificate of node 4"):
            verify(parse(without(data, epoch=epoch)))


def test_what_rests_on_the_members_takes_the_chain(changed: Path) -> None:
    config = ClusterConfig.load(changed)
    data = made(config, bad_new_view(config))
    assert len(json.loads(data)["links"]) == 2
    assert "V must be view-changes of 3 distinct replicas" in verify(parse(data)).text
    assert verify(parse(without(data, links=[], genesis=None)), Pin(config=config)).culprit == 4
    with pytest.raises(NotProven, match="no certificate of node 4"):
        verify(parse(without(data, links=json.loads(data)["links"][:1])))
    with pytest.raises(NotProven, match="no certificate of node 4"):
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
        archive.add(config.spec.records.encode(record))
        archive.close()
    shown = evidence.certificate_of(Origin.of(config), tmp_path / "theirs", 99)
    assert (shown.epoch, len(shown.links)) == (2, 2)
    blame = evidence.blame(tmp_path / "mine", shown)
    assert sorted(blame.culprits) == [2, 4]
    for accusation, _ in blame.culprits.values():
        assert verify(parse(made(config, accusation))).culprit == accusation.culprit, "each stands for itself"
