"""Attacks on the change of views of PBFT: by who asks for one, and by who begins one.

[conflicting-new-view, new-view-drops-prepared, false-null, forged-prepared, view-change-storm, view-jump]
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from compare.attacks.base import Power, voting
from compare.attacks.lies import Liar
from compare.attacks.pen import Pen
from compare.options import Forgery, Storm
from pbft.messages import (
    NULL,
    MacNewView,
    MacViewChange,
    NewView,
    Placed,
    PreparedProof,
    PrePrepare,
    Proposal,
    ViewChange,
    Vote,
)
from replog.core import Effect, Send
from replog.quorum import byzantine_quorum
from replog.replica import Replica
from replog.types import Micros, NodeId


class _NewViews(Pen, Liar):
    """Begins its views otherwise than they must begin."""

    def other(self, message: Any) -> Any:
        """Another NEW-VIEW for the same view."""
        raise NotImplementedError

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        if not isinstance(effect.message, (NewView, MacNewView)) or effect.message.view % self.power.n != self.me:
            return [effect]
        lie = self.signed(self.other(effect.message))
        return [effect] if lie == effect.message else self.told(effect, lie)

    def told(self, effect: Send, lie: Any) -> list[Effect]:
        return [self.lie(effect.to, lie)]


class ConflictingNewView(_NewViews):
    """Tells half of the others one NEW-VIEW, resting on one quorum, and the other half another one, or none."""

    def other(self, message: Any) -> Any:
        if not isinstance(message, NewView):
            return _closed_up(message)
        views = voting(self.inner).view_changes
        asking = views.asking(message.view)[-byzantine_quorum(self.power.n, self.power.f) :]
        if [one.replica for one in asking] == [one.replica for one in message.view_changes]:
            return _closed_up(message)
        proposals = [_proposal(item) for item in views.choose(asking)[1]]
        return replace(message, view_changes=asking, pre_prepares=proposals)

    def told(self, effect: Send, lie: Any) -> list[Effect]:
        first, second = self.half(effect.to)
        return [*([Send(first, effect.message)] if first else []), *([self.lie(second, lie)] if second else [])]


def _closed_up(message: Any) -> Any:
    """Without the first proposal, every later one a number earlier."""
    said = message.pre_prepares
    moved = [replace(item, digest=after.digest) for item, after in pairwise(said)]
    return replace(message, pre_prepares=moved)


def _proposal(item: PreparedProof | int) -> Proposal:
    place = (item, NULL.digest) if isinstance(item, int) else (item.seq, item.digest)
    return Proposal(*place, b"")


class PartialNewView(Liar):
    """Begins its view with one other replica, and leaves all others waiting for it."""

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        if not isinstance(effect.message, (NewView, MacNewView)) or effect.message.view % self.power.n != self.me:
            return [effect]
        told = tuple(node for node in effect.to if node == self.correct[-1])
        self.omitted(len(effect.to) - len(told))
        return [Send(told, effect.message)] if told else []


class NewViewDropsPrepared(_NewViews):
    """Leaves out of its NEW-VIEW all that was prepared."""

    def other(self, message: Any) -> Any:
        return replace(message, pre_prepares=[])


class FalseNull(_NewViews):
    """Puts null requests where something was prepared."""

    def other(self, message: Any) -> Any:
        return replace(message, pre_prepares=[replace(item, digest=NULL.digest) for item in message.pre_prepares])


class ForgedPrepared(Pen, Liar):
    """Claims in its VIEW-CHANGE that null requests were prepared everywhere, by votes that nobody cast."""

    options_model = Forgery

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        message = effect.message
        if not isinstance(message, (ViewChange, MacViewChange)) or message.replica != self.me or not message.view:
            return [effect]
        return [self.lie(effect.to, self.signed(self._forged(message)))]

    def _forged(self, message: Any) -> Any:
        view = self.options.view if self.options.view is not None else message.view - 1
        last = max([voting(self.inner).executed + 1, *(item.seq for item in message.prepared)])
        if isinstance(message, MacViewChange):
            placed = [Placed(seq, NULL.digest, view) for seq in range(message.stable + 1, last + 1)]
            return replace(message, prepared=placed, voted=placed)
        seqs = range(message.checkpoint.seq + 1, last + 1)
        return replace(message, prepared=[self._proof(view, seq) for seq in seqs])

    def _proof(self, view: int, seq: int) -> PreparedProof:
        """In the names of as many as it takes; the signatures of all but the coalition are none."""
        primary = self.primary(view)
        backups = [node for node in range(self.power.n) if node != primary]
        votes = [Vote(node, bytes(64)) for node in backups[: byzantine_quorum(self.power.n, self.power.f) - 1]]
        return PreparedProof(view, seq, NULL.digest, bytes(64), votes)


class ViewChangeStorm(Pen, Liar):
    """Asks for one view after the other, whoever leads and however well."""

    options_model = Storm

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self.period_us = int(self.options.period_ms * 1000)
        self._view = 0

    def act(self, now: Micros) -> list[Effect]:
        core = voting(self.inner)
        self._view = min(max(self._view, core.view) + self.options.by, 2**62)
        if not core.notary.transferable:
            own: Any = MacViewChange(self._view, 0, [], [], [], self.me)
        else:
            own = ViewChange(self._view, core.checkpoints.proven, [], self.me, b"")
        return [self.lie(self.others, self.signed(own))]


class ViewJump(ViewChangeStorm):
    """Asks for the last view of its own that there can be, and proposes nothing in any other."""

    def act(self, now: Micros) -> list[Effect]:
        self._view = 2**62 - (2**62 - self.me) % self.power.n - self.options.by
        return super().act(now)

    def send(self, now: Micros, effect: Send) -> list[Effect]:
        return [] if isinstance(effect.message, PrePrepare) else [effect]
