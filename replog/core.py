"""The contract between a protocol and the world: events in, effects out. Read this first.

One replica of a protocol is a `Core`: `step(now, event) -> list[Effect]`. It has no clock, socket, task, file or
randomness of its own; all of it is handed in by `Setup` or comes as an event. `replog.replica.Replica` carries out the
effects that concern the application; the two worlds, `replog.live` and `replog.sim`, carry out the rest.

The order of the list is the order of durability: no Send, Reply, Accuse, Trim or Save that is listed after a Persist
is carried out before that record is on disk. Timers, notes and applying act at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from replog.authenticators import Mac, mac
from replog.codec import DIGEST_BYTES, Codec, Domain
from replog.keys import Signer, Verifier
from replog.membership import Configuration, Link
from replog.types import (
    REQUEST_BYTES_MAX,
    REQUEST_OPERATIONS_MAX,
    ClientId,
    Digest,
    Message,
    Micros,
    NodeId,
    Principal,
    Request,
    Status,
)

# ------------------------------------------------------------------------------------------------------------ events


class _Value(msgspec.Struct, frozen=True, gc=False):
    """Base of events and effects: plain values, compared by content in tests."""


class Started(_Value, frozen=True):
    """Exactly once, first: arm the timers and send again what was promised before a restart."""


class Received(_Value, frozen=True):
    """`sender` is who the link's authentication says it is; nothing inside the message is verified yet."""

    sender: Principal
    message: Message


class Timeout(_Value, frozen=True):
    """A timer that was set and neither cancelled nor set again has run out (HAZARDS X13)."""

    name: str


class Result(_Value, frozen=True):
    """What became of one request of an Apply. `results` is None when the session had executed it already or no
    longer admits it: nothing was executed, and the reply, if there is one, is in `Sessions.results`."""

    client: ClientId
    timestamp: int
    results: bytes | None


class Applied(_Value, frozen=True):
    """Answer to Apply, and again to Confirm: one Result a request, in order. `tentative` as in the Apply."""

    index: int
    results: list[Result]
    tentative: bool = False


class Checkpointed(_Value, frozen=True):
    """Answer to Checkpoint, and the end of a Restore: the digest of the whole replicated state at `index`."""

    index: int
    digest: Digest


class Saved(_Value, frozen=True):
    """A checkpoint of the application's state at `index` is on this replica's disk (a Save was carried out; one that
    a newer one passed by is never reported). A core that needs no such promise lets it pass."""

    index: int


class Queried(_Value, frozen=True):
    """Answer to Query."""

    token: int
    results: list[bytes]


class Part(_Value, frozen=True):
    """Answer to ReadPart. `data` is None if that checkpoint or part is not held (any more).

    `following` is the next part in the order in which the parts make up the whole, -1 after the last.
    """

    index: int
    part: int
    data: bytes | None
    following: int
    token: int


class Wanted(_Value, frozen=True):
    """Answer to Restore and WritePart: the parts still needed before the state at `index` is complete, at most 64 of
    them, those already asked for included. `refused`: the part just written did not match its digest. When nothing is
    missing `Checkpointed(index, digest)` comes instead and the state is in place: all of it, or none.

    `hints`: for some of these parts what the replica has of them. Whoever reads with the hint gives what differs. A
    part that was just written, not refused and is wanted still has another hint: what came for the last one did not
    lead to the digest, and that may be chance."""

    index: int
    parts: tuple[int, ...]
    refused: bool
    hints: dict[int, bytes] = msgspec.field(default_factory=dict)


class Command(_Value, frozen=True):
    """An operator's word to this one replica (take a snapshot now, move the leadership, ...)."""

    name: str
    arguments: dict[str, Any]


class Throttled(_Value, frozen=True):
    """`node` floods, and little is taken of it for so long (`replog.turns`); told only to cores whose options have
    `throttles_floods`."""

    node: NodeId
    for_us: Micros


class Audited(_Value, frozen=True):
    """Answer to Audit: the digest of the state after `index` as its data give it, which fill `parts` parts."""

    index: int
    digest: Digest
    parts: int


