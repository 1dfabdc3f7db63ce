"""What correct replicas were told by liars and went through meanwhile, for counting and not for judging.

Stands between the simulated world and each plug, lies included. Judges read nothing of it (HAZARDS X4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable

from compare.attacks import Byzantine
from replog.core import Effect, Event, Note, Received, Restore
from replog.types import Message, Micros, NodeId, Principal, Status

Told = Callable[[NodeId, Principal, Message], None]


class Watched:
    """One replica's plug under watch."""

    def __init__(self, inner: Byzantine, witness: Witness) -> None:
        self._inner = inner
        self._witness = witness

    def step(self, now: Micros, event: Event) -> list[Effect]:
        witness, me = self._witness, self._inner.me
        if me in witness.liars:
            return self._inner.step(now, event)
        if type(event) is Received:
            witness.told(me, event.sender, event.message)
        effects = self._inner.step(now, event)
        witness.did(effects)
        return effects

    def status(self) -> Status:
        return self._inner.status()


class Witness:
    def __init__(self, liars: Container[NodeId], told: Told) -> None:
        self.liars = liars
        self.told = told
        self._counts: Counter[str] = Counter()
        self._views: set[int] = set()
        self._checkpoints: set[int] = set()

    def did(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if type(effect) is Restore:
                self._counts["restored"] += 1
            elif type(effect) is Note:
                self._counts[effect.kind] += 1
                if effect.kind == "view":
                    self._views.add(effect.detail["view"])
                elif effect.kind == "checkpoint":
                    self._checkpoints.add(effect.detail["index"])

    @property
    def events(self) -> dict[str, int]:
        """Notes of correct replicas by kind; views and checkpoints each once, however many came to them."""
        views, checkpoints = len(self._views), len(self._checkpoints)
        return dict(self._counts) | {"view": views, "checkpoint": checkpoints}
