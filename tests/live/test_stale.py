"""Stale reads by choice: of the client, the gateway and the command. [Ongaro14 6.4]"""

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from replog import LocalCluster
from replog.live.client import LogClient
from tests.live.command import Shell

pytestmark = pytest.mark.live


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@pytest.mark.parametrize("protocol", ["raft", "pbft"])
async def test_a_client_may_take_an_old_state(protocol: str) -> None:
    """PBFT has no such reads, and gives what is certain."""
    async with LocalCluster(protocol, f=1) as cluster:
        await cluster.call("put", "x", "1")
        assert await cluster.call("get", "x") == "1"
        async with LogClient(cluster.config, "gateway") as client:
            await client.wait_connected(cluster.config.n)
            answers = [await client.ask("get", "x", stale=True) for _ in range(6)]
            assert all(answer.index is None or protocol == "pbft" for answer in answers)
            assert "1" in [answer.value for answer in answers]
            asked = {answer.vouchers for answer in answers}
            assert len(asked) == 3 if protocol == "raft" else all(len(vouchers) > 1 for vouchers in asked)
            with pytest.raises(TypeError, match="put is a command, and only a query may read an old state"):
                await client.call("put", "x", "2", stale=True)
        assert await cluster.call("get", "x", stale=True) in ("1", None)


def http(address: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", data=body, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_one_server_alone_reads_what_it_has(shell: Shell) -> None:
    """The command and the gateway, while two of three servers are silent and nothing certain can be read."""
    with shell.cluster("raft", count=3) as known:
        shell.run("kv", "put", "x", "1")
        silent = [one["pid"] for one in known["nodes"][:2]]
        for pid in silent:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert shell.said("kv", "get", "x", "--stale") == "1"
            assert shell.json("call", "get", "x", "--stale")["vouchers"] == [2]
            gateway = known["gateway"]["address"]
            assert '"value":"1"' in http(gateway, "/kv/x?stale=true")[1]
            assert '"value":"1"' in http(gateway, "/call/get?stale=true", b'["x"]')[1]
            assert http(gateway, "/kv/x?stale=perhaps")[0] == 400
            status, said = http(gateway, "/call/put?stale=true", b'["x", "2"]')
            assert status == 400
            assert "put is a command" in said
        finally:
            for pid in silent:
                os.kill(pid, signal.SIGCONT)
        assert "--stale: put is a command" in shell.complaint("call", "put", "x", "2", "--stale")
