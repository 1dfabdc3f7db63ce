"""Typed state of an application that can be undone, counted and copied: tables and the types that may stand in them.

Here: `Table`, the dictionary an application writes to, and `Kind`, how one declared type is checked and encoded. Not
here: the Merkle tree that a table's records end up in (`replog.merkle`), and who undoes (`replog.statemachine`).

A value of a plain type (int, str, bytes, bool) is kept as it is. Any other is kept encoded and decoded anew at each
read: what a table hands out is a copy, so that no write can pass by the table and escape the undo log and the digest.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, MutableSequence
from typing import Any, Final, Generic, TypeVar, overload

import msgspec
import msgspec.inspect as inspection

from replog.merkle import KEY_BYTES_MAX

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode
"""Canonical: maps and sets in order. Raises TypeError or OverflowError for what has no canonical form."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()

Undo = MutableSequence[tuple[Any, Any, Any]]
"""What was there before a write: (table or machine, key or field, earlier value or MISSING), the oldest first."""


def forgetful() -> Undo:
    """An undo log outside replication: plain calls in a test cannot be undone."""
    return deque(maxlen=0)


# ------------------------------------------------------------------------------------------------------------ types


def _check_int(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"expected int, got {type(value).__name__}")
    if not -(2**63) <= value < 2**64:
        raise OverflowError(f"{value} is not within -2**63 .. 2**64 - 1")
    return value


def _check_str(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"expected str, got {type(value).__name__}")
    if not value.isascii():
        value.encode()  # a lone surrogate raises here, within the command, and not when a checkpoint is taken
    return value


def _check_bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise TypeError(f"expected bytes, got {type(value).__name__}")
    return value


def _check_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(f"expected bool, got {type(value).__name__}")
    return value


_PLAIN: Final[dict[Any, Callable[[Any], Any]]] = {
    int: _check_int,
    str: _check_str,
    bytes: _check_bytes,
    bool: _check_bool,
}


class Kind:
    """One declared type of state: how its values are checked, kept, handed out and encoded.

    `pack(value)` checks and gives what is kept; `unpack(kept)` gives a value, a new one if it is of a type that could
    be changed; `dump(kept)` and `parse(data)` are the bytes of a record and back.
    """

    def __init__(self, type_: Any) -> None:
        """Raises TypeError, naming the rule, for a type that cannot be replicated state."""
        self.type = type_
        self.plain = type_ in _PLAIN
        _refuse_unsound(inspection.type_info(type_))
        self._decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(type_).decode
        self.parse: Callable[[bytes], Any] = self._decode
        if self.plain:
            self.pack: Callable[[Any], Any] = _PLAIN[type_]
            self.unpack: Callable[[Any], Any] = _as_it_is
            self.dump: Callable[[Any], bytes] = encode
        else:
            self.pack = self._pack
            self.unpack = self._decode
            self.dump = _as_it_is
            self.parse = self._parse

    def _pack(self, value: Any) -> bytes:
        kept = encode(value)
        self._decode(kept)
        return kept

    def _parse(self, data: bytes) -> bytes:
        self._decode(data)
        return data


def _as_it_is(kept: Any) -> Any:
    return kept


def _refuse_unsound(info: Any, above: tuple[Any, ...] = ()) -> None:
    """Every type inside `info` has one canonical encoding, and gives equal results on every machine (HAZARDS P30)."""
    if any(info is outer for outer in above):
        return  # a type that contains itself
    if isinstance(info, inspection.FloatType):
        raise TypeError("float is no state: its results differ between machines; count in integers")
    if isinstance(info, (inspection.CustomType, inspection.AnyType, inspection.ExtType, inspection.RawType)):
        name = getattr(getattr(info, "cls", None), "__name__", type(info).__name__.removesuffix("Type"))
        raise TypeError(f"{name} is no state: it has no canonical encoding")
    if isinstance(info, inspection.DictType) and not isinstance(info.key_type, inspection.StrType):
        raise TypeError("dict with keys other than str is no state: use a Table")
    for inside in _inside(info):
        _refuse_unsound(inside, (*above, info))


def _inside(info: Any) -> Iterator[Any]:
    """The types that `info` is made of."""
    if isinstance(info, (inspection.StructType, inspection.DataclassType, inspection.TypedDictType)):
        yield from (field.type for field in info.fields)
    for name in ("item_type", "key_type", "value_type", "type"):
        inside = getattr(info, name, None)
        if isinstance(inside, inspection.Type):
            yield inside
    for name in ("types", "item_types"):
        yield from getattr(info, name, ())


# ------------------------------------------------------------------------------------------------------------ tables


