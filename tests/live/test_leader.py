"""`replog leader show` and `leader move`, with real processes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from replog.cli.leader import leader_of
from tests.live.command import Shell, until

pytestmark = pytest.mark.live


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


def test_a_leader_hands_over_and_nothing_is_lost(shell: Shell) -> None:
    shell.complaint("leader", "show", code=3)
    with shell.cluster("raft", count=3):
        shell.run("kv", "put", "x", "1")
        known = shell.json("leader", "show")
        heir = (known["leader"] + 1) % 3
        moved = shell.json("leader", "move", str(heir))
        assert (moved["leader"], moved["term"]) == (heir, known["term"] + 1)
        assert shell.said("leader", "show").strip() == f"node {heir} is leader in term {moved['term']}"
        assert shell.said("leader", "move", str(heir)).strip() == f"node {heir} is leader in term {moved['term']}"
        assert shell.said("kv", "get", "x") == "1"
        assert f"node {known['leader']} moves the leadership here" in shell.json("status")["sentence"]
        assert "node = 3: must be 0 .. 2" in shell.complaint("leader", "move", "3")


def test_servers_take_a_snapshot_when_they_are_asked_to(shell: Shell) -> None:
    with shell.cluster("raft", count=3):
        shell.run("kv", "put", "x", "1")
        last = max(one["last_index"] for one in shell.json("status")["replicas"])
        told = shell.json("snapshot")["snapshots"]
        assert [one["node"] for one in told] == [0, 1, 2]
        assert all(one["index"] >= last for one in told)
        (again,) = shell.json("snapshot", "1")["snapshots"]
        assert (again["node"], again["index"] >= told[1]["index"]) == (1, True), "also where nothing is new"
        assert shell.complaint("snapshot", "3") == "replog: node = 3: must be one that runs here, 0 .. 2"
        assert shell.said("kv", "get", "x") == "1"


@pytest.mark.slow
def test_a_move_to_a_server_that_does_not_answer_comes_to_nothing(shell: Shell) -> None:
    with shell.cluster("raft", count=3) as cluster:
        leader = shell.json("leader", "show")["leader"]
        silent = (leader + 1) % 3
        pid = next(one["pid"] for one in cluster["nodes"] if one["node"] == silent)
        os.kill(pid, signal.SIGSTOP)
        try:
            said = shell.complaint("leader", "move", str(silent), code=1)
            assert f"node {silent} did not take over in time; node {leader} goes on leading" in said
            shell.run("kv", "put", "x", "2")
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_primary_is_shown_and_nobody_chooses_it(shell: Shell) -> None:
    with shell.cluster("pbft"):
        assert shell.said("leader", "show").strip() == "node 0 is primary in view 0"
        refused = shell.complaint("leader", "move", "2")
        assert "protocol = pbft: the primary follows from the view, and nobody can choose it" in refused
        assert "protocol = pbft: its checkpoints are agreed upon" in shell.complaint("snapshot")


@pytest.mark.slow
def test_without_a_leader_the_exit_code_says_so(shell: Shell) -> None:
    with shell.cluster("raft", count=3) as cluster:
        for one in cluster["nodes"]:
            os.kill(one["pid"], signal.SIGSTOP)
        try:
            assert "no leader: no replica answers" in shell.run("leader", "show", code=1).stdout
            assert "there is nothing to move" in shell.complaint("leader", "move", "1", code=1)
        finally:
            for one in cluster["nodes"]:
                os.kill(one["pid"], signal.SIGCONT)
        until(lambda: shell.run("leader", "show", "--json", code=0), "a leader")


@pytest.mark.parametrize(
    ("words", "leader"),
    [
        ([(0, 3, 1), (1, 3, 1)], 1),
        ([(0, 2, 0), (1, 3, 1)], 1),
        ([(0, 3, None), (1, 3, 1)], 1),
        ([(0, 3, 0), (1, 3, 1)], None),
        ([(0, 3, None)], None),
        ([], None),
    ],
)
def test_who_leads_is_what_the_latest_term_says(words: list[tuple[int, int, int | None]], leader: int | None) -> None:
    replicas = [{"node": node, "term": term, "leader": known} for node, term, known in words]
    assert leader_of([*replicas, {"node": 9, "term": None}], "term")["leader"] == leader
