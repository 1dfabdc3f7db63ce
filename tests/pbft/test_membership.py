"""A change of the members: boundary, turn, restart at every step of it, those who come, go, or are left behind."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pbft import SPEC
from pbft import messages as m
from pbft.lineage import certificate_of, certified
from pbft.messages import MESSAGES, InEpoch
from pbft.outsider import Role
from pbft.statements import signed_part
from replog.apps.kv import KeyValue
from replog.codec import Domain
from replog.core import Command, Note, Saved
from replog.errors import OperationFailed
from replog.membership import ConfigurationAnswer, ConfigurationQuestion, Link
from replog.types import Submit
from tests.pbft.changing import Changing, inner, member
from tests.pbft.harness import DOMAIN, MS, SECOND, SMALL, Packet, replace
from tests.plug import EPOCH_US

AUTHS = ("signatures", "macs")
TENTATIVE = {**SMALL, "tentative": True}


def settings(auth: str, **more: Any) -> dict[str, Any]:
    return {**SMALL, "auth": auth, **more}


def agreed(cluster: Changing, faulty: tuple[int, ...] = ()) -> None:
    """At the end: correct replicas executed the same, are of one state, and nobody correct is accused."""
    cluster.run(2 * SECOND)
    assert cluster.check_agreement(faulty) > 0, "vacuous"
    members = [node for node in cluster.present().ids if node not in faulty and node in cluster.servers]
    executed = {cluster.core(node).executed for node in members}
    assert len(executed) == 1, cluster.standing()
    assert len({cluster.replicas[node].executor.digest() for node in members}) == 1
    assert not [charge for _, charge in cluster.accusations if charge.culprit not in faulty]


# ------------------------------------------------------------------------------------------------------ the good case


@pytest.mark.parametrize("auth", AUTHS)
def test_one_is_replaced_f_grows_and_shrinks_under_load(auth: str) -> None:
    cluster = Changing(4, settings(auth))
    cluster.work(3)
    cluster.add(4)
    cluster.become(add=[4], remove=[0])
    cluster.work(3)
    for node in (5, 6, 7):
        cluster.add(node)
        cluster.become(add=[node], f=2 if node == 7 else 1)
        cluster.work(2)
    assert [cluster.core(node).notary.quorum for node in (1, 4, 7)] == [5, 5, 5]
    for node in (1, 2, 3):
        cluster.become(remove=[node], f=1)
        cluster.work(2)
    assert cluster.present().ids == (4, 5, 6, 7)
    assert cluster.core(4).notary.quorum == 3
    assert all(cluster.outsider(node).role is Role.REMOVED for node in (0, 1, 2, 3))
    agreed(cluster)


@pytest.mark.parametrize("auth", AUTHS)
def test_several_come_at_once_with_another_f(auth: str) -> None:
    cluster = Changing(4, settings(auth))
    for node in (4, 5, 6):
        cluster.add(node)
    cluster.become(add=[4, 5, 6], f=2)
    cluster.work(9)
    assert cluster.core(6).notary.weak_quorum == 3
    agreed(cluster)


@pytest.mark.parametrize("auth", AUTHS)
def test_nothing_beyond_the_boundary_is_voted_on_before_the_turn(auth: str) -> None:
    """Requests go on up to the boundary; what waits there gets its number in the next epoch, once."""
    cluster = Changing(4, settings(auth, in_flight_max=8, batch_requests_max=1))
    cluster.add(4)
    request = cluster.change(add=[4], remove=[1])
    for timestamp in range(1, 41):
        cluster.submit("ann", timestamp, range(4))
    done = lambda: cluster.reached(1) and all(cluster.done("ann", timestamp) for timestamp in range(1, 41))  # noqa: E731
    assert cluster.run(20 * SECOND, until=done), cluster.standing()
    boundary = cluster.plug(0).lineage.begins(1)[0]
    assert cluster.outcome(request)[1] == boundary + 1
    for sent in cluster.sent:
        message = inner(sent.message)
        if isinstance(message, (m.PrePrepare, m.Prepare, m.Commit)):
            assert (message.seq > boundary) == isinstance(sent.message, InEpoch), "each epoch orders its own seqs"
    agreed(cluster)


def test_an_idle_cluster_gets_to_the_boundary_by_null_requests() -> None:
    cluster = Changing(4)
    cluster.add(4)
    cluster.become(add=[4])
    assert cluster.plug(0).lineage.begins(1)[0] == 12
    assert [what[0] for seq, what in sorted(cluster.applied[2].items()) if seq > 1] == [()] * 11
    agreed(cluster)


@pytest.mark.parametrize("auth", AUTHS)
def test_null_requests_that_come_before_the_change_is_executed_are_kept(auth: str) -> None:
    """The primary proposes them as soon as it has executed the change itself; no tick is waited for."""
    cluster = Changing(4, settings(auth))
    cluster.add(4)
    if auth == "macs":
        cluster.ask_keys_of(range(4))
    cluster.holds = lambda packet: packet.to in (1, 2) and isinstance(cluster.decode(packet), m.Commit)
    cluster.change(add=[4])
    cluster.run(20 * MS)
    assert [cluster.core(node).executed for node in range(4)] == [1, 0, 0, 1]
    cluster.release()
    cluster.run(20 * MS)
    assert [cluster.core(node).executed for node in range(4)] == [12] * 4, cluster.standing()
    assert not any("null" in rule for node in range(4) for rule in cluster.rules(node))
    assert cluster.run(SECOND, until=lambda: cluster.reached(1)), cluster.standing()
    agreed(cluster)


def test_a_primary_that_lets_a_change_wait_is_replaced() -> None:
    cluster = Changing(4)
    cluster.add(4)
    cluster.blocked = lambda packet: (
        packet.sender == 0 and isinstance(cluster.decode(packet), m.PrePrepare) and not cluster.decode(packet).requests
    )
    cluster.become(add=[4])
    assert cluster.plug(2).epoch == 1
    assert any(note.kind == "view" and note.detail["view"] > 0 for _, note in cluster.notes)
    agreed(cluster)


@pytest.mark.parametrize("auth", AUTHS)
def test_a_change_that_is_executed_tentatively_and_undone_ends_no_epoch(auth: str) -> None:
    """Prepared at one replica alone, then passed by in the next view: it counts when it is decided, not before."""
    cluster = Changing(4, {**TENTATIVE, "auth": auth})
    cluster.add(4)
    cluster.submit("ann", 1, range(4))
    cluster.run(100 * MS)

    def is_commit(packet: Packet) -> bool:
        return isinstance(packet.sender, int) and isinstance(cluster.decode(packet), m.Commit)

    cluster.blocked = is_commit
    cluster.change(add=[4], epoch=0)
    cluster.run(100 * MS)
    assert [cluster.core(node).execution.tentative is not None for node in range(4)].count(True) >= 3
    assert [cluster.core(node).ends for node in range(4)] == [None] * 4, "nothing is decided"
    cluster.heal()
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(1)), cluster.standing()
    agreed(cluster)


def test_what_is_signed_names_the_state_that_its_epoch_begins_with() -> None:
    """Where the log forks at the end of an epoch there are two of the next number: no word counts in both."""
    cluster = Changing(4)
    cluster.add(4)
    cluster.become(add=[4])
    cluster.work(3)
    begins = cluster.plug(0).lineage.begins(1)[1]
    said = [inner(sent.message) for sent in cluster.sent if isinstance(sent.message, InEpoch)]
    votes = [vote for vote in said if isinstance(vote, m.Commit)]
    assert votes, "vacuous"
    for vote in votes:
        kind, fields = signed_part(vote, vote.replica)[0]  # type: ignore[index]
        domains = [Domain(DOMAIN.cluster, 1, each) for each in (begins, b"", bytes(32))]
        good = [cluster.verifier.verify(vote.replica, each.statement(kind, fields), vote.signature) for each in domains]
        assert good == [True, False, False]


# ---------------------------------------------------------------------------------------------------- refused changes


def test_only_the_administrator_changes_the_members() -> None:
    cluster = Changing(4)
    request = cluster.change(add=[4], signer="eve")
    assert cluster.run(SECOND, until=lambda: cluster.done("eve", request.timestamp))
    with pytest.raises(OperationFailed, match="not the administrator's"):
        cluster.outcome(request)
    assert cluster.present().epoch == 0


def test_a_second_change_waits_for_the_first() -> None:
    cluster = Changing(4)
    cluster.add(4)
    cluster.change(add=[4])
    second = cluster.change(remove=[1], epoch=0)
    assert cluster.run(SECOND, until=lambda: cluster.done("eve", second.timestamp))
    with pytest.raises(OperationFailed, match="a change is pending"):
        cluster.outcome(second)


# --------------------------------------------------------------------------------------------------- crash at any step


def crash_points(cluster: Changing, node: int) -> int:
    """Steps of `node` so far."""
    return cluster.steps[node]


class Counted(Changing):
    """Kills a replica after its so manyth step from a moment on, with all that is not durable."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self.steps: dict[int, int] = {}
        self.victims: dict[int, int] = {}
        self.killed: list[int] = []
        super().__init__(*args, **named)

    def step(self, node: int, event: Any) -> Any:
        left = self.victims.get(node)
        if left is not None and node in self.servers:
            self.victims[node] = left - 1
            if left <= 0:
                del self.victims[node]
                self.killed.append(node)
                self.crash(node)
                self.start(node)
                return []
        return super().step(node, event)


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize("node", [0, 2, 4])
def test_a_replica_is_killed_at_any_step_of_the_turn(auth: str, node: int) -> None:
    """The primary, a backup, the one that joins: what is not written is lost, the rest comes back from the disk."""
    killed = 0
    for step in range(0, 60, 4) if node == 4 else range(0, 150, 7):
        cluster = Counted(4, settings(auth))
        cluster.add(4)
        cluster.victims = {node: step}
        cluster.become(add=[4], remove=[1])
        cluster.work(2)
        agreed(cluster)
        killed += len(cluster.killed)
    assert killed > 8, "vacuous"


