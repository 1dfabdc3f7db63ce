"""Evidence: nothing that a correct replica signs makes any, whatever happens to it; what liars sign makes much."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest

from compare.evidence import certified
from pbft import PbftCore
from pbft import messages as m
from pbft.beginnings import NAMED_MAX, VIEWS_MAX
from pbft.catch_up import ANSWERS
from pbft.core import TESTIFIED
from pbft.evidence import NotProven, convict
from pbft.memory import ODD_MAX, PLACES_MAX, REACH, STRAYS_MAX, WAITING_MAX
from pbft.notary import ACCUSATIONS_MAX
from pbft.statements import HIDES
from pbft.witness import SHOWINGS_MAX
from replog import evidence
from replog.core import Accuse, Command, Effect, Received, Setup
from replog.evidence import Pin
from replog.types import Request, Submit
from tests.pbft import forge
from tests.pbft.chance import Chance, NotLive
from tests.pbft.harness import DOMAIN, SECOND, SMALL, Cluster, replace
from tests.pbft.proofs import charges, convictions, statements, verdict
from tests.pbft.test_checkpoint import Amnesiac
from tests.pbft.turning import Turning


def hear(cluster: Cluster, node: int, sender: int, message: Any) -> None:
    cluster.step(node, Received(sender, message))


def play(seed: int, **how: Any) -> Chance:
    chance = Chance(seed, **how)
    chance.trouble(3000)
    with contextlib.suppress(NotLive):  # of other tests' concern
        chance.calm()
    return chance


SETTINGS: dict[str, dict[str, Any]] = {
    "crashes": {},
    "one of four lies": {"liars": 1},
    "refreshes": {"refreshes": True},
    "refreshes and a liar": {"refreshes": True, "liars": 1},
    "tentative execution": {"options": {**SMALL, "tentative": True}, "liars": 1},
    "more liars than f": {"liars": 2},
    "seven replicas, two lie": {"n": 7, "liars": 2},
    "all of it": {"options": {**SMALL, "tentative": True}, "liars": 1, "refreshes": True},
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("setting", SETTINGS)
def test_nothing_that_a_correct_replica_said_convicts_it(setting: str, seed: int) -> None:
    chance = play(1000 + seed, **SETTINGS[setting])
    proved, tried = convictions(chance.cluster, chance.correct)
    assert not proved
    assert tried > 20, "vacuous"


class TakesItsViewAlong(PbftCore):
    """Begins an epoch in the view that it alone may have asked for in the last one."""

    def begin(self, now: int, former: PbftCore | None) -> list[Effect]:
        self.ordering.view = former.view if former is not None else 0
        return super().begin(now, former)


def turns(seed: int, steps: int, **how: Any) -> Turning:
    turning = Turning(seed, **how)
    turning.trouble(steps)
    turning.cluster.heal()
    turning.cluster.run(5 * SECOND)
    return turning


TURNS: list[Any] = [
    *[(seed, 40, {"quiet": True}) for seed in (4, 6, 8)],
    *[(seed, 40, {"quiet": True, "liars": 2}) for seed in (109, 110, 111)],
    (1, 3000, {"liars": 1}),
    *[pytest.param((seed, 3000, {"liars": seed % 3}), marks=pytest.mark.slow) for seed in range(2, 10)],
]
"""Seed, steps, and how. More than f lie where two do."""


@pytest.mark.parametrize("turn", TURNS)
def test_nothing_that_a_correct_replica_said_convicts_it_in_any_epoch(turn: tuple[int, int, dict[str, Any]]) -> None:
    """Changes of the members, refreshes, time-outs of one alone, crashes and plots."""
    seed, steps, how = turn
    turning = turns(seed, steps, **how)
    proved, tried = convictions(turning.cluster, turning.correct)
    assert not proved
    assert not [said for _, said in turning.cluster.accusations if said.culprit in turning.correct]
    assert tried > 20, "vacuous"
    assert turning.epochs > 0 or not how.get("quiet"), "vacuous"


def test_p16_a_core_that_takes_its_view_along_is_convicted() -> None:
    turning = turns(4, 40, quiet=True, core=TakesItsViewAlong)
    assert convictions(turning.cluster, turning.correct)[0]


@pytest.mark.parametrize("seed", range(4))
def test_whoever_is_accused_is_a_liar_and_convicted(seed: int) -> None:
    chance = play(2000 + seed, liars=1)
    accusations = [said for accuser, said in chance.cluster.accusations if accuser in chance.correct]
    assert {said.culprit for said in accusations} <= set(chance.liars)
    assert all(verdict(chance.cluster, said) for said in accusations)
    assert accusations, "vacuous"


@pytest.mark.parametrize("setting", ["one of four lies", "all of it", "more liars than f"])
def test_no_evidence_file_convicts_a_correct_replica(setting: str) -> None:
    """The same as a stranger does it: from the bytes of a file, with nothing but the authority's certificate."""
    chance = play(4000, signatures="Ed25519", **SETTINGS[setting])
    keys = {name: signer.public for name, signer in chance.cluster.signers.items()}
    origin = certified("pbft", DOMAIN.cluster, keys, chance.cluster.n, chance.cluster.f)
    pin, tried = Pin(origin.authority), 0
    for said in statements(chance.cluster, chance.correct).values():
        for charge in charges(said):
            kinds = [charge.kind] if charge.kind else ["two-commits", HIDES]
            for kind in kinds:
                file = origin.make(replace(charge, kind=kind), 0, 0, 0)
                with pytest.raises(evidence.NotProven):
                    evidence.verify(evidence.parse(evidence.encode(file)), pin)
                tried += 1
    assert tried > 20, "vacuous"


