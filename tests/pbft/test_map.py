"""The map in `pbft/README.md` leads somewhere: each function, broken core, transcript and test in it exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "nc": "test_normal_case",
    "vc": "test_view_change",
    "li": "test_liveness",
    "cp": "test_checkpoint",
    "rq": "test_requests",
    "ho": "test_hostile",
    "ch": "test_chance",
    "du": "test_durability",
    "rd": "test_reads",
    "te": "test_tentative",
    "ma": "test_macs",
    "st": "test_state_transfer",
}
KEYS = "|".join(FILES)


def rows(text: str) -> list[list[str]]:
    """Cells of the table of rules."""
    return [
        line.strip("|").split("|") for line in text.splitlines() if re.match(rf"\| [^|]+\| [^|]*\| ({KEYS})\b", line)
    ]


def named_tests(text: str) -> Iterator[tuple[str, str]]:
    for file, names in re.findall(rf"\b({KEYS}|go) ((?:`[^`]+`(?:, )?)+)", text):
        for name in re.findall(r"`([^`]+)`", names):
            yield file, name.rstrip("*")


def missing(text: str) -> list[str]:
    source = "\n".join(path.read_text() for path in sorted((ROOT / "pbft").glob("*.py")))
    tests = {key: (ROOT / "tests" / "pbft" / f"{name}.py").read_text() for key, name in FILES.items()}
    found = []
    for file, name in named_tests(text):
        golden = ROOT / "tests" / "golden" / "pbft" / f"{name}.txt"
        known = golden.is_file() if file == "go" else re.search(rf"def test_\w*{name}", tests[file]) is not None
        found += [] if known else [f"{file} {name}"]
    for cells in rows(text):
        for name in re.findall(r"`([\w.]+)`", cells[1]):
            last = name.rpartition(".")[2]
            if not re.search(rf"(def|class) {last}\b|\b{last}\b.* = |{last}:", source) and last != "messages":
                found.append(f"function {name}")
        for name in re.findall(r"`(\w+)`", cells[3]):
            if not any(f"class {name}(" in text for text in tests.values()):
                found.append(f"broken core {name}")
    return found


def test_the_map_leads_somewhere() -> None:
    text = (ROOT / "pbft" / "README.md").read_text()
    assert len(rows(text)) > 30
    assert not missing(text)


def test_a_wrong_turn_is_noticed() -> None:
    assert missing("| rule | `Ordering.no_such` | nc `no_such_test` | `NoSuchCore` |") == [
        "nc no_such_test",
        "function Ordering.no_such",
        "broken core NoSuchCore",
    ]
