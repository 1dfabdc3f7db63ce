"""What servers were told and what they did, step by step, recorded where a core meets what carries out its effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compare.mutants.base import MutantSpec
from replog.core import Core, Effect, Event, ProtocolSpec, Setup
from replog.types import Message, Micros, NodeId, Status


@dataclass(frozen=True)
class Life:
    """A server starts from what its disk holds."""

    node: NodeId
    records: Sequence[Message]
    saved: int
    """Index of the application's state that is on disk."""


@dataclass(frozen=True)
class Step:
    node: NodeId
    now: Micros
    event: Event
    effects: tuple[Effect, ...]


class Recorded:
    """A core as it is, with what goes in and what comes out of it written down."""

    def __init__(self, inner: Core, setup: Setup, steps: list[Life | Step]) -> None:
        self.inner = inner
        self._me = setup.me
        self._steps = steps
        steps.append(Life(setup.me, tuple(setup.stored.records), setup.stored.index))

    def step(self, now: Micros, event: Event) -> list[Effect]:
        effects = self.inner.step(now, event)
        self._steps.append(Step(self._me, now, event, tuple(effects)))
        return effects

    def status(self) -> Status:
        return self.inner.status()

    def check_invariants(self) -> None:
        self.inner.check_invariants()


def recording(spec: ProtocolSpec, steps: list[Life | Step]) -> MutantSpec:
    """The same protocol; all its servers write into `steps`, in the order in which they happen."""
    return MutantSpec(spec, lambda setup: Recorded(spec.core(setup), setup, steps))
