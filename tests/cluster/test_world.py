"""The parts of the simulated world, each by itself: order, clocks, links, disks, processes."""

from dataclasses import dataclass
from typing import Any

import pytest

from replog.codec import Codec
from replog.sim.costs import FREE, CostModel
from replog.sim.disk import Disk, DiskModel
from replog.sim.network import Constant, Exponential, Network, NetworkModel, Normal, Pareto, Uniform
from replog.sim.process import INBOX_BYTES, INBOX_FRAMES, Cores, Process
from replog.sim.world import Clock, World
from replog.types import COMMON_MESSAGES, StatusRequest


class TestOrder:
    def test_one_time_means_the_order_of_planning(self) -> None:
        world, seen = World(1), []
        for name in "abc":
            world.at(5, seen.append, name)
        world.at(4, seen.append, "first")
        world.run_until(5)
        assert seen == ["first", "a", "b", "c"]

    def test_the_past_means_now(self) -> None:
        world, seen = World(1), []
        world.run_until(10)
        world.at(3, lambda _: seen.append(world.now))
        world.run_until(10)
        assert seen == [10]

    def test_streams_depend_on_seed_and_name_alone(self) -> None:
        assert World(1).stream("a").random() == World(1).stream("a").random()
        assert World(1).stream("a").random() != World(1).stream("b").random()
        assert World(1).stream("a").random() != World(2).stream("a").random()


class TestClock:
    def test_a_fast_clock_gains_and_never_goes_back(self) -> None:
        world = World(1)
        clock, seen = Clock(world), []
        for time, rate in [(0, 0), (1_000_000, 100_000), (2_000_000, -500_000), (3_000_000, 0)]:
            world.run_until(time)
            clock.drift(rate)
            seen.append(clock.monotonic())
        world.run_until(4_000_000)
        assert [*seen, clock.monotonic()] == [0, 1_000_000, 2_100_000, 2_600_000, 3_600_000]

    @pytest.mark.parametrize("rate", [0, 250_000, -250_000])
    def test_a_delay_is_over_when_the_clock_says_so(self, rate: int) -> None:
        world = World(1)
        clock = Clock(world)
        clock.drift(rate)
        due = clock.due(999)
        world.run_until(due - 1)
        assert clock.monotonic() < 999
        world.run_until(due)
        assert clock.monotonic() >= 999

    def test_a_jump_of_the_time_of_day_leaves_the_monotonic_clock_alone(self) -> None:
        clock = Clock(World(1))
        before = clock.wall()
        clock.wall_offset_us -= 3_600_000_000
        assert clock.wall() == before - 3_600_000_000
        assert clock.monotonic() == 0

    def test_a_clock_that_stands_still_is_refused(self) -> None:
        with pytest.raises(ValueError, match="rate_ppm -1000000"):
            Clock(World(1)).drift(-1_000_000)


@dataclass
class Ear:
    name: Any
    heard: list[Any]

    def receive(self, sender: Any, frame: Any) -> None:
        self.heard.append((sender, frame[0]))


def two_ends(model: NetworkModel, seed: int = 1) -> tuple[World, Network, Ear, Ear]:
    world = World(seed)
    network = Network(world, model)
    ends = Ear(0, []), Ear(1, [])
    for end in ends:
        network.join(end)
    return world, network, *ends


def send_many(world: World, network: Network, number: int = 500) -> list[int]:
    link = network.link(0, 1)
    assert link is not None
    for count in range(number):
        link.send([b"%d" % count], 4)
        world.run_until(world.now + 7)
    world.run_until(10_000_000)
    return [int(raw) for _, raw in network._ends[1].heard]  # type: ignore[attr-defined]


