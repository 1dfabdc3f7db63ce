"""Reads that are not ordered. [Raft 8; Ongaro14 6.4] (HAZARDS R24, R25)"""

from __future__ import annotations

from typing import Any

import pytest

from raft import RaftCore
from raft.configuration import Configuration
from raft.election import Role
from raft.messages import AppendEntries, AppendReply, Entry, ReadIndex, ReadIndexReply, VoteReply
from replog.apps.counter import Counter
from replog.core import Query, Send
from replog.statemachine import decode_outcome
from replog.types import NOBODY, READ_ONLY, Answer, Read, Request, decode_results
from tests.plug import DOMAIN
from tests.raft.changing import begun as changing
from tests.raft.harness import MS, SECOND, SIGNER, Cluster, Packet

LEASES = {"lease_reads": True}


def read_of(client: str, timestamp: int, flags: int = READ_ONLY) -> Request:
    return Request.make(SIGNER.sign, DOMAIN, client, timestamp, 0, [Counter.operation("value")], flags)


def ask(cluster: Cluster, to: int, timestamp: int, client: str = "bob", stale: bool = False) -> list[Any]:
    return cluster.inject(client, to, Read(read_of(client, timestamp).raw, stale))


def answers(cluster: Cluster, timestamp: int, client: str = "bob") -> list[Answer]:
    return [Answer(reply.answer) for reply in cluster.replies.get((client, timestamp), [])]


def values(cluster: Cluster, timestamp: int, client: str = "bob") -> list[int]:
    """What was read."""
    replies = cluster.replies.get((client, timestamp), [])
    results = [decode_results(reply.results) for reply in replies if reply.answer == Answer.READ]
    assert all(result.index == 0 for result in results), "a read has no place in the log"
    return [decode_outcome(result.outcomes[0]) for result in results]


def begun(options: dict[str, Any] | None = None, core: type[RaftCore] = RaftCore, n: int = 3) -> Cluster:
    """0 leads, and ann has added 5."""
    cluster = Cluster(n, options, core)
    cluster.elect(0)
    cluster.submit(0, "ann", 1, amount=5)
    cluster.settle()
    cluster.run(60 * MS)
    return cluster


# ---------------------------------------------------------------------------------------------------------- ReadIndex


def test_6_4_a_leader_reads_after_a_round_and_orders_nothing() -> None:
    cluster = begun()
    last = cluster.core(0).log.last_index
    effects = ask(cluster, 0, 1)
    assert not [effect for effect in effects if isinstance(effect, Query)]
    assert [send.message.entries for send in cluster.sent_kinds(AppendEntries)[-1:]] == [[]], "a round begins at once"
    cluster.deliver_to(1)
    assert values(cluster, 1) == []
    cluster.deliver_to(0)
    assert values(cluster, 1) == [5], "one other makes a majority"
    assert cluster.core(0).log.last_index == last


def test_8_an_answer_to_an_older_term_confirms_no_round_of_this_one(core: type[RaftCore]) -> None:
    """1 refuses a late heartbeat of 0's first term, being in term 2 itself. When it arrives 0 leads term 2, in which
    rounds are counted anew, and does not know yet of the leader of term 3 (HAZARDS R12, R24)."""
    cluster = begun(core=core)
    cluster.run(2 * SECOND)
    cluster.fire(0, "heartbeat")
    question = next(packet for packet in cluster.network if packet.to == 1)
    cluster.network.clear()
    cluster.now += SECOND
    cluster.fire(0, "heartbeat")
    assert cluster.core(0).role is Role.FOLLOWER, "it has heard nobody"
    cluster.isolate(0)
    cluster.fire(1)
    while cluster.core(1).role is not Role.CANDIDATE:
        cluster.deliver()
    cluster.heal()
    cluster.network.clear()
    cluster.receive(question)
    (late,) = cluster.network
    cluster.network.clear()
    assert cluster.decode(late) == AppendReply(2, False, 2, 0, 0, 0, cluster.decode(question).round)
    cluster.isolate(1)
    cluster.elect(0)
    cluster.isolate(0)
    cluster.now += 450 * MS
    cluster.fire(2)
    cluster.settle()
    cluster.submit(2, "ann", 2)
    cluster.settle()
    assert cluster.done("ann", 2)
    ask(cluster, 0, 1)
    cluster.receive(late)
    assert cluster.core(0).role is Role.LEADER
    assert values(cluster, 1) == [], "5 would be older than what ann was told"
    assert not [note for _, note in cluster.notes if note.kind == "lost-entries"]


