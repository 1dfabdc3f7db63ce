"""Real processes, killed: what was acknowledged is there afterwards, and nothing was executed twice.

Judged from outside: by what clients were told, and by what they read when the cluster runs again. `test_kill_all.py`
kills all at once, and asks the judges of the comparison.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from replog import LocalProcesses, LogClient, create_cluster
from replog.config import ClusterConfig
from replog.errors import ConfigError, NotCommitted, OutcomeUnknown
from replog.live.processes import NodeDied, NodeExit

pytestmark = pytest.mark.live
PROTOCOLS = ["pbft", "raft"]
OFTEN = {
    "pbft": {"checkpoint_interval": 16, "log_window": 64},
    "raft": {"snapshot_entries": 16, "log_tail": 4},
}
"""So that the kills meet checkpoints being written and logs being cut."""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., ClusterConfig]:
    def make(protocol: str, **more: object) -> ClusterConfig:
        n = {"pbft": 4, "raft": 3}[protocol]
        return create_cluster(tmp_path / "cluster", protocol, f=1, port=free_ports(n), options=OFTEN[protocol], **more)  # type: ignore[arg-type]

    return make


class Load:
    """Appends of distinct words to a few keys, and what became of each."""

    def __init__(self, client: LogClient) -> None:
        self.client = client
        self.acknowledged: dict[str, list[str]] = {f"k{n}": [] for n in range(4)}
        self.unknown: set[str] = set()
        self.refused: set[str] = set()
        self._word = 0
        self._more = asyncio.Condition()
        self._enough = asyncio.Event()
        self._tasks = [asyncio.create_task(self._one(key)) for key in self.acknowledged]

    async def stop(self) -> None:
        """Let what is under way come to its end."""
        self._enough.set()
        await asyncio.gather(*self._tasks)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _one(self, key: str) -> None:
        while not self._enough.is_set():
            self._word += 1
            word = f"<{self._word}>"
            try:
                await self.client.call("append", key, word)
                self.acknowledged[key].append(word)
                async with self._more:
                    self._more.notify_all()
            except OutcomeUnknown:
                self.unknown.add(word)
            except NotCommitted:
                self.refused.add(word)

    async def acknowledge(self, more: int) -> None:
        """Until `more` further appends are acknowledged."""
        target = self.count + more
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: self.count >= target)

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    async def judge(self) -> int:
        """Every acknowledged word stands once, in the order of acknowledgement; no refused one stands. How many."""
        for key, words in self.acknowledged.items():
            text: str = await self.client.call("get", key) or ""
            stands = [f"<{word}>" for word in text.strip("<>").split("><")] if text else []
            assert len(stands) == len(set(stands)), f"{key}: executed twice"
            assert [word for word in stands if word not in self.unknown] == words
            assert not self.refused & set(stands)
        return self.count


@contextlib.asynccontextmanager
async def loading(client: LogClient) -> AsyncIterator[Load]:
    load = Load(client)
    try:
        yield load
    finally:
        load.cancel()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_kill_the_leader_under_load_and_restart_it(protocol: str, make: Callable[..., ClusterConfig]) -> None:
    config = make(protocol)
    async with LocalProcesses(config) as processes:
        await processes.start()
        await processes.wait_serving()
        async with LogClient(config, timeout=30) as client, loading(client) as load:
            for _ in range(2):
                await load.acknowledge(100)
                leader = next(said.status.leader for said in await client.status() if said.status)
                processes.kill(leader)
                await processes.wait_exit(leader)
                await load.acknowledge(100)
                await processes.restart(leader)
                await processes.wait_serving()
            await load.stop()
            assert await load.judge() >= 400


async def test_a_replica_that_lost_its_log_is_refused(make: Callable[..., ClusterConfig]) -> None:
    config = make("pbft")
    (config.node_folder(2) / "log.db").unlink()
    async with LocalProcesses(config) as processes:
        await processes.start([2])
        with pytest.raises(NodeDied, match=r"node 2 .* exit code 1:\n.*log\.db: is missing; .* must not start empty"):
            await processes.wait_serving()


async def test_a_port_in_use_is_one_line_that_names_it(make: Callable[..., ClusterConfig]) -> None:
    config = make("pbft")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", config.nodes[1].port))
        taken.listen()
        async with LocalProcesses(config) as processes:
            await processes.start()
            with pytest.raises(NodeDied, match=rf"port {config.nodes[1].port} on 127\.0\.0\.1: Address already in use"):
                await processes.wait_serving()


async def test_the_end_of_a_replica_is_reported(make: Callable[..., ClusterConfig]) -> None:
    ends: list[NodeExit] = []
    config = make("pbft")
    async with LocalProcesses(config, on_exit=ends.append) as processes:
        await processes.start()
        await processes.wait_serving()
        pids = processes.pids()
        os.kill(pids[3], signal.SIGKILL)
        await processes.wait_exit(3)
        assert [(end.node, end.pid, end.code, end.expected) for end in ends] == [(3, pids[3], -9, False)]
        assert set(processes.pids()) == {0, 1, 2}
    assert sorted((end.node, end.code, end.expected) for end in ends[1:]) == [(0, 0, True), (1, 0, True), (2, 0, True)]


PARENT = """
import asyncio, json, sys
from replog import LocalProcesses

