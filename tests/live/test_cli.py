"""The command as a user meets it: real processes, real sockets, exit codes, one line for each error."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from replog import cli
from replog.cli import exits, output, running, supervisor, tree
from replog.cli.exits import WrongUsage
from replog.config import create_cluster
from replog.live.locks import holder
from tests.live.command import ROOT, Shell, alive, free_port, until

pytestmark = pytest.mark.live


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


BANK = """
from replog.statemachine import StateMachine, Table, command, query

class Bank(StateMachine):
    accounts: Table[str, int]

    @command
    def pay(self, owner: str, amount: int, labels: list[str] = []) -> int:
        if amount < 0:
            raise ValueError("amount must not be negative")
        self.accounts[owner] = self.accounts.get(owner, 0) + amount
        return self.accounts[owner]

    @query
    def balance(self, owner: str) -> int:
        return self.accounts.get(owner, 0)
"""


# ------------------------------------------------------------------------------------------------------------ stories


@pytest.mark.parametrize(("protocol", "n", "word"), [("pbft", 4, "view"), ("raft", 3, "term")])
def test_from_up_to_down_and_up_again(shell: Shell, protocol: str, n: int, word: str) -> None:
    with shell.cluster(protocol, "--f", "1", count=n) as known:
        assert [node["node"] for node in known["nodes"]] == list(range(n))
        assert not any(node["resumed"] for node in known["nodes"])
        assert "vouched for by" in shell.said("kv", "put", "x", "1")
        assert shell.said("kv", "get", "x") == "1"
        shell.run("kv", "cas", "x", "1", "2")
        shell.run("kv", "cas", "x", "1", "3", code=1)
        shell.run("kv", "put", "y/1", "one")
        assert shell.json("kv", "scan")["value"] == [["x", "2"], ["y/1", "one"]]
        shell.run("kv", "delete", "y/1")
        shell.run("kv", "get", "y/1", code=1)
        assert shell.said("call", "append", "x", "0") == "20"
        log = [line.split("\t")[2] for line in shell.said("log").splitlines()]
        assert [entry for entry in log if entry.startswith("put")] == ['put("x", "1")', 'put("y/1", "one")']
        beyond = shell.run("log", "--from", "999")
        assert (beyond.stdout, beyond.stderr) == ("", "--from = 999: the log ends before that\n")
        status = shell.json("status")
        assert [replica["node"] for replica in status["replicas"]] == list(range(n))
        assert all({"node", "pid", "role", "address", word, "last_index"} <= set(one) for one in status["replicas"])
        assert {one["pid"] for one in status["replicas"]} == {node["pid"] for node in known["nodes"]}
        assert shell.said("status").splitlines()[-1].startswith(f"{n} of {n} in sync, quorum ok")
        assert f"stopped {n} replicas" in shell.said("down")
        assert not any(alive(node["pid"]) for node in known["nodes"])
    shell.complaint("kv", "get", "x", code=3)
    again = shell.json("up", protocol, "--detach")
    try:
        assert all(node["resumed"] and node["index"] > 0 for node in again["nodes"])
        assert shell.said("kv", "get", "x") == "20"
    finally:
        shell.run("down")


def test_up_with_macs(shell: Shell) -> None:
    port = str(free_port(4))
    shell.json("up", "pbft", "--auth", "macs", "--detach", "--port", port)
    try:
        shell.run("kv", "put", "x", "1")
        assert shell.said("kv", "get", "x") == "1"
        assert "authenticated by macs, robust, durability always" in shell.said("status").splitlines()[-2]
        counters = [replica["counters"] for replica in shell.json("status")["replicas"]]
        assert all(one["macs"] > 0 and one["signatures_made"] == 0 for one in counters)
    finally:
        shell.run("down")
    line = shell.complaint("up", "pbft", "--auth", "signatures", code=2)
    assert "auth = signatures: the cluster in" in line
    assert "was made with macs" in line
    line = shell.complaint("up", "pbft", "--no-robust", code=2)
    assert "robust = off: the cluster in" in line
    assert "was made with on" in line


def test_up_in_the_foreground_until_ctrl_c(shell: Shell) -> None:
    process = shell.begin("up", "toy", "--port", str(free_port(1)))
    assert process.stdout is not None
    lines = [process.stdout.readline().rstrip("\n") for _ in range(8)]
    assert lines[0].split("\t") == ["node", "pid", "address", "role", "state"]
    assert lines[1].endswith("\tserver\tnew")
    assert lines[4] == "Try next:"
    for command in lines[5:]:
        done = subprocess.run(command, shell=True, cwd=shell.folder, env=shell.environment, capture_output=True)
        assert done.returncode == 0, command
    pids = [int(line.split("\t")[1]) for line in lines[1:3]]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert not any(map(alive, pids))


def test_ctrl_c_before_it_serves(shell: Shell) -> None:
    process = shell.begin("up", "pbft", "--port", str(free_port(4)))
    folder = shell.folder / "replog-pbft"
    until(lambda: any(holder(node) for node in folder.glob("node-*")), "a replica starts")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert not any(holder(node) for node in folder.glob("node-*"))


def test_ctrl_c_while_a_detached_cluster_starts_stops_it(shell: Shell) -> None:
    process = shell.begin("up", "pbft", "--detach", "--port", str(free_port(4)))
    folder = shell.folder / "replog-pbft"
    until(lambda: holder(folder), "it begins to start")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted before it served" in said
    assert holder(folder) is None
    assert not any(holder(node) for node in folder.glob("node-*"))


def test_down_while_it_starts_counts_what_runs(shell: Shell) -> None:
    process = shell.begin("up", "pbft", "--port", str(free_port(4)))
    folder = shell.folder / "replog-pbft"
    until(lambda: any(node["pid"] for node in (running.look(folder) or {"nodes": []})["nodes"]), "all are started")
    assert shell.said("down").startswith("stopped 4 replicas of replog-pbft")
    assert "Traceback" not in process.communicate(timeout=30)[1]


def test_nothing_outlives_a_killed_parent(shell: Shell) -> None:
    process = shell.begin("up", "toy", "--port", str(free_port(1)), "--json")
    assert process.stdout is not None
    known = json.loads(process.stdout.readline())
    pids = [known["nodes"][0]["pid"], known["gateway"]["pid"]]
    assert all(map(alive, pids))
    process.kill()
    process.communicate(timeout=30)
    until(lambda: not any(map(alive, pids)), "children of a killed parent end")
    assert "no cluster runs" in shell.complaint("status", code=3)
    shell.run("up", "toy", "--detach")
    shell.run("down")


def test_a_dying_replica_is_reported_and_left(shell: Shell) -> None:
    process = shell.begin("up", "toy", "--port", str(free_port(1)), "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    known = json.loads(process.stdout.readline())
    os.kill(known["nodes"][0]["pid"], signal.SIGKILL)
    errors = iter(process.stderr.readline, "")
    report = next(line for line in errors if "killed by signal 9" in line)
    assert f"node 0 (pid {known['nodes'][0]['pid']})" in report
    assert "--restart" in report
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_dying_replica_is_started_again_when_asked(shell: Shell) -> None:
    with shell.cluster("toy", "--restart", count=1) as known:
        shell.run("kv", "put", "x", "1")
        first = known["nodes"][0]["pid"]
        os.kill(first, signal.SIGKILL)
        until(lambda: not alive(first), "the killed replica ends")
        until(lambda: _serves(shell), "the replica serves again")
        assert shell.said("kv", "get", "x") == "1"
        assert shell.json("status")["replicas"][0]["pid"] not in (first, None)


def _serves(shell: Shell) -> bool:
    process = shell.begin("status")
    process.communicate(timeout=30)
    return process.returncode == 0


@pytest.mark.slow
def test_status_of_a_cluster_without_quorum_is_not_as_expected(shell: Shell) -> None:
    with shell.cluster("raft", "--f", "1", count=3) as known:
        for node in known["nodes"][1:]:
            os.kill(node["pid"], signal.SIGKILL)
        until(lambda: not any(alive(node["pid"]) for node in known["nodes"][1:]), "two replicas end")
        last = shell.said("status", code=1).splitlines()[-1]
        assert "no quorum (2 needed), writes wait; nodes 1 and 2 do not answer" in last


@pytest.mark.slow
def test_the_log_can_be_followed(shell: Shell) -> None:
    with shell.cluster("toy", count=1):
        shell.run("kv", "put", "x", "1")
        process = shell.begin("log", "--follow")
        assert process.stdout is not None
        assert 'put("x", "1")' in process.stdout.readline()
        shell.run("kv", "put", "x", "2")
        assert 'put("x", "2")' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
        assert [json.loads(line)["index"] for line in shell.said("log", "--from", "2", "--json").splitlines()] == [2]


def test_a_command_that_is_given_nothing_shows_its_help_and_no_more(shell: Shell) -> None:
    for words in ((), ("kv",)):
        done = shell.run(*words, code=2)
        assert "Usage" in done.stdout
        assert done.stderr == ""


def test_a_folder_of_ones_own_modules(shell: Shell) -> None:
    (shell.folder / "bank.py").write_text(BANK)
    (shell.folder / "types.py").write_text("raise RuntimeError('not the one of the library')\n")
    shell.program = [str(Path(sys.executable).with_name("replog"))]
    with shell.cluster("toy", "--app", "bank.py:Bank", count=1):
        assert shell.said("call", "pay", "ann", "5") == "5"


def test_a_replica_that_refuses_to_start_is_told_in_one_line(shell: Shell) -> None:
    with shell.cluster("toy", count=1) as known:
        folder = shell.folder / known["cluster"]
    (folder / "node-0" / "key.pem").chmod(0o644)
    for _ in range(3):
        process = shell.begin("up", "toy", "--detach", "--cluster", str(folder))
        _, complaint = process.communicate(timeout=60)
        assert process.returncode not in (0, 70)
        assert "chmod 600" in complaint
        assert "Traceback" not in complaint


def test_an_application_of_ones_own(shell: Shell) -> None:
    (shell.folder / "bank.py").write_text(BANK)
    with shell.cluster("toy", "--app", "bank.py:Bank", count=1):
        assert shell.said("call", "pay", "ann", "5") == "5"
        assert shell.said("call", "pay", "ann", "5", '["gift"]') == "10"
        assert shell.said("call", "balance", "ann") == "10"
        assert "pay(owner: str, amount: int" in shell.complaint("call", "pay", "ann")
        assert "amount = 'much': must be int" in shell.complaint("call", "pay", "ann", "much")
        assert "amount must not be negative" in shell.complaint("call", "pay", "ann", "-5", code=1)
        assert "it has balance" in shell.complaint("call", "rob", "ann")
        assert "not a key-value store" in shell.complaint("kv", "put", "x", "1")
    shell.complaint("call", "balance", "ann", code=3)


@pytest.mark.slow
def test_what_a_node_had_to_say(shell: Shell) -> None:
    with shell.cluster("raft", "--f", "1", count=3):
        assert "linked with node" in shell.said("logs", "0")
        assert "must be 0 .. 2 or gateway" in shell.complaint("logs", "3")
        shell.run("logs", "gateway")


# ------------------------------------------------------------------------------------------------------------- refusals


class Complaint(Protocol):
    def __call__(self, *arguments: str, code: int = 2) -> str: ...


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complaint:
    """The one line on stderr of a command that is refused before it starts anything, run in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPLOG_CLUSTER", raising=False)

    def complaint(*arguments: str, code: int = 2) -> str:
        assert cli.run(list(arguments)) == code
        told = capsys.readouterr()
        assert told.out == ""
        (line,) = told.err.splitlines()
        assert line.startswith("replog: ")
        return line

    return complaint


