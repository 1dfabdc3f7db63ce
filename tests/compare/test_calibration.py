"""A machine measured as prices of the simulator: the parts, the file, what a simulated run makes of it."""

import json
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from compare import bench, runner
from compare.calibration import check, command, live, machine, measure, micro, simulated, steps
from compare.calibration.fit import cost, prices
from compare.calibration.machine import Handling, Machine, Prices, Waits
from compare.results import Verdict
from compare.scenario import find
from replog import protocols
from replog.apps.kv import KeyValue
from replog.cli import run
from replog.errors import ConfigError
from replog.sim.cluster import SimCluster
from replog.sim.costs import FREE, CostModel

FREE_PRICES = dict.fromkeys((name for name in Prices.model_fields if name != "cores"), 0.0)
FREE_HANDLING = dict.fromkeys(
    ("message_us", "request_us", "operation_us", "client_request_us", "client_operation_us"), 0.0
)


def made(own: dict[str, Any] | None = None, waits: dict[str, float] | None = None, **changed: float) -> Machine:
    """A machine on which nothing takes time but what is named."""
    handling = Handling.model_validate({**FREE_HANDLING, "events": {}, **(own or {})})
    return Machine(
        date="2026-01-01T00:00:00+00:00",
        processor="paper",
        system="none",
        versions={},
        load=0.0,
        prices=Prices.model_validate({"cores": 2, **FREE_PRICES, **changed}),
        waits=Waits.model_validate({"sync_us": 0, "delay_us": 100, **(waits or {})}),
        protocols={"pbft": handling, "raft": handling},
        measured_by={},
    )


# ------------------------------------------------------------------------------------------------------------- the fit


def test_prices_are_found_from_counts() -> None:
    truth = {"turn": 40.0, "frame": 25.0, "unused": 0.0}
    rows = [{"turn": a, "frame": b, "unused": 0} for a, b in ((10, 10), (10, 30), (25, 40), (3, 90))]
    found = prices(rows, [cost(row, truth) for row in rows])
    assert found == pytest.approx({"turn": 40.0, "frame": 25.0})


def test_no_price_is_negative() -> None:
    rows = [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 1}]
    found = prices(rows, [9.0, 6.0, 3.0])  # plain least squares: a = -3
    assert found["a"] == 0.0
    assert found["b"] == pytest.approx(6.0)


# ------------------------------------------------------------------------------------------------- what is measured how


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "ROUNDS", 3)
    monkeypatch.setattr(steps, "CPU_S", 0.1)
    monkeypatch.setattr(steps, "LOADS", ((2, 1), (2, 8)))


@pytest.mark.usefixtures("quick")
def test_the_parts_of_the_machine_take_time() -> None:
    assert all(price > 0 for price in micro.signing().values())
    store = micro.storing()
    assert store["commit_us"] > 0
    assert store["sync_us"] > 0, "the disk is waited for"


@pytest.mark.live
@pytest.mark.usefixtures("quick")
def test_a_frame_through_a_real_link_takes_time_at_both_ends() -> None:
    link = micro.linking()
    assert link["frame_us"] > 0
    assert link["delay_us"] > 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("protocol", "vote"), [("pbft", "Commit"), ("raft", "AppendReply")])
def test_each_kind_of_step_has_a_price(protocol: str, vote: str) -> None:
    timed = steps.timed(protocol, 1, {}, micro.signing())
    replica, client = steps.divided(timed.replicas), steps.divided(timed.clients)
    assert replica[vote] > 0
    assert client["client_request_us"] > 0
    assert sum(replica.get(name, 0.0) for name in ("request_us", "operation_us")) > 0


# ----------------------------------------------------------------------------------------------------- what it does


def test_what_the_core_does_with_a_message_is_charged() -> None:
    def answered(costs: CostModel) -> int:
        cluster = SimCluster(protocols.find("pbft"), costs=costs)
        cluster.client("c0").submit([KeyValue.operation("put", "x", "1")])
        cluster.run_until(lambda: not cluster.client("c0").outstanding)
        return cluster.now

    slow = CostModel(**{**vars(FREE), "handling": {"Commit": 5_000.0}})
    assert 5_000 <= answered(slow) - answered(FREE) <= 20_000, "three commits reach each replica, one after another"


@pytest.mark.parametrize("field", ["turn_us", "request_us", "client_request_us"])
def test_the_other_prices_are_charged(field: str) -> None:
    def busy(costs: CostModel) -> int:
        cluster = SimCluster(protocols.find("raft"), costs=costs)
        cluster.client("c0").submit([KeyValue.operation("put", "x", "1")])
        cluster.run_until(lambda: not cluster.client("c0").outstanding)
        return cluster.counters.busy_us

    assert busy(CostModel(**{**vars(FREE), field: 1_000.0})) >= 1_000
    assert busy(FREE) == 0


@pytest.mark.parametrize("clients", [4, 32])
def test_clients_of_one_load_generator_share_one_thread(clients: int) -> None:
    """1 ms a request: a thousand a second at most, however many cores there are."""
    busy = made({"client_request_us": 1_000.0}, cores=0)
    found = simulated.load(busy, "raft", 1, clients, 1, 0.3, {})
    assert 900 <= found["throughput_ops_s"] <= 1_000