async def main():
    processes = LocalProcesses(sys.argv[1])
    await processes.start()
    await processes.wait_serving()
    print(json.dumps(processes.pids()), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_nothing_outlives_a_parent_that_was_killed(make: Callable[..., ClusterConfig]) -> None:
    config = make("pbft")
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(config.folder), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = json.loads(await parent.stdout.readline())
    assert len(pids) == 4
    watched = [os.pidfd_open(pid) for pid in pids.values()]
    try:
        assert LocalProcesses(config).pids() == {int(node): pid for node, pid in pids.items()}
        parent.kill()
        await parent.communicate()
        ended = [asyncio.get_running_loop().create_future() for _ in watched]
        for descriptor, future in zip(watched, ended, strict=True):
            asyncio.get_running_loop().add_reader(descriptor, lambda f=future: f.done() or f.set_result(None))
        await asyncio.wait_for(asyncio.gather(*ended), 20)
        assert LocalProcesses(config).pids() == {}
    finally:
        for descriptor in watched:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


# ------------------------------------------------------------------------------------------------------ laboratory

LIAR = """
class Silent:
    def __init__(self, replica, words):
        self.replica, self.words = replica, words

    def step(self, now, event):
        return [effect for effect in self.replica.step(now, event) if type(effect).__name__ not in self.words]

    def status(self):
        return self.replica.status()

def silence(node, replica, words):
    return Silent(replica, words)

class Broken(Silent):
    def step(self, now, event):
        raise RuntimeError("a bug of our own")

def broken(node, replica):
    return Broken(replica, ())
"""


async def test_a_laboratory_takes_a_wrap_and_no_other_cluster_does(
    make: Callable[..., ClusterConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "liar.py").write_text(LIAR)
    monkeypatch.syspath_prepend(tmp_path)
    config = make("pbft", lab=True, trace="decisions")
    async with LocalProcesses(config) as processes:
        await processes.start(wraps={3: ("liar:silence", {"words": ["Reply", "Send"]})})
        await processes.wait_serving()
        async with LogClient(config) as client:
            done = await client.ask("put", "x", "1")
            assert 3 not in done.vouchers
            assert [said.node for said in await client.status(0.5) if said.status is None] == [3]
    lines = [json.loads(line) for line in (config.node_folder(0) / "trace.jsonl").read_text().splitlines()]
    assert any(line.get("effect", {}).get("kind") == "Apply" for line in lines)


async def test_a_wrap_outside_a_laboratory_is_refused_by_parent_and_process(
    make: Callable[..., ClusterConfig],
) -> None:
    config = make("pbft")
    with pytest.raises(ConfigError, match="only a cluster made for the laboratory takes a wrap"):
        await LocalProcesses(config).start(wraps={0: ("os:getcwd", {})})
    command = [sys.executable, "-m", "replog.live.node", str(config.node_folder(0)), "--wrap", "os:getcwd"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"only a cluster made for the laboratory takes a wrap" in errors


async def test_a_bug_of_our_own_ends_the_process_with_its_traceback(
    make: Callable[..., ClusterConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "liar.py").write_text(LIAR)
    monkeypatch.syspath_prepend(tmp_path)
    config = make("pbft", lab=True)
    async with LocalProcesses(config) as processes:
        await processes.start([0], wraps={0: ("liar:broken", {})})
        with pytest.raises(NodeDied, match=r"exit code 70:\n(.*\n)*RuntimeError: a bug of our own"):
            await processes.wait_serving()
    assert "Traceback" in (config.node_folder(0) / "node.log").read_text()