@pytest.mark.parametrize("node", [1, 2])
def test_6_4_a_follower_reads_with_the_leaders_index(node: int) -> None:
    cluster = begun()
    ask(cluster, node, 1)
    assert [type(send.message) for send in cluster.sent[-1:]] == [ReadIndex]
    cluster.settle()
    assert values(cluster, 1) == [5]
    assert {reply.leader for reply in cluster.replies["bob", 1]} == {0}


def test_6_4_a_follower_waits_until_it_has_applied_so_much() -> None:
    cluster = begun()
    cluster.blocked = lambda packet: packet.to == 2 and _bears(cluster, packet)
    cluster.submit(0, "ann", 2)
    cluster.settle()
    assert cluster.done("ann", 2)
    ask(cluster, 2, 1)
    cluster.settle()
    assert values(cluster, 1) == [], "5 would be older than what ann was told"
    cluster.heal()
    cluster.run(200 * MS)
    assert values(cluster, 1) == [6]


def _bears(cluster: Cluster, packet: Packet) -> bool:
    message = cluster.decode(packet)
    return isinstance(message, AppendEntries) and bool(message.entries)


def test_8_a_leader_reads_nothing_before_an_entry_of_its_term_is_committed(core: type[RaftCore]) -> None:
    """It has every committed entry and does not know which they are: 1 leads, and has not heard that 6 is committed
    (HAZARDS R24)."""
    cluster = begun(core=core)
    cluster.submit(0, "ann", 2)
    cluster.deliver_to(1)
    cluster.deliver_to(0)
    assert cluster.done("ann", 2), "ann was told"
    cluster.crash(0)
    cluster.network.clear()
    cluster.elect_silently(1)
    cluster.drop(2)
    ask(cluster, 1, 1)
    cluster.submit(1, "eve", 1, amount=0)
    cluster.blocked = lambda packet: packet.sender == 1 and _bears(cluster, packet)
    cluster.fire(1, "heartbeat")
    cluster.settle()
    assert cluster.core(1).commit_index == 2
    assert values(cluster, 1) == [], "5 would be older than what ann was told"
    cluster.heal()
    cluster.run(200 * MS)
    assert values(cluster, 1) == [6]


def deposed(cluster: Cluster) -> None:
    """1 leads by 2 and adds 1; 0 is cut off and still believes that it leads."""
    cluster.isolate(0)
    cluster.now += 200 * MS
    cluster.servers[0].timers["heartbeat"] = cluster.now + SECOND
    cluster.now += cluster.options.election_timeout_max_us
    cluster.servers[1].timers["election"] = cluster.now
    cluster.fire(1)
    cluster.settle()
    assert [cluster.core(node).role for node in (0, 1)] == [Role.LEADER, Role.LEADER]
    cluster.submit(1, "ann", 2)
    cluster.settle()
    assert cluster.done("ann", 2)


@pytest.mark.parametrize("options", [{}, LEASES])
def test_8_a_deposed_leader_reads_nothing(options: dict[str, Any], core: type[RaftCore]) -> None:
    """(HAZARDS R24) Nor by its lease, which has run out."""
    cluster = begun(options, core)
    deposed(cluster)
    ask(cluster, 0, 1)
    cluster.settle()
    assert values(cluster, 1) == [], "5 would be older than what ann was told"
    cluster.heal()
    cluster.run(2 * SECOND)
    assert values(cluster, 1) == [6], "it follows now, and asks the new leader"


