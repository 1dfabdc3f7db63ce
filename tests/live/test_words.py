"""What the command says when something is wrong: one line that a terminal survives, with the rule and the next step."""

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replog import cli
from replog.cli import data, output, run, state, supervisor, tree
from replog.config import create_cluster
from replog.errors import NoCluster, OperationFailed, OutcomeUnknown, ReplogError
from replog.live import locks
from tests.live.command import Shell, free_port

WEIRD = "no \x1b[31mred\nsecond line\x07 \u202e"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


def ending(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Whatever is asked for ends so."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(tree, "command", fail)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OperationFailed("Mine", WEIRD), r"replog: Mine: no \x1b[31mred\nsecond line\x07 \u202e"),
        (ReplogError(WEIRD), "replog: no \\x1b[31mred\nsecond line\\x07 \\u202e"),
    ],
)
def test_no_error_gets_hold_of_the_terminal(
    error: ReplogError, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ending(monkeypatch, error)
    assert run(["kv", "get", "x"]) == 1
    assert capsys.readouterr().err == f"{shown}\n"


def test_a_file_of_another_user_is_no_bug_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ending(monkeypatch, PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x/up.log"))
    assert run(["status"]) == 1
    assert capsys.readouterr().err == "replog: x/up.log: Permission denied; is it another user's?\n"


def test_a_long_key_is_shortened_where_it_is_named() -> None:
    assert output.named("a\nb") == r"a\nb"
    assert output.named("x" * 100_000) == f"{'x' * 80}... (100000 characters)"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("up", "pbft", "--replicas", "x"), "--replicas = x: must be a valid integer (see: replog up --help)"),
        (("log", "--from", "0"), "--from = 0: must be greater than or equal to 1 (see: replog log --help)"),
        (
            ("up", "pbft", "--durability", "no"),
            "--durability = no: 'no' is not one of 'always', 'periodic', 'memory' (see: ",
        ),
    ],
)
def test_a_wrong_option_is_told_in_our_words(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(list(words)) == 2
    assert told in capsys.readouterr().err


def test_ctrl_c_while_the_command_is_loaded_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130


@pytest.mark.parametrize(
    ("error", "folder", "told"),
    [
        (OutcomeUnknown(), "replog-raft", "replog status tells who answers"),
        (OutcomeUnknown(), "mine", "replog status --cluster mine tells who answers"),
        (NoCluster(), "replog-raft", "to begin again: replog down, then replog up raft"),
        (NoCluster(), "mine", "to begin again: replog down --cluster mine, then replog up raft --cluster mine"),
    ],
)
def test_who_gets_no_answer_is_told_what_to_do(
    error: OutcomeUnknown | NoCluster, folder: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    create_cluster(folder, "raft", n=1, f=0, clients=("cli",))
    assert data.advice(error, Path(folder)) == told


def test_status_says_how_to_have_a_dead_replica_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    create_cluster("replog-raft", "raft", clients=("cli",))
    roles = ("leader", "down", "silent")
    replicas = [{"node": node, "role": role} for node, role in enumerate(roles)]
    (hint,) = state.hints(Path("replog-raft"), {"replicas": replicas})
    assert hint == "why node 1 ended: replog logs 1; to start it again: replog start 1"
    assert not state.hints(Path("replog-raft"), {"replicas": replicas[:1]})


# --------------------------------------------------------------------------------------------------------- the streams


class Full(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)


def test_a_full_disk_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    assert run(["--version"]) == 1
    assert capsys.readouterr().err == "replog: standard output cannot be written: No space left on device\n"


def test_nobody_needs_to_read_the_remarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    output.remark("starting")


@pytest.mark.parametrize(
    ("streams", "said"),
    [({"stdout": None}, ""), ({"stdout": "ascii"}, r"caf\xe9"), ({"stdout": "utf-8"}, "café")],
)
def test_a_stream_takes_whatever_there_is_to_say(
    streams: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = io.BytesIO()
    encoding = streams["stdout"]
    monkeypatch.setattr(sys, "stdout", encoding and io.TextIOWrapper(sink, encoding=encoding))
    cli._make_writable()
    output.line("café")
    assert sink.getvalue().decode(encoding or "ascii").strip() == said
    sys.stdout.close()


# ------------------------------------------------------------------------------------------------------------------ up


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "it said nothing"),
        ("starting\nreplog: x: is damaged\n", "x: is damaged"),
        (
            (
                "starting\n"
                "node 1 (pid 5) ended with exit code 2; see replog logs 1\n"
                "replog: node 1 (pid 5) ended with exit code 2:\n"
                "2026-11-21 15:56:07,607 INFO replog.node linked with node 0\n"
                "2026-11-21 15:56:07,607 ERROR replog.node x/log.db: is missing\n"
            ),
            "node 1 (pid 5) ended with exit code 2: x/log.db: is missing",
        ),
        (
            "replog: not serving after 24 s: 2 of 4 nodes; the last lines of node 2:\n2026 x INFO replog.node linked\n",
            "not serving after 24 s: 2 of 4 nodes",
        ),
    ],
)
def test_why_a_cluster_did_not_come_up(said: str, reason: str) -> None:
    assert supervisor._reason(said) == reason