Event = (
    Started
    | Received
    | Timeout
    | Applied
    | Checkpointed
    | Saved
    | Queried
    | Part
    | Wanted
    | Command
    | Throttled
    | Audited
)

# ----------------------------------------------------------------------------------------------------------- effects


class Persist(_Value, frozen=True):
    """Put `record` on disk: a barrier for every Send, Reply, Accuse and Trim behind it.

    `index`: the log index (PBFT: seq) that the record belongs to; 0: none, and any Trim may drop it. What must outlive
    a cut (the view, the term, a proof) is therefore listed anew right before the Trim, with an index beyond it.
    Records come back at construction in the order in which they were persisted.
    """

    record: Message
    index: int


class Send(_Value, frozen=True):
    """To each of `to`, over authenticated links; encoded once. Never to oneself. May be lost."""

    to: tuple[NodeId, ...]
    message: Message


class Reply(_Value, frozen=True):
    """To a client, if it is connected to this replica."""

    client: ClientId
    message: Message


class Accuse(_Value, frozen=True):
    """Evidence: two statements of one node that no correct node says both of, or one that none makes at all. `kind`
    names the rule broken, `place` where: one accusation is enough for each culprit, kind and place."""

    culprit: Principal
    kind: str
    first: Message
    second: Message | None = None
    place: str = ""
    epoch: int = 0
    """Of the configuration in which they were signed."""
    begins: bytes = b""
    """Digest of the state that this epoch begins with, if it is a later one: it is under the signatures."""


class Trim(_Value, frozen=True):
    """Drop the longest run of oldest records that all have index <= `upto`. Waits until a checkpoint of the
    application's state at or beyond `upto` is on disk. Checkpoints in memory below `upto` are dropped too."""

    upto: int


class Apply(_Value, frozen=True):
    """Execute the requests of log index `index`, in order. `index` grows by exactly 1 ([] for a null request or no-op).

    `time`: agreed time of the batch, microseconds since 1970; execution makes it monotone. `next_seed`: a hash of
    cluster, index and batch, 32 bytes; the seed of the batch after this one, whose proposer can no longer choose it.
    `tentative`: not decided yet; a Confirm of the index or a Rollback below it follows, nothing else is applied before.
    `concludes`: the change of members that is pending is made, or given up, by this index (joint consensus).
    """

    index: int
    requests: Sequence[Request]
    time: int
    next_seed: bytes
    tentative: bool = False
    concludes: Literal["", "made", "given up"] = ""


class Shun(_Value, frozen=True):
    """Nothing of this client is wanted for so long: it did what no correct client does, `rule` says what."""

    client: ClientId
    for_us: Micros
    rule: str


class Confirm(_Value, frozen=True):
    """What was applied tentatively at `index`, the last applied, is decided now; the rest as in its Apply."""

    index: int
    requests: Sequence[Request]
    time: int


class Rollback(_Value, frozen=True):
    """Undo everything applied after `index` (a held checkpoint); what of it was decided is applied again."""

    index: int


class Query(_Value, frozen=True):
    """Execute read-only requests on the present state; changes nothing, sessions included."""

    token: int
    requests: list[Request]


class Checkpoint(_Value, frozen=True):
    """Keep the state as it is after `index`, which must be the last applied, and tell its digest."""

    index: int


class Audit(_Value, frozen=True):
    """Compute every digest of the present state anew from the data, trusting none that is at hand. Costs by what there
    is."""


class SaveState(_Value, frozen=True):
    """Write the held checkpoint at `index` to disk, in the background and behind the records listed before it. Once it
    is there it is what this replica starts from, so it must be one that others can be shown: a stable one (PBFT)."""

    index: int


class ReadPart(_Value, frozen=True):
    """Read one part of a held checkpoint, or what differs from what the `hint` of a `Wanted` says. Part 0 is the root:
    its digest is the digest of the checkpoint."""

    index: int
    part: int
    token: int
    hint: bytes = b""


class Restore(_Value, frozen=True):
    """Begin (or go on, if it is the same) to replace the state by the one at `index` whose digest is proved."""

    index: int
    digest: Digest


