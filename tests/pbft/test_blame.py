"""After a fork by f + 1 colluders: one correct replica's archive and the other side's certificate name f + 1 liars."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from pbft import SPEC
from pbft import messages as m
from pbft.blame import Blame, Transcript, blame
from pbft.evidence import NotProven
from replog.core import Persist, Received, Timeout
from tests.pbft import forge
from tests.pbft.forks import Fork
from tests.pbft.harness import DOMAIN, Cluster
from tests.pbft.proofs import verdict


def hear(cluster: Cluster, node: int, sender: int, *messages: Any) -> None:
    for message in messages:
        cluster.step(node, Received(sender, message))


def archived(cluster: Cluster, node: int) -> list[Any]:
    """What the node's archive has: certificates reach the disk with the status tick."""
    cluster.step(node, Timeout("status"))
    kept = [SPEC.archived(cluster.records.decode(raw)) for _, raw in cluster.disks[node].records]  # type: ignore[attr-defined]
    return [record for record in kept if record is not None]


def certificate(cluster: Cluster, node: int, seq: int = 1) -> m.CommitProof:
    return Transcript.of(archived(cluster, node)).commits[seq][0]


def inquiry(cluster: Cluster, node: int, other: m.CommitProof, shown: Iterable[m.NewView] = ()) -> Blame:
    transcript = Transcript.of(archived(cluster, node))
    return blame(transcript, other, DOMAIN, cluster.verifier, (cluster.n, cluster.f), list(shown))


def fork_in_one_view(n: int, liars: tuple[int, ...], sides: tuple[tuple[int, ...], tuple[int, ...]]) -> Cluster:
    """Node 0 and its friends give each side a batch of its own, and vote for both."""
    cluster = Cluster(n)
    cluster.blocked = lambda packet: True
    for side, client in zip(sides, ("ann", "bob"), strict=True):
        proposal = forge.pre_prepare(cluster, 0, 1, [cluster.request(client, 1)])
        for node in side:
            hear(cluster, node, 0, proposal)
            for voter in (*liars, *side):
                if voter not in (0, node):
                    hear(cluster, node, voter, forge.prepare(cluster, voter, 0, 1, proposal.digest))
            for voter in (*liars, *side):
                if voter != node:
                    hear(cluster, node, voter, forge.commit(cluster, voter, 0, 1, proposal.digest))
    return cluster


FORKS = [(4, (0, 1), ((2,), (3,))), (7, (0, 1, 2), ((3, 4), (5, 6))), (7, (0, 1, 2, 3), ((4,), (5, 6)))]


@pytest.mark.parametrize(("n", "liars", "sides"), FORKS)
def test_a_fork_in_one_view_names_f_plus_1_liars(n: int, liars: tuple[int, ...], sides: Any) -> None:
    cluster = fork_in_one_view(n, liars, sides)
    one, other = sides[0][0], sides[1][0]
    assert [cluster.core(node).executed for node in (one, other)] == [1, 1], "a fork"
    found = inquiry(cluster, one, certificate(cluster, other))
    assert found.enough
    assert len(found.culprits) >= cluster.f + 1
    assert set(found.culprits) <= set(liars)
    assert all(verdict(cluster, accusation) == text for accusation, text in found.culprits.values())


