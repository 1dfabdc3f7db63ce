"""The search behind the judge of linearizability: one part of a history, one order of its calls.

It is Wing and Gong's search with Lowe's just-in-time order and Porcupine's memory: walk through the returns in time; a
call is placed at the latest when it returns, others before it only if that is needed, and a configuration is visited
once. What it adds is for calls whose outcome nobody learned, each of which doubles the orders elsewhere. Each rule
leaves out orders only where another order that is kept explains the same outcomes.

1. A call that changes nothing wherever it fits (`idle`) is placed as soon as it fits.
2. Calls that do the same are one *kind*. Of those that will return the first to return is placed first, of those that
   never did the first to begin.
3. Fewer used calls of unknown outcome are better, all else equal: a configuration that used more is not visited.

And where the part is one cell (`Cells`: one key, a register), so that a *blind* write tells nothing of what was there:

4. What is placed before it must, because it is about to be seen: calls of unknown outcome, and blind writes, only in
   front of an open call that tells their value.
5. A blind write that nobody saw needs no place of its own: at its return it is enough that some blind write was placed
   since its invocation. It stands just before that one.
6. Values that no call tells from others are one value.

A cell that is not settled soon is searched with calls of unknown outcome that may take effect again and again: there
are far fewer such configurations, and where even they do not explain the outcomes nothing does. Where they do, the
kinds that took effect too often are counted from then on, until the order found is one or there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Final, Protocol, runtime_checkable

from compare.checkers.base import Undecided
from compare.history import Call
from compare.models import Model

STEPS_MAX: Final = 1_000_000
"""Configurations that one part may visit before the search says that it cannot decide."""
SOON: Final = 5_000
"""Configurations after which calls of unknown outcome are let take effect again and again."""

NEVER: Final = -1
"""In place of a state: the call cannot have had this outcome there."""


@runtime_checkable
class Cells(Protocol):
    """What a model may tell of parts that are one cell. Without it the search uses rules 1 to 3."""

    def is_cell(self, calls: Sequence[Call]) -> bool:
        """Whether these calls touch one cell and nothing else."""
        ...

    def is_blind(self, call: Call) -> bool:
        """Whether on a cell the call always has this outcome, and the state after it is the same wherever it began."""
        ...

    def tells(self, call: Call) -> tuple[tuple[Any, ...] | None, bool]:
        """The states that the call tells from the others, None for all; and whether it has this outcome in the one
        state alone, or of unknown outcome does something only there. Of calls that are not blind."""
        ...


@dataclass(frozen=True)
class Dead:
    """There is no order: the return that none explains, and the states before it."""

    call: Call
    states: tuple[Any, ...]
    steps: int


@dataclass(slots=True)
class _Kind:
    """Calls that do the same. `needs`: the only state it fits or does something in; None if there are several."""

    call: Call
    idle: bool
    blind: bool
    needs: int | None = None
    after: int = NEVER
    """Of a blind one."""


@dataclass(slots=True)
class _Return:
    """One return. `idle`, `open`: (bit of the mask, kind) of calls that are open just before it and have a known
    outcome, those that change nothing apart, the first to return first; `since`: returns before its invocation."""

    call: Call
    bit: int
    kind: int
    since: int
    idle: list[tuple[int, int]]
    open: list[tuple[int, int]]


@dataclass(slots=True)
class _Pending:
    """Calls of one kind whose outcome nobody learned. `starts`: the places from which on there is one, two, ... of
    them; `shift`, `digits`: where the number that says how many of each kind are used has its digits; `all`: those."""

    kind: int
    starts: list[int]
    shift: int = 0
    digits: int = 0

    @property
    def all(self) -> int:
        return self.digits << self.shift

    def is_left(self, used: int, place: int) -> bool:
        taken = (used >> self.shift) & self.digits
        return taken < len(self.starts) and self.starts[taken] <= place


Configuration = tuple[int, int, int, int, int, int]
"""Place, calls placed early, state, calls of unknown outcome used, place of the last blind write (-1: none), and of
kinds that took effect too often all digits."""

PRICE: Final = 3
"""How many returns further on a configuration has to be for each call of unknown outcome that it has used more, to be
looked at first. Who goes on blindly uses up early what is needed late (measured: 0 is up to 100 times slower)."""
PENALTY: Final = 10
"""The same for each kind that took effect too often."""


def search(calls: Sequence[Call], model: Model, steps_max: int | None = None) -> Dead | None:
    """None if an order exists. Raises Undecided after `steps_max` configurations (STEPS_MAX)."""
    steps_max = STEPS_MAX if steps_max is None else steps_max
    part = _Part(calls, model)
    counted, relaxes = part.everything, part.everything and part.is_finite
    try:
        found = part.run(min(SOON, steps_max // 4) if relaxes else steps_max, counted)
    except Undecided:
        if not relaxes:
            raise
        found = counted = 0
    while isinstance(found, int):
        counted |= found
        found = part.run(steps_max, counted)
    return found


class _Part:
    """The calls of one part as numbers: states, kinds, returns. Invariant: nothing here depends on a search."""

    def __init__(self, calls: Sequence[Call], model: Model) -> None:
        self._model = model
        self._size = len(calls)
        self._cells = model if isinstance(model, Cells) and model.is_cell(calls) else None
        self._watched = self._all_told(calls)
        self._states: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._other: int | None = None
        self._start = self._number(model.initial)
        self._kinds: list[_Kind] = []
        self._names: dict[Any, int] = {}
        self._after: list[dict[int, int]] = []
        """Of each kind: the state before -> the state after."""
        self.pending: dict[int, _Pending] = {}
        self._returns = list(self._walk(calls))
        self._lay_out()

    @property
    def is_finite(self) -> bool:
        """Whether there are no more states than some call tells, however often calls take effect."""
        return self._watched is not None

    # --------------------------------------------------------------------------------------------------- as numbers

    def _all_told(self, calls: Sequence[Call]) -> set[Any] | None:
        """The states that some call tells from others; None if that is any."""
        if self._cells is None:
            return None
        found: set[Any] = set()
        for call in calls:
            if not self._cells.is_blind(call):
                states, _ = self._cells.tells(call)
                if states is None:
                    return None
                found.update(states)
        return found

    def _number(self, state: Any) -> int:
        """States that no call tells apart have one number (rule 6)."""
        if self._watched is not None and state not in self._watched:
            if self._other is None:
                self._other = len(self._states)
                self._states.append(state)
            return self._other
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        return number

    def _kind(self, call: Call) -> int:
        cells, model = self._cells, self._model
        blind = cells is not None and cells.is_blind(call)
        after = self._number(model.apply(model.initial, call)[0]) if blind else NEVER
        name = (call.known, after) if blind else (call.known, call.method, repr(call.args), repr(call.outcome))
        number = self._names.setdefault(name, len(self._kinds))
        if number == len(self._kinds):
            kind = _Kind(call, call.known and not blind and model.idle(call), blind, after=after)
            if cells is not None and not blind:
                states, exact = cells.tells(call)
                kind.needs = self._number(states[0]) if exact and states else None
            self._kinds.append(kind)
            self._after.append({})
        return number

    def step(self, state: int, kind: int) -> int:
        """The state after it, or NEVER."""
        after = self._after[kind].get(state)
        if after is None:
            after = self._after[kind][state] = self._step(state, self._kinds[kind])
        return after

    def _step(self, state: int, kind: _Kind) -> int:
        if kind.blind:
            return kind.after
        after, outcome = self._model.apply(self._states[state], kind.call)
        fits = not kind.call.known or self._model.same(kind.call.outcome, outcome)
        return self._number(after) if fits else NEVER

    def _walk(self, calls: Sequence[Call]) -> Iterator[_Return]:
        """Returns in order of time. At equal times an invocation comes before a return: both calls are concurrent."""
        events = [(call.invoke, 0, number) for number, call in enumerate(calls)]
        events += [(call.returned, 1, number) for number, call in enumerate(calls) if call.returned is not None]
        events.sort()
        ends = {number: end for end, (_, what, number) in enumerate(events) if what}
        idle: dict[int, tuple[int, int]] = {}
        active: dict[int, tuple[int, int]] = {}
        since: dict[int, int] = {}
        free: list[int] = []
        place, bits = 0, 0
        for _, what, number in events:
            call = calls[number]
            if what:
                among = idle if number in idle else active
                bit, kind = among[number]
                yield _Return(call, bit, kind, since.pop(number), _by_end(idle, ends), _by_end(active, ends))
                del among[number]
                free.append(bit)
                place += 1
            elif call.known:
                kind = self._kind(call)
                bit = free.pop() if free else 1 << bits
                bits += bit == 1 << bits
                (idle if self._kinds[kind].idle else active)[number] = (bit, kind)
                since[number] = place
            elif not self._model.reads(call):
                kind = self._kind(call)
                self.pending.setdefault(kind, _Pending(kind, [])).starts.append(place)

    def _lay_out(self) -> None:
        """Digits for the numbers of used calls, each with a bit above that is never set; and who leads where."""
        shift, self._guards, self.everything = 0, 0, 0
        self._makers: dict[int, list[_Pending]] = {}
        self._movers: dict[int | None, list[_Pending]] = {}
        self._from: dict[int, set[int]] = {}
        for pending in self.pending.values():
            width = len(pending.starts).bit_length()
            pending.shift, pending.digits = shift, (1 << width) - 1
            self.everything |= pending.all
            self._guards |= 1 << (shift + width)
            shift += width + 1
            kind = self._kinds[pending.kind]
            if kind.blind:
                self._makers.setdefault(kind.after, []).append(pending)
            else:
                self._movers.setdefault(kind.needs, []).append(pending)
                if kind.needs is not None:
                    after = self.step(kind.needs, pending.kind)
                    self._from.setdefault(after, set()).add(kind.needs)

    # -------------------------------------------------------------------------------------------------- the search

    def run(self, steps_max: int, counted: int) -> Dead | int | None:
        """None if an order exists. `counted`: the digits of kinds of unknown outcome that take effect no more often
        than they were called; the others may, and if only such an order is found those that do are the answer."""
        returns, end = self._returns, len(self._returns)
        heap: list[tuple[int, int, int, Configuration]] = [(0, 0, 0, (0, 0, self._start, 0, -1, 0))]
        seen: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        farthest, states, steps, number = -1, set[int](), 0, 0
        while heap:
            *_, spent, (place, mask, state, used, last, over) = heappop(heap)
            place, mask = self._roll(place, mask, state)
            if place == end:
                return over or None
            if place > farthest:
                farthest, states = place, set()
            if place == farthest:
                states.add(state)
            if not self._is_new(seen.setdefault((place, mask, state), []), used & counted, last):
                continue
            steps += 1
            if steps > steps_max:
                raise Undecided(f"linearizability: over {steps_max:,} configurations for {self._size:,} calls")
            for following in self._following(place, mask, state, used, last, over, counted):
                number -= 1
                price = spent + (following[3] != used) * PRICE + (following[5] != over) * PENALTY
                heappush(heap, (price - following[0], number, price, following))
        return Dead(returns[farthest].call, tuple(self._states[state] for state in sorted(states)), steps)

    def _roll(self, place: int, mask: int, state: int) -> tuple[int, int]:
        """Over all returns of calls that are placed or can be at once (rule 1): place and mask after them."""
        returns, after = self._returns, self._after
        while place < len(returns):
            this = returns[place]
            for bit, kind in this.idle:
                if not mask & bit and (after[kind].get(state) or self.step(state, kind)) >= 0:
                    mask |= bit
            if not mask & this.bit:
                break
            mask ^= this.bit
            place += 1
        return place, mask

    def _is_new(self, known: list[tuple[int, int]], used: int, last: int) -> bool:
        """Whether none that is as good was here; those that are no better than this one are forgotten (rule 3)."""
        guards = self._guards
        for other, before in known:
            if before >= last and ((used | guards) - other) & guards == guards:
                return False
        known[:] = [
            (other, before) for other, before in known if before > last or ((other | guards) - used) & guards != guards
        ]
        known.append((used, last))
        return True

    def _following(
        self, place: int, mask: int, state: int, used: int, last: int, over: int, counted: int
    ) -> Iterator[Configuration]:
        """The configurations after this one, the most promising last. The return is not placed, and not idle here."""
        this, kinds = self._returns[place], self._kinds
        wanted = self._wanted(this, mask) if self._cells is not None else _anything
        for pending in self._able(state, wanted):
            left = pending.is_left(used, place)
            if left or (not pending.all & counted and pending.starts[0] <= place):
                after = self.step(state, pending.kind)
                if after != state and wanted(after):
                    now = place if kinds[pending.kind].blind else last
                    more = (used + (1 << pending.shift), now, over) if left else (used, now, over | pending.all)
                    yield place, mask, after, *more
        taken = {this.kind}
        for bit, number in this.open:
            if mask & bit or number in taken:
                continue
            taken.add(number)
            after, blind = self.step(state, number), kinds[number].blind
            if after >= 0 and (not blind or after == state or wanted(after)):
                yield place, mask | bit, after, used, place if blind else last, over
        blind = kinds[this.kind].blind
        if blind and last >= this.since:
            yield place + 1, mask, state, used, last, over
        after = self.step(state, this.kind)
        if after >= 0:
            yield place + 1, mask, after, used, place if blind else last, over

    def _able(self, state: int, wanted: Callable[[int], bool]) -> Iterator[_Pending]:
        """Calls of unknown outcome that may do something here."""
        for after, makers in self._makers.items():
            if wanted(after):
                yield from makers
        yield from self._movers.get(None, ())
        yield from self._movers.get(state, ())

    def _wanted(self, this: _Return, mask: int) -> Callable[[int], bool]:
        """Whether some open call, or one after calls of unknown outcome, is about to tell this state (rule 4)."""
        found: list[int] = []
        for among in (this.idle, this.open):
            for bit, number in among:
                kind = self._kinds[number]
                if not mask & bit and not kind.blind:
                    if kind.needs is None:
                        return _anything
                    found.append(kind.needs)
        if found and None in self._movers:
            return _anything
        states = set(found)
        while found:
            more = self._from.get(found.pop(), set()) - states
            states |= more
            found += more
        return states.__contains__


def _anything(_: int) -> bool:
    return True


def _by_end(among: dict[int, tuple[int, int]], ends: dict[int, int]) -> list[tuple[int, int]]:
    return [among[number] for number in sorted(among, key=ends.__getitem__)]
