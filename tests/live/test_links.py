"""Who gets a link and who does not, and what becomes of one on which nonsense is said. Real sockets, real TLS."""

import asyncio
import contextlib
import itertools
import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from replog import LocalCluster
from replog.apps.counter import Counter
from replog.certificates import Authority, tls_context
from replog.codec import pack_frame, unpack_frame
from replog.config import ClusterConfig
from replog.errors import ConfigError
from replog.live import links as links_module
from replog.live import node as node_module
from replog.live.cluster import CLIENT
from replog.live.links import BACKOFF_MAX_S, BACKOFF_MIN_S, PATH, Dialler, Link, Listener, Refused, backoff, bind
from replog.types import LogReply, LogRequest, Principal, StatusReply, StatusRequest

CLUSTER = "ab" * 16
pytestmark = pytest.mark.live


class Ends:
    """One listener and its dialler, and the links that they hand out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.accepted: asyncio.Queue[Link] = asyncio.Queue()
        self.dialled: asyncio.Queue[Link] = asyncio.Queue()
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.rule: str | None = None
        self.port = 0
        self.listener: Listener

    def standing(self) -> int:
        """Connections that are no links yet."""
        return len(self.listener._web._standing)

    async def accept(self, link: Link) -> None:
        await self.accepted.put(link)
        try:
            async for frame in link.frames():
                link.handled(len(frame))
                await self.frames.put(frame)
        finally:
            self.ended.set()

    async def dialled_link(self, link: Link) -> None:
        await self.dialled.put(link)
        async for _ in link.frames():
            pass

    def admit(self, peer: Principal) -> str | None:
        return self.rule


@pytest.fixture
def root(tmp_path: Path) -> Path:
    authority = Authority.make(tmp_path, CLUSTER)
    for node in range(3):
        authority.enroll(tmp_path / f"node-{node}", node)
    return tmp_path


@asynccontextmanager
async def listening(root: Path) -> AsyncIterator[Ends]:
    ends = Ends(root)
    listener = ends.listener = Listener(
        CLUSTER, tls_context(root / "ca.pem", root / "node-0", server=True), ends.admit, ends.accept
    )
    bound = bind("127.0.0.1", 0)
    ends.port = bound.getsockname()[1]
    await listener.start(bound)
    try:
        yield ends
    finally:
        await listener.stop()


@asynccontextmanager
async def dialler(ends: Ends, folder: Path, cluster: str = CLUSTER) -> AsyncIterator[Dialler]:
    one = Dialler(cluster, tls_context(folder.parent / "ca.pem", folder, server=False), ends.dialled_link)
    try:
        yield one
    finally:
        await one.close()


async def test_a_link_knows_both_ends_and_keeps_the_order(root: Path) -> None:
    async with listening(root) as ends, dialler(ends, root / "node-2") as dial:
        keeping = asyncio.create_task(dial.keep(0, "127.0.0.1", ends.port))
        link, other = await ends.dialled.get(), await ends.accepted.get()
        assert (link.peer, other.peer) == (0, 2)
        sent = [b"%d" % number * 1000 for number in range(200)]
        assert all(link.send(frame) for frame in sent)
        assert [await ends.frames.get() for _ in sent] == sent
        keeping.cancel()


async def test_why_there_is_no_link_is_told_without_addresses_of_objects(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(bind("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    async with listening(root) as ends, dialler(ends, root / "node-1") as dial:
        dial._unreachable = lambda node: keeping.cancel()
        keeping = asyncio.create_task(dial.keep(0, "127.0.0.1", port))
        with caplog.at_level(logging.INFO), pytest.raises(asyncio.CancelledError):
            await keeping
    (said,) = [text for text in caplog.messages if text.startswith("no link to node 0")]
    assert said.startswith(f"no link to node 0 at 127.0.0.1:{port}: [Errno ")
    assert "object at" not in said


async def test_a_lost_link_comes_back(root: Path) -> None:
    async with listening(root) as ends, dialler(ends, root / "node-1") as dial:
        keeping = asyncio.create_task(dial.keep(0, "127.0.0.1", ends.port))
        first = await ends.accepted.get()
        await first.close()
        second = await ends.accepted.get()
        assert second is not first
        keeping.cancel()


async def test_no_certificate_no_link(root: Path) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(root / "ca.pem")
    async with listening(root) as ends, aiohttp.ClientSession() as session:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await session.ws_connect(f"https://127.0.0.1:{ends.port}{PATH}", ssl=bare)
        assert ends.accepted.empty()


async def test_a_certificate_of_another_cluster_no_link(root: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    Authority.make(foreign, CLUSTER).enroll(foreign / "node-1", 1)
    async with listening(root) as ends, dialler(ends, foreign / "node-1") as dial:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await dial._once(0, "127.0.0.1", ends.port)
        assert ends.accepted.empty()


async def test_the_dialler_refuses_the_wrong_node(root: Path) -> None:
    async with listening(root) as ends, dialler(ends, root / "node-2") as dial:
        with pytest.raises(Refused, match="names 0, not node 1"):
            await dial._once(1, "127.0.0.1", ends.port)
        assert ends.dialled.empty()


async def test_the_listener_refuses_whom_it_does_not_admit(root: Path) -> None:
    async with listening(root) as ends, dialler(ends, root / "node-2") as dial:
        ends.rule = "not today"
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await dial._once(0, "127.0.0.1", ends.port)
        assert caught.value.status == 403
        assert ends.accepted.empty()


async def test_a_text_frame_ends_the_link(root: Path) -> None:
    async with listening(root) as ends, aiohttp.ClientSession() as session:
        context = tls_context(root / "ca.pem", root / "node-1", server=False)
        connection = await session.ws_connect(f"https://127.0.0.1:{ends.port}{PATH}", ssl=context)
        await connection.send_str("hello")
        await ends.ended.wait()
        assert ends.frames.empty()


async def test_what_a_link_holds_back_is_bounded(root: Path) -> None:
    """A peer that does not read: the queue fills to its bound, then frames are refused and counted."""
    async with listening(root) as ends, aiohttp.ClientSession() as session:
        context = tls_context(root / "ca.pem", root / "node-1", server=False)
        await session.ws_connect(f"https://127.0.0.1:{ends.port}{PATH}", ssl=context)
        link = await ends.accepted.get()
        link.out_bytes_max = 1_000_000
        sent = [link.send(bytes(100_000)) for _ in range(30)]
        assert sent == [True] * 10 + [False] * 20
        assert link.dropped == 20


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1: Address already in use"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_what_is_no_port_is_named(port: int) -> None:
    with pytest.raises(ConfigError, match=rf"port = {port}: must be within 0 \.\. 65535"):
        bind("127.0.0.1", port)


# --------------------------------------------------------------------------------------- nonsense at a whole replica


@asynccontextmanager
async def stranger(
    config: ClusterConfig, folder: Path, node: int = 0
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A link to a replica by hand, under the keys of `folder`."""
    context = tls_context(config.folder / "ca.pem", folder, server=False)
    async with aiohttp.ClientSession() as session:
        place = config.nodes[node]
        yield await session.ws_connect(f"https://{place.host}:{place.port}{PATH}", ssl=context)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xff" * 100,
        b"\x91",
        b"\xc1",
        pack_frame([b"no message"]),
        pack_frame([b"\x92\xa1S\xc4\x01"]),
        b"\x91" * 5000,
        b"\xdd\xff\xff\xff\xff",
        b"\x91\xc6\xff\xff\xff\xff",
    ],
)
async def test_a_frame_of_garbage_ends_the_link_and_nothing_else(frame: bytes) -> None:
    async with LocalCluster("pbft", Counter, f=1) as cluster:
        async with stranger(cluster.config, cluster.config.client_folder("gateway")) as link:
            await link.send_bytes(frame)
            assert (await link.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert cluster.nodes[0].engine.counts["bad frames"] == 1
        assert await cluster.call("add") == 1


async def test_whom_a_replica_does_not_admit() -> None:
    async with LocalCluster("pbft", Counter, f=1) as cluster:
        config = cluster.config
        Authority.load(config.folder, config.cluster).enroll(config.folder / "client-nobody", "nobody")
        for folder, node, rule in (
            (config.client_folder("nobody"), 0, "client nobody is not registered"),
            (config.node_folder(1), 2, "node 1 does not dial node 2"),
            (config.node_folder(1), 1, "node 1 does not dial node 1"),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with stranger(config, folder, node):
                    pytest.fail(rule)
            assert caught.value.status == 403


async def test_a_replica_is_linked_once(root: Path) -> None:
    """A second link under the same identity takes the place of the first: one voice a replica (HAZARDS X9)."""
    async with (
        LocalCluster("pbft", Counter, f=1) as cluster,
        stranger(cluster.config, cluster.config.node_folder(3)),
    ):
        assert cluster.nodes[0].linked == 3
        assert await cluster.call("add") == 1


async def test_a_client_that_does_not_read_loses_its_link_and_harms_only_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second link of the cluster's own client: every reply goes to both, and one of them does not read."""
    monkeypatch.setattr(node_module, "CLIENT_OUT_BYTES_MAX", 300_000)
    async with LocalCluster("pbft", f=1) as cluster:
        await cluster.call("put", "k", "v" * 100_000)
        async with stranger(cluster.config, cluster.config.client_folder(CLIENT)) as link:
            links = cluster.nodes[0]._clients[CLIENT]
            for _ in range(1000):
                assert await cluster.call("get", "k") == "v" * 100_000
                if len(links) == 1:
                    break
            async for message in link:
                assert message.type is aiohttp.WSMsgType.BINARY
        assert await cluster.call("get", "k") == "v" * 100_000


async def test_questions_wait_for_room_and_are_all_answered() -> None:
    """One small frame asks for hundreds of megabytes: they are built as they are read, and nobody else waits."""
    async with LocalCluster("pbft", f=1) as cluster:
        for _ in range(8):
            await cluster.call("put", "k", "v" * 500_000)
        encode = cluster.config.spec.messages.encode
        async with stranger(cluster.config, cluster.config.client_folder("gateway")) as link:
            await link.send_bytes(pack_frame([encode(LogRequest(token, 1, 1024)) for token in range(40)]))
            await link.send_bytes(pack_frame([encode(StatusRequest(40))]))
            for n in range(20):
                assert await cluster.call("put", "other", str(n)) is None
            (own,) = cluster.nodes[0]._clients["gateway"]
            assert own.waiting < 6_000_000
            assert own.unread > 0, "the link is told that a frame is handled when all of it is"
            tokens = []
            while len(tokens) < 41:
                for raw in unpack_frame((await link.receive()).data):
                    answer = cluster.config.spec.messages.decode(raw)
                    assert isinstance(answer, LogReply | StatusReply)
                    tokens.append(answer.token)
            assert tokens == list(range(41))
            assert own.unread == 0


async def test_a_flood_of_small_questions_leaves_room_for_others() -> None:
    async with LocalCluster("pbft", f=1) as cluster:
        raw = cluster.config.spec.messages.encode(StatusRequest(1))
        async with stranger(cluster.config, cluster.config.client_folder("gateway")) as link:
            await link.send_bytes(pack_frame([raw] * 20_000))
            assert await cluster.call("put", "k", "v") is None
            answers = 0
            while answers < 20_000:
                answers += len(unpack_frame((await link.receive()).data))


async def test_a_frame_of_a_client_is_bounded_far_below_one_of_a_replica() -> None:
    async with LocalCluster("pbft", f=1) as cluster:
        async with stranger(cluster.config, cluster.config.client_folder("gateway")) as link:
            await link.send_bytes(bytes(node_module.CLIENT_FRAME_BYTES_MIN + 1))
            message = await link.receive()
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.MESSAGE_TOO_BIG)
        await cluster.call("put", "k", "v")


@pytest.mark.parametrize("said", [b"", b"GET /replog/1/link HTTP/1.1\r\nHost: x"])
async def test_a_connection_that_never_becomes_a_link_is_ended(
    root: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """Silent, or in the midst of a header: few at a time, none for long, and one that is a link stays."""
    monkeypatch.setattr(links_module, "HANDSHAKE_S", 0.3)
    context = tls_context(root / "ca.pem", root / "node-1", server=False)
    async with listening(root) as ends, dialler(ends, root / "node-2") as dial:
        keeping = asyncio.create_task(dial.keep(0, "127.0.0.1", ends.port))
        link = await ends.accepted.get()
        opened = [await asyncio.open_connection("127.0.0.1", ends.port, ssl=context) for _ in range(30)]
        assert ends.standing() <= links_module.UNLINKED_MAX
        for reader, writer in opened:
            with contextlib.suppress(OSError):
                writer.write(said)
            async with asyncio.timeout(20):
                with contextlib.suppress(OSError):
                    assert await reader.read() == b""
            writer.close()
        assert ends.standing() == 0
        assert link.send(b"still here")
        assert not ends.ended.is_set()
        keeping.cancel()


# ------------------------------------------------------------------------------------------- found again, and noticed


def test_pauses_between_attempts_double_up_to_a_cap_and_are_never_alike() -> None:
    pauses = list(itertools.islice(backoff(random.Random(1)), 12))
    longest = [min(BACKOFF_MIN_S * 2**number, BACKOFF_MAX_S) for number in range(12)]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))
    assert len({pause / most for pause, most in zip(pauses, longest, strict=True)}) == 12


