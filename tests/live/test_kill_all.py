"""Kill -9 of all replicas at once, under load, again and again: started anew, the cluster goes on by itself, nothing
acknowledged is lost and nothing is executed twice. Judged by all judges of the comparison."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.live.command import Shell, alive, until
from tests.live.lab import Lab

pytestmark = pytest.mark.live

OFTEN: dict[str, dict[str, Any]] = {
    "pbft": {"checkpoint_interval": 16, "log_window": 64},
    "raft": {"snapshot_entries": 16, "log_tail": 4},
}
"""So that the kills meet checkpoints being written and logs being cut."""


async def kill_all(folder: Path, protocol: str, rounds: int, **options: Any) -> None:
    """`rounds` times, at random moments of the load."""
    lab = Lab(folder, protocol, {**OFTEN[protocol], **options}, seed=rounds)
    nodes = range(lab.config.n)
    async with lab.running():
        for _ in range(rounds):
            await lab.acknowledge(lab.chance.randrange(20, 60))
            await lab.kill(*nodes)
            await lab.start(*nodes)
        await lab.acknowledge(20)
        checks = await lab.judge()
    print({name: check.checked for name, check in checks.items()})
    assert checks["durability"].checked >= lab.config.n * 20 * (rounds + 1), "vacuous"


@pytest.mark.parametrize(("protocol", "options"), [("pbft", {}), ("pbft", {"auth": "macs"}), ("raft", {})])
async def test_all_are_killed_at_once_under_load(tmp_path: Path, protocol: str, options: dict[str, Any]) -> None:
    await kill_all(tmp_path, protocol, 2, **options)


@pytest.mark.slow
async def test_all_are_killed_at_once_under_load_20_times(tmp_path: Path) -> None:
    await kill_all(tmp_path, "pbft", 20)


def pids_of(shell: Shell) -> list[int] | None:
    """Of all replicas; None unless each of them runs."""
    said, _ = shell.begin("status", "--json").communicate(timeout=30)
    pids = [replica["pid"] for replica in json.loads(said)["replicas"]]
    return None if None in pids else pids


@pytest.mark.slow
def test_all_are_killed_at_once_and_the_supervisor_starts_them_again(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    try:
        with shell.cluster("pbft", "--restart") as known:
            pids = [node["pid"] for node in known["nodes"]]
            for number in range(2):
                shell.run("kv", "put", "x", str(number))
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                until(lambda gone=pids: not any(map(alive, gone)), "all replicas end")
                until(lambda: shell.begin("kv", "get", "x").wait(30) == 0, "the cluster answers again")
                assert shell.said("kv", "get", "x") == str(number)
                pids = until(lambda: pids_of(shell), "all replicas run")
    finally:
        shell.close()
