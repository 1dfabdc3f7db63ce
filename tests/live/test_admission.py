"""Whom the gateway serves: tokens, certificates of registered clients, or anybody, and that it says so."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from replog import LocalCluster, certificates
from replog.access import Access, Registered, beginning
from replog.certificates import link_name
from replog.config import ClusterConfig
from replog.errors import ConfigError
from replog.host import HostConfig, gateway_hosts
from replog.live import admission, gateway
from replog.live.admission import Admission, NotAdmitted, Tokens
from replog.live.client import LogClient
from replog.live.gateway import Gateway, exposed
from replog.live.registering import Registrar
from replog.rotation import begin, certify, finish

pytestmark = pytest.mark.live
CLUSTER = "ab" * 16
CLIENTS = beginning(
    [
        Registered(name, bytes([place]) * 32, role)
        for place, (name, role) in enumerate(  # type: ignore[arg-type]
            (("boss", "admin"), ("gone", "revoked"), ("reader", "read"), ("writer", "write"))
        )
    ]
)


def shown(name: str, cluster: str = CLUSTER) -> Mapping[str, Any]:
    return {"subjectAltName": (("URI", link_name(cluster, name)),)}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def access() -> Access:
    return CLIENTS


async def status(gate: Admission, headers: Mapping[str, str], shown: Any = None, writes: bool = False) -> int:
    """200, or that of the refusal."""
    try:
        await gate.check(headers, shown, writes=writes)
    except NotAdmitted as error:
        return error.status
    return 200


async def test_a_token_does_what_its_role_says_until_it_is_revoked(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    gate = Admission(CLUSTER, tokens, False, access)
    assert gate.is_open
    assert await status(gate, {}, writes=True) == 200
    reader, writer = Tokens(tmp_path).add("r", "read"), Tokens(tmp_path).add("w", "write")
    assert await status(gate, {}) == 401
    assert await status(gate, bearer(reader)) == 200
    assert await status(gate, bearer(reader), writes=True) == 403
    assert await status(gate, bearer(writer), writes=True) == 200
    for wrong in ("", "x", reader[:-1], reader + "x", f"{reader} {writer}", "\udcff", "x" * 10_000):
        assert await status(gate, bearer(wrong)) == 401
    assert await status(gate, {"Authorization": f"Basic {reader}"}) == 401
    assert await status(gate, {}, shown("writer")) == 401, "certificates are not asked for"
    Tokens(tmp_path).revoke("r")
    assert await status(gate, bearer(reader)) == 401
    Tokens(tmp_path).revoke("w")
    assert await status(gate, {}) == 401, "a file without tokens lets nobody in"


async def test_a_certificate_does_what_the_role_of_its_client_says(tmp_path: Path) -> None:
    gate = Admission(CLUSTER, Tokens(tmp_path), True, access)
    assert not gate.is_open
    for name, reads, writes in (("boss", 200, 200), ("reader", 200, 403), ("writer", 200, 200), ("gone", 403, 403)):
        assert await status(gate, {}, shown(name)) == reads
        assert await status(gate, {}, shown(name), writes=True) == writes
    assert await status(gate, {}, shown("stranger")) == 403
    assert await status(gate, {}, shown("writer", "cd" * 16)) == 401
    assert await status(gate, {}, {"subjectAltName": (("URI", f"replog:{CLUSTER}:node:0"),)}) == 401
    assert await status(gate, {}) == 401


def test_tokens_are_kept_as_hashes_for_their_owner_alone(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    token = tokens.add("app", "write")
    assert token.encode() not in tokens.path.read_bytes()
    assert tokens.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="there is one of this name"):
        tokens.add("app", "read")
    with pytest.raises(ConfigError, match="there is none of this name; there are app"):
        tokens.revoke("other")
    with pytest.raises(ConfigError, match="name"):
        tokens.add("No Name", "read")
    tokens.path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 0640\); mend it with: chmod 600"):
        Tokens(tmp_path)
    tokens.path.chmod(0o600)
    tokens.path.write_text("tokens = 3\n")
    with pytest.raises(ConfigError, match=r"tokens\.toml: tokens = 3"):
        Tokens(tmp_path)


@pytest.mark.parametrize(
    ("host", "tls", "is_open", "words"),
    [
        ("127.0.0.1", False, True, ""),
        ("::1", False, True, ""),
        ("localhost", False, True, ""),
        ("0.0.0.0", False, True, "serves whoever gets there"),
        ("h1", True, True, "serves whoever gets there"),
        ("h1", False, False, "takes tokens in clear"),
        ("h1", True, False, ""),
    ],
)
def test_what_is_exposed_is_told(host: str, tls: bool, is_open: bool, words: str) -> None:
    told = exposed(host, tls=tls, is_open=is_open)
    assert words in told
    assert bool(told) == bool(words)


async def test_over_https_with_a_token_or_a_certificate(tmp_path: Path) -> None:
    async with LocalCluster("raft", f=1, dir=tmp_path / "c") as cluster:
        config, own = cluster.config, cluster._own_client
        assert own is not None
        await Registrar(config).add(own, "bob", "read", tmp_path / "bob", None)
        finish(config, config.client_folder("gateway"), _renewed(config))
        (config.folder / "host.toml").write_text("version = 1\n[gateway]\ntls = true\ncertificates = true\n")
        token = Tokens(config.client_folder("gateway")).add("app", "write")
        link = gateway._https(config, HostConfig.of(config).gateway)
        async with LogClient(config, "gateway") as client:
            server = TestServer(Gateway(config, client).application())
            await server.start_server(ssl=link.server)
            address = f"https://localhost:{server.port}"
            try:
                async with aiohttp.ClientSession(connector=_trusting(config, None)) as anybody:
                    assert await _status(anybody, "GET", f"{address}/healthz") in (200, 503)
                    assert await _status(anybody, "GET", f"{address}/kv/x") == 401
                    assert await _status(anybody, "GET", f"{address}/metrics") == 401
                    assert await _status(anybody, "PUT", f"{address}/kv/x", bearer(token)) == 200
                async with aiohttp.ClientSession(connector=_trusting(config, tmp_path / "bob")) as bob:
                    assert await _status(bob, "GET", f"{address}/kv/x") == 200
                    assert await _status(bob, "POST", f"{address}/call/scan") == 200
                    assert await _status(bob, "PUT", f"{address}/kv/x") == 403
                    assert await _status(bob, "POST", f"{address}/call/put") == 403
            finally:
                await server.close()


def _renewed(config: ClusterConfig) -> str:
    import datetime

    return certify(config, begin(config, config.client_folder("gateway")), datetime.timedelta(days=9))


def _trusting(config: ClusterConfig, client: Path | None) -> aiohttp.TCPConnector:
    """As anybody's library does: by the name of the host, under the cluster's authority."""
    context = ssl.create_default_context(cafile=str(config.folder / "ca.pem"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if client is not None:
        context.load_cert_chain(client / "client-bob" / "tls.pem", client / "client-bob" / "tls.key")
    return aiohttp.TCPConnector(ssl=context)


async def _status(session: aiohttp.ClientSession, method: str, url: str, headers: Any = None) -> int:
    async with session.request(method, url, headers=headers, data=b"1" if method == "PUT" else None) as answer:
        return answer.status


async def test_a_refusal_of_the_replicas_is_one_of_http(tmp_path: Path) -> None:
    async with LocalCluster("raft", f=1, dir=tmp_path / "c") as cluster:
        own = cluster._own_client
        assert own is not None
        await Registrar(cluster.config).set(own, "gateway", "read")
        async with LogClient(cluster.config, "gateway") as client:
            http: TestClient[web.Request, web.Application] = TestClient(
                TestServer(Gateway(cluster.config, client).application())
            )
            await http.start_server()
            try:
                answer = await http.put("/kv/x", data="1")
                assert answer.status == 403
                assert (await answer.json())["error"] == "AccessRefused"
                assert (await http.get("/kv/x")).status == 404
                metrics = await (await http.get("/metrics")).text()
                assert metrics.count("replog_replica_certificate_end_seconds{") == cluster.config.n
                assert "replog_gateway_certificate_end_seconds " in metrics
            finally:
                await http.close()


def test_nobody_but_a_gateway_is_certified_for_a_host(tmp_path: Path) -> None:
    from replog.config import create_cluster

    config = create_cluster(tmp_path / "c", "raft")
    assert gateway_hosts(config, "gateway") == ("127.0.0.1", "localhost", "127.0.0.1")
    for who in ("cli", "gateway-7", "gateway-x", "gatewayx", 0):
        assert gateway_hosts(config, who) == ()
    assert certificates.link_of((config.node_folder(0) / "tls.pem").read_text(), config.cluster)[0] == 0
    assert admission.ACCESS_S < 60


# ------------------------------------------------------------------------------------------- what is broken on purpose


@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [
        (Admission, "is_open", property(lambda _: True)),
        (Tokens, "find", lambda self, _: next(iter(self._known.values()), None)),
        (Tokens, "look", lambda _: None),
        (admission, "_hash", lambda token: "0" * 64),
    ],
)
async def test_who_lets_in_too_many_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Any
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises((AssertionError, ConfigError)):
        await test_a_token_does_what_its_role_says_until_it_is_revoked(tmp_path)


async def test_who_asks_nobody_about_roles_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def admin(*_: Any) -> tuple[str, str]:
        return "anybody", "admin"

    monkeypatch.setattr(Admission, "_registered", admin)
    with pytest.raises(AssertionError):
        await test_a_certificate_does_what_the_role_of_its_client_says(tmp_path)
