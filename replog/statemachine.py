"""What an application is: a class with declared state, commands that change it and queries that only read.

    class Bank(StateMachine):
        accounts: Table[str, int]
        opened: int = 0

        @command
        def open(self, owner: str) -> int: ...

        @query
        def balance(self, owner: str) -> int: ...

Outside replication it is an ordinary object: `Bank().open("ann")` works in a test. Here: the class, its checks when it
is defined, and operations and outcomes as bytes. Not here: execution with rollback (`replog.runtime`), sessions
(`replog.executor`).

State is what is declared: a `Table`, or a field of a type that msgspec encodes, with a default. Fields are encoded
whole; one of another type than int, str, bytes or bool costs its encoding at every command, since it can be changed in
place: keep those small, and large state in tables. An application with a form of its own overrides `snapshot` and
`restore` instead, and may then have any attributes; that costs a snapshot at every command.
"""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from replog.errors import OperationFailed
from replog.table import MISSING, Kind, Table, Undo, encode, forgetful

F = TypeVar("F", bound=Callable[..., Any])
_MARK: Final = "replog_kind"

__all__ = ["Context", "Method", "Parameter", "StateMachine", "Table", "command", "query", "decode_outcome"]


def command(function: F) -> F:
    """A method that may change the state. Its arguments are annotated; its result is what the client gets."""
    vars(function)[_MARK] = "command"
    return function


def query(function: F) -> F:
    """A method that only reads. A write in it is an error, and undone."""
    vars(function)[_MARK] = "query"
    return function


class Context:
    """What the replicas have agreed on besides the operation. Nothing else from outside may reach an application.

    `now`: microseconds since 1970, never less than in an earlier command. `random`: a generator that gives every
    replica the same numbers, others for every operation; who knows the log predicts them, so no lottery is fair.
    """

    __slots__ = ("now", "seed", "place", "_random", "_random_place")

    def __init__(self, now: int = 0, seed: bytes = b"", place: tuple[int, ...] = ()) -> None:
        """`place`: where in the log the operation stands."""
        self.now = now
        self.seed = seed
        self.place = place
        self._random: random.Random | None = None
        self._random_place: tuple[int, ...] = ()

    @property
    def random(self) -> random.Random:
        if self._random is None or self._random_place != self.place:
            digest = hashlib.blake2b(encode((self.seed, self.place)), digest_size=32).digest()
            self._random = random.Random(int.from_bytes(digest, "big"))
            self._random_place = self.place
        return self._random


# ---------------------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True)
class Parameter:
    name: str
    type: Any
    default: Any = MISSING

    def __str__(self) -> str:
        text = f"{self.name}: {_type_name(self.type)}"
        return text if self.default is MISSING else f"{text} = {self.default!r}"


@dataclass(frozen=True)
class Method:
    """One command or query. `call` is the struct an operation of it is decoded to: its fields are the arguments."""

    name: str
    kind: str
    parameters: tuple[Parameter, ...]
    returns: Any
    doc: str
    function: Callable[..., Any] = field(repr=False)
    call: type[msgspec.Struct] = field(repr=False)

    @property
    def reads(self) -> bool:
        return self.kind == "query"

    @property
    def signature(self) -> str:
        returns = "" if self.returns is MISSING else f" -> {_type_name(self.returns)}"
        return f"{self.name}({', '.join(map(str, self.parameters))}){returns}"


def _type_name(type_: Any) -> str:
    if type_ is type(None):
        return "None"
    return type_.__name__ if type(type_) is type else str(type_).replace("typing.", "")


def _method(owner: type, name: str, function: Callable[..., Any], kind: str) -> Method:
    """Raises TypeError, naming method and rule, for one that cannot be called by bytes."""
    where = f"{owner.__name__}.{name}"
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{where}: a {kind} is a plain function, neither async nor a generator")
    hints = get_type_hints(function, include_extras=True)
    parameters = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            raise TypeError(
                f"{where}: parameter {parameter.name}: only plain parameters, no *, ** or keyword-only ones"
            )
        if parameter.name not in hints:
            raise TypeError(f"{where}: parameter {parameter.name}: has no type")
        default = MISSING if parameter.default is inspect.Parameter.empty else parameter.default
        parameters.append(Parameter(parameter.name, hints[parameter.name], default))
    doc = inspect.getdoc(function) or ""
    call = _call_struct(where, name, parameters)
    return Method(name, kind, tuple(parameters), hints.get("return", MISSING), doc, function, call)


