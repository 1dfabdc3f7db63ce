"""Running operations on an application: decode, dispatch, undo, outcome. And its state as records, and back.

Here: what stands between a request's bytes and a method. An application's exception is a result, the same on every
replica, and its writes are undone; it never stops a replica (HAZARDS X15). Not here: who may execute what, and when
(`replog.executor`).

An outcome is `[0, value]` or `[1, error type, text]`. Texts are the application's own words, or made from its
signatures: never from the words of a library, which differ between versions.

What an operation raises is its result whatever it is, KeyboardInterrupt and SystemExit too: a Ctrl-C is kept out of
operations, so that none of them can be taken for one. RecursionError and MemoryError are results like the others, for
an application may raise them on purpose; where the interpreter raises them, replicas with other stacks or less memory
may not agree (docs/limits.md).
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final, Self

import msgspec
from msgspec.structs import astuple

from replog.nesting import is_tangled
from replog.statemachine import Context, StateMachine
from replog.table import MISSING, Kind, Undo, encode

TEXT_MAX: Final = 500
OUTCOMES_BYTES_MAX: Final = 1024 * 1024
"""Outcomes of one request together, texts of errors beyond it apart: what would go beyond it fails."""

_FIELD: Final = b"\x01"
_WHOLE: Final = b"\x03"
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{5,}")
_plain_encode = msgspec.msgpack.Encoder().encode
_peek = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_peek_name = msgspec.msgpack.Decoder(str).decode

NOTHING: Final = encode((0, None))


def failure(type_: str, text: str) -> bytes:
    return _plain_encode((1, type_, text))


def success(value: Any) -> bytes:
    return _plain_encode((0, value))


class ResultTooLarge(Exception):
    """The outcomes of a request outgrow what a session remembers of it."""


class QueryWrote(Exception):
    """A query has changed the state."""


class StateUnreadable(ValueError):
    """Records that this application cannot read: the state of another application, or version."""


MALFORMED_REQUEST: Final = failure("MalformedRequest", "the operations are not the announced number of byte strings")
_MALFORMED: Final = failure("MalformedOperation", "an operation is the list [method, arguments...]")
_NOT_A_QUERY: Final = failure("NotAQuery", "a read-only request may call queries only")


class Runtime:
    """One application, run by bytes.

    Invariants:
      between operations the undo log is empty, and state is what the operations that ended in [0, ...] made it
      what `take_changes` has given so far, put together, is the state when it was last called
    """

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self.context = Context()
        self._undo: Undo = []
        self._decode = machine._decode
        self._methods = {method.call: (method.function, method.reads) for method in machine.describe()}
        self._tables = {encode(name): vars(machine)[name] for name in machine._tables}
        self._loose = {name: field.kind for name, field in machine._fields.items() if not field.kind.plain}
        """Fields that can be changed in place."""
        self._images: dict[str, bytes] = {}
        """What the loose fields and the machine as a whole were encoded to, as of the last operation."""
        self._written: dict[bytes, bytes] = {}
        """Records of fields as last given by `take_changes`."""
        self._simple = not self._loose and not machine._whole
        machine.context = self.context
        vars(machine)["_undo"] = self._undo
        for table in self._tables.values():
            table.journal_to(self._undo)
        self._images = self._image()

    # ----------------------------------------------------------------------------------------------------- operations

    def run(self, operations: Iterable[bytes], read_only: bool, place: tuple[int, ...]) -> list[bytes]:
        """Execute in order, within `Uninterrupted`; one outcome each. `place` and the position in the list make
        `context.place`."""
        context, room = self.context, OUTCOMES_BYTES_MAX
        outcomes = []
        for position, operation in enumerate(operations):
            context.place = (*place, position)
            outcome = self._execute(operation, read_only, room)
            room -= len(outcome)
            outcomes.append(outcome)
        return outcomes

    def _execute(self, operation: bytes, read_only: bool, room: int) -> bytes:
        if is_tangled(operation):
            return _MALFORMED
        try:
            call = self._decode(operation)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
            return self._misfit(operation)
        function, reads = self._methods[type(call)]
        if read_only and not reads:
            return _NOT_A_QUERY
        try:
            value = function(self.machine, *astuple(call))
            outcome = NOTHING if value is None else encode((0, value))
            if len(outcome) > room:
                raise ResultTooLarge(f"{len(outcome)} bytes, {max(0, room)} are left for this request")
            if reads:
                self._check_unchanged()
            elif not self._simple:
                self._images = self._image()
        except BaseException as error:  # noqa: BLE001 - whatever an application raises is its result (HAZARDS X15)
            self._undo_all()
            return failure(_ascii(type(error).__name__), _text(error))
        self._undo.clear()
        return outcome

    def _misfit(self, operation: bytes) -> bytes:
        """Why an operation cannot be called, in words that depend on nothing but the operation and the class."""
        try:
            name = _peek_name(_peek(operation)[0])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IndexError):
            return _MALFORMED
        method = self.machine._methods.get(name)
        if method is None:
            known = ", ".join(self.machine._methods)
            return failure(
                "UnknownMethod", f"{self.machine.name} has no method {name[:64]!a}; it has {known}"[:TEXT_MAX]
            )
        # Names without types: how a type is printed differs between versions of Python.
        takes = ", ".join(parameter.name for parameter in method.parameters)
        return failure("WrongArguments", f"these are no arguments of {name}({takes})"[:TEXT_MAX])

    # ---------------------------------------------------------------------------------------------------------- undo

    def _undo_all(self) -> None:
        for target, key, before in reversed(self._undo):
            target.put_back(key, before)
        self._undo.clear()
        for name, kind in self._loose.items():
            self.machine.put_back(name, kind.unpack(self._images[name]))
        if self.machine._whole:
            self.machine.restore(self._images[""])

    def _check_unchanged(self) -> None:
        if self._undo or (not self._simple and self._image() != self._images):
            raise QueryWrote("a query may only read; its writes are undone")

    def _image(self) -> dict[str, bytes]:
        """What can be changed in place, encoded now. Raises TypeError if it is no longer of its declared type."""
        if self.machine._whole:
            data = self.machine.snapshot()
            if type(data) is not bytes:
                raise TypeError(f"snapshot() gave {type(data).__name__}, not bytes")
            return {"": data}
        return {name: _packed(name, kind, vars(self.machine)[name]) for name, kind in self._loose.items()}

    # -------------------------------------------------------------------------------------------------------- records

    def take_changes(self) -> dict[bytes, bytes | None]:
        """The records written since the last call, None for those that are gone. Costs by what was written."""
        changes: dict[bytes, bytes | None] = {}
        for prefix, table in self._tables.items():
            for key, value in table.take_changes():
                changes[prefix + key] = value
        for key, value in self._field_records():
            if self._written.get(key) != value:
                self._written[key] = changes[key] = value
        return changes

    def take_all(self) -> dict[bytes, bytes]:
        """Every record, read from the state itself, whatever was given before; `take_changes` goes on from here."""
        self._images = self._image()
        self._written = dict(self._field_records())
        records = dict(self._written)
        for prefix, table in self._tables.items():
            records.update((prefix + key, value) for key, value in table.take_all())
        return records

    def _field_records(self) -> Iterator[tuple[bytes, bytes]]:
        if self.machine._whole:
            yield _WHOLE, self._images[""]
        for name, field in self.machine._fields.items():
            kept = self._images[name] if name in self._loose else vars(self.machine)[name]
            yield _FIELD + encode(name), field.kind.dump(kept)

    def prepare(self, records: Iterable[tuple[bytes, bytes | None]]) -> list[tuple[Any, Any, Any]]:
        """Read records into what `install` takes, changing nothing. Raises StateUnreadable."""
        tables = self._tables
        prepared: list[tuple[Any, Any, Any]] = []
        for record, value in records:
            # Nearly all: a table's name is a short string, whose length is in its first byte.
            table = tables.get(record[: 1 + (record[0] & 31)]) if record and value is not None else None
            if table is None:
                prepared.append(self._prepared(record, value))
                continue
            try:
                prepared.append((table, *table.parse(record[1 + (record[0] & 31) :], value)))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                prepared.append(self._prepared(record, value))
        return prepared

    def _prepared(self, record: bytes, value: bytes | None) -> tuple[Any, Any, Any]:
        try:
            if record == _WHOLE and self.machine._whole and value is not None:
                return None, record, value
            if record[:1] == _FIELD and value is not None:
                name = _peek_name(record[1:])
                kind: Kind = self.machine._fields[name].kind
                return self.machine, name, kind.parse(value)
            end = _end_of_name(record)
            table = self._tables[record[:end]]
            return table, *table.parse(record[end:], value)
        except (KeyError, IndexError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateUnreadable(
                f"{self.machine.name} version {self.machine.version} cannot read record {record[:40]!r}: {error}"
            ) from None

    def install(self, prepared: Iterable[tuple[Any, Any, Any]]) -> None:
        for target, key, kept in prepared:
            if target is None:
                self.machine.restore(kept)
                self._images[""] = self._written[key] = kept
            elif target is self.machine:
                kind = self.machine._fields[key].kind
                target.put_back(key, kind.unpack(kept))
                self._written[_FIELD + encode(key)] = kind.dump(kept)
                if key in self._loose:
                    self._images[key] = kept
            else:
                target.put_back(key, kept)

    def check_invariants(self) -> None:
        assert not self._undo, "between operations the undo log is empty"


class Uninterrupted:
    """Puts off a Ctrl-C where Python would raise it in the midst of an operation, until all of a batch have run. Inside
    another one, which does so anyway, it does nothing.

    Under `asyncio.run` and in a replica's own process a Ctrl-C is a call to the loop, and nothing is to be done. Only
    who presses it twice under `asyncio.run` may meet an operation; that program was ending anyway.
    """

    _outermost: Uninterrupted | None = None

    def __enter__(self) -> Self:
        self.came = self.held = False
        if Uninterrupted._outermost is not None:
            return self
        # A thread's own operations are never interrupted.
        self.held = signal.getsignal(signal.SIGINT) is signal.default_int_handler and _in_main_thread()
        if self.held:
            Uninterrupted._outermost = self
            signal.signal(signal.SIGINT, self._came)
        return self

    def _came(self, *_: object) -> None:
        self.came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one ends an operation that never ends

    def __exit__(self, *_: object) -> None:
        if self.held:
            Uninterrupted._outermost = None
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.came:
            raise KeyboardInterrupt


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end_of_name(record: bytes) -> int:
    """Length of the short msgpack string that a table's record begins with."""
    head = record[0]
    if 0xA0 <= head <= 0xBF:
        return 1 + (head & 0x1F)
    if head == 0xD9:
        return 2 + record[1]
    raise KeyError("no table's name")


def _packed(name: str, kind: Kind, value: Any) -> bytes:
    try:
        return kind.pack(value)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, TypeError, OverflowError):
        raise TypeError(f"{name} is no longer of its declared type") from None


def _text(error: BaseException) -> str:
    """What an exception says, without what differs between replicas."""
    if isinstance(error, (RecursionError, MemoryError)):
        return ""  # the interpreter's own words
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - it is the application's code that runs here
        return ""
    return _ADDRESS.sub("0x...", _ascii(text))[:TEXT_MAX]


def _ascii(text: str) -> str:
    """Text that can be encoded: a lone surrogate is shown, not kept."""
    return text.encode("utf-8", "backslashreplace").decode()


__all__ = ["MISSING", "MALFORMED_REQUEST", "QueryWrote", "ResultTooLarge", "Runtime", "StateUnreadable", "failure"]
