"""NEW-VIEWs that were signed, as far as this replica has heard, and how two of one view at two replicas come together.

Whoever begins a view passes its NEW-VIEW on to nobody who has one. So each Status names some of those that its sender
has, by view and a part of the digest: whoever has another one for that view sends it, signed as it is, and the other
has evidence. Not here: whether a NEW-VIEW is right (`pbft.view_change`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from pbft.messages import Begun, NewView, new_view_digest
from pbft.statements import contradiction
from replog.core import Effect
from replog.types import NodeId

if TYPE_CHECKING:
    from pbft.notary import Notary

M = TypeVar("M")
VIEWS_MAX: Final = 8
"""View-changes remembered of each replica, and new-views: those nearest to the present view."""
NAMED_MAX: Final = 2
"""NEW-VIEWs that one Status names."""
MARK_BYTES: Final = 16
"""Of the digest: nobody makes two NEW-VIEWs that are alike in these."""
TWO: Final = "two-new-views"


class Beginnings:
    """Invariant: of each primary at most VIEWS_MAX, for each view the first, verified."""

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self._first: dict[NodeId, dict[int, NewView]] = {}
        self._marks: dict[int, bytes] = {}
        self._turn = 0

    def of(self, view: int) -> NewView | None:
        return self._first.get(self._notary.primary(view), {}).get(view)

    def heard(self, message: NewView, present: int) -> list[Effect]:
        """The first for its view, or another one (P5). `present`: the view of this replica."""
        known, primary = self.of(message.view), self._notary.primary(message.view)
        if known == message or not self._notary.transferable or not self._notary.check_new_view(message):
            return []
        if known is not None:
            kind = contradiction(known, message)
            return self._notary.accuse(primary, kind, (message.view, 0), known, message) if kind else []
        self._first.setdefault(primary, {})[message.view] = message
        self._marks[message.view] = mark(message)
        for view in forget_far(self._first[primary], present):
            del self._marks[view]
        return []

    def named(self) -> list[Begun]:
        """For the next Status, in turn: not this replica's own, nor those whose primary is convicted of another one."""
        views = [view for view in sorted(self._marks) if self._is_open(view)]
        self._turn += NAMED_MAX
        turned = [views[(self._turn + place) % len(views)] for place in range(min(NAMED_MAX, len(views)))]
        return [Begun(view, self._marks[view]) for view in turned]

    def unlike(self, named: Iterable[Begun]) -> list[NewView]:
        """Of views for which a Status names another one: what whoever sent that is to see."""
        views = {begun.view for begun in named if self._marks.get(begun.view, begun.mark) != begun.mark}
        found = [self.of(view) for view in sorted(views) if self._is_open(view)]
        return [message for message in found if message is not None]

    def _is_open(self, view: int) -> bool:
        primary = self._notary.primary(view)
        return primary != self._notary.me and not self._notary.is_convicted(primary, TWO, (view, 0))

    def check_invariants(self) -> None:
        assert all(len(views) <= VIEWS_MAX for views in self._first.values()), "new-views remembered are bounded"
        assert len(self._marks) == sum(map(len, self._first.values())), "each one has its mark"


def mark(message: NewView) -> bytes:
    return new_view_digest(message)[:MARK_BYTES]


def forget_far(views: dict[int, M], present: int) -> list[int]:
    """Those farthest from the present view go, so that no others make it forgotten. Gives which."""
    gone = []
    while len(views) > VIEWS_MAX:
        gone.append(max(views, key=lambda view: abs(view - present)))
        del views[gone[-1]]
    return gone