def fork_over_views() -> Cluster:
    """Node 0 commits in view 0 with the votes of 1 and 3, which hide that from view 1, where node 2 commits another."""
    cluster = Cluster()
    cluster.blocked = lambda packet: True
    cluster.submit("ann", 1)
    cluster.deliver()
    digest = cluster.core(0).ordering.slots[1].digest
    assert digest is not None
    for voter in (1, 3):
        hear(cluster, 0, voter, forge.prepare(cluster, voter, 0, 1, digest))
    for voter in (1, 3):
        hear(cluster, 0, voter, forge.commit(cluster, voter, 0, 1, digest))
    hidden = [forge.view_change(cluster, node, 1) for node in (1, 3)]
    for node, message in zip((1, 3), hidden, strict=True):
        hear(cluster, 2, node, message)
    asked = cluster.core(2).view_changes.own
    assert asked is not None
    hear(cluster, 2, 1, forge.new_view(cluster, 1, [hidden[0], asked, hidden[1]], []))
    second = forge.pre_prepare(cluster, 1, 1, [cluster.request("bob", 1)])
    hear(cluster, 2, 1, second)
    hear(cluster, 2, 3, forge.prepare(cluster, 3, 1, 1, second.digest))
    for voter in (1, 3):
        hear(cluster, 2, voter, forge.commit(cluster, voter, 1, 1, second.digest))
    return cluster


def test_a_fork_over_views_names_those_that_hid_what_they_had_committed_to() -> None:
    cluster = fork_over_views()
    assert [cluster.core(node).executed for node in (0, 2)] == [1, 1], "a fork"
    found = inquiry(cluster, 2, certificate(cluster, 0))
    assert set(found.culprits) == {1, 3}
    assert found.enough
    assert {accusation.kind for accusation, _ in found.culprits.values()} == {"hides-prepared"}
    assert found.window == "seqs 1 .. 1, NEW-VIEWs of views [1]"


def test_the_side_of_the_lower_view_needs_the_new_views_of_the_other() -> None:
    cluster = fork_over_views()
    other = certificate(cluster, 2)
    alone = inquiry(cluster, 0, other)
    assert not alone.enough
    assert not alone.culprits
    shown = [record for record in archived(cluster, 2) if isinstance(record, m.NewView)]
    assert set(inquiry(cluster, 0, other, shown).culprits) == {1, 3}


def test_without_a_fork_nobody_is_named() -> None:
    cluster = Cluster()
    cluster.submit("ann", 1)
    cluster.settle()
    with pytest.raises(NotProven, match="both sides have committed the same"):
        inquiry(cluster, 1, certificate(cluster, 2))
    with pytest.raises(NotProven, match=r"it covers seqs 1 \.\. 1, no NEW-VIEW"):
        inquiry(cluster, 1, forge.committed(cluster, 0, 2, b"x" * 32, [0, 1, 2]))


def test_a_certificate_that_is_none_proves_nothing() -> None:
    cluster = fork_in_one_view(*FORKS[0])
    other = certificate(cluster, 3)
    with pytest.raises(NotProven, match="bad signature"):
        inquiry(cluster, 2, m.CommitProof(0, 1, b"y" * 32, other.votes))
    with pytest.raises(NotProven, match="distinct replicas"):
        inquiry(cluster, 2, m.CommitProof(0, 1, other.digest, other.votes[:2]))


def test_under_macs_nobody_can_be_proved_to_have_lied() -> None:
    cluster = Cluster(options={"auth": "macs"})
    assert not archived(cluster, 0)
    unsigned = m.CommitProof(0, 1, b"x" * 32, [m.Vote(node, b"") for node in (0, 1, 2)])
    assert SPEC.archived(unsigned) is None  # type: ignore[attr-defined]
    with pytest.raises(NotProven, match="auth = macs"):
        inquiry(cluster, 0, unsigned)


def test_after_a_fork_a_correct_replica_stays_with_what_it_decided_first() -> None:
    """It may lack the body still: the other certificate, on its disk, would count after a restart."""
    cluster = fork_in_one_view(*FORKS[0])
    other = certificate(cluster, 3)
    body = cluster.core(3).ordering.slots[1].decided
    assert body is not None
    before = cluster.core(2).ordering.slots[1].committed
    cluster.core(2).ordering.decide_by(m.Committed(other, body.time, body.raws), body)
    assert cluster.core(2).ordering.slots[1].committed == before
    saved = [effect.record for effect in cluster.core(2).ordering.save() if isinstance(effect, Persist)]
    assert not any(isinstance(record, m.Committed) for record in saved)


