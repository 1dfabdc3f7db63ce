"""The HTTP API of a cluster, in a process of its own: a full client with its own key, never part of a replica.

Every answer rests on as many matching signed-for replies as the protocol's client rules ask, and says so: it carries
the index in the log, null for a read that was not ordered, and the replicas that vouched. Runs as
`python -m replog.live.gateway DIR`, on loopback and on the port 100 above the first replica's unless host.toml says
otherwise. Whom it serves: `replog.live.admission`. Only /status and /metrics
hand on what single replicas say of themselves.

    PUT, GET, DELETE /kv/KEY    GET /kv?prefix=    POST /call/METHOD    GET /status /metrics /healthz /openapi.json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import logging.handlers
import os
import re
import signal
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from pydantic import BaseModel

from replog import certificates
from replog.config import ClusterConfig
from replog.errors import (
    ConfigError,
    NotCommitted,
    OperationFailed,
    OutcomeUnknown,
    Overloaded,
    ReplogError,
    RequestTooLarge,
)
from replog.host import GatewayConfig, HostConfig, gateway_place, is_loopback
from replog.interface import Result, Said
from replog.live import report, telling
from replog.live.admission import Admission, NotAdmitted, Tokens
from replog.live.arguments import Unencodable, WrongArguments, of_values
from replog.live.client import LogClient
from replog.live.counters import TOLD
from replog.live.links import bind
from replog.live.openapi import description
from replog.live.processes import LocalProcesses
from replog.statemachine import Method

log = logging.getLogger("replog.gateway")

LOG_BYTES_MAX = 8 * 1024 * 1024
CERTIFICATE_LOOK_S = 2.0
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
HEALTH = "/healthz"
KEY_VALUE = ("get", "put", "delete", "scan")
"""An application with these methods is served under /kv."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answer(BaseModel):
    """What became of one operation, and which replicas vouched for it. Index and position are its place in the log,
    null for a read that was answered at once and has none."""

    value: Any
    index: int | None
    position: int | None
    vouchers: list[int]


class Problem(BaseModel):
    """Why a request was not carried out: the kind of error, what happened, and the rule it broke, if one."""

    error: str
    message: str
    rule: str | None = None