def _call_struct(where: str, name: str, parameters: Sequence[Parameter]) -> type[msgspec.Struct]:
    fields: list[Any] = [(p.name, p.type) if p.default is MISSING else (p.name, p.type, p.default) for p in parameters]
    try:
        call = msgspec.defstruct(
            "call_" + name, fields, tag=name, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True
        )
        msgspec.msgpack.Decoder(call)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where}: {error}") from None
    return call


def _methods_of(owner: type) -> dict[str, Method]:
    methods = {}
    for name in sorted(dir(owner)):
        function = inspect.getattr_static(owner, name)
        kind = vars(function).get(_MARK) if inspect.isfunction(function) else None
        if kind is not None:
            methods[name] = _method(owner, name, function, kind)
    return methods


# ------------------------------------------------------------------------------------------------------------ state


@dataclass(frozen=True)
class Field:
    """A small field. `initial` is its default, encoded."""

    kind: Kind
    initial: bytes


_RESERVED: Final = frozenset({"name", "version", "context"})


def _fields_of(owner: type) -> tuple[dict[str, Field], dict[str, tuple[Any, Any]]]:
    """(fields, tables with their key and value types). Raises TypeError for an attribute that is no state."""
    fields, tables = {}, {}
    for name, hint in get_type_hints(owner, include_extras=True).items():
        if name in _RESERVED or get_origin(hint) is ClassVar or hint is ClassVar:
            continue
        if name.startswith("_"):
            if name in StateMachine.__annotations__:
                continue
            raise TypeError(f"{owner.__name__}.{name}: the name of a state begins with a letter")
        if get_origin(hint) is Table:
            tables[name] = _checked_table(owner, name, hint)
        else:
            fields[name] = _field(owner, name, hint)
    return fields, tables


def _checked_table(owner: type, name: str, hint: Any) -> tuple[Any, Any]:
    key, value = get_args(hint)
    if hasattr(owner, name):
        raise TypeError(f"{owner.__name__}.{name}: a Table has no default")
    try:
        Table(key, value)
    except TypeError as error:
        raise TypeError(f"{owner.__name__}.{name}: {error}") from None
    return key, value


def _field(owner: type, name: str, hint: Any) -> Field:
    where = f"{owner.__name__}.{name}"
    if not hasattr(owner, name):
        raise TypeError(f"{where}: a field needs a default, the same on every replica")
    try:
        kind = Kind(hint)
        return Field(kind, kind.dump(kind.pack(getattr(owner, name))))
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{where}: {error}") from None


def _refuse_undeclared(owner: type) -> None:
    """A plain value in the class body is neither state nor code: it would be shared and not replicated."""
    declared = set(inspect.get_annotations(owner)) | _RESERVED
    for name, value in vars(owner).items():
        plain = callable(value) or isinstance(value, (property, staticmethod, classmethod))
        if not name.startswith("__") and name not in declared and not plain:
            raise TypeError(
                f"{owner.__name__}.{name}: an attribute is declared state (`{name}: {type(value).__name__} = ...`) "
                "or a constant (`ClassVar`)"
            )


_decode_outcome = msgspec.msgpack.Decoder(list[Any]).decode


def decode_outcome(outcome: bytes) -> Any:
    """The value of an outcome. Raises OperationFailed with the application's error, ValueError for no outcome."""
    try:
        kind, *rest = _decode_outcome(outcome)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"no outcome: {error}") from None
    if kind == 0 and len(rest) == 1:
        return rest[0]
    if kind == 1 and len(rest) == 2 and all(type(text) is str for text in rest):
        raise OperationFailed(*rest)
    raise ValueError("no outcome: neither [0, value] nor [1, type, text]")


