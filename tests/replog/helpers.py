"""Signed requests and their outcomes, in few words."""

from __future__ import annotations

from typing import Any

from replog.codec import Domain
from replog.errors import OperationFailed
from replog.executor import Executor
from replog.merkle import EMPTY, value_differences
from replog.statemachine import StateMachine, decode_outcome
from replog.types import READ_ONLY, Request, decode_results

DOMAIN = Domain("test")
SEED = b"s" * 32


def request(timestamp: int, *operations: bytes, client: str = "c", low: int = 0, read_only: bool = False) -> Request:
    """Signed by nobody: an executor takes what a core has verified."""
    flags = READ_ONLY if read_only else 0
    return Request.make(lambda _: b"", DOMAIN, client, timestamp, low, list(operations), flags)


def value_of(outcome: bytes) -> Any:
    """The value, or the type of the error."""
    try:
        return decode_outcome(outcome)
    except OperationFailed as error:
        return error.type


def values_of(results: bytes | None) -> list[Any]:
    assert results is not None
    return [value_of(outcome) for outcome in decode_results(results).outcomes]


def apply(executor: Executor, *requests: Request, time: int = 0) -> list[list[Any] | None]:
    """The next index; the values of each request, None where nothing was executed."""
    results = executor.apply(executor.index + 1, requests, time, SEED)
    return [None if result.results is None else values_of(result.results) for result in results]


class Caller:
    """Calls methods of an application by index after index, one operation a request."""

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self.executor = Executor(machine)
        self.timestamp = 0

    def __call__(self, method: str, *args: Any) -> Any:
        """The value, or the type of the error."""
        return self.raw(self.machine.operation(method, *args))

    def raw(self, operation: bytes, time: int = 0) -> Any:
        return value_of(self.outcome(operation, time))

    def outcome(self, operation: bytes, time: int = 0) -> bytes:
        self.timestamp += 1
        sent = request(self.timestamp, operation, low=self.timestamp - 1)
        (result,) = self.executor.apply(self.executor.index + 1, [sent], time, SEED)
        assert result.results is not None
        return decode_results(result.results).outcomes[0]

    def ask(self, method: str, *args: Any) -> Any:
        (results,) = self.executor.query([request(1, self.machine.operation(method, *args), read_only=True)])
        return values_of(results)[0]

    def state(self) -> dict[bytes, bytes]:
        """The application's records; those of sessions and time are left out."""
        self.executor.digest()
        records = value_differences(EMPTY, self.executor._root)
        return {key: value for key, value in records if key[:1] not in (b"\x00", b"\x02") and value is not None}
