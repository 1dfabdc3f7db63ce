"""What replicas were told and what they did, one JSON object a line: written by both worlds, read by judges and people.

A line has "t" (microseconds of the world's clock), "node" (the replica) and one of

    "event"   what the replica was told:    {"kind": "Received", "sender": 0, "message": {"message": "Prepare", ...}}
    "effect"  what it did, in its order:    {"kind": "SetTimer", "name": "view", "delay": 1000000}
    "world"   what happened to it:          {"kind": "crash"}, {"kind": "undecodable", "sender": 2, "why": "..."}

"kind" is the class name of the event or effect and the rest are its fields; bytes are hex. Some are told differently:

    Apply     {"kind", "index", "time", "requests": [{"client", "timestamp", "digest", "count"}]}, "tentative" if it is
              not decided yet; it is told again without when it is (a Confirm)
    Note      {"kind", "note", "detail"}             "note" is the Note's own kind
    Accuse    {"kind", "rule", "culprit", "place", "first", "second", "raw"}    "raw": the statements as encoded;
              "epoch" of the members, beyond the first
    Save      {"kind", "index", "digest"}

    start     {"kind", "index", "digest"}            a world line: a life begins with this saved state; 0 and "": none

Level "all" keeps everything. Level "decisions" keeps what judges may read of a correct replica: Apply, Accuse, the
notes "checkpoint", "view" and "term", and the beginning of each life. Decisions are told when the records listed before
them are on disk: a replica may count its own vote before that, holding back all that rests on it, and what a crash
undoes then was never decided (HAZARDS R2). All other effects are told in the step that made them.

Lines of one seed are the same bytes in any process: keys are sorted, nothing depends on hashes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, Literal

import msgspec

from replog.codec import digest_of
from replog.core import Accuse, Apply, Confirm, Effect, Event, Note, Save
from replog.errors import ConfigError
from replog.types import Message, Micros, NodeId, Request

_encode = msgspec.msgpack.Encoder().encode
Level = Literal["all", "decisions"]
Line = dict[str, Any]

DECISIVE_NOTES: Final = frozenset({"checkpoint", "view", "term"})
TOLD_LATE: Final = (Apply, Confirm, Note)
"""What a world that records lets through its outbox besides the effects that are visible anyway."""


class Recorder:
    """Takes down what happens, in order. Lines go to `sink` as they come, or into `lines` when there is none."""

    def __init__(self, level: Level = "decisions", sink: IO[str] | None = None) -> None:
        if level not in ("all", "decisions"):
            raise ValueError(f"trace level {level!r}: must be 'all' or 'decisions'")
        self.level: Level = level
        self.lines: list[Line] = []
        self._all = level == "all"
        self._sink = sink

    def event(self, now: Micros, node: NodeId, event: Event) -> None:
        if self._all:
            self._take({"t": now, "node": node, "event": plain(event)})

    def effects(self, now: Micros, node: NodeId, effects: Iterable[Effect]) -> None:
        """What a step did, decisions left out: they go through the outbox, and then to `decision`."""
        if self._all:
            for effect in effects:
                if not is_decision(effect):
                    self._take({"t": now, "node": node, "effect": plain(effect)})

    def decision(self, now: Micros, node: NodeId, effect: Effect) -> None:
        """An effect that came out of the outbox; passed by if it is no decision."""
        if is_decision(effect):
            self._take({"t": now, "node": node, "effect": plain(effect)})

    def world(self, now: Micros, node: NodeId, kind: str, **detail: Any) -> None:
        """Something happened to the replica: crash, restart, pause, a frame that was none."""
        if self._all:
            self._take({"t": now, "node": node, "world": {"kind": kind, **detail}})

    def start(self, now: Micros, node: NodeId, index: int, digest: bytes) -> None:
        """A life begins, with this saved state; told at every level: what former lives applied is gone."""
        self._take({"t": now, "node": node, "world": {"kind": "start", "index": index, "digest": digest.hex()}})

    def _take(self, line: Line) -> None:
        if self._sink is None:
            self.lines.append(line)
        else:
            self._sink.write(to_text(line) + "\n")

    def write(self, path: Path) -> None:
        """The lines kept so far as a file."""
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(to_text(line) + "\n" for line in self.lines)


def is_decision(effect: Effect) -> bool:
    kind = type(effect)
    if isinstance(effect, Apply):
        return not effect.tentative
    return kind is Confirm or kind is Accuse or (isinstance(effect, Note) and effect.kind in DECISIVE_NOTES)


def to_text(line: Line) -> str:
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def read(path: Path) -> Iterator[Line]:
    """The lines of a file. Raises ConfigError naming file, line and rule."""
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text)
            except ValueError as error:
                raise ConfigError(f"{path}:{number}: a trace line is a JSON object: {error}") from None
            if not isinstance(line, dict) or "t" not in line or "node" not in line:
                raise ConfigError(f'{path}:{number}: a trace line is an object with "t" and "node"')
            yield line


# ------------------------------------------------------------------------------------------------ values as plain data


def plain(value: Any) -> Any:
    """Events, effects, messages and what they hold as JSON data."""
    if value is None or isinstance(value, (bool, int, str, float)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=repr)
    told = _TOLD.get(type(value))
    return told(value) if told is not None else _fields(value)


def _fields(value: Any) -> Any:
    if not isinstance(value, msgspec.Struct):
        return type(value).__name__
    named = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    return {"message" if isinstance(value, Message) else "kind": type(value).__name__, **named}


def _request(request: Request) -> Line:
    return {
        "client": request.client,
        "timestamp": request.timestamp,
        "digest": digest_of(request.body).hex(),
        "count": request.count,
    }


def _apply(effect: Apply | Confirm) -> Line:
    requests = [_request(request) for request in effect.requests]
    tentative = {"tentative": True} if isinstance(effect, Apply) and effect.tentative else {}
    return {"kind": "Apply", "index": effect.index, "time": effect.time, "requests": requests} | tentative


def _note(effect: Note) -> Line:
    return {"kind": "Note", "note": effect.kind, "detail": plain(effect.detail)}


def _accuse(effect: Accuse) -> Line:
    said = {"first": plain(effect.first), "second": plain(effect.second)}
    raw = [_encode(message).hex() for message in (effect.first, effect.second) if message is not None]
    which = {"rule": effect.kind, "culprit": effect.culprit, "place": effect.place}
    epoch = {"epoch": effect.epoch} if effect.epoch else {}
    return {"kind": "Accuse", **which, **said, **epoch, "raw": raw}


def _save(effect: Save) -> Line:
    return {"kind": "Save", "index": effect.snapshot.index, "digest": plain(effect.snapshot.digest)}


_TOLD: Final[dict[type, Any]] = {
    Apply: _apply,
    Confirm: _apply,
    Note: _note,
    Accuse: _accuse,
    Save: _save,
    Request: _request,
}
