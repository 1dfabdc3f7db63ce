"""Members of a live cluster change under load: the client that was there before goes on, every call is executed once,
and what was acknowledged outlives the end of all processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from replog import LocalCluster, LocalProcesses, create_cluster
from replog.apps.counter import Counter
from replog.config import ClusterConfig
from replog.enrolment import enrolled
from replog.errors import ConfigError, NotCommitted, OperationFailed, OutcomeUnknown
from replog.interface import Said
from replog.live.administration import LOCK, Administrator, ChangePending, Wish
from replog.live.client import LogClient
from replog.live.locks import FolderLock
from replog.live.node import Node
from replog.roster import Roster
from replog.types import NodeId
from tests.live.command import free_port

pytestmark = pytest.mark.live

SOON: dict[str, Any] = {"checkpoint_interval": 16, "log_window": 32}
"""So that a boundary is near."""
LIMIT_S = 60.0
CALLERS = 3


class Load:
    """Callers that add one, again and again. A value is the number of additions so far, so each comes once."""

    def __init__(self, client: LogClient) -> None:
        self.client = client
        self.values: list[int] = []
        self.unknown = 0
        self._more = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        callers = [asyncio.create_task(self._call()) for _ in range(CALLERS)]
        try:
            yield self
        finally:
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)

    async def _call(self) -> None:
        while True:
            try:
                self.values.append(await self.client.call("add"))
                self._more.set()
            except OutcomeUnknown:
                self.unknown += 1
            except NotCommitted:
                pass
            except asyncio.CancelledError:
                self.unknown += 1
                raise

    async def go_on(self, more: int = 20) -> None:
        """Until so many more are acknowledged."""
        upto = len(self.values) + more
        async with asyncio.timeout(LIMIT_S):
            while len(self.values) < upto:
                self._more.clear()
                await self._more.wait()

    async def check(self) -> None:
        """Nothing acknowledged is lost, nothing is executed twice."""
        value = await self.client.call("value")
        assert len(set(self.values)) == len(self.values) > 0
        assert max(self.values) <= value
        assert len(self.values) <= value <= len(self.values) + self.unknown


async def until(client: LogClient, condition: Callable[[list[Said]], bool]) -> list[Said]:
    """What the replicas say, once it is so."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            said = await client.status()
            if condition(said):
                return said
            await asyncio.sleep(0.02)


def epochs(said: list[Said]) -> dict[NodeId, object]:
    return {word.node: word.status.detail.get("epoch") for word in said if word.status is not None}


def level(said: list[Said]) -> bool:
    """All members are in the same epoch and in sync, at one index."""
    statuses = [word.status for word in said]
    known = [status for status in statuses if status is not None]
    return len(known) == len(said) and all(s.in_sync for s in known) and len({s.index for s in known}) == 1


@pytest.mark.parametrize("auth", ["signatures", "macs"])
async def test_a_dead_replica_is_replaced_under_load(auth: str) -> None:
    async with LocalCluster("pbft", Counter, f=1, options={**SOON, "auth": auth}) as cluster:
        async with cluster.client("gateway") as client, Load(client).running() as load:
            await load.go_on()
            cluster.nodes[2].stop()
            await cluster._running.pop(2)
            del cluster.nodes[2]
            await load.go_on()
            following = await cluster.change(remove=(2,), add=1)
            assert following.ids == (0, 1, 3, 4)
            await load.go_on()
            assert await client.follow(1, LIMIT_S), "the client that was there before has followed"
            await load.go_on()
        async with cluster.client("gateway") as client:
            said = await until(client, level)
            assert epochs(said) == dict.fromkeys((0, 1, 3, 4), 1)
            load.client = client
            await load.check()


async def test_four_become_seven_then_six(tmp_path: Path) -> None:
    async with LocalCluster("pbft", Counter, f=1, dir=tmp_path / "c", options=SOON) as cluster:
        async with cluster.client("gateway") as client, Load(client).running() as load:
            await load.go_on()
            with pytest.raises(ConfigError, match="n = 7, f = 2: takes 5 that vote before anybody has joined; only 4"):
                await cluster.change(add=3, f=2)
            assert not cluster.config.node_folder(4).exists()
            assert (await cluster.change(add=2)).ids == tuple(range(6))
            assert (await cluster.change(add=1, f=2)).ids == tuple(range(7)), "4 and 5 have been waited for"
            await load.go_on()
            with pytest.raises(OperationFailed, match=r"n = 6, f = 2: .* n >= 3f \+ 1 = 7"):
                await cluster.change(remove=(1,))
            assert (await cluster.change(remove=(0,), f=1)).ids == (1, 2, 3, 4, 5, 6)  # 0 was the primary
            await load.go_on()
            assert await client.follow(3, LIMIT_S)
        assert [node.me for node in cluster.nodes] == [1, 2, 3, 4, 5, 6]
        load.client = cluster._client
        await load.check()
    async with LocalCluster("pbft", Counter, dir=tmp_path / "c") as cluster:
        assert (cluster.members.epoch, cluster.members.f, cluster.members.n) == (3, 1, 6)
        said = await until(cluster._client, level)
        assert epochs(said) == dict.fromkeys(range(1, 7), 3)
        load.client = cluster._client
        await load.check()
        assert (await cluster.change(add=1)).ids == (1, 2, 3, 4, 5, 6, 7), "and its members change on"