class TestLinks:
    @pytest.mark.parametrize(
        "delay", [Constant(50), Uniform(0, 500), Exponential(100, 5), Normal(100, 60), Pareto(20, 1.5)]
    )
    def test_frames_stay_in_order_whatever_the_delay(self, delay: Any) -> None:
        world, network, *_ = two_ends(NetworkModel(delay=delay))
        assert send_many(world, network) == list(range(500))

    def test_reordering_loses_nothing(self) -> None:
        world, network, *_ = two_ends(NetworkModel(reorder=0.3))
        heard = send_many(world, network)
        assert heard != sorted(heard)
        assert sorted(heard) == list(range(500))

    def test_loss_and_doubling_strike_about_as_often_as_said(self) -> None:
        world, network, *_ = two_ends(NetworkModel(loss=0.2, duplicate=0.1))
        heard = send_many(world, network, 2_000)
        assert 0.75 < len(set(heard)) / 2_000 < 0.85
        assert 0.06 < 1 - len(set(heard)) / len(heard) < 0.14
        assert network.dropped["loss"] == 2_000 - len(set(heard))

    def test_the_link_says_who_sent(self) -> None:
        world, network, *_, end = two_ends(NetworkModel())
        send_many(world, network, 1)
        assert end.heard == [(0, b"0")]

    def test_a_cut_takes_what_is_on_its_way_too(self) -> None:
        world, network, *_, end = two_ends(NetworkModel(delay=Constant(100)))
        link = network.link(0, 1)
        assert link is not None
        link.send([b"on its way"], 10)
        world.run_until(50)
        network.cut(0, 1)
        world.run_until(200)
        link.send([b"too late"], 8)
        world.run_until(400)
        assert end.heard == []
        assert network.dropped["cut"] == 2

    def test_a_one_way_cut_leaves_the_other_way(self) -> None:
        world, network, first, second = two_ends(NetworkModel())
        network.cut(0, 1, one_way=True)
        for source, target in ((0, 1), (1, 0)):
            link = network.link(source, target)
            assert link is not None
            link.send([b"x"], 1)
        world.run_until(1_000)
        assert (len(first.heard), len(second.heard)) == (1, 0)

    def test_healing_mends_every_cut(self) -> None:
        _, network, *_ = two_ends(NetworkModel())
        network.partition({0}, {1})
        assert sorted(network.cuts()) == [(0, 1), (1, 0)]
        network.heal()
        assert network.cuts() == []

    def test_a_link_of_its_own_keeps_its_model(self) -> None:
        _, network, *_ = two_ends(NetworkModel())
        network.change_link(0, 1, delay=Constant(9))
        network.change(loss=0.5)
        link, back = network.link(0, 1), network.link(1, 0)
        assert link is not None
        assert back is not None
        assert (link.model.delay, link.model.loss, back.model.loss) == (Constant(9), 0.0, 0.5)

    def test_wrong_words_are_named(self) -> None:
        _, network, *_ = two_ends(NetworkModel())
        with pytest.raises(ValueError, match=r"loss is 1\.5"):
            network.change(loss=1.5)
        with pytest.raises(ValueError, match="no field 'los'"):
            network.change(los=0.5)
        with pytest.raises(ValueError, match="address 7"):
            network.cut(0, 7)


@dataclass
class Handle:
    index: int


class TestDisk:
    def disk(self, **model: Any) -> tuple[World, Disk]:
        world = World(1)
        return world, Disk(world, "0", DiskModel(**model))

    def test_what_is_not_synced_is_lost(self) -> None:
        world, disk = self.disk(sync=Constant(100))
        done: list[int] = []
        disk.write([(1, b"a"), (1, b"b")], done.append)
        world.run_until(100)
        disk.write([(2, b"c")], done.append)
        world.run_until(150)
        disk.crash()
        world.run_until(1_000)
        assert disk.records == [(1, b"a"), (1, b"b")]
        assert done == [2]

    def test_a_write_under_way_may_survive_but_is_never_reported(self) -> None:
        _, disk = self.disk(survives=1.0)
        done: list[int] = []
        disk.write([(1, b"a")], done.append)
        disk.crash()
        assert (disk.records, done) == ([(1, b"a")], [])

    def test_trim_waits_for_a_saved_checkpoint(self) -> None:
        world, disk = self.disk(save=Constant(1_000))
        disk.write([(1, b"a"), (2, b"b"), (3, b"c"), (1, b"d")], lambda _: None)
        world.run_until(500)
        disk.save(Handle(2), lambda _: None)
        disk.trim(2)
        assert len(disk.records) == 4
        world.run_until(2_000)
        assert disk.records == [(3, b"c"), (1, b"d")], "the run ends at the first record beyond"

    def test_a_crash_before_the_save_leaves_the_old_checkpoint_and_all_records(self) -> None:
        world, disk = self.disk(save=Constant(1_000))
        disk.save(Handle(1), lambda _: None)
        world.run_until(1_000)
        disk.write([(1, b"a"), (2, b"b")], lambda _: None)
        world.run_until(1_500)
        disk.save(Handle(2), lambda _: None)
        disk.trim(2)
        disk.crash()
        world.run_until(9_000)
        assert disk.saved == Handle(1)
        assert len(disk.records) == 2

    def test_while_one_is_saved_only_the_newest_waits(self) -> None:
        world, disk = self.disk(save=Constant(1_000))
        reported: list[int] = []
        for index in (1, 2, 3):
            disk.save(Handle(index), reported.append)
        world.run_until(1_000)
        assert disk.saved == Handle(1)
        world.run_until(2_000)
        assert (disk.saved, disk.saves, reported) == (Handle(3), 2, [1, 3])

    def test_amnesia_empties_it(self) -> None:
        world, disk = self.disk()
        disk.save(Handle(1), lambda _: None)
        disk.write([(1, b"a")], lambda _: None)
        world.run_until(10_000)
        disk.wipe()
        assert (disk.records, disk.saved) == ([], None)


