"""What was promised outlives a power cut: all correct replicas lose at once whatever was not on a disk. (HAZARDS P16)

Records and states become durable when the test says so; until then a crash takes them, and all that waited for them.
Each scenario goes wrong on a core that lacks the one rule that it is about.
"""

from __future__ import annotations

from typing import Any

import pytest

from pbft import PbftCore
from pbft import messages as m
from pbft.ordering import Ordering
from replog.core import Effect, Received, SaveState
from tests.pbft import forge
from tests.pbft.harness import SECOND, SMALL, Cluster, Disagreement, Packet
from tests.pbft.test_checkpoint import load


class VotesBeforeItIsDurable(PbftCore):
    """CHECKPOINT leaves while the way to its state may still be lost."""

    def _on_checkpointed(self, event: Any) -> list[Effect]:
        kept = self.ordering.save
        self.ordering.save = list  # type: ignore[method-assign]
        try:
            return super()._on_checkpointed(event)
        finally:
            self.ordering.save = kept  # type: ignore[method-assign]


class VotesBelowTheNewView(PbftCore):
    """A new view's primary may give a number at or below min-s once more."""

    class ordering_type(Ordering):  # noqa: N801
        @property
        def bottom(self) -> int:
            return max(self.low, self.high - 2 * self._notary.log_window)


class BreaksBoth(VotesBeforeItIsDurable):
    ordering_type = VotesBelowTheNewView.ordering_type


class SavesTheLatest(PbftCore):
    """A state is saved as soon as it is made, stable or not."""

    def _on_checkpointed(self, event: Any) -> list[Effect]:
        effects = super()._on_checkpointed(event)
        early = SaveState(event.index)
        return effects if early in effects else [*effects, early]


LIAR = 1
CORRECT = (0, 2, 3)


def fork(core: type[PbftCore]) -> Cluster:
    """A liar keeps the only proof of checkpoint 4 until a power cut has taken that state from all others; then, as
    primary of view 1, it shows the proof and gives number 4 to something else."""
    cluster = Cluster(options=SMALL, core=core)
    load(cluster, 3)
    for node in range(4):
        cluster.fire(node, "status")
    cluster.settle()
    cluster.autosave = False
    cluster.blocked = lambda packet: _kept_from_3(packet) or _checkpoint_of_the_liar(packet)
    cluster.submit("ann", 4, low=3, amount=100)
    cluster.settle()
    assert cluster.done("ann", 4)
    proof = cluster.core(LIAR).checkpoints.proven
    assert proof.seq == 4, "the liar holds the proof"
    for node in CORRECT:
        cluster.crash(node)
    cluster.network.clear()
    cluster.blocked = lambda packet: True
    cluster.autosave = True
    for node in CORRECT:
        cluster.start(node)
    _new_view_of_the_liar(cluster, proof)
    for node in CORRECT:
        cluster.fire(node, "status")
    for node in CORRECT:
        cluster.crash(node)
        cluster.start(node)
    cluster.settle()
    return cluster


def _kept_from_3(packet: Packet) -> bool:
    kinds = (m.Commit, m.Committed, m.Checkpoint, m.CheckpointProof)
    return packet.to == 3 and isinstance(packet.message, kinds)


def _checkpoint_of_the_liar(packet: Packet) -> bool:
    return packet.to in (0, 2) and packet.sender == LIAR and isinstance(packet.message, m.Checkpoint)


def _new_view_of_the_liar(cluster: Cluster, proof: m.CheckpointProof) -> None:
    parts = [forge.view_change(cluster, LIAR, 1, [], proof)]
    for node in CORRECT:
        cluster.carry_out(node, cluster.core(node)._ask_for(1, "timeout"))
        own = cluster.core(node).view_changes.own
        assert own is not None
        parts.append(own)
    new_view = forge.new_view(cluster, 1, sorted(parts[:3], key=lambda part: part.replica), [])
    cluster.network.clear()
    cluster.blocked = lambda packet: packet.to == LIAR
    other = forge.pre_prepare(cluster, 1, 4, [cluster.request("bob", 1, amount=7)])
    for message in (new_view, other):
        for node in CORRECT:
            cluster.step(node, Received(LIAR, message))
    cluster.settle()


def test_p16_what_a_checkpoint_covered_is_not_ordered_again_after_a_power_cut() -> None:
    cluster = fork(PbftCore)
    assert all(cluster.core(node).view == 1 for node in CORRECT), "not vacuous: the liar's view began"
    cluster.check_agreement({LIAR})
    assert not cluster.done("bob", 1)
    assert cluster.core(0).executed == 4, "and nobody forgot it"


def test_p16_without_both_rules_the_log_forks_and_one_replica_contradicts_itself() -> None:
    with pytest.raises(Disagreement):
        fork(BreaksBoth).check_agreement({LIAR})


def test_either_rule_alone_keeps_the_log_in_one() -> None:
    fork(VotesBeforeItIsDurable).check_agreement({LIAR})
    fork(VotesBelowTheNewView).check_agreement({LIAR})


def power_cut(core: type[PbftCore]) -> Cluster:
    """The proof of checkpoint 4 is on all disks, its state on none."""
    cluster = Cluster(options=SMALL, core=core)
    load(cluster, 3)
    cluster.autosave = False
    load(cluster, 1, first=4)
    assert cluster.done("ann", 4)
    for node in range(4):
        cluster.crash(node)
    cluster.network.clear()
    cluster.autosave = True
    for nodes in ((0, 1), (2, 3)):
        for node in nodes:
            cluster.start(node)
        cluster.run(SECOND)
    for _ in range(10):
        cluster.submit("ann", 5, range(4), low=4)
        cluster.run(2 * SECOND)
    return cluster


def test_p16_a_power_cut_between_proof_and_saved_state_stops_nobody_for_good() -> None:
    cluster = power_cut(PbftCore)
    assert cluster.executed() == [5] * 4
    assert cluster.done("ann", 5)
    assert not power_cut(VotesBeforeItIsDurable).done("ann", 5), "the broken core is told apart"


def restarts_one_by_one(core: type[PbftCore]) -> Cluster:
    """Node 0 fails after 12, whose checkpoint is stable nowhere else; 1 and 2 restart; 3 needs what they have."""
    cluster = Cluster(options=SMALL, core=core)
    load(cluster, 2)
    cluster.blocked = lambda packet: (
        3 in (packet.to, packet.sender)
        or (packet.sender == 0 and isinstance(packet.message, m.Checkpoint) and packet.message.seq == 12)
    )
    load(cluster, 10, first=3)
    cluster.crash(0)
    for node in (1, 2):
        cluster.crash(node)
        cluster.start(node)
    cluster.heal()
    for _ in range(15):
        cluster.submit("ann", 13, range(4), low=12)
        cluster.run(4 * SECOND)
    return cluster


def test_4_3_a_restart_keeps_the_state_that_a_laggard_can_be_shown() -> None:
    cluster = restarts_one_by_one(PbftCore)
    assert cluster.executed() == [13] * 3
    assert cluster.done("ann", 13)
    assert restarts_one_by_one(SavesTheLatest).core(3).executed < 12, "the broken core is told apart"


def test_what_is_not_durable_is_not_said() -> None:
    """The harness itself: nothing leaves before its record, and a crash takes both."""
    cluster = Cluster(options=SMALL)
    cluster.autosync = False
    cluster.submit("ann", 1)
    cluster.settle()
    assert not [message for _, _, message in cluster.sent if isinstance(message, m.PrePrepare)]
    cluster.crash(0)
    cluster.start(0)
    assert cluster.core(0).ordering.next_seq == 1
    assert not cluster.disks[0].records
