"""What is remembered of what each replica has said, so bounded that no liar can make it be forgotten.

A place is near if it is of the present view and within some windows of what is proved; all others are odd. While one
place is near only so many others can come to be, whatever is said there, so the oldest go when there are more. What is
said at an odd place is kept only if it is signed, and takes the place of what the same replica has said at odd places
before. So nothing that is not signed, and nothing that another one says, makes anything be forgotten.

Here: which statements are kept. Not here: what they mean beside each other (`pbft.witness`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

from pbft.messages import Commit, ViewChange
from pbft.statements import Place
from replog.types import Message, NodeId

REACH: Final = 500
"""Seqs before and behind what is proved that are near."""
ODD_MAX: Final = 1_024
ROOM: Final = 512
"""So many of the oldest places go at once: to find the oldest of a dict again and again takes longer each time."""
PLACES_MAX: Final = 8 * REACH + 2 + ODD_MAX + ROOM
"""Places remembered of each replica, odd ones among them: while one is near, 4 * REACH + 1 seqs can come to be near,
each with a place of the three phases and one of a checkpoint."""
WAITING_MAX: Final = ODD_MAX
"""Statements of each replica that wait for something to be held against: what is remembered of odd places is shown."""
STRAYS_MIN: Final = 16
STRAYS_MAX: Final = 64
"""Of all those shown at one tick: a quarter of what stands alone, within these. Who is shown them checks 128 of each
replica in that time."""


class Memory:
    """Invariants:
    of each replica at most PLACES_MAX places, at most ODD_MAX of them odd, with its first statement and commit there
    what it says at a near place need not be verified yet; all else was
    """

    def __init__(self, seq: int) -> None:
        self.view = 0
        self.seq = seq
        self.said: dict[NodeId, dict[Place, Any]] = {}
        self.commits: dict[NodeId, dict[Place, Commit]] = {}
        self._odd: dict[NodeId, dict[Place, bool]] = {}

    def moved(self, view: int, seq: int) -> None:
        """Where this replica is: its view, and the highest checkpoint that it has a proof of."""
        self.view, self.seq = view, seq

    def is_near(self, place: Place) -> bool:
        kind, number, seq = place
        if kind == "phases":
            return number == self.view and -REACH <= seq - self.seq <= REACH
        return -REACH <= number - self.seq <= REACH

    def keep(self, signer: NodeId, place: Place, message: Message) -> None:
        """The first statement at a place stays, and the first commit."""
        self.keep_near(signer, place, message)
        if not self.is_near(place):
            odd = self._odd.setdefault(signer, {})
            odd[place] = True
            self._bound(signer, odd)

    def keep_near(self, signer: NodeId, place: Place, message: Message) -> None:
        """The same at a place that is known to be near."""
        self._keep_in(self.said, signer, place, message)
        if type(message) is Commit:
            self._keep_in(self.commits, signer, place, message)

    def keep_commit(self, signer: NodeId, place: Place, message: Commit) -> None:
        """At a place that is near and where its signer has said something before."""
        kept = self.commits.get(signer)
        if kept is None or len(kept) == PLACES_MAX:
            self._keep_in(self.commits, signer, place, message)
        else:
            kept.setdefault(place, message)

    def _keep_in(self, memory: dict[NodeId, dict[Place, Any]], signer: NodeId, place: Place, message: Message) -> None:
        kept = memory.get(signer) or memory.setdefault(signer, {})
        if place not in kept:
            kept[place] = message
            if len(kept) > PLACES_MAX:
                _make_room(kept, self._odd.get(signer, {}))

    def _bound(self, signer: NodeId, odd: dict[Place, bool]) -> None:
        if len(odd) > ODD_MAX:
            oldest = next(iter(odd))
            for kept in (odd, self.said[signer], self.commits.get(signer, {})):
                kept.pop(oldest, None)

    def check_invariants(self) -> None:
        for kept in (*self.said.values(), *self.commits.values()):
            assert len(kept) <= PLACES_MAX, "statements remembered are bounded"
        assert all(len(odd) <= ODD_MAX for odd in self._odd.values()), "odd places remembered are bounded"


def _make_room(kept: dict[Place, Any], odd: dict[Place, bool]) -> None:
    """The oldest places that are not odd go."""
    for place in [*itertools.islice((place for place in kept if place not in odd), ROOM)]:
        del kept[place]


class Strays:
    """Statements that stand alone. Invariant: of each replica at most WAITING_MAX wait, and as many are to be shown."""

    def __init__(self, is_placed: Callable[[Place], bool], is_signed: Callable[[NodeId, Message], bool]) -> None:
        self._is_placed = is_placed
        self._is_signed = is_signed
        self._waiting: dict[NodeId, dict[Place, Any]] = {}
        self._alone: dict[NodeId, dict[Place, tuple[Any, bool]]] = {}
        """Each with whether it was shown before: twice, since the first may be lost on the way."""

    def wait(self, signer: NodeId, place: Place, message: Message) -> None:
        waiting = self._waiting.setdefault(signer, {})
        waiting.setdefault(place, message)
        if len(waiting) > WAITING_MAX:
            self._waiting[signer] = self._thinned(signer, waiting)

    def _thinned(self, signer: NodeId, waiting: dict[Place, Any]) -> dict[Place, Any]:
        """Without those that have something beside them by now; without unsigned ones, if that is not enough; and at
        last without the oldest."""
        left = {place: said for place, said in waiting.items() if not self._is_placed(place)}
        if len(left) > WAITING_MAX // 2:
            left = {place: said for place, said in left.items() if self._is_signed(signer, said)}
        return dict(itertools.islice(left.items(), max(0, len(left) - WAITING_MAX // 2), None))

    def tick(self) -> tuple[list[Any], list[ViewChange]]:
        """Those to be shown: what has waited since the tick before the last one and still stands alone, of each replica
        in turn, so that nobody is hidden behind another; what was not shown yet comes first."""
        shown: list[Any] = []
        views: list[ViewChange] = []
        alone = list(self._in_turn())
        most = min(STRAYS_MAX, max(STRAYS_MIN, len(alone) // 4))
        for signer, place, said, again in alone:
            kind: list[Any] = views if isinstance(said, ViewChange) else shown
            if len(kind) == (1 if kind is views else most):
                continue
            signed = self._is_signed(signer, said)
            kind += [said] if signed else []
            if again or not signed:
                del self._alone[signer][place]
            else:
                self._alone[signer][place] = said, True
        self._take_up()
        return shown, views

    def any(self) -> bool:
        """Whether anything stands alone that is still to be shown, or may come to."""
        kept = [*self._waiting.values(), *self._alone.values()]
        return any(not self._is_placed(place) for said in kept for place in said)

    def _in_turn(self) -> Iterator[tuple[NodeId, Place, Any, bool]]:
        alone = {
            signer: {place: said for place, said in kept.items() if not self._is_placed(place)}
            for signer, kept in sorted(self._alone.items())
        }
        self._alone = {signer: kept for signer, kept in alone.items() if kept}
        queues = [
            sorted(((signer, place, *said) for place, said in kept.items()), key=lambda one: one[3])
            for signer, kept in self._alone.items()
        ]
        return (one for turn in itertools.zip_longest(*queues) for one in turn if one is not None)

    def _take_up(self) -> None:
        """What waits becomes what stands alone. What was shown, and what came first, makes room first."""
        waiting, self._waiting = self._waiting, {}
        for signer, new in waiting.items():
            kept = self._alone.get(signer, {})
            kept |= {place: (said, False) for place, said in new.items() if place not in kept}
            self._alone[signer] = dict(itertools.islice(kept.items(), max(0, len(kept) - WAITING_MAX), None))

    def check_invariants(self) -> None:
        for kept in (*self._waiting.values(), *self._alone.values()):
            assert len(kept) <= WAITING_MAX, "statements that stand alone are bounded"
