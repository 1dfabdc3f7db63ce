"""Frames: what a correct replica has signed in one epoch, with links that lead elsewhere. None takes any key of its.

A cluster of four; its members change three times, so that in epoch 2 they are the first ones again. The log may also
fork at the end of epoch 0, where replicas 0 and 1 lie: side A and side B have other members and another state.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from pbft.lineage import certificate_of
from pbft.messages import CheckpointProof, Prepare, PreparedProof, ViewChange, Vote, prepared_digest
from replog import merkle
from replog.certificates import Authority, load_signer
from replog.codec import Domain
from replog.config import ClusterConfig, create_cluster
from replog.core import Accuse
from replog.errors import ConfigError
from replog.evidence import Conviction, EvidenceFolder, NotProven, Origin, Pin, Portable, encode, parse, read, verify
from replog.membership import RECORD_KEY, Configuration, Link, Member, Membership, encode_membership
from replog.quorum import byzantine_quorum
from replog.roster import FILE, Roster
from replog.types import Principal

END = 384
"""Of epoch 0; each other one is as long."""


class World:
    """A folder with keys, also of those that join, and what a quorum of each epoch has signed at its end."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.config: ClusterConfig = create_cluster(folder / "c", "pbft", f=1)
        self.origin = Origin.of(self.config)
        authority = Authority.load(self.config.folder, self.config.cluster)
        self.members = {one.id: one for one in self.config.genesis.members}
        for node in (4, 5):
            key = authority.enroll(self.config.folder / f"node-{node}", node)
            self.members[node] = Member(node, "127.0.0.1", 9000 + node, bytes.fromhex(key))

    def configuration(self, epoch: int, *nodes: int) -> Configuration:
        members = tuple(self.members[node] for node in nodes)
        return Configuration(epoch, 1 + END * epoch, 1, members, max(5, *nodes) + 1)

    def sign(self, node: int, domain: Domain, kind: str, fields: tuple[int | bytes, ...]) -> bytes:
        return load_signer(self.config.folder / f"node-{node}").sign(domain.statement(kind, fields))

    def domain(self, epoch: int, begins: bytes) -> Domain:
        return Domain(self.config.cluster, epoch, begins)

    def link(
        self, held: Configuration, following: Configuration, begins: bytes = b"", voters: Sequence[int] = ()
    ) -> tuple[Link, bytes]:
        """From one configuration to the next, and the digest of the state at the boundary."""
        record = encode_membership(Membership(held, following))
        root = merkle.build({b"%d" % key: bytes(90) for key in range(50)} | {RECORD_KEY: record})
        seq = following.first - 1
        nodes = voters or held.ids[: byzantine_quorum(held.n, held.f)]
        domain = self.domain(held.epoch, begins)
        votes = [Vote(node, self.sign(node, domain, "checkpoint", (seq, root.digest, node))) for node in nodes]
        certificate = certificate_of(CheckpointProof(seq, root.digest, votes))
        return Link(certificate, tuple(merkle.path(root, RECORD_KEY))), root.digest

    def view_change(self, node: int, begins: bytes, prepared: Sequence[PreparedProof] = ()) -> ViewChange:
        """For view 1 of epoch 1, as it is said there before the first checkpoint."""
        said = ViewChange(1, CheckpointProof(END, begins, []), list(prepared), node, b"")
        fields = (1, node, prepared_digest(said))
        return msgspec.structs.replace(said, signature=self.sign(node, self.domain(1, begins), "view-change", fields))

    def file(self, said: ViewChange, begins: bytes, *links: Link) -> Portable:
        return Portable(
            format="replog-evidence/1",
            protocol="pbft",
            cluster=self.config.cluster,
            epoch=1,
            kind="flawed-view-change",
            culprit=said.replica,
            place="1.0",
            statements=[msgspec.msgpack.encode(said)],
            seen_by=0,
            seen_us=0,
            agreed_us=0,
            authority=self.origin.authority,
            certificates=[self.origin.certificates[node] for node in range(4)],
            genesis=self.config.genesis,
            links=list(links),
            begins=begins,
        )

    @property
    def pins(self) -> list[Pin]:
        return [Pin(), Pin(self.origin.authority), Pin(config=self.config)]


def proved(file: Portable, pin: Pin) -> Conviction:
    return verify(parse(encode(file)), pin)