class Forgets(PbftCore):
    """Starts without some of what is on its disk."""

    forgets: type[Any] | tuple[type[Any], ...]

    def __init__(self, setup: Setup) -> None:
        kept = [record for record in setup.stored.records if not isinstance(record, self.forgets)]
        stored = dataclasses.replace(setup.stored, records=kept)
        super().__init__(dataclasses.replace(setup, stored=stored))


class ForgetsVotes(Forgets):
    forgets = m.PrePrepare


class ForgetsCertificates(Forgets):
    forgets = m.PreparedProof


class ForgetsViews(Forgets):
    forgets = (m.ViewChange, m.NewView)


@pytest.mark.parametrize(
    ("core", "kinds"),
    [
        (Amnesiac, {"two different statements"}),
        (ForgetsVotes, {"two different statements"}),
        (ForgetsCertificates, {"hides a certificate"}),
        (ForgetsViews, {"two different statements for view", "hides a certificate"}),
    ],
)
def test_a_core_that_forgets_its_promises_over_a_restart_is_convicted(core: type[PbftCore], kinds: set[str]) -> None:
    for seed in range(40):
        chance = Chance(seed, core=core, liars=1)
        with contextlib.suppress(AssertionError):  # it breaks more than this
            chance.trouble(3000)
        proved = convictions(chance.cluster, chance.correct)[0]
        if any(kind in text for text in proved for kind in kinds):
            return
    pytest.fail(f"nothing that {core.__name__} signed convicts it")


class LosesTheMachine(Chance):
    """Durability "memory": a power cut takes records that were reported as written, and what was said stays said."""

    starts_anyway = False

    def restart(self) -> None:
        node = self.rng.choice(self.correct)
        if node in self.cluster.servers:
            self.cluster.crash(node)
            disk = self.cluster.disks[node]
            disk.records = disk.records[: self.rng.randrange(len(disk.records) + 1)]
            if self.starts_anyway:
                self.cluster.start(node)

    def trouble(self, steps: int) -> None:
        start = self.cluster.start
        self.cluster.start = lambda node: start(node) if self.starts_anyway else []  # type: ignore[method-assign]
        super().trouble(steps)


class StartsAnyway(LosesTheMachine):
    """What storage refuses to do (`tests/replog/test_storage.py`, memory durability)."""

    starts_anyway = True


def test_with_durability_memory_a_replica_that_lost_something_does_not_start_and_is_not_convicted() -> None:
    def convicted(seed: int, kind: type[Chance]) -> bool:
        chance = kind(seed)
        chance.hold_disks = lambda: None  # type: ignore[method-assign]
        with contextlib.suppress(AssertionError):  # a replica that starts anyway breaks more than this
            chance.trouble(2000)
        return bool(convictions(chance.cluster, chance.correct)[0])

    assert not any(convicted(seed, LosesTheMachine) for seed in range(6))
    assert any(convicted(seed, StartsAnyway) for seed in range(6))


# ---------------------------------------------------------------------------------------------- who is shown what, when

ONE, TWO = b"1" * 32, b"2" * 32


def two_faces(**how: Any) -> Cluster:
    """Node 0 gives one replica another batch than the other two."""
    cluster = Cluster(**how)
    first = forge.pre_prepare(cluster, 0, 1, [cluster.request("ann", 1)])
    second = forge.pre_prepare(cluster, 0, 1, [cluster.request("bob", 1)])
    cluster.inject(0, (1, 2), first)
    cluster.inject(0, 3, second)
    return cluster


def test_p17_two_pre_prepares_at_different_replicas_come_together() -> None:
    """Each replica has heard one face: votes that do not fit make them show what they have."""
    cluster = two_faces()
    cluster.settle()
    kinds = {(accuser, said.culprit, said.kind) for accuser, said in cluster.accusations}
    assert {(node, 0, "two-pre-prepares") for node in (1, 2, 3)} <= kinds
    assert {culprit for _, culprit, _ in kinds} == {0}
    assert all(verdict(cluster, said) for _, said in cluster.accusations)


def test_under_macs_nobody_is_shown_anything() -> None:
    cluster = two_faces(options={"auth": "macs"})
    cluster.settle()
    assert not cluster.accusations
    assert not any(isinstance(sent.message, m.Testimony) for sent in cluster.sent)


def test_p17_two_votes_to_different_replicas_come_together() -> None:
    cluster = Cluster()
    cluster.blocked = lambda packet: packet.sender == 2 and isinstance(packet.message, m.Prepare)
    cluster.submit("ann", 1)
    cluster.settle()
    digest = cluster.core(0).ordering.slots[1].digest
    assert digest is not None
    cluster.inject(2, 1, forge.prepare(cluster, 2, 0, 1, digest))
    cluster.inject(2, 3, forge.prepare(cluster, 2, 0, 1, TWO))
    cluster.settle()
    assert {(accuser, said.culprit) for accuser, said in cluster.accusations} == {(0, 2), (1, 2), (3, 2)}


