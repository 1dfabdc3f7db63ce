"""[CL99 4.4, CL02 partition tree] Fetching the state: what differs alone, from several, whoever lies, leaves or holds
back. Each test runs with what is broken in the way that it watches for, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from pbft import PbftCore
from pbft import messages as m
from pbft.state_transfer import ASKED_MAX, ASTRAY_MAX, StateTransfer
from replog import merkle
from replog.apps.kv import KeyValue
from replog.codec import BadMessage, pack_frame
from replog.core import Received, Send, Wanted, WritePart
from replog.types import Request, Submit
from tests.pbft import forge
from tests.pbft.harness import DOMAIN, SECOND, SMALL, Cluster, Packet, replace
from tests.plug import Disk

KEYS = 3_000
"""A state of a root and 16 parts, somewhat more than ASKED_MAX."""
CHILDREN = b"\x92"
"""How the root begins. Who lies in it is known at once and asked for nothing else."""


class Store(Cluster):
    machine = KeyValue
    said = 0

    def put(self, pairs: dict[str, str], timestamp: int, to: int = 0) -> None:
        operations = [KeyValue.operation("put", key, value) for key, value in pairs.items()]
        request = Request.make(self.signers["ann"].sign, DOMAIN, "ann", timestamp, timestamp - 1, operations)
        self.inject("ann", to, Submit(request.raw))
        self.settle()

    def change(self, number: int) -> None:
        """`number` requests that change one key each, one after the other."""
        for _ in range(number):
            self.said += 1
            self.put({f"key{self.said * 7 % KEYS:05}": f"new{self.said:05}"}, self.said)

    def fetched(self, kind: type[Any] = m.PartData) -> list[Any]:
        """Messages of state transfer that were sent: parts, or what asked for them."""
        return [(node, to[0], message) for node, to, message in self.sent if type(message) is kind]

    def moved(self) -> int:
        """Bytes that state transfer has sent, in both directions."""
        return sum(len(m.MESSAGES.encode(one)) for k in (m.FetchPart, m.PartData) for _, _, one in self.fetched(k))

    def agrees(self) -> bool:
        return len(self.digests()) == 1 and len(set(self.executed())) == 1


def with_transfer(kind: type[StateTransfer]) -> type[PbftCore]:
    return type("Broken", (PbftCore,), {"transfer_type": kind})


def behind(transfer: type[StateTransfer] = StateTransfer) -> Store:
    """Node 3 has missed 10 changes in KEYS, and the others have discarded them."""
    cluster = Store(options=SMALL, cores={3: with_transfer(transfer)})
    for cluster.said in range(1, 9):
        keys = range((cluster.said - 1) * KEYS // 8, cluster.said * KEYS // 8)
        cluster.put({f"key{key:05}": f"value{key:05}" for key in keys}, cluster.said)
    cluster.isolate(3)
    cluster.change(10)
    cluster.heal()
    assert cluster.core(3).executed == 8
    return cluster


def stopped_after(cluster: Store, parts: int) -> Store:
    """Node 3 gets so many parts, then none."""

    def blocked(packet: Packet) -> bool:
        nonlocal parts
        parts -= type(packet.message) is m.PartData
        return parts < 0 and type(packet.message) is m.PartData

    cluster.blocked = blocked  # type: ignore[assignment]
    cluster.run(SECOND)
    assert cluster.core(3).transfer.running
    return cluster


def lying(cluster: Store, liar: int, applies: Callable[[bytes], bool]) -> None:
    """`liar` gives parts in which one value is another."""
    send = cluster.send

    def lie(packet: Any) -> None:
        message = packet.message
        if packet.sender == liar and type(message) is m.PartData and message.data and applies(message.data):
            data = message.data[:-1] + bytes([message.data[-1] ^ 1])
            packet = Packet(liar, packet.to, m.MESSAGES.encode(replace(message, data=data)))
        send(packet)

    cluster.send = lie  # type: ignore[method-assign]


# ------------------------------------------------------------------------------------------------------------- how much


class AsksBlindly(StateTransfer):
    def on_wanted(self, event: Wanted) -> list[Any]:
        return super().on_wanted(replace(event, hints={}))


class AsksOne(StateTransfer):
    def _next(self, part: int, peers: Any) -> int:
        return int(peers[0])


def test_what_differs_comes_from_several_at_once() -> None:
    cluster, blind, one = behind(), behind(AsksBlindly), behind(AsksOne)
    for each in (cluster, blind, one):
        each.run(2 * SECOND)
        assert each.agrees()
    assert {sender for sender, _, _ in cluster.fetched()} == {0, 1, 2}
    assert {sender for sender, _, _ in one.fetched()} == {0}, "the broken one is told apart"
    whole = len(list(cluster.replicas[0].executor.snapshot(16).parts()))
    assert len(cluster.fetched()) < whole, "parts that are the same here are not asked for"
    assert cluster.moved() < blind.moved() / 5, "the broken one is told apart"


TINY = [200_000, pytest.param(1_000_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("keys", TINY)
def test_a_thousandth_differs_and_less_than_a_hundredth_moves(keys: int) -> None:
    """Keys and values of 8 bytes, one in 1000 changed at random: all bytes of frames, in both directions."""
    rng = random.Random(keys)
    records = {rng.randbytes(8): rng.randbytes(8) for _ in range(keys)}
    here = merkle.build(records)
    there = merkle.update(here, {key: rng.randbytes(8) for key in rng.sample(sorted(records), keys // 1000)})
    asked, given = exchange(here, there)
    whole = sum(len(data) for _, data in merkle.walk(there))
    print(f"{keys} keys: {asked} bytes ask, {given} bytes are given, {100 * (asked + given) / whole:.2f} % of {whole}")
    assert asked + given < whole * 0.01
    blind = sum(len(data) for _, data in merkle.walk(there, here))
    assert blind > whole * 0.05, "whole parts would be too much"


def exchange(here: merkle.Node, there: merkle.Node) -> tuple[int, int]:
    """Bytes asked with and given, until `here` has become `there`."""
    asked = given = 0
    assembly = merkle.Assembly(there.digest, here)
    while assembly.root is None:
        hints = assembly.hints()
        for part in assembly.wanted():
            hint = hints.get(part, b"")
            data = merkle.read_part(there, part, hint)
            asked += len(pack_frame([m.MESSAGES.encode(m.FetchPart(1_000_000, part, hint))]))
            given += len(pack_frame([m.MESSAGES.encode(m.PartData(1_000_000, part, data))]))
            assert assembly.add(part, data or b"")
    assert assembly.root.digest == there.digest
    return asked, given


def test_a_hint_is_bounded_by_its_type() -> None:
    """X6."""
    m.MESSAGES.decode(m.MESSAGES.encode(m.FetchPart(1, 0, bytes(merkle.HINT_BYTES_MAX))))
    with pytest.raises(BadMessage):
        m.MESSAGES.decode(m.MESSAGES.encode(m.FetchPart(1, 0, bytes(merkle.HINT_BYTES_MAX + 1))))


def test_parts_with_a_hint_are_given_within_a_smaller_budget() -> None:
    """What differs takes longer to find than a part to read."""
    cluster = Cluster()
    hint = bytes(merkle.HINT_BYTES_MAX)
    given = [cluster.step(1, Received(2, m.FetchPart(0, 0, hint))) for _ in range(100)]
    assert sum(map(bool, given)) == 64


# -------------------------------------------------------------------------------------------------------------- poison


class Forgives(StateTransfer):
    def on_wanted(self, event: Wanted) -> list[Any]:
        return super().on_wanted(replace(event, refused=False))


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_p41_a_poisoned_part_is_refused_its_sender_noted_and_another_asked(liar: int) -> None:
    for transfer in (AsksBlindly, type("ForgivesBlindly", (AsksBlindly, Forgives), {})):
        cluster = behind(transfer)
        lying(cluster, liar, lambda data: True)
        cluster.run(3 * SECOND)
        assert cluster.agrees()
        noted = any("does not match its digest" in rule for rule in cluster.rules(3))
        assert noted == (transfer is AsksBlindly), "the broken one is told apart"
        asked_last = {message.part: to for _, to, message in cluster.fetched(m.FetchPart)}
        assert liar not in asked_last.values() or not noted


class Trusting(merkle.Assembly):
    def _add_records(self, part: int, hole: Any, records: dict[bytes, bytes]) -> bool:
        hole.digest = merkle._build(merkle._placed(records), merkle._depth(part)).digest
        return super()._add_records(part, hole, records)


def test_p41_no_lie_gets_into_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three lie here, more than PBFT stands: it may take longer, and is never wrong, not even for a while."""
    for assembly, wrong in ((merkle.Assembly, False), (Trusting, True)):
        monkeypatch.setattr(merkle, "Assembly", assembly)
        cluster = behind()
        for liar in (0, 1):
            lying(cluster, liar, lambda data: data[:1] != CHILDREN)
        assert was_ever_wrong(cluster, cluster.core(2).checkpoints.stable) == wrong, "the broken one is told apart"
        assert wrong or cluster.agrees()


