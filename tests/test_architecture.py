"""The directions of the house, held by machine: who may import whom, and what no file may hold.

Each check is a function over text or over a tree of files, run once on the project and once on a sample that breaks
the rule, so that a check which finds nothing has been seen to find something. Contracts over chains of imports are
import-linter's (`scripts/check`); here they are run on small broken packages.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("replog", "pbft", "raft", "compare")
PROTOCOLS = ("pbft", "raft")

# What a protocol may know of the common ground. Anything else of `replog` is one of the two worlds, or leads there.
PROTOCOL_FACING = {
    "replog.core",
    "replog.types",
    "replog.quorum",
    "replog.codec",
    "replog.keys",
    "replog.authenticators",
    "replog.client",
    "replog.membership",
}

# Time, chance, files, tasks and diagnostics are handed to a protocol or asked for as an effect, never taken.
WORLD = {
    "aiohttp",
    "asyncio",
    "concurrent",
    "datetime",
    "importlib",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "pickle",
    "random",
    "secrets",
    "select",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
    "uvloop",
}
WORLD_CALLS = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} has no source to check"
    return found


def imported_modules(source: str, module: str = "") -> Iterator[tuple[int, str]]:
    """(line, dotted name) for each import; `from a import b` counts as `a.b`, since b may be a module.

    `module` is the dotted name of the file that holds `source`; relative imports are read against it.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{prefix}.{alias.name}"


def world_in(source: str, module: str = "") -> list[str]:
    """Every place at which a protocol's source reaches for the outside world."""
    tree = ast.parse(source)
    found = [f"line {line}: imports {name}" for line, name in imported_modules(source, module) if top(name) in WORLD]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WORLD_CALLS:
            found.append(f"line {node.lineno}: calls {node.func.id}")
    return found


def strangers_in(source: str, module: str) -> list[str]:
    """Imports of the project's own packages that a protocol's module may not make."""
    found = []
    for line, name in imported_modules(source, module):
        own = top(name) == top(module)
        facing = any(name == allowed or name.startswith(allowed + ".") for allowed in PROTOCOL_FACING)
        if top(name) in PACKAGES and not own and not facing:
            found.append(f"line {line}: {module} imports {name}")
    return found


def guarding_asserts_in(source: str) -> list[str]:
    """Asserts that call what looks like a security check: they are gone under `python -O`."""
    guards = re.compile(r"verif|authentic|signature|certif|forge|trust|permit|allowed", re.IGNORECASE)
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            for call in ast.walk(node.test):
                if isinstance(call, ast.Call) and guards.search(ast.unparse(call.func)):
                    found.append(f"line {node.lineno}: assert on {ast.unparse(call.func)}")
    return found


def machine_traces_in(text: str) -> list[str]:
    """Names of package indexes and paths of one machine: a clone works anywhere and does not say where it was made."""
    # The patterns are written in pieces, so that this file passes its own check.
    patterns = (
        r"py" + r"pi\.(?:org|python)",
        r"python" + r"hosted",
        r"--(?:extra-)?" + r"index-url|--find" + r"-links",
        r"file:" + r"//",
        r"(?<![\w.])/(?:ho" + r"me|Us" + r"ers)/\w",
        r"(?<![\w.])/(?:ro" + r"ot|wo" + r"rk)/",
        r"[A-Z]:\\{1,2}Us" + r"ers",
    )
    return [match.group() for pattern in patterns for match in re.finditer(pattern, text)]


def top(name: str) -> str:
    return name.partition(".")[0]


