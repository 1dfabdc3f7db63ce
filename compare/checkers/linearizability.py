"""Linearizability: is there one order of all calls, each between its invocation and its return, that the application
would have answered in the same way?

Calls on different keys are searched apart, which is sound because linearizability is local. A call of unknown outcome
may take effect at any time after its invocation, or never. Calls that touch several keys (`scan`) join the keys that
they may see into one part, which cannot be searched apart; the detail names the part in which something is wrong, and
shows the few calls that have no order whatever all others did.

Here: the judge. Not here: the search (`compare.checkers.search`), nor what is shown (`compare.checkers.shrink`).
"""

from __future__ import annotations

from collections.abc import Sequence

from compare.checkers.base import Check, Evidence, Undecided
from compare.checkers.search import Dead, search
from compare.checkers.shrink import picture, smallest
from compare.history import Call
from compare.models import MODELS, Model


class Linearizability:
    name = "linearizability"
    summary = "the clients' history could have come from one copy that executes one call at a time"
    safety = True

    def judge(self, evidence: Evidence) -> Check:
        """`checked`: calls with a known outcome."""
        return check(evidence.calls, MODELS[evidence.model])


def check(calls: Sequence[Call], model: Model) -> Check:
    """Judge a whole history. Raises Undecided when a part is too hard and no other one is wrong."""
    checked, undecided = sum(call.known for call in calls), ""
    for name, part in model.partition(calls):
        try:
            dead = search(part, model)
        except Undecided as reason:
            undecided = undecided or f"{reason}, {name}"
            continue
        if dead is not None:
            return Check(False, checked, explain(name, part, model, dead))
    if undecided:
        raise Undecided(undecided)
    return Check(True, checked)


def explain(name: str, part: Sequence[Call], model: Model, dead: Dead) -> str:
    """A sentence and a small table, made so that nobody needs the whole history."""
    needed, others = smallest(part, model, dead), len(part)
    others -= len(needed)
    which = f"this call on {name}" if len(needed) == 1 else f"these {len(needed)} calls on {name}"
    rest = f", whatever the other {others} did" if others else ""
    return f"no order explains {which}{rest}:\n{picture(needed)}"
