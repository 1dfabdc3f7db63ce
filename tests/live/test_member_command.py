"""`replog member` as a user meets it."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.command import Shell, alive, until

pytestmark = pytest.mark.live


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@contextmanager
def resumed(shell: Shell) -> Iterator[dict[str, Any]]:
    """The cluster of replog-pbft, once more."""
    known = shell.json("up", "pbft", "--detach")
    try:
        yield known
    finally:
        shell.run("down")


def nodes(told: dict[str, Any]) -> list[int]:
    return [member["node"] for member in told["members"]]


def test_a_dead_replica_is_replaced_and_the_cluster_resumed(shell: Shell) -> None:
    with shell.cluster("pbft") as known:
        key = shell.folder / "replog-pbft" / "admin" / "key.pem"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        shell.run("kv", "put", "x", "1")
        os.kill(known["nodes"][2]["pid"], signal.SIGKILL)
        done = shell.run("member", "replace", "2")
        assert done.stderr == "ordered: epoch 1 begins after index 384\n"
        assert done.stdout == "epoch 1 from index 385 on: n = 4, f = 1, members 0, 1, 3, 4\n"
        report = until(lambda: in_sync(shell), "the new replica is in sync")
        assert (report["epoch"], report["members"], report["pending"]) == (1, [0, 1, 3, 4], None)
        assert [replica["node"] for replica in report["replicas"]] == [0, 1, 3, 4]
        assert "epoch 1 of members 0, 1, 3, 4" in shell.said("status")
        assert shell.complaint("member", "remove", "2") == "replog: node = 2: is no member; members are 0, 1, 3, 4"
        assert shell.said("logs", "4", "--verbose") is not None
    assert shell.complaint("logs", "9").endswith("node = '9': must be 0 .. 4 or gateway")
    with resumed(shell) as known:
        assert [node["node"] for node in known["nodes"]] == [0, 1, 3, 4]
        assert all(node["resumed"] for node in known["nodes"])
        assert shell.said("kv", "get", "x") == "1"
        told = shell.json("member", "list")
        assert (told["epoch"], told["first_index"], nodes(told)) == (1, 385, [0, 1, 3, 4])
        assert all(member["in_sync"] for member in told["members"])
    (shell.folder / "replog-pbft" / "members.json").unlink()
    with resumed(shell) as known:
        assert [node["node"] for node in known["nodes"]] == [0, 1, 3, 4], "found anew from the first members"
        assert shell.said("kv", "get", "x") == "1"


def in_sync(shell: Shell) -> Any:
    report = shell.json("status")
    return report if report["in_sync"] == report["n"] else None


@pytest.mark.slow
def test_growing_shrinking_and_what_is_refused(shell: Shell) -> None:
    with shell.cluster("pbft") as known:
        too_many = shell.complaint("member", "add", "--count", "3", "--f", "2")
        assert too_many.startswith("replog: n = 7, f = 2: takes 5 that vote before anybody has joined; only 4 of the")
        told = shell.json("member", "add", "--count", "2")
        assert (told["epoch"], told["f"], told["in_effect"], nodes(told)) == (1, 1, True, list(range(6)))
        told = shell.json("member", "add", "--f", "2")
        assert (told["epoch"], told["f"], told["in_effect"], nodes(told)) == (2, 2, True, list(range(7)))
        refused = "replog: MembershipRefused: n = 6, f = 2: Byzantine agreement needs f >= 0 and n >= 3f + 1 = 7"
        assert shell.complaint("member", "remove", "6", code=1) == refused
        assert "the change changes nothing" in shell.complaint("member", "faults", "2", code=1)
        told = shell.json("member", "remove", "6", "--f", "1", "--wait", "0")
        assert (told["epoch"], told["in_effect"], nodes(told)) == (3, False, list(range(6)))
        until(lambda: shell.json("member", "list")["epoch"] == 3, "epoch 3 begins")
        until(lambda: 6 not in [node["node"] for node in running(shell)["nodes"]], "node 6 is stopped")
        pids = [node["pid"] for node in running(shell)["nodes"]]
        assert all(map(alive, pids))
        assert len(pids) == 6
        assert known["nodes"][0]["pid"] in pids, "who stays goes on"
        assert shell.said("kv", "put", "x", "1")
        check_keys(shell)


def check_keys(shell: Shell) -> None:
    """Without the administrator's key nothing changes, and it is said which is wrong."""
    folder, other = shell.folder / "replog-pbft", shell.folder / "key.pem"
    rule = "name the folder of the administrator's key with --key DIR"
    (folder / "admin" / "key.pem").rename(other)
    said = shell.complaint("member", "replace", "1")
    assert said.endswith("replog-pbft/admin/key.pem: there is no such file; " + rule)
    other.chmod(0o644)
    assert "others can read this key" in shell.complaint("member", "replace", "1", "--key", ".")
    other.write_bytes((folder / "client-cli" / "key.pem").read_bytes())
    other.chmod(0o600)
    said = shell.complaint("member", "replace", "1", "--key", ".")
    assert said == "replog: key.pem: is not the key that cluster.toml names as admin; " + rule


def running(shell: Shell) -> Any:
    return json.loads((shell.folder / "replog-pbft" / "running.json").read_text())


