"""Statements of any replica of a test's cluster, true or not: a test holds every key."""

from __future__ import annotations

from typing import Any

from pbft import messages as m
from replog.types import Request
from tests.pbft.harness import EPOCH_US, Cluster, replace


def sign(cluster: Cluster, node: int, kind: str, fields: Any) -> bytes:
    return bytes(cluster.signers[node].sign(cluster.domain.statement(kind, fields)))


def pre_prepare(
    cluster: Cluster, view: int, seq: int, requests: list[Request], time: int | None = None
) -> m.PrePrepare:
    batch = m.Batch(EPOCH_US + cluster.now if time is None else time, requests)
    signature = sign(cluster, view % cluster.n, "pre-prepare", (view, seq, batch.digest))
    return m.PrePrepare(view, seq, batch.digest, signature, batch.time, batch.raws)


def prepare(cluster: Cluster, node: int, view: int, seq: int, digest: bytes) -> m.Prepare:
    return m.Prepare(view, seq, digest, node, sign(cluster, node, "prepare", (view, seq, digest, node)))


def commit(cluster: Cluster, node: int, view: int, seq: int, digest: bytes) -> m.Commit:
    return m.Commit(view, seq, digest, node, sign(cluster, node, "commit", (view, seq, digest, node)))


def prepared(cluster: Cluster, view: int, seq: int, digest: bytes, voters: list[int]) -> m.PreparedProof:
    """Of the primary's pre-prepare and PREPARE votes of `voters`, whoever they are."""
    votes = [m.Vote(node, prepare(cluster, node, view, seq, digest).signature) for node in voters]
    return m.PreparedProof(
        view, seq, digest, sign(cluster, view % cluster.n, "pre-prepare", (view, seq, digest)), votes
    )


def committed(cluster: Cluster, view: int, seq: int, digest: bytes, voters: list[int]) -> m.CommitProof:
    return m.CommitProof(
        view, seq, digest, [m.Vote(node, commit(cluster, node, view, seq, digest).signature) for node in voters]
    )


def checkpoint(cluster: Cluster, node: int, seq: int, digest: bytes) -> m.Checkpoint:
    return m.Checkpoint(seq, digest, node, sign(cluster, node, "checkpoint", (seq, digest, node)))


def checkpoint_proof(cluster: Cluster, seq: int, digest: bytes, voters: list[int]) -> m.CheckpointProof:
    votes = [m.Vote(node, checkpoint(cluster, node, seq, digest).signature) for node in voters]
    return m.CheckpointProof(seq, digest, votes)


def view_change(
    cluster: Cluster,
    node: int,
    view: int,
    proofs: list[m.PreparedProof] | None = None,
    checkpoint: m.CheckpointProof = m.GENESIS,
) -> m.ViewChange:
    unsigned = m.ViewChange(view, checkpoint, proofs or [], node, b"")
    fields = (view, node, m.prepared_digest(unsigned))
    return replace(unsigned, signature=sign(cluster, node, "view-change", fields))


def new_view(cluster: Cluster, view: int, parts: list[m.ViewChange], places: list[tuple[int, bytes]]) -> m.NewView:
    primary = view % cluster.n
    proposals = [
        m.Proposal(seq, digest, sign(cluster, primary, "pre-prepare", (view, seq, digest))) for seq, digest in places
    ]
    unsigned = m.NewView(view, parts, proposals, b"")
    return replace(unsigned, signature=sign(cluster, primary, "new-view", (view, m.new_view_digest(unsigned))))
