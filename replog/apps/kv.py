"""The key-value store: strings to strings."""

from __future__ import annotations

from replog.statemachine import StateMachine, Table, command, query


class KeyValue(StateMachine):
    """Keys and values are strings; a key that was never put, or was deleted, has the value None."""

    name = "kv"
    data: Table[str, str]

    @command
    def put(self, key: str, value: str) -> None:
        """Set `key` to `value`."""
        self.data[key] = value

    @query
    def get(self, key: str) -> str | None:
        """The value of `key`, None if there is none."""
        return self.data.get(key)

    @command
    def delete(self, key: str) -> bool:
        """Remove `key`. Whether it was there."""
        return self.data.pop(key, None) is not None

    @command
    def cas(self, key: str, expected: str | None, value: str) -> bool:
        """Set `key` to `value` if its value is `expected` (None: if it has none). Whether it was done."""
        if self.data.get(key) != expected:
            return False
        self.data[key] = value
        return True

    @command
    def append(self, key: str, value: str) -> str:
        """Add `value` to the end of what `key` has. The new value."""
        after: str = self.data.get(key, "") + value
        self.data[key] = after
        return after

    @query
    def scan(self, prefix: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        """The keys that begin with `prefix` and their values, in order of keys, the first `limit` of them."""
        return self.data.scan(prefix, max(0, limit))
