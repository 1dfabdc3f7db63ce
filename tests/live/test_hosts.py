"""Clusters over several machines: keys that never travel, folders for each host, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from replog import cli, handover
from replog.config import ClusterConfig, toml_of
from replog.errors import ConfigError
from replog.founding import Place, Plan, by_host, found
from replog.host import HostConfig, gateway_place
from tests.live.command import Shell
from tests.live.hosts import Hosts

pytestmark = pytest.mark.live
PLACES = [Place(f"127.0.0.{host}", 4700) for host in range(2, 6)]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


def private_keys(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name in ("key.pem", "tls.key"))


def handed(folder: Path, n: int = 4) -> list[handover.HandedFile]:
    return [handover.make(folder / f"h{host}", f"h{host}", handover.HOST_PURPOSES)[1] for host in range(n)]


def test_four_hosts_make_their_own_keys_and_serve_a_client_in_a_fifth_folder(shell: Shell) -> None:
    hosts = Hosts(shell)
    hosts.found_by_commands("pbft")
    assert not [name for host in range(4) for name in private_keys(hosts.home(host))]
    with hosts.serving():
        assert "vouched for by" in hosts.said("kv", "put", "x", "1")
        assert hosts.said("kv", "get", "x") == "1"
        assert "4 of 4 in sync" in hosts.said("status")
    for host in range(4):
        own = [f"client-gateway-{host}/key.pem", f"client-gateway-{host}/tls.key"]
        assert private_keys(hosts.home(host)) == [*own, f"node-{host}/key.pem", f"node-{host}/tls.key"]
        assert not private_keys(shell.folder / f"h{host}" / "keys")


def test_who_founds_a_cluster_never_has_a_replica_s_key(tmp_path: Path) -> None:
    found(tmp_path / "out", Plan("pbft", PLACES, handed(tmp_path)))
    clients = [name for name in private_keys(tmp_path / "out") if not name.startswith("admin/")]
    assert clients == []
    assert "admin/admin/key.pem" in private_keys(tmp_path / "out")


def test_all_keys_here_are_for_a_laboratory_and_said_to_be(shell: Shell) -> None:
    places = [f"127.0.0.{host}:4700" for host in range(2, 6)]
    done = shell.run("init", "pbft", *places, "--all-keys-here", "--out", "out")
    assert "one traitor for all" in done.stderr
    assert len(private_keys(shell.folder / "out" / "127.0.0.2-4700")) == 4


def test_without_keys_a_command_says_where_they_come_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found(tmp_path / "out", Plan("pbft", PLACES, handed(tmp_path)))
    home = tmp_path / "out" / "127.0.0.2-4700"

    def complaint(*arguments: str, code: int = 2) -> str:
        assert cli.run([*arguments]) == code
        return capsys.readouterr().err

    assert "replog key new has made it on this host" in complaint("node", str(home))
    assert "is no host's folder" in complaint("node", str(tmp_path / "out" / "admin"))
    assert "no client that commands could speak as" in complaint("status", "--cluster", str(home))
    assert "is of a cluster over several hosts" in complaint("up", "pbft", "--cluster", str(home))
    key = tmp_path / "h0" / "key.pem"
    key.chmod(0o644)
    readable = f"{key}: others can read this key (mode 0644); mend it with: chmod 600 {key}"
    assert readable in complaint("node", str(home), "--keys", str(key.parent))
    assert key.is_file()
    assert "--all-keys-here" in complaint("init", "pbft", "h1:4700", "--out", str(tmp_path / "other"))


def test_another_host_s_folder_does_not_run_under_these_keys(shell: Shell) -> None:
    hosts = Hosts(shell)
    hosts.found("pbft")
    process = hosts.begin(0, "--keys", "h1/keys")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is not the key that was enrolled for node 0" in errors


def test_files_that_are_handed_over_prove_the_keys_in_them(tmp_path: Path) -> None:
    path, file = handover.make(tmp_path / "a", "a", handover.HOST_PURPOSES)
    assert handover.read(path).fingerprint == file.fingerprint
    _, other = handover.make(tmp_path / "b", "b", handover.HOST_PURPOSES)
    stolen = file.model_dump()
    stolen["keys"]["node"]["identity"] = other.keys["node"].identity
    (tmp_path / "c.pub").write_text(toml_of(stolen))
    with pytest.raises(ConfigError, match=r"c\.pub: keys\.node\.identity: is not signed with its private key"):
        handover.read(tmp_path / "c.pub")
    renamed = {**file.model_dump(), "name": "b"}
    (tmp_path / "d.pub").write_text(toml_of(renamed))
    with pytest.raises(ConfigError, match="is not signed"):
        handover.read(tmp_path / "d.pub")


@pytest.mark.parametrize("text", ["", "format = 3", "\x00", 'format = "replog-public-keys/1"\nname = "../x"\n[keys]\n'])
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.pub").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.pub: "):
        handover.read(tmp_path / "a.pub")


def test_keys_are_never_written_over(tmp_path: Path) -> None:
    handover.make(tmp_path / "a", "a", handover.HOST_PURPOSES)
    with pytest.raises(ConfigError, match="never written over"):
        handover.make(tmp_path / "a", "a", handover.HOST_PURPOSES)
    _, client = handover.make(tmp_path / "b", "b", (handover.CLIENT,))
    with pytest.raises(ConfigError, match="holds no keys of a node"):
        client.public("node")


def test_two_replicas_never_share_an_address_or_a_key(tmp_path: Path) -> None:
    files = handed(tmp_path)
    with pytest.raises(ConfigError, match=r"127\.0\.0\.2:4700: is named twice"):
        found(tmp_path / "out", Plan("pbft", [*PLACES[:3], PLACES[0]], files))
    with pytest.raises(ConfigError, match="a key is there twice"):
        found(tmp_path / "out", Plan("pbft", PLACES, [*files[:3], files[0]]))
    with pytest.raises(ConfigError, match="3 files for 4 hosts"):
        found(tmp_path / "out", Plan("pbft", PLACES, files[:3]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["h1", "h1:", "h1:0", "h1:65536", ":4700", "h 1:4700", "h1:47x"])
def test_a_host_is_a_name_and_a_port(text: str) -> None:
    with pytest.raises(ConfigError, match="host"):
        Place.read(text)


def test_files_are_put_in_the_order_of_the_hosts(tmp_path: Path) -> None:
    files = handed(tmp_path, 3)
    by_name = [Place(f"h{host}", 4700) for host in (2, 0, 1)]
    assert [file.name for file in by_host(by_name, files)] == ["h2", "h0", "h1"]
    assert by_host(PLACES[:3], files) == files
    assert Place.read("[::1]:4700") == Place("::1", 4700)


def test_a_host_binds_what_its_own_file_says(tmp_path: Path) -> None:
    found(tmp_path / "out", Plan("raft", PLACES[:3], None, bind="0.0.0.0"))
    config = ClusterConfig.load(tmp_path / "out" / "127.0.0.3-4700")
    host = HostConfig.of(config)
    assert host.listens_at(config.nodes[1]) == ("0.0.0.0", 4700)
    assert host.listens_at(config.nodes[0]) == ("127.0.0.2", 4700)
    assert gateway_place(config) == ("127.0.0.1", 4800)
    (config.folder / "host.toml").write_text("bund = 3\n")
    with pytest.raises(ConfigError, match=r"host\.toml: bund = 3: there is no such field"):
        HostConfig.of(config)


def test_the_application_s_file_goes_along(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from replog import StateMachine, command\nclass Own(StateMachine):\n    count: int = 0\n"
        "    @command\n    def add(self) -> int:\n        self.count += 1\n        return self.count\n"
    )
    found(tmp_path / "out", Plan("raft", PLACES[:3], None, app=f"{own}:Own"))
    own.unlink()
    for folder in ("admin", "127.0.0.2-4700"):
        assert ClusterConfig.load(tmp_path / "out" / folder).machine().__name__ == "Own"
