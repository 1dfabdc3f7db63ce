"""Histories as lines, and what a wrong line is told."""

from pathlib import Path

import pytest

from compare.history import Call, Refusal, read, to_line, write
from replog.errors import ConfigError

CALLS = [
    Call("a", "a/0", "put", ("x", "1"), 5, timestamp=3, returned=9, outcome=None, index=4, vouchers=(0, 2)),
    Call("a", "a/1", "get", ("x",), 6, timestamp=4, position=1),
    Call("b", "b/0", "add", ("x",), 7, timestamp=1, returned=8, outcome=Refusal("TypeError", "no")),
]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "history.jsonl", CALLS)
    assert list(read(tmp_path / "history.jsonl")) == CALLS


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"client": "a"}', "nonsense"])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(to_line(CALLS[0]) + "\n" + line + "\n")
    with pytest.raises(ConfigError, match=r"history\.jsonl:2: not a line of a history"):
        list(read(path))
