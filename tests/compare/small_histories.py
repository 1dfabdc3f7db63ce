"""Small random histories of one key, and the plainest judge of them: every order there is."""

from __future__ import annotations

import random
from collections.abc import Sequence

from compare.history import Call
from compare.models import Model

METHODS = (
    ("put", "get"),
    ("put", "get", "cas"),
    ("put", "get", "cas", "delete"),
    ("put", "get", "append", "delete", "cas"),
)
FOR_REGISTERS = {"put": "write", "get": "read", "cas": "cas"}


def brute_force(calls: Sequence[Call], model: Model) -> bool:
    """Whether some order of all calls with an outcome, and any of the others, explains every outcome."""
    tried: set[tuple[frozenset[int], object]] = set()

    def goes_on(placed: frozenset[int], state: object) -> bool:
        left = [number for number in range(len(calls)) if number not in placed]
        if not any(calls[number].known for number in left):
            return True
        if (placed, state) in tried:
            return False
        tried.add((placed, state))
        first_end = min(calls[number].returned or 0 for number in left if calls[number].known)
        for number in left:
            if calls[number].invoke <= first_end:
                after, outcome = model.apply(state, calls[number])
                fits = not calls[number].known or model.same(calls[number].outcome, outcome)
                if fits and goes_on(placed | {number}, after):
                    return True
        return False

    return goes_on(frozenset(), model.whole)


def small(seed: int, register: bool = False) -> list[Call]:
    """One to eight calls, a third of unknown outcome; about half of these histories have no order."""
    chance = random.Random(seed)
    methods = METHODS[seed % (2 if register else 4)]
    values = "123"[: chance.randint(1, 3)]
    return [_one(chance, number, chance.choice(methods), values, register) for number in range(chance.randint(1, 8))]


def _one(chance: random.Random, number: int, method: str, values: str, register: bool) -> Call:
    args: dict[str, tuple[object, ...]] = {
        "put": (chance.choice(values),),
        "cas": (chance.choice([None, *values]), chance.choice(values)),
        "append": (chance.choice("12"),),
    }
    outcomes: dict[str, object] = {
        "get": chance.choice([None, *values]),
        "delete": chance.random() < 0.5,
        "cas": chance.random() < 0.6,
        "append": chance.choice(["1", "2", "11", "12", "21", "22"]),
    }
    invoke = chance.randint(0, 12)
    returned = None if chance.random() < 0.35 else invoke + chance.randint(1, 8)
    outcome = None if returned is None else outcomes.get(method)
    name = FOR_REGISTERS[method] if register else method
    return Call(
        f"c{number}", f"c{number}", name, ("x", *args.get(method, ())), invoke, returned=returned, outcome=outcome
    )
