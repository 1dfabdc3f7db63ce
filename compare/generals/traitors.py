"""One battle: loyal generals, traitors with a strategy, and what the judge says."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal

from compare.generals import oral, signed
from compare.generals.choices import Choices
from compare.generals.judge import Verdict, judge
from compare.generals.oral import Oral, OralGeneral, OralTraitor
from compare.generals.rounds import COMMANDER, ORDERS, Order, march, opposite
from compare.generals.signed import Coalition, Signed, SignedGeneral, SignedTraitor
from replog.keys import Ed25519Signer, Ed25519Verifier, HashSigner, HashVerifier, Signer, Verifier
from replog.types import Principal

Algorithm = Literal["OM", "SM"]
STRATEGIES: Final = {"OM": ("silent", "parity", "random", "flip"), "SM": ("silent", "parity", "random", "flip", "late")}


@dataclass(frozen=True)
class Battle:
    """`order`: the commander's, were it loyal. `m`: of OM(m) and SM(m). `loyal`: what stands for a loyal general."""

    algorithm: Algorithm
    n: int
    m: int
    traitors: tuple[int, ...]
    strategy: str
    order: Order
    seed: int = 0
    ed25519: bool = False

    @property
    def told(self) -> str:
        who = ", ".join("the commander" if node == COMMANDER else str(node) for node in self.traitors)
        return f"{self.algorithm}({self.m}), n = {self.n}, order {self.order}, traitors: {who} ({self.strategy})"


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    decisions: tuple[Order, ...]
    sent: tuple[int, ...]
    """Messages of each round."""
    refused: int = 0
    """Words whose signatures did not hold, at loyal generals."""


def fight(
    battle: Battle, choices: Choices | None = None, loyal: type[OralGeneral] | type[SignedGeneral] | None = None
) -> Outcome:
    """`choices`: in place of a strategy. `loyal`: what loyal generals are, if they are broken ones."""
    generals: list[Any] = _oral(battle, choices, loyal) if battle.algorithm == "OM" else _signed(battle, choices, loyal)
    sent = march(generals, battle.m + 1)
    decisions = [general.decide() for general in generals]
    refused = sum(getattr(general, "refused", 0) for general in generals)
    return Outcome(judge(battle.order, decisions, battle.traitors), tuple(decisions), tuple(sent), refused)


def gangs(n: int, number: int, chance: random.Random, most: int) -> list[tuple[int, ...]]:
    """Who may be the traitors: all ways if there are no more than `most`, else one with the commander, one without."""
    if not number:
        return [()]
    ways = list(combinations(range(n), number))
    if len(ways) <= most:
        return ways
    lieutenants = range(1, n)
    with_commander = (COMMANDER, *sorted(chance.sample(lieutenants, number - 1)))
    return [with_commander, tuple(sorted(chance.sample(lieutenants, number)))]


# -------------------------------------------------------------------------------------------------------- oral messages


def _oral(battle: Battle, choices: Choices | None, loyal: Any) -> list[OralGeneral]:
    n, m, order = battle.n, battle.m, battle.order
    strategy = _oral_strategy(battle, random.Random(f"{battle.seed}/{battle.told}"), choices)
    make = loyal or OralGeneral
    return [
        OralTraitor(node, n, m, strategy, order) if node in battle.traitors else make(node, n, m, order)
        for node in range(n)
    ]


def _oral_strategy(battle: Battle, chance: random.Random, choices: Choices | None) -> oral.Strategy:
    if choices is not None:
        return _anything(battle.traitors, choices)

    def say(to: int, word: Oral) -> Order | None:
        match battle.strategy:
            case "silent":
                return None
            case "parity":
                return ORDERS[to % 2]
            case "random":
                return chance.choice(ORDERS)
        return opposite(word.order)

    return say


def _anything(traitors: Collection[int], choices: Choices) -> oral.Strategy:
    """To say nothing is to say the default; what traitors tell each other changes nothing."""
    return lambda to, word: word.order if to in traitors else choices.choose(ORDERS)


# ------------------------------------------------------------------------------------------------------ signed messages


def _signed(battle: Battle, choices: Choices | None, loyal: Any) -> list[Any]:
    signers, verifier = _keys(battle)
    coalition = Coalition({node: signers[node] for node in battle.traitors})
    strategy = _signed_strategy(battle, random.Random(f"{battle.seed}/{battle.told}"), choices)
    make, n = loyal or SignedGeneral, battle.n
    return [
        SignedTraitor(node, n, coalition, strategy)
        if node in battle.traitors
        else make(node, n, battle.m, signers[node], verifier, battle.order)
        for node in range(n)
    ]


def _keys(battle: Battle) -> tuple[list[Signer], Verifier]:
    """Keyed hashes under secrets that their owners and the verifier alone hold; some battles have Ed25519."""
    chance = random.Random(f"{battle.seed}/keys")
    seeds = [chance.randbytes(32) for _ in range(battle.n)]
    if battle.ed25519:
        owners = [Ed25519Signer(seed) for seed in seeds]
        return list(owners), Ed25519Verifier({node: owner.public for node, owner in enumerate(owners)})
    secrets: dict[Principal, bytes] = dict(enumerate(seeds))
    return [HashSigner(seed) for seed in seeds], HashVerifier(secrets)


def _signed_strategy(battle: Battle, chance: random.Random, choices: Choices | None) -> signed.Strategy:
    if choices is not None:
        return lambda number, me, to, own: choices.choose(_subsets(own.at(number, me), to))
    first = min(set(range(1, battle.n)) - set(battle.traitors), default=0)
    late = len(battle.traitors)

    def say(number: int, me: int, to: int, own: Coalition) -> list[Signed]:
        words = own.at(number, me)
        match battle.strategy:
            case "silent":
                return []
            case "parity":
                return [one for one in words if one.order == ORDERS[to % 2]]
            case "random":
                return [one for one in words if chance.random() < 0.5]
            case "late":
                return _late(number, words, late if to == first else 0)
        return own.forged(number, me) if number > 1 else words[1:]

    return say


def _late(number: int, words: list[Signed], late: int) -> list[Signed]:
    """One order at once, the other as late as the traitors alone can sign it, and to one lieutenant only."""
    told: Order | None = "attack" if number == 1 else "retreat" if number == late else None
    return [word for word in words if word.order == told]


def _subsets(words: list[Signed], to: int) -> list[list[Signed]]:
    sayable = [word for word in words if to not in word.chain]
    return [list(some) for size in range(len(sayable) + 1) for some in combinations(sayable, size)]
