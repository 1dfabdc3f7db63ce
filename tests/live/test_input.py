"""What a person types: bytes, numbers and texts that no operation can carry, and values that a terminal would obey."""

import os
import sys
from typing import Any

import pytest

from replog import StateMachine, command
from replog.apps.kv import KeyValue
from replog.cli import data, exits, output, run
from replog.errors import RequestTooLarge
from replog.live.arguments import Unencodable, WrongArguments, of_texts, of_values


class Zoo(StateMachine):
    @command
    def feed(self, count: int, name: str = "", tags: list[str] | None = None, raw: bytes = b"") -> None: ...


(FEED,) = Zoo.describe()
NO_UTF8 = os.fsdecode(b"a\xff")


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        (["18446744073709551616"], Unencodable, "count = 18446744073709551616: an integer must be within -2^63"),
        (["-9223372036854775809"], Unencodable, "count = -9223372036854775809: an integer"),
        (["9" * 5000], WrongArguments, "must be int"),
        (["1", NO_UTF8], Unencodable, r"name = 'a\udcff': text must be"),
        (["1", f'"{NO_UTF8}"'], Unencodable, "name = "),
        (["1", "x", r'["\ud800"]'], Unencodable, "tags = "),
        (["x"], WrongArguments, "count = 'x': must be int"),
        ([], WrongArguments, "0 arguments given, 1 to 4 taken"),
        (["1"] * 5, WrongArguments, "5 arguments given, 1 to 4 taken"),
    ],
)
def test_what_no_operation_can_carry_is_refused_with_the_signature(
    texts: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as told:
        of_texts(FEED, texts)
    assert words in str(told.value)
    assert str(told.value).endswith(f"; {FEED.signature}")


def test_one_argument_is_no_arguments() -> None:
    put = next(method for method in KeyValue.describe() if method.name == "put")
    with pytest.raises(WrongArguments, match=r"^1 argument given, 2 taken"):
        of_texts(put, ["x"])


def test_what_can_be_carried_arrives_as_it_was_typed() -> None:
    assert of_texts(FEED, ["18446744073709551615", "1", '["ä"]', NO_UTF8]) == [2**64 - 1, "1", ["ä"], b"a\xff"]
    assert of_values(FEED, {"count": -(2**63)})[0] == -(2**63)


@pytest.mark.parametrize("value", [2**64, "\ud800", object()])
def test_an_operation_that_cannot_be_encoded_does_not_fit(value: Any) -> None:
    with pytest.raises(TypeError, match=r"put\(key: str, value: str\) -> None does not take"):
        KeyValue.operation("put", "x", value)


@pytest.mark.parametrize(
    ("words", "name"),
    [(("put", NO_UTF8, "1"), "KEY"), (("put", "x", NO_UTF8), "VALUE"), (("scan", NO_UTF8), "PREFIX")],
)
def test_keys_and_values_are_utf8(words: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kv", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert r"'a\udcff' is not UTF-8" in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 漢字", "plain äöü 漢字"),
        ("\x1b[31m\t\r\n", r"\x1b[31m\t\r\n"),
        ("\u202eevil\x9b\x7f", r"\u202eevil\x9b\x7f"),
        (r"C:\new", r"C:\new"),
    ],
)
def test_a_terminal_obeys_no_value(text: str, shown: str) -> None:
    assert output.visible(text) == shown


def test_a_value_goes_into_a_pipe_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data._shown("\x1b[31m\n") == "\x1b[31m\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert data._shown("\x1b[31m\n") == "\\x1b[31m\n"


def test_a_request_that_is_too_large_is_wrong_usage() -> None:
    assert exits.code_of(RequestTooLarge("divide it")) is exits.ExitCode.WRONG_USAGE


def test_a_group_without_a_command_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kv"]) == 2
    assert "Example: replog kv put x 1" in capsys.readouterr().out