# ------------------------------------------------------------------------------------------------ two worlds, one log

CASES: dict[str, dict[str, Any]] = {
    "n=4, two liars, one view": {"n": 4, "liars": (0, 1), "side": (2,)},
    "n=4, one view, above a checkpoint": {"n": 4, "liars": (0, 3), "side": (2,), "before": 6, "after": 1},
    "n=4, one view, below a checkpoint": {"n": 4, "liars": (0, 1), "side": (2,), "before": 1, "after": 9},
    "n=4, over a view": {"n": 4, "liars": (1, 3), "side": (0,), "views": (0, 1)},
    "n=4, over three views, around a checkpoint": {
        "n": 4,
        "liars": (1, 3),
        "side": (0,),
        "views": (0, 3),
        "before": 6,
        "after": 5,
    },
    "n=7, three liars, one view": {"n": 7, "liars": (0, 1, 2), "side": (3, 4), "before": 3, "after": 2},
    "n=7, four liars, one view": {"n": 7, "liars": (0, 1, 2, 3), "side": (4,), "before": 5, "after": 4},
    "n=7, three liars, over a view": {"n": 7, "liars": (1, 2, 3), "side": (0, 4), "views": (0, 1)},
    "n=7, four liars, over five views": {"n": 7, "liars": (1, 2, 3, 6), "side": (0,), "views": (0, 5)},
    "n=7, both sides in later views": {
        "n": 7,
        "liars": (1, 2, 3),
        "side": (0, 4),
        "views": (3, 5),
        "before": 5,
        "after": 6,
    },
}


def named(fork: Fork, after: int = 1) -> int:
    """Whom each side names, at the first and the last seq that differ; none of them correct, each proved. How many."""
    least = fork.n
    for side in (0, 1):
        for seq in {fork.seq, fork.seq + after - 1}:
            found = fork.inquiry(side, seq)
            assert set(found.culprits) <= set(fork.liars), "no correct replica"
            assert all(verdict(fork.worlds[0], accusation) == text for accusation, text in found.culprits.values())
            assert found.enough
            least = min(least, len(found.culprits))
    return least


@pytest.mark.parametrize("case", CASES)
def test_colluders_in_two_worlds_are_named_by_either_side(case: str) -> None:
    how = CASES[case]
    fork = Fork(**how)
    assert named(fork, how.get("after", 1)) >= fork.worlds[0].f + 1


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 60))])
def test_any_fork_names_f_plus_1_liars_and_no_correct_one(seed: int) -> None:
    chance = random.Random(seed)
    n, f = chance.choice(((4, 1), (7, 2)))
    nodes = chance.sample(range(n), n)
    count = chance.randint(f + 1, 2 * f)
    liars, rest = tuple(nodes[:count]), nodes[count:]
    views = tuple(sorted(chance.choice(range(4)) for _ in range(2)))
    least = len(rest) - (len(rest) // 2)
    side = tuple(rest[:least])
    present = [{*liars, *side}, {*liars, *rest[least:]}]
    leads = [
        next(view for view in range(view, view + n) if view % n in here)
        for view, here in zip(views, present, strict=True)
    ]
    after = chance.randint(1, 6)
    fork = Fork(n, liars, side, (leads[0], leads[1]), chance.randint(0, 6), after)
    assert named(fork, after) >= f + 1


def test_where_the_archive_lacks_the_new_views_it_says_which_it_has() -> None:
    fork = Fork(4, (1, 3), (0,), (0, 1))
    found = fork.inquiry(0, shown=False)
    assert not found.enough
    assert not found.culprits
    assert found.window == "seqs 1 .. 2, no NEW-VIEW"


def test_without_the_replicas_that_both_sides_share_there_is_no_fork() -> None:
    """The colluders' double life is what forks: f of them cannot."""
    with pytest.raises(AssertionError):
        Fork(4, (0,), (1, 2))
