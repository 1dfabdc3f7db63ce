"""A cluster whose members change, driven by hand: an administrator, newcomers with empty disks, servers that stay up
after they were removed."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from raft import SPEC, RaftCore
from raft.configuration import Configuration
from raft.election import Role
from replog.codec import digest_of
from replog.core import Setup
from replog.keys import HashSigner, HashVerifier
from replog.membership import ADMIN, VALID_US, Change, Member, MembershipRules, genesis, signed
from replog.membership import Configuration as Epoch
from replog.statemachine import decode_outcome
from replog.types import MEMBERSHIP, Request, Submit
from tests.plug import DOMAIN, EPOCH_US, MS, Disk
from tests.raft.harness import SIGNER, Cluster, Draws

ADMINISTRATOR = HashSigner(b"administrator" * 3)


def member(node: int) -> Member:
    """Its key is of no use: Raft's servers sign nothing."""
    return Member(node, "127.0.0.1", 7000 + node, digest_of(b"%d" % node))


class Changing(Cluster):
    def __init__(
        self,
        n: int = 3,
        options: dict[str, Any] | None = None,
        core: type[RaftCore] = RaftCore,
        draws: dict[int, list[int]] | None = None,
        seed: int | None = None,
        **more: Any,
    ) -> None:
        self.genesis = genesis(SPEC.faults(n), [member(node) for node in range(n)])
        verifier = HashVerifier({ADMIN: b"administrator" * 3})
        boundary = SPEC.boundary(SPEC.options(options or {}))
        assert boundary is not None
        self.membership = MembershipRules(self.genesis, DOMAIN.cluster, verifier, boundary, SPEC.check_size)
        self.seed = seed
        self.timestamp = 0
        super().__init__(n, options, core, draws, seed=seed, **more)

    def setup(self, node: int, **common: Any) -> Setup:
        return super().setup(node, **common, genesis=self.genesis)

    # --------------------------------------------------------------------------------------------------------- changes

    def add(self, *nodes: int) -> None:
        """Servers with empty disks, that know the first configuration alone."""
        for node in nodes:
            assert node == self.n, "ids are never used twice"
            self.n += 1
            self.disks.append(Disk())
            self.rngs.append(random.Random(f"{self.seed}/{node}") if self.seed is not None else Draws([]))
            self.start(node)

    def change(
        self,
        to: int,
        add: Iterable[int] = (),
        remove: Iterable[int] = (),
        learners: Iterable[int] = (),
        signer: Any = ADMINISTRATOR,
        epoch: int | None = None,
    ) -> int:
        """Ask server `to` for a change of the members as it knows them; the timestamp of the request."""
        present = self.epoch(to)
        added = tuple(member(node) for node in add)
        voters = {*present.ids, *add} - {*remove} - {*learners}
        change = Change(
            present.epoch if epoch is None else epoch,
            SPEC.faults(max(len(voters), 1)),
            tuple(remove),
            added,
            tuple(sorted(learners)),
            EPOCH_US + self.now + VALID_US,
        )
        self.timestamp += 1
        operation = signed(signer.sign, DOMAIN.cluster, change)
        low = self.timestamp - 1
        raw = Request.make(SIGNER.sign, DOMAIN, "boss", self.timestamp, low, [operation], MEMBERSHIP).raw
        self.inject("boss", to, Submit(raw))
        return self.timestamp

    def outcome(self, timestamp: int) -> Any:
        """What the administrator was told; raises OperationFailed for a refusal."""
        results = self.done("boss", timestamp)
        assert results, "not answered"
        return decode_outcome(results[0].outcomes[0])

    # ---------------------------------------------------------------------------------------------- looking at servers

    def epoch(self, node: int) -> Epoch:
        """The members, as the state of `node` has them."""
        executor = self.servers[node].replica.executor
        present = executor.configuration_at(executor.index + 1)
        assert present is not None
        return present

    def configuration(self, node: int) -> Configuration:
        """The latest in its log."""
        return self.core(node).log.configuration

    def role(self, node: int) -> str:
        return self.servers[node].replica.status().role

    def led(self) -> list[int]:
        return [node for node in sorted(self.servers) if self.core(node).role is Role.LEADER]

    def configurations(self, node: int) -> list[Configuration]:
        """Those that its log holds, in order."""
        log = self.core(node).log
        entries = [log.entry(index) for index in range(log.start_index + 1, log.last_index + 1)]
        return [entry.configuration for entry in entries if entry.configuration is not None]

    def beat(self, us: int = 60 * MS) -> None:
        self.run(us)


def begun(n: int = 3, options: dict[str, Any] | None = None, core: type[RaftCore] = RaftCore) -> Changing:
    """Server 0 leads, and its first entry is committed everywhere."""
    cluster = Changing(n, options, core)
    cluster.elect(0)
    cluster.beat()
    return cluster
