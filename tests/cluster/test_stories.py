"""Readable stories on the simulator, told of both protocols: what is asked of any replicated log.

Each ends with what must hold (agreement, nothing acknowledged is lost, all replicas level) and with a lower bound on
what was committed, so that a story in which nothing happened fails.
"""

import pytest

import pbft
from replog.core import Effect, Event, Persist, ProtocolSpec
from replog.node import Wrap
from replog.outbox import Outbox
from replog.replica import Replica
from replog.sim import Constant, DiskModel, NetworkModel, SimCluster
from replog.trace import Recorder
from replog.types import Micros, NodeId, Status
from tests.cluster.story import Load, applied_by, check_agreement, settle

SECOND = 1_000_000


def cluster_of(spec: ProtocolSpec, seed: int = 1, **more: object) -> SimCluster:
    return SimCluster(spec, f=1, seed=seed, clients=["c0", "c1"], recorder=Recorder(), **more)  # type: ignore[arg-type]


def finish(load: Load, least: int) -> None:
    """Faults are over: everything outstanding ends, all replicas come level, and what must hold holds."""
    cluster = load.cluster
    load.stop()
    assert load.check_kept() >= least
    settle(cluster)
    cluster.check_invariants()
    assert cluster.recorder is not None
    assert check_agreement(cluster.recorder, range(cluster.n)) > 0
    assert load.failed == []


def leader_of(cluster: SimCluster) -> int:
    cluster.run_until(lambda: cluster.leader() is not None)
    leader = cluster.leader()
    assert leader is not None
    return leader


def test_nothing_goes_wrong(spec: ProtocolSpec) -> None:
    load = Load(cluster_of(spec))
    load.more(300)
    finish(load, 300)
    assert load.cluster.counters.undecodable == 0


def test_the_leader_crashes_and_comes_back(spec: ProtocolSpec) -> None:
    cluster = cluster_of(spec)
    load = Load(cluster)
    load.more(50)
    old = leader_of(cluster)
    cluster.crash(old)
    load.more(100)
    assert leader_of(cluster) != old
    cluster.restart(old)
    load.more(50)
    finish(load, 200)


def test_the_leader_is_cut_off_from_the_other_replicas(spec: ProtocolSpec) -> None:
    cluster = cluster_of(spec)
    load = Load(cluster)
    load.more(50)
    old = leader_of(cluster)
    cluster.partition({old}, set(range(cluster.n)) - {old})
    load.more(100)
    cluster.heal()
    load.more(50)
    finish(load, 200)


def halves(spec: ProtocolSpec) -> None:
    """Each half with a client of its own: at most one of them may go on."""
    cluster = cluster_of(spec)
    load = Load(cluster, pause_us=20_000)
    load.more(50)
    old = leader_of(cluster)
    small = {old} if cluster.n == 3 else {old, (old + 1) % cluster.n}
    cluster.partition({*small, "c0"}, {*set(range(cluster.n)) - small, "c1"})
    cluster.run_for(8 * SECOND)
    cluster.heal()
    load.more(50, 60 * SECOND)
    finish(load, 100)


def test_the_cluster_falls_in_two(spec: ProtocolSpec) -> None:
    halves(spec)


