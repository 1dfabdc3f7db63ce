"""Each judge is content with what is right, and finds what was planted; each says how much it checked."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from compare.checkers import JUDGES, Check, Evidence
from compare.checkers.agreement import Agreement
from compare.checkers.durability import Durability
from compare.checkers.liveness import Liveness
from compare.checkers.state_digest import StateDigest
from compare.checkers.validity import ExactlyOnce, Validity
from compare.decisions import Decided, Decisions, Digested, Entry, collect
from compare.gauges import Held
from compare.history import Call
from compare.scenario import find
from compare.sim import Trial
from replog import protocols

A, B, C = (Entry(client, 1, client * 8, 1) for client in "abc")


def put(client: str, index: int | None, key: str = "x", timestamp: int = 1) -> Call:
    call = Call(client, client, "put", (key, client), invoke=10 * (index or 1), timestamp=timestamp)
    if index is not None:
        call.returned, call.index = 10 * index + 5, index
    return call


def replica(node: int, *log: Sequence[Entry], digests: Sequence[tuple[int, str]] = (), first: int = 1) -> Decisions:
    decided = [Decided(10 * index, index, tuple(entries)) for index, entries in enumerate(log, first)]
    return Decisions(node, decided, [Digested(10 * index, index, digest) for index, digest in digests])


def evidence(replicas: Sequence[Decisions], calls: Sequence[Call], probes: Sequence[Call] = ()) -> Evidence:
    return Evidence(
        decisions={one.node: one for one in replicas},
        up=[one.node for one in replicas],
        calls=[*calls, *probes],
        probes=probes,
        faults_end=1000,
        held={"node 0 Requests.pending": Held(3, 16)},
    )


PROBE = replace(put("c", 3), invoke=2000, returned=2010)
GOOD = evidence(
    [replica(node, [A], [B], [C], digests=[(2, "s")]) for node in range(3)], [put("a", 1), put("b", 2)], [PROBE]
)


def judged(judge: object, found: Evidence) -> Check:
    return judge.judge(found)  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_a_good_run_is_accepted_and_something_was_checked(judge: object) -> None:
    found = judged(judge, GOOD)
    assert found.ok, found.detail
    assert found.checked > 0


def test_different_entries_at_one_index_are_a_disagreement_and_clients_words_are_shown() -> None:
    found = judged(Agreement(), evidence([replica(0, [A]), replica(1, [B])], [put("a", 1), put("b", 1)]))
    assert not found.ok
    assert "index 1: node 0 has [a#1 (aaaaaaaa)], node 1 has [b#1 (bbbbbbbb)]" in found.detail
    assert "client a accepted a#1 put('x', 'a')" in found.detail
    assert "client b accepted b#1 put('x', 'b')" in found.detail


def test_another_order_within_an_index_is_a_disagreement() -> None:
    assert not judged(Agreement(), evidence([replica(0, [A, B]), replica(1, [B, A])], [])).ok


def test_a_replica_that_decides_otherwise_after_its_restart_disagrees_with_itself() -> None:
    own = replica(0, [A])
    own.decided.append(Decided(99, 1, (B,)))
    assert not judged(Agreement(), evidence([own], [])).ok


def test_null_requests_and_no_ops_are_left_out() -> None:
    assert judged(Agreement(), evidence([replica(0, [], [A]), replica(1, [A][:0], [A])], [])).ok


def test_different_states_at_a_common_checkpoint_are_a_disagreement() -> None:
    pair = [replica(node, [A], digests=[(1, digest)]) for node, digest in ((0, "s"), (1, "t"))]
    found = judged(StateDigest(), evidence(pair, []))
    assert not found.ok
    assert found.detail == "state after index 1: node 0 has digest s, node 1 has t"
    assert judged(Agreement(), evidence(pair, [])).ok


def test_a_client_that_was_told_of_a_place_which_is_another_request_s_was_lied_to() -> None:
    found = judged(Agreement(), evidence([replica(0, [A]), replica(1, [A])], [put("a", 1), put("b", 1)]))
    assert not found.ok
    assert "b#1" in found.detail


def test_a_request_that_nobody_submitted_is_invalid() -> None:
    found = judged(Validity(), evidence([replica(0, [A], [B])], [put("a", 1)]))
    assert not found.ok
    assert "never submitted" in found.detail


def test_two_versions_of_one_request_are_invalid() -> None:
    altered = replace(A, digest="f" * 8)
    assert not judged(Validity(), evidence([replica(0, [A]), replica(1, [altered])], [put("a", 1)])).ok


def test_a_request_that_lost_an_operation_is_invalid() -> None:
    two = [put("a", 1), replace(put("a", 1), position=1)]
    assert not judged(Validity(), evidence([replica(0, [A])], two)).ok


def appended(client: str, index: int, outcome: str) -> Call:
    call = Call(client, client, "append", ("x", client), 10 * index, timestamp=1, returned=10 * index + 5, index=index)
    call.outcome = outcome
    return call


def test_an_effect_that_came_twice_shows_in_an_outcome() -> None:
    calls = [appended("a", 1, "a"), appended("b", 3, "ab")]
    log = replica(0, [A], [A], [B])
    assert judged(ExactlyOnce(), evidence([log], calls)).ok
    calls[1].outcome = "aab"
    found = judged(ExactlyOnce(), evidence([log], calls))
    assert not found.ok
    assert "'ab'" in found.detail


@pytest.mark.parametrize(("index", "ok"), [(0, True), (2, False)])
def test_a_read_without_a_place_in_the_log_is_not_held_against_it(index: int, ok: bool) -> None:
    """It was answered at once, and ordered later all the same, when it gave something else."""
    read = Call("b", "b", "get", ("x",), 30, timestamp=1, returned=35, index=index)
    check = ExactlyOnce().judge(evidence([replica(0, [A], [B])], [put("a", 1), read]))
    assert check.ok is ok
    assert check.checked == (1 if ok else 2)


def test_an_acknowledged_write_that_a_replica_lacks_is_lost() -> None:
    found = judged(Durability(), evidence([replica(0, [A], [B]), replica(1, [A], [])], [put("a", 1), put("b", 2)]))
    assert not found.ok
    assert "node 1 has lost b#1" in found.detail


def test_a_replica_that_is_late_has_lost_nothing_but_is_not_live() -> None:
    late = evidence([replica(0, [A], [B]), replica(1, [A])], [put("a", 1), put("b", 2)], [PROBE])
    assert judged(Durability(), late).ok
    found = judged(Liveness(), late)
    assert not found.ok
    assert "node 1 at index 1" in found.detail


def test_what_is_decided_after_all_have_met_need_not_reach_all() -> None:
    """A live replica that is ended a moment before the others has missed nothing that anybody waited for."""
    late = evidence([replica(0, [A], [B]), replica(1, [A])], [put("a", 1)], [PROBE])
    assert judged(Liveness(), replace(late, met=1)).ok
    found = judged(Liveness(), replace(late, met=2))
    assert "not caught up with index 2: node 1 at index 1" in found.detail


def test_a_state_that_was_fetched_counts_by_its_digest() -> None:
    whole = replica(0, [A], [B], [C], digests=[(2, "s")])
    calls = [put("a", 1), put("b", 2), put("c", 3)]
    assert judged(Durability(), evidence([whole, replica(1, [C], digests=[(2, "s")], first=3)], calls)).ok
    assert not judged(Durability(), evidence([whole, replica(1, [C], digests=[(2, "t")], first=3)], calls)).ok


def started(own: Decisions, index: int = 0, digest: str = "") -> Decisions:
    own.take({"t": 90, "node": own.node, "world": {"kind": "start", "index": index, "digest": digest}})
    return own


def again(own: Decisions, *log: Sequence[Entry], first: int = 1) -> Decisions:
    own.decided += [Decided(100 + index, index, tuple(entries)) for index, entries in enumerate(log, first)]
    return own


WRITES = [put("a", 1), put("b", 2), put("c", 3)]


def test_a_replica_that_lost_its_state_and_stayed_behind_has_not_caught_up() -> None:
    for own in (replica(1, [A], [B], [C]), started(replica(1, [A], [B], [C]))):
        found = judged(Liveness(), evidence([replica(0, [A], [B], [C]), again(own, [A])], WRITES, [PROBE]))
        assert not found.ok
        assert "node 1 at index 1" in found.detail


def test_a_replica_that_started_with_nothing_and_applied_nothing_has_not_caught_up() -> None:
    empty = started(replica(1, [A], [B], [C], digests=[(3, "s")]))
    found = judged(Liveness(), evidence([replica(0, [A], [B], [C]), empty], WRITES, [PROBE]))
    assert "node 1 at index 0" in found.detail


def test_what_a_former_life_applied_and_the_present_one_passed_over_is_lost() -> None:
    whole = replica(0, [A], [B], [C])
    lost = again(started(replica(1, [A], [B], [C])), [A], [], [C])
    assert "node 1 has lost b#1" in judged(Durability(), evidence([whole, lost], WRITES)).detail
    untold = again(replica(1, [A], [B], [C]), [A], [], [C])
    assert "node 1 has lost b#1" in judged(Durability(), evidence([whole, untold], WRITES)).detail
    kept = again(started(replica(1, [A], [B], [C])), [A], [B], [C])
    assert judged(Durability(), evidence([whole, kept], WRITES)).ok


def test_a_life_begins_with_the_state_on_its_disk() -> None:
    own = again(started(replica(0, [A], [B], digests=[(2, "s")]), 2, "s"), [C], first=3)
    found = evidence([own], WRITES, [PROBE])
    assert judged(Durability(), found).ok
    assert judged(Liveness(), found).ok
    assert own.height == 3
    assert started(replica(0, [A], [B], [C], digests=[(2, "s")]), 2, "s").height == 2


@pytest.mark.parametrize("protocol", ["pbft", "raft"])
def test_a_restart_in_a_run_begins_a_life(protocol: str) -> None:
    trial = Trial(find("leader-crash"), protocols.find(protocol), 1)
    trial.run()
    ((_, struck),) = trial.struck.items()
    found = collect(trial.recorder.lines, range(trial.cluster.n))
    assert {node for node, own in found.items() if len(own.lives) > 2} == set(struck)
    assert len({own.height for own in found.values()}) == 1


def test_a_probe_without_an_answer_is_a_stall() -> None:
    found = judged(Liveness(), evidence([replica(0, [A])], [put("a", 1)], [replace(put("b", None), invoke=2000)]))
    assert not found.ok
    assert "no answer to b#1" in found.detail


def test_a_probe_from_before_the_end_of_the_faults_is_none() -> None:
    assert not judged(Liveness(), evidence([replica(0, [A])], [put("a", 1)], [put("b", 2)])).ok


def test_no_probe_at_all_is_a_stall() -> None:
    assert not judged(Liveness(), evidence([replica(0, [A])], [put("a", 1)])).ok