def test_8_answers_to_a_round_before_the_read_do_not_count(core: type[RaftCore]) -> None:
    """The answer to an earlier heartbeat is on its way, and its follower votes for another meanwhile."""
    cluster = begun(core=core)
    cluster.fire(0, "heartbeat")
    cluster.deliver_to(1, 2)
    late = [packet for packet in cluster.network if packet.to == 0]
    cluster.network.clear()
    deposed(cluster)
    ask(cluster, 0, 1)
    for packet in late:
        cluster.receive(packet)
    assert values(cluster, 1) == []


def test_reads_that_come_together_share_a_round() -> None:
    cluster = begun()
    before = len(cluster.sent_kinds(AppendEntries))
    for timestamp in range(1, 11):
        ask(cluster, 0, timestamp)
    assert len(cluster.sent_kinds(AppendEntries)) == before + 1, "the first began one, the others wait for the next"
    cluster.settle()
    assert [values(cluster, timestamp) for timestamp in range(1, 11)] == [[5]] * 10
    assert len(cluster.sent_kinds(AppendEntries)) == before + 2


def test_the_next_round_begins_as_soon_as_the_last_is_decided() -> None:
    """Whoever waits for it waits for no heartbeat, with one follower left as well."""
    cluster = begun()
    cluster.crash(2)
    for timestamp in (1, 2, 3):
        ask(cluster, 0, timestamp)
        ask(cluster, 1, timestamp, client="eve")
    cluster.settle()
    assert [values(cluster, timestamp, client) for client in ("bob", "eve") for timestamp in (1, 2, 3)] == [[5]] * 6


def test_reads_of_a_follower_share_a_question() -> None:
    cluster = begun()
    for timestamp in range(1, 11):
        ask(cluster, 1, timestamp)
    cluster.settle()
    assert [values(cluster, timestamp) for timestamp in range(1, 11)] == [[5]] * 10
    assert len(cluster.sent_kinds(ReadIndex)) == 2


def test_a_lost_question_or_answer_is_asked_for_again() -> None:
    for kind in (ReadIndex, ReadIndexReply):
        cluster = begun()
        cluster.blocked = lambda packet, kind=kind, cluster=cluster: type(cluster.decode(packet)) is kind
        ask(cluster, 1, 1)
        cluster.run(200 * MS)
        assert values(cluster, 1) == []
        cluster.heal()
        cluster.run(200 * MS)
        assert values(cluster, 1) == [5]


def test_an_answer_to_an_older_question_is_none(core: type[RaftCore]) -> None:
    """Neither a late one, nor one to the life before a restart (HAZARDS R24)."""
    cluster = Cluster(3, core=core, seed=1)
    cluster.by_hand = False
    cluster.elect(0)
    cluster.blocked = lambda packet: packet.to == 1 and type(cluster.decode(packet)) is ReadIndexReply
    ask(cluster, 1, 1)
    cluster.settle()
    old = [send.message for send in cluster.sent_kinds(ReadIndexReply)]
    assert len(old) == 1
    cluster.restart(1)
    cluster.fire(0, "heartbeat")
    cluster.settle()
    cluster.blocked = lambda packet: packet.to == 1
    cluster.submit(0, "ann", 1, amount=5)
    cluster.settle()
    assert cluster.done("ann", 1)
    ask(cluster, 1, 2)
    cluster.inject(0, 1, old[0])
    assert values(cluster, 2) == [], "0 would be older than what ann was told"
    cluster.heal()
    cluster.run(200 * MS)
    assert values(cluster, 2) == [5]


def test_reads_under_way_are_put_to_the_next_leader_or_sent_away() -> None:
    cluster = begun()
    cluster.crash(0)
    ask(cluster, 1, 1)
    ask(cluster, 2, 2)
    assert cluster.run(3 * SECOND, until=lambda: bool(answers(cluster, 1) and answers(cluster, 2)))
    assert {*answers(cluster, 1), *answers(cluster, 2)} <= {Answer.REDIRECT, Answer.READ}
    assert not cluster.core(1).reads.busy
    assert not cluster.core(2).reads.busy


