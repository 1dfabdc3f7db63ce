"""What clients ask for: distributions of keys, open loops, and a bank that adds up."""

from __future__ import annotations

import random
from collections import Counter

from compare import workloads
from compare.history import Call, Refusal
from compare.judging import conclude
from compare.models import MODELS
from compare.results import Verdict
from compare.scenario import Workload, parse
from compare.sim import Trial
from replog import protocols
from replog.apps.bank import Bank
from tests.replog.helpers import Caller

OPEN = """
name = "x"
summary = "x"
duration_s = 1.5
[workload]
loop = "open"
rate_per_s = 300
clients = 3
keys = 50
{more}
"""


def drawn(**fields: object) -> Counter[int]:
    keys = workloads.Keys(Workload.model_validate({"keys": 10, **fields}), random.Random(1))
    return Counter(keys.draw() for _ in range(10_000))


def test_keys_are_drawn_as_said() -> None:
    assert all(850 < number < 1_150 for number in drawn().values())
    assert 5_300 < drawn(distribution="hot")[0] < 5_700
    zipf = drawn(distribution="zipf", skew=1.0)
    assert 1.8 < zipf[0] / zipf[1] < 2.2
    assert 7 < zipf[0] / zipf[9] < 13


def test_an_open_loop_asks_at_its_rate_whether_answered_or_not() -> None:
    fast = Trial(parse(OPEN.format(more=""), "x.toml"), protocols.find("raft"), 1).run()
    assert 380 < len(fast.calls) < 520
    crash = '[[timeline]]\nfault = "crash"\ntarget = "all"\nstart_s = 0.3\nend_s = 1.2\n'
    slow = Trial(parse(OPEN.format(more=crash), "x.toml"), protocols.find("raft"), 1).run()
    assert len(slow.calls) == len(fast.calls)
    assert conclude(slow).verdict is Verdict.OK


def test_the_model_of_the_bank_answers_as_the_bank_does() -> None:
    workload = Workload(kind="bank", keys=3, money=50)
    load = workloads.load(workload, "c0/0", random.Random(7))
    plans = [*workloads.preparation(workload), *(load.following() for _ in range(300)), ("transfer", ("a0", "zz", 1))]
    model, state, bank = MODELS["bank"], MODELS["bank"].whole, Caller(Bank())
    refused = 0
    for method, args in plans:
        state, expected = model.apply(state, Call("c0", "c0/0", method, args, invoke=1))
        refused += isinstance(expected, Refusal)
        assert bank(method, *args) == (expected.type if isinstance(expected, Refusal) else expected)
    assert sum(balance for _, balance in state) == 150
    assert refused > 20
