"""How long a replica takes from the start of its process until it serves, with much on its disk.

A cluster of real processes on this machine. Each replica's files are made beforehand, as its store writes them: a
checkpoint with many keys, and (Raft) a log with many entries behind it, a record each. PBFT's log never has more than
two windows, so there it is the checkpoint, its certificate and nothing else. Once all serve one of them is killed,
started again, and timed until it serves, and until it has applied what the others have.

    python -m compare.start_time --keys 1000000 --entries 100000 --limit 10
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from compare.arguments import seconds, whole
from compare.crash_points import PROTOCOLS
from compare.live import free_ports
from compare.live_client import LabClient
from pbft.messages import CheckpointProof, Vote
from raft.configuration import Configuration
from raft.messages import Entries, Entry, HardState, LogStart
from replog import LocalProcesses, certificates, create_cluster
from replog.apps.kv import KeyValue
from replog.codec import Domain
from replog.config import ClusterConfig, storage_owner
from replog.executor import Executor, Snapshot
from replog.live.folders import temporary_folder
from replog.storage import Storage
from replog.types import NOBODY, Message, NodeId, Request

INDEX: Final = 128 * 1_000
"""Of the checkpoint: a multiple of PBFT's interval."""
ROW: Final = 64
"""Records of one commit."""
CLIENT: Final = "c0"
LIMIT_S: Final = 300
LOOK_S: Final = 0.05


@dataclass(frozen=True)
class Taken:
    """Seconds from the start of the process."""

    serving: float
    level: float


def state(keys: int) -> Snapshot:
    """A store of keys and short values."""
    machine = KeyValue()
    table: Any = machine.data
    for number in range(keys):
        table[f"key {number:09d}"] = f"value {number} of about thirty bytes"
    executor = Executor(machine)
    executor.index = INDEX
    executor.checkpoint(INDEX)
    return executor.snapshot(INDEX)


def records(config: ClusterConfig, snapshot: Snapshot, entries: int) -> Iterator[tuple[int, Message]]:
    """What the log of every replica holds."""
    if config.protocol == "pbft":
        yield INDEX, _certificate(config, snapshot)
        return
    yield INDEX, LogStart(INDEX, 1, Configuration.of(config.n))
    yield INDEX + entries, HardState(1, NOBODY)
    signer, domain = certificates.load_signer(config.client_folder(CLIENT)), Domain(config.cluster)
    for number in range(1, entries + 1):
        operation = KeyValue.operation("put", f"key {number:09d}", "written since")
        request = Request.make(signer.sign, domain, CLIENT, number, number - 1, [operation])
        yield INDEX + number, Entries(INDEX + number, 1, [Entry(1, number, [request.raw])])


def _certificate(config: ClusterConfig, snapshot: Snapshot) -> CheckpointProof:
    votes = []
    for node in range(config.n - config.f):
        signer = certificates.load_signer(config.node_folder(node))
        statement = Domain(config.cluster).statement("checkpoint", (INDEX, snapshot.digest, node))
        votes.append(Vote(node, signer.sign(statement)))
    return CheckpointProof(INDEX, snapshot.digest, votes)


def prepare(folder: Path, protocol: str, keys: int, entries: int) -> ClusterConfig:
    """A cluster whose replicas have all that on their disks."""
    options = {"snapshot_entries": 4 * entries + 4_096} if protocol == "raft" else {}
    n = {"pbft": 4, "raft": 3}[protocol]
    config = create_cluster(folder / "cluster", protocol, port=free_ports(n), options=options, clients=(CLIENT,))
    snapshot = state(keys)
    encode = config.spec.records.encode
    rows = [(index, encode(record)) for index, record in records(config, snapshot, entries)]
    for node in range(config.n):
        store = Storage(config.node_folder(node), storage_owner(config.cluster, node))
        store.save(snapshot)
        for start in range(0, len(rows), ROW):
            store.append(rows[start : start + ROW])
        store.close()
    return config


async def measure(config: ClusterConfig, node: NodeId) -> Taken:
    async with LocalProcesses(config) as processes, LabClient(config, CLIENT) as client:
        await processes.start()
        await processes.wait_serving(LIMIT_S)
        await _level(client, config.n)
        processes.kill(node)
        await processes.wait_exit(node)
        begun = time.perf_counter()
        await processes.restart(node)
        await processes.wait_serving(LIMIT_S)
        serving = time.perf_counter() - begun
        await _level(client, config.n)
        return Taken(serving, time.perf_counter() - begun)


async def _level(client: LabClient, n: int) -> None:
    """Until all replicas have applied the same, beyond the checkpoint they began with."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            statuses = await client.statuses()
            if len(statuses) == n and len({status.index for status in statuses.values()}) == 1:
                return
            await asyncio.sleep(LOOK_S)


def play(protocol: str, keys: int, entries: int) -> Taken:
    with temporary_folder("replog-start-") as folder:
        config = prepare(Path(folder), protocol, keys, entries)
        return asyncio.run(measure(config, config.n - 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """0: each serves, and is level with the others, within the limit; 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m compare.start_time", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("protocols", nargs="*", default=list(PROTOCOLS), help="pbft raft")
    parser.add_argument("--keys", type=whole(1), default=1_000_000)
    parser.add_argument("--entries", type=whole(0), default=100_000)
    parser.add_argument("--limit", type=seconds, default=10.0, help="seconds")
    given = parser.parse_args(arguments)
    if unknown := set(given.protocols) - set(PROTOCOLS):
        parser.error(f"protocols: {', '.join(sorted(unknown))}: known are {', '.join(PROTOCOLS)}")
    late = 0
    for protocol in given.protocols:
        taken = play(protocol, given.keys, given.entries)
        late += taken.level > given.limit
        what = f"{given.keys} keys" + (f", {given.entries} log records" if protocol == "raft" else "")
        print(f"{protocol}: {what}: serves after {taken.serving:.1f} s, is level after {taken.level:.1f} s")  # noqa: T201
    return int(late > 0)


if __name__ == "__main__":
    sys.exit(main())
