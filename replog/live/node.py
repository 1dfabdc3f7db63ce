"""A replica of a cluster as an asyncio task, and as a process: `python -m replog.live.node DIR/node-K`.

The process tells its parent what it does by lines of JSON on its standard output:

    {"event": "listening", "node": 0, "pid": 71, "host": "127.0.0.1", "port": 4700}
    {"event": "serving", "node": 0, "pid": 71, "resumed": true, "index": 812, "role": "primary", "view": 0, "leader": 0}

"serving" comes once, when links to n - f - 1 others stand and a leader is known. With `--with-parent` it ends when its
standard input does, so that nothing outlives a parent that was killed; a line there as {"command": NAME, "arguments":
{...}} is the parent's word to the replica. With `--refresh` it is told to refresh itself (PBFT) as soon as it runs.
What comes of it is told in lines whose event is one of TOLD. Exit codes: 0 asked to stop, 1 the disk failed, 2 wrong
configuration, 70 our own bug. Diagnostics, and what the application prints: node.log in the node's folder; the trace,
if the configuration asks for one: trace.jsonl there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import importlib
import json
import logging
import logging.handlers
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from replog import archive, certificates
from replog.archive import Archive
from replog.certificates import LinkCertificate
from replog.codec import BadMessage
from replog.config import ClusterConfig, storage_owner
from replog.core import Command, Members, Note
from replog.enrolment import own_member
from replog.errors import ConfigError
from replog.evidence import FOLDER, EvidenceFolder, Origin
from replog.executor import Executor, StateCorrupt
from replog.host import HostConfig
from replog.keys import Ed25519Signer, Ed25519Verifier
from replog.live import telling
from replog.live.counters import Counters
from replog.live.engine import Engine, monotonic
from replog.live.faulty_links import LINKS, FaultyLinks
from replog.live.inbox import SHARES
from replog.live.links import Dialler, Link, Listener, Refused, bind
from replog.live.locks import FolderLock, Held
from replog.membership import Configuration, Member
from replog.meters import MeteredSigner, MeteredVerifier
from replog.node import SavedState, Wrap, build
from replog.replica import Replica
from replog.roster import Roster
from replog.runtime import StateUnreadable
from replog.statemachine import StateMachine
from replog.storage import Saved, Storage, StorageFailed
from replog.trace import Recorder
from replog.turns import Turns
from replog.types import NOBODY, NodeId, Principal

log = logging.getLogger("replog.node")

CLIENT_LINKS_MAX = 16
"""Links that one client may hold at once."""
CLIENT_OUT_BYTES_MAX = 32 * 1024 * 1024
"""Replies that wait for a client to read; one that lets more wait loses its link."""
CLIENT_FRAME_BYTES_MIN = 8 * 1024 * 1024
"""The largest frame of a client is this, or twice the largest request if that is more: one too large is answered with a
clear word as long as it is not absurd."""
CERTIFICATE_LOOK_S = 2.0
"""How often a renewed certificate is looked for."""
LOG_BYTES_MAX = 8 * 1024 * 1024
PR_SET_PDEATHSIG = 1
TOLD = frozenset(
    {"view", "stepped-down", "refresh", "refreshed", "refresh-put-off", "refresh-refused", "refresh-failed"}
    | {"term", "leader-move-abandoned", "command-refused", "change-given-up", "configuration", "epoch"}
)
"""Notes of the replica that its parent is told of."""


class Node:
    """One replica with its links, storage and engine; `start`, then `run` until `stop`.

    Invariants: at most one link to each other replica, at most CLIENT_LINKS_MAX to each client; a newer link of a
    replica takes the place of the older, which the other end must have given up. Whoever comes later dials: ids grow.
    A replica that is not, and was not, a member as far as this one knows has no link.
    """

    def __init__(
        self,
        config: ClusterConfig,
        me: NodeId,
        *,
        machine: type[StateMachine] | None = None,
        wrap: Wrap | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        """`machine`: the application's class, by default the configured one. `listener`: a bound socket to use.

        Raises ConfigError for a wrap in a cluster that is no laboratory.
        """
        if wrap is not None and not config.lab:
            raise ConfigError(f"lab = {config.lab}: only a cluster made for the laboratory takes a wrap")
        self.config = config
        self.me = me
        self.resumed = False
        self.engine: Engine
        self._counters = Counters()
        self._machine = machine or config.machine()
        self._wrap = wrap
        self._socket = listener
        self._folder = config.node_folder(me)
        self._present = config.genesis
        self._given = Roster(config, self._folder)
        self._roster = Roster(config)
        self._admitted: dict[NodeId, Member] = {m.id: m for known in (self._given, self._roster) for m in known.members}
        """Who may be linked with this replica: present, next and former members."""
        self._keepers: dict[NodeId, tuple[Member, asyncio.Task[None]]] = {}
        self._peers: dict[NodeId, Link] = {}
        self._clients: dict[str, list[Link]] = {}
        self._executor: Executor
        self._tasks: list[asyncio.Task[None]] = []
        self._trace: IO[str] | None = None
        self._kept: Archive | None = None
        self._evidence: EvidenceFolder
        self._faulty = FaultyLinks(self._send) if config.lab else None
        self._stopping = asyncio.Event()

    # -------------------------------------------------------------------------------------------------- start and end

    async def start(self) -> None:
        """Read the disk, build the replica, listen and dial. Raises ConfigError or StorageFailed."""
        config, own = self.config, own_member(self.config, self.me)
        signer = certificates.load_signer(self._folder)
        if signer.public.hex() != own.public_key:
            raise ConfigError(f"{self._folder / 'key.pem'}: is not the key that was enrolled for node {self.me}")
        self._certificate = LinkCertificate(config.cluster, config.folder / "ca.pem", self._folder, self.me)
        async with contextlib.AsyncExitStack() as stack:
            self._lock = _lock(self._folder)
            stack.callback(self._lock.release)
            listener = self._socket or bind(*HostConfig.of(config).listens_at(own))
            stack.callback(listener.close)
            storage = Storage(self._folder, storage_owner(config.cluster, self.me), config.durability)
            stack.callback(storage.close)
            stack.callback(self._close_trace)
            self.engine = self._engine(storage, signer)
            server, largest = self._certificate.server, self._client_frame_bytes()
            self._listener = Listener(config.cluster, server, self._admit, self._serve, largest)
            await self._listener.start(listener)
            self._dialler = Dialler(config.cluster, self._certificate.client, self._serve)
            stack.pop_all()
        self._dial(self._admitted.values())
        self.engine.own["certificate_ends"] = self._certificate.ends
        self._tasks.append(asyncio.create_task(self._follow_certificate(), name="certificate"))

    async def _follow_certificate(self) -> None:
        """Use another certificate as soon as there is one (`replog key rotate`)."""
        while True:
            await asyncio.sleep(CERTIFICATE_LOOK_S)
            try:
                if self._certificate.look():
                    self.engine.own["certificate_ends"] = self._certificate.ends
                    log.info("new links are under another certificate from now on")
            except ConfigError as error:
                log.error("the certificate is not renewed: %s", error)

    def _client_frame_bytes(self) -> int:
        return max(CLIENT_FRAME_BYTES_MIN, 2 * getattr(self.config.protocol_options(), "request_bytes_max", 0))

    def _engine(self, storage: Storage, signer: Ed25519Signer) -> Engine:
        spec = self.config.spec
        if storage.torn:
            log.warning(
                "log.db: the end of a write that was not acknowledged was cut off; or of one that was, if the "
                "disk lost it"
            )
        try:
            records = [spec.records.decode(record) for record in storage.load()]
        except BadMessage as error:
            raise StorageFailed(f"{self._folder / 'log.db'}: a record of another version: {error}") from None
        saved = storage.load_state()
        self.resumed = bool(records) or saved is not None
        try:
            replica = self._build(signer, records, saved)
            self._executor = replica.executor
        except (StateCorrupt, StateUnreadable) as error:
            raise StorageFailed(f"{self._folder / 'state.db'}: {error}") from None
        except ValueError as error:
            raise StorageFailed(f"{self._folder}: log.db and state.db do not fit together: {error}") from None
        plug = replica if self._wrap is None else self._wrap(self.me, replica)
        recorder = self._recorder()
        if recorder is not None:
            index, digest = (saved.index, saved.digest) if saved is not None else (0, b"")
            recorder.start(monotonic(), self.me, index, digest)
        peers = [node.id for node in self.config.nodes if node.id != self.me]
        turns = Turns.wanted(self.config.protocol_options(), peers, SHARES)
        self._evidence = EvidenceFolder(self._folder / FOLDER, Origin.of(self.config), self.me)
        show = self._archive(records)
        return Engine(self.me, spec, plug, storage, self, recorder, self._counters, turns, self._evidence.add, show)

    def _archive(self, records: Sequence[Any]) -> Callable[[Any], None] | None:
        """What is kept for an inquiry, where the protocol has anything to keep; what the log holds first, since the
        archive's own end may have been lost."""
        archived, about = getattr(self.config.spec, "archived", None), {"cluster": self.config.cluster, "node": self.me}
        if archived is None or not self.config.archive_bytes:
            return None
        about["protocol"] = self.config.protocol
        self._kept = Archive(self._folder / archive.FOLDER, about, self.config.archive_bytes)

        def keep(record: Any) -> None:
            found = archived(record)
            if found is not None:
                self._put_away(self.config.spec.records.encode(found))

        for record in records:
            keep(record)
        return keep

    def _put_away(self, raw: bytes) -> None:
        try:
            if self._kept is not None:
                self._kept.add(raw)
        except OSError as error:
            log.error("the archive ends: %s", error)
            self._kept = None

    def _build(self, signer: Ed25519Signer, records: Sequence[Any], saved: Saved | None) -> Replica:
        config = self.config
        return build(
            config.spec,
            me=self.me,
            n=config.n,
            f=config.f,
            genesis=config.genesis if self._roster.changing else None,
            links=self._given.links,
            cluster_id=config.cluster,
            options=config.protocol_options(),
            signer=MeteredSigner(signer, self._counters.meter),
            verifier=MeteredVerifier(Ed25519Verifier(config.public_keys()), self._counters.meter),
            mac=self._counters.meter.mac,
            machine=self._machine(),
            rng=random.SystemRandom(),
            wall=lambda: time.time_ns() // 1000,
            records=records,
            saved=None if saved is None else SavedState(saved.index, saved.digest, saved.parts, saved.sealed),
            clients=config.access,
        )

    def _recorder(self) -> Recorder | None:
        if self.config.trace == "off":
            return None
        path = self._folder / "trace.jsonl"
        try:
            self._trace = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise ConfigError(f"trace = {self.config.trace!r}: {path}: {error.strerror or error}") from None
        return Recorder(self.config.trace, self._trace)

    async def run(self) -> None:
        """Until `stop`. Raises what ended the engine: StorageFailed, or our own bug."""
        engine = asyncio.create_task(self.engine.run())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((engine, stopping), return_when=asyncio.FIRST_COMPLETED)
            if engine.done():
                engine.result()
        finally:
            for task in (engine, stopping):
                task.cancel()
            await asyncio.gather(engine, stopping, return_exceptions=True)
            await self._close()

    def stop(self) -> None:
        self._stopping.set()

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """An operator's word to the replica; one that has not started yet does not hear it. LINKS is the laboratory's,
        and not for the replica."""
        if name == LINKS:
            if self._faulty is not None:
                self._faulty.order(arguments or {})
        elif hasattr(self, "engine"):
            self.engine.command(Command(name, arguments or {}))

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.stop()
        await self._dialler.close()
        await self.engine.close()
        if self._kept is not None:
            self._kept.close()
        self._close_trace()
        self._lock.release()

    def _close_trace(self) -> None:
        if self._trace is not None:
            self._trace.close()

    # -------------------------------------------------------------------------------------------------------- links

    def _admit(self, peer: Principal) -> str | None:
        if isinstance(peer, int):
            if peer <= self.me:
                return f"node {peer} does not dial node {self.me}"
            return None if peer in self._admitted else f"node {peer} is no member"
        if flaw := self._stranger(peer):
            return flaw
        if rule := self.engine.shunned.rule(monotonic(), peer):
            return rule
        if len(self._clients.get(peer, ())) >= CLIENT_LINKS_MAX:
            return f"client {peer} has {CLIENT_LINKS_MAX} links already"
        return None

    def _stranger(self, client: str) -> str:
        """Why it has no link, by the state as this replica knows it: one that lags may turn a newcomer away, who dials
        again; what is ordered is judged when it is executed."""
        access = self._executor.access
        return access.stranger(client) if access is not None else ""

    async def _serve(self, link: Link) -> None:
        if len(self._clients.get(str(link.peer), ())) >= CLIENT_LINKS_MAX:
            raise Refused(f"{link.peer}: has {CLIENT_LINKS_MAX} links already")  # others came in since it was admitted
        if rule := self.engine.shunned.rule(monotonic(), link.peer):
            raise Refused(rule)
        self._enter(link)
        try:
            async for frame in link.frames():
                if isinstance(link.peer, str) and (flaw := self._stranger(link.peer)):
                    raise Refused(f"{link.peer}: {flaw}")
                self.engine.receive(link.peer, frame, link.handled)
                if self.engine.full(link.peer):
                    await self.engine.room(link.peer)
        finally:
            self._leave(link)

    def _enter(self, link: Link) -> None:
        if isinstance(link.peer, str):
            link.out_bytes_max = CLIENT_OUT_BYTES_MAX
            self._clients.setdefault(link.peer, []).append(link)
            return
        older = self._peers.get(link.peer)
        self._peers[link.peer] = link
        if older is not None:
            self._end(older)
        log.info("linked with node %d", link.peer)
        self.engine.wake()

    def _leave(self, link: Link) -> None:
        if isinstance(link.peer, int):
            if self._peers.get(link.peer) is link:
                del self._peers[link.peer]
                log.info("lost the link with node %d", link.peer)
            return
        links = self._clients.get(link.peer, [])
        if link in links:
            links.remove(link)
        if not links:
            self._clients.pop(link.peer, None)
        self.engine.wake()  # what waited for room on this link

    def _end(self, link: Link, reason: str = "") -> None:
        task = asyncio.create_task(link.close(reason))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    @property
    def linked(self) -> int:
        """How many other members are linked with this replica."""
        return len(self._peers.keys() & set(self._present.ids))

    @property
    def present(self) -> Configuration:
        """The configuration in which this replica works."""
        return self._present

    def members(self, members: Members) -> None:
        """For the engine: links to these replicas, and those that former ones keep, are the ones there may be."""
        self._present = members.configurations[0]
        self._evidence.follow(members.links)
        wanted = {m.id: m for each in (*members.former, *members.configurations) for m in each.members}
        if members.configurations[-1].epoch < self._roster.known.epoch:
            # What the folder tells is not proved to this replica, but where members listen, to be asked for a proof.
            wanted |= {member.id: member for member in self._roster.members}
        log.info("linked with members %s", ", ".join(map(str, sorted(wanted.keys() - {self.me}))))
        self._admitted |= wanted
        self._dial(wanted.values())

    def _dial(self, wanted: Iterable[Member]) -> None:
        """The lower ids among these, and no others."""
        below = {member.id: member for member in wanted if member.id < self.me}
        for node, (member, keeper) in tuple(self._keepers.items()):
            if below.get(node) != member:
                keeper.cancel()
                del self._keepers[node]
        for node in below.keys() - self._keepers.keys():
            keeper = asyncio.create_task(self._dialler.keep(node, below[node].host, below[node].port))
            self._keepers[node] = below[node], keeper
            self._tasks.append(keeper)
            keeper.add_done_callback(self._tasks.remove)

    def send(self, to: Principal, frame: bytes) -> None:
        """For the engine: a slow replica loses frames, a client that does not read loses its link."""
        if isinstance(to, int):
            (self._send if self._faulty is None else self._faulty.send)(to, frame)
            return
        for link in tuple(self._clients.get(to, ())):
            if not link.send(frame):
                log.warning("client %s does not read its replies: %d bytes wait", to, link.waiting)
                self._leave(link)
                self._end(link)

    def _send(self, to: NodeId, frame: bytes) -> None:
        link = self._peers.get(to)
        if link is not None and not link.send(frame):
            self.engine.counts["frames dropped"] += 1

    def room(self, client: str, within: int, call: Callable[[], None]) -> bool:
        """For the engine: a client's answers go to all its links, so the slowest counts."""
        return all(link.room(within, call) for link in self._clients.get(client, ()))

    def refuse(self, peer: Principal, rule: str) -> None:
        """For the engine: whoever proved to be `peer` sent nonsense; its links end."""
        log.warning("nonsense from %s: %.200s", peer, rule)
        links = [self._peers.get(peer)] if isinstance(peer, int) else list(self._clients.get(peer, ()))
        for link in links:
            if link is not None:
                self._leave(link)
                self._end(link)

    def shun(self, client: str, rule: str) -> None:
        """For the engine: a client that is not heard for a while has no links."""
        for link in tuple(self._clients.get(client, ())):
            self._leave(link)
            self._end(link, rule)

    # ------------------------------------------------------------------------------------------------------ its word

    def serving(self) -> dict[str, Any] | None:
        """What the line "serving" says, None while this replica cannot serve."""
        if self.linked < self._present.n - self._present.f - 1:
            return None
        status = self.engine.replica.status()
        if status.leader == NOBODY:
            return None
        return {
            "resumed": self.resumed,
            "index": status.index,
            "role": status.role,
            "view": status.view,
            "leader": status.leader,
        }