def all_accuse(cluster: Cluster, culprit: int, kind: str) -> bool:
    found = {(accuser, said.culprit, said.kind) for accuser, said in cluster.accusations}
    assert {accused for _, accused, _ in found} == {culprit}
    assert all(verdict(cluster, said) for _, said in cluster.accusations)
    return {(node, culprit, kind) for node in range(4) if node != culprit} <= found


def test_p17_two_states_at_different_replicas_come_together() -> None:
    """Against its own state each correct replica sees which one is odd."""
    cluster = Cluster(options=SMALL)
    cluster.blocked = lambda packet: packet.sender == 3 and isinstance(packet.message, m.Checkpoint)
    hear(cluster, 1, 3, forge.checkpoint(cluster, 3, 4, ONE))
    hear(cluster, 2, 3, forge.checkpoint(cluster, 3, 4, TWO))
    for timestamp in range(1, 5):
        cluster.submit("ann", timestamp)
        cluster.settle()
    assert cluster.executed() == [4, 4, 4, 4]
    assert all_accuse(cluster, 3, "two-checkpoints")


@pytest.mark.parametrize("place", [(0, 2**40), (7, 3)])
def test_p17_two_votes_at_a_place_that_nobody_gets_to_come_together(place: tuple[int, int]) -> None:
    cluster = Cluster()
    hear(cluster, 1, 3, forge.commit(cluster, 3, *place, ONE))
    hear(cluster, 2, 3, forge.commit(cluster, 3, *place, TWO))
    cluster.run(3 * SECOND)
    assert all_accuse(cluster, 3, "two-commits")


def test_p17_two_view_changes_of_which_no_new_view_tells_come_together() -> None:
    """Node 3 asks node 1, the new primary, for nothing, and node 0 and 2 differently."""
    cluster = Cluster()
    proof = forge.prepared(cluster, 0, 1, ONE, [1, 2])
    hear(cluster, 0, 3, forge.view_change(cluster, 3, 1))
    hear(cluster, 2, 3, forge.view_change(cluster, 3, 1, [proof]))
    parts = [forge.view_change(cluster, node, 1) for node in (0, 1, 2)]
    message = forge.new_view(cluster, 1, parts, [])
    for node in (0, 2):
        hear(cluster, node, 1, message)
    cluster.settle()
    assert {(0, 3), (2, 3)} <= {(accuser, said.culprit) for accuser, said in cluster.accusations}


def two_beginnings(cluster: Cluster, view: int = 1) -> tuple[m.NewView, m.NewView]:
    """Both right: of two quorums, one with a certificate."""
    parts = [forge.view_change(cluster, node, view) for node in range(4)]
    return forge.new_view(cluster, view, parts[:3], []), forge.new_view(cluster, view, parts[1:], [])


def beginners(cluster: Cluster) -> set[int]:
    """Who accuses node 1 of two NEW-VIEWs, and nobody anybody of anything else."""
    assert {(said.culprit, said.kind) for _, said in cluster.accusations} <= {(1, "two-new-views")}
    assert all(verdict(cluster, said) for _, said in cluster.accusations)
    return {accuser for accuser, _ in cluster.accusations}


@pytest.mark.parametrize("passed", [False, True])
def test_p5_two_new_views_at_different_replicas_come_together(passed: bool) -> None:
    """Each of them right, and nobody lacks one, so that none is passed on. `passed`: all are in a later view."""
    cluster = Cluster()
    cluster.blocked = lambda packet: 1 in (packet.sender, packet.to)
    if passed:
        cluster.step(0, Command("step-down", {}))
        cluster.run(4 * SECOND)
    assert cluster.views()[::2] == [2 * passed] * 2
    first, second = two_beginnings(cluster)
    for node, message in ((0, first), (2, second), (3, first)):
        hear(cluster, node, 1, message)
    assert not cluster.accusations
    cluster.run(SECOND)
    assert 2 in beginners(cluster)


def test_p16_the_new_view_on_the_disk_is_named_after_a_restart_too() -> None:
    cluster = Cluster()
    cluster.blocked = lambda packet: 1 in (packet.sender, packet.to) or packet.to == 2
    first, second = two_beginnings(cluster)
    for node, message in ((0, first), (2, second), (3, first)):
        hear(cluster, node, 1, message)
    cluster.settle()
    cluster.restart(2)
    cluster.blocked = lambda packet: 1 in (packet.sender, packet.to)
    cluster.run(SECOND)
    assert 2 in beginners(cluster)