class WritePart(_Value, frozen=True):
    """Offer one part of the state being restored. It is verified against the digests before it counts."""

    index: int
    part: int
    data: bytes


class SetTimer(_Value, frozen=True):
    """Arm the timer, replacing an earlier arming of the same name. `delay` in microseconds, > 0."""

    name: str
    delay: Micros


class CancelTimer(_Value, frozen=True):
    name: str


class Members(_Value, frozen=True):
    """Whom to be linked with: the replicas of these configurations, the present one and, once it is decided, the next.
    `former`: earlier ones, some of whose replicas may still have to be told. `links`: what proves all of them, from the
    first configuration on. Listed at the start and at each change."""

    configurations: tuple[Configuration, ...]
    former: tuple[Configuration, ...] = ()
    links: tuple[Link, ...] = ()


class Note(_Value, frozen=True):
    """Observation only (traces, metrics, tests): nothing depends on it. `kind` is kebab-case."""

    kind: str
    detail: dict[str, Any]


class Save(_Value, frozen=True):
    """Made by `replica.py` of a SaveState: the checkpoint itself, for the disk."""

    snapshot: Any  # replog.executor.Snapshot


Effect = (
    Persist
    | Send
    | Reply
    | Accuse
    | Trim
    | Apply
    | Confirm
    | Rollback
    | Query
    | Checkpoint
    | Audit
    | SaveState
    | ReadPart
    | Restore
    | WritePart
    | SetTimer
    | CancelTimer
    | Members
    | Note
    | Shun
    | Save
)

# ------------------------------------------------------------------------------------------------------------- cores


class Core(Protocol):
    """One replica of one protocol. Deterministic: same construction, same events, same effects."""

    def step(self, now: Micros, event: Event) -> list[Effect]:
        """`now` is monotonic. Nonsense from a peer yields a Note, never an exception; an exception is our own bug."""
        ...

    def status(self) -> Status:
        """What this replica can say of itself. Changes nothing."""
        ...

    def check_invariants(self) -> None:
        """Raise AssertionError naming the invariant that does not hold. For tests and the simulator."""
        ...


class Rng(Protocol):
    """The part of random.Random that protocols may use; a stream of its own for each component. In the live world it is
    the operating system's own, fit for keys; in the simulated one it is seeded."""

    def randint(self, a: int, b: int, /) -> int: ...


class Sessions(Protocol):
    """What a core may know of the executor's client table: a function of what has been applied, nothing else."""

    def results(self, client: ClientId, timestamp: int) -> bytes | None:
        """The remembered results of an executed request, None if it was not executed or is remembered no more."""
        ...

    def admits(self, client: ClientId, timestamp: int, low: int | None = None) -> bool:
        """Whether this request could still execute: timestamp in (low, low + W] and not executed. `low` is the
        request's own, which moves the window along as it executes; without it, any that would admit it is assumed."""
        ...

    def configuration_at(self, seq: int) -> Configuration | None:
        """The configuration that holds at `seq`, which is not before the present one; None where members never
        change."""
        ...

    def boundary(self, epoch: int) -> int | None:
        """The last seq of the configuration of `epoch`, once a change of it was executed."""
        ...

    def membership_path(self, index: int) -> list[bytes] | None:
        """Proof of the record of members in the held checkpoint of `index`; None if that is not held."""
        ...


@dataclass(frozen=True)
class Stored:
    """What a replica finds on its disk: records in order, and the index and digest of the saved application state."""

    records: Sequence[Message] = ()
    index: int = 0
    digest: Digest = b""

    @property
    def empty(self) -> bool:
        return not self.records and self.index == 0


