"""`replog lab`: faults and lies let into a running cluster from another terminal; `replog start` and `replog stop`."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compare import liar
from replog.cli.lab import in_words
from replog.config import ClusterConfig, create_cluster
from replog.errors import ConfigError
from replog.live import faulty_links
from replog.live.faulty_links import LINKS, FaultyLinks, Harm
from replog.live.laboratory import Laboratory, NotInForce, order_file
from replog.live.processes import LocalProcesses
from replog.types import NodeId
from tests.live.command import Shell, alive, free_port, until

pytestmark = pytest.mark.live


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


def status(shell: Shell, code: int = 0) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(shell.said("status", "--json", code=code))
    return told


def index_of(shell: Shell, node: int) -> int:
    told = next(one for one in status(shell)["replicas"] if one["node"] == node)
    return int(told["last_index"] or 0)


# ------------------------------------------------------------------------------------------------------ the command


def test_an_ordinary_cluster_lets_no_fault_in_but_single_replicas_can_be_stopped_and_started(shell: Shell) -> None:
    with shell.cluster("raft", count=3) as known:
        refused = "lab = off: faults and lies are let only into a cluster that was made for them"
        assert refused in shell.complaint("lab", "crash", "1")
        assert refused in shell.complaint("lab", "lie", "1", "silent")
        os.kill(known["nodes"][2]["pid"], 9)
        until(lambda: not alive(known["nodes"][2]["pid"]), "node 2 ends")
        hint = shell.run("status").stderr
        assert "to start it again: replog start 2" in hint
        (started,) = shell.json("start", "2")["nodes"]
        assert started["pid"] not in (None, known["nodes"][2]["pid"])
        assert shell.complaint("start", "2", code=1).startswith("replog: node = 2: runs already")
        (stopped,) = shell.json("stop", "1")["nodes"]
        assert (stopped["pid"], stopped["role"]) == (None, "down")
        shell.run("kv", "put", "x", "1")
        shell.run("start", "1")
        until(lambda: status(shell)["in_sync"] == 3, "all are in sync again")
        assert "node = 7: must be a member on this machine: 0, 1, 2" in shell.complaint("start", "7", code=1)


def test_faults_are_let_in_and_ended_from_another_terminal(shell: Shell) -> None:
    with shell.cluster("pbft", "--lab") as known:
        pids = {node["node"]: node["pid"] for node in known["nodes"]}
        assert "nothing is in force (orders so far: 0)" in shell.said("status")
        # killed
        shell.run("lab", "crash", "3")
        assert not alive(pids[3])
        assert "node = 3: does not run" in shell.complaint("lab", "pause", "3", code=1)
        shell.run("kv", "put", "x", "1")
        (force,) = status(shell)["lab"]["in_force"]
        assert (force["what"], force["node"]) == ("crash", 3)
        shell.run("lab", "start", "3")
        until(lambda: index_of(shell, 3) > 0, "node 3 has what it missed")
        # cut off: what is written meanwhile does not come
        told = shell.json("lab", "cut", "3")
        assert {(one["from"], one["to"]) for one in told["in_force"]} == {(3, n) for n in (0, 1, 2)} | {
            (n, 3) for n in (0, 1, 2)
        }
        shell.run("kv", "put", "x", "2")
        behind = index_of(shell, 3)
        assert behind < index_of(shell, 0)
        assert " cut at " in shell.said("status")
        shell.run("lab", "heal", "3")
        until(lambda: index_of(shell, 3) == index_of(shell, 0), "node 3 catches up")
        # two stand still: no quorum
        shell.run("lab", "pause", "1", "2")
        assert not status(shell, code=1)["has_quorum"]
        shell.run("lab", "resume", "1", "2")
        until(lambda: shell.begin("status", "--json").wait(30) == 0, "there is a quorum again")
        assert shell.said("kv", "get", "x") == "2"


@pytest.mark.slow
def test_a_replica_lies_by_name_until_it_is_told_to_stop(shell: Shell) -> None:
    with shell.cluster("raft", "--lab", count=3):
        assert "attack = twice: is unknown; known: " in shell.complaint("lab", "lie", "0", "twice")
        leader = shell.json("leader", "show")["leader"]
        shell.run("lab", "lie", str(leader), "silent")
        until(lambda: shell.json("leader", "show")["leader"] not in (None, leader), "another one leads")
        (force,) = status(shell)["lab"]["in_force"]
        assert (force["what"], force["node"], force["attack"]) == ("lie", leader, "silent")
        shell.run("lab", "lie", str(leader), "--stop")
        until(lambda: status(shell)["in_sync"] == 3, "who has lied follows")


def test_what_is_in_force_is_told_in_words() -> None:
    since = "12:03:07.123"
    force = [
        {"what": "crash", "node": 2, "since": since},
        {"what": "pause", "node": 1, "since": since},
        {"what": "lie", "node": 0, "attack": "silent", "since": since},
        {"what": "slow", "node": 3, "delay_ms": 20.0, "loss": 0.1, "since": since},
        {"what": "cut", "from": 0, "to": 1, "since": since},
        {"what": "cut", "from": 1, "to": 0, "since": since},
    ]
    assert in_words({"done": 9, "in_force": force}) == (
        "laboratory: node 2 was killed at 12:03:07; node 1 stands still since 12:03:07; "
        "node 0 lies (silent) since 12:03:07; "
        "links of node 3 are slow (delay 20 ms, loss 0.1) since 12:03:07; 0 -> 1, 1 -> 0 cut at 12:03:07 "
        "(orders so far: 9)"
    )


# --------------------------------------------------------------------------------------------------------- the parts


def config(folder: Path, *, lab: bool) -> ClusterConfig:
    return create_cluster(folder / "cluster", "raft", port=[20_001, 20_002, 20_003], lab=lab)


def test_no_laboratory_of_an_ordinary_cluster(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lab = off"):
        Laboratory(LocalProcesses(config(tmp_path, lab=False)))


def test_what_is_done_to_both_ends_of_a_link_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[NodeId, dict[str, Any]] = {}
    processes = LocalProcesses(config(tmp_path, lab=True))
    monkeypatch.setattr(processes, "pids", lambda: {0: 1, 1: 1, 2: 1})
    monkeypatch.setattr(
        processes, "tell", lambda node, word, harms: told.update({node: harms} if word == LINKS else {})
    )
    lab = Laboratory(processes)
    lab.slow([0, 1], Harm(0.5, 0.02))
    lab.cut(lab.pairs(2, to=[0]))
    both, one = {"loss": 0.75, "delay_s": 0.04}, {"loss": 0.5, "delay_s": 0.02}
    assert told == {
        0: {"1": both, "2": one},
        1: {"0": both, "2": one},
        2: {"0": {"loss": 1.0, "delay_s": 0.02}, "1": one},
    }
    lab.heal_all()
    assert told == {0: {}, 1: {}, 2: {}}
    with pytest.raises(ConfigError, match="node = 7: must be another member than 2: 0, 1"):
        lab.pairs(2, to=[7])
    with pytest.raises(ConfigError, match=r"loss = 2: must be within 0 \.\. 1"):
        lab.slow([0], Harm(2.0))
    with pytest.raises(ConfigError, match=r"delay = 1e\+06: must be within 0 \.\. 60000 ms"):
        lab.slow([0], Harm(0.0, 1000.0))
    with pytest.raises(NotInForce, match="were not started so that they could"):
        lab.lie([0], "silent", {})


async def test_frames_are_lost_by_chance_and_late_ones_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[tuple[NodeId, bytes]] = []
    two = asyncio.Event()

    def deliver(to: NodeId, frame: bytes) -> None:
        came.append((to, frame))
        if len(came) == 2:
            two.set()

    links = FaultyLinks(deliver, random.Random(1))
    links.order({"1": {"loss": 1.0}, "2": {"loss": 0.5}, "3": {"delay_s": 0.02}})
    for number in range(200):
        links.send(1, b"%d" % number)
        links.send(2, b"%d" % number)
    links.send(0, b"at once")
    assert all(to != 1 for to, _ in came)
    assert 60 < sum(to == 2 for to, _ in came) < 140
    assert came[-1] == (0, b"at once")
    came.clear()
    two.clear()
    links.send(3, b"late")
    links.order({})
    links.send(3, b"behind it")
    assert not came
    await two.wait()
    links.send(3, b"at once")
    assert [frame for _, frame in came] == [b"late", b"behind it", b"at once"]
    monkeypatch.setattr(faulty_links, "OUT_BYTES_MAX", 10)
    links.order({"3": {"delay_s": 0.001}})
    came.clear()
    two.clear()
    for _ in range(5):
        links.send(3, b"1234")
    await two.wait()
    links.order({})
    links.send(3, b"last")
    assert [frame for _, frame in came] == [b"1234", b"1234", b"last"], "what is held is bounded"


@pytest.mark.parametrize(
    ("protocol", "attack", "options", "told"),
    [
        ("pbft", "slow-primary", {"delay_ms": "x"}, "delay_ms = 'x'.* (options of slow-primary)"),
        ("raft", "silent", {"a": 1}, "a = 1: there is no such field"),
        ("raft", "censor", {}, "attack = censor: is one on pbft; on raft there are: .*equivocating-leader"),
        ("raft", "vote-twice", {}, "attack = vote-twice: can be made in the simulator only"),
        ("pbft", "nonsense", {}, "attack = nonsense: is unknown; known: .*equivocating-leader"),
    ],
)
def test_a_lie_that_cannot_be_told_is_refused(protocol: str, attack: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("(", r"\(").replace(")", r"\)")):
        liar.check(protocol, attack, options)


def test_a_lie_that_can_be_told_is_not_refused() -> None:
    liar.check("pbft", "slow-primary", {"delay_ms": 100})
    liar.check("raft", "equivocating-leader", {})


PARENT = """
import asyncio, json, signal, sys
from replog import LocalProcesses

