"""The rules of figure 2, one test each, named by their place in it.

A test that takes `core` is run on deliberately broken cores too (test_mutants.py), and must fail there.
"""

from __future__ import annotations

import pytest

from raft import RaftCore
from raft.election import Role
from raft.messages import RECORDS, AppendEntries, AppendReply, Entry, HardState, RequestVote, VoteReply
from replog.core import Apply, Persist, Reply, Send, SetTimer, Timeout
from tests.raft.harness import EPOCH_US, MS, SECOND, Cluster, request

PLAIN = {"pre_vote": False, "leader_stickiness": False, "check_quorum": False}
"""The paper's figure without what the thesis adds."""


def entry(term: int, index: int = 0) -> Entry:
    return Entry(term, EPOCH_US + index, [])


def append(
    term: int, prev: tuple[int, int], entries: list[Entry], commit: int = 0, leader: int = 1, round_: int = 0
) -> AppendEntries:
    return AppendEntries(term, leader, prev[0], prev[1], entries, commit, round_)


def reply_of(effects: list[object], kind: type) -> object:
    sent = [effect.message for effect in effects if isinstance(effect, Send)]
    return next(message for message in sent if type(message) is kind)


def appended(cluster: Cluster, message: AppendEntries, to: int = 0) -> AppendReply:
    """`to` is sent the message, and what it says to it."""
    answer = reply_of(cluster.inject(message.leader_id, to, message), AppendReply)
    assert isinstance(answer, AppendReply)
    return answer


def voted(cluster: Cluster, message: RequestVote, to: int = 0) -> VoteReply:
    answer = reply_of(cluster.inject(message.candidate_id, to, message), VoteReply)
    assert isinstance(answer, VoteReply)
    return answer


# --------------------------------------------------------------------------------------------------- persistent state


def test_state_term_and_vote_are_on_disk_before_a_vote_leaves(core: type[RaftCore]) -> None:
    cluster = Cluster(3, core=core)
    cluster.inject(1, 0, RequestVote(5, 1, 0, 0))
    cluster.restart(0)
    assert (cluster.core(0).current_term, cluster.core(0).voted_for) == (5, 1)
    assert not voted(cluster, RequestVote(5, 2, 9, 4)).vote_granted


def test_state_the_record_is_listed_before_the_vote() -> None:
    cluster = Cluster(3)
    effects = cluster.inject(1, 0, RequestVote(5, 1, 0, 0))
    kinds = [type(effect) for effect in effects if isinstance(effect, (Persist, Send))]
    assert kinds == [Persist, Send]


def test_state_term_is_on_disk_before_a_candidate_asks() -> None:
    cluster = Cluster(3, PLAIN)
    cluster.fire(0)
    assert [RECORDS.decode(raw) for _, raw in cluster.disks[0].records] == [HardState(1, 0)]


def test_state_entries_are_on_disk_before_the_acknowledgement(core: type[RaftCore]) -> None:
    cluster = Cluster(3, core=core)
    effects = cluster.inject(1, 0, append(1, (0, 0), [entry(1, 1)]))
    kinds = [type(effect) for effect in effects if isinstance(effect, (Persist, Send))]
    assert kinds == [Persist, Persist, Send], "term, entries, reply"


def test_state_a_new_term_is_on_disk_before_it_is_said() -> None:
    cluster = Cluster(3)
    cluster.inject(1, 0, append(7, (4, 4), []))
    cluster.restart(0)
    assert cluster.core(0).current_term == 7


# -------------------------------------------------------------------------------------------------------- RequestVote


def test_request_vote_1_false_if_the_term_is_old() -> None:
    cluster = Cluster(3, logs={0: [3]})
    assert voted(cluster, RequestVote(2, 1, 9, 2)) == VoteReply(3, False)


