"""Whether evidence proves what it says: pure, by the accused node's own signatures, for anybody who has its key.

Two statements of one node that no correct node says both of, or one message that no correct node makes. Nothing here
rests on the accuser's word, on options of the cluster, or on any other node's honesty. What rests on who the members
are (n, f and all their keys) says so: `needs_members`.

Why none of these can be made of a correct node's statements, whatever happens to it: what it says at a place is on its
disk before it leaves, and comes back at a restart (HAZARDS P16); a state that it fetches is proved, and takes away only
what lies below that proof; a refresh drops what a correct replica cannot hold; with durability "memory" a replica that
may have lost something does not start. Not covered is a node that is not correct by the model: one whose disk lost what
it had acknowledged, that runs on an old copy of its folder or twice at once, or whose application is not deterministic.
"""

from __future__ import annotations

from typing import Final

from pbft.messages import Checkpoint, NewView, ViewChange
from pbft.notary import Notary
from pbft.statements import (
    FLAWED_NEW_VIEW,
    FLAWED_VIEW_CHANGE,
    HIDES,
    PHASES,
    contradiction,
    hidden,
    place_of,
    signed_part,
    statement,
    what_of,
)
from pbft.view_change import ViewChanges
from replog.codec import Domain
from replog.core import Accuse, Setup
from replog.keys import Verifier
from replog.membership import Electorate
from replog.types import NOBODY, ClientId, Message, Principal, Submit


class NotProven(ValueError):
    """The text says why this convicts nobody."""


class _Nobody:
    """An outsider: signs nothing, executes nothing, and knows no options."""

    checkpoint_interval = 1
    log_window = 2**63

    def sign(self, statement: bytes) -> bytes:
        raise NotImplementedError("an examiner signs nothing")

    def results(self, client: ClientId, timestamp: int) -> bytes | None:
        return None

    def admits(self, client: ClientId, timestamp: int, low: int | None = None) -> bool:
        return False

    def configuration_at(self, seq: int) -> None:
        return None

    def boundary(self, epoch: int) -> int | None:
        return None

    def membership_path(self, index: int) -> list[bytes] | None:
        return None

    def randint(self, a: int, b: int, /) -> int:
        return a


Given = tuple[int, int] | Electorate
"""Members 0 .. n-1 that never changed, as (n, f), or those of an epoch."""


def electorate(members: Given) -> Electorate:
    return members if isinstance(members, Electorate) else Electorate(range(members[0]), members[1])


def examiner(members: Given, domain: Domain, verifier: Verifier) -> Notary:
    """Checks what others say, and says nothing itself. Options count for nothing: see `Notary.unbounded`."""
    nobody = _Nobody()
    known = electorate(members)
    return Notary(
        Setup(
            NOBODY,
            tuple(known.ids),
            known.f,
            domain,
            nobody,
            nobody,
            verifier,
            nobody,
            nobody,
            lambda: 0,
            begins=known.begins,
        )
    )


def needs_members(kind: str) -> bool:
    """Whether this kind of evidence rests on n, f and the keys of all members, beside the key of the accused."""
    return kind in (FLAWED_VIEW_CHANGE, FLAWED_NEW_VIEW)


def convict(accusation: Accuse, domain: Domain, verifier: Verifier, members: Given | None = None) -> str:
    """What the culprit did, in one sentence. Raises NotProven. `members`: of the epoch, all known to
    the verifier."""
    culprit, kind, first, second = accusation.culprit, accusation.kind, accusation.first, accusation.second
    for message in (first, second) if second is not None else (first,):
        _check(message, culprit, domain, verifier)
    if second is not None:
        if contradiction(first, second) != kind:
            raise NotProven(f"the two statements are no {kind}: a correct node may say both")
        return _told(culprit, kind, first, second)
    if not needs_members(kind):
        raise NotProven(f"{kind}: takes two statements, there is one")
    if members is None:
        raise NotProven(f"{kind}: takes the keys of all members, n and f; they are not proved here")
    return _flawed(culprit, kind, first, examiner(members, domain, verifier))


def _check(message: Message, culprit: Principal, domain: Domain, verifier: Verifier) -> None:
    part = signed_part(message, culprit)
    if part is None:
        raise NotProven(f"{type(message).__name__} is no signed statement of {_name(culprit)}")
    if not verifier.verify(culprit, statement(domain, part[0]), part[1]):
        raise NotProven(f"{_name(culprit)} did not sign this {type(message).__name__}")


def _told(culprit: Principal, kind: str, first: Message, second: Message) -> str:
    if kind == HIDES and isinstance(second, ViewChange):
        view, seq = hidden(first, second) or (0, 0)  # type: ignore[arg-type]
        what = f"a certificate for view {view}, seq {seq}, which it had by its own signature"
        return f"{_name(culprit)} signed a VIEW-CHANGE for view {second.view} that hides {what}"
    said = " and ".join(f"{_WORDS.get(type(message), 'statement')} {_short(message)}" for message in (first, second))
    return f"{_name(culprit)} signed two different statements for {_where(first)}: {said}"


_WORDS: Final[dict[type[Message], str]] = {Submit: "request", Checkpoint: "state", ViewChange: "VIEW-CHANGE"}


def _where(message: Message) -> str:
    place = place_of(message)
    kind, number, seq = place if place is not None else ("", 0, 0)
    if isinstance(message, PHASES):
        return f"view {number}, seq {seq}"
    if kind == "request":
        return f"timestamp {number}"
    return f"the checkpoint at seq {number}" if kind == "checkpoint" else f"view {number}"


def _short(message: Message) -> str:
    kind = f"{type(message).__name__} " if isinstance(message, PHASES) else ""
    return f"{kind}{what_of(message).hex()[:16]}"


def _flawed(culprit: Principal, kind: str, message: Message, known: Notary) -> str:
    if kind == FLAWED_VIEW_CHANGE and isinstance(message, ViewChange):
        flaw, what = known.flaw_in_view_change(message), f"a VIEW-CHANGE for view {message.view}"
    elif kind == FLAWED_NEW_VIEW and isinstance(message, NewView):
        flaw, what = _flaw_in_new_view(culprit, message, known), f"a NEW-VIEW for view {message.view}"
    else:
        raise NotProven(f"{kind}: {type(message).__name__} is no such message")
    if not flaw:
        raise NotProven(f"{kind}: nothing is wrong with this message")
    return f"{_name(culprit)} signed {what} that no correct replica makes: {flaw}"


def _flaw_in_new_view(culprit: Principal, message: NewView, notary: Notary) -> str:
    if culprit != notary.primary(message.view):
        return f"node {notary.primary(message.view)} is its primary"
    return ViewChanges(notary).flaw_in_new_view(message)


def _name(culprit: Principal) -> str:
    return f"node {culprit}" if isinstance(culprit, int) else f"client {culprit}"
