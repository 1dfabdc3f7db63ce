"""Members of a live cluster of Raft change under load: the client that was there before goes on, every call is executed
once, and what was acknowledged outlives the end of all processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from replog import LocalCluster, LocalProcesses, create_cluster
from replog.apps.counter import Counter
from replog.config import ClusterConfig
from replog.errors import ConfigError
from replog.live.administration import Administrator, ChangeGivenUp, ChangePending, Wish
from replog.live.client import LogClient
from replog.live.node import Node
from replog.roster import Roster
from replog.types import NodeId
from tests.live.command import free_port
from tests.live.test_membership import LIMIT_S, Load, epochs, level, until

pytestmark = pytest.mark.live


async def leader_of(client: LogClient) -> NodeId:
    said = await until(client, lambda said: any(word.status and word.status.role == "leader" for word in said))
    return next(word.node for word in said if word.status is not None and word.status.role == "leader")


async def stop(cluster: LocalCluster, node: NodeId) -> None:
    (dead,) = [one for one in cluster.nodes if one.me == node]
    cluster.nodes.remove(dead)
    dead.stop()
    await cluster._running.pop(node)


async def test_a_dead_server_is_replaced_under_load_and_then_the_leader_removed() -> None:
    async with LocalCluster("raft", Counter, f=1) as cluster:
        async with cluster.client("gateway") as client, Load(client).running() as load:
            await load.go_on()
            dead = (await leader_of(client) + 1) % 3
            await stop(cluster, dead)
            await load.go_on()
            following = await cluster.change(remove=(dead,), add=1)
            assert following.ids == tuple(sorted({0, 1, 2, 3} - {dead}))
            await load.go_on()
            leader = await leader_of(cluster._client)
            following = await cluster.change(remove=(leader,), add=2)
            assert (following.epoch, following.f, following.n) == (2, 1, 4)
            await load.go_on()
            assert await client.follow(2, LIMIT_S), "the client that was there before has followed"
            await load.go_on()
        async with cluster.client("gateway") as client:
            said = await until(client, level)
            assert epochs(said) == dict.fromkeys(following.ids, 2)
            load.client = client
            await load.check()


async def test_all_are_replaced_at_once_and_the_cluster_is_resumed(tmp_path: Path) -> None:
    async with LocalCluster("raft", Counter, f=1, dir=tmp_path / "c") as cluster:
        async with cluster.client("gateway") as client, Load(client).running() as load:
            await load.go_on()
            following = await cluster.change(remove=(0, 1, 2), add=3)
            assert following.ids == (3, 4, 5)
            await load.go_on()
        load.client = cluster._client
        await load.check()
    async with LocalCluster("raft", Counter, dir=tmp_path / "c") as cluster:
        assert (cluster.members.epoch, cluster.members.ids) == (1, (3, 4, 5))
        load.client = cluster._client
        await load.check()
        assert (await cluster.change(remove=(3, 4))).ids == (5,)
        await load.check()


async def test_a_learner_follows_and_is_promoted() -> None:
    async with LocalCluster("raft", Counter, f=1) as cluster:
        await cluster.call("add")
        cluster.snapshot()
        await until(cluster._client, lambda said: all(word.status and word.status.stable >= 1 for word in said))
        following = await cluster.change(add=1, learners=True)
        assert (following.voters, following.learners, following.f) == ((0, 1, 2), (3,), 1)
        said = await until(cluster._client, level)
        assert [word.status.role for word in said if word.status is not None][3] == "learner"
        with pytest.raises(ConfigError, match=r"node = 2: is no learner; learners are \[3\]"):
            await cluster.change(promote=(2,))
        following = await cluster.change(promote=(3,))
        assert (following.voters, following.learners) == ((0, 1, 2, 3), ())
        with pytest.raises(ConfigError, match="f = 2: raft stands as many faults as leave a majority of the voters"):
            await cluster.change(f=2)
        with pytest.raises(ConfigError, match=r"remove = \[0, 1, 2, 3\]: at least one voter has to stay, of \[0, 1, 2"):
            await cluster.change(remove=(0, 1, 2, 3))


async def test_a_removed_server_that_is_started_again_learns_of_it_and_disturbs_nobody() -> None:
    async with LocalCluster("raft", Counter, f=1) as cluster:
        gone = (await leader_of(cluster._client) + 1) % 3
        await cluster.call("add")
        await stop(cluster, gone)
        await cluster.change(remove=(gone,), add=1)
        terms = {word.node: word.status.view for word in await cluster.status() if word.status is not None}
        former = Node(cluster.config, gone)
        await former.start()
        running = asyncio.create_task(former.run())
        status, knows = former.engine.replica.status, asyncio.Event()
        former.engine.after_turns(lambda: knows.set() if status().role == "removed" else None)
        async with asyncio.timeout(LIMIT_S):
            await knows.wait()
        assert await cluster.call("add") == 2
        assert {word.node: word.status.view for word in await cluster.status() if word.status is not None} == terms
        former.stop()
        await running


async def test_one_that_does_not_come_is_waited_for_and_then_given_up(tmp_path: Path) -> None:
    config = create_cluster(
        tmp_path / "c", "raft", f=1, app=Counter, port=free_port(4), options={"catch_up_us": 8_000_000}
    )
    async with LocalProcesses(config) as processes:
        await processes.start()
        await processes.wait_serving()
        async with LogClient(config) as client:
            administrator = Administrator(config)
            following = await administrator.change(client, Wish(add=[("127.0.0.1", 0)]))
            with pytest.raises(ChangePending, match="who comes has to catch up first, node 3 has 0 of"):
                await administrator.settled(client, following, 0.5)
            with pytest.raises(ChangePending, match="under way: epoch 1 with 0, 1, 2, 3; wait for it, or give it up"):
                await administrator.change(client, Wish(add=[("127.0.0.1", 0)]))
            assert config.node_folder(3).is_dir(), "it is the newcomer's"
            with pytest.raises(ChangeGivenUp, match="node 3 did not catch up in time"):
                await administrator.settled(client, following, LIMIT_S)
            assert (client.members.epoch, client.members.ids, client.members.next_id) == (1, (0, 1, 2), 4)
            assert await client.call("add") == 1


SLOW = [pytest.param(moment, marks=pytest.mark.slow) for moment in ("ordered", "made")]


@pytest.mark.parametrize("moment", ["learning", *SLOW])
async def test_all_are_killed_during_a_change(tmp_path: Path, moment: str) -> None:
    config = create_cluster(tmp_path / "c", "raft", f=1, app=Counter, port=free_port(6))
    async with LocalProcesses(config) as processes:
        await processes.start()
        await processes.wait_serving()
        async with LogClient(config, "gateway", timeout=LIMIT_S) as client, LogClient(config) as admin:
            async with Load(client).running() as load:
                await load.go_on()
                administrator = Administrator(config)
                following = await administrator.change(admin, Wish(remove=[2], add=[("127.0.0.1", 0)]))
                if moment != "ordered":
                    await processes.start([3])
                if moment == "made":
                    await until(admin, lambda said: 1 in epochs(said).values())
                running = list(processes.pids())
                for node in running:
                    processes.kill(node)
                await asyncio.gather(*map(processes.wait_exit, running))
                await processes.start([member.id for member in Roster(config).members])
                assert (await administrator.settled(admin, following, LIMIT_S)).ids == (0, 1, 3)
                await load.go_on()
            await load.check()
            said = await until(client, level)
            assert epochs(said) == dict.fromkeys((0, 1, 3), 1)


async def test_stop_and_restart_with_other_options_loses_nothing(tmp_path: Path) -> None:
    """What clients have asked waits with them."""
    options = {"heartbeat_us": 50_000}
    config = create_cluster(tmp_path / "c", "raft", f=1, app=Counter, port=free_port(4), options=options)
    async with LocalProcesses(config) as processes:
        await processes.start()
        await processes.wait_serving()
        async with LogClient(config, "gateway", timeout=LIMIT_S) as client, Load(client).running() as load:
            await load.go_on()
            await processes.stop()
            file = config.folder / "cluster.toml"
            file.write_text(file.read_text().replace("heartbeat_us = 50000", "heartbeat_us = 40000"))
            changed = ClusterConfig.load(config.folder)
            assert changed.protocol_options().heartbeat_us == 40_000
            async with LocalProcesses(changed) as again:
                await again.start()
                await again.wait_serving()
                await load.go_on()
                assert load.unknown == 0
                await load.check()


@pytest.mark.parametrize("apart", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_pause_and_resume_around_a_change_loses_nothing(apart: bool) -> None:
    async with LocalCluster("raft", Counter, f=1, processes=apart) as cluster, cluster.client("gateway") as client:
        client.timeout = LIMIT_S
        async with Load(client).running() as load:
            await load.go_on()
            cluster.pause()
            await until(cluster._client, lambda said: all(w.status and w.status.detail.get("paused") for w in said))
            await asyncio.sleep(0)
            following = await cluster.change(add=1, remove=(await leader_of(cluster._client),))
            answered = len(load.values)
            assert following.epoch == 1
            cluster.resume()
            await load.go_on()
            assert load.unknown == 0
            assert len(load.values) > answered
        await load.check()