def test_without_a_leader_a_read_is_sent_away_and_a_stale_one_is_not() -> None:
    cluster = Cluster(3)
    ask(cluster, 1, 1)
    assert [(reply.answer, reply.leader) for reply in cluster.replies["bob", 1]] == [(Answer.REDIRECT, NOBODY)]
    ask(cluster, 1, 2, stale=True)
    assert values(cluster, 2) == [0]


def test_a_stale_read_is_of_the_state_at_hand() -> None:
    """By explicit choice, and nobody is asked."""
    cluster = begun()
    cluster.isolate(2)
    cluster.submit(0, "ann", 2)
    cluster.settle()
    sent = len(cluster.sent)
    ask(cluster, 2, 1, stale=True)
    assert values(cluster, 1) == [5]
    assert len(cluster.sent) == sent


def test_what_waits_is_bounded() -> None:
    size = read_of("bob", 1).size
    for options in ({"pending_requests_max": 3}, {"pending_bytes_max": 3 * size, "request_bytes_max": size}):
        cluster = begun(options)
        cluster.isolate(0)
        for timestamp in range(1, 20):
            ask(cluster, 0, timestamp)
        full = [timestamp for timestamp in range(1, 20) if answers(cluster, timestamp) == [Answer.OVERLOADED]]
        assert full == list(range(4, 20))
        cluster.heal()
        cluster.run(200 * MS)
        assert all(values(cluster, timestamp) == [5] for timestamp in range(1, 20) if timestamp not in full)


def test_many_reads_are_served_a_few_at_a_time() -> None:
    """A server is never kept from its heartbeats for longer than a batch takes."""
    cluster = begun({"batch_requests_max": 4})
    cluster.blocked = lambda packet: True
    for timestamp in range(1, 12):
        ask(cluster, 0, timestamp)
    cluster.heal()
    cluster.fire(0, "heartbeat")
    cluster.settle()
    served = [sum(map(len, (values(cluster, timestamp) for timestamp in range(1, 12))))]
    while "read-on" in cluster.servers[0].timers:
        cluster.fire(0, "read-on")
        served.append(sum(map(len, (values(cluster, timestamp) for timestamp in range(1, 12)))))
    assert served == [1 + 4, 1 + 8, 1 + 10], "the first had a question of its own"


def test_what_is_no_read_is_refused() -> None:
    cluster = begun()
    cluster.inject("bob", 0, Read(read_of("bob", 1, flags=0).raw))
    cluster.inject("eve", 0, Read(read_of("bob", 1).raw))
    cluster.inject(1, 0, Read(read_of("bob", 1).raw))
    cluster.inject("bob", 0, Read(b"\x00"))
    assert len(cluster.rules(0)) == 4
    assert not cluster.replies.get(("bob", 1))
    cluster = begun({"request_bytes_max": 200})
    raw = Request.make(SIGNER.sign, DOMAIN, "bob", 1, 0, [bytes(300)], READ_ONLY).raw
    cluster.inject("bob", 0, Read(raw))
    assert answers(cluster, 1) == [Answer.REFUSED]


def test_a_single_server_reads_at_once() -> None:
    cluster = Cluster(1)
    cluster.submit(0, "ann", 1, amount=5)
    ask(cluster, 0, 1)
    assert values(cluster, 1) == [5]


def test_what_was_read_leaves_only_behind_the_disk() -> None:
    """The state may hold what the leader counted itself for, and its disk does not have yet (HAZARDS R2)."""
    cluster = begun()
    cluster.by_hand = True
    cluster.submit(0, "ann", 2)
    cluster.by_hand = False
    cluster.deliver_to(1, 2)
    cluster.by_hand = True
    cluster.deliver_to(0)
    assert cluster.core(0).last_applied == 3
    ask(cluster, 0, 1)
    cluster.network.clear()
    assert values(cluster, 1) == []
    cluster.sync(0)
    cluster.by_hand = False
    cluster.run(200 * MS)
    assert values(cluster, 1) == [6]


