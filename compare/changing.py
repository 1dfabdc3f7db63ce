"""A run in which the members change, whatever the protocol: who asks for changes, how many runs are judged, and how it
is told.

Here: the administrator's course through a run, and the command line. Not here: which changes a protocol allows, who
lies and what else goes wrong (`compare.membership`, `compare.membership_raft`).
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from compare import judging
from compare.judging import Costs, Observed
from compare.results import Run, Verdict
from compare.scenario import Scenario
from compare.sim import Trial
from replog.client import Done, Failed
from replog.codec import digest_of
from replog.core import Effect, Event, ProtocolSpec, Received
from replog.errors import OperationFailed
from replog.membership import Configuration
from replog.node import Plug
from replog.replica import Replica
from replog.sim.cluster import SimCluster
from replog.statemachine import decode_outcome
from replog.types import ClientId, Message, Micros, NodeId, Request, Status, Submit

ADMIN_CLIENT: Final = "boss"
PROGRESS: Final = 50
"""Runs, after each of which a line says how it goes."""
PAUSE_US: Final = 60_000
RETRY_US: Final = 400_000


class Administrator:
    """`signed`: digests of the bodies that its client sent."""

    def __init__(self) -> None:
        self.acts: Counter[str] = Counter()
        self.signed: set[str] = set()

    def sent(self, message: Message) -> None:
        if isinstance(message, Submit):
            self.signed.add(digest_of(Request(message.request).body).hex())


class Overheard:
    """Around the plug of each replica, liars' too: what the administrator's client sends it."""

    def __init__(self, inner: Plug, administrator: Administrator) -> None:
        self._inner = inner
        self._administrator = administrator

    def step(self, now: Micros, event: Event) -> list[Effect]:
        if type(event) is Received and event.sender == ADMIN_CLIENT:
            self._administrator.sent(event.message)
        return self._inner.step(now, event)

    def status(self) -> Status:
        return self._inner.status()


class Wanted(NamedTuple):
    """One change: how many come, who goes, f and who does not vote from then on. `learning`: of those who come."""

    kind: str
    add: int
    remove: Sequence[NodeId]
    f: int
    learners: Sequence[NodeId] = ()
    learning: int = 0


class ChangingTrial(Trial):
    """An administrator asks for one change after the other."""

    cluster: SimCluster

    def __init__(self, scenario: Scenario, spec: ProtocolSpec, seed: int) -> None:
        self.administrator = Administrator()
        super().__init__(scenario, spec, seed)
        self.chance = random.Random(f"{seed}/admin")
        """The administrator's."""
        self.changes: Counter[str] = Counter()
        """Changes that were decided, by kind; refused and unanswered ones too."""

    def plan(self) -> None:
        """What happens beside the timeline."""
        self.cluster.after(PAUSE_US, self._change)

    def draw(self, present: Configuration) -> Wanted | None:
        """The next change, None if none is possible just now."""
        raise NotImplementedError

    def _around(self) -> dict[str, Any]:
        usual = super()._around()
        return {"clients": [*usual["clients"], ADMIN_CLIENT], "wrap": self._wrap, "membership": True}

    def _wrap(self, node: NodeId, replica: Replica) -> Plug:
        return Overheard(replica, self.administrator)

    def _stranger(self, name: ClientId) -> Any:
        """The administrator's client has no history of calls: judges are told what it signed."""
        return self.administrator if name == ADMIN_CLIENT else super()._stranger(name)

    def run(self) -> Observed:
        self.plan()
        return super().run()

    @property
    def over(self) -> bool:
        return bool(self.ended) and self.cluster.now >= self.ended

    def _change(self) -> None:
        """One more, if there is time: when the last one has taken effect."""
        if self.over:
            return
        present = self.cluster.configuration
        drawn = self.draw(present)
        if drawn is None or not self.ended:
            self.cluster.after(RETRY_US, self._change)
            return
        nodes = [self.cluster.add() for _ in range(drawn.add)]
        learners = [*drawn.learners, *nodes[: drawn.learning]]
        decided = partial(self._decided, drawn.kind, present.epoch)
        self.cluster.change(nodes, drawn.remove, drawn.f, ADMIN_CLIENT, decided, learners)

    def _decided(self, kind: str, epoch: int, end: Done | Failed) -> None:
        try:
            told = decode_outcome(end.outcomes[0]) if isinstance(end, Done) else None
        except OperationFailed as refused:
            told = None
            self.changes[f"refused: {refused.text[:40]}"] += 1
        self.changes[kind if told is not None else "without effect"] += 1
        self._await(epoch if told is not None else -1, self.cluster.now + 3 * RETRY_US)

    def _await(self, epoch: int, until: Micros) -> None:
        """The next change comes some time after this one is in force."""
        if self.cluster.configuration.epoch > epoch or self.cluster.now > until:
            self.cluster.after(self.chance.randrange(1, 2 * PAUSE_US), self._change)
        else:
            self.cluster.after(PAUSE_US // 4, partial(self._await, epoch, until))

    # ------------------------------------------------------------------------------------------------------ judgement

    def _settled(self) -> bool:
        """Members of the last configuration are to be there; who went is not."""
        members = set(self.cluster.configuration.ids)
        self.gone = set(range(self.cluster.n)) - members
        ready = [node for node in members - self.liars if self.has_joined(node)]
        return len(ready) == len(members - self.liars) and super()._settled()

    def has_joined(self, node: NodeId) -> bool:
        status = self.cluster.status(node)
        return status is not None and status.detail["epoch"] == self.cluster.configuration.epoch

    def _observed(self, costs: Costs) -> Observed:
        self.gone = set(range(self.cluster.n)) - set(self.cluster.configuration.ids)
        return super()._observed(costs)


@dataclass(frozen=True)
class Outcome:
    run: Run
    epochs: int
    changes: Counter[str]

    @property
    def verdict(self) -> Verdict:
        """Vacuous, too, if no change took effect."""
        held = self.run.verdict is Verdict.OK
        return Verdict.VACUOUS if held and not self.epochs else self.run.verdict


Play = Callable[[int], Outcome]


def conclude(trial: ChangingTrial, replay: str) -> Outcome:
    """Run it, and judge."""
    run = judging.conclude(trial.run())
    told = run.model_copy(update={"replay": replay})
    return Outcome(told, trial.cluster.configuration.epoch, trial.changes)


def run_many(play: Play, given: argparse.Namespace, events: Sequence[str], say: Callable[[str], Any]) -> int:
    """`given`: first, runs, workers. `events`: which are summed up. The exit code: 0 if all went well."""
    verdicts: Counter[str] = Counter()
    changes: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for seed, outcome in _played(play, range(given.first, given.first + given.runs), given.workers):
        verdicts[str(outcome.verdict.value)] += 1
        changes.update(outcome.changes)
        changes["epochs"] += outcome.epochs
        told.update({name: outcome.run.events.get(name, 0) for name in events})
        if outcome.verdict is not Verdict.OK:
            say(f"seed {seed}: {outcome.verdict.value} {_objections(outcome.run)} {dict(outcome.changes)}")
        if verdicts.total() % PROGRESS == 0:
            say(f"{verdicts.total()} of {given.runs}: {dict(verdicts)}, {changes['epochs']} epochs")
    say(f"{given.runs} runs: {dict(verdicts)}; changes {dict(sorted(changes.items()))}; events {dict(told)}")
    return 0 if verdicts == {Verdict.OK.value: given.runs} else 1


def _played(play: Play, seeds: Sequence[int], workers: int) -> Iterator[tuple[int, Outcome]]:
    if workers == 1:
        yield from zip(seeds, map(play, seeds), strict=True)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from zip(seeds, pool.map(play, seeds), strict=True)


def _objections(run: Run) -> str:
    return "; ".join(f"{name}: {check.detail}" for name, check in run.checks.items() if not check.ok) + run.error