def dotted(path: Path) -> str:
    """Dotted name of a file; a package's own file counts as `package.__init__`, so that `from .` means the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("package", PROTOCOLS)
def test_a_protocol_takes_nothing_from_the_world(package: str) -> None:
    found = {str(path): world_in(path.read_text(), dotted(path)) for path in sources(package)}
    assert not {path: lines for path, lines in found.items() if lines}


@pytest.mark.parametrize(
    "sample",
    [
        "import time",
        "import os.path as p",
        "from random import Random",
        "def late():\n    from asyncio import sleep",
        "import logging, math",
        "__import__('socket')",
        "from importlib import import_module",
        "print('seen')",
    ],
)
def test_reaching_for_the_world_is_noticed(sample: str) -> None:
    assert world_in(sample)


@pytest.mark.parametrize("package", PROTOCOLS)
def test_a_protocol_imports_only_what_faces_it(package: str) -> None:
    found = {str(path): strangers_in(path.read_text(), dotted(path)) for path in sources(package)}
    assert not {path: lines for path, lines in found.items() if lines}


@pytest.mark.parametrize(
    "sample",
    [
        "import raft",
        "from raft.core import RaftCore",
        "from replog.live import node",
        "from replog import LocalCluster",
        "import replog.storage",
        "import compare.attacks",
    ],
)
def test_a_stranger_is_noticed(sample: str) -> None:
    assert strangers_in(sample, "pbft.core")


@pytest.mark.parametrize(
    "sample",
    [
        "from replog.core import Send",
        "from replog import types",
        "from . import ordering",
        "from .messages import Prepare",
    ],
)
def test_what_faces_a_protocol_is_no_stranger(sample: str) -> None:
    assert not strangers_in(sample, "pbft.core")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_assert_guards_anything(package: str) -> None:
    found = {str(path): guarding_asserts_in(path.read_text()) for path in sources(package)}
    assert not {path: lines for path, lines in found.items() if lines}


def test_a_guarding_assert_is_noticed() -> None:
    assert guarding_asserts_in("assert self._verifier.verify(key, message, signature)")
    assert guarding_asserts_in("assert not is_forged(x) and check_signature(m)")
    assert not guarding_asserts_in("assert self.low <= self.high, 'window'")


@pytest.mark.parametrize("package", PROTOCOLS)
def test_importing_a_protocol_brings_no_machinery(package: str) -> None:
    heavy = loaded_by(f"import {package}") & {"aiohttp", "prometheus_client", "rich", "sqlite3", "typer", "uvloop"}
    assert not heavy


def test_loaded_machinery_is_noticed() -> None:
    assert "sqlite3" in loaded_by("import sqlite3")


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in `sys.modules` of a fresh interpreter after `statement`."""
    command = [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {top(name) for name in done.stdout.split()}


def tracked_files() -> list[Path]:
    """Every file of the repository; outside a checkout (an unpacked source archive) there is nothing to list."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_an_index_or_a_machine() -> None:
    files = tracked_files()
    found = {str(path): machine_traces_in(path.read_text(errors="replace")) for path in files}
    assert len(files) > 10
    assert not {path: lines for path, lines in found.items() if lines}


@pytest.mark.parametrize(
    "parts",
    [
        ("see https://py", "pi.org/simple"),
        ("--extra-", "index-url x"),
        ("file:", "///opt/wheels"),
        ("cd /ho", "me/ann/replog"),
        ("'/wo", "rk/main'"),
        (r"C:\Us", r"ers\ann"),
    ],
)
def test_a_trace_of_a_machine_is_noticed(parts: tuple[str, str]) -> None:
    assert machine_traces_in("".join(parts))


def test_ordinary_paths_are_no_trace() -> None:
    assert not machine_traces_in("http://localhost:4700/kv/x, docs/home/page.md, ./replog-pbft, https://example.org/")


def unlocked_lines_in(text: str) -> list[str]:
    """Lines of a lock that fix no version, and requirements without a hash."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    pinned = re.compile(r"[a-z0-9-]+==[^ ]+( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+")
    return [line for line in lines if not pinned.fullmatch(line)]


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_every_line_of_a_lock_is_a_version_with_hashes(name: str) -> None:
    assert not unlocked_lines_in((ROOT / "requirements" / name).read_text())


@pytest.mark.parametrize("sample", ["aiohttp>=3", "aiohttp==3.1", "--no-binary :all:", "./wheels/aiohttp.whl"])
def test_an_unlocked_line_is_noticed(sample: str) -> None:
    assert unlocked_lines_in(sample)


@pytest.mark.parametrize(("name", "extras"), [("run.txt", ["fast"]), ("dev.txt", ["fast", "dask", "dev"])])
def test_the_locks_hold_what_the_project_asks_for(name: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    names = {re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0].lower() for line in asked}
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / name).read_text(), re.MULTILINE))
    assert not names - locked


def test_the_development_lock_agrees_with_the_run_time_lock() -> None:
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / "requirements" / name).read_text(), re.MULTILINE))

    assert versions("run.txt") <= versions("dev.txt")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_the_entry_points_lead_somewhere() -> None:
    protocols = {point.name: point.load() for point in entry_points(group="replog.protocols")}
    commands = {point.name: point.load() for point in entry_points(group="replog.commands")}
    assert set(protocols) >= set(PROTOCOLS)
    assert "compare" in commands


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's verdict on the packages in `folder`, by the contracts of this project."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    options = ["--no-logo", "--no-cache", "--config", "pyproject.toml"]
    return subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    """Packages of the same names with nothing in them, under the project's own contracts."""
    modules = ["client", "core", "storage", "replica"]
    for package in (*PACKAGES, "replog/live", "replog/sim", "replog/cli"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for module in modules:
        (tmp_path / "replog" / f"{module}.py").touch()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    return tmp_path


def test_the_contracts_let_a_clean_house_pass(small_house: Path) -> None:
    (small_house / "pbft" / "core.py").write_text("import replog.core\n")
    (small_house / "compare" / "runner.py").write_text("import pbft.core\nimport replog.sim\n")
    done = lint_imports(small_house)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("replog/core.py", "import pbft\n"),
        ("replog/cli/__init__.py", "def late():\n    import compare\n"),
        ("pbft/core.py", "import raft\n"),
        ("raft/core.py", "import compare\n"),
        ("pbft/core.py", "import replog.storage\n"),
        ("pbft/core.py", "import aiohttp\n"),
        ("replog/sim/network.py", "import replog.live\n"),
    ],
)
def test_the_contracts_notice_a_wrong_direction(small_house: Path, path: str, text: str) -> None:
    (small_house / path).write_text(text)
    done = lint_imports(small_house)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout


def test_the_contracts_notice_a_detour(small_house: Path) -> None:
    (small_house / "raft" / "core.py").write_text("import replog.client\n")
    (small_house / "replog" / "client.py").write_text("import replog.replica\n")
    (small_house / "replog" / "replica.py").write_text("import replog.live\n")
    done = lint_imports(small_house)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout


def imported_from_outside() -> set[str]:
    """Names, as distributions write them, of what the packages import that is neither ours nor Python's own."""
    names = {"nacl": "pynacl", "prometheus_client": "prometheus-client"}
    found = {
        top(name)
        for package in PACKAGES
        for path in sources(package)
        for _, name in imported_modules(path.read_text(), dotted(path))
    }
    return {names.get(name, name) for name in found - set(PACKAGES) - sys.stdlib_module_names}


DEVELOPMENT = {"apsw", "pytest"}
"""What `compare.crash_disk`, and `compare.hunt.planted` inside pytest, ask for: no replica or command does."""


def test_what_is_imported_is_declared_and_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=]", line, maxsplit=1)[0] for line in project["dependencies"]}
    assert imported_from_outside() - DEVELOPMENT == declared
    explained = (ROOT / "docs" / "dependencies.md").read_text().partition("## For development")[0].lower()
    assert not [name for name in (*declared, "uvloop") if f"[{name}]" not in explained]