def why_not(file: Portable, pin: Pin) -> str:
    with pytest.raises(NotProven) as reason:
        proved(file, pin)
    return str(reason.value)


def convicted(file: Portable, pin: Pin) -> Principal | None:
    with contextlib.suppress(NotProven):
        return proved(file, pin).culprit
    return None


def forged(world: World, node: int, begins: bytes) -> ViewChange:
    """With a certificate that nobody signed."""
    nonsense = PreparedProof(0, END + 1, bytes(32), b"x", [Vote(2, b"y"), Vote(3, b"z"), Vote(4, b"z")])
    return world.view_change(node, begins, [nonsense])


def test_a_later_configuration_does_not_pass_for_the_first_one(tmp_path: Path) -> None:
    """In epoch 2 the members are the first ones again: a link from there leads from the same keys, n and f."""
    world = World(tmp_path)
    configurations = [
        world.config.genesis,
        world.configuration(1, 0, 1, 2, 3, 4),
        world.configuration(2, 0, 1, 2, 3),
        world.configuration(3, 0, 1, 2, 3, 5),
    ]
    links, states = [], [b""]
    for held, following in itertools.pairwise(configurations):
        link, state = world.link(held, following, states[-1])
        links.append(link)
        states.append(state)
    said = world.view_change(1, states[1])
    right = world.file(said, states[1], links[0])
    for pin in world.pins:
        assert "nothing is wrong with this message" in why_not(right, pin)
    framed = msgspec.structs.replace(right, genesis=configurations[2], links=[links[2]])
    for begins in states[1:]:
        for pin in world.pins[:2]:
            assert "no first configuration" in why_not(msgspec.structs.replace(framed, begins=begins), pin)


@pytest.mark.parametrize("nodes", [(0, 1, 2, 7), (0, 1, 2, 2), (3, 2, 1, 0), ()])
def test_what_calls_itself_the_first_configuration_has_its_form(tmp_path: Path, nodes: tuple[int, ...]) -> None:
    world = World(tmp_path)
    link, state = world.link(world.config.genesis, world.configuration(1, 0, 1, 2, 3, 4))
    members = tuple(msgspec.structs.replace(world.members[place], id=node) for place, node in enumerate(nodes))
    odd = Configuration(0, 1, 1, members, 4)
    file = msgspec.structs.replace(world.file(world.view_change(1, state), state, link), genesis=odd)
    for pin in world.pins[:2]:
        assert "first" in why_not(file, pin)


def test_a_word_of_one_side_of_a_fork_means_nothing_on_the_other(tmp_path: Path) -> None:
    """Node 2 is correct and lives on side A; the other side's links prove other members, and another state."""
    world = World(tmp_path)
    first = world.config.genesis
    side_a, state_a = world.link(first, world.configuration(1, 0, 1, 2, 3, 4), voters=(0, 1, 2))
    world.members[4] = world.members[5]
    other = msgspec.structs.replace(world.members[5], id=4)
    fork = Configuration(1, END + 1, 1, (*first.members, other), 6)
    side_b, state_b = world.link(first, fork, voters=(0, 1, 3))
    assert state_a != state_b
    said = world.view_change(2, state_a)
    for pin in world.pins:
        assert "nothing is wrong" in why_not(world.file(said, state_a, side_a), pin)
        assert "they are not proved here" in why_not(world.file(said, state_a, side_b), pin)
        for begins in (state_b, b""):
            assert "did not sign" in why_not(world.file(said, begins, side_b), pin)


def test_a_liar_of_a_later_epoch_is_convicted_by_the_links_of_its_side(tmp_path: Path) -> None:
    world = World(tmp_path)
    link, state = world.link(world.config.genesis, world.configuration(1, 0, 1, 2, 3, 4))
    file = world.file(forged(world, 1, state), state, link)
    for pin in world.pins:
        assert proved(file, pin).culprit == 1