def test_p36_new_views_are_named_in_turn_until_their_primary_is_convicted() -> None:
    """However many a liar begins; and whoever names others in vain is shown the first few."""
    cluster = Cluster()
    cluster.blocked = lambda packet: (packet.sender, packet.to) != (0, 3)
    begun = cluster.core(0).notary.witness.begun
    for view in range(1, 4 * VIEWS_MAX, 4):
        hear(cluster, 0, 1, two_beginnings(cluster, view)[0])
    named = [begun.named() for _ in range(VIEWS_MAX)]
    assert {len(each) for each in named} == {NAMED_MAX}
    assert {each.view for some in named for each in some} == set(range(1, 4 * VIEWS_MAX, 4))
    cluster.sent.clear()
    for _ in range(10):
        hear(cluster, 0, 3, m.Status(100, True, 0, 0, False, b"", [m.Begun(1, b"another")]))
    assert sum(3 in sent.to and isinstance(sent.message, m.NewView) for sent in cluster.sent) == ANSWERS
    hear(cluster, 0, 3, two_beginnings(cluster)[1])
    assert beginners(cluster) == {0}
    assert not begun.unlike([m.Begun(1, b"another")])
    assert 1 not in {each.view for _ in range(VIEWS_MAX) for each in begun.named()}
    cluster.core(0).notary.witness.check_invariants()


def test_under_macs_no_new_view_is_named() -> None:
    cluster = Cluster(options={"auth": "macs"})
    for node in range(4):
        cluster.step(node, Command("step-down", {}))
    cluster.run(SECOND)
    assert cluster.views() == [1] * 4
    named = [sent.message.begun for sent in cluster.sent if isinstance(sent.message, m.Status)]
    assert named, "vacuous"
    assert not any(named)


def test_p16_what_a_replica_has_accepted_counts_after_a_restart_too() -> None:
    """A vote inside a certificate on its disk; what it only heard is forgotten."""
    cluster = Cluster()
    cluster.submit("ann", 1)
    cluster.settle()
    digest = cluster.core(1).ordering.slots[1].digest
    assert digest is not None
    proof = next(
        record
        for _, raw in cluster.disks[1].records
        if isinstance(record := cluster.records.decode(raw), m.PreparedProof)
    )
    voter = proof.votes[-1].replica
    hear(cluster, 1, voter, forge.commit(cluster, voter, 5, 9, ONE))
    cluster.restart(1)
    hear(cluster, 1, voter, forge.commit(cluster, voter, 5, 9, TWO))
    assert not cluster.accusations
    hear(cluster, 1, voter, forge.prepare(cluster, voter, 0, 1, TWO))
    assert {(accuser, said.culprit) for accuser, said in cluster.accusations} == {(1, voter)}


def test_p16_a_pre_prepare_of_an_earlier_view_counts_after_a_restart_too() -> None:
    """Its slot is that of a later view: only the record on the disk tells what the primary had said."""
    cluster = Cluster()
    cluster.blocked = lambda packet: isinstance(packet.message, (m.Prepare, m.Commit))
    first, second = (forge.pre_prepare(cluster, 0, 1, [cluster.request(client, 1)]) for client in ("ann", "bob"))
    hear(cluster, 2, 0, first)
    for node in range(4):
        cluster.step(node, Command("step-down", {}))
    cluster.settle()
    assert cluster.views() == [1] * 4
    cluster.restart(2)
    hear(cluster, 2, 1, m.Testimony([replace(second, requests=[])]))
    cluster.run(SECOND)
    told = [(said.culprit, said.kind) for accuser, said in cluster.accusations if accuser == 2]
    assert told == [(0, "two-pre-prepares")]


def test_p17_what_a_quorum_has_committed_to_is_held_against_votes_at_once() -> None:
    """Replica 3 has heard no word of the primary: its certificate is what it believes there."""
    cluster = Cluster()
    cluster.blocked = lambda packet: packet.to == 3 or packet.sender == 2
    cluster.submit("ann", 1)
    cluster.settle()
    slot = cluster.core(1).ordering.slots[1]
    assert slot.digest is not None
    assert slot.body is not None
    hear(cluster, 1, 2, forge.commit(cluster, 2, 0, 1, slot.digest))
    hear(cluster, 3, 2, forge.commit(cluster, 2, 0, 1, TWO))
    cluster.heal()
    proof = forge.committed(cluster, 0, 1, slot.digest, [0, 1, 3])
    hear(cluster, 3, 0, m.Committed(proof, slot.body.time, slot.body.raws))
    cluster.settle()
    assert (1, 2, "two-commits") in {(accuser, said.culprit, said.kind) for accuser, said in cluster.accusations}


def test_p36_a_word_is_shown_so_often_and_no_more() -> None:
    """However much comes at that place, its doubt is not repeated for ever."""
    cluster = Cluster()
    witness, word = cluster.core(1).notary.witness, forge.commit(cluster, 3, 9, 1, ONE)
    place = ("phases", 9, 1)
    shown = [witness._may_show(word, place, 3) for _ in range(10)]
    assert shown == [True] * SHOWINGS_MAX + [False] * (10 - SHOWINGS_MAX)
    assert witness._may_show(forge.commit(cluster, 3, 9, 2, ONE), ("phases", 9, 2), 3), "another is"


def test_strays_that_are_shown_are_bounded() -> None:
    cluster = Cluster()
    for seq in range(1, 2 * WAITING_MAX):
        hear(cluster, 1, 3, forge.commit(cluster, 3, 9, seq, ONE))
    witness = cluster.core(1).notary.witness
    witness.check_invariants()
    shown = [len(effect.message.statements) for _ in range(20) for effect in witness.tick(0, 0)]  # type: ignore[attr-defined]
    assert max(shown) == STRAYS_MAX
    assert WAITING_MAX < sum(shown) <= 2 * WAITING_MAX, "each twice: what is shown may be lost on the way"