@pytest.mark.parametrize("auth", AUTHS)
def test_all_are_killed_at_once_in_the_turn(auth: str) -> None:
    for step in range(0, 150, 10):
        cluster = Counted(4, settings(auth))
        cluster.add(4)
        cluster.victims = {node: step + node for node in range(5)}
        cluster.become(add=[4], remove=[1])
        cluster.work(2)
        agreed(cluster)


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize("sync", [True, False])
def test_a_crash_in_the_turn(auth: str, sync: bool) -> None:
    """The state of the boundary is on the disk, the chain is or is not: either way the epoch is begun once, and nothing
    that was said in it is forgotten."""
    cluster = Changing(4, settings(auth))
    cluster.add(4)
    cluster.change(add=[4])
    cluster.autosave = False
    cluster.run(3 * SECOND)
    assert cluster.plug(2).epoch == 0
    assert cluster.core(2).is_over
    cluster.autosync = sync
    for node in range(5):
        cluster.save(node)
    for node in range(4):
        cluster.crash(node)
    chains = [isinstance(cluster.records.decode(raw), m.Links) for _, raw in cluster.disks[2].records]
    assert any(chains) == sync
    cluster.autosync = cluster.autosave = True
    cluster.network.clear()
    for node in range(4):
        cluster.start(node)
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(1)), cluster.standing()
    cluster.work(6)
    agreed(cluster)