def test_an_application_that_cannot_be_made_is_refused_before_there_is_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "from replog import StateMachine\n"
        "class App(StateMachine):\n"
        "    def __init__(self) -> None:\n"
        "        raise RuntimeError('no \\x1b way')\n"
    )
    folder = tmp_path / "c"
    assert run(["up", "raft", "--app", f"{app}:App", "--cluster", str(folder), "--port", str(free_port(3))]) == 2
    assert "it cannot be made: RuntimeError: no \\x1b way" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "see"),
    [
        (["up", "pbft", "--app"], "replog up"),
        (["kv", "scan", "--cluster"], "replog kv scan"),
        (["compare", "--seeds"], "replog compare"),
    ],
)
def test_an_option_without_its_value_leads_to_the_help_of_its_command(
    arguments: list[str], see: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert f"Option '{arguments[-1]}' requires an argument (see: {see} --help)" in capsys.readouterr().err


def test_a_paragraph_of_help_is_broken_by_the_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["member", "--help"]) == 0
    assert "until then the present members go on." in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["up"], ["kv", "scan"], ["compare"], ["call"]])
def test_help_shows_flags_and_lists_as_they_are_typed(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--help" in shown
    assert "<bool>" not in shown
    assert "[[" not in shown


def test_a_cluster_of_another_user_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create_cluster(tmp_path / "replog-raft", "raft", n=1, f=0)
    (tmp_path / "replog-raft" / "pid").touch()
    monkeypatch.chdir(tmp_path)

    def refused(path: os.PathLike[str], *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(locks.os, "open", refused)
    for named in ([], ["--cluster", "replog-raft"]):
        assert run(["status", *named]) == 1
        assert "replog-raft/pid: Permission denied; is it another user's?" in capsys.readouterr().err


@pytest.mark.live
@pytest.mark.parametrize("gone", ["node-0", "client-gateway"])
def test_a_member_without_a_folder_is_named(shell: Shell, gone: str) -> None:
    create_cluster(shell.folder / "replog-raft", "raft", n=1, f=0, port=free_port(1), clients=("gateway", "cli"))
    (shell.folder / "replog-raft" / gone).rename(shell.folder / "away")
    ended = shell.run("up", "raft", code=2)
    assert f"{gone}: is missing; put it back" in ended.stderr


@pytest.mark.live
def test_ctrl_c_says_what_remains(shell: Shell) -> None:
    process = shell.begin("up", "raft", "--replicas", "1", "--port", str(free_port(1)), stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    assert any("replog status" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Ctrl-C stops it" not in out + told
    assert told.rstrip().endswith(f"stopped; what it has stored stays in {shell.folder / 'replog-raft'}")