def was_ever_wrong(cluster: Store, proof: m.CheckpointProof) -> bool:
    """Whether node 3, within some seconds, has a state for that of `proof` which it is not."""
    wrong, step = [], cluster.step

    def watched(node: int, event: Any) -> list[Any]:
        effects = step(node, event)
        executor = cluster.replicas[3].executor
        wrong.append(executor.index == proof.seq and executor.digest() != proof.digest)
        return effects

    cluster.step = watched  # type: ignore[method-assign]
    cluster.run(4 * SECOND)
    return any(wrong)


def test_p41_a_part_counts_once_from_the_one_that_was_asked_for_it() -> None:
    """Else a liar could fill the executor with what nobody wants, and be taken for the one that was asked."""
    transfer = transfer_of(StateTransfer)
    ((peer, _),) = asked(transfer.on_wanted(Wanted(4, (0,), False))).values()
    part = m.PartData(4, 0, b"part")
    for other in {0, 1, 2} - {peer}:
        assert transfer.on_part(other, part) == []
    assert transfer.on_part(peer, m.PartData(8, 0, b"part")) == []
    assert transfer.on_part(peer, part) == [WritePart(4, 0, b"part")]
    assert transfer.on_part(peer, part) == []


class TakesForGranted(StateTransfer):
    def _judge(self, part: int, writer: int) -> None:
        pass


