"""[CL99 5.1] Execution of what is prepared, before it is committed: answered, confirmed, or taken back."""

from __future__ import annotations

from typing import Any

import pytest

from pbft import PbftCore
from pbft import messages as m
from pbft.execution import Execution
from replog.core import Apply, Effect, Received, Rollback
from replog.types import Answer
from tests.pbft import forge
from tests.pbft.chance import Chance
from tests.pbft.harness import SECOND, SMALL, Cluster, Disagreement

OPTIONS = {**SMALL, "tentative": True}


def said(cluster: Cluster, client: str, timestamp: int) -> dict[int, Answer]:
    return {node: Answer(reply.answer) for node, reply in cluster.replies.get((client, timestamp), {}).items()}


def test_5_1_what_is_prepared_is_executed_and_answered_before_it_is_committed() -> None:
    cluster = Cluster(options=OPTIONS)
    cluster.holds = lambda packet: type(packet.message) is m.Commit
    cluster.submit("ann", 1)
    cluster.submit("ann", 2)
    cluster.settle()
    assert said(cluster, "ann", 1) == dict.fromkeys(range(4), Answer.TENTATIVE)
    assert said(cluster, "ann", 2) == {}, "one batch ahead, no further"
    assert cluster.executed() == [0] * 4
    assert [len(replica.journal.read(1, 9)) for replica in cluster.replicas.values()] == [0] * 4, "not in the log yet"
    cluster.release()
    cluster.settle()
    assert cluster.executed() == [2] * 4
    assert [len(replica.journal.read(1, 9)) for replica in cluster.replicas.values()] == [2] * 4
    cluster.submit("ann", 1)
    cluster.settle()
    assert said(cluster, "ann", 1)[0] is Answer.DONE, "asked again, the answer is final"


def test_5_1_asked_again_meanwhile_the_answer_is_still_tentative() -> None:
    cluster = Cluster(options=OPTIONS)
    cluster.holds = lambda packet: type(packet.message) is m.Commit
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.replies.clear()
    cluster.submit("ann", 1, to=range(4))
    cluster.settle()
    assert set(said(cluster, "ann", 1).values()) == {Answer.TENTATIVE}


def test_5_1_a_checkpoint_is_of_what_is_decided() -> None:
    cluster = Cluster(options=OPTIONS)
    cluster.holds = lambda packet: type(packet.message) is m.Commit and packet.message.seq == 4
    for timestamp in range(1, 5):
        cluster.submit("ann", timestamp)
        cluster.settle()
    assert cluster.executed() == [3] * 4
    assert not any(type(sent.message) is m.Checkpoint for sent in cluster.sent)
    cluster.release()
    cluster.settle()
    assert [cluster.core(node).checkpoints.stable.seq for node in range(4)] == [4] * 4


def test_5_1_among_more_than_f_liars_a_step_ends() -> None:
    """Three commit to what node 3 has not prepared: it takes back what it executed and waits for the other batch."""
    cluster = Cluster(options=OPTIONS)
    first = forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)])
    second = forge.pre_prepare(cluster, 0, 1, [cluster.request("bob", 1)])
    replica = cluster.replicas[3]  # without the harness, which holds that two never contradict each other
    replica.step(0, Received(0, first))
    effects = replica.step(0, Received(2, forge.prepare(cluster, 2, 0, 1, first.digest)))
    assert [effect.tentative for effect in effects if type(effect) is Apply] == [True]
    for node in (0, 1, 2):
        effects = replica.step(0, Received(node, forge.commit(cluster, node, 0, 1, second.digest)))
    assert Rollback(0) in effects
    effects = replica.step(0, Received(0, m.BatchData(1, second.time, second.requests)))
    assert [effect.requests[0].client for effect in effects if type(effect) is Apply] == ["bob"]
    assert replica.status().index == 1


def test_5_1_what_prepared_in_an_older_view_is_nothing_for_what_this_one_has_there() -> None:
    """Node 3 has executed ann's tentatively; view 1 has bob's there, which has not prepared yet."""
    cluster = Cluster(options=OPTIONS)
    first = forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)])
    cluster.step(3, Received(0, first))
    cluster.step(3, Received(2, forge.prepare(cluster, 2, 0, 1, first.digest)))
    assert said(cluster, "ann", 1) == {3: Answer.TENTATIVE}
    asks = [forge.view_change(cluster, node, 1) for node in (0, 1, 2)]
    second = forge.pre_prepare(cluster, 1, 1, [cluster.request("bob", 1)])
    for message in (forge.new_view(cluster, 1, asks, []), second):
        cluster.step(3, Received(1, message))
    assert cluster.core(3).ordering.slots[1].digest == second.digest
    assert said(cluster, "bob", 1) == {}
    cluster.step(3, Received(2, forge.prepare(cluster, 2, 1, 1, second.digest)))
    assert said(cluster, "bob", 1) == {3: Answer.TENTATIVE}


class TakesNothingBack(PbftCore):
    class execution_type(Execution):  # noqa: N801
        def _stands(self, slot: Any) -> bool:
            """What is decided there is taken for what was executed."""
            return slot is not None