def test_a_question_of_a_stranger_or_an_old_term_is_not_answered() -> None:
    cluster = begun()
    assert cluster.inject(1, 2, ReadIndex(1, 7)) == [], "2 does not lead"
    assert not [effect for effect in cluster.inject(9, 0, ReadIndex(1, 7)) if isinstance(effect, Send)]
    cluster.inject(1, 0, ReadIndex(3, 7))
    assert cluster.core(0).current_term == 3
    cluster.inject(1, 2, ReadIndexReply(4, 7, 9))
    assert cluster.core(2).current_term == 4


# -------------------------------------------------------------------------------------------------------------- leases


def test_6_4_1_a_leader_with_a_lease_reads_at_once() -> None:
    cluster = begun(LEASES)
    sent = len(cluster.sent)
    ask(cluster, 0, 1)
    assert values(cluster, 1) == [5]
    assert len(cluster.sent) == sent
    ask(cluster, 1, 2)
    cluster.deliver()
    cluster.deliver()
    assert values(cluster, 2) == [5], "and tells followers at once"


def test_6_4_1_a_lease_runs_from_when_the_round_began() -> None:
    """270 ms of 300, as clocks may drift by a tenth."""
    cluster = begun(LEASES)
    cluster.settle()
    cluster.servers[0].timers["heartbeat"] = cluster.now + SECOND
    began = cluster.now - 10 * MS
    cluster.blocked = lambda packet: True
    cluster.now = began + 269 * MS
    ask(cluster, 0, 1)
    assert values(cluster, 1) == [5]
    cluster.now = began + 270 * MS
    ask(cluster, 0, 2)
    assert values(cluster, 2) == []


def test_6_4_1_a_server_that_heard_a_leader_before_its_restart_gives_no_vote_yet(core: type[RaftCore]) -> None:
    """It does not know whom it bound itself to (HAZARDS R25)."""
    cluster = begun(LEASES, core)
    cluster.isolate(0)
    cluster.restart(1)
    cluster.servers[2].timers["election"] = cluster.now + 250 * MS
    cluster.core(2).election._timeout_us = 1
    cluster.core(2).election._loyal_until = 0
    cluster.fire(2)
    cluster.settle()
    cluster.submit(2, "ann", 2)
    cluster.settle()
    assert not cluster.done("ann", 2), "1 may not help to elect it while 0 has its lease"


def test_6_4_1_a_vote_for_the_own_term_waits_for_the_end_of_loyalty_too(core: type[RaftCore]) -> None:
    """1 once asked 2 for a vote, and that came late: so 2 tells 1 of the term in which 2 stands by now, while 1 hears
    leader 0. Asked again, for what is 1's own term now, 1 still gives no vote."""
    cluster = Cluster(3, {**LEASES, "pre_vote": False}, core)
    cluster.now += SECOND
    cluster.fire(1)
    late = [packet for packet in cluster.network if packet.to == 2]
    cluster.network.clear()
    cluster.elect(0)
    cluster.submit(0, "ann", 1, amount=5)
    cluster.settle()
    cluster.isolate(2)
    cluster.now += 290 * MS
    cluster.fire(0, "heartbeat")
    cluster.settle()
    cluster.now += 30 * MS
    cluster.isolate(0)
    cluster.core(2).election._timeout_us = 300 * MS
    cluster.fire(2)
    cluster.settle()
    for packet in late:
        cluster.receive(packet)
    cluster.settle()
    assert {cluster.core(node).current_term for node in (1, 2)} == {2}, "1 was told"
    cluster.fire(2, "vote-retry")
    cluster.settle()
    cluster.submit(2, "ann", 2)
    cluster.settle()
    ask(cluster, 0, 1)
    assert values(cluster, 1) == [5], "0 has its lease"
    assert not cluster.done("ann", 2), "1 may not help to elect 2 while 0 has its lease"
    cluster.run(SECOND, until=lambda: cluster.core(2).role is Role.LEADER)
    assert cluster.core(2).role is Role.LEADER, "it is asked again until it may"