def test_request_vote_2_one_vote_a_term(core: type[RaftCore]) -> None:
    cluster = Cluster(3, core=core)
    assert voted(cluster, RequestVote(1, 1, 0, 0)).vote_granted
    assert not voted(cluster, RequestVote(1, 2, 0, 0)).vote_granted
    assert voted(cluster, RequestVote(1, 1, 0, 0)).vote_granted, "the same candidate may ask again"
    assert voted(cluster, RequestVote(2, 2, 0, 0)).vote_granted, "a new term, a new vote"


@pytest.mark.parametrize(
    ("last", "granted"),
    [((3, 2), True), ((2, 3), True), ((4, 2), True), ((2, 2), False), ((9, 1), False), ((0, 0), False)],
)
def test_request_vote_2_only_for_a_log_as_up_to_date(
    last: tuple[int, int], granted: bool, core: type[RaftCore]
) -> None:
    """[Raft 5.4.1] The later last term wins; with the same, the longer log."""
    cluster = Cluster(3, core=core, logs={0: [1, 2, 2]})
    assert voted(cluster, RequestVote(4, 1, *last)).vote_granted is granted


# ------------------------------------------------------------------------------------------------------ AppendEntries


def test_append_entries_1_false_if_the_term_is_old() -> None:
    cluster = Cluster(3, logs={0: [3]})
    answer = appended(cluster, append(2, (0, 0), [entry(2, 1)]))
    assert (answer.term, answer.success) == (3, False)
    assert cluster.terms_of(0) == [3]


def test_append_entries_2_false_without_the_entry_before() -> None:
    cluster = Cluster(3, logs={0: [1, 1]})
    answer = appended(cluster, append(2, (3, 1), [entry(2, 4)]))
    assert not answer.success
    assert (answer.conflict_term, answer.conflict_index) == (0, 3), "the first that is missing"
    assert cluster.terms_of(0) == [1, 1]


def test_append_entries_2_false_if_the_entry_before_is_of_another_term() -> None:
    cluster = Cluster(3, logs={0: [1, 2, 2, 2]})
    answer = appended(cluster, append(5, (4, 4), [entry(5, 5)]))
    assert not answer.success
    assert (answer.conflict_term, answer.conflict_index) == (2, 2), "the term in the way and its first index"


def test_append_entries_3_a_conflict_deletes_it_and_all_that_follow() -> None:
    cluster = Cluster(3, logs={0: [1, 2, 2, 2]})
    answer = appended(cluster, append(3, (1, 1), [entry(3, 2)]))
    assert answer.success
    assert answer.match_index == 2
    assert cluster.terms_of(0) == [1, 3]
    cluster.restart(0)
    assert cluster.terms_of(0) == [1, 3], "on disk too"


def test_append_entries_3_no_conflict_deletes_nothing(core: type[RaftCore]) -> None:
    """A late message must not cut what a later one has brought (HAZARDS R9)."""
    cluster = Cluster(3, core=core)
    cluster.inject(1, 0, append(1, (0, 0), [entry(1, 1), entry(1, 2), entry(1, 3)]))
    late = append(1, (0, 0), [entry(1, 1)])
    assert appended(cluster, late).match_index == 1
    assert cluster.terms_of(0) == [1, 1, 1]
    cluster.restart(0)
    assert cluster.terms_of(0) == [1, 1, 1]


def test_append_entries_4_only_what_is_not_there_is_appended() -> None:
    cluster = Cluster(3)
    cluster.inject(1, 0, append(1, (0, 0), [entry(1, 1), entry(1, 2)]))
    effects = cluster.inject(1, 0, append(1, (0, 0), [entry(1, 1), entry(1, 2), entry(1, 3)]))
    records = [effect.record.first for effect in effects if isinstance(effect, Persist)]
    assert records == [3]
    again = cluster.inject(1, 0, append(1, (0, 0), [entry(1, 1), entry(1, 2), entry(1, 3)]))
    assert not [effect for effect in again if isinstance(effect, Persist)], "a repetition writes nothing"