def transfer_of(kind: type[StateTransfer]) -> StateTransfer:
    """One that has begun, with nothing asked for yet."""
    cluster = Cluster(options=SMALL)
    transfer = kind(cluster.core(3).notary)
    transfer.start(forge.checkpoint_proof(cluster, 4, b"d" * 32, [0, 1, 2]))
    return transfer


def asked(effects: list[Any]) -> dict[int, tuple[int, bytes]]:
    """Of whom each part is asked, and with which hint."""
    sends = [(effect.to[0], effect.message) for effect in effects if isinstance(effect, Send)]
    return {message.part: (to, message.hint) for to, message in sends if isinstance(message, m.FetchPart)}


@pytest.mark.parametrize("kind", [StateTransfer, TakesForGranted])
def test_p41_who_leads_astray_is_asked_for_wholes_and_then_known(kind: type[StateTransfer]) -> None:
    """A delta that does not lead to the digest may be chance; a whole part never is."""
    transfer = transfer_of(kind)
    parts, liar = range(1, 60), 0
    wanted = Wanted(4, tuple(parts), False, dict.fromkeys(parts, b"hint"))
    waiting, wholes = asked(transfer.on_wanted(wanted)), []
    for _ in range(30):
        part = next((part for part, (peer, _) in waiting.items() if peer == liar), 0)
        if not part:
            break
        wholes.append(waiting[part][1] == b"")
        assert transfer.on_part(liar, m.PartData(4, part, b"lie")) == [WritePart(4, part, b"lie")]
        del waiting[part]
        effects = transfer.on_wanted(replace(wanted, refused=wholes[-1]))
        again = asked(effects)
        assert part not in again or again[part][0] != liar, "another is asked"
        waiting |= again
        for done in [part for part, (peer, _) in waiting.items() if peer != liar][:2]:
            peer, _ = waiting.pop(done)
            transfer.on_part(peer, m.PartData(4, done, b"right"))
            wanted = replace(wanted, parts=tuple(part for part in wanted.parts if part != done))
            waiting |= asked(transfer.on_wanted(wanted))
        if wholes[-1]:
            break
    assert (True in wholes) == (kind is StateTransfer), "the broken one is told apart"
    if kind is StateTransfer:
        assert wholes.index(True) >= ASTRAY_MAX
        assert liar not in [peer for peer, _ in waiting.values()][-2:]