async def test_a_client_that_knows_the_first_members_alone_finds_the_present_ones(tmp_path: Path) -> None:
    async with LocalCluster("pbft", Counter, f=1, dir=tmp_path / "c", options=SOON) as cluster:
        await cluster.call("add")
        for gone in (0, 1):
            await cluster.change(remove=(gone,), add=1)
        (tmp_path / "c" / "members.json").unlink()
        async with cluster.client("gateway") as client:
            assert client.members.epoch == 0
            assert await client.follow(2, LIMIT_S), "2 and 3 are left of the first ones, and prove the rest"
            assert client.members.ids == (2, 3, 4, 5)
            assert await client.call("value") == 1
        assert Roster(cluster.config).known.ids == (2, 3, 4, 5), "it has been written down again"


async def test_under_macs_replicas_join_when_the_first_members_are_all_gone(tmp_path: Path) -> None:
    """Each begins with what the administrator's client had heard when it was enrolled."""
    options = {**SOON, "auth": "macs"}
    async with LocalCluster("pbft", Counter, f=1, dir=tmp_path / "c", options=options) as cluster:
        await cluster.call("add")
        for gone in range(4):
            await cluster.change(remove=(gone,), add=1)
            await until(cluster._client, level)
        assert [node.me for node in cluster.nodes] == [3, 4, 5, 6, 7], "3 left last, and alone convinces nobody"
        await cluster.change(add=1)
        assert [node.me for node in cluster.nodes] == [4, 5, 6, 7, 8]
        said = await until(cluster._client, level)
        assert epochs(said) == dict.fromkeys(range(4, 9), 5)
        assert await cluster.call("value") == 1


async def test_a_removed_replica_that_is_started_again_votes_for_nothing(tmp_path: Path) -> None:
    async with LocalCluster("pbft", Counter, f=1, dir=tmp_path / "c", options=SOON) as cluster:
        await cluster.change(remove=(1,), add=1)
        former = Node(cluster.config, 1)
        await former.start()
        running = asyncio.create_task(former.run())
        status, knows = former.engine.replica.status, asyncio.Event()
        former.engine.after_turns(lambda: knows.set() if status().role.startswith("removed from") else None)
        async with asyncio.timeout(LIMIT_S):
            await knows.wait()
        assert status().role == "removed from the cluster in epoch 1"
        for _ in range(20):
            await cluster.call("add")
        assert former.serving() is None
        assert not status().in_sync
        assert former.present.ids == (0, 2, 3, 4)
        former.stop()
        await running


class Struck:
    """A cluster of processes that are killed at once, all of them, during a change."""

    def __init__(self, folder: Path, auth: str) -> None:
        options = {**SOON, "auth": auth}
        self.config: ClusterConfig = create_cluster(
            folder / "c", "pbft", f=1, app=Counter, port=free_port(6), options=options
        )
        self.processes = LocalProcesses(self.config)

    async def kill_all(self) -> None:
        running = [node for node, _ in self.processes.pids().items()]
        for node in running:
            self.processes.kill(node)
        await asyncio.gather(*map(self.processes.wait_exit, running))
        assert not self.processes.pids()

    async def start_all(self) -> None:
        await self.processes.start([member.id for member in Roster(self.config).members])


MOMENTS: dict[str, Callable[[list[Said]], bool]] = {
    "ordered": lambda said: True,
    "half-way": lambda said: any(word.status is not None and word.status.index > 40 for word in said),
    "begun": lambda said: 1 in epochs(said).values(),
    "all have begun": lambda said: list(epochs(said).values()).count(1) >= 3,
}


SLOW = [(moment, "signatures") for moment in MOMENTS if moment != "begun"] + [("half-way", "macs"), ("begun", "macs")]


