"""`replog refresh` and refreshes by the clock, with real processes; a refresh of each replica in turn under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replog.apps.kv import KeyValue
from replog.live.cluster import LocalCluster
from tests.live.command import Shell, until
from tests.plug import Mute

pytestmark = pytest.mark.live


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


async def load(cluster: LocalCluster, done: list[int], ended: asyncio.Event) -> None:
    """One put after the other, each noted once it is acknowledged."""
    while not ended.is_set():
        number = len(done)
        await cluster.call("put", f"k{number}", str(number))
        done.append(number)


@pytest.mark.slow
@pytest.mark.parametrize("auth", ["signatures", "macs"])
async def test_each_replica_in_turn_under_load_and_nothing_is_lost(auth: str) -> None:
    options = {"auth": auth, "checkpoint_interval": 32, "log_window": 64}
    async with LocalCluster("pbft", KeyValue, f=1, processes=True, options=options) as cluster:
        assert cluster.processes is not None
        before = cluster.processes.pids()
        done: list[int] = []
        ended = asyncio.Event()
        work = asyncio.create_task(load(cluster, done, ended))
        for node in range(4):
            at_first = len(done)
            told = await asyncio.wait_for(cluster.refresh(node), 60)
            assert (told["node"], told["dropped"]) == (node, 0)
            assert len(done) > at_first, "the others serve meanwhile"
        ended.set()
        await work
        assert all(before[node] != pid for node, pid in cluster.processes.pids().items())
        for number in done:
            assert await cluster.call("get", f"k{number}") == str(number)


def mute(_node: int, replica: Any) -> Mute:
    """An intruder."""
    return Mute(replica)


@pytest.mark.slow
async def test_an_intruder_in_memory_is_gone() -> None:
    async with LocalCluster("pbft", KeyValue, f=1, processes=True, lab=True) as cluster:
        processes = cluster.processes
        assert processes is not None
        await processes.stop([2])
        await processes.start([2], wraps={2: ("tests.live.test_refresh:mute", {})})
        for number in range(20):
            await cluster.call("put", f"k{number}", "x")
        told = await asyncio.wait_for(cluster.refresh(2), 60)
        assert told["node"] == 2
        await processes.stop([3])  # now the others need it
        await cluster.call("put", "y", "1")
        assert await cluster.call("get", "y") == "1"


def test_a_primary_that_is_refreshed_hands_its_view_over(shell: Shell) -> None:
    with shell.cluster("pbft", "--f", "1", count=4):
        shell.run("kv", "put", "x", "1")
        told = shell.json("refresh", "0")
        assert (told["node"], told["fetched"], told["dropped"]) == (0, 0, 0)
        status = shell.json("status")
        assert "node 0 gave its view up" in status["sentence"]
        assert status["replicas"][0]["pid"] == told["pid"]
        assert shell.said("kv", "get", "x") == "1"
        assert "1 part of its state checked" in shell.said("refresh", "1")


def test_ctrl_c_ends_the_wait_and_not_the_refresh(shell: Shell) -> None:
    with shell.cluster("pbft", "--f", "1", count=4) as known:
        process = shell.begin("refresh", "1")
        assert process.stderr is not None
        assert "node 1 is started anew" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "a refresh that has begun goes on" in errors
        log = shell.folder / known["cluster"] / "node-1" / "node.log"
        until(lambda: "refreshed {" in log.read_text(), "node 1 is refreshed")


@pytest.mark.slow
def test_a_state_that_was_changed_on_the_disk_is_replaced(shell: Shell) -> None:
    """An intruder has rewritten the saved state of a replica, digests and all."""
    with shell.cluster("pbft", "--f", "1", count=4) as known:
        shell.run("kv", "put", "x", "right")
        shell.run("refresh", "2")  # so that there is a checkpoint
        shell.run("down")
        forge_state(shell.folder / known["cluster"] / "node-2" / "state.db")
        shell.run("up", "pbft", "--detach")
        told = shell.json("refresh", "2")
        assert told["fetched"] > 0
        shell.run("down")


def forge_state(path: Path) -> None:
    """Other data under a digest that fits them, and no seal that would tell."""
    from replog.codec import digest_of

    with contextlib.closing(sqlite3.connect(path)) as base, base:
        ((part, save, data),) = base.execute("SELECT part, save, data FROM part").fetchall()
        forged = data.replace(b"right", b"wrong")
        assert forged != data
        base.execute("UPDATE part SET digest = ?, data = ? WHERE part = ?", (digest_of(forged), forged, part))
        base.execute("UPDATE mark SET digest = ? WHERE name = 'newest'", (digest_of(forged),))
        base.execute("DELETE FROM mark WHERE name IN ('seal', 'parts')")
        assert save >= 0


def test_what_is_refused_and_why(shell: Shell) -> None:
    shell.complaint("refresh", "0", code=3)
    with shell.cluster("pbft", "--f", "1", count=4) as known:
        assert "must be 0 .. 3" in shell.complaint("refresh", "7", code=2)
        pid = known["nodes"][3]["pid"]
        os.kill(pid, signal.SIGSTOP)
        until(lambda: not shell.json("status")["replicas"][3].get("in_sync"), "node 3 is silent")
        assert "3 others must be in sync, node 3 is not" in shell.complaint("refresh", "1", code=1)
        assert shell.json("status")["replicas"][1]["pid"] == known["nodes"][1]["pid"], "it was not touched"
        os.kill(pid, signal.SIGCONT)
        shell.run("down")
    with shell.cluster("raft", "--f", "1", count=3):
        assert "protocol = raft: has no refresh" in shell.complaint("refresh", "0", code=2)
    assert "no time; write 90s" in shell.complaint("up", "pbft", "--refresh-every", "soon", code=2)
    assert "has no refresh" in shell.complaint("up", "raft", "--refresh-every", "90s", code=2)


@pytest.mark.slow
def test_by_the_clock_each_in_turn(shell: Shell) -> None:
    with shell.cluster("pbft", "--f", "1", "--refresh-every", "4s", count=4) as known:
        pids = {node["node"]: node["pid"] for node in known["nodes"]}

        def replaced() -> bool:
            now = {one["node"]: one["pid"] for one in shell.json("status")["replicas"]}
            return all(now[node] not in (None, pid) for node, pid in pids.items() if node < 2)

        until(replaced, "nodes 0 and 1 have other processes")
        shell.run("kv", "put", "x", "1")
