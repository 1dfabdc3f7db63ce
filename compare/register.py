"""Registers as judges know them: read, write, and cas, which sets a new value where the expected one is. Each key is a
register of its own, and begins as null. This is the model of histories that other tools record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from compare.history import Call
from compare.models import same


class RegisterModel:
    """The arguments of a call begin with the key. The state is the value."""

    name = "register"
    initial: Any = None
    whole: Any = None

    def apply(self, state: Any, call: Call) -> tuple[Any, Any]:
        match call.method:
            case "read":
                return state, state
            case "write":
                return call.args[1], None
        _, expected, value = call.args
        return (value, True) if same(state, expected) else (state, False)

    def reads(self, call: Call) -> bool:
        return call.method == "read"

    def idle(self, call: Call) -> bool:
        return call.method == "read" or call.outcome is False

    def same(self, accepted: Any, expected: Any) -> bool:
        return same(accepted, expected)

    def is_cell(self, calls: Sequence[Call]) -> bool:
        return True

    def is_blind(self, call: Call) -> bool:
        return call.method == "write"

    def tells(self, call: Call) -> tuple[tuple[Any, ...] | None, bool]:
        if call.method == "read":
            return (call.outcome,), True
        return (call.args[1],), call.outcome is not False

    def partition(self, calls: Sequence[Call]) -> Iterator[tuple[str, list[Call]]]:
        parts: dict[Any, list[Call]] = {}
        for call in calls:
            parts.setdefault(call.args[0], []).append(call)
        yield from ((f"register {key!r}" if key is not None else "the register", part) for key, part in parts.items())
