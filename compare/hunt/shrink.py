"""From a case that fails to a small one that fails for the same judge.

Delta debugging [Zeller, Hildebrandt 2002] over all that happens in it, then simpler values for what is left, again and
again until nothing more can be taken away or the bound of runs is reached. Each step is a whole run in virtual time, so
the small case is as true as the large one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from pydantic import ValidationError

from compare.environment import Disk, Network
from compare.hunt.case import Case, changed
from compare.hunt.trial import Outcome, hunt
from compare.scenario import Workload
from replog.core import ProtocolSpec
from replog.errors import ConfigError

RUNS_MAX: Final = 150
PARTS: Final = ("timeline", "strikes", "cuts", "twists", "sides")
"""What happens, by the field that holds it."""
Event = tuple[str, Any]
Simpler = Callable[[Case], Iterator[dict[str, Any]]]
OnStep = Callable[[Case, int], None]


class Shrinker:
    """Invariant: `case` fails for the judge that the first one failed for."""

    def __init__(self, case: Case, judge: str, spec: ProtocolSpec | None = None, on_step: OnStep | None = None) -> None:
        self.case = case
        self.runs = 0
        self._judge = judge
        self._spec = spec
        self._on_step = on_step

    def shrink(self, runs_max: int) -> Case:
        """The smallest case that was found."""
        self._left = runs_max
        smaller = True
        while smaller and self._left > 0:
            before = self.case
            self._take_away()
            for simpler in SIMPLER:
                self._simplify(simpler)
            smaller = self.case != before
        return self.case

    def _simplify(self, simpler: Simpler) -> None:
        """What is taken away changes what can be tried next."""
        tried = 0
        while (fields := next(islice(simpler(self.case), tried, None), None)) is not None:
            if not self._try(fields):
                tried += 1

    def _try(self, fields: dict[str, Any]) -> bool:
        """Keep the case with these fields if it still fails so."""
        if self._left <= 0:
            return False
        try:
            candidate = changed(self.case, **fields)
        except ValidationError:
            return False
        if candidate == self.case:
            return False
        self._left -= 1
        self.runs += 1
        if not self._fails(candidate):
            return False
        self.case = candidate
        if self._on_step is not None:
            self._on_step(candidate, self.runs)
        return True

    def _fails(self, candidate: Case) -> bool:
        try:
            return hunt(candidate, self._spec).judge == self._judge
        except ConfigError:
            return False  # no such cluster can be

    def _take_away(self) -> None:
        """ddmin: leave out ever smaller pieces of what happens."""
        pieces = 2
        while True:
            events = _events(self.case)
            size = max(1, -(-len(events) // pieces)) if events else 0
            if not size or self._left <= 0:
                return
            if self._leaves_out_one_of(events, size):
                pieces = max(2, pieces - 1)
            elif size == 1:
                return
            else:
                pieces *= 2

    def _leaves_out_one_of(self, events: Sequence[Event], size: int) -> bool:
        return any(
            self._try(_fields([*events[:start], *events[start + size :]])) for start in range(0, len(events), size)
        )


def _events(case: Case) -> list[Event]:
    return [(part, event) for part in PARTS for event in getattr(case, part)]


def _fields(events: Sequence[Event]) -> dict[str, Any]:
    return {part: [event.model_dump() for name, event in events if name == part] for part in PARTS}


# ------------------------------------------------------------------------------------------------------ simpler values


def _workload(case: Case) -> Iterator[dict[str, Any]]:
    plain = Workload(pause_ms=case.workload.pause_ms, keys=case.workload.keys, clients=1, outstanding=1)
    for simpler in (
        {"byzantine": 0},
        {"operations": 1},
        {"clients": plain.clients},
        {"outstanding": plain.outstanding},
        {"keys": 1},
    ):
        yield {"workload": case.workload.model_dump() | simpler}


def _world(case: Case) -> Iterator[dict[str, Any]]:
    yield {"network": Network().model_dump(), "disk": Disk().model_dump()}
    for name in ("delay", "loss", "duplicate", "reorder"):
        yield {"network": case.network.model_dump() | {name: Network().model_dump()[name]}}
    yield {"disk": Disk().model_dump()}
    yield {"real_signatures": False}


def _options(case: Case) -> Iterator[dict[str, Any]]:
    """Each as by default; what must be so stays."""
    side = case.side(case.protocol)
    yield _with_options(case, {})
    for name in side.options:
        yield _with_options(
            case, {key: value for key, value in case.side(case.protocol).options.items() if key != name}
        )


def _with_options(case: Case, options: dict[str, Any]) -> dict[str, Any]:
    side = case.side(case.protocol).model_dump()
    return {"protocols": {case.protocol: side | {"options": options}}}


def _size(case: Case) -> Iterator[dict[str, Any]]:
    side = case.side(case.protocol)
    if case.f > 1:
        yield {"f": 1, "protocols": {case.protocol: side.model_dump() | {"n": None}}}
    if side.n is not None:
        yield {"protocols": {case.protocol: side.model_dump() | {"n": side.n - 1}}}


def _strikes(case: Case) -> Iterator[dict[str, Any]]:
    """Fewer struck, and for a shorter time."""
    for place, strike in enumerate(case.strikes):
        told = strike.model_dump()
        nodes = strike.nodes if isinstance(strike.nodes, tuple) else ()
        if len(nodes) > 1:
            yield from (_with_strike(case, place, told | {"nodes": [n for n in nodes if n != node]}) for node in nodes)
        half = round((strike.start_s + strike.end_s) / 2, 3)
        yield _with_strike(case, place, told | {"end_s": half})


def _with_strike(case: Case, place: int, told: dict[str, Any]) -> dict[str, Any]:
    return {"strikes": [told if at == place else strike.model_dump() for at, strike in enumerate(case.strikes)]}


def _liars(case: Case) -> Iterator[dict[str, Any]]:
    for place, happening in enumerate(case.timeline):
        for node in happening.numbers if len(happening.numbers) > 1 else ():
            fewer = happening.model_dump() | {"target": [one for one in happening.numbers if one != node]}
            yield {"timeline": [fewer if at == place else one.model_dump() for at, one in enumerate(case.timeline)]}


SIMPLER: Final = (_workload, _world, _strikes, _liars, _size, _options)


def shrink(case: Case, outcome: Outcome, spec: ProtocolSpec | None = None, on_step: OnStep | None = None) -> Case:
    """The small one, with the name of its judge."""
    shrinker = Shrinker(case, outcome.judge, spec, on_step)
    return changed(shrinker.shrink(RUNS_MAX), judge=outcome.judge)