def test_links_begin_with_the_first_members_that_are_certified(tmp_path: Path) -> None:
    """A forger's own first members lead to the true ones, and to one more whose key is the forger's."""
    world, forger = World(tmp_path / "true"), World(tmp_path / "forged")
    forger.domain = world.domain  # type: ignore[method-assign]
    mixed = world.configuration(1, 0, 1, 2, 3, 4)
    mixed = msgspec.structs.replace(mixed, members=(*mixed.members[:4], forger.members[4]))
    link, begins = forger.link(forger.config.genesis, mixed)
    file = world.file(forged(forger, 4, begins), begins, link)
    for pin in world.pins[:2]:
        framed = msgspec.structs.replace(file, genesis=forger.config.genesis)
        assert "first members in the file are not those of its certificates" in why_not(framed, pin)
    for pin in world.pins:
        assert "do not lead to epoch 1" in why_not(file, pin)


def test_a_first_member_keeps_its_key_in_later_epochs(tmp_path: Path) -> None:
    """Links that say otherwise are signed by more liars than there may be."""
    world = World(tmp_path)
    other = world.configuration(1, 0, 1, 2, 3, 4)
    stranger = msgspec.structs.replace(world.members[5], id=3)
    other = msgspec.structs.replace(other, members=(*other.members[:3], stranger, other.members[4]))
    link, state = world.link(world.config.genesis, other)
    file = world.file(forged(world, 1, state), state, link)
    for pin in world.pins:
        assert "another key of a member of epoch 1 than the links prove" in why_not(file, pin)


def test_a_certificate_of_who_joined_later_counts_for_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    link, state = world.link(world.config.genesis, world.configuration(1, 0, 1, 2, 3, 4))
    file = world.file(forged(world, 1, state), state, link)
    key = world.members[5].public_key.hex()
    odd = Authority.load(world.config.folder, world.config.cluster).certify(4, key, 4, 1)
    file = msgspec.structs.replace(file, certificates=[*file.certificates, odd])
    for pin in world.pins:
        assert proved(file, pin).culprit == 1


def test_a_file_against_who_joined_stands_alone(tmp_path: Path) -> None:
    """On a machine whose folder is that of the beginning, or has come to harm: the node has all of it itself."""
    world = World(tmp_path)
    link, begins = world.link(world.config.genesis, world.configuration(1, 0, 1, 2, 3, 4))
    fields = [(0, END + 9, digest * 32, 4) for digest in (b"1", b"2")]
    signed = [world.sign(4, world.domain(1, begins), "prepare", each) for each in fields]
    said = [Prepare(*each, signature) for each, signature in zip(fields, signed, strict=True)]
    folder = EvidenceFolder(tmp_path / "evidence", world.origin, 2)
    folder.follow([link])
    (world.config.folder / "members.json").write_bytes(b"{ torn")
    path = folder.add(Accuse(4, "two-prepares", *said, f"0.{END + 9}", 1, begins), 1, 1)
    (world.config.folder / "members.json").unlink()
    assert path is not None
    file = read(path)
    assert [convicted(file, pin) for pin in world.pins] == [4] * 3
    assert why_not(msgspec.structs.replace(file, culprit=5), Pin()).startswith("no certificate of node 5")
    for pin in world.pins:
        assert why_not(msgspec.structs.replace(file, links=[]), pin).startswith("no certificate of node 4")


def test_a_process_that_runs_takes_no_fork_of_what_it_knows(tmp_path: Path) -> None:
    """By keys of first members, which have leaked long after these were replaced: of the same length, and longer."""
    world = World(tmp_path)
    known, other = world.configuration(1, 0, 1, 2, 3, 4), world.configuration(1, 0, 1, 2, 3, 5)
    (own, begins), (fork, elsewhere) = (world.link(world.config.genesis, to) for to in (known, other))
    more, _ = world.link(known, world.configuration(2, 1, 2, 3, 4), begins)
    longer, _ = world.link(other, world.configuration(2, 1, 2, 3, 5), elsewhere)
    path = world.config.folder / FILE

    def write(*links: Link) -> None:
        path.write_bytes(msgspec.json.encode({"format": "replog-members/1", "links": links}))

    write(own)
    roster = Roster(world.config)
    for links in ((fork,), (fork, longer)):
        write(*links)
        with pytest.raises(ConfigError, match="leads to another epoch 1 than the one that is known here"):
            roster.look()
        assert (roster.known, roster.links) == (known, [own])
    write()
    assert not roster.look(), "one that is behind changes nothing"
    write(fork)
    roster.followed(world.configuration(2, 1, 2, 3, 4), [own, more])
    assert Roster(world.config).known.epoch == 2, "and the right one is written again"
