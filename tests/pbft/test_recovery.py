"""Proactive recovery: what an intruder left in a replica is found and gone, and never too many are refreshed at once.
[CL02 proactive recovery]"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pbft import PbftCore
from pbft import messages as m
from pbft.macs import MacCore
from pbft.recovery import Leave, Phase, Recovery, highest_possible
from replog import merkle
from replog.apps.kv import KeyValue
from replog.core import Audited, Command
from replog.executor import Executor
from replog.types import Request
from tests.pbft import forge
from tests.pbft.chance import Chance
from tests.pbft.harness import DOMAIN, SECOND, SMALL, Cluster

BOTH = pytest.mark.parametrize("auth", ["signatures", "macs"])


class Store(Cluster):
    """On a key-value store: `ann#t` puts key `k<t>`."""

    machine = KeyValue

    def request(self, client: str, timestamp: int, amount: int = 1, low: int = 0, count: int = 1) -> Request:
        operations = [KeyValue.operation("put", f"k{timestamp}", f"{client} {timestamp}")]
        request = Request.make(self.signers[client].sign, DOMAIN, client, timestamp, low, operations)
        self.requests[request.digest] = request
        return request

    def data(self, node: int) -> dict[str, str]:
        machine: Any = self.servers[node].replica.executor._runtime.machine
        return machine.data._data  # type: ignore[no-any-return]


def store(count: int = 6, **options: Any) -> Store:
    """After `count` requests, all settled."""
    cluster = Store(options=SMALL | options)
    load(cluster, range(1, count + 1))
    return cluster


def load(cluster: Cluster, timestamps: Iterable[int], to: Iterable[int] | None = None) -> None:
    for timestamp in timestamps:
        low = max(0, timestamp - 60)
        cluster.submit("ann", timestamp, range(cluster.n) if to is None else to, low=low)
        assert cluster.run(20 * SECOND, lambda t=timestamp: cluster.done("ann", t)), cluster.executed()  # type: ignore[misc]


def refresh(cluster: Cluster, node: int, seconds: int = 10) -> dict[str, Any]:
    """To its end; what the replica says of it then."""
    before = len(told(cluster, node))
    cluster.step(node, Command("refresh", {}))
    cluster.run(seconds * SECOND, lambda: len(told(cluster, node)) > before)
    assert len(told(cluster, node)) > before, [note for at, note in cluster.notes if at == node][-6:]
    cluster.settle()
    return told(cluster, node)[-1]


def told(cluster: Cluster, node: int, kind: str = "refreshed") -> list[dict[str, Any]]:
    return [note.detail for at, note in cluster.notes if at == node and note.kind == kind]


# ---------------------------------------------------------------------------------------------------- the state itself


def corrupt(cluster: Store, node: int) -> None:
    """Behind the core's back: an entry is changed, one is gone, one is new; the digests stay what they were."""
    data = cluster.data(node)
    data["k1"] = "stolen"
    del data["k2"]
    data["intruder"] = "was here"


def corrupt_tree(cluster: Store, node: int) -> None:
    """Also the records in the tree, under the old digests."""
    corrupt(cluster, node)
    executor = cluster.servers[node].replica.executor
    for root in {id(root): root for root in (executor._root, *executor._held.values())}.values():
        records = merkle.records_of(root)
        for leaf in leaves(root):
            leaf.raw = leaf.raw.replace(b"ann 1", b"stole")
        assert merkle.records_of(root) != records or root.count == 0


def leaves(node: merkle.Node) -> list[merkle.Leaf]:
    if isinstance(node, merkle.Leaf):
        return [node]
    assert isinstance(node, merkle.Inner)
    return [leaf for child in node.children for leaf in leaves(child)]


class TrustingExecutor(Executor):
    def audit(self) -> int:
        """Broken: the digests at hand are believed."""
        return merkle.count_parts(self._flush())


def finds_and_repairs(auth: str, harm: Any, executor: type[Executor] = Executor) -> bool:
    cluster = store(auth=auth)
    cluster.servers[2].replica.executor.__class__ = executor
    harm(cluster, 2)
    said = refresh(cluster, 2)
    right = cluster.data(1)
    return said["repaired"] > 0 and cluster.data(2) == right and len(cluster.digests()) == 1


@BOTH
@pytest.mark.parametrize("harm", [corrupt, corrupt_tree])
def test_a_changed_state_is_found_and_repaired(auth: str, harm: Any) -> None:
    assert finds_and_repairs(auth, harm)
    assert not finds_and_repairs(auth, harm, TrustingExecutor), "digests at hand tell nothing"


@BOTH
def test_a_sound_replica_stays_as_it_is(auth: str) -> None:
    cluster = store(auth=auth)
    said = refresh(cluster, 1)
    assert said["repaired"] == said["dropped"] == 0
    assert said["parts"] > 0
    load(cluster, range(20, 24))
    assert len(cluster.digests()) == 1
    cluster.check_agreement()


@BOTH
@pytest.mark.parametrize("count", [0, 1, 3, 4, 8])
def test_an_idle_cluster_ends_a_refresh(auth: str, count: int) -> None:
    """Null requests lead to the next checkpoint, and no further."""
    cluster = store(count, auth=auth)
    said = refresh(cluster, 3)
    assert said["index"] == max(4, -(-count // 4) * 4)
    cluster.run(5 * SECOND)
    assert set(cluster.executed()) == {said["index"]}
