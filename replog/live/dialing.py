"""The links of one client to every replica, kept for as long as it is a member.

Here: dialling again, who is linked, frames from messages and messages from frames. Not here: one connection
(`replog.live.links`), what is said on it and what becomes of what could not be sent: that is each client's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from replog.certificates import tls_context
from replog.codec import BadMessage, pack_frame, unpack_frame
from replog.config import ClusterConfig
from replog.live.links import Dialler, Link
from replog.membership import Member
from replog.types import Message, NodeId

Take = Callable[[NodeId, list[Message]], None]
"""Handed the messages of one frame, and which replica sent them."""


class Links:
    """Invariants: a replica is among `nodes` exactly while its link is served; it is dialled while it is among those
    that `dial` was told last."""

    def __init__(
        self,
        config: ClusterConfig,
        name: str,
        take: Take,
        linked: Callable[[NodeId], None] = lambda _: None,
        unreachable: Callable[[NodeId], None] = lambda _: None,
    ) -> None:
        """`linked` is told of each new link, `unreachable` of each that ended and each attempt that came to nothing."""
        self._config = config
        self._folder = config.client_folder(name)
        self._codec = config.spec.messages
        self._take = take
        self._linked = linked
        self._unreachable = unreachable
        self._links: dict[NodeId, Link] = {}
        self._more = asyncio.Condition()
        self._members: dict[NodeId, Member] = {}
        self._keepers: dict[NodeId, asyncio.Task[None]] = {}
        self._ended: set[asyncio.Task[None]] = set()
        self._dialler: Dialler | None = None

    @property
    def nodes(self) -> set[NodeId]:
        """The replicas that are linked now."""
        return set(self._links)

    @property
    def refusals(self) -> dict[NodeId, str]:
        """What replicas that do not let this client in said why, each in its own words."""
        return self._dialler.refusals if self._dialler is not None else {}

    def open(self, members: Iterable[Member] | None = None) -> None:
        """Begin to dial these, by default the first members of the cluster. Raises ConfigError (keys)."""
        context = tls_context(self._config.folder / "ca.pem", self._folder, server=False)
        self._dialler = Dialler(self._config.cluster, context, self._serve, self._unreachable)
        self.dial(self._config.genesis.members if members is None else members)

    def dial(self, members: Iterable[Member]) -> None:
        """Be linked with these and no others from now on."""
        wanted = {member.id: member for member in members}
        for node in self._keepers.keys() - wanted.keys():
            self._end(self._keepers.pop(node))
        before, self._members = self._members, wanted
        for node, member in wanted.items():
            if before.get(node) != member:
                self.dial_again(node)

    def dial_again(self, node: NodeId) -> None:
        """Now, and not when the back-off ends: the replica has just been started again."""
        if self._dialler is None:
            return
        if node in self._keepers:
            self._end(self._keepers[node])
        member = self._members[node]
        self._keepers[node] = asyncio.create_task(self._dialler.keep(node, member.host, member.port))

    def _end(self, keeper: asyncio.Task[None]) -> None:
        keeper.cancel()
        self._ended.add(keeper)
        keeper.add_done_callback(self._ended.discard)

    async def close(self) -> None:
        """Also if `open` failed."""
        for keeper in self._keepers.values():
            self._end(keeper)
        self._keepers = {}
        await asyncio.gather(*self._ended, return_exceptions=True)
        dialler, self._dialler = self._dialler, None
        if dialler is not None:
            await dialler.close()

    async def linked(self, count: int) -> None:
        """Until `count` replicas are linked."""
        async with self._more:
            await self._more.wait_for(lambda: len(self._links) >= count)

    def send(self, to: Iterable[NodeId], raw: bytes) -> list[NodeId]:
        """Send an encoded message to those that are linked; the others."""
        frame, missed = pack_frame([raw]), []
        for node in to:
            link = self._links.get(node)
            if link is None:
                missed.append(node)
            else:
                link.send(frame)
        return missed

    async def _serve(self, link: Link) -> None:
        node = link.peer
        assert isinstance(node, int)
        async with self._more:
            self._links[node] = link
            self._more.notify_all()
        try:
            self._linked(node)
            async for frame in link.frames():
                link.handled(len(frame))
                self._hear(node, frame)
        finally:
            if self._links.get(node) is link:
                del self._links[node]

    def _hear(self, node: NodeId, frame: bytes) -> None:
        """Nonsense is its sender's own loss: it counts as silence."""
        try:
            messages = [self._codec.decode(raw) for raw in unpack_frame(frame)]
        except BadMessage:
            return
        self._take(node, messages)