def test_a_protocol_that_does_not_support_it_says_so(shell: Shell) -> None:
    with shell.cluster("toy", count=1):
        rule = "replog: protocol = toy: does not support changes of its members yet"
        assert shell.complaint("member", "list") == rule
        assert shell.complaint("member", "add") == rule
        assert shell.complaint("member", "add", "--count", "2", "--port", "65535").endswith("end above 65535")
    said = shell.complaint("member", "remove", "x")
    assert said.startswith("replog: Invalid value for 'NODE...': 'x': must be a whole number, 0 or more (see: ")


@pytest.mark.slow
def test_an_interrupted_wait_leaves_the_change_under_way(shell: Shell) -> None:
    with shell.cluster("pbft"):
        waiting = shell.begin("member", "add")
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "ordered: epoch 1 begins after index 384\n"
        waiting.send_signal(signal.SIGINT)
        rule = "replog: not waiting any longer; the change is ordered and goes on; see replog member list\n"
        assert (waiting.communicate()[1], waiting.returncode) == (rule, 130)
        until(lambda: shell.json("member", "list")["epoch"] == 1, "epoch 1 begins")


def test_members_of_raft_change_by_the_same_words(shell: Shell) -> None:
    with shell.cluster("raft") as known:
        shell.run("kv", "put", "x", "1")
        os.kill(known["nodes"][1]["pid"], signal.SIGKILL)
        done = shell.run("member", "replace", "1")
        assert done.stderr == "ordered: epoch 1 begins when those who come have caught up and both majorities have it\n"
        assert re.fullmatch(r"epoch 1 from index \d+ on: n = 3, f = 1, members 0, 2, 3\n", done.stdout)
        assert shell.said("kv", "get", "x") == "1"


def test_a_change_whose_newcomer_never_comes_is_given_up_by_command(shell: Shell) -> None:
    with shell.cluster("raft"):
        assert shell.complaint("member", "give-up", code=1) == "replog: no change of the members is under way"
        shell.run("member", "add", "--host", "192.0.2.1", "--port", "7000", "--wait", "0")
        until(lambda: "replog member give-up" in shell.said("member", "list"), "it is said who is waited for")
        rule = "replog: a change of the members is under way: epoch 1 with 0, 1, 2, 3; wait for it, or give it up with"
        for word in (("remove", "2"), ("add",), ("replace", "1")):
            assert shell.complaint("member", *word, code=1).startswith(rule)
        assert shell.said("member", "give-up") == "given up: node 3 does not join; epoch 1: members 0, 1, 2"
        told = shell.json("member", "remove", "2")
        assert (told["epoch"], nodes(told)) == (2, [0, 1])


@pytest.mark.slow
def test_learners_of_raft_and_its_leader(shell: Shell) -> None:
    with shell.cluster("raft"):
        shell.run("kv", "put", "x", "1")
        told = shell.json("member", "add", "--learner")
        assert (told["epoch"], told["f"], nodes(told), told["members"][3]["learner"]) == (1, 1, [0, 1, 2, 3], True)
        report = until(lambda: in_sync(shell), "the voters are in sync")
        assert (report["n"], report["members"]) == (3, [0, 1, 2, 3])
        assert [member["role"] for member in shell.json("member", "list")["members"]][3] == "learner"
        assert shell.complaint("member", "promote", "2") == "replog: node = 2: is no learner; learners are [3]"
        assert nodes(shell.json("member", "promote", "3")) == [0, 1, 2, 3]
        leader = next(one["node"] for one in shell.json("status")["replicas"] if one["role"] == "leader")
        told = shell.json("member", "remove", str(leader))
        assert (told["epoch"], told["f"]) == (3, 1)
        assert shell.said("kv", "get", "x") == "1"
        rule = "raft stands as many faults as leave a majority of the voters"
        assert rule in shell.complaint("member", "faults", "2")


def test_raft_is_paused_members_change_and_nothing_is_lost(shell: Shell) -> None:
    """(seed 002, definition 1.11)"""
    with shell.cluster("raft", "--restart") as known:
        assert shell.said("member", "pause").strip() == "paused; 0 operations waiting"
        assert shell.said("status").splitlines()[-2].endswith("paused, replog member resume ends that")
        leader = shell.json("leader", "show")["leader"]
        gone, heir = (node for node in known["nodes"] if node["node"] != leader)
        told = shell.json("member", "replace", str(gone["node"]))
        assert (told["epoch"], len(told["members"])) == (1, 3)
        os.kill(heir["pid"], signal.SIGKILL)
        assert shell.said("member", "pause").startswith("paused"), "who is started anew as well"
        puts = [shell.begin("kv", "put", f"k{number}", str(number)) for number in range(3)]
        until(lambda: shell.json("member", "pause")["waiting"] == 3, "three operations wait")
        assert [process.poll() for process in puts] == [None] * 3
        assert shell.said("member", "resume").strip() == "resumed"
        assert "paused" not in shell.said("status")
        assert [process.wait(30) for process in puts] == [0, 0, 0]
        assert [shell.said("kv", "get", f"k{number}") for number in range(3)] == ["0", "1", "2"]


def test_pbft_is_not_paused(shell: Shell) -> None:
    with shell.cluster("pbft"):
        assert "protocol = pbft: only Raft pauses" in shell.complaint("member", "pause")
        assert "protocol = pbft: a change that is ordered is made" in shell.complaint("member", "give-up")