def test_what_others_tell_counts_only_with_its_signature() -> None:
    cluster = Cluster()
    true = forge.commit(cluster, 3, 0, 1, ONE)
    false = replace(forge.commit(cluster, 2, 0, 1, TWO), replica=3)
    hear(cluster, 1, 2, m.Testimony([true, false]))
    hear(cluster, 1, 2, m.Testimony([replace(true, digest=TWO), false]))
    assert not cluster.accusations
    hear(cluster, 1, 2, m.Testimony([forge.commit(cluster, 3, 0, 1, TWO)]))
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(3, "two-commits")]


def test_p31_a_testimony_with_a_bad_signature_is_refused_and_read_no_further() -> None:
    cluster = Cluster()
    false = replace(forge.commit(cluster, 3, 0, 1, ONE), signature=b"nonsense")
    before = cluster.core(1).notary.refused
    for parts in ([false, false, forge.commit(cluster, 0, 0, 2, ONE)], [replace(false, replica=77)]):
        hear(cluster, 1, 2, m.Testimony(parts))
    hear(cluster, 1, 0, forge.commit(cluster, 0, 0, 2, TWO))
    assert cluster.core(1).notary.refused == before + 2
    assert "testimony: a statement that nobody has signed" in cluster.rules(1)
    assert not cluster.accusations


def test_p36_a_testimony_costs_few_signatures() -> None:
    """Also where a liar signs each statement; what is known costs nothing."""
    cluster = Cluster()
    true = [forge.commit(cluster, 2, 7, seq, ONE) for seq in range(1, 3 * TESTIFIED)]
    before = cluster.verified
    for start in range(0, len(true), 64):
        for _ in range(2):
            hear(cluster, 1, 2, m.Testimony(true[start : start + 64]))
    assert cluster.verified == before + TESTIFIED
    cluster.run(SECOND)
    hear(cluster, 1, 2, m.Testimony(true[-3:]))
    assert cluster.verified > before + TESTIFIED


def test_p31_nobody_makes_a_correct_replica_show_what_is_not_signed() -> None:
    """A liar's votes with signatures that are none, at places that are doubted: the others' are shown, and taken."""
    cluster = Cluster()
    cluster.submit("ann", 1)
    cluster.settle()
    junk = [
        forge.prepare(cluster, 3, 0, 1, ONE),
        forge.commit(cluster, 3, 0, 2, ONE),
        forge.commit(cluster, 3, 0, 9, TWO),
    ]
    for said in junk:
        for face in (ONE, TWO, b"3" * 32):
            hear(cluster, 1, 3, replace(said, digest=face, signature=b"nonsense"))
    hear(cluster, 1, 2, forge.commit(cluster, 2, 0, 1, TWO))
    hear(cluster, 1, 3, replace(junk[0], digest=TWO, signature=b"nonsense"))
    cluster.run(3 * SECOND)
    shown = [part for sent in cluster.sent if isinstance(sent.message, m.Testimony) for part in sent.message.statements]
    assert {part.signature for part in shown} != set(), "vacuous"
    assert not [part for part in shown if part.signature == b"nonsense"]
    assert not [rule for node in (0, 2, 3) for rule in cluster.rules(node) if "testimony" in rule]


def test_p31_a_pre_prepare_of_another_than_the_primary_is_no_statement() -> None:
    """Nobody could tell from it whose it is: to show it would make others refuse what is shown beside it."""
    cluster = Cluster()
    for face in (ONE, TWO):
        signature = forge.sign(cluster, 3, "pre-prepare", (5, 6, face))
        hear(cluster, 1, 3, m.PrePrepare(5, 6, face, signature, 0, []))
    hear(cluster, 1, 3, forge.commit(cluster, 3, 5, 7, ONE))
    hear(cluster, 2, 3, forge.commit(cluster, 3, 5, 7, TWO))
    cluster.run(3 * SECOND)
    assert not [rule for node in (0, 2, 3) for rule in cluster.rules(node) if "testimony" in rule]
    assert all_accuse(cluster, 3, "two-commits")


def test_an_unsigned_word_hides_nothing_that_is_signed() -> None:
    """A liar says nonsense first, so that its later lie would be the first true statement."""
    cluster = Cluster()
    hear(cluster, 1, 3, replace(forge.commit(cluster, 3, 0, 1, ONE), signature=b"nonsense"))
    hear(cluster, 1, 3, forge.commit(cluster, 3, 0, 1, TWO))
    assert not cluster.accusations
    hear(cluster, 1, 3, forge.commit(cluster, 3, 0, 1, ONE))
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(3, "two-commits")]


def test_what_fits_an_unsigned_word_is_not_hidden_behind_it() -> None:
    """A commit that stands beside a pre-prepare which nobody signed, and a signed one that says otherwise."""
    cluster = Cluster()
    for message in (
        m.PrePrepare(0, 1, ONE, b"nonsense", 0, []),
        forge.commit(cluster, 0, 0, 1, ONE),
        m.PrePrepare(0, 1, TWO, forge.sign(cluster, 0, "pre-prepare", (0, 1, TWO)), 0, []),
    ):
        hear(cluster, 1, 0, message)
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(0, "two-digests")]
    verdict(cluster, cluster.accusations[0][1])


