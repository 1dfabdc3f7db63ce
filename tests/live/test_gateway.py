"""The HTTP API: over a real cluster in this loop, and over clients whose answers a test decides."""

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yarl
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from replog import LocalCluster
from replog.config import ClusterConfig, create_cluster
from replog.errors import (
    NoCluster,
    NotCommitted,
    OperationFailed,
    OutcomeUnknown,
    Overloaded,
    RequestTooLarge,
)
from replog.interface import Result, Said
from replog.live.client import LogClient
from replog.live.gateway import Gateway
from replog.membership import Member, genesis
from replog.types import REQUEST_BYTES_MAX, Status

SENT = "replog_replica_messages_sent_total"
Http = TestClient[web.Request, web.Application]
pytestmark = pytest.mark.live


async def served(config: ClusterConfig, client: Any) -> Http:
    http: Http = TestClient(TestServer(Gateway(config, client).application()))
    await http.start_server()
    return http


@pytest.fixture(params=["pbft", "raft"])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Http]:
    """A gateway over a real cluster of the protocol, as its own client."""
    async with LocalCluster(request.param, f=1) as cluster, LogClient(cluster.config, "gateway") as client:
        served_ = await served(cluster.config, client)
        try:
            await client.wait_connected(cluster.config.n)
            yield served_
        finally:
            await served_.close()


async def told(response: Awaitable[aiohttp.ClientResponse], status: int = 200) -> Any:
    answer = await response
    assert answer.status == status, await answer.text()
    assert answer.content_type == "application/json"
    return await answer.json()


async def test_a_key_from_put_to_delete(http: Http) -> None:
    put = await told(http.put("/kv/x", data="1"))
    assert put["index"] >= 1
    quorum = (await told(http.get("/status")))["f"] + 1 if len(put["vouchers"]) > 1 else 1
    assert len(set(put["vouchers"])) >= quorum
    assert (await told(http.get("/kv/x")))["value"] == "1"
    await told(http.put("/kv/a/b%20c", data="ä"))
    assert (await told(http.get("/kv/a/b%20c")))["value"] == "ä"
    assert (await told(http.get("/kv", params={"prefix": "a/"})))["value"] == [["a/b c", "ä"]]
    assert (await told(http.delete("/kv/x")))["value"] is True
    assert (await told(http.get("/kv/x"), 404))["value"] is None


async def test_methods_are_called_in_order_or_by_name(http: Http) -> None:
    assert (await told(http.post("/call/append", json=["x", "a"])))["value"] == "a"
    assert (await told(http.post("/call/append", json={"value": "b", "key": "x"})))["value"] == "ab"
    assert (await told(http.post("/call/scan")))["value"] == [["x", "ab"]]
    assert (await told(http.post("/call/cas", json=["x", "nothing", "c"])))["value"] is False


async def test_what_operators_ask(http: Http) -> None:
    await told(http.put("/kv/x", data="1"))
    health = await told(http.get("/healthz"))
    assert health["has_quorum"]
    assert health["in_sync"] >= health["quorum"]
    status = await told(http.get("/status"))
    assert [replica["node"] for replica in status["replicas"]] == list(range(status["n"]))
    assert "in sync, quorum ok" in status["sentence"]
    metrics = await (await http.get("/metrics")).text()
    assert 'replog_gateway_requests_total{route="PUT /kv/{key}",status="200"} 1.0' in metrics
    assert "replog_has_quorum 1.0" in metrics
    assert metrics.count("replog_replica_index{") == status["n"]
    for replica in status["replicas"]:
        (line,) = [line for line in metrics.splitlines() if line.startswith(f'{SENT}{{node="{replica["node"]}"}}')]
        assert float(line.split()[1]) >= replica["counters"]["messages_sent"] > 0


# ------------------------------------------------------------------------------------------------------------- errors


