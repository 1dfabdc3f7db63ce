"""The pages say what is there: links lead somewhere, names exist, and the maps from rules to tests are true.

Every check is run on a broken sample too. What the pages tell a reader to type is run by `test_readme.py`.
"""

import ast
import fnmatch
import importlib
import importlib.util
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from replog import protocols

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
PACKAGES = ("replog", "pbft", "raft", "compare")
PROTOCOLS = ("pbft", "raft")


def broken_links_in(page: Path) -> list[str]:
    """Relative links of a Markdown page that lead to no file or folder."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    return [target for target in targets if "://" not in target and not (page.parent / target).exists()]


PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "deploy/README.md", "pbft/README.md", "raft/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_broken(page: Path) -> None:
    assert not broken_links_in(page)


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[here](page.md), [away](https://example.org/), [gone](nowhere.md#part)")
    assert broken_links_in(page) == ["nowhere.md"]


def hazards_in(text: str) -> list[tuple[str, str]]:
    """(number, status) of each hazard in the tables of docs/hazards.md, in order."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [(row[0], row[-1]) for row in rows if re.fullmatch(r"[PRX]\d+", row[0])]


def untold_in(status: str) -> list[str]:
    """Tests that a status names and that do not exist; a status is `open`, `later`, or tests as `file.py::name`."""
    if status in ("open", "later"):
        return []
    named = re.findall(r"`([^`:]+)::([^`]+)`", status)
    wrong = [f"{file}::{name}" for file, name in named if not defines(TESTS / file, name)]
    return wrong if named else [status]


def defines(path: Path, name: str) -> bool:
    if not path.is_file():
        return False
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, functions) and node.name == name for node in ast.walk(ast.parse(path.read_text())))


def test_the_hazards_are_complete_and_name_tests_that_exist() -> None:
    hazards = hazards_in((ROOT / "docs" / "hazards.md").read_text())
    numbers = [f"{letter}{i}" for letter, last in (("P", 45), ("R", 29), ("X", 15)) for i in range(1, last + 1)]
    assert [number for number, _ in hazards] == numbers
    assert not {number: untold_in(status) for number, status in hazards if untold_in(status)}


def test_a_hazard_without_its_test_is_noticed() -> None:
    assert untold_in("`test_pages.py::test_gone`")
    assert untold_in("`gone.py::test_gone`")
    assert untold_in("surely")
    assert not untold_in("`test_pages.py::test_a_hazard_without_its_test_is_noticed`")


def cited_hazards_in(text: str) -> set[str]:
    """Numbers that a text cites as `HAZARDS P12, X3`."""
    cited = re.findall(r"HAZARDS ((?:[PRX]\d+(?:,\s*)?)+)", text)
    return {number for group in cited for number in re.findall(r"[PRX]\d+", group)}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_only_known_hazards_are_cited() -> None:
    known = {number for number, _ in hazards_in((ROOT / "docs" / "hazards.md").read_text())}
    cited = {
        number for package in PACKAGES for path in sources(package) for number in cited_hazards_in(path.read_text())
    }
    assert len(cited) > 30
    assert not cited - known


def test_a_citation_of_a_hazard_is_read() -> None:
    assert cited_hazards_in("as said (HAZARDS P7, P17) and HAZARDS X99.") == {"P7", "P17", "X99"}


