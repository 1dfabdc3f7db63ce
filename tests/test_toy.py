"""A third protocol joins by implementing `ProtocolSpec`: an unreplicated server lives in the same world."""

from pathlib import Path

import pytest

from replog.client import Done
from replog.core import Core, Effect, Event, Persist, ProtocolSpec
from replog.sim import Constant, DiskModel, SimCluster
from replog.statemachine import decode_outcome
from replog.trace import Recorder
from replog.types import Micros
from tests import toy
from tests.cluster.story import Load, check_agreement, get, put


def server(seed: int = 1, **options: object) -> SimCluster:
    return SimCluster(toy.SPEC, f=0, seed=seed, clients=["c0", "c1"], recorder=Recorder(), **options)  # type: ignore[arg-type]


def test_it_is_small() -> None:
    assert len(Path(toy.__file__).read_text().splitlines()) < 120


def test_it_is_a_protocol() -> None:
    spec: ProtocolSpec = toy.SPEC
    assert spec.replicas(0) == 1
    with pytest.raises(ValueError, match="n = 3, f = 1"):
        SimCluster(toy.SPEC, n=3, f=1)


def test_it_serves() -> None:
    cluster = server()
    ends: list[object] = []
    cluster.client("c0").submit([put("x", "1"), get("x")], ends.append)
    cluster.run_until(lambda: bool(ends))
    (end,) = ends
    assert isinstance(end, Done)
    assert decode_outcome(end.outcomes[1]) == "1"
    assert (end.index, end.vouchers) == (1, (0,))


def test_it_reads_without_writing() -> None:
    cluster = server()
    ends: list[object] = []
    cluster.client("c0").submit([put("x", "1")], ends.append)
    cluster.run_until(lambda: len(ends) == 1)
    before = cluster.nodes[0].disk.syncs
    cluster.client("c0").submit([get("x")], ends.append, read_only=True)
    cluster.run_until(lambda: len(ends) == 2)
    assert isinstance(ends[1], Done)
    assert decode_outcome(ends[1].outcomes[0]) == "1"
    assert cluster.nodes[0].disk.syncs == before


def crash_and_look(cluster: SimCluster, rounds: int = 3) -> int:
    load = Load(cluster)
    for _ in range(rounds):
        load.more(60)
        cluster.crash(0)
        cluster.run_for(5_000)
        cluster.restart(0)
    load.stop()
    return load.check_kept()


@pytest.mark.parametrize("survives", [0.0, 0.5, 1.0])
def test_what_it_acknowledged_survives_crashes(survives: float) -> None:
    cluster = server(disk=DiskModel(sync=Constant(2_000), survives=survives), options={"checkpoint_interval": 20})
    assert crash_and_look(cluster) >= 180
    assert cluster.nodes[0].disk.saves > 3
    cluster.check_invariants()


class Forgetful(toy.ToyCore):
    """Persists each entry one request too late, behind the answer to it."""

    late: tuple[Effect, ...] = ()

    def step(self, now: Micros, event: Event) -> list[Effect]:
        effects = super().step(now, event)
        persists = tuple(effect for effect in effects if isinstance(effect, Persist))
        if persists:
            effects = [*self.late, *(effect for effect in effects if not isinstance(effect, Persist))]
            self.late = persists
        return effects


class ForgetfulSpec(toy.ToySpec):
    def core(self, setup: object) -> Core:
        return Forgetful(setup)  # type: ignore[arg-type]


def test_a_server_that_answers_before_the_disk_is_caught() -> None:
    cluster = SimCluster(ForgetfulSpec(), f=0, clients=["c0", "c1"], disk=DiskModel(sync=Constant(2_000)))
    with pytest.raises(AssertionError, match="acknowledged write lost"):
        crash_and_look(cluster)


def test_one_seed_is_one_run() -> None:
    def lines(seed: int) -> list[object]:
        cluster = server(seed)
        crash_and_look(cluster, 1)
        recorder = cluster.recorder
        assert recorder is not None
        assert check_agreement(recorder, {0}) == 0
        return list(recorder.lines)

    assert lines(5) == lines(5)
    assert lines(5) != lines(6)