# ------------------------------------------------------------------------------------ withheld, dropped, twice, resumed


class Patient(StateTransfer):
    def tick(self) -> list[Any]:
        return self._ask()


def test_a_sender_that_holds_back_is_passed_by() -> None:
    for transfer in (StateTransfer, Patient):
        cluster = behind(transfer)
        cluster.blocked = lambda packet: packet.sender == 1 and type(packet.message) is m.PartData  # type: ignore[attr-defined]
        cluster.run(3 * SECOND)
        assert cluster.agrees() == (transfer is StateTransfer), "the broken one is told apart"


class Forgetful(merkle.Assembly):
    def __init__(self, digest: bytes, local: merkle.Node, known: Any = None) -> None:
        super().__init__(digest, local)


def test_p45_a_target_that_all_have_dropped_gives_way_to_a_later_one_that_takes_over_what_was_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = []
    for assembly in (merkle.Assembly, Forgetful):
        monkeypatch.setattr(merkle, "Assembly", assembly)
        cluster = behind()
        cluster.disks[3] = Disk()
        cluster.restart(3)
        stopped_after(cluster, 12)
        target = cluster.core(3).transfer.target
        cluster.isolate(3)
        cluster.change(12)
        before = cluster.moved()
        cluster.heal()
        cluster.run(4 * SECOND)
        assert target is not None
        assert cluster.replicas[0].executor.read_part(target.seq, 0) == (None, -1)
        assert cluster.agrees()
        moved.append(cluster.moved() - before)
    assert moved[0] < moved[1] / 2, "the broken one is told apart"


class StartsAnew(StateTransfer):
    def start(self, proof: m.CheckpointProof) -> list[Any]:
        self._forget()
        return super().start(proof)


@pytest.mark.parametrize("kind", [StateTransfer, StartsAnew])
def test_p45_a_transfer_that_is_started_twice_asks_once(kind: type[StateTransfer]) -> None:
    transfer, wanted = transfer_of(kind), Wanted(4, tuple(range(40)), False)
    assert len(asked(transfer.on_wanted(wanted))) == ASKED_MAX
    assert transfer.target is not None
    transfer.start(transfer.target)
    again = asked(transfer.on_wanted(wanted))
    assert (again == {}) == (kind is StateTransfer), "the broken one is told apart"


def test_p45_when_nobody_holds_it_all_are_asked_again_but_those_who_lied() -> None:
    """They may have been behind themselves. Without the second try the transfer would wait for ever."""
    transfer, wanted = transfer_of(StateTransfer), Wanted(4, (0,), False)
    effects = transfer.on_wanted(wanted)
    for data in (b"lie", None, None):
        ((peer, _),) = asked(effects).values()
        effects = transfer.on_part(peer, m.PartData(4, 0, data))
        if data is not None:
            liar, effects = peer, transfer.on_wanted(replace(wanted, refused=True))
    assert asked(effects) == {}
    assert transfer.hopeless
    transfer.retry()
    assert {peer for peer, _ in asked(transfer.tick()).values()} <= {0, 1, 2} - {liar}
    assert not transfer.hopeless


def test_p45_a_transfer_goes_on_through_a_view_change() -> None:
    """Node 3 is needed for a quorum while it fetches, and one of its sources is the primary that stops."""
    for transfer in (StateTransfer, Patient):
        cluster = stopped_after(behind(transfer), 5)
        cluster.crash(0)
        cluster.heal()
        cluster.put({"after": "all"}, cluster.said + 1, to=1)
        cluster.put({"after": "all"}, cluster.said + 1, to=2)
        cluster.run(8 * SECOND)
        assert set(cluster.views()) == {1}
        assert cluster.done("ann", cluster.said + 1)
        assert cluster.agrees() == (transfer is StateTransfer), "the broken one is told apart"


def test_a_receiver_that_starts_again_in_the_middle_goes_on_from_its_disk() -> None:
    moved = []
    for loses in (False, True):
        cluster = stopped_after(behind(), 5)
        cluster.crash(3)
        if loses:
            cluster.disks[3] = Disk()
        cluster.heal()
        before = cluster.moved()
        cluster.start(3)
        cluster.run(3 * SECOND)
        assert cluster.agrees()
        moved.append(cluster.moved() - before)
    assert moved[0] < moved[1] / 5, "one that has lost its disk is told apart"
