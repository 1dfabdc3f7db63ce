"""An old copy of a Raft server's folder is put back, with real processes. (HAZARDS R28)"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.command import Shell, free_port, until

pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@contextmanager
def started(shell: Shell, port: int) -> Iterator[None]:
    shell.run("up", "raft", "--detach", "--port", str(port))
    try:
        yield
    finally:
        shell.run("down")


def test_an_old_folder_is_found_out_and_has_no_vote_until_its_server_is_replaced(shell: Shell) -> None:
    folder, port = shell.folder / "replog-raft", free_port(4)
    with started(shell, port):
        shell.run("kv", "put", "x", "1")
    shutil.copytree(folder / "node-1", shell.folder / "archive")
    with started(shell, port):
        shell.run("kv", "put", "x", "2")
        until(lambda: witnessed(shell), "leaders have told what is acknowledged")
    shutil.rmtree(folder / "node-1")
    shutil.copytree(shell.folder / "archive", folder / "node-1")
    with started(shell, port):
        found = until(lambda: old(shell), "node 1 is found out")
        assert "an old copy of the disk: this server had promised up to index" in found["reason"]
        assert shell.said("kv", "get", "x") == "2"
        assert shell.json("leader", "show")["leader"] != 1
        told = shell.json("member", "replace", "1")
        assert [member["node"] for member in told["members"]] == [0, 2, 3]


def old(shell: Shell) -> dict | None:  # type: ignore[type-arg]
    said = shell.json("status")["replicas"]
    return next((one for one in said if one["node"] == 1 and one["role"] == "no vote"), None)


def witnessed(shell: Shell) -> bool:
    """Everything is committed everywhere, and at least a second has passed since the beginning of the term."""
    said = shell.json("status")["replicas"]
    return all(one["detail"].get("witnessed", 0) >= one["last_index"] - 1 > 0 for one in said)