def test_nothing_is_said_in_an_epoch_before_its_first_state_is_on_disk() -> None:
    """P16: a crash would take this replica back into the old epoch, and what it said in the new one would be forgotten:
    the primary lies to it when it is back."""
    cluster = Changing(4)
    cluster.add(4)
    cluster.autosave = False
    cluster.change(add=[4])
    cluster.run(3 * SECOND)
    for node in (0, 1, 3):
        cluster.save(node)
    cluster.submit("bob", 1, range(4))
    cluster.run(SECOND)
    cluster.crash(2)
    cluster.autosave = True
    cluster.blocked = lambda packet: packet.to == 2 and epoch_of(cluster.decode(packet)) == 1
    cluster.network.clear()
    cluster.start(2)
    assert cluster.run(20 * SECOND, until=lambda: cluster.plug(2).epoch == 1), cluster.standing()
    cluster.heal()
    cluster.receive(Packet(0, 2, MESSAGES.encode(InEpoch(1, other_pre_prepare(cluster, 13)))))
    cluster.run(SECOND)
    said = [inner(sent.message) for sent in cluster.sent if sent.node == 2 and epoch_of(sent.message) == 1]
    votes = {(vote.view, vote.digest) for vote in said if isinstance(vote, m.Prepare) and vote.seq == 13}
    assert len([digest for view, digest in votes if view == 0]) == 1, "one vote in one place, and not none"


def test_an_older_state_on_disk_ends_no_epoch() -> None:
    """P16: the boundary is stable, and what is saved is the checkpoint before."""
    cluster = Changing(4)
    cluster.add(4)
    cluster.autosave = False
    cluster.change(add=[4])
    cluster.run(3 * SECOND)
    core = cluster.core(2)
    assert core.ends == core.checkpoints.stable.seq == 12
    older, boundary = [state for state in cluster.servers[2].saves if state.index in (8, 12)]
    for state, epoch in ((older, 0), (boundary, 1)):
        cluster.disks[2].save(state)
        cluster.step(2, Saved(state.index))
        assert cluster.plug(2).epoch == epoch


@pytest.mark.parametrize("auth", AUTHS)
def test_who_joins_votes_only_once_its_state_is_on_disk(auth: str) -> None:
    """P16: also where the state was in place before it was told that it is a member."""
    cluster = Changing(4, settings(auth))
    cluster.add(4)
    cluster.autosave = False
    cluster.change(add=[4])
    assert cluster.run(20 * SECOND, until=lambda: cluster.outsider(4).index == 12), cluster.standing()
    for node in range(4):
        cluster.save(node)
    behind = lambda: cluster.outsider(4).role is Role.BEHIND  # noqa: E731
    assert cluster.run(20 * SECOND, until=behind), cluster.standing()
    cluster.run(2 * SECOND)
    assert cluster.plug(4).lineage.latest.epoch == 1
    assert behind()
    cluster.autosave = True
    cluster.save(4)
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(1)), cluster.standing()
    cluster.work(2)
    agreed(cluster)


def other_pre_prepare(cluster: Changing, seq: int) -> m.PrePrepare:
    """By the primary of view 0 of epoch 1, of another batch than it has told the others."""
    batch = m.Batch(cluster.now + EPOCH_US, [cluster.request("ann", 1)])
    signature = cluster.core(0).notary.sign("pre-prepare", (0, seq, batch.digest))
    return m.PrePrepare(0, seq, batch.digest, signature, batch.time, batch.raws)


