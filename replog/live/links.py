"""Authenticated links: WebSockets over mutual TLS 1.3 under the cluster's own authority.

A pair of replicas shares one link: the higher id dials the lower, again and again with back-off. Clients dial. Both
ends compare the name in the other's certificate with whom they expect, before a byte is taken for a message.

Bounds: a frame by `FRAME_BYTES_MAX`, one of a client by what a request may need; a connection that is no link yet by
`HANDSHAKE_S` from the end of its TLS handshake, and `UNLINKED_MAX` of them a peer; what waits to go out by
`out_bytes_max` a link (more is refused, the sender of it decides what follows); what came in and is not handled yet by
`IN_BYTES_MAX` a link, FRAME_OVERHEAD for each frame counted (then reading stops). A link on which nothing is heard for
1.5 times `HEARTBEAT_S` is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aiohttp
from aiohttp import web

from replog.certificates import peer_of
from replog.codec import FRAME_BYTES_MAX
from replog.config import PORT_MAX
from replog.errors import ConfigError
from replog.live.inbox import FRAME_OVERHEAD
from replog.types import NodeId, Principal

log = logging.getLogger("replog.links")

PATH = "/replog/1/link"
"""Where a link begins. The number is the version of everything that is said on it."""
OUT_BYTES_MAX = 64 * 1024 * 1024
IN_BYTES_MAX = 8 * 1024 * 1024
HEARTBEAT_S = 10.0
HANDSHAKE_S = 5.0
RULE = "Replog-Rule"
"""The header that says why somebody is not let in."""
UNLINKED_MAX = 8
"""Connections under one certificate that are no links yet."""
REASON_BYTES = 120
"""Of the reason in a closing frame; the standard allows 123."""
BACKOFF_MIN_S = 0.02
BACKOFF_MAX_S = 2.0
STEADY_S = 1.0
"""After a link that lasted so long the first pause is short again; not after one that was ended as soon as it began."""


class Refused(Exception):
    """The other end is not who it should be, or does not let us in."""


class Link:
    """One connection whose other end is proved to be `peer`.

    Invariants: frames leave in the order of `send`, each whole; `waiting` <= out_bytes_max, or one frame; `unread`
    counts the bytes handed out by `frames` for which `handled` was not called yet, and FRAME_OVERHEAD for each.
    """

    def __init__(
        self,
        peer: Principal,
        connection: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
        out_bytes_max: int = OUT_BYTES_MAX,
        transport: asyncio.BaseTransport | None = None,
    ) -> None:
        """`transport`: below it, to be given up at once when the other end is gone: TLS would wait half a minute for
        its farewell."""
        self._transport = transport
        self.peer = peer
        self.waiting = 0
        self.unread = 0
        self.dropped = 0
        self._connection = connection
        self.out_bytes_max = out_bytes_max
        self._frames: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._read = asyncio.Event()
        self._sent: tuple[int, Callable[[], None]] | None = None
        self._writer = asyncio.create_task(self._write(), name=f"write to {peer}")

    def send(self, frame: bytes) -> bool:
        """Send soon. False if too much waits already: the frame is dropped and counted. A lone frame always goes."""
        if self.waiting and self.waiting + len(frame) > self.out_bytes_max:
            self.dropped += 1
            return False
        self.waiting += len(frame)
        self._frames.append(frame)
        self._more.set()
        return True

    def room(self, within: int, call: Callable[[], None]) -> bool:
        """Whether at most `within` bytes wait to go out. If not, `call` is called once when that is so; the latest such
        wish counts."""
        self._sent = None if self.waiting <= within else (within, call)
        return self._sent is None

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            while True:
                await self._more.wait()
                self._more.clear()
                while self._frames:
                    frame = self._frames.popleft()
                    await self._connection.send_bytes(frame)
                    self.waiting -= len(frame)
                    if self._sent is not None and self.waiting <= self._sent[0]:
                        self._sent[1]()
                        self._sent = None

    async def frames(self) -> AsyncIterator[bytes]:
        """Frames as they come, until the link ends."""
        async for message in self._connection:
            if message.type is aiohttp.WSMsgType.ERROR:
                raise Refused(f"{self.peer}: {message.data or 'nothing is heard any more'}")
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise Refused(f"{self.peer}: a frame is binary, not {message.type.name}")
            self.unread += len(message.data) + FRAME_OVERHEAD
            yield message.data
            if self.unread > IN_BYTES_MAX:
                self._read.clear()
                await self._read.wait()

    def handled(self, size: int) -> None:
        self.unread -= size + FRAME_OVERHEAD
        if self.unread <= IN_BYTES_MAX:
            self._read.set()

    async def close(self, reason: str = "") -> None:
        """`reason`: what the other end is told, if it broke a rule."""
        self._writer.cancel()
        with contextlib.suppress(ConnectionError, aiohttp.ClientError, asyncio.CancelledError):
            await self._writer
        with contextlib.suppress(ConnectionError, aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(0.5):
                code = aiohttp.WSCloseCode.POLICY_VIOLATION if reason else aiohttp.WSCloseCode.OK
                await self._connection.close(code=code, message=reason.encode()[:REASON_BYTES])
        gone = self._connection.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
        if gone and isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()


Serve = Callable[[Link], Awaitable[None]]
"""Handed each proved link; it lasts until this returns."""


# ---------------------------------------------------------------------------------------------------------- listening


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError naming the port."""
    if not 0 <= port <= PORT_MAX:
        raise ConfigError(f"port = {port}: must be within 0 .. {PORT_MAX}, 0 for one that is free")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(f"port {port} on {host}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener


def is_here(host: str) -> bool:
    """Whether this machine can listen there."""
    try:
        bind(host, 0).close()
    except ConfigError:
        return False
    return True


class _Doorstep(web.Server):
    """Connections from the end of their TLS handshake until they are links: few a peer, and not for long."""

    def __init__(self, cluster: str, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handler, access_log=None)
        self._cluster = cluster
        self._standing: dict[web.RequestHandler, tuple[Principal | None, asyncio.TimerHandle]] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        peer = peer_of(self._cluster, transport.get_extra_info("peercert"))
        if sum(other == peer for other, _ in self._standing.values()) >= UNLINKED_MAX:
            log.warning("refused %s: %d of its connections are no links yet", peer, UNLINKED_MAX)
            transport.abort()
            return
        deadline = asyncio.get_running_loop().call_later(HANDSHAKE_S, self._expire, peer, transport)
        self._standing[handler] = (peer, deadline)

    @staticmethod
    def _expire(peer: Principal | None, transport: asyncio.Transport) -> None:
        log.warning("dropped a connection of %s: no link after %g s", peer, HANDSHAKE_S)
        transport.abort()

    def let_in(self, handler: web.RequestHandler) -> None:
        """It is a link now, or gone."""
        standing = self._standing.pop(handler, None)
        if standing is not None:
            standing[1].cancel()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self.let_in(handler)
        super().connection_lost(handler, exc)


class Listener:
    """Takes links in. `admit(peer)` gives the rule that keeps a proved peer out, or None."""

    def __init__(
        self,
        cluster: str,
        context: ssl.SSLContext,
        admit: Callable[[Principal], str | None],
        serve: Serve,
        client_frame_bytes: int = FRAME_BYTES_MAX,
    ) -> None:
        """`client_frame_bytes`: the largest frame that a client may send."""
        self._cluster = cluster
        self._context = context
        self._admit = admit
        self._serve = serve
        self._client_frame_bytes = client_frame_bytes
        self._web = _Doorstep(cluster, self._handle)
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            self._web, sock=listener, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_S
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        peer = peer_of(self._cluster, certificate)
        rule = "the certificate names nobody of this cluster" if peer is None else self._admit(peer)
        if request.path != PATH:
            rule = f"this version serves {PATH}, not {request.path}"
        if peer is None or rule is not None:
            log.warning("refused %s from %s: %s", peer, request.remote, rule)
            return web.Response(status=403, text=f"{rule}\n", headers=_said(str(rule)))
        largest = FRAME_BYTES_MAX if isinstance(peer, int) else self._client_frame_bytes
        connection = web.WebSocketResponse(compress=False, max_msg_size=largest, heartbeat=HEARTBEAT_S, timeout=0.5)
        await connection.prepare(request)
        self._web.let_in(request.protocol)
        await _last(Link(peer, connection, transport=request.transport), self._serve)
        return connection

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._web.shutdown(1.0)


def _said(rule: str) -> dict[str, str]:
    """As a header, where it can be one: a path of the other end's may be in it."""
    return {RULE: rule} if rule.isascii() and rule.isprintable() else {}


async def _last(link: Link, serve: Serve) -> None:
    try:
        await serve(link)
    except Refused as error:
        log.warning("dropped the link of %s", error)
    finally:
        await link.close()


# ------------------------------------------------------------------------------------------------------------ dialling


class Dialler:
    """Keeps a link to one replica after another, for as long as the task that runs `keep` lives."""

    def __init__(
        self,
        cluster: str,
        context: ssl.SSLContext,
        serve: Serve,
        unreachable: Callable[[NodeId], None] = lambda _: None,
    ) -> None:
        """`unreachable` is told of every attempt that came to nothing and every link that ended."""
        self._cluster = cluster
        self._context = context
        self._serve = serve
        self._unreachable = unreachable
        self.refusals: dict[NodeId, str] = {}
        """By replica: why it did not let us in, the last time it was asked. Its own words."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=HANDSHAKE_S),
        )
        self._random = random.Random()

    async def keep(self, node: NodeId, host: str, port: int) -> None:
        """Dial, serve until the link ends, dial again. Never returns."""
        delays, said, now = backoff(self._random), "", asyncio.get_running_loop().time
        while True:
            began = now()
            try:
                await self._once(node, host, port)
                self.refusals.pop(node, None)
                said = ""
            except (aiohttp.ClientError, OSError, Refused) as error:
                self._note(node, error)
                if said != (reason := _reason(error)):
                    log.info("no link to node %d at %s:%d: %s", node, host, port, reason)
                said = reason
            self._unreachable(node)
            if now() - began >= STEADY_S and not said:
                delays = backoff(self._random)
            await _pause(next(delays))

    async def _once(self, node: NodeId, host: str, port: int) -> None:
        host = f"[{host}]" if ":" in host else host
        async with asyncio.timeout(HANDSHAKE_S):
            connection = await self._session.ws_connect(
                f"https://{host}:{port}{PATH}",
                ssl=self._context,
                compress=0,
                max_msg_size=FRAME_BYTES_MAX,
                heartbeat=HEARTBEAT_S,
                timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
            )
        peer = peer_of(self._cluster, connection.get_extra_info("peercert"))
        if peer != node:
            await connection.close()
            raise Refused(f"the certificate there names {peer!r}, not node {node}")
        below = connection._response.connection  # aiohttp tells of it nowhere else
        await _last(Link(node, connection, transport=below.transport if below is not None else None), self._serve)

    def _note(self, node: NodeId, error: Exception) -> None:
        headers = error.headers if isinstance(error, aiohttp.WSServerHandshakeError) else None
        rule = headers.get(RULE, "") if headers is not None else ""
        if rule:
            self.refusals[node] = "".join(each if each.isprintable() else " " for each in rule[:REASON_BYTES])
        else:
            self.refusals.pop(node, None)

    async def close(self) -> None:
        await self._session.close()


async def _pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def backoff(chance: random.Random) -> Iterator[float]:
    """Pauses between attempts: each twice the one before up to a cap, and a part of it left to chance, so that many do
    not come at once to one that is back."""
    longest = BACKOFF_MIN_S
    while True:
        yield longest * chance.uniform(0.5, 1.0)
        longest = min(2 * longest, BACKOFF_MAX_S)


def _reason(error: Exception) -> str:
    """What went wrong, without aiohttp's words about where: they hold the address of an object."""
    inner = (getattr(error, name, None) for name in ("os_error", "certificate_error"))
    return str(next((found for found in inner if found is not None), error))