def _lock(folder: Path) -> FolderLock:
    try:
        return FolderLock(folder)
    except Held as error:
        raise ConfigError(f"{error}: this replica runs already") from None


# ------------------------------------------------------------------------------------------------------------ process


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one replica until it is told to stop; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m replog.live.node", description="Run one replica of a cluster.")
    parser.add_argument("folder", type=Path, help="DIR/node-K")
    parser.add_argument("--with-parent", action="store_true", help="stop when the standard input ends")
    parser.add_argument("--refresh", action="store_true", help="believe nothing of what is on the disk (PBFT)")
    parser.add_argument("--wrap", help="module:function around the replica, laboratory only")
    parser.add_argument("--wrap-arguments", default="{}", help="its arguments, a JSON object")
    options = parser.parse_args(arguments)
    try:
        _log_to(options.folder)
        with telling.parent() as parent:
            config, me = open_node(options.folder)
            wrap = find_wrap(config, options.wrap, json.loads(options.wrap_arguments)) if options.wrap else None
            node = Node(config, me, wrap=wrap)
            return _run(lambda: _process(node, parent, with_parent=options.with_parent, refresh=options.refresh))
    except ConfigError as error:
        log.error("%s", error)
        return 2
    except StorageFailed as error:
        log.error("%s", error)
        return 1
    except Exception:
        log.exception("stopped by a bug of its own")
        return 70


