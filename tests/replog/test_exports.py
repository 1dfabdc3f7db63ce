"""The names that `replog` offers: loaded when used, and told alike to type checkers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import replog


def test_every_name_leads_somewhere() -> None:
    for name in replog.__all__:
        assert getattr(replog, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        replog.nothing  # noqa: B018


def test_type_checkers_are_told_the_same() -> None:
    stub = ast.parse(Path(replog.__file__).with_suffix(".pyi").read_text())
    told = {(node.module, node.names[0].asname) for node in stub.body if isinstance(node, ast.ImportFrom)}
    assert told == {(module, name) for module, names in replog._HOMES.items() for name in names}


@pytest.mark.parametrize("package", ["pbft", "raft", "replog"])
def test_importing_loads_no_sockets_and_no_files(package: str) -> None:
    code = f"import {package}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"aiohttp", "sqlite3", "cryptography", "uvloop"} & set(done.stdout.split())
