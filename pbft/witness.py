"""What each other replica has signed, as far as this one has heard, so that two statements that do not fit are noticed.

The slots compare votes of the present view and window; this memory holds also what came before its time, after it, and
inside certificates. A vote that does not fit what was accepted here may mean that the primary, or the voter, told
others something else: then both statements are shown to all, since one replica alone may have heard one face only.

Here: memory and comparison. Not here: what is a contradiction (`pbft.statements`), and what is made of one
(`Notary.accuse`). Under MACs nobody can be shown anything: two faces of a
node are noticed by whoever has seen both, and noted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from pbft.messages import (
    Checkpoint,
    Commit,
    CommitProof,
    NewView,
    Prepare,
    PrePrepare,
    Testimony,
    ViewChange,
)
from pbft.statements import (
    FLAWED_NEW_VIEW,
    FLAWED_VIEW_CHANGE,
    HIDES,
    TWO,
    Place,
    bare,
    contradiction,
    parts_of,
    place_of,
    signed_part,
    what_of,
)
from replog.core import Effect, Send
from replog.types import Message, NodeId

if TYPE_CHECKING:
    from pbft.notary import Notary

M = TypeVar("M", bound=Message)
PLACES_MAX: Final = 4_096
"""Places remembered of each replica; the oldest go."""
VIEWS_MAX: Final = 2
"""View-changes remembered of each replica."""
SHOWINGS_MAX: Final = 4
"""So often one voter can make this replica show what it knows of a slot in one view: messages get lost."""
_OWN: Final = (Prepare, Commit, Checkpoint, ViewChange)
_SIGNED: Final = frozenset({PrePrepare, NewView, *_OWN})


class Witness:
    """Invariants:
    of each replica at most PLACES_MAX places, with the first statement there, VIEWS_MAX view-changes and new-views
    votes that came over the sender's own link need not be verified yet; all else was
    """

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self._said: dict[NodeId, dict[Place, Message]] = {}
        self._commits: dict[NodeId, dict[Place, Commit]] = {}
        self._views: dict[NodeId, dict[int, ViewChange]] = {}
        self._begun: dict[NodeId, dict[int, NewView]] = {}
        self._shown: dict[tuple[NodeId, int, int], int] = {}

    # -------------------------------------------------------------------------------------------------------- hearing

    def heard(self, sender: NodeId, message: Message) -> list[Effect]:
        """A statement that its signer brought itself."""
        kind = type(message)
        if (kind is Prepare or kind is Commit) and self._fits(sender, message):  # type: ignore[arg-type]
            return []
        if kind not in _SIGNED:
            return []
        if isinstance(message, NewView):
            return self._began(message) if sender == self._notary.primary(message.view) else []
        if isinstance(message, _OWN) and message.replica != sender:
            return []
        if isinstance(message, ViewChange):
            return self._asked(message) if self._notary.transferable and self._is_signed(sender, message) else []
        statement = bare(message)
        return self._compare(sender, statement) + self._show(sender, statement)

    def _fits(self, sender: NodeId, message: Prepare | Commit) -> bool:
        """The common case, at little cost: remember a vote for what the sender and the primary have said before."""
        place, digest = ("phases", message.view, message.seq), message.digest
        said = self._said.get(sender)
        known: Any = said.get(place) if said is not None else None
        face: Any = self._said.get(self._notary.primary(message.view), {}).get(place)
        unlike = (known is not None and known.digest != digest) or (face is not None and face.digest != digest)
        if said is None or unlike or message.replica != sender:
            return False
        if known is None:
            _keep(said, place, message)
        if type(message) is Commit:
            _keep(self._commits.setdefault(sender, {}), place, message)
        return True

    def proposed(self, message: PrePrepare) -> None:
        """This replica's own face as primary: others' votes are held against it."""
        self._compare(self._notary.me, bare(message))

    def proven(self, message: ViewChange | NewView | CommitProof) -> list[Effect]:
        """A message that was checked in full: whatever is signed in it."""
        if not self._notary.transferable:
            return []
        effects = self._asked(message) if isinstance(message, ViewChange) else []
        for signer, part in parts_of(message, self._notary.primary):
            effects += self._asked(part) if isinstance(part, ViewChange) else self._compare(signer, part)
        return effects

    def told(self, message: Testimony) -> list[Effect]:
        """What another replica has heard: it counts if it is signed."""
        effects: list[Effect] = []
        for part in message.statements if self._notary.transferable else ():
            signer = self._notary.primary(part.view) if isinstance(part, PrePrepare) else part.replica
            place = place_of(part)
            known = self._said.get(signer, {}).get(place) if place is not None else None
            new = known is None or what_of(known) != what_of(part)
            if new and self._notary.is_member(signer) and self._is_signed(signer, part):
                effects += self._compare(signer, bare(part))
        return effects

    def _compare(self, signer: NodeId, message: Message) -> list[Effect]:
        place = place_of(message)
        if place is None:
            return []
        said = self._said.setdefault(signer, {})
        known = said.setdefault(place, message)
        if isinstance(message, Commit):
            _keep(self._commits.setdefault(signer, {}), place, message)
        if known is message:
            _keep(said, place, message)
            return []
        if signer == self._notary.me or what_of(known) == what_of(message):
            return []
        return self._contradiction(signer, place, known, message)

    def _contradiction(self, signer: NodeId, place: Place, known: Message, message: Message) -> list[Effect]:
        """Two statements, of which one may not be signed: whoever is to be convicted is not hidden behind it."""
        kind = contradiction(known, message)
        if self._notary.is_convicted(signer, kind, place[1:]) or not self._is_signed(signer, message):
            return []
        if not self._is_signed(signer, known):
            self._said[signer][place] = message
            return []
        return self._notary.accuse(signer, kind, place[1:], known, message)

    def _is_signed(self, signer: NodeId, message: Message) -> bool:
        part = signed_part(message, signer)
        return part is not None and self._notary.check(signer, part[0][0], part[0][1], part[1])

    # --------------------------------------------------------------------------------------------------- view changes

    def _asked(self, message: ViewChange) -> list[Effect]:
        """A signed view-change, beside the others of its sender and what it has committed to. [CL99 4.4]"""
        signer = message.replica
        views = self._views.setdefault(signer, {})
        if signer == self._notary.me or views.get(message.view) == message:
            return []
        effects: list[Effect] = []
        for known in [views[view] for view in sorted(views)]:
            first, second = (known, message) if known.view < message.view else (message, known)
            if kind := contradiction(first, second):
                effects += self._notary.accuse(signer, kind, (second.view, 0), first, second)
        effects += self._hides(message)
        views.setdefault(message.view, message)
        while len(views) > VIEWS_MAX:
            del views[min(views)]
        return effects

    def _began(self, message: NewView) -> list[Effect]:
        """A NEW-VIEW that its primary brought: the first for its view, or another one (P5)."""
        primary = self._notary.primary(message.view)
        begun = self._begun.setdefault(primary, {})
        known = begun.get(message.view)
        if known == message or not self._notary.transferable or not self._is_signed(primary, message):
            return []
        begun.setdefault(message.view, message)
        while len(begun) > VIEWS_MAX:
            del begun[min(begun)]
        kind = contradiction(known, message) if known is not None else ""
        return self._notary.accuse(primary, kind, (message.view, 0), known, message) if kind and known else []

    def _hides(self, message: ViewChange) -> list[Effect]:
        """Whether its sender has committed to something that it does not show: one case is enough."""
        commits = self._commits.get(message.replica, {})
        for commit in [commits[place] for place in sorted(commits)]:
            if contradiction(commit, message) and self._is_signed(message.replica, commit):
                return self._notary.accuse(message.replica, HIDES, (message.view, 0), commit, message)
        return []

    def flawed(self, message: ViewChange | NewView, flaw: str) -> list[Effect]:
        """A message that no correct replica makes, whoever brought it. `flaw`: what is wrong with it to all who know
        the members, whatever their options; "": nothing."""
        views = isinstance(message, ViewChange)
        signer = message.replica if isinstance(message, ViewChange) else self._notary.primary(message.view)
        known = self._notary.transferable and self._notary.is_member(signer)
        if not flaw or not known or not self._is_signed(signer, message):
            return []
        kind = FLAWED_VIEW_CHANGE if views else FLAWED_NEW_VIEW
        return self._notary.accuse(signer, kind, (message.view, 0), message, None)

    # -------------------------------------------------------------------------------------------------------- showing

    def _show(self, signer: NodeId, message: Message) -> list[Effect]:
        """A vote does not fit what its view's primary has said here: show both to all, who may have heard otherwise."""
        place = place_of(message)
        if place is None or not isinstance(message, (PrePrepare, Prepare, Commit)):
            return []
        primary = self._notary.primary(message.view)
        face = self._said.get(primary, {}).get(place)
        votes = [message] if signer != primary else [self._said[node].get(place) for node in sorted(self._said)]
        doubtful = [
            vote
            for vote in votes
            if face is not None and isinstance(vote, (Prepare, Commit)) and vote.digest != what_of(face)
        ]
        if not doubtful or self._notary.is_convicted(primary, TWO[PrePrepare], place[1:]):
            return []
        shown = [vote for vote in doubtful if self._may_show(vote)]
        if not shown or not isinstance(face, (PrePrepare, Prepare, Commit)) or not self._notary.transferable:
            return []
        return [Send(self._notary.others, Testimony([face, *shown]))]

    def _may_show(self, vote: Prepare | Commit) -> bool:
        key = (vote.replica, vote.view, vote.seq)
        self._shown[key] = self._shown.get(key, 0) + 1
        if len(self._shown) > PLACES_MAX:
            del self._shown[next(iter(self._shown))]
        return self._shown.get(key, 0) <= SHOWINGS_MAX

    def check_invariants(self) -> None:
        assert all(len(said) <= PLACES_MAX for said in self._said.values()), "statements remembered are bounded"
        assert all(len(said) <= PLACES_MAX for said in self._commits.values()), "commits remembered are bounded"
        assert all(len(views) <= VIEWS_MAX for views in self._views.values()), "view-changes remembered are bounded"


def _keep(kept: dict[Place, M], place: Place, message: M) -> None:
    """The first statement at a place stays; the oldest place goes."""
    kept.setdefault(place, message)
    if len(kept) > PLACES_MAX:
        del kept[next(iter(kept))]