class Refusal(Exception):
    """A request of HTTP that ends before it reaches the cluster."""

    def __init__(self, status: int, error: str, message: str, rule: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(error=error, message=message, rule=rule)


class ReplicaCounters(Collector):
    """What each replica said last that its process did; of one that does not answer, nothing."""

    def __init__(self) -> None:
        self.said: list[Said] = []

    def collect(self) -> Iterator[CounterMetricFamily]:
        told = {str(word.node): report.counters_of(word.status) for word in self.said if word.status is not None}
        for name, text in TOLD.items():
            family = CounterMetricFamily(f"replog_replica_{name}", f"{text}, the replica's own word", labels=("node",))
            for node, counters in told.items():
                if name in counters:
                    family.add_metric((node,), counters[name])
            yield family


class Meters:
    """What /metrics shows. A registry of its own: several gateways may live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "replog_gateway_requests", "HTTP requests by route and status", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "replog_gateway_request_seconds", "Time to answer, by route", ("route",), registry=self.registry
        )
        self.index = self._gauge("replog_replica_index", "Last applied index, the replica's own word")
        self.view = self._gauge("replog_replica_view", "View or term, the replica's own word")
        self.in_sync = self._gauge("replog_replica_in_sync", "1 if the replica says that it is in sync")
        self.up = self._gauge("replog_replica_up", "1 if the replica answers")
        self.ends = self._gauge(
            "replog_replica_certificate_end_seconds",
            "When the certificate of its links ends, seconds since 1970, the replica's own word",
        )
        self.own_end = Gauge(
            "replog_gateway_certificate_end_seconds",
            "When the gateway's own certificate ends, seconds since 1970",
            registry=self.registry,
        )
        self.counters = ReplicaCounters()
        self.registry.register(self.counters)
        self.quorum = Gauge("replog_has_quorum", "1 if enough replicas are in sync to commit", registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ("node",), registry=self.registry)

    def take(self, said: list[Said], quorum: bool) -> None:
        self.quorum.set(quorum)
        self.counters.said = said
        for word in said:
            node, status = str(word.node), word.status
            self.up.labels(node).set(status is not None)
            self.in_sync.labels(node).set(status is not None and status.in_sync)
            if status is not None:
                self.index.labels(node).set(status.index)
                self.view.labels(node).set(status.view)
                if (end := report.certificate_ends(status)) is not None:
                    self.ends.labels(node).set(end)


class Gateway:
    """The routes over one client. Holds no state of the service: every answer comes from the cluster."""

    def __init__(self, config: ClusterConfig, client: LogClient) -> None:
        """Raises ConfigError (host.toml, tokens)."""
        self._config = config
        self._client = client
        settings = HostConfig.of(config).gateway
        self._folder = config.client_folder(settings.client)
        tokens = Tokens(self._folder)
        self.admission = Admission(config.cluster, tokens, settings.certificates, lambda: client.access())
        self._processes = LocalProcesses(config)
        self._methods = {method.name: method for method in config.machine().describe()}
        self._body_bytes_max = config.spec.client_rules(config.n, config.f, config.protocol_options()).request_bytes_max
        self._meters = Meters()
        self._openapi = description(
            config.app_name, config.app_version, self._methods, (Answer, Problem), key_value=self._has_kv
        )

    @property
    def _has_kv(self) -> bool:
        return all(name in self._methods for name in KEY_VALUE)

    def application(self) -> web.Application:
        app = web.Application(
            middlewares=[self._measured, _as_problems, self._admitted], client_max_size=self._body_bytes_max
        )
        app.add_routes(
            [
                web.put("/kv/{key:.+}", self._put),
                web.get("/kv/{key:.+}", self._get),
                web.delete("/kv/{key:.+}", self._delete),
                web.get("/kv", self._scan),
                web.post("/call/{method}", self._call),
                web.get("/status", self._status),
                web.get("/metrics", self._metrics),
                web.get(HEALTH, self._healthz),
                web.get("/openapi.json", self._describe),
            ]
        )
        return app

    # --------------------------------------------------------------------------------------------------- operations

    async def _put(self, request: web.Request) -> web.Response:
        try:
            value = (await request.read()).decode()
        except UnicodeDecodeError:
            raise Refusal(400, "BadRequest", "the body is not UTF-8", "a value is UTF-8 text") from None
        return _answer(await self._kv("put", _key(request), value))

    async def _get(self, request: web.Request) -> web.Response:
        result = await self._kv("get", _key(request), stale=_stale(request))
        return _answer(result, 404 if result.value is None else 200)

    async def _delete(self, request: web.Request) -> web.Response:
        return _answer(await self._kv("delete", _key(request)))

    async def _scan(self, request: web.Request) -> web.Response:
        _unquoted("query", request.rel_url.raw_query_string)
        return _answer(await self._kv("scan", request.query.get("prefix", ""), stale=_stale(request)))

    async def _kv(self, name: str, *arguments: str, stale: bool = False) -> Result:
        if not self._has_kv:
            rule = f"/kv is for a key-value application; use POST /call/METHOD with one of {', '.join(self._methods)}"
            raise Refusal(404, "NoSuchRoute", f"this cluster runs {self._config.app_name}", rule)
        return await self._client.ask(name, *arguments, stale=stale)

    async def _call(self, request: web.Request) -> web.Response:
        method = self._methods.get(request.match_info["method"])
        if method is None:
            known = f"methods: {', '.join(self._methods)}"
            raise Refusal(404, "NoSuchMethod", f"no method {request.match_info['method']!r}", known)
        if (stale := _stale(request)) and not method.reads:
            raise Refusal(400, "BadRequest", "stale = true", f"{method.name} is a command, only a query may be stale")
        return _answer(await self._client.ask(method.name, *await _arguments(request, method), stale=stale))

    # -------------------------------------------------------------------------------------------------- observation

    async def _status(self, request: web.Request) -> web.Response:
        said = list(await self._client.status())
        members, places = self._client.members, self._client.places
        return _json(report.report(self._config, said, self._processes.pids(), members, places))

    async def _metrics(self, request: web.Request) -> web.Response:
        said = list(await self._client.status())
        self._meters.take(said, self._working(said) >= self._quorum)
        with contextlib.suppress(ConfigError):
            self._meters.own_end.set(certificates.ends(self._folder / certificates.LINK_CERTIFICATE).timestamp())
        return web.Response(body=generate_latest(self._meters.registry), content_type="text/plain", charset="utf-8")

    async def _healthz(self, request: web.Request) -> web.Response:
        """200 while enough replicas are in sync to commit, 503 otherwise. Each replica speaks for itself."""
        in_sync = self._working(await self._client.status())
        has_quorum = in_sync >= self._quorum
        body = {"in_sync": in_sync, "n": self._client.members.n, "quorum": self._quorum, "has_quorum": has_quorum}
        return _json(body, 200 if has_quorum else 503)

    @property
    def _quorum(self) -> int:
        return report.quorum_of(self._config, self._client.members)

    def _working(self, said: Sequence[Said]) -> int:
        """Members that say that they are in sync."""
        return report.in_sync([word for word in said if word.node in self._client.members.ids])

    async def _describe(self, request: web.Request) -> web.Response:
        return _json(self._openapi)

    @web.middleware
    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """/healthz is for whoever watches: it tells how many replicas are in sync, and changes nothing."""
        if request.path != HEALTH:
            transport = request.transport
            certificate = transport.get_extra_info("peercert") if transport is not None else None
            try:
                await self.admission.check(request.headers, certificate, writes=self._writes(request))
            except NotAdmitted as error:
                kind = "Unauthorized" if error.status == 401 else "Forbidden"
                raise Refusal(error.status, kind, str(error), error.rule) from None
        return await handler(request)

    def _writes(self, request: web.Request) -> bool:
        if request.method in ("GET", "HEAD"):
            return False
        method = self._methods.get(request.match_info.get("method", ""))
        return method is None or not method.reads

    @web.middleware
    async def _measured(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        begin = time.monotonic()
        response = await handler(request)
        resource = request.match_info.route.resource
        route = f"{request.method} {resource.canonical if resource is not None else 'unknown'}"
        self._meters.requests.labels(route, str(response.status)).inc()
        self._meters.seconds.labels(route).observe(time.monotonic() - begin)
        return response


def _key(request: web.Request) -> str:
    return _unquoted("key", request.rel_url.raw_path.split("/", 2)[2])


def _stale(request: web.Request) -> bool:
    """Whether whoever asks takes an old state: `?stale=true`."""
    asked = request.query.get("stale", "false")
    if asked not in ("true", "false"):
        raise Refusal(400, "BadRequest", f"stale = {asked!r:.80}", "it is true or false")
    return asked == "true"


def _unquoted(name: str, raw: str) -> str:
    """Two texts never become one key: what is no percent-encoded UTF-8 is refused, not mended."""
    try:
        if _BAD_ESCAPE.search(raw):
            raise ValueError
        return unquote_to_bytes(raw).decode()
    except ValueError:
        rule = "it is UTF-8, and a percent sign is followed by two hex digits"
        raise Refusal(400, "BadRequest", f"the {name} {raw!r:.80} is not percent-encoded UTF-8", rule) from None


async def _arguments(request: web.Request, method: Method) -> list[Any]:
    """The arguments in the body: a JSON array in order, a JSON object by name, or nothing."""
    raw = await request.read()
    try:
        given = msgspec.json.decode(raw) if raw else []
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(400, "BadRequest", f"the body is not JSON: {error}", method.signature) from None
    if not isinstance(given, list | dict):
        raise Refusal(400, "BadRequest", "the body is neither a JSON array nor an object", method.signature)
    try:
        return of_values(method, given)
    except Unencodable as error:
        raise Refusal(400, "BadRequest", str(error), method.signature) from None
    except WrongArguments as error:
        raise Refusal(422, "WrongArguments", str(error), method.signature) from None


# ----------------------------------------------------------------------------------------------------------- errors


@web.middleware
async def _as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as JSON; the cluster's own errors under the status that says whether to try again."""
    try:
        return await handler(request)
    except Refusal as error:
        return _problem(error.status, error.problem)
    except web.HTTPException as error:
        return _problem(error.status, _http_problem(request, error), _allowed(error))
    except web.RequestPayloadError as error:
        return _problem(400, Problem(error="BadRequest", message=f"the body cannot be read: {error}"))
    except ReplogError as error:
        return _problem(*_told(error))
    except Exception:
        log.exception("%s %s", request.method, request.path_qs)
        return _problem(500, Problem(error="InternalError", message="a bug of the gateway's own; its log has more"))


def _http_problem(request: web.Request, error: web.HTTPException) -> Problem:
    kind = type(error).__name__.removeprefix("HTTP")
    if isinstance(error, web.HTTPMethodNotAllowed):
        rule = f"it takes {', '.join(sorted(error.allowed_methods))}"
        return Problem(error=kind, message=f"{request.method} is not for {request.path}", rule=rule)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        rule = f"a body has at most request_bytes_max = {request.client_max_size} bytes"
        return Problem(error="RequestTooLarge", message="the body is too large", rule=rule)
    if isinstance(error, web.HTTPNotFound):
        rule = "what there is: see /openapi.json, /status, /metrics, /healthz"
        return Problem(error=kind, message=f"there is nothing at {request.path:.80}", rule=rule)
    return Problem(error=kind, message=error.reason)


def _allowed(error: web.HTTPException) -> dict[str, str]:
    """The methods that the path takes: every 405 says them. [RFC 9110 15.5.6]"""
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


def _told(error: ReplogError) -> tuple[int, Problem]:
    kind = type(error).__name__
    if isinstance(error, OperationFailed):
        status = {"Conflict": 409, "AccessRefused": 403}.get(error.type, 422)
        return status, Problem(error=error.type, message=error.text, rule="refused by the application on every replica")
    if isinstance(error, RequestTooLarge):
        return 413, Problem(error=kind, message=str(error), rule="not sent; divide it")
    if isinstance(error, Overloaded):
        return 503, Problem(error=kind, message=str(error), rule="not executed; try again later")
    if isinstance(error, OutcomeUnknown):
        return 504, Problem(error=kind, message=str(error), rule="it may have been executed, may be later, or never")
    if isinstance(error, NotCommitted):
        return 503, Problem(error=kind, message=str(error), rule="not executed and never will be")
    return 503, Problem(error=kind, message=str(error))


def _problem(status: int, problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    retry = {"Retry-After": "1"} if status == 503 else {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return _json(problem.model_dump(exclude_none=True), status, {**retry, **(headers or {})})


def _answer(result: Result, status: int = 200) -> web.Response:
    answer = Answer(value=result.value, index=result.index, position=result.position, vouchers=list(result.vouchers))
    return _json(answer.model_dump(), status)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(value) + b"\n"
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


# ---------------------------------------------------------------------------------------------------------- process


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code, as of a replica's process."""
    parser = argparse.ArgumentParser(prog="python -m replog.live.gateway", description="Serve a cluster over HTTP.")
    parser.add_argument("folder", type=Path, help="the cluster's folder")
    parser.add_argument("--with-parent", action="store_true", help="stop when the standard input ends")
    options = parser.parse_args(arguments)
    try:
        config = ClusterConfig.load(options.folder)
        _log_to(config.client_folder(HostConfig.of(config).gateway.client) / "gateway.log")
        with telling.parent() as parent:
            asyncio.run(serve(config, parent, with_parent=options.with_parent))
    except ReplogError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    except Exception:
        log.exception("stopped by a bug of its own")
        return 70
    return 0


async def serve(config: ClusterConfig, parent: telling.Parent, *, with_parent: bool) -> None:
    """Take the port and serve until SIGTERM, SIGINT or the parent's end. Replicas may come and go: /healthz tells."""
    host, port = gateway_place(config)
    settings = HostConfig.of(config).gateway
    stopping = _stopping(with_parent=with_parent)
    async with LogClient(config, settings.client, connect_timeout=None) as client:
        gateway = Gateway(config, client)
        link = _https(config, settings) if settings.tls else None
        if warning := exposed(host, tls=settings.tls, is_open=gateway.admission.is_open):
            log.warning("%s", warning)
            sys.stderr.write(f"replog: warning: {warning}\n")
        runner = web.AppRunner(gateway.application(), access_log=None)
        await runner.setup()
        following = asyncio.create_task(_follow_certificate(link)) if link is not None else None
        try:
            context = link.server if link is not None else None
            await web.SockSite(runner, bind(host, port), shutdown_timeout=1.0, ssl_context=context).start()
            parent.tell({"event": "serving", "pid": os.getpid(), "host": host, "port": port})
            await stopping.wait()
        finally:
            if following is not None:
                following.cancel()
            await runner.cleanup()


def exposed(host: str, *, tls: bool, is_open: bool) -> str:
    """What others than this machine could do that they should not; "" if nothing."""
    if is_loopback(host):
        return ""
    if is_open:
        return (
            f"the gateway on {host} serves whoever gets there: give it tokens (replog gateway token add), or "
            "certificates = true and tls = true under [gateway] in host.toml"
        )
    return "" if tls else f"the gateway on {host} takes tokens in clear: tls = true under [gateway] in host.toml"


def _https(config: ClusterConfig, settings: GatewayConfig) -> certificates.LinkCertificate:
    """Whoever shows no certificate may still have a token."""
    folder = config.client_folder(settings.client)
    link = certificates.LinkCertificate(config.cluster, config.folder / "ca.pem", folder, settings.client)
    link.server.verify_mode = ssl.CERT_OPTIONAL if settings.certificates else ssl.CERT_NONE
    return link


async def _follow_certificate(link: certificates.LinkCertificate) -> None:
    while True:
        await asyncio.sleep(CERTIFICATE_LOOK_S)
        try:
            link.look()
        except ConfigError as error:
            log.error("the certificate is not renewed: %s", error)


def _stopping(*, with_parent: bool) -> asyncio.Event:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, stopping.set)
    if with_parent:
        threading.Thread(target=_follow_parent, args=(loop, stopping.set), daemon=True).start()
    return stopping


def _follow_parent(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """In a thread of its own, so that a loop that hangs ends too."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stop)
    time.sleep(3.0)
    os._exit(1)


def _log_to(path: Path) -> None:
    file = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES_MAX, backupCount=2, delay=True)
    errors = logging.StreamHandler(sys.stderr)
    errors.setLevel(logging.ERROR)
    logging.basicConfig(
        level=logging.INFO, handlers=[file, errors], format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )


if __name__ == "__main__":
    sys.exit(main())
