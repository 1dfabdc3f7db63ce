"""The page that teaches: `examples/four_cores.py` runs and says what it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "four_cores.py"


def test_four_cores_by_hand() -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=True)
    assert "the counter is 5\n" in done.stdout
    assert "the counter is 7 " in done.stdout
    assert "is in view 1: node 0 was silent for" in done.stdout
    source = EXAMPLE.read_text()
    assert "import asyncio" not in source
    assert len(source.splitlines()) <= 100