async def test_a_link_that_ends_as_soon_as_it_began_is_dialled_with_back_off(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    over = asyncio.Event()

    async def sleep(delay: float) -> None:
        slept.append(delay)
        if len(slept) == 9:
            over.set()
            await asyncio.Event().wait()

    async def ended(*_: object) -> None:
        pass

    async with listening(root) as ends, dialler(ends, root / "node-1") as dial:
        monkeypatch.setattr(dial, "_once", ended)
        monkeypatch.setattr(links_module, "_pause", sleep)
        keeping = asyncio.create_task(dial.keep(0, "127.0.0.1", ends.port))
        await over.wait()
        keeping.cancel()
    assert slept[8] >= BACKOFF_MAX_S / 2
    monkeypatch.setattr(links_module, "STEADY_S", 0.0)
    slept.clear()
    over.clear()
    async with listening(root) as ends, dialler(ends, root / "node-1") as dial:
        monkeypatch.setattr(dial, "_once", ended)
        keeping = asyncio.create_task(dial.keep(0, "127.0.0.1", ends.port))
        await over.wait()
        keeping.cancel()
    assert max(slept) <= BACKOFF_MIN_S, "one that lasted is dialled again soon"


class Hole:
    """Between a dialler and a listener: passes everything on until it `swallows`, and never says that it does."""

    def __init__(self, port: int) -> None:
        self.swallows = False
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        on, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._tasks = [asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._pass(on, writer))]
        self.writers = [writer, back]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            if not self.swallows:
                writer.write(piece)
        await asyncio.Event().wait()  # that one end is gone is not told to the other

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self.writers:
            writer.transport.abort()


