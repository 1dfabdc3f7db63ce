"""The words of SimCluster, told with a single server: what each does, and what it says when it is used wrongly."""

from typing import Any

import pytest

from replog.codec import BadMessage
from replog.core import Effect, Event, Received
from replog.keys import SIGNATURE_BYTES
from replog.node import Plug
from replog.replica import Replica
from replog.sim import FREE, Constant, DiskModel, NetworkModel, SimCluster, Stalled
from replog.trace import Recorder
from replog.types import LogReply, Micros, Request, Status, StatusRequest, Submit
from tests import toy
from tests.cluster.story import Load, put


def server(**more: Any) -> SimCluster:
    return SimCluster(toy.SPEC, f=0, clients=["c0", "c1"], **more)


def one_write(cluster: SimCluster) -> Micros:
    """How long one write takes."""
    begin, ends = cluster.now, []
    cluster.client("c0").submit([put("x", "1")], ends.append)
    cluster.run_until(lambda: bool(ends))
    return cluster.now - begin


class TestTime:
    def test_work_links_and_disk_add_up(self) -> None:
        links, disk = NetworkModel(delay=Constant(100), byte_ns=0), DiskModel(sync=Constant(1_000), byte_ns=0)
        assert one_write(server(network=links, disk=disk, costs=FREE)) == 100 + 1_000 + 100

    def test_work_takes_longer_than_none(self) -> None:
        assert one_write(server()) > one_write(server(costs=FREE))

    def test_a_slow_disk_and_a_slow_process_hold_the_answer_back(self) -> None:
        quick, slow = server(), server()
        slow.slow_disk(0, 5_000)
        slow.slow(0, 3_000)
        assert one_write(slow) - one_write(quick) == pytest.approx(8_000, abs=200)

    def test_what_is_planned_happens_then(self) -> None:
        cluster, seen = server(), []
        cluster.at(5_000, lambda: seen.append(cluster.now))
        cluster.run_for(1_000)
        cluster.after(1_000, lambda: seen.append(cluster.now))
        cluster.run_for(10_000)
        assert seen == [2_000, 5_000]

    def test_waiting_in_vain_shows_the_cluster(self) -> None:
        cluster = server()
        cluster.crash(0)
        cluster.client("c0").submit([put("x", "1")])
        cluster.cut("c1", 0)
        with pytest.raises(Stalled, match="not reached within 1000 us") as caught:
            cluster.run_until(lambda: False, 1_000)
        for words in ("seed 1", "0: down", "1 requests outstanding", "c1 -> 0", "'down'"):
            assert words in str(caught.value)


class TestLifeAndDeath:
    def test_a_crashed_replica_says_nothing(self) -> None:
        cluster = server()
        assert cluster.status(0) is not None
        cluster.crash(0)
        cluster.crash(0)
        assert cluster.status(0) is None
        assert cluster.leader() is None

    def test_restart_finds_what_the_disk_holds_and_amnesia_nothing(self) -> None:
        cluster = server()
        one_write(cluster)
        cluster.restart(0)
        cluster.run_for(1_000)
        assert cluster.status(0).index == 1  # type: ignore[union-attr]
        cluster.amnesia(0)
        cluster.restart(0)
        cluster.run_for(1_000)
        assert cluster.status(0).index == 0  # type: ignore[union-attr]

    def test_a_damaged_record_is_not_started_on(self) -> None:
        cluster = server()
        one_write(cluster)
        index, raw = cluster.nodes[0].disk.records[0]
        cluster.nodes[0].disk.records[0] = (index, raw[:-1])
        with pytest.raises(BadMessage):
            cluster.restart(0)

    def test_a_paused_replica_answers_when_it_goes_on(self) -> None:
        cluster = server(options={"retry_us": 10_000_000})
        cluster.pause(0)
        cluster.at(500_000, lambda: cluster.resume(0))
        assert one_write(cluster) == pytest.approx(500_000, abs=2_000)

    def test_a_client_can_be_paused_too(self) -> None:
        cluster = server(options={"retry_us": 10_000_000})
        cluster.pause("c0")
        cluster.at(500_000, lambda: cluster.resume("c0"))
        assert one_write(cluster) == pytest.approx(500_000, abs=2_000)

    def test_a_replica_may_be_killed_in_the_middle_of_its_own_turn(self) -> None:
        class Suicidal:
            def __init__(self, inner: Replica) -> None:
                self.inner = inner

            def step(self, now: Micros, event: Event) -> list[Effect]:
                if isinstance(event, Received) and cluster.nodes[0].lives < 3:
                    cluster.restart(0)
                return self.inner.step(now, event)

            def status(self) -> Status:
                return self.inner.status()

        cluster = server(wrap=lambda node, inner: Suicidal(inner))
        assert one_write(cluster) > 0
        assert cluster.nodes[0].lives == 3

    def test_an_exception_of_a_replica_says_where_and_when(self) -> None:
        class Broken:
            def __init__(self, inner: Replica) -> None:
                self.inner = inner

            def step(self, now: Micros, event: Event) -> list[Effect]:
                raise ZeroDivisionError("bug")

            def status(self) -> Status:
                return self.inner.status()

        with pytest.raises(ZeroDivisionError) as caught:
            one_write(server(wrap=lambda node, inner: Broken(inner)))
        assert "node 0 at" in caught.value.__notes__[0]
        assert "seed 1" in caught.value.__notes__[0]