class Worker(Process):
    """Notes what it is given and when it was paid for."""

    operation_us = 0.0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[tuple[int, Any]] = []
        self.turns: list[int] = []

    def on_message(self, sender: Any, message: Any) -> None:
        self.seen.append((self.world.now, message.token))

    def on_timer(self, name: str) -> None:
        self.seen.append((self.world.now, name))

    def end_turn(self) -> None:
        self.turns.append(self.world.now)


def workers(number: int, costs: CostModel) -> tuple[World, list[Worker]]:
    world = World(1)
    network, cores = Network(world, NetworkModel(delay=Constant(10), byte_ns=0)), Cores(costs.cores)
    codec: Codec[Any] = Codec(*COMMON_MESSAGES)
    return world, [Worker(world, network, cores, costs, name, codec) for name in range(number)]


TEN = CostModel(1, 0, 0, 10, 0, 0, 0, 0, 0, 0.0, 0.0)
"""One core; a frame read costs ten microseconds, all else nothing."""


class TestProcesses:
    def test_processes_wait_for_the_core_in_the_order_of_asking(self) -> None:
        world, (first, second, third) = workers(3, TEN)
        for worker in (third, first, second):
            worker.receive(9, [Codec(*COMMON_MESSAGES).encode(StatusRequest(1))])
        world.run_until(1_000)
        assert (third.turns, first.turns, second.turns) == ([10], [20], [30])

    def test_with_a_core_each_nobody_waits(self) -> None:
        world, all_of_them = workers(3, CostModel(0, 0, 0, 10, 0, 0, 0, 0, 0, 0.0, 0.0))
        for worker in all_of_them:
            worker.receive(9, [Codec(*COMMON_MESSAGES).encode(StatusRequest(1))])
        world.run_until(1_000)
        assert [worker.turns for worker in all_of_them] == [[10]] * 3

    def test_signatures_are_charged(self) -> None:
        world, (worker,) = workers(1, CostModel(1, 100, 1_000, 0, 0, 0, 0, 0, 0, 0.0, 0.0))

        def work() -> None:
            worker.meter.signed += 2
            worker.meter.verified += 3

        worker.do(work)
        world.run_until(10_000)
        assert worker.turns == [3_200]

    def test_a_slow_process_keeps_no_core_from_others(self) -> None:
        world, (first, second) = workers(2, TEN)
        first.slow_us = 1_000
        for worker in (first, second):
            worker.receive(9, [Codec(*COMMON_MESSAGES).encode(StatusRequest(1))])
        world.run_until(10_000)
        assert (first.turns, second.turns) == ([1_010], [20])

    def test_bytes_that_are_no_message_end_at_the_codec(self) -> None:
        world, (worker,) = workers(1, FREE)
        worker.receive(9, [b"\xff\x00", Codec(*COMMON_MESSAGES).encode(StatusRequest(5))])
        world.run_until(10)
        assert worker.undecodable == 1
        assert [token for _, token in worker.seen] == [5]

    def test_a_full_inbox_drops_the_newest(self) -> None:
        world, (worker,) = workers(1, FREE)
        worker.pause()
        for token in range(INBOX_FRAMES + 5):
            worker.receive(9, [Codec(*COMMON_MESSAGES).encode(StatusRequest(token))])
        worker.resume()
        world.run_until(10)
        assert worker.seen[-1][1] == INBOX_FRAMES - 1
        assert worker.network.dropped["full"] == 5

    def test_what_waits_is_bounded_in_bytes_too(self) -> None:
        world, (worker,) = workers(1, FREE)
        worker.pause()
        large = bytes(INBOX_BYTES // 4)
        for _ in range(7):
            worker.receive(9, [large])
        assert worker.network.dropped["full"] == 3
        worker.resume()
        world.run_until(10)
        worker.receive(9, [Codec(*COMMON_MESSAGES).encode(StatusRequest(5))])
        world.run_until(20)
        assert [token for _, token in worker.seen] == [5], "there is room again"

    def test_a_stopped_process_hears_nothing(self) -> None:
        world, (worker,) = workers(1, FREE)
        worker.set_timer("t", 5)
        worker.stop()
        worker.receive(9, [b"x"])
        world.run_until(100)
        worker.start()
        world.run_until(200)
        assert worker.seen == []

    def test_a_process_killed_while_it_waits_for_the_core_is_not_run_twice(self) -> None:
        world, (first, second) = workers(2, TEN)
        raw = Codec(*COMMON_MESSAGES).encode(StatusRequest(1))
        first.receive(9, [raw])
        second.receive(9, [raw])
        second.stop()
        second.start()
        second.receive(9, [raw])
        world.run_until(1_000)
        assert (first.turns, second.turns) == ([10], [20])


class TestTimers:
    """X13: a timer that was cancelled or set again never fires from its old arming."""

    def test_it_fires_once(self) -> None:
        world, (worker,) = workers(1, FREE)
        worker.set_timer("t", 50)
        world.run_until(1_000)
        assert worker.seen == [(50, "t")]

    @pytest.mark.parametrize("again", [20, 80])
    def test_set_again_it_fires_from_the_new_arming_alone(self, again: int) -> None:
        world, (worker,) = workers(1, FREE)
        worker.set_timer("t", 50)
        world.run_until(10)
        worker.set_timer("t", again)
        world.run_until(1_000)
        assert worker.seen == [(10 + again, "t")]

    def test_cancelled_it_does_not_fire_but_can_be_set_anew(self) -> None:
        world, (worker,) = workers(1, FREE)
        worker.set_timer("t", 50)
        worker.cancel_timer("t")
        world.run_until(100)
        worker.set_timer("t", 50)
        world.run_until(1_000)
        assert worker.seen == [(150, "t")]

    def test_cancelled_when_it_has_run_out_but_was_not_handled_it_does_not_fire(self) -> None:
        world, (worker,) = workers(1, TEN)
        worker.set_timer("t", 15)
        world.run_until(12)
        worker.receive(9, [Codec(*COMMON_MESSAGES).encode(StatusRequest(1))])
        world.run_until(16)
        worker.cancel_timer("t")
        world.run_until(1_000)
        assert [what for _, what in worker.seen] == [1]

    def test_a_paused_process_hears_of_it_late(self) -> None:
        world, (worker,) = workers(1, FREE)
        worker.set_timer("t", 50)
        worker.pause()
        world.run_until(500)
        worker.resume()
        world.run_until(600)
        assert worker.seen == [(500, "t")]

    def test_a_fast_clock_fires_early(self) -> None:
        world, (worker,) = workers(1, FREE)
        worker.clock.drift(1_000_000)
        worker.set_timer("t", 100)
        world.run_until(1_000)
        assert worker.seen == [(50, "t")]

    def test_a_turn_that_a_pause_caught_ends_after_it(self) -> None:
        world, (worker,) = workers(1, TEN)
        worker.receive(9, [Codec(*COMMON_MESSAGES).encode(StatusRequest(1))])
        world.run_until(5)
        worker.pause()
        world.run_until(500)
        assert worker.turns == []
        worker.resume()
        assert worker.turns == [500]
