"""[CL99 5.2, CL02] `auth = "macs"`: authenticators, claims of a weak quorum, and the view change without signatures."""

from __future__ import annotations

from typing import Any

import pytest

from pbft import messages as m
from pbft.claims import Claims
from pbft.config import MEASURES
from pbft.mac_view_change import MacViewChanges
from pbft.macs import MacCore, MacRequests
from pbft.requests import Requests
from pbft.suspects import SUSPECTS_MAX, Suspects
from replog.core import Accuse, Received
from replog.types import Request, Submit
from tests.pbft.chance import Chance
from tests.pbft.harness import SECOND, SMALL, Cluster, replace

MACS = {**SMALL, "auth": "macs"}
A, B = b"a" * 32, b"b" * 32
NULL = m.NULL.digest


def hear(cluster: Cluster, node: int, sender: int | str, message: Any) -> list[Any]:
    return cluster.step(node, Received(sender, message))


# ------------------------------------------------------------------------------------------------------ authenticators


def spoiled(request: Request, *nodes: int) -> Request:
    """The same request with MACs that are wrong for `nodes`."""

    def wrong(statement: bytes) -> bytes:
        macs = bytearray(request.auth)
        for node in nodes:
            macs[16 * node] ^= 1
        return bytes(macs)

    return request.signed_anew(wrong, cluster_domain())


def cluster_domain() -> Any:
    from tests.plug import DOMAIN

    return DOMAIN


def test_5_2_requests_are_ordered_under_macs_and_nothing_is_signed() -> None:
    cluster = Cluster(options=MACS)
    for timestamp in range(1, 10):
        cluster.submit("ann", timestamp)
        cluster.settle()
    assert cluster.executed() == [9] * 4
    assert [cluster.core(node).checkpoints.stable.seq for node in range(4)] == [8] * 4
    assert cluster.verified == 0


def test_p31_a_weak_quorum_vouches_for_what_ones_own_entry_does_not() -> None:
    cluster = Cluster(options=MACS)
    cluster.inject("ann", 0, Submit(spoiled(cluster.request("ann", 1), 3).raw))
    cluster.settle()
    assert cluster.executed() == [1] * 4
    assert cluster.core(3).ordering.slots[1].digest is not None, "node 3 has voted too"


def test_p31_what_the_primary_alone_vouches_for_is_not_voted_for() -> None:
    cluster = Cluster(options=MACS)
    cluster.inject("ann", 0, Submit(spoiled(cluster.request("ann", 1), 1, 2, 3).raw))
    cluster.settle()
    assert cluster.executed() == [0] * 4
    cluster.submit("ann", 1, to=range(4))
    assert cluster.run(20 * SECOND, until=lambda: cluster.done("ann", 1)), "the genuine one is executed all the same"


class KnowsBytesAlone(MacCore):
    """A request that came from its client itself does not vouch for the same one under other MACs."""

    class requests_type(MacRequests):  # noqa: N801
        def vouches(self, request: Request) -> bool:
            return Requests.vouches(self, request)


@pytest.mark.parametrize(("core", "views"), [(MacCore, [0] * 4), (KnowsBytesAlone, [1] * 4)])
def test_cl02_the_clients_own_word_is_enough(core: type[MacCore], views: list[int]) -> None:
    """The primary has proposed under MACs that are right for itself alone; then the client sends to all."""
    cluster = Cluster(options=MACS, core=core)
    cluster.inject("ann", 0, Submit(spoiled(cluster.request("ann", 1), 1, 2, 3).raw))
    cluster.settle()
    cluster.submit("ann", 1, to=range(4))
    assert cluster.run(5 * SECOND, until=lambda: cluster.done_by("ann", 1, range(4)))
    assert cluster.views() == views


class WaitsForEver(MacCore):
    """Whatever came once comes back with every view."""

    class requests_type(MacRequests):  # noqa: N801
        def forget_unasked(self) -> None: ...


