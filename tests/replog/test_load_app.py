"""An application is the user's code: whatever its file raises is told in one line, with the line that raised it."""

import sys
from pathlib import Path

import pytest

from replog.config import load_app
from replog.errors import ConfigError

BROKEN = {
    "import": ("import math\nimport no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'", 2),
    "name": ("\n\nNone + one\n", "NameError: name 'one' is not defined", 3),
    "file": ("open('/nowhere/at/all')\n", "FileNotFoundError: [Errno 2] No such file or directory", 1),
    "state": (
        "from replog import StateMachine\nclass App(StateMachine):\n    coins: int\n",
        "TypeError: App.coins: a field needs a default",
        2,
    ),
    "lines": ("raise RuntimeError('one\\ntwo')\n", "RuntimeError: one two", 1),
    "exit": ("import sys\ndef stop():\n    sys.exit(0)\nstop()\n", "SystemExit: 0", 4),
    "class": ("class App(:\n", "SyntaxError: ", 1),
    "bytes": ("x = '\0'\n", "", 0),
    "lazy": ("def __getattr__(name):\n    raise LookupError(name)\n", "LookupError: App", 2),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_an_application_raises_is_told_with_its_line(kind: str, tmp_path: Path) -> None:
    source, words, line = BROKEN[kind]
    path = tmp_path / "app.py"
    path.write_text(source)
    with pytest.raises(ConfigError) as told:
        load_app(f"{path}:App")
    text = str(told.value)
    assert text.startswith(f"app = '{path}:App': it does not load: {words}")
    assert not line or text.endswith(f"(app.py, line {line})")
    assert "\n" not in text
    assert "replog_app_app" not in sys.modules or kind == "lazy"


def test_a_module_that_fails_is_told_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "till.py").write_text("1 / 0\n")
    (tmp_path / "shop.py").write_text("import till\n")
    with pytest.raises(ConfigError, match=r"ZeroDivisionError: division by zero \(shop\.py, line 1\)$"):
        load_app("shop:Shop")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "app.py").write_text("")
    monkeypatch.setattr("importlib._bootstrap_external.SourceFileLoader.get_data", refuse)
    with pytest.raises(ConfigError, match=r"it does not load: PermissionError: \[Errno 13\] Permission denied"):
        load_app(f"{tmp_path / 'app.py'}:App")
