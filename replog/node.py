"""How a replica is built, the same in both worlds: executor, saved state, setup, core.

Here: construction, which is also recovery. Not here: where records and parts are kept (`replog.storage`,
`replog.sim.disk`) or what carries out the effects (`replog.live`, `replog.sim`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from replog.access import Access, AccessRules, ClientVerifier
from replog.authenticators import Mac, mac
from replog.codec import Domain
from replog.core import Effect, Event, ProtocolSpec, Rng, Setup, Stored
from replog.executor import Executor
from replog.keys import Signer, Verifier
from replog.membership import Configuration, Link, MembershipRules
from replog.replica import Replica
from replog.statemachine import StateMachine
from replog.types import Digest, Message, Micros, NodeId, Status


class Plug(Protocol):
    """What a world drives: a replica, or whatever wraps one."""

    def step(self, now: Micros, event: Event) -> list[Effect]: ...

    def status(self) -> Status: ...


Wrap = Callable[[NodeId, Replica], Plug]
"""How attackers come in: handed each replica as it is built, gives what is driven in its place."""


@dataclass(frozen=True)
class SavedState:
    """A checkpoint of the application's state as found on disk. Its parts are verified when they are loaded, by their
    digests, or by the seal of the store that has them."""

    index: int
    digest: Digest
    parts: Iterable[tuple[int, bytes]]
    sealed: bool = False


def build(
    spec: ProtocolSpec,
    *,
    me: NodeId,
    n: int,
    f: int,
    cluster_id: str,
    options: Any,
    signer: Signer,
    verifier: Verifier,
    machine: StateMachine,
    rng: Rng,
    wall: Callable[[], Micros],
    records: Sequence[Message] = (),
    saved: SavedState | None = None,
    epoch: int = 0,
    log_keep: int = 10_000,
    mac: Mac = mac,
    genesis: Configuration | None = None,
    links: Sequence[Link] = (),
    clients: Access | None = None,
) -> Replica:
    """One replica from what its disk holds: `records` in the order in which they were persisted, and `saved`.

    `options` is what `spec.options` made. Raises whatever `Executor.load` raises when the saved parts do not have the
    saved digest: a replica never starts on a state that it cannot account for (HAZARDS X3).

    `genesis`: the first configuration, where the members may change; `n` and `f` are its own then, and `verifier` knows
    the administrator (`replog.membership.ADMIN`), if there is one. `links`: what leads from there to where this replica
    was enrolled, believed as it is. `clients`: the first ones, where replicas are to enforce what each may do.
    """
    access = None if clients is None else AccessRules(clients, cluster_id, verifier)
    executor = Executor(machine, rules=_rules(spec, genesis, cluster_id, verifier, options), access=access)
    if saved is not None:
        executor.load(saved.index, saved.digest, saved.parts, saved.sealed)
    setup = Setup(
        me=me,
        members=tuple(range(n)) if genesis is None else genesis.ids,
        f=f if genesis is None else genesis.f,
        domain=Domain(cluster_id, epoch),
        config=options,
        signer=signer,
        verifier=verifier if access is None else ClientVerifier(verifier, executor.client_key),
        sessions=executor,
        rng=rng,
        wall=wall,
        stored=Stored(records, saved.index, saved.digest) if saved is not None else Stored(records),
        mac=mac,
        genesis=genesis,
        links=links,
    )
    return Replica(spec.core(setup), executor, log_keep)


def _rules(
    spec: ProtocolSpec, genesis: Configuration | None, cluster_id: str, verifier: Verifier, options: Any
) -> MembershipRules | None:
    boundary = spec.boundary(options)
    if genesis is None or boundary is None:
        return None
    return MembershipRules(genesis, cluster_id, verifier, boundary, spec.check_size)
