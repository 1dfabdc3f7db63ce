"""Two generals, and Byzantine generals by oral and by signed messages. [Gray78; LSP82]

Two generals: a chain of messengers and a crowd of them over a link that loses some, against what chance makes of it;
and every pair of rules for a chain, of which none is certain.

Byzantine generals: OM(m) and SM(m) with up to m traitors among n generals, n from 3 to 10, m from 0 to 3, for each
strategy and both orders; in small battles everything that traitors could do. With n <= m + 1 there are no two loyal
lieutenants and no loyal lieutenant of a loyal commander: nothing can break, and no cell of that is compared.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from compare.experiments import generals_report
from compare.experiments.base import Experiment, Findings
from compare.generals import two
from compare.generals.choices import everything
from compare.generals.rounds import ORDERS
from compare.generals.traitors import STRATEGIES, Algorithm, Battle, Outcome, fight, gangs
from compare.generals.two import Ending, Plan

SIZES: Final = range(3, 11)
TRAITORS: Final = range(4)
GANGS_MAX: Final = 10
"""Up to so many ways to choose the traitors, all of them are tried for each seed; else two are drawn."""
ED25519_EVERY: Final = 10
"""One seed of so many signs with Ed25519, the first of them first; the others with keyed hashes, fifty times faster."""
SMALL: Final[tuple[tuple[Algorithm, int, int], ...]] = (
    ("OM", 3, 1),
    ("OM", 4, 1),
    ("OM", 5, 1),
    ("OM", 4, 2),
    ("OM", 5, 2),
    ("SM", 3, 1),
    ("SM", 4, 1),
    ("SM", 4, 2),
)
"""Battles in which traitors do everything they can."""
MESSENGERS: Final = (1, 2, 3, 5, 8)
LOSSES: Final = (0.05, 0.2, 0.4)
ATTEMPTS: Final = 500
"""Of each plan, number of messengers and loss, for each seed."""


@dataclass(frozen=True)
class Job:
    kind: Literal["two", "strategies", "everything"]
    seed: int
    algorithm: Algorithm = "OM"
    n: int = 2
    m: int = 0


@dataclass(frozen=True)
class Fought:
    """Battles of one job. `loyal`: messages of each round when there is no traitor. `example`: the first that broke."""

    battles: int
    broken: int
    checked: int
    refused: int
    by: tuple[str, ...]
    loyal: tuple[int, ...]
    example: str


Attempts = dict[tuple[Plan, int, float], Counter[Ending]]


class Generals(Experiment[Job, "Fought | Attempts"]):
    name = "generals"
    summary = "two generals, and who stands how many traitors: OM(m) and SM(m) [Gray78; LSP82]"
    runs = 20

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        return [job for place, seed in enumerate(seeds) for job in _of_seed(place, seed)]

    def measure(self, job: Job) -> Fought | Attempts:
        return attempted(job.seed) if job.kind == "two" else fought(job)

    def findings(self, measured: Sequence[tuple[Job, Fought | Attempts]]) -> Findings:
        attempts: dict[tuple[Plan, int, float], Counter[Ending]] = {}
        fields: dict[tuple[str, Algorithm, int, int], list[Fought]] = {}
        for job, sample in measured:
            if isinstance(sample, Fought):
                fields.setdefault((job.kind, job.algorithm, job.n, job.m), []).append(sample)
            else:
                for setting, ended in sample.items():
                    attempts[setting] = attempts.get(setting, Counter()) + ended
        cells = {(algorithm, n, m): added(found) for (kind, algorithm, n, m), found in fields.items() if kind[0] == "s"}
        small = {(algorithm, n, m): added(found) for (kind, algorithm, n, m), found in fields.items() if kind[0] == "e"}
        return generals_report.findings(attempts, cells, small)


def _of_seed(place: int, seed: int) -> Iterator[Job]:
    """What could be done at all is the same for every seed: the first alone tries it."""
    yield Job("two", seed)
    for m in TRAITORS:
        for n in SIZES:
            yield Job("strategies", seed, "OM", n, m)
            yield Job("strategies", seed, "SM", n, m)
    if place == 0:
        yield from (Job("everything", seed, *which) for which in SMALL)


def attempted(seed: int) -> Attempts:
    plans: tuple[Plan, ...] = ("chain", "crowd")
    settings = [(plan, messengers, loss) for plan in plans for messengers in MESSENGERS for loss in LOSSES]
    return {one: two.attempts(*one, ATTEMPTS, random.Random(f"{seed}/{one}")) for one in settings}


def fought(job: Job) -> Fought:
    battles = _everything(job) if job.kind == "everything" else _strategies(job)
    outcomes = list(battles)
    broken = [(battle, outcome) for battle, outcome in outcomes if not outcome.verdict.holds]
    without = fight(Battle(job.algorithm, job.n, job.m, (), "silent", "attack", job.seed))
    return Fought(
        battles=len(outcomes),
        broken=len(broken),
        checked=sum(outcome.verdict.checked for _, outcome in outcomes),
        refused=sum(outcome.refused for _, outcome in outcomes),
        by=tuple(sorted({battle.strategy for battle, _ in broken})),
        loyal=without.sent,
        example=_told(*broken[0]) if broken else "",
    )


def _strategies(job: Job) -> Iterator[tuple[Battle, Outcome]]:
    """From one traitor to m of them: who stands m stands fewer."""
    chance = random.Random(f"{job.seed}/{job.n}/{job.m}")
    signs = job.algorithm == "SM" and job.seed % ED25519_EVERY == 1
    for number in range(min(1, job.m), min(job.m, job.n) + 1):
        for gang in gangs(job.n, number, chance, GANGS_MAX):
            for strategy in STRATEGIES[job.algorithm]:
                for order in ORDERS:
                    battle = Battle(job.algorithm, job.n, job.m, gang, strategy, order, job.seed, signs)
                    yield battle, fight(battle)


def _everything(job: Job) -> Iterator[tuple[Battle, Outcome]]:
    """Lieutenants are alike: m traitors with the commander, m without."""
    for gang in (tuple(range(job.m)), tuple(range(1, job.m + 1))):
        for order in ORDERS:
            battle = Battle(job.algorithm, job.n, job.m, gang, "anything", order, job.seed)
            for choices in everything():
                yield battle, fight(battle, choices)


def _told(battle: Battle, outcome: Outcome) -> str:
    rule = "IC1" if not outcome.verdict.ic1 else "IC2"
    loyal = [f"{node} {said}" for node, said in enumerate(outcome.decisions) if node and node not in battle.traitors]
    return f"{battle.told}: {rule} broken, lieutenants decide {', '.join(loyal)}"


def added(found: Sequence[Fought]) -> Fought:
    return Fought(
        battles=sum(one.battles for one in found),
        broken=sum(one.broken for one in found),
        checked=sum(one.checked for one in found),
        refused=sum(one.refused for one in found),
        by=tuple(sorted({name for one in found for name in one.by})),
        loyal=found[0].loyal,
        example=next((one.example for one in found if one.example), ""),
    )


EXPERIMENT: Final = Generals()
