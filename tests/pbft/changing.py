"""A cluster whose members change, driven by hand: an administrator, joiners with empty disks, replicas that stay up
after they were removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from pbft import SPEC, PbftCore
from pbft.core import PbftCore as Core
from pbft.epochs import Epochs
from pbft.messages import MESSAGES, InEpoch
from pbft.outsider import Outsider
from replog.core import Setup
from replog.membership import (
    ADMIN,
    VALID_US,
    Change,
    Configuration,
    Link,
    Member,
    MembershipRules,
    genesis,
    signed,
)
from replog.statemachine import decode_outcome
from replog.types import MEMBERSHIP, Request, SessionKey, Submit
from tests.pbft.harness import DOMAIN, EPOCH_US, SECOND, SMALL, Cluster, secret
from tests.plug import Disk

ROOM = 12
"""Ids for which there are keys."""


def member(node: int) -> Member:
    """Its key is of no use where signatures are hashes."""
    return Member(node, "127.0.0.1", 7000 + node, blake2b(secret(node), digest_size=32).digest())


class Changing(Cluster):
    """`core`: what each epoch's core is made of; `epochs`: the plug around them."""

    def __init__(
        self,
        n: int = 4,
        options: dict[str, Any] | None = None,
        cores: dict[int, type[PbftCore]] | None = None,
        core: type[PbftCore] | None = None,
        epochs: type[Epochs] = Epochs,
        f: int | None = None,
    ) -> None:
        faults = SPEC.faults(n) if f is None else f
        self.genesis = genesis(faults, [member(node) for node in range(n)])
        self._epochs = epochs
        self._timestamp = 0
        self.links: dict[int, tuple[Link, ...]] = {}
        """What replicas were given when they were enrolled."""
        given = SPEC.options(options if options is not None else SMALL)
        boundary = self.boundary(given)
        self.membership = MembershipRules(self.genesis, DOMAIN.cluster, self, boundary, SPEC.check_size)
        super().__init__(n, options if options is not None else SMALL, cores, core=core)

    def boundary(self, options: Any) -> Any:
        return SPEC.boundary(options)

    def _make_keys(self, names: list[int | str], signatures: str) -> None:
        later = [node for node in range(ROOM) if node not in names]
        super()._make_keys([*names, *later, ADMIN], signatures)

    def extended(self, keys: Any) -> Changing:
        return self

    def setup(self, node: int, **common: Any) -> Setup:
        return super().setup(node, **common, genesis=self.genesis, links=self.links.get(node, ()))

    def make(self, node: int, setup: Setup) -> Any:
        kind: Any = self._cores.get(node) or self._core
        if kind == SPEC.core:
            return SPEC.core(setup) if self._epochs is Epochs else self._epochs(setup, plain(setup))
        return self._epochs(setup, kind)

    def plug(self, node: int) -> Epochs:
        plug = self.servers[node].core
        assert isinstance(plug, Epochs)
        return plug

    def core(self, node: int) -> PbftCore:
        core = self.plug(node).core
        assert isinstance(core, Core), f"node {node} does not vote"
        return core

    def outsider(self, node: int) -> Outsider:
        core = self.plug(node).core
        assert isinstance(core, Outsider), f"node {node} votes"
        return core

    # --------------------------------------------------------------------------------------------------------- changes

    def add(self, node: int, links: Iterable[Link] = ()) -> None:
        """A replica with an empty disk, that knows the first configuration, and where these links lead."""
        assert node == self.n, "ids are never used twice"
        self.links[node] = tuple(links)
        self.n += 1
        self.disks.append(Disk())
        self.applied.append({})
        self.history.append([])
        self._lives.append(0)
        self.start(node)

    def present(self, nodes: Iterable[int] | None = None) -> Configuration:
        """The latest configuration that a replica has begun."""
        known = [self.plug(node) for node in (self.servers if nodes is None else nodes)]
        return max((plug.lineage.configurations[plug.epoch] for plug in known), key=lambda one: one.epoch)

    def change(
        self,
        add: Iterable[int] = (),
        remove: Iterable[int] = (),
        f: int | None = None,
        to: Iterable[int] | None = None,
        signer: Any = None,
        epoch: int | None = None,
    ) -> Request:
        """Ask for a change of the present configuration, as client bob."""
        present = self.present()
        change = Change(
            present.epoch if epoch is None else epoch,
            present.f if f is None else f,
            tuple(remove),
            tuple(member(node) for node in add),
            until=EPOCH_US + self.now + VALID_US,
        )
        sign = self.signers[signer if signer is not None else ADMIN].sign
        operation = signed(sign, DOMAIN.cluster, change)
        self._timestamp += 1
        request = Request.make(
            self.signers["eve"].sign, DOMAIN, "eve", self._timestamp, self._timestamp - 1, [operation], MEMBERSHIP
        )
        self.requests[request.digest] = request
        self.inject("eve", present.ids if to is None else to, Submit(request.raw))
        return request

    def outcome(self, request: Request) -> Any:
        """What a weak quorum has answered, decoded; raises OperationFailed for a refusal."""
        (results,) = self.results(request.client, request.timestamp)
        (raw,) = results.outcomes
        return decode_outcome(raw)

    def reached(self, epoch: int, nodes: Iterable[int] | None = None) -> bool:
        """Whether all members of `epoch`, or these, vote in it or a later one."""
        for node in self.expected(epoch) if nodes is None else nodes:
            server = self.servers.get(node)
            if server is None or server.core.epoch < epoch or not isinstance(server.core.core, Core):
                return False
        return True

    def expected(self, epoch: int) -> list[int]:
        plugs = [self.plug(node) for node in self.servers]
        known = [plug.lineage.configurations[epoch] for plug in plugs if len(plug.lineage.configurations) > epoch]
        return list(known[0].ids) if known else [-1]

    def become(self, seconds: int = 20, nodes: Iterable[int] | None = None, **change: Any) -> None:
        """Change, and wait until all members of the next epoch vote in it."""
        epoch = self.present().epoch + 1
        request = self.change(**change)
        self.insist(request, lambda: self.reached(epoch, nodes), seconds)

    def work(self, count: int, client: str = "ann", seconds: int = 20) -> None:
        """So many requests, one after the other."""
        for _ in range(count):
            timestamp = 1 + max((stamp for name, stamp in self.replies if name == client), default=0)
            self.ask_keys_of(self.present().ids)
            request = self.request(client, timestamp, low=timestamp - 1)
            self.inject(client, self.present().ids, Submit(request.raw))
            self.insist(request, lambda: self.done(client, timestamp), seconds)  # noqa: B023

    def insist(self, request: Request, until: Callable[[], bool], seconds: int = 20) -> None:
        """Its client asks again each second, under the keys of the present members."""
        for _ in range(seconds):
            if self.run(SECOND, until=until):
                return
            self.ask_keys_of(self.present().ids)
            if self.options.auth == "macs":
                request = request.signed_anew(self.signers[request.client].sign, DOMAIN)
                self.requests[request.digest] = request
            self.inject(request.client, self.present().ids, Submit(request.raw))
        raise AssertionError(f"waited for {seconds} s in vain:\n{self.standing()}")

    def ask_keys_of(self, nodes: Iterable[int]) -> None:
        """Under MACs: clients know the members' present keys."""
        if self.options.auth != "macs":
            return
        from replog.types import KeyRequest
        from tests.pbft.harness import CLIENTS, Packet

        for client in CLIENTS:
            self.signers[client].become(tuple(nodes))
            for node in nodes:
                self.receive(Packet(client, node, MESSAGES.encode(KeyRequest())))

    def told(self, node: int, client: str, message: SessionKey) -> None:
        """By whoever checks its requests, members to come too."""
        self.signers[client].become(range(self.n))
        super().told(node, client, message)

    def standing(self) -> str:
        lines = []
        for node in sorted(self.servers):
            status = self.plug(node).status()
            detail = f"{status.detail['epoch']} {status.detail['pending']}"
            lines.append(
                f"{node}: {status.role} view {status.view} index {status.index} {status.stable} epoch {detail}"
            )
        return "\n".join(lines)


def plain(setup: Setup) -> Any:
    from pbft.macs import MacCore

    return MacCore if setup.config.auth == "macs" else PbftCore


def inner(message: Any) -> Any:
    """A message without its epoch."""
    return message.message if isinstance(message, InEpoch) else message


def with_field(message: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(message, **changes)
