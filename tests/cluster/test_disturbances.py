"""Links that are wrong for a while, narrow, far or noisy; disks that fail; clocks that jump."""

from __future__ import annotations

import random
from typing import Any

import pytest

from replog.sim.cluster import SimCluster
from replog.sim.disk import Disk, DiskModel
from replog.sim.disturbances import Bound, Corrupt, Delay, Lose, Withhold
from replog.sim.network import Constant, Frame, Link, Network, NetworkModel
from replog.sim.regions import REGIONS, ROUND_TRIPS_MS, WideArea, round_trip_ms
from replog.sim.world import World
from replog.types import Principal


class Ear:
    def __init__(self, name: Principal, world: World) -> None:
        self.name = name
        self.heard: list[tuple[int, bytes]] = []
        self._world = world

    def receive(self, sender: Principal, frame: Frame) -> None:
        self.heard += [(self._world.now, raw) for raw in frame]


def pair(**model: Any) -> tuple[World, Network, Link, Ear]:
    world = World(1)
    network = Network(world, NetworkModel(**{"delay": Constant(100), **model}))
    ends = [Ear(0, world), Ear(1, world)]
    for end in ends:
        network.join(end)
    link = network.link(0, 1)
    assert link is not None
    return world, network, link, ends[1]


def everywhere(_: Principal, __: Principal) -> bool:
    return True


def test_a_disturbance_ends_alone_and_counts_what_it_did() -> None:
    world, network, link, ear = pair()
    lose, late = Lose(1.0, random.Random(1)), Delay(lambda: 1_000)
    network.disturb(lose, lambda a, b: (a, b) == (0, 1))
    network.disturb(late, everywhere)
    link.send([b"lost"], 4)
    network.calm(lose)
    link.send([b"late"], 4)
    network.calm(late)
    world.run_until(5_000)
    link.send([b"plain"], 5)
    world.run_until(10_000)
    assert ear.heard == [(1_100, b"late"), (5_100, b"plain")]
    assert (lose.acts, late.acts, network.dropped["fault"]) == (1, 1, 1)


def test_a_link_that_is_made_later_is_disturbed_too() -> None:
    world, network, _, _ = pair()
    network.disturb(Lose(1.0, random.Random(1)), everywhere)
    back = network.link(1, 0)
    assert back is not None
    back.send([b"x"], 1)
    world.run_until(1_000)
    assert network.dropped["fault"] == 1


def test_what_is_held_back_comes_in_order_and_nothing_is_lost() -> None:
    world, network, link, ear = pair()
    held = {0}
    withhold = Withhold(world, lambda node: node in held)
    network.disturb(withhold, everywhere)
    for number in range(3):
        link.send([b"%d" % number], 1)
    world.run_until(10_000)
    assert ear.heard == []
    withhold.release(500)
    world.run_until(20_000)
    assert ear.heard == []
    held.clear()
    withhold.release(500)
    world.run_until(30_000)
    assert ear.heard == [(20_500, b"0"), (20_500, b"1"), (20_500, b"2")]


def test_a_bound_cuts_what_would_come_later() -> None:
    world, network, link, ear = pair(delay=Constant(9_000))
    network.disturb(Bound(world, 2_000), everywhere)
    link.send([b"x"], 1)
    world.run_until(10_000)
    assert ear.heard == [(2_000, b"x")]


@pytest.mark.parametrize(("checked", "arrives"), [(True, 0), (False, 100)])
def test_a_changed_bit_is_noticed_by_the_link_or_by_nobody(checked: bool, arrives: int) -> None:
    world, network, link, ear = pair()
    network.disturb(Corrupt(1.0, checked, random.Random(3)), everywhere)
    for _ in range(100):
        link.send([b"\x00\x00"], 2)
    world.run_until(1_000)
    assert len(ear.heard) == arrives
    assert all(bin(int.from_bytes(raw)).count("1") == 1 for _, raw in ear.heard)


def test_corruption_of_the_model_strikes_about_as_often_as_said() -> None:
    world, network, link, _ = pair(corrupt=0.2)
    for _ in range(2_000):
        link.send([b"x"], 1)
    world.run_until(10_000)
    assert 0.17 < network.dropped["corrupt"] / 2_000 < 0.23


def test_frames_leave_one_after_another_and_what_does_not_fit_is_lost() -> None:
    world, network, link, ear = pair(byte_ns=1_000, queue_bytes=2_500)
    for number in range(5):
        link.send([b"%d" % number], 1_000)
    world.run_until(100_000)
    assert ear.heard == [(1_100, b"0"), (2_100, b"1"), (3_100, b"2")]
    assert network.dropped["queue"] == 2


def test_a_wide_area_is_as_far_as_the_table_says_and_back() -> None:
    assert len(ROUND_TRIPS_MS) == len(REGIONS) == 10
    assert all(len(row) == 10 and row[place] == 0 for place, row in enumerate(ROUND_TRIPS_MS))
    assert (round_trip_ms("london", "frankfurt"), round_trip_ms("tokyo", "dallas")) == (12, 141)
    area = WideArea(("washington", "frankfurt"), ("tokyo",), outward=0.75, jitter=0.0)
    sample = [area.delay(a, b).sampler(random.Random(1))() for a, b in ((0, 1), (1, 0), (2, "c5"), ("c5", 3))]
    assert sample == [73_500, 24_500, 125_250, 59_250]


@pytest.mark.parametrize(("failure", "left"), [("full", {0}), ("torn", {0, 1, 2}), ("failing", {0, 3})])
def test_a_failed_write_is_told_once_and_never_as_done(failure: Any, left: set[int]) -> None:
    found = set()
    for seed in range(20):
        world = World(seed)
        disk = Disk(world, "0", DiskModel())
        done: list[int] = []
        told: list[bool] = []
        disk.on_failed = lambda told=told: told.append(True)  # type: ignore[misc]
        disk.failure = failure
        disk.write([(1, b"a"), (2, b"b"), (3, b"c")], done.append)
        world.run_until(1_000)
        assert (done, told, disk.failures) == ([], [True], 1)
        found.add(len(disk.records))
    assert found == left


def test_a_flipped_bit_is_noticed_and_stays_where_it_is_when_older_records_go() -> None:
    world = World(1)
    disk = Disk(world, "0", DiskModel())
    assert not disk.flip()
    disk.write([(number, b"record") for number in range(1, 9)], lambda _: None)
    world.run_until(1_000)
    assert disk.flip()
    damaged = [disk.damaged]
    assert sum(raw != b"record" for _, raw in disk.records) == 1
    disk.mend()
    assert [*damaged, disk.damaged] == [True, False]
    assert all(raw == b"record" for _, raw in disk.records)


def test_the_time_of_day_jumps_and_the_monotonic_clock_does_not(raft: Any) -> None:
    cluster = SimCluster(raft, seed=1)
    clock = cluster.nodes[0].clock
    before = clock.monotonic(), clock.wall()
    cluster.drift(0, wall_jump_us=-3_600_000_000)
    assert (clock.monotonic(), clock.wall()) == (before[0], before[1] - 3_600_000_000)


@pytest.fixture
def raft() -> Any:
    from replog import protocols

    return protocols.find("raft")
