"""[CL02] Attacks on `auth = "macs"`: schedules and liars that once forked the log, or kept it from growing for ever.

Each test plays the faulty replica by hand and fails on the code it was written against.
"""

from __future__ import annotations

from typing import Any

import pytest

from pbft import messages as m
from pbft.mac_ordering import MacOrdering
from pbft.mac_view_change import MacViewChanges
from pbft.macs import MacCore, MacRequests
from pbft.ordering import Ordering
from replog.core import Received
from replog.types import Submit
from tests.pbft.harness import EPOCH_US, SECOND, SMALL, Cluster, Disagreement
from tests.pbft.test_macs import spoiled

MACS = {**SMALL, "auth": "macs"}
GENESIS = m.Claim(0, bytes(32))


def between_replicas(packet: Any) -> bool:
    return isinstance(packet.sender, int)


def ask_again(cluster: Cluster, to: Any, *requests: tuple[str, int], seconds: int = 20) -> bool:
    """Clients ask again until they have their answers."""
    for _ in range(4 * seconds):
        for client, timestamp in requests:
            cluster.submit(client, timestamp, to=to)
        cluster.run(SECOND // 4)
        if all(cluster.done(client, timestamp) for client, timestamp in requests):
            return True
    return False


# -------------------------------------------------------------------------------------------------------------- safety


class DropsTheLastNull(MacCore):
    """A null request at the end is not proposed again, prepared or not."""

    class view_changes_type(MacViewChanges):  # noqa: N801
        def choose(self, messages: Any) -> Any:
            chosen = super().choose(messages)
            while chosen is not None and chosen[1] and chosen[1][-1].digest == m.NULL.digest:
                chosen[1].pop()
            return chosen


def a_null_request_is_last(core: type[MacCore]) -> Cluster:
    """Nobody lies. Seq 1 is lost in view 0, node 3 alone prepares seq 2. View 1 makes 1 null, which commits at node 0,
    and 2 prepares nowhere. View 2 begins without node 3."""
    cluster = Cluster(options=MACS, core=core)

    def first(packet: Any) -> bool:
        said = packet.message
        if not between_replicas(packet):
            return False
        lost = isinstance(said, m.PrePrepare) and said.seq == 1
        return lost or isinstance(said, m.Commit | m.Committed) or (isinstance(said, m.Prepare) and packet.to != 3)

    cluster.blocked = first
    for client in ("ann", "bob"):
        cluster.submit(client, 1, to=range(4))
        cluster.settle()

    def second(packet: Any) -> bool:
        said, way = packet.message, (packet.sender, packet.to)
        if not between_replicas(packet):
            return False
        match said:
            case m.Prepare():
                return said.seq != 1 or packet.to == 3
            case m.Commit():
                return said.seq != 1 or packet.to != 0
            case m.MacViewChange() | m.ViewChangeAck() | m.MacNewView() if said.view > 1:
                return 3 in way
            case m.MacViewChange():
                return way == (2, 1)
        return isinstance(said, m.PrePrepare | m.Committed)

    cluster.blocked = second
    cluster.run(20 * SECOND, until=lambda: cluster.core(2).view == 2 and cluster.core(2).ordering.active)
    assert cluster.executed() == [1, 0, 0, 0], "vacuous"
    cluster.heal()
    ask_again(cluster, range(4), ("ann", 1), ("bob", 1))
    return cluster


def test_p3_a_null_request_that_was_prepared_is_proposed_again_at_the_end_too() -> None:
    assert a_null_request_is_last(MacCore).check_agreement() > 0
    with pytest.raises(Disagreement):
        a_null_request_is_last(DropsTheLastNull).check_agreement()


class DropsWhatIsProvedElsewhere(MacCore):
    """Slots a whole window below what f+1 replicas tell are dropped, as with signatures."""

    class ordering_type(Ordering):  # noqa: N801
        def check_invariants(self) -> None: ...


def slots_are_outrun(core: type[MacCore]) -> tuple[Cluster, list[int]]:
    """Node 0, the primary of view 0, lies. Node 1 executes 12 and hears 12 claimed, by f+1; a quorum claims nothing."""
    cluster, digests = Cluster(options=MACS, core=core), {}
    cluster.crash(0)

    def unheard(packet: Any) -> bool:
        said = packet.message
        cut = 2 in (packet.sender, packet.to) and not isinstance(said, m.Status)
        late = isinstance(said, m.Checkpoint) and (packet.to == 1 or said.seq > 4)
        return between_replicas(packet) and (cut or late)

    cluster.blocked = unheard
    for seq in range(1, 13):
        batch = m.Batch(EPOCH_US + cluster.now, [cluster.request("ann", seq)])
        digests[seq] = batch.digest
        cluster.inject(0, (1, 3), m.PrePrepare(0, seq, batch.digest, b"", batch.time, batch.raws))
        cluster.settle()
        cluster.inject(0, (1, 3), m.Commit(0, seq, batch.digest, 0, b""))
        cluster.settle()
        if seq % 4 == 0:
            cluster.inject(0, 1, m.Checkpoint(seq, cluster.core(1).checkpoints.own[seq], 0, b""))
            cluster.settle()
    assert cluster.core(1).executed == cluster.core(3).executed == 12, "vacuous"
    late = (m.Committed, m.Checkpoint, m.PartData, m.FetchPart)
    cluster.blocked = lambda packet: (
        between_replicas(packet)
        and (
            isinstance(packet.message, late)
            or (isinstance(packet.message, m.MacViewChange) and (packet.sender, packet.to) == (3, 1))
        )
    )
    cluster.submit("bob", 1, to=(1, 2, 3))
    cluster.run(SECOND + SECOND // 2, until=lambda: cluster.core(1).view == 1 == cluster.core(2).view)
    voted = [m.Placed(seq, digests[seq], 0) for seq in range(5, 13)]
    cluster.inject(0, (1, 2), m.MacViewChange(1, 0, [GENESIS], [], voted, 0))
    cluster.run(SECOND // 2)
    for seq in range(1, 5):
        cluster.inject(0, (2, 3), m.Prepare(1, seq, m.NULL.digest, 0, b""))
        cluster.inject(0, (2, 3), m.Commit(1, seq, m.NULL.digest, 0, b""))
    own = cluster.core(1).view_changes.own
    cluster.run(SECOND // 2)
    assert own is not None
    assert own.stable == 0, "vacuous"
    return cluster, [place.seq for place in own.prepared]


def test_cl02_p_has_all_that_was_prepared_above_h_whatever_others_tell() -> None:
    cluster, prepared = slots_are_outrun(MacCore)
    assert prepared == list(range(1, 13))
    assert cluster.check_agreement({0}) > 0
    with pytest.raises(Disagreement):
        slots_are_outrun(DropsWhatIsProvedElsewhere)[0].check_agreement({0})


class ForgetsBeyondTheWindow(MacCore):
    class ordering_type(MacOrdering):  # noqa: N801
        def recall_view(self, *args: Any) -> None:
            self.enter(*args)


def votes_around_a_restart(core: type[MacCore]) -> set[bytes]:
    """The digests for which node 2 says PREPARE at 9 in view 4, whose NEW-VIEW begins at 0 while f+1 claim 4."""
    cluster = Cluster(options=MACS, core=core)
    cluster.blocked = lambda packet: True

    def hear(sender: Any, message: Any) -> None:
        cluster.step(2, Received(sender, message))

    for node in (0, 1):
        hear(node, m.Checkpoint(4, b"s" * 32, node, b""))
    placed = []
    for seq in range(1, 10):
        batch = m.Batch(EPOCH_US, [cluster.request("ann", seq)])
        hear(0, m.PrePrepare(0, seq, batch.digest, b"", batch.time, batch.raws))
        hear(1, m.Prepare(0, seq, batch.digest, 1, b""))
        placed.append(m.Placed(seq, batch.digest, 0))
    for node in (0, 1, 3):
        hear(node, m.MacViewChange(4, 0, [GENESIS], placed if node != 3 else [], placed if node != 3 else [], node))
    heard = [cluster.core(2).view_changes.heard[node] for node in (0, 2, 3)]
    chosen = cluster.core(2).view_changes.choose(heard)
    sources = [m.Heard(message.replica, m.message_digest(message)) for message in heard]
    hear(0, m.MacNewView(4, sources, chosen[0], [m.Proposal(item.seq, item.digest, b"") for item in chosen[1]]))
    cluster.restart(2)
    cluster.ask_keys()
    batch = m.Batch(EPOCH_US, [cluster.request("bob", 1)])
    hear(0, m.PrePrepare(4, 9, batch.digest, b"", batch.time, batch.raws))
    said = [sent.message for sent in cluster.sent if type(sent.message) is m.Prepare]
    return {vote.digest for vote in said if (vote.view, vote.seq) == (4, 9)}


def test_p16_what_a_new_view_put_beyond_its_checkpoints_window_outlives_a_restart() -> None:
    assert len(votes_around_a_restart(MacCore)) == 1
    assert len(votes_around_a_restart(ForgetsBeyondTheWindow)) == 2


# ------------------------------------------------------------------------------------------------------------ liveness


def stall_once(cluster: Cluster) -> None:
    """Node 3 is the liar's and says what tests say; the proposals of view 0 get lost."""
    cluster.crash(3)
    cluster.blocked = lambda packet: type(packet.message) is m.PrePrepare and packet.message.view == 0


def test_p12_new_views_of_far_views_keep_no_nearer_one_out() -> None:
    cluster = Cluster(options=MACS)
    stall_once(cluster)
    sources = [m.Heard(node, b"x" * 32) for node in range(3)]
    for step in range(100):
        cluster.inject(3, (0, 1, 2), m.MacNewView(10**6 + 3 + 4 * step, sources, GENESIS, []))
        cluster.submit("ann", 1, to=range(3))
        cluster.run(SECOND // 4)
    assert cluster.done("ann", 1)


def test_cl02_what_was_acknowledged_can_be_shown_whatever_its_sender_says_next() -> None:
    """Node 3 asks all for the next view, and all but its primary at once for the one after it."""
    cluster = Cluster(options=MACS)
    stall_once(cluster)
    told = [0, 0, 0]
    for _ in range(250):
        for view in (max(cluster.views()), max(cluster.views()) + 1):
            for node in range(3) if view and view % 4 != 3 else ():
                later = view + (node != view % 4)
                for wish in (view, later) if told[node] < later else ():
                    cluster.inject(3, node, m.MacViewChange(wish, 0, [GENESIS], [], [], 3))
                told[node] = max(told[node], later)
        cluster.submit("ann", 1, to=range(3))
        cluster.run(SECOND // 10)
    assert cluster.done("ann", 1)


def test_cl02_a_state_taken_on_the_word_of_a_few_raises_no_h() -> None:
    """n = 7. Node 0 alone has executed 4; two liars claim it too, to node 2, which fetches it; then they are silent. If
    node 2 said h = 4 there were no checkpoint that f+1 hold and a quorum is not beyond."""
    cluster = Cluster(7, options=MACS)
    for node in (5, 6):
        cluster.crash(node)
    cluster.blocked = lambda packet: type(packet.message) is m.Commit and packet.to != 0
    for timestamp in range(1, 5):
        cluster.submit("ann", timestamp, to=range(5))
        cluster.settle()
    for node in (5, 6):
        cluster.inject(node, 2, m.Checkpoint(4, cluster.core(0).checkpoints.own[4], node, b""))
    assert cluster.run(5 * SECOND, until=lambda: cluster.core(2).executed == 4), "vacuous"
    assert [cluster.core(node).executed for node in (0, 1, 3, 4)] == [4, 0, 0, 0], "vacuous"
    cluster.heal()
    assert ask_again(cluster, range(5), ("bob", 1))


def test_cl02_status_under_macs_a_decided_replica_repeats_its_own_words() -> None:
    """Its certificate convinces nobody, so its COMMIT, once lost, must not cost the view."""
    cluster = Cluster(options=MACS)
    cluster.crash(3)
    cluster.blocked = lambda packet: isinstance(packet.message, m.Commit) and packet.to != 0
    cluster.submit("ann", 1, to=range(3))
    cluster.settle()
    cluster.inject(3, 0, m.Commit(0, 1, cluster.core(0).ordering.slots[1].digest or b"", 3, b""))
    cluster.settle()
    assert cluster.executed() == [1, 0, 0], "vacuous"
    cluster.heal()
    assert cluster.run(5 * SECOND, until=lambda: cluster.executed() == [1, 1, 1])
    assert cluster.views() == [0, 0, 0]


class TakesEveryRequest(MacCore):
    class requests_type(MacRequests):  # noqa: N801
        careful = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


@pytest.mark.parametrize(("core", "live"), [(MacCore, True), (TakesEveryRequest, False)])
def test_p31_a_client_that_goes_on_spoiling_macs_keeps_no_other_from_being_served(
    core: type[MacCore], live: bool
) -> None:
    """In every view its primary, and nobody else, can check new requests of bob's."""
    cluster = Cluster(options=MACS, core=core)
    spoilt = 0
    for step in range(200):
        for node in range(4):
            spoilt += 1
            request = cluster.request("bob", spoilt, low=max(0, spoilt - 60))
            cluster.inject("bob", node, Submit(spoiled(request, *({0, 1, 2, 3} - {node})).raw))
        if step >= 5:
            cluster.submit("ann", 1, to=range(4))
        cluster.run(SECOND // 10)
    assert cluster.done("ann", 1) is live


def test_p31_a_doubt_of_an_older_view_swallows_no_pre_prepare_of_this_one() -> None:
    cluster = Cluster(options=MACS)
    cluster.blocked = lambda packet: True

    def doubtful(view: int, timestamp: int) -> m.PrePrepare:
        batch = m.Batch(EPOCH_US, [spoiled(cluster.request("ann", timestamp), 3)])
        return m.PrePrepare(view, 1, batch.digest, b"", batch.time, batch.raws)

    def hear(sender: int, message: Any) -> None:
        cluster.step(3, Received(sender, message))

    hear(0, doubtful(0, 1))
    for node in range(3):
        hear(node, m.MacViewChange(1, 0, [GENESIS], [], [], node))
    heard = [cluster.core(3).view_changes.heard[node] for node in range(3)]
    hear(1, m.MacNewView(1, [m.Heard(each.replica, m.message_digest(each)) for each in heard], GENESIS, []))
    later = doubtful(1, 2)
    hear(1, later)
    for node in (0, 2):
        hear(node, m.Prepare(1, 1, later.digest, node, b""))
    assert cluster.core(3).ordering.slots[1].digest == later.digest