# ---------------------------------------------------------------------------------------------------- the application


class StateMachine:
    """Base of applications.

    Invariant: what decides the result of a command is the declared state, the arguments and `context`, nothing else.
    """

    name: ClassVar[str] = ""
    """Under which clusters know it; the class's name in lower case unless given."""
    version: ClassVar[str] = "1"
    """Replicas of a cluster run one version."""
    context: Context

    _methods: ClassVar[dict[str, Method]] = {}
    _fields: ClassVar[dict[str, Field]] = {}
    _tables: ClassVar[dict[str, tuple[Any, Any]]] = {}
    _whole: ClassVar[bool] = False
    _decode: ClassVar[Any] = None
    _undo: Undo

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = cls.snapshot is not StateMachine.snapshot, cls.restore is not StateMachine.restore
        if own[0] != own[1]:
            raise TypeError(f"{cls.__name__}: snapshot and restore are overridden both or neither")
        if all(own):
            cls._whole, cls._fields, cls._tables = True, {}, {}
        else:
            _refuse_undeclared(cls)
            cls._fields, cls._tables = _fields_of(cls)
        if "name" not in vars(cls):
            cls.name = cls.__name__.lower()
        cls.version = str(cls.version)
        cls._methods = _methods_of(cls)
        if cls._methods:
            calls: Any = tuple(method.call for method in cls._methods.values())
            union: Any = calls[0]
            for call in calls[1:]:
                union = union | call
            cls._decode = msgspec.msgpack.Decoder(union).decode

    def __new__(cls, *_args: Any, **_options: Any) -> StateMachine:
        self = super().__new__(cls)
        attributes = vars(self)
        attributes["_undo"] = forgetful()
        attributes["context"] = Context()
        for name, field_ in cls._fields.items():
            attributes[name] = field_.kind.unpack(field_.kind.parse(field_.initial))
        for name, (key, value) in cls._tables.items():
            attributes[name] = Table(key, value)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if self._whole or name == "context":
            vars(self)[name] = value
            return
        field_ = self._fields.get(name)
        if field_ is None:
            rule = "is a Table: change its entries" if name in self._tables else "is not declared as state"
            raise AttributeError(f"{type(self).__name__}.{name} {rule}")
        kept = field_.kind.pack(value)
        self._undo.append((self, name, vars(self)[name]))
        vars(self)[name] = field_.kind.unpack(kept)

    def __delattr__(self, name: str) -> None:
        if not self._whole:
            raise AttributeError(f"{type(self).__name__}.{name}: state cannot be deleted")
        super().__delattr__(name)

    def put_back(self, name: str, value: Any) -> None:
        """Set a field to an earlier value, without noting it as a write to be undone."""
        vars(self)[name] = value

    # -------------------------------------------------------------------------------------- a form of one's own

    def snapshot(self) -> bytes:
        """Override, with `restore`, to keep state in a form of your own: all of it, equal for equal states."""
        raise NotImplementedError(f"{type(self).__name__} keeps declared state")

    def restore(self, data: bytes) -> None:
        """Override: become what `snapshot` gave `data` for."""
        raise NotImplementedError(f"{type(self).__name__} keeps declared state")

    # --------------------------------------------------------------------------------------------- for its callers

    @classmethod
    def operation(cls, method: str, *args: Any) -> bytes:
        """The operation that calls `method` with `args`. Raises TypeError unless they fit its signature."""
        known = cls._methods.get(method)
        if known is None or cls._decode is None:
            raise TypeError(f"{cls.name} has no method {method!r}; it has {', '.join(cls._methods) or 'none'}")
        try:
            operation = encode([method, *args])
            cls._decode(operation)
        except (msgspec.MsgspecError, OverflowError, TypeError, UnicodeEncodeError) as error:
            raise TypeError(f"{known.signature} does not take {args!r:.200}: {error}") from None
        return operation

    decode_outcome = staticmethod(decode_outcome)

    @classmethod
    def describe(cls) -> tuple[Method, ...]:
        """Its methods, by name."""
        return tuple(cls._methods.values())
