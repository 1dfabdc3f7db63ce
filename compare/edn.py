"""Our histories as Jepsen writes its own: EDN, a map a line, read, write and cas of registers.

Jepsen's register knows three functions, so ours are put into its words: `get` is a read, `put` a write, a `cas` that
did not find what it expected fails, a `delete` that found something is a write of nil, one that found nothing a read of
nil. A `scan` is left out, which asks less; so are keys that something was appended to, with all their calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from compare.history import Call
from compare.recorded import Event, events

NANOSECONDS: Final = 1_000
"""Jepsen counts in them; ours are microseconds."""
_NAMES: Final = {"get": "read", "put": "write"}


def write(path: Path, calls: Sequence[Call]) -> int:
    """How many calls are left out."""
    kept = fitting(calls)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{_map(index, event)}\n" for index, event in enumerate(events(kept)))
    return len(calls) - len(kept)


def fitting(calls: Iterable[Call]) -> list[Call]:
    """Those that a register can be asked."""
    calls = list(calls)
    appended = {call.args[0] for call in calls if call.method == "append"}
    return [call for call in calls if call.method != "scan" and call.args[0] not in appended]


def _map(index: int, event: Event) -> str:
    kind, name, value = _said(event)
    key = event.call.args[0]
    value = value if key is None else [key, value]
    return (
        f"{{:type :{kind}, :f :{name}, :value {edn(value)}, :process {event.process}, "
        f":time {event.time * NANOSECONDS}, :index {index}}}"
    )


def _said(event: Event) -> tuple[str, str, Any]:
    """Type, function and value in Jepsen's words."""
    call, kind = event.call, event.type
    name, args = _NAMES.get(call.method, call.method), call.args[1:]
    if call.method == "delete":
        name, args = ("read", ()) if call.known and call.outcome is False else ("write", (None,))
    if name == "read":
        return kind, name, call.outcome if kind == "ok" and call.method != "delete" else None
    if name == "cas":
        return "fail" if kind == "ok" and call.outcome is False else kind, name, list(args)
    return kind, name, args[0]


def edn(value: Any) -> str:
    """Of what a register holds: nil, integers, strings, and vectors of them."""
    if value is None:
        return "nil"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(edn, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