def named_in(text: str) -> set[str]:
    """Dotted names of ours that a page writes in backticks: `replog.core`, `compare.mutants`, `replog.keys.Signer`."""
    return set(re.findall(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`", text))


def leads_nowhere(name: str) -> bool:
    """Whether a dotted name is no module, attribute or entry point group."""
    if name in entry_points().groups:
        return False
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.util.find_spec(name) is None and not hasattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return not hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_what_exists(page: Path) -> None:
    assert not [name for name in sorted(named_in(page.read_text())) if leads_nowhere(name)]


def test_a_name_that_leads_nowhere_is_noticed() -> None:
    assert named_in("see `replog.core`, `replog.codec.Domain` and `replog up`") == {
        "replog.core",
        "replog.codec.Domain",
    }
    assert leads_nowhere("replog.gone")
    assert leads_nowhere("replog.codec.Gone")
    assert not leads_nowhere("replog.codec.Domain")
    assert not leads_nowhere("replog.protocols")


def test_the_page_of_formats_names_every_message() -> None:
    specs = [protocols.find(name) for name in PROTOCOLS]
    kinds = {kind for spec in specs for codec in (spec.messages, spec.records) for kind in codec.kinds}
    text = (ROOT / "docs" / "formats.md").read_text()
    assert {kind.__struct_config__.tag for kind in kinds} == set(re.findall(r"`([A-Z]|[pr][a-zA-Z])`", text))
    assert not [kind.__name__ for kind in kinds if not re.search(rf"\b{kind.__name__}\b", text)]


# ------------------------------------------------------------------------------ from the rules of a protocol to tests


def rows_in(text: str) -> list[dict[str, str]]:
    """The rows of the tables that have a column `test`, by the name of the column."""
    rows, columns = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells or "test" in cells:
            columns = cells
        elif "test" in columns and not set(line) <= set("|-: "):
            rows.append(dict(zip(columns, cells, strict=False)))
    return rows


def quoted_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def held_in(folder: Path) -> dict[str, set[str]]:
    """File -> names of its tests; a transcript counts as a test of test_golden.py."""
    found = {}
    for path in sorted(folder.glob("test_*.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        found[path.name] = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    golden = (TESTS / "golden" / folder.name).glob("*.txt")
    found.setdefault("test_golden.py", set()).update(path.stem for path in golden)
    return found


def pattern_of(name: str) -> str:
    """Names on a page are shortened: `test_6_2_...` at the end, `prepared_takes` at both."""
    return name.replace("...", "*") if name.startswith("test_") else f"*{name}*"


def missing_tests(page: str, tests: dict[str, set[str]]) -> list[str]:
    """Tests that a map names and that are not there. `nc` before a name is a file, if the page says which."""
    files = dict(re.findall(r"`(\w\w)` (?:is )?`(test_\w+\.py)`", page))
    everywhere = {name for names in tests.values() for name in names} | set(tests)
    missing = []
    for row in rows_in(page):
        for part in re.split(r"[;,] (?=\w\w `)", row["test"]):
            names = tests[files[part[:2]]] if part[:2] in files else everywhere
            missing += [name for name in quoted_in(part) if not fnmatch.filter(names, pattern_of(name))]
    return missing


def missing_names(page: str, source: str) -> list[str]:
    """Classes, functions and broken cores that a map names and that the source does not hold."""
    words = set(re.findall(r"\w+", source))
    quoted = [
        name for row in rows_in(page) for key in ("function", "broken core") for name in quoted_in(row.get(key, ""))
    ]
    return [name for name in quoted if not set(re.findall(r"\w+", name)) <= words]


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "pbft"])
def test_the_map_of_a_protocol_names_what_is_there(protocol: str) -> None:
    """PBFT's has a test of its own, `pbft/test_map.py`: it leads to mutants as well, and beyond its own folder."""
    page = (ROOT / protocol / "README.md").read_text()
    places = [*(ROOT / protocol).glob("*.py"), *(TESTS / protocol).glob("*.py"), ROOT / "replog" / "core.py"]
    assert len(rows_in(page)) > 20
    assert not missing_tests(page, held_in(TESTS / protocol))
    assert not missing_names(page, "\n".join(path.read_text() for path in places))


def test_a_map_that_is_wrong_is_noticed() -> None:
    page = """`nc` is `test_normal.py`, `li` `test_live.py`
| rule | function | test | broken core |
|---|---|---|---|
| 1 | `Core.step`, `gone` | nc `in_order`, `lost`; li `in_order` | `Broken` |
| 2 | `Core` | `test_in_...`, `test_out_...` | |
"""
    tests = {"test_normal.py": {"test_in_order"}, "test_live.py": {"test_other"}}
    assert missing_tests(page, tests) == ["lost", "in_order", "test_out_..."]
    assert missing_names(page, "class Core:\n    def step(self): ...") == ["gone", "Broken"]
