"""From a history without an order to the few calls that already have none, and these as a picture for a person.

A call is *set free* when it may take effect at any time, or never: whatever it did is allowed. Calls that nobody can
order although all others are free are wrong in any company. So calls are set free as long as there is still no order;
those that are left are each needed, and the others need not be shown. Where what happened up to the first return that
no order explains is wrong by itself, what began later is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from compare.checkers.base import Undecided
from compare.checkers.search import Cells, Dead, search
from compare.history import Call
from compare.models import Model

STEPS_EACH: Final = 5_000
STEPS_ALL: Final = 100_000
"""Configurations that one trial, and all together, may visit; a trial that is not decided sets nothing free."""
DEAR: Final = 5
"""By how many times fewer where a part is more than one cell, a bank above all: each takes that much longer there."""
ROWS_MAX: Final = 24
MOMENTS_MAX: Final = 16
"""More of both nobody reads."""


def smallest(calls: Sequence[Call], model: Model, dead: Dead) -> list[Call]:
    """The calls that are needed, in order of time; as far as STEPS_ALL goes."""
    return _Shrinking(calls, model, dead).run()


class _Shrinking:
    """Invariant: with `firm` as they were and all other calls set free there is no order."""

    def __init__(self, calls: Sequence[Call], model: Model, dead: Dead) -> None:
        end = dead.call.returned
        assert end is not None
        self._model = model
        price = 1 if isinstance(model, Cells) and model.is_cell(calls) else DEAR
        self._left, self._each = STEPS_ALL // price, STEPS_EACH // price
        everything = sorted(calls, key=lambda call: call.invoke)
        self._calls = [_until(call, end) for call in everything if call.invoke <= end]
        if not self._is_dead(set(range(len(self._calls)))):  # what came out later, of calls that were open, was needed
            self._calls = everything
        self.firm = [place for place, call in enumerate(self._calls) if call.known or not model.reads(call)]

    def run(self) -> list[Call]:
        self._keep_the_last()
        size = len(self.firm)
        while size := size // 2:
            self._drop_chunks(size)
        self._drop_chunks(1)
        return sorted((self._calls[place] for place in self.firm), key=lambda call: (call.invoke, call.returned or 0))

    def _keep_the_last(self) -> None:
        """The fewest of the last calls, doubled each time: few are soon searched. Calls of unknown outcome need seldom
        be held to when they began."""
        known = [place for place in self.firm if self._calls[place].known]
        for some in (known, self.firm):
            size = 1
            while size < len(some) and self._left > 0:
                if self._drop(self.firm, keep=some[-size:]):
                    return
                size *= 2
        self._drop(self.firm, keep=known)

    def _drop_chunks(self, size: int) -> None:
        """Chunk by chunk, the earliest first."""
        at = 0
        while at < len(self.firm) and self._left > 0:
            at += 0 if self._drop(self.firm[at : at + size]) else size

    def _drop(self, places: Sequence[int], keep: Sequence[int] = ()) -> bool:
        """Set these free, if there is no order still."""
        gone = set(places).difference(keep)
        rest = [place for place in self.firm if place not in gone]
        if not gone or not self._is_dead(set(rest)):
            return False
        self.firm = rest
        return True

    def _is_dead(self, firm: set[int]) -> bool:
        tried = [call if place in firm else _free(call) for place, call in enumerate(self._calls)]
        try:
            dead = search(
                [call for call in tried if call.known or not self._model.reads(call)], self._model, self._each
            )
        except Undecided:
            self._left -= self._each
            return False
        self._left -= len(tried) // 10 if dead is None else dead.steps
        return dead is not None


def _until(call: Call, end: int) -> Call:
    """As it looked then: what begins a history has an order if all of it has one."""
    return call if call.returned is None or call.returned <= end else replace(call, returned=None, outcome=None)


def _free(call: Call) -> Call:
    return replace(call, invoke=-1, returned=None, outcome=None)


# ------------------------------------------------------------------------------------------------------- for a person


def picture(calls: Sequence[Call]) -> str:
    """One line a call: when, by whom, what, and a bar over all moments at which something begins or ends."""
    shown = calls[-ROWS_MAX:]
    moments = sorted({time for call in shown for time in (call.invoke, call.returned) if time is not None})
    rows = [("from", "to", "process", "call", "")] if shown else []
    rows += [
        (
            str(call.invoke),
            "?" if call.returned is None else str(call.returned),
            call.process,
            f"{call}{_vouched(call)}",
            _bar(call, moments),
        )
        for call in shown
    ]
    if len(moments) > MOMENTS_MAX:
        rows = [(*row[:4], "") for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        f"  {row[0]:>{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:{widths[2]}}  {row[3]:{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]
    if len(calls) > len(shown):
        lines.insert(1, f"  ... {len(calls) - len(shown)} more")
    return "\n".join(lines)


def _vouched(call: Call) -> str:
    return f" by nodes {_listed(call.vouchers)}" if call.vouchers else ""


def _listed(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))


def _bar(call: Call, moments: Sequence[int]) -> str:
    """`|--|` from its beginning to its end, `|--?` where the end is not known."""
    start = moments.index(call.invoke)
    end = len(moments) - 1 if call.returned is None else moments.index(call.returned)
    return "   " * start + "|" + "-" * max(0, 3 * (end - start) - 1) + ("?" if call.returned is None else "|")