class TestLinks:
    def test_bytes_that_are_no_message_end_at_the_codec_with_a_line(self) -> None:
        recorder = Recorder("all")
        cluster = server(recorder=recorder)
        cluster.nodes[0].receive("c0", [b"\xc1nonsense"])
        one_write(cluster)
        assert cluster.counters.undecodable == 1
        assert any(line.get("world", {}).get("kind") == "undecodable" for line in recorder.lines)

    def test_a_filter_loses_what_a_story_wants_lost(self) -> None:
        cluster = server(options={"retry_us": 50_000})
        lost: list[Any] = []

        def keep(sender: Any, target: Any, message: Any) -> bool:
            if isinstance(message, Submit) and not lost:
                lost.append(message)
                return False
            return True

        cluster.network.filter = keep
        assert one_write(cluster) > 50_000
        assert cluster.counters.dropped["filter"] == 1

    def test_losing_frames_is_made_up_for_by_retrying(self) -> None:
        cluster = server(network=NetworkModel(loss=0.3, duplicate=0.3, reorder=0.3), options={"retry_us": 5_000})
        load = Load(cluster)
        load.more(100)
        cluster.network.change(loss=0.0)
        load.stop()
        assert load.check_kept() >= 100

    def test_a_message_in_the_name_of_a_client_carries_that_name(self) -> None:
        recorder = Recorder("all")
        cluster = server(recorder=recorder)
        cluster.send_as("c1", [0], StatusRequest(3))
        cluster.run_for(1_000)
        events = [line["event"] for line in recorder.lines if "event" in line]
        assert {"kind": "Received", "sender": "c1", "message": {"message": "StatusRequest", "token": 3}} in events

    def test_unknown_names_are_named(self) -> None:
        cluster = server()
        with pytest.raises(ValueError, match="client 'c9': known are c0, c1"):
            cluster.client("c9")
        with pytest.raises(ValueError, match="address 5"):
            cluster.partition({0}, {5})


class TestKeys:
    @pytest.mark.parametrize("real", [False, True])
    def test_a_key_signs_for_its_owner_alone(self, real: bool) -> None:
        cluster = server(real_signatures=real)
        request = Request.make(cluster.signer("c1").sign, cluster.domain, "c1", 1, 0, [put("x", "1")])
        verify, said = cluster.verifier().verify, request.statement(cluster.domain)
        assert verify("c1", said, request.auth)
        assert not verify("c0", said, request.auth)
        assert not verify("stranger", said, request.auth)
        assert len(request.auth) == (SIGNATURE_BYTES if real else 16)

    def test_keys_depend_on_the_seed(self) -> None:
        said = b"something"
        assert server(seed=1).signer(0).sign(said) != server(seed=2).signer(0).sign(said)

    def test_signing_and_checking_are_counted(self) -> None:
        cluster = server()
        one_write(cluster)
        assert cluster.count(["c0"]).signed == 1
        assert cluster.count([0]).verified == 1


class TestAsking:
    def test_a_client_can_ask_one_replica_for_its_own_word(self) -> None:
        cluster = server()
        one_write(cluster)
        words: list[Status] = []
        entries: list[LogReply] = []
        cluster.client("c1").ask_status(0, words.append)
        cluster.client("c1").ask_log(0, 1, 10, entries.append)
        cluster.run_for(10_000)
        assert words[0].index == 1
        assert [entry.index for entry in entries[0].entries] == [1]


class TestCounting:
    def test_counters_agree_with_what_was_done(self) -> None:
        cluster = server()
        for _ in range(10):
            one_write(cluster)
        total = cluster.counters
        assert (total.submitted, total.acknowledged, total.syncs) == (10, 10, 10)
        assert total.kinds == {"Submit": 10, "Reply": 10}
        assert (total.messages, total.frames, total.delivered) == (20, 20, 20)
        assert total.bytes > 500
        assert cluster.count([0]).kinds == {"Reply": 10}

    def test_many_at_once_share_frames_and_writes(self) -> None:
        cluster = server()
        load = Load(cluster, outstanding=16)
        load.more(400)
        load.stop()
        total = cluster.counters
        assert total.frames < total.messages * 0.8
        assert total.syncs < total.acknowledged * 0.8


class TestTelling:
    def test_what_a_crash_undoes_was_never_decided(self) -> None:
        recorder = Recorder()
        cluster = server(recorder=recorder, disk=DiskModel(sync=Constant(5_000)))
        cluster.client("c0").submit([put("x", "1")])
        cluster.run_until(lambda: cluster.replica(0).executor.index == 1)
        cluster.run_for(1_000)
        cluster.crash(0)
        assert [line for line in recorder.lines if "effect" in line] == []
        cluster.restart(0)
        cluster.run_until(lambda: cluster.client("c0").outstanding == 0)
        assert [line["effect"]["kind"] for line in recorder.lines if "effect" in line] == ["Apply"]


class TestWrapping:
    def test_the_wrapper_is_what_is_driven(self) -> None:
        heard: list[str] = []

        class Ear:
            def __init__(self, inner: Replica) -> None:
                self.inner = inner

            def step(self, now: Micros, event: Event) -> list[Effect]:
                heard.append(type(event).__name__)
                return self.inner.step(now, event)

            def status(self) -> Status:
                return self.inner.status()

        def wrap(node: int, inner: Replica) -> Plug:
            return Ear(inner)

        cluster = server(wrap=wrap)
        one_write(cluster)
        assert heard[:2] == ["Started", "Received"]
        cluster.restart(0)
        cluster.run_for(1_000)
        assert heard.count("Started") == 2
        cluster.crash(0)
        heard.clear()
        cluster.command(0, "snapshot")  # nobody is there to hear it, and nobody keeps it for later
        cluster.restart(0)
        cluster.run_for(1_000)
        assert heard[0] == "Started"
        assert "Command" not in heard
