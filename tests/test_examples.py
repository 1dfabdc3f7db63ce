"""The examples run as a reader runs them, and stay as small as they claim; the bare protocols load quickly.

Processor time is measured, not the clock on the wall, and the least of several runs counts: a busy machine makes runs
slower, never faster.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
LINES_MAX = 40
IMPORT_S_MAX = 0.150
RUNS = 7


def run(name: str, folder: Path) -> str:
    """What an example prints, run in a folder that is not the project's."""
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    source = Path(__file__).read_text()
    assert not [path.name for path in EXAMPLES.glob("*.py") if f'run("{path.name}"' not in source]


@pytest.mark.live
def test_pbft_in_a_program(tmp_path: Path) -> None:
    lines = run("embed_pbft.py", tmp_path).splitlines()
    assert lines[:2] == ["ann has 50", "refused by every replica alike: ValueError: a deposit is positive"]
    assert len(lines) == 6
    assert all(re.match(rf"node {node}: (primary|backup)", line) for node, line in enumerate(lines[2:]))


@pytest.mark.live
def test_raft_in_a_program_survives_the_end_of_its_leader(tmp_path: Path) -> None:
    lines = run("embed_raft.py", tmp_path).splitlines()
    first = re.fullmatch(r"held by \[\['(\w+)', 1\], \['(\w+)', 1\]\]", lines[0])
    assert first is not None
    assert first[1] == first[2], "both are told of one holder"
    assert lines[1:] == [f"after the leader's end by {first[1]}", "released: True", "then by ['eve', 2]"]


def test_four_cores_driven_by_hand(tmp_path: Path) -> None:
    """The same lines each time, every phase of the paper among them, and nothing lost by the end of the primary."""
    text = run("four_cores.py", tmp_path)
    assert text == run("four_cores.py", tmp_path)
    said = set(re.findall(r"node \d  (\w+) +to ", text))
    assert said >= {"PrePrepare", "Prepare", "Commit", "Reply", "ViewChange", "NewView"}
    assert re.findall(r"the counter is (\d+)", text) == ["5", "7"]
    assert not list(tmp_path.iterdir())


NOTEBOOK = EXAMPLES / "compare.ipynb"
RUN_CELLS = """
import contextlib, io, json, sys
names, said = {"__name__": "__main__"}, []
for source in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(source, "cell", "exec"), names)
    said.append(out.getvalue())
print(json.dumps(said))
"""


def run_cells(sources: list[str], folder: Path) -> list[str]:
    """What each cell prints, one after another in one fresh interpreter.

    Without Jupyter, whose kernel would bring more than thirty packages into the lock: our cells only print.
    """
    command = [sys.executable, "-c", RUN_CELLS]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, input=json.dumps(sources), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    said: list[str] = json.loads(done.stdout)
    return said


@pytest.mark.slow
def test_the_notebook_holds_what_its_cells_print(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """`pytest --rewrite` puts in what they print now."""
    notebook = json.loads(NOTEBOOK.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    said = run_cells(["".join(cell["source"]) for cell in cells], tmp_path)
    assert len(said) >= 5
    if request.config.getoption("--rewrite"):
        for cell, text in zip(cells, said, strict=True):
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}]
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    assert [[output["name"] for output in cell["outputs"]] for cell in cells] == [["stdout"]] * len(cells)
    assert ["".join(cell["outputs"][0]["text"]) for cell in cells] == said


def test_a_cell_that_fails_is_noticed(tmp_path: Path) -> None:
    assert run_cells(["x = 1", "print(x)"], tmp_path) == ["", "1\n"]
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_cells(["1 / 0"], tmp_path)


def test_four_cores_use_no_event_loop() -> None:
    assert not {"asyncio", "socket", "threading"} & set(re.findall(r"^\s*(?:import|from) (\w+)", four_cores(), re.M))


def four_cores() -> str:
    return (EXAMPLES / "four_cores.py").read_text()


@pytest.mark.parametrize("name", ["embed_pbft.py", "embed_raft.py"])
def test_embedding_takes_under_forty_lines(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < LINES_MAX


LOAD = """
import time
begin = time.process_time()
import {module}
print(time.process_time() - begin)
import sys
print(*sys.modules)
"""


def load(module: str, bytecode: Path) -> tuple[float, set[str]]:
    """Seconds of processor time that an import takes in a fresh interpreter, and all modules that are there then.

    What was compiled is kept in the folder `bytecode`, whatever the environment says: the second load is the usual one.
    """
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(bytecode), "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", LOAD.format(module=module)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    seconds, modules = done.stdout.splitlines()
    return float(seconds), set(modules.split())


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_a_bare_protocol_loads_quickly_and_without_a_network(protocol: str, tmp_path: Path) -> None:
    runs = [load(protocol, tmp_path) for _ in range(RUNS)]
    assert min(seconds for seconds, _ in runs) < IMPORT_S_MAX
    assert not {"aiohttp", "asyncio", "replog.live"} & runs[0][1]


def test_a_slow_and_heavy_import_would_be_noticed(tmp_path: Path) -> None:
    seconds, modules = [load("replog.live.gateway", tmp_path) for _ in range(2)][-1]
    assert "aiohttp" in modules
    assert seconds > [load("pbft", tmp_path) for _ in range(2)][-1][0]
