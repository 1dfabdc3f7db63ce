"""Whose turn it is (P36): nobody is passed by for ever, clients together have a bounded share, a flood is throttled."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from replog import turns as module
from replog.codec import messages_in, pack_frame
from replog.core import Throttled
from replog.live.inbox import Inbox
from replog.sim.inbox import BYTES, FairInbox
from replog.turns import BURST_US, EVERY, FLOOD, REST_US, THROTTLE_US, Shares, Shunned, Turns

SHARES = Shares(replica=8, clients=6, client=2, throttled=1)
PEERS = (1, 2, 3)
senders = st.one_of(st.sampled_from(PEERS), st.sampled_from([f"c{number}" for number in range(9)]))


def turns(throttles: bool = True) -> Turns:
    return Turns(PEERS, SHARES, throttles)


@given(st.dictionaries(senders, st.integers(1, 50)), st.integers(1, 6))
def test_everybody_is_served_and_clients_have_a_bounded_share(waiting: dict[Any, int], rounds: int) -> None:
    policy = turns()
    for sender, messages in waiting.items():
        policy.waits(sender, messages)
    clients = [sender for sender in waiting if isinstance(sender, str)]
    served: Counter[Any] = Counter()
    for _ in range(rounds):
        plan = policy.round(0)
        assert bool(plan) is bool(waiting)
        assert len(dict(plan)) == len(plan), "each once"
        assert {sender for sender, _ in plan if isinstance(sender, int)} == {s for s in waiting if isinstance(s, int)}
        assert [sender for sender, _ in plan] == sorted((s for s, _ in plan), key=lambda s: isinstance(s, int))
        assert sum(min(share, waiting[s]) for s, share in plan if isinstance(s, str)) <= SHARES.clients
        served.update(sender for sender, _ in plan)
        policy.check_invariants()
    turns_each = [served[client] for client in clients]
    assert not clients or max(turns_each) - min(turns_each) <= 1, "each as often as any other"


@given(st.lists(st.tuples(st.one_of(st.none(), senders), st.integers(1, 9)), max_size=60))
def test_the_fair_inbox_gives_all_that_was_put_in_and_each_sender_in_order(items: list[tuple[Any, int]]) -> None:
    inbox = FairInbox(turns(), lambda: 0)
    for number, (sender, size) in enumerate(items):
        inbox.append((sender, number if sender is None else [b"%d" % number] * size))
    taken = first_turn = list(inbox.turn())
    while len(inbox):
        taken = [*taken, *inbox.turn()]
    inbox.turns.check_invariants()
    for sender in {sender for sender, _ in items}:
        first = [number for number, (who, _) in enumerate(items) if who == sender]
        assert [load if sender is None else int(load[0]) for who, load in taken if who == sender] == first
    own = [sender for sender, _ in items].count(None)
    assert [sender for sender, _ in first_turn[len(first_turn) - own :]] == [None] * own, "its own waits for one round"


def flooded(policy: Turns, until: int, others: int = 0, messages: int = 10 * FLOOD) -> Counter[Any]:
    """Node 1 keeps far more waiting than the others; who was served how often."""
    served: Counter[Any] = Counter()
    for now in range(0, until, 10_000):
        policy.waits(1, messages)
        policy.waits("c0", 5)
        for node in (2, 3):
            policy.waits(node, others)
        served.update(dict(policy.round(now)))
    return served


def test_p36_a_flood_is_throttled_and_reported_and_a_burst_is_not() -> None:
    policy = turns()
    flooded(policy, BURST_US)
    assert policy.take_news() == []
    policy.waits(1, 0)
    policy.round(BURST_US)
    served = flooded(policy, BURST_US + THROTTLE_US)
    assert [news.node for news in policy.take_news()] == [1]
    assert policy.floods == {1: 1}
    assert served[1] < SHARES.replica * BURST_US // 10_000 + 2 * THROTTLE_US // 10_000 // EVERY + 10
    assert served["c0"] > 5 * served[1]


def test_p36_where_much_waits_of_all_nobody_floods() -> None:
    policy = turns()
    flooded(policy, 4 * BURST_US, others=2 * FLOOD)
    assert policy.floods == {}


def test_p36_without_the_measure_a_flood_has_its_full_share() -> None:
    policy = turns(throttles=False)
    assert flooded(policy, BURST_US)[1] == SHARES.replica * BURST_US // 10_000


def test_a_throttled_replica_is_served_when_nothing_else_waits_and_heard_again_in_time() -> None:
    policy = turns()
    flooded(policy, 2 * BURST_US)
    policy.waits("c0", 0)
    policy.waits(1, 3)
    assert policy.round(2 * BURST_US) == [(1, SHARES.throttled)]
    assert policy.round(2 * BURST_US + THROTTLE_US) == [(1, SHARES.replica)]


def test_p36_who_goes_on_flooding_is_throttled_for_longer_each_time() -> None:
    """Else a flood would have its burst every five seconds. Who was quiet for as long begins anew."""
    policy = turns()
    begun: list[int] = []
    for now in range(0, 200_000_000, 100_000):
        flooded_at = len(begun)
        policy.waits(1, 10 * FLOOD)
        policy.round(now)
        begun += [now] * (policy.floods[1] - flooded_at)
    times = [later - sooner for sooner, later in pairwise(begun)]
    assert times[:6] == [second * 1_000_000 for second in (5, 10, 20, 40, 60, 60)]
    policy.waits(1, 0)
    policy.round(400_000_000)
    policy.waits(1, 10 * FLOOD)
    for now in (401_000_000, 402_000_000, 408_000_000, 409_000_000):
        policy.round(now)
    assert policy.floods[1] == len(begun) + 2, "for five seconds again"


def test_p36_few_huge_frames_are_a_flood_too() -> None:
    """Sixteen megabytes wait of one replica, in as many messages, on real links and simulated ones."""
    frame = bytes(1024 * 1024)
    live, simulated = Inbox(turns()), FairInbox(turns(), lambda: now)
    packed = pack_frame([frame])
    for now in (0, BURST_US):
        for _ in range(16):
            live.put(1, packed, lambda _: None)
            simulated.append((1, [frame]))
        list(zip(live.turn(now), range(1), strict=False))
        list(zip(simulated.turn(), range(1), strict=False))
    assert live._turns is not None
    assert live._turns.take_news() == simulated.turns.take_news() == [Throttled(1, THROTTLE_US)]


def test_p36_an_inbox_that_rests_asks_for_no_turn_and_loses_nothing() -> None:
    clock, frame = [0], bytes(1024 * 1024)
    inbox, live = FairInbox(turns(), lambda: clock[0]), Inbox(turns())
    for _ in range(12):
        inbox.append((1, [frame]))
        live.put(1, pack_frame([frame]), lambda _: None)
    for box in (inbox.turns, live._turns):
        assert box is not None
        box._throttled[1] = 100 * THROTTLE_US
    taken = rested = 0
    for _ in range(2 * 12):
        taken += len(list(inbox.turn()))
        for _, queue, share in live.turn(clock[0]):
            queue.done(len(queue.some(share)))
        assert inbox.resting == live.resting
        rested += inbox.resting > 0
        assert bool(len(inbox)) is (taken < 12 and not inbox.resting)
        clock[0] += inbox.resting
        inbox.rouse()
    assert (taken, rested) == (12, 11)
    assert clock[0] == 11 * 33 * REST_US
    assert list(live.waiting()) == []


def test_p36_what_waits_of_one_that_is_shunned_is_lost_at_no_cost() -> None:
    inbox = FairInbox(turns(), lambda: 0)
    for number in range(12):
        inbox.append(("c0" if number % 3 else "c1", [b"%d" % number]))
    turn = inbox.turn()
    next(turn)
    inbox.forget("c0")
    inbox.forget("c9")
    assert {sender for sender, _ in turn} <= {"c1"}
    while len(inbox):
        assert {sender for sender, _ in inbox.turn()} == {"c1"}
    inbox.turns.check_invariants()


def test_x6_large_frames_of_one_sender_are_bounded_in_bytes() -> None:
    inbox = FairInbox(turns(), lambda: 0)
    large = bytes(BYTES // 3)
    taken = 0
    while not inbox.full(1):
        inbox.append((1, [large]))
        taken += 1
    assert taken == 4
    assert not inbox.full(2)
    while len(inbox):
        list(inbox.turn())
        inbox.rouse()
    assert not inbox.full(1)


def test_p36_who_was_served_more_than_its_share_is_passed_by_until_others_had_as_much() -> None:
    """A frame is served whole, however large."""
    policy = turns()
    served: Counter[Any] = Counter()
    for _ in range(100):
        for client, units in (("c0", 20), ("c1", 1), ("c2", 1)):
            policy.waits(client, units)
        for client, share in policy.round(0):
            units = 20 if client == "c0" else 1
            served[client] += units
            policy.owes(client, units - share)
        policy.check_invariants()
    assert served["c1"] == served["c2"] == 100
    assert 160 <= served["c0"] <= 300, "a share of two units, or of three"


def test_p36_where_all_are_in_debt_the_one_that_owes_least_is_served() -> None:
    policy = turns()
    policy.waits("c0", 5)
    policy.owes("c0", 100)
    policy.waits("c1", 5)
    policy.owes("c1", 50)
    assert [client for client, _ in policy.round(0)] == ["c1"]
    policy.waits("c1", 0)
    assert [client for client, _ in policy.round(0)] == ["c0"], "nobody else waits"


def wasteful(policy: Turns, until: int, *costs: int) -> Counter[Any]:
    """Messages of nodes 1, 2, 3 take so many microseconds in each 10 000, and bring nothing about."""
    for now in range(0, until, 10_000):
        for node, cost in zip(PEERS, costs, strict=True):
            policy.waits(node, 1)
            policy.wasted(node, cost)
        policy.round(now)
    return policy.floods


def test_p36_who_takes_far_more_time_than_others_for_nothing_is_throttled_however_little_waits() -> None:
    assert wasteful(turns(), 3 * BURST_US, 4_000, 200, 0) == {1: 1}
    assert wasteful(turns(), BURST_US + 20_000, 4_000, 200, 0) == {}, "a burst"
    assert wasteful(turns(), 3 * BURST_US, 1_000, 0, 0) == {}, "not worth it"
    assert wasteful(turns(), 3 * BURST_US, 3_000, 1_000, 0) == {}, "another, of whom one may lie, costs not much less"
    assert wasteful(turns(throttles=False), 3 * BURST_US, 4_000, 200, 0) == {}


def test_p36_a_throttled_replica_rests_after_a_large_message_even_if_nothing_else_waits() -> None:
    policy = turns()
    wasteful(policy, 3 * BURST_US, 4_000, 0, 0)
    for node in (2, 3):
        policy.waits(node, 0)
    now = 3 * BURST_US
    assert policy.round(now) == [(1, SHARES.throttled)]
    policy.owes(1, 33)
    assert policy.round(now) == []
    assert policy.rest() == 34 * module.REST_US
    assert policy.round(now + policy.rest()) == [(1, SHARES.throttled)]


def test_bytes_count_as_messages_do() -> None:
    assert module.units_of(0, 0) == module.units_of(1, 1_000) == 1
    assert module.units_of(1, 1024 * 1024) == 33


def test_who_is_shunned_is_told_why_and_heard_again_in_time() -> None:
    shunned = Shunned()
    assert shunned.add(0, "ann", 60_000_000, "bad signature")
    assert not shunned.add(10_000_000, "ann", 60_000_000, "bad signature")
    assert shunned.rule(10_000_000, "ann") == "client ann is not heard for 60 s: bad signature"
    assert shunned.rule(0, "bob") is None
    assert shunned.rule(70_000_000, "ann") is None
    assert not shunned
    assert shunned.count == 1


def test_the_table_of_the_shunned_is_bounded() -> None:
    shunned = Shunned()
    for number in range(module.SHUNNED_MAX + 5):
        shunned.add(0, f"c{number}", 1_000_000 + number, "bad signature")
    assert shunned.rule(0, "c4") is None
    assert shunned.rule(0, "c5") is not None


@given(st.lists(st.binary(max_size=20), max_size=70))
def test_the_head_of_a_frame_says_how_many_messages_it_holds(messages: list[bytes]) -> None:
    assert messages_in(pack_frame(messages)) == max(1, len(messages))


@given(st.binary(max_size=12))
def test_a_frame_that_lies_about_its_messages_counts_for_no_more_than_its_bytes(frame: bytes) -> None:
    assert 1 <= messages_in(frame) <= max(1, len(frame))
