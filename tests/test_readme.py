"""What the pages tell a reader to type is typed here, and what they say comes back has to come back.

A fenced block marked `console` holds commands, each after `$ `, and below a command lines that its output must contain
(`...` stands for anything, runs of blanks for one). A `python` block that begins with `# NAME.py` is that file. All
blocks of the README are one session in one folder, from top to bottom, so that what stands above may be relied on.

Three kinds of commands are taken out of the session and run elsewhere, because they install something or take long:

    pip install ...   in a fresh virtual environment beside a copy of the sources                         (slow)
    scripts/demo      from a fresh clone, which makes its own virtual environment first                   (slow)
    scripts/test      there too, with one file of tests: it is what runs this file, and must not run itself again

The session uses the ports that the README names. Where Linux lets us (`unshare`) it therefore has network and processes
of its own, and the kernel ends whatever is left. Elsewhere it runs on the real ports, one session at a time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
SESSION_S = 600
INSTALL_S = 600
PORTS = (*range(4700, 4708), 4800)

ELSEWHERE = ("pip install ", "scripts/demo", "scripts/test")
"""How commands begin that the session leaves out, each with a test of its own below."""


# -------------------------------------------------------------------------------------------------- reading the pages


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


@dataclass(frozen=True)
class Step:
    """A command, or a file to write (`name`, `text`); with what the command's output must hold."""

    command: str = ""
    output: tuple[str, ...] = ()
    name: str = ""
    text: str = ""


def blocks_in(page: str) -> list[Block]:
    return [Block(*match) for match in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]


def steps_in(page: str) -> list[Step]:
    """Commands and files in the order of the page. Raises ValueError for a block that cannot be run."""
    steps: list[Step] = []
    for block in blocks_in(page):
        if block.language == "console":
            steps += commands_in(block.text)
        elif block.language == "python" and (name := re.match(r"# ([\w-]+\.py)\n", block.text)):
            steps.append(Step(name=name[1], text=block.text))
    return steps


def commands_in(text: str) -> list[Step]:
    steps: list[Step] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append(Step(command=line[2:]))
        elif not steps:
            raise ValueError(f"{line!r}: a console block begins with a command, after '$ '")
        else:
            steps[-1] = Step(command=steps[-1].command, output=(*steps[-1].output, line))
    return steps


def missing_in(output: str, wanted: Sequence[str]) -> list[str]:
    """Lines that a page promises and that the output does not hold, looked for in their order."""
    lines, at, missing = [" ".join(line.split()) for line in output.splitlines()], 0, []
    for promise in wanted:
        pattern = ".*".join(re.escape(" ".join(piece.split())) for piece in promise.split("..."))
        found = next((i for i in range(at, len(lines)) if re.fullmatch(rf"\s*{pattern}\s*", lines[i])), None)
        if found is None and promise.strip() != "...":
            missing.append(promise)
        at = at if found is None else found + 1
    return missing


def of_the_session(steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if not step.command.startswith(ELSEWHERE)]


def test_the_pages_are_read() -> None:
    page = (
        "text\n\n```console\n$ one\nsaid ... here\n$ two\n```\n\n```python\n# own.py\nx = 1\n```\n\n```python\ny\n```\n"
    )
    assert steps_in(page) == [
        Step(command="one", output=("said ... here",)),
        Step(command="two"),
        Step(name="own.py", text="# own.py\nx = 1\n"),
    ]
    with pytest.raises(ValueError, match="begins with a command"):
        steps_in("```console\nno command\n```\n")


def test_an_output_that_differs_is_noticed() -> None:
    assert missing_in("index 3, by node 0\n  a    b\n", ["index ..., by ...", "a b"]) == []
    assert missing_in("a\nb\n", ["b", "a"]) == ["a"]
    assert missing_in("unsafe 4/5\n", ["ok 5/5"]) == ["ok 5/5"]


def test_every_command_of_a_page_is_run_by_some_test() -> None:
    """Blocks of other pages hold nothing but what is run elsewhere; the README's are all run."""
    for page in PAGES[1:]:
        left = of_the_session(steps_in(page.read_text()))
        assert not left, f"{page.name}: {left[0]} is run by no test; move it to the README"
    assert len(of_the_session(steps_in(README.read_text()))) > 10


def test_every_python_block_of_the_readme_is_a_file_that_is_run() -> None:
    steps = steps_in(README.read_text())
    assert len([step for step in steps if step.name]) == len(
        [block for block in blocks_in(README.read_text()) if block.language == "python"]
    )
    typed = " ".join(step.command for step in steps)
    assert not [step.name for step in steps if step.name and step.name not in typed]


# -------------------------------------------------------------------------------------------- a place of its own


def unshared(*, network: bool) -> list[str]:
    """The beginning of a command whose processes end with it, optionally on a network of their own."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    flags = ["--net", "--pid"] if network else ["--pid"]
    return ["unshare", *user, *flags, "--fork", "--kill-child"]


LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""A new network has a loopback interface that is down."""


@functools.cache
def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = [*unshared(network=True), sys.executable, "-c", LOOPBACK_UP, "true"]
    return subprocess.run(probe, capture_output=True).returncode == 0


