"""The map in `pbft/README.md`: each rule of `docs/pbft-rules.md` leads to functions, tests and mutants that exist and
belong together. That the tests fail with the mutants is shown in `test_mutants.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.pbft.mutants import FILES, functions_of, load, owner_of

ROOT = Path(__file__).resolve().parents[2]
RULE = re.compile(r"\b(?:\d(?:\.\d)?[a-z]|CL02[a-z]|D\d+)\b")
NOT_YET = "## What is not there yet"


class Row(NamedTuple):
    rule: str
    functions: list[str]
    tests: list[str]
    """As a mutant names them: a file and a part of a name."""
    mutants: list[str]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rows_of(page: str) -> list[Row]:
    """The rows of all tables that have a column `mutant`."""
    rows, inside = [], False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        inside = "mutant" in cells or (inside and bool(cells))
        if inside and "mutant" not in cells and not set(line) <= set("|-: "):
            rows.append(Row(cells[0], quoted(cells[1]), named_in(cells[2]), quoted(cells[3])))
    return rows


def named_in(cell: str) -> list[str]:
    """``nc `a`, `b`; li `c` `` -> ["nc a", "nc b", "li c"]"""
    return [f"{part.strip()[:2]} {name}" for part in cell.split(";") for name in quoted(part)]


def exists(test: str) -> bool:
    file, _, name = test.partition(" ")
    if file == "go" and (ROOT / "tests" / "golden" / "pbft" / f"{name}.txt").is_file():
        return True
    return file in FILES and bool(functions_of(test))


def function_exists(name: str) -> bool:
    try:
        owner_of(name)
    except LookupError:
        return False
    return True


def wrong_in(row: Row) -> list[str]:
    """What of a row leads nowhere, or does not belong to it."""
    known = load()
    wrong = [f"no test {test}" for test in row.tests if not exists(test)]
    wrong += [f"no function {name}" for name in row.functions if not function_exists(name)]
    wrong += [] if row.mutants and row.functions and row.tests else ["a row has functions, tests and mutants"]
    for name in row.mutants:
        mutant = known.get(name)
        if mutant is None:
            wrong.append(f"no mutant {name}")
        elif mutant.target not in row.functions:
            wrong.append(f"{name} breaks {mutant.target}, which is no function of its row")
        elif not set(found(mutant.test)) & {test for named in row.tests if exists(named) for test in found(named)}:
            wrong.append(f"{name} is caught by {mutant.test}, which is no test of its row")
    return wrong


def found(test: str) -> list[str]:
    return [f"{test[:2]} {name}" for name, _ in functions_of(test)] if test[:2] in FILES else []


def rules_of(page: str) -> set[str]:
    """What `docs/pbft-rules.md` has in bold, less what it says is not there yet."""
    told, _, later = page.partition(NOT_YET)
    return {rule for bold in re.findall(r"\*\*([^*]+)\*\*", told) for rule in RULE.findall(bold)} - set(
        RULE.findall(later)
    )


def mapped(rows: Iterable[Row]) -> set[str]:
    return {rule for row in rows for rule in RULE.findall(row.rule)}


def test_the_map_leads_somewhere() -> None:
    rows = rows_of((ROOT / "pbft" / "README.md").read_text())
    assert len(rows) > 60
    assert not [wrong for row in rows for wrong in wrong_in(row)]


def test_every_rule_and_every_mutant_is_in_the_map() -> None:
    rows = rows_of((ROOT / "pbft" / "README.md").read_text())
    told = (ROOT / "docs" / "pbft-rules.md").read_text()
    assert len(rules_of(told)) > 50
    assert rules_of(told) - mapped(rows) == set()
    bold = {rule for text in re.findall(r"\*\*([^*]+)\*\*", told) for rule in RULE.findall(text)}
    assert mapped(rows) - bold == set(), "rules that the page does not have"
    assert set(load()) == {name for row in rows for name in row.mutants}


def hazards_of(rows: Iterable[Row]) -> set[str]:
    """P and X numbers in the first column; P22-P24 are three."""
    found = set()
    for row in rows:
        for letter, first, last in re.findall(r"\b([PX])(\d+)(?:-[PX](\d+))?", row.rule):
            found |= {f"{letter}{number}" for number in range(int(first), int(last or first) + 1)}
    return found


LATER = {"P38"}
"""The floor for throughput."""


def test_every_hazard_of_pbft_is_in_the_map_and_no_other_is_to_come() -> None:
    mapped_hazards = hazards_of(rows_of((ROOT / "pbft" / "README.md").read_text()))
    assert {f"P{number}" for number in range(1, 46)} - mapped_hazards == LATER
    page = (ROOT / "docs" / "hazards.md").read_text()
    told = dict(re.findall(r"^\| ([PX]\d+) \|.*\| ([^|]+) \|$", page, re.MULTILINE))
    assert len(told) == 45 + 15
    assert {number for number, status in told.items() if re.search(r"\b(later|open)\b", status)} == LATER


def test_what_the_page_says_beside_its_tables_exists_too() -> None:
    page = (ROOT / "pbft" / "README.md").read_text()
    said = re.findall(rf"\b({'|'.join(FILES)}) ((?:`[^`]+`(?:,\s)?)+)", page)
    named = [f"{file} {name}" for file, names in said for name in quoted(names)]
    assert len(named) > 150
    assert not [test for test in named if not exists(test)]


def test_the_page_says_where_its_tests_are() -> None:
    page = (ROOT / "pbft" / "README.md").read_text()
    said = dict(re.findall(r"`(\w\w)`\s(?:the transcripts of\s)?`(test_\w+)\.py`", page))
    assert said == {key: file.rpartition("/")[2] for key, file in FILES.items()}


def test_a_wrong_turn_is_noticed() -> None:
    (row,) = rows_of(
        "| rule | function | test | mutant |\n|---|---|---|---|\n"
        "| 9.9z | `Ordering.no_such` | nc `no_such_test`; go `no-such` | `no_such_mutant`, `prepares_too_soon` |"
    )
    assert wrong_in(row) == [
        "no test nc no_such_test",
        "no test go no-such",
        "no function Ordering.no_such",
        "no mutant no_such_mutant",
        "prepares_too_soon breaks Ordering.is_prepared, which is no function of its row",
    ]
    assert wrong_in(Row("4.2f", ["Ordering.is_prepared"], ["nc only_the_primary_proposes"], ["prepares_too_soon"]))
    assert wrong_in(Row("4.2f", ["Ordering.is_prepared"], ["nc prepared_takes_quorum_less_one"], []))
    assert mapped([row]) == {"9.9z"} == {"9.9z"} - rules_of("**4.2f** one **D4 Other.** two")
