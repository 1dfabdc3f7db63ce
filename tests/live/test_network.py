"""Replicas on hosts of their own, with a network between them that is slow, loses packets and is cut."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from replog import LocalProcesses, LogClient
from replog.config import ClusterConfig
from replog.live.links import HEARTBEAT_S
from tests.live.network import Hosts, cluster_on, demand, hosts

pytestmark = [pytest.mark.live, pytest.mark.slow]
WRITES = 40
NOTICED_S = 1.5 * HEARTBEAT_S
"""Within this a link is closed whose other end is gone (`replog.live.links`)."""


def test_where_the_machine_may_make_hosts_it_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.live.network.lacking", lambda: "no hosts")
    monkeypatch.setattr("tests.live.network.forbidden", lambda: "")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(AssertionError, match="no hosts"):
        demand()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no hosts"):
        demand()


@pytest.mark.parametrize(("protocol", "n"), [("pbft", 4), ("raft", 3)])
async def test_it_goes_on_over_slow_and_lossy_links(tmp_path: Path, protocol: str, n: int) -> None:
    with hosts(n) as made:
        config = cluster_on(tmp_path / "cluster", made, protocol, n)
        async with LocalProcesses(config, prefix=made.prefix) as processes:
            await processes.start()
            await processes.wait_serving(60)
            made.disturb(0.03, 0.03)
            async with LogClient(config) as client, asyncio.timeout(120):
                for number in range(WRITES):
                    assert await client.call("append", "x", f"{number};")
                assert await client.call("get", "x") == "".join(f"{number};" for number in range(WRITES))
                made.disturb(0, 0)  # or the client's links would take long to close
        print("netem" if made.netem else "no netem in this kernel: delay and loss by the router")


async def test_a_host_that_vanishes_is_noticed_and_found_again(tmp_path: Path) -> None:
    """Its packets are swallowed both ways and nothing is closed. The others notice, go on without it, and it catches
    up when it is back."""
    with hosts(3) as made:
        config = cluster_on(tmp_path / "cluster", made, "raft", 3)
        async with LocalProcesses(config, prefix=made.prefix) as processes:
            await processes.start()
            await processes.wait_serving(60)
            async with LogClient(config) as client:
                await client.call("put", "x", "1")
                gone = await follower(client)
                made.cut(gone)
                lost = f"lost the link with node {gone}"
                async with asyncio.timeout(4 * NOTICED_S):
                    await asyncio.gather(*(said(config, node, lost) for node in range(3) if node != gone))
                    await client.call("put", "x", "2")
                made.heal()
                async with asyncio.timeout(60):
                    await level(client, 3)
                    assert await client.call("get", "x") == "2"


async def follower(client: LogClient) -> int:
    while True:
        for word in await client.status():
            if word.status is not None and word.status.role == "follower":
                return word.node
        await asyncio.sleep(0.1)


async def level(client: LogClient, n: int) -> None:
    while True:
        words = await client.status()
        indexes = {word.status.index for word in words if word.status is not None}
        if sum(word.status is not None for word in words) == n and len(indexes) == 1:
            return
        await asyncio.sleep(0.1)


async def said(config: ClusterConfig, node: int, text: str) -> None:
    while True:
        if text in (config.node_folder(node) / "node.log").read_text():
            return
        await asyncio.sleep(0.1)


def test_hosts_leave_nothing_behind() -> None:
    import subprocess

    with hosts(2) as made:
        assert isinstance(made, Hosts)
        names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        mine = made.prefix(0)[-1]
        assert mine in names
    assert mine not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
