"""The accusations of a run as evidence files, which `replog evidence verify` checks like those of any cluster.

A live run has keys and an authority of its own. A simulated run that is to leave evidence signs with Ed25519 in place
of keyed hashes, which would convince nobody, and its keys are certified by an authority that is made for it and
forgotten. Each file proves what was signed in that run. Not here: what a file holds (`replog.evidence`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from compare.decisions import Charge, collect
from compare.judging import Observed, accusation_of
from replog.certificates import Authority
from replog.evidence import EvidenceFolder, Origin
from replog.types import Principal


def certified(protocol: str, cluster: str, keys: Mapping[Principal, bytes], n: int, f: int) -> Origin:
    """These keys under a new authority, whose own key is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority.make(Path(folder), cluster)
        pems = {who: authority.certify(who, key.hex(), n, f) for who, key in keys.items()}
        return Origin(protocol, cluster, (Path(folder) / "ca.pem").read_text(), pems)


def keep(observed: Observed, folder: Path) -> list[Path]:
    """What correct replicas accuse others of: `folder`/node-K/FILE.json, and beside it the authority's certificate. The
    files. There are none of a run in which nobody is accused, or in which nothing was signed for real."""
    origin = observed.origin
    correct = [node for node in range(observed.n) if node not in observed.liars]
    accusers = [own for own in collect(observed.lines, correct).values() if own.charges]
    if origin is None or not accusers:
        return []
    folder.mkdir()
    (folder / "ca.pem").write_text(origin.authority)
    files = []
    for own in accusers:
        kept = EvidenceFolder(folder / f"node-{own.node}", origin, own.node)
        files += [path for path in _add(kept, observed, own.charges) if path is not None]
    return files


def _add(kept: EvidenceFolder, observed: Observed, charges: Iterable[Charge]) -> Iterable[Path | None]:
    for charge in charges:
        yield kept.add(accusation_of(observed.protocol, charge), charge.time, 0)
