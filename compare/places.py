"""Where in a TOML file a value stands, so that an error can name its line.

For files in the usual form: one key a line, or a table in braces on one line, whose keys are all on that line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[int | str, ...]


class At(ValueError):
    """A rule that a value breaks which stands deeper than where the rule is checked."""

    def __init__(self, where: Path, value: object, rule: str) -> None:
        super().__init__(f"{'.'.join(map(str, where))} = {value!r:.80}: {rule}")
        self.where = where
        self.value = value
        self.rule = rule


def place(text: str, loc: Path) -> tuple[int, str]:
    """The line on which the longest known beginning of `loc` is set, and `loc` as a path."""
    lines = dict(_lines(text))
    known = next((loc[:size] for size in range(len(loc), 0, -1) if loc[:size] in lines), ())
    return lines.get(known, 1), ".".join(str(part) for part in loc)


def _lines(text: str) -> Iterator[tuple[Path, int]]:
    """(path, line number) of each table and key."""
    table: Path = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", line)
        if header:
            table = _table(header[1], header[2], counts)
            yield table, number
        elif key := re.match(r"\s*([\w\"'.-]+)\s*=", line):
            yield (*table, *(part.strip("\"'") for part in key[1].split("."))), number


def _table(bracket: str, name: str, counts: dict[str, int]) -> Path:
    """The path of a header. `[timeline.options]` belongs to the last `[[timeline]]`."""
    parts = [part.strip(" \"'") for part in name.split(".")]
    if bracket == "[[":
        counts[name] = counts.get(name, -1) + 1
    path: list[int | str] = []
    for size, part in enumerate(parts, 1):
        path.append(part)
        if (whole := ".".join(parts[:size])) in counts:
            path.append(counts[whole])
    return tuple(path)