def test_what_was_promised_in_the_new_epoch_outlives_a_restart() -> None:
    """P16: a vote of the new epoch comes back, votes of the old one do not."""
    cluster = Changing(4)
    cluster.add(4)
    cluster.become(add=[4])
    cluster.work(1)
    cluster.holds = lambda packet: (
        isinstance(packet.sender, int) and isinstance(inner(cluster.decode(packet)), m.Commit)
    )
    cluster.submit("bob", 1, range(5))
    cluster.run(50 * MS)
    before = {seq: slot.digest for seq, slot in cluster.core(2).ordering.slots.items()}
    assert before
    cluster.restart(2)
    after = {seq: slot.digest for seq, slot in cluster.core(2).ordering.slots.items()}
    assert after == before
    assert cluster.plug(2).epoch == 1
    cluster.release()
    agreed(cluster)


def test_a_restart_long_after_the_turn_finds_its_epoch_and_the_chain() -> None:
    """P44: cuts of the log leave them."""
    cluster = Changing(4)
    cluster.add(4)
    cluster.become(add=[4])
    cluster.work(30)
    for node in range(5):
        cluster.restart(node)
    assert [cluster.plug(node).epoch for node in range(5)] == [1] * 5
    assert all(len(cluster.plug(node).lineage.links) == 1 for node in range(5))
    cluster.work(2)
    cluster.become(remove=[0])
    agreed(cluster)


# --------------------------------------------------------------------------------------------------------- left behind


@pytest.mark.parametrize("auth", AUTHS)
def test_a_replica_that_slept_over_two_epochs_comes_back(auth: str) -> None:
    cluster = Changing(4, settings(auth))
    cluster.isolate(3)
    for node in (4, 5):
        cluster.add(node)
        cluster.become(add=[node], nodes=[0, 1, 2, node])
        cluster.work(5)
    assert cluster.plug(3).epoch == 0
    cluster.heal()
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(2, [3])), cluster.standing()
    cluster.work(2)
    agreed(cluster)


@pytest.mark.parametrize("auth", AUTHS)
def test_a_replica_that_was_down_over_two_epochs_comes_back(auth: str) -> None:
    cluster = Changing(4, settings(auth))
    cluster.work(1)
    cluster.crash(3)
    for node in (4, 5):
        cluster.add(node)
        cluster.become(add=[node], nodes=[0, 1, 2, node])
        cluster.work(5)
    cluster.start(3)
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(2, [3])), cluster.standing()
    cluster.work(2)
    agreed(cluster)


def test_a_joiner_that_comes_late_finds_its_way_from_the_first_configuration() -> None:
    """It knows the first one alone, and starts when it is a member of the second but one."""
    cluster = Changing(5)
    cluster.add(5)
    cluster.crash(5)
    cluster.become(add=[5], remove=[0], nodes=[1, 2, 3, 4])
    cluster.work(9)
    cluster.become(remove=[1], nodes=[2, 3, 4])
    cluster.work(9)
    cluster.start(5)
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(2, [5])), cluster.standing()
    cluster.work(2)
    agreed(cluster)


@pytest.mark.parametrize("auth", AUTHS)
def test_a_joiner_that_knows_nobody_who_is_left_is_told_its_way(auth: str) -> None:
    """All of the first configuration are gone from the present one: those who know it speak first, and it asks."""
    cluster = Changing(4, settings(auth))
    for node in range(4, 8):
        cluster.add(node)
        cluster.become(add=[node], remove=[node - 4])
        cluster.work(2)
    assert cluster.present().ids == (4, 5, 6, 7)
    for node in range(4) if auth == "signatures" else ():
        cluster.crash(node)
    cluster.add(8)
    cluster.become(add=[8])
    cluster.work(2)
    agreed(cluster)


@pytest.mark.parametrize("auth", AUTHS)
def test_a_joiner_begins_where_it_was_enrolled(auth: str) -> None:
    """All of the first configuration are gone for good. Under MACs nobody can tell it the way from there."""
    cluster = Changing(4, settings(auth))
    for node in range(4, 8):
        cluster.add(node, cluster.plug(node - 1).lineage.links)
        cluster.become(add=[node], remove=[node - 4])
        cluster.work(2)
        cluster.crash(node - 4)
    cluster.add(8, cluster.plug(7).lineage.links)
    assert cluster.plug(8).lineage.latest.ids == (4, 5, 6, 7)
    assert cluster.outsider(8).role is Role.JOINING
    cluster.become(add=[8])
    cluster.work(2)
    cluster.restart(8)
    assert len(cluster.plug(8).lineage.links) == 5
    agreed(cluster)


