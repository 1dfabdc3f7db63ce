"""How a live run ends when something of our own broke: what broke is the verdict (the runs themselves: test_live)."""

import asyncio
from dataclasses import replace

import pytest

from compare.judging import conclude
from compare.live import end_all
from compare.results import Verdict
from compare.runner import Job, observe
from compare.scenario import find


class Bug(Exception):
    pass


async def breaks() -> None:
    raise Bug("planted")


async def waits() -> None:
    await asyncio.Event().wait()


async def answers() -> int:
    return 1


async def ended(*of: str) -> None:
    makes = {"breaks": breaks, "waits": waits, "answers": answers}
    tasks = [asyncio.ensure_future(makes[name]()) for name in of]
    await asyncio.sleep(0)
    try:
        await end_all(tasks)
    finally:
        assert all(task.done() for task in tasks)


def test_cancelling_is_no_error() -> None:
    asyncio.run(ended("waits", "answers", "waits"))


def test_what_a_task_raised_by_itself_comes_out_when_all_have_ended() -> None:
    with pytest.raises(Bug, match="planted"):
        asyncio.run(ended("waits", "breaks", "answers"))


def test_a_replica_that_ended_unasked_leaves_no_verdict_even_where_unsafe_is_expected() -> None:
    observed = observe(Job(find("equivocating-leader"), "raft", "sim", 1))
    assert conclude(observed).verdict is Verdict.UNSAFE
    found = conclude(replace(observed, broken="node 1 ended by itself, with exit code 70: KeyError"))
    assert found.verdict is Verdict.ERROR
    assert found.error == "node 1 ended by itself, with exit code 70: KeyError"
    assert found.safety == "violated"  # what a judge has seen, it has seen


def test_that_nobody_objected_means_nothing_without_a_verdict() -> None:
    observed = observe(Job(find("no-fault"), "raft", "sim", 1))
    held = conclude(observed)
    assert (held.safety, held.liveness) == ("held", "held")
    broken = conclude(replace(observed, broken="node 1 ended by itself, with exit code 70: KeyError"))
    assert (broken.verdict, broken.safety, broken.liveness) == (Verdict.ERROR, None, None)