@pytest.mark.slow
def test_two_clusters_and_none_named(shell: Shell) -> None:
    with shell.cluster("toy", "--cluster", "replog-a", count=1), shell.cluster("toy", "--cluster", "replog-b", count=1):
        line = shell.complaint("status")
        assert "--cluster replog-a or --cluster replog-b" in line
        shell.run("status", "--cluster", "replog-b")
        shell.environment["REPLOG_CLUSTER"] = "replog-a"
        assert shell.json("status")["cluster"] == "replog-a"


def test_a_port_in_use(shell: Shell) -> None:
    with shell.cluster("toy", count=1) as known:
        port = known["nodes"][0]["address"].rpartition(":")[2]
        line = shell.complaint("up", "toy", "--cluster", "other", "--port", port)
        assert f"port {port}" in line
        assert "--port" in line
        assert not (shell.folder / "other").exists()
        with shell.cluster("toy", "--cluster", "other", count=1) as other:
            assert other["nodes"][0]["address"] != known["nodes"][0]["address"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("up", "pbft", "--f", "-1"), ("f = -1", "0 .. 1024")),
        (("up", "pbft", "--f", "1", "--replicas", "3"), ("3", "3f")),
        (("up", "raft", "--f", "2", "--replicas", "4"), ("4", "2f")),
        (("up", "pbft", "--f", "many"), ("--f", "many")),
        (("up", "pbft", "--f", "1000"), ("f = 1000", "n = 3001", "at most 1024")),
        (("up", "pbft", "--f", "50"), ("n = 151", "at most 100", "gateway")),
        (("up", "raft", "--app", "replog.apps.kv:StateMachine"), ("StateMachine", "base class")),
        (("up", "paxos"), ("paxos", "pbft, raft")),
        (("up", "pbft", "--port", "65500"), ("65500", "65435")),
        (("up", "pbft", "--app", "none.py:App"), ("none.py", "no file")),
        (("up", "pbft", "--durability", "never"), ("never", "always")),
        (("up",), ("protocol", "--help")),
        (("fly",), ("fly", "--help")),
        (("kv", "put", "x"), ("VALUE", "replog kv put --help")),
        (("schema", "poem"), ("poem",)),
        (("bench", "raft", "--auth", "macs"), ("--auth = macs", "raft leaves no choice")),
        (("up", "raft", "--auth", "signatures"), ("--auth = signatures", "raft leaves no choice")),
        (("up", "pbft", "--auth", "none"), ("--auth", "none", "macs")),
        (("bench", "raft", "--robust"), ("--robust", "raft leaves no choice")),
        (("up", "raft", "--no-robust"), ("--no-robust", "raft leaves no choice")),
        (("bench", "pbft", "--reads", "2"), ("--reads", "2")),
        (("bench", "pbft", "--clients", "0"), ("clients", "0")),
    ],
)
def test_wrong_usage_names_value_and_rule(here: Complaint, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    line = here(*arguments)
    assert all(word in line for word in words), line
    assert not list(Path().iterdir())


def test_an_application_that_does_not_load(here: Complaint) -> None:
    Path("bank.py").write_text("class Bank(:\n")
    assert "it does not load: SyntaxError: " in here("up", "pbft", "--app", "bank.py:Bank")
    Path("till.py").write_text("from replog import StateMachine\nclass Till(StateMachine):\n    coins: int\n")
    assert "Till.coins: a field needs a default" in here("up", "pbft", "--app", "till.py:Till")


def test_fewer_replicas_than_stand_a_fault_are_remarked(
    here: Complaint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise WrongUsage("far enough")

    monkeypatch.setattr(supervisor, "check_ports", stop)
    assert cli.run(["up", "pbft", "--replicas", "3"]) == 2
    assert "--replicas = 3: stands 0 faults of pbft; the least that stands one is 4" in capsys.readouterr().err
    assert "far enough" in here("up", "pbft", "--replicas", "3", "--f", "0")


def test_what_is_not_the_clusters_is_not_thrown_away_with_it(here: Complaint) -> None:
    create_cluster("mine", "raft")
    Path("mine", "thesis.txt").write_text("years of work")
    before = sorted(Path("mine").iterdir())
    assert "thesis.txt" in here("up", "raft", "--cluster", "mine", "--fresh")
    assert sorted(Path("mine").iterdir()) == before


def test_a_damaged_file_is_told_in_our_words(here: Complaint) -> None:
    create_cluster("mine", "raft")
    path = Path("mine", "cluster.toml")
    made = path.read_text()
    for old, new, words in (
        ("n = 3", 'n = "three"', "n = 'three': must be a valid integer"),
        (
            'durability = "always"',
            'durability = "mostly"',
            "durability = 'mostly': must be 'always', 'periodic' or 'memory'",
        ),
        ("f = 1", "g = 1", "f: is missing"),
    ):
        path.write_text(made.replace(old, new))
        assert words in here("up", "raft", "--cluster", "mine")


def test_a_foreign_folder_is_left_alone(here: Complaint) -> None:
    mine = Path("mine")
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for options in ((), ("--fresh",)):
        assert "thesis.txt" in here("up", "raft", "--cluster", "mine", *options)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_a_cluster_is_resumed_as_it_was_made(shell: Shell) -> None:
    with shell.cluster("toy", count=1):
        shell.run("kv", "put", "x", "1")
        assert "runs already" in shell.complaint("up", "toy")
        assert "is running" in shell.complaint("up", "toy", "--fresh")
    line = shell.complaint("up", "toy", "--durability", "memory")
    assert "durability = memory" in line
    assert "made with always" in line
    assert "protocol = raft" in shell.complaint("up", "raft", "--cluster", "replog-toy")
    with shell.cluster("toy", "--fresh", "--durability", "memory", count=1) as known:
        assert not known["nodes"][0]["resumed"]
        shell.run("kv", "get", "x", code=1)


def test_no_cluster(here: Complaint) -> None:
    for arguments in (("status",), ("down",), ("kv", "get", "x"), ("call", "get", "x"), ("log",), ("logs", "0")):
        line = here(*arguments, code=3)
        assert str(Path.cwd()) in line
        assert "replog-*/cluster.toml" in line
        assert "--cluster DIR" in line
        assert "replog up pbft --f 1" in line
    assert "replog up pbft --f 1 --cluster nowhere" in here("status", "--cluster", "nowhere", code=3)


def test_a_stopped_cluster_is_started_by_its_own_command(here: Complaint) -> None:
    create_cluster("replog-raft", "raft")
    create_cluster("my bank", "pbft")
    assert "start replog-raft with replog up raft, " in here("status", code=3)
    assert here("status", "--cluster", "replog-raft", code=3).endswith("start it with replog up raft")
    assert here("down", "--cluster", "my bank", code=3).endswith("replog up pbft --cluster 'my bank'")


def test_our_own_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise RuntimeError("a wire came loose")

    monkeypatch.setattr(tree, "command", broken)
    assert cli.run(["status"]) == exits.ExitCode.OUR_BUG
    assert "internal error, please report it: RuntimeError: a wire came loose" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["raft", "compare"])
def test_a_package_that_hides_ours(shell: Shell, name: str) -> None:
    (shell.folder / name).mkdir()
    (shell.folder / name / "__init__.py").write_text("raise SystemExit('run by accident')\n")
    line = shell.complaint("--version", code=1)
    assert f"{name!r} in {shell.folder / name}" in line
    assert "not replog's" in line


# ---------------------------------------------------------------------------------------------------------------- form


def loaded_by(*arguments: str) -> set[str]:
    code = f"import sys; from replog.cli import run; run({list(arguments)!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


HEAVY = {"aiohttp", "cryptography", "nacl", "prometheus_client", "sqlite3"}


@pytest.mark.parametrize("arguments", [("--help",), ("kv", "--help"), ("up", "--help"), ("--version",)])
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert not loaded_by(*arguments) & HEAVY


def test_heavy_modules_are_noticed() -> None:
    assert loaded_by("status", "--cluster", "nowhere") | loaded_by("up", "raft", "--f", "-1") >= {
        "cryptography",
        "nacl",
    }


def said_here(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(list(arguments)) == 0
    return capsys.readouterr().out


def test_every_command_has_help_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    everything = said_here(capsys, "--help")
    for name in ("up", "down", "status", "kv", "call", "log", "logs", "compare", "demo", "bench", "schema"):
        assert f" {name} " in everything
    kv = [f"kv {name}" for name in ("put", "get", "delete", "cas", "scan")]
    for name in ("up", "down", "status", "kv", *kv, "call", "log", "logs", "compare", "demo", "bench", "schema"):
        assert f"Example: replog {name}" in said_here(capsys, *name.split(), "--help")


@pytest.mark.parametrize("name", ["cluster", "results", "scenario"])
def test_schemas(capsys: pytest.CaptureFixture[str], name: str) -> None:
    schema = json.loads(said_here(capsys, "schema", name))
    assert schema["type"] == "object"
    assert schema["properties"]


def on_a_terminal(shell: Shell, *arguments: str, width: int = 80) -> str:
    """What the command writes when its output is a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    process = shell.begin(*arguments, stdout=theirs)
    os.close(theirs)
    read = b""
    while True:
        try:
            more = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        read += more
    process.communicate(timeout=30)
    os.close(ours)
    return read.decode()


def test_colour_only_where_it_is_wanted(shell: Shell) -> None:
    shell.environment["TERM"] = "xterm-256color"
    with shell.cluster("toy", count=1):
        piped = shell.run("status").stdout
        plain = on_a_terminal(shell, "status")
        del shell.environment["NO_COLOR"]
        coloured = on_a_terminal(shell, "status")
    assert "\x1b" not in piped
    assert "\t" in piped
    assert "\x1b[3" not in plain
    assert "\x1b[" in coloured


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_address_and_no_pid_is_cut(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    columns = ["node", "pid", "address", "role", "view", "last index", "stable index", "in sync"]
    output.table(columns, [[0, 4_194_303, "192.168.100.200:65535", "backup, changing view", 3, 812, 768, True]])
    output.table(("name", "what it is"), [("crash", "many words " * 9)])
    lines = re.sub("\x1b\\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert any("192.168.100.200:65535" in line for line in lines)
    assert any("4194303" in line for line in lines)
    assert terminal.getvalue().count("many") == 9
    assert all(len(line.rstrip()) <= width for line in lines)


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_command_quietly(shell: Shell) -> None:
    with shell.cluster("toy", count=1):
        shell.run("kv", "put", "x", "1")
        process = shell.begin("log", "--follow")
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        shell.run("kv", "put", "x", "2")
        assert process.stderr is not None
        errors = process.stderr.read()
        assert process.wait(timeout=30) == 0
        assert errors == ""