def open_node(folder: Path) -> tuple[ClusterConfig, NodeId]:
    """The cluster and the place in it that a node's folder stands for. Raises ConfigError."""
    folder = folder.absolute()
    kind, _, number = folder.name.partition("-")
    if kind != "node" or not number.isdigit():
        raise ConfigError(f"{folder}: must be the folder node-K of a cluster")
    return ClusterConfig.load(folder.parent), int(number)


def find_wrap(config: ClusterConfig, place: str, arguments: dict[str, Any]) -> Wrap:
    """`module:function` as a wrap: called as function(node, replica, **arguments). Raises ConfigError."""
    if not config.lab:
        raise ConfigError(f"lab = {config.lab}: only a cluster made for the laboratory takes a wrap")
    module, _, name = place.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"wrap = {place!r}: {error}") from None
    return lambda node, replica: function(node, replica, **arguments)


def _log_to(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    handlers: list[logging.Handler] = [
        logging.handlers.RotatingFileHandler(folder / "node.log", maxBytes=LOG_BYTES_MAX, backupCount=2, delay=True),
        logging.StreamHandler(sys.stderr),
    ]
    handlers[1].setLevel(logging.ERROR)
    logging.basicConfig(level=logging.INFO, handlers=handlers, format="%(asctime)s %(levelname)s %(name)s %(message)s")


def _run(start: Callable[[], Any]) -> int:
    """On uvloop where there is one: round trips cost about half."""
    factory = None
    with contextlib.suppress(ImportError):
        factory = importlib.import_module("uvloop").new_event_loop

    async def run() -> int:
        return int(await start())

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(run())


async def _process(node: Node, parent: telling.Parent, *, with_parent: bool, refresh: bool) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    if with_parent:
        threading.Thread(target=_follow_parent, args=(loop, node), daemon=True).start()
        if node.config.lab:
            _end_with_parent()
    await node.start()
    node.engine.hear_notes(lambda note: _tell_note(parent, node, note))
    if refresh:
        node.command("refresh")
    own = own_member(node.config, node.me)
    _tell(parent, node, {"event": "listening", "host": own.host, "port": own.port})
    told = False

    def tell_once() -> None:
        nonlocal told
        if not told and (serving := node.serving()) is not None:
            told = True
            _tell(parent, node, {"event": "serving", **serving})

    node.engine.after_turns(tell_once)
    gc.collect()
    gc.freeze()
    await node.run()
    return 0


def _end_with_parent() -> None:
    """A process that was stopped by a laboratory reads nothing: where the kernel can (Linux), it ends it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _follow_parent(loop: asyncio.AbstractEventLoop, node: Node) -> None:
    """In a thread of its own, so that a loop that hangs ends too."""
    text = b""
    with contextlib.suppress(OSError, RuntimeError):
        while piece := os.read(0, 4096):
            *lines, text = (text + piece).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    word = json.loads(line)
                    loop.call_soon_threadsafe(node.command, str(word["command"]), dict(word.get("arguments", {})))
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(node.stop)
    time.sleep(3.0)
    os._exit(1)


def _tell_note(parent: telling.Parent, node: Node, note: Note) -> None:
    if note.kind in TOLD:
        _tell(parent, node, {"event": note.kind, **note.detail})


def _tell(parent: telling.Parent, node: Node, line: dict[str, Any]) -> None:
    parent.tell({"node": node.me, "pid": os.getpid(), **line})


if __name__ == "__main__":
    sys.exit(main())
