"""The shape of every attack: it wraps a replica, hears what it hears and speaks in its place.

`Byzantine(inner, attack, power)` is driven like the replica inside it. The attack may drop, change and add events on
the way in and effects on the way out. `power` holds the signers of the coalition's members and public knowledge only,
so that an attack cannot forge an honest replica or client; members of a coalition share it, and with it what they know.
Protocol code has no hook, flag or branch for attacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from replog.codec import Domain
from replog.core import Effect, Event, SetTimer, Timeout
from replog.executor import Executor
from replog.keys import Signer, Verifier
from replog.replica import Replica
from replog.statemachine import StateMachine
from replog.types import Message, Micros, NodeId, Principal, Status


@dataclass(frozen=True)
class Power:
    """What a coalition has: its members' signers, public verification, the application's code, and a common memory."""

    members: tuple[NodeId, ...]
    signers: Mapping[Principal, Signer]
    verifier: Verifier
    domain: Domain
    n: int
    f: int
    machine: Callable[[], StateMachine]
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    second: Callable[[NodeId], Replica] | None = None
    """Starts a member once more from its disk, beside the one that runs. Only worlds that can do it say how."""


class Attack:
    """One liar's part in an attack. Subclasses override what they need.

    Invariant: `actions` counts acts that reached a correct replica, as its own answers show; an act that may have been
    lost on the way is not counted (HAZARDS X14). `acts`: more of them by name, where an attack tells.
    """

    def __init__(self, me: NodeId, inner: Replica, power: Power) -> None:
        self.me = me
        self.inner = inner
        self.power = power
        self.actions = 0
        self.acts: Counter[str] = Counter()

    def begin(self, now: Micros) -> list[Event]:
        """The attack starts: what the replica inside is to be told first."""
        return []

    def hear(self, now: Micros, event: Event) -> list[Event]:
        """What the replica inside is told in place of `event`."""
        return [event]

    def speak(self, now: Micros, effects: list[Effect]) -> list[Effect]:
        """What leaves in place of `effects`. Persist, timers and Apply belong to the replica inside and stay."""
        return effects

    def arrived(self, node: NodeId, message: Message) -> None:
        """A correct replica is being told this by us. Only worlds that can see it say so."""

    def end(self, now: Micros) -> list[Event]:
        """No new lies from here on: what the replica inside is told now. `hear` and `speak` are called no more."""
        return []


class Byzantine:
    """A replica and, while it lasts, the attack around it."""

    def __init__(self, inner: Replica, attack: Callable[[NodeId, Replica, Power], Attack] | None, me: NodeId) -> None:
        self.inner = inner
        self.me = me
        self.actions_before = 0
        self.acts: Counter[str] = Counter()
        self._make = attack
        self._attack: Attack | None = None
        self._pending: list[Event] = []
        self._timers: set[str] = set()
        """Set by attacks: they may run out when the attack is over, and mean nothing to the replica inside."""

    @property
    def actions(self) -> int:
        return self.actions_before + (self._attack.actions if self._attack is not None else 0)

    def begin(self, now: Micros, power: Power, make: Callable[[NodeId, Replica, Power], Attack] | None = None) -> None:
        """From the next event on this replica lies: as it was built to, else as `make` says."""
        make = self._make if self._make is not None else make
        if self._attack is None and make is not None:
            self._attack = make(self.me, self.inner, power)
            self._attack.acts = self.acts
            self._pending += self._attack.begin(now)

    def end(self, now: Micros) -> None:
        if self._attack is not None:
            self._pending += self._attack.end(now)
            self.actions_before += self._attack.actions
            self._attack = None

    def arrived(self, node: NodeId, message: Message) -> None:
        if self._attack is not None:
            self._attack.arrived(node, message)

    def step(self, now: Micros, event: Event) -> list[Effect]:
        attack = self._attack
        late = attack is None and type(event) is Timeout and event.name in self._timers
        if attack is None and not self._pending and not late:
            return self.inner.step(now, event)
        pending, self._pending = self._pending, []
        events = [*pending, *(attack.hear(now, event) if attack is not None else [] if late else [event])]
        effects = [effect for heard in events for effect in self.inner.step(now, heard)]
        if attack is None:
            return effects
        said = attack.speak(now, effects)
        self._timers |= _set_by(said) - _set_by(effects)
        return said

    def status(self) -> Status:
        return self.inner.status()


def _set_by(effects: list[Effect]) -> set[str]:
    return {effect.name for effect in effects if type(effect) is SetTimer}


def voting(replica: Replica) -> Any:
    """Its core; where members may change, that of its present epoch."""
    core: Any = replica.core
    return getattr(core, "core", core)


def copy_of(executor: Executor, machine: StateMachine) -> Executor:
    """Another executor with the present state, sessions included: for a liar that serves two histories."""
    snapshot = executor.snapshot(executor.index)
    twin = Executor(machine)
    twin.load(snapshot.index, snapshot.digest, list(snapshot.parts()))
    return twin
