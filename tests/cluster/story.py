"""Words for stories about clusters: load, what must hold at the end, and how much of it was looked at.

A story never counts as told when nothing was committed: each check gives or demands a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import msgspec

from replog.apps.kv import KeyValue
from replog.client import Done, Failed
from replog.sim import SimCluster
from replog.statemachine import decode_outcome
from replog.trace import Recorder
from replog.types import Micros, NodeId

READS = 32


def put(key: str, value: str) -> bytes:
    return KeyValue.operation("put", key, value)


def get(key: str) -> bytes:
    return KeyValue.operation("get", key)


class Load:
    """Closed-loop writers with keys of their own, so that what was acknowledged can be looked for afterwards."""

    def __init__(self, cluster: SimCluster, outstanding: int = 4, pause_us: Micros = 0) -> None:
        self.cluster = cluster
        self.acknowledged: dict[str, str] = {}
        self.failed: list[Failed] = []
        self._stopped = False
        for name, client in cluster.clients.items():
            client.load(self._requests(name), outstanding, self._ended, pause_us)

    def _requests(self, name: str) -> Iterator[list[bytes]]:
        for number in count():
            if self._stopped:
                return
            yield [put(f"{name}/{number}", f"{number}")]

    def _ended(self, invoked: int, operations: Any, end: Done | Failed) -> None:
        if isinstance(end, Failed):
            self.failed.append(end)
            return
        _, key, value = msgspec.msgpack.decode(operations[0])
        self.acknowledged[key] = value

    def stop(self, limit_us: int = 30_000_000) -> None:
        """Submit nothing more and wait for what is outstanding."""
        self._stopped = True
        clients = self.cluster.clients.values()
        self.cluster.run_until(lambda: all(client.outstanding == 0 for client in clients), limit_us)

    def more(self, number: int, limit_us: int = 10_000_000) -> None:
        """Run until `number` more writes are acknowledged."""
        goal = len(self.acknowledged) + number
        self.cluster.run_until(lambda: len(self.acknowledged) >= goal, limit_us)

    def check_kept(self) -> int:
        """Every acknowledged write can be read; how many were looked at. AssertionError names the first lost."""
        written = list(self.acknowledged.items())
        for start in range(0, len(written), READS):
            self._check(written[start : start + READS])
        return len(self.acknowledged)

    def _check(self, written: list[tuple[str, str]]) -> None:
        client = next(iter(self.cluster.clients.values()))
        answers: list[Done | Failed] = []
        client.submit([get(key) for key, _ in written], answers.append)
        self.cluster.run_until(lambda: bool(answers))
        end = answers[0]
        assert isinstance(end, Done), f"read of {written[0][0]} and others: {end}"
        for (key, value), outcome in zip(written, end.outcomes, strict=True):
            found = decode_outcome(outcome)
            assert found == value, f"acknowledged write lost: {key} is {found!r}, {value!r} was acknowledged"


def settle(cluster: SimCluster, limit_us: int = 20_000_000) -> int:
    """Run until every replica stands at one index, all up; that index."""

    def level() -> bool:
        known = [cluster.status(node) for node in range(cluster.n)]
        return None not in known and len({status.index for status in known if status is not None}) == 1

    cluster.run_until(level, limit_us)
    status = cluster.status(0)
    assert status is not None
    return status.index


def check_agreement(recorder: Recorder, nodes: Iterable[NodeId]) -> int:
    """No two of these replicas applied different requests at one index, nor reached different states at one checkpoint.

    Gives the number of indices that at least two of them applied. Raises AssertionError naming index and replicas.
    """
    correct = set(nodes)
    applied: dict[int, tuple[NodeId, Any]] = {}
    digests: dict[int, tuple[NodeId, str]] = {}
    compared: set[int] = set()
    for line in recorder.lines:
        effect = line.get("effect")
        if effect is None or line["node"] not in correct:
            continue
        if effect["kind"] == "Apply":
            _compare(applied, effect["index"], line["node"], effect["requests"], "applied", compared)
        elif effect["kind"] == "Note" and effect["note"] == "checkpoint":
            detail = effect["detail"]
            _compare(digests, detail["index"], line["node"], detail["digest"], "reached", set())
    return len(compared)


def _compare(
    seen: dict[int, tuple[NodeId, Any]], index: int, node: NodeId, what: Any, word: str, both: set[int]
) -> None:
    first, other = seen.setdefault(index, (node, what))
    assert other == what, f"index {index}: replica {first} {word} {other}, replica {node} {word} {what}"
    if first != node:
        both.add(index)


def applied_by(recorder: Recorder, node: NodeId) -> list[int]:
    """The indices that this replica applied, in its order."""
    lines = [line for line in recorder.lines if line["node"] == node and "effect" in line]
    return [line["effect"]["index"] for line in lines if line["effect"]["kind"] == "Apply"]
