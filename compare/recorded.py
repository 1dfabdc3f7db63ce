"""Histories as other tools record them: JSON lines of invoke, ok, fail and info. Reading them, and writing ours so.

Here: the form, which docs/histories.md describes, and every rule about it. Not here: Jepsen's EDN (`compare.edn`), our
own history.jsonl (`compare.history`), nor what is made of a history (`compare.checkers`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from compare import history
from compare.history import Call, Refusal
from compare.models import KeyValueModel, Model
from compare.register import RegisterModel
from replog.errors import ConfigError

LINE_MAX: Final = 1_048_576
"""Bytes of one line."""
CALLS_MAX: Final = 5_000_000
"""Calls of one history; they are held in memory, at about half a kilobyte each."""
TYPES: Final = ("invoke", "ok", "fail", "info")
NEMESIS: Final = "nemesis"
"""The process under which Jepsen notes faults: no call of a client."""

MODELS: Final[Mapping[str, Model]] = {model.name: model for model in (RegisterModel(), KeyValueModel())}


class _Wrong(Exception):
    """Field and rule."""


# ------------------------------------------------------------------------------------------------------ what is said


def _value(what: Any) -> Any:
    if what is None or (isinstance(what, (int, str)) and not isinstance(what, bool)):
        return what
    raise _Wrong(f"value = {_shown(what)}: must be null, an integer or a string")


def _text(what: Any) -> str:
    if isinstance(what, str):
        return what
    raise _Wrong(f"value = {_shown(what)}: must be a string")


def _present(what: Any) -> Any:
    if what is None:
        raise _Wrong("value = null: must be an integer or a string; a key without a value is deleted")
    return _value(what)


def _yes_or_no(what: Any) -> bool:
    if isinstance(what, bool):
        return what
    raise _Wrong(f"value = {_shown(what)}: must be true or false")


def _pair(what: Any) -> tuple[Any, Any]:
    if isinstance(what, list) and len(what) == 2:
        return _value(what[0]), _value(what[1])
    raise _Wrong(f"value = {_shown(what)}: must be a list of two, what is expected and what is new")


def _swap(what: Any) -> tuple[Any, Any]:
    expected, new = _pair(what)
    return expected, _present(new)


def _pairs(what: Any) -> list[list[Any]]:
    if isinstance(what, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in what):
        return [[_text(key), _present(value)] for key, value in what]
    raise _Wrong(f"value = {_shown(what)}: must be a list of pairs of key and value")


@dataclass(frozen=True)
class _Function:
    """`asked`: arguments after the key, from an invocation's value. `answered`: the outcome, from that of an ok."""

    asked: Callable[[Any], tuple[Any, ...]]
    answered: Callable[[Any], Any]


def _none(_: Any) -> None:
    return None


FUNCTIONS: Final[Mapping[str, Mapping[str, _Function]]] = {
    "register": {
        "read": _Function(lambda _: (), _value),
        "write": _Function(lambda value: (_value(value),), _none),
        "cas": _Function(_pair, lambda _: True),
    },
    "kv": {
        "get": _Function(lambda _: (), _value),
        "put": _Function(lambda value: (_present(value),), _none),
        "delete": _Function(lambda _: (), _yes_or_no),
        "cas": _Function(_swap, _yes_or_no),
        "append": _Function(lambda value: (_text(value),), _text),
        "scan": _Function(lambda _: (), _pairs),
    },
}


# ----------------------------------------------------------------------------------------------------------- reading


