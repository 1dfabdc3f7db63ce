"""What a cluster's folder knows of the members: proved anew when it is read, and what a joining replica is given."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pbft.lineage import certificate_of
from pbft.messages import CheckpointProof
from replog import LocalCluster, certificates, create_cluster, merkle
from replog.apps.counter import Counter
from replog.cli.member import hints
from replog.cli.refresh import _check
from replog.config import ClusterConfig
from replog.enrolment import administrator, enroll, enrolled, own_member
from replog.errors import ConfigError
from replog.interface import Said
from replog.live.processes import local_members
from replog.live.report import report
from replog.membership import ADMIN, RECORD_KEY, Configuration, Link, Member, Membership, encode_membership
from replog.roster import FILE, Roster
from replog.storage import Storage

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cluster in epoch 2."""
    import asyncio

    folder = tmp_path_factory.mktemp("roster") / "c"

    async def change() -> None:
        options = {"checkpoint_interval": 16, "log_window": 32}
        async with LocalCluster("pbft", Counter, f=1, dir=folder, options=options) as cluster:
            await cluster.change(add=1)
            await cluster.change(remove=(1,))

    asyncio.run(change())
    return folder


def test_the_links_in_the_file_prove_the_members(changed: Path) -> None:
    roster = Roster(ClusterConfig.load(changed))
    assert (roster.known.epoch, roster.known.ids, roster.next) == (2, (0, 2, 3, 4), None)
    assert len(json.loads((changed / FILE).read_text())["links"]) == 2


def drop_first(told: dict[str, Any]) -> None:
    del told["links"][0]


def repeat(told: dict[str, Any]) -> None:
    told["links"].append(told["links"][-1])


def mix(told: dict[str, Any]) -> None:
    told["links"][0][1] = told["links"][1][1]


def spoil(told: dict[str, Any]) -> None:
    told["links"][1][0] = told["links"][0][0]


def add_field(told: dict[str, Any]) -> None:
    told["members"] = []


@pytest.mark.parametrize("forge", [drop_first, repeat, mix, spoil, add_field])
def test_a_file_that_proves_nothing_is_refused(changed: Path, tmp_path: Path, forge: Callable[[Any], None]) -> None:
    config = ClusterConfig.load(changed)
    told = json.loads((changed / FILE).read_text())
    forge(told)
    config._folder = tmp_path
    (tmp_path / FILE).write_text(json.dumps(told))
    with pytest.raises(ConfigError, match=r"members.json: .*; it is kept for convenience, remove it"):
        Roster(config)


def link(known: Configuration, following: Configuration) -> Link:
    """As a replica says it under MACs."""
    state = merkle.build({RECORD_KEY: encode_membership(Membership(known, following))})
    proof = CheckpointProof(following.first - 1, state.digest, [])
    return Link(certificate_of(proof), tuple(merkle.path(state, RECORD_KEY)))


def test_without_signatures_it_believes_what_was_told(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "pbft", f=1, options={"auth": "macs"})
    later = Configuration(1, 49, 1, config.genesis.members, 5)
    roster = Roster(config)
    roster.followed(later, [link(config.genesis, later)])
    assert Roster(config).known == later
    roster.followed(config.genesis, [])
    assert Roster(config).known == later, "one that is behind changes nothing"
    roster.path.write_text("{")
    with pytest.raises(ConfigError, match=r"members.json: .*; put a copy back, or remove it while 2 of the first mem"):
        Roster(config)


def test_what_others_take_away_is_written_again(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "pbft", f=1, options={"auth": "macs"})
    first, second = (Configuration(epoch, 49 * epoch, 1, config.genesis.members, 5) for epoch in (1, 2))
    roster = Roster(config)
    roster.followed(first, [link(config.genesis, first)])
    roster.path.unlink()
    roster.followed(second, [link(first, second)])
    assert len(json.loads(roster.path.read_text())["links"]) == 2, "all from the first one on"


def test_a_change_under_way_is_announced_until_it_is_followed(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "pbft", f=1, options={"auth": "macs"})
    roster = Roster(config)
    elsewhere = Member(4, "h", 1, bytes(32))
    first = Configuration(1, 49, 1, (*config.genesis.members, elsewhere), 5)
    roster.announce(Configuration(2, 97, 1, first.members, 5))
    assert Roster(config).next is None, "of epoch 2, where epoch 1 comes next"
    roster.announce(first)
    assert Roster(config).next == first
    assert [member.id for member in Roster(config).members] == [0, 1, 2, 3, 4]
    roster.followed(first, [link(config.genesis, first)])
    assert (Roster(config).known, Roster(config).next) == (first, None)
    assert Roster(config).newcomers == (4,)
    second = Configuration(2, 97, 1, first.members[1:], 5)
    roster.followed(second, [link(first, second)])
    assert Roster(config).newcomers == ()
    assert Roster(config).needed == (0, 1, 2, 3, 4), "0 has just left"
    third = Configuration(3, 193, 1, (*second.members, replace(elsewhere, id=5, port=2, public_key=b"5" * 32)), 6)
    roster.followed(third, [link(second, third)])
    assert Roster(config).needed == (1, 2, 3, 4, 5)


