"""Proactive recovery: what an intruder left in a replica is found and gone, and never too many are refreshed at once.
[CL02 proactive recovery]"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pbft import SPEC, PbftCore
from pbft import messages as m
from pbft.macs import MacCore
from pbft.recovery import Leave, Phase, Recovery, highest_possible
from replog import merkle
from replog.apps.kv import KeyValue
from replog.core import Command, Wanted
from replog.executor import Executor
from replog.sim import SimCluster
from replog.types import Request
from tests.pbft import forge
from tests.pbft.chance import Chance
from tests.pbft.harness import DOMAIN, SECOND, SMALL, Cluster
from tests.pbft.test_macs import asks, choice
from tests.plug import Mute

BOTH = pytest.mark.parametrize("auth", ["signatures", "macs"])


class Store(Cluster):
    """On a key-value store: `ann#t` puts key `k<t>`."""

    machine = KeyValue

    def request(self, client: str, timestamp: int, amount: int = 1, low: int = 0, count: int = 1) -> Request:
        operations = [KeyValue.operation("put", f"k{timestamp}", f"{client} {timestamp}")]
        request = Request.make(self.signers[client].sign, DOMAIN, client, timestamp, low, operations)
        self.requests[request.digest] = request
        return request

    def data(self, node: int) -> dict[str, str]:
        machine: Any = self.servers[node].replica.executor._runtime.machine
        return machine.data._data  # type: ignore[no-any-return]


def store(count: int = 6, **options: Any) -> Store:
    """After `count` requests, all settled."""
    cluster = Store(options=SMALL | options)
    load(cluster, range(1, count + 1))
    return cluster


def load(cluster: Cluster, timestamps: Iterable[int], to: Iterable[int] | None = None) -> None:
    for timestamp in timestamps:
        low = max(0, timestamp - 60)
        cluster.submit("ann", timestamp, range(cluster.n) if to is None else to, low=low)
        assert cluster.run(20 * SECOND, lambda t=timestamp: cluster.done("ann", t)), cluster.executed()  # type: ignore[misc]


def refresh(cluster: Cluster, node: int, seconds: int = 10) -> dict[str, Any]:
    """To its end; what the replica says of it then."""
    before = len(told(cluster, node))
    cluster.step(node, Command("refresh", {}))
    cluster.run(seconds * SECOND, lambda: len(told(cluster, node)) > before)
    assert len(told(cluster, node)) > before, [note for at, note in cluster.notes if at == node][-6:]
    cluster.settle()
    return told(cluster, node)[-1]


def told(cluster: Cluster, node: int, kind: str = "refreshed") -> list[dict[str, Any]]:
    return [note.detail for at, note in cluster.notes if at == node and note.kind == kind]


# ---------------------------------------------------------------------------------------------------- the state itself


def corrupt(cluster: Store, node: int) -> None:
    """Behind the core's back: an entry is changed, one is gone, one is new; the digests stay what they were."""
    data = cluster.data(node)
    data["k1"] = "stolen"
    del data["k2"]
    data["intruder"] = "was here"


def corrupt_tree(cluster: Store, node: int) -> None:
    """Also the records in the tree, under the old digests."""
    corrupt(cluster, node)
    executor = cluster.servers[node].replica.executor
    for root in {id(root): root for root in (executor._root, *executor._held.values())}.values():
        records = merkle.records_of(root)
        for leaf in leaves(root):
            leaf.raw = leaf.raw.replace(b"ann 1", b"stole")
        assert merkle.records_of(root) != records or root.count == 0


def leaves(node: merkle.Node) -> list[merkle.Leaf]:
    if isinstance(node, merkle.Leaf):
        return [node]
    assert isinstance(node, merkle.Inner)
    return [leaf for child in node.children for leaf in leaves(child)]


class TrustingExecutor(Executor):
    def audit(self) -> int:
        """Broken: the digests at hand are believed."""
        return merkle.count_parts(self._flush())