class Scripted:
    """A client whose next answer a test decides; the gateway must not need more than this."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.place: tuple[int, int] | tuple[None, None] = (7, 2)
        self.statuses: list[Status | None] = [None] * 4
        self.members = genesis(1, [Member(node, "127.0.0.1", 4700 + node, bytes(32)) for node in range(4)])
        self.places: dict[int, str] = {}

    async def ask(self, method: str, *arguments: Any, stale: bool = False) -> Result:
        if self.error is not None:
            raise self.error
        index, position = self.place
        return Result([method, *arguments], index, position, (0, 3))

    async def status(self) -> list[Said]:
        return [Said(node, status) for node, status in enumerate(self.statuses)]


Pair = tuple[Http, Scripted]


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[Pair]:
    client = Scripted()
    http = await served(create_cluster(tmp_path / "cluster", "pbft", f=1), client)
    yield http, client
    await http.close()


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (OperationFailed("ValueError", "amount < 0"), 422, "ValueError"),
        (OperationFailed("Conflict", "taken"), 409, "Conflict"),
        (Overloaded("too much"), 503, "Overloaded"),
        (RequestTooLarge("divide it"), 413, "RequestTooLarge"),
        (RuntimeError("a wire came loose"), 500, "InternalError"),
        (NotCommitted("not sent"), 503, "NotCommitted"),
        (OutcomeUnknown("no answer"), 504, "OutcomeUnknown"),
        (NoCluster("nobody there"), 503, "NoCluster"),
    ],
)
async def test_each_end_of_a_call_has_a_status(scripted: Pair, error: Exception, status: int, kind: str) -> None:
    http, client = scripted
    client.error = error
    problem = await told(http.put("/kv/x", data="1"), status)
    assert problem["error"] == kind
    assert problem["message"]


async def test_answers_name_place_and_vouchers(scripted: Pair) -> None:
    http, _ = scripted
    answer = await told(http.post("/call/put", json=["x", "1"]))
    assert answer == {"value": ["put", "x", "1"], "index": 7, "position": 2, "vouchers": [0, 3]}


async def test_a_read_that_was_not_ordered_has_no_place(scripted: Pair) -> None:
    http, client = scripted
    client.place = (None, None)
    answer = await told(http.get("/kv/x"))
    assert answer == {"value": ["get", "x"], "index": None, "position": None, "vouchers": [0, 3]}


Send = Callable[[Http], Awaitable[aiohttp.ClientResponse]]


@pytest.mark.parametrize(
    ("send", "status", "words"),
    [
        (lambda http: http.post("/call/fly"), 404, ("fly", "append, cas")),
        (lambda http: http.post("/call/put", data=b"{"), 400, ("not JSON", "put(key: str")),
        (lambda http: http.post("/call/put", json=5), 400, ("array", "put(key: str")),
        (lambda http: http.post("/call/put", json=["x"]), 422, ("1 argument given", "2")),
        (lambda http: http.post("/call/put", json=["x", 1]), 422, ("value", "must be str")),
        (lambda http: http.post("/call/put", json={"key": "x", "worth": "1"}), 422, ("worth", "no such argument")),
        (lambda http: http.post("/call/put", json={"key": "x"}), 422, ("value", "missing")),
        (lambda http: http.post("/call/put", data=b"[" * 100_000), 400, ("not JSON",)),
        (lambda http: http.put("/kv/x", data=b"\xff"), 400, ("UTF-8",)),
        (lambda http: http.put("/kv/x", data=io.BytesIO(bytes(REQUEST_BYTES_MAX + 1))), 413, (str(REQUEST_BYTES_MAX),)),
        (lambda http: http.post("/call/scan", data=b'["x", 18446744073709551616]'), 400, ("limit", "2^64 - 1")),
        (lambda http: http.put("/kv/x", data=b"junk", headers=GZIP), 400, ("cannot be read",)),
        (lambda http: http.get("/nowhere"), 404, ("NotFound", "nothing at /nowhere", "/openapi.json")),
    ],
)
async def test_what_is_wrong_is_named(scripted: Pair, send: Send, status: int, words: tuple[str, ...]) -> None:
    http, _ = scripted
    problem = json.dumps(await told(send(http), status))
    assert all(word in problem for word in words), problem


GZIP = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize("raw", ["/kv/%FF", "/kv/%ed%a0%80", "/kv/%zz", "/kv/x%", "/kv?prefix=%FF"])
async def test_what_is_no_utf8_names_no_key(scripted: Pair, raw: str) -> None:
    http, _ = scripted
    problem = await told(http.get(yarl.URL(raw, encoded=True)), 400)
    assert raw.removeprefix("/kv")[1:] in problem["message"]
    assert "UTF-8" in problem["rule"]


@pytest.mark.parametrize(
    ("raw", "key"), [("%25FF", "%FF"), ("a%2Fb//c", "a/b//c"), ("%C3%A4+", "ä+"), ("%EF%BF%BD", "\ufffd")]
)
async def test_a_key_is_what_its_encoding_says(scripted: Pair, raw: str, key: str) -> None:
    http, _ = scripted
    assert (await told(http.get(yarl.URL(f"/kv/{raw}", encoded=True))))["value"] == ["get", key]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/kv/x", "DELETE,GET,HEAD,PUT"), ("GET", "/call/put", "POST"), ("DELETE", "/status", "GET,HEAD")],
)
async def test_a_wrong_method_is_told_the_right_ones(scripted: Pair, method: str, path: str, allowed: str) -> None:
    http, _ = scripted
    answer = await http.request(method, path)
    assert answer.headers["Allow"] == allowed
    problem = await told(http.request(method, path), 405)
    assert problem["error"] == "MethodNotAllowed"
    assert problem["rule"] == f"it takes {allowed.replace(',', ', ')}"


async def test_a_value_beyond_the_limit_is_refused_alike(http: Http) -> None:
    """Just below the limit of a body, above that of a request: both protocols say so, and neither has it."""
    problem = await told(http.put("/kv/x", data=b"v" * (REQUEST_BYTES_MAX - 1)), 413)
    assert f"request_bytes_max = {REQUEST_BYTES_MAX}" in problem["message"]
    assert (await told(http.get("/kv/x"), 404))["value"] is None
    await told(http.put("/kv/x", data=b"v" * (REQUEST_BYTES_MAX - 1024)))


async def test_health_follows_the_quorum(scripted: Pair) -> None:
    http, client = scripted
    assert (await told(http.get("/healthz"), 503))["has_quorum"] is False
    client.statuses[:3] = [Status(node, "pbft", "backup", 0, 0, 5, 0, True) for node in range(3)]
    assert (await told(http.get("/healthz")))["in_sync"] == 3
    metrics = await (await http.get("/metrics")).text()
    assert 'replog_replica_up{node="3"} 0.0' in metrics


async def test_the_metrics_take_no_counter_for_what_is_none(scripted: Pair) -> None:
    """A replica that lies about itself spoils its own lines, not the page; of one that is silent nothing is shown."""
    http, client = scripted
    word = Status(0, "pbft", "backup", 0, 0, 5, 0, True, detail={"messages_sent": 7, "signatures_made": 2})
    lie = {"messages_sent": "many", "signatures_made": -1, 'x"}\nforged': 1}
    client.statuses[:2] = [word, msgspec.structs.replace(word, node=1, detail=lie)]
    metrics = await (await http.get("/metrics")).text()
    assert f'{SENT}{{node="0"}} 7.0' in metrics
    assert 'replog_replica_signatures_made_total{node="0"} 2.0' in metrics
    assert 'node="1"' not in "".join(line for line in metrics.splitlines() if "_total{" in line)
    assert "forged" not in metrics
    client.statuses[0] = None
    assert f"{SENT}{{" not in await (await http.get("/metrics")).text()


async def test_the_description_covers_every_method(scripted: Pair) -> None:
    http, _ = scripted
    described = await told(http.get("/openapi.json"))
    assert described["openapi"].startswith("3.1")
    assert {"/call/put", "/call/cas", "/kv/{key}", "/kv", "/status", "/healthz", "/metrics"} <= set(described["paths"])
    in_order, by_name = described["paths"]["/call/cas"]["post"]["requestBody"]["content"]["application/json"]["schema"][
        "oneOf"
    ]
    assert in_order["minItems"] == in_order["maxItems"] == 3
    assert by_name["required"] == ["key", "expected", "value"]
    assert by_name["properties"]["key"] == {"type": "string"}
    names = _references(described)
    assert names == {"Answer", "Problem"} == set(described["components"]["schemas"])


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"].rpartition("/")[2]} if "$ref" in value else set()
        return own.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


async def test_an_application_without_keys_has_no_kv(tmp_path: Path) -> None:
    config = create_cluster(tmp_path / "cluster", "pbft", f=1, app="replog.apps.counter:Counter")
    http = await served(config, Scripted())
    try:
        problem = await told(http.put("/kv/x", data="1"), 404)
        assert "POST /call/METHOD" in problem["rule"]
        assert "/kv/{key}" not in (await told(http.get("/openapi.json")))["paths"]
    finally:
        await http.close()
