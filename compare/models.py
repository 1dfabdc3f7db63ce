"""What an application should answer, as judges know it: a small sequential model, independent of the code they judge.

A state is hashable and never changed. `apply(state, call)` gives the next state and the outcome. A call is judged in
the smallest part of the state that it can touch: one key for most of the key-value store, all keys with a prefix for a
`scan`. The same `apply` works on a part and on the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from compare.history import Call, Refusal

State = tuple[tuple[str, Any], ...]
"""Sorted (key, value) pairs."""


class Model(Protocol):
    name: str
    initial: Any
    """The state in which every part begins."""
    whole: Any
    """The state in which the whole begins."""

    def apply(self, state: Any, call: Call) -> tuple[Any, Any]: ...

    def reads(self, call: Call) -> bool:
        """Whether the call never changes anything."""
        ...

    def idle(self, call: Call) -> bool:
        """Whether a call with this outcome changed nothing, whatever the state was."""
        ...

    def same(self, accepted: Any, expected: Any) -> bool:
        """Whether the outcome a client accepted is the one that the model gives."""
        ...

    def partition(self, calls: Sequence[Call]) -> Iterator[tuple[str, list[Call]]]:
        """Parts that can be judged apart, each with a name for a person, calls in their given order."""
        ...


def same(accepted: Any, expected: Any) -> bool:
    """Equal, lists and tuples alike; a refusal is equal to one of the same type, whatever its words."""
    if isinstance(expected, Refusal) or isinstance(accepted, Refusal):
        return isinstance(expected, Refusal) and isinstance(accepted, Refusal) and accepted.type == expected.type
    if isinstance(expected, (list, tuple)) and isinstance(accepted, (list, tuple)):
        return len(accepted) == len(expected) and all(map(same, accepted, expected))
    return bool(accepted == expected) and isinstance(accepted, bool) == isinstance(expected, bool)


class KeyValueModel:
    """`replog.apps.kv`: put, get, delete, cas, append, scan."""

    name = "kv"
    initial: State = ()
    whole: State = ()
    _READS: Final = frozenset({"get", "scan"})

    def apply(self, state: State, call: Call) -> tuple[State, Any]:
        return getattr(self, f"_{call.method}")(state, *call.args)  # type: ignore[no-any-return]

    def reads(self, call: Call) -> bool:
        return call.method in self._READS

    def idle(self, call: Call) -> bool:
        """A read, a comparison that failed, a delete of nothing, a refusal."""
        return self.reads(call) or call.outcome is False or isinstance(call.outcome, Refusal)

    def same(self, accepted: Any, expected: Any) -> bool:
        return same(accepted, expected)

    def is_cell(self, calls: Sequence[Call]) -> bool:
        return all(call.method != "scan" for call in calls)

    def is_blind(self, call: Call) -> bool:
        return (call.method == "put" and self.same(call.outcome, None)) or (call.method == "delete" and not call.known)

    def tells(self, call: Call) -> tuple[tuple[State, ...] | None, bool]:
        """Of a refusal nothing is known, and an outcome that cannot be tells nothing."""
        key = call.args[0]
        if call.method == "get":
            return (_cell(key, call.outcome),), True
        if call.method == "cas":
            return (_cell(key, call.args[1]),), call.outcome is not False
        if call.method == "delete":
            return ((),), call.outcome is False
        return None, False

    def _get(self, state: State, key: str) -> tuple[State, Any]:
        return state, _value(state, key)

    def _put(self, state: State, key: str, value: str) -> tuple[State, Any]:
        return _with(state, key, value), None

    def _delete(self, state: State, key: str) -> tuple[State, Any]:
        return _with(state, key, None), _value(state, key) is not None

    def _cas(self, state: State, key: str, expected: str | None, value: str) -> tuple[State, Any]:
        if _value(state, key) != expected:
            return state, False
        return _with(state, key, value), True

    def _append(self, state: State, key: str, value: str) -> tuple[State, Any]:
        after = (_value(state, key) or "") + value
        return _with(state, key, after), after

    def _scan(self, state: State, prefix: str = "") -> tuple[State, Any]:
        return state, [pair for pair in state if pair[0].startswith(prefix)]

    def partition(self, calls: Sequence[Call]) -> Iterator[tuple[str, list[Call]]]:
        prefixes = _outermost({call.args[0] for call in calls if call.method == "scan"})
        parts: dict[str, list[Call]] = {}
        for call in calls:
            key = call.args[0]
            joined = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
            name = f"key {key!r}" if joined is None else f"keys {joined}*, joined by a scan"
            parts.setdefault(name, []).append(call)
        yield from sorted(parts.items())


def _outermost(prefixes: set[str]) -> list[str]:
    """Those prefixes that no other one covers."""
    return sorted(p for p in prefixes if not any(p != other and p.startswith(other) for other in prefixes))


def _value(state: State, key: str) -> Any:
    return next((value for name, value in state if name == key), None)


def _cell(key: str, value: Any) -> State:
    return () if value is None else ((key, value),)


def _with(state: State, key: str, value: Any) -> State:
    if len(state) == 1 and state[0][0] == key:
        return () if value is None else ((key, value),)
    rest = [pair for pair in state if pair[0] != key]
    return tuple(rest if value is None else sorted([*rest, (key, value)]))


class BankModel:
    """`replog.apps.bank`: deposit, withdraw, transfer, balance, total. A transfer touches two accounts, a total all of
    them: there is one part."""

    name = "bank"
    initial: State = ()
    whole: State = ()
    _READS: Final = frozenset({"balance", "total"})

    def apply(self, state: State, call: Call) -> tuple[State, Any]:
        try:
            return getattr(self, f"_{call.method}")(state, *call.args)  # type: ignore[no-any-return]
        except _Refused as refused:
            return state, Refusal(refused.args[0], "")

    def reads(self, call: Call) -> bool:
        return call.method in self._READS

    def idle(self, call: Call) -> bool:
        return self.reads(call) or isinstance(call.outcome, Refusal)

    def same(self, accepted: Any, expected: Any) -> bool:
        return same(accepted, expected)

    def _deposit(self, state: State, account: str, amount: int) -> tuple[State, Any]:
        after = (_value(state, account) or 0) + amount
        return _with(state, account, after), after

    def _withdraw(self, state: State, account: str, amount: int) -> tuple[State, Any]:
        after = _covered(state, account, amount) - amount
        return _with(state, account, after), after

    def _transfer(self, state: State, source: str, target: str, amount: int) -> tuple[State, Any]:
        less = _with(state, source, _covered(state, source, amount) - amount)
        after = _with(less, target, _balance(less, target) + amount)
        return after, _value(after, source)

    def _balance(self, state: State, account: str) -> tuple[State, Any]:
        return state, _balance(state, account)

    def _total(self, state: State) -> tuple[State, Any]:
        return state, sum(balance for _, balance in state)

    def partition(self, calls: Sequence[Call]) -> Iterator[tuple[str, list[Call]]]:
        yield "all accounts", list(calls)


class _Refused(Exception):
    """The application's own exception, by name."""


def _balance(state: State, account: str) -> int:
    balance = _value(state, account)
    if balance is None:
        raise _Refused("NoSuchAccount")
    return int(balance)


def _covered(state: State, account: str, amount: int) -> int:
    balance = _balance(state, account)
    if balance < amount:
        raise _Refused("InsufficientFunds")
    return balance


MODELS: Final[Mapping[str, Model]] = {model.name: model for model in (KeyValueModel(), BankModel())}
