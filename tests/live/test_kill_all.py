"""Kill -9 of all replicas at once, under load, again and again: started anew, the cluster goes on by itself, nothing
acknowledged is lost and nothing is executed twice. Judged by all judges of the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
@pytest.mark.parametrize("auth", ["signatures", "macs"])
async def test_all_are_killed_at_once_under_load_20_times(tmp_path: Path, auth: str) -> None:
    await kill_all(tmp_path, "pbft", 20, auth=auth)
