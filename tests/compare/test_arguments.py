"""Wrong arguments of `python -m compare.NAME` get one line that names argument, value and rule."""

from __future__ import annotations

import argparse
from types import ModuleType

import pytest

from compare import accountability, membership, robustness
from compare.arguments import seconds, whole


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (accountability, ["--runs", "0"], "argument --runs: '0': must be a whole number, 1 or more"),
        (accountability, ["--real", "-1"], "argument --real: '-1': must be a whole number, 0 or more"),
        (accountability, ["--workers", "0"], "argument --workers: '0': must be a whole number, within 1 .. 1024"),
        (accountability, ["--workers", "9" * 5000], "argument --workers: '999"),
        (accountability, ["none"], "argument SCENARIO: 'none': no such scenario; see replog compare list scenarios"),
        (membership, ["--runs", "0"], "argument --runs: '0': must be a whole number, 1 or more"),
        (membership, ["--first", "-1"], "argument --first: '-1': must be a whole number, 0 or more"),
        (membership, ["--workers", "0"], "argument --workers: '0': must be a whole number, within 1 .. 1024"),
        (robustness, ["--seconds", "nan"], "argument --seconds: 'nan': must be a number of seconds above 0"),
        (robustness, ["--seconds", "0"], "argument --seconds: '0': must be a number of seconds above 0"),
        (robustness, ["--workers", "1025"], "argument --workers: '1025': must be a whole number, within 1 .. 1024"),
        (robustness, ["none"], "argument ATTACK: 'none': no such attack; there are big-mac, bursts, censor,"),
        (robustness, ["--live", "bursts"], "argument ATTACK: 'bursts': no such attack with --live; there are big-mac,"),
    ],
)
def test_a_wrong_argument(
    command: ModuleType, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    assert end.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", "1e999"])
def test_a_time_ends(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}': must be a number of seconds above 0"):
        seconds(text)


def test_what_is_right_is_read() -> None:
    assert (seconds("0.5"), whole(0)("0"), whole(1, 3)("3")) == (0.5, 0, 3)
