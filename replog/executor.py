"""Exactly-once execution of committed requests on an application, and the state as checkpoints.

Here: sessions around a StateMachine, agreed time, checkpoints, transfer and restoration of state. Not here: what is
committed (the core), how operations run (`replog.runtime`), how the tree works (`replog.merkle`).

One Merkle tree holds the whole replicated state as records: tables, fields or the application's snapshot, the client
table and what was agreed on last (HAZARDS P34). Record keys begin with one msgpack object that names the owner: a
string for a table, 0 for a client, 1 for a field, 2 for `Agreed`, 3 for an application's own snapshot, 4 for the
members, 5 for the clients and what each may do (both from the first change on). The log index is not among them: a null
request changes nothing (HAZARDS P8).
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from replog import merkle
from replog.access import RECORD_KEY as ACCESS_KEY
from replog.access import Access, AccessRules, decode_access, encode_access
from replog.access import changed as granted
from replog.core import Checkpointed, Result, Wanted
from replog.membership import (
    RECORD_KEY,
    Configuration,
    Membership,
    MembershipRules,
    Refused,
    changed,
    concluded,
    decode_membership,
    encode_membership,
)
from replog.runtime import MALFORMED_REQUEST, Runtime, StateUnreadable, Uninterrupted, failure, success
from replog.sessions import SessionTable
from replog.statemachine import StateMachine
from replog.types import ClientId, Digest, Request, Results, encode_results

CHECKPOINTS_MAX: Final = 32
"""Held at once; a further one drops the oldest. Each costs what changed since, not what there is."""

_AGREED: Final = b"\x02"
_encode = msgspec.msgpack.Encoder().encode


class Agreed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`time`: of the last batch, as its commands saw it. `seed`: what the next one's commands will see."""

    time: int = 0
    seed: bytes = bytes(32)


_decode_agreed = msgspec.msgpack.Decoder(Agreed).decode

_NO_MEMBERSHIP: Final = failure("MembershipRefused", "this cluster's protocol does not change its members")
_NOT_ALONE: Final = failure("MembershipRefused", "a change of the members is one operation, and not read-only")
_NO_ACCESS: Final = failure("AccessRefused", "this cluster's clients do not change")
_ONE_CHANGE: Final = failure("AccessRefused", "a change of the clients is one operation")


Pair = tuple[bytes, bytes | None]
_OURS: Final = frozenset({b"\x00", _AGREED[:1], RECORD_KEY[:1], ACCESS_KEY[:1]})
"""First bytes of what may be ours."""


def _is_ours(key: bytes) -> bool:
    """Whether a record is not the application's."""
    return key in (_AGREED, RECORD_KEY, ACCESS_KEY) or SessionTable.owns(key)


def _parted(values: Iterable[tuple[bytes, bytes | None]]) -> tuple[list[Pair], list[Pair]]:
    """What is not the application's, and what is; nearly all is, and its first byte says so."""
    ours: list[Pair] = []
    others: list[Pair] = []
    for pair in values:
        (ours if pair[0][:1] in _OURS and _is_ours(pair[0]) else others).append(pair)
    return ours, others


