"""Linearizability: is there one order of all calls, each between its invocation and its return, that the application
would have answered in the same way?

The search is Wing and Gong's with Lowe's just-in-time order: walk through the returns in time; a call is placed in the
order at the latest when it returns, and others are placed before it only if that is needed. Visited configurations
(place in time, calls placed early, state) are remembered, and calls on different keys are searched apart, which is
sound because linearizability is local. A call of unknown outcome may take effect at any time after its invocation, or
never. Calls that touch several keys (`scan`) join the keys that they may see into one part, which cannot be searched
apart; the detail names the part in which something is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from compare.checkers.base import Check, Evidence, Undecided
from compare.history import Call
from compare.models import MODELS, Model

STEPS_MAX = 20_000_000
"""Configurations that one part may visit before the judge says that it cannot decide."""


class Linearizability:
    name = "linearizability"
    summary = "the clients' history could have come from one copy that executes one call at a time"
    safety = True

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: calls with a known outcome."""
        return check(evidence.calls, MODELS[evidence.model])


def check(calls: Sequence[Call], model: Model) -> Check:
    """Judge a whole history. Raises Undecided when a part needs more than STEPS_MAX configurations."""
    checked = sum(call.known for call in calls)
    for name, part in model.partition(calls):
        stuck = search(part, model)
        if stuck is not None:
            return Check(False, checked, f"{name} ({len(part)} calls): {stuck}")
    return Check(True, checked)


@dataclass(frozen=True)
class Stuck:
    """The first return that no order explains, however the calls before it are ordered; `states`: what the application
    could have held then; `before`: the last calls that changed it."""

    call: Call
    states: tuple[Any, ...]
    before: tuple[Call, ...]

    def __str__(self) -> str:
        states = " or ".join(repr(state) for state in self.states)
        before = "; ".join(map(str, self.before))
        text = f"no order explains {self.call} of process {self.call.process}, "
        text += (
            f"invoked at {self.call.invoke} us, returned at {self.call.returned} us: the state could only be {states}"
        )
        return text + (f"; before it: {before}" if before else "")


@dataclass(slots=True)
class _Return:
    """One return, and the calls that are open just before it, with their slots (bits of the mask)."""

    call: Call
    bit: int
    open: list[tuple[int, Call]]


def search(calls: Sequence[Call], model: Model) -> Stuck | None:
    """None if an order exists."""
    returns = list(_returns(calls, model))
    stack: list[tuple[int, int, Any]] = [(0, 0, model.initial)]
    seen: set[tuple[int, int, Any]] = set()
    farthest, states, steps = -1, set[Any](), 0
    while stack:
        place, mask, state = stack.pop()
        if place > farthest:
            farthest, states = place, set()
        if place == len(returns):
            return None
        if place == farthest:
            states.add(state)
        steps += 1
        if steps > STEPS_MAX:
            raise Undecided(f"linearizability: over {STEPS_MAX} configurations for {len(calls)} calls")
        for configuration in _following(returns[place], place, mask, state, model):
            if configuration not in seen:
                seen.add(configuration)
                stack.append(configuration)
    return _explain(returns, farthest, states, model)


def _following(this: _Return, place: int, mask: int, state: Any, model: Model) -> Iterator[tuple[int, int, Any]]:
    """The configurations after this one, the most promising last."""
    if mask & this.bit:
        yield place + 1, mask & ~this.bit, state
        return
    fitting = [
        (bit, call, after)
        for bit, call in this.open
        if not mask & bit
        for after, outcome in (model.apply(state, call),)
        if not call.known or model.same(call.outcome, outcome)
    ]
    for bit, call, _ in fitting:
        # What changes nothing wherever it fits may come here: an order in which it comes later works without it there.
        # A write that happens to change nothing here is no such call: later it may undo what another one wrote.
        if call.known and model.idle(call):
            mask |= bit
    if mask & this.bit:
        yield place + 1, mask & ~this.bit, state
        return
    direct = None
    for bit, call, after in fitting:
        if bit == this.bit:
            direct = (place + 1, mask, after)
        elif not mask & bit and (call.known or after != state):
            yield place, mask | bit, after
    if direct is not None:
        yield direct


def _returns(calls: Sequence[Call], model: Model) -> Iterator[_Return]:
    """Returns in order of time. At equal times an invocation comes before a return: both calls count as concurrent."""
    events: list[tuple[int, int, int, Call]] = []
    for number, call in enumerate(calls):
        if call.returned is not None:
            events.append((call.returned, 1, number, call))
        elif model.reads(call):
            continue
        events.append((call.invoke, 0, number, call))
    events.sort(key=lambda event: event[:3])
    bits: dict[int, int] = {}
    open_calls: dict[int, tuple[int, Call]] = {}
    free: list[int] = []
    for _, kind, number, call in events:
        if kind == 0:
            bit = free.pop() if free else 1 << len(bits)
            bits[number] = bit
            open_calls[number] = (bit, call)
        else:
            yield _Return(call, bits[number], list(open_calls.values()))
            del open_calls[number]
            free.append(bits[number])


def _explain(returns: list[_Return], place: int, states: set[Any], model: Model) -> Stuck:
    before = [this.call for this in returns[:place] if not model.reads(this.call)][-3:]
    shown = tuple(sorted(states, key=repr)[:3])
    return Stuck(returns[place].call, shown, tuple(before))