def test_append_entries_5_commit_is_the_least_of_both() -> None:
    cluster = Cluster(3)
    cluster.inject(1, 0, append(1, (0, 0), [entry(1, 1), entry(1, 2)], commit=1))
    assert cluster.core(0).commit_index == 1
    cluster.inject(1, 0, append(1, (2, 1), [], commit=9))
    assert cluster.core(0).commit_index == 2


def test_append_entries_5_only_what_this_message_verified(core: type[RaftCore]) -> None:
    """Entries of its own that no leader has confirmed are not committed by a high leader_commit (HAZARDS R10)."""
    cluster = Cluster(3, logs={0: [1, 1, 2, 2]}, core=core)
    cluster.inject(1, 0, append(3, (2, 1), [], commit=4))
    assert cluster.core(0).commit_index == 2
    effects = cluster.inject(1, 0, append(3, (2, 1), [entry(3, 3), entry(3, 4)], commit=4))
    assert cluster.core(0).commit_index == 4
    assert [effect.index for effect in effects if isinstance(effect, Apply)] == [3, 4]
    assert cluster.terms_of(0) == [1, 1, 3, 3]


def test_append_entries_commit_never_falls() -> None:
    cluster = Cluster(3)
    cluster.inject(1, 0, append(1, (0, 0), [entry(1, 1), entry(1, 2)], commit=2))
    cluster.inject(1, 0, append(1, (2, 1), [], commit=1))
    assert cluster.core(0).commit_index == 2


@pytest.mark.parametrize("message", [append(2, (1, 1), [entry(2, 2)], leader=2), append(2, (2, 2), [], leader=2)])
def test_a_committed_entry_is_never_cut(message: AppendEntries, core: type[RaftCore]) -> None:
    """No leader does this: it is refused loudly, and not acknowledged (HAZARDS R11)."""
    cluster = Cluster(3, core=core)
    cluster.inject(1, 0, append(1, (0, 0), [entry(1, 1), entry(1, 2)], commit=2))
    effects = cluster.inject(2, 0, message)
    assert cluster.terms_of(0) == [1, 1]
    assert "contradicts the committed entry 2" in cluster.rules(0)
    assert not [effect for effect in effects if isinstance(effect, Send)]


# -------------------------------------------------------------------------------------------------- rules: all servers


def test_all_servers_apply_what_is_committed_in_order() -> None:
    cluster = Cluster(3)
    effects = cluster.inject(1, 0, append(1, (0, 0), [entry(1, i) for i in (1, 2, 3)], commit=3))
    assert [effect.index for effect in effects if isinstance(effect, Apply)] == [1, 2, 3]
    assert cluster.core(0).last_applied == 3


def test_all_servers_nothing_is_applied_before_it_is_committed(core: type[RaftCore]) -> None:
    cluster = Cluster(3, core=core)
    effects = cluster.inject(1, 0, append(1, (0, 0), [entry(1, 1), entry(1, 2)], commit=1))
    assert [effect.index for effect in effects if isinstance(effect, Apply)] == [1]


@pytest.mark.parametrize("kind", ["AppendReply", "VoteReply", "RequestVote"])
def test_all_servers_a_higher_term_makes_a_follower(kind: str) -> None:
    cluster = Cluster(3, PLAIN)
    cluster.elect(0)
    message = {
        "AppendReply": AppendReply(9, False, 0, 0, 0, 0, 0),
        "VoteReply": VoteReply(9, False),
        "RequestVote": RequestVote(9, 1, 9, 8),
    }[kind]
    cluster.inject(1, 0, message)
    assert (cluster.core(0).role, cluster.core(0).current_term) == (Role.FOLLOWER, 9)
    assert "heartbeat" not in cluster.servers[0].timers
    assert "election" in cluster.servers[0].timers
    cluster.restart(0)
    assert cluster.core(0).current_term == 9


# ---------------------------------------------------------------------------------------------------- rules: followers


