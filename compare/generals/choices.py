"""Everything that could be done at all: a run that asks what to do is repeated until each answer was given.

As a model checker does it, without keeping states: the answers of one run are a path, the next run takes the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """The answers of one run. Invariant: `_taken` and `_ways` are of the same questions, in order."""

    def __init__(self, script: Sequence[int] = ()) -> None:
        self._script = list(script)
        self._taken: list[int] = []
        self._ways: list[int] = []

    def choose(self, options: Sequence[T]) -> T:
        place = len(self._taken)
        answer = self._script[place] if place < len(self._script) else 0
        self._taken.append(answer)
        self._ways.append(len(options))
        return options[answer]

    def following(self) -> Choices | None:
        """The next path; None after the last."""
        for place in range(len(self._taken) - 1, -1, -1):
            if self._taken[place] + 1 < self._ways[place]:
                return Choices([*self._taken[:place], self._taken[place] + 1])
        return None


def everything() -> Iterator[Choices]:
    """Each is to be used in one whole run before the next is asked for."""
    choices: Choices | None = Choices()
    while choices is not None:
        yield choices
        choices = choices.following()