@pytest.mark.parametrize(
    ("moment", "auth"), [("begun", "signatures"), *[pytest.param(*case, marks=pytest.mark.slow) for case in SLOW]]
)
async def test_all_are_killed_during_a_change(tmp_path: Path, moment: str, auth: str) -> None:
    struck = Struck(tmp_path, auth)
    async with struck.processes:
        await struck.processes.start()
        await struck.processes.wait_serving()
        async with LogClient(struck.config, "gateway", timeout=LIMIT_S) as client, LogClient(struck.config) as admin:
            async with Load(client).running() as load:
                await load.go_on()
                administrator = Administrator(struck.config)
                following = await administrator.change(admin, Wish(remove=[3], add=[("127.0.0.1", 0)]))
                await struck.processes.start([4])
                await until(admin, MOMENTS[moment])
                await struck.kill_all()
                await struck.start_all()
                assert (await administrator.settled(admin, following, LIMIT_S)).ids == (0, 1, 2, 4)
                await load.go_on()
            await load.check()
            said = await until(client, level)
            assert epochs(said) == dict.fromkeys((0, 1, 2, 4), 1)


async def test_what_is_missing_is_named(tmp_path: Path) -> None:
    async with LocalCluster("pbft", Counter, f=1, dir=tmp_path / "c", options=SOON) as cluster:
        with pytest.raises(ConfigError, match=r"node = 9: is no member; members are 0, 1, 2, 3"):
            await cluster.change(remove=(9,))
        with pytest.raises(ConfigError, match=r"n = 4, f = 1: takes 3 that vote .* only 2 of the present ones stay"):
            await cluster.change(remove=(1, 2), add=2)
        with pytest.raises(OperationFailed, match="the change changes nothing"):
            await cluster.change()
        lock = FolderLock(tmp_path / "c", 0, LOCK)
        with pytest.raises(ConfigError, match=r"process \d+ is making a change of its members; wait for it"):
            await cluster.change(add=1)
        lock.release()
        assert not cluster.config.node_folder(4).exists(), "nothing is left of a change that was refused"
        (tmp_path / "c" / "admin" / "key.pem").rename(tmp_path / "elsewhere.pem")
        with pytest.raises(ConfigError, match=r"admin/key.pem: there is no such file; name the folder .* --key DIR"):
            await cluster.change(add=1)


async def test_nothing_is_left_of_a_change_that_cannot_be_made(tmp_path: Path) -> None:
    async with LocalCluster("pbft", Counter, f=1, dir=tmp_path / "c") as cluster, cluster.client("gateway") as client:
        administrator, here = Administrator(cluster.config), "127.0.0.1"

        async def refused(*places: tuple[str, int], rule: str) -> None:
            with pytest.raises(ConfigError, match=rule):
                await administrator.change(client, Wish(add=places))
            assert enrolled(cluster.config) == [0, 1, 2, 3]

        await refused((here, 0), ("no host", 1), rule="host = 'no host': must be the name or the address")
        with socket.create_server((here, 0)) as taken:
            port = taken.getsockname()[1]
            await refused((here, port), rule=rf"port {port} on {here}: Address already in use; name another")
        lock = FolderLock(cluster.config.folder, file=LOCK)
        await refused((here, 0), rule=rf"process {os.getpid()} is making a change of its members; wait for it")
        lock.release()
        assert (await administrator.change(client, Wish(add=[(here, 0)]))).ids == (0, 1, 2, 3, 4)


async def test_a_cluster_of_an_older_version_has_no_administrator(tmp_path: Path) -> None:
    """Its folder is as it was: it runs, and says what is missing."""
    file = create_cluster(tmp_path / "c", "pbft", f=1, app=Counter, port=free_port(4)).folder / "cluster.toml"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("admin")))
    async with LocalCluster("pbft", Counter, dir=tmp_path / "c") as cluster:
        assert await cluster.call("add") == 1
        with pytest.raises(ConfigError, match=r"admin is missing in cluster.toml: .* without an administrator's key"):
            await cluster.change(add=1)


async def test_a_change_that_does_not_begin_in_time_stays_pending() -> None:
    """Two of four are gone, so that the boundary, which is far, cannot become stable."""
    far = {"checkpoint_interval": 512, "log_window": 1024}
    async with LocalCluster("pbft", Counter, f=1, options=far) as cluster, cluster.client("gateway") as client:
        administrator = Administrator(cluster.config)
        following = await administrator.change(client, Wish(add=[("127.0.0.1", 0)]))
        for node in cluster.nodes[2:]:
            node.stop()
            await cluster._running.pop(node.me)
        del cluster.nodes[2:]
        with pytest.raises(ChangePending, match=r"epoch 1 has not begun after 0.1 s: .* stable checkpoint at 1536"):
            await administrator.settled(client, following, 0.1)