@pytest.mark.parametrize(("core", "live"), [(MacCore, True), (WaitsForEver, False)])
def test_p31_requests_that_nobody_else_vouches_for_keep_no_later_primary_from_the_others(
    core: type[MacCore], live: bool
) -> None:
    cluster = Cluster(options={**MACS, "in_flight_max": 1}, core=core)
    for node in range(4):
        others = [other for other in range(4) if other != node]
        cluster.inject("bob", node, Submit(spoiled(cluster.request("bob", 1 + node), *others).raw))
    for _ in range(40):
        cluster.submit("ann", 1, to=range(4))
        cluster.run(SECOND // 2)
    assert cluster.done("ann", 1)
    views = cluster.views()
    cluster.run(60 * SECOND)
    assert (cluster.views() == views) is live, "nobody waits any more"


def test_5_2_a_wrong_mac_is_answered_with_the_key() -> None:
    cluster = Cluster(options=MACS)
    cluster.crash(0)
    cluster.start(0)
    old = cluster.request("ann", 1)
    cluster.inject("ann", 0, Submit(old.raw))
    cluster.settle()
    assert cluster.executed() == [0] * 4, "node 0 has forgotten the key"
    assert cluster.request("ann", 1).auth != old.auth, "and has told a new one"
    cluster.submit("ann", 1)
    cluster.settle()
    assert cluster.executed() == [1] * 4


def test_cl02_keys_are_renewed_and_the_last_ones_count_as_long_again() -> None:
    cluster = Cluster(options={**MACS, "key_lifetime_us": 2 * SECOND})
    old = cluster.request("ann", 1)
    cluster.run(3 * SECOND)
    cluster.inject("ann", 0, Submit(old.raw))
    cluster.settle()
    assert cluster.executed() == [1] * 4, "the last key still counts"
    assert cluster.request("ann", 1).auth != old.auth, "and its user is told the next one"
    forgotten = spoiled(old)
    cluster.run(5 * SECOND)
    assert not any(cluster.core(node).requests.verify(forgotten) for node in range(4))


# -------------------------------------------------------------------------------------------------------------- claims


def test_p43_one_word_a_replica_and_the_oldest_give_way() -> None:
    claims: Claims[int, bytes] = Claims(2)
    assert claims.add(1, 5, A) == (1,)
    assert claims.add(1, 5, A) == (1,)
    assert claims.add(2, 5, B) == (2,)
    assert claims.add(2, 5, A) == (1, 2), "the latest word counts"
    claims.add(1, 6, A)
    claims.add(1, 7, A)
    assert claims.add(3, 5, A) == (2, 3), "the oldest of node 1 has given way"
    claims.check_invariants()


def test_p43_one_replica_alone_decides_nothing() -> None:
    cluster = Cluster(options=MACS)
    request = cluster.request("ann", 1)
    batch = m.Batch(0, [request])
    told = m.Committed(m.CommitProof(0, 1, batch.digest, []), batch.time, batch.raws)
    hear(cluster, 3, 1, told)
    hear(cluster, 3, 1, told)
    assert cluster.core(3).executed == 0
    hear(cluster, 3, 2, told)
    assert cluster.core(3).executed == 1


def test_p42_a_weak_quorum_proves_a_state_and_a_quorum_lets_the_log_be_cut() -> None:
    cluster = Cluster(options=MACS)
    checkpoints = cluster.core(3).checkpoints
    hear(cluster, 3, 0, m.Checkpoint(400, A, 0, b""))
    assert checkpoints.proven.seq == 0
    hear(cluster, 3, 1, m.Checkpoint(400, A, 1, b""))
    assert (checkpoints.proven.seq, checkpoints.certified.seq) == (400, 0)
    hear(cluster, 3, 2, m.Checkpoint(400, A, 2, b""))
    assert checkpoints.certified.seq == 400


def test_two_faces_are_noted_and_nobody_is_accused() -> None:
    cluster = Cluster(options=MACS)
    effects = hear(cluster, 3, 1, m.Prepare(0, 1, A, 1, b"")) + hear(cluster, 3, 1, m.Prepare(0, 1, B, 1, b""))
    assert "two-prepares" in cluster.rules(3)[-1]
    assert not any(isinstance(effect, Accuse) for effect in effects)


def test_p22_votes_of_another_view_count_for_nothing_though_nobody_signed_them() -> None:
    cluster = Cluster(options=MACS)
    cluster.submit("ann", 1)
    cluster.blocked = lambda packet: type(packet.message) is not m.PrePrepare
    cluster.settle()
    digest = cluster.core(1).ordering.slots[1].digest or b""
    for voter in (2, 3):
        hear(cluster, 1, voter, m.Prepare(4, 1, digest, voter, b""))
    assert not any(isinstance(sent.message, m.Commit) for sent in cluster.sent)
    hear(cluster, 1, 2, m.Prepare(0, 1, digest, 2, b""))
    assert any(isinstance(sent.message, m.Commit) for sent in cluster.sent), "a vote of this view counts"


# --------------------------------------------------------------------------------------------------------- view change


def asks(node: int, prepared: list[tuple[int, bytes, int]] = (), voted: Any = None, stable: int = 0) -> Any:  # type: ignore[assignment]
    placed = [m.Placed(*item) for item in prepared]
    votes = placed if voted is None else [m.Placed(*item) for item in voted]
    digest = bytes(32) if stable == 0 else A
    return m.MacViewChange(9, stable, [m.Claim(stable, digest)], placed, votes, node)


def choice(*messages: Any, changes: type[MacViewChanges] = MacViewChanges) -> Any:
    chosen = changes(Cluster(options=MACS).core(0).notary).choose(messages)
    return None if chosen is None else [(claim.seq, claim.digest) for claim in chosen[1]]


class SkipsA1(MacViewChanges):
    def is_uncontradicted(self, *_: Any) -> bool:
        return True


class SkipsA2(MacViewChanges):
    def is_voted(self, *_: Any) -> bool:
        return True


def test_cl02_what_a_quorum_does_not_contradict_and_a_weak_quorum_voted_for_is_chosen() -> None:
    one, two = asks(0, [(1, A, 3)]), asks(1, [(1, A, 3)])
    assert choice(one, two, asks(2)) == [(1, A)]
    assert choice(asks(0, [(2, A, 3)]), asks(1, [(2, A, 3)]), asks(2)) == [(1, NULL), (2, A)], "a gap becomes null"
    assert choice(asks(0), asks(1), asks(2)) == []


def test_cl02_a2_one_replica_alone_puts_nothing_into_a_view() -> None:
    lie = asks(3, [(1, B, 8)])
    messages = (asks(0, [(1, A, 3)]), asks(1, [(1, A, 3)]), asks(2, [], [(1, A, 3)]), lie)
    assert choice(*messages) == [(1, A)]
    assert choice(*messages, changes=SkipsA2) == [(1, B)]


def test_cl02_a1_nothing_is_chosen_against_what_may_have_committed() -> None:
    """A may have committed with the help of node 1, which is silent. Node 2 voted for B, and node 3 lies that it has
    prepared B: another view-change must be waited for."""
    messages = (asks(0, [(1, A, 3)]), asks(2, [], [(1, B, 3)]), asks(3, [(1, B, 3)]))
    assert choice(*messages) is None
    assert choice(*messages, changes=SkipsA1) == [(1, B)]
    assert choice(*messages, asks(1, [(1, A, 3)])) == [(1, A)]


def test_cl02_the_checkpoint_is_one_that_a_weak_quorum_has_and_a_quorum_is_not_beyond() -> None:
    changes = MacViewChanges(Cluster(options=MACS).core(0).notary)
    chosen = changes.choose([asks(0, stable=4), asks(1, stable=4), asks(2)])
    assert chosen is not None
    assert chosen[0].seq == 4
    assert changes.choose([asks(0, stable=4), asks(1), asks(2)]) is None, "seq 0 has not a quorum below it"


@pytest.mark.parametrize(
    "changed",
    [
        {"view": 0},
        {"checkpoints": []},
        {"checkpoints": [m.Claim(3, A)], "stable": 3},
        {"prepared": [m.Placed(2, A, 1), m.Placed(1, A, 1)]},
        {"prepared": [m.Placed(1, A, 9)]},
        {"voted": [m.Placed(1, B, 1), m.Placed(1, A, 1)]},
    ],
)
def test_cl02_a_view_change_that_no_correct_replica_says_is_refused(changed: dict[str, Any]) -> None:
    cluster = Cluster(options=MACS)
    hear(cluster, 1, 2, replace(asks(2), **changed))
    assert 2 not in cluster.core(1).view_changes.heard


def test_cl02_a_new_view_rests_on_what_a_quorum_acknowledges() -> None:
    cluster = Cluster(options=MACS)
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.blocked = lambda packet: type(packet.message) is m.ViewChangeAck or 0 in (packet.sender, packet.to)
    cluster.submit("ann", 2, to=(1, 2, 3))
    cluster.run(4 * SECOND)
    assert not cluster.done("ann", 2), "without acknowledgements no primary begins"
    cluster.heal()
    assert cluster.run(60 * SECOND, until=lambda: cluster.done("ann", 2))


def test_cl02_a_view_change_that_did_not_come_is_fetched() -> None:
    cluster = Cluster(options=MACS)
    cluster.blocked = lambda packet: (
        (packet.sender == 0 and type(packet.message) is m.PrePrepare)
        or (type(packet.message) is m.MacViewChange and (packet.sender, packet.to) == (2, 3))
    )
    cluster.submit("ann", 1, to=range(4))
    assert cluster.run(10 * SECOND, until=lambda: cluster.done_by("ann", 1, range(4)))
    assert any(type(sent.message) is m.FetchViewChange and sent.node == 3 for sent in cluster.sent)


# ------------------------------------------------------------------------------------------------------------ by chance


@pytest.mark.parametrize(("n", "liars"), [(4, 0), (4, 1), (7, 2)])
@pytest.mark.parametrize("seed", range(400, 406))
def test_random_schedules_and_liars_under_macs(seed: int, n: int, liars: int) -> None:
    chance = Chance(seed, n, liars, options=MACS)
    chance.trouble(2000)
    chance.calm()
    assert chance.judge() > 0, "vacuous"
    assert isinstance(chance.cluster.core(chance.correct[0]), MacCore)


# ------------------------------------------------------------------------------------------------------------ vouching

ROBUST = {**MACS, "robust": True, "view_timeout_us": SECOND}
UNVOUCHED = {**ROBUST, "robust": [name for name in MEASURES if name != "vouching"]}


def for_the_primary_alone(cluster: Cluster, client: str, timestamp: int) -> None:
    primary = max(cluster.views()) % 4
    others = [node for node in range(4) if node != primary]
    cluster.inject(client, primary, Submit(spoiled(cluster.request(client, timestamp), *others).raw))


def suspects(cluster: Cluster, client: str) -> list[bool]:
    return [client in cluster.core(node).requests.suspects for node in range(4)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("options", "soon"), [(ROBUST, True), (UNVOUCHED, False)])
def test_p31_what_nobody_vouches_for_ends_the_view_after_a_moment(options: dict[str, Any], soon: bool) -> None:
    cluster = Cluster(options=options)
    for_the_primary_alone(cluster, "eve", 1)
    cluster.run(SECOND // 4)
    assert cluster.views() == [int(soon)] * 4
    assert suspects(cluster, "eve") == [soon] * 4, "the primary that believed it has learnt it too"


@pytest.mark.parametrize(("options", "views"), [(ROBUST, {1}), (UNVOUCHED, {2, 3, 4, 5})])
def test_p31_one_client_costs_one_view_change(options: dict[str, Any], views: set[int]) -> None:
    cluster = Cluster(options=options)
    for timestamp in range(1, 6):
        for_the_primary_alone(cluster, "eve", timestamp)
        cluster.submit("ann", timestamp, to=range(4))
        assert cluster.run(20 * SECOND, until=lambda t=timestamp: cluster.done("ann", t))  # type: ignore[misc]
    assert max(cluster.views()) in views


class AsksNobody(MacCore):
    """Answers of other replicas do not count."""

    class requests_type(MacRequests):  # noqa: N801
        def back(self, request: Request, backup: int, leads: bool = True) -> None: ...


@pytest.mark.parametrize(("core", "done"), [(MacCore, True), (AsksNobody, False)])
def test_p31_a_suspect_is_served_once_a_quorum_vouches(core: type[MacCore], done: bool) -> None:
    """Whoever became suspect by chance, after replicas forgot its keys, loses a round trip."""
    cluster = Cluster(options=ROBUST, core=core)
    for_the_primary_alone(cluster, "eve", 1)
    cluster.run(SECOND // 4)
    cluster.submit("eve", 2, to=[1])
    assert cluster.run(SECOND // 4, until=lambda: cluster.done("eve", 2)) is done
    assert cluster.views() == [1] * 4


class WaitsToBeTold(MacCore):
    """Nobody is asked about what waits where the view begins."""

    class requests_type(MacRequests):  # noqa: N801
        def to_back(self) -> list[Request]:
            return []


@pytest.mark.parametrize(("core", "soon"), [(MacCore, True), (WaitsToBeTold, False)])
def test_p31_a_careful_primary_asks_about_what_it_alone_has(core: type[MacCore], soon: bool) -> None:
    """Else what came shortly before such a view, late with nobody, would wait until clients send again to everybody."""
    cluster = Cluster(options=ROBUST, core=core)
    for_the_primary_alone(cluster, "eve", 1)
    cluster.run(SECOND // 40)
    cluster.submit("ann", 1, to=[1])
    cluster.run(SECOND // 8)
    assert cluster.views() == [1] * 4
    assert cluster.done("ann", 1) is soon


def test_p31_a_doubt_ends_with_its_view() -> None:
    """The timer of the last view says nothing about this one, and does not run on."""
    cluster = Cluster(options=ROBUST)
    for_the_primary_alone(cluster, "eve", 1)
    cluster.run(SECOND // 2)
    assert cluster.views() == [1] * 4
    assert MacCore.DOUBT not in {name for _, _, name in cluster.due()}


def test_p31_suspects_are_forgiven_in_time() -> None:
    cluster = Cluster(options={**ROBUST, "blacklist_us": 2 * SECOND})
    for_the_primary_alone(cluster, "eve", 1)
    cluster.run(SECOND)
    assert all(suspects(cluster, "eve"))
    cluster.run(3 * SECOND)
    assert not any(suspects(cluster, "eve"))


@pytest.mark.parametrize(("core", "done"), [(MacCore, True), (AsksNobody, False)])
def test_p31_a_mute_primary_is_given_up_for_a_suspects_request_too(core: type[MacCore], done: bool) -> None:
    """Else a primary that spoils the MACs of correct clients in its batches would rid itself of all demands."""
    cluster = Cluster(options=ROBUST, core=core)
    for node in range(4):
        cluster.core(node).requests.suspects.add(cluster.now, "ann")  # type: ignore[attr-defined]
    cluster.blocked = lambda packet: packet.sender == 0 and isinstance(packet.message, m.PrePrepare)
    cluster.submit("ann", 1, to=range(4))
    assert cluster.run(SECOND, until=lambda: cluster.done("ann", 1)) is done
    assert all(view == int(done) for view in cluster.views())


class EchoesNothing(MacCore):
    class requests_type(MacRequests):  # noqa: N801
        def echoes(self, request: Request) -> bool:
            return False


@pytest.mark.parametrize(("core", "counted"), [(MacCore, 1), (EchoesNothing, 0)])
def test_p31_others_vouch_for_what_one_backup_alone_was_sent(core: type[MacCore], counted: int) -> None:
    """Clients send each backup a part of their requests: what is late there counts all the same."""
    cluster = Cluster(options=ROBUST, core=core)
    cluster.blocked = lambda packet: packet.sender == 0 and isinstance(packet.message, m.PrePrepare)
    cluster.submit("ann", 1, to=[1])
    cluster.run(SECOND // 16)
    requests = cluster.core(1).requests
    assert (len(requests.pending), requests.waiting) == (1, counted)


class BelievesItselfAlone(MacCore):
    class requests_type(MacRequests):  # noqa: N801
        def _believe(self, *_: Any) -> None: ...


class BlamesAtOnce(MacCore):
    """What a backup has verified it holds against the primary, whoever else has it."""

    class requests_type(MacRequests):  # noqa: N801
        def question(self, now: int, identity: Any) -> None: ...


@pytest.mark.parametrize(("core", "done"), [(MacCore, True), (BelievesItselfAlone, False)])
def test_p31_a_primary_takes_in_what_all_backups_vouch_for(core: type[MacCore], done: bool) -> None:
    """Its own entry is wrong: that deposes nobody."""
    cluster = Cluster(options=ROBUST, core=core)
    for timestamp in range(1, 6):
        cluster.inject("eve", (1, 2, 3), Submit(spoiled(cluster.request("eve", timestamp), 0).raw))
        cluster.submit("ann", timestamp, to=range(4))
        assert cluster.run(SECOND, until=lambda t=timestamp: cluster.done("ann", t))  # type: ignore[misc]
        cluster.run(SECOND // 4)
    assert (cluster.done("eve", 5) and cluster.views() == [0] * 4) is done


@pytest.mark.parametrize(("core", "stays"), [(MacCore, True), (BlamesAtOnce, False)])
def test_p31_what_too_few_vouch_for_is_held_against_nobody(core: type[MacCore], stays: bool) -> None:
    """Two backups have it, and one of them would be enough with the complaint of a liar."""
    cluster = Cluster(options=ROBUST, core=core)
    cluster.inject("eve", (1, 2), Submit(spoiled(cluster.request("eve", 1), 0, 3).raw))
    cluster.inject(3, (0, 1, 2), m.Complaint(0))
    cluster.run(SECOND // 2)
    assert (cluster.views() == [0] * 4) is stays
    assert not stays or not any(cluster.core(node).requests.pending for node in range(4)), "and is not kept"


class BelievesOne(MacCore):
    """The word of one replica makes a client suspect."""

    def __init__(self, setup: Any) -> None:
        super().__init__(setup)
        self.requests.suspects = Suspects(1, setup.config.blacklist_us)


@pytest.mark.parametrize(("core", "suspect"), [(MacCore, False), (BelievesOne, True)])
def test_p31_no_f_replicas_make_a_client_suspect(core: type[MacCore], suspect: bool) -> None:
    cluster = Cluster(options=ROBUST, core=core)
    for _ in range(3):
        cluster.inject(3, (0, 1, 2), m.Complaint(0, ["ann"]))
    cluster.settle()
    assert suspects(cluster, "ann")[:3] == [suspect] * 3


def test_suspects_and_the_named_are_bounded() -> None:
    table = Suspects(2, SECOND)
    for number in range(SUSPECTS_MAX + 5):
        table.add(number, f"c{number}")
        assert table.name(0, 1, [f"n{number}"]) == []
    assert "c4" not in table
    assert "c5" in table
    assert table.name(0, 2, ["n0"]) == ["n0"]
    assert table.name(0, 2, [f"n{SUSPECTS_MAX + 1}"]) == [], "there was no room to remember who named it first"
