"""Applications that break the rules: one that is not deterministic is named, one that prints does no harm."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from replog import LocalProcesses, create_cluster
from replog.config import load_app
from replog.errors import OutcomeUnknown
from replog.live.client import LogClient
from tests.live.command import Shell
from tests.live.test_crash import free_ports

pytestmark = pytest.mark.live

ODD = """
import json
import os
import random
import sys

from replog.statemachine import StateMachine, command

SERVING = {"event": "serving", "node": 0, "pid": 1, "resumed": False, "index": 0, "role": "", "view": 9, "leader": 0}
print(json.dumps(SERVING), flush=True)
os.write(1, b"written to the descriptor" + bytes([10]))

class Odd(StateMachine):
    @command
    def throw(self) -> int:
        return random.getrandbits(60)

    @command
    def say(self, text: str) -> int:
        print("the application says", text)
        return len(text)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


async def test_an_application_that_prints_and_is_not_deterministic(shell: Shell) -> None:
    (shell.folder / "odd.py").write_text(ODD)
    app = f"{shell.folder / 'odd.py'}:Odd"
    config = create_cluster(shell.folder / "c", "pbft", app=app, port=free_ports(4))
    async with LocalProcesses(config) as processes:
        await processes.start()
        serving = await processes.wait_serving()
        assert {word["role"] for word in serving.values()} == {"primary", "backup"}
        async with LogClient(config, app=load_app(app)) as client:
            assert await client.call("say", "hello") == 5
            client.timeout = 1.5
            told = r"[34] of 4 replicas answered in time, no 2 of them alike; is the application deterministic\?"
            with pytest.raises(OutcomeUnknown, match=told):
                await client.call("throw")
    for node in range(4):
        said = shell.said("logs", str(node), "--cluster", str(config.folder)).splitlines()
        printed = [line.partition(" replog.app ")[2] for line in said if " replog.app " in line]
        assert printed[0].startswith('{"event": "serving"')
        assert printed[1:] == ["written to the descriptor", "the application says hello"]
