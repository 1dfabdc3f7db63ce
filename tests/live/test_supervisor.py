"""The process behind `replog up` while the cluster starts: what it announces is so."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from replog import LocalProcesses, create_cluster
from replog.cli import running
from replog.cli.supervisor import NotServing, Supervisor
from replog.config import ClusterConfig
from replog.live.processes import NodeDied, some
from tests.live.command import free_port

pytestmark = pytest.mark.live


class Struck(Supervisor):
    """Replicas die after they served and before that is announced."""

    victims: tuple[int, ...] = ()

    async def _settle(self) -> None:
        for node in self.victims:
            os.kill(self.nodes[node]["pid"], signal.SIGKILL)
            await self._processes.wait_exit(node)


async def announced(folder: Path, *victims: int) -> list[dict[str, Any]]:
    path = folder / "c"
    config = ClusterConfig.load(path) if path.exists() else create_cluster(path, "raft", port=free_port(3))
    told: list[dict[str, Any]] = []
    with running.claim(config.folder) as claim:
        supervisor = Struck(config, claim, restart=False)
        supervisor.victims = victims

        def announce(known: dict[str, Any]) -> None:
            told.extend(map(dict, known["nodes"]))
            supervisor.stop()

        await supervisor.run(announce)
    return told


async def test_a_replica_that_died_meanwhile_leads_nothing(tmp_path: Path) -> None:
    told = await announced(tmp_path, 1)
    assert (told[1]["pid"], told[1]["role"]) == (None, "down")
    assert all(told[node]["pid"] is not None and told[node]["role"] in ("leader", "follower") for node in (0, 2)), told


async def test_without_a_quorum_no_start_is_announced(tmp_path: Path) -> None:
    with pytest.raises(NotServing, match=r"node 0, 2 ended during the start, 2 of 3 are needed; why: replog logs 0"):
        await announced(tmp_path, 0, 2)


@pytest.mark.parametrize("damage", ["cut", "gone"])
async def test_a_cluster_goes_on_without_a_replica_whose_disk_is_damaged(tmp_path: Path, damage: str) -> None:
    """One of the faults that it stands. In a new cluster nobody knows whose fault it is, and all have to come."""
    folder = tmp_path / "c" / "node-1"
    if damage == "cut":
        create_cluster(tmp_path / "c", "raft", port=free_port(3))
        kept = (folder / "tls.pem").read_bytes()
        (folder / "tls.pem").write_bytes(b"")
        with pytest.raises(NodeDied, match=r"^node 1 \(pid \d+\) ended with exit code 2:"):
            await announced(tmp_path)
        (folder / "tls.pem").write_bytes(kept)
    await announced(tmp_path)
    if damage == "cut":
        (folder / "log.db").write_bytes(b"")
    else:
        folder.rename(tmp_path / "away")
    told = await announced(tmp_path)
    assert (told[1]["pid"], told[1]["role"]) == (None, "down")
    assert all(told[node]["resumed"] and told[node]["role"] in ("leader", "follower") for node in (0, 2)), told


async def test_of_many_that_are_late_some_are_named(tmp_path: Path) -> None:
    assert some(list(range(100))) == "0, 1, 2, 3, 4 and 95 others"
    assert some([3]) == "3"
    config = create_cluster(tmp_path / "c", "raft", port=free_port(3))
    async with LocalProcesses(config) as processes:
        await processes.start([1])  # alone it never serves
        with pytest.raises(NodeDied, match=r"^not serving after 1 s: 1 of 1 nodes; the last lines of node 1:"):
            await processes.wait_serving(1.0)
