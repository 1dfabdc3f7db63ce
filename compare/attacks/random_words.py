"""What a random liar says: values that somebody has said before, or nearly, in messages of every kind.

Generic over the messages of a protocol: it walks the fields of their types and knows them by their names only. A view
is taken from among views, a digest from among digests; now and then it is none of them. Not here: whose name stands
below, and whether it is signed (`random_liar`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any, Final

import msgspec
from msgspec.inspect import BoolType, BytesType, IntType, ListType, StrType, StructType, Type, UnionType

KEPT: Final = 32
"""Values remembered of each field."""
ITEMS: Final = 4
"""The most items of a list that is learned from, or made up."""
LEAST, MOST = 0, 2**62


_FIELDS: Final[dict[type[Any], dict[str, Type]]] = {}


def _fields(kind: type[Any]) -> dict[str, Type]:
    """Names and types."""
    if kind not in _FIELDS:
        told = msgspec.inspect.type_info(kind)
        assert isinstance(told, StructType)
        _FIELDS[kind] = {field.name: field.type for field in told.fields}
    return _FIELDS[kind]


def _key(name: str, told: Type) -> Any:
    """Fields of one name may hold other things in other messages."""
    match told:
        case StructType():
            return name, told.cls
        case ListType():
            return _key(name, told.item_type), list
    return name


def differences(first: Any, second: Any) -> set[str]:
    """In which fields two messages of one kind differ, by kind and name, those of their parts too."""
    if type(first) is not type(second):
        return set()
    if isinstance(first, list):
        return set().union(*map(differences, first, second)) if len(first) == len(second) else set()
    if not isinstance(first, msgspec.Struct):
        return set()
    found = set()
    for name in _fields(type(first)):
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            found |= {f"{type(first).__name__}.{name}"} | differences(one, other)
    return found


def _rank(item: Any) -> Any:
    """By its first fields, as far as they have an order."""
    if not isinstance(item, msgspec.Struct):
        return item
    fields = msgspec.structs.astuple(item)
    return tuple(takewhile(lambda field: isinstance(field, (int, bytes)), fields))


def _grows(items: list[Any]) -> bool:
    return len({type(item) for item in items}) == 1 and all(
        _rank(one) <= _rank(other) for one, other in pairwise(items)
    )


class Words:
    """The common vocabulary of a coalition. Invariant: each field has at most KEPT values, the latest."""

    def __init__(self, chance: random.Random, kinds: Sequence[type[Any]]) -> None:
        self.kinds = tuple(kinds)
        self._chance = chance
        self._heard: dict[Any, deque[Any]] = {}

    def learn(self, message: Any) -> None:
        """Remember what stands in its fields; of a digest also at which place it stood."""
        for name, told in _fields(type(message)).items():
            value = getattr(message, name)
            self._keep(_key(name, told), value)
            if name == "digest" and hasattr(message, "seq"):
                self._keep((name, message.seq), value)
            if isinstance(told, ListType):
                for item in value[:ITEMS]:
                    self._learn_part(name, told.item_type, item)
            elif isinstance(told, StructType):
                self.learn(value)

    def _learn_part(self, name: str, told: Type, item: Any) -> None:
        self._keep(_key(name, told), item)
        if isinstance(told, StructType):
            self.learn(item)

    def _keep(self, key: Any, value: Any) -> None:
        self._heard.setdefault(key, deque(maxlen=KEPT)).append(value)

    def heard(self, name: str) -> list[Any]:
        """What stood under this name, or in lists of it, of fields that have no parts."""
        return list(self._heard.get(name, ()))

    def heard_at(self, name: str, seq: int) -> list[Any]:
        """What stood under this name at this place of the log."""
        return list(self._heard.get((name, seq), ()))

    def change(self, message: Any) -> Any:
        """The same with one or two other fields."""
        types = _fields(type(message))
        names = self._chance.sample(list(types), min(len(types), self._chance.choice((1, 1, 2))))
        return msgspec.structs.replace(message, **{name: self._another(message, name, types[name]) for name in names})

    def invent(self, kind: type[Any] | None = None) -> Any:
        """A message of any kind that was never said so."""
        kind = kind if kind is not None else self._chance.choice(self.kinds)
        return kind(**{name: self._make(name, told) for name, told in _fields(kind).items()})

    def _another(self, message: Any, name: str, told: Type) -> Any:
        value, chance = getattr(message, name), self._chance
        if isinstance(value, list) and chance.random() < 0.8:
            return self._shuffled(value, name, told)
        if isinstance(value, msgspec.Struct) and chance.random() < 0.8:
            return self.change(value)
        at_place = self._heard.get((name, getattr(message, "seq", None)))
        if at_place and chance.random() < 0.7:
            return chance.choice(at_place)
        if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
            return max(LEAST, value + chance.choice((-4, -2, -1, 1, 2, 4)))
        return self._make(name, told)

    def _shuffled(self, items: list[Any], name: str, told: Type) -> list[Any]:
        """Some left out, one doubled, changed or put in; what grew grows still, but seldom."""
        assert isinstance(told, ListType)
        chance = self._chance
        kept = [item for item in items if chance.random() < 0.8]
        act = chance.randrange(4)
        if act == 0 and kept:
            kept.append(chance.choice(kept))
        elif act == 1 and kept and isinstance(kept[0], msgspec.Struct):
            place = chance.randrange(len(kept))
            kept[place] = self.change(kept[place])
        elif act == 2:
            kept.insert(chance.randint(0, len(kept)), self._make(name, told.item_type))
        if chance.random() < 0.2:
            chance.shuffle(kept)
        elif _grows(items) and {type(item) for item in kept} <= {type(items[0])}:
            kept.sort(key=_rank)
        return kept

    def _make(self, name: str, told: Type) -> Any:
        """A value of this type: mostly one that was heard under this name."""
        heard = self._heard.get(_key(name, told))
        if heard and self._chance.random() < 0.8:
            return self._chance.choice(heard)
        match told:
            case StructType():
                return self.invent(told.cls)
            case ListType():
                return [self._make(name, told.item_type) for _ in range(self._chance.randrange(ITEMS))]
            case UnionType():
                return self._make(name, self._chance.choice(told.types))
        return self._plain(told)

    def _plain(self, told: Type) -> Any:
        chance = self._chance
        match told:
            case BoolType():
                return chance.random() < 0.5
            case IntType():
                return chance.choice((LEAST, 1, chance.randrange(16), told.le or MOST, MOST))
            case BytesType():
                most = told.max_length if told.max_length is not None else 48
                return chance.randbytes(chance.randint(told.min_length or 0, min(most, 48)))
            case StrType():
                return chance.choice(("c0", "nobody", ""))
        return None