def test_falling_in_two_finds_quorums_that_do_not_meet(spec: ProtocolSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    if spec.name == "pbft":
        monkeypatch.setattr("pbft.notary.byzantine_quorum", lambda n, f: 2)
    else:
        monkeypatch.setattr("raft.configuration.majority", lambda n: 1)
    with pytest.raises(AssertionError, match=r"lost|index|decided"):
        halves(spec)


@pytest.mark.parametrize("hears", [True, False], ids=["hears-but-is-not-heard", "is-heard-but-does-not-hear"])
def test_the_leader_is_cut_off_in_one_direction(spec: ProtocolSpec, hears: bool) -> None:
    cluster = cluster_of(spec)
    load = Load(cluster, pause_us=50_000)
    load.more(50)
    old = leader_of(cluster)
    for other in set(range(cluster.n)) - {old}:
        cluster.cut(*((old, other) if hears else (other, old)), one_way=True)
    cluster.run_for(5 * SECOND)
    cluster.heal()
    load.more(50)
    finish(load, 100)


def test_the_leader_is_paused_and_goes_on(spec: ProtocolSpec) -> None:
    cluster = cluster_of(spec)
    load = Load(cluster)
    load.more(50)
    old = leader_of(cluster)
    cluster.pause(old)
    load.more(100)
    cluster.resume(old)
    load.more(50)
    finish(load, 200)


def kill_all(spec: ProtocolSpec, survives: float = 0.0, wrap: Wrap | None = None) -> None:
    disk = DiskModel(sync=Constant(2_000), survives=survives)
    cluster = cluster_of(spec, disk=disk, wrap=wrap)
    load = Load(cluster)
    for _ in range(3):
        load.more(60)
        cluster.crash(*range(cluster.n))
        cluster.run_for(10_000)
        cluster.restart(*range(cluster.n))
    finish(load, 180)


@pytest.mark.parametrize("survives", [0.0, 0.5])
def test_all_are_killed_at_once_again_and_again(spec: ProtocolSpec, survives: float) -> None:
    kill_all(spec, survives=survives)


def test_killing_all_finds_a_missing_barrier(spec: ProtocolSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same story with an outbox that lets everything out at once must not end well."""

    def all_at_once(self: Outbox) -> list[object]:
        ready = [effect for _, effect in self._queue]
        self._queue.clear()
        return ready

    monkeypatch.setattr(Outbox, "ready", all_at_once)
    with pytest.raises(AssertionError, match=r"lost|index"):
        kill_all(spec)


class Forgetful:
    """A replica that says what it should and writes nothing down."""

    def __init__(self, node: NodeId, inner: Replica) -> None:
        self.inner = inner

    def step(self, now: Micros, event: Event) -> list[Effect]:
        return [effect for effect in self.inner.step(now, event) if not isinstance(effect, Persist)]

    def status(self) -> Status:
        return self.inner.status()


def test_killing_all_finds_replicas_that_write_nothing_down(spec: ProtocolSpec) -> None:
    with pytest.raises(AssertionError, match=r"lost|index|not reached"):
        kill_all(spec, wrap=Forgetful)


def test_one_that_was_down_for_long_catches_up_from_the_state(spec: ProtocolSpec) -> None:
    """Its peers have dropped what it missed: it must get the state itself."""
    options = {"pbft": {"checkpoint_interval": 16, "log_window": 32}, "raft": {"snapshot_entries": 20, "log_tail": 5}}
    cluster = cluster_of(spec, options=options[spec.name])
    load = Load(cluster, outstanding=1)
    load.more(20)
    laggard = (leader_of(cluster) + 1) % cluster.n
    cluster.crash(laggard)
    load.more(300)
    cluster.restart(laggard)
    load.more(50)
    finish(load, 370)
    assert cluster.recorder is not None
    executed = set(applied_by(cluster.recorder, laggard))
    assert settle(cluster) - len(executed) > 16, "it executed everything itself: no state was transferred"


def test_one_that_lost_its_disk_is_given_the_state() -> None:
    """Of PBFT alone: a Raft server that forgot its vote may not come back under its old name. [Raft fig. 2]"""
    cluster = cluster_of(pbft.SPEC, options={"checkpoint_interval": 16, "log_window": 32})
    load = Load(cluster, outstanding=1)
    load.more(100)
    cluster.amnesia(3)
    cluster.run_for(100_000)
    cluster.restart(3)
    load.more(100)
    finish(load, 200)


@pytest.mark.parametrize("seed", range(1, 4))
def test_links_lose_double_and_reorder(spec: ProtocolSpec, seed: int) -> None:
    cluster = cluster_of(spec, seed, network=NetworkModel(loss=0.05, duplicate=0.05, reorder=0.1))
    load = Load(cluster)
    load.more(150, 60 * SECOND)
    cluster.network.change(loss=0.0, duplicate=0.0, reorder=0.0)
    finish(load, 150)
    assert cluster.network.dropped["loss"] > 20


def test_slow_and_drifting_clocks_change_nothing(spec: ProtocolSpec) -> None:
    cluster = cluster_of(spec)
    cluster.drift(0, rate_ppm=50_000, wall_jump_us=2_000)
    cluster.drift(1, rate_ppm=-50_000)
    cluster.slow(2, 300)
    load = Load(cluster)
    load.more(200)
    finish(load, 200)


def test_real_signatures_serve_as_well(spec: ProtocolSpec) -> None:
    load = Load(cluster_of(spec, real_signatures=True))
    load.more(40)
    finish(load, 40)


def test_larger_clusters(spec: ProtocolSpec) -> None:
    cluster = SimCluster(spec, f=2, clients=["c0", "c1"], recorder=Recorder())
    load = Load(cluster)
    load.more(50)
    first = leader_of(cluster)
    cluster.crash(first, (first + 1) % cluster.n)
    load.more(50)
    cluster.restart(first, (first + 1) % cluster.n)
    finish(load, 100)
