"""Options and fixtures for all tests."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parent / "golden"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begin first, so that no worker is left alone with one in the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write golden transcripts anew; read them as a diff")


def pytest_configure() -> None:
    """A shell that starts the tests in the background may have told them to ignore Ctrl-C, which some of them raise."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("pbft/name", text)`: `text` is what `tests/golden/pbft/name.txt` holds, or becomes it with --rewrite."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--rewrite"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        assert path.is_file(), f"{path} is missing: run pytest --rewrite and read it"
        wanted = path.read_text()
        lines = difflib.unified_diff(wanted.splitlines(), text.splitlines(), "golden", "now", lineterm="")
        assert text == wanted, "\n".join(lines)

    return check