@contextmanager
def _uncollected() -> Iterator[None]:
    """A state is many objects and no garbage: to look for some all the time takes as long as all the rest."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class StateCorrupt(ValueError):
    """A saved state that is not what its digest says: it is never started on (HAZARDS X2, X3)."""


class Snapshot:
    """A checkpoint that stays as it is while execution goes on; may be read from another thread."""

    __slots__ = ("index", "_root")

    def __init__(self, index: int, root: merkle.Node) -> None:
        self.index = index
        self._root = root

    @property
    def digest(self) -> Digest:
        return self._root.digest

    def parts(self, since: Snapshot | None = None) -> Iterator[tuple[int, bytes]]:
        """All parts in order, the root first; or those alone that are other than, or not among, the parts of `since`.

        Parts of `since` that are no more may be kept beside them: `Executor.load` passes over what it has no use for.
        """
        return merkle.walk(self._root, since._root if since is not None else None)


class Executor:
    """The application of one replica, its sessions and its checkpoints. Is `replog.core.Sessions` to the core.

    Invariants:
      index is the last one applied; each was applied once, in order                       (HAZARDS P26)
      a request is executed at most once, whatever is applied                              (HAZARDS P32, P33)
      a checkpoint never changes; the state is replaced as a whole or not at all           (HAZARDS P41)
      the members change by a request with the flag MEMBERSHIP, where they change by joint consensus once an entry
      concludes it, and by nothing else; the application's state never by one
      who the clients are and what they may do changes by a request with the flag ACCESS, and by nothing else; what one
      may not do changes nothing but its session
    """

    def __init__(
        self,
        machine: StateMachine,
        sessions_max: int = 10_000,
        clients_max: int = 100_000,
        rules: MembershipRules | None = None,
        access: AccessRules | None = None,
    ) -> None:
        """`machine` is in its initial state, the same on every replica.

        `sessions_max`: clients with remembered results; `clients_max`: clients ever known. `rules`: of changes of the
        members; None: the protocol knows none. `access`: who the clients are; None: whoever comes may do everything.
        """
        self.index = 0
        self._runtime = Runtime(machine)
        self._sessions = SessionTable(sessions_max, clients_max)
        self._agreed = self._agreed_written = Agreed()
        self._rules = rules
        self._members = self._members_written = rules.beginning if rules is not None else None
        self._access_rules = access
        self._access = self._access_written = access.beginning if access is not None else None
        self._root: merkle.Node = merkle.EMPTY
        self._pieces: dict[bytes, int] = {}
        """Values that are cut into several records, and into how many."""
        self._held: dict[int, merkle.Node] = {}
        self._assembly: tuple[int, merkle.Assembly] | None = None
        self._held[0] = self._flush()

    # ------------------------------------------------------------------------------------------------------ execution

    def apply(
        self, index: int, requests: Sequence[Request], time: int, next_seed: bytes, concludes: str = ""
    ) -> list[Result]:
        """Execute the requests of `index`, the one after the last, in order. Raises ValueError for any other index.

        `time` is the agreed one; what commands see is the larger of it and one more than the last used. [CL99 6]
        `next_seed`: what commands of the next batch see as their seed; the first one's see 32 zero bytes. `concludes`:
        "made" or "given up", of the change of members that is open.
        """
        if index != self.index + 1:
            raise ValueError(f"index {index} cannot be applied after {self.index}")
        self.index = index
        if concludes and self._members is not None:
            self._members = concluded(self._members, index, concludes == "made")
        if not requests:
            return []
        context = self._runtime.context
        context.now = max(time, self._agreed.time + 1)
        context.seed = self._agreed.seed
        self._agreed = Agreed(context.now, next_seed)
        with Uninterrupted():
            results = [self._apply(index, place, request) for place, request in enumerate(requests)]
        self._sessions.close_oldest()
        return results

    def _apply(self, index: int, place: int, request: Request) -> Result:
        session = self._sessions.enter(request, index)
        if session is None:
            return Result(request.client, request.timestamp, None)
        results = encode_results(Results(index, self._run(request, (index, place))))
        session.remember(request.timestamp, results)
        return Result(request.client, request.timestamp, results)

    def _run(self, request: Request, place: tuple[int, ...]) -> list[bytes]:
        operations = request.operations()
        if operations is None:
            # One error, not `count` of them: a few bytes must not cost megabytes.
            return [MALFORMED_REQUEST]
        if flaw := self._refusal(request):
            return [failure("AccessRefused", flaw)]
        if request.is_about_access:
            return [self._grant(request, operations)]
        if request.changes_members:
            return [self._change(operations, request.read_only)]
        return self._runtime.run(operations, request.read_only, place)

    def _refusal(self, request: Request) -> str:
        """Why its client may not do this; "" if it may."""
        return self._access.refusal(request) if self._access is not None else ""

    def _grant(self, request: Request, operations: Sequence[bytes]) -> bytes:
        """The record of the clients: the present one for whoever asks, or what comes of a change."""
        if self._access_rules is None or self._access is None:
            return _NO_ACCESS
        if request.read_only:
            return success(self._access)
        if len(operations) != 1 or request.changes_members:
            return _ONE_CHANGE
        try:
            given = self._access, self._agreed.time, request.client, operations[0]
            self._access = granted(*given, self._access_rules)
        except Refused as error:
            return failure("AccessRefused", str(error))
        return success(self._access)

    def _change(self, operations: Sequence[bytes], read_only: bool) -> bytes:
        """Its one outcome: the next configuration, or why the members stay as they are."""
        if self._rules is None or self._members is None:
            return _NO_MEMBERSHIP
        if read_only or len(operations) != 1:
            return _NOT_ALONE
        try:
            self._members = changed(self._members, self.index, self._agreed.time, operations[0], self._rules)
        except Refused as error:
            return failure("MembershipRefused", str(error))
        return success(self._members.following)

    def query(self, requests: Sequence[Request]) -> list[bytes]:
        """Encoded results of read-only requests on the present state; commands in them are refused, and sessions are
        neither asked nor changed. The index in these results is 0: a read has no place in the log, and replicas that
        are some entries apart must still be able to agree on what it found. [CL99 5.1]"""
        context = self._runtime.context
        context.now, context.seed = self._agreed.time, b""
        with Uninterrupted():
            return [encode_results(Results(0, self._query(request))) for request in requests]

    def _query(self, request: Request) -> list[bytes]:
        operations = request.operations()
        if operations is None:
            return [MALFORMED_REQUEST]
        if flaw := self._refusal(request):
            return [failure("AccessRefused", flaw)]
        if request.is_about_access:
            return [self._grant(request, operations)]
        return [_NOT_ALONE] if request.changes_members else self._runtime.run(operations, True, ())

    def results(self, client: ClientId, timestamp: int) -> bytes | None:
        """The remembered results of an executed request, None if it was not executed or is remembered no more."""
        return self._sessions.results(client, timestamp)

    def admits(self, client: ClientId, timestamp: int, low: int | None = None) -> bool:
        """Whether this request could still execute. `low`: the request's own, which moves the window along."""
        return self._sessions.admits(client, timestamp, low)

    # --------------------------------------------------------------------------------------------------------- members

    @property
    def members(self) -> Membership | None:
        """The record of the members as of the last index; None where the protocol knows no changes."""
        return self._members

    @property
    def access(self) -> Access | None:
        """Who the clients are as of the last index; None where whoever comes may do everything."""
        return self._access

    def client_key(self, client: ClientId) -> bytes | None:
        """The public key of a client that is, or was, registered."""
        known = self._access.of(client) if self._access is not None else None
        return known.public_key if known is not None else None

    def configuration_at(self, seq: int) -> Configuration | None:
        """The configuration that holds at `seq`, which is not before the present one; None where there is no record."""
        return None if self._members is None else self._members.at(seq)

    def boundary(self, epoch: int) -> int | None:
        """The last seq of the configuration of `epoch`, once a change of it was executed."""
        return None if self._members is None else self._members.boundary(epoch)

    def membership_path(self, index: int) -> list[bytes] | None:
        """Proof of the record in the checkpoint of `index`; None if that is not held."""
        root = self._held.get(index)
        return None if root is None else merkle.path(root, RECORD_KEY)

    # ---------------------------------------------------------------------------------------------------- checkpoints

    def digest(self) -> Digest:
        """Of the state as it is. Costs by what was written since the last call or checkpoint."""
        return self._flush().digest

    def checkpoint(self, index: int) -> Digest:
        """Keep the state as it is after `index`, which must be the last applied."""
        if index != self.index:
            raise ValueError(f"a checkpoint of {index} cannot be made at {self.index}")
        self._hold(index, self._flush())
        return self._root.digest

    def _hold(self, index: int, root: merkle.Node) -> None:
        self._held[index] = root
        if len(self._held) > CHECKPOINTS_MAX:
            del self._held[min(self._held)]

    def _flush(self) -> merkle.Node:
        """Bring the tree up to the state."""
        changes = self._runtime.take_changes() | self._sessions.take_changes()
        if self._agreed is not self._agreed_written:
            changes[_AGREED] = _encode(self._agreed)
            self._agreed_written = self._agreed
        if self._members is not self._members_written:
            changes[RECORD_KEY] = encode_membership(self._members)
            self._members_written = self._members
        if self._access is not self._access_written:
            changes[ACCESS_KEY] = encode_access(self._access)
            self._access_written = self._access
        if changes:
            self._root = merkle.update(self._root, self._cut(changes))
        return self._root

    def audit(self) -> int:
        """Build the tree anew from the data: whatever changed either behind the other's back is in the digest now, and
        the parts that differ from a proved state can be fetched. The number of parts. [CL02 proactive recovery]"""
        records: dict[bytes, bytes | None] = {**self._runtime.take_all(), **self._sessions.take_all()}
        if self._agreed != Agreed():
            records[_AGREED] = _encode(self._agreed)
        if self._rules is not None and self._members != self._rules.beginning:
            records[RECORD_KEY] = encode_membership(self._members)
        if self._access_rules is not None and self._access != self._access_rules.beginning:
            records[ACCESS_KEY] = encode_access(self._access)
        self._agreed_written, self._members_written = self._agreed, self._members
        self._access_written = self._access
        self._pieces.clear()
        whole = self._cut(records)
        self._root = merkle.build({key: value for key, value in whole.items() if value is not None})
        return merkle.count_parts(self._root)

    def _cut(self, changes: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
        """`changes` with values longer than a chunk in pieces."""
        for key in [key for key in changes if key in self._pieces or len(changes[key] or b"") > merkle.CHUNK_BYTES]:
            value = changes[key]
            changes.update(merkle.cut(key, value, self._pieces.get(key, 1)))
            self._note_pieces(key, value)
        return changes

    def _note_pieces(self, key: bytes, value: bytes | None) -> None:
        if value is not None and len(value) > merkle.CHUNK_BYTES:
            self._pieces[key] = -(-len(value) // merkle.CHUNK_BYTES)
        else:
            self._pieces.pop(key, None)

    def snapshot(self, index: int) -> Snapshot:
        """A held checkpoint. Raises KeyError if it is not held."""
        return Snapshot(index, self._held[index])

    def read_part(self, index: int, part: int, hint: bytes = b"") -> tuple[bytes | None, int]:
        """(bytes, the part that follows in a walk over all, -1 after the last); (None, -1) if it is not held. With a
        hint the bytes may be the delta to what it describes."""
        root = self._held.get(index)
        data = merkle.read_part(root, part, hint) if root is not None else None
        if root is None or data is None:
            return None, -1
        return data, merkle.following(root, part)

    def drop_below(self, index: int) -> None:
        """Checkpoints below `index` are needed no more."""
        for held in [held for held in self._held if held < index]:
            del self._held[held]

    def rollback(self, index: int) -> None:
        """Undo all that was applied after `index`, a held checkpoint. Raises KeyError if it is not held."""
        self._become(index, self._held[index])
        for later in [held for held in self._held if held > index]:
            del self._held[later]

    # -------------------------------------------------------------------------------------------------------- transfer

    def restore(self, index: int, digest: Digest) -> Wanted | Checkpointed:
        """Begin to replace the state by that of `index`, or go on with it. What the present state has in common with
        it is not fetched, nor what an attempt for another index has fetched already."""
        if self._assembly is None or self._assembly[0] != index or self._assembly[1].digest != digest:
            known = self._assembly[1].finished if self._assembly is not None else {}
            self._assembly = index, merkle.Assembly(digest, self._flush(), known)
        return self._progress(refused=False)

    def write_part(self, index: int, part: int, data: bytes) -> Wanted | Checkpointed:
        """One part of the state under restoration. With no restoration to `index` under way nothing is wanted."""
        if self._assembly is None or self._assembly[0] != index:
            return Wanted(index, (), False)
        return self._progress(refused=not self._assembly[1].add(part, data))

    def _progress(self, refused: bool) -> Wanted | Checkpointed:
        if self._assembly is None:
            raise ValueError("no restoration is under way")
        index, assembly = self._assembly
        if assembly.root is None:
            return Wanted(index, assembly.wanted(), refused, assembly.hints())
        self._become(index, assembly.root)
        self._assembly = None
        self._hold(index, self._root)
        return Checkpointed(index, self._root.digest)

    def load(self, index: int, digest: Digest, parts: Iterable[tuple[int, bytes]], sealed: bool = False) -> None:
        """At start: become the saved state. Raises StateCorrupt, and changes nothing, unless the parts are complete
        and have the digest (HAZARDS X3). `sealed`: whoever has kept the parts knows that they are as they were saved:
        then not every record is hashed anew."""
        with _uncollected():
            saved = dict(parts)
            root = merkle.trusted(digest, saved) if sealed else None
            if root is None:
                root = self._assembled(index, digest, saved)
            self._become(index, root)
        self._held = {index: self._root}

    @staticmethod
    def _assembled(index: int, digest: Digest, saved: dict[int, bytes]) -> merkle.Node:
        assembly = merkle.Assembly(digest, merkle.EMPTY)
        while assembly.root is None:
            for part in assembly.wanted():
                data = saved.get(part)
                if data is None:
                    raise StateCorrupt(f"saved state of index {index}: part {part} is missing")
                if not assembly.add(part, data):
                    raise StateCorrupt(f"saved state of index {index}: part {part} does not have its digest")
        return assembly.root

    def _become(self, index: int, root: merkle.Node) -> None:
        """Replace the state by the one of `root`. Reads all that differs before it changes anything."""
        values = list(merkle.value_differences(self._flush(), root))
        ours, others = _parted(values)
        told = [value for key, value in ours if key == _AGREED]
        try:
            agreed = self._agreed if not told else Agreed() if told[0] is None else _decode_agreed(told[0])
            members = self._read_members([value for key, value in ours if key == RECORD_KEY])
            clients = self._read_access([value for key, value in ours if key == ACCESS_KEY])
            sessions = self._sessions.prepare(pair for pair in ours if SessionTable.owns(pair[0]))
        except msgspec.MsgspecError as error:
            raise StateUnreadable(f"state of index {index}: {error}") from None
        state = self._runtime.prepare(others)
        self._runtime.install(state)
        self._sessions.install(sessions)
        for key, value in values:
            if key in self._pieces or len(value or b"") > merkle.CHUNK_BYTES:
                self._note_pieces(key, value)
        self.index, self._root = index, root
        self._agreed = self._agreed_written = agreed
        self._members = self._members_written = members
        self._access = self._access_written = clients

    def _read_members(self, told: Sequence[bytes | None]) -> Membership | None:
        """The record after a change of state that says this of it, or nothing."""
        if not told:
            return self._members
        if self._rules is None:
            raise StateUnreadable("the state has a record of members, this replica knows no changes of them")
        return self._rules.beginning if told[0] is None else decode_membership(told[0])

    def _read_access(self, told: Sequence[bytes | None]) -> Access | None:
        """As `_read_members`."""
        if not told:
            return self._access
        if self._access_rules is None:
            raise StateUnreadable("the state has a record of clients, this replica knows no changes of them")
        return self._access_rules.beginning if told[0] is None else decode_access(told[0])

    def check_invariants(self) -> None:
        self._runtime.check_invariants()
        self._sessions.check_invariants()
        assert all(index <= self.index for index in self._held), "no checkpoint is of the future"
        assert len(self._held) <= CHECKPOINTS_MAX, "checkpoints are bounded"