@pytest.mark.parametrize("auth", AUTHS)
def test_one_that_is_behind_at_the_boundary_fetches_its_state(auth: str) -> None:
    """It heard nothing of the last seqs of its epoch, and the others have gone on."""
    cluster = Changing(4, settings(auth))
    cluster.add(4)
    cluster.work(2)
    cluster.isolate(2)
    cluster.become(add=[4], nodes=[0, 1, 3])
    cluster.heal()
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(1)), cluster.standing()
    cluster.work(2)
    agreed(cluster)


def test_a_removed_replica_says_so_and_serves_what_it_has() -> None:
    cluster = Changing(4)
    cluster.add(4)
    cluster.become(add=[4], remove=[0])
    assert cluster.plug(0).status().role == "removed from the cluster in epoch 1"
    cluster.receive(Packet("ann", 0, MESSAGES.encode(ConfigurationQuestion(0))))
    sent = list(cluster.servers[0].core.step(cluster.now, received("ann", ConfigurationQuestion(0))))
    assert [len(reply.message.links) for reply in sent] == [1]
    cluster.restart(0)
    assert cluster.outsider(0).role is Role.REMOVED
    before = len(cluster.sent)
    cluster.inject("ann", 0, Submit(cluster.request("ann", 9).raw))
    cluster.run(SECOND)
    assert not [sent for sent in cluster.sent[before:] if sent.node == 0], "it says nothing by itself"


def epoch_of(message: Any) -> int:
    return message.epoch if isinstance(message, InEpoch) else 0


def received(sender: Any, message: Any) -> Any:
    from replog.core import Received

    return Received(sender, message)


# ------------------------------------------------------------------------------------------------------- hostile words


def test_votes_of_a_removed_replica_count_for_nothing() -> None:
    cluster = Changing(4)
    cluster.add(4)
    cluster.become(add=[4], remove=[0])
    core = cluster.core(1)
    digest = b"x" * 32
    vote = m.Prepare(core.view, core.executed + 1, digest, 0, core.notary.sign("prepare", (0, 1, digest, 0)))
    for message in (vote, InEpoch(1, vote), InEpoch(1, m.Status(9, True, 0, 0, False, b"", []))):
        cluster.inject(0, 1, message)
    cluster.settle()
    slot = core.ordering.slots.get(core.executed + 1)
    assert slot is None or slot.prepares.said(0) is None
    assert 0 not in core.hearing.heard_at


@pytest.mark.parametrize("auth", AUTHS)
def test_votes_of_an_old_epoch_count_for_nothing_in_the_new_one(auth: str) -> None:
    """P22: said in epoch 0 of a seq of epoch 1, whether bare or dressed up."""
    cluster = Changing(4, settings(auth))
    cluster.add(4)
    old = cluster.core(2).notary
    cluster.become(add=[4])
    core, digest = cluster.core(1), b"x" * 32
    seq = core.executed + 1
    signature = old.sign("commit", (core.view, seq, digest, 2))
    cluster.inject(2, 1, m.Commit(core.view, seq, digest, 2, signature))
    cluster.settle()
    assert seq not in core.ordering.slots
    proof = m.CommitProof(core.view, seq, digest, [m.Vote(2, signature)])
    assert core.notary.flaw_in_commit(proof)
    if auth == "signatures":
        assert not core.notary.check(2, "commit", (core.view, seq, digest, 2), signature)


def test_strangers_are_not_heard() -> None:
    cluster = Changing(4)
    cluster.add(4)
    cluster.run(SECOND)
    assert any("neither a member" in rule for rule in cluster.rules(1)), "a joiner before its time"
    assert cluster.outsider(4).index == 0
    assert not [sent for sent in cluster.sent if 4 in sent.to]


def test_strangers_are_told_no_part_of_the_state_and_keep_no_words_here() -> None:
    """Who never was a member, and is to be none."""
    cluster = Changing(4)
    cluster.work(5)
    core, stranger, before = cluster.core(1), 9, len(cluster.sent)
    vote = m.Prepare(0, 13, b"x" * 32, stranger, b"")
    for message in (m.FetchPart(core.checkpoints.stable.seq, 1), InEpoch(1, vote), m.Prepare(0, 6, b"x" * 32, 9, b"")):
        known = len(cluster.rules(1))
        cluster.step(1, received(stranger, message))
        assert ["neither a member" in rule for rule in cluster.rules(1)[known:]] == [True], message
    assert not [sent for sent in cluster.sent[before:] if stranger in sent.to]
    cluster.step(1, received(2, m.FetchPart(core.checkpoints.stable.seq, 1)))
    assert [sent.to for sent in cluster.sent[before:] if isinstance(sent.message, m.PartData)] == [(2,)]


def test_an_accusation_names_the_epoch_in_which_it_was_said() -> None:
    """In no other does its file prove anything."""
    cluster = Changing(4)
    cluster.add(4)
    cluster.become(add=[4])
    core = cluster.core(1)
    for digest in (b"x" * 32, b"y" * 32):
        signature = cluster.core(3).notary.sign("commit", (0, core.executed + 1, digest, 3))
        cluster.inject(3, 1, InEpoch(1, m.Commit(0, core.executed + 1, digest, 3, signature)))
    cluster.settle()
    begins = cluster.plug(1).lineage.begins(1)[1]
    told = {(charge.culprit, charge.epoch, charge.begins) for node, charge in cluster.accusations if node == 1}
    assert told == {(3, 1, begins)}


