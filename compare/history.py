"""What clients saw: one record a call, as judges read it and as `history.jsonl` keeps it.

Here: the record, its line form, reading and writing. Not here: who makes the calls (`compare.workloads`) and what they
mean (`compare.models`).

A line is one JSON object: {"client", "process", "invoke", "return", "method", "args", "outcome", "timestamp", "index",
"position", "vouchers"}. Times are microseconds of one clock. `return` is null when the client never learned the
outcome: the call may have taken effect at any time after `invoke`, or never. `outcome` is the value, or
{"error": [type, text]} when the application refused. `timestamp` names the client's request and `position` the place
of the call in it; `index` is where the request was ordered, `vouchers` the replicas that said so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replog.errors import ConfigError
from replog.types import ClientId, Micros, NodeId


@dataclass(frozen=True)
class Refusal:
    """The application's own exception, the same on every replica (HAZARDS X15)."""

    type: str
    text: str

    def __str__(self) -> str:
        return f"{self.type}: {self.text}"


@dataclass(slots=True)
class Call:
    """One operation of one client. A process makes one call after another; a client may have several processes."""

    client: ClientId
    process: str
    method: str
    args: tuple[Any, ...]
    invoke: Micros
    timestamp: int = 0
    position: int = 0
    returned: Micros | None = None
    outcome: Any = None
    index: int = 0
    vouchers: tuple[NodeId, ...] = field(default=())

    @property
    def known(self) -> bool:
        """Whether the client learned what became of the call."""
        return self.returned is not None

    def __str__(self) -> str:
        named = self.args[1:] if self.args[:1] == (None,) else self.args  # a register alone has no key
        arguments = ", ".join(repr(argument) for argument in named)
        end = f"-> {self.outcome!r}" if self.known else "-> ?"
        place = f" at index {self.index}.{self.position}" if self.index else ""
        request = f"{self.client}#{self.timestamp} " if self.timestamp else ""
        return f"{request}{self.method}({arguments}) {end}{place}"


def to_line(call: Call) -> str:
    outcome = call.outcome
    if isinstance(outcome, Refusal):
        outcome = {"error": [outcome.type, outcome.text]}
    return json.dumps(
        {
            "client": call.client,
            "process": call.process,
            "invoke": call.invoke,
            "return": call.returned,
            "method": call.method,
            "args": list(call.args),
            "outcome": outcome,
            "timestamp": call.timestamp,
            "index": call.index,
            "position": call.position,
            "vouchers": list(call.vouchers),
        },
        separators=(",", ":"),
    )


def from_line(line: str) -> Call:
    """Raises ValueError, KeyError or TypeError on what `to_line` never writes; `read` says where."""
    data = json.loads(line)
    outcome = data["outcome"]
    if isinstance(outcome, dict) and set(outcome) == {"error"}:
        outcome = Refusal(*outcome["error"])
    return Call(
        client=data["client"],
        process=data["process"],
        method=data["method"],
        args=tuple(data["args"]),
        invoke=data["invoke"],
        timestamp=data.get("timestamp", 0),
        position=data.get("position", 0),
        returned=data["return"],
        outcome=outcome,
        index=data.get("index") or 0,
        vouchers=tuple(data.get("vouchers") or ()),
    )


def write(path: Path, calls: Iterable[Call]) -> None:
    with path.open("w") as file:
        file.writelines(to_line(call) + "\n" for call in calls)


def read(path: Path) -> Iterator[Call]:
    """Raises ConfigError naming file, line and what is wrong with it."""
    with path.open() as file:
        for number, line in enumerate(file, 1):
            try:
                yield from_line(line)
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{path}:{number}: not a line of a history: {error!r}") from None
