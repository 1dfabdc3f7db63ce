"""What the scripts do before they have a virtual environment."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("script", ["demo", "test"])
def test_a_virtual_environment_that_the_scripts_did_not_make_is_left_alone(tmp_path: Path, script: str) -> None:
    for folder in ("scripts", "requirements"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    own = tmp_path / ".venv" / "own"
    own.parent.mkdir()
    own.write_text("kept")
    done = subprocess.run([tmp_path / "scripts" / script], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{script}: {tmp_path}/.venv is here and was not made by this script")
    assert own.read_text() == "kept"