def test_what_nobody_has_signed_ends_no_epoch() -> None:
    """The state before all has a proof without votes: no certificate of it leads anywhere."""
    certificate = certificate_of(m.GENESIS)
    with pytest.raises(ValueError, match="epoch 0 begins at 1"):
        certified(DOMAIN, Changing(4).verifier, Changing(4).genesis, certificate)


def test_the_word_of_strangers_about_a_link_counts_for_nothing() -> None:
    """P43: under MACs those alone who were members of the epoch that it ends can know."""
    cluster = Changing(4, settings("macs"))
    cluster.add(4)
    cluster.isolate(3)
    cluster.become(add=[4], nodes=[0, 1, 2])
    lineage = cluster.plug(3).lineage
    answer = ConfigurationAnswer(0, tuple(cluster.plug(0).lineage.links))
    for sender in (4, 8, 9, 2):
        assert lineage.hear(sender, answer) == ""
        assert lineage.latest.epoch == 0
    lineage.hear(1, answer)
    assert lineage.latest.epoch == 1


@pytest.mark.parametrize("auth", AUTHS)
def test_forged_links_are_refused(auth: str) -> None:
    """P41, P43: neither a proof of too few, nor another path, nor one liar's word moves a replica that is behind."""
    cluster = Changing(4, settings(auth))
    cluster.add(4)
    cluster.isolate(3)
    cluster.become(add=[4], nodes=[0, 1, 2])
    (link,) = cluster.plug(0).lineage.links
    proof = cluster.plug(0).lineage.proof(0)
    plug = cluster.plug(3)
    lies = [
        Link(certificate_of(replace(proof, digest=b"y" * 32)), link.path),
        Link(certificate_of(replace(proof, seq=proof.seq + 4)), link.path),
        Link(link.certificate, (*link.path[:-1], b"\x80")),
        Link(b"\x00", link.path),
    ]
    if auth == "signatures":
        lies.append(Link(certificate_of(replace(proof, votes=proof.votes[:2])), link.path))
    if auth == "macs":
        lies.append(link)
    for lie in lies:
        cluster.receive(Packet(0, 3, MESSAGES.encode(ConfigurationAnswer(0, (lie,)))))
        cluster.run(200 * MS)
    assert plug.lineage.latest.epoch == 0
    cluster.heal()
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(1, [3])), cluster.standing()
    agreed(cluster)


def test_a_state_of_another_digest_is_not_taken_by_a_joiner() -> None:
    """One member lies about the parts: its word is refused, another is asked."""
    cluster = Changing(4)
    cluster.add(4)
    lies: list[Packet] = []

    def send(packet: Any, plain: Any = cluster.send) -> None:
        message = cluster.decode(packet)
        part = packet.to == 4 and isinstance(message, m.PartData) and bool(message.data)
        if part and (not lies or packet.sender == lies[0].sender):
            lies.append(packet)
            packet = Packet(packet.sender, 4, MESSAGES.encode(replace(message, data=b"\x80")))
        plain(packet)

    cluster.send = send  # type: ignore[method-assign]
    cluster.work(5)
    cluster.become(add=[4])
    cluster.work(3)
    assert lies, "vacuous"
    agreed(cluster)


# ------------------------------------------------------------------------------------------------- views and refreshes


@pytest.mark.parametrize("auth", AUTHS)
def test_a_view_change_at_the_boundary(auth: str) -> None:
    """Some ask for the next view when the epoch ends: the new one begins in it or not, and goes on."""
    for turn in range(6):
        cluster = Changing(4, settings(auth))
        cluster.add(4)
        cluster.autosave = False
        cluster.change(add=[4], remove=[1])
        cluster.run(3 * SECOND)
        for node in range(turn % 3 + 1):
            cluster.carry_out(node, cluster.core(node)._ask_for(cluster.core(node).view + 1, "a test"))
        cluster.autosave = True
        if turn > 2:
            cluster.settle()
        for node in range(5):
            cluster.save(node)
        assert cluster.run(30 * SECOND, until=lambda: cluster.reached(1)), cluster.standing()  # noqa: B023
        cluster.work(3)
        agreed(cluster)


@pytest.mark.parametrize("auth", AUTHS)
def test_each_epoch_begins_in_view_0(auth: str) -> None:
    """Also for those that have asked for another one alone, and after a restart."""
    cluster = Changing(4, settings(auth))
    cluster.crash(0)
    cluster.work(2)
    assert cluster.core(1).view == 1
    cluster.add(4)
    cluster.autosave = False
    cluster.change(add=[4], remove=[0])
    cluster.run(3 * SECOND)
    cluster.core(3)._ask_for(2, "a test")
    cluster.autosave = True
    for node in (1, 2, 3, 4):
        cluster.save(node)
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(1)), cluster.standing()
    assert [cluster.core(node).view for node in (1, 2, 3)] == [0] * 3
    assert cluster.core(2).primary == 1, "members[view mod n]"
    cluster.work(2)
    cluster.restart(3)
    assert cluster.core(3).view == 0
    agreed(cluster)


