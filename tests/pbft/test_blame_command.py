"""`replog evidence certificate` and `blame` on the files of a cluster that f + 1 to 2f colluders have forked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from replog import cli
from replog.archive import Archive, segments
from replog.certificates import load_signer
from replog.config import ClusterConfig, create_cluster
from replog.keys import Ed25519Verifier
from tests import plug
from tests.pbft import harness
from tests.pbft.forks import Fork, World
from tests.pbft.harness import CLIENTS


def files_of(fork: Fork, config: ClusterConfig) -> None:
    """Each correct replica's archive, as its process would have left it."""
    for world, side in zip(fork.worlds, fork.sides, strict=True):
        for node in side:
            about = {"protocol": "pbft", "cluster": config.cluster, "node": node}
            kept = Archive(config.node_folder(node) / "archive", about, 1_000_000)
            for record in world.archives[node]:
                kept.add(msgspec.msgpack.encode(record))
            kept.close()


def forked(folder: Path, monkeypatch: pytest.MonkeyPatch, n: int = 7, **how: Any) -> tuple[ClusterConfig, Fork]:
    """A cluster's folder with the keys of all, and what a fork leaves in it."""
    config = create_cluster(folder, "pbft", n=n, clients=CLIENTS)
    for module in (plug, harness):
        monkeypatch.setattr(module, "DOMAIN", config.domain)

    class Certified(World):
        def _make_keys(self, names: list[int | str], signatures: str) -> None:
            where = {name: config.folder / f"client-{name}" for name in CLIENTS}
            self.signers = {
                name: load_signer(config.node_folder(name) if isinstance(name, int) else where[name]) for name in names
            }
            self.verifier = Ed25519Verifier(config.public_keys())

    fork = Fork(n, kind=Certified, **how)
    files_of(fork, config)
    return config, fork


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def shown(config: ClusterConfig, node: int, seq: int, capsys: pytest.CaptureFixture[str]) -> Path:
    """What one side hands to the other."""
    file = config.folder.parent / f"from-{node}.json"
    code, _, _ = run(capsys, "evidence", "certificate", seq, "--node", node, "--out", file, "--cluster", config.folder)
    assert code == 0
    return file


@pytest.mark.parametrize(
    "how",
    [
        {"n": 4, "liars": (0, 1), "side": (2,), "before": 5},
        {"n": 4, "liars": (1, 3), "side": (0,), "views": (0, 2)},
        {"n": 7, "liars": (1, 2, 3), "side": (0, 4), "views": (0, 2), "before": 1, "after": 2},
        {"n": 7, "liars": (1, 2, 3, 6), "side": (0,), "views": (0, 1)},
    ],
    ids=lambda how: f"n={how['n']} liars={len(how['liars'])} views={how.get('views', 0)}",
)
def test_either_side_names_the_colluders(
    how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, fork = forked(tmp_path / "cluster", monkeypatch, **how)
    one, other = (side[0] for side in fork.sides)
    for mine, theirs in ((one, other), (other, one)):
        file = shown(config, theirs, fork.seq, capsys)
        code, out, _ = run(capsys, "evidence", "blame", config.node_folder(mine) / "archive", file, "--json")
        told = json.loads(out)
        named = {found["culprit"] for found in told["culprits"]}
        assert (code, told["proven"]) == (0, True)
        assert len(named) >= config.f + 1
        assert named <= set(fork.liars)


@pytest.fixture
def over_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ClusterConfig, Fork]:
    return forked(tmp_path / "cluster", monkeypatch, 4, liars=(1, 3), side=(0,), views=(0, 2))


def test_without_the_new_views_in_between_it_says_what_it_has(
    over_views: tuple[ClusterConfig, Fork], capsys: pytest.CaptureFixture[str]
) -> None:
    config, fork = over_views
    file = shown(config, 2, fork.seq, capsys)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"new_views": []}))
    code, out, _ = run(capsys, "evidence", "blame", config.node_folder(0) / "archive", file)
    assert code == 1
    assert out.splitlines() == [
        f"two sides at seq {fork.seq}, views (0, 2); the archive covers seqs 1 .. 2, no NEW-VIEW",
        "not proven: fewer than f + 1 culprits; the views in between are not in the archive",
    ]