def test_an_unsigned_commit_stands_in_no_signed_one_s_way() -> None:
    cluster = Cluster()
    hear(cluster, 1, 3, replace(forge.commit(cluster, 3, 0, 1, ONE), signature=b"nonsense"))
    hear(cluster, 1, 3, forge.commit(cluster, 3, 0, 1, TWO))
    hear(cluster, 1, 3, forge.view_change(cluster, 3, 1))
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(3, "hides-prepared")]


def test_4_4_a_view_change_that_hides_a_commit_convicts_its_sender() -> None:
    cluster = Cluster()
    hear(cluster, 1, 3, forge.commit(cluster, 3, 0, 1, ONE))
    hear(cluster, 1, 3, forge.view_change(cluster, 3, 1))
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(3, "hides-prepared")]
    assert "view 0, seq 1" in verdict(cluster, cluster.accusations[0][1])


@pytest.mark.parametrize("view", [0, 1])
def test_4_4_a_view_change_that_shows_it_or_has_a_later_one_is_right(view: int) -> None:
    cluster = Cluster()
    digest = ONE if view == 0 else TWO
    voters = [node for node in range(4) if node != view][:2]
    shown = forge.prepared(cluster, view, 1, digest, voters)
    hear(cluster, 1, 3, forge.commit(cluster, 3, 0, 1, ONE))
    hear(cluster, 1, 3, forge.view_change(cluster, 3, 2, [shown]))
    assert not cluster.accusations


def test_4_4_what_lies_below_a_proved_checkpoint_need_not_be_shown() -> None:
    cluster = Cluster(options=SMALL)
    hear(cluster, 1, 3, forge.commit(cluster, 3, 0, 4, ONE))
    hear(cluster, 1, 3, forge.view_change(cluster, 3, 1, [], forge.checkpoint_proof(cluster, 4, TWO, [0, 2, 3])))
    assert not cluster.accusations


def test_4_4_a_view_change_with_a_forged_certificate_convicts_its_sender() -> None:
    cluster = Cluster()
    proof = forge.prepared(cluster, 0, 1, ONE, [1, 2])
    forged = replace(proof, votes=[m.Vote(1, b"x"), m.Vote(2, b"y")])
    hear(cluster, 1, 3, forge.view_change(cluster, 3, 1, [forged]))
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(3, "flawed-view-change")]
    assert "bad signature of node 1" in verdict(cluster, cluster.accusations[0][1])


def test_4_4_a_rule_that_rests_on_options_convicts_nobody() -> None:
    """Who wrote the evidence may claim any options; and they may differ after an operator's change."""
    cluster = Cluster(options=SMALL)
    beyond = forge.prepared(cluster, 0, 60, ONE, [1, 2])
    hear(cluster, 1, 3, forge.view_change(cluster, 3, 1, [beyond]))
    assert any("within the window" in rule for rule in cluster.rules(1))
    assert not cluster.accusations


def test_4_4_a_new_view_whose_o_does_not_follow_from_v_convicts_its_primary() -> None:
    cluster = Cluster()
    prepared = forge.prepared(cluster, 0, 1, ONE, [2, 3])
    parts = [forge.view_change(cluster, node, 1, [prepared]) for node in (0, 1, 2)]
    hear(cluster, 3, 1, forge.new_view(cluster, 1, parts, [(1, TWO)]))
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(1, "flawed-new-view")]
    assert "O is not what follows from V" in verdict(cluster, cluster.accusations[0][1])
    right = Accuse(1, "flawed-new-view", forge.new_view(cluster, 1, parts, [(1, ONE)]))
    assert not verdict(cluster, right)


def test_4_4_a_new_view_by_another_than_its_primary_convicts_whoever_signed_it() -> None:
    """Right in all else: it does not say whose it is."""
    cluster = Cluster()
    parts = [forge.view_change(cluster, node, 1) for node in (0, 1, 2)]
    message = forge.new_view(cluster, 1, parts, [])
    other = replace(message, signature=forge.sign(cluster, 2, "new-view", (1, m.new_view_digest(message))))
    assert not verdict(cluster, Accuse(1, "flawed-new-view", message))
    assert "node 1 is its primary" in verdict(cluster, Accuse(2, "flawed-new-view", other))


def test_p32_a_client_with_two_requests_under_one_timestamp_is_convicted() -> None:
    cluster = Cluster()
    cluster.holds = lambda packet: type(packet.message) is m.PrePrepare
    cluster.inject("eve", 0, Submit(cluster.request("eve", 1, 10).raw))
    cluster.inject("eve", (1, 2, 3), Submit(cluster.request("eve", 1, 20).raw))
    cluster.settle()
    cluster.release()
    cluster.settle()
    found = {(said.culprit, said.kind) for _, said in cluster.accusations}
    assert found == {("eve", "two-requests")}
    assert all("client eve" in verdict(cluster, said) for _, said in cluster.accusations)