def test_followers_stand_after_a_time_out_without_a_heartbeat() -> None:
    cluster = Cluster(3, draws={0: [310]})
    cluster.isolate(0)
    cluster.run(309 * MS)
    assert cluster.core(0).role is Role.FOLLOWER
    cluster.run(2 * MS)
    assert cluster.core(0).role is Role.PRE_CANDIDATE


def test_followers_a_heartbeat_puts_the_time_out_off() -> None:
    """The time-out counts from the last heartbeat, to the microsecond, though the timer is not set at each."""
    cluster = Cluster(3, PLAIN, draws={0: [310]})
    cluster.now = 100 * MS
    cluster.inject(1, 0, append(1, (0, 0), []))
    cluster.now = 250 * MS
    cluster.inject(1, 0, append(1, (0, 0), []))
    drawn = 450 * MS
    cluster.isolate(0)
    cluster.run(drawn - 1)
    assert cluster.core(0).role is Role.FOLLOWER
    cluster.run(1)
    assert cluster.core(0).role is Role.CANDIDATE


def test_append_entries_3_what_was_read_of_entries_that_are_cut_is_forgotten(core: type[RaftCore]) -> None:
    cluster = Cluster(3, PLAIN, core)
    cluster.inject(1, 0, append(1, (0, 0), [entry(1, index) for index in (1, 2, 3)]))
    cluster.inject(1, 0, append(2, (1, 1), [entry(2)]))
    assert cluster.core(0).log.last_index == 2
    cluster.core(0).check_invariants()


def test_followers_a_granted_vote_puts_the_time_out_off_and_a_refused_one_does_not() -> None:
    for last, standing in (((5, 5), False), ((0, 0), True)):
        cluster = Cluster(3, PLAIN, logs={0: [1]}, draws={0: [310]})
        cluster.isolate(0)
        cluster.now = 300 * MS
        cluster.inject(1, 0, RequestVote(6, 1, *last))
        cluster.run(50 * MS)
        assert (cluster.core(0).role is Role.CANDIDATE) is standing


# --------------------------------------------------------------------------------------------------- rules: candidates


def test_candidates_raise_the_term_vote_for_themselves_and_ask_all() -> None:
    cluster = Cluster(5, PLAIN, logs={0: [1, 2]})
    effects = cluster.step(0, _timeout(cluster, 0))
    assert (cluster.core(0).current_term, cluster.core(0).voted_for) == (3, 0)
    asked = next(effect for effect in effects if isinstance(effect, Send))
    assert asked == Send((1, 2, 3, 4), RequestVote(3, 0, 2, 2))
    assert any(isinstance(effect, SetTimer) and effect.name == "election" for effect in effects)


def _timeout(cluster: Cluster, node: int) -> Timeout:
    cluster.now = cluster.servers[node].timers.pop("election")
    return Timeout("election")