def load(path: Path, model: str) -> list[Call]:
    """A history in either form: our own is told by its first line. In order of invocation. Raises ConfigError naming
    file, line, field and rule."""
    try:
        with path.open("rb") as file:
            first = file.readline(LINE_MAX)
            ours = b'"client"' in first and b'"method"' in first
            file.seek(0)
            calls = list(_ours(path, model)) if ours else _Reader(path, model).read(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return sorted(calls, key=lambda call: call.invoke)


def _ours(path: Path, model: str) -> Iterator[Call]:
    for number, call in enumerate(history.read(path), 1):
        if number > CALLS_MAX:
            raise ConfigError(f"{path}: over {CALLS_MAX:,} calls")
        if call.method not in FUNCTIONS[model] or not call.args:
            known = ", ".join(FUNCTIONS[model])
            raise ConfigError(f"{path}:{number}: method = {call.method!r}: must be one of {known} for model {model}")
        yield call


class _Reader:
    """One file. Invariant: `_open` has each process that waits for an end; its call is in `_calls`."""

    def __init__(self, path: Path, model: str) -> None:
        self._path = path
        self._model = model
        self._calls: list[Call] = []
        self._failed: set[int] = set()
        self._open: dict[Any, Call] = {}
        self._timed: bool | None = None
        self._time = 0

    def read(self, file: IO[bytes]) -> list[Call]:
        number = 0
        while line := file.readline(LINE_MAX + 1):
            number += 1
            try:
                self._take(self._object(line), number)
            except _Wrong as wrong:
                raise ConfigError(f"{self._path}:{number}: {wrong}") from None
        return [call for call in self._calls if id(call) not in self._failed]

    def _object(self, line: bytes) -> dict[str, Any]:
        if len(line) > LINE_MAX:
            raise _Wrong(f"line: must be at most {LINE_MAX:,} bytes")
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise _Wrong("line: must be one JSON object") from None
        if not isinstance(found, dict):
            raise _Wrong("line: must be one JSON object")
        return found

    def _take(self, line: dict[str, Any], number: int) -> None:
        if line.get("process") == NEMESIS:
            return
        time, process, kind = self._when(line, number), self._process(line), line.get("type")
        if kind not in TYPES:
            raise _Wrong(f"type = {_shown(kind)}: must be one of {', '.join(TYPES)}")
        if kind == "invoke":
            self._begin(line, process, time)
        else:
            self._end(line, process, time, kind)

    def _when(self, line: dict[str, Any], number: int) -> int:
        """Times of the file, or numbers of lines where no line has a time."""
        time = line.get("time")
        if self._timed is None:
            self._timed = time is not None
        if self._timed != (time is not None):
            raise _Wrong("time: must be in all lines or in none")
        if time is None:
            return number
        if not isinstance(time, int) or isinstance(time, bool) or time < 0:
            raise _Wrong(f"time = {_shown(time)}: must be an integer from 0 on")
        if time < self._time:
            raise _Wrong(f"time = {time}: must not be before the line above, at {self._time}")
        self._time = time
        return time

    def _process(self, line: dict[str, Any]) -> Any:
        process = line.get("process")
        if not isinstance(process, (int, str)) or isinstance(process, bool):
            raise _Wrong(f"process = {_shown(process)}: must be an integer or a string")
        return process

    def _begin(self, line: dict[str, Any], process: Any, time: int) -> None:
        functions, name = FUNCTIONS[self._model], line.get("f")
        if not isinstance(name, str) or name not in functions:
            raise _Wrong(f"f = {_shown(name)}: must be one of {', '.join(functions)} for model {self._model}")
        if process in self._open:
            raise _Wrong(f"process = {process!r}: must end its call of {self._open[process].method} first")
        if len(self._calls) >= CALLS_MAX:
            raise _Wrong(f"line: must be among the first {CALLS_MAX:,} calls")
        args = (self._key(line), *functions[name].asked(line.get("value")))
        call = Call(str(process), str(process), name, args, time)
        self._open[process] = call
        self._calls.append(call)

    def _key(self, line: dict[str, Any]) -> Any:
        key = line.get("key")
        if self._model == "kv" and not isinstance(key, str):
            raise _Wrong(f"key = {_shown(key)}: must be a string")
        if key is not None and (not isinstance(key, (int, str)) or isinstance(key, bool)):
            raise _Wrong(f"key = {_shown(key)}: must be an integer or a string, or absent")
        return key

    def _end(self, line: dict[str, Any], process: Any, time: int, kind: str) -> None:
        call = self._open.pop(process, None)
        if call is None:
            raise _Wrong(f"process = {process!r}: must invoke before its call ends with {kind}")
        if line.get("f", call.method) != call.method:
            raise _Wrong(f"f = {_shown(line['f'])}: must be {call.method}, which process {process!r} invoked")
        if kind == "ok":
            call.outcome = FUNCTIONS[self._model][call.method].answered(line.get("value"))
            call.returned = time
        elif kind == "fail":
            self._failed.add(id(call))


def _shown(what: Any) -> str:
    text = json.dumps(what)
    return text if len(text) <= 60 else text[:57] + "..."


# ----------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class Event:
    """One line: a call begins or ends. `process` calls one thing at a time, and nothing after an `info`."""

    process: int
    type: str
    call: Call
    time: int


def events(calls: Iterable[Call]) -> Iterator[Event]:
    """In order of time; of one time, what begins before what ends, since both count as concurrent."""
    calls = list(calls)
    moments = [(call.invoke, 0, number) for number, call in enumerate(calls)]
    moments += [(call.returned, 1, number) for number, call in enumerate(calls) if call.returned is not None]
    moments.sort()
    numbers: dict[str, list[int]] = {}
    taken: dict[int, int] = {}
    fresh = 0
    for time, ends, number in moments:
        call = calls[number]
        free = numbers.setdefault(call.process, [])
        if ends:
            free.append(taken[number])
            yield Event(taken.pop(number), _end_of(call), call, time)
            continue
        if not free:
            free.append(fresh)
            fresh += 1
        taken[number] = free.pop()
        yield Event(taken[number], "invoke", call, time)
    last = moments[-1][0] if moments else 0
    yield from (Event(process, "info", calls[number], last) for number, process in sorted(taken.items()))


def _end_of(call: Call) -> str:
    """A refusal changes nothing."""
    return "fail" if isinstance(call.outcome, Refusal) else "ok"


def write(path: Path, calls: Iterable[Call]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(_line(event), separators=(",", ":")) + "\n" for event in events(calls))


def _line(event: Event) -> dict[str, Any]:
    call = event.call
    key, *args = call.args or ("",)
    line = {"process": event.process, "type": event.type, "f": call.method, "value": None, "time": event.time}
    if event.type == "ok":
        line["value"] = call.outcome
    elif args and call.method != "scan":
        line["value"] = args[0] if len(args) == 1 else args
    return line if key is None else line | {"key": key}


def refuse(path: Path, rule: str) -> NoReturn:
    raise ConfigError(f"--export = {path}: {rule}")
