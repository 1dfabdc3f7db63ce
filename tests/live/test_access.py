"""Clients that are registered, limited and revoked while a cluster runs: enforced by the replicas themselves."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replog import LocalCluster, handover
from replog.apps.kv import KeyValue
from replog.certificates import PublicKeys
from replog.config import ClusterConfig
from replog.errors import ConfigError, NoCluster, OperationFailed, ReplogError
from replog.live.client import LogClient
from replog.live.node import Node
from replog.live.registering import Registrar, install
from replog.types import READ_ONLY
from tests.live.command import Shell, free_port

pytestmark = pytest.mark.live
SMALL = {"checkpoint_interval": 16, "log_window": 32}
CASES = [("pbft", 4, SMALL), ("pbft", 4, {**SMALL, "auth": "macs"}), ("raft", 3, {})]
each = pytest.mark.parametrize(("protocol", "n", "options"), CASES, ids=["pbft", "macs", "raft"])


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


async def refused(client: LogClient, method: str, *arguments: Any) -> str:
    with pytest.raises(OperationFailed) as failed:
        await client.call(method, *arguments)
    assert failed.value.type == "AccessRefused"
    return failed.value.text


def has_role(node: Node, name: str, role: str) -> bool:
    known = node._executor.access.of(name) if node._executor.access is not None else None
    return known is not None and known.role == role


async def known_everywhere(cluster: LocalCluster, name: str, role: str) -> None:
    """Until every replica has executed the change."""
    async with asyncio.timeout(20):
        while not all(has_role(node, name, role) for node in cluster.nodes):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@each
async def test_a_client_comes_is_limited_and_goes(
    tmp_path: Path, protocol: str, n: int, options: dict[str, Any]
) -> None:
    async with LocalCluster(protocol, KeyValue, f=1, dir=tmp_path / "c", options=options) as cluster:
        registrar, own = Registrar(cluster.config), cluster._own_client
        assert own is not None
        await own.call("put", "x", "1")
        await registrar.add(own, "bob", "read", tmp_path / "bob", None)
        await known_everywhere(cluster, "bob", "read")
        async with LogClient(tmp_path / "bob", "bob") as bob:
            assert await bob.call("get", "x") == "1"
            assert "role read" in await refused(bob, "put", "x", "2")
            many = [KeyValue.operation("put", "x", "3")] * 5
            with pytest.raises(OperationFailed, match="role read"):
                await bob.submit_many(many)
            with pytest.raises(OperationFailed, match="role read"):
                await Registrar(bob.config).set(bob, "bob", "admin")
            await registrar.set(own, "bob", "write")
            await bob.call("put", "x", "4")
            with pytest.raises(OperationFailed, match="has not role admin"):
                await Registrar(bob.config).set(bob, "cli", "revoked")
            await registrar.set(own, "bob", "admin")
            await Registrar(bob.config).set(bob, "gateway", "read")
            await registrar.set(own, "bob", "revoked")
            await known_everywhere(cluster, "bob", "revoked")
            with pytest.raises(ReplogError):
                await bob.execute(KeyValue.operation("put", "x", "5"), timeout=1.0)
        with pytest.raises(NoCluster, match="says: client bob was revoked"):
            async with LogClient(tmp_path / "bob", "bob", connect_timeout=0.5):
                pass
        assert await own.call("get", "x") == "4"
        names = {one.name: one.role for one in (await own.access()).clients}
        assert names == {"bob": "revoked", "cli": "write", "gateway": "read"}


@pytest.mark.parametrize(("protocol", "n", "options"), CASES[::2], ids=["pbft", "raft"])
async def test_a_gateway_or_replica_cannot_give_what_the_log_refuses(
    tmp_path: Path, protocol: str, n: int, options: dict[str, Any]
) -> None:
    """The words are ordered before anybody looks at the role: a client that calls a command a read gets neither."""
    async with LocalCluster(protocol, KeyValue, f=1, dir=tmp_path / "c", options=options) as cluster:
        registrar, own = Registrar(cluster.config), cluster._own_client
        assert own is not None
        await registrar.add(own, "bob", "read", tmp_path / "bob", None)
        await known_everywhere(cluster, "bob", "read")
        async with LogClient(tmp_path / "bob", "bob") as bob:
            put = KeyValue.operation("put", "x", "1")
            with pytest.raises(OperationFailed, match="NotAQuery"):
                await bob.execute(put, read_only=True)
            done = await bob._ordered([put], False, READ_ONLY, None)
            with pytest.raises(OperationFailed, match="NotAQuery"):
                done.values()
        assert await own.call("get", "x") is None


@pytest.mark.slow
async def test_who_was_away_knows_newcomers_when_it_is_needed(tmp_path: Path) -> None:
    """A replica that missed the registration checks the client's signatures by the state that it fetched: without it
    there is no quorum."""
    made: dict[str, Any] = {"dir": tmp_path / "c", "options": SMALL, "processes": True, "port": free_port(4)}
    async with LocalCluster("pbft", KeyValue, f=1, **made) as cluster:
        own, processes = cluster._own_client, cluster.processes
        assert own is not None
        assert processes is not None
        processes.kill(3)
        await processes.wait_exit(3)
        await Registrar(cluster.config).add(own, "bob", "write", tmp_path / "bob", None)
        async with LogClient(tmp_path / "bob", "bob", timeout=30.0) as bob:
            for count in range(40):
                await bob.call("put", f"x{count}", "1")
            await processes.start([3])
            await processes.wait_serving()
            processes.kill(0)
            await processes.wait_exit(0)
            await bob.call("put", "y", "1")
            assert await bob.call("get", "y") == "1"


async def test_roles_outlive_restarts(tmp_path: Path) -> None:
    async with LocalCluster("pbft", KeyValue, f=1, dir=tmp_path / "c", options=SMALL) as cluster:
        own = cluster._own_client
        assert own is not None
        await Registrar(cluster.config).add(own, "bob", "write", tmp_path / "bob", None)
        for count in range(40):
            await own.call("put", f"x{count}", "1")
    async with LocalCluster("pbft", KeyValue, f=1, dir=tmp_path / "c") as cluster:
        await known_everywhere(cluster, "bob", "write")
        async with LogClient(tmp_path / "bob", "bob") as bob:
            await bob.call("put", "x", "2")


async def test_a_client_hands_over_public_keys_alone(tmp_path: Path) -> None:
    _, file = handover.make(tmp_path / "keys", "bob", (handover.CLIENT,))
    async with LocalCluster("raft", KeyValue, f=1, dir=tmp_path / "c") as cluster:
        own = cluster._own_client
        assert own is not None
        registrar = Registrar(cluster.config)
        await registrar.add(own, "bob", "write", tmp_path / "bob", file.public("client"))
        assert not (tmp_path / "bob" / "client-bob" / "key.pem").exists()
        assert install(ClusterConfig.load(tmp_path / "bob"), tmp_path / "keys") == ["client bob"]
        async with LogClient(tmp_path / "bob", "bob") as bob:
            await bob.call("put", "x", "1")
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(OperationFailed, match="has the key of client bob"):
            await registrar.add(own, "eve", "write", tmp_path / "eve", file.public("client"))
        with pytest.raises(ConfigError, match="exists already"):
            await registrar.add(own, "eve", "write", tmp_path / "bob", None)
        assert sorted(os.listdir(tmp_path)) == before
        (cluster.config.folder / "ca.key").unlink()
        with pytest.raises(ConfigError, match=r"ca\.key: is missing"):
            await registrar.add(own, "eve", "write", tmp_path / "eve", None)


async def test_keys_without_a_place_in_the_log_are_worth_nothing(tmp_path: Path) -> None:
    """Who has the authority's key can make certificates; who may say what is for the log to say."""
    async with LocalCluster("raft", KeyValue, f=1, dir=tmp_path / "c") as cluster:
        config, own = cluster.config, cluster._own_client
        assert own is not None
        registrar = Registrar(config)

        async def not_ordered(*_: Any) -> Any:
            return await own.access()

        registrar._grant = not_ordered  # type: ignore[method-assign]
        await registrar.add(own, "eve", "admin", tmp_path / "eve", PublicKeys(*["00" * 32] * 2))
        shutil.rmtree(tmp_path / "eve")
        await registrar.add(own, "eve", "admin", tmp_path / "eve", None)
        with pytest.raises(NoCluster, match="client eve is not registered"):
            async with LogClient(tmp_path / "eve", "eve", connect_timeout=0.5):
                pass


@pytest.mark.slow
def test_the_command(shell: Shell) -> None:
    with shell.cluster("raft", count=3):
        shell.run("key", "new", "bob", "--client", "--out", "keys")
        done = shell.run("client", "add", "keys/bob.pub", "--role", "read", "--out", "bob")
        assert done.stdout.strip() == "client bob has role read"
        shell.run("key", "install", "keys", "--cluster", "bob")
        assert shell.complaint("kv", "put", "x", "1", "--cluster", "bob", code=1).startswith("replog: AccessRefused: ")
        assert shell.said("client", "revoke", "bob").startswith("client bob is revoked")
        assert "bob" in shell.said("client", "list")
        assert "client bob was revoked" in shell.complaint("kv", "get", "x", "--cluster", "bob", code=3)
