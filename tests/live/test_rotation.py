"""Certificates of links: when they end is told in time, and they are renewed while everything runs."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest

from replog import LocalCluster, certificates, cli, rotation
from replog.apps.kv import KeyValue
from replog.certificates import LinkCertificate
from replog.cli.state import hints
from replog.config import ClusterConfig, create_cluster
from replog.errors import ConfigError
from replog.founding import Place, Plan, found
from replog.interface import Said
from replog.live import node
from replog.live.client import LogClient
from replog.live.report import report
from replog.types import Status

pytestmark = pytest.mark.live
YEAR = datetime.timedelta(days=365)
PLACES = [Place(f"127.0.0.{host}", 4700) for host in range(2, 6)]


def renew(config: ClusterConfig, folder: Path, lifetime: datetime.timedelta = YEAR) -> None:
    rotation.finish(config, folder, rotation.certify(config, rotation.begin(config, folder), lifetime))


def shown_by(config: ClusterConfig, host: str, port: int) -> bytes:
    """The certificate that a replica shows to whoever dials it now."""
    context = certificates.tls_context(config.folder / "ca.pem", config.client_folder("gateway"), server=False)
    import socket

    with socket.create_connection((host, port)) as plain, context.wrap_socket(plain) as link:
        found = link.getpeercert(binary_form=True)
        assert found is not None
        return found


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
async def test_all_are_renewed_while_operations_go_on(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "CERTIFICATE_LOOK_S", 0.05)
    async with LocalCluster(protocol, KeyValue, f=1, dir=tmp_path / "c") as cluster:
        config, own, done = cluster.config, cluster._own_client, 0
        assert own is not None
        before = {word.node: word.status.detail["certificate_ends"] for word in await own.status() if word.status}
        place = config.nodes[0].host, config.nodes[0].port
        old = await asyncio.to_thread(shown_by, config, *place)

        async def write() -> None:
            nonlocal done
            while True:
                await own.call("put", "x", str(done))
                done += 1

        writing = asyncio.create_task(write())
        for folder in rotation.all_here(config):
            await asyncio.to_thread(renew, config, folder)
        async with asyncio.timeout(20):
            while True:
                now = {word.node: word.status.detail["certificate_ends"] for word in await own.status() if word.status}
                if now.keys() == before.keys() and all(now[each] < before[each] for each in before):
                    break
        after = done
        async with asyncio.timeout(20), LogClient(config, "gateway") as other:
            await other.wait_connected(config.n)
            await other.call("put", "y", "1")
            while done < after + 10:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not writing.done(), "no operation failed"
        writing.cancel()
        assert await asyncio.to_thread(shown_by, config, *place) != old
        for replica in cluster.nodes:
            for link in list(replica._peers.values()):
                await link.close()
        async with asyncio.timeout(20):
            await own.call("put", "x", "last")


def test_a_host_asks_whoever_has_the_authority(tmp_path: Path) -> None:
    found(tmp_path / "out", Plan("pbft", PLACES, None))
    admin, host = (ClusterConfig.load(tmp_path / "out" / name) for name in ("admin", "127.0.0.2-4700"))
    folder = host.node_folder(0)
    link = LinkCertificate(host.cluster, host.folder / "ca.pem", folder, 0)
    end, key = link.ends, (folder / "tls.key").read_bytes()
    request = rotation.begin(host, folder)
    assert request == rotation.begin(host, folder)
    assert not link.look()
    with pytest.raises(ConfigError, match=r"ca\.key"):
        rotation.certify(host, request, YEAR)
    pem = rotation.certify(admin, request, YEAR)
    rotation.finish(host, folder, pem)
    rotation.finish(host, folder, pem)
    assert link.look()
    assert not link.look()
    assert link.ends < end
    assert (folder / "tls.key").read_bytes() != key
    assert (folder / "tls.key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["key.pem", "log.db", "state.db", "tls.key", "tls.pem"]


def test_nobody_else_gets_a_certificate_of_a_name(tmp_path: Path) -> None:
    one, two = (create_cluster(tmp_path / name, "pbft") for name in ("one", "two"))
    request = rotation.begin(one, one.node_folder(0))
    text = request.read_text()
    for wrong, rule in (
        (text.replace("who = 0", "who = 1"), "is not signed with the keys of 1"),
        (text.replace("who = 0", 'who = "nobody"'), "knows nobody called nobody"),
        (text.replace(one.cluster, two.cluster), "is of another cluster"),
        ("x = 1", "renewal.toml"),
    ):
        request.write_text(wrong)
        with pytest.raises(ConfigError, match=rule):
            rotation.certify(one, request, YEAR)
    other = rotation.certify(one, rotation.begin(one, one.node_folder(1)), YEAR)
    with pytest.raises(ConfigError, match="is not of the key"):
        rotation.finish(one, one.node_folder(0), other)
    with pytest.raises(ConfigError, match="no certificate of links"):
        rotation.finish(one, one.node_folder(0), "nonsense")


def test_a_pair_that_does_not_belong_together_changes_nothing(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "c", "pbft")
    link = LinkCertificate(config.cluster, config.folder / "ca.pem", config.node_folder(0), 0)
    pem = (config.node_folder(0) / "tls.pem").read_bytes()
    renew(config, config.node_folder(0))
    good = (config.node_folder(0) / "tls.pem").read_bytes()
    (config.node_folder(0) / "tls.pem").write_bytes(pem)
    with pytest.raises(ConfigError, match="link certificate"):
        link.look()
    assert not link.look()
    (config.node_folder(0) / "tls.pem").write_bytes((config.node_folder(1) / "tls.pem").read_bytes())
    with pytest.raises(ConfigError, match="must be that of"):
        link.look()
    (config.node_folder(0) / "tls.pem").write_bytes(good)
    assert link.look()
    assert isinstance(link.server, ssl.SSLContext)


def test_what_ends_soon_is_told(tmp_path: Path) -> None:
    import time

    config = create_cluster(tmp_path / "c", "raft")
    end = int(time.time()) + 10 * 86_400 + 60
    said = [Said(0, Status(0, "raft", "leader", 1, 0, 0, 0, True, detail={"certificate_ends": end}))]
    told = report(config, said, {})
    assert told["replicas"][0]["certificate_ends"] == end
    assert any("the certificate of node 0 ends in 10 days" in hint for hint in hints(config.folder, told))
    absurd: list[Any] = ["soon", -1, 2**62]
    for wrong in absurd:
        said = [Said(0, Status(0, "raft", "leader", 1, 0, 0, 0, True, detail={"certificate_ends": wrong}))]
        assert report(config, said, {})["replicas"][0]["certificate_ends"] is None


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        assert cli.run([*arguments]) == code
        told = capsys.readouterr()
        return told.err if code else told.out

    one = create_cluster(tmp_path / "one", "raft")
    assert run("key", "rotate", "--days", "9", "--cluster", str(one.folder)).count("renewed for 9 days") == 5
    assert "there is no" in run("key", "rotate", "7", "--cluster", str(one.folder), code=2)
    found(tmp_path / "out", Plan("raft", PLACES[:3], None))
    admin, host = str(tmp_path / "out" / "admin"), str(tmp_path / "out" / "127.0.0.3-4700")
    requests = run("key", "rotate", "--cluster", host).split()
    assert [Path(request).parent.name for request in requests] == ["client-gateway-1", "node-1"]
    for request in requests:
        certificate = run("key", "certify", request, "--cluster", admin, "--days", "9").strip()
        assert "renewed" in run("key", "rotate", "--certificate", certificate, "--cluster", host)
    foreign = str(one.folder / "node-0" / "tls.pem")
    assert "is of nobody of this cluster" in run("key", "rotate", "--certificate", foreign, "--cluster", host, code=2)
    ends = certificates.ends(tmp_path / "out" / "127.0.0.3-4700" / "node-1" / "tls.pem")
    assert ends < datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=10)
