"""junk-votes against PBFT: a liar tells two faces, and so much junk between them that the first may be forgotten.

In turn: one replica, which has heard the liar's COMMIT for a place, hears junk and then another COMMIT for it; and two
replicas hear one face each at a place that nobody gets to, with junk behind it. The junk are votes of other views that
nobody signed. Here: what is told. Not here: whether anybody has evidence of it (`compare.checkers.accountability`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from compare.attacks.base import Attack, Power, voting
from compare.options import Junk
from pbft.messages import Commit, Prepare
from replog.codec import digest_of
from replog.core import Effect, Event, Send, SetTimer, Timeout
from replog.replica import Replica
from replog.types import Digest, Message, Micros, NodeId

TICK_US: Final = 150_000
FAR: Final = 7_000_000
"""The view of the junk."""
NOWHERE: Final = 5
"""So many views ahead nobody gets to."""


class JunkVotes(Attack):
    """Invariant: the liar signs two digests for a place only where it means to."""

    TIMER = "junk"

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        super().__init__(me, inner, power)
        self._junk = Junk.model_validate(power.options).junk
        self._others = [node for node in range(power.n) if node not in power.members]
        self._chance = random.Random(f"{power.seed}/junk-votes/{me}")
        self._next: Micros = 0
        self._acts = 0

    def hear(self, now: Micros, event: Event) -> list[Event]:
        return [] if event == Timeout(self.TIMER) else [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        if now < self._next:
            return effects
        self._next = now + TICK_US
        self._acts += 1
        lies = self._twice() if self._acts % 2 else self._apart()
        return [*effects, *lies, SetTimer(self.TIMER, TICK_US)]

    def _twice(self) -> Iterator[Effect]:
        """Of a place of which all have the liar's vote."""
        core = voting(self.inner)
        (node,) = self._chance.sample(self._others, 1)
        yield from self._bury(node)
        yield Send((node,), self._commit(core.view, max(1, core.executed), digest_of(b"another")))

    def _apart(self) -> Iterator[Effect]:
        view = voting(self.inner).view + NOWHERE
        for node in self._chance.sample(self._others, 2):
            yield Send((node,), self._commit(view, self._acts, digest_of(b"%d" % node)))
            yield from self._bury(node)

    def _bury(self, node: NodeId) -> Iterator[Effect]:
        for seq in range(self._junk):
            yield Send((node,), Prepare(FAR + self._acts, seq, bytes(32), self.me, bytes(64)))

    def _commit(self, view: int, seq: int, digest: Digest) -> Commit:
        said = self.power.domain.statement("commit", (view, seq, digest, self.me))
        return Commit(view, seq, digest, self.me, self.power.signers[self.me].sign(said))

    def arrived(self, node: NodeId, message: Message) -> None:
        if type(message) is Prepare and message.view >= FAR:
            self.acts["junk"] += 1
            self.actions += 1