def finds_and_repairs(auth: str, harm: Any, executor: type[Executor] = Executor) -> bool:
    cluster = store(auth=auth)
    cluster.servers[2].replica.executor.__class__ = executor
    harm(cluster, 2)
    said = refresh(cluster, 2)
    right = cluster.data(1)
    return said["fetched"] > 0 and cluster.data(2) == right and len(cluster.digests()) == 1


@BOTH
@pytest.mark.parametrize("harm", [corrupt, corrupt_tree])
def test_a_changed_state_is_found_and_repaired(auth: str, harm: Any) -> None:
    assert finds_and_repairs(auth, harm)
    assert not finds_and_repairs(auth, harm, TrustingExecutor), "digests at hand tell nothing"


def test_of_a_large_state_only_what_was_changed_moves() -> None:
    """Digests computed anew lead to the parts that differ, whatever the tree at hand says."""
    right, wrong = Executor(KeyValue()), Executor(KeyValue())
    for executor in (right, wrong):
        machine: Any = executor._runtime.machine
        for number in range(5_000):
            machine.data[f"k{number}"] = str(number)
        digest = executor.checkpoint(0)
    machine.data._data["k17"] = "stolen"
    assert wrong.digest() == digest, "nothing is noticed"
    assert wrong.audit() > 10
    assert wrong.digest() != digest
    answer, moved = wrong.restore(0, digest), 0
    while isinstance(answer, Wanted):
        part = answer.parts[0]
        data, _ = right.read_part(0, part, answer.hints.get(part, b""))
        assert data is not None
        answer, moved = wrong.write_part(0, part, data), moved + 1
    assert machine.data["k17"] == "17"
    assert moved <= 4


@BOTH
def test_a_sound_replica_stays_as_it_is(auth: str) -> None:
    cluster = store(auth=auth)
    said = refresh(cluster, 1)
    assert said["fetched"] == said["dropped"] == 0
    assert said["parts"] > 0
    load(cluster, range(20, 24))
    assert len(cluster.digests()) == 1
    cluster.check_agreement()