@dataclass(frozen=True)
class Setup:
    """Everything that a core is built from. Construction changes nothing outside; recovery is construction."""

    me: NodeId
    members: tuple[NodeId, ...]
    """Who votes, by growing id: at first 0 .. n-1, after a change of members any ids."""
    f: int
    domain: Domain
    config: Any
    """The protocol's own options, as made by `ProtocolSpec.options`."""
    signer: Signer
    verifier: Verifier
    sessions: Sessions
    rng: Rng
    wall: Callable[[], Micros]
    """Time of day, microseconds since 1970. Read only to propose or judge agreed time; safety never rests on it."""
    stored: Stored = field(default_factory=Stored)
    mac: Mac = mac
    """How a MAC is computed, where the protocol uses any."""
    genesis: Configuration | None = None
    """The first configuration, where members may change; `members` and `f` are then those of the epoch in `domain`."""
    links: Sequence[Link] = ()
    """From there to where this replica was enrolled: as trustworthy as `genesis`, and from the same hand."""
    begins: tuple[int, Digest] = (0, bytes(DIGEST_BYTES))
    """Seq and state digest with which all members of this epoch begin: nothing up to there is theirs to order."""

    @property
    def n(self) -> int:
        return len(self.members)

    @property
    def others(self) -> tuple[NodeId, ...]:
        return tuple(node for node in self.members if node != self.me)


@dataclass(frozen=True)
class ClientRules:
    """How a client of this protocol behaves. Used by `replog.client`."""

    reply_quorum: int
    """Matching replies of distinct replicas that make a result: f+1 (PBFT), 1 (Raft)."""
    retry_all: bool
    """On a time-out: send to all replicas (PBFT), or to the next one (Raft)."""
    retry_us: Micros
    """Wait before the first retransmission; doubles up to 8 times this."""
    request_bytes_max: int = REQUEST_BYTES_MAX
    request_operations_max: int = REQUEST_OPERATIONS_MAX
    """What replicas refuse for its size is not sent: their refusal alone would not prove that it was not executed."""
    read_quorum: int = 0
    """Matching READ answers that make a result of a read-only request; 0: reads are ordered like anything else."""
    read_from: Literal["all", "leader", "any"] = "all"
    """Whom a read that is not ordered goes to; "any": one after the other, in turn. Where one is asked a stale read
    goes to any."""
    tentative_quorum: int = 0
    """Matching TENTATIVE or DONE answers that make a result; 0: nobody answers tentatively."""
    digest_replies: bool = False
    """Whether replicas other than the replier that a request names answer with a digest."""
    sample: float = 0.0
    """Besides the one that is believed to lead, each other replica is sent a request at once with this probability, and
    all are when it is late: so they see how long that one lets it wait, and it cannot tell which requests they see."""
    macs: bool = False
    """Requests carry MACs under session keys, which each replica tells its client over their link, not signatures."""
    certified: Callable[[Domain, Verifier, Configuration, bytes], tuple[int, Digest]] | None = None
    """What an encoded certificate of a checkpoint proves under a configuration (seq and digest); raises ValueError if
    it proves nothing. The domain is of its epoch, the verifier knows its members. With `macs` nothing is signed: it is
    what the certificate says, and takes the word of a weak quorum. None: the members never change."""


class ProtocolSpec(Protocol):
    """A protocol, as the worlds, the command and the comparison know it. Found by entry point `replog.protocols`."""

    name: str
    leader_word: str
    """What the protocol calls the one that orders: primary or leader."""
    view_word: str
    """view or term."""
    messages: Codec[Any]
    """All that crosses links, COMMON_MESSAGES included."""
    records: Codec[Any]
    """All that is persisted."""

    def replicas(self, f: int) -> int:
        """The least n that stands f faults: 3f+1 or 2f+1."""
        ...

    def faults(self, n: int) -> int:
        """The most faults that n stand."""
        ...

    def check_size(self, n: int, f: int) -> None:
        """Raise ValueError, naming value and rule, if this protocol cannot run with n replicas and f faults."""
        ...

    def options(self, given: dict[str, Any]) -> Any:
        """The protocol's configuration: a frozen pydantic model with defaults. Raises pydantic.ValidationError."""
        ...

    def core(self, setup: Setup) -> Core: ...

    def boundary(self, options: Any) -> Callable[[int], int] | None:
        """The last seq of a configuration that is changed at a given seq; `replog.membership.OPEN` - 1: nobody can know
        it before; None: the members never change."""
        ...

    def client_rules(self, n: int, f: int, options: Any) -> ClientRules: ...