async def main():
    processes = LocalProcesses(sys.argv[1])
    await processes.start()
    await processes.wait_serving()
    processes.kill(0, signal.SIGSTOP)
    print(json.dumps(processes.pids()), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process that stands still is ended by the kernel of Linux alone")
def test_a_replica_that_stands_still_does_not_outlive_its_parent(tmp_path: Path) -> None:
    made = create_cluster(tmp_path / "cluster", "raft", n=1, f=0, port=free_port(1), lab=True)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(made.folder)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    (pid,) = json.loads(parent.stdout.readline()).values()
    assert alive(pid)
    parent.kill()
    parent.communicate()
    until(lambda: not alive(pid), "the replica ends")


async def test_one_that_was_refreshed_cannot_lie_before_it_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = LocalProcesses(config(tmp_path, lab=True))
    monkeypatch.setattr(processes, "pids", lambda: {0: 1, 1: 1})
    lab = Laboratory(processes, tmp_path, ("compare.liar:lie", {}))
    monkeypatch.setattr(LocalProcesses, "wrapped", {1})
    with pytest.raises(NotInForce, match="node = 0: was refreshed, and cannot lie before it is started anew"):
        lab.lie([0], "silent", {})
    lab.lie([1], "silent", {})
    assert json.loads(order_file(tmp_path, 1).read_text()) == {"attack": "silent", "members": [1], "options": {}}
