"""Who is not heard for a while, and who is served when, on real links (P36)."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from replog import LocalCluster, protocols
from replog.certificates import tls_context
from replog.codec import Domain, pack_frame
from replog.core import Shun
from replog.live import inbox
from replog.live.engine import Engine
from replog.live.links import PATH
from replog.turns import BURST_US, FLOOD, Shares, Turns
from replog.types import Principal, Request, Submit
from tests.live.test_engine import Alone, Gated, Listening, storage

__all__ = ["storage"]


@pytest.mark.live
@pytest.mark.parametrize(("robust", "heard"), [(True, False), (False, True)])
async def test_p36_a_client_that_signs_badly_loses_its_link_and_is_told_why(robust: bool, heard: bool) -> None:
    async with LocalCluster("pbft", f=1, options={"robust": robust}, clients=("cli", "mallory")) as cluster:
        node, config = cluster.nodes[0], cluster.config
        context = tls_context(config.folder / "ca.pem", config.client_folder("mallory"), server=False)
        url = f"https://{config.nodes[0].host}:{config.nodes[0].port}{PATH}"
        lie = Request.make(lambda _: bytes(64), Domain(config.cluster), "mallory", 1, 0, [b"x"])
        frame = pack_frame([config.spec.messages.encode(Submit(lie.raw))])
        async with aiohttp.ClientSession() as session:
            link = await session.ws_connect(url, ssl=context)
            await link.send_bytes(frame)
            answer = await link.receive(timeout=20)
            if heard:
                assert answer.type is aiohttp.WSMsgType.BINARY, "it is refused, and may ask again"
                await link.close()
                return
            while answer.type is aiohttp.WSMsgType.BINARY:
                answer = await link.receive(timeout=20)
            assert (answer.type, answer.data) == (aiohttp.WSMsgType.CLOSE, 1008)
            assert "client mallory is not heard for 60 s: bad signature" in str(answer.extra)
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url, ssl=context)
            assert refused.value.status == 403
        await cluster.call("put", "x", "1")
        assert node.engine.shunned.count == 1
        status = await cluster.status()
        assert "shunned" in repr(status)


class Shunning(Listening):
    """Shuns whoever says anything."""

    def step(self, now: int, event: Any) -> list[Any]:
        super().step(now, event)
        sender = getattr(event, "sender", None)
        return [Shun(sender, 60_000_000, "a rule")] if isinstance(sender, str) else []


class Told(Alone):
    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def shun(self, client: str, rule: str) -> None:
        self.ended.append((client, rule))


def frame(count: int) -> bytes:
    return pack_frame([protocols.find("raft").messages.encode(Submit(b"x"))] * count)


async def test_p36_nothing_more_is_taken_of_a_client_that_is_shunned(storage: Gated) -> None:
    replica, transport = Shunning(), Told()
    engine = Engine(0, protocols.find("raft"), replica, storage, transport)
    handled: list[int] = []
    for _ in range(3):
        engine.receive("eve", frame(5), handled.append)
    engine._turn()
    engine.receive("eve", frame(5), handled.append)
    engine._turn()
    assert replica.heard == 1
    assert len(handled) == 4, "its link may end: all that came is let go"
    assert transport.ended == [("eve", "client eve is not heard for 60 s: a rule")]
    await engine.close()


def share_of(engine: Engine, replica: Listening, sender: Principal) -> int:
    before = replica.heard
    engine._turn()
    return replica.heard - before


@pytest.mark.parametrize("turns", [True, False])
async def test_p36_clients_together_have_a_bounded_share_of_a_turn(storage: Gated, turns: bool) -> None:
    replica, policy = Listening(), Turns((1, 2, 3), inbox.SHARES) if turns else None
    engine = Engine(0, protocols.find("raft"), replica, storage, Alone(), turns=policy)
    for number in range(10):
        engine.receive(f"c{number}", frame(1000), lambda _: None)
    served = [share_of(engine, replica, "c0") for _ in range(3)]
    assert all(0 < share <= inbox.SHARES.clients for share in served) is turns
    await engine.close()


async def test_p36_a_flooding_replica_is_throttled_and_its_flood_is_counted(
    storage: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0
    monkeypatch.setattr("replog.live.engine.monotonic", lambda: now)
    replica, shares = Listening(), Shares(replica=8, clients=8, client=4, throttled=1)
    engine = Engine(0, protocols.find("raft"), replica, storage, Alone(), turns=Turns((1, 2, 3), shares))
    for _ in range(8):
        engine.receive(1, frame(FLOOD), lambda _: None)
    assert share_of(engine, replica, 1) == shares.replica
    now += BURST_US
    assert share_of(engine, replica, 1) == shares.throttled, "nothing else waits"
    engine.receive(2, frame(3), lambda _: None)
    assert share_of(engine, replica, 2) == 3
    assert engine.counts["flood"] == 1
    assert engine._own_word() == {"floods": "node 1 x1"}
    await engine.close()