@pytest.mark.parametrize("cores", [1, 2])
def test_replicas_and_load_share_the_cores(cores: int) -> None:
    """1 ms a vote at each of four replicas: they would use more cores than there are, and use all that there are."""
    found = simulated.load(made({"events": {"Commit": 1_000.0}}, cores=cores), "pbft", 1, 8, 1, 0.5, {})
    used = found["replica_cpu_s_per_1000_ops"] * found["throughput_ops_s"] / 1000
    assert 0.85 * cores <= used <= 1.02 * cores


def test_a_run_says_whose_prices_it_has(tmp_path: Path) -> None:
    file = tmp_path / "here.json"
    machine.write(made(turn_us=50.0), file)
    brief = find("no-fault").model_copy(update={"duration_s": 0.5})
    found = runner.run(brief, "raft", seeds=1, machine=machine.read(file))
    assert found.meta["cost_model"]["prices"]["turn_us"] == 50.0
    assert found.runs[0].verdict is Verdict.OK
    assert found.runs[0].replay.endswith(f"--seed 1 --cost-model {file}")
    assert runner.run(brief, "raft", seeds=1).meta["cost_model"] == "reference"


def test_what_a_scenario_says_of_its_links_and_disks_stays() -> None:
    scenario, here = find("wide-area"), made()
    around = here.around("pbft", scenario.network, scenario.disk)
    assert around["network"] == scenario.network.model
    assert around["disk"] == here.disk


# -------------------------------------------------------------------------------------------------------- the file


def broken(change: Callable[[dict[str, Any]], object]) -> str:
    told = json.loads(made().model_dump_json())
    change(told)
    return json.dumps(told)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (broken(lambda told: told["prices"].update(sign_us=-1)), "prices.sign_us = -1"),
        (broken(lambda told: told["prices"].pop("sign_us")), "prices.sign_us: is missing"),
        (broken(lambda told: told["waits"].update(sync_us="long")), "waits.sync_us = 'long'"),
        (broken(lambda told: told["protocols"]["raft"].update(frame=1)), "protocols.raft.frame = 1: there is no such"),
        (broken(lambda told: told.update(version=2)), "version = 2"),
        ("{", "Invalid JSON"),
    ],
)
def test_a_wrong_file_is_refused_by_field_value_and_rule(text: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        machine.read(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert complaint in str(refused.value)


def test_a_protocol_that_was_not_measured_is_refused() -> None:
    here = made().model_copy(update={"protocols": {}})
    with pytest.raises(ConfigError, match="raft was not measured"):
        runner.run("no-fault", "raft", seeds=1, machine=here)


# ---------------------------------------------------------------------------------------------------- the commands


def test_bench_and_compare_use_a_file_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "RUN_S", 0.05)
    file, figures = str(tmp_path / "here.json"), tmp_path / "figures.json"
    machine.write(made(), Path(file))
    given = ["--engine", "sim", "--cost-model", file, "--seconds", "0.1", "--json", str(figures)]
    assert run(["bench", "raft", *given]) == 0
    assert json.loads(figures.read_text())["cost_model"]["processor"] == "paper"
    missing = str(tmp_path / "none.json")
    for command_line in (["bench", "raft", "--engine", "sim"], ["compare", "no-fault", "--out", str(tmp_path / "o")]):
        assert run([*command_line, "--cost-model", missing]) == 2
        assert f"{missing}: No such file" in capsys.readouterr().err
    assert run(["compare", "no-fault", "--engine", "live", "--cost-model", file]) == 2
    assert f"--cost-model = {file}: must not stand beside --engine = live" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "PROTOCOL: must be given, unless --calibrate is"),
        (("pbft", "--check"), "--check: must not stand beside a load"),
        (("raft", "--cost-model", "x.json"), "--cost-model = x.json: must not stand beside --engine = live"),
        (("--calibrate", "x.json", "--clients", "7"), "--clients: must not stand beside --calibrate = x.json"),
        (("--calibrate", "x.json", "--robust"), "--auth, --robust: must stand beside a PROTOCOL"),
    ],
)
def test_what_the_command_refuses(
    arguments: tuple[str, ...],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["bench", *arguments]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_machine_is_measured_and_its_model_compared_with_real_replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, briefly: what the ratios are depends on what else the machine does."""
    monkeypatch.setattr(live, "LOADS", ((2, 1), (8, 1)))
    monkeypatch.setattr(live, "SECONDS", 0.5)
    monkeypatch.setattr(check, "CLIENTS", (4,))
    monkeypatch.setattr(check, "PAIRS", 1)
    monkeypatch.setattr(check, "SECONDS", 0.5)
    file = tmp_path / "here.json"
    found = command.calibrate("raft", 1, {}, file, True, lambda _: None)
    here = machine.read(file)
    assert here.prices.frame_us + here.prices.turn_us > 0
    assert here.prices.verify_us > here.prices.mac_us
    assert set(measure.MEASURED_BY) >= {*Prices.model_fields, *Waits.model_fields}
    assert found is not None
    (point,) = found["points"]
    assert point["throughput_ratio"] > 0
    assert point["met"] == found["met"]


def test_the_command_finds_what_measures() -> None:
    (point,) = entry_points(group="replog.calibrations")
    assert (point.name, point.load()) == ("sim", command.calibrate)


def test_the_form_of_the_file_is_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "cost-model"]) == 0
    assert {"prices", "waits", "protocols"} <= json.loads(capsys.readouterr().out)["properties"].keys()