def test_wrong_input_gets_one_clear_line(
    over_views: tuple[ClusterConfig, Fork], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, fork = over_views
    file, archive = shown(config, 2, fork.seq, capsys), config.node_folder(0) / "archive"
    foreign = create_cluster(tmp_path / "foreign", "pbft", n=4)
    told = json.loads(file.read_text())
    bad = {
        "cut": file.read_text()[:-40],
        "other-cluster": json.dumps(told | {"cluster": foreign.cluster}),
        "no-proof": json.dumps(told | {"proof": told["new_views"][0]}),
        "evidence": json.dumps(told | {"format": "replog-evidence/1"}),
        "raft": json.dumps(told | {"protocol": "raft"}),
        "unsigned": json.dumps(told | {"certificates": []}),
    }
    (tmp_path / "empty").mkdir()
    cases: list[tuple[int, Path, Path, str, list[Any]]] = [
        (2, tmp_path / "none", file, "no such file", []),
        (2, archive, tmp_path / "none.json", "no such file", []),
        (2, archive, tmp_path / "empty", "no such file", []),
        (1, tmp_path / "empty", file, "holds no archive", []),
        (1, file, file, "no archive", []),
        (1, archive, segments(archive)[0], "not a commit certificate", []),
        (1, archive, file, "not of", ["--cluster", foreign.folder]),
        (1, archive, file, "another authority", ["--ca", foreign.folder / "ca.pem"]),
        (2, archive, file, "no such file", ["--ca", tmp_path / "none.pem"]),
    ]
    for name, text in bad.items():
        (tmp_path / f"{name}.json").write_text(text)
        cases.append((1, archive, tmp_path / f"{name}.json", "", []))
    for code, transcript, certificate, rule, pin in cases:
        ended, out, err = run(capsys, "evidence", "blame", transcript, certificate, *pin)
        assert (ended, (out + err).count("\n")) == (code, 1), (certificate, out, err)
        assert rule in out + err, (rule, out, err)


def test_an_archive_that_is_cut_short_is_used_as_far_as_it_goes_and_named(
    over_views: tuple[ClusterConfig, Fork], capsys: pytest.CaptureFixture[str]
) -> None:
    config, fork = over_views
    file, archive = shown(config, 0, fork.seq, capsys), config.node_folder(2) / "archive"
    (segment,) = segments(archive)
    data = segment.read_bytes()
    segment.write_bytes(data[:-3])
    code, out, _ = run(capsys, "evidence", "blame", archive, file)
    assert code == 0
    assert f"the archive is cut short: {segment}" in out.splitlines()
    segment.write_bytes(data[: data.index(b"\n") + 10])
    code, out, _ = run(capsys, "evidence", "blame", archive, file)
    assert (code, out.count("\n")) == (1, 1)
    assert out == f"not proven: the archive has no commit certificate for seq {fork.seq}; it covers no seq\n"
    segment.write_bytes(data[:10])
    code, out, err = run(capsys, "evidence", "blame", archive, file)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "its first line is none" in err


def test_under_macs_it_says_that_none_can_be_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = create_cluster(tmp_path / "macs", "pbft", f=1, options={"auth": "macs"})
    asked = ["evidence", "certificate", 1, "--node", 0, "--cluster", config.folder]
    blamed = ["evidence", "blame", config.node_folder(0) / "archive", tmp_path / "any.json"]
    for arguments in (asked, blamed):
        code, out, _ = run(capsys, *arguments)
        assert code == 1
        assert out.endswith("nothing is signed, so nobody can be proved to have lied\n")
        assert out.count("\n") == 1