class Table(Generic[K, V]):
    """A dictionary from K (int, str or bytes) to V, declared as a field of a StateMachine.

    Reads and writes cost as a dict's, whatever the size. Iteration is in order of keys, the same on every replica.
    What is ordered (iteration, `scan`) costs O(log n + what it gives), and O(n) memory moves of 8 bytes for each key
    that came or went since the last ordered read.

    Invariants:
      _dirty holds every key written since `take_changes`
      _order without the keys of _moved is sorted and equals the keys of _data without those of _moved
    """

    __slots__ = ("_data", "_undo", "_dirty", "_moved", "_order", "_key", "_value", "_check_key", "_pack", "_unpack")

    def __init__(self, key_type: type[K] | Any, value_type: type[V] | Any, undo: Undo | None = None) -> None:
        if key_type not in (int, str, bytes):
            raise TypeError(f"Table[{key_type!r}, ...]: keys are int, str or bytes")
        self._key = Kind(key_type)
        self._value = Kind(value_type)
        self._check_key = self._key.pack
        self._pack = self._value.pack
        self._unpack = None if self._value.plain else self._value.unpack
        self._undo: Undo = forgetful() if undo is None else undo
        self._data: dict[K, Any] = {}
        self._dirty: set[K] = set()
        self._moved: set[K] = set()
        self._order: list[K] = []

    # ------------------------------------------------------------------------------------------------------- reading

    def __getitem__(self, key: K) -> V:
        kept = self._data[key]
        return kept if self._unpack is None else self._unpack(kept)  # type: ignore[no-any-return]

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        kept = self._data.get(key, MISSING)
        if kept is MISSING:
            return default
        return kept if self._unpack is None else self._unpack(kept)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[K]:
        """Keys in order, as they are now: writing meanwhile does not disturb."""
        return iter(list(self._ordered()))

    def keys(self) -> Iterator[K]:
        return iter(self)

    def values(self) -> Iterator[V]:
        return (self[key] for key in self)

    def items(self) -> Iterator[tuple[K, V]]:
        return ((key, self[key]) for key in self)

    def scan(self, prefix: Any, limit: int | None = None) -> list[tuple[K, V]]:
        """The entries whose key (str or bytes) begins with `prefix`, in order of keys, at most `limit` of them."""
        order = self._ordered()
        found: list[tuple[K, V]] = []
        for at in range(bisect_left(order, prefix), len(order)):
            key: Any = order[at]
            if not key.startswith(prefix) or len(found) == limit:
                break
            found.append((key, self[key]))
        return found

    def _ordered(self) -> list[K]:
        if len(self._moved) * 8 > len(self._data):
            self._order = sorted(self._data)  # type: ignore[type-var]
        else:
            for key in self._moved:
                self._settle(key)
        self._moved.clear()
        return self._order

    def _settle(self, key: Any) -> None:
        order: list[Any] = self._order
        at = bisect_left(order, key)
        present = at < len(order) and order[at] == key
        if key in self._data and not present:
            insort(order, key)
        elif present and key not in self._data:
            del order[at]

    # ------------------------------------------------------------------------------------------------------- writing

    def __setitem__(self, key: K, value: V) -> None:
        """Raises TypeError, ValueError or OverflowError for what is not of the declared types."""
        key = self._check_key(key)
        kept = self._pack(value)
        data = self._data
        before = data.get(key, MISSING)
        if before is MISSING:
            _check_length(key)
            self._moved.add(key)
        self._undo.append((self, key, before))
        self._dirty.add(key)
        data[key] = kept

    def __delitem__(self, key: K) -> None:
        key = self._check_key(key)
        before = self._data[key]
        self._undo.append((self, key, before))
        self._moved.add(key)
        self._dirty.add(key)
        del self._data[key]

    def pop(self, key: K, default: Any = MISSING) -> Any:
        if default is not MISSING and key not in self._data:
            return default
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        for key in self:
            del self[key]

    # -------------------------------------------------------------------------------------- for who owns the undo log

    def journal_to(self, undo: Undo) -> None:
        """From now on writes are noted in `undo`."""
        self._undo = undo

    def put_back(self, key: K, kept: Any) -> None:
        """Set an entry to what is kept of it, MISSING for none, without noting it as a write to be undone."""
        if (kept is MISSING) != (key not in self._data):
            self._moved.add(key)
        if kept is MISSING:
            self._data.pop(key, None)
        else:
            self._data[key] = kept

    def take_changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """(encoded key, encoded value or None) of what was written since the last call."""
        dirty, self._dirty = self._dirty, set()
        dump = self._value.dump
        for key in dirty:
            kept = self._data.get(key, MISSING)
            yield encode(key), None if kept is MISSING else dump(kept)

    def take_all(self) -> Iterator[tuple[bytes, bytes]]:
        """(encoded key, encoded value) of every entry, whatever was taken before; the order of keys is made anew."""
        self._dirty.clear()
        self._moved, self._order = set(self._data), []
        for key, kept in self._data.items():
            yield encode(key), self._value.dump(kept)

    def parse(self, key: bytes, value: bytes | None) -> tuple[K, Any]:
        """A record back to what `put_back` takes. Raises msgspec.MsgspecError if it is not of the declared types."""
        return self._key.parse(key), MISSING if value is None else self._value.parse(value)

    def __repr__(self) -> str:
        return f"Table({len(self)} entries)"


def _check_length(key: Any) -> None:
    size = 9 if type(key) is int else len(key) if type(key) is bytes or key.isascii() else len(key.encode())
    if size > KEY_BYTES_MAX - 1024:
        raise ValueError(f"a key of {size} bytes; at most {KEY_BYTES_MAX - 1024} are allowed")