@contextlib.contextmanager
def place(folder: Path) -> Iterator[list[str]]:
    """What a command of the session in `folder` begins with, so that it has the README's ports for itself."""
    if can_unshare():
        yield [*unshared(network=True), sys.executable, "-c", LOOPBACK_UP]
        return
    fcntl = pytest.importorskip("fcntl", reason="the session needs unshare or a lock on files")
    with (Path(tempfile.gettempdir()) / "replog-readme-ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = [port for port in PORTS if in_use(port)]
        if taken and not os.environ.get("CI"):
            pytest.skip(f"the README's ports are in use by others: {taken}")
        try:
            yield []
        finally:
            stop_clusters(folder)


def stop_clusters(folder: Path) -> None:
    """End what `replog up --detach` left running; its replicas end with their parent."""
    for file in folder.glob("*/running.json"):
        with contextlib.suppress(ProcessLookupError, KeyError, ValueError):
            os.kill(json.loads(file.read_text())["pid"], signal.SIGKILL)


def in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(command: Sequence[str], folder: Path, environment: dict[str, str], seconds: float) -> str:
    """Output and errors of a command. Fails if it does; nothing that it started in its session outlives this."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"{' '.join(command)}: not done after {seconds} s\n{output}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"{' '.join(command)}: exit code {process.returncode}\n{output}"
    return output


def environment(*first: Path) -> dict[str, str]:
    """Ours without what a reader's shell would not have: this virtual environment, pytest's variables, a cluster."""
    own = str(Path(sys.executable).parent)
    path = [str(place) for place in first] + [part for part in os.environ["PATH"].split(os.pathsep) if part != own]
    dropped = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "REPLOG_CLUSTER")
    kept = {name: value for name, value in os.environ.items() if name not in dropped and not name.startswith("PYTEST")}
    return {**kept, "PATH": os.pathsep.join(path), "COLUMNS": "100"}


# ------------------------------------------------------------------------------------------------------- the session


def script_of(steps: Sequence[Step]) -> str:
    """A shell script that runs the commands in order and leaves N.out and N.exit of each; it ends at the first that
    fails."""
    lines = []
    for number, step in enumerate(steps):
        if step.command:
            lines.append(f"( {step.command} ) >.session/{number}.out 2>&1; code=$?; echo $code >.session/{number}.exit")
            lines.append("[ $code = 0 ] || exit 0")
    return "\n".join(lines) + "\n"


def test_the_readme_does_what_it_says(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the README's session needs curl")
    steps = of_the_session(steps_in(README.read_text()))
    (tmp_path / ".session").mkdir()
    for step in steps:
        if step.name:
            (tmp_path / step.name).write_text(step.text)
    with place(tmp_path) as own:
        run([*own, "sh", "-c", script_of(steps)], tmp_path, environment(Path(sys.executable).parent), SESSION_S)
    for number, step in enumerate(steps):
        if step.command:
            said, code = (tmp_path / ".session" / f"{number}.{what}" for what in ("out", "exit"))
            assert code.is_file(), f"never came to: {step.command}"
            assert code.read_text() == "0\n", f"$ {step.command}\n{said.read_text()}exit code {code.read_text()}"
            missing = missing_in(said.read_text(), step.output)
            assert not missing, f"$ {step.command}\n{said.read_text()}the README promises:\n{missing[0]}"


# ------------------------------------------------------------------------------------------- what installs something


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone of what is committed, as a reader gets it."""
    copy = tmp_path / "clone"
    done = subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"not a git checkout: {done.stderr.strip()}")
    return copy


def ending() -> list[str]:
    """The beginning of a command whose processes end with it, where the system can do that."""
    return unshared(network=False) if can_unshare() else []


def interpreter() -> str:
    return os.path.realpath(sys.executable)


def installs_of(page: Path) -> list[list[str]]:
    """The `pip install` lines of each block: a block is one way to install."""
    ways = [
        [step.command for step in commands_in(b.text)] for b in blocks_in(page.read_text()) if b.language == "console"
    ]
    return [way for way in ways if way[0].startswith("pip install ")]


WAYS = sorted({tuple(way) for page in PAGES for way in installs_of(page)})


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=" && ".join)
def test_each_way_to_install_leads_to_a_command_that_runs(way: tuple[str, ...], clone: Path, tmp_path: Path) -> None:
    """Needs a package index, as a reader does."""
    run([interpreter(), "-m", "venv", str(tmp_path / "venv")], tmp_path, environment(), INSTALL_S)
    installed = environment(tmp_path / "venv" / "bin")
    for command in way:
        run([*ending(), "sh", "-c", command], clone, installed, INSTALL_S)
    run([*ending(), "replog", "--version"], tmp_path, installed, SESSION_S)
    out = run([*ending(), "replog", "compare", "no-fault", "--seeds", "1"], tmp_path, installed, SESSION_S)
    assert not missing_in(out, ["pbft no-fault ok 1/1 ...", "raft no-fault ok 1/1 ..."]), out


def test_the_readme_names_the_scripts_that_are_tried_from_a_clone() -> None:
    typed = [step.command for step in steps_in(README.read_text()) if step.command.startswith("scripts/")]
    assert typed == ["scripts/demo", "scripts/test"]


@pytest.mark.slow
@pytest.mark.live
def test_the_scripts_run_from_a_fresh_clone(clone: Path) -> None:
    """`scripts/demo` makes a virtual environment and shows what it promises; then `scripts/test`, on one file."""
    fresh = {**environment(), "PYTHON": interpreter()}
    shown = run([*ending(), "scripts/demo"], clone, fresh, INSTALL_S)
    for engine in ("live", "sim"):
        assert not missing_in(shown, ENDS_WITH[engine]), shown
    assert list((clone / "runs").glob("demo-*/**/results.json"))
    tested = run([*ending(), "scripts/test", "tests/test_architecture.py"], clone, fresh, INSTALL_S)
    assert re.search(r"^\d+ passed", tested.splitlines()[-1]), tested


ENDS_WITH: dict[str, list[str]] = {
    "live": ["pbft ... no-fault ... ok ...", "raft ... leader-crash ... ok ..."],
    "sim": ["pbft ... equivocating-leader ... ok ...", "raft ... equivocating-leader ... unsafe ..."],
}
"""Lines of the demo's tables."""