@BOTH
@pytest.mark.parametrize("count", [0, 1, 3, 4, 8])
def test_an_idle_cluster_ends_a_refresh(auth: str, count: int) -> None:
    """Null requests lead to the next checkpoint, and no further."""
    cluster = store(count, auth=auth)
    said = refresh(cluster, 3)
    assert said["index"] == max(4, -(-count // 4) * 4)
    cluster.run(5 * SECOND)
    assert set(cluster.executed()) == {said["index"]}


# ------------------------------------------------------------------------------------------------ what lies in the log


def plant(cluster: Store, node: int, auth: str) -> None:
    """On the disk of `node`: a proposal and a certificate far beyond the window, a proof of a state and a NEW-VIEW that
    nobody made. The process then starts from that."""
    batch = m.Batch(1, [cluster.request("eve", 99)])
    far = 5000
    records: list[tuple[int, Any]] = [
        (0, m.CheckpointProof(far, b"\1" * 32, [m.Vote(voter, b"x" * 32) for voter in range(3)])),
        (far + 1, m.PrePrepare(0, far + 1, batch.digest, b"", batch.time, batch.raws)),
        (far + 1, m.PreparedProof(0, far + 1, batch.digest, b"", [])),
    ]
    if auth == "macs":
        records.append((0, m.MacNewView(2**40, [m.Heard(0, bytes(32))] * 3, m.Claim(0, bytes(32)), [])))
    else:
        records.append((0, m.NewView(2**40, [forge.view_change(cluster, 0, 2**40)], [], b"")))
    cluster.disks[node].records += [(index, cluster.records.encode(record)) for index, record in records]
    cluster.restart(node)


class Credulous(Recovery):
    def _distrust(self, base: int, view: int) -> list[Any]:
        """Broken: nothing is beyond what a correct replica can have."""
        return super()._distrust(2**60, 2**60)


class CredulousCore(PbftCore):
    recovery_type = Credulous


class CredulousMacCore(MacCore):
    recovery_type = Credulous


def is_clean(core: PbftCore) -> bool:
    proofs = (core.checkpoints.proven, core.checkpoints.certified, core.checkpoints.stable)
    return core.view < 9 and all(proof.seq < 5000 for proof in proofs) and max(core.ordering.slots, default=0) < 5000


@BOTH
def test_what_no_correct_replica_can_hold_is_dropped(auth: str) -> None:
    cluster = store(auth=auth)
    plant(cluster, 2, auth)
    assert not is_clean(cluster.core(2)), "what was planted is there"
    said = refresh(cluster, 2, 20)
    assert said["dropped"] >= 2
    assert is_clean(cluster.core(2))
    cluster.restart(2)
    assert is_clean(cluster.core(2)), "what is still on its disk counts no more"
    load(cluster, range(20, 30), [0, 1, 2, 3])
    cluster.run(2 * SECOND)
    assert len(cluster.digests()) == 1


@BOTH
def test_p16_what_was_planted_stays_where_no_estimate_is_made(auth: str) -> None:
    broken = CredulousMacCore if auth == "macs" else CredulousCore
    cluster = Store(options=SMALL | {"auth": auth}, cores={2: broken})
    load(cluster, range(1, 7))
    plant(cluster, 2, auth)
    cluster.step(2, Command("refresh", {}))
    cluster.run(10 * SECOND)
    assert not is_clean(cluster.core(2)) or not told(cluster, 2)


def test_a_state_beyond_the_estimate_is_no_state() -> None:
    """Its disk says that it is far ahead of everybody: all is fetched again."""
    cluster = store(9)
    executor = cluster.servers[2].replica.executor
    core = cluster.core(2)
    executor.index = 5000
    core.execution.executed = core.execution._applied = 5000
    said = refresh(cluster, 2, 20)
    assert said["index"] < 100
    load(cluster, range(20, 24))
    cluster.run(2 * SECOND)
    assert len(cluster.digests()) == 1
    assert len(set(cluster.executed())) == 1


@pytest.mark.parametrize(
    ("lows", "highs", "chosen"),
    [
        ([4, 4, 4], [5, 6, 7], 4),
        ([4, 4, 4, 900], [5, 6, 7, 900], 4),
        ([4, 4, 900], [5, 6, 900], None),
        ([0, 4, 8, 8], [8, 8, 9, 9], 8),
        ([4, 4], [4, 4], None),
    ],
)
def test_the_estimate_is_above_what_a_quorum_reached_and_no_liar_lifts_it(
    lows: list[int], highs: list[int], chosen: int | None
) -> None:
    assert highest_possible(lows, highs, 3, 2) == chosen


@BOTH
def test_what_a_correct_replica_promised_outlives_its_refresh(auth: str) -> None:
    """Prepared in all, decided nowhere: the refreshed replica still stands by it."""
    cluster = store(5, auth=auth)
    cluster.blocked = lambda packet: type(packet.message) is m.Commit
    cluster.submit("ann", 6, range(4))
    cluster.settle()
    before = cluster.core(2).ordering.slots[6].prepared
    assert before is not None
    cluster.step(2, Command("refresh", {}))
    cluster.settle()
    assert cluster.core(2).recovery.checking
    assert cluster.core(2).ordering.slots[6].prepared == before
    cluster.heal()
    assert cluster.run(10 * SECOND, lambda: bool(told(cluster, 2)))
    cluster.check_agreement()


@BOTH
def test_p16_what_was_promised_while_the_answers_were_under_way_stands(auth: str) -> None:
    """The answers are old: the others, and this replica, are beyond what they say by the time they come."""
    cluster = store(1, auth=auth)
    cluster.holds = lambda packet: type(packet.message) is m.Standing
    cluster.step(2, Command("refresh", {}))
    cluster.settle()
    load(cluster, range(2, 13))
    cluster.blocked = lambda packet: type(packet.message) is m.Commit
    cluster.submit("ann", 13, range(4))
    cluster.settle()
    before = cluster.core(2).ordering.slots[13].prepared
    assert before is not None
    cluster.release()
    cluster.settle()
    assert cluster.core(2).recovery.checking
    assert cluster.core(2).options.log_window < 13
    slot = cluster.core(2).ordering.slots.get(13)
    assert slot is not None
    assert slot.prepared == before
    cluster.heal()
    assert cluster.run(10 * SECOND, lambda: bool(told(cluster, 2)))
    cluster.restart(2)
    cluster.check_agreement()


# --------------------------------------------------------------------------------------------------------- the primary


@BOTH
def test_a_primary_gives_up_its_view_and_nobody_waits(auth: str) -> None:
    cluster = store(auth=auth)
    before = cluster.now
    cluster.step(0, Command("refresh", {}))
    cluster.settle()
    assert cluster.now == before, "no timer had to run out"
    assert set(cluster.views()) == {1}
    assert told(cluster, 0)
    load(cluster, range(20, 30))
    assert set(cluster.views()) == {1}
    assert cluster.now - before < cluster.options.view_timeout_us


class Waits(PbftCore):
    def _is_given_up(self, sender: int, message: Any) -> bool:
        """Broken: also a primary that leaves needs others who complain."""
        return False


def test_without_the_rule_the_view_ends_only_when_somebody_has_waited() -> None:
    cluster = Store(options=SMALL, core=Waits)
    load(cluster, range(1, 7))
    cluster.step(0, Command("refresh", {}))
    cluster.settle()
    assert set(cluster.views()) == {0, 1}


@pytest.mark.parametrize("view", [2, 3])
def test_a_primary_ends_no_view_but_its_own(view: int) -> None:
    cluster = store(2)
    for node in (1, 2, 3):
        cluster.inject(0, node, forge.view_change(cluster, 0, view))
    cluster.settle()
    assert set(cluster.views()) == {0}


def test_a_backup_ends_no_view() -> None:
    cluster = store(2)
    for node in (0, 2, 3):
        cluster.inject(1, node, forge.view_change(cluster, 1, 1))
    cluster.settle()
    assert set(cluster.views()) == {0}


# -------------------------------------------------------------------------------------------- never more than f at once


class GivesToAll(Leave):
    def lane(self, node: int) -> int:
        """Broken: each node has a lane of its own."""
        return node

    def check_invariants(self) -> None:
        pass


class Crowded(PbftCore):
    class recovery_type(Recovery):  # noqa: N801
        leave_type = GivesToAll


def most_at_once(cluster: Cluster, nodes: Iterable[int]) -> tuple[int, int]:
    """All are told to refresh: how many did at one time, and how many came to the end."""
    most = 0
    steps = cluster.step

    def step(node: int, event: Any) -> Any:
        nonlocal most
        effects = steps(node, event)
        most = max(most, sum(cluster.core(other).recovery.checking for other in cluster.servers))
        return effects

    cluster.step = step  # type: ignore[method-assign]
    for node in nodes:
        cluster.step(node, Command("refresh", {}))
    cluster.run(60 * SECOND, lambda: all(told(cluster, node) for node in nodes))
    return most, sum(bool(told(cluster, node)) for node in nodes)


@pytest.mark.parametrize(("n", "f"), [(4, 1), (7, 2), (10, 3)])
def test_all_are_told_at_once_and_never_more_than_f_are_refreshed(n: int, f: int) -> None:
    cluster = Cluster(n, SMALL)
    cluster.submit("ann", 1, range(n))
    cluster.settle()
    assert most_at_once(cluster, range(n)) == (f, n)


def test_with_a_lane_for_each_more_than_f_are_refreshed() -> None:
    most, _ = most_at_once(Cluster(4, SMALL, core=Crowded), range(4))
    assert most > 1


def test_leave_is_not_forgotten_in_a_crash() -> None:
    cluster = store(auth="signatures")
    cluster.blocked = lambda packet: type(packet.message) is m.Checkpoint
    cluster.step(2, Command("refresh", {}))
    cluster.settle()
    assert cluster.core(2).recovery.checking
    cluster.restart(1)
    assert cluster.core(1).recovery.leave.holder(cluster.now, 2) == 2
    cluster.step(3, Command("refresh", {}))
    cluster.run(SECOND)
    assert cluster.core(3).recovery.phase is Phase.ASKING
    cluster.heal()
    assert cluster.run(20 * SECOND, lambda: bool(told(cluster, 2) and told(cluster, 3)))


def test_whoever_did_not_hear_that_a_refresh_is_over_asks() -> None:
    """The word is lost, and with it what was written of it: as when a replica is stopped right then."""
    cluster = store()
    cluster.blocked = lambda packet: type(packet.message) is m.Refreshing and packet.message.over and packet.to == 1
    refresh(cluster, 2)
    cluster.run(5 * SECOND)
    assert cluster.core(1).recovery.leave.holder(cluster.now, 2) == 2
    cluster.heal()
    cluster.restart(1)
    refresh(cluster, 1)


def test_a_replica_that_dies_within_its_refresh_holds_nobody_up_when_it_is_back() -> None:
    cluster = store()
    cluster.blocked = lambda packet: type(packet.message) is m.Checkpoint
    cluster.step(2, Command("refresh", {}))
    cluster.settle()
    cluster.heal()
    cluster.restart(2)
    cluster.settle()
    assert refresh(cluster, 1)


def test_without_a_quorum_of_others_in_sync_it_is_put_off_and_told_why() -> None:
    cluster = store()
    cluster.crash(3)
    cluster.run(2 * SECOND)
    cluster.step(2, Command("refresh", {}))
    cluster.run(5 * SECOND)
    assert not told(cluster, 2)
    assert cluster.core(2).recovery.phase is Phase.ASKING
    cluster.start(3)
    assert cluster.run(20 * SECOND, lambda: bool(told(cluster, 2)))


def test_a_refresh_that_cannot_end_ends_in_time() -> None:
    cluster = store(refresh_timeout_us=2_000_000)
    cluster.crash(3)
    cluster.step(2, Command("refresh", {}))
    cluster.run(5 * SECOND)
    (said,) = told(cluster, 2, "refresh-failed")
    assert "asking for leave" in said["rule"]
    assert cluster.core(2).recovery.phase is Phase.NONE


@pytest.mark.parametrize(
    ("options", "n", "rule"), [({"refresh": False}, 4, "refresh = false"), ({}, 1, "f = 0: no replica can be spared")]
)
def test_a_refresh_is_refused_where_there_can_be_none(options: dict[str, Any], n: int, rule: str) -> None:
    cluster = Cluster(n, options)
    cluster.step(0, Command("refresh", {}))
    assert rule in told(cluster, 0, "refresh-refused")[0]["rule"]
    cluster.step(0, Command("dance", {}))
    assert "refresh and step-down" in told(cluster, 0, "command-refused")[0]["rule"]


def test_null_requests_are_for_refreshes_only() -> None:
    cluster = store(2)
    null = forge.pre_prepare(cluster, 0, 3, [], time=0)
    cluster.inject(0, (1, 2, 3), null)
    cluster.settle()
    assert cluster.executed() == [2, 2, 2, 2]
    assert any("null ones are for" in rule for rule in cluster.rules(1))


def test_a_null_request_that_may_have_been_decided_is_proposed_again() -> None:
    """The last one before a view change too: else its number would be given away a second time."""
    null = [(6, m.NULL.digest, 3)]
    assert choice(asks(1, null), asks(2, null), asks(3)) == [
        *((seq, m.NULL.digest) for seq in range(1, 6)),
        (6, m.NULL.digest),
    ]
    assert choice(asks(0), asks(1), asks(2), asks(3, null)) == [], "one alone lies: nothing is made of it"


def test_a_liar_that_asks_for_the_moon_gets_a_window_at_most() -> None:
    """It has leave, and wants a checkpoint that never comes: the others are kept busy for two windows, once."""
    cluster = store(2)
    cluster.crash(3)
    cluster.inject(3, (0, 1, 2), m.Refreshing(7, 0, False))
    cluster.inject(3, (0, 1, 2), m.Refreshing(7, 2**60, False))
    cluster.run(5 * SECOND)
    cluster.inject(3, (0, 1, 2), m.Refreshing(7, 2**61, False))
    cluster.run(5 * SECOND)
    assert 2 < max(cluster.executed()) <= 2 * cluster.options.log_window


def test_a_liar_that_asks_without_end_makes_nobody_write_without_end() -> None:
    cluster = store(2)
    cluster.crash(3)
    before = len(cluster.disks[1].records)
    for nonce in range(1, 500):
        cluster.inject(3, 1, m.Refreshing(nonce, 0, False))
    cluster.settle()
    assert before < len(cluster.disks[1].records) <= before + 8


def test_under_macs_the_keys_that_an_intruder_saw_are_worth_nothing() -> None:
    cluster = store(auth="macs")
    old = cluster.signers["ann"].sign(b"x")
    requests: Any = cluster.core(1).requests
    stolen = requests._keys.key("ann")
    refresh(cluster, 1)
    assert requests._keys.key("ann") != stolen
    assert not requests._keys.check("ann", b"x", old)[0]
    cluster.ask_keys()
    load(cluster, range(20, 24))
    assert len(cluster.digests()) == 1


def test_no_read_is_answered_by_a_replica_that_doubts_itself() -> None:
    cluster = store()
    cluster.blocked = lambda packet: type(packet.message) is m.Checkpoint
    cluster.step(2, Command("refresh", {}))
    cluster.settle()
    assert cluster.core(2).recovery.checking
    assert not cluster.core(2).execution.settled
    assert not cluster.core(2).status().in_sync
    assert "refreshing" in cluster.core(2).status().role
    cluster.heal()
    assert cluster.run(20 * SECOND, lambda: cluster.core(2).execution.settled)


# ------------------------------------------------------------------------------------------------------- all together


@BOTH
@pytest.mark.parametrize(
    ("n", "liars", "seeds"), [(4, 0, range(300, 308)), (4, 1, range(310, 316)), (7, 1, range(320, 322))]
)
def test_refreshes_at_random_among_all_else_that_happens(auth: str, n: int, liars: int, seeds: Iterable[int]) -> None:
    """Loss, cuts, crashes, liars and refreshes: safe in all, live afterwards, and refreshes come to their end."""
    refreshed = compared = 0
    for seed in seeds:
        chance = Chance(seed, n, liars, options=SMALL | {"auth": auth}, refreshes=True)
        chance.trouble(3000)
        chance.calm()
        compared += chance.judge()
        refreshed += chance.refreshed
    assert compared > 0, "vacuous"
    assert refreshed > 0, "vacuous"


@BOTH
@pytest.mark.parametrize(("f", "faulty"), [(1, ()), (2, (6,))])
def test_in_the_simulated_world_each_in_turn_under_load(auth: str, f: int, faulty: tuple[int, ...]) -> None:
    """Started anew from their disks and refreshed, in turn; with f = 2 one is silent all the time."""
    cluster = SimCluster(
        SPEC,
        f=f,
        options=SMALL | {"auth": auth},
        seed=7,
        wrap=lambda node, replica: Mute(replica) if node in faulty else replica,
    )
    cluster.refresh_every(cluster.n * SECOND // 2)
    for number in range(150):
        cluster.client().submit([KeyValue.operation("put", f"k{number % 20}", str(number))])
        cluster.run_until(lambda: cluster.client().outstanding == 0)
        cluster.run_for(SECOND // 30)
    cores: list[Any] = [cluster.replica(node).core for node in range(cluster.n) if node not in faulty]
    under_way = [core.me for core in cores if not core.recovery.done]
    assert len(under_way) <= 1, "all others have come to the end, in their present life"
    assert min(node.lives for node in cluster.nodes) >= 1
    cluster.check_invariants([core.me for core in cores])
    assert cluster.client().acknowledged == 150
