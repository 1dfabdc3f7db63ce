"""The smallest application: one number."""

from __future__ import annotations

from replog.statemachine import StateMachine, command, query


class Counter(StateMachine):
    total: int = 0

    @command
    def add(self, amount: int = 1) -> int:
        """Add `amount`. The new total."""
        self.total += amount
        return self.total

    @query
    def value(self) -> int:
        """The total."""
        return self.total