def test_a_refresh_that_meets_a_turn_ends_in_the_next_epoch() -> None:
    cluster = Changing(4)
    cluster.add(4)
    cluster.work(1)
    cluster.change(add=[4])
    cluster.step(2, Command("refresh", {}))
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(1)), cluster.standing()
    done = lambda: any(node == 2 and note.kind == "refreshed" for node, note in cluster.notes)  # noqa: E731
    assert cluster.run(30 * SECOND, until=done), cluster.standing()
    assert all(note.kind != "refresh-failed" for _, note in cluster.notes)
    cluster.work(2)
    agreed(cluster)


def test_what_was_promised_in_an_epoch_outlives_a_refresh() -> None:
    """P16: of a replica that asked alone for another view in each epoch before. What a refresh thinks to be the highest
    view of a correct replica is so in each epoch: it votes once in each place."""
    cluster = Changing(4, {**SMALL, "refresh": True})
    for epoch, leaving in enumerate(([], [4], [5])):
        cluster.autosave = False
        cluster.add(4 + epoch)
        cluster.change(add=[4 + epoch], remove=leaving)
        cluster.run(3 * SECOND)
        core = cluster.core(3)
        core._ask_for(core.view + 1, "a test")
        cluster.autosave = True
        for node in list(cluster.servers):
            cluster.save(node)
        assert cluster.run(20 * SECOND, until=lambda: cluster.reached(epoch + 1)), cluster.standing()  # noqa: B023
    cluster.blocked = lambda packet: isinstance(inner(cluster.decode(packet)), m.PrePrepare)
    cluster.submit("ann", 1, cluster.present().ids)
    cluster.run(100 * MS)
    cluster.step(3, Command("refresh", {}))
    cluster.run(300 * MS)
    for _ in range(4):
        cluster.step(cluster.core(1).primary, Command("step-down", {}))
        cluster.run(300 * MS)
    cluster.submit("bob", 1, cluster.present().ids)
    cluster.run(2 * SECOND)
    placed: dict[tuple[int, int], set[bytes]] = {}
    for sent in cluster.sent:
        message = inner(sent.message)
        if sent.node == 3 and isinstance(message, (m.PrePrepare, m.Prepare)) and epoch_of(sent.message) == 3:
            placed.setdefault((message.view, message.seq), set()).add(message.digest)
    assert placed, "vacuous"
    assert all(len(digests) == 1 for digests in placed.values()), placed
    assert any(note.kind == "refresh" for node, note in cluster.notes if node == 3), "vacuous"
    assert not cluster.accusations


@pytest.mark.parametrize("auth", AUTHS)
def test_the_primary_is_removed(auth: str) -> None:
    cluster = Changing(5, settings(auth))
    cluster.work(2)
    assert cluster.core(1).primary == 0
    cluster.become(remove=[0])
    assert cluster.core(1).primary == 1
    cluster.work(3)
    agreed(cluster)


def test_reads_end_with_the_epoch() -> None:
    """P40: at the boundary others may be an epoch further; nothing is read from there, and answers name their epoch."""
    from replog.apps.counter import Counter
    from replog.types import READ_ONLY, Read, Request
    from tests.pbft.harness import DOMAIN

    cluster = Changing(4)
    cluster.add(4)
    cluster.autosave = False
    cluster.change(add=[4])
    cluster.run(3 * SECOND)
    assert cluster.core(1).is_over
    operations = [Counter.operation("value")]
    for timestamp, epoch in ((1, None), (2, 1)):
        request = Request.make(cluster.signers["bob"].sign, DOMAIN, "bob", timestamp, 0, operations, READ_ONLY)
        cluster.inject("bob", range(4), Read(request.raw))
        cluster.run(100 * MS)
        said = {reply.epoch for reply in cluster.replies.get(("bob", timestamp), {}).values()}
        assert said == (set() if epoch is None else {epoch})
        cluster.autosave = True
        for node in range(5):
            cluster.save(node)
        cluster.run(SECOND)


def test_the_epoch_is_noted_and_told() -> None:
    cluster = Changing(4)
    cluster.add(4)
    cluster.become(add=[4])
    notes = [note for _, note in cluster.notes if isinstance(note, Note) and note.kind == "epoch"]
    assert {tuple(note.detail["members"]) for note in notes} == {(0, 1, 2, 3, 4)}
    assert cluster.plug(1).status().detail["members"] == "0, 1, 2, 3, 4"
    assert member(4) in cluster.present().members


# --------------------------------------------------------------------------------------------- what a restart remembers