def test_d6_the_key_of_a_member_under_another_id_convicts_nobody() -> None:
    """Node 3 leaves and comes back as node 5 with its key: what it signed as node 3 was right."""
    cluster = Cluster()
    parts = [forge.view_change(cluster, node, 3) for node in (0, 1, 3)]
    message = forge.new_view(cluster, 3, parts, [])

    class Returned:
        def verify(self, signer: Any, statement: bytes, signature: bytes) -> bool:
            return cluster.verifier.verify(3 if signer == 5 else signer, statement, signature)

    for culprit, why in ((3, "nothing is wrong"), (5, "node 5 is no member of epoch 0")):
        with pytest.raises(NotProven, match=why):
            convict(Accuse(culprit, "flawed-new-view", message), DOMAIN, Returned(), (4, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize("to", [[0], [2], range(4)])
def test_p32_a_client_that_gives_one_replica_two_requests_is_convicted(to: Iterable[int]) -> None:
    cluster = Cluster()
    for request in (cluster.request("eve", 1, 10), cluster.request("eve", 1, 20)):
        cluster.inject("eve", to, Submit(request.raw))
    cluster.run(SECOND)
    assert cluster.executed() == [1, 1, 1, 1]
    assert {(said.culprit, said.kind) for _, said in cluster.accusations} == {("eve", "two-requests")}
    assert all("client eve" in verdict(cluster, said) for _, said in cluster.accusations)


def test_p32_what_a_client_did_not_sign_convicts_it_of_nothing() -> None:
    """Whoever brings it: a replica can forward what nobody signed, and so can a client under its own name."""
    cluster = Cluster()
    cluster.holds = lambda packet: type(packet.message) is m.PrePrepare
    sign = cluster.signers["bob"].sign
    forged = Request.make(sign, cluster.domain, "ann", 1, 0, [b"x"])
    hear(cluster, 0, "ann", Submit(cluster.request("ann", 1, 10).raw))
    hear(cluster, 0, 2, Submit(forged.raw))
    assert "request: bad signature" in cluster.rules(0)
    assert not cluster.accusations


def test_a_retransmission_convicts_no_client() -> None:
    cluster = Cluster()
    for _ in range(2):
        cluster.inject("ann", range(4), Submit(cluster.request("ann", 1).raw))
    cluster.settle()
    assert not cluster.accusations


def test_accusations_of_one_node_end() -> None:
    cluster = Cluster()
    for seq in range(1, ACCUSATIONS_MAX + 50):
        for digest in (ONE, TWO):
            hear(cluster, 1, 3, forge.commit(cluster, 3, 0, seq, digest))
    assert len(cluster.accusations) == ACCUSATIONS_MAX
    hear(cluster, 1, 2, forge.commit(cluster, 2, 0, 1, ONE))
    hear(cluster, 1, 2, forge.commit(cluster, 2, 0, 1, TWO))
    assert cluster.accusations[-1][1].culprit == 2, "no liar uses up what counts against another"


def test_what_is_remembered_is_bounded() -> None:
    """At places that nobody gets to, and where the cluster goes on."""
    cluster = Cluster()
    witness = cluster.core(1).notary.witness
    for seq in range(1, PLACES_MAX + 100):
        hear(cluster, 1, 3, forge.commit(cluster, 3, 5, seq, ONE))
        if seq % REACH == 0:
            witness.tick(0, seq)
        hear(cluster, 1, 3, forge.commit(cluster, 3, 0, seq, ONE))
    witness.check_invariants()


# ------------------------------------------------------------------------------------------------ junk hides no liar


def junk(cluster: Cluster, signer: int, view: int, seqs: Any) -> list[m.Commit]:
    return [replace(forge.commit(cluster, signer, view, seq, ONE), signature=b"junk") for seq in seqs]


@pytest.mark.parametrize("where", ["far away", "near", "far away and signed"])
def test_p17_junk_between_two_faces_makes_neither_be_forgotten(where: str) -> None:
    cluster = Cluster()
    hear(cluster, 1, 3, forge.commit(cluster, 3, 0, 6, ONE))
    said: list[Any] = junk(cluster, 3, 7_000_000, range(PLACES_MAX + 100))
    if where == "near":
        said = [message for view in (0, 1) for message in junk(cluster, 3, view, range(7, 2 * REACH))]
    elif where == "far away and signed":
        said = [forge.commit(cluster, 3, 8, seq, ONE) for seq in range(PLACES_MAX + 100)]
    for message in said:
        hear(cluster, 1, 3, message)
    hear(cluster, 1, 3, forge.commit(cluster, 3, 0, 6, TWO))
    assert [(said.culprit, said.kind) for _, said in cluster.accusations] == [(3, "two-commits")]
    cluster.core(1).notary.witness.check_invariants()


@pytest.mark.parametrize("place", [(5, 6), (0, 400)])
def test_p17_junk_hides_no_stray(place: tuple[int, int]) -> None:
    """One face to each of two replicas, at a place that nobody gets to, and behind it what nobody signed."""
    cluster = Cluster()
    for node, digest in ((1, ONE), (2, TWO)):
        cluster.core(node).notary.witness.tick(0, REACH + 100)
        hear(cluster, node, 3, forge.commit(cluster, 3, *place, digest))
        for seq in range(REACH + 1, 2 * REACH + 100):
            states = replace(forge.checkpoint(cluster, 3, seq, ONE), signature=b"junk")
            for message in (*junk(cluster, 3, 0, [seq]), states):
                hear(cluster, node, 3, message)
    cluster.run(3 * SECOND)
    assert all_accuse(cluster, 3, "two-commits")


def test_p17_a_vote_before_the_proposal_is_shown_when_that_comes() -> None:
    """To the primary it came too early to be held against anything; the others are told what fits."""
    cluster = Cluster()
    hear(cluster, 0, 3, forge.commit(cluster, 3, 0, 1, ONE))
    cluster.submit("ann", 1)
    cluster.settle()
    digest = cluster.core(1).ordering.slots[1].digest
    assert digest not in (None, ONE)
    assert all_accuse(cluster, 3, "two-commits")


def test_p17_words_that_are_signed_hide_no_stray() -> None:
    """Of as many places as are remembered the first and the last are shown."""
    cluster = Cluster()
    for node, digest in ((1, ONE), (2, TWO)):
        hear(cluster, node, 3, forge.commit(cluster, 3, 5, 6, digest))
        for seq in range(7, ODD_MAX):
            hear(cluster, node, 3, forge.commit(cluster, 3, 5, seq, ONE))
    cluster.run(3 * SECOND)
    assert all_accuse(cluster, 3, "two-commits")


def test_p17_where_words_stand_alone_the_ticks_are_near_to_each_other() -> None:
    """In a cluster that has nothing else to do: two ticks after the next one all know."""
    cluster = Cluster()
    cluster.run(SECOND)
    options = cluster.core(1).options
    for node, digest in ((1, ONE), (2, TWO)):
        hear(cluster, node, 3, forge.commit(cluster, 3, 5, 6, digest))
    cluster.run(options.idle_interval_us + 2 * options.status_interval_us)
    assert all_accuse(cluster, 3, "two-commits")
    cluster.run(SECOND)
    before = len(cluster.sent)
    cluster.run(options.idle_interval_us)
    assert len(cluster.sent) - before <= 12, "each has been shown, and it is quiet again"


def test_p17_no_liar_hides_another() -> None:
    cluster = Cluster(7)
    for node, digest in ((1, ONE), (2, TWO)):
        hear(cluster, node, 6, forge.commit(cluster, 6, 5, 6, digest))
        for seq in range(WAITING_MAX):
            hear(cluster, node, 5, forge.commit(cluster, 5, 9, seq, ONE))
    cluster.run(4 * cluster.core(1).options.idle_interval_us)
    assert {said.culprit for _, said in cluster.accusations} == {6}


def test_4_4_other_view_changes_hide_no_second_one() -> None:
    """A liar asks for many a view, so that what it asked before be forgotten."""
    cluster = Cluster()
    proof = forge.prepared(cluster, 0, 1, ONE, [1, 2])
    hear(cluster, 1, 3, forge.view_change(cluster, 3, 1))
    for view in range(10**6, 10**6 + 2 * VIEWS_MAX):
        hear(cluster, 1, 3, forge.view_change(cluster, 3, view))
    hear(cluster, 1, 3, forge.view_change(cluster, 3, 1, [proof]))
    assert (3, "two-view-changes") in {(said.culprit, said.kind) for _, said in cluster.accusations}
    cluster.core(1).notary.witness.check_invariants()


# --------------------------------------------------------------------------------------------- what proves nothing


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("two-commits", lambda c: (forge.commit(c, 3, 0, 1, ONE), forge.commit(c, 3, 0, 1, ONE))),
        ("two-commits", lambda c: (forge.commit(c, 3, 0, 1, ONE), forge.commit(c, 3, 0, 2, TWO))),
        ("two-commits", lambda c: (forge.commit(c, 3, 0, 1, ONE), forge.commit(c, 3, 1, 1, TWO))),
        ("two-commits", lambda c: (forge.commit(c, 3, 0, 1, ONE), forge.commit(c, 2, 0, 1, TWO))),
        ("two-prepares", lambda c: (forge.commit(c, 3, 0, 1, ONE), forge.commit(c, 3, 0, 1, TWO))),
        ("two-commits", lambda c: (forge.commit(c, 3, 0, 1, ONE), None)),
        ("hides-prepared", lambda c: (forge.commit(c, 3, 1, 1, ONE), forge.view_change(c, 3, 1))),
        ("flawed-view-change", lambda c: (forge.view_change(c, 3, 1), None)),
        ("flawed-view-change", lambda c: (forge.commit(c, 3, 0, 1, ONE), None)),
    ],
)
def test_what_a_correct_node_may_say_is_no_evidence(kind: str, make: Any) -> None:
    cluster = Cluster()
    assert not verdict(cluster, Accuse(3, kind, *make(cluster)))


def test_a_message_that_is_wrong_in_itself_convicts_only_where_the_members_are_known() -> None:
    cluster = Cluster()
    message = forge.view_change(cluster, 3, 1, [replace(forge.prepared(cluster, 0, 1, ONE, [1, 2]), signature=b"")])
    accusation = Accuse(3, "flawed-view-change", message)
    assert verdict(cluster, accusation)
    with pytest.raises(NotProven, match="takes the keys of all members"):
        convict(accusation, DOMAIN, cluster.verifier)