def test_in_raft_it_holds_what_one_member_told(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "raft", f=1)
    first, third = (Configuration(epoch, 9 * epoch, 1, config.genesis.members, 3 + epoch) for epoch in (1, 3))
    roster, running = Roster(config), Roster(config)
    roster.followed(first, [])
    assert running.look()
    roster.followed(third, [])
    assert (Roster(config).known, Roster(config).links) == (third, [])
    assert running.look()
    assert not running.look()
    roster.followed(first, [])
    assert Roster(config).known == third, "one that is behind changes nothing"
    other = tmp_path / "other"
    other.mkdir()
    Roster(config, other).followed(replace(third, first=30), [])
    (other / FILE).replace(roster.path)
    with pytest.raises(ConfigError, match=r"members.json: leads to another epoch 3 than the one that is known here"):
        running.look()
    assert running.known == third
    roster.path.unlink()
    assert not running.look(), "it knows what it knew"


def test_a_cluster_has_an_administrator(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "pbft", f=1)
    key = tmp_path / "c" / "admin" / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert administrator(config).public == config.public_keys()[ADMIN]
    with pytest.raises(ConfigError, match=r"client-cli/key.pem: is not the key that cluster.toml names as admin"):
        administrator(config, config.client_folder("cli"))


def test_a_folder_for_a_replica_that_joins(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "pbft", f=1)
    found = enroll(config, 7, "127.0.0.1", 5000)
    assert (found.id, found.host, found.port) == (7, "127.0.0.1", 5000)
    assert own_member(config, 7) == found == enroll(config, 7, "127.0.0.1", 5000), "made once"
    assert certificates.load_signer(config.node_folder(7)).public.hex() == found.public_key
    certificates.check_link_certificate(config.cluster, config.node_folder(7), 7)
    Storage(config.node_folder(7), f"cluster {config.cluster} node 7").close()
    assert enrolled(config) == [0, 1, 2, 3, 7]
    assert own_member(config, 2) == config.nodes[2]


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        ((3, "h", 1), r"node = 3: a new id is within 4 \.\. 1023"),
        ((1024, "h", 1), r"node = 1024: a new id is within 4 \.\. 1023"),
        ((4, "", 1), r"host = '': must be the name or the address of a machine"),
        ((4, "bad host!", 1), r"host = 'bad host!': must be the name or the address of a machine"),
        ((4, "h", 65536), r"port = 65536: must be within 1 \.\. 65535"),
        ((5, "h", 2), r"node-5: was enrolled at h:1, not h:2; remove the folder"),
    ],
)
def test_what_cannot_be_enrolled(tmp_path: Path, place: tuple[int, str, int], rule: str) -> None:
    config = create_cluster(tmp_path / "c", "pbft", f=1)
    enroll(config, 5, "h", 1)
    with pytest.raises(ConfigError, match=rule):
        enroll(config, *place)


def test_what_is_missing_of_a_joining_replica_is_named(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "pbft", f=1)
    with pytest.raises(ConfigError, match=r"node = 9: .* nodes 0 \.\. 3, and .*node-9/member.toml is missing"):
        own_member(config, 9)
    enroll(config, 6, "h", 1)
    (config.node_folder(6) / "member.toml").rename(config.node_folder(5).with_name("elsewhere.toml"))
    with pytest.raises(ConfigError, match=r"node-6/member.toml is missing"):
        own_member(config, 6)
    (config.folder / "ca.key").unlink()
    with pytest.raises(ConfigError, match=r"ca.key: is missing: new replicas are certified with it"):
        enroll(config, 8, "h", 1)
    assert not config.node_folder(8).exists()


def test_a_replica_of_another_machine_is_enrolled_and_not_run_here(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "pbft", f=1, options={"auth": "macs"})
    elsewhere = enroll(config, 4, "192.0.2.7", 4700).member
    following = Configuration(1, 49, 1, (*config.genesis.members, elsewhere), 5)
    Roster(config).followed(following, [link(config.genesis, following)])
    assert local_members(config) == [0, 1, 2, 3]
    (hint,) = hints(config, following, 1)
    assert "node 4 is not of this machine: move" in hint
    assert hints(config, following, 0) == []
    said = report(config, [Said(node, None) for node in range(5)], {}, following)
    assert [replica["role"] for replica in said["replicas"]] == ["down"] * 4 + ["silent"]
    with pytest.raises(
        ConfigError, match=r"node = 4: is not of this machine; .* replog.live.node DIR/node-4 --refresh"
    ):
        _check(config, 4)