def split_off(core: type[PbftCore]) -> Cluster:
    """Node 1 alone prepares ann#6 and executes it tentatively after five decided ones; then it is cut off, and the next
    views put bob#1 there."""
    cluster = Cluster(options=OPTIONS, core=core)
    for timestamp in range(1, 6):
        cluster.submit("ann", timestamp)
        cluster.settle()
    cluster.blocked = lambda packet: packet.to != 1 and type(packet.message) in (m.Prepare, m.Commit)
    cluster.submit("ann", 6)
    cluster.settle()
    assert said(cluster, "ann", 6) == {1: Answer.TENTATIVE}
    cluster.blocked = lambda packet: (
        1 in (packet.sender, packet.to)
        or (type(packet.message) in (m.PrePrepare, m.Prepare, m.Commit) and packet.message.view == 0)
    )
    cluster.submit("bob", 1, to=(0, 2, 3))
    assert cluster.run(30 * SECOND, until=lambda: cluster.done_by("bob", 1, (0, 2, 3)))
    return cluster


def replaced(core: type[PbftCore]) -> Cluster:
    cluster = split_off(core)
    cluster.heal()
    cluster.run(30 * SECOND, until=lambda: len(set(cluster.executed())) == 1)
    return cluster


def test_5_1_what_a_new_view_replaces_is_taken_back() -> None:
    cluster = replaced(PbftCore)
    assert cluster.undone == 1
    check(cluster)


class StandsWhileViewsChange(PbftCore):
    class execution_type(Execution):  # noqa: N801
        def _stands(self, slot: Any) -> bool:
            return super()._stands(slot) or not self._ordering.active


def told_between_views(core: type[PbftCore]) -> Cluster:
    """Node 1 has left its view, with ann#6 executed tentatively, when it is told that bob#1 was decided there."""
    cluster = split_off(core)
    slot = cluster.core(2).ordering.slots[6]
    assert slot.committed is not None
    assert slot.decided is not None
    cluster.carry_out(1, cluster.core(1)._ask_for(9, "test"))
    told = m.Committed(slot.committed, slot.decided.time, slot.decided.raws)
    cluster.step(1, Received(2, told))
    return cluster


def test_5_1_what_is_decided_otherwise_does_not_stand_between_views_either() -> None:
    """Found by random-byzantine."""
    cluster = told_between_views(PbftCore)
    assert (cluster.undone, cluster.executed()[1]) == (1, 6)
    cluster.check_agreement()
    with pytest.raises((Disagreement, ValueError)):
        told_between_views(StandsWhileViewsChange).check_agreement()


def check(cluster: Cluster) -> None:
    assert len(set(cluster.executed())) == 1
    assert len(cluster.digests()) == 1
    cluster.check_agreement()


def test_5_1_a_core_that_takes_nothing_back_goes_wrong() -> None:
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
        check(replaced(TakesNothingBack))


@pytest.mark.parametrize("liars", [0, 1])
@pytest.mark.parametrize("auth", ["signatures", "macs"])
@pytest.mark.parametrize("seed", range(300, 306))
def test_tentative_execution_under_random_schedules(seed: int, auth: str, liars: int) -> None:
    chance = Chance(seed, 4, liars, options={**OPTIONS, "auth": auth})
    chance.trouble(2000)
    chance.calm()
    assert chance.judge() > 0, "vacuous"


def test_5_1_a_state_taken_back_below_the_window_waits_for_the_proved_one() -> None:
    """Found by random-byzantine: what was decided since the checkpoint is cut before it is applied again."""
    cluster = Cluster(options=OPTIONS)
    for timestamp in range(1, 4):
        cluster.submit("ann", timestamp)
        cluster.settle()
    core = cluster.core(3)
    core.execution._applied = 0
    core.ordering.raise_high(2 * core.options.log_window)
    assert core.execution.next() == []


class SaysItOnce(PbftCore):
    class execution_type(Execution):  # noqa: N801
        def _confirm(self, slot: Any) -> list[Effect]:
            effects = super()._confirm(slot)
            self.was_tentative = True
            return effects


@pytest.mark.parametrize(("core", "heard"), [(PbftCore, True), (SaysItOnce, False)])
def test_5_1_answers_of_two_views_make_no_result_until_it_is_decided(core: type[PbftCore], heard: bool) -> None:
    """Nodes 1 and 2 answer tentatively in view 0, node 3 prepares in view 1: nobody would wait for what all know."""
    cluster = Cluster(options=OPTIONS, core=core)
    cluster.blocked = lambda packet: (
        type(packet.message) in (m.Prepare, m.Commit)
        and packet.message.view == 0
        and (packet.to == 3 or type(packet.message) is m.Commit)
    )
    cluster.submit("ann", 1)
    cluster.settle()
    cluster.crash(0)
    cluster.run(30 * SECOND, until=lambda: cluster.executed()[1:] == [1] * 3)
    cluster.settle()
    answers = said(cluster, "ann", 1)
    assert answers[3] == Answer.TENTATIVE
    assert (answers[1] == answers[2] == Answer.DONE) is heard, "with those of view 1 they make a quorum"