async def test_a_half_open_connection_is_noticed_at_both_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes and nothing is closed, as when a machine is gone or a cable cut: within 1.5 times HEARTBEAT_S."""
    monkeypatch.setattr(links_module, "HEARTBEAT_S", 0.2)
    async with listening(root) as ends, dialler(ends, root / "node-1") as dial:
        hole = Hole(ends.port)
        server = await asyncio.start_server(hole.accept, "127.0.0.1", 0)
        dialled = asyncio.create_task(dial._once(0, "127.0.0.1", server.sockets[0].getsockname()[1]))
        await ends.dialled.get()
        await ends.accepted.get()
        assert not dialled.done()
        hole.swallows = True
        async with asyncio.timeout(30):
            await ends.ended.wait()
            await dialled
        await hole.close()
        server.close()
        await server.wait_closed()


async def test_a_link_on_which_nothing_is_said_but_heartbeats_stays(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same without the hole: heartbeats alone keep it, many times as long."""
    monkeypatch.setattr(links_module, "HEARTBEAT_S", 0.05)
    async with listening(root) as ends, dialler(ends, root / "node-1") as dial:
        dialled = asyncio.create_task(dial._once(0, "127.0.0.1", ends.port))
        await ends.dialled.get()
        link = await ends.accepted.get()
        done, _ = await asyncio.wait({dialled}, timeout=0.5)
        assert not done
        link.send(b"still there")
        dialled.cancel()