def test_6_4_1_the_only_voter_waits_after_its_restart_too(core: type[RaftCore]) -> None:
    """Leader 0 is to leave, C_new = {2} is not committed yet, and 2 has confirmed 0's lease: 2 restarts."""
    cluster = changing(3, LEASES, core)
    cluster.submit(0, "ann", 1, amount=5)
    cluster.beat(100 * MS)
    cluster.change(0, remove=[0, 1])
    while cluster.configuration(2) != Configuration([2]):
        cluster.deliver()
    assert cluster.core(0).role is Role.LEADER
    cluster.isolate(0)
    cluster.network.clear()
    cluster.restart(2)
    cluster.submit(2, "ann", 2)
    cluster.settle()
    ask(cluster, 0, 1)
    assert values(cluster, 1) == [5], "0 has its lease"
    assert not cluster.done("ann", 2), "2 may not lead while 0 has its lease"
    cluster.run(SECOND)
    assert cluster.core(2).role is Role.LEADER


@pytest.mark.parametrize("drift", [0, 100_000])
def test_6_4_1_no_lease_outlasts_loyalty(drift: int, core: type[RaftCore]) -> None:
    """At every moment at which another leader is elected and commits, the old one's lease is over: by its own clock,
    which goes slower than the others' by as much as it may."""
    cluster = begun({**LEASES, "clock_drift_ppm": drift}, core)
    cluster.fire(0, "heartbeat")
    cluster.settle()
    began = cluster.now
    cluster.isolate(0)
    cluster.servers[0].timers["heartbeat"] = cluster.now + SECOND
    cluster.core(1).election._timeout_us = cluster.options.election_timeout_min_us
    cluster.core(1).election._quiet_since = began
    cluster.now = began + 300 * MS
    cluster.servers[1].timers["election"] = cluster.now
    cluster.fire(1)
    cluster.settle()
    assert cluster.core(1).role is Role.LEADER, "as early as can be"
    cluster.submit(1, "ann", 2)
    cluster.settle()
    assert cluster.done("ann", 2)
    cluster.now = began + 300 * MS * (1_000_000 - drift) // 1_000_000
    ask(cluster, 0, 1)
    assert values(cluster, 1) == [], "5 would be older than what ann was told"


def test_6_4_1_a_lease_is_one_of_the_present_configuration() -> None:
    """A majority of other servers has not been heard, however lately that of the old ones was."""
    cluster = begun(LEASES)
    core = cluster.core(0)
    assert core.replication.has_lease(cluster.now)
    core.log.append(Entry(1, 0, [], Configuration([0, 3, 4])))
    assert not core.replication.has_lease(cluster.now)


def test_r25_a_clock_that_stands_still_breaks_leases_and_nothing_else() -> None:
    """The assumption, and what becomes of it: the leader's machine stands still for a second, its clock with it. When
    it goes on it believes in its lease and reads what is old. Where each read asks a quorum nothing happens."""
    for options, read in ((LEASES, [5]), ({}, [])):
        cluster = begun(options)
        cluster.fire(0, "heartbeat")
        cluster.settle()
        stopped = cluster.now
        deposed(cluster)
        cluster.now = stopped
        ask(cluster, 0, 1)
        cluster.settle()
        assert values(cluster, 1) == read


def test_6_4_1_a_later_term_told_to_a_follower_ends_no_lease() -> None:
    """Followers stay loyal for the least time-out, whatever else they are told."""
    cluster = begun(LEASES)
    cluster.isolate(0)
    for node in (1, 2):
        cluster.inject(3 - node, node, VoteReply(9, False))
    cluster.core(1).election._timeout_us = 1
    cluster.servers[1].timers["election"] = cluster.now + 1
    cluster.fire(1)
    cluster.settle()
    assert cluster.core(1).role is not Role.LEADER
