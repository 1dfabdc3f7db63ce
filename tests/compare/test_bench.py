"""`replog bench --engine sim`: simulated comparisons, timed."""

import pytest

from compare import bench
from replog.cli import run
from replog.errors import ConfigError


@pytest.mark.parametrize(("protocol", "n"), [("pbft", 4), ("raft", 3)])
def test_runs_are_made_and_judged(protocol: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RUN_S", 0.05)
    figures = bench.measure(protocol, 1, clients=2, outstanding=2, seconds=0.01, options={})
    assert (figures["n"], figures["runs"]) == (n, 1)
    assert figures["delivered"] > figures["acknowledged"] > 0
    assert 0 < figures["judges_share"] < 1


def test_a_load_beyond_the_simulator_is_refused() -> None:
    with pytest.raises(ConfigError, match="--outstanding = 65: must be at most 64"):
        bench.measure("pbft", 1, clients=1, outstanding=65, seconds=1, options={})


def test_what_the_command_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "pbft", "--engine", "paper"]) == 2
    assert "--engine = 'paper': must be one of live, sim" in capsys.readouterr().err
    assert run(["bench", "pbft", "--engine", "sim", "--reads", "0.5"]) == 2
    assert "--reads = 0.5: must not stand beside --engine = sim" in capsys.readouterr().err


def test_by_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "RUN_S", 0.05)
    assert run(["bench", "raft", "--engine", "sim", "--seconds", "0.1", "--clients", "2"]) == 0
    assert "delivered_messages_s" in capsys.readouterr().out
