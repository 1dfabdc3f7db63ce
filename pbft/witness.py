"""What each other replica has signed, as far as this one has heard, so that two statements that do not fit are noticed.

The slots compare votes of the present view and window; this memory holds also what came before its time, after it, and
inside certificates. A statement that does not fit what is believed here may mean that the primary, or the voter, told
others something else: then all that was said there is shown to all, since one replica alone may have heard one face
only. Believed of a (view, seq) is what its primary has said, or what is decided; of a checkpoint the own state.

Here: memory and comparison. Not here: what is a contradiction (`pbft.statements`), and what is made of one
(`Notary.accuse`). Under MACs nobody can be shown anything: two faces of a node are noticed by whoever
has seen both, and noted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pbft.beginnings import VIEWS_MAX, Beginnings, forget_far
from pbft.memory import PLACES_MAX, REACH, Memory, Strays
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

M = TypeVar("M")
SHOWINGS_MAX: Final = 4
"""So often one statement is shown, each time it comes: messages get lost."""
STATEMENTS_MAX: Final = 64
"""In one testimony."""
_OWN: Final = (Prepare, Commit, Checkpoint, ViewChange)
_SIGNED: Final = frozenset({PrePrepare, NewView, *_OWN})


class Witness:
    """Invariants:
    of each replica at most VIEWS_MAX view-changes, verified; of other statements see `Memory` and `Beginnings`
    at most PLACES_MAX places are doubted, or known by what is decided there
    """

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self._memory = Memory(notary.base.seq)
        self._said = self._memory.said
        self._commits = self._memory.commits
        self._views: dict[NodeId, dict[int, ViewChange]] = {}
        self.begun = Beginnings(notary)
        self._decided: dict[Place, Commit] = {}
        self._doubted: dict[Place, bool] = {}
        self._shown: dict[tuple[NodeId, type[Message], Place], int] = {}
        self._strays = Strays(self._is_placed, self._is_signed)
        self._recalled: list[Effect] = []

    # -------------------------------------------------------------------------------------------------------- hearing

    def heard(self, sender: NodeId, message: Message) -> list[Effect]:
        """A statement that its signer brought itself."""
        kind = type(message)
        if (kind is Prepare or kind is Commit) and self._fits(sender, message):  # type: ignore[arg-type]
            return []
        if kind is PrePrepare and self._begins(sender, message):  # type: ignore[arg-type]
            return []
        if kind not in _SIGNED or (isinstance(message, PrePrepare) and sender != self._notary.primary(message.view)):
            return []
        if isinstance(message, NewView):
            first = self.begun.of(message.view)
            shown = sender == self._notary.primary(message.view) or (first is not None and first != message)
            return self.begun.heard(message, self._memory.view) if shown else []
        if isinstance(message, _OWN) and message.replica != sender:
            return []
        if isinstance(message, ViewChange):
            return self._asked(message) if self._notary.transferable and self._is_signed(sender, message) else []
        return self._stated(sender, bare(message))

    def _stated(self, sender: NodeId, statement: Message) -> list[Effect]:
        place = place_of(statement)
        if place is None:
            return []
        if not self._memory.is_near(place) and not self._is_signed(sender, statement):
            return self._notary.refuse(sender, "an unsigned statement of another view or window")
        self._wait(sender, place, statement)
        return self._compare(sender, statement) + self._show(sender, statement)

    def _fits(self, sender: NodeId, message: Prepare | Commit) -> bool:
        """The common case, at little cost: remember a vote for what the sender and the primary have said before."""
        memory, said, view = self._memory, self._said.get(sender), message.view
        if said is None or view != memory.view or not -REACH <= message.seq - memory.seq <= REACH:
            return False
        place, digest = ("phases", view, message.seq), message.digest
        primary = self._said.get(self._notary.primary(view))
        known: Any = said.get(place)
        face: Any = (primary and primary.get(place)) or self._decided.get(place)
        unlike = (known is not None and known.digest != digest) or (face is not None and face.digest != digest)
        if unlike or message.replica != sender or place in self._doubted:
            return False
        if known is None:
            if face is None:
                self._wait(sender, place, message)
            memory.keep_near(sender, place, message)
        elif type(message) is Commit:
            memory.keep_commit(sender, place, message)
        return True

    def _begins(self, sender: NodeId, message: PrePrepare) -> bool:
        """As common: the primary's first word at a place, which fits whatever others have said there before."""
        place, said = ("phases", message.view, message.seq), self._said.get(sender)
        if said is None or place in said or place in self._doubted or place in self._decided:
            return False
        if sender != self._notary.primary(message.view) or not self._memory.is_near(place):
            return False
        for others in self._said.values():
            other: Any = others.get(place)
            if other is not None and other.digest != message.digest:
                return False
        statement = bare(message)
        self._memory.keep_near(sender, place, statement)
        self._wait(sender, place, statement)
        return True

    def proposed(self, message: PrePrepare) -> list[Effect]:
        """This replica's own face as primary: others' votes are held against it. Who has voted before, for something
        else, may have told others what is proposed now: so that is shown."""
        self._compare(self._notary.me, bare(message))
        return self._show(self._notary.me, bare(message))

    def stated(self, message: Checkpoint) -> list[Effect]:
        """This replica's own state: what others have said of theirs, or will say, is held against it."""
        self._memory.moved(self._memory.view, max(self._memory.seq, message.seq))
        self._compare(self._notary.me, message)
        return self._show(self._notary.me, message)

    def proven(self, message: ViewChange | NewView | CommitProof) -> list[Effect]:
        """A message that was checked in full: whatever is signed in it."""
        if not self._notary.transferable:
            return []
        effects = self._asked(message) if isinstance(message, ViewChange) else []
        for signer, part in parts_of(message, self._notary.primary):
            effects += self._asked(part) if isinstance(part, ViewChange) else self._compare(signer, part)
        if isinstance(message, CommitProof):
            effects += self._decide(message)
        if isinstance(message, NewView):
            self._memory.moved(max(self._memory.view, message.view), self._memory.seq)
            effects += self.begun.heard(message, self._memory.view) + self._left_out(message)
        return effects

    def _decide(self, proof: CommitProof) -> list[Effect]:
        """What a quorum has committed to: votes that came without the primary's word are held against it."""
        first = proof.votes[0]
        commit = Commit(proof.view, proof.seq, proof.digest, first.replica, first.signature)
        _keep(self._decided, ("phases", proof.view, proof.seq), commit)
        return self._show(first.replica, commit)

    def _left_out(self, message: NewView) -> list[Effect]:
        """View-changes for that view that it does not rest on: who sent them may have sent others another one."""
        within, place = {part.replica for part in message.view_changes}, ("view-change", message.view, 0)
        asked = {node: views[message.view] for node, views in self._views.items() if message.view in views}
        shown = [asked[node] for node in sorted(asked) if node not in within]
        return [
            Send(self._notary.others, Testimony([part])) for part in shown if self._may_show(part, place, part.replica)
        ]

    def recalled(self, record: Message) -> None:
        """From this replica's own disk: what others have signed in it is known in the new life too. Whatever else they
        had said is forgotten. What it amounts to comes with the first tick."""
        if isinstance(record, PrePrepare):
            self._recalled += self._compare(self._notary.primary(record.view), bare(record))
        elif self._notary.transferable:
            for signer, part in parts_of(getattr(record, "proof", record), self._notary.primary):
                views = isinstance(part, ViewChange)
                self._recalled += self._asked(part) if views else self._compare(signer, part)  # type: ignore[arg-type]
            if isinstance(record, NewView):
                self._recalled += self.begun.heard(record, record.view)

    def told(self, sender: NodeId, message: Testimony, may_check: Callable[[], bool]) -> list[Effect]:
        """What another replica has heard: it counts if it is signed. A correct one shows nothing else, whatever it was
        told, so whoever does is refused, and heard no further. `may_check`: whether the sender may cost this replica
        one more signature."""
        effects: list[Effect] = []
        for part in message.statements if self._notary.transferable else ():
            signer = self._notary.primary(part.view) if isinstance(part, PrePrepare) else part.replica
            if not self._is_new(signer, part):
                continue
            if not may_check():
                return effects
            if not self._notary.is_member(signer) or not self._is_signed(signer, part):
                return effects + self._notary.refuse(sender, "testimony: a statement that nobody has signed")
            effects += self._asked(part) if isinstance(part, ViewChange) else self._compare(signer, bare(part))
        return effects

    def _is_new(self, signer: NodeId, part: Message) -> bool:
        """Whether it says something else than what this replica knows of its signer."""
        place = place_of(part)
        known: Any = self._said.get(signer, {}).get(place) if place is not None else None
        if isinstance(part, ViewChange):
            known = self._views.get(signer, {}).get(part.view)
        return known is None or what_of(known) != what_of(part)

    def _compare(self, signer: NodeId, message: Message) -> list[Effect]:
        place = place_of(message)
        if place is None:
            return []
        known = self._said.get(signer, {}).get(place)
        if known is None or isinstance(message, Commit):
            self._memory.keep(signer, place, message)
        if known is None or signer == self._notary.me or what_of(known) == what_of(message):
            return []
        return self._contradiction(signer, place, known, message)

    def _contradiction(self, signer: NodeId, place: Place, known: Message, message: Message) -> list[Effect]:
        """Two statements, of which one may not be signed: whoever is to be convicted is not hidden behind it."""
        kind = contradiction(known, message)
        if self._notary.is_convicted(signer, kind, place[1:]) or not self._is_signed(signer, message):
            return []
        if not self._is_signed(signer, known):
            return self._instead(signer, place, message)
        return self._notary.accuse(signer, kind, place[1:], known, message)

    def _instead(self, signer: NodeId, place: Place, message: Message) -> list[Effect]:
        """A signed statement takes the place of one that nobody signed: what was remembered because it fits that one is
        held against this one now, and what is not signed of that goes as well."""
        self._said[signer][place] = message
        commit = self._commits.get(signer, {}).pop(place, None)
        if commit is None or not self._is_signed(signer, commit):
            return self._compare(signer, message) if isinstance(message, Commit) else []
        self._commits[signer][place] = commit
        kind = contradiction(commit, message)
        known = not kind or self._notary.is_convicted(signer, kind, place[1:])
        return [] if known else self._notary.accuse(signer, kind, place[1:], commit, message)

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
        self._wait(signer, ("view-change", message.view, 0), message)
        views.setdefault(message.view, message)
        forget_far(views, self._memory.view)
        return effects

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
        """Something does not fit what is believed at its place: all that was said there is shown to all, and what comes
        there later, since each of them may have heard otherwise from anybody."""
        place = place_of(message)
        if place is None or not isinstance(message, (PrePrepare, Prepare, Commit, Checkpoint)):
            return []
        told: list[tuple[NodeId, Message]] = [(signer, message)]
        if place not in self._doubted:
            told += [said for said in self._told_at(place) if said != told[0]]
            face = self._face(place)
            unlike = [said for said in told if face is not None and what_of(said[1]) != what_of(face)]
            if not any(self._is_signed(*said) for said in unlike):
                return []
            _keep(self._doubted, place, True)
        shown: list[Any] = [said for node, said in told if self._may_show(said, place, node)]
        if not shown or not self._notary.transferable:
            return []
        parts = [shown[start : start + STATEMENTS_MAX] for start in range(0, len(shown), STATEMENTS_MAX)]
        return [Send(self._notary.others, Testimony(part)) for part in parts]

    def _face(self, place: Place) -> Message | None:
        """What this replica believes there."""
        if place[0] == "checkpoint":
            return self._said.get(self._notary.me, {}).get(place)
        return self._said.get(self._notary.primary(place[1]), {}).get(place) or self._decided.get(place)

    def _told_at(self, place: Place) -> list[tuple[NodeId, Message]]:
        """The first that each has said there."""
        decided = self._decided.get(place)
        told = {} if decided is None else {decided.replica: decided}
        return sorted((told | {node: said[place] for node, said in self._said.items() if place in said}).items())

    def _may_show(self, message: Message, place: Place, signer: NodeId) -> bool:
        """Only what is signed, so that no liar makes this replica show what others refuse it for."""
        key = (signer, type(message), place)
        if self._shown.get(key, 0) >= SHOWINGS_MAX or not self._is_signed(signer, message):
            return False
        self._shown[key] = self._shown.get(key, 0) + 1
        if len(self._shown) > PLACES_MAX:
            del self._shown[next(iter(self._shown))]
        return True

    # --------------------------------------------------------------------------------------------------------- strays

    def _wait(self, signer: NodeId, place: Place, message: Message) -> None:
        if signer != self._notary.me and self._notary.transferable:
            self._strays.wait(signer, place, message)

    def tick(self, view: int, seq: int) -> list[Effect]:
        """What has stood alone for a while, since this replica is beyond that place or never gets there: others may
        have heard otherwise, and nothing here would tell. With f = 0 nobody is taken to lie. `view`, `seq`: see
        `Memory.moved`."""
        self._memory.moved(view, seq)
        shown, views = self._strays.tick()
        recalled, self._recalled = self._recalled, []
        parts: list[list[Any]] = [part for part in (shown, views) if part and self._notary.f]
        return [*recalled, *(Send(self._notary.others, Testimony(part)) for part in parts)]

    @property
    def waits(self) -> bool:
        """Whether a word stands alone: then the ticks are as near to each other as where a request waits, so that who
        was told otherwise learns of it soon. With f = 0, or under MACs, nobody is shown anything."""
        return bool(self._notary.f) and self._strays.any()

    def _is_placed(self, place: Place) -> bool:
        """Whether there is something that a statement there was, or will be, held against."""
        if place[0] == "view-change":
            return self.begun.of(place[1]) is not None
        if place[0] == "checkpoint":
            return self._face(place) is not None
        return self._face(place) is not None and len(self._told_at(place)) > 1

    def check_invariants(self) -> None:
        self._memory.check_invariants()
        self._strays.check_invariants()
        self.begun.check_invariants()
        assert max(len(self._decided), len(self._doubted)) <= PLACES_MAX, "places known otherwise are bounded"
        assert all(len(views) <= VIEWS_MAX for views in self._views.values()), "view-changes remembered are bounded"


def _keep(kept: dict[Place, M], place: Place, message: M) -> None:
    """The first statement at a place stays; the oldest place goes."""
    kept.setdefault(place, message)
    if len(kept) > PLACES_MAX:
        del kept[next(iter(kept))]
