"""What a live run cost: sums over the lives of processes, and no figure at all where a word is missing."""

import pytest

from compare.judging import Costs
from compare.live_costs import COUNTED, Ledger
from compare.results import Run
from compare.runner import Job, one
from compare.scenario import Side, Workload, find
from replog.live.counters import Counters
from replog.types import LogRequest, Status, StatusRequest


def word(node: int, count: int, **detail: int | str) -> Status:
    """A replica that counted `count` of everything that a figure rests on."""
    return Status(node, "pbft", "backup", 0, 0, 0, 0, True, detail={**dict.fromkeys(COUNTED, count), **detail})


def words(*counts: int | None) -> dict[int, Status]:
    return {node: word(node, count) for node, count in enumerate(counts) if count is not None}


def test_what_was_counted_before_the_workload_is_left_out() -> None:
    ledger = Ledger()
    ledger.begin(range(2), words(100, 200))
    ledger.end(range(2), words(103, 204))
    assert ledger.costs(()) == Costs(messages=2 * 7, bytes=2 * 7, signatures=7, macs=7, fsyncs=7)


def test_clients_count_too() -> None:
    ledger, client = Ledger(), Counters()
    ledger.begin([0], words(0))
    ledger.end([0], words(1))
    client.sent.add(LogRequest(1, 1, 1), size=10, receivers=3)
    client.sent.add(StatusRequest(1), size=10)
    client.meter.signed = 5
    assert ledger.costs([client]) == Costs(messages=2 + 3, bytes=2 + 30, signatures=1 + 5, macs=1, fsyncs=1)


def test_a_killed_replica_counts_with_its_last_word_and_begins_anew() -> None:
    ledger = Ledger()
    ledger.begin(range(2), words(100, 200))
    ledger.end([0], words(110))
    ledger.born(0)
    ledger.end(range(2), words(3, 201))
    assert ledger.costs(()).fsyncs == 10 + 3 + 1


def test_a_replica_that_stays_down_counts_with_its_last_word() -> None:
    ledger = Ledger()
    ledger.begin(range(2), words(0, 0))
    ledger.end([0], words(7))
    ledger.end(range(2), words(None, 5))
    assert ledger.costs(()).fsyncs == 12


@pytest.mark.parametrize("silent", ["at the beginning", "before it is killed", "at the end"])
def test_a_missing_word_leaves_no_figure(silent: str) -> None:
    ledger = Ledger()
    ledger.begin(range(2), words(0, None if silent == "at the beginning" else 0))
    ledger.end([1], words(None, None if silent == "before it is killed" else 5))
    ledger.born(1)
    ledger.end(range(2), words(9, None if silent == "at the end" else 5))
    assert ledger.costs(()) == Costs()


@pytest.mark.parametrize("lie", ["many", -1])
def test_a_word_that_is_no_count_leaves_no_figure(lie: int | str) -> None:
    ledger = Ledger()
    ledger.begin([0], words(0))
    ledger.end([0], {0: word(0, 1, messages_sent=lie)})
    assert ledger.costs(()) == Costs()


# ------------------------------------------------------------------------------------------------------ on both engines


def alone(protocol: str, engine: str) -> Run:
    """One closed-loop client with one operation under way, reads ordered like writes: every batch holds just one."""
    sides = {"pbft": Side(options={"fast_reads": False}), "raft": Side()}
    workload = Workload(clients=1, outstanding=1, pause_ms=5)
    scenario = find("no-fault").model_copy(update={"workload": workload, "protocols": sides})
    return one(Job(scenario, protocol, engine, 1))  # type: ignore[arg-type]


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "signatures", "messages"),
    [
        # Client's request; PRE-PREPARE, 3 PREPAREs, 4 COMMITs. Request, 24 phase messages, 4 replies.
        ("pbft", 9, 29),
        # Client's request. Request, 2 AppendEntries, 2 replies to them, the client's reply.
        ("raft", 1, 6),
    ],
)
def test_both_engines_count_the_same(protocol: str, signatures: int, messages: int) -> None:
    live, sim = alone(protocol, "live"), alone(protocol, "sim")
    for run in (live, sim):
        assert run.verdict == "ok"
        assert run.signatures_per_op == pytest.approx(signatures, rel=0.1)
        assert run.messages_per_op is not None
        assert messages * 0.9 < run.messages_per_op < messages * 1.5, "status and heartbeats come on top"
    for name in ("bytes_per_op", "fsyncs_per_op"):
        measured, simulated = getattr(live, name), getattr(sim, name)
        assert simulated / 3 < measured < simulated * 3
