"""One seed gives one trace, byte for byte, in any process: with faults, and whatever the hash seed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

RUN = """
import sys
from replog import protocols
from replog.sim import NetworkModel, SimCluster
from replog.trace import Recorder
from tests.cluster.story import Load

spec, seed = protocols.find(sys.argv[1]), int(sys.argv[2])
recorder = Recorder("all", sys.stdout)
network = NetworkModel(loss=0.02, duplicate=0.02, reorder=0.05)
cluster = SimCluster(spec, f=1, seed=seed, clients=["c0", "c1", "c2"], recorder=recorder, network=network)
load = Load(cluster)
load.more(30, 60_000_000)
cluster.crash(0)
load.more(20, 60_000_000)
cluster.restart(0)
cluster.partition({1}, {0, 2, 3} if cluster.n == 4 else {0, 2})
load.more(20, 60_000_000)
cluster.heal()
load.stop(60_000_000)
"""


def trace(protocol: str, seed: int, hash_seed: int) -> bytes:
    command = [sys.executable, "-c", RUN, protocol, str(seed)]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return done.stdout


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_one_seed_one_trace(protocol: str) -> None:
    first, second = trace(protocol, 11, 1), trace(protocol, 11, 4_711)
    assert first.count(b"\n") > 1_000
    assert first == second


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_another_seed_is_another_trace(protocol: str) -> None:
    assert trace(protocol, 11, 1) != trace(protocol, 12, 1)