@pytest.mark.parametrize(("n", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_candidates_win_with_a_majority(n: int, needed: int) -> None:
    cluster = Cluster(n, PLAIN)
    cluster.fire(0)
    for voter in range(1, needed):
        cluster.inject(voter, 0, VoteReply(1, True))
    assert cluster.core(0).role is Role.CANDIDATE
    cluster.inject(needed, 0, VoteReply(1, True))
    assert cluster.core(0).role is Role.LEADER


def test_candidates_count_each_voter_once(core: type[RaftCore]) -> None:
    """(HAZARDS R7)"""
    cluster = Cluster(5, PLAIN, core=core)
    cluster.fire(0)
    for _ in range(3):
        cluster.inject(1, 0, VoteReply(1, True))
    assert cluster.core(0).role is Role.CANDIDATE


def test_candidates_count_votes_of_their_term_only(core: type[RaftCore]) -> None:
    cluster = Cluster(3, PLAIN, core=core)
    cluster.fire(0)
    cluster.now += SECOND
    cluster.fire(0)
    assert cluster.core(0).current_term == 2
    cluster.inject(1, 0, VoteReply(1, True))
    assert cluster.core(0).role is Role.CANDIDATE


def test_candidates_follow_a_leader_of_their_term() -> None:
    cluster = Cluster(3, PLAIN)
    cluster.fire(0)
    cluster.inject(1, 0, append(1, (0, 0), []))
    assert (cluster.core(0).role, cluster.core(0).leader, cluster.core(0).voted_for) == (Role.FOLLOWER, 1, 0)


def test_candidates_ignore_a_leader_of_an_older_term() -> None:
    cluster = Cluster(3, PLAIN, logs={0: [4]})
    cluster.fire(0)
    assert not appended(cluster, append(4, (0, 0), [])).success
    assert cluster.core(0).role is Role.CANDIDATE


def test_candidates_begin_anew_after_a_time_out() -> None:
    cluster = Cluster(3, PLAIN)
    cluster.isolate(0)
    cluster.run(2 * SECOND)
    assert cluster.core(0).role is Role.CANDIDATE
    assert cluster.core(0).current_term == 4, "each 450 ms a term"


# ------------------------------------------------------------------------------------------------------ rules: leaders


def test_leaders_send_heartbeats_at_once_and_while_idle() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    before = len(cluster.sent_kinds(AppendEntries))
    assert before, "the first at once"
    cluster.run(500 * MS)
    assert len(cluster.sent_kinds(AppendEntries)) - before == 10
    assert {cluster.core(node).leader for node in range(3)} == {0}


def test_leaders_answer_after_the_entry_is_applied() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    effects = cluster.submit(0, "ann", 1)
    assert not [effect for effect in effects if isinstance(effect, (Apply, Reply))]
    cluster.settle()
    assert cluster.done("ann", 1)


def test_leaders_send_before_their_own_write_but_say_committed_only_behind_it(core: type[RaftCore]) -> None:
    """The leader counts itself as soon as its record is listed; the outbox holds back all that rests on it
    (HAZARDS R2, [Ongaro14 10.2.1])."""
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    cluster.by_hand = True
    cluster.submit(0, "ann", 1)
    assert len(cluster.network) == 2, "sent in parallel"
    cluster.by_hand = False
    cluster.deliver_to(1)
    cluster.by_hand = True
    cluster.deliver_to(0)
    assert cluster.core(0).commit_index == 2
    cluster.fire(0, "heartbeat")
    assert not cluster.done("ann", 1)
    assert not [packet for packet in cluster.network if packet[0] == 0 and packet[1] == 1], "no word of the commit"
    cluster.sync(0)
    assert cluster.done("ann", 1)


def test_leaders_stream_to_followers_without_waiting() -> None:
    cluster = Cluster(3, {"window": 3})
    cluster.elect(0)
    for timestamp in range(1, 7):
        cluster.submit(0, "ann", timestamp)
    under_way = [packet for packet in cluster.network if packet[1] == 1]
    assert len(under_way) == 3, "no more than the window"
    cluster.settle()
    assert cluster.core(1).log.last_index == cluster.core(0).log.last_index


def test_leaders_go_back_where_a_follower_lacks_entries() -> None:
    cluster = Cluster(3)
    cluster.elect(0)
    cluster.isolate(1)
    for timestamp in range(1, 6):
        cluster.submit(0, "ann", timestamp)
        cluster.settle()
    cluster.heal()
    cluster.run(100 * MS)
    assert cluster.terms_of(1) == cluster.terms_of(0)
    progress = cluster.core(0).replication.progress[1]
    assert progress.match_index == cluster.core(0).log.last_index


def test_leaders_commit_what_a_majority_has(core: type[RaftCore]) -> None:
    cluster = Cluster(5, core=core)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    for node in (1, 2):
        assert cluster.core(0).commit_index == 1
        cluster.deliver_to(node)
        cluster.deliver_to(0)
    assert cluster.core(0).commit_index == 2


def test_leaders_old_replies_move_nothing_back(core: type[RaftCore]) -> None:
    """(HAZARDS R12)"""
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.settle()
    progress = cluster.core(0).replication.progress[1]
    before = (progress.match_index, progress.next_index, progress.mode)
    cluster.inject(1, 0, AppendReply(1, True, 0, 1, 0, 0, 0))
    cluster.inject(1, 0, AppendReply(1, False, 1, 0, 0, 1, 0))
    assert (progress.match_index, progress.next_index, progress.mode) == before


def test_leaders_replies_of_an_older_term_count_for_nothing(core: type[RaftCore]) -> None:
    """A follower that had an entry in term 1 may have lost it to another leader since (HAZARDS R12)."""
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.settle()
    cluster.isolate(0)
    cluster.elect(1)
    cluster.heal()
    cluster.run(100 * MS)
    cluster.elect(0)
    cluster.drop(0, 1, 2)
    cluster.submit(0, "ann", 2)
    term, last = cluster.core(0).current_term, cluster.core(0).log.last_index
    assert term == 3
    cluster.inject(1, 0, AppendReply(1, True, last - 1, last, 0, 0, 0))
    assert cluster.core(0).commit_index < last


def test_leaders_begin_their_term_with_a_no_op(core: type[RaftCore]) -> None:
    """What an older term left behind becomes committed without waiting for a client. [Raft 8]"""
    cluster = Cluster(3, core=core)
    cluster.elect(0)
    cluster.submit(0, "ann", 1)
    cluster.deliver_to(1, 2)
    cluster.drop(0)
    cluster.crash(0)
    cluster.elect(1)
    cluster.run(100 * MS)
    assert cluster.core(1).commit_index == cluster.core(2).commit_index == 3
    assert cluster.terms_of(1) == [1, 1, 2]


def test_leaders_are_one_a_term() -> None:
    """Whoever claims the term of a known leader is refused. [Raft 5.2]"""
    cluster = Cluster(3)
    cluster.elect(0)
    term = cluster.core(0).current_term
    for node in (0, 1):
        effects = cluster.inject(2, node, append(term, (0, 0), [], leader=2))
        assert not [effect for effect in effects if isinstance(effect, Send)]
        assert cluster.rules(node) == [f"a second leader in term {term}"]


@pytest.mark.parametrize("n", [3, 5, 7])
def test_messages_of_one_operation_without_batching(n: int) -> None:
    """Entry-bearing AppendEntries and their replies: 2(n-1)."""
    cluster = Cluster(n)
    cluster.elect(0)
    for timestamp in range(1, 11):
        cluster.sent.clear()
        cluster.submit(0, "ann", timestamp)
        cluster.settle()
        assert cluster.done("ann", timestamp)
        appends = sum(len(send.to) for send in cluster.sent_kinds(AppendEntries) if send.message.entries)
        replies = sum(len(send.to) for send in cluster.sent_kinds(AppendReply))
        assert appends + replies == 2 * (n - 1)
        assert sum(len(send.to) for send in cluster.sent) == 2 * (n - 1), "and nothing else"


def test_one_message_is_encoded_once_for_all_that_need_the_same() -> None:
    cluster = Cluster(5)
    cluster.elect(0)
    cluster.sent.clear()
    cluster.submit(0, "ann", 1)
    assert [send.to for send in cluster.sent_kinds(AppendEntries)] == [(1, 2, 3, 4)]


def test_requests_that_wait_share_an_entry() -> None:
    cluster = Cluster(3, {"uncommitted_max": 1})
    cluster.elect(0)
    for timestamp in range(1, 21):
        cluster.submit(0, "ann", timestamp)
    cluster.settle()
    assert all(cluster.done("ann", timestamp) for timestamp in range(1, 21))
    assert cluster.core(0).log.last_index == 3, "no-op, the first request, all that came meanwhile"
    assert len(cluster.core(0).log.entry(3).requests) == 19
    assert request("ann", 2).raw == cluster.core(0).log.entry(3).requests[0], "the bytes that came"