def test_a_new_view_of_an_old_epoch_begins_none_in_the_new_one() -> None:
    """Rule R: within an epoch a view begins with a NEW-VIEW of that epoch, or with the epoch."""
    cluster = Changing(4)
    cluster.crash(0)
    cluster.work(2)
    old = cluster.core(2).view_changes.new_view
    assert old is not None
    cluster.start(0)
    cluster.add(4)
    cluster.become(add=[4])
    cluster.restart(2)
    assert cluster.core(2).view_changes.new_view is None
    core = cluster.core(3)
    later = replace(old, view=core.view + 4)
    for message in (old, later, InEpoch(1, old), InEpoch(1, later)):
        cluster.inject(old.view, 3, message)
    cluster.settle()
    assert core.view_changes.new_view is None
    assert core.view_changes.flaw_in_new_view(old)
    cluster.work(2)
    agreed(cluster)


def test_a_joiner_believes_no_unproved_checkpoint() -> None:
    """P41: a proof comes before any part of a state."""
    cluster = Changing(4)
    cluster.add(4)
    outsider = cluster.outsider(4)
    for proof in (
        m.CheckpointProof(40, b"x" * 32, []),
        m.CheckpointProof(40, b"x" * 32, [m.Vote(node, b"y" * 16) for node in (0, 1, 2)]),
    ):
        cluster.inject(0, 4, proof)
    cluster.settle()
    assert outsider.checkpoints.proven.seq == 0
    assert not outsider.transfer.running
    assert any("checkpoint" in rule for rule in cluster.rules(4))


def test_a_tentative_change_that_the_next_view_passes_by() -> None:
    """Executed tentatively at one replica, then something else has its place: the members are still the old ones."""
    cluster = Changing(7, TENTATIVE)
    cluster.add(7)
    cluster.submit("ann", 1, range(7))
    cluster.run(100 * MS)

    def to_one(packet: Packet) -> bool:
        message = cluster.decode(packet) if isinstance(packet.sender, int) else None
        return (isinstance(message, m.Prepare) and packet.to != 3) or isinstance(message, m.Commit)

    cluster.blocked = to_one
    cluster.change(add=[7], epoch=0)
    cluster.run(50 * MS)
    assert cluster.core(3).execution.tentative is not None
    assert cluster.replicas[3].executor.boundary(0) is not None, "in its state it is changed"
    assert cluster.core(3).ends is None
    cluster.crash(0)
    cluster.isolate(3)
    assert cluster.run(3 * SECOND, until=lambda: cluster.core(1).view > 0)
    cluster.run(SECOND)
    assert cluster.core(3).ends is None
    cluster.heal()
    cluster.start(0)
    assert cluster.run(20 * SECOND, until=lambda: cluster.reached(1)), cluster.standing()
    replaced = any(node == 3 and note.kind == "fetch-state" for node, note in cluster.notes)
    assert replaced or cluster.undone, "vacuous"
    cluster.work(2)
    agreed(cluster)


# ------------------------------------------------------------------------------------------------- the simulated world


@pytest.mark.parametrize(("auth", "real"), [("signatures", False), ("signatures", True), ("macs", False)])
def test_a_simulated_cluster_changes_its_members_under_load(auth: str, real: bool) -> None:
    """Replicas and clients learn the keys of new members from the chain."""
    from replog.sim import SimCluster

    options = {"auth": auth, "checkpoint_interval": 16, "log_window": 32}
    cluster = SimCluster(SPEC, 4, 1, options, clients=("c0", "c1"), membership=True, real_signatures=real)
    writes = ([KeyValue.operation("put", "x", str(number))] for number in itertools.count())
    cluster.client("c0").load(writes, 4, pause_us=2_000)
    for add, remove, f in ((1, [0], 1), (3, [], 2), (0, [1, 2], 1)):
        epoch = cluster.configuration.epoch
        cluster.change([cluster.add() for _ in range(add)], remove, f, client="c1")
        cluster.run_until(lambda: all_in(cluster, epoch + 1), 20 * SECOND)  # noqa: B023
    assert cluster.members == (3, 4, 5, 6, 7)
    before = cluster.client("c0").acknowledged
    cluster.run_until(lambda: cluster.client("c0").acknowledged > before + 50)
    assert not cluster.client("c0").failures
    assert cluster.client("c0").followed[-1].ids == cluster.members
    cluster.check_invariants()


def all_in(cluster: Any, epoch: int) -> bool:
    if cluster.configuration.epoch < epoch:
        return False
    known = [cluster.status(node) for node in cluster.members]
    return all(status is not None and status.detail["epoch"] == epoch for status in known)


def test_a_simulated_cluster_without_membership_keeps_its_members() -> None:
    from replog.sim import SimCluster

    cluster = SimCluster(SPEC, 4, 1)
    assert cluster.members == (0, 1, 2, 3)
    with pytest.raises(ValueError, match="made without membership"):
        cluster.add()
    with pytest.raises(ValueError, match="made without membership"):
        cluster.change(remove=[0])
